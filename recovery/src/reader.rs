//! A reader of a channel: drains a generation, takes its place in the next one, and only then leaves the last.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringward_ring::canary;
use ringward_ring::cursor::Mark;
use ringward_ring::identity::Features;
use ringward_ring::image;
use ringward_ring::layout::PRESENCE_BYTE;
use ringward_ring::lend::{Lent, TrustedPeers};
use ringward_ring::memory::Memory;
use ringward_ring::reader::{GapReason, Reader as RingReader, RecvError, Taken};
use ringward_ring::segment::{Access, JoinError, Joining, Segment};
use ringward_ring::succession;
use ringward_ring::sys::file;
use ringward_ring::sys::lock::{self, Held};
use ringward_ring::table::{self, From, ReaderCard, ReaderName};
use ringward_ring::word::{End, Kind, SlotState, State, Successor};
use tracing::{debug, info};

use crate::chain::{self, Found, Standing};
use crate::channel::{Channel, Durability, PASSING, TRIES};
use crate::error::{OpenError, ReceiveError};
use crate::event::Event;
use crate::namespace::{ChannelDir, generation_name};
use crate::observer::Observer;
use crate::owner;
use crate::succession::{before_reboot, known_loss};
use crate::verdict::Verdict;

/// How often a reader that waits looks around: for a writer that died, a generation that it was not woken for.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// After a move, whatever can wait waits for so long.
const SETTLE: Duration = Duration::from_millis(2);
/// So many generations that were left are kept in memory at most, where writers follow each other without a pause.
const MOST_LEFT: usize = 4;
/// So long after a move without a pause, what was left goes to a thread of its own.
const BUSY: Duration = Duration::from_millis(20);
/// So long without a record is a pause.
const PAUSE: Duration = Duration::from_micros(250);
/// Empty polls between two looks at the clock.
const POLLS: u32 = 256;

/// Records that may have been lost with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// None: everything that was published had been received.
    Nothing,
    /// From this sequence number on, an unknown number.
    Unknown {
        /// First sequence number that was not received.
        from: u64,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Nothing => f.write_str("nothing was lost with it"),
            Lost::Unknown { from } => write!(f, "an unknown number of records from sequence {from} on is lost with it"),
        }
    }
}

/// A reader of a channel. Dropping it gives an ephemeral place up and keeps a durable one.
#[derive(Debug)]
pub struct Reader {
    channel: Channel,
    dir: ChannelDir,
    card: ReaderCard,
    /// Only empty while it moves from one generation to the next.
    ring: Option<RingReader<Arc<Segment>>>,
    queue: VecDeque<Event>,
    observer: Observer,
    looked: Instant,
    polls: u32,
    told_gone: bool,
    told_closed: bool,
    /// Lost records in front of this sequence number were told, though the generation that held them can't be left yet.
    accounted: u64,
    spin: Option<u32>,
    auto_release: bool,
    /// Generations that were left with records in hand, oldest first: their places stay until those are released.
    behind: Vec<RingReader<Arc<Segment>>>,
    /// Generations that were left, and when the first of them was: their memory is given back when there is nothing better to do.
    left: Option<(Vec<Arc<Segment>>, Instant)>,
    /// The thread that does so where there is never nothing better to do.
    freeing: Option<std::thread::JoinHandle<()>>,
}

enum Step {
    Moved,
    NotYet,
}

impl Reader {
    pub(crate) fn open(
        channel: Channel,
        name: ReaderName,
        durability: Durability,
        from: From,
    ) -> Result<Reader, OpenError> {
        let me = owner::this_process();
        let card =
            ReaderCard { kind: durability.kind(), name, pid: me.pid, pid_namespace: me.pid_namespace, start: me.start };
        let mut newcomer = false;
        let tries = channel.config().tries;
        for _ in 0..tries {
            let dir = channel.open_dir()?;
            let opened = match durability {
                Durability::Durable => match claim_from_below(&channel, &dir, &card)? {
                    // Our own place, copied by a successor while we were on our way in: nothing in front of it was ours.
                    Below::Claimed { ring, ours: true, .. } if newcomer => {
                        ring.account(ring.next().sequence);
                        Some((ring, None))
                    }
                    Below::Claimed { ring, lost, .. } => Some((ring, lost)),
                    Below::LookAgain => continue,
                    Below::NotThere => {
                        newcomer = true;
                        join_newest(&channel, &dir, &card, from)?.map(|ring| {
                            let lost = may_have_lost(&ring);
                            (ring, lost)
                        })
                    }
                },
                Durability::Ephemeral => join_newest(&channel, &dir, &card, from)?.map(|ring| (ring, None)),
            };
            let Some((ring, lost)) = opened else { continue };
            let observer = Observer::new(ring.memory());
            return Ok(Reader {
                channel,
                dir,
                card,
                ring: Some(ring),
                queue: lost.into_iter().collect(),
                observer,
                looked: Instant::now(),
                polls: 0,
                told_gone: false,
                told_closed: false,
                accounted: 0,
                spin: None,
                auto_release: true,
                behind: Vec::new(),
                left: None,
                freeing: None,
            });
        }
        Err(OpenError::Busy { tries })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.card.name.as_str()
    }

    /// Whether it keeps its place when it dies.
    pub fn durability(&self) -> Durability {
        if self.card.kind == Kind::DURABLE { Durability::Durable } else { Durability::Ephemeral }
    }

    /// Number of the generation that is read now.
    pub fn generation(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.memory().identity().generation)
    }

    /// Sequence number of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.next().sequence)
    }

    /// Largest payload of the present generation, in bytes: a buffer of this size is never too small for it.
    pub fn record_limit(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| ring.memory().identity().record_limit as usize)
    }

    /// Turns of the spin loop before a receive that waits goes to sleep.
    pub fn set_spin(&mut self, turns: u32) {
        self.spin = Some(turns);
        if let Some(ring) = &mut self.ring {
            ring.set_spin(turns);
        }
    }

    /// Whether [`recv`](Self::recv) releases what it handed out before (it does unless set). Without it, call [`release`](Self::release) when
    /// what was handed out is safe: many records can be worked on together, and all come again after a crash, also those in front of a loss,
    /// of a close, and of a generation that was left. (Such a generation stays where it is until then, and counts in the chain.) Set
    /// again, generations that were left are released at once, the present one by the next receive.
    pub fn set_auto_release(&mut self, on: bool) {
        self.auto_release = on;
        if on {
            self.release_behind();
        }
    }

    /// What comes next, waiting for it at most `timeout`; `None` when the time is up. Never waits longer, whatever died.
    ///
    /// A record is copied into `buf` and verified there. Calling again releases it: until then it counts as in hand, and is handed out again if
    /// this process dies (to a durable reader of the same name, marked redelivered).
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; after `BufferTooSmall` the record is still there.
    #[inline]
    pub fn recv(&mut self, buf: &mut [u8], timeout: Duration) -> Result<Option<Event>, ReceiveError> {
        self.mind_what_was_left();
        let mut spun = false;
        if let Some(ring) = self.ring.as_mut().filter(|_| self.queue.is_empty()) {
            if self.auto_release {
                ring.release();
            }
            let turns = if timeout.is_zero() { 0 } else { ring.spin() };
            match ring.poll(buf, turns) {
                Ok(Taken::Record { sequence, record_type, len, redelivered }) => {
                    return Ok(Some(Event::Record { sequence, record_type, len, redelivered }));
                }
                // Told once: the reader stands behind it now.
                Ok(Taken::Gap { from, count, reason }) => {
                    return Ok(Some(Event::Gap { from, count: Some(count), reason }));
                }
                Ok(Taken::Empty) => spun = true,
                // Found again below.
                Ok(_) | Err(_) => {}
            }
        }
        self.recv_slow(buf, timeout, spun)
    }

    /// What comes next, without waiting.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self, buf: &mut [u8]) -> Result<Option<Event>, ReceiveError> {
        self.recv(buf, Duration::ZERO)
    }

    /// Nothing came at once. `spun`: nor in the turns of the spin loop.
    #[cold]
    fn recv_slow(&mut self, buf: &mut [u8], timeout: Duration, spun: bool) -> Result<Option<Event>, ReceiveError> {
        // A time-out beyond what the clock can say is none.
        let deadline = Instant::now().checked_add(timeout);
        let left = |now: Instant| deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
        let mut idle = spun;
        loop {
            if let Some(event) = self.queue.pop_front() {
                if let (Event::Gap { from, count: Some(count), .. }, Some(ring)) = (&event, &self.ring)
                    && from + count == ring.next().sequence
                {
                    ring.account(ring.next().sequence);
                }
                return Ok(Some(event));
            }
            let most = if timeout.is_zero() { Duration::ZERO } else { left(Instant::now()).min(self.idle_limit()) };
            let Some(ring) = self.ring.as_mut() else {
                return Err(ReceiveError::Gone { lost: Lost::Unknown { from: 0 } });
            };
            ring.leave_losses(false); // a look at a lent record may have unwound
            // Spun once, in front of the first sleep; what comes after a look around is more of the same wait.
            let waited = if idle { ring.recv_after(buf, most, 0) } else { ring.recv(buf, most) };
            match waited {
                Ok(Taken::Record { sequence, record_type, len, redelivered }) => {
                    return Ok(Some(Event::Record { sequence, record_type, len, redelivered }));
                }
                Ok(Taken::Gap { from, count, reason }) => {
                    return Ok(Some(Event::Gap { from, count: Some(count), reason }));
                }
                Ok(Taken::Empty) => {
                    idle = true;
                    if timeout.is_zero() {
                        self.polls += 1;
                        if self.polls < POLLS {
                            return Ok(None);
                        }
                        self.polls = 0;
                    }
                    self.clear_up();
                    let now = Instant::now();
                    if now.duration_since(self.looked) >= LOOK_AROUND {
                        self.looked = now;
                        self.look_around()?;
                    }
                }
                Ok(Taken::End { state, .. }) => self.at_end(state, left(Instant::now()))?,
                Err(RecvError::Truncated { .. } | RecvError::UnknownEnd { .. }) => {
                    if let Step::NotYet = self.advance()? {
                        self.tell_if_closed_and_cut();
                        self.tell_if_gone()?;
                        self.check_removed()?;
                        if self.queue.is_empty() {
                            std::thread::sleep(left(Instant::now()).min(Duration::from_millis(2)));
                        }
                    }
                }
                Err(RecvError::BufferTooSmall { needed, given }) => {
                    return Err(ReceiveError::BufferTooSmall { needed, given });
                }
                Err(RecvError::Expelled { next }) => return Err(ReceiveError::Expelled { next }),
                Err(_) => return Err(ReceiveError::Gone { lost: Lost::Unknown { from: self.next_sequence() } }),
            }
            if self.queue.is_empty() && left(Instant::now()).is_zero() {
                return Ok(None);
            }
        }
    }

    /// Hands every record that is there now to `each`, at most `most`, and releases them together, with whatever was in hand before. Returns
    /// how many.
    ///
    /// Events other than records stay for the next [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn drain(
        &mut self,
        buf: &mut [u8],
        most: u64,
        mut each: impl FnMut(u64, u32, &[u8], bool),
    ) -> Result<u64, ReceiveError> {
        self.mind_what_was_left();
        let Some(ring) = self.ring.as_mut().filter(|_| self.queue.is_empty()) else { return Ok(0) };
        let mut handed_out = 0;
        let counting = |sequence, record_type, bytes: &[u8], redelivered| {
            handed_out += 1;
            each(sequence, record_type, bytes, redelivered);
        };
        // A gap is for the next recv to find and to tell: should this process die before that, its successor finds it.
        ring.leave_losses(true);
        let drained = ring.drain(buf, most, counting);
        ring.leave_losses(false);
        if !self.behind.is_empty() {
            self.release_behind();
        }
        match drained {
            Ok((count, _)) => Ok(count),
            Err(RecvError::BufferTooSmall { needed, given }) if handed_out == 0 => {
                Err(ReceiveError::BufferTooSmall { needed, given })
            }
            Err(_) => Ok(handed_out), // told by the next recv
        }
    }

    /// Lends the next record in place, to `look`: sequence number, record type, payload where the writer put it, and whether it may have been
    /// handed out before. Releases what was handed out earlier, as [`recv`](Self::recv) does. `None`: there is no record now; a
    /// [`recv`](Self::recv) says why, waits, and moves to the next generation.
    ///
    /// For peers that trust each other's memory, and say so: see [`TrustedPeers`].
    ///
    /// # Errors
    ///
    /// None of its own: a record whose memory was taken away while `look` looked (which has then seen zeros) is not counted as handed
    /// out, and the next [`recv`](Self::recv) says what happened.
    pub fn lend<R>(
        &mut self,
        peers: TrustedPeers,
        look: impl FnOnce(u64, u32, &[u8], bool) -> R,
    ) -> Result<Option<R>, ReceiveError> {
        self.mind_what_was_left();
        let Some(ring) = self.ring.as_mut().filter(|_| self.queue.is_empty()) else { return Ok(None) };
        if self.auto_release {
            ring.release();
        }
        ring.leave_losses(true); // as in `drain`
        let lent = ring.lend(peers, look);
        ring.leave_losses(false);
        match lent {
            Ok(Lent::Looked(result)) => Ok(Some(result)),
            Ok(Lent::Not(_)) | Err(_) => Ok(None), // told by the next recv
        }
    }

    /// Releases what was handed out: its space is the writer's again, and it is not handed out again.
    #[inline]
    pub fn release(&mut self) {
        if !self.behind.is_empty() {
            self.release_behind();
        }
        if let Some(ring) = &mut self.ring {
            ring.release();
        }
    }

    /// Oldest first: dying in between, this process has released nothing in front of which something is in hand.
    #[cold]
    fn release_behind(&mut self) {
        for ring in std::mem::take(&mut self.behind) {
            self.leave(ring);
        }
    }

    /// Done with a generation: its memory is given back when there is nothing better to do.
    fn leave(&mut self, mut ring: RingReader<Arc<Segment>>) {
        ring.release();
        let (left, _) = self.left.get_or_insert_with(|| (Vec::new(), Instant::now()));
        left.push(ring.done());
    }

    /// Gives the place up for good, a durable one too.
    pub fn forget(mut self) {
        self.release_behind();
        self.clear_up_now();
        if let Some(mut ring) = self.ring.take() {
            ring.release();
            drop(ring.forget());
        }
        // A younger generation may keep the place already. Somebody else has it by now: then it is his.
        if self.card.kind == Kind::DURABLE
            && let Err(error) = forget(&self.channel, self.card.name)
        {
            debug!(name = self.name(), %error, "giving up a place in the other generations");
        }
    }

    /// Everything of this generation was handed out.
    fn at_end(&mut self, state: State, left: Duration) -> Result<(), ReceiveError> {
        if let Step::Moved = self.advance()? {
            return Ok(());
        }
        let generation = self.generation();
        let decided = self.ring.as_ref().map(|ring| succession::successor(ring.memory()));
        if matches!(decided, Some(Ok(Successor::Nobody))) {
            return Err(ReceiveError::Gone { lost: Lost::Nothing });
        }
        if state == State::CLOSED && !self.told_closed {
            self.told_closed = true;
            if self.auto_release || canary!("hand-emptied-unasked") {
                self.release();
            }
            self.clear_up_now();
            self.queue.push_back(Event::Closed { generation });
            return Ok(());
        }
        if state != State::CLOSED {
            self.tell_if_gone()?;
        }
        self.check_removed()?;
        if let Some(ring) = self.ring.as_ref().filter(|_| self.queue.is_empty() && !left.is_zero()) {
            let name = generation_name(generation + 1);
            let old_state = succession::state(ring.memory());
            ring.park(left.min(LOOK_AROUND), || {
                succession::state(ring.memory()) != old_state
                    || file::path_key(self.dir.fd(), &name).is_ok_and(|key| key.is_some())
            });
        }
        Ok(())
    }

    /// What nobody wakes a reader for.
    fn look_around(&mut self) -> Result<(), ReceiveError> {
        let Some(ring) = &self.ring else { return Ok(()) };
        let segment = Arc::clone(ring.memory());
        let generation = segment.identity().generation;
        if self.observer.stalled(&segment, self.channel.config().stall_timeout) {
            self.queue.push_back(Event::Stalled { generation });
        }
        self.tell_if_gone()?;
        self.finish_close(&segment, generation)?;
        let next = file::path_key(self.dir.fd(), &generation_name(generation + 1));
        if next.is_ok_and(|key| key.is_some()) {
            // Followed without our being told: only then is there a next generation that names ours.
            self.advance_past_living()?;
        } else {
            self.check_removed()?;
        }
        Ok(())
    }

    /// A writer that died inside its close has left the generation closed, but not said where it ends.
    fn finish_close(&self, segment: &Arc<Segment>, generation: u64) -> Result<(), ReceiveError> {
        let unfinished = succession::state(segment) == State::CLOSED
            && matches!(succession::end(segment), Ok(End::Undecided))
            && segment.writer_held().is_ok_and(|held| held != Held::Exclusive)
            && !canary!("close-not-finished");
        if unfinished {
            let trust = self.channel.namespace().trust();
            if let Found::Segment(ours) =
                chain::find(&self.dir, generation, Access::Successor, trust).map_err(Box::new)?
                && ours.key() == segment.key()
            {
                chain::finish_close(&ours, generation).map_err(Box::new)?;
            }
        }
        Ok(())
    }

    /// How long to wait for a record before the time counts as idle, while there is something to clear up: never at once, since the
    /// first records of a generation may be on their way, and then not for long, since there may be no long pause for a long time.
    /// At most until the next look around.
    fn idle_limit(&self) -> Duration {
        let left = |(_, when): &(_, Instant)| SETTLE.saturating_sub(when.elapsed()).max(PAUSE);
        self.left.as_ref().map_or(LOOK_AROUND, left)
    }

    /// Nothing better to do: gives back the memory of the generation that was left, unlinks what is drained.
    fn clear_up(&mut self) {
        if self.left.as_ref().is_some_and(|(_, when)| when.elapsed() < SETTLE) {
            return;
        }
        self.clear_up_now();
    }

    fn clear_up_now(&mut self) {
        if let Some((left, _)) = self.left.take() {
            give_back(left, &self.dir, &self.channel);
        }
    }

    /// Between two records that come without a pause: has what was left waited long enough?
    #[inline(always)]
    fn mind_what_was_left(&mut self) {
        if self.left.is_some() {
            self.clear_up_beside();
        }
    }

    /// Giving back the memory of a large generation takes the kernel tens of milliseconds; while records come without a pause, another thread
    /// has it done: one at a time. (Here, if that one can't keep up, or the system has no thread to spare.)
    #[cold]
    fn clear_up_beside(&mut self) {
        let busy = self.freeing.as_ref().is_some_and(|thread| !thread.is_finished());
        let due = |(left, when): &mut (Vec<Arc<Segment>>, Instant)| {
            left.len() > MOST_LEFT || (!busy && when.elapsed() >= BUSY)
        };
        let Some((left, _)) = self.left.take_if(due) else { return };
        if busy {
            return give_back(left, &self.dir, &self.channel);
        }
        // Its place there is nobody's any more, whenever the thread comes to it.
        for segment in &left {
            if let Err(error) = segment.drop_reader_bytes() {
                debug!(%error, "giving a reader's byte back");
            }
        }
        let (dir, channel) = (self.dir.clone(), self.channel.clone());
        let work = move || give_back(left, &dir, &channel);
        match std::thread::Builder::new().name("ringward-free".into()).stack_size(256 << 10).spawn(work) {
            Ok(thread) => self.freeing = Some(thread),
            Err(error) => {
                debug!(%error, "no thread to give memory back: it was given back here");
                give_back(Vec::new(), &self.dir, &self.channel);
            }
        }
    }

    /// Our segment was cut after its writer had closed it, or the writer is dead: what the file's header still says counts.
    fn tell_if_closed_and_cut(&mut self) {
        let Some(ring) = self.ring.as_ref().filter(|_| !self.told_closed) else { return };
        let (segment, next) = (ring.memory(), ring.next().sequence.max(self.accounted));
        let generation = segment.identity().generation;
        let held = segment.writer_held().map_or(true, |held| held == Held::Exclusive);
        if held {
            return; // it will notice, and may heal
        }
        let Ok(bytes) = segment.copy() else { return };
        let image = image::decode(&bytes);
        let ours = image.identity.as_ref().is_ok_and(|identity| identity.segment == segment.identity().segment);
        if !ours || image.state != State::CLOSED {
            return;
        }
        let count = match image.end {
            Ok(End::At(position)) if image.readable.end == position => {
                image.readable.sequence.map(|sequence| sequence.saturating_sub(next))
            }
            _ => None,
        };
        if count != Some(0) {
            self.queue.push_back(Event::Gap { from: next, count, reason: GapReason::Truncated });
            self.accounted = next + count.unwrap_or(0);
        }
        self.told_closed = true;
        self.told_gone = true;
        self.clear_up_now();
        self.queue.push_back(Event::Closed { generation });
    }

    /// Nobody writes the newest generation, and nobody has followed it.
    fn tell_if_gone(&mut self) -> Result<(), ReceiveError> {
        let Some(ring) = self.ring.as_ref().filter(|_| !self.told_gone) else { return Ok(()) };
        let ours = ring.memory();
        let held = |segment: &Segment| segment.writer_held().map_or(true, |held| held == Held::Exclusive);
        if held(ours) {
            return Ok(());
        }
        let mut generation = ours.identity().generation;
        let newest =
            self.dir.generations().ok().and_then(|numbers| numbers.last().copied()).filter(|n| *n > generation);
        let gone = match newest {
            // In a directory that was removed nobody can follow; whether somebody goes on in a new one, `check_removed` finds out.
            None => succession::state(ours) != State::CLOSED && self.dir.named().unwrap_or(true),
            Some(number) => match chain::find(&self.dir, number, Access::Inspect, self.channel.namespace().trust()) {
                Ok(Found::Segment(newest)) => {
                    generation = number;
                    let state = succession::state(&newest);
                    !held(&newest) && state != State::CLOSED && state != State::CANDIDATE
                }
                // What can't be looked at is told by whoever goes there.
                Ok(Found::Missing | Found::Broken(..)) | Err(_) => false,
            },
        };
        if gone && !canary!("death-not-told") {
            self.told_gone = true;
            self.queue.push_back(Event::WriterGone { generation });
        }
        Ok(())
    }

    /// The directory was removed from outside: perhaps its writer made a new one with the same channel in it. Or another namespace has the
    /// name of this one, and whoever writes from now on does so there.
    fn check_removed(&mut self) -> Result<(), ReceiveError> {
        let Some(ring) = &self.ring else { return Ok(()) };
        let channel_id = ring.memory().identity().channel;
        let held = ring.memory().writer_held().map_or(true, |held| held == Held::Exclusive);
        let named = self.dir.named().unwrap_or(true);
        if named && (held || !self.left_behind(ring.memory())) {
            return Ok(());
        }
        let again = match self.channel.open_dir() {
            _ if named => None,
            Ok(dir) => Some(dir),
            Err(OpenError::Missing { .. } | OpenError::Squatted { .. }) => None,
            Err(error) => return Err(Box::new(error).into()),
        };
        if let Some(dir) = again {
            let trust = *self.channel.namespace().trust();
            let mut same = false;
            for number in
                dir.generations().map_err(|source| Box::new(OpenError::System { doing: "list the channel", source }))?
            {
                let found = chain::find(&dir, number, Access::Inspect, &trust).map_err(Box::new)?;
                same |= matches!(found, Found::Segment(segment) if segment.identity().channel == channel_id);
            }
            if same {
                info!("the channel's directory was removed and made anew: following");
                self.dir = dir;
                self.advance_past_living()?;
                return Ok(());
            }
        }
        // In a namespace that was removed nobody can.
        if held && !self.channel.namespace().unlinked() {
            return Ok(()); // its writer lives and may heal
        }
        let next = self.next_sequence();
        let published = self.ring.as_ref().and_then(|ring| succession::published_end(ring.memory()));
        // What a next generation held is gone with its name.
        let followed = self.ring.as_ref().is_none_or(|ring| {
            !matches!(succession::successor(ring.memory()), Ok(Successor::Undecided | Successor::Nobody))
        });
        let lost = match published {
            Some(mark) if mark.sequence == next && !followed && !held => Lost::Nothing,
            _ => Lost::Unknown { from: next },
        };
        Err(ReceiveError::Gone { lost })
    }

    /// Whether our generation, whose writer is gone, lies in a namespace that was moved away and made again, with nobody in it to follow.
    fn left_behind(&self, ours: &Arc<Segment>) -> bool {
        let newest = || self.dir.generations().is_ok_and(|n| n.last() == Some(&ours.identity().generation));
        let nobody = || lock::probe(ours.file().as_fd(), PRESENCE_BYTE).is_ok_and(|held| held == Held::Nobody);
        self.channel.namespace().removed() && newest() && nobody()
    }

    /// The next generation exists though ours looks open: only right if its writer healed itself away from it.
    fn advance_past_living(&mut self) -> Result<(), ReceiveError> {
        let Some(ring) = &self.ring else { return Ok(()) };
        let segment = Arc::clone(ring.memory());
        // A state that nobody can read is no reason to wait: whoever could attach would have set it right.
        let state = succession::state(&segment);
        let undrained = state.known().is_some() && state != State::OPEN && !segment.poisoned();
        if undrained {
            // Fenced the usual way: drain it first, up to an end that has to be there.
            if matches!(succession::end(&segment), Ok(End::Undecided) | Err(_)) {
                let (number, trust) = (segment.identity().generation, self.channel.namespace().trust());
                chain::mend_end(&self.dir, number, segment.key(), trust).map_err(Box::new)?;
            }
            return Ok(());
        }
        self.advance()?;
        Ok(())
    }

    /// Takes the place in the next generation, if there is one that follows ours, and leaves ours.
    fn advance(&mut self) -> Result<Step, ReceiveError> {
        let trust = *self.channel.namespace().trust();
        let Some(ring) = self.ring.as_ref() else { return Ok(Step::NotYet) };
        let old = Arc::clone(ring.memory());
        let from = old.identity().generation;
        let (slot, next) = (ring.slot(), ring.next().sequence);
        let system = |doing| move |source| Box::new(OpenError::System { doing, source });
        for number in self.dir.generations().map_err(system("list the channel"))?.into_iter().filter(|n| *n > from) {
            let segment = match chain::find(&self.dir, number, Access::Reader, &trust).map_err(Box::new)? {
                Found::Segment(segment) => segment,
                Found::Missing => return Ok(Step::NotYet),
                // Cut as well: what it held is lost too, and whatever follows it tells how much that was.
                Found::Broken(..) => continue,
            };
            let identity = *segment.identity();
            if identity.channel != old.identity().channel && identity.predecessor.is_some() {
                continue;
            }
            if succession::state(&segment) == State::CANDIDATE && !canary!("candidate-joined") {
                self.help(number, &trust)?;
                return Ok(Step::NotYet);
            }
            if number == from + 1 && !self.follows(&old, &segment) {
                return Ok(Step::NotYet);
            }
            if canary!("done-before-move") {
                let state = &old.slots()[slot].state;
                state.store(SlotState::DONE.0, std::sync::atomic::Ordering::Release);
            }
            let Some(mut entered) = self.enter(&segment, slot, number)? else { continue };
            if let Some(turns) = self.spin {
                entered.set_spin(turns);
            }
            let begins = entered.next().sequence;
            let next = next.max(self.accounted);
            // Whoever takes this place over before the loss was told tells it.
            entered.account(next.min(begins));
            if begins > next && !canary!("loss-on-the-way-swallowed") {
                let known = number == from + 1 && identity.predecessor.is_some_and(|p| p.end.is_some());
                let count = if known { Some(begins - next) } else { known_loss(next, begins) };
                let reason = if number > from + 1 { GapReason::Dropped } else { GapReason::Truncated };
                self.queue.push_back(Event::Gap { from: next, count, reason });
            }
            if !canary!("move-not-told") {
                self.queue.push_back(Event::Restarted { old: from, new: number });
            }
            debug!(from, to = number, slot = entered.slot(), "moved");
            let left = self.ring.replace(entered);
            self.observer = Observer::new(&segment);
            self.told_gone = false;
            self.told_closed = false;
            // Only now that the place in the next generation is taken: done with this one. The first record of the next one
            // does not wait for the last one's memory.
            match left {
                // What is in hand there comes again, should this process die.
                Some(ring)
                    if !self.auto_release
                        && !canary!("hand-emptied-unasked")
                        && (ring.has_in_hand() || !self.behind.is_empty()) =>
                {
                    self.behind.push(ring);
                }
                Some(ring) => self.leave(ring),
                None => {}
            }
            return Ok(Step::Moved);
        }
        Ok(Step::NotYet)
    }

    /// Whether `next` is the one that follows `old`.
    fn follows(&self, old: &Arc<Segment>, next: &Arc<Segment>) -> bool {
        let id = next.identity().segment;
        if canary!("followed-by-name-alone") {
            return true;
        }
        if !old.poisoned() {
            match succession::successor(old) {
                // One that nobody could build on a generation that nobody could read names no predecessor: then the one that was
                // named had lost its name, or the number would have been taken.
                Ok(Successor::Segment(named)) => return named == id || next.identity().predecessor.is_none(),
                Ok(Successor::Nobody) => return false,
                Ok(Successor::Undecided) | Err(_) => {}
            }
        }
        // Our memory of the old one can't tell: it was cut, or nobody could decide in it. The new one's word must do.
        next.identity().predecessor.is_none_or(|p| p.segment == old.identity().segment)
    }

    /// A candidate whose linker may have died.
    fn help(&self, number: u64, trust: &ringward_ring::sys::file::Trust) -> Result<(), ReceiveError> {
        if let Found::Segment(candidate) = chain::find(&self.dir, number, Access::Successor, trust).map_err(Box::new)? {
            match chain::settle(&self.dir, number, &candidate, trust) {
                Ok(standing) => debug!(number, ?standing, "helped a candidate"),
                // Ours can't be read any more, and its writer is about to follow itself.
                Err(OpenError::Damaged { .. }) => {}
                Err(error) => return Err(Box::new(error).into()),
            }
        }
        Ok(())
    }

    /// Takes the place that was kept in `segment`, or a new one. `None`: it is over already, and nothing was kept.
    fn enter(
        &self,
        segment: &Arc<Segment>,
        slot: usize,
        number: u64,
    ) -> Result<Option<RingReader<Arc<Segment>>>, ReceiveError> {
        let kept = find_slot(segment, &self.card, Some(slot));
        let joined = match kept {
            Some(slot) => claim_kept(segment, slot, &self.card, TRIES).map(Joining::Reader),
            None => join_beside(&self.dir, number, segment, &self.card, From::Oldest, self.channel.namespace().trust()),
        };
        match joined {
            Ok(Joining::Reader(reader)) => Ok(Some(reader)),
            Ok(Joining::NotOpen(state)) => {
                debug!(number, %state, "no place was kept and it is not open");
                Ok(None)
            }
            Err(error) => Err(Box::new(OpenError::Join(error)).into()),
        }
    }
}

/// Lets go of generations that were left, and unlinks what is drained.
fn give_back(left: Vec<Arc<Segment>>, dir: &ChannelDir, channel: &Channel) {
    drop(left);
    if let Err(error) = chain::tidy(dir, channel.namespace().trust(), channel.config().wipe) {
        debug!(%error, "tidying after a move");
    }
}

/// Takes the place that is kept for us in a generation while we hold our byte in an older one. Whoever has its byte now is
/// only looking whether we live (the writer, a newcomer), and gives it back.
fn claim_kept(
    segment: &Arc<Segment>,
    slot: usize,
    card: &ReaderCard,
    tries: usize,
) -> Result<RingReader<Arc<Segment>>, JoinError> {
    for _ in 0..tries {
        match segment.claim(slot, card) {
            Err(JoinError::Held { .. }) => std::thread::sleep(Duration::from_micros(200)),
            done => return done,
        }
    }
    segment.claim(slot, card)
}

/// Tries for a lock that others hold in passing (who looks whether we live, a watchdog), for as long as that can take.
fn passing(mut attempt: impl FnMut() -> std::io::Result<bool>) -> std::io::Result<bool> {
    for _ in 0..PASSING {
        if attempt()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    attempt()
}

/// Joins generation `number` as a newcomer. A reader that was carried over into it and still drains an older generation holds no
/// byte here yet: its slot is not free, and only the older generations' locks say so.
fn join_beside(
    dir: &ChannelDir,
    number: u64,
    segment: &Arc<Segment>,
    card: &ReaderCard,
    from: From,
    trust: &ringward_ring::sys::file::Trust,
) -> Result<Joining, JoinError> {
    segment.set_elders(chain::elders(dir, number, trust)?);
    let joined = segment.join(card, from);
    // A reader does not keep older generations' memory alive.
    segment.set_elders(Vec::new());
    joined
}

/// The slot in `segment` that is kept for `card`: `hint` if it is, else any of that durable name.
fn find_slot(segment: &Arc<Segment>, card: &ReaderCard, hint: Option<usize>) -> Option<usize> {
    let fits = |slot: &ringward_ring::layout::Slot| {
        let reading = table::read_slot(slot, segment.identity().segment);
        let kept = matches!(reading.state, SlotState::CARRIED | SlotState::ACTIVE | SlotState::DONE)
            || reading.state.known().is_none();
        kept && reading.card.is_some_and(|found| found.name == card.name && found.kind == card.kind)
    };
    let slots = segment.slots();
    // An expelled one's place is nobody's.
    let expelled = segment.page().succession.expelled.load(std::sync::atomic::Ordering::Acquire);
    let kept = |slot: usize| expelled >> (slot & 63) & 1 == 0 && slots.get(slot).is_some_and(fits);
    // An ephemeral place is known by its number and holder; another reader may have the same name.
    if let Some(at) = hint.filter(|at| kept(*at)) {
        let mine = |slot: usize| {
            let reading = table::read_slot(&slots[slot], segment.identity().segment);
            card.kind == Kind::DURABLE
                || (reading.state == SlotState::CARRIED && reading.card.is_some_and(|c| c.pid == card.pid))
        };
        if mine(at) {
            return Some(at);
        }
    }
    if card.kind != Kind::DURABLE {
        return None;
    }
    (0..slots.len()).find(|slot| kept(*slot))
}

/// A durable name that nobody knows, where places were lost: its holder may have been registered, and is told so. (A newcomer is told
/// the same, and knows better.)
fn may_have_lost(ring: &RingReader<Arc<Segment>>) -> Option<Event> {
    // Or its registration had not reached the disk when the machine went down.
    let segment = ring.memory();
    let lost = segment.identity().features.has(Features::LOST_PLACES) || before_reboot(segment);
    lost.then_some(Event::Gap { from: 0, count: None, reason: GapReason::Dropped })
}

enum Below {
    Claimed {
        ring: RingReader<Arc<Segment>>,
        lost: Option<Event>,
        /// It was this process that wrote itself down there.
        ours: bool,
    },
    NotThere,
    LookAgain,
}

/// Claims a durable name from below: in the oldest named generation whose table has it, then hand over hand upwards, the
/// next byte before the last is dropped.
fn claim_from_below(channel: &Channel, dir: &ChannelDir, card: &ReaderCard) -> Result<Below, OpenError> {
    let trust = *channel.namespace().trust();
    let held = || OpenError::NameHeld { name: card.name.to_string() };
    let mut below: Option<Arc<Segment>> = None;
    let list = || dir.generations().map_err(OpenError::system("list the channel"));
    let listed = list()?;
    let mut numbers = listed.clone();
    if canary!("claimed-from-above") {
        numbers.reverse();
    }
    for number in numbers {
        let segment = match chain::find(dir, number, Access::Reader, &trust)? {
            Found::Segment(segment) => segment,
            Found::Missing if below.is_none() => return Ok(Below::LookAgain),
            Found::Missing | Found::Broken(..) => continue,
        };
        if matches!(succession::state(&segment), State::CANDIDATE | State::RETIRED) {
            // A rival's that was not confirmed, or has withdrawn: nobody reads there.
            if let Found::Segment(candidate) = chain::find(dir, number, Access::Successor, &trust)?
                && chain::settle(dir, number, &candidate, &trust)? == Standing::LookAgain
            {
                return Ok(Below::LookAgain);
            }
        }
        let Some(slot) = find_slot(&segment, card, None) else { continue };
        let state = SlotState(segment.slots()[slot].state.load(std::sync::atomic::Ordering::Acquire));
        if state == SlotState::DONE {
            // It has left this one: hold its byte while going up, so that nobody gets ahead.
            if !passing(|| segment.hold_reader(slot)).map_err(OpenError::system("lock a reader's byte"))? {
                return Err(held());
            }
            below = Some(segment);
            continue;
        }
        let before = table::read_slot(&segment.slots()[slot], segment.identity().segment);
        let reader = match claim_kept(&segment, slot, card, PASSING) {
            Ok(reader) => reader,
            Err(JoinError::Held { .. }) => return Err(held()),
            Err(other) => return Err(other.into()),
        };
        if segment.links().map_err(OpenError::system("fstat"))? == 0 {
            return Ok(Below::LookAgain); // drained and unlinked just before we had its byte
        }
        drop(below);
        let first = segment.identity().first_sequence;
        // Nothing taken here yet, and the user told of less than what came before: the loss is still to be told.
        let begins = reader.next() == Mark { position: 0, sequence: first };
        let lost = (begins && before.taken < first).then(|| Event::Gap {
            from: before.taken,
            count: known_loss(before.taken, first),
            reason: GapReason::Dropped,
        });
        let ours = before.card.is_some_and(|found| (found.pid, found.start) == (card.pid, card.start));
        return Ok(Below::Claimed { ring: reader, lost, ours });
    }
    // It has left the last one that has it, for one that came after our list; or it was forgotten there.
    Ok(if below.is_some() && list()? != listed { Below::LookAgain } else { Below::NotThere })
}

/// Joins the newest generation as a newcomer. `None`: look again.
fn join_newest(
    channel: &Channel,
    dir: &ChannelDir,
    card: &ReaderCard,
    from: From,
) -> Result<Option<RingReader<Arc<Segment>>>, OpenError> {
    let trust = *channel.namespace().trust();
    let numbers = dir.generations().map_err(OpenError::system("list the channel"))?;
    let Some(&number) = numbers.last() else {
        crate::succession::remove_empty(channel, dir)?;
        return Ok(None);
    };
    let segment = match chain::find(dir, number, Access::Reader, &trust)? {
        Found::Segment(segment) => segment,
        Found::Missing => return Ok(None),
        Found::Broken(source, _) if Verdict::of_error(&source) == Verdict::Incompatible => {
            return Err(OpenError::Attach(source));
        }
        Found::Broken(source, _) => return Err(OpenError::Damaged { generation: number, source }),
    };
    let state = succession::state(&segment);
    if (state == State::CANDIDATE && !canary!("candidate-joined")) || state == State::RETIRED {
        if let Found::Segment(candidate) = chain::find(dir, number, Access::Successor, &trust)? {
            chain::settle(dir, number, &candidate, &trust)?;
        }
        std::thread::yield_now();
        return Ok(None);
    }
    // A watchdog that looks whether the channel is nobody's holds every byte for an instant.
    let mut joined = join_beside(dir, number, &segment, card, from, &trust);
    for _ in 0..PASSING {
        if !matches!(joined, Err(JoinError::NoSlot { .. })) || slot_taken_by_all(&segment) {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
        joined = join_beside(dir, number, &segment, card, from, &trust);
    }
    match joined? {
        Joining::Reader(reader) => {
            match Some(card)
                .filter(|card| card.kind == Kind::DURABLE)
                .and_then(|card| twin(&segment, card, reader.slot()))
            {
                None => Ok(Some(reader)),
                Some(Twin::GoesFirst) => {
                    drop(reader.forget());
                    Err(OpenError::NameHeld { name: card.name.to_string() })
                }
                Some(Twin::LookAgain) => {
                    drop(reader.forget());
                    std::thread::yield_now();
                    Ok(None)
                }
            }
        }
        Joining::NotOpen(state) => {
            if matches!(succession::successor(&segment), Ok(Successor::Nobody)) {
                return Err(OpenError::Missing {
                    channel: channel.name().to_owned(),
                    namespace: channel.namespace().path().display().to_string(),
                });
            }
            match state {
                State::CLOSED => Err(OpenError::Closed { generation: number }),
                // Its successor is on the way, or its writer is dead and nobody comes.
                _ if dir.generations().map_err(OpenError::system("list the channel"))?.last() == Some(&number) => {
                    Err(OpenError::NoWriter { generation: number })
                }
                _ => Ok(None),
            }
        }
    }
}

/// Whether every slot says that a reader has it.
fn slot_taken_by_all(segment: &Arc<Segment>) -> bool {
    segment.slots().iter().all(|slot| {
        let state = SlotState(slot.state.load(std::sync::atomic::Ordering::Acquire));
        matches!(state, SlotState::ACTIVE | SlotState::CARRIED)
    })
}

/// Another slot with the same durable name.
enum Twin {
    /// It lives, in a lower slot: that one wins.
    GoesFirst,
    /// It lives in a higher slot: it gives up if it has seen us, and has the name if not. Or it is the place of one who is away.
    LookAgain,
}

/// Two newcomers with one durable name: both look after both can be seen, so at least one of them sees the other.
fn twin(segment: &Arc<Segment>, card: &ReaderCard, mine: usize) -> Option<Twin> {
    if canary!("twin-not-looked-for") {
        return None;
    }
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let expelled = segment.page().succession.expelled.load(std::sync::atomic::Ordering::Acquire);
    let counts = |slot: &usize| *slot != mine && expelled >> (slot & 63) & 1 == 0;
    (0..segment.slots().len()).filter(counts).find_map(|slot| {
        let reading = table::read_slot(&segment.slots()[slot], segment.identity().segment);
        let named = reading.card.is_some_and(|c| c.kind == Kind::DURABLE && c.name == card.name);
        let lives = || segment.reader_held(slot).map_or(true, |held| held != Held::Nobody);
        match reading.state {
            SlotState::ACTIVE | SlotState::CARRIED | SlotState::PROVISIONAL if !named => None,
            SlotState::PROVISIONAL if !lives() => None, // died on the way in
            SlotState::ACTIVE | SlotState::CARRIED | SlotState::PROVISIONAL if slot < mine && lives() => {
                Some(Twin::GoesFirst)
            }
            SlotState::ACTIVE | SlotState::CARRIED | SlotState::PROVISIONAL => Some(Twin::LookAgain),
            _ => None,
        }
    })
}

/// Forgets a durable reader that nobody holds, in every generation that has it.
pub(crate) fn forget(channel: &Channel, name: ReaderName) -> Result<bool, OpenError> {
    let dir = channel.open_dir()?;
    let trust = *channel.namespace().trust();
    let mut found = false;
    // Until a look finds it nowhere: a successor may have copied it meanwhile. One that had copied it, and whose generation has
    // no name yet at the last look, finds the place free when it is confirmed.
    for _ in 0..TRIES {
        match forget_once(&dir, name, &trust) {
            Ok(true) => found = true,
            // Free for a moment, and somebody took it: that is another reader.
            Err(OpenError::NameHeld { .. }) if found => return Ok(true),
            Ok(false) => {
                if let Err(error) = chain::tidy(&dir, &trust, channel.config().wipe) {
                    debug!(%error, "tidying after a reader was forgotten");
                }
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
    }
    Err(OpenError::Busy { tries: TRIES })
}

/// Frees the places of `name` in the generations that bear a name now, newest first. Says whether there was one.
fn forget_once(dir: &ChannelDir, name: ReaderName, trust: &file::Trust) -> Result<bool, OpenError> {
    let me = owner::this_process();
    let card = ReaderCard { kind: Kind::DURABLE, name, pid: me.pid, pid_namespace: me.pid_namespace, start: me.start };
    // Hold its byte everywhere first: from below, as its holder would.
    let mut holding = Vec::new();
    for number in dir.generations().map_err(OpenError::system("list the channel"))? {
        if let Found::Segment(segment) = chain::find(dir, number, Access::Reader, trust)?
            && let Some(slot) = find_slot(&segment, &card, None)
        {
            if !segment.hold_reader(slot).map_err(OpenError::system("lock a reader's byte"))? {
                return Err(OpenError::NameHeld { name: name.to_string() });
            }
            holding.push((segment, slot));
        }
    }
    // A place that it has left is none.
    let left = |segment: &Segment, slot: usize| {
        SlotState(segment.slots()[slot].state.load(std::sync::atomic::Ordering::Acquire)) == SlotState::DONE
    };
    let found = holding.iter().any(|(segment, slot)| !left(segment, *slot));
    for (segment, slot) in holding.into_iter().rev() {
        let shared = &segment.slots()[slot];
        shared.state.store(SlotState::FREE.0, std::sync::atomic::Ordering::SeqCst);
        succession::ring_space(&segment);
    }
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst); // free here before the next look for younger ones
    Ok(found)
}
