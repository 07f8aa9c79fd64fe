//! The ring against a `VecDeque`: order, wholeness, back-pressure, wrap-around, many readers.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use ringward_ring::build::Spec;
use ringward_ring::layout::{RECORD_HEADER, record_len};
use ringward_ring::reader::Taken;
use ringward_ring::table::From;
use ringward_ring::word::{Checksum, Kind};
use ringward_ring::writer::{CommitError, FillError, PushError};

use crate::common::{Bed, spec};

#[derive(Debug, Clone)]
enum Step {
    Push { record_type: u32, len: usize },
    Batch { lens: Vec<usize> },
    Reserve { len: usize, commit: bool },
    Recv { reader: usize, most: usize },
    Join { durable: bool },
    Leave { reader: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![3 => 0usize..200, 1 => Just(0), 1 => 1900usize..2024];
    let step = prop_oneof![
        6 => (any::<u32>(), len).prop_map(|(record_type, len)| Step::Push { record_type, len }),
        1 => proptest::collection::vec(0usize..300, 0..6).prop_map(|lens| Step::Batch { lens }),
        1 => (0usize..500, any::<bool>()).prop_map(|(len, commit)| Step::Reserve { len, commit }),
        6 => (0usize..32, 1usize..9).prop_map(|(reader, most)| Step::Recv { reader, most }),
        1 => any::<bool>().prop_map(|durable| Step::Join { durable }),
        1 => (0usize..32).prop_map(|reader| Step::Leave { reader }),
    ];
    proptest::collection::vec(step, 1..160)
}

fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (sequence as usize * 131 + i * 7) as u8).collect()
}

/// What one reader still has to get, and how many bytes of the ring that holds at the most.
struct Model {
    pending: VecDeque<(u64, u32, Vec<u8>)>,
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
    #![proptest_config(cases(64))]

    #[test]
    fn every_reader_gets_every_record_in_order(steps in steps(), header_only in any::<bool>()) {
        let bed = Bed::new();
        let checksum = if header_only { Checksum::HEADER } else { Checksum::FULL };
        let mut writer = bed.writer(&Spec { checksum, ..spec(4096) });
        let mut readers = Vec::new();
        let mut buf = vec![0; 4096];
        let mut next = 0u64;
        let mut pushed = 0;
        for step in steps {
            match step {
                Step::Push { record_type, len } => {
                    let bytes = payload(next, len);
                    match writer.try_push(record_type, &bytes) {
                        Ok(sequence) => {
                            prop_assert_eq!(sequence, next);
                            for (_, model) in &mut readers {
                                let model: &mut Model = model;
                                model.pending.push_back((next, record_type, bytes.clone()));
                            }
                            next += 1;
                            pushed += 1;
                        }
                        Err(PushError::Full { behind, .. }) => {
                            let (filled, _) = fullest(&readers);
                            prop_assert!(behind + 2 * record_len(len as u64) > 4096, "full with {filled} bytes pending, behind {behind}");
                            prop_assert!(filled <= behind && behind <= 4096);
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Batch { lens } => {
                    let mut batch = writer.batch();
                    let mut staged = Vec::new();
                    for len in lens {
                        let bytes = payload(next + staged.len() as u64, len);
                        match batch.push(9, &bytes) {
                            Ok(_) => staged.push(bytes),
                            Err(PushError::Full { .. }) => break,
                            Err(other) => prop_assert!(false, "{}", other),
                        }
                    }
                    let range = batch.publish().unwrap();
                    prop_assert_eq!(range.clone(), next..next + staged.len() as u64);
                    for (sequence, bytes) in range.zip(staged) {
                        for (_, model) in &mut readers {
                            model.pending.push_back((sequence, 9, bytes.clone()));
                        }
                        next += 1;
                    }
                }
                Step::Reserve { len, commit } => {
                    if let Ok(mut reservation) = writer.reserve(5, len) {
                        let bytes = payload(next, len);
                        let (a, b) = bytes.split_at(len / 3);
                        reservation.fill(a).unwrap();
                        reservation.fill(b).unwrap();
                        prop_assert!(reservation.fill(&[1]).is_err());
                        if commit {
                            prop_assert_eq!(reservation.commit().unwrap(), next);
                            for (_, model) in &mut readers {
                                model.pending.push_back((next, 5, bytes.clone()));
                            }
                            next += 1;
                        } else {
                            reservation.abort();
                        }
                    }
                }
                Step::Recv { reader, most } => {
                    if readers.is_empty() { continue; }
                    let at = reader % readers.len();
                    let (reader, model) = &mut readers[at];
                    let reader: &mut ringward_ring::reader::Reader<_> = reader;
                    for _ in 0..most {
                        match (reader.try_recv(&mut buf).unwrap(), model.pending.pop_front()) {
                            (Taken::Record { sequence, record_type, len, redelivered }, Some(want)) => {
                                prop_assert_eq!((sequence, record_type, buf[..len].to_vec()), want);
                                prop_assert!(!redelivered);
                            }
                            (Taken::Empty, None) => break,
                            (got, want) => prop_assert!(false, "got {:?}, want {:?}", got, want),
                        }
                    }
                    reader.release();
                }
                Step::Join { durable } => {
                    if readers.len() < 32 {
                        let kind = if durable { Kind::DURABLE } else { Kind::EPHEMERAL };
                        let reader = bed.reader(&format!("r{}", readers.len()), kind, From::Latest);
                        readers.push((reader, Model { pending: VecDeque::new() }));
                    }
                }
                Step::Leave { reader } => {
                    if !readers.is_empty() {
                        let at = reader % readers.len();
                        let (reader, _) = readers.swap_remove(at);
                        drop(reader.forget());
                    }
                }
            }
        }
        prop_assert!(pushed <= next);
    }
}

fn fullest<R>(readers: &[(R, Model)]) -> (u64, usize) {
    readers
        .iter()
        .map(|(_, m)| (m.pending.iter().map(|(_, _, b)| record_len(b.len() as u64)).sum::<u64>(), m.pending.len()))
        .max()
        .unwrap_or((0, 0))
}

#[test]
fn an_absent_durable_reader_holds_the_writer_back_and_a_dead_ephemeral_one_does_not() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let durable = bed.reader("d", Kind::DURABLE, From::Latest);
    let ephemeral = bed.reader("e", Kind::EPHEMERAL, From::Latest);
    drop(ephemeral.abandon()); // as if it had died: its byte is free, its slot still active
    drop(durable.abandon());
    let mut count = 0;
    let full = loop {
        match writer.try_push(1, &[7; 100]) {
            Ok(_) => count += 1,
            Err(full) => break full,
        }
        assert!(count <= 4096, "nothing holds it back");
    };
    assert_eq!(count, 4096 / record_len(100));
    assert!(matches!(full, PushError::Full { slot: Some(0), behind: 4096, capacity: 4096 }), "{full:?}");
    let again = writer.push(1, &[7; 100], Duration::from_millis(1)).unwrap_err();
    assert_eq!(again, full);
    // The durable reader comes back, reads on where it stood, and the writer goes on past the dead one.
    let mut durable =
        bed.attach(ringward_ring::segment::Access::Reader).claim(0, &crate::common::card("d", Kind::DURABLE)).unwrap();
    let mut buf = [0; 200];
    for sequence in 0..count {
        let taken = durable.try_recv(&mut buf).unwrap();
        assert_eq!(taken, Taken::Record { sequence, record_type: 1, len: 100, redelivered: false });
    }
    durable.release();
    for _ in 0..count {
        writer.try_push(1, &[7; 100]).unwrap();
    }
    assert!(writer.try_push(1, &[0]).is_err());
}

#[test]
fn a_record_taken_but_not_released_comes_again_and_says_so() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("d", Kind::DURABLE, From::Latest);
    for i in 0..3u8 {
        writer.try_push(0, &[i]).unwrap();
    }
    let mut buf = [0; 8];
    reader.try_recv(&mut buf).unwrap();
    reader.release();
    reader.try_recv(&mut buf).unwrap();
    drop(reader.abandon());
    let mut reader =
        bed.attach(ringward_ring::segment::Access::Reader).claim(0, &crate::common::card("d", Kind::DURABLE)).unwrap();
    let marks: Vec<_> = (0..2).map(|_| reader.try_recv(&mut buf).unwrap()).collect();
    assert!(matches!(marks[0], Taken::Record { sequence: 1, redelivered: true, .. }), "{marks:?}");
    assert!(matches!(marks[1], Taken::Record { sequence: 2, redelivered: false, .. }), "{marks:?}");
}

#[test]
fn too_long_a_record_is_refused_with_both_numbers() {
    let bed = Bed::new();
    let mut writer = bed.writer(&Spec { record_limit: 100, ..spec(4096) });
    assert_eq!(writer.try_push(0, &[0; 101]), Err(PushError::TooLarge { len: 101, limit: 100 }));
    assert_eq!(writer.try_push(0, &[0; 100]), Ok(0));
    assert_eq!(RECORD_HEADER, 24);
}

#[test]
fn a_late_reader_from_oldest_gets_what_is_still_there() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    for i in 0..200u64 {
        writer.try_push(0, &i.to_le_bytes()).unwrap();
    }
    let mut reader = bed.reader("late", Kind::EPHEMERAL, From::Oldest);
    let mut buf = [0; 8];
    let mut got = Vec::new();
    while let Taken::Record { sequence, .. } = reader.try_recv(&mut buf).unwrap() {
        assert_eq!(u64::from_le_bytes(buf), sequence);
        got.push(sequence);
    }
    assert_eq!(*got.last().unwrap(), 199);
    assert!(got.len() >= 2 && got.windows(2).all(|w| w[1] == w[0] + 1), "{got:?}");
}

#[test]
fn a_batch_is_there_as_a_whole_or_not_at_all() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
    let mut buf = [0; 8];
    let mut batch = writer.batch();
    for i in 0..3u8 {
        batch.push(0, &[i]).unwrap();
        assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty), "record {i} before its batch was published");
    }
    assert_eq!(batch.publish(), Ok(0..3));
    for sequence in 0..3 {
        assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: s, .. }) if s == sequence));
    }
}

/// A batch has the ring's room and no more; nobody else is in its way, and the error says so.
#[test]
fn a_batch_that_fills_the_ring_is_published_and_goes_on() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let fits = 4096 / record_len(100);
    let mut batch = writer.batch();
    assert!(batch.is_empty());
    let full = loop {
        match batch.push(0, &[7; 100]) {
            Ok(_) => assert!(batch.len() <= fits),
            Err(full) => break full,
        }
    };
    assert_eq!(batch.len(), fits);
    assert_eq!(full, PushError::Full { slot: None, behind: 4096, capacity: 4096 });
    assert!(full.to_string().contains("publish the batch"), "{full}");
    assert_eq!(batch.publish(), Ok(0..fits));
    let mut batch = writer.batch();
    assert_eq!(batch.push(0, &[7; 100]), Ok(fits));
    drop(batch);
    assert_eq!(writer.try_push(0, &[8; 100]), Ok(fits), "a batch that is dropped uses no number up");
}

/// Not filled exactly: nothing is published, no number used up, and the next record takes the place.
#[test]
fn a_reservation_that_is_not_filled_is_not_committed() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
    let mut buf = [0; 64];
    let mut reservation = writer.reserve(3, 10).unwrap();
    reservation.fill(&[1; 4]).unwrap();
    assert_eq!(reservation.remaining(), 6);
    assert_eq!(reservation.fill(&[2; 7]), Err(FillError { reserved: 10, filled: 11 }));
    assert_eq!(reservation.remaining(), 6, "none of them was written");
    assert_eq!(reservation.commit(), Err(CommitError::Fill(FillError { reserved: 10, filled: 4 })));
    assert_eq!(reader.try_recv(&mut buf), Ok(Taken::Empty));
    assert_eq!(writer.try_push(4, b"next"), Ok(0));
    assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { sequence: 0, record_type: 4, len: 4, .. })));
}

/// Not more than was asked for at a time, and all that was handed out is released.
#[test]
fn draining_stops_where_it_was_told_to() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let mut reader = bed.reader("r", Kind::EPHEMERAL, From::Latest);
    for i in 0..5u8 {
        writer.try_push(0, &[i]).unwrap();
    }
    let mut buf = [0; 8];
    let mut got = Vec::new();
    for count in [3, 2, 0] {
        let drained = reader.drain(&mut buf, 3, |sequence, _, bytes, again| {
            assert!(!again);
            got.push((sequence, bytes.to_vec()));
        });
        assert_eq!(drained, Ok((count, Taken::Empty)));
        assert!(!reader.has_in_hand());
    }
    assert_eq!(got, (0..5u8).map(|i| (u64::from(i), vec![i])).collect::<Vec<_>>());
}
