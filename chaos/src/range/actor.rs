//! What the processes of a trial do. Unlike the storm's they go on after an error: they tell the ledger, and try again.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Config, Done, Durability, Event, From, Heal, Namespace, OpenError, Outcome, Reader, ReceiveError,
    SendError, Standby, Warmth, Watchdog, WhenFull, WhenStuck, Writer,
};
use ringward_ring::writer::PushError;

use crate::engine::Job;
use crate::ledger::{Entry, Kind, Pen, now};
use crate::payload::{self, Dice};

/// First word of an actor's orders.
pub(crate) const WORD: &str = "range";
/// Name of the namespace below a trial's root, and of the channel in it.
pub(crate) const NAMESPACE: &str = "ns";
pub(crate) const CHANNEL: &str = "range";

/// What the controller tells all: a byte of the control file at [`TOLD_AT`].
pub(crate) const RUN: u8 = 0;
/// The writer closes, readers drain.
pub(crate) const CLOSE: u8 = 1;
/// Everybody leaves, whatever it was doing.
pub(crate) const HOME: u8 = 2;
/// Where that byte is.
pub(crate) const TOLD_AT: u64 = 0;
/// Where orders for the writer are; it clears the byte when it has obeyed.
pub(crate) const ORDER_AT: u64 = 1;
/// Where the pause after each push is, in units of 100 µs.
pub(crate) const PACE_AT: u64 = 2;
/// Where the pause after each receive is, in units of 100 µs.
pub(crate) const READ_PACE_AT: u64 = 3;
/// Bytes of the control file.
pub(crate) const CONTROL_LEN: usize = 16;

/// Fork a child that outlives you.
pub(crate) const ORDER_FORK: u8 = 1;
/// Allocate until there is no more.
pub(crate) const ORDER_ALLOCATE: u8 = 2;

/// Codes of [`Kind::Told`].
pub(crate) const TOLD_GONE: u32 = 1;
pub(crate) const TOLD_STALLED: u32 = 2;
/// A standby found the writer stuck.
pub(crate) const TOLD_STUCK: u32 = 4;
/// The child that a writer forked; `nonce` is its pid.
pub(crate) const TOLD_CHILD: u32 = 5;
/// A watchdog has taken the channel away.
pub(crate) const TOLD_TAKEN: u32 = 6;
/// A reader came after the end.
pub(crate) const TOLD_LATE: u32 = 7;
/// A process could not get a pid namespace of its own; `nonce` is the errno.
pub(crate) const TOLD_TOGETHER: u32 = 8;

/// Codes of [`Kind::Refused`]: there was no room, or the writer was fenced: the record does not exist.
pub(crate) const REFUSED_FULL: u32 = 0;
pub(crate) const REFUSED_FENCED: u32 = 1;
/// It may exist.
pub(crate) const REFUSED_UNCERTAIN: u32 = 2;

/// Longest payload.
pub(crate) const LONGEST: u64 = 240;
/// How long a push waits for room.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a writer may be silent in trials whose standbys supersede.
pub(crate) const STALL: Duration = Duration::from_millis(250);
/// From one try to the next after an error.
const AGAIN: Duration = Duration::from_millis(2);

/// What an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Stands by, writes when elected.
    Writer = 1,
    /// Reads under a durable name.
    Durable,
    /// Reads under an ephemeral one.
    Ephemeral,
    /// Watches the namespace.
    Watchdog,
}

const PARTS: [Part; 4] = [Part::Writer, Part::Durable, Part::Ephemeral, Part::Watchdog];

/// How an actor is to behave.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) part: Part,
    pub(crate) id: u32,
    pub(crate) place: u32,
    pub(crate) seed: u64,
    pub(crate) capacity: u64,
    pub(crate) beats: bool,
    pub(crate) supersede: bool,
    /// In a pid namespace of its own.
    pub(crate) apart: bool,
    /// A system call that always fails, and its errno; 0: none.
    pub(crate) deny: (u32, u32),
    pub(crate) root: PathBuf,
}

impl Orders {
    pub(crate) fn to_words(&self) -> Vec<std::ffi::OsString> {
        let numbers = format!(
            "{} {} {} {} {} {} {} {} {} {}",
            self.part as u8,
            self.id,
            self.place,
            self.seed,
            self.capacity,
            u8::from(self.beats),
            u8::from(self.supersede),
            u8::from(self.apart),
            self.deny.0,
            self.deny.1
        );
        vec![WORD.into(), numbers.into(), self.root.clone().into()]
    }

    fn from_words(words: &[std::ffi::OsString]) -> Option<Orders> {
        let [_, numbers, root] = words else { return None };
        let numbers: Vec<u64> = numbers.to_str()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[part, id, place, seed, capacity, beats, supersede, apart, call, errno] = &numbers[..] else {
            return None;
        };
        Some(Orders {
            part: *PARTS.get((part as usize).checked_sub(1)?)?,
            id: id as u32,
            place: place as u32,
            seed,
            capacity,
            beats: beats != 0,
            supersede: supersede != 0,
            apart: apart != 0,
            deny: (call as u32, errno as u32),
            root: root.into(),
        })
    }
}

/// The main function of an actor; returns its exit code.
pub(crate) fn work(job: Job) -> i32 {
    let Some(orders) = Orders::from_words(&job.args) else { return 2 };
    let mut fds = job.fds.into_iter();
    let (Some(pen), Some(control), Some(notes)) = (fds.next(), fds.next(), fds.next()) else { return 2 };
    // A limit on file sizes kills by a signal unless somebody minds; a host that lives under one does.
    let _ = crate::engine::ignore_file_size_signal();
    // The controller blocks what a terminal sends.
    let mut terminal = nix::sys::signal::SigSet::empty();
    terminal.add(nix::sys::signal::Signal::SIGTERM);
    let _ = terminal.thread_unblock();
    if orders.deny.1 != 0 && crate::engine::deny(orders.deny.0, orders.deny.1).is_err() {
        return 0; // filters are not permitted here: the fault then misses, and nothing else happens
    }
    let dice = Dice::new(orders.seed, orders.id.into());
    let (control, notes) = (control.into(), notes.into());
    let actor = Actor { pen: Pen::new(pen), control, notes, dice, orders, last: String::new(), pushes: 0 };
    if actor.orders.apart {
        match crate::engine::fork_apart() {
            Ok(None) => {}
            // Whoever wants to end the child ends this process, which takes it along.
            Ok(Some(code)) => return code,
            Err(errno) => actor.say(TOLD_TOGETHER, errno as u64),
        }
    }
    match actor.orders.part {
        Part::Writer => actor.stand_by(),
        Part::Durable | Part::Ephemeral => actor.read(),
        Part::Watchdog => actor.watch(),
    }
    0
}

struct Actor {
    pen: Pen<OwnedFd>,
    control: File,
    notes: File,
    dice: Dice,
    orders: Orders,
    /// The last error that was told: one that repeats is told once.
    last: String,
    /// Pushes in all its terms: no two have one nonce.
    pushes: u64,
}

/// The stable id at the end of a message.
pub(crate) fn id_of(message: &str) -> &str {
    message.rfind("[RW-").and_then(|at| message[at + 1..].split(']').next()).unwrap_or("RW-?")
}

impl Actor {
    fn entry(&self, kind: Kind) -> Entry {
        Entry::new(kind, 0, self.orders.id)
    }

    fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        let _ = self.control.read_exact_at(&mut byte, at);
        byte[0]
    }

    fn told(&self) -> u8 {
        self.byte(TOLD_AT)
    }

    fn say(&self, code: u32, nonce: u64) {
        let mut entry = self.entry(Kind::Told);
        (entry.code, entry.nonce) = (code, nonce);
        self.pen.write([entry]);
    }

    /// A typed error: told, and not the end.
    fn erred(&mut self, doing: &str, message: &str) {
        use std::io::Write as _;
        let id = id_of(message).to_owned();
        if self.last == id {
            return;
        }
        let _ = (&self.notes)
            .write_all(format!("{} {:?} {}: {doing}: {message}\n", now(), self.orders.part, self.orders.id).as_bytes());
        let mut entry = self.entry(Kind::Erred);
        (entry.nonce, entry.head) = super::pack_id(&id);
        self.pen.write([entry]);
        self.last = id;
    }

    fn namespace(&self) -> Result<Namespace, String> {
        Namespace::builder(NAMESPACE).root(&self.orders.root).open().map_err(|error| error.to_string())
    }

    fn channel(&self) -> Result<Channel, String> {
        let config = Config::default()
            .capacity(self.orders.capacity)
            .beat_interval(if self.orders.beats { Duration::from_millis(20) } else { Duration::ZERO })
            .stall_timeout(if self.orders.supersede { STALL } else { Duration::from_secs(2) })
            .when_stuck(if self.orders.supersede { WhenStuck::Supersede } else { WhenStuck::Report })
            .when_full(WhenFull::Block(PATIENCE))
            .heal(Heal::LostMemory);
        Channel::new(&self.namespace()?, CHANNEL, config).map_err(|error| error.to_string())
    }

    fn stand_by(mut self) {
        while self.told() != HOME {
            let standby = self.channel().and_then(|channel| {
                let warmth = if self.orders.id.is_multiple_of(3) { Warmth::Cold } else { Warmth::Hot };
                channel.standby(warmth).map_err(|error| error.to_string())
            });
            match standby {
                Ok(standby) => {
                    if self.park(standby) {
                        return;
                    }
                }
                Err(message) => self.erred("standby", &message),
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Whether it is time to go home.
    fn park(&mut self, mut standby: Standby) -> bool {
        loop {
            match standby.wait(Duration::from_millis(50)) {
                Ok(Outcome::Elected(writer)) => {
                    drop(standby);
                    return self.write(*writer);
                }
                Ok(Outcome::Closed { .. }) => return true,
                Ok(Outcome::Stuck { .. }) => self.say(TOLD_STUCK, 0),
                Ok(_) => {}
                Err(OpenError::ChainFull { .. }) => std::thread::sleep(AGAIN),
                Err(error) => {
                    self.erred("wait", &error.to_string());
                    return false;
                }
            }
            if self.told() == HOME {
                return true;
            }
        }
    }

    /// Writes until told to close, or until it can't; whether it is time to go home.
    fn write(&mut self, mut writer: Writer) -> bool {
        let mut entry = self.entry(Kind::Elected);
        (entry.generation, entry.sequence) = (writer.generation(), writer.next_sequence());
        self.pen.write([entry]);
        self.last.clear();
        let mut buf = vec![0; LONGEST as usize];
        loop {
            match self.told() {
                RUN => {}
                _ => return self.close(writer),
            }
            self.obey();
            self.pushes += 1;
            let nonce = u64::from(self.orders.id) << 32 | self.pushes;
            let len = 8 + self.dice.below(LONGEST - 8) as u32;
            let mut entry = self.entry(Kind::Intent);
            (entry.nonce, entry.len) = (nonce, len);
            self.pen.write([entry]);
            let payload = &mut buf[..len as usize];
            payload::fill(nonce, payload);
            let pushed = writer.push(payload::record_type(nonce), payload);
            let mut entry = self.entry(if pushed.is_ok() { Kind::Acked } else { Kind::Refused });
            (entry.nonce, entry.len, entry.generation) = (nonce, len, writer.generation());
            match pushed {
                Ok(sequence) => {
                    entry.sequence = sequence;
                    self.pen.write([entry]);
                    self.last.clear();
                }
                Err(SendError::Push(PushError::Full { .. })) => {
                    entry.code = REFUSED_FULL;
                    self.pen.write([entry]);
                }
                Err(error) => {
                    let fenced = matches!(error, SendError::Push(PushError::Fenced));
                    // With memory lost it has moved on already; what it can't heal is the end of this writer.
                    let healed = matches!(error, SendError::Push(PushError::Truncated | PushError::Damaged { .. }));
                    entry.code = if fenced { REFUSED_FENCED } else { REFUSED_UNCERTAIN };
                    self.pen.write([entry]);
                    self.erred("push", &error.to_string());
                    if !healed {
                        return self.told() == HOME;
                    }
                    std::thread::sleep(AGAIN);
                }
            }
            self.rest(PACE_AT, 60);
        }
    }

    fn rest(&mut self, at: u64, most_us: u64) {
        match self.byte(at) {
            0 => {
                let pause = self.dice.below(most_us);
                if pause > 12 {
                    std::thread::sleep(Duration::from_micros(pause));
                }
            }
            pace => std::thread::sleep(Duration::from_micros(100 * u64::from(pace))),
        }
    }

    fn obey(&mut self) {
        let order = self.byte(ORDER_AT);
        if order == 0 {
            return;
        }
        let _ = self.control.write_all_at(&[0], ORDER_AT);
        match order {
            ORDER_FORK => {
                if let Some(child) = crate::engine::fork_sleeper() {
                    self.say(TOLD_CHILD, child as u64);
                }
            }
            ORDER_ALLOCATE => {
                let now = crate::engine::proc::virtual_bytes(std::process::id() as i32).unwrap_or(0);
                let limit = Some(now + (16 << 20));
                let limit = rustix::process::Rlimit { current: limit, maximum: limit };
                if rustix::process::setrlimit(rustix::process::Resource::As, limit).is_ok() {
                    let mut hoard = Vec::new();
                    loop {
                        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                    }
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, writer: Writer) -> bool {
        let mut entry = self.entry(Kind::Closed);
        (entry.sequence, entry.generation) = (writer.next_sequence(), writer.generation());
        match writer.close() {
            Ok(()) => {
                self.pen.write([entry]);
                true
            }
            Err(error) => {
                self.erred("close", &error.to_string());
                false
            }
        }
    }

    fn read(mut self) {
        let durable = self.orders.part == Part::Durable;
        let durability = if durable { Durability::Durable } else { Durability::Ephemeral };
        let name = format!("{}-{}", if durable { "durable" } else { "reader" }, self.orders.place);
        while self.told() != HOME {
            let channel = match self.channel() {
                Ok(channel) => channel,
                Err(message) => {
                    self.erred("channel", &message);
                    std::thread::sleep(AGAIN);
                    continue;
                }
            };
            match channel.reader(&name, durability, From::Oldest) {
                Ok(reader) => {
                    let mut entry = self.entry(Kind::Joined);
                    (entry.generation, entry.sequence) = (reader.generation(), reader.next_sequence());
                    (entry.flag, entry.nonce) = (durable, self.orders.place.into());
                    self.pen.write([entry]);
                    if self.receive(reader) {
                        return;
                    }
                }
                Err(OpenError::Missing { .. } | OpenError::NoWriter { .. } | OpenError::Busy { .. }) => {}
                Err(OpenError::Closed { .. }) if self.told() != RUN => return self.say(TOLD_LATE, 0),
                Err(error) => self.erred("open", &error.to_string()),
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Whether it is time to go home.
    fn receive(&mut self, mut reader: Reader) -> bool {
        let mut buf = vec![0; reader.record_limit().clamp(LONGEST as usize, 1 << 20)];
        loop {
            match reader.recv(&mut buf, Duration::from_millis(20)) {
                Ok(None) => {
                    if self.told() == HOME {
                        return true;
                    }
                }
                Ok(Some(event)) => {
                    let entry = self.translate(&event, &buf, &reader);
                    self.pen.write([entry]);
                    self.last.clear();
                    if matches!(event, Event::Closed { .. }) {
                        return true;
                    }
                }
                Err(error) => {
                    if let ReceiveError::Gone { .. } | ReceiveError::Expelled { .. } = error {
                        // The place is gone: a life of its own ends here.
                        self.last.clear();
                    }
                    self.erred("recv", &error.to_string());
                    return false;
                }
            }
            self.rest(READ_PACE_AT, 30);
        }
    }

    fn translate(&self, event: &Event, buf: &[u8], reader: &Reader) -> Entry {
        let mut entry = self.entry(Kind::Told);
        entry.generation = reader.generation();
        match *event {
            Event::Record { sequence, record_type, len, redelivered } => {
                let payload = &buf[..len];
                let claimed = payload::claimed(payload);
                entry.kind = Kind::Record;
                (entry.sequence, entry.record_type, entry.len, entry.flag) =
                    (sequence, record_type, len as u32, redelivered);
                entry.nonce = claimed.unwrap_or(0);
                let wrong = claimed.map_or(Some(0), |nonce| payload::first_wrong(nonce, payload));
                entry.code = wrong.map_or(0, |at| at as u32 + 1);
                entry.head = payload::head(payload);
            }
            Event::Gap { from, count, .. } => {
                entry.kind = Kind::Gap;
                entry.sequence = from;
                entry.nonce = count.unwrap_or(u64::MAX);
            }
            Event::Restarted { old, new } => {
                entry.kind = Kind::Restarted;
                (entry.sequence, entry.generation) = (old, new);
            }
            Event::Closed { .. } => {
                entry.kind = Kind::End;
                entry.sequence = reader.next_sequence();
            }
            Event::WriterGone { .. } => entry.code = TOLD_GONE,
            Event::Stalled { .. } => entry.code = TOLD_STALLED,
            _ => entry.code = 3,
        }
        entry
    }

    fn watch(mut self) {
        while self.told() != HOME {
            match self.namespace() {
                Ok(namespace) => {
                    // Nobody stays away for so long in a trial: what it takes away, somebody lived in.
                    let mut watchdog =
                        Watchdog::builder(&namespace).action(Action::Reclaim).grace(Duration::from_secs(600)).build();
                    for _ in 0..40 {
                        let report = watchdog.tick();
                        for notice in &report.notices {
                            if let Done::Reclaimed { .. } | Done::Quarantined { .. } = notice.done {
                                self.say(TOLD_TAKEN, 0);
                            }
                        }
                        if self.told() == HOME {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
                Err(message) => self.erred("watchdog", &message),
            }
            std::thread::sleep(AGAIN);
        }
    }
}
