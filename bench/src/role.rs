//! A process of a run: what it does between its start and its line of results.

use std::io::{BufRead, Write, stdin, stdout};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Result;
use crate::spec::Spec;
use crate::works::Entry;

/// Where a process waits until all of its run are there: it says `ready`, and is told to go.
#[derive(Debug)]
pub struct Gate;

impl Gate {
    /// Says that this process has its end.
    ///
    /// # Errors
    ///
    /// What writing said.
    pub fn ready(&self) -> Result<()> {
        let mut out = stdout().lock();
        out.write_all(b"ready\n")?;
        Ok(out.flush()?)
    }

    /// Waits for the word.
    ///
    /// # Errors
    ///
    /// If it doesn't come.
    pub fn go(&self) -> Result<()> {
        let mut line = String::new();
        stdin().lock().read_line(&mut line)?;
        if line.trim() == "go" { Ok(()) } else { Err(format!("told {line:?} instead of go").into()) }
    }
}

/// Pins the calling thread.
///
/// # Errors
///
/// What the system said.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Runs the side that `spec` names and prints its results. Dies with whoever started it.
///
/// # Errors
///
/// What went wrong.
pub fn run(spec: &str, peers: &[Entry]) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let spec: Spec = serde_json::from_str(spec)?;
    if let Some(cpu) = spec.cpu() {
        pin(cpu)?;
    }
    let by_peer = peers.iter().find(|peer| peer.name == spec.peer).map(|peer| peer.run);
    let side = by_peer.ok_or_else(|| format!("no peer {:?} here", spec.peer))?;
    let result = side(&spec, &Gate)?;
    let mut out = stdout().lock();
    writeln!(out, "{result}")?;
    Ok(out.flush()?)
}

/// Both ends in one process, each on a thread and a processor of its own.
///
/// # Errors
///
/// What one of them said.
pub fn both<A: Send, B: Send>(
    spec: &Spec,
    gate: &Gate,
    first: impl FnOnce() -> Result<A>,
    second: impl FnOnce() -> Result<B> + Send,
    run_first: impl FnOnce(A) -> Value,
    run_second: impl FnOnce(B) -> Value + Send,
) -> Result<Value> {
    let other = spec.cpus.get(1).copied();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> Result<Value> {
            if let Some(cpu) = other {
                pin(cpu)?;
            }
            Ok(run_second(second()?))
        });
        let end = first()?;
        gate.ready()?;
        gate.go()?;
        let mut result = run_first(end);
        let other = thread.join().map_err(|_| "the other thread panicked")??;
        if let (Some(all), Value::Object(more)) = (result.as_object_mut(), other) {
            all.extend(more);
        }
        Ok(result)
    })
}
