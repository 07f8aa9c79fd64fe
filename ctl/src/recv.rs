//! `ringward recv`: a channel's records to stdout.
//!
//! The library releases a record at the next receive; so each one is written, all of it, before that. Killed in between, a
//! durable receiver gets it again.

use std::time::{Duration, Instant};

use ringward_recovery::{Channel, Config, Durability, Event, From, OpenError, Reader, ReceiveError};

use crate::args::{Place, Recv, Start};
use crate::exit::{Done, Failure};
use crate::frames::{self, HEADER};
use crate::note::Note;
use crate::output::Output;
use crate::place;
use crate::stop::{Stop, TICK};

/// First size of the payload buffer.
const PAYLOAD: usize = 64 << 10;
/// Time between two tries to join.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a name may seem to be held: a predecessor that is being torn down, or somebody who only looks.
const HELD: Duration = Duration::from_millis(500);

pub(crate) fn run(at: &Place, args: &Recv, stop: &Stop) -> Result<Done, Failure> {
    let name = args.name.clone().unwrap_or_else(|| format!("recv-{}", std::process::id()));
    let mut output = match &args.output {
        Some(path) => Output::frames(path, stop)?,
        None => Output::stdout(stop),
    };
    let channel = open(at, args)?;
    if args.count == Some(0) {
        return Ok(Done::All);
    }
    let mut reader = join(at, channel, &name, args, stop)?;
    let joined = Note::Joined { name: &name, generation: reader.generation(), next: reader.next_sequence() };
    joined.tell(args.events);
    let mut unwritten = false;
    let ended = receive(&mut reader, &mut output, args, stop, &mut unwritten);
    if !unwritten {
        reader.release();
    }
    ended
}

fn open(at: &Place, args: &Recv) -> Result<Channel, Failure> {
    place::channel(&place::namespace(at, true)?, &args.channel, Config::default())
}

/// Becomes a reader, waiting for the channel if need be: in the namespace that has the name now, if it was removed meanwhile.
fn join(at: &Place, mut channel: Channel, name: &str, args: &Recv, stop: &Stop) -> Result<Reader, Failure> {
    let durability = if args.durable { Durability::Durable } else { Durability::Ephemeral };
    let from = match args.from {
        Start::Oldest => From::Oldest,
        Start::Latest => From::Latest,
    };
    let start = Instant::now();
    let mut told = false;
    loop {
        stop.check()?;
        let waited = start.elapsed();
        let left = args.wait.map(|wait| wait.saturating_sub(waited));
        let why = match channel.reader(name, durability, from) {
            Ok(reader) => return Ok(reader),
            Err(closed @ OpenError::Closed { .. }) => return Err(Failure::Nothing(closed.to_string())),
            // It comes, or heals, or is followed: not by us.
            Err(why @ (OpenError::Missing { .. } | OpenError::NoWriter { .. } | OpenError::Damaged { .. })) => why,
            Err(why @ (OpenError::Busy { .. } | OpenError::NameHeld { .. })) if waited < HELD => why,
            Err(bad @ OpenError::ReaderName { .. }) => return Err(Failure::Usage(bad.to_string())),
            Err(other) => return Err(Failure::refused(other)),
        };
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Failure::Nothing(format!("{why}; waited for {waited:?}")));
        }
        if !told && waited > Duration::from_secs(1) {
            told = true;
            Note::Waiting { what: &why.to_string() }.tell(args.events);
        }
        if channel.namespace().removed() {
            channel = open(at, args)?;
        } else if matches!(why, OpenError::Missing { .. }) {
            match channel.wait_for(left.unwrap_or(TICK).min(TICK)) {
                Ok(_) | Err(OpenError::Missing { .. }) => {}
                Err(other) => return Err(Failure::refused(other)),
            }
        } else {
            stop.sleep(left.unwrap_or(AGAIN).min(AGAIN))?;
        }
    }
}

/// Receives and writes. `unwritten` says, however it ends, that the record in hand has not been written: it must not be released.
fn receive(
    reader: &mut Reader,
    output: &mut Output,
    args: &Recv,
    stop: &Stop,
    unwritten: &mut bool,
) -> Result<Done, Failure> {
    let head = if args.framed { HEADER } else { 0 };
    let mut buf = vec![0; HEADER + PAYLOAD + 1];
    let mut done = Done::All;
    let mut received = 0u64;
    let mut idle_since = Instant::now();
    loop {
        stop.check()?;
        let tick = match args.timeout {
            Some(timeout) => timeout.saturating_sub(idle_since.elapsed()).min(TICK),
            None => TICK,
        };
        let space = HEADER..buf.len() - 1;
        let event = match reader.recv(&mut buf[space], tick) {
            Ok(Some(event)) => event,
            Ok(None) => match args.timeout {
                Some(timeout) if idle_since.elapsed() >= timeout => {
                    let next = reader.next_sequence();
                    return Err(Failure::Nothing(format!(
                        "no record for {timeout:?}; the next is {next} [RW-CTL-TIMEOUT]"
                    )));
                }
                _ => continue,
            },
            Err(ReceiveError::BufferTooSmall { needed, .. }) => {
                buf.resize(HEADER + needed.max(PAYLOAD) + 1, 0);
                continue;
            }
            Err(error) => return Err(Failure::refused(error)),
        };
        match event {
            Event::Record { sequence, record_type, len, redelivered } => {
                idle_since = Instant::now();
                if redelivered {
                    Note::Reader(&event).tell(args.events);
                }
                if output.has(sequence) {
                    continue;
                }
                if args.framed {
                    buf[..HEADER].copy_from_slice(&frames::header(sequence, record_type, len));
                } else if args.newline {
                    buf[HEADER + len] = b'\n';
                }
                let end = HEADER + len + usize::from(args.newline);
                *unwritten = true;
                output.write(sequence, &buf[HEADER - head..end])?;
                *unwritten = false;
                received += 1;
                if args.count == Some(received) {
                    return Ok(done);
                }
            }
            Event::Gap { .. } => {
                Note::Reader(&event).tell(args.events);
                done = Done::Lost;
            }
            Event::Closed { .. } => {
                Note::Reader(&event).tell(args.events);
                return Ok(done);
            }
            other => Note::Reader(&other).tell(args.events),
        }
    }
}
