//! A program of steps on a channel with a ring of 4 KiB: a writer and its successors, four readers that come and go, and damage from outside.
//!
//! Invariant, held against a model in the head of this process: as long as nothing was damaged, every record comes to every registered
//! reader exactly once, in order, byte for byte, by whatever call it is received; it comes again only to a durable reader that left with it
//! in hand, marked; nothing is refused without a reason; and in the end all is received and there is room for another record. Damage to
//! the data changes one thing: records may be lost, and each loss is told, exactly and in its place. After any other damage what is
//! received is what was pushed under its number, and numbers grow (unless the damage let two writers have one: that is told apart). Whatever happens ends in typed errors and events; never in a panic,
//! a signal or a hang. Lending is left out of programs that do damage: it trusts who could do it.
//!
//! The input is three bytes of configuration, then a byte for each step, with its own bytes behind it.
//!
//! # Safety
//!
//! Records are lent only in programs that do no damage. Then nobody but this process, through the library, touches the segments: the
//! namespace is its own.
#![no_main]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringward_recovery::{
    Channel, Checksum, Config, Durability, Event, From, GapReason, Heal, Namespace, OpenError, Outcome, Reader,
    ReceiveError, SendError, TrustedPeers, Warmth, WhenChainFull, WhenFull, Writer, generation_number,
};
use ringward_ring::layout::{Geometry, max_record};
use ringward_ring::segment::JoinError;
use ringward_ring::writer::{CommitError, PushError};
use rustix::fs::{FallocateFlags, fallocate};

// SAFETY: see above.
const PEERS: TrustedPeers = unsafe { TrustedPeers::vouch() };

const CAPACITY: u64 = 4096;
const LIMIT: usize = max_record(CAPACITY) as usize;
/// No program has more records in all its generations; a reader that takes more steps never comes to an end.
const MOST: usize = 20_000;

fn namespace() -> &'static Namespace {
    static NAMESPACE: OnceLock<Namespace> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        let root: PathBuf = std::env::temp_dir();
        Namespace::builder(format!("live-{}", std::process::id())).root(root).open().expect("a namespace")
    })
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn word(&mut self) -> u64 {
        u64::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }
}

/// What was damaged so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    None,
    /// Bytes of records only.
    Data,
    Any,
}

/// What was pushed: its type is its serial number, and its bytes follow from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    serial: u32,
    len: usize,
}

impl Made {
    fn bytes(self) -> Vec<u8> {
        (0..self.len).map(|at| (self.serial as usize * 31 + at * 7 + at / 64) as u8).collect()
    }
}

/// What this process knows.
struct Log {
    harm: Harm,
    /// The word that says where a generation ended was destroyed, and its late writer has decided anew: it has a number that its successor
    /// has too, and both were acknowledged.
    forked: bool,
    /// Payloads are under checksums.
    full: bool,
    /// What may be delivered under each number: one, unless there was damage.
    pushed: BTreeMap<u64, Vec<Made>>,
    /// The number of the next push, as long as only data were damaged.
    next: u64,
    serial: u32,
    /// Sequence number at the end of each generation that was closed.
    closed: BTreeMap<u64, u64>,
}

impl Log {
    fn make(&mut self, len: usize) -> Made {
        self.serial += 1;
        Made { serial: self.serial, len }
    }

    /// Whether the model knows the future.
    fn strict(&self) -> bool {
        self.harm < Harm::Any
    }

    fn acknowledged(&mut self, sequence: u64, made: Made) {
        assert!(!self.strict() || sequence == self.next, "{sequence} was acknowledged, {} comes next", self.next);
        self.may_come(sequence, made);
        self.next = sequence + 1;
    }

    fn may_come(&mut self, sequence: u64, made: Made) {
        self.pushed.entry(sequence).or_default().push(made);
    }

    /// What was received was pushed, under this number.
    fn check(&self, sequence: u64, record_type: u32, bytes: &[u8]) {
        let made = self.pushed.get(&sequence).and_then(|all| all.iter().find(|made| made.serial == record_type));
        let Some(made) = made else { panic!("{sequence}, type {record_type}: that was never pushed") };
        assert_eq!(made.len, bytes.len(), "{sequence}: another length");
        if self.full || self.harm == Harm::None {
            assert!(made.bytes() == bytes, "{sequence}: other bytes");
        }
    }
}

/// A reader's name, and where it stands.
struct Seat {
    name: &'static str,
    durability: Durability,
    reader: Option<Reader>,
    /// The channel keeps its place.
    kept: bool,
    auto: bool,
    generation: u64,
    /// What comes next.
    next: u64,
    /// What came next when it came into this generation.
    begun: u64,
    /// What is in front of this was given back.
    released: u64,
    /// What is in front of this was handed out.
    taken: u64,
    /// What is in front of this was handed out to its predecessor.
    mark: u64,
}

impl Seat {
    fn new(name: &'static str, durability: Durability) -> Seat {
        Seat {
            name,
            durability,
            reader: None,
            kept: false,
            auto: true,
            generation: 0,
            next: 0,
            begun: 0,
            released: 0,
            taken: 0,
            mark: 0,
        }
    }

    /// It holds the writer back.
    fn counts(&self) -> bool {
        self.reader.is_some() || self.kept
    }

    fn leave(&mut self) {
        self.reader = None;
        self.kept &= self.durability == Durability::Durable;
    }

    fn record(&mut self, log: &Log, sequence: u64, record_type: u32, bytes: &[u8], redelivered: bool) {
        log.check(sequence, record_type, bytes);
        if log.strict() {
            assert_eq!(sequence, self.next, "{}: not the next one", self.name);
            assert_eq!(redelivered, sequence < self.mark, "{}: {sequence}, handed out below {}", self.name, self.mark);
        }
        assert!(sequence >= self.next, "{}: {sequence} after {}", self.name, self.next);
        self.next = sequence + 1;
        self.taken = self.taken.max(self.next);
    }

    fn event(&mut self, log: &Log, event: &Event, buf: &[u8]) {
        match *event {
            Event::Record { sequence, record_type, len, redelivered } => {
                self.record(log, sequence, record_type, &buf[..len], redelivered);
            }
            Event::Gap { from, count, reason } => {
                assert!(log.harm > Harm::None, "{}: a gap at {from}, nothing was damaged", self.name);
                if log.strict() {
                    assert_eq!((from, reason), (self.next, GapReason::Corrupt), "{}: a gap elsewhere", self.name);
                    let count = count.expect("everybody can know how many");
                    assert!(count > 0 && from + count <= log.next, "{}: {count} lost from {from} on", self.name);
                    // What is in hand stays so, and the loss behind it comes again.
                    if self.released == from {
                        self.released = from + count;
                    }
                }
                self.next = self.next.max(from.saturating_add(count.unwrap_or(0)));
                self.taken = self.taken.max(self.next);
            }
            Event::Restarted { old, new } => {
                assert!(new > old && (!log.strict() || old == self.generation), "{}: {old} to {new}", self.name);
                self.generation = new;
                self.begun = self.next;
                if log.forked {
                    self.next = 0;
                }
            }
            Event::Closed { generation } => {
                if log.strict() {
                    assert_eq!(log.closed.get(&generation), Some(&self.next), "{}: closed early", self.name);
                }
            }
            Event::Stalled { .. } => assert!(!log.strict(), "nobody promised beats"),
            _ => {}
        }
    }

    fn failed(&self, log: &Log, error: &ReceiveError, given: usize) {
        match *error {
            ReceiveError::BufferTooSmall { needed, given: said } => {
                assert!(said == given && needed > given && needed <= LIMIT, "{error}");
                if log.strict() {
                    let there = log.pushed.get(&self.next).map(|all| all[0].len);
                    assert_eq!(there, Some(needed), "{}: {error}", self.name);
                }
            }
            _ => assert!(!log.strict(), "{}: {error}", self.name),
        }
    }

    /// One receive. Whether there may be more.
    fn receive(&mut self, log: &Log, buf: &mut [u8]) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let received = reader.try_recv(buf);
        if self.auto {
            self.released = self.next;
        }
        match received {
            Ok(Some(event)) => {
                self.event(log, &event, buf);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.failed(log, &error, buf.len());
                false
            }
        }
    }

    fn drain(&mut self, log: &Log, buf: &mut [u8], most: u64) {
        let Some(reader) = &mut self.reader else { return };
        let mut got = Vec::new();
        let drained =
            reader.drain(buf, most, |sequence, kind, bytes, again| got.push((sequence, kind, bytes.to_vec(), again)));
        let count = got.len() as u64;
        for (sequence, record_type, bytes, again) in got {
            self.record(log, sequence, record_type, &bytes, again);
        }
        if log.strict() {
            self.released = self.next;
        }
        match drained {
            Ok(drained) => assert!(drained == count && count <= most, "{drained} of {count}, at most {most}"),
            Err(error) => self.failed(log, &error, buf.len()),
        }
    }

    fn receive_all(&mut self, log: &Log) {
        let mut buf = [0; LIMIT];
        for _ in 0..MOST {
            if !self.receive(log, &mut buf) {
                return;
            }
        }
        panic!("{}: a reader that never comes to an end", self.name);
    }
}

struct World {
    channel: Channel,
    place: PathBuf,
    /// It is a program that does damage.
    damaging: bool,
    slots: usize,
    log: Log,
    born: bool,
    writer: Option<Writer>,
    /// Somebody may have ended its generation, and failed to follow it.
    shaky: bool,
    /// Writers that were superseded.
    late: Vec<Writer>,
    seats: [Seat; 4],
}

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let (how, slots, chain) = (input.byte(), input.byte(), input.byte());
        let damaging = how & 1 != 0;
        let full = how & 2 == 0;
        let drop_oldest = damaging && how & 4 != 0;
        let slots = 2 + usize::from(slots % 4);
        let config = Config::default()
            .capacity(CAPACITY)
            .checksum(if full { Checksum::FULL } else { Checksum::HEADER })
            .reader_slots(slots as u32)
            .beat_interval(Duration::ZERO)
            .when_full(if how & 8 == 0 { WhenFull::Error } else { WhenFull::Block(Duration::ZERO) })
            .chain_limit(2 + usize::from(chain % 4))
            .when_chain_full(if drop_oldest { WhenChainFull::DropOldest } else { WhenChainFull::Error })
            .heal(if how & 16 == 0 { Heal::Report } else { Heal::LostMemory });
        let namespace = namespace();
        let place = namespace.path().join("c");
        let _ = std::fs::remove_dir_all(&place);
        let durable = |name| Seat::new(name, Durability::Durable);
        let ephemeral = |name| Seat::new(name, Durability::Ephemeral);
        World {
            channel: Channel::new(namespace, "c", config).expect("a channel"),
            place,
            damaging,
            slots,
            log: Log {
                // What is dropped when the chain is full is told, and the model does not count it.
                harm: if drop_oldest { Harm::Any } else { Harm::None },
                forked: false,
                full,
                pushed: BTreeMap::new(),
                next: 0,
                serial: 0,
                closed: BTreeMap::new(),
            },
            born: false,
            writer: None,
            shaky: false,
            late: Vec::new(),
            seats: [durable("a"), durable("b"), ephemeral("x"), ephemeral("y")],
        }
    }

    /// Somebody writes and somebody reads: what a program does not have to bring about first.
    fn open(&mut self) {
        self.claim();
        self.join(0, 0);
    }

    /// The low bits say what, the high ones who.
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        let who = usize::from(op >> 6);
        match op & 31 {
            0 => self.claim(),
            1 => self.supersede(),
            2 => self.succeed(who & 1 != 0),
            3 => self.close(),
            4 => self.writer = None,
            5..=8 => self.push(length(input.byte()), who & 1 != 0),
            9 => self.batch(input),
            10 | 11 => self.reserve(input),
            12 => self.push_late(),
            13 | 14 => self.join(who, input.byte()),
            15 => {
                self.seats[who].leave();
                if op & 32 != 0 {
                    self.join(who, 0);
                }
            }
            16 => self.forget(who),
            17..=19 => {
                for _ in 0..=input.byte() % 8 {
                    if !self.seats[who].receive(&self.log, &mut [0; LIMIT]) {
                        break;
                    }
                }
            }
            20 => {
                let mut buf = vec![0; length(input.byte()).min(LIMIT)];
                self.seats[who].receive(&self.log, &mut buf);
            }
            21 => {
                let most = u64::from(input.byte() % 16);
                self.seats[who].drain(&self.log, &mut [0; LIMIT], most);
            }
            22 => {
                let mut buf = vec![0; length(input.byte()).min(LIMIT)];
                self.seats[who].drain(&self.log, &mut buf, u64::MAX);
            }
            23 => {
                let seat = &mut self.seats[who];
                if let Some(reader) = &mut seat.reader {
                    reader.release();
                    seat.released = seat.next;
                }
            }
            24 => {
                let seat = &mut self.seats[who];
                if let Some(reader) = &mut seat.reader {
                    seat.auto = !seat.auto;
                    reader.set_auto_release(seat.auto);
                    if seat.auto {
                        // Generations that were left are given back at once.
                        seat.released = seat.released.max(seat.begun);
                    }
                }
            }
            25 | 26 => self.lend(who, input),
            27 => {
                let _ = self.channel.inspect();
                let _ = self.channel.tidy();
            }
            28 => {
                if let Some(writer) = &mut self.writer {
                    let tended = writer.tend();
                    assert!(!self.log.strict() || tended.as_ref().is_ok_and(|moved| !moved), "{tended:?}");
                }
            }
            _ => self.damage(op & 31, input),
        }
    }

    fn took_over(&mut self, writer: Writer) {
        if self.log.strict() {
            assert_eq!(writer.next_sequence(), self.log.next, "the successor does not go on where the last one ended");
        }
        self.born = true;
        self.shaky = false;
        self.log.next = writer.next_sequence();
        self.writer = Some(writer);
    }

    fn not_taken_over(&self, error: &OpenError) {
        let reason = match error {
            OpenError::ChainFull { .. } => true,
            OpenError::Missing { .. } => !self.born,
            _ => false,
        };
        assert!(!self.log.strict() || reason, "{error}");
    }

    fn claim(&mut self) {
        match self.channel.writer() {
            Ok(writer) => {
                assert!(!self.log.strict() || self.writer.is_none() || self.shaky, "two writers");
                self.late.extend(self.writer.take());
                self.took_over(writer);
            }
            Err(OpenError::Owned { .. }) if self.writer.is_some() => {}
            Err(error) => self.not_taken_over(&error),
        }
    }

    fn supersede(&mut self) {
        match self.channel.supersede() {
            Ok(writer) => {
                self.late.extend(self.writer.take());
                self.took_over(writer);
            }
            Err(error) => {
                self.shaky = self.writer.is_some();
                self.not_taken_over(&error);
            }
        }
    }

    fn succeed(&mut self, hot: bool) {
        let Ok(mut standby) = self.channel.standby(if hot { Warmth::Hot } else { Warmth::Cold }) else { return };
        match standby.wait(Duration::ZERO) {
            Ok(Outcome::Elected(writer)) => {
                assert!(!self.log.strict() || self.writer.is_none() || self.shaky, "elected beside a living writer");
                self.late.extend(self.writer.take());
                self.took_over(*writer);
            }
            Ok(Outcome::Stuck { .. }) => assert!(!self.log.strict(), "nobody promised beats"),
            Ok(_) => {}
            Err(error) => self.not_taken_over(&error),
        }
    }

    fn close(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let generation = writer.generation();
        match writer.close() {
            Ok(()) => drop(self.log.closed.insert(generation, self.log.next)),
            Err(error) => assert!(!self.log.strict() || self.shaky, "{error}"),
        }
        self.shaky = false;
    }

    fn push(&mut self, len: usize, try_it: bool) {
        let held_back = self.seats.iter().any(Seat::counts);
        if let Some(writer) = &mut self.writer {
            push(&mut self.log, writer, len, try_it, held_back, self.shaky);
        }
    }

    fn batch(&mut self, input: &mut Input<'_>) {
        let Some(writer) = &mut self.writer else { return };
        let how = input.byte();
        let first = writer.next_sequence();
        let mut batch = writer.batch();
        let mut staged = Vec::new();
        let mut spoilt = false;
        for _ in 0..how % 8 {
            let made = self.log.make(length(input.byte()).min(LIMIT));
            match batch.push(made.serial, &made.bytes()) {
                Ok(sequence) => {
                    assert_eq!(sequence, first + staged.len() as u64, "numbers of a batch");
                    staged.push(made);
                }
                Err(PushError::Full { .. }) => {}
                Err(error) => {
                    assert!(!self.log.strict() || self.shaky, "{error}");
                    spoilt = true;
                    break;
                }
            }
        }
        assert!(spoilt || batch.len() == staged.len() as u64, "{} staged", batch.len());
        if how & 0x40 != 0 {
            return; // discarded: nobody sees any of it
        }
        match batch.publish() {
            Ok(range) => {
                assert!(spoilt || range == (first..first + staged.len() as u64), "{range:?}");
                for (sequence, made) in range.zip(staged) {
                    self.log.acknowledged(sequence, made);
                }
            }
            Err(error) => {
                assert!(!self.log.strict() || self.shaky, "{error}");
                if error != PushError::Fenced {
                    for (sequence, made) in (first..).zip(staged) {
                        self.log.may_come(sequence, made);
                    }
                }
            }
        }
    }

    fn reserve(&mut self, input: &mut Input<'_>) {
        let held_back = self.seats.iter().any(Seat::counts);
        let Some(writer) = &mut self.writer else { return };
        let (len, how) = (length(input.byte()), input.byte());
        let made = self.log.make(len);
        let first = writer.next_sequence();
        let mut reservation = match writer.reserve(made.serial, len) {
            Ok(reservation) => reservation,
            Err(SendError::Push(error)) => return refused(&self.log, error, len, held_back, self.shaky),
            Err(error) => panic!("{error}"),
        };
        let bytes = made.bytes();
        let (one, other) = bytes.split_at(len * usize::from(how % 8) / 8);
        let mut filled = reservation.fill(one);
        if filled.is_ok() && how & 0x40 == 0 {
            filled = if how & 0x10 != 0 && !self.damaging {
                reservation.in_place(PEERS, |place| place.copy_from_slice(other))
            } else {
                reservation.fill(other)
            };
        }
        assert!(!self.log.strict() || filled.is_ok(), "{filled:?}");
        assert!(reservation.fill(&vec![0; reservation.remaining() + 1]).is_err(), "more than was reserved");
        if how & 0x20 != 0 {
            return reservation.abort();
        }
        let whole = reservation.remaining() == 0;
        match reservation.commit() {
            Ok(sequence) => {
                assert!(whole, "a record of {len} bytes was committed that was not filled");
                self.log.acknowledged(sequence, made);
            }
            Err(CommitError::Fill(error)) => assert!(!whole, "{error}"),
            Err(CommitError::Push(error)) => {
                assert!(!self.log.strict() || self.shaky, "{error}");
                if error != PushError::Fenced {
                    self.log.may_come(first, made);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A writer that was superseded pushes: nobody gets it.
    fn push_late(&mut self) {
        let Some(mut writer) = self.late.pop() else { return };
        let made = self.log.make(40);
        let first = writer.next_sequence();
        match writer.push(made.serial, &made.bytes()) {
            Err(SendError::Push(PushError::Fenced)) => {}
            Ok(sequence) => {
                assert!(!self.log.strict(), "a late push was acknowledged as {sequence}");
                self.log.may_come(sequence, made);
                self.log.forked = true;
            }
            Err(error) => {
                assert!(!self.log.strict(), "{error}");
                self.log.may_come(first, made);
                self.log.forked = true;
            }
        }
        if made.serial % 2 == 0 {
            self.late.push(writer);
        }
    }

    fn join(&mut self, who: usize, how: u8) {
        if self.seats[who].reader.is_some() {
            return;
        }
        let taken = self.seats.iter().filter(|seat| seat.counts()).count();
        let latest = how & 1 != 0;
        let seat = &mut self.seats[who];
        let from = if latest { From::Latest } else { From::Oldest };
        let reader = match self.channel.reader(seat.name, seat.durability, from) {
            Ok(reader) => reader,
            Err(error) => {
                let why = match &error {
                    _ if !self.log.strict() => true,
                    _ if seat.kept => false,
                    OpenError::Missing { .. } => !self.born,
                    OpenError::Closed { generation } => self.log.closed.contains_key(generation),
                    OpenError::NoWriter { .. } => self.shaky || self.writer.is_none(),
                    OpenError::Join(JoinError::NoSlot { .. }) => taken >= self.slots,
                    _ => false,
                };
                assert!(why, "{}: {error}", seat.name);
                return;
            }
        };
        let next = reader.next_sequence();
        match self.log.harm {
            Harm::Any => {}
            Harm::None if seat.kept => assert_eq!(next, seat.released, "{}: another place", seat.name),
            // What is lost may have been given back when it was told.
            Harm::Data if seat.kept => assert!(
                (seat.released..=seat.taken).contains(&next),
                "{}: at {next}, was between {} and {}",
                seat.name,
                seat.released,
                seat.taken
            ),
            _ if latest => assert_eq!(next, self.log.next, "{}: not at the latest", seat.name),
            _ => assert!(next <= self.log.next, "{}: {next} is in the future", seat.name),
        }
        let mark = if seat.kept { seat.taken } else { 0 };
        let generation = reader.generation();
        // After damage to more than data it may stand anywhere.
        let stands = if self.log.strict() { next } else { 0 };
        *seat = Seat {
            reader: Some(reader),
            kept: seat.durability == Durability::Durable,
            generation,
            next: stands,
            begun: stands,
            released: next,
            taken: mark.max(next),
            mark,
            ..Seat::new(seat.name, seat.durability)
        };
    }

    fn forget(&mut self, who: usize) {
        let seat = &mut self.seats[who];
        match seat.reader.take() {
            Some(reader) => reader.forget(),
            None if seat.durability == Durability::Durable => match self.channel.forget_reader(seat.name) {
                Ok(found) => assert!(!self.log.strict() || found == seat.kept, "{}: forgotten: {found}", seat.name),
                Err(error) => assert!(!self.log.strict() || !self.born, "{}: {error}", seat.name),
            },
            None => {}
        }
        seat.kept = false;
    }

    fn lend(&mut self, who: usize, input: &mut Input<'_>) {
        let held_back = self.seats.iter().any(Seat::counts);
        let seat = &mut self.seats[who];
        if self.damaging {
            seat.receive(&self.log, &mut [0; LIMIT]);
            return;
        }
        let Some(reader) = &mut seat.reader else { return };
        let how = input.byte();
        let (log, writer, shaky) = (&mut self.log, &mut self.writer, self.shaky);
        let lent = reader.lend(PEERS, |sequence, record_type, bytes, again| {
            let before = bytes.to_vec();
            // A push meanwhile must not run over what is looked at.
            if let (Some(writer), true) = (writer, how & 1 != 0) {
                push(log, writer, length(how), how & 2 != 0, held_back, shaky);
            }
            assert!(before == bytes, "{sequence}: it changed under who looked");
            (sequence, record_type, before, again)
        });
        if seat.auto {
            seat.released = seat.next;
        }
        if let Some((sequence, record_type, bytes, again)) = lent.expect("no error of its own") {
            seat.record(&self.log, sequence, record_type, &bytes, again);
        }
    }

    /// Somebody else writes to the file of a generation, or cuts it.
    fn damage(&mut self, op: u8, input: &mut Input<'_>) {
        let which = usize::from(input.byte());
        let (at, value) = (input.word(), input.byte());
        if !self.damaging {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&self.place) else { return };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().and_then(|name| generation_number(name.to_str()?)).is_some())
            .collect();
        paths.sort();
        // The newest is 0.
        let Some(path) = paths.len().checked_sub(1 + which % 64 % paths.len().max(1)).map(|at| &paths[at]) else { return };
        let Ok(file) = File::options().read(true).write(true).open(path) else { return };
        let len = file.metadata().map_or(0, |meta| meta.len());
        let data_at = Geometry { page: 4096, slots: self.slots as u32, capacity: CAPACITY }.data_at();
        // Most of it among the records, where it is not only the end of everything.
        let at = match which & 0xc0 {
            0 => at,
            0x40 => data_at + at % CAPACITY,
            _ => data_at + at % 512,
        };
        let at = at % len.max(1);
        let harm = match op {
            29 | 30 => {
                let mut byte = [0];
                let _ = file.read_exact_at(&mut byte, at);
                // A flipped bit, or another byte.
                let now = if op == 29 { byte[0] ^ (1 << (value & 7)) } else { value };
                if len == 0 || file.write_all_at(&[now], at).is_err() {
                    return;
                }
                if at >= data_at { Harm::Data } else { Harm::Any }
            }
            _ if value & 1 == 0 => {
                let hole = (16 * u64::from(value)).min(len - at);
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if hole == 0 || fallocate(&file, flags, at, hole).is_err() {
                    return;
                }
                if at >= data_at { Harm::Data } else { Harm::Any }
            }
            _ => {
                let _ = file.set_len(at);
                Harm::Any
            }
        };
        self.log.harm = self.log.harm.max(harm);
    }

    /// Everybody comes and receives the rest, and the channel is in order.
    fn finish(mut self) {
        for who in 0..self.seats.len() {
            if self.seats[who].kept {
                self.join(who, 0);
            }
            self.seats[who].receive_all(&self.log);
        }
        if !self.log.strict() || !self.born {
            return;
        }
        for seat in self.seats.iter_mut().filter(|seat| seat.reader.is_some()) {
            assert_eq!(seat.next, self.log.next, "{} did not get all", seat.name);
            seat.receive_all(&self.log);
            if let Some(reader) = &mut seat.reader {
                reader.release();
            }
        }
        if self.shaky {
            self.writer = None;
        }
        if self.writer.is_none() {
            self.channel.tidy().expect("nobody is in the way");
            let writer = self.channel.writer().expect("everything was received");
            self.took_over(writer);
        }
        let made = self.log.make(LIMIT);
        let writer = self.writer.as_mut().expect("there is one");
        let sequence = writer.push(made.serial, &made.bytes()).expect("everything was released");
        self.log.acknowledged(sequence, made);
        for seat in self.seats.iter_mut().filter(|seat| seat.reader.is_some()) {
            seat.receive_all(&self.log);
            assert_eq!(seat.next, self.log.next, "{} did not get the last one", seat.name);
        }
    }
}

/// Lengths up to some that are too long; many short ones.
fn length(byte: u8) -> usize {
    match byte {
        0..=99 => usize::from(byte),
        _ => usize::from(byte - 100) * 14,
    }
}

/// One push, by `push` or `try_push`. `held_back`: there are readers; `shaky`: its generation may have been ended.
fn push(log: &mut Log, writer: &mut Writer, len: usize, try_it: bool, held_back: bool, shaky: bool) {
    let made = log.make(len);
    let first = writer.next_sequence();
    let bytes = made.bytes();
    let pushed = if try_it { writer.try_push(made.serial, &bytes) } else { writer.push(made.serial, &bytes) };
    match pushed {
        Ok(sequence) => {
            assert!(len <= LIMIT, "{len} bytes are too many");
            log.acknowledged(sequence, made);
        }
        Err(SendError::Push(error)) => {
            refused(log, error, len, held_back, shaky);
            // It may have been written all the same, and is delivered then or told as lost.
            if matches!(error, PushError::Truncated | PushError::Damaged { .. }) {
                log.may_come(first, made);
            }
        }
        Err(error) => {
            assert!(!log.strict(), "{error}");
            log.may_come(first, made);
        }
    }
}

/// Whether there is a reason.
fn refused(log: &Log, error: PushError, len: usize, held_back: bool, shaky: bool) {
    let reason = match error {
        PushError::TooLarge { .. } => len > LIMIT,
        PushError::Full { .. } => held_back,
        PushError::Fenced => shaky,
        _ => false,
    };
    assert!(!log.strict() || reason, "a record of {len} bytes: {error}");
}

fuzz_target!(|program: &[u8]| {
    let mut input = Input(program);
    let mut world = World::new(&mut input);
    if program.first().is_some_and(|how| how & 32 == 0) {
        world.open();
    }
    for _ in 0..400 {
        let Some(op) = input.next() else { break };
        world.step(op, &mut input);
    }
    world.finish();
    for entry in std::fs::read_dir(namespace().path()).expect("ours").flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
});
