//! A namespace: a directory of channels that is ours alone, under a root on a local file system.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_ring::canary;
use ringward_ring::sys::file::{self, FileKey, OpenError as FileOpenError, Trust};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

/// Environment variable that names the root where no builder does.
pub const ROOT_VARIABLE: &str = "RINGWARD_ROOT";
/// The root where neither builder nor environment names one.
pub const DEFAULT_ROOT: &str = "/dev/shm";
/// Longest name of a namespace or channel, in bytes.
pub(crate) const MAX_NAME: usize = 100;
/// Prefix of the private directories in which channels are born.
pub(crate) const BIRTH_PREFIX: &str = ".birth-";

/// A name that no channel or namespace can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {found:?} is not 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -, beginning with a letter, digit or _; choose another [RW-NAME]"
)]
pub struct BadName {
    /// Namespace or channel.
    pub what: &'static str,
    /// What was given.
    pub found: String,
}

/// Checks the name of a namespace or channel.
///
/// # Errors
///
/// [`BadName`].
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), BadName> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if first && name.len() <= MAX_NAME && name.bytes().all(ok) {
        Ok(())
    } else {
        Err(BadName { what, found: name.to_owned() })
    }
}

/// Why a namespace could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name can't be.
    #[error(transparent)]
    Name(#[from] BadName),
    /// There is none, and it was not to be made.
    #[error("there is no namespace {path}; nothing was sent there yet, or the root is another one [RW-NS-MISSING]")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The root is on a file system where locks can't be relied on.
    #[error(
        "{root} is on a file system of kind {kind}, where locks and shared memory can't be relied on; use /dev/shm or another local one [RW-NS-FS]"
    )]
    FileSystem {
        /// The root.
        root: PathBuf,
        /// Its kind.
        kind: String,
    },
    /// Something else has the name: a file, a symbolic link.
    #[error(
        "{path} is no directory (or a symbolic link); somebody else took the name, look who and choose another [RW-NS-SQUAT]"
    )]
    NotDirectory {
        /// What it is about.
        path: PathBuf,
    },
    /// The directory is somebody else's.
    #[error("{path} belongs to uid {found}, not to {expected}; choose another namespace [RW-NS-OWNER]")]
    Owner {
        /// What it is about.
        path: PathBuf,
        /// Owner that was found.
        found: u32,
        /// Owner that was expected.
        expected: u32,
    },
    /// The directory is open to more people than was asked for.
    #[error(
        "{path} has mode {found:04o}, at most {allowed:04o} was asked for; chmod it, or ask for the wider mode [RW-NS-MODE]"
    )]
    TooWide {
        /// What it is about.
        path: PathBuf,
        /// Mode that was found.
        found: u32,
        /// Mode that is allowed.
        allowed: u32,
    },
    /// Anything else that the system said.
    #[error("{path}: {doing}: {source} [RW-NS-SYSTEM]")]
    System {
        /// What it is about.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Chooses a namespace.
#[derive(Debug, Clone)]
pub struct NamespaceBuilder {
    root: PathBuf,
    name: String,
    mode: u32,
    group: Option<u32>,
    owner: Option<u32>,
    create: bool,
}

/// An open namespace. Cheap to clone; later work goes through its descriptor, whatever happens to its name.
#[derive(Debug, Clone)]
pub struct Namespace {
    dir: Arc<OwnedFd>,
    path: PathBuf,
    name: String,
    file_mode: u32,
    dir_mode: u32,
    group: Option<u32>,
    trust: Trust,
    asked: NamespaceBuilder,
}

impl NamespaceBuilder {
    /// Root directory; `RINGWARD_ROOT`, else /dev/shm, unless set here.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Permission bits of its segments, 0600 unless set; directories get the execute bits to go with the read bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o666;
        self
    }

    /// Group of everything in it, if not the process's own.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// User id that the namespace must belong to (root's is taken as well), if it is not this process's own. One that is shared by its mode
    /// is otherwise taken from whoever made it: in a root where everybody may make directories, that can be anybody.
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Whether to make it if it is not there (yes, unless set).
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens the namespace.
    ///
    /// The directory is opened without following a symbolic link; its owner and mode are checked, and everything in it is opened relative
    /// to it.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`].
    pub fn open(mut self) -> Result<Namespace, NamespaceError> {
        check_name("namespace", &self.name)?;
        // So that it can be opened anew from wherever this process works by then.
        self.root = std::path::absolute(&self.root).unwrap_or(self.root);
        let path = self.root.join(&self.name);
        let uid = rustix::process::geteuid().as_raw();
        let dir_mode = 0o700 | self.mode | (self.mode & 0o444) >> 2;
        let system = |path: &Path, doing| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| NamespaceError::System { path, doing, source: error.into() }
        };
        let root = rustix::fs::open(&self.root, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
            .map_err(system(&self.root, "open the root"))?;
        let local = file::is_local_fs(root.as_fd()).map_err(|source| NamespaceError::System {
            path: self.root.clone(),
            doing: "statfs",
            source,
        })?;
        if let Err(kind) = local {
            let kind = kind.name().map_or_else(|| format!("{:#x}", kind.0), str::to_owned);
            return Err(NamespaceError::FileSystem { root: self.root, kind });
        }
        let mut made = false;
        if self.create {
            match rustix::fs::mkdirat(&root, self.name.as_str(), Mode::from_raw_mode(0o700)) {
                Ok(()) => made = true,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(system(&path, "mkdir")(error)),
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = match rustix::fs::openat(&root, self.name.as_str(), flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => return Err(NamespaceError::Missing { path }),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                return Err(NamespaceError::NotDirectory { path });
            }
            Err(error) => return Err(system(&path, "open")(error)),
        };
        if made {
            if let Some(group) = self.group {
                rustix::fs::fchown(&dir, None, Some(rustix::fs::Gid::from_raw(group)))
                    .map_err(system(&path, "set the group"))?;
            }
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(dir_mode)).map_err(system(&path, "set the mode"))?;
        }
        let stat = rustix::fs::fstat(&dir).map_err(system(&path, "fstat"))?;
        let shared = self.mode & 0o066 != 0;
        let expected = self.owner.unwrap_or(uid);
        if stat.st_uid != expected && stat.st_uid != 0 && !(shared && self.owner.is_none()) {
            return Err(NamespaceError::Owner { path, found: stat.st_uid, expected });
        }
        let found = stat.st_mode & 0o777;
        if found & !dir_mode != 0 && !canary!("namespace-mode-not-checked") {
            return Err(NamespaceError::TooWide { path, found, allowed: dir_mode });
        }
        // Where the namespace is shared with a group, its owner's segments are believed: whoever could plant others there
        // was let in on purpose.
        let trust = Trust { uid: if shared { stat.st_uid } else { expected }, mode: self.mode };
        Ok(Namespace {
            dir: Arc::new(dir),
            path,
            name: self.name.clone(),
            file_mode: self.mode,
            dir_mode,
            group: self.group,
            trust,
            asked: self,
        })
    }
}

impl Namespace {
    /// Begins to choose the namespace `name`.
    pub fn builder(name: impl Into<String>) -> NamespaceBuilder {
        let root = std::env::var_os(ROOT_VARIABLE).filter(|v| !v.is_empty());
        NamespaceBuilder {
            root: root.map_or_else(|| PathBuf::from(DEFAULT_ROOT), PathBuf::from),
            name: name.into(),
            mode: 0o600,
            group: None,
            owner: None,
            create: true,
        }
    }

    /// The namespace that programs of this user share unless told otherwise: `ringward-<uid>`.
    pub fn default_name() -> String {
        format!("ringward-{}", rustix::process::geteuid().as_raw())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its directory was removed, or another one has its name by now: nobody who opens it from now on comes to this one.
    ///
    /// It may be removed the moment after. Whoever waits in it [opens it anew](Self::reopen), and every channel from that.
    pub fn removed(&self) -> bool {
        let key = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let (Ok(mine), there) = (rustix::fs::fstat(&self.dir), rustix::fs::lstat(&self.path)) else { return false };
        if canary!("removed-namespace-kept") {
            return false;
        }
        mine.st_nlink == 0 || there.is_ok_and(|there| key(there) != key(mine))
    }

    /// Whether its directory has no name any more, so that nothing can be made in it.
    pub(crate) fn unlinked(&self) -> bool {
        file::links(self.dir()).is_ok_and(|links| links == 0)
    }

    /// Opens whatever has its name now, as it was opened; `create` as for [`NamespaceBuilder::create`].
    ///
    /// # Errors
    ///
    /// [`NamespaceError`].
    pub fn reopen(&self, create: bool) -> Result<Namespace, NamespaceError> {
        self.asked.clone().create(create).open()
    }

    /// Its open directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whose files are believed.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(crate) fn file_mode(&self) -> u32 {
        self.file_mode
    }

    pub(crate) fn dir_mode(&self) -> u32 {
        self.dir_mode
    }

    pub(crate) fn group(&self) -> Option<u32> {
        self.group
    }

    /// Bytes that are free on its file system.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn free_bytes(&self) -> io::Result<u64> {
        file::free_bytes(self.dir())
    }

    /// Names of the channels in it, sorted. Others may be born or retired meanwhile.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn channels(&self) -> io::Result<Vec<String>> {
        Ok(channels_of(entries(self.dir())?))
    }

    /// Opens the directory of a channel; `None` if there is none.
    pub(crate) fn channel_dir(&self, channel: &str) -> io::Result<Option<ChannelDir>> {
        ChannelDir::open(self.dir(), channel)
    }
}

/// Those entries of a namespace that a channel can have for a name, sorted.
pub(crate) fn channels_of(mut entries: Vec<String>) -> Vec<String> {
    entries.retain(|name| check_name("channel", name).is_ok());
    entries.sort_unstable();
    entries
}

/// Names in a directory, without `.` and `..`; those that are no UTF-8 are left out.
pub(crate) fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The open directory of a channel's incarnation. Whoever holds an old one can touch only the old one.
#[derive(Debug, Clone)]
pub(crate) struct ChannelDir {
    fd: Arc<OwnedFd>,
    key: FileKey,
}

impl ChannelDir {
    pub(crate) fn open(parent: BorrowedFd<'_>, name: &str) -> io::Result<Option<ChannelDir>> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => {
                let key = file::file_key(fd.as_fd())?;
                Ok(Some(ChannelDir { fd: Arc::new(fd), key }))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn key(&self) -> FileKey {
        self.key
    }

    /// Numbers of the generations that have a name, ascending.
    pub(crate) fn generations(&self) -> io::Result<Vec<u64>> {
        let mut numbers: Vec<u64> = entries(self.fd())?.iter().filter_map(|name| generation_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes the name of generation `number` if it still is the file `key`.
    pub(crate) fn unlink(&self, number: u64, key: FileKey) -> io::Result<bool> {
        let name = generation_name(number);
        if file::path_key(self.fd(), &name)? != Some(key) && !canary!("inode-not-rechecked") {
            return Ok(false);
        }
        match rustix::fs::unlinkat(self.fd(), name.as_str(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the names in it on its disk, if it is on one.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.fd())?)
    }

    /// Whether the directory still has a name.
    pub(crate) fn named(&self) -> io::Result<bool> {
        Ok(file::links(self.fd())? > 0)
    }
}

/// File name of a generation.
pub fn generation_name(number: u64) -> String {
    format!("{number:08}.ring")
}

/// Number of the generation that has this file name.
pub fn generation_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".ring")?;
    let number: u64 = digits.parse().ok()?;
    (digits.len() >= 8 && number >= 1 && generation_name(number) == name).then_some(number)
}

/// A file of our own making whose descriptor carries a `flock`: says that its maker lives.
pub(crate) fn try_flock(dir: &impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(dir, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens the files of some generations, oldest first, as far as they are there and to be trusted. All of those or none: whoever
/// reads in one that is left out would count as gone.
pub(crate) fn open_files(
    dir: &ChannelDir,
    numbers: impl Iterator<Item = u64>,
    trust: &Trust,
) -> io::Result<Vec<Arc<File>>> {
    let mut files = Vec::new();
    for number in numbers {
        match file::open_checked(dir.fd(), &generation_name(number), true, trust) {
            Ok(file) => files.push(Arc::new(file)),
            Err(FileOpenError::Other(error) | FileOpenError::PermissionDenied(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the look at a generation and its end another file may have got its name.
    #[test]
    fn a_name_is_removed_only_from_the_very_file_that_was_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let parent = File::open(root.path()).unwrap();
        std::fs::create_dir(root.path().join("c")).unwrap();
        let path = root.path().join("c").join(generation_name(1));
        let dir = ChannelDir::open(parent.as_fd(), "c").unwrap().unwrap();
        let looked_at = File::create(&path).unwrap();
        let key = file::file_key(looked_at.as_fd()).unwrap();
        std::fs::rename(&path, root.path().join("elsewhere")).unwrap();
        File::create(&path).unwrap();
        assert!(!dir.unlink(1, key).unwrap(), "another file's name was removed");
        assert!(path.exists());
        let key = file::path_key(dir.fd(), &generation_name(1)).unwrap().unwrap();
        assert!(dir.unlink(1, key).unwrap() && !path.exists());
        assert!(!dir.unlink(1, key).unwrap(), "there is none any more");
    }

    #[test]
    fn generation_names_go_both_ways() {
        for number in [1, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(generation_number(&generation_name(number)), Some(number));
        }
        for name in ["1.ring", "00000000.ring", "0000000a.ring", "000000001.ring", "00000001.rin", "+0000001.ring"] {
            assert_eq!(generation_number(name), None, "{name}");
        }
    }
}
