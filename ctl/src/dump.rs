//! `ringward dump`: a segment's bytes, with the names of their fields and the borders of its records.

use std::fmt::Write;

use ringward_ring::image::{self, Image, Piece};
use ringward_ring::layout::{RECORD_HEADER, SLOT_LEN, TABLE_HEAD_LEN, record_len};
use ringward_ring::word::SegmentId;
use serde_json::{Value, json};

use crate::args::{Dump, Place};
use crate::corpse::corpses;
use crate::exit::{Done, Failure};
use crate::fields::{CURSOR, Field, IDENTITY, RECORD, SLOT, TABLE_HEAD, WRITER_PAGE, value};
use crate::output::print;
use crate::style::{Style, Tint};

pub(crate) fn run(at: &Place, args: &Dump) -> Result<Done, Failure> {
    let mut corpses = corpses(at, &args.target)?;
    if let Some(wanted) = args.generation {
        let there: Vec<String> = corpses.iter().filter_map(|corpse| corpse.generation).map(|n| n.to_string()).collect();
        corpses.retain(|corpse| corpse.generation == Some(wanted));
        if corpses.is_empty() {
            let there = there.join(", ");
            return Err(Failure::Nothing(format!("{} has no generation {wanted}; there are: {there}", args.target)));
        }
    }
    let Some(corpse) = corpses.pop() else { return Err(Failure::Nothing(format!("no segment in {}", args.target))) };
    let bytes = corpse.copy()?;
    let image = image::decode(&bytes);
    let dump = Hex { bytes: &bytes, segment: image.identity.as_ref().ok().map(|identity| identity.segment) };
    let parts = if args.at.is_none() { dump.parts(&image) } else { Vec::new() };
    let pieces: Vec<Piece<'_>> = image
        .pieces()
        .filter(|piece| args.at.is_none_or(|at| end(piece) > at || (span(piece) == 0 && start(piece) >= at)))
        .take(args.pieces.unwrap_or(if args.at.is_some() { 1 } else { usize::MAX }))
        .collect();
    if let (Some(at), true) = (args.at, pieces.is_empty()) {
        let end = image.readable.end;
        return Err(Failure::Nothing(format!("nothing is readable at position {at}; what is readable ends at {end}")));
    }
    if args.json {
        let document = json!({
            "name": corpse.name,
            "error": image.identity.as_ref().err().map(ToString::to_string),
            "parts": parts.iter().map(|part| part.json(&dump)).collect::<Vec<_>>(),
            "pieces": pieces.iter().map(|piece| dump.piece_json(&image, piece)).collect::<Vec<_>>(),
        });
        print(&format!("{document:#}\n"))?;
        return Ok(Done::All);
    }
    let style = Style::of(at);
    print(&format!("{}: {image}\n", style.paint(Tint::Head, &corpse.name)))?;
    for part in parts {
        print(&dump.part_words(&part, style))?;
    }
    for piece in pieces {
        print(&dump.piece_words(&image, &piece, style))?;
    }
    Ok(Done::All)
}

/// A part of a segment, with its fields.
struct Part {
    name: String,
    at: usize,
    fields: Vec<Field>,
}

impl Part {
    fn new(name: impl Into<String>, at: usize, fields: &[Field]) -> Part {
        // A cursor is shown by its own fields.
        let mut flat = Vec::new();
        for field in fields {
            if field.name.ends_with("cursor") {
                flat.extend(CURSOR.iter().map(|inner| Field { at: field.at + inner.at, ..*inner }));
            } else {
                flat.push(*field);
            }
        }
        Part { name: name.into(), at, fields: flat }
    }

    fn json(&self, dump: &Hex<'_>) -> Value {
        let fields: Vec<Value> = self
            .fields
            .iter()
            .filter_map(|field| {
                let bytes = dump.field(self.at, field)?;
                let value = value(field.kin, bytes, dump.segment);
                Some(json!({"offset": self.at + field.at, "length": field.len, "name": field.name, "value": value, "bytes": hex(bytes)}))
            })
            .collect();
        json!({"part": self.name, "fields": fields})
    }
}

struct Hex<'b> {
    bytes: &'b [u8],
    segment: Option<SegmentId>,
}

impl<'b> Hex<'b> {
    fn slice(&self, at: usize, len: usize) -> Option<&'b [u8]> {
        self.bytes.get(at..at.checked_add(len)?)
    }

    fn field(&self, part: usize, field: &Field) -> Option<&'b [u8]> {
        self.slice(part + field.at, field.len)
    }

    /// Everything in front of the data; slots that nobody ever used are left out.
    fn parts(&self, image: &Image<'_>) -> Vec<Part> {
        let mut parts = vec![Part::new("identity", 0, IDENTITY)];
        let Ok(identity) = &image.identity else { return parts };
        parts.push(Part::new("writer page", 0, WRITER_PAGE));
        let table = usize::try_from(identity.geometry.table_at()).unwrap_or(usize::MAX);
        parts.push(Part::new("reader table", table, TABLE_HEAD));
        for slot in 0..image.slots.len() {
            let at = table + TABLE_HEAD_LEN + slot * SLOT_LEN;
            // State and kind of a fresh slot are set, nothing else is.
            let used = self.slice(at + 8, SLOT_LEN - 8).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
            if used || image.slots[slot].occupied() {
                parts.push(Part::new(format!("slot {slot}"), at, SLOT));
            }
        }
        parts
    }

    fn part_words(&self, part: &Part, style: Style) -> String {
        let mut out = heading(&part.name, style);
        for field in &part.fields {
            match self.field(part.at, field) {
                Some(bytes) => {
                    self.line(&mut out, part.at + field.at, bytes, field.name, field.kin, style);
                }
                None => {
                    let _ = writeln!(out, "{:08x}  {}", part.at + field.at, style.paint(Tint::Bad, "cut off"));
                    break;
                }
            }
        }
        out
    }

    fn line(&self, out: &mut String, at: usize, bytes: &[u8], name: &str, kin: crate::fields::Kin, style: Style) {
        let shown = if bytes.len() > 16 && bytes.iter().all(|byte| *byte == 0) { &bytes[..0] } else { bytes };
        for (row, chunk) in shown.chunks(16).enumerate() {
            let offset = style.paint(Tint::Dim, &format!("{:08x}", at + row * 16));
            let hex = spaced(chunk);
            if row == 0 {
                let value = value(kin, bytes, self.segment);
                let _ =
                    writeln!(out, "{offset}  {hex:<47}  {}  {value}", style.paint(Tint::Name, &format!("{name:<19}")));
            } else {
                let _ = writeln!(out, "{offset}  {hex}");
            }
        }
        if shown.is_empty() {
            let offset = style.paint(Tint::Dim, &format!("{at:08x}"));
            let name = style.paint(Tint::Name, &format!("{name:<19}"));
            let _ = writeln!(out, "{offset}  {:<47}  {name}  {} zeros", "…", bytes.len());
        }
    }

    /// Offset in the file of a position.
    fn offset(image: &Image<'_>, position: u64) -> usize {
        let geometry = image.identity.as_ref().map(|identity| identity.geometry);
        let at = geometry.map_or(0, |geometry| geometry.data_at() + (position & (geometry.capacity - 1)));
        usize::try_from(at).unwrap_or(usize::MAX)
    }

    /// The bytes of a piece, in one or two runs: a hole may go over the end of the ring.
    fn runs(&self, image: &Image<'_>, position: u64, len: u64) -> Vec<(usize, &'b [u8])> {
        let Ok(identity) = &image.identity else { return Vec::new() };
        let capacity = identity.geometry.capacity;
        let mut runs = Vec::new();
        let (mut position, mut left) = (position, len.min(capacity));
        while left > 0 {
            let run = left.min(capacity - (position & (capacity - 1)));
            let at = Hex::offset(image, position);
            let there = self.bytes.len().saturating_sub(at).min(usize::try_from(run).unwrap_or(usize::MAX));
            runs.extend(self.slice(at, there).map(|bytes| (at, bytes)));
            position += run;
            left -= run;
        }
        runs
    }

    fn piece_words(&self, image: &Image<'_>, piece: &Piece<'_>, style: Style) -> String {
        let at = Hex::offset(image, start(piece));
        let mut out = heading(&title(piece), style);
        match piece {
            Piece::Record { payload, .. } => {
                self.header(&mut out, at, style);
                let payload_at = at + RECORD_HEADER as usize;
                rows(&mut out, payload_at, payload, style);
                let padding = (record_len(payload.len() as u64) - RECORD_HEADER) as usize - payload.len();
                if padding > 0 {
                    let offset = style.paint(Tint::Dim, &format!("{:08x}", payload_at + payload.len()));
                    let text = style.paint(Tint::Dim, &format!("{padding} bytes of padding"));
                    let _ = writeln!(out, "{offset}  {text}");
                }
            }
            Piece::Wrap { .. } => self.header(&mut out, at, style),
            Piece::Lost { len, .. } | Piece::Stale { len, .. } => {
                for (at, bytes) in self.runs(image, start(piece), *len) {
                    rows(&mut out, at, bytes, style);
                }
            }
            _ => {}
        }
        out
    }

    fn header(&self, out: &mut String, at: usize, style: Style) {
        for field in RECORD {
            if let Some(bytes) = self.field(at, field) {
                self.line(out, at + field.at, bytes, field.name, field.kin, style);
            }
        }
    }

    fn piece_json(&self, image: &Image<'_>, piece: &Piece<'_>) -> Value {
        let mut value = match piece {
            Piece::Record { sequence, record_type, payload, .. } => {
                json!({"piece": "record", "sequence": sequence, "type": record_type, "payload_length": payload.len(), "payload": hex(payload)})
            }
            Piece::Wrap { .. } => json!({"piece": "wrap"}),
            Piece::Lost { len, from, count, .. } => {
                let bytes: String = self.runs(image, start(piece), *len).iter().map(|(_, bytes)| hex(bytes)).collect();
                json!({"piece": "lost", "from": from, "count": count, "bytes": bytes})
            }
            Piece::Stale { .. } => json!({"piece": "stale"}),
            _ => json!({"piece": "other"}),
        };
        value["position"] = json!(start(piece));
        value["offset"] = json!(Hex::offset(image, start(piece)));
        value["length"] = json!(span(piece));
        value
    }
}

fn start(piece: &Piece<'_>) -> u64 {
    match piece {
        Piece::Record { position, .. }
        | Piece::Wrap { position, .. }
        | Piece::Lost { position, .. }
        | Piece::Stale { position, .. } => *position,
        _ => 0,
    }
}

fn span(piece: &Piece<'_>) -> u64 {
    match piece {
        Piece::Record { payload, .. } => record_len(payload.len() as u64),
        Piece::Wrap { len, .. } | Piece::Lost { len, .. } | Piece::Stale { len, .. } => *len,
        _ => 0,
    }
}

fn end(piece: &Piece<'_>) -> u64 {
    start(piece).saturating_add(span(piece))
}

fn title(piece: &Piece<'_>) -> String {
    let at = start(piece);
    match piece {
        Piece::Record { sequence, record_type, payload, .. } => {
            format!("record {sequence} at position {at}: type {record_type}, {} bytes of payload", payload.len())
        }
        Piece::Wrap { len, .. } => format!("wrap marker at position {at}: {len} bytes to the end of the ring"),
        Piece::Lost { len, count: Some(count), .. } => {
            format!("hole at position {at}: {len} bytes, {count} records lost")
        }
        Piece::Lost { len, .. } => format!("hole at position {at}: {len} bytes, nobody knows how many records lost"),
        Piece::Stale { len, .. } => format!("released bytes at position {at}: {len} bytes, perhaps in use again"),
        _ => format!("something at position {at}"),
    }
}

fn heading(text: &str, style: Style) -> String {
    format!("{}\n", style.paint(Tint::Head, &format!("── {text} ──")))
}

fn spaced(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(" ")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen bytes a line with their characters; lines that repeat the one before are a star.
fn rows(out: &mut String, at: usize, bytes: &[u8], style: Style) {
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    let last = bytes.len().saturating_sub(1) / 16;
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if before == Some(chunk) && row != last {
            if !std::mem::replace(&mut starred, true) {
                out.push_str("*\n");
            }
            continue;
        }
        (before, starred) = (Some(chunk), false);
        let text: String =
            chunk.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        let offset = style.paint(Tint::Dim, &format!("{:08x}", at + row * 16));
        let _ = writeln!(out, "{offset}  {:<47}  |{text}|", spaced(chunk));
    }
}
