//! Control of many processes from one thread: stop, look, step, break, kill.
//!
//! **Breakpoints** are instructions written into a process's text, so they belong to the address space: every thread
//! hits them. To let a thread go on from one, the tracer takes the breakpoint out, steps that thread over it while
//! all other threads of the process are held, and puts it back: no thread can slip through, unless the tracer is told to
//! let them ([`Tracer::let_others_pass`]). The one exception is an instruction that does not finish at once (a system call that sleeps): after [`PATIENCE`] the others are let go and
//! the breakpoint comes back when the step ends; meanwhile they can pass that one address unseen. Holding the others
//! interrupts system calls that they sleep in; the kernel restarts those by itself (at worst a futex wait with a
//! relative time-out sees `ERESTART_RESTARTBLOCK`, which keeps the original deadline).
//!
//! **Killing** a thread group whose thread is stopped executes nothing more of that thread. Other threads of the
//! process run until the signal reaches them, some microseconds; [`Tracer::hold_others`] first, if it matters.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::affinity;
use super::error::{EngineError, Result};
use super::event::Event;
use super::memory::Memory;
use super::proc;
use super::regs::{BREAK, BREAK_CODE, REWIND, Regs};
use super::sys::{self, Alarm, Resume};

/// How long a step over a breakpoint may take before the process's other threads are let go.
pub const PATIENCE: Duration = Duration::from_millis(2);

/// How long a thread that is told to stop may take (uninterruptible sleep).
const STOP_LIMIT: Duration = Duration::from_secs(10);

const PTRACE_EVENT_STOP: i32 = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Running,
    Stepping,
    Stopped,
    Listening,
    /// Attached by the kernel at its birth; has not reported yet.
    Newborn,
}

#[derive(Debug)]
struct Thread {
    pid: i32,
    run: Run,
    /// Where it is stopped, if that was read.
    pc: Option<u64>,
    /// A step over a breakpoint is under way; `true` if the caller asked for a step, so wants to hear of its end.
    over: Option<(u64, bool)>,
    /// An interrupt of our own may still be pending: swallow its stop.
    owed: bool,
    /// The caller asked for an interrupt and has not had its event yet.
    asked: bool,
}

#[derive(Debug)]
struct Breakpoint {
    original: [u8; BREAK.len()],
    users: u32,
}

#[derive(Debug)]
struct Space {
    memory: Memory,
    breakpoints: BTreeMap<u64, Breakpoint>,
}

/// The tracer. Bound to the thread that made it: the kernel takes `ptrace` calls from the attaching thread only. Waits
/// for this thread's own children and tracees only, so several tracers may live in one process, one a thread. All
/// children that this thread started are reaped by it, traced or not: don't `wait` for them elsewhere.
///
/// Dropping it kills whatever it still traces.
#[derive(Debug)]
pub struct Tracer {
    alarm: Alarm,
    threads: HashMap<i32, Thread>,
    spaces: HashMap<i32, Space>,
    /// First stops of tasks whose parent has not reported them yet.
    early: HashMap<i32, i32>,
    /// Forked children to be released when they report: child to parent.
    forked: HashMap<i32, i32>,
    pending: VecDeque<Event>,
    /// Whether other threads run while one steps over a breakpoint.
    loose: bool,
    _this_thread: PhantomData<*const ()>,
}

impl Tracer {
    /// A tracer for the calling thread. Installs an empty `SIGURG` handler in the process and unblocks `SIGURG` here.
    ///
    /// # Errors
    ///
    /// [`EngineError::System`] if no timer can be had.
    pub fn new() -> Result<Tracer> {
        Ok(Tracer {
            alarm: Alarm::new().map_err(EngineError::system("timer_create", 0))?,
            threads: HashMap::new(),
            spaces: HashMap::new(),
            early: HashMap::new(),
            forked: HashMap::new(),
            pending: VecDeque::new(),
            loose: false,
            _this_thread: PhantomData,
        })
    }

    /// Has thread `tid` on the cores of the calling thread while `work` is done: where the two take turns, on one core they need
    /// not wake another for each.
    ///
    /// # Errors
    ///
    /// Those of `work`; a thread that can't be moved stays where it is.
    pub fn here<T>(&mut self, tid: i32, work: impl FnOnce(&mut Tracer) -> Result<T>) -> Result<T> {
        let before = affinity::cores(tid);
        if let Ok(mine) = affinity::cores(0) {
            let _ = affinity::pin(tid, &mine);
        }
        let done = work(self);
        if let Ok(before) = before {
            let _ = affinity::pin(tid, &before);
        }
        done
    }

    /// While it is on, waits end at the next of a regular 2 ms tick after their time-out: cheaper where many short ones follow
    /// each other.
    ///
    /// # Errors
    ///
    /// [`EngineError::System`].
    pub(crate) fn tick(&mut self, on: bool) -> Result<()> {
        self.alarm.tick(on).map_err(EngineError::system("timer_settime", 0))
    }

    /// From here on and for good, the other threads of a process run on while one steps over a breakpoint, which is lifted for that
    /// moment: they may pass it unseen. For whoever waits for one thread only, and much quicker: nobody has to be stopped.
    pub fn let_others_pass(&mut self) {
        self.loose = true;
    }

    /// Makes a thread that stands at the first instruction of a function return from it at once, with `result`.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStopped`], [`EngineError::Unknown`], [`EngineError::Gone`].
    pub fn skip_call(&mut self, pid: i32, tid: i32, result: u64) -> Result<()> {
        let mut regs = self.regs(tid)?;
        let ret = regs.return_address(self.memory(pid)?)?;
        regs.answer(ret, result);
        self.set_regs(tid, &regs)
    }

    /// Takes control of process `pid` and all its threads without stopping them. If this tracer's thread dies, so do
    /// they.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`], or [`EngineError::System`] (`EPERM`: not ours, or traced by somebody else).
    pub fn seize(&mut self, pid: i32) -> Result<()> {
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        let seize = |tid| ptrace::seize(Pid::from_raw(tid), options).map_err(EngineError::system("PTRACE_SEIZE", tid));
        seize(pid)?;
        self.spaces.insert(pid, Space { memory: Memory::open(pid)?, breakpoints: BTreeMap::new() });
        self.add(pid, pid, Run::Running);
        // Threads that already exist; those they start from now on are attached by the kernel.
        loop {
            let mut fresh = 0;
            for tid in proc::threads(pid)? {
                if !self.threads.contains_key(&tid) && seize(tid).is_ok() {
                    self.add(pid, tid, Run::Running);
                    fresh += 1;
                }
            }
            if fresh == 0 {
                return Ok(());
            }
        }
    }

    fn add(&mut self, pid: i32, tid: i32, run: Run) {
        self.threads.insert(tid, Thread { pid, run, pc: None, over: None, owed: false, asked: false });
    }

    /// The next event, or `None` when `timeout` has passed (`None`: wait for ever) or there is nobody left to wait for.
    ///
    /// # Errors
    ///
    /// [`EngineError::System`].
    pub fn wait_event(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        self.wait_for(timeout, |_| true)
    }

    /// The next event that `wanted` says yes to; others are kept, in order, for later.
    ///
    /// # Errors
    ///
    /// [`EngineError::System`].
    pub fn wait_for(&mut self, timeout: Option<Duration>, wanted: impl Fn(&Event) -> bool) -> Result<Option<Event>> {
        if let Some(at) = self.pending.iter().position(&wanted) {
            return Ok(self.pending.remove(at));
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let known = self.pending.len();
            let Some((tid, status)) = self.alarm.wait(-1, deadline).map_err(EngineError::system("waitpid", -1))? else {
                return Ok(None);
            };
            self.take(tid, status)?;
            if let Some(at) = self.pending.iter().skip(known).position(&wanted) {
                return Ok(self.pending.remove(known + at));
            }
        }
    }

    /// Waits until `pid` is dead and reaped: its [`Event::Exited`] or [`Event::Signaled`]. Its other events that come
    /// in between are dropped; those of other processes are kept.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stuck`] when `timeout` has passed.
    pub fn reap(&mut self, pid: i32, timeout: Duration) -> Result<Event> {
        let end = self.wait_for(Some(timeout), |event| event.pid() == pid && event.is_end())?;
        self.pending.retain(|event| event.pid() != pid);
        end.ok_or(EngineError::Stuck(pid))
    }

    /// Sends SIGKILL. A stopped thread executes nothing more. The end arrives as [`Event::Signaled`].
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`] if `pid` is reaped already.
    pub fn kill(&mut self, pid: i32) -> Result<()> {
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(EngineError::system("kill", pid))
    }

    /// Whether thread `tid` is stopped, waiting for this tracer.
    #[must_use]
    pub fn is_stopped(&self, tid: i32) -> bool {
        self.threads.get(&tid).is_some_and(|thread| thread.run == Run::Stopped)
    }

    /// The threads of `pid` that are traced.
    #[must_use]
    pub fn threads(&self, pid: i32) -> Vec<i32> {
        self.threads.iter().filter(|(_, thread)| thread.pid == pid).map(|(&tid, _)| tid).collect()
    }

    /// The memory of traced process `pid`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unknown`].
    pub fn memory(&self, pid: i32) -> Result<&Memory> {
        self.spaces.get(&pid).map(|space| &space.memory).ok_or(EngineError::Unknown(pid))
    }

    /// Registers of a stopped thread.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStopped`], [`EngineError::Unknown`], [`EngineError::Gone`].
    pub fn regs(&self, tid: i32) -> Result<Regs> {
        self.stopped(tid)?;
        Regs::read(tid)
    }

    /// Sets the registers of a stopped thread.
    ///
    /// # Errors
    ///
    /// As [`Tracer::regs`].
    pub fn set_regs(&mut self, tid: i32, regs: &Regs) -> Result<()> {
        self.stopped(tid)?;
        regs.write(tid)?;
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.pc = None;
        }
        Ok(())
    }

    fn stopped(&self, tid: i32) -> Result<&Thread> {
        let thread = self.threads.get(&tid).ok_or(EngineError::Unknown(tid))?;
        if thread.run == Run::Stopped { Ok(thread) } else { Err(EngineError::NotStopped(tid)) }
    }

    /// Puts a breakpoint at `addr` of process `pid`, running or stopped. Counted: as many removals take it away.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoCode`], [`EngineError::Unknown`], [`EngineError::Gone`].
    pub fn insert(&mut self, pid: i32, addr: u64) -> Result<()> {
        let space = self.spaces.get_mut(&pid).ok_or(EngineError::Unknown(pid))?;
        if let Some(breakpoint) = space.breakpoints.get_mut(&addr) {
            breakpoint.users += 1;
            return Ok(());
        }
        let mut original = [0; BREAK.len()];
        space.memory.read(addr, &mut original)?;
        space.memory.write(addr, BREAK)?;
        space.breakpoints.insert(addr, Breakpoint { original, users: 1 });
        Ok(())
    }

    /// Undoes one [`Tracer::insert`]. A process that is gone is no error.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoCode`] if the text can't be put back in a process that lives.
    pub fn remove(&mut self, pid: i32, addr: u64) -> Result<()> {
        let Some(space) = self.spaces.get_mut(&pid) else { return Ok(()) };
        let Some(breakpoint) = space.breakpoints.get_mut(&addr) else { return Ok(()) };
        breakpoint.users -= 1;
        if breakpoint.users > 0 {
            return Ok(());
        }
        let original = breakpoint.original;
        space.breakpoints.remove(&addr);
        unless_gone(space.memory.write(addr, &original))
    }

    /// Asks thread `tid` to stop: [`Event::Interrupted`] follows, or another stop that came first.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unknown`], [`EngineError::Gone`].
    pub fn interrupt(&mut self, tid: i32) -> Result<()> {
        self.threads.get_mut(&tid).ok_or(EngineError::Unknown(tid))?.asked = true;
        ptrace::interrupt(Pid::from_raw(tid)).map_err(EngineError::system("PTRACE_INTERRUPT", tid))
    }

    /// Lets a stopped thread run, delivering `sig` (0: none). If it has died meanwhile, that is no error: its end
    /// arrives as an event.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStopped`], [`EngineError::Unknown`], [`EngineError::Stuck`].
    pub fn cont(&mut self, tid: i32, sig: i32) -> Result<()> {
        self.launch(tid, false, sig)
    }

    /// Executes one instruction (one iteration of a repeated one) of a stopped thread; [`Event::Stepped`] follows, or
    /// whatever the instruction brought about. As [`Tracer::cont`] otherwise. Breakpoints *on* that instruction are
    /// stepped over; one on the next is not reported until the thread is let go by somebody who doesn't know of it.
    ///
    /// # Errors
    ///
    /// As [`Tracer::cont`].
    pub fn step(&mut self, tid: i32, sig: i32) -> Result<()> {
        self.launch(tid, true, sig)
    }

    /// Leaves a group-stopped thread stopped, until SIGCONT: then [`Event::Interrupted`].
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStopped`], [`EngineError::Unknown`].
    pub fn listen(&mut self, tid: i32) -> Result<()> {
        self.stopped(tid)?;
        self.go(tid, Resume::Listen, Run::Listening, 0)
    }

    /// Holds all running threads of process `pid` except `tid`. Events that they bring are kept for
    /// [`Tracer::wait_event`]. Returns those that were held without an event of their own: let them go with `cont`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stuck`] if one sleeps uninterruptibly.
    pub fn hold_others(&mut self, pid: i32, tid: i32) -> Result<Vec<i32>> {
        Ok(self.hold(pid, tid)?.into_iter().map(|(other, _)| other).collect())
    }

    /// [`Tracer::hold_others`]; with each thread, whether it was stepping.
    fn hold(&mut self, pid: i32, tid: i32) -> Result<Vec<(i32, bool)>> {
        let mut held = Vec::new();
        loop {
            let runs = |thread: &Thread| matches!(thread.run, Run::Running | Run::Stepping | Run::Newborn);
            let next = self.threads.iter().find(|(other, thread)| **other != tid && thread.pid == pid && runs(thread));
            let Some((&other, thread)) = next else { return Ok(held) };
            let stepping = thread.run == Run::Stepping;
            let newborn = thread.run == Run::Newborn;
            if !newborn {
                match ptrace::interrupt(Pid::from_raw(other)) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(EngineError::system("PTRACE_INTERRUPT", other)(errno)),
                }
            }
            let deadline = Instant::now() + STOP_LIMIT;
            match self.alarm.wait(other, Some(deadline)).map_err(EngineError::system("waitpid", other))? {
                Some((_, status)) if is_interrupt(status) && !newborn => {
                    let Some(thread) = self.threads.get_mut(&other) else { continue };
                    thread.run = Run::Stopped;
                    thread.pc = None;
                    if std::mem::take(&mut thread.asked) {
                        thread.owed = true;
                        self.pending.push_back(Event::Interrupted { pid, tid: other });
                    } else {
                        // If one was owed before, this may have been that one: then ours is still to come.
                        held.push((other, stepping));
                    }
                }
                Some((_, status)) => {
                    if let Some(thread) = self.threads.get_mut(&other) {
                        thread.owed |= !newborn;
                    }
                    self.take(other, status)?;
                }
                None if Instant::now() < deadline => {
                    // Not waitable any more: its end was taken before.
                    self.threads.remove(&other);
                }
                None => return Err(EngineError::Stuck(other)),
            }
        }
    }

    /// Lets go of `pid`: takes out all breakpoints, then lets all its threads run, untraced. `sig` goes to the first
    /// one. Kept events of it are dropped.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stuck`], [`EngineError::Unknown`].
    pub fn detach(&mut self, pid: i32, sig: i32) -> Result<()> {
        if !self.spaces.contains_key(&pid) {
            return Err(EngineError::Unknown(pid));
        }
        self.hold(pid, 0)?;
        if let Some(space) = self.spaces.remove(&pid) {
            for (addr, breakpoint) in space.breakpoints {
                unless_gone(space.memory.write(addr, &breakpoint.original))?;
            }
        }
        for tid in self.threads(pid) {
            match sys::resume(Resume::Detach, tid, if tid == pid { sig } else { 0 }) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(EngineError::system("PTRACE_DETACH", tid)(errno)),
            }
        }
        self.threads.retain(|_, thread| thread.pid != pid);
        self.pending.retain(|event| event.pid() != pid || event.is_end());
        Ok(())
    }

    fn go(&mut self, tid: i32, how: Resume, run: Run, sig: i32) -> Result<()> {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.run = run;
            thread.pc = None;
        }
        match sys::resume(how, tid, sig) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(EngineError::system("ptrace resume", tid)(errno)),
        }
    }

    fn go_on(&mut self, tid: i32, step: bool, sig: i32) -> Result<()> {
        if step {
            self.go(tid, Resume::Step, Run::Stepping, sig)
        } else {
            self.go(tid, Resume::Cont, Run::Running, sig)
        }
    }

    fn launch(&mut self, tid: i32, step: bool, sig: i32) -> Result<()> {
        let thread = self.stopped(tid)?;
        let pid = thread.pid;
        let occupied = self.spaces.get(&pid).is_some_and(|space| !space.breakpoints.is_empty());
        if occupied {
            let pc = match thread.pc.map_or_else(|| Regs::read(tid).map(|regs| regs.pc()), Ok) {
                Ok(pc) => pc,
                // Killed while stopped: nothing to let go.
                Err(error) if error.is_gone() => return self.go_on(tid, step, 0),
                Err(error) => return Err(error),
            };
            if self.spaces[&pid].breakpoints.contains_key(&pc) {
                return self.step_over(pid, tid, pc, step, sig);
            }
        }
        self.go_on(tid, step, sig)
    }

    fn step_over(&mut self, pid: i32, tid: i32, addr: u64, step: bool, sig: i32) -> Result<()> {
        let held = if self.loose { Vec::new() } else { self.hold(pid, tid)? };
        if let Some(space) = self.spaces.get(&pid)
            && let Some(breakpoint) = space.breakpoints.get(&addr)
        {
            unless_gone(space.memory.write(addr, &breakpoint.original))?;
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.over = Some((addr, step));
        }
        self.go(tid, Resume::Step, Run::Stepping, sig)?;
        while self.threads.get(&tid).is_some_and(|thread| thread.over.is_some()) {
            let deadline = Some(Instant::now() + PATIENCE);
            match self.alarm.wait(tid, deadline).map_err(EngineError::system("waitpid", tid))? {
                Some((_, status)) => self.take(tid, status)?,
                // Asleep in a system call, or dead; or only waiting for its turn on a busy machine.
                None if proc::state(tid).map_or(true, |state| state.is_asleep() || state.is_dead()) => break,
                None => {}
            }
        }
        for (other, stepping) in held {
            if self.is_stopped(other) {
                // Straight on, even from a breakpoint's address: if one stands there, it is the event it has not had
                // yet.
                self.go_on(other, stepping, 0)?;
            }
        }
        Ok(())
    }

    /// Books one wait status; what the caller should know goes to `pending`.
    fn take(&mut self, tid: i32, status: i32) -> Result<()> {
        match self.book(tid, status) {
            Ok(Some(event)) => self.pending.push_back(event),
            Ok(None) => {}
            // Killed while we looked: its end is on its way.
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn book(&mut self, tid: i32, status: i32) -> Result<Option<Event>> {
        if !libc::WIFSTOPPED(status) {
            return Ok(self.bury(tid, status));
        }
        let Some(thread) = self.threads.get_mut(&tid) else {
            if let Some(parent) = self.forked.remove(&tid) {
                self.release_child(parent, tid)?;
            } else {
                self.early.insert(tid, status);
            }
            return Ok(None);
        };
        let pid = thread.pid;
        let stepping = thread.run == Run::Stepping;
        let newborn = thread.run == Run::Newborn;
        let listening = thread.run == Run::Listening;
        thread.run = Run::Stopped;
        thread.pc = None;
        let sig = libc::WSTOPSIG(status);
        match status >> 16 {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                let child =
                    ptrace::getevent(Pid::from_raw(tid)).map_err(EngineError::system("GETEVENTMSG", tid))? as i32;
                let event = self.birth(pid, child)?;
                self.go_on(tid, stepping, 0)?;
                return Ok(event);
            }
            libc::PTRACE_EVENT_EXEC => {
                self.threads.retain(|&other, thread| thread.pid != pid || other == tid);
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.over = None;
                }
                self.spaces.insert(pid, Space { memory: Memory::open(pid)?, breakpoints: BTreeMap::new() });
                return Ok(Some(Event::Exec { pid }));
            }
            PTRACE_EVENT_STOP if sig == libc::SIGTRAP => {
                let wanted = std::mem::take(&mut thread.asked) || listening;
                if !wanted && (newborn || std::mem::take(&mut thread.owed)) {
                    self.go_on(tid, stepping, 0)?;
                    return Ok(None);
                }
            }
            _ => {}
        }
        let event = match status >> 16 {
            PTRACE_EVENT_STOP if sig == libc::SIGTRAP => Event::Interrupted { pid, tid },
            PTRACE_EVENT_STOP => Event::GroupStop { pid, tid, sig },
            0 if sig == libc::SIGTRAP => match self.trap(pid, tid, stepping)? {
                Some(event) => event,
                None => return Ok(None),
            },
            _ => Event::Signal { pid, tid, sig },
        };
        // A stop that counts: a step over a breakpoint that was under way ends here, whatever ended it.
        let over = self.threads.get_mut(&tid).and_then(|thread| thread.over.take());
        let Some((addr, wanted)) = over else { return Ok(Some(event)) };
        if let Some(space) = self.spaces.get(&pid)
            && space.breakpoints.contains_key(&addr)
        {
            unless_gone(space.memory.write(addr, BREAK))?;
        }
        if !wanted && matches!(event, Event::Stepped { .. }) {
            self.go_on(tid, false, 0)?;
            return Ok(None);
        }
        Ok(Some(event))
    }

    /// What a plain SIGTRAP means.
    fn trap(&mut self, pid: i32, tid: i32, stepping: bool) -> Result<Option<Event>> {
        let info = ptrace::getsiginfo(Pid::from_raw(tid)).map_err(EngineError::system("PTRACE_GETSIGINFO", tid))?;
        let mut regs = Regs::read(tid)?;
        if info.si_code == BREAK_CODE {
            let addr = regs.pc() - REWIND;
            let space = self.spaces.get(&pid).ok_or(EngineError::Unknown(pid))?;
            let ours = space.breakpoints.contains_key(&addr);
            let mut text = [0; BREAK.len()];
            if ours || (space.memory.read(addr, &mut text).is_ok() && text != BREAK) {
                regs.set_pc(addr);
                if REWIND != 0 {
                    regs.write(tid)?;
                }
                if !ours {
                    // Hit before it was taken out, reported after: as if it never was.
                    self.go_on(tid, stepping, 0)?;
                    return Ok(None);
                }
                self.note_pc(tid, addr);
                return Ok(Some(Event::Breakpoint { pid, tid, addr }));
            }
        } else if stepping && regs.restarts() {
            // A system call that was interrupted (by a hold, say) reports its step, but is about to be made again.
            self.go_on(tid, true, 0)?;
            return Ok(None);
        } else if stepping {
            let pc = regs.pc();
            self.note_pc(tid, pc);
            return Ok(Some(Event::Stepped { pid, tid, pc }));
        }
        Ok(Some(Event::Signal { pid, tid, sig: libc::SIGTRAP }))
    }

    fn note_pc(&mut self, tid: i32, pc: u64) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.pc = Some(pc);
        }
    }

    fn bury(&mut self, tid: i32, status: i32) -> Option<Event> {
        self.early.remove(&tid);
        self.forked.remove(&tid);
        if let Some(thread) = self.threads.remove(&tid)
            && thread.pid != tid
        {
            return Some(Event::ThreadExited { pid: thread.pid, tid });
        }
        // A process, traced or not. Threads of it that were never reported dead went with it.
        self.spaces.remove(&tid);
        self.threads.retain(|_, thread| thread.pid != tid);
        Some(if libc::WIFEXITED(status) {
            Event::Exited { pid: tid, code: libc::WEXITSTATUS(status) }
        } else {
            Event::Signaled { pid: tid, sig: libc::WTERMSIG(status) }
        })
    }

    /// A traced thread of `pid` started `child`, which the kernel has attached: a thread is followed, a process let go.
    fn birth(&mut self, pid: i32, child: i32) -> Result<Option<Event>> {
        let early = self.early.remove(&child).is_some();
        let thread = sys::is_thread_of(pid, child);
        if !thread && proc::process_of(child).is_err() {
            // It is gone already.
            return Ok(None);
        }
        if thread {
            self.add(pid, child, Run::Newborn);
            if early {
                self.go_on(child, false, 0)?;
            }
            return Ok(Some(Event::NewThread { pid, tid: child }));
        }
        if early {
            self.release_child(pid, child)?;
        } else {
            self.forked.insert(child, pid);
        }
        Ok(Some(Event::Forked { pid, child }))
    }

    /// Takes the inherited breakpoints out of a forked child and lets it go. A child that shares the parent's memory
    /// (`vfork`) keeps them until it execs: taking them out would take them from the parent.
    fn release_child(&mut self, parent: i32, child: i32) -> Result<()> {
        if let Some(space) = self.spaces.get(&parent)
            && let Ok(memory) = Memory::open(child)
            && !sys::same_memory(parent, child)
        {
            for (&addr, breakpoint) in &space.breakpoints {
                unless_gone(memory.write(addr, &breakpoint.original))?;
            }
        }
        match sys::resume(Resume::Detach, child, 0) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(EngineError::system("PTRACE_DETACH", child)(errno)),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let mut left: Vec<i32> = self.spaces.keys().copied().collect();
        for &pid in &left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !left.is_empty() {
            match self.alarm.wait(-1, Some(deadline)) {
                Ok(Some((tid, status))) if !libc::WIFSTOPPED(status) => left.retain(|&pid| pid != tid),
                Ok(Some(_)) => {}
                _ => return,
            }
        }
    }
}

fn is_interrupt(status: i32) -> bool {
    libc::WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP && libc::WSTOPSIG(status) == libc::SIGTRAP
}

/// Text that can't be written because its process is being taken apart is no error.
fn unless_gone(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.is_gone() => Ok(()),
        written => written,
    }
}
