//! A channel's life against a specification: random histories, every answer foretold.
//!
//! **The specification**, in the words of docs/RECOVERY.md. A *channel* is a chain of generations, numbered from 1; the newest has the
//! writer. Records are numbered without a gap over all generations of a chain.
//!
//! 1. *Create, elect.* Without a channel whoever starts or stands by gives birth to generation 1. With one whose writer is dead it follows: the
//!    next generation, whose first sequence number is the one that would have come. With a living writer a starter is told *owned*
//!    and a standby's time is up. An orderly closed channel sends standbys home; a starter follows it.
//! 2. *Supersede.* Ends the newest generation, dead or alive, and follows. What the ended writer pushes from then on is *fenced*.
//! 3. *Die.* Leaves the generation as it is. What was pushed stays; what was begun and not published never was.
//! 4. *Read.* A reader gets the records of its generation, and when that has ended, those of the next (*restarted*); at the end of a closed
//!    one that nobody follows, *closed*, once. A newcomer joins the newest generation at its end; a closed one is *closed* to it.
//! 5. A *durable* name has one holder. Its place outlives it: whoever claims it goes on there; what was taken and not released comes
//!    again, marked. An ephemeral reader's place goes with it.
//! 6. *Drain.* After a watchdog's look the generations that have a name are those from the oldest that somebody is registered in to the newest.
//! 7. *Reclaim.* A watchdog takes away what has no living writer, no living reader and no durable place. Afterwards there is no channel: whoever
//!    starts gives birth to generation 1 of *another* one. That may happen while somebody starts: who is told its generation knows which it was.
//! 8. *Vanish.* Removed from outside, a chain goes on among those who are attached to it, and is gone for everybody else.
//!
//! `RINGWARD_CASES` says how many histories, `RINGWARD_SEED` which; without them it is the same few.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use ringward_recovery::{
    Action, Channel, Done, Durability, Event, From, Lost, OpenError, Outcome, Reader, ReceiveError, SendError, Verdict,
    Warmth, Watchdog, Writer, generation_name,
};
use ringward_ring::writer::PushError;

use crate::attacks::{Alarm, LONG};
use crate::common::{Bed, config};

const WRITERS: usize = 3;
const READERS: usize = 4;
const NAMES: [(&str, Durability); READERS] = [
    ("d0", Durability::Durable),
    ("d1", Durability::Durable),
    ("e0", Durability::Ephemeral),
    ("e1", Durability::Ephemeral),
];

/// What happens next; numbers say to which party.
#[derive(Debug, Clone)]
enum Op {
    Start(usize),
    Elect(usize, bool),
    Supersede(usize),
    Push(usize),
    /// Dies with a record begun, or none.
    Die(usize, bool),
    Close(usize),
    Open(usize),
    /// Receives so many events, or all.
    Receive(usize, Option<usize>),
    Leave(usize),
    Forget(usize),
    ForgetName(usize),
    Watch(usize),
    Vanish,
    /// At the same time: a start and a watchdog's look.
    StartAndWatch(usize, usize),
    /// At the same time: a push, and the supersession of whoever pushes.
    PushAndSupersede(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let writer = 0..WRITERS;
    let reader = 0..READERS;
    prop_oneof![
        4 => writer.clone().prop_map(Op::Start),
        2 => (writer.clone(), any::<bool>()).prop_map(|(who, hot)| Op::Elect(who, hot)),
        2 => writer.clone().prop_map(Op::Supersede),
        10 => writer.clone().prop_map(Op::Push),
        4 => (writer.clone(), any::<bool>()).prop_map(|(who, half)| Op::Die(who, half)),
        2 => writer.clone().prop_map(Op::Close),
        6 => reader.clone().prop_map(Op::Open),
        8 => (reader.clone(), prop::option::of(0..4usize)).prop_map(|(who, most)| Op::Receive(who, most)),
        3 => reader.clone().prop_map(Op::Leave),
        2 => reader.clone().prop_map(Op::Forget),
        1 => reader.clone().prop_map(Op::ForgetName),
        4 => (0..2usize).prop_map(Op::Watch),
        1 => Just(Op::Vanish),
        2 => (writer.clone(), 0..2usize).prop_map(|(who, dog)| Op::StartAndWatch(who, dog)),
        2 => (writer.clone(), writer).prop_map(|(who, by)| Op::PushAndSupersede(who, by)),
    ]
}

/// A generation as the specification has it.
#[derive(Debug, Clone, Default)]
struct Term {
    first: u64,
    records: u64,
    closed: bool,
    /// Nothing more can be pushed to it: closed, or followed.
    ended: bool,
    /// Whose it is, if its writer lives.
    writer: Option<usize>,
}

/// A chain as the specification has it.
#[derive(Debug, Clone, Default)]
struct Life {
    terms: Vec<Term>,
    /// Durable places whose holders are away: generation, next to be handed out, handed out before.
    places: HashMap<usize, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    generation: usize,
    next: u64,
    taken: u64,
}

impl Life {
    fn newest(&self) -> usize {
        self.terms.len()
    }

    fn term(&mut self, generation: usize) -> &mut Term {
        &mut self.terms[generation - 1]
    }

    fn next(&self) -> u64 {
        self.terms.last().map_or(0, |term| term.first + term.records)
    }

    fn follow(&mut self, who: usize) -> usize {
        let first = self.next();
        if let Some(last) = self.terms.last_mut() {
            last.ended = true;
            last.writer = last.writer.filter(|_| false);
        }
        self.terms.push(Term { first, writer: Some(who), ..Term::default() });
        self.newest()
    }

    fn owned(&self) -> bool {
        self.terms.last().is_some_and(|term| term.writer.is_some())
    }
}

struct Writing {
    writer: Writer,
    life: usize,
    generation: usize,
}

struct Reading {
    reader: Reader,
    life: usize,
    generation: usize,
    next: u64,
    taken: u64,
    /// The last event was a record, and it is not released yet.
    in_hand: bool,
    told_closed: bool,
}

struct World {
    bed: Bed,
    channel: Channel,
    lives: Vec<Life>,
    current: Option<usize>,
    writers: [Option<Writing>; WRITERS],
    readers: [Option<Reading>; READERS],
    dogs: [Watchdog; 2],
    /// There has been a standby.
    stood: bool,
}

fn payload(life: usize, sequence: u64) -> String {
    format!("{life}:{sequence}")
}

impl World {
    fn new() -> World {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let dog = || Watchdog::builder(&bed.namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
        let dogs = [dog(), dog()];
        World {
            bed,
            channel,
            lives: Vec::new(),
            current: None,
            writers: [const { None }; WRITERS],
            readers: [const { None }; READERS],
            dogs,
            stood: false,
        }
    }

    /// Somebody has become the writer: of a chain that goes on, or of a new one.
    fn settle_in(&mut self, who: usize, mut writer: Writer) {
        let life = match self.current {
            Some(life) => life,
            None => {
                self.lives.push(Life::default());
                self.lives.len() - 1
            }
        };
        self.current = Some(life);
        let generation = self.lives[life].follow(who);
        assert_eq!(writer.generation(), generation as u64);
        assert_eq!(writer.next_sequence(), self.lives[life].terms[generation - 1].first);
        writer.set_spin(0);
        self.writers[who] = Some(Writing { writer, life, generation });
    }

    fn do_one(&mut self, op: &Op) {
        match *op {
            Op::Start(who) if self.writers[who].is_none() => match self.channel.writer() {
                Ok(writer) => {
                    assert!(!self.current.is_some_and(|life| self.lives[life].owned()), "it has a writer");
                    self.settle_in(who, writer);
                }
                Err(OpenError::Owned { leaked: false, generation, .. }) => {
                    let life = &self.lives[self.current.expect("a channel")];
                    assert!(life.owned() && generation == life.newest() as u64);
                }
                Err(other) => panic!("{other}"),
            },
            Op::Elect(who, hot) if self.writers[who].is_none() => self.elect(who, hot),
            Op::Supersede(who) if self.writers[who].is_none() => match self.channel.supersede() {
                Ok(writer) => {
                    assert!(self.current.is_some());
                    self.settle_in(who, writer);
                }
                Err(OpenError::Missing { .. }) => assert!(self.current.is_none()),
                Err(other) => panic!("{other}"),
            },
            Op::Push(who) => self.push(who),
            Op::Die(who, half) => {
                if let Some(mut it) = self.writers[who].take() {
                    if half {
                        let mut batch = it.writer.batch();
                        let _ = batch.push(0, b"begun");
                        drop(batch);
                    }
                    it.writer.abandon();
                    let term = self.lives[it.life].term(it.generation);
                    term.writer = term.writer.filter(|owner| *owner != who);
                }
            }
            Op::Close(who) => {
                if let Some(it) = self.writers[who].take() {
                    let closed = it.writer.close();
                    let term = self.lives[it.life].term(it.generation);
                    match closed {
                        Ok(()) => {
                            assert!(!term.ended);
                            (term.closed, term.ended, term.writer) = (true, true, None);
                        }
                        Err(SendError::Push(PushError::Fenced)) => assert!(term.ended),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            Op::Open(who) => self.open(who),
            Op::Receive(who, most) => {
                if let Some(mut it) = self.readers[who].take()
                    && self.receive(&mut it, most.unwrap_or(usize::MAX))
                {
                    self.readers[who] = Some(it);
                }
            }
            Op::Leave(who) => {
                if let Some(it) = self.readers[who].take() {
                    let next = if it.in_hand { it.next - 1 } else { it.next };
                    let place = Place { generation: it.generation, next, taken: it.next.max(it.taken) };
                    if NAMES[who].1 == Durability::Durable {
                        self.lives[it.life].places.insert(who, place);
                    }
                }
            }
            Op::Forget(who) => {
                if let Some(it) = self.readers[who].take() {
                    it.reader.forget();
                }
            }
            Op::ForgetName(who) => self.forget_name(who),
            Op::Watch(dog) => {
                let mut report = self.dogs[dog].tick();
                // A standby that went home lets go of its segment a little later: until then it is somebody.
                let begun = Instant::now();
                while self.stood && self.reclaimable() && begun.elapsed() < LONG {
                    if report.notices.iter().any(|notice| matches!(notice.done, Done::Reclaimed { .. })) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    report = self.dogs[dog].tick();
                }
                self.after_look(&report);
            }
            Op::Vanish => {
                if self.current.take().is_some() {
                    std::fs::remove_dir_all(self.bed.namespace.path().join("c")).unwrap();
                }
            }
            Op::StartAndWatch(who, dog) if self.writers[who].is_none() => self.start_and_watch(who, dog),
            Op::PushAndSupersede(who, by) if who != by && self.writers[by].is_none() => {
                self.push_and_supersede(who, by)
            }
            Op::Start(_) | Op::Elect(..) | Op::Supersede(_) | Op::StartAndWatch(..) | Op::PushAndSupersede(..) => {}
        }
    }

    fn elect(&mut self, who: usize, hot: bool) {
        self.stood = true;
        let mut standby = self.channel.standby(if hot { Warmth::Hot } else { Warmth::Cold }).unwrap();
        let life = self.current.map(|life| &self.lives[life]);
        let due = !life.is_some_and(Life::owned);
        match standby.wait(if due { LONG } else { Duration::ZERO }).unwrap() {
            Outcome::Elected(writer) => {
                assert!(due && !life.is_some_and(|life| life.terms.last().is_some_and(|term| term.closed)));
                drop(standby);
                self.settle_in(who, *writer);
            }
            Outcome::TimedOut => assert!(!due),
            Outcome::Closed { generation } => {
                let life = life.expect("a channel");
                assert!(life.terms.last().is_some_and(|term| term.closed) && generation == life.newest() as u64);
            }
            other => panic!("{other:?}"),
        }
    }

    fn push(&mut self, who: usize) {
        let Some(it) = &mut self.writers[who] else { return };
        let life = &mut self.lives[it.life];
        let sequence = life.term(it.generation).first + life.term(it.generation).records;
        let pushed = it.writer.push(0, payload(it.life, sequence).as_bytes());
        let term = life.term(it.generation);
        match pushed {
            Ok(got) => {
                assert!(!term.ended, "acknowledged, though ended");
                assert_eq!(got, sequence);
                term.records += 1;
            }
            Err(SendError::Push(PushError::Fenced)) => assert!(term.ended, "fenced by nobody"),
            Err(other) => panic!("{other}"),
        }
    }

    fn open(&mut self, who: usize) {
        let (name, durability) = NAMES[who];
        if self.readers[who]
            .as_ref()
            .is_some_and(|it| durability == Durability::Ephemeral || Some(it.life) != self.current)
        {
            return; // another reader of that name is another reader
        }
        let opened = self.channel.reader(name, durability, From::Latest);
        let Some(number) = self.current else {
            assert!(matches!(opened, Err(OpenError::Missing { .. })), "{opened:?}");
            return;
        };
        let life = &mut self.lives[number];
        let held = self.readers[who].is_some();
        let place = life.places.get(&who).copied();
        let newest = life.newest();
        match opened {
            Err(OpenError::NameHeld { .. }) => assert!(held),
            Err(OpenError::Closed { generation }) => {
                assert!(!held && place.is_none() && life.term(newest).closed && generation == newest as u64);
            }
            Err(other) => panic!("{other}"),
            Ok(reader) => {
                assert!(!held);
                let place = life.places.remove(&who).unwrap_or_else(|| {
                    assert!(!life.term(newest).ended, "joined what has ended");
                    Place { generation: newest, next: life.next(), taken: 0 }
                });
                assert_eq!(reader.generation(), place.generation as u64, "{name}");
                assert_eq!(reader.next_sequence(), place.next, "{name}");
                let Place { generation, next, taken } = place;
                let told_closed = false;
                let it = Reading { reader, life: number, generation, next, taken, in_hand: false, told_closed };
                self.readers[who] = Some(it);
            }
        }
    }

    /// What the specification says comes next.
    fn foretold(&self, it: &Reading) -> Option<Event> {
        let life = &self.lives[it.life];
        let term = &life.terms[it.generation - 1];
        let old = it.generation as u64;
        if it.next < term.first + term.records {
            let len = payload(it.life, it.next).len();
            return Some(Event::Record { sequence: it.next, record_type: 0, len, redelivered: it.next < it.taken });
        }
        if it.generation < life.newest() && self.current == Some(it.life) {
            return Some(Event::Restarted { old, new: old + 1 });
        }
        (term.closed && it.generation == life.newest() && !it.told_closed).then_some(Event::Closed { generation: old })
    }

    /// Receives and compares; false if the reader's channel is gone, and it with it.
    fn receive(&mut self, it: &mut Reading, most: usize) -> bool {
        let mut buf = [0; 64];
        let mut count = 0;
        while count < most {
            let got = it.reader.try_recv(&mut buf);
            it.in_hand = false; // calling again releases
            let event = match got {
                Ok(Some(Event::WriterGone { .. })) => continue, // told when somebody looks at the clock
                Ok(event) => event,
                Err(ReceiveError::Gone { lost }) => {
                    assert_ne!(self.current, Some(it.life), "it is still there");
                    let life = &self.lives[it.life];
                    match lost {
                        Lost::Nothing => assert_eq!(it.next, life.next(), "lost, and not told"),
                        Lost::Unknown { from } => assert_eq!(from, it.next),
                    }
                    return false;
                }
                Err(other) => panic!("{other}"),
            };
            let foretold = self.foretold(it);
            if self.current != Some(it.life) && event.is_none() {
                // A vanished chain's next generation can't be reached any more; told as soon as somebody looks around.
                assert!(!matches!(foretold, Some(Event::Record { .. })), "{foretold:?} did not come");
                return true;
            }
            assert_eq!(event, foretold);
            match event {
                None => return true,
                Some(Event::Record { sequence, len, .. }) => {
                    assert_eq!(std::str::from_utf8(&buf[..len]), Ok(&*payload(it.life, sequence)));
                    it.next += 1;
                    it.in_hand = true;
                }
                Some(Event::Restarted { new, .. }) => {
                    (it.generation, it.taken, it.told_closed) = (new as usize, 0, false);
                }
                Some(Event::Closed { .. }) => it.told_closed = true,
                Some(other) => panic!("{other:?}"),
            }
            count += 1;
        }
        true
    }

    fn forget_name(&mut self, who: usize) {
        let forgotten = self.channel.forget_reader(NAMES[who].0);
        let Some(life) = self.current else {
            assert!(matches!(forgotten, Err(OpenError::Missing { .. })), "{forgotten:?}");
            return;
        };
        let held = self.readers[who].as_ref().is_some_and(|it| it.life == life);
        let place = self.lives[life].places.remove(&who);
        match forgotten {
            Err(OpenError::NameHeld { .. }) => assert!(held && NAMES[who].1 == Durability::Durable),
            Ok(was) => assert_eq!(was, place.is_some(), "{who}"),
            Err(other) => panic!("{other}"),
        }
    }

    /// Generations of the current chain that somebody is registered in.
    fn inhabited(&self, life: usize) -> Vec<usize> {
        let readers = self.readers.iter().flatten().filter(|it| it.life == life).map(|it| it.generation);
        readers.chain(self.lives[life].places.values().map(|place| place.generation)).collect()
    }

    fn reclaimable(&self) -> bool {
        self.current.is_some_and(|life| !self.lives[life].owned() && self.inhabited(life).is_empty())
    }

    fn after_look(&mut self, report: &ringward_recovery::Report) {
        let due = self.reclaimable();
        let notices: Vec<_> = report.notices.iter().filter(|notice| notice.verdict != Verdict::Vanished).collect();
        let Some(life) = self.current else {
            assert!(notices.is_empty(), "{report:?}");
            return;
        };
        assert_eq!(notices.len(), 1, "{report:?}");
        let reclaimed = matches!(notices[0].done, Done::Reclaimed { .. });
        assert_eq!(reclaimed, due, "{report:?}");
        if reclaimed {
            self.current = None;
            return;
        }
        let expected = if self.lives[life].owned() { Verdict::Live } else { Verdict::Draining };
        assert_eq!(notices[0].verdict, expected, "{report:?}");
        let oldest = self.inhabited(life).into_iter().min().unwrap_or(usize::MAX).min(self.lives[life].newest());
        let kept: Vec<_> = (oldest..=self.lives[life].newest()).map(|number| generation_name(number as u64)).collect();
        assert_eq!(self.bed.names(), kept, "drained generations go, the others stay");
    }

    fn start_and_watch(&mut self, who: usize, dog: usize) {
        let (channel, dogs) = (&self.channel, &mut self.dogs);
        let started = std::thread::scope(|scope| {
            let started = scope.spawn(|| channel.writer());
            dogs[dog].tick();
            started.join().unwrap()
        });
        let reclaimable = self.reclaimable();
        match started {
            Ok(writer) => {
                if writer.generation() == 1 {
                    assert!(reclaimable || self.current.is_none(), "born anew, though somebody was there");
                    self.current = None;
                }
                self.settle_in(who, writer);
            }
            Err(OpenError::Owned { leaked: false, .. }) => {
                assert!(self.lives[self.current.expect("a channel")].owned());
            }
            // The watchdog held the locks for longer than a starter waits for somebody who only looks.
            Err(OpenError::Owned { leaked: true, .. } | OpenError::Busy { .. }) if reclaimable => {
                self.current = self.current.filter(|_| self.bed.namespace.path().join("c").exists());
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn push_and_supersede(&mut self, who: usize, by: usize) {
        let Some(mut it) = self.writers[who].take() else { return };
        let sequence = self.lives[it.life].term(it.generation).first + self.lives[it.life].term(it.generation).records;
        let text = payload(it.life, sequence);
        let channel = &self.channel;
        let (pushed, superseded) = std::thread::scope(|scope| {
            let superseded = scope.spawn(|| channel.supersede());
            let pushed = it.writer.push(0, text.as_bytes());
            (pushed, superseded.join().unwrap())
        });
        let term = self.lives[it.life].term(it.generation);
        match pushed {
            Ok(got) => {
                assert!(!term.ended && got == sequence);
                term.records += 1;
            }
            Err(SendError::Push(PushError::Fenced)) => {
                let now = superseded.is_ok() && self.current == Some(it.life);
                assert!(term.ended || now, "fenced by nobody");
            }
            Err(other) => panic!("{other}"),
        }
        self.writers[who] = Some(it);
        match superseded {
            Ok(writer) => self.settle_in(by, writer),
            Err(OpenError::Missing { .. }) => assert!(self.current.is_none()),
            Err(other) => panic!("{other}"),
        }
    }

    /// Everybody reads what there is; then all go, and nothing is left.
    fn end(mut self) {
        for who in 0..READERS {
            self.do_one(&Op::Receive(who, None));
            self.do_one(&Op::Forget(who));
            if self.current.is_some() {
                self.do_one(&Op::ForgetName(who));
            }
        }
        for who in 0..WRITERS {
            self.do_one(&Op::Push(who));
            self.do_one(&Op::Die(who, false));
        }
        self.do_one(&Op::Watch(0));
        assert_eq!(self.bed.entries(), [] as [&str; 0], "nothing is left");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn any_history_of_a_channel_is_what_the_specification_says() {
    let _alarm = Alarm::new();
    let cases = number("RINGWARD_CASES").unwrap_or(60);
    let seed = number("RINGWARD_SEED").unwrap_or(1);
    let runs = Runs { cases: cases as u32, failure_persistence: None, max_shrink_iters: 3000, ..Runs::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(runs, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let history = prop::collection::vec(op(), 1..60);
    let mut met = BTreeMap::new();
    let counted = std::cell::RefCell::new(&mut met);
    let outcome = runner.run(&history, |ops| {
        let mut world = World::new();
        for op in &ops {
            world.do_one(op);
        }
        let mut met = counted.borrow_mut();
        *met.entry("chains").or_insert(0) += world.lives.len();
        *met.entry("generations").or_insert(0) += world.lives.iter().map(Life::newest).sum::<usize>();
        *met.entry("records").or_insert(0) +=
            world.lives.iter().flat_map(|life| &life.terms).map(|term| term.records as usize).sum::<usize>();
        drop(met);
        world.end();
        Ok(())
    });
    eprintln!("{cases} histories: {met:?}");
    if let Err(why) = outcome {
        panic!("seed {seed}: {why}");
    }
}
