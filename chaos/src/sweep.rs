//! `chaos sweep`: every crash state of every operation.
//!
//! A subject ([`subject`]) makes a world ready and does one operation, stopped after each instruction ([`stand`]). What is in
//! its directory then ([`image`]) is what SIGKILL would leave there, for on tmpfs memory *is* the file, and a dead process's
//! locks are gone: so it is copied, and the copy judged ([`jury`]) against what the subject had said ([`world`]). That this is
//! so is not taken on trust: subjects are really killed, at every instruction address once, and must leave the same bytes and
//! get the same judgement.

pub(crate) mod errno;
pub(crate) mod image;
pub(crate) mod jury;
pub(crate) mod operation;
pub(crate) mod stand;
pub(crate) mod subject;
pub(crate) mod tally;
pub(crate) mod walk;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::cli::SweepArgs;
use crate::engine::affinity;
use crate::stop::Stop;
use crate::verdict::Verdict;
use operation::Operation;
use tally::{Row, Tally};
use walk::Walker;

/// What is done at an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Mode {
    /// SIGKILL; recover.
    Kill,
    /// Stop it there, let another supersede it and write, let it go on.
    Stop,
    /// Cut its segment there.
    Cut,
    /// Let a system call fail there, once, or from there on.
    Errno,
    /// SIGKILL, and SIGKILL the recovery at each instruction of its own.
    Pairs,
}

/// Faults of the sweep itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Planted {
    /// A bit of an acknowledged record is flipped in each image before it is judged.
    Flip,
    /// The ledger has one acknowledged record more than there is.
    Ledger,
    /// The image that is judged is not the one that was taken: the newest segment's position went back.
    Stale,
    /// A file is forgotten in the namespace.
    Litter,
    /// Real kills land an instruction later than the copies.
    Slip,
    /// Who was refused once does not ask again.
    Resign,
}

type Fault = Box<dyn std::error::Error>;

/// Sweeps; returns the exit code.
pub(crate) fn sweep(args: &SweepArgs, stop: &Stop) -> Result<i32, Fault> {
    let ops: Vec<Operation> = if args.only.is_empty() { Operation::all().collect() } else { args.only.clone() };
    let all = [Mode::Kill, Mode::Stop, Mode::Cut, Mode::Errno, Mode::Pairs];
    let modes: Vec<Mode> = all.into_iter().filter(|mode| args.mode.is_empty() || args.mode.contains(mode)).collect();
    if args.dry_run {
        return Ok(plan(args, &ops, &modes));
    }
    let seed = args.seed.unwrap_or_else(|| rand::rng().next_u64() >> 1);
    let base = args.root.clone().unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let place = tempfile::Builder::new()
        .prefix("ringward-sweep-")
        .tempdir_in(&base)
        .map_err(|error| format!("cannot make a directory in {}: {error}", base.display()))?;
    stop.set_root(Some(place.path().to_owned()));
    say(&format!("chaos sweep: seed {seed}, root {}", place.path().display()));
    say(Tally::HEAD);

    let started = Instant::now();
    let cores = affinity::cores(0)?;
    let mut tally = Tally::default();
    let mut walker = Walker::new(args, seed, place.path(), cores[0], cores.len().saturating_sub(1).max(1))?;
    affinity::pin(0, &cores[..1])?;
    let mut interrupted = false;
    for op in &ops {
        let mut row = Row::new(*op);
        let done = walker.sweep(*op, &modes, &mut row, stop);
        if let Err(error) = done {
            row.broke(crate::verdict::Broken::Failed, &format!("the sweep itself failed: {error}"), 0, "");
        }
        say(&row.line());
        tally.add(row);
        write(args, &document(args, seed, &ops, &modes, &tally, started, "running"))?;
        interrupted = stop.asked();
        if interrupted {
            break;
        }
    }
    drop(walker);
    stop.set_root(None);
    let verdict = tally.verdict();
    let mut document = document(args, seed, &ops, &modes, &tally, started, verdict.name());
    document["interrupted"] = interrupted.into();
    write(args, &document)?;
    tally.violations().take(20).for_each(|violation| say(&violation));
    say(&tally.summary(started.elapsed()));
    if verdict == Verdict::Violation {
        say(&format!("kept: {}", place.keep().display()));
    } else {
        place.close().map_err(|error| format!("cannot remove the root: {error}"))?;
    }
    say(&format!("verdict: {}", verdict.name()));
    Ok(verdict.exit_code())
}

/// A closed pipe is no failure.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn plan(args: &SweepArgs, ops: &[Operation], modes: &[Mode]) -> i32 {
    for op in ops {
        say(op.name());
    }
    let modes: Vec<String> = modes.iter().map(|mode| format!("{mode:?}").to_lowercase()).collect();
    say(&format!(
        "{} operations; at their instructions: {}; each: {} kills beside those at every address, {} stops, {} cuts, {} failures of system calls, {} recoveries swept; nothing was done",
        ops.len(),
        modes.join(", "),
        args.kills,
        args.stops,
        args.cuts,
        if args.errnos == usize::MAX { "all".to_owned() } else { args.errnos.to_string() },
        args.pairs
    ));
    0
}

fn document(
    args: &SweepArgs,
    seed: u64,
    ops: &[Operation],
    modes: &[Mode],
    tally: &Tally,
    started: Instant,
    verdict: &str,
) -> Value {
    let names: Vec<&str> = ops.iter().map(|op| op.name()).collect();
    let modes: Vec<String> = modes.iter().map(|mode| format!("{mode:?}").to_lowercase()).collect();
    let mut document = tally.to_json(started.elapsed());
    document["schema"] = "ringward-chaos-sweep/1".into();
    document["verdict"] = verdict.into();
    document["seed"] = seed.into();
    document["version"] = env!("CARGO_PKG_VERSION").into();
    document["build"] = json!({ "profile": if cfg!(debug_assertions) { "debug" } else { "release" } });
    document["options"] = json!({
        "only": names, "modes": modes, "kills": args.kills, "stops": args.stops, "cuts": args.cuts,
        "errnos": (args.errnos != usize::MAX).then_some(args.errnos), "pairs": args.pairs,
    });
    let errnos = if args.errnos == usize::MAX { String::new() } else { format!(" --errnos {}", args.errnos) };
    document["repeat"] = format!(
        "chaos sweep --seed {seed} --only {} --mode {} --kills {} --stops {} --cuts {} --pairs {}{errnos}",
        names.join(","),
        modes.join(","),
        args.kills,
        args.stops,
        args.cuts,
        args.pairs
    )
    .into();
    document
}

/// Writes the report beside its place and renames it there.
fn write(args: &SweepArgs, document: &Value) -> std::io::Result<()> {
    let Some(path) = &args.report else { return Ok(()) };
    let beside: &Path = &path.with_extension(format!("json.{}", std::process::id()));
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    std::fs::write(beside, text)?;
    std::fs::rename(beside, path)
}
