//! What the kernel tells about the folders of channels that are glanced at: whether anything in them was linked, unlinked, cut or renamed.
//!
//! Stores through a mapping are not told of, and so the heartbeat makes no noise.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tracing::debug;

/// Most that is taken in at once: twice what the kernel keeps unless told otherwise.
const MOST: usize = 32 << 10;

/// One descriptor for all folders.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    fd: Option<Arc<OwnedFd>>,
    /// Folders in which something changed since the last look.
    stirred: HashSet<i32>,
    /// Folders in which somebody closed a file that it could write to, and with it let go of what it held in it.
    closed: HashSet<i32>,
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
            | WatchFlags::MOVE_SELF
            | WatchFlags::CLOSE_WRITE;
        let number = inotify::add_watch(inotify, path.as_str(), told)
            .inspect_err(|error| debug!(%error, "no inotify watch: the folder is looked at instead"))
            .ok()?;
        Some(Watched { inotify: Arc::clone(inotify), number })
    }

    /// Takes in what was told since the last time.
    pub(super) fn take_in(&mut self) {
        self.stirred.clear();
        self.closed.clear();
        if std::mem::take(&mut self.overflowed) {
            // Begun anew: what the old one still has to tell, of folders that are watched no more, could fill it again for ever.
            *self = Inbox::new();
        }
        let Some(fd) = &self.fd else { return };
        let mut room = [MaybeUninit::uninit(); 16 << 10];
        let mut told = inotify::Reader::new(fd, &mut room);
        // As many as it holds, and no more: whoever makes more of them meanwhile does not keep us here.
        for _ in 0..MOST {
            match told.next() {
                Ok(event) => {
                    self.overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    let closed = event.events() == ReadFlags::CLOSE_WRITE;
                    if closed { &mut self.closed } else { &mut self.stirred }.insert(event.wd());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => {
                    debug!(%error, "reading what inotify tells");
                    break;
                }
            }
        }
        self.overflowed = true;
    }

    /// Whether somebody let go of something in it.
    pub(super) fn closed(&self, watched: &Watched) -> bool {
        self.closed.contains(&watched.number)
    }

    /// Whether something in it changed, or may have.
    pub(super) fn stirred(&self, watched: &Watched) -> bool {
        let mine = self.fd.as_ref().is_some_and(|fd| Arc::ptr_eq(fd, &watched.inotify));
        !mine || self.overflowed || self.stirred.contains(&watched.number)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_happens_in_a_folder_is_told_once_and_after_too_much_of_it_everything_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let mut inbox = Inbox::new();
        let Some(watched) = inbox.watch(folder.as_fd()) else {
            println!("SKIPPED: this system has no inotify watch left");
            return;
        };
        inbox.take_in();
        assert!(!inbox.stirred(&watched));
        std::fs::write(dir.path().join("new"), b"x").unwrap();
        inbox.take_in();
        assert!(inbox.stirred(&watched));
        inbox.take_in();
        assert!(!inbox.stirred(&watched), "told once");
        // More than it takes in at once: alternating, so that the kernel does not put them together.
        let other = dir.path().join("other");
        std::fs::write(&other, b"x").unwrap();
        for _ in 0..MOST {
            std::fs::File::options().append(true).open(dir.path().join("new")).unwrap().set_len(1).unwrap();
            std::fs::File::options().append(true).open(&other).unwrap().set_len(1).unwrap();
        }
        inbox.take_in();
        assert!(inbox.overflowed && inbox.stirred(&watched));
        inbox.take_in();
        assert!(!inbox.overflowed && inbox.stirred(&watched), "watched by the old one: it can't be known");
        let again = inbox.watch(folder.as_fd()).unwrap();
        inbox.take_in();
        assert!(!inbox.stirred(&again));
    }
}
