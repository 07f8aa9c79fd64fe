//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::faults::{Class, Rates};
use crate::render::{self, Targets};
use crate::stop::Stop;
use crate::sweep::operation::Operation;
use crate::sweep::{self, Mode, Planted};
use crate::verdict::Verdict;
use crate::{prove, replay, resume, run, shrink};

/// Exit code for a command line that can't be.
const EXIT_USAGE: i32 = 2;

/// Kills the processes of a Ringward channel, for hours if you like, and judges what the survivors received.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writers die inside pushes, readers inside receives, standbys inside successions; exit 0: every promise was
    /// kept, 1: one was broken, 2: usage, 3: nothing was tried
    Run(RunArgs),
    /// Stops each operation after each of its instructions, and judges what recovery makes of what is there; exit codes as
    /// of `run`
    Sweep(SweepArgs),
    /// Plants bugs in the library, one at a time, and demands that a named test goes red for each; exit 0: all were
    /// caught, 1: one survived, 2: usage, 3: a test was red without a bug, or nothing was tried
    Prove(ProveArgs),
    /// The trials of a violation's file, or of a plan, again; exit 0: all was well, 1: it is violated again
    Replay(ReplayArgs),
    /// Finds a smaller plan with the same violation
    Shrink(ShrinkArgs),
    /// Turns a JSON report into Markdown (printed unless told otherwise), JUnit XML or HTML
    Report {
        /// The report of `chaos run --report`
        file: PathBuf,
        #[command(flatten)]
        targets: Targets,
    },
}

/// Options of `chaos sweep`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SweepArgs {
    /// Operations to sweep, separated by commas; --list names them [default: all]
    #[arg(long, value_name = "OP", value_delimiter = ',', value_parser = parse_operation)]
    pub(crate) only: Vec<Operation>,
    /// What is done at the instructions [default: all]
    #[arg(long, value_name = "MODE", value_delimiter = ',', value_enum)]
    pub(crate) mode: Vec<Mode>,
    /// Seed of every choice and of the subjects' random numbers [default: a random one, printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Real SIGKILLs in each operation at random executions, beside one at each instruction that was not killed at yet
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) kills: usize,
    /// Instructions of each operation at which it is stopped, superseded and continued
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) stops: usize,
    /// Instructions of each operation at which its segment is cut under it
    #[arg(long, value_name = "N", default_value_t = 150)]
    pub(crate) cuts: usize,
    /// Failures of system calls in each operation, of all that there can be [default: all]
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    pub(crate) errnos: usize,
    /// Crash states of each operation whose recovery is itself swept
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) pairs: usize,
    /// Most instructions of each operation that get a real SIGKILL because none was killed at yet
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    pub(crate) sites: usize,
    /// Directory in which the sweep makes one of its own, on tmpfs [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where the report is written, as it grows
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    /// Says what would be done, and does nothing
    #[arg(long, visible_alias = "list")]
    pub(crate) dry_run: bool,
    /// A fault of the sweep itself, to see that it is noticed
    #[arg(long, value_enum, hide = true)]
    pub(crate) planted: Option<Planted>,
}

/// Options of `chaos prove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProveArgs {
    /// Tries this canary only; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Prints all canaries, as rows of a table, and tries none
    #[arg(long)]
    pub(crate) list: bool,
    /// Where the report is written
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Tries each canary so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) times: u32,
    /// Tests that run at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}

/// Options of `chaos shrink`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShrinkArgs {
    /// A violation's file
    pub(crate) file: PathBuf,
    /// Where the smaller case goes [default: beside the file, as FILE.shrunk.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// How often a smaller plan is tried before it counts as well-behaved
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) times: u32,
    /// Directory in which it makes one of its own, on tmpfs [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// Options of `chaos replay`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    /// A violation's file, or a plan as `chaos run --dry-run` prints it
    pub(crate) file: PathBuf,
    /// How often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) times: u32,
    /// Directory for a file of each violation that it finds
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Says what each class of faults came to
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Directory in which it makes one of its own, on tmpfs [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// Options of `chaos run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Chance that any given push is its writer's last
    #[arg(long, value_name = "P", default_value = "0.1", value_parser = parse_rate)]
    pub(crate) kill_rate: f64,
    /// How long, for example 90s, 10m, 8h [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Ends after so many kills
    #[arg(long, value_name = "N")]
    pub(crate) max_kills: Option<u64>,
    /// Faults on channels of their own beside the storm: all, none, or CLASS[=RATE] and FAMILY[=RATE] with commas between;
    /// RATE is the share of rounds that it is in
    #[arg(long, value_name = "LIST", default_value = "none", value_parser = Rates::parse)]
    pub(crate) faults: Rates,
    /// Ends after so many trials of the plan
    #[arg(long, value_name = "N")]
    pub(crate) max_faults: Option<u64>,
    /// Goes on where the run of that report ended: its seed and options, its plan behind the trials that are over, its counts of
    /// faults; the report goes to the same file unless told otherwise
    #[arg(long, value_name = "REPORT")]
    pub(crate) resume: Option<PathBuf>,
    /// Prints the plan and does nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Lies to the judge about one record of each trial with this class of fault: to see that the alarm works
    #[arg(long, hide = true, value_name = "CLASS", value_parser = parse_class)]
    pub(crate) plant: Option<&'static Class>,
    /// Ends if the run's own files come to take more
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_size)]
    pub(crate) space_limit: u64,
    /// Goes on although --root holds segments that this run has not made
    #[arg(long)]
    pub(crate) shared_root: bool,
    /// Seed of every choice [default: a random one, printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Readers; every other one is durable, and from three on the last one is spared, to see that it does not grow
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) readers: u32,
    /// Hot standbys
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) standbys: u32,
    /// Lengths of payloads in bytes
    #[arg(long, value_name = "MIN..MAX", default_value = "0..3000", value_parser = parse_range)]
    pub(crate) payload: (u32, u32),
    /// Bytes of the ring: a power of two from 4KiB on
    #[arg(long, value_name = "SIZE", default_value = "8KiB", value_parser = parse_capacity)]
    pub(crate) capacity: u64,
    /// Directory in which the run makes one of its own, on tmpfs [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where the report is written, as it grows
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// Runs the program; returns its exit code.
pub fn main() -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A pipe that was closed is no failure.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE } else { 0 };
        }
    };
    match cli.command {
        Command::Run(args) => run_command(args),
        Command::Sweep(args) => sweep::sweep(&args, &Stop::listen()).unwrap_or_else(|error| {
            eprintln!("error: {error}");
            EXIT_USAGE
        }),
        Command::Prove(args) => prove::run(&args, &Stop::listen()),
        Command::Replay(args) => told(replay::replay(&args, &Stop::listen())),
        Command::Shrink(args) => told(shrink::shrink(&args, &Stop::listen())),
        Command::Report { file, targets } => match render::convert(&file, &targets) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("error: {error}");
                EXIT_USAGE
            }
        },
    }
}

fn run_command(mut args: RunArgs) -> i32 {
    let before = match args.resume.clone().map(|path| resume::read(&path, &mut args)).transpose() {
        Ok(before) => before,
        Err(error) => {
            eprintln!("error: {error}");
            return EXIT_USAGE;
        }
    };
    let args = &args;
    if let Err(error) = fits(args) {
        eprintln!("error: {error}");
        return EXIT_USAGE;
    }
    if args.dry_run {
        run::print_plan(args);
        return 0;
    }
    told(run::run(args, before.as_ref(), &Stop::listen()))
}

/// Whether the options of a run fit each other.
pub(crate) fn fits(args: &RunArgs) -> Result<(), String> {
    let most = ringward_ring::layout::max_record(args.capacity);
    if u64::from(args.payload.1) > most {
        return Err(format!(
            "payloads of up to {} bytes do not fit a capacity of {}: at most {most}; raise --capacity or lower --payload",
            args.payload.1, args.capacity
        ));
    }
    Ok(())
}

/// The options of `chaos run`, from words.
pub(crate) fn run_args(words: &[&str]) -> Result<RunArgs, String> {
    let all = ["chaos", "run"].into_iter().chain(words.iter().copied());
    match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
        Command::Run(args) => Ok(args),
        _ => Err("no options of a run".into()),
    }
}

fn told(verdict: Result<Verdict, Box<dyn std::error::Error>>) -> i32 {
    match verdict {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            eprintln!("error: {error}");
            EXIT_USAGE
        }
    }
}

fn parse_operation(text: &str) -> Result<Operation, String> {
    Operation::from_name(text)
        .filter(|op| *op != Operation::Recover)
        .ok_or_else(|| "no such operation; `chaos sweep --list` names them".into())
}

fn parse_class(name: &str) -> Result<&'static Class, String> {
    crate::faults::class(name).ok_or_else(|| format!("there is no class {name:?}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err("a probability from 0 to 1, for example 0.1".into()),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("for example 90s, 10m, 1h30m".into());
    }
    while !rest.is_empty() {
        let (number, tail) = split_unit(rest);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let factor = match tail[..end].trim() {
            "ms" => 0.001,
            "" | "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            unit => return Err(format!("{unit:?} is no unit of time; ms, s, m, h and d are")),
        };
        let number: f64 = number.parse().map_err(|_| "for example 90s, 10m, 1h30m".to_owned())?;
        total += number * factor;
        rest = tail[end..].trim();
    }
    Duration::try_from_secs_f64(total).map_err(|error| error.to_string())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text.trim());
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("{unit:?} is no unit of size; B, KiB, MiB and GiB are")),
    };
    let number: u64 = number.parse().map_err(|_| "for example 4096, 64KiB, 1MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".into())
}

fn parse_capacity(text: &str) -> Result<u64, String> {
    let capacity = parse_size(text)?;
    if capacity.is_power_of_two() && (4096..=1 << 30).contains(&capacity) {
        Ok(capacity)
    } else {
        Err("a power of two from 4KiB to 1GiB".into())
    }
}

fn parse_range(text: &str) -> Result<(u32, u32), String> {
    let (min, max) = text.split_once("..").ok_or("for example 0..3000")?;
    let number = |text: &str| {
        parse_size(text.trim_start_matches('=')).and_then(|n| u32::try_from(n).map_err(|_| "too large".to_owned()))
    };
    let (min, max) = (number(min)?, number(max)?);
    if min <= max { Ok((min, max)) } else { Err("the smaller length first".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert!(parse_duration("s").is_err() && parse_duration("3 weeks").is_err() && parse_duration("").is_err());
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_capacity("1MiB"), Ok(1 << 20));
        assert!(parse_capacity("3000").is_err() && parse_capacity("2048").is_err());
        assert_eq!(parse_range("0..4KiB"), Ok((0, 4096)));
        assert!(parse_range("9..3").is_err() && parse_range("9").is_err());
        assert!(parse_rate("1.5").is_err() && parse_rate("x").is_err());
        assert_eq!(parse_rate("0"), Ok(0.0));
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
