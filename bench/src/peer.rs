//! What a carrier of records must do to be measured.
//!
//! Everybody does the same work: a record's payload lies in private memory, is copied in, copied out into private memory on
//! the other side, and looked at there ([`stamp`], [`check`]).

use crate::Result;
use crate::spec::Spec;

/// The sending end.
pub trait Tx {
    /// Sends a record; `false`: no room now, and nothing was sent. One that blocks always returns `true`.
    fn try_send(&mut self, payload: &[u8]) -> bool;

    /// Called when both ends exist.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being connected.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Says that nothing more comes for now: what was held back goes out.
    fn flush(&mut self) {}

    /// Sends a record, however long it takes.
    #[inline]
    fn send(&mut self, payload: &[u8]) {
        while !self.try_send(payload) {
            self.flush();
            std::hint::spin_loop();
        }
    }
}

/// The receiving end.
pub trait Rx {
    /// Receives a record into `buf`, if one is there; one that blocks waits for it.
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize>;

    /// Receives a record, busily.
    #[inline]
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        loop {
            if let Some(len) = self.try_recv(buf) {
                return len;
            }
            std::hint::spin_loop();
        }
    }

    /// Receives a record, asleep until it comes; one that cannot sleep polls.
    fn wait(&mut self, buf: &mut [u8]) -> usize {
        self.recv(buf)
    }

    /// Receives what is there.
    #[inline]
    fn drain(&mut self, buf: &mut [u8], each: &mut impl FnMut(&[u8])) {
        if let Some(len) = self.try_recv(buf) {
            each(&buf[..len]);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A carrier of records in one direction.
pub trait Peer: Sized {
    /// Its sending end.
    type Tx: Tx + Send;
    /// Its receiving end.
    type Rx: Rx + Send;
    /// Both ends have to be in one process.
    const IN_PROCESS: bool = false;
    /// One sending end serves many receiving ends.
    const BROADCAST: bool = false;

    /// Makes the sending end of `name`. Comes before [`rx`](Self::rx) in each process, but not in all of them together.
    ///
    /// # Errors
    ///
    /// Whatever kept it.
    fn tx(spec: &Spec, name: &str) -> Result<Self::Tx>;

    /// Makes the receiving end of `name`, waiting for the other one if need be.
    ///
    /// # Errors
    ///
    /// Whatever kept it.
    fn rx(spec: &Spec, name: &str) -> Result<Self::Rx>;
}

/// A carrier that hands records over in place: nobody copies, and both sides touch a record's first and last eight
/// bytes only.
pub trait InPlace: Sized {
    /// Its sending end.
    type Placer: Place;
    /// Its receiving end.
    type Looker: Look;

    /// Makes the sending end.
    ///
    /// # Errors
    ///
    /// Whatever kept it.
    fn placer(spec: &Spec) -> Result<Self::Placer>;

    /// Makes the receiving end, waiting for the other one if need be.
    ///
    /// # Errors
    ///
    /// Whatever kept it.
    fn looker(spec: &Spec) -> Result<Self::Looker>;
}

/// The sending end of [`InPlace`].
pub trait Place {
    /// Has `fill` write a record of `size` bytes where the other side will find it; `false`: no room now.
    fn try_place(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> bool;
}

/// The receiving end of [`InPlace`].
pub trait Look {
    /// Shows `look` what is there, in place.
    fn look(&mut self, look: &mut impl FnMut(&[u8]));
}

/// The number that says that nothing more comes.
pub const LAST: u64 = u64::MAX;

/// Writes `number` into the first eight bytes and, mixed, into the last eight.
#[inline(always)]
pub fn stamp(payload: &mut [u8], number: u64) {
    let end = payload.len() - 8;
    if end >= 8 {
        payload[end..].copy_from_slice(&(number ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    payload[..8].copy_from_slice(&number.to_le_bytes());
}

/// The number in a payload.
///
/// # Panics
///
/// If the payload is not `size` bytes with that number at both ends.
#[inline(always)]
pub fn check(payload: &[u8], size: usize) -> u64 {
    assert_eq!(payload.len(), size, "length of a record");
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
    let number = word(0);
    if size >= 16 {
        assert_eq!(word(size - 8), number ^ 0x9e37_79b9_7f4a_7c15, "the end of record {number}");
    }
    number
}

/// Tries again for a while what depends on another process.
///
/// # Errors
///
/// The last failure, after ten seconds.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = std::time::Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < std::time::Duration::from_secs(10) => {
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
            done => return done,
        }
    }
}
