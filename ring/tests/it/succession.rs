//! How a generation is ended and who still needs it, asked of one segment: each word decided once, each slot counted for what
//! its state and its lock say.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringward_ring::build::{Place, Prepared};
use ringward_ring::cursor::{Mark, check};
use ringward_ring::layout::{Slot, TableHead, WriterPage};
use ringward_ring::memory::{Data, Memory, Shape, Slept};
use ringward_ring::segment::Segment;
use ringward_ring::succession::{self, Drained};
use ringward_ring::table::{self, Carried, From};
use ringward_ring::word::{BadWord, End, EndWord, Kind, SegmentId, SlotState, State, Successor, SuccessorWord};
use ringward_ring::writer::Writer;

use crate::common::{Bed, card, spec};
use crate::golden;

fn set_state(segment: &Arc<Segment>, slot: usize, state: SlotState) {
    segment.slots()[slot].state.store(state.0, Ordering::SeqCst);
}

/// Stores marks with their checks into the writer's checkpoints.
fn checkpoints(segment: &Arc<Segment>, marks: [Mark; 2]) {
    for (slot, mark) in segment.page().cursor.cursor.checkpoints.iter().zip(marks) {
        let store = |word: &AtomicU64, value| word.store(value, Ordering::SeqCst);
        store(&slot.position, mark.position);
        store(&slot.sequence, mark.sequence);
        store(&slot.check, check(mark, segment.identity().segment));
    }
}

#[test]
fn the_end_is_decided_once() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = writer.memory();
    assert_eq!(succession::end(segment), Ok(End::Undecided));
    assert_eq!(succession::decide_end(segment, Some(64)), Ok(End::At(64)));
    assert_eq!(succession::decide_end(segment, Some(96)), Ok(End::At(64)));
    assert_eq!(succession::decide_end(segment, None), Ok(End::At(64)));
    assert_eq!(succession::end(segment), Ok(End::At(64)));
    // A damaged word is nobody's decision.
    let word = &segment.page().succession.end;
    word.fetch_xor(1 << 20, Ordering::SeqCst);
    assert_eq!(succession::end(segment), Err(BadWord(word.load(Ordering::SeqCst))));
    assert_eq!(succession::decide_end(segment, None), Ok(End::Unknown));
    assert_eq!(succession::decide_end(segment, Some(96)), Ok(End::Unknown));
    assert_eq!(word.load(Ordering::SeqCst), EndWord::UNKNOWN.0);
}

#[test]
fn the_successor_is_decided_once() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = writer.memory();
    let [one, two] = [1 << 20, 2 << 20].map(SegmentId::from_random);
    assert_eq!(succession::successor(segment), Ok(Successor::Undecided));
    assert_eq!(succession::decide_successor(segment, one), Ok(Successor::Segment(one)));
    assert_eq!(succession::decide_successor(segment, two), Ok(Successor::Segment(one)));
    assert_eq!(succession::successor(segment), Ok(Successor::Segment(one)));
    let word = &segment.page().succession.successor;
    word.store(one.0 ^ 1, Ordering::SeqCst);
    assert_eq!(succession::decide_successor(segment, two), Ok(Successor::Segment(two)));
    word.store(SuccessorWord::NOBODY.0, Ordering::SeqCst);
    assert_eq!(succession::decide_successor(segment, one), Ok(Successor::Nobody));
}

#[test]
fn fencing_ends_what_is_open_or_says_nothing_and_leaves_the_rest() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = writer.memory();
    for (before, after) in [
        (State::OPEN, State::FENCING),
        (State::FENCING, State::FENCING),
        (State(7), State::FENCING),
        (State::CLOSED, State::CLOSED),
        (State::SUCCEEDED, State::SUCCEEDED),
        (State::CANDIDATE, State::CANDIDATE),
    ] {
        for proved_dead in [true, false] {
            segment.page().succession.state.store(before.0, Ordering::SeqCst);
            assert_eq!(succession::fence_writer(segment, proved_dead), Ok(before));
            assert_eq!(succession::state(segment), after);
        }
    }
    assert_eq!(succession::shift_state(segment, State::OPEN, State::CLOSED), State::CANDIDATE);
    assert_eq!(succession::state(segment), State::CANDIDATE);
}

#[test]
fn a_dead_writers_records_end_at_its_higher_checkpoint_a_living_ones_at_its_position() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    for _ in 0..3 {
        writer.try_push(0, &[1; 8]).unwrap();
    }
    let segment = Arc::clone(writer.memory());
    let (lower, higher) = (Mark { position: 64, sequence: 2 }, Mark { position: 96, sequence: 3 });
    for marks in [[lower, higher], [higher, lower]] {
        checkpoints(&segment, marks);
        let position = &segment.page().cursor.cursor.position;
        for at in [lower, higher] {
            position.store(at.position, Ordering::SeqCst);
            assert_eq!(succession::published_end(&segment), Some(at));
            assert_eq!(succession::written_end(&segment), Some(higher));
        }
        position.store(96 ^ 1 << 30, Ordering::SeqCst);
        assert_eq!(succession::published_end(&segment), Some(higher));
        assert_eq!(succession::written_end(&segment), Some(higher));
    }
    // With one of them damaged the other is all there is.
    let cursor = &segment.page().cursor.cursor;
    for damaged in [0, 1] {
        checkpoints(&segment, [higher, higher]);
        cursor.checkpoints[damaged].check.fetch_xor(1, Ordering::SeqCst);
        assert_eq!(succession::written_end(&segment), Some(higher));
    }
    cursor.checkpoints[0].check.fetch_xor(1, Ordering::SeqCst);
    assert_eq!((succession::published_end(&segment), succession::written_end(&segment)), (None, None));
}

/// Records of these lengths, and where each of them ends.
fn filled(bed: &Bed, lens: &[usize]) -> (Writer<Arc<Segment>>, Vec<u64>) {
    let mut writer = bed.writer(&spec(4096));
    let borders = lens.iter().map(|len| {
        writer.try_push(1, &vec![7; *len]).unwrap();
        writer.published().position
    });
    let borders = borders.collect();
    (writer, borders)
}

#[test]
fn the_number_at_an_end_is_counted_from_the_nearest_checkpoint_in_front_of_it() {
    let bed = Bed::new();
    let (writer, borders) = filled(&bed, &[0, 40, 8, 300, 100, 1]);
    let segment = writer.memory();
    for (number, border) in (1..).zip(&borders) {
        assert_eq!(succession::sequence_at(segment, *border), Some(number), "at {border}");
    }
    assert_eq!(succession::sequence_at(segment, 0), Some(0));
    for at in [borders[2] + 32, borders[3] - 32, borders[5] + 32] {
        assert_eq!(succession::sequence_at(segment, at), None, "{at} is inside a record or behind all of them");
    }
    // Damage in front of the nearest checkpoint costs nothing, behind it nobody can count.
    let file = std::fs::OpenOptions::new().write(true).open(bed.path.path().join("00000001.ring")).unwrap();
    let data = segment.identity().geometry.data_at();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], data + borders[1] + 24).unwrap();
    assert_eq!(succession::sequence_at(segment, borders[1]), Some(2));
    assert_eq!(succession::sequence_at(segment, borders[2]), None);
    assert_eq!(succession::sequence_at(segment, borders[3]), None);
    assert_eq!(succession::sequence_at(segment, borders[4]), Some(5), "a checkpoint's");
    assert_eq!(succession::sequence_at(segment, borders[5]), Some(6), "the published one");
    checkpoints(segment, [Mark { position: borders[2], sequence: 3 }, Mark { position: borders[0], sequence: 1 }]);
    assert_eq!(succession::sequence_at(segment, borders[3]), Some(4));
    checkpoints(segment, [Mark { position: borders[0], sequence: 1 }, Mark { position: borders[2], sequence: 3 }]);
    assert_eq!(succession::sequence_at(segment, borders[3]), Some(4));
}

/// Nobody counts over a record that checks, but not under the number that it should have.
#[test]
fn an_end_behind_a_record_of_another_number_has_none() {
    let bed = Bed::new();
    let (writer, _) = filled(&bed, &[8; 5]);
    let segment = writer.memory();
    assert_eq!(succession::sequence_at(segment, 96), Some(3));
    let other = golden::record(segment.identity().segment.0, 32, golden::DATA_KIND, 1, 5, 8, &[7; 8]);
    let file = std::fs::OpenOptions::new().write(true).open(bed.path.path().join("00000001.ring")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &other, segment.identity().geometry.data_at() + 32).unwrap();
    assert_eq!(succession::sequence_at(segment, 96), None);
    assert_eq!(succession::sequence_at(segment, 32), Some(1));
}

#[test]
fn an_end_of_which_no_checkpoint_is_in_reach_has_no_number() {
    let bed = Bed::new();
    let (mut writer, _) = filled(&bed, &[100; 32]);
    assert_eq!(writer.published().position, 4096);
    let segment = Arc::clone(writer.memory());
    let nothing = [Mark { position: 32, sequence: u64::MAX }; 2];
    checkpoints(&segment, nothing);
    // The first lap can be counted from its start, as long as it is there.
    assert_eq!(succession::sequence_at(&segment, 4096), Some(32));
    writer.try_push(1, &[1; 100]).unwrap();
    checkpoints(&segment, nothing);
    assert_eq!(succession::sequence_at(&segment, 4096 + 128), None);
    assert_eq!(succession::sequence_at(&segment, 4096), None);
    // A checkpoint at the very far side is in reach.
    checkpoints(&segment, [Mark { position: 128, sequence: 1 }; 2]);
    assert_eq!(succession::sequence_at(&segment, 4096 + 128), Some(33));
}

#[test]
fn who_still_needs_a_generation_is_said_by_state_kind_and_lock() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = Arc::clone(writer.memory());
    assert_eq!(succession::drained(&segment), Drained::Yes);
    let needed = |state: SlotState, slot: usize| {
        set_state(&segment, slot, state);
        match succession::drained(&segment) {
            Drained::Yes => false,
            Drained::No { slot: found } => {
                assert_eq!(found, slot);
                true
            }
        }
    };
    let states =
        [SlotState::FREE, SlotState::DONE, SlotState::PROVISIONAL, SlotState::ACTIVE, SlotState::CARRIED, SlotState(7)];
    let living = bed.reader("tail", Kind::EPHEMERAL, From::Latest);
    assert_eq!(states.map(|state| needed(state, 0)), [false, false, true, true, true, true]);
    drop(living.abandon());
    assert_eq!(states.map(|state| needed(state, 0)), [false; 6], "a dead ephemeral reader's");
    set_state(&segment, 0, SlotState::FREE);
    drop(bed.reader("audit", Kind::DURABLE, From::Latest).abandon());
    assert_eq!(
        states.map(|state| needed(state, 0)),
        [false, false, false, true, true, true],
        "an absent durable one's"
    );
    // A card that does not check cannot be claimed by anybody who is away.
    segment.slots()[0].check.fetch_xor(1, Ordering::SeqCst);
    assert_eq!(states.map(|state| needed(state, 0)), [false; 6]);
    segment.slots()[0].check.fetch_xor(1, Ordering::SeqCst);
    assert!(needed(SlotState::ACTIVE, 0));
    succession::expel(&segment, 0);
    assert_eq!(segment.page().succession.expelled.load(Ordering::SeqCst), 1);
    assert!(!needed(SlotState::ACTIVE, 0));
    succession::expel(&segment, 5);
    assert_eq!(segment.page().succession.expelled.load(Ordering::SeqCst), 0b10_0001);
}

#[test]
fn a_successor_carries_over_who_may_still_come() {
    let bed = Bed::new();
    let mut writer = bed.writer(&spec(4096));
    let segment = Arc::clone(writer.memory());
    writer.try_push(0, b"one").unwrap();
    let living = bed.reader("tail", Kind::EPHEMERAL, From::Latest);
    let place = |slot, name, kind, next| Carried { slot, card: card(name, kind), next };
    let tail = place(0, "tail", Kind::EPHEMERAL, 1);
    let carried = |state: SlotState, slot: usize| {
        set_state(&segment, slot, state);
        table::to_carry(&segment)
    };
    for state in [SlotState::PROVISIONAL, SlotState::ACTIVE, SlotState::CARRIED] {
        assert_eq!(carried(state, 0), (vec![tail], 0), "{state}");
    }
    assert_eq!(carried(SlotState(7), 0), (vec![tail], 0), "whoever lives in it says whose it is");
    for state in [SlotState::FREE, SlotState::DONE] {
        assert_eq!(carried(state, 0), (vec![], 0), "{state}");
    }
    set_state(&segment, 0, SlotState::ACTIVE);
    drop(living.abandon());
    assert_eq!(table::to_carry(&segment), (vec![], 0), "a dead ephemeral reader");
    assert_eq!(carried(SlotState::PROVISIONAL, 0), (vec![], 0), "one that died while it joined");
    assert_eq!(carried(SlotState(7), 0), (vec![tail], 0), "its state is damaged, so that nobody knows");
    set_state(&segment, 0, SlotState::FREE);

    drop(bed.reader("audit", Kind::DURABLE, From::Latest).abandon());
    let slot = &segment.slots()[0];
    assert_eq!(carried(SlotState::ACTIVE, 0), (vec![place(0, "audit", Kind::DURABLE, 1)], 0));
    // One that was carried over itself says what came next for it by what it has taken.
    slot.taken.store(0, Ordering::SeqCst);
    assert_eq!(carried(SlotState::CARRIED, 0), (vec![place(0, "audit", Kind::DURABLE, 0)], 0));
    assert_eq!(carried(SlotState::ACTIVE, 0), (vec![place(0, "audit", Kind::DURABLE, 1)], 0));
    // Without a cursor that checks it is the first number that there can be.
    for checkpoint in &slot.cursor.checkpoints {
        checkpoint.check.store(0, Ordering::SeqCst);
    }
    assert_eq!(table::to_carry(&segment), (vec![place(0, "audit", Kind::DURABLE, 0)], 0));
    // A card that does not check is lost, and counted.
    slot.check.fetch_xor(1, Ordering::SeqCst);
    assert_eq!(table::to_carry(&segment), (vec![], 1));
    set_state(&segment, 3, SlotState(9));
    assert_eq!(table::to_carry(&segment), (vec![], 2), "and a place of which nothing at all can be read");
    for expelled in [0, 3] {
        succession::expel(&segment, expelled);
    }
    assert_eq!(table::to_carry(&segment), (vec![], 0), "nobody carries an expelled one");
}

#[test]
fn a_place_given_up_behind_the_copiers_back_is_freed_in_the_copy() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let old = Arc::clone(writer.memory());
    for name in ["gone", "stays"] {
        let reader = bed.reader(name, Kind::DURABLE, From::Latest);
        drop(reader.abandon());
    }
    let (carried, 0) = table::to_carry(&old) else { panic!("damaged") };
    assert_eq!(carried.len(), 2);
    let mut prepared = Prepared::build(bed.dir.as_fd(), &spec(4096), 1 << 40).unwrap();
    let place =
        Place { channel: 7, generation: 2, first_sequence: 0, predecessor: None, created: 0, lost_places: false };
    prepared.finish(&place, &carried, State::CANDIDATE);
    let next = Arc::new(prepared.link(bed.dir.as_fd(), "00000002.ring").map_err(|(why, _)| why).unwrap());
    let states = || [0, 1, 2].map(|slot| SlotState(next.slots()[slot].state.load(Ordering::SeqCst)));
    assert_eq!(states(), [SlotState::CARRIED, SlotState::CARRIED, SlotState::FREE]);
    table::drop_given_up(&old, &next);
    assert_eq!(states(), [SlotState::CARRIED, SlotState::CARRIED, SlotState::FREE], "nobody has given anything up");
    set_state(&old, 0, SlotState::FREE);
    table::drop_given_up(&old, &next);
    assert_eq!(states(), [SlotState::FREE, SlotState::CARRIED, SlotState::FREE]);
    // Who has come over already is not sent away.
    set_state(&next, 0, SlotState::ACTIVE);
    table::drop_given_up(&old, &next);
    assert_eq!(states(), [SlotState::ACTIVE, SlotState::CARRIED, SlotState::FREE]);
}

#[test]
fn a_damaged_kind_alone_makes_no_durable_reader_ephemeral() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    drop(bed.reader("audit", Kind::DURABLE, From::Latest).abandon());
    let slot = &writer.memory().slots()[0];
    for (kind, durable) in [(Kind::DURABLE, true), (Kind(7), true), (Kind(0), true), (Kind::EPHEMERAL, false)] {
        slot.kind.store(kind.0, Ordering::SeqCst);
        assert_eq!(table::is_durable(slot), durable, "{kind}");
        let read = table::read_slot(slot, writer.memory().identity().segment);
        assert_eq!(read.card, Some(card("audit", Kind::DURABLE)), "the check knows which kind it was");
    }
}

/// A segment whose barrier works or not, and which notes the state of the generation at each call of it.
struct Barrier {
    segment: Arc<Segment>,
    membarrier: bool,
    works: bool,
    called: Mutex<Vec<State>>,
}

impl Memory for Barrier {
    fn shape(&self) -> Shape {
        Shape { membarrier: self.membarrier, ..self.segment.shape() }
    }
    fn heavy_fence(&self) -> bool {
        self.called.lock().unwrap().push(succession::state(&self.segment));
        self.works
    }
    fn page(&self) -> &WriterPage {
        self.segment.page()
    }
    fn head(&self) -> &TableHead {
        self.segment.head()
    }
    fn slots(&self) -> &[Slot] {
        self.segment.slots()
    }
    fn data(&self) -> Data<'_> {
        self.segment.data()
    }
    fn poisoned(&self) -> bool {
        self.segment.poisoned()
    }
    fn reader_lives(&self, slot: usize) -> bool {
        self.segment.reader_lives(slot)
    }
    fn with_dead_slot(&self, slot: usize, free: &mut dyn FnMut()) -> bool {
        self.segment.with_dead_slot(slot, free)
    }
    fn sleep(&self, bell: &AtomicU32, seen: u32, limit: Duration) -> Slept {
        self.segment.sleep(bell, seen, limit)
    }
    fn wake(&self, bell: &AtomicU32) {
        self.segment.wake(bell);
    }
}

/// Asked before anything is touched, so that a living writer keeps its generation; issued again behind the state.
#[test]
fn a_living_writer_is_fenced_only_with_the_barrier_that_it_relies_on() {
    let (no_barrier, open) = (Err(succession::FenceError::NoBarrier), Ok(State::OPEN));
    for (membarrier, works, proved_dead, fenced, called) in [
        (true, true, false, open, vec![State::OPEN, State::FENCING]),
        (true, false, false, no_barrier, vec![State::OPEN]),
        (true, false, true, open, vec![]),
        (false, false, false, open, vec![]),
        (false, false, true, open, vec![]),
    ] {
        let bed = Bed::new();
        let writer = bed.writer(&spec(4096));
        let segment = Arc::clone(writer.memory());
        let memory = Barrier { segment, membarrier, works, called: Mutex::default() };
        assert_eq!(succession::fence_writer(&memory, proved_dead), fenced);
        assert_eq!(*memory.called.lock().unwrap(), called, "{membarrier} {works} {proved_dead}");
        let after = if fenced.is_ok() { State::FENCING } else { State::OPEN };
        assert_eq!(succession::state(&memory), after);
    }
}

#[test]
fn of_two_absent_readers_each_must_be_expelled() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = writer.memory();
    let readers = ["a", "b", "c"].map(|name| bed.reader(name, Kind::DURABLE, From::Latest));
    for reader in readers {
        drop(reader.abandon());
    }
    for (slot, left) in [(1, Drained::No { slot: 0 }), (0, Drained::No { slot: 2 }), (2, Drained::Yes)] {
        succession::expel(segment, slot);
        assert_eq!(succession::drained(segment), left);
    }
}

/// Whoever sleeps on a bell sleeps on until it holds another number.
#[test]
fn who_sleeps_is_woken_when_a_generation_ends_and_when_there_is_room() {
    let bed = Bed::new();
    let writer = bed.writer(&spec(4096));
    let segment = writer.memory();
    let (page, head) = (segment.page(), segment.head());
    type Ring = fn(&Arc<Segment>);
    for (ring, rung) in [
        (succession::ring_all as Ring, [true, true]),
        (succession::ring_space, [false, true]),
        // The expelled one may be asleep itself.
        (|segment| succession::expel(segment, 0), [true, true]),
    ] {
        let bells = || [&page.doorbell.bell, &head.space_bell].map(|bell| bell.load(Ordering::SeqCst));
        let waiters = [&head.data_waiters, &head.space_waiters];
        for waiting in waiters {
            waiting.store(1, Ordering::SeqCst);
        }
        let before = bells();
        ring(segment);
        let after = bells();
        assert_eq!([0, 1].map(|i| after[i] != before[i]), rung);
        assert_eq!(waiters.map(|waiters| waiters.load(Ordering::SeqCst) == 0), rung, "cleared by who woke them");
    }
}
