//! What a program is told that opens a channel, and situations that have no id.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use ringward_recovery::owner::this_process;
use ringward_recovery::{Channel, Config, Durability, From, OpenError};
use ringward_ring::layout::CURSOR_AT;
use ringward_ring::segment::{Access, JoinError, Joining};
use ringward_ring::succession;
use ringward_ring::table::{ReaderCard, ReaderName};
use ringward_ring::word::Kind;

use super::common::{attach, shell, skip, text};
use super::events::reboot;
use super::{entry, live, shows, stop, writer};
use crate::bed::{Bed, Ended, Tool, frames, lines};

/// A receiver that does not wait for what is not there.
fn joins(bed: &Bed, args: &[&str]) -> Ended {
    bed.run(&[&["recv", "c", "--wait", "10ms", "--events", "json"], args].concat(), b"")
}

fn card(name: &str) -> ReaderCard {
    let me = this_process();
    let name = ReaderName::new(name).unwrap();
    ReaderCard { kind: Kind::EPHEMERAL, name, pid: me.pid, pid_namespace: me.pid_namespace, start: me.start }
}

fn durable(bed: &Bed, name: &str) -> Tool {
    let recv = bed.start(&["recv", "c", "--durable", "--name", name, "--events", "json"]);
    recv.note("joined");
    recv
}

#[test]
fn what_is_missing_is_waited_for_and_found_in_the_right_namespace() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-MISSING"));
    bed.namespace();
    joins(&bed, &[]).code(3).says("RW-OPEN-MISSING");
    bed.run(&["inspect", "c"], b"").code(1).says("RW-OPEN-MISSING");
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let recv = entry.start(&bed, "ringward recv CHANNEL", &[]);
    recv.note("waiting");
    let send = writer(&bed, &["--readers", "1"]);
    recv.note("joined");
    live(&bed, &entry.run(&bed, "ringward ls"), &send);
    // Another root: the same name is another channel.
    let other = Bed::new();
    other.namespace();
    joins(&other, &[]).code(3).says("RW-OPEN-MISSING").says(other.root().to_str().unwrap());
    send.end().code(0);
    recv.wait().code(0);
}

#[test]
fn what_squats_on_a_name_is_moved_away() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-SQUAT"));
    bed.namespace();
    let (path, moved) = (bed.root().join("test/c"), bed.root().join("moved"));
    std::fs::write(&path, b"somebody's").unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-SQUAT");
    let seen = || text(shell(&entry, &bed, "ls -ld /dev/shm/ringward-$(id -u)/CHANNEL", &[]).code(0));
    assert!(seen().starts_with("-rw"), "{}", seen());
    std::fs::rename(&path, &moved).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("lock"), b"").unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-SQUAT").says("\"lock\"");
    assert!(seen().starts_with('d') && path.join("lock").exists());
    std::fs::rename(&path, bed.root().join("moved too")).unwrap();
    let send = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &send);
}

#[test]
fn a_closed_channel_is_joined_once_a_writer_goes_on() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-CLOSED"));
    bed.run(&["send", "c"], b"early\n").code(0);
    joins(&bed, &[]).code(3).says("RW-OPEN-CLOSED");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["generation 1: closed"]);
    // What is still there can be had.
    assert_eq!(entry.run(&bed, "ringward recv CHANNEL --from oldest"), "early");
    let mut next = entry.start(&bed, "ringward send CHANNEL --readers 1", &[]);
    next.note("writing");
    let recv = bed.start(&["recv", "c", "--events", "json"]);
    recv.note("joined");
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    next.feed(b"late\n");
    next.end().code(0);
    assert_eq!(recv.wait().code(0).stdout, b"late");
}

/// Whoever took over died in the middle of it: its steps are done here by the library, as far as it came.
#[test]
fn a_succession_that_nobody_finished_is_finished_by_a_writer() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-NOWRITER"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    let registered = durable(&bed, "d");
    let old = attach(&bed, 1, Access::Successor);
    succession::fence_writer(&old, true).unwrap();
    succession::decide_end(&old, succession::published_end(&old).map(|mark| mark.position)).unwrap();
    drop(old);
    joins(&bed, &[]).code(3).says("RW-OPEN-NOWRITER");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["generation 1: fencing", "no successor"]);
    let next = writer(&bed, &[]);
    assert_eq!(next.note("writing")["next"], 3);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    registered.note("restarted");
    let late = bed.start(&["recv", "c", "--events", "json"]);
    late.note("joined");
    next.end().code(0);
    for recv in [registered, late] {
        assert!(recv.wait().code(0).notes("gap").is_empty());
    }
}

#[test]
fn a_durable_name_has_one_holder_and_is_free_when_that_ends() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-HELD"));
    let _send = writer(&bed, &[]);
    let first = durable(&bed, "d");
    bed.run(&["recv", "c", "--durable", "--name", "d"], b"").code(1).says("RW-OPEN-HELD");
    let named = format!("d (durable): process {} holds its byte", first.pid());
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &[&named]);
    // The place itself is locked, whoever asks.
    shows(super::entry("RW-JOIN-HELD").text, &["**The rest:** as [RW-OPEN-HELD]", "the message has the slot"]);
    let held = attach(&bed, 1, Access::Reader).claim(0, &card("d")).unwrap_err();
    assert!(matches!(held, JoinError::Held { slot: 0 }) && held.to_string().contains("slot 0 is held"), "{held}");
    shows(&held.to_string(), &["[RW-JOIN-HELD]"]);
    joins(&bed, &["--durable", "--name", "e", "--timeout", "10ms"]).code(3).says("RW-CTL-TIMEOUT");
    first.signal(Signal::SIGTERM);
    first.wait().code(143);
    durable(&bed, "d");
}

/// Runs a program where `membarrier` is refused with EPERM, as a container's filter does; `None` where no filter can be set.
fn filtered(bed: &Bed, command: &Command) -> Option<Ended> {
    let (prctl, membarrier) = match std::env::consts::ARCH {
        "x86_64" => (157, 324),
        "aarch64" => (167, 283),
        _ => return None,
    };
    // BPF: load the number of the call; if it is membarrier, EPERM; else let it through.
    let script = format!(
        "my $f = pack('SCCL' x 4, 0x20,0,0,0, 0x15,0,1,{membarrier}, 6,0,0,0x00050001, 6,0,0,0x7fff0000);
         my $p = pack('Sx6P', 4, $f);
         syscall({prctl}, 38, 1, 0, 0, 0) == 0 && syscall({prctl}, 22, 2, $p) == 0 or exit 99;
         exec @ARGV; exit 98;"
    );
    let mut perl = Command::new("perl");
    perl.args(["-e", &script]).arg(command.get_program()).args(command.get_args());
    perl.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    perl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let there = Command::new("perl").args(["-e", "1"]).status().is_ok_and(|status| status.success());
    let ended = there.then(|| bed.spawn(perl).wait())?;
    (!matches!(ended.status.code(), Some(98 | 99))).then_some(ended)
}

#[test]
fn who_may_issue_no_barrier_ends_no_living_writer_and_another_does() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-FENCE"));
    let stuck = writer(&bed, &[]);
    stop(&bed, &stuck);
    let Some(refused) = filtered(&bed, &bed.command(&["supersede", "c", "--yes"])) else {
        return skip("no seccomp filter can be set here");
    };
    refused.code(1).says("RW-OPEN-FENCE").says("membarrier");
    let command = "grep Seccomp /proc/self/status";
    assert!(entry.text.contains(&format!("`{command}`")));
    let mut grep = Command::new("sh");
    grep.args(["-c", command]);
    shows(&text(filtered(&bed, &grep).unwrap()), &["Seccomp:\t2"]);
    let words = entry.words("ringward doctor", &[]);
    let doctor = text(filtered(&bed, &bed.command(&words.iter().map(String::as_str).collect::<Vec<_>>())).unwrap());
    let line = doctor.lines().find(|line| line.contains(" membarrier ")).unwrap();
    shows(line, &["doubtful", "not available, or forbidden by a filter"]);
    assert_eq!(bed.view()["generation"], 1, "nothing was done");
    // From a process that may; or of a dead one, which needs no barrier.
    bed.run(&["supersede", "c", "--yes"], b"").code(0);
    assert_eq!(bed.view()["generation"], 2);
    stuck.kill();
    let next = filtered(&bed, &bed.command(&["send", "c", "--no-close"])).unwrap();
    next.code(0);
    assert_eq!(bed.view()["generation"], 3);
}

#[test]
fn a_reader_is_named_as_readers_can_be() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-READERNAME"));
    shows(entry.text, &["1 to 31 of `A-Z a-z 0-9 . _ -`", "the message has the name"]);
    let _send = writer(&bed, &[]);
    for bad in ["", "a/b", "ä", &"n".repeat(32)] {
        let refused = joins(&bed, &["--durable", "--name", bad]).code(2).says("RW-OPEN-READERNAME");
        assert!(refused.stderr.contains(&format!("{bad:?}")), "{refused:?}");
    }
    durable(&bed, &"n".repeat(31));
    durable(&bed, "A-z.0_9");
}

#[test]
fn what_cant_be_read_is_healed_by_its_writer_or_followed_after_its_end() {
    let entry = entry("RW-OPEN-DAMAGED");
    for heals in [true, false] {
        let bed = Bed::new();
        let mut owner = if heals {
            entry.start(&bed, "ringward send --heal CHANNEL", &[])
        } else {
            bed.start(&["send", "c", "--events", "json"])
        };
        owner.note("writing");
        // So that it does not look before it is asked to push.
        stop(&bed, &owner);
        std::fs::OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(100).unwrap();
        joins(&bed, &[]).code(3).says("RW-OPEN-DAMAGED");
        bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-DAMAGED");
        shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["RW-SEG-SHORT", "can't be read"]);
        owner.signal(Signal::SIGCONT);
        owner.feed(b"on\n");
        if heals {
            assert_eq!(owner.note("healed")["generation"], 2);
            live(&bed, &entry.run(&bed, "ringward ls"), &owner);
        } else {
            owner.wait().code(1).says("RW-PUSH-TRUNCATED");
            let next = writer(&bed, &[]);
            live(&bed, &entry.run(&bed, "ringward ls"), &next);
        }
        assert_eq!(bed.view()["generation"], 2);
    }
}

#[test]
fn generations_that_are_used_up_are_cleaned_away() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-WORD"));
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    std::fs::rename(bed.segment(1), bed.segment(u64::MAX)).unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-WORD");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["generation 18446744073709551615"]);
    shows(&entry.run(&bed, "ringward clean CHANNEL --quarantine --expire-durable 0s"), &["RENAME c: "]);
    bed.run(&["clean", "c", "--quarantine", "--expire-durable", "0s", "--yes"], b"").code(0);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let anew = writer(&bed, &[]);
    assert_eq!(anew.note("writing")["next"], 0);
}

/// Others who get ahead: one who opens and looks only once meets a birth that somebody else has begun.
#[test]
fn who_finds_others_ahead_each_time_gives_up_and_may_try_again() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-BUSY"));
    let channel = Channel::new(&bed.namespace(), "c", Config::default().tries(1)).unwrap();
    let path = bed.root().join("test/c");
    std::fs::create_dir(&path).unwrap();
    let refused = channel.writer().unwrap_err();
    assert!(matches!(refused, OpenError::Busy { tries: 1 }), "{refused}");
    shows(&refused.to_string(), &["gave up after 1 tries", "[RW-OPEN-BUSY]"]);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    shows(entry.text, &["Try again"]);
    let writer = channel.writer().unwrap();
    shows(&entry.run(&bed, "ringward ls"), &["\nc ", "live"]);
    std::fs::create_dir(bed.root().join("test/d")).unwrap();
    let other = Channel::new(&bed.namespace(), "d", Config::default().tries(1)).unwrap();
    let refused = other.reader("d", Durability::Durable, From::Latest).unwrap_err();
    assert!(matches!(refused, OpenError::Busy { tries: 1 }), "{refused}");
    drop(writer);
}

#[test]
fn what_the_system_refuses_is_said_in_its_words() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-SYSTEM"));
    shows(entry.text, &["`EMFILE` descriptors", "`ulimit -n`"]);
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    let limited = |limit: u32| {
        let tool = bed.command(&["send", "c", "--no-close"]);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", &limit.to_string()]).arg(tool.get_program());
        command.args(tool.get_args()).envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        bed.spawn(command).wait()
    };
    let met = (4..40).map(limited).find(|ended| ended.stderr.contains("RW-OPEN-SYSTEM")).unwrap();
    met.code(1).says("Too many open files");
    limited(256).code(0);
}

#[test]
fn without_a_free_slot_a_reader_joins_after_another_was_forgotten_or_in_a_larger_table() {
    let (bed, entry) = (Bed::new(), entry("RW-JOIN-SLOTS"));
    let first = bed.start(&["send", "c", "--slots", "2", "--events", "json"]);
    first.note("writing");
    for name in ["away", "here"] {
        bed.absent(name, From::Latest);
    }
    let here = durable(&bed, "here");
    joins(&bed, &[]).code(1).says("all 2 reader slots are taken").says("RW-JOIN-SLOTS");
    let all = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&all, &["away (durable): nobody holds its byte", &format!("here (durable): process {} holds", here.pid())]);
    bed.run(&["forget", "c", "away", "--yes"], b"").code(0);
    let third = durable(&bed, "third");
    joins(&bed, &[]).code(1).says("RW-JOIN-SLOTS");
    // It counts from the next generation on.
    first.kill();
    let next = entry.start(&bed, "ringward send CHANNEL --slots 64", &[]);
    next.note("writing");
    third.note("restarted");
    durable(&bed, "fourth");
}

#[test]
fn a_cursor_that_does_not_check_is_mended_by_the_next_push_or_a_successor() {
    let entry = entry("RW-JOIN-DAMAGED");
    // The position alone, or its checkpoints too.
    for (len, found) in [(8, "RW-IMG-POSITION"), (56, "RW-IMG-CURSOR")] {
        for lives in [true, false] {
            let bed = Bed::new();
            let mut send = writer(&bed, &[]);
            bed.absent("d", From::Latest);
            send.feed(&lines(0..3));
            bed.until_next(3);
            if !lives {
                send.signal(Signal::SIGKILL);
            }
            bed.store(CURSOR_AT as u64, &[0x55; 56][..len]);
            joins(&bed, &[]).code(1).says("RW-JOIN-DAMAGED");
            let check = entry.ended(&bed, "ringward check CHANNEL", &[], b"").code(5);
            shows(&text(check), &[found]);
            let inspect = entry.run(&bed, "ringward inspect CHANNEL");
            assert_eq!(inspect.contains("the writer's cursor is damaged"), len == 56, "{inspect}");
            if lives {
                send.feed(b"on\n");
                bed.until_next(4);
            } else {
                send = writer(&bed, &[]);
                let d = bed.start(&["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"]);
                d.note("restarted");
                let d = d.kill();
                let gaps = d.notes("gap");
                assert_eq!(gaps.len(), usize::from(len == 56), "{d:?}");
                assert!(gaps.iter().all(|gap| gap["count"].is_null()), "{d:?}");
            }
            let recv = bed.start(&["recv", "c", "--events", "json"]);
            recv.note("joined");
            send.end().code(0);
            recv.wait().code(0);
        }
    }
}

/// Only who uses the library can do this.
#[test]
fn one_attachment_plays_one_role() {
    let (bed, entry) = (Bed::new(), entry("RW-JOIN-ROLE"));
    shows(entry.text, &["one attachment of a segment for two roles", "Attach once for each role"]);
    let _send = writer(&bed, &[]);
    let segment = attach(&bed, 1, Access::Reader);
    let Joining::Reader(_first) = segment.join(&card("a"), From::Latest).unwrap() else { panic!("not open") };
    for _ in 0..2 {
        let refused = segment.join(&card("b"), From::Latest).unwrap_err();
        assert!(matches!(refused, JoinError::RoleTaken), "{refused}");
        shows(&refused.to_string(), &["[RW-JOIN-ROLE]", "attach again for another"]);
    }
    assert!(matches!(attach(&bed, 1, Access::Reader).join(&card("b"), From::Latest), Ok(Joining::Reader(_))));
}

/// A system that refuses locks is not to be had: here the file was opened in a way in which it refuses them.
#[test]
fn a_lock_that_the_system_refuses_is_told_in_its_words() {
    let bed = Bed::new();
    shows(entry("RW-JOIN-SYSTEM").text, &["refused to lock a reader's byte", "**The rest:** as [RW-OPEN-SYSTEM]"]);
    let _send = writer(&bed, &[]);
    let refused = attach(&bed, 1, Access::Inspect).join(&card("a"), From::Latest).unwrap_err();
    assert!(matches!(refused, JoinError::System(_)), "{refused}");
    shows(&refused.to_string(), &["Bad file descriptor", "[RW-JOIN-SYSTEM]"]);
    assert!(matches!(attach(&bed, 1, Access::Reader).join(&card("a"), From::Latest), Ok(Joining::Reader(_))));
}

/// A root on a disk, after its machine: the owner's boot id is another one.
#[test]
fn after_a_reboot_the_writer_is_started_and_what_was_lost_sent_again() {
    let (bed, entry) = (Bed::new(), entry("The machine was rebooted"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    bed.absent("d", From::Oldest);
    reboot(&bed, 1);
    for command in ["uptime -s", "stat -f -c %T ROOT"] {
        let said = text(shell(&entry, &bed, command, &[("ROOT", bed.root().to_str().unwrap())]).code(0));
        assert!(!said.trim().is_empty(), "{command}");
    }
    shows(&entry.run(&bed, "ringward ls"), &["draining", "  ("]);
    let kept = bed.root().join("kept");
    let file = [("FILE", kept.to_str().unwrap())];
    shows(&entry.run_with(&bed, "ringward snapshot CHANNEL FILE", &file), &["3 records"]);
    bed.run(&["send", "c", "--resume", "--no-close"], &lines(0..4)).code(1).says("RW-CTL-RESUME");
    let next = writer(&bed, &[]);
    let recv = bed.start(&["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"]);
    assert_eq!(recv.note("gap")["count"], serde_json::Value::Null);
    let verify = entry.run(&bed, "ringward ls");
    live(&bed, &verify, &next);
    shows(&verify, &["  d"]);
    next.end().code(0);
    assert_eq!(recv.wait().code(4).stdout, lines(0..3));
}

/// One in memory: nothing of it is left, and for a reboot that is announced there is a snapshot on a disk.
#[test]
fn before_a_reboot_that_is_announced_a_snapshot_is_taken_and_restored_after_it() {
    let (bed, entry) = (Bed::new(), entry("The machine was rebooted"));
    let mut send = writer(&bed, &[]);
    bed.absent("d", From::Oldest);
    send.feed(&lines(0..3));
    bed.until_next(3);
    send.signal(Signal::SIGTERM);
    send.wait().code(143);
    let kept = bed.root().join("kept");
    let file = [("FILE", kept.to_str().unwrap())];
    entry.run_with(&bed, "ringward snapshot CHANNEL FILE", &file);
    std::fs::remove_dir_all(bed.root().join("test")).unwrap();
    entry.run_with(&bed, "ringward restore FILE", &file);
    let next = writer(&bed, &[]);
    assert_eq!(next.note("writing")["next"], 3);
    let recv = bed.start(&["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"]);
    recv.note("joined");
    let verify = entry.run(&bed, "ringward ls");
    live(&bed, &verify, &next);
    next.end().code(0);
    assert_eq!(recv.wait().code(0).stdout, lines(0..3));
}

/// Both builds are this one; what one says to the other's channel is told by one of the fixtures.
#[test]
fn two_layouts_have_a_channel_each_for_a_release_window() {
    let (bed, entry) = (Bed::new(), entry("A release with another layout"));
    let mut old = writer(&bed, &[]);
    let old_reader = bed.start(&["recv", "c", "--durable", "--name", "d", "--framed", "--events", "json"]);
    old_reader.note("joined");
    old.feed(&lines(0..3));
    bed.until_next(3);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["layout 1.0"]);
    shows(&entry.run(&bed, "ringward ls"), &["MEMORY", "KiB"]);
    shows(&text(entry.ended(&bed, "ringward doctor", &[], b"")), &[" space "]);
    // 1 and 2.
    let new_reader = bed.start(&["recv", "c-2", "--durable", "--name", "d", "--framed", "--events", "json"]);
    new_reader.note("waiting");
    old.end().code(0);
    let (got, _) = frames(&old_reader.wait().code(0).stdout);
    assert_eq!(got.len(), 3);
    // 3.
    let mut new = entry.start(&bed, "ringward send CHANNEL-2 --readers N", &[("CHANNEL-2", "c-2"), ("N", "1")]);
    new_reader.note("joined");
    new.note("writing");
    new.feed(&lines(3..5));
    bed.until("the new one has no lag", || {
        let view = bed.run(&["inspect", "c-2", "--json"], b"").code(0).stdout;
        let view: serde_json::Value = serde_json::from_slice(&view).unwrap();
        view["next_sequence"] == 2 && view["readers"][0]["lag_records"] == 0
    });
    // 4: back, and numbers run on there.
    let back = writer(&bed, &[]);
    assert_eq!(back.note("writing")["next"], 3);
    back.end().code(0);
    // 5.
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "d")]);
    entry.run(&bed, "ringward clean CHANNEL --yes");
    let verify = entry.run(&bed, "ringward ls");
    assert!(!verify.contains("\nc ") && !verify.contains("+"), "{verify}");
    shows(&verify, &["c-2 ", "live", &new.pid().to_string()]);
    new.end().code(0);
    assert_eq!(frames(&new_reader.wait().code(0).stdout).0.len(), 2);
    // One at the other's channel.
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/major.ring");
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    std::fs::write(bed.segment(1), std::fs::read(fixture).unwrap()).unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-SEG-MAJOR");
    joins(&bed, &[]).code(1).says("RW-SEG-MAJOR");
}
