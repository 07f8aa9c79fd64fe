//! `chaos prove`: bugs planted on purpose, each of which a named test must catch.
//!
//! ```text
//! catalogue ──▶ build (cargo, the feature `canaries`) ──▶ controls: every instrument, no bug: green
//!                                                    └──▶ canaries: one bug each: red, with the message that was declared
//! ```
//!
//! An alarm that was never heard is not known to work: `chaos prove` makes it ring once for each bug.

mod bench;
mod build;
mod canary;
mod catalogue;
mod instrument;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::cli::ProveArgs;
use crate::stop::Stop;
use bench::{Bench, Ending};
use build::Binaries;
use canary::Canary;
use catalogue::CATALOGUE;
use instrument::Instrument;
use table::{Proof, Report};

/// Every canary that was tried was caught.
const CAUGHT: i32 = 0;
/// One survived.
const SURVIVED: i32 = 1;
/// The command line can't be.
const USAGE: i32 = 2;
/// An instrument was red without a bug, or nothing was tried.
const INCONCLUSIVE: i32 = 3;

/// What became of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its instrument went red, with the expected message.
    Caught,
    /// It did not, or for another reason.
    Survived(String),
    /// The instrument can't work on this machine.
    Skipped(String),
    /// Nothing can be said.
    Inconclusive(String),
}

/// Runs `chaos prove`; returns its exit code.
pub(crate) fn run(args: &ProveArgs, stop: &Stop) -> i32 {
    if args.list {
        print!("{}", catalogue::rows(&|name| planted_in(workspace().as_deref(), name)));
        return CAUGHT;
    }
    let chosen = match choose(&args.only) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: no canary is called {unknown:?}; `chaos prove --list` names them all");
            return USAGE;
        }
    };
    let Some(root) = workspace() else {
        eprintln!("error: this is not inside a clone of Ringward; chaos prove builds the sources with bugs in them");
        return USAGE;
    };
    match prove(args, stop, &root, &chosen) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            println!("verdict: inconclusive: {error}");
            INCONCLUSIVE
        }
    }
}

/// The canaries that were asked for; an error names one that there is not.
fn choose(only: &[String]) -> Result<Vec<&'static Canary>, String> {
    if only.is_empty() {
        return Ok(CATALOGUE.iter().filter(|canary| !canary.harmless).collect());
    }
    only.iter().map(|name| CATALOGUE.iter().find(|canary| canary.name == name).ok_or_else(|| name.clone())).collect()
}

/// The root of the sources: the directory we are in, or one above it.
fn workspace() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find(|dir| dir.join("ring/src/canary.rs").is_file()).map(Path::to_owned)
}

/// Files that have `canary!("name")`, below the root.
pub(crate) fn planted_in(root: Option<&Path>, name: &str) -> Vec<String> {
    let Some(root) = root else { return Vec::new() };
    let mark = format!("canary!(\"{name}\")");
    let mut found = Vec::new();
    for folder in ["ring/src", "recovery/src"] {
        let mut open = vec![root.join(folder)];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.file_name().is_some_and(|file| file != "canary.rs")
                    && std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&mark))
                {
                    found.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
                }
            }
        }
    }
    found.sort();
    found
}

fn prove(args: &ProveArgs, stop: &Stop, root: &Path, chosen: &[&'static Canary]) -> Result<i32, String> {
    let bench = Bench::new(stop)?;
    let instruments: Vec<Instrument> = {
        let mut all: Vec<_> = chosen.iter().map(|canary| canary.by).collect();
        all.sort();
        all.dedup();
        all
    };
    let begun = Instant::now();
    println!("chaos prove: {} canaries, {} instruments; building them", chosen.len(), instruments.len());
    let binaries = build::build(root, &bench, &instruments)?;
    let build_seconds = begun.elapsed().as_secs_f64();
    println!("built after {build_seconds:.0} s");
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));

    let tested = Instant::now();
    let controls = all(jobs, &instruments, |instrument| control(&bench, &binaries, *instrument));
    let controls: BTreeMap<Instrument, Control> = instruments.iter().copied().zip(controls).collect();
    let green = controls.values().filter(|control| control.fate == Fate::Caught).count();
    println!(
        "{green} of {} instruments are green without a bug, after {:.0} s",
        controls.len(),
        tested.elapsed().as_secs_f64()
    );
    for (instrument, control) in &controls {
        match &control.fate {
            Fate::Caught => {}
            Fate::Skipped(why) => println!("SKIPPED {}: {why}", instrument.short()),
            Fate::Survived(why) | Fate::Inconclusive(why) => {
                println!("CONTROL {}: {why}; see for yourself: {}", instrument.short(), control.command);
                print!("{}", table::indent(&control.tail));
            }
        }
    }

    let runs: Vec<(&Canary, u32)> =
        chosen.iter().flat_map(|canary| (0..args.times).map(move |time| (*canary, time))).collect();
    let proofs = all(jobs, &runs, |(canary, _)| try_one(&bench, &binaries, root, canary, &controls[&canary.by]));
    let report = Report {
        build_seconds,
        test_seconds: tested.elapsed().as_secs_f64(),
        controls: controls.iter().map(|(instrument, c)| (*instrument, c.fate.clone(), c.seconds)).collect(),
        proofs,
    };
    if stop.asked() {
        return Err("interrupted".to_owned());
    }
    print!("{}", report.text());
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report.to_json());
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("{}", report.verdict());
    Ok(report.exit_code())
}

/// An instrument without a bug.
struct Control {
    /// `Caught` stands for green here: the instrument is worth listening to.
    fate: Fate,
    seconds: f64,
    output: String,
    tail: String,
    command: String,
}

fn control(bench: &Bench<'_>, binaries: &Binaries, instrument: Instrument) -> Control {
    let run = bench.run(binaries, instrument, None, bench::CONTROL_LIMIT);
    let fate = match (&run.ending, run.skipped()) {
        (Ending::Green, Some(why)) => Fate::Skipped(why),
        (Ending::Green, None) => Fate::Caught,
        (other, _) => Fate::Inconclusive(format!("it {other} without a bug")),
    };
    Control { fate, seconds: run.seconds, tail: run.tail(), output: run.output, command: run.command }
}

fn try_one(bench: &Bench<'_>, binaries: &Binaries, root: &Path, canary: &'static Canary, control: &Control) -> Proof {
    let files = planted_in(Some(root), canary.name);
    let none =
        |fate| Proof { canary, files: files.clone(), fate, seconds: 0.0, command: String::new(), tail: String::new() };
    match &control.fate {
        Fate::Caught => {}
        Fate::Skipped(why) => return none(Fate::Skipped(why.clone())),
        _ => return none(Fate::Inconclusive("its instrument is not green without it".to_owned())),
    }
    if files.is_empty() {
        return none(Fate::Inconclusive("it is planted nowhere".to_owned()));
    }
    if canary.ends.message().is_some_and(|message| control.output.contains(message)) {
        return none(Fate::Inconclusive("its message comes without it".to_owned()));
    }
    let run = bench.run(binaries, canary.by, Some(canary.name), canary.limit());
    let fate = canary.judge(&run);
    Proof { canary, files, fate, seconds: run.seconds, tail: run.tail(), command: run.command }
}

/// Does `work` on all of `items`, `jobs` at a time; the results in their order.
fn all<T: Sync, R: Send>(jobs: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
