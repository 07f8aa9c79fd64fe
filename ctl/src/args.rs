//! The command line: what all commands share, and the list of them. The options of each are in the files of the folder.

mod act;
mod look;
mod records;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::exit::CODES;

pub(crate) use act::{Clean, Forget, KillOwner, Mode, Restore, Supersede, Watch};
pub(crate) use look::{Check, Completions, Doctor, Dump, Explain, Inspect, Ls, Man, Snapshot, Top};
pub(crate) use records::{Events, Full, Recv, Send, Start, Stuck, Sum, Tail};

/// Send and receive on ringward channels, look at them, act on them, and watch over them.
#[derive(Debug, Parser)]
#[command(name = "ringward", version, after_help = CODES, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the channels are.
#[derive(Debug, ClapArgs)]
pub(crate) struct Place {
    /// Namespace: a directory of channels [default: ringward-UID]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Root directory of namespaces, on a local file system [default: $RINGWARD_ROOT, else /dev/shm]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Colours: on terminals only (and not if NO_COLOR is set), always, or never
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
    /// Trace to stderr what the libraries do; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Send(Send),
    Recv(Recv),
    Tail(Tail),
    Ls(Ls),
    Inspect(Inspect),
    Top(Top),
    Check(Check),
    Dump(Dump),
    Doctor(Doctor),
    Explain(Explain),
    Snapshot(Snapshot),
    Restore(Restore),
    Watch(Watch),
    Clean(Clean),
    Supersede(Supersede),
    KillOwner(KillOwner),
    Forget(Forget),
    Completions(Completions),
    Man(Man),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
