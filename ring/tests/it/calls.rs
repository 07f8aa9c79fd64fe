//! What each call of a writer and a reader answers, and what it leaves, one at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringward_ring::cursor::Mark;
use ringward_ring::memory::Memory;
use ringward_ring::reader::{GapReason, Reader, RecvError, Taken};
use ringward_ring::segment::Segment;
use ringward_ring::succession;
use ringward_ring::table::From;
use ringward_ring::word::{End, EndWord, Kind, SlotState, State};
use ringward_ring::writer::{CommitError, FillError, PushError, Writer};

use crate::common::{Bed, spec};

const LONG: Duration = Duration::from_secs(60);

fn sequence(taken: Result<Taken, RecvError>) -> u64 {
    match taken {
        Ok(Taken::Record { sequence, .. }) => sequence,
        other => panic!("{other:?}"),
    }
}

fn slot_state(segment: &Arc<Segment>, slot: usize) -> SlotState {
    SlotState(segment.slots()[slot].state.load(Ordering::SeqCst))
}

fn released(segment: &Arc<Segment>, slot: usize) -> u64 {
    segment.slots()[slot].cursor.position.load(Ordering::SeqCst)
}

/// A writer with this many records of 8 bytes behind a reader that has taken none.
fn pushed(bed: &Bed, count: u8) -> (Writer<Arc<Segment>>, Reader<Arc<Segment>>) {
    let mut writer = bed.writer(&spec(4096));
    let reader = bed.reader("r", Kind::DURABLE, From::Latest);
    for i in 0..count {
        writer.try_push(i.into(), &[i; 8]).unwrap();
    }
    (writer, reader)
}

#[test]
fn draining_hands_out_what_is_there_and_releases_it() {
    let bed = Bed::new();
    let (mut writer, mut reader) = pushed(&bed, 5);
    let segment = Arc::clone(writer.memory());
    let mut buf = [0; 64];
    let mut got = Vec::new();
    let mut each = |sequence: u64, record_type: u32, payload: &[u8], redelivered: bool| {
        assert_eq!((u64::from(record_type), payload), (sequence, &[sequence as u8; 8][..]));
        assert!(!redelivered);
        got.push(sequence);
    };
    assert_eq!(reader.drain(&mut buf, 2, &mut each), Ok((2, Taken::Empty)));
    assert_eq!((reader.next(), reader.has_in_hand()), (Mark { position: 64, sequence: 2 }, false));
    assert_eq!(released(&segment, 0), 64);
    assert_eq!(reader.drain(&mut buf, 0, &mut each), Ok((0, Taken::Empty)));
    assert_eq!(reader.drain(&mut buf, 9, &mut each), Ok((3, Taken::Empty)));
    writer.close().unwrap();
    let end = Taken::End { at: Mark { position: 160, sequence: 5 }, state: State::CLOSED };
    assert_eq!(reader.drain(&mut buf, 9, &mut each), Ok((0, end)));
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_handed_out_is_in_hand_until_it_is_released() {
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 2);
    let segment = writer.memory();
    let mut buf = [0; 8];
    assert!(!reader.has_in_hand());
    assert_eq!(sequence(reader.try_recv(&mut buf)), 0);
    assert!(reader.has_in_hand());
    assert_eq!((released(segment, 0), segment.slots()[0].taken.load(Ordering::SeqCst)), (0, 1));
    reader.release();
    assert!(!reader.has_in_hand());
    assert_eq!(released(segment, 0), 32);
    reader.account(7);
    assert_eq!(segment.slots()[0].taken.load(Ordering::SeqCst), 7);
}

#[test]
fn how_a_reader_leaves_is_said_in_its_slot() {
    type Leave = fn(Reader<Arc<Segment>>) -> Arc<Segment>;
    for (leave, state) in [
        (Reader::done as Leave, SlotState::DONE),
        (Reader::forget, SlotState::FREE),
        (Reader::abandon, SlotState::ACTIVE),
    ] {
        let bed = Bed::new();
        let (writer, reader) = pushed(&bed, 0);
        assert_eq!(reader.slot(), 0);
        assert_eq!(reader.memory().identity(), writer.memory().identity());
        let segment = leave(reader);
        assert_eq!(slot_state(&segment, 0), state);
    }
}

#[test]
fn a_buffer_that_is_too_small_is_told_and_costs_nothing() {
    let bed = Bed::new();
    let (_writer, mut reader) = pushed(&bed, 1);
    for given in [0, 7] {
        let small = RecvError::BufferTooSmall { needed: 8, given };
        assert_eq!(reader.try_recv(&mut vec![0; given]), Err(small));
    }
    assert_eq!(sequence(reader.try_recv(&mut [0; 8])), 0);
}

#[test]
fn a_receive_waits_for_what_comes_and_no_longer_than_it_may() {
    let bed = Bed::new();
    let (mut writer, mut reader) = pushed(&bed, 0);
    let mut buf = [0; 8];
    for turns in [0, 9] {
        reader.set_spin(turns);
        assert_eq!(reader.recv(&mut buf, Duration::ZERO), Ok(Taken::Empty));
        let before = std::time::Instant::now();
        assert_eq!(reader.recv(&mut buf, Duration::from_millis(30)), Ok(Taken::Empty));
        assert!(before.elapsed() >= Duration::from_millis(30));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| reader.recv(&mut [0; 8], LONG));
            std::thread::sleep(Duration::from_millis(20));
            let pushed = writer.try_push(0, b"awaited!").unwrap();
            assert_eq!(sequence(waiting.join().unwrap()), pushed);
        });
    }
}

#[test]
fn who_leaves_losses_stops_in_front_of_them() {
    use std::os::unix::fs::FileExt;
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 3);
    let file = std::fs::OpenOptions::new().write(true).open(bed.path.path().join("00000001.ring")).unwrap();
    file.write_all_at(&[9], writer.memory().identity().geometry.data_at() + 24).unwrap();
    let mut buf = [0; 8];
    reader.leave_losses(true);
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty));
    assert_eq!(reader.next(), Mark { position: 0, sequence: 0 });
    reader.leave_losses(false);
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Gap { from: 0, count: 1, reason: GapReason::Corrupt }));
    assert_eq!(sequence(reader.try_recv(&mut buf)), 1);
}

#[test]
fn a_reader_learns_that_it_was_expelled_and_not_that_others_were() {
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 2);
    let mut buf = [0; 8];
    assert_eq!(sequence(reader.try_recv(&mut buf)), 0);
    for other in [1, 31] {
        succession::expel(writer.memory(), other);
    }
    assert_eq!(sequence(reader.try_recv(&mut buf)), 1);
    // It is told when there is nothing more to take in front of the position that it saw.
    succession::shift_state(writer.memory(), State::OPEN, State::FENCING);
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty));
    succession::expel(writer.memory(), 0);
    assert_eq!(reader.try_recv(&mut buf), Err(RecvError::Expelled { next: 2 }));
}

#[test]
fn the_end_is_told_as_it_was_decided() {
    for (word, told) in [
        (None, Ok(Taken::Empty)),
        (Some(EndWord::UNKNOWN.0), Err(RecvError::UnknownEnd { next: 2 })),
        (Some(1), Ok(Taken::Empty)), // damaged: it will be decided again
    ] {
        let bed = Bed::new();
        let (writer, mut reader) = pushed(&bed, 2);
        let mut buf = [0; 8];
        assert_eq!([0, 1].map(|_| sequence(reader.try_recv(&mut buf))), [0, 1]);
        let succession = &writer.memory().page().succession;
        succession.state.store(State::FENCING.0, Ordering::SeqCst);
        if let Some(word) = word {
            succession.end.store(word, Ordering::SeqCst);
        }
        assert_eq!(reader.try_recv(&mut buf), told);
    }
    // Ended in front of what was published: that is never delivered.
    for (end, delivered) in [(0, 0), (32, 1), (64, 2)] {
        let bed = Bed::new();
        let (writer, mut reader) = pushed(&bed, 2);
        let mut buf = [0; 8];
        succession::fence_writer(writer.memory(), false).unwrap();
        assert_eq!(succession::decide_end(writer.memory(), Some(end)), Ok(End::At(end)));
        for expected in 0..delivered {
            assert_eq!(sequence(reader.try_recv(&mut buf)), expected);
        }
        let at = Mark { position: end, sequence: delivered };
        assert_eq!(reader.try_recv(&mut buf), Ok(Taken::End { at, state: State::FENCING }));
    }
}

#[test]
fn a_ring_without_room_names_who_is_in_the_way() {
    let bed = Bed::new();
    let (mut writer, mut slow) = pushed(&bed, 1);
    let mut fast = bed.reader("fast", Kind::DURABLE, From::Latest);
    assert_eq!((slow.slot(), fast.slot()), (0, 1));
    while writer.try_push(0, &[0; 488]).is_ok() {}
    let behind = writer.published().position;
    let full = PushError::Full { slot: Some(0), behind, capacity: 4096 };
    assert_eq!(writer.try_push(0, &[0; 488]), Err(full));
    assert_eq!(writer.push(0, &[0; 488], Duration::ZERO), Err(full));
    let before = std::time::Instant::now();
    assert_eq!(writer.push(0, &[0; 488], Duration::from_millis(30)), Err(full));
    assert!(before.elapsed() >= Duration::from_millis(30));
    assert_eq!(writer.fate(), Ok(()), "full is for now");
    // As soon as it has released, there is room; then the other one is in the way.
    let mut buf = [0; 512];
    slow.drain(&mut buf, u64::MAX, |_, _, _, _| {}).unwrap();
    let full = PushError::Full { slot: Some(1), behind: behind - 32, capacity: 4096 };
    assert_eq!(writer.try_push(0, &[0; 488]), Err(full));
    fast.drain(&mut buf, u64::MAX, |_, _, _, _| {}).unwrap();
    writer.try_push(0, &[0; 488]).unwrap();
}

#[test]
fn a_push_waits_for_room() {
    for turns in [0, 9] {
        let bed = Bed::new();
        let (mut writer, mut reader) = pushed(&bed, 0);
        writer.set_spin(turns);
        while writer.try_push(0, &[0; 488]).is_ok() {}
        let next = writer.published().sequence;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| writer.push(0, &[1; 488], LONG));
            std::thread::sleep(Duration::from_millis(20));
            reader.drain(&mut [0; 512], 1, |_, _, _, _| {}).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(next));
        });
    }
}

#[test]
fn a_batch_that_fills_the_ring_itself_is_told_so() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut batch = writer.batch();
    assert!(batch.is_empty());
    for i in 0..8 {
        assert_eq!(batch.push(0, &[0; 488]), Ok(i));
        assert_eq!((batch.len(), batch.is_empty()), (i + 1, false));
    }
    let full = PushError::Full { slot: None, behind: 4096, capacity: 4096 };
    assert_eq!(batch.push(0, &[0; 488]), Err(full));
    assert_eq!(batch.publish(), Ok(0..8));
    assert_eq!(writer.batch().publish(), Ok(8..8));
    // Dropped, it leaves nothing.
    let mut batch = writer.batch();
    batch.push(0, b"dropped").unwrap();
    drop(batch);
    assert_eq!(writer.published(), Mark { position: 4096, sequence: 8 });
    assert_eq!(writer.try_push(0, b"kept"), Ok(8));
}

#[test]
fn a_reservation_takes_exactly_what_was_reserved() {
    let bed = Bed::new();
    let (mut writer, mut reader) = pushed(&bed, 0);
    let mut reservation = writer.reserve(3, 10).unwrap();
    reservation.fill(b"12345").unwrap();
    assert_eq!(reservation.remaining(), 5);
    assert_eq!(format!("{reservation:?}"), "Reservation { position: 0, len: 10, filled: 5, .. }");
    assert_eq!(reservation.fill(b"678901"), Err(FillError { reserved: 10, filled: 11 }));
    reservation.fill(b"6789").unwrap();
    let short = CommitError::Fill(FillError { reserved: 10, filled: 9 });
    assert_eq!(reservation.commit(), Err(short));
    writer.reserve(3, 10).unwrap().abort();
    let mut reservation = writer.reserve(3, 10).unwrap();
    reservation.fill(b"12345").unwrap();
    reservation.fill(b"").unwrap();
    reservation.fill(b"67890").unwrap();
    assert_eq!((reservation.remaining(), reservation.commit()), (0, Ok(0)));
    assert_eq!(writer.published(), Mark { position: 64, sequence: 1 });
    let mut buf = [0; 16];
    let taken = Taken::Record { sequence: 0, record_type: 3, len: 10, redelivered: false };
    assert_eq!((reader.try_recv(&mut buf), &buf[..10]), (Ok(taken), &b"1234567890"[..]));
}

#[test]
fn a_closed_generation_takes_nothing_more() {
    let bed = Bed::new();
    let (mut writer, mut reader) = pushed(&bed, 1);
    assert_eq!(writer.close(), Ok(()));
    assert_eq!(succession::state(writer.memory()), State::CLOSED);
    assert_eq!(succession::end(writer.memory()), Ok(End::At(32)));
    assert_eq!(writer.fate(), Err(PushError::Fenced));
    assert_eq!(writer.try_push(0, b"late"), Err(PushError::Fenced));
    assert_eq!(writer.reserve(0, 1).map(|_| ()), Err(PushError::Fenced));
    assert_eq!(writer.close(), Err(PushError::Fenced));
    let mut buf = [0; 8];
    assert_eq!(sequence(reader.try_recv(&mut buf)), 0);
    let at = Mark { position: 32, sequence: 1 };
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::End { at, state: State::CLOSED }));
}

#[test]
fn a_fenced_push_is_acknowledged_only_if_it_lies_in_front_of_the_end() {
    // Nobody has decided the end: the writer does, behind its own push.
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 1);
    succession::fence_writer(writer.memory(), false).unwrap();
    assert_eq!(writer.try_push(0, b"in time"), Ok(1));
    assert_eq!(succession::end(writer.memory()), Ok(End::At(64)));
    assert_eq!(writer.try_push(0, b"late"), Err(PushError::Fenced));
    assert_eq!(writer.close(), Err(PushError::Fenced));
    // Somebody has decided it, here and there.
    for (end, acknowledged) in [(Some(32), false), (Some(64), true), (Some(96), true), (None, false)] {
        let bed = Bed::new();
        let (mut writer, _reader) = pushed(&bed, 1);
        succession::fence_writer(writer.memory(), false).unwrap();
        succession::decide_end(writer.memory(), end).unwrap();
        let expected = if acknowledged { Ok(1) } else { Err(PushError::Fenced) };
        assert_eq!(writer.try_push(0, b"x"), expected, "ended at {end:?}");
        assert_eq!(writer.fate(), Err(PushError::Fenced));
    }
    // To close what was fenced is too late.
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 1);
    succession::fence_writer(writer.memory(), false).unwrap();
    assert_eq!(writer.close(), Err(PushError::Fenced));
    assert_eq!(succession::state(writer.memory()), State::FENCING);
}

#[test]
fn a_writer_that_waits_for_room_learns_that_it_was_fenced_and_decides_the_end() {
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 0);
    while writer.try_push(0, &[0; 488]).is_ok() {}
    let end = writer.published().position;
    succession::fence_writer(writer.memory(), false).unwrap();
    assert_eq!(writer.push(0, &[0; 488], LONG), Err(PushError::Fenced));
    assert_eq!(succession::end(writer.memory()), Ok(End::At(end)));
}

#[test]
fn a_damaged_state_word_ends_a_writer() {
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 0);
    writer.memory().page().succession.state.store(7, Ordering::SeqCst);
    let id = writer.memory().identity().segment.to_string();
    assert!(format!("{writer:?}").starts_with(&format!("Writer {{ segment: {id}")), "{writer:?}");
    let damaged = PushError::Damaged { what: "the state word", found: 7 };
    assert_eq!(writer.try_push(0, b"x"), Err(damaged));
    assert_eq!((writer.fate(), writer.try_push(0, b"x")), (Err(damaged), Err(damaged)));
    assert_eq!(succession::end(writer.memory()), Ok(End::Undecided), "that is for a successor to decide");
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 0);
    while writer.try_push(0, &[0; 488]).is_ok() {}
    writer.memory().page().succession.state.store(7, Ordering::SeqCst);
    assert_eq!(writer.push(0, &[0; 488], LONG), Err(damaged));
}

#[test]
fn the_record_limit_is_the_longest_payload() {
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 0);
    let limit = 4096 / 2 - 24;
    let large = |len| PushError::TooLarge { len, limit };
    assert_eq!(writer.try_push(0, &vec![0; limit as usize + 1]), Err(large(limit + 1)));
    assert_eq!(writer.push(0, &vec![0; limit as usize + 9], LONG), Err(large(limit + 9)));
    assert_eq!(writer.wait_room(limit as usize + 1, LONG), Err(large(limit + 1)));
    assert_eq!(writer.try_push(0, &vec![0; limit as usize]), Ok(0));
}

#[test]
fn a_beat_counts_and_says_when() {
    let bed = Bed::new();
    let (writer, _reader) = pushed(&bed, 0);
    let line = &writer.memory().page().heartbeat;
    let beats = || (line.beat.load(Ordering::SeqCst), line.time.load(Ordering::SeqCst));
    let (before, _) = beats();
    for (beat, now) in [(1, 77), (2, 99)] {
        writer.beat(now);
        assert_eq!(beats(), (before + beat, now));
    }
}

#[test]
fn a_place_whose_reader_died_is_reclaimed_if_it_was_ephemeral() {
    for (kind, reclaimed) in [(Kind::EPHEMERAL, true), (Kind::DURABLE, false)] {
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let reader = bed.reader("r", kind, From::Latest);
        while writer.try_push(0, &[0; 488]).is_ok() {}
        drop(reader.abandon());
        assert_eq!(writer.try_push(0, &[0; 488]).is_ok(), reclaimed, "{kind}");
        let state = if reclaimed { SlotState::FREE } else { SlotState::ACTIVE };
        assert_eq!(slot_state(writer.memory(), 0), state);
        // The damaged kind of a durable one does not make it less durable.
        if !reclaimed {
            writer.memory().slots()[0].kind.store(Kind::EPHEMERAL.0 ^ 1, Ordering::SeqCst);
            assert!(writer.try_push(0, &[0; 488]).is_err());
        }
    }
}

#[test]
fn expelled_a_reader_holds_nobody_back() {
    let bed = Bed::new();
    let (mut writer, _reader) = pushed(&bed, 0);
    while writer.try_push(0, &[0; 488]).is_ok() {}
    for other in [1, 31] {
        succession::expel(writer.memory(), other);
    }
    assert!(writer.try_push(0, &[0; 488]).is_err());
    succession::expel(writer.memory(), 0);
    assert!(writer.try_push(0, &[0; 488]).is_ok());
}

#[test]
fn who_is_just_joining_holds_the_writer_back_while_it_lives() {
    let bed = Bed::new();
    let (mut writer, reader) = pushed(&bed, 0);
    while writer.try_push(0, &[0; 488]).is_ok() {}
    writer.memory().slots()[0].state.store(SlotState::PROVISIONAL.0, Ordering::SeqCst);
    assert!(writer.try_push(0, &[0; 488]).is_err());
    drop(reader.abandon());
    assert!(writer.try_push(0, &[0; 488]).is_ok());
}

#[test]
fn a_place_that_says_nothing_any_more_is_believed_to_be_where_it_was() {
    let bed = Bed::new();
    let (mut writer, mut reader) = pushed(&bed, 0);
    while writer.try_push(0, &[0; 72]).is_ok() {}
    reader.drain(&mut [0; 72], 2, |_, _, _, _| {}).unwrap();
    let behind = writer.published().position - 2 * 96;
    let full = PushError::Full { slot: Some(0), behind, capacity: 4096 };
    assert_eq!(writer.try_push(0, &[0; 488]), Err(full));
    for damaged in [1, 33, u64::MAX, writer.published().position + 32] {
        writer.memory().slots()[0].cursor.position.store(damaged, Ordering::SeqCst);
        assert_eq!(writer.try_push(0, &[0; 488]), Err(full), "{damaged:#x}");
    }
}

/// The writer has seen another one further on in the same place, and nobody in it since.
#[test]
fn a_newcomer_that_begins_further_back_than_who_had_its_place_is_not_run_over() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut fast = bed.reader("fast", Kind::EPHEMERAL, From::Latest);
    let mut slow = bed.reader("slow", Kind::EPHEMERAL, From::Latest);
    let fill = |writer: &mut Writer<Arc<Segment>>| while writer.try_push(0, &[0; 488]).is_ok() {};
    let mut buf = [0; 488];
    fill(&mut writer);
    fast.drain(&mut buf, u64::MAX, |_, _, _, _| {}).unwrap();
    slow.drain(&mut buf, 2, |_, _, _, _| {}).unwrap();
    fill(&mut writer);
    assert_eq!(writer.published(), Mark { position: 4096 + 1024, sequence: 10 });
    fast.forget();
    let mut late = bed.reader("late", Kind::EPHEMERAL, From::Oldest);
    assert_eq!((late.slot(), late.next()), (0, Mark { position: 1024, sequence: 2 }));
    slow.forget();
    let full = PushError::Full { slot: Some(0), behind: 4096, capacity: 4096 };
    assert_eq!(writer.try_push(0, &[0; 488]), Err(full));
    for expected in 2..10 {
        assert_eq!(sequence(late.try_recv(&mut buf)), expected);
    }
}

#[test]
fn an_end_in_front_of_what_was_taken_is_the_end() {
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 2);
    let mut buf = [0; 8];
    assert_eq!([0, 1].map(|_| sequence(reader.try_recv(&mut buf))), [0, 1]);
    succession::fence_writer(writer.memory(), false).unwrap();
    succession::decide_end(writer.memory(), Some(32)).unwrap();
    let at = Mark { position: 64, sequence: 2 };
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::End { at, state: State::FENCING }));
}

#[test]
fn a_damaged_state_does_not_hide_an_end_that_was_decided() {
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 2);
    let mut buf = [0; 8];
    writer.memory().page().succession.state.store(7, Ordering::SeqCst);
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty), "nothing says that what was published counts");
    succession::decide_end(writer.memory(), Some(64)).unwrap();
    assert_eq!([0, 1].map(|_| sequence(reader.try_recv(&mut buf))), [0, 1]);
    let at = Mark { position: 64, sequence: 2 };
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::End { at, state: State(7) }));
}

#[test]
fn what_was_published_while_the_end_is_undecided_waits_for_the_decision() {
    let bed = Bed::new();
    let (writer, mut reader) = pushed(&bed, 2);
    let mut buf = [0; 8];
    succession::fence_writer(writer.memory(), false).unwrap();
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty));
    succession::decide_end(writer.memory(), Some(64)).unwrap();
    assert_eq!([0, 1].map(|_| sequence(reader.try_recv(&mut buf))), [0, 1]);
}

#[test]
fn a_wiped_segment_keeps_its_length_and_nothing_of_its_data() {
    for capacity in [4096, 1 << 16] {
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(capacity));
        while writer.published().position < capacity - 1024 {
            writer.try_push(0, &[7; 1000]).unwrap();
        }
        let segment = writer.memory();
        let before = segment.copy().unwrap();
        segment.wipe().unwrap();
        let after = segment.copy().unwrap();
        let data = segment.identity().geometry.data_at() as usize;
        assert_eq!((after.len(), &after[..data]), (before.len(), &before[..data]));
        assert!(after[data..].iter().all(|byte| *byte == 0));
    }
}
