//! Quantiles of what was measured.

use serde_json::{Value, json};

/// How many samples are kept; beyond that, each stands for its share (reservoir).
const KEEP: usize = 200_000;

/// Samples in nanoseconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Quantiles {
    samples: Vec<u64>,
    seen: u64,
    max: u64,
    /// Those since somebody last asked for them, a few thousand at most.
    recent: Vec<u64>,
}

/// Samples since the last look that are kept.
const RECENT: usize = 4096;

impl Quantiles {
    pub(crate) fn add(&mut self, ns: u64) {
        self.seen += 1;
        self.max = self.max.max(ns);
        if self.recent.len() < RECENT {
            self.recent.push(ns);
        }
        if self.samples.len() < KEEP {
            self.samples.push(ns);
        } else {
            let at = crate::payload::Dice(self.seen).below(self.seen) as usize;
            if at < KEEP {
                self.samples[at] = ns;
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> u64 {
        self.seen
    }

    /// The quantile `q`, in nanoseconds; 0 without samples.
    pub(crate) fn at(&self, q: f64) -> u64 {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Median of what came since the last call, in nanoseconds.
    pub(crate) fn recent_median(&mut self) -> Option<u64> {
        let mut recent = std::mem::take(&mut self.recent);
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied()
    }

    /// How many are at most so many microseconds long, and longer than half of that: for each power of two from the first
    /// that has some to the last.
    pub(crate) fn histogram(&self) -> Vec<(u64, u64)> {
        let mut counts = [0_u64; 64];
        for ns in &self.samples {
            counts[(ns / 1000).max(1).next_power_of_two().trailing_zeros() as usize] += 1;
        }
        let some = |at: &usize| counts[*at] > 0;
        let (first, last) = ((0..64).find(some), (0..64).rfind(some));
        first.zip(last).map_or(Vec::new(), |(first, last)| (first..=last).map(|at| (1 << at, counts[at])).collect())
    }

    /// As [`to_json`](Self::to_json), with the histogram.
    pub(crate) fn to_json_in_full(&self) -> Value {
        let mut value = self.to_json();
        value["histogram"] = json!(self.histogram());
        value
    }

    /// As microseconds, for the report.
    pub(crate) fn to_json(&self) -> Value {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        json!({ "samples": self.seen, "p50": us(self.at(0.5)), "p99": us(self.at(0.99)), "max": us(self.max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_right() {
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.at(0.5), 0);
        (1..=100).rev().for_each(|n| quantiles.add(n * 1000));
        assert_eq!((quantiles.at(0.5), quantiles.at(0.99), quantiles.at(1.0)), (50_000, 99_000, 100_000));
        assert_eq!(quantiles.to_json()["p99"], 99.0);
        assert_eq!(quantiles.count(), 100);
        assert_eq!(quantiles.histogram(), [(1, 1), (2, 1), (4, 2), (8, 4), (16, 8), (32, 16), (64, 32), (128, 36)]);
        assert_eq!(quantiles.recent_median(), Some(51_000));
        assert_eq!(quantiles.recent_median(), None);
    }
}
