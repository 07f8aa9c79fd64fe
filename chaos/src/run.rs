//! `chaos run`: keeps a channel's processes alive, and kills them.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::cli::RunArgs;
use crate::engine::{Event, Gate, Request, affinity};
use crate::examine::Examiner;
use crate::failover::{self, Quiet, Turn};
use crate::faults;
use crate::finding;
use crate::floor;
use crate::hunt::{Hunter, Operation, Outcome};
use crate::judge::Bench;
use crate::ledger::{self, Entry, Kind, Pen, now};
use crate::member::{Cause, Kills, Member};
use crate::namespace::{self, Which};
use crate::nursery::{Birth, Nursery, TIMED};
use crate::plan::{Deck, Plan};
use crate::progress::Display;
use crate::range::Range;
use crate::range::score::Score;
use crate::report::Report;
use crate::resume::Before;
use crate::series::{Point, Series};
use crate::stop::Stop;
use crate::verdict::{Broken, Verdict};
use crate::watch::Watch;
use crate::worker::{self, EXIT_FAILED, EXIT_HOME, Orders, Role};

/// How long the end may take: closing, draining, going home.
const END_LIMIT: Duration = Duration::from_secs(30);
/// From one start of a process that dies young to the next.
const YOUNG_EVERY: Duration = Duration::from_millis(60);
/// How old those get at most.
const YOUNG_DEATH: Duration = Duration::from_millis(12);
/// From one reader's death to the next, on average.
const READER_EVERY: Duration = Duration::from_millis(50);
/// Share of last pushes that find the ring full: as long as instructions of such a push have not been hit, and later.
const FULL_SHARE: (f64, f64) = (0.3, 0.08);
/// Share of these in which a reader dies: as long as instructions of going past a dead reader have not been hit, and later. The
/// writer is held meanwhile, and with it the storm.
const DEAD_SHARE: (f64, f64) = (0.3, 0.05);
/// How long readers hold still once a writer has been let go into its last push, before that finds room, in microseconds: now it
/// tries once more at the right moment, now it waits.
const HOLD_ON: std::ops::Range<u64> = 200..1500;
/// How long a writer that found the ring full is held until there is room.
const ROOM: Duration = Duration::from_millis(1);
/// How long a writer is held at least while a reader dies and the others read on, and at most until that one is gone. Then nobody
/// takes its place before the writer has come by.
const GUEST_DEATH: Duration = Duration::from_micros(2500);
const GUEST_GONE: Duration = Duration::from_millis(30);
const COME_BY: Duration = Duration::from_millis(3);
/// Share of standbys that are to die in a succession.
const STANDBY_SHARE: f64 = 0.08;
/// From one look at everybody's progress to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of so many dead writers' segments one is looked at, byte for byte.
const EXAMINE_EVERY: u64 = 4;
/// How often somebody who is under way is looked for.
const BIRTH_POLL: Duration = Duration::from_micros(200);
/// From this share on, in percent, what a host took is told.
const STOLEN: f64 = 0.5;
/// Places of readers that die young begin here.
const YOUNG_PLACE: u32 = 1000;

/// A writer that is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    tid: i32,
    /// Until then.
    until: Instant,
    /// And until this one has died, or it is too late.
    guest: Option<(i32, Instant)>,
}

struct Run<'a> {
    args: &'a RunArgs,
    seed: u64,
    dice: ChaCha8Rng,
    dir: PathBuf,
    hunter: Hunter,
    nursery: Nursery,
    /// The core that this thread keeps to.
    mine: Vec<usize>,
    members: HashMap<i32, Member>,
    next_id: u32,
    pen: Pen<OwnedFd>,
    ledger: OwnedFd,
    control: File,
    notes: File,
    bench: Bench,
    examiner: Examiner,
    /// What the watchdog said at the end.
    sweep: Value,
    kills: Kills,
    /// Kills that are due at a time: who, why.
    due: Vec<(Instant, i32, Cause)>,
    /// Writers that are held at the brink of their last push.
    held: Vec<Held>,
    /// Members that are not replaced before a time; not at all once the run ends.
    late: VecDeque<(Instant, Birth)>,
    /// Places of readers that are not taken again before a time.
    guests: Vec<u32>,
    guests_from: Instant,
    before: Option<&'a Before>,
    /// Beside the storm, trials with a fault each.
    range: Option<Range>,
    /// Files that violations have left.
    files: Vec<PathBuf>,
    root: PathBuf,
    series: Series,
    /// When the space is looked at next.
    space_at: Instant,
    /// Bytes that the run's files took when that was too much.
    too_large: Option<u64>,
    sample: Option<floor::Sample>,
    quiet: Quiet,
    watch: Watch,
    started: Instant,
    ending: bool,
    young_at: Instant,
    reader_at: Instant,
    young: u64,
    /// Somebody has gone home from the storm's channel: it is closed.
    closed: bool,
}

type Fault = Box<dyn std::error::Error>;

/// Where a run makes its own directory.
pub(crate) fn base(root: Option<&PathBuf>) -> PathBuf {
    root.cloned().unwrap_or_else(|| {
        if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() }
    })
}

/// What the reader at a place of the storm is.
fn reader_at(place: u32) -> Role {
    if place.is_multiple_of(2) { Role::Durable } else { Role::Ephemeral }
}

fn seed_of(args: &RunArgs) -> u64 {
    args.seed.unwrap_or_else(|| rand::rng().next_u64() >> 1)
}

/// What `--dry-run` prints: the faults that a run with these options would try, in order; without `--max-faults`, one round.
pub(crate) fn print_plan(args: &RunArgs) {
    use std::io::Write as _;
    let seed = seed_of(args);
    let count = args.max_faults.map_or(faults::classes().count(), |most| usize::try_from(most).unwrap_or(usize::MAX));
    let plan = Plan { seed, trials: Deck::new(seed, args.faults.clone()).take(count).collect() };
    // Whoever closed the pipe has seen enough.
    let _ = writeln!(std::io::stdout(), "{plan}# storm: {}", crate::report::repeat(args, seed));
}

/// A storm's violation again, `times` times: its choices are the same, the interleaving is the machine's.
pub(crate) fn again(storm: &Value, times: u32, root: Option<&PathBuf>, stop: &Stop) -> Result<Verdict, Fault> {
    let args = storm_args(storm, root)?;
    let mut shown = 0;
    let mut done = 0;
    for _ in 0..times {
        if stop.asked() {
            break;
        }
        done += 1;
        shown += u32::from(run(&args, None, stop)? == Verdict::Violation);
    }
    println!("violated {shown} of {done} times");
    Ok(if shown > 0 { Verdict::Violation } else { Verdict::Held })
}

/// The options of a violation of the storm.
pub(crate) fn storm_args(storm: &Value, root: Option<&PathBuf>) -> Result<RunArgs, String> {
    let words: Vec<&str> = storm["options"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut args = crate::cli::run_args(&words)?;
    args.root = root.cloned();
    // The file may come from somebody else: it does not say what is read and overwritten here.
    (args.report, args.resume, args.targets, args.shared_root) = (None, None, Default::default(), false);
    crate::cli::fits(&args)?;
    Ok(args)
}

/// Runs; says how it ended.
pub(crate) fn run(args: &RunArgs, before: Option<&Before>, stop: &Stop) -> Result<Verdict, Fault> {
    let seed = seed_of(args);
    if let Some(found) = args.root.as_ref().filter(|_| !args.shared_root).and_then(|root| crate::space::stranger(root))
    {
        let what = "is a segment that this run has not made; choose another --root, or say --shared-root";
        return Err(format!("{} {what}", found.display()).into());
    }
    let place = crate::replay::place(args.root.as_ref())?;
    stop.set_root(Some(place.path().to_owned()));
    let mut display = Display::new();
    display.say(&format!("chaos run: seed {seed}, root {}", place.path().display()));
    let report = Report::new(args, seed, place.path());
    report
        .write(&report.document(json!({ "verdict": "running" })))
        .map_err(|error| format!("cannot write the report: {error}"))?;

    let mut run = Run::start(args, seed, place.path(), before)?;
    let outcome = run.storm(stop, &mut display, &report).and_then(|()| run.end(stop));
    if let Err(error) = outcome {
        run.bench.flag(Broken::Failed, &format!("the run itself failed: {error}"));
    }
    let verdict = run.conclude();
    let mut body = run.body(verdict.name());
    body["push_functions"] = json!(run.hunter.functions(Operation::Push));
    let heat = run.hunter.heat(Operation::Push);
    body["heat"] = heat.into_iter().map(|(function, hits)| json!({ "function": function, "hits": hits })).collect();
    body["missed_sites"] = json!(run.hunter.missed(Operation::Push, 400));
    let document = report.document(body);
    report.write(&document).map_err(|error| format!("cannot write the report: {error}"))?;
    display.say(&run.line());
    let summary = run.summary(&document);
    let notes = run.notes_tail();
    let tail = run.bench.tail();
    let files = std::mem::take(&mut run.files);
    drop(run);
    stop.set_root(None);
    if verdict == Verdict::Violation {
        let kept = place.keep();
        display.say(&format!("kept: {}", kept.display()));
        let mut files = files;
        if files.is_empty() {
            let path = kept.join("violation-storm.json");
            finding::write(&path, &finding::storm_document(args, seed, &document, &notes, &tail, &path))?;
            files.push(path);
        }
        for file in files {
            display.say(&format!(
                "violation: {}; again: {} replay {}",
                file.display(),
                finding::program(),
                file.display()
            ));
        }
    } else {
        place.close().map_err(|error| format!("cannot remove the root: {error}"))?;
    }
    display.say(&summary);
    display.say(&format!("verdict: {}", verdict.name()));
    Ok(verdict)
}

impl<'a> Run<'a> {
    fn start(args: &'a RunArgs, seed: u64, root: &Path, before: Option<&'a Before>) -> Result<Run<'a>, Fault> {
        let dir = root.join("ring");
        std::fs::create_dir(&dir)?;
        let (read, write) = ledger::open()?;
        let control = File::options().read(true).write(true).create_new(true).open(root.join("control"))?;
        control.write_all_at(&[worker::RUN, worker::PAUSE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0)?;
        let notes = File::options().read(true).append(true).create_new(true).open(root.join("notes"))?;
        let watch = Watch::new(dir.join(namespace::NAMESPACE));
        let cores = affinity::cores(0)?;
        let (mine, others) = (&cores[..1], if cores.len() > 1 { &cores[1..] } else { &cores[..] });
        // This thread has a core to itself, as far as there are any: what stands still waits for it. Judges go elsewhere.
        affinity::pin(0, others)?;
        let bench = Bench::start(read, args.capacity);
        let examiner = Examiner::start(dir.join(namespace::NAMESPACE).join(Which::Storm.name()), bench.judge());
        let nursery = Nursery::start(others, &cores)?;
        let range = (!args.faults.is_none()).then(|| {
            let most = args.max_faults.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
            let done = before.map_or(0, Before::trials);
            let trials = Deck::new(seed, args.faults.clone()).skip(done).take(most);
            let score = before.map(|before| Score::resumed(&before.report["faults"])).unwrap_or_default();
            Range::start(trials, root.to_owned(), args.plant, cores.clone(), score)
        });
        affinity::pin(0, mine)?;
        let ledger = write.try_clone()?;
        let at = Instant::now();
        let mut run = Run {
            args,
            seed,
            dice: ChaCha8Rng::seed_from_u64(seed),
            dir,
            hunter: Hunter::new(seed)?,
            nursery,
            mine: mine.to_vec(),
            members: HashMap::new(),
            next_id: 1,
            pen: Pen::new(write),
            ledger,
            control,
            notes,
            bench,
            examiner,
            sweep: Value::Null,
            kills: Kills::default(),
            due: Vec::new(),
            held: Vec::new(),
            late: VecDeque::new(),
            guests: Vec::new(),
            guests_from: at,
            before,
            range,
            files: Vec::new(),
            root: root.to_owned(),
            series: Series::default(),
            space_at: at,
            too_large: None,
            sample: None,
            quiet: Quiet::new(at),
            watch,
            started: at,
            ending: false,
            young_at: at + Duration::from_millis(300),
            reader_at: at + Duration::from_millis(200),
            young: 0,
            closed: false,
        };
        for _ in 0..args.standbys + 1 {
            run.spawn(Role::Standby, Which::Storm, 0, true)?;
        }
        for place in 0..args.readers {
            run.spawn(reader_at(place), Which::Storm, place, true)?;
        }
        for _ in 0..failover::STANDBYS + 1 {
            run.spawn(Role::Standby, Which::Failover, 0, true)?;
        }
        run.spawn(Role::Durable, Which::Failover, 0, true)?;
        Ok(run)
    }

    /// Asks for a standing member; it comes when it comes.
    fn want(&mut self, role: Role, which: Which, place: u32) -> Result<(), Fault> {
        self.nursery.want(Birth { role, which, place });
        self.deliver(false)
    }

    /// Asks for those whose time has come.
    fn want_late(&mut self, at: Instant) -> Result<(), Fault> {
        while let Some((_, birth)) = self.late.pop_front_if(|(when, _)| *when <= at) {
            self.want(birth.role, birth.which, birth.place)?;
        }
        Ok(())
    }

    /// Takes in whoever has arrived, and asks for the next ones; `wait`: until all have arrived.
    fn deliver(&mut self, wait: bool) -> Result<(), Fault> {
        for number in self.nursery.numbers() {
            self.deliver_from(number, wait)?;
        }
        Ok(())
    }

    fn deliver_from(&mut self, number: usize, wait: bool) -> Result<(), Fault> {
        loop {
            if let Some((birth, id, gate, pid)) = self.nursery.cot(number).arrived(wait)? {
                self.born(birth, id, pid, gate, true)?;
            }
            let Some(birth) = self.nursery.cot(number).next() else { return Ok(()) };
            let id = self.next_id();
            let orders = self.orders(birth, id);
            let gate = self.nursery.template(number).ask(&self.request(&orders.to_words(), &[]))?;
            self.nursery.cot(number).asked(birth, id, gate);
            if !wait {
                return Ok(());
            }
        }
    }

    fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn orders(&self, birth: Birth, id: u32) -> Orders {
        let Birth { role, which, place } = birth;
        Orders {
            role,
            which,
            id,
            place,
            seed: self.seed,
            root: self.dir.clone(),
            capacity: if which == Which::Storm { self.args.capacity } else { failover::CAPACITY },
            payload: if which == Which::Storm { self.args.payload } else { (64, 64) },
            rate: if which == Which::Storm { self.args.kill_rate } else { 0.0 },
            // The timed channel has what channels have unless told otherwise; in the storm some have and most have not.
            beats: which != Which::Storm || id.is_multiple_of(5),
            full_share: if self.hunter.rare_left() { FULL_SHARE.0 } else { FULL_SHARE.1 },
        }
    }

    fn request<'b>(&'b self, words: &'b [OsString], more: &[BorrowedFd<'b>]) -> Request<'b> {
        let mut fds = vec![self.ledger.as_fd(), self.control.as_fd(), self.notes.as_fd()];
        fds.extend_from_slice(more);
        Request { args: words.iter().map(OsString::as_os_str).collect(), fds }
    }

    /// Starts a process and waits for it. Standing members are traced (on the storm's channel) and replaced when they die.
    fn spawn(&mut self, role: Role, which: Which, place: u32, standing: bool) -> Result<i32, Fault> {
        let number = Nursery::cot_of(role, which);
        self.deliver_from(number, true)?;
        let birth = Birth { role, which, place };
        let id = self.next_id();
        let words = self.orders(birth, id).to_words();
        // Some the long way, as services start.
        let exec = !standing && id.is_multiple_of(16);
        let request = self.request(&words, &[]);
        let template = self.nursery.template(number);
        let spawned = if exec { template.spawn_exec(&request)? } else { template.spawn(&request)? };
        self.born(birth, id, spawned.pid, spawned.gate, standing)?;
        Ok(spawned.pid)
    }

    /// Takes a process that waits behind its gate among the members.
    fn born(&mut self, birth: Birth, id: u32, pid: i32, gate: Gate, standing: bool) -> Result<(), Fault> {
        let Birth { role, which, place } = birth;
        let mut entry = Entry::new(Kind::Started, which as u8, id);
        entry.code = role as u32;
        self.pen.write([entry]);
        let reads = matches!(role, Role::Durable | Role::Ephemeral);
        let writes = matches!(role, Role::Standby | Role::Claimant);
        let storm = which == Which::Storm;
        let spared = reads && storm && standing && self.args.readers > 2 && place == self.args.readers - 1;
        if spared {
            self.watch.witness(pid);
        }
        self.members.insert(pid, Member { id, role, which, place, standing, spared, cause: None, killed: 0 });
        if standing && storm {
            self.hunter.adopt(pid, writes)?;
            if writes && self.args.kill_rate > 0.0 && !self.ending && self.dice.random_bool(STANDBY_SHARE) {
                self.hunter.begin(pid, Operation::Succeed)?;
            }
        }
        gate.open();
        Ok(())
    }

    /// Kills `pid`, unless it is dying already or to be spared.
    fn kill(&mut self, pid: i32, cause: Cause) {
        let Some(member) = self.members.get_mut(&pid).filter(|member| member.cause.is_none()) else { return };
        if member.spared && cause != Cause::End {
            return;
        }
        member.killed = now();
        if self.hunter.tracer.kill(pid).is_ok() {
            member.cause = Some(cause);
        }
    }

    fn over(&self, stop: &Stop) -> bool {
        stop.asked()
            || self.too_large.is_some()
            || self.args.duration.is_some_and(|limit| self.started.elapsed() >= limit)
            || self.args.max_kills.is_some_and(|limit| self.kills.total() >= limit)
            || (self.args.max_faults.is_some() && self.range.as_ref().is_some_and(Range::is_done))
    }

    /// One more point of the figures over time.
    fn sample(&mut self) {
        let counts = self.bench.counts();
        self.series.add(Point {
            t: self.started.elapsed().as_secs_f64(),
            kills: self.kills.total(),
            acknowledged: counts.acknowledged,
            delivered: counts.delivered,
            faults: self.range.as_ref().map_or(0, |range| range.score().landed()),
            recovery: self.bench.recent_recovery(),
        });
    }

    /// What the range has found; whether the files get too large.
    fn look_around(&mut self, at: Instant) {
        if let Some(what) = self.range.as_ref().and_then(Range::stuck).filter(|_| self.bench.violated() == 0) {
            self.bench.flag(Broken::Hang, &what);
        }
        for finding in self.range.as_ref().map(Range::findings).unwrap_or_default() {
            let path = self.root.join(format!("violation-{}.json", finding.trial.number));
            let document = finding::document(&finding, self.seed, self.args.plant, &path);
            match finding::write(&path, &document) {
                Ok(()) => self.files.push(path),
                Err(error) => self.bench.flag(Broken::Failed, &format!("a violation could not be written: {error}")),
            }
            for (broken, what) in &finding.result.broken {
                self.bench.flag(*broken, &format!("trial {}: {what}", finding.trial.number));
            }
        }
        if at >= self.space_at {
            self.space_at = at + Duration::from_secs(1);
            let used = crate::space::used(&self.root);
            if used > self.args.space_limit && self.too_large.is_none() {
                self.too_large = Some(used);
            }
        }
    }

    /// Lets the range come to its end, while the storm goes on.
    fn end_range(&mut self) -> Result<(), Fault> {
        let Some(mut range) = self.range.take() else { return Ok(()) };
        range.ask_to_stop();
        while !range.is_done() && range.stuck().is_none() {
            self.turn()?;
            self.fire(Instant::now());
            self.want_late(Instant::now())?;
            self.let_go(Instant::now())?;
        }
        let error = range.finish();
        self.range = Some(range);
        self.look_around(Instant::now());
        error.map_or(Ok(()), |error| Err(format!("the range failed: {error}").into()))
    }

    fn storm(&mut self, stop: &Stop, display: &mut Display, report: &Report) -> Result<(), Fault> {
        let (mut reported, mut looked) = (Instant::now(), Instant::now());
        self.watch.look_at_locks(true);
        while !self.over(stop) && self.bench.violated() == 0 {
            self.turn()?;
            let at = Instant::now();
            self.fire(at);
            self.want_late(at)?;
            self.let_go(at)?;
            if self.args.kill_rate > 0.0 {
                self.young(at)?;
                self.readers(at)?;
                self.quiet_turn(at)?;
            }
            // What is timed is not to share its cores with us: whatever can wait, waits.
            if looked.elapsed() >= LOOK_EVERY && !self.quiet.is_quiet() {
                looked = Instant::now();
                if let Some(what) = self.watch.look(at, &self.bench.progress(), &self.pids()) {
                    self.bench.flag(Broken::Hang, &what);
                }
                for what in self.watch.double_owners() {
                    self.bench.flag(Broken::Owners, &what);
                }
                self.look_around(at);
            }
            display.show(|| self.line());
            if reported.elapsed() >= Duration::from_secs(1) && !self.quiet.is_quiet() {
                reported = Instant::now();
                self.sample();
                let _ = report.write(&report.document(self.body("running")));
            }
        }
        Ok(())
    }

    /// Waits for events, a little, and deals with them.
    fn turn(&mut self) -> Result<(), Fault> {
        let mut wait = if self.nursery.expects() { BIRTH_POLL } else { Duration::from_millis(2) };
        for _ in 0..64 {
            self.deliver(false)?;
            match self.hunter.next(wait)? {
                None => break,
                Some(outcome) => self.happened(outcome)?,
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn happened(&mut self, outcome: Outcome) -> Result<(), Fault> {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Armed => {
                let time = Duration::from_micros(self.dice.random_range(HOLD_ON));
                worker::hold_on(&self.control, time)?;
            }
            Outcome::Over => worker::hold_on(&self.control, Duration::ZERO)?,
            Outcome::Brink { tid } => {
                worker::hold_on(&self.control, Duration::ZERO)?;
                self.held.push(Held { tid, until: Instant::now() + ROOM, guest: None });
            }
            Outcome::Doomed { pid, tid, full } => {
                if !self.ending {
                    // From here on it goes by steps and traps, in turn with us: quickest on our own core.
                    let _ = affinity::pin(tid, &self.mine);
                }
                // A reader that dies while the ring is full stands in the way until the push finds out that it is dead.
                let wanted = full && !self.ending && {
                    let share = if self.hunter.has_left(Operation::PushPastDead) { DEAD_SHARE.0 } else { DEAD_SHARE.1 };
                    self.dice.random_bool(share)
                };
                let dead = if wanted { self.kill_a_guest() } else { None };
                if !self.ending {
                    let operation = match (full, dead.is_some()) {
                        (true, true) => Operation::PushPastDead,
                        (true, false) => Operation::PushFull,
                        _ => Operation::Push,
                    };
                    self.hunter.begin(pid, operation)?;
                }
                if full && !self.hunter.hunts_rarely(pid) {
                    worker::hold_on(&self.control, Duration::ZERO)?;
                }
                if let Some(guest) = dead {
                    // The others read on meanwhile, so that nobody but the dead one is in the way.
                    worker::hold_on(&self.control, Duration::ZERO)?;
                    let (until, latest) = (Instant::now() + GUEST_DEATH, Instant::now() + GUEST_GONE);
                    self.held.push(Held { tid, until, guest: Some((guest, latest)) });
                } else {
                    self.hunter.proceed(tid)?;
                }
            }
            Outcome::Killed { pid, operation, ns } => {
                if let Some(member) = self.members.get_mut(&pid) {
                    member.killed = ns;
                    member.cause = Some(match operation {
                        push if push.is_push() => Cause::MidPush,
                        Operation::Receive => Cause::MidReceive,
                        _ => Cause::Standby,
                    });
                    if operation == Operation::Succeed {
                        self.kills.mid_succession += 1;
                    }
                }
                if operation.is_push() {
                    worker::hold_on(&self.control, Duration::ZERO)?;
                    self.examine(pid);
                    if self.dice.random_bool(0.04) {
                        self.doom_a_standby();
                    }
                }
            }
            Outcome::Ended(event) => self.ended(event)?,
        }
        Ok(())
    }

    /// A writer is dying: what will it leave?
    fn examine(&mut self, pid: i32) {
        if !self.kills.mid_push.is_multiple_of(EXAMINE_EVERY) {
            return;
        }
        let storm = &self.bench.progress()[Which::Storm as usize];
        if self.members.get(&pid).is_some_and(|member| member.id == storm.writer) {
            self.examiner.take(storm.generation);
        }
    }

    /// A writer has died: some standby is to follow it soon, somewhere in the succession.
    fn doom_a_standby(&mut self) {
        let standbys: Vec<i32> = self
            .members
            .iter()
            .filter(|(_, m)| m.role == Role::Standby && m.which == Which::Storm && m.standing && m.cause.is_none())
            .map(|(pid, _)| *pid)
            .collect();
        if standbys.is_empty() {
            return;
        }
        let victim = standbys[self.dice.random_range(0..standbys.len())];
        let delay = Duration::from_micros(self.dice.random_range(0..1500));
        self.due.push((Instant::now() + delay, victim, Cause::Standby));
    }

    fn ended(&mut self, event: Event) -> Result<(), Fault> {
        let pid = event.pid();
        let Some(member) = self.members.remove(&pid) else {
            if self.nursery.is_template(pid) {
                return Err(format!("a template died: {event:?}").into());
            }
            return Ok(());
        };
        self.watch.gone(pid);
        let mut entry = Entry::new(Kind::Died, member.which as u8, member.id);
        entry.ns = 0;
        match (event, member.cause) {
            (Event::Signaled { sig: 9, .. }, Some(cause)) => {
                entry.ns = member.killed;
                match cause {
                    Cause::MidPush => self.kills.mid_push += 1,
                    Cause::MidReceive => self.kills.mid_recv += 1,
                    Cause::Reader => self.kills.reader += 1,
                    Cause::Standby => self.kills.standby += 1,
                    Cause::Startup => self.kills.startup += 1,
                    Cause::Failover => self.kills.failover += 1,
                    Cause::Floor | Cause::End => {}
                }
            }
            (Event::Exited { code: EXIT_HOME | EXIT_FAILED, .. }, _) => {}
            (event, _) => {
                let what = format!("worker {} ({:?}) ended with {event:?}", member.id, member.role);
                self.bench.flag(Broken::Failed, &what);
            }
        }
        self.pen.write([entry]);
        let storm = member.which == Which::Storm;
        let struck = member.cause.is_some_and(|cause| !matches!(cause, Cause::End));
        self.closed |= storm && self.ending && member.role == Role::Standby && !struck;
        // Whoever was struck just before the end still has something to do then, if nobody else is left to do it: a durable
        // reader to drain, a writer to close.
        let heir = storm
            && struck
            && match member.role {
                Role::Durable => true,
                Role::Standby => !self.closed && !self.nursery.expects_writer() && !self.anyone_writes(),
                _ => false,
            };
        if member.standing && (!self.ending || heir) {
            match member.role {
                Role::Ephemeral if member.which == Which::Storm && Instant::now() < self.guests_from => {
                    self.guests.push(member.place);
                }
                // As services do, not at the moment that the take-over is timed in.
                role if member.which == Which::Failover => {
                    let birth = Birth { role, which: member.which, place: member.place };
                    self.late.push_back((Instant::now() + failover::RESTART, birth));
                }
                role => self.want(role, member.which, member.place)?,
            }
        }
        Ok(())
    }

    /// Whether the storm has a writer or a standby that is not dying.
    fn anyone_writes(&self) -> bool {
        let writes = |m: &Member| m.role == Role::Standby && m.which == Which::Storm && m.standing && m.cause.is_none();
        self.members.values().any(writes)
    }

    /// Kills an ephemeral reader, if there is one to kill.
    fn kill_a_guest(&mut self) -> Option<i32> {
        let guest = self.members.iter().find(|(_, m)| {
            m.role == Role::Ephemeral && m.which == Which::Storm && m.standing && !m.spared && m.cause.is_none()
        });
        let pid = guest.map(|(pid, _)| *pid)?;
        self.kill(pid, Cause::Reader);
        self.guests_from = Instant::now() + GUEST_GONE + COME_BY;
        Some(pid)
    }

    /// Lets go of writers that were held back.
    fn let_go(&mut self, at: Instant) -> Result<(), Fault> {
        let mut held = std::mem::take(&mut self.held);
        let mut done = Ok(());
        held.retain(|held| {
            let here = held.guest.filter(|(guest, latest)| self.members.contains_key(guest) && *latest > at);
            let due = (held.until <= at && here.is_none()) || self.ending;
            if due && done.is_ok() {
                done = self.hunter.proceed(held.tid);
            }
            if due && held.guest.is_some() {
                self.guests_from = at + COME_BY;
            }
            !due
        });
        self.held = held;
        if at >= self.guests_from && !self.ending {
            for place in std::mem::take(&mut self.guests) {
                self.want(reader_at(place), Which::Storm, place)?;
            }
        }
        Ok(done?)
    }

    /// Kills whoever is due.
    fn fire(&mut self, at: Instant) {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|&(when, pid, cause)| {
            if when <= at {
                self.kill(pid, cause);
            }
            when > at
        });
        self.due = due;
    }

    /// Processes that die within 12 ms of their start.
    fn young(&mut self, at: Instant) -> Result<(), Fault> {
        if at < self.young_at || self.quiet.is_quiet() {
            return Ok(());
        }
        self.young_at = at + YOUNG_EVERY;
        self.young += 1;
        let role = [Role::Standby, Role::Ephemeral, Role::Claimant][self.dice.random_range(0..3)];
        if role == Role::Ephemeral && at < self.guests_from {
            return Ok(()); // it would take the place of one whom a push is to find dead
        }
        let pid = self.spawn(role, Which::Storm, YOUNG_PLACE, false)?;
        let age = Duration::from_micros(self.dice.random_range(0..=YOUNG_DEATH.as_micros() as u64));
        self.due.push((Instant::now() + age, pid, Cause::Startup));
        Ok(())
    }

    /// Readers that die, mostly inside a receive.
    fn readers(&mut self, at: Instant) -> Result<(), Fault> {
        if at < self.reader_at || self.quiet.is_quiet() {
            return Ok(());
        }
        self.reader_at = at + READER_EVERY.mul_f64(self.dice.random_range(0.2..1.8));
        let mut readers: Vec<i32> = self
            .members
            .iter()
            .filter(|(pid, m)| {
                matches!(m.role, Role::Durable | Role::Ephemeral)
                    && m.which == Which::Storm
                    && m.standing
                    && !m.spared
                    && m.cause.is_none()
                    && !self.hunter.hunts(**pid)
            })
            .map(|(pid, _)| *pid)
            .collect();
        readers.sort_unstable();
        if readers.is_empty() {
            return Ok(());
        }
        let victim = readers[self.dice.random_range(0..readers.len())];
        if self.dice.random_bool(0.2) {
            self.kill(victim, Cause::Reader);
        } else {
            self.hunter.begin(victim, Operation::Receive)?;
        }
        Ok(())
    }

    fn tell(&self, which: Which, what: u8) -> std::io::Result<()> {
        self.control.write_all_at(&[what], which as u64)
    }

    /// Quiet times, in which take-overs and the floor are timed.
    fn quiet_turn(&mut self, at: Instant) -> Result<(), Fault> {
        if self.sample.as_ref().is_some_and(|sample| sample.ripe <= at)
            && let Some(sample) = self.sample.take()
        {
            self.end_sample(sample);
        }
        match self.quiet.turn(at) {
            Turn::Storm | Turn::Wait => {}
            Turn::Begin => {
                self.watch.look_at_locks(false);
                self.tell(Which::Storm, worker::PAUSE)?;
                self.tell(Which::Failover, worker::RUN)?;
            }
            Turn::End => {
                self.tell(Which::Failover, worker::PAUSE)?;
                self.tell(Which::Storm, worker::RUN)?;
                self.watch.look_at_locks(true);
            }
            Turn::Kill => {
                let writer = self.bench.progress()[Which::Failover as usize].writer;
                if writer != self.quiet.killed {
                    let found = self.members.iter().find(|(_, m)| m.id == writer).map(|(pid, _)| *pid);
                    if let Some(pid) = found {
                        self.quiet.killed = writer;
                        self.kill(pid, Cause::Failover);
                    }
                }
            }
            // One at a time, however late we are: who lets go of a gate that was not opened ends who waits behind it.
            Turn::Floor if self.sample.is_some() => {}
            Turn::Floor => self.begin_sample()?,
        }
        Ok(())
    }

    fn begin_sample(&mut self) -> Result<(), Fault> {
        let (held, other) = floor::lock_file(&self.dir)?;
        let id = self.next_id;
        self.next_id += 2;
        let member = |id| Member {
            id,
            role: Role::Parked,
            which: Which::Failover,
            place: 0,
            standing: false,
            spared: false,
            cause: None,
            killed: 0,
        };
        self.deliver_from(TIMED, true)?;
        let holder = self.nursery.template(TIMED).spawn(&Request { args: vec![], fds: vec![held.as_fd()] })?;
        drop(held);
        self.members.insert(holder.pid, member(id));
        let orders = Orders {
            role: Role::Parked,
            which: Which::Failover,
            id: id + 1,
            place: 0,
            seed: 0,
            root: self.dir.clone(),
            capacity: 0,
            payload: (0, 0),
            rate: 0.0,
            beats: false,
            full_share: 0.0,
        };
        let words = orders.to_words();
        let request = self.request(&words, &[other.as_fd()]);
        let waiter = self.nursery.template(TIMED).spawn(&request)?;
        self.members.insert(waiter.pid, member(id + 1));
        waiter.gate.open();
        let ripe = Instant::now() + floor::PARK;
        self.sample = Some(floor::Sample { holder: holder.pid, waiter: waiter.pid, ripe, gate: holder.gate });
        Ok(())
    }

    fn end_sample(&mut self, sample: floor::Sample) {
        let waiter = self.members.get(&sample.waiter).map_or(0, |member| member.id);
        self.kill(sample.holder, Cause::Floor);
        let killed = self.members.get(&sample.holder).map_or(0, |member| member.killed);
        drop(sample.gate);
        if waiter != 0 && killed != 0 {
            self.bench.floor_begins(waiter, killed);
        }
    }

    fn pids(&self) -> Vec<(u32, i32)> {
        self.members.iter().map(|(pid, member)| (member.id, *pid)).collect()
    }

    /// Ends in order: nobody is killed any more, the writers close, everybody drains and goes home.
    fn end(&mut self, stop: &Stop) -> Result<(), Fault> {
        self.end_range()?;
        self.ending = true;
        self.due.clear();
        self.watch.before_the_end();
        self.hunter.call_off()?;
        if let Some(sample) = self.sample.take() {
            self.end_sample(sample);
        }
        for which in Which::ALL {
            self.tell(which, worker::CLOSE)?;
        }
        let deadline = Instant::now() + END_LIMIT;
        while (self.nursery.expects() || !self.members.is_empty()) && Instant::now() < deadline {
            self.let_go(Instant::now())?;
            self.turn()?;
            if stop.asked() && self.bench.violated() > 0 {
                break;
            }
        }
        if self.nursery.expects() {
            self.bench.flag(Broken::Failed, "a process that was asked for never came");
        }
        if !self.members.is_empty() {
            let who: Vec<String> = self
                .members
                .iter()
                .map(|(pid, m)| format!("{} {:?} {:?}", m.id, m.role, m.which) + &crate::watch::stack(*pid))
                .collect();
            self.bench.flag(Broken::Hang, &format!("did not come to an end: {}", who.join("; ")));
            self.nursery.want_nobody();
            self.deliver(true)?;
            for pid in self.members.keys().copied().collect::<Vec<_>>() {
                self.kill(pid, Cause::End);
            }
            let deadline = Instant::now() + END_LIMIT;
            while !self.members.is_empty() && Instant::now() < deadline {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Everybody has gone home: is everything accounted for, and nothing left over?
    fn conclude(&mut self) -> Verdict {
        let none = OwnedFd::from(File::open("/dev/null").unwrap_or_else(|_| self.notes.try_clone().expect("a file")));
        self.pen = Pen::new(none);
        if let Ok(null) = File::open("/dev/null") {
            self.ledger = null.into();
        }
        self.examiner.finish();
        self.bench.finish();
        if self.bench.violated() == 0 {
            for what in self.left_over() {
                self.bench.flag(Broken::Leak, &what);
            }
            for what in self.watch.grown() {
                self.bench.flag(Broken::Leak, &what);
            }
        }
        if self.bench.violated() > 0 {
            Verdict::Violation
        } else if self.tried_nothing() {
            Verdict::Inconclusive
        } else {
            Verdict::Held
        }
    }

    /// Nothing was tried, or nothing of what was asked for.
    fn tried_nothing(&self) -> bool {
        let landed = self.range.as_ref().map(|range| range.score().landed());
        self.too_large.is_some() || self.bench.counts().delivered == 0 || landed.unwrap_or(self.kills.mid_push) == 0
    }

    /// Forgets the durable readers, lets a watchdog have one look, and says what is still there.
    fn left_over(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        let namespace = match namespace::open(&self.dir) {
            Ok(namespace) => namespace,
            Err(error) => return vec![format!("the namespace can't be opened: {error}")],
        };
        for which in Which::ALL {
            let Ok(channel) = namespace::channel(&namespace, which, self.args.capacity, false) else { continue };
            let places = if which == Which::Storm { self.args.readers } else { 1 };
            for place in (0..places).step_by(2) {
                if let Err(error) = channel.forget_reader(&format!("durable-{place}")) {
                    left.push(format!("channel {}: durable-{place} can't be forgotten: {error}", which.name()));
                }
            }
        }
        self.sweep = crate::watch::sweep(&namespace, &mut left);
        left
    }

    fn line(&self) -> String {
        let (hit, of, ..) = self.hunter.coverage(Operation::Push);
        let counts = self.bench.counts();
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{seconds:6.1} s  {} kills in pushes ({:.0}/s), {} in receives, {} standbys, {} young  |  push {hit}/{of}  |  \
             {} acknowledged, {} delivered, {} again  |  violations {}",
            self.kills.mid_push,
            self.kills.mid_push as f64 / seconds.max(0.001),
            self.kills.mid_recv,
            self.kills.standby,
            self.kills.startup,
            counts.acknowledged,
            counts.delivered,
            counts.redelivered,
            self.bench.violated()
        )
    }

    /// What the figures don't show by themselves.
    fn warnings(&self) -> Vec<String> {
        let rare = [(Operation::PushFull, "into a full ring"), (Operation::PushPastDead, "past a dead reader")];
        let unseen = rare.into_iter().filter(|(operation, _)| self.hunter.known(*operation).1 == 0);
        let skipped = self.range.as_ref().map(|range| range.score().skipped()).unwrap_or_default();
        unseen
            .map(|(_, what)| {
                format!("no push {what} was traced: kill_sites.of lacks what only such a push executes; run for longer")
            })
            .chain(skipped)
            .chain(self.hunter.untold().into_iter().map(|name| {
                format!("{name} is no function of its own in this program: varieties of push are told apart less well")
            }))
            .chain(self.watch.stolen().filter(|percent| *percent >= STOLEN).map(|percent| {
                format!("a host gave {percent} % of the processors' time to others: times, above all long ones, are the host's too")
            }))
            .chain(self.too_large.map(|used| {
                let limit = self.args.space_limit;
                format!("ended early: the run's files took {used} bytes, --space-limit is {limit}")
            }))
            .collect()
    }

    fn body(&self, verdict: &str) -> Value {
        let elapsed = self.started.elapsed().as_secs_f64();
        let sites = |operation| {
            let (hit, of, traced) = self.hunter.coverage(operation);
            json!({ "hit": hit, "of": of, "traced_calls": traced })
        };
        let traces = |operation| {
            let (traced, own_way, cut) = self.hunter.known(operation);
            json!({ "traced": traced, "own_way": own_way, "cut": cut })
        };
        let [recovery, election, traced, floor] = self.bench.timings();
        let violations: Vec<Value> = self.bench.violations().iter().map(|violation| violation.to_json()).collect();
        let count = |broken: Broken| self.bench.violations().iter().filter(|v| v.broken == broken).count();
        json!({
            "verdict": verdict,
            "elapsed_s": (elapsed * 1000.0).round() / 1000.0,
            "cycles_per_s": (self.bench.counts().terms as f64 / elapsed.max(0.001) * 10.0).round() / 10.0,
            "kills": self.kills.to_json(),
            "kill_sites": sites(Operation::Push),
            "push_traces": {
                "plain": traces(Operation::Push),
                "full_ring": traces(Operation::PushFull),
                "past_dead_reader": traces(Operation::PushPastDead),
            },
            "warnings": self.warnings(),
            "receive_sites": sites(Operation::Receive),
            "succession_sites": sites(Operation::Succeed),
            "records": self.bench.counts().to_json(),
            "generations": self.bench.progress()[0].generation,
            "hangs": count(Broken::Hang),
            "leaks": count(Broken::Leak),
            "violations": violations,
            "recovery_us": recovery.to_json(),
            "election_us": election.to_json(),
            "recovery_in_storm_us": traced.to_json_in_full(),
            "floor_us": floor.to_json(),
            "tracing_s": (self.hunter.tracing().as_secs_f64() * 100.0).round() / 100.0,
            "resumed": self.before.map(Before::to_json),
            "series": self.series.to_json(),
            "faults": self.range.as_ref().map(|range| range.score().to_json()),
            "images": self.examiner.to_json(),
            "sweep": self.sweep,
            "runner": self.watch.to_json(),
        })
    }

    fn summary(&self, document: &Value) -> String {
        let of = |key: &str| document[key].to_string();
        let warnings: String = self.warnings().iter().map(|warning| format!("warning: {warning}\n")).collect();
        let faults = self.range.as_ref().map_or(String::new(), |range| range.score().line() + "\n");
        format!(
            "{warnings}{faults}kills {}\nkill sites {}\nrecords {}\nrecovery (µs) {}\nfloor (µs) {}\nviolations {}",
            of("kills"),
            of("kill_sites"),
            of("records"),
            of("recovery_us"),
            of("floor_us"),
            serde_json::to_string_pretty(&document["violations"]).unwrap_or_default()
        )
    }

    fn notes_tail(&self) -> String {
        let len = self.notes.metadata().map_or(0, |meta| meta.len());
        let from = len.saturating_sub(64 << 10);
        let mut bytes = vec![0; (len - from) as usize];
        let _ = self.notes.read_exact_at(&mut bytes, from);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
