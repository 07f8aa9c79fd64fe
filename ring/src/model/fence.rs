//! E4 fence and E6 end: a push against those who end the generation.

use loom::thread;

use super::heap::{Heap, Look, SPAN, Wish, drain, look, push_next};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Weak, weaken};
use crate::cursor::{self, Reading};
use crate::memory::Memory;
use crate::reader::{GapReason, Taken};
use crate::succession;
use crate::word::{End, SegmentId, State, Successor};
use crate::writer::PushError;

const RING: Wish = Wish { records: 2, slots: 1, watched: true, blind: false };

/// Who is weakened, and how.
#[derive(Clone, Copy, Default)]
struct Without {
    writer: &'static [Weak],
    superseder: &'static [Weak],
    reader: &'static [Weak],
    /// The superseder reads the position before it sets the state.
    position_first: bool,
}

fn supersede(heap: &Heap, position_first: bool) -> u64 {
    let early = position_first.then(|| succession::published_end(heap));
    succession::fence_writer(heap, false).unwrap();
    let end = early.unwrap_or_else(|| succession::published_end(heap)).map(|mark| mark.position);
    match succession::decide_end(heap, end).unwrap() {
        End::At(end) => end,
        other => panic!("the end is {other:?} although its writer lives"),
    }
}

/// One push, one superseder, a reader that looks once meanwhile; then it drains.
fn push_against_fence(without: Without) -> String {
    let heap = Heap::new(RING);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let ended = heap.clone();
    let pushing = thread::spawn(move || {
        weaken(without.writer);
        push_next(&mut writer)
    });
    let superseding = thread::spawn(move || {
        weaken(without.superseder);
        supersede(&ended, without.position_first)
    });
    weaken(without.reader);
    let early = look(&mut reader);
    weaken(&[]);
    let pushed = pushing.join().unwrap();
    let end = superseding.join().unwrap();
    assert_eq!(succession::end(&heap), Ok(End::At(end)), "the end was decided twice");
    let delivered = drain(&mut reader);
    match pushed {
        Ok(0) => {
            assert!(end >= SPAN, "acknowledged beyond the end");
            assert_eq!(delivered, 1, "acknowledged and never delivered");
        }
        Err(PushError::Fenced) => assert_eq!(delivered, 0, "fenced and delivered all the same"),
        other => panic!("{other:?}"),
    }
    assert_eq!(look(&mut reader), Look::End(delivered));
    assert_eq!(delivered, end / SPAN, "delivered other than up to the end");
    let when = if early == Look::Got(0) { "at once" } else { "later" };
    match pushed {
        Ok(_) => format!("acknowledged, delivered {when}"),
        Err(_) => "fenced, never delivered".to_owned(),
    }
}

/// The heart of it: acknowledged is at or in front of the end and delivered, fenced is never delivered, the end is
/// decided once.
#[test]
fn push_against_a_superseder() {
    const OUTCOMES: &[(&str, &str)] = &[
        (
            "acknowledged, delivered at once",
            "published before the end was read, and seen while open or after the decision",
        ),
        ("acknowledged, delivered later", "published before the end was read"),
        ("fenced, never delivered", "the end was read before the record was published"),
    ];
    explore(Depth::Switches(4), OUTCOMES, || push_against_fence(Without::default()));
}

fn red(without: Without) {
    expect_violation(Depth::Switches(3), move || push_against_fence(without));
}

/// E4, the writer's end.
#[test]
#[should_panic(expected = "acknowledged beyond the end")]
fn without_the_writers_fence() {
    red(Without { writer: &[Weak::Fences], ..Without::default() });
}

/// E4, the superseder's end.
#[test]
#[should_panic(expected = "acknowledged beyond the end")]
fn without_the_superseders_fence() {
    red(Without { superseder: &[Weak::Fences], ..Without::default() });
}

/// E4, the reader's end: it sees the late position and an early state.
#[test]
#[should_panic(expected = "fenced and delivered all the same")]
fn without_the_readers_fence() {
    red(Without { reader: &[Weak::Fences], ..Without::default() });
}

/// The writer looks at the state before it publishes.
#[test]
#[should_panic(expected = "acknowledged beyond the end")]
fn with_the_writers_look_too_early() {
    red(Without { writer: &[Weak::WriterStateFirst], ..Without::default() });
}

/// The writer takes "not open" for "fenced".
#[test]
#[should_panic(expected = "fenced and delivered all the same")]
fn with_fenced_answered_blindly() {
    red(Without { writer: &[Weak::FencedBlindly], ..Without::default() });
}

/// The reader looks at the state before the position.
#[test]
#[should_panic(expected = "fenced and delivered all the same")]
fn with_the_readers_look_too_early() {
    red(Without { reader: &[Weak::ReaderStateFirst], ..Without::default() });
}

/// The superseder reads the position before it sets the state.
#[test]
#[should_panic(expected = "acknowledged beyond the end")]
fn with_the_position_read_too_early() {
    red(Without { position_first: true, ..Without::default() });
}

/// One push, and one look at the writer's cursor as a superseder takes it.
fn position_and_checkpoint(writer_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut writer = heap.writer();
    let ended = heap.clone();
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        push_next(&mut writer)
    });
    let reading = cursor::read(&ended.page().cursor.cursor, ended.shape().segment);
    pushing.join().unwrap().unwrap();
    match reading {
        Reading::Sound(mark) => format!("at {}", mark.sequence),
        other => panic!("a position without its checkpoint: {other:?}"),
    }
}

/// Whoever finds a position finds its checkpoint.
#[test]
fn the_position_has_its_checkpoint() {
    const OUTCOMES: &[(&str, &str)] = &[("at 0", "not published yet"), ("at 1", "published")];
    explore(Depth::All, OUTCOMES, || position_and_checkpoint(&[]));
}

/// The position runs ahead of its checkpoint.
#[test]
#[should_panic(expected = "a position without its checkpoint")]
fn with_the_checkpoint_too_late() {
    expect_violation(Depth::All, || position_and_checkpoint(&[Weak::CheckpointLate]));
}

/// E6: the end is stored without a swap.
#[test]
#[should_panic(expected = "the end")]
fn with_the_end_stored() {
    red(Without { writer: &[Weak::EndWithoutSwap], ..Without::default() });
}

/// A second superseder, who finds the state already `FENCING`; the first may be anywhere.
#[test]
fn push_against_two_superseders() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("acknowledged", "published before anybody decided otherwise"),
        ("fenced", "the end was read before the record was published"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        let pushing = thread::spawn(move || push_next(&mut writer));
        let rival = heap.clone();
        let first = thread::spawn(move || supersede(&rival, false));
        let second = supersede(&heap, false);
        let pushed = pushing.join().unwrap();
        assert_eq!(first.join().unwrap(), second, "the end was decided twice");
        let delivered = drain(&mut reader);
        assert_eq!(delivered, second / SPAN);
        assert_eq!(pushed.is_ok(), delivered == 1, "{pushed:?}, {delivered} delivered");
        if pushed.is_ok() { "acknowledged" } else { "fenced" }.to_owned()
    });
}

/// The first record is damaged, so that the reader looks for the next sound one while the generation is being ended.
#[test]
fn damage_against_a_superseder() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("acknowledged", "the second record is delivered behind the gap"),
        ("fenced", "the second record is not delivered: the search stops where the reader may"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        assert_eq!(push_next(&mut writer), Ok(0));
        heap.damage();
        let ended = heap.clone();
        let pushing = thread::spawn(move || push_next(&mut writer));
        let superseding = thread::spawn(move || supersede(&ended, false));
        let mut told = Vec::new();
        let mut take = || {
            let taken = reader.try_recv(&mut [0; 8]).unwrap();
            reader.release();
            match taken {
                Taken::Gap { from: 0, count: 1, reason: GapReason::Corrupt } => told.push("gap"),
                Taken::Record { sequence: 1, .. } => told.push("record"),
                Taken::Empty => {}
                Taken::End { .. } => return false,
                other => panic!("{other:?}"),
            }
            true
        };
        take();
        take();
        let pushed = pushing.join().unwrap();
        superseding.join().unwrap();
        while take() {}
        match pushed {
            Ok(1) => assert_eq!(told, ["gap", "record"], "acknowledged and never delivered"),
            Err(PushError::Fenced) => assert_eq!(told, ["gap"], "fenced and delivered all the same"),
            other => panic!("{other:?}"),
        }
        if pushed.is_ok() { "acknowledged" } else { "fenced" }.to_owned()
    });
}

/// Two who name different successors.
#[test]
fn one_successor() {
    const OUTCOMES: &[(&str, &str)] = &[("first", "it came first"), ("second", "it came first")];
    explore(Depth::All, OUTCOMES, || {
        let heap = Heap::new(RING);
        let ids = [1_u64 << 20, 1 << 30].map(SegmentId::from_random);
        let rival = heap.clone();
        let other = thread::spawn(move || succession::decide_successor(&rival, ids[0]));
        let mine = succession::decide_successor(&heap, ids[1]);
        assert_eq!(other.join().unwrap(), mine, "two successors");
        assert_eq!(succession::decide_nobody(&heap), mine, "nobody, although somebody follows");
        if mine == Ok(Successor::Segment(ids[0])) { "first" } else { "second" }.to_owned()
    });
}

/// The writer closes while somebody supersedes it.
#[test]
fn close_against_a_superseder() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("closed", "the writer's state came first: orderly, nobody takes over"),
        ("fenced", "the superseder's state came first; what was acknowledged stays"),
    ];
    explore(Depth::All, OUTCOMES, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        assert_eq!(push_next(&mut writer), Ok(0));
        let closing = thread::spawn(move || writer.close());
        assert_eq!(supersede(&heap, false), SPAN);
        let closed = closing.join().unwrap();
        let state = succession::state(&heap);
        assert_eq!(closed.is_ok(), state == State::CLOSED, "{closed:?} in {state}");
        assert_eq!(drain(&mut reader), 1);
        if closed.is_ok() { "closed" } else { "fenced" }.to_owned()
    });
}
