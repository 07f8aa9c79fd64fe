//! Quiet times: the storm holds its breath, and take-overs are timed on a channel of the usual size whose processes nobody
//! traces, in turn with samples of the floor.

use std::time::{Duration, Instant};

/// Capacity of the channel.
pub(crate) const CAPACITY: u64 = 1 << 20;
/// Standbys of the channel.
pub(crate) const STANDBYS: u32 = 2;
/// One quiet time.
pub(crate) const LENGTH: Duration = Duration::from_millis(900);
/// From one quiet time to the next.
pub(crate) const EVERY: Duration = Duration::from_millis(7000);
/// Between a kill and the next one, at least: a new standby has parked meanwhile.
pub(crate) const BETWEEN: Duration = Duration::from_millis(12);
/// A dead standby is replaced after so long.
pub(crate) const RESTART: Duration = Duration::from_millis(4);

/// Before the end of a quiet time nobody is killed for so long.
const CALM: Duration = Duration::from_millis(100);

/// Where a run stands.
#[derive(Debug)]
pub(crate) struct Quiet {
    next: Instant,
    until: Option<Instant>,
    /// Writer that was killed last.
    pub(crate) killed: u32,
    /// When the next kill or sample is due.
    pub(crate) due: Instant,
    /// Kills and samples in turn.
    pub(crate) turn: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The storm goes on.
    Storm,
    /// A quiet time begins.
    Begin,
    /// Nothing is due.
    Wait,
    /// Kill the writer.
    Kill,
    /// Take a sample of the floor.
    Floor,
    /// The quiet time is over.
    End,
}

impl Quiet {
    /// The first one comes a second after `now`.
    pub(crate) fn new(now: Instant) -> Quiet {
        Quiet { next: now + Duration::from_secs(1), until: None, killed: 0, due: now, turn: 0 }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.until.is_some()
    }

    pub(crate) fn turn(&mut self, now: Instant) -> Turn {
        match self.until {
            None if now < self.next => Turn::Storm,
            None => {
                self.until = Some(now + LENGTH);
                self.due = now + 2 * BETWEEN;
                Turn::Begin
            }
            Some(until) if now >= until => {
                self.until = None;
                self.next = now + EVERY;
                Turn::End
            }
            // Nobody is killed at the last moment: the successor would be told to hold its breath before its first push, and
            // that would be timed.
            Some(until) if now < self.due || now + CALM >= until => Turn::Wait,
            Some(_) => {
                self.due = now + BETWEEN;
                self.turn += 1;
                if self.turn.is_multiple_of(2) { Turn::Floor } else { Turn::Kill }
            }
        }
    }
}
