//! What is stopped and killed: a process that makes a world ready, does one operation, and says what it came to.
//!
//! Everything before [`operate`] and after it runs at full speed and talks to the controller; inside it runs the library as
//! everybody gets it, and nothing else.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Config, Durability, Event, From, Namespace, OpenError, Outcome, Reader, Report, SendError,
    Standby, Warmth, Watchdog, WhenFull, Writer,
};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession::shift_state;
use ringward_ring::word::State;
use ringward_ring::writer::PushError;

use super::operation::Operation;
use crate::payload;

/// Name of the channel and of its namespace.
pub(crate) const CHANNEL: &str = "channel";
pub(crate) const NAMESPACE: &str = "sweep";
/// Bytes of the ring.
pub(crate) const CAPACITY: u64 = 4096;
/// Reader slots of it.
pub(crate) const SLOTS: u32 = 4;
/// The durable reader of most worlds.
pub(crate) const KEPT: &str = "kept";
/// The reader that joins.
const NEW: &str = "new";
/// First word of a request to be a subject.
pub(crate) const SUBJECT: &str = "sweep-subject";
/// Second but one word: the operation is done once, or again if it fails.
pub(crate) const ONCE: &str = "once";
pub(crate) const AGAIN: &str = "again";
/// Nonces of the records that are pushed in the operation, of those after it, and of a second writer's.
const NONCE: u64 = 1 << 16;
pub(crate) const LATE: u64 = 1 << 20;
pub(crate) const THEIRS: u64 = 1 << 24;

/// Settings of every channel in a sweep: the smallest ring, no beats (so no threads, and one order of instructions).
pub(crate) fn config() -> Config {
    Config::default().capacity(CAPACITY).reader_slots(SLOTS).beat_interval(Duration::ZERO).when_full(WhenFull::Error)
}

/// Opens the channel of the namespace below `root`, made if it is not there.
pub(crate) fn channel(root: &Path) -> Result<Channel, String> {
    let namespace = Namespace::builder(NAMESPACE).root(root).open().map_err(|error| error.to_string())?;
    Channel::new(&namespace, CHANNEL, config()).map_err(|error| error.to_string())
}

/// What an operation came to.
#[derive(Debug)]
enum Came {
    Nothing,
    Pushed(Result<u64, SendError>),
    Batched(Result<std::ops::Range<u64>, PushError>),
    Writes(Result<Writer, OpenError>),
    Waited(Result<Outcome, OpenError>),
    Joined(Result<Reader, OpenError>),
    Received(Vec<Event>, Option<String>),
    Closed(Result<(), SendError>),
    Forgot(Result<bool, OpenError>),
    Ticked(Report),
    Attached(Result<Segment, String>),
    Failed(String),
}

impl Came {
    fn has_failed(&self) -> bool {
        match self {
            Came::Failed(_) | Came::Received(_, Some(_)) => true,
            Came::Writes(result) => result.is_err(),
            Came::Waited(result) => !matches!(result, Ok(Outcome::Elected(_) | Outcome::Closed { .. })),
            Came::Joined(result) => result.is_err(),
            Came::Forgot(result) => result.is_err(),
            Came::Ticked(report) => report.error.is_some(),
            Came::Attached(result) => result.is_err(),
            Came::Nothing | Came::Received(_, None) | Came::Pushed(_) | Came::Batched(_) | Came::Closed(_) => false,
        }
    }
}

struct Stage {
    root: PathBuf,
    names: Vec<String>,
    pen: File,
    channel: Option<Channel>,
    writer: Option<Writer>,
    reader: Option<Reader>,
    standby: Option<Standby>,
    watchdog: Option<Watchdog>,
    dir: Option<File>,
    /// Payloads to be pushed in the operation: nonce and bytes.
    drafts: Vec<(u64, Vec<u8>)>,
    buf: Vec<u8>,
    next_nonce: u64,
}

/// The subject's main function: operation, root and names of readers in `args`, a pipe to report on in `fds`.
pub(crate) fn work(args: &[OsString], fds: Vec<OwnedFd>) -> i32 {
    let words: Option<Vec<&str>> = args.iter().map(|word| word.to_str()).collect();
    let (Some([op, times, root, names @ ..]), Some(pen)) = (words.as_deref(), fds.into_iter().next()) else { return 2 };
    let Some(op) = Operation::from_name(op) else { return 2 };
    let mut stage = Stage {
        root: PathBuf::from(root),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        pen: pen.into(),
        channel: None,
        writer: None,
        reader: None,
        standby: None,
        watchdog: None,
        dir: None,
        drafts: Vec::new(),
        buf: vec![0; CAPACITY as usize],
        next_nonce: 1,
    };
    if let Err(why) = stage.prepare(op) {
        stage.say(format!("failed prepare: {why}"));
        return 3;
    }
    let mut came = operate(&mut stage, op);
    if *times == AGAIN && op.is_repeated() && came.has_failed() {
        if let Came::Received(events, _) = &came {
            stage.received(events);
        }
        came = operate(&mut stage, op);
        if let Came::Forgot(Ok(false)) = came {
            // The first attempt had come so far.
            came = Came::Forgot(Ok(true));
        }
    }
    stage.report(came, op);
    stage.say("done");
    // Whoever watches ends this process; what it holds, it holds until then.
    loop {
        std::thread::park();
    }
}

/// The operation, from its first instruction to its last.
#[inline(never)]
fn operate(stage: &mut Stage, op: Operation) -> Came {
    let Stage { channel, writer, reader, standby, watchdog, buf, drafts, .. } = stage;
    use Operation as Op;
    match (op, channel, writer, reader) {
        (Op::Create, ..) => match self::channel(&stage.root) {
            Ok(channel) => Came::Writes(channel.writer()),
            Err(why) => Came::Failed(why),
        },
        (Op::Attach, Some(channel), ..) => {
            let Some(dir) = &stage.dir else { return Came::Nothing };
            let trust = *channel.namespace().trust();
            let attached = Segment::attach(std::os::fd::AsFd::as_fd(dir), "00000001.ring", Access::Reader, &trust);
            Came::Attached(attached.map_err(|error| error.to_string()))
        }
        (Op::JoinDurable, Some(channel), ..) => Came::Joined(channel.reader(NEW, Durability::Durable, From::Oldest)),
        (Op::JoinEphemeral, Some(channel), ..) => {
            Came::Joined(channel.reader(NEW, Durability::Ephemeral, From::Oldest))
        }
        (Op::ComeBack, Some(channel), ..) => Came::Joined(channel.reader(KEPT, Durability::Durable, From::Oldest)),
        (Op::GiveUp, _, _, reader @ Some(_)) => {
            if let Some(reader) = reader.take() {
                reader.forget();
            }
            Came::Forgot(Ok(true))
        }
        (Op::Forget, Some(channel), ..) => Came::Forgot(channel.forget_reader(KEPT)),
        (Op::Push | Op::PushWrapping | Op::PushFilling | Op::PushFull, _, Some(writer), _) => {
            let Some((nonce, payload)) = drafts.first() else { return Came::Nothing };
            Came::Pushed(writer.push(payload::record_type(*nonce), payload))
        }
        (Op::Batch, _, Some(writer), _) => {
            let mut batch = writer.batch();
            for (nonce, payload) in drafts.iter() {
                if let Err(error) = batch.push(payload::record_type(*nonce), payload) {
                    return Came::Batched(Err(error));
                }
            }
            Came::Batched(batch.publish())
        }
        (Op::ReserveCommit, _, Some(writer), _) => {
            let Some((nonce, payload)) = drafts.first() else { return Came::Nothing };
            let reservation = writer.reserve(payload::record_type(*nonce), payload.len());
            let (first, second) = payload.split_at(payload.len() / 3);
            Came::Pushed(reservation.and_then(|mut reservation| {
                reservation.fill(first)?;
                reservation.fill(second)?;
                Ok(reservation.commit()?)
            }))
        }
        (Op::Receive, _, _, Some(reader)) => match reader.recv(buf, Duration::ZERO) {
            Ok(event) => Came::Received(event.into_iter().collect(), None),
            Err(error) => Came::Received(Vec::new(), Some(error.to_string())),
        },
        (Op::Release, _, _, Some(reader)) => {
            reader.release();
            Came::Nothing
        }
        (Op::DrainAndMove, _, _, Some(reader)) => {
            let mut events = Vec::with_capacity(16);
            for _ in 0..8 {
                match reader.recv(buf, Duration::ZERO) {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        let last = matches!(event, Event::Record { .. });
                        events.push(event);
                        if last {
                            break;
                        }
                    }
                    Err(error) => return Came::Received(events, Some(error.to_string())),
                }
            }
            Came::Received(events, None)
        }
        (Op::Close, _, writer @ Some(_), _) => match writer.take() {
            Some(writer) => Came::Closed(writer.close()),
            None => Came::Nothing,
        },
        (Op::Seal | Op::Succeed, ..) => match standby {
            Some(standby) => Came::Waited(standby.wait(Duration::ZERO)),
            None => Came::Nothing,
        },
        (Op::SucceedCold, Some(channel), ..) => Came::Writes(channel.writer()),
        (Op::Supersede, Some(channel), ..) => Came::Writes(channel.supersede()),
        (Op::TickReclaim | Op::TickQuarantine | Op::TickDrained | Op::TickBirth, ..) => match watchdog {
            Some(watchdog) => Came::Ticked(watchdog.tick()),
            None => Came::Nothing,
        },
        (Op::Recover, Some(channel), ..) => {
            let writer = match channel.writer() {
                Ok(writer) => writer,
                Err(error) => return Came::Writes(Err(error)),
            };
            for name in &stage.names {
                let mut reader = match channel.reader(name, Durability::Durable, From::Oldest) {
                    Ok(reader) => reader,
                    Err(error) => return Came::Joined(Err(error)),
                };
                for _ in 0..64 {
                    if reader.generation() == writer.generation() && reader.next_sequence() == writer.next_sequence() {
                        break;
                    }
                    match reader.recv(buf, Duration::ZERO) {
                        // Said at once: by the next call it is released, and not handed out again.
                        Ok(Some(Event::Record { sequence, .. })) => {
                            let _ = stage.pen.write_all(format!("got {sequence}\n").as_bytes());
                        }
                        Ok(_) => {}
                        Err(error) => return Came::Received(Vec::new(), Some(error.to_string())),
                    }
                }
                reader.release();
            }
            Came::Writes(Ok(writer))
        }
        _ => Came::Nothing,
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

impl Stage {
    fn say(&mut self, line: impl Display) {
        let _ = self.pen.write_all(format!("{line}\n").as_bytes());
    }

    fn draft(&mut self, len: usize) -> (u64, Vec<u8>) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let mut payload = vec![0; len];
        payload::fill(nonce, &mut payload);
        (nonce, payload)
    }

    fn intend(&mut self, len: usize) {
        self.next_nonce = self.next_nonce.max(NONCE);
        let draft = self.draft(len);
        self.say(format_args!("intent {} {len}", draft.0));
        self.drafts.push(draft);
    }

    fn push(&mut self, lens: &[usize]) -> Done {
        for len in lens {
            let (nonce, payload) = self.draft(*len);
            let writer = self.writer.as_mut().ok_or("no writer")?;
            let sequence = writer.push(payload::record_type(nonce), &payload)?;
            self.say(format_args!("acked {sequence} {nonce} {len}"));
        }
        Ok(())
    }

    /// A channel with a writer and, `received` being more than 0, the durable reader; it has received so many of the records,
    /// and has the last of them in hand.
    fn populate(&mut self, lens: &[usize], received: Option<usize>) -> Done {
        let channel = channel(&self.root)?;
        self.writer = Some(channel.writer()?);
        if let Some(received) = received {
            let mut reader = channel.reader(KEPT, Durability::Durable, From::Oldest)?;
            self.push(lens)?;
            for _ in 0..received {
                match reader.recv(&mut self.buf, Duration::ZERO)? {
                    Some(Event::Record { .. }) => {}
                    other => return Err(format!("instead of a record: {other:?}").into()),
                }
            }
            self.reader = Some(reader);
            let (place, taken) = (received.saturating_sub(1), received);
            self.say(format_args!("place {KEPT} {place} {place} {taken} {taken}"));
        } else {
            self.push(lens)?;
        }
        self.channel = Some(channel);
        Ok(())
    }

    fn watch(&mut self, action: Action) -> Done {
        let namespace = self.channel.as_ref().ok_or("no channel")?.namespace();
        self.watchdog = Some(Watchdog::builder(namespace).action(action).grace(Duration::ZERO).build());
        Ok(())
    }

    fn prepare(&mut self, op: Operation) -> Done {
        use Operation as Op;
        const THREE: [usize; 3] = [40, 100, 17];
        match op {
            Op::Create => {}
            Op::Recover => self.channel = Some(channel(&self.root)?),
            Op::Attach => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
                let dir = self.root.join(NAMESPACE).join(CHANNEL);
                self.dir = Some(File::open(dir)?);
            }
            Op::JoinDurable | Op::JoinEphemeral => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
                if op == Op::JoinDurable {
                    self.say(format_args!("place {NEW} 0 0 0 0 fresh"));
                }
            }
            Op::ComeBack => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
            }
            Op::Forget => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
                self.say(format_args!("place {KEPT} 1 1 2 2 fresh"));
            }
            Op::GiveUp => {
                self.populate(&THREE, Some(2))?;
                self.say(format_args!("place {KEPT} 1 2 2 2 fresh"));
            }
            Op::Push => {
                self.populate(&THREE, Some(2))?;
                self.intend(100);
            }
            Op::PushWrapping => {
                self.populate(&[40, 100, 17, 1500, 1500, 600], Some(5))?;
                self.intend(300);
            }
            Op::PushFilling => {
                self.populate(&[40, 100, 17, 1500, 1500], Some(0))?;
                self.intend(744);
            }
            Op::PushFull => {
                self.populate(&[40, 100, 17, 1500, 1500, 744], Some(0))?;
                self.intend(9);
            }
            Op::Batch => {
                self.populate(&THREE, Some(2))?;
                [60, 8, 200].into_iter().for_each(|len| self.intend(len));
            }
            Op::ReserveCommit => {
                self.populate(&THREE, Some(2))?;
                self.intend(90);
            }
            Op::Receive => {
                self.populate(&THREE, Some(2))?;
                self.say(format_args!("place {KEPT} 1 2 2 3"));
            }
            Op::Release => {
                self.populate(&THREE, Some(2))?;
                self.say(format_args!("place {KEPT} 1 2 2 2"));
            }
            Op::Close | Op::Supersede => self.populate(&THREE, Some(2))?,
            Op::Seal => {
                self.populate(&THREE, Some(2))?;
                let writer = self.writer.take().ok_or("no writer")?;
                shift_state(writer.segment(), State::OPEN, State::CLOSED);
                writer.abandon();
                self.standby = Some(self.channel.as_ref().ok_or("no channel")?.standby(Warmth::Cold)?);
            }
            Op::Succeed | Op::SucceedCold => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
                self.writer = None;
                if op == Op::Succeed {
                    self.standby = Some(self.channel.as_ref().ok_or("no channel")?.standby(Warmth::Hot)?);
                }
            }
            Op::DrainAndMove => {
                self.populate(&THREE, Some(3))?;
                self.writer = None;
                self.writer = Some(self.channel.as_ref().ok_or("no channel")?.writer()?);
                self.push(&[70])?;
                self.say(format_args!("place {KEPT} 2 3 3 4"));
            }
            Op::TickReclaim | Op::TickQuarantine => {
                self.populate(&THREE, None)?;
                self.writer = None;
                self.watch(if op == Op::TickReclaim { Action::Reclaim } else { Action::Quarantine })?;
            }
            Op::TickDrained => {
                self.populate(&THREE, Some(3))?;
                self.writer = None;
                self.writer = Some(self.channel.as_ref().ok_or("no channel")?.writer()?);
                self.push(&[70])?;
                let reader = self.reader.as_mut().ok_or("no reader")?;
                // Moves, and does not come to tidy up.
                while reader.next_sequence() < 4 {
                    reader.recv(&mut self.buf, Duration::ZERO)?;
                }
                self.reader = None;
                self.say(format_args!("place {KEPT} 3 3 4 4"));
                self.watch(Action::Reclaim)?;
            }
            Op::TickBirth => {
                self.populate(&THREE, Some(2))?;
                self.reader = None;
                let other = Channel::new(self.channel.as_ref().ok_or("no channel")?.namespace(), "other", config())?;
                drop(other.writer()?);
                let namespace = self.root.join(NAMESPACE);
                std::fs::rename(namespace.join("other"), namespace.join(".birth-0123456789abcdef"))?;
                self.watch(Action::Reclaim)?;
            }
        }
        Ok(())
    }

    /// Says what the operation came to, and what may be found from now on.
    fn report(&mut self, came: Came, op: Operation) {
        let drafts = std::mem::take(&mut self.drafts);
        match came {
            Came::Pushed(Ok(sequence)) => self.acked(sequence, &drafts),
            Came::Batched(Ok(range)) => self.acked(range.start, &drafts),
            Came::Pushed(Err(error)) => self.refused(&drafts, &error),
            Came::Batched(Err(error)) => self.refused(&drafts, &error.into()),
            Came::Writes(Ok(writer)) => self.late(writer),
            Came::Waited(Ok(Outcome::Elected(writer))) => self.late(*writer),
            Came::Waited(Ok(Outcome::Closed { .. })) if op == Operation::Seal => {}
            Came::Waited(Ok(other)) => self.say(format_args!("failed wait: {other:?}")),
            Came::Writes(Err(error)) | Came::Waited(Err(error)) => self.say(format_args!("failed claim: {error}")),
            Came::Joined(Ok(reader)) => {
                if op == Operation::JoinDurable {
                    let next = reader.next_sequence();
                    self.say(format_args!("place {NEW} {next} {next} {next} {next}"));
                }
                self.reader = Some(reader);
            }
            Came::Joined(Err(error)) => self.say(format_args!("failed join: {error}")),
            Came::Received(events, error) => {
                self.received(&events);
                if let Some(error) = error {
                    self.say(format_args!("failed receive: {error}"));
                }
            }
            Came::Closed(Ok(())) => {}
            Came::Closed(Err(error)) => self.say(format_args!("failed close: {error}")),
            Came::Forgot(Ok(true)) => self.say(format_args!("gone {KEPT}")),
            Came::Forgot(other) => self.say(format_args!("failed forget: {other:?}")),
            Came::Ticked(report) => {
                if let Some(error) = report.error {
                    self.say(format_args!("failed tick: {error}"));
                }
            }
            Came::Attached(Ok(_)) => {}
            Came::Attached(Err(why)) | Came::Failed(why) => self.say(format_args!("failed open: {why}")),
            Came::Nothing if op == Operation::Release => self.say(format_args!("place {KEPT} 2 2 2 2")),
            Came::Nothing => self.say("failed operation: nothing was done"),
        }
    }

    fn received(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Record { sequence, .. } = event {
                self.say(format_args!("place {KEPT} {sequence} {sequence} {0} {0}", sequence + 1));
            }
        }
    }

    fn acked(&mut self, first: u64, drafts: &[(u64, Vec<u8>)]) {
        for (sequence, (nonce, payload)) in (first..).zip(drafts) {
            self.say(format_args!("acked {sequence} {nonce} {}", payload.len()));
        }
    }

    fn refused(&mut self, drafts: &[(u64, Vec<u8>)], error: &SendError) {
        // Written or not, delivered or not: only these two say that it never is.
        let never = matches!(error, SendError::Push(PushError::Fenced | PushError::Full { .. }));
        for (nonce, payload) in drafts.iter().filter(|_| never) {
            self.say(format_args!("refused {nonce} {}", payload.len()));
        }
        self.say(format_args!("failed push: {error}"));
    }

    /// Somebody who became the writer writes: if others have followed meanwhile, he is to learn of it here.
    fn late(&mut self, mut writer: Writer) {
        let mut payload = vec![0; 24];
        payload::fill(LATE, &mut payload);
        match writer.try_push(payload::record_type(LATE), &payload) {
            Ok(sequence) => self.say(format_args!("acked {sequence} {LATE} {}", payload.len())),
            Err(error) => self.refused(&[(LATE, payload)], &error),
        }
        self.writer = Some(writer);
    }
}
