//! What each finding says of the bytes: where they lie, which number was found there and which was expected, by the
//! offsets of `docs/FORMAT.md`.

use ringward_ring::image::{self, Basis, Piece, Severity};
use ringward_ring::layout::{CURSOR_AT, DOORBELL_AT, HEARTBEAT_AT, MAX_POSITION, SUCCESSION_AT};
use ringward_ring::table::{ReaderCard, ReaderName};
use ringward_ring::word::{EndWord, Kind, SegmentId, SlotState, State, SuccessorWord};

use crate::golden::{self, Segment};

const LIMIT: usize = CURSOR_AT + 56;
const TABLE: usize = 4096;
const SLOTS: [usize; 4] = [4352, 4480, 4608, 4736];
const DATA: u64 = 8192;

/// Id, offset, what was found, what was expected, how bad.
type Said = (&'static str, u64, u64, u64, Severity);

fn damage(id: &'static str, offset: usize, found: u64, expected: u64) -> Said {
    (id, offset as u64, found, expected, Severity::Damage)
}

fn note(id: &'static str, offset: usize, found: u64, expected: u64) -> Said {
    (id, offset as u64, found, expected, Severity::Note)
}

fn said(bytes: &[u8]) -> Vec<Said> {
    let findings = image::decode(bytes).findings;
    findings.iter().map(|f| (f.id(), f.offset, f.found, f.expected, f.severity)).collect()
}

/// `clean`, with something done to it, gives just these findings.
#[track_caller]
fn clean_with(change: impl FnOnce(&mut Segment), expected: &[Said]) {
    let mut segment = golden::clean();
    change(&mut segment);
    assert_eq!(said(&segment.bytes), expected);
}

#[test]
fn golden_findings_say_where_what_and_what_was_expected() {
    let succession = SUCCESSION_AT;
    let (data, border) = (DATA as usize, DATA as usize + 768);
    let ended = EndWord::at(768, SegmentId(golden::clean().id)).0;
    let next = SegmentId::from_random(golden::RANDOM[1]).0;
    for (name, expected) in [
        ("torn-record.ring", vec![note("RW-IMG-STAGED", border, 832, 768)]),
        ("torn-publish.ring", vec![note("RW-IMG-TORN", border, 832, 768)]),
        ("fenced.ring", vec![note("RW-IMG-FENCED", data + 224, 768, 224)]),
        ("corrupt-payload.ring", vec![damage("RW-IMG-CRC", data + 96, 96, 4)]),
        ("corrupt-header.ring", vec![damage("RW-IMG-CRC", data + 64, 64, 3)]),
        ("corrupt-last.ring", vec![damage("RW-IMG-CRC", data + 224, 224, 5)]),
        ("corrupt-wrap.ring", vec![damage("RW-IMG-CRC", data + 4032, 4032, 19)]),
        ("corrupt-released.ring", vec![damage("RW-IMG-CRC", data + 4032, 4032, 19)]),
        ("gap.ring", vec![damage("RW-IMG-GAP", data + 224, 7, 5)]),
        ("zero-data.ring", vec![damage("RW-IMG-CRC", data, 0, 1), damage("RW-IMG-ZERO", data, 4096, 0)]),
        ("flipped-position.ring", vec![damage("RW-IMG-POSITION", CURSOR_AT, 768 ^ 1 << 14, 768)]),
        ("flipped-cursor.ring", vec![damage("RW-IMG-CURSOR", CURSOR_AT, 768 ^ 32, 768)]),
        ("flipped-limit.ring", vec![damage("RW-IMG-LIMIT", LIMIT, 4096 ^ 1 << 26, 768)]),
        ("closing.ring", vec![note("RW-IMG-UNDECIDED", succession + 8, State::CLOSED.0.into(), 768)]),
        ("fencing.ring", vec![note("RW-IMG-UNDECIDED", succession + 8, State::FENCING.0.into(), 768)]),
        ("unknown-end.ring", vec![damage("RW-IMG-UNKNOWN-END", succession + 8, EndWord::UNKNOWN.0, 768)]),
        (
            "field-state.ring",
            vec![damage("RW-IMG-STATE", succession, (State::SUCCEEDED.0 ^ 32).into(), State::OPEN.0.into())],
        ),
        ("field-end.ring", vec![damage("RW-IMG-END", succession + 8, ended ^ 32, EndWord::UNDECIDED.0)]),
        (
            "field-successor.ring",
            vec![damage("RW-IMG-SUCCESSOR", succession + 16, next ^ 32, SuccessorWord::UNDECIDED.0)],
        ),
        ("field-expelled.ring", vec![damage("RW-IMG-EXPELLED", succession + 24, 32, 0b1111)]),
        ("field-slot-taken.ring", vec![damage("RW-IMG-TAKEN", SLOTS[0] + 112, 3 ^ 32, 6)]),
        ("field-slot-position.ring", vec![damage("RW-IMG-SLOT-CURSOR", SLOTS[0] + 8, 64 ^ 32, 0)]),
        ("slot-ahead.ring", vec![damage("RW-IMG-SLOT-AHEAD", SLOTS[0] + 8, 4000, 768)]),
        ("slot-twice.ring", vec![damage("RW-IMG-NAME", SLOTS[2] + 64, 2, 0)]),
        ("overrun.ring", vec![damage("RW-IMG-OVERRUN", SLOTS[0] + 8, 0, 4032)]),
        ("zero-table.ring", vec![damage("RW-IMG-ZERO", TABLE, 4096, 0)]),
        ("truncated-1.ring", vec![damage("RW-IMG-SIZE", 12287, 12287, 12288)]),
        ("minor.ring", vec![note("RW-IMG-MINOR", 10, 7, 0)]),
    ] {
        let golden =
            golden::all().into_iter().find(|golden| golden.name == name).expect("a golden segment of that name");
        assert_eq!(said(&golden.bytes), expected, "{name}");
        let damaged = expected.iter().any(|said| said.4 == Severity::Damage);
        assert_eq!(image::decode(&golden.bytes).damaged(), damaged, "{name}");
    }
}

#[test]
fn damaged_words_of_the_cursor_and_of_slots_are_told_with_what_they_hold() {
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    for at in [CURSOR_AT + 8, CURSOR_AT + 32] {
        let mut segment = golden::clean();
        segment.flip(at + 16, 0);
        let found = word(&segment.bytes, at + 16);
        assert!(said(&segment.bytes).contains(&note("RW-IMG-CHECKPOINT", at, found, found ^ 1)), "at {at}");
    }
    // The one that was never written is all zero, and nothing to tell.
    let mut segment = golden::clean();
    segment.bytes[CURSOR_AT + 32..LIMIT].fill(0);
    assert_eq!(said(&segment.bytes), []);
    let mut segment = golden::clean();
    segment.flip(SLOTS[1] + 64, 0);
    segment.flip(SLOTS[1], 0);
    segment.flip(SLOTS[1], 0);
    let check = word(&segment.bytes, SLOTS[1] + 120);
    assert_eq!(said(&segment.bytes), [damage("RW-IMG-SLOT-CARD", SLOTS[1] + 120, check, 0)]);
    let mut segment = golden::clean();
    segment.bytes[SLOTS[1] + 8..SLOTS[1] + 64].fill(1);
    assert_eq!(said(&segment.bytes), [damage("RW-IMG-SLOT-CURSOR", SLOTS[1] + 8, 0x0101_0101_0101_0101, 0)]);
    let mut segment = golden::clean();
    segment.put32(SLOTS[3], 7);
    assert_eq!(said(&segment.bytes), [damage("RW-IMG-SLOT-STATE", SLOTS[3], 7, SlotState::FREE.0.into())]);
}

#[test]
fn words_that_contradict_each_other_are_told() {
    let id = SegmentId(golden::clean().id);
    let (end, next) = (EndWord::at(768, id).0, SegmentId::from_random(golden::RANDOM[1]).0);
    let (undecided, open) = (EndWord::UNDECIDED.0, SuccessorWord::UNDECIDED.0);
    let order = |state: State, word| damage("RW-IMG-ORDER", SUCCESSION_AT, state.0.into(), word);
    for (state, end, successor, expected) in [
        // What a running generation cannot have yet.
        (State::OPEN, end, open, vec![order(State::OPEN, end)]),
        (State::CANDIDATE, end, open, vec![order(State::CANDIDATE, end)]),
        (State::OPEN, EndWord::UNKNOWN.0, open, vec![order(State::OPEN, EndWord::UNKNOWN.0)]),
        (State::OPEN, undecided, next, vec![order(State::OPEN, next)]),
        (State::CANDIDATE, undecided, next, vec![order(State::CANDIDATE, next)]),
        // What one that was succeeded must have.
        (State::SUCCEEDED, undecided, next, vec![order(State::SUCCEEDED, undecided)]),
        (State::SUCCEEDED, end, open, vec![order(State::SUCCEEDED, open)]),
        // In between there is an order in which it is written.
        (State::CANDIDATE, undecided, open, vec![]),
        (State::OPEN, undecided, SuccessorWord::NOBODY.0, vec![]),
        (State::FENCING, end, open, vec![]),
        (State::FENCING, end, next, vec![]),
        (State::CLOSED, end, next, vec![]),
        (State::SUCCEEDED, end, next, vec![]),
        (State::RETIRED, undecided, open, vec![]),
    ] {
        clean_with(|segment| segment.ended(state.0, end, successor), &expected);
    }
}

#[test]
fn an_end_behind_everything_that_was_written_is_told() {
    let id = SegmentId(golden::clean().id);
    let end = |at| {
        move |segment: &mut Segment| segment.ended(State::CLOSED.0, EndWord::at(at, id).0, SuccessorWord::UNDECIDED.0)
    };
    clean_with(end(768), &[]);
    let mut segment = golden::clean();
    end(800)(&mut segment);
    let said = said(&segment.bytes);
    assert_eq!(said[0], damage("RW-IMG-END-AHEAD", SUCCESSION_AT + 8, 800, 768));
    assert_eq!(image::decode(&segment.bytes).readable.end, 800);
}

#[test]
fn a_limit_lies_between_what_is_published_and_a_capacity_behind_what_is_written() {
    let told = |bytes: &[u8]| said(bytes).into_iter().find(|said| said.0 == "RW-IMG-LIMIT");
    for (limit, possible) in [
        (768, true),
        (800, true),
        (768 + 4096, true),
        (0, false),
        (736, false),
        (801, false),
        (768 + 4096 + 32, false),
        (u64::MAX, false),
    ] {
        let mut segment = golden::clean();
        segment.put64(LIMIT, limit);
        assert_eq!(told(&segment.bytes), (!possible).then_some(damage("RW-IMG-LIMIT", LIMIT, limit, 768)));
    }
    // Of a damaged cursor the limit can be anywhere that there is a position.
    for (limit, possible) in
        [(0, true), (MAX_POSITION, true), (2 * MAX_POSITION - 32, true), (2 * MAX_POSITION + 32, false)]
    {
        let mut segment = golden::clean();
        segment.bytes[CURSOR_AT..LIMIT].fill(1);
        segment.put64(LIMIT, limit);
        assert_eq!(told(&segment.bytes), (!possible).then_some(damage("RW-IMG-LIMIT", LIMIT, limit, 0)));
    }
}

#[test]
fn a_doorbell_of_zero_is_told() {
    clean_with(|s| s.put32(DOORBELL_AT, 0), &[damage("RW-IMG-BELL", DOORBELL_AT, 0, 1)]);
    clean_with(|s| s.put32(TABLE + 128, 0), &[damage("RW-IMG-BELL", TABLE + 128, 0, 1)]);
    // Of what was cut off nothing is told but that.
    let cut = &golden::clean().bytes[..TABLE + 200];
    assert_eq!(said(cut).iter().map(|said| said.0).collect::<Vec<_>>(), ["RW-IMG-SIZE", "RW-IMG-CRC"]);
}

#[test]
fn two_slots_of_one_name_are_told_and_are_damage_if_both_are_durable() {
    let (active, durable, ephemeral) = (SlotState::ACTIVE.0, Kind::DURABLE.0, Kind::EPHEMERAL.0);
    let at = SLOTS[3] + 64;
    clean_with(|s| s.reader(3, active, durable, "audit"), &[damage("RW-IMG-NAME", at, 3, 0)]);
    clean_with(|s| s.reader(3, active, ephemeral, "audit"), &[note("RW-IMG-NAME", at, 3, 0)]);
    clean_with(|s| s.reader(3, active, durable, "tail"), &[note("RW-IMG-NAME", at, 3, 1)]);
    clean_with(|s| s.reader(3, active, ephemeral, "tail"), &[note("RW-IMG-NAME", at, 3, 1)]);
    clean_with(|s| s.reader(3, active, durable, "auditor"), &[]);
    // A place that its reader has left is nobody's, whatever name lies in it.
    for state in [SlotState::DONE, SlotState::FREE] {
        clean_with(|s| s.reader(3, state.0, durable, "audit"), &[]);
        clean_with(|s| s.put32(SLOTS[0], state.0), &[]);
        clean_with(
            |s| {
                s.put32(SLOTS[0], state.0);
                s.reader(3, active, durable, "audit");
            },
            &[],
        );
    }
}

#[test]
fn what_a_reader_has_in_hand_lies_between_its_place_and_the_end() {
    let taken = |taken| move |segment: &mut Segment| segment.put64(SLOTS[0] + 112, taken);
    for sequence in 3..=6 {
        clean_with(taken(sequence), &[]);
    }
    clean_with(taken(2), &[damage("RW-IMG-TAKEN", SLOTS[0] + 112, 2, 3)]);
    clean_with(taken(7), &[damage("RW-IMG-TAKEN", SLOTS[0] + 112, 7, 6)]);
    // Of a place that was carried over it may be a number of the generation in front of this one.
    for sequence in [0, 2, 3] {
        let carried = |segment: &mut Segment| {
            segment.put32(SLOTS[0], SlotState::CARRIED.0);
            taken(sequence)(segment);
        };
        clean_with(carried, &[]);
    }
    // Who stands in front of the end is told so once.
    let ahead = |segment: &mut Segment| {
        segment.checkpoint(SLOTS[0] + 8, 0, 800, 9);
        segment.put64(SLOTS[0] + 8, 800);
        taken(9)(segment);
    };
    clean_with(ahead, &[damage("RW-IMG-SLOT-AHEAD", SLOTS[0] + 8, 800, 768)]);
}

/// The second lap of `wrapped` reaches up to position 6336; its reader stands at 4032.
fn wrapped_with_second(state: SlotState, expelled: u64) -> Segment {
    let mut segment = golden::wrapped();
    segment.reader(2, state.0, Kind::DURABLE.0, "second");
    segment.release(2, 15); // at 3136
    segment.put64(SUCCESSION_AT + 24, expelled);
    segment
}

#[test]
fn without_a_limit_everything_that_the_slowest_reader_needs_must_be_sound() {
    let damaged = 16 * 224; // between the two readers
    for (state, expelled, needed) in [
        (SlotState::ACTIVE, 0, true),
        (SlotState::CARRIED, 0, true),
        (SlotState::ACTIVE, 0b0100, false),
        (SlotState::DONE, 0, false),
        (SlotState::FREE, 0, false),
    ] {
        let mut segment = wrapped_with_second(state, expelled);
        segment.put64(LIMIT, 1);
        segment.flip((DATA + damaged) as usize + 30, 1);
        let mut expected = vec![damage("RW-IMG-LIMIT", LIMIT, 1, 6336)];
        if needed {
            expected.push(damage("RW-IMG-CRC", (DATA + damaged) as usize, damaged, 17));
        }
        assert_eq!(said(&segment.bytes), expected, "{state} {expelled:#b}");
    }
}

#[test]
fn a_reader_may_stand_where_the_limit_leaves_off_and_no_further_back() {
    // The limit is a capacity in front of the slower reader, up to which everything is kept.
    let mut segment = wrapped_with_second(SlotState::ACTIVE, 0);
    segment.put64(LIMIT, 3136 + 4096);
    assert_eq!(said(&segment.bytes), []);
    segment.put64(LIMIT, 3136 + 4096 + 32);
    assert_eq!(said(&segment.bytes), [damage("RW-IMG-OVERRUN", SLOTS[2] + 8, 3136, 3136 + 32)]);
}

#[test]
fn each_slot_has_a_bit_of_the_expelled_word() {
    let mut segment = golden::clean();
    segment.put64(SUCCESSION_AT + 24, 0b1010);
    let image = image::decode(&segment.bytes);
    assert_eq!(image.slots.iter().map(|slot| slot.expelled).collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn the_beat_and_the_card_come_out_as_they_were_written() {
    let mut segment = golden::clean();
    segment.put64(HEARTBEAT_AT, 77);
    let image = image::decode(&segment.bytes);
    assert_eq!((image.beat, image.beat_time, image.limit), (77, golden::CREATED, 4096));
    let (pid, pid_namespace, start) = golden::WHO;
    let card = |kind, name| Some(ReaderCard { kind, name: ReaderName::new(name).unwrap(), pid, pid_namespace, start });
    let cards: Vec<_> = image.slots.iter().map(|slot| slot.reading.card).collect();
    assert_eq!(cards, [card(Kind::DURABLE, "audit"), card(Kind::EPHEMERAL, "tail"), None, None]);
}

#[test]
fn a_place_that_its_reader_has_left_has_nothing_unread() {
    for (state, unread) in [
        (SlotState::ACTIVE, Some(3)),
        (SlotState::CARRIED, Some(3)),
        (SlotState::PROVISIONAL, Some(3)),
        (SlotState::FREE, None),
        (SlotState::DONE, None),
        (SlotState(0), None),
    ] {
        let mut segment = golden::clean();
        segment.put32(SLOTS[0], state.0);
        let image = image::decode(&segment.bytes);
        assert_eq!(image.unread(0), unread, "{state}");
        let readers = 1 + usize::from(unread.is_some());
        assert!(image.to_string().contains(&format!("{readers} of 4 reader slots taken")), "{image}");
    }
}

#[test]
fn the_line_for_people_counts_damage_and_notes_apart() {
    let line = |name: &str| {
        let golden =
            golden::all().into_iter().find(|golden| golden.name == name).expect("a golden segment of that name");
        image::decode(&golden.bytes).to_string()
    };
    assert!(line("torn-publish.ring").ends_with("0 lost, 2 of 4 reader slots taken, findings: 0 damage, 1 notes"));
    assert!(line("field-a-check.ring").ends_with("findings: 2 damage, 1 notes"));
    assert!(line("zero-data.ring").contains(", 32 lost, "));
    assert!(line("gap.ring").contains(": OPEN, 5 records with 117 bytes of payload up to position 256, 2 lost, "));
}

#[test]
fn a_record_behind_the_end_counts_only_as_far_as_it_was_written() {
    // Two records behind the end, of which only the first is checkpointed, or none.
    let mut segment = golden::clean();
    let before = segment.bytes.clone();
    segment.push(6, 40);
    segment.push(7, 8);
    let mut bytes = segment.bytes.clone();
    bytes[CURSOR_AT..LIMIT].copy_from_slice(&before[CURSOR_AT..LIMIT]);
    assert_eq!(said(&bytes), [note("RW-IMG-STAGED", DATA as usize + 768, 864, 768)]);
    let line = image::decode(&bytes).findings[0].to_string();
    assert!(line.starts_with("2 complete records up to position 864"), "{line}");
    // Ended in front of both: the writer published them too late.
    let id = SegmentId(segment.id);
    let mut fenced = segment.clone();
    fenced.ended(State::FENCING.0, EndWord::at(768, id).0, SuccessorWord::UNDECIDED.0);
    let image = image::decode(&fenced.bytes);
    assert_eq!(image.readable.basis, Basis::EndWord);
    assert_eq!(image.pieces().filter(|piece| matches!(piece, Piece::Record { .. })).count(), 5);
}

#[test]
fn a_checkpoint_of_a_position_that_cannot_be_is_not_believed() {
    for position in [769, 2 * MAX_POSITION] {
        let mut segment = golden::clean();
        segment.checkpoint(CURSOR_AT, 1, position, 7);
        assert_eq!(said(&segment.bytes).iter().map(|said| said.0).collect::<Vec<_>>(), ["RW-IMG-CHECKPOINT"]);
        assert_eq!(image::decode(&segment.bytes).readable.end, 768);
    }
    let last = 2 * MAX_POSITION - 32;
    clean_with(|s| s.checkpoint(CURSOR_AT, 1, last, 7), &[note("RW-IMG-TORN", DATA as usize + 768, last, 768)]);
}

#[test]
fn what_lies_in_two_laps_is_counted_by_its_kind() {
    let totals = image::decode(&golden::wrapped().bytes).totals;
    assert_eq!((totals.records, totals.payload, totals.wraps, totals.holes), (18, 18 * 200, 1, 0));
}

#[test]
fn a_loss_that_nobody_can_count_stays_so_whatever_is_counted_behind_it() {
    let mut segment = golden::wrapped();
    // From position 3136 on everything is kept; nobody stands there who could say its number.
    segment.put64(LIMIT, 3136 + 4096);
    for record in [13, 14, 16] {
        segment.flip(DATA as usize + record * 224 + 30, 1);
    }
    let crc = |position: u64, expected| damage("RW-IMG-CRC", (DATA + position) as usize, position, expected);
    assert_eq!(said(&segment.bytes), [crc(3136, golden::FIRST), crc(16 * 224, 17)]);
    let image = image::decode(&segment.bytes);
    assert_eq!((image.totals.lost, image.totals.lost_unknown, image.totals.holes), (1, true, 2));
    assert!(image.to_string().contains(", at least 1 lost, "), "{image}");
    let unknown = image.pieces().find(|piece| matches!(piece, Piece::Lost { .. }));
    assert_eq!(unknown, Some(Piece::Lost { position: 3136, len: 224, from: None, count: None }));
    // What lies in front of that was released, and need not be sound.
    let stale = |piece: &Piece<'_>| matches!(piece, Piece::Stale { .. });
    assert_eq!(image.pieces().find(stale), None);
    segment.flip(DATA as usize + 11 * 224 + 30, 1);
    let found = image::decode(&segment.bytes).pieces().find(stale);
    assert_eq!(found, Some(Piece::Stale { position: 11 * 224, len: 224 }));
}

/// Puts a record that checks in the place of the last but one or the last of `clean`, under another number.
fn renumber(segment: &mut Segment, position: u64, sequence: u64, len: usize) {
    let payload = golden::payload(sequence, len);
    let record = golden::record(segment.id, position, golden::DATA_KIND, 9, sequence, len as u32, &payload);
    segment.bytes[(DATA + position) as usize..][..record.len()].copy_from_slice(&record);
}

#[test]
fn a_record_whose_number_cannot_be_there_yet_is_not_believed() {
    // Nothing but the end word says where the end is; no checkpoint says its number.
    let mut segment = golden::clean();
    segment.ended(State::CLOSED.0, EndWord::at(768, SegmentId(segment.id)).0, SuccessorWord::UNDECIDED.0);
    segment.bytes[CURSOR_AT..LIMIT].fill(1);
    // At position 96 there can have been three records before, each of 32 bytes.
    for (sequence, believed) in [(4, true), (5, false), (100, false)] {
        let mut segment = segment.clone();
        renumber(&mut segment, 96, sequence, 100);
        let totals = image::decode(&segment.bytes).totals;
        assert_eq!((totals.records, totals.lost), if believed { (5, 0) } else { (4, 1) }, "{sequence}");
    }
}

#[test]
fn a_record_with_the_number_of_the_end_is_not_believed() {
    for (sequence, believed) in [(5, true), (6, false), (7, false)] {
        let mut segment = golden::clean();
        renumber(&mut segment, 224, sequence, 500);
        let totals = image::decode(&segment.bytes).totals;
        assert_eq!((totals.records, totals.lost), if believed { (5, 0) } else { (4, 1) }, "{sequence}");
    }
}

/// It comes when it is due, but the end says that there is none of that number in front of it.
#[test]
fn a_record_that_is_expected_is_not_believed_under_the_number_of_the_end() {
    let mut segment = golden::clean();
    segment.checkpoint(CURSOR_AT, 0, 768, 5);
    let image = image::decode(&segment.bytes);
    assert_eq!((image.totals.records, image.totals.holes, image.totals.lost), (4, 1, 0));
}

#[test]
fn a_jump_in_what_everybody_has_released_is_no_piece() {
    let mut gap = golden::all().into_iter().find(|golden| golden.name == "gap.ring").expect("gap.ring").bytes;
    let lost = Piece::Lost { position: 224, len: 0, from: Some(5), count: Some(2) };
    let others = |bytes: &[u8]| {
        let image = image::decode(bytes);
        image.pieces().filter(|p| !matches!(p, Piece::Record { .. })).map(|p| format!("{p:?}")).collect::<Vec<_>>()
    };
    assert_eq!(others(&gap), [format!("{lost:?}")]);
    gap[LIMIT..][..8].copy_from_slice(&(256u64 + 4096).to_le_bytes());
    assert_eq!((others(&gap), said(&gap)), (vec![], vec![]));
    assert_eq!(image::decode(&gap).totals.records, 5);
}

#[test]
fn records_that_do_not_add_up_to_the_number_of_the_end_are_told() {
    let last = DATA as usize + 768;
    clean_with(|s| s.checkpoint(CURSOR_AT, 0, 768, 8), &[damage("RW-IMG-GAP", last, 8, 6)]);
    let mut segment = golden::clean();
    segment.checkpoint(CURSOR_AT, 0, 768, 8);
    let image = image::decode(&segment.bytes);
    assert_eq!((image.totals.records, image.totals.lost), (5, 2));
    assert_eq!(image.pieces().last(), Some(Piece::Lost { position: 768, len: 0, from: Some(6), count: Some(2) }));
}
