//! Holding every lock of a segment: the proof that it is nobody's, and what only that proof permits.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use crate::canary;
use crate::layout::{MAX_SLOTS, PRESENCE_BYTE, READER_BYTE, WRITER_BYTE};
use crate::memory::Memory;
use crate::segment::Segment;
use crate::sys::lock;
use crate::word::{SlotState, State, Successor};
use crate::{succession, table};

/// Proof that a segment is nobody's: every lock of it is held. Only this can retire it.
#[derive(Debug)]
pub struct Alone<'s> {
    pub(crate) segment: &'s Segment,
}

impl Alone<'_> {
    /// The first slot that a durable reader will come back to, if there is one; what no one can read counts as one.
    pub fn durable_reader(&self) -> Option<usize> {
        if canary!("durable-place-ignored") {
            return None;
        }
        let expelled = self.segment.page().succession.expelled.load(Ordering::Acquire);
        self.segment.slots().iter().enumerate().position(|(number, slot)| {
            if expelled >> (number & 63) & 1 == 1 {
                return false;
            }
            let state = SlotState(slot.state.load(Ordering::Acquire));
            match state {
                SlotState::FREE | SlotState::DONE | SlotState::PROVISIONAL => false,
                _ => table::is_durable(slot),
            }
        })
    }

    /// Decides that nobody follows this generation, ever. From then on anybody may unlink it, without locks.
    ///
    /// # Errors
    ///
    /// The successor that was named before, or what a damaged word holds.
    pub fn retire(&self) -> Result<(), NotNobody> {
        if canary!("retired-without-the-word") {
            return Ok(());
        }
        if canary!("unlocked-before-the-decision") {
            self.unlock();
        }
        match succession::decide_nobody(&self.segment) {
            Ok(Successor::Nobody) => {
                // Decided. The state only says it to those who would join; whoever dies in between leaves it to the word.
                self.segment.page().succession.state.store(State::RETIRED.0, Ordering::SeqCst);
                succession::ring_all(&self.segment);
                Ok(())
            }
            Ok(other) => Err(NotNobody::Followed(other)),
            Err(bad) => Err(NotNobody::Damaged(bad.0)),
        }
    }

    fn unlock(&self) {
        let fd = self.segment.file.as_fd();
        let _ = lock::unlock_range(fd, READER_BYTE, u64::from(MAX_SLOTS));
        let _ = lock::unlock(fd, WRITER_BYTE);
        let _ = lock::unlock(fd, PRESENCE_BYTE);
    }

    /// Overwrites the data with zeros.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn wipe(&self) -> io::Result<()> {
        self.segment.wipe()
    }
}

/// Why a segment can't be retired after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNobody {
    /// It is followed by another segment.
    #[error("it is followed by {0:?}")]
    Followed(Successor),
    /// Its successor word is damaged.
    #[error("its successor word holds {0:#x}")]
    Damaged(u64),
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.unlock();
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::build::tests as build;
    use crate::sys::lock::Mode;
    use crate::word::{Kind, SegmentId};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    fn segment(dir: &Path) -> Segment {
        build::segment(dir, &build::spec(4096, 64, 3))
    }

    #[test]
    fn a_place_counts_if_a_durable_reader_may_come_back_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let segment = segment(dir.path());
        let alone = segment.alone().unwrap().unwrap();
        assert_eq!(alone.durable_reader(), None, "nobody was ever there");
        let memory = &segment;
        let slot = &memory.slots()[1];
        let damaged = [SlotState(0x1234), SlotState(u32::MAX)];
        let there = [SlotState::ACTIVE, SlotState::CARRIED].into_iter().chain(damaged).map(|state| (state, true));
        let not = [SlotState::FREE, SlotState::DONE, SlotState::PROVISIONAL].map(|state| (state, false));
        for (state, occupied) in there.chain(not) {
            for (kind, durable) in [(Kind::DURABLE, true), (Kind::EPHEMERAL, false), (Kind(99), true)] {
                slot.state.store(state.0, Ordering::Relaxed);
                slot.kind.store(kind.0, Ordering::Relaxed);
                let kept = (occupied && durable).then_some(1);
                for (expelled, found) in [(0, kept), (0b101, kept), (0b010, None), (u64::MAX, None)] {
                    memory.page().succession.expelled.store(expelled, Ordering::Relaxed);
                    assert_eq!(alone.durable_reader(), found, "{state:?}, {kind:?}, expelled {expelled:#b}");
                }
            }
        }
    }

    #[test]
    fn a_retired_segment_says_so_and_a_followed_one_is_not_retired() {
        let dir = tempfile::tempdir().unwrap();
        let followed = segment(dir.path());
        let who = SegmentId::from_random(1 << 30);
        let next = Successor::Segment(who);
        assert_eq!(succession::decide_successor(&&followed, who), Ok(next));
        assert_eq!(followed.alone().unwrap().unwrap().retire(), Err(NotNobody::Followed(next)));
        std::fs::remove_file(dir.path().join("00000001.ring")).unwrap();
        let segment = segment(dir.path());
        let alone = segment.alone().unwrap().unwrap();
        alone.retire().unwrap();
        assert_eq!(State((&&segment).page().succession.state.load(Ordering::Relaxed)), State::RETIRED);
    }

    #[test]
    fn nobody_else_gets_a_lock_until_the_proof_is_dropped_and_what_is_wiped_is_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let segment = segment(dir.path());
        let path = dir.path().join("00000001.ring");
        let other = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let data = segment.identity.geometry.data_at();
        segment.file.write_all_at(&[7; 4096], data).unwrap();
        let alone = segment.alone().unwrap().unwrap();
        let bytes = [PRESENCE_BYTE, WRITER_BYTE, READER_BYTE, READER_BYTE + u64::from(MAX_SLOTS) - 1];
        let free = || bytes.map(|byte| lock::try_lock(other.as_fd(), byte, Mode::Exclusive).unwrap());
        assert_eq!(free(), [false; 4]);
        alone.wipe().unwrap();
        drop(alone);
        assert_eq!(free(), [true; 4]);
        let mut found = [1; 4096];
        other.read_exact_at(&mut found, data).unwrap();
        assert_eq!(found, [0; 4096]);
    }
}
