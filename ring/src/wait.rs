//! Doorbells: a shared futex word that sleepers wait on, and the flag that says whether anybody does.
//!
//! The waker changes something (publishes, releases, decides an end), then looks at the flag; the sleeper sets the flag,
//! then looks again at what it waits for. One of the two sees the other (E3 wake): between the two halves lies an
//! asymmetric barrier, a compiler fence on the waker's hot path, `membarrier` on the sleeper's. Every sleep is bounded all
//! the same. The flag is cleared by the *waker*, and not counted: a killed sleeper costs one wake-up call, not one for ever.

use core::time::Duration;

use crate::atomic::{AtomicU32, Ordering, fence, light_fence};
use crate::memory::{Memory, Slept};

/// Longest single sleep on a doorbell; a lost wake-up (a hostile peer's doing, or a lost page) costs at most this.
pub const MAX_SLEEP: Duration = Duration::from_millis(100);
/// Longest single sleep where `membarrier` is refused, and a wake-up can therefore be missed.
pub const MAX_SLEEP_WITHOUT_BARRIER: Duration = Duration::from_millis(2);
/// Turns of the spin loop before a waiter goes to sleep, unless told otherwise.
pub const DEFAULT_SPIN: u32 = 200;

/// The waker's side, after it has changed what sleepers wait for. `light` says that this process is registered for
/// `membarrier`; otherwise the fence is paid here.
#[inline(always)]
pub(crate) fn ring<M: Memory>(memory: &M, bell: &AtomicU32, waiters: &AtomicU32, light: bool) {
    if light {
        light_fence();
    } else {
        fence(Ordering::SeqCst);
    }
    if waiters.load(Ordering::Relaxed) != 0 {
        ring_now(memory, bell, waiters);
    }
}

/// Rings without looking at the flag: for rare changes that nobody may miss.
#[cold]
pub(crate) fn ring_now<M: Memory>(memory: &M, bell: &AtomicU32, waiters: &AtomicU32) {
    waiters.store(0, Ordering::Relaxed);
    turn(bell);
    memory.wake(bell);
}

/// Changes a bell's word; never to 0, which a page of zeros would show.
pub(crate) fn turn(bell: &AtomicU32) {
    let next = bell.load(Ordering::Relaxed).wrapping_add(1);
    bell.store(if next == 0 { 1 } else { next }, Ordering::Release);
}

/// The sleeper's side, first half: raises the flag and issues the heavy barrier. What it waits for must be looked at *after* this call;
/// the result goes to [`sleep`].
pub(crate) fn announce<M: Memory>(memory: &M, bell: &AtomicU32, waiters: &AtomicU32) -> Announced {
    let seen = bell.load(Ordering::Acquire);
    waiters.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    Announced { seen, barrier: memory.heavy_fence() }
}

/// An announced sleep.
pub(crate) struct Announced {
    seen: u32,
    barrier: bool,
}

/// The sleeper's side, second half. Returns early for any reason: the caller looks again.
pub(crate) fn sleep<M: Memory>(memory: &M, bell: &AtomicU32, announced: &Announced, left: Duration) -> Slept {
    let longest = if announced.barrier && announced.seen != 0 { MAX_SLEEP } else { MAX_SLEEP_WITHOUT_BARRIER };
    memory.sleep(bell, announced.seen, left.min(longest))
}

/// One turn of a spin loop.
#[inline(always)]
pub(crate) fn relax() {
    #[cfg(not(feature = "loom"))]
    core::hint::spin_loop();
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
}
