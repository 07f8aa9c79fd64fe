//! The identity block: 256 bytes that say what a segment is, under one checksum.
//!
//! ```text
//!   0 magic 8   | 8 major 2 | 10 minor 2 | 12 header length 4
//!  16 page 4    | 20 slots 4 | 24 capacity 8
//!  32 record limit 4 | 36 checksum kind 4 | 40 features 8
//!  48 schema 8  | 56 channel 8
//!  64 generation 8 | 72 segment 8
//!  80 first sequence 8 | 88 predecessor 8 | 96 predecessor's end 8 (position, or all ones: unknown)
//! 104 owner: pid 4, pid namespace 4, start time 8, boot id 16
//! 136 created 8 (nanoseconds since 1970) | 144 beat interval 4 (ms; 0: no beats promised) | 148 zero …
//! 252 CRC-32C over bytes 0..252
//! ```
//!
//! Bytes come in as an [`UnverifiedIdentity`] and leave as an [`Identity`]; nothing else reads them.

use crate::canary;
use crate::checksum::crc32c;
use crate::layout::{
    ALIGN, Geometry, IDENTITY_LEN, MAGIC, MAJOR, MAX_CAPACITY, MAX_PAGE, MAX_POSITION, MAX_SEQUENCE, MAX_SLOTS,
    MIN_CAPACITY, MIN_PAGE, MINOR, max_record,
};
use crate::memory::Shape;
use crate::word::{Checksum, SegmentId};

/// Feature bits of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u64);

impl Features {
    /// The writer is registered for `membarrier`, and leaves the fence of each push to the rare side.
    pub const MEMBARRIER: u64 = 1;
    /// Somewhere behind this generation a reader table, or a place in one, was lost: a durable reader whose name is not known here
    /// may have been registered, and may have lost records. Every successor keeps the bit.
    pub const LOST_PLACES: u64 = 2;
    /// Bits that this build knows.
    pub const KNOWN: u64 = Self::MEMBARRIER | Self::LOST_PLACES;
    /// Bits from here on must be understood by whoever attaches; the lower 32 may be ignored.
    pub const REQUIRED: u64 = !0 << 32;

    /// Whether `bit` is set.
    pub const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

/// Who made the segment: opaque to the protocol, for people and for evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Process id, as it sees itself.
    pub pid: u32,
    /// Inode number of its pid namespace.
    pub pid_namespace: u32,
    /// Its start time, in clock ticks since boot.
    pub start: u64,
    /// The kernel's boot id.
    pub boot: [u8; 16],
}

/// The segment that this one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Its id.
    pub segment: SegmentId,
    /// Where it ended, in bytes; `None` if nobody could know.
    pub end: Option<u64>,
}

/// What a segment is. Only [`UnverifiedIdentity::verify`] and the builder make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Layout minor version that it was written with.
    pub minor: u16,
    /// Where its parts lie.
    pub geometry: Geometry,
    /// Largest payload, in bytes.
    pub record_limit: u32,
    /// What checksums cover.
    pub checksum: Checksum,
    /// Feature bits.
    pub features: Features,
    /// Fingerprint of what the user says the records are; 0 if nothing was said.
    pub schema: u64,
    /// Id of the channel's incarnation: the same in all its generations.
    pub channel: u64,
    /// Number of the generation, from 1.
    pub generation: u64,
    /// Id of the segment.
    pub segment: SegmentId,
    /// Sequence number of the first record.
    pub first_sequence: u64,
    /// Which segment it follows; none for the first.
    pub predecessor: Option<Predecessor>,
    /// Who made it.
    pub owner: Owner,
    /// When, in nanoseconds since 1970; for people.
    pub created: u64,
    /// Promised time between heartbeats, in milliseconds; 0 if none are promised.
    pub beat_interval: u32,
}

/// Why bytes are not a segment that this build can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Fewer bytes than an identity block has.
    #[error(
        "{found} bytes, an identity block has {}; the file is cut or no ringward segment [RW-SEG-SHORT]",
        IDENTITY_LEN
    )]
    Short {
        /// Bytes that were there.
        found: usize,
    },
    /// Not a segment at all.
    #[error("the first bytes are {found:02x?}, not \"RINGWARD\"; this is no ringward segment [RW-SEG-MAGIC]")]
    Magic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// Another layout.
    #[error(
        "layout version {found}.{minor}, this build reads {}.x; use the build that made it, or make the channel anew [RW-SEG-MAJOR]",
        MAJOR
    )]
    Major {
        /// Major version that was found.
        found: u16,
        /// Minor version that was found.
        minor: u16,
    },
    /// The identity was damaged.
    #[error("identity checksum {found:#010x}, computed {computed:#010x}; the header is damaged [RW-SEG-CRC]")]
    Crc {
        /// As stored.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// Needs something that this build does not know.
    #[error("needs feature bits {missing:#x} that this build does not know; use a newer build [RW-SEG-FEATURES]")]
    Features {
        /// The unknown bits.
        missing: u64,
    },
    /// A number that cannot be.
    #[error("{what} is {found}, which no segment has; the header is forged or damaged [RW-SEG-FIELD]")]
    Field {
        /// Which field.
        what: &'static str,
        /// What it holds.
        found: u64,
    },
}

/// Identity bytes, copied out of a file and not yet believed.
#[derive(Debug, Clone, Copy)]
pub struct UnverifiedIdentity<'b>(pub &'b [u8]);

impl UnverifiedIdentity<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(found) = self.0.get(at..at + N) {
            out.copy_from_slice(found);
        }
        out
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    /// Checks everything that the block says about itself.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], the first of: too short, wrong magic, another major, wrong checksum, unknown required feature,
    /// impossible field.
    pub fn verify(self) -> Result<Identity, IdentityError> {
        if self.0.len() < IDENTITY_LEN {
            return Err(IdentityError::Short { found: self.0.len() });
        }
        let magic = self.bytes(0);
        if magic != MAGIC {
            return Err(IdentityError::Magic { found: magic });
        }
        let major = u16::from_le_bytes(self.bytes(8));
        let minor = u16::from_le_bytes(self.bytes(10));
        if major != MAJOR && !canary!("newer-major-read") {
            return Err(IdentityError::Major { found: major, minor });
        }
        let found = self.u32(IDENTITY_LEN - 4);
        let computed = crc32c(&self.0[..IDENTITY_LEN - 4]);
        if found != computed && !canary!("identity-checksum-skipped") {
            return Err(IdentityError::Crc { found, computed });
        }
        let features = Features(self.u64(40));
        let missing = features.0 & Features::REQUIRED & !Features::KNOWN;
        if missing != 0 && !canary!("feature-bits-ignored") {
            return Err(IdentityError::Features { missing });
        }
        let field = |what, found: u64, ok: bool| match ok || canary!("fields-trusted") {
            true => Ok(()),
            false => Err(IdentityError::Field { what, found }),
        };
        let header_len = self.u32(12);
        field("header length", header_len.into(), header_len as usize == IDENTITY_LEN)?;
        let geometry = Geometry { page: self.u32(16), slots: self.u32(20), capacity: self.u64(24) };
        let page = geometry.page;
        field("page unit", page.into(), page.is_power_of_two() && (MIN_PAGE..=MAX_PAGE).contains(&page))?;
        field("number of reader slots", geometry.slots.into(), (1..=MAX_SLOTS).contains(&geometry.slots))?;
        let capacity = geometry.capacity;
        let sound = capacity.is_power_of_two() && (MIN_CAPACITY.max(page.into())..=MAX_CAPACITY).contains(&capacity);
        field("capacity", capacity, sound)?;
        let record_limit = self.u32(32);
        field("record limit", record_limit.into(), u64::from(record_limit) <= max_record(capacity))?;
        let checksum = Checksum(self.u32(36));
        field("checksum kind", checksum.0.into(), checksum.known().is_some())?;
        let generation = self.u64(64);
        field("generation", generation, generation >= 1)?;
        let segment = SegmentId(self.u64(72));
        field("segment id", segment.0, segment.is_valid())?;
        let first_sequence = self.u64(80);
        field("first sequence", first_sequence, first_sequence < MAX_SEQUENCE)?;
        let before = SegmentId(self.u64(88));
        field("predecessor id", before.0, before.0 == 0 || before.is_valid())?;
        let end = self.u64(96);
        field("predecessor's end", end, end == u64::MAX || (end.is_multiple_of(ALIGN) && end < 2 * MAX_POSITION))?;
        let predecessor =
            (before.0 != 0).then_some(Predecessor { segment: before, end: (end != u64::MAX).then_some(end) });
        Ok(Identity {
            minor,
            geometry,
            record_limit,
            checksum,
            features,
            schema: self.u64(48),
            channel: self.u64(56),
            generation,
            segment,
            first_sequence,
            predecessor,
            owner: Owner {
                pid: self.u32(104),
                pid_namespace: self.u32(108),
                start: self.u64(112),
                boot: self.bytes(120),
            },
            created: self.u64(136),
            beat_interval: self.u32(144),
        })
    }
}

impl Identity {
    /// The bytes as they lie in the segment.
    pub fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut out = [0u8; IDENTITY_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &MAJOR.to_le_bytes());
        put(10, &MINOR.to_le_bytes());
        put(12, &(IDENTITY_LEN as u32).to_le_bytes());
        put(16, &self.geometry.page.to_le_bytes());
        put(20, &self.geometry.slots.to_le_bytes());
        put(24, &self.geometry.capacity.to_le_bytes());
        put(32, &self.record_limit.to_le_bytes());
        put(36, &self.checksum.0.to_le_bytes());
        put(40, &self.features.0.to_le_bytes());
        put(48, &self.schema.to_le_bytes());
        put(56, &self.channel.to_le_bytes());
        put(64, &self.generation.to_le_bytes());
        put(72, &self.segment.0.to_le_bytes());
        put(80, &self.first_sequence.to_le_bytes());
        put(88, &self.predecessor.map_or(0, |p| p.segment.0).to_le_bytes());
        put(96, &self.predecessor.map_or(0, |p| p.end.unwrap_or(u64::MAX)).to_le_bytes());
        put(104, &self.owner.pid.to_le_bytes());
        put(108, &self.owner.pid_namespace.to_le_bytes());
        put(112, &self.owner.start.to_le_bytes());
        put(120, &self.owner.boot);
        put(136, &self.created.to_le_bytes());
        put(144, &self.beat_interval.to_le_bytes());
        let crc = crc32c(&out[..IDENTITY_LEN - 4]);
        out[IDENTITY_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// What the protocol needs of it.
    pub fn shape(&self) -> Shape {
        Shape {
            segment: self.segment,
            capacity: self.geometry.capacity,
            record_limit: self.record_limit.into(),
            checksum: self.checksum,
            first_sequence: self.first_sequence,
            membarrier: self.features.has(Features::MEMBARRIER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn sound() -> Identity {
        Identity {
            minor: MINOR,
            geometry: Geometry { page: MIN_PAGE, slots: 4, capacity: 8192 },
            record_limit: 1000,
            checksum: Checksum::FULL,
            features: Features::default(),
            schema: 1,
            channel: 2,
            generation: 3,
            segment: SegmentId::from_random(0x1122_3344_5566_7788),
            first_sequence: 10,
            predecessor: Some(Predecessor { segment: SegmentId::from_random(1 << 20), end: Some(96) }),
            owner: Owner { pid: 4, pid_namespace: 5, start: 6, boot: [7; 16] },
            created: 8,
            beat_interval: 9,
        }
    }

    /// The block with `bytes` at `at`, under a checksum that holds.
    fn with(at: usize, bytes: &[u8]) -> [u8; IDENTITY_LEN] {
        let mut block = sound().encode();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c(&block[..IDENTITY_LEN - 4]);
        block[IDENTITY_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    #[test]
    fn what_goes_in_comes_out() {
        for predecessor in [sound().predecessor, None, sound().predecessor.map(|p| Predecessor { end: None, ..p })] {
            let identity = Identity { predecessor, ..sound() };
            assert_eq!(UnverifiedIdentity(&identity.encode()).verify(), Ok(identity));
        }
    }

    #[rstest]
    #[case::header_len("header length", 12, &[255u32, 257, 0], &[256])]
    #[case::page("page unit", 16, &[0, 2048, MIN_PAGE + 1, 3 * MIN_PAGE, 2 * MAX_PAGE], &[MIN_PAGE, 2 * MIN_PAGE])]
    #[case::slots("number of reader slots", 20, &[0, MAX_SLOTS + 1], &[1, MAX_SLOTS])]
    #[case::record_limit("record limit", 32, &[4096 - 23, u32::MAX], &[0, 4096 - 24])]
    #[case::checksum("checksum kind", 36, &[0, 7], &[Checksum::HEADER.0])]
    fn a_word_that_no_segment_has_is_refused_by_its_name(
        #[case] what: &'static str,
        #[case] at: usize,
        #[case] bad: &[u32],
        #[case] good: &[u32],
    ) {
        for word in bad {
            let refused = IdentityError::Field { what, found: (*word).into() };
            assert_eq!(UnverifiedIdentity(&with(at, &word.to_le_bytes())).verify(), Err(refused));
        }
        for word in good {
            assert!(UnverifiedIdentity(&with(at, &word.to_le_bytes())).verify().is_ok(), "{what}: {word}");
        }
    }

    #[rstest]
    #[case::capacity("capacity", 24, &[0, 2048, 12288, 2 * MAX_CAPACITY, MAX_CAPACITY + 1], &[MIN_CAPACITY, MAX_CAPACITY])]
    #[case::generation("generation", 64, &[0], &[1, u64::MAX])]
    #[case::segment("segment id", 72, &[0, 1, sound().segment.0 ^ 1], &[SegmentId::from_random(9 << 20).0])]
    #[case::first_sequence("first sequence", 80, &[MAX_SEQUENCE, u64::MAX], &[0, MAX_SEQUENCE - 1])]
    #[case::predecessor("predecessor id", 88, &[1, sound().segment.0 ^ 1 << 60], &[0, sound().segment.0])]
    #[case::end("predecessor's end", 96, &[33, 2 * MAX_POSITION, u64::MAX - 31], &[0, 2 * MAX_POSITION - ALIGN, u64::MAX])]
    fn a_long_word_that_no_segment_has_is_refused_by_its_name(
        #[case] what: &'static str,
        #[case] at: usize,
        #[case] bad: &[u64],
        #[case] good: &[u64],
    ) {
        for word in bad {
            let refused = IdentityError::Field { what, found: *word };
            assert_eq!(UnverifiedIdentity(&with(at, &word.to_le_bytes())).verify(), Err(refused));
        }
        for word in good {
            assert!(UnverifiedIdentity(&with(at, &word.to_le_bytes())).verify().is_ok(), "{what}: {word:#x}");
        }
    }

    #[test]
    fn a_capacity_holds_at_least_one_page_unit() {
        let mut block = with(16, &(4 * MIN_PAGE).to_le_bytes());
        let found = UnverifiedIdentity(&block).verify();
        assert_eq!(found, Err(IdentityError::Field { what: "capacity", found: 8192 }));
        block = Identity { geometry: Geometry { page: 4 * MIN_PAGE, slots: 1, capacity: 16384 }, ..sound() }.encode();
        assert!(UnverifiedIdentity(&block).verify().is_ok());
    }

    #[test]
    fn an_unknown_feature_is_refused_only_if_it_must_be_understood() {
        for bit in 0..64 {
            let features = 1u64 << bit | Features::MEMBARRIER;
            let found = UnverifiedIdentity(&with(40, &features.to_le_bytes())).verify();
            match bit {
                0..32 => assert_eq!(found.map(|identity| identity.features), Ok(Features(features)), "bit {bit}"),
                _ => assert_eq!(found, Err(IdentityError::Features { missing: 1 << bit })),
            }
        }
    }

    #[test]
    fn a_feature_is_there_if_its_bit_is() {
        let both = Features(Features::MEMBARRIER | Features::LOST_PLACES);
        assert!(both.has(Features::MEMBARRIER) && both.has(Features::LOST_PLACES));
        assert!(!Features(Features::LOST_PLACES).has(Features::MEMBARRIER));
        assert!(!Features::default().has(Features::MEMBARRIER));
        assert!([Features::MEMBARRIER, Features::LOST_PLACES].iter().all(|bit| Features::KNOWN & bit == *bit));
        for (features, membarrier) in [(both, true), (Features(Features::LOST_PLACES), false)] {
            assert_eq!(Identity { features, ..sound() }.shape().membarrier, membarrier);
        }
    }
}
