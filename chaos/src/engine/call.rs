//! One call of a function, and the trace of all that it executes.

use std::time::{Duration, Instant};

use super::error::{EngineError, Result};
use super::event::Event;
use super::regs::unwound;
use super::tracer::Tracer;

/// A call that thread `tid` is just about to begin: it is stopped at the function's first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// The function's first instruction.
    pub entry: u64,
    /// Stack pointer there.
    pub entry_sp: u64,
    /// Where it will return to.
    pub ret: u64,
}

impl Call {
    /// Reads the call that stopped thread `tid` of `pid` is about to begin.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStopped`], [`EngineError::Gone`].
    pub fn at(tracer: &Tracer, pid: i32, tid: i32) -> Result<Call> {
        let regs = tracer.regs(tid)?;
        let ret = regs.return_address(tracer.memory(pid)?)?;
        Ok(Call { pid, tid, entry: regs.pc(), entry_sp: regs.sp(), ret })
    }

    /// Whether a thread that stands at `pc` with stack pointer `sp` has just returned from this call.
    #[must_use]
    pub fn has_returned(&self, pc: u64, sp: u64) -> bool {
        pc == self.ret && unwound(self.entry_sp, sp)
    }
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceEnd {
    /// The call returned; the thread is stopped at the return address.
    Returned,
    /// The limit was reached; the thread is stopped inside the call.
    Limit,
    /// An instruction (a system call) did not end in time; the thread runs on towards [`Event::Stepped`].
    Blocked,
    /// The process died.
    Died(Event),
}

/// All instructions of one call, callees' and signal handlers' included, in order; each iteration of a repeated string
/// instruction is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Addresses.
    pub pcs: Vec<u64>,
    /// How it ended.
    pub end: TraceEnd,
}

/// Steps through `call`, from its entry, where its thread is stopped, to its return. Other threads of the process run.
/// Signals are delivered as they come. At most `limit` instructions, each at most `patience` long.
///
/// # Errors
///
/// [`EngineError::NotStopped`], [`EngineError::System`].
pub fn trace(tracer: &mut Tracer, call: &Call, limit: usize, patience: Duration) -> Result<Trace> {
    tracer.tick(true)?;
    let traced = step_through(tracer, call, limit, patience);
    tracer.tick(false)?;
    traced
}

fn step_through(tracer: &mut Tracer, call: &Call, limit: usize, patience: Duration) -> Result<Trace> {
    let mut pcs = Vec::new();
    let mut pc = call.entry;
    let mut sig = 0;
    loop {
        if pcs.len() >= limit {
            return Ok(Trace { pcs, end: TraceEnd::Limit });
        }
        pcs.push(pc);
        tracer.step(call.tid, sig)?;
        sig = 0;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mine = |event: &Event| event.stopped() == Some(call.tid) || (event.pid() == call.pid && event.is_end());
            match tracer.wait_for(Some(left), mine)? {
                None => return Ok(Trace { pcs, end: TraceEnd::Blocked }),
                Some(Event::Stepped { pc: next, .. }) => pc = next,
                Some(Event::Signal { sig: pending, .. }) => {
                    // The instruction was not executed, or faulted: it comes again, after the handler.
                    pcs.pop();
                    sig = pending;
                    pc = tracer.regs(call.tid)?.pc();
                }
                // Only ever stepping, it can't run into a breakpoint; job control and stray interrupts are passed over.
                Some(event) if !event.is_end() => {
                    tracer.step(call.tid, 0)?;
                    continue;
                }
                Some(end) => return Ok(Trace { pcs, end: TraceEnd::Died(end) }),
            }
            break;
        }
        if pc == call.ret {
            let sp = match tracer.regs(call.tid) {
                Err(EngineError::Gone(_)) => continue,
                regs => regs?.sp(),
            };
            if call.has_returned(pc, sp) {
                return Ok(Trace { pcs, end: TraceEnd::Returned });
            }
        }
    }
}
