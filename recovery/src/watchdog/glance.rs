//! A cheap look at a channel that was live at the last full one: has anything changed that its verdict rests on?
//!
//! No system call at all in the usual case: that nothing in the folder was linked, unlinked, cut or renamed is known from inotify
//! ([`Inbox`]), that the owner has not ended from its descriptor ([`Vigil`]); state, heartbeat and position are read from the
//! mapping. A writer that promised beats and has not beaten since the last glance has its byte looked at; one that promised none, now and
//! then: whoever lets go of a byte without ending closes a file, and that is told. Without inotify the folder and the file are
//! looked at instead. Anything else, or silence, and a full look is due. When somebody has let go of something, and now and then anyway, the
//! glance is a close one, for what others do not see: who reads, who stands by, an identity overwritten through somebody's mapping, a name that leads elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringward_ring::layout::PRESENCE_BYTE;
use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;
use ringward_ring::succession;
use ringward_ring::sys::lock::Held;
use ringward_ring::word::State;
use rustix::fs::AtFlags;

use super::classify::{durable_readers, held, readers_held};
use super::inbox::{Inbox, Watched};
use super::vigil::Vigil;
use crate::namespace::{ChannelDir, Namespace};
use crate::observer::Observer;
use crate::owner::Viewer;
use crate::verdict::Evidence;

/// Longest time between two close looks at a channel; each has its own moment, so that they don't come all at once.
const CLOSE: Duration = Duration::from_secs(30);
/// Longest time between two looks at the byte of a writer that promised no beats.
const ASK: Duration = Duration::from_secs(4);
/// A folder that changed so lately may change again without its time saying so.
const YOUNG: Duration = Duration::from_millis(100);

/// Which folder a name leads to, and when it last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    seconds: i64,
    nanoseconds: u64,
}

impl Stamp {
    pub(super) fn of(namespace: &Namespace, name: &str) -> Option<Stamp> {
        let stat = rustix::fs::statat(namespace.dir(), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Stamp { dev: stat.st_dev, ino: stat.st_ino, seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec })
    }

    /// Old enough that another change would show.
    fn settled(self) -> bool {
        let since =
            Duration::from_secs(u64::try_from(self.seconds).unwrap_or(0)) + Duration::from_nanos(self.nanoseconds);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(since).is_some_and(|age| age >= YOUNG)
    }
}

/// What is kept of a full look at a live channel.
#[derive(Debug)]
pub(super) struct Glance {
    watched: Option<Watched>,
    segment: Arc<Segment>,
    stamp: Stamp,
    evidence: Evidence,
    /// When a close look is due.
    until: Instant,
    /// When the writer's byte was last found held.
    asked: Instant,
}

impl Glance {
    /// Keeps a full look, begun when the folder had this stamp, that found a live writer with one generation.
    pub(super) fn keep(
        namespace: &Namespace,
        name: &str,
        before: Option<Stamp>,
        dir: &ChannelDir,
        segment: Arc<Segment>,
        evidence: &Evidence,
        inbox: &Inbox,
    ) -> Option<Glance> {
        let stamp = before?;
        let alone = evidence.generations == 1 && evidence.state == Some(State::OPEN);
        if !alone || !stamp.settled() {
            return None;
        }
        // Watched first, then looked at once more: whatever changed since the look began shows, or is told.
        let watched = inbox.watch(dir.fd());
        let (evidence, until, asked) = (evidence.clone(), next_close(&segment), Instant::now());
        let glance = Glance { watched, segment, stamp, evidence, until, asked };
        glance.unchanged(namespace, name).then_some(glance)
    }

    /// By looking: the name leads to the same folder, in which nothing was linked or unlinked; the segment has its name, is as long as it
    /// was, and its identity checks.
    fn unchanged(&self, namespace: &Namespace, name: &str) -> bool {
        Stamp::of(namespace, name) == Some(self.stamp)
            && self.segment.links().is_ok_and(|links| links == 1)
            && self.segment.recheck().is_ok()
    }

    /// The evidence as it is now, if nothing has changed; `None` if a full look is due.
    pub(super) fn again(
        &mut self,
        namespace: &Namespace,
        name: &str,
        observer: &mut Observer,
        (vigil, inbox, viewer): (&mut Vigil, &Inbox, &Viewer),
        stall: Duration,
    ) -> Option<Evidence> {
        if !vigil.watches(&self.segment.identity().owner) {
            return None;
        }
        let (silent, beaten) = observer.look(&self.segment);
        // Dumping core, stalled: that takes more than a glance.
        let beats = self.segment.identity().beat_interval != 0;
        if beats && silent >= stall / 2 {
            return None;
        }
        let now = Instant::now();
        let unchanged = match &self.watched {
            Some(watched) => !inbox.stirred(watched),
            None => self.unchanged(namespace, name),
        };
        let still = unchanged && succession::state(&self.segment) == State::OPEN && !self.segment.poisoned();
        // Without beats nobody who let go of the byte and lives on falls silent.
        let sure = if beats { beaten } else { self.watched.is_some() && now < self.asked + ASK };
        if !still || !(sure || self.ask(now)) {
            return None;
        }
        // A close look closes nothing itself: two watchdogs would keep each other busy for ever.
        let due = now >= self.until || self.watched.as_ref().is_some_and(|watched| inbox.closed(watched));
        if due && !self.look_closely(namespace, name, viewer) {
            return None;
        }
        Some(Evidence { silent: Some(silent), ..self.evidence.clone() })
    }

    /// Whether the writer's byte is held.
    fn ask(&mut self, now: Instant) -> bool {
        self.asked = now;
        self.segment.writer_held().is_ok_and(|held| held == Held::Exclusive)
    }

    /// All that a full look would look at in a channel with one generation and a living writer; whether it still is one.
    fn look_closely(&mut self, namespace: &Namespace, name: &str, viewer: &Viewer) -> bool {
        let (segment, owner) = (&self.segment, self.segment.identity().owner);
        let evidence = Evidence {
            writer_held: segment.writer_held().is_ok_and(|held| held == Held::Exclusive),
            presence_held: held(segment.file(), PRESENCE_BYTE),
            readers_held: readers_held(segment.file()),
            owner: Some(viewer.whereabouts(&owner)),
            durable: durable_readers(segment),
            ..self.evidence.clone()
        };
        let same = evidence.writer_held && evidence.owner == self.evidence.owner && !viewer.is_dying(&owner);
        if !same || !self.unchanged(namespace, name) || segment.poisoned() {
            return false;
        }
        self.until = next_close(segment);
        self.evidence = evidence;
        true
    }
}

/// When to look closely at it next.
fn next_close(segment: &Segment) -> Instant {
    let share = u32::try_from(segment.identity().segment.0 >> 32 & 0xff).unwrap_or(0);
    Instant::now() + CLOSE / 2 + CLOSE / 2 * share / 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::config::Config;
    use crate::verdict::Verdict;
    use crate::watchdog::Watchdog;

    /// Where the system has no inotify left, folder and file are looked at.
    #[test]
    fn what_nobody_tells_of_is_looked_at() {
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
        let config = Config::default().capacity(4096).beat_interval(Duration::ZERO);
        let writer = Channel::new(&namespace, "c", config).unwrap().writer().unwrap();
        let mut watchdog = Watchdog::builder(&namespace).build();
        watchdog.inbox = Inbox::default();
        let begun = Instant::now();
        while watchdog.tick().glances == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "never glanced at");
            std::thread::sleep(Duration::from_millis(20));
        }
        let known = watchdog.known.get("c").and_then(|known| known.glance.as_ref());
        assert!(known.is_some_and(|glance| glance.watched.is_none()));
        let generation = namespace.path().join("c").join(crate::generation_name(1));
        std::fs::remove_file(generation).unwrap();
        let report = watchdog.tick();
        assert_eq!(report.glances, 0);
        assert_ne!(report.notices[0].verdict, Verdict::Live);
        drop(writer);
    }

    /// Stores through a mapping and locks make no noise.
    #[test]
    fn a_close_look_sees_what_nobody_tells_of() {
        use crate::channel::Durability;
        use ringward_ring::table::From;
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
        let config = Config::default().capacity(4096).reader_slots(4).beat_interval(Duration::ZERO);
        let channel = Channel::new(&namespace, "c", config).unwrap();
        let writer = channel.writer().unwrap();
        let mut watchdog = Watchdog::builder(&namespace).build();
        let _reader = channel.reader("r", Durability::Durable, From::Latest).unwrap();
        let begun = Instant::now();
        while watchdog.tick().glances == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "never glanced at");
            std::thread::sleep(Duration::from_millis(20));
        }
        let glance = |watchdog: &mut Watchdog| {
            let glance = watchdog.known.get_mut("c").and_then(|known| known.glance.as_mut()).unwrap();
            glance.until = Instant::now();
            // As if nobody had joined when it was last looked at.
            (glance.evidence.readers_held, glance.evidence.durable) = (0, 0);
        };
        glance(&mut watchdog);
        let report = watchdog.tick();
        let found = &report.notices[0].evidence;
        assert_eq!((report.glances, found.readers_held, found.durable, found.generations), (1, 1, 1, 1));
        let again = &watchdog.tick().notices[0].evidence.clone();
        assert_eq!((again.readers_held, again.durable), (1, 1), "until the next close one");
        // A second name is no event of this folder.
        let path = namespace.path().join("c").join(crate::namespace::generation_name(1));
        std::fs::hard_link(path, root.path().join("second")).unwrap();
        glance(&mut watchdog);
        assert_eq!(watchdog.tick().glances, 0);
        drop(writer);
    }
}
