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
}

impl Quantiles {
    pub(crate) fn add(&mut self, ns: u64) {
        self.seen += 1;
        self.max = self.max.max(ns);
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
    }
}
