//! The writer of a channel: one generation's writer, and the way to the next when its own is lost.

use std::sync::Arc;

use ringward_ring::build::Place;
use ringward_ring::canary;
use ringward_ring::cursor::Mark;
use ringward_ring::identity::Predecessor;
use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;
use ringward_ring::succession as words;
use ringward_ring::word::{State, Successor};
use ringward_ring::writer::{Batch, PushError, Reservation, Writer as RingWriter};
use tracing::{info, warn};

use crate::beat::{Beat, Chores, Leftovers, Seat};
use crate::channel::{Ambition, Channel, Claim};
use crate::config::{Heal, WhenFull};
use crate::error::{OpenError, SendError};
use crate::namespace::{ChannelDir, generation_name};
use crate::owner;
use crate::succession::{self, Followed, Knowledge};

fn start_beat(
    channel: &Channel,
    dir: &ChannelDir,
    segment: &Arc<Segment>,
    left: Leftovers,
    seat: Option<Seat>,
) -> Beat {
    let trust = *channel.namespace().trust();
    let chores = Chores { dir: dir.clone(), trust, wipe: channel.config().wipe, left };
    Beat::start(segment, channel.config().beat_interval, chores, seat)
}

/// The writer of a channel. Dropping it leaves the channel without one, for a standby or the next writer to follow;
/// [`close`](Writer::close) ends the channel orderly.
#[derive(Debug)]
pub struct Writer {
    channel: Channel,
    dir: ChannelDir,
    ring: RingWriter<Arc<Segment>>,
    beat: Beat,
    heals: u64,
}

impl Writer {
    /// `left` is what is done with and need not be waited for; `seat` the beat thread, if there is one ready.
    pub(crate) fn new(
        channel: Channel,
        dir: ChannelDir,
        segment: Arc<Segment>,
        left: Leftovers,
        seat: Option<Seat>,
    ) -> Writer {
        let beat = start_beat(&channel, &dir, &segment, left, seat);
        Writer { channel, dir, ring: RingWriter::new(segment), beat, heals: 0 }
    }

    /// Number of the generation that is written now.
    pub fn generation(&self) -> u64 {
        self.segment().identity().generation
    }

    /// Sequence number of the next record: exact, whoever wrote before.
    pub fn next_sequence(&self) -> u64 {
        self.ring.published().sequence
    }

    /// The segment that is written now.
    pub fn segment(&self) -> &Arc<Segment> {
        self.ring.memory()
    }

    /// How often this writer has succeeded itself.
    pub fn heals(&self) -> u64 {
        self.heals
    }

    /// Turns of the spin loop before a push that waits for room goes to sleep.
    pub fn set_spin(&mut self, turns: u32) {
        self.ring.set_spin(turns);
    }

    /// Has the positions of this generation end early, for tests: see the writer of `ringward-ring`.
    #[doc(hidden)]
    pub fn set_last_position(&mut self, last: u64) {
        self.ring.set_last_position(last);
    }

    /// Readers that are registered and hold the writer back, living or durable.
    pub fn readers(&self) -> usize {
        ringward_ring::table::to_carry(self.segment()).0.len()
    }

    /// Pushes a record; without room, waits or not as configured. Returns its sequence number.
    ///
    /// `Ok` means: every registered reader gets it, in order, or an event that says how many were lost and why.
    ///
    /// # Errors
    ///
    /// [`SendError`]. A record that was refused as `Fenced` or `Full` is never delivered. After `Truncated` or `Damaged` it may
    /// have been written: [`next_sequence`](Self::next_sequence) tells (its number is used up or not); if so, it is
    /// delivered or reported lost. With [`Heal::LostMemory`] the writer has then already moved on, and the next push goes
    /// to the next generation.
    #[inline]
    pub fn push(&mut self, record_type: u32, payload: &[u8]) -> Result<u64, SendError> {
        if self.beat.alarmed() {
            self.look_after()?;
        }
        match self.ring.try_push(record_type, payload) {
            Ok(sequence) => Ok(sequence),
            Err(why) => self.push_again(record_type, payload, why),
        }
    }

    /// Pushes a record without waiting, whatever is configured.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    #[inline]
    pub fn try_push(&mut self, record_type: u32, payload: &[u8]) -> Result<u64, SendError> {
        if self.beat.alarmed() {
            self.look_after()?;
        }
        match self.ring.try_push(record_type, payload) {
            Ok(sequence) => Ok(sequence),
            Err(full @ PushError::Full { .. }) => Err(full.into()),
            Err(why) => self.push_again(record_type, payload, why),
        }
    }

    #[cold]
    fn push_again(&mut self, record_type: u32, payload: &[u8], why: PushError) -> Result<u64, SendError> {
        let why = match (why, self.channel.config().when_full) {
            (PushError::Full { .. }, WhenFull::Block(limit)) => match self.ring.push(record_type, payload, limit) {
                Ok(sequence) => return Ok(sequence),
                Err(why) => why,
            },
            _ => why,
        };
        match why {
            PushError::Fenced if self.channel.config().heal == Heal::Succeed || canary!("fenced-writer-comes-back") => {
                self.heal(why)?;
                Ok(self.ring.try_push(record_type, payload)?)
            }
            PushError::Exhausted if self.heals_memory() => {
                self.heal(why)?;
                Ok(self.ring.try_push(record_type, payload)?)
            }
            PushError::Truncated | PushError::Damaged { .. } if self.heals_memory() => {
                self.heal(why)?;
                Err(why.into())
            }
            _ => Err(why.into()),
        }
    }

    /// Begins a record of exactly `len` bytes that is filled in place and then committed. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), but never heals.
    pub fn reserve(&mut self, record_type: u32, len: usize) -> Result<Reservation<'_, Arc<Segment>>, SendError> {
        Ok(self.ring.reserve(record_type, len)?)
    }

    /// Begins a batch: many records that become visible with one store. Does not wait, never heals.
    pub fn batch(&mut self) -> Batch<'_, Arc<Segment>> {
        self.ring.batch()
    }

    /// Ends the channel orderly: readers drain it and are told that it is closed; standbys go home.
    ///
    /// A writer whose memory was taken away can't close it: with [`Heal::LostMemory`] it first succeeds itself, so that its readers are told
    /// of the loss as well as of the end.
    ///
    /// # Errors
    ///
    /// [`PushError::Fenced`] and the like if somebody had ended the generation before.
    pub fn close(mut self) -> Result<(), SendError> {
        let heals = self.heals_memory();
        let segment = self.segment();
        let cut = segment.poisoned() || segment.recheck().is_err();
        if cut || (heals && (self.beat.alarmed() || segment.links().is_ok_and(|links| links == 0))) {
            self.look_after()?;
        }
        match self.ring.close() {
            Err(why @ (PushError::Truncated | PushError::Damaged { .. })) if heals => {
                self.heal(why)?;
                Ok(self.ring.close()?)
            }
            closed => Ok(closed?),
        }
    }

    /// Lets go, leaving the channel as a crash at this moment would: for tests of whoever depends on it.
    pub fn abandon(self) {
        drop(self);
    }

    fn heals_memory(&self) -> bool {
        self.channel.config().heal != Heal::Report
    }

    /// Looks after the segment without pushing: one that was cut, damaged or unlinked is succeeded, if that is configured.
    /// For a writer that has nothing to say for long. Says whether it moved to a new generation.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn tend(&mut self) -> Result<bool, SendError> {
        let before = self.heals;
        let segment = self.segment();
        if segment.poisoned() || segment.recheck().is_err() || segment.links().is_ok_and(|links| links == 0) {
            self.look_after()?;
        }
        Ok(self.heals > before)
    }

    /// The beat thread found the segment unlinked, cut or damaged.
    #[cold]
    fn look_after(&mut self) -> Result<(), SendError> {
        let segment = self.segment();
        let state = words::state(segment);
        if !segment.poisoned() && state.known().is_some() && state != State::OPEN {
            // Ended, and then gone because it was drained: the push says by whom.
            return Ok(());
        }
        let why = if segment.poisoned() || segment.recheck().is_err() {
            PushError::Truncated
        } else {
            warn!(generation = self.generation(), "the segment was unlinked from outside");
            PushError::Truncated
        };
        if !self.heals_memory() {
            return Err(why.into());
        }
        self.heal(why)
    }

    /// Succeeds itself: this process still owns the channel, or may own it again.
    ///
    /// # Errors
    ///
    /// [`SendError::Heal`], or `Fenced` if another process owns the channel now.
    fn heal(&mut self, why: PushError) -> Result<(), SendError> {
        let heal = |error: OpenError| SendError::Heal(Box::new(error));
        let old = Arc::clone(self.segment());
        let number = self.generation();
        warn!(generation = number, %why, "healing: succeeding myself");
        let (dir, next) = if why == PushError::Fenced {
            let ambition = Ambition { birth: false, reopen: true, supersede: None, dead: None, hint: None };
            match self.channel.claim(ambition, &mut None).map_err(heal)? {
                Claim::Ours(dir, segment, _) => (dir, segment),
                Claim::Theirs(..) | Claim::Closed(_) => return Err(why.into()),
            }
        } else {
            self.succeed_own(&old, number).map_err(heal)?.ok_or(why)?
        };
        info!(from = number, to = next.identity().generation, "healed");
        // The new lock is held; only now let go of the old one, which goes with its last attachment.
        self.beat = start_beat(&self.channel, &dir, &next, vec![Box::new(old)], None);
        self.dir = dir;
        self.ring = RingWriter::new(next);
        self.heals += 1;
        Ok(())
    }

    /// Follows the own generation, with what this process remembers of it.
    fn succeed_own(&self, old: &Arc<Segment>, number: u64) -> Result<Option<(ChannelDir, Arc<Segment>)>, OpenError> {
        let end: Mark = self.ring.published();
        let knowledge = Knowledge { proved_dead: true, own_end: Some(end), known_readers: self.beat.readers() };
        for _ in 0..16 {
            if !self.dir.named().map_err(OpenError::system("fstat"))? {
                // The whole directory is gone: a new one, with the same channel's next generation in it.
                let place = Place {
                    channel: old.identity().channel,
                    generation: number + 1,
                    first_sequence: end.sequence,
                    predecessor: Some(Predecessor { segment: old.identity().segment, end: Some(end.position) }),
                    created: owner::wall_clock(),
                    lost_places: true, // readers that were away are not in the new directory's table
                };
                return match succession::birth(&self.channel, Some(&place))? {
                    Some((dir, segment)) => Ok(Some((dir, segment))),
                    None => Ok(None), // somebody else has the name now: it is another channel
                };
            }
            match succession::follow(&self.channel, &self.dir, number, old, &knowledge, None)? {
                Followed::ByUs(next) if next.bears(self.dir.fd(), &generation_name(number + 1)).unwrap_or(true) => {
                    return Ok(Some((self.dir.clone(), next)));
                }
                Followed::ByUs(_) => {}
                Followed::LookAgain(_) => {
                    let newest = self.dir.generations().map_err(OpenError::system("list the channel"))?;
                    // Somebody has followed it, and may have been lost since: it is no longer its own.
                    let followed = matches!(words::successor(old), Ok(Successor::Segment(_)));
                    if followed || newest.last().is_some_and(|newest| *newest > number) {
                        return Ok(None);
                    }
                }
            }
        }
        Err(OpenError::Busy { tries: 16 })
    }
}
