//! The harness: starts the processes of each run, peers in turn, and keeps a line of JSON for each.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Result;
use crate::line::{self, Class};
use crate::machine::{self, NOISY, Watch};
use crate::page::bytes;
use crate::plan::{Cell, FOREIGN, IN_PROCESS};
use crate::spec::Spec;

/// How a run of the harness is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Each run's measuring time, in milliseconds.
    pub millis: u64,
    /// Rounds over all peers of each cell.
    pub rounds: u64,
    /// Only works whose names begin with this.
    pub only: Option<String>,
    /// Only these peers.
    pub peers: Option<Vec<String>>,
    /// The program that holds the foreign peers, if it was built.
    pub compare: Option<PathBuf>,
    /// Where the lines go.
    pub out: PathBuf,
}

/// One run, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Work.
    pub work: String,
    /// Peer.
    pub peer: String,
    /// Bytes of a payload.
    pub size: usize,
    /// What the work counts.
    pub count: u64,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Round.
    pub round: u64,
    /// Class between the two probes.
    pub class: Class,
    /// Line's round trip before, in nanoseconds: median.
    pub before_ns: f64,
    /// The same after.
    pub after_ns: f64,
    /// Share of the machine that went to others meanwhile.
    pub foreign: f64,
    /// What was measured; empty if it failed.
    pub values: Map<String, Value>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Line {
    /// Whether others disturbed it.
    pub fn noisy(&self) -> bool {
        self.foreign > NOISY
    }
}

/// A directory that goes with its value.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Place> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new("/dev/shm").join(format!("ringward-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // What iceoryx2 makes can lie in /dev/shm only; its names begin with the place's.
        let mine = self.0.file_name().map(|name| format!("{}_", name.to_string_lossy()));
        let all = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        for entry in all.filter(|e| mine.as_ref().is_some_and(|mine| e.file_name().to_string_lossy().starts_with(mine)))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The processes of a run: killed, if they are still there, and waited for.
struct Sides(Vec<(Child, BufReader<std::process::ChildStdout>)>);

impl Drop for Sides {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Longest that one run may take: then it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one cell with one peer.
///
/// # Errors
///
/// What one of its processes said, or that it took too long.
pub fn run(program: &Path, spec: &Spec, sides: usize) -> Result<Map<String, Value>> {
    let place = Place::new()?;
    let mut all = Sides(Vec::new());
    for side in 0..sides {
        let spec = Spec { side, place: place.0.clone(), ..spec.clone() };
        let mut child = Command::new(program)
            .arg("side")
            .arg(serde_json::to_string(&spec)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        all.0.push((child, out));
    }
    // Whoever hangs is killed, and then its output ends.
    let pids: Vec<_> = all.0.iter().map(|(child, _)| child.id()).collect();
    let (done, still) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if still.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            for pid in pids {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL);
            }
        }
    });
    let values = converse(&mut all);
    drop(done);
    let _ = guard.join();
    values
}

fn converse(all: &mut Sides) -> Result<Map<String, Value>> {
    let mut line = String::new();
    for (side, (_, out)) in all.0.iter_mut().enumerate() {
        line.clear();
        out.read_line(&mut line)?;
        if line != "ready\n" {
            return Err(format!("side {side} said {line:?} instead of ready").into());
        }
    }
    for (child, _) in &mut all.0 {
        child.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
    }
    let mut values = Map::new();
    for (side, (child, out)) in all.0.iter_mut().enumerate() {
        line.clear();
        out.read_line(&mut line)?;
        let status = child.wait()?;
        match serde_json::from_str(&line) {
            Ok(Value::Object(more)) if status.success() => values.extend(more),
            _ => return Err(format!("side {side} ended with {status}, having said {line:?}").into()),
        }
    }
    Ok(values)
}

fn takes_part(setup: &Setup, peer: &str) -> bool {
    setup.peers.as_ref().is_none_or(|only| only.iter().any(|name| name == peer))
}

/// Runs the plan: for each cell, rounds over all its peers in turn. Writes each line as it comes, and returns all.
///
/// # Errors
///
/// What the file system said. A run that fails is a line with an error.
pub fn run_all(setup: &Setup, plan: &[Cell]) -> Result<Vec<Line>> {
    let own = std::env::current_exe()?;
    let cpus = machine::processors();
    let pair = [cpus[0], *cpus.get(1).unwrap_or(&cpus[0])];
    if pair[0] == pair[1] {
        eprintln!("bench: one processor only: what polls busily measures the scheduler here");
    }
    for name in setup.peers.iter().flatten() {
        if !plan.iter().any(|cell| cell.peers.contains(&name.as_str())) {
            return Err(format!("no peer is called {name:?}").into());
        }
    }
    let mut out = File::create(&setup.out)?;
    let mut lines: Vec<Line> = Vec::new();
    let wanted = |cell: &&Cell| setup.only.as_ref().is_none_or(|only| cell.work.starts_with(only.as_str()));
    for cell in plan.iter().filter(wanted) {
        for round in 0..setup.rounds {
            for peer in cell.peers.iter().filter(|peer| takes_part(setup, peer)) {
                let foreign = FOREIGN.contains(peer);
                let Some(program) = (if foreign { setup.compare.as_ref() } else { Some(&own) }) else { continue };
                let sides = if IN_PROCESS.contains(peer) { 1 } else { cell.sides };
                let spec = Spec {
                    work: cell.work.into(),
                    peer: (*peer).into(),
                    size: cell.size,
                    count: cell.count,
                    millis: setup.millis,
                    capacity: cell.capacity,
                    place: PathBuf::new(),
                    side: 0,
                    cpus: if cell.pinned { pair.to_vec() } else { Vec::new() },
                };
                let before_ns = line::probe(pair).map_or(f64::NAN, |[p50, _]| p50);
                let watch = Watch::start();
                let outcome = run(program, &spec, sides);
                let foreign = watch.foreign();
                let after_ns = line::probe(pair).map_or(f64::NAN, |[p50, _]| p50);
                let (values, error) = match outcome {
                    Ok(values) => (values, None),
                    Err(error) => (Map::new(), Some(error.to_string())),
                };
                let kept = Line {
                    work: cell.work.into(),
                    peer: (*peer).into(),
                    size: cell.size,
                    count: cell.count,
                    capacity: cell.capacity,
                    round,
                    class: Class::of(before_ns, after_ns),
                    before_ns,
                    after_ns,
                    foreign,
                    values,
                    error,
                };
                writeln!(out, "{}", serde_json::to_string(&kept)?)?;
                if let Some(error) = &kept.error {
                    eprintln!("bench: {} {} B, {peer}: {error}", cell.work, cell.size);
                }
                lines.push(kept);
            }
        }
        let noisy = lines.iter().filter(|line| cell.holds(line) && line.noisy());
        eprintln!(
            "bench: {} {} B, {}, {} done{}",
            cell.work,
            cell.size,
            cell.count,
            bytes(cell.capacity as usize),
            match noisy.count() {
                0 => String::new(),
                n => format!(", {n} runs beside other work"),
            }
        );
    }
    Ok(lines)
}

/// Reads lines back.
///
/// # Errors
///
/// What is wrong with which line.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = fs::read_to_string(path)?;
    text.lines()
        .enumerate()
        .map(|(at, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1).into()))
        .collect()
}

/// Since when the harness runs, for people.
pub fn elapsed(begun: Instant) -> String {
    format!("{} s", begun.elapsed().as_secs())
}
