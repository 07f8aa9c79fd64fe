//! The bench: a thread that reads the ledger as it is written, and judges.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::decode::Corpse;
use crate::failover;
use crate::ledger::{Entry, Kind, Scroll};
use crate::namespace::Which;
use crate::oracle::{Oracle, Progress};
use crate::quantiles::Quantiles;
use crate::verdict::{Broken, Counts, Violation};

/// Entries that are kept, for whoever looks for the cause of a violation.
const TAIL: usize = 8192;

#[derive(Debug)]
struct Judges {
    oracles: [Oracle; 2],
    floor: Quantiles,
    /// Floor samples: waiter's worker, when the holder was killed, when the waiter woke.
    begun: HashMap<u32, u64>,
    woken: HashMap<u32, u64>,
    tail: VecDeque<Entry>,
    /// Violations that the ledger does not show.
    others: Vec<Violation>,
    /// No entry is kept once something is wrong for a while: the tail then shows what led to it.
    after: usize,
}

/// A way to the bench from other threads.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    judges: Arc<Mutex<Judges>>,
    violated: Arc<AtomicU64>,
}

impl Judge {
    /// Adds a violation that the ledger does not show.
    pub(crate) fn flag(&self, broken: Broken, what: &str) {
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        judges.others.push(Violation { broken, what: what.to_owned() });
        self.violated.store(judges.violated(), Ordering::Relaxed);
    }

    /// Holds a dead generation's bytes against the ledger.
    pub(crate) fn inspect(&self, which: Which, corpse: &Corpse) {
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        judges.oracles[which as usize].inspect(corpse);
        self.violated.store(judges.violated(), Ordering::Relaxed);
    }
}

/// The bench, seen from the controlling thread.
#[derive(Debug)]
pub(crate) struct Bench {
    judges: Arc<Mutex<Judges>>,
    violated: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    /// Begins to judge what comes out of `ledger`; the storm's rings hold `capacity` bytes.
    pub(crate) fn start(ledger: File, capacity: u64) -> Bench {
        let judges = Judges {
            oracles: [
                Oracle::new(Which::Storm.name(), capacity),
                Oracle::new(Which::Failover.name(), failover::CAPACITY),
            ],
            floor: Quantiles::default(),
            begun: HashMap::new(),
            woken: HashMap::new(),
            tail: VecDeque::new(),
            others: Vec::new(),
            after: 0,
        };
        let judges = Arc::new(Mutex::new(judges));
        let violated = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (judges, violated, stop) = (Arc::clone(&judges), Arc::clone(&violated), Arc::clone(&stop));
            std::thread::spawn(move || judge(Scroll::new(ledger), &judges, &violated, &stop))
        };
        Bench { judges, violated, stop, thread: Some(thread) }
    }

    fn judges(&self) -> MutexGuard<'_, Judges> {
        self.judges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A way to it for another thread.
    pub(crate) fn judge(&self) -> Judge {
        Judge { judges: Arc::clone(&self.judges), violated: Arc::clone(&self.violated) }
    }

    /// Adds a violation that the ledger does not show.
    pub(crate) fn flag(&self, broken: Broken, what: &str) {
        self.judge().flag(broken, what);
    }

    /// How many violations there are.
    pub(crate) fn violated(&self) -> u64 {
        self.violated.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> [Progress; 2] {
        let judges = self.judges();
        [judges.oracles[0].progress(), judges.oracles[1].progress()]
    }

    /// Both channels' counts together.
    pub(crate) fn counts(&self) -> Counts {
        let judges = self.judges();
        let mut counts = judges.oracles[0].counts;
        counts.add(&judges.oracles[1].counts);
        counts
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        let judges = self.judges();
        let ledger = judges.oracles.iter().flat_map(|oracle| oracle.violations.iter());
        ledger.chain(&judges.others).cloned().collect()
    }

    /// Take-overs on the quiet channel, elections alone, take-overs in the storm, the floor.
    pub(crate) fn timings(&self) -> [Quantiles; 4] {
        let judges = self.judges();
        let [storm, quiet] = &judges.oracles;
        [quiet.recovery.clone(), quiet.election.clone(), storm.recovery.clone(), judges.floor.clone()]
    }

    /// Median of the storm's take-overs since the last call, in nanoseconds.
    pub(crate) fn recent_recovery(&self) -> Option<u64> {
        self.judges().oracles[0].recovery.recent_median()
    }

    /// The holder of the lock that `waiter` is parked on was killed at `ns`.
    pub(crate) fn floor_begins(&self, waiter: u32, ns: u64) {
        self.judges().floor_begins(waiter, ns);
    }

    /// The last entries, as text.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.judges().tail.iter().map(|entry| format!("{entry:?}")).collect()
    }

    /// All ends of the ledger that are written to are closed, but for those of processes that are gone: reads the rest, and
    /// concludes.
    pub(crate) fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.flag(Broken::Failed, "the judging thread panicked");
        }
        let mut judges = self.judges();
        judges.oracles.iter_mut().for_each(Oracle::finish);
        let violated = judges.violated();
        drop(judges);
        self.violated.store(violated, Ordering::Relaxed);
    }
}

impl Judges {
    fn violated(&self) -> u64 {
        self.oracles.iter().map(|oracle| oracle.violated).sum::<u64>() + self.others.len() as u64
    }

    fn floor_begins(&mut self, waiter: u32, ns: u64) {
        match self.woken.remove(&waiter) {
            Some(woke) => self.floor.add(woke.saturating_sub(ns)),
            None => drop(self.begun.insert(waiter, ns)),
        }
    }

    fn take(&mut self, entry: &Entry) {
        if self.after < TAIL / 4 {
            self.tail.push_back(*entry);
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
        }
        if entry.kind == Kind::Woke {
            match self.begun.remove(&entry.worker) {
                Some(killed) => self.floor.add(entry.ns.saturating_sub(killed)),
                None => drop(self.woken.insert(entry.worker, entry.ns)),
            }
            return;
        }
        self.oracles[Which::from_number(entry.channel) as usize].take(entry);
        if self.violated() > 0 {
            self.after += 1;
        }
    }
}

fn judge(mut scroll: Scroll, judges: &Mutex<Judges>, violated: &AtomicU64, stop: &AtomicBool) {
    loop {
        let ending = stop.load(Ordering::Relaxed);
        let mut batch = Vec::new();
        let more = scroll.read(if ending { 0 } else { 100 }, |entry| batch.push(entry));
        let mut judges = judges.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &batch {
            judges.take(entry);
        }
        violated.store(judges.violated(), Ordering::Relaxed);
        match more {
            Ok(true) if !(ending && batch.is_empty()) => {}
            _ => return,
        }
    }
}
