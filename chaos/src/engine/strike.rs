//! Death inside a call, at a chosen instruction.

use super::call::Call;
use super::error::{EngineError, Result};
use super::event::Event;
use super::tracer::Tracer;

/// Where in the call to strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Before the instruction number `.0` of the call, 0 being its first: by stepping, exact, slow.
    Step(u64),
    /// Before an execution of the instruction at `addr`: by a breakpoint, one trap for each execution until then.
    Site {
        /// Its address in the process.
        addr: u64,
        /// Which execution in this call, from 1.
        occurrence: u32,
    },
    /// Before the first execution of any of a few instructions, whichever the call comes to first: those that
    /// [`Strike::arm_any`] gets; none in [`Strike::arm`].
    Any,
}

/// What to do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL. [`Event::Signaled`] follows.
    Kill,
    /// Nothing: leave the thread stopped, for the caller to cut files, let others go first, and kill or `cont` it.
    Hold,
}

/// How far a strike has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The event has nothing to do with this strike; it is the caller's.
    NotMine,
    /// The event was dealt with; more will come.
    Pending,
    /// The blow has landed before the instruction at `pc`, the `step`-th of the call (stepping) or its `count`-th
    /// execution (breakpoint).
    Landed {
        /// The instruction that was not executed.
        pc: u64,
        /// Instructions executed (stepping) or executions of `pc` before this one plus one (breakpoint).
        count: u64,
    },
    /// The call returned without coming by. The thread is stopped at the return address; `cont` it.
    Returned,
    /// The process died otherwise.
    Died(Event),
}

/// A plan under way for one call.
#[derive(Debug)]
pub struct Strike {
    call: Call,
    plan: Plan,
    blow: Blow,
    count: u64,
    /// Breakpoints that are ours to take out again.
    planted: Vec<u64>,
}

impl Strike {
    /// Takes aim: the thread of `call` is stopped at its entry and let go. A plan for the entry itself lands at once.
    ///
    /// # Errors
    ///
    /// As [`Tracer::insert`] and [`Tracer::cont`].
    pub fn arm(tracer: &mut Tracer, call: Call, plan: Plan, blow: Blow) -> Result<(Strike, Progress)> {
        Strike::aim(tracer, call, plan, &[], blow)
    }

    /// Takes aim at the first execution of any of the instructions at `addrs`, whichever the call comes to first.
    /// Those that no breakpoint can be put on are left out.
    ///
    /// # Errors
    ///
    /// As [`Strike::arm`].
    pub fn arm_any(tracer: &mut Tracer, call: Call, addrs: &[u64], blow: Blow) -> Result<(Strike, Progress)> {
        Strike::aim(tracer, call, Plan::Any, addrs, blow)
    }

    fn aim(tracer: &mut Tracer, call: Call, plan: Plan, addrs: &[u64], blow: Blow) -> Result<(Strike, Progress)> {
        let mut strike = Strike { call, plan, blow, count: 0, planted: Vec::new() };
        match strike.begin(tracer, addrs) {
            Ok(progress) => Ok((strike, progress)),
            Err(error) => {
                strike.disarm(tracer)?;
                Err(error)
            }
        }
    }

    fn begin(&mut self, tracer: &mut Tracer, addrs: &[u64]) -> Result<Progress> {
        let call = self.call;
        match self.plan {
            Plan::Step(0) => return self.land(tracer, call.entry, 0),
            Plan::Step(_) => {
                tracer.step(call.tid, 0)?;
                return Ok(Progress::Pending);
            }
            Plan::Site { addr, occurrence } => {
                self.count = u64::from(addr == call.entry);
                if addr == call.entry && occurrence <= 1 {
                    return self.land(tracer, addr, 1);
                }
                self.plant(tracer, addr)?;
            }
            Plan::Any => {
                if addrs.contains(&call.entry) {
                    return self.land(tracer, call.entry, 1);
                }
                for &addr in addrs {
                    match self.plant(tracer, addr) {
                        Ok(()) | Err(EngineError::NoCode { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        self.plant(tracer, call.ret)?;
        tracer.cont(call.tid, 0)?;
        Ok(Progress::Pending)
    }

    fn plant(&mut self, tracer: &mut Tracer, addr: u64) -> Result<()> {
        tracer.insert(self.call.pid, addr)?;
        self.planted.push(addr);
        Ok(())
    }

    /// The call it is about.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Hand every event to it that concerns its process, until it is [`Progress::Landed`], [`Progress::Returned`] or
    /// [`Progress::Died`]. Signals are left to the caller: `cont` the thread with them (not [`Plan::Step`]), or call
    /// [`Strike::pass`].
    ///
    /// # Errors
    ///
    /// As [`Tracer::cont`].
    pub fn on_event(&mut self, tracer: &mut Tracer, event: &Event) -> Result<Progress> {
        if event.pid() != self.call.pid {
            return Ok(Progress::NotMine);
        }
        if event.is_end() {
            return Ok(Progress::Died(*event));
        }
        match (*event, self.plan) {
            (Event::Stepped { tid, pc, .. }, Plan::Step(goal)) if tid == self.call.tid => {
                self.count += 1;
                if pc == self.call.ret && self.returned(tracer, pc)? {
                    return Ok(Progress::Returned);
                }
                if self.count >= goal {
                    return self.land(tracer, pc, self.count);
                }
                tracer.step(tid, 0)?;
                Ok(Progress::Pending)
            }
            (Event::Breakpoint { tid, addr, .. }, Plan::Site { .. } | Plan::Any) if !self.planted.contains(&addr) => {
                let _ = tid;
                Ok(Progress::NotMine)
            }
            (Event::Breakpoint { tid, addr, .. }, Plan::Site { .. } | Plan::Any) => {
                if tid != self.call.tid {
                    // Another thread came by: not in this call.
                    tracer.cont(tid, 0)?;
                    return Ok(Progress::Pending);
                }
                if addr == self.call.ret && self.returned(tracer, addr)? {
                    self.disarm(tracer)?;
                    return Ok(Progress::Returned);
                }
                match self.plan {
                    Plan::Any if addr != self.call.ret => return self.land(tracer, addr, 1),
                    Plan::Site { addr: goal, occurrence } if addr == goal => {
                        self.count += 1;
                        if self.count >= u64::from(occurrence) {
                            return self.land(tracer, addr, self.count);
                        }
                    }
                    _ => {}
                }
                tracer.cont(tid, 0)?;
                Ok(Progress::Pending)
            }
            _ => Ok(Progress::NotMine),
        }
    }

    /// Lets the thread go on with signal `sig`, the way the plan needs it.
    ///
    /// # Errors
    ///
    /// As [`Tracer::cont`].
    pub fn pass(&mut self, tracer: &mut Tracer, sig: i32) -> Result<()> {
        match self.plan {
            Plan::Step(_) => tracer.step(self.call.tid, sig),
            Plan::Site { .. } | Plan::Any => tracer.cont(self.call.tid, sig),
        }
    }

    /// Takes the strike's own breakpoints out. Done by itself when it lands or the call returns.
    ///
    /// # Errors
    ///
    /// As [`Tracer::remove`].
    pub fn disarm(&mut self, tracer: &mut Tracer) -> Result<()> {
        while let Some(addr) = self.planted.pop() {
            tracer.remove(self.call.pid, addr)?;
        }
        Ok(())
    }

    fn returned(&self, tracer: &Tracer, pc: u64) -> Result<bool> {
        match tracer.regs(self.call.tid) {
            Ok(regs) => Ok(self.call.has_returned(pc, regs.sp())),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn land(&mut self, tracer: &mut Tracer, pc: u64, count: u64) -> Result<Progress> {
        match self.blow {
            // No need to mend the text of a process that is about to lose it.
            Blow::Kill => tracer.kill(self.call.pid)?,
            Blow::Hold => self.disarm(tracer)?,
        }
        Ok(Progress::Landed { pc, count })
    }
}
