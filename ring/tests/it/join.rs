//! Joining: which generations take a new reader, and what a damaged cursor says of where it begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringward_ring::cursor::Mark;
use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, JoinError, Joining, Segment};
use ringward_ring::table::{BadName, From, ReaderName};
use ringward_ring::word::{Kind, SlotState, State, SuccessorWord};

use crate::common::{Bed, card, spec};

fn slot_state(segment: &Arc<Segment>, slot: usize) -> SlotState {
    SlotState(segment.slots()[slot].state.load(Ordering::SeqCst))
}

#[test]
fn only_an_open_generation_is_joined_and_a_closed_one_for_what_is_left() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    writer.try_push(0, b"left").unwrap();
    let segment = Arc::clone(writer.memory());
    let joined = |state: State, from| {
        segment.page().succession.state.store(state.0, Ordering::SeqCst);
        let joined = match bed.attach(Access::Reader).join(&card("r", Kind::EPHEMERAL), from).unwrap() {
            Joining::Reader(reader) => Ok(reader.next().position),
            Joining::NotOpen(found) => Err(found),
        };
        assert_eq!(slot_state(&segment, 0), if joined.is_ok() { SlotState::ACTIVE } else { SlotState::FREE });
        segment.slots()[0].state.store(SlotState::FREE.0, Ordering::SeqCst);
        joined
    };
    assert_eq!(joined(State::OPEN, From::Latest), Ok(32));
    assert_eq!(joined(State::OPEN, From::Oldest), Ok(0));
    assert_eq!(joined(State::CLOSED, From::Latest), Err(State::CLOSED));
    assert_eq!(joined(State::CLOSED, From::Oldest), Ok(0));
    for state in [State::CANDIDATE, State::FENCING, State::SUCCEEDED, State::RETIRED, State(7)] {
        for from in [From::Latest, From::Oldest] {
            assert_eq!(joined(state, from), Err(state));
        }
    }
    // Decided, though whoever decided it may have died before it said so.
    segment.page().succession.successor.store(SuccessorWord::NOBODY.0, Ordering::SeqCst);
    for state in [State::OPEN, State::CLOSED] {
        assert_eq!(joined(state, From::Oldest), Err(State::RETIRED));
    }
}

#[test]
fn a_reader_begins_at_the_lower_checkpoint_unless_more_seems_published() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    for _ in 0..3 {
        writer.try_push(0, b"x").unwrap();
    }
    let segment = Arc::clone(writer.memory());
    let join = |position: u64| {
        segment.page().cursor.cursor.position.store(position, Ordering::SeqCst);
        let joined = bed.attach(Access::Reader).join(&card("r", Kind::EPHEMERAL), From::Latest);
        let state = slot_state(&segment, 0);
        segment.slots()[0].state.store(SlotState::FREE.0, Ordering::SeqCst);
        (joined, state)
    };
    // The checkpoints are at 64 and 96.
    for (position, at) in [(96, 96), (64, 64), (32, 64)] {
        let (joined, state) = join(position);
        let Ok(Joining::Reader(reader)) = joined else { panic!("{position}: {joined:?}") };
        assert_eq!((reader.next(), state), (Mark { position: at, sequence: at / 32 }, SlotState::ACTIVE));
    }
    for position in [1 << 20, 96 ^ 1, u64::MAX] {
        let (joined, state) = join(position);
        assert!(matches!(joined, Err(JoinError::Damaged)), "{position}: {joined:?}");
        assert_eq!(state, SlotState::FREE);
    }
}

#[test]
fn a_place_in_each_state_is_taken_only_if_nobody_can_come_back_to_it() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = Arc::clone(writer.memory());
    for (kind, state, taken) in [
        (Kind::EPHEMERAL, SlotState::FREE, true),
        (Kind::EPHEMERAL, SlotState::DONE, true),
        (Kind::EPHEMERAL, SlotState::PROVISIONAL, true),
        (Kind::EPHEMERAL, SlotState::ACTIVE, true),
        (Kind::EPHEMERAL, SlotState::CARRIED, true),
        (Kind::EPHEMERAL, SlotState(7), false),
        (Kind::DURABLE, SlotState::FREE, true),
        (Kind::DURABLE, SlotState::DONE, true),
        (Kind::DURABLE, SlotState::PROVISIONAL, true),
        (Kind::DURABLE, SlotState::ACTIVE, false),
        (Kind::DURABLE, SlotState::CARRIED, false),
    ] {
        let slot = &segment.slots()[0];
        slot.kind.store(kind.0, Ordering::SeqCst);
        slot.state.store(state.0, Ordering::SeqCst);
        let reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
        assert_eq!(reader.slot(), usize::from(!taken), "{kind} {state}");
        // Who lives there keeps it, whatever it says.
        let second = bed.reader("s", Kind::EPHEMERAL, From::Latest);
        assert_eq!(second.slot(), reader.slot() + 1, "{kind} {state}");
        for slot in segment.slots() {
            slot.state.store(SlotState::FREE.0, Ordering::SeqCst);
        }
    }
    // An expelled one's counts for nobody any more.
    segment.page().succession.expelled.store(0b101, Ordering::SeqCst);
    let places = ["r", "s"].map(|name| bed.reader(name, Kind::EPHEMERAL, From::Latest));
    assert_eq!(places.map(|reader| reader.slot()), [1, 3]);
}

#[test]
fn names_are_shown_as_they_were_given_and_others_refused() {
    for name in ["a", "audit", "c.d_e-F9", &"n".repeat(31)] {
        let read = ReaderName::new(name).unwrap();
        assert_eq!((read.as_str(), read.to_string(), format!("{read:?}")), (name, name.into(), format!("{name:?}")));
    }
    for name in ["", "a b", "a/b", "ä", "a\0", &"n".repeat(32)] {
        assert_eq!(ReaderName::new(name), Err(BadName { found: name.to_owned() }));
    }
}

#[test]
fn one_attachment_is_one_reader_and_none_if_it_did_not_join() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let attached = bed.attach(Access::Reader);
    let state = &writer.memory().page().succession.state;
    let card = card("r", Kind::EPHEMERAL);
    state.store(State::FENCING.0, Ordering::SeqCst);
    assert!(matches!(attached.join(&card, From::Latest), Ok(Joining::NotOpen(State::FENCING))));
    assert!(matches!(attached.claim(99, &card), Err(JoinError::NoSlot { slots: 32 })));
    state.store(State::OPEN.0, Ordering::SeqCst);
    let joined = attached.join(&card, From::Latest);
    assert!(matches!(joined, Ok(Joining::Reader(_))), "{joined:?}");
    assert!(matches!(attached.join(&card, From::Latest), Err(JoinError::RoleTaken)));
    assert!(matches!(attached.claim(0, &card), Err(JoinError::RoleTaken)));
    let other = bed.attach(Access::Reader);
    assert!(matches!(other.claim(0, &card), Err(JoinError::Held { slot: 0 })));
    drop(joined);
    drop(attached);
    assert!(other.claim(0, &card).is_ok());
}
