//! From lines to medians: what stands in a table's cell.

use std::collections::BTreeSet;

use crate::harness::Line;
use crate::line::Class;

/// Median of some runs, with the least and the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Median {
    /// Median.
    pub mid: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
    /// Runs.
    pub runs: usize,
    /// Some of them were disturbed: there were no others.
    pub noisy: bool,
}

/// The median over the undisturbed runs of one cell in one class; over all of them, and marked, if there are none.
pub fn median(
    lines: &[Line],
    work: &str,
    size: usize,
    count: u64,
    peer: &str,
    class: Class,
    key: &str,
) -> Option<Median> {
    let of_cell = lines.iter().filter(|line| {
        line.work == work && line.size == size && line.count == count && line.peer == peer && line.class == class
    });
    let values = |noisy: bool| {
        let kept = of_cell.clone().filter(move |line| line.noisy() == noisy);
        kept.filter_map(|line| line.values.get(key)?.as_f64()).collect::<Vec<_>>()
    };
    let quiet = values(false);
    let noisy = quiet.is_empty();
    let mut all = if noisy { values(true) } else { quiet };
    all.sort_by(f64::total_cmp);
    let (min, max) = (*all.first()?, *all.last()?);
    let mid = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
    Some(Median { mid, min, max, runs: all.len(), noisy })
}

/// Peers of a work, in the order of their first lines.
pub fn peers(lines: &[Line], work: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    lines
        .iter()
        .filter(|line| line.work == work)
        .map(|line| line.peer.clone())
        .filter(|p| seen.insert(p.clone()))
        .collect()
}

/// Sizes of a work, ascending.
pub fn sizes(lines: &[Line], work: &str) -> Vec<usize> {
    let all: BTreeSet<_> = lines.iter().filter(|line| line.work == work).map(|line| line.size).collect();
    all.into_iter().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn line(peer: &str, class: Class, foreign: f64, rate: f64) -> Line {
        let values = json!({ "rate": rate }).as_object().cloned().unwrap_or_default();
        let (work, error) = ("flow".into(), None);
        Line {
            work,
            peer: peer.into(),
            size: 8,
            count: 0,
            round: 0,
            class,
            before_ns: 1.0,
            after_ns: 1.0,
            foreign,
            values,
            error,
        }
    }

    #[test]
    fn classes_are_kept_apart_and_disturbed_runs_left_out() {
        let lines = [
            line("a", Class::Near, 0.0, 1.0),
            line("a", Class::Near, 0.0, 3.0),
            line("a", Class::Near, 0.5, 100.0),
            line("a", Class::Far, 0.5, 7.0),
            line("b", Class::Near, 0.0, 50.0),
        ];
        let near = median(&lines, "flow", 8, 0, "a", Class::Near, "rate").expect("two runs");
        assert_eq!(near, Median { mid: 2.0, min: 1.0, max: 3.0, runs: 2, noisy: false });
        let far = median(&lines, "flow", 8, 0, "a", Class::Far, "rate").expect("one run");
        assert_eq!((far.mid, far.noisy), (7.0, true));
        assert_eq!(median(&lines, "flow", 8, 0, "a", Class::Mixed, "rate"), None);
        assert_eq!(peers(&lines, "flow"), ["a", "b"]);
    }
}
