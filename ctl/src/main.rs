//! `ringward`: sends and receives on a channel from the command line, looks at channels, acts on them, and watches over them.
//!
//! Commands print data on stdout and everything else on stderr. What stops them is a [`exit::Failure`] with a stable id that is a
//! heading in RUNBOOK.md; how they end is a code of [`exit::CODES`].
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
use stop::Stop;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.place.verbose > 0 {
        log_to_stderr(args.place.verbose);
    }
    let ended = Stop::install(matches!(args.command, Command::Watch(_))).and_then(|stop| match args.command {
        Command::Send(send) => send::run(&args.place, &send, &stop),
        Command::Recv(recv) => recv::run(&args.place, &recv, &stop),
        Command::Tail(tail) => tail::run(&args.place, &tail, &stop),
        Command::Ls(ls) => ls::run(&args.place, &ls, &stop),
        Command::Inspect(inspect) => inspect::run(&args.place, &inspect, &stop),
        Command::Top(top) => top::run(&args.place, &top, &stop),
        Command::Check(check) => check::run(&args.place, &check, &stop),
        Command::Dump(dump) => dump::run(&args.place, &dump),
        Command::Doctor(doctor) => doctor::run(&args.place, &doctor),
        Command::Explain(explain) => explain::run(&args.place, &explain),
        Command::Snapshot(snapshot) => snapshot::run(&args.place, &snapshot),
        Command::Restore(restore) => restore::run(&args.place, &restore),
        Command::Watch(watch) => watch::run(&args.place, &watch, &stop),
        Command::Clean(clean) => clean::run(&args.place, &clean),
        Command::Supersede(supersede) => supersede::run(&args.place, &supersede, &stop),
        Command::KillOwner(kill) => kill_owner::run(&args.place, &kill, &stop),
        Command::Forget(forget) => forget::run(&args.place, &forget, &stop),
        Command::Completions(completions) => manual::completions(&completions),
        Command::Man(man) => manual::run(&man),
    });
    exit::report(ended)
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
