//! A cheap look at a channel that was live at the last full one: has anything changed that its verdict rests on?
//!
//! Three system calls instead of some dozens: the name still leads to this folder and nothing in it was linked or unlinked; the segment is
//! as long as it was and its identity checks; its writer byte is held. State, heartbeat and position are read from the mapping, and that the
//! owner has not ended is known from its descriptor ([`Vigil`]). Anything else, or silence, and a full look is due; and one now and then anyway, for
//! what a glance does not see: who reads, who stands by.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;
use ringward_ring::succession;
use ringward_ring::sys::lock::Held;
use ringward_ring::word::State;
use rustix::fs::AtFlags;

use super::vigil::Vigil;
use crate::namespace::{ChannelDir, Namespace};
use crate::observer::Observer;
use crate::verdict::Evidence;

/// Longest time between two full looks at a channel; each has its own moment, so that they don't come all at once.
const FULL: Duration = Duration::from_secs(8);
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
    _dir: ChannelDir,
    segment: Arc<Segment>,
    stamp: Stamp,
    evidence: Evidence,
    until: Instant,
}

impl Glance {
    /// Keeps a full look, begun when the folder had this stamp, that found a live writer with one generation.
    pub(super) fn keep(
        namespace: &Namespace,
        name: &str,
        before: Option<Stamp>,
        dir: ChannelDir,
        segment: Arc<Segment>,
        evidence: &Evidence,
    ) -> Option<Glance> {
        let stamp = before?;
        let alone = evidence.generations == 1 && evidence.state == Some(State::OPEN);
        if !alone || !stamp.settled() || Stamp::of(namespace, name) != Some(stamp) {
            return None;
        }
        let share = u32::try_from(segment.identity().segment.0 >> 32 & 0xff).unwrap_or(0);
        let until = Instant::now() + FULL / 2 + FULL / 2 * share / 256;
        Some(Glance { _dir: dir, segment, stamp, evidence: evidence.clone(), until })
    }

    /// The evidence as it is now, if nothing has changed; `None` if a full look is due.
    pub(super) fn again(
        &self,
        namespace: &Namespace,
        name: &str,
        observer: &mut Observer,
        vigil: &mut Vigil,
        stall: Duration,
    ) -> Option<Evidence> {
        let segment = &self.segment;
        if Instant::now() >= self.until || !vigil.watches(&segment.identity().owner) {
            return None;
        }
        let silent = observer.silent_for(segment);
        // Dumping core, stalled: that takes more than a glance.
        if segment.identity().beat_interval != 0 && silent >= stall / 2 {
            return None;
        }
        let same = succession::state(segment) == State::OPEN
            && Stamp::of(namespace, name) == Some(self.stamp)
            && segment.writer_held().is_ok_and(|held| held == Held::Exclusive)
            && segment.recheck().is_ok()
            && !segment.poisoned();
        same.then(|| Evidence { silent: Some(silent), ..self.evidence.clone() })
    }
}
