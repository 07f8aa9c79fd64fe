//! `docs/PROTOCOL.md` and the sources name the same ends of the same happens-before edges.
//!
//! An end is marked in a comment beside its code, as `E1:store`; the table says in which function of which file.
//! Moving, adding or dropping one without the other fails here.

use std::collections::BTreeSet;
use std::path::Path;

/// (edge:end, file, function)
type Ends = BTreeSet<(String, String, String)>;

/// `E1:store` and the like in `text`.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').map(|word| word.trim_end_matches(':'));
    words.filter(|word| {
        word.split_once(':').is_some_and(|(edge, end)| {
            let number = edge.strip_prefix('E').unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !end.is_empty() && !end.contains(':')
        })
    })
}

fn in_sources(folder: &Path) -> Ends {
    let mut ends = Ends::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".rs")) else {
            continue;
        };
        let mut function = String::from("(none)");
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some((_, rest)) = line.split_once("fn ").filter(|(before, _)| !before.contains("//")) {
                function = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
            }
            let Some((_, comment)) = line.split_once("//") else { continue };
            for mark in marks(comment) {
                ends.insert((mark.to_owned(), file.to_owned(), function.clone()));
            }
        }
    }
    ends
}

/// Rows of the form "| `E1:store` | `cursor.rs` | `publish` | …".
fn in_the_document(text: &str) -> Ends {
    let mut ends = Ends::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let [_, mark, file, function, ..] = cells[..]
            && marks(mark).next() == Some(mark)
        {
            ends.insert((mark.to_owned(), file.to_owned(), function.to_owned()));
        }
    }
    ends
}

#[test]
fn every_end_of_every_edge_is_where_the_document_says() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = in_sources(&crate_folder.join("src"));
    let text = std::fs::read_to_string(crate_folder.join("../docs/PROTOCOL.md")).unwrap();
    let document = in_the_document(&text);
    let missing: Vec<_> = sources.difference(&document).collect();
    let stale: Vec<_> = document.difference(&sources).collect();
    assert!(missing.is_empty(), "in the sources, not in docs/PROTOCOL.md: {missing:#?}");
    assert!(stale.is_empty(), "in docs/PROTOCOL.md, not in the sources: {stale:#?}");
    for edge in 1..=7 {
        let ends = document.iter().filter(|(mark, ..)| mark.starts_with(&format!("E{edge}:")));
        let names: BTreeSet<_> = ends.map(|(mark, ..)| mark).collect();
        assert!(names.len() >= 2, "E{edge} has {names:?}: an edge has two ends");
        assert!(text.contains(&format!("### E{edge} ")), "E{edge} has no section of its own");
    }
}

#[test]
fn the_tests_named_in_the_document_exist() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(crate_folder.join("../docs/PROTOCOL.md")).unwrap();
    let mut checked = 0;
    for name in text.split('`').filter_map(|quoted| quoted.strip_prefix("model::")) {
        let (file, test) = name.split_once("::").unwrap();
        let source = std::fs::read_to_string(crate_folder.join(format!("src/model/{file}.rs"))).unwrap();
        assert!(
            source.contains(&format!("#[test]\nfn {test}()")) || source.contains(&format!("\nfn {test}()")),
            "{name}"
        );
        checked += 1;
    }
    assert!(checked > 10, "the document names its models");
}
