//! Processes that a work starts by itself: other sides of the same run, on the same program.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Result;
use crate::spec::Spec;

/// A child of a work. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Started {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Started {
    /// Starts side `side` of `spec`.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn new(spec: &Spec, side: usize) -> Result<Started> {
        let spec = Spec { side, ..spec.clone() };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("side")
            .arg(serde_json::to_string(&spec)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Started { child, out })
    }

    /// Waits until it says `ready`.
    ///
    /// # Errors
    ///
    /// What it said instead.
    pub fn ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        if line == "ready\n" { Ok(()) } else { Err(format!("a child said {line:?} instead of ready").into()) }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL, and does not wait.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
