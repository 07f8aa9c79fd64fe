//! Doorbells: a shared futex word that sleepers wait on, and the flag that says whether anybody does.
//!
//! The waker changes something (publishes, releases, decides an end), then looks at the flag; the sleeper sets the flag,
//! then looks again at what it waits for. One of the two sees the other (edge E3): between the two halves lies an
//! asymmetric barrier, a compiler fence on the waker's hot path, `membarrier` on the sleeper's. Every sleep is bounded all
//! the same. The flag is cleared by the *waker*, and not counted: a killed sleeper costs one wake-up call, not one for ever.

use core::time::Duration;

use crate::atomic::{AtomicU32, Ordering, Weak, fence, light_fence, weakened};
use crate::canary;
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
    // E3:waker
    if canary!("waker-fence-omitted") {
        // The flag is looked at with nothing between.
    } else if light {
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
    if !canary!("sleeping-flag-kept") {
        waiters.store(0, Ordering::Relaxed);
    }
    turn(bell);
    if !weakened(Weak::WakeForgotten) && !canary!("wake-forgotten") {
        memory.wake(bell);
    }
}

/// Changes a bell's word; never to 0, which a page of zeros would show: it starts odd and grows by two.
///
/// One read-modify-write: of two who ring at once, the later must change what the earlier left, or a sleeper that saw the
/// earlier one's word would sleep through what the later one did.
pub(crate) fn turn(bell: &AtomicU32) {
    if weakened(Weak::TurnInTwoSteps) || canary!("bell-in-two-steps") {
        return bell.store(bell.load(Ordering::Relaxed).wrapping_add(2), Ordering::Release);
    }
    // E3:turn: a sleeper that has seen this word sees what was changed before it.
    if bell.fetch_add(2, Ordering::Release) & 1 == 0 {
        bell.fetch_or(1, Ordering::Release); // it was damaged: odd again
    }
}

/// The sleeper's side, first half: raises the flag and issues the heavy barrier. What it waits for must be looked at *after* this call;
/// the result goes to [`sleep`].
pub(crate) fn announce<M: Memory>(memory: &M, bell: &AtomicU32, waiters: &AtomicU32) -> Announced {
    let seen = bell.load(Ordering::Acquire); // E3:seen
    waiters.store(1, Ordering::Relaxed);
    if canary!("sleeper-fence-omitted") {
        return Announced { seen, barrier: true };
    }
    fence(Ordering::SeqCst); // E3:sleeper, and the heavy barrier behind it
    Announced { seen, barrier: memory.heavy_fence() }
}

/// An announced sleep.
pub(crate) struct Announced {
    seen: u32,
    barrier: bool,
}

/// The sleeper's side, second half. Returns early for any reason: the caller looks again.
pub(crate) fn sleep<M: Memory>(memory: &M, bell: &AtomicU32, announced: &Announced, left: Duration) -> Slept {
    let longest = if announced.barrier && (announced.seen != 0 || canary!("bell-may-be-zero")) {
        MAX_SLEEP
    } else {
        MAX_SLEEP_WITHOUT_BARRIER
    };
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::layout::{Slot, TableHead, WriterPage};
    use crate::memory::{Data, Shape};
    use std::sync::Mutex;

    /// Sleeps never, and remembers for how long it was to; a wake-up is remembered as nothing.
    #[derive(Default)]
    struct Awake(Mutex<Vec<Duration>>);

    impl Memory for Awake {
        fn sleep(&self, _: &AtomicU32, _: u32, limit: Duration) -> Slept {
            self.0.lock().unwrap().push(limit);
            Slept::TimedOut
        }
        fn shape(&self) -> Shape {
            unreachable!()
        }
        fn page(&self) -> &WriterPage {
            unreachable!()
        }
        fn head(&self) -> &TableHead {
            unreachable!()
        }
        fn slots(&self) -> &[Slot] {
            unreachable!()
        }
        fn data(&self) -> Data<'_> {
            unreachable!()
        }
        fn poisoned(&self) -> bool {
            unreachable!()
        }
        fn reader_lives(&self, _: usize) -> bool {
            unreachable!()
        }
        fn with_dead_slot(&self, _: usize, _: &mut dyn FnMut()) -> bool {
            unreachable!()
        }
        fn heavy_fence(&self) -> bool {
            unreachable!()
        }
        fn wake(&self, _: &AtomicU32) {
            self.0.lock().unwrap().push(Duration::ZERO);
        }
    }

    #[test]
    fn nobody_sleeps_long_on_a_bell_of_zeros_or_without_a_barrier() {
        let memory = Awake::default();
        for (seen, barrier) in [(1, true), (0, true), (1, false)] {
            sleep(&memory, &AtomicU32::new(seen), &Announced { seen, barrier }, Duration::MAX);
        }
        let short = MAX_SLEEP_WITHOUT_BARRIER;
        assert_eq!(*memory.0.lock().unwrap(), [MAX_SLEEP, short, short]);
    }

    #[test]
    fn who_has_changed_something_turns_the_bell_and_wakes_once_for_each_flag_that_was_raised() {
        for light in [true, false] {
            let (memory, bell, waiters) = (Awake::default(), AtomicU32::new(1), AtomicU32::new(0));
            let wakes = || memory.0.lock().unwrap().len();
            ring(&memory, &bell, &waiters, light);
            assert_eq!((bell.load(Ordering::Relaxed), wakes()), (1, 0), "nobody waits");
            for times in 1..4 {
                waiters.store(1, Ordering::Relaxed);
                ring(&memory, &bell, &waiters, light);
                ring(&memory, &bell, &waiters, light); // the flag is down
                assert_eq!(waiters.load(Ordering::Relaxed), 0);
                assert_eq!((bell.load(Ordering::Relaxed), wakes()), (1 + 2 * times, times as usize));
            }
        }
    }

    #[test]
    fn a_bell_is_never_turned_to_zero() {
        for before in [1, u32::MAX, 0, u32::MAX - 1] {
            let bell = AtomicU32::new(before);
            turn(&bell);
            assert_eq!(bell.load(Ordering::Relaxed) & 1, 1, "after {before}");
        }
    }
}
