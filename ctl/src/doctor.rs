//! `ringward doctor`: does this machine give what channels need, and how are the namespaces of the root?

mod kernel;
mod memory;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringward_recovery::{DEFAULT_ROOT, Namespace, ROOT_VARIABLE, Watchdog, generation_number};
use serde_json::{Value, json};

use crate::args::{Doctor, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::style::{Style, Tint};

/// Entries of a folder that are looked at, so that a strange root does not take for ever.
const ENTRIES: usize = 10_000;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// As it should be.
    Well,
    /// It can't be told, or may hurt later.
    Doubtful,
    /// It must be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// Stable name.
    pub(super) check: &'static str,
    pub(super) health: Health,
    /// What was found.
    pub(super) found: String,
    /// What to do, unless it is well.
    pub(super) advice: &'static str,
    /// What should be so, as a line of the checklist.
    pub(super) wish: &'static str,
}

impl Finding {
    pub(super) fn new(
        check: &'static str,
        health: Health,
        found: impl Into<String>,
        advice: &'static str,
        wish: &'static str,
    ) -> Finding {
        Finding { check, health, found: found.into(), advice, wish }
    }
}

/// A namespace of the root.
struct Seen {
    name: String,
    /// How many channels have which verdict.
    verdicts: Result<BTreeMap<String, usize>, String>,
}

pub(crate) fn run(at: &Place, args: &Doctor) -> Result<Done, Failure> {
    let root = root(at);
    let mut findings = memory::findings(&root);
    findings.extend(kernel::findings(&root));
    findings.extend(session::findings());
    let namespaces = namespaces(&root);
    findings.push(orphans(&namespaces));
    let worst = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Well);
    let style = Style::of(at);
    print(&if args.json {
        format!("{:#}\n", document(&root, &findings, &namespaces))
    } else if args.checklist {
        checklist(&findings)
    } else {
        words(&root, &findings, &namespaces, style)
    })?;
    Ok(match worst {
        Health::Well => Done::All,
        Health::Doubtful => Done::Noted,
        Health::Bad => Done::Found,
    })
}

fn root(at: &Place) -> PathBuf {
    let from_environment = std::env::var_os(ROOT_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    at.root.clone().or(from_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT))
}

/// Names in a folder; none if it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten().take(ENTRIES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Folders of the root that hold channels, or could not be looked into though they are named like it.
fn namespaces(root: &Path) -> Vec<Seen> {
    let mut seen = Vec::new();
    for name in names(root) {
        let path = root.join(&name);
        if !path.is_dir() || path.is_symlink() {
            continue;
        }
        if path.read_dir().is_err() {
            if name.starts_with("ringward-") {
                seen.push(Seen { name, verdicts: Err("not permitted: somebody else's".to_owned()) });
            }
            continue;
        }
        let holds = |channel: &String| names(&path.join(channel)).iter().any(|file| generation_number(file).is_some());
        if !names(&path).iter().any(holds) {
            continue;
        }
        let verdicts = Namespace::builder(name.as_str())
            .root(root)
            .create(false)
            .open()
            .map_err(|error| error.to_string())
            .and_then(|namespace| {
                let report = Watchdog::builder(&namespace).build().tick();
                report.error.map_or(Ok(report.notices), Err)
            })
            .map(|notices| {
                let mut counts = BTreeMap::new();
                for notice in notices {
                    *counts.entry(notice.verdict.to_string()).or_insert(0) += 1;
                }
                counts
            });
        seen.push(Seen { name, verdicts });
    }
    seen
}

fn orphans(namespaces: &[Seen]) -> Finding {
    let sick = ["corrupt", "truncated", "leaked lock", "dying", "stalled", "foreign", "incompatible", "unknowable"];
    let count = |verdicts: &dyn Fn(&str) -> bool| -> usize {
        let all = namespaces.iter().filter_map(|namespace| namespace.verdicts.as_ref().ok());
        all.flatten().filter(|(verdict, _)| verdicts(verdict)).map(|(_, count)| count).sum()
    };
    let (orphaned, ill) =
        (count(&|verdict| verdict.starts_with("orphaned")), count(&|verdict| sick.contains(&verdict)));
    let (health, found) = match (orphaned, ill) {
        (0, 0) => (Health::Well, "no channel is nobody's, none is damaged".to_owned()),
        (orphaned, ill) => (Health::Doubtful, format!("{orphaned} channels are nobody's, {ill} are ill")),
    };
    Finding::new(
        "channels",
        health,
        found,
        "`ringward ls` and `ringward inspect` say which; `ringward clean` shows what can go",
        "a watchdog runs, and no channel is left behind or damaged",
    )
}

fn word(health: Health) -> (&'static str, Tint) {
    match health {
        Health::Well => ("well", Tint::Good),
        Health::Doubtful => ("doubtful", Tint::Doubtful),
        Health::Bad => ("bad", Tint::Bad),
    }
}

fn counts(seen: &Seen) -> String {
    match &seen.verdicts {
        Ok(verdicts) => {
            let counts: Vec<String> = verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
            counts.join(", ")
        }
        Err(error) => error.clone(),
    }
}

fn words(root: &Path, findings: &[Finding], namespaces: &[Seen], style: Style) -> String {
    let mut out = String::new();
    for finding in findings {
        let (word, tint) = word(finding.health);
        let name = style.paint(Tint::Name, &format!("{:<15}", finding.check));
        out += &format!("{} {name} {}\n", style.paint(tint, &format!("{word:<8}")), finding.found);
        if finding.health != Health::Well {
            out += &format!("{:25}{}\n", "", finding.advice);
        }
    }
    out += &style.paint(Tint::Head, &format!("namespaces in {}:", root.display()));
    out.push('\n');
    for seen in namespaces {
        out += &format!("  {}: {}\n", seen.name, counts(seen));
    }
    if namespaces.is_empty() {
        out += "  none\n";
    }
    out
}

fn checklist(findings: &[Finding]) -> String {
    let mut out = String::new();
    for Finding { check, health, found, advice, wish } in findings {
        let tick = if *health == Health::Well { 'x' } else { ' ' };
        out += &format!("- [{tick}] {wish} ({check}: {found})\n");
        if *health != Health::Well {
            out += &format!("      {advice}\n");
        }
    }
    out
}

fn document(root: &Path, findings: &[Finding], namespaces: &[Seen]) -> Value {
    let checks: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let advice = (finding.health != Health::Well).then_some(finding.advice);
            json!({
                "check": finding.check,
                "health": word(finding.health).0,
                "found": finding.found,
                "advice": advice,
                "wish": finding.wish,
            })
        })
        .collect();
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|seen| {
            json!({"namespace": seen.name, "verdicts": seen.verdicts.as_ref().ok(), "error": seen.verdicts.as_ref().err()})
        })
        .collect();
    json!({"root": root.display().to_string(), "checks": checks, "namespaces": namespaces})
}
