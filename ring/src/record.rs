//! The record codec: `[len][kind][type][crc][sequence][payload][padding]`, aligned to 32 bytes.
//!
//! ```text
//! 0     4      8      12    16         24        24 + len
//! | len | kind | type | crc | sequence | payload | zero to 31 bytes of padding |
//! ```

use crate::canary;
use crate::checksum::RecordCrc;
use crate::cursor::Mark;
use crate::layout::{ALIGN, RECORD_HEADER, record_len};
use crate::memory::{Data, Shape};
use crate::word::{Checksum, RecordKind};

/// A record's header, as copied out of the ring; untrusted until [`RecordHeader::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) len: u32,
    pub(crate) kind: RecordKind,
    pub(crate) record_type: u32,
    pub(crate) crc: u32,
    pub(crate) sequence: u64,
}

impl RecordHeader {
    #[inline(always)]
    pub(crate) fn to_words(self) -> [u64; 3] {
        [
            u64::from(self.len) | u64::from(self.kind.0) << 32,
            u64::from(self.record_type) | u64::from(self.crc) << 32,
            self.sequence,
        ]
    }

    #[inline(always)]
    pub(crate) fn from_words(words: [u64; 3]) -> RecordHeader {
        RecordHeader {
            len: words[0] as u32,
            kind: RecordKind((words[0] >> 32) as u32),
            record_type: words[1] as u32,
            crc: (words[1] >> 32) as u32,
            sequence: words[2],
        }
    }

    /// Begins the checksum that this header claims, for a record at `position`.
    #[inline(always)]
    pub(crate) fn begin_crc(&self, shape: &Shape, position: u64) -> RecordCrc {
        RecordCrc::new(shape.segment, position, self.kind, self.len, self.record_type, self.sequence)
    }

    /// Bytes that the whole record takes in the ring.
    #[inline(always)]
    pub(crate) fn span(&self) -> u64 {
        record_len(u64::from(self.len))
    }

    /// Whether the numbers of a header found at `position` are possible at all: a known kind, inside the ring, inside
    /// `limit`. Says nothing about the checksum.
    #[inline(always)]
    pub(crate) fn plausible(&self, shape: &Shape, position: u64, limit: u64) -> bool {
        let to_end = shape.capacity - shape.offset(position);
        let span = self.span();
        if (span > to_end || span > limit - position) && !canary!("length-unbounded") {
            return false;
        }
        match self.kind {
            RecordKind::DATA => u64::from(self.len) <= shape.record_limit,
            RecordKind::WRAP => span == to_end,
            _ => false,
        }
    }

    /// Whether the checksum holds; `payload` is the private copy of exactly `len` bytes (ignored for wrap markers and
    /// for channels with [`Checksum::HEADER`]).
    #[inline(always)]
    pub(crate) fn verify(&self, shape: &Shape, position: u64, payload: &[u8]) -> bool {
        let mut crc = self.begin_crc(shape, position);
        if self.kind == RecordKind::DATA && shape.checksum != Checksum::HEADER {
            crc.update(payload);
        }
        crc.finish() == self.crc || canary!("checksum-not-verified")
    }
}

/// The wrap marker for what is left behind `position`.
#[inline]
pub(crate) fn wrap_marker(shape: &Shape, position: u64, sequence: u64) -> RecordHeader {
    let to_end = shape.capacity - shape.offset(position);
    let mut header = RecordHeader {
        len: (to_end - RECORD_HEADER).min(u64::from(u32::MAX)) as u32,
        kind: RecordKind::WRAP,
        record_type: 0,
        crc: 0,
        sequence,
    };
    header.crc = header.begin_crc(shape, position).finish();
    header
}

/// Loads the header at `position`.
#[inline(always)]
pub(crate) fn load(data: &Data<'_>, shape: &Shape, position: u64) -> Option<RecordHeader> {
    data.load_header(shape.offset(position)).map(RecordHeader::from_words)
}

/// Where a search for the next sound record begins, and what it may find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    /// The last place that is known: a record there would have this number. Each record takes at least 32 bytes, so one that
    /// lies further on has at most so much a higher number.
    pub(crate) anchor: Mark,
    /// Looks from here on …
    pub(crate) from: u64,
    /// … up to here, for numbers up to this one.
    pub(crate) to: Mark,
}

/// Searches for the first sound record or wrap marker, at every possible border.
///
/// Position and segment id are in each checksum, so that what is found really was written there, in this segment and in
/// this lap. `scratch` takes the private copies. Hostile bytes can make every border look like the longest record: what is
/// checksummed in vain is bounded, and then nothing is found.
pub(crate) fn resync(data: &Data<'_>, shape: &Shape, search: &Search, scratch: &mut Vec<u8>) -> Option<Mark> {
    let Search { anchor, from, to } = *search;
    let mut position = from.next_multiple_of(ALIGN);
    let mut budget = (16 * shape.capacity).max(1 << 20);
    while position < to.position {
        let header = load(data, shape, position)?;
        let possible = header.plausible(shape, position, to.position)
            && (anchor.sequence..=to.sequence).contains(&header.sequence)
            && header.sequence - anchor.sequence <= position.saturating_sub(anchor.position) / ALIGN;
        if possible {
            let payload = header.kind == RecordKind::DATA && shape.checksum != Checksum::HEADER;
            let cost = if payload { header.span() } else { RECORD_HEADER };
            budget = budget.checked_sub(cost)?;
            let sound = if payload {
                scratch.resize(header.len as usize, 0);
                data.load(shape.offset(position) + RECORD_HEADER, scratch) && header.verify(shape, position, scratch)
            } else {
                header.verify(shape, position, &[])
            };
            if sound {
                return Some(Mark { position, sequence: header.sequence });
            }
        }
        position += ALIGN;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::SegmentId;

    #[test]
    fn what_reaches_beyond_its_place_is_not_plausible() {
        let shape = Shape {
            segment: SegmentId::from_random(1 << 20),
            capacity: 4096,
            record_limit: 1000,
            checksum: Checksum::FULL,
            first_sequence: 0,
            membarrier: true,
        };
        let header = |kind, len| RecordHeader { len, kind, record_type: 0, crc: 0, sequence: 0 };
        let plausible = |kind, len, position, limit| header(kind, len).plausible(&shape, position, limit);
        assert!(plausible(RecordKind::DATA, 1000, 0, 1024));
        assert!(!plausible(RecordKind::DATA, 1000, 0, 992), "beyond what was published");
        assert!(plausible(RecordKind::DATA, 1000, 4096, 4096 + 1024));
        assert!(!plausible(RecordKind::DATA, 1000, 4096, 4096 + 992), "beyond what was published, in the second lap");
        assert!(!plausible(RecordKind::DATA, 1001, 0, 4096), "over the channel's limit");
        assert!(!plausible(RecordKind::DATA, 1000, 4096 * 7 - 992, 1 << 20), "beyond the end of the ring");
        assert!(!plausible(RecordKind::DATA, u32::MAX, 0, 1 << 40));
        assert!(plausible(RecordKind::WRAP, 40, 4096 - 64, 4096));
        assert!(!plausible(RecordKind::WRAP, 8, 4096 - 64, 4096), "short of the end of the ring");
        assert!(!plausible(RecordKind(7), 8, 0, 4096), "of no kind that there is");
    }
}
