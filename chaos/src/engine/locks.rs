//! Who holds file locks, as /proc/locks tells it.
//!
//! Each line is the kernel's own list of locks; open-file-description locks say `OFDLCK` and pid −1. The kernel
//! writes it without one lock over all of it: a lock that changes hands *while* it is read can be seen twice or not
//! at all, and so can any other one, so a violation must be seen in several readings in a row. The device is that of the superblock: on overlayfs
//! and btrfs it differs from `stat`'s; on tmpfs they agree.

use std::fs;

use nix::sys::stat::{major, minor};

use super::error::{EngineError, Result};

/// What kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Of an open file description (`F_OFD_SETLK`).
    Ofd,
    /// Of a process (`F_SETLK`).
    Posix,
    /// Of a whole file (`flock`).
    Flock,
    /// Leases, delegations and what may come.
    Other,
}

/// One lock, or one waiter for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// What kind.
    pub kind: LockKind,
    /// Exclusive, as opposed to shared.
    pub write: bool,
    /// Waiting for it, as opposed to holding it.
    pub waiting: bool,
    /// Holder, −1 for open-file-description locks.
    pub pid: i32,
    /// Major and minor of the file system's device.
    pub device: (u64, u64),
    /// The file.
    pub inode: u64,
    /// First byte.
    pub start: u64,
    /// Last byte, `u64::MAX` for "to the end".
    pub end: u64,
}

/// Holders of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holders {
    /// Exclusive holders: 0 or 1 unless the kernel is broken or the reading raced.
    pub write: usize,
    /// Shared holders.
    pub read: usize,
    /// Those who wait.
    pub waiting: usize,
}

/// All locks of the system that this pid namespace can see.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn locks() -> Result<Vec<Lock>> {
    Ok(parse(&fs::read_to_string("/proc/locks").map_err(EngineError::io("/proc/locks"))?))
}

/// Lines that make no sense are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Lock> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waiting = words.next_if_eq(&"->").is_some();
    let kind = match words.next()? {
        "OFDLCK" => LockKind::Ofd,
        "POSIX" => LockKind::Posix,
        "FLOCK" => LockKind::Flock,
        _ => LockKind::Other,
    };
    words.next()?;
    let write = words.next()? == "WRITE";
    let pid = words.next()?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let device = (u64::from_str_radix(file.next()?, 16).ok()?, u64::from_str_radix(file.next()?, 16).ok()?);
    let inode = file.next()?.parse().ok()?;
    let start = words.next()?.parse().ok()?;
    let end = match words.next()? {
        "EOF" => u64::MAX,
        end => end.parse().ok()?,
    };
    Some(Lock { kind, write, waiting, pid, device, inode, start, end })
}

/// Counts who holds open-file-description locks on `byte` of the file with `st_dev` and `inode`.
#[must_use]
pub fn holders(locks: &[Lock], st_dev: u64, inode: u64, byte: u64) -> Holders {
    let device = (major(st_dev), minor(st_dev));
    let mut count = Holders::default();
    for lock in locks {
        if lock.kind != LockKind::Ofd || lock.inode != inode || lock.device != device {
            continue;
        }
        if byte < lock.start || byte > lock.end {
            continue;
        }
        match lock {
            Lock { waiting: true, .. } => count.waiting += 1,
            Lock { write: true, .. } => count.write += 1,
            _ => count.read += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::linux::fs::MetadataExt as _;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::*;

    #[test]
    fn parses_holders_waiters_and_kinds() {
        let text = "1: POSIX  ADVISORY  READ  5433 08:01:7864448 128 128\n\
                    2: OFDLCK ADVISORY  WRITE -1 00:1b:77 0 0\n\
                    2: -> OFDLCK ADVISORY  WRITE -1 00:1b:77 0 0\n\
                    3: FLOCK  ADVISORY  WRITE 2001 08:01:7864554 0 EOF\n\
                    nonsense\n4: OFDLCK\n";
        let locks = parse(text);
        assert_eq!(locks.len(), 4);
        assert_eq!(locks[0].kind, LockKind::Posix);
        assert_eq!(locks[3].end, u64::MAX);
        assert!(locks[2].waiting);
        let dev = nix::sys::stat::makedev(0, 0x1b);
        assert_eq!(holders(&locks, dev, 77, 0), Holders { write: 1, read: 0, waiting: 1 });
        assert_eq!(holders(&locks, dev, 77, 1), Holders::default());
        assert_eq!(holders(&locks, dev, 78, 0), Holders::default());
    }

    #[test]
    fn sees_a_real_lock_come_and_go() {
        let path = format!("/dev/shm/ringward-engine-locks-{}", std::process::id());
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let meta = file.metadata().unwrap();
        let lock = libc::flock { l_type: libc::F_WRLCK as _, l_whence: 0, l_start: 3, l_len: 1, l_pid: 0 };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        let count = |byte| holders(&locks().unwrap(), meta.st_dev(), meta.st_ino(), byte);
        assert_eq!(count(3), Holders { write: 1, ..Holders::default() });
        assert_eq!(count(2), Holders::default());
        drop(file);
        assert_eq!(count(3), Holders::default());
    }
}
