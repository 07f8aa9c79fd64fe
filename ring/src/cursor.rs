//! A cursor that is exact at every instruction boundary of its owner.
//!
//! The owner keeps the truth in private memory and publishes copies: first a checkpoint `{position, sequence, check}` into
//! the slot that the published position does *not* refer to, then the position itself, with one release store. Killed
//! anywhere in between, the old position still finds its old checkpoint. (The two-slot checkpoint is the oldest trick of
//! crash-safe storage; see the meta pages of LMDB.)

use crate::atomic::{AtomicU64, Ordering, Weak, fence, weakened};
use crate::canary;
use crate::layout::{ALIGN, Checkpoint, Cursor, MAX_POSITION, MAX_SEQUENCE};
use crate::word::SegmentId;

/// A position and the sequence number of the record that begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Byte position.
    pub position: u64,
    /// Sequence number.
    pub sequence: u64,
}

/// Check over a checkpoint, tied to its segment: differs from zero for all-zero fields, changes with any flipped bit with
/// probability 1 − 2⁻⁶⁴.
#[inline(always)]
pub fn check(mark: Mark, segment: SegmentId) -> u64 {
    let x = (mark.position ^ segment.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let y = (mark.sequence ^ x.rotate_left(31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ y ^ (y >> 32) ^ 0x7269_6e67
}

/// The owner's private side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnCursor {
    /// What was published last.
    pub(crate) published: Mark,
    turn: usize,
}

impl OwnCursor {
    /// Starts a cursor in memory that nobody else looks at yet, or that its owner takes over.
    pub(crate) fn start(shared: &Cursor, at: Mark, segment: SegmentId) -> OwnCursor {
        // Which checkpoint slot holds the position that is published now? The other one is written first.
        let held = shared.position.load(Ordering::Relaxed);
        let turn = usize::from(shared.checkpoints[0].position.load(Ordering::Relaxed) == held);
        let mut own = OwnCursor { published: at, turn };
        own.publish(shared, at, segment);
        own
    }

    /// Publishes `to`: checkpoint first, position last (release).
    #[inline(always)]
    pub(crate) fn publish(&mut self, shared: &Cursor, to: Mark, segment: SegmentId) {
        let slot = &shared.checkpoints[self.turn & 1];
        if weakened(Weak::CheckpointLate) || canary!("checkpoint-late") {
            shared.position.store(to.position, Ordering::Release);
        }
        let kept = self.published.sequence;
        let to = if canary!("sequence-not-checkpointed") { Mark { sequence: kept, ..to } } else { to };
        slot.position.store(to.position, Ordering::Relaxed);
        slot.sequence.store(to.sequence, Ordering::Relaxed);
        // Release: whoever goes by a checkpoint alone, because the position is damaged, sees what lies in front of it too.
        slot.check.store(check(to, segment), Ordering::Release);
        // E1:store, E2:store: whoever loads this position with acquire sees the checkpoint and, for the writer, the
        // records in front of it; for a reader, that it has done with them.
        shared.position.store(to.position, Ordering::Release);
        self.turn ^= usize::from(!canary!("one-checkpoint"));
        self.published = to;
    }
}

/// What a peer's cursor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Position and checkpoint agree.
    Sound(Mark),
    /// The position has no checkpoint, but checkpoints that check are there: the position itself is damaged, or its owner
    /// was too fast for us.
    Checkpoints {
        /// Lower of the two, certainly published.
        lower: Mark,
        /// Higher of the two: all that it covers was written, but perhaps not published.
        higher: Mark,
    },
    /// Nothing in it checks.
    Damaged,
}

/// A checkpoint, if it checks.
#[inline(always)]
pub(crate) fn load(slot: &Checkpoint, segment: SegmentId) -> Option<Mark> {
    let found = slot.check.load(Ordering::Acquire);
    let mark =
        Mark { position: slot.position.load(Ordering::Relaxed), sequence: slot.sequence.load(Ordering::Relaxed) };
    let possible =
        mark.position.is_multiple_of(ALIGN) && mark.position < MAX_POSITION * 2 && mark.sequence < MAX_SEQUENCE;
    (possible && (found == check(mark, segment) || canary!("checkpoint-unchecked"))).then_some(mark)
}

/// Whether a checkpoint of `position`, which is one that [`position`] lets pass, is there and checks.
#[inline(always)]
pub(crate) fn vouched(shared: &Cursor, position: u64, segment: SegmentId) -> bool {
    shared.checkpoints.iter().any(|slot| {
        let found = slot.check.load(Ordering::Acquire);
        let mark = Mark { position, sequence: slot.sequence.load(Ordering::Relaxed) };
        slot.position.load(Ordering::Relaxed) == position
            && mark.sequence < MAX_SEQUENCE
            && (found == check(mark, segment) || canary!("checkpoint-unchecked"))
    })
}

/// The checkpoints that check, of an owner that is dead.
pub(crate) fn marks(shared: &Cursor, segment: SegmentId) -> [Option<Mark>; 2] {
    [load(&shared.checkpoints[0], segment), load(&shared.checkpoints[1], segment)]
}

/// Reads a peer's cursor once. The peer may be moving on: a mark that is returned was true at some moment of the call.
pub fn read(shared: &Cursor, segment: SegmentId) -> Reading {
    let mut last = Reading::Damaged;
    // A running owner overwrites a checkpoint two publications later; a few tries meet it at rest.
    for _ in 0..TRIES {
        // E1:load, for who wants to know the sequence number too.
        let position = shared.position.load(Ordering::Acquire);
        let marks = [load(&shared.checkpoints[0], segment), load(&shared.checkpoints[1], segment)];
        if let Some(mark) = marks.into_iter().flatten().find(|m| m.position == position) {
            return Reading::Sound(mark);
        }
        last = match marks {
            [Some(a), Some(b)] if a.position <= b.position => Reading::Checkpoints { lower: a, higher: b },
            [Some(a), Some(b)] => Reading::Checkpoints { lower: b, higher: a },
            [Some(a), None] | [None, Some(a)] => Reading::Checkpoints { lower: a, higher: a },
            [None, None] => Reading::Damaged,
        };
        fence(Ordering::Acquire); // the checkpoints above are read before the position is looked at again
        if shared.position.load(Ordering::Relaxed) == position {
            break; // its owner stands still: this is what there is
        }
    }
    last
}

#[cfg(not(feature = "loom"))]
const TRIES: usize = 64;
#[cfg(feature = "loom")]
const TRIES: usize = 1; // so that the way out of the loop is explored

/// Reads a position that may be anything, aligned and in range or not at all.
#[inline(always)]
pub(crate) fn position(word: &AtomicU64) -> Option<u64> {
    let position = word.load(Ordering::Acquire);
    (position.is_multiple_of(ALIGN) && position < MAX_POSITION * 2).then_some(position)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use rstest::rstest;

    const SEGMENT: SegmentId = SegmentId(0x0123_4567_89ab_97e2);

    fn mark(position: u64, sequence: u64) -> Mark {
        Mark { position, sequence }
    }

    /// A cursor whose checkpoints hold these marks, each with its right check; `None` is all zeros.
    fn cursor(position: u64, marks: [Option<Mark>; 2]) -> Cursor {
        let word = AtomicU64::new;
        let checkpoints = marks.map(|mark| {
            let found = mark.unwrap_or_default();
            let check = mark.map_or(0, |mark| check(mark, SEGMENT));
            Checkpoint { position: word(found.position), sequence: word(found.sequence), check: word(check) }
        });
        Cursor { position: word(position), checkpoints }
    }

    #[rstest]
    #[case::the_first(mark(0, 0), true)]
    #[case::the_last(mark(2 * MAX_POSITION - ALIGN, MAX_SEQUENCE - 1), true)]
    #[case::between_borders(mark(ALIGN + 8, 5), false)]
    #[case::position_beyond_all(mark(2 * MAX_POSITION, 5), false)]
    #[case::sequence_beyond_all(mark(ALIGN, MAX_SEQUENCE), false)]
    fn only_what_is_possible_is_believed_however_well_it_checks(#[case] at: Mark, #[case] possible: bool) {
        let shared = cursor(at.position, [None, Some(at)]);
        let reading = if possible { Reading::Sound(at) } else { Reading::Damaged };
        assert_eq!(read(&shared, SEGMENT), reading);
        assert_eq!(marks(&shared, SEGMENT), [None, possible.then_some(at)]);
        // Nobody asks for a position that none could be.
        if position(&AtomicU64::new(at.position)).is_some() {
            assert_eq!(vouched(&shared, at.position, SEGMENT), possible);
        }
    }

    #[test]
    fn a_position_is_a_border_below_the_highest_or_none() {
        for (found, possible) in [
            (0, true),
            (ALIGN, true),
            (2 * MAX_POSITION - ALIGN, true),
            (2 * MAX_POSITION, false),
            (2 * MAX_POSITION + ALIGN, false),
            (ALIGN + 1, false),
            (u64::MAX, false),
        ] {
            assert_eq!(position(&AtomicU64::new(found)), possible.then_some(found), "{found:#x}");
        }
    }

    #[test]
    fn only_a_checkpoint_of_that_very_position_that_checks_vouches_for_it() {
        let shared = cursor(64, [Some(mark(32, 1)), Some(mark(64, 2))]);
        assert_eq!([0, 32, 64, 96].map(|at| vouched(&shared, at, SEGMENT)), [false, true, true, false]);
        shared.checkpoints[1].check.fetch_xor(1, Ordering::Relaxed);
        assert_eq!([32, 64].map(|at| vouched(&shared, at, SEGMENT)), [true, false]);
        assert!(!vouched(&shared, 32, SegmentId(SEGMENT.0 + 1)), "another segment's");
    }

    /// The slots are written in turn: either can hold the higher one.
    #[test]
    fn of_a_damaged_position_the_lower_and_the_higher_checkpoint_are_told_apart_in_either_slot() {
        let (lower, higher) = (mark(64, 2), mark(4096, 9));
        for checkpoints in [[lower, higher], [higher, lower]] {
            let shared = cursor(64 ^ 1 << 20, checkpoints.map(Some));
            assert_eq!(read(&shared, SEGMENT), Reading::Checkpoints { lower, higher });
            assert_eq!(marks(&shared, SEGMENT), checkpoints.map(Some));
        }
        let alone = Reading::Checkpoints { lower: higher, higher };
        assert_eq!(read(&cursor(0, [Some(higher), None]), SEGMENT), alone);
        assert_eq!(read(&cursor(0, [None, Some(higher)]), SEGMENT), alone);
    }

    /// Killed between any two stores of a publication, the old position still finds its own checkpoint.
    #[test]
    fn the_checkpoint_of_what_is_published_is_never_the_one_that_is_overwritten() {
        let shared = cursor(0, [None, None]);
        let mut own = OwnCursor::start(&shared, mark(0, 7), SEGMENT);
        for i in 1..5 {
            let before = own.published;
            own.publish(&shared, mark(i * ALIGN, 7 + i), SEGMENT);
            assert_eq!(read(&shared, SEGMENT), Reading::Sound(own.published));
            assert!(vouched(&shared, before.position, SEGMENT), "publication {i} took the checkpoint in front of it");
        }
        // Whoever takes the cursor over goes on so, in whichever slot the last one stopped.
        for i in 5..8 {
            let before = own.published;
            own = OwnCursor::start(&shared, mark(i * ALIGN, 7 + i), SEGMENT);
            assert!(vouched(&shared, before.position, SEGMENT), "owner {i} took the checkpoint of the one before");
        }
    }
}
