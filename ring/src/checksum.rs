//! CRC-32C over a record: header fields, position, segment id, and the payload where the channel asks for it.
//!
//! Position and segment id are part of it so that a stale, misplaced, lapped or zeroed record never passes for a good one:
//! the same bytes at another place, or in another segment, have another checksum.

use crate::canary;
use crate::copy::{self, Way};
use crate::word::{RecordKind, SegmentId};

/// The running checksum of one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordCrc {
    pub(crate) register: u32,
    pub(crate) way: Way,
}

impl RecordCrc {
    /// Starts with everything but the payload: 36 bytes, as four words and a half.
    #[inline(always)]
    pub(crate) fn new(
        segment: SegmentId,
        position: u64,
        kind: RecordKind,
        len: u32,
        record_type: u32,
        sequence: u64,
    ) -> Self {
        let _ = canary!("harmless"); // a bug that is none
        let position = if canary!("position-left-out") { 0 } else { position };
        let segment = if canary!("segment-left-out") { SegmentId(0) } else { segment };
        let pair = |low: u32, high: u64| u64::from(low) | high << 32;
        let words = [
            pair(len, u64::from(kind.0)),
            pair(record_type, sequence),
            pair((sequence >> 32) as u32, position),
            pair((position >> 32) as u32, segment.0),
        ];
        let way = Way::here();
        RecordCrc { register: copy::words(way, words, (segment.0 >> 32) as u32), way }
    }

    /// Adds payload bytes.
    #[inline(always)]
    pub(crate) fn update(&mut self, payload: &[u8]) {
        self.register = copy::over(self.way, self.register, payload);
    }

    /// The checksum.
    #[inline(always)]
    pub(crate) fn finish(self) -> u32 {
        !self.register
    }
}

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !copy::over(Way::here(), !0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn every_field_counts() {
        let base = || RecordCrc::new(SegmentId(7), 32, RecordKind::DATA, 4, 1, 9);
        let mut with = base();
        with.update(b"abcd");
        let plain = base().finish();
        let others = [
            with.finish(),
            RecordCrc::new(SegmentId(8), 32, RecordKind::DATA, 4, 1, 9).finish(),
            RecordCrc::new(SegmentId(7), 64, RecordKind::DATA, 4, 1, 9).finish(),
            RecordCrc::new(SegmentId(7), 32, RecordKind::WRAP, 4, 1, 9).finish(),
            RecordCrc::new(SegmentId(7), 32, RecordKind::DATA, 5, 1, 9).finish(),
            RecordCrc::new(SegmentId(7), 32, RecordKind::DATA, 4, 2, 9).finish(),
            RecordCrc::new(SegmentId(7), 32, RecordKind::DATA, 4, 1, 8).finish(),
        ];
        for other in others {
            assert_ne!(plain, other);
        }
    }
}
