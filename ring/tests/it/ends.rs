//! What a reader does where a generation has ended and something is damaged besides: it says what is lost, never more than it can know.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringward_ring::cursor::{self, Mark};
use ringward_ring::layout::{CURSOR_AT, Geometry};
use ringward_ring::memory::Memory;
use ringward_ring::reader::{GapReason, Reader, RecvError, Taken};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::table::From;
use ringward_ring::word::{End, Kind, State};
use ringward_ring::writer::{PushError, Writer};

use crate::common::{Bed, spec};

/// Bytes that a record with a payload of 8 takes.
const SPAN: u64 = 32;

struct Scene {
    bed: Bed,
    writer: Writer<Arc<Segment>>,
    reader: Reader<Arc<Segment>>,
    /// Whoever ends the generation.
    other: Arc<Segment>,
}

/// A reader that has taken nothing, and so many records.
fn scene(records: u64) -> Scene {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let reader = bed.reader("r", Kind::DURABLE, From::Latest);
    let other = bed.attach(Access::Successor);
    let mut scene = Scene { bed, writer, reader, other };
    for _ in 0..records {
        scene.push();
    }
    scene
}

impl Scene {
    fn push(&mut self) {
        let next = self.writer.published().sequence;
        assert_eq!(self.writer.try_push(0, &next.to_le_bytes()), Ok(next));
    }

    fn file(&self) -> std::fs::File {
        let path = self.bed.path.path().join("00000001.ring");
        std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    /// Zeros over the records `numbers`, of the first lap.
    fn damage(&self, numbers: std::ops::Range<u64>) {
        let at = Geometry { page: 4096, slots: 32, capacity: 4096 }.data_at() + numbers.start * SPAN;
        self.file().write_all_at(&vec![0; ((numbers.end - numbers.start) * SPAN) as usize], at).unwrap();
    }

    /// Zeros over the writer's cursor: nothing in it checks.
    fn damage_cursor(&self) {
        self.file().write_all_at(&[0; 56], CURSOR_AT as u64).unwrap();
    }

    fn end_at(&self, position: Option<u64>) {
        succession::fence_writer(&self.other, false).unwrap();
        let end = succession::decide_end(&self.other, position).unwrap();
        assert_eq!(end, position.map_or(End::Unknown, End::At));
    }

    fn take(&mut self) -> Result<Taken, RecvError> {
        self.reader.try_recv(&mut [0; 64])
    }

    fn takes(&mut self, sequence: u64) {
        let taken = self.take();
        assert!(matches!(taken, Ok(Taken::Record { sequence: got, .. }) if got == sequence), "{sequence}: {taken:?}");
    }

    /// A stray store takes this reader's place for one that has read everything: the writer goes on for `records`, and runs over it.
    fn run_over(&mut self, records: u64) {
        for _ in 0..records {
            let lie = self.writer.published();
            let slot = &self.other.slots()[self.reader.slot()];
            for checkpoint in &slot.cursor.checkpoints {
                checkpoint.position.store(lie.position, Ordering::Relaxed);
                checkpoint.sequence.store(lie.sequence, Ordering::Relaxed);
                checkpoint.check.store(cursor::check(lie, self.other.identity().segment), Ordering::Relaxed);
            }
            slot.cursor.position.store(lie.position, Ordering::Release);
            self.push();
        }
    }
}

fn gap(from: u64, count: u64, reason: GapReason) -> Result<Taken, RecvError> {
    Ok(Taken::Gap { from, count, reason })
}

/// The end says where, and nothing tells the number there: the next sound record tells its own.
#[test]
fn damage_in_front_of_an_end_without_a_number_costs_what_was_hit() {
    let mut scene = scene(5);
    scene.end_at(Some(5 * SPAN));
    scene.damage(1..3);
    scene.damage_cursor();
    scene.takes(0);
    assert_eq!(scene.take(), gap(1, 2, GapReason::Corrupt));
    scene.takes(3);
    scene.takes(4);
    let at = Mark { position: 5 * SPAN, sequence: 5 };
    assert_eq!(scene.take(), Ok(Taken::End { at, state: State::FENCING }));
}

/// The same, and no sound record is left: how many are lost nobody knows, and it is said.
#[test]
fn damage_up_to_an_end_without_a_number_is_an_unknown_loss() {
    let mut scene = scene(5);
    scene.end_at(Some(5 * SPAN));
    scene.damage(1..5);
    scene.damage_cursor();
    scene.takes(0);
    for _ in 0..2 {
        assert_eq!(scene.take(), Err(RecvError::UnknownEnd { next: 1 }));
    }
}

/// A reader that had seen the first lap, was run over, and finds an end laps ahead without a number.
#[test]
fn an_end_laps_ahead_without_a_number_is_an_unknown_loss() {
    let mut scene = scene(3);
    scene.takes(0);
    scene.run_over(400);
    let end = scene.writer.published().position;
    scene.end_at(Some(end));
    scene.damage_cursor();
    assert_eq!(scene.take(), Err(RecvError::UnknownEnd { next: 1 }));
}

/// The end that nobody can know is told where the first record is missing.
#[test]
fn damage_in_front_of_an_unknown_end_is_an_unknown_loss() {
    let mut scene = scene(3);
    scene.takes(0);
    scene.end_at(None);
    scene.takes(1);
    scene.damage(2..3);
    assert_eq!(scene.take(), Err(RecvError::UnknownEnd { next: 2 }));
}

/// It was run over in full sight of a sound cursor: the loss is exact, and the rest comes.
#[test]
fn an_end_laps_ahead_is_an_exact_loss() {
    let mut scene = scene(2);
    scene.takes(0);
    scene.takes(1);
    scene.run_over(300);
    let end = scene.writer.published();
    scene.end_at(Some(end.position));
    let Ok(Taken::Gap { from: 2, count, reason: GapReason::Overrun }) = scene.take() else { panic!("no gap") };
    let first = 2 + count;
    assert_eq!(first, end.sequence - 4096 / SPAN, "as much as the ring holds is still there");
    for sequence in first..end.sequence {
        scene.takes(sequence);
    }
    assert!(matches!(scene.take(), Ok(Taken::End { at, .. }) if at == end));
}

/// An end behind which this reader already is: only damage can do that. It keeps what it has, and nothing more comes.
#[test]
fn an_end_in_front_of_a_reader_is_where_it_stands() {
    let mut scene = scene(3);
    for sequence in 0..3 {
        scene.takes(sequence);
    }
    scene.end_at(Some(SPAN));
    let at = Mark { position: 3 * SPAN, sequence: 3 };
    for _ in 0..2 {
        assert_eq!(scene.take(), Ok(Taken::End { at, state: State::FENCING }));
    }
}

/// Record and cursor are damaged while the generation is open: nothing to go by, until the writer's next push.
#[test]
fn damage_without_a_cursor_is_told_when_the_writer_has_mended_it() {
    let mut scene = scene(3);
    scene.takes(0);
    scene.damage(1..2);
    scene.damage_cursor();
    assert_eq!(scene.take(), Ok(Taken::Empty));
    scene.push();
    assert_eq!(scene.take(), gap(1, 1, GapReason::Corrupt));
    scene.takes(2);
    scene.takes(3);
}

/// A reader that was expelled while it stands in front of a damaged record is told the one thing that matters.
#[test]
fn an_expelled_reader_at_a_damaged_record_is_told_that_it_was_expelled() {
    let mut scene = scene(3);
    scene.takes(0);
    scene.damage(1..2);
    succession::expel(&scene.other, scene.reader.slot());
    assert_eq!(scene.take(), Err(RecvError::Expelled { next: 1 }));
}

/// Whoever ends the generation of a living writer takes its end from what checks.
#[test]
fn the_end_of_a_damaged_cursor_is_its_higher_checkpoint_or_unknown() {
    let scene = scene(3);
    let end = Mark { position: 3 * SPAN, sequence: 3 };
    assert_eq!(succession::published_end(&scene.other), Some(end));
    let position = &scene.other.page().cursor.cursor.position;
    position.store(position.load(Ordering::Relaxed) ^ 1 << 20, Ordering::Relaxed);
    assert_eq!(succession::published_end(&scene.other), Some(end), "the position alone is damaged");
    scene.damage_cursor();
    assert_eq!(succession::published_end(&scene.other), None);
}

/// The number at an end is told by the records, if no checkpoint does, and only by sound ones.
#[test]
fn the_number_at_an_end_is_counted_or_not_known() {
    let mut scene = scene(3);
    scene.damage_cursor();
    for number in 0..=3 {
        assert_eq!(succession::sequence_at(&scene.other, number * SPAN), Some(number));
    }
    assert_eq!(succession::sequence_at(&scene.other, 4 * SPAN), None, "no record goes up to there");
    scene.damage(1..2);
    assert_eq!(succession::sequence_at(&scene.other, SPAN), Some(1));
    assert_eq!(succession::sequence_at(&scene.other, 3 * SPAN), None);
    scene.run_over(400);
    let end = scene.writer.published();
    assert_eq!(succession::sequence_at(&scene.other, end.position), Some(end.sequence), "a checkpoint says it");
    assert_eq!(succession::sequence_at(&scene.other, end.position + 4096 + SPAN), None, "more than a lap from any");
}

/// A writer that waits for room looks at the state, too.
#[test]
fn a_writer_that_waits_under_a_damaged_state_is_told() {
    let mut scene = scene(0);
    let full = loop {
        match scene.writer.try_push(0, &[0; 8]) {
            Ok(_) => {}
            Err(full) => break full,
        }
    };
    assert!(matches!(full, PushError::Full { slot: Some(0), .. }), "{full}");
    scene.other.page().succession.state.store(0x1234, Ordering::SeqCst);
    let damaged = PushError::Damaged { what: "the state word", found: 0x1234 };
    assert_eq!(scene.writer.push(0, &[0; 8], std::time::Duration::from_secs(60)), Err(damaged));
    assert_eq!(scene.writer.fate(), Err(damaged), "for good");
}
