//! The engine under `chaos`: starts processes fast, stops them at any instruction, kills them there.
//!
//! One controlling thread does it all, since the kernel ties children and tracees to threads:
//!
//! ```text
//! Template::start ──▶ template process ──clone(CLONE_PARENT)──▶ worker, behind its Gate: our thread's child
//! Tracer::seize, insert(entry), gate.open()
//! Tracer::wait_event ─▶ Breakpoint{entry} ─▶ Call::at ─▶ trace ─▶ Sites        what does the call execute?
//!                                                    └─▶ Strike::arm ─▶ Landed   die at one of them
//! Tracer::reap
//! ```
//!
//! | noun | file |
//! | --- | --- |
//! | [`Template`], [`Gate`]: warm processes that fork workers | `template` |
//! | [`Tracer`], [`Event`]: stop, step, breakpoints, kill | `tracer`, `event` |
//! | [`Memory`], [`Regs`]: what is in a process | `memory`, `regs` |
//! | [`Modules`], [`Symbols`]: which file an address belongs to | `modules` |
//! | [`Call`], [`trace`]: all instructions of one call | `call` |
//! | [`Sites`], [`Aim`], [`Strike`]: the set of them, which is next, and death there | `sites`, `aim`, `strike` |
//! | [`affinity`], [`locks`], [`proc`]: cores, /proc/locks, /proc/PID | the same |
//!
//! `unsafe` is in `sys` only.

pub mod affinity;
mod aim;
mod call;
mod error;
mod event;
pub mod locks;
mod memory;
mod modules;
pub mod proc;
mod regs;
mod sites;
mod strike;
mod sys;
pub mod template;
#[cfg(test)]
mod tests;
mod tracer;

pub use aim::{Aim, Target};
pub use call::{Call, Trace, TraceEnd, trace};
pub use error::{EngineError, Result};
pub use event::Event;
pub use memory::Memory;
pub use modules::{Location, Mapping, Modules, Symbols};
pub use regs::Regs;
pub(crate) use regs::SYSTEM_CALL;
pub use sites::{Site, Sites, Tally};
pub use strike::{Blow, Plan, Progress, Strike};
pub(crate) use sys::{deny, fork_apart, fork_sleeper, ignore_file_size_signal, limit};
pub use template::{Gate, Job, Request, Spawned, Template, TemplateConfig};
pub use tracer::{PATIENCE, Tracer};

/// How a child of this thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Whether child `pid` of this thread has ended, and how; it is reaped then. Not for those that a [`Tracer`] waits for.
pub(crate) fn ended(pid: i32) -> std::result::Result<Option<End>, nix::errno::Errno> {
    use nix::libc::{WEXITSTATUS, WIFEXITED, WIFSIGNALED, WTERMSIG};
    Ok(match sys::wait_once(pid, false)? {
        Some((_, status)) if WIFEXITED(status) => Some(End::Exited(WEXITSTATUS(status))),
        Some((_, status)) if WIFSIGNALED(status) => Some(End::Killed(WTERMSIG(status))),
        _ => None,
    })
}

/// Whether somebody else holds a lock on byte `at` of `file` that keeps us from a write lock.
pub(crate) fn locked(file: &std::fs::File, at: i64) -> std::result::Result<bool, nix::errno::Errno> {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let mut lock = libc::flock { l_type: libc::F_WRLCK as _, l_whence: 0, l_start: at, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != libc::F_UNLCK as i16)
}
