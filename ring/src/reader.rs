//! A registered reader of a segment.
//!
//! It trusts its own cursor and validates everything else: a record is copied out, then verified, then handed out; the
//! space is given back by a separate release. What it finds is a [`Taken`]: a record, nothing yet, a gap, or the end.

use core::time::Duration;
use std::time::Instant;

use crate::atomic::{Ordering, Weak, light_fence, weakened};
use crate::canary;
use crate::cursor::{self, Mark, OwnCursor, Reading};
use crate::layout::RECORD_HEADER;
use crate::memory::{Memory, Shape, Slept};
use crate::record::{self, RecordHeader, Search};
use crate::succession;
use crate::wait;
use crate::word::{Checksum, End, RecordKind, SlotState, State};

/// Why records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Their bytes no longer check.
    Corrupt,
    /// The segment was truncated or punched under them.
    Truncated,
    /// The writer ran over them: this reader had been expelled or its slot was taken from it.
    Overrun,
    /// They were dropped because the chain of undrained generations was full.
    Dropped,
}

/// What a reader found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A record: the first `len` bytes of the caller's buffer.
    Record {
        /// Its sequence number.
        sequence: u64,
        /// The user's record type.
        record_type: u32,
        /// Bytes of payload.
        len: usize,
        /// It was handed out before, to a predecessor in this slot that died before releasing it.
        redelivered: bool,
    },
    /// Nothing yet.
    Empty,
    /// Records were lost here: exactly this many, from sequence number `from` on.
    Gap {
        /// First lost sequence number.
        from: u64,
        /// How many.
        count: u64,
        /// Why.
        reason: GapReason,
    },
    /// This generation has ended and everything in it was handed out.
    End {
        /// Where it ended.
        at: Mark,
        /// The state in which it was found.
        state: State,
    },
}

/// Why a reader could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The next record is longer than the buffer; it was not taken.
    #[error("the next record has {needed} bytes, the buffer {given}; call again with a larger one [RW-RECV-BUFFER]")]
    BufferTooSmall {
        /// Bytes of the record.
        needed: usize,
        /// Bytes of the buffer.
        given: usize,
    },
    /// The segment's memory was taken away. What was published and not yet received is lost here; the next generation
    /// tells how much that was.
    #[error(
        "the segment was truncated under its reader at sequence {next}; go on in the next generation [RW-RECV-TRUNCATED]"
    )]
    Truncated {
        /// The sequence number that would have come next.
        next: u64,
    },
    /// Somebody took this reader's place away because it did not read.
    #[error("this reader was expelled at sequence {next}; join again [RW-RECV-EXPELLED]")]
    Expelled {
        /// The sequence number that would have come next.
        next: u64,
    },
    /// The generation ended, and nobody can know where: its writer died and its cursor does not check.
    #[error(
        "nobody can know where this generation ended; an unknown number of records from sequence {next} on is lost [RW-RECV-UNKNOWN-END]"
    )]
    UnknownEnd {
        /// The sequence number that would have come next.
        next: u64,
    },
}

/// A record that was copied and verified.
#[derive(Debug, Clone, Copy)]
struct InHand {
    sequence: u64,
    record_type: u32,
    len: u32,
    redelivered: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy)]
enum Miss {
    /// A wrap marker, which is behind us now.
    Wrap,
    /// It does not check.
    Lost,
    /// It is longer than the buffer, it says.
    TooLong,
    /// The memory was taken away meanwhile.
    Truncated,
}

/// A reader of a segment, in its slot.
pub struct Reader<M: Memory> {
    pub(crate) memory: M,
    pub(crate) shape: Shape,
    pub(crate) slot: usize,
    own: OwnCursor,
    /// What comes next, in private memory.
    pub(crate) next: Mark,
    /// Everything in front of this was published and is not behind the end.
    pub(crate) limit: u64,
    /// Records in front of this sequence number were handed out before.
    pub(crate) redelivered_until: u64,
    light: bool,
    spin: u32,
    /// Lost records are left to a later receive.
    leaves_losses: bool,
    scratch: Vec<u8>,
}

impl<M: Memory> core::fmt::Debug for Reader<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader")
            .field("segment", &self.shape.segment)
            .field("slot", &self.slot)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<M: Memory> Reader<M> {
    /// Takes up reading in `slot`, whose byte the caller holds and which says `at`. `light` says that this process is
    /// registered for `membarrier`.
    #[cfg_attr(feature = "loom", allow(dead_code))]
    pub(crate) fn resume(memory: M, slot: usize, at: Mark, taken: u64, light: bool) -> Reader<M> {
        let shape = memory.shape();
        let own = OwnCursor::start(&memory.slots()[slot].cursor, at, shape.segment);
        Reader {
            shape,
            slot,
            own,
            next: at,
            limit: at.position,
            redelivered_until: taken,
            light,
            spin: wait::DEFAULT_SPIN,
            leaves_losses: false,
            scratch: Vec::new(),
            memory,
        }
    }

    /// The memory that this reader reads.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Number of its slot.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Turns of the spin loop before a receive that waits goes to sleep.
    pub fn set_spin(&mut self, turns: u32) {
        self.spin = turns;
    }

    /// Whether receives stop in front of lost records, with [`Taken::Empty`], instead of going past them with a [`Taken::Gap`]: for who can't
    /// tell of a gap now. Whoever goes past one and dies has told nobody.
    pub fn leave_losses(&mut self, on: bool) {
        self.leaves_losses = on;
    }

    /// Position and sequence number of what comes next: exact, from private memory.
    pub fn next(&self) -> Mark {
        self.next
    }

    /// Takes the next record without waiting; copies it into `buf`, then verifies the copy.
    ///
    /// The record is handed out, not released: [`release`](Self::release) gives its space back. The writer may be pushing, dying or
    /// being fenced meanwhile.
    ///
    /// # Errors
    ///
    /// [`RecvError`]; nothing is lost by any of them that a later call or the next generation does not report.
    #[inline]
    pub fn try_recv(&mut self, buf: &mut [u8]) -> Result<Taken, RecvError> {
        loop {
            if self.next.position >= self.limit
                && let Some(taken) = self.refresh()?
            {
                return Ok(taken);
            }
            match self.take(buf) {
                Ok(InHand { sequence, record_type, len, redelivered }) => {
                    return Ok(Taken::Record { sequence, record_type, len: len as usize, redelivered });
                }
                Err(Miss::Wrap) => {}
                Err(miss) => {
                    if let Some(taken) = self.missed(miss, buf.len())? {
                        return Ok(taken);
                    }
                }
            }
        }
    }

    /// Takes the next record, waiting for it at most `timeout`; [`Taken::Empty`] when the time is up.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&mut self, buf: &mut [u8], timeout: Duration) -> Result<Taken, RecvError> {
        self.recv_after(buf, timeout, self.spin)
    }

    /// As [`recv`](Self::recv), but goes to sleep after so many turns of the spin loop. For who has just waited in vain, and
    /// waits on.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_after(&mut self, buf: &mut [u8], timeout: Duration, turns: u32) -> Result<Taken, RecvError> {
        match self.poll(buf, if timeout.is_zero() { 0 } else { turns })? {
            Taken::Empty => {}
            taken => return Ok(taken),
        }
        let mut deadline = None;
        loop {
            let now = Instant::now();
            let deadline = *deadline.get_or_insert_with(|| now.checked_add(timeout));
            let left = deadline.map_or(wait::MAX_SLEEP, |at| at.saturating_duration_since(now));
            if left.is_zero() {
                return Ok(Taken::Empty);
            }
            let announced = {
                let bell = &self.memory.page().doorbell.bell;
                wait::announce(&self.memory, bell, &self.memory.head().data_waiters)
            };
            match self.try_recv(buf)? {
                Taken::Empty => {}
                taken => return Ok(taken),
            }
            let bell = &self.memory.page().doorbell.bell;
            if wait::sleep(&self.memory, bell, &announced, left) == Slept::Fault || self.memory.poisoned() {
                return Err(RecvError::Truncated { next: self.next.sequence });
            }
            match self.try_recv(buf)? {
                Taken::Empty => {}
                taken => return Ok(taken),
            }
        }
    }

    /// Takes the next record, spinning for it for so many turns, and looking at no clock meanwhile.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    #[inline]
    pub fn poll(&mut self, buf: &mut [u8], turns: u32) -> Result<Taken, RecvError> {
        let mut spun = 0;
        loop {
            match self.try_recv(buf)? {
                Taken::Empty if spun < turns => {
                    spun += 1;
                    // The record's lines come together with the position's, not after it: between distant processors a fifth of a
                    // round trip.
                    self.memory.data().prefetch(self.shape.offset(self.next.position));
                    wait::relax();
                }
                taken => return Ok(taken),
            }
        }
    }

    /// Turns of the spin loop, as set.
    pub fn spin(&self) -> u32 {
        self.spin
    }

    /// Hands every record that is there now to `each`, at most `most`, and releases them together at the end. Returns how many, and
    /// what stopped it ([`Taken::Empty`] if there was no more).
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); what was handed out before is released.
    pub fn drain(
        &mut self,
        buf: &mut [u8],
        most: u64,
        mut each: impl FnMut(u64, u32, &[u8], bool),
    ) -> Result<(u64, Taken), RecvError> {
        let mut count = 0;
        let stopped = loop {
            if count >= most {
                break Ok(Taken::Empty);
            }
            match self.try_recv(buf) {
                Ok(Taken::Record { sequence, record_type, len, redelivered }) => {
                    each(sequence, record_type, &buf[..len], redelivered);
                    count += 1;
                }
                other => break other,
            }
        };
        self.release();
        stopped.map(|taken| (count, taken))
    }

    /// Gives the space of everything that was handed out back to the writer, and wakes it if it waits for room.
    #[inline]
    pub fn release(&mut self) {
        if self.own.published.position != self.next.position {
            self.own.publish(&self.memory.slots()[self.slot].cursor, self.next, self.shape.segment);
            let head = self.memory.head();
            wait::ring(&self.memory, &head.space_bell, &head.space_waiters, self.light);
        }
    }

    /// Whether something that was handed out has not been released.
    pub fn has_in_hand(&self) -> bool {
        self.own.published.position != self.next.position
    }

    /// Sleeps until this generation's data doorbell rings, at most `timeout` (and never longer than
    /// [`MAX_SLEEP`](wait::MAX_SLEEP)), unless `ready` says after the announcement that there is no need to. For a reader at the end of
    /// its generation, who waits for the next one.
    pub fn park(&self, timeout: Duration, ready: impl FnOnce() -> bool) {
        let bell = &self.memory.page().doorbell.bell;
        let announced = wait::announce(&self.memory, bell, &self.memory.head().data_waiters);
        if !ready() {
            let _ = wait::sleep(&self.memory, bell, &announced, timeout);
        }
    }

    /// Says up to which sequence number this reader's user was told of everything: what lies between there and the first record of a
    /// generation that it came over to is a loss that its successor in the slot still has to tell. For a reader that has taken nothing
    /// here yet.
    pub fn account(&self, sequence: u64) {
        self.memory.slots()[self.slot].taken.store(sequence, Ordering::Relaxed);
    }

    /// Says that this reader has left the generation for the next one, whose byte it already holds.
    pub fn done(self) -> M {
        self.leave(SlotState::DONE)
    }

    /// Gives the place up for good; a durable reader is forgotten here.
    pub fn forget(self) -> M {
        self.leave(SlotState::FREE)
    }

    /// Lets go of the memory, leaving the slot as a crash at this moment would.
    pub fn abandon(self) -> M {
        self.memory
    }

    fn leave(self, state: SlotState) -> M {
        self.memory.slots()[self.slot].state.store(state.0, Ordering::Release); // E7:leave
        let head = self.memory.head();
        wait::ring_now(&self.memory, &head.space_bell, &head.space_waiters);
        self.memory
    }

    pub(crate) fn expected(&self, header: &RecordHeader) -> bool {
        header.plausible(&self.shape, self.next.position, self.limit) && header.sequence == self.next.sequence
    }

    /// Copies and verifies the record at the cursor.
    ///
    /// What it returns fits into registers. A value that goes through the stack, and is loaded there in other pieces than it was stored in, has
    /// to wait until all stores before it have left the processor: the record's copy among them.
    #[inline(always)]
    fn take(&mut self, buf: &mut [u8]) -> Result<InHand, Miss> {
        let at = self.next;
        let data = self.memory.data();
        let offset = self.shape.offset(at.position);
        let header = data.load_header(offset).map(RecordHeader::from_words);
        let header = header.filter(|h| self.expected(h)).ok_or(Miss::Lost)?;
        if header.kind == RecordKind::WRAP {
            if !header.verify(&self.shape, at.position, &[]) {
                return Err(Miss::Lost);
            }
            self.next.position += header.span();
            return Err(Miss::Wrap);
        }
        let copy = buf.get_mut(..header.len as usize).ok_or(Miss::TooLong)?;
        let mut crc = header.begin_crc(&self.shape, at.position);
        let from = offset + RECORD_HEADER;
        let loaded = if self.shape.checksum == Checksum::HEADER {
            data.load(from, copy)
        } else {
            data.load_summed(from, copy, &mut crc)
        };
        if !loaded || (crc.finish() != header.crc && !canary!("checksum-not-verified")) {
            return Err(Miss::Lost);
        }
        if canary!("double-fetch") {
            let _ = data.load(from, copy);
        }
        if self.memory.poisoned() {
            return Err(Miss::Truncated);
        }
        self.next = Mark { position: at.position + header.span(), sequence: at.sequence + 1 };
        let redelivered = self.note_taken(at.sequence);
        Ok(InHand { sequence: at.sequence, record_type: header.record_type, len: header.len, redelivered })
    }

    /// Why there is no record at the cursor. `None`: there is one further on.
    #[cold]
    #[inline(never)]
    fn missed(&mut self, miss: Miss, given: usize) -> Result<Option<Taken>, RecvError> {
        let at = self.next;
        match miss {
            Miss::Wrap => Ok(None),
            Miss::Truncated => Err(RecvError::Truncated { next: at.sequence }),
            Miss::Lost => self.lost(),
            Miss::TooLong => {
                // Only believed if the header checks: a flipped length must not send the caller looking for gigabytes.
                let data = self.memory.data();
                let header = record::load(&data, &self.shape, at.position).filter(|h| self.expected(h));
                let Some(header) = header.filter(|h| h.kind == RecordKind::DATA && h.len as usize > given) else {
                    return self.lost(); // it has changed since, which no honest writer's does
                };
                let len = header.len as usize;
                self.scratch.resize(len, 0);
                let whole = data.load(self.shape.offset(at.position) + RECORD_HEADER, &mut self.scratch)
                    && header.verify(&self.shape, at.position, &self.scratch);
                if whole || canary!("length-trusted") {
                    return Err(RecvError::BufferTooSmall { needed: len, given });
                }
                self.lost()
            }
        }
    }

    /// Notes for whoever holds this place next that the record `sequence` is in hand; whether it was before.
    #[inline(always)]
    pub(crate) fn note_taken(&self, sequence: u64) -> bool {
        if !canary!("taken-not-noted") {
            // What an earlier holder of this place had in hand stays marked, should this one die on the way through it.
            let taken = (sequence + 1).max(self.redelivered_until);
            self.memory.slots()[self.slot].taken.store(taken, Ordering::Relaxed);
        }
        sequence < self.redelivered_until && !canary!("redelivery-mark-forgotten")
    }

    /// Looks how far the writer is. `Some`: nothing to take, and why.
    #[inline]
    pub(crate) fn refresh(&mut self) -> Result<Option<Taken>, RecvError> {
        let page = self.memory.page();
        let load = || page.succession.state.load(Ordering::Acquire);
        let early = (weakened(Weak::ReaderStateFirst) || canary!("reader-state-first")).then(load);
        let mut position = cursor::position(&page.cursor.cursor.position); // E1:load
        if let Some(found) = position.filter(|p| *p != self.next.position) {
            // A flipped bit must not send anybody among bytes that were never published: only a position that its
            // checkpoint vouches for is gone by. (Its owner may have been too fast for us: then what both leave certain.)
            if !cursor::vouched(&page.cursor.cursor, found, self.shape.segment) && !canary!("position-not-vouched") {
                position = match cursor::read(&page.cursor.cursor, self.shape.segment) {
                    Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => Some(mark.position),
                    Reading::Damaged => None,
                };
            }
        }
        // E4:reader: the state is loaded *after* the position. If it is still open, the position was published before
        // any successor read it, and so is not behind the end. The compiler fence is this side's half of the
        // successor's barrier.
        if !canary!("reader-fence-omitted") {
            light_fence();
        }
        let state = early.unwrap_or_else(load);
        if state == State::OPEN.0
            && let Some(position) = position.filter(|p| self.in_ring(*p))
        {
            self.limit = position;
            if position != self.next.position {
                return Ok(None);
            }
            // In the same line as the state.
            return if self.expelled() {
                Err(RecvError::Expelled { next: self.next.sequence })
            } else {
                Ok(Some(Taken::Empty))
            };
        }
        self.refresh_slow(State(state))
    }

    /// Whether this reader's place was taken from it.
    fn expelled(&self) -> bool {
        self.memory.page().succession.expelled.load(Ordering::Acquire) >> (self.slot & 63) & 1 == 1
    }

    fn in_ring(&self, position: u64) -> bool {
        position >= self.next.position && position - self.next.position <= self.shape.capacity
    }

    #[cold]
    fn refresh_slow(&mut self, state: State) -> Result<Option<Taken>, RecvError> {
        let next = self.next.sequence;
        if self.memory.poisoned() {
            return Err(RecvError::Truncated { next });
        }
        if self.expelled() {
            return Err(RecvError::Expelled { next });
        }
        if state == State::OPEN
            || (state.known().is_none() && !matches!(succession::end(&self.memory), Ok(End::At(_) | End::Unknown)))
        {
            // The position is damaged, or the writer has run over this reader, or the state itself is damaged.
            // Whatever lies in front of the *lower* checkpoint was published; the next push mends the position.
            return match self.read_while_open() {
                Some(mark) => self.advance_to(mark),
                None => Ok(Some(Taken::Empty)),
            };
        }
        let end = || succession::end(&self.memory);
        let unclamped = (canary!("end-not-clamped") && matches!(end(), Ok(End::At(_))))
            || (canary!("undecided-taken") && matches!(end(), Ok(End::Undecided)));
        if unclamped
            && let Reading::Sound(mark) = cursor::read(&self.memory.page().cursor.cursor, self.shape.segment)
            && mark.position > self.next.position
        {
            return self.advance_to(mark);
        }
        if state == State::CLOSED && (weakened(Weak::ClosedIsDrained) || canary!("closed-is-drained")) {
            return Ok(Some(Taken::End { at: self.next, state }));
        }
        match end() {
            Ok(End::At(end)) if self.in_ring(end) => {
                self.limit = end;
                if end > self.next.position {
                    return Ok(None);
                }
                Ok(Some(Taken::End { at: self.next, state }))
            }
            Ok(End::At(end)) if end > self.next.position => {
                let sequence = succession::sequence_at(&self.memory, end);
                self.advance_to(Mark { position: end, sequence: sequence.unwrap_or(next) })
            }
            // The end lies behind what this reader has taken: impossible unless words were damaged. Nothing more comes.
            Ok(End::At(_)) => Ok(Some(Taken::End { at: self.next, state })),
            Ok(End::Unknown) => Err(RecvError::UnknownEnd { next }),
            // Fenced and not decided, or a damaged word that a successor will decide again: take nothing new.
            Ok(End::Undecided) | Err(_) => Ok(Some(Taken::Empty)),
        }
    }

    /// The writer's cursor, if the generation is open *behind* the look at it: only then does it not lie beyond the end.
    fn read_while_open(&self) -> Option<Mark> {
        let reading = cursor::read(&self.memory.page().cursor.cursor, self.shape.segment);
        light_fence(); // E4:reader, as in `refresh`
        match reading {
            Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => {
                (succession::state(&self.memory) == State::OPEN).then_some(mark)
            }
            Reading::Damaged => None,
        }
    }

    /// The writer stands at `mark`: within the ring, or so far ahead that it ran over this reader.
    fn advance_to(&mut self, mark: Mark) -> Result<Option<Taken>, RecvError> {
        if mark.position <= self.next.position {
            return Ok(Some(Taken::Empty));
        }
        if self.in_ring(mark.position) {
            self.limit = mark.position;
            return Ok(None);
        }
        let from = mark.position - self.shape.capacity;
        self.skip(from, mark, GapReason::Overrun)
    }

    /// The record at the cursor does not check: says how many are lost, and stands behind them. `None`: none were, go on.
    #[cold]
    pub(crate) fn lost(&mut self) -> Result<Option<Taken>, RecvError> {
        let next = self.next.sequence;
        if self.memory.poisoned() {
            return Err(RecvError::Truncated { next });
        }
        if self.expelled() {
            return Err(RecvError::Expelled { next });
        }
        // Where do the published records end, and with which number? The end word knows; while there is none, the cursor.
        let to = match succession::end(&self.memory) {
            Ok(End::At(end)) => match succession::sequence_at(&self.memory, end) {
                Some(sequence) => Some(Mark { position: end, sequence }),
                // Nothing tells the number at the end; the next sound record in front of it tells its own.
                None if self.in_ring(end) => {
                    let to = Mark { position: end, sequence: u64::MAX };
                    let search = Search { anchor: self.next, from: self.next.position, to };
                    let found = record::resync(&self.memory.data(), &self.shape, &search, &mut self.scratch);
                    Some(found.ok_or(RecvError::UnknownEnd { next })?)
                }
                None => return Err(RecvError::UnknownEnd { next }),
            },
            Ok(End::Unknown) => return Err(RecvError::UnknownEnd { next }),
            Ok(End::Undecided) | Err(_) => self.read_while_open(),
        };
        let Some(to) = to.filter(|to| to.position > self.next.position) else {
            // Nothing to go by yet; the next push of a living writer mends its cursor.
            self.limit = self.next.position;
            return Ok(Some(Taken::Empty));
        };
        let overrun = to.position - self.next.position > self.shape.capacity;
        let reason = if overrun { GapReason::Overrun } else { GapReason::Corrupt };
        self.skip(self.next.position.max(to.position.saturating_sub(self.shape.capacity)), to, reason)
    }

    /// Stands at the first sound record in `from..to`, or at `to`; reports what was skipped.
    fn skip(&mut self, from: u64, to: Mark, reason: GapReason) -> Result<Option<Taken>, RecvError> {
        if self.leaves_losses {
            return Ok(Some(Taken::Empty));
        }
        let lost_from = self.next.sequence;
        let data = self.memory.data();
        let search = Search { anchor: self.next, from, to };
        let found = record::resync(&data, &self.shape, &search, &mut self.scratch);
        if self.memory.poisoned() {
            return Err(RecvError::Truncated { next: lost_from });
        }
        let at = found.filter(|_| !canary!("rest-given-up")).unwrap_or(to);
        let in_hand = self.has_in_hand();
        self.next = at;
        self.limit = to.position;
        let taken = at.sequence.max(self.redelivered_until);
        self.memory.slots()[self.slot].taken.store(taken, Ordering::Relaxed);
        // What is in hand stays so, and the loss behind it is found again by whoever takes this place over.
        if !in_hand {
            self.release();
        }
        let count = at.sequence.saturating_sub(lost_from);
        if count == 0 || canary!("gap-swallowed") {
            return Ok(None); // only a wrap marker was damaged, or the limit was: go on
        }
        let count = if canary!("gap-miscounted") { count + 1 } else { count };
        Ok(Some(Taken::Gap { from: lost_from, count, reason }))
    }
}
