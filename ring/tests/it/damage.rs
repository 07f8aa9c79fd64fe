//! A flipped bit, a stray store, forged bytes: at most the records that were hit, said exactly; never a wrong payload, a hang or a
//! silent loss.

use std::os::unix::fs::FileExt;

use ringward_ring::build::Spec;
use ringward_ring::layout::{CURSOR_AT, Geometry, RECORD_HEADER, record_len};
use ringward_ring::reader::{GapReason, RecvError, Taken};
use ringward_ring::segment::Access;
use ringward_ring::table::From;
use ringward_ring::word::{Checksum, Kind, RecordKind, SlotState};

use crate::common::{Alarm, Bed, card, spec};
use crate::golden;

/// The file under a segment, for faults from outside.
fn file(bed: &Bed) -> std::fs::File {
    let path = bed.path.path().join("00000001.ring");
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn data_at() -> u64 {
    Geometry { page: 4096, slots: 32, capacity: 4096 }.data_at()
}

fn flip(bed: &Bed, at: u64, bit: u8) {
    let mut byte = [0];
    let file = file(bed);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
}

#[test]
fn a_flipped_position_never_delivers_what_was_never_published() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    let mut buf = [0; 64];
    writer.try_push(0, b"first").unwrap();
    assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 0, .. })));
    let mut batch = writer.batch();
    batch.push(0, b"never pushed").unwrap();
    drop(batch); // its bytes are there, sound, behind the published position
    for bit in 0..64 {
        flip(&bed, CURSOR_AT as u64 + bit / 8, (bit % 8) as u8);
        assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty), "bit {bit}");
        flip(&bed, CURSOR_AT as u64 + bit / 8, (bit % 8) as u8);
    }
    flip(&bed, CURSOR_AT as u64, 6);
    reader.try_recv(&mut buf).unwrap();
    // The next push mends it.
    assert_eq!(writer.try_push(0, b"second"), Ok(1));
    assert_eq!(
        reader.try_recv(&mut buf),
        Ok(Taken::Record { sequence: 1, record_type: 0, len: 6, redelivered: false })
    );
    assert_eq!(&buf[..6], b"second");
}

#[test]
fn every_flipped_bit_of_a_record_costs_that_record_alone() {
    for bit in 0..record_len(20) * 8 {
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
        for i in 0..4u8 {
            writer.try_push(9, &[i; 20]).unwrap();
        }
        // The second of four.
        flip(&bed, data_at() + record_len(20) + bit / 8, (bit % 8) as u8);
        let mut got = Vec::new();
        let mut buf = [0; 64];
        loop {
            match reader.try_recv(&mut buf).unwrap() {
                Taken::Empty => break,
                Taken::Record { sequence, len, record_type: 9, .. } => {
                    assert_eq!(buf[..len], [sequence as u8; 20]);
                    got.push((sequence, false));
                }
                Taken::Gap { from, count: 1, reason: GapReason::Corrupt } => got.push((from, true)),
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        let padding = bit / 8 >= RECORD_HEADER + 20;
        assert_eq!(got, [(0, false), (1, !padding), (2, false), (3, false)], "bit {bit}");
    }
}

#[test]
fn a_gap_at_the_end_is_counted_by_the_cursor() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    for _ in 0..5 {
        writer.try_push(0, &[1; 8]).unwrap();
    }
    file(&bed).write_all_at(&[0; 160], data_at()).unwrap(); // all five: a hole reads as zeros
    let taken = reader.try_recv(&mut [0; 64]).unwrap();
    assert_eq!(taken, Taken::Gap { from: 0, count: 5, reason: GapReason::Corrupt });
    assert_eq!(reader.try_recv(&mut [0; 64]).unwrap(), Taken::Empty);
    writer.try_push(0, b"on").unwrap();
    assert!(matches!(reader.try_recv(&mut [0; 64]).unwrap(), Taken::Record { sequence: 5, .. }));
}

#[test]
fn a_slot_freed_by_a_stray_store_still_holds_the_writer_back() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
    let mut pushed = 0;
    while writer.try_push(0, &[7; 100]).is_ok() {
        pushed += 1;
    }
    // Somebody writes "free" over the state of the living reader's slot.
    file(&bed).write_all_at(&SlotState::FREE.0.to_le_bytes(), 4096 + 256).unwrap();
    assert!(writer.try_push(0, &[7; 100]).is_err());
    let mut buf = [0; 128];
    for sequence in 0..pushed {
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: got, .. }) if got == sequence));
    }
}

/// A position that no reader can have, stored over a living reader's: the writer goes by the one that it knew.
#[test]
fn a_position_that_can_not_be_still_holds_the_writer_back() {
    for (ahead, word) in [(true, 32), (true, 4096), (false, 1), (false, 1 << 60), (false, u64::MAX)] {
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let mut reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
        let mut pushed = 0;
        while writer.try_push(0, &[7; 100]).is_ok() {
            pushed += 1;
        }
        let lie = if ahead { writer.published().position + word } else { word };
        file(&bed).write_all_at(&lie.to_le_bytes(), 4096 + 256 + 8).unwrap();
        assert!(writer.try_push(0, &[7; 100]).is_err(), "{lie}");
        let mut buf = [0; 128];
        for sequence in 0..pushed {
            assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: got, .. }) if got == sequence));
        }
        reader.release(); // mends it
        assert_eq!(writer.try_push(0, &[7; 100]), Ok(pushed));
    }
}

#[test]
fn a_durable_slot_ahead_of_its_writer_starts_over_with_what_is_there() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let reader = bed.reader("d", Kind::DURABLE, From::Latest);
    for i in 0..3u8 {
        writer.try_push(0, &[i]).unwrap();
    }
    drop(reader.abandon());
    // Zeros over its cursor: no checkpoint checks any more.
    file(&bed).write_all_at(&[0; 56], 4096 + 256 + 8).unwrap();
    let mut reader = bed.attach(Access::Reader).claim(0, &card("d", Kind::DURABLE)).unwrap();
    let mut buf = [0; 8];
    for sequence in 0..3 {
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: got, .. }) if got == sequence));
    }
}

/// A record that checks, under a number that is too high for where it lies.
#[test]
fn a_record_whose_number_cannot_be_there_yet_is_not_delivered() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    for i in 0..8u8 {
        writer.try_push(0, &[i; 8]).unwrap();
    }
    flip(&bed, data_at() + 16, 0);
    let id = writer.memory().identity().segment.0;
    let forged = golden::record(id, 32, golden::DATA_KIND, 0, 3, 8, b"a forged");
    file(&bed).write_all_at(&forged, data_at() + 32).unwrap();
    let mut buf = [0; 64];
    let gap = Taken::Gap { from: 0, count: 2, reason: GapReason::Corrupt };
    assert_eq!(reader.try_recv(&mut buf), Ok(gap));
    for expected in 2..8 {
        let taken = reader.try_recv(&mut buf);
        assert!(matches!(taken, Ok(Taken::Record { sequence, .. }) if sequence == expected), "{taken:?}");
        assert_eq!(buf[..8], [expected as u8; 8]);
    }
}

/// Inside a damaged record lie headers of many others that are none: the search goes through them all before it gives up.
#[test]
fn headers_inside_a_damaged_record_do_not_hide_what_lies_behind_it() {
    for (capacity, checksum, len, forged, claimed) in [
        (4096, Checksum::FULL, 1900, 50, 1500),
        (1 << 17, Checksum::FULL, 60_000, 25, 50_000),
        (1 << 17, Checksum::HEADER, 60_000, 100, 50_000),
    ] {
        let bed = Bed::new();
        let mut writer = bed.writer(&Spec { checksum, ..spec(capacity) });
        let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
        for i in 0..2u8 {
            writer.try_push(0, &vec![i; len]).unwrap();
        }
        let data = writer.memory().identity().geometry.data_at();
        flip(&bed, data + 12, 0);
        for border in 1..=forged {
            let words = [claimed | u64::from(RecordKind::DATA.0) << 32, 0, 0].map(u64::to_le_bytes).concat();
            file(&bed).write_all_at(&words, data + border * 32).unwrap();
        }
        let mut buf = vec![0; len];
        let gap = Taken::Gap { from: 0, count: 1, reason: GapReason::Corrupt };
        assert_eq!(reader.try_recv(&mut buf), Ok(gap), "{capacity} {checksum}");
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 1, .. })), "{capacity} {checksum}");
        assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty));
    }
}

/// A wrap marker is no record: one that is damaged costs none, whichever of its bytes it is, and the next record is found.
#[test]
fn a_damaged_wrap_marker_costs_no_record() {
    let _alarm = Alarm::new();
    for bit in 0..RECORD_HEADER * 8 {
        let bed = Bed::new();
        let mut writer = bed.writer(&spec(4096));
        let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
        let mut buf = [0; 2000];
        for sequence in 0..2 {
            writer.try_push(0, &[sequence; 1900]).unwrap();
            assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { .. })));
        }
        reader.release();
        let marker = 2 * record_len(1900);
        writer.try_push(0, &[2; 1900]).unwrap();
        assert!(writer.published().position > 4096 + record_len(1900) - 1, "it went round the ring");
        flip(&bed, data_at() + marker + bit / 8, (bit % 8) as u8);
        let taken = reader.try_recv(&mut buf);
        assert_eq!(
            taken,
            Ok(Taken::Record { sequence: 2, record_type: 0, len: 1900, redelivered: false }),
            "bit {bit}"
        );
        assert_eq!(buf[..1900], [2; 1900]);
    }
}

/// Headers alone are checked: a flipped bit in one costs its record, one in a payload is delivered, as the channel asked for.
#[test]
fn with_checksums_over_headers_only_a_damaged_header_costs_its_record() {
    let _alarm = Alarm::new();
    for bit in 0..RECORD_HEADER * 8 {
        let bed = Bed::new();
        let mut writer = bed.writer(&Spec { checksum: Checksum::HEADER, ..spec(4096) });
        let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
        for i in 0..3u8 {
            writer.try_push(0, &[i; 20]).unwrap();
        }
        flip(&bed, data_at() + record_len(20) + bit / 8, (bit % 8) as u8);
        flip(&bed, data_at() + 2 * record_len(20) + RECORD_HEADER, 0);
        let mut buf = [0; 64];
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 0, .. })), "bit {bit}");
        let lost = Taken::Gap { from: 1, count: 1, reason: GapReason::Corrupt };
        assert_eq!(reader.try_recv(&mut buf), Ok(lost), "bit {bit}");
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 2, .. })), "bit {bit}");
        assert_eq!(buf[..2], [3, 2], "nobody looks at payloads here");
    }
}

/// Too small a buffer is told with both numbers, takes nothing, and is believed only of a record that checks.
#[test]
fn too_small_a_buffer_takes_nothing() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    for i in 0..2u8 {
        writer.try_push(0, &[i; 100]).unwrap();
    }
    for given in [0, 99] {
        let small = RecvError::BufferTooSmall { needed: 100, given };
        assert_eq!(reader.try_recv(&mut vec![0; given]), Err(small));
    }
    let mut buf = [0; 100];
    assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 0, len: 100, .. })));
    flip(&bed, data_at() + record_len(100) + RECORD_HEADER, 3);
    let lost = Taken::Gap { from: 1, count: 1, reason: GapReason::Corrupt };
    assert_eq!(reader.try_recv(&mut buf[..10]), Ok(lost), "damaged: nobody is sent for a larger buffer");
}

#[test]
fn what_is_corrupt_in_a_later_lap_is_not_called_overrun() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::DURABLE, From::Latest);
    let mut buf = [0; 64];
    for _ in 0..300 {
        writer.try_push(0, &[7; 20]).unwrap();
        reader.drain(&mut buf, 1, |_, _, _, _| {}).unwrap();
    }
    let at = writer.published().position;
    for _ in 0..2 {
        writer.try_push(0, &[7; 20]).unwrap();
    }
    flip(&bed, data_at() + at % 4096 + 12, 0);
    let gap = Taken::Gap { from: 300, count: 1, reason: GapReason::Corrupt };
    assert_eq!(reader.try_recv(&mut buf), Ok(gap));
    assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 301, .. })));
}
