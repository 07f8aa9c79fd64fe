//! E3 wake: nobody sleeps through what it waits for. Sleeps have no time-out here: a lost wake-up is a deadlock.

use core::time::Duration;

use loom::thread;

use super::heap::{Heap, Look, Wish, drain, look, payload, push_next, wait_for};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Weak, weaken};
use crate::memory::Memory;
use crate::{succession, wait};

const RING: Wish = Wish { records: 2, slots: 1, watched: true, blind: false };

const SLEPT: &[(&str, &str)] = &[
    ("slept", "it was woken"),
    ("awake", "what it waited for was there at its second look, or the bell had moved before it lay down"),
];

fn slept(count: u32) -> String {
    if count > 0 { "slept" } else { "awake" }.to_owned()
}

fn push_against_sleep(writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        assert_eq!(push_next(&mut writer), Ok(0));
    });
    weaken(reader_weak);
    assert_eq!(wait_for(&mut reader), Look::Got(0));
    weaken(&[]);
    pushing.join().unwrap();
    slept(heap.slept().0)
}

/// A reader that waits for data, against one push.
#[test]
fn data_wakes_the_reader() {
    explore(Depth::All, SLEPT, || push_against_sleep(&[], &[]));
}

/// E3 data, the waker's end.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wakers_fence_data() {
    expect_violation(Depth::All, || push_against_sleep(&[Weak::Fences], &[]));
}

/// E3 data, the sleeper's end.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_sleepers_fence_data() {
    expect_violation(Depth::All, || push_against_sleep(&[], &[Weak::Fences]));
}

fn release_against_sleep(writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(RING);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    for sequence in 0..2 {
        assert_eq!(push_next(&mut writer), Ok(sequence));
    }
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        assert_eq!(writer.push(1, &payload(2), Duration::MAX), Ok(2));
    });
    weaken(reader_weak);
    assert_eq!(look(&mut reader), Look::Got(0));
    weaken(&[]);
    pushing.join().unwrap();
    assert_eq!(drain(&mut reader), 3);
    slept(heap.slept().1)
}

/// A writer that waits for room, against one release.
#[test]
fn space_wakes_the_writer() {
    explore(Depth::All, SLEPT, || release_against_sleep(&[], &[]));
}

/// E3 space, the waker's end.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wakers_fence_space() {
    expect_violation(Depth::Switches(3), || release_against_sleep(&[], &[Weak::Fences]));
}

/// E3 space, the sleeper's end.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_sleepers_fence_space() {
    expect_violation(Depth::Switches(3), || release_against_sleep(&[Weak::Fences], &[]));
}

/// Two readers sleep on one bell and share its flag, which the waker clears.
#[test]
fn one_push_wakes_two_readers() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("0 slept", "both saw the record, or the bell moving"),
        ("1 slept", "one was woken"),
        ("2 slept", "both were woken"),
    ];
    explore(Depth::Switches(3), OUTCOMES, || {
        let heap = Heap::new(Wish { slots: 2, ..RING });
        let mut first = heap.reader(0);
        let mut second = heap.reader(1);
        let mut writer = heap.writer();
        let reading = thread::spawn(move || assert_eq!(wait_for(&mut first), Look::Got(0)));
        let pushing = thread::spawn(move || assert_eq!(push_next(&mut writer), Ok(0)));
        assert_eq!(wait_for(&mut second), Look::Got(0));
        reading.join().unwrap();
        pushing.join().unwrap();
        format!("{} slept", heap.slept().0)
    });
}

/// Two readers give space back at once: both ring one bell, and the writer needs both.
#[test]
fn two_releases_wake_one_writer() {
    explore(Depth::Switches(3), SLEPT, || {
        let heap = Heap::new(Wish { slots: 2, watched: false, ..RING });
        let mut first = heap.reader(0);
        let mut second = heap.reader(1);
        let mut writer = heap.writer();
        for sequence in 0..2 {
            assert_eq!(push_next(&mut writer), Ok(sequence));
        }
        let reading = thread::spawn(move || assert_eq!(look(&mut first), Look::Got(0)));
        let pushing = thread::spawn(move || assert_eq!(writer.push(1, &payload(2), Duration::MAX), Ok(2)));
        assert_eq!(look(&mut second), Look::Got(0));
        reading.join().unwrap();
        pushing.join().unwrap();
        slept(heap.slept().1)
    });
}

/// A reader that waits, while the writer pushes and a successor ends the generation: two ring the same bell.
#[test]
fn the_end_wakes_the_reader() {
    explore(Depth::Switches(2), SLEPT, || {
        let heap = Heap::new(RING);
        let mut reader = heap.reader(0);
        let mut writer = heap.writer();
        let ended = heap.clone();
        let pushing = thread::spawn(move || {
            let _ = push_next(&mut writer);
        });
        let superseding = thread::spawn(move || {
            succession::fence_writer(&ended, false).unwrap();
            let end = succession::published_end(&ended).map(|mark| mark.position);
            succession::decide_end(&ended, end).unwrap();
            succession::ring_all(&ended);
        });
        let mut next = 0;
        loop {
            match wait_for(&mut reader) {
                Look::Got(sequence) => next = sequence + 1,
                Look::End(at) => break assert_eq!(at, next),
                Look::Nothing => panic!("its time was not up"),
            }
        }
        pushing.join().unwrap();
        superseding.join().unwrap();
        slept(heap.slept().0)
    });
}

/// Two who change different things ring one bell at once, neither with a look at the flag.
#[test]
fn two_ringers_of_one_bell() {
    explore(Depth::Switches(3), SLEPT, || two_ringers(&[]));
}

fn two_ringers(ringers_weak: &'static [Weak]) -> String {
    let heap = Heap::new(Wish { slots: 2, ..RING });
    let leaving = [heap.reader(0), heap.reader(1)];
    let threads = leaving.map(|reader| {
        thread::spawn(move || {
            weaken(ringers_weak);
            drop(reader.done());
        })
    });
    // Waits until both have left, as a writer waits for room.
    let gone = || matches!(succession::drained(&heap), succession::Drained::Yes);
    while !gone() {
        let announced = wait::announce(&heap, &heap.head().space_bell, &heap.head().space_waiters);
        if !gone() {
            wait::sleep(&heap, &heap.head().space_bell, &announced, Duration::MAX);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    slept(heap.slept().1)
}

/// E3, two wakers: the later one leaves the word that the earlier one left.
#[test]
#[should_panic(expected = "deadlock")]
fn with_a_bell_turned_in_two_steps() {
    expect_violation(Depth::Switches(3), || two_ringers(&[Weak::TurnInTwoSteps]));
}
