//! The watchdog: classifies each channel of a namespace from evidence, and takes away what is provably nobody's.
//!
//! Embed it as a thread ([`Watchdog::spawn`]) or call [`Watchdog::tick`] yourself. It never panics or exits its host, and touches nothing that is
//! not ringward's. Killed at any point, the next one finishes.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ringward_ring::alone::NotNobody;
use ringward_ring::canary;
use ringward_ring::layout::{MAX_SLOTS, PRESENCE_BYTE, READER_BYTE, WRITER_BYTE};
use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::sys::file::{self, FileKey};
use ringward_ring::sys::lock::{self, Held, Mode};
use ringward_ring::table;
use ringward_ring::word::{Kind, SlotState, State, Successor};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use tracing::{debug, info, warn};

use crate::chain::{self, Found, Standing};
use crate::namespace::{ChannelDir, Namespace, generation_name};
use crate::observer::Observer;
use crate::owner::{self, Whereabouts};
use crate::succession as follow;
use crate::verdict::{Evidence, Verdict};

/// What a watchdog does about what is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: says so.
    Report,
    /// Takes it out of the way, but keeps the bytes: renames it to `.quarantine-…` in the namespace.
    Quarantine,
    /// Unlinks it.
    Reclaim,
}

/// Something that a watchdog tells its host. Names stay valid after the clean-up: nothing in it has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Stable id, a heading in RUNBOOK.md.
    pub id: &'static str,
    /// Name of the channel.
    pub channel: String,
    /// What is concluded of it.
    pub verdict: Verdict,
    /// From what.
    pub evidence: Evidence,
    /// What was done.
    pub done: Done,
}

/// What was done about a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// Nothing.
    Nothing,
    /// It was unlinked, with this many bytes.
    Reclaimed {
        /// Bytes of its segments.
        bytes: u64,
    },
    /// It was renamed.
    Quarantined {
        /// Its new name in the namespace.
        name: String,
    },
    /// It was to be taken away and turned out to be somebody's.
    Refused {
        /// Why.
        why: String,
    },
    /// It was to be taken away, and the system said no.
    Failed {
        /// What it said.
        why: String,
    },
}

/// One look at a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// One for each channel, sorted by name.
    pub notices: Vec<Notice>,
    /// Directories of births that died, removed.
    pub births: usize,
    /// Drained generations, unlinked.
    pub drained: usize,
    /// The namespace itself could not be read.
    pub error: Option<String>,
}

type Callback = Box<dyn FnMut(&Notice) + Send>;

/// Sets up a watchdog.
pub struct WatchdogBuilder {
    namespace: Namespace,
    action: Action,
    grace: Duration,
    stall_timeout: Duration,
    interval: Duration,
    expire_durable: Option<Duration>,
    wipe: bool,
    only: Option<Vec<String>>,
    callback: Option<Callback>,
}

impl std::fmt::Debug for WatchdogBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchdogBuilder").field("namespace", &self.namespace.path()).finish_non_exhaustive()
    }
}

impl WatchdogBuilder {
    /// What to do about what is nobody's; reports it unless set.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// How long something must have been nobody's before it is taken away; a minute unless set. Counted from a mark on the file, so
    /// that it survives the watchdog.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a writer that promised beats may be silent; 2 s unless set.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Time between two looks of [`Watchdog::spawn`]; a second unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Durable readers keep a channel that is otherwise nobody's for this long, then no more; for ever unless set.
    #[must_use]
    pub fn expire_durable(mut self, after: Duration) -> Self {
        self.expire_durable = Some(after);
        self
    }

    /// Overwrite data with zeros before it is unlinked.
    #[must_use]
    pub fn wipe(mut self, wipe: bool) -> Self {
        self.wipe = wipe;
        self
    }

    /// Look only at these channels, and do nothing about what interrupted births have left.
    #[must_use]
    pub fn only(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.only = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// Called with each channel whose verdict changed, or about which something was done. A panic in it is caught and logged.
    #[must_use]
    pub fn on_notice(mut self, callback: impl FnMut(&Notice) + Send + 'static) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    /// Builds it; the first look is the first [`tick`](Watchdog::tick).
    pub fn build(self) -> Watchdog {
        Watchdog { setup: self, known: HashMap::new() }
    }
}

struct Known {
    key: FileKey,
    verdict: Verdict,
    observer: Option<(FileKey, Observer)>,
}

/// A watchdog over one namespace.
pub struct Watchdog {
    setup: WatchdogBuilder,
    known: HashMap<String, Known>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").field("setup", &self.setup).field("known", &self.known.len()).finish()
    }
}

/// A watchdog's thread. Dropping it stops and joins it.
#[derive(Debug)]
pub struct WatchdogHandle {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl WatchdogHandle {
    /// Stops the watchdog and waits for its present look to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Ok(mut stop) = self.stop.0.lock() {
            *stop = true;
        }
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for WatchdogHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watchdog {
    /// Begins to set up a watchdog over a namespace.
    pub fn builder(namespace: &Namespace) -> WatchdogBuilder {
        WatchdogBuilder {
            namespace: namespace.clone(),
            action: Action::Report,
            grace: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(2),
            interval: Duration::from_secs(1),
            expire_durable: None,
            wipe: false,
            only: None,
            callback: None,
        }
    }

    /// Runs it on a thread of its own until the handle is dropped.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn spawn(mut self) -> io::Result<WatchdogHandle> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("ringward-watch".into()).spawn(move || {
            let interval = self.setup.interval;
            loop {
                if catch_unwind(AssertUnwindSafe(|| self.tick())).is_err() {
                    warn!("a watchdog's look panicked: the next one is in {interval:?}");
                }
                let Ok(stop) = shared.0.lock() else { return };
                match shared.1.wait_timeout_while(stop, interval, |stop| !*stop) {
                    Ok((stop, _)) if !*stop => {}
                    _ => return,
                }
            }
        })?;
        Ok(WatchdogHandle { stop, thread: Some(thread) })
    }

    /// Looks once at every channel, and does what it is set up to do. Any number of other watchdogs, starters and readers may be
    /// at work meanwhile.
    pub fn tick(&mut self) -> Report {
        let mut report = Report::default();
        let names = match self.setup.namespace.channels() {
            Ok(mut names) => {
                if let Some(only) = &self.setup.only {
                    names.retain(|name| only.contains(name));
                }
                names
            }
            Err(error) => {
                report.error = Some(error.to_string());
                return report;
            }
        };
        if self.setup.action != Action::Report && self.setup.only.is_none() {
            match follow::tidy_births(&self.setup.namespace) {
                Ok(births) => report.births = births,
                Err(error) => debug!(%error, "looking for births that died"),
            }
        }
        let mut before = std::mem::take(&mut self.known);
        for name in names {
            let known = before.remove(&name);
            let was = known.as_ref().map(|known| known.verdict);
            let (notice, now) = self.look(&name, known, &mut report.drained);
            if was != Some(notice.verdict) || notice.done != Done::Nothing {
                self.tell(&notice);
            }
            if let Some(now) = now {
                self.known.insert(name, now);
            }
            report.notices.push(notice);
        }
        for (name, known) in before {
            debug!(channel = name, dev_ino = ?known.key, "vanished");
            let notice = notice(&name, Verdict::Vanished, Evidence::default(), Done::Nothing);
            self.tell(&notice);
            report.notices.push(notice);
        }
        report.notices.sort_by(|a, b| a.channel.cmp(&b.channel));
        report
    }

    fn tell(&mut self, notice: &Notice) {
        info!(channel = notice.channel, id = notice.id, verdict = %notice.verdict, done = ?notice.done, "watchdog");
        if let Some(callback) = &mut self.setup.callback
            && catch_unwind(AssertUnwindSafe(|| callback(notice))).is_err()
        {
            warn!(id = notice.id, "the watchdog's callback panicked");
        }
    }

    /// Looks at one channel.
    fn look(&self, name: &str, known: Option<Known>, drained: &mut usize) -> (Notice, Option<Known>) {
        let trust = *self.setup.namespace.trust();
        let mut evidence = Evidence::default();
        let dir = match self.setup.namespace.channel_dir(name) {
            Ok(Some(dir)) => dir,
            Ok(None) => return (notice(name, Verdict::Vanished, evidence, Done::Nothing), None),
            Err(error) => {
                evidence.error = Some(error.to_string());
                let verdict = match error.kind() {
                    io::ErrorKind::PermissionDenied => Verdict::NotPermitted,
                    _ => Verdict::Foreign,
                };
                return (notice(name, verdict, evidence, Done::Nothing), None);
            }
        };
        if self.setup.action != Action::Report {
            match chain::tidy(&dir, &trust, self.setup.wipe) {
                Ok(tidied) => *drained += tidied.unlinked,
                Err(error) => debug!(channel = name, %error, "tidying"),
            }
        }
        let mut observer = known.and_then(|known| known.observer);
        let (verdict, segment, broken) = self.classify(&dir, &mut evidence, &mut observer);
        let mut done = Done::Nothing;
        if verdict == Verdict::Orphaned
            || (matches!(verdict, Verdict::Corrupt | Verdict::Truncated) && broken.is_some())
        {
            done = match (&segment, broken) {
                (Some(segment), _) => self.retire(name, &dir, segment, &evidence),
                (None, Some(file)) => self.retire_broken(name, &dir, &file, &evidence),
                (None, None) => self.finish_empty(name, &dir),
            };
        }
        let key = dir.key();
        let gone = matches!(done, Done::Reclaimed { .. } | Done::Quarantined { .. });
        let now = (!gone).then_some(Known { key, verdict, observer });
        (notice(name, verdict, evidence, done), now)
    }

    /// Classifies a channel. Also answers with its newest segment, or the file of a broken one that nobody holds.
    fn classify(
        &self,
        dir: &ChannelDir,
        evidence: &mut Evidence,
        observer: &mut Option<(FileKey, Observer)>,
    ) -> (Verdict, Option<Arc<Segment>>, Option<File>) {
        let trust = *self.setup.namespace.trust();
        let mut numbers = Vec::new();
        // A few looks: between two of them others may have followed, withdrawn, drained.
        for _ in 0..8 {
            numbers = match dir.generations() {
                Ok(numbers) => numbers,
                Err(error) => {
                    evidence.error = Some(error.to_string());
                    return (Verdict::Unknowable, None, None);
                }
            };
            evidence.generations = numbers.len();
            let Some(&number) = numbers.last() else {
                let foreign = !canary!("foreign-files-removed");
                if foreign && crate::namespace::entries(dir.fd()).is_ok_and(|names| !names.is_empty()) {
                    evidence.error = Some("its directory holds files that are not ringward's".to_owned());
                    return (Verdict::Foreign, None, None);
                }
                // A retirement that was not finished: the directory alone.
                return (self.orphaned(dir.fd(), evidence), None, None);
            };
            evidence.generation = Some(number);
            let access = if self.setup.action == Action::Report { Access::Inspect } else { Access::Successor };
            let segment = match chain::find(dir, number, access, &trust) {
                Found::Missing => continue,
                Found::Segment(segment) => segment,
                Found::Broken(error, file) => {
                    evidence.error = Some(error.to_string());
                    let verdict = Verdict::of_error(&error);
                    let Some(file) = file else { return (verdict, None, None) };
                    evidence.writer_held = chain::file_owned(&file).unwrap_or(true);
                    evidence.presence_held = held(&file, PRESENCE_BYTE);
                    evidence.readers_held = readers_held(&file);
                    let nobodys = !evidence.writer_held && !evidence.presence_held && evidence.readers_held == 0;
                    let ours = matches!(verdict, Verdict::Corrupt | Verdict::Truncated);
                    let old = nobodys && ours && self.orphaned(file.as_fd(), evidence) == Verdict::Orphaned;
                    return (verdict, None, old.then_some(file));
                }
            };
            if access == Access::Successor {
                match chain::settle(dir, number, &segment, &trust) {
                    Ok(Standing::LookAgain) => continue,
                    Ok(Standing::Current(_)) => {}
                    Ok(Standing::Retired) => return (Verdict::Orphaned, Some(segment), None),
                    Err(error) => {
                        evidence.error = Some(error.to_string());
                        return (Verdict::Corrupt, None, None);
                    }
                }
            }
            let verdict = self.weigh(dir, &numbers, &segment, evidence, observer);
            return (verdict, Some(segment), None);
        }
        evidence.error = Some(format!("it kept changing; {} generations at the last look", numbers.len()));
        (Verdict::Unknowable, None, None)
    }

    /// Weighs the evidence of a segment that can be read.
    fn weigh(
        &self,
        dir: &ChannelDir,
        numbers: &[u64],
        segment: &Arc<Segment>,
        evidence: &mut Evidence,
        observer: &mut Option<(FileKey, Observer)>,
    ) -> Verdict {
        let state = succession::state(segment);
        let recorded = segment.identity().owner;
        evidence.state = Some(state);
        evidence.owner_pid = recorded.pid;
        let whereabouts = owner::whereabouts(&recorded);
        evidence.owner = Some(whereabouts);
        evidence.writer_held = segment.writer_held().map_or(true, |held| held == Held::Exclusive);
        evidence.presence_held = held(segment.file(), PRESENCE_BYTE);
        evidence.readers_held = readers_held(segment.file());
        for elder in chain::elders(dir, numbers.last().copied().unwrap_or(0), self.setup.namespace.trust()) {
            evidence.readers_held += readers_held(&elder);
        }
        evidence.durable = durable_readers(segment);
        if segment.poisoned() {
            return Verdict::Truncated;
        }
        if state.known().is_none() {
            return Verdict::Corrupt;
        }
        if evidence.writer_held {
            let fresh = observer.as_ref().is_none_or(|(key, _)| *key != segment.key());
            if fresh {
                *observer = Some((segment.key(), Observer::new(segment)));
            }
            let Some((_, observer)) = observer else { return Verdict::Unknowable };
            evidence.silent = Some(observer.silent_for(segment));
            if owner::is_dying(&recorded) {
                return Verdict::Dying;
            }
            if whereabouts == Whereabouts::Gone {
                return Verdict::Leaked;
            }
            let stalled = state == State::OPEN && observer.is_silent(segment, self.setup.stall_timeout);
            return if stalled { Verdict::Stalled } else { Verdict::Live };
        }
        let present = evidence.presence_held && !canary!("presence-ignored");
        let inhabited = present || evidence.readers_held > 0;
        let verdict = if inhabited { Verdict::Draining } else { self.orphaned(segment.file().as_fd(), evidence) };
        if inhabited {
            if self.setup.action != Action::Report {
                unmark(segment.file());
            }
            return verdict;
        }
        let age = evidence.orphaned_for.unwrap_or_default();
        let kept = (evidence.durable > 0 && !canary!("durable-place-ignored")) || numbers.len() > 1;
        let expired = self.setup.expire_durable.is_some_and(|after| age >= after);
        if kept && !expired { Verdict::Draining } else { verdict }
    }

    /// Nobody's: for how long, by the mark on the file; sets the mark if there is none.
    fn orphaned(&self, fd: std::os::fd::BorrowedFd<'_>, evidence: &mut Evidence) -> Verdict {
        let age = match mark_age(fd) {
            Ok(Some(age)) => age,
            Ok(None) => {
                // Report-only looks leave no marks; grace then counts as just begun.
                if self.setup.action != Action::Report
                    && let Err(error) = mark(fd)
                {
                    debug!(%error, "cannot mark an orphan");
                }
                Duration::ZERO
            }
            Err(error) => {
                debug!(%error, "cannot read an orphan's mark");
                Duration::ZERO
            }
        };
        evidence.orphaned_for = Some(age);
        if age >= self.setup.grace || canary!("grace-ignored") { Verdict::Orphaned } else { Verdict::OrphanedInGrace }
    }

    /// Takes a channel away, if it is provably nobody's.
    fn retire(&self, name: &str, dir: &ChannelDir, segment: &Arc<Segment>, evidence: &Evidence) -> Done {
        if self.setup.action == Action::Report && !canary!("report-acts") {
            return Done::Nothing;
        }
        let number = evidence.generation.unwrap_or(segment.identity().generation);
        let failed = |error: io::Error| Done::Failed { why: error.to_string() };
        let refused = |why: &str| Done::Refused { why: why.to_owned() };
        // Every lock, before the table is looked at.
        let alone = match segment.alone() {
            Ok(Some(alone)) => alone,
            Ok(None) => return refused("somebody holds a lock of it"),
            Err(error) => return failed(error),
        };
        let expired =
            self.setup.expire_durable.is_some_and(|after| evidence.orphaned_for.is_some_and(|age| age >= after));
        if let Some(slot) = alone.durable_reader().filter(|_| !expired) {
            return Done::Refused { why: format!("a durable reader will come back to slot {slot}") };
        }
        let numbers = match dir.generations() {
            Ok(numbers) => numbers,
            Err(error) => return failed(error),
        };
        if numbers.last() != Some(&number) || (numbers.len() > 1 && !expired) {
            return refused("it is not the only generation");
        }
        match segment.bears(dir.fd(), &generation_name(number)) {
            Ok(true) => {}
            Ok(false) => return refused("its name belongs to another file by now"),
            Err(error) => return failed(error),
        }
        match alone.retire() {
            Ok(()) => {}
            Err(NotNobody::Followed(Successor::Segment(id))) => {
                return Done::Refused { why: format!("segment {id} follows it") };
            }
            Err(other) => return Done::Refused { why: other.to_string() },
        }
        // Decided: from here on anybody may finish.
        let mut bytes = 0;
        for older in &numbers[..numbers.len() - 1] {
            let Found::Segment(old) = chain::find(dir, *older, Access::Successor, self.setup.namespace.trust()) else {
                continue;
            };
            bytes += old.identity().geometry.total();
            let gone = if self.setup.action == Action::Quarantine {
                self.put_aside(name, dir, *older).map(|_| true)
            } else if self.setup.wipe {
                old.wipe().and_then(|()| dir.unlink(*older, old.key()))
            } else {
                dir.unlink(*older, old.key())
            };
            if let Err(error) = gone {
                return failed(error);
            }
        }
        bytes += segment.identity().geometry.total();
        if self.setup.action == Action::Quarantine {
            return self.quarantine(name, dir, number);
        }
        if self.setup.wipe
            && let Err(error) = alone.wipe()
        {
            return failed(error);
        }
        match dir.unlink(number, segment.key()).and_then(|_| self.remove_dir(name, dir)) {
            Ok(()) => Done::Reclaimed { bytes },
            Err(error) => failed(error),
        }
    }

    /// Takes a channel away whose newest generation can't be read: under every lock of its file.
    fn retire_broken(&self, name: &str, dir: &ChannelDir, file: &File, evidence: &Evidence) -> Done {
        if self.setup.action == Action::Report {
            return Done::Nothing;
        }
        let failed = |error: io::Error| Done::Failed { why: error.to_string() };
        let (Some(number), 1) = (evidence.generation, evidence.generations) else {
            return Done::Refused { why: "it is not the only generation".to_owned() };
        };
        let fd = file.as_fd();
        let all = lock::try_lock(fd, PRESENCE_BYTE, Mode::Exclusive)
            .and_then(|got| Ok(got && lock::try_lock(fd, WRITER_BYTE, Mode::Exclusive)?))
            .and_then(|got| Ok(got && lock::try_lock_range(fd, READER_BYTE, MAX_SLOTS.into(), Mode::Exclusive)?));
        match all {
            Ok(true) => {}
            Ok(false) => return Done::Refused { why: "somebody holds a lock of it".to_owned() },
            Err(error) => return failed(error),
        }
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        if self.setup.action == Action::Quarantine {
            return self.quarantine(name, dir, number);
        }
        let unlinked = file::file_key(fd).and_then(|key| dir.unlink(number, key));
        match unlinked.and_then(|_| self.remove_dir(name, dir)) {
            Ok(()) => Done::Reclaimed { bytes },
            Err(error) => failed(error),
        }
    }

    /// A directory without generations: what a retirement that died has left.
    fn finish_empty(&self, name: &str, dir: &ChannelDir) -> Done {
        if self.setup.action == Action::Report {
            return Done::Nothing;
        }
        match self.remove_dir(name, dir) {
            Ok(()) => Done::Reclaimed { bytes: 0 },
            Err(error) => Done::Failed { why: error.to_string() },
        }
    }

    fn remove_dir(&self, name: &str, dir: &ChannelDir) -> io::Result<()> {
        let namespace = &self.setup.namespace;
        if canary!("foreign-files-removed") {
            for foreign in crate::namespace::entries(dir.fd())? {
                rustix::fs::unlinkat(dir.fd(), foreign.as_str(), AtFlags::empty())?;
            }
        }
        if file::path_key(namespace.dir(), name)? != Some(dir.key()) {
            return Ok(());
        }
        match rustix::fs::unlinkat(namespace.dir(), name, AtFlags::REMOVEDIR) {
            // Not empty: somebody linked the next generation meanwhile, or foreign files lie in it, which are not ours.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn quarantine(&self, name: &str, dir: &ChannelDir, number: u64) -> Done {
        match self.put_aside(name, dir, number).and_then(|to| self.remove_dir(name, dir).map(|()| to)) {
            Ok(to) => Done::Quarantined { name: to },
            Err(error) => Done::Failed { why: error.to_string() },
        }
    }

    /// Renames a generation's file to a name of its own in the namespace, which is returned.
    fn put_aside(&self, name: &str, dir: &ChannelDir, number: u64) -> io::Result<String> {
        let namespace = &self.setup.namespace;
        let to = format!(".quarantine-{name}-{number}-{:08x}", rand::random::<u32>());
        rustix::fs::renameat_with(
            dir.fd(),
            generation_name(number),
            namespace.dir(),
            to.as_str(),
            rustix::fs::RenameFlags::NOREPLACE,
        )?;
        Ok(to)
    }
}

fn notice(channel: &str, verdict: Verdict, evidence: Evidence, done: Done) -> Notice {
    let id = match &done {
        Done::Reclaimed { .. } => "RW-WD-RECLAIMED",
        Done::Quarantined { .. } => "RW-WD-QUARANTINED",
        Done::Refused { .. } => "RW-WD-REFUSED",
        Done::Failed { .. } => "RW-WD-FAILED",
        Done::Nothing => verdict.id(),
    };
    Notice { id, channel: channel.to_owned(), verdict, evidence, done }
}

fn held(file: &File, byte: u64) -> bool {
    lock::probe(file.as_fd(), byte).map_or(true, |held| held != Held::Nobody)
}

/// Reader bytes of a file that are held. One question for all of them first: mostly none is.
fn readers_held(file: &File) -> usize {
    (0..u64::from(MAX_SLOTS)).filter(|slot| held(file, READER_BYTE + slot)).count()
}

fn durable_readers(segment: &Arc<Segment>) -> usize {
    let expelled = segment.page().succession.expelled.load(std::sync::atomic::Ordering::Acquire);
    segment
        .slots()
        .iter()
        .enumerate()
        .filter(|(slot, _)| expelled >> (slot & 63) & 1 == 0)
        .map(|(_, slot)| table::read_slot(slot, segment.identity().segment))
        .filter(|slot| match slot.state {
            SlotState::FREE | SlotState::DONE | SlotState::PROVISIONAL => false,
            _ => slot.card.is_none_or(|card| card.kind == Kind::DURABLE),
        })
        .count()
}

/// Modification time (seconds since 1970) of a file that a watchdog has marked as nobody's. Setting it makes the kernel stamp
/// the change time, which nobody can set: that is since when. (Not the access time: under `relatime` a mere look moves it.)
const MARK: i64 = 1;

/// How long ago a file was marked; `None` if it is not.
fn mark_age(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<Option<Duration>> {
    let stat = rustix::fs::fstat(fd)?;
    if stat.st_mtime != MARK || canary!("grace-not-marked") {
        return Ok(None);
    }
    let seconds = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    let since = seconds + Duration::from_nanos(stat.st_ctime_nsec);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Some(now.saturating_sub(since)))
}

/// Marks a file as nobody's from now on.
fn mark(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    set_modified(fd, Timespec { tv_sec: MARK, tv_nsec: 0 })
}

/// Somebody lives here again: takes a mark away.
fn unmark(file: &File) {
    if canary!("old-mark-kept") {
        return;
    }
    if mark_age(file.as_fd()).is_ok_and(|age| age.is_some())
        && let Err(error) = set_modified(file.as_fd(), Timespec { tv_sec: 0, tv_nsec: UTIME_NOW })
    {
        debug!(%error, "cannot take an orphan's mark away");
    }
}

fn set_modified(fd: std::os::fd::BorrowedFd<'_>, time: Timespec) -> io::Result<()> {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Ok(rustix::fs::futimens(fd, &Timestamps { last_access: untouched, last_modification: time })?)
}
