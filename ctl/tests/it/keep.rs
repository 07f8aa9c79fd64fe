//! `snapshot` and `restore`.

use ringward_recovery::{Durability, From};
use serde_json::{Value, json};

use crate::bed::{Bed, frames, lines};

fn document(bed: &Bed, args: &[&str], code: i32) -> Value {
    let ended = bed.run(args, b"").code(code);
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Three generations with 4 records each; `half` has received 6 of them, `all` every one.
fn fill(bed: &Bed) {
    bed.run(&["send", "c", "--no-close", "--capacity", "64KiB", "--slots", "7", "--type", "3"], &lines(0..4)).code(0);
    let names = ["half", "all"];
    let places = names.map(|name| bed.channel().reader(name, Durability::Durable, From::Oldest).unwrap());
    drop(places);
    bed.run(&["send", "c", "--no-close", "--capacity", "64KiB", "--slots", "7"], &lines(4..8)).code(0);
    bed.run(&["send", "c", "--no-close", "--capacity", "64KiB", "--slots", "7"], &lines(8..12)).code(0);
    for (name, count) in [("half", "6"), ("all", "12")] {
        bed.run(&["recv", "c", "--durable", "--name", name, "--count", count], b"").code(0);
    }
}

#[test]
fn a_snapshot_becomes_a_channel_with_its_readers_where_they_were() {
    let bed = Bed::new();
    fill(&bed);
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    let taken = document(&bed, &["snapshot", "c", path, "--json"], 0);
    assert_eq!(
        (&taken["first_sequence"], &taken["last_sequence"], &taken["records"]),
        (&json!(6), &json!(11), &json!(6))
    );
    assert_eq!(taken["durable"], json!([["half", 6], ["all", 12]]));
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    bed.run(&["snapshot", "c", path], b"").code(1).says("RW-CTL-EXISTS");
    bed.run(&["snapshot", "c", path, "--force"], b"").code(0);
    bed.run(&["restore", path], b"").code(1).says("RW-CTL-EXISTS");
    bed.run(&["restore", path, "again", "--verify"], b"").code(0);
    assert!(!bed.root().join("test/again").exists());

    let restored = document(&bed, &["restore", path, "again", "--json"], 0);
    assert_eq!(restored["readers"], json!([["half", 0], ["all", 6]]));
    let view = document(&bed, &["inspect", "again", "--json"], 0);
    let seen = &view["chain"][0]["seen"];
    assert_eq!((&seen["capacity"], &seen["slots"], &seen["state"]), (&json!(64 << 10), &json!(7), &json!("open")));
    // Who had not received the rest gets it, byte for byte; the next writer goes on behind it.
    bed.run(&["send", "again", "--no-close"], b"more\n").code(0);
    let got = bed.run(&["recv", "again", "--durable", "--name", "half", "--framed", "--count", "7"], b"").code(0);
    let (got, torn) = frames(&got.stdout);
    let payloads: Vec<Vec<u8>> = got.iter().map(|frame| frame.payload.clone()).collect();
    let mut sent: Vec<Vec<u8>> = lines(6..12).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    sent.pop();
    sent.push(b"more".to_vec());
    assert_eq!((payloads, torn), (sent, 0));
    let got = bed.run(&["recv", "again", "--durable", "--name", "all", "--count", "1", "--newline"], b"").code(0);
    assert_eq!(got.stdout, b"more\n");
}

#[test]
fn all_of_it_with_types_and_over_generations() {
    let bed = Bed::new();
    fill(&bed);
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    let taken = document(&bed, &["snapshot", "c", path, "--json", "--all"], 0);
    // Generation 1 is drained by both and may be gone; what is there is in the snapshot.
    let first = taken["first_sequence"].as_u64().unwrap();
    assert_eq!(taken["records"].as_u64().unwrap(), 12 - first);
    document(&bed, &["restore", path, "again", "--json"], 0);
    let view = document(&bed, &["inspect", "again", "--json"], 0);
    assert_eq!(view["next_sequence"].as_u64().unwrap(), 12 - first);
}

#[test]
fn a_damaged_snapshot_is_refused_and_a_hole_in_the_channel_told() {
    use std::os::unix::fs::FileExt;
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close", "--capacity", "4KiB"], &lines(0..5)).code(0);
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    bed.run(&["snapshot", "c", path], b"").code(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, &bytes).unwrap();
    bed.run(&["restore", path, "again"], b"").code(1).says("RW-CTL-SNAPSHOT");
    std::fs::write(&file, b"hello").unwrap();
    bed.run(&["restore", path, "again"], b"").code(1).says("RW-CTL-SNAPSHOT");
    assert!(!bed.root().join("test/again").exists());

    let dump = document(&bed, &["dump", "c", "--json"], 0);
    let at = dump["pieces"][2]["offset"].as_u64().unwrap() + 30;
    let segment = std::fs::OpenOptions::new().write(true).open(bed.segment(1)).unwrap();
    segment.write_all_at(&[0xff; 4], at).unwrap();
    let taken = document(&bed, &["snapshot", "c", path, "--force", "--json"], 4);
    assert_eq!((&taken["lost"], &taken["records"], &taken["lost_unknown"]), (&json!(1), &json!(4), &json!(false)));
}

/// Whatever stands in its way, it says so with an id.
#[test]
fn every_failure_of_a_snapshot_has_an_id() {
    let bed = Bed::new();
    let namespace = bed.namespace();
    let file = bed.root().join("kept");
    let path = file.to_str().unwrap();
    let fails = |channel: &str, code: i32, id: &str| {
        let ended = bed.run(&["snapshot", channel, path], b"").code(code);
        assert!(ended.stderr.contains(&format!("[{id}]")), "{channel}: {}", ended.stderr);
        assert!(!file.exists());
    };
    fails("none", 1, "RW-OPEN-MISSING");
    let dir = |name: &str| {
        let dir = namespace.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir.join("00000001.ring")
    };
    dir("empty");
    fails("empty", 3, "RW-OPEN-MISSING");
    std::os::unix::fs::symlink("/etc/passwd", dir("link")).unwrap();
    fails("link", 1, "RW-SEG-OPEN");
    std::fs::create_dir(dir("folder")).unwrap();
    fails("folder", 1, "RW-SEG-OPEN");
    for (name, bytes) in [("short", vec![0; 12]), ("zeros", vec![0; 4096])] {
        let segment = dir(name);
        std::fs::write(&segment, bytes).unwrap();
        std::fs::set_permissions(&segment, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fails(name, 1, if name == "short" { "RW-SEG-SHORT" } else { "RW-SEG-MAGIC" });
    }
    std::fs::write(namespace.path().join("file"), b"x").unwrap();
    fails("file", 1, "RW-OPEN-SQUAT");
    bed.run(&["send", "c", "--no-close", "--capacity", "4KiB"], &lines(0..2)).code(0);
    let nowhere = bed.root().join("no/such/folder");
    bed.run(&["snapshot", "c", nowhere.to_str().unwrap()], b"").code(1).says("[RW-CTL-OUTPUT]");
    bed.run(&["snapshot", "c", "/"], b"").code(1).says("[RW-CTL-EXISTS]");
}
