//! What the fuzzer runs of the program, and how it is kept from doing anything outside a folder of the fuzzer's.
//!
//! The command line is parsed as ever. Then its root, namespace and files are replaced by the caller's, times to wait by none; what
//! would act on a process, read stdin, look at the machine or go on for ever is not run.

use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use clap::Parser;

use crate::args::{Args, Color, Command};
use crate::exit::{self, Done, Failure};
use crate::stop::Stop;
use crate::{archive, explain, frames, watch};

/// The namespace that every command gets.
pub const NAMESPACE: &str = "n";
/// The channel that is meant as one where a file could be too.
pub const CHANNEL: &str = "c";
/// Largest ring that is restored: it is memory.
const LARGEST: u64 = 1 << 20;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: u8,
    /// What is told on stderr.
    pub message: Option<String>,
}

/// The command of those words: `file` stands for every file that it names, `root` for the root. `None`: it is one that is not run.
pub fn run(words: &[OsString], environment: &[(&str, &str)], root: &Path, file: &Path) -> Option<Ended> {
    let program = OsString::from("ringward");
    let mut args = match Args::try_parse_from([&program].into_iter().chain(words)) {
        Ok(args) => args,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(u8::MAX);
            return Some(Ended { code, message: Some(error.to_string()) });
        }
    };
    args.place.root = Some(root.to_owned());
    args.place.namespace = Some(NAMESPACE.to_owned());
    if args.place.color == Color::Auto {
        args.place.color = Color::Never;
    }
    let ended = perform(&mut args, environment, root, file)?;
    let (message, code) = exit::code(&ended);
    Some(Ended { code, message: message.map(str::to_owned) })
}

fn perform(args: &mut Args, environment: &[(&str, &str)], root: &Path, file: &Path) -> Option<Result<Done, Failure>> {
    static STOP: OnceLock<Stop> = OnceLock::new();
    let stop = STOP.get_or_init(|| Stop::deaf().expect("an eventfd"));
    exit::MUTE.store(true, Ordering::Relaxed);
    let target = |target: &mut String| {
        if target != CHANNEL {
            *target = file.display().to_string();
        }
    };
    match &mut args.command {
        Command::Check(check) => target(&mut check.target),
        Command::Dump(dump) => target(&mut dump.target),
        Command::Explain(_) | Command::Completions(_) | Command::Clean(_) | Command::Forget(_) => {}
        Command::Man(man) => man.dir = None,
        Command::Ls(ls) => ls.sample = None,
        Command::Inspect(inspect) => inspect.sample = None,
        Command::Tail(tail) => tail.follow = false,
        Command::Snapshot(snapshot) => {
            snapshot.file = root.join("snapshot");
            let taken = crate::perform(args, stop);
            if let Ok(Done::All | Done::Lost) = &taken {
                let taken = File::open(root.join("snapshot")).expect("it was just made");
                archive::read(BufReader::new(taken)).expect("what was taken is whole");
            }
            return Some(taken);
        }
        Command::Restore(restore) => {
            restore.file = file.to_owned();
            if let Ok((head, _)) = File::open(file).map_err(archive::Spoilt::from).and_then(archive::read) {
                let name = restore.channel.as_ref().unwrap_or(&head.channel);
                restore.verify |= head.capacity > LARGEST || name.contains('/');
            }
        }
        Command::Watch(args) => {
            args.config = args.config.as_ref().map(|_| file.to_owned());
            let asked = |name: &str| {
                let name = name.strip_prefix("RINGWARD_WATCH_").filter(|name| *name != "CONFIG")?;
                environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            return Some(watch::settings(args, asked).map(|()| Done::All));
        }
        Command::Recv(recv) => {
            return recv.output.as_ref().map(|_| frames::open(file).map(|_| Done::All));
        }
        Command::Send(_) | Command::Top(_) | Command::Doctor(_) | Command::Supersede(_) | Command::KillOwner(_) => {
            return None;
        }
    }
    Some(crate::perform(args, stop))
}

/// All ids that `explain` knows.
pub fn ids() -> Vec<&'static str> {
    explain::ids()
}
