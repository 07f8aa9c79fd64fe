//! Lending a record in place instead of copying it, for peers that trust each other.
//!
//! # Safety
//!
//! The one place where a `&[u8]` to shared bytes leaves the library, behind an `unsafe` method that states the caller's
//! obligation: [`Reader::lend`].
#![allow(unsafe_code)]

use crate::cursor::Mark;
use crate::layout::RECORD_HEADER;
use crate::memory::Memory;
use crate::reader::{Reader, RecvError, Taken};
use crate::record;
use crate::word::RecordKind;

/// What [`Reader::lend`] found: what `look` made of the record, or why there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lent<R> {
    /// The value that `look` returned.
    Looked(R),
    /// No record: nothing yet, a gap, the end.
    Not(Taken),
}

impl<M: Memory> Reader<M> {
    /// Lends the next record in place: `look` gets sequence number, record type and payload, the bytes where the writer
    /// put them. They are verified first, and released when `look` returns.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Reader::try_recv).
    ///
    /// # Safety
    ///
    /// Until `look` returns, no process may write to the segment's data except its writer through this library: a peer
    /// that breaks this races with the reads of `look`, which is undefined behaviour here. Nor may anybody truncate the
    /// file: the bytes would turn into zeros under `look`; that is noticed and reported afterwards, but `look` has then
    /// seen them.
    pub unsafe fn lend<R>(&mut self, look: impl FnOnce(u64, u32, &[u8]) -> R) -> Result<Lent<R>, RecvError> {
        loop {
            if self.next.position >= self.limit
                && let Some(taken) = self.refresh()?
            {
                return Ok(Lent::Not(taken));
            }
            let at = self.next;
            let header = record::load(&self.memory.data(), &self.shape, at.position).filter(|h| self.expected(h));
            let lent = header.and_then(|header| {
                let offset = self.shape.offset(at.position) + RECORD_HEADER;
                let len = if header.kind == RecordKind::WRAP { 0 } else { header.len as usize };
                // SAFETY: the caller vouches for every process that could write there; the record is released below,
                // after the last use of the slice.
                let bytes = unsafe { self.memory.data().lend(offset, len) }?;
                header.verify(&self.shape, at.position, bytes).then_some((header, bytes))
            });
            let Some((header, bytes)) = lent else {
                match self.lost()? {
                    Some(taken) => return Ok(Lent::Not(taken)),
                    None => continue,
                }
            };
            if header.kind == RecordKind::WRAP {
                self.next.position += header.span();
                continue;
            }
            let result = look(at.sequence, header.record_type, bytes);
            if self.memory.poisoned() {
                return Err(RecvError::Truncated { next: at.sequence });
            }
            self.next = Mark { position: at.position + header.span(), sequence: at.sequence + 1 };
            self.release();
            return Ok(Lent::Looked(result));
        }
    }
}
