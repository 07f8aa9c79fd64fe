//! What each command prints, in words and as JSON, refusals included: kept as snapshots, without what differs from run to run.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use serde_json::Value;

use crate::bed::lines;
use crate::scene::{Scene, masked};

/// Every key of a document, at any depth.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

fn shown(scene: &Scene, args: &[&str]) -> String {
    let ended = scene.bed.run(args, b"");
    // In letters, so that it is not masked.
    let code = ended.status.code().and_then(|code| usize::try_from(code).ok());
    let code = code.and_then(|code| ["none", "one", "two", "three", "four", "five", "six"].get(code)).unwrap();
    let stdout = String::from_utf8(ended.stdout).unwrap();
    masked(&format!("exit code: {code}\nstdout:\n{stdout}stderr:\n{}\n", ended.stderr))
}

/// Names of snapshots are those of the commands.
macro_rules! snapshots {
    ($scene:expr, $($name:literal: $args:expr;)+) => {
        $( assert_snapshot!($name, shown($scene, &$args)); )+
    };
}

#[test]
fn what_is_looked_at_is_said_in_the_same_words() {
    let scene = &Scene::new();
    snapshots! { scene,
        "ls": ["ls"];
        "inspect": ["inspect", "c"];
        "inspect-loose": ["inspect", "loose"];
        "inspect-broken": ["inspect", "broken"];
        "top": ["top", "--once", "--interval", "20ms"];
        "check": ["check", "c"];
        "check-broken": ["check", "broken"];
        "tail": ["tail", "c", "--count", "2"];
        "watch-once": ["watch", "--once"];
    }
}

#[test]
fn what_would_be_done_is_said_before_it_is_done() {
    let scene = &Scene::new();
    snapshots! { scene,
        "clean-dry": ["clean"];
        "supersede-live": ["supersede", "c"];
        "supersede-dry": ["supersede", "c", "--although-live"];
        "kill-owner-dry": ["kill-owner", "c", "--although-live"];
        "forget-dry": ["forget", "c", "billing"];
        "forget-yes": ["forget", "c", "billing", "--yes"];
        "clean-yes": ["clean", "--yes"];
        "supersede-yes": ["supersede", "c", "--although-live", "--yes"];
    }
}

#[test]
fn refusals_name_what_was_found_what_was_expected_and_what_to_do() {
    let scene = &Scene::new();
    snapshots! { scene,
        "refused-owned": ["send", "c"];
        "refused-missing": ["inspect", "none"];
        "refused-name": ["inspect", ".c"];
        "refused-namespace": ["ls", "--root", "/nowhere/at/all"];
        "refused-file-system": ["send", "c", "--root", "/proc"];
        "refused-capacity": ["send", "new", "--capacity", "5000"];
        "refused-relation": ["send", "new", "--heartbeat", "2s", "--stall-timeout", "1s"];
        "refused-no-writer": ["kill-owner", "loose"];
        "refused-reader": ["forget", "c", "nobody", "--yes"];
        "refused-held": ["forget", "c", "ledger", "--yes"];
        "refused-option": ["watch", "--mode", "kill"];
        "refused-id": ["explain", "RW-NO-SUCH"];
    }
}

/// A channel with a damaged record, and one behind it.
fn gap(scene: &Scene) {
    use std::os::unix::fs::FileExt;
    scene.bed.run(&["send", "gappy", "--no-close", "--capacity", "4KiB"], &lines(0..3)).code(0);
    let path = scene.bed.root().join("test/gappy").join(ringward_recovery::generation_name(1));
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"line 1").unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"X", at as u64).unwrap();
}

/// What the page has in code beside keys: commands, and values that a key can have.
const VALUES: &[&str] = &[
    "--json",
    "RENAME",
    "TAKE",
    "at",
    "bad",
    "clean",
    "damage",
    "damaged",
    "doctor",
    "doubtful",
    "dump",
    "explain",
    "failed",
    "forget",
    "gone",
    "here",
    "inspect",
    "inspect --json",
    "kill-owner",
    "leave",
    "ls",
    "ls --json",
    "nobody",
    "note",
    "nothing",
    "notice",
    "quarantined",
    "reclaimed",
    "record",
    "refused",
    "restore",
    "stale",
    "supersede",
    "tail",
    "tidied",
    "top",
    "undecided",
    "unknowable",
    "unknown",
    "watch --json",
    "well",
    "wrap",
];

/// ctl/README.md documents the JSON: no key is missing there, and none is promised that does not come.
#[test]
fn every_key_of_json_is_documented_and_the_other_way_round() {
    let page = include_str!("../../README.md");
    let sections: String = page
        .split("\n## ")
        .filter(|section| section.starts_with("`ls --json`") || section.starts_with("`--json` of the others"))
        .collect();
    let words: BTreeSet<String> = sections.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let scene = Scene::new();
    let file = scene.bed.root().join("snapshot");
    let file = file.to_str().unwrap();
    let mut found = BTreeSet::new();
    let mut gather = |args: &[&str]| {
        let out = scene.bed.run(args, b"").stdout;
        let documents = serde_json::Deserializer::from_slice(&out).into_iter::<Value>();
        documents.for_each(|document| keys(&document.unwrap_or_else(|error| panic!("{args:?}: {error}")), &mut found));
        assert!(!out.is_empty(), "{args:?} printed nothing");
    };
    gap(&scene);
    let owner = scene.bed.start(&["send", "again", "--events", "json"]);
    owner.note("writing");
    for args in [
        &["ls", "--json"][..],
        &["inspect", "c", "--json"],
        &["top", "--once", "--interval", "20ms", "--json"],
        &["check", "c", "--json"],
        &["check", "broken", "--json"],
        &["dump", "c", "--json"],
        &["dump", "c", "--at", "0", "--json"],
        &["tail", "c", "--json"],
        &["explain", "RW-WD-STALLED", "--json"],
        &["explain", "RW-IMG-TAKEN", "--json"],
        &["explain", "--json"],
        &["doctor", "--json"],
        &["watch", "--once", "--json"],
        &["snapshot", "c", file, "--json"],
        &["restore", file, "restored", "--json"],
        &["check", "gappy", "--json"],
        &["dump", "gappy", "--at", "0", "--pieces", "9", "--json"],
        &["clean", "--json"],
        &["forget", "c", "billing", "--json"],
        &["forget", "c", "billing", "--yes", "--json"],
        &["supersede", "c", "--although-live", "--json"],
        &["supersede", "c", "--although-live", "--yes", "--json"],
        &["kill-owner", "again", "--although-live", "--yes", "--json"],
        &["clean", "--yes", "--json"],
    ] {
        gather(args);
    }
    // The parts of an entry, as the runbook names them.
    for part in ["do_not", "meaning", "impact", "diagnose", "mitigate", "verify", "if_again"] {
        assert!(found.contains(part), "no {part} in what explain says");
    }
    // `doctor` counts channels by their verdict.
    let verdicts = ["draining", "live", "orphaned (within grace)", "orphaned", "corrupt", "truncated"];
    let undocumented: Vec<_> =
        found.iter().filter(|key| !words.contains(*key) && !verdicts.contains(&key.as_str())).collect();
    let absent: Vec<_> =
        words.iter().filter(|word| !found.contains(*word) && !VALUES.contains(&word.as_str())).collect();
    assert!(
        undocumented.is_empty() && absent.is_empty(),
        "not in README: {undocumented:#?}\nnot in any document: {absent:#?}"
    );
}
