//! `ringward clean`: takes away what is provably nobody's, once it was told to.

use ringward_recovery::{Action, Done as Fate, Notice, Report, Verdict, Watchdog};
use serde_json::json;

use crate::args::{Clean, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;
use crate::watch::{notice_json, notice_words};

pub(crate) fn run(at: &Place, args: &Clean) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let look = |action| -> Result<Report, Failure> {
        let mut builder = Watchdog::builder(&namespace).action(action).grace(args.grace).wipe(args.wipe);
        if let Some(after) = args.expire_durable {
            builder = builder.expire_durable(after);
        }
        if !args.channels.is_empty() {
            builder = builder.only(args.channels.iter().cloned());
        }
        let report = builder.build().tick();
        match report.error {
            Some(error) => Err(Failure::system("list the namespace", error)),
            None => Ok(report),
        }
    };
    let plan = look(Action::Report)?;
    for wanted in &args.channels {
        if !plan.notices.iter().any(|notice| notice.channel == *wanted) {
            // Says what it looked for, and where.
            let error = place::channel(&namespace, wanted, ringward_recovery::Config::default())?.inspect().err();
            return Err(Failure::Refused(
                error.map_or_else(|| "look again [RW-OPEN-MISSING]".to_owned(), |e| e.to_string()),
            ));
        }
    }
    if !args.yes {
        if args.json {
            let channels: Vec<_> = plan
                .notices
                .iter()
                .map(|notice| {
                    let mut document = notice_json(notice);
                    document["plan"] = json!(plan_of(notice, args));
                    document
                })
                .collect();
            print(&format!("{:#}\n", json!({"dry": true, "channels": channels})))?;
            return Ok(Done::All);
        }
        let mut any = false;
        for notice in &plan.notices {
            any |= nobodys(notice);
            print(&format!("{:<6} {}", plan_of(notice, args), notice_words(notice)))?;
        }
        print(if any {
            "Nothing was done. With --yes the ones marked are taken away, each under all of its locks.\n"
        } else {
            "Nothing to take away.\n"
        })?;
        return Ok(Done::All);
    }
    let report = look(if args.quarantine { Action::Quarantine } else { Action::Reclaim })?;
    let failed = report.notices.iter().any(|notice| matches!(notice.done, Fate::Failed { .. }));
    if args.json {
        let channels: Vec<_> = report.notices.iter().map(notice_json).collect();
        let document = json!({"dry": false, "births": report.births, "drained": report.drained, "channels": channels});
        print(&format!("{document:#}\n"))?;
    } else {
        for notice in &report.notices {
            print(&notice_words(notice))?;
        }
        let (births, drained) = (report.births, report.drained);
        if births + drained > 0 {
            print(&format!(
                "removed what {births} interrupted births left, and {drained} drained generations [RW-WD-TIDIED]\n"
            ))?;
        }
    }
    Ok(if failed { Done::Found } else { Done::All })
}

/// Whether the look would have taken it away, had it been told to.
fn nobodys(notice: &Notice) -> bool {
    let evidence = &notice.evidence;
    let unheld = !evidence.writer_held && !evidence.presence_held && evidence.readers_held == 0;
    match notice.verdict {
        Verdict::Orphaned => true,
        Verdict::Corrupt | Verdict::Truncated => unheld && evidence.generations == 1 && evidence.orphaned_for.is_some(),
        _ => false,
    }
}

fn plan_of(notice: &Notice, args: &Clean) -> &'static str {
    match (nobodys(notice), args.quarantine) {
        (true, false) => "TAKE",
        (true, true) => "RENAME",
        (false, _) => "leave",
    }
}
