//! The hunt: processes that are to die inside an operation, at an instruction chosen over all that it executes.
//!
//! What an operation executes is learnt from traces: the first few calls are stepped through, and one now and then later.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{
    Aim, Blow, Call, EngineError, Event, Modules, Plan, Progress, Result, Site, Sites, Strike, Symbols, Target, Tracer,
    trace,
};
use crate::ledger::now;

/// An operation that processes die in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// A writer's push.
    Push,
    /// The same push, into a full ring: other instructions, so another aim.
    PushFull,
    /// The same, and a reader that has died stands in the way.
    PushPastDead,
    /// A reader's receive.
    Receive,
    /// A standby's succession.
    Succeed,
}

impl Operation {
    /// Calls that are traced first; after them, one in how many; and how many instructions of one at most.
    fn traces(self) -> (u64, u64, usize) {
        match self {
            Operation::Push => (20, 8, 5000),
            Operation::PushFull => (12, 6, 9000),
            Operation::PushPastDead => (8, 6, 7000),
            Operation::Receive => (8, 6, 3000),
            Operation::Succeed => (2, 24, 12_000),
        }
    }

    /// A variety of a push that has to be arranged for.
    fn is_rare(self) -> bool {
        matches!(self, Operation::PushFull | Operation::PushPastDead)
    }

    /// Whether a writer dies in it.
    pub(crate) fn is_push(self) -> bool {
        self == Operation::Push || self.is_rare()
    }

    /// After so many calls that have not come to it, a target counts as given up.
    fn rounds(self) -> u64 {
        if self.is_rare() { 100 } else { 200 }
    }
}

/// Each instruction of a trace gets this long: a sleep in the kernel ends the trace.
const STEP_PATIENCE: Duration = Duration::from_millis(30);
/// Share of the run's time that later traces of one operation may take.
const TRACE_SHARE: f64 = 0.015;
/// Later executions of an instruction in one call cost a trap for each earlier one: this many at most.
const MOST_TRAPS: u32 = 24;

/// One operation and what is known of it.
#[derive(Debug)]
struct Ground {
    /// Where it begins.
    entry: u64,
    aim: Aim,
    quests: u64,
    traced: u64,
    /// Traces, of whatever was to be traced, that showed this variety.
    own_way: u64,
    /// Traces that did not come to the call's return.
    cut: u64,
    /// Spent stepping through calls.
    tracing: Duration,
}

impl Ground {
    /// Whether it has instructions that no kill has hit and that are not given up, or was not met yet.
    fn has_left(&self) -> bool {
        self.aim.left() > 0 || self.own_way == 0
    }

    /// Whether the first traces are still being taken.
    fn is_new(&self, operation: Operation) -> bool {
        let (first, ..) = operation.traces();
        // Arranging for a rare variety can fail: then the trace shows a plain one, and does not count.
        if operation.is_rare() {
            self.own_way < first && self.quests < 3 * first
        } else {
            self.quests < first || self.aim.sites.samples().is_empty()
        }
    }
}

/// A process that is to die in an operation.
#[derive(Debug)]
struct Quest {
    operation: Operation,
    /// Whether its first call was looked at: it has had its chance to be traced.
    seen: bool,
    /// Where it is to be stopped until there is room.
    brink: Option<u64>,
    target: Option<Target>,
    strike: Option<Strike>,
}

/// What an event came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing that the caller has to know.
    Nothing,
    /// `pid` has been killed inside the operation, at this time; its end follows as an event.
    Killed { pid: i32, operation: Operation, ns: u64 },
    /// `pid` is about to make the push that is to be its last; its thread stays stopped until [`Hunter::proceed`]. `full`:
    /// the ring has just been filled.
    Doomed { pid: i32, tid: i32, full: bool },
    /// A process has been let go into a push that finds the ring full, and a strike lies in wait for it.
    Armed,
    /// Readers that were asked to hold still need not any more.
    Over,
    /// A push has found the ring full, and stands still before it tries once more, until [`Hunter::proceed`]: it is to find room
    /// then, without having waited.
    Brink { tid: i32 },
    /// A process ended.
    Ended(Event),
}

/// Traces, strikes, keeps score.
#[derive(Debug)]
pub(crate) struct Hunter {
    pub(crate) tracer: Tracer,
    modules: Option<Modules>,
    grounds: HashMap<Operation, Ground>,
    /// Where a push goes that has found the ring full, to try once more; if that is a function of its own.
    again: Option<u64>,
    /// Where it lets go of the byte of a reader that it has found dead; if that is a function of its own.
    passes: Option<u64>,
    /// Where last pushes are announced: plain ones, and those into a full ring.
    doom: [u64; 2],
    quests: HashMap<i32, Quest>,
    seed: u64,
    rare: u64,
    /// Whether rare varieties of a push have instructions that no kill has hit and that are not given up, at the last look.
    rare_left: bool,
    started: Instant,
    symbols: HashMap<String, Symbols>,
}

impl Hunter {
    pub(crate) fn new(seed: u64) -> Result<Hunter> {
        let mut tracer = Tracer::new()?;
        // A strike asks of each trap whether it is its thread's, and doesn't count others'.
        tracer.let_others_pass();
        Ok(Hunter {
            tracer,
            modules: None,
            grounds: HashMap::new(),
            again: None,
            passes: None,
            doom: [0; 2],
            quests: HashMap::new(),
            seed,
            rare: 0,
            rare_left: true,
            started: Instant::now(),
            symbols: HashMap::new(),
        })
    }

    /// Looks where everything is, in the first worker.
    fn learn(&mut self, pid: i32) -> Result<()> {
        if self.modules.is_some() {
            return Ok(());
        }
        let modules = Modules::of(pid)?;
        let exe = std::env::current_exe().map_err(EngineError::io("current_exe"))?;
        let path = exe.to_string_lossy().into_owned();
        let symbols = Symbols::load(&exe)?;
        let base = modules.base(&path);
        let address = |offset: Option<u64>, name: &str| {
            offset
                .zip(base)
                .map(|(offset, base)| base + offset)
                .ok_or_else(|| EngineError::NoSymbol { path: path.clone(), name: name.into() })
        };
        let named = |name: &str| address(symbols.offset_of(name), name);
        self.doom = [named("ringward_chaos_doom")?, named("ringward_chaos_doom_full")?];
        let part = |of: &str, name: &str| {
            let found = symbols.find(|symbol| symbol.contains(of) && symbol.contains(name));
            found.zip(base).map(|((_, offset), base)| base + offset)
        };
        self.again = part("6Writer", "10push_again");
        self.passes = part("7Segment", "13unlock_reader");
        let succeed = symbols.find(|name| name.contains("10succession6follow")).map(|(_, offset)| offset);
        for (operation, entry) in [
            (Operation::Push, named("ringward_chaos_push")),
            (Operation::PushFull, named("ringward_chaos_push")),
            (Operation::PushPastDead, named("ringward_chaos_push")),
            (Operation::Receive, named("ringward_chaos_recv")),
            (Operation::Succeed, address(succeed, "succession::follow")),
        ] {
            let entry = match entry {
                Ok(entry) => entry,
                // Inlined away: standbys then die at random moments only.
                Err(_) if operation == Operation::Succeed => continue,
                Err(error) => return Err(error),
            };
            let aim = Aim::new(Sites::new(), self.seed ^ entry ^ operation as u64, operation.rounds());
            self.grounds.insert(
                operation,
                Ground { entry, aim, quests: 0, traced: 0, own_way: 0, cut: 0, tracing: Duration::ZERO },
            );
        }
        self.modules = Some(modules);
        Ok(())
    }

    /// Takes control of a worker that waits behind its gate. `writes`: it may come to push.
    pub(crate) fn adopt(&mut self, pid: i32, writes: bool) -> Result<()> {
        self.tracer.seize(pid)?;
        self.learn(pid)?;
        if writes {
            for addr in self.doom {
                self.tracer.insert(pid, addr)?;
            }
        }
        Ok(())
    }

    /// From its next call on, `pid` is to die in `operation`. `false`: it already is to die, or there is no such
    /// operation to stop in, or not yet (a rare push, as long as plain ones are not known: it dies in a plain one).
    pub(crate) fn begin(&mut self, pid: i32, mut operation: Operation) -> Result<bool> {
        if operation.is_rare() && self.is_to_be_traced(Operation::Push) {
            // What is rare shows only when what is common is known.
            operation = Operation::Push;
        }
        match self.quests.get(&pid).map(|quest| quest.operation) {
            Some(before) if before == operation => return Ok(false),
            Some(_) => self.drop_quest(pid)?,
            None => {}
        }
        if operation.is_rare() {
            self.rare += 1;
            if self.rare.is_multiple_of(16) {
                self.share_hits();
            }
        }
        let Some(ground) = self.grounds.get(&operation) else { return Ok(false) };
        self.tracer.insert(pid, ground.entry)?;
        self.quests.insert(pid, Quest { operation, seen: false, brink: None, target: None, strike: None });
        Ok(true)
    }

    fn drop_quest(&mut self, pid: i32) -> Result<()> {
        let Some(mut quest) = self.quests.remove(&pid) else { return Ok(()) };
        if let Some(brink) = quest.brink {
            self.tracer.remove(pid, brink)?;
        }
        if let Some(strike) = &mut quest.strike {
            strike.disarm(&mut self.tracer)?;
        }
        if let Some(ground) = self.grounds.get(&quest.operation) {
            self.tracer.remove(pid, ground.entry)?;
        }
        Ok(())
    }

    /// Whether the next call of `operation` is going to be stepped through: that takes long.
    pub(crate) fn is_to_be_traced(&self, operation: Operation) -> bool {
        self.grounds.get(&operation).is_some_and(|ground| ground.is_new(operation))
    }

    /// Lets a doomed thread go on. If it is gone, that is no error.
    pub(crate) fn proceed(&mut self, tid: i32) -> Result<()> {
        match self.tracer.cont(tid, 0) {
            Err(EngineError::NotStopped(_) | EngineError::Unknown(_)) => Ok(()),
            done => done,
        }
    }

    /// Calls every hunt off; those who were hunted live on.
    pub(crate) fn call_off(&mut self) -> Result<()> {
        for pid in self.quests.keys().copied().collect::<Vec<_>>() {
            self.drop_quest(pid)?;
        }
        Ok(())
    }

    /// Whether `pid` is to die.
    pub(crate) fn hunts(&self, pid: i32) -> bool {
        self.quests.contains_key(&pid)
    }

    /// Whether `pid` is to die in a rare variety of a push.
    pub(crate) fn hunts_rarely(&self, pid: i32) -> bool {
        self.quests.get(&pid).is_some_and(|quest| quest.operation.is_rare())
    }

    /// Whether rare varieties of a push have instructions that no kill has hit and that are not given up.
    pub(crate) fn rare_left(&self) -> bool {
        self.rare_left
    }

    /// Whether this variety has instructions that no kill has hit and that are not given up, or was not met yet.
    pub(crate) fn has_left(&self, operation: Operation) -> bool {
        self.grounds.get(&operation).is_none_or(Ground::has_left)
    }

    fn look_for_rare(&mut self) {
        let mut rare = self.grounds.iter().filter(|(operation, _)| operation.is_rare());
        self.rare_left = rare.any(|(_, ground)| ground.has_left());
    }

    /// Functions of the library that tell a push's varieties apart and are not in this program by themselves, once workers are known.
    pub(crate) fn untold(&self) -> Vec<&'static str> {
        let parts = [(self.again, "Writer::push_again"), (self.passes, "Segment::unlock_reader")];
        parts.into_iter().filter(|(at, _)| self.modules.is_some() && at.is_none()).map(|(_, name)| name).collect()
    }

    /// Spent stepping through calls.
    pub(crate) fn tracing(&self) -> Duration {
        self.grounds.values().map(|ground| ground.tracing).sum()
    }

    /// The sites of an operation in all its varieties, and how many calls were traced.
    fn sites(&self, operation: Operation) -> (Sites, u64) {
        let mut sites = Sites::new();
        let mut traced = 0;
        for (&other, ground) in &self.grounds {
            if other == operation || (operation == Operation::Push && other.is_push()) {
                sites.merge_tallies(&ground.aim.sites);
                traced += ground.traced;
            }
        }
        (sites, traced)
    }

    /// How well an operation's variety is known: traces, those that went its own way, those that were cut short.
    pub(crate) fn known(&self, operation: Operation) -> (u64, u64, u64) {
        self.grounds.get(&operation).map_or((0, 0, 0), |ground| (ground.traced, ground.own_way, ground.cut))
    }

    /// `kill_sites` of an operation: hit, of, traced calls.
    pub(crate) fn coverage(&self, operation: Operation) -> (usize, usize, u64) {
        let (sites, traced) = self.sites(operation);
        let (hit, of) = sites.coverage();
        (hit, of, traced)
    }

    fn symbols(&mut self, module: &str) -> &Symbols {
        self.symbols.entry(module.to_owned()).or_insert_with(|| Symbols::load(Path::new(module)).unwrap_or_default())
    }

    /// What is known of an operation, function by function: sites hit, and all. Names as in the files, mangled.
    pub(crate) fn functions(&mut self, operation: Operation) -> BTreeMap<String, (usize, usize)> {
        let mut functions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (name, hits) in self.named(operation) {
            let function = functions.entry(name.split('+').next().unwrap_or_default().to_owned()).or_default();
            function.0 += usize::from(hits > 0);
            function.1 += 1;
        }
        functions
    }

    /// How often each instruction was the last, function by function, in the order of addresses.
    pub(crate) fn heat(&mut self, operation: Operation) -> Vec<(String, Vec<u64>)> {
        let mut rows: Vec<(String, Vec<u64>)> = Vec::new();
        for (name, hits) in self.named(operation) {
            let function = name.split('+').next().unwrap_or_default();
            match rows.last_mut().filter(|row| row.0 == function) {
                Some(row) => row.1.push(hits),
                None => rows.push((function.to_owned(), vec![hits])),
            }
        }
        rows
    }

    /// Sites that no kill has hit, at most `most`.
    pub(crate) fn missed(&mut self, operation: Operation, most: usize) -> Vec<String> {
        self.named(operation).into_iter().filter(|(_, hits)| *hits == 0).map(|(name, _)| name).take(most).collect()
    }

    /// Every site as `function+offset (file)`, and how often it was hit.
    fn named(&mut self, operation: Operation) -> Vec<(String, u64)> {
        let (sites, _) = self.sites(operation);
        let all: Vec<(String, u64, u64, String)> = sites
            .iter()
            .map(|(site, tally)| {
                let module = sites.modules().get(usize::from(site.module)).cloned().unwrap_or_default();
                (module, site.offset, tally.hits, sites.name(site))
            })
            .collect();
        all.into_iter()
            .map(|(module, offset, hits, plain)| {
                let file = module.rsplit('/').next().unwrap_or_default();
                match self.symbols(&module).at(offset) {
                    Some((name, at)) => (format!("{name}+{at:#x} ({file})"), hits),
                    None => (plain, hits),
                }
            })
            .collect()
    }

    /// Waits for the next event, at most `timeout`, and deals with it.
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<Option<Outcome>> {
        let Some(event) = self.tracer.wait_event(Some(timeout))? else { return Ok(None) };
        match self.deal(&event) {
            Ok(outcome) => Ok(Some(outcome)),
            // It died under our hands; its end follows.
            Err(error) if error.is_gone() => Ok(Some(Outcome::Nothing)),
            Err(EngineError::NotStopped(_) | EngineError::Unknown(_)) => Ok(Some(Outcome::Nothing)),
            Err(error) => Err(error),
        }
    }

    fn deal(&mut self, event: &Event) -> Result<Outcome> {
        let pid = event.pid();
        if event.is_end() {
            self.quests.remove(&pid);
            return Ok(Outcome::Ended(*event));
        }
        if let Some(quest) = self.quests.get_mut(&pid)
            && let Some(strike) = &mut quest.strike
        {
            let at = now();
            let progress = strike.on_event(&mut self.tracer, event)?;
            match progress {
                Progress::NotMine => {}
                Progress::Pending => return Ok(Outcome::Nothing),
                other => return self.struck(pid, other, at),
            }
        }
        match *event {
            Event::Breakpoint { tid, addr, .. } if self.doom.contains(&addr) => {
                self.tracer.skip_call(pid, tid, 0)?;
                Ok(Outcome::Doomed { pid, tid, full: addr == self.doom[1] })
            }
            Event::Breakpoint { tid, addr, .. }
                if self.quests.get(&pid).is_some_and(|quest| quest.brink == Some(addr)) =>
            {
                Ok(Outcome::Brink { tid })
            }
            Event::Breakpoint { tid, addr, .. } => {
                let hunted = self.quests.get(&pid).map(|quest| quest.operation);
                match hunted.filter(|operation| self.grounds.get(operation).is_some_and(|g| g.entry == addr)) {
                    Some(operation) => self.at_entry(pid, tid, operation),
                    None => {
                        self.tracer.cont(tid, 0)?;
                        Ok(Outcome::Nothing)
                    }
                }
            }
            Event::Signal { tid, sig, .. } => {
                self.tracer.cont(tid, sig)?;
                Ok(Outcome::Nothing)
            }
            Event::GroupStop { tid, .. } => {
                self.tracer.listen(tid)?;
                Ok(Outcome::Nothing)
            }
            other => {
                if let Some(tid) = other.stopped() {
                    self.tracer.cont(tid, 0)?;
                }
                Ok(Outcome::Nothing)
            }
        }
    }

    /// A hunted process is about to begin the operation.
    fn at_entry(&mut self, pid: i32, tid: i32, operation: Operation) -> Result<Outcome> {
        let call = Call::at(&self.tracer, pid, tid)?;
        let (Some(ground), Some(modules), Some(quest)) =
            (self.grounds.get_mut(&operation), &self.modules, self.quests.get_mut(&pid))
        else {
            self.tracer.cont(tid, 0)?;
            return Ok(Outcome::Nothing);
        };
        if !std::mem::replace(&mut quest.seen, true) {
            let learning = ground.is_new(operation);
            let (_, every, limit) = operation.traces();
            ground.quests += 1;
            let affordable = ground.tracing.as_secs_f64() < TRACE_SHARE * self.started.elapsed().as_secs_f64();
            if learning || (affordable && ground.quests.is_multiple_of(every)) {
                let began = Instant::now();
                let traced = self.tracer.here(tid, |tracer| trace(tracer, &call, limit, STEP_PATIENCE))?;
                let mut fresh = Sites::new();
                fresh.add(modules, &traced.pcs);
                let shown = self.shown_by(operation, &traced.pcs);
                let own_way = self.again.is_some() || self.goes_its_own_way(shown, &fresh);
                if let (Some(ground), Some(modules)) = (self.grounds.get_mut(&shown), &self.modules) {
                    ground.aim.sites.add(modules, &traced.pcs);
                    ground.own_way += u64::from(own_way);
                }
                let Some(ground) = self.grounds.get_mut(&operation) else { return Ok(Outcome::Nothing) };
                ground.traced += 1;
                ground.cut += u64::from(traced.end != crate::engine::TraceEnd::Returned);
                ground.tracing += began.elapsed();
                if operation.is_push() {
                    self.share_hits();
                }
                if let Some(quest) = self.quests.get_mut(&pid).filter(|_| operation.is_rare()) {
                    // The next push finds the ring as any other does.
                    quest.operation = Operation::Push;
                }
                match traced.end {
                    crate::engine::TraceEnd::Died(event) => {
                        self.quests.remove(&pid);
                        return Ok(Outcome::Ended(event));
                    }
                    // It is in the kernel; its step ends as an event.
                    crate::engine::TraceEnd::Blocked => {}
                    _ => self.tracer.cont(tid, 0)?,
                }
                return Ok(if operation.is_rare() { Outcome::Over } else { Outcome::Nothing });
            }
        }
        // Full rings are rare enough: what only they lead to comes first.
        let choice = if operation.is_rare() { ground.aim.choose_uncovered() } else { ground.aim.choose() };
        let Some(target) = choice else {
            // All that was seen went another way: the next call is looked at, too.
            quest.seen = false;
            self.tracer.cont(tid, 0)?;
            return Ok(if operation.is_rare() { Outcome::Over } else { Outcome::Nothing });
        };
        let at = now();
        let address = |site: Site| ground.aim.sites.address(modules, site);
        let armed = match &target {
            Target::One { site, occurrence } => address(*site).map(|addr| {
                // Each execution until then costs a trap.
                let occurrence = (*occurrence).min(1 + occurrence % MOST_TRAPS);
                Strike::arm(&mut self.tracer, call, Plan::Site { addr, occurrence }, Blow::Kill)
            }),
            Target::Any(sites) => {
                let addrs: Vec<u64> = sites.iter().filter_map(|&site| address(site)).collect();
                Some(Strike::arm_any(&mut self.tracer, call, &addrs, Blow::Kill))
            }
        };
        match armed {
            Some(Ok((strike, progress))) => {
                quest.target = Some(target);
                quest.strike = Some(strike);
                if progress == Progress::Pending && operation == Operation::PushFull && ground.quests.is_multiple_of(2)
                {
                    // It is let go already, but can't be there before the ring is looked at; and if it is, it is not stopped.
                    quest.brink = self.again;
                    if let Some(brink) = quest.brink {
                        self.tracer.insert(pid, brink)?;
                    }
                }
                match progress {
                    Progress::Pending if operation == Operation::PushFull && quest.brink.is_none() => {
                        Ok(Outcome::Armed)
                    }
                    Progress::Pending => Ok(Outcome::Nothing),
                    _ => self.struck(pid, progress, at),
                }
            }
            // Not text that can be written to: not a place to die at.
            None | Some(Err(EngineError::NoCode { .. })) => {
                ground.aim.missed(&target);
                self.tracer.cont(tid, 0)?;
                Ok(if operation.is_rare() { Outcome::Over } else { Outcome::Nothing })
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// What a trace is a trace of: a plain push can run into a full ring by itself, and then shows what such pushes do, not what
    /// plain ones do; and one that was to find it full can find room.
    fn shown_by(&self, operation: Operation, pcs: &[u64]) -> Operation {
        if !operation.is_push() {
            return operation;
        }
        let came_by = |place: Option<u64>| place.map(|place| pcs.contains(&place));
        match (came_by(self.passes), came_by(self.again)) {
            (Some(true), _) => Operation::PushPastDead,
            (_, Some(true)) => Operation::PushFull,
            (Some(false), Some(false)) => Operation::Push,
            _ => operation,
        }
    }

    /// Whether a trace of `operation` has instructions that no plain push is known to execute.
    fn goes_its_own_way(&self, operation: Operation, trace: &Sites) -> bool {
        let Some(plain) = self.grounds.get(&Operation::Push).filter(|_| operation.is_rare()) else { return true };
        let mut trace = trace.clone();
        trace.leave_to(&plain.aim.sites);
        trace.iter().any(|(_, tally)| !tally.elsewhere)
    }

    /// What one variety of push has hit, the others need not aim at; nor what a more common one aims at.
    fn share_hits(&mut self) {
        let (all, _) = self.sites(Operation::Push);
        for (_, ground) in self.grounds.iter_mut().filter(|(operation, _)| operation.is_push()) {
            ground.aim.sites.share_hits(&all);
        }
        for (rare, commoner) in [
            (Operation::PushFull, &[Operation::Push][..]),
            (Operation::PushPastDead, &[Operation::Push, Operation::PushFull]),
        ] {
            let Some(mut ground) = self.grounds.remove(&rare) else { continue };
            for other in commoner.iter().filter_map(|other| self.grounds.get(other)) {
                ground.aim.sites.leave_to(&other.aim.sites);
            }
            self.grounds.insert(rare, ground);
        }
        self.look_for_rare();
    }

    fn struck(&mut self, pid: i32, progress: Progress, at: u64) -> Result<Outcome> {
        let Some(quest) = self.quests.get_mut(&pid) else { return Ok(Outcome::Nothing) };
        let Some(ground) = self.grounds.get_mut(&quest.operation) else { return Ok(Outcome::Nothing) };
        let operation = quest.operation;
        match progress {
            Progress::Landed { pc, .. } => {
                let site = self.modules.as_ref().map(|modules| ground.aim.sites.site(modules, pc));
                if let Some(site) = site {
                    ground.aim.hit(site);
                }
                self.quests.remove(&pid);
                Ok(Outcome::Killed { pid, operation, ns: at })
            }
            Progress::Died(event) => {
                self.quests.remove(&pid);
                Ok(Outcome::Ended(event))
            }
            _ => {
                // It went another way this time.
                if let Some(brink) = quest.brink.take() {
                    self.tracer.remove(pid, brink)?;
                }
                let tid = quest.strike.take().map_or(pid, |strike| strike.call().tid);
                if let Some(target) = quest.target.take() {
                    ground.aim.missed(&target);
                }
                if operation.is_rare() {
                    // The next push finds the ring as any other does.
                    quest.operation = Operation::Push;
                }
                self.tracer.cont(tid, 0)?;
                Ok(if operation.is_rare() { Outcome::Over } else { Outcome::Nothing })
            }
        }
    }
}
