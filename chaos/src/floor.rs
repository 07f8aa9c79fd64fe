//! The least that a take-over could cost: from SIGKILL of a process that holds a lock to the waking of one that is
//! parked on it, and nothing else. Small processes, no ring.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

/// How long the waiter gets to park itself before the holder is killed.
pub(crate) const PARK: Duration = Duration::from_millis(3);

/// A sample under way.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Waits behind its gate with the lock's only descriptor.
    pub(crate) holder: i32,
    /// Parked on the lock.
    pub(crate) waiter: i32,
    /// When the holder may be killed.
    pub(crate) ripe: Instant,
    /// Keeps the holder where it is.
    pub(crate) gate: crate::engine::Gate,
}

/// A file with its first byte locked by the one description, and another description of it.
pub(crate) fn lock_file(dir: &Path) -> std::io::Result<(File, File)> {
    let path = dir.join(format!("floor-{}", crate::ledger::now()));
    let held = File::options().create_new(true).read(true).write(true).open(&path)?;
    let other = File::options().read(true).write(true).open(&path);
    std::fs::remove_file(&path)?;
    let lock = nix::libc::flock { l_type: nix::libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    fcntl(held.as_fd(), FcntlArg::F_OFD_SETLK(&lock))?;
    Ok((held, other?))
}
