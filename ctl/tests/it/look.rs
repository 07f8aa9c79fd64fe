//! `ls`, `inspect` and `watch`.

use ringward_recovery::{Durability, From};
use serde_json::Value;

use crate::bed::{Bed, lines};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

#[test]
fn ls_and_inspect_tell_who_is_where() {
    let bed = Bed::new();
    let mut send = bed.start(&["send", "c", "--readers", "1", "--capacity", "64KiB", "--events", "json"]);
    send.note("writing");
    let mut reader = bed.channel().reader("slow", Durability::Durable, From::Latest).unwrap();
    send.feed(&lines(0..10));
    let mut buf = [0; 128];
    for _ in 0..4 {
        reader.recv(&mut buf, std::time::Duration::from_secs(60)).unwrap().unwrap();
    }
    reader.release();
    let ls = || json(&bed.run(&["ls", "--json"], b"").code(0).stdout);
    bed.until("10 records are there", || ls()["channels"][0]["next_sequence"] == 10);
    let document = ls();
    assert_eq!(document["namespace"], "test");
    let channel = &document["channels"][0];
    assert_eq!(channel["channel"], "c");
    assert_eq!((&channel["verdict"], &channel["verdict_id"]), (&"live".into(), &"RW-WD-LIVE".into()));
    assert_eq!((channel["generation"].as_u64(), channel["generations"].as_u64()), (Some(1), Some(1)));
    assert_eq!(channel["owner"]["pid"], send.pid());
    assert_eq!((&channel["owner"]["whereabouts"], &channel["owner"]["lock_held"]), (&"here".into(), &true.into()));
    assert!(channel["memory"].as_u64().unwrap() > 64 << 10);
    let slow = &channel["readers"][0];
    assert_eq!((&slow["name"], &slow["kind"], &slow["lock_held"]), (&"slow".into(), &"durable".into(), &true.into()));
    assert_eq!((slow["next_sequence"].as_u64(), slow["lag_records"].as_u64()), (Some(4), Some(6)));
    assert!(slow["lag_bytes"].as_u64().unwrap() >= 6 * 32);
    let words = String::from_utf8(bed.run(&["ls"], b"").code(0).stdout).unwrap();
    assert!(words.contains("live") && words.contains("slow+6"), "{words}");

    // A killed sender, and one more generation: the lag runs over both.
    send.kill();
    drop(reader);
    bed.run(&["send", "c", "--no-close"], &lines(10..13)).code(0);
    let document = json(&bed.run(&["inspect", "c", "--json"], b"").code(0).stdout);
    assert_eq!(document["chain"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&document["chain"][0]["seen"]["state"], &document["chain"][0]["seen"]["end"]),
        (&"succeeded".into(), &"at".into())
    );
    assert_eq!(document["chain"][0]["seen"]["successor"], document["chain"][1]["seen"]["segment"]);
    assert_eq!(document["chain"][1]["seen"]["predecessor"], document["chain"][0]["seen"]["segment"]);
    assert_eq!((&document["readers"][0]["lag_records"], &document["readers"][0]["generation"]), (&9.into(), &1.into()));
    let words = String::from_utf8(bed.run(&["inspect", "c"], b"").code(0).stdout).unwrap();
    for part in [
        "draining",
        "the writer lock is free",
        "slow (durable): nobody holds its byte",
        "9 records",
        "generation 2: open",
    ] {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }
}

#[test]
fn ls_and_inspect_get_over_what_they_cannot_read() {
    let bed = Bed::new();
    bed.run(&["send", "c"], b"x\n").code(0);
    std::fs::OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(12).unwrap();
    std::fs::create_dir(bed.root().join("test/empty")).unwrap();
    std::fs::write(bed.root().join("test/file"), b"no channel").unwrap();
    let document = json(&bed.run(&["ls", "--json"], b"").code(0).stdout);
    let verdicts: Vec<(&str, &str)> = document["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|channel| (channel["channel"].as_str().unwrap(), channel["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(verdicts[0], ("c", "truncated"));
    assert_eq!((verdicts[1].0, verdicts[2]), ("empty", ("file", "foreign")));
    for channel in ["c", "empty", "file"] {
        bed.run(&["inspect", channel], b"").code(0);
        json(&bed.run(&["inspect", channel, "--json"], b"").code(0).stdout);
    }
    bed.run(&["inspect", "none"], b"").code(1).says("RW-OPEN-MISSING");
    bed.run(&["ls"], b"").code(0);
}

#[test]
fn a_namespace_that_is_not_there_is_said_so() {
    let bed = Bed::new();
    for args in [&["ls"][..], &["inspect", "c"], &["watch", "--once"]] {
        bed.run(args, b"").code(1).says("RW-NS-MISSING");
    }
    bed.run(&["recv", "c", "--wait", "30ms"], b"").code(3).says("RW-OPEN-MISSING");
}

#[test]
fn watch_takes_away_what_is_nobodys_and_only_that() {
    let bed = Bed::new();
    bed.run(&["send", "old"], b"x\n").code(0);
    let send = bed.start(&["send", "c", "--events", "json"]);
    send.note("writing");
    let once = |more: &[&str]| -> Vec<Value> {
        let args = [&["watch", "--once", "--json", "--grace", "0"][..], more].concat();
        let out = bed.run(&args, b"").code(0).stdout;
        String::from_utf8(out).unwrap().lines().map(|line| json(line.as_bytes())).collect()
    };
    let report = once(&[]);
    assert_eq!(report.len(), 2, "{report:?}");
    assert_eq!((&report[0]["channel"], &report[0]["verdict"]), (&"c".into(), &"live".into()));
    assert_eq!((&report[1]["channel"], &report[1]["done"]), (&"old".into(), &"nothing".into()));
    let reclaimed = once(&["--mode", "reclaim"]);
    assert_eq!((&reclaimed[1]["channel"], &reclaimed[1]["done"]), (&"old".into(), &"reclaimed".into()));
    assert!(!bed.root().join("test/old").exists() && bed.root().join("test/c").exists());

    let watch = bed.start(&["watch", "--json", "--interval", "10ms", "--grace", "0", "--mode", "quarantine"]);
    send.end().code(0);
    bed.until("it is quarantined", || !bed.root().join("test/c").exists());
    watch.signal(nix::sys::signal::Signal::SIGTERM);
    let watched = watch.wait().code(143);
    let last = String::from_utf8(watched.stdout).unwrap().lines().last().map(|line| json(line.as_bytes())).unwrap();
    assert_eq!((&last["channel"], &last["done"]), (&"c".into(), &"quarantined".into()));
}

#[test]
fn a_silent_writer_shows_as_stalled_to_who_looks_long_enough() {
    let bed = Bed::new();
    let send = bed.start(&["send", "c", "--events", "json"]);
    send.note("writing");
    send.signal(nix::sys::signal::Signal::SIGSTOP);
    let document = json(&bed.run(&["ls", "--json", "--sample", "2500ms"], b"").code(0).stdout);
    assert_eq!(document["channels"][0]["verdict"], "stalled");
}
