//! A role lock that is waited for on a thread of its own, with a way out.
//!
//! The kernel offers no descriptor that becomes readable when a lock is granted; it has only `F_OFD_SETLKW`, which blocks. So
//! a small thread blocks there, and tells by an eventfd, beside which its owner can poll for other things.
//! The kernel hands the lock over in the order of waiting: 65–190 µs after SIGKILL of a small holder.
//!
//! The way out is a signal: SIGURG, which by default does nothing, sent to that one thread until it says that it has left. A
//! signal that comes just before the thread blocks is lost, which is why it is repeated, and why the thread looks at its
//! orders before it blocks each time. For the signal to interrupt anything it needs a handler without `SA_RESTART`. If
//! SIGURG is at its default, or ignored, a handler that does nothing is installed (so that a host which uses
//! out-of-band data and relied on SIGURG being ignored may see `EINTR`). A host's own handler is left in place, and
//! does as well, unless it has `SA_RESTART`: then the thread can't be reached, and is *abandoned*; if it is granted the
//! lock one day, it drops it at once and ends.
//!
//! ```text
//!             granted: thread ──► GRANTED ──► take: ours │ cancel, drop: unlocked
//!  WAITING ─┤ error:   thread ──► FAILED
//!             cancel:  owner  ──► CANCELLED; granted after that: the thread unlocks
//! ```
//!
//! The thread blocks every signal but that one, so that none of the host's handlers ever runs on its small stack.
//!
//! # Safety
//!
//! The unsafe operations are calls of `sigaction` with valid pointers; the handler that is installed does nothing.
#![allow(unsafe_code)]

use super::fork::Stamp;
use super::lock;
use crate::canary;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const WAITING: u32 = 0;
const GRANTED: u32 = 1;
const FAILED: u32 = 2;
const CANCELLED: u32 = 3;

/// Signals that are sent before the thread is abandoned, and the time after each.
const TRIES: u32 = 100;
const PATIENCE: Duration = Duration::from_millis(2);
/// Bytes of the thread's stack.
const STACK: usize = 64 << 10;

/// What owner and thread share.
#[derive(Debug)]
struct Shared {
    file: Arc<File>,
    byte: u64,
    /// Granted, the lock is given back at once, by the thread itself.
    give_back: bool,
    state: AtomicU32,
    errno: AtomicI32,
    left: Mutex<bool>,
    leaving: Condvar,
}

impl Shared {
    /// The one transition out of `WAITING`; the state that was there before.
    fn settle(&self, state: u32) -> Result<u32, u32> {
        self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The thread.
    fn wait(&self, wake: &OwnedFd) {
        let settled = loop {
            if self.state.load(Ordering::Acquire) != WAITING {
                break false;
            }
            match lock::lock_interruptibly(self.file.as_fd(), self.byte) {
                Ok(()) => {
                    if self.give_back && !canary!("granted-lock-kept") {
                        let _ = lock::unlock(self.file.as_fd(), self.byte);
                    }
                    let ours = self.settle(GRANTED).is_ok();
                    if !ours && !self.give_back {
                        let _ = lock::unlock(self.file.as_fd(), self.byte);
                    }
                    break ours;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Relaxed);
                    break self.settle(FAILED).is_ok();
                }
            }
        };
        if settled {
            // A full eventfd is readable already; nothing else can be done about an error here.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }

    fn leave(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.leaving.notify_all();
    }

    /// Waits for the thread to have left, for at most `time`; whether it has.
    fn has_left(&self, time: Duration) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.leaving.wait_timeout_while(left, time, |left| !*left);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// An exclusive lock on one byte, being waited for. Dropped, it is given up, and unlocked if it was granted.
///
/// The lock is the file's open file description's. Use a description that nothing else needs: an abandoned thread keeps
/// it open, and with it every lock that it has.
#[derive(Debug)]
pub struct ParkedLock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    stamp: Stamp,
}

impl ParkedLock {
    /// Starts waiting for `byte` of `file`, open for writing. `wake`, an eventfd, gets 1 added when there is something to
    /// be seen: [`granted`](ParkedLock::granted), or [`failure`](ParkedLock::failure).
    ///
    /// # Errors
    ///
    /// No thread is to be had (`EAGAIN`), or SIGURG can't be set up.
    pub fn park(file: Arc<File>, byte: u64, wake: Arc<OwnedFd>) -> io::Result<ParkedLock> {
        ParkedLock::start(file, byte, wake, false)
    }

    /// As [`park`](ParkedLock::park), only to learn that the byte was free once: the thread gives the lock back in the same
    /// breath, whatever its process is doing meanwhile. [`take`](ParkedLock::take) then never has it.
    ///
    /// # Errors
    ///
    /// As [`park`](ParkedLock::park).
    pub fn learn(file: Arc<File>, byte: u64, wake: Arc<OwnedFd>) -> io::Result<ParkedLock> {
        ParkedLock::start(file, byte, wake, true)
    }

    fn start(file: Arc<File>, byte: u64, wake: Arc<OwnedFd>, give_back: bool) -> io::Result<ParkedLock> {
        let stamp = Stamp::here()?;
        make_interrupting()?;
        let shared = Arc::new(Shared {
            file,
            byte,
            give_back,
            state: AtomicU32::new(WAITING),
            errno: AtomicI32::new(0),
            left: Mutex::new(false),
            leaving: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let body = move || {
            let mut mask = SigSet::all();
            mask.remove(Signal::SIGURG);
            // Should this fail, the thread only can't be reached, and will be abandoned.
            let _ = mask.thread_set_mask();
            theirs.wait(&wake);
            drop(wake);
            theirs.leave();
        };
        // The thread inherits this thread's mask: there is no instant at which a host's handler could run on it.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = std::thread::Builder::new().name("ringward-park".into()).stack_size(STACK).spawn(body);
        let restored = before.thread_set_mask();
        let parked = ParkedLock { shared, thread: Some(thread?), stamp };
        restored?;
        Ok(parked)
    }

    /// Whether the lock is ours. `true` is final until [`take`](ParkedLock::take), [`cancel`](ParkedLock::cancel) or drop.
    pub fn granted(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == GRANTED
    }

    /// Why the lock will never be granted, if so: `EBADF` (not open for writing), `ENOLCK`, …
    pub fn failure(&self) -> Option<io::Error> {
        (self.shared.state.load(Ordering::Acquire) == FAILED)
            .then(|| io::Error::from_raw_os_error(self.shared.errno.load(Ordering::Relaxed)))
    }

    /// Ends the waiting and keeps the lock if it has been granted: `true`, and it stays held by the description. `false`:
    /// given up, as by [`cancel`](ParkedLock::cancel). In a forked child always `false`: the lock is the parent's.
    pub fn take(mut self) -> bool {
        let granted = self.shared.settle(CANCELLED) == Err(GRANTED);
        self.end();
        granted && !self.shared.give_back && self.stamp.is_here()
    }

    /// Ends the waiting without the lock; one granted meanwhile is unlocked. `false` if the thread had to be abandoned:
    /// it may then still be granted the lock, for an instant, one day, and unlocks it through the same description: don't
    /// lock that byte through it again.
    ///
    /// Takes some tens of microseconds, or about 200 ms if the thread can't be reached.
    pub fn cancel(mut self) -> bool {
        self.give_up()
    }

    fn give_up(&mut self) -> bool {
        let granted = self.shared.settle(CANCELLED) == Err(GRANTED);
        let left = self.end();
        // In a forked child the description is shared with the parent, whose lock it is.
        if granted && !self.shared.give_back && self.stamp.is_here() {
            let _ = lock::unlock(self.shared.file.as_fd(), self.shared.byte);
        }
        left
    }

    /// Makes the thread leave and joins it, or abandons it; whether it left. The state is settled already.
    fn end(&mut self) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        if !self.stamp.is_here() {
            // A forked child: there is no such thread here, and its handle must not be touched.
            core::mem::forget(thread);
            return true;
        }
        for _ in 0..TRIES {
            if self.shared.has_left(Duration::ZERO) {
                let _ = thread.join();
                return true;
            }
            // Each time, for the host may have taken our handler away.
            let _ = make_interrupting();
            // The thread isn't joined yet, so its id is valid even if it has ended.
            let _ = pthread_kill(thread.as_pthread_t(), Signal::SIGURG);
            self.shared.has_left(PATIENCE);
        }
        // Dropping the handle detaches the thread.
        self.shared.has_left(Duration::ZERO)
    }
}

impl Drop for ParkedLock {
    fn drop(&mut self) {
        // After `take` and `cancel` there is nothing left to do.
        if self.thread.is_some() {
            self.give_up();
        }
    }
}

extern "C" fn interrupt(_: c_int) {}

/// Sees to it that SIGURG interrupts system calls, unless the host handles it.
fn make_interrupting() -> io::Result<()> {
    let mut present = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; the pointer is to memory for one `sigaction`.
    Errno::result(unsafe { libc::sigaction(libc::SIGURG, ptr::null(), present.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled in the whole.
    let present = unsafe { present.assume_init() };
    if !matches!(present.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return Ok(());
    }
    // SAFETY: `sigaction` is plain data, for which zeros are a value (no flags, empty mask).
    let mut ours: libc::sigaction = unsafe { core::mem::zeroed() };
    ours.sa_sigaction = interrupt as *const () as usize;
    // The process's other threads may get it too, some on small stacks.
    ours.sa_flags = libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that goes without SA_SIGINFO, and does nothing.
    Errno::result(unsafe { libc::sigaction(libc::SIGURG, &ours, ptr::null_mut()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::lock::{Held, Mode, probe, try_lock, unlock};
    use crate::sys::{child, here};
    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use std::fs::OpenOptions;
    use std::io::{BufRead, BufReader, Write};
    use std::path::Path;
    use std::time::Instant;

    fn open(path: &Path) -> Arc<File> {
        Arc::new(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    fn wake() -> Arc<OwnedFd> {
        Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap())
    }

    fn await_wake(wake: &OwnedFd) {
        let mut fds = [PollFd::new(wake, PollFlags::IN)];
        let minute = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&minute)).unwrap(), 1, "never woken");
    }

    #[test]
    fn granted_when_the_holder_goes_and_kept_when_taken() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (holder, mine, wake) = (open(named.path()), open(named.path()), wake());
        assert!(try_lock(holder.as_fd(), 0, Mode::Exclusive).unwrap());
        let parked = ParkedLock::park(mine.clone(), 0, wake.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!parked.granted());
        drop(holder);
        await_wake(&wake);
        assert!(parked.granted() && parked.failure().is_none());
        assert!(parked.take());
        let other = open(named.path());
        assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Exclusive);
        drop(mine);
        assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Nobody, "the thread keeps no descriptor");
    }

    #[test]
    fn granted_when_the_holder_is_killed() {
        let name = here!("granted_when_the_holder_is_killed");
        if child::is(name) {
            let mut path = String::new();
            std::io::stdin().read_line(&mut path).unwrap();
            let file = open(Path::new(path.trim_end()));
            assert!(try_lock(file.as_fd(), 0, Mode::Exclusive).unwrap());
            println!("\nlocked");
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        let named = tempfile::NamedTempFile::new().unwrap();
        let mut holder = child::spawn(name);
        writeln!(holder.stdin.as_mut().unwrap(), "{}", named.path().display()).unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "locked"));
        let wake = wake();
        let parked = ParkedLock::park(open(named.path()), 0, wake.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!parked.granted());
        let killed = Instant::now();
        holder.kill().unwrap();
        await_wake(&wake);
        println!("granted {:?} after SIGKILL", killed.elapsed());
        assert!(parked.take());
        holder.wait().unwrap();
    }

    #[test]
    fn cancelled_it_leaves_without_the_lock() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (holder, mine, other) = (open(named.path()), open(named.path()), open(named.path()));
        assert!(try_lock(holder.as_fd(), 0, Mode::Exclusive).unwrap());
        for round in 0..200 {
            let parked = ParkedLock::park(mine.clone(), 0, wake()).unwrap();
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_micros(round * 10));
            }
            match round % 3 {
                0 => assert!(parked.cancel(), "round {round}: abandoned"),
                1 => assert!(!parked.take(), "round {round}: not ours"),
                _ => drop(parked),
            }
            assert_eq!(Arc::strong_count(&mine), 1, "round {round}: the thread has left");
        }
        unlock(holder.as_fd(), 0).unwrap();
        assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Nobody);
    }

    #[test]
    fn granted_while_being_cancelled_it_is_either_taken_or_unlocked() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (holder, mine, other) = (open(named.path()), open(named.path()), open(named.path()));
        let mut ours = 0;
        for round in 0..400 {
            assert!(try_lock(holder.as_fd(), 0, Mode::Exclusive).unwrap());
            let parked = ParkedLock::park(mine.clone(), 0, wake()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_micros(round % 50));
                    unlock(holder.as_fd(), 0).unwrap();
                });
                std::thread::sleep(Duration::from_micros(round % 70));
                if round % 2 == 0 {
                    assert!(parked.cancel());
                } else if parked.take() {
                    ours += 1;
                    assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Exclusive);
                    unlock(mine.as_fd(), 0).unwrap();
                }
            });
            assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Nobody, "round {round}: left behind");
        }
        println!("taken {ours} of 200");
    }

    #[test]
    fn a_descriptor_that_can_not_lock_is_a_failure_not_a_silence() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let wake = wake();
        let parked = ParkedLock::park(Arc::new(File::open(named.path()).unwrap()), 0, wake.clone()).unwrap();
        await_wake(&wake);
        assert!(!parked.granted());
        assert_eq!(parked.failure().unwrap().raw_os_error(), Some(libc::EBADF));
        assert!(!parked.take());
    }

    extern "C" fn hosts_own(_: c_int) {}

    fn host_handles_sigurg(flags: c_int) {
        // SAFETY: plain data, for which zeros are a value.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = hosts_own as *const () as usize;
        action.sa_flags = flags;
        // SAFETY: the handler does nothing.
        assert_eq!(unsafe { libc::sigaction(libc::SIGURG, &action, ptr::null_mut()) }, 0);
    }

    #[test]
    fn a_host_that_restarts_system_calls_costs_a_thread_but_never_the_lock() {
        let name = here!("a_host_that_restarts_system_calls_costs_a_thread_but_never_the_lock");
        let (status, said) = child::run(name, || {
            let named = tempfile::NamedTempFile::new().unwrap();
            let (holder, mine, other) = (open(named.path()), open(named.path()), open(named.path()));
            assert!(try_lock(holder.as_fd(), 0, Mode::Exclusive).unwrap());

            host_handles_sigurg(0);
            let parked = ParkedLock::park(mine.clone(), 0, wake()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(parked.cancel(), "the host's own handler does as well");

            host_handles_sigurg(libc::SA_RESTART);
            let parked = ParkedLock::park(mine.clone(), 0, wake()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(!parked.cancel(), "it can't be reached");
            assert!(Arc::strong_count(&mine) > 1, "it still waits");

            drop(holder);
            while Arc::strong_count(&mine) > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(probe(other.as_fd(), 0).unwrap(), Held::Nobody, "granted too late, dropped at once");
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }

    #[test]
    fn who_only_wants_to_learn_has_given_it_back_when_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"x").unwrap();
        let open = || Arc::new(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        let (holder, first, second) = (open(), open(), open());
        assert!(try_lock(holder.as_fd(), 0, Mode::Exclusive).unwrap());
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let parked = [first, second].map(|file| ParkedLock::learn(file, 0, Arc::clone(&bell)).unwrap());
        drop(holder);
        // Both get to know, though neither does anything about it.
        while !parked.iter().all(ParkedLock::granted) {
            let mut fds = [PollFd::new(&bell, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
        }
        assert_eq!(probe(open().as_fd(), 0).unwrap(), Held::Nobody);
        for parked in parked {
            assert!(!parked.take(), "it never has it");
        }
    }
}
