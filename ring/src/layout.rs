//! The layout of a segment, version 1.0: the only description of it in the code.
//!
//! A segment is one file: a writer page, the reader table, the data. All numbers are little-endian. `docs/FORMAT.md` is
//! the same in words and is held against this file by a test.
//!
//! ```text
//! 0                    page                 page + table                  page + table + capacity
//! | identity | lines … | head | slot 0 … n  | data: a ring of bytes       |
//!   writer page          reader table         capacity, a power of two
//! ```
//!
//! The structs below are never built on a real segment: they are laid over its mapping, and every field that another
//! process may change meanwhile is an atomic.

use crate::atomic::{AtomicU32, AtomicU64};
#[cfg(not(feature = "loom"))]
use core::mem::{align_of, offset_of, size_of};

/// First eight bytes of every segment.
pub const MAGIC: [u8; 8] = *b"RINGWARD";
/// Layout major version: another major is refused.
pub const MAJOR: u16 = 1;
/// Layout minor version: a newer minor of the same major is read, what it adds is ignored.
pub const MINOR: u16 = 0;
/// Bytes that the identity block takes at the start of the writer page, its checksum in the last four.
pub const IDENTITY_LEN: usize = 256;
/// Smallest page unit, in bytes. The unit of a segment is the page size of the machine that made it, if larger.
pub const MIN_PAGE: u32 = 4096;
/// Largest page unit, in bytes.
pub const MAX_PAGE: u32 = 65536;
/// Bytes of a reader's slot.
pub const SLOT_LEN: usize = 128;
/// Bytes of the head of the reader table, in front of slot 0.
pub const TABLE_HEAD_LEN: usize = 256;
/// Most reader slots that a segment can have (the expelled word has a bit for each).
pub const MAX_SLOTS: u32 = 64;
/// Reader slots unless told otherwise.
pub const DEFAULT_SLOTS: u32 = 32;
/// Smallest capacity, in bytes.
pub const MIN_CAPACITY: u64 = 4096;
/// Largest capacity, in bytes (64 GiB).
pub const MAX_CAPACITY: u64 = 1 << 36;
/// Positions are multiples of this many bytes; so are the records' borders.
pub const ALIGN: u64 = 32;
/// Bytes of a record's header, in front of its payload.
pub const RECORD_HEADER: u64 = 24;
/// Positions stay below this; a writer that comes near it succeeds itself with a new generation (2⁵² bytes = 4 PiB).
pub const MAX_POSITION: u64 = 1 << 52;

/// Sequence numbers stay below this (2⁶³): forged ones can't make sums overflow.
pub const MAX_SEQUENCE: u64 = 1 << 63;

/// Byte of the segment's inode whose exclusive lock says "the writer lives".
pub const WRITER_BYTE: u64 = 0;
/// Byte of the segment's inode whose exclusive lock says "the reader in slot 0 lives"; slot `i` has this plus `i`.
pub const READER_BYTE: u64 = 1;
/// Byte of the segment's inode that standbys and starters hold shared, and the watchdog exclusively.
pub const PRESENCE_BYTE: u64 = 128;

/// Offset of the succession line in the writer page.
pub const SUCCESSION_AT: usize = 256;
/// Offset of the writer's cursor line in the writer page.
pub const CURSOR_AT: usize = 384;
/// Offset of the heartbeat line in the writer page.
pub const HEARTBEAT_AT: usize = 512;
/// Offset of the data doorbell's line in the writer page.
pub const DOORBELL_AT: usize = 640;

/// Where somebody stands: a position, published last, and two checkpoints written in turn before it.
///
/// ```text
/// 0        8        16       24       32       40       48       56
/// | position | A.position | A.sequence | A.check | B.position | B.sequence | B.check |
/// ```
///
/// Whoever finds `position` finds the checkpoint of the same position too, at every instruction boundary of its owner:
/// see [`crate::cursor`].
#[repr(C)]
#[derive(Debug)]
pub struct Cursor {
    /// Byte position up to which everything is written (writer) or released (reader).
    pub position: AtomicU64,
    /// The two checkpoints.
    pub checkpoints: [Checkpoint; 2],
}

/// A position with the sequence number of the record that begins there.
#[repr(C)]
#[derive(Debug)]
pub struct Checkpoint {
    /// Byte position.
    pub position: AtomicU64,
    /// Sequence number of the first record at or after `position`.
    pub sequence: AtomicU64,
    /// Check over both and the segment id.
    pub check: AtomicU64,
}

/// Written by successors, the fenced writer and the watchdog, by compare-and-swap: how this generation ends.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct SuccessionLine {
    /// [`State`](crate::word::State) of the generation.
    pub state: AtomicU32,
    pub(crate) _pad: [u8; 4],
    /// [`EndWord`](crate::word::EndWord): where the generation ends, decided once.
    pub end: AtomicU64,
    /// [`SuccessorWord`](crate::word::SuccessorWord): id of the segment that bears the next name, decided once.
    pub successor: AtomicU64,
    /// Bit `i` set: the reader in slot `i` is expelled and holds nobody back.
    pub expelled: AtomicU64,
}

/// Written by the writer alone, on every push.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct CursorLine {
    /// How far the writer has published.
    pub cursor: Cursor,
    /// The writer does not go beyond this position before it has looked at the reader table again.
    pub limit: AtomicU64,
}

/// Written by the writer's process: says "not stuck", never "dead".
#[repr(C, align(128))]
#[derive(Debug)]
pub struct HeartbeatLine {
    /// Grows while the writer is well.
    pub beat: AtomicU64,
    /// Wall clock of the last beat, nanoseconds since 1970; for people, never compared by the protocol.
    pub time: AtomicU64,
    /// Robust futex of the thread that beats: its thread id; the kernel marks it when that thread dies. 0 if nobody holds it.
    /// A hint, never evidence.
    pub life: AtomicU32,
}

/// The word that waiting readers sleep on.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct DoorbellLine {
    /// Changes at each wake-up; never 0.
    pub bell: AtomicU32,
}

/// The writer page behind its identity block.
#[repr(C)]
#[derive(Debug)]
pub struct WriterPage {
    /// How the generation ends.
    pub succession: SuccessionLine,
    /// Where the writer stands.
    pub cursor: CursorLine,
    /// Whether the writer is stuck.
    pub heartbeat: HeartbeatLine,
    /// Data doorbell.
    pub doorbell: DoorbellLine,
}

/// Head of the reader table.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct TableHead {
    /// Non-zero: a reader may be asleep on the data doorbell. Set by the sleeper, cleared by the waker.
    pub data_waiters: AtomicU32,
    pub(crate) _pad: [u8; 124],
    /// The word that a writer waiting for space sleeps on. Changes at each wake-up; never 0.
    pub space_bell: AtomicU32,
    /// Non-zero: the writer may be asleep on the space doorbell. Set by the sleeper, cleared by the waker.
    pub space_waiters: AtomicU32,
    pub(crate) _pad2: [u8; 120],
}

/// One reader's slot.
///
/// ```text
/// 0       4      8                                64       96      100    104      112     120
/// | state | kind | cursor (position, checkpoints) | name 32 | pid   | pidns | start | taken | check |
/// ```
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Slot {
    /// [`SlotState`](crate::word::SlotState), written last.
    pub state: AtomicU32,
    /// [`Kind`](crate::word::Kind) of reader.
    pub kind: AtomicU32,
    /// How far the reader has released.
    pub cursor: Cursor,
    /// Name, UTF-8, zero-padded; four little-endian words.
    pub name: [AtomicU64; 4],
    /// Process id of the reader, as it sees itself; for people.
    pub pid: AtomicU32,
    /// Inode number of its pid namespace; for people.
    pub pid_namespace: AtomicU32,
    /// Start time of that process in clock ticks since boot; for people.
    pub start: AtomicU64,
    /// Sequence number behind the last record handed out: what lies between the cursor and here is redelivered to whoever
    /// takes the slot over. It grows while the reader works, so it is the reader's heartbeat too.
    pub taken: AtomicU64,
    /// Check over name, kind and segment id.
    pub check: AtomicU64,
}

#[cfg(not(feature = "loom"))]
const _: () = {
    assert!(size_of::<Cursor>() == 56);
    assert!(size_of::<SuccessionLine>() == 128 && align_of::<SuccessionLine>() == 128);
    assert!(offset_of!(SuccessionLine, end) == 8);
    assert!(offset_of!(SuccessionLine, successor) == 16);
    assert!(offset_of!(SuccessionLine, expelled) == 24);
    assert!(size_of::<CursorLine>() == 128);
    assert!(offset_of!(CursorLine, limit) == 56);
    assert!(size_of::<HeartbeatLine>() == 128);
    assert!(offset_of!(HeartbeatLine, time) == 8);
    assert!(offset_of!(HeartbeatLine, life) == 16);
    assert!(size_of::<DoorbellLine>() == 128);
    assert!(IDENTITY_LEN + offset_of!(WriterPage, succession) == SUCCESSION_AT);
    assert!(IDENTITY_LEN + offset_of!(WriterPage, cursor) == CURSOR_AT);
    assert!(IDENTITY_LEN + offset_of!(WriterPage, heartbeat) == HEARTBEAT_AT);
    assert!(IDENTITY_LEN + offset_of!(WriterPage, doorbell) == DOORBELL_AT);
    assert!(IDENTITY_LEN + size_of::<WriterPage>() <= MIN_PAGE as usize);
    assert!(size_of::<TableHead>() == TABLE_HEAD_LEN);
    assert!(offset_of!(TableHead, space_bell) == 128);
    assert!(offset_of!(TableHead, space_waiters) == 132);
    assert!(size_of::<Slot>() == SLOT_LEN && align_of::<Slot>() == SLOT_LEN);
    assert!(offset_of!(Slot, kind) == 4);
    assert!(offset_of!(Slot, cursor) == 8);
    assert!(offset_of!(Slot, name) == 64);
    assert!(offset_of!(Slot, pid) == 96);
    assert!(offset_of!(Slot, pid_namespace) == 100);
    assert!(offset_of!(Slot, start) == 104);
    assert!(offset_of!(Slot, taken) == 112);
    assert!(offset_of!(Slot, check) == 120);
    assert!(RECORD_HEADER <= ALIGN, "what is left before the end always holds a wrap marker's header");
};

/// Where the parts of a segment lie, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Page unit.
    pub page: u32,
    /// Reader slots.
    pub slots: u32,
    /// Bytes of the data ring.
    pub capacity: u64,
}

impl Geometry {
    /// Offset of the reader table.
    pub const fn table_at(&self) -> u64 {
        self.page as u64
    }

    /// Bytes of the reader table, whole page units.
    pub const fn table_len(&self) -> u64 {
        let raw = (TABLE_HEAD_LEN + SLOT_LEN * self.slots as usize) as u64;
        raw.next_multiple_of(self.page as u64)
    }

    /// Offset of the data.
    pub const fn data_at(&self) -> u64 {
        self.table_at() + self.table_len()
    }

    /// Bytes of the whole segment.
    pub const fn total(&self) -> u64 {
        self.data_at() + self.capacity
    }
}

/// Bytes that a record with a payload of `len` bytes takes in the ring.
#[inline]
pub const fn record_len(len: u64) -> u64 {
    // As `next_multiple_of`, of which the compiler makes four times as much, in front of each record.
    (RECORD_HEADER + len + (ALIGN - 1)) & !(ALIGN - 1)
}

/// Largest record limit that a ring of `capacity` bytes can promise: a record and the wrap marker in front of it must fit
/// together, whatever the position.
#[inline]
pub const fn max_record(capacity: u64) -> u64 {
    capacity / 2 - RECORD_HEADER
}
