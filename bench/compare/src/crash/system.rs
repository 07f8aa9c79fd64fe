//! The two systems, as the processes of a trial use them.

use std::path::Path;

use serde_json::Value;

use super::{iceoryx2, ringward};

/// A system under trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// Ringward.
    Ringward,
    /// iceoryx2.
    Iceoryx2,
}

/// How a writer comes to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It starts and opens.
    Start,
    /// It has started, and waits until the one that writes is dead.
    StandBy,
    /// It starts though the one that writes may live.
    Supersede,
}

/// What a receiver got.
pub(crate) enum Taken {
    /// A record of that many bytes.
    Record(usize),
    /// The system told it something.
    Told(String),
    /// Nothing.
    Nothing,
}

/// The writing end of either system. `Err` is what the system said.
pub(crate) trait Push {
    /// Sends a record, waiting for room as long as the system does.
    fn push(&mut self, payload: &[u8]) -> Result<(), String>;

    /// Whether somebody reads.
    fn is_read(&mut self) -> bool;
}

/// The reading end of either system.
pub(crate) trait Take {
    /// Receives what comes next, or finds nothing.
    fn take(&mut self, buf: &mut [u8]) -> Result<Taken, String>;
}

impl System {
    /// Both.
    pub(crate) const ALL: [System; 2] = [System::Ringward, System::Iceoryx2];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Ringward => "ringward",
            System::Iceoryx2 => "iceoryx2",
        }
    }

    /// The system of a name.
    pub(crate) fn named(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Opens a writing end; `ready` is called when one that stands by does so.
    pub(crate) fn writer(self, place: &Path, how: How, ready: impl FnOnce()) -> Result<Box<dyn Push>, String> {
        match self {
            System::Ringward => ringward::writer(place, how, ready),
            System::Iceoryx2 => iceoryx2::writer(place, how, ready),
        }
    }

    /// Opens a reading end.
    pub(crate) fn reader(self, place: &Path) -> Result<Box<dyn Take>, String> {
        match self {
            System::Ringward => ringward::reader(place),
            System::Iceoryx2 => iceoryx2::reader(place),
        }
    }

    /// Cleans up after the dead, with the system's own means; what it says of that.
    pub(crate) fn clean(self, place: &Path) -> Result<Value, String> {
        match self {
            System::Ringward => ringward::clean(place),
            System::Iceoryx2 => iceoryx2::clean(place),
        }
    }
}
