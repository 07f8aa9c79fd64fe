//! The heavy half of the asymmetric barrier: `membarrier`.
//!
//! `push` stores the position and then loads the state with only a compiler fence in between; whoever ends the generation
//! stores the state, calls [`heavy`], and then loads the position. `heavy` returns after every processor that runs a
//! target has been through a full barrier, so that each of the target's instruction streams lies wholly on one side of it:
//! one of the two sees the other's store. The barrier is also a full one for its caller.
//!
//! Registration is a property of the address space (`mm->membarrier_state`): the kernel copies it on `fork` and clears it
//! on `exec`. Nothing is cached here for that reason: a cache would be the only thing that could be wrong after either,
//! and asking again costs one system call (0.1 µs) once registered.

use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};

/// Whom [`heavy`] must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Processes that called [`register`], as a segment's identity says of its writer. Under ten microseconds.
    Registered,
    /// Every process: for a writer that did not register. About ten milliseconds.
    Everyone,
}

/// No barrier could be had: the caller must not conclude anything about a writer that isn't proved dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel refuses the memory barrier that reaches {reach:?} processes: {errno}; end this writer's process first"
)]
pub struct BarrierError {
    /// Whom it should have reached.
    pub reach: Reach,
    /// The kernel's last word: `ENOSYS` (no membarrier, or a seccomp filter), or `EINVAL` (such as plain global barriers
    /// on a `nohz_full` machine).
    pub errno: Errno,
}

/// Registers this process for [`Reach::Registered`]; whether it is registered now.
///
/// The first call of a process with threads may take milliseconds (it waits for the scheduler), later ones return at once.
/// `false` means that the kernel has no such thing: the identity must then not promise it.
pub fn register() -> bool {
    membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// Makes every processor that runs a target execute a full memory barrier, before it returns.
///
/// Targets may be running, asleep, stopped or being born meanwhile; one that isn't running passes a barrier when it is
/// next scheduled. A target that registers *during* the call may be missed: registration comes before the identity
/// promises it.
///
/// # Errors
///
/// [`BarrierError`] if no command that reaches them is to be had. [`Reach::Registered`] falls back to the barrier that
/// reaches everyone; the reverse would be wrong.
pub fn heavy(reach: Reach) -> Result<(), BarrierError> {
    if reach == Reach::Registered && membarrier(MembarrierCommand::GlobalExpedited).is_ok() {
        return Ok(());
    }
    membarrier(MembarrierCommand::Global).map_err(|errno| BarrierError { reach, errno })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, compiler_fence};

    #[test]
    fn registering_is_idempotent_and_both_reaches_work_here() {
        assert!(register() && register());
        heavy(Reach::Registered).unwrap();
        heavy(Reach::Everyone).unwrap();
    }

    /// Store buffering (Dekker) with the fence paid by one side only: without `heavy` this fails on x86-64 in well under
    /// a second on two processors.
    #[test]
    fn one_of_the_two_sides_sees_the_other() {
        assert!(register());
        #[repr(align(128))]
        struct Line(AtomicU32);
        let (position, state) = (Line(AtomicU32::new(0)), Line(AtomicU32::new(0)));
        let (turn, missed, stop) = (Line(AtomicU32::new(0)), Line(AtomicU32::new(0)), AtomicBool::new(false));
        let mut blind = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let now = turn.0.load(Ordering::Acquire);
                    if now == done {
                        core::hint::spin_loop();
                        continue;
                    }
                    done = now;
                    position.0.store(now, Ordering::Release);
                    compiler_fence(Ordering::SeqCst);
                    let seen = state.0.load(Ordering::Relaxed) == now;
                    missed.0.store(now << 1 | u32::from(seen), Ordering::Release);
                }
            });
            for now in 1..20_000 {
                turn.0.store(now, Ordering::Release);
                state.0.store(now, Ordering::Release);
                heavy(Reach::Registered).unwrap();
                let seen = position.0.load(Ordering::Relaxed) == now;
                let other = loop {
                    let answer = missed.0.load(Ordering::Acquire);
                    if answer >> 1 == now {
                        break answer & 1 == 1;
                    }
                    std::thread::yield_now();
                };
                blind += u32::from(!seen && !other);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(blind, 0, "rounds in which neither saw the other");
    }
}
