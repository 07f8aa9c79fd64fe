//! What the tool itself says: its input and output, its options, what it refuses to do.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use ringward_ring::layout::SUCCESSION_AT;
use ringward_ring::segment::Access;
use ringward_ring::succession;

use super::common::{attach, has, prints};
use super::{entry, live, rest, says, shows, stop, writer};
use crate::bed::{Bed, frames, lines};

#[test]
fn what_the_system_refuses_the_tool_is_told_in_its_words() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-SYSTEM"));
    let path = bed.root().join("none.ring");
    let refused = bed.run(&["check", path.to_str().unwrap()], b"").code(1).says("[RW-CTL-SYSTEM]");
    shows(&refused.stderr, &["open ", "No such file or directory"]);
    let rest = rest(&entry);
    says(&rest, &["the message says what was being done and its words", "the call works"]);
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    std::fs::copy(bed.segment(1), &path).unwrap();
    bed.run(&["check", path.to_str().unwrap()], b"").code(0);
}

#[test]
fn an_input_that_cannot_be_read_stops_the_sender_and_the_next_one_resumes() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-STDIN"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    // A folder is the first of what the page says it may be.
    let mut command = bed.command(&["send", "c", "--resume"]);
    command.stdin(File::open(bed.root()).unwrap());
    let stopped = bed.spawn(command).wait().code(1).says("[RW-CTL-STDIN]");
    shows(&stopped.stderr, &["read stdin: Is a directory"]);
    says(&entry, &["the input is a folder", "left open for the next one", "Start again with `--resume`"]);
    bed.run(&["send", "c", "--resume", "--no-close"], &lines(0..5)).code(0);
    assert_eq!(bed.view()["next_sequence"], 5, "nothing went out twice");
}

/// /dev/full stands in for a disk that is.
#[test]
fn an_output_that_cannot_be_written_keeps_the_record_for_the_next_receiver() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-STDOUT"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    let args = ["recv", "c", "--durable", "--name", "d", "--from", "oldest", "--newline"];
    let mut command = bed.command(&args);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    bed.spawn(command).end().code(1).says("[RW-CTL-STDOUT]").says("No space left on device");
    says(&entry, &["is the disk full?", "a durable receiver gets that record again"]);
    assert_eq!(bed.run(&[&args[..], &["--count", "3"]].concat(), b"").code(0).stdout, lines(0..3));
}

#[test]
fn an_output_file_that_cannot_be_is_named_and_another_one_is_taken() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-OUTPUT"));
    bed.run(&["send", "c", "--no-close"], &lines(0..6)).code(0);
    let path = |name: &str| bed.root().join(name).to_str().unwrap().to_owned();
    let recv = |file: &str, count: &str| {
        let args = ["recv", "c", "--durable", "--name", "d", "--from", "oldest", "--framed", "--output", file];
        bed.run(&[&args[..], &["--count", count]].concat(), b"")
    };
    // Not to be opened, no regular file, none of frames, frames out of order, a damaged length in the middle.
    recv(&path("no/such"), "1").code(1).says("[RW-CTL-OUTPUT]").says("No such file");
    recv(bed.root().to_str().unwrap(), "1").code(1).says("[RW-CTL-OUTPUT]");
    recv(&path("good"), "4").code(0);
    let good = std::fs::read(path("good")).unwrap();
    let first = 16 + usize::try_from(u32::from_le_bytes(good[12..16].try_into().unwrap())).unwrap();
    std::fs::write(path("twice"), [&good[..], &good[..first]].concat()).unwrap();
    let mut damaged = good.clone();
    damaged[first + 12] ^= 64;
    std::fs::write(path("damaged"), &damaged).unwrap();
    for name in ["twice", "damaged"] {
        let before = std::fs::read(path(name)).unwrap();
        let refused = recv(&path(name), "1").code(1).says("[RW-CTL-OUTPUT]");
        shows(&refused.stderr, &[&path(name), "byte "]);
        assert_eq!(std::fs::read(path(name)).unwrap(), before, "nothing was cut off");
    }
    says(&entry, &["the message has the path and the reason", "move the file away", "begin a new one"]);
    std::fs::rename(path("damaged"), path("kept")).unwrap();
    recv(&path("damaged"), "2").code(0);
    let (rest, torn) = frames(&std::fs::read(path("damaged")).unwrap());
    assert_eq!((rest.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), torn), (vec![4, 5], 0));
}

#[test]
fn a_time_out_loses_nothing_and_says_where_it_stands() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-TIMEOUT"));
    let mut sender = writer(&bed, &["--no-close"]);
    let waits = ["recv", "c", "--durable", "--name", "d", "--from", "oldest", "--timeout", "20ms", "--newline"];
    bed.run(&waits, b"").code(3).says("[RW-CTL-TIMEOUT]").says("the next is 0");
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["verdict: live", "the next record is 0"]);
    sender.feed(b"x\n");
    bed.until_next(1);
    let got = bed.run(&["recv", "c", "--durable", "--name", "d", "--timeout", "60s", "--count", "1", "--newline"], b"");
    assert_eq!(got.code(0).stdout, b"x\n");
    // An orderly end is no time-out.
    drop(sender.end());
    bed.run(&["send", "c"], b"").code(0);
    bed.run(&["recv", "c", "--durable", "--name", "d", "--timeout", "60s"], b"").code(0);
}

#[test]
fn an_input_that_is_shorter_than_the_channel_is_not_resumed() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-RESUME"));
    bed.run(&["send", "c", "--no-close"], &lines(0..5)).code(0);
    bed.run(&["send", "c", "--resume", "--no-close"], &lines(0..3)).code(1).says("[RW-CTL-RESUME]");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["the next record is 5"]);
    // It was the wrong input; or it goes out anew, without --resume.
    bed.run(&["send", "c", "--resume", "--no-close"], &lines(0..6)).code(0);
    assert_eq!(bed.view()["next_sequence"], 6);
    says(&entry, &["Send without `--resume`"]);
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    assert_eq!(bed.view()["next_sequence"], 9);
}

/// Its end was decided as unknown by one who died then, and its state damaged: it heals, and its numbers jump.
#[test]
fn a_sender_that_resumes_and_whose_numbers_jump_says_so_and_stops() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-STEP"));
    let args = ["send", "c", "--resume", "--heal", "--heartbeat", "0", "--capacity", "4KiB", "--events", "json"];
    let mut send = bed.start(&args);
    send.note("writing");
    let recv = bed.start(&["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"]);
    recv.note("joined");
    send.feed(&lines(0..3));
    bed.until_next(3);
    stop(&bed, &send);
    let old = attach(&bed, 1, Access::Successor);
    succession::fence_writer(&old, false).unwrap();
    succession::decide_end(&old, None).unwrap();
    drop(old);
    bed.store(SUCCESSION_AT as u64, &[0xff; 4]);
    send.signal(Signal::SIGCONT);
    send.feed(&lines(3..6));
    send.wait()
        .code(1)
        .says("record 4 of stdin was written with sequence number 281474976710656")
        .says("[RW-CTL-STEP]");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["generation 2: open", "nobody knows where that ended"]);
    bed.run(&["send", "c", "--resume"], &lines(0..6)).code(1).says("[RW-CTL-RESUME]");
    says(&entry, &["Send what is missing without `--resume`"]);
    bed.run(&["send", "c"], &lines(5..6)).code(0);
    let got = recv.wait().code(4).stdout;
    assert!(got.ends_with(&lines(5..6)), "{}", String::from_utf8_lossy(&got));
}

#[test]
fn a_setting_that_cannot_be_is_named_and_mended() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-CONFIG"));
    bed.namespace();
    let file = bed.root().join("watch.toml");
    let path = file.to_str().unwrap();
    let command = "ringward watch --once --mode report --config FILE";
    for (bad, part) in [("grace = \"soon\"\n", "grace"), ("interval = 5\n", "interval"), ("colour = 1\n", "colour")] {
        std::fs::write(&file, bad).unwrap();
        let refused = entry.ended(&bed, command, &[("FILE", path)], b"").code(1).says("[RW-CTL-CONFIG]");
        shows(&refused.stderr, &[part, path]);
    }
    // A wrong mode only who starts without the option finds.
    std::fs::write(&file, "mode = \"kill\"\n").unwrap();
    entry.run_with(&bed, command, &[("FILE", path)]);
    bed.run(&["watch", "--once", "--config", path], b"").code(1).says("[RW-CTL-CONFIG]");
    says(&entry, &["Only a wrong `mode` in the file it does not find"]);
    let mut environment = bed.command(&["watch", "--once"]);
    environment.env("RINGWARD_WATCH_MODE", "kill");
    bed.spawn(environment).end().code(1).says("[RW-CTL-CONFIG]").says("RINGWARD_WATCH_MODE");
    // All keys are in the file that the page names.
    let all = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/systemd/watch.toml");
    assert!(entry.text.contains("`contrib/systemd/watch.toml`"));
    entry.run_with(&bed, command, &[("FILE", all)]);
    // At a reload: the settings stay, and once mended it says so.
    std::fs::write(&file, "grace = \"1h\"\n").unwrap();
    let log = bed.root().join("log");
    let mut command = bed.command(&["watch", "--config", path, "--interval", "5ms"]);
    let seen = bed.root().join("seen");
    command.stderr(File::create(&log).unwrap()).stdout(File::create(&seen).unwrap());
    bed.run(&["send", "c"], b"x\n").code(0);
    let watch = bed.spawn(command);
    // Once it has looked it has read its settings, and a hang-up does not end it.
    bed.until("it has looked", || std::fs::read_to_string(&seen).is_ok_and(|seen| seen.contains("RW-WD-GRACE")));
    let reload = |settings: &str, what: &str| {
        std::fs::write(&file, settings).unwrap();
        bed.until(what, || {
            watch.signal(Signal::SIGHUP);
            std::fs::read_to_string(&log).unwrap().contains(what)
        });
    };
    reload("grace = \"soon\"\n", "settings left as they were");
    shows(&std::fs::read_to_string(&log).unwrap(), &["[RW-CTL-CONFIG]"]);
    reload("grace = \"2h\"\n", "RW-WD-RELOADED");
    watch.signal(Signal::SIGTERM);
    watch.wait().code(143);
}

#[test]
fn an_address_that_is_taken_is_shown_by_ss_and_another_one_is_listened_at() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-LISTEN"));
    bed.namespace();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = address.to_string();
    bed.run(&["watch", "--listen", &listen], b"").code(1).says("[RW-CTL-LISTEN]").says(&listen);
    if has("ss") {
        let found = prints(&entry, &bed, "ss -ltnp", &[]);
        assert!(found.lines().any(|line| line.contains(&listen)), "{found}");
    }
    // End who has it.
    drop(taken);
    let watch = bed.start(&["watch", "--listen", &listen, "--json"]);
    bed.until("it listens", || std::net::TcpStream::connect(address).is_ok() || !watch.running());
    watch.signal(Signal::SIGTERM);
    let said = String::from_utf8(watch.wait().code(143).stdout).unwrap();
    shows(&said, &["RW-WD-LISTENING", &listen]);
}

#[test]
fn what_tail_did_not_see_in_time_is_counted_and_a_reader_gets_all() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-PASSED"));
    let mut sender = bed.start(&["send", "c", "--capacity", "4KiB", "--no-close", "--events", "json"]);
    sender.note("writing");
    sender.feed(&lines(0..1));
    bed.until_next(1);
    let mut follow = bed.command(&["tail", "c", "--follow", "--interval", "1ms", "--count", "2"]);
    let (mut reading, writing) = std::io::pipe().unwrap();
    follow.stdout(writing);
    let tail = bed.spawn(follow);
    let mut shown = [0; 1];
    std::io::Read::read_exact(&mut reading, &mut shown).unwrap();
    // It looks away while more is sent than the ring holds.
    stop(&bed, &tail);
    sender.feed(&lines(1..500));
    bed.until_next(500);
    tail.signal(Signal::SIGCONT);
    let told = tail.wait().code(0).says("[RW-CTL-PASSED]");
    shows(&told.stderr, &["records from 1 on were not seen"]);
    let reader = entry.start(&bed, "ringward recv CHANNEL", &[]);
    reader.note("joined");
    sender.feed(&lines(0..300));
    bed.until_next(800);
    sender.end().code(0);
    bed.run(&["send", "c"], b"").code(0);
    let got = reader.end().code(0);
    assert!(got.notes("gap").is_empty());
    let sent: Vec<u8> = lines(0..300).into_iter().filter(|byte| *byte != b'\n').collect();
    assert_eq!(got.stdout, sent);
}

#[test]
fn a_writer_that_is_well_is_not_ended_unless_one_insists() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-ALIVE"));
    let well = writer(&bed, &["--heartbeat", "0", "--no-close"]);
    for command in ["supersede", "kill-owner"] {
        bed.run(&[command, "c", "--yes"], b"").code(1).says("[RW-CTL-ALIVE]");
    }
    let found = entry.run(&bed, "ringward inspect CHANNEL --sample 3s");
    shows(&found, &["verdict: live", &well.pid().to_string()]);
    assert_eq!(bed.view()["generation"], 1, "nothing was done");
    says(&entry, &["say `--although-live`"]);
    bed.run(&["kill-owner", "c", "--although-live", "--yes", "--wait", "60s"], b"").code(0);
    well.wait();
    let next = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    next.end().code(0);
}

#[test]
fn without_a_writer_nobody_is_ended_and_the_next_one_follows() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-NOWRITER"));
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    for command in ["supersede", "kill-owner"] {
        bed.run(&[command, "c", "--stall-timeout", "1ms", "--yes"], b"").code(1).says("[RW-CTL-NOWRITER]");
    }
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["the writer lock is free", "1 record"]);
    let next = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    next.end().code(0);
}

#[test]
fn a_writer_that_does_not_die_of_its_signal_is_superseded() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-KILL"));
    let stuck = writer(&bed, &[]);
    stop(&bed, &stuck);
    let term = ["kill-owner", "c", "--term", "--yes", "--although-live", "--wait", "50ms"];
    bed.run(&term, b"").code(1).says("[RW-CTL-KILL]").says("the writer lock is still held");
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &[&format!("the writer is process {}", stuck.pid())]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", stuck.pid())).unwrap();
    assert!(
        status.lines().any(|line| line.starts_with("State:\tT")) && entry.text.contains("`T` in `/proc/PID/status`")
    );
    entry.words("ringward supersede CHANNEL --yes", &[]);
    bed.run(&["supersede", "c", "--yes", "--although-live"], b"").code(0);
    shows(&entry.run(&bed, "ringward ls"), &["  2 (of 2)  "]);
    stuck.kill();
}

#[test]
fn what_is_there_already_is_not_written_over() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-EXISTS"));
    bed.run(&["send", "c"], b"x\n").code(0);
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    std::fs::write(&file, b"the only one").unwrap();
    bed.run(&["snapshot", "c", path], b"").code(1).says("[RW-CTL-EXISTS]");
    assert_eq!(std::fs::read(&file).unwrap(), b"the only one");
    assert!(entry.text.contains("`ls -l` of the file"));
    bed.run(&["snapshot", "c", path, "--force"], b"").code(0);
    bed.run(&["restore", path, "c"], b"").code(1).says("[RW-CTL-EXISTS]");
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["nobody holds any lock of it"]);
    entry.run(&bed, "ringward clean CHANNEL --yes");
    bed.run(&["restore", path, "c"], b"").code(0);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["1 record"]);
}

#[test]
fn a_snapshot_that_was_cut_restores_nothing_and_a_new_one_does() {
    let (bed, entry) = (Bed::new(), entry("RW-CTL-SNAPSHOT"));
    bed.run(&["send", "c", "--no-close"], &lines(0..9)).code(0);
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    entry.run_with(&bed, "ringward snapshot CHANNEL FILE", &[("FILE", path)]);
    let whole = std::fs::read(&file).unwrap();
    let verify = "ringward restore FILE --verify";
    entry.run_with(&bed, verify, &[("FILE", path)]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &flipped, b"another kind of file"] {
        File::create(&file).unwrap().write_all(damaged).unwrap();
        entry.ended(&bed, verify, &[("FILE", path)], b"").code(1).says("[RW-CTL-SNAPSHOT]");
        bed.run(&["restore", path, "again"], b"").code(1).says("[RW-CTL-SNAPSHOT]");
        assert!(!bed.root().join("test/again").exists(), "nothing was restored");
    }
    std::fs::remove_file(&file).unwrap();
    entry.run_with(&bed, "ringward snapshot CHANNEL FILE", &[("FILE", path)]);
    entry.run_with(&bed, verify, &[("FILE", path)]);
}
