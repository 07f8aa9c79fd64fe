//! A process of a trial: opens an end, says so on its output, goes on until it is killed.
//!
//! Each line that it prints is an object of JSON. What a writer has been told was sent is in its ledger, a page that the
//! trial reads after its death.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ringward_bench::shared::Shared;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::system::{How, System, Taken};
use super::tally::{self, Tally};

/// Bytes of a record.
pub(crate) const RECORD: usize = 64;
/// In a ledger: how many records were acknowledged.
pub(crate) const ACKNOWLEDGED: usize = 0;
/// In a ledger: since when the writer is in the send that it is in; 0 if it is in none.
pub(crate) const SINCE: usize = 8;
/// In a ledger: how long the longest send took since this was last set to 0.
pub(crate) const LONGEST: usize = 16;

/// Nanoseconds on a clock that all processes share.
pub(crate) fn now() -> u64 {
    let at = clock_gettime(ClockId::Monotonic);
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

fn say(line: &Value) {
    let mut out = stdout().lock();
    // Who listens may be gone: then this process is about to be.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `crash-side ROLE SYSTEM PLACE [ID LEDGER]`
///
/// # Errors
///
/// What the system said, after saying it.
pub(crate) fn run(args: &[String]) -> ringward_bench::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    std::panic::set_hook(Box::new(|panic| {
        // Whose file it is, without the way to it.
        let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        let at =
            at.split_once("index.crates.io-").and_then(|(_, rest)| rest.split_once('/')).map_or(&*at, |(_, rest)| rest);
        let why = panic.payload_as_str().unwrap_or_default();
        say(&json!({ "at": "panicked", "said": format!("panic at {at}: {why}") }));
    }));
    let [role, system, place, rest @ ..] = args else { return Err("crash-side ROLE SYSTEM PLACE".into()) };
    let system = System::named(system).ok_or("no such system")?;
    let place = PathBuf::from(place);
    let done = match (role.as_str(), rest) {
        ("reader", []) => read(system, &place),
        ("clean", []) => system.clean(&place).map(|said| say(&json!({ "at": "cleaned", "said": said }))),
        (how, [id, ledger]) => {
            let how = match how {
                "writer" => How::Start,
                "standby" => How::StandBy,
                "supersede" => How::Supersede,
                other => return Err(format!("no role {other:?}").into()),
            };
            write(system, &place, how, id.parse()?, Path::new(ledger))
        }
        _ => return Err("crash-side: what?".into()),
    };
    done.map_err(|error| {
        say(&json!({ "at": "failed", "said": error }));
        error.into()
    })
}

fn write(system: System, place: &Path, how: How, id: u64, ledger: &Path) -> Result<(), String> {
    let ledger = Shared::create(ledger, 4096).map_err(|error| error.to_string())?;
    let mut writer = system.writer(place, how, || say(&json!({ "at": "ready" })))?;
    say(&json!({ "at": "open", "ns": now() }));
    if how == How::Start {
        let mut line = String::new();
        stdin().read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() == "end" {
            return Ok(());
        }
    }
    while !writer.is_read() {
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut payload = [0; RECORD];
    let (mut number, mut refused) = (0, 0);
    loop {
        tally::write(&mut payload, id, number);
        let begun = now();
        ledger.word(SINCE).store(begun, Ordering::Relaxed);
        let sent = writer.push(&payload);
        let spent = now() - begun;
        ledger.word(SINCE).store(0, Ordering::Relaxed);
        ledger.word(LONGEST).fetch_max(spent, Ordering::Relaxed);
        match sent {
            Ok(()) => {
                number += 1;
                refused = 0;
                ledger.word(ACKNOWLEDGED).store(number, Ordering::Release);
            }
            Err(error) => {
                refused += 1;
                say(&json!({ "at": "refused", "said": error, "ns": now() }));
                if refused == 10 {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

static ASKED: AtomicU8 = AtomicU8::new(0);

fn read(system: System, place: &Path) -> Result<(), String> {
    let mut reader = system.reader(place)?;
    say(&json!({ "at": "open", "ns": now() }));
    std::thread::spawn(|| {
        for line in stdin().lock().lines().map_while(std::result::Result::ok) {
            ASKED.store(if line == "mark" { 1 } else { 2 }, Ordering::Release);
        }
    });
    let mut tally = Tally::default();
    let mut buf = [0; 4096];
    loop {
        match reader.take(&mut buf) {
            Ok(Taken::Record(len)) => {
                if tally.record(&buf[..len], RECORD, now) {
                    say(&json!({ "at": "first", "report": tally.report() }));
                }
            }
            Ok(Taken::Nothing) => {}
            Ok(Taken::Told(what)) => {
                tally.told(what, now());
            }
            Err(what) => {
                tally.told(format!("error: {what}"), now());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if ASKED.load(Ordering::Relaxed) != 0 {
            match ASKED.swap(0, Ordering::AcqRel) {
                1 => tally.marking = true,
                _ => say(&json!({ "at": "report", "report": tally.report(), "ns": now() })),
            }
        }
    }
}
