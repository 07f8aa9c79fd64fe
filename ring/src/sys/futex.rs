//! Sleeping on a word of a segment: the kernel's shared futex.
//!
//! Never `FUTEX_PRIVATE_FLAG`: the waker is another process. The kernel only reads the word, so its page may be mapped
//! read-only, for the sleeper and for the waker. A page that was cut away answers `EFAULT` here, not SIGBUS; a page that
//! the [guard](super::sigbus) replaced is private memory, on which no peer ever wakes anybody: every wait is bounded.

use core::sync::atomic::AtomicU32;
use core::time::Duration;
use rustix::io::Errno;
use rustix::thread::futex::{Flags, Timespec};

/// Why [`wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Somebody woke us, or the kernel did so for no reason: look again.
    Woken,
    /// The word was not what was expected: we never slept.
    Changed,
    /// The time is over.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
    /// The word's page is gone: the file was cut.
    Fault,
}

/// Sleeps until `word` is woken, for at most `timeout`, if it still holds `expected`.
///
/// The kernel compares and goes to sleep atomically with respect to [`wake_all`]: a waker that first changes the word
/// can't be missed. Peers may do anything to the word meanwhile; whatever the answer, look at the real condition again.
/// An answer that the kernel isn't known to give (a host's seccomp filter, say) counts as `Interrupted`, after a pause of
/// up to a millisecond so that the caller's loop doesn't spin.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Wait {
    let timespec = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match rustix::thread::futex::wait(word, Flags::empty(), expected, Some(&timespec)) {
        Ok(()) => Wait::Woken,
        Err(Errno::AGAIN) => Wait::Changed,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        Err(Errno::FAULT) => Wait::Fault,
        Err(_) => {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
            Wait::Interrupted
        }
    }
}

/// Wakes everybody who sleeps on `word`, in every process that maps it; how many there were.
///
/// A system call, but no memory barrier that the caller may rely on: change the word first. A page that is gone has no
/// sleepers left that we could reach: 0.
pub fn wake_all(word: &AtomicU32) -> usize {
    rustix::thread::futex::wake(word, Flags::empty(), i32::MAX as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::map::{Mapping, page_size};
    use core::sync::atomic::Ordering;
    use std::fs::File;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(30);

    fn file() -> File {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        crate::sys::file::reserve(&file, page_size() as u64).unwrap();
        file
    }

    fn writable(file: &File) -> Mapping {
        let whole = 0..page_size();
        Mapping::new(file, page_size(), std::slice::from_ref(&whole), Default::default()).unwrap()
    }

    #[test]
    fn changed_and_timed_out() {
        let word = AtomicU32::new(7);
        assert_eq!(wait(&word, 8, LONG), Wait::Changed);
        let begun = Instant::now();
        assert_eq!(wait(&word, 7, Duration::from_millis(20)), Wait::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(wait(&word, 8, Duration::MAX), Wait::Changed, "a silly timeout is no error");
        assert_eq!(wake_all(&word), 0);
    }

    #[test]
    fn a_sleeper_on_a_read_only_mapping_is_woken_through_another_one() {
        let file = file();
        let writer = writable(&file);
        let reader = Mapping::read_only(&file, page_size(), Default::default()).unwrap();
        let (bell, seen) = (writer.word(0), reader.word(0));
        bell.store(1, Ordering::Release);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let mut answers = Vec::new();
                while seen.load(Ordering::Acquire) == 1 {
                    answers.push(wait(seen, 1, LONG));
                }
                answers
            });
            std::thread::sleep(Duration::from_millis(50));
            bell.store(2, Ordering::Release);
            let woken = wake_all(bell);
            let answers = sleeper.join().unwrap();
            assert!(!answers.contains(&Wait::Fault) && !answers.contains(&Wait::TimedOut), "{answers:?}");
            assert!(woken <= 1);
        });
    }

    #[test]
    fn a_waker_needs_no_write_access() {
        let file = file();
        let writer = writable(&file);
        let reader = Mapping::read_only(&file, page_size(), Default::default()).unwrap();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| wait(writer.word(0), 0, LONG));
            while wake_all(reader.word(0)) == 0 {
                std::thread::yield_now();
            }
            assert_eq!(sleeper.join().unwrap(), Wait::Woken);
        });
    }

    #[test]
    fn a_page_that_was_cut_away_is_a_fault_and_nobody_dies() {
        let file = file();
        for mapping in [writable(&file), Mapping::read_only(&file, page_size(), Default::default()).unwrap()] {
            file.set_len(0).unwrap();
            assert_eq!(wait(mapping.word(0), 0, LONG), Wait::Fault);
            assert_eq!(wake_all(mapping.word(0)), 0);
            assert!(!mapping.poisoned(), "the kernel looked, not we");
            crate::sys::file::reserve(&file, page_size() as u64).unwrap();
        }
    }
}
