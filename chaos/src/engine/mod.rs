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
pub use sites::{Site, Sites, Tally};
pub use strike::{Blow, Plan, Progress, Strike};
pub use template::{Gate, Job, Request, Spawned, Template, TemplateConfig};
pub use tracer::{PATIENCE, Tracer};
