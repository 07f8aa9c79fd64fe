//! The mark on a file that says since when it has been nobody's. It survives the watchdog that set it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use ringward_ring::canary;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use tracing::debug;

/// Modification time (seconds since 1970) of a file that a watchdog has marked as nobody's. Setting it makes the kernel stamp
/// the change time, which nobody can set: that is since when. (Not the access time: under `relatime` a mere look moves it.)
const MARK: i64 = 1;

/// How long ago a file was marked; `None` if it is not.
pub(super) fn mark_age(fd: BorrowedFd<'_>) -> io::Result<Option<Duration>> {
    let stat = rustix::fs::fstat(fd)?;
    if stat.st_mtime != MARK || canary!("grace-not-marked") {
        return Ok(None);
    }
    let seconds = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    let since = seconds + Duration::from_nanos(stat.st_ctime_nsec);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Some(now.saturating_sub(since)))
}

/// Marks a file as nobody's from now on.
pub(super) fn mark(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_modified(fd, Timespec { tv_sec: MARK, tv_nsec: 0 })
}

/// Somebody lives here again: takes a mark away.
pub(super) fn unmark(file: &File) {
    if canary!("old-mark-kept") {
        return;
    }
    if mark_age(file.as_fd()).is_ok_and(|age| age.is_some())
        && let Err(error) = set_modified(file.as_fd(), Timespec { tv_sec: 0, tv_nsec: UTIME_NOW })
    {
        debug!(%error, "cannot take an orphan's mark away");
    }
}

fn set_modified(fd: BorrowedFd<'_>, time: Timespec) -> io::Result<()> {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Ok(rustix::fs::futimens(fd, &Timestamps { last_access: untouched, last_modification: time })?)
}
