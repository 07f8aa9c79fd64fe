//! The one place that the protocol files take their atomics and fences from.
//!
//! Built normally these are `core`'s; with the feature `loom` they are loom's, so that the model checker explores the
//! very code that ships, on a heap-built [`Memory`](crate::memory::Memory). There, and only there, a model can *weaken*
//! what one of its threads does ([`Weak`]), to show that the checker notices: each happens-before edge of
//! `docs/PROTOCOL.md` is seen red without one of its ends.

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(feature = "loom")]
pub(crate) use modelled::{AtomicU32, AtomicU64, Ordering, fence};

/// The light half of an asymmetric barrier: keeps the compiler from reordering, costs nothing at run time.
///
/// The heavy half is `membarrier` on the rare side ([`crate::sys::barrier`]). Under loom, which knows no `membarrier`,
/// it is a full fence, which is what the pair amounts to.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(not(feature = "loom"))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(feature = "loom")]
    if !weakened(Weak::LightFences) {
        fence(Ordering::SeqCst);
    }
}

/// What a model can take away from a thread, to see the checker object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(all(test, feature = "loom")), allow(dead_code))]
pub(crate) enum Weak {
    /// Full fences, the light ones too.
    Fences,
    /// Light fences only: nobody issues the heavy half.
    LightFences,
    /// Release stores become relaxed.
    Releases,
    /// Acquire loads become relaxed.
    Acquires,
    /// The cursor is published before its checkpoint is written.
    CheckpointLate,
    /// The writer looks at the state before it publishes.
    WriterStateFirst,
    /// The writer answers `Fenced` without a look at the end word.
    FencedBlindly,
    /// The reader looks at the state before the position.
    ReaderStateFirst,
    /// The end is stored, not swapped in.
    EndWithoutSwap,
    /// A joiner begins where its first sample said.
    FirstSample,
    /// A joiner makes do with a checkpoint that may be older than its fence.
    OlderSample,
    /// A joiner does not look at the state.
    NoStateSample,
    /// A bell is turned by a load and a store.
    TurnInTwoSteps,
    /// The writer takes its new limit without a second look at the table.
    OneLook,
    /// Each record of a batch is published when it is added.
    BatchInPieces,
    /// What was staged and given up stays staged.
    GivenUpKept,
    /// The reader takes "closed" for "drained".
    ClosedIsDrained,
    /// A bell is turned and nobody woken.
    WakeForgotten,
}

/// Whether the running model thread does without `what`. Never, outside models: the compiler drops the branch.
#[cfg(not(feature = "loom"))]
#[inline(always)]
pub(crate) const fn weakened(_what: Weak) -> bool {
    false
}
#[cfg(all(test, feature = "loom"))]
pub(crate) use modelled::weaken;
#[cfg(feature = "loom")]
pub(crate) use modelled::weakened;

/// Loom's atomics, with a hook in front of each ordering.
#[cfg(feature = "loom")]
mod modelled {
    use core::cell::Cell;

    use super::Weak;
    use crate::canary;
    pub(crate) use loom::sync::atomic::Ordering;

    std::thread_local! {
        // All threads of a model run on one thread of the system: most models weaken nothing, and then this is all it
        // costs.
        static ANY: Cell<bool> = const { Cell::new(false) };
    }
    loom::thread_local! {
        static MINE: Cell<u32> = Cell::new(0);
    }

    /// From now on the running model thread does without each of `what`, and with all else.
    #[cfg(test)]
    pub(crate) fn weaken(what: &[Weak]) {
        ANY.set(ANY.get() || !what.is_empty());
        MINE.with(|mine| mine.set(what.iter().fold(0, |bits, weak| bits | 1 << *weak as u32)));
    }

    pub(crate) fn weakened(what: Weak) -> bool {
        ANY.get() && MINE.with(|mine| mine.get() >> what as u32 & 1 == 1)
    }

    pub(crate) fn fence(ordering: Ordering) {
        if ordering != Ordering::SeqCst || !weakened(Weak::Fences) {
            loom::sync::atomic::fence(ordering);
        }
    }

    fn storing(ordering: Ordering) -> Ordering {
        if ordering == Ordering::Release && (weakened(Weak::Releases) || canary!("no-release")) {
            Ordering::Relaxed
        } else {
            ordering
        }
    }

    fn loading(ordering: Ordering) -> Ordering {
        if ordering == Ordering::Acquire && (weakened(Weak::Acquires) || canary!("no-acquire")) {
            Ordering::Relaxed
        } else {
            ordering
        }
    }

    macro_rules! atomics {
        ($($name:ident $raw:ident),+) => {$(
            #[derive(Debug)]
            #[allow(unreachable_pub)] // in fields of the public layout, as core's are
            pub struct $name(loom::sync::atomic::$name);

            #[allow(dead_code)]
            impl $name {
                pub(crate) fn new(value: $raw) -> $name {
                    $name(loom::sync::atomic::$name::new(value))
                }
                pub(crate) fn load(&self, ordering: Ordering) -> $raw {
                    self.0.load(loading(ordering))
                }
                pub(crate) fn store(&self, value: $raw, ordering: Ordering) {
                    self.0.store(value, storing(ordering));
                }
                pub(crate) fn swap(&self, value: $raw, ordering: Ordering) -> $raw {
                    self.0.swap(value, storing(ordering))
                }
                pub(crate) fn fetch_add(&self, value: $raw, ordering: Ordering) -> $raw {
                    self.0.fetch_add(value, storing(ordering))
                }
                pub(crate) fn fetch_or(&self, value: $raw, ordering: Ordering) -> $raw {
                    self.0.fetch_or(value, storing(ordering))
                }
                pub(crate) fn compare_exchange(
                    &self,
                    old: $raw,
                    new: $raw,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$raw, $raw> {
                    self.0.compare_exchange(old, new, success, failure)
                }
            }
        )+};
    }
    atomics!(AtomicU32 u32, AtomicU64 u64);
}
