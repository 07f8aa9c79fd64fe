//! `ringward`: sends and receives on a channel from the command line, looks at channels, and watches over them.
//!
//! Commands print data on stdout and everything else on stderr. What stops them is a [`exit::Failure`] with a stable id that is a
//! heading in RUNBOOK.md; how they end is a code of [`exit::CODES`].
#![forbid(unsafe_code)]

mod args;
mod exit;
mod frames;
mod input;
mod inspect;
mod ls;
mod note;
mod output;
mod place;
mod recv;
mod send;
mod stop;
mod survey;
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
    let ended = Stop::install().and_then(|stop| match args.command {
        Command::Send(send) => send::run(&args.place, &send, &stop),
        Command::Recv(recv) => recv::run(&args.place, &recv, &stop),
        Command::Ls(ls) => ls::run(&args.place, &ls, &stop),
        Command::Inspect(inspect) => inspect::run(&args.place, &inspect, &stop),
        Command::Watch(watch) => watch::run(&args.place, &watch, &stop),
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
