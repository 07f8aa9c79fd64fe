//! What a watchdog does and tells: actions, notices, reports.

use crate::verdict::{Evidence, Verdict};

/// What a watchdog does about what is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: says so.
    Report,
    /// Takes it out of the way, but keeps the bytes: renames it to `.quarantine-…` in the namespace.
    Quarantine,
    /// Unlinks it.
    Reclaim,
}

/// Something that a watchdog tells its host. Names stay valid after the clean-up: nothing in it has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Stable id, a heading in RUNBOOK.md.
    pub id: &'static str,
    /// Name of the channel.
    pub channel: String,
    /// What is concluded of it.
    pub verdict: Verdict,
    /// From what.
    pub evidence: Evidence,
    /// What was done.
    pub done: Done,
}

/// What was done about a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// Nothing.
    Nothing,
    /// It was unlinked, with this many bytes.
    Reclaimed {
        /// Bytes of its segments.
        bytes: u64,
    },
    /// It was renamed.
    Quarantined {
        /// Its new name in the namespace.
        name: String,
    },
    /// It was to be taken away and turned out to be somebody's.
    Refused {
        /// Why.
        why: String,
    },
    /// It was to be taken away, and the system said no.
    Failed {
        /// What it said.
        why: String,
    },
}

/// One look at a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// One for each channel, sorted by name.
    pub notices: Vec<Notice>,
    /// Directories of births that died, removed.
    pub births: usize,
    /// Drained generations, unlinked.
    pub drained: usize,
    /// Channels at which a glance was enough: nothing had changed since the last full look. In their evidence, who reads and who stands by is as of
    /// that look, half a minute ago at most.
    pub glances: usize,
    /// The namespace itself could not be read.
    pub error: Option<String>,
}

/// A notice, with the id that goes with what was done.
pub(super) fn notice(channel: &str, verdict: Verdict, evidence: Evidence, done: Done) -> Notice {
    let id = match &done {
        Done::Reclaimed { .. } => "RW-WD-RECLAIMED",
        Done::Quarantined { .. } => "RW-WD-QUARANTINED",
        Done::Refused { .. } => "RW-WD-REFUSED",
        Done::Failed { .. } => "RW-WD-FAILED",
        Done::Nothing => verdict.id(),
    };
    Notice { id, channel: channel.to_owned(), verdict, evidence, done }
}
