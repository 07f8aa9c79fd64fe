//! `ringward-compare`: the peers of Ringward's benchmarks that come from other projects, and the same crashes on two systems.
//!
//! The harness in `bench` starts it as `ringward-compare side SPEC`, as it starts itself.
#![deny(unsafe_code)]

mod crash;
mod here;
mod peers;

use std::process::ExitCode;

use ringward_bench::spec::Spec;
use ringward_bench::{Result, role};

const HELP: &str = "\
usage: ringward-compare side SPEC
       ringward-compare peers
       ringward-compare crash [--rounds N] [--root DIR] [--only FAULT] [--json FILE]
The harness calls the first: bench run --compare PROGRAM. The second lists the peers that were built in. The third makes the
same crashes on Ringward and on iceoryx2, and prints a table.";

fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("side") => {
            let text = args.get(1).ok_or("side of what?")?;
            let spec: Spec = serde_json::from_str(text)?;
            let done = role::run(text, &peers::all());
            peers::tidy(&spec.place);
            done
        }
        Some("peers") => {
            peers::all().iter().for_each(|peer| println!("{}", peer.name));
            Ok(())
        }
        Some("crash") => crash::run(&args[1..]),
        Some("crash-side") => crash::side(&args[1..]),
        _ => Err(HELP.into()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringward-compare: {error}");
            ExitCode::FAILURE
        }
    }
}
