//! A root on a disk after a reboot: segments whose owner's boot id is another one, and of which not everything reached the disk.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use ringward_recovery::{Channel, Durability, Event, From, GapReason, OpenError, Reader, Writer, generation_name};
use ringward_ring::checksum::crc32c;
use ringward_ring::identity::Features;
use ringward_ring::layout::IDENTITY_LEN;
use ringward_ring::memory::Memory as _;
use ringward_ring::segment::Access;
use ringward_ring::word::{Checksum, State};
use rstest::rstest;

use crate::attacks::{Alarm, LONG, Words, carried, follower, published, push_text, take, text, until, writer_cursor};
use crate::common::{Bed, config, durable};

/// Where the owner's boot id lies in the identity.
const BOOT_AT: usize = 120;
/// How far numbers jump where nobody can know which were used.
const JUMP: u64 = 1 << 48;

/// Makes a generation one that was written before the machine was last started.
fn reboot(bed: &Bed, generation: u64) {
    let file = bed.file(generation);
    let mut identity = [0u8; IDENTITY_LEN];
    file.read_exact_at(&mut identity, 0).unwrap();
    for byte in &mut identity[BOOT_AT..BOOT_AT + 16] {
        *byte ^= 0x5a;
    }
    let crc = crc32c(&identity[..IDENTITY_LEN - 4]).to_le_bytes();
    identity[IDENTITY_LEN - 4..].copy_from_slice(&crc);
    file.write_all_at(&identity, 0).unwrap();
}

/// The next writer, of a machine on which nobody of before lives.
fn next(channel: &Channel) -> Writer {
    let writer = channel.writer().unwrap();
    let identity = *writer.segment().identity();
    assert_eq!(identity.predecessor.map(|before| before.end), Some(None), "nobody knows where it ended");
    assert!(identity.features.has(Features::LOST_PLACES));
    writer
}

/// The gap that such a reader is told, and the first record behind it.
fn unknown_gap(reader: &mut Reader, from: u64, next: u64) {
    let gap = until(reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert_eq!(gap, Event::Gap { from, count: None, reason: GapReason::Truncated });
    let record = until(reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert!(matches!(record, Event::Record { sequence, .. } if sequence == next), "{record:?}");
}

/// The last pages did not reach the disk: records that were acknowledged, and that a reader has got, are not in the file.
#[rstest]
fn numbers_that_a_reader_has_got_are_not_used_again_after_a_reboot(#[values(false, true)] closed: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    let on_disk = std::fs::read(bed.path(1)).unwrap();
    push_text(&mut writer, 3..5);
    assert_eq!(take(&mut reader, 5).0, text(0..5));
    drop((reader, writer));
    bed.file(1).write_all_at(&on_disk, 0).unwrap();
    if closed {
        // So it stood before it was opened again: by a generation whose name has not reached the disk.
        let old = bed.attach(1, Access::Successor);
        old.page().succession.state.store(State::CLOSED.0, Ordering::SeqCst);
        ringward_ring::succession::decide_end(&old, Some(published(&old).position)).unwrap();
    }
    reboot(&bed, 1);
    let mut writer = next(&channel);
    assert_eq!((writer.generation(), writer.next_sequence()), (2, JUMP));
    writer.push(0, b"after").unwrap();
    // What it had not released, as far as the file tells, it gets again: no number twice with other bytes.
    let mut reader = durable(&channel, "d");
    assert_eq!(take_any(&mut reader, 3), text(0..3));
    unknown_gap(&mut reader, 3, JUMP);
    channel.tidy().unwrap();
    assert_eq!(bed.names(), [generation_name(2)]);
}

fn take_any(reader: &mut Reader, count: usize) -> Vec<(u64, Vec<u8>)> {
    let mut buf = [0; 64];
    let mut got = Vec::new();
    while got.len() < count {
        match reader.recv(&mut buf, LONG).unwrap() {
            Some(Event::Record { sequence, len, .. }) => got.push((sequence, buf[..len].to_vec())),
            other => panic!("{other:?} after {got:?}"),
        }
    }
    got
}

/// A reader's page is newer than the writer's: it has released what the file says was never written.
#[test]
fn a_reader_that_had_got_further_than_its_file_says_gets_nothing_wrong() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    let before = Words::of(writer_cursor(writer.segment()));
    push_text(&mut writer, 3..5);
    assert_eq!(take(&mut reader, 5).0, text(0..5));
    before.put(writer_cursor(writer.segment()));
    drop((reader, writer));
    reboot(&bed, 1);
    let mut writer = next(&channel);
    writer.push(0, b"after").unwrap();
    let mut reader = durable(&channel, "d");
    assert_eq!(take_any(&mut reader, 3), text(0..3));
    unknown_gap(&mut reader, 3, JUMP);
}

/// Data that did not reach the disk is told exactly, where the cursor that did says how much it was.
#[test]
fn records_that_did_not_reach_the_disk_are_told_and_those_that_did_delivered() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..5);
    let data = writer.segment().identity().geometry.data_at();
    drop(writer);
    bed.file(1).write_all_at(&[0; 64], data + 32).unwrap();
    reboot(&bed, 1);
    let mut writer = next(&channel);
    writer.push(0, b"after").unwrap();
    let mut reader = durable(&channel, "d");
    assert_eq!(take_any(&mut reader, 1), text(0..1));
    let gap = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert_eq!(gap, Event::Gap { from: 1, count: Some(2), reason: GapReason::Corrupt });
    assert_eq!(take_any(&mut reader, 2), text(3..5));
    unknown_gap(&mut reader, 5, JUMP);
}

/// Without a checksum over payloads nobody can tell an old page from a new one.
#[test]
fn payloads_that_no_checksum_covers_are_not_delivered_after_a_reboot() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().checksum(Checksum::HEADER));
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..3);
    drop(writer);
    reboot(&bed, 1);
    let mut writer = next(&channel);
    writer.push(0, b"after").unwrap();
    unknown_gap(&mut durable(&channel, "d"), 0, JUMP);
}

/// That somebody had registered had not reached the disk: he is told that something may be missing, whether or not there is a new
/// writer already. (As is one who comes for the first time.)
#[rstest]
fn a_durable_reader_whose_registration_was_lost_is_told(#[values(false, true)] followed: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    reboot(&bed, 1);
    let writer = followed.then(|| next(&channel));
    let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
    let first = until(&mut reader, |_| true);
    assert_eq!(first, Event::Gap { from: 0, count: None, reason: GapReason::Dropped });
    drop(writer);
}

/// The power went a second time, before the directory of the first new generation had reached the disk on its own: it is there all the
/// same, and the numbers jump on from it.
#[test]
fn each_reboot_jumps_on() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    for n in 1..4 {
        reboot(&bed, n);
        let mut writer = next(&channel);
        assert_eq!((writer.generation(), writer.next_sequence()), (n + 1, JUMP * n));
        assert_eq!(writer.push(0, b"x").unwrap(), JUMP * n);
    }
}

/// The same boot: nothing is unknown, and nothing jumps.
#[test]
fn without_a_reboot_numbers_run_on() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let writer = channel.writer().unwrap();
    assert_eq!(writer.next_sequence(), 3);
    assert!(!writer.segment().identity().features.has(Features::LOST_PLACES));
}

/// It was confirmed, opened, and its predecessor drained and unlinked; that it was opened has not reached the disk. It is no rival's.
#[test]
fn a_candidate_of_before_the_reboot_is_not_taken_for_a_rivals() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let old = bed.attach(1, Access::Successor);
    let prepared = follower(&bed, &old, published(&old), &carried(&old));
    drop(prepared.link(bed.dir().as_fd(), &generation_name(2)).map_err(|(why, _)| why).unwrap());
    std::fs::remove_file(bed.path(1)).unwrap();
    reboot(&bed, 2);
    let writer = next(&channel);
    assert_eq!((writer.generation(), writer.next_sequence()), (3, 3 + JUMP), "it goes on, and is not born anew");
}

/// Of the older generation an older page reached the disk: there it is open, and has not ended. What is missing at its end is told exactly, by
/// what its successor says of it.
#[test]
fn an_older_generation_that_has_not_heard_of_its_end_is_left_all_the_same() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..3);
    let on_disk = std::fs::read(bed.path(1)).unwrap();
    push_text(&mut writer, 3..5);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 5..6);
    drop(writer);
    bed.file(1).write_all_at(&on_disk, 0).unwrap();
    reboot(&bed, 1);
    reboot(&bed, 2);
    let mut writer = next(&channel);
    assert_eq!((writer.generation(), writer.next_sequence()), (3, 5 + JUMP));
    writer.push(0, b"after").unwrap();
    let mut reader = durable(&channel, "d");
    assert_eq!(take_any(&mut reader, 3), text(0..3));
    let gap = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert_eq!(gap, Event::Gap { from: 3, count: Some(2), reason: GapReason::Truncated });
    let moved = until(&mut reader, |event| !matches!(event, Event::WriterGone { .. }));
    assert_eq!(moved, Event::Restarted { old: 1, new: 2 });
    assert_eq!(take_any(&mut reader, 1), text(5..6));
    unknown_gap(&mut reader, 6, 5 + JUMP);
    channel.tidy().unwrap();
    assert_eq!(bed.names(), [generation_name(3)]);
}

/// The successor word reached the disk, and the successor's name did not.
#[test]
fn a_generation_whose_named_successor_was_lost_is_followed_beyond_it() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..3);
    drop(writer);
    let old = bed.attach(1, Access::Successor);
    let end = published(&old);
    let lost = follower(&bed, &old, end, &[]).id();
    ringward_ring::succession::decide_end(&old, Some(end.position)).unwrap();
    ringward_ring::succession::decide_successor(&old, lost).unwrap();
    reboot(&bed, 1);
    let mut writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (3, 2 * JUMP));
    writer.push(0, b"on").unwrap();
    let mut reader = durable(&channel, "d");
    let (records, events) = take(&mut reader, 4);
    assert_eq!((&records[..3], records[3].0), (&text(0..3)[..], 2 * JUMP));
    assert!(events.iter().any(|event| matches!(event, Event::Gap { from: 3, count: None, .. })), "{events:?}");
}

/// A page that never reached the disk is a page of zeros: nothing there can be read, and nothing is gone by.
#[test]
fn a_segment_of_which_nothing_reached_the_disk_is_followed_beyond_it() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let len = bed.file(1).metadata().unwrap().len() as usize;
    bed.file(1).write_all_at(&vec![0; len], 0).unwrap();
    match channel.reader("d", Durability::Durable, From::Oldest) {
        Err(OpenError::Damaged { generation: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    let writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (2, JUMP));
}
