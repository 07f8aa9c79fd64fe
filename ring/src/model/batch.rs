//! E1 for many: a reservation that is filled piece by piece, and a batch that is published with one store.

use core::time::Duration;

use loom::thread;

use super::heap::{Heap, Look, SPAN, Wish, drain, look, payload, push_next};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Weak, weaken};
use crate::reader::{Reader, Taken};
use crate::succession;
use crate::word::End;
use crate::writer::{PushError, Writer};

const RING: Wish = Wish { records: 4, slots: 1, watched: true, blind: false };
/// Nobody waits for room in this one, not even behind what is given up.
const ROOMY: Wish = Wish { records: 8, ..RING };

/// As in the models of single pushes: nobody sleeps, nobody ends anything.
const LIGHT: &[Weak] = &[Weak::LightFences];

/// What is staged and given up looks like no record that was pushed.
const GIVEN_UP: u64 = 9;

/// A batch of two, after a reservation that is given up and one that is committed.
#[test]
fn batch_and_reservation() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("saw [0, 0]", "neither is there yet"),
        ("saw [0, 1]", "the reservation is committed, the batch is not published"),
        ("saw [0, 3]", "everything came between the two looks"),
        ("saw [1, 1]", "the reservation is committed, the batch is not published"),
        ("saw [1, 3]", "the batch came as a whole"),
        ("saw [3, 3]", "all was there at the first look"),
    ];
    explore(Depth::All, OUTCOMES, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        let pushing = thread::spawn(move || {
            let mut given_up = writer.reserve(1, 8).unwrap();
            given_up.fill(&payload(GIVEN_UP)).unwrap();
            given_up.abort();
            let mut kept = writer.reserve(1, 8).unwrap();
            kept.fill(&payload(0)).unwrap();
            assert_eq!(kept.commit(), Ok(0));
            let mut batch = writer.batch();
            batch.push(1, &payload(1)).unwrap();
            batch.push(1, &payload(2)).unwrap();
            assert_eq!(batch.publish(), Ok(1..3));
        });
        let seen = [(); 2].map(|()| drain(&mut reader));
        pushing.join().unwrap();
        assert_eq!(drain(&mut reader), 3);
        format!("saw {seen:?}")
    });
}

/// Publishes the records `numbers` in one batch.
fn batch_of(writer: &mut Writer<Heap>, numbers: core::ops::Range<u64>) -> Result<(), PushError> {
    let mut batch = writer.batch();
    for number in numbers {
        batch.push(1, &payload(number))?;
    }
    batch.publish().map(drop)
}

/// Stages a record in a batch that is dropped.
fn give_up(writer: &mut Writer<Heap>) {
    let mut batch = writer.batch();
    batch.push(1, &payload(GIVEN_UP)).unwrap();
}

/// A batch is published; if the writer goes on, another is given up and one record pushed. The reader looks three times.
fn batch_against_looks(
    wish: Wish,
    records: u64,
    goes_on: bool,
    writer_weak: &'static [Weak],
    reader_weak: &'static [Weak],
) -> String {
    let heap = Heap::new(wish);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        assert_eq!(batch_of(&mut writer, 0..records), Ok(()));
        if goes_on {
            give_up(&mut writer);
            writer.try_push(1, &payload(records)).unwrap();
        }
    });
    weaken(reader_weak);
    let seen = [(); 3].map(|()| look(&mut reader));
    weaken(&[]);
    let taken = seen.iter().filter(|look| matches!(look, Look::Got(_))).count() as u64;
    let broken = seen.windows(2).any(|two| matches!(two, [Look::Got(at), Look::Nothing] if at + 1 < records));
    assert!(!broken, "a batch in pieces: {seen:?}");
    pushing.join().unwrap();
    assert_eq!(drain(&mut reader), records + u64::from(goes_on), "acknowledged and never delivered");
    format!("{taken} taken")
}

/// A batch of three, and a writer that goes on.
fn three_at_once(wish: Wish, writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    batch_against_looks(wish, 3, true, writer_weak, reader_weak)
}

/// A reader gets the records of a batch in order and whole, from the first one it sees without a break, and never what
/// was given up.
#[test]
fn a_batch_is_taken_without_a_break() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("0 taken", "it was not published yet"),
        ("1 taken", "it came before the last look; two are left"),
        ("2 taken", "it came before the second look; one is left"),
        ("3 taken", "it was there at the first look"),
    ];
    explore(Depth::All, OUTCOMES, || three_at_once(ROOMY, LIGHT, LIGHT));
}

/// E1 for a batch, the writer's end: the one store runs ahead of the records.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_release_of_a_batch() {
    let unwatched = Wish { watched: false, ..ROOMY };
    expect_violation(Depth::Switches(2), move || three_at_once(unwatched, &[Weak::LightFences, Weak::Releases], LIGHT));
}

/// E1 for a batch, the reader's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_acquire_of_a_batch() {
    let unwatched = Wish { watched: false, ..ROOMY };
    expect_violation(Depth::Switches(2), move || three_at_once(unwatched, LIGHT, &[Weak::LightFences, Weak::Acquires]));
}

/// Each record of the batch is published when it is added.
#[test]
#[should_panic(expected = "a batch in pieces")]
fn with_a_batch_in_pieces() {
    expect_violation(Depth::Switches(2), || {
        batch_against_looks(RING, 2, false, &[Weak::LightFences, Weak::BatchInPieces], LIGHT)
    });
}

/// A batch that was dropped stays staged, and comes out with the next store.
#[test]
#[should_panic(expected = "not whole")]
fn with_a_batch_that_was_given_up_kept() {
    expect_violation(Depth::Switches(2), || three_at_once(ROOMY, &[Weak::LightFences, Weak::GivenUpKept], LIGHT));
}

/// A batch of two while somebody ends the generation; a reader looks once meanwhile.
fn batch_against_the_end(writer_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let ended = heap.clone();
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        batch_of(&mut writer, 0..2)
    });
    let superseding = thread::spawn(move || {
        succession::fence_writer(&ended, false).unwrap();
        let end = succession::published_end(&ended).map(|mark| mark.position);
        succession::decide_end(&ended, end).unwrap()
    });
    let early = look(&mut reader);
    let published = pushing.join().unwrap();
    let end = superseding.join().unwrap();
    let delivered = drain(&mut reader);
    assert_eq!(end, End::At(delivered * SPAN), "delivered other than up to the end");
    match published {
        Ok(()) => assert_eq!(delivered, 2, "acknowledged and never delivered"),
        Err(PushError::Fenced) => assert_eq!(delivered, 0, "a part of a batch that was refused"),
        other => panic!("{other:?}"),
    }
    match (published, early) {
        (Ok(()), Look::Got(0)) => "acknowledged, seen at once",
        (Ok(()), _) => "acknowledged",
        (Err(_), _) => "fenced",
    }
    .to_owned()
}

/// All of a batch is acknowledged and delivered, or nothing of it is.
#[test]
fn a_batch_against_a_superseder() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("acknowledged, seen at once", "published before the end was read, and seen while open or after the decision"),
        ("acknowledged", "published before the end was read"),
        ("fenced", "the end was read before the batch was published: nothing of it is delivered"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || batch_against_the_end(&[]));
}

/// The end falls into the midst of a batch whose records are published one by one.
#[test]
#[should_panic(expected = "a part of a batch that was refused")]
fn with_the_end_in_a_batch_in_pieces() {
    expect_violation(Depth::Switches(3), || batch_against_the_end(&[Weak::BatchInPieces]));
}

/// A payload that takes two places, and what it is made of.
const LONG: [u8; 40] = [0x77; 40];

/// One look of a reader that expects a short record with number 3, then a long one with number 4.
fn look_far(reader: &mut Reader<Heap>) -> bool {
    let mut buf = [0; 40];
    let next = reader.next().sequence;
    let taken = reader.recv(&mut buf, Duration::ZERO).unwrap();
    reader.release();
    match taken {
        Taken::Record { sequence: 3, record_type: 1, len: 8, redelivered: false } if next == 3 => {
            assert_eq!(buf[..8], payload(3), "not whole");
        }
        Taken::Record { sequence: 4, record_type: 2, len: 40, redelivered: false } if next == 4 => {
            assert_eq!(buf, LONG, "not whole");
        }
        Taken::Empty => return false,
        other => panic!("a record that is not there: {other:?}"),
    }
    true
}

/// Three records are through. A reservation that needs a wrap marker is given up, a short record takes its place, and then the long
/// one is committed behind the ring's end.
fn round_the_ring(wish: Wish, writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(wish);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    for _ in 0..3 {
        push_next(&mut writer).unwrap();
    }
    assert_eq!(drain(&mut reader), 3);
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        let mut given_up = writer.reserve(2, 40).unwrap();
        given_up.fill(&[0x99; 16]).unwrap();
        drop(given_up);
        assert_eq!(push_next(&mut writer), Ok(3));
        let mut long = writer.reserve(2, 40).unwrap();
        long.fill(&LONG[..16]).unwrap();
        long.fill(&LONG[16..]).unwrap();
        assert_eq!(long.commit(), Ok(4));
    });
    weaken(reader_weak);
    let taken = [(); 2].map(|()| look_far(&mut reader)).iter().filter(|got| **got).count();
    weaken(&[]);
    pushing.join().unwrap();
    while look_far(&mut reader) {}
    assert_eq!(reader.next().sequence, 5, "acknowledged and never delivered");
    format!("{taken} taken")
}

/// A wrap marker that was staged for a reservation is never followed once that is given up.
#[test]
fn a_reservation_round_the_end_of_the_ring() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("0 taken", "neither was there yet"),
        ("1 taken", "the long one was not committed yet, or the short one came late"),
        ("2 taken", "both were there"),
    ];
    explore(Depth::All, OUTCOMES, || round_the_ring(RING, LIGHT, LIGHT));
}

/// E1 for a reservation, the writer's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_release_of_a_reservation() {
    let unwatched = Wish { watched: false, ..RING };
    expect_violation(Depth::Switches(2), move || {
        round_the_ring(unwatched, &[Weak::LightFences, Weak::Releases], LIGHT)
    });
}

/// E1 for a reservation, the reader's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_acquire_of_a_reservation() {
    let unwatched = Wish { watched: false, ..RING };
    expect_violation(Depth::Switches(2), move || {
        round_the_ring(unwatched, LIGHT, &[Weak::LightFences, Weak::Acquires])
    });
}
