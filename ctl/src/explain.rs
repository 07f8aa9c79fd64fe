//! `ringward explain`: the runbook's entries, which the program carries with it.

use serde_json::{Map, Value, json};

use crate::args::{Explain, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::style::{Style, Tint};

const RUNBOOK: &str = include_str!("../../RUNBOOK.md");

/// Entries, by their ids, in the order of the page.
fn entries() -> Vec<(&'static str, String)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    let mut open = false;
    for line in RUNBOOK.lines() {
        if line.starts_with('#') {
            let id = line.strip_prefix("### ").filter(|id| id.starts_with("RW-"));
            open = id.is_some();
            entries.extend(id.map(|id| (id, String::new())));
        } else if let Some((_, text)) = entries.last_mut().filter(|_| open) {
            text.push_str(line);
            text.push('\n');
        }
    }
    entries
}

/// All ids that have an entry.
pub(crate) fn ids() -> Vec<&'static str> {
    entries().into_iter().map(|(id, _)| id).collect()
}

/// Where the entry refers to another one for what it does not say itself.
fn rest(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("- **The rest:** as [")).and_then(|rest| rest.split(']').next())
}

pub(crate) fn run(at: &Place, args: &Explain) -> Result<Done, Failure> {
    let entries = entries();
    let Some(wanted) = &args.id else {
        let ids: Vec<&str> = entries.iter().map(|(id, _)| *id).collect();
        print(&if args.json { format!("{:#}\n", json!({"ids": ids})) } else { ids.join("\n") + "\n" })?;
        return Ok(Done::All);
    };
    let wanted = wanted.trim().trim_matches(['[', ']']).to_ascii_uppercase();
    let wanted = if wanted.starts_with("RW-") { wanted } else { format!("RW-{wanted}") };
    let find = |wanted: &str| entries.iter().find(|(id, _)| *id == wanted);
    let Some((id, text)) = find(&wanted) else {
        let family = wanted.rsplit_once('-').map_or(wanted.as_str(), |(family, _)| family);
        let near = entries.iter().map(|(id, _)| *id).filter(|id| family != "RW" && id.starts_with(family));
        let near: Vec<&str> = near.take(8).collect();
        let near = if near.is_empty() { String::new() } else { format!("; is it one of {}?", near.join(", ")) };
        return Err(Failure::Usage(format!("no id {wanted}{near} (`ringward explain` lists them all)")));
    };
    let other = rest(text).and_then(find);
    if args.json {
        let mut parts = parts(text);
        for (name, value) in other.map(|(_, text)| self::parts(text)).unwrap_or_default() {
            parts.entry(name).or_insert(value);
        }
        let document = json!({"id": id, "as": other.map(|(id, _)| id), "entry": parts});
        print(&format!("{document:#}\n"))?;
    } else {
        let style = Style::of(at);
        let mut out = format!("{}\n{}", style.paint(Tint::Head, id), plain(text, style));
        if let Some((id, text)) = other {
            out += &format!("\n{}\n{}", style.paint(Tint::Head, id), plain(text, style));
        }
        print(&format!("{}\n", out.trim_end()))?;
    }
    Ok(Done::All)
}

/// `- **Name:** text` as keys in lower case; what has no name is left to the one before it.
fn parts(text: &str) -> Map<String, Value> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let named = line.strip_prefix("- **").and_then(|line| line.split_once(":** "));
        match (named, parts.last_mut()) {
            (Some((name, text)), _) => parts.push((name.to_lowercase().replace(' ', "_"), text.to_owned())),
            (None, Some((_, before))) => {
                before.push('\n');
                before.push_str(line);
            }
            (None, None) => {}
        }
    }
    parts.retain(|(name, _)| name != "the_rest");
    parts.into_iter().map(|(name, text)| (name, json!(text.trim_end()))).collect()
}

/// As a terminal shows it: no marks of emphasis, no targets of links.
fn plain(text: &str, style: Style) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.strip_prefix("- **").and_then(|line| line.split_once(":**")) {
            Some((name, text)) => format!("{}:{text}", style.paint(Tint::Name, name)),
            None => line.to_owned(),
        };
        let mut rest = line.as_str();
        while let Some((before, link)) = rest.split_once("](") {
            let (text, behind) = (before.rsplit_once('['), link.split_once(')'));
            let (Some((before, text)), Some((_, behind))) = (text, behind) else { break };
            out.push_str(before);
            out.push_str(text);
            rest = behind;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}
