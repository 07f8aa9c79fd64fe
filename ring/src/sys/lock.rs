//! Role locks: open-file-description locks (`F_OFD_*`) on bytes of a segment's own inode.
//!
//! The kernel drops such a lock when the last descriptor of its *open file description* is closed, which at death it
//! always is: nothing else need be believed about the peer. Unlike POSIX record locks, closing another descriptor of the
//! same file drops nothing, and two descriptions in one process exclude each other like two processes do.
//!
//! The lock belongs to the description, so `dup`, `fork` and `SCM_RIGHTS` share it, and a call on the same description
//! converts it: a lock never conflicts with one that its own description holds. Bytes need not exist in the file, and
//! neither truncation nor unlinking touches a lock.
//!
//! While any of these functions runs, peers may take, drop and probe any byte. An answer about somebody else's lock was
//! true at one instant inside the call; only *we hold it* stays true afterwards.

use crate::canary;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::io;
use std::os::fd::BorrowedFd;

/// How a byte is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside other shared locks. Needs a descriptor open for reading.
    Shared,
    /// Alone. Needs a descriptor open for writing.
    Exclusive,
}

/// What [`probe`] found on a byte: the strongest fact it can prove about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// No other description has a lock there (our own may).
    Nobody,
    /// Another description holds a shared lock; an exclusive one can't exist at the same time.
    Shared,
    /// Another description holds it exclusively.
    Exclusive,
}

/// Tries to lock one byte; `false` if another description holds a conflicting lock. Never blocks.
///
/// A lock that this description already has on the byte is converted to `mode`.
///
/// # Errors
///
/// `EBADF` if the descriptor isn't open for what `mode` needs; `ENOLCK` if the kernel is out of locks; `InvalidInput` if
/// `byte` is beyond `i64::MAX`.
pub fn try_lock(fd: BorrowedFd<'_>, byte: u64, mode: Mode) -> io::Result<bool> {
    try_lock_range(fd, byte, 1, mode)
}

/// Tries to lock `len` bytes from `first`, all or none; `false` if another description holds a conflicting lock on any.
///
/// # Errors
///
/// As [`try_lock`]; also `InvalidInput` if `len` is 0 (the kernel would take that as "to the end of the file").
pub fn try_lock_range(fd: BorrowedFd<'_>, first: u64, len: u64, mode: Mode) -> io::Result<bool> {
    let request = request(kind(mode), first, len)?;
    let lock = || match canary!("process-locks") {
        true => fcntl(fd, FcntlArg::F_SETLK(&request)),
        false => fcntl(fd, FcntlArg::F_OFD_SETLK(&request)),
    };
    match retry(lock) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Drops this description's lock on one byte; no error if it has none.
///
/// # Errors
///
/// As [`try_lock`].
pub fn unlock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    unlock_range(fd, byte, 1)
}

/// Drops this description's locks on `len` bytes from `first`, splitting a longer lock if need be.
///
/// # Errors
///
/// As [`try_lock_range`].
pub fn unlock_range(fd: BorrowedFd<'_>, first: u64, len: u64) -> io::Result<()> {
    let request = request(libc::F_UNLCK, first, len)?;
    retry(|| fcntl(fd, FcntlArg::F_OFD_SETLK(&request)))?;
    Ok(())
}

/// Asks who holds one byte, without taking it. Works on a read-only descriptor.
///
/// The answer is about *other* descriptions, at one instant: the holder may have dropped it, or somebody taken it, before
/// this returns. `Exclusive` proves a living holder (or a leak of its description); `Nobody` proves that at that instant
/// there was none. Where several hold it shared, one of them is reported.
///
/// # Errors
///
/// As [`try_lock`], but for `EBADF`, which means here that the descriptor isn't open at all (or is `O_PATH`).
pub fn probe(fd: BorrowedFd<'_>, byte: u64) -> io::Result<Held> {
    probe_range(fd, byte, 1)
}

/// As [`probe`], of `len` bytes from `first`: `Nobody` proves that none of them was held; else one of the locks there is reported.
///
/// # Errors
///
/// As [`probe`]; also `InvalidInput` if `len` is 0.
pub fn probe_range(fd: BorrowedFd<'_>, first: u64, len: u64) -> io::Result<Held> {
    let question = request(libc::F_WRLCK, first, len)?;
    let mut answer = question;
    retry(|| {
        answer = question;
        fcntl(fd, FcntlArg::F_OFD_GETLK(&mut answer))
    })?;
    Ok(match i32::from(answer.l_type) {
        libc::F_UNLCK => Held::Nobody,
        libc::F_RDLCK => Held::Shared,
        _ => Held::Exclusive,
    })
}

/// Waits for one byte, exclusively. `Interrupted` if a signal handler without `SA_RESTART` ran meanwhile: for
/// [`park`](super::park), whose way out that is.
pub(super) fn lock_interruptibly(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    let request = request(libc::F_WRLCK, byte, 1)?;
    fcntl(fd, FcntlArg::F_OFD_SETLKW(&request))?;
    Ok(())
}

const fn kind(mode: Mode) -> libc::c_int {
    match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    }
}

/// The kernel's request for `len` bytes from `first`; `l_pid` must be 0 for open-file-description locks.
fn request(kind: libc::c_int, first: u64, len: u64) -> io::Result<libc::flock> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a lock is on at least one byte, all below 2^63");
    let last = first.checked_add(len.checked_sub(1).ok_or_else(invalid)?).ok_or_else(invalid)?;
    libc::off_t::try_from(last).map_err(|_| invalid())?;
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: first as libc::off_t,
        l_len: len as libc::off_t,
        l_pid: 0,
    })
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;

    fn two() -> (tempfile::NamedTempFile, File, File) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(named.path()).unwrap();
        let (a, b) = (open(), open());
        (named, a, b)
    }

    #[test]
    fn two_descriptions_of_one_process_exclude_each_other() {
        let (_named, a, b) = two();
        assert!(try_lock(a.as_fd(), 0, Mode::Exclusive).unwrap());
        assert!(!try_lock(b.as_fd(), 0, Mode::Exclusive).unwrap());
        assert!(!try_lock(b.as_fd(), 0, Mode::Shared).unwrap());
        assert!(try_lock(b.as_fd(), 1, Mode::Exclusive).unwrap(), "another byte is another lock");
        assert!(!try_lock_range(b.as_fd(), 0, 8, Mode::Exclusive).unwrap(), "all or none");
        assert_eq!(probe(a.as_fd(), 2).unwrap(), Held::Nobody, "nothing was taken of the range");
        unlock(a.as_fd(), 0).unwrap();
        assert!(try_lock(b.as_fd(), 0, Mode::Exclusive).unwrap());
    }

    #[test]
    fn closing_another_descriptor_of_the_file_drops_nothing() {
        let (named, a, b) = two();
        assert!(try_lock(a.as_fd(), 0, Mode::Exclusive).unwrap());
        drop(File::open(named.path()).unwrap());
        assert_eq!(probe(b.as_fd(), 0).unwrap(), Held::Exclusive);
        let copy = a.try_clone().unwrap();
        drop(a);
        assert_eq!(probe(b.as_fd(), 0).unwrap(), Held::Exclusive, "a duplicate keeps the description open");
        drop(copy);
        assert_eq!(probe(b.as_fd(), 0).unwrap(), Held::Nobody);
    }

    #[test]
    fn a_probe_tells_modes_apart_and_works_read_only() {
        let (named, a, b) = two();
        let read_only = File::open(named.path()).unwrap();
        assert_eq!(probe(read_only.as_fd(), 128).unwrap(), Held::Nobody);
        assert!(try_lock(a.as_fd(), 128, Mode::Shared).unwrap());
        assert!(try_lock(b.as_fd(), 128, Mode::Shared).unwrap());
        assert_eq!(probe(read_only.as_fd(), 128).unwrap(), Held::Shared);
        assert!(!try_lock(a.as_fd(), 128, Mode::Exclusive).unwrap(), "no conversion against another's shared lock");
        unlock(b.as_fd(), 128).unwrap();
        assert_eq!(probe(a.as_fd(), 128).unwrap(), Held::Nobody, "one's own lock is no answer");
        assert!(try_lock(a.as_fd(), 128, Mode::Exclusive).unwrap());
        assert_eq!(probe(read_only.as_fd(), 128).unwrap(), Held::Exclusive);
        assert!(!try_lock(read_only.as_fd(), 128, Mode::Shared).unwrap());
        assert_eq!(
            try_lock(read_only.as_fd(), 0, Mode::Exclusive).unwrap_err().raw_os_error(),
            Some(libc::EBADF),
            "an exclusive lock wants a writable descriptor"
        );
    }

    #[test]
    fn ranges_and_their_edges() {
        let (_named, a, b) = two();
        assert!(try_lock_range(a.as_fd(), 1, 64, Mode::Exclusive).unwrap());
        unlock_range(a.as_fd(), 10, 2).unwrap();
        assert!(try_lock(b.as_fd(), 10, Mode::Exclusive).unwrap(), "a hole in the middle");
        assert_eq!(probe(b.as_fd(), 12).unwrap(), Held::Exclusive);
        assert_eq!(probe(b.as_fd(), 65).unwrap(), Held::Nobody);
        for (first, len) in [(0, 0), (u64::MAX, 1), (i64::MAX as u64, 2), (1, u64::MAX)] {
            let error = try_lock_range(a.as_fd(), first, len, Mode::Shared).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{first} + {len}");
        }
        assert!(try_lock(a.as_fd(), i64::MAX as u64, Mode::Exclusive).unwrap());
    }
}
