//! The one writer of a segment.
//!
//! Its cursor and its table of readers live in private memory; what lies in the segment are copies. A push fills the
//! record, checkpoints, publishes with one release store, and only *then* loads the state: `OPEN` means acknowledged, anything else
//! is settled by comparing with the end word.

use core::time::Duration;
use std::time::Instant;

use crate::atomic::{Ordering, Weak, fence, weakened};
use crate::canary;
use crate::checksum::RecordCrc;
use crate::copy;
use crate::cursor::{self, Mark, OwnCursor};
use crate::layout::{ALIGN, MAX_POSITION, RECORD_HEADER, record_len};
use crate::memory::{Memory, Shape, Slept};
use crate::record::{self, RecordHeader};
use crate::succession;
use crate::table::is_durable;
use crate::wait;
use crate::word::{Checksum, End, Kind, RecordKind, SlotState, State};

/// Why a record was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The payload is longer than the channel's record limit. Nothing was written.
    #[error(
        "payload of {len} bytes is over this channel's record limit of {limit} bytes; send less or make the channel anew [RW-PUSH-SIZE]"
    )]
    TooLarge {
        /// Length of the payload, in bytes.
        len: u64,
        /// The channel's record limit, in bytes.
        limit: u64,
    },
    /// No room: a reader has not released enough. Nothing was written.
    #[error(
        "no room: {} {behind} bytes behind and the ring holds {capacity}; {} [RW-PUSH-FULL]",
        match .slot { Some(slot) => format!("the reader in slot {slot} is"), None => "the batch starts".to_owned() },
        if slot.is_some() { "wait, or look why it does not read" } else { "publish the batch" }
    )]
    Full {
        /// Slot of the reader that is furthest behind; none if the batch itself fills the ring.
        slot: Option<usize>,
        /// How far behind it is, in bytes.
        behind: u64,
        /// Capacity of the ring, in bytes.
        capacity: u64,
    },
    /// The generation was ended before this record: no reader will ever see it.
    #[error(
        "fenced: this generation was ended by somebody else; the record is not delivered, push it into the next generation [RW-PUSH-FENCED]"
    )]
    Fenced,
    /// The segment's memory was taken away (truncated, or no space behind a hole). Whether readers still get the record is
    /// not known; it was not acknowledged.
    #[error("the segment was truncated under its writer; succeed it with a new one [RW-PUSH-TRUNCATED]")]
    Truncated,
    /// The header holds what no party of the protocol writes. Not acknowledged.
    #[error("the segment's header is damaged: {what} holds {found:#x}; succeed it with a new one [RW-PUSH-DAMAGED]")]
    Damaged {
        /// Which word.
        what: &'static str,
        /// What it holds.
        found: u64,
    },
    /// Positions of this generation are used up (4 PiB). Nothing was written; succeed it.
    #[error("this generation's positions are used up; succeed it with a new one [RW-PUSH-EXHAUSTED]")]
    Exhausted,
}

/// What ended a writer for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Ended(PushError),
}

/// What the writer remembers of a slot, whatever its shared memory says now.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    occupied: bool,
    durable: bool,
    position: u64,
}

/// The writer of a segment. There is one for the segment's whole life.
pub struct Writer<M: Memory> {
    pub(crate) memory: M,
    pub(crate) shape: Shape,
    /// This process is registered for `membarrier`, as the identity says.
    light: bool,
    own: OwnCursor,
    /// Written, not yet published.
    staged: Mark,
    /// May write up to here without looking at the table.
    limit: u64,
    /// The highest limit ever granted, as published.
    granted: u64,
    /// No record ends beyond this.
    last: u64,
    known: Vec<Known>,
    fate: Fate,
    spin: u32,
}

impl<M: Memory> core::fmt::Debug for Writer<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Writer")
            .field("segment", &self.shape.segment)
            .field("published", &self.own.published)
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
}

impl<M: Memory> Writer<M> {
    /// Takes up writing on a segment that nobody has written to yet.
    ///
    /// The caller holds the writer byte of a segment that it built. That is what makes it the only one: a second writer on
    /// the same segment is a bug of the caller, and shows as damaged records, never as undefined behaviour (unless it fills them in place: see
    /// [`TrustedPeers`](crate::lend::TrustedPeers)).
    pub fn new(memory: M) -> Writer<M> {
        let shape = memory.shape();
        let start = Mark { position: 0, sequence: shape.first_sequence };
        let own = OwnCursor::start(&memory.page().cursor.cursor, start, shape.segment);
        let known = memory
            .slots()
            .iter()
            .map(|slot| Known {
                occupied: SlotState(slot.state.load(Ordering::Acquire)) == SlotState::CARRIED,
                durable: is_durable(slot),
                position: 0,
            })
            .collect();
        Writer {
            light: shape.membarrier,
            shape,
            own,
            staged: start,
            limit: 0,
            granted: 0,
            last: MAX_POSITION,
            known,
            fate: Fate::Open,
            spin: wait::DEFAULT_SPIN,
            memory,
        }
    }

    /// The memory that this writer writes to.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Turns of the spin loop before a push that waits for room goes to sleep.
    pub fn set_spin(&mut self, turns: u32) {
        self.spin = turns;
    }

    /// Has positions end early, for tests: nobody can wait for the 4 PiB of [`MAX_POSITION`].
    #[doc(hidden)]
    pub fn set_last_position(&mut self, last: u64) {
        self.last = last.min(MAX_POSITION);
        self.limit = self.limit.min(self.last);
    }

    /// Position and sequence number behind the last published record: exact, from private memory.
    pub fn published(&self) -> Mark {
        self.own.published
    }

    /// Whether this writer can go on; what ended it otherwise.
    pub fn fate(&self) -> Result<(), PushError> {
        match self.fate {
            Fate::Open => Ok(()),
            Fate::Ended(why) => Err(why),
        }
    }

    /// Pushes a record without waiting.
    ///
    /// `Ok` carries its sequence number and means: every registered reader gets it, in order, or is told of the loss. The
    /// readers may be receiving, joining, or dying meanwhile; a successor may be ending the generation.
    ///
    /// # Errors
    ///
    /// [`PushError`]; only with `Truncated` and `Damaged` may the record be delivered all the same, and then whole.
    #[inline]
    pub fn try_push(&mut self, record_type: u32, payload: &[u8]) -> Result<u64, PushError> {
        let sequence = self.stage(record_type, payload)?;
        self.publish()?;
        Ok(sequence)
    }

    /// Pushes a record, waiting for room at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push); `Full` after the time-out, naming the reader that is furthest behind.
    #[inline]
    pub fn push(&mut self, record_type: u32, payload: &[u8], timeout: Duration) -> Result<u64, PushError> {
        match self.try_push(record_type, payload) {
            Err(PushError::Full { .. }) => self.push_waiting(record_type, payload, timeout),
            done => done,
        }
    }

    #[cold]
    fn push_waiting(&mut self, record_type: u32, payload: &[u8], timeout: Duration) -> Result<u64, PushError> {
        self.wait_room(payload.len(), timeout)?;
        self.try_push(record_type, payload)
    }

    /// Waits until a record of `len` bytes finds room, at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    pub fn wait_room(&mut self, len: usize, timeout: Duration) -> Result<(), PushError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut spun = 0;
        // A reader that dies rings nobody: the first sleeps are short, so that one that stood in the way does not for long.
        let mut nap = FIRST_NAP;
        loop {
            let full = match self.room(len as u64) {
                Ok(_) => return Ok(()),
                Err(full @ PushError::Full { .. }) => full,
                Err(other) => return Err(other),
            };
            if spun < self.spin {
                spun += 1;
                wait::relax();
                continue;
            }
            self.check_open()?;
            let left = deadline.map_or(wait::MAX_SLEEP, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(full);
            }
            let head = self.memory.head();
            let announced = wait::announce(&self.memory, &head.space_bell, &head.space_waiters);
            match self.room(len as u64) {
                Err(PushError::Full { .. }) => {}
                done => return done.map(|_| ()),
            }
            self.check_open()?;
            let head = self.memory.head();
            if wait::sleep(&self.memory, &head.space_bell, &announced, left.min(nap)) == Slept::Fault {
                return Err(self.end_with(PushError::Truncated));
            }
            nap = (nap * 2).min(wait::MAX_SLEEP);
        }
    }

    /// Begins a record of exactly `len` bytes that is filled piece by piece and published by
    /// [`commit`](Reservation::commit). Does not wait.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    pub fn reserve(&mut self, record_type: u32, len: usize) -> Result<Reservation<'_, M>, PushError> {
        self.fate()?;
        let position = self.room(len as u64)?;
        self.prefetch_ends(position, record_len(len as u64));
        let header = RecordHeader {
            len: len as u32,
            kind: RecordKind::DATA,
            record_type,
            crc: 0,
            sequence: self.staged.sequence,
        };
        let crc = header.begin_crc(&self.shape, position);
        Ok(Reservation { writer: self, position, header, crc: Some(crc), filled: 0 })
    }

    /// Begins a batch: many records that become visible together, with one store.
    pub fn batch(&mut self) -> Batch<'_, M> {
        Batch { first: self.staged.sequence, writer: self }
    }

    /// Ends the generation orderly: readers drain it and learn that the channel is closed.
    ///
    /// # Errors
    ///
    /// [`PushError::Fenced`] and the like if the generation has ended otherwise before.
    pub fn close(&mut self) -> Result<(), PushError> {
        self.fate()?;
        let was = succession::shift_state(&self.memory, State::OPEN, State::CLOSED);
        let settled = self.settle();
        succession::ring_all(&self.memory);
        settled?;
        if was == State::OPEN { Ok(()) } else { Err(PushError::Fenced) }
    }

    /// Counts one heartbeat with the time of day in nanoseconds since 1970.
    pub fn beat(&self, now: u64) {
        beat(&self.memory, now);
    }

    /// Gives the memory back, leaving the segment as a crash at this moment would: nothing is closed, nothing told.
    pub fn abandon(self) -> M {
        self.memory
    }

    /// Finds room for a record of `len` bytes; returns the position at which it begins, after staging a wrap marker if
    /// one is needed.
    #[inline]
    fn room(&mut self, len: u64) -> Result<u64, PushError> {
        if len > self.shape.record_limit && !canary!("limit-not-enforced") {
            return Err(PushError::TooLarge { len, limit: self.shape.record_limit });
        }
        let span = record_len(len);
        let at = self.staged.position;
        let to_end = self.shape.capacity - self.shape.offset(at);
        let filler = if span > to_end { to_end } else { 0 };
        let end = at + filler + span;
        if end > self.limit && !canary!("reader-run-over") {
            self.grow_limit(end)?;
        }
        if filler != 0 && !canary!("wrap-marker-omitted") {
            let marker = record::wrap_marker(&self.shape, at, self.staged.sequence);
            if !self.memory.data().store_header(self.shape.offset(at), marker.to_words()) {
                return Err(self.damaged_own());
            }
            self.staged.position = at + filler;
        }
        Ok(self.staged.position)
    }

    fn damaged_own(&mut self) -> PushError {
        self.end_with(PushError::Damaged { what: "the writer's own cursor", found: self.staged.position })
    }

    fn end_with(&mut self, why: PushError) -> PushError {
        if self.fate == Fate::Open {
            self.fate = Fate::Ended(why);
        }
        why
    }

    /// Asks for the lines that a push is about to write, and for those behind them.
    #[inline(always)]
    fn prefetch(&self, position: u64, offset: u64, len: u64) {
        let data = self.memory.data();
        // What was asked for in time, a reader that runs along may have fetched back, and its own line it has for sure. Asked for together and in
        // this order, they come while the record is made: a tenth of a round trip.
        data.prefetch_own(offset);
        copy::prefetch_to_write(core::ptr::from_ref(&self.memory.page().cursor).cast());
        // Of longer records, the copy asks for what comes behind.
        data.prefetch_to_write(self.shape.offset(position + copy::AHEAD), record_len(len.min(copy::AHEAD / 2)));
    }

    /// As [`prefetch`](Self::prefetch), for a record that is not copied: its first and its last line, and those of one as long behind it, since
    /// who hands over records in place may write no others.
    #[inline(always)]
    fn prefetch_ends(&self, position: u64, span: u64) {
        let data = self.memory.data();
        for first in [position, position + span] {
            data.prefetch_own(self.shape.offset(first));
            data.prefetch_own(self.shape.offset(first + span - ALIGN));
        }
        copy::prefetch_to_write(core::ptr::from_ref(&self.memory.page().cursor).cast());
    }

    /// Writes a record behind what is staged.
    #[inline]
    fn stage(&mut self, record_type: u32, payload: &[u8]) -> Result<u64, PushError> {
        self.fate()?;
        let position = self.room(payload.len() as u64)?;
        let offset = self.shape.offset(position);
        self.prefetch(position, offset, payload.len() as u64);
        let sequence = self.staged.sequence;
        let mut header =
            RecordHeader { len: payload.len() as u32, kind: RecordKind::DATA, record_type, crc: 0, sequence };
        let mut crc = header.begin_crc(&self.shape, position);
        let staged = Mark { position: position + header.span(), sequence: sequence + 1 };
        if canary!("publish-before-payload") {
            self.own.publish(&self.memory.page().cursor.cursor, staged, self.shape.segment);
        }
        let data = self.memory.data();
        let stored = if self.shape.checksum == Checksum::HEADER {
            data.store(offset + RECORD_HEADER, payload)
        } else {
            data.store_summed(offset + RECORD_HEADER, payload, &mut crc)
        };
        header.crc = crc.finish();
        if !stored || !data.store_header(offset, header.to_words()) {
            return Err(self.damaged_own());
        }
        self.staged = staged;
        Ok(sequence)
    }

    /// Publishes what is staged and settles whether it counts.
    #[inline]
    fn publish(&mut self) -> Result<(), PushError> {
        let page = self.memory.page();
        let open = || page.succession.state.load(Ordering::Acquire) == State::OPEN.0;
        let early = (weakened(Weak::WriterStateFirst) || canary!("state-before-publish")) && open();
        self.own.publish(&page.cursor.cursor, self.staged, self.shape.segment);
        // E4:writer: published before the state is looked at. A successor sets the state, issues the heavy barrier, and
        // only then reads the position: one of the two sees the other.
        let head = self.memory.head();
        wait::ring(&self.memory, &page.doorbell.bell, &head.data_waiters, self.light);
        if early || open() || canary!("fence-not-checked") { Ok(()) } else { self.settle() }
    }

    /// The state is not open: decides the end if nobody has, and compares.
    #[cold]
    fn settle(&mut self) -> Result<(), PushError> {
        if self.memory.poisoned() {
            return Err(self.end_with(PushError::Truncated));
        }
        let state = succession::state(&self.memory);
        if state.known().is_none() {
            return Err(self.end_with(PushError::Damaged { what: "the state word", found: u64::from(state.0) }));
        }
        let end = match succession::decide_end(&self.memory, Some(self.own.published.position)) {
            Ok(end) => end,
            Err(bad) => return Err(self.end_with(PushError::Damaged { what: "the end word", found: bad.0 })),
        };
        succession::ring_all(&self.memory);
        if self.memory.poisoned() {
            return Err(self.end_with(PushError::Truncated));
        }
        self.end_with(PushError::Fenced);
        match end {
            End::At(end) if self.own.published.position <= end || canary!("late-push-acknowledged") => {
                let blindly = weakened(Weak::FencedBlindly) || canary!("fenced-blindly");
                if blindly { Err(PushError::Fenced) } else { Ok(()) }
            }
            _ => Err(PushError::Fenced),
        }
    }

    /// Learns that the generation was ended while it waits for room, without publishing anything.
    fn check_open(&mut self) -> Result<(), PushError> {
        if self.memory.poisoned() {
            return Err(self.end_with(PushError::Truncated));
        }
        let state = succession::state(&self.memory);
        if state == State::OPEN {
            return Ok(());
        }
        if state.known().is_none() {
            return Err(self.end_with(PushError::Damaged { what: "the state word", found: u64::from(state.0) }));
        }
        // What was published before is settled (each push was); only the record at hand is refused.
        let _ = self.settle();
        Err(self.fate().err().unwrap_or(PushError::Fenced))
    }

    /// Slow path: looks at the reader table until records up to `end` have room, or somebody is in the way.
    #[cold]
    fn grow_limit(&mut self, end: u64) -> Result<(), PushError> {
        if end > self.last {
            return Err(self.end_with(PushError::Exhausted));
        }
        loop {
            // E5:writer: a reader registers, fences, and then reads the limit; the writer publishes the limit, fences,
            // and then reads the table again.
            fence(Ordering::SeqCst);
            let (mut slowest, mut slot) = self.slowest();
            let mut limit = slowest + self.shape.capacity;
            if limit > self.granted {
                self.memory.page().cursor.limit.store(limit, Ordering::Release);
                fence(Ordering::SeqCst);
                if !weakened(Weak::OneLook) && !canary!("second-look-omitted") {
                    (slowest, slot) = self.slowest();
                }
                limit = limit.min(slowest + self.shape.capacity);
                self.granted = self.granted.max(limit);
            }
            self.limit = limit.min(self.last);
            if end <= limit {
                return Ok(());
            }
            if self.memory.poisoned() {
                return Err(self.end_with(PushError::Truncated));
            }
            let Some(slot) = slot else {
                self.check_open()?;
                // Nobody is in the way, so the limit is the published position plus the capacity; what is staged lies beyond.
                return Err(self.full(None, self.own.published.position));
            };
            if !self.reclaim(slot) {
                // Nobody may ever drain a generation that was ended: there, full is not for now but for ever.
                self.check_open()?;
                return Err(self.full(Some(slot), slowest));
            }
        }
    }

    fn full(&self, slot: Option<usize>, slowest: u64) -> PushError {
        PushError::Full { slot, behind: self.staged.position.saturating_sub(slowest), capacity: self.shape.capacity }
    }

    /// Position of the slowest registered reader and its slot; the own published position if there is none. Whatever the table says, a
    /// reader once seen is believed only to move forward, and not beyond what was published.
    fn slowest(&mut self) -> (u64, Option<usize>) {
        let published = self.own.published.position;
        let expelled = self.memory.page().succession.expelled.load(Ordering::Relaxed);
        let mut slowest = published;
        let mut which = None;
        for (slot, shared) in self.memory.slots().iter().enumerate() {
            let Some(known) = self.known.get_mut(slot) else { break };
            if expelled >> (slot & 63) & 1 == 1 {
                *known = Known::default();
                continue;
            }
            let state = SlotState(shared.state.load(Ordering::Acquire));
            let counts = match state {
                SlotState::ACTIVE | SlotState::CARRIED => true,
                SlotState::PROVISIONAL => self.memory.reader_lives(slot) && !canary!("provisional-ignored"),
                // Freed, by its reader or by a stray store: a reader that was there is gone only when its byte is.
                SlotState::FREE | SlotState::DONE => {
                    known.occupied && self.memory.reader_lives(slot) && !canary!("freed-slot-believed")
                }
                _ => known.occupied || self.memory.reader_lives(slot),
            };
            if !counts {
                *known = Known::default();
                continue;
            }
            // E2:load
            let claimed =
                cursor::position(&shared.cursor.position).filter(|p| *p <= published || canary!("claim-not-bounded"));
            let position = match claimed {
                Some(p) if !known.occupied => p,
                // E7:writer: a newcomer that took the slot while nobody looked may begin further back; then its whole
                // cursor checks. A stray store's would not.
                Some(p) if p < known.position => match cursor::read(&shared.cursor, self.shape.segment) {
                    cursor::Reading::Sound(mark) if mark.position <= published && !canary!("newcomer-ignored") => {
                        mark.position
                    }
                    _ => known.position,
                },
                Some(p) => p,
                None if known.occupied => known.position,
                // Nothing to go by: the oldest that can still be there.
                None => published.saturating_sub(self.shape.capacity),
            };
            *known = Known { occupied: true, durable: is_durable(shared), position };
            if which.is_none() || position < slowest {
                (slowest, which) = (position, Some(slot));
            }
        }
        (slowest, which)
    }

    /// Frees the slot of a dead ephemeral reader; false if the reader lives or is durable.
    fn reclaim(&mut self, slot: usize) -> bool {
        let durable = self.known.get(slot).is_none_or(|known| known.durable);
        let shared = &self.memory.slots()[slot];
        if canary!("living-reader-reclaimed") && !durable {
            shared.state.store(SlotState::FREE.0, Ordering::Release);
            self.known[slot] = Known::default();
            return true;
        }
        if (durable && !canary!("durable-reader-reclaimed")) || self.memory.reader_lives(slot) {
            return false;
        }
        let mut freed = false;
        self.memory.with_dead_slot(slot, &mut || {
            // Nobody holds the byte and we do: whoever comes next finds the slot free or waits for it.
            if Kind(shared.kind.load(Ordering::Acquire)) == Kind::EPHEMERAL || canary!("durable-reader-reclaimed") {
                shared.state.store(SlotState::FREE.0, Ordering::Release); // E7:reclaim
                freed = true;
            }
        });
        if freed && let Some(known) = self.known.get_mut(slot) {
            *known = Known::default();
        }
        freed
    }
}

/// Counts one heartbeat on `memory`: for a thread beside the writer.
pub fn beat<M: Memory>(memory: &M, now: u64) {
    let line = &memory.page().heartbeat;
    line.beat.store(line.beat.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    line.time.store(now, Ordering::Relaxed);
}

/// Longest of the sleeps of a writer that has just begun to wait for room; each further one may take twice as long.
const FIRST_NAP: Duration = Duration::from_millis(4);

/// A record being filled in place. Dropping it aborts: nothing becomes visible, no sequence number is used.
pub struct Reservation<'w, M: Memory> {
    pub(crate) writer: &'w mut Writer<M>,
    position: u64,
    header: RecordHeader,
    pub(crate) crc: Option<RecordCrc>,
    pub(crate) filled: usize,
}

/// More bytes than were reserved, or fewer at the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reserved} bytes were reserved and {filled} filled; fill exactly what was reserved [RW-PUSH-FILL]")]
pub struct FillError {
    /// Bytes that were reserved.
    pub reserved: usize,
    /// Bytes that would be, or were, filled.
    pub filled: usize,
}

/// Why a reservation was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Not filled exactly; nothing was published.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// As a push.
    #[error(transparent)]
    Push(#[from] PushError),
}

impl<M: Memory> core::fmt::Debug for Reservation<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reservation")
            .field("position", &self.position)
            .field("len", &self.header.len)
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

impl<M: Memory> Reservation<'_, M> {
    /// Bytes still to be filled.
    pub fn remaining(&self) -> usize {
        self.header.len as usize - self.filled
    }

    /// Where in the data the next byte goes.
    pub(crate) fn place(&self) -> u64 {
        self.writer.shape.offset(self.position) + RECORD_HEADER + self.filled as u64
    }

    /// Appends bytes to the payload.
    ///
    /// # Errors
    ///
    /// [`FillError`] if they are more than [`remaining`](Self::remaining); none of them is then written.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<(), FillError> {
        let reserved = self.header.len as usize;
        let filled = self.filled + bytes.len();
        let at = self.place();
        let data = self.writer.memory.data();
        let stored = filled <= reserved
            && match self.crc.as_mut().filter(|_| self.writer.shape.checksum != Checksum::HEADER) {
                Some(crc) => data.store_summed(at, bytes, crc),
                None => data.store(at, bytes),
            };
        if !stored {
            return Err(FillError { reserved, filled });
        }
        self.filled = filled;
        Ok(())
    }

    /// Publishes the record; returns its sequence number.
    ///
    /// # Errors
    ///
    /// [`CommitError`]: not filled exactly, or as [`Writer::try_push`].
    pub fn commit(mut self) -> Result<u64, CommitError> {
        if self.remaining() != 0 {
            return Err(FillError { reserved: self.header.len as usize, filled: self.filled }.into());
        }
        if let Some(crc) = self.crc.take() {
            self.header.crc = crc.finish();
        }
        let offset = self.writer.shape.offset(self.position);
        if !self.writer.memory.data().store_header(offset, self.header.to_words()) {
            return Err(self.writer.damaged_own().into());
        }
        self.writer.staged = Mark { position: self.position + self.header.span(), sequence: self.header.sequence + 1 };
        self.writer.publish()?;
        Ok(self.header.sequence)
    }

    /// Gives the room back; the same as dropping.
    pub fn abort(self) {}
}

impl<M: Memory> Drop for Reservation<'_, M> {
    fn drop(&mut self) {
        // A wrap marker may have been staged in front: harmless unpublished, and staged again by the next record.
        if self.writer.staged.sequence == self.header.sequence {
            self.writer.staged = self.writer.own.published;
        }
    }
}

/// Records that become visible together. Dropping it without [`publish`](Batch::publish) discards them.
pub struct Batch<'w, M: Memory> {
    writer: &'w mut Writer<M>,
    first: u64,
}

impl<M: Memory> core::fmt::Debug for Batch<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Batch").field("first", &self.first).field("len", &self.len()).finish()
    }
}

impl<M: Memory> Batch<'_, M> {
    /// Records in the batch.
    pub fn len(&self) -> u64 {
        self.writer.staged.sequence - self.first
    }

    /// Whether the batch holds no record yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a record; it is not visible yet.
    ///
    /// # Errors
    ///
    /// As [`Writer::try_push`]; after `Full` publish what there is and go on with a new batch.
    pub fn push(&mut self, record_type: u32, payload: &[u8]) -> Result<u64, PushError> {
        let staged = self.writer.stage(record_type, payload);
        if weakened(Weak::BatchInPieces) || canary!("batch-in-pieces") {
            self.writer.publish()?;
        }
        staged
    }

    /// Publishes all records with one store: they are acknowledged all together or not at all. Returns their sequence
    /// numbers.
    ///
    /// # Errors
    ///
    /// As [`Writer::try_push`].
    pub fn publish(self) -> Result<core::ops::Range<u64>, PushError> {
        let range = self.first..self.writer.staged.sequence;
        if !range.is_empty() {
            self.writer.publish()?;
        }
        Ok(range)
    }
}

impl<M: Memory> Drop for Batch<'_, M> {
    fn drop(&mut self) {
        // What was published is equal to what is staged; anything else is discarded.
        if !weakened(Weak::GivenUpKept) && !canary!("given-up-kept") {
            self.writer.staged = self.writer.own.published;
        }
    }
}

const _: () = assert!(ALIGN as usize >= RECORD_HEADER as usize);

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::build::tests as build;

    /// Positions end at 4 PiB, whatever room there is; what is refused there is refused for good.
    #[test]
    fn positions_are_used_up_and_not_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let segment = build::segment(dir.path(), &build::spec(4096, 2024, 1));
        let mut writer = Writer::new(Arc::new(segment));
        let near = Mark { position: MAX_POSITION - 64, sequence: 7 };
        (writer.own.published, writer.staged) = (near, near);
        let mut next = 7;
        let end = loop {
            match writer.try_push(0, &[1; 8]) {
                Ok(sequence) => assert_eq!(sequence, next),
                Err(end) => break end,
            }
            next += 1;
            assert!(next < 1000, "positions go on and on");
        };
        assert_eq!((end, writer.fate()), (PushError::Exhausted, Err(PushError::Exhausted)));
        assert_eq!(writer.published().position, MAX_POSITION, "no record ends beyond it");
        assert_eq!(writer.try_push(0, &[1; 8]), Err(PushError::Exhausted), "for good");
        assert_eq!(writer.published().sequence, next);
    }
}
