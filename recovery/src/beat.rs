//! The thread beside a writer: beats, notices that the segment was unlinked or damaged, remembers who reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use ringward_ring::canary;
use ringward_ring::memory::Memory;
use ringward_ring::segment::Segment;
use ringward_ring::sys::file::Trust;
use ringward_ring::table::{self, Carried};
use ringward_ring::writer;

use crate::chain;
use crate::namespace::ChannelDir;
use crate::owner;

#[derive(Debug)]
struct Shared {
    stop: Mutex<bool>,
    changed: Condvar,
    /// The segment is no longer what it was: the writer looks before its next push.
    alarm: AtomicBool,
    readers: Mutex<Vec<Carried>>,
}

/// From the first beat to the first chores.
const SETTLE: Duration = Duration::from_millis(2);

/// What a writer need not do before its first record: its thread does it at the first beat, and looks again at each.
#[derive(Debug)]
pub(crate) struct Chores {
    /// The channel's directory, whose drained generations are unlinked.
    pub(crate) dir: ChannelDir,
    /// Whose files are believed.
    pub(crate) trust: Trust,
    /// Whether data is overwritten before it is unlinked.
    pub(crate) wipe: bool,
    /// What is done with, and takes the kernel or another thread its time to give back.
    pub(crate) left: Leftovers,
}

/// Things to be dropped when there is time for it.
pub(crate) type Leftovers = Vec<Box<dyn Leftover>>;

/// One of them.
pub(crate) trait Leftover: Send + std::fmt::Debug {}

impl<T: Send + std::fmt::Debug> Leftover for T {}

impl Chores {
    fn run(&mut self) {
        self.left.clear();
        if self.dir.generations().is_ok_and(|numbers| numbers.len() > 1)
            && let Err(error) = chain::tidy(&self.dir, &self.trust, self.wipe)
        {
            tracing::debug!(%error, "tidying beside the writer");
        }
    }
}

/// What a beat thread is to do, for whom.
#[derive(Debug)]
struct Duty {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    interval: Duration,
    chores: Chores,
}

/// A beat thread that waits for its writer: a standby has it ready, because making a thread takes longer than an election.
/// Dropping it sends the thread home.
#[derive(Debug)]
pub(crate) struct Seat {
    give: mpsc::SyncSender<Duty>,
    thread: JoinHandle<()>,
}

impl Seat {
    /// Starts the thread; `None` if the system won't have one more now: it is then tried again when it is needed.
    pub(crate) fn take() -> Option<Seat> {
        let (give, duty) = mpsc::sync_channel::<Duty>(1);
        let body = move || {
            if let Ok(duty) = duty.recv() {
                run(duty);
            }
        };
        let thread = std::thread::Builder::new().name("ringward-beat".into()).stack_size(128 << 10).spawn(body);
        thread
            .inspect_err(|error| tracing::debug!(%error, "no beat thread in reserve"))
            .ok()
            .map(|thread| Seat { give, thread })
    }
}

/// A running beat thread; dropping it stops and joins it.
#[derive(Debug)]
pub(crate) struct Beat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    /// Starts to beat on `segment` every `interval`, on the thread of `seat` or a new one; zero promises no beats and starts no
    /// thread: the chores are done now.
    pub(crate) fn start(segment: &Arc<Segment>, interval: Duration, mut chores: Chores, seat: Option<Seat>) -> Beat {
        let shared = Arc::new(Shared {
            stop: Mutex::new(false),
            changed: Condvar::new(),
            alarm: AtomicBool::new(false),
            readers: Mutex::new(Vec::new()),
        });
        if interval.is_zero() {
            chores.run();
            if let Ok(mut readers) = shared.readers.lock() {
                *readers = table::to_carry(segment).0;
            }
            return Beat { shared, thread: None };
        }
        let duty = Duty { shared: Arc::clone(&shared), segment: Arc::clone(segment), interval, chores };
        let thread =
            seat.or_else(Seat::take).and_then(|Seat { give, thread }| give.send(duty).is_ok().then_some(thread));
        if thread.is_none() {
            tracing::warn!("cannot start the beat thread; this writer may pass for a stuck one");
        }
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

fn run(duty: Duty) {
    let Duty { shared, segment, interval, mut chores } = duty;
    let mut settled = false;
    // Rings at the standbys when this process dies, before the kernel has torn its memory down and dropped its locks.
    let _life = segment.hold_life().inspect_err(|error| tracing::debug!(%error, "no robust futex")).ok();
    let Ok(mut stop) = shared.stop.lock() else { return };
    while !*stop {
        writer::beat(&segment, owner::wall_clock());
        let lost = segment.poisoned() || segment.links().is_ok_and(|links| links == 0) || segment.recheck().is_err();
        if lost && !canary!("alarm-not-raised") {
            shared.alarm.store(true, Ordering::Relaxed);
        } else {
            let seen = table::to_carry(&segment).0;
            // Cut while it was looked at, the table reads as zeros: then what was seen before counts.
            if let Ok(mut readers) = shared.readers.lock()
                && !segment.poisoned()
            {
                *readers = seen;
            }
        }
        if !settled {
            // Readers are on their way over: what can wait does not take a processor from them.
            settled = true;
            match shared.changed.wait_timeout_while(stop, interval.min(SETTLE), |stop| !*stop) {
                Ok((again, _)) if !*again => stop = again,
                Ok(_) | Err(_) => return,
            }
        }
        drop(stop);
        chores.run();
        let Ok(again) = shared.stop.lock() else { return };
        stop = match shared.changed.wait_timeout_while(again, interval, |stop| !*stop) {
            Ok((stop, _)) => stop,
            Err(_) => return,
        };
    }
}
