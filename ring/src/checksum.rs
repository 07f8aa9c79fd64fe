//! CRC-32C over a record: header fields, position, segment id, and the payload where the channel asks for it.
//!
//! Position and segment id are part of it so that a stale, misplaced, lapped or zeroed record never passes for a good one:
//! the same bytes at another place, or in another segment, have another checksum.

use crc_fast::{CrcAlgorithm, Digest};

use crate::canary;
use crate::word::{RecordKind, SegmentId};

/// The running checksum of one record.
pub(crate) struct RecordCrc(Digest);

impl RecordCrc {
    /// Starts with everything but the payload.
    #[inline]
    pub(crate) fn new(
        segment: SegmentId,
        position: u64,
        kind: RecordKind,
        len: u32,
        record_type: u32,
        sequence: u64,
    ) -> Self {
        let _ = canary!("harmless"); // a bug that is none
        let mut preamble = [0u8; 36];
        preamble[0..4].copy_from_slice(&len.to_le_bytes());
        preamble[4..8].copy_from_slice(&kind.0.to_le_bytes());
        preamble[8..12].copy_from_slice(&record_type.to_le_bytes());
        preamble[12..20].copy_from_slice(&sequence.to_le_bytes());
        if !canary!("position-left-out") {
            preamble[20..28].copy_from_slice(&position.to_le_bytes());
        }
        if !canary!("segment-left-out") {
            preamble[28..36].copy_from_slice(&segment.0.to_le_bytes());
        }
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&preamble);
        RecordCrc(digest)
    }

    /// Adds payload bytes.
    #[inline]
    pub(crate) fn update(&mut self, payload: &[u8]) {
        self.0.update(payload);
    }

    /// The checksum.
    #[inline]
    pub(crate) fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
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
