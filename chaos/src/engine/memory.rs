//! Another process's memory, through /proc/PID/mem: works on running processes, and writes to read-only text.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use super::error::{EngineError, Result};
use super::proc;

/// An open view of a process's address space. Keeps neither the process nor its mappings alive; after an `exec` it
/// shows nothing any more.
#[derive(Debug)]
pub struct Memory {
    pid: i32,
    file: File,
}

impl Memory {
    /// Opens the memory of `pid`, which must be one's own tracee (or a process one could trace).
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub fn open(pid: i32) -> Result<Memory> {
        let path = format!("/proc/{pid}/mem");
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(EngineError::io(path))?;
        Ok(Memory { pid, file })
    }

    /// Reads all of `into` from `addr`.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoCode`] if any of it isn't mapped, [`EngineError::Gone`] if the process is dead or dying.
    pub fn read(&self, addr: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, addr).map_err(|source| self.failed(addr, source))
    }

    /// Writes all of `from` to `addr`, whatever the page's protection (a private copy is made of text).
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    pub fn write(&self, addr: u64, from: &[u8]) -> Result<()> {
        self.file.write_all_at(from, addr).map_err(|source| self.failed(addr, source))
    }

    /// A process that is being taken apart has an address space that reads as end of file.
    fn failed(&self, addr: u64, source: io::Error) -> EngineError {
        let dead = proc::state(self.pid).map_or(true, proc::State::is_dead);
        if dead || proc::maps_count(self.pid).unwrap_or(0) == 0 {
            return EngineError::Gone(self.pid);
        }
        EngineError::NoCode { pid: self.pid, addr, source }
    }

    /// Reads one word in the machine's byte order.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    pub fn read_u64(&self, addr: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(addr, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }
}
