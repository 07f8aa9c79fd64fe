//! Waiting for a directory to change, or for somebody to call, bounded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// A bell that another thread can ring: an eventfd.
#[derive(Debug, Clone)]
pub(crate) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(crate) fn ring(&self) {
        // Full (a huge count) means that it rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn fd(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    pub(crate) fn quiet(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

/// An inotify watch on a directory. Where the system has none left, the wait falls back on short time-outs.
#[derive(Debug)]
pub(crate) struct Watch(Option<OwnedFd>);

/// Longest wait without inotify.
const BLIND: Duration = Duration::from_millis(20);

impl Watch {
    pub(crate) fn new(dir: BorrowedFd<'_>) -> io::Result<Watch> {
        let fd = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(error) => {
                tracing::debug!(%error, "no inotify: looking from time to time instead");
                return Ok(Watch(None));
            }
        };
        // The directory is watched by its inode: whatever its name is now.
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF;
        match inotify::add_watch(&fd, path.as_str(), flags) {
            Ok(_) => Ok(Watch(Some(fd))),
            Err(error) => {
                tracing::debug!(%error, "no inotify watch: looking from time to time instead");
                Ok(Watch(None))
            }
        }
    }

    /// Waits until the directory changes, `bell` rings, or the time is up.
    pub(crate) fn wait(&self, bell: Option<&Bell>, limit: Duration) -> io::Result<()> {
        let limit = if self.0.is_some() { limit } else { limit.min(BLIND) };
        let time = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
        let mut fds = Vec::with_capacity(2);
        if let Some(fd) = &self.0 {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        if let Some(bell) = bell {
            fds.push(PollFd::from_borrowed_fd(bell.0.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(fd) = &self.0 {
            // What changed does not matter, only that it did: whoever waits looks at the directory itself.
            while rustix::io::read(fd, &mut [0u8; 4096]).is_ok_and(|got| got > 0) {}
        }
        if let Some(bell) = bell {
            bell.quiet();
        }
        Ok(())
    }
}
