//! What can go wrong while driving other processes.

use std::io;

use nix::errno::Errno;

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A system call failed.
    #[error("{call} on {pid} failed: {errno}")]
    System {
        /// The call.
        call: &'static str,
        /// The process or thread it was about.
        pid: i32,
        /// What the kernel said.
        errno: Errno,
    },
    /// The thread died while it was being looked at; its death arrives (or arrived) as an event.
    #[error("{0} is gone")]
    Gone(i32),
    /// The thread isn't traced by this tracer.
    #[error("{0} is not traced")]
    Unknown(i32),
    /// The operation needs a stopped thread.
    #[error("thread {0} is not stopped")]
    NotStopped(i32),
    /// There is no instruction to stop at.
    #[error("no code at {addr:#x} in {pid}: {source}")]
    NoCode {
        /// The process.
        pid: i32,
        /// The address.
        addr: u64,
        /// What reading or writing said.
        source: io::Error,
    },
    /// No such symbol.
    #[error("{path} defines no function {name}")]
    NoSymbol {
        /// The file looked into.
        path: String,
        /// The name looked for.
        name: String,
    },
    /// A file of /proc, or the executable, could not be read or made sense of.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The template answered something else than a pid.
    #[error("template process: {0}")]
    Template(String),
    /// A thread that was told to stop didn't in time.
    #[error("thread {0} did not stop in time")]
    Stuck(i32),
}

impl EngineError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> EngineError {
        let what = what.into();
        move |source| EngineError::Io { what, source }
    }

    pub(crate) fn system(call: &'static str, pid: i32) -> impl FnOnce(Errno) -> EngineError {
        move |errno| match errno {
            Errno::ESRCH => EngineError::Gone(pid),
            errno => EngineError::System { call, pid, errno },
        }
    }

    /// Whether this only says that the process is dead.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, EngineError::Gone(_))
    }
}

/// The engine's results.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
