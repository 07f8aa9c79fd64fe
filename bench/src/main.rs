//! `bench`: see `bench/run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use ringward_bench::harness::{self, Setup};
use ringward_bench::{Result, count, document, page, peers, plan, role, target};

const HELP: &str = "\
usage: bench run [--quick] [--only WORK] [--peers NAME,…] [--rounds N] [--millis N] [--compare PROGRAM] [--out LINES]
       bench table LINES
       bench page LINES --into DOCS [--crash TABLE]
       bench count [--write]
bench/run builds everything and calls it.";

fn run(args: &[String]) -> Result<()> {
    let mut setup =
        Setup { millis: 200, rounds: 7, only: None, peers: None, compare: None, out: "bench-lines.jsonl".into() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => (setup.millis, setup.rounds) = (60, 3),
            "--only" => setup.only = Some(value()?),
            "--peers" => setup.peers = Some(value()?.split(',').map(str::to_owned).collect()),
            "--rounds" => setup.rounds = value()?.parse()?,
            "--millis" => setup.millis = value()?.parse()?,
            "--compare" => setup.compare = Some(PathBuf::from(value()?)),
            "--out" => setup.out = PathBuf::from(value()?),
            other => return Err(format!("{other}?\n{HELP}").into()),
        }
    }
    let begun = Instant::now();
    let lines = harness::run_all(&setup, &plan::plan())?;
    print!("{}{}", target::page(&lines), page::tables(&lines));
    eprintln!("bench: {} runs in {}; lines in {}", lines.len(), harness::elapsed(begun), setup.out.display());
    Ok(())
}

/// Writes what the lines say into the documents.
fn write_page(args: &[String]) -> Result<()> {
    let [lines, into, docs, rest @ ..] = args else { return Err(HELP.into()) };
    let crash = match rest {
        [] => None,
        [flag, path] if flag == "--crash" => Some(std::fs::read_to_string(path)?),
        _ => return Err(HELP.into()),
    };
    if into != "--into" {
        return Err(HELP.into());
    }
    document::write(&harness::read(lines.as_ref())?, docs.as_ref(), crash.as_deref())
}

/// Counts instructions and compares them with the baseline, or writes it.
fn count_all(write: bool) -> Result<()> {
    if let Some(why) = count::obstacle() {
        println!("bench: counting instructions: SKIPPED: {why}");
        return Ok(());
    }
    let place = std::path::Path::new("/dev/shm").join(format!("ringward-bench-count-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    let counted = count::count(&place);
    let _ = std::fs::remove_dir_all(&place);
    let found = counted?;
    for (name, n) in &found {
        println!("{name}: {n} instructions");
    }
    let path = count::baseline();
    if write {
        return Ok(std::fs::write(path, serde_json::to_string_pretty(&found)? + "\n")?);
    }
    let base: count::Counts = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let said = count::objections(&base, &found);
    if said.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nmend it, or, if it is worth it: bench count --write", said.join("\n")).into())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("side") => {
            args.get(1).ok_or_else(|| "side of what?".into()).and_then(|spec| role::run(spec, &peers::own()))
        }
        Some("run") => run(&args[1..]),
        Some("count-side") => args.get(1).ok_or_else(|| "where?".into()).and_then(|at| count::side(at.as_ref())),
        Some("count") => count_all(args.get(1).is_some_and(|arg| arg == "--write")),
        Some("page") => write_page(&args[1..]),
        Some("table") => args
            .get(1)
            .ok_or_else(|| HELP.into())
            .and_then(|path| harness::read(path.as_ref()))
            .map(|lines| print!("{}{}", target::page(&lines), page::tables(&lines))),
        _ => Err(HELP.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
