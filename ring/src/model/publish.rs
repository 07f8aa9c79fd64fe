//! E1 publish and E2 release: a ring of two records.

use loom::thread;

use super::heap::{Heap, Look, Wish, drain, look, push_next};
use super::{Depth, expect_violation, explore};
use crate::atomic::{Weak, weaken};
use crate::writer::PushError;

const RING: Wish = Wish { records: 2, slots: 1, watched: true, blind: false };

/// Nobody sleeps here and nobody ends anything, so nobody issues the heavy half: the light one is nothing.
const LIGHT: &[Weak] = &[Weak::LightFences];

/// One writer pushes until it is full, at most three records; one reader looks twice, then at all that is left.
fn three_through_two(wish: Wish, writer_weak: &'static [Weak], reader_weak: &'static [Weak]) -> String {
    let heap = Heap::new(wish);
    let mut reader = heap.reader(0);
    let mut writer = heap.writer();
    let pushing = thread::spawn(move || {
        weaken(writer_weak);
        for sequence in 0..3 {
            match push_next(&mut writer) {
                Ok(done) => assert_eq!(done, sequence),
                Err(PushError::Full { slot: Some(0), behind: 64, capacity: 64 }) => return sequence,
                Err(other) => panic!("{other}"),
            }
        }
        3
    });
    weaken(reader_weak);
    let meanwhile = [look(&mut reader), look(&mut reader)].iter().filter(|l| matches!(l, Look::Got(_))).count();
    weaken(&[]);
    let pushed = pushing.join().unwrap();
    assert_eq!(drain(&mut reader), pushed, "acknowledged and never delivered");
    format!("{pushed} pushed, {meanwhile} taken meanwhile")
}

/// In order, whole, once; space is not used again before it is released.
#[test]
fn publish_and_release() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("2 pushed, 0 taken meanwhile", "the reader looked before anything was there; both wait for it"),
        ("2 pushed, 1 taken meanwhile", "released too late for the third"),
        ("2 pushed, 2 taken meanwhile", "released too late for the third"),
        ("3 pushed, 1 taken meanwhile", "the third went where the first had been"),
        ("3 pushed, 2 taken meanwhile", "the third went where the first had been"),
    ];
    explore(Depth::All, OUTCOMES, || three_through_two(RING, LIGHT, LIGHT));
}

/// E1, the writer's end: the position runs ahead of the record.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_release_at_publish() {
    let unwatched = Wish { watched: false, ..RING };
    expect_violation(Depth::Switches(2), move || {
        three_through_two(unwatched, &[Weak::LightFences, Weak::Releases], LIGHT)
    });
}

/// E1, the reader's end.
#[test]
#[should_panic(expected = "a record that is not there")]
fn without_acquire_at_receive() {
    let unwatched = Wish { watched: false, ..RING };
    expect_violation(Depth::Switches(2), move || {
        three_through_two(unwatched, LIGHT, &[Weak::LightFences, Weak::Acquires])
    });
}

/// E2, the reader's end: the writer is told that the space is free while the reader may still be copying.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_at_release() {
    expect_violation(Depth::All, || three_through_two(RING, LIGHT, &[Weak::LightFences, Weak::Releases]));
}

/// E2, the writer's end. Its acquire is backed by the full fence of the slow path that it is on anyway: red only
/// without both.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_of_the_table() {
    expect_violation(Depth::All, || three_through_two(RING, &[Weak::Fences, Weak::Acquires], LIGHT));
}
