//! Memory that is taken away or damaged: cuts, holes, flipped bits; and those who sleep on it.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringward_recovery::{
    Durability, Event, From, GapReason, Heal, OpenError, SendError, Warmth, WhenFull, generation_name,
};
use ringward_ring::layout::{CURSOR_AT, MAX_POSITION, SUCCESSION_AT};
use ringward_ring::memory::Memory;
use ringward_ring::segment::Access;
use ringward_ring::succession;
use ringward_ring::word::{EndWord, State, Successor};
use ringward_ring::writer::PushError;
use rstest::rstest;
use rustix::fs::{FallocateFlags, fallocate};

use crate::attacks::{
    Alarm, LONG, SHORT, carried, elected, follower, id, published, push_text, reclaim, take, text, until, wait_until,
    writer_cursor,
};
use crate::attacks_child::Kid;
use crate::common::{Bed, config, durable};

/// The lengths that issue 2 asks for, of a segment of 16384 bytes... and each border between its parts.
const CUTS: [u64; 8] = [0, 12, 128, 256, 4096, 8192, 12288, 16383];

/// Nobody can know how much that was: the one case in which the count is unknown.
#[rstest]
fn a_writer_dead_and_its_segment_cut_is_followed_and_reported(
    #[values(0, 12, 128, 256, 4096, 8192, 12288)] cut: u64,
    #[values(false, true)] standby: bool,
) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let mut other = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    push_text(&mut writer, 0..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    push_text(&mut writer, 3..5);
    drop(writer);
    bed.file(1).set_len(cut).unwrap();
    let mut writer =
        if standby { elected(&channel, ringward_recovery::Warmth::Hot) } else { channel.writer().unwrap() };
    assert_eq!(writer.generation(), 2);
    let next = writer.next_sequence();
    assert!(next >= 5, "numbers never repeat");
    writer.push(0, b"after").unwrap();
    for (reader, from) in [(&mut reader, 3), (&mut other, 0)] {
        let gap = until(reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
        assert!(
            matches!(gap, Event::Gap { from: at, count: None, reason: GapReason::Truncated } if at == from),
            "{gap:?}"
        );
        let record = until(reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
        assert!(matches!(record, Event::Record { sequence, .. } if sequence == next), "{record:?}");
    }
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"]);
    drop((writer, other));
    reader.forget();
    reclaim(channel.namespace());
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// Cut to nothing while it has nothing to push: it goes by what it knows itself, of its end and of who reads.
#[test]
fn a_writer_that_heals_without_a_push_knows_its_end_and_its_readers() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory).beat_interval(Duration::from_millis(1)));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    push_text(&mut writer, 3..5);
    let segment = writer.segment().clone();
    let beats = || segment.page().heartbeat.beat.load(Ordering::SeqCst);
    let before = beats();
    wait_until("its thread looks who reads", || beats() > before + 1);
    bed.file(1).set_len(0).unwrap();
    assert!(writer.tend().unwrap());
    assert_eq!(writer.readers(), 1, "whoever was reading has a place");
    assert_eq!(writer.next_sequence(), 5, "it knows where it ended");
    let gap = until(&mut reader, |event| matches!(event, Event::Gap { .. }));
    assert!(matches!(gap, Event::Gap { from: 3, count: Some(2), .. }), "{gap:?}");
}

/// The writer lives, and knows: it succeeds itself, and the loss is exact.
#[rstest]
fn a_writer_whose_segment_is_cut_heals_itself_and_the_loss_is_exact(#[values(0, 12, 128, 4096, 16383)] cut: u64) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let beat = Duration::from_millis(1);
    let channel = bed.channel(config().heal(Heal::Succeed).beat_interval(beat));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    push_text(&mut writer, 3..5);
    bed.file(1).set_len(cut).unwrap();
    let begun = std::time::Instant::now();
    let mut acknowledged = Vec::new();
    while writer.generation() == 1 {
        if let Ok(sequence) = writer.push(0, b"x") {
            acknowledged.push(sequence);
        }
        assert!(begun.elapsed() < LONG, "it never noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let next = writer.push(0, b"after").unwrap();
    let mut lost = 3;
    loop {
        match until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. })) {
            Event::Gap { from, count: Some(count), .. } => {
                assert_eq!(from, lost, "gaps and records follow on");
                lost += count;
            }
            Event::Record { sequence, .. } => {
                assert_eq!(sequence, lost, "gaps and records follow on");
                lost += 1;
                if sequence == next {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged.iter().all(|sequence| *sequence <= next));
    assert_eq!(writer.heals(), 1);
}

/// One bit of generation 1's identity, which then does not check any more.
fn spoil_identity(bed: &Bed) {
    let file = bed.file(1);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 38).unwrap();
    file.write_all_at(&[byte[0] ^ 8], 38).unwrap();
}

/// A writer whose identity no longer checks follows itself. Whoever meets its candidate on the way must not take it for a
/// withdrawn rival's, although what it follows can't be read.
#[test]
fn the_candidate_of_a_writer_that_heals_is_left_alone() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    let old = bed.attach(1, Access::Successor);
    let end = published(&old);
    spoil_identity(&bed);
    // Its first step, by hand.
    let candidate = follower(&bed, &old, end, &carried(&old)).link(bed.dir().as_fd(), &generation_name(2)).unwrap();
    let mut standby = channel.standby(Warmth::Cold).unwrap();
    for refused in [channel.writer().err(), standby.wait(SHORT).err()] {
        assert!(matches!(refused, Some(OpenError::Damaged { generation: 1, .. })), "{refused:?}");
    }
    assert_eq!(take(&mut reader, 3).0, text(0..3), "who reads does not mind");
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"]);
    // Its other steps.
    let candidate = Arc::new(candidate);
    succession::decide_end(&old, Some(end.position)).unwrap();
    let decided = succession::decide_successor(&old, id(&candidate)).unwrap();
    assert_eq!(decided, Successor::Segment(id(&candidate)));
    succession::shift_state(&candidate, State::CANDIDATE, State::OPEN);
    let moved = until(&mut reader, |event| matches!(event, Event::Restarted { .. }));
    assert_eq!(moved, Event::Restarted { old: 1, new: 2 });
}

/// It dies on the way, after it had named its candidate and before anybody could see that: the next one finds nothing that it can
/// read, and makes a generation that names no predecessor. Readers that were told of the first must follow this one.
#[test]
fn a_reader_whose_generation_named_one_that_is_gone_follows_what_came_instead() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    let old = bed.attach(1, Access::Successor);
    let end = published(&old);
    let candidate = follower(&bed, &old, end, &carried(&old)).link(bed.dir().as_fd(), &generation_name(2)).unwrap();
    succession::decide_end(&old, Some(end.position)).unwrap();
    succession::decide_successor(&old, id(&Arc::new(candidate))).unwrap();
    spoil_identity(&bed);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    assert_eq!(writer.generation(), 2);
    let next = writer.push(0, b"after").unwrap();
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    let gap = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert!(matches!(gap, Event::Gap { from: 3, count: None, .. }), "{gap:?}");
    let record = until(&mut reader, |event| matches!(event, Event::Record { .. }));
    assert!(matches!(record, Event::Record { sequence, .. } if sequence == next), "{record:?}");
}

/// The position of a dead writer, one bit of it flipped: what was acknowledged is delivered all the same, once.
#[test]
fn a_flipped_bit_in_a_dead_writers_position_costs_nothing() {
    let _alarm = Alarm::new();
    for records in [1u64, 2, 3, 6] {
        for bit in 0..64 {
            let bed = Bed::new();
            let channel = bed.channel(config());
            let mut writer = channel.writer().unwrap();
            let mut reader = durable(&channel, "d");
            push_text(&mut writer, 0..records);
            let segment = writer.segment().clone();
            writer_cursor(&segment).position.fetch_xor(1 << bit, Ordering::SeqCst);
            drop((writer, segment));
            let mut writer = channel.writer().unwrap();
            assert_eq!(writer.next_sequence(), records, "{records} records, bit {bit}");
            push_text(&mut writer, records..records + 1);
            let (got, events) = take(&mut reader, records as usize + 1);
            assert_eq!(got, text(0..records + 1), "bit {bit}");
            assert_eq!(events, [Event::Restarted { old: 1, new: 2 }], "bit {bit}");
        }
    }
}

/// The same of a living one: the next push mends it; a reader in between waits, or reads what is certain.
#[test]
fn a_flipped_bit_in_a_living_writers_position_is_mended_by_its_next_push() {
    let _alarm = Alarm::new();
    for bit in 0..64 {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..3);
        writer_cursor(writer.segment()).position.fetch_xor(1 << bit, Ordering::SeqCst);
        let mut buf = [0; 64];
        let mut got = Vec::new();
        for _ in 0..10 {
            match reader.try_recv(&mut buf).unwrap() {
                Some(Event::Record { sequence, len, .. }) => got.push((sequence, buf[..len].to_vec())),
                None => {}
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        push_text(&mut writer, 3..4);
        let rest = 4 - got.len();
        got.extend(take(&mut reader, rest).0);
        assert_eq!(got, text(0..4), "bit {bit}");
    }
}

/// Every bit of the succession line: nobody crashes or hangs, and what was acknowledged is delivered or reported.
#[test]
fn a_flipped_bit_in_the_succession_line_is_survived() {
    let _alarm = Alarm::new();
    for at in [0, 4, 8, 12, 16, 20] {
        for bit in [0, 7, 13, 21, 30] {
            let bed = Bed::new();
            let channel = bed.channel(config());
            let mut writer = channel.writer().unwrap();
            let mut reader = durable(&channel, "d");
            push_text(&mut writer, 0..2);
            let mut word = [0u8; 4];
            let file = bed.file(1);
            file.read_exact_at(&mut word, SUCCESSION_AT as u64 + at).unwrap();
            let flipped = u32::from_le_bytes(word) ^ 1 << bit;
            file.write_all_at(&flipped.to_le_bytes(), SUCCESSION_AT as u64 + at).unwrap();
            // Living writer: acknowledged or a typed error.
            let mut acknowledged = 2;
            match writer.push(0, b"2") {
                Ok(2) => acknowledged = 3,
                Err(SendError::Push(PushError::Damaged { .. } | PushError::Fenced)) => {}
                other => panic!("offset {at} bit {bit}: {other:?}"),
            }
            drop(writer);
            let mut writer = channel.writer().unwrap_or_else(|error| panic!("offset {at} bit {bit}: {error}"));
            let next = writer.push(0, b"after").unwrap();
            let mut seen = 0;
            loop {
                match until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. })) {
                    Event::Record { sequence, .. } => {
                        assert_eq!(sequence, seen, "offset {at} bit {bit}");
                        seen += 1;
                        if sequence == next {
                            break;
                        }
                    }
                    other => panic!("offset {at} bit {bit}, {acknowledged} acknowledged: {other:?}"),
                }
            }
            assert!(seen > acknowledged, "offset {at} bit {bit}");
        }
    }
}

/// The end word of a generation that was followed is damaged, or as it was before it was decided: its successor says where it
/// ended. Who has not drained it does, and it is unlinked.
#[rstest]
fn a_followed_generation_without_an_end_word_is_drained_and_unlinked(
    #[values(EndWord::UNDECIDED.0, 0x0123_4567_89ab_cdef)] word: u64,
    #[values(false, true)] away: bool,
    #[values(false, true)] unknown: bool,
) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    if unknown {
        for bit in [3, 17] {
            let [a, b] = &writer_cursor(writer.segment()).checkpoints;
            a.check.fetch_xor(1 << bit, Ordering::SeqCst);
            b.check.fetch_xor(1 << bit, Ordering::SeqCst);
        }
    }
    drop(writer);
    let mut reader = Some(reader).filter(|_| !away);
    let mut writer = channel.writer().unwrap();
    bed.attach(1, Access::Successor).page().succession.end.store(word, Ordering::SeqCst);
    let next = writer.push(0, b"2").unwrap();
    let mut reader = reader.take().unwrap_or_else(|| durable(&channel, "d"));
    if unknown {
        let gap = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
        assert_eq!(gap, Event::Gap { from: 0, count: None, reason: GapReason::Truncated });
        assert_eq!(take(&mut reader, 1).0, [(next, b"2".to_vec())]);
    } else {
        assert_eq!(take(&mut reader, 3).0, text(0..3));
    }
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"]);
}

/// The same where nobody is left who would read it.
#[test]
fn a_drained_generation_whose_end_word_is_damaged_is_unlinked() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    drop(writer);
    let mut writer = channel.writer().unwrap();
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"], "it is read");
    bed.attach(1, Access::Successor).page().succession.end.fetch_xor(1 << 40, Ordering::SeqCst);
    drop(reader);
    writer.push(0, b"x").unwrap();
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"]);
}

/// A position far beyond anything: no crash, no hang, no invented record.
#[rstest]
#[case::huge(u64::MAX)]
#[case::odd(33)]
#[case::beyond(MAX_POSITION * 2)]
#[case::ahead(1 << 30)]
#[case::zero(0)]
fn a_hostile_position_is_refused(#[case] position: u64) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    writer_cursor(writer.segment()).position.store(position, Ordering::SeqCst);
    let mut buf = [0; 64];
    for _ in 0..10 {
        let event = reader.try_recv(&mut buf).unwrap();
        assert!(matches!(event, None | Some(Event::Record { sequence: 0..=1, .. })), "{event:?}");
    }
    assert_eq!(CURSOR_AT, 384);
}

/// A reader asleep on the doorbell is killed: the flag that it raised costs one wake-up, not one for ever.
#[test]
fn a_killed_sleeper_costs_one_wake_up() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut kid = Kid::spawn("receives", &bed);
    kid.expect("ready");
    let waiters = &writer.segment().clone();
    let waiters = &waiters.head().data_waiters;
    wait_until("it sleeps", || waiters.load(Ordering::SeqCst) != 0);
    kid.kill();
    // It wakes up every 100 ms at the most to raise the flag again: killed, it raises it no more.
    let bell = writer.segment().page().doorbell.bell.load(Ordering::SeqCst);
    writer.push(0, b"0").unwrap();
    assert_eq!(waiters.load(Ordering::SeqCst), 0, "cleared by the waker, not counted");
    let after = writer.segment().page().doorbell.bell.load(Ordering::SeqCst);
    assert_ne!(bell, after, "rung once, for the dead");
    for _ in 0..100 {
        writer.push(0, b"x").unwrap();
    }
    assert_eq!(writer.segment().page().doorbell.bell.load(Ordering::SeqCst), after, "and never again");
}

/// The page under a sleeping reader is cut away: it wakes, is told, and goes on in the next generation.
#[rstest]
#[case::cut_to_nothing(0)]
#[case::cut_behind_the_writer_page(4096)]
fn a_reader_asleep_on_a_page_that_is_cut_goes_on(#[case] cut: u64) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let segment = bed.attach(1, Access::Inspect);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| until(&mut reader, |event| matches!(event, Event::Record { .. })));
        wait_until("it sleeps", || segment.head().data_waiters.load(Ordering::SeqCst) != 0);
        bed.file(1).set_len(cut).unwrap();
        drop(writer);
        let mut next = channel.writer().unwrap();
        let sequence = next.push(0, b"after").unwrap();
        let got = sleeper.join().unwrap();
        assert!(matches!(got, Event::Record { sequence: got, .. } if got == sequence), "{got:?}");
    });
}

/// A page of zeros over the doorbell puts nobody to sleep for ever: a bell is never 0.
#[test]
fn a_doorbell_of_zeros_puts_nobody_to_sleep() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let segment = writer.segment().clone();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| until(&mut reader, |event| matches!(event, Event::Record { .. })));
        wait_until("it sleeps", || segment.head().data_waiters.load(Ordering::SeqCst) != 0);
        segment.page().doorbell.bell.store(0, Ordering::SeqCst);
        segment.head().data_waiters.store(0, Ordering::SeqCst); // and the flag is lost as well
        writer.push(0, b"0").unwrap();
        assert!(matches!(sleeper.join().unwrap(), Event::Record { sequence: 0, .. }));
    });
}

/// A writer asleep for want of room is woken by what is decided about it, and by a cut.
#[rstest]
#[case::superseded(false)]
#[case::cut(true)]
fn a_writer_asleep_for_room_wakes(#[case] cut: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().when_full(WhenFull::Block(Duration::from_secs(3600))));
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    let other = bed.attach(1, Access::Successor);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            loop {
                if let Err(error) = writer.push(0, b"x") {
                    return error;
                }
            }
        });
        wait_until("it sleeps", || other.head().space_waiters.load(Ordering::SeqCst) != 0);
        if cut {
            bed.file(1).set_len(0).unwrap();
        } else {
            drop(channel.supersede().unwrap());
        }
        match sleeper.join().unwrap() {
            SendError::Push(PushError::Truncated) if cut => {}
            SendError::Push(PushError::Fenced) if !cut => {}
            other => panic!("{other}"),
        }
    });
}

/// A hole in the data reads as zeros: never a record. The loss is exact.
#[test]
fn a_punched_hole_in_the_data_is_a_gap_and_never_a_record() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().capacity(1 << 14));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    for n in 0..100u64 {
        writer.push(0, &[n as u8; 100]).unwrap(); // 128 bytes each: 32 on a page
    }
    let data = writer.segment().identity().geometry.data_at();
    fallocate(bed.file(1), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, data + 4096, 4096).unwrap();
    let mut buf = [0; 4096];
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    while records.last() != Some(&99) {
        match reader.recv(&mut buf, LONG).unwrap() {
            Some(Event::Record { sequence, len, .. }) => {
                assert_eq!(buf[..len], [sequence as u8; 100]);
                records.push(sequence);
            }
            Some(Event::Gap { from, count: Some(count), reason: GapReason::Corrupt | GapReason::Truncated }) => {
                lost.extend(from..from + count);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lost, (32..64).collect::<Vec<_>>());
    assert_eq!(records, (0..32).chain(64..100).collect::<Vec<_>>());
}

/// A hole where identity, cursor and succession line were, under a dead writer and under a living one.
#[rstest]
#[case::dead(false)]
#[case::alive(true)]
fn a_punched_writer_page_is_followed_and_reported(#[case] alive: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::Succeed));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..3);
    fallocate(bed.file(1), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096).unwrap();
    let next = if alive {
        // It says what it knows of the first; the next goes to the next generation.
        let error = writer.push(0, b"3").unwrap_err();
        assert!(matches!(error, SendError::Push(PushError::Damaged { .. })), "{error}");
        writer.push(0, b"after").unwrap()
    } else {
        drop(writer);
        writer = channel.writer().unwrap();
        writer.push(0, b"after").unwrap()
    };
    assert_eq!(writer.generation(), 2);
    let mut expected = 0;
    loop {
        match until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. })) {
            Event::Record { sequence, .. } if sequence == next => break,
            Event::Record { sequence, .. } => {
                assert_eq!(sequence, expected);
                expected += 1;
            }
            Event::Gap { from, count, .. } => {
                assert_eq!(from, expected);
                assert_eq!(count.is_some(), alive);
                expected = next;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expected, next, "delivered or reported");
}

#[test]
fn the_cuts_of_a_segment_meet_every_part() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let geometry = writer.segment().identity().geometry;
    assert!(CUTS.contains(&geometry.table_at()) && CUTS.contains(&geometry.data_at()), "{geometry:?}");
    assert!(CUTS.iter().all(|cut| *cut < geometry.total() || *cut == 16383));
    assert_eq!(ringward_ring::succession::state(writer.segment()), State::OPEN);
}
