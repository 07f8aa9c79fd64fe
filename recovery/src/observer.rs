//! Whether a writer is stuck: changes of its heartbeat, timed on the observer's own clock. Never compares the clocks of two processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringward_ring::canary;
use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;

/// What one observer has seen of one writer.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    seen: (u64, u64),
    since: Instant,
    told: bool,
}

fn pulse(segment: &Arc<Segment>) -> (u64, u64) {
    let page = segment.page();
    (page.heartbeat.beat.load(Ordering::Relaxed), page.cursor.cursor.position.load(Ordering::Relaxed))
}

impl Observer {
    pub(crate) fn new(segment: &Arc<Segment>) -> Observer {
        Observer { seen: pulse(segment), since: Instant::now(), told: false }
    }

    /// How long nothing has changed, and whether something had since the last look.
    pub(crate) fn look(&mut self, segment: &Arc<Segment>) -> (Duration, bool) {
        let now = pulse(segment);
        let changed = now != self.seen;
        if changed {
            *self = Observer { seen: now, since: Instant::now(), told: false };
        }
        (self.since.elapsed(), changed)
    }

    /// How long nothing has changed.
    pub(crate) fn silent_for(&mut self, segment: &Arc<Segment>) -> Duration {
        self.look(segment).0
    }

    /// Whether the writer promised beats and has been silent for `timeout`.
    pub(crate) fn is_silent(&mut self, segment: &Arc<Segment>, timeout: Duration) -> bool {
        (segment.identity().beat_interval != 0 || canary!("quiet-is-stuck")) && self.silent_for(segment) >= timeout
    }

    /// As [`is_silent`](Self::is_silent), but true only once, until it beats again; a writer whose lock is free is not stuck but dead.
    pub(crate) fn stalled(&mut self, segment: &Arc<Segment>, timeout: Duration) -> bool {
        use ringward_ring::sys::lock::Held;
        let silent = self.is_silent(segment, timeout);
        if silent && !self.told && segment.writer_held().is_ok_and(|held| held == Held::Exclusive) {
            self.told = true;
            return true;
        }
        false
    }
}
