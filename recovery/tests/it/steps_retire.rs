//! Two watchdogs that reclaim, a writer that starts, a durable reader that joins: over a channel whose writer is dead.
//!
//! The steps are those of `Watchdog::tick` and `retire`, `Channel::claim`, `succession::birth` and the ring's join. A watchdog may die or
//! be stopped for ever after any of them, holding what it holds; the reader may die.

use crate::steps::{Explored, Move, World, explore};

/// A precaution that can be taken out of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guard {
    /// A watchdog takes byte 0 before it retires.
    ByteZero,
    /// And every reader's byte.
    ReaderBytes,
    /// And looks at the table only then.
    TableUnderLocks,
    /// That nobody follows is decided by swap, in the word that names who follows.
    SuccessorDecided,
    /// A starter goes on without the presence byte.
    PresenceIsNoGate,
    /// Whoever meets a decided retirement finishes it.
    AnybodyFinishes,
    /// Names are unlinked in the directory that was opened, whatever bears the channel's name by now.
    OwnDirectory,
    /// A joiner looks at state and successor word once its slot can be seen.
    JoinerLooksAgain,
}

const NONE: u8 = u8::MAX;
const NOBODY: u8 = u8::MAX - 1;
const NAMES: usize = 4;
const DIRS: usize = 5;
const FILES: usize = 8;
const PROCS: usize = 4;
const WATCHDOGS: [usize; 2] = [0, 1];
const STARTER: usize = 2;
const READER: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Candidate,
    Open,
    Fencing,
    Succeeded,
    Retired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct File {
    dir: u8,
    number: u8,
    state: State,
    successor: u8,
    /// Who holds byte 0, the readers' bytes, the presence byte exclusively.
    writer: u8,
    readers: u8,
    presence: u8,
    /// The starter holds the presence byte shared.
    visited: bool,
    /// The durable reader's place: there, or being taken.
    place: bool,
    provisional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Gone,
    Done,
    Stopped,
    Opens,
    Lists(u8),
    Settles(u8),
    HelpsFirst(u8),
    HelpsAgain(u8),
    HelpsName(u8, u8),
    HelpsOpen(u8),
    Compares(u8, bool),
    Unlinks(u8, bool),
    ComparesDir(u8),
    RemovesDir(u8),
    // The watchdog.
    Weighs(u8),
    LocksPresence(u8),
    LocksWriter(u8),
    LocksReaders(u8),
    Tables(u8),
    ListsAgain(u8),
    Decides(u8),
    Stores(u8),
    // The starter.
    Births(u8),
    Visits(u8),
    Probes(u8),
    Waits(u8),
    Fences(u8),
    Links(u8),
    Confirms(u8, u8),
    OpensOwn(u8, u8),
    Withdraws(u8),
    Tells(u8, u8),
    Writes(u8),
    // The reader.
    Locks(u8),
    Provisional(u8),
    Samples(u8),
    Activates(u8),
    Joined(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Channel {
    /// The directory that has the channel's name.
    named: u8,
    dirs: [Option<[u8; NAMES]>; DIRS],
    /// Directories that were removed.
    removed: [bool; DIRS],
    files: [Option<File>; FILES],
    at: [At; PROCS],
    looks: [u8; PROCS],
    /// Faults that may still strike: a death or a stop.
    faults: u8,
    without: Option<Guard>,
}

type Step = Result<Channel, String>;

impl Channel {
    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn file(&self, id: u8) -> &File {
        self.files[id as usize].as_ref().expect("a file")
    }

    fn change(&mut self, id: u8) -> &mut File {
        self.files[id as usize].as_mut().expect("a file")
    }

    fn names(&self, dir: u8) -> &[u8; NAMES] {
        self.dirs[dir as usize].as_ref().expect("a directory")
    }

    fn newest(&self, dir: u8) -> Option<u8> {
        self.names(dir).iter().rev().copied().find(|id| *id != NONE)
    }

    fn make(&mut self, dir: u8, number: u8, state: State, who: usize) -> Result<u8, String> {
        let Some(id) = self.files.iter().position(Option::is_none) else { return Err("model: too few files".into()) };
        let Some(name) = self.dirs[dir as usize].as_mut().and_then(|names| names.get_mut(number as usize)) else {
            return Err("model: too few names".into());
        };
        *name = id as u8;
        self.files[id] = Some(File {
            dir,
            number,
            state,
            successor: NONE,
            writer: who as u8,
            readers: NONE,
            presence: NONE,
            visited: false,
            place: false,
            provisional: false,
        });
        Ok(id as u8)
    }

    fn open(&mut self, id: u8) -> Result<(), String> {
        let file = *self.file(id);
        if file.state != State::Candidate {
            return Ok(());
        }
        self.change(id).state = State::Open;
        let bears = self.names(file.dir)[file.number as usize] == id && self.named == file.dir;
        if bears { Ok(()) } else { Err(format!("generation {} is opened, and has no name", file.number)) }
    }

    /// Whoever reaches the end of its errand.
    fn ends(&mut self, who: usize) -> At {
        self.unlock(who as u8);
        if WATCHDOGS.contains(&who) {
            self.looks[who] -= 1;
            return if self.looks[who] == 0 { At::Done } else { At::Opens };
        }
        At::Opens
    }

    fn unlock(&mut self, who: u8) {
        for file in self.files.iter_mut().flatten() {
            for holder in [&mut file.writer, &mut file.readers, &mut file.presence] {
                if *holder == who {
                    *holder = NONE;
                }
            }
            if who == STARTER as u8 {
                file.visited = false;
            }
        }
    }

    fn stopped(&self, who: u8) -> bool {
        self.at.get(who as usize) == Some(&At::Stopped)
    }

    #[expect(clippy::too_many_lines, reason = "one step a line, in their order")]
    fn advance(&self, who: usize) -> Option<(&'static str, Step)> {
        let me = who as u8;
        let watchdog = WATCHDOGS.contains(&who);
        let mut world = *self;
        let mut done: Result<(), String> = Ok(());
        let (what, to) = match self.at[who] {
            At::Gone | At::Done | At::Stopped | At::Writes(_) | At::Joined(_) => return None,
            At::Opens => match self.named {
                NONE if who == STARTER => {
                    let Some(dir) = self.dirs.iter().position(Option::is_none) else {
                        return Some(("is born", Err("model: too few directories".into())));
                    };
                    world.dirs[dir] = Some([NONE; NAMES]);
                    done = world.make(dir as u8, 1, State::Open, who).map(|_| ());
                    ("builds a channel of its own", At::Births(dir as u8))
                }
                NONE if watchdog => ("finds no channel", world.ends(who)),
                NONE => return None,
                dir => ("opens the directory", At::Lists(dir)),
            },
            At::Births(dir) => {
                let id = self.names(dir)[1];
                if self.named == NONE {
                    world.named = dir;
                    ("gives it the name", At::Writes(id))
                } else {
                    world.removed[dir as usize] = true;
                    ("finds the name taken", world.ends(who))
                }
            }
            At::Lists(dir) => match self.newest(dir) {
                Some(id) => ("attaches the newest", At::Settles(id)),
                None => ("finds it empty", At::ComparesDir(dir)),
            },
            At::Settles(id) => {
                let file = self.file(id);
                let to = match file.state {
                    State::Retired => At::Compares(id, false),
                    State::Candidate => At::HelpsFirst(id),
                    _ if file.successor == NOBODY && !self.has(Guard::AnybodyFinishes) => return None,
                    _ if file.successor == NOBODY => At::Compares(id, true),
                    _ if watchdog => At::Weighs(id),
                    _ if who == STARTER => At::Visits(id),
                    _ => At::Locks(id),
                };
                ("settles what it met", to)
            }
            At::HelpsFirst(id) => match self.names(self.file(id).dir)[self.file(id).number as usize - 1] {
                NONE => ("finds no predecessor", At::HelpsAgain(id)),
                before => ("finds the predecessor", At::HelpsName(before, id)),
            },
            At::HelpsAgain(id) => match self.file(id).state {
                State::Candidate => ("still a candidate", At::Compares(id, false)),
                _ => ("no candidate any more", world.ends(who)),
            },
            At::HelpsName(before, id) => {
                let word = &mut world.change(before).successor;
                if *word == NONE {
                    *word = id;
                }
                let named = *word == id;
                ("decides the successor word", if named { At::HelpsOpen(id) } else { world.ends(who) })
            }
            At::HelpsOpen(id) => {
                done = world.open(id);
                ("opens the candidate", world.ends(who))
            }
            At::Compares(id, all) => {
                let file = self.file(id);
                let to = match self.names(file.dir)[file.number as usize] == id {
                    true => At::Unlinks(id, all),
                    false if all => At::ComparesDir(file.dir),
                    false => world.ends(who),
                };
                ("compares name and file", to)
            }
            At::Unlinks(id, all) => {
                let file = *self.file(id);
                let dir = if self.has(Guard::OwnDirectory) { file.dir } else { self.named };
                if let Some(names) = world.dirs.get_mut(dir as usize).and_then(Option::as_mut) {
                    let lost = std::mem::replace(&mut names[file.number as usize], NONE);
                    let used = lost != NONE && self.at.contains(&At::Writes(lost));
                    let followed = lost != NONE && self.file(lost).successor < NOBODY;
                    if used && !followed {
                        done = Err("a generation that is written is unlinked".into());
                    }
                }
                ("unlinks", if all { At::ComparesDir(file.dir) } else { world.ends(who) })
            }
            At::ComparesDir(dir) => match self.named == dir {
                true => ("compares name and directory", At::RemovesDir(dir)),
                false => ("compares name and directory", world.ends(who)),
            },
            At::RemovesDir(_) => {
                // `rmdir` takes whatever has the name by now, if it is empty.
                if self.named != NONE && self.newest(self.named).is_none() {
                    world.removed[self.named as usize] = true;
                    world.named = NONE;
                }
                ("removes the directory", world.ends(who))
            }
            At::Weighs(id) => {
                let file = self.file(id);
                let somebody = (file.writer != NONE && self.has(Guard::ByteZero)) || file.place || file.visited;
                let somebody = somebody || file.readers != NONE || file.presence != NONE;
                ("weighs", if somebody { world.ends(who) } else { At::LocksPresence(id) })
            }
            At::LocksPresence(id) => {
                let free = self.file(id).presence == NONE && !self.file(id).visited;
                if free {
                    world.change(id).presence = me;
                }
                ("locks the presence byte", if free { At::LocksWriter(id) } else { world.ends(who) })
            }
            At::LocksWriter(id) => {
                let free = self.file(id).writer == NONE;
                if free {
                    world.change(id).writer = me;
                }
                let on = free || !self.has(Guard::ByteZero);
                ("locks byte 0", if on { At::LocksReaders(id) } else { world.ends(who) })
            }
            At::LocksReaders(id) => {
                let free = self.file(id).readers == NONE;
                if free && self.has(Guard::ReaderBytes) {
                    world.change(id).readers = me;
                }
                let on = free || !self.has(Guard::ReaderBytes);
                ("locks the readers' bytes", if on { At::Tables(id) } else { world.ends(who) })
            }
            At::Tables(id) => {
                let empty = !self.file(id).place || !self.has(Guard::TableUnderLocks);
                ("looks at the table", if empty { At::ListsAgain(id) } else { world.ends(who) })
            }
            At::ListsAgain(id) => {
                let dir = self.file(id).dir;
                let only = self.names(dir).iter().all(|name| [NONE, id].contains(name)) && self.newest(dir) == Some(id);
                ("lists again", if only { At::Decides(id) } else { world.ends(who) })
            }
            At::Decides(id) => {
                let word = &mut world.change(id).successor;
                let swapped = self.has(Guard::SuccessorDecided);
                let ours = *word == NONE || *word == NOBODY;
                if ours && swapped {
                    *word = NOBODY;
                }
                if ours && self.file(id).place {
                    done = Err("a durable reader's place is retired".into());
                }
                if ours && self.at.contains(&At::Writes(id)) {
                    done = Err("a generation that is written is retired".into());
                }
                ("decides that nobody follows", if ours { At::Stores(id) } else { world.ends(who) })
            }
            At::Stores(id) => {
                world.change(id).state = State::Retired;
                ("says so", At::Compares(id, true))
            }
            // The starter.
            At::Visits(id) => {
                if self.file(id).presence != NONE && !self.has(Guard::PresenceIsNoGate) {
                    return None;
                }
                world.change(id).visited = self.file(id).presence == NONE;
                ("locks the presence byte shared", At::Probes(id))
            }
            At::Probes(id) => {
                let holder = self.file(id).writer;
                // A watchdog's lock passes; one that is stopped for ever is superseded.
                let held = holder != NONE && !self.stopped(holder) && self.file(id).state == State::Open;
                ("probes byte 0", if held { At::Waits(id) } else { At::Fences(id) })
            }
            At::Waits(id) => {
                let holder = self.file(id).writer;
                if holder != NONE && !self.stopped(holder) {
                    return None;
                }
                ("tries again", world.ends(who))
            }
            At::Fences(id) => {
                let file = world.change(id);
                if file.state == State::Open {
                    file.state = State::Fencing;
                }
                ("fences, decides the end", At::Links(id))
            }
            At::Links(id) => {
                let file = *self.file(id);
                let next = file.number + 1;
                if self.removed[file.dir as usize] {
                    ("finds the directory gone", world.ends(who))
                } else {
                    match self.names(file.dir).get(next as usize) {
                        Some(&NONE) => match world.make(file.dir, next, State::Candidate, who) {
                            Ok(next) => ("links", At::Confirms(id, next)),
                            Err(why) => return Some(("links", Err(why))),
                        },
                        Some(&other) => ("finds the name taken", At::HelpsName(id, other)),
                        None => return Some(("links", Err("model: too few names".into()))),
                    }
                }
            }
            At::Confirms(id, next) => {
                let word = &mut world.change(id).successor;
                if *word == NONE {
                    *word = next;
                }
                let named = *word == next;
                ("decides the successor word", if named { At::OpensOwn(id, next) } else { At::Withdraws(next) })
            }
            At::OpensOwn(id, next) => {
                done = world.open(next);
                ("opens its own", At::Tells(id, next))
            }
            At::Withdraws(next) => {
                let file = world.change(next);
                if file.state == State::Candidate {
                    file.state = State::Retired;
                }
                ("withdraws", At::Compares(next, false))
            }
            At::Tells(id, next) => {
                let file = world.change(id);
                if file.state == State::Fencing {
                    file.state = State::Succeeded;
                }
                file.visited = false;
                ("tells", At::Writes(next))
            }
            // The reader.
            At::Locks(id) => {
                if self.file(id).readers != NONE {
                    if self.stopped(self.file(id).readers) {
                        return Some(("is told that all places are taken", world.step(who, At::Done)));
                    }
                    return None;
                }
                world.change(id).readers = me;
                ("locks its byte", At::Provisional(id))
            }
            At::Provisional(id) => {
                world.change(id).provisional = true;
                ("writes a provisional slot", At::Samples(id))
            }
            At::Samples(id) => {
                let file = self.file(id);
                let over = file.successor == NOBODY || file.state != State::Open;
                if over && self.has(Guard::JoinerLooksAgain) {
                    world.change(id).provisional = false;
                    ("finds it ended", world.ends(who))
                } else {
                    ("finds it open", At::Activates(id))
                }
            }
            At::Activates(id) => {
                world.change(id).place = true;
                if self.file(id).successor == NOBODY || self.file(id).state == State::Retired {
                    done = Err("a reader has joined what was retired".into());
                }
                ("is registered", At::Joined(id))
            }
        };
        let then = done.and_then(|()| world.step(who, to));
        Some((what, then))
    }

    fn step(mut self, who: usize, to: At) -> Step {
        self.at[who] = to;
        Ok(self)
    }
}

impl World for Channel {
    fn moves(&self, out: &mut Vec<Move<Channel>>) {
        for who in 0..PROCS {
            let Some((what, then)) = self.advance(who) else { continue };
            out.push(Move { who, what, then });
            if self.faults > 0 && who != STARTER {
                let mut dead = *self;
                dead.faults -= 1;
                dead.unlock(who as u8);
                dead.at[who] = At::Gone;
                out.push(Move { who, what: "dies", then: Ok(dead) });
                if who != READER {
                    let mut stopped = *self;
                    stopped.faults -= 1;
                    stopped.at[who] = At::Stopped;
                    out.push(Move { who, what: "is stopped for ever", then: Ok(stopped) });
                }
            }
        }
        // A reader that is registered may die too; its place stays.
        if let At::Joined(_) = self.at[READER]
            && self.faults > 0
        {
            let mut dead = *self;
            dead.faults -= 1;
            dead.unlock(READER as u8);
            dead.at[READER] = At::Gone;
            out.push(Move { who: READER, what: "dies", then: Ok(dead) });
        }
    }

    fn at_rest(&self) -> Result<(), String> {
        if let At::Joined(id) = self.at[READER]
            && self.file(id).successor == NOBODY
        {
            return Err("the reader has joined what nobody follows".into());
        }
        match self.at[STARTER] {
            At::Gone => Ok(()),
            At::Writes(id) => {
                let file = self.file(id);
                let bears = self.named == file.dir && self.newest(file.dir) == Some(id);
                if bears && file.state == State::Open {
                    Ok(())
                } else {
                    Err("what the starter writes is not the channel".into())
                }
            }
            other => Err(format!("the starter never gets there: {other:?}")),
        }
    }
}

/// Generation 1, its writer dead, and who takes part.
fn world(watchdogs: usize, starter: bool, reader: bool, faults: u8, without: Option<Guard>) -> Channel {
    let mut world = Channel {
        named: 0,
        dirs: [None; DIRS],
        removed: [false; DIRS],
        files: [None; FILES],
        at: [At::Gone; PROCS],
        looks: [1, 1, 0, 0],
        faults,
        without,
    };
    world.dirs[0] = Some([NONE; NAMES]);
    world.make(0, 1, State::Open, NONE as usize).unwrap();
    for who in &WATCHDOGS[..watchdogs] {
        world.at[*who] = At::Opens;
    }
    if starter {
        world.at[STARTER] = At::Opens;
    }
    if reader {
        world.at[READER] = At::Opens;
    }
    world
}

type Scenario = (&'static str, fn(Option<Guard>) -> Channel);
const STARTING: Scenario = ("two watchdogs, a starter", |without| world(2, true, false, 1, without));
const JOINING: Scenario = ("a watchdog, a joining reader", |without| world(1, false, true, 1, without));
const ALL: Scenario = ("a watchdog, a starter, a joining reader", |without| world(1, true, true, 1, without));

#[test]
fn every_order_of_retiring_starting_and_joining_ends_well() {
    for (name, scenario) in [STARTING, JOINING, ALL] {
        match explore(scenario(None)) {
            Ok(Explored { states, rests }) => {
                eprintln!("{name}: {states} states, all rest in {rests} of them");
                assert!(states > 100 && rests > 3, "inconclusive: {states} states, {rests} rests");
            }
            Err(way) => panic!("{name}: {way}"),
        }
    }
}

/// Each guard, and where it is missed.
const GUARDS: [(Guard, Scenario); 8] = [
    (Guard::ByteZero, STARTING),
    (Guard::ReaderBytes, JOINING),
    (Guard::TableUnderLocks, JOINING),
    (Guard::SuccessorDecided, STARTING),
    (Guard::PresenceIsNoGate, STARTING),
    (Guard::AnybodyFinishes, STARTING),
    (Guard::OwnDirectory, STARTING),
    (Guard::JoinerLooksAgain, JOINING),
];

#[test]
fn each_guard_of_the_retirement_is_needed() {
    for (guard, (name, scenario)) in GUARDS {
        let Err(way) = explore(scenario(Some(guard))) else { panic!("{name}: nothing goes wrong without {guard:?}") };
        assert!(!way.starts_with("model:"), "{guard:?}: {way}");
        eprintln!("{guard:?} ({name}): {}", way.lines().next().unwrap_or_default());
        if std::env::var_os("RINGWARD_VERBOSE").is_some() {
            eprintln!("{way}");
        }
    }
}
