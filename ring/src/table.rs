//! The reader table: joining a slot, leaving it, carrying it over to the next generation.

use core::fmt;

use crate::atomic::{Ordering, Weak, fence, weakened};
use crate::canary;
use crate::cursor::{self, Mark, OwnCursor, Reading};
use crate::layout::Slot;
use crate::memory::Memory;
use crate::record::{self, Search};
use crate::word::{Kind, SegmentId, SlotState, State, SuccessorWord};

/// Longest name of a reader, in bytes.
pub const MAX_NAME: usize = 31;

/// Name of a reader: 1 to 31 bytes of `[A-Za-z0-9._-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReaderName([u8; 32]);

/// A name that no reader can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reader name {found:?} is not 1 to 31 of the characters A-Z a-z 0-9 . _ -; choose another")]
pub struct BadName {
    /// What was given.
    pub found: String,
}

impl ReaderName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`BadName`] if it is empty, longer than 31 bytes, or has other characters.
    pub fn new(name: &str) -> Result<ReaderName, BadName> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(ok) {
            return Err(BadName { found: name.to_owned() });
        }
        let mut bytes = [0; 32];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(ReaderName(bytes))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(32);
        core::str::from_utf8(&self.0[..len]).unwrap_or("?")
    }

    fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(self.0.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap_or([0; 8]));
        }
        words
    }

    fn from_words(words: [u64; 4]) -> Option<ReaderName> {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let len = bytes.iter().position(|b| *b == 0)?;
        let name = core::str::from_utf8(&bytes[..len]).ok()?;
        ReaderName::new(name).ok().filter(|n| n.0 == bytes)
    }
}

impl fmt::Debug for ReaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for ReaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a reader is, as written into its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderCard {
    /// Durable or ephemeral.
    pub kind: Kind,
    /// Its name.
    pub name: ReaderName,
    /// Process id, for people.
    pub pid: u32,
    /// Inode number of its pid namespace, for people.
    pub pid_namespace: u32,
    /// Start time of the process in clock ticks since boot, for people.
    pub start: u64,
}

/// Check over the part of a slot that says whose it is.
fn card_check(kind: Kind, name: &[u64; 4], segment: SegmentId) -> u64 {
    let mut x = segment.0 ^ u64::from(kind.0).rotate_left(32);
    for word in name {
        x = (x.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    x ^ (x >> 32)
}

/// A slot as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReading {
    /// Its state.
    pub state: SlotState,
    /// Whose it is, if that part checks.
    pub card: Option<ReaderCard>,
    /// Where its reader stands.
    pub cursor: Reading,
    /// Sequence number behind the last record that was handed out.
    pub taken: u64,
}

/// Reads a slot once.
pub fn read_slot(slot: &Slot, segment: SegmentId) -> SlotReading {
    let state = SlotState(slot.state.load(Ordering::Acquire));
    let name = [0, 1, 2, 3].map(|i| slot.name[i].load(Ordering::Relaxed));
    // The check knows which kind it was: a damaged kind word alone costs nothing.
    let check = slot.check.load(Ordering::Relaxed);
    let kind = [Kind::DURABLE, Kind::EPHEMERAL].into_iter().find(|kind| check == card_check(*kind, &name, segment));
    let card = kind.zip(ReaderName::from_words(name)).map(|(kind, name)| ReaderCard {
        kind,
        name,
        pid: slot.pid.load(Ordering::Relaxed),
        pid_namespace: slot.pid_namespace.load(Ordering::Relaxed),
        start: slot.start.load(Ordering::Relaxed),
    });
    SlotReading { state, card, cursor: cursor::read(&slot.cursor, segment), taken: slot.taken.load(Ordering::Relaxed) }
}

/// Whether the slot says, in a way that checks or nearly does, that its reader is durable. In doubt it is.
pub fn is_durable(slot: &Slot) -> bool {
    let kind = Kind(slot.kind.load(Ordering::Relaxed));
    if canary!("doubt-means-ephemeral") { kind == Kind::DURABLE } else { kind != Kind::EPHEMERAL }
}

/// Writes who the slot's reader is.
pub(crate) fn write_card(slot: &Slot, card: &ReaderCard, segment: SegmentId) {
    let name = card.name.words();
    slot.kind.store(card.kind.0, Ordering::Relaxed);
    for (shared, word) in slot.name.iter().zip(name) {
        shared.store(word, Ordering::Relaxed);
    }
    slot.pid.store(card.pid, Ordering::Relaxed);
    slot.pid_namespace.store(card.pid_namespace, Ordering::Relaxed);
    slot.start.store(card.start, Ordering::Relaxed);
    slot.check.store(card_check(card.kind, &name, segment), Ordering::Relaxed);
}

/// Where a joining reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// With the next record that is published.
    #[default]
    Latest,
    /// With the oldest record that is still there.
    Oldest,
}

/// How joining a slot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// Registered: the writer does not run over `at`.
    At {
        /// Where the reader begins.
        at: Mark,
    },
    /// The generation is no longer open (this is its state); the slot was given back. Join the next one. (One that its own
    /// writer has closed can be joined at the oldest record: nothing is written to it any more.)
    NotOpen(State),
    /// The writer's cursor does not check.
    Damaged,
}

/// Joins `slot`, whose byte the caller has locked and which it found free.
///
/// Provisional first, fence, then the writer's cursor *again* and the state, then active: either the writer's next look at the table sees the
/// slot, or the reader sees how far the writer may go without looking (edge E5).
pub(crate) fn join<M: Memory>(memory: &M, slot: usize, card: &ReaderCard, from: From) -> Option<Joined> {
    let shape = memory.shape();
    let shared = memory.slots().get(slot)?;
    let page = memory.page();
    let sample = |least: u64| match cursor::read(&page.cursor.cursor, shape.segment) {
        Reading::Sound(mark) => Some(mark),
        Reading::Checkpoints { lower, .. } if lower.position >= least => Some(lower),
        _ => None,
    };
    let Some(first) = sample(0) else { return Some(Joined::Damaged) };
    // Free before anything else is written: killed halfway, a dead reader's slot must not be left with half of two cards.
    shared.state.store(SlotState::FREE.0, Ordering::Release);
    fence(Ordering::SeqCst);
    write_card(shared, card, shape.segment);
    let lowest = match from {
        From::Latest => first,
        From::Oldest => {
            let limit = page.cursor.limit.load(Ordering::Acquire).max(first.position);
            Mark { position: limit.saturating_sub(shape.capacity), sequence: shape.first_sequence }
        }
    };
    OwnCursor::start(&shared.cursor, lowest, shape.segment);
    shared.taken.store(lowest.sequence, Ordering::Relaxed);
    shared.state.store(SlotState::PROVISIONAL.0, Ordering::Release);
    if !canary!("joiner-fence-omitted") {
        fence(Ordering::SeqCst); // E5:joiner
    }
    // Not below what was published when the fence was passed: the lower checkpoint of a writer that is too fast for us
    // may be older.
    let now = cursor::position(&page.cursor.cursor.position).map(|at| if weakened(Weak::OlderSample) { 0 } else { at });
    let Some(second) = now.and_then(|now| sample(now.max(first.position))) else {
        shared.state.store(SlotState::FREE.0, Ordering::Release);
        return Some(Joined::Damaged);
    };
    let second = if weakened(Weak::FirstSample) || canary!("first-sample") { first } else { second };
    let mut state = State(page.succession.state.load(Ordering::Acquire));
    if page.succession.successor.load(Ordering::Acquire) == SuccessorWord::NOBODY.0 {
        state = State::RETIRED; // decided, though whoever decided it may have died before it said so
    }
    // What its own writer has closed is not written to any more: whoever wants what is still there may have it.
    let late = (state == State::CLOSED && from == From::Oldest)
        || (state == State::CANDIDATE && canary!("candidate-joined"))
        || canary!("state-sample-omitted");
    if state != State::OPEN && !late && !weakened(Weak::NoStateSample) {
        shared.state.store(SlotState::FREE.0, Ordering::Release);
        return Some(Joined::NotOpen(state));
    }
    let at = match from {
        From::Latest => second,
        From::Oldest => oldest(memory, second),
    };
    OwnCursor::start(&shared.cursor, at, shape.segment);
    shared.taken.store(at.sequence, Ordering::Relaxed);
    shared.state.store(SlotState::ACTIVE.0, Ordering::Release);
    Some(Joined::At { at })
}

/// The oldest record that is certainly still there, for somebody whom the writer's next look at the table will find; `second`
/// is where the writer stands.
///
/// The writer may write up to its limit without looking: what lies a capacity behind that may be gone already, what lies
/// above stays until this reader moves on.
pub(crate) fn oldest<M: Memory>(memory: &M, second: Mark) -> Mark {
    let shape = memory.shape();
    let limit = memory.page().cursor.limit.load(Ordering::Acquire).max(second.position);
    let kept = limit.saturating_sub(shape.capacity);
    let anchor = Mark { position: 0, sequence: shape.first_sequence };
    if kept == 0 {
        return anchor;
    }
    let search = Search { anchor, from: kept, to: second };
    record::resync(&memory.data(), &shape, &search, &mut Vec::new()).unwrap_or(second)
}

/// A reader's place, to be written into a generation that nobody sees yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Number of the slot, the same in both generations.
    pub slot: usize,
    /// Whose it is.
    pub card: ReaderCard,
    /// The sequence number that comes next for it, as far as its old slot says: what it has lost if it can never drain the old
    /// generation.
    pub next: u64,
}

/// What a successor must carry over: every durable slot and every one whose byte is locked, provisional ones too, so that
/// back-pressure holds from the first record for those who have not come over yet.
///
/// The second number counts occupied slots that do not say whose they are: damaged, and lost unless their living reader
/// joins again.
pub fn to_carry<M: Memory>(memory: &M) -> (Vec<Carried>, usize) {
    let segment = memory.shape().segment;
    let expelled = memory.page().succession.expelled.load(Ordering::Acquire);
    let mut carried = Vec::new();
    let mut damaged = 0;
    for (slot, shared) in memory.slots().iter().enumerate() {
        if expelled >> (slot & 63) & 1 == 1 {
            continue;
        }
        let reading = read_slot(shared, segment); // E5:copier, behind the superseder's fence
        let lives = || memory.reader_lives(slot);
        let wanted = match reading.state {
            SlotState::FREE | SlotState::DONE => false,
            SlotState::PROVISIONAL => lives() && !canary!("provisional-not-carried"),
            SlotState::ACTIVE | SlotState::CARRIED => {
                reading.card.is_none_or(|card| card.kind == Kind::DURABLE) || lives()
            }
            // Damaged: a readable card or a living holder is reason enough.
            _ => (reading.card.is_some() || lives()) && !canary!("damaged-place-dropped"),
        };
        match reading.card {
            _ if !wanted => damaged += usize::from(reading.state.known().is_none()),
            Some(card) => {
                let first = memory.shape().first_sequence;
                let next = match reading.cursor {
                    _ if reading.state == SlotState::CARRIED => reading.taken,
                    Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => mark.sequence,
                    Reading::Damaged => first,
                };
                carried.push(Carried { slot, card, next });
            }
            None => damaged += 1,
        }
    }
    (carried, damaged)
}

/// Frees the places in `next`, a candidate that bears its name, which were given up in `old` after the candidate's builder had
/// copied them. Whoever gives one up looks for younger generations afterwards: either he finds the candidate, or he was here first.
pub fn drop_given_up<M: Memory>(old: &M, next: &M) {
    fence(Ordering::SeqCst);
    for (before, after) in old.slots().iter().zip(next.slots()) {
        if SlotState(before.state.load(Ordering::SeqCst)) == SlotState::FREE {
            let (kept, free) = (SlotState::CARRIED.0, SlotState::FREE.0);
            let _ = after.state.compare_exchange(kept, free, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Writes the table of a generation that nobody sees yet.
pub(crate) fn fill<M: Memory>(memory: &M, carried: &[Carried]) {
    let shape = memory.shape();
    for slot in memory.slots() {
        slot.state.store(SlotState::FREE.0, Ordering::Relaxed);
        slot.kind.store(Kind::EPHEMERAL.0, Ordering::Relaxed);
    }
    let start = Mark { position: 0, sequence: shape.first_sequence };
    for Carried { slot, card, next } in carried {
        if let Some(shared) = memory.slots().get(*slot) {
            write_card(shared, card, shape.segment);
            OwnCursor::start(&shared.cursor, start, shape.segment);
            shared.taken.store((*next).min(shape.first_sequence), Ordering::Relaxed);
            shared.state.store(SlotState::CARRIED.0, Ordering::Release);
        }
    }
}
