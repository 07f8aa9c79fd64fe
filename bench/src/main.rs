//! `bench`: see `bench/run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use ringward_bench::harness::{self, Setup};
use ringward_bench::{Result, page, peers, plan, role};

const HELP: &str = "\
usage: bench run [--quick] [--only WORK] [--rounds N] [--millis N] [--compare PROGRAM] [--out LINES]
       bench table LINES
bench/run builds everything and calls it.";

fn run(args: &[String]) -> Result<()> {
    let mut setup = Setup { millis: 200, rounds: 7, only: None, compare: None, out: "bench-lines.jsonl".into() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => (setup.millis, setup.rounds) = (60, 3),
            "--only" => setup.only = Some(value()?),
            "--rounds" => setup.rounds = value()?.parse()?,
            "--millis" => setup.millis = value()?.parse()?,
            "--compare" => setup.compare = Some(PathBuf::from(value()?)),
            "--out" => setup.out = PathBuf::from(value()?),
            other => return Err(format!("{other}?\n{HELP}").into()),
        }
    }
    let begun = Instant::now();
    let lines = harness::run_all(&setup, &plan::plan())?;
    print!("{}", page::tables(&lines));
    eprintln!("bench: {} runs in {}; lines in {}", lines.len(), harness::elapsed(begun), setup.out.display());
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("side") => {
            args.get(1).ok_or_else(|| "side of what?".into()).and_then(|spec| role::run(spec, &peers::own()))
        }
        Some("run") => run(&args[1..]),
        Some("table") => args
            .get(1)
            .ok_or_else(|| HELP.into())
            .and_then(|path| harness::read(path.as_ref()))
            .map(|lines| print!("{}", page::tables(&lines))),
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
