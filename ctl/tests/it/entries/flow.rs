//! What senders and receivers are told while records flow.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringward_recovery::{Channel, Config, Durability, Event, From, Heal, Reader, ReceiveError, SendError};
use ringward_ring::layout::{CURSOR_AT, SUCCESSION_AT};
use ringward_ring::reader::{Reader as SegmentReader, RecvError};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::table::{ReaderCard, ReaderName};
use ringward_ring::word::Kind;
use ringward_ring::writer::PushError;

use super::common::{LIMIT, Small, prints, retried, skip};
use super::{entry, live, rest, says, shows, stop, writer};
use crate::bed::{Bed, frames, lines};

const LONG: Duration = Duration::from_secs(60);
/// Where the state word and the writer's cursor lie.
const STATE: u64 = SUCCESSION_AT as u64;
const CURSOR: u64 = CURSOR_AT as u64;

/// A channel whose writer promises no beats, so that nothing but a push looks at its memory.
fn silent(bed: &Bed) -> Channel {
    let config = Config::default().capacity(64 << 10).beat_interval(Duration::ZERO);
    Channel::new(&bed.namespace(), "c", config).unwrap()
}

/// Until something of a kind comes; a reader that stands still fails by the time limit.
fn event(reader: &mut Reader, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = reader.recv(&mut [0; 256], LONG).unwrap().expect("nothing comes");
        if wanted(&event) {
            return event;
        }
    }
}

#[test]
fn a_record_over_the_limit_is_not_sent_and_a_larger_ring_takes_it() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-SIZE"));
    let record = [b'x'; 5000];
    bed.run(&["send", "c", "--no-close", "--capacity", "4KiB"], &record).code(1).says("[RW-PUSH-SIZE]").says("2024");
    assert_eq!(bed.view()["next_sequence"], 0, "nothing was written");
    // A program is told both numbers.
    let mut small =
        Channel::new(&bed.namespace(), "small", Config::default().capacity(4096)).unwrap().writer().unwrap();
    shows(&small.push(0, &record).unwrap_err().to_string(), &["5000", "2024", "[RW-PUSH-SIZE]"]);
    small.push(0, &record[..2024]).unwrap();
    let mut sender = entry.start(&bed, "ringward send CHANNEL --capacity 4MiB", &[]);
    sender.feed(&record);
    sender.feed(b"\n");
    bed.until_next(1);
    sender.end().code(0);
}

#[test]
fn a_writer_that_was_superseded_is_over_and_the_record_goes_into_the_next_generation() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-FENCED"));
    let mut old = writer(&bed, &[]);
    old.feed(b"early\n");
    bed.until_next(1);
    let mut reader = bed.channel().reader("d", Durability::Durable, From::Oldest).unwrap();
    stop(&bed, &old);
    bed.run(&["supersede", "c", "--yes"], b"").code(0);
    old.signal(Signal::SIGCONT);
    old.feed(b"late\n");
    let pid = old.pid();
    old.wait().code(1).says("[RW-PUSH-FENCED]");
    let found = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&found, &["generation 2: open", "generation 1: succeeded", &format!("process {pid} was the writer")]);
    // Pushed again, it is delivered once: nobody has seen the refused one.
    let mut next = writer(&bed, &["--no-close"]);
    next.feed(b"late\n");
    bed.until_next(2);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    let records: Vec<u64> = (0..2)
        .map(|_| match event(&mut reader, |event| matches!(event, Event::Record { .. } | Event::Gap { .. })) {
            Event::Record { sequence, .. } => sequence,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(records, [0, 1]);
    next.end().code(0);
}

#[test]
fn a_writer_whose_file_was_cut_is_told_and_one_that_heals_goes_on() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-TRUNCATED"));
    let mut cut = writer(&bed, &["--no-close"]);
    cut.feed(b"one\n");
    bed.until_next(1);
    OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(100).unwrap();
    bed.until("it is told", || {
        cut.feed(b"more\n");
        !cut.running()
    });
    cut.wait().code(1).says("[RW-PUSH-TRUNCATED]");
    let command = "ls -l /dev/shm/ringward-$(id -u)/CHANNEL";
    let found = prints(&entry, &bed, command, &[]);
    assert!(found.lines().any(|line| line.contains(" 100 ") && line.ends_with("00000001.ring")), "{found}");
    // The next one heals by itself when it is cut.
    let mut healing = entry.start(&bed, "ringward send --heal CHANNEL", &[]);
    healing.note("writing");
    let generation = bed.view()["generation"].as_u64().unwrap();
    OpenOptions::new().write(true).open(bed.segment(generation)).unwrap().set_len(0).unwrap();
    bed.until("it has healed", || {
        healing.feed(b"on\n");
        bed.segment(generation + 1).exists()
    });
    healing.note("healed");
    let verify = entry.run(&bed, "ringward inspect CHANNEL");
    shows(&verify, &["verdict: live", &format!("generation {}: open", generation + 1)]);
    live(&bed, &verify, &healing);
    healing.end();
}

#[test]
fn a_damaged_word_ends_its_writer_and_is_named_with_what_it_holds() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-DAMAGED"));
    let mut hit = writer(&bed, &["--heartbeat", "0", "--no-close"]);
    hit.feed(b"one\n");
    bed.until_next(1);
    bed.store(STATE, &[0xff; 4]);
    hit.feed(b"two\n");
    hit.wait().code(1).says("[RW-PUSH-DAMAGED]").says("the state word holds 0xffffffff");
    says(&entry, &["the message has the word and what it holds"]);
    let rest = rest(&entry);
    let command = "ls -l /dev/shm/ringward-$(id -u)/CHANNEL";
    shows(&prints(&rest, &bed, command, &[]), &["00000001.ring"]);
    let next = rest.start(&bed, "ringward send --heal CHANNEL", &[]);
    next.note("writing");
    let verify = rest.run(&bed, "ringward inspect CHANNEL");
    shows(&verify, &["verdict: live", "generation 2: open"]);
    live(&bed, &verify, &next);
    next.end().code(0);
}

/// Nobody can wait for 4 PiB: positions end early here.
#[test]
fn a_writer_without_positions_is_followed_by_whoever_opens_next_or_by_itself() {
    for heal in [Heal::Report, Heal::LostMemory] {
        let (bed, entry) = (Bed::new(), entry("RW-PUSH-EXHAUSTED"));
        let channel = Channel::new(&bed.namespace(), "c", Config::default().capacity(4096).heal(heal)).unwrap();
        let mut writer = channel.writer().unwrap();
        let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
        // Room for 256 records of 32 bytes.
        writer.set_last_position(8192);
        for sent in 0..400u64 {
            if sent == 256 && heal == Heal::Report {
                for _ in 0..2 {
                    let error = writer.push(0, b"8 bytes!").unwrap_err();
                    assert!(matches!(error, SendError::Push(PushError::Exhausted)), "{error}");
                    shows(&error.to_string(), &["[RW-PUSH-EXHAUSTED]"]);
                }
                says(&entry, &["Nothing was written", "Open the channel again, or `Heal::LostMemory`"]);
                assert_eq!(bed.view()["next_sequence"], 256);
                drop(writer);
                writer = retried(&bed, || channel.writer());
            }
            assert_eq!(writer.push(0, b"8 bytes!").unwrap(), sent);
            let got = event(&mut reader, |event| matches!(event, Event::Record { .. } | Event::Gap { .. }));
            assert!(matches!(got, Event::Record { sequence, redelivered: false, .. } if sequence == sent), "{got:?}");
            reader.release();
        }
        assert_eq!((writer.generation(), &bed.view()["next_sequence"]), (2, &400.into()));
    }
}

#[test]
fn a_reservation_that_is_not_filled_exactly_is_not_published() {
    let (bed, entry) = (Bed::new(), entry("RW-PUSH-FILL"));
    let mut writer = silent(&bed).writer().unwrap();
    for wrong in [&b"four"[..], b"seventeen bytes!!"] {
        let mut reservation = writer.reserve(0, 10).unwrap();
        let error = match reservation.fill(wrong) {
            Ok(()) => reservation.commit().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        shows(&error, &["10 bytes were reserved", "[RW-PUSH-FILL]"]);
        assert_eq!(bed.view()["next_sequence"], 0, "nothing was published");
    }
    says(&entry, &["a bug in the program that pushes", "Fill exactly what was reserved"]);
    let mut reservation = writer.reserve(0, 10).unwrap();
    reservation.fill(b"0123456789").unwrap();
    reservation.commit().unwrap();
    assert_eq!(bed.view()["next_sequence"], 1);
}

#[test]
fn a_writer_that_can_not_heal_says_why_and_goes_on_once_it_can() {
    let (bed, entry) = (Bed::new(), entry("RW-SEND-HEAL"));
    // The namespace itself is gone: only a restart helps, as the page says.
    let mut lost = writer(&bed, &["--heal"]);
    lost.feed(b"one\n");
    bed.until_next(1);
    std::fs::remove_dir_all(bed.root().join("test")).unwrap();
    bed.until("it is told", || {
        lost.feed(b"more\n");
        !lost.running()
    });
    let ended = lost.wait().code(1).says("[RW-SEND-HEAL]");
    says(&entry, &["\"make a directory: No such file or directory\"", "only a restart helps"]);
    shows(&ended.stderr, &["make a directory: No such file or directory"]);
    let next = writer(&bed, &[]);
    live(&bed, &entry.run(&bed, "ringward ls"), &next);
    next.end().code(0);

    // No room is what it nearly always is: with room, its next push heals.
    let outer = Bed::new();
    let Some(small) = Small::new(&outer, "256k") else { return };
    let bed = Bed::within(&small.path, LIMIT);
    let config = Config::default().capacity(64 << 10).beat_interval(Duration::ZERO).heal(Heal::LostMemory);
    let mut writer = Channel::new(&bed.namespace(), "c", config).unwrap().writer().unwrap();
    writer.push(0, b"one").unwrap();
    OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(0).unwrap();
    let ballast = bed.root().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap_err();
    let error = writer.push(0, b"two").unwrap_err();
    assert!(matches!(error, SendError::Heal(_)), "{error}");
    shows(&error.to_string(), &["[RW-BUILD-SPACE]", "[RW-SEND-HEAL]"]);
    std::fs::remove_file(&ballast).unwrap();
    bed.until("it has healed", || writer.push(0, b"three").is_ok());
    assert_eq!(writer.generation(), 2);
    shows(&entry.run(&bed, "ringward ls"), &["live"]);
}

#[test]
fn a_record_that_is_longer_than_the_buffer_waits_for_a_larger_one() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-BUFFER"));
    let channel = silent(&bed);
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
    writer.push(0, &[7; 100]).unwrap();
    for _ in 0..2 {
        let error = reader.recv(&mut [0; 10], LONG).unwrap_err();
        assert!(matches!(error, ReceiveError::BufferTooSmall { needed: 100, given: 10 }));
        shows(&error.to_string(), &["100", "10", "[RW-RECV-BUFFER]"]);
    }
    says(&entry, &["`Reader::record_limit` is always enough", "the next receive answers the same"]);
    let mut buf = vec![0; reader.record_limit()];
    assert!(matches!(reader.recv(&mut buf, LONG).unwrap(), Some(Event::Record { sequence: 0, len: 100, .. })));
}

/// A reader of one segment, which knows nothing of channels.
fn direct(bed: &Bed, segment: u64) -> SegmentReader<Arc<Segment>> {
    use ringward_ring::segment::Joining;
    let dir = std::fs::File::open(bed.root().join("test/c")).unwrap();
    let name = ringward_recovery::generation_name(segment);
    let attached = Segment::attach(dir.as_fd(), &name, Access::Reader, bed.namespace().trust()).unwrap();
    let name = ReaderName::new("direct").unwrap();
    let card = ReaderCard { kind: Kind::EPHEMERAL, name, pid: std::process::id(), pid_namespace: 0, start: 0 };
    match Arc::new(attached).join(&card, From::Oldest).unwrap() {
        Joining::Reader(reader) => reader,
        Joining::NotOpen(state) => panic!("{state}"),
    }
}

#[test]
fn a_reader_of_one_segment_is_told_that_it_was_cut_and_one_of_the_channel_goes_over() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-TRUNCATED"));
    let channel = silent(&bed);
    let mut writer = channel.writer().unwrap();
    let mut reads_one = direct(&bed, 1);
    let mut reads_all = channel.reader("all", Durability::Durable, From::Oldest).unwrap();
    writer.push(0, b"one").unwrap();
    OpenOptions::new().write(true).open(bed.segment(1)).unwrap().set_len(0).unwrap();
    let error = loop {
        match reads_one.recv(&mut [0; 64], LONG) {
            Ok(_) => assert!(!bed.hung()),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, RecvError::Truncated { .. }) && error.to_string().ends_with("[RW-RECV-TRUNCATED]"),
        "{error}"
    );
    let rest = rest(&entry);
    let command = "ls -l /dev/shm/ringward-$(id -u)/CHANNEL";
    let found = prints(&rest, &bed, command, &[]);
    assert!(found.lines().any(|line| line.contains(" 0 ") && line.ends_with("00000001.ring")), "{found}");
    drop(writer);
    let mut next = retried(&bed, || channel.writer());
    let number = next.push(0, b"two").unwrap();
    let verify = rest.run(&bed, "ringward inspect CHANNEL");
    shows(&verify, &["verdict: live", "generation 2: open"]);
    let told = event(&mut reads_all, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert!(matches!(told, Event::Gap { .. }), "the loss is reported: {told:?}");
    let got = event(&mut reads_all, |event| matches!(event, Event::Record { .. }));
    assert!(matches!(got, Event::Record { sequence, .. } if sequence == number), "{got:?}");
}

#[test]
fn a_reader_whose_place_was_taken_is_told_and_the_dump_shows_the_word() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-EXPELLED"));
    let channel = silent(&bed);
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
    writer.push(0, b"one").unwrap();
    event(&mut reader, |event| matches!(event, Event::Record { .. }));
    reader.release();
    shows(&entry.run(&bed, "ringward dump CHANNEL"), &["expelled             0000000000000000"]);
    succession::expel(writer.segment(), 0);
    // The writer waits for it no more, and goes over what it has not read. It is told even if nothing comes.
    let error = reader.recv(&mut [0; 64], LONG).unwrap_err();
    assert!(matches!(error, ReceiveError::Expelled { .. }), "{error}");
    shows(&error.to_string(), &["records from sequence ", "[RW-RECV-EXPELLED]"]);
    shows(&entry.run(&bed, "ringward dump CHANNEL"), &["expelled             0000000000000001"]);
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["verdict: live"]);
    drop(reader);
    let mut again = retried(&bed, || channel.reader("d", Durability::Durable, From::Latest));
    let number = writer.push(0, b"three").unwrap();
    let got = event(&mut again, |event| matches!(event, Event::Record { sequence, .. } if *sequence == number));
    assert!(matches!(got, Event::Record { .. }));
}

#[test]
fn an_end_that_nobody_knows_is_a_gap_without_a_count_and_a_jump() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-UNKNOWN-END"));
    bed.run(&["send", "c", "--no-close", "--capacity", "64KiB"], &lines(0..3)).code(0);
    bed.absent("d", From::Oldest);
    let mut reads_one = direct(&bed, 1);
    bed.store(CURSOR, &[0xff; 56]);
    let mut next = writer(&bed, &["--no-close"]);
    next.feed(b"on\n");
    bed.until("it is there", || bed.view()["next_sequence"].as_u64() > Some(3));
    shows(&entry.run(&bed, "ringward inspect CHANNEL"), &["ended, nobody knows where", "generation 2: open"]);
    // Who reads the segment itself has the error; the channel's reader goes over.
    let error = loop {
        match reads_one.recv(&mut [0; 64], LONG) {
            Ok(_) => assert!(!bed.hung()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().ends_with("[RW-RECV-UNKNOWN-END]"), "{error}");
    let args = ["recv", "c", "--durable", "--name", "d", "--framed", "--count", "1", "--events", "json"];
    let all = bed.run(&args, b"");
    let gap = &all.notes("gap")[0];
    assert!(gap["count"].is_null(), "{gap}");
    let (got, _) = frames(&all.stdout);
    assert_eq!(got[0].payload, b"on");
    assert!(got[0].sequence >= 1 << 48, "a jump of 2^48: {}", got[0].sequence);
    next.end().code(0);
}

#[test]
fn a_reader_without_descriptors_for_the_way_on_keeps_its_place_and_comes_back_with_more() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-FOLLOW"));
    let first = writer(&bed, &[]);
    let args = ["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"];
    let reader = bed.start(&args);
    reader.note("joined");
    let limit = |most: &str| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--pid={}", reader.pid())).arg(format!("--nofile={most}:"));
        command.status().is_ok_and(|status| status.success())
    };
    if !limit("1") {
        return skip("no prlimit(1) here");
    }
    first.kill();
    let mut next = writer(&bed, &["--no-close"]);
    next.feed(b"on\n");
    let ended = reader.wait().code(1).says("[RW-RECV-FOLLOW]");
    shows(
        &ended.stderr,
        &["cannot follow the channel to its next generation: ", "Too many open files", "[RW-OPEN-SYSTEM]"],
    );
    says(&entry, &["the inner id", "often permissions or descriptors", "for a durable one also after"]);
    let readers = &bed.view()["readers"];
    assert_eq!((&readers[0]["name"], readers.as_array().map(Vec::len)), (&"d".into(), Some(1)), "its place is kept");
    let got = bed.run(&[&args[..], &["--count", "1"]].concat(), b"").code(0);
    assert_eq!(got.stdout, b"on\n");
    next.end().code(0);
}

#[test]
fn a_reader_of_a_channel_that_was_removed_is_told_whether_anything_is_lost() {
    let (bed, entry) = (Bed::new(), entry("RW-RECV-GONE"));
    let channel = silent(&bed);
    let writer = channel.writer().unwrap();
    let reader = bed.start(&["recv", "c", "--events", "json"]);
    reader.note("joined");
    std::fs::remove_dir_all(bed.root().join("test/c")).unwrap();
    drop(writer);
    reader.wait().code(1).says("[RW-RECV-GONE]");
    assert!(!entry.run(&bed, "ringward ls").contains("\nc "));
    let reader = bed.start(&["recv", "c", "--events", "json"]);
    let mut next = super::writer(&bed, &["--readers", "1"]);
    next.feed(b"on\n");
    reader.note("joined");
    shows(&entry.run(&bed, "ringward ls"), &["\nc "]);
    next.end().code(0);
    assert_eq!(reader.end().code(0).stdout, b"on");
}
