//! The report: one JSON document, written anew as the run goes, so that a run that dies has reported.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::RunArgs;
use crate::render::Targets;

/// Where the report goes, and what does not change in it.
#[derive(Debug)]
pub(crate) struct Report {
    path: Option<PathBuf>,
    targets: Targets,
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
            "faults": args.faults.to_string(),
        });
        Report { path: args.report.clone(), targets: args.targets.clone(), head }
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
        self.targets.write(document)?;
        let Some(path) = &self.path else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }
}

/// Writes a file beside its place and renames it there: a reader finds the old or the new one, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(format!(".{}", std::process::id()));
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

pub(crate) fn kernel() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    format!("{} {}", read("/proc/sys/kernel/ostype"), read("/proc/sys/kernel/osrelease"))
}

/// The command that repeats a run, statistically: the choices are the same, the interleaving is the machine's.
pub(crate) fn repeat(args: &RunArgs, seed: u64) -> String {
    let mut command = format!(
        "chaos run --seed {seed} --kill-rate {} --readers {} --standbys {} --payload {}..{} --capacity {} --faults {}",
        args.kill_rate, args.readers, args.standbys, args.payload.0, args.payload.1, args.capacity, args.faults
    );
    if let Some(duration) = args.duration {
        command.push_str(&format!(" --duration {}ms", duration.as_millis()));
    }
    if let Some(faults) = args.max_faults {
        command.push_str(&format!(" --max-faults {faults}"));
    }
    if let Some(kills) = args.max_kills {
        command.push_str(&format!(" --max-kills {kills}"));
    }
    command
}
