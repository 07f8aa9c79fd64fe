//! The run's own watch: does everybody get on, does each segment have one owner, does nobody grow, is nothing left.

use std::collections::HashMap;
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringward_recovery::{Action, Namespace, Watchdog};
use serde_json::{Value, json};

use crate::engine::{locks, proc};
use crate::namespace::Which;
use crate::oracle::Progress;

/// Without any progress for so long, somebody hangs.
const HANG: Duration = Duration::from_secs(10);
/// From one look at the locks to the next.
const LOCKS_EVERY: Duration = Duration::from_millis(250);
/// From one count of descriptors and mappings to the next.
const COUNT_EVERY: Duration = Duration::from_millis(1000);
/// What may come and go: generations that are being drained, threads, arenas.
const SLACK: usize = 24;

/// Descriptors and mappings at one moment.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    fds: usize,
    maps: usize,
    rss: u64,
}

fn sizes(pid: i32) -> Option<Sizes> {
    Some(Sizes { fds: proc::fd_count(pid).ok()?, maps: proc::maps_count(pid).ok()?, rss: proc::rss(pid).ok()? })
}

/// Processor time since boot, all of it and what a host gave to others, in ticks: the first line of /proc/stat.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>);
    // The last two, of guests, are part of the first two.
    let times: Vec<u64> = fields.take(8).collect::<Result<_, _>>().ok()?;
    Some((times.iter().sum(), *times.get(7)?))
}

fn ticks_now() -> Option<(u64, u64)> {
    ticks(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// What the thread that looks at the locks has seen. It ends with the watch.
#[derive(Debug, Default)]
struct Locks {
    allowed: AtomicBool,
    readings: AtomicU64,
    doubled: Mutex<Vec<String>>,
}

impl Locks {
    fn start(namespace: PathBuf) -> Arc<Locks> {
        let locks = Arc::new(Locks::default());
        let shared = Arc::downgrade(&locks);
        std::thread::spawn(move || {
            let mut suspects = HashMap::new();
            while let Some(locks) = shared.upgrade() {
                if locks.allowed.load(Ordering::Relaxed) {
                    locks.read(&namespace, &mut suspects);
                }
                drop(locks);
                std::thread::sleep(LOCKS_EVERY);
            }
        });
        locks
    }

    fn read(&self, namespace: &std::path::Path, suspects: &mut HashMap<u64, u32>) {
        let Ok(locks) = locks::locks() else { return };
        self.readings.fetch_add(1, Ordering::Relaxed);
        let mut doubled = Vec::new();
        for which in Which::ALL {
            let Ok(entries) = std::fs::read_dir(namespace.join(which.name())) else { continue };
            for meta in entries.flatten().filter_map(|entry| entry.metadata().ok()) {
                if locks::holders(&locks, meta.st_dev(), meta.st_ino(), 0).write > 1 {
                    doubled.push(meta.st_ino());
                }
            }
        }
        let certain = in_a_row(suspects, &doubled);
        let told = certain.iter().map(|inode| format!("segment with inode {inode} has two exclusive owners"));
        if let Ok(mut all) = self.doubled.lock() {
            all.extend(told);
        }
    }
}

/// Readings in a row in which a segment must have two owners. The kernel lists locks by their place in a list that it lets go of
/// between two pages of text: one that is added at the front meanwhile makes the last of a page the first of the next one
/// too, so that any reading can show any lock twice.
const CERTAIN: u32 = 6;

/// Counts for how many readings in a row each of `doubled` has been seen; those that are certain with this one.
fn in_a_row(suspects: &mut HashMap<u64, u32>, doubled: &[u64]) -> Vec<u64> {
    suspects.retain(|inode, _| doubled.contains(inode));
    for inode in doubled {
        *suspects.entry(*inode).or_insert(0) += 1;
    }
    suspects.iter().filter(|(_, seen)| **seen == CERTAIN).map(|(inode, _)| *inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_and_what_is_not_there_is_not_made_up() {
        assert_eq!(ticks("cpu  10 1 5 80 2 0 1 4 3 0\ncpu0 9 9 9 9 9 9 9 9\n"), Some((103, 4)));
        assert_eq!(ticks("cpu  10 1 5 80\n"), None, "an old kernel");
        assert_eq!(ticks("intr 1\n"), None);
        assert!(ticks_now().is_some());
    }

    #[test]
    fn two_owners_are_certain_when_they_stay() {
        let mut suspects = HashMap::new();
        for _ in 1..CERTAIN {
            assert_eq!(in_a_row(&mut suspects, &[7]), [0; 0]);
        }
        assert_eq!(in_a_row(&mut suspects, &[7, 8]), [7]);
        assert_eq!(in_a_row(&mut suspects, &[7, 8]), [0; 0], "told once");
        for _ in 0..3 * CERTAIN {
            assert_eq!(in_a_row(&mut suspects, &[9]), [0; 0]);
            assert_eq!(in_a_row(&mut suspects, &[]), [0; 0], "gone in between: one reading's mistake");
        }
    }
}

/// The watch.
#[derive(Debug)]
pub(crate) struct Watch {
    /// For each reader of the storm: what it got next when it last moved, and when that was.
    moved: HashMap<u32, (u64, Instant)>,
    tail: (u64, Instant),
    locks: Arc<Locks>,
    counted: Instant,
    witness: Option<i32>,
    witnessed: Vec<Sizes>,
    own: Vec<Sizes>,
    /// At the beginning.
    ticks: Option<(u64, u64)>,
}

impl Watch {
    pub(crate) fn new(namespace: PathBuf) -> Watch {
        let now = Instant::now();
        Watch {
            moved: HashMap::new(),
            tail: (0, now),
            locks: Locks::start(namespace),
            counted: now,
            witness: None,
            witnessed: Vec::new(),
            own: Vec::new(),
            ticks: ticks_now(),
        }
    }

    /// Percent of the processors' time that a host has given to others since the run began. `None`: nobody knows.
    pub(crate) fn stolen(&self) -> Option<f64> {
        let ((before, stolen_before), (all, stolen)) = (self.ticks?, ticks_now()?);
        let share =
            stolen.checked_sub(stolen_before)? as f64 / all.checked_sub(before).filter(|ticks| *ticks > 0)? as f64;
        Some((share * 1000.0).round() / 10.0)
    }

    /// `pid` lives through the whole run: it must not grow.
    pub(crate) fn witness(&mut self, pid: i32) {
        self.witness = Some(pid);
    }

    pub(crate) fn gone(&mut self, pid: i32) {
        if self.witness == Some(pid) {
            self.witness = None;
        }
    }

    /// Says who hangs, if somebody does.
    pub(crate) fn look(&mut self, now: Instant, progress: &[Progress; 2], pids: &[(u32, i32)]) -> Option<String> {
        if now.duration_since(self.counted) >= COUNT_EVERY {
            self.counted = now;
            self.own.extend(sizes(std::process::id() as i32));
            if let Some(pid) = self.witness {
                self.witnessed.extend(sizes(pid));
            }
        }
        let storm = &progress[Which::Storm as usize];
        if storm.tail != self.tail.0 {
            self.tail = (storm.tail, now);
        }
        let stacks = || pids.iter().map(|(id, pid)| format!("\nworker {id}{}", stack(*pid))).collect::<String>();
        if now.duration_since(self.tail.1) > HANG {
            self.tail.1 = now;
            return Some(format!("no record was published for {HANG:?}, generation {}{}", storm.generation, stacks()));
        }
        self.moved.retain(|worker, _| storm.readers.iter().any(|(reader, _)| reader == worker));
        for &(worker, next) in &storm.readers {
            let moved = self.moved.entry(worker).or_insert((next, now));
            if moved.0 != next || next >= storm.tail {
                *moved = (next, now);
            } else if now.duration_since(moved.1) > HANG {
                moved.1 = now;
                return Some(format!(
                    "reader {worker} stands at {next} for {HANG:?}, there are {}{}",
                    storm.tail,
                    stacks()
                ));
            }
        }
        None
    }

    /// Segments that had more than one exclusive owner, in two readings in a row.
    pub(crate) fn double_owners(&mut self) -> Vec<String> {
        self.locks.doubled.lock().map(|mut doubled| std::mem::take(&mut *doubled)).unwrap_or_default()
    }

    /// Whether locks may be looked at: each look makes the kernel hold up everybody's locks for a moment.
    pub(crate) fn look_at_locks(&self, allowed: bool) {
        self.locks.allowed.store(allowed, Ordering::Relaxed);
    }

    /// The last count before the workers go home.
    pub(crate) fn before_the_end(&mut self) {
        self.own.extend(sizes(std::process::id() as i32));
    }

    /// Who has grown: the least of the last quarter against the most of the first.
    pub(crate) fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (who, sizes) in [("the controller", &self.own), ("the reader that lives on", &self.witnessed)] {
            let quarter = sizes.len() / 4;
            if quarter == 0 {
                continue;
            }
            let (first, last) = (&sizes[..quarter], &sizes[sizes.len() - quarter..]);
            for (what, of) in
                [("descriptors", |s: &Sizes| s.fds), ("mappings", |s: &Sizes| s.maps)] as [(_, fn(&Sizes) -> usize); 2]
            {
                let before = first.iter().map(of).max().unwrap_or(0);
                let after = last.iter().map(of).min().unwrap_or(0);
                if after > before + SLACK {
                    grown.push(format!("{who}: {before} {what} at first, {after} at last"));
                }
            }
        }
        grown
    }

    pub(crate) fn to_json(&self) -> Value {
        let show = |sizes: &[Sizes]| {
            let one = |s: Option<&Sizes>| s.map(|s| json!({ "fds": s.fds, "maps": s.maps, "rss_kib": s.rss / 1024 }));
            json!({ "first": one(sizes.first()), "last": one(sizes.last()) })
        };
        json!({
            "controller": show(&self.own),
            "witness": show(&self.witnessed),
            "lock_readings": self.locks.readings.load(Ordering::Relaxed),
            "stolen_percent": self.stolen(),
        })
    }
}

/// Where a process is in the kernel, as far as that can be seen.
pub(crate) fn stack(pid: i32) -> String {
    let mut text = format!(" pid {pid}:");
    for file in ["wchan", "syscall", "stack"] {
        if let Ok(found) = std::fs::read_to_string(format!("/proc/{pid}/{file}")) {
            text.push_str(&format!(" {file}={}", found.trim().replace('\n', " | ")));
        }
    }
    if let Ok(state) = proc::state(pid) {
        text.push_str(&format!(" state={}", state.0));
    }
    text
}

/// One look of a watchdog with no grace; then nothing may be there.
pub(crate) fn sweep(namespace: &Namespace, left: &mut Vec<String>) -> Value {
    let mut watchdog = Watchdog::builder(namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
    let report = watchdog.tick();
    let notices: Vec<String> = report.notices.iter().map(|notice| format!("{notice:?}")).collect();
    if let Some(error) = &report.error {
        left.push(format!("the watchdog could not look: {error}"));
    }
    let entries = std::fs::read_dir(namespace.path()).into_iter().flatten().flatten();
    for entry in entries {
        let inside = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let inside: Vec<String> = inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.push(format!("{}: {inside:?}; the watchdog said {notices:?}", entry.file_name().display()));
    }
    json!({ "births": report.births, "drained": report.drained, "notices": notices })
}
