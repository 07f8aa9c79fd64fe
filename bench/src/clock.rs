//! A clock that costs little enough to time one round trip.
//!
//! # Safety
//!
//! The processor's time stamp counter is read; that has no precondition on x86-64.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Ticks of the fastest clock that there is.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction exists on every x86-64 processor and touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Nanoseconds of a tick, measured for a few milliseconds.
pub fn tick_length() -> f64 {
    let (from, begun) = (ticks(), Instant::now());
    while begun.elapsed() < Duration::from_millis(5) {
        std::hint::spin_loop();
    }
    let (to, elapsed) = (ticks(), begun.elapsed());
    elapsed.as_nanos() as f64 / (to - from).max(1) as f64
}
