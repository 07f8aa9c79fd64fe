//! RUNBOOK.md has an entry for every id in the sources, and its commands exist.

use std::collections::{BTreeMap, BTreeSet};

use ringward_tests::{CRATES, blocks, command_line, files, ids, quoted, read};

/// What each entry has, in this order.
const PARTS: [&str; 7] = ["Do not", "Meaning", "Impact", "Diagnose", "Mitigate", "Verify", "If again"];

/// What one is called for: the table of symptoms leads to each in one step.
const INCIDENTS: [&str; 21] = [
    "rw-wd-live",                    // a reader gets nothing
    "rw-ev-gone",                    // no owner
    "rw-wd-stalled",                 // the writer is stalled
    "rw-ev-restarted",               // it dies again and again
    "rw-open-owned",                 // two would be it
    "rw-wd-leaked",                  // a child holds its lock
    "rw-wd-dying",                   // and it is a zombie
    "rw-open-chain",                 // the chain is too long
    "rw-push-full",                  // a slow reader holds everybody
    "rw-build-space",                // the tmpfs is full
    "rw-wd-orphaned",                // nobody's
    "rw-wd-truncated",               // cut
    "rw-wd-corrupt",                 // a corrupt header
    "rw-img-crc",                    // a corrupt record
    "rw-wd-vanished",                // removed, perhaps at a logout
    "rw-seg-major",                  // versions after a deploy
    "rw-ns-system",                  // permission denied
    "rw-wd-permission",              // the same, at a channel
    "rw-wd-down",                    // no watchdog
    "the-machine-was-rebooted",      // a root on a disk
    "a-release-with-another-layout", // two channels in parallel
];

/// Entries by id: the text under each heading.
fn entries() -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut current = None;
    for line in read("RUNBOOK.md").lines() {
        if line.starts_with('#') {
            current = line.strip_prefix("### RW-").map(|id| format!("RW-{id}"));
            if let Some(id) = &current {
                let twice = entries.insert(id.clone(), String::new());
                assert!(twice.is_none(), "{id} has two headings");
            }
        } else if let Some(entry) = current.as_ref().and_then(|id| entries.get_mut(id)) {
            entry.push_str(line);
            entry.push('\n');
        }
    }
    entries
}

#[test]
fn every_id_in_the_sources_is_a_heading_and_the_other_way_round() {
    let mut used = BTreeMap::new();
    for file in CRATES.iter().flat_map(|folder| files(&format!("{folder}/src"), ".rs")) {
        for id in ids(&read(&file)) {
            used.entry(id).or_insert(file.clone());
        }
    }
    assert!(used.len() > 50, "the search finds next to nothing");
    let entries = entries();
    let missing: Vec<_> = used.iter().filter(|(id, _)| !entries.contains_key(*id)).collect();
    let unused: Vec<_> = entries.keys().filter(|id| !used.contains_key(*id)).collect();
    assert!(missing.is_empty() && unused.is_empty(), "without a heading: {missing:?}; headings of no id: {unused:?}");
}

#[test]
fn every_entry_is_complete() {
    let entries = entries();
    for (id, text) in &entries {
        let has = |text: &str, part: &str| text.contains(&format!("- **{part}:** "));
        let shared = text
            .lines()
            .find_map(|line| line.strip_prefix("- **The rest:** as ["))
            .and_then(|rest| rest.split(']').next());
        let lacking: Vec<_> = PARTS.into_iter().filter(|part| !has(text, part)).collect();
        if let Some(other) = shared {
            let other = entries.get(other).unwrap_or_else(|| panic!("{id} points to {other}, which is no entry"));
            assert!(has(text, "Meaning"), "{id} does not say what it means");
            assert!(
                PARTS.into_iter().all(|part| has(other, part)),
                "{id} points to an entry that is itself not complete"
            );
        } else {
            assert!(lacking.is_empty(), "{id} lacks {lacking:?}");
        }
        let order: Vec<_> = PARTS.into_iter().filter_map(|part| text.find(&format!("- **{part}:** "))).collect();
        assert!(order.is_sorted(), "{id} has its parts in another order than {PARTS:?}");
    }
}

#[test]
fn the_symptoms_lead_to_every_incident_in_one_step() {
    let page = read("RUNBOOK.md");
    let symptoms = page.split("\n## ").find_map(|part| part.strip_prefix("Symptoms\n")).expect("a table of symptoms");
    let missing: Vec<_> = INCIDENTS.into_iter().filter(|at| !symptoms.contains(&format!("](#{at})"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_id_that_it_mentions_has_an_entry() {
    let known: BTreeSet<_> = entries().into_keys().collect();
    let mentioned = ids(&read("RUNBOOK.md"));
    let unknown: Vec<_> = mentioned.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The one call in an entry that is not to be run: the entry says why.
const NEVER: &str = "ringward watch --once --mode quarantine --grace 0s";

#[test]
fn every_entry_and_each_command_of_one_is_rehearsed() {
    let page = read("RUNBOOK.md");
    let sources: String = files("ctl/tests/it/entries", ".rs").iter().map(|file| read(file)).collect();
    let dense: String = sources.split_whitespace().collect();
    // Taken as an entry, by itself or in a table of incidents; not only as what a message must have.
    let taken = |heading: &str| {
        let heading: String = heading.split_whitespace().collect();
        ["entry(", "both(", "mended(", "[(", ",("].iter().any(|by| dense.contains(&format!("{by}\"{heading}\"")))
    };
    let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(headings.len() > 100, "{headings:?}");
    let missing: Vec<_> = headings.into_iter().filter(|heading| !taken(heading)).collect();
    assert!(missing.is_empty(), "entries that no rehearsal takes: {missing:?}");
    let entries = page.split("\n### ").skip(1).map(|entry| entry.split("\n## ").next().unwrap_or_default());
    // `ringward send` alone is a name.
    let whole = |span: &&str| span.starts_with("ringward ") && span.split(' ').count() > 2;
    let commands: BTreeSet<_> = entries.flat_map(quoted).filter(whole).collect();
    assert!(commands.len() > 30, "{commands:?}");
    let run = |command: &str| sources.contains(&format!("\"{command}\""));
    let untried: Vec<_> = commands.into_iter().filter(|command| !run(command)).collect();
    assert_eq!(untried, [NEVER], "commands of entries that no rehearsal runs");
}

/// Calls of the tool in a document: in shell blocks, and between backquotes.
fn calls(text: &str) -> Vec<String> {
    let lines = blocks(text, "sh").join("\n");
    let lines = lines.lines().flat_map(|line| line.split(['|', ';', '&', '>'])).map(str::trim);
    let quoted = quoted(text).into_iter().flat_map(|span| span.split(['|', ';', '&', '>'])).map(str::trim);
    lines
        .chain(quoted)
        .filter_map(|call| call.trim_start_matches("./target/release/").strip_prefix("ringward "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_tools_commands_and_options_exist() {
    let tool = command_line("ctl/src/args.rs");
    for command in ["send", "recv", "ls", "inspect", "watch", "check", "kill-owner"] {
        assert!(tool.commands.contains_key(command), "{command}: {tool:?}");
    }
    let mut seen = 0;
    for document in ringward_tests::documents() {
        for call in calls(&read(&document)) {
            let words: Vec<_> = call.split_whitespace().collect();
            if let Some(objection) = tool.objects(&words, "Place") {
                panic!("{document}: `ringward {call}`: {objection}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} calls were found");
}
