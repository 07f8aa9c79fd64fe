//! The command line of what moves records.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use crate::exit::CODES;
use crate::input::Frame;
use crate::units::{duration, payload_size, size};

/// Push stdin into a channel, record by record
///
/// At the end of stdin the channel is closed in order: receivers drain it and end. A signal stops without closing, so that a standby or the
/// next sender goes on. A push that is refused because somebody else took the channel over (RW-PUSH-FENCED) or its memory was cut
/// (RW-PUSH-TRUNCATED) ends with exit code 1, unless --heal says otherwise.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Send {
    /// Name of the channel; made if it is not there
    pub(crate) channel: String,
    /// How stdin is cut into records: `lines` (without their newline; a last one without newline counts) or `chunk:SIZE`
    /// (the last one may be shorter)
    #[arg(long, default_value = "lines", value_name = "HOW", value_parser = Frame::parse)]
    pub(crate) frame: Frame,
    /// Skip what the channel already has: record k of stdin is the one with sequence number k, so a restarted sender goes on exactly
    /// where the channel stands. Chunks of a file are skipped by seeking, all else by reading
    #[arg(long)]
    pub(crate) resume: bool,
    /// Wait until the channel has no writer, then become it; ends if the channel is closed in order
    #[arg(long)]
    pub(crate) standby: bool,
    /// As a standby, don't keep a segment ready: saves its memory, takes over more slowly
    #[arg(long, requires = "standby")]
    pub(crate) cold: bool,
    /// What a standby does about a writer that holds the channel but stopped beating
    #[arg(long, default_value = "report", value_name = "WHAT", requires = "standby")]
    pub(crate) when_stuck: Stuck,
    /// How long a writer may be silent before it counts as stuck
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub(crate) stall_timeout: Duration,
    /// Wait until this many readers are registered before the first push
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) readers: usize,
    /// Leave the channel without a writer at the end of stdin, for the next one to go on
    #[arg(long)]
    pub(crate) no_close: bool,
    /// When the memory is cut or unlinked under this sender, go on in a new generation: readers are told what was lost
    #[arg(long)]
    pub(crate) heal: bool,
    /// When the slowest reader leaves no room: `block` (until there is), `block:TIME`, or `error`
    #[arg(long, default_value = "block", value_name = "WHAT", value_parser = Full::parse)]
    pub(crate) when_full: Full,
    /// Type number of the records
    #[arg(long = "type", default_value_t = 0, value_name = "N")]
    pub(crate) record_type: u32,
    /// Bytes of the ring, a power of two
    #[arg(long, default_value = "1MiB", value_name = "SIZE", value_parser = size)]
    pub(crate) capacity: u64,
    /// Largest record, in bytes [default: half the capacity, less a header]
    #[arg(long, value_name = "SIZE", value_parser = payload_size)]
    pub(crate) record_limit: Option<u32>,
    /// Reader slots, 1 to 64
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) slots: u32,
    /// What checksums cover: the `full` record, or its `header` only
    #[arg(long, default_value = "full", value_name = "WHAT")]
    pub(crate) checksum: Sum,
    /// Time between heartbeats; 0 promises none, and then this sender never counts as stuck
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = duration)]
    pub(crate) heartbeat: Duration,
    /// How many undrained generations there may be
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) chain: usize,
    /// What happens, on stderr
    #[arg(long, default_value = "text", value_name = "HOW")]
    pub(crate) events: Events,
}

/// Write a channel's records to stdout
///
/// A record counts as received once its bytes are written: only then is it released. A durable receiver that is killed at any moment and
/// started again gets what it had not released again, so that nothing is lost and at most the last record comes twice.
///
/// With --framed each record is a little-endian u64 sequence, u32 type, u32 length, then the payload; whoever reads can apply a record
/// once by its sequence number. Each frame is one write, but the kernel may cut a write at a page border when the process is killed
/// inside it: a stream can end in a torn frame. So give each run a stream of its own, or use --output, which cuts a torn end off
/// before it appends, and leaves out what the file already has.
///
/// Ends with 0 when the channel is closed in order and everything was received; with 4 if records were lost on the way.
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Recv {
    /// Name of the channel
    pub(crate) channel: String,
    /// Name of the reader, 1 to 31 of A-Z a-z 0-9 . _ - [default: recv-PID]
    #[arg(long, value_name = "NAME", required_if_eq("durable", "true"))]
    pub(crate) name: Option<String>,
    /// Keep the place in the channel when this receiver ends; needs --name. It holds the sender back until it comes again
    #[arg(long)]
    pub(crate) durable: bool,
    /// Where a new reader begins; a durable one that comes back goes on where it was
    #[arg(long, default_value = "latest", value_name = "WHERE")]
    pub(crate) from: Start,
    /// End after so many records
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End with exit code 3 when no record comes for so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// End with exit code 3 when the channel has not come after this time [default: wait for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Write a newline behind each payload
    #[arg(long, visible_alias = "lines", conflicts_with = "framed")]
    pub(crate) newline: bool,
    /// Write each record with its sequence number, type and length in front
    #[arg(long)]
    pub(crate) framed: bool,
    /// Append to this file of frames instead of writing to stdout, each record once
    #[arg(long, value_name = "FILE", requires = "framed")]
    pub(crate) output: Option<PathBuf>,
    /// What happens beside records, on stderr
    #[arg(long, default_value = "text", value_name = "HOW")]
    pub(crate) events: Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stuck {
    /// Say so and go on waiting
    Report,
    /// End its generation and follow it; it learns of that at its next push
    Supersede,
    /// Kill it, and follow it once the kernel says that it is dead
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sum {
    Full,
    Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    /// With the oldest record that is still there
    Oldest,
    /// With the next record
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Events {
    /// What an operator should know, in words
    Text,
    /// Everything, as JSON lines
    Json,
    /// Nothing but failures
    None,
}

/// What a sender does without room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Error,
    Block(Option<Duration>),
}

impl Full {
    fn parse(text: &str) -> Result<Full, String> {
        match text.split_once(':') {
            None if text == "error" => Ok(Full::Error),
            None if text == "block" => Ok(Full::Block(None)),
            Some(("block", time)) => Ok(Full::Block(Some(duration(time)?))),
            _ => Err(format!("{text:?} is none of block, block:TIME, error")),
        }
    }
}

/// Print the last records of a channel, without taking a reader's place in it
///
/// Nobody notices, nobody is held back, and nothing is written to the channel. What the writer has overwritten before it was looked at is
/// counted, not shown. One line a record: sequence number, type, length, payload (what is not text is escaped).
#[derive(Debug, ClapArgs)]
#[command(after_help = CODES)]
pub(crate) struct Tail {
    /// Name of the channel
    pub(crate) channel: String,
    /// How many of the records that are there now; the newest
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
    pub(crate) records: u64,
    /// Go on with what comes, until the channel is closed
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Most bytes of a payload that are shown; 0 shows all
    #[arg(long, default_value = "120", value_name = "SIZE", value_parser = size)]
    pub(crate) width: u64,
    /// Time between two looks with --follow
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = duration)]
    pub(crate) interval: Duration,
    /// As JSON lines, with payloads in hexadecimal digits
    #[arg(long)]
    pub(crate) json: bool,
}
