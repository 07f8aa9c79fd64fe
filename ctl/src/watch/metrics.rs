//! The metrics, in the text format that Prometheus reads (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use ringward_recovery::{Done, Notice, Report};

use crate::survey::ChannelView;

/// What was counted since the watchdog began, and its last look.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) looks: u64,
    pub(super) failed_looks: u64,
    pub(super) look_seconds: f64,
    pub(super) deaths: BTreeMap<String, u64>,
    pub(super) successions: BTreeMap<String, u64>,
    pub(super) reclaims: u64,
    pub(super) quarantines: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) drained: u64,
    pub(super) births: u64,
    /// The last look's notices, but for channels that are gone.
    pub(super) notices: Vec<Notice>,
}

impl Counts {
    /// Counts what a look found and did.
    pub(super) fn add(&mut self, report: &Report, seconds: f64) {
        self.looks += 1;
        self.look_seconds += seconds;
        if report.error.is_some() {
            self.failed_looks += 1;
            return;
        }
        self.births += report.births as u64;
        self.drained += report.drained as u64;
        for notice in &report.notices {
            match notice.done {
                Done::Reclaimed { .. } => self.reclaims += 1,
                Done::Quarantined { .. } => self.quarantines += 1,
                Done::Refused { .. } => self.refused += 1,
                Done::Failed { .. } => self.failed += 1,
                _ => {}
            }
            // Both are in the order of the names.
            let found = self.notices.binary_search_by(|before| before.channel.cmp(&notice.channel));
            let Some(before) = found.ok().and_then(|at| self.notices.get(at)) else { continue };
            let (was, is) = (&before.evidence, &notice.evidence);
            let followed = is.generation > was.generation && was.generation.is_some();
            if followed {
                let steps = is.generation.zip(was.generation).map_or(0, |(is, was)| is - was);
                *self.successions.entry(notice.channel.clone()).or_insert(0) += steps;
            }
            // Who let go of the lock and had not closed in order died, or ended without saying so.
            let let_go = was.writer_held && (followed || !is.writer_held);
            let closed = is.state.is_some_and(|state| state == ringward_ring::word::State::CLOSED);
            if let_go && !closed {
                *self.deaths.entry(notice.channel.clone()).or_insert(0) += 1;
            }
        }
        let gone = |notice: &&Notice| {
            notice.verdict != ringward_recovery::Verdict::Vanished
                && !matches!(notice.done, Done::Reclaimed { .. } | Done::Quarantined { .. })
        };
        self.notices = report.notices.iter().filter(gone).cloned().collect();
        let there = |channel: &String| self.notices.binary_search_by(|notice| notice.channel.cmp(channel)).is_ok();
        self.deaths.retain(|channel, _| there(channel));
        self.successions.retain(|channel, _| there(channel));
    }
}

/// Bytes of the file system.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Space {
    pub(super) size: u64,
    pub(super) free: u64,
}

impl Space {
    /// Percent in use; 0 if nothing is known.
    pub(super) fn used(self) -> u64 {
        u128::from(self.size - self.free.min(self.size)).saturating_mul(100).checked_div(self.size.into()).unwrap_or(0)
            as u64
    }
}

/// Percent below the limit at which memory counts as enough again: so that it does not flutter.
const RELIEF: u64 = 5;

impl Space {
    /// Whether memory is short, by a limit in percent (0: it never is), if it was short `before` or not.
    pub(super) fn short(self, limit: u8, before: bool) -> bool {
        let limit = u64::from(limit);
        limit > 0 && (self.used() >= limit || (before && self.used() + RELIEF >= limit))
    }
}

/// One metric after the other, each with its help and all of its samples together, as the format wants it.
struct Text {
    out: String,
    namespace: String,
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.out, "{name}{{namespace=\"{}\"", escape(&self.namespace));
        for (label, value) in labels {
            let _ = write!(self.out, ",{label}=\"{}\"", escape(value));
        }
        let _ = writeln!(self.out, "}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn each<V: std::fmt::Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        views: &[ChannelView],
        value: impl Fn(&ChannelView) -> Option<V>,
    ) {
        self.head(name, kind, help);
        for view in views {
            if let Some(value) = value(view) {
                self.sample(name, &[("channel", &view.channel)], value);
            }
        }
    }
}

/// Everything, as one page.
pub(super) fn render(namespace: &str, counts: &Counts, views: &[ChannelView], space: Space) -> String {
    let mut text = Text { out: String::new(), namespace: namespace.to_owned() };
    text.one("ringward_watchdog_looks_total", "counter", "Looks at the namespace.", counts.looks);
    text.one(
        "ringward_watchdog_failed_looks_total",
        "counter",
        "Looks that could not read the namespace.",
        counts.failed_looks,
    );
    text.one("ringward_watchdog_look_seconds_total", "counter", "Time that all looks took.", counts.look_seconds);
    text.one(
        "ringward_reclaims_total",
        "counter",
        "Channels that were unlinked because they were nobody's.",
        counts.reclaims,
    );
    text.one(
        "ringward_quarantines_total",
        "counter",
        "Channels that were renamed because they were nobody's.",
        counts.quarantines,
    );
    text.one(
        "ringward_refused_reclaims_total",
        "counter",
        "Channels that were to go and turned out to be somebody's.",
        counts.refused,
    );
    text.one("ringward_failed_reclaims_total", "counter", "Channels that could not be taken away.", counts.failed);
    text.one(
        "ringward_drained_generations_total",
        "counter",
        "Drained generations that were unlinked.",
        counts.drained,
    );
    text.one("ringward_interrupted_births_total", "counter", "Interrupted births that were removed.", counts.births);
    text.one("ringward_filesystem_size_bytes", "gauge", "Size of the root's file system.", space.size);
    text.one("ringward_filesystem_free_bytes", "gauge", "What is free of it.", space.free);
    text.one("ringward_channels", "gauge", "Channels of the namespace.", views.len());

    text.head("ringward_channel_verdict", "gauge", "1 for the verdict that the watchdog has of the channel.");
    for view in views {
        let labels = [("channel", view.channel.as_str()), ("verdict", view.verdict.as_str()), ("id", view.verdict_id)];
        text.sample("ringward_channel_verdict", &labels, 1);
    }
    text.each(("ringward_channel_generation", "gauge", "Number of the newest generation."), views, |view| {
        view.generation
    });
    text.each(("ringward_channel_generations", "gauge", "Generations that have a name."), views, |view| {
        Some(view.generations)
    });
    text.each(("ringward_channel_memory_bytes", "gauge", "Memory of all its generations."), views, |view| {
        Some(view.memory)
    });
    let help = "Sequence number of the next record: records ever sent, and those known to be lost.";
    text.each(("ringward_channel_records_total", "counter", help), views, |view| view.next_sequence);
    let help = "Time for which neither heartbeat nor position of the writer has moved.";
    text.each(("ringward_channel_silent_seconds", "gauge", help), views, |view| Some(view.silent_ms? as f64 / 1000.0));
    let help = "Time for which it has been nobody's, by the mark on its file.";
    text.each(("ringward_channel_orphaned_seconds", "gauge", help), views, |view| {
        Some(view.orphaned_ms? as f64 / 1000.0)
    });
    let held = |view: &ChannelView| Some(u8::from(view.owner.as_ref()?.lock_held));
    text.each(("ringward_channel_writer_held", "gauge", "1 if a process holds the writer lock."), views, held);
    let count =
        |counts: &BTreeMap<String, u64>, view: &ChannelView| Some(counts.get(&view.channel).copied().unwrap_or(0));
    let help = "Writers that let go of the lock without closing, as far as this watchdog saw.";
    text.each(("ringward_channel_deaths_total", "counter", help), views, |view| count(&counts.deaths, view));
    let help = "Generations that followed, as far as this watchdog saw.";
    text.each(("ringward_channel_successions_total", "counter", help), views, |view| count(&counts.successions, view));

    for (name, help, value) in [
        (
            "ringward_reader_lag_records",
            "Records that the reader has not released.",
            (|reader| reader.lag_records) as fn(&crate::survey::ReaderView) -> Option<u64>,
        ),
        ("ringward_reader_lag_bytes", "Bytes of the ring that it holds back.", |reader| reader.lag_bytes),
        ("ringward_reader_alive", "1 if a process holds the reader's lock.", |reader| Some(reader.lock_held.into())),
    ] {
        text.head(name, "gauge", help);
        for view in views {
            for reader in &view.readers {
                let (Some(value), slot) = (value(reader), reader.slot.to_string()) else { continue };
                let reader_name = reader.name.as_deref().unwrap_or("");
                let kind = reader.kind.unwrap_or("");
                let labels =
                    [("channel", view.channel.as_str()), ("reader", reader_name), ("kind", kind), ("slot", &slot)];
                text.sample(name, &labels, value);
            }
        }
    }
    text.out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_shares_never_divide_by_zero() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert_eq!(Space::default().used(), 0);
        assert_eq!(Space { size: 200, free: 50 }.used(), 75);
        assert_eq!(Space { size: u64::MAX, free: 0 }.used(), 100);
    }

    #[test]
    fn memory_is_short_from_the_limit_on_and_enough_only_well_below_it() {
        let used = |percent: u64| Space { size: 100, free: 100 - percent };
        assert!(!used(79).short(80, false) && used(80).short(80, false) && used(100).short(100, false));
        assert!(used(76).short(80, true) && !used(74).short(80, true));
        assert!(!used(100).short(0, true) && !Space::default().short(80, false));
    }
}
