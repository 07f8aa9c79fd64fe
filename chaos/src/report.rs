//! The report: one JSON document, written anew as the run goes, so that a run that dies has reported.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::RunArgs;

/// Where the report goes, and what does not change in it.
#[derive(Debug)]
pub(crate) struct Report {
    path: Option<PathBuf>,
    head: Value,
}

impl Report {
    pub(crate) fn new(args: &RunArgs, seed: u64, root: &Path) -> Report {
        let exe = std::env::current_exe().ok();
        let build = exe.as_deref().and_then(|exe| std::fs::metadata(exe).ok());
        let mut head = json!({
            "schema": "ringward-chaos-run/1",
            "seed": seed,
            "version": env!("CARGO_PKG_VERSION"),
            "build": {
                "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
                "bytes": build.map(|meta| meta.len()),
            },
            "kernel": kernel(),
            "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
            "command": std::env::args().collect::<Vec<_>>(),
            "repeat": repeat(args, seed),
            "root": root.display().to_string(),
        });
        head["options"] = json!({
            "kill_rate": args.kill_rate,
            "readers": args.readers,
            "standbys": args.standbys,
            "payload": [args.payload.0, args.payload.1],
            "capacity": args.capacity,
        });
        Report { path: args.report.clone(), head }
    }

    /// The whole document with `body` in it.
    pub(crate) fn document(&self, body: Value) -> Value {
        let mut document = self.head.clone();
        if let (Some(all), Value::Object(body)) = (document.as_object_mut(), body) {
            all.extend(body);
        }
        document
    }

    /// Writes the document beside its place and renames it there: a reader finds the old or the new one, whole.
    pub(crate) fn write(&self, document: &Value) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{}", std::process::id()));
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, path)
    }
}

fn kernel() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    format!("{} {}", read("/proc/sys/kernel/ostype"), read("/proc/sys/kernel/osrelease"))
}

/// The command that repeats a run, statistically: the choices are the same, the interleaving is the machine's.
fn repeat(args: &RunArgs, seed: u64) -> String {
    let mut command = format!(
        "chaos run --seed {seed} --kill-rate {} --readers {} --standbys {} --payload {}..{} --capacity {}",
        args.kill_rate, args.readers, args.standbys, args.payload.0, args.payload.1, args.capacity
    );
    if let Some(duration) = args.duration {
        command.push_str(&format!(" --duration {}ms", duration.as_millis()));
    }
    if let Some(kills) = args.max_kills {
        command.push_str(&format!(" --max-kills {kills}"));
    }
    command
}
