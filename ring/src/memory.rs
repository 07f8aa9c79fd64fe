//! The typed view of a segment's memory that the protocol files work on.
//!
//! Writer, reader, waiting and succession never see a descriptor: they see a [`Memory`]. The real one is a mapped
//! [`Segment`](crate::segment::Segment); the model checker's is built on the heap.
//!
//! # Safety
//!
//! [`Data`] copies bytes to and from memory that other processes map. It hands out no reference to them: what it reads
//! is a private copy that its caller then verifies.
#![allow(unsafe_code)]

use core::time::Duration;

use crate::atomic::AtomicU32;
#[cfg(feature = "loom")]
use crate::atomic::{AtomicU64, Ordering};
use crate::checksum::RecordCrc;
#[cfg(not(feature = "loom"))]
use crate::copy;
#[cfg(feature = "loom")]
use crate::layout::RECORD_HEADER;
use crate::layout::{ALIGN, Slot, TableHead, WriterPage};
use crate::word::{Checksum, SegmentId};

/// What the protocol needs to know of a segment's identity; copied once from the verified identity block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Id of the segment.
    pub segment: SegmentId,
    /// Bytes of the data ring, a power of two.
    pub capacity: u64,
    /// Largest payload, in bytes.
    pub record_limit: u64,
    /// What checksums cover.
    pub checksum: Checksum,
    /// Sequence number of the first record.
    pub first_sequence: u64,
    /// The writer relies on the sleeping and superseding side to issue `membarrier`.
    pub membarrier: bool,
}

impl Shape {
    /// The one place where a position becomes an offset into the data.
    #[inline(always)]
    pub(crate) fn offset(&self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }
}

/// How a sleep on a doorbell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// Woken, or the word had changed, or for no reason: look again.
    Look,
    /// The time was up.
    TimedOut,
    /// The page under the doorbell is gone.
    Fault,
}

/// A segment's memory, mapped or modelled, and the few services that the protocol needs of its surroundings.
pub trait Memory: Send + Sync {
    /// The segment's unchanging facts.
    fn shape(&self) -> Shape;
    /// Writer page behind the identity block.
    fn page(&self) -> &WriterPage;
    /// Head of the reader table.
    fn head(&self) -> &TableHead;
    /// Reader slots.
    fn slots(&self) -> &[Slot];
    /// The data ring.
    fn data(&self) -> Data<'_>;
    /// Whether the memory was taken away (truncation, no space) and replaced by zeros that nobody shares.
    fn poisoned(&self) -> bool;
    /// Whether the reader of a slot lives: its byte is locked, here or in an older generation that it still drains.
    fn reader_lives(&self, slot: usize) -> bool;
    /// Runs `free` while holding the slot's byte, if nobody else holds it; says whether it ran.
    fn with_dead_slot(&self, slot: usize, free: &mut dyn FnMut()) -> bool;
    /// Issues the heavy half of the asymmetric barrier; false if this process can't.
    fn heavy_fence(&self) -> bool;
    /// Sleeps while `bell` holds `seen`, at most `limit`.
    fn sleep(&self, bell: &AtomicU32, seen: u32, limit: Duration) -> Slept;
    /// Wakes everybody who sleeps on `bell`.
    fn wake(&self, bell: &AtomicU32);
}

/// The data ring of a segment.
///
/// Offsets are checked against the capacity on every access; one that does not fit is answered by `false`, never by
/// touching memory outside.
#[derive(Clone, Copy)]
pub struct Data<'m> {
    #[cfg(not(feature = "loom"))]
    base: core::ptr::NonNull<u8>,
    #[cfg(not(feature = "loom"))]
    capacity: u64,
    #[cfg(not(feature = "loom"))]
    life: core::marker::PhantomData<&'m ()>,
    #[cfg(feature = "loom")]
    words: &'m [AtomicU64],
    #[cfg(feature = "loom")]
    watched: &'m [Watched],
}

#[cfg(not(feature = "loom"))]
impl<'m> Data<'m> {
    /// The ring that lies at `base`.
    ///
    /// # Safety
    ///
    /// `base` must be aligned to 8, `capacity` be a multiple of [`ALIGN`], and so many bytes valid behind `base` for `'m`, for writing too if [`store_header`](Self::store_header) or
    /// [`store`](Self::store) is called. Other processes may write there at any time: callers must verify what they load.
    pub(crate) unsafe fn new(base: core::ptr::NonNull<u8>, capacity: u64) -> Data<'m> {
        Data { base, capacity, life: core::marker::PhantomData }
    }

    #[inline(always)]
    fn fits(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.capacity)
    }

    /// Asks for the lines that begin in the `len` bytes from `offset` on, for writing. As [`prefetch`](Self::prefetch), a hint.
    #[inline(always)]
    pub(crate) fn prefetch_to_write(&self, offset: u64, len: u64) {
        let mut at = offset.next_multiple_of(64);
        while at < offset + len {
            copy::prefetch_to_write(self.base.as_ptr().wrapping_add(at as usize));
            at += 64;
        }
    }

    /// As [`prefetch`](Self::prefetch), for writing.
    #[inline(always)]
    pub(crate) fn prefetch_own(&self, offset: u64) {
        let at = self.base.as_ptr().wrapping_add(offset as usize);
        copy::prefetch_to_write(at);
        copy::prefetch_to_write(at.wrapping_add(64));
    }

    /// Whether a record may begin at `offset`: on a border inside the ring, behind which a header always fits.
    #[inline(always)]
    fn is_border(&self, offset: u64) -> bool {
        offset.is_multiple_of(ALIGN) && offset < self.capacity
    }

    /// Asks for the first two lines of what begins at `offset`, and waits for nothing: for who is about to look there. A hint, which
    /// never faults.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: u64) {
        if self.is_border(offset) {
            let at = self.base.as_ptr().wrapping_add(offset as usize);
            copy::prefetch(at);
            copy::prefetch(at.wrapping_add(64));
        }
    }

    /// Writes a record header at `offset`.
    #[inline(always)]
    #[must_use]
    pub(crate) fn store_header(&self, offset: u64, words: [u64; 3]) -> bool {
        if !self.is_border(offset) {
            return false;
        }
        // SAFETY: offset < capacity, and both are multiples of 32: so 24 bytes are there, inside the mapping and aligned to 8.
        let at = unsafe { self.base.as_ptr().add(offset as usize) }.cast::<u64>();
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: word i < 3 of the 24 bytes checked above; volatile because other processes look on.
            unsafe { at.add(i).write_volatile(word.to_le()) };
        }
        true
    }

    /// Reads the record header at `offset`, each word once.
    #[inline(always)]
    pub(crate) fn load_header(&self, offset: u64) -> Option<[u64; 3]> {
        if !self.is_border(offset) {
            return None;
        }
        // SAFETY: as in `store_header`.
        let at = unsafe { self.base.as_ptr().add(offset as usize) }.cast::<u64>();
        let mut words = [0; 3];
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: word i < 3 of the 24 bytes checked above; volatile so that it is read once, whoever writes there.
            *word = u64::from_le(unsafe { at.add(i).read_volatile() });
        }
        Some(words)
    }

    /// Copies `bytes` to `offset`.
    #[inline(always)]
    #[must_use]
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        if !self.fits(offset, bytes.len() as u64) {
            return false;
        }
        // SAFETY: the destination's range was checked above and the mapping is writable for its writer; `bytes` is private
        // memory, so the two do not overlap.
        unsafe {
            copy::plain(bytes.as_ptr(), self.base.as_ptr().add(offset as usize), bytes.len(), false);
        }
        true
    }

    /// Copies `bytes` to `offset`, and takes the checksum over them on the way.
    #[inline(always)]
    #[must_use]
    pub(crate) fn store_summed(&self, offset: u64, bytes: &[u8], crc: &mut RecordCrc) -> bool {
        if !self.fits(offset, bytes.len() as u64) {
            return false;
        }
        // SAFETY: as in `store`; `bytes` is the private one of the two.
        crc.register = unsafe {
            let to = self.base.as_ptr().add(offset as usize);
            copy::copy(crc.way, crc.register, bytes.as_ptr(), to, bytes.len(), false)
        };
        true
    }

    /// Copies bytes from `offset` into `bytes`, and takes the checksum over what arrived on the way.
    #[inline(always)]
    #[must_use]
    pub(crate) fn load_summed(&self, offset: u64, bytes: &mut [u8], crc: &mut RecordCrc) -> bool {
        if !self.fits(offset, bytes.len() as u64) {
            return false;
        }
        // SAFETY: as in `load`; `bytes` is the private one of the two.
        crc.register = unsafe {
            let from = self.base.as_ptr().add(offset as usize);
            copy::copy(crc.way, crc.register, from, bytes.as_mut_ptr(), bytes.len(), true)
        };
        true
    }

    /// Copies bytes from `offset` into `bytes`. They may change meanwhile: the copy is what must be verified.
    #[inline(always)]
    #[must_use]
    pub(crate) fn load(&self, offset: u64, bytes: &mut [u8]) -> bool {
        if !self.fits(offset, bytes.len() as u64) {
            return false;
        }
        // SAFETY: the source's range was checked above; `bytes` is private memory. A peer that breaks the protocol can race
        // with the copy; what comes out is then arbitrary bytes, which the checksum over the private copy rejects.
        unsafe {
            copy::plain(self.base.as_ptr().add(offset as usize), bytes.as_mut_ptr(), bytes.len(), true);
        }
        true
    }

    /// The bytes in place, for lending to a trusting caller.
    ///
    /// # Safety
    ///
    /// Nobody may write to these bytes for `'m`: the caller vouches for every process that maps the segment writable, and
    /// must not have released the record.
    pub(crate) unsafe fn lend(&self, offset: u64, len: usize) -> Option<&'m [u8]> {
        if !self.fits(offset, len as u64) {
            return None;
        }
        // SAFETY: range checked above; that nobody writes there is the caller's obligation.
        Some(unsafe { core::slice::from_raw_parts(self.base.as_ptr().add(offset as usize), len) })
    }

    /// The bytes in place, to be written by a trusting caller.
    ///
    /// # Safety
    ///
    /// Nobody else may read or write these bytes for `'m`: they are a reservation of the one writer, who maps them writable, and the caller
    /// vouches for every other process.
    pub(crate) unsafe fn lend_mut(&self, offset: u64, len: usize) -> Option<&'m mut [u8]> {
        if !self.fits(offset, len as u64) {
            return None;
        }
        // SAFETY: range checked above; that nobody else is there is the caller's obligation.
        Some(unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr().add(offset as usize), len) })
    }
}

/// Notices two threads at the same bytes of which one writes, with nothing between them that orders them: what is a
/// data race on the real, non-atomic bytes.
#[cfg(feature = "loom")]
#[derive(Debug, Default)]
pub(crate) struct Watched(loom::cell::UnsafeCell<()>);

// SAFETY: it holds `()`: there is nothing to race on. Loom's cell reports accesses that are not ordered.
#[cfg(feature = "loom")]
unsafe impl Sync for Watched {}

#[cfg(feature = "loom")]
impl<'m> Data<'m> {
    /// The ring made of these words; `watched` is empty, or has one for each 32 bytes.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) fn of(words: &'m [AtomicU64], watched: &'m [Watched]) -> Data<'m> {
        Data { words, watched }
    }

    fn watch(&self, offset: u64, len: usize, writes: bool) {
        let unit = crate::layout::ALIGN as usize;
        let from = offset as usize / unit;
        let to = (offset as usize + len).div_ceil(unit);
        for watched in self.watched.get(from..to).unwrap_or_default() {
            if writes { watched.0.with_mut(|_| ()) } else { watched.0.with(|_| ()) }
        }
    }

    pub(crate) fn prefetch(&self, _offset: u64) {}

    pub(crate) fn prefetch_to_write(&self, _offset: u64, _len: u64) {}

    pub(crate) fn prefetch_own(&self, _offset: u64) {}

    pub(crate) fn store_header(&self, offset: u64, words: [u64; 3]) -> bool {
        self.watch(offset, RECORD_HEADER as usize, true);
        for (i, word) in words.into_iter().enumerate() {
            self.words[offset as usize / 8 + i].store(word, Ordering::Relaxed);
        }
        true
    }

    pub(crate) fn load_header(&self, offset: u64) -> Option<[u64; 3]> {
        self.watch(offset, RECORD_HEADER as usize, false);
        let mut out = [0; 3];
        for (i, word) in out.iter_mut().enumerate() {
            *word = self.words[offset as usize / 8 + i].load(Ordering::Relaxed);
        }
        Some(out)
    }

    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        self.watch(offset, bytes.len(), true);
        for (i, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.words[offset as usize / 8 + i].store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        true
    }

    pub(crate) fn load(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.watch(offset, bytes.len(), false);
        for (i, chunk) in bytes.chunks_mut(8).enumerate() {
            let word = self.words[offset as usize / 8 + i].load(Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        true
    }

    pub(crate) fn store_summed(&self, offset: u64, bytes: &[u8], crc: &mut RecordCrc) -> bool {
        crc.update(bytes);
        self.store(offset, bytes)
    }

    pub(crate) fn load_summed(&self, offset: u64, bytes: &mut [u8], crc: &mut RecordCrc) -> bool {
        let loaded = self.load(offset, bytes);
        crc.update(bytes);
        loaded
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::word::{RecordKind, SegmentId};

    /// A ring of 64 bytes between bytes that are nobody's business.
    #[test]
    fn what_does_not_fit_is_answered_by_false_and_touches_nothing() {
        let mut around = [0x5555_5555_5555_5555_u64; 24];
        let untouched = around;
        let ring = core::ptr::NonNull::from(&mut around[8..16]).cast::<u8>();
        // SAFETY: 64 bytes from word 8 on lie inside `around`, aligned to 8, and nobody else looks at them meanwhile.
        let data = unsafe { Data::new(ring, 64) };
        let crc = || RecordCrc::new(SegmentId(1), 0, RecordKind::DATA, 0, 0, 0);
        let all = |offset: u64, len: usize| {
            let mut bytes = vec![0xaa; len];
            [
                data.load(offset, &mut bytes),
                data.load_summed(offset, &mut bytes, &mut crc()),
                data.store(offset, &vec![0x55; len]),
                data.store_summed(offset, &vec![0x55; len], &mut crc()),
            ]
        };
        for (offset, len, fits) in [
            (0, 64, true),
            (64, 0, true),
            (40, 24, true),
            (63, 1, true),
            (0, 65, false),
            (64, 1, false),
            (41, 24, false),
            (65, 0, false),
            (96, 8, false),
            (1 << 40, 16, false),
            (u64::MAX - 8, 16, false),
            (u64::MAX, 16, false),
        ] {
            assert_eq!(all(offset, len), [fits; 4], "{len} bytes at {offset}");
            // SAFETY: nobody writes here meanwhile, and nothing that is lent is used.
            let lent = unsafe { [data.lend(offset, len).is_some(), data.lend_mut(offset, len).is_some()] };
            assert_eq!(lent, [fits; 2], "{len} bytes at {offset}");
        }
        let header = [0x5555_5555_5555_5555; 3];
        for (offset, fits) in
            [(0, true), (32, true), (8, false), (36, false), (40, false), (64, false), (72, false), (96, false)]
        {
            assert_eq!(data.store_header(offset, header), fits, "a header at {offset}");
            assert_eq!(data.load_header(offset), fits.then_some(header), "a header at {offset}");
        }
        assert_eq!(around, untouched);
    }
}
