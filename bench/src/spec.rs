//! What one process of a run is told, as JSON on its command line.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One run, as its processes see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the work.
    pub work: String,
    /// Name of the peer.
    pub peer: String,
    /// Bytes of a record's payload.
    pub size: usize,
    /// Something that the work counts: readers, channels, samples.
    pub count: u64,
    /// How long it measures, in milliseconds.
    pub millis: u64,
    /// Bytes of a ring.
    pub capacity: u64,
    /// A directory of its own.
    pub place: PathBuf,
    /// Which of the processes this is.
    pub side: usize,
    /// Processor of each side.
    pub cpus: Vec<usize>,
}

impl Spec {
    /// How long it measures.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// Processor of this side; sides beyond the list share the last.
    pub fn cpu(&self) -> Option<usize> {
        self.cpus.get(self.side).or(self.cpus.last()).copied()
    }
}

/// The ring for payloads of `size` bytes: a mebibyte, or room for seven records.
pub fn capacity_for(size: usize) -> u64 {
    (8 * size as u64).next_power_of_two().max(1 << 20)
}
