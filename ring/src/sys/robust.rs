//! A robust futex: the kernel marks a word, and wakes one who sleeps on it, when the thread that holds it dies.
//!
//! It rings before the dying process's memory is torn down, and so long before its locks are dropped: 0.1 to 0.2 ms after the
//! SIGKILL, whatever the size of the process. It is a *hint*. The word lies in shared memory, so any stray store can forge it: whoever hears
//! it asks the kernel about the process, or takes the path that is right whether or not it is dead.
//!
//! Each thread has one list of robust futexes; the C library uses it for its own robust mutexes. A thread that calls
//! [`hold`] has none of those (it is one of ours), so its list is replaced, and put back when the hold ends. The list itself, which
//! the kernel walks, is in private memory: only the word is shared. (See `Documentation/locking/robust-futexes.rst` of
//! the Linux source.)
//!
//! # Safety
//!
//! The kernel reads the list head and its one entry when the thread ends, and only then. Both are boxed, are never
//! moved, and are freed only after the thread's previous list has been put back.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::io;

use nix::libc;

use super::futex;

/// Bit that the kernel sets when the holder has died.
const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
/// Bit that a sleeper sets, so that the kernel wakes somebody.
const WAITERS: u32 = libc::FUTEX_WAITERS;

/// `struct robust_list_head` of the kernel, with the one entry behind it.
#[repr(C)]
struct List {
    first: *mut Entry,
    offset: libc::c_long,
    pending: *mut Entry,
    entry: Entry,
}

#[repr(C)]
struct Entry {
    next: *mut Entry,
}

/// Length of the head that the kernel expects.
const HEAD: usize = 3 * size_of::<usize>();

/// A word held by this thread for as long as this value lives. `M` keeps the memory of the word mapped.
#[derive(Debug)]
pub struct Hold<M> {
    list: ptr::NonNull<List>,
    before: (*mut libc::c_void, usize),
    word: fn(&M) -> &AtomicU32,
    memory: M,
    /// A robust list belongs to its thread.
    here: PhantomData<*mut ()>,
}

/// Holds `word(memory)` until the returned value is dropped or this thread dies. One hold a thread.
///
/// # Errors
///
/// What the system said; `ENOSYS` where robust futexes are not to be had.
pub fn hold<M>(memory: M, word: fn(&M) -> &AtomicU32) -> io::Result<Hold<M>> {
    let (mut head, mut len) = (ptr::null_mut::<libc::c_void>(), 0usize);
    // SAFETY: asks for this thread's list (pid 0); both pointers are to live locals of the right types.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = Box::into_raw(Box::new(List {
        first: ptr::null_mut(),
        offset: 0,
        pending: ptr::null_mut(),
        entry: Entry { next: ptr::null_mut() },
    }));
    let at = ptr::from_ref(word(&memory)).addr();
    // SAFETY: `list` was just allocated and is ours alone.
    let fields = unsafe { &mut *list };
    fields.first = &raw mut fields.entry;
    // A ring of one: the entry's successor is the head itself.
    fields.entry.next = list.cast();
    fields.offset = at.wrapping_sub((&raw const fields.entry).addr()) as libc::c_long;
    // SAFETY: gettid has no preconditions.
    let tid = unsafe { libc::gettid() };
    word(&memory).store(tid.unsigned_abs(), Ordering::Release);
    // SAFETY: `list` is laid out as the kernel's robust_list_head, boxed, and outlives its registration (see `Drop`).
    let set = unsafe { libc::syscall(libc::SYS_set_robust_list, list, HEAD) };
    if set != 0 {
        let error = io::Error::last_os_error();
        word(&memory).store(0, Ordering::Release);
        // SAFETY: never registered; the box is ours.
        drop(unsafe { Box::from_raw(list) });
        return Err(error);
    }
    // SAFETY: from Box::into_raw, not null.
    let list = unsafe { ptr::NonNull::new_unchecked(list) };
    Ok(Hold { list, before: (head, len), word, memory, here: PhantomData })
}

impl<M> Drop for Hold<M> {
    fn drop(&mut self) {
        let (head, len) = self.before;
        // SAFETY: puts back what the C library had registered for this thread (Hold is not Send).
        let set = unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) };
        (self.word)(&self.memory).store(0, Ordering::Release);
        if set == 0 {
            // SAFETY: from Box::into_raw, and the kernel does not know it any more.
            drop(unsafe { Box::from_raw(self.list.as_ptr()) });
        }
        // Whoever sleeps on it looks again, and sees that it is not held.
        futex::wake_all((self.word)(&self.memory));
    }
}

/// What is known of the holder of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The kernel (or a stray store) says that it died.
    Died,
    /// Nobody holds it, or it was given back.
    Nobody,
    /// Nothing changed in that time.
    Alive,
    /// The memory under the word is gone.
    Fault,
}

/// The thread (its number in its own pid namespace) that holds `word`; `None` if nobody does, or it died.
pub fn holder(word: &AtomicU32) -> Option<u32> {
    let seen = word.load(Ordering::Acquire);
    Some(seen & libc::FUTEX_TID_MASK).filter(|tid| *tid != 0 && seen & OWNER_DIED == 0)
}

/// What the kernel leaves: the died bit and no holder. A single flipped bit of a held word is not that.
fn says_died(seen: u32) -> bool {
    seen & OWNER_DIED != 0 && seen & libc::FUTEX_TID_MASK == 0
}

/// Waits until the holder of `word` dies, at most `limit`; may return `Alive` sooner.
///
/// `stirred` is asked after this sleeper can be seen and before it sleeps: whoever makes it true and then calls [`stir`] is not
/// missed.
pub fn wait(word: &AtomicU32, limit: Duration, stirred: impl FnOnce() -> bool) -> Holder {
    let seen = word.load(Ordering::Acquire);
    if says_died(seen) {
        return Holder::Died;
    }
    if seen == 0 {
        return Holder::Nobody;
    }
    let marked = seen | WAITERS;
    if seen != marked && word.compare_exchange(seen, marked, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return Holder::Alive; // it changed: look again
    }
    if stirred() {
        return Holder::Alive;
    }
    match futex::wait(word, marked, limit) {
        futex::Wait::Fault => Holder::Fault,
        _ if says_died(word.load(Ordering::Acquire)) => Holder::Died,
        _ => Holder::Alive,
    }
}

/// Makes everybody in [`wait`] look again.
///
/// The sleepers' mark is taken off first, so that one that has looked and does not sleep yet finds the word changed. Should this
/// process die before it wakes them, they miss one announcement of a death, which is a hint anyhow.
pub fn stir(word: &AtomicU32) {
    word.fetch_and(!WAITERS, Ordering::AcqRel);
    futex::wake_all(word);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn word_of(word: &Arc<AtomicU32>) -> &AtomicU32 {
        word
    }

    #[test]
    fn a_hold_given_back_is_nobodys_and_a_dead_thread_is_told() {
        let word = Arc::new(AtomicU32::new(0));
        assert_eq!(wait(&word, Duration::ZERO, || false), Holder::Nobody);
        let given_back = Arc::clone(&word);
        std::thread::spawn(move || drop(hold(given_back, word_of).unwrap())).join().unwrap();
        assert_eq!(wait(&word, Duration::ZERO, || false), Holder::Nobody);
        let held = Arc::clone(&word);
        let (tell, told) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            // The thread ends while it still holds: what a killed one leaves.
            std::mem::forget(hold(held, word_of).unwrap());
            tell.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        });
        told.recv().unwrap();
        let mut said = wait(&word, Duration::from_secs(60), || false);
        while said == Holder::Alive {
            said = wait(&word, Duration::from_secs(60), || false);
        }
        assert_eq!(said, Holder::Died);
        holder.join().unwrap();
        assert_eq!(wait(&word, Duration::ZERO, || false), Holder::Died);
    }

    #[test]
    fn waiting_is_bounded() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, Duration::from_millis(1), || false), Holder::Alive);
        assert_eq!(word.load(Ordering::Relaxed), 1 | WAITERS);
    }

    #[test]
    fn one_flipped_bit_is_no_death() {
        for bit in 0..32 {
            let word = AtomicU32::new(4711 | WAITERS);
            word.fetch_xor(1 << bit, Ordering::Relaxed);
            assert_ne!(wait(&word, Duration::ZERO, || false), Holder::Died, "bit {bit}");
        }
    }

    #[test]
    fn whoever_stirs_is_not_missed() {
        use core::sync::atomic::AtomicBool;
        let (word, said) = (AtomicU32::new(4711), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for round in 0..2000 {
                scope.spawn(|| {
                    said.store(true, Ordering::SeqCst);
                    stir(&word);
                });
                // A missed one would sleep for the whole minute, each time.
                let begun = std::time::Instant::now();
                while !said.swap(false, Ordering::SeqCst) {
                    assert!(begun.elapsed() < Duration::from_secs(50), "round {round}: missed");
                    let heard = wait(&word, Duration::from_secs(60), || said.load(Ordering::SeqCst));
                    assert_eq!(heard, Holder::Alive);
                }
            }
        });
    }
}
