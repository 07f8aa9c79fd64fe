//! `ringward ls`: the channels of a namespace.

use std::fmt::Write;

use serde_json::json;

use crate::args::{Ls, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::style::Style;
use crate::survey::{ChannelView, ReaderView, survey};
use crate::units::show_size;

pub(crate) fn run(at: &Place, args: &Ls, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let mut channels = survey(&namespace, None, args.sample, stop)?;
    if args.json {
        channels.iter_mut().for_each(|channel| channel.chain.clear());
        let document = json!({
            "namespace": namespace.name(),
            "path": namespace.path().display().to_string(),
            "free": namespace.free_bytes().ok(),
            "channels": channels,
        });
        print(&format!("{document:#}\n"))?;
    } else {
        print(&table(&channels, Style::of(at)))?;
    }
    Ok(Done::All)
}

fn table(channels: &[ChannelView], style: Style) -> String {
    let mut rows = vec![["CHANNEL", "VERDICT", "GENERATION", "OWNER", "NEXT", "MEMORY", "READERS"].map(str::to_owned)];
    for channel in channels {
        let generation = channel.generation.map_or_else(
            || "-".to_owned(),
            |newest| {
                if channel.generations > 1 {
                    format!("{newest} (of {})", channel.generations)
                } else {
                    newest.to_string()
                }
            },
        );
        let owner = match &channel.owner {
            Some(owner) if owner.lock_held => owner.pid.to_string(),
            Some(owner) => format!("({})", owner.pid),
            None => "-".to_owned(),
        };
        let next = channel.next_sequence.map_or_else(|| "-".to_owned(), |next| next.to_string());
        let readers = match &channel.readers[..] {
            [] => "-".to_owned(),
            readers => readers.iter().map(reader).collect::<Vec<_>>().join(", "),
        };
        let name = channel.channel.clone();
        rows.push([name, channel.verdict.clone(), generation, owner, next, show_size(channel.memory), readers]);
    }
    let rows = align(&rows);
    let painted = rows.lines().enumerate();
    painted.map(|(row, text)| style.row(row, text, |channel| channels[channel].verdict_id) + "\n").collect()
}

/// `name+12 (3.4 KiB)`: how many records and bytes it is behind; in parentheses if its process is gone.
pub(crate) fn reader(reader: &ReaderView) -> String {
    let name = reader.name.as_deref().unwrap_or("?");
    let lag = match (reader.lag_records, reader.lag_bytes) {
        (Some(0), _) => String::new(),
        (Some(records), Some(bytes)) => format!("+{records} ({})", show_size(bytes)),
        _ => "+?".to_owned(),
    };
    if reader.lock_held { format!("{name}{lag}") } else { format!("[{name}]{lag}") }
}

/// Columns as wide as what is in them.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
