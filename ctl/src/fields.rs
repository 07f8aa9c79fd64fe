//! The fields of a segment by name, as docs/FORMAT.md lists them: a test holds the two together.

use ringward_ring::layout::{CURSOR_AT, DOORBELL_AT, HEARTBEAT_AT, RECORD_HEADER, SUCCESSION_AT};
use ringward_ring::word::{Checksum, EndWord, Kind, RecordKind, SegmentId, SlotState, State, SuccessorWord};

/// How a field's bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kin {
    /// A number.
    Number,
    /// Bits, checks and ids: hexadecimal.
    Bits,
    /// Text, padded with zeros.
    Text,
    /// Raw bytes.
    Raw,
    /// Nanoseconds since 1970.
    Time,
    /// Words of the tables of those names.
    State,
    SlotState,
    Kind,
    Checksum,
    RecordKind,
    End,
    Successor,
}

/// A field: where it begins in its part, how many bytes it has, its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) name: &'static str,
    pub(crate) kin: Kin,
}

const fn field(at: usize, len: usize, name: &'static str, kin: Kin) -> Field {
    Field { at, len, name, kin }
}

pub(crate) const IDENTITY: &[Field] = &[
    field(0, 8, "magic", Kin::Text),
    field(8, 2, "major", Kin::Number),
    field(10, 2, "minor", Kin::Number),
    field(12, 4, "header length", Kin::Number),
    field(16, 4, "page", Kin::Number),
    field(20, 4, "slots", Kin::Number),
    field(24, 8, "capacity", Kin::Number),
    field(32, 4, "record limit", Kin::Number),
    field(36, 4, "checksum kind", Kin::Checksum),
    field(40, 8, "features", Kin::Bits),
    field(48, 8, "schema", Kin::Bits),
    field(56, 8, "channel", Kin::Bits),
    field(64, 8, "generation", Kin::Number),
    field(72, 8, "segment id", Kin::Bits),
    field(80, 8, "first sequence", Kin::Number),
    field(88, 8, "predecessor", Kin::Bits),
    field(96, 8, "predecessor's end", Kin::Number),
    field(104, 4, "owner pid", Kin::Number),
    field(108, 4, "owner pid namespace", Kin::Number),
    field(112, 8, "owner start", Kin::Number),
    field(120, 16, "owner boot id", Kin::Raw),
    field(136, 8, "created", Kin::Time),
    field(144, 4, "beat interval", Kin::Number),
    field(148, 104, "reserved", Kin::Raw),
    field(252, 4, "crc", Kin::Bits),
];

pub(crate) const WRITER_PAGE: &[Field] = &[
    field(SUCCESSION_AT, 4, "state", Kin::State),
    field(SUCCESSION_AT + 8, 8, "end word", Kin::End),
    field(SUCCESSION_AT + 16, 8, "successor word", Kin::Successor),
    field(SUCCESSION_AT + 24, 8, "expelled", Kin::Bits),
    field(CURSOR_AT, 56, "writer cursor", Kin::Raw),
    field(CURSOR_AT + 56, 8, "limit", Kin::Number),
    field(HEARTBEAT_AT, 8, "beat", Kin::Number),
    field(HEARTBEAT_AT + 8, 8, "beat time", Kin::Time),
    field(HEARTBEAT_AT + 16, 4, "life", Kin::Bits),
    field(DOORBELL_AT, 4, "data doorbell", Kin::Number),
];

pub(crate) const TABLE_HEAD: &[Field] = &[
    field(0, 4, "data waiters", Kin::Number),
    field(128, 4, "space doorbell", Kin::Number),
    field(132, 4, "space waiters", Kin::Number),
];

pub(crate) const SLOT: &[Field] = &[
    field(0, 4, "state", Kin::SlotState),
    field(4, 4, "kind", Kin::Kind),
    field(8, 56, "cursor", Kin::Raw),
    field(64, 32, "name", Kin::Text),
    field(96, 4, "pid", Kin::Number),
    field(100, 4, "pid namespace", Kin::Number),
    field(104, 8, "start", Kin::Number),
    field(112, 8, "taken", Kin::Number),
    field(120, 8, "card check", Kin::Bits),
];

pub(crate) const CURSOR: &[Field] = &[
    field(0, 8, "position", Kin::Number),
    field(8, 8, "A.position", Kin::Number),
    field(16, 8, "A.sequence", Kin::Number),
    field(24, 8, "A.check", Kin::Bits),
    field(32, 8, "B.position", Kin::Number),
    field(40, 8, "B.sequence", Kin::Number),
    field(48, 8, "B.check", Kin::Bits),
];

pub(crate) const RECORD: &[Field] = &[
    field(0, 4, "len", Kin::Number),
    field(4, 4, "kind", Kin::RecordKind),
    field(8, 4, "type", Kin::Number),
    field(12, 4, "crc", Kin::Bits),
    field(16, 8, "sequence", Kin::Number),
];

const _: () = assert!(RECORD_HEADER == 24);

fn number(bytes: &[u8]) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(wide))
}

/// What a field's bytes say; `segment` is what self-checking words are checked against.
pub(crate) fn value(kin: Kin, bytes: &[u8], segment: Option<SegmentId>) -> String {
    let Some(number) = number(bytes).filter(|_| !matches!(kin, Kin::Text | Kin::Raw)) else {
        return match kin {
            Kin::Text => {
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes[..used].escape_ascii().to_string()
            }
            _ if bytes.iter().all(|byte| *byte == 0) => format!("{} zeros", bytes.len()),
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
    };
    let word = u32::try_from(number).unwrap_or(0);
    let wide = bytes.len() * 2;
    match kin {
        Kin::Number if number == u64::MAX && bytes.len() == 8 => "all ones".to_owned(),
        Kin::Number => number.to_string(),
        Kin::Time => format!("{}.{:09} s since 1970", number / 1_000_000_000, number % 1_000_000_000),
        Kin::State => State(word).to_string(),
        Kin::SlotState => SlotState(word).to_string(),
        Kin::Kind => Kind(word).to_string(),
        Kin::Checksum => Checksum(word).to_string(),
        Kin::RecordKind => RecordKind(word).to_string(),
        Kin::End => match (EndWord(number), segment.map(|segment| EndWord(number).read(segment))) {
            (EndWord::UNDECIDED | EndWord::UNKNOWN, _) => format!("{:?}", EndWord(number)),
            (_, Some(Ok(ringward_ring::word::End::At(position)))) => format!("position {position}"),
            _ => format!("damaged ({number:#018x})"),
        },
        Kin::Successor => match SuccessorWord(number).read() {
            Ok(ringward_ring::word::Successor::Undecided) => "UNDECIDED".to_owned(),
            Ok(ringward_ring::word::Successor::Nobody) => "NOBODY".to_owned(),
            Ok(ringward_ring::word::Successor::Segment(id)) => format!("segment {id}"),
            Err(_) => format!("damaged ({number:#018x})"),
        },
        Kin::Bits | Kin::Text | Kin::Raw => format!("{number:0wide$x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = include_str!("../../docs/FORMAT.md");

    /// Offset, size and name of each row of a table of the page; rows without a fixed size are left out.
    fn table(name: &str) -> Vec<(usize, usize, String)> {
        let mark = format!("<!-- table: {name} -->");
        let (_, text) = FORMAT.split_once(&mark).unwrap_or_else(|| panic!("no {mark}"));
        let rows = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>());
        cells.filter_map(|cells| Some((cells[1].parse().ok()?, cells[2].parse().ok()?, cells[3].clone()))).collect()
    }

    #[test]
    fn the_fields_are_those_of_the_format() {
        for (name, fields) in [
            ("identity", IDENTITY),
            ("writer page", WRITER_PAGE),
            ("table head", TABLE_HEAD),
            ("slot", SLOT),
            ("cursor", CURSOR),
            ("record", RECORD),
        ] {
            let ours: Vec<_> = fields.iter().map(|field| (field.at, field.len, field.name.to_owned())).collect();
            assert_eq!(ours, table(name), "{name}; left: this file, right: docs/FORMAT.md");
        }
    }

    #[test]
    fn values_are_read_little_endian_and_damage_is_said() {
        assert_eq!(value(Kin::Number, &[1, 2], None), "513");
        assert_eq!(value(Kin::Bits, &[1, 2, 0, 0], None), "00000201");
        assert_eq!(value(Kin::Text, b"ab\0\0", None), "ab");
        assert_eq!(value(Kin::Raw, &[0; 4], None), "4 zeros");
        assert_eq!(value(Kin::State, &State::OPEN.0.to_le_bytes(), None), "OPEN");
        assert_eq!(value(Kin::State, &[0; 4], None), "State(0x00000000)");
        let id = SegmentId::from_random(1 << 40);
        assert_eq!(value(Kin::End, &EndWord::at(64, id).0.to_le_bytes(), Some(id)), "position 64");
        assert_eq!(value(Kin::End, &[9; 8], Some(id)), "damaged (0x0909090909090909)");
        assert_eq!(value(Kin::Successor, &SuccessorWord::NOBODY.0.to_le_bytes(), None), "NOBODY");
    }
}
