//! What a run concludes, and what it counts.

use serde_json::{Value, json};

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// Acknowledged, and neither delivered nor reported.
    Lost,
    /// Delivered twice, and not marked so or not after a death.
    Duplicated,
    /// Delivered with bytes that nobody wrote.
    Torn,
    /// Out of order.
    Reordered,
    /// Reported lost, though nothing had happened to the memory; or reported wrongly.
    Misreported,
    /// Two owners at once, or one whose time had passed.
    Owners,
    /// Somebody made no progress.
    Hang,
    /// Something was left over, or grew.
    Leak,
    /// A role ended with an error or a signal that nobody sent.
    Failed,
    /// Somebody who lived was taken for dead.
    FalseDeath,
}

impl Broken {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Broken::Lost => "lost",
            Broken::Duplicated => "duplicated",
            Broken::Torn => "torn",
            Broken::Reordered => "reordered",
            Broken::Misreported => "misreported",
            Broken::Owners => "owners",
            Broken::Hang => "hang",
            Broken::Leak => "leak",
            Broken::Failed => "failed",
            Broken::FalseDeath => "false-death",
        }
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn to_json(&self) -> Value {
        json!({ "kind": self.broken.name(), "what": self.what })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every promise was kept.
    Held,
    /// One was broken.
    Violation,
    /// Nothing was tried that could have broken one.
    Inconclusive,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Violation => "violation",
            Verdict::Inconclusive => "inconclusive",
        }
    }

    pub(crate) fn exit_code(self) -> i32 {
        match self {
            Verdict::Held => 0,
            Verdict::Violation => 1,
            Verdict::Inconclusive => 3,
        }
    }
}

/// What became of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Pushes that returned.
    pub(crate) acknowledged: u64,
    /// Pushes that were refused for want of room.
    pub(crate) refused: u64,
    /// Pushes that never returned, and whose record was published all the same.
    pub(crate) published_unacknowledged: u64,
    /// Pushes that never returned, and whose record does not exist.
    pub(crate) absent: u64,
    /// Records in a reader's hands, each reader counted.
    pub(crate) delivered: u64,
    pub(crate) lost_reported: u64,
    pub(crate) redelivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) torn: u64,
    pub(crate) reordered: u64,
    /// Terms of writers.
    pub(crate) terms: u64,
}

impl Counts {
    pub(crate) fn to_json(self) -> Value {
        json!({
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "published_unacknowledged": self.published_unacknowledged,
            "absent": self.absent,
            "delivered": self.delivered,
            "lost_reported": self.lost_reported,
            "redelivered": self.redelivered,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "torn": self.torn,
            "reordered": self.reordered,
        })
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.published_unacknowledged += other.published_unacknowledged;
        self.absent += other.absent;
        self.delivered += other.delivered;
        self.lost_reported += other.lost_reported;
        self.redelivered += other.redelivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.torn += other.torn;
        self.reordered += other.reordered;
        self.terms += other.terms;
    }
}
