//! The runbook, rehearsed: each test causes an incident, looks at it with the commands of its entry, does what the entry says, and sees that it helped.
//!
//! Commands are taken from the page: one that is not in the entry's text can't be run here.

mod bytes;
mod common;
mod events;
mod flow;
mod incidents;
mod limits;
mod opening;
mod tool;
mod watch;

use nix::sys::signal::Signal;

use crate::bed::{Bed, Ended, Tool};

const RUNBOOK: &str = include_str!("../../../../RUNBOOK.md");

/// An entry of the page.
struct Entry {
    id: &'static str,
    text: &'static str,
}

fn entry(id: &'static str) -> Entry {
    let (_, text) = RUNBOOK.split_once(&format!("\n### {id}\n")).unwrap_or_else(|| panic!("no entry {id}"));
    Entry { id, text: text.split("\n#").next().unwrap_or_default() }
}

impl Entry {
    /// One of its commands, for channel `c` and what else stands for something.
    fn words(&self, command: &str, more: &[(&str, &str)]) -> Vec<String> {
        assert!(self.text.contains(&format!("`{command}`")), "{} does not say `{command}`:\n{}", self.id, self.text);
        let words = command.strip_prefix("ringward ").unwrap_or_else(|| panic!("{command}")).split(' ');
        let real = |word: &str| match word {
            "CHANNEL" => "c".to_owned(),
            other => more.iter().find(|(name, _)| *name == other).map_or(other, |(_, value)| value).to_owned(),
        };
        words.map(real).collect()
    }

    fn ended(&self, bed: &Bed, command: &str, more: &[(&str, &str)], stdin: &[u8]) -> Ended {
        let words = self.words(command, more);
        bed.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), stdin)
    }

    /// Runs it to its end; what it prints.
    fn run(&self, bed: &Bed, command: &str) -> String {
        self.run_with(bed, command, &[])
    }

    fn run_with(&self, bed: &Bed, command: &str, more: &[(&str, &str)]) -> String {
        String::from_utf8(self.ended(bed, command, more, b"").code(0).stdout).unwrap()
    }

    /// Starts it, with events as JSON lines.
    fn start(&self, bed: &Bed, command: &str, more: &[(&str, &str)]) -> Tool {
        let mut words = self.words(command, more);
        words.extend(["--events".to_owned(), "json".to_owned()]);
        bed.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[track_caller]
fn shows(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "no {part:?} in\n{output}");
    }
}

/// The entry that has what this one does not say itself.
fn rest(of: &Entry) -> Entry {
    let (_, named) = of.text.split_once("**The rest:** as [").unwrap_or_else(|| panic!("{}", of.text));
    entry(named.split(']').next().unwrap())
}

/// What the entry says of itself.
#[track_caller]
fn says(entry: &Entry, parts: &[&str]) {
    shows(entry.text, parts);
}

fn writer(bed: &Bed, args: &[&str]) -> Tool {
    let send = bed.start(&[&["send", "c", "--capacity", "64KiB", "--events", "json"], args].concat());
    send.note("writing");
    send
}

/// Somebody writes, and it is the one that is meant.
#[track_caller]
fn live(bed: &Bed, verify: &str, owner: &Tool) {
    shows(verify, &["live", &owner.pid().to_string()]);
    assert_eq!(bed.view()["owner"]["pid"], owner.pid());
}

/// Sends all threads of a process to sleep, and sees that they are.
fn stop(bed: &Bed, tool: &Tool) {
    tool.signal(Signal::SIGSTOP);
    let stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", tool.pid())).unwrap().flatten();
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    bed.until("it is stopped", || tasks().all(|task| stopped(stat(task))));
}
