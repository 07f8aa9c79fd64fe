//! A root of its own for each test, and the processes that it starts: killed when the test ends, however it ends, and when it
//! takes too long.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringward_recovery::{Channel, Config, Durability, From, Namespace};
use serde_json::Value;

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

type Children = Arc<Mutex<Vec<Arc<Mutex<Child>>>>>;

pub(crate) struct Bed {
    root: tempfile::TempDir,
    children: Children,
    over: Arc<(Mutex<bool>, Condvar)>,
    hung: Arc<AtomicBool>,
    watchdog: Option<JoinHandle<()>>,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        Bed::with_limit(LIMIT)
    }

    pub(crate) fn with_limit(limit: Duration) -> Bed {
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        Bed::within(Path::new(base), limit)
    }

    /// Its root lies in this folder.
    pub(crate) fn within(base: &Path, limit: Duration) -> Bed {
        let root = tempfile::Builder::new().prefix("ringward-ctl-test-").tempdir_in(base).unwrap();
        let (children, over) = (Children::default(), Arc::new((Mutex::new(false), Condvar::new())));
        let hung = Arc::new(AtomicBool::new(false));
        let (seen, done, flag) = (Arc::clone(&children), Arc::clone(&over), Arc::clone(&hung));
        let watchdog = std::thread::spawn(move || {
            let waiting = done.1.wait_timeout_while(done.0.lock().unwrap(), limit, |over| !*over).unwrap();
            if !*waiting.0 {
                flag.store(true, Ordering::Release);
                // Whoever waits for one of them sees it end, and fails.
                for child in seen.lock().unwrap().iter() {
                    let _ = child.lock().unwrap().kill();
                }
            }
        });
        Bed { root, children, over, hung, watchdog: Some(watchdog) }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn hung(&self) -> bool {
        self.hung.load(Ordering::Acquire)
    }

    /// `ringward` with some arguments, here; nothing inherited from the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringward"));
        command.env("RINGWARD_ROOT", self.root()).args(args).args(["--namespace", "test"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it.
    pub(crate) fn start(&self, args: &[&str]) -> Tool {
        self.spawn(self.command(args))
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Tool {
        assert!(!self.hung(), "the test hangs");
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut out = Vec::new();
                let _ = pipe.read_to_end(&mut out);
                out
            })
        });
        let notes = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let stderr = child.stderr.take().map(|pipe| {
            let notes = Arc::clone(&notes);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    notes.0.lock().unwrap().push(line);
                    notes.1.notify_all();
                }
            })
        });
        let child = Arc::new(Mutex::new(child));
        let mut children = self.children.lock().unwrap();
        children.retain(|child| !matches!(child.lock().unwrap().try_wait(), Ok(Some(_))));
        children.push(Arc::clone(&child));
        Tool { child, stdin, stdout, stderr, notes, hung: Arc::clone(&self.hung) }
    }

    /// Runs it to its end with some bytes on stdin.
    pub(crate) fn run(&self, args: &[&str], stdin: &[u8]) -> Ended {
        let mut tool = self.start(args);
        tool.feed(stdin);
        tool.end()
    }

    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::builder("test").root(self.root()).open().unwrap()
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::new(&self.namespace(), "c", Config::default()).unwrap()
    }

    /// Channel `c` as a program sees it.
    pub(crate) fn view(&self) -> Value {
        serde_json::from_slice(&self.run(&["inspect", "c", "--json"], b"").code(0).stdout).unwrap()
    }

    /// Waits until `next` is the next record of channel `c`.
    pub(crate) fn until_next(&self, next: u64) {
        self.until("the records are there", || self.view()["next_sequence"] == next);
    }

    /// A durable reader of channel `c` that was here and is away: also the child of another test that had a copy of its lock between its
    /// fork and its exec.
    pub(crate) fn absent(&self, name: &str, from: From) {
        drop(self.channel().reader(name, Durability::Durable, from).unwrap());
        let free = |reader: &Value| reader["name"] == name && reader["lock_held"] == false;
        self.until("its place is free", || self.view()["readers"].as_array().unwrap().iter().any(free));
    }

    /// Path of a generation of channel `c`.
    pub(crate) fn segment(&self, generation: u64) -> PathBuf {
        self.root().join("test/c").join(ringward_recovery::generation_name(generation))
    }

    /// Writes into generation 1 of channel `c`, as a stray store would.
    pub(crate) fn store(&self, at: u64, bytes: &[u8]) {
        std::fs::OpenOptions::new().write(true).open(self.segment(1)).unwrap().write_all_at(bytes, at).unwrap();
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        while !holds() {
            assert!(!self.hung(), "hangs waiting: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for child in self.children.lock().unwrap().iter() {
            let mut child = child.lock().unwrap();
            let _ = child.kill();
            let _ = child.wait();
        }
        *self.over.0.lock().unwrap() = true;
        self.over.1.notify_all();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }
}

/// A running `ringward`.
pub(crate) struct Tool {
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<()>>,
    notes: Arc<(Mutex<Vec<String>>, Condvar)>,
    hung: Arc<AtomicBool>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Tool {
    /// Writes to its stdin; a closed one is fine.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap(); // not reaped while we hold it
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    pub(crate) fn running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Waits for an event of `--events json`.
    pub(crate) fn note(&self, event: &str) -> Value {
        self.note_of(event, |note| note["event"] == event)
    }

    /// Waits for an event of `--events json` of which something holds.
    pub(crate) fn note_of(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.line_of(what, |line| serde_json::from_str(line).ok().filter(|note| holds(note)))
    }

    /// Waits for a line on stderr that has this.
    pub(crate) fn line(&self, part: &str) -> String {
        self.line_of(part, |line| line.contains(part).then(|| line.to_owned()))
    }

    fn line_of<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut lines = self.notes.0.lock().unwrap();
        loop {
            if let Some(found) = lines.iter().find_map(|line| find(line)) {
                return found;
            }
            assert!(Instant::now() < deadline && !self.hung.load(Ordering::Acquire), "no {what}: {lines:?}");
            lines = self.notes.1.wait_timeout(lines, Duration::from_millis(50)).unwrap().0;
        }
    }

    /// Closes its stdin and waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        self.stdin = None;
        self.wait()
    }

    /// Waits for its end, stdin still open.
    pub(crate) fn wait(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let stdout = self.stdout.take().map(|out| out.join().unwrap()).unwrap_or_default();
        if let Some(stderr) = self.stderr.take() {
            stderr.join().unwrap();
        }
        let stderr = self.notes.0.lock().unwrap().join("\n");
        assert!(!self.hung.load(Ordering::Acquire), "hung; stderr: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        Ended { status, stdout, stderr }
    }

    pub(crate) fn kill(self) -> Ended {
        let _ = self.child.lock().unwrap().kill();
        self.wait()
    }
}

impl Ended {
    /// It ended with this code, and not by a signal.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{:?}\n{}", self.status, self.stderr);
        self
    }

    /// Its stderr has this.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Ended {
        assert!(self.stderr.contains(what), "no {what} in: {}", self.stderr);
        self
    }

    /// Its events of one kind.
    pub(crate) fn notes(&self, event: &str) -> Vec<Value> {
        let lines = self.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|note| note["event"] == event).collect()
    }
}

/// A record as `--framed` writes it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) record_type: u32,
    pub(crate) payload: Vec<u8>,
}

/// Whole frames, and how many bytes of a torn one are behind them.
pub(crate) fn frames(mut bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    while bytes.len() >= 16 {
        let len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        let Some(payload) = bytes.get(16..16 + len) else { break };
        frames.push(Frame {
            sequence: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
            record_type: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
            payload: payload.to_vec(),
        });
        bytes = &bytes[16 + len..];
    }
    (frames, bytes.len())
}

/// `count` lines, each different.
pub(crate) fn lines(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(|n| format!("line {n} {}\n", "x".repeat((n % 50) as usize)).into_bytes()).collect()
}
