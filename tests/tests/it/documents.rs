//! All documents: links lead somewhere, what they name exists, and no path of anybody's machine is in them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use ringward_tests::{code, documents, files, functions, quoted, read, root};

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        })
        .collect()
}

/// Without `..`, as text.
fn plain(path: &Path) -> String {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_str().expect("UTF-8").to_owned()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let to = match path {
                "" => document.clone(),
                path => plain(&Path::new(&document).parent().unwrap_or(Path::new("")).join(path)),
            };
            let there = root().join(&to).exists();
            let named = anchor.is_none_or(|anchor| there && anchors(&read(&to)).contains(anchor));
            if !there || !named {
                dead.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(seen > 50, "only {seen} links were found");
    assert!(dead.is_empty(), "{dead:#?}");
}

/// The kernel's, in no source of ours.
const FOREIGN: [&str; 1] = ["futex_wake"];

/// Names of the form `several_words` are in the sources or manifests somewhere; those of five words and more are functions.
#[test]
fn functions_and_tests_that_are_named_exist() {
    let functions = functions();
    let mut words = BTreeSet::new();
    for file in files("", ".rs").into_iter().chain(files("", "Cargo.toml")) {
        words.extend(read(&file).split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
    }
    let mut unknown = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for span in quoted(&read(&document)) {
            let name = span.rsplit("::").next().unwrap_or_default();
            let snake = name.contains('_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                && name.starts_with(|c: char| c.is_ascii_lowercase());
            if !snake {
                continue;
            }
            seen += 1;
            let long = name.matches('_').count() >= 4;
            if !(functions.contains_key(name) || FOREIGN.contains(&name) || (!long && words.contains(name))) {
                unknown.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(seen > 30, "only {seen} names were found");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// `Type::name`, where the documents speak of the interface.
#[test]
fn names_of_the_interface_exist() {
    let sources: String =
        ["ring/src", "recovery/src"].iter().flat_map(|at| files(at, ".rs")).map(|file| read(&file)).collect();
    let words: BTreeSet<_> =
        code(&sources).split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect();
    let mut unknown = Vec::new();
    for document in documents() {
        for span in quoted(&read(&document)) {
            let Some((of, name)) = span.split_once("::") else { continue };
            let name = name.split(['(', ' ', '?']).next().unwrap_or_default();
            let typed = of.starts_with(|c: char| c.is_ascii_uppercase()) && of.chars().all(char::is_alphanumeric);
            if typed && !(words.contains(of) && words.contains(name)) {
                unknown.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn files_that_are_named_exist() {
    let mut unknown = Vec::new();
    for document in documents() {
        for span in quoted(&read(&document)) {
            let path = span.split(['#', ' ']).next().unwrap_or_default();
            let first = path.split('/').next().unwrap_or_default();
            let ours = ["ring", "recovery", "ctl", "chaos", "tests", "docs", "fixtures"].contains(&first);
            if ours && path.contains('/') && !path.contains('*') && !root().join(path).exists() {
                unknown.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn no_path_of_a_machine_and_no_word_of_another_language() {
    // What the word table says not to say, as far as it means nothing else.
    let strange = ["producer", "follower", "epoch", "/home/", "/work/", "/Users/", "/root/"];
    let mut found = Vec::new();
    for document in documents() {
        for (number, line) in read(&document).lines().enumerate() {
            let lower = line.to_lowercase();
            found.extend(
                strange
                    .iter()
                    .filter(|word| lower.contains(&word.to_lowercase()))
                    .map(|word| format!("{document}:{}: {word}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_changelog_has_a_place_for_what_is_new() {
    let text = read("CHANGELOG.md");
    let first = text.lines().find(|line| line.starts_with("## "));
    assert_eq!(first, Some("## [Unreleased]"));
}
