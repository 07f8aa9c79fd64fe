//! `docs/FORMAT.md` held against the code: every table and every worked example.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use ringward_ring::checksum::crc32c;
use ringward_ring::cursor::{Mark, check};
use ringward_ring::identity::{Features, Identity, Owner, Predecessor};
use ringward_ring::image::{self, Piece};
use ringward_ring::layout::{
    self, Checkpoint, Cursor, CursorLine, Geometry, HeartbeatLine, Slot, SuccessionLine, TableHead,
};
use ringward_ring::table::MAX_NAME;
use ringward_ring::word::{Checksum, EndWord, Kind, RecordKind, SegmentId, SlotState, State, SuccessorWord};

use crate::golden;

fn page() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    std::fs::read_to_string(path).expect("docs/FORMAT.md")
}

/// The rows of the table behind `<!-- table: name -->`, without its head.
fn table(name: &str) -> Vec<Vec<String>> {
    let text = page();
    let marker = format!("<!-- table: {name} -->");
    let behind = text.split_once(&marker).unwrap_or_else(|| panic!("no {marker} in FORMAT.md")).1;
    let rows = behind.trim_start().lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn number(cell: &str) -> u64 {
    let parsed = match cell.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => cell.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell:?} in FORMAT.md is no number"))
}

/// Compares a table of `name | number` with the code.
#[track_caller]
fn same_numbers(name: &str, code: &[(&str, u64)]) {
    let written: BTreeMap<_, _> = table(name).into_iter().map(|row| (row[0].clone(), number(&row[1]))).collect();
    let code: BTreeMap<_, _> = code.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    assert_eq!(written, code, "table {name:?}: FORMAT.md on the left, the code on the right");
}

/// Compares a table of `offset | size | field` with the code.
#[track_caller]
fn same_fields(name: &str, code: &[(usize, usize, &str)]) {
    let written: Vec<_> = table(name)
        .into_iter()
        .map(|row| (number(&row[0]) as usize, row[1].parse().unwrap_or(0), row[2].clone()))
        .collect();
    let code: Vec<_> = code.iter().map(|(at, size, field)| (*at, *size, (*field).to_owned())).collect();
    assert_eq!(written, code, "table {name:?}: FORMAT.md on the left, the code on the right");
}

#[test]
fn limits_and_locks() {
    same_numbers(
        "limits",
        &[
            ("MIN_PAGE", layout::MIN_PAGE.into()),
            ("MAX_PAGE", layout::MAX_PAGE.into()),
            ("MAX_SLOTS", layout::MAX_SLOTS.into()),
            ("DEFAULT_SLOTS", layout::DEFAULT_SLOTS.into()),
            ("MIN_CAPACITY", layout::MIN_CAPACITY),
            ("MAX_CAPACITY", layout::MAX_CAPACITY),
            ("ALIGN", layout::ALIGN),
            ("RECORD_HEADER", layout::RECORD_HEADER),
            ("MAX_POSITION", layout::MAX_POSITION),
            ("IDENTITY_LEN", layout::IDENTITY_LEN as u64),
            ("TABLE_HEAD_LEN", layout::TABLE_HEAD_LEN as u64),
            ("SLOT_LEN", layout::SLOT_LEN as u64),
            ("MAX_NAME", MAX_NAME as u64),
        ],
    );
    same_numbers(
        "locks",
        &[
            ("WRITER_BYTE", layout::WRITER_BYTE),
            ("READER_BYTE", layout::READER_BYTE),
            ("PRESENCE_BYTE", layout::PRESENCE_BYTE),
        ],
    );
}

#[test]
fn words() {
    let words =
        |all: &[(&'static str, u32)]| all.iter().map(|(name, raw)| (*name, u64::from(*raw))).collect::<Vec<_>>();
    macro_rules! all {
        ($kind:ident: $($name:ident)+) => { words(&[$((stringify!($name), $kind::$name.0)),+]) };
    }
    same_numbers("state", &all!(State: CANDIDATE OPEN FENCING CLOSED SUCCEEDED RETIRED));
    same_numbers("slot state", &all!(SlotState: FREE PROVISIONAL ACTIVE CARRIED DONE));
    same_numbers("reader kind", &all!(Kind: EPHEMERAL DURABLE));
    same_numbers("checksum kind", &all!(Checksum: FULL HEADER));
    same_numbers("record kind", &all!(RecordKind: DATA WRAP));
    same_numbers(
        "special words",
        &[
            ("end UNDECIDED", EndWord::UNDECIDED.0),
            ("end UNKNOWN", EndWord::UNKNOWN.0),
            ("successor UNDECIDED", SuccessorWord::UNDECIDED.0),
            ("successor NOBODY", SuccessorWord::NOBODY.0),
        ],
    );
}

#[test]
fn writer_page_and_reader_table() {
    let (succession, cursor, heartbeat) = (layout::SUCCESSION_AT, layout::CURSOR_AT, layout::HEARTBEAT_AT);
    same_fields(
        "writer page",
        &[
            (succession + offset_of!(SuccessionLine, state), 4, "state"),
            (succession + offset_of!(SuccessionLine, end), 8, "end word"),
            (succession + offset_of!(SuccessionLine, successor), 8, "successor word"),
            (succession + offset_of!(SuccessionLine, expelled), 8, "expelled"),
            (cursor + offset_of!(CursorLine, cursor), size_of::<Cursor>(), "writer cursor"),
            (cursor + offset_of!(CursorLine, limit), 8, "limit"),
            (heartbeat + offset_of!(HeartbeatLine, beat), 8, "beat"),
            (heartbeat + offset_of!(HeartbeatLine, time), 8, "beat time"),
            (heartbeat + offset_of!(HeartbeatLine, life), 4, "life"),
            (layout::DOORBELL_AT, 4, "data doorbell"),
        ],
    );
    same_fields(
        "table head",
        &[
            (offset_of!(TableHead, data_waiters), 4, "data waiters"),
            (offset_of!(TableHead, space_bell), 4, "space doorbell"),
            (offset_of!(TableHead, space_waiters), 4, "space waiters"),
        ],
    );
    same_fields(
        "slot",
        &[
            (offset_of!(Slot, state), 4, "state"),
            (offset_of!(Slot, kind), 4, "kind"),
            (offset_of!(Slot, cursor), size_of::<Cursor>(), "cursor"),
            (offset_of!(Slot, name), 32, "name"),
            (offset_of!(Slot, pid), 4, "pid"),
            (offset_of!(Slot, pid_namespace), 4, "pid namespace"),
            (offset_of!(Slot, start), 8, "start"),
            (offset_of!(Slot, taken), 8, "taken"),
            (offset_of!(Slot, check), 8, "card check"),
        ],
    );
    let (a, b) = (offset_of!(Cursor, checkpoints), offset_of!(Cursor, checkpoints) + size_of::<Checkpoint>());
    same_fields(
        "cursor",
        &[
            (offset_of!(Cursor, position), 8, "position"),
            (a + offset_of!(Checkpoint, position), 8, "A.position"),
            (a + offset_of!(Checkpoint, sequence), 8, "A.sequence"),
            (a + offset_of!(Checkpoint, check), 8, "A.check"),
            (b + offset_of!(Checkpoint, position), 8, "B.position"),
            (b + offset_of!(Checkpoint, sequence), 8, "B.sequence"),
            (b + offset_of!(Checkpoint, check), 8, "B.check"),
        ],
    );
}

#[test]
fn geometry() {
    for (page, slots, table_len) in
        [(4096u32, 1u32, 4096u64), (4096, 30, 4096), (4096, 31, 8192), (4096, 64, 12288), (65536, 64, 65536)]
    {
        let geometry = Geometry { page, slots, capacity: 1 << 20 };
        let written = (256 + 128 * u64::from(slots)).next_multiple_of(page.into());
        assert_eq!((written, geometry.table_len()), (table_len, table_len));
        assert_eq!(geometry.data_at(), u64::from(page) + table_len);
        assert_eq!(geometry.total(), u64::from(page) + table_len + (1 << 20));
    }
    assert_eq!(layout::max_record(4096), 4096 / 2 - 24);
    assert_eq!([0, 8, 9, 40, 41].map(layout::record_len), [32, 32, 64, 64, 96]);
}

fn identity(ones: bool) -> Identity {
    let all = |bits: u32| if ones { u64::MAX >> (64 - bits) } else { 0 };
    Identity {
        minor: all(16) as u16,
        geometry: Geometry { page: all(32) as u32, slots: all(32) as u32, capacity: all(64) },
        record_limit: all(32) as u32,
        checksum: Checksum(all(32) as u32),
        features: Features(all(64)),
        schema: all(64),
        channel: all(64),
        generation: all(64),
        segment: SegmentId(all(64)),
        first_sequence: all(64),
        predecessor: Some(Predecessor { segment: SegmentId(all(64)), end: Some(all(64)) }),
        owner: Owner { pid: all(32) as u32, pid_namespace: all(32) as u32, start: all(64), boot: [all(8) as u8; 16] },
        created: all(64),
        beat_interval: all(32) as u32,
    }
}

/// Sets one field of an identity to all ones.
type Setter = fn(&mut Identity, Identity);

#[test]
fn identity_block() {
    let fields: &[(&str, Setter)] = &[
        ("minor", |to, ones| to.minor = ones.minor),
        ("page", |to, ones| to.geometry.page = ones.geometry.page),
        ("slots", |to, ones| to.geometry.slots = ones.geometry.slots),
        ("capacity", |to, ones| to.geometry.capacity = ones.geometry.capacity),
        ("record limit", |to, ones| to.record_limit = ones.record_limit),
        ("checksum kind", |to, ones| to.checksum = ones.checksum),
        ("features", |to, ones| to.features = ones.features),
        ("schema", |to, ones| to.schema = ones.schema),
        ("channel", |to, ones| to.channel = ones.channel),
        ("generation", |to, ones| to.generation = ones.generation),
        ("segment id", |to, ones| to.segment = ones.segment),
        ("first sequence", |to, ones| to.first_sequence = ones.first_sequence),
        ("predecessor", |to, _| to.predecessor = Some(Predecessor { segment: SegmentId(u64::MAX), end: Some(0) })),
        ("predecessor's end", |to, _| to.predecessor = Some(Predecessor { segment: SegmentId(0), end: None })),
        ("owner pid", |to, ones| to.owner.pid = ones.owner.pid),
        ("owner pid namespace", |to, ones| to.owner.pid_namespace = ones.owner.pid_namespace),
        ("owner start", |to, ones| to.owner.start = ones.owner.start),
        ("owner boot id", |to, ones| to.owner.boot = ones.owner.boot),
        ("created", |to, ones| to.created = ones.created),
        ("beat interval", |to, ones| to.beat_interval = ones.beat_interval),
    ];
    let base = identity(false).encode();
    let (mut code, mut minor_seen) = (Vec::new(), 0);
    for (name, set) in fields {
        let mut changed = identity(false);
        set(&mut changed, identity(true));
        let bytes = changed.encode();
        let differ: Vec<usize> = (0..252).filter(|i| bytes[*i] != base[*i]).collect();
        if *name == "minor" {
            // The one field that is always written as this build's own.
            minor_seen = differ.len();
            code.push((10, 2, *name));
            continue;
        }
        let (first, last) = (differ[0], differ[differ.len() - 1]);
        assert_eq!(differ.len(), last + 1 - first, "{name}");
        code.push((first, differ.len(), *name));
    }
    assert!(minor_seen == 0 || minor_seen == 2);
    code.extend([(0, 8, "magic"), (8, 2, "major"), (12, 4, "header length"), (252, 4, "crc")]);
    let end = code.iter().filter(|(_, _, name)| *name != "crc").map(|(at, size, _)| at + size).max().unwrap_or(0);
    code.push((end, 252 - end, "reserved"));
    code.sort_unstable();
    same_fields("identity", &code);
    assert_eq!(base[..8], layout::MAGIC);
    assert_eq!(base[8..12], [layout::MAJOR as u8, 0, layout::MINOR as u8, 0]);
    assert_eq!(base[12..16], (layout::IDENTITY_LEN as u32).to_le_bytes());
    assert_eq!(base[252..], crc32c(&base[..252]).to_le_bytes());
    assert!(page().contains("| 8 | 2 | major | 1 |") && page().contains("| 10 | 2 | minor | 0 |"));
}

/// The bytes of the block that begins with "```hex name".
fn hex(name: &str) -> Vec<u8> {
    let text = page();
    let block = text.split_once(&format!("```hex {name}\n")).and_then(|(_, rest)| rest.split_once("```"));
    let block = block.unwrap_or_else(|| panic!("no hex block {name}")).0;
    block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

/// The fields of records and their preamble lie where the tables say: built from the tables alone, read by the crate.
#[test]
fn records_are_built_from_the_tables_alone() {
    let id = SegmentId::from_random(golden::RANDOM[0]);
    let value = |field: &str| -> Vec<u8> {
        match field {
            "len" => 5u32.to_le_bytes().to_vec(),
            "kind" => RecordKind::DATA.0.to_le_bytes().to_vec(),
            "type" => 7u32.to_le_bytes().to_vec(),
            "sequence" => 1u64.to_le_bytes().to_vec(),
            "position" => 0u64.to_le_bytes().to_vec(),
            "segment id" => id.0.to_le_bytes().to_vec(),
            "payload" => b"hello".to_vec(),
            other => panic!("unknown field {other:?} in FORMAT.md"),
        }
    };
    let mut covered = Vec::new();
    for row in table("preamble") {
        assert_eq!(number(&row[0]) as usize, covered.len());
        covered.extend(value(&row[2]));
        assert_eq!(number(&row[0]) + number(&row[1]), covered.len() as u64);
    }
    assert_eq!(covered.len(), 36);
    covered.extend(value("payload"));
    assert_eq!(covered, hex("covered"));
    let crc = crc32c(&covered);
    assert!(page().contains(&format!("{crc:#010x}.")), "its crc is {crc:#010x}");
    let mut record = Vec::new();
    for row in table("record") {
        assert_eq!(number(&row[0]) as usize, record.len());
        let bytes = if row[2] == "crc" { crc.to_le_bytes().to_vec() } else { value(&row[2]) };
        let size = if row[2] == "payload" { "len".to_owned() } else { bytes.len().to_string() };
        assert_eq!(row[1], size, "size of {}", row[2]);
        record.extend(bytes);
    }
    assert_eq!(record, hex("record"));

    // The crate reads it in a segment of that id: `clean` with this as its first record.
    let mut bytes = golden::clean().bytes;
    bytes[8192..8192 + record.len()].copy_from_slice(&record);
    let first = image::decode(&bytes).pieces().next();
    assert_eq!(first, Some(Piece::Record { position: 0, sequence: 1, record_type: 7, payload: b"hello" }));
    // And the marker in `wrapped`, at that position and in front of that number.
    let wrapped = golden::wrapped().bytes;
    assert_eq!(wrapped[8192 + 4032..][..24], hex("wrap"));
    let found = image::decode(&wrapped).pieces().find(|piece| matches!(piece, Piece::Wrap { .. }));
    assert_eq!(found, Some(Piece::Wrap { position: 4032, len: 64 }));
}

#[test]
fn worked_examples() {
    let id = SegmentId::from_random(golden::RANDOM[0]);
    assert!(id.is_valid());
    let clean = golden::clean().bytes;
    let slot = layout::Geometry { page: 4096, slots: 4, capacity: 4096 }.table_at() as usize + layout::TABLE_HEAD_LEN;
    // The crate believes this card, so its check is the crate's.
    let card = image::decode(&clean).slots[0].reading.card.expect("a card that checks");
    assert_eq!((card.name.as_str(), card.kind), ("audit", Kind::DURABLE));
    let card = u64::from_le_bytes(clean[slot + 120..slot + 128].try_into().expect("eight bytes"));
    same_numbers(
        "examples",
        &[
            ("segment id", id.0),
            ("end word for position 4096", EndWord::at(4096, id).0),
            ("check(0, 1)", check(Mark { position: 0, sequence: 1 }, id)),
            ("check(96, 4)", check(Mark { position: 96, sequence: 4 }, id)),
            ("card check of a DURABLE reader `audit`", card),
        ],
    );
}
