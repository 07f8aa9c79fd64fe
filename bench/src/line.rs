//! The cache-line probe: one word goes to and fro between two processors, and nothing else happens.
//!
//! On a virtual machine the host moves the processors: for a while they are two threads of one core, for minutes *near*, then for minutes *far*,
//! and what hands over memory costs several times more or less. A figure counts only beside others of the same class.

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
    /// A line's round trip takes less than [`NEAR`] before and after the run: they are two threads of one core, which share all that it has.
    Smt,
    /// It takes less than [`FAR`], before and after.
    Near,
    /// It takes longer, before and after.
    Far,
    /// The two disagree, or a probe could not be made.
    Mixed,
}

/// From here on a line's round trip is that of two cores, in nanoseconds. (Here: 31 to 37 on one core, 68 to 100 on two.)
pub const NEAR: f64 = 52.0;
/// From here on it is far, in nanoseconds. (Here: 390 to 570.)
pub const FAR: f64 = 180.0;

impl Class {
    /// The classes whose figures are shown, each apart.
    pub const APART: [Class; 3] = [Class::Smt, Class::Near, Class::Far];

    /// The class of a run between two probes (round trips in nanoseconds).
    pub fn of(before: f64, after: f64) -> Class {
        let one = |trip: f64| match trip {
            trip if trip < NEAR => Class::Smt,
            trip if trip < FAR => Class::Near,
            trip if trip >= FAR => Class::Far,
            _ => Class::Mixed,
        };
        if one(before) == one(after) { one(before) } else { Class::Mixed }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Class::Smt => "smt",
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
                while line.0.load(Ordering::Acquire) != 2 * trip + 1 {
                    std::hint::spin_loop();
                }
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
                while line.0.load(Ordering::Acquire) != 2 * trip + 2 {
                    std::hint::spin_loop();
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_of_a_class_only_if_both_probes_say_so() {
        assert_eq!(Class::of(33.0, 36.0), Class::Smt);
        assert_eq!(Class::of(80.0, 99.0), Class::Near);
        assert_eq!(Class::of(470.0, 980.0), Class::Far);
        for (before, after) in
            [(33.0, 80.0), (80.0, 33.0), (80.0, 470.0), (470.0, 33.0), (f64::NAN, f64::NAN), (80.0, f64::NAN)]
        {
            assert_eq!(Class::of(before, after), Class::Mixed, "{before} and {after}");
        }
        assert_eq!([Class::of(NEAR, NEAR), Class::of(FAR, FAR)], [Class::Near, Class::Far]);
    }
}
