//! The thread beside a writer: beats, notices that the segment was unlinked or damaged, remembers who reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;
use ringward_ring::table::{self, Carried};
use ringward_ring::writer;

use crate::owner;

#[derive(Debug)]
struct Shared {
    stop: Mutex<bool>,
    changed: Condvar,
    /// The segment is no longer what it was: the writer looks before its next push.
    alarm: AtomicBool,
    readers: Mutex<Vec<Carried>>,
}

/// A running beat thread; dropping it stops and joins it.
#[derive(Debug)]
pub(crate) struct Beat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    /// Starts to beat on `segment` every `interval`; zero promises no beats and starts no thread.
    pub(crate) fn start(segment: &Arc<Segment>, interval: Duration) -> Beat {
        let shared = Arc::new(Shared {
            stop: Mutex::new(false),
            changed: Condvar::new(),
            alarm: AtomicBool::new(false),
            readers: Mutex::new(table::to_carry(segment).0),
        });
        let thread = (!interval.is_zero()).then(|| {
            let (shared, segment) = (Arc::clone(&shared), Arc::clone(segment));
            std::thread::Builder::new()
                .name("ringward-beat".into())
                .stack_size(128 << 10)
                .spawn(move || run(&shared, &segment, interval))
        });
        let thread = match thread {
            Some(Ok(thread)) => Some(thread),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot start the beat thread; this writer may pass for a stuck one");
                None
            }
            None => None,
        };
        Beat { shared, thread }
    }

    /// Whether the writer should look after its segment before the next push.
    #[inline(always)]
    pub(crate) fn alarmed(&self) -> bool {
        self.shared.alarm.load(Ordering::Relaxed)
    }

    /// Who read at the last beat.
    pub(crate) fn readers(&self) -> Vec<Carried> {
        self.shared.readers.lock().map(|readers| readers.clone()).unwrap_or_default()
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if let Ok(mut stop) = self.shared.stop.lock() {
            *stop = true;
        }
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, segment: &Arc<Segment>, interval: Duration) {
    let Ok(mut stop) = shared.stop.lock() else { return };
    while !*stop {
        writer::beat(segment, owner::wall_clock());
        let lost = segment.poisoned() || segment.links().is_ok_and(|links| links == 0) || segment.recheck().is_err();
        if lost {
            shared.alarm.store(true, Ordering::Relaxed);
        } else if let Ok(mut readers) = shared.readers.lock() {
            *readers = table::to_carry(segment).0;
        }
        stop = match shared.changed.wait_timeout_while(stop, interval, |stop| !*stop) {
            Ok((stop, _)) => stop,
            Err(_) => return,
        };
    }
}
