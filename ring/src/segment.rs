//! A segment as the operating system has it: one file, mapped, with its locks. Building, attaching, retiring.
//!
//! # Safety
//!
//! Two facts carry the `unsafe` here: a mapping is as long as the geometry that was verified before it was made (checked
//! in `Segment::over`), and the structs laid over it consist of atomics only, so that any bytes are valid values and any
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

use crate::alone::Alone;
use crate::canary;
use crate::cursor;
use crate::cursor::Mark;
use crate::identity::{Identity, IdentityError, UnverifiedIdentity};
use crate::layout::{
    IDENTITY_LEN, MAX_SLOTS, MIN_PAGE, PRESENCE_BYTE, READER_BYTE, Slot, TABLE_HEAD_LEN, TableHead, WRITER_BYTE,
    WriterPage,
};
use crate::memory::{Data, Memory, Shape, Slept};
use crate::reader::Reader;
use crate::succession;
use crate::sys::file::{self, FileKey, OpenError, Trust};
use crate::sys::lock::{self, Held, Mode};
use crate::sys::map::{self, Dump, MapError, Mapping};
use crate::sys::{barrier, futex, robust};
use crate::table::{self, From, Joined, ReaderCard};
use crate::word::{End, SlotState, State};

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
    pub(crate) mapping: Mapping,
    pub(crate) file: Arc<File>,
    key: FileKey,
    pub(crate) identity: Identity,
    /// Where the data begin: found out once, because it takes a division.
    data_at: usize,
    elders: RwLock<Vec<Arc<File>>>,
    role: AtomicBool,
}

pub(crate) fn page_size() -> u32 {
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
        if found != geometry.total() && !canary!("size-not-checked") {
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
    pub(crate) fn over(mapping: Mapping, file: Arc<File>, key: FileKey, identity: Identity) -> Option<Segment> {
        let fits = mapping.len() as u64 >= identity.geometry.total() && mapping.base().addr().is_multiple_of(4096);
        let elders = RwLock::new(Vec::new());
        let data_at = identity.geometry.data_at() as usize;
        fits.then_some(Segment { mapping, file, key, identity, data_at, elders, role: AtomicBool::new(false) })
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
        if canary!("identity-not-rechecked") {
            return Ok(());
        }
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
    /// `stirred` is asked just before the sleep: see [`robust::wait`].
    pub fn wait_life(&self, limit: Duration, stirred: impl FnOnce() -> bool) -> robust::Holder {
        if self.mapping.poisoned() {
            return robust::Holder::Fault;
        }
        robust::wait(&self.page().heartbeat.life, limit, stirred)
    }

    /// The thread that beats for the writer, by its number in the writer's pid namespace, as it says itself; a claim, to be checked.
    pub fn life_holder(&self) -> Option<u32> {
        if self.mapping.poisoned() { None } else { robust::holder(&self.page().heartbeat.life) }
    }

    /// Makes everybody in [`wait_life`](Self::wait_life) look again.
    pub fn stir_life(&self) {
        robust::stir(&self.page().heartbeat.life);
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

    /// Gives back the reader's byte that this segment's file holds: for a reader that has left, and keeps the memory for a while.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn drop_reader_bytes(&self) -> io::Result<()> {
        lock::unlock_range(self.file.as_fd(), READER_BYTE, MAX_SLOTS.into())
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
        // A dead writer's end lies at its higher checkpoint, beyond a position that it did not come to store; readers went there.
        let published = match succession::end(self) {
            Ok(End::At(end)) if end > published.position => {
                succession::sequence_at(self, end).map_or(published, |sequence| Mark { position: end, sequence })
            }
            _ => published,
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
        if reading.taken > published.sequence {
            // Damaged: nobody took what was not written. What is written from now on is nobody's second time.
            shared.taken.store(published.sequence, Ordering::Relaxed);
        }
        // Otherwise it is left as it stands: what lies between it and the place is still to be told, or was handed out before.
        let taken = reading.taken.min(published.sequence);
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
        if canary!("retired-without-locks") {
            return Ok(Some(alone));
        }
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
        let base = segment.at::<u8>(segment.data_at);
        // SAFETY: `capacity` bytes lie there by the geometry; only the writer, whose mapping is writable, stores.
        unsafe { Data::new(base, segment.identity.geometry.capacity) }
    }
    #[inline(always)]
    fn poisoned(&self) -> bool {
        self.mapping.poisoned() && !canary!("poison-ignored")
    }
    fn reader_lives(&self, slot: usize) -> bool {
        let segment: &Segment = self;
        // The old byte first, then the new one: a reader takes the new one before it drops the old one.
        (segment.elder_lives(slot) && !canary!("elders-ignored"))
            || segment.reader_held(slot).map_or(true, |held| held != Held::Nobody)
    }
    fn with_dead_slot(&self, slot: usize, free: &mut dyn FnMut()) -> bool {
        let segment: &Segment = self;
        if !segment.lock_reader(slot).unwrap_or(false) {
            return false;
        }
        let dead = !segment.elder_lives(slot) || canary!("elders-ignored");
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

pub(crate) fn map_error(error: MapError) -> io::Error {
    match error {
        MapError::Os { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
