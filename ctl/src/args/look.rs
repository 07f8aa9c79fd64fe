//! The command line of what only looks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::exit::CODES;
use crate::units::duration;

/// List the channels of a namespace: generation, owner, verdict, readers with lag, memory
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Ls {
    /// Look twice, so far apart: a writer that is silent for 2 s or more then shows as stalled
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) sample: Option<Duration>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show one channel in words: its generations, the evidence about each, its readers
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Inspect {
    /// Name of the channel
    pub(crate) channel: String,
    /// Look twice, so far apart: a writer that is silent for 2 s or more then shows as stalled
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) sample: Option<Duration>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check a segment's bytes: a channel's generations, a copied file, or a folder of them
///
/// Prints what is remarkable, each with its id, and ends with code 5 if something is damaged, 6 if there are only notes (which a crash in
/// good order leaves). Nothing is written, and no lock taken. Of a channel in use several copies are compared: what only one shows was movement.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Check {
    /// Name of a channel, or the path of a segment's copy (with a slash in it, if there is a channel of that name)
    #[arg(value_name = "FILE|CHANNEL")]
    pub(crate) target: String,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show a segment's bytes with the names of their fields and the borders of its records
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Dump {
    /// Name of a channel, or the path of a segment's copy (with a slash in it, if there is a channel of that name)
    #[arg(value_name = "FILE|CHANNEL")]
    pub(crate) target: String,
    /// This generation of the channel [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u64>,
    /// Only the data, from what lies at this byte position on; one piece unless --pieces says more
    #[arg(long, value_name = "POSITION")]
    pub(crate) at: Option<u64>,
    /// How many records, wrap markers and holes [default: all; with --at 1]
    #[arg(long, value_name = "N")]
    pub(crate) pieces: Option<usize>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look at this machine and at every namespace of the root: does it give what channels need?
///
/// Ends with code 5 if something must be mended, 6 if something is doubtful. Changes nothing; one file without a name is made and gone.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Doctor {
    /// As the production checklist: a line for each thing to have seen to, ticked where it is
    #[arg(long)]
    pub(crate) checklist: bool,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the runbook's entry for an id
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Explain {
    /// Such as RW-OPEN-OWNED; upper or lower case, RW- may be left out. Without one: all ids
    pub(crate) id: Option<String>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// A live view: rates, lag, age of heartbeats, use of the root
///
/// On a terminal the screen is drawn anew each time; elsewhere one table follows the other. Ends with a signal (Ctrl-C).
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Top {
    /// Only this channel
    pub(crate) channel: Option<String>,
    /// Time between two looks
    #[arg(short, long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub(crate) interval: Duration,
    /// One view, after one interval, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// As JSON lines, one for each view
    #[arg(long)]
    pub(crate) json: bool,
}

/// Keep a channel's unread records in a file, with checksums
///
/// From the slowest reader's place on; everything that is still there if it has no readers, or with --all. The channel is not touched. The file appears
/// when it is complete and on its disk, with mode 0600: it holds payloads.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Snapshot {
    /// Name of the channel
    pub(crate) channel: String,
    /// Where to
    pub(crate) file: PathBuf,
    /// Also what every reader has received
    #[arg(long)]
    pub(crate) all: bool,
    /// Take the place of a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the completions for a shell
#[derive(Debug, ClapArgs)]
#[command(after_help = "For example: ringward completions bash > ~/.local/share/bash-completion/completions/ringward")]
pub(crate) struct Completions {
    /// Which one
    pub(crate) shell: clap_complete::Shell,
}

/// Print a manual page
#[derive(Debug, ClapArgs)]
#[command(after_help = "For example: ringward man | man -l -")]
pub(crate) struct Man {
    /// Of this command [default: of the program]
    pub(crate) command: Option<String>,
    /// Write all pages to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}
