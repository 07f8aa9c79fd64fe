//! State words as they lie in shared memory: newtypes over the raw number, with named values.
//!
//! They are never Rust enums: any number may be found there, and an unknown one must be a value that can be printed and
//! refused, not undefined behaviour. Each value is far (in bits) from every other and from zero, so that one flipped bit
//! or a page replaced by zeros is never taken for another state. (After rustix's `Errno`.)

use core::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $value:ident = $raw:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$vdoc])* pub const $value: $name = $name($raw);)+

            /// Name of the value, if it is one of the known ones.
            pub const fn known(self) -> Option<&'static str> {
                match self.0 { $($raw => Some(stringify!($value)),)+ _ => None }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.known() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}({:#010x})", stringify!($name), self.0),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

words! {
    /// State of a generation, in its succession line.
    State {
        /// Linked under its name, but not yet confirmed by its predecessor's successor word: never joined, ended or succeeded.
        CANDIDATE = 0x4341_4e44,
        /// The current generation: its writer pushes, readers may join.
        OPEN = 0x4f50_454e,
        /// Being ended by a successor or by the watchdog; the end may not be decided yet.
        FENCING = 0x4645_4e43,
        /// Ended by its own writer, orderly: no standby takes over.
        CLOSED = 0x434c_5345,
        /// Followed by the generation that the successor word names.
        SUCCEEDED = 0x5355_4343,
        /// A withdrawn rival, or taken away by the watchdog.
        RETIRED = 0x5245_5449,
    }
}

words! {
    /// State of a reader's slot.
    SlotState {
        /// Nobody's.
        FREE = 0x6672_6565,
        /// A reader is joining: the writer counts it if its byte is locked.
        PROVISIONAL = 0x7072_6f76,
        /// A reader reads here.
        ACTIVE = 0x6163_7476,
        /// Copied from the predecessor; its reader still drains that one.
        CARRIED = 0x6361_7272,
        /// The reader has left this generation for the next one.
        DONE = 0x646f_6e65,
    }
}

words! {
    /// Kind of reader.
    Kind {
        /// Gives its place up at death.
        EPHEMERAL = 0x6570_6865,
        /// Keeps its place over restarts until forgotten.
        DURABLE = 0x6475_7261,
    }
}

words! {
    /// Which bytes a channel's checksums cover besides header fields, position and segment id.
    Checksum {
        /// The whole payload.
        FULL = 0x6675_6c6c,
        /// Nothing more: for large payloads from trusted peers.
        HEADER = 0x6865_6164,
    }
}

words! {
    /// What lies at a position of the data ring.
    RecordKind {
        /// A record with a payload.
        DATA = 0x4441_5441,
        /// Filler up to the end of the ring: the next record begins at its start.
        WRAP = 0x5752_4150,
    }
}

/// Sixteen bits that tie a number to a segment, for self-checking words.
fn tag16(value: u64, salt: u64) -> u64 {
    let x = (value ^ salt.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 48
}

/// Where a generation ends: `position / 32` in the upper 48 bits, a check in the lower 16; or [`EndWord::UNDECIDED`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EndWord(pub u64);

impl EndWord {
    /// Not decided yet.
    pub const UNDECIDED: EndWord = EndWord(0x756e_6465_6369_6465);
    /// Decided, but nobody can know where: the writer died and the cursor does not check.
    pub const UNKNOWN: EndWord = EndWord(0x756e_6b6e_6f77_6e21);

    /// The word for a decided end.
    pub fn at(position: u64, segment: SegmentId) -> EndWord {
        let units = position / crate::layout::ALIGN;
        EndWord(units << 16 | tag16(units, segment.0))
    }

    /// What the word says, or an error if it was damaged.
    pub fn read(self, segment: SegmentId) -> Result<End, BadWord> {
        if self == EndWord::UNDECIDED {
            return Ok(End::Undecided);
        }
        if self == EndWord::UNKNOWN {
            return Ok(End::Unknown);
        }
        let units = self.0 >> 16;
        let position = units * crate::layout::ALIGN;
        if tag16(units, segment.0) == self.0 & 0xffff && position < crate::layout::MAX_POSITION * 2 {
            Ok(End::At(position))
        } else {
            Err(BadWord(self.0))
        }
    }
}

impl fmt::Debug for EndWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EndWord::UNDECIDED => f.write_str("UNDECIDED"),
            EndWord::UNKNOWN => f.write_str("UNKNOWN"),
            EndWord(raw) => write!(f, "EndWord({} bytes, tag {:04x})", (raw >> 16) * 32, raw & 0xffff),
        }
    }
}

/// Where a generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody has decided yet.
    Undecided,
    /// Decided: at this position, in bytes.
    At(u64),
    /// Decided that nobody can know.
    Unknown,
}

/// A self-checking word that does not check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a self-checking word holds {0:#018x}, which is no value of it")]
pub struct BadWord(pub u64);

/// Name of a segment for life: 48 random bits and 16 of check. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Salt of the id's own check.
    const SALT: u64 = 0x7269_6e67_7761_7264;

    /// An id from random bits (the upper 48 are used; all zero is moved to one).
    pub fn from_random(random: u64) -> SegmentId {
        let upper = (random >> 16).max(1);
        SegmentId(upper << 16 | tag16(upper, Self::SALT))
    }

    /// Whether the id's check is right.
    pub fn is_valid(self) -> bool {
        let upper = self.0 >> 16;
        upper != 0 && tag16(upper, Self::SALT) == self.0 & 0xffff
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Who follows a generation, as decided once by compare-and-swap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SuccessorWord(pub u64);

impl SuccessorWord {
    /// Not decided yet.
    pub const UNDECIDED: SuccessorWord = SuccessorWord(0x6f70_656e_776f_7264);
    /// Decided: nobody. The generation is retired, and anybody may finish taking it away.
    pub const NOBODY: SuccessorWord = SuccessorWord(0x6e6f_626f_6479_2121);

    /// What the word says, or an error if it was damaged.
    pub fn read(self) -> Result<Successor, BadWord> {
        match self {
            SuccessorWord::UNDECIDED => Ok(Successor::Undecided),
            SuccessorWord::NOBODY => Ok(Successor::Nobody),
            SuccessorWord(raw) if SegmentId(raw).is_valid() => Ok(Successor::Segment(SegmentId(raw))),
            SuccessorWord(raw) => Err(BadWord(raw)),
        }
    }
}

/// Who follows a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// Nobody has decided yet.
    Undecided,
    /// The segment with this id.
    Segment(SegmentId),
    /// Nobody, ever: the channel was retired here.
    Nobody,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_turns_one_word_into_another() {
        let states = [State::CANDIDATE, State::OPEN, State::FENCING, State::CLOSED, State::SUCCEEDED, State::RETIRED];
        for a in states {
            for b in states.into_iter().filter(|b| *b != a) {
                assert!((a.0 ^ b.0).count_ones() >= 3, "{a} and {b} are too near");
            }
            assert!(State(0).known().is_none());
        }
        let id = SegmentId::from_random(0x1234_5678_9abc_def0);
        assert!(id.is_valid());
        let end = EndWord::at(4096, id);
        assert_eq!(end.read(id), Ok(End::At(4096)));
        for bit in 0..64 {
            assert!(!SegmentId(id.0 ^ 1 << bit).is_valid(), "bit {bit} of an id");
            assert!(EndWord(end.0 ^ 1 << bit).read(id).is_err(), "bit {bit} of an end word");
        }
        assert!(EndWord(0).read(id).is_err());
        assert!(SuccessorWord(0).read().is_err());
    }

    #[test]
    fn an_end_is_a_position_that_there_can_be() {
        use crate::layout::{ALIGN, MAX_POSITION};
        let id = SegmentId::from_random(0x1234_5678_9abc_def0);
        for at in [0, ALIGN, MAX_POSITION, 2 * MAX_POSITION - ALIGN] {
            assert_eq!(EndWord::at(at, id).read(id), Ok(End::At(at)));
        }
        for at in [2 * MAX_POSITION, 2 * MAX_POSITION + ALIGN] {
            assert_eq!(EndWord::at(at, id).read(id), Err(BadWord(EndWord::at(at, id).0)), "{at:#x}");
        }
        assert_eq!(EndWord::UNDECIDED.read(id), Ok(End::Undecided));
        assert_eq!(EndWord::UNKNOWN.read(id), Ok(End::Unknown));
    }

    /// The words of the worked examples in `docs/FORMAT.md`, as people see them.
    #[test]
    fn words_are_shown_by_their_names_or_their_numbers() {
        let id = SegmentId::from_random(0x0123_4567_89ab_cdef);
        assert_eq!((id.to_string(), format!("{id:?}")), ("0123456789ab97e2".into(), "0123456789ab97e2".into()));
        assert_eq!(format!("{:?}", EndWord::at(4096, id)), "EndWord(4096 bytes, tag ba7c)");
        assert_eq!(format!("{:?} {:?}", EndWord::UNDECIDED, EndWord::UNKNOWN), "UNDECIDED UNKNOWN");
        assert_eq!(format!("{} {:?}", State::OPEN, SlotState(7)), "OPEN SlotState(0x00000007)");
        assert_eq!(SegmentId(0xfe).to_string(), "00000000000000fe");
    }
}
