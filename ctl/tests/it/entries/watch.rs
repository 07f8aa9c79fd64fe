//! What the watchdog says of a channel, of its memory, and of itself.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ringward_recovery::{Durability, From};
use rustix::process::geteuid;
use serde_json::Value;

use super::common::{LIMIT, Small, has, leak, program, shell, skip, text};
use super::{Entry, entry, live, shows, stop, writer};
use crate::bed::{Bed, Ended, Tool, lines};

/// Starts a `ringward` whose lines on stdout can be waited for, too: it has stderr for both.
fn start_loud(bed: &Bed, command: &Command) -> Tool {
    bed.spawn(loud(command))
}

fn loud(command: &Command) -> Command {
    let mut loud = Command::new("sh");
    loud.args(["-c", "exec \"$@\" >&2", "sh"]).arg(command.get_program()).args(command.get_args());
    loud.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    loud.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    loud
}

/// A watchdog that looks often.
fn watchdog(bed: &Bed, args: &[&str]) -> Tool {
    start_loud(bed, &bed.command(&[&["watch", "--json", "--interval", "5ms"], args].concat()))
}

/// Who has the lock, by the entry's way to find out.
fn holders(entry: &Entry, bed: &Bed) -> Vec<String> {
    let command = "grep -l \"WRITE.*:$(stat -c %i /dev/shm/ringward-$(id -u)/CHANNEL/*.ring | tail -1) 0 0$\" \
                   /proc/[0-9]*/fdinfo/* 2>/dev/null";
    let found = text(shell(entry, bed, command, &[]));
    found.lines().map(|line| line.split('/').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn a_lock_that_leaked_is_traced_to_its_holder_and_a_standby_goes_on_without_it() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-LEAKED"));
    let mut owner = writer(&bed, &[]);
    owner.feed(&lines(0..2));
    bed.until_next(2);
    let gone = owner.pid();
    let Some(holder) = leak(&bed, owner) else { return };
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["leaked", "RW-WD-LEAKED", &format!("process {gone} was the writer"), "a leaked descriptor"]);
    // Another test's child has our descriptors for as long as it takes to exec.
    bed.until("only one has the lock", || holders(&entry, &bed) == [holder.pid().to_string()]);
    if has("ps") {
        let who = shell(&entry, &bed, "ps -o pid,ppid,stat,lstart,cmd -p PID", &[("PID", &holder.pid().to_string())]);
        shows(&text(who), &["sleep 3600"]);
    }
    bed.run(&["kill-owner", "c", "--stall-timeout", "1ms", "--yes"], b"").code(1).says("RW-CTL-KILL");
    assert!(holder.running());
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-OWNED").says("a leaked descriptor");
    let standby = entry.start(&bed, "ringward send CHANNEL --standby", &[]);
    assert_eq!(standby.note("writing")["next"], 2);
    assert!(holder.running());
    // The first generation has nothing left for anybody: it goes sooner or later.
    assert_eq!(bed.view()["generation"], 2);
    shows(&entry.run(&bed, "ringward ls"), &[&format!("  {}  ", standby.pid())]);
    live(&bed, &entry.run(&bed, "ringward ls"), &standby);
}

#[test]
fn a_lock_that_leaked_is_passed_by_at_once_or_ends_with_its_holder() {
    let entry = entry("RW-WD-LEAKED");
    for supersede in [true, false] {
        let bed = Bed::new();
        let owner = writer(&bed, &[]);
        let Some(holder) = leak(&bed, owner) else { return };
        shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["RW-WD-LEAKED"]);
        if supersede {
            entry.run(&bed, "ringward supersede CHANNEL --yes");
        } else {
            holder.kill();
        }
        let next = writer(&bed, &[]);
        live(&bed, &entry.run(&bed, "ringward ls"), &next);
    }
}

/// A thread that can't come to its end while this lives: a tracer has it stopped on its way out. Stands in for one that waits in the
/// kernel, for a disk or a network file system.
struct Held {
    let_go: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Held {
    /// `None` where tracing is not permitted.
    fn new(thread: i32) -> Option<Held> {
        let (let_go, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let tracer = std::thread::spawn(move || {
            let seized = ptrace::seize(Pid::from_raw(thread), ptrace::Options::PTRACE_O_TRACEEXIT);
            let _ = tell.send(seized.is_ok());
            // With its tracer's end it goes on.
            let _ = wait.recv();
        });
        let held = Held { let_go: Some(let_go), tracer: Some(tracer) };
        told.recv().unwrap().then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.let_go.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

fn threads(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.map(|task| task.file_name().into_string().unwrap().parse().unwrap()).collect()
}

/// The other way to be dying, a core dump, is too quick to be looked at by commands; recovery/tests/it/attacks_process.rs has it.
#[test]
fn a_writer_that_does_not_come_to_its_end_is_dying_and_gone_by() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-DYING"));
    let mut owner = writer(&bed, &[]);
    owner.feed(&lines(0..2));
    bed.until_next(2);
    let pid = owner.pid();
    let other = threads(pid).into_iter().find(|thread| *thread != pid.cast_signed()).unwrap();
    let Some(held) = Held::new(other) else { return skip("tracing is not permitted here") };
    owner.signal(Signal::SIGKILL);
    let pids = pid.to_string();
    let state = || text(shell(&entry, &bed, "grep -E \"State|CoreDumping\" /proc/PID/status", &[("PID", &pids)]));
    bed.until("its first thread has ended", || state().contains("Z (zombie)"));
    bed.until("only the one that is held is left", || threads(pid) == [pid.cast_signed(), other]);
    let tasks = text(shell(&entry, &bed, "ls /proc/PID/task", &[("PID", &pids)]));
    assert_eq!(tasks.lines().count(), 2, "{tasks}");
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["verdict: dying [RW-WD-DYING]", &format!("process {pid}")]);
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-OWNED").says("alive");
    let standby = bed.start(&["send", "c", "--standby", "--when-stuck", "kill", "--events", "json"]);
    standby.note("waiting");
    let mut other = bed.start(&["send", "c", "--standby", "--events", "json"]);
    assert_eq!(other.note("stuck")["id"], "RW-EV-STALLED");
    standby.signal(Signal::SIGTERM);
    standby.wait().code(143);
    entry.run(&bed, "ringward supersede CHANNEL --yes");
    assert_eq!(other.note("writing")["next"], 2);
    other.feed(b"on\n");
    bed.until_next(3);
    live(&bed, &entry.run(&bed, "ringward ls"), &other);
    assert!(bed.view()["generation"].as_u64() >= Some(2));
    drop(held);
    assert!(owner.wait().status.code().is_none());
}

#[test]
fn memory_that_gets_short_is_told_and_cleaning_makes_room() {
    let (outer, entry) = (Bed::new(), entry("RW-WD-SPACE"));
    let Some(small) = Small::new(&outer, "6m") else { return };
    let bed = Bed::within(&small.path, LIMIT);
    let space = || {
        let all = text(entry.ended(&bed, "ringward doctor", &[], b""));
        all.lines().find(|line| line.contains(" space ")).unwrap().to_owned()
    };
    bed.run(&["send", "c", "--no-close", "--capacity", "1MiB"], b"x\n").code(0);
    bed.absent("away", From::Oldest);
    let watchdog = watchdog(&bed, &[]);
    watchdog.note("notice");
    shows(&space(), &["well "]);
    bed.run(&["send", "old", "--capacity", "4MiB"], b"x\n").code(0);
    let told = watchdog.note_of("short", |note| note["event"] == "space" && note["short"] == true);
    assert_eq!((&told["id"], &told["limit_percent"]), (&"RW-WD-SPACE".into(), &80.into()));
    shows(&space(), &["doubtful "]);
    shows(&entry.run(&bed, "ringward ls"), &["old ", "4 MiB", "c ", "[away]"]);
    // What it asks for a whole segment more is not to be had.
    bed.run(&["send", "more", "--capacity", "1MiB"], b"x\n").code(1).says("RW-BUILD-SPACE");
    shows(&entry.run(&bed, "ringward clean"), &["TAKE   old: ", "leave  c: "]);
    bed.run(&["clean", "--yes"], b"").code(0);
    watchdog.note_of("enough", |note| note["event"] == "space" && note["short"] == false);
    shows(&space(), &["well "]);
    bed.run(&["send", "more", "--capacity", "1MiB"], b"x\n").code(0);
}

#[test]
fn a_live_writer_shows_by_its_numbers_and_a_stopped_one_does_not_in_one_look() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-LIVE"));
    let mut send = writer(&bed, &[]);
    let mut slow = bed.channel().reader("slow", Durability::Durable, From::Oldest).unwrap();
    send.feed(&lines(0..12));
    bed.until_next(12);
    shows(&entry.run(&bed, "ringward ls"), &["live", "  12  ", "slow+12 ("]);
    send.feed(&lines(12..20));
    bed.until_next(20);
    shows(&entry.run(&bed, "ringward ls"), &["live", "  20  ", "slow+20 ("]);
    let mut buf = [0; 128];
    while slow.next_sequence() < 20 {
        slow.recv(&mut buf, LIMIT).unwrap();
    }
    slow.release();
    let kept: Value = serde_json::from_str(&entry.run(&bed, "ringward ls --json")).unwrap();
    assert_eq!(kept["channels"][0]["next_sequence"], 20);
    let caught_up = entry.run(&bed, "ringward ls");
    shows(&caught_up, &["  20  ", "slow"]);
    assert!(!caught_up.contains("slow+"), "{caught_up}");
    stop(&bed, &send);
    live(&bed, &entry.run(&bed, "ringward ls"), &send);
    shows(&text(bed.run(&["ls", "--sample", "2500ms"], b"")), &["stalled"]);
}

#[test]
fn what_is_not_the_only_generation_is_refused_until_a_writer_follows() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-REFUSED"));
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    bed.absent("away", From::Oldest);
    bed.run(&["send", "c", "--no-close"], b"y\n").code(0);
    std::fs::OpenOptions::new().write(true).open(bed.segment(2)).unwrap().set_len(100).unwrap();
    let reclaim = ["watch", "--once", "--mode", "reclaim", "--grace", "0s"];
    for _ in 0..2 {
        let notice = text(bed.run(&reclaim, b"").code(0));
        shows(&notice, &["c: truncated", "not taken away: it is not the only generation", "[RW-WD-REFUSED]"]);
    }
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["2 generations", "away (durable)"]);
    assert!(bed.segment(1).exists() && bed.segment(2).exists());
    let next = writer(&bed, &[]);
    shows(&entry.run(&bed, "ringward watch --once"), &["c: live"]);
    next.end().code(0);
    shows(&entry.run(&bed, "ringward watch --once"), &["c: draining"]);
}

#[test]
fn what_was_reclaimed_is_told_with_its_reason_and_foreign_files_stay() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-RECLAIMED"));
    let owner = writer(&bed, &[]);
    let pid = owner.pid();
    let watchdog = watchdog(&bed, &["--mode", "reclaim", "--grace", "50ms"]);
    watchdog.note("notice");
    std::fs::write(bed.root().join("test/c/notes.txt"), b"somebody's").unwrap();
    owner.end().code(0);
    let notice = watchdog.note_of("reclaimed", |note| note["done"] == "reclaimed");
    assert_eq!((&notice["id"], &notice["channel"]), (&"RW-WD-RECLAIMED".into(), &"c".into()));
    let evidence = &notice["evidence"];
    assert_eq!((&evidence["generation"], &evidence["owner_pid"]), (&1.into(), &pid.into()));
    assert!(evidence["orphaned_ms"].as_u64() >= Some(50), "{notice}");
    watchdog.note_of("foreign", |note| note["verdict"] == "foreign");
    assert!(bed.root().join("test/c/notes.txt").exists() && !bed.segment(1).exists());
    std::fs::remove_dir_all(bed.root().join("test/c")).unwrap();
    // A channel that is to wait for its reader needs a durable one.
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    bed.absent("later", From::Oldest);
    bed.run(&["watch", "--once", "--mode", "reclaim", "--grace", "0s"], b"").code(0);
    shows(&entry.run(&bed, "ringward ls"), &["draining"]);
    bed.run(&["forget", "c", "later", "--yes"], b"").code(0);
    bed.until("it is gone", || !entry.run(&bed, "ringward ls").contains("\nc "));
}

#[test]
fn what_was_quarantined_is_looked_at_where_it_is_and_deleted() {
    let (outer, entry) = (Bed::new(), entry("RW-WD-QUARANTINED"));
    let Some(small) = Small::new(&outer, "16m") else { return };
    let bed = Bed::within(&small.path, LIMIT);
    assert!(entry.text.contains("`df -h /dev/shm`"));
    let used = || {
        let df = small.within(&outer, &["df", "-h"]);
        df.lines()
            .last()
            .unwrap()
            .split_ascii_whitespace()
            .nth(4)
            .unwrap()
            .trim_end_matches('%')
            .parse::<u32>()
            .unwrap()
    };
    let quarantine = || {
        bed.run(&["send", "c", "--capacity", "8MiB"], b"evidence\n").code(0);
        let notice = bed.run(&["watch", "--once", "--mode", "quarantine", "--grace", "0s", "--json"], b"").code(0);
        let notice: Value = serde_json::from_slice(&notice.stdout).unwrap();
        assert_eq!((&notice["id"], &notice["done"]), (&"RW-WD-QUARANTINED".into(), &"quarantined".into()));
        bed.root().join("test").join(notice["detail"].as_str().unwrap())
    };
    let file = quarantine();
    let name = file.file_name().unwrap().to_str().unwrap();
    let all = text(shell(&entry, &bed, "ls -la /dev/shm/ringward-$(id -u)", &[]));
    shows(&all, &[" .quarantine-c-1-", name]);
    assert!(used() >= 50, "the memory is still taken");
    let path = [("FILE", file.to_str().unwrap())];
    assert!(matches!(entry.ended(&bed, "ringward check FILE", &path, b"").status.code(), Some(0 | 6)));
    shows(&entry.run_with(&bed, "ringward dump FILE", &path), &["evidence"]);
    // Its name is free.
    bed.run(&["send", "c", "--capacity", "4KiB"], b"anew\n").code(0);
    std::fs::remove_file(&file).unwrap();
    assert!(used() < 50);
    // Renamed back, it is unlinked by the first who meets it.
    bed.run(&["clean", "--yes"], b"").code(0);
    let file = quarantine();
    std::fs::create_dir(bed.root().join("test/c")).unwrap();
    std::fs::rename(&file, bed.segment(1)).unwrap();
    let next = writer(&bed, &[]);
    assert_eq!(next.note("writing")["next"], 0);
    assert!(used() < 50);
}

#[test]
fn what_interrupted_births_and_the_dead_have_left_is_tidied_and_then_no_more() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-TIDIED"));
    shows(entry.text, &["the line has both counts", "the counts go to 0"]);
    let reader = bed.start(&["recv", "c", "--durable", "--name", "d", "--events", "json"]);
    let first = writer(&bed, &[]);
    reader.note("joined");
    first.kill();
    let second = writer(&bed, &[]);
    reader.note("restarted");
    // The reader leaves the drained one a moment after it has told that it went over.
    bed.until("it has left", || {
        let readers = bed.view()["chain"][0]["seen"]["readers"].clone();
        bed.view()["generations"] == 1 || readers.as_array().unwrap().iter().all(|reader| reader["state"] == "done")
    });
    // A starter that was killed between these steps has left it.
    let cradle = bed.root().join("test/.birth-0123456789abcdef");
    std::fs::create_dir(&cradle).unwrap();
    std::fs::write(cradle.join("00000001.ring"), b"half").unwrap();
    let look = || text(bed.run(&["watch", "--once", "--mode", "reclaim", "--json"], b"").code(0));
    let tidied = look();
    let line: Value = serde_json::from_str(tidied.lines().find(|line| line.contains("RW-WD-TIDIED")).unwrap()).unwrap();
    assert_eq!(line["births"], 1, "{tidied}");
    assert!(!cradle.exists());
    assert_eq!(bed.view()["generations"], 1);
    assert!(!look().contains("RW-WD-TIDIED"));
    second.end().code(0);
}

/// One who is not root: this user, or, for root, nobody.
struct Humble<'b>(&'b Bed);

impl Humble<'_> {
    const NOBODY: u32 = 65534;

    /// From here on the bed is its. `None` if nobody may run the tool.
    fn of(bed: &Bed) -> Option<Humble<'_>> {
        if geteuid().is_root() {
            chown(bed.root(), Some(Humble::NOBODY), Some(Humble::NOBODY)).unwrap();
            let mut probe = Humble(bed).command(&["explain", "RW-NAME"]);
            if !probe.stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
                skip("nobody may run the tool where it was built");
                return None;
            }
        }
        Some(Humble(bed))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut Command) {
        if geteuid().is_root() {
            command.uid(Humble::NOBODY).gid(Humble::NOBODY);
        }
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut tool = self.0.spawn(self.command(args));
        tool.feed(b"x\n");
        tool.end()
    }

    /// One of an entry's commands.
    fn does(&self, entry: &Entry, command: &str) -> String {
        let words = entry.words(command, &[]);
        text(self.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).code(0))
    }

    fn chmod(&self, what: &str, mode: u32) {
        std::fs::set_permissions(self.0.root().join(what), PermissionsExt::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_the_system_does_not_let_it_take_away_is_told_and_tried_again() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-FAILED"));
    let Some(humble) = Humble::of(&bed) else { return };
    humble.run(&["send", "c"]).code(0);
    humble.chmod("test", 0o500);
    let reclaim = ["watch", "--once", "--mode", "reclaim", "--grace", "0s"];
    for _ in 0..2 {
        let told = text(humble.run(&reclaim).code(0));
        shows(&told, &["could not be taken away: Permission denied", "[RW-WD-FAILED]"]);
    }
    shows(&text(program(&bed, &["ls", "-ld", bed.root().join("test").to_str().unwrap()])), &["dr-x------"]);
    humble.chmod("test", 0o700);
    shows(&humble.does(&entry, "ringward clean CHANNEL --yes"), &["reclaimed"]);
    assert!(!bed.root().join("test/c").exists());
}

/// That the directory is another user's stands for: that its mode lets its own one in no more.
#[test]
fn what_may_not_be_looked_into_has_no_verdict_and_stays() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-PERMISSION"));
    let Some(humble) = Humble::of(&bed) else { return };
    humble.run(&["send", "c"]).code(0);
    humble.chmod("test/c", 0);
    let all = ["watch", "--once", "--mode", "reclaim", "--grace", "0s"];
    shows(&text(humble.run(&all).code(0)), &["Permission denied", "[RW-WD-PERMISSION]"]);
    shows(&text(shell(&entry, &bed, "id", &[])), &["uid="]);
    shows(&text(shell(&entry, &bed, "ls -ld /dev/shm/ringward-*/CHANNEL", &[])), &["d---------"]);
    humble.run(&["send", "c"]).code(1).says("RW-OPEN-SQUAT").says("Permission denied");
    humble.chmod("test/c", 0o700);
    shows(&humble.does(&entry, "ringward watch --once"), &["c: orphaned (within grace)"]);
}

#[test]
fn what_a_limit_keeps_it_from_looking_at_is_taken_for_nobodys_by_no_means() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-UNKNOWABLE"));
    bed.run(&["send", "c"], b"x\n").code(0);
    let limited = |limit: u32| {
        let tool = bed.command(&["watch", "--once", "--mode", "reclaim", "--grace", "1h"]);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", &limit.to_string()]).arg(tool.get_program());
        command.args(tool.get_args()).envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        text(bed.spawn(command).wait())
    };
    // Somewhere between too few to start and enough.
    let met = (4..40).map(limited).find(|found| found.contains("RW-WD-UNKNOWABLE")).unwrap();
    shows(&met, &["Too many open files"]);
    assert!(bed.segment(1).exists());
    shows(&entry.run(&bed, "ringward watch --once"), &["c: orphaned"]);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["orphaned"]);
}

const HEALTH: &str = "curl -s -m 5 http://127.0.0.1:9464/healthz";

fn address(watchdog: &Tool) -> String {
    watchdog.note("listening")["address"].as_str().unwrap().to_owned()
}

#[test]
fn a_watchdog_that_is_down_is_told_apart_by_its_health_and_goes_on_where_it_was() {
    if !has("curl") {
        return;
    }
    let (bed, entry) = (Bed::new(), entry("RW-WD-DOWN"));
    let health = |at: &str| shell(&entry, &bed, HEALTH, &[("127.0.0.1:9464", at)]);
    bed.run(&["send", "c"], b"x\n").code(0);
    let args = ["--listen", "127.0.0.1:0", "--mode", "reclaim", "--grace", "1h"];
    let first = watchdog(&bed, &args);
    let at = address(&first);
    first.note("notice");
    shows(&text(health(&at).code(0)), &["\"well\":true"]);
    // Stopped, it takes connections and answers none.
    stop(&bed, &first);
    let silent = health(&at);
    assert_eq!((silent.status.code(), silent.stdout.len()), (Some(28), 0), "a time-out");
    first.kill();
    assert_eq!(health(&at).status.code(), Some(7), "refused");
    // Nobody needs one for records.
    bed.run(&["send", "other"], b"x\n").code(0);
    let again = watchdog(&bed, &args);
    let marked = again.note_of("c", |note| note["channel"] == "c");
    assert!(marked["evidence"]["orphaned_ms"].as_u64() > Some(0), "its mark is gone: {marked}");
    shows(&text(health(&address(&again)).code(0)), &["\"well\":true"]);
    again.kill();
    shows(&entry.run(&bed, "ringward watch --once --mode reclaim"), &["c: orphaned (within grace)"]);
}

#[test]
fn a_watchdog_that_looks_and_fails_says_why_in_its_health() {
    if !has("curl") {
        return;
    }
    let (bed, entry) = (Bed::new(), entry("RW-WD-DOWN"));
    let Some(humble) = Humble::of(&bed) else { return };
    humble.run(&["send", "c"]).code(0);
    let mut command = loud(&bed.command(&["watch", "--json", "--interval", "5ms", "--listen", "127.0.0.1:0"]));
    humble.dress(&mut command);
    let watchdog = bed.spawn(command);
    let at = address(&watchdog);
    let health = || text(shell(&entry, &bed, HEALTH, &[("127.0.0.1:9464", &at)]));
    watchdog.note("notice");
    humble.chmod("test", 0);
    bed.until("it says so", || health().contains("\"well\":false"));
    shows(&health(), &["RW-WD-DOWN", "Permission denied", "last_look_seconds"]);
    humble.chmod("test", 0o700);
    bed.until("it is well", || health().contains("\"well\":true"));
    let code = "curl -s -o /dev/null -w %{http_code} http://".to_owned() + &at + "/healthz";
    assert_eq!(text(program(&bed, &["sh", "-c", &code])), "200");
}

#[test]
fn a_watchdog_that_listens_says_where() {
    if !has("curl") {
        return;
    }
    let (bed, entry) = (Bed::new(), entry("RW-WD-LISTENING"));
    let watchdog = watchdog(&bed, &["--listen", "127.0.0.1:0"]);
    assert_eq!(watchdog.note("listening")["id"], "RW-WD-LISTENING");
    let at = address(&watchdog);
    let health = shell(&entry, &bed, "curl -s http://127.0.0.1:9464/healthz", &[("127.0.0.1:9464", &at)]);
    shows(&text(health.code(0)), &["\"well\":true"]);
}

#[test]
fn settings_that_are_read_again_are_told_and_hold() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-RELOADED"));
    shows(entry.text, &["what the new settings say happens", "SIGHUP came"]);
    let file = bed.root().join("watch.toml");
    std::fs::write(&file, "grace = \"0\"\n").unwrap();
    bed.run(&["send", "c"], b"x\n").code(0);
    let watchdog = watchdog(&bed, &["--config", file.to_str().unwrap()]);
    assert_eq!(watchdog.note("notice")["done"], "nothing");
    std::fs::write(&file, "grace = \"0\"\nmode = \"reclaim\"\nlisten = \"127.0.0.1:1\"\n").unwrap();
    watchdog.signal(Signal::SIGHUP);
    watchdog.line("settings read again [RW-WD-RELOADED]");
    watchdog.line("another address to listen at takes a restart");
    watchdog.note_of("reclaimed", |note| note["done"] == "reclaimed");
}

/// Told at the end of a minute, or of the watchdog.
#[test]
fn lines_that_were_left_out_are_counted_at_the_latest_at_its_end() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-SUPPRESSED"));
    let watchdog = watchdog(&bed, &["--log-limit", "1"]);
    // A writer that is started again and again.
    for _ in 0..3 {
        let writer = writer(&bed, &["--no-close"]);
        bed.until("it is live", || entry.run(&bed, "ringward ls").contains("live"));
        watchdog.note_of("something of c", |note| note["channel"] == "c");
        writer.kill();
        shows(&entry.run(&bed, "ringward ls"), &["("]);
    }
    // Once it has something to say of another one, it has looked at what became of this one, too.
    bed.run(&["send", "other", "--no-close"], b"x\n").code(0);
    watchdog.note_of("something of the other", |note| note["channel"] == "other");
    watchdog.signal(Signal::SIGTERM);
    let said = watchdog.wait().code(143);
    assert_eq!(said.notes("notice").iter().filter(|note| note["channel"] == "c").count(), 1, "{said:?}");
    let left_out = said.notes("suppressed");
    assert_eq!((left_out.len(), &left_out[0]["channel"]), (1, &"c".into()), "{said:?}");
    assert!(left_out[0]["lines"].as_u64() >= Some(1));
}
