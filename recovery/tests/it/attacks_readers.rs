//! Readers: joining at a bad moment, draining while others go on, durable places that are away, damaged, claimed twice.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringward_recovery::{
    Durability, Event, From, GapReason, OpenError, Reader, ReceiveError, SendError, WhenChainFull, generation_name,
};
use ringward_ring::layout::record_len;
use ringward_ring::memory::Memory;
use ringward_ring::segment::Access;
use ringward_ring::succession::{self, Drained};
use ringward_ring::word::{Kind, SlotState};
use ringward_ring::writer::PushError;
use rstest::rstest;

use crate::attacks::{Alarm, LONG, SHORT, carried, push_text, reclaim, take, text, until, wait_until, writer_cursor};
use crate::common::{Bed, config, durable};

fn full(result: Result<u64, SendError>) -> bool {
    matches!(result, Err(SendError::Push(PushError::Full { .. })))
}

/// The writer has cached how far it may go, with readers or without; a reader joins behind its back, at every distance.
#[rstest]
#[case::no_readers(false)]
#[case::a_cached_limit(true)]
fn a_reader_that_joins_a_writer_with_a_cached_limit_is_not_run_over(#[case] other: bool) {
    let _alarm = Alarm::new();
    for before in 0..300u64 {
        let from = [From::Latest, From::Oldest][before as usize % 2];
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut others = Vec::new();
        if other {
            others.push(channel.reader("other", Durability::Ephemeral, From::Latest).unwrap());
        }
        let mut buf = [0; 64];
        for n in 0..before {
            while full(writer.push(0, &n.to_le_bytes())) {
                for other in &mut others {
                    other.try_recv(&mut buf).unwrap();
                    other.release();
                }
            }
        }
        others.clear();
        let mut reader = channel.reader("new", Durability::Ephemeral, from).unwrap();
        let begins = reader.next_sequence();
        let mut pushed = before;
        while !full(writer.push(0, &pushed.to_le_bytes())) {
            pushed += 1;
            assert!(pushed < before + 4096, "nothing holds it back");
        }
        assert!(pushed > before || from == From::Oldest);
        for sequence in begins..pushed {
            match reader.try_recv(&mut buf).unwrap() {
                Some(Event::Record { sequence: got, len, .. }) => {
                    assert_eq!(got, sequence, "after {before}");
                    assert_eq!(buf[..len], sequence.to_le_bytes());
                }
                other => panic!("after {before}, {sequence} of {begins}..{pushed}: {other:?}"),
            }
        }
        assert_eq!(reader.try_recv(&mut buf).unwrap(), None);
    }
}

/// An ephemeral reader that lives still drains g: its place in g+1 is its own, whoever looks at the byte there.
#[test]
fn a_living_ephemeral_reader_that_still_drains_keeps_its_place_against_the_writer() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut slow = channel.reader("slow", Durability::Ephemeral, From::Latest).unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    let mut pushed = 3;
    while !full(writer.push(0, pushed.to_string().as_bytes())) {
        pushed += 1;
        assert!(pushed <= 4096, "nothing holds it back");
    }
    assert_eq!(pushed, 3 + 4096 / record_len(1).max(record_len(3)), "exactly one ring full: it holds the writer back");
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"], "not drained");
    let (records, _) = take(&mut slow, pushed as usize);
    assert_eq!(records, text(0..pushed));
    assert_eq!(bed.names(), ["00000002.ring"]);
    // Dead, it holds nobody back.
    drop(slow);
    for n in 0..1000u64 {
        writer.push(0, &n.to_le_bytes()).unwrap();
    }
}

#[test]
fn a_living_ephemeral_reader_that_still_drains_keeps_its_place_against_a_newcomer() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut slow = channel.reader("slow", Durability::Ephemeral, From::Latest).unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    let mut newcomer = channel.reader("new", Durability::Ephemeral, From::Latest).unwrap();
    let mut pushed = 3;
    let mut buf = [0; 64];
    // The newcomer reads on; the slow one must hold the writer back all the same.
    for _ in 0..1000 {
        match writer.push(0, pushed.to_string().as_bytes()) {
            Ok(_) => pushed += 1,
            Err(SendError::Push(PushError::Full { .. })) => break,
            Err(other) => panic!("{other}"),
        }
        newcomer.try_recv(&mut buf).unwrap();
        newcomer.release();
    }
    let (records, events) = take(&mut slow, pushed as usize);
    assert_eq!(records, text(0..pushed), "{events:?}");
}

/// The same when the reader died in g: then its place is free in both.
#[test]
fn a_dead_ephemeral_reader_is_reclaimed_in_the_next_generation() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let dead = channel.reader("dead", Durability::Ephemeral, From::Latest).unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    assert_eq!(writer.readers(), 1, "carried: it lived");
    drop(dead);
    for n in 0..1000u64 {
        writer.push(0, &n.to_le_bytes()).unwrap();
    }
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"]);
}

/// Many claim one durable name at once, again and again: one holder at any time, and never none.
#[test]
fn many_claims_on_one_durable_name_make_one_holder() {
    let _alarm = Alarm::new();
    const THREADS: usize = 4;
    for round in 0..30 {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let _writer = channel.writer().unwrap();
        if round % 2 == 0 {
            drop(durable(&channel, "d"));
        }
        let barrier = Barrier::new(THREADS);
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    let claimed = channel.reader("d", Durability::Durable, From::Latest);
                    if claimed.is_ok() {
                        holders.fetch_add(1, Ordering::SeqCst);
                    }
                    barrier.wait(); // held until everybody has asked
                    match claimed {
                        Ok(_) | Err(OpenError::NameHeld { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                });
            }
        });
        assert_eq!(holders.into_inner(), 1, "round {round}");
    }
}

/// Over generations: the one who is still in an older one has the name.
#[test]
fn a_name_held_in_an_older_generation_is_held() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut holder = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    drop(writer);
    let _writer = channel.writer().unwrap();
    let claim = || channel.reader("d", Durability::Durable, From::Latest);
    assert!(matches!(claim(), Err(OpenError::NameHeld { .. })), "it is free in generation 2, and yet held");
    assert_eq!(take(&mut holder, 1).0, text(0..1));
    assert_eq!(holder.generation(), 2);
    assert!(matches!(claim(), Err(OpenError::NameHeld { .. })));
    assert!(matches!(channel.forget_reader("d"), Err(OpenError::NameHeld { .. })));
    drop(holder);
    claim().unwrap();
}

/// Everything that a death in the middle of joining can leave in a slot: it holds nobody back, is not carried, and is used again.
#[rstest]
#[case::nothing_but_the_kind(SlotState::FREE, true)]
#[case::provisional(SlotState::PROVISIONAL, false)]
#[case::provisional_with_half_a_name(SlotState::PROVISIONAL, true)]
fn a_slot_half_written_at_death_is_nobodys(#[case] state: SlotState, #[case] half: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let dying = channel.reader("dying", Durability::Durable, From::Latest).unwrap();
    let segment = writer.segment().clone();
    let slot = &segment.slots()[0];
    slot.state.store(state.0, Ordering::SeqCst);
    if half {
        slot.name[0].store(0x4141_4141, Ordering::SeqCst);
        slot.cursor.checkpoints[0].check.store(1, Ordering::SeqCst);
        slot.cursor.position.store(u64::MAX, Ordering::SeqCst);
    }
    drop(dying); // its byte is free
    assert_eq!(carried(&segment), []);
    assert_eq!(succession::drained(&segment), Drained::Yes);
    for n in 0..1000u64 {
        writer.push(0, &n.to_le_bytes()).unwrap();
    }
    let mut next = durable(&channel, "next");
    let readers = &channel.inspect().unwrap()[0].seen.as_ref().unwrap().readers.len();
    assert_eq!(*readers, 1, "the same slot");
    writer.push(0, b"for it").unwrap();
    assert_eq!(take(&mut next, 1).0, [(1000, b"for it".to_vec())]);
    // One who is still on its way in, provisional and alive, holds the writer back, and nobody else does.
    next.forget();
    let living = channel.reader("living", Durability::Ephemeral, From::Latest).unwrap();
    segment.slots()[0].state.store(SlotState::PROVISIONAL.0, Ordering::SeqCst);
    assert!((0..1000u64).any(|n| full(writer.push(0, &n.to_le_bytes()))));
    drop(living);
}

/// A durable reader that is away for twenty generations finds everything, in order.
#[test]
fn a_durable_reader_that_was_absent_for_many_generations_misses_nothing() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    // Half taken: handed out, and not released.
    assert!(matches!(reader.recv(&mut [0; 64], LONG).unwrap(), Some(Event::Record { sequence: 0, .. })));
    drop(reader);
    let mut pushed = 1;
    for generation in 2..=20 {
        drop(writer);
        writer = channel.writer().unwrap();
        assert_eq!(writer.generation(), generation);
        if generation % 3 != 0 {
            push_text(&mut writer, pushed..pushed + 2); // every third one stays empty
            pushed += 2;
        }
        reclaim(channel.namespace());
    }
    assert_eq!(bed.names().len(), 20);
    let mut reader = durable(&channel, "d");
    let mut buf = [0; 64];
    let first = reader.recv(&mut buf, LONG).unwrap();
    assert!(matches!(first, Some(Event::Record { sequence: 0, redelivered: true, .. })), "{first:?}");
    let (records, events) = take(&mut reader, pushed as usize - 1);
    assert_eq!(records, text(1..pushed));
    assert_eq!(events, (1..20).map(|old| Event::Restarted { old, new: old + 1 }).collect::<Vec<_>>());
    assert_eq!(bed.names(), [generation_name(20)]);
}

/// With the chain full and told to drop the oldest, the absent one is told exactly what that cost.
#[test]
fn what_a_full_chain_drops_is_reported_exactly() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().chain_limit(3).when_chain_full(WhenChainFull::DropOldest));
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    let mut pushed = 0;
    for _ in 0..6 {
        push_text(&mut writer, pushed..pushed + 3);
        pushed += 3;
        drop(writer);
        writer = channel.writer().unwrap();
        assert!(bed.names().len() <= 3);
    }
    let mut reader = durable(&channel, "away");
    let gap = until(&mut reader, |event| !matches!(event, Event::Restarted { .. }));
    let Event::Gap { from: 0, count: Some(count), reason: GapReason::Dropped } = gap else { panic!("{gap:?}") };
    assert_eq!(take(&mut reader, (pushed - count) as usize).0, text(count..pushed));
}

/// One bit of a durable reader's slot is flipped while it is away, each bit of its state and kind in turn: it keeps its place.
#[test]
fn a_flipped_bit_in_state_or_kind_does_not_make_a_durable_reader_vanish() {
    let _alarm = Alarm::new();
    for bit in 0..64 {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..1);
        assert_eq!(take(&mut reader, 1).0, text(0..1));
        push_text(&mut writer, 1..2);
        drop(reader);
        let segment = writer.segment().clone();
        let slot = &segment.slots()[0];
        if bit < 32 {
            slot.state.fetch_xor(1 << bit, Ordering::SeqCst);
        } else {
            slot.kind.fetch_xor(1 << (bit - 32), Ordering::SeqCst);
        }
        // It holds the writer back all the same.
        let mut pushed = 2;
        while !full(writer.push(0, pushed.to_string().as_bytes())) {
            pushed += 1;
            assert!(pushed < 1000, "bit {bit}: it was run over");
        }
        drop((writer, segment));
        let mut writer = channel.writer().unwrap();
        assert_eq!(writer.readers(), 1, "bit {bit}: its place was not carried");
        push_text(&mut writer, pushed..pushed + 1);
        let mut reader = durable(&channel, "d");
        assert_eq!(take(&mut reader, pushed as usize).0, text(1..pushed + 1), "bit {bit}");
    }
}

/// The reader table is punched out: living readers read on, the writer holds back for them as it remembers, and the records of one
/// who is away are kept.
#[test]
fn a_punched_reader_table_costs_no_living_reader_its_records() {
    let _alarm = Alarm::new();
    for durability in [Durability::Durable, Durability::Ephemeral] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = channel.reader("d", durability, From::Latest).unwrap();
        // So that the writer has seen it.
        let mut pushed = 0;
        while !full(writer.push(0, pushed.to_string().as_bytes())) {
            pushed += 1;
        }
        let (records, _) = take(&mut reader, pushed as usize);
        assert_eq!(records, text(0..pushed));
        let before = pushed;
        writer.push(0, pushed.to_string().as_bytes()).unwrap();
        pushed += 1;
        let geometry = writer.segment().identity().geometry;
        punch(&bed, 1, geometry.table_at(), geometry.table_len());
        while !full(writer.push(0, pushed.to_string().as_bytes())) {
            pushed += 1;
            assert!(pushed < before + 1000, "it was run over");
        }
        let (records, events) = take(&mut reader, (pushed - before) as usize);
        assert_eq!(records, text(before..pushed), "{events:?}");
        drop(writer);
        let mut writer = channel.writer().unwrap();
        push_text(&mut writer, pushed..pushed + 1);
        let (records, events) = take(&mut reader, 1);
        assert_eq!(records, text(pushed..pushed + 1));
        assert_eq!(events, [Event::Restarted { old: 1, new: 2 }]);
    }
}

fn punch(bed: &Bed, generation: u64, at: u64, len: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(bed.file(generation), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len).unwrap();
}

/// It has taken everything, and sleeps: nothing that comes could tell it.
#[test]
fn an_expelled_reader_that_waits_is_woken_and_told() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    take(&mut reader, 1);
    assert_eq!(reader.recv(&mut [0; 64], SHORT).unwrap(), None);
    let operator = bed.attach(1, Access::Successor);
    let told = std::thread::scope(|scope| {
        let waits = scope.spawn(|| reader.recv(&mut [0; 64], LONG));
        wait_until("it sleeps", || operator.head().data_waiters.load(Ordering::Acquire) > 0);
        succession::expel(&operator, 0);
        waits.join().unwrap()
    });
    assert!(matches!(told, Err(ReceiveError::Expelled { next: 1 })), "{told:?}");
}

/// A reader that lives and never reads holds the writer back until it is expelled; then it is told, and its place is gone.
#[rstest]
#[case::durable(Durability::Durable)]
#[case::ephemeral(Durability::Ephemeral)]
fn a_living_reader_that_never_reads_can_be_expelled(#[case] durability: Durability) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut lazy = channel.reader("lazy", durability, From::Latest).unwrap();
    let mut good = durable(&channel, "good");
    let mut buf = [0; 64];
    let mut pushed = 0;
    let slot = loop {
        match writer.push(0, pushed.to_string().as_bytes()) {
            Ok(_) => pushed += 1,
            Err(SendError::Push(PushError::Full { slot, .. })) => break slot.unwrap(),
            Err(other) => panic!("{other}"),
        }
        good.try_recv(&mut buf).unwrap();
        good.release();
    };
    let operator = bed.attach(1, Access::Successor);
    succession::expel(&operator, slot);
    for _ in 0..500 {
        push_text(&mut writer, pushed..pushed + 1);
        pushed += 1;
        good.try_recv(&mut buf).unwrap();
        good.release();
    }
    let expelled = loop {
        match lazy.recv(&mut buf, LONG) {
            Ok(Some(Event::Record { .. })) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(expelled, ReceiveError::Expelled { .. }), "{expelled}");
    drop(lazy);
    // Opened again, it has a place that counts.
    let mut lazy = channel.reader("lazy", durability, From::Latest).unwrap();
    let mut late = channel.reader("late", Durability::Ephemeral, From::Latest).unwrap();
    let begins = pushed;
    loop {
        match writer.push(0, pushed.to_string().as_bytes()) {
            Ok(_) => pushed += 1,
            Err(SendError::Push(PushError::Full { .. })) => break,
            Err(other) => panic!("{other}"),
        }
        good.try_recv(&mut buf).unwrap();
        good.release();
        assert!(pushed < begins + 1000, "a reader that was opened again does not count");
    }
    for reader in [&mut lazy, &mut late] {
        let (records, _) = take(reader, (pushed - begins) as usize);
        assert_eq!(records, text(begins..pushed));
    }
    // Nor does its old place keep the generation.
    drop(writer);
    let _writer = channel.writer().unwrap();
    take(&mut lazy, 0);
    take(&mut late, 0);
    let (mut good, begun) = (good, std::time::Instant::now());
    while good.generation() == 1 && begun.elapsed() < LONG {
        good.recv(&mut buf, SHORT).unwrap();
    }
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"], "an expelled place is nobody's");
}

/// Words of a slot are read as what they are: an unknown kind counts as durable.
#[test]
fn in_doubt_a_slot_is_durable() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let slot = &writer.segment().slots()[3];
    assert!(!ringward_ring::table::is_durable(slot), "a fresh one");
    slot.kind.store(0, Ordering::SeqCst);
    assert!(ringward_ring::table::is_durable(slot));
    slot.kind.store(Kind::DURABLE.0, Ordering::SeqCst);
    assert!(ringward_ring::table::is_durable(slot));
}

/// The table is gone, and with it the knowledge that anybody was registered: whoever comes with a durable name that nobody knows is told
/// that records may be missing.
#[test]
fn an_absent_durable_reader_is_told_that_its_generation_was_cut() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..3);
    drop(writer);
    bed.file(1).set_len(0).unwrap();
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"after").unwrap();
    let told = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert!(matches!(told, Event::Gap { count: None, .. }), "{told:?}");
}

/// The same for one whose card was damaged: it can't be found.
#[test]
fn an_absent_durable_reader_whose_card_is_damaged_is_told() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..3);
    writer.segment().slots()[0].name[0].fetch_xor(1, Ordering::SeqCst);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 3..4);
    let told = until(&mut reader, |event| matches!(event, Event::Gap { .. } | Event::Record { .. }));
    assert!(matches!(told, Event::Gap { .. } | Event::Record { sequence: 0, .. }), "{told:?}");
}

/// A successor configured with fewer slots keeps the number of its predecessor's.
#[test]
fn a_durable_reader_in_a_slot_that_the_successor_lacks_is_not_dropped_silently() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().reader_slots(2));
    let mut writer = channel.writer().unwrap();
    let mut readers = [durable(&channel, "a"), durable(&channel, "b")];
    push_text(&mut writer, 0..1);
    drop(writer);
    let smaller = ringward_recovery::Channel::new(&bed.namespace, "c", config().reader_slots(1)).unwrap();
    // Refusing is right, and so is keeping the number of slots.
    let Ok(mut writer) = smaller.writer() else { return };
    for n in 1..1000 {
        if full(writer.push(0, n.to_string().as_bytes())) {
            break;
        }
        take(&mut readers[0], if n == 1 { 2 } else { 1 });
    }
    let (records, events) = crate::common::all(&mut readers[1]);
    assert!(records.len() > 2 && records.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{records:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Gap { .. })), "{events:?}");
}

/// A writer dies between the checkpoint of its last push and the position. Its end lies behind that record; a reader that
/// took it stands further than the position says, and its place counts all the same.
#[test]
fn a_reader_that_took_the_last_push_of_a_dead_writer_is_followed_from_there() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..14);
    let segment = writer.segment().clone();
    let cursor = writer_cursor(&segment);
    let before = cursor.checkpoints.iter().map(|mark| mark.position.load(Ordering::SeqCst)).min().unwrap();
    assert!(before < cursor.position.swap(before, Ordering::SeqCst));
    drop((writer, segment));
    let mut writer = channel.writer().unwrap();
    assert_eq!(writer.next_sequence(), 14);
    let mut buf = [0; 64];
    for n in 0..14 {
        let event = reader.recv(&mut buf, LONG).unwrap();
        assert!(matches!(event, Some(Event::Record { sequence, .. }) if sequence == n), "{event:?}");
    }
    reader.release();
    assert_eq!(reader.generation(), 1, "it has not moved on yet");
    drop(reader);
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 14..15);
    let (records, events) = take(&mut reader, 1);
    assert_eq!(records, text(14..15));
    assert_eq!(events, [Event::Restarted { old: 1, new: 2 }]);
}

/// Takes `count` records without releasing any; which of them were marked.
fn marks(reader: &mut Reader, count: usize) -> Vec<(u64, bool)> {
    let mut buf = [0; 64];
    reader.set_auto_release(false);
    let taken = (0..count).map(|_| match reader.recv(&mut buf, LONG).unwrap() {
        Some(Event::Record { sequence, redelivered, .. }) => (sequence, redelivered),
        other => panic!("{other:?}"),
    });
    taken.collect()
}

#[test]
fn what_was_taken_once_is_marked_after_a_second_death_too() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut first = durable(&channel, "d");
    push_text(&mut writer, 0..4);
    assert_eq!(marks(&mut first, 3), [(0, false), (1, false), (2, false)]);
    drop(first);
    assert_eq!(marks(&mut durable(&channel, "d"), 1), [(0, true)]);
    let mut third = durable(&channel, "d");
    assert_eq!(marks(&mut third, 4), [(0, true), (1, true), (2, true), (3, false)]);
}

#[test]
fn nothing_is_marked_that_was_written_after_the_claim() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    assert_eq!(marks(&mut reader, 1), [(0, false)]);
    drop(reader);
    // Damaged: it says that more was taken than was ever written.
    writer.segment().slots()[0].taken.store(100, Ordering::SeqCst);
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 2..4);
    assert_eq!(marks(&mut reader, 3)[2], (2, false));
    drop(reader);
    let mut reader = durable(&channel, "d");
    assert_eq!(marks(&mut reader, 4), [(0, true), (1, true), (2, true), (3, false)]);
}

/// Records come without a pause: the memory of the generation that was left is given back all the same, and not by the reader between two
/// of them.
#[test]
fn what_was_left_is_given_back_in_a_stream_without_pauses() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("r", Durability::Ephemeral, From::Latest).unwrap();
    let left = bed.namespace.path().join(channel.name()).join(generation_name(1));
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains(left.to_str().unwrap());
    assert!(mapped());
    push_text(&mut writer, 0..1);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    let mut buf = [0; 64];
    let mut next = 1;
    let mut moved = false;
    let begun = std::time::Instant::now();
    while !moved || mapped() {
        // There is always one to receive.
        if writer.next_sequence() == next {
            push_text(&mut writer, next..next + 1);
        }
        match reader.recv(&mut buf, LONG).unwrap() {
            Some(Event::Record { sequence: 0, .. }) => {}
            Some(Event::Record { sequence, .. }) => {
                assert_eq!(sequence, next);
                next += 1;
            }
            Some(Event::Restarted { .. }) => moved = true,
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < LONG * 2, "kept for ever; {next} records later");
    }
}
