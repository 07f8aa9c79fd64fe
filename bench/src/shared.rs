//! Memory that several processes of a run map: what the textbook ring, the line probe and the futex pair are made of.
//!
//! # Safety
//!
//! A mapping is of a file that the harness made and nobody cuts, and is as long as the file; words are atomics inside
//! it, and copies are checked against its length.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::MmapRaw;

use crate::Result;

/// A mapped file.
#[derive(Debug)]
pub struct Shared(MmapRaw);

impl Shared {
    /// Makes a file of `len` bytes of zeros and maps it.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn create(path: &Path, len: u64) -> Result<Shared> {
        let temporary = path.with_extension("new");
        let file = File::options().read(true).write(true).create_new(true).open(&temporary)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)?;
        let mapped = MmapRaw::map_raw(&file)?;
        std::fs::rename(&temporary, path)?;
        Ok(Shared(mapped))
    }

    /// Maps a file that another process has made.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn open(path: &Path) -> Result<Shared> {
        Ok(Shared(MmapRaw::map_raw(&File::options().read(true).write(true).open(path)?)?))
    }

    /// The word at `offset`.
    ///
    /// # Panics
    ///
    /// If it is not inside, or not aligned.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.0.len());
        // SAFETY: inside the mapping and aligned; any bytes are a valid atomic, whoever else stores there.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }

    /// The half word at `offset`, for a futex.
    ///
    /// # Panics
    ///
    /// If it is not inside, or not aligned.
    pub fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.0.len());
        // SAFETY: as in `word`.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    ///
    /// If they don't fit.
    #[inline(always)]
    pub fn store(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.0.len() && bytes.len() <= self.0.len() - offset);
        // SAFETY: inside the mapping; `bytes` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(offset), bytes.len()) }
    }

    /// Copies from `offset` into `bytes`.
    ///
    /// # Panics
    ///
    /// If there aren't as many.
    #[inline(always)]
    pub fn load(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset <= self.0.len() && bytes.len() <= self.0.len() - offset);
        // SAFETY: inside the mapping; `bytes` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(self.0.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }
}
