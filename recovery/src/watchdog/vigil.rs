//! Processes that own writers: a descriptor for each, which the kernel makes readable the moment the process ends.
//!
//! That a process has ended is a reason to look at once, never a verdict: what its channels are is said by their locks.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use ringward_ring::identity::Owner;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};

use crate::owner::{Viewer, Whereabouts};

/// A process: its number and its start time.
type Process = (u32, u64);

fn process(owner: &Owner) -> Process {
    (owner.pid, owner.start)
}

#[derive(Debug)]
struct Watched {
    fd: OwnedFd,
    /// A channel of this look has it for an owner.
    used: bool,
}

#[derive(Debug)]
pub(super) struct Vigil {
    processes: HashMap<Process, Watched>,
    /// Most descriptors that may be kept.
    budget: usize,
}

impl Vigil {
    /// Keeps at most so many descriptors, or a quarter of this process's.
    pub(super) fn new(descriptors: Option<usize>) -> Vigil {
        let mut vigil = Vigil { processes: HashMap::new(), budget: 0 };
        vigil.keep(descriptors);
        vigil
    }

    /// From now on.
    pub(super) fn keep(&mut self, descriptors: Option<usize>) {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        self.budget = descriptors.unwrap_or(usize::try_from(limit / 4).unwrap_or(usize::MAX));
    }

    /// Descriptors that may still be kept, `taken` being kept elsewhere.
    pub(super) fn room(&self, taken: usize) -> bool {
        self.processes.len() + taken < self.budget
    }

    /// Watches a process, if it is here; says whether it is watched.
    pub(super) fn watch(&mut self, owner: &Owner, viewer: &Viewer, taken: usize) -> bool {
        if let Some(watched) = self.processes.get_mut(&process(owner)) {
            watched.used = true;
            return true;
        }
        let Some(pid) = i32::try_from(owner.pid).ok().and_then(Pid::from_raw) else { return false };
        if !self.room(taken) {
            return false;
        }
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        // The descriptor first, then its start time: so it is this one's.
        if viewer.whereabouts_now(owner) != Whereabouts::Here {
            return false;
        }
        self.processes.insert(process(owner), Watched { fd, used: true });
        true
    }

    /// Whether it is watched and had not ended when last asked.
    pub(super) fn watches(&mut self, owner: &Owner) -> bool {
        match self.processes.get_mut(&process(owner)) {
            Some(watched) => {
                watched.used = true;
                true
            }
            None => false,
        }
    }

    /// Watches those no more that have ended.
    pub(super) fn drop_ended(&mut self) {
        let (keys, mut fds): (Vec<Process>, Vec<PollFd<'_>>) =
            self.processes.iter().map(|(key, watched)| (*key, PollFd::new(&watched.fd, PollFlags::IN))).unzip();
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let asked = poll(&mut fds, Some(&none));
        // In doubt none of them is: then all channels are looked at in full.
        let ended: HashSet<Process> = keys
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| asked.is_err() || !fd.revents().is_empty())
            .map(|(key, _)| key)
            .collect();
        drop(fds);
        self.processes.retain(|key, _| !ended.contains(key));
    }

    /// Before a look: nobody is used yet.
    pub(super) fn begin(&mut self) {
        self.processes.values_mut().for_each(|watched| watched.used = false);
    }

    /// After a look: whoever owns nothing any more is let go.
    pub(super) fn finish(&mut self) {
        self.processes.retain(|_, watched| watched.used);
    }

    /// Waits until one of them ends, `also` can be read, or the time is up.
    pub(super) fn wait(&self, limit: Duration, also: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> =
            self.processes.values().map(|watched| PollFd::new(&watched.fd, PollFlags::IN)).collect();
        fds.extend(also.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let limit = limit.min(Duration::from_secs(3600));
        let time = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
