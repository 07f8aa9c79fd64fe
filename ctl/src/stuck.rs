//! A writer that is in the way: the evidence that it is stuck, for those who end or kill it.

use std::time::Duration;

use ringward_recovery::Namespace;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::inspect;
use crate::stop::Stop;
use crate::survey::{ChannelView, one_for};

/// A channel whose writer may be ended.
#[derive(Debug)]
pub(crate) struct Stuck {
    pub(crate) view: ChannelView,
}

impl Stuck {
    /// Looks for `stall` at the writer of a channel. Refuses one that is well, unless `although_live`, and a channel without one.
    pub(crate) fn look(
        namespace: &Namespace,
        channel: &str,
        stall: Duration,
        although_live: bool,
        stop: &Stop,
    ) -> Result<Stuck, Failure> {
        let view = one_for(namespace, channel, stall, stop)?;
        let verdict = &view.verdict;
        match view.verdict_id {
            "RW-WD-STALLED" | "RW-WD-LEAKED" | "RW-WD-DYING" => Ok(Stuck { view }),
            "RW-WD-LIVE" if although_live => Ok(Stuck { view }),
            "RW-WD-LIVE" => Err(Failure::Refused(format!(
                "the writer of {channel} is well: it beats, or has promised no beats; nothing was done. \
                 If it must go, stop it as you stop any service, or say --although-live [RW-CTL-ALIVE]"
            ))),
            _ => Err(Failure::Refused(format!(
                "nobody holds the writer lock of {channel} ({verdict}): there is no writer to end; \
                 the next one to start follows by itself [RW-CTL-NOWRITER]"
            ))),
        }
    }

    /// What is known of it, in words.
    pub(crate) fn evidence(&self) -> String {
        let view = &self.view;
        let generation = view.generation.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let mut out = format!("{}: generation {generation}, {} [{}]\n", view.channel, view.verdict, view.verdict_id);
        for reason in inspect::reasons(view) {
            out += &format!("  {reason}\n");
        }
        out
    }

    pub(crate) fn json(&self, dry: bool) -> Value {
        let view = &self.view;
        json!({
            "channel": view.channel,
            "generation": view.generation,
            "verdict": view.verdict,
            "verdict_id": view.verdict_id,
            "owner": view.owner,
            "silent_ms": view.silent_ms,
            "dry": dry,
        })
    }
}
