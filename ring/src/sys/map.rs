//! A segment's mapping: shared, writable only where this process is a writer, under the [guard](super::sigbus).
//!
//! The peer maps the same pages: every byte may change at any moment, and may vanish (truncation). So a [`Mapping`] hands
//! out an address and a length and never a slice; whoever lays a typed view over it uses atomics and raw copies, and asks
//! [`Mapping::poisoned`] when done.
//!
//! Pages that aren't ours to write are mapped read-only, so that a stray store of our own dies at once instead of damaging
//! the peer's side. That holds until the mapping is poisoned: the replacement is writable throughout, and nobody's.
//!
//! A `Mapping` is `Send` and `Sync` because `memmap2`'s raw mapping is: it holds an address and a length, both constant; all
//! access is the user's of that address, by atomics. It is left out of forked children (`MADV_DONTFORK`), so that an inherited
//! handle can't write beside its owner; dropping it there does nothing.
//!
//! # Safety
//!
//! `mprotect` is only ever called on ranges inside the mapping just made, before anybody else knows its address. Touching
//! a page is an atomic operation on memory that is mapped as long as `self` lives; a page that is lost meanwhile is
//! the guard's business. The registration is a field before the pages, so it is dropped, and waits for handlers, before
//! they are unmapped; pages that a fork did not copy are never unmapped in the child.
#![allow(unsafe_code)]

use super::fork::Stamp;
use super::sigbus::Registration;
use crate::canary;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{ProtFlags, mprotect};
use nix::unistd::{SysconfVar, sysconf};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Bytes of a page of this machine. Async-signal-safe after the first call.
pub fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    match SIZE.load(Ordering::Relaxed) {
        0 => {
            let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
            // The kernel always knows; the smallest there is keeps the arithmetic sound.
            let size = size.filter(|size| size.is_power_of_two()).unwrap_or(4096);
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// Whether a mapping's pages go into a core dump of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dump {
    /// As the system is set up to do for shared mappings.
    #[default]
    Include,
    /// No: large or secret payloads, or a segment whose lock should come free soon after the crash.
    Exclude,
}

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file is shorter than what is to be mapped: truncated, or not a segment.
    #[error("the file has {found} bytes, {wanted} are to be mapped: it was cut, or is no segment")]
    Short {
        /// Bytes that the file has.
        found: u64,
        /// Bytes asked for.
        wanted: usize,
    },
    /// A length or a range is empty, isn't whole pages, lies outside, or is out of order.
    #[error(
        "{start:#x}..{end:#x} of a mapping of {len:#x} bytes is empty, outside, out of order, or not whole {page}-byte pages"
    )]
    Range {
        /// First byte.
        start: usize,
        /// Byte after the last.
        end: usize,
        /// Bytes of the mapping.
        len: usize,
        /// Bytes of a page.
        page: usize,
    },
    /// The kernel refused.
    #[error("{step} of {len} bytes failed: {source}")]
    Os {
        /// The system call.
        step: &'static str,
        /// Bytes to be mapped.
        len: usize,
        /// The kernel's word: `ENOMEM` for no address space, `EACCES` for a descriptor that isn't open for it.
        source: io::Error,
    },
}

/// The whole of a file in our memory: `len` bytes, never 0, from [`base`](Mapping::base).
#[derive(Debug)]
pub struct Mapping {
    // Dropped first: nothing may replace a range that is being unmapped.
    guard: Registration,
    pages: Pages,
    writable: Box<[Range<usize>]>,
}

const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Mapping>();
};

/// The mapped pages; unmapped when dropped, but not in a forked child, where somebody else may live at that address.
#[derive(Debug)]
struct Pages {
    raw: ManuallyDrop<MmapRaw>,
    stamp: Stamp,
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.stamp.is_here() {
            // SAFETY: dropped once, here; the field is not used again.
            unsafe { ManuallyDrop::drop(&mut self.raw) }
        }
    }
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, writable in the ranges of `writable` (bytes, whole pages, ascending) only.
    ///
    /// The file must be open for reading and writing. Peers may be writing to it, or cutting it, meanwhile: its length is
    /// checked, but what is lost after that shows in [`poisoned`](Mapping::poisoned). A `fork` by another thread while
    /// this runs may copy the mapping; once it has returned, none does.
    ///
    /// # Errors
    ///
    /// [`MapError`]; on any error nothing stays mapped.
    pub fn new(file: &File, len: usize, writable: &[Range<usize>], dump: Dump) -> Result<Mapping, MapError> {
        let page = page_size();
        let mut floor = 0;
        for range in writable {
            if range.start < floor
                || range.start >= range.end
                || range.end > len
                || range.start % page != 0
                || range.end % page != 0
            {
                return Err(MapError::Range { start: range.start, end: range.end, len, page });
            }
            floor = range.end;
        }
        Mapping::map(file, len, writable, dump, |options| options.map_raw(file), "mmap")
    }

    /// Maps the first `len` bytes of `file` for reading only: for inspectors. A read-only descriptor is enough.
    ///
    /// # Errors
    ///
    /// As [`new`](Mapping::new).
    pub fn read_only(file: &File, len: usize, dump: Dump) -> Result<Mapping, MapError> {
        Mapping::map(file, len, &[], dump, |options| options.map_raw_read_only(file), "mmap (read-only)")
    }

    fn map(
        file: &File,
        len: usize,
        writable: &[Range<usize>],
        dump: Dump,
        mmap: impl FnOnce(&MmapOptions) -> io::Result<MmapRaw>,
        step: &'static str,
    ) -> Result<Mapping, MapError> {
        let page = page_size();
        if len == 0 || !len.is_multiple_of(page) {
            return Err(MapError::Range { start: 0, end: len, len, page });
        }
        let os = |step| move |source: io::Error| MapError::Os { step, len, source };
        let found = file.metadata().map_err(os("fstat"))?.len();
        if found < len as u64 {
            return Err(MapError::Short { found, wanted: len });
        }
        let stamp = Stamp::here().map_err(os("madvise(MADV_WIPEONFORK)"))?;
        let raw = mmap(MmapOptions::new().len(len)).map_err(os(step))?;
        let pages = Pages { raw: ManuallyDrop::new(raw), stamp };
        if !canary!("mapping-inherited") {
            pages.raw.advise(Advice::DontFork).map_err(os("madvise(MADV_DONTFORK)"))?;
        }
        if dump == Dump::Exclude {
            pages.raw.advise(Advice::DontDump).map_err(os("madvise(MADV_DONTDUMP)"))?;
        }
        for (range, _) in
            pieces(writable, 0..len).into_iter().filter(|(_, writable)| !writable && !canary!("all-writable"))
        {
            let start = NonNull::new(pages.raw.as_mut_ptr().wrapping_add(range.start).cast())
                .ok_or_else(|| os("mmap")(io::ErrorKind::OutOfMemory.into()))?;
            // SAFETY: the range is inside the mapping made above, which nobody uses yet.
            unsafe { mprotect(start, range.len(), ProtFlags::PROT_READ) }
                .map_err(|errno| os("mprotect")(errno.into()))?;
        }
        // SAFETY: a whole mapping, ours; `Mapping` drops `guard` before `pages` unmaps it, and hands out no reference to
        // plain memory in it.
        let guard =
            unsafe { Registration::new(pages.raw.as_mut_ptr(), len) }.map_err(os("installing the SIGBUS guard"))?;
        Ok(Mapping { guard, pages, writable: writable.into() })
    }

    /// First byte. Constant, page-aligned, mapped as long as `self` lives; but see [`is_inherited`](Mapping::is_inherited).
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.pages.raw.as_mut_ptr()
    }

    /// Bytes mapped, a multiple of the page size. The file may be shorter by now.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.pages.raw.len()
    }

    /// Whether memory was lost: the file was cut, or full, and all of the mapping is now private memory.
    ///
    /// Ask *after* the operation: `false` means that everything read before came from the file (a hole punched into it
    /// reads as zeros without this noticing). `true` is final: drop the mapping.
    #[inline]
    pub fn poisoned(&self) -> bool {
        self.guard.poisoned()
    }

    /// Whether this is a forked child with its parent's handle: the memory isn't there, touching it kills.
    #[inline]
    pub fn is_inherited(&self) -> bool {
        self.guard.is_inherited()
    }

    /// Makes the pages of `range` (bytes; widened to whole pages) present, so that using them first costs no page fault.
    ///
    /// Changes no byte, whatever the peers are writing. Pages that are ours to write are made ready for writing.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the range isn't inside. `EFAULT`: the file is shorter than that by now (the kernel looked, so
    /// [`poisoned`](Mapping::poisoned) may still be `false`). `UnexpectedEof`: poisoned. `ENOMEM`: no memory.
    pub fn pre_touch(&self, range: Range<usize>) -> io::Result<()> {
        let page = page_size();
        if range.start > range.end || range.end > self.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the range to touch isn't inside the mapping"));
        }
        let whole = range.start - range.start % page..range.end.next_multiple_of(page);
        for (piece, writable) in pieces(&self.writable, whole) {
            if self.poisoned() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let advice = if writable { Advice::PopulateWrite } else { Advice::PopulateRead };
            match self.populate(advice, &piece) {
                // Linux before 5.14.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => self.touch(piece, writable),
                other => other?,
            }
        }
        if self.poisoned() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn populate(&self, advice: Advice, piece: &Range<usize>) -> io::Result<()> {
        loop {
            match self.pages.raw.advise_range(advice, piece.start, piece.len()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Touches one word of each page; a page that isn't there any more is the guard's business.
    fn touch(&self, piece: Range<usize>, writable: bool) {
        for offset in piece.step_by(page_size()) {
            let word = self.word(offset);
            let seen = black_box(word.load(Ordering::Relaxed));
            if writable {
                // The same value, and only if it is still there. Not `fetch_or(0)`: LLVM makes a mere load of that.
                let _ = word.compare_exchange(seen, black_box(seen), Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// The word at `offset`, a multiple of 4 inside the mapping.
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < self.len());
        let at = self.base().wrapping_add(offset).cast();
        // SAFETY: aligned, mapped as long as `self` is borrowed, and an atomic bears that others change it. Whoever stores
        // through it does so where this mapping is writable, or dies: no memory safety hangs on that.
        unsafe { AtomicU32::from_ptr(at) }
    }
}

/// Cuts `within` at the borders of `writable`: ascending pieces without gaps, each with whether it is writable.
fn pieces(writable: &[Range<usize>], within: Range<usize>) -> Vec<(Range<usize>, bool)> {
    let mut pieces = Vec::new();
    let mut at = within.start;
    for range in writable {
        let (start, end) = (range.start.max(at), range.end.min(within.end));
        if start < end {
            if at < start {
                pieces.push((at..start, false));
            }
            pieces.push((start..end, true));
            at = end;
        }
    }
    if at < within.end {
        pieces.push((at..within.end, false));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::reserve;
    use crate::sys::{child, here};
    use nix::sys::signal::Signal;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::atomic::AtomicBool;

    fn file(pages: usize) -> File {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        reserve(&file, (pages * page_size()) as u64).unwrap();
        file
    }

    #[test]
    fn pieces_leave_no_gap() {
        assert_eq!(pieces(&[], 0..4), [(0..4, false)]);
        assert_eq!(pieces(&[0..1, 2..3], 0..4), [(0..1, true), (1..2, false), (2..3, true), (3..4, false)]);
        assert_eq!(pieces(&[0..2, 6..8], 1..7), [(1..2, true), (2..6, false), (6..7, true)]);
        assert_eq!(pieces(&[0..2, 6..8], 3..5), [(3..5, false)]);
        assert_eq!(pieces(&[0..8, 9..10], 3..5), [(3..5, true)]);
    }

    #[test]
    fn what_one_maps_another_sees() {
        let (file, page) = (file(3), page_size());
        let writer = Mapping::new(&file, 3 * page, &[0..page, 2 * page..3 * page], Dump::Exclude).unwrap();
        let reader = Mapping::read_only(&file, 3 * page, Dump::Include).unwrap();
        writer.word(2 * page + 8).store(7, Ordering::Release);
        assert_eq!(reader.word(2 * page + 8).load(Ordering::Acquire), 7);
        writer.pre_touch(0..3 * page).unwrap();
        reader.pre_touch(1..page + 1).unwrap();
        writer.touch(0..page, true);
        writer.touch(page..2 * page, false);
        writer.touch(2 * page..3 * page, true);
        assert_eq!(reader.word(2 * page + 8).load(Ordering::Acquire), 7, "touching changes nothing");
        assert_eq!(writer.pre_touch(0..3 * page + 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(!writer.poisoned() && !reader.poisoned() && !writer.is_inherited());
        assert_eq!((writer.len(), writer.base().addr() % page), (3 * page, 0));
    }

    #[test]
    fn bad_ranges_and_short_files_are_typed() {
        let (file, page) = (file(2), page_size());
        let backwards = [page..2 * page, 0..page];
        assert!(matches!(Mapping::new(&file, 2 * page, &backwards, Dump::Include), Err(MapError::Range { .. })));
        for range in [0..1, 1..page, 0..3 * page, page..page] {
            let error = Mapping::new(&file, 2 * page, std::slice::from_ref(&range), Dump::Include).unwrap_err();
            assert!(matches!(error, MapError::Range { .. }), "{range:?}: {error}");
        }
        for len in [0, 1, page + 1] {
            assert!(matches!(Mapping::new(&file, len, &[], Dump::Include), Err(MapError::Range { .. })));
        }
        let error = Mapping::new(&file, 3 * page, &[], Dump::Include).unwrap_err();
        assert!(matches!(error, MapError::Short { wanted, .. } if wanted == 3 * page), "{error}");
        let read_only = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        assert!(matches!(Mapping::new(&read_only, page, &[], Dump::Include), Err(MapError::Os { step: "mmap", .. })));
        Mapping::read_only(&read_only, page, Dump::Include).unwrap();
    }

    #[test]
    fn a_store_outside_what_is_ours_kills_at_once() {
        let (status, said) = child::run(here!("a_store_outside_what_is_ours_kills_at_once"), || {
            let (file, page) = (file(3), page_size());
            let whole = page..2 * page;
            let mapping = Mapping::new(&file, 3 * page, std::slice::from_ref(&whole), Dump::Exclude).unwrap();
            mapping.word(page).store(1, Ordering::Relaxed);
            mapping.word(2 * page - 4).store(1, Ordering::Relaxed);
            println!("\nso far so good {}", mapping.word(2 * page).load(Ordering::Relaxed));
            mapping.word(2 * page).store(1, Ordering::Relaxed);
            println!("the stray store went through");
        });
        assert_eq!(status.signal(), Some(Signal::SIGSEGV as i32), "{said}");
        assert!(said.contains("so far so good 0") && !said.contains("went through"), "{said}");
    }

    /// One thread reads, one writes, while the file is cut: both go on, on memory that is nobody's.
    #[test]
    fn truncation_under_a_reader_and_a_writer_poisons_and_kills_nobody() {
        let page = page_size();
        let pages = 5;
        for cut in [0, 12, page, pages * page - 1, (pages - 1) * page - 1] {
            let file = file(pages);
            let whole = 0..pages * page;
            let writer = Mapping::new(&file, pages * page, std::slice::from_ref(&whole), Dump::Include).unwrap();
            let reader = Mapping::read_only(&file, pages * page, Dump::Include).unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for write in [false, true] {
                    let (stop, mapping) = (&stop, if write { &writer } else { &reader });
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            for offset in (0..pages * page).step_by(64) {
                                if write {
                                    mapping.word(offset).store(0x0101_0101, Ordering::Relaxed);
                                } else {
                                    black_box(mapping.word(offset).load(Ordering::Relaxed));
                                }
                            }
                        }
                    });
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                file.set_len(cut as u64).unwrap();
                // The last page is there in part when all but one byte is kept: nothing is lost then, and nothing may be said.
                let lost = cut <= (pages - 1) * page;
                let begun = std::time::Instant::now();
                while (writer.poisoned(), reader.poisoned()) != (lost, lost) {
                    assert!(begun.elapsed().as_secs() < 60, "cut to {cut}: not noticed");
                    std::thread::yield_now();
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                assert_eq!((writer.poisoned(), reader.poisoned()), (lost, lost), "cut to {cut}");
                stop.store(true, Ordering::Relaxed);
            });
            if cut == 0 {
                assert_eq!(writer.pre_touch(0..page).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                reserve(&file, (pages * page) as u64).unwrap();
                let again = Mapping::read_only(&file, page, Dump::Include).unwrap();
                assert!(!again.poisoned());
                assert_eq!(again.word(0).load(Ordering::Relaxed), 0, "what was written after the loss went nowhere");
            }
        }
    }

    #[test]
    fn touching_what_was_cut_is_an_error_or_poison() {
        let (file, page) = (file(2), page_size());
        let whole = 0..2 * page;
        let mapping = Mapping::new(&file, 2 * page, std::slice::from_ref(&whole), Dump::Include).unwrap();
        file.set_len(page as u64).unwrap();
        mapping.pre_touch(0..page).unwrap();
        assert_eq!(mapping.pre_touch(0..2 * page).unwrap_err().raw_os_error(), Some(Errno::EFAULT as i32));
        assert!(!mapping.poisoned());
        mapping.touch(page..2 * page, true);
        assert!(mapping.poisoned());
        assert_eq!(mapping.pre_touch(0..page).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_forked_child_has_no_mapping_and_unmaps_nothing() {
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        let (status, said) = child::run(here!("a_forked_child_has_no_mapping_and_unmaps_nothing"), || {
            let (file, page) = (file(1), page_size());
            let mut mapping = Some(Mapping::read_only(&file, page, Dump::Include).unwrap());
            let base = mapping.as_ref().unwrap().base();
            // SAFETY: the child only maps, drops and exits.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                    assert!(!mapping.as_ref().unwrap().is_inherited());
                    black_box(mapping.as_ref().unwrap().word(0).load(Ordering::Relaxed));
                }
                ForkResult::Child => {
                    let inherited = mapping.as_ref().unwrap().is_inherited();
                    let (protection, flags) = (
                        nix::libc::PROT_READ | nix::libc::PROT_WRITE,
                        nix::libc::MAP_PRIVATE | nix::libc::MAP_ANONYMOUS | nix::libc::MAP_FIXED_NOREPLACE,
                    );
                    // SAFETY: not over anything that is mapped; the address is free, or this fails.
                    let own = unsafe { nix::libc::mmap(base.cast(), page, protection, flags, -1, 0) };
                    let free = own == base.cast();
                    drop(mapping.take());
                    // SAFETY: mapped just above, if the drop didn't unmap it, which is what is being tested.
                    let word = unsafe { AtomicU32::from_ptr(base.cast()) };
                    word.store(7, Ordering::Relaxed);
                    let code = i32::from(!(inherited && free && word.load(Ordering::Relaxed) == 7));
                    // SAFETY: no preconditions.
                    unsafe { nix::libc::_exit(code) }
                }
            }
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }
}
