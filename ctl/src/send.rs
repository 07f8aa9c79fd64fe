//! `ringward send`: stdin into a channel.

use std::time::{Duration, Instant};

use ringward_recovery::{
    Channel, Checksum, Config, Heal, OpenError, Outcome, SendError, Warmth, WhenFull, WhenStuck, Writer,
};
use ringward_ring::build::BuildError;
use ringward_ring::layout::{MAX_CAPACITY, MIN_CAPACITY, RECORD_HEADER, max_record};
use ringward_ring::writer::PushError;

use crate::args::{Full, Place, Send, Stuck, Sum};
use crate::exit::{Done, Failure};
use crate::input::{Frame, Input, Skipped};
use crate::note::Note;
use crate::place;
use crate::stop::{Stop, TICK};

/// Time between two looks at the readers that have come.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) fn run(at: &Place, args: &Send, stop: &Stop) -> Result<Done, Failure> {
    let config = config(args);
    let namespace = place::namespace(at, true)?;
    let channel = place::channel(&namespace, &args.channel, config)?;
    check_chunks(args)?;
    let Some(writer) = elect(&channel, args, stop)? else { return Ok(Done::All) };
    let limit = writer.segment().identity().record_limit;
    let mut sender = Sender { writer, args, stop, done: Done::All, bytes: 0 };
    let mut input = Input::new(args.frame, limit.into(), stop);
    let skipped = if args.resume { sender.skip(&mut input)? } else { 0 };
    let next = sender.writer.next_sequence();
    Note::Writing { generation: sender.writer.generation(), next, skipped }.tell(args.events);
    sender.wait_for_readers()?;
    while let Some(record) = input.next()? {
        let sequence = sender.push(record)?;
        // With --resume the number of a record and its sequence number are one.
        if args.resume && sequence + 1 != input.records {
            return Err(out_of_step(sequence, input.records - 1));
        }
    }
    sender.finish(input.records - skipped)
}

/// Before anything is made: a chunk must fit.
fn check_chunks(args: &Send) -> Result<(), Failure> {
    let Frame::Chunk(size) = args.frame else { return Ok(()) };
    let size = size as u64;
    let limit = args.record_limit.map_or(max_record(args.capacity.max(MIN_CAPACITY)), u64::from);
    if size <= limit {
        return Ok(());
    }
    let needed = (size + RECORD_HEADER).saturating_mul(2).checked_next_power_of_two().unwrap_or(MAX_CAPACITY);
    Err(Failure::Usage(format!(
        "chunks of {size} bytes are over the record limit of {limit}; choose smaller ones, or a --capacity of {needed} or more"
    )))
}

fn config(args: &Send) -> Config {
    let when_full = match args.when_full {
        Full::Error => WhenFull::Error,
        // In slices, so that a signal gets through.
        Full::Block(limit) => WhenFull::Block(limit.unwrap_or(TICK).min(TICK)),
    };
    let mut config = Config::default()
        .capacity(args.capacity)
        .reader_slots(args.slots)
        .beat_interval(args.heartbeat)
        .stall_timeout(args.stall_timeout)
        .chain_limit(args.chain)
        .when_full(when_full)
        .checksum(match args.checksum {
            Sum::Full => Checksum::FULL,
            Sum::Header => Checksum::HEADER,
        })
        .when_stuck(match args.when_stuck {
            Stuck::Report => WhenStuck::Report,
            Stuck::Supersede => WhenStuck::Supersede,
            Stuck::Kill => WhenStuck::Kill,
        })
        .heal(if args.heal { Heal::LostMemory } else { Heal::Report });
    if let Some(limit) = args.record_limit {
        config = config.record_limit(limit);
    }
    config
}

/// Becomes the writer, now or as a standby; `None` if the channel was closed while it stood by.
fn elect(channel: &Channel, args: &Send, stop: &Stop) -> Result<Option<Writer>, Failure> {
    if !args.standby {
        return channel.writer().map(Some).map_err(refused);
    }
    let warmth = if args.cold { Warmth::Cold } else { Warmth::Hot };
    let mut standby = channel.standby(warmth).map_err(refused)?;
    let mut told_cold = false;
    Note::Waiting { what: "standing by" }.tell(args.events);
    loop {
        stop.check()?;
        match standby.wait(TICK).map_err(refused)? {
            Outcome::Elected(writer) => return Ok(Some(*writer)),
            Outcome::Closed { generation } => {
                Note::Reader(&ringward_recovery::Event::Closed { generation }).tell(args.events);
                return Ok(None);
            }
            Outcome::Stuck { generation, silent } => {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                Note::Stuck { generation, silent_ms }.tell(args.events);
            }
            _ => {}
        }
        if let Some(why) = standby.no_room().filter(|_| !told_cold) {
            Note::Cold { why }.tell(args.events);
            told_cold = true;
        }
    }
}

/// What can't be built is a matter of the command line; all else is the channel's.
fn refused(error: OpenError) -> Failure {
    match error {
        OpenError::Build(
            bad @ (BuildError::Capacity { .. } | BuildError::RecordLimit { .. } | BuildError::Slots { .. }),
        ) => Failure::Usage(bad.to_string()),
        other => Failure::refused(other),
    }
}

fn out_of_step(sequence: u64, number: u64) -> Failure {
    Failure::Refused(format!(
        "record {number} of stdin was written with sequence number {sequence}: the channel went on without this sender, or nobody knows where it ended; \
         compare what was sent with what was received [RW-CTL-STEP]"
    ))
}

struct Sender<'a> {
    writer: Writer,
    args: &'a Send,
    stop: &'a Stop,
    done: Done,
    bytes: u64,
}

impl Sender<'_> {
    /// Skips what the channel has; says how many records that were.
    fn skip(&self, input: &mut Input) -> Result<u64, Failure> {
        let next = self.writer.next_sequence();
        match input.skip(next)? {
            Skipped::All => Ok(next),
            Skipped::Only(there) => Err(Failure::Refused(format!(
                "the channel stands at sequence {next}, but stdin has only {there} records: it is not what was sent here, or \
                 an unknown number of records was lost; send without --resume [RW-CTL-RESUME]"
            ))),
        }
    }

    fn wait_for_readers(&self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut told = false;
        loop {
            let there = self.writer.readers();
            if there >= self.args.readers {
                return Ok(());
            }
            if !told && start.elapsed() > Duration::from_secs(1) {
                told = true;
                let what = format!("{there} of {} readers are registered", self.args.readers);
                Note::Waiting { what: &what }.tell(self.args.events);
            }
            self.stop.sleep(LOOK)?;
        }
    }

    /// Pushes one record, in the end; returns its sequence number.
    fn push(&mut self, record: &[u8]) -> Result<u64, Failure> {
        let start = Instant::now();
        loop {
            let (next, heals) = (self.writer.next_sequence(), self.writer.heals());
            let pushed = self.writer.push(self.args.record_type, record);
            let healed = self.writer.heals() > heals;
            match pushed {
                Ok(sequence) => {
                    if healed {
                        self.healed("its generation was ended, cut or unlinked", None);
                    }
                    self.bytes += record.len() as u64;
                    return Ok(sequence);
                }
                Err(SendError::Push(full @ PushError::Full { .. })) => {
                    self.stop.check()?;
                    let over = match self.args.when_full {
                        Full::Error => true,
                        Full::Block(None) => false,
                        Full::Block(Some(limit)) => start.elapsed() >= limit,
                    };
                    if over {
                        return Err(Failure::refused(full));
                    }
                }
                // It has gone on already. Was this record's number used up? The writer's own count says so, exactly.
                Err(error) if healed => {
                    if self.writer.next_sequence() == next {
                        self.healed(&error.to_string(), None);
                        continue;
                    }
                    self.done = Done::Lost;
                    self.healed(&error.to_string(), Some(next));
                    self.bytes += record.len() as u64;
                    return Ok(next);
                }
                Err(error) => return Err(Failure::refused(error)),
            }
        }
    }

    fn healed(&self, why: &str, perhaps_lost: Option<u64>) {
        let (generation, next) = (self.writer.generation(), self.writer.next_sequence());
        Note::Healed { generation, next, why, perhaps_lost }.tell(self.args.events);
    }

    /// Closes the channel, unless it is to be left for the next sender.
    fn finish(self, records: u64) -> Result<Done, Failure> {
        let next = self.writer.next_sequence();
        if !self.args.no_close {
            self.writer.close().map_err(Failure::refused)?;
        }
        Note::Done { records, bytes: self.bytes, next }.tell(self.args.events);
        Ok(self.done)
    }
}
