//! `ringward top`: a live view of a namespace.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::{Place, Top};
use crate::exit::{Done, Failure};
use crate::ls::{align, reader};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::style::Style;
use crate::survey::{ChannelView, Survey};
use crate::units::show_size;

/// Where a channel stood at the last look.
#[derive(Debug, Clone, Copy)]
struct Stand {
    at: Instant,
    generation: Option<u64>,
    sequence: Option<u64>,
    position: Option<u64>,
}

/// How fast it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rates {
    /// Records a second, over generations.
    records: Option<f64>,
    /// Bytes of the ring a second, headers included; none where the generation changed.
    bytes: Option<f64>,
}

impl Stand {
    fn of(view: &ChannelView) -> Stand {
        let position = view.chain.last().and_then(|newest| newest.seen.as_ref()).and_then(|seen| seen.position);
        Stand { at: Instant::now(), generation: view.generation, sequence: view.next_sequence, position }
    }

    fn since(&self, before: &Stand) -> Rates {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let rate = |now: Option<u64>, was: Option<u64>| {
            let grown = now?.checked_sub(was?)?;
            // Who jumps over numbers of which nobody knows whether they were used has not sent them.
            (seconds > 0.0 && grown < 1 << 48).then(|| grown as f64 / seconds)
        };
        let same = self.generation == before.generation;
        Rates {
            records: rate(self.sequence, before.sequence),
            bytes: rate(self.position, before.position).filter(|_| same),
        }
    }
}

pub(crate) fn run(at: &Place, args: &Top, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    if let Some(channel) = &args.channel {
        place::channel(&namespace, channel, ringward_recovery::Config::default())?;
    }
    let style = Style::of(at);
    let screen = stdout().is_terminal() && !args.json;
    let mut survey = Survey::new(&namespace, args.channel.as_deref());
    let mut before: HashMap<String, Stand> = HashMap::new();
    let mut first = true;
    loop {
        let views = survey.look()?;
        let now: HashMap<String, Stand> = views.iter().map(|view| (view.channel.clone(), Stand::of(view))).collect();
        let rates = |view: &ChannelView| match (now.get(&view.channel), before.get(&view.channel)) {
            (Some(now), Some(before)) => now.since(before),
            _ => Rates::default(),
        };
        // The first view has no rates: a screen shows it all the same, a single one waits for them.
        if !(first && (args.once || !screen)) {
            let rated: Vec<(ChannelView, Rates)> =
                views.into_iter().map(|view| (rates(&view), view)).map(|(r, v)| (v, r)).collect();
            let root = Root::of(&namespace);
            print(&if args.json {
                line(namespace.name(), &root, rated)
            } else {
                frame(&namespace.path().display().to_string(), &root, &rated, style, screen)
            })?;
            if args.once {
                return Ok(Done::All);
            }
        }
        first = false;
        before = now;
        stop.sleep(args.interval.max(Duration::from_millis(10)))?;
    }
}

/// Bytes of the file system.
struct Root {
    size: Option<u64>,
    free: Option<u64>,
}

impl Root {
    fn of(namespace: &ringward_recovery::Namespace) -> Root {
        let stat = rustix::fs::fstatvfs(namespace.dir()).ok();
        Root {
            size: stat.as_ref().map(|stat| stat.f_blocks * stat.f_frsize),
            free: stat.as_ref().map(|stat| stat.f_bavail * stat.f_frsize),
        }
    }
}

fn line(name: &str, root: &Root, rated: Vec<(ChannelView, Rates)>) -> String {
    let channels: Vec<_> = rated
        .into_iter()
        .map(|(mut view, rates)| {
            view.chain.clear();
            let mut document = serde_json::to_value(view).unwrap_or_default();
            document["records_per_second"] = json!(rates.records);
            document["bytes_per_second"] = json!(rates.bytes);
            document
        })
        .collect();
    format!("{}\n", json!({"namespace": name, "size": root.size, "free": root.free, "channels": channels}))
}

fn frame(path: &str, root: &Root, rated: &[(ChannelView, Rates)], style: Style, screen: bool) -> String {
    let mut out = String::new();
    let used = rated.iter().map(|(view, _)| view.memory).sum::<u64>();
    let _ = write!(out, "{path}: {} channels, {}", rated.len(), show_size(used));
    if let (Some(size), Some(free)) = (root.size, root.free) {
        let _ = write!(out, "; {} of {} free", show_size(free), show_size(size));
    }
    out.push('\n');
    let mut rows = vec![
        ["CHANNEL", "VERDICT", "GEN", "OWNER", "RECORDS/S", "BYTES/S", "SILENT", "MEMORY", "READERS"]
            .map(str::to_owned),
    ];
    let number = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    for (view, rates) in rated {
        let owner = match &view.owner {
            Some(owner) if owner.lock_held => owner.pid.to_string(),
            Some(owner) => format!("({})", owner.pid),
            None => "-".to_owned(),
        };
        // The slowest first: it holds the writer back.
        let mut readers: Vec<_> = view.readers.iter().collect();
        readers.sort_by_key(|reader| std::cmp::Reverse(reader.lag_bytes));
        let readers = match &readers[..] {
            [] => "-".to_owned(),
            readers => readers.iter().map(|one| reader(one)).collect::<Vec<_>>().join(", "),
        };
        rows.push([
            view.channel.clone(),
            view.verdict.clone(),
            view.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
            owner,
            number(rates.records),
            rates.bytes.map_or_else(|| "-".to_owned(), |rate| show_size(rate as u64)),
            view.silent_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            show_size(view.memory),
            readers,
        ]);
    }
    let width = if screen { width() } else { usize::MAX };
    for (row, text) in align(&rows).lines().enumerate() {
        let text: String = text.chars().take(width).collect();
        out += &style.row(row, &text, |channel| rated[channel].0.verdict_id);
        out.push('\n');
    }
    if screen {
        // From the top left, each line cleared to its end, then everything below.
        format!("\x1b[H{}\x1b[J", out.replace('\n', "\x1b[K\n"))
    } else {
        out + "\n"
    }
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { 200 } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_go_over_generations_and_never_below_zero() {
        let at = Instant::now();
        let stand = |ms, generation, sequence, position| Stand {
            at: at + Duration::from_millis(ms),
            generation: Some(generation),
            sequence: Some(sequence),
            position: Some(position),
        };
        let before = stand(0, 1, 100, 6400);
        assert_eq!(stand(500, 1, 150, 9600).since(&before), Rates { records: Some(100.0), bytes: Some(6400.0) });
        assert_eq!(stand(500, 2, 150, 64).since(&before), Rates { records: Some(100.0), bytes: None });
        assert_eq!(stand(500, 2, 1 << 48 | 150, 64).since(&before), Rates::default());
        assert_eq!(stand(0, 1, 150, 9600).since(&before), Rates::default());
        assert_eq!(stand(500, 1, 50, 0).since(&before), Rates::default());
    }
}
