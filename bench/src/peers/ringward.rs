//! Ringward as its users have it: a channel of `ringward-recovery`, with heartbeats and checksums.
//!
//! # Safety
//!
//! In `lend`, both processes at the channel are the harness' own, and its directory is nobody else's.
#![allow(unsafe_code)]

use std::time::Duration;

use ringward_recovery::{
    Channel, Checksum, Config, Durability, Event, From, Namespace, Reader, TrustedPeers, WhenFull, Writer,
};

use crate::Result;
use crate::peer::{InPlace, Look, Peer, Place, Rx, Tx, patiently};
use crate::spec::Spec;

/// A channel for this run.
///
/// # Errors
///
/// What `ringward-recovery` said.
pub fn channel(spec: &Spec, name: &str, checksum: Checksum) -> Result<Channel> {
    let namespace = Namespace::builder("bench").root(&spec.place).open()?;
    let config = Config::default()
        .capacity(spec.capacity)
        .checksum(checksum)
        .touch(spec.work != "open")
        .when_full(WhenFull::Error);
    Ok(Channel::new(&namespace, name, config)?)
}

fn reader(spec: &Spec, name: &str, checksum: Checksum) -> Result<Receiver> {
    let channel = channel(spec, name, checksum)?;
    let who = format!("r{}", spec.side);
    let mut reader = patiently(|| Ok(channel.reader(&who, Durability::Ephemeral, From::Latest)?))?;
    reader.set_spin(u32::MAX);
    Ok(Receiver(reader))
}

/// A writer that pushes record by record.
#[derive(Debug)]
pub struct Sender(pub Writer);

/// A reader; it drains what is there, or receives record by record.
#[derive(Debug)]
pub struct Receiver(pub Reader);

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.0.push(0, payload).is_ok()
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        match self.0.try_recv(buf).expect("the writer is there") {
            Some(Event::Record { len, .. }) => {
                self.0.release();
                Some(len)
            }
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    #[inline]
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        loop {
            match self.0.recv(buf, Duration::from_secs(1)).expect("the writer is there") {
                Some(Event::Record { len, .. }) => return len,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
    }

    fn wait(&mut self, buf: &mut [u8]) -> usize {
        self.0.set_spin(0);
        self.recv(buf)
    }

    #[inline]
    fn drain(&mut self, buf: &mut [u8], each: &mut impl FnMut(&[u8])) {
        let count = self.0.drain(buf, 256, |_, _, payload, _| each(payload)).expect("the writer is there");
        if count == 0 {
            std::hint::spin_loop();
        }
    }
}

/// A writer that makes batches: visible together when there are some, or when it has no more to say.
#[derive(Debug)]
pub struct BatchSender {
    writer: Writer,
    held: Vec<u8>,
    records: usize,
}

const BATCH: usize = 16;

impl Tx for BatchSender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        if self.records == BATCH || self.held.len() + payload.len() > self.held.capacity() {
            self.flush();
        }
        self.held.extend_from_slice(&payload[..payload.len()]);
        self.records += 1;
        true
    }

    fn flush(&mut self) {
        if self.records == 0 {
            return;
        }
        let size = self.held.len() / self.records;
        let mut rest = &self.held[..];
        while !rest.is_empty() {
            let mut batch = self.writer.batch();
            while !rest.is_empty() && batch.push(0, &rest[..size]).is_ok() {
                rest = &rest[size..];
            }
            batch.publish().expect("not fenced");
        }
        self.held.clear();
        self.records = 0;
    }
}

/// Checksums over everything: the default.
#[derive(Debug)]
pub struct Full;
/// Checksums over headers only.
#[derive(Debug)]
pub struct Header;
/// Checksums over everything, and the writer makes batches of 16.
#[derive(Debug)]
pub struct Batched;

impl Peer for Full {
    type Tx = Sender;
    type Rx = Receiver;
    const BROADCAST: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        Ok(Sender(channel(spec, name, Checksum::FULL)?.writer()?))
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        reader(spec, name, Checksum::FULL)
    }
}

impl Peer for Header {
    type Tx = Sender;
    type Rx = Receiver;
    const BROADCAST: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        Ok(Sender(channel(spec, name, Checksum::HEADER)?.writer()?))
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        reader(spec, name, Checksum::HEADER)
    }
}

impl Peer for Batched {
    type Tx = BatchSender;
    type Rx = Receiver;
    const BROADCAST: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<BatchSender> {
        let writer = channel(spec, name, Checksum::FULL)?.writer()?;
        Ok(BatchSender { writer, held: Vec::with_capacity(BATCH * spec.size), records: 0 })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        reader(spec, name, Checksum::FULL)
    }
}

// SAFETY: the harness' processes only, see above.
const PEERS: TrustedPeers = unsafe { TrustedPeers::vouch() };

impl Place for Sender {
    #[inline]
    fn try_place(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let Ok(mut reservation) = self.0.reserve(0, size) else { return false };
        reservation.in_place(PEERS, fill).expect("a range of its own");
        reservation.commit().is_ok()
    }
}

impl Look for Receiver {
    #[inline]
    fn look(&mut self, look: &mut impl FnMut(&[u8])) {
        let mut came = 0;
        while self.0.lend(PEERS, |_, _, bytes, _| look(bytes)).expect("the writer is there").is_some() {
            came += 1;
        }
        self.0.release();
        if came == 0 {
            std::hint::spin_loop();
        }
    }
}

impl InPlace for Header {
    type Placer = Sender;
    type Looker = Receiver;

    fn placer(spec: &Spec) -> Result<Sender> {
        Self::tx(spec, "lend")
    }

    fn looker(spec: &Spec) -> Result<Receiver> {
        let mut rx = Self::rx(spec, "lend")?;
        // Together, behind what was there.
        rx.0.set_auto_release(false);
        Ok(rx)
    }
}
