//! A channel's life: namespace, election, heartbeat, verdicts, succession, remap, watchdog.
//!
//! A channel is a directory of generations; each generation is one segment, written by one process, for life. When the writer dies, whoever
//! stands by ends its segment and follows it with a new one; readers drain the old one and go over. Nothing that a crashed
//! process touched is ever repaired.
#![forbid(unsafe_code)]

mod aside;
mod beat;
mod chain;
mod channel;
mod config;
mod error;
mod event;
mod namespace;
mod observer;
pub mod owner;
mod reader;
mod standby;
mod succession;
mod verdict;
mod watch;
mod watchdog;
mod writer;

pub use chain::Tidied;
pub use channel::{Channel, Durability, Generation, Seen};
pub use config::{Config, ConfigError, Heal, WhenChainFull, WhenFull, WhenStuck};
pub use error::{OpenError, ReceiveError, SendError};
pub use event::Event;
pub use namespace::{
    BadName, DEFAULT_ROOT, Namespace, NamespaceBuilder, NamespaceError, ROOT_VARIABLE, generation_name,
    generation_number,
};
pub use reader::{Lost, Reader};
pub use ringward_ring::lend::TrustedPeers;
pub use ringward_ring::reader::GapReason;
pub use ringward_ring::table::From;
pub use ringward_ring::word::Checksum;
pub use standby::{Canceller, Outcome, Standby, Warmth};
pub use verdict::{Evidence, Verdict};
pub use watchdog::{Action, Done, Notice, Report, Watchdog, WatchdogBuilder, WatchdogHandle};
pub use writer::Writer;
