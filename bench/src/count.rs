//! Instructions of one push and one receive, counted by stepping through them. Counts, unlike times, are the same on a
//! busy machine: they are compared with a committed baseline.
//!
//! # Safety
//!
//! A software breakpoint is executed where the counted part begins and ends. Whoever steps takes the signal; nobody executes it
//! who isn't stepped through ([`side`] asks for it first).
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use ringward_recovery::{Checksum, Durability, Event, From};

use crate::Result;
use crate::peers::ringward::channel;
use crate::spec::Spec;

/// Payload sizes whose instructions are counted: the ones that no copy of the system's takes part in.
pub const SIZES: [usize; 3] = [8, 64, 256];
/// More than so many times the baseline is too many. Smaller changes come with every rearrangement by the compiler.
pub const TOLERANCE: f64 = 1.25;
/// Most steps between two marks.
const MOST: u64 = 1_000_000;
/// Code of the signal that a breakpoint instruction raises (a step's is another).
const BY_BREAKPOINT: i32 = 0x80;

/// Counts by name, as committed.
pub type Counts = BTreeMap<String, u64>;

#[inline(always)]
fn mark() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this process is stepped through by its parent, which takes the signal; nothing else is touched.
    unsafe {
        core::arch::asm!("int3", options(nostack, preserves_flags));
    }
}

/// The process that is stepped through: pushes and receives in the directory `place`, with marks around every hundredth.
///
/// # Errors
///
/// What the library or the system said.
pub fn side(place: &Path) -> Result<()> {
    for size in SIZES {
        let (work, peer, cpus) = ("count".into(), "ringward".into(), Vec::new());
        let place = place.to_owned();
        let spec = Spec { work, peer, size, count: 0, millis: 0, capacity: 1 << 20, place, side: 0, cpus };
        let channel = channel(&spec, &format!("c{size}"), Checksum::FULL)?;
        let mut writer = channel.writer()?;
        let mut reader = channel.reader("r", Durability::Ephemeral, From::Latest)?;
        let payload = vec![7; size];
        let mut buf = vec![0; size];
        for _ in 0..100 {
            writer.push(0, &payload)?;
            reader.recv(&mut buf, Duration::ZERO)?;
        }
        mark();
        let pushed = writer.push(0, &payload);
        mark();
        pushed?;
        mark();
        let received = reader.recv(&mut buf, Duration::ZERO);
        mark();
        assert!(matches!(received?, Some(Event::Record { len, .. }) if len == size) && buf == payload);
        writer.close()?;
    }
    Ok(())
}

/// Counts, or says why nothing can be counted here.
///
/// # Errors
///
/// What the stepped process or the system said.
pub fn count(place: &Path) -> Result<Counts> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("count-side").arg(place);
    // SAFETY: between fork and exec the child makes one system call, which is safe there.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let child = Pid::from_raw(command.spawn()?.id() as i32);
    let counted = step_through(child);
    if counted.is_err() {
        let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
    }
    counted
}

fn step_through(child: Pid) -> Result<Counts> {
    // Stopped behind its exec.
    waitpid(child, None)?;
    let mut counts = Counts::new();
    for size in SIZES {
        for what in ["push", "receive"] {
            ptrace::cont(child, None)?;
            while !at_mark(child)? {
                ptrace::cont(child, None)?;
            }
            let mut steps = 0;
            loop {
                ptrace::step(child, None)?;
                if at_mark(child)? {
                    break;
                }
                steps += 1;
                if steps > MOST {
                    return Err(format!("{what} of {size} B takes over {MOST} instructions").into());
                }
            }
            counts.insert(format!("{what} {size} B"), steps);
        }
    }
    ptrace::cont(child, None)?;
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(counts),
        other => Err(format!("the counted process ended with {other:?}").into()),
    }
}

/// Waits for the child to stop; whether a mark stopped it.
fn at_mark(child: Pid) -> Result<bool> {
    match waitpid(child, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(ptrace::getsiginfo(child)?.si_code == BY_BREAKPOINT),
        other => Err(format!("the counted process did not stop at a mark: {other:?}").into()),
    }
}

/// Why nothing can be counted here, if so: the counts are those of one kind of processor.
pub fn obstacle() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let there = std::arch::is_x86_feature_detected!("sse4.2");
        if cfg!(debug_assertions) {
            Some("this is a debug build; counts are those of the release build")
        } else if !there {
            Some("this processor has no SSE4.2")
        } else {
            None
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Some("counted on x86-64 only")
}

/// The committed baseline.
pub fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.json")
}

/// What is wrong with `found` beside `base`: a line for each count that is missing or too high.
pub fn objections(base: &Counts, found: &Counts) -> Vec<String> {
    let mut said = Vec::new();
    for (name, before) in base {
        match found.get(name) {
            None => said.push(format!("{name}: in the baseline, and not counted")),
            Some(now) if *now as f64 > *before as f64 * TOLERANCE => {
                said.push(format!("{name}: {now} instructions, the baseline has {before}"));
            }
            Some(_) => {}
        }
    }
    said.extend(
        found.keys().filter(|name| !base.contains_key(*name)).map(|name| format!("{name}: not in the baseline")),
    );
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_is_objected_to_and_a_few_more_are_not() {
        let base = Counts::from([("push 8 B".to_owned(), 100)]);
        let found = |n| Counts::from([("push 8 B".to_owned(), n)]);
        assert!(objections(&base, &found(100)).is_empty() && objections(&base, &found(125)).is_empty());
        assert_eq!(objections(&base, &found(126)).len(), 1);
        assert_eq!(objections(&base, &Counts::new()).len(), 1);
        assert_eq!(objections(&Counts::new(), &found(1)).len(), 1);
    }
}
