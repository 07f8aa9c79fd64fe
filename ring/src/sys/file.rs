//! A segment's file: made unnamed, reserved in full, linked under its name, opened with suspicion, told from others.
//!
//! Nothing half-built is ever visible: a file comes to life without a name (`O_TMPFILE`), is filled, and then gets its name
//! by one `linkat`, which fails with `EEXIST` if somebody else was first. Where the file system or a missing /proc makes
//! that impossible, a random `.tmp-…` name stands in, and a crash may leave it behind: as a file of its own before the
//! link, as a second name of the linked one after it. Unlinking it is right in both cases.
//!
//! All names are single components, looked up under a directory descriptor and never through a symbolic link.

use crate::canary;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Beginning of the name of a file that is being built where it can't be without one.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A file without a name of its own, or with a temporary one that goes when this is dropped.
#[derive(Debug)]
pub struct Unnamed {
    file: File,
    temporary: Option<Temporary>,
}

/// A name that is removed when dropped.
#[derive(Debug)]
struct Temporary {
    dir: OwnedFd,
    name: String,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A name that can't be removed is what a crash would have left, and is swept like it.
        let _ = rustix::fs::unlinkat(&self.dir, self.name.as_str(), AtFlags::empty());
    }
}

/// How [`create_unnamed_by`] makes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Birth {
    /// Without a name if this machine can also give it one later, else under a temporary one.
    #[default]
    Best,
    /// Under a temporary name, whatever the machine can do: for tests of that path.
    Temporary,
}

/// Makes an empty file in `dir`, open for reading and writing, with exactly the permission bits `mode` whatever the umask.
///
/// # Errors
///
/// As `open(2)`: `EACCES` (no write permission on the directory), `ENOENT` (it was removed, which some file systems notice
/// only at [`Unnamed::link`]), `ENOSPC`, `EMFILE`, …
pub fn create_unnamed(dir: BorrowedFd<'_>, mode: u32) -> io::Result<Unnamed> {
    create_unnamed_by(dir, mode, Birth::Best)
}

/// [`create_unnamed`], by a given way.
///
/// # Errors
///
/// As [`create_unnamed`].
pub fn create_unnamed_by(dir: BorrowedFd<'_>, mode: u32, birth: Birth) -> io::Result<Unnamed> {
    let private = Mode::RUSR | Mode::WUSR;
    if birth == Birth::Best {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match retry(|| rustix::fs::openat(dir, ".", flags, private)) {
            Ok(fd) if can_link(fd.as_fd(), dir) => return Unnamed { file: fd.into(), temporary: None }.with_mode(mode),
            // It could never get a name (old kernel, no /proc): as if the file system knew no such files.
            Ok(_) => {}
            // No such files here; ENOENT (ext4: EPERM) also says that `dir` was removed, which the other way finds as well.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let name = format!("{TEMPORARY_PREFIX}{:016x}", random());
        match retry(|| rustix::fs::openat(dir, name.as_str(), flags, private)) {
            Ok(fd) => {
                let temporary = Temporary { dir: dir.try_clone_to_owned()?, name };
                return Unnamed { file: fd.into(), temporary: Some(temporary) }.with_mode(mode);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Unnamed {
    fn with_mode(self, mode: u32) -> io::Result<Unnamed> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        Ok(self)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file the name `name` in `dir`, which must be on the same file system, and lets go of any temporary one.
    ///
    /// From the moment that this succeeds, peers may open, lock, write and unlink it. It is one `linkat` whatever the way, so
    /// exactly one of several rivals wins, and a watcher sees `IN_CREATE`. After an error the file is as before: it may
    /// be tried again under another name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: somebody else has the name. `NotFound`: the directory was removed. `EXDEV`, `ENOSPC`, … as
    /// `link(2)`; `InvalidInput`: the name is no single component.
    pub fn link(&mut self, dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        check_name(name)?;
        let linked = match &self.temporary {
            None => link_by_descriptor(self.file.as_fd(), dir, name),
            Some(temporary) => {
                // Nobody but us should write to the directory, but if somebody did, don't give our name to their file.
                if path_key(temporary.dir.as_fd(), &temporary.name)? != Some(file_key(self.file.as_fd())?) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                rustix::fs::linkat(&temporary.dir, temporary.name.as_str(), dir, name, AtFlags::empty())
            }
        };
        linked?;
        self.temporary = None;
        Ok(())
    }

    /// The file, for keeping. A file that was never linked vanishes with its last descriptor and mapping.
    pub fn into_file(self) -> File {
        self.file
    }
}

fn link_by_descriptor(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    if canary!("link-replaces") {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
        // The caller isn't allowed to (before Linux 6.10: needs CAP_DAC_READ_SEARCH), or the directory is gone.
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            rustix::fs::linkat(rustix::fs::CWD, proc_path(file), dir, name, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    }
}

/// Whether [`link_by_descriptor`] can work at all. Linking over "." fails in any case: with `EEXIST`, if we may.
fn can_link(file: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> bool {
    rustix::fs::linkat(file, "", dir, ".", AtFlags::EMPTY_PATH) == Err(Errno::EXIST)
        || rustix::fs::linkat(rustix::fs::CWD, proc_path(file), dir, ".", AtFlags::SYMLINK_FOLLOW) == Err(Errno::EXIST)
}

fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Sixty-four bits that don't repeat: std's hash keys are random, and different for each call.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}

/// Why a file's bytes could not be reserved. The file is as long as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The file system (or the user's quota on it) is full.
    #[error("no room for {wanted} bytes: the file system has {free} free; free some, or take a smaller capacity")]
    NoSpace {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that the file system has free for us, at the time of the answer.
        free: u64,
    },
    /// The file system has no files of that size, or the process may not make one (`RLIMIT_FSIZE`).
    #[error("{wanted} bytes are more than a file may have here: {source}")]
    TooLarge {
        /// Bytes asked for.
        wanted: u64,
        /// `EFBIG` or `EINVAL`.
        source: io::Error,
    },
    /// Anything else.
    #[error("reserving {wanted} bytes failed: {source}")]
    Os {
        /// Bytes asked for.
        wanted: u64,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Bytes that one `fallocate` asks for: a signal makes tmpfs undo all that the one call did.
const STRIDE: u64 = 16 << 20;
/// Least that it asks for after having been interrupted.
const LEAST_STRIDE: u64 = 256 << 10;

/// Makes `file`, new and empty, `len` bytes long, every one backed by memory or disk and reading as zero.
///
/// Never leaves a hole: a store into a hole of a full file system is SIGBUS. Costs 0.4 ms per MiB on tmpfs. What clearly
/// does not fit is refused before anything is taken, so that nobody else is starved meanwhile. A signal interrupts
/// nothing: the reservation goes on in smaller steps, so that even a profiler's timer can't keep it from ending.
///
/// # Errors
///
/// [`ReserveError`]; the file is then empty again. One that isn't empty to begin with is left alone (`InvalidInput`).
pub fn reserve(file: &File, len: u64) -> Result<(), ReserveError> {
    let os = |source| ReserveError::Os { wanted: len, source };
    if file.metadata().map_err(os)?.len() != 0 {
        return Err(os(io::Error::new(io::ErrorKind::InvalidInput, "only a new and empty file is reserved")));
    }
    let fail = |errno: Errno| {
        let _ = file.set_len(0);
        match errno {
            Errno::NOSPC | Errno::DQUOT => {
                ReserveError::NoSpace { wanted: len, free: free_bytes(file.as_fd()).unwrap_or(0) }
            }
            Errno::FBIG | Errno::INVAL => ReserveError::TooLarge { wanted: len, source: errno.into() },
            errno => os(errno.into()),
        }
    };
    let stat = rustix::fs::fstatvfs(file).map_err(fail)?;
    // No blocks at all: a tmpfs without a limit.
    if stat.f_blocks != 0 && len > stat.f_bavail.saturating_mul(stat.f_frsize) {
        return Err(fail(Errno::NOSPC));
    }
    if canary!("not-reserved") {
        return file.set_len(len).map_err(os);
    }
    let (mut at, mut stride) = (0, STRIDE);
    while at < len {
        let step = stride.min(len - at);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::INTR) => stride = (stride / 2).max(LEAST_STRIDE),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => at += write_zeros(file, at, step).map_err(fail)?,
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

/// For file systems without `fallocate`: writes up to `len` zeros at `at`; how many.
fn write_zeros(file: &File, at: u64, len: u64) -> rustix::io::Result<u64> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let len = len.min(ZEROS.len() as u64) as usize;
    match retry(|| rustix::io::pwrite(file, &ZEROS[..len], at))? {
        0 => Err(Errno::NOSPC),
        written => Ok(written as u64),
    }
}

/// Whose files are believed, and how open they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// User id of the owner; root's files are believed as well.
    pub uid: u32,
    /// Permission bits (of `0o7777`) that a file may have; any other makes it [`OpenError::TooWide`].
    pub mode: u32,
}

/// What a name stands for that isn't a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Irregular {
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// Something that has no name here.
    Unknown,
}

/// Why [`open_checked`] doesn't open a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing of that name (any more).
    #[error("no such file")]
    NotFound,
    /// A symbolic link: never followed.
    #[error("a symbolic link, which is never followed")]
    Symlink,
    /// Not a regular file.
    #[error("no regular file but of kind {kind:?}")]
    NotRegular {
        /// What it is.
        kind: Irregular,
    },
    /// Somebody else's.
    #[error("owned by uid {found}, only {trusted} and root are trusted")]
    Owner {
        /// Its owner.
        found: u32,
        /// Whom we trust.
        trusted: u32,
    },
    /// More people may touch it than we trust.
    #[error("permission bits {found:#o} go beyond the {allowed:#o} that are trusted")]
    TooWide {
        /// Its permission bits.
        found: u32,
        /// Those allowed.
        allowed: u32,
    },
    /// We may not open it.
    #[error("not permitted: {0}")]
    PermissionDenied(io::Error),
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        match errno {
            Errno::NOENT => OpenError::NotFound,
            Errno::LOOP => OpenError::Symlink,
            Errno::ISDIR => OpenError::NotRegular { kind: Irregular::Directory },
            Errno::ACCESS | Errno::PERM => OpenError::PermissionDenied(errno.into()),
            errno => OpenError::Other(errno.into()),
        }
    }
}

/// Opens the regular file `name` in `dir`, for reading and, if `write`, for writing, if it is to be trusted.
///
/// The name is looked at before it is opened, so that no device is opened by mistake, and the descriptor after, which is what
/// counts: peers may have put another file under the name in between. Neither a pipe nor a lease can make this wait.
///
/// # Errors
///
/// [`OpenError`].
pub fn open_checked(dir: BorrowedFd<'_>, name: &str, write: bool, trust: &Trust) -> Result<File, OpenError> {
    check_name(name).map_err(OpenError::Other)?;
    let (at, no_follow) = match canary!("symlink-followed") {
        true => (AtFlags::empty(), OFlags::empty()),
        false => (AtFlags::SYMLINK_NOFOLLOW, OFlags::NOFOLLOW),
    };
    let named = retry(|| rustix::fs::statat(dir, name, at))?;
    check_kind(&named)?;
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let on_exec = if canary!("inherited-over-exec") { OFlags::empty() } else { OFlags::CLOEXEC };
    let flags = access | no_follow | on_exec | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match retry(|| rustix::fs::openat(dir, name, flags, Mode::empty())) {
        Ok(file) => File::from(file),
        // Not to be trusted anyway: that says more.
        Err(Errno::ACCESS) if !is_trusted(&named, trust) => {
            return Err(OpenError::Owner { found: named.st_uid, trusted: trust.uid });
        }
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    check_kind(&stat)?;
    if !is_trusted(&stat, trust) {
        return Err(OpenError::Owner { found: stat.st_uid, trusted: trust.uid });
    }
    let found = stat.st_mode & 0o7777;
    if found & !trust.mode != 0 && !canary!("mode-not-checked") {
        return Err(OpenError::TooWide { found, allowed: trust.mode });
    }
    Ok(file)
}

fn is_trusted(stat: &Stat, trust: &Trust) -> bool {
    stat.st_uid == trust.uid || stat.st_uid == 0
}

fn check_kind(stat: &Stat) -> Result<(), OpenError> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        _ if canary!("kind-not-checked") => return Ok(()),
        FileType::Symlink => return Err(OpenError::Symlink),
        FileType::Directory => Irregular::Directory,
        FileType::Fifo => Irregular::Fifo,
        FileType::Socket => Irregular::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => Irregular::Device,
        _ => Irregular::Unknown,
    };
    Err(OpenError::NotRegular { kind })
}

/// Which file it is, on this machine and as long as anybody holds it open: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number. Used again once the file is gone: compare only with a file that is held open.
    pub ino: u64,
}

impl FileKey {
    fn of(stat: &Stat) -> FileKey {
        FileKey { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// Which file a descriptor stands for.
///
/// # Errors
///
/// As `fstat(2)`.
pub fn file_key(fd: BorrowedFd<'_>) -> io::Result<FileKey> {
    Ok(FileKey::of(&rustix::fs::fstat(fd)?))
}

/// Which file `name` in `dir` stands for at this instant (a symbolic link stands for itself); `None` if there is none.
///
/// # Errors
///
/// As `fstatat(2)`, but for `ENOENT`; `InvalidInput`: the name is no single component.
pub fn path_key(dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<FileKey>> {
    check_name(name)?;
    match retry(|| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)) {
        Ok(stat) => Ok(Some(FileKey::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// How many names the file has at this instant. 0 of a file that was linked: it was unlinked, and never comes back.
///
/// # Errors
///
/// As `fstat(2)`.
pub fn links(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let links = rustix::fs::fstat(fd)?.st_nlink;
    #[allow(clippy::useless_conversion, reason = "32 bits wide on aarch64")]
    Ok(u64::from(links))
}

/// Bytes that an ordinary user can still take on the file's file system; 0 also where it keeps no such count.
///
/// # Errors
///
/// As `fstatvfs(3)`.
pub fn free_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(fd)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A kind of file system, by its `statfs` magic number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FsKind(pub u64);

/// File systems known by name; whether they are local: locks are the kernel's own, and a mapping is the one memory.
const KINDS: [(u64, &str, bool); 22] = [
    (0x0102_1994, "tmpfs", true),
    (0x9584_58f6, "hugetlbfs", true),
    (0x8584_58f6, "ramfs", true),
    (0xef53, "ext2/3/4", true),
    (0x5846_5342, "xfs", true),
    (0x9123_683e, "btrfs", true),
    (0x794c_7630, "overlayfs", true),
    (0xf2f5_2010, "f2fs", true),
    (0x2fc1_2fc1, "zfs", true),
    (0xca45_1a4e, "bcachefs", true),
    (0x6969, "nfs", false),
    (0xff53_4d42, "cifs", false),
    (0xfe53_4d42, "smb2", false),
    (0x517b, "smb", false),
    (0x6573_5546, "fuse", false),
    (0x0102_1997, "9p", false),
    (0x00c3_6400, "ceph", false),
    (0x5346_414f, "afs", false),
    (0x6b41_4653, "kafs", false),
    (0x7461_636f, "ocfs2", false),
    (0x0116_1970, "gfs2", false),
    (0x0bd0_0bd0, "lustre", false),
];

impl FsKind {
    /// Its name, if it is a known one.
    pub fn name(self) -> Option<&'static str> {
        KINDS.iter().find(|(magic, ..)| *magic == self.0).map(|(_, name, _)| *name)
    }

    /// Whether it is on the list of those whose locks and mappings can be relied on.
    pub fn is_local(self) -> bool {
        KINDS.iter().any(|(magic, _, local)| *magic == self.0 && *local)
    }
}

impl core::fmt::Debug for FsKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "FsKind({:#x})", self.0),
        }
    }
}

impl core::fmt::Display for FsKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "a file system with magic number {:#x}", self.0),
        }
    }
}

/// Whether the file is on a local file system: `Ok(Err(kind))` if it isn't on the list of those known to be.
///
/// # Errors
///
/// As `fstatfs(2)`.
pub fn is_local_fs(fd: BorrowedFd<'_>) -> io::Result<Result<(), FsKind>> {
    // The kernel's type is signed, and 32 bits of it are used.
    let kind = FsKind(rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff);
    Ok(if kind.is_local() { Ok(()) } else { Err(kind) })
}

/// Whether the file is on a file system that is memory and nothing else: it can't have lived through a reboot.
///
/// # Errors
///
/// As `fstatfs(2)`.
pub fn in_memory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = FsKind(rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff);
    Ok(matches!(kind.name(), Some("tmpfs" | "ramfs" | "hugetlbfs")))
}

/// Reads the file's first bytes into `buf`; how many there were: fewer than asked for only at the end of the file.
///
/// A private copy: the peer may be writing meanwhile, so that the bytes may never have stood there all at once.
///
/// # Errors
///
/// As `pread(2)`, but for `EINTR`.
pub fn read_prefix(file: &File, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name must be a single component of a path"));
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::process::Command;

    const TRUST: Trust = Trust { uid: 0, mode: 0o600 };

    fn dirs() -> Vec<tempfile::TempDir> {
        vec![tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir().unwrap()]
    }

    fn mine() -> Trust {
        Trust { uid: rustix::process::geteuid().as_raw(), ..TRUST }
    }

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_gets_its_name_whole_and_only_one_rival_wins() {
        for dir in dirs() {
            for birth in [Birth::Best, Birth::Temporary] {
                let fd = File::open(dir.path()).unwrap();
                let mut first = create_unnamed_by(fd.as_fd(), 0o660, birth).unwrap();
                let mut second = create_unnamed_by(fd.as_fd(), 0o600, birth).unwrap();
                assert_eq!(first.file().metadata().unwrap().mode() & 0o7777, 0o660, "whatever the umask");
                let before = names(dir.path());
                match birth {
                    Birth::Best => assert_eq!(before, [""; 0], "{birth:?}"),
                    Birth::Temporary => {
                        assert!(before.len() == 2 && before.iter().all(|name| name.starts_with(TEMPORARY_PREFIX)))
                    }
                }
                first.link(fd.as_fd(), "1.ring").unwrap();
                let temporary = names(dir.path()).iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)).count();
                assert_eq!(temporary, usize::from(birth == Birth::Temporary), "only the second's is left");
                let lost = second.link(fd.as_fd(), "1.ring").unwrap_err();
                assert_eq!(lost.kind(), io::ErrorKind::AlreadyExists);
                second.link(fd.as_fd(), "2.ring").unwrap();
                let file = first.into_file();
                assert_eq!(links(file.as_fd()).unwrap(), 1);
                assert_eq!(path_key(fd.as_fd(), "1.ring").unwrap(), Some(file_key(file.as_fd()).unwrap()));
                drop(second);
                let mut after = names(dir.path());
                after.sort();
                assert_eq!(after, ["1.ring", "2.ring"]);
                for name in after {
                    std::fs::remove_file(dir.path().join(name)).unwrap();
                }
                assert_eq!(links(file.as_fd()).unwrap(), 0);
                assert_eq!(path_key(fd.as_fd(), "1.ring").unwrap(), None);
            }
        }
    }

    #[test]
    fn never_linked_it_leaves_nothing() {
        for dir in dirs() {
            let fd = File::open(dir.path()).unwrap();
            for birth in [Birth::Best, Birth::Temporary] {
                drop(create_unnamed_by(fd.as_fd(), 0o600, birth).unwrap());
                assert!(names(dir.path()).is_empty());
            }
            let mut best = create_unnamed(fd.as_fd(), 0o600).unwrap();
            let mut temporary = create_unnamed_by(fd.as_fd(), 0o600, Birth::Temporary).unwrap();
            // Somebody puts their own file where our temporary one was.
            let name = names(dir.path()).pop().unwrap();
            std::fs::remove_file(dir.path().join(&name)).unwrap();
            std::fs::write(dir.path().join(&name), "not ours").unwrap();
            assert_eq!(temporary.link(fd.as_fd(), "1.ring").unwrap_err().kind(), io::ErrorKind::NotFound);
            drop(temporary);
            for entry in names(dir.path()) {
                std::fs::remove_file(dir.path().join(entry)).unwrap();
            }
            drop(dir);
            assert_eq!(best.link(fd.as_fd(), "1.ring").unwrap_err().kind(), io::ErrorKind::NotFound);
            // (tmpfs makes an unnamed file even in a removed directory; ext4 doesn't.)
            let late = create_unnamed_by(fd.as_fd(), 0o600, Birth::Temporary).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::NotFound);
            for name in ["", ".", "..", "a/b", "/", "a\0b"] {
                assert_eq!(best.link(fd.as_fd(), name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
        }
    }

    #[test]
    fn reserved_means_no_holes() {
        for dir in dirs() {
            let file = tempfile::tempfile_in(dir.path()).unwrap();
            let len = STRIDE + 12_345;
            reserve(&file, len).unwrap();
            let meta = file.metadata().unwrap();
            assert_eq!(meta.len(), len);
            assert!(meta.blocks() * 512 >= len, "{} blocks", meta.blocks());
            let mut buf = [1; 4];
            assert_eq!(read_prefix(&file, &mut buf).unwrap(), 4);
            assert_eq!(buf, [0; 4]);
            assert!(matches!(reserve(&file, 1), Err(ReserveError::Os { .. })), "what holds something is left alone");
            assert_eq!(file.metadata().unwrap().len(), len);
        }
        let file = tempfile::tempfile().unwrap();
        let mut at = 0;
        while at < 200_000 {
            at += write_zeros(&file, at, 200_000 - at).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), 200_000);
        assert!(file.metadata().unwrap().blocks() * 512 >= 200_000);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers_and_takes_nothing() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        let wanted = free_bytes(file.as_fd()).unwrap() * 2 + (1 << 30);
        match reserve(&file, wanted).unwrap_err() {
            ReserveError::NoSpace { wanted: asked, free } => assert!(asked == wanted && free < wanted && free > 0),
            other => panic!("{other}"),
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn only_regular_trusted_files_are_opened_and_nothing_hangs() {
        for dir in dirs() {
            let fd = File::open(dir.path()).unwrap();
            let at = |name: &str| dir.path().join(name);
            let open = |name: &str| open_checked(fd.as_fd(), name, true, &mine());
            let mode = |name: &str, bits| std::fs::set_permissions(at(name), PermissionsExt::from_mode(bits)).unwrap();

            assert!(matches!(open("none").unwrap_err(), OpenError::NotFound));
            std::fs::write(at("good"), "12345").unwrap();
            mode("good", 0o600);
            let file = open("good").unwrap();
            let mut buf = [0; 8];
            assert_eq!(read_prefix(&file, &mut buf).unwrap(), 5, "short at the end of the file");
            let flags = rustix::io::fcntl_getfd(&file).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "what is executed inherits its locks");
            mode("good", 0o640);
            let error = open("good").unwrap_err();
            assert!(matches!(error, OpenError::TooWide { found: 0o640, allowed: 0o600 }), "{error}");
            mode("good", 0o4600);
            assert!(matches!(open("good").unwrap_err(), OpenError::TooWide { found: 0o4600, .. }));

            symlink("good", at("link")).unwrap();
            assert!(matches!(open("link").unwrap_err(), OpenError::Symlink));
            std::fs::create_dir(at("dir")).unwrap();
            assert!(matches!(open("dir").unwrap_err(), OpenError::NotRegular { kind: Irregular::Directory }));
            assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
            mode("fifo", 0o600);
            for write in [false, true] {
                let error = open_checked(fd.as_fd(), "fifo", write, &mine()).unwrap_err();
                assert!(matches!(error, OpenError::NotRegular { kind: Irregular::Fifo }), "{error}");
            }
            let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
            assert!(matches!(open("socket").unwrap_err(), OpenError::NotRegular { kind: Irregular::Socket }));
            assert!(matches!(open("../etc").unwrap_err(), OpenError::Other(_)));

            if rustix::process::geteuid().is_root() {
                std::fs::write(at("theirs"), "").unwrap();
                mode("theirs", 0o600);
                std::os::unix::fs::chown(at("theirs"), Some(4321), None).unwrap();
                let error = open("theirs").unwrap_err();
                assert!(matches!(error, OpenError::Owner { found: 4321, trusted: 0 }), "{error}");
                let other = Trust { uid: 4321, mode: 0o777 };
                open_checked(fd.as_fd(), "theirs", false, &other).unwrap();
                open_checked(fd.as_fd(), "good", false, &Trust { uid: 4321, mode: 0o7777 }).expect("root's");
            }
        }
        let dev = File::open("/dev").unwrap();
        let error = open_checked(dev.as_fd(), "null", true, &TRUST).unwrap_err();
        assert!(matches!(error, OpenError::NotRegular { kind: Irregular::Device }), "{error}");
    }

    #[test]
    fn file_systems_are_told_apart() {
        assert_eq!(is_local_fs(File::open("/dev/shm").unwrap().as_fd()).unwrap(), Ok(()));
        let kind = is_local_fs(File::open("/proc").unwrap().as_fd()).unwrap().unwrap_err();
        assert_eq!(format!("{kind}"), "a file system with magic number 0x9fa0");
        assert_eq!(format!("{:?} {:?}", FsKind(0x6969), FsKind(0x0102_1994)), "nfs tmpfs");
        assert!(!FsKind(0x6573_5546).is_local() && !FsKind(0).is_local());
        assert!(in_memory(File::open("/dev/shm").unwrap().as_fd()).unwrap());
        assert!(!in_memory(File::open("/proc").unwrap().as_fd()).unwrap());
    }
}
