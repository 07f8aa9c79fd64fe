//! What a sweep counts, operation by operation, and how it says so.

use std::time::Duration;

use serde_json::{Value, json};

use super::operation::Operation;
use crate::verdict::{Broken, Verdict};

/// Violations of an operation that are written out; more are only counted.
const MOST: usize = 20;

/// A sample: how many were tried of how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) done: u64,
    pub(crate) of: u64,
}

impl Share {
    fn percent(self) -> f64 {
        if self.of == 0 { 0.0 } else { 100.0 * self.done as f64 / self.of as f64 }
    }

    fn to_json(self) -> Value {
        json!({ "done": self.done, "of": self.of, "percent": self.percent() })
    }
}

/// What was found out about one operation.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    op: Operation,
    /// Instructions of it: points at which it was stopped.
    pub(crate) points: u64,
    /// Different addresses among them.
    pub(crate) addresses: u64,
    /// Crash states that were judged, by copy, of all modes.
    pub(crate) states: u64,
    /// Different images among them.
    pub(crate) images: u64,
    /// Subjects that were really killed, and whose remains were the copy's.
    pub(crate) kills: Share,
    /// What these took, from the first start to the last judgement.
    pub(crate) killing: Duration,
    /// Stops, of the points.
    pub(crate) stops: Share,
    /// Cuts under a living subject, of the points.
    pub(crate) cuts: Share,
    /// Failures of system calls, of all that there can be.
    pub(crate) errnos: Share,
    /// Among them: the process ended itself because it was refused memory.
    pub(crate) aborted: u64,
    /// Images that were cut after death.
    pub(crate) dead_cuts: u64,
    /// Pairs of crashes, of all that there are (estimated from the recoveries that were swept).
    pub(crate) pairs: Share,
    /// Recoveries that were swept, of the different images.
    pub(crate) recoveries: Share,
    /// First point at which the push in flight was found, if it ever was.
    pub(crate) present_from: Option<u64>,
    /// Over addresses and images, in order.
    pub(crate) digest: u64,
    /// There was nothing to be done in the modes that were asked for: no system call that could fail.
    pub(crate) idle: bool,
    pub(crate) violated: u64,
    violations: Vec<Value>,
    pub(crate) elapsed: Duration,
}

impl Row {
    pub(crate) fn new(op: Operation) -> Row {
        Row {
            op,
            points: 0,
            addresses: 0,
            states: 0,
            images: 0,
            kills: Share::default(),
            killing: Duration::ZERO,
            stops: Share::default(),
            cuts: Share::default(),
            errnos: Share::default(),
            aborted: 0,
            dead_cuts: 0,
            pairs: Share::default(),
            recoveries: Share::default(),
            present_from: None,
            digest: 0,
            idle: false,
            violated: 0,
            violations: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Books a violation at instruction `point`, which is at `site`.
    pub(crate) fn broke(&mut self, broken: Broken, what: &str, point: u64, site: &str) {
        self.violated += 1;
        if self.violations.len() < MOST {
            self.violations.push(json!({
                "operation": self.op.name(), "kind": broken.name(), "what": what, "point": point, "site": site,
            }));
        }
    }

    /// Mixes a number into the digest.
    pub(crate) fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    }

    /// All that was judged.
    pub(crate) fn judged(&self) -> u64 {
        self.states
            + self.kills.done
            + self.stops.done
            + self.cuts.done
            + self.errnos.done
            + self.dead_cuts
            + self.pairs.done
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{:<15} {:>6} {:>6} {:>7} {:>6} {:>6} {:>5} {:>5} {:>6} {:>8} {:>8} {:>6.2}% {:>4} {:>6.1}s  {:016x}",
            self.op.name(),
            self.points,
            self.addresses,
            self.states,
            self.images,
            self.kills.done,
            self.stops.done,
            self.cuts.done,
            self.errnos.done,
            self.dead_cuts,
            self.pairs.done,
            self.pairs.percent(),
            self.violated,
            self.elapsed.as_secs_f64(),
            self.digest,
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "operation": self.op.name(),
            "points": self.points,
            "addresses": self.addresses,
            "states": self.states,
            "images": self.images,
            "kills": self.kills.to_json(),
            "stops": self.stops.to_json(),
            "cuts": self.cuts.to_json(),
            "errnos": self.errnos.to_json(),
            "aborted": self.aborted,
            "dead_cuts": self.dead_cuts,
            "pairs": self.pairs.to_json(),
            "recoveries": self.recoveries.to_json(),
            "present_from": self.present_from,
            "digest": format!("{:016x}", self.digest),
            "violations": self.violated,
            "elapsed_s": self.elapsed.as_secs_f64(),
        })
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: Vec<Row>,
}

impl Tally {
    /// Titles of the columns of [`Row::line`].
    pub(crate) const HEAD: &str = "operation       points  addrs  states images  kills stops  cuts errnos deadcuts    pairs  of all viol    time  digest";

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn sum(&self, of: impl Fn(&Row) -> u64) -> u64 {
        self.rows.iter().map(of).sum()
    }

    /// Subjects really killed, recovered from and judged, in a second of the time that this took.
    fn cycles_per_s(&self) -> f64 {
        let seconds: f64 = self.rows.iter().map(|row| row.killing.as_secs_f64()).sum();
        if seconds > 0.0 { self.sum(|row| row.kills.done) as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.sum(|row| row.violated) > 0 {
            Verdict::Violation
        } else if self.sum(Row::judged) == 0 || self.rows.iter().any(|row| row.judged() == 0 && !row.idle) {
            Verdict::Inconclusive
        } else {
            Verdict::Held
        }
    }

    pub(crate) fn violations(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|row| &row.violations).map(|violation| {
            let text = |key: &str| violation[key].as_str().unwrap_or_default().to_owned();
            format!(
                "VIOLATION {} in {} at instruction {} ({}): {}",
                text("kind"),
                text("operation"),
                violation["point"],
                text("site"),
                text("what")
            )
        })
    }

    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let judged = self.sum(Row::judged);
        format!(
            "{} operations, {} instructions; {judged} states judged in {:.1} s ({:.0}/s), {} different images; {} real kills ({:.0}/s, each recovered from and judged), {} stops, {} cuts, {} failed system calls, {} pairs; {} violations",
            self.rows.len(),
            self.sum(|row| row.points),
            elapsed.as_secs_f64(),
            judged as f64 / elapsed.as_secs_f64().max(1e-9),
            self.sum(|row| row.images),
            self.sum(|row| row.kills.done),
            self.cycles_per_s(),
            self.sum(|row| row.stops.done),
            self.sum(|row| row.cuts.done + row.dead_cuts),
            self.sum(|row| row.errnos.done),
            self.sum(|row| row.pairs.done),
            self.sum(|row| row.violated),
        )
    }

    pub(crate) fn to_json(&self, elapsed: Duration) -> Value {
        let judged = self.sum(Row::judged);
        let violations: Vec<&Value> = self.rows.iter().flat_map(|row| &row.violations).collect();
        json!({
            "elapsed_s": elapsed.as_secs_f64(),
            "points": self.sum(|row| row.points),
            "judged": judged,
            "judged_per_s": judged as f64 / elapsed.as_secs_f64().max(1e-9),
            "images": self.sum(|row| row.images),
            "kills": self.sum(|row| row.kills.done),
            "cycles_per_s": (self.cycles_per_s() * 10.0).round() / 10.0,
            "stops": self.sum(|row| row.stops.done),
            "cuts": self.sum(|row| row.cuts.done + row.dead_cuts),
            "errnos": self.sum(|row| row.errnos.done),
            "pairs": self.sum(|row| row.pairs.done),
            "violated": self.sum(|row| row.violated),
            "violations": violations,
            "operations": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_judged_is_inconclusive_and_one_violation_is_one() {
        let mut tally = Tally::default();
        assert_eq!(tally.verdict(), Verdict::Inconclusive);
        let mut row = Row::new(Operation::Push);
        row.points = 100;
        tally.add(row.clone());
        assert_eq!(tally.verdict(), Verdict::Inconclusive, "counted is not judged");
        tally.rows.clear();
        row.states = 100;
        tally.add(row.clone());
        assert_eq!(tally.verdict(), Verdict::Held);
        let mut idle = Row::new(Operation::Close);
        idle.idle = true;
        tally.add(idle);
        assert_eq!(tally.verdict(), Verdict::Held, "an operation in which nothing can be done");
        tally.add(Row::new(Operation::Close));
        assert_eq!(tally.verdict(), Verdict::Inconclusive, "an operation of which nothing was judged");
        row.broke(Broken::Lost, "x", 3, "libc.so.6+0x10");
        tally.add(row);
        assert_eq!(tally.verdict(), Verdict::Violation);
        let text = tally.violations().next().unwrap();
        assert!(text.contains("lost in push at instruction 3 (libc.so.6+0x10)"), "{text}");
    }
}
