//! The repository as text: its sources, its documents, and what can be read out of them.
//!
//! For the tests in `tests/it`, which hold the documents against the code.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders with the sources of the crates.
pub const CRATES: [&str; 4] = ["ring", "recovery", "ctl", "chaos"];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package in a workspace").to_owned()
}

/// A file of the repository, by its path from the root.
///
/// # Panics
///
/// If it is not there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below `folder` whose names end in `suffix`, by their paths from the root, sorted.
pub fn files(folder: &str, suffix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(suffix) {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Markdown file of the repository.
pub fn documents() -> Vec<String> {
    files("", ".md")
}

/// A Rust source without comments and without what stands between quotation marks, line by line.
pub fn code(source: &str) -> String {
    let mut out = String::new();
    for line in source.lines() {
        let line = line.replace("\\\"", "");
        let mut quoted = false;
        for (at, c) in line.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '/' if !quoted && line[at..].starts_with("//") => break,
                _ if !quoted => out.push(c),
                _ => {}
            }
        }
        out.push('\n');
    }
    out
}

/// Ids of the form `RW-…` in a text.
pub fn ids(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("RW-") {
        let rest = &text[at + 3..];
        let len = rest.bytes().take_while(|b| b.is_ascii_uppercase() || *b == b'-').count();
        let id = &rest[..len];
        // One that ends in a hyphen speaks of a family.
        if !id.is_empty() && !id.ends_with('-') && !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
            found.insert(format!("RW-{id}"));
        }
    }
    found
}

/// What lies between `<!-- NAME -->` and `<!-- /NAME -->` in a document.
///
/// # Panics
///
/// If the document has no such part.
pub fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
    let len = text[start..].find(&close).unwrap_or_else(|| panic!("no {close}"));
    &text[start..start + len]
}

/// What stands between backquotes, outside fenced blocks.
pub fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Fenced blocks of a document that are marked `language`.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<(bool, Vec<&str>)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut block) {
            (Some(mark), None) => {
                let wanted = mark.split(',').next() == Some(language);
                block = Some((wanted, Vec::new()));
            }
            (Some(_), Some(_)) => {
                if let Some((true, lines)) = block.take() {
                    found.push(lines.join("\n"));
                }
                block = None;
            }
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    found
}

/// Names of the functions in the sources of the repository, each with the files that have it.
pub fn functions() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files("", ".rs") {
        for line in code(&read(&path)).lines() {
            for (at, _) in line.match_indices("fn ") {
                let name: String = line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !name.is_empty() {
                    found.entry(name).or_default().push(path.clone());
                }
            }
        }
    }
    found
}

/// The subcommands and long options of a command line that clap derives from the source `path`, and from the files of the folder
/// of the same name.
///
/// Read from the source, because a test sees only its own package's programs.
pub fn command_line(path: &str) -> CommandLine {
    let folder = files(path.strip_suffix(".rs").unwrap_or(path), ".rs");
    let source: String = std::iter::once(path.to_owned()).chain(folder).map(|file| read(&file)).collect();
    let mut line = CommandLine::default();
    let mut owner = String::new();
    // An attribute that is still open, and the last one that was for an option.
    let (mut open, mut attribute) = (None::<String>, None::<String>);
    for text in source.lines() {
        let text = text.trim();
        if open.is_some() || text.starts_with("#[arg(") {
            let whole = open.take().unwrap_or_default() + text;
            if whole.ends_with(")]") {
                attribute = Some(whole);
            } else {
                open = Some(whole);
            }
        } else if let Some((_, rest)) = text.split_once("struct ").or(text.split_once("enum ")) {
            owner = rest.split([' ', '{', '<']).next().unwrap_or_default().to_owned();
        } else if owner == "Command" && text.contains('(') && text.ends_with("),") {
            let mut words = text.split(['(', ')', '<', '>']).filter(|word| !word.is_empty() && *word != "Box");
            let (name, holder) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            line.commands.insert(kebab(name), holder.to_owned());
        } else if let Some(attribute) = attribute.take_if(|_| text.contains(':')) {
            let Some((_, rest)) = attribute.split_once("long") else { continue };
            let given = rest.strip_prefix(" = \"").and_then(|rest| rest.split('"').next());
            let field = text.split(':').next().unwrap_or_default().rsplit(' ').next().unwrap_or_default();
            let option = given.map_or_else(|| kebab(field), str::to_owned);
            line.options.entry(owner.clone()).or_default().insert(option);
        }
    }
    line
}

/// What [`command_line`] read.
#[derive(Debug, Default)]
pub struct CommandLine {
    /// Each subcommand, with the struct that holds its options.
    pub commands: BTreeMap<String, String>,
    /// Long options by struct.
    pub options: BTreeMap<String, BTreeSet<String>>,
}

impl CommandLine {
    /// What is wrong with the arguments of a call, by this command line; `common` is the struct of options that every
    /// subcommand takes.
    pub fn objects(&self, arguments: &[&str], common: &str) -> Option<String> {
        let command = arguments.iter().find(|word| self.commands.contains_key(**word));
        let has = |holder: &str, option: &str| self.options.get(holder).is_some_and(|options| options.contains(option));
        let Some(command) = command else {
            let harmless = arguments.iter().all(|word| ["--help", "--version"].contains(word));
            return (!harmless).then(|| format!("no subcommand in {arguments:?}"));
        };
        arguments
            .iter()
            .filter_map(|word| word.strip_prefix("--"))
            .filter(|word| !word.is_empty())
            .map(|word| word.split('=').next().unwrap_or_default())
            .find(|word| *word != "help" && !has(&self.commands[*command], word) && !has(common, word))
            .map(|word| format!("{command} has no --{word}"))
    }
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.trim().chars() {
        if c == '_' {
            out.push('-');
        } else if c.is_ascii_uppercase() {
            if !out.is_empty() {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}
