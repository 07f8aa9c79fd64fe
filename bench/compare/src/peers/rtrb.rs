//! rtrb: a ring for two threads of one process. Not a rival but a ceiling: nothing is shared with a stranger.
//!
//! It is a ring of bytes, used by chunks: a record is its length in eight bytes and its payload, padded to eight, and
//! goes in as one chunk, so it is published at once; the receiver takes all that is there, up to a quarter of the ring,
//! as one chunk. Both ends cache each other's position, which is rtrb's own doing.
//!
//! # Safety
//!
//! A chunk's slots are filled from its first to its last byte before it is committed: the length, the payload, zeros.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::rtrb::{Consumer, Producer, RingBuffer};
use ringward_bench::Result;
use ringward_bench::peer::{Peer, Rx, Tx, patiently};
use ringward_bench::spec::Spec;

/// Receiving ends that were made with their sending ends, by name, until they are fetched.
static WAITING: Mutex<Option<HashMap<String, Consumer<u8>>>> = Mutex::new(None);

/// rtrb.
#[derive(Debug)]
pub(crate) struct Rtrb;

/// A sending end.
#[derive(Debug)]
pub(crate) struct Sender(Producer<u8>);

/// A receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Consumer<u8>,
    quarter: usize,
}

fn span(len: usize) -> usize {
    8 + len.next_multiple_of(8)
}

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        let Ok(mut chunk) = self.0.write_chunk_uninit(span(payload.len())) else { return false };
        let (first, second) = chunk.as_mut_slices();
        // Positions are multiples of eight: the length is never cut, and there is always room for it.
        first[..8].write_copy_of_slice(&(payload.len() as u64).to_le_bytes());
        let here = payload.len().min(first.len() - 8);
        first[8..8 + here].write_copy_of_slice(&payload[..here]);
        let there = payload.len() - here;
        if there > 0 {
            second[..there].write_copy_of_slice(&payload[here..]);
        }
        if !payload.len().is_multiple_of(8) {
            let rest = if there > 0 { &mut second[there..] } else { &mut first[8 + here..] };
            rest.iter_mut().for_each(|byte| {
                byte.write(0);
            });
        }
        // SAFETY: see the module.
        unsafe { chunk.commit_all() };
        true
    }
}

impl Receiver {
    /// Receives records until `limit` bytes were taken.
    #[inline]
    fn take(&mut self, limit: usize, buf: &mut [u8], mut each: impl FnMut(&[u8])) -> bool {
        let there = self.ring.slots();
        if there == 0 {
            return false;
        }
        let chunk = self.ring.read_chunk(there).expect("as many as it said");
        let (first, second) = chunk.as_slices();
        let mut taken = 0;
        while taken < there.min(limit) {
            let (near, far) =
                if taken < first.len() { (&first[taken..], second) } else { (&second[taken - first.len()..], &[][..]) };
            let len = u64::from_le_bytes(near[..8].try_into().expect("eight bytes")) as usize;
            let here = len.min(near.len() - 8);
            buf[..here].copy_from_slice(&near[8..8 + here]);
            if here < len {
                buf[here..len].copy_from_slice(&far[..len - here]);
            }
            taken += span(len);
            each(&buf[..len]);
        }
        chunk.commit(taken);
        true
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let mut got = None;
        self.take(1, buf, |payload| got = Some(payload.len()));
        got
    }

    #[inline]
    fn drain(&mut self, buf: &mut [u8], each: &mut impl FnMut(&[u8])) {
        if !self.take(self.quarter, buf, each) {
            std::hint::spin_loop();
        }
    }
}

impl Peer for Rtrb {
    type Tx = Sender;
    type Rx = Receiver;
    const IN_PROCESS: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        let (sender, receiver) = RingBuffer::new(spec.capacity as usize);
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get_or_insert_default().insert(name.into(), receiver);
        Ok(Sender(sender))
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let ring = patiently(|| {
            let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(waiting.as_mut().and_then(|all| all.remove(name)).ok_or("the other end isn't made yet")?)
        })?;
        Ok(Receiver { ring, quarter: spec.capacity as usize / 4 })
    }
}
