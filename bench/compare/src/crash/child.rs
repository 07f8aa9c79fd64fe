//! A process of a trial, as the trial sees it. It ends with its value.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringward_bench::Result;
use ringward_bench::shared::Shared;
use serde_json::Value;

use super::PATIENCE;
use super::system::System;
use super::world::Place;

/// A process.
pub(crate) struct Side {
    child: Child,
    lines: Receiver<Value>,
    ledger: PathBuf,
    /// What the system said in it that was not asked for.
    pub(crate) said: Vec<String>,
}

impl Side {
    /// Starts a process of `role`; `id` is its number as a writer.
    pub(crate) fn start(role: &str, system: System, place: &Place, id: u64) -> Result<Side> {
        let ledger = place.ledgers.join(id.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crash-side", role, system.name()]).arg(&place.path);
        if !["reader", "clean"].contains(&role) {
            command.arg(id.to_string()).arg(&ledger);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(std::result::Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Side { child, lines, ledger, said: Vec::new() })
    }

    /// Starts one and waits until it says `at`.
    ///
    /// # Errors
    ///
    /// If it doesn't.
    pub(crate) fn start_until(at: &str, role: &str, system: System, place: &Place, id: u64) -> Result<Side> {
        let mut side = Side::start(role, system, place, id)?;
        match side.wait(at, Duration::from_secs(10)) {
            Some(_) => Ok(side),
            None => Err(format!("{} {role} did not get {at}: {:?}", system.name(), side.said).into()),
        }
    }

    /// Waits for the line `at`; nothing if it doesn't come in time, or the process ends.
    pub(crate) fn wait(&mut self, at: &str, limit: Duration) -> Option<Value> {
        self.wait_for(limit, |line| line["at"] == at)
    }

    /// Waits for a line.
    pub(crate) fn wait_for(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let end = Instant::now() + limit;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
            if let Some(said) = line["said"].as_str() {
                self.said.push(said.to_owned());
            }
            if wanted(&line) {
                return Some(line);
            }
        }
    }

    /// Reads what it said meanwhile.
    pub(crate) fn listen(&mut self) {
        while self.wait_for(Duration::ZERO, |_| true).is_some() {}
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, what: &str) {
        if let Some(input) = &mut self.child.stdin {
            // It may be dead: that shows elsewhere.
            let _ = writeln!(input, "{what}");
        }
    }

    /// What a reader has got.
    pub(crate) fn report(&mut self) -> Option<Value> {
        self.tell("report");
        self.wait("report", PATIENCE).map(|line| line["report"].clone())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Kills it and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its end in words.
    pub(crate) fn end(&mut self) -> Option<String> {
        let status = self.ended()?;
        Some(match status.signal().map(Signal::try_from) {
            Some(Ok(signal)) => format!("killed by {signal}"),
            Some(Err(_)) => format!("{status}"),
            None => format!("exit {}", status.code().unwrap_or(-1)),
        })
    }

    /// Waits until it has ended.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.ended().is_none() {
            if begun.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// A writer's ledger.
    pub(crate) fn ledger(&self) -> Result<Shared> {
        Shared::open(Path::new(&self.ledger))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.kill();
    }
}
