use proptest::prelude::*;

use super::*;
use crate::checksum::RecordCrc;
use crate::cursor::check;
use crate::identity::{Features, Owner, Predecessor};
use crate::layout::{
    CURSOR_AT, DEFAULT_SLOTS, DOORBELL_AT, Geometry, MINOR, RECORD_HEADER, SLOT_LEN, SUCCESSION_AT, TABLE_HEAD_LEN,
    record_len,
};
use crate::word::{Checksum, EndWord, RecordKind, SegmentId, SuccessorWord};

fn identity(slots: u32, capacity: u64) -> Identity {
    Identity {
        minor: MINOR,
        geometry: Geometry { page: MIN_PAGE, slots, capacity },
        record_limit: crate::layout::max_record(capacity).min(u32::MAX.into()) as u32,
        checksum: Checksum::FULL,
        features: Features(Features::MEMBARRIER),
        schema: 0,
        channel: 1,
        generation: 3,
        segment: SegmentId::from_random(0x1122_3344_5566_7788),
        first_sequence: 10,
        predecessor: Some(Predecessor { segment: SegmentId::from_random(1 << 20), end: Some(96) }),
        owner: Owner::default(),
        created: 0,
        beat_interval: 0,
    }
}

/// A segment with records of these lengths, as far as they fit into one lap.
fn segment(slots: u32, capacity: u64, lens: &[u32]) -> Vec<u8> {
    let identity = identity(slots, capacity);
    let mut bytes = vec![0; identity.geometry.total() as usize];
    bytes[..256].copy_from_slice(&identity.encode());
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(SUCCESSION_AT, &State::OPEN.0.to_le_bytes());
    put(SUCCESSION_AT + 8, &EndWord::UNDECIDED.0.to_le_bytes());
    put(SUCCESSION_AT + 16, &SuccessorWord::UNDECIDED.0.to_le_bytes());
    put(DOORBELL_AT, &1u32.to_le_bytes());
    let table = identity.geometry.table_at() as usize;
    put(table + 128, &1u32.to_le_bytes());
    for slot in 0..slots as usize {
        put(table + TABLE_HEAD_LEN + slot * SLOT_LEN, &SlotState::FREE.0.to_le_bytes());
    }
    let data = identity.geometry.data_at();
    let mut at = Mark { position: 0, sequence: identity.first_sequence };
    for len in lens {
        if at.position + record_len((*len).into()) > capacity || *len > identity.record_limit {
            continue;
        }
        let payload = vec![*len as u8; *len as usize];
        let mut crc = RecordCrc::new(identity.segment, at.position, RecordKind::DATA, *len, 7, at.sequence);
        crc.update(&payload);
        let header =
            [u64::from(*len) | u64::from(RecordKind::DATA.0) << 32, 7 | u64::from(crc.finish()) << 32, at.sequence];
        for (i, word) in header.iter().enumerate() {
            put((data + at.position) as usize + i * 8, &word.to_le_bytes());
        }
        put((data + at.position + RECORD_HEADER) as usize, &payload);
        at = Mark { position: at.position + record_len((*len).into()), sequence: at.sequence + 1 };
    }
    for (i, word) in [at.position, at.position, at.sequence, check(at, identity.segment)].into_iter().enumerate() {
        put(CURSOR_AT + i * 8, &word.to_le_bytes());
    }
    put(CURSOR_AT + 56, &capacity.to_le_bytes());
    bytes
}

/// Everything that an image says, and that it says it twice.
fn look(bytes: &[u8]) -> (Vec<Finding>, Vec<Piece<'_>>, String) {
    let image = decode(bytes);
    let again = decode(bytes);
    let pieces: Vec<_> = image.pieces().collect();
    assert_eq!(image.findings, again.findings);
    assert_eq!(image.to_string(), again.to_string());
    assert!(pieces.iter().copied().eq(again.pieces()));
    assert!(image.findings.len() <= MAX_FINDINGS + 1);
    let count = |wanted: fn(&Piece<'_>) -> bool| pieces.iter().filter(|piece| wanted(piece)).count() as u64;
    assert_eq!(image.totals.records, count(|piece| matches!(piece, Piece::Record { .. })));
    assert_eq!(image.totals.wraps, count(|piece| matches!(piece, Piece::Wrap { .. })));
    assert_eq!(image.totals.holes, count(|piece| matches!(piece, Piece::Lost { .. })));
    for finding in &image.findings {
        assert!(finding.to_string().ends_with(&format!(" [{}]", finding.id())), "{finding}");
    }
    for slot in 0..image.slots.len() + 1 {
        let _ = image.unread(slot);
    }
    // Positions and numbers only grow, and stay in front of the end.
    let (mut position, mut sequence) = (0, 0);
    for piece in &pieces {
        let (at, len) = match *piece {
            Piece::Record { position, sequence: found, payload, .. } => {
                assert!(found >= sequence);
                sequence = found + 1;
                (position, record_len(payload.len() as u64))
            }
            Piece::Wrap { position, len } | Piece::Lost { position, len, .. } | Piece::Stale { position, len } => {
                (position, len)
            }
        };
        assert!(at >= position && at + len <= image.readable.end.max(position), "{piece:?}");
        position = at + len;
    }
    (image.findings, pieces, again.to_string())
}

#[test]
fn a_sound_segment_has_no_findings() {
    let bytes = segment(DEFAULT_SLOTS, 8192, &[0, 1, 8, 9, 40, 1000]);
    let (findings, pieces, line) = look(&bytes);
    assert_eq!((findings, pieces.len()), (Vec::new(), 6), "{line}");
    assert!(line.contains("OPEN") && line.contains("6 records"), "{line}");
}

#[test]
fn every_length_is_readable() {
    let bytes = segment(2, 4096, &[10, 20, 3000, 4]);
    for len in 0..bytes.len() {
        let (findings, ..) = look(&bytes[..len]);
        let id = if len < 256 { "RW-SEG-SHORT" } else { "RW-IMG-SIZE" };
        assert_eq!(findings[0].id(), id);
    }
    let mut grown = bytes;
    grown.push(0);
    assert_eq!(look(&grown).0[0].id(), "RW-IMG-SIZE");
}

#[test]
fn one_flipped_bit_costs_at_most_the_record_that_it_hit() {
    let bytes = segment(1, 4096, &[0, 33, 100, 8, 70]);
    let data = identity(1, 4096).geometry.data_at() as usize;
    let spans = [32usize, 64, 128, 32, 96];
    for at in data..data + spans.iter().sum::<usize>() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let image = decode(&flipped);
            assert!(image.totals.records >= 4 && image.totals.records + image.totals.lost == 5, "byte {at} bit {bit}");
            assert!(!image.totals.lost_unknown);
        }
    }
}

#[test]
fn a_ring_forged_to_be_slow_ends() {
    forged_to_be_slow(1 << 22, 1 << 26);
    // A small one may be tried for a mebibyte.
    forged_to_be_slow(1 << 14, 1 << 20);
}

/// A header at every border, each with the longest payload that can be, none sound; nothing to go by but that.
fn forged_to_be_slow(capacity: u64, tried: u64) {
    let mut bytes = segment(1, capacity, &[]);
    let identity = identity(1, capacity);
    let end = Mark { position: capacity, sequence: 10 + capacity / 32 };
    for (i, word) in [end.position, end.position, end.sequence, check(end, identity.segment)].into_iter().enumerate() {
        bytes[CURSOR_AT + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    let data = identity.geometry.data_at() as usize;
    for position in (0..capacity).step_by(32) {
        let len = u64::from(identity.record_limit).min((capacity - position).saturating_sub(RECORD_HEADER));
        for (i, word) in [len | u64::from(RecordKind::DATA.0) << 32, 0, 10 + position / 32].into_iter().enumerate() {
            bytes[data + position as usize + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
    }
    let image = decode(&bytes);
    let ids: Vec<_> = image.findings.iter().map(Finding::id).collect();
    assert_eq!(ids, ["RW-IMG-CRC", "RW-IMG-BUDGET"]);
    let budget = image.findings[1];
    assert_eq!((budget.offset, budget.found, budget.expected), (data as u64, tried, tried));
    assert_eq!(image.totals.lost, capacity / 32);
    let said = image.findings[1].to_string();
    assert!(said.contains("look forged") && said.ends_with("[RW-IMG-BUDGET]"), "{said}");
}

#[test]
fn who_damaged_most_of_a_ring_did_not_forge_it() {
    let mut bytes = segment(1, 1 << 16, &[6000; 10]);
    let data = identity(1, 1 << 16).geometry.data_at() as usize;
    for record in 0..9 {
        bytes[data + record * record_len(6000) as usize + 100] ^= 1;
    }
    let image = decode(&bytes);
    assert_eq!((image.totals.records, image.totals.lost), (1, 9));
    assert!(image.findings.iter().all(|finding| finding.what != FindingKind::Budget), "{:?}", image.findings);
}

#[test]
fn findings_are_bounded() {
    // Every second record damaged, more often than findings are kept.
    let mut bytes = segment(1, 1 << 16, &[8; 2048]);
    let data = identity(1, 1 << 16).geometry.data_at() as usize;
    for at in (0..1 << 16).step_by(64) {
        bytes[data + at + 24] ^= 1;
    }
    let image = decode(&bytes);
    assert_eq!(image.findings.len(), MAX_FINDINGS + 1);
    assert_eq!(image.findings.last().map(Finding::id), Some("RW-IMG-MORE"));
    let said = image.findings.last().map(ToString::to_string).unwrap_or_default();
    let more = 1024 - MAX_FINDINGS;
    assert!(said.contains(&format!("{more} more findings")) && said.ends_with("[RW-IMG-MORE]"), "{said}");
    assert_eq!((image.totals.records, image.totals.lost), (1024, 1024));
}

/// Whole pages of zeros, and no others, are told with the first of them.
#[test]
fn pages_of_zeros_in_the_data_are_told_with_their_place() {
    let whole = segment(1, 1 << 14, &[1000; 15]);
    let data = identity(1, 1 << 14).geometry.data_at();
    for (from, to, told) in [
        (4096, 8192, Some((4096, 4096))),
        (4096, 12288, Some((4096, 8192))),
        (4000, 8200, Some((4096, 4096))),
        (8192, 12288, Some((8192, 4096))),
        (0, 4096, Some((0, 4096))),
        (4100, 12200, None),
        (4097, 8193, None),
    ] {
        let mut bytes = whole.clone();
        bytes[(data + from) as usize..(data + to) as usize].fill(0);
        let (findings, ..) = look(&bytes);
        let zeros: Vec<_> = findings.iter().filter(|f| f.what == FindingKind::Zeroed).collect();
        let found: Vec<_> = zeros.iter().map(|f| (f.offset - data, f.found)).collect();
        assert_eq!(found, Vec::from_iter(told), "{from} to {to}");
    }
}

/// With the most slots the table has three pages: one of them lost costs the slots in it, and no others.
#[test]
fn a_page_of_zeros_in_the_table_is_told_with_its_place() {
    let bytes = segment(64, 4096, &[1]);
    let table = identity(64, 4096).geometry.table_at();
    let slot = |slot: u64| table + 256 + slot * 128;
    for page in 0..3 {
        let mut bytes = bytes.clone();
        // In the last slot of each page something else is wrong too.
        for last in [29, 61, 63] {
            bytes[slot(last) as usize] ^= 1;
        }
        let at = table + page * 4096;
        bytes[at as usize..][..4096].fill(0);
        let (findings, ..) = look(&bytes);
        let zeros: Vec<_> = findings.iter().filter(|f| f.what == FindingKind::Zeroed).map(|f| f.offset).collect();
        assert_eq!(zeros, [at], "page {page}");
        let others: Vec<_> =
            [29, 61, 63].map(slot).into_iter().filter(|slot| !(at..at + 4096).contains(slot)).collect();
        let told: Vec<_> = findings.iter().filter(|f| f.id() == "RW-IMG-SLOT-STATE").map(|f| f.offset).collect();
        assert_eq!(told, others, "page {page}");
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}

#[test]
fn with_the_most_slots_every_expelled_bit_is_one_of_them() {
    let mut bytes = segment(64, 4096, &[1]);
    bytes[SUCCESSION_AT + 24..][..8].fill(0xff);
    let image = decode(&bytes);
    assert_eq!(image.findings, []);
    assert!(image.slots.len() == 64 && image.slots.iter().all(|slot| slot.expelled));
}

fn ids(bytes: &[u8]) -> Vec<&'static str> {
    look(bytes).0.iter().map(Finding::id).collect()
}

/// Words of which each can be, and which can't be together.
#[test]
fn words_that_contradict_each_other_are_told() {
    let next = SuccessorWord(SegmentId::from_random(1 << 30).0);
    let end = EndWord::at(96, identity(1, 4096).segment);
    let (no_end, nobody_yet) = (EndWord::UNDECIDED, SuccessorWord::UNDECIDED);
    for (state, end, successor, told) in [
        (State::OPEN, no_end, nobody_yet, &[][..]),
        (State::SUCCEEDED, end, next, &[]),
        (State::SUCCEEDED, no_end, next, &["RW-IMG-ORDER"]),
        (State::SUCCEEDED, end, nobody_yet, &["RW-IMG-ORDER"]),
        (State::SUCCEEDED, no_end, nobody_yet, &["RW-IMG-ORDER", "RW-IMG-ORDER"]),
        (State::OPEN, end, nobody_yet, &["RW-IMG-ORDER"]),
        (State::OPEN, no_end, next, &["RW-IMG-ORDER"]),
        (State::CANDIDATE, no_end, next, &["RW-IMG-ORDER"]),
        (State::FENCING, no_end, nobody_yet, &["RW-IMG-UNDECIDED"]),
        (State::CLOSED, EndWord::UNKNOWN, nobody_yet, &["RW-IMG-UNKNOWN-END"]),
    ] {
        let mut bytes = segment(1, 4096, &[8, 8, 8]);
        bytes[SUCCESSION_AT..][..4].copy_from_slice(&state.0.to_le_bytes());
        bytes[SUCCESSION_AT + 8..][..8].copy_from_slice(&end.0.to_le_bytes());
        bytes[SUCCESSION_AT + 16..][..8].copy_from_slice(&successor.0.to_le_bytes());
        assert_eq!(ids(&bytes), told, "{state}, {end:?}, {:?}", successor.read());
    }
    assert!(format!("{end:?}").contains("96 bytes"), "{end:?}");
}

#[test]
fn a_bell_of_zeros_is_told() {
    let table = identity(1, 4096).geometry.table_at() as usize;
    for at in [DOORBELL_AT, table + 128] {
        let mut bytes = segment(1, 4096, &[8]);
        bytes[at..at + 4].fill(0);
        let (findings, ..) = look(&bytes);
        assert_eq!((findings.len(), findings[0].id(), findings[0].offset), (1, "RW-IMG-BELL", at as u64));
        assert!(findings[0].to_string().contains(&format!("byte {at} is 0")), "{}", findings[0]);
    }
}

/// A reader whose cursor is gone altogether, and one that handed out less than it released.
#[test]
fn a_slot_that_can_not_be_is_told() {
    let mut bytes = segment(1, 4096, &[8, 8, 8]);
    let slot = identity(1, 4096).geometry.table_at() as usize + TABLE_HEAD_LEN;
    bytes[slot..slot + 4].copy_from_slice(&SlotState::ACTIVE.0.to_le_bytes());
    assert_eq!(ids(&bytes), ["RW-IMG-SLOT-CARD", "RW-IMG-SLOT-CURSOR"]);
    let at = Mark { position: 64, sequence: 12 };
    for (i, word) in
        [at.position, at.position, at.sequence, check(at, identity(1, 4096).segment)].into_iter().enumerate()
    {
        bytes[slot + 8 + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    for (taken, told) in [(12_u64, &["RW-IMG-SLOT-CARD"][..]), (11, &["RW-IMG-SLOT-CARD", "RW-IMG-TAKEN"])] {
        bytes[slot + 112..slot + 120].copy_from_slice(&taken.to_le_bytes());
        assert_eq!(ids(&bytes), told, "handed out up to {taken}");
    }
}

/// The cursor checks, and says another number than the records come to: more of them are missing, fewer are not believed.
#[test]
fn records_and_the_number_at_the_end_have_to_agree() {
    let id = identity(1, 4096).segment;
    let counted = |sequence| {
        let mut bytes = segment(1, 4096, &[8, 8, 8]);
        let at = Mark { position: 96, sequence };
        for (i, word) in [at.position, at.position, at.sequence, check(at, id)].into_iter().enumerate() {
            bytes[CURSOR_AT + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let (mut numbers, mut holes) = (Vec::new(), Vec::new());
        for piece in look(&bytes).1 {
            match piece {
                Piece::Record { sequence, .. } => numbers.push(sequence),
                Piece::Lost { position, len, from, count } => holes.push((position, len, from, count)),
                other => panic!("{other:?}"),
            }
        }
        (numbers, holes, decode(&bytes).totals.lost)
    };
    assert_eq!(counted(13), (vec![10, 11, 12], vec![], 0));
    assert_eq!(counted(15), (vec![10, 11, 12], vec![(96, 0, Some(13), Some(2))], 2));
    // The third has a number that was not used up.
    assert_eq!(counted(12), (vec![10, 11], vec![(64, 32, Some(12), Some(0))], 0));
}

/// The same cases each time, unless proptest's own variables (`PROPTEST_RNG_SEED`, `PROPTEST_CASES`) ask for others.
fn cases(cases: u32) -> ProptestConfig {
    use proptest::test_runner::RngSeed;
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: std::env::var_os("PROPTEST_CASES").map_or(cases, |_| asked.cases),
        rng_seed: std::env::var_os("PROPTEST_RNG_SEED").map_or(RngSeed::Fixed(1), |_| asked.rng_seed),
        failure_persistence: None,
        ..asked
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        look(&bytes);
    }

    /// A sound identity in front of arbitrary bytes.
    #[test]
    fn arbitrary_bytes_behind_an_identity(
        slots in 1u32..=64,
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let mut whole = identity(slots, 4096).encode().to_vec();
        whole.extend_from_slice(&bytes);
        look(&whole);
    }

    /// A sound segment with some of its words overwritten, most often where it matters.
    #[test]
    fn mutated_segments(
        lens in prop::collection::vec(0u32..600, 0..40),
        cut in prop::option::of(0usize..16_000),
        hits in prop::collection::vec(
            (0usize..16_000, prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 0u64..9000]),
            0..8,
        ),
        low in prop::collection::vec((256usize..800, any::<u64>()), 0..3),
        resign in any::<bool>(),
    ) {
        let mut bytes = segment(4, 4096, &lens);
        for (at, word) in hits.into_iter().chain(low) {
            let at = at % (bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        if resign {
            let crc = crate::checksum::crc32c(&bytes[..252]);
            bytes[252..256].copy_from_slice(&crc.to_le_bytes());
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        look(&bytes);
    }

    /// Positions that check, anywhere: laps, ends behind and in front of the cursor.
    #[test]
    fn forged_cursors(position in 0u64..1 << 53, sequence in any::<u64>(), end in prop::option::of(0u64..1 << 53)) {
        let mut bytes = segment(1, 4096, &[1, 2, 3]);
        let id = identity(1, 4096).segment;
        let at = Mark { position: position / 32 * 32, sequence };
        for (i, word) in [at.position, at.position, at.sequence, check(at, id)].into_iter().enumerate() {
            bytes[CURSOR_AT + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        if let Some(end) = end {
            bytes[SUCCESSION_AT + 8..][..8].copy_from_slice(&EndWord::at(end / 32 * 32, id).0.to_le_bytes());
        }
        look(&bytes);
    }
}
