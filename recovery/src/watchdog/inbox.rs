//! What the kernel tells about the folders of channels that are glanced at: whether anything in them was linked, unlinked, cut or renamed.
//!
//! Stores through a mapping are not told of, and so the heartbeat makes no noise.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tracing::debug;

/// One descriptor for all folders.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    fd: Option<Arc<OwnedFd>>,
    /// Folders about which something was told since the last look.
    stirred: HashSet<i32>,
    /// More was told than the kernel would keep: all folders.
    overflowed: bool,
}

/// A folder under watch, until it is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    inotify: Arc<OwnedFd>,
    number: i32,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Gone by itself if the folder was removed.
        let _ = inotify::remove_watch(&self.inotify, self.number);
    }
}

impl Inbox {
    /// Without inotify nothing is ever watched.
    pub(super) fn new() -> Inbox {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .inspect_err(|error| debug!(%error, "no inotify: folders are looked at instead"))
            .ok();
        Inbox { fd: fd.map(Arc::new), ..Inbox::default() }
    }

    /// Watches a folder, whatever its name is. `None`: the system has no watch left.
    pub(super) fn watch(&self, dir: BorrowedFd<'_>) -> Option<Watched> {
        let inotify = self.fd.as_ref()?;
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let told = WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let number = inotify::add_watch(inotify, path.as_str(), told)
            .inspect_err(|error| debug!(%error, "no inotify watch: the folder is looked at instead"))
            .ok()?;
        Some(Watched { inotify: Arc::clone(inotify), number })
    }

    /// Takes in what was told since the last time.
    pub(super) fn take_in(&mut self) {
        self.stirred.clear();
        self.overflowed = false;
        let Some(fd) = &self.fd else { return };
        let mut room = [MaybeUninit::uninit(); 16 << 10];
        let mut told = inotify::Reader::new(fd, &mut room);
        loop {
            match told.next() {
                Ok(event) => {
                    self.overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    self.stirred.insert(event.wd());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    debug!(%error, "reading what inotify tells");
                    self.overflowed = true;
                    break;
                }
            }
        }
    }

    /// Whether something was told about it.
    pub(super) fn stirred(&self, watched: &Watched) -> bool {
        self.overflowed || self.stirred.contains(&watched.number)
    }
}
