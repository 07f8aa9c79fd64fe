//! Handing records over in place instead of copying them, between peers that trust each other: a writer fills a record where its readers will
//! find it ([`Reservation::in_place`]), a reader looks at it where the writer put it ([`Reader::lend`]).
//!
//! # Safety
//!
//! The one place where a `&[u8]` or a `&mut [u8]` to shared bytes leaves the library. Both take a [`TrustedPeers`], which can be had only by
//! an `unsafe` function that states the caller's obligation.
#![allow(unsafe_code)]

use crate::cursor::Mark;
use crate::layout::RECORD_HEADER;
use crate::memory::Memory;
use crate::reader::{Reader, RecvError, Taken};
use crate::record;
use crate::word::{Checksum, RecordKind};
use crate::writer::{FillError, Reservation};

/// Somebody's word that the processes at a channel can be trusted with each other's memory.
#[derive(Debug, Clone, Copy)]
pub struct TrustedPeers(());

impl TrustedPeers {
    /// Gives that word.
    ///
    /// # Safety
    ///
    /// For every segment that the value is used with, and as long as it is used there: no process stores into the segment, its header
    /// and reader table included, except through this library; it has one [`Writer`](crate::writer::Writer); nobody expels a reader
    /// ([`succession::expel`](crate::succession::expel)) or frees its place while it looks; and nobody truncates the file, punches holes into
    /// it or wipes it. Who breaks this changes bytes under a reference that somebody was lent, which is undefined behaviour there. (The
    /// process is not killed by a cut all the same: the guard puts zeros there, and [`RecvError::Truncated`] says so afterwards.)
    pub const unsafe fn vouch() -> TrustedPeers {
        TrustedPeers(())
    }
}

/// What [`Reader::lend`] found: what `look` made of the record, or why there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lent<R> {
    /// The value that `look` returned.
    Looked(R),
    /// No record: nothing yet, a gap, the end.
    Not(Taken),
}

impl<M: Memory> Reader<M> {
    /// Lends the next record in place: `look` gets sequence number, record type, payload and whether it may have been handed out before, the
    /// bytes where the writer put them. They are verified first (with checksums over headers only, their header is).
    ///
    /// The record is handed out, not released: [`release`](Self::release) gives its space back, together with all that was lent before.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Reader::try_recv). After `Truncated`, `look` may have seen zeros instead of the record.
    pub fn lend<R>(
        &mut self,
        _peers: TrustedPeers,
        look: impl FnOnce(u64, u32, &[u8], bool) -> R,
    ) -> Result<Lent<R>, RecvError> {
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
                // SAFETY: the caller has vouched for every process that could write there; the record is not released before the last
                // use of the slice: releasing takes `&mut self`, and `look` can't keep it.
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
            // In hand from here on: should this process die in `look`, the next one is told.
            let again = self.note_taken(at.sequence);
            // Here too, should `look` unwind and this process go on.
            self.redelivered_until = self.redelivered_until.max(at.sequence + 1);
            let result = look(at.sequence, header.record_type, bytes, again);
            if self.memory.poisoned() {
                return Err(RecvError::Truncated { next: at.sequence });
            }
            self.next = Mark { position: at.position + header.span(), sequence: at.sequence + 1 };
            return Ok(Lent::Looked(result));
        }
    }
}

impl<M: Memory> Reservation<'_, M> {
    /// Has `fill` write what is still to be filled, where the readers will find it. The bytes are what an older record left there. With
    /// checksums over everything they are summed up afterwards.
    ///
    /// # Errors
    ///
    /// [`FillError`] if the writer's own cursor no longer makes sense.
    pub fn in_place(&mut self, _peers: TrustedPeers, fill: impl FnOnce(&mut [u8])) -> Result<(), FillError> {
        let (at, len) = (self.place(), self.remaining());
        let writer = &*self.writer;
        // SAFETY: the range is this writer's alone: it has room for it (nobody who reads through the library looks there before the
        // commit), the reservation is borrowed mutably, and the caller has vouched for everybody else.
        let bytes = unsafe { writer.memory.data().lend_mut(at, len) };
        let Some(bytes) = bytes else { return Err(FillError { reserved: len, filled: 0 }) };
        fill(bytes);
        if let Some(crc) = self.crc.as_mut().filter(|_| writer.shape.checksum != Checksum::HEADER) {
            crc.update(bytes);
        }
        self.filled += len;
        Ok(())
    }
}
