//! What readers, writers and standbys say.

use std::os::unix::fs::FileExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use ringward_recovery::{Durability, Event, From};
use ringward_ring::checksum::crc32c;
use ringward_ring::layout::IDENTITY_LEN;
use serde_json::Value;

use super::common::{LIMIT, Small, leak, shell, text};
use super::{entry, live, shows, stop, writer};
use crate::bed::{Bed, Tool, frames, lines};

fn receiver(bed: &Bed, args: &[&str]) -> Tool {
    bed.start(&[&["recv", "c", "--newline", "--events", "json"], args].concat())
}

#[test]
fn a_dead_writer_is_told_to_its_readers_and_who_follows_too() {
    let (bed, gone, restarted) = (Bed::new(), entry("RW-EV-GONE"), entry("RW-EV-RESTARTED"));
    let recv = receiver(&bed, &["--durable", "--name", "d"]);
    let mut first = writer(&bed, &["--readers", "1"]);
    first.feed(&lines(0..3));
    bed.until_next(3);
    let pid = first.pid();
    first.kill();
    assert_eq!(recv.note("gone")["id"], "RW-EV-GONE");
    let found = gone.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &[&format!("process {pid} was the writer: it is gone, and the writer lock is free")]);
    let mut next = gone.start(&bed, "ringward send CHANNEL --standby", &[]);
    assert_eq!(next.note("writing")["next"], 3);
    assert_eq!(recv.note("restarted")["id"], "RW-EV-RESTARTED");
    let found = restarted.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &[&format!("the writer is process {}: it is here", next.pid())]);
    next.feed(&lines(3..5));
    live(&bed, &restarted.run(&bed, "ringward ls"), &next);
    next.end().code(0);
    let recv = recv.wait().code(0);
    assert_eq!(recv.stdout, lines(0..5));
    // Told once for a generation.
    assert_eq!((recv.notes("gone").len(), recv.notes("restarted").len()), (1, 1));
}

#[test]
fn in_a_crash_loop_readers_are_left_alone_and_lose_nothing() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-RESTARTED"));
    let recv = receiver(&bed, &["--durable", "--name", "d"]);
    for n in 0..3 {
        let mut dies = writer(&bed, &["--readers", "1"]);
        assert_eq!(dies.note("writing")["next"], n);
        dies.feed(&lines(n..n + 1));
        bed.until_next(n + 1);
        dies.kill();
    }
    let generation = || entry.run(&bed, "ringward ls").lines().nth(1).unwrap().split("  ").nth(2).unwrap().to_owned();
    let mut last = writer(&bed, &[]);
    last.feed(&lines(3..4));
    bed.until_next(4);
    bed.until("it has everything", || bed.view()["readers"][0]["next_sequence"] == 4);
    assert_eq!((bed.view()["generation"].as_u64(), generation()), (Some(4), generation()));
    last.end().code(0);
    let recv = recv.wait().code(0);
    assert_eq!((recv.stdout, recv.stderr.matches("RW-EV-RESTARTED").count()), (lines(0..4), 3));
}

#[test]
fn an_orderly_life_says_little_and_its_numbers_agree() {
    let bed = Bed::new();
    let recv = bed.start(&["recv", "c", "--framed", "--events", "json"]);
    let mut send = writer(&bed, &["--readers", "1"]);
    let joined = recv.note("joined");
    assert_eq!((&joined["id"], &joined["next"]), (&"RW-EV-JOINED".into(), &0.into()));
    assert_eq!(send.note("writing")["id"], "RW-EV-WRITING");
    send.feed(&lines(0..7));
    let (send, recv) = (send.end().code(0), recv.wait().code(0));
    let done = &send.notes("done")[0];
    assert_eq!(done["id"], "RW-EV-DONE");
    let (got, _) = frames(&recv.stdout);
    assert_eq!(done["next"], got.last().unwrap().sequence + 1);
    shows(entry("RW-EV-DONE").text, &["compare `next` with the receivers' last number, plus one"]);
    // Every event has an id; of a record no tool says so.
    assert_eq!(Event::Record { sequence: 0, record_type: 0, len: 0, redelivered: false }.id(), "RW-EV-RECORD");
    assert!(!recv.stderr.contains("RW-EV-RECORD") && !send.stderr.contains("RW-EV-RECORD"));
    shows(entry("RW-EV-RECORD").text, &["no tool prints it"]);
    assert_eq!(recv.notes("closed")[0]["id"], "RW-EV-CLOSED");
    shows(&entry("RW-EV-CLOSED").run(&bed, "ringward inspect CHANNEL"), &["generation 1: closed"]);
    // In words nobody is told.
    for id in ["RW-EV-JOINED", "RW-EV-WRITING", "RW-EV-DONE"] {
        shows(entry(id).text, &["Only with `--events json`"]);
    }
    let recv = bed.start(&["recv", "d"]);
    let send = bed.run(&["send", "d", "--readers", "1"], b"x\n").code(0);
    assert_eq!((send.stderr, recv.wait().code(0).stderr), (String::new(), String::new()));
    entry("RW-EV-JOINED");
    entry("RW-EV-WRITING");
}

#[test]
fn a_reader_that_waits_at_a_closed_channel_goes_over_to_the_next_writer() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-CLOSED"));
    let send = writer(&bed, &[]);
    let mut reader = bed.channel().reader("d", Durability::Durable, From::Latest).unwrap();
    send.end().code(0);
    let mut buf = [0; 64];
    assert_eq!(reader.recv(&mut buf, LIMIT).unwrap(), Some(Event::Closed { generation: 1 }));
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["generation 1: closed"]);
    let _next = writer(&bed, &[]);
    assert_eq!(reader.recv(&mut buf, LIMIT).unwrap(), Some(Event::Restarted { old: 1, new: 2 }));
}

#[test]
fn a_record_in_the_hands_of_a_killed_receiver_comes_again_and_is_applied_once() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-REDELIVERED"));
    // Larger than a pipe that nobody reads: the receiver is stuck in the write of it.
    let (reading, writing) = std::io::pipe().unwrap();
    let mut command = bed.command(&["recv", "c", "--durable", "--name", "d"]);
    command.stdout(writing).stdin(Stdio::null());
    let recv = bed.spawn(command);
    let bytes = vec![7; 300_000];
    bed.run(&["send", "c", "--readers", "1", "--frame", "chunk:300000", "--no-close"], &bytes).code(0);
    bed.until("it has it in hand", || {
        bed.channel().inspect().unwrap()[0].seen.as_ref().unwrap().readers[0].1.taken == 1
    });
    recv.kill();
    drop(reading);
    let (kept, file) = (bed.root().join("kept"), bed.root().join("frames"));
    // It is still unread.
    let kept = [("FILE", kept.to_str().unwrap())];
    shows(&entry.run_with(&bed, "ringward snapshot CHANNEL FILE", &kept), &["1 record"]);
    let once = "ringward recv CHANNEL --durable --name NAME --framed --output FILE";
    let more = [("NAME", "d"), ("FILE", file.to_str().unwrap())];
    let again = entry.start(&bed, once, &more);
    let told = again.note("redelivered");
    assert_eq!((&told["id"], &told["sequence"]), (&"RW-EV-REDELIVERED".into(), &0.into()));
    bed.until("it is applied", || std::fs::metadata(&file).is_ok_and(|file| file.len() == 300_016));
    bed.run(&["send", "c"], b"on\n").code(0);
    let again = again.wait().code(0);
    assert_eq!(again.notes("redelivered").len(), 1, "no more than were in hand");
    let (got, torn) = frames(&std::fs::read(&file).unwrap());
    assert_eq!((got.len(), torn, &got[1].payload[..]), (2, 0, &b"on"[..]));
}

#[test]
fn a_loss_is_told_with_its_numbers_and_can_be_sent_again() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-GAP"));
    bed.run(&["send", "c", "--no-close", "--capacity", "4KiB"], &lines(0..5)).code(0);
    bed.absent("d", From::Oldest);
    let dump: Value = serde_json::from_slice(&bed.run(&["dump", "c", "--json"], b"").code(0).stdout).unwrap();
    let at = dump["pieces"][2]["offset"].as_u64().unwrap() + 30;
    bed.store(at, &[0xff; 4]);
    assert_eq!(entry.ended(&bed, "ringward check CHANNEL", &[], b"").status.code(), Some(5));
    let d = ["--durable", "--name", "d"];
    let recv = receiver(&bed, &d);
    let gap = recv.note("gap");
    let said = (&gap["id"], &gap["from"], &gap["count"], &gap["reason"]);
    assert_eq!(said, (&"RW-EV-GAP".into(), &2.into(), &1.into(), &"corrupt".into()));
    let all = lines(0..5);
    let lost = all.split_inclusive(|byte| *byte == b'\n').nth(2).unwrap();
    // From its source, that record again; the next run has nothing to complain of.
    bed.run(&["send", "c"], lost).code(0);
    let recv = recv.wait().code(4);
    assert_eq!((recv.notes("gap").len(), recv.stdout.ends_with(lost)), (1, true));
    bed.run(&["send", "c"], b"x\n").code(0);
    assert_eq!(receiver(&bed, &d).wait().code(0).stdout, b"x\n");
}

#[test]
fn a_silence_is_told_once_by_readers_and_standbys_and_ends_with_it() {
    let (bed, rest) = (Bed::new(), entry("RW-WD-STALLED"));
    shows(entry("RW-EV-STALLED").text, &["**The rest:** as [RW-WD-STALLED]", "Told once for each silence"]);
    let send = writer(&bed, &[]);
    let recv = receiver(&bed, &[]);
    let standby = bed.start(&["send", "c", "--standby", "--events", "json"]);
    recv.note("joined");
    standby.note("waiting");
    stop(&bed, &send);
    assert_eq!(recv.note("stalled")["id"], "RW-EV-STALLED");
    assert_eq!(standby.note("stuck")["id"], "RW-EV-STALLED");
    shows(&rest.run(&bed, "ringward inspect CHANNEL --sample 3s"), &["RW-WD-STALLED"]);
    send.signal(Signal::SIGCONT);
    shows(&rest.run(&bed, "ringward ls --sample 3s"), &["live"]);
    let standby = standby.kill();
    assert_eq!((recv.kill().notes("stalled").len(), standby.notes("stuck").len()), (1, 1));
}

#[test]
fn a_standby_without_room_is_cold_and_takes_over_all_the_same() {
    let (outer, entry) = (Bed::new(), entry("RW-EV-COLD"));
    let Some(small) = Small::new(&outer, "12m") else { return };
    let bed = Bed::within(&small.path, LIMIT);
    let ballast = bed.root().join("ballast");
    std::fs::write(&ballast, vec![1; 5 << 20]).unwrap();
    let size = ["--capacity", "4MiB"];
    let large = || {
        let first = bed.start(&["send", "c", "--capacity", "4MiB", "--events", "json"]);
        first.note("writing");
        first
    };
    let first = large();
    let standby = |command: &str| {
        let words = entry.words(command, &[]);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(size).chain(["--events", "json"]).collect();
        bed.start(&words)
    };
    let cold = standby("ringward send CHANNEL --standby --cold");
    cold.note("waiting");
    let hot = bed.start(&["send", "c", "--standby", "--capacity", "4MiB", "--events", "json"]);
    let told = hot.note("cold");
    assert_eq!(told["id"], "RW-EV-COLD");
    shows(told["why"].as_str().unwrap(), &["RW-BUILD-SPACE"]);
    assert!(entry.text.contains("`df -h /dev/shm`"));
    shows(&small.within(&outer, &["df", "-h"]), &["12M"]);
    // On purpose, nobody complains.
    cold.signal(Signal::SIGTERM);
    assert!(cold.wait().code(143).notes("cold").is_empty());
    let free = || bed.namespace().free_bytes().unwrap();
    std::fs::remove_file(&ballast).unwrap();
    first.kill();
    hot.note("writing");
    hot.end().code(0);
    // With room it has its segment ready, and says nothing.
    bed.run(&["clean", "--yes"], b"").code(0);
    let first = large();
    let before = free();
    let hot = bed.start(&["send", "c", "--standby", "--capacity", "4MiB", "--events", "json"]);
    bed.until("it is hot", || free() + (4 << 20) <= before);
    first.kill();
    hot.note("writing");
    assert!(hot.end().code(0).notes("cold").is_empty());
}

#[test]
fn a_standby_that_goes_on_without_the_lock_says_whose_it_is() {
    let (bed, rest) = (Bed::new(), entry("RW-WD-LEAKED"));
    shows(entry("RW-EV-LEAK").text, &["**The rest:** as [RW-WD-LEAKED]", "`--verbose`"]);
    let owner = writer(&bed, &[]);
    let gone = owner.pid().to_string();
    let _holder = leak(&bed, owner);
    shows(&rest.run(&bed, "ringward inspect CHANNEL"), &["a leaked descriptor"]);
    let standby = bed.start(&["send", "c", "--standby", "--verbose", "--events", "json"]);
    shows(&standby.line("[RW-EV-LEAK]"), &[&gone]);
    standby.note("writing");
    live(&bed, &rest.run(&bed, "ringward ls"), &standby);
}

/// Where the owner's boot id lies in the identity.
const BOOT_AT: usize = 120;

/// Makes a generation one that was written before the machine was last started: what stands in for a reboot.
pub(super) fn reboot(bed: &Bed, generation: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(bed.segment(generation)).unwrap();
    let mut identity = [0u8; IDENTITY_LEN];
    file.read_exact_at(&mut identity, 0).unwrap();
    for byte in &mut identity[BOOT_AT..BOOT_AT + 16] {
        *byte ^= 0x5a;
    }
    let crc = crc32c(&identity[..IDENTITY_LEN - 4]).to_le_bytes();
    identity[IDENTITY_LEN - 4..].copy_from_slice(&crc);
    file.write_all_at(&identity, 0).unwrap();
}

#[test]
fn after_a_reboot_readers_get_what_checks_then_a_gap_of_unknown_size() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-REBOOTED"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    bed.absent("d", From::Oldest);
    reboot(&bed, 1);
    shows(entry.text, &["`--verbose`"]);
    let next = bed.start(&["send", "c", "--verbose", "--events", "json"]);
    next.line("[RW-EV-REBOOTED]");
    assert_eq!(next.note("writing")["next"], 1u64 << 48);
    assert!(!text(shell(&entry, &bed, "uptime -s", &[]).code(0)).is_empty());
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["nobody knows where that ended"]);
    let recv = receiver(&bed, &["--durable", "--name", "d"]);
    let gap = recv.note("gap");
    assert_eq!((&gap["id"], &gap["from"], &gap["count"]), (&"RW-EV-GAP".into(), &3.into(), &Value::Null));
    recv.note("restarted");
    next.end().code(0);
    // Numbers fit no input any more.
    bed.run(&["send", "c", "--resume", "--no-close"], &lines(0..5)).code(1).says("RW-CTL-RESUME");
    bed.run(&["send", "c"], b"again\n").code(0);
    let recv = recv.wait().code(4);
    assert!(recv.stdout.starts_with(&lines(0..3)), "{recv:?}");
}

#[test]
fn behind_a_generation_that_was_removed_the_next_writer_goes_on() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-LOST"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    bed.absent("d", From::Oldest);
    bed.run(&["send", "c", "--no-close"], &lines(3..5)).code(0);
    std::fs::remove_file(bed.segment(2)).unwrap();
    shows(entry.text, &["`--verbose`"]);
    let mut next = bed.start(&["send", "c", "--verbose", "--events", "json"]);
    next.line("[RW-EV-LOST]");
    assert_eq!(next.note("writing")["next"], 1u64 << 49);
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["generation 3: open", "follows by name alone", "generation 1: succeeded"]);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    let recv = receiver(&bed, &["--durable", "--name", "d"]);
    let gap = recv.note("gap");
    assert_eq!((&gap["from"], &gap["count"]), (&3.into(), &Value::Null));
    // From its source, what was lost.
    next.feed(&lines(3..5));
    next.end().code(0);
    let recv = recv.wait().code(4);
    assert_eq!((recv.stdout, recv.stderr.matches("RW-EV-GAP").count()), (lines(0..5), 1));
    bed.until("nothing of it stays", || bed.view()["generations"] == 1);
}

#[test]
fn a_sender_that_heals_says_so_and_goes_on_in_a_newer_generation() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-HEALED"));
    let recv = bed.start(&["recv", "c", "--framed", "--events", "json"]);
    let mut send = writer(&bed, &["--heal", "--readers", "1"]);
    send.feed(&lines(0..3));
    bed.until_next(3);
    std::fs::OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(100).unwrap();
    send.feed(&lines(3..5));
    let told = send.note("healed");
    assert_eq!((&told["id"], &told["generation"]), (&"RW-EV-HEALED".into(), &2.into()));
    assert!(!told["why"].as_str().unwrap().is_empty());
    bed.until_next(5);
    let verify = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&verify, &["verdict: live", "generation 2: open"]);
    let (next, recv) = (send.end().notes("done")[0]["next"].clone(), recv.wait());
    assert_eq!(next, 5, "each line counts as written");
    // Around `perhaps_lost`, received or told.
    let lost: u64 = recv.notes("gap").iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
    assert_eq!(frames(&recv.stdout).0.len() as u64 + lost, 5, "{recv:?}");
}

#[test]
fn who_waits_says_for_what_and_goes_on_when_it_comes() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-WAITING"));
    let recv = entry.start(&bed, "ringward recv CHANNEL --wait 30s", &[]);
    let waiting = recv.note("waiting");
    assert_eq!(waiting["id"], "RW-EV-WAITING");
    shows(waiting["what"].as_str().unwrap(), &["there is no channel", "RW-OPEN-MISSING"]);
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let send = writer(&bed, &["--readers", "2"]);
    recv.note("joined");
    shows(send.note("waiting")["what"].as_str().unwrap(), &["1 of 2 readers are registered"]);
    shows(&entry.run(&bed, "ringward ls"), &["live"]);
    let second = bed.start(&["recv", "c"]);
    send.end().code(0);
    for recv in [recv, second] {
        recv.wait().code(0);
    }
    // Bounded, it gives up.
    bed.run(&["recv", "none", "--wait", "10ms"], b"").code(3).says("RW-OPEN-MISSING");
}

/// The file is left as by a receiver that was killed inside a write: with half of the next frame at its end.
#[test]
fn half_a_frame_is_cut_off_and_its_record_comes_again() {
    let (bed, entry) = (Bed::new(), entry("RW-EV-TORN"));
    let file = bed.root().join("frames");
    let recv = ["recv", "c", "--durable", "--name", "d", "--framed", "--output", file.to_str().unwrap()];
    let first = bed.start(&recv);
    bed.run(&["send", "c", "--readers", "1"], &lines(0..3)).code(0);
    first.wait().code(0);
    let whole = std::fs::read(&file).unwrap();
    let frame = [&3u64.to_le_bytes()[..], &0u32.to_le_bytes(), &6u32.to_le_bytes(), b"ano"].concat();
    std::fs::write(&file, [&whole[..], &frame].concat()).unwrap();
    bed.run(&["send", "c"], b"anothr\n").code(0);
    bed.run(&recv, b"").code(0).says(&format!("cut off the {} bytes of a torn frame [RW-EV-TORN]", frame.len()));
    let (got, torn) = frames(&std::fs::read(&file).unwrap());
    assert_eq!((got.len(), torn, got[3].sequence), (4, 0, 3), "{}", entry.text);
    let aside = bed.root().join("frames.torn");
    assert!(!aside.exists());
    // With no whole frame in front of them nothing proves what they are.
    std::fs::write(&file, b"half a fra").unwrap();
    bed.run(&["send", "c"], b"x\n").code(0);
    bed.run(&recv, b"").code(0).says("[RW-EV-TORN]");
    assert_eq!(std::fs::read(&aside).unwrap(), b"half a fra");
}
