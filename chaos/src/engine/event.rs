//! What a traced process reports.

/// Something that happened to a traced process, or to an untraced child of the controlling thread. After the events
/// marked *stops*, the thread stays stopped until [`super::Tracer`] is told what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// *Stops* before the instruction at `addr`, which carries a breakpoint.
    Breakpoint {
        /// Process.
        pid: i32,
        /// Thread.
        tid: i32,
        /// The breakpoint's address, where the program counter stands again.
        addr: u64,
    },
    /// *Stops*: the step that was asked for is done.
    Stepped {
        /// Process.
        pid: i32,
        /// Thread.
        tid: i32,
        /// The next instruction.
        pc: u64,
    },
    /// *Stops* before `sig` is delivered; pass it on with `cont(tid, sig)`, or swallow it with `cont(tid, 0)`.
    Signal {
        /// Process.
        pid: i32,
        /// Thread.
        tid: i32,
        /// The signal's number.
        sig: i32,
    },
    /// *Stops*: job control has stopped the process. [`super::Tracer::listen`] leaves it so until SIGCONT.
    GroupStop {
        /// Process.
        pid: i32,
        /// Thread.
        tid: i32,
        /// SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU.
        sig: i32,
    },
    /// *Stops*, because [`super::Tracer::interrupt`] asked for it, or a group stop that was listened to has ended.
    Interrupted {
        /// Process.
        pid: i32,
        /// Thread.
        tid: i32,
    },
    /// A thread was started, and is followed. Both go on running.
    NewThread {
        /// Process.
        pid: i32,
        /// The new thread.
        tid: i32,
    },
    /// A child was forked. It was freed of breakpoints and let go; it isn't traced, nor this controller's child.
    Forked {
        /// The parent.
        pid: i32,
        /// The child.
        child: i32,
    },
    /// *Stops*: the process runs another program now. All breakpoints are gone with the old one.
    Exec {
        /// Process, and its only thread.
        pid: i32,
    },
    /// A thread other than the first ended.
    ThreadExited {
        /// Process.
        pid: i32,
        /// The thread that was.
        tid: i32,
    },
    /// The process ended by itself, and is reaped.
    Exited {
        /// Process.
        pid: i32,
        /// Its exit code.
        code: i32,
    },
    /// The process was killed by a signal, and is reaped.
    Signaled {
        /// Process.
        pid: i32,
        /// The signal's number.
        sig: i32,
    },
}

impl Event {
    /// The process it is about.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match *self {
            Event::Breakpoint { pid, .. }
            | Event::Stepped { pid, .. }
            | Event::Signal { pid, .. }
            | Event::GroupStop { pid, .. }
            | Event::Interrupted { pid, .. }
            | Event::NewThread { pid, .. }
            | Event::Forked { pid, .. }
            | Event::Exec { pid }
            | Event::ThreadExited { pid, .. }
            | Event::Exited { pid, .. }
            | Event::Signaled { pid, .. } => pid,
        }
    }

    /// The thread that stopped, for the events that stop one.
    #[must_use]
    pub fn stopped(&self) -> Option<i32> {
        match *self {
            Event::Breakpoint { tid, .. }
            | Event::Stepped { tid, .. }
            | Event::Signal { tid, .. }
            | Event::GroupStop { tid, .. }
            | Event::Interrupted { tid, .. } => Some(tid),
            Event::Exec { pid } => Some(pid),
            _ => None,
        }
    }

    /// Whether the process is dead and reaped.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Event::Exited { .. } | Event::Signaled { .. })
    }
}
