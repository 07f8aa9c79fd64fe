//! Reading a corpse: what a private copy of a segment's bytes says, and what is remarkable about it.
//!
//! [`decode`] is a pure function of bytes. It never panics, whatever they are, and always ends, after time that grows
//! with their number (and 16 times that if somebody forged them to be slow). The inspector, the checker, salvage and
//! the main fuzz target share it.
//!
//! Of a segment in use a copy is not of one moment: the table may be copied after the page, and a reader may then seem
//! to stand in front of its writer. What a second copy does not repeat was movement, not damage.
//!
//! ```
//! use ringward_ring::image;
//!
//! let image = image::decode(b"not a segment");
//! assert!(image.identity.is_err());
//! assert!(image.to_string().ends_with("[RW-SEG-SHORT]"));
//! ```

use core::fmt;

use crate::cursor::{Mark, Reading};
use crate::identity::{Identity, IdentityError, UnverifiedIdentity};
use crate::layout::{MAJOR, MIN_PAGE};
use crate::table::SlotReading;
use crate::word::{BadWord, End, SlotState, State, Successor};

mod decoder;
mod finding;
#[cfg(test)]
mod tests;
mod walk;

use decoder::{Decoder, Findings, View};
pub use finding::{Finding, FindingKind, Severity};
pub use walk::{Piece, Pieces};

/// Findings that are kept; further ones are only counted.
pub const MAX_FINDINGS: usize = 256;

/// What a segment's bytes say. Without a sound identity everything behind it is empty: state 0, no slots, no pieces.
#[derive(Debug, Clone)]
pub struct Image<'b> {
    /// What the segment is.
    pub identity: Result<Identity, IdentityError>,
    /// State of the generation.
    pub state: State,
    /// Where it ends.
    pub end: Result<End, BadWord>,
    /// Who follows it.
    pub successor: Result<Successor, BadWord>,
    /// Where the writer stands.
    pub cursor: Reading,
    /// How far the writer may go without looking at the reader table, in bytes; unchecked.
    pub limit: u64,
    /// The writer's heartbeat counter; unchecked.
    pub beat: u64,
    /// Time of the last beat, nanoseconds since 1970; unchecked, for people.
    pub beat_time: u64,
    /// The reader slots that are there, all of them unless the bytes were cut.
    pub slots: Vec<SlotImage>,
    /// Where what is readable ends, and how that is known.
    pub readable: Readable,
    /// Counts over all pieces.
    pub totals: Totals,
    /// What is remarkable, in the order of the layout; the same bytes give the same list.
    pub findings: Vec<Finding>,
    pieces: Pieces<'b>,
}

/// A reader's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotImage {
    /// What lies in it.
    pub reading: SlotReading,
    /// Its reader was expelled and holds nobody back.
    pub expelled: bool,
}

impl SlotImage {
    /// Whether a reader has this place in this generation, provisionally or not. An unknown state counts as one, zero
    /// does not.
    pub fn occupied(&self) -> bool {
        !matches!(self.reading.state, SlotState::FREE | SlotState::DONE | SlotState(0))
    }

    /// Where its reader stands, if that checks; the lower checkpoint if only the position does not.
    pub fn mark(&self) -> Option<Mark> {
        match self.reading.cursor {
            Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => Some(mark),
            Reading::Damaged => None,
        }
    }
}

/// Where what is readable ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// Position, in bytes.
    pub end: u64,
    /// Sequence number of the record that would begin there, if it can be known.
    pub sequence: Option<u64>,
    /// How the end is known.
    pub basis: Basis,
}

/// How the end of what is readable is known, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// The end word is decided.
    EndWord,
    /// The writer's cursor checks.
    Cursor,
    /// Only the writer's checkpoints check: the higher one, everything in front of which was completely written.
    Checkpoints,
    /// Nothing of the writer's checks: sound records were followed from the foremost reader, or from position 0.
    Records,
    /// No identity, nothing is readable.
    Nothing,
}

/// Counts over the pieces of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sound records.
    pub records: u64,
    /// Their payload, in bytes.
    pub payload: u64,
    /// Sound wrap markers.
    pub wraps: u64,
    /// Holes.
    pub holes: u64,
    /// Records known to be lost in them.
    pub lost: u64,
    /// There are holes of which nobody can know how many records they swallowed.
    pub lost_unknown: bool,
}

/// Reads a private copy of a segment's bytes: any bytes, of any length.
pub fn decode(bytes: &[u8]) -> Image<'_> {
    let view = View(bytes);
    let mut findings = Findings::default();
    match UnverifiedIdentity(bytes).verify() {
        Ok(identity) => Decoder { bytes, view, identity, findings }.decode(),
        Err(error) => {
            let whole = u64::from(MIN_PAGE);
            findings.damage(FindingKind::Identity(error), 0, bytes.len() as u64, whole);
            match error {
                IdentityError::Major { found, .. } if found == MAJOR.swap_bytes() => {
                    findings.damage(FindingKind::Endian, 8, found.into(), MAJOR.into());
                }
                IdentityError::Magic { .. } if view.zero(0, MIN_PAGE as usize) => {
                    findings.damage(FindingKind::Zeroed, 0, whole, 0);
                }
                _ => {}
            }
            Image {
                identity: Err(error),
                state: State(0),
                end: Err(BadWord(0)),
                successor: Err(BadWord(0)),
                cursor: Reading::Damaged,
                limit: 0,
                beat: 0,
                beat_time: 0,
                slots: Vec::new(),
                readable: Readable { end: 0, sequence: None, basis: Basis::Nothing },
                totals: Totals::default(),
                findings: findings.finish(),
                pieces: Pieces::none(),
            }
        }
    }
}

impl<'b> Image<'b> {
    /// What lies in the ring, oldest first: everything that is still there in front of the end of what is readable.
    /// Walks the bytes anew at each call.
    pub fn pieces(&self) -> Pieces<'b> {
        self.pieces.clone()
    }

    /// Records that the reader in `slot` has not released yet, lost ones included. `None` if the slot is nobody's, or
    /// its cursor or the end cannot be known.
    pub fn unread(&self, slot: usize) -> Option<u64> {
        let image = self.slots.get(slot).filter(|image| image.occupied())?;
        self.readable.sequence?.checked_sub(image.mark()?.sequence)
    }

    /// Whether a finding is damage, and not only a note.
    pub fn damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

/// One line for people.
impl fmt::Display for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = match &self.identity {
            Ok(identity) => identity,
            Err(error) => return write!(f, "{error}"),
        };
        let Totals { records, payload, lost, lost_unknown, .. } = self.totals;
        let readers = self.slots.iter().filter(|slot| slot.occupied()).count();
        let damage = self.findings.iter().filter(|f| f.severity == Severity::Damage).count();
        write!(
            f,
            "generation {} (segment {}): {}, {records} records with {payload} bytes of payload up to position \
            {}, {}{lost} lost, \
             {readers} of {} reader slots taken, findings: {damage} damage, {} notes",
            identity.generation,
            identity.segment,
            self.state,
            self.readable.end,
            if lost_unknown { "at least " } else { "" },
            identity.geometry.slots,
            self.findings.len() - damage,
        )
    }
}
