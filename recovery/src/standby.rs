//! A standby: parked until the channel needs a writer.
//!
//! It waits at once for the writer's lock, for a new generation, and for its own cancellation, always bounded. A lock that is
//! granted is given back at once: it is evidence that the writer is dead, and nobody who is stopped while holding it may be in the
//! others' way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringward_ring::build::{BuildError, Prepared, Spec};
use ringward_ring::canary;
use ringward_ring::identity::Owner;
use ringward_ring::layout::WRITER_BYTE;
use ringward_ring::segment::Segment;
use ringward_ring::succession as words;
use ringward_ring::sys::file::FileKey;
use ringward_ring::sys::lock::Held;
use ringward_ring::sys::park::ParkedLock;
use ringward_ring::sys::robust::Holder;
use ringward_ring::word::State;
use tracing::{debug, info, warn};

use crate::aside::Aside;
use crate::beat::{Leftover, Leftovers, Seat};
use crate::channel::{Ambition, Channel, Claim};
use crate::config::WhenStuck;
use crate::error::OpenError;
use crate::namespace::ChannelDir;
use crate::observer::Observer;
use crate::owner::{self, Pulse, Whereabouts};
use crate::succession;
use crate::watch::{Bell, Watch};
use crate::writer::Writer;

/// Longest time between two looks at a parked standby's evidence.
const TICK: Duration = Duration::from_millis(250);
/// How long one who sees that another is already about to follow lets it pass: two at once only take each other's processor.
/// If that one dies or stops meanwhile, this is what it costs.
const COURTESY: Duration = Duration::from_millis(1);

/// Whether a standby has its segment ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// Builds it when it is elected.
    Cold,
    /// Has it built, locked and touched: costs the memory of one more generation, and saves the time.
    Hot,
}

/// How a standby's wait ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// This process is the channel's writer now.
    Elected(Box<Writer>),
    /// The time is up; wait again.
    TimedOut,
    /// The writer closed the channel orderly.
    Closed {
        /// Number of the generation.
        generation: u64,
    },
    /// [`Canceller::cancel`] was called.
    Cancelled,
    /// The writer promised beats and does not beat (with [`WhenStuck::Report`]); told once for each silence.
    Stuck {
        /// Number of the generation.
        generation: u64,
        /// How long it has been silent.
        silent: Duration,
    },
}

/// Ends a standby's wait from another thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    flag: Arc<AtomicBool>,
    bell: Bell,
}

impl Canceller {
    /// Makes the standby's present or next wait return [`Outcome::Cancelled`].
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// A parked standby. Dropping it unparks and frees its segment.
#[derive(Debug)]
pub struct Standby {
    channel: Channel,
    warmth: Warmth,
    bell: Bell,
    cancelled: Arc<AtomicBool>,
    prepared: Option<(Prepared, FileKey)>,
    post: Option<Post>,
    /// The thread that will beat.
    seat: Option<Seat>,
    /// The watch of the last post: the directory is the same one, and closing it takes the kernel milliseconds.
    spare_watch: Option<(Arc<Watch>, FileKey)>,
    /// The relay of the last post.
    dismissed: Option<Dismissed>,
    /// The same, if whoever was elected sends it home.
    handed: Option<Arc<Mutex<Option<Dismissed>>>>,
    no_room: Option<String>,
}

impl Drop for Standby {
    fn drop(&mut self) {
        let relay = self.post.as_mut().and_then(|post| post.relay.take());
        let dismissed = relay.map(Relay::dismiss).into_iter().chain(self.dismissed.take()).collect();
        let watch = self.post.take().map(|post| post.watch).or(self.spare_watch.take().map(|(watch, _)| watch));
        close_aside(watch, dismissed);
    }
}

/// Closes a watch on a thread of its own: the kernel waits there for a grace period of its own (some milliseconds), and
/// whoever was elected has better things to do.
fn close_aside(watch: Option<Arc<Watch>>, dismissed: Vec<Dismissed>) {
    if watch.is_some() || !dismissed.is_empty() {
        let close = move || drop((dismissed, watch));
        let _ = thread::Builder::new().name("ringward-close".into()).stack_size(64 << 10).spawn(close);
    }
}

/// Tells a standby that sleeps on its writer's robust futex of everything else that it waits for: the writer's lock, a change of
/// the directory, its cancellation.
///
/// The standby itself sleeps on the futex, and not another thread for it: the one whom the dying writer wakes goes on at
/// once, while one more thread would have to be woken at the moment at which processors are hardest to get.
#[derive(Debug)]
struct Relay {
    shared: Arc<Relayed>,
    bell: Bell,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Relayed {
    stop: AtomicBool,
    rang: AtomicBool,
}

impl Relay {
    /// For the calling thread. `None` if the system has no thread to spare: the lock alone decides then.
    fn start(segment: &Arc<Segment>, watch: &Arc<Watch>, bell: &Bell) -> Option<Relay> {
        let shared = Arc::new(Relayed::default());
        let (segment, watch, heard, waiter) = (Arc::clone(segment), Arc::clone(watch), bell.clone(), thread::current());
        let relayed = Arc::clone(&shared);
        let body = move || {
            while !relayed.stop.load(Ordering::Acquire) {
                if watch.wait(Some(&heard), TICK).is_err() {
                    thread::sleep(TICK / 10); // the standby looks by itself at each of its ticks
                }
                if words::state(&segment) != State::OPEN {
                    // Somebody follows already, perhaps this very process: it has the processors first.
                    thread::sleep(COURTESY);
                    if relayed.stop.load(Ordering::Acquire) {
                        return;
                    }
                }
                relayed.rang.store(true, Ordering::SeqCst);
                segment.stir_life();
                waiter.unpark();
            }
        };
        let thread = thread::Builder::new().name("ringward-relay".into()).stack_size(64 << 10).spawn(body);
        let thread = thread.inspect_err(|error| debug!(%error, "no thread to relay: the lock decides")).ok()?;
        Some(Relay { shared, bell: bell.clone(), thread })
    }

    /// Whether it rang, once.
    fn rang(&self) -> bool {
        self.shared.rang.swap(false, Ordering::SeqCst)
    }

    /// Sends it home without waiting for it: it goes at the next thing that it hears.
    fn dismiss(self) -> Dismissed {
        self.shared.stop.store(true, Ordering::Release);
        Dismissed { bell: self.bell, thread: Some(self.thread) }
    }
}

/// A relay on its way home. Dropping it waits for it: two at once would take each other's news.
#[derive(Debug)]
struct Dismissed {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Dismissed {
    fn drop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A relay that is sent home by whoever comes to it first: the writer's chores, or its standby that takes a new post.
#[derive(Debug)]
struct Handed(Arc<Mutex<Option<Dismissed>>>);

impl Drop for Handed {
    fn drop(&mut self) {
        // Under the lock: whoever comes second waits until it has gone.
        let mut relay = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(relay.take());
    }
}

/// What it is parked on.
#[derive(Debug)]
struct Post {
    relay: Option<Relay>,
    /// The thread that beats for the writer, once it was seen.
    pulse: Option<(u32, Option<Pulse>)>,
    number: u64,
    segment: Arc<Segment>,
    dir: ChannelDir,
    parked: ParkedLock,
    watch: Arc<Watch>,
    observer: Observer,
    told_stuck: bool,
    killed: bool,
}

impl Post {
    /// Waits until there is something to look at, at most `limit`; says whether the writer was seen to die.
    fn wait(&mut self, bell: &Bell, limit: Duration) -> Result<bool, OpenError> {
        let holder = self.segment.life_holder();
        if let Some(thread) = holder.filter(|thread| self.pulse.as_ref().is_none_or(|(felt, _)| felt != thread)) {
            let pulse = Pulse::feel(&self.segment.identity().owner, thread);
            if pulse.is_some() && self.relay.is_none() {
                self.relay = Relay::start(&self.segment, &self.watch, bell);
            }
            self.pulse = Some((thread, pulse));
        }
        let Some(relay) = &self.relay else {
            self.watch.wait(Some(bell), limit).map_err(OpenError::system("wait for the writer's lock"))?;
            return Ok(false);
        };
        match self.segment.wait_life(limit, || relay.rang()) {
            Holder::Alive => {}
            Holder::Died => {
                // Only what was seen alive and is gone now is believed: anybody who may write here can store the mark.
                if let Some((_, Some(pulse))) = &self.pulse
                    && has_stopped(pulse)
                {
                    self.pulse = None;
                    return Ok(true);
                }
                thread::park_timeout(limit);
            }
            Holder::Nobody | Holder::Fault => thread::park_timeout(limit),
        }
        relay.rang();
        Ok(false)
    }
}

enum Next {
    Claim { dead: Option<FileKey>, supersede: Option<u64> },
    Return(Outcome),
}

impl Standby {
    pub(crate) fn new(channel: Channel, warmth: Warmth) -> Result<Standby, OpenError> {
        let bell = Bell::new().map_err(OpenError::system("make an eventfd"))?;
        let mut standby = Standby {
            channel,
            warmth,
            bell,
            cancelled: Arc::new(AtomicBool::new(false)),
            prepared: None,
            post: None,
            seat: None,
            spare_watch: None,
            dismissed: None,
            handed: None,
            no_room: None,
        };
        // Have the segment ready; parked it is from the first wait on, which finds whoever died before it.
        if let Ok(dir) = standby.channel.open_dir() {
            standby.warm(&dir);
        }
        Ok(standby)
    }

    /// A handle that ends the wait from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller { flag: Arc::clone(&self.cancelled), bell: self.bell.clone() }
    }

    /// Whether its segment is ready; if it was asked for and is not, [`no_room`](Self::no_room) says why.
    pub fn is_hot(&self) -> bool {
        self.prepared.is_some()
    }

    /// Why a hot standby is a cold one.
    pub fn no_room(&self) -> Option<&str> {
        self.no_room.as_deref()
    }

    /// Waits until this process is to be the writer, at most `timeout`. Gives birth to the channel if there is none.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the standby can go on waiting afterwards.
    pub fn wait(&mut self, timeout: Duration) -> Result<Outcome, OpenError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut next: (Option<FileKey>, Option<u64>) = (None, None);
        let mut hint = None;
        let mut ended: Option<ParkedLock> = None;
        loop {
            if self.cancelled.swap(false, Ordering::AcqRel) {
                return Ok(Outcome::Cancelled);
            }
            if self.post.is_none() {
                let (dead, supersede) = std::mem::take(&mut next);
                let ambition = Ambition { birth: true, reopen: false, supersede, dead, hint: hint.take() };
                let claim = self.channel.claim(ambition, &mut self.prepared)?;
                match claim {
                    Claim::Ours(dir, segment, left) => {
                        self.post = None;
                        self.prepared = None;
                        info!(channel = self.channel.name(), generation = segment.identity().generation, "elected");
                        let mut leftovers: Leftovers = Vec::new();
                        leftovers.extend(left.map(|left| Box::new(left) as Box<dyn Leftover>));
                        leftovers.extend(ended.take().map(|parked| Box::new(parked) as Box<dyn Leftover>));
                        if self.seat.is_some() {
                            // The beat thread can wait for these, or this standby's drop would start a thread to do it: not now.
                            if let Some(relay) = self.dismissed.take() {
                                let handed = Arc::new(Mutex::new(Some(relay)));
                                self.handed = Some(Arc::clone(&handed));
                                leftovers.push(Box::new(Handed(handed)));
                            }
                            leftovers.extend(self.spare_watch.take().map(|watch| Box::new(watch) as Box<dyn Leftover>));
                        }
                        let writer = Writer::new(self.channel.clone(), dir, segment, leftovers, self.seat.take());
                        return Ok(Outcome::Elected(Box::new(writer)));
                    }
                    Claim::Closed(generation) => return Ok(Outcome::Closed { generation }),
                    Claim::Theirs(dir, number, segment) => {
                        drop(ended.take());
                        self.take_post(dir, number, segment)?;
                    }
                }
            }
            match self.stand(deadline)? {
                Next::Return(outcome) => return Ok(outcome),
                Next::Claim { dead: d, supersede: s } => {
                    next = (d, s);
                    if let Some(Post { number, segment, dir, watch, parked, relay, .. }) = self.post.take() {
                        self.dismissed = relay.map(Relay::dismiss);
                        self.spare_watch = Some((watch, dir.key()));
                        hint = Some((dir, number, segment));
                        // Its thread need not be waited for now.
                        ended = Some(parked);
                    }
                }
            }
        }
    }

    fn take_post(&mut self, dir: ChannelDir, number: u64, segment: Arc<Segment>) -> Result<(), OpenError> {
        let spare = self.spare_watch.take().filter(|(_, key)| *key == dir.key());
        let watch = match spare {
            Some((watch, _)) => watch,
            None => Arc::new(Watch::new(dir.fd()).map_err(OpenError::system("watch the channel"))?),
        };
        drop(self.dismissed.take());
        drop(self.handed.take().map(Handed));
        let parked = ParkedLock::learn(Arc::clone(segment.file()), WRITER_BYTE, Arc::clone(self.bell.fd()))
            .map_err(OpenError::system("park on the writer byte"))?;
        if self.seat.is_none() && !self.channel.config().beat_interval.is_zero() {
            self.seat = Seat::take();
        }
        self.warm(&dir);
        let observer = Observer::new(&segment);
        self.post = Some(Post {
            relay: None,
            pulse: None,
            number,
            segment,
            dir,
            parked,
            watch,
            observer,
            told_stuck: false,
            killed: false,
        });
        Ok(())
    }

    /// Has the next segment ready, if there is room.
    fn warm(&mut self, dir: &ChannelDir) {
        if self.warmth == Warmth::Cold || self.prepared.is_some() {
            return;
        }
        let spec = Spec { touch: true, ..succession::spec(&self.channel) };
        match Prepared::build(dir.fd(), &spec, rand::random()) {
            Ok(prepared) => {
                self.no_room = None;
                self.prepared = Some((prepared, dir.key()));
            }
            Err(BuildError::Gone) => {}
            Err(error) => {
                if self.no_room.is_none() {
                    warn!(channel = self.channel.name(), %error, "no segment in reserve: this standby is a cold one [RW-EV-COLD]");
                }
                self.no_room = Some(error.to_string());
            }
        }
    }

    /// Stands at the post until there is something to do.
    fn stand(&mut self, deadline: Option<Instant>) -> Result<Next, OpenError> {
        let config = self.channel.config();
        let Some(post) = self.post.as_mut() else { return Ok(Next::Claim { dead: None, supersede: None }) };
        loop {
            let others = words::state(&post.segment) != State::OPEN;
            if post.parked.granted() {
                if others {
                    thread::sleep(COURTESY);
                }
                debug!(generation = post.number, "the writer's lock was granted: it is dead");
                let dead = Some(post.segment.key());
                return Ok(Next::Claim { dead, supersede: None });
            }
            if self.cancelled.swap(false, Ordering::AcqRel) {
                return Ok(Next::Return(Outcome::Cancelled));
            }
            let newest = post.dir.generations().map_err(OpenError::system("list the channel"))?.last().copied();
            let blind = canary!("standby-waits-for-the-lock-alone");
            if !blind && (newest != Some(post.number) || words::state(&post.segment) != State::OPEN) {
                thread::sleep(COURTESY);
                return Ok(Next::Claim { dead: None, supersede: None });
            }
            if post.segment.writer_held().is_ok_and(|held| held == Held::Shared && !canary!("read-lock-is-a-writer")) {
                // A read lock, which no writer has: it keeps the kernel from granting us ours, but the writer is dead.
                debug!(generation = post.number, "a read lock on the writer's byte: no writer holds it");
                return Ok(Next::Claim { dead: Some(post.segment.key()), supersede: None });
            }
            let owner: Owner = post.segment.identity().owner;
            let silent = post.observer.silent_for(&post.segment);
            let stuck = post.observer.is_silent(&post.segment, config.stall_timeout);
            // Whether or not it has promised beats: it is gone.
            if silent >= config.stall_timeout && owner::whereabouts(&owner) == Whereabouts::Gone {
                // Its lock is held, but not by it: a forked child, or somebody who was stopped while he looked.
                warn!(
                    generation = post.number,
                    pid = owner.pid,
                    "the owner is gone, its lock is still held: a leaked descriptor [RW-EV-LEAK]"
                );
                return Ok(Next::Claim { dead: None, supersede: Some(post.number) });
            }
            match config.when_stuck {
                _ if stuck && canary!("stuck-is-superseded-unasked") => {
                    return Ok(Next::Claim { dead: None, supersede: Some(post.number) });
                }
                _ if !stuck => post.told_stuck = false,
                WhenStuck::Report if post.told_stuck => {}
                WhenStuck::Report => {
                    post.told_stuck = true;
                    return Ok(Next::Return(Outcome::Stuck { generation: post.number, silent }));
                }
                WhenStuck::Supersede => {
                    warn!(generation = post.number, ?silent, "superseding a stuck writer");
                    return Ok(Next::Claim { dead: None, supersede: Some(post.number) });
                }
                WhenStuck::Kill if !post.killed => {
                    post.killed = true;
                    kill_owner(&owner, silent);
                }
                WhenStuck::Kill => {}
            }
            let now = Instant::now();
            let left = deadline.map_or(TICK, |at| at.saturating_duration_since(now));
            if left.is_zero() {
                return Ok(Next::Return(Outcome::TimedOut));
            }
            let tick = if config.beat_ms() == 0 { TICK } else { TICK.min(config.stall_timeout / 4) };
            if post.wait(&self.bell, left.min(tick))? {
                // Its locks fall later. The path is the one for a writer that may still live: right either way.
                debug!(generation = post.number, "the writer is ending");
                return Ok(Next::Claim { dead: None, supersede: Some(post.number) });
            }
        }
    }
}

/// Whether a thread that is said to have died has: a few looks, because it lets go of its memory a moment after it is said.
fn has_stopped(pulse: &Pulse) -> bool {
    let mut aside = None;
    (0..40).any(|look| {
        match look {
            0..3 => {}
            3 => aside = Aside::step(),
            4..20 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(20)),
        }
        pulse.stopped()
    })
}

/// Kills a written-down owner: its pidfd first, then its identity again, then the signal, so that it can't hit another.
fn kill_owner(owner: &Owner, silent: Duration) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        warn!(pid = owner.pid, "a stuck writer can't be killed: no such process here");
        return;
    };
    if owner::whereabouts(owner) != Whereabouts::Here {
        warn!(
            pid = owner.pid,
            "a stuck writer can't be killed: its number is another process's now, or can't be checked"
        );
        return;
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => warn!(pid = owner.pid, ?silent, "killed a stuck writer"),
        Err(error) => warn!(pid = owner.pid, %error, "cannot kill a stuck writer"),
    }
}
