//! Walking a ring's bytes: records in order, and the holes between them.

use core::ops::RangeInclusive;

use crate::cursor::Mark;
use crate::layout::{ALIGN, RECORD_HEADER};
use crate::memory::Shape;
use crate::record::RecordHeader;
use crate::word::{Checksum, RecordKind};

/// What lies at a position of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece<'b> {
    /// A record whose checksum holds. On a channel with [`Checksum::HEADER`] that says nothing about its payload.
    Record {
        /// Where it begins, in bytes.
        position: u64,
        /// Its sequence number.
        sequence: u64,
        /// The user's record type.
        record_type: u32,
        /// Its payload, in the bytes that were decoded.
        payload: &'b [u8],
    },
    /// A sound wrap marker: filler up to the end of the ring.
    Wrap {
        /// Where it begins, in bytes.
        position: u64,
        /// Bytes of the filler, its header included.
        len: u64,
    },
    /// Bytes that hold nothing sound, where records should be.
    Lost {
        /// Where the hole begins, in bytes.
        position: u64,
        /// Bytes of the hole; 0 if sequence numbers jump between two sound records.
        len: u64,
        /// The first sequence number that is lost, if that can be known.
        from: Option<u64>,
        /// Exactly how many records are lost, if that can be known; 0 if only a wrap marker is.
        count: Option<u64>,
    },
    /// Bytes that hold nothing sound and need not: every reader had released them, so the writer may have begun to use
    /// them again.
    Stale {
        /// Where they begin, in bytes.
        position: u64,
        /// How many.
        len: u64,
    },
}

/// A sound record or wrap marker.
#[derive(Debug, Clone, Copy)]
struct Found<'b> {
    position: u64,
    header: RecordHeader,
    payload: &'b [u8],
}

/// The data part of a segment's copy; it may be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring<'b> {
    pub(super) data: &'b [u8],
    pub(super) shape: Shape,
}

impl<'b> Ring<'b> {
    fn bytes(&self, offset: u64, len: u64) -> Option<&'b [u8]> {
        let from = usize::try_from(offset).ok()?;
        self.data.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    }

    fn header(&self, position: u64) -> Option<RecordHeader> {
        let bytes = self.bytes(self.shape.offset(position), RECORD_HEADER)?;
        let mut words = [0; 3];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        }
        Some(RecordHeader::from_words(words))
    }

    /// What is sound at `position`, if it ends at or before `limit` and its number is one of `sequences`; otherwise how
    /// many bytes were checksummed in vain.
    fn sound(&self, position: u64, limit: u64, sequences: RangeInclusive<u64>) -> Result<Found<'b>, u64> {
        let header = self.header(position).ok_or(0u64)?;
        if !header.plausible(&self.shape, position, limit) || !sequences.contains(&header.sequence) {
            return Err(0);
        }
        let len = if header.kind == RecordKind::DATA { u64::from(header.len) } else { 0 };
        let payload = self.bytes(self.shape.offset(position) + RECORD_HEADER, len).ok_or(0u64)?;
        if header.verify(&self.shape, position, payload) {
            Ok(Found { position, header, payload })
        } else {
            Err(RECORD_HEADER + if self.shape.checksum == Checksum::HEADER { 0 } else { len })
        }
    }

    /// Follows sound records from `at` for as long as they come with the numbers that they should have and end at or
    /// before `limit`; returns where that stops, and how many there were.
    pub(super) fn follow(&self, mut at: Mark, limit: u64) -> (Mark, u64) {
        let mut count = 0;
        while at.position < limit {
            let Ok(found) = self.sound(at.position, limit, at.sequence..=at.sequence) else { break };
            at.position += found.header.span();
            if found.header.kind == RecordKind::DATA {
                count += 1;
                at.sequence = at.sequence.wrapping_add(1);
            }
        }
        (at, count)
    }

    /// Bytes of whole pages that hold nothing but zeros, in `len` bytes from `position` on, and the first of them.
    pub(super) fn zero_pages(&self, position: u64, len: u64, page: u64) -> Option<(u64, u64)> {
        let end = position.saturating_add(len.min(self.shape.capacity));
        let mut at = position.next_multiple_of(page);
        let (mut first, mut bytes) = (None, 0);
        while at + page <= end {
            if self.bytes(self.shape.offset(at), page).is_some_and(|b| b.iter().all(|b| *b == 0)) {
                first = first.or(Some(self.shape.offset(at)));
                bytes += page;
            }
            at += page;
        }
        first.map(|first| (first, bytes))
    }
}

/// The pieces of a ring, oldest first: see [`Image::pieces`](super::Image::pieces).
///
/// Ends after time that grows with the capacity, whatever the bytes are.
#[derive(Debug, Clone)]
pub struct Pieces<'b> {
    ring: Ring<'b>,
    at: u64,
    expected: Option<u64>,
    end: u64,
    end_sequence: Option<u64>,
    /// From here on everything must be sound.
    kept: u64,
    kept_sequence: Option<u64>,
    /// Bytes that may still be checksummed in vain.
    budget: u64,
}

impl<'b> Pieces<'b> {
    /// What lies in front of `end`, whose sequence number may be known; from `kept` on all of it must be sound.
    pub(super) fn new(ring: Ring<'b>, end: (u64, Option<u64>), kept: (u64, Option<u64>)) -> Pieces<'b> {
        let at = end.0.saturating_sub(ring.shape.capacity);
        let expected = (at == 0).then_some(ring.shape.first_sequence);
        // A hostile writer can place a header at every border, each with a long payload that does not check.
        let budget = ring.shape.capacity.saturating_mul(16).max(1 << 20);
        Pieces { ring, at, expected, end: end.0, end_sequence: end.1, kept: kept.0, kept_sequence: kept.1, budget }
    }

    /// No pieces.
    pub(super) fn none() -> Pieces<'b> {
        let shape = Shape {
            segment: crate::word::SegmentId(0),
            capacity: ALIGN,
            record_limit: 0,
            checksum: Checksum::FULL,
            first_sequence: 0,
            membarrier: false,
        };
        Pieces::new(Ring { data: &[], shape }, (0, None), (0, None))
    }

    /// The number of the record at [`Self::end`], once all pieces were taken and if they lead up to it.
    pub(super) fn reached(&self) -> Option<u64> {
        self.expected.or(self.end_sequence)
    }

    /// Whether the search for sound records was given up because too much was checksummed in vain.
    pub(super) fn gave_up(&self) -> bool {
        self.budget == 0
    }

    /// Numbers that something at `position` can have, if it is no older than `least`.
    fn sequences(&self, position: u64, least: u64) -> RangeInclusive<u64> {
        let most = self.ring.shape.first_sequence.saturating_add(position / ALIGN);
        least..=self.end_sequence.map_or(most, |end| end.min(most))
    }

    /// Whether its number lies in front of the one that the end is known to have.
    fn numbered(&self, found: &Found<'b>) -> bool {
        found.header.kind == RecordKind::WRAP || self.end_sequence.is_none_or(|end| found.header.sequence < end)
    }

    /// The next sound record or wrap marker at or behind `from`.
    fn search(&mut self, from: u64, least: u64) -> Option<Found<'b>> {
        let mut position = from;
        while position < self.end && self.budget != 0 {
            match self.ring.sound(position, self.end, self.sequences(position, least)) {
                Ok(found) if self.numbered(&found) => return Some(found),
                Ok(found) => self.budget = self.budget.saturating_sub(found.header.span()),
                Err(vain) => self.budget = self.budget.saturating_sub(vain),
            }
            position += ALIGN;
        }
        None
    }

    fn hole(&self, from: u64, expected: Option<u64>, to: u64, sequence: Option<u64>) -> Option<Piece<'b>> {
        if to <= self.kept {
            return (to > from).then_some(Piece::Stale { position: from, len: to - from });
        }
        let position = from.max(self.kept);
        let known = if position == self.kept { self.kept_sequence } else { None };
        let first = if position == from { expected.or(known) } else { known };
        let count = first.zip(sequence).map(|(first, found)| found.saturating_sub(first));
        let hole = Piece::Lost { position, len: to - position, from: first, count };
        (to > position || count.is_some_and(|count| count > 0)).then_some(hole)
    }

    fn step(&mut self, found: &Found<'b>) -> Piece<'b> {
        let Found { position, header, payload } = *found;
        self.at = position + header.span();
        if header.kind == RecordKind::WRAP {
            self.expected = Some(header.sequence);
            return Piece::Wrap { position, len: header.span() };
        }
        self.expected = header.sequence.checked_add(1);
        Piece::Record { position, sequence: header.sequence, record_type: header.record_type, payload }
    }
}

impl<'b> Iterator for Pieces<'b> {
    type Item = Piece<'b>;

    fn next(&mut self) -> Option<Piece<'b>> {
        loop {
            if self.at >= self.end {
                // The records must add up to the number that the end is known to have.
                return match (self.expected, self.end_sequence) {
                    (Some(next), Some(end)) if next < end => {
                        self.expected = Some(end);
                        let hole =
                            Piece::Lost { position: self.end, len: 0, from: Some(next), count: Some(end - next) };
                        Some(hole)
                    }
                    _ => None,
                };
            }
            let (from, expected) = (self.at, self.expected);
            if let Some(next) = expected {
                match self.ring.sound(from, self.end, next..=next) {
                    Ok(found) if self.numbered(&found) => return Some(self.step(&found)),
                    _ => {}
                }
            }
            let found = self.search(from, expected.unwrap_or(self.ring.shape.first_sequence));
            let (to, sequence) = found.map_or((self.end, self.end_sequence), |f| (f.position, Some(f.header.sequence)));
            self.at = to;
            self.expected = sequence;
            if let Some(hole) = self.hole(from, expected, to, sequence) {
                return Some(hole);
            }
        }
    }
}
