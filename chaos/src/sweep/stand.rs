//! The stand that subjects are brought to: started, led to their operation, walked through it instruction by instruction, or
//! struck at one of them.
//!
//! What would differ from one process to the next is made the same: `getrandom` answers from the sweep's seed,
//! `clock_gettime` from a clock that goes on by a microsecond with each look. Looking up one's own identity in /proc
//! (`owner::this_process` and its kin; they store nothing in shared memory) runs at full speed and counts as one
//! instruction, as the texts there are never the same.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::operation::Operation;
use super::subject::{ONCE, SUBJECT};
use super::world::World;
use crate::engine::template::Request;
use crate::engine::{
    Blow, Call, EngineError, Event, Modules, Plan, Progress, Result, SYSTEM_CALL, Strike, Symbols, Template,
    TemplateConfig, Tracer,
};
use crate::payload::Dice;

/// A subject that makes no step for so long is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Instructions of one operation; more are a loop without end.
const MOST: usize = 4_000_000;
/// The clocks' first answers, seconds: since 1970 (a time to come, so that what the kernel stamps is always older), and since
/// the start of the machine.
const WALL: u64 = 4_102_444_800;
const BOOT: u64 = 1_000_000;

/// Functions that are run in one go.
const QUIET: [&str; 5] = [
    "5owner12this_process",
    "5owner4stat",
    "5owner11whereabouts",
    "5owner6Viewer11whereabouts",
    "5owner6Viewer8is_dying",
];

/// Where everything is in a subject: the same in all of one template.
#[derive(Debug, Clone, Default)]
struct Layout {
    operate: u64,
    quiet: Vec<u64>,
    random: u64,
    clock: u64,
}

pub(crate) struct Stand {
    pub(crate) tracer: Tracer,
    template: Template,
    layout: Option<Layout>,
    modules: Modules,
    seed: u64,
    pub(crate) spawned: u64,
}

/// A subject at the first instruction of its operation.
pub(crate) struct Subject {
    pub(crate) pid: i32,
    pub(crate) call: Call,
    pub(crate) world: World,
    pipe: File,
    text: Vec<u8>,
    dice: Dice,
    looks: u64,
}

/// An instruction at which a walk has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) pc: u64,
    /// Whether more than a store may have happened since the last.
    pub(crate) changed: bool,
    /// The system call that it is.
    pub(crate) call: Option<SystemCall>,
}

/// A system call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemCall {
    pub(crate) number: u64,
    /// Its fourth argument; `mmap`'s flags.
    pub(crate) fourth: u64,
}

/// A system call that fails.
#[derive(Debug, Clone)]
pub(crate) struct Denial {
    pub(crate) number: u64,
    pub(crate) errno: i32,
    /// Where it is made, each time; none: it fails once.
    pub(crate) sites: Vec<u64>,
}

/// How letting a subject run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It has said all that it had to say.
    Done,
    /// It died.
    Died(Event),
    /// Neither, for [`PATIENCE`].
    Stuck,
}

fn lost(pid: i32, what: &str) -> EngineError {
    EngineError::Template(format!("subject {pid}: {what}"))
}

impl Stand {
    /// Starts a template on `core`.
    pub(crate) fn new(seed: u64, core: usize) -> Result<Stand> {
        let mut config = TemplateConfig::this_program(["template"])?;
        config.cores = vec![core];
        config.bare = true;
        Ok(Stand {
            tracer: Tracer::new()?,
            template: Template::start(config)?,
            layout: None,
            modules: Modules::default(),
            seed,
            spawned: 0,
        })
    }

    /// Whether an address is one that is answered in its place: nobody can be led past it to a later execution.
    pub(crate) fn is_answered(&self, pc: u64) -> bool {
        self.layout.as_ref().is_some_and(|layout| pc == layout.random || pc == layout.clock)
    }

    /// Where an address is: which file, and how far into it.
    pub(crate) fn place(&self, pc: u64) -> String {
        self.modules.locate(pc).to_string()
    }

    fn learn(&mut self, pid: i32) -> Result<Layout> {
        if let Some(layout) = &self.layout {
            return Ok(layout.clone());
        }
        let modules = Modules::of(pid)?;
        let exe = std::env::current_exe().map_err(EngineError::io("current_exe"))?;
        let path = exe.to_string_lossy().into_owned();
        let symbols = Symbols::load(&exe)?;
        let base = modules.base(&path).unwrap_or(0);
        let named = |part: &str| symbols.find(|name| name.contains(part)).map(|(_, offset)| base + offset);
        let operate = named("5sweep7subject7operate")
            .ok_or_else(|| EngineError::NoSymbol { path: path.clone(), name: "sweep::subject::operate".into() })?;
        let libc = modules.mappings().iter().map(|mapping| mapping.path.clone()).find(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libc.so") || name.starts_with("libc-")
        });
        let libc = libc.ok_or_else(|| EngineError::NoSymbol { path: "libc.so".into(), name: "getrandom".into() })?;
        let layout = Layout {
            operate,
            quiet: QUIET.into_iter().filter_map(named).collect(),
            random: modules.find_function(&libc, "getrandom")?,
            clock: modules.find_function(&libc, "clock_gettime")?,
        };
        if layout.quiet.is_empty() {
            return Err(EngineError::NoSymbol { path, name: "owner::this_process".into() });
        }
        for name in QUIET.into_iter().filter(|name| named(name).is_none()) {
            eprintln!(
                "warning: {name} is no function of its own in this program: two sweeps count differently where pids have other digits"
            );
        }
        self.modules = modules;
        self.layout = Some(layout.clone());
        Ok(layout)
    }

    /// A subject that has made its world ready below `root` and is about to begin. `names`: of readers, for a recovery.
    /// `salt`: chooses its random numbers, together with the sweep's seed.
    pub(crate) fn bring(&mut self, op: Operation, root: &Path, names: &[String], salt: u64) -> Result<Subject> {
        self.bring_to(op, root, names, salt, ONCE)
    }

    /// [`Stand::bring`]. `times`: [`ONCE`] or [`AGAIN`].
    pub(crate) fn bring_to(
        &mut self,
        op: Operation,
        root: &Path,
        names: &[String],
        salt: u64,
        times: &str,
    ) -> Result<Subject> {
        let (read, write) = std::io::pipe().map_err(EngineError::io("pipe"))?;
        let mut args: Vec<&OsStr> = vec![SUBJECT.as_ref(), op.name().as_ref(), times.as_ref(), root.as_os_str()];
        args.extend(names.iter().map(OsStr::new));
        let spawned = self.template.spawn(&Request { args, fds: vec![write.as_fd()] })?;
        drop(write);
        self.spawned += 1;
        let pid = spawned.pid;
        self.tracer.seize(pid)?;
        let layout = self.learn(pid)?;
        for addr in [layout.operate, layout.random, layout.clock] {
            self.tracer.insert(pid, addr)?;
        }
        let pipe = File::from(std::os::fd::OwnedFd::from(read));
        rustix::io::ioctl_fionbio(&pipe, true).map_err(|errno| EngineError::io("FIONBIO")(errno.into()))?;
        spawned.gate.open();
        let call = Call { pid, tid: pid, entry: layout.operate, entry_sp: 0, ret: 0 };
        let dice = Dice::new(self.seed, salt);
        let world = World { may_retire: op.may_retire(), ..World::default() };
        let mut subject = Subject { pid, call, world, pipe, text: Vec::new(), dice, looks: 0 };
        loop {
            match self.next(pid)? {
                Some(Event::Breakpoint { tid, addr, .. }) if addr == layout.operate => {
                    subject.call = Call::at(&self.tracer, pid, tid)?;
                    self.tracer.remove(pid, layout.operate)?;
                    subject.hear();
                    return Ok(subject);
                }
                Some(event) if self.served(&mut subject, &event)? => {}
                Some(event) if event.is_end() => {
                    subject.hear();
                    return Err(lost(pid, &format!("{} ended at once: {event:?} {:?}", op.name(), subject.world)));
                }
                Some(event) => self.pass(&event)?,
                None => return Err(lost(pid, "never came to its operation")),
            }
        }
    }

    fn next(&mut self, pid: i32) -> Result<Option<Event>> {
        self.tracer.wait_for(Some(PATIENCE), |event| event.pid() == pid)
    }

    /// Lets a thread go on from what is none of ours.
    fn pass(&mut self, event: &Event) -> Result<()> {
        match *event {
            Event::Signal { tid, sig, .. } => self.tracer.cont(tid, sig),
            _ => event.stopped().map_or(Ok(()), |tid| self.tracer.cont(tid, 0)),
        }
    }

    /// Answers in the place of `getrandom` and `clock_gettime`, if that is where `tid` stands. Leaves it stopped.
    fn answer(&mut self, subject: &mut Subject, tid: i32, pc: u64) -> Result<bool> {
        let Some(layout) = &self.layout else { return Ok(false) };
        if pc != layout.random && pc != layout.clock {
            return Ok(false);
        }
        let mut regs = self.tracer.regs(tid)?;
        let memory = self.tracer.memory(subject.pid)?;
        let ret = regs.return_address(memory)?;
        let result = if pc == layout.random {
            let mut bytes = vec![0; regs.argument(1).min(4096) as usize];
            for chunk in bytes.chunks_mut(8) {
                let word = subject.dice.next().to_le_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
            if !bytes.is_empty() {
                memory.write(regs.argument(0), &bytes)?;
            }
            bytes.len() as u64
        } else {
            subject.looks += 1;
            let seconds = if regs.argument(0) == 0 { WALL } else { BOOT };
            let mut time = [0; 16];
            time[..8].copy_from_slice(&(seconds + subject.looks / 1_000_000).to_le_bytes());
            time[8..].copy_from_slice(&(subject.looks % 1_000_000 * 1000).to_le_bytes());
            memory.write(regs.argument(1), &time)?;
            0
        };
        regs.answer(ret, result);
        self.tracer.set_regs(tid, &regs)?;
        Ok(true)
    }

    /// Answers, and lets the thread go on.
    fn served(&mut self, subject: &mut Subject, event: &Event) -> Result<bool> {
        let &Event::Breakpoint { tid, addr, .. } = event else { return Ok(false) };
        let answered = self.answer(subject, tid, addr)?;
        if answered {
            self.tracer.cont(tid, 0)?;
        }
        Ok(answered)
    }

    /// Walks through the whole operation. `each` is told of each instruction before it is executed. Ends with the thread
    /// at the return address.
    pub(crate) fn walk(
        &mut self,
        subject: &mut Subject,
        mut each: impl FnMut(&mut Subject, Here) -> Result<()>,
    ) -> Result<usize> {
        let layout = self.layout.clone().unwrap_or_default();
        let (pid, tid) = (subject.pid, subject.call.tid);
        let (mut pc, mut changed, mut points) = (subject.call.entry, true, 0);
        let mut calls: std::collections::HashMap<u64, bool> = std::collections::HashMap::new();
        loop {
            let runs_freely = layout.quiet.contains(&pc) || pc == layout.random || pc == layout.clock;
            let is_call = !runs_freely
                && match calls.get(&pc) {
                    Some(known) => *known,
                    None => *calls.entry(pc).or_insert(self.is_system_call(pid, pc)?),
                };
            let call = if is_call { Some(self.system_call(tid)?) } else { None };
            each(subject, Here { pc, changed, call })?;
            points += 1;
            if points > MOST {
                return Err(lost(pid, "its operation has no end"));
            }
            if self.answer(subject, tid, pc)? {
                pc = self.tracer.regs(tid)?.pc();
                changed = false;
            } else if layout.quiet.contains(&pc) {
                pc = self.run_quiet(subject)?;
                changed = true;
            } else {
                changed = is_call;
                pc = self.step(pid, tid, is_call)?;
            }
            if pc == subject.call.ret && subject.call.has_returned(pc, self.tracer.regs(tid)?.sp()) {
                return Ok(points);
            }
        }
    }

    fn is_system_call(&self, pid: i32, pc: u64) -> Result<bool> {
        let mut text = [0; SYSTEM_CALL.len()];
        self.tracer.memory(pid)?.read(pc, &mut text)?;
        Ok(text == *SYSTEM_CALL)
    }

    fn system_call(&self, tid: i32) -> Result<SystemCall> {
        let regs = self.tracer.regs(tid)?;
        Ok(SystemCall { number: regs.call_number(), fourth: regs.call_argument(3) })
    }

    /// Lets the system call before which a thread stands fail.
    fn deny(&mut self, tid: i32, errno: i32) -> Result<()> {
        let mut regs = self.tracer.regs(tid)?;
        regs.deny(errno);
        self.tracer.set_regs(tid, &regs)
    }

    /// One instruction. `system_call`: it may take its time; what is none ends at once, and a time-out costs two calls more.
    fn step(&mut self, pid: i32, tid: i32, system_call: bool) -> Result<u64> {
        let patience = system_call.then_some(PATIENCE);
        let mut sig = 0;
        loop {
            self.tracer.step(tid, sig)?;
            sig = 0;
            loop {
                match self.tracer.wait_for(patience, |event| event.pid() == pid)? {
                    Some(Event::Stepped { pc, .. }) => return Ok(pc),
                    Some(Event::Breakpoint { addr, .. }) => return Ok(addr),
                    Some(Event::Signal { sig: pending, .. }) => sig = pending,
                    Some(Event::NewThread { .. } | Event::Forked { .. } | Event::ThreadExited { .. }) => continue,
                    Some(event) if event.is_end() => return Err(lost(pid, &format!("died while stepped: {event:?}"))),
                    Some(_) => {}
                    None => return Err(lost(pid, "an instruction did not end")),
                }
                break;
            }
        }
    }

    /// Runs the function that was just entered to its return; answers where that is.
    fn run_quiet(&mut self, subject: &mut Subject) -> Result<u64> {
        let inner = Call::at(&self.tracer, subject.pid, subject.call.tid)?;
        self.tracer.insert(inner.pid, inner.ret)?;
        self.tracer.cont(inner.tid, 0)?;
        loop {
            match self.next(inner.pid)? {
                Some(Event::Breakpoint { tid, addr, .. }) if addr == inner.ret => {
                    if inner.has_returned(addr, self.tracer.regs(tid)?.sp()) {
                        self.tracer.remove(inner.pid, addr)?;
                        return Ok(addr);
                    }
                    self.tracer.cont(tid, 0)?;
                }
                Some(event) if self.served(subject, &event)? => {}
                Some(event) if event.is_end() => return Err(lost(inner.pid, "died in /proc")),
                Some(event) => self.pass(&event)?,
                None => return Err(lost(inner.pid, "did not return")),
            }
        }
    }

    /// Leads a subject at the beginning of its operation to the `occurrence`-th execution of the instruction at `addr`, and
    /// kills or holds it there. `false`: it did not come by.
    pub(crate) fn strike(&mut self, subject: &mut Subject, addr: u64, occurrence: u32, blow: Blow) -> Result<bool> {
        let layout = self.layout.clone().unwrap_or_default();
        // What is walked over in one go is not counted here either.
        for quiet in layout.quiet.iter().filter(|quiet| **quiet != addr) {
            self.tracer.insert(subject.pid, *quiet)?;
        }
        let plan = Plan::Site { addr, occurrence };
        let (mut strike, mut progress) = Strike::arm(&mut self.tracer, subject.call, plan, blow)?;
        loop {
            match progress {
                Progress::Landed { .. } => break,
                Progress::Returned => return Ok(false),
                Progress::Died(event) => return Err(lost(subject.pid, &format!("died on the way: {event:?}"))),
                Progress::Pending | Progress::NotMine => {}
            }
            let Some(mut event) = self.next(subject.pid)? else {
                return Err(lost(subject.pid, "did not come to the instruction"));
            };
            if let Event::Breakpoint { tid, addr: at, .. } = event
                && at != addr
            {
                let passed = if layout.quiet.contains(&at) {
                    self.tracer.remove(subject.pid, addr)?;
                    self.run_quiet(subject)?;
                    self.tracer.insert(subject.pid, addr)?;
                    true
                } else {
                    self.answer(subject, tid, at)?
                };
                if passed {
                    if self.tracer.regs(tid)?.pc() != addr {
                        self.tracer.cont(tid, 0)?;
                        continue;
                    }
                    // Right onto the breakpoint: let go, it would not report it.
                    event = Event::Breakpoint { pid: subject.pid, tid, addr };
                }
            }
            progress = strike.on_event(&mut self.tracer, &event)?;
            if progress == Progress::NotMine {
                self.pass(&event)?;
            }
        }
        if blow == Blow::Kill {
            self.tracer.reap(subject.pid, PATIENCE)?;
        }
        subject.hear();
        Ok(true)
    }

    /// Lets a subject that stands before a system call run on as if that had failed, now, or now and from now on.
    pub(crate) fn run_denied(&mut self, subject: &mut Subject, denial: &Denial) -> Result<Ran> {
        for site in &denial.sites {
            self.tracer.insert(subject.pid, *site)?;
        }
        self.deny(subject.call.tid, denial.errno)?;
        self.go_on(subject, Some(denial))
    }

    /// Lets a stopped subject run until it has said what its operation came to.
    pub(crate) fn run(&mut self, subject: &mut Subject) -> Result<Ran> {
        self.go_on(subject, None)
    }

    fn go_on(&mut self, subject: &mut Subject, denial: Option<&Denial>) -> Result<Ran> {
        let deadline = Instant::now() + PATIENCE;
        self.tracer.cont(subject.call.tid, 0)?;
        loop {
            subject.hear();
            if subject.world.returned {
                return Ok(Ran::Done);
            }
            let wait = Duration::from_micros(300);
            match self.tracer.wait_for(Some(wait), |event| event.pid() == subject.pid)? {
                Some(event) if event.is_end() => return Ok(Ran::Died(event)),
                Some(event) if self.served(subject, &event)? => {}
                Some(Event::Breakpoint { tid, addr, .. }) if self.is_denied(denial, tid, addr)? => {
                    self.deny(tid, denial.map_or(0, |denial| denial.errno))?;
                    self.tracer.cont(tid, 0)?;
                }
                Some(event) => self.pass(&event)?,
                None if Instant::now() > deadline => return Ok(Ran::Stuck),
                None => {}
            }
        }
    }

    fn is_denied(&self, denial: Option<&Denial>, tid: i32, addr: u64) -> Result<bool> {
        let Some(denial) = denial.filter(|denial| denial.sites.contains(&addr)) else { return Ok(false) };
        Ok(self.system_call(tid)?.number == denial.number)
    }

    /// Ends a subject, whatever it does.
    pub(crate) fn end(&mut self, subject: &Subject) -> Result<()> {
        match self.tracer.kill(subject.pid) {
            Err(error) if error.is_gone() => return Ok(()),
            killed => killed?,
        }
        self.tracer.reap(subject.pid, PATIENCE).map(drop)
    }
}

impl Subject {
    /// Takes in what it has said so far.
    pub(crate) fn hear(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = self.pipe.read(&mut buffer) {
            self.text.extend_from_slice(&buffer[..got]);
        }
        while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.text.drain(..=end).collect();
            self.world.take(String::from_utf8_lossy(&line[..end]).as_ref());
        }
    }

    /// Whether it has said something that has not been taken in: cheap.
    pub(crate) fn spoke(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|bytes| bytes > 0)
    }
}
