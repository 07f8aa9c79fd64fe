//! The command line of what takes away, ends and watches.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use crate::exit::CODES;
use crate::units::duration;

/// Watch over the channels of a namespace in the foreground: classify each, and take away what is provably nobody's
///
/// Prints a channel whenever its verdict changes or something is done about it, until a signal comes. It looks each interval, and at once when a
/// process that owns a writer ends. Under systemd it says when it is ready and that it is well; SIGHUP has it read its settings again.
///
/// What is not on the command line is taken from the environment (RINGWARD_WATCH_GRACE and so on), else from the file of --config.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Watch {
    /// Settings, in TOML: the long options without dashes as keys
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to do about a channel that is nobody's [default: report]
    #[arg(long, value_name = "WHAT")]
    pub(crate) mode: Option<Mode>,
    /// How long it must have been nobody's; counted from a mark on the file, so that it survives this watchdog [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// Durable readers that don't come back keep a channel for so long [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expire_durable: Option<Duration>,
    /// How long a writer may be silent before it counts as stalled [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) stall_timeout: Option<Duration>,
    /// Time between two looks [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) interval: Option<Duration>,
    /// Look once and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Overwrite data with zeros before it is unlinked
    #[arg(long)]
    pub(crate) wipe: bool,
    /// Answer HTTP requests for /metrics (Prometheus's text format) and /healthz, at an address such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Percent of the root's file system in use from which on it is told; 0: never [default: 80]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) space_limit: Option<u8>,
    /// Lines about one channel in a minute; those left out are counted [default: 60]
    #[arg(long, value_name = "N")]
    pub(crate) log_limit: Option<u32>,
    /// As JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Say so
    Report,
    /// Rename it to .quarantine-… in the namespace, with its bytes
    Quarantine,
    /// Unlink it
    Reclaim,
}

/// Take away what is provably nobody's: shows the plan and the evidence, and acts only with --yes
///
/// What a process holds a lock of is never touched: every lock is taken before the table is looked at. A durable reader's unread records are kept
/// unless --expire-durable says otherwise.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Clean {
    /// Only these channels [default: all of the namespace]
    pub(crate) channels: Vec<String>,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// How long it must have been nobody's, by the mark that a watchdog has set; without a mark only 0 takes anything
    #[arg(long, default_value = "0", value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Duration,
    /// Durable readers that don't come back keep a channel for so long [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expire_durable: Option<Duration>,
    /// Keep the bytes: rename to .quarantine-… instead of unlinking
    #[arg(long)]
    pub(crate) quarantine: bool,
    /// Overwrite data with zeros before it is unlinked
    #[arg(long)]
    pub(crate) wipe: bool,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// End the generation of a writer that is stuck, without killing it: shows the plan, and acts only with --yes
///
/// Its next push answers RW-PUSH-FENCED, and no reader sees that record. The next generation is left without a writer, for a standby or the next one that
/// starts. A writer that is well is refused, unless --although-live.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Supersede {
    /// Name of the channel
    pub(crate) channel: String,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also a writer that is well
    #[arg(long)]
    pub(crate) although_live: bool,
    /// How long the writer must be silent to count as stuck; that long is looked
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub(crate) stall_timeout: Duration,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Kill the process that holds a channel and is stuck: shows the plan, and acts only with --yes
///
/// By a descriptor of the process, after its number and start time were compared with what it wrote down, so that it can't hit another one. A writer
/// that is well is refused, unless --although-live.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct KillOwner {
    /// Name of the channel
    pub(crate) channel: String,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also a writer that is well
    #[arg(long)]
    pub(crate) although_live: bool,
    /// Ask with SIGTERM instead of SIGKILL
    #[arg(long)]
    pub(crate) term: bool,
    /// How long the writer must be silent to count as stuck; that long is looked
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub(crate) stall_timeout: Duration,
    /// How long to wait until the kernel says that it is gone
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Duration,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Give up the place of a durable reader that will not come back: shows the plan, and acts only with --yes
///
/// It holds the writer back no more; what it had not received is lost to it. A reader whose process lives is refused.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Forget {
    /// Name of the channel
    pub(crate) channel: String,
    /// Name of the reader
    pub(crate) reader: String,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make a channel from a snapshot: its records, and its durable readers at their places
///
/// The channel must not be there. Sequence numbers begin anew. It is left without a writer, for the next one to go on.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Restore {
    /// The snapshot
    pub(crate) file: PathBuf,
    /// Name of the channel [default: as it was]
    pub(crate) channel: Option<String>,
    /// Only look whether the snapshot is whole
    #[arg(long)]
    pub(crate) verify: bool,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
