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

/// Which runs are put together, and which of their figures.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// Work.
    pub work: &'a str,
    /// Bytes of a payload; any if `None`.
    pub size: Option<usize>,
    /// What the work counts; anything if `None`.
    pub count: Option<u64>,
    /// Bytes of the ring; any if `None`.
    pub capacity: Option<u64>,
    /// Class; any if `None`.
    pub class: Option<Class>,
    /// Name of the figure.
    pub key: &'a str,
}

impl<'a> Pick<'a> {
    /// All runs of a work.
    pub fn of(work: &'a str, key: &'a str) -> Pick<'a> {
        Pick { work, size: None, count: None, capacity: None, class: None, key }
    }

    /// Only those in one class.
    #[must_use]
    pub fn class(self, class: Class) -> Self {
        Pick { class: Some(class), ..self }
    }

    /// Only those with payloads of one size.
    #[must_use]
    pub fn size(self, size: usize) -> Self {
        Pick { size: Some(size), ..self }
    }

    /// Only those with one count.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        Pick { count: Some(count), ..self }
    }

    /// Only those with rings of one size.
    #[must_use]
    pub fn capacity(self, capacity: u64) -> Self {
        Pick { capacity: Some(capacity), ..self }
    }

    fn takes(&self, line: &Line) -> bool {
        line.work == self.work
            && self.size.is_none_or(|size| size == line.size)
            && self.count.is_none_or(|count| count == line.count)
            && self.capacity.is_none_or(|capacity| capacity == line.capacity)
            && self.class.is_none_or(|class| class == line.class)
    }

    /// The median over a peer's undisturbed runs; over all of them, and marked, if there are none.
    pub fn median(&self, lines: &[Line], peer: &str) -> Option<Median> {
        let of_cell = lines.iter().filter(|line| line.peer == peer && self.takes(line));
        let values = |noisy: bool| {
            let kept = of_cell.clone().filter(move |line| line.noisy() == noisy);
            kept.filter_map(|line| line.values.get(self.key)?.as_f64()).collect::<Vec<_>>()
        };
        let quiet = values(false);
        let noisy = quiet.is_empty();
        let mut all = if noisy { values(true) } else { quiet };
        all.sort_by(f64::total_cmp);
        let (min, max) = (*all.first()?, *all.last()?);
        let mid = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
        Some(Median { mid, min, max, runs: all.len(), noisy })
    }

    /// Peers that have such runs, in the order of their first ones.
    pub fn peers(&self, lines: &[Line]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = lines.iter().filter(|line| self.takes(line)).map(|line| line.peer.clone());
        all.filter(|peer| seen.insert(peer.clone())).collect()
    }

    /// What `of` says of such runs, each once, ascending.
    pub fn all<T: Ord>(&self, lines: &[Line], of: impl Fn(&Line) -> T) -> Vec<T> {
        let all: BTreeSet<_> = lines.iter().filter(|line| self.takes(line)).map(of).collect();
        all.into_iter().collect()
    }
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
            capacity: 4096,
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
        let rates = Pick::of("flow", "rate");
        let near = rates.class(Class::Near).median(&lines, "a").expect("two runs");
        assert_eq!(near, Median { mid: 2.0, min: 1.0, max: 3.0, runs: 2, noisy: false });
        let far = rates.class(Class::Far).median(&lines, "a").expect("one run");
        assert_eq!((far.mid, far.noisy), (7.0, true));
        assert_eq!(rates.class(Class::Mixed).median(&lines, "a"), None);
        assert_eq!(rates.size(9).median(&lines, "a"), None);
        assert_eq!(rates.capacity(4097).median(&lines, "a"), None);
        assert_eq!(rates.median(&lines, "a").expect("all").runs, 2);
        assert_eq!(rates.peers(&lines), ["a", "b"]);
        assert_eq!(rates.all(&lines, |line| line.size), [8]);
    }
}
