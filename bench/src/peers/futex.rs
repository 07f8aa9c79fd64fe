//! A bare futex pair: the least that two processes can do to wake each other. One payload fits; a word counts what was
//! sent, and the receiver sleeps on it.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;

use crate::Result;
use crate::peer::{Peer, Rx, Tx, patiently};
use crate::shared::Shared;
use crate::spec::Spec;

const WORD: usize = 0;
const DATA: usize = 128;

/// The pair.
#[derive(Debug)]
pub struct Futex;

/// Either end.
#[derive(Debug)]
pub struct End {
    memory: Shared,
    seen: u32,
}

impl End {
    fn word(&self) -> &AtomicU32 {
        self.memory.half(WORD)
    }
}

impl Tx for End {
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.memory.store(DATA, payload);
        self.word().fetch_add(1, Ordering::Release);
        let _ = futex::wake(self.word(), futex::Flags::empty(), 1);
        true
    }
}

impl Rx for End {
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let sent = self.word().load(Ordering::Acquire);
        (sent != self.seen).then(|| {
            self.seen = sent;
            self.memory.load(DATA, buf);
            buf.len()
        })
    }

    fn wait(&mut self, buf: &mut [u8]) -> usize {
        loop {
            // Asleep first: that is what is measured.
            let _ = futex::wait(self.word(), futex::Flags::empty(), self.seen, None);
            if let Some(len) = self.try_recv(buf) {
                return len;
            }
        }
    }
}

impl Peer for Futex {
    type Tx = End;
    type Rx = End;

    fn tx(spec: &Spec, name: &str) -> Result<End> {
        Ok(End { memory: Shared::create(&spec.place.join(name), (DATA + spec.size) as u64)?, seen: 0 })
    }

    fn rx(spec: &Spec, name: &str) -> Result<End> {
        Ok(End { memory: patiently(|| Shared::open(&spec.place.join(name)))?, seen: 0 })
    }
}
