//! `ringward tail`: a channel's last records, without a place in it.
//!
//! Reads copies of the files, so that nobody notices: no slot, no lock, no mapping, nothing written. What the writer overwrites
//! before it was copied is counted.

use std::fmt::Write;

use ringward_recovery::Namespace;
use ringward_ring::image::{self, Piece};
use ringward_ring::layout::{CURSOR_AT, SUCCESSION_AT};
use ringward_ring::word::State;
use serde_json::json;

use crate::args::{Place, Tail};
use crate::corpse::{Corpse, of_channel};
use crate::dump::hex;
use crate::exit::{Done, Failure, complain};
use crate::output::print;
use crate::place;
use crate::stop::Stop;

/// A record, as it was copied.
struct Seen {
    sequence: u64,
    generation: u64,
    position: u64,
    record_type: u32,
    payload: Vec<u8>,
}

/// What a look at the channel found.
struct Look {
    records: Vec<Seen>,
    /// It was closed in order, and these are all.
    closed: bool,
}

/// State, position and generation of the newest: nothing new has come while they stay.
type Pulse = (Vec<u64>, Vec<u8>);

pub(crate) fn run(at: &Place, args: &Tail, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let mut pulse = pulse(&namespace, &args.channel)?;
    let mut look = look(&namespace, &args.channel, 0)?;
    let skip = look.records.len().saturating_sub(usize::try_from(args.records).unwrap_or(usize::MAX));
    let mut next = match look.records.get(skip).or(look.records.last()) {
        Some(first) if skip < look.records.len() => first.sequence,
        Some(last) => last.sequence + 1,
        None => 0,
    };
    look.records.drain(..skip);
    let mut printed = 0u64;
    let mut joined = !look.records.is_empty() || skip > 0;
    loop {
        for record in &look.records {
            if args.count == Some(printed) {
                return Ok(Done::All);
            }
            if joined && record.sequence > next {
                let passed = record.sequence - next;
                complain(&format!(
                    "{passed} records from {next} on were not seen: overwritten or lost [RW-CTL-PASSED]"
                ));
            }
            joined = true;
            next = record.sequence + 1;
            print(&if args.json { record.json() } else { record.words(args.width) })?;
            printed += 1;
        }
        if !args.follow || look.closed || args.count == Some(printed) {
            return Ok(Done::All);
        }
        loop {
            stop.sleep(args.interval.max(std::time::Duration::from_millis(1)))?;
            let now = self::pulse(&namespace, &args.channel)?;
            if now != pulse {
                pulse = now;
                break;
            }
        }
        look = self::look(&namespace, &args.channel, next)?;
    }
}

/// Everything from sequence number `from` on that is there.
fn look(namespace: &Namespace, channel: &str, from: u64) -> Result<Look, Failure> {
    let mut look = Look { records: Vec::new(), closed: false };
    for corpse in of_channel(namespace, channel)? {
        let bytes = corpse.copy()?;
        let image = image::decode(&bytes);
        let Ok(identity) = &image.identity else { continue };
        for piece in image.pieces() {
            let Piece::Record { position, sequence, record_type, payload } = piece else { continue };
            if sequence >= from {
                let (generation, payload) = (identity.generation, payload.to_vec());
                look.records.push(Seen { sequence, generation, position, record_type, payload });
            }
        }
        look.closed = image.state == State::CLOSED;
    }
    Ok(look)
}

/// A few bytes of each generation that change with every record, and with its state.
fn pulse(namespace: &Namespace, channel: &str) -> Result<Pulse, Failure> {
    let corpses: Vec<Corpse> = of_channel(namespace, channel)?;
    let mut bytes = Vec::new();
    for corpse in &corpses {
        for at in [SUCCESSION_AT, CURSOR_AT] {
            let mut word = [0; 8];
            corpse.part(at as u64, &mut word)?;
            bytes.extend(word);
        }
    }
    Ok((corpses.iter().filter_map(|corpse| corpse.generation).collect(), bytes))
}

impl Seen {
    fn words(&self, width: u64) -> String {
        let width = usize::try_from(width).unwrap_or(usize::MAX);
        let shown = if width == 0 { &self.payload[..] } else { &self.payload[..self.payload.len().min(width)] };
        let mut line = format!("{}  type {}  {} B  ", self.sequence, self.record_type, self.payload.len());
        for chunk in shown.utf8_chunks() {
            for c in chunk.valid().chars() {
                // Control characters would act on the terminal.
                if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
            }
            let _ = write!(line, "{}", chunk.invalid().escape_ascii());
        }
        if shown.len() < self.payload.len() {
            line.push('…');
        }
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let Seen { sequence, generation, position, record_type, payload } = self;
        let document = json!({
            "sequence": sequence,
            "generation": generation,
            "position": position,
            "type": record_type,
            "length": payload.len(),
            "payload": hex(payload),
            "text": std::str::from_utf8(payload).ok(),
        });
        format!("{document}\n")
    }
}
