#![allow(unsafe_code)]
//! What the killed processes do: write, stand by, read, and tell the ledger.
//!
//! # Safety
//!
//! Nothing here is unsafe but the attribute that keeps the names of five functions, so that breakpoints find them; the
//! names begin with `ringward_chaos_` and are nobody else's.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ringward_recovery::{
    Channel, Durability, Event, From, OpenError, Outcome, Reader, ReceiveError, SendError, Standby, Warmth, Writer,
};
use ringward_ring::writer::PushError;

use crate::engine::template::{self, Job};
use crate::ledger::{Entry, Kind, Pen, now};
use crate::namespace::{self, Which};
use crate::payload::{self, Dice};
use crate::range::actor as range;
use crate::sweep::subject;

/// What the controller tells all workers of a channel, in one byte of a memory file.
pub(crate) const RUN: u8 = 0;
/// Writers hold their breath.
pub(crate) const PAUSE: u8 = 1;
/// The writer closes the channel, everybody goes home.
pub(crate) const CLOSE: u8 = 2;

/// How often writers that hold their breath look whether they still have to; on the timed channel ten times as often.
const PAUSE_POLL: Duration = Duration::from_millis(5);

/// Where in that file a writer asks the readers to hold still: until a time, or, just below [`HOLD_STILL`], until told otherwise.
const HOLD_AT: u64 = 8;
const HOLD_STILL: u64 = u64::MAX;
/// How long they hold still at most: whoever asked may be dead, and whoever calls it off, too.
pub(crate) const HOLD_MOST: Duration = Duration::from_millis(20);

/// Has the readers hold still for so much longer, once they have been asked to.
pub(crate) fn hold_on(control: &File, time: Duration) -> std::io::Result<()> {
    let until = if time.is_zero() { 0 } else { now() + time.as_nanos() as u64 };
    control.write_all_at(&until.to_le_bytes(), HOLD_AT)
}

/// Exit code of a worker that went home as told.
pub(crate) const EXIT_HOME: i32 = 0;
/// Exit code of a worker whose role ended with an error.
pub(crate) const EXIT_FAILED: i32 = 3;

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Stands by until it is elected, then writes.
    Standby = 1,
    /// Reads, and keeps its place over its deaths.
    Durable,
    /// Reads, and gives its place up.
    Ephemeral,
    /// Tries to be the writer at once; says so and goes home if another is.
    Claimant,
    /// Parks on a lock, and tells when it was granted.
    Parked,
}

const ROLES: [Role; 5] = [Role::Standby, Role::Durable, Role::Ephemeral, Role::Claimant, Role::Parked];

/// How a worker is to behave.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) role: Role,
    pub(crate) which: Which,
    pub(crate) id: u32,
    /// Number in the reader's name.
    pub(crate) place: u32,
    pub(crate) seed: u64,
    pub(crate) root: PathBuf,
    pub(crate) capacity: u64,
    pub(crate) payload: (u32, u32),
    /// Chance that a push is announced as the writer's last.
    pub(crate) rate: f64,
    pub(crate) beats: bool,
    /// Share of last pushes that are to find the ring full.
    pub(crate) full_share: f64,
}

impl Orders {
    /// As words, for the template.
    pub(crate) fn to_words(&self) -> Vec<std::ffi::OsString> {
        let numbers = format!(
            "{} {} {} {} {} {} {} {} {} {} {}",
            self.role as u8,
            self.which as u8,
            self.id,
            self.place,
            self.seed,
            self.capacity,
            self.payload.0,
            self.payload.1,
            self.rate.to_bits(),
            u8::from(self.beats),
            self.full_share.to_bits()
        );
        vec![numbers.into(), self.root.clone().into()]
    }

    fn from_words(words: &[std::ffi::OsString]) -> Option<Orders> {
        let [numbers, root] = words else { return None };
        let numbers: Vec<u64> = numbers.to_str()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[role, which, id, place, seed, capacity, min, max, rate, beats, full] = &numbers[..] else { return None };
        Some(Orders {
            role: *ROLES.get((role as usize).checked_sub(1)?)?,
            which: Which::from_number(which as u8),
            id: id as u32,
            place: place as u32,
            seed,
            root: root.into(),
            capacity,
            payload: (min as u32, max as u32),
            rate: f64::from_bits(rate),
            beats: beats != 0,
            full_share: f64::from_bits(full),
        })
    }
}

/// Serves as a template of workers.
pub(crate) fn serve() -> ! {
    template::serve(work)
}

fn work(job: Job) -> i32 {
    if let [first, rest @ ..] = &job.args[..]
        && first == subject::SUBJECT
    {
        return subject::work(rest, job.fds);
    }
    if job.args.first().is_some_and(|word| word == range::WORD) {
        return range::work(job);
    }
    let Some(orders) = Orders::from_words(&job.args) else { return 2 };
    if orders.which == Which::Storm {
        // Short pauses are to be short: the kernel rounds them up by 50 microseconds unless told otherwise. Whoever is timed sleeps
        // as everybody's processes do.
        let _ = nix::sys::prctl::set_timerslack(1000);
    }
    let mut fds = job.fds.into_iter();
    let (Some(pen), Some(control), Some(notes)) = (fds.next(), fds.next(), fds.next()) else { return 2 };
    let desk = Desk {
        pen: Pen::new(pen),
        control: control.into(),
        notes: notes.into(),
        dice: Dice::new(orders.seed, orders.id.into()),
        orders,
    };
    match (desk.orders.role, fds.next()) {
        (Role::Standby | Role::Claimant, _) => desk.stand_by(),
        (Role::Durable | Role::Ephemeral, _) => desk.read(),
        (Role::Parked, Some(file)) => desk.park(file),
        (Role::Parked, None) => 2,
    }
}

/// Breakpoints go here: a push that is to be its writer's last comes next.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn ringward_chaos_doom(id: u32) -> u32 {
    std::hint::black_box(id)
}

/// The same, when the ring has just been filled and the readers hold still: the push will not find room at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn ringward_chaos_doom_full(id: u32) -> u32 {
    std::hint::black_box(id ^ 1)
}

/// The push, and nothing else: the library's own code, as everybody gets it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn ringward_chaos_push(writer: &mut Writer, record_type: u32, payload: &[u8]) -> Result<u64, SendError> {
    writer.push(record_type, payload)
}

/// The receive, and nothing else.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn ringward_chaos_recv(
    reader: &mut Reader,
    buf: &mut [u8],
    timeout: Duration,
) -> Result<Option<Event>, ReceiveError> {
    reader.recv(buf, timeout)
}

/// The wait of a standby, from parking to having been elected.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn ringward_chaos_wait(standby: &mut Standby, timeout: Duration) -> Result<Outcome, OpenError> {
    standby.wait(timeout)
}

/// A record that is about to be pushed.
#[derive(Debug, Default)]
struct Draft {
    count: u64,
    nonce: u64,
    len: u32,
}

/// What a worker has on its desk.
struct Desk {
    pen: Pen<OwnedFd>,
    control: File,
    notes: File,
    dice: Dice,
    orders: Orders,
}

impl Desk {
    fn entry(&self, kind: Kind) -> Entry {
        Entry::new(kind, self.orders.which as u8, self.orders.id)
    }

    fn told(&self) -> u8 {
        let mut byte = [RUN];
        let _ = self.control.read_exact_at(&mut byte, self.orders.which as u64);
        byte[0]
    }

    fn hold(&self) -> u64 {
        let mut word = [0; 8];
        let _ = self.control.read_exact_at(&mut word, HOLD_AT);
        u64::from_le_bytes(word)
    }

    /// Leaves a note for people; it goes to the end of the file, which is opened to append.
    fn note(&self, text: &str) {
        use std::io::Write as _;
        let line = format!("worker {} ({:?}): {text}\n", self.orders.id, self.orders.role);
        let _ = (&self.notes).write_all(line.as_bytes());
    }

    fn fail(&self, text: &str) -> i32 {
        self.note(text);
        self.pen.write([self.entry(Kind::Failed)]);
        EXIT_FAILED
    }

    fn channel(&self) -> Result<Channel, String> {
        let namespace = namespace::open(&self.orders.root)?;
        namespace::channel(&namespace, self.orders.which, self.orders.capacity, self.orders.beats)
    }

    fn stand_by(mut self) -> i32 {
        let channel = match self.channel() {
            Ok(channel) => channel,
            Err(why) => return self.fail(&why),
        };
        if self.orders.role == Role::Claimant {
            return match channel.writer() {
                // It was closed, or is to be: by this one as well as by another.
                Ok(writer) if self.told() == CLOSE => {
                    let mut entry = self.entry(Kind::Elected);
                    (entry.generation, entry.sequence) = (writer.generation(), writer.next_sequence());
                    self.pen.write([entry]);
                    self.close(writer)
                }
                Ok(writer) => self.write(writer),
                Err(OpenError::Owned { .. } | OpenError::ChainFull { .. } | OpenError::Busy { .. }) => EXIT_HOME,
                Err(error) => self.fail(&error.to_string()),
            };
        }
        let mut standby = match channel.standby(Warmth::Hot) {
            Ok(standby) => standby,
            Err(OpenError::Closed { .. }) => return EXIT_HOME,
            Err(error) => return self.fail(&error.to_string()),
        };
        loop {
            match ringward_chaos_wait(&mut standby, Duration::from_millis(500)) {
                Ok(Outcome::Elected(writer)) => {
                    drop(standby);
                    return self.write(*writer);
                }
                Ok(Outcome::Closed { .. }) => return EXIT_HOME,
                Ok(_) => {}
                // The readers are behind; they will come.
                Err(OpenError::ChainFull { .. }) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }

    fn write(&mut self, mut writer: Writer) -> i32 {
        let mut buf = vec![0; self.orders.payload.1 as usize];
        let mut entry = self.entry(Kind::Elected);
        (entry.generation, entry.sequence) = (writer.generation(), writer.next_sequence());
        let burst = self.dice.chance(0.7);
        if self.dice.chance(0.7) {
            writer.set_spin(self.dice.below(40) as u32);
        }
        let mut draft = Draft::default();
        self.draft(&mut draft);
        self.pen.write([entry, self.intent(&draft)]);
        loop {
            match self.told() {
                RUN => {}
                PAUSE => {
                    std::thread::sleep(if self.orders.which == Which::Storm { PAUSE_POLL } else { PAUSE_POLL / 10 });
                    continue;
                }
                _ => return self.close(writer),
            }
            if self.dice.chance(self.orders.rate) {
                if self.dice.chance(self.orders.full_share) {
                    if let Err(code) = self.fill_up(&mut writer, &mut buf, &mut draft) {
                        return code;
                    }
                    ringward_chaos_doom_full(self.orders.id);
                } else {
                    ringward_chaos_doom(self.orders.id);
                }
            }
            let payload = &mut buf[..draft.len as usize];
            payload::fill(draft.nonce, payload);
            let pushed = ringward_chaos_push(&mut writer, payload::record_type(draft.nonce), payload);
            if let Err(code) = self.settle(pushed, &mut draft) {
                return code;
            }
            let pause = match (burst, self.dice.below(16)) {
                (true, 0) => self.dice.below(60),
                (true, _) => 0,
                (false, 0) => self.dice.below(600),
                (false, _) => self.dice.below(25),
            };
            if self.orders.which == Which::Failover {
                std::thread::sleep(Duration::from_micros(1000));
            } else if pause > 0 {
                std::thread::sleep(Duration::from_micros(pause));
            }
        }
    }

    /// Asks the readers to hold still, and fills the ring behind their backs; the controller lets go of them.
    fn fill_up(&mut self, writer: &mut Writer, buf: &mut [u8], draft: &mut Draft) -> Result<(), i32> {
        // Each request is another one.
        let still = HOLD_STILL - (now() & u64::from(u32::MAX));
        let _ = self.control.write_all_at(&still.to_le_bytes(), HOLD_AT);
        let min = self.orders.payload.0;
        let mut most = u32::MAX;
        for _ in 0..1000 {
            if draft.len > most {
                // The last chinks, with ever shorter records.
                draft.len = most;
                self.pen.write([self.intent(draft)]);
            }
            let payload = &mut buf[..draft.len as usize];
            payload::fill(draft.nonce, payload);
            let pushed = writer.try_push(payload::record_type(draft.nonce), payload);
            let (full, len) = (pushed.is_err(), draft.len);
            self.settle(pushed, draft)?;
            if full && len == min {
                break;
            }
            if full {
                most = min.max(len / 2);
            }
        }
        if self.dice.chance(0.6) {
            // As long as can be: the longer, the fewer readers' places leave room for it.
            draft.len = self.orders.payload.1;
            self.pen.write([self.intent(draft)]);
        }
        writer.set_spin(self.dice.below(3) as u32);
        Ok(())
    }

    /// Tells the ledger how the push of `draft` went, and what comes next; an error is the exit code of a writer that can't
    /// go on.
    fn settle(&mut self, pushed: Result<u64, SendError>, draft: &mut Draft) -> Result<(), i32> {
        let mut entry = self.entry(if pushed.is_ok() { Kind::Acked } else { Kind::Refused });
        (entry.nonce, entry.len) = (draft.nonce, draft.len);
        match pushed {
            Ok(sequence) => entry.sequence = sequence,
            Err(SendError::Push(PushError::Full { .. })) => {}
            Err(error) => {
                entry.code = 1;
                self.pen.write([entry]);
                return Err(self.fail(&format!("push: {error}")));
            }
        }
        self.draft(draft);
        self.pen.write([entry, self.intent(draft)]);
        Ok(())
    }

    fn close(&self, writer: Writer) -> i32 {
        let mut entry = self.entry(Kind::Closed);
        entry.sequence = writer.next_sequence();
        match writer.close() {
            Ok(()) => {
                self.pen.write([entry]);
                EXIT_HOME
            }
            Err(error) => self.fail(&format!("close: {error}")),
        }
    }

    /// The next record: its nonce and its length.
    fn draft(&mut self, draft: &mut Draft) {
        let (min, max) = self.orders.payload;
        let span = u64::from(max - min) + 1;
        let len = match self.dice.below(8) {
            // As many short ones as long ones, and the borders of the fast paths for copies and checksums.
            0..4 => self.dice.below(span.min(260)),
            4 => self.dice.below(span.min(1100)),
            _ => self.dice.below(span),
        };
        draft.count += 1;
        draft.nonce = u64::from(self.orders.id) << 32 | draft.count;
        draft.len = min + len as u32;
    }

    fn intent(&self, draft: &Draft) -> Entry {
        let mut entry = self.entry(Kind::Intent);
        (entry.nonce, entry.len) = (draft.nonce, draft.len);
        entry
    }

    fn read(mut self) -> i32 {
        let channel = match self.channel() {
            Ok(channel) => channel,
            Err(why) => return self.fail(&why),
        };
        let durable = self.orders.role == Role::Durable;
        let durability = if durable { Durability::Durable } else { Durability::Ephemeral };
        let name = format!("{}{}", if durable { "durable-" } else { "reader-" }, self.orders.place);
        let mut reader = loop {
            match channel.reader(&name, durability, From::Oldest) {
                Ok(reader) => break reader,
                // The channel is not born yet; or nobody has followed a dead writer yet; or everybody is faster than we.
                Err(OpenError::Missing { .. } | OpenError::NoWriter { .. } | OpenError::Busy { .. }) => {
                    if self.told() == CLOSE && !durable {
                        return EXIT_HOME;
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
                Err(OpenError::Closed { .. }) => return EXIT_HOME,
                Err(error) => return self.fail(&format!("open: {error}")),
            }
        };
        let mut entry = self.entry(Kind::Joined);
        (entry.generation, entry.sequence) = (reader.generation(), reader.next_sequence());
        (entry.flag, entry.nonce) = (durable, self.orders.place.into());
        self.pen.write([entry]);
        if self.dice.chance(0.6) {
            reader.set_spin(self.dice.below(60) as u32);
        }
        let mut buf = vec![0; reader.record_limit().max(self.orders.payload.1 as usize)];
        let storm = self.orders.which == Which::Storm;
        let mut held_for = 0;
        loop {
            match ringward_chaos_recv(&mut reader, &mut buf, Duration::from_millis(20)) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    let at = now();
                    let mut entry = self.translate(&event, &buf, &reader);
                    entry.ns = at;
                    self.pen.write([entry]);
                    if matches!(event, Event::Closed { .. }) {
                        return EXIT_HOME;
                    }
                }
                Err(error) => return self.fail(&format!("recv: {error}")),
            }
            let until = if storm { self.hold() } else { 0 };
            if until > now() && held_for != until {
                let most = now() + HOLD_MOST.as_nanos() as u64;
                while self.hold() > now() && now() < most {
                    std::thread::sleep(Duration::from_micros(150));
                }
                // The same request is not honoured twice.
                held_for = self.hold();
            } else if storm && self.dice.below(512) == 0 {
                std::thread::sleep(Duration::from_micros(self.dice.below(4000)));
            }
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
                let wrong = claimed.and_then(|nonce| payload::first_wrong(nonce, payload));
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
            Event::WriterGone { .. } => entry.code = 1,
            Event::Stalled { .. } => entry.code = 2,
            _ => entry.code = 3,
        }
        entry
    }

    /// Waits for a lock that another process holds, and tells when it was granted.
    fn park(self, file: OwnedFd) -> i32 {
        use nix::fcntl::{FcntlArg, fcntl};
        let lock = nix::libc::flock { l_type: nix::libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
        if let Err(errno) = fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock)) {
            return self.fail(&format!("F_OFD_SETLKW: {errno}"));
        }
        self.pen.write([self.entry(Kind::Woke)]);
        EXIT_HOME
    }
}
