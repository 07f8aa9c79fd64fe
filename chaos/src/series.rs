//! Figures over time, for plots. However long a run is, there are only so many points.

use serde_json::{Value, json};

/// Points that are kept; beyond, every other one goes.
const MOST: usize = 600;

/// One moment; counts are totals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Seconds since the run began.
    pub(crate) t: f64,
    pub(crate) kills: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) faults: u64,
    /// Median of the take-overs since the point before, in nanoseconds.
    pub(crate) recovery: Option<u64>,
}

/// The points.
#[derive(Debug, Default)]
pub(crate) struct Series {
    points: Vec<Point>,
    /// One in so many is kept.
    every: usize,
    since: usize,
}

impl Series {
    pub(crate) fn add(&mut self, point: Point) {
        self.every = self.every.max(1);
        self.since += 1;
        if self.since < self.every {
            return;
        }
        self.since = 0;
        self.points.push(point);
        if self.points.len() >= MOST {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            self.every *= 2;
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let point = |p: &Point| {
            json!({
                "t_s": (p.t * 100.0).round() / 100.0,
                "kills": p.kills,
                "acknowledged": p.acknowledged,
                "delivered": p.delivered,
                "faults": p.faults,
                "recovery_us": p.recovery.map(|ns| (ns as f64 / 100.0).round() / 10.0),
            })
        };
        self.points.iter().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_has_no_more_points_than_an_hour() {
        let mut series = Series::default();
        for second in 0..36_000_u32 {
            let t = f64::from(second);
            series.add(Point { t, kills: 0, acknowledged: 0, delivered: 0, faults: 0, recovery: None });
        }
        assert!((MOST / 2..=MOST).contains(&series.points.len()), "{}", series.points.len());
        assert!(series.points.is_sorted_by(|a, b| a.t < b.t));
        assert!(series.points[series.points.len() - 1].t > 35_000.0);
    }
}
