//! `check` and `dump` on golden segments and on channels; `tail`; `explain`.

use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use ringward_recovery::{Durability, From};
use serde_json::Value;

use crate::bed::{Bed, Ended, lines};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures")
}

/// `ringward` in the folder of golden segments.
fn golden(bed: &Bed, args: &[&str]) -> Ended {
    let mut command = bed.command(args);
    command.current_dir(fixtures());
    bed.spawn(command).end()
}

fn text(ended: Ended) -> String {
    String::from_utf8(ended.stdout).unwrap()
}

fn json(ended: Ended) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn check_says_what_is_remarkable_and_how_bad_it_is() {
    let bed = Bed::new();
    assert_snapshot!(text(golden(&bed, &["check", "./clean.ring"]).code(0)));
    assert_snapshot!(text(golden(&bed, &["check", "./torn-publish.ring"]).code(6)));
    assert_snapshot!(text(golden(&bed, &["check", "./gap.ring"]).code(5)));
    assert_snapshot!(text(golden(&bed, &["check", "./truncated-page.ring"]).code(5)));
    assert_snapshot!(text(golden(&bed, &["check", "./zero-page.ring"]).code(5)));
    assert_snapshot!(text(golden(&bed, &["check", "./flipped-position.ring", "--json"]).code(5)));
    // A name without a slash is a file where there is no such channel; a folder is all its segments.
    assert_snapshot!(text(golden(&bed, &["check", "clean.ring"]).code(0)));
    let all = json(golden(&bed, &["check", "./", "--json"]).code(5));
    let there = fixtures().read_dir().unwrap().flatten();
    let rings = there.filter(|entry| entry.path().extension().is_some_and(|end| end == "ring")).count();
    assert_eq!(all["segments"].as_array().unwrap().len(), rings);
}

/// Its place is carried into the second generation, with where it stood in the first.
#[test]
fn an_absent_reader_that_is_behind_is_nothing_remarkable() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], b"").code(0);
    bed.absent("away", From::Oldest);
    for round in 0..3 {
        bed.run(&["send", "c", "--no-close"], &lines(round * 9..round * 9 + 9)).code(0);
        assert!(text(bed.run(&["check", "c"], b"").code(0)).contains("nothing remarkable"));
    }
    bed.absent("away", From::Oldest);
    bed.run(&["check", "c"], b"").code(0);
}

#[test]
fn check_of_a_channel_in_use_reports_no_movement() {
    let bed = Bed::new();
    let mut send = bed.start(&["send", "c", "--readers", "1", "--capacity", "64KiB", "--events", "json"]);
    send.note("writing");
    let recv = bed.start(&["recv", "c", "--events", "json"]);
    recv.note("joined");
    for round in 0..10 {
        send.feed(&lines(round * 500..(round + 1) * 500));
        let ended = bed.run(&["check", "c"], b"");
        assert_ne!(ended.status.code(), Some(5), "{ended:?}");
    }
    send.end().code(0);
    recv.wait().code(0);
}

#[test]
fn check_finds_a_flipped_bit_in_a_living_channel() {
    use std::os::unix::fs::FileExt;
    let bed = Bed::new();
    let mut send = bed.start(&["send", "c", "--readers", "1", "--capacity", "4KiB", "--events", "json"]);
    send.note("writing");
    let reader = bed.channel().reader("slow", Durability::Durable, From::Latest).unwrap();
    send.feed(&lines(0..8));
    let next = || json(bed.run(&["ls", "--json"], b"").code(0))["channels"][0]["next_sequence"].clone();
    bed.until("8 records are there", || next() == 8);
    bed.run(&["check", "c"], b"").code(0);
    let pieces = json(bed.run(&["dump", "c", "--json"], b"").code(0));
    let third = &pieces["pieces"][3];
    assert_eq!((&third["piece"], third["sequence"].as_u64()), (&"record".into(), Some(3)));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(bed.segment(1)).unwrap();
    let at = third["offset"].as_u64().unwrap() + 24;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let found = json(bed.run(&["check", "c", "--json"], b"").code(5));
    let findings = found["segments"][0]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["id"], &findings[0]["severity"]), (&"RW-IMG-CRC".into(), &"damage".into()));
    drop(reader);
}

#[test]
fn dump_names_every_field_and_every_border() {
    let bed = Bed::new();
    assert_snapshot!(text(golden(&bed, &["dump", "./wrapped.ring"]).code(0)));
    assert_snapshot!(text(golden(&bed, &["dump", "./truncated-header.ring"]).code(0)));
    let wrapped = json(golden(&bed, &["dump", "./wrapped.ring", "--json"]).code(0));
    let pieces = wrapped["pieces"].as_array().unwrap();
    let at = pieces[1]["position"].as_u64().unwrap();
    // Inside a piece is that piece.
    let inside = text(golden(&bed, &["dump", "./wrapped.ring", "--at", &(at + 8).to_string()]).code(0));
    assert_snapshot!(inside);
    let painted =
        text(golden(&bed, &["dump", "./wrapped.ring", "--at", "0", "--pieces", "1", "--color", "always"]).code(0));
    assert!(painted.contains("\x1b[36m") && !inside.contains('\x1b'), "{painted}");
    golden(&bed, &["dump", "./wrapped.ring", "--at", "999999"]).code(3).says("ends at");
    golden(&bed, &["dump", "./none.ring"]).code(1).says("RW-CTL-SYSTEM");
    // The pieces cover what is readable without holes of their own.
    for pair in pieces.windows(2) {
        let end = pair[0]["position"].as_u64().unwrap() + pair[0]["length"].as_u64().unwrap();
        assert_eq!(Some(end), pair[1]["position"].as_u64());
    }
}

#[test]
fn dump_gets_over_every_golden_segment() {
    let bed = Bed::new();
    for entry in fixtures().read_dir().unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".ring") {
            golden(&bed, &["dump", &format!("./{name}")]).code(0);
            json(golden(&bed, &["dump", &format!("./{name}"), "--json"]).code(0));
        }
    }
}

#[test]
fn dump_chooses_a_generation() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], b"one\n").code(0);
    let keeper = bed.channel().reader("keeper", Durability::Durable, From::Oldest).unwrap();
    bed.run(&["send", "c", "--no-close"], b"two\n").code(0);
    let newest = text(bed.run(&["dump", "c"], b"").code(0));
    let older = text(bed.run(&["dump", "c", "--generation", "1"], b"").code(0));
    assert!(newest.contains("|two|") && older.contains("|one|") && older.contains("keeper"), "{newest}{older}");
    bed.run(&["dump", "c", "--generation", "7"], b"").code(3).says("1, 2");
    drop(keeper);
}

#[test]
fn tail_shows_the_newest_records_and_takes_no_place() {
    let bed = Bed::new();
    bed.run(&["tail", "c"], b"").code(1).says("RW-NS-MISSING");
    let mut send = bed.start(&["send", "c", "--type", "7", "--capacity", "64KiB", "--events", "json"]);
    send.note("writing");
    send.feed(b"one\nt\x1b[31mwo\nthr\xffee\n");
    let tail = |args: &[&str]| text(bed.run(&[&["tail", "c"], args].concat(), b"").code(0));
    bed.until("3 records are there", || tail(&[]).lines().count() == 3);
    assert_eq!(tail(&["-n", "2"]), "1  type 7  8 B  t\\u{1b}[31mwo\n2  type 7  6 B  thr\\xffee\n");
    assert_eq!(tail(&["--width", "2", "--count", "1"]), "0  type 7  3 B  on…\n");
    let line: Value = serde_json::from_str(&tail(&["--json", "-n", "1"])).unwrap();
    assert_eq!((&line["sequence"], &line["payload"], &line["text"]), (&2.into(), &"746872ff6565".into(), &Value::Null));
    let channel = json(bed.run(&["inspect", "c", "--json"], b"").code(0));
    assert_eq!(channel["readers"].as_array().unwrap().len(), 0);

    // Followed over a killed writer to the orderly close.
    let follow = bed.start(&["tail", "c", "--follow", "-n", "0", "--interval", "2ms", "--json"]);
    let killed = send.kill();
    assert!(killed.status.code().is_none());
    bed.run(&["send", "c", "--no-close"], b"four\n").code(0);
    bed.run(&["send", "c"], b"five\n").code(0);
    let followed = String::from_utf8(follow.wait().code(0).stdout).unwrap();
    let texts: Vec<Value> =
        followed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].clone()).collect();
    // It may have begun to look only after the last record, or have missed a generation that was unlinked in between.
    assert!(texts.iter().all(|text| text == "four" || text == "five"), "{texts:?}");
}

#[test]
fn explain_prints_the_entry() {
    let bed = Bed::new();
    let entry = text(bed.run(&["explain", "RW-WD-STALLED"], b"").code(0));
    for part in ["RW-WD-STALLED", "Meaning: ", "Impact: ", "Diagnose: ", "Mitigate: ", "Verify: "] {
        assert!(entry.contains(part), "no {part} in {entry}");
    }
    assert!(!entry.contains("](#") && !entry.contains("**"), "{entry}");
    assert_eq!(text(bed.run(&["explain", "wd-stalled"], b"").code(0)), entry);
    // One that refers to another says that one too.
    let gap = json(bed.run(&["explain", "rw-img-gap", "--json"], b"").code(0));
    assert_eq!((&gap["id"], &gap["as"]), (&"RW-IMG-GAP".into(), &"RW-IMG-CRC".into()));
    assert!(gap["entry"]["mitigate"].is_string(), "{gap}");
    bed.run(&["explain", "RW-WD-NONE"], b"").code(2).says("RW-WD-LIVE");
    let all = text(bed.run(&["explain"], b"").code(0));
    assert!(all.lines().count() > 100 && all.lines().all(|id| id.starts_with("RW-")), "{all}");
}
