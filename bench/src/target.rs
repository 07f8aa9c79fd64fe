//! What was promised beside what was measured: ratios within one class, of medians of interleaved runs.

use crate::harness::Line;
use crate::line::Class;
use crate::page::{bytes, short, table};
use crate::summary::Pick;

/// Peers that carry records between two processes and were written for speed: the rivals.
const RIVALS: [&str; 4] = ["aeron", "shaq", "iceoryx2", "shmem-ipc"];

/// One promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What is compared.
    pub what: String,
    /// Class, or what stands for it.
    pub class: &'static str,
    /// Our figure over theirs.
    pub ratio: f64,
    /// What was promised, in words.
    pub promise: String,
    /// Whether the ratio keeps it.
    pub met: bool,
}

/// Whether a ratio has to be at least or at most so much.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Least(f64),
    Most(f64),
}

impl Bound {
    fn met(self, ratio: f64) -> bool {
        match self {
            Bound::Least(bound) => ratio >= bound,
            Bound::Most(bound) => ratio <= bound,
        }
    }

    fn say(self, of: &str) -> String {
        match self {
            Bound::Least(bound) => format!("≥ {bound} × {of}"),
            Bound::Most(bound) => format!("≤ {bound} × {of}"),
        }
    }
}

/// The best of some peers in a pick: its name and figure.
fn best(lines: &[Line], pick: Pick<'_>, peers: &[&'static str], higher: bool) -> Option<(&'static str, f64)> {
    let all = peers.iter().filter_map(|peer| Some((*peer, pick.median(lines, peer)?.mid)));
    if higher { all.max_by(|a, b| a.1.total_cmp(&b.1)) } else { all.min_by(|a, b| a.1.total_cmp(&b.1)) }
}

/// All promises that the lines say something about.
pub fn outcomes(lines: &[Line]) -> Vec<Outcome> {
    let mut all = Vec::new();
    let mut judge = |what: String, class, ours: Option<f64>, theirs: Option<(&str, f64)>, bound: Bound| {
        if let (Some(ours), Some((name, theirs))) = (ours, theirs) {
            let ratio = ours / theirs;
            all.push(Outcome { what, class, ratio, promise: bound.say(name), met: bound.met(ratio) });
        }
    };
    for class in Class::APART {
        let name = class.name();
        let ours = |pick: Pick<'_>, peer| pick.median(lines, peer).map(|median| median.mid);
        let trip = Pick::of("trip", "p50_ns").class(class);
        let quick = ["aeron", "shaq"];
        judge(
            "64 B round trip, p50".into(),
            name,
            ours(trip, "ringward"),
            best(lines, trip, &quick, false),
            Bound::Most(1.0),
        );
        let probes: Vec<f64> =
            lines.iter().filter(|line| line.work == "trip" && line.class == class).map(|line| line.before_ns).collect();
        let floor = (!probes.is_empty()).then(|| ("the line's", probes.iter().sum::<f64>() / probes.len() as f64));
        judge("64 B round trip, p50".into(), name, ours(trip, "ringward"), floor, Bound::Most(2.0));
        let tail = Pick::of("trip", "p999_ns").class(class);
        judge(
            "64 B round trip, p99.9".into(),
            name,
            ours(tail, "ringward"),
            best(lines, tail, &["aeron"], false),
            Bound::Most(1.0),
        );
        for (size, peer, bound) in [
            (8, "ringward", 1.2),
            (64, "ringward", 1.2),
            (256, "ringward", 1.2),
            (1 << 10, "ringward", 1.2),
            (64 << 10, "ringward", 0.8),
            (64 << 10, "ringward-header", 1.0),
            (1 << 20, "ringward", 0.8),
            (1 << 20, "ringward-header", 1.0),
        ] {
            let flow = Pick::of("flow", "rate").class(class).size(size);
            let what = format!("one way, {}, {peer}", bytes(size));
            judge(what, name, ours(flow, peer), best(lines, flow, &RIVALS, true), Bound::Least(bound));
        }
        let lend = Pick::of("lend", "rate").class(class);
        judge(
            "in place, 1 MiB".into(),
            name,
            ours(lend, "ringward-header"),
            best(lines, lend, &["iceoryx2"], true),
            Bound::Least(5.0),
        );
        let fan = Pick::of("fan", "rate_1").class(class).size(1 << 10);
        let one = ours(fan.count(1), "ringward").map(|rate| ("one reader's", rate));
        judge("each of 8 readers, 1 KiB".into(), name, ours(fan.count(8), "ringward"), one, Bound::Least(0.7));
        let rings = ours(fan.count(8), "textbook").map(|rate| ("8 separate rings'", rate));
        judge("each of 8 readers, 1 KiB".into(), name, ours(fan.count(8), "ringward"), rings, Bound::Least(1.0));
        let wake = Pick::of("wake", "p50_ns").class(class);
        judge(
            "wake-up round trip, p50".into(),
            name,
            ours(wake, "ringward"),
            best(lines, wake, &["futex"], false),
            Bound::Most(1.1),
        );
    }
    let failover = Pick::of("failover", "p50_us");
    for capacity in failover.all(lines, |line| line.capacity) {
        let at =
            |key| Pick::of("failover", key).capacity(capacity).median(lines, "ringward-own").map(|median| median.mid);
        let what = format!("failover at {}, p50", bytes(capacity as usize));
        judge(what, "all", at("p50_us"), at("floor_p50_us").map(|floor| ("a bare lock's", floor)), Bound::Most(2.0));
    }
    all
}

/// The table of promises.
pub fn page(lines: &[Line]) -> String {
    let rows = outcomes(lines).into_iter().map(|found| {
        let met = if found.met { "yes" } else { "**no**" };
        vec![found.what, found.class.to_owned(), found.promise, format!("{} ×", short(found.ratio)), met.to_owned()]
    });
    let head = ["what", "processors", "promised", "measured", "kept"].map(String::from);
    table("What was promised, and what was measured", &head, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::line;

    #[test]
    fn a_promise_is_judged_against_the_best_rival_of_its_class() {
        let found = outcomes(&[
            line("ringward", Class::Near, 0.0, 100.0),
            line("shaq", Class::Near, 0.0, 80.0),
            line("aeron", Class::Near, 0.0, 90.0),
            line("aeron", Class::Far, 0.0, 500.0),
            line("rtrb", Class::Near, 0.0, 900.0),
        ]);
        let [only] = &found[..] else { panic!("{found:?}") };
        assert_eq!((only.met, only.promise.as_str(), only.class), (false, "≥ 1.2 × aeron", "near"));
        assert!((only.ratio - 100.0 / 90.0).abs() < 1e-9);
        let kept = outcomes(&[line("ringward", Class::Far, 0.0, 120.0), line("aeron", Class::Far, 0.0, 100.0)]);
        assert!(kept[0].met);
    }
}
