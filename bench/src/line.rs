//! The cache-line probe: one word goes to and fro between two processors, and nothing else happens.
//!
//! On a virtual machine the host moves the processors: for minutes they are *near*, then for minutes *far*, and everything
//! that hands over memory is several times slower. A figure counts only beside others of the same class.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::clock::{tick_length, ticks};
use crate::role::pin;

/// How far the processors are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A line's round trip takes less than [`FAR`] before and after the run.
    Near,
    /// It takes longer, before and after.
    Far,
    /// The two disagree, or a probe could not be made.
    Mixed,
}

/// From here on a line's round trip is far, in nanoseconds.
pub const FAR: f64 = 180.0;

impl Class {
    /// The class of a run between two probes (round trips in nanoseconds).
    pub fn of(before: f64, after: f64) -> Class {
        match (before < FAR, after < FAR) {
            (true, true) => Class::Near,
            (false, false) => Class::Far,
            _ => Class::Mixed,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Class::Near => "near",
            Class::Far => "far",
            Class::Mixed => "mixed",
        }
    }
}

#[repr(align(128))]
struct Line(AtomicU64);

/// Median and 99th percentile of a line's round trips between two processors, in nanoseconds. Takes some milliseconds.
///
/// # Errors
///
/// What pinning said.
pub fn probe(cpus: [usize; 2]) -> Result<[f64; 2]> {
    const TRIPS: u64 = 20_000;
    let line = Line(AtomicU64::new(0));
    let tick = tick_length();
    let mut samples = std::thread::scope(|scope| {
        let (there, line) = (cpus[1], &line);
        let answering = scope.spawn(move || -> Result<()> {
            pin(there)?;
            for trip in 0..TRIPS {
                while line.0.load(Ordering::Acquire) != 2 * trip + 1 {}
                line.0.store(2 * trip + 2, Ordering::Release);
            }
            Ok(())
        });
        let asking = scope.spawn(move || -> Result<Vec<u64>> {
            pin(cpus[0])?;
            let mut samples = Vec::with_capacity(TRIPS as usize);
            for trip in 0..TRIPS {
                let from = ticks();
                line.0.store(2 * trip + 1, Ordering::Release);
                while line.0.load(Ordering::Acquire) != 2 * trip + 2 {}
                samples.push(ticks() - from);
            }
            Ok(samples)
        });
        answering.join().map_err(|_| "the probe panicked")??;
        asking.join().map_err(|_| "the probe panicked")?
    })?;
    samples.sort_unstable();
    Ok([0.5, 0.99].map(|q| samples[(samples.len() as f64 * q) as usize] as f64 * tick))
}

/// The processor's name, as the kernel tells it.
pub fn processor() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.to_owned())
}
