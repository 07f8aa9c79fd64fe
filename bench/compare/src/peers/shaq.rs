//! shaq 4.3 (Anza): a queue of slots of one type, one producer, one consumer, in a file.
//!
//! A slot is a length and room for a payload of the run's size, compiled for each size that the plan has, so that nothing
//! is wasted on slots that are too large; there are as many as fit a ring of the run's size, a power of two as shaq wants
//! it, but at least eight. It is used as its documentation asks: "when writing multiple items, prefer `write_batch`",
//! "when reading multiple items, prefer `try_reserve_read_batch`". The producer writes in place and publishes every
//! [`BATCH`] records, when the queue is full, or when it has no more to say; the consumer takes what is there, up to a
//! quarter of the queue, and copies from the slots. Both poll: neither waits on shaq's futex.
//!
//! Its file lies in the run's place.
//!
//! # Safety
//!
//! A queue's file is made once, by the producer, and found by its one consumer under a name that it gets when it is
//! complete; nobody cuts it. Both sides compile the same slot, which is integers only. A batch borrows the producer: it is
//! declared and dropped before it, and while there is a batch the producer is used through that alone.
#![allow(unsafe_code)]

use std::fs::File;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use ::shaq::spsc::{Consumer, Producer, WriteBatch, minimum_file_size};
use ringward_bench::Result;
use ringward_bench::peer::{Peer, Rx, Tx, patiently};
use ringward_bench::role::Gate;
use ringward_bench::spec::Spec;
use ringward_bench::works::any;
use serde_json::Value;

/// Records that a producer publishes together, as many as `ringward-batch` does.
const BATCH: usize = 16;

/// Room for a payload of `N` bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Slot<const N: usize> {
    len: u32,
    bytes: [u8; N],
}

/// shaq with slots for `N` bytes.
#[derive(Debug)]
struct Shaq<const N: usize>;

/// A producer and the batch that it is at.
struct Sender<const N: usize> {
    batch: Option<WriteBatch<'static, Slot<N>>>,
    held: usize,
    producer: NonNull<Producer<Slot<N>>>,
}

/// A consumer.
struct Receiver<const N: usize>(Consumer<Slot<N>>);

/// Runs a side with slots of the run's size.
///
/// # Errors
///
/// What went wrong, and that there are no such slots.
pub(crate) fn run(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.size {
        0..=8 => any::<Shaq<8>>(spec, gate),
        9..=64 => any::<Shaq<64>>(spec, gate),
        65..=256 => any::<Shaq<256>>(spec, gate),
        257..=1024 => any::<Shaq<1024>>(spec, gate),
        1025..=65_536 => any::<Shaq<65_536>>(spec, gate),
        65_537..=1_048_576 => any::<Shaq<1_048_576>>(spec, gate),
        other => Err(format!("no slot of {other} bytes was compiled in").into()),
    }
}

fn slots<const N: usize>(spec: &Spec) -> usize {
    let fit = spec.capacity as usize / size_of::<Slot<N>>();
    (1 << fit.max(1).ilog2()).max(8)
}

// SAFETY: the producer may be sent, and its batch goes with it: nothing else knows of either.
unsafe impl<const N: usize> Send for Sender<N> {}

impl<const N: usize> Sender<N> {
    fn publish(&mut self) {
        self.batch = None;
        self.held = 0;
    }
}

impl<const N: usize> Tx for Sender<N> {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        assert!(payload.len() <= N);
        let batch = self.batch.get_or_insert_with(|| {
            // SAFETY: from `Box::into_raw`; there is no batch, so nothing else borrows it.
            unsafe { self.producer.as_mut() }.write_batch()
        });
        // SAFETY: the slot is filled before anything can publish it.
        let Some(slot) = (unsafe { batch.try_as_mut() }) else {
            return false; // the caller flushes, which publishes; the next batch looks for room again
        };
        let slot = slot.as_mut_ptr();
        // SAFETY: a slot of this queue, ours until it is published; the payload fits, and is private memory. What lies
        // behind it in the slot holds zeros or an earlier payload.
        unsafe {
            (&raw mut (*slot).len).write(payload.len() as u32);
            core::ptr::copy_nonoverlapping(payload.as_ptr(), (&raw mut (*slot).bytes).cast(), payload.len());
        }
        self.held += 1;
        if self.held == BATCH {
            self.publish();
        }
        true
    }

    fn flush(&mut self) {
        self.publish();
    }
}

impl<const N: usize> Drop for Sender<N> {
    fn drop(&mut self) {
        self.publish();
        // SAFETY: from `Box::into_raw`, once; the batch is gone.
        drop(unsafe { Box::from_raw(self.producer.as_ptr()) });
    }
}

impl<const N: usize> Receiver<N> {
    #[inline]
    fn take(&mut self, max: usize, buf: &mut [u8], mut each: impl FnMut(&[u8])) -> bool {
        let Some(batch) = self.0.try_reserve_read_batch(NonZeroUsize::new(max).expect("some")) else {
            return false;
        };
        let (first, second) = batch.as_slices();
        for slot in first.iter().chain(second) {
            let len = slot.len as usize;
            buf[..len].copy_from_slice(&slot.bytes[..len]);
            each(&buf[..len]);
        }
        true
    }
}

impl<const N: usize> Rx for Receiver<N> {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let mut got = None;
        self.take(1, buf, |payload| got = Some(payload.len()));
        got
    }

    #[inline]
    fn drain(&mut self, buf: &mut [u8], each: &mut impl FnMut(&[u8])) {
        let quarter = self.0.capacity() / 4;
        if !self.take(quarter, buf, each) {
            std::hint::spin_loop();
        }
    }
}

impl<const N: usize> Peer for Shaq<N> {
    type Tx = Sender<N>;
    type Rx = Receiver<N>;

    fn tx(spec: &Spec, name: &str) -> Result<Sender<N>> {
        let (path, len) = (spec.place.join(name), minimum_file_size::<Slot<N>>(slots::<N>(spec)));
        let temporary = path.with_extension("new");
        let file = File::options().read(true).write(true).create_new(true).open(&temporary)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len as u64)?;
        // SAFETY: a fresh file, made once, with one producer and one consumer.
        let producer = unsafe { Producer::create(&file, len) }?;
        std::fs::rename(&temporary, path)?;
        let producer = NonNull::from(Box::leak(Box::new(producer)));
        Ok(Sender { batch: None, held: 0, producer })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver<N>> {
        let path = spec.place.join(name);
        let file = patiently(|| Ok(File::options().read(true).write(true).open(&path)?))?;
        // SAFETY: a complete queue of the same slots, and this is its one consumer.
        Ok(Receiver(unsafe { Consumer::join(&file) }?))
    }
}
