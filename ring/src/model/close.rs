//! Close: a reader gets every record that was published before it, then learns of it, asleep or not.

use core::time::Duration;

use loom::thread;

use super::heap::{Heap, Look, Wish, drain, look, payload, push_next, wait_for};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Weak, weaken};
use crate::succession;
use crate::word::State;
use crate::writer::PushError;

const RING: Wish = Wish { records: 2, slots: 1, watched: true, blind: false };

/// What was seen of two records and the end.
fn told(seen: &[Look]) -> String {
    let taken = seen.iter().filter(|look| matches!(look, Look::Got(_))).count();
    let ended = seen.iter().any(|look| matches!(look, Look::End(_)));
    format!("{taken} taken{}", if ended { ", then the end" } else { "" })
}

/// Two records and the close; the reader looks three times meanwhile and does not wait.
fn close_against_looks(wish: Wish, writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(wish);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let closing = thread::spawn(move || {
        weaken(writer_weak);
        assert_eq!(push_next(&mut writer), Ok(0));
        assert_eq!(push_next(&mut writer), Ok(1));
        assert_eq!(writer.close(), Ok(()));
    });
    weaken(reader_weak);
    let seen = [(); 3].map(|()| look(&mut reader));
    weaken(&[]);
    for end in seen.iter().filter(|look| matches!(look, Look::End(_))) {
        assert_eq!(*end, Look::End(2), "closed with records left behind");
    }
    closing.join().unwrap();
    assert_eq!(drain(&mut reader), 2, "closed with records left behind");
    assert_eq!(look(&mut reader), Look::End(2));
    told(&seen)
}

/// Never "closed" in front of a record that was published before.
#[test]
fn close_against_a_reader_that_looks() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("0 taken", "nothing was there yet"),
        ("1 taken", "the second came late, or the first did"),
        ("2 taken", "the end was not decided yet"),
        ("2 taken, then the end", "all came before"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || close_against_looks(RING, &[], &[]));
}

/// The reader takes "closed" for "drained", without a look at where the end is.
#[test]
#[should_panic(expected = "closed with records left behind")]
fn with_closed_taken_for_drained() {
    expect_violation(Depth::Switches(3), || close_against_looks(RING, &[], &[Weak::ClosedIsDrained]));
}

/// The reader's end: it sees where the generation ended, and of what lies in front neither record nor checkpoint.
#[test]
#[should_panic(expected = "UnknownEnd")]
fn without_acquire_of_the_end() {
    let unwatched = Wish { watched: false, ..RING };
    expect_violation(Depth::Switches(3), move || close_against_looks(unwatched, &[], &[Weak::Acquires, Weak::Fences]));
}

/// One record, a batch that is given up, and the close. A reader waits for the end, asleep if need be.
fn close_against_sleep(writer_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let closing = thread::spawn(move || {
        weaken(writer_weak);
        assert_eq!(push_next(&mut writer), Ok(0));
        let mut batch = writer.batch();
        batch.push(1, &payload(9)).unwrap();
        drop(batch);
        assert_eq!(writer.close(), Ok(()));
        assert_eq!(push_next(&mut writer), Err(PushError::Fenced));
    });
    assert_eq!(wait_for(&mut reader), Look::Got(0), "closed with records left behind");
    assert_eq!(wait_for(&mut reader), Look::End(1));
    closing.join().unwrap();
    assert_eq!(succession::state(&heap), State::CLOSED);
    format!("slept {}", heap.slept().0)
}

/// The writer pushes and closes; a reader waits for the end, asleep if need be.
#[test]
fn close_against_a_reader() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("slept 0", "everything was there, or the bell moved"),
        ("slept 1", "it was woken by the push or by the close"),
        ("slept 2", "it was woken by the push and by the close"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || close_against_sleep(&[]));
}

/// Who closes turns the bell and wakes nobody.
#[test]
#[should_panic(expected = "deadlock")]
fn with_the_wake_up_forgotten() {
    expect_violation(Depth::Switches(3), || close_against_sleep(&[Weak::WakeForgotten]));
}

/// A writer that waits for room, and closes as soon as it has pushed: both sleep in turn.
#[test]
fn close_behind_a_full_ring() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("reader slept 0", "everything was there, or the bell moved"),
        ("reader slept 1", "it was woken by the last push or by the close"),
        ("reader slept 2", "it was woken by the last push and by the close"),
    ];
    explore(Depth::Switches(2), OUTCOMES, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        for sequence in 0..2 {
            assert_eq!(push_next(&mut writer), Ok(sequence));
        }
        let closing = thread::spawn(move || {
            assert_eq!(writer.push(1, &payload(2), Duration::MAX), Ok(2));
            assert_eq!(writer.close(), Ok(()));
        });
        for sequence in 0..3 {
            assert_eq!(wait_for(&mut reader), Look::Got(sequence), "closed with records left behind");
        }
        assert_eq!(wait_for(&mut reader), Look::End(3));
        closing.join().unwrap();
        format!("reader slept {}", heap.slept().0)
    });
}

/// Two readers wait for one close, and share the bell and its flag.
#[test]
fn one_close_wakes_two_readers() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("0 slept", "both saw the end, or the bell moving"),
        ("1 slept", "one was woken"),
        ("2 slept", "both were woken"),
    ];
    explore(Depth::Switches(2), OUTCOMES, || {
        let heap = Heap::new(Wish { slots: 2, ..RING });
        let mut first = heap.reader(0);
        let mut second = heap.reader(1);
        let mut writer = heap.writer();
        let reading = thread::spawn(move || assert_eq!(wait_for(&mut first), Look::End(0)));
        let closing = thread::spawn(move || assert_eq!(writer.close(), Ok(())));
        assert_eq!(wait_for(&mut second), Look::End(0));
        reading.join().unwrap();
        closing.join().unwrap();
        format!("{} slept", heap.slept().0)
    });
}
