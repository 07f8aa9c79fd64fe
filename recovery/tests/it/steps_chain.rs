//! Election and succession, step by step: standbys, a superseder, a zombie, a durable reader that moves, and who tidies up, with a death
//! after any step.
//!
//! The steps are those of `chain::settle`, `succession::follow`, `chain::tidy`, `Reader::advance` and the ring's push; each is one access to
//! what others can see. A killed standby is replaced by a new one, as long as the budget lasts.

use crate::steps::{Explored, Move, World, explore};

/// A precaution that can be taken out of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guard {
    /// The end is decided by compare-and-swap: the first to come has decided.
    EndBySwap,
    /// A writer that finds itself ended compares with the end, instead of taking its record for fenced.
    WriterCompares,
    /// A writer looks at the state behind its publication, not in front of it.
    StateAfterPublication,
    /// A reader that finds the generation ended goes no further than the decided end.
    ReaderClamps,
    /// A reader takes nothing from a generation that is being ended and has no end yet.
    NothingBeforeTheEnd,
    /// The next generation's first sequence comes from the end word, not from the writer's position.
    FirstFromEnd,
    /// A segment is linked as a candidate and opened only when the successor word names it.
    Candidate,
    /// One whose name was taken by another looks at the successor word, and withdraws if it names another.
    Withdraw,
    /// Before a candidate without a predecessor is unlinked, its state is looked at again.
    LookAgain,
    /// A generation is unlinked only when the successor word and the next state confirm the next one.
    ConfirmedBeforeUnlink,
    /// A generation is unlinked only when its readers have said that they are done.
    DrainedIsSaid,
    /// Generations are unlinked from the oldest on, and the newest never.
    NewestNever,
    /// Whoever meets a candidate helps it.
    Help,
    /// A name is taken by a link that fails if it is there.
    LinkFails,
}

const NONE: u8 = u8::MAX;
const NAMES: usize = 6;
const FILES: usize = 8;
const PROCS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Candidate,
    Open,
    Fencing,
    Succeeded,
    Retired,
}

/// The reader's place in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Free,
    Carried,
    Active,
    Done,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct File {
    number: u8,
    state: State,
    end: u8,
    successor: u8,
    first: u8,
    /// Records in front of the higher checkpoint, and in front of the published position.
    checkpoint: u8,
    position: u8,
    /// Who holds byte 0.
    owner: u8,
    slot: Slot,
    /// Not a word of the segment: how many of its records were acknowledged, and that one of this number was fenced.
    acknowledged: u8,
    fenced: u8,
    /// Nor is this: how many the reader has got.
    delivered: u8,
}

/// What a process does next, with what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Gone,
    /// Writes file `.0`.
    Idle(u8),
    /// Has looked at the state too early, if that guard is out: it was open.
    Early(u8),
    Checkpointed(u8, bool),
    Published(u8, bool),
    Settles(u8),
    Ended,
    /// Wants to be the writer: looks for the newest generation.
    Look,
    Attached(u8),
    /// Helps candidate `.0`: has it seen that `.1` is its predecessor (NONE: no name)?
    Helps(u8),
    Names(u8, u8),
    Opens(u8),
    Orphan(u8),
    Unlinks(u8),
    UnlinksNow(u8),
    /// Was it open?
    Probes(u8, bool),
    Parked(u8),
    Fences(u8, bool),
    ReadsPosition(u8, bool),
    Decides(u8, u8),
    Fills(u8),
    Links(u8, u8, Slot),
    ConfirmsOwn(u8, u8),
    OpensOwn(u8, u8),
    Withdraws(u8),
    Tells(u8, u8),
    /// Reads file `.0`, has taken `.1` records of it.
    Reads(u8, u8),
    Limits(u8, u8, u8),
    Takes(u8, u8, u8),
    Moves(u8, u8),
    Asks(u8, u8, u8),
    Enters(u8, u8),
    Leaves(u8, u8),
    /// Tidies: looks at the oldest.
    Tidies,
    Weighs(u8),
    Follows(u8, u8),
    Confirms(u8, u8),
    Drained(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Chain {
    names: [u8; NAMES],
    files: [Option<File>; FILES],
    at: [At; PROCS],
    /// Records that each process still pushes once it writes.
    pushes: [u8; PROCS],
    /// Ends living writers.
    supersedes: [bool; PROCS],
    /// Deaths that may still strike.
    deaths: u8,
    /// Which processes die: the standbys and the writer.
    mortal: [bool; PROCS],
    /// What the reader gets next.
    next: u8,
    /// The one guard that is out.
    without: Option<Guard>,
}

type Step = Result<Chain, String>;

impl Chain {
    fn new(without: Option<Guard>) -> Chain {
        let first = File {
            number: 1,
            state: State::Open,
            end: NONE,
            successor: NONE,
            first: 0,
            checkpoint: 1,
            position: 1,
            owner: NONE,
            slot: Slot::Active,
            acknowledged: 1,
            fenced: NONE,
            delivered: 0,
        };
        let mut files = [None; FILES];
        files[0] = Some(first);
        let mut names = [NONE; NAMES];
        names[1] = 0;
        Chain {
            names,
            files,
            at: [At::Gone; PROCS],
            pushes: [0; PROCS],
            supersedes: [false; PROCS],
            deaths: 0,
            mortal: [false; PROCS],
            next: 0,
            without,
        }
    }

    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn file(&self, id: u8) -> &File {
        self.files[id as usize].as_ref().expect("a file")
    }

    fn change(&mut self, id: u8) -> &mut File {
        self.files[id as usize].as_mut().expect("a file")
    }

    fn newest(&self) -> Option<u8> {
        self.names.iter().rev().copied().find(|id| *id != NONE)
    }

    fn oldest(&self) -> Option<u8> {
        self.names.iter().copied().find(|id| *id != NONE)
    }

    fn named(&self, number: u8) -> u8 {
        self.names.get(number as usize).copied().unwrap_or(NONE)
    }

    /// `chain::help` may be taken up by several; where its caller goes on depends on who it is.
    fn back(&self, who: usize) -> At {
        match who {
            READER => At::Reads(self.reading(), self.taken()),
            TIDIER => At::Tidies,
            _ => At::Look,
        }
    }

    /// The reader's file and how far it is in it: the file in which its place is not done.
    fn reading(&self) -> u8 {
        let mut mine =
            (0..FILES as u8).filter(|id| self.files[*id as usize].is_some_and(|file| file.slot == Slot::Active));
        mine.next_back().unwrap_or(0)
    }

    fn taken(&self) -> u8 {
        self.next.saturating_sub(self.file(self.reading()).first)
    }

    fn settle(&self, who: usize, id: u8) -> Option<At> {
        match self.file(id).state {
            State::Retired => Some(At::Unlinks(id)),
            State::Candidate if self.has(Guard::Help) => Some(At::Helps(id)),
            State::Candidate if who == TIDIER => Some(At::Tidies),
            State::Candidate => Some(At::Parked(id)),
            _ => None,
        }
    }

    fn decide_successor(&mut self, id: u8, who: u8) -> bool {
        let file = self.change(id);
        if file.successor == NONE {
            file.successor = who;
        }
        file.successor == who
    }

    fn decide_end(&mut self, id: u8, at: u8) -> Result<(), String> {
        let by_swap = self.has(Guard::EndBySwap);
        let file = self.change(id);
        if file.end == NONE || !by_swap {
            file.end = at;
        }
        match file.acknowledged > file.end {
            true => Err(format!("generation {} ends in front of what was acknowledged", file.number)),
            false => Ok(()),
        }
    }

    fn link(&mut self, old: u8, first: u8, slot: Slot, who: usize) -> Result<Option<u8>, String> {
        let number = self.file(old).number + 1;
        if self.named(number) != NONE && self.has(Guard::LinkFails) {
            return Ok(None);
        }
        let Some(id) = self.files.iter().position(Option::is_none) else { return Err("model: too few files".into()) };
        if number as usize >= NAMES {
            return Err("model: too few names".into());
        }
        let taken = self.named(number);
        if taken != NONE && self.files.iter().flatten().any(|file| file.successor == taken) {
            return Err(format!("generation {number} loses its name to a rival"));
        }
        let state = if self.has(Guard::Candidate) { State::Candidate } else { State::Open };
        self.files[id] = Some(File {
            number,
            state,
            end: NONE,
            successor: NONE,
            first,
            checkpoint: 0,
            position: 0,
            owner: who as u8,
            slot,
            acknowledged: 0,
            fenced: NONE,
            delivered: 0,
        });
        self.names[number as usize] = id as u8;
        Ok(Some(id as u8))
    }

    fn open(&mut self, id: u8) -> Result<(), String> {
        let file = *self.file(id);
        if file.state != State::Candidate {
            return Ok(()); // somebody helped
        }
        self.change(id).state = State::Open;
        match self.named(file.number) == id {
            true => Ok(()),
            false => Err(format!("generation {} is opened, and has no name", file.number)),
        }
    }

    /// The name goes; is anything lost by that?
    fn unlink(&mut self, id: u8) -> Result<(), String> {
        let file = *self.file(id);
        if self.named(file.number) == NONE {
            return Ok(());
        }
        // `unlinkat` takes whatever has the name by now.
        let gone = self.named(file.number);
        self.names[file.number as usize] = NONE;
        let lost = *self.file(gone);
        let followed = lost.successor != NONE;
        let why = match lost.state {
            State::Retired => return Ok(()),
            State::Candidate if self.files.iter().flatten().any(|file| file.successor == gone) => "follows",
            State::Candidate => return Ok(()),
            _ if !followed => "is the one that the channel lives on",
            _ if matches!(lost.slot, Slot::Active | Slot::Carried) => "has not been drained",
            _ => return Ok(()),
        };
        Err(format!("generation {} is unlinked, and {why}", lost.number))
    }

    fn acknowledge(&mut self, id: u8) -> Result<(), String> {
        let file = *self.file(id);
        let sequence = file.first + file.position - 1;
        for (other, twin) in self.files.iter().enumerate().filter_map(|(at, file)| Some((at, (*file)?))) {
            let range = twin.first..twin.first + twin.acknowledged;
            if other != id as usize && range.contains(&sequence) {
                return Err(format!("sequence {sequence} is acknowledged in two generations"));
            }
        }
        if file.end != NONE && file.position > file.end {
            return Err(format!("record {sequence} is acknowledged behind the end"));
        }
        self.change(id).acknowledged = file.position;
        Ok(())
    }

    /// The reader gets record `at` of `id`.
    fn deliver(&mut self, id: u8, at: u8) -> Result<(), String> {
        let file = *self.file(id);
        let sequence = file.first + at;
        if sequence != self.next {
            return Err(format!("record {sequence} is delivered, {} was next", self.next));
        }
        if file.fenced != NONE && at >= file.fenced {
            return Err(format!("record {sequence} was fenced, and is delivered"));
        }
        self.next += 1;
        self.change(id).delivered = at + 1;
        Ok(())
    }

    fn step(mut self, who: usize, to: At) -> Step {
        self.at[who] = to;
        Ok(self)
    }

    /// Whether the reader's next look can find anything. (One that finds nothing leaves everything as it is.)
    fn has_news(&self, id: u8, taken: u8) -> bool {
        let file = self.file(id);
        if file.state == State::Open || file.end == NONE {
            return file.position > taken && (file.state == State::Open || !self.has(Guard::NothingBeforeTheEnd));
        }
        let next = self.named(file.number + 1);
        let helpless = |next: u8| self.file(next).state == State::Candidate && !self.has(Guard::Help);
        taken < file.end || (next != NONE && self.file(next).state != State::Retired && !helpless(next))
    }

    /// The same for who tidies up.
    fn has_litter(&self) -> bool {
        let Some(oldest) = self.oldest() else { return false };
        let file = self.file(oldest);
        let next = self.named(file.number + 1);
        if next == NONE && self.newest() != Some(oldest) {
            return false;
        }
        match file.state {
            State::Candidate => self.has(Guard::Help) && self.newest() != Some(oldest),
            State::Retired => true,
            _ if file.end == NONE => false,
            _ if next == NONE => !self.has(Guard::NewestNever) && self.drained(oldest),
            _ => self.drained(oldest) && (self.has(Guard::Help) || self.file(next).state != State::Candidate),
        }
    }

    fn drained(&self, id: u8) -> bool {
        let file = self.file(id);
        match self.has(Guard::DrainedIsSaid) {
            true => matches!(file.slot, Slot::Done | Slot::Free),
            false => self.next >= file.first + file.end,
        }
    }

    /// The step that process `who` takes next, if it can.
    fn advance(&self, who: usize) -> Option<(&'static str, Step)> {
        let mut world = *self;
        let mut done: Result<(), String> = Ok(());
        let (what, to) = match self.at[who] {
            At::Gone | At::Ended => return None,
            // A push: checkpoint, position, state.
            At::Idle(_) if self.pushes[who] == 0 => return None,
            At::Idle(id) if self.has(Guard::StateAfterPublication) => {
                world.change(id).checkpoint += 1;
                world.pushes[who] -= 1;
                ("writes a checkpoint", At::Checkpointed(id, false))
            }
            At::Idle(id) => ("looks at the state, too early", At::Early(id)),
            At::Early(id) => {
                world.change(id).checkpoint += 1;
                world.pushes[who] -= 1;
                ("writes a checkpoint", At::Checkpointed(id, self.file(id).state == State::Open))
            }
            At::Checkpointed(id, early) => {
                world.change(id).position += 1;
                ("publishes", At::Published(id, early))
            }
            At::Published(id, early) => {
                let open = self.file(id).state == State::Open;
                if early || open {
                    done = world.acknowledge(id);
                    ("acknowledges", At::Idle(id))
                } else {
                    ("finds itself ended", At::Settles(id))
                }
            }
            At::Settles(id) => {
                done = world.decide_end(id, self.file(id).position);
                let file = *world.file(id);
                if done.is_err() {
                } else if file.position <= file.end && self.has(Guard::WriterCompares) {
                    done = world.acknowledge(id);
                } else {
                    world.change(id).fenced = file.position - 1;
                    if file.delivered >= file.position {
                        done = Err(format!("record {} was delivered, and is fenced", file.first + file.position - 1));
                    }
                }
                ("settles", At::Ended)
            }
            // Becoming the writer.
            At::Look => ("attaches the newest", At::Attached(self.newest()?)),
            At::Attached(id) => match self.settle(who, id) {
                Some(to) => ("settles what it met", to),
                None => ("looks at its state", At::Probes(id, self.file(id).state == State::Open)),
            },
            At::Helps(candidate) => {
                let before = self.named(self.file(candidate).number - 1);
                match before {
                    NONE if self.has(Guard::LookAgain) => ("finds no predecessor", At::Orphan(candidate)),
                    NONE => ("finds no predecessor", At::Unlinks(candidate)),
                    before => ("finds the predecessor", At::Names(candidate, before)),
                }
            }
            At::Orphan(candidate) => match self.file(candidate).state {
                State::Candidate => ("still a candidate", At::Unlinks(candidate)),
                _ => ("no candidate any more", self.back(who)),
            },
            At::Names(candidate, before) => {
                let named = world.decide_successor(before, candidate);
                ("decides the successor word", if named { At::Opens(candidate) } else { self.back(who) })
            }
            At::Opens(candidate) => {
                done = world.open(candidate);
                ("opens the candidate", self.back(who))
            }
            At::Unlinks(id) => {
                let same = self.named(self.file(id).number) == id;
                ("compares name and file", if same { At::UnlinksNow(id) } else { self.back(who) })
            }
            At::UnlinksNow(id) => {
                done = world.unlink(id);
                ("unlinks", self.back(who))
            }
            At::Probes(id, open) => {
                let dead = self.file(id).owner == NONE;
                let theirs = open && !dead && !self.supersedes[who];
                ("probes byte 0", if theirs { At::Parked(id) } else { At::Fences(id, dead) })
            }
            At::Parked(id) => {
                let unhelped = self.file(id).state == State::Candidate && !self.has(Guard::Help);
                if self.newest() == Some(id) && (self.file(id).owner != NONE || unhelped) {
                    return None;
                }
                ("wakes", At::Look)
            }
            At::Fences(id, dead) => {
                let file = world.change(id);
                if file.state == State::Open {
                    file.state = State::Fencing;
                }
                ("fences", At::ReadsPosition(id, dead))
            }
            At::ReadsPosition(id, dead) => {
                let file = self.file(id);
                let end = if dead { file.checkpoint } else { file.position };
                ("reads the position", At::Decides(id, end))
            }
            At::Decides(id, at) => {
                done = world.decide_end(id, at);
                ("decides the end", At::Fills(id))
            }
            At::Fills(id) => {
                let file = self.file(id);
                let end = if self.has(Guard::FirstFromEnd) { file.end } else { file.position };
                let slot = match file.slot {
                    Slot::Active | Slot::Carried => Slot::Carried,
                    other => other,
                };
                let slot = if slot == Slot::Done { Slot::Free } else { slot };
                ("fills the next one", At::Links(id, file.first + end, slot))
            }
            At::Links(id, first, slot) => match world.link(id, first, slot, who) {
                Ok(Some(next)) if self.has(Guard::Candidate) => ("links", At::ConfirmsOwn(id, next)),
                Ok(Some(next)) => ("links", At::Tells(id, next)),
                Ok(None) => {
                    // Somebody else was first: help it through.
                    let other = self.named(self.file(id).number + 1);
                    let helps = self.has(Guard::Help) && self.file(other).state == State::Candidate;
                    ("finds the name taken", if helps { At::Names(other, id) } else { At::Look })
                }
                Err(why) => {
                    done = Err(why);
                    ("links", At::Gone)
                }
            },
            At::ConfirmsOwn(old, next) => {
                let named = world.decide_successor(old, next);
                let to =
                    if named || !self.has(Guard::Withdraw) { At::OpensOwn(old, next) } else { At::Withdraws(next) };
                ("decides the successor word", to)
            }
            At::OpensOwn(old, next) => {
                done = world.open(next);
                ("opens its own", At::Tells(old, next))
            }
            At::Withdraws(next) => {
                let file = world.change(next);
                if file.state == State::Candidate {
                    file.state = State::Retired;
                }
                file.owner = NONE;
                ("withdraws", At::Unlinks(next))
            }
            At::Tells(old, next) => {
                let file = world.change(old);
                if file.state == State::Fencing {
                    file.state = State::Succeeded;
                }
                ("tells", At::Idle(next))
            }
            // The reader: position first, then state and end.
            At::Reads(id, taken) if !self.has_news(id, taken) => return None,
            At::Reads(id, taken) => ("reads the position", At::Limits(id, taken, self.file(id).position)),
            At::Limits(id, taken, position) => {
                let file = self.file(id);
                let limit = match file.state {
                    State::Open => position,
                    _ if file.end != NONE && self.has(Guard::ReaderClamps) => file.end,
                    _ if file.end == NONE && self.has(Guard::NothingBeforeTheEnd) => taken,
                    _ => position,
                };
                let to = match file.state {
                    _ if taken < limit => At::Takes(id, taken, limit),
                    State::Open => At::Reads(id, taken),
                    _ if file.end != NONE && taken >= file.end => At::Moves(id, taken),
                    _ => At::Reads(id, taken),
                };
                ("reads state and end", to)
            }
            At::Takes(id, taken, limit) => {
                done = world.deliver(id, taken);
                (
                    "takes a record",
                    if taken + 1 < limit { At::Takes(id, taken + 1, limit) } else { At::Reads(id, taken + 1) },
                )
            }
            At::Moves(id, taken) => match self.named(self.file(id).number + 1) {
                NONE => ("finds nobody after it", At::Reads(id, taken)),
                next if self.file(next).state == State::Candidate => match self.settle(who, next) {
                    Some(At::Helps(next)) => ("meets a candidate", At::Helps(next)),
                    _ => ("meets a candidate", At::Reads(id, taken)),
                },
                next if self.file(next).state == State::Retired => ("meets a withdrawn one", At::Reads(id, taken)),
                next => ("finds the next one", At::Asks(id, taken, next)),
            },
            At::Asks(id, taken, next) => {
                let follows = self.file(id).successor == next || !self.has(Guard::Candidate);
                ("asks who follows", if follows { At::Enters(id, next) } else { At::Reads(id, taken) })
            }
            At::Enters(id, next) => {
                world.change(next).slot = Slot::Active;
                if self.file(next).slot != Slot::Carried {
                    done = Err("the reader's place was not carried over".into());
                }
                ("takes its place", At::Leaves(id, next))
            }
            At::Leaves(id, next) => {
                world.change(id).slot = Slot::Done;
                let first = self.file(next).first;
                if first != self.next {
                    done = Err(format!("the next generation begins with record {first}, {} was next", self.next));
                }
                ("says done", At::Reads(next, 0))
            }
            // Who tidies up: the oldest, if it is drained and followed.
            At::Tidies if !self.has_litter() => return None,
            At::Tidies => ("looks at the oldest", At::Weighs(self.oldest()?)),
            At::Weighs(id) => match self.settle(who, id) {
                Some(to) => ("settles what it met", to),
                None if self.file(id).end == NONE => ("has not ended", At::Tidies),
                None => match self.named(self.file(id).number + 1) {
                    NONE if self.has(Guard::NewestNever) => ("has nobody after it", At::Tidies),
                    NONE => ("has nobody after it", At::Drained(id)),
                    next => ("has ended", At::Follows(id, next)),
                },
            },
            At::Follows(id, _) if !self.has(Guard::ConfirmedBeforeUnlink) => {
                ("does not look who follows", At::Drained(id))
            }
            At::Follows(id, next) => {
                let named = world.decide_successor(id, next);
                ("decides the successor word", if named { At::Confirms(id, next) } else { At::Tidies })
            }
            At::Confirms(id, next) => match self.file(next).state {
                State::Candidate => ("its successor is not open", At::Opens(next)),
                _ => ("is followed", At::Drained(id)),
            },
            At::Drained(id) => {
                ("asks whether it is drained", if self.drained(id) { At::Unlinks(id) } else { At::Tidies })
            }
        };
        let then = done.and_then(|()| world.step(who, to));
        Some((what, then))
    }

    /// Process `who` dies: the kernel drops its locks. A standby's place is taken by a new one.
    fn dies(&self, who: usize) -> Chain {
        let mut world = *self;
        for file in world.files.iter_mut().flatten() {
            if file.owner == who as u8 {
                file.owner = NONE;
            }
        }
        world.deaths -= 1;
        world.at[who] = if who == WRITER { At::Gone } else { At::Look };
        world
    }
}

/// Which process is which; the others are standbys.
const WRITER: usize = 0;
const READER: usize = 1;
const TIDIER: usize = 2;
const FIRST_STANDBY: usize = 3;

impl World for Chain {
    fn moves(&self, out: &mut Vec<Move<Chain>>) {
        for who in 0..PROCS {
            if let Some((what, then)) = self.advance(who) {
                // A look that changes nothing is no step: whoever only waits stays where it is.
                if then.as_ref().is_ok_and(|world| world == self) {
                    continue;
                }
                out.push(Move { who, what, then });
            }
            let alive = !matches!(self.at[who], At::Gone);
            if self.deaths > 0 && self.mortal[who] && alive {
                out.push(Move { who, what: "dies", then: Ok(self.dies(who)) });
            }
        }
    }

    fn at_rest(&self) -> Result<(), String> {
        let Some(newest) = self.newest() else { return Err("no generation is left".into()) };
        let file = self.file(newest);
        if file.state != State::Open || file.owner == NONE {
            return Err(format!("nobody writes generation {}, and nobody will", file.number));
        }
        for (who, at) in self.at.iter().enumerate() {
            // A zombie that has nothing to push never learns that it was ended; whoever believes the state word must be right.
            if let At::Idle(id) = *at
                && id != newest
                && self.file(id).state == State::Open
            {
                return Err(format!("{who} takes itself for the writer, with a generation that nobody will read"));
            }
        }
        if self.at[file.owner as usize] != At::Idle(newest) {
            return Err(format!("the owner of generation {} does not know", file.number));
        }
        if matches!(self.at[READER], At::Reads(..)) && self.next != file.first + file.position {
            return Err(format!("the reader stands at {}, the channel at {}", self.next, file.first + file.position));
        }
        let names = self.names.iter().filter(|id| **id != NONE).count();
        if matches!(self.at[TIDIER], At::Tidies) && names != 1 {
            return Err(format!("{names} generations are left"));
        }
        Ok(())
    }
}

/// A dead writer, killed between checkpoint and publication; three standbys.
fn election(without: Option<Guard>) -> Chain {
    let mut world = Chain::new(without);
    let first = world.change(0);
    (first.checkpoint, first.slot) = (2, Slot::Free);
    world.at[TIDIER] = At::Tidies;
    for standby in FIRST_STANDBY..FIRST_STANDBY + 3 {
        world.at[standby] = At::Look;
        world.mortal[standby] = true;
    }
    world.deaths = 1;
    world
}

/// The same with a reader, and two standbys, each replaced when it dies.
fn chain(without: Option<Guard>) -> Chain {
    let mut world = Chain::new(without);
    world.change(0).checkpoint = 2;
    world.at[READER] = At::Reads(0, 0);
    world.at[TIDIER] = At::Tidies;
    for standby in FIRST_STANDBY..FIRST_STANDBY + 2 {
        world.at[standby] = At::Look;
        world.mortal[standby] = true;
        world.pushes[standby] = 1;
    }
    world.deaths = 1;
    world
}

/// A living writer, one that supersedes it, and a standby.
fn superseded(without: Option<Guard>) -> Chain {
    let mut world = Chain::new(without);
    world.change(0).owner = WRITER as u8;
    world.at[WRITER] = At::Idle(0);
    world.pushes[WRITER] = 1;
    world.mortal[WRITER] = true;
    world.at[READER] = At::Reads(0, 0);
    for standby in FIRST_STANDBY..FIRST_STANDBY + 2 {
        world.at[standby] = At::Look;
        world.mortal[standby] = true;
    }
    world.supersedes[FIRST_STANDBY] = true;
    world.pushes[FIRST_STANDBY] = 1;
    world.deaths = 1;
    world
}

type Scenario = (&'static str, fn(Option<Guard>) -> Chain);
const ELECTION: Scenario = ("election", election);
const CHAIN: Scenario = ("chain", chain);
const SUPERSEDED: Scenario = ("superseded", superseded);

#[test]
fn every_order_of_election_and_succession_ends_well() {
    for (name, scenario) in [ELECTION, CHAIN, SUPERSEDED] {
        match explore(scenario(None)) {
            Ok(Explored { states, rests }) => {
                eprintln!("{name}: {states} states, all rest in {rests} of them");
                assert!(states > 10_000 && rests > 10, "inconclusive: {states} states, {rests} rests");
            }
            Err(way) => panic!("{name}: {way}"),
        }
    }
}

/// Each guard, and where it is missed.
const GUARDS: [(Guard, Scenario); 14] = [
    (Guard::EndBySwap, SUPERSEDED),
    (Guard::WriterCompares, SUPERSEDED),
    (Guard::StateAfterPublication, SUPERSEDED),
    (Guard::ReaderClamps, SUPERSEDED),
    (Guard::NothingBeforeTheEnd, SUPERSEDED),
    (Guard::FirstFromEnd, SUPERSEDED),
    (Guard::Candidate, CHAIN),
    (Guard::Withdraw, CHAIN),
    (Guard::LookAgain, ELECTION),
    (Guard::ConfirmedBeforeUnlink, ELECTION),
    (Guard::DrainedIsSaid, CHAIN),
    (Guard::NewestNever, ELECTION),
    (Guard::Help, ELECTION),
    (Guard::LinkFails, ELECTION),
];

#[test]
fn each_guard_of_the_succession_is_needed() {
    for (guard, (name, scenario)) in GUARDS {
        let Err(way) = explore(scenario(Some(guard))) else { panic!("{name}: nothing goes wrong without {guard:?}") };
        assert!(!way.starts_with("model:"), "{guard:?}: {way}");
        eprintln!(
            "{guard:?} ({name}): {} after {} steps",
            way.lines().next().unwrap_or_default(),
            way.lines().count() - 2
        );
        if std::env::var_os("RINGWARD_VERBOSE").is_some() {
            eprintln!("{way}");
        }
    }
}
