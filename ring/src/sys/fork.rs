//! Whether this memory is the copy that a `fork` made.
//!
//! A child of `fork` has its parent's handles, but not what they stand for: the mappings are left out
//! (`MADV_DONTFORK`), threads don't exist, and addresses that the parent's bookkeeping names may by now be somebody
//! else's. So whatever is torn down or cured by address carries a [`Stamp`] and asks it first.
//!
//! The stamp is kept in one page that the kernel replaces by zeros in the child (`MADV_WIPEONFORK`, Linux 4.14). Unlike a
//! process id this is right in a new pid namespace (where everybody is 1), after raw `clone`, and for `vfork` (same
//! memory, so same stamp), and reading it is a load, allowed in a signal handler.
//!
//! # Safety
//!
//! The only unsafe operations are laying one atomic over a page that this file mapped, owns for ever and gives nobody
//! else, and the `madvise` on that page before it holds anything.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};
use memmap2::{MmapMut, MmapRaw};
use nix::sys::mman::{MmapAdvise, madvise};
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// Holds the current stamp; zero in a forked child until it asks for one of its own.
static PAGE: OnceLock<MmapRaw> = OnceLock::new();
/// The last stamp given out, in ordinary memory: a child goes on counting where its parent was, so never repeats one.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Names one process's memory: equal stamps, same memory. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u32);

impl Stamp {
    /// The stamp of the memory that we are in.
    ///
    /// # Errors
    ///
    /// The kernel can't map a page, or doesn't know `MADV_WIPEONFORK` (`EINVAL`).
    pub fn here() -> io::Result<Stamp> {
        let word = match word() {
            Some(word) => word,
            None => {
                // A thread that loses this race drops its own page again.
                let _ = PAGE.set(page()?);
                word().ok_or_else(|| io::Error::other("the fork page is not there"))?
            }
        };
        let current = word.load(Ordering::Acquire);
        if current != 0 {
            return Ok(Stamp(current));
        }
        let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        match word.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Stamp(fresh)),
            Err(current) => Ok(Stamp(current)),
        }
    }

    /// Whether we are still in the memory that this stamp was taken in. A load; async-signal-safe.
    #[inline]
    pub fn is_here(self) -> bool {
        word().is_some_and(|word| word.load(Ordering::Acquire) == self.0)
    }

    /// The stamp as a number, for keeping it in an atomic.
    pub(super) const fn raw(self) -> u32 {
        self.0
    }

    /// The stamp that [`raw`](Stamp::raw) gave.
    pub(super) const fn from_raw(raw: u32) -> Stamp {
        Stamp(raw)
    }
}

/// The word on the page, if the page is there yet.
fn word() -> Option<&'static AtomicU32> {
    let page = PAGE.get()?;
    // SAFETY: the page is mapped readable and writable, never unmapped (it is in a static), aligned for any type, and
    // every access to it goes through this atomic.
    Some(unsafe { AtomicU32::from_ptr(page.as_mut_ptr().cast()) })
}

/// A page that is zero, here and in every child.
fn page() -> io::Result<MmapRaw> {
    let len = super::map::page_size();
    let page = MmapRaw::from(MmapMut::map_anon(len)?);
    let start = NonNull::new(page.as_mut_ptr().cast()).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: the range is the private anonymous page mapped above; its contents are zeros, so wiping loses nothing.
    unsafe { madvise(start, len, MmapAdvise::MADV_WIPEONFORK) }?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{child, here};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    #[test]
    fn a_stamp_is_the_same_for_every_thread() {
        let here = Stamp::here().unwrap();
        let there = std::thread::spawn(|| Stamp::here().unwrap()).join().unwrap();
        assert_eq!(here, there);
        assert!(here.is_here());
    }

    #[test]
    fn a_forked_child_and_its_child_have_others() {
        let (status, said) = child::run(here!("a_forked_child_and_its_child_have_others"), || {
            fn forked(check: impl FnOnce() -> bool) -> bool {
                // SAFETY: the child does nothing but atomics, fork and _exit.
                match unsafe { fork() }.unwrap() {
                    ForkResult::Parent { child } => waitpid(child, None) == Ok(WaitStatus::Exited(child, 0)),
                    ForkResult::Child => {
                        let code = i32::from(!check());
                        // SAFETY: _exit has no preconditions.
                        unsafe { nix::libc::_exit(code) }
                    }
                }
            }
            let top = Stamp::here().unwrap();
            assert!(forked(|| {
                let before = top.is_here();
                let own = Stamp::here().unwrap();
                !before && own != top && own.is_here() && forked(|| !own.is_here() && !top.is_here())
            }));
            assert!(top.is_here(), "the parent's is untouched");
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }
}
