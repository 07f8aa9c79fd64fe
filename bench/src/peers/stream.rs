//! The kernel's own: a unix socket and a pipe. A record is its length in four bytes, then the payload; one system call
//! sends it, and the receiver reads as much as is there.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::Result;
use crate::peer::{Peer, Rx, Tx, patiently};
use crate::spec::Spec;

/// A sending end on any stream.
#[derive(Debug)]
pub struct Sender<S> {
    listener: Option<UnixListener>,
    stream: Option<S>,
}

/// A receiving end on any stream.
#[derive(Debug)]
pub struct Receiver<S> {
    stream: S,
    held: Vec<u8>,
    from: usize,
    to: usize,
}

impl<S: Write> Sender<S> {
    fn write(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let stream = self.stream.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        let len = (payload.len() as u32).to_le_bytes();
        let mut sent = 0;
        while sent < 4 {
            sent += stream.write_vectored(&[IoSlice::new(&len[sent..]), IoSlice::new(payload)])?;
        }
        stream.write_all(&payload[sent - 4..])
    }
}

impl Tx for Sender<UnixStream> {
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.write(payload).expect("the other end is there");
        true
    }

    fn settle(&mut self) -> Result<()> {
        if let Some(listener) = self.listener.take() {
            self.stream = Some(listener.accept()?.0);
        }
        Ok(())
    }
}

impl Tx for Sender<File> {
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.write(payload).expect("the other end is there");
        true
    }
}

impl<S: Read> Receiver<S> {
    fn new(stream: S) -> Receiver<S> {
        Receiver { stream, held: vec![0; 1 << 16], from: 0, to: 0 }
    }
}

impl<S: Read> Rx for Receiver<S> {
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        while self.to - self.from < 4 {
            self.held.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            self.to += self.stream.read(&mut self.held[self.to..]).expect("the other end is there");
        }
        let len = u32::from_le_bytes(self.held[self.from..self.from + 4].try_into().expect("four bytes")) as usize;
        self.from += 4;
        let here = len.min(self.to - self.from);
        buf[..here].copy_from_slice(&self.held[self.from..self.from + here]);
        self.from += here;
        self.stream.read_exact(&mut buf[here..len]).expect("the other end is there");
        Some(len)
    }
}

/// A unix stream socket.
#[derive(Debug)]
pub struct Socket;

impl Peer for Socket {
    type Tx = Sender<UnixStream>;
    type Rx = Receiver<UnixStream>;

    fn tx(spec: &Spec, name: &str) -> Result<Self::Tx> {
        Ok(Sender { listener: Some(UnixListener::bind(spec.place.join(name))?), stream: None })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Self::Rx> {
        Ok(Receiver::new(patiently(|| Ok(UnixStream::connect(spec.place.join(name))?))?))
    }
}

/// A pipe with a name.
#[derive(Debug)]
pub struct Pipe;

impl Peer for Pipe {
    type Tx = Sender<File>;
    type Rx = Receiver<File>;

    fn tx(spec: &Spec, name: &str) -> Result<Self::Tx> {
        let path = spec.place.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        // For reading too: opening does not wait for the other end.
        let file = File::options().read(true).write(true).open(path)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&file, 1 << 20);
        Ok(Sender { listener: None, stream: Some(file) })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Self::Rx> {
        let path = spec.place.join(name);
        Ok(Receiver::new(patiently(|| Ok(File::options().read(true).custom_flags(0).open(&path)?))?))
    }
}
