//! Building a segment: complete, reserved and locked before anybody can see it, and then linked.
//!
//! # Safety
//!
//! One block: the identity is copied to the start of a mapping that is writable, at least a page long, and still nobody else's.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cursor::{Mark, OwnCursor};
use crate::identity::{Features, Identity, Owner, Predecessor};
use crate::layout::{Geometry, MAX_CAPACITY, MAX_PAGE, MAX_SLOTS, MIN_CAPACITY, WRITER_BYTE, max_record};
use crate::memory::Memory;
use crate::segment::{Segment, map_error, page_size};
use crate::sys::barrier;
use crate::sys::file::{self, ReserveError, Unnamed};
use crate::sys::lock::{self, Mode};
use crate::sys::map::{Dump, Mapping};
use crate::table::{self, Carried};
use crate::word::{Checksum, EndWord, SegmentId, State, SuccessorWord};

/// What is to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of the data ring: a power of two, at least a page.
    pub capacity: u64,
    /// Largest payload, in bytes; at most half the capacity less a record header.
    pub record_limit: u32,
    /// Reader slots, 1 to 64.
    pub slots: u32,
    /// What checksums cover.
    pub checksum: Checksum,
    /// Fingerprint of what the records are; 0 if nothing is said.
    pub schema: u64,
    /// Promised time between heartbeats, in milliseconds; 0 promises none.
    pub beat_interval: u32,
    /// Who builds it.
    pub owner: Owner,
    /// Permission bits of the file, exact whatever the umask says.
    pub mode: u32,
    /// Group of the file, if not the process's own.
    pub group: Option<u32>,
    /// Touch every page now, so that the first lap of the ring takes no page faults.
    pub touch: bool,
    /// Leave the mapping out of core dumps.
    pub no_dump: bool,
}

/// Where a built segment takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Id of the channel's incarnation.
    pub channel: u64,
    /// Number of the generation, from 1.
    pub generation: u64,
    /// Sequence number of its first record.
    pub first_sequence: u64,
    /// Which segment it follows.
    pub predecessor: Option<Predecessor>,
    /// Nanoseconds since 1970, for people.
    pub created: u64,
    /// A reader's place was lost on the way here: see [`Features::LOST_PLACES`].
    pub lost_places: bool,
}

/// Why a segment could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity cannot be.
    #[error(
        "capacity {found} is not a power of two from {least} to {most} bytes; the next possible one is {next} [RW-BUILD-CAPACITY]"
    )]
    Capacity {
        /// What was asked for, in bytes.
        found: u64,
        /// Smallest possible.
        least: u64,
        /// Largest possible.
        most: u64,
        /// Nearest possible one that is no smaller, or the largest.
        next: u64,
    },
    /// The record limit does not fit the capacity.
    #[error(
        "record limit {found} is over {most}, the most for a capacity of {capacity} bytes; lower it or raise the capacity [RW-BUILD-LIMIT]"
    )]
    RecordLimit {
        /// What was asked for, in bytes.
        found: u32,
        /// The most, in bytes.
        most: u64,
        /// Capacity, in bytes.
        capacity: u64,
    },
    /// The number of reader slots cannot be.
    #[error("{found} reader slots; a segment has 1 to {} [RW-BUILD-SLOTS]", MAX_SLOTS)]
    Slots {
        /// What was asked for.
        found: u32,
    },
    /// Not enough room; nothing was left behind.
    #[error(
        "no space: {wanted} bytes wanted, {free} free on this file system; free some or choose a smaller capacity [RW-BUILD-SPACE]"
    )]
    NoSpace {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes free.
        free: u64,
    },
    /// Over the file size limit of the process or the file system.
    #[error(
        "a file of {wanted} bytes is larger than this process or file system allows (see RLIMIT_FSIZE); choose a smaller capacity [RW-BUILD-LARGE]"
    )]
    TooLarge {
        /// Bytes wanted.
        wanted: u64,
    },
    /// Not permitted.
    #[error("not permitted to make a segment in this directory: {0}; look at its owner and mode [RW-BUILD-PERMISSION]")]
    Permission(#[source] io::Error),
    /// The directory is gone: the channel was retired meanwhile.
    #[error("the channel's directory is gone; open the channel again [RW-BUILD-GONE]")]
    Gone,
    /// Anything else that the system said.
    #[error("cannot build a segment: {doing}: {source} [RW-BUILD-SYSTEM]")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    fn system(doing: &'static str) -> impl FnOnce(io::Error) -> BuildError {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => BuildError::Permission(source),
            io::ErrorKind::NotFound => BuildError::Gone,
            _ => BuildError::System { doing, source },
        }
    }
}

/// A segment that is built complete and locked, but has no name yet: nobody can see it. Dropping it frees it.
#[derive(Debug)]
pub struct Prepared {
    segment: Segment,
    unnamed: Unnamed,
}

impl Spec {
    /// The geometry that this spec asks for.
    ///
    /// # Errors
    ///
    /// `Capacity`, `Slots`, `RecordLimit`.
    pub fn geometry(&self) -> Result<Geometry, BuildError> {
        let page = page_size();
        let least = MIN_CAPACITY.max(page.into());
        let found = self.capacity;
        if !found.is_power_of_two() || !(least..=MAX_CAPACITY).contains(&found) || page > MAX_PAGE {
            let next = found.checked_next_power_of_two().unwrap_or(MAX_CAPACITY).clamp(least, MAX_CAPACITY);
            return Err(BuildError::Capacity { found, least, most: MAX_CAPACITY, next });
        }
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            return Err(BuildError::Slots { found: self.slots });
        }
        let most = max_record(self.capacity);
        if u64::from(self.record_limit) > most {
            return Err(BuildError::RecordLimit { found: self.record_limit, most, capacity: self.capacity });
        }
        Ok(Geometry { page, slots: self.slots, capacity: self.capacity })
    }
}

impl Prepared {
    /// Builds a segment in `dir` without a name, with its memory reserved and the writer byte locked.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; nothing is left behind.
    pub fn build(dir: BorrowedFd<'_>, spec: &Spec, random: u64) -> Result<Prepared, BuildError> {
        let geometry = spec.geometry()?;
        let unnamed = file::create_unnamed(dir, spec.mode).map_err(BuildError::system("create an unnamed file"))?;
        let file = unnamed.file().try_clone().map_err(BuildError::system("duplicate a descriptor"))?;
        if let Some(group) = spec.group {
            std::os::unix::fs::fchown(&file, None, Some(group)).map_err(BuildError::system("set the group"))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(spec.mode);
            file.set_permissions(mode).map_err(BuildError::system("set the mode"))?;
        }
        file::reserve(&file, geometry.total()).map_err(|error| match error {
            ReserveError::NoSpace { wanted, free } => BuildError::NoSpace { wanted, free },
            ReserveError::TooLarge { wanted, .. } => BuildError::TooLarge { wanted },
            other => BuildError::System { doing: "reserve memory", source: io::Error::other(other.to_string()) },
        })?;
        let locked = lock::try_lock(file.as_fd(), WRITER_BYTE, Mode::Exclusive)
            .map_err(BuildError::system("lock the writer byte"))?;
        if !locked {
            let source = io::Error::other("somebody else holds byte 0 of a file without a name");
            return Err(BuildError::System { doing: "lock the writer byte", source });
        }
        let len = geometry.total() as usize;
        let all = 0..len;
        let mapping = Mapping::new(
            &file,
            len,
            std::slice::from_ref(&all),
            if spec.no_dump { Dump::Exclude } else { Dump::Include },
        )
        .map_err(|error| BuildError::system("map the segment")(map_error(error)))?;
        if spec.touch {
            mapping.pre_touch(all).map_err(BuildError::system("touch the pages"))?;
        }
        let key = file::file_key(file.as_fd()).map_err(BuildError::system("fstat"))?;
        let membarrier = barrier::register();
        let identity = Identity {
            minor: crate::layout::MINOR,
            geometry,
            record_limit: spec.record_limit,
            checksum: spec.checksum,
            features: Features(if membarrier { Features::MEMBARRIER } else { 0 }),
            schema: spec.schema,
            channel: 0,
            generation: 0,
            segment: SegmentId::from_random(random),
            first_sequence: 0,
            predecessor: None,
            owner: spec.owner,
            created: 0,
            beat_interval: spec.beat_interval,
        };
        let segment = Segment::over(mapping, Arc::new(file), key, identity)
            .ok_or(BuildError::TooLarge { wanted: geometry.total() })?;
        Ok(Prepared { segment, unnamed })
    }

    /// Reader slots that it has.
    pub fn slots(&self) -> u32 {
        self.segment.identity.geometry.slots
    }

    /// Id of the segment.
    pub fn id(&self) -> SegmentId {
        self.segment.identity.segment
    }

    /// Writes identity, words and reader table: the segment takes its place in a channel, in `state`.
    pub fn finish(&mut self, place: &Place, carried: &[Carried], state: State) {
        let identity = &mut self.segment.identity;
        identity.channel = place.channel;
        identity.generation = place.generation;
        identity.first_sequence = place.first_sequence;
        identity.predecessor = place.predecessor;
        identity.created = place.created;
        if place.lost_places {
            identity.features.0 |= Features::LOST_PLACES;
        }
        let bytes = identity.encode();
        // SAFETY: the identity block lies at the start of a mapping of at least a page that is writable, without a name,
        // and ours alone.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.segment.mapping.base(), bytes.len());
        }
        let memory = &&self.segment;
        let page = memory.page();
        page.succession.end.store(EndWord::UNDECIDED.0, Ordering::Relaxed);
        page.succession.successor.store(SuccessorWord::UNDECIDED.0, Ordering::Relaxed);
        page.succession.expelled.store(0, Ordering::Relaxed);
        page.cursor.limit.store(0, Ordering::Relaxed);
        page.doorbell.bell.store(1, Ordering::Relaxed);
        memory.head().space_bell.store(1, Ordering::Relaxed);
        memory.head().data_waiters.store(0, Ordering::Relaxed);
        memory.head().space_waiters.store(0, Ordering::Relaxed);
        page.heartbeat.time.store(place.created, Ordering::Relaxed);
        let start = Mark { position: 0, sequence: place.first_sequence };
        OwnCursor::start(&page.cursor.cursor, start, memory.identity.segment);
        table::fill(memory, carried);
        page.succession.state.store(state.0, Ordering::Release);
    }

    /// Has what was written so far on its disk, if it is on one.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn sync(&self) -> io::Result<()> {
        self.segment.file.sync_all()
    }

    /// Gives the segment the name `name` in `dir`.
    ///
    /// # Errors
    ///
    /// [`LinkError`], with the segment given back so that it can be used for another generation.
    #[expect(clippy::result_large_err, reason = "the unused segment comes back, once in a generation's life")]
    pub fn link(self, dir: BorrowedFd<'_>, name: &str) -> Result<Segment, (LinkError, Prepared)> {
        let Prepared { segment, mut unnamed } = self;
        match unnamed.link(dir, name) {
            Ok(()) => Ok(segment),
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::AlreadyExists => LinkError::Taken,
                    io::ErrorKind::NotFound => LinkError::Gone,
                    _ => LinkError::System(error),
                };
                Err((why, Prepared { segment, unnamed }))
            }
        }
    }
}

/// Why a segment got no name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Somebody else has it.
    #[error("the name is taken: somebody else was first")]
    Taken,
    /// The directory is gone.
    #[error("the channel's directory is gone")]
    Gone,
    /// Anything else that the system said.
    #[error("cannot link the segment: {0}")]
    System(#[source] io::Error),
}

#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    /// A plain spec, for the unit tests of all files.
    pub(crate) fn spec(capacity: u64, record_limit: u32, slots: u32) -> Spec {
        Spec {
            capacity,
            record_limit,
            slots,
            checksum: Checksum::FULL,
            schema: 0,
            beat_interval: 0,
            owner: Owner::default(),
            mode: 0o600,
            group: None,
            touch: false,
            no_dump: false,
        }
    }

    /// The first generation of a channel in `dir`, open and without readers.
    pub(crate) fn segment(dir: &Path, spec: &Spec) -> Segment {
        let at = std::fs::File::open(dir).unwrap();
        let mut prepared = Prepared::build(at.as_fd(), spec, 1 << 20).unwrap();
        let place =
            Place { channel: 7, generation: 1, first_sequence: 0, predecessor: None, created: 0, lost_places: false };
        prepared.finish(&place, &[], State::OPEN);
        prepared.link(at.as_fd(), "00000001.ring").map_err(|(why, _)| why).unwrap()
    }

    #[test]
    fn a_capacity_is_a_power_of_two_between_a_page_and_the_highest() {
        let least = MIN_CAPACITY.max(page_size().into());
        for capacity in [least, 2 * least, MAX_CAPACITY / 2, MAX_CAPACITY] {
            assert_eq!(spec(capacity, 64, 1).geometry().map_err(|e| e.to_string()).map(|g| g.capacity), Ok(capacity));
        }
        for (capacity, what_next) in [
            (0, least),
            (least / 2, least),
            (least + 1, 2 * least),
            (3 * least, 4 * least),
            (2 * MAX_CAPACITY, MAX_CAPACITY),
            (u64::MAX, MAX_CAPACITY),
        ] {
            match spec(capacity, 64, 1).geometry() {
                Err(BuildError::Capacity { found, next, .. }) => assert_eq!((found, next), (capacity, what_next)),
                other => panic!("{capacity}: {other:?}"),
            }
        }
    }

    #[test]
    fn slots_and_the_record_limit_are_taken_up_to_the_most_that_fits() {
        let most = max_record(1 << 20) as u32;
        for (record_limit, slots) in [(0, 1), (most, MAX_SLOTS)] {
            assert!(spec(1 << 20, record_limit, slots).geometry().is_ok(), "{record_limit} bytes, {slots} slots");
        }
        for slots in [0, MAX_SLOTS + 1] {
            let refused = spec(1 << 20, 64, slots).geometry();
            assert!(matches!(refused, Err(BuildError::Slots { found }) if found == slots), "{refused:?}");
        }
        let refused = spec(1 << 20, most + 1, 1).geometry();
        assert!(matches!(refused, Err(BuildError::RecordLimit { found, .. }) if found == most + 1), "{refused:?}");
    }

    #[test]
    fn who_comes_second_to_a_name_or_to_a_folder_that_is_gone_gets_the_segment_back() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("channel");
        std::fs::create_dir(&inner).unwrap();
        let at = std::fs::File::open(&inner).unwrap();
        let prepared = || Prepared::build(at.as_fd(), &spec(4096, 64, 3), 1 << 20).unwrap();
        let (first, second, third) = (prepared(), prepared(), prepared());
        assert_eq!(first.slots(), 3);
        first.link(at.as_fd(), "00000001.ring").map_err(|(why, _)| why).unwrap();
        let (why, second) = second.link(at.as_fd(), "00000001.ring").unwrap_err();
        assert!(matches!(why, LinkError::Taken), "{why}");
        second.link(at.as_fd(), "00000002.ring").map_err(|(why, _)| why).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        let (why, third) = third.link(at.as_fd(), "00000003.ring").unwrap_err();
        assert!(matches!(why, LinkError::Gone), "{why}");
        let elsewhere = std::fs::File::open(dir.path()).unwrap();
        third.link(elsewhere.as_fd(), "00000003.ring").map_err(|(why, _)| why).unwrap();
    }

    #[test]
    fn what_the_system_says_becomes_what_it_means() {
        let means = |kind: io::ErrorKind| BuildError::system("do it")(kind.into());
        assert!(matches!(means(io::ErrorKind::PermissionDenied), BuildError::Permission(_)));
        assert!(matches!(means(io::ErrorKind::NotFound), BuildError::Gone));
        assert!(matches!(means(io::ErrorKind::StorageFull), BuildError::System { doing: "do it", .. }));
    }
}
