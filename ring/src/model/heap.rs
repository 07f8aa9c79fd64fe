//! A segment's memory on the heap, made of loom's atomics, with a futex and locks that have no time-outs.

use core::time::Duration;
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};

use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::cursor::Mark;
use crate::layout::{
    ALIGN, Checkpoint, Cursor, CursorLine, DoorbellLine, HeartbeatLine, Slot, SuccessionLine, TableHead, WriterPage,
    max_record,
};
use crate::memory::{Data, Memory, Shape, Slept, Watched};
use crate::reader::{Reader, Taken};
use crate::word::{Checksum, EndWord, Kind, SegmentId, SlotState, State, SuccessorWord};
use crate::writer::Writer;

/// Bytes that a record with the models' payload of 8 bytes takes.
pub(super) const SPAN: u64 = ALIGN;

/// What is particular about a model's memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Wish {
    /// Records that the ring holds.
    pub(super) records: u64,
    /// Reader slots.
    pub(super) slots: usize,
    /// Report unordered accesses to the same bytes. Not for joiners, who look for a border in bytes that they then
    /// verify.
    pub(super) watched: bool,
    /// The writer thinks that nobody holds a byte.
    pub(super) blind: bool,
}

/// A segment on the heap.
#[derive(Clone)]
pub(super) struct Heap(Arc<Inner>);

struct Inner {
    shape: Shape,
    page: WriterPage,
    head: TableHead,
    slots: Vec<Slot>,
    words: Vec<AtomicU64>,
    watched: Vec<Watched>,
    blind: bool,
    bytes: Vec<AtomicU32>,
    data_bed: Bed,
    space_bed: Bed,
}

/// The queue of a futex word.
struct Bed {
    queue: Mutex<()>,
    woken: Condvar,
    /// Outside the model: how many really slept.
    slept: core::sync::atomic::AtomicU32,
}

impl Bed {
    fn new() -> Bed {
        Bed { queue: Mutex::new(()), woken: Condvar::new(), slept: core::sync::atomic::AtomicU32::new(0) }
    }
}

fn cursor() -> Cursor {
    let checkpoint =
        || Checkpoint { position: AtomicU64::new(0), sequence: AtomicU64::new(0), check: AtomicU64::new(0) };
    Cursor { position: AtomicU64::new(0), checkpoints: [checkpoint(), checkpoint()] }
}

fn slot() -> Slot {
    Slot {
        state: AtomicU32::new(SlotState::FREE.0),
        kind: AtomicU32::new(Kind::EPHEMERAL.0),
        cursor: cursor(),
        name: [0; 4].map(AtomicU64::new),
        pid: AtomicU32::new(0),
        pid_namespace: AtomicU32::new(0),
        start: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        check: AtomicU64::new(0),
    }
}

impl Heap {
    pub(super) fn new(wish: Wish) -> Heap {
        let capacity = wish.records * SPAN;
        let shape = Shape {
            segment: SegmentId::from_random(0x1234_5678_9abc_def0),
            capacity,
            record_limit: max_record(capacity),
            checksum: Checksum::FULL,
            first_sequence: 0,
            membarrier: true,
        };
        let page = WriterPage {
            succession: SuccessionLine {
                state: AtomicU32::new(State::OPEN.0),
                _pad: [0; 4],
                end: AtomicU64::new(EndWord::UNDECIDED.0),
                successor: AtomicU64::new(SuccessorWord::UNDECIDED.0),
                expelled: AtomicU64::new(0),
            },
            cursor: CursorLine { cursor: cursor(), limit: AtomicU64::new(0) },
            heartbeat: HeartbeatLine { beat: AtomicU64::new(0), time: AtomicU64::new(0), life: AtomicU32::new(0) },
            doorbell: DoorbellLine { bell: AtomicU32::new(1) },
        };
        let head = TableHead {
            data_waiters: AtomicU32::new(0),
            _pad: [0; 124],
            space_bell: AtomicU32::new(1),
            space_waiters: AtomicU32::new(0),
            _pad2: [0; 120],
        };
        let watched = if wish.watched { wish.records } else { 0 };
        Heap(Arc::new(Inner {
            shape,
            page,
            head,
            slots: (0..wish.slots).map(|_| slot()).collect(),
            words: (0..capacity / 8).map(|_| AtomicU64::new(0)).collect(),
            watched: (0..watched).map(|_| Watched::default()).collect(),
            blind: wish.blind,
            bytes: (0..wish.slots).map(|_| AtomicU32::new(0)).collect(),
            data_bed: Bed::new(),
            space_bed: Bed::new(),
        }))
    }

    /// The writer, which sleeps rather than spins.
    pub(super) fn writer(&self) -> Writer<Heap> {
        let mut writer = Writer::new(self.clone());
        writer.set_spin(0);
        writer
    }

    /// A reader that has been there from the start.
    pub(super) fn reader(&self, slot: usize) -> Reader<Heap> {
        assert!(self.lock(slot));
        self.0.slots[slot].state.store(SlotState::ACTIVE.0, Ordering::Release);
        self.resume(slot, Mark { position: 0, sequence: 0 })
    }

    /// A reader in a slot that says `at`.
    pub(super) fn resume(&self, slot: usize, at: Mark) -> Reader<Heap> {
        let mut reader = Reader::resume(self.clone(), slot, at, at.sequence, true);
        reader.set_spin(0);
        reader
    }

    /// Takes the byte of a slot. A kernel lock is never stale: always a read-modify-write.
    pub(super) fn lock(&self, slot: usize) -> bool {
        self.0.bytes[slot].compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Flips a bit of the first record's sequence number.
    pub(super) fn damage(&self) {
        let word = self.0.words[2].load(Ordering::Relaxed);
        self.0.words[2].store(word ^ 1 << 40, Ordering::Relaxed);
    }

    /// Stores something else where the first record's payload is. Without a look at what is there: loom would take that for the last
    /// access before the store, and not try the store in front of others'.
    pub(super) fn scribble(&self) {
        self.0.words[3].store(0x5a5a_5a5a_5a5a_5a5a, Ordering::Relaxed);
    }

    pub(super) fn unlock(&self, slot: usize) {
        self.0.bytes[slot].swap(0, Ordering::AcqRel);
    }

    /// How often somebody slept on the data bell, and on the space bell.
    pub(super) fn slept(&self) -> (u32, u32) {
        let count = |bed: &Bed| bed.slept.load(Ordering::Relaxed);
        (count(&self.0.data_bed), count(&self.0.space_bed))
    }

    fn bed(&self, bell: &AtomicU32) -> &Bed {
        if core::ptr::eq(bell, &self.0.page.doorbell.bell) { &self.0.data_bed } else { &self.0.space_bed }
    }
}

impl Memory for Heap {
    fn shape(&self) -> Shape {
        self.0.shape
    }

    fn page(&self) -> &WriterPage {
        &self.0.page
    }

    fn head(&self) -> &TableHead {
        &self.0.head
    }

    fn slots(&self) -> &[Slot] {
        &self.0.slots
    }

    fn data(&self) -> Data<'_> {
        Data::of(&self.0.words, &self.0.watched)
    }

    fn poisoned(&self) -> bool {
        false
    }

    fn reader_lives(&self, slot: usize) -> bool {
        !self.0.blind && self.0.bytes[slot].fetch_or(0, Ordering::AcqRel) != 0
    }

    fn with_dead_slot(&self, slot: usize, free: &mut dyn FnMut()) -> bool {
        if !self.lock(slot) {
            return false;
        }
        free();
        self.unlock(slot);
        true
    }

    fn heavy_fence(&self) -> bool {
        fence(Ordering::SeqCst);
        true
    }

    /// FUTEX_WAIT without a time-out: whoever misses its wake-up sleeps for ever, which loom reports as a deadlock.
    fn sleep(&self, bell: &AtomicU32, seen: u32, _limit: Duration) -> Slept {
        let bed = self.bed(bell);
        let queue = bed.queue.lock().unwrap();
        if bell.load(Ordering::Relaxed) == seen {
            bed.slept.fetch_add(1, Ordering::Relaxed);
            drop(bed.woken.wait(queue).unwrap());
        }
        Slept::Look
    }

    fn wake(&self, bell: &AtomicU32) {
        let bed = self.bed(bell);
        let queue = bed.queue.lock().unwrap();
        bed.woken.notify_all();
        drop(queue);
    }
}

/// The payload of the record with this sequence number.
pub(super) fn payload(sequence: u64) -> [u8; 8] {
    (sequence + 1).wrapping_mul(0x0101_0101_0101_0101).to_le_bytes()
}

/// Pushes the record that comes next.
pub(super) fn push_next(writer: &mut Writer<Heap>) -> Result<u64, crate::writer::PushError> {
    let next = writer.published().sequence;
    writer.try_push(1, &payload(next))
}

/// What a look of the reader came to, with everything checked that must hold of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Got(u64),
    Nothing,
    End(u64),
}

/// Checks a record that was handed out: whole, and the one that comes next.
pub(super) fn checked(taken: Taken, next: u64, buf: &[u8]) -> Look {
    match taken {
        Taken::Record { sequence, record_type: 1, len: 8, redelivered: false } => {
            assert_eq!(sequence, next, "out of order");
            assert_eq!(buf, payload(sequence), "not whole");
            Look::Got(sequence)
        }
        Taken::Empty => Look::Nothing,
        Taken::End { at, .. } => Look::End(at.sequence),
        other => panic!("a record that is not there: {other:?}"),
    }
}

/// One look, and the space given back.
pub(super) fn look(reader: &mut Reader<Heap>) -> Look {
    let mut buf = [0; 8];
    let next = reader.next().sequence;
    let taken = reader.try_recv(&mut buf).unwrap();
    let look = checked(taken, next, &buf);
    reader.release();
    look
}

/// One look that waits for ever, and the space given back.
pub(super) fn wait_for(reader: &mut Reader<Heap>) -> Look {
    let mut buf = [0; 8];
    let next = reader.next().sequence;
    let taken = reader.recv(&mut buf, Duration::MAX).unwrap();
    let look = checked(taken, next, &buf);
    reader.release();
    look
}

/// Takes everything that is there; the sequence number that would come next.
pub(super) fn drain(reader: &mut Reader<Heap>) -> u64 {
    while let Look::Got(_) = look(reader) {}
    reader.next().sequence
}
