//! Records handed over in place.
//!
//! # Safety
//!
//! Every process at these segments is this one; nobody writes to them but their writers.
#![allow(unsafe_code)]

use std::os::unix::fs::FileExt;

use ringward_ring::layout::{Geometry, RECORD_HEADER};
use ringward_ring::lend::{Lent, TrustedPeers};
use ringward_ring::memory::Memory;
use ringward_ring::reader::{GapReason, RecvError, Taken};
use ringward_ring::segment::Access;
use ringward_ring::table::From;
use ringward_ring::word::{Checksum, Kind};

use crate::common::{Bed, card, spec};

// SAFETY: see above.
const PEERS: TrustedPeers = unsafe { TrustedPeers::vouch() };

#[test]
fn what_was_filled_in_place_is_received_by_copy_and_in_place() {
    for checksum in [Checksum::FULL, Checksum::HEADER] {
        let bed = Bed::new();
        let mut writer = bed.writer(&ringward_ring::build::Spec { checksum, ..spec(4096) });
        let mut copier = bed.reader("copier", Kind::EPHEMERAL, From::Latest);
        let mut looker = bed.reader("looker", Kind::EPHEMERAL, From::Latest);
        let mut buf = [0; 2000];
        // Often around the ring, at lengths that put wrap markers at many places.
        for round in 0..200_u64 {
            let len = 1 + (round * 97 % 1500) as usize;
            let mut reservation = writer.reserve(5, len).unwrap();
            let head = [round as u8; 1];
            reservation.fill(&head).unwrap();
            reservation.in_place(PEERS, |bytes| bytes.fill(round as u8)).unwrap();
            assert_eq!(reservation.remaining(), 0);
            assert_eq!(reservation.commit(), Ok(round));
            let took = copier.try_recv(&mut buf).unwrap();
            assert_eq!(took, Taken::Record { sequence: round, record_type: 5, len, redelivered: false });
            assert!(buf[..len].iter().all(|byte| *byte == round as u8), "{round}");
            copier.release();
            let looked = looker.lend(PEERS, |sequence, record_type, bytes, again| {
                assert_eq!((sequence, record_type, bytes.len(), again), (round, 5, len, false));
                bytes.iter().all(|byte| *byte == round as u8)
            });
            assert_eq!(looked, Ok(Lent::Looked(true)));
            looker.release();
            assert_eq!(looker.lend(PEERS, |_, _, _, _| ()), Ok(Lent::Not(Taken::Empty)));
        }
    }
}

#[test]
fn what_was_lent_and_not_released_holds_the_writer_back_and_comes_again_marked() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("durable", Kind::DURABLE, From::Latest);
    writer.try_push(0, &[1; 1100]).unwrap();
    writer.try_push(0, &[2; 1100]).unwrap();
    assert_eq!(reader.lend(PEERS, |_, _, bytes, _| bytes[0]), Ok(Lent::Looked(1)));
    // Not released: two more would run over the first.
    writer.try_push(0, &[3; 1100]).unwrap();
    assert!(writer.try_push(0, &[4; 1100]).is_err());
    // As a crash would leave it; somebody of the same name comes.
    let slot = reader.slot();
    drop(reader.abandon());
    let mut again = bed.attach(Access::Reader).claim(slot, &card("durable", Kind::DURABLE)).unwrap();
    let mut seen = Vec::new();
    while let Lent::Looked(what) = again.lend(PEERS, |_, _, bytes, again| (bytes[0], again)).unwrap() {
        seen.push(what);
    }
    assert_eq!(seen, [(1, true), (2, false), (3, false)]);
    again.release();
    writer.try_push(0, &[4; 1100]).unwrap();
}

#[test]
fn a_reader_that_dies_while_it_looks_has_had_the_record_in_hand() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("durable", Kind::DURABLE, From::Latest);
    writer.try_push(0, b"in hand").unwrap();
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = reader.lend(PEERS, |_, _, _, _| std::panic::resume_unwind(Box::new(())));
    }));
    assert!(died.is_err());
    // Nor does this process, if it goes on, take it for a new one.
    assert_eq!(reader.lend(PEERS, |_, _, _, again| again), Ok(Lent::Looked(true)));
    let slot = reader.slot();
    drop(reader.abandon());
    let mut again = bed.attach(Access::Reader).claim(slot, &card("durable", Kind::DURABLE)).unwrap();
    assert_eq!(again.lend(PEERS, |_, _, _, again| again), Ok(Lent::Looked(true)));
}

#[test]
fn a_damaged_record_is_not_lent() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("looker", Kind::EPHEMERAL, From::Latest);
    writer.try_push(0, b"damaged").unwrap();
    writer.try_push(0, b"sound").unwrap();
    let file = std::fs::File::options().write(true).open(bed.path.path().join("00000001.ring")).unwrap();
    let data = Geometry { page: 4096, slots: 32, capacity: 4096 }.data_at();
    file.write_all_at(b"D", data + RECORD_HEADER).unwrap();
    let mut looks = 0;
    let found = reader.lend(PEERS, |_, _, _, _| looks += 1);
    assert_eq!(found, Ok(Lent::Not(Taken::Gap { from: 0, count: 1, reason: GapReason::Corrupt })));
    assert_eq!(looks, 0);
    assert_eq!(reader.lend(PEERS, |_, _, bytes, _| bytes == b"sound"), Ok(Lent::Looked(true)));
}

#[test]
fn cutting_the_file_under_who_looks_is_told_afterwards() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("looker", Kind::EPHEMERAL, From::Latest);
    writer.try_push(0, &[9; 100]).unwrap();
    let file = std::fs::File::options().write(true).open(bed.path.path().join("00000001.ring")).unwrap();
    let found = reader.lend(PEERS, |_, _, bytes, _| {
        file.set_len(0).unwrap();
        bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
    });
    assert_eq!(found, Err(RecvError::Truncated { next: 0 }));
    assert!(reader.memory().poisoned());
}
