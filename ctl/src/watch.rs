//! `ringward watch`: the watchdog in the foreground.

use std::time::Duration;

use ringward_recovery::{Action, Done as Fate, Notice, Report, Watchdog};
use serde_json::{Value, json};

use crate::args::{Mode, Place, Watch};
use crate::exit::{Done, Failure, complain};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::units::show_size;

pub(crate) fn run(at: &Place, args: &Watch, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, !args.once)?;
    let (sent, notices) = std::sync::mpsc::channel();
    let mut builder = Watchdog::builder(&namespace)
        .action(match args.mode {
            Mode::Report => Action::Report,
            Mode::Quarantine => Action::Quarantine,
            Mode::Reclaim => Action::Reclaim,
        })
        .grace(args.grace)
        .stall_timeout(args.stall_timeout)
        .wipe(args.wipe)
        .on_notice(move |notice: &Notice| {
            let _ = sent.send(notice.clone());
        });
    if let Some(after) = args.expire_durable {
        builder = builder.expire_durable(after);
    }
    let mut watchdog = builder.build();
    loop {
        let report = watchdog.tick();
        for notice in notices.try_iter() {
            print(&if args.json { format!("{}\n", notice_json(&notice)) } else { notice_words(&notice) })?;
        }
        summary(&report, args)?;
        if args.once {
            return match report.error {
                Some(error) => Err(Failure::system("look at the namespace", error)),
                None => Ok(Done::All),
            };
        }
        if let Some(error) = report.error {
            complain(&format!("cannot look at the namespace: {error}; trying again [RW-CTL-SYSTEM]"));
        }
        // A look that takes no time at all would burn a core.
        stop.sleep(args.interval.max(Duration::from_millis(1)))?;
    }
}

/// What a look did beside the channels.
fn summary(report: &Report, args: &Watch) -> Result<(), Failure> {
    if report.births == 0 && report.drained == 0 {
        return Ok(());
    }
    let (births, drained) = (report.births, report.drained);
    print(&if args.json {
        format!("{}\n", json!({"event": "tidied", "id": "RW-WD-TIDIED", "births": births, "drained": drained}))
    } else {
        format!("removed what {births} interrupted births left, and {drained} drained generations [RW-WD-TIDIED]\n")
    })
}

pub(crate) fn notice_words(notice: &Notice) -> String {
    let done = match &notice.done {
        Fate::Reclaimed { bytes } => format!("; reclaimed, {}", show_size(*bytes)),
        Fate::Quarantined { name } => format!("; quarantined as {name}"),
        Fate::Refused { why } => format!("; not taken away: {why}"),
        Fate::Failed { why } => format!("; could not be taken away: {why}"),
        _ => String::new(),
    };
    let evidence = &notice.evidence;
    let mut why = Vec::new();
    if let Some(generation) = evidence.generation {
        why.push(format!("generation {generation}"));
    }
    if evidence.owner_pid != 0 {
        why.push(format!(
            "writer {} {}",
            evidence.owner_pid,
            if evidence.writer_held { "holds its lock" } else { "has let go" }
        ));
    }
    if evidence.readers_held > 0 {
        why.push(format!("{} reader bytes held", evidence.readers_held));
    }
    if evidence.durable > 0 {
        why.push(format!("{} durable readers", evidence.durable));
    }
    if let Some(time) = evidence.orphaned_for {
        why.push(format!("nobody's for {time:.1?}"));
    }
    if let Some(error) = &evidence.error {
        why.push(error.clone());
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    format!("{}: {}{why}{done} [{}]\n", notice.channel, notice.verdict, notice.id)
}

pub(crate) fn notice_json(notice: &Notice) -> Value {
    let (done, detail) = match &notice.done {
        Fate::Nothing => ("nothing", Value::Null),
        Fate::Reclaimed { bytes } => ("reclaimed", json!(bytes)),
        Fate::Quarantined { name } => ("quarantined", json!(name)),
        Fate::Refused { why } => ("refused", json!(why)),
        Fate::Failed { why } => ("failed", json!(why)),
        other => ("other", json!(format!("{other:?}"))),
    };
    let evidence = &notice.evidence;
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({
        "event": "notice",
        "id": notice.id,
        "channel": notice.channel,
        "verdict": notice.verdict.to_string(),
        "verdict_id": notice.verdict.id(),
        "done": done,
        "detail": detail,
        "evidence": {
            "generation": evidence.generation,
            "generations": evidence.generations,
            "state": evidence.state.map(|state| state.to_string().to_ascii_lowercase()),
            "writer_held": evidence.writer_held,
            "owner_pid": evidence.owner_pid,
            "owner": evidence.owner.map(|owner| format!("{owner:?}").to_ascii_lowercase()),
            "presence_held": evidence.presence_held,
            "readers_held": evidence.readers_held,
            "durable": evidence.durable,
            "silent_ms": ms(evidence.silent),
            "orphaned_ms": ms(evidence.orphaned_for),
            "error": evidence.error,
        },
    })
}
