//! The watchdog: classifies each channel of a namespace from evidence, and takes away what is provably nobody's.
//!
//! Embed it as a thread ([`Watchdog::spawn`]) or call [`Watchdog::tick`] yourself. It never panics or exits its host, and touches nothing that is
//! not ringward's. Killed at any point, the next one finishes.
//!
//! A channel at rest costs a look at its mapped header, no system call, and one descriptor; what changed, or may have, is looked at in full.

mod classify;
mod glance;
mod inbox;
mod listing;
mod mark;
mod notice;
mod retire;
mod setup;
mod vigil;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringward_ring::sys::file::FileKey;
use tracing::{debug, info, warn};

use crate::chain;
use crate::namespace::{Namespace, NamespaceError};
use crate::observer::Observer;
use crate::owner::Viewer;
use crate::succession as follow;
use crate::verdict::{Evidence, Verdict};
use crate::watch::Bell;

use classify::Found;
use glance::{Glance, Stamp};
use inbox::Inbox;
use listing::Listing;
use notice::notice;
pub use notice::{Action, Done, Notice, Report};
pub use setup::WatchdogBuilder;
use vigil::Vigil;

/// Least time between two looks of [`Watchdog::spawn`], whatever ends meanwhile.
const LEAST: Duration = Duration::from_millis(5);

struct Known {
    key: FileKey,
    verdict: Verdict,
    observer: Option<(FileKey, Observer)>,
    glance: Option<Glance>,
    /// At which look it was there.
    look: u64,
}

/// A watchdog over one namespace.
pub struct Watchdog {
    setup: WatchdogBuilder,
    known: HashMap<String, Known>,
    listing: Listing,
    vigil: Vigil,
    inbox: Inbox,
    looks: u64,
    /// Who looks, as of this look.
    viewer: Viewer,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").field("setup", &self.setup).field("known", &self.known.len()).finish()
    }
}

/// A watchdog's thread. Dropping it stops and joins it.
#[derive(Debug)]
pub struct WatchdogHandle {
    stop: Arc<AtomicBool>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl WatchdogHandle {
    /// Stops the watchdog and waits for its present look to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
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
            descriptors: None,
        }
    }

    /// Sets it up anew, and keeps what it knows of the channels. For the same namespace; another one takes another watchdog.
    pub fn set_up(&mut self, setup: WatchdogBuilder) {
        self.vigil.keep(setup.descriptors);
        self.setup = setup;
        self.listing = Listing::default();
        // What may be glanced at depends on what is to be done.
        self.known.values_mut().for_each(|known| known.glance = None);
    }

    /// Runs it on a thread of its own until the handle is dropped: a look each interval, and at once when a process that owns a writer ends.
    ///
    /// # Errors
    ///
    /// The thread could not be started, or a descriptor for stopping it could not be made.
    pub fn spawn(mut self) -> io::Result<WatchdogHandle> {
        let (stop, bell) = (Arc::new(AtomicBool::new(false)), Bell::new()?);
        let (stopped, called) = (Arc::clone(&stop), bell.clone());
        let thread = std::thread::Builder::new().name("ringward-watch".into()).spawn(move || {
            let interval = self.setup.interval;
            while !stopped.load(Ordering::Acquire) {
                let begun = Instant::now();
                if catch_unwind(AssertUnwindSafe(|| self.tick())).is_err() {
                    warn!("a watchdog's look panicked: the next one is in {interval:?}");
                    // Nothing half-known is gone by.
                    self.known.clear();
                }
                if let Err(error) = self.wait(interval, Some(called.fd().as_fd())) {
                    debug!(%error, "waiting for the end of processes");
                    std::thread::sleep(interval.min(Duration::from_millis(50)));
                }
                // Processes that end one after the other don't make it look all the time.
                if begun.elapsed() < LEAST.min(interval) && !stopped.load(Ordering::Acquire) {
                    std::thread::sleep(LEAST.min(interval).saturating_sub(begun.elapsed()));
                }
            }
        })?;
        Ok(WatchdogHandle { stop, bell, thread: Some(thread) })
    }

    /// Waits for the time of the next [`tick`](Self::tick): until a process that owned a writer at the last one has ended, `also` can be read, or
    /// `limit` is up. For those who have a loop of their own.
    ///
    /// A process of another pid namespace, or one too many for the descriptors of this process, is not waited for.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn wait(&self, limit: Duration, also: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.vigil.wait(limit, also)
    }

    /// Looks once at every channel, and does what it is set up to do. Any number of other watchdogs, starters and readers may be
    /// at work meanwhile.
    pub fn tick(&mut self) -> Report {
        // Whose process has ended is watched no more, and so its channels are looked at in full.
        self.vigil.drop_ended();
        let mut report = Report::default();
        if self.setup.namespace.removed()
            && let Err(error) = self.open_anew(&mut report)
        {
            report.error = Some(error.to_string());
            return report;
        }
        self.inbox.take_in();
        let mut listing = std::mem::take(&mut self.listing);
        if let Err(error) = listing.renew(&self.setup.namespace, self.setup.only.as_deref(), &self.inbox) {
            // What was told is lost for the next look.
            self.known.values_mut().for_each(|known| known.glance = None);
            report.error = Some(error.to_string());
            return report;
        }
        if self.setup.action != Action::Report && self.setup.only.is_none() && listing.births() {
            match follow::tidy_births(&self.setup.namespace) {
                Ok(births) => report.births = births,
                Err(error) => debug!(%error, "looking for births that died"),
            }
        }
        self.looks += 1;
        self.vigil.begin();
        self.viewer = Viewer::now();
        report.notices.reserve(listing.names().len());
        for name in listing.names() {
            let notice = self.notice_of(name, &mut report);
            report.notices.push(notice);
        }
        self.listing = listing;
        let gone = self.known.extract_if(|_, known| known.look != self.looks).collect();
        self.tell_vanished(gone, &mut report);
        self.vigil.finish();
        report
    }

    /// What there is to say of one channel.
    fn notice_of(&mut self, name: &str, report: &mut Report) -> Notice {
        if let Some(evidence) = self.glance(name) {
            report.glances += 1;
            return notice(name, Verdict::Live, evidence, Done::Nothing);
        }
        let known = self.known.remove(name);
        let was = known.as_ref().map(|known| known.verdict);
        let (notice, now) = self.look(name, known, report);
        if was != Some(notice.verdict) || notice.done != Done::Nothing {
            self.tell(&notice);
        }
        if let Some(now) = now {
            self.known.insert(name.to_owned(), now);
        }
        notice
    }

    fn tell_vanished(&mut self, gone: HashMap<String, Known>, report: &mut Report) {
        if gone.is_empty() {
            return;
        }
        for (name, known) in gone {
            debug!(channel = name, dev_ino = ?known.key, "vanished");
            let notice = notice(&name, Verdict::Vanished, Evidence::default(), Done::Nothing);
            self.tell(&notice);
            report.notices.push(notice);
        }
        report.notices.sort_by(|a, b| a.channel.cmp(&b.channel));
    }

    /// The namespace was removed, and every channel in it with it: goes over to the one that has its name now, if there is one. Makes none
    /// itself.
    fn open_anew(&mut self, report: &mut Report) -> Result<(), NamespaceError> {
        let gone = std::mem::take(&mut self.known);
        self.tell_vanished(gone, report);
        self.setup.namespace = self.setup.namespace.reopen(false)?;
        warn!(namespace = %self.setup.namespace.path().display(), "it was removed and made again: watching the new one");
        self.inbox = Inbox::new();
        self.listing = Listing::default();
        Ok(())
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
    fn look(&mut self, name: &str, known: Option<Known>, report: &mut Report) -> (Notice, Option<Known>) {
        let stamp = Stamp::of(&self.setup.namespace, name);
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
                Ok(tidied) => report.drained += tidied.unlinked,
                Err(error) => debug!(channel = name, %error, "tidying"),
            }
        }
        let mut observer = known.and_then(|known| known.observer);
        let Found { verdict, segment, broken, due } = self.classify(&dir, &mut evidence, &mut observer);
        let mut done = Done::Nothing;
        if due {
            done = match (&segment, broken) {
                (Some(segment), _) => self.retire(name, &dir, segment, &evidence),
                (None, Some(file)) => self.retire_broken(name, &dir, &file, &evidence),
                (None, None) => self.finish_empty(name, &dir),
            };
        }
        let key = dir.key();
        let gone = matches!(done, Done::Reclaimed { .. } | Done::Quarantined { .. });
        let watched = verdict == Verdict::Live && done == Done::Nothing;
        let glance = segment.filter(|_| watched).and_then(|segment| {
            let owner = segment.identity().owner;
            // A process may own many; the segment of each is kept open.
            let taken = self.known.len() + 1;
            let room = self.vigil.room(taken) && self.vigil.watch(&owner, &self.viewer, taken);
            room.then(|| Glance::keep(&self.setup.namespace, name, stamp, &dir, segment, &evidence, &self.inbox))
                .flatten()
        });
        let now = (!gone).then_some(Known { key, verdict, observer, glance, look: self.looks });
        (notice(name, verdict, evidence, done), now)
    }

    /// The evidence about a channel that was live, if a glance shows that it still is.
    fn glance(&mut self, name: &str) -> Option<Evidence> {
        let known = self.known.get_mut(name)?;
        let (glance, (_, observer)) = (known.glance.as_mut()?, known.observer.as_mut()?);
        let setup = &self.setup;
        let told = (&mut self.vigil, &self.inbox, &self.viewer);
        let evidence = glance.again(&setup.namespace, name, observer, told, setup.stall_timeout)?;
        known.look = self.looks;
        Some(evidence)
    }
}
