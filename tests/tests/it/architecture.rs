//! docs/ARCHITECTURE.md lists what is there, and nothing else.

use std::collections::BTreeSet;

use ringward_tests::{CRATES, code, files, part, quoted, read};

fn page() -> String {
    read("docs/ARCHITECTURE.md")
}

/// The first cell of each row of the tables in a part of the page, without backquotes; a cell may hold several.
fn firsts(page: &str, name: &str) -> BTreeSet<String> {
    let rows = part(page, name).lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| quoted(row.split(" | ").next().unwrap_or_default())).map(str::to_owned).collect()
}

fn sources() -> BTreeSet<String> {
    CRATES.iter().flat_map(|folder| files(&format!("{folder}/src"), ".rs")).collect()
}

/// Whether the source does something unsafe, or may.
fn has_unsafe(source: &str) -> bool {
    let code = code(source);
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word == "unsafe") || code.contains("allow(unsafe_code")
}

#[test]
fn every_source_file_is_listed_and_every_listed_one_is_there() {
    let listed = firsts(&page(), "files");
    let there = sources();
    let covered = |file: &String| {
        listed.contains(file) || listed.iter().any(|entry| entry.ends_with('/') && file.starts_with(entry.as_str()))
    };
    let missing: Vec<_> = there.iter().filter(|file| !covered(file)).collect();
    let gone: Vec<_> =
        listed.iter().filter(|entry| !there.iter().any(|file| file.starts_with(entry.as_str()))).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not listed: {missing:?}; listed and not there: {gone:?}");
}

#[test]
fn the_files_with_unsafe_are_exactly_the_listed_ones() {
    let there: BTreeSet<String> = sources().into_iter().filter(|file| has_unsafe(&read(file))).collect();
    assert!(there.len() > 5, "the search finds next to nothing");
    assert_eq!(there, firsts(&page(), "unsafe"), "left: sources, right: the page");
    // Tests say in place why, next to each operation.
    for file in there.iter().filter(|file| !file.ends_with("tests.rs")) {
        assert!(read(file).contains("//! # Safety"), "{file} opens without a Safety paragraph");
    }
}

#[test]
fn threads_are_listed_by_their_names() {
    let named = sources().into_iter().flat_map(|file| {
        let source = read(&file);
        let names = source.split("name(\"ringward-").skip(1);
        names.map(|rest| format!("ringward-{}", rest.split('"').next().unwrap_or_default())).collect::<Vec<_>>()
    });
    assert_eq!(named.collect::<BTreeSet<_>>(), firsts(&page(), "threads"), "left: sources, right: the page");
}

#[test]
fn dependencies_are_listed() {
    let listed = firsts(&page(), "dependencies");
    let mut used = BTreeSet::new();
    for folder in CRATES {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let mut inside = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                inside = line.ends_with("dependencies]");
            } else if let Some((name, _)) = line.split_once(['.', ' ', '=']).filter(|_| inside) {
                used.insert(name.to_owned());
            }
        }
    }
    used.retain(|name| !name.starts_with("ringward-") && !name.starts_with('#'));
    assert_eq!(used, listed, "left: manifests, right: the page");
}
