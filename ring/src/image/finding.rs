//! What is remarkable about a segment's bytes.

use core::fmt;

use crate::identity::IdentityError;
use crate::layout::{MAJOR, MINOR};
use crate::word::{EndWord, SlotState, State};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A crash in good order leaves this, or it says what happened; nothing that was acknowledged is touched.
    Note,
    /// No order of the protocol's stores leaves this: something else wrote, cut or punched here.
    Damage,
}

/// What was found. `slot` is the number of a reader's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is explained by its message, see the Display of Finding")]
pub enum FindingKind {
    /// The identity does not check; nothing behind it was looked at.
    Identity(IdentityError),
    /// The version number reads as ours with its bytes swapped.
    Endian,
    /// A newer minor version.
    Minor,
    /// Not as long as the identity says.
    Size,
    /// Whole pages of zeros where something must be: `found` bytes of them.
    Zeroed,
    State,
    /// State, end and successor contradict each other.
    Order,
    /// The end is being decided, or whoever was about to decide it died.
    Undecided,
    EndWord,
    UnknownEnd,
    /// The end lies behind everything that was written.
    EndAhead,
    SuccessorWord,
    ExpelledBits,
    /// The writer's position has no checkpoint.
    Position,
    /// Nothing in the writer's cursor checks.
    Cursor,
    /// One checkpoint of the writer does not check, as in the middle of being written.
    Checkpoint,
    Limit,
    /// A doorbell is 0.
    Bell,
    SlotState {
        slot: usize,
    },
    SlotCard {
        slot: usize,
    },
    SlotCursor {
        slot: usize,
    },
    /// A reader stands in front of records that do not exist.
    SlotAhead {
        slot: usize,
    },
    /// What a reader needs next may be overwritten.
    Overrun {
        slot: usize,
    },
    Taken {
        slot: usize,
    },
    /// The same name as in slot `other`.
    Name {
        slot: usize,
        other: usize,
    },
    /// Bytes hold no sound record, `len` of them; `lost` records, if that can be known.
    Records {
        len: u64,
        lost: Option<u64>,
    },
    /// Sequence numbers jump.
    Gap {
        lost: u64,
    },
    /// A push was checkpointed and not published: `records` complete records, visible only if a successor of the dead writer ends behind them.
    Torn {
        records: u64,
    },
    /// Complete records behind the last checkpoint, never visible.
    Staged {
        records: u64,
    },
    /// Published behind the end: refused to their writer as fenced, never delivered.
    Fenced {
        records: u64,
    },
    /// The search for sound records was given up.
    Budget,
    /// Further findings were not kept.
    More,
}

/// One remarkable thing about a segment's bytes.
///
/// Its `Display` says what was found, what was expected, and what to do, and ends in a stable id in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: FindingKind,
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// The number that was found there.
    pub found: u64,
    /// The number that was expected.
    pub expected: u64,
    /// How bad it is.
    pub severity: Severity,
}

impl Finding {
    /// Stable id, a heading in the runbook.
    pub const fn id(&self) -> &'static str {
        match self.what {
            FindingKind::Identity(IdentityError::Short { .. }) => "RW-SEG-SHORT",
            FindingKind::Identity(IdentityError::Magic { .. }) => "RW-SEG-MAGIC",
            FindingKind::Identity(IdentityError::Major { .. }) => "RW-SEG-MAJOR",
            FindingKind::Identity(IdentityError::Crc { .. }) => "RW-SEG-CRC",
            FindingKind::Identity(IdentityError::Features { .. }) => "RW-SEG-FEATURES",
            FindingKind::Identity(IdentityError::Field { .. }) => "RW-SEG-FIELD",
            FindingKind::Endian => "RW-IMG-ENDIAN",
            FindingKind::Minor => "RW-IMG-MINOR",
            FindingKind::Size => "RW-IMG-SIZE",
            FindingKind::Zeroed => "RW-IMG-ZERO",
            FindingKind::State => "RW-IMG-STATE",
            FindingKind::Order => "RW-IMG-ORDER",
            FindingKind::Undecided => "RW-IMG-UNDECIDED",
            FindingKind::EndWord => "RW-IMG-END",
            FindingKind::UnknownEnd => "RW-IMG-UNKNOWN-END",
            FindingKind::EndAhead => "RW-IMG-END-AHEAD",
            FindingKind::SuccessorWord => "RW-IMG-SUCCESSOR",
            FindingKind::ExpelledBits => "RW-IMG-EXPELLED",
            FindingKind::Position => "RW-IMG-POSITION",
            FindingKind::Cursor => "RW-IMG-CURSOR",
            FindingKind::Checkpoint => "RW-IMG-CHECKPOINT",
            FindingKind::Limit => "RW-IMG-LIMIT",
            FindingKind::Bell => "RW-IMG-BELL",
            FindingKind::SlotState { .. } => "RW-IMG-SLOT-STATE",
            FindingKind::SlotCard { .. } => "RW-IMG-SLOT-CARD",
            FindingKind::SlotCursor { .. } => "RW-IMG-SLOT-CURSOR",
            FindingKind::SlotAhead { .. } => "RW-IMG-SLOT-AHEAD",
            FindingKind::Overrun { .. } => "RW-IMG-OVERRUN",
            FindingKind::Taken { .. } => "RW-IMG-TAKEN",
            FindingKind::Name { .. } => "RW-IMG-NAME",
            FindingKind::Records { .. } => "RW-IMG-CRC",
            FindingKind::Gap { .. } => "RW-IMG-GAP",
            FindingKind::Torn { .. } => "RW-IMG-TORN",
            FindingKind::Staged { .. } => "RW-IMG-STAGED",
            FindingKind::Fenced { .. } => "RW-IMG-FENCED",
            FindingKind::Budget => "RW-IMG-BUDGET",
            FindingKind::More => "RW-IMG-MORE",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { what, offset, found, expected, .. } = *self;
        match what {
            FindingKind::Identity(error) => return write!(f, "{error}"),
            FindingKind::Endian => write!(
                f,
                "layout version {found} at byte {offset}, expected {expected}: written with the bytes of its \
                numbers swapped; \
                 read it on a little-endian machine's build"
            ),
            FindingKind::Minor => write!(
                f,
                "layout {MAJOR}.{found}, this build knows {MAJOR}.{MINOR}; what the newer one adds is not \
                shown, use a newer build for it"
            ),
            FindingKind::Size => write!(
                f,
                "{found} bytes, expected {expected} by the identity: cut or grown; \
                 what is cut is lost, let a successor take over"
            ),
            FindingKind::Zeroed => write!(
                f,
                "{found} bytes of whole pages are zero from byte {offset} on, expected {expected}: \
                 a punched hole or a lost page; look who writes to this file"
            ),
            FindingKind::State => write!(
                f,
                "state {:?}, expected one of the six known; let a successor end this generation",
                State(found as u32)
            ),
            FindingKind::Order => write!(
                f,
                "state {:?} together with an end or successor word {expected:#018x} that does not go with it; \
                 let a successor end this generation",
                State(found as u32)
            ),
            FindingKind::Undecided => write!(
                f,
                "state {:?} and the end not decided, expected a position: whoever ends this generation is at \
                work or died; \
                 the next one repeats the step",
                State(found as u32)
            ),
            FindingKind::EndWord => write!(
                f,
                "end word {:#018x}, expected a position with its check or a known word; it will be decided again",
                EndWord(found).0
            ),
            FindingKind::UnknownEnd => {
                write!(
                    f,
                    "the end was decided as unknown; expect an unknown number of lost records from byte \
                    {expected} on, ask the writer's side"
                )
            }
            FindingKind::EndAhead => write!(
                f,
                "end at position {found}, expected at most {expected}, which is all that the writer wrote; \
                 believe the end word only if the cursor was damaged later"
            ),
            FindingKind::SuccessorWord => {
                write!(
                    f,
                    "successor word {found:#018x}, expected a segment id with its check or a known word; it \
                    will be decided again"
                )
            }
            FindingKind::ExpelledBits => {
                write!(
                    f,
                    "expelled bits {found:#x}, expected none outside {expected:#x}, the slots that exist; \
                    nothing to do"
                )
            }
            FindingKind::Position => write!(
                f,
                "writer position {found} without a checkpoint, expected {expected}, the higher checkpoint; \
                 the next push mends it, a successor ends the generation there"
            ),
            FindingKind::Cursor => write!(
                f,
                "writer position {found} and no checkpoint that checks, expected one; \
                 a dead writer's end is unknown, what is sound up to position {expected} can be salvaged"
            ),
            FindingKind::Checkpoint => write!(
                f,
                "checkpoint at byte {offset} holds check {found:#018x}, expected {expected:#018x}: its writer \
                was in the middle of a push; nothing to do"
            ),
            FindingKind::Limit => write!(
                f,
                "limit {found}, expected a position from {expected} to one capacity behind it; the writer's \
                next look at the table mends it"
            ),
            FindingKind::Bell => {
                write!(f, "doorbell at byte {offset} is {found}, expected anything but 0; the next ring mends it")
            }
            FindingKind::SlotState { slot } => write!(
                f,
                "slot {slot}: state {:?}, expected one of the five known; the reader that holds its byte must \
                join again",
                SlotState(found as u32)
            ),
            FindingKind::SlotCard { slot } => {
                write!(
                    f,
                    "slot {slot}: name or kind does not check (check {found:#018x}); its reader must join \
                again"
                )
            }
            FindingKind::SlotCursor { slot } => write!(
                f,
                "slot {slot}: position {found} without a checkpoint, expected {expected}; its reader's next \
                release mends it"
            ),
            FindingKind::SlotAhead { slot } => write!(
                f,
                "slot {slot}: reader at position {found}, expected at most {expected}, the end of what is readable; \
                 it does not hold the writer back, its reader must join again"
            ),
            FindingKind::Overrun { slot } => write!(
                f,
                "slot {slot}: reader at position {found}, expected at least {expected}, in front of which the \
                writer may have \
                 overwritten; expect it to report lost records"
            ),
            FindingKind::Taken { slot } => write!(
                f,
                "slot {slot}: handed out up to sequence {found}, expected {expected}; \
                 records may be marked redelivered wrongly, nothing else"
            ),
            FindingKind::Name { slot, other } => write!(
                f,
                "slot {slot}: same reader name as slot {other}, expected one slot for a name; forget the one \
                that is not read"
            ),
            FindingKind::Records { len, lost: Some(0) } => write!(
                f,
                "{len} bytes at position {found} hold no sound record, expected sequence {expected}; no record \
                is lost, only filler"
            ),
            FindingKind::Records { len, lost: Some(lost) } => write!(
                f,
                "{len} bytes at position {found} hold no sound record, expected sequence {expected}; \
                 exactly {lost} lost, look who writes to this file"
            ),
            FindingKind::Records { len, lost: None } => write!(
                f,
                "{len} bytes at position {found} hold no sound record, expected sequence {expected} or later; \
                 an unknown number is lost, look who writes to this file"
            ),
            FindingKind::Gap { lost } => {
                write!(f, "sequence {found}, expected {expected}; exactly {lost} lost, look who writes to this file")
            }
            FindingKind::Torn { records } => write!(
                f,
                "checkpoint at position {found}, expected {expected}: torn push, visible only if a successor ends behind it ({records} \
                complete records); nothing to do"
            ),
            FindingKind::Staged { records } => write!(
                f,
                "{records} complete records up to position {found}, expected none behind {expected}: \
                 a push that was not published; nothing to do"
            ),
            FindingKind::Fenced { records } => write!(
                f,
                "published up to position {found}, expected {expected}, the end: {records} complete records \
                behind it were \
                 refused to their writer as fenced; nothing to do"
            ),
            FindingKind::Budget => write!(
                f,
                "over {found} bytes were checksummed without finding a sound record, expected less than {expected}; \
                 the bytes look forged, what follows counts as lost"
            ),
            FindingKind::More => {
                write!(f, "{found} more findings, expected at most {expected}; mend or salvage these first")
            }
        }?;
        write!(f, " [{}]", self.id())
    }
}
