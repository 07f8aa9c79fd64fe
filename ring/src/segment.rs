//! A segment as the operating system has it: one file, mapped, with its locks. Building, attaching, retiring.
//!
//! # Safety
//!
//! Two facts carry the `unsafe` here: a mapping is as long as the geometry that was verified before it was made (checked
//! in [`Segment::over`]), and the structs laid over it consist of atomics only, so that any bytes are valid values and any
//! concurrent writer is harmless to the type system.
#![allow(unsafe_code)]

use core::ops::Deref;
use core::ptr::NonNull;
use core::time::Duration;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use crate::cursor::{Mark, OwnCursor};
use crate::identity::{Features, Identity, IdentityError, Owner, Predecessor, UnverifiedIdentity};
use crate::layout::{
    Geometry, IDENTITY_LEN, MAX_CAPACITY, MAX_PAGE, MAX_SLOTS, MIN_CAPACITY, MIN_PAGE, PRESENCE_BYTE, READER_BYTE,
    Slot, TABLE_HEAD_LEN, TableHead, WRITER_BYTE, WriterPage, max_record,
};
use crate::memory::{Data, Memory, Shape, Slept};
use crate::reader::Reader;
use crate::sys::file::{self, FileKey, OpenError, ReserveError, Trust, Unnamed};
use crate::sys::lock::{self, Held, Mode};
use crate::sys::map::{self, Dump, MapError, Mapping};
use crate::sys::{barrier, futex, robust};
use crate::table::{self, Carried, From, Joined, ReaderCard};
use crate::word::{Checksum, EndWord, Kind, SegmentId, SlotState, State, Successor, SuccessorWord};
use crate::{cursor, succession};

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

/// Why a segment could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The file could not be opened, or is none that may be trusted.
    #[error("{0} [RW-SEG-OPEN]")]
    Open(#[from] OpenError),
    /// Its identity does not check.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file's size is not what its identity says.
    #[error("the file has {found} bytes, its identity says {expected}; it was truncated or grown [RW-SEG-SIZE]")]
    Size {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// Made on a machine with smaller pages.
    #[error("made for pages of {found} bytes, this machine's have {here}; parts can't be mapped apart [RW-SEG-PAGE]")]
    Page {
        /// Page unit of the segment.
        found: u32,
        /// Page size of this machine.
        here: u32,
    },
    /// Anything else that the system said.
    #[error("cannot attach: {doing}: {source} [RW-SEG-SYSTEM]")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a party may write to; everything else is mapped read-only, so that a stray store faults in its own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A reader: the reader table.
    Reader,
    /// A successor or the watchdog: the writer page and the reader table, not the data.
    Successor,
    /// Nothing at all; opened read-only.
    Inspect,
}

/// Why a reader could not take a slot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Every slot is taken.
    #[error(
        "all {slots} reader slots are taken; make the channel with more, or find the readers that are not needed [RW-JOIN-SLOTS]"
    )]
    NoSlot {
        /// Slots of the segment.
        slots: usize,
    },
    /// Another living process has that name.
    #[error("slot {slot} is held by a living process; a durable name has one holder [RW-JOIN-HELD]")]
    Held {
        /// Number of the slot.
        slot: usize,
    },
    /// The writer's cursor does not check.
    #[error("the writer's cursor is damaged; wait for its next push or its successor [RW-JOIN-DAMAGED]")]
    Damaged,
    /// Already in use by another role of this process; attach once for each.
    #[error("this attachment already plays a role; attach again for another [RW-JOIN-ROLE]")]
    RoleTaken,
    /// What the system said.
    #[error("cannot lock a reader slot: {0} [RW-JOIN-SYSTEM]")]
    System(#[from] io::Error),
}

/// A segment's file and mapping.
///
/// Each role (writer, reader, standby) has an attachment of its own, because locks belong to the open file. Dropping it
/// unmaps and closes, and so gives up whatever it held.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    file: Arc<File>,
    key: FileKey,
    identity: Identity,
    elders: RwLock<Vec<Arc<File>>>,
    role: AtomicBool,
}

fn page_size() -> u32 {
    map::page_size().clamp(MIN_PAGE as usize, usize::MAX) as u32
}

impl Segment {
    /// Opens, verifies and maps the segment `name` in `dir`.
    ///
    /// The identity is read with `pread` and verified before anything is mapped. The file may be truncated at any moment
    /// afterwards: that turns into `Truncated` errors, not into signals.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn attach(dir: BorrowedFd<'_>, name: &str, access: Access, trust: &Trust) -> Result<Segment, AttachError> {
        let file = file::open_checked(dir, name, access != Access::Inspect, trust)?;
        Segment::from_file(file, access)
    }

    /// Verifies and maps a segment that is open already (for writing, unless only inspected).
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn from_file(file: File, access: Access) -> Result<Segment, AttachError> {
        let identity = read_identity(&file)?;
        let geometry = identity.geometry;
        let here = page_size();
        if here > geometry.page {
            return Err(AttachError::Page { found: geometry.page, here });
        }
        let system = |doing| move |source| AttachError::System { doing, source };
        let found = file.metadata().map_err(system("fstat"))?.len();
        if found != geometry.total() {
            return Err(AttachError::Size { found, expected: geometry.total() });
        }
        let table = geometry.table_at() as usize..geometry.data_at() as usize;
        let head = 0..geometry.data_at() as usize;
        let writable: &[Range<usize>] = match access {
            Access::Reader => std::slice::from_ref(&table),
            Access::Successor => std::slice::from_ref(&head),
            Access::Inspect => &[],
        };
        let len = geometry.total() as usize;
        let mapping = if access == Access::Inspect {
            Mapping::read_only(&file, len, Dump::Include)
        } else {
            Mapping::new(&file, len, writable, Dump::Include)
        };
        let key = file::file_key(file.as_fd()).map_err(system("fstat"))?;
        Segment::over(mapping.map_err(|error| system("mmap")(map_error(error)))?, Arc::new(file), key, identity)
            .ok_or(AttachError::Size { found: len as u64, expected: geometry.total() })
    }

    /// Lays the identity's geometry over a mapping; `None` if it is shorter.
    fn over(mapping: Mapping, file: Arc<File>, key: FileKey, identity: Identity) -> Option<Segment> {
        let fits = mapping.len() as u64 >= identity.geometry.total() && mapping.base().addr().is_multiple_of(4096);
        let elders = RwLock::new(Vec::new());
        fits.then_some(Segment { mapping, file, key, identity, elders, role: AtomicBool::new(false) })
    }

    /// What the segment is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The open file. Its locks are this attachment's.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Device and inode.
    pub fn key(&self) -> FileKey {
        self.key
    }

    /// Whether `name` in `dir` is this very file.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn bears(&self, dir: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
        Ok(file::path_key(dir, name)? == Some(self.key))
    }

    /// Number of names that the file has; 0 if it was unlinked.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn links(&self) -> io::Result<u64> {
        file::links(self.file.as_fd())
    }

    /// Reads the identity again from the file; an error means that it was damaged or cut since.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn recheck(&self) -> Result<(), AttachError> {
        let again = read_identity(&self.file)?;
        let found = self.file.metadata().map_err(|source| AttachError::System { doing: "fstat", source })?.len();
        let expected = self.identity.geometry.total();
        if found < expected {
            return Err(AttachError::Size { found, expected });
        }
        if again != self.identity {
            return Err(IdentityError::Field { what: "segment id", found: again.segment.0 }.into());
        }
        Ok(())
    }

    /// Files of older generations of the channel, oldest first: a reader that still drains one of them lives, though it
    /// has not taken its byte here.
    pub fn set_elders(&self, elders: Vec<Arc<File>>) {
        if let Ok(mut mine) = self.elders.write() {
            *mine = elders;
        }
    }

    /// Whether somebody else holds the writer byte, and how.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn writer_held(&self) -> io::Result<Held> {
        lock::probe(self.file.as_fd(), WRITER_BYTE)
    }

    /// Takes the writer byte; false if somebody has it. It proves that the writer is dead, nothing more.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn lock_writer(&self) -> io::Result<bool> {
        lock::try_lock(self.file.as_fd(), WRITER_BYTE, Mode::Exclusive)
    }

    /// Gives the writer byte back.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn unlock_writer(&self) -> io::Result<()> {
        lock::unlock(self.file.as_fd(), WRITER_BYTE)
    }

    /// Takes the presence byte shared, as standbys and starters do; false if a watchdog has it.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn lock_presence(&self) -> io::Result<bool> {
        lock::try_lock(self.file.as_fd(), PRESENCE_BYTE, Mode::Shared)
    }

    /// Says by a robust futex that this thread, which beats for the writer, lives; the kernel marks it when the thread dies.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn hold_life(self: &Arc<Self>) -> io::Result<robust::Hold<Arc<Segment>>> {
        robust::hold(Arc::clone(self), |segment| &segment.page().heartbeat.life)
    }

    /// Waits until the thread that beats for the writer dies, at most `limit`; may return sooner. A hint: the word can be forged.
    pub fn wait_life(&self, limit: Duration) -> robust::Holder {
        if self.mapping.poisoned() {
            return robust::Holder::Fault;
        }
        robust::wait(&self.page().heartbeat.life, limit)
    }

    /// Makes everybody in [`wait_life`](Self::wait_life) look again.
    pub fn stir_life(&self) {
        futex::wake_all(&self.page().heartbeat.life);
    }

    /// Whether somebody else holds the byte of `slot`.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn reader_held(&self, slot: usize) -> io::Result<Held> {
        lock::probe(self.file.as_fd(), READER_BYTE + slot as u64)
    }

    /// Takes the byte of `slot` without touching the slot; false if another process has it. Held until this attachment is
    /// dropped.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn hold_reader(&self, slot: usize) -> io::Result<bool> {
        self.lock_reader(slot)
    }

    fn lock_reader(&self, slot: usize) -> io::Result<bool> {
        lock::try_lock(self.file.as_fd(), READER_BYTE + slot as u64, Mode::Exclusive)
    }

    fn unlock_reader(&self, slot: usize) -> io::Result<()> {
        lock::unlock(self.file.as_fd(), READER_BYTE + slot as u64)
    }

    /// Whether a reader that was copied into `slot` still drains an older generation.
    fn elder_lives(&self, slot: usize) -> bool {
        let byte = READER_BYTE + slot as u64;
        self.elders.read().is_ok_and(|elders| {
            elders.iter().any(|file| lock::probe(file.as_fd(), byte).map_or(true, |held| held != Held::Nobody))
        })
    }

    fn take_role(&self) -> Result<(), JoinError> {
        if self.role.swap(true, Ordering::AcqRel) { Err(JoinError::RoleTaken) } else { Ok(()) }
    }

    /// Takes a free slot as a new reader.
    ///
    /// The writer may be pushing or dying meanwhile, a successor may be ending the generation: then the answer is
    /// [`Joining::NotOpen`], the slot is given back, and the next generation is the one to join.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join(self: &Arc<Self>, card: &ReaderCard, from: From) -> Result<Joining, JoinError> {
        self.take_role()?;
        let joined = self.join_slot(card, from);
        if !matches!(joined, Ok(Joining::Reader(_))) {
            self.role.store(false, Ordering::Release);
        }
        joined
    }

    fn join_slot(self: &Arc<Self>, card: &ReaderCard, from: From) -> Result<Joining, JoinError> {
        // An expelled one's slot counts for nobody any more, in this generation.
        let expelled = self.page().succession.expelled.load(Ordering::Acquire);
        for (slot, shared) in self.slots().iter().enumerate().filter(|(slot, _)| expelled >> (slot & 63) & 1 == 0) {
            if !self.lock_reader(slot)? {
                continue;
            }
            let state = SlotState(shared.state.load(Ordering::Acquire));
            let free = match state {
                SlotState::FREE | SlotState::PROVISIONAL | SlotState::DONE => true,
                // A dead ephemeral reader's: its byte was free, and is free in every older generation.
                SlotState::ACTIVE | SlotState::CARRIED => !table::is_durable(shared) && !self.elder_lives(slot),
                _ => false,
            };
            if !free {
                self.unlock_reader(slot)?;
                continue;
            }
            match table::join(self, slot, card, from) {
                Some(Joined::At { at }) => {
                    return Ok(Joining::Reader(Reader::resume(
                        Arc::clone(self),
                        slot,
                        at,
                        at.sequence,
                        barrier::register(),
                    )));
                }
                Some(Joined::NotOpen(state)) => {
                    self.unlock_reader(slot)?;
                    return Ok(Joining::NotOpen(state));
                }
                Some(Joined::Damaged) | None => {
                    self.unlock_reader(slot)?;
                    return Err(JoinError::Damaged);
                }
            }
        }
        Err(JoinError::NoSlot { slots: self.slots().len() })
    }

    /// Takes `slot` over as the reader that it already belongs to: a durable reader that comes back, or a reader that comes over from an
    /// older generation.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; `Held` if another living process has it.
    pub fn claim(self: &Arc<Self>, slot: usize, card: &ReaderCard) -> Result<Reader<Arc<Segment>>, JoinError> {
        self.take_role()?;
        let claimed = self.claim_slot(slot, card);
        if claimed.is_err() {
            self.role.store(false, Ordering::Release);
        }
        claimed
    }

    fn claim_slot(self: &Arc<Self>, slot: usize, card: &ReaderCard) -> Result<Reader<Arc<Segment>>, JoinError> {
        let shared = self.slots().get(slot).ok_or(JoinError::NoSlot { slots: self.slots().len() })?;
        if !self.lock_reader(slot)? {
            return Err(JoinError::Held { slot });
        }
        let reading = table::read_slot(shared, self.identity.segment);
        let published = match cursor::read(&self.page().cursor.cursor, self.identity.segment) {
            cursor::Reading::Sound(mark) | cursor::Reading::Checkpoints { higher: mark, .. } => mark,
            cursor::Reading::Damaged => Mark { position: u64::MAX, sequence: u64::MAX },
        };
        let at = match reading.cursor {
            cursor::Reading::Sound(mark) | cursor::Reading::Checkpoints { lower: mark, .. }
                if mark.position <= published.position =>
            {
                mark
            }
            // Damaged, or ahead of what was ever written: everything that is still there, what was taken before marked so.
            _ if published.position != u64::MAX => table::oldest(self, published),
            _ => Mark { position: 0, sequence: self.identity.first_sequence },
        };
        table::write_card(shared, card, self.identity.segment);
        let taken = reading.taken.max(at.sequence);
        let reader = Reader::resume(Arc::clone(self), slot, at, taken, barrier::register());
        shared.state.store(SlotState::ACTIVE.0, Ordering::Release);
        Ok(reader)
    }

    /// Takes every lock of the segment, if all are free: the proof that it is nobody's.
    ///
    /// The presence byte first, then byte 0, then every reader's byte; only then may the table be looked at.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn alone(&self) -> io::Result<Option<Alone<'_>>> {
        let fd = self.file.as_fd();
        let alone = Alone { segment: self };
        let all = lock::try_lock(fd, PRESENCE_BYTE, Mode::Exclusive)?
            && lock::try_lock(fd, WRITER_BYTE, Mode::Exclusive)?
            && lock::try_lock_range(fd, READER_BYTE, u64::from(MAX_SLOTS), Mode::Exclusive)?;
        Ok(all.then_some(alone)) // else dropped: it unlocks what it got
    }

    /// Overwrites the data with zeros through the file, so that nothing of it lingers in freed memory.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn wipe(&self) -> io::Result<()> {
        let zeros = [0u8; 16384];
        let mut at = self.identity.geometry.data_at();
        let end = self.file.metadata()?.len().min(self.identity.geometry.total());
        while at < end {
            let len = (end - at).min(zeros.len() as u64) as usize;
            self.file.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    /// A private copy of the file's bytes as they are now, for [`image`](crate::image). Other processes may be writing meanwhile.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn copy(&self) -> io::Result<Vec<u8>> {
        copy_file(&self.file)
    }

    fn at<T>(&self, offset: usize) -> NonNull<T> {
        // SAFETY: callers pass offsets of the verified geometry, which `over` checked to lie inside the mapping.
        let at = unsafe { self.mapping.base().add(offset) };
        // SAFETY: inside a mapping, so not null.
        unsafe { NonNull::new_unchecked(at) }.cast()
    }
}

/// A private copy of a file's bytes, whatever its size; at most 2⁴⁰ bytes.
///
/// # Errors
///
/// What the system said.
pub fn copy_file(file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len().min(1 << 40) as usize;
    let mut bytes = vec![0; len];
    let got = file::read_prefix(file, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads and verifies the identity of an open file, without mapping it.
///
/// # Errors
///
/// [`AttachError`].
pub fn read_identity(file: &File) -> Result<Identity, AttachError> {
    let mut block = [0u8; IDENTITY_LEN];
    let got = file::read_prefix(file, &mut block)
        .map_err(|source| AttachError::System { doing: "read the identity", source })?;
    Ok(UnverifiedIdentity(&block[..got]).verify()?)
}

/// How joining went.
#[derive(Debug)]
pub enum Joining {
    /// Registered.
    Reader(Reader<Arc<Segment>>),
    /// The generation is not open any more; join the next one.
    NotOpen(State),
}

/// Proof that a segment is nobody's: every lock of it is held. Only this can retire it.
#[derive(Debug)]
pub struct Alone<'s> {
    segment: &'s Segment,
}

impl Alone<'_> {
    /// The first slot that a durable reader will come back to, if there is one; what no one can read counts as one.
    pub fn durable_reader(&self) -> Option<usize> {
        let expelled = self.segment.page().succession.expelled.load(Ordering::Acquire);
        self.segment.slots().iter().enumerate().position(|(number, slot)| {
            if expelled >> (number & 63) & 1 == 1 {
                return false;
            }
            let state = SlotState(slot.state.load(Ordering::Acquire));
            match state {
                SlotState::FREE | SlotState::DONE | SlotState::PROVISIONAL => false,
                _ => table::is_durable(slot),
            }
        })
    }

    /// Decides that nobody follows this generation, ever. From then on anybody may unlink it, without locks.
    ///
    /// # Errors
    ///
    /// The successor that was named before, or what a damaged word holds.
    pub fn retire(&self) -> Result<(), NotNobody> {
        match succession::decide_nobody(&self.segment) {
            Ok(Successor::Nobody) => {
                // Decided. The state only says it to those who would join; whoever dies in between leaves it to the word.
                self.segment.page().succession.state.store(State::RETIRED.0, Ordering::SeqCst);
                succession::ring_all(&self.segment);
                Ok(())
            }
            Ok(other) => Err(NotNobody::Followed(other)),
            Err(bad) => Err(NotNobody::Damaged(bad.0)),
        }
    }

    /// Overwrites the data with zeros.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn wipe(&self) -> io::Result<()> {
        self.segment.wipe()
    }
}

/// Why a segment can't be retired after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNobody {
    /// It is followed by another segment.
    #[error("it is followed by {0:?}")]
    Followed(Successor),
    /// Its successor word is damaged.
    #[error("its successor word holds {0:#x}")]
    Damaged(u64),
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let fd = self.segment.file.as_fd();
        let _ = lock::unlock_range(fd, READER_BYTE, u64::from(MAX_SLOTS));
        let _ = lock::unlock(fd, WRITER_BYTE);
        let _ = lock::unlock(fd, PRESENCE_BYTE);
    }
}

impl<S: Deref<Target = Segment> + Send + Sync> Memory for S {
    #[inline(always)]
    fn shape(&self) -> Shape {
        self.identity.shape()
    }
    #[inline(always)]
    fn page(&self) -> &WriterPage {
        let segment: &Segment = self;
        // SAFETY: the writer page lies inside the mapping (`over`), page-aligned plus 256, and is made of atomics only.
        unsafe { segment.at::<WriterPage>(IDENTITY_LEN).as_ref() }
    }
    #[inline(always)]
    fn head(&self) -> &TableHead {
        let segment: &Segment = self;
        // SAFETY: as for `page`; the table begins on a page border.
        unsafe { segment.at::<TableHead>(segment.identity.geometry.table_at() as usize).as_ref() }
    }
    #[inline(always)]
    fn slots(&self) -> &[Slot] {
        let segment: &Segment = self;
        let geometry = segment.identity.geometry;
        let first = segment.at::<Slot>(geometry.table_at() as usize + TABLE_HEAD_LEN);
        // SAFETY: `slots` slots lie behind the head, inside the table's pages by the geometry; atomics only.
        unsafe { core::slice::from_raw_parts(first.as_ptr(), geometry.slots as usize) }
    }
    #[inline(always)]
    fn data(&self) -> Data<'_> {
        let segment: &Segment = self;
        let geometry = segment.identity.geometry;
        let base = segment.at::<u8>(geometry.data_at() as usize);
        // SAFETY: `capacity` bytes lie there by the geometry; only the writer, whose mapping is writable, stores.
        unsafe { Data::new(base, geometry.capacity) }
    }
    #[inline(always)]
    fn poisoned(&self) -> bool {
        self.mapping.poisoned()
    }
    fn reader_lives(&self, slot: usize) -> bool {
        let segment: &Segment = self;
        // The old byte first, then the new one: a reader takes the new one before it drops the old one.
        segment.elder_lives(slot) || segment.reader_held(slot).map_or(true, |held| held != Held::Nobody)
    }
    fn with_dead_slot(&self, slot: usize, free: &mut dyn FnMut()) -> bool {
        let segment: &Segment = self;
        if !segment.lock_reader(slot).unwrap_or(false) {
            return false;
        }
        let dead = !segment.elder_lives(slot);
        if dead {
            free();
        }
        let _ = segment.unlock_reader(slot);
        dead
    }
    fn heavy_fence(&self) -> bool {
        barrier::heavy(barrier::Reach::Registered).is_ok()
    }
    fn sleep(&self, bell: &AtomicU32, seen: u32, limit: Duration) -> Slept {
        match futex::wait(bell, seen, limit) {
            futex::Wait::TimedOut => Slept::TimedOut,
            futex::Wait::Fault => Slept::Fault,
            _ => Slept::Look,
        }
    }
    fn wake(&self, bell: &AtomicU32) {
        futex::wake_all(bell);
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
        OwnCursor::start(&page.cursor.cursor, start, identity_segment(memory));
        table::fill(memory, carried);
        page.succession.state.store(state.0, Ordering::Release);
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

fn map_error(error: MapError) -> io::Error {
    match error {
        MapError::Os { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

fn identity_segment(segment: &Segment) -> SegmentId {
    segment.identity.segment
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

/// Whether a slot's reader is durable, by its kind word.
pub fn durable(slot: &Slot) -> bool {
    Kind(slot.kind.load(Ordering::Acquire)) == Kind::DURABLE
}
