//! E5 join: a reader registers with a writer that has its limit cached, or with one that is being ended.

use loom::thread;

use super::heap::{Heap, SPAN, Wish, drain, push_next};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Ordering, Weak, weaken};
use crate::cursor::Mark;
use crate::memory::Memory;
use crate::reader::Reader;
use crate::succession;
use crate::table::{self, From, Joined, ReaderCard, ReaderName};
use crate::word::{Kind, SlotState};
use crate::writer::PushError;

const RING: Wish = Wish { records: 2, slots: 1, watched: false, blind: false };

fn card() -> ReaderCard {
    ReaderCard { kind: Kind::EPHEMERAL, name: ReaderName::new("r").unwrap(), pid: 1, pid_namespace: 1, start: 1 }
}

fn join(heap: &Heap, slot: usize, from: From) -> Option<Reader<Heap>> {
    assert!(heap.lock(slot));
    match table::join(heap, slot, &card(), from) {
        Some(Joined::At { at }) => Some(heap.resume(slot, at)),
        Some(Joined::NotOpen(_)) => {
            heap.unlock(slot);
            None
        }
        // The writer was too fast for a sound look at its cursor: the caller tries again.
        Some(Joined::Damaged) => None,
        other => panic!("{other:?}"),
    }
}

/// The writer has pushed one record and may push one more without looking. It pushes three more, round the ring, while
/// a reader joins.
fn join_against_wrap(wish: Wish, from: From, writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(wish);
    let mut writer = heap.writer();
    assert_eq!(push_next(&mut writer), Ok(0));
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        for sequence in 1..4 {
            match push_next(&mut writer) {
                Ok(done) => assert_eq!(done, sequence),
                Err(PushError::Full { slot: Some(0), .. }) => return sequence,
                Err(other) => panic!("{other}"),
            }
        }
        4
    });
    weaken(reader_weak);
    let joined = join(&heap, 0, from);
    weaken(&[]);
    let Some(mut reader) = joined else {
        pushing.join().unwrap();
        return "too fast".to_owned();
    };
    let Mark { position, sequence: first } = reader.next();
    assert_eq!(position, first * SPAN);
    let pushed = pushing.join().unwrap();
    // The ring keeps what a registered reader has not taken: nothing from its start on is missing, or `drain` finds a
    // gap.
    assert_eq!(drain(&mut reader), pushed, "the reader was run over");
    format!("from {first} of {pushed}")
}

const LATEST: &[(&str, &str)] = &[
    ("from 1 of 3", "registered at 1: the writer may go to 3 and no further"),
    ("from 2 of 3", "seen at 1, begins at 2: the writer stops at 3 until it sees that"),
    ("from 2 of 4", "registered at 2: the writer may go to 4 and no further"),
    ("from 3 of 3", "seen at 1, begins at 3"),
    ("from 3 of 4", "joined late"),
    ("from 4 of 4", "joined when all was written"),
    (
        "too fast",
        "the checkpoints were overwritten while it looked (one look here, 64 in earnest): it is told to try again",
    ),
];

/// From the latest record: never run over, whatever the writer has cached.
#[test]
fn join_at_the_latest() {
    explore(Depth::Switches(2), LATEST, || join_against_wrap(RING, From::Latest, &[], &[]));
}

/// From the oldest that is still there: never run over.
#[test]
fn join_at_the_oldest() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("from 0 of 2", "the first record is still there, and stays"),
        (
            "from 2 of 2",
            "the writer had announced that it may overwrite the oldest two, then saw the newcomer and did not",
        ),
        ("from 2 of 4", "the oldest two were overwritten or about to be"),
        ("too fast", "as above"),
    ];
    explore(Depth::Switches(2), OUTCOMES, || join_against_wrap(RING, From::Oldest, &[], &[]));
}

fn red(wish: Wish, writer: &'static [Weak], reader: &'static [Weak]) {
    expect_violation(Depth::Switches(3), move || join_against_wrap(wish, From::Latest, writer, reader));
}

/// E5, the writer's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_the_writers_fence() {
    red(RING, &[Weak::Fences], &[]);
}

/// E5, the joiner's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_the_joiners_fence() {
    red(RING, &[], &[Weak::Fences]);
}

/// The joiner begins where the writer was before it registered.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_the_second_sample() {
    red(RING, &[], &[Weak::FirstSample]);
}

/// The joiner begins at a checkpoint that may be older than its fence. (Found by this model in the code as it first
/// was.)
#[test]
#[should_panic(expected = "a record that is not there")]
fn with_an_older_checkpoint() {
    expect_violation(Depth::Switches(3), || join_against_wrap(RING, From::Oldest, &[], &[Weak::OlderSample]));
}

/// The writer counts only slots that are active already.
#[test]
#[should_panic(expected = "a record that is not there")]
fn with_provisional_slots_ignored() {
    red(Wish { blind: true, ..RING }, &[], &[]);
}

/// The writer uses a new limit without looking at the table again: a joiner at the oldest has not seen it yet.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_the_second_look() {
    expect_violation(Depth::Switches(3), || join_against_wrap(RING, From::Oldest, &[Weak::OneLook], &[]));
}

/// A reader joins while a successor ends the generation and copies the table.
fn join_against_copy(superseder_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut writer = heap.writer();
    assert_eq!(push_next(&mut writer), Ok(0));
    let ended = heap.clone();
    let superseding = thread::spawn(move || {
        weaken(superseder_weak);
        succession::fence_writer(&ended, false).unwrap();
        let end = succession::published_end(&ended).map(|mark| mark.position);
        succession::decide_end(&ended, end).unwrap();
        table::to_carry(&ended)
    });
    weaken(reader_weak);
    let joined = join(&heap, 0, From::Latest);
    weaken(&[]);
    let (carried, damaged) = superseding.join().unwrap();
    assert_eq!(damaged, 0);
    assert!(joined.is_none() || carried.len() == 1, "registered, and no place in the next generation");
    match (joined.is_some(), carried.len()) {
        (true, _) => "joined and carried",
        (false, 0) => "turned away",
        (false, _) => "turned away and carried",
    }
    .to_owned()
}

/// Whoever is registered here has a place in the next generation.
#[test]
fn join_against_a_successor() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("joined and carried", "registered before the table was copied"),
        ("turned away", "it saw the state, and joins the next generation"),
        (
            "turned away and carried",
            "its slot was seen while it was provisional: a place that its free byte gives back",
        ),
    ];
    explore(Depth::Switches(2), OUTCOMES, || join_against_copy(&[], &[]));
}

/// E5 against E4: the superseder's fence.
#[test]
#[should_panic(expected = "no place in the next generation")]
fn copied_without_the_superseders_fence() {
    expect_violation(Depth::Switches(3), || join_against_copy(&[Weak::Fences], &[]));
}

/// E5 against E4: the joiner's fence.
#[test]
#[should_panic(expected = "no place in the next generation")]
fn copied_without_the_joiners_fence() {
    expect_violation(Depth::Switches(3), || join_against_copy(&[], &[Weak::Fences]));
}

/// The joiner does not look at the state.
#[test]
#[should_panic(expected = "no place in the next generation")]
fn without_the_state_sample() {
    expect_violation(Depth::Switches(3), || join_against_copy(&[], &[Weak::NoStateSample]));
}

/// E7: a slot changes hands while the writer does not look. The newcomer begins further back than the one that left had
/// come.
#[test]
fn a_slot_changes_hands() {
    explore(Depth::All, &[("kept", "the writer waits for the newcomer")], || {
        let heap = Heap::new(Wish { records: 4, slots: 2, ..RING });
        let mut slow = heap.reader(0);
        let mut quick = heap.reader(1);
        let mut writer = heap.writer();
        for _ in 0..4 {
            push_next(&mut writer).unwrap();
        }
        assert_eq!(drain(&mut quick), 4);
        assert!(matches!(push_next(&mut writer), Err(PushError::Full { slot: Some(0), .. })));
        drop(quick.forget());
        heap.unlock(1);
        let mut newcomer = join(&heap, 1, From::Oldest).unwrap();
        assert_eq!(newcomer.next(), Mark { position: 0, sequence: 0 });
        assert_eq!(drain(&mut slow), 4);
        for _ in 0..4 {
            let _ = push_next(&mut writer);
        }
        assert_eq!(SlotState(heap.slots()[1].state.load(Ordering::Acquire)), SlotState::ACTIVE);
        assert_eq!(drain(&mut newcomer), writer.published().sequence, "the reader was run over");
        "kept".to_owned()
    });
}
