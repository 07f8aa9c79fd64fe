//! The faults: each makes its trials on one system, and turns what was seen into a cell.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringward_bench::Result;
use serde_json::{Value, json};

use super::PATIENCE;
use super::child::Side;
use super::side::{ACKNOWLEDGED, LONGEST, SINCE, now};
use super::system::System;
use super::table::{counts, millis, numbers, sum};
use super::world::{Place, Root};

/// A fault.
pub(crate) struct Fault {
    /// Its id.
    pub(crate) id: &'static str,
    /// In words.
    pub(crate) name: &'static str,
    /// Makes the trials.
    pub(crate) run: fn(&Root, System, usize) -> Result<Vec<Value>>,
    /// What was seen in them.
    pub(crate) cell: fn(&[Value]) -> String,
}

/// All of them.
pub(crate) const ALL: [Fault; 5] = [
    Fault { id: "kill-writer", name: "writer killed in full flow", run: kill_writer, cell: kill_writer_cell },
    Fault {
        id: "kill-starters",
        name: "100 processes killed 0–12 ms after exec",
        run: kill_starters,
        cell: kill_starters_cell,
    },
    Fault { id: "kill-reader", name: "the only reader killed", run: kill_reader, cell: kill_reader_cell },
    Fault { id: "cut", name: "a file cut under running processes", run: cut, cell: cut_cell },
    Fault { id: "stop-writer", name: "writer stopped, replaced, continued", run: stop_writer, cell: stop_writer_cell },
];

/// A writer and a reader in full flow.
fn flow(system: System, place: &Place) -> Result<(Side, Side)> {
    let mut writer = Side::start_until("open", "writer", system, place, 1)?;
    let mut reader = Side::start_until("open", "reader", system, place, 0)?;
    writer.tell("go");
    first(&mut reader, 1, Duration::from_secs(10)).ok_or_else(|| format!("nothing came: {:?}", writer.said))?;
    std::thread::sleep(Duration::from_millis(100));
    Ok((writer, reader))
}

/// Waits until the reader has a writer's first record: its report of that moment.
fn first(reader: &mut Side, writer: u64, limit: Duration) -> Option<Value> {
    let writer = writer.to_string();
    let line = reader.wait_for(limit, |line| line["at"] == "first" && line["report"]["writers"].get(&writer).is_some());
    Some(line?["report"].clone())
}

fn acknowledged(writer: &Side) -> Result<u64> {
    Ok(writer.ledger()?.word(ACKNOWLEDGED).load(Ordering::Acquire))
}

/// What a reader was told since a moment, without repetitions.
fn told_since(report: &Value, from: u64, to: u64) -> String {
    let told = report["told"].as_array().into_iter().flatten();
    let mut told: Vec<&str> = told
        .filter(|one| one["ns"].as_u64().is_some_and(|ns| (from..=to).contains(&ns)))
        .filter_map(|one| one["what"].as_str())
        .collect();
    told.dedup();
    if told.is_empty() { "nothing".into() } else { told.join(", ") }
}

fn kill_writer(root: &Root, system: System, rounds: usize) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    for round in 0..rounds {
        for mode in ["standby", "writer"] {
            let place = root.place()?;
            let (mut writer, mut reader) = flow(system, &place)?;
            let waiting =
                (mode == "standby").then(|| Side::start_until("ready", mode, system, &place, 2)).transpose()?;
            std::thread::sleep(Duration::from_millis(100));
            let killed = now();
            writer.kill();
            let mut spare = match waiting {
                Some(spare) => spare,
                None => {
                    let mut spare = Side::start(mode, system, &place, 2)?;
                    spare.tell("go");
                    spare
                }
            };
            let acknowledged = acknowledged(&writer)?;
            let came = first(&mut reader, 2, PATIENCE);
            let first_ns = came.as_ref().and_then(|report| report["writers"]["2"]["first_ns"].as_u64());
            std::thread::sleep(Duration::from_millis(100));
            let report = reader.report();
            let reader_end = reader.end();
            spare.listen();
            let old = report.as_ref().map(|report| report["writers"]["1"].clone()).unwrap_or_default();
            let [next, missing] = ["next", "missing"].map(|key| old[key].as_u64().unwrap_or(0));
            seen.push(json!({
                "round": round, "mode": mode,
                "first_ms": first_ns.map(|ns| ns.saturating_sub(killed) as f64 / 1e6),
                "acknowledged": acknowledged,
                "lost": acknowledged.saturating_sub(next) + missing,
                "unacknowledged_received": next.saturating_sub(acknowledged),
                "repeated": old["repeated"],
                "torn": report.as_ref().map(|report| report["torn"].clone()),
                "told": report.as_ref().map(|report| told_since(report, killed, first_ns.unwrap_or(u64::MAX))),
                "reader": reader_end.unwrap_or_else(|| if report.is_some() { "goes on" } else { "hangs" }.into()),
                "replacement_said": spare.said,
            }));
        }
    }
    Ok(seen)
}

fn kill_writer_cell(seen: &[Value]) -> String {
    let all: Vec<&Value> = seen.iter().collect();
    let of = |mode: &str| seen.iter().filter(|one| one["mode"] == mode).collect::<Vec<_>>();
    let first = |mode: &str| {
        let of = of(mode);
        let came = numbers(&of, "first_ms").len();
        let time = millis(&of, "first_ms").unwrap_or_else(|| "never".into());
        if came == of.len() { time } else { format!("{time}, in {came} of {} rounds only", of.len()) }
    };
    format!(
        "reader: {}; told: {}; first record of a replacement that stood by after {}, of one started at the death after \
         {}; {} lost, {} twice, {} torn of {} acknowledged",
        counts(&all, "reader"),
        counts(&all, "told"),
        first("standby"),
        first("writer"),
        sum(&all, "lost"),
        sum(&all, "repeated"),
        sum(&all, "torn"),
        sum(&all, "acknowledged"),
    )
}

fn clean(system: System, place: &Place) -> Result<String> {
    let mut side = Side::start("clean", system, place, 0)?;
    Ok(match side.wait_for(Duration::from_secs(10), |line| line["at"] == "cleaned" || line["at"] == "failed") {
        Some(line) => line["said"].to_string(),
        None => side.end().unwrap_or_else(|| "hangs".into()),
    })
}

/// Starts a writer that ends in order: how long it took to open, in milliseconds, or what happened instead.
fn open_and_end(system: System, place: &Place, id: u64) -> Result<std::result::Result<f64, String>> {
    let begun = Instant::now();
    let mut side = Side::start("writer", system, place, id)?;
    let opened = side.wait("open", PATIENCE).map(|_| begun.elapsed().as_secs_f64() * 1e3);
    side.tell("end");
    let ended = side.wait_end(PATIENCE);
    Ok(match opened {
        Some(took) if ended => Ok(took),
        Some(_) => Err("opens, hangs at its end".into()),
        None if ended => Err(format!("{}: {}", side.end().unwrap_or_default(), side.said.join(", "))),
        None => Err(format!("hangs for {PATIENCE:?}")),
    })
}

fn kill_starters(root: &Root, system: System, rounds: usize) -> Result<Vec<Value>> {
    (0..rounds).map(|round| kill_starters_once(root, system, round)).collect()
}

fn kill_starters_once(root: &Root, system: System, round: usize) -> Result<Value> {
    const STARTERS: u32 = 100;
    let orderly = root.place()?;
    let before = open_and_end(system, &orderly, 1)?;
    clean(system, &orderly)?;
    let orderly_files = orderly.files().len();
    let place = root.place()?;
    let mut opened = 0;
    for number in 0..STARTERS {
        let mut side = Side::start("writer", system, &place, u64::from(number))?;
        std::thread::sleep(Duration::from_millis(12) * number / STARTERS);
        side.kill();
        opened += u32::from(side.wait("open", Duration::from_millis(100)).is_some());
    }
    let left_by_the_dead = place.files().len();
    let next = open_and_end(system, &place, 1000)?;
    let cleaning = clean(system, &place)?;
    let left = place.files();
    let named = left.iter().map(|(path, _)| kind(path)).collect::<Vec<_>>();
    let through = match flow(system, &place) {
        Ok(_) => "records come through".to_owned(),
        Err(error) => format!("no records come through: {error}"),
    };
    Ok(json!({
        "round": round, "killed": STARTERS, "killed_after_opening": opened,
        "orderly_open_ms": before.as_ref().ok(), "orderly_files": orderly_files,
        "files_before_clean_up": left_by_the_dead,
        "next_open_ms": next.as_ref().ok(), "next": next.as_ref().map_or_else(String::as_str, |_| "opens"),
        "clean_up_said": cleaning, "files_left": left.len(), "kinds_left": tally(&named),
        "through": through,
    }))
}

fn tally(kinds: &[String]) -> String {
    let all: Vec<Value> = kinds.iter().map(|kind| json!({ "kind": kind })).collect();
    if all.is_empty() { "none".into() } else { counts(&all.iter().collect::<Vec<_>>(), "kind") }
}

fn kill_starters_cell(seen: &[Value]) -> String {
    let all: Vec<&Value> = seen.iter().collect();
    let each = |key: &str| {
        let all: Vec<_> = seen.iter().map(|one| one[key].to_string()).collect();
        all.join(", ")
    };
    format!(
        "series: {}; next process: {}, in {} (the very first: {}); files before clean-up: {}; after it: {} (an orderly end \
         leaves {}), the last time {}; afterwards: {}",
        seen.len(),
        counts(&all, "next"),
        millis(&all, "next_open_ms").unwrap_or_else(|| "no time".into()),
        millis(&all, "orderly_open_ms").unwrap_or_else(|| "no time".into()),
        each("files_before_clean_up"),
        each("files_left"),
        each("orderly_files"),
        seen.last().and_then(|one| one["kinds_left"].as_str()).unwrap_or_default(),
        counts(&all, "through"),
    )
}

fn kill_reader(root: &Root, system: System, rounds: usize) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    for round in 0..rounds {
        let place = root.place()?;
        let (mut writer, mut reader) = flow(system, &place)?;
        let ledger = writer.ledger()?;
        let count = || ledger.word(ACKNOWLEDGED).load(Ordering::Acquire);
        ledger.word(LONGEST).store(0, Ordering::Relaxed);
        reader.kill();
        let begun = Instant::now();
        let goes_on = loop {
            let at = count();
            std::thread::sleep(Duration::from_millis(250));
            let on = count() > at;
            if on && begun.elapsed() > Duration::from_secs(1) || begun.elapsed() > PATIENCE {
                break on;
            }
        };
        let since = ledger.word(SINCE).load(Ordering::Relaxed);
        let now_in = if since == 0 { 0 } else { now().saturating_sub(since) };
        let longest = ledger.word(LONGEST).load(Ordering::Relaxed).max(now_in);
        let mut freed = None;
        if !goes_on {
            let at = count();
            let begun = Instant::now();
            let _other = Side::start("reader", system, &place, 0)?;
            while freed.is_none() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
                freed = (count() > at).then(|| begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        writer.listen();
        seen.push(json!({
            "round": round, "writer": writer.end().unwrap_or_else(|| if goes_on { "goes on" } else { "blocked" }.into()),
            "longest_send_ms": longest as f64 / 1e6, "freed_by_newcomer_ms": freed, "said": writer.said,
        }));
    }
    Ok(seen)
}

fn kill_reader_cell(seen: &[Value]) -> String {
    let all: Vec<&Value> = seen.iter().collect();
    let mut text = format!(
        "writer: {}; longest send {}",
        counts(&all, "writer"),
        millis(&all, "longest_send_ms").unwrap_or_default()
    );
    let blocked: Vec<&Value> = seen.iter().filter(|one| one["writer"] == "blocked").collect();
    if !blocked.is_empty() {
        let freed = numbers(&blocked, "freed_by_newcomer_ms").len();
        text += &format!(
            " (watched for {PATIENCE:?}); another process that opened set it free in {freed} of {}",
            blocked.len()
        );
        if let Some(time) = millis(&blocked, "freed_by_newcomer_ms") {
            text += &format!(", after {time}");
        }
    }
    text
}

/// What a file is: its name from the last dot on.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('.').map_or_else(|| "(no suffix)".into(), |(_, suffix)| format!(".{suffix}"))
}

fn cut(root: &Root, system: System, _: usize) -> Result<Vec<Value>> {
    let kinds = {
        let place = root.place()?;
        let _running = flow(system, &place)?;
        let mut kinds: Vec<_> = place.files().iter().map(|(path, len)| (kind(path), *len)).collect();
        kinds.sort();
        kinds.dedup_by(|one, other| one.0 == other.0);
        kinds
    };
    let mut seen = Vec::new();
    for to in [0, 12, 4096] {
        for (kind, len) in kinds.iter().filter(|(_, len)| *len > to) {
            seen.push(cut_one(root, system, kind, *len, to)?);
        }
    }
    Ok(seen)
}

/// What is known of a process after the cut.
fn outcome(side: &mut Side, progress: bool, answers: bool, told: &str) -> String {
    if !progress && !answers {
        // One that has closed its output may not have ended yet.
        side.wait_end(Duration::from_millis(200));
    }
    side.listen();
    let said = side.said.last().map_or(told, String::as_str);
    let said = match said.rsplit_once('[') {
        Some((_, id)) if id.ends_with(']') => id.trim_end_matches(']'),
        _ => said,
    };
    let said = if said == "nothing" { String::new() } else { format!(", told {said}") };
    match side.end() {
        Some(end) => format!("{end}{said}"),
        None if progress => format!("goes on{said}"),
        None if answers => format!("silent{said}"),
        None => format!("hangs{said}"),
    }
}

fn cut_one(root: &Root, system: System, of: &str, len: u64, to: u64) -> Result<Value> {
    let place = root.place()?;
    let (mut writer, mut reader) = flow(system, &place)?;
    let path = place.files().into_iter().map(|(path, _)| path).find(|path| kind(path) == of);
    let path = path.ok_or_else(|| format!("no {of} this time"))?;
    let at = now();
    std::fs::File::options().write(true).open(&path)?.set_len(to)?;
    let begun = Instant::now();
    let received = |report: &Option<Value>| {
        let all = report.as_ref().and_then(|report| report["writers"].as_object());
        all.map_or(0, |all| all.values().filter_map(|of| of["received"].as_u64()).sum::<u64>())
    };
    let mut last = (acknowledged(&writer)?, 0);
    let (mut report, mut writes, mut reads);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        reader.tell("report");
        report = reader.wait("report", Duration::from_millis(500)).map(|line| line["report"].clone());
        let here = (acknowledged(&writer)?, received(&report));
        (writes, reads) = (here.0 > last.0, last.1 > 0 && here.1 > last.1);
        let settled = (writes || writer.ended().is_some()) && (reads || reader.ended().is_some());
        if settled && begun.elapsed() > Duration::from_millis(800) || begun.elapsed() > PATIENCE {
            break;
        }
        last = here;
    }
    let told = report.as_ref().map_or_else(|| "nothing".into(), |report| told_since(report, at, u64::MAX));
    let opening = Instant::now();
    let mut newcomer = Side::start("reader", system, &place, 0)?;
    let opened = newcomer.wait("open", PATIENCE).map(|_| opening.elapsed().as_secs_f64() * 1e3);
    let newcomer = match opened {
        Some(_) => "opens".to_owned(),
        None => outcome(&mut newcomer, false, false, "nothing"),
    };
    Ok(json!({
        "kind": of, "len": len, "to": to,
        "writer": outcome(&mut writer, writes, true, "nothing"),
        "reader": outcome(&mut reader, reads, report.is_some(), &told),
        "newcomer": newcomer, "newcomer_ms": opened,
    }))
}

fn cut_cell(seen: &[Value]) -> String {
    let of_size = |to: u64| {
        let of: Vec<&Value> = seen.iter().filter(|one| one["to"] == to).collect();
        let kinds: Vec<_> = of.iter().filter_map(|one| one["kind"].as_str()).collect();
        (!of.is_empty()).then(|| {
            format!(
                "to {to} B ({}): writer {}; reader {}; newcomer {}",
                kinds.join(" "),
                counts(&of, "writer"),
                counts(&of, "reader"),
                counts(&of, "newcomer")
            )
        })
    };
    [0, 12, 4096].into_iter().filter_map(of_size).collect::<Vec<_>>().join("<br>")
}

fn stop_writer(root: &Root, system: System, rounds: usize) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    for round in 0..rounds {
        let place = root.place()?;
        let (mut writer, mut reader) = flow(system, &place)?;
        writer.signal(Signal::SIGSTOP);
        // The reader comes to the end of what was sent.
        std::thread::sleep(Duration::from_millis(200));
        let begun = now();
        let mut spare = Side::start("supersede", system, &place, 2)?;
        let came = first(&mut reader, 2, PATIENCE);
        let first_ns = came.as_ref().and_then(|report| report["writers"]["2"]["first_ns"].as_u64());
        std::thread::sleep(Duration::from_millis(100));
        let old = |report: &Option<Value>, key: &str| {
            report.as_ref().and_then(|report| report["writers"]["1"][key].as_u64()).unwrap_or(0)
        };
        reader.tell("mark");
        std::thread::sleep(Duration::from_millis(50));
        let had = old(&reader.report(), "next");
        writer.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(500));
        // It stops again, so that the reader gets to the end of what was sent.
        writer.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(200));
        let report = reader.report();
        writer.listen();
        spare.listen();
        let acknowledged = acknowledged(&writer)?;
        let told = match (writer.end(), writer.said.last()) {
            (None, None) => "told nothing".to_owned(),
            (_, Some(said)) => {
                format!("told {}", said.rsplit_once('[').map_or(said.as_str(), |(_, id)| id.trim_end_matches(']')))
            }
            (Some(end), None) => end,
        };
        seen.push(json!({
            "round": round,
            "first_ms": first_ns.map(|ns| ns.saturating_sub(begun) as f64 / 1e6),
            "late_received": old(&report, "since_mark"), "late_acknowledged": acknowledged.saturating_sub(had),
            "acknowledged": acknowledged,
            "lost": acknowledged.saturating_sub(old(&report, "next")) + old(&report, "missing"),
            "old_writer": told, "replacement_said": spare.said,
            "reader": reader.end().unwrap_or_else(|| if report.is_some() { "goes on" } else { "hangs" }.into()),
        }));
    }
    Ok(seen)
}

fn stop_writer_cell(seen: &[Value]) -> String {
    let all: Vec<&Value> = seen.iter().collect();
    format!(
        "first record of the replacement {} after its start; after SIGCONT {} records of the old writer reached the \
         reader, {} were acknowledged to it; of all {} that were, {} never came; old writer: {}; reader: {}",
        millis(&all, "first_ms").unwrap_or_else(|| "never".into()),
        sum(&all, "late_received"),
        sum(&all, "late_acknowledged"),
        sum(&all, "acknowledged"),
        sum(&all, "lost"),
        counts(&all, "old_writer"),
        counts(&all, "reader"),
    )
}
