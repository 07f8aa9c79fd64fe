//! A channel: the chain of generations under one name, and the roles that one can take in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringward_ring::build::Prepared;
use ringward_ring::canary;
use ringward_ring::identity::Identity;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession as words;
use ringward_ring::sys::file::FileKey;
use ringward_ring::sys::lock::Held;
use ringward_ring::table::{self, From, ReaderName, SlotReading};
use ringward_ring::word::{End, Kind, State};
use rustix::io::Errno;
use tracing::debug;

use crate::beat::Leftover;
use crate::chain::{self, Found, Standing, Tidied};
use crate::config::Config;
use crate::error::OpenError;
use crate::namespace::{ChannelDir, Namespace};
use crate::owner::{self, Whereabouts};
use crate::reader::Reader;
use crate::standby::{Standby, Warmth};
use crate::succession::{self, Followed, Knowledge};
use crate::verdict::Verdict;
use crate::writer::Writer;

/// Tries before an operation gives up because others keep getting ahead.
pub(crate) const TRIES: usize = 1000;
/// Tries, a fifth of a millisecond apart, for a lock that others hold only in passing: to look whether its owner lives.
pub(crate) const PASSING: usize = 60;

/// Whether a reader keeps its place when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Keeps its place, and holds the writer back, until it comes back or is forgotten.
    Durable,
    /// Gives its place up at death.
    Ephemeral,
}

impl Durability {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Durability::Durable => Kind::DURABLE,
            Durability::Ephemeral => Kind::EPHEMERAL,
        }
    }
}

/// A channel of a namespace, with the configuration that this process has for it. Cheap to clone; nothing is opened until a
/// role is taken.
#[derive(Debug, Clone)]
pub struct Channel {
    namespace: Namespace,
    name: Arc<str>,
    config: Arc<Config>,
}

/// What an attempt to become the writer found.
pub(crate) enum Claim {
    /// We are it; last, the generation that we followed.
    Ours(ChannelDir, Arc<Segment>, Option<Arc<Segment>>),
    /// A living process is.
    Theirs(ChannelDir, u64, Arc<Segment>),
    /// Orderly closed, and we were not to open it again.
    Closed(u64),
}

/// How an attempt to become the writer treats what it finds.
#[derive(Debug, Clone)]
pub(crate) struct Ambition {
    /// Make the channel if it is not there.
    pub(crate) birth: bool,
    /// Go on after an orderly close.
    pub(crate) reopen: bool,
    /// End this generation though its writer holds its lock.
    pub(crate) supersede: Option<u64>,
    /// The writer of this segment is dead: its lock was granted to us once. One writer, one segment: that stays true.
    pub(crate) dead: Option<FileKey>,
    /// What was the newest generation a moment ago, attached: saves attaching it again.
    pub(crate) hint: Option<(ChannelDir, u64, Arc<Segment>)>,
}

impl Channel {
    /// The channel `name` of a namespace, with `config`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Config`] for a name that can't be or settings that contradict each other.
    pub fn new(namespace: &Namespace, name: &str, config: Config) -> Result<Channel, OpenError> {
        config.check(name)?;
        Ok(Channel { namespace: namespace.clone(), name: name.into(), config: Arc::new(config) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Becomes the channel's writer now: gives birth to the channel, or follows a writer that is dead or has closed.
    ///
    /// # Errors
    ///
    /// [`OpenError::Owned`] says which living process owns it; others as named.
    pub fn writer(&self) -> Result<Writer, OpenError> {
        self.clear_births();
        let mut tries = 0;
        loop {
            let ambition = Ambition { birth: true, reopen: true, supersede: None, dead: None, hint: None };
            match self.claim(ambition, &mut None)? {
                Claim::Ours(dir, segment, left) => {
                    let left = left.into_iter().map(|left| Box::new(left) as Box<dyn Leftover>).collect();
                    return Ok(Writer::new(self.clone(), dir, segment, left, None));
                }
                Claim::Theirs(_, number, segment) => match owned(number, &segment) {
                    // Held, though its owner is gone: in passing, by a watchdog or another starter that looks; or a leak.
                    OpenError::Owned { leaked: true, .. } if tries < PASSING => {
                        tries += 1;
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    error => return Err(error),
                },
                Claim::Closed(generation) => return Err(OpenError::Closed { generation }),
            }
        }
    }

    /// Parks as a standby: becomes the writer when the present one dies (or, by policy, is stuck).
    ///
    /// # Errors
    ///
    /// [`OpenError`]; a hot standby without room for its segment is a cold one, not an error.
    pub fn standby(&self, warmth: Warmth) -> Result<Standby, OpenError> {
        self.clear_births();
        Standby::new(self.clone(), warmth)
    }

    /// Becomes a reader. A durable one takes up where the one of that name left off; a new one begins at `from`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Missing`] if there is no such channel, [`OpenError::NameHeld`] if the durable name is in use.
    pub fn reader(&self, name: &str, durability: Durability, from: From) -> Result<Reader, OpenError> {
        let name = ReaderName::new(name)
            .map_err(|bad| OpenError::ReaderName { found: bad.found.clone(), why: bad.to_string() })?;
        Reader::open(self.clone(), name, durability, from)
    }

    /// Waits until the channel exists, at most `timeout`; says whether it does.
    ///
    /// # Errors
    ///
    /// [`OpenError::Missing`] if the namespace was removed, or was made again by others: no channel comes into this one any more, see
    /// [`Namespace::removed`]. Else what the system said.
    pub fn wait_for(&self, timeout: Duration) -> Result<bool, OpenError> {
        // A time-out beyond what the clock can say is none.
        let deadline = Instant::now().checked_add(timeout);
        let watch = crate::watch::Watch::new(self.namespace.dir()).map_err(OpenError::system("watch the namespace"))?;
        loop {
            match self.open_dir() {
                Ok(_) => return Ok(true),
                Err(missing @ OpenError::Missing { .. }) if self.namespace.removed() => return Err(missing),
                Err(OpenError::Missing { .. }) => {}
                Err(other) => return Err(other),
            }
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            watch
                .wait(None, left.min(Duration::from_millis(500)))
                .map_err(OpenError::system("wait for the channel"))?;
        }
    }

    /// Ends the generation of a writer that is stuck, and becomes the writer. The stuck one learns of it at its next push.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; `Fence` if this process may not issue the barrier that it takes.
    pub fn supersede(&self) -> Result<Writer, OpenError> {
        let dir = self.open_dir()?;
        let newest = dir.generations().map_err(OpenError::system("list the channel"))?.last().copied();
        let ambition = Ambition { birth: true, reopen: true, supersede: newest, dead: None, hint: None };
        match self.claim(ambition, &mut None)? {
            Claim::Ours(dir, segment, left) => {
                let left = left.into_iter().map(|left| Box::new(left) as Box<dyn Leftover>).collect();
                Ok(Writer::new(self.clone(), dir, segment, left, None))
            }
            Claim::Theirs(_, number, segment) => Err(owned(number, &segment)),
            Claim::Closed(generation) => Err(OpenError::Closed { generation }),
        }
    }

    /// Unlinks generations that nobody needs any more.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn tidy(&self) -> Result<Tidied, OpenError> {
        chain::tidy(&self.open_dir()?, self.namespace.trust(), self.config.wipe)
    }

    /// Forgets a durable reader whose process is gone: it holds nobody back any more. Says whether there was one.
    ///
    /// # Errors
    ///
    /// [`OpenError::NameHeld`] if it lives.
    pub fn forget_reader(&self, name: &str) -> Result<bool, OpenError> {
        let name = ReaderName::new(name)
            .map_err(|bad| OpenError::ReaderName { found: bad.found.clone(), why: bad.to_string() })?;
        crate::reader::forget(self, name)
    }

    /// Looks at the channel without touching anything.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn inspect(&self) -> Result<Vec<Generation>, OpenError> {
        let dir = self.open_dir()?;
        let numbers = dir.generations().map_err(OpenError::system("list the channel"))?;
        Ok(numbers.into_iter().map(|number| Generation::look(&dir, number, self.namespace.trust())).collect())
    }

    pub(crate) fn open_dir(&self) -> Result<ChannelDir, OpenError> {
        let dir = self.namespace.channel_dir(&self.name).map_err(|source| match Errno::from_io_error(&source) {
            // That says nothing about what has the name.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::INTR) => {
                OpenError::System { doing: "open the channel's directory", source }
            }
            _ => OpenError::Squatted { channel: self.name.to_string(), source },
        })?;
        dir.ok_or_else(|| OpenError::Missing {
            channel: self.name.to_string(),
            namespace: self.namespace.path().display().to_string(),
        })
    }

    fn clear_births(&self) {
        if let Err(error) = succession::tidy_births(&self.namespace) {
            debug!(%error, "looking for births that died");
        }
    }

    /// Tries to become the writer: births, follows, or says who is in the way. `prepared` is used if it is there.
    pub(crate) fn claim(
        &self,
        mut ambition: Ambition,
        prepared: &mut Option<(Prepared, FileKey)>,
    ) -> Result<Claim, OpenError> {
        let trust = *self.namespace.trust();
        for _ in 0..self.config.tries {
            let hint = ambition.hint.take().filter(|(dir, ..)| dir.named().unwrap_or(false));
            let (dir, at_hand) = match hint {
                Some((dir, number, segment)) => (dir, Some((number, segment))),
                None => match self.open_dir() {
                    Ok(dir) => (dir, None),
                    Err(OpenError::Missing { .. }) if ambition.birth => match succession::birth(self, None)? {
                        Some((dir, segment)) => return Ok(Claim::Ours(dir, segment, None)),
                        None => continue,
                    },
                    Err(error) => return Err(error),
                },
            };
            let numbers = dir.generations().map_err(OpenError::system("list the channel"))?;
            let Some(&number) = numbers.last() else {
                succession::remove_empty(self, &dir)?;
                continue;
            };
            let found = match at_hand {
                Some((at_hand, segment)) if at_hand == number && segment.recheck().is_ok() => Found::Segment(segment),
                _ => chain::find(&dir, number, Access::Successor, &trust)?,
            };
            let segment = match found {
                Found::Missing => continue,
                Found::Segment(segment) => segment,
                // A newer build's, dead or alive: not ours to follow, for its readers can read what we can't.
                Found::Broken(error, _)
                    if Verdict::of_error(&error) == Verdict::Incompatible && !canary!("newer-major-followed") =>
                {
                    return Err(OpenError::Attach(error));
                }
                Found::Broken(error, file) => {
                    let owned = match &file {
                        Some(file) => chain::file_owned(file).map_err(OpenError::system("look at the writer byte"))?,
                        None => true,
                    };
                    if owned {
                        return Err(OpenError::Damaged { generation: number, source: error });
                    }
                    match succession::follow_broken(self, &dir, number)? {
                        Followed::ByUs(segment) => return Ok(Claim::Ours(dir, segment, None)),
                        Followed::LookAgain(_) => continue,
                    }
                }
            };
            // Evidence for the watchdog that somebody is about to live here; not a gate.
            let _ = segment.lock_presence();
            let state = match chain::settle(&dir, number, &segment, &trust)? {
                Standing::LookAgain => continue,
                Standing::Retired => {
                    succession::finish_retirement(self, &dir, number, &segment)?;
                    continue;
                }
                Standing::Current(state) => state,
            };
            let held = segment.writer_held().map_err(OpenError::system("look at the writer byte"))?;
            // A read lock is not a writer.
            let dead = (held != Held::Exclusive && !(held == Held::Shared && canary!("read-lock-is-a-writer")))
                || ambition.dead == Some(segment.key());
            if state == State::CLOSED && !ambition.reopen && !canary!("closed-is-followed") {
                chain::finish_close(&segment, number)?;
                return Ok(Claim::Closed(number));
            }
            let unasked = canary!("superseded-unasked");
            if state == State::OPEN && !dead && ambition.supersede != Some(number) && !unasked {
                return Ok(Claim::Theirs(dir, number, segment));
            }
            debug!(generation = number, %state, dead, "about to follow");
            let lost =
                chain::lost_successor(&dir, number, &segment).map_err(OpenError::system("look for its successor"))?;
            if let Some(lost) = lost {
                match succession::follow_lost(self, &dir, number, &segment, lost, dead)? {
                    Followed::ByUs(next) => return Ok(Claim::Ours(dir, next, Some(segment))),
                    Followed::LookAgain(_) => continue,
                }
            }
            let ready = prepared.take().filter(|(_, key)| *key == dir.key()).map(|(prepared, _)| prepared);
            let knowledge = Knowledge { proved_dead: dead, ..Knowledge::default() };
            match succession::follow(self, &dir, number, &segment, &knowledge, ready)? {
                Followed::ByUs(next) => return Ok(Claim::Ours(dir, next, Some(segment))),
                Followed::LookAgain(back) => {
                    *prepared = back.map(|back| (back, dir.key()));
                    continue;
                }
            }
        }
        Err(OpenError::Busy { tries: self.config.tries })
    }
}

pub(crate) fn owned(generation: u64, segment: &Segment) -> OpenError {
    let owner = segment.identity().owner;
    OpenError::Owned { owner, generation, leaked: owner::whereabouts(&owner) == Whereabouts::Gone }
}

/// A generation as an onlooker sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// What it is, or why it can't be read.
    pub seen: Result<Seen, String>,
}

/// What an onlooker sees of a readable generation, at one moment; everything in it may be changing.
#[derive(Debug)]
#[non_exhaustive]
pub struct Seen {
    /// The identity block.
    pub identity: Identity,
    /// State of the generation.
    pub state: State,
    /// Where it ends; an error holds the damaged word.
    pub end: Result<End, u64>,
    /// The successor word, raw.
    pub successor: Result<ringward_ring::word::Successor, u64>,
    /// Whether the writer byte is held.
    pub writer_held: bool,
    /// Whether the recorded owner can be seen.
    pub owner: Whereabouts,
    /// Where the writer stands.
    pub published: ringward_ring::cursor::Reading,
    /// Heartbeats so far.
    pub beat: u64,
    /// Wall clock of the last one, nanoseconds since 1970.
    pub beat_time: u64,
    /// Occupied slots: number, what it says, and whether its byte is held.
    pub readers: Vec<(usize, SlotReading, bool)>,
}

impl Generation {
    fn look(dir: &ChannelDir, number: u64, trust: &ringward_ring::sys::file::Trust) -> Generation {
        use ringward_ring::memory::Memory;
        use std::sync::atomic::Ordering;
        let seen = match chain::find(dir, number, Access::Inspect, trust) {
            Ok(Found::Missing) => Err("it was unlinked just now".to_owned()),
            Ok(Found::Broken(error, _)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
            Ok(Found::Segment(segment)) => {
                let identity = *segment.identity();
                let readers = segment
                    .slots()
                    .iter()
                    .enumerate()
                    .map(|(slot, shared)| (slot, table::read_slot(shared, identity.segment)))
                    .filter(|(_, reading)| reading.state != ringward_ring::word::SlotState::FREE)
                    .map(|(slot, reading)| {
                        let held = segment.reader_held(slot).map_or(true, |held| held != Held::Nobody);
                        (slot, reading, held)
                    })
                    .collect();
                let page = segment.page();
                let seen = Seen {
                    state: words::state(&segment),
                    end: words::end(&segment).map_err(|bad| bad.0),
                    successor: words::successor(&segment).map_err(|bad| bad.0),
                    writer_held: segment.writer_held().map_or(true, |held| held == Held::Exclusive),
                    owner: owner::whereabouts(&identity.owner),
                    published: ringward_ring::cursor::read(&page.cursor.cursor, identity.segment),
                    beat: page.heartbeat.beat.load(Ordering::Relaxed),
                    beat_time: page.heartbeat.time.load(Ordering::Relaxed),
                    readers,
                    identity,
                };
                if segment.poisoned() { Err("it was truncated while it was looked at".to_owned()) } else { Ok(seen) }
            }
        };
        Generation { number, seen }
    }
}
