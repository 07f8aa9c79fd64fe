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
