//! One test of one test program, run in a process group of its own, bounded.

use std::fmt;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::build::Binaries;
use super::instrument::Instrument;
use crate::stop::Stop;

/// Longest time for an instrument without a bug: only a hang takes that long.
pub(super) const CONTROL_LIMIT: Duration = Duration::from_secs(300);
/// By what a planted bug says that it was met.
const MET: &str = "RINGWARD CANARY";
/// What a red test program exits with.
const RED: i32 = 101;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The test ran, and passed.
    Green,
    /// It failed.
    Red,
    /// The program ended otherwise.
    Exited {
        /// With this code.
        code: i32,
    },
    /// It passed, without a test of that name.
    NothingRan,
    /// A signal ended it.
    Signal {
        /// Which.
        number: i32,
    },
    /// It did not end, and was killed.
    Hung,
    /// It could not be started, or we were told to stop.
    NotRun,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Green => f.write_str("passed"),
            Ending::Red => f.write_str("failed"),
            Ending::Exited { code } => write!(f, "ended with code {code}"),
            Ending::NothingRan => f.write_str("ran no test of that name"),
            Ending::Signal { number } => write!(f, "died of signal {number}"),
            Ending::Hung => f.write_str("did not end, and was killed"),
            Ending::NotRun => f.write_str("was not run"),
        }
    }
}

/// A run, and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ending: Ending,
    pub(crate) seconds: f64,
    /// Standard output and error, as they came.
    pub(crate) output: String,
    /// To run it again, once it is built.
    pub(crate) command: String,
}

impl Run {
    /// Whether the planted bug was met.
    pub(crate) fn met(&self) -> bool {
        self.output.contains(MET)
    }

    /// Why the test could not be made here, if it says so.
    pub(crate) fn skipped(&self) -> Option<String> {
        let line = self.output.lines().find_map(|line| line.split_once("SKIPPED").map(|(_, why)| why))?;
        Some(line.trim_matches([' ', ':']).to_owned())
    }

    /// The end of what it said.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        let mut tail = lines[lines.len().saturating_sub(25)..].join("\n");
        tail.push('\n');
        tail
    }
}

/// Where instruments are run: a directory on tmpfs for all that they make.
pub(super) struct Bench<'s> {
    scratch: tempfile::TempDir,
    count: AtomicUsize,
    stop: &'s Stop,
}

impl Bench<'_> {
    pub(super) fn new(stop: &Stop) -> Result<Bench<'_>, String> {
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let scratch = tempfile::Builder::new().prefix("ringward-prove-").tempdir_in(base);
        let scratch = scratch.map_err(|error| format!("cannot make a directory in {base}: {error}"))?;
        stop.set_root(Some(scratch.path().to_owned()));
        Ok(Bench { scratch, count: AtomicUsize::new(0), stop })
    }

    /// Runs a test; with a canary, or without.
    pub(super) fn run(
        &self,
        binaries: &Binaries,
        instrument: Instrument,
        canary: Option<&str>,
        limit: Duration,
    ) -> Run {
        let Some(program) = binaries.path(instrument.program) else {
            return Run { ending: Ending::NotRun, seconds: 0.0, output: String::new(), command: String::new() };
        };
        let place = self.place();
        let _ = std::fs::create_dir(&place);
        let mut command = Command::new(program);
        command
            .current_dir(binaries.root.join(instrument.program.folder()))
            .args(["--exact", instrument.test, "--nocapture", "--test-threads=1"])
            .env("RINGWARD_TEST_ROOT", &place)
            .env("RUST_BACKTRACE", "0")
            .env_remove("RINGWARD_ROOT")
            .env_remove("RINGWARD_CANARY");
        let mut again = String::new();
        let mut set = |name: &str, value: &str| {
            command.env(name, value);
            again.push_str(&format!("{name}={value} "));
        };
        if let Some(canary) = canary {
            set("RINGWARD_CANARY", canary);
        }
        if let Some(switches) = instrument.switches {
            set("RINGWARD_MODEL_SWITCHES", &switches.to_string());
        }
        let path = program.strip_prefix(&binaries.root).unwrap_or(program);
        let folder = instrument.program.folder();
        let test = instrument.test;
        again = format!("(cd {folder}; {again}../{} --exact {test} --nocapture --test-threads=1)", path.display());
        let mut run = self.command(command, limit);
        let _ = std::fs::remove_dir_all(place);
        run.ending = match run.ending {
            Ending::Exited { code: 0 } if run.output.contains("test result: ok. 1 passed") => Ending::Green,
            Ending::Exited { code: 0 } => Ending::NothingRan,
            Ending::Exited { code: RED } => Ending::Red,
            other => other,
        };
        run.command = again;
        run
    }

    fn place(&self) -> PathBuf {
        self.scratch.path().join(self.count.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Runs a command to its end, or kills it and what it has started.
    pub(super) fn command(&self, mut command: Command, limit: Duration) -> Run {
        let begun = Instant::now();
        let path = self.place().with_extension("out");
        let ending = File::create(&path)
            .and_then(|file| {
                command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
                command.spawn()
            })
            .map_or(Ending::NotRun, |child| self.wait(child, begun, limit));
        let output = std::fs::read(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        Run {
            ending,
            seconds: begun.elapsed().as_secs_f64(),
            output: String::from_utf8_lossy(&output).into_owned(),
            command: String::new(),
        }
    }

    fn wait(&self, mut child: Child, begun: Instant, limit: Duration) -> Ending {
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ending::NotRun };
        let mut cut = None;
        loop {
            // Seen, but not yet taken note of: until then its number, and its group's, are nobody else's.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(WaitId::Pid(pid), options), Ok(None)) {
                break;
            }
            if self.stop.asked() {
                cut = Some(Ending::NotRun);
                break;
            }
            if begun.elapsed() > limit {
                cut = Some(Ending::Hung);
                break;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        // Its children with it, if it has left any.
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait();
        match (cut, status) {
            (Some(cut), _) => cut,
            (None, Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Exited { code },
                (None, Some(number)) => Ending::Signal { number },
                (None, None) => Ending::NotRun,
            },
            (None, Err(_)) => Ending::NotRun,
        }
    }
}
