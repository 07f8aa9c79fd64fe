//! SIGINT and SIGTERM (and SIGHUP, where it asks for a reload): noted by a thread that does nothing else; the commands look between two steps. A second one ends at
//! once, for whoever is stuck in a write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::exit::Failure;

/// Longest time between two looks for a signal.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Whether somebody wants this process to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    signal: Arc<AtomicI32>,
    reload: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
}

impl Stop {
    /// One that no signal ever reaches.
    pub(crate) fn deaf() -> Result<Stop, Failure> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Failure::system("make an eventfd", error))?;
        Ok(Stop { signal: Arc::new(AtomicI32::new(0)), reload: Arc::new(AtomicBool::new(false)), bell: Arc::new(bell) })
    }

    /// Takes the two signals over, and SIGHUP if it `reloads`: else that ends the process as ever. Call it before any other thread is
    /// started: they inherit that the signals are blocked.
    pub(crate) fn install(reloads: bool) -> Result<Stop, Failure> {
        // A file beyond the limit is an error that is told, not a death: blocked, the signal does nothing, and the call says EFBIG.
        let mut unheard = SigSet::empty();
        unheard.add(Signal::SIGXFSZ);
        unheard.thread_block().map_err(|error| Failure::system("block SIGXFSZ", error))?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        if reloads {
            set.add(Signal::SIGHUP);
        }
        set.thread_block().map_err(|error| Failure::system("block signals", error))?;
        let stop = Stop::deaf()?;
        let noted = stop.clone();
        std::thread::Builder::new()
            .name("ringward-signals".into())
            .stack_size(64 << 10)
            .spawn(move || {
                while let Ok(signal) = set.wait() {
                    if signal == Signal::SIGHUP {
                        noted.reload.store(true, Ordering::Release);
                    } else if noted.signal.swap(signal as i32, Ordering::AcqRel) != 0 {
                        std::process::exit(128 + signal as i32);
                    }
                    let _ = rustix::io::write(&noted.bell, &1u64.to_ne_bytes());
                }
            })
            .map_err(|error| Failure::system("start a thread", error))?;
        Ok(stop)
    }

    /// An error if a signal came.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.signal.load(Ordering::Acquire) {
            0 => Ok(()),
            signal => Err(Failure::Stopped(signal)),
        }
    }

    /// Sleeps, unless a signal comes.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now().checked_add(time);
        loop {
            self.check()?;
            let left = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            let left = left.min(Duration::from_secs(3600));
            let time = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN)];
            let _ = poll(&mut fds, Some(&time)); // whatever it says, the loop looks itself
        }
    }

    /// Waits with `wait`, which gets a descriptor that can be read when a signal comes, and says whether one came that asks for a
    /// reload.
    pub(crate) fn nap(&self, wait: impl FnOnce(BorrowedFd<'_>)) -> Result<bool, Failure> {
        self.check()?;
        if !self.reload.load(Ordering::Acquire) {
            wait(self.bell.as_fd());
        }
        // Quiet first, then look: who comes in between rings again.
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
        self.check()?;
        Ok(self.reload.swap(false, Ordering::AcqRel))
    }

    /// Waits until `fd` can be read or written, as `what` says, unless a signal comes.
    pub(crate) fn ready(&self, fd: BorrowedFd<'_>, what: PollFlags) -> Result<(), Failure> {
        loop {
            self.check()?;
            let mut fds =
                [PollFd::from_borrowed_fd(fd, what), PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => return self.check(),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::system("poll", error)),
            }
        }
    }
}
