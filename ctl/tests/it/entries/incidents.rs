//! The first that operators meet: stalled, orphaned, corrupt, full, owned by another.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use ringward_recovery::{Channel, Config, From};
use serde_json::Value;

use super::common::text;
use super::{RUNBOOK, entry, live, shows, stop, writer};
use crate::bed::{Bed, lines};

/// Its blocks as they stand there, in a shell. `ringward` is one that knows this test's namespace.
#[test]
fn the_first_minute_is_followed_word_by_word() {
    let bed = Bed::new();
    let mut stuck = writer(&bed, &[]);
    bed.absent("d", From::Oldest);
    stuck.feed(&lines(0..3));
    bed.until_next(3);
    stop(&bed, &stuck);
    let (bin, home) = (bed.root().join("bin"), bed.root().join("home"));
    for dir in [&bin, &home] {
        std::fs::create_dir(dir).unwrap();
    }
    let program = bin.join("ringward");
    let tool = env!("CARGO_BIN_EXE_ringward");
    std::fs::write(&program, format!("#!/bin/sh\nexec {tool} \"$@\" --namespace test\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let shell = |script: &str| {
        let script = script.replace("/dev/shm/ringward-$(id -u)", &bed.root().join("test").display().to_string());
        let mut command = Command::new("sh");
        command.args(["-c", &script.replace("CHANNEL", "c")]).envs([("PATH", &path)]).env("HOME", &home);
        command.env("RINGWARD_ROOT", bed.root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        bed.spawn(command).wait()
    };
    let section = RUNBOOK.split("\n## First minute\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    let [what, hurts, memory, nobodys, evidence] = blocks[..] else { panic!("{blocks:?}") };
    shows(&text(shell(what).code(0)), &["VERDICT", "c  ", "stalled", &stuck.pid().to_string(), "[d]+3"]);
    shows(&text(shell(hurts).code(0)), &["verdict: stalled [RW-WD-STALLED]"]);
    // What it says of this machine is another matter.
    shows(&text(shell(memory)), &[" space ", " membarrier "]);
    shows(&text(shell(nobodys).code(0)), &["Nothing to take away."]);
    shell(evidence).code(0);
    let kept: Value = serde_json::from_slice(&std::fs::read(home.join("c.json")).unwrap()).unwrap();
    assert_eq!(kept["next_sequence"], 3);
    assert!(section.contains("`ringward check ~/CHANNEL.kept`"));
    shows(&text(shell("ringward check ~/CHANNEL.kept").code(0)), &["nothing remarkable"]);
    let restored = text(shell("ringward restore ~/CHANNEL.snapshot --verify").code(0));
    shows(&restored, &["3 records"]);
}

#[test]
fn a_stalled_writer_is_superseded_and_a_standby_goes_on() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-STALLED"));
    let mut stuck = writer(&bed, &[]);
    stuck.feed(&lines(0..3));
    bed.until_next(3);
    stop(&bed, &stuck);
    let found = entry.run(&bed, "ringward inspect CHANNEL --sample 3s");
    shows(&found, &["verdict: stalled [RW-WD-STALLED]", &format!("the writer is process {}", stuck.pid())]);
    shows(&entry.run(&bed, "ringward supersede CHANNEL"), &["Nothing was done."]);
    let mut standby = bed.start(&["send", "c", "--standby", "--events", "json"]);
    // Whether it has taken its post yet or not, it is the next writer.
    bed.run(&["supersede", "c", "--yes"], b"").code(0);
    standby.note("writing");
    standby.feed(b"on\n");
    bed.until_next(4);
    live(&bed, &entry.run(&bed, "ringward ls"), &standby);
    stuck.signal(Signal::SIGCONT);
    stuck.feed(b"late\n");
    stuck.wait().code(1).says("RW-PUSH-FENCED");
    standby.end().code(0);
}

#[test]
fn a_stalled_writer_is_killed_and_the_next_one_follows() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-STALLED"));
    let stuck = writer(&bed, &[]);
    stop(&bed, &stuck);
    // Stopped, it takes no SIGTERM: the entry says to leave --term out then.
    entry.words("ringward kill-owner CHANNEL --term --yes", &[]);
    bed.run(&["kill-owner", "c", "--yes", "--wait", "60s"], b"").code(0);
    assert!(stuck.wait().status.code().is_none());
    let next = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
}

#[test]
fn an_absent_durable_reader_comes_back_or_is_forgotten() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-DRAINING"));
    bed.run(&["send", "c", "--no-close"], &lines(0..5)).code(0);
    for name in ["first", "second"] {
        bed.absent(name, From::Oldest);
    }
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["verdict: draining [RW-WD-DRAINING]", "first (durable): nobody holds its byte"]);
    let reader = entry.start(&bed, "ringward recv CHANNEL --durable --name NAME", &[("NAME", "first")]);
    reader.note("joined");
    bed.until("it has everything", || bed.view()["readers"][0]["lag_records"] == 0);
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "second")]);
    reader.signal(Signal::SIGTERM);
    reader.wait().code(143);
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "first")]);
    shows(&entry.run(&bed, "ringward ls"), &["orphaned"]);
    bed.run(&["clean", "--yes"], b"").code(0);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
}

#[test]
fn a_channel_whose_readers_never_come_back_goes_as_a_whole() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-DRAINING"));
    bed.run(&["send", "c", "--no-close"], &lines(0..5)).code(0);
    bed.absent("never", From::Oldest);
    // Not the day that it says.
    let words = entry.words("ringward watch --mode reclaim --expire-durable 24h", &[("24h", "0s")]);
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.extend(["--grace", "0s", "--interval", "5ms"]);
    let watch = bed.start(&args);
    bed.until("it is gone", || !entry.run(&bed, "ringward ls").contains("\nc "));
    watch.signal(Signal::SIGTERM);
    shows(&text(watch.wait().code(143)), &["RW-WD-RECLAIMED"]);
}

#[test]
fn what_is_nobodys_is_cleaned_and_what_is_in_grace_too_if_one_is_sure() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-ORPHANED"));
    bed.run(&["send", "c"], b"x\n").code(0);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["nobody holds any lock of it"]);
    shows(&entry.run(&bed, "ringward clean CHANNEL --quarantine --yes"), &["RW-WD-QUARANTINED"]);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let entry = super::entry("RW-WD-GRACE");
    bed.run(&["send", "c"], b"x\n").code(0);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["orphaned (within grace)"]);
    shows(&entry.run(&bed, "ringward clean CHANNEL --yes"), &["RW-WD-RECLAIMED"]);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
}

#[test]
fn a_corrupt_header_of_a_dead_writer_is_followed() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-CORRUPT"));
    let owner = writer(&bed, &["--heartbeat", "0"]);
    bed.store(64, &[0xff; 8]);
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["verdict: corrupt [RW-WD-CORRUPT]", "RW-SEG-CRC"]);
    bed.run(&["check", "c"], b"").code(5);
    // Does a writer live there? It may not have looked yet.
    let held = || {
        let said = entry.run(&bed, "ringward watch --once --mode report --json");
        let of_c =
            said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["channel"] == "c");
        of_c.unwrap()["evidence"]["writer_held"].clone()
    };
    assert_eq!(held(), true);
    owner.kill();
    assert_eq!(held(), false);
    let next = writer(&bed, &[]);
    let verify = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&verify, &["verdict: live", "generation 2: open"]);
    live(&bed, &verify, &next);
}

#[test]
fn a_truncated_channel_of_a_dead_writer_is_followed() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-TRUNCATED"));
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    let file = std::fs::OpenOptions::new().write(true).open(bed.segment(1)).unwrap();
    file.set_len(100).unwrap();
    shows(&String::from_utf8(bed.run(&["ls"], b"").code(0).stdout).unwrap(), &["truncated"]);
    let next = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward inspect CHANNEL"), &next);
}

#[test]
fn a_vanished_channel_begins_anew() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-VANISHED"));
    let old = writer(&bed, &["--heartbeat", "0"]);
    std::fs::remove_dir_all(bed.root().join("test/c")).unwrap();
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let new = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &new);
    old.kill();
}

#[test]
fn a_reader_that_holds_everybody_runs_again_or_is_forgotten() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-FULL"));
    bed.run(&["send", "c", "--no-close", "--capacity", "4KiB"], b"x\n").code(0);
    bed.absent("slow", From::Latest);
    let full =
        |bed: &Bed| bed.run(&["send", "c", "--no-close", "--when-full", "error", "--capacity", "4KiB"], &lines(0..200));
    full(&bed).code(1).says("RW-PUSH-FULL");
    shows(&String::from_utf8(bed.run(&["ls"], b"").code(0).stdout).unwrap(), &["[slow]+"]);
    let kept: Value = serde_json::from_str(&entry.run(&bed, "ringward inspect CHANNEL --json")).unwrap();
    assert!(kept["readers"][0]["lag_records"].as_u64() > Some(0), "{kept}");
    let words = entry.words("ringward top", &[]);
    let top = text(bed.run(&[&words[0], "--once", "--interval", "10ms"], b"").code(0));
    shows(&top, &["RECORDS/S", "slow"]);
    // For a burst, a larger ring; not for what is always slower.
    let mut larger = entry.start(&bed, "ringward send CHANNEL --capacity 16MiB", &[]);
    larger.feed(&lines(0..200));
    larger.note("writing");
    bed.until("it has room", || bed.view()["next_sequence"].as_u64() > Some(200));
    larger.kill();
    let reader = entry.start(&bed, "ringward recv CHANNEL --durable --name NAME", &[("NAME", "slow")]);
    reader.note("joined");
    bed.until("it has caught up", || bed.view()["readers"][0]["lag_records"] == 0);
    reader.signal(Signal::SIGTERM);
    reader.wait().code(143);
    full(&bed).code(1).says("RW-PUSH-FULL");
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "slow")]);
    full(&bed).code(0);
}

#[test]
fn a_chain_that_is_full_is_shortened_by_its_reader() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-CHAIN"));
    let send = |line: &[u8]| bed.run(&["send", "c", "--no-close", "--chain", "3"], line);
    send(b"one\n").code(0);
    bed.absent("away", From::Oldest);
    send(b"two\n").code(0);
    send(b"three\n").code(0);
    send(b"four\n").code(1).says("RW-OPEN-CHAIN");
    let reader = entry.start(&bed, "ringward recv CHANNEL --durable --name NAME", &[("NAME", "away")]);
    reader.note("joined");
    bed.until("it has everything", || bed.view()["readers"][0]["next_sequence"] == 3);
    send(b"four\n").code(0);
    reader.kill();
    // Or it never comes back; or the chain is longer for the meantime.
    let full = (0..3).map(|_| send(b"more\n")).find(|ended| ended.status.code() != Some(0)).unwrap();
    full.code(1).says("RW-OPEN-CHAIN");
    let longer = entry.start(&bed, "ringward send CHANNEL --chain 128", &[]);
    longer.note("writing");
    longer.kill();
    send(b"six\n").code(1).says("RW-OPEN-CHAIN");
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "away")]);
    send(b"six\n").code(0);
    assert!(bed.view()["generations"].as_u64() < Some(3));
}

#[test]
fn two_would_be_owners_are_told_apart() {
    let (bed, entry) = (Bed::new(), entry("RW-OPEN-OWNED"));
    let first = writer(&bed, &[]);
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-OWNED").says(&first.pid().to_string());
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &[&format!("the writer is process {}", first.pid())]);
    let words = entry.words("ringward send CHANNEL --standby", &[]);
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.extend(["--events", "json"]);
    let second = bed.start(&args);
    first.kill();
    second.note("writing");
    live(&bed, &entry.run(&bed, "ringward ls"), &second);
}

#[test]
fn a_version_skew_is_told_and_nothing_is_touched() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/major.ring");
    let bytes = std::fs::read(fixture).unwrap();
    std::fs::write(bed.segment(1), &bytes).unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-SEG-MAJOR");
    let found = entry("RW-WD-INCOMPATIBLE").run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["incompatible", "2.0", "1.x"]);
    bed.run(&["clean", "--yes"], b"").code(0);
    assert_eq!(std::fs::read(bed.segment(1)).unwrap(), bytes);
    // Beside it goes another channel, for a release window: a name of its own.
    bed.run(&["send", "c-2"], b"x\n").code(0);
}

#[test]
fn what_is_not_ours_is_moved_away_by_its_owner() {
    let (bed, entry) = (Bed::new(), entry("RW-WD-FOREIGN"));
    bed.namespace();
    std::fs::write(bed.root().join("test/c"), b"somebody's").unwrap();
    shows(&entry.run(&bed, "ringward watch --once"), &["foreign"]);
    bed.run(&["clean", "--yes"], b"").code(0);
    assert!(bed.root().join("test/c").is_file());
    std::fs::rename(bed.root().join("test/c"), bed.root().join("moved")).unwrap();
    assert!(!entry.run(&bed, "ringward watch --once").contains("foreign"));
    let channel = Channel::new(&bed.namespace(), "c", Config::default()).unwrap();
    drop(channel.writer().unwrap());
}
