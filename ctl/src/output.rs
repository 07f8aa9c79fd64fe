//! Where a receiver writes: stdout, or a file of frames. What was written here has left the process, whatever happens to it next.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::PollFlags;
use rustix::fs::FileType;

use crate::exit::{Failure, complain};
use crate::frames;
use crate::stop::Stop;

/// Unbuffered: a record is one write, unless its pipe is short of room.
#[derive(Debug)]
pub(crate) struct Output {
    to: To,
    stop: Stop,
    /// Never blocks: no need to ask whether it can be written.
    is_file: bool,
    /// The first sequence number that it does not hold yet.
    next: u64,
}

#[derive(Debug)]
enum To {
    Stdout(io::Stdout),
    File(File),
}

impl To {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            To::Stdout(stdout) => stdout.as_fd(),
            To::File(file) => file.as_fd(),
        }
    }
}

impl Output {
    pub(crate) fn stdout(stop: &Stop) -> Output {
        let to = To::Stdout(io::stdout());
        let is_file =
            rustix::fs::fstat(to.fd()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Output { to, stop: stop.clone(), is_file, next: 0 }
    }

    /// A file of frames, which takes each record once.
    pub(crate) fn frames(path: &Path, stop: &Stop) -> Result<Output, Failure> {
        let opened = frames::open(path)?;
        if opened.torn > 0 {
            let bytes = opened.torn;
            complain(&format!("{}: cut off the {bytes} bytes of a torn frame [RW-EV-TORN]", path.display()));
        }
        Ok(Output { to: To::File(opened.file), stop: stop.clone(), is_file: true, next: opened.next })
    }

    /// Whether the record with this number is there already.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        sequence < self.next
    }

    /// Writes a record's bytes, all of them, before it returns.
    pub(crate) fn write(&mut self, sequence: u64, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if !self.is_file {
                self.stop.ready(self.to.fd(), PollFlags::OUT)?;
            }
            match rustix::io::write(self.to.fd(), bytes) {
                Ok(0) => return Err(Failure::output(io::ErrorKind::WriteZero.into())),
                Ok(wrote) => bytes = &bytes[wrote..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.stop.ready(self.to.fd(), PollFlags::OUT)?,
                Err(error) => return Err(Failure::output(error.into())),
            }
        }
        if let To::File(_) = self.to {
            self.next = sequence + 1;
        }
        Ok(())
    }
}

/// Prints a command's answer on stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
