//! `ringward`: sends and receives on a channel from the command line, looks at channels, acts on them, and watches over them.
//!
//! Commands print data on stdout and everything else on stderr. What stops them is a failure with a stable id that is a heading in
//! RUNBOOK.md; how they end is one of a few codes, both in `exit.rs`.
//!
//! A library only so that the fuzzer can get at what the program does: nothing here is an interface.
#![forbid(unsafe_code)]

mod archive;
mod args;
mod check;
mod clean;
mod corpse;
mod doctor;
mod dump;
mod exit;
mod explain;
mod fields;
mod forget;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod inspect;
mod kill_owner;
mod ls;
mod manual;
mod note;
mod output;
mod place;
mod recv;
mod restore;
mod send;
mod snapshot;
mod stop;
mod stuck;
mod style;
mod supersede;
mod survey;
mod tail;
mod top;
mod units;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::{Done, Failure};
use stop::Stop;

/// The program: returns its exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.place.verbose > 0 {
        log_to_stderr(args.place.verbose);
    }
    let ended = Stop::install(matches!(args.command, Command::Watch(_))).and_then(|stop| perform(&args, &stop));
    exit::report(&ended)
}

/// Does what the command line says.
fn perform(args: &Args, stop: &Stop) -> Result<Done, Failure> {
    let at = &args.place;
    match &args.command {
        Command::Send(send) => send::run(at, send, stop),
        Command::Recv(recv) => recv::run(at, recv, stop),
        Command::Tail(tail) => tail::run(at, tail, stop),
        Command::Ls(ls) => ls::run(at, ls, stop),
        Command::Inspect(inspect) => inspect::run(at, inspect, stop),
        Command::Top(top) => top::run(at, top, stop),
        Command::Check(check) => check::run(at, check, stop),
        Command::Dump(dump) => dump::run(at, dump),
        Command::Doctor(doctor) => doctor::run(at, doctor),
        Command::Explain(explain) => explain::run(at, explain),
        Command::Snapshot(snapshot) => snapshot::run(at, snapshot),
        Command::Restore(restore) => restore::run(at, restore),
        Command::Watch(watch) => watch::run(at, watch, stop),
        Command::Clean(clean) => clean::run(at, clean),
        Command::Supersede(supersede) => supersede::run(at, supersede, stop),
        Command::KillOwner(kill) => kill_owner::run(at, kill, stop),
        Command::Forget(forget) => forget::run(at, forget, stop),
        Command::Completions(completions) => manual::completions(completions),
        Command::Man(man) => manual::run(man),
    }
}

/// Sends what the libraries trace to stderr: 1 is `info`, 2 `debug`, more `trace`.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    // Only refused if a subscriber is set already, and nobody else sets one here.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
