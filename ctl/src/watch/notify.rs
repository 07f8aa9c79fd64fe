//! The service manager: it is told when we are ready, that we are well, and when we reload or stop.
//!
//! One datagram each to the socket that `$NOTIFY_SOCKET` names (systemd's `sd_notify`); nothing where there is none.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that we are well.
    every: Option<Duration>,
    last: Instant,
}

impl Notify {
    pub(super) fn from_environment() -> Notify {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let to = name.and_then(|name| {
            let bytes = name.as_encoded_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        // Twice as often as it wants, so that one late ping is none too late.
        let every = number("WATCHDOG_USEC").filter(|_| ours).map(|us| Duration::from_micros(us / 2));
        Notify { to, every, last: Instant::now() }
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.to {
            // Nobody listens: then nobody needs to know.
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }

    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = u128::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u128::try_from(now.tv_nsec).unwrap_or(0) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says that we are well, if it is time: called after a look that succeeded.
    pub(super) fn well(&mut self, status: &str) {
        if self.every.is_some_and(|every| self.last.elapsed() >= every.mul_f32(0.9)) {
            self.last = Instant::now();
            self.say(&format!("WATCHDOG=1\nSTATUS={status}"));
        }
    }

    /// Longest time that we may be silent.
    pub(super) fn every(&self) -> Option<Duration> {
        self.every
    }
}
