//! A process of the storm, and deaths that were brought about.

use serde_json::{Value, json};

use crate::namespace::Which;
use crate::worker::Role;

/// Why somebody was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    MidPush,
    MidReceive,
    Reader,
    Standby,
    Startup,
    Failover,
    Floor,
    End,
}

/// Deaths that were brought about, by cause.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kills {
    pub(crate) mid_push: u64,
    pub(crate) mid_recv: u64,
    pub(crate) reader: u64,
    pub(crate) standby: u64,
    pub(crate) mid_succession: u64,
    pub(crate) startup: u64,
    pub(crate) failover: u64,
}

impl Kills {
    pub(crate) fn total(&self) -> u64 {
        self.mid_push + self.mid_recv + self.reader + self.standby + self.startup + self.failover
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "total": self.total(),
            "mid_push": self.mid_push,
            "mid_recv": self.mid_recv,
            "standby": self.standby,
            "mid_succession": self.mid_succession,
            "startup": self.startup,
            "reader": self.reader,
            "failover": self.failover,
        })
    }
}

/// A process of the run.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: u32,
    pub(crate) role: Role,
    pub(crate) which: Which,
    pub(crate) place: u32,
    /// Is replaced when it dies.
    pub(crate) standing: bool,
    /// Is never killed.
    pub(crate) spared: bool,
    pub(crate) cause: Option<Cause>,
    pub(crate) killed: u64,
}
