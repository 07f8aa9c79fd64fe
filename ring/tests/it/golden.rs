//! Builds the golden segments of `fixtures/`, bit for bit, with an encoder of its own.
//!
//! It is written from `docs/FORMAT.md` and shares no code with the crate, so that a fixture tells when the crate's idea
//! of the format moves. No clock, no randomness, no operating system: the same bytes on every machine.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

/// A golden segment.
pub struct Golden {
    /// File name.
    pub name: &'static str,
    /// How it came to be.
    pub origin: &'static str,
    /// Ids of the findings that it must give, in order.
    pub findings: &'static [&'static str],
    /// The file.
    pub bytes: Vec<u8>,
}

const PAGE: usize = 4096;
const CAPACITY: u64 = 4096;
const SLOTS: u64 = 4;
const TABLE: usize = PAGE;
const SLOT0: usize = TABLE + 256;
const DATA: usize = 2 * PAGE;
const TOTAL: usize = 3 * PAGE;
const SUCCESSION: usize = 256;
const CURSOR: usize = 384;
const LIMIT: usize = CURSOR + 56;
const HEARTBEAT: usize = 512;
const BELL: usize = 640;

/// Channel incarnation of all golden segments.
pub const CHANNEL: u64 = 0x6368_616e_6e65_6c31;
/// What the ids of the golden segments are made from: generation 1, and the one that follows it.
pub const RANDOM: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// Wall clock of the golden segments, nanoseconds since 1970.
pub const CREATED: u64 = 1_700_000_000_000_000_000;
/// Pid, pid namespace and start time of the golden writer and readers.
pub const WHO: (u32, u32, u64) = (1234, 0xf000_0001, 56789);
/// Boot id of the golden writer.
pub const BOOT: [u8; 16] = *b"golden-boot-id-1";
/// Sequence number of the first record in generation 1.
pub const FIRST: u64 = 1;
/// Record limit of the golden channel.
pub const RECORD_LIMIT: u32 = 1024;

const M1: u64 = 0x9e37_79b9_7f4a_7c15;
const M2: u64 = 0xbf58_476d_1ce4_e5b9;

/// CRC-32C, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

pub fn tag16(value: u64, salt: u64) -> u64 {
    let x = (value ^ salt.rotate_left(17)).wrapping_mul(M1);
    (x ^ (x >> 29)).wrapping_mul(M2) >> 48
}

pub fn id_from(random: u64) -> u64 {
    let upper = random >> 16;
    (upper << 16) | tag16(upper, 0x7269_6e67_7761_7264)
}

pub fn end_word(position: u64, id: u64) -> u64 {
    ((position / 32) << 16) | tag16(position / 32, id)
}

pub fn mark_check(position: u64, sequence: u64, id: u64) -> u64 {
    let x = (position ^ id).wrapping_mul(M1);
    let y = (sequence ^ x.rotate_left(31)).wrapping_mul(M2);
    x ^ y ^ (y >> 32) ^ 0x7269_6e67
}

pub fn card_check(kind: u32, name: &[u8; 32], id: u64) -> u64 {
    let mut x = id ^ u64::from(kind).rotate_left(32);
    for word in name.chunks(8) {
        x = (x.rotate_left(23) ^ u64::from_le_bytes(word.try_into().unwrap())).wrapping_mul(M1);
    }
    x ^ (x >> 32)
}

/// The whole record at `position`, padding not included.
pub fn record(id: u64, position: u64, kind: u32, record_type: u32, sequence: u64, len: u32, payload: &[u8]) -> Vec<u8> {
    let mut covered = Vec::new();
    covered.extend_from_slice(&len.to_le_bytes());
    covered.extend_from_slice(&kind.to_le_bytes());
    covered.extend_from_slice(&record_type.to_le_bytes());
    covered.extend_from_slice(&sequence.to_le_bytes());
    covered.extend_from_slice(&position.to_le_bytes());
    covered.extend_from_slice(&id.to_le_bytes());
    covered.extend_from_slice(payload);
    let crc = crc32c(&covered);
    let mut out = Vec::new();
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&record_type.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Payload of the golden record `sequence`.
pub fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (sequence * 17 + i * 7) as u8).collect()
}

pub const DATA_KIND: u32 = 0x4441_5441;
pub const WRAP_KIND: u32 = 0x5752_4150;
const OPEN: u32 = 0x4f50_454e;
const ACTIVE: u32 = 0x6163_7476;
const DURABLE: u32 = 0x6475_7261;
const EPHEMERAL: u32 = 0x6570_6865;
const UNDECIDED_END: u64 = 0x756e_6465_6369_6465;
const UNDECIDED_SUCCESSOR: u64 = 0x6f70_656e_776f_7264;

/// A golden segment in the making.
#[derive(Clone)]
pub struct Segment {
    pub bytes: Vec<u8>,
    pub id: u64,
    first: u64,
    position: u64,
    sequence: u64,
    turn: usize,
    limit: u64,
    readers: Vec<(usize, u64, u64, usize)>,
    /// Border behind each record: position and sequence.
    borders: Vec<(u64, u64)>,
}

impl Segment {
    pub fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn new(generation: u64, first: u64, checksum: u32, predecessor: Option<(u64, u64)>) -> Segment {
        let id = id_from(RANDOM[generation as usize - 1]);
        let bytes = vec![0; TOTAL];
        let (position, sequence, turn, limit) = (0, first, 0, 0);
        let mut s =
            Segment { bytes, id, first, position, sequence, turn, limit, readers: Vec::new(), borders: Vec::new() };
        s.bytes[..8].copy_from_slice(b"RINGWARD");
        s.put32(8, 1); // major 1, minor 0
        s.put32(12, 256);
        s.put32(16, PAGE as u32);
        s.put32(20, SLOTS as u32);
        s.put64(24, CAPACITY);
        s.put32(32, RECORD_LIMIT);
        s.put32(36, checksum);
        s.put64(40, 1); // membarrier
        s.put64(48, 0x5343_4845_4d41);
        s.put64(56, CHANNEL);
        s.put64(64, generation);
        s.put64(72, id);
        s.put64(80, first);
        let (before, end) = predecessor.unwrap_or((0, 0));
        s.put64(88, before);
        s.put64(96, end);
        s.put32(104, WHO.0);
        s.put32(108, WHO.1);
        s.put64(112, WHO.2);
        s.bytes[120..136].copy_from_slice(&BOOT);
        s.put64(136, CREATED);
        s.put32(144, 50);
        s.sign();
        s.put32(SUCCESSION, OPEN);
        s.put64(SUCCESSION + 8, UNDECIDED_END);
        s.put64(SUCCESSION + 16, UNDECIDED_SUCCESSOR);
        s.checkpoint(CURSOR, 1, 0, first);
        s.put64(HEARTBEAT + 8, CREATED);
        s.put32(BELL, 1);
        s.put32(TABLE + 128, 1);
        for slot in 0..SLOTS as usize {
            s.put32(SLOT0 + slot * 128, 0x6672_6565);
            s.put32(SLOT0 + slot * 128 + 4, EPHEMERAL);
        }
        s
    }

    /// The identity's checksum.
    pub fn sign(&mut self) {
        let crc = crc32c(&self.bytes[..252]);
        self.put32(252, crc);
    }

    pub fn checkpoint(&mut self, cursor: usize, turn: usize, position: u64, sequence: u64) {
        let at = cursor + 8 + turn * 24;
        let check = mark_check(position, sequence, self.id);
        self.put64(at, position);
        self.put64(at + 8, sequence);
        self.put64(at + 16, check);
    }

    /// A reader that joined before anything was pushed, or was carried over.
    pub fn reader(&mut self, slot: usize, state: u32, kind: u32, name: &str) {
        let at = SLOT0 + slot * 128;
        let mut padded = [0; 32];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.put32(at + 4, kind);
        self.checkpoint(at + 8, 1, 0, self.first);
        self.bytes[at + 64..at + 96].copy_from_slice(&padded);
        self.put32(at + 96, WHO.0);
        self.put32(at + 100, WHO.1);
        self.put64(at + 104, WHO.2);
        self.put64(at + 112, self.first);
        self.put64(at + 120, card_check(kind, &padded, self.id));
        self.put32(at, state);
        self.readers.push((slot, 0, self.first, 0));
    }

    /// The reader in `slot` takes everything in front of `sequence` and releases it.
    pub fn release(&mut self, slot: usize, sequence: u64) {
        let position = self.borders.iter().find(|b| b.1 == sequence).unwrap().0;
        let reader = self.readers.iter_mut().find(|r| r.0 == slot).unwrap();
        (reader.1, reader.2) = (position, sequence);
        let turn = reader.3;
        reader.3 ^= 1;
        let at = SLOT0 + slot * 128;
        self.put64(at + 112, sequence);
        self.checkpoint(at + 8, turn, position, sequence);
        self.put64(at + 8, position);
    }

    /// Writes a record behind what there is, after a wrap marker if it needs one; returns where it ends. Nothing is
    /// checkpointed or published.
    pub fn stage(&mut self, record_type: u32, len: usize) -> u64 {
        let payload = payload(self.sequence, len);
        let span = (24 + len as u64).next_multiple_of(32);
        let to_end = CAPACITY - self.position % CAPACITY;
        let filler = if span > to_end { to_end } else { 0 };
        let end = self.position + filler + span;
        if end > self.limit {
            self.limit = self.readers.iter().map(|r| r.1).min().unwrap_or(self.position) + CAPACITY;
            assert!(end <= self.limit, "the golden ring is full");
            self.put64(LIMIT, self.limit);
        }
        let covered = if self.bytes[36..40] == *b"daeh" { &payload[..0] } else { &payload[..] };
        let at = |position: u64| DATA + (position % CAPACITY) as usize;
        if filler != 0 {
            let marker = record(self.id, self.position, WRAP_KIND, 0, self.sequence, to_end as u32 - 24, &[]);
            self.bytes[at(self.position)..][..24].copy_from_slice(&marker);
        }
        let begin = self.position + filler;
        let header = record(self.id, begin, DATA_KIND, record_type, self.sequence, len as u32, covered);
        self.bytes[at(begin)..][..24].copy_from_slice(&header[..24]);
        self.bytes[at(begin) + 24..][..len].copy_from_slice(&payload);
        end
    }

    /// Pushes a record.
    pub fn push(&mut self, record_type: u32, len: usize) {
        let end = self.stage(record_type, len);
        self.publish(end);
    }

    fn publish(&mut self, end: u64) {
        self.sequence += 1;
        self.checkpoint(CURSOR, self.turn, end, self.sequence);
        self.put64(CURSOR, end);
        self.turn ^= 1;
        self.position = end;
        self.borders.push((end, self.sequence));
    }

    /// State, end word, successor word, and the bells rung twice.
    pub fn ended(&mut self, state: u32, end: u64, successor: u64) {
        self.put32(SUCCESSION, state);
        self.put64(SUCCESSION + 8, end);
        self.put64(SUCCESSION + 16, successor);
        self.put32(BELL, 3);
        self.put32(TABLE + 128, 3);
    }

    pub fn flip(&mut self, at: usize, bit: u32) {
        self.bytes[at] ^= 1 << bit;
    }
}

/// Types and payload lengths of the pushes in `clean.ring`.
pub const CLEAN: [(u32, usize); 5] = [(1, 0), (2, 1), (3, 8), (4, 100), (5, 500)];

fn fresh() -> Segment {
    Segment::new(1, FIRST, 0x6675_6c6c, None)
}

/// Two readers, five records; the durable one has released two of them, the ephemeral one all.
pub fn clean() -> Segment {
    let mut s = fresh();
    s.reader(0, ACTIVE, DURABLE, "audit");
    s.reader(1, ACTIVE, EPHEMERAL, "tail");
    for (record_type, len) in CLEAN {
        s.push(record_type, len);
    }
    s.release(0, 3);
    s.release(1, 6);
    s
}

/// One reader that never read, and a ring without room for another byte.
pub fn full() -> Segment {
    let mut s = fresh();
    s.reader(0, ACTIVE, DURABLE, "audit");
    for i in 0..32 {
        s.push(i, 104);
    }
    s
}

/// Eighteen records up to 64 bytes before the end, released; ten more behind a wrap marker.
pub fn wrapped() -> Segment {
    let mut s = fresh();
    s.reader(0, ACTIVE, DURABLE, "audit");
    for i in 0..18 {
        s.push(i, 200);
    }
    s.release(0, 19);
    for i in 18..28 {
        s.push(i, 200);
    }
    s
}

/// `clean`, closed by its writer.
pub fn closed() -> Segment {
    let mut s = clean();
    let end = end_word(s.position, s.id);
    s.ended(0x434c_5345, end, UNDECIDED_SUCCESSOR);
    s
}

const SUCCEEDED: u32 = 0x5355_4343;
const FENCING: u32 = 0x4645_4e43;
const RETIRED: u32 = 0x5245_5449;

/// Offset of the payload of record `n` (from 0) of `clean`: spans are 32, 32, 32, 128, 544 bytes.
fn clean_record(n: usize) -> usize {
    DATA + [0, 32, 64, 96, 224][n]
}

/// All golden segments.
pub fn all() -> Vec<Golden> {
    let mut all = Vec::new();
    let mut add = |name, origin, findings: &'static [&'static str], bytes: Vec<u8>| {
        all.push(Golden { name, origin, findings, bytes });
    };
    add("clean.ring", "two readers, five records of 0 to 500 bytes", &[], clean().bytes);
    add("empty.ring", "built, nobody joined, nothing pushed", &[], fresh().bytes);
    add("full.ring", "32 records fill the ring, its durable reader has read none", &[], full().bytes);
    add("wrapped.ring", "28 records of 200 bytes, the second lap behind a wrap marker", &[], wrapped().bytes);
    let mut s = Segment::new(1, FIRST, 0x6865_6164, None);
    s.push(7, 64);
    s.flip(DATA + 40, 3);
    add("header-checksum.ring", "checksum kind header, a payload bit flipped, which it does not see", &[], s.bytes);

    let mut s = clean();
    let end = s.stage(6, 40);
    add(
        "torn-record.ring",
        "clean, killed with the sixth record written and no checkpoint",
        &["RW-IMG-STAGED"],
        s.bytes.clone(),
    );
    let turn = s.turn;
    let at = CURSOR + 8 + turn * 24;
    s.put64(at, end);
    let half = &["RW-IMG-CHECKPOINT", "RW-IMG-STAGED"];
    add(
        "torn-checkpoint.ring",
        "clean, killed in the sixth push with one word of its checkpoint written",
        half,
        s.bytes.clone(),
    );
    let sequence = s.sequence + 1;
    s.checkpoint(CURSOR, turn, end, sequence);
    add(
        "torn-publish.ring",
        "clean, killed in the sixth push between checkpoint and publish",
        &["RW-IMG-TORN"],
        s.bytes,
    );
    let mut s = clean();
    s.stage(6, 40);
    s.bytes[DATA + 768 + 24 + 20..DATA + 768 + 64].fill(0);
    add("torn-payload.ring", "clean, killed in the sixth push with half of the payload written", &[], s.bytes);

    let mut s = clean();
    s.flip(clean_record(3) + 24 + 50, 4);
    add("corrupt-payload.ring", "clean, one payload bit of the fourth record flipped", &["RW-IMG-CRC"], s.bytes);
    let mut s = clean();
    s.flip(clean_record(2), 4);
    add("corrupt-header.ring", "clean, one length bit of the third record flipped", &["RW-IMG-CRC"], s.bytes);
    let mut s = clean();
    s.flip(clean_record(4) + 16, 0);
    add("corrupt-last.ring", "clean, one sequence bit of the last record flipped", &["RW-IMG-CRC"], s.bytes);
    let mut s = wrapped();
    s.flip(DATA + 4032 + 8, 1);
    add("corrupt-wrap.ring", "wrapped, one bit of the wrap marker flipped: no record lost", &["RW-IMG-CRC"], s.bytes);
    let mut s = wrapped();
    for at in [3808, 4032, 0] {
        s.flip(DATA + at + 16, 2);
    }
    let origin =
        "wrapped, damaged in the last record released, the wrap marker, and the first record behind it: one lost";
    add("corrupt-released.ring", origin, &["RW-IMG-CRC"], s.bytes);
    let mut s = fresh();
    for len in [0, 1, 8, 100] {
        s.push(1, len);
    }
    s.sequence += 2;
    s.push(1, 8);
    add("gap.ring", "four records, then one numbered 7 instead of 5", &["RW-IMG-GAP"], s.bytes);

    let mut s = clean();
    s.flip(CURSOR + 1, 6);
    add("flipped-position.ring", "clean, one bit of the writer's position flipped", &["RW-IMG-POSITION"], s.bytes);
    let mut s = clean();
    for at in [CURSOR, CURSOR + 8, CURSOR + 32] {
        s.flip(at, 5);
    }
    add(
        "flipped-cursor.ring",
        "clean, one bit flipped in the writer's position and in each checkpoint",
        &["RW-IMG-CURSOR"],
        s.bytes,
    );
    let mut s = clean();
    s.flip(LIMIT + 3, 2);
    add("flipped-limit.ring", "clean, one bit of the limit flipped", &["RW-IMG-LIMIT"], s.bytes);

    for (name, len, findings) in [
        ("truncated-0.ring", 0, &["RW-SEG-SHORT"] as &'static [_]),
        ("truncated-12.ring", 12, &["RW-SEG-SHORT"]),
        ("truncated-header.ring", 128, &["RW-SEG-SHORT"]),
        ("truncated-page.ring", PAGE, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        ("truncated-record.ring", clean_record(3) + 60, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        ("truncated-1.ring", TOTAL - 1, &["RW-IMG-SIZE"]),
    ] {
        add(name, "clean, cut to its first bytes", findings, clean().bytes[..len].to_vec());
    }

    add("closed.ring", "clean, closed by its writer", &[], closed().bytes);
    let mut s = clean();
    s.ended(0x434c_5345, UNDECIDED_END, UNDECIDED_SUCCESSOR);
    add("closing.ring", "clean, its writer died between closing and deciding the end", &["RW-IMG-UNDECIDED"], s.bytes);
    let mut s = clean();
    s.put32(SUCCESSION, FENCING);
    add("fencing.ring", "clean, a successor died between fencing and deciding the end", &["RW-IMG-UNDECIDED"], s.bytes);
    let mut s = clean();
    let (end, next) = (end_word(s.position, s.id), id_from(RANDOM[1]));
    s.ended(SUCCEEDED, end, next);
    add("succeeded.ring", "clean, ended and followed by second.ring", &[], s.bytes);
    let mut t = Segment::new(2, s.sequence, 0x6675_6c6c, Some((s.id, s.position)));
    t.reader(0, 0x6361_7272, DURABLE, "audit");
    t.push(6, 10);
    add(
        "second.ring",
        "generation 2, follows succeeded.ring, its durable reader carried over, one record",
        &[],
        t.bytes,
    );
    let mut s = clean();
    let (end, next) = (end_word(s.borders[3].0, s.id), id_from(RANDOM[1]));
    s.ended(SUCCEEDED, end, next);
    s.release(1, 5);
    add(
        "fenced.ring",
        "clean, ended in front of the fifth record, which its writer published too late",
        &["RW-IMG-FENCED"],
        s.bytes,
    );
    let mut s = clean();
    let next = id_from(RANDOM[1]);
    s.ended(SUCCEEDED, 0x756e_6b6e_6f77_6e21, next);
    add("unknown-end.ring", "clean, ended at a position that nobody can know", &["RW-IMG-UNKNOWN-END"], s.bytes);
    let mut s = fresh();
    s.ended(RETIRED, UNDECIDED_END, 0x6e6f_626f_6479_2121);
    add("retired.ring", "empty, taken away by the watchdog: nobody follows", &[], s.bytes);
    let mut s = clean();
    let (end, next) = (end_word(s.position, s.id), id_from(RANDOM[1]));
    s.ended(SUCCEEDED, end, next);
    s.flip(SUCCESSION, 0);
    s.flip(SUCCESSION + 8, 0);
    s.flip(SUCCESSION + 16, 0);
    let words = &["RW-IMG-STATE", "RW-IMG-END", "RW-IMG-SUCCESSOR"];
    add("flipped-words.ring", "succeeded, one bit flipped in state, end word and successor word", words, s.bytes);

    let mut s = clean();
    s.bytes[10] = 7;
    s.put64(148, 0x6e65_7765_7221);
    s.sign();
    add("minor.ring", "clean, of layout 1.7 with a field that 1.0 does not know", &["RW-IMG-MINOR"], s.bytes);
    let mut s = clean();
    s.bytes[8] = 2;
    s.sign();
    add("major.ring", "clean, of layout 2.0", &["RW-SEG-MAJOR"], s.bytes);
    let mut s = clean();
    s.bytes[8..12].copy_from_slice(&[0, 1, 0, 0]);
    s.sign();
    add("big-endian.ring", "clean, its version with the bytes swapped", &["RW-SEG-MAJOR", "RW-IMG-ENDIAN"], s.bytes);
    let mut s = clean();
    s.put64(40, 1 << 40 | 1);
    s.sign();
    add("feature.ring", "clean, with a required feature bit that 1.0 does not know", &["RW-SEG-FEATURES"], s.bytes);
    let mut s = clean();
    s.flip(64, 0);
    add("flipped-identity.ring", "clean, one bit of the generation's number flipped", &["RW-SEG-CRC"], s.bytes);

    let mut s = clean();
    s.bytes[..PAGE].fill(0);
    add("zero-page.ring", "clean, the writer page punched out", &["RW-SEG-MAGIC", "RW-IMG-ZERO"], s.bytes);
    let mut s = clean();
    s.bytes[TABLE..DATA].fill(0);
    add("zero-table.ring", "clean, the reader table punched out", &["RW-IMG-ZERO"], s.bytes);
    let mut s = full();
    s.bytes[DATA..].fill(0);
    add("zero-data.ring", "full, the data page punched out", &["RW-IMG-CRC", "RW-IMG-ZERO"], s.bytes);

    let mut s = clean();
    s.checkpoint(SLOT0 + 8, 0, 4000 / 32 * 32, 6);
    s.put64(SLOT0 + 8, 4000 / 32 * 32);
    s.put64(SLOT0 + 112, 6);
    add(
        "slot-ahead.ring",
        "clean, the reader in slot 0 placed in front of its writer",
        &["RW-IMG-SLOT-AHEAD"],
        s.bytes,
    );
    let mut s = clean();
    s.flip(SLOT0, 0);
    s.flip(SLOT0 + 128 + 8, 5);
    s.flip(SLOT0 + 128 + 64, 0);
    let slots = &["RW-IMG-SLOT-STATE", "RW-IMG-SLOT-CARD", "RW-IMG-SLOT-CURSOR"];
    add(
        "slot-damaged.ring",
        "clean, one bit flipped in slot 0's state, slot 1's name and slot 1's position",
        slots,
        s.bytes,
    );
    let mut s = fresh();
    s.reader(0, ACTIVE, DURABLE, "audit");
    s.reader(2, ACTIVE, DURABLE, "audit");
    add("slot-twice.ring", "two slots with one durable name", &["RW-IMG-NAME"], s.bytes);
    let mut s = wrapped();
    s.checkpoint(SLOT0 + 8, 0, 0, 1);
    s.put64(SLOT0 + 8, 0);
    add("overrun.ring", "wrapped, its reader set back to position 0", &["RW-IMG-OVERRUN"], s.bytes.clone());
    s.put64(SUCCESSION + 24, 1);
    add("expelled.ring", "overrun, its reader expelled", &[], s.bytes);
    let mut s = fresh();
    s.bytes[..8].copy_from_slice(b"#!/bin/s");
    add("foreign.ring", "empty, its first bytes those of another kind of file", &["RW-SEG-MAGIC"], s.bytes);
    let mut s = fresh();
    s.reader(0, ACTIVE, DURABLE, "audit");
    for sequence in 1..=16 {
        s.push(1, 232);
        s.release(0, sequence + 1);
    }
    s.push(1, 232);
    add(
        "lapped.ring",
        "sixteen records of 256 bytes fill the ring exactly, the next one at its start: no wrap marker",
        &[],
        s.bytes,
    );
    let mut s = fresh();
    for (len, record_type) in [0, 1, 7, 8, 9, 39, 40, 41, 1000, 1024].into_iter().zip(0..) {
        s.push(record_type, len);
    }
    add("sizes.ring", "a record of each class of size, up to the limit", &[], s.bytes);
    let mut s = fresh();
    for (slot, kind, name) in [
        (0, DURABLE, "a"),
        (1, EPHEMERAL, "b"),
        (2, DURABLE, "c.d_e-f"),
        (3, DURABLE, "a-name-of-thirty-one-bytes-long."),
    ] {
        s.reader(slot, ACTIVE, kind, &name[..name.len().min(31)]);
    }
    s.push(1, 8);
    s.release(1, 2);
    add("readers.ring", "every slot taken, a record that only the ephemeral reader has released", &[], s.bytes);
    all.extend(torn());
    all.extend(fields());
    all.extend(cuts());
    all
}

/// What the sixth push of `clean` stores, in order: where, and which bytes.
fn stores() -> Vec<(usize, Vec<u8>)> {
    let before = clean();
    let mut after = before.clone();
    after.push(6, 40);
    let begin = DATA + before.position as usize;
    let mark = CURSOR + 8 + before.turn * 24;
    let words = (begin..begin + 64).step_by(8).chain([mark, mark + 8, mark + 16, CURSOR]);
    words.map(|at| (at, after.bytes[at..at + 8].to_vec())).collect()
}

/// `clean`, its writer killed in the sixth push, behind each of its stores but the last: nothing of that push was published.
fn torn() -> Vec<Golden> {
    let stores = stores();
    let mut bytes = clean().bytes;
    let mut all = Vec::new();
    for (n, (at, word)) in stores[..stores.len() - 1].iter().enumerate() {
        bytes[*at..at + 8].copy_from_slice(word);
        let findings: &[_] = match n + 1 {
            ..=7 => &[],
            8 => &["RW-IMG-STAGED"],
            9 | 10 => &["RW-IMG-CHECKPOINT", "RW-IMG-STAGED"],
            _ => &["RW-IMG-TORN"],
        };
        let (n, last) = (n + 1, stores.len());
        let name = format!("torn-{n:02}.ring").leak();
        let origin = format!("clean, killed in the sixth push behind store {n} of {last}").leak();
        all.push(Golden { name, origin, findings, bytes: bytes.clone() });
    }
    all
}

/// A field of `succeeded.ring`: its name, where it lies, and what is found if a bit of it is flipped.
type Field = (&'static str, usize, &'static [&'static str]);

/// Every field, the identity's with a checksum that no longer fits.
const FIELDS: [Field; 59] = [
    ("magic", 0, &["RW-SEG-MAGIC"]),
    ("major", 8, &["RW-SEG-MAJOR"]),
    ("minor", 10, &["RW-SEG-CRC"]),
    ("header-length", 12, &["RW-SEG-CRC"]),
    ("page", 16, &["RW-SEG-CRC"]),
    ("slots", 20, &["RW-SEG-CRC"]),
    ("capacity", 24, &["RW-SEG-CRC"]),
    ("record-limit", 32, &["RW-SEG-CRC"]),
    ("checksum-kind", 36, &["RW-SEG-CRC"]),
    ("features", 40, &["RW-SEG-CRC"]),
    ("schema", 48, &["RW-SEG-CRC"]),
    ("channel", 56, &["RW-SEG-CRC"]),
    ("generation", 64, &["RW-SEG-CRC"]),
    ("segment-id", 72, &["RW-SEG-CRC"]),
    ("first-sequence", 80, &["RW-SEG-CRC"]),
    ("predecessor", 88, &["RW-SEG-CRC"]),
    ("predecessors-end", 96, &["RW-SEG-CRC"]),
    ("owner-pid", 104, &["RW-SEG-CRC"]),
    ("owner-pid-namespace", 108, &["RW-SEG-CRC"]),
    ("owner-start", 112, &["RW-SEG-CRC"]),
    ("owner-boot-id", 120, &["RW-SEG-CRC"]),
    ("created", 136, &["RW-SEG-CRC"]),
    ("beat-interval", 144, &["RW-SEG-CRC"]),
    ("reserved", 200, &["RW-SEG-CRC"]),
    ("crc", 252, &["RW-SEG-CRC"]),
    ("state", SUCCESSION, &["RW-IMG-STATE"]),
    ("end", SUCCESSION + 8, &["RW-IMG-END"]),
    ("successor", SUCCESSION + 16, &["RW-IMG-SUCCESSOR"]),
    ("expelled", SUCCESSION + 24, &["RW-IMG-EXPELLED"]),
    ("position", CURSOR, &["RW-IMG-POSITION"]),
    ("a-position", CURSOR + 8, &["RW-IMG-END-AHEAD", "RW-IMG-POSITION", "RW-IMG-CHECKPOINT"]),
    ("a-sequence", CURSOR + 16, &["RW-IMG-END-AHEAD", "RW-IMG-POSITION", "RW-IMG-CHECKPOINT"]),
    ("a-check", CURSOR + 24, &["RW-IMG-END-AHEAD", "RW-IMG-POSITION", "RW-IMG-CHECKPOINT"]),
    ("b-position", CURSOR + 32, &["RW-IMG-CHECKPOINT"]),
    ("b-sequence", CURSOR + 40, &["RW-IMG-CHECKPOINT"]),
    ("b-check", CURSOR + 48, &["RW-IMG-CHECKPOINT"]),
    ("limit", LIMIT, &[]),
    ("beat", HEARTBEAT, &[]),
    ("beat-time", HEARTBEAT + 8, &[]),
    ("life", HEARTBEAT + 16, &[]),
    ("data-doorbell", BELL, &[]),
    ("data-waiters", TABLE, &[]),
    ("space-doorbell", TABLE + 128, &[]),
    ("space-waiters", TABLE + 132, &[]),
    ("slot-state", SLOT0, &["RW-IMG-SLOT-STATE"]),
    ("slot-kind", SLOT0 + 4, &[]),
    ("slot-position", SLOT0 + 8, &["RW-IMG-SLOT-CURSOR"]),
    ("slot-a-check", SLOT0 + 32, &["RW-IMG-SLOT-CURSOR"]),
    ("slot-b-check", SLOT0 + 56, &[]),
    ("slot-name", SLOT0 + 64, &["RW-IMG-SLOT-CARD"]),
    ("slot-pid", SLOT0 + 96, &[]),
    ("slot-start", SLOT0 + 104, &[]),
    ("slot-taken", SLOT0 + 112, &["RW-IMG-TAKEN"]),
    ("slot-check", SLOT0 + 120, &["RW-IMG-SLOT-CARD"]),
    ("record-len", DATA + 224, &["RW-IMG-CRC"]),
    ("record-kind", DATA + 228, &["RW-IMG-CRC"]),
    ("record-type", DATA + 232, &["RW-IMG-CRC"]),
    ("record-crc", DATA + 236, &["RW-IMG-CRC"]),
    ("record-sequence", DATA + 240, &["RW-IMG-CRC"]),
];

/// `succeeded.ring`, a bit flipped in each field.
fn fields() -> Vec<Golden> {
    let mut s = clean();
    let (end, next) = (end_word(s.position, s.id), id_from(RANDOM[1]));
    s.ended(SUCCEEDED, end, next);
    let flipped = |(field, at, findings): Field| {
        let mut s = s.clone();
        s.flip(at, 5);
        let name = format!("field-{field}.ring").leak();
        let origin = format!("succeeded, one bit flipped in the field at offset {at}").leak();
        Golden { name, origin, findings, bytes: s.bytes }
    };
    FIELDS.map(flipped).into()
}

/// `clean`, cut at and beside the borders of its parts.
fn cuts() -> Vec<Golden> {
    let borders = [
        (255, &["RW-SEG-SHORT"] as &'static [_]),
        (256, &["RW-IMG-SIZE"]),
        (SUCCESSION + 32, &["RW-IMG-SIZE"]),
        (CURSOR + 56, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (HEARTBEAT, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (BELL + 4, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (PAGE - 1, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (SLOT0, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (SLOT0 + 128, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (DATA - 1, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (DATA, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (clean_record(1), &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (clean_record(4) + 24, &["RW-IMG-SIZE", "RW-IMG-CRC"]),
        (clean_record(4) + 544, &["RW-IMG-SIZE"]),
    ];
    let cut = |(len, findings): (usize, _)| {
        let name = format!("cut-{len:05}.ring").leak();
        let origin = format!("clean, cut to its first {len} bytes").leak();
        Golden { name, origin, findings, bytes: clean().bytes[..len].to_vec() }
    };
    borders.map(cut).into()
}

/// The text of `fixtures/MANIFEST` for these segments.
pub fn manifest(all: &[Golden]) -> String {
    let mut out = String::from(
        "# Golden segments; made by `cargo run -p ringward-ring --example fixtures`, bit for bit. Tab-separated:\n\
         # file\tbytes\tsha256\tfindings, in order\torigin\n",
    );
    for golden in all {
        let findings = if golden.findings.is_empty() { "-".to_owned() } else { golden.findings.join(" ") };
        let Golden { name, origin, bytes, .. } = golden;
        out += &format!("{name}\t{}\t{}\t{findings}\t{origin}\n", bytes.len(), sha256(bytes));
    }
    out
}

/// SHA-256 in hexadecimal (FIPS 180-4), so that this program needs no other crate.
pub fn sha256(bytes: &[u8]) -> String {
    let primes: Vec<u64> = (2u64..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64).collect();
    // The first 32 bits of the fractional part of a prime's root, in whole numbers: floor(p^(1/n) * 2^32) mod 2^32.
    let root = |p: u64, n: u32| {
        let (mut low, mut high) = (0u128, 1u128 << 40);
        let wide = u128::from(p) << 64;
        while high - low > 1 {
            let middle = (low + high) / 2;
            // middle^2 <= p*2^64, or middle^3 <= p*2^96
            let below = if n == 2 { middle * middle <= wide } else { middle * middle <= (wide << 32) / middle };
            if below { low = middle } else { high = middle }
        }
        low as u32
    };
    let mut state: Vec<u32> = primes[..8].iter().map(|p| root(*p, 2)).collect();
    let k: Vec<u32> = primes.iter().map(|p| root(*p, 3)).collect();
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ a >> 3;
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ b >> 10;
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = state.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = v[4] & v[5] ^ !v[4] & v[6];
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2];
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        for (s, v) in state.iter_mut().zip(v) {
            *s = s.wrapping_add(v);
        }
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}
