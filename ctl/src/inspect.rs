//! `ringward inspect`: one channel in words.

use std::fmt::Write;

use crate::args::{Inspect, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::style::{Style, Tint};
use crate::survey::{ChannelView, GenerationView, OwnerView, ReaderView, SeenView, one};
use crate::units::show_size;

pub(crate) fn run(at: &Place, args: &Inspect, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let view = one(&namespace, &args.channel, args.sample, stop)?;
    if args.json {
        let document = serde_json::to_string_pretty(&view).map_err(|error| Failure::system("write JSON", error))?;
        print(&format!("{document}\n"))?;
    } else {
        print(&words(&view, &namespace.path().display().to_string(), Style::of(at)))?;
    }
    Ok(Done::All)
}

fn words(view: &ChannelView, path: &str, style: Style) -> String {
    let mut out = style.paint(Tint::Head, &format!("channel {} in {path}", view.channel)) + "\n";
    let verdict = format!("verdict: {} [{}]", view.verdict, view.verdict_id);
    let _ = writeln!(out, "{}", style.judge(view.verdict_id, &verdict));
    for reason in reasons(view) {
        let _ = writeln!(out, "  {reason}");
    }
    let _ = writeln!(
        out,
        "{} in {} of memory{}",
        count(view.generations as u64, "generation"),
        show_size(view.memory),
        view.next_sequence.map_or_else(String::new, |next| format!("; the next record is {next}"))
    );
    match &view.readers[..] {
        [] => out.push_str("no readers\n"),
        readers => {
            let _ = writeln!(out, "{}:", count(readers.len() as u64, "reader"));
            for reader in readers {
                let _ = writeln!(out, "  {}", reader_words(reader));
            }
        }
    }
    for generation in view.chain.iter().rev() {
        out.push_str(&generation_words(generation, style));
    }
    out
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The evidence for the verdict.
pub(crate) fn reasons(view: &ChannelView) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(owner) = &view.owner {
        reasons.push(owner_words(owner));
    }
    if let Some(ms) = view.silent_ms.filter(|ms| *ms > 0) {
        reasons.push(format!("nothing of it changed for {ms} ms while we looked"));
    }
    if view.presence_held {
        reasons.push("the presence byte is held: somebody stands by, starts, or watches".to_owned());
    }
    if let Some(ms) = view.orphaned_ms {
        reasons.push(match ms {
            0 => "nobody holds any lock of it".to_owned(),
            ms => format!("nobody holds any lock of it, and it was marked {ms} ms ago"),
        });
    }
    if let Some(error) = &view.error {
        reasons.push(error.clone());
    }
    reasons
}

fn owner_words(owner: &OwnerView) -> String {
    let (pid, lock) = (owner.pid, owner.lock_held);
    match (owner.whereabouts, lock) {
        ("here", true) => format!("the writer is process {pid}: it is here and holds the writer lock"),
        ("here", false) => format!("process {pid} was the writer: it is here, but has let go of the writer lock"),
        ("gone", true) => {
            format!("process {pid} was the writer and is gone, but its lock is held: a leaked descriptor")
        }
        ("gone", false) => format!("process {pid} was the writer: it is gone, and the writer lock is free"),
        (_, true) => format!(
            "the writer lock is held; the writer wrote itself down as process {pid}, which can't be seen from here"
        ),
        (_, false) => format!(
            "the writer lock is free; the writer wrote itself down as process {pid}, which can't be seen from here"
        ),
    }
}

pub(crate) fn reader_words(reader: &ReaderView) -> String {
    let name = reader.name.as_deref().unwrap_or("(damaged slot)");
    let kind = reader.kind.unwrap_or("unknown kind");
    let life = match (reader.lock_held, reader.pid) {
        (true, Some(pid)) => format!("process {pid} holds its byte"),
        (true, None) => "its byte is held".to_owned(),
        (false, _) => "nobody holds its byte".to_owned(),
    };
    let next = reader.next_sequence.map_or_else(|| "unknown".to_owned(), |next| next.to_string());
    let lag = match (reader.lag_records, reader.lag_bytes) {
        (Some(0), _) => "up to date".to_owned(),
        (Some(records), Some(bytes)) => format!("{} ({}) behind", count(records, "record"), show_size(bytes)),
        _ => "lag unknown".to_owned(),
    };
    let (slot, state, generation) = (reader.slot, &reader.state, reader.generation);
    format!("{name} ({kind}): {life}; slot {slot} of generation {generation}, {state}; next {next}, {lag}")
}

fn generation_words(generation: &GenerationView, style: Style) -> String {
    let number = generation.generation;
    let Some(seen) = &generation.seen else {
        let error = generation.error.as_deref().unwrap_or("unreadable");
        return style.paint(Tint::Bad, &format!("generation {number}: can't be read: {error}")) + "\n";
    };
    let mut out = style.paint(Tint::Head, &format!("generation {number}: {}", seen.state)) + "\n";
    let _ = writeln!(out, "  {}", owner_words(&seen.owner));
    let beats = match seen.beat_interval_ms {
        0 => "promises no beats".to_owned(),
        ms => format!("promises a beat every {ms} ms, {} so far", seen.beats),
    };
    let _ = writeln!(out, "  {beats}");
    let _ = writeln!(
        out,
        "  segment {} (layout {}): ring of {}, records up to {} bytes, checksum {}, {} reader slots; {} of memory",
        seen.segment,
        seen.layout,
        show_size(seen.capacity),
        seen.record_limit,
        seen.checksum,
        seen.slots,
        show_size(seen.memory),
    );
    let _ = writeln!(out, "  {}", where_words(seen));
    let _ = writeln!(out, "  {}", end_words(seen));
    if let Some(before) = &seen.predecessor {
        let end = seen
            .predecessor_end
            .map_or_else(|| "nobody knows where that ended".to_owned(), |end| format!("which ended at byte {end}"));
        let _ = writeln!(out, "  follows segment {before}, {end}");
    } else if number > 1 {
        let _ = writeln!(out, "  follows by name alone, nobody knows where the one before ended");
    }
    for reader in &seen.readers {
        let _ = writeln!(out, "  {}", reader_words(reader));
    }
    out
}

fn where_words(seen: &SeenView) -> String {
    match (seen.next_sequence, seen.position) {
        (Some(next), Some(position)) => {
            let records = count(next.saturating_sub(seen.first_sequence), "record");
            format!("{records} from sequence {} on, {} written", seen.first_sequence, show_size(position))
        }
        _ => format!("begins at sequence {}; the writer's cursor is damaged", seen.first_sequence),
    }
}

fn end_words(seen: &SeenView) -> String {
    let end = match (seen.end, seen.end_position) {
        ("at", Some(position)) => format!("ends at byte {position}"),
        ("unknown", _) => "ended, nobody knows where".to_owned(),
        ("damaged", _) => "its end word is damaged".to_owned(),
        _ => "not ended".to_owned(),
    };
    let successor = match seen.successor.as_str() {
        "undecided" => "no successor".to_owned(),
        "nobody" => "retired: nobody follows".to_owned(),
        "damaged" => "its successor word is damaged".to_owned(),
        id => format!("followed by segment {id}"),
    };
    format!("{end}; {successor}")
}
