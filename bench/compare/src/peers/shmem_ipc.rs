//! shmem-ipc: a ring of plain values in a sealed memfd.
//!
//! The values are words of eight bytes. A record is its length in one word, then its payload, padded; it lies in one piece,
//! and where it would not fit before the ring's end a marker gives the rest away. That lets both sides copy whole
//! payloads, where a ring of bytes would cut them. Both sides poll (`sender_mut`, `receiver_mut`): no eventfd is ever
//! written. The sender publishes each record; the receiver takes all that is there, up to a quarter of the ring, in one
//! call.
//!
//! The ring is a memfd and has no name: it goes with its processes. What is in the run's place is a file that says where
//! the receiver finds it under `/proc`.
//!
//! # Safety
//!
//! The ring hands out pointers into its own mapping with the number of words that may be written, or read; what is copied
//! is checked against that number first. Payloads are private memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use ::shmem_ipc::sharedring;
use ringward_bench::Result;
use ringward_bench::peer::{Peer, Rx, Tx, patiently};
use ringward_bench::spec::Spec;

const WRAP: u64 = u64::MAX;

/// shmem-ipc.
#[derive(Debug)]
pub(crate) struct ShmemIpc;

/// A sending end. Its position is kept here too: shmem-ipc does not tell where the ring's end is.
pub(crate) struct Sender {
    ring: sharedring::Sender<u64>,
    at: usize,
    words: usize,
}

/// A receiving end.
pub(crate) struct Receiver {
    ring: sharedring::Receiver<u64>,
    quarter: usize,
}

fn words(len: usize) -> usize {
    1 + len.div_ceil(8)
}

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        let (need, to_end) = (words(payload.len()), self.words - self.at);
        if need > to_end {
            let mut given = 0;
            let filled = self.ring.sender_mut().send(|place, count| {
                if count == to_end {
                    // SAFETY: at least one word is there to be written.
                    unsafe { place.write(WRAP) };
                    given = count;
                }
                given
            });
            filled.expect("a sound ring");
            if given == 0 {
                return false;
            }
            self.at = 0;
        }
        let mut sent = 0;
        let done = self.ring.sender_mut().send(|place, count| {
            if count >= need {
                // SAFETY: `need` words are there to be written, one of them for the length.
                unsafe {
                    place.write(payload.len() as u64);
                    core::ptr::copy_nonoverlapping(payload.as_ptr(), place.add(1).cast(), payload.len());
                }
                sent = need;
            }
            sent
        });
        done.expect("a sound ring");
        self.at = (self.at + sent) % self.words;
        sent != 0
    }
}

impl Receiver {
    /// Receives records until `limit` words were taken.
    #[inline]
    fn take(&mut self, limit: usize, buf: &mut [u8], mut each: impl FnMut(&[u8])) {
        let done = self.ring.receiver_mut().recv(|place, count| {
            let mut taken = 0;
            while taken < count.min(limit) {
                // SAFETY: one of the words that are there to be read.
                let len = unsafe { place.add(taken).read() };
                if len == WRAP {
                    // The marker is published with all that it gives away.
                    return count;
                }
                let len = len as usize;
                assert!(len <= buf.len() && words(len) <= count - taken, "a whole record");
                // SAFETY: inside of the words that are there to be read, and inside of the buffer.
                unsafe {
                    core::ptr::copy_nonoverlapping(place.add(taken + 1).cast(), buf.as_mut_ptr(), len);
                }
                taken += words(len);
                each(&buf[..len]);
            }
            taken
        });
        done.expect("a sound ring");
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
        let mut some = false;
        self.take(self.quarter, buf, |payload| {
            some = true;
            each(payload);
        });
        if !some {
            std::hint::spin_loop();
        }
    }
}

impl Peer for ShmemIpc {
    type Tx = Sender;
    type Rx = Receiver;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        let capacity = spec.capacity as usize / 8;
        let mut ring = sharedring::Sender::<u64>::new(capacity)?;
        rustix::fs::fallocate(ring.memfd().as_file(), rustix::fs::FallocateFlags::empty(), 0, spec.capacity)?;
        let words = ring.sender_mut().write_count()?;
        let (path, fd) = (spec.place.join(name), ring.memfd().as_file().as_raw_fd());
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, format!("/proc/{}/fd/{fd}", std::process::id()))?;
        std::fs::rename(temporary, path)?;
        Ok(Sender { ring, at: 0, words })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let path = patiently(|| Ok(std::fs::read_to_string(spec.place.join(name))?))?;
        let memory = File::options().read(true).write(true).open(path)?;
        // Nobody signals: any files will do.
        let [empty, full] = [File::open("/dev/null")?, File::open("/dev/null")?];
        let capacity = spec.capacity as usize / 8;
        Ok(Receiver { ring: sharedring::Receiver::open(capacity, memory, empty, full)?, quarter: capacity / 4 })
    }
}
