//! The one place that the protocol files take their atomics and fences from.
//!
//! Built normally these are `core`'s; with the feature `loom` they are loom's, so that the model checker explores the
//! very code that ships, on a heap-built [`Memory`](crate::memory::Memory).

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The light half of an asymmetric barrier: keeps the compiler from reordering, costs nothing at run time.
///
/// The heavy half is `membarrier` on the rare side ([`crate::sys::barrier`]). Under loom, which knows no `membarrier`,
/// it is a full fence, which is what the pair amounts to.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(not(feature = "loom"))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(feature = "loom")]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
