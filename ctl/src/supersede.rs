//! `ringward supersede`: ends the generation of a stuck writer, and leaves the next one to whoever comes.

use std::time::Duration;

use ringward_recovery::Config;
use serde_json::json;

use crate::args::{Place, Supersede};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::stuck::Stuck;

pub(crate) fn run(at: &Place, args: &Supersede, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let stuck = Stuck::look(&namespace, &args.channel, args.stall_timeout, args.although_live, stop)?;
    let mut document = stuck.json(!args.yes);
    if !args.json {
        print(&stuck.evidence())?;
    }
    if args.yes {
        let config = like_its_predecessor(&namespace, &args.channel)?;
        let channel = place::channel(&namespace, &args.channel, config)?;
        let writer = channel.supersede().map_err(Failure::refused)?;
        let (generation, next) = (writer.generation(), writer.next_sequence());
        // Not closed: the channel is to be had.
        drop(writer);
        document["superseded_by"] = json!(generation);
        document["next_sequence"] = json!(next);
        if !args.json {
            print(&format!(
                "ended. Generation {generation} follows, at sequence {next}, and has no writer yet: a standby takes it at once, \
                 else start the writer again.\n"
            ))?;
        }
    } else if !args.json {
        print(
            "Nothing was done. With --yes: this generation is ended where its writer stands, the next one is made as large as it is, \
             and left to a standby or the next writer; the stuck one is told at its next push.\n",
        )?;
    }
    if args.json {
        print(&format!("{document:#}\n"))?;
    }
    Ok(Done::All)
}

/// What the next generation needs to be as the present one.
fn like_its_predecessor(namespace: &ringward_recovery::Namespace, channel: &str) -> Result<Config, Failure> {
    let chain = place::channel(namespace, channel, Config::default())?.inspect().map_err(Failure::refused)?;
    let config = Config::default();
    let Some(Ok(seen)) = chain.last().map(|newest| newest.seen.as_ref()) else { return Ok(config) };
    let identity = &seen.identity;
    let beat = Duration::from_millis(identity.beat_interval.into());
    Ok(config
        .capacity(identity.geometry.capacity)
        .record_limit(identity.record_limit)
        .reader_slots(identity.geometry.slots)
        .checksum(identity.checksum)
        .schema(identity.schema)
        .beat_interval(beat)
        .stall_timeout(Duration::from_secs(2).max(beat * 2)))
}
