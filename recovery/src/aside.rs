//! Stepping aside: off the processor on which a thread that is awaited has been interrupted.
//!
//! Whoever is woken by a dying thread often runs on that thread's processor, in its place; looking again and again whether it
//! has gone then only keeps it from going. The scheduler moves one of the two sooner or later, mostly later.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// While it lives, this thread runs on any processor but the one on which it was when this was made; then again where it may.
#[derive(Debug)]
pub(crate) struct Aside(CpuSet);

impl Aside {
    /// `None` where there is no other processor for this thread, or it may not choose.
    pub(crate) fn step() -> Option<Aside> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut elsewhere = allowed;
        elsewhere.unset(sched_getcpu());
        if elsewhere.count() == 0 {
            return None;
        }
        sched_setaffinity(None, &elsewhere).ok()?;
        Some(Aside(allowed))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_steps_aside_is_elsewhere_and_may_come_back() {
        let before = sched_getaffinity(None).unwrap();
        // Pinned to one, there is nowhere to go.
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        assert!(Aside::step().is_none());
        let here = sched_getcpu();
        sched_setaffinity(None, &before).unwrap();
        if before.count() > 1 {
            sched_setaffinity(None, &one).unwrap();
            sched_setaffinity(None, &before).unwrap();
            let was = sched_getcpu();
            let aside = Aside::step().unwrap();
            assert!(!sched_getaffinity(None).unwrap().is_set(was) || was != here);
            drop(aside);
            assert_eq!(sched_getaffinity(None).unwrap(), before);
        } else {
            eprintln!("SKIPPED in part: this test may run on one processor only");
        }
    }
}
