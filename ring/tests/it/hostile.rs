//! A hostile reader: a party whose mapping of the reader table is writable, as every reader's is, and that writes into it what it likes.
//!
//! Its own slot and the table's head: it costs nobody a record. Another's slot: that reader may be run over, is told exactly so, and
//! never gets a payload that was not pushed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringward_ring::cursor::{self, Mark};
use ringward_ring::layout::Slot;
use ringward_ring::memory::Memory;
use ringward_ring::reader::{GapReason, Taken};
use ringward_ring::segment::Access;
use ringward_ring::table::From;
use ringward_ring::word::{Kind, SegmentId, SlotState};
use ringward_ring::writer::{PushError, Writer};

use crate::common::{Alarm, Bed, random, spec};

/// Words that mean something somewhere, or nothing.
fn words(published: Mark) -> [u64; 12] {
    let at = published.position;
    [0, 1, 31, 32, at, at.wrapping_sub(32), at + 32, at + 4096, 1 << 52, 1 << 63, u64::MAX - 31, u64::MAX]
}

/// One store into a slot: any field, any word; at times a cursor that checks, for a position that it never had.
fn store(slot: &Slot, published: Mark, segment: SegmentId, chance: &mut impl FnMut(u64) -> u64) {
    let words = words(published);
    let word = words[chance(12) as usize];
    let small = [0, 1, 2, 3, 4, 5, u32::MAX, 0x8000_0000][chance(8) as usize];
    let states = [SlotState::FREE, SlotState::PROVISIONAL, SlotState::ACTIVE, SlotState::DONE, SlotState::CARRIED];
    let [a, b] = &slot.cursor.checkpoints;
    match chance(12) {
        0 => slot.state.store(small, Ordering::Release),
        1 => slot.state.store(states[chance(5) as usize].0, Ordering::Release),
        2 => slot.kind.store(small, Ordering::Release),
        3 => slot.cursor.position.store(word, Ordering::Release),
        4 => a.position.store(word, Ordering::Release),
        5 => b.sequence.store(word, Ordering::Release),
        6 => a.check.store(word, Ordering::Release),
        7 => slot.name[chance(4) as usize].store(word, Ordering::Release),
        8 => slot.taken.store(word, Ordering::Release),
        9 => slot.check.store(word, Ordering::Release),
        _ => {
            let lie = Mark { position: word & !31, sequence: words[chance(12) as usize] };
            for checkpoint in [a, b] {
                checkpoint.position.store(lie.position, Ordering::Relaxed);
                checkpoint.sequence.store(lie.sequence, Ordering::Relaxed);
                checkpoint.check.store(cursor::check(lie, segment), Ordering::Relaxed);
            }
            slot.cursor.position.store(lie.position, Ordering::Release);
        }
    }
}

fn payload(sequence: u64) -> [u8; 40] {
    [(sequence % 251) as u8; 40]
}

/// Its own slot and the head of the table, a thousand stores each time: the writer never runs over what the other reader has not read.
#[test]
fn what_a_hostile_reader_writes_into_its_own_slot_costs_nobody_a_record() {
    for seed in 0..40 {
        let mut chance = random(seed);
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        writer.set_spin(0);
        let mut victim = bed.reader("victim", Kind::EPHEMERAL, From::Latest);
        let hostile = bed.reader("hostile", Kind::EPHEMERAL, From::Latest);
        let slot = hostile.slot();
        let hostile = hostile.abandon(); // keeps its byte locked: it lives, and counts
        let segment = hostile.identity().segment;
        let mut buf = [0; 64];
        let (mut pushed, mut got, mut refused) = (0, 0, 0);
        for _ in 0..1000 {
            store(&hostile.slots()[slot], writer.published(), segment, &mut chance);
            let head = hostile.head();
            match chance(8) {
                0 => head.space_bell.store(chance(3) as u32, Ordering::Release),
                1 => head.space_waiters.store(chance(3) as u32, Ordering::Release),
                2 => head.data_waiters.store(chance(3) as u32, Ordering::Release),
                _ => {}
            }
            match writer.push(7, &payload(pushed), Duration::ZERO) {
                Ok(sequence) => {
                    assert_eq!(sequence, pushed, "seed {seed}");
                    pushed += 1;
                }
                Err(PushError::Full { .. }) => refused += 1,
                Err(other) => panic!("seed {seed}: {other}"),
            }
            if chance(3) == 0 {
                match victim.recv(&mut buf, Duration::ZERO) {
                    Ok(Taken::Record { sequence, record_type: 7, len: 40, redelivered: false }) => {
                        assert_eq!(sequence, got, "seed {seed}");
                        assert_eq!(buf[..40], payload(sequence), "seed {seed}");
                        got += 1;
                        victim.release();
                    }
                    Ok(Taken::Empty) => assert_eq!(got, pushed, "seed {seed}"),
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
        while let Ok(Taken::Record { sequence, .. }) = victim.try_recv(&mut buf) {
            assert_eq!((sequence, &buf[..40]), (got, &payload(sequence)[..]), "seed {seed}");
            got += 1;
        }
        assert_eq!(got, pushed, "seed {seed}: all that was acknowledged");
        assert!(refused > 0 && pushed > 50, "seed {seed}: inconclusive, {pushed} pushed, {refused} refused");
    }
}

/// It is alone for a while and says what it likes of where it stands: the writer grants itself no room by that which a newcomer needs.
#[test]
fn what_a_hostile_reader_said_when_it_was_alone_costs_no_newcomer_a_record() {
    let mut lied = 0;
    for seed in 0..40 {
        let mut chance = random(seed);
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let hostile = bed.reader("hostile", Kind::EPHEMERAL, From::Latest);
        let slot = hostile.slot();
        let hostile = hostile.abandon();
        let segment = hostile.identity().segment;
        let mut pushed = 0;
        let mut push = |writer: &mut Writer<_>| match writer.try_push(7, &payload(pushed)) {
            Ok(sequence) => {
                assert_eq!(sequence, pushed, "seed {seed}");
                pushed += 1;
            }
            Err(PushError::Full { .. }) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        };
        for _ in 0..200 {
            store(&hostile.slots()[slot], writer.published(), segment, &mut chance);
            lied +=
                u32::from(hostile.slots()[slot].cursor.position.load(Ordering::Relaxed) > writer.published().position);
            push(&mut writer);
        }
        // It stands where it said last, and lets a newcomer in.
        let mut victim = bed.reader("victim", Kind::EPHEMERAL, From::Latest);
        let mut next = victim.next().sequence;
        assert_eq!(next, writer.published().sequence, "seed {seed}");
        for _ in 0..300 {
            push(&mut writer);
        }
        let mut buf = [0; 64];
        while let taken @ (Taken::Record { .. } | Taken::Gap { .. }) = victim.try_recv(&mut buf).unwrap() {
            assert!(matches!(taken, Taken::Record { sequence, .. } if sequence == next), "seed {seed}: {taken:?}");
            assert_eq!(buf[..40], payload(next), "seed {seed}");
            next += 1;
        }
        assert_eq!(next, pushed, "seed {seed}: all that was acknowledged");
    }
    assert!(lied > 100, "inconclusive: it stood in front of what was published {lied} times only");
}

/// Another's slot: what is lost by it is told, with the exact count, and is never replaced by something else.
#[test]
fn what_a_hostile_reader_writes_into_anothers_slot_is_told_as_a_gap() {
    let mut lost = 0;
    for seed in 0..40 {
        let mut chance = random(seed);
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let mut victim = bed.reader("victim", Kind::DURABLE, From::Latest);
        let hostile = bed.attach(Access::Reader);
        let segment = hostile.identity().segment;
        let mut buf = [0; 64];
        let (mut pushed, mut next) = (0, 0);
        for _ in 0..1000 {
            store(&hostile.slots()[victim.slot()], writer.published(), segment, &mut chance);
            match writer.try_push(7, &payload(pushed)) {
                Ok(_) => pushed += 1,
                Err(PushError::Full { .. }) => {}
                Err(other) => panic!("seed {seed}: {other}"),
            }
            if chance(4) != 0 {
                continue;
            }
            match victim.try_recv(&mut buf) {
                Ok(Taken::Record { sequence, record_type: 7, len: 40, .. }) => {
                    assert_eq!(sequence, next, "seed {seed}");
                    assert_eq!(buf[..40], payload(sequence), "seed {seed}");
                    next += 1;
                    victim.release();
                }
                Ok(Taken::Gap { from, count, reason: GapReason::Overrun | GapReason::Corrupt }) => {
                    assert_eq!(from, next, "seed {seed}");
                    next += count;
                    lost += count;
                    assert!(next <= pushed, "seed {seed}: {count} lost from {from}, but {pushed} were pushed");
                }
                Ok(Taken::Empty) => assert_eq!(next, pushed, "seed {seed}"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    assert!(lost > 0, "inconclusive: the victim was never run over");
}

/// A doorbell of zeros, waiters that are never cleared, or always: the writer waits no longer than it was told to, and goes on.
#[test]
fn a_hostile_space_doorbell_keeps_no_writer_for_ever() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    writer.set_spin(0);
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    let hostile = bed.attach(Access::Reader);
    while writer.try_push(0, &payload(0)).is_ok() {}
    for bell in [0, 1, u32::MAX] {
        for waiters in [0, u32::MAX] {
            hostile.head().space_bell.store(bell, Ordering::Release);
            hostile.head().space_waiters.store(waiters, Ordering::Release);
            let full = writer.push(0, &payload(0), Duration::from_millis(3));
            assert!(matches!(full, Err(PushError::Full { slot: Some(0), .. })), "{full:?}");
        }
    }
    let mut buf = [0; 64];
    assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 0, .. })));
    reader.release();
    writer.try_push(0, &payload(0)).unwrap();
}
