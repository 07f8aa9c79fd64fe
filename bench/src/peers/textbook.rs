//! The textbook ring: one writer, one reader, an index each on lines of their own, each side caching the other's.
//! No checksums, no recovery: what remains of a ring if nothing may ever go wrong.

use std::sync::atomic::Ordering;

use crate::Result;
use crate::peer::{Peer, Rx, Tx, patiently};
use crate::shared::Shared;
use crate::spec::Spec;

const HEAD: usize = 0;
const TAIL: usize = 128;
const DATA: usize = 4096;
const WRAP: u64 = u64::MAX;

/// The textbook ring.
#[derive(Debug)]
pub struct Textbook;

/// Its sending end.
#[derive(Debug)]
pub struct Sender {
    memory: Shared,
    capacity: u64,
    head: u64,
    tail: u64,
}

/// Its receiving end.
#[derive(Debug)]
pub struct Receiver {
    memory: Shared,
    capacity: u64,
    head: u64,
    tail: u64,
}

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        let span = 8 + (payload.len() as u64).next_multiple_of(8);
        let to_end = self.capacity - self.head % self.capacity;
        let filler = if span > to_end { to_end } else { 0 };
        if self.head + filler + span - self.tail > self.capacity {
            self.tail = self.memory.word(TAIL).load(Ordering::Acquire);
            if self.head + filler + span - self.tail > self.capacity {
                return false;
            }
        }
        if filler != 0 {
            self.memory.word(DATA + (self.head % self.capacity) as usize).store(WRAP, Ordering::Relaxed);
            self.head += filler;
        }
        let at = DATA + (self.head % self.capacity) as usize;
        self.memory.word(at).store(payload.len() as u64, Ordering::Relaxed);
        self.memory.store(at + 8, payload);
        self.head += span;
        self.memory.word(HEAD).store(self.head, Ordering::Release);
        true
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        loop {
            if self.tail == self.head {
                self.head = self.memory.word(HEAD).load(Ordering::Acquire);
                if self.tail == self.head {
                    return None;
                }
            }
            let at = DATA + (self.tail % self.capacity) as usize;
            let len = self.memory.word(at).load(Ordering::Relaxed);
            if len == WRAP {
                self.tail += self.capacity - self.tail % self.capacity;
                continue;
            }
            self.memory.load(at + 8, &mut buf[..len as usize]);
            self.tail += 8 + len.next_multiple_of(8);
            self.memory.word(TAIL).store(self.tail, Ordering::Release);
            return Some(len as usize);
        }
    }
}

impl Peer for Textbook {
    type Tx = Sender;
    type Rx = Receiver;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        let memory = Shared::create(&spec.place.join(name), DATA as u64 + spec.capacity)?;
        Ok(Sender { memory, capacity: spec.capacity, head: 0, tail: 0 })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let memory = patiently(|| Shared::open(&spec.place.join(name)))?;
        Ok(Receiver { memory, capacity: spec.capacity, head: 0, tail: 0 })
    }
}
