//! What happens beside the records, on stderr: in words, as JSON lines, or not at all.
//!
//! One JSON object a line; `event` and `id` are always there, the other keys depend on the event and are listed at
//! [`Note`].

use std::io::Write;

use ringward_recovery::{Event, GapReason};
use serde_json::{Value, json};

use crate::args::Events;
use crate::exit::complain;

/// Something that happened to a sender or a receiver.
#[derive(Debug)]
pub(crate) enum Note<'n> {
    /// `joined`: `name`, `generation`, `next`. Receivers.
    Joined { name: &'n str, generation: u64, next: u64 },
    /// `writing`: `generation`, `next`, `skipped` (records of stdin that the channel already had). Senders.
    Writing { generation: u64, next: u64, skipped: u64 },
    /// `waiting`: `what`.
    Waiting { what: &'n str },
    /// `stuck`: `generation`, `silent_ms`. Standbys.
    Stuck { generation: u64, silent_ms: u64 },
    /// `cold`: `why`. A standby that was to be hot has no segment ready.
    Cold { why: &'n str },
    /// `healed`: `generation`, `next`, `why`, `perhaps_lost` (a sequence number, or null).
    Healed { generation: u64, next: u64, why: &'n str, perhaps_lost: Option<u64> },
    /// What the library tells a reader: `redelivered` (`sequence`), `restarted` (`old`, `new`), `gap` (`from`, `count` or null,
    /// `reason`), `stalled`, `gone`, `closed` (`generation`).
    Reader(&'n Event),
    /// `done`: `records`, `bytes`, `next`.
    Done { records: u64, bytes: u64, next: u64 },
}

fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Corrupt => "corrupt",
        GapReason::Truncated => "truncated",
        GapReason::Overrun => "overrun",
        GapReason::Dropped => "dropped",
        _ => "other",
    }
}

impl Note<'_> {
    /// Stable id, a heading in RUNBOOK.md.
    fn id(&self) -> &'static str {
        match self {
            Note::Joined { .. } => "RW-EV-JOINED",
            Note::Writing { .. } => "RW-EV-WRITING",
            Note::Waiting { .. } => "RW-EV-WAITING",
            Note::Stuck { .. } => "RW-EV-STALLED",
            Note::Cold { .. } => "RW-EV-COLD",
            Note::Healed { .. } => "RW-EV-HEALED",
            Note::Reader(event) => event.id(),
            Note::Done { .. } => "RW-EV-DONE",
        }
    }

    fn json(&self) -> Value {
        let mut value = match self {
            Note::Joined { name, generation, next } => {
                json!({"event": "joined", "name": name, "generation": generation, "next": next})
            }
            Note::Writing { generation, next, skipped } => {
                json!({"event": "writing", "generation": generation, "next": next, "skipped": skipped})
            }
            Note::Waiting { what } => json!({"event": "waiting", "what": what}),
            Note::Stuck { generation, silent_ms } => {
                json!({"event": "stuck", "generation": generation, "silent_ms": silent_ms})
            }
            Note::Cold { why } => json!({"event": "cold", "why": why}),
            Note::Healed { generation, next, why, perhaps_lost } => {
                json!({"event": "healed", "generation": generation, "next": next, "why": why, "perhaps_lost": perhaps_lost})
            }
            Note::Reader(event) => match event {
                Event::Record { sequence, .. } => json!({"event": "redelivered", "sequence": sequence}),
                Event::Restarted { old, new } => json!({"event": "restarted", "old": old, "new": new}),
                Event::Gap { from, count, reason: why } => {
                    json!({"event": "gap", "from": from, "count": count, "reason": reason(*why)})
                }
                Event::Stalled { generation } => json!({"event": "stalled", "generation": generation}),
                Event::WriterGone { generation } => json!({"event": "gone", "generation": generation}),
                Event::Closed { generation } => json!({"event": "closed", "generation": generation}),
                other => json!({"event": "other", "text": format!("{other:?}")}),
            },
            Note::Done { records, bytes, next } => {
                json!({"event": "done", "records": records, "bytes": bytes, "next": next})
            }
        };
        value["id"] = json!(self.id());
        value
    }

    /// In words; `None` for what nobody needs to know who did not ask.
    fn text(&self) -> Option<String> {
        Some(match self {
            Note::Joined { .. } | Note::Writing { .. } | Note::Done { .. } => return None,
            Note::Waiting { what } => format!("waiting: {what}"),
            Note::Stuck { generation, silent_ms } => {
                format!("the writer of generation {generation} has not beaten for {silent_ms} ms; still waiting")
            }
            Note::Cold { why } => format!("no segment in reserve, taking over will be slower: {why}"),
            Note::Healed { generation, next, why, perhaps_lost } => {
                let lost = perhaps_lost.map_or_else(String::new, |lost| {
                    format!(" (record {lost} counts as written; readers get it, or are told that it is lost)")
                });
                format!("healed: going on in generation {generation} at sequence {next}{lost}; the cause: {why}")
            }
            Note::Reader(event) => match event {
                Event::Record { sequence, .. } => format!("record {sequence} is handed out again"),
                Event::Restarted { old, new } => format!("the writer was replaced: generation {old}, then {new}"),
                Event::Gap { from, count: Some(count), reason: why } => {
                    format!("{count} records lost from sequence {from} on: {}", reason(*why))
                }
                Event::Gap { from, count: None, reason: why } => {
                    format!("an unknown number of records lost from sequence {from} on: {}", reason(*why))
                }
                Event::Stalled { generation } => format!("the writer of generation {generation} does not beat"),
                Event::WriterGone { generation } => {
                    format!("the writer of generation {generation} is dead and nobody has followed yet; waiting")
                }
                Event::Closed { .. } => return None,
                other => format!("{other:?}"),
            },
        })
    }

    /// Tells it the way that was asked for.
    pub(crate) fn tell(&self, how: Events) {
        match how {
            Events::None => {}
            Events::Json => {
                let _ = std::io::stderr().write_all(format!("{}\n", self.json()).as_bytes());
            }
            Events::Text => {
                if let Some(text) = self.text() {
                    complain(&format!("{text} [{}]", self.id()));
                }
            }
        }
    }
}
