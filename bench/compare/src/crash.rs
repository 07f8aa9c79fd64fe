//! The same crashes on Ringward and on iceoryx2: real processes of this program, killed, stopped and cut, and what was then
//! seen of each system.
//!
//! No cell of the table is an opinion: each is made from what the processes of this run did and said. A wait for something
//! that does not come ends after [`PATIENCE`], and is reported as that.

mod child;
mod faults;
mod iceoryx2;
mod ringward;
mod side;
mod system;
mod table;
mod tally;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use ringward_bench::Result;
use serde_json::Value;

pub(crate) use side::run as side;
use system::System;

/// Longest wait for anything: then it did not happen.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was asked for.
struct Setup {
    rounds: usize,
    root: PathBuf,
    json: Option<PathBuf>,
    only: Option<String>,
}

fn setup(args: &[String]) -> Result<Setup> {
    let mut setup = Setup { rounds: 5, root: "/dev/shm".into(), json: None, only: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => setup.rounds = value()?.parse::<usize>()?.max(1),
            "--root" => setup.root = value()?.into(),
            "--json" => setup.json = Some(value()?.into()),
            "--only" => setup.only = Some(value()?),
            other => return Err(format!("{other}?").into()),
        }
    }
    Ok(setup)
}

/// Runs all faults on both systems and prints the table.
///
/// # Errors
///
/// What kept a trial from being made. That a system did badly is no error.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let setup = setup(args)?;
    let root = world::Root::new(&setup.root)?;
    let mut json = setup.json.as_ref().map(std::fs::File::create).transpose()?;
    let mut rows = Vec::new();
    for fault in faults::ALL {
        if setup.only.as_ref().is_some_and(|only| !fault.id.starts_with(only.as_str())) {
            continue;
        }
        let mut row = vec![fault.name.to_owned()];
        for system in System::ALL {
            eprintln!("ringward-compare: {}: {}", system.name(), fault.id);
            let seen: Vec<Value> = (fault.run)(&root, system, setup.rounds)?;
            for one in &seen {
                if let Some(json) = &mut json {
                    let mut line = serde_json::json!({ "fault": fault.id, "system": system.name() });
                    if let (Some(line), Some(one)) = (line.as_object_mut(), one.as_object()) {
                        line.extend(one.clone());
                    }
                    writeln!(json, "{line}")?;
                }
            }
            row.push((fault.cell)(&seen));
        }
        rows.push(row);
    }
    print!("{}", table::markdown(&rows));
    Ok(())
}
