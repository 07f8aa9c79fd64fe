//! The ledger: what every process says it did and saw, outside the ring.
//!
//! One pipe for all: the kernel takes each entry whole or not at all (it is shorter than `PIPE_BUF`), in one order for
//! all processes, and keeps it when its writer dies. So an entry that was written *before* a push is read before whatever
//! the push brought about; and the controller's word that a process is dead comes behind everything that it wrote.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::PipeFlags;

use crate::payload::HEAD;

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 64;
/// Bytes that the pipe holds.
const PIPE: usize = 1 << 20;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A writer holds `generation`; its next record gets `sequence`.
    Elected = 1,
    /// A writer is about to push the record `nonce` of `len` bytes.
    Intent,
    /// The push of `nonce` returned: it got `sequence`.
    Acked,
    /// The push of `nonce` was refused, `code` says why.
    Refused,
    /// The writer closed the channel.
    Closed,
    /// A reader took its place in `generation`; its next record is `sequence`. `flag`: durable. `nonce`: number of its name.
    Joined,
    /// A reader has record `sequence` in its hands. `code`: 0, or 1 + the first wrong byte; `flag`: redelivered.
    Record,
    /// A reader was told that records are lost: `len` of them (all ones: unknown) from `sequence` on.
    Gap,
    /// A reader went from `sequence` (a generation) to `generation`.
    Restarted,
    /// A reader was told that the channel is closed; its next record would be `sequence`.
    End,
    /// A reader was told something else, or nothing for a while: it lives.
    Told,
    /// A role ended with an error, `code` says which.
    Failed,
    /// The controller: process `worker` was started, `code` is its role.
    Started,
    /// The controller: process `worker` is dead; `ns` is when it was killed (0: not by us).
    Died,
    /// A parked lock was granted.
    Woke,
    /// A role got a typed error, and goes on. `nonce` and `head`: its id.
    Erred,
}

const KINDS: [Kind; 16] = [
    Kind::Elected,
    Kind::Intent,
    Kind::Acked,
    Kind::Refused,
    Kind::Closed,
    Kind::Joined,
    Kind::Record,
    Kind::Gap,
    Kind::Restarted,
    Kind::End,
    Kind::Told,
    Kind::Failed,
    Kind::Started,
    Kind::Died,
    Kind::Woke,
    Kind::Erred,
];

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) flag: bool,
    /// Which channel of the run.
    pub(crate) channel: u8,
    pub(crate) worker: u32,
    pub(crate) code: u32,
    pub(crate) record_type: u32,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) nonce: u64,
    pub(crate) len: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) ns: u64,
    pub(crate) head: [u8; HEAD],
}

impl Entry {
    /// An entry that says nothing but `kind`.
    pub(crate) fn new(kind: Kind, channel: u8, worker: u32) -> Entry {
        Entry {
            kind,
            flag: false,
            channel,
            worker,
            code: 0,
            record_type: 0,
            generation: 0,
            sequence: 0,
            nonce: 0,
            len: 0,
            ns: now(),
            head: [0; HEAD],
        }
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        out[0] = self.kind as u8;
        out[1] = u8::from(self.flag);
        out[2] = self.channel;
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(4, &self.worker.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        put(12, &self.record_type.to_le_bytes());
        put(16, &self.len.to_le_bytes());
        put(20, &self.generation.to_le_bytes());
        put(28, &self.sequence.to_le_bytes());
        put(36, &self.nonce.to_le_bytes());
        put(44, &self.ns.to_le_bytes());
        put(52, &self.head);
        out
    }

    /// `None`: not one of ours.
    pub(crate) fn decode(bytes: &[u8; ENTRY]) -> Option<Entry> {
        let kind = *KINDS.get(usize::from(bytes[0]).checked_sub(1)?)?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let mut head = [0; HEAD];
        head.copy_from_slice(&bytes[ENTRY - HEAD..]);
        Some(Entry {
            kind,
            flag: bytes[1] != 0,
            channel: bytes[2],
            worker: u32_at(4),
            code: u32_at(8),
            record_type: u32_at(12),
            len: u32_at(16),
            generation: u64_at(20),
            sequence: u64_at(28),
            nonce: u64_at(36),
            ns: u64_at(44),
            head,
        })
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The writing end, in every process.
#[derive(Debug)]
pub(crate) struct Pen<F: AsFd> {
    fd: F,
}

impl<F: AsFd> Pen<F> {
    pub(crate) fn new(fd: F) -> Pen<F> {
        Pen { fd }
    }

    /// Writes entries, together. If nobody reads any more, the run is over.
    pub(crate) fn write<const N: usize>(&self, entries: [Entry; N]) {
        const { assert!(N * ENTRY <= 4096) };
        let mut bytes = [0; 4096];
        for (chunk, entry) in bytes.chunks_exact_mut(ENTRY).zip(&entries) {
            chunk.copy_from_slice(&entry.encode());
        }
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &bytes[..N * ENTRY]));
    }
}

/// A new ledger: reading and writing end.
pub(crate) fn open() -> io::Result<(std::fs::File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE);
    Ok((read.into(), write))
}

/// Reads entries as they come.
#[derive(Debug)]
pub(crate) struct Scroll {
    file: std::fs::File,
    buffer: Vec<u8>,
    filled: usize,
}

impl Scroll {
    pub(crate) fn new(file: std::fs::File) -> Scroll {
        Scroll { file, buffer: vec![0; 64 << 10], filled: 0 }
    }

    /// How many entries are there to be read, at least.
    pub(crate) fn waiting(&self) -> usize {
        (rustix::io::ioctl_fionread(&self.file).map_or(0, |bytes| bytes as usize) + self.filled).div_ceil(ENTRY)
    }

    /// Hands what is there to `each`, waiting for the first at most `timeout_ms`. `false`: there will be no more.
    pub(crate) fn read(&mut self, timeout_ms: i64, mut each: impl FnMut(Entry)) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec { tv_sec: timeout_ms / 1000, tv_nsec: timeout_ms % 1000 * 1_000_000 };
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? == 0 {
            return Ok(true);
        }
        let got = self.file.read(&mut self.buffer[self.filled..])?;
        if got == 0 {
            return Ok(false);
        }
        self.filled += got;
        let whole = self.filled / ENTRY * ENTRY;
        for bytes in self.buffer[..whole].as_chunks::<ENTRY>().0 {
            if let Some(entry) = Entry::decode(bytes) {
                each(entry);
            }
        }
        self.buffer.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_both_ways() {
        for kind in KINDS {
            let mut entry = Entry::new(kind, 3, 0xfedc_ba98);
            entry.flag = true;
            (entry.code, entry.record_type, entry.len) = (1, u32::MAX, 0x8000_0001);
            (entry.generation, entry.sequence, entry.nonce) = (u64::MAX - 1, 1 << 63, u64::MAX - 9);
            entry.head = *b"0123456789ab";
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
        assert_eq!(Entry::decode(&[0; ENTRY]), None);
        assert_eq!(Entry::decode(&[17; ENTRY]), None);
    }

    #[test]
    fn a_scroll_reads_what_pens_wrote() {
        let (read, write) = open().unwrap();
        let (one, two) = (Pen::new(write.try_clone().unwrap()), Pen::new(write));
        one.write([Entry::new(Kind::Elected, 0, 1), Entry::new(Kind::Intent, 0, 1)]);
        two.write([Entry::new(Kind::Told, 1, 2)]);
        let mut scroll = Scroll::new(read);
        let mut seen = Vec::new();
        assert_eq!(scroll.waiting(), 3);
        assert!(scroll.read(1000, |entry| seen.push((entry.kind, entry.worker))).unwrap());
        assert_eq!(seen, [(Kind::Elected, 1), (Kind::Intent, 1), (Kind::Told, 2)]);
        drop((one, two));
        assert!(!scroll.read(1000, |_| ()).unwrap());
    }
}
