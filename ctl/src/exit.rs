//! How a command ends: few codes, documented in `--help`; every failure names what was found and what to do.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit codes, as `--help` prints them.
pub(crate) const CODES: &str = "\
Exit codes:
  0    done; also when stdout was closed by whoever read it
  1    the channel, its namespace or the system refused; stderr has the reason and its id (RW-…)
  2    the command line can't be
  3    time-out, or nothing to do: the channel did not come, no record came, or it was closed before this reader joined
  4    done, but records were lost, or may be; stderr tells which
  5    something is damaged (check), or must be mended (doctor), or could not be taken away (clean)
  6    nothing is, but there are notes (check) or doubts (doctor)
  130  stopped by SIGINT
  143  stopped by SIGTERM";

/// How a command ended that was not stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// Everything that was asked for.
    All,
    /// Everything, except for records that were told to be lost, or perhaps lost.
    Lost,
    /// What was looked for was found: damage, or what must be mended.
    Found,
    /// Only notes or doubts were found.
    Noted,
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The channel or the system refused. The message carries an id.
    Refused(String),
    /// What was asked for can't be.
    Usage(String),
    /// The time is up, or there was nothing.
    Nothing(String),
    /// A signal with this number.
    Stopped(i32),
    /// Whoever reads our output has had enough.
    PipeClosed,
}

impl Failure {
    /// A refusal by the library, whose messages carry their ids.
    pub(crate) fn refused(error: impl Display) -> Failure {
        Failure::Refused(error.to_string())
    }

    /// What the system said about our own input or output.
    pub(crate) fn system(doing: &str, error: impl Display) -> Failure {
        Failure::Refused(format!("{doing}: {error} [RW-CTL-SYSTEM]"))
    }

    /// What happened to a write of ours.
    pub(crate) fn output(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::PipeClosed;
        }
        Failure::Refused(format!("write to stdout: {error}; look whether its disk is full [RW-CTL-STDOUT]"))
    }
}

/// With which code it ends, and what is told first.
pub(crate) fn code(ended: &Result<Done, Failure>) -> (Option<&str>, u8) {
    match ended {
        Ok(Done::All) | Err(Failure::PipeClosed) => (None, 0),
        Ok(Done::Lost) => (None, 4),
        Ok(Done::Found) => (None, 5),
        Ok(Done::Noted) => (None, 6),
        Err(Failure::Refused(message)) => (Some(message), 1),
        Err(Failure::Usage(message)) => (Some(message), 2),
        Err(Failure::Nothing(message)) => (Some(message), 3),
        Err(Failure::Stopped(signal)) => (None, u8::try_from(128 + signal).unwrap_or(u8::MAX)),
    }
}

/// Prints why a command stopped, and says with which code.
pub(crate) fn report(ended: &Result<Done, Failure>) -> ExitCode {
    let (message, code) = code(ended);
    if let Some(message) = message {
        complain(message);
    }
    ExitCode::from(code)
}

/// Set by the fuzzer, whose many runs would fill a disk with what they have to say.
pub(crate) static MUTE: AtomicBool = AtomicBool::new(false);

/// One line on stderr, if anybody reads it.
pub(crate) fn complain(message: &str) {
    if MUTE.load(Ordering::Relaxed) {
        return;
    }
    let _ = io::stderr().write_all(format!("ringward: {message}\n").as_bytes());
}
