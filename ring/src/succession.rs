//! How a generation ends and who follows it: the words of the succession line, each decided once by compare-and-swap.
//!
//! These are the mechanisms; who may use them when is `recovery`'s business. Each function may be called by several
//! processes at once, and again by the next one after a crash: it meets decisions already taken and reports them.

use crate::atomic::{Ordering, Weak, fence, weakened};
use crate::canary;
use crate::cursor::{self, Mark, Reading};
use crate::layout::RECORD_HEADER;
use crate::memory::{Memory, Shape};
use crate::record;
use crate::wait;
use crate::word::{BadWord, Checksum, End, EndWord, RecordKind, SegmentId, SlotState, State, Successor, SuccessorWord};

/// Reads the state of the generation.
pub fn state<M: Memory>(memory: &M) -> State {
    State(memory.page().succession.state.load(Ordering::Acquire))
}

/// Moves the state from `from` to `to` if it is `from`; returns what it was.
pub fn shift_state<M: Memory>(memory: &M, from: State, to: State) -> State {
    match memory.page().succession.state.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(old) | Err(old) => State(old),
    }
}

/// Why a generation could not be fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The writer lives and relies on `membarrier`, which this process may not issue (seccomp, an old kernel).
    #[error(
        "cannot fence a living writer: it relies on membarrier(2), which this process may not use; \
         let it through the seccomp filter, or end the writer first [RW-OPEN-FENCE]"
    )]
    NoBarrier,
}

/// Begins to end the generation: state `OPEN` → `FENCING`, then the heavy barrier unless the writer is proved dead.
///
/// After it, whatever a living writer publishes it will find fenced when it looks at the state; so the index read now is
/// not behind anything that it acknowledged (edge E4). A superseder that finds the state already `FENCING` issues its own
/// barrier all the same: whoever set it may have died before its own.
pub fn fence_writer<M: Memory>(memory: &M, proved_dead: bool) -> Result<State, FenceError> {
    // Asked before anything is touched: one who may not issue the barrier must not cost a living writer its generation.
    let asked = !canary!("barrier-not-asked-for");
    if asked && !proved_dead && memory.shape().membarrier && !memory.heavy_fence() {
        return Err(FenceError::NoBarrier);
    }
    let was = shift_state(memory, State::OPEN, State::FENCING);
    if was.known().is_none() {
        // A damaged word is nobody's decision, and says nothing to the readers: say it anew.
        shift_state(memory, was, State::FENCING);
    }
    if canary!("barrier-not-called") {
        return Ok(was);
    }
    fence(Ordering::SeqCst); // E4:superseder, and the heavy barrier behind it
    if !proved_dead && memory.shape().membarrier && !memory.heavy_fence() {
        return Err(FenceError::NoBarrier);
    }
    Ok(was)
}

/// Reads the end word.
pub fn end<M: Memory>(memory: &M) -> Result<End, BadWord> {
    // E6:read
    EndWord(memory.page().succession.end.load(Ordering::Acquire)).read(memory.shape().segment)
}

/// Decides where the generation ends, unless somebody has: at `position`, or `UNKNOWN` for `None`. Returns what stands.
pub fn decide_end<M: Memory>(memory: &M, position: Option<u64>) -> Result<End, BadWord> {
    let segment = memory.shape().segment;
    let mine = position.map_or(EndWord::UNKNOWN, |at| EndWord::at(at, segment));
    let word = &memory.page().succession.end;
    let stored = weakened(Weak::EndWithoutSwap) || canary!("end-stored");
    if stored && EndWord(word.load(Ordering::Acquire)) == EndWord::UNDECIDED {
        word.store(mine.0, Ordering::Release);
        return mine.read(segment);
    }
    // E6:decide
    match word.compare_exchange(EndWord::UNDECIDED.0, mine.0, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => mine.read(segment),
        Err(found) => match EndWord(found).read(segment) {
            Ok(end) => Ok(end),
            // A damaged word is nobody's decision: decide anew, again by compare-and-swap.
            Err(bad) => match word.compare_exchange(found, mine.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => mine.read(segment),
                Err(again) => EndWord(again).read(segment).map_err(|_| bad),
            },
        },
    }
}

/// Where the fenced writer's published records end, from its cursor; `None` if nothing in it checks.
///
/// If only the position is damaged, the higher checkpoint is taken: all records in front of it were completely written.
pub fn published_end<M: Memory>(memory: &M) -> Option<Mark> {
    match cursor::read(&memory.page().cursor.cursor, memory.shape().segment) {
        Reading::Sound(mark) => Some(mark),
        Reading::Checkpoints { higher, .. } => Some(higher),
        Reading::Damaged => None,
    }
}

/// Where a *dead* writer's records end: at its higher checkpoint, whatever its position says.
///
/// All in front of that was completely written. Between checkpoint and publication lies at most the push in which it died, which may be
/// delivered or not; but a position with a flipped bit can equal the lower checkpoint, and then what was acknowledged lies behind it.
pub fn written_end<M: Memory>(memory: &M) -> Option<Mark> {
    if canary!("dead-end-at-position") {
        return published_end(memory);
    }
    match cursor::marks(&memory.page().cursor.cursor, memory.shape().segment) {
        [Some(a), Some(b)] => Some(if a.position > b.position { a } else { b }),
        [a, b] => a.or(b),
    }
}

/// Sequence number of the record that would begin at the decided end `position`: from a checkpoint, else by walking the
/// records from the nearest checkpoint in front of it.
pub fn sequence_at<M: Memory>(memory: &M, position: u64) -> Option<u64> {
    let shape = memory.shape();
    let mut nearest: Option<Mark> = None;
    match cursor::read(&memory.page().cursor.cursor, shape.segment) {
        Reading::Sound(mark) if mark.position == position => return Some(mark.sequence),
        _ => {}
    }
    for slot in &memory.page().cursor.cursor.checkpoints {
        let Some(mark) = cursor::load(slot, shape.segment) else { continue };
        if mark.position == position {
            return Some(mark.sequence);
        }
        if mark.position < position && nearest.is_none_or(|n| n.position < mark.position) {
            nearest = Some(mark);
        }
    }
    let mut at =
        nearest.or((position <= shape.capacity).then_some(Mark { position: 0, sequence: shape.first_sequence }))?;
    if position - at.position > shape.capacity {
        return None;
    }
    let mut scratch = Vec::new();
    while at.position < position {
        let header = record::load(&memory.data(), &shape, at.position)?;
        if !header.plausible(&shape, at.position, position) || header.sequence != at.sequence {
            return None;
        }
        if header.kind == RecordKind::DATA && shape.checksum != Checksum::HEADER {
            scratch.resize(header.len as usize, 0);
            if !memory.data().load(shape.offset(at.position) + RECORD_HEADER, &mut scratch) {
                return None;
            }
        }
        if !header.verify(&shape, at.position, &scratch) {
            return None;
        }
        at.position += header.span();
        at.sequence += u64::from(header.kind == RecordKind::DATA);
    }
    (at.position == position).then_some(at.sequence)
}

/// Reads the successor word.
pub fn successor<M: Memory>(memory: &M) -> Result<Successor, BadWord> {
    // E6:read
    SuccessorWord(memory.page().succession.successor.load(Ordering::Acquire)).read()
}

/// Decides who follows, unless somebody has; returns what stands. Anyone may: the linker, the one who came too late, the
/// drainer, a later standby.
pub fn decide_successor<M: Memory>(memory: &M, who: SegmentId) -> Result<Successor, BadWord> {
    decide_word(memory, SuccessorWord(who.0))
}

/// Decides that nobody follows, ever, unless somebody has been named; returns what stands. Only for who holds every lock
/// of the segment.
#[cfg_attr(feature = "loom", allow(dead_code))]
pub(crate) fn decide_nobody<M: Memory>(memory: &M) -> Result<Successor, BadWord> {
    decide_word(memory, SuccessorWord::NOBODY)
}

fn decide_word<M: Memory>(memory: &M, mine: SuccessorWord) -> Result<Successor, BadWord> {
    let word = &memory.page().succession.successor;
    if canary!("successor-stored") && SuccessorWord(word.load(Ordering::Acquire)) == SuccessorWord::UNDECIDED {
        word.store(mine.0, Ordering::Release);
        return mine.read();
    }
    // E6:decide
    match word.compare_exchange(SuccessorWord::UNDECIDED.0, mine.0, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => mine.read(),
        Err(found) => SuccessorWord(found).read().or_else(|_| {
            match word.compare_exchange(found, mine.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => mine.read(),
                Err(again) => SuccessorWord(again).read(),
            }
        }),
    }
}

/// Wakes everybody who sleeps on this generation: after the end was decided, and after it was succeeded.
pub fn ring_all<M: Memory>(memory: &M) {
    wait::ring_now(memory, &memory.page().doorbell.bell, &memory.head().data_waiters);
    wait::ring_now(memory, &memory.head().space_bell, &memory.head().space_waiters);
}

/// Wakes a writer that waits for room.
pub fn ring_space<M: Memory>(memory: &M) {
    wait::ring_now(memory, &memory.head().space_bell, &memory.head().space_waiters);
}

/// Expels the reader in `slot`: it holds nobody back any more, and learns of it when it has taken what is there, asleep or not.
pub fn expel<M: Memory>(memory: &M, slot: usize) {
    memory.page().succession.expelled.fetch_or(1 << (slot & 63), Ordering::SeqCst);
    ring_all(memory);
}

/// What stands in the way of calling a generation drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every slot is free, done, expelled, or a dead ephemeral reader's.
    Yes,
    /// The reader of this slot, living or durable, has not left yet.
    No {
        /// Number of the slot.
        slot: usize,
    },
}

/// Whether nobody needs the generation any more. "At the end" is not enough: it is said by each reader (slot `DONE`).
pub fn drained<M: Memory>(memory: &M) -> Drained {
    let expelled = memory.page().succession.expelled.load(Ordering::Acquire);
    for (slot, shared) in memory.slots().iter().enumerate().filter(|(slot, _)| expelled >> (slot & 63) & 1 == 0) {
        let state = SlotState(shared.state.load(Ordering::Acquire)); // E7:drained
        let needs = match state {
            SlotState::FREE | SlotState::DONE => false,
            SlotState::PROVISIONAL => memory.reader_lives(slot),
            // A place that does not say whose it is can't be claimed by anybody who is away.
            _ => {
                let claimable = crate::table::read_slot(shared, memory.shape().segment).card.is_some();
                (claimable && crate::table::is_durable(shared)) || memory.reader_lives(slot)
            }
        };
        if needs {
            return Drained::No { slot };
        }
    }
    Drained::Yes
}

/// Shape of the segment, for callers that have only the memory.
pub fn shape<M: Memory>(memory: &M) -> Shape {
    memory.shape()
}
