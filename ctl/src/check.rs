//! `ringward check`: what is remarkable about a segment's bytes.

use std::fmt::Write;
use std::time::Duration;

use ringward_ring::image::{self, Finding, Image, Severity};
use serde_json::{Value, json};

use crate::args::{Check, Place};
use crate::corpse::{Corpse, corpses};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::stop::Stop;
use crate::style::{Style, Tint};

/// Copies that are compared of a segment in use, before a finding is believed.
const COPIES: usize = 5;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn run(at: &Place, args: &Check, stop: &Stop) -> Result<Done, Failure> {
    let style = Style::of(at);
    let mut worst = None;
    let mut documents = Vec::new();
    for corpse in corpses(at, &args.target)? {
        let bytes = corpse.copy()?;
        let image = image::decode(&bytes);
        let findings = settled(&corpse, &image, stop)?;
        worst = worst.max(findings.iter().map(|finding| finding.severity).max());
        if args.json {
            documents.push(document(&corpse, bytes.len(), &image, &findings));
        } else {
            print(&words(&corpse, &image, &findings, style))?;
        }
    }
    if args.json {
        print(&format!("{:#}\n", json!({"target": args.target, "segments": documents})))?;
    }
    Ok(match worst {
        None => Done::All,
        Some(Severity::Note) => Done::Noted,
        Some(Severity::Damage) => Done::Found,
    })
}

/// What further copies show again: what only one shows was movement, not damage.
fn settled(corpse: &Corpse, first: &Image<'_>, stop: &Stop) -> Result<Vec<Finding>, Failure> {
    let mut findings = first.findings.clone();
    for _ in 1..COPIES {
        if !corpse.in_use || findings.is_empty() {
            break;
        }
        stop.sleep(PAUSE)?;
        let again = corpse.copy()?;
        let again = image::decode(&again).findings;
        let key = |finding: &Finding| (finding.id(), finding.offset, finding.found);
        findings.retain(|finding| again.iter().any(|other| key(other) == key(finding)));
    }
    Ok(findings)
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Note => "note",
        Severity::Damage => "damage",
    }
}

fn words(corpse: &Corpse, image: &Image<'_>, findings: &[Finding], style: Style) -> String {
    let mut out = format!("{}: ", style.paint(Tint::Head, &corpse.name));
    match &image.identity {
        Ok(identity) => {
            let _ = writeln!(
                out,
                "segment {}, generation {}, {}: {} records up to position {}",
                identity.segment,
                identity.generation,
                image.state.to_string().to_ascii_lowercase(),
                image.totals.records,
                image.readable.end,
            );
        }
        Err(_) => out.push_str("no segment that can be read\n"),
    }
    for finding in findings {
        let tint = if finding.severity == Severity::Damage { Tint::Bad } else { Tint::Doubtful };
        let _ = writeln!(out, "  {}: {finding}", style.paint(tint, severity(finding)));
    }
    if findings.is_empty() {
        let _ = writeln!(out, "  {}", style.paint(Tint::Good, "nothing remarkable"));
    }
    out
}

fn document(corpse: &Corpse, bytes: usize, image: &Image<'_>, findings: &[Finding]) -> Value {
    let identity = image.identity.as_ref().ok();
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "id": finding.id(),
                "severity": severity(finding),
                "offset": finding.offset,
                "found": finding.found,
                "expected": finding.expected,
                "message": finding.to_string(),
            })
        })
        .collect();
    json!({
        "name": corpse.name,
        "bytes": bytes,
        "segment": identity.map(|identity| identity.segment.to_string()),
        "generation": identity.map(|identity| identity.generation),
        "state": identity.map(|_| image.state.to_string().to_ascii_lowercase()),
        "records": image.totals.records,
        "payload_bytes": image.totals.payload,
        "lost": image.totals.lost,
        "lost_unknown": image.totals.lost_unknown,
        "end_position": image.readable.end,
        "next_sequence": image.readable.sequence,
        "findings": findings,
    })
}
