//! A value that stays on the thread that made it.
//!
//! Some peers' ends must not change threads; the harness demands ends that may, because peers whose both ends are in one
//! process run them on two threads.
//!
//! # Safety
//!
//! Sending a [`Here`] is sound because whoever looks into it on another thread gets a panic, and whoever drops it there
//! leaks it: what is inside is never touched by a second thread. The threads' numbers are compared each time; that is one
//! load from thread-local memory.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}

/// This thread's number. No two threads of the process ever have the same.
fn thread() -> usize {
    NUMBER.with(|number| *number)
}

/// A value of this thread.
#[derive(Debug)]
pub(crate) struct Here<T> {
    value: ManuallyDrop<T>,
    thread: usize,
}

// SAFETY: see the module.
unsafe impl<T> Send for Here<T> {}

impl<T> Here<T> {
    /// Binds `value` to the calling thread.
    pub(crate) fn new(value: T) -> Here<T> {
        Here { value: ManuallyDrop::new(value), thread: thread() }
    }

    /// The value.
    #[inline]
    pub(crate) fn get(&mut self) -> &mut T {
        assert_eq!(self.thread, thread(), "made on another thread");
        &mut self.value
    }
}

impl<T> Drop for Here<T> {
    fn drop(&mut self) {
        if self.thread == thread() {
            // SAFETY: on its own thread, once.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}
