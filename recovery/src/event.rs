//! What a reader is told.

use ringward_ring::reader::GapReason;

/// What comes next in a channel's stream, as its reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A record: the first `len` bytes of the caller's buffer.
    Record {
        /// Its sequence number; they run on across generations.
        sequence: u64,
        /// The user's record type.
        record_type: u32,
        /// Bytes of payload.
        len: usize,
        /// Handed out before, to somebody of this name who died before releasing it.
        redelivered: bool,
    },
    /// The writer was replaced: what follows comes from a new generation.
    Restarted {
        /// Number of the generation that was drained, or lost.
        old: u64,
        /// Number of the one that follows.
        new: u64,
    },
    /// Records were lost here.
    Gap {
        /// First lost sequence number.
        from: u64,
        /// How many; `None` where nobody can know.
        count: Option<u64>,
        /// Why.
        reason: GapReason,
    },
    /// The writer holds its lock and has promised beats, but does not beat. Told once, until it beats again.
    Stalled {
        /// Number of the generation.
        generation: u64,
    },
    /// The writer is dead and nobody has followed yet. Told once for a generation.
    WriterGone {
        /// Number of the generation.
        generation: u64,
    },
    /// The channel was closed by its writer, and everything in it has been received.
    Closed {
        /// Number of the generation.
        generation: u64,
    },
}

impl Event {
    /// Stable id of the event, a heading in RUNBOOK.md.
    pub fn id(&self) -> &'static str {
        match self {
            Event::Record { redelivered: false, .. } => "RW-EV-RECORD",
            Event::Record { redelivered: true, .. } => "RW-EV-REDELIVERED",
            Event::Restarted { .. } => "RW-EV-RESTARTED",
            Event::Gap { .. } => "RW-EV-GAP",
            Event::Stalled { .. } => "RW-EV-STALLED",
            Event::WriterGone { .. } => "RW-EV-GONE",
            Event::Closed { .. } => "RW-EV-CLOSED",
        }
    }
}
