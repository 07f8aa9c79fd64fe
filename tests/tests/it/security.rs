//! docs/SECURITY.md: every claim has its tests, and every test that attacks as another user or as a hostile reader has its claim.

use std::collections::BTreeSet;

use ringward_tests::{functions, quoted, read};

/// Where the tests live that are there for this page alone.
const ATTACKS: [&str; 2] = ["recovery/tests/it/security.rs", "ring/tests/it/hostile.rs"];

/// The last cell of each row, with the line that it ends: the tests that a claim names.
fn claims() -> Vec<(String, Vec<String>)> {
    let page = read("docs/SECURITY.md");
    let mut tests_follow = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if !line.starts_with('|') {
            tests_follow = false;
            continue;
        }
        let last = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        if last == "tests" {
            tests_follow = true;
        } else if tests_follow && !line.starts_with("| ---") {
            found.push((line.to_owned(), quoted(last).into_iter().map(str::to_owned).collect()));
        }
    }
    found
}

#[test]
fn every_claim_names_tests_that_exist() {
    let functions = functions();
    let claims = claims();
    assert!(claims.len() > 10, "only {} claims were found", claims.len());
    for (line, tests) in &claims {
        assert!(!tests.is_empty(), "no test: {line}");
        for test in tests {
            let files = functions.get(test).unwrap_or_else(|| panic!("there is no {test}: {line}"));
            assert!(files.iter().any(|file| is_test(file, test)), "{test} is no test: {line}");
        }
    }
}

#[test]
fn every_attack_has_its_claim() {
    let named: BTreeSet<String> = claims().into_iter().flat_map(|(_, tests)| tests).collect();
    let mut seen = 0;
    for (name, files) in functions() {
        for file in files.iter().filter(|file| ATTACKS.contains(&file.as_str())) {
            if is_test(file, &name) {
                seen += 1;
                assert!(named.contains(&name), "{file}: {name} stands for no claim of docs/SECURITY.md");
            }
        }
    }
    assert!(seen > 8, "only {seen} attacks were found");
}

/// Whether a function of a file is a test: `#[test]`, or a case of one, stands in front of it, or a macro that makes tests around it.
fn is_test(file: &str, name: &str) -> bool {
    let source = read(file);
    let Some(at) = source.find(&format!("fn {name}(")) else { return false };
    let attributes = source[..at].rsplit("\n\n").next().unwrap_or_default();
    attributes.contains("#[test]") || attributes.contains("#[rstest]")
}
