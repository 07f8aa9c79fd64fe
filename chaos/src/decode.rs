//! Reads a segment's bytes, as docs/FORMAT.md describes them and by nothing else: what the library says of its own memory
//! is not asked.
//!
//! It looks at corpses: copies of segments whose writer is dead. What must hold there, whatever instruction the writer
//! died at: the identity is whole, every decided word checks, the cursor is sound, and all records from what the slowest
//! reader may still need up to the end are whole and numbered without a hole.

const IDENTITY: usize = 256;
const ALIGN: u64 = 32;
const HEADER: u64 = 24;
const MOST: u64 = 1 << 53;

const OPEN: u32 = 0x4f50_454e;
const FENCING: u32 = 0x4645_4e43;
const CLOSED: u32 = 0x434c_5345;
const SUCCEEDED: u32 = 0x5355_4343;
const CANDIDATE: u32 = 0x4341_4e44;
const RETIRED: u32 = 0x5245_5449;
const DATA: u32 = 0x4441_5441;
const WRAP: u32 = 0x5752_4150;
const FULL: u32 = 0x6675_6c6c;
const HEADER_ONLY: u32 = 0x6865_6164;
const UNDECIDED_END: u64 = 0x756e_6465_6369_6465;
const UNKNOWN_END: u64 = 0x756e_6b6e_6f77_6e21;
const UNDECIDED_SUCCESSOR: u64 = 0x6f70_656e_776f_7264;
const NOBODY: u64 = 0x6e6f_626f_6479_2121;

/// What a corpse says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Corpse {
    pub(crate) generation: u64,
    pub(crate) first_sequence: u64,
    pub(crate) state: u32,
    /// Where it ends, if that is decided.
    pub(crate) end: Option<u64>,
    /// Whether a successor is decided.
    pub(crate) followed: bool,
    /// The next sequence number, at the end.
    pub(crate) next_sequence: u64,
    /// Records that were found whole: sequence number, type, payload's length and first bytes.
    pub(crate) records: Vec<Record>,
}

struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }
}

/// CRC-32C, table by table (slicing by eight).
#[derive(Debug)]
pub(crate) struct Castagnoli([[u32; 256]; 8]);

impl Castagnoli {
    pub(crate) fn new() -> Castagnoli {
        let mut tables = [[0_u32; 256]; 8];
        for n in 0..256_u32 {
            let mut crc = n;
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
            tables[0][n as usize] = crc;
        }
        for table in 1..8 {
            for n in 0..256 {
                let before = tables[table - 1][n];
                tables[table][n] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            }
        }
        Castagnoli(tables)
    }

    fn update(&self, mut crc: u32, bytes: &[u8]) -> u32 {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let low = crc ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
            let mut next = 0;
            for (at, byte) in low.to_le_bytes().into_iter().chain(eight[4..].iter().copied()).enumerate() {
                next ^= self.0[7 - at][usize::from(byte)];
            }
            crc = next;
        }
        for byte in rest {
            crc = crc >> 8 ^ self.0[0][usize::from(*byte ^ crc as u8)];
        }
        crc
    }

    pub(crate) fn of(&self, parts: &[&[u8]]) -> u32 {
        !parts.iter().fold(!0, |crc, part| self.update(crc, part))
    }
}

fn tag16(value: u64, salt: u64) -> u64 {
    let x = (value ^ salt.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 48
}

fn is_segment_id(id: u64) -> bool {
    id >> 16 != 0 && tag16(id >> 16, 0x7269_6e67_7761_7264) == id & 0xffff
}

fn check(position: u64, sequence: u64, segment: u64) -> u64 {
    let x = (position ^ segment).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let y = (sequence ^ x.rotate_left(31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ y ^ (y >> 32) ^ 0x7269_6e67
}

fn possible(position: u64) -> bool {
    position.is_multiple_of(ALIGN) && position < MOST
}

/// Reads a copy of a whole file.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(crate) fn corpse(file: &[u8], crc: &Castagnoli) -> Result<Corpse, String> {
    let bytes = Bytes(file);
    if file.len() < IDENTITY || &file[..8] != b"RINGWARD" {
        return Err("no segment".into());
    }
    if bytes.u32(8) & 0xffff != 1 {
        return Err(format!("major version {}", bytes.u32(8) & 0xffff));
    }
    let found = bytes.u32(252);
    let computed = crc.of(&[&file[..252]]);
    if found != computed {
        return Err(format!("identity: crc is {found:#x}, computed {computed:#x}"));
    }
    let (page, slots, capacity) = (bytes.u32(16) as usize, bytes.u32(20) as usize, bytes.u64(24));
    let (record_limit, checksum) = (bytes.u32(32), bytes.u32(36));
    let (generation, segment, first_sequence) = (bytes.u64(64), bytes.u64(72), bytes.u64(80));
    let table = (256 + 128 * slots).next_multiple_of(page.max(1));
    let data_at = page + table;
    if !capacity.is_power_of_two() || file.len() as u64 != data_at as u64 + capacity {
        return Err(format!("{} bytes for a capacity of {capacity}", file.len()));
    }
    if !is_segment_id(segment) || generation == 0 || ![FULL, HEADER_ONLY].contains(&checksum) {
        return Err("identity: a field can't be".into());
    }
    let state = bytes.u32(256);
    if ![OPEN, FENCING, CLOSED, SUCCEEDED, CANDIDATE, RETIRED].contains(&state) {
        return Err(format!("state {state:#x}"));
    }
    let end = match bytes.u64(264) {
        UNDECIDED_END => None,
        UNKNOWN_END => return Err("the end is unknown, though nothing was damaged".into()),
        word if tag16(word >> 16, segment) == word & 0xffff && (word >> 16) * ALIGN < MOST => {
            Some((word >> 16) * ALIGN)
        }
        word => return Err(format!("end word {word:#x}")),
    };
    let followed = match bytes.u64(272) {
        UNDECIDED_SUCCESSOR => false,
        NOBODY => return Err("nobody is to follow".into()),
        word if is_segment_id(word) => true,
        word => return Err(format!("successor word {word:#x}")),
    };
    let position = bytes.u64(384);
    let checkpoints = [392, 416].map(|at| (bytes.u64(at), bytes.u64(at + 8), bytes.u64(at + 16)));
    let sound = checkpoints.iter().filter(|(p, s, c)| possible(*p) && check(*p, *s, segment) == *c);
    let sequence = sound.clone().find(|(p, ..)| *p == position).map(|(_, s, _)| *s);
    let Some(sequence) = sequence.filter(|_| possible(position)) else {
        return Err(format!("cursor: no checkpoint for position {position}: {checkpoints:x?}"));
    };
    // A writer that died between its checkpoint and its publication may have been ended at either: all in front of the
    // checkpoint was completely written.
    let (readable, sequence) = match end {
        None => (position, sequence),
        Some(end) => match sound.clone().find(|(p, ..)| *p == end) {
            Some((_, sequence, _)) if end >= position => (end, *sequence),
            _ => return Err(format!("decided to end at {end}, published up to {position}: {checkpoints:x?}")),
        },
    };
    let limit = bytes.u64(440);
    if !limit.is_multiple_of(ALIGN) || limit < readable || limit > position + capacity {
        return Err(format!("limit {limit} with position {position} and capacity {capacity}"));
    }
    let shape = Shape { segment, capacity, record_limit, checksum };
    let records = records(&file[data_at..], &shape, limit.saturating_sub(capacity), readable, crc)?;
    for pair in records.windows(2) {
        if pair[1].0 != pair[0].0 + 1 {
            return Err(format!("record {} is followed by record {}", pair[0].0, pair[1].0));
        }
    }
    if let Some(first) = records.first().filter(|first| limit <= capacity && first.0 != first_sequence) {
        return Err(format!("the first record is {}, the identity says {first_sequence}", first.0));
    }
    if let Some(last) = records.last().filter(|last| last.0 + 1 != sequence) {
        return Err(format!("the last record is {}, the cursor says that {sequence} comes next", last.0));
    }
    Ok(Corpse { generation, first_sequence, state, end, followed, next_sequence: sequence, records })
}

struct Shape {
    segment: u64,
    capacity: u64,
    record_limit: u32,
    checksum: u32,
}

/// Sequence number, type, length, and the first bytes of the payload.
type Record = (u64, u32, u32, [u8; 12]);

/// All records in `from..end`, which must be whole, border to border.
fn records(data: &[u8], shape: &Shape, from: u64, end: u64, crc: &Castagnoli) -> Result<Vec<Record>, String> {
    let bytes = Bytes(data);
    let mut found = Vec::new();
    let mut at = from;
    while at < end {
        let offset = (at & (shape.capacity - 1)) as usize;
        let (len, kind, record_type) = (bytes.u32(offset), bytes.u32(offset + 4), bytes.u32(offset + 8));
        let (sum, sequence) = (bytes.u32(offset + 12), bytes.u64(offset + 16));
        let span = (HEADER + u64::from(len)).next_multiple_of(ALIGN);
        let to_end = shape.capacity - offset as u64;
        let fits = span <= to_end
            && span <= end - at
            && match kind {
                DATA => len <= shape.record_limit,
                WRAP => span == to_end,
                _ => false,
            };
        if !fits {
            return Err(format!("position {at}: no record (length {len}, kind {kind:#x})"));
        }
        let mut preamble = [0; 36];
        preamble[..12].copy_from_slice(&data[offset..offset + 12]);
        preamble[12..20].copy_from_slice(&sequence.to_le_bytes());
        preamble[20..28].copy_from_slice(&at.to_le_bytes());
        preamble[28..].copy_from_slice(&shape.segment.to_le_bytes());
        let payload = &data[offset + HEADER as usize..][..if kind == DATA { len as usize } else { 0 }];
        let covered: &[u8] = if shape.checksum == FULL { payload } else { &[] };
        if crc.of(&[&preamble, covered]) != sum {
            return Err(format!("position {at}: record {sequence} of {len} bytes does not check"));
        }
        if kind == DATA {
            found.push((sequence, record_type, len, crate::payload::head(payload)));
        }
        at += span;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_examples_hold() {
        let crc = Castagnoli::new();
        assert_eq!(crc.of(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc.of(&[b"12345", b"6789"]), 0xe306_9283);
        let segment = 0x0123_4567_89ab_97e2;
        assert!(is_segment_id(segment) && !is_segment_id(segment ^ 1) && !is_segment_id(0));
        assert_eq!((4096 / ALIGN) << 16 | tag16(4096 / ALIGN, segment), 0x0080_ba7c);
        assert_eq!(check(0, 1, segment), 0xb822_b908_0a02_eeef);
        assert_eq!(check(96, 4, segment), 0x6d20_23d0_8325_5472);
        let mut data = vec![0; 4096];
        data[..29].copy_from_slice(&[
            5, 0, 0, 0, 0x41, 0x54, 0x41, 0x44, 7, 0, 0, 0, 0xb8, 5, 0x41, 0x3b, 1, 0, 0, 0, 0, 0, 0, 0, b'h', b'e',
            b'l', b'l', b'o',
        ]);
        let shape = Shape { segment, capacity: 4096, record_limit: 100, checksum: FULL };
        let found = records(&data, &shape, 0, 32, &crc);
        assert_eq!(found, Ok(vec![(1, 7, 5, *b"hello\0\0\0\0\0\0\0")]));
        data[25] ^= 1;
        assert!(records(&data, &shape, 0, 32, &crc).unwrap_err().contains("does not check"));
        assert!(records(&data, &shape, 64, 96, &crc).unwrap_err().contains("no record"));
    }
}
