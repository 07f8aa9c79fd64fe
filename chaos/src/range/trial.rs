//! One trial from the first start to the judgement.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use crate::engine::Template;
use crate::faults::{Applied, Class, Cost, Family, Hitch, Setup};
use crate::ledger::{Entry, Kind, now};
use crate::payload::Dice;
use crate::plan::Trial;
use crate::range::actor::{TOLD_GONE, TOLD_STALLED, TOLD_STUCK};
use crate::range::oracle::{Facts, Tally, judge};
use crate::range::stage::{LIMIT, Stage};
use crate::verdict::Broken;

/// Entries of the ledger that go into a violation's file.
const TAIL: usize = 600;

/// What a fault that landed can come to.
pub(crate) const OUTCOMES: [&str; 7] =
    ["violation", "unknown loss told", "exact loss told", "typed error", "followed", "healed", "no effect"];

/// What became of one fault.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) class: &'static Class,
    pub(crate) applied: Applied,
    /// In a word or two: what it came to.
    pub(crate) outcome: &'static str,
    /// From the fault to the first sign that somebody noticed, to the first push of a new generation, to its first record in
    /// a reader's hands; nanoseconds.
    pub(crate) detected: Option<u64>,
    pub(crate) recovered: Option<u64>,
    pub(crate) remapped: Option<u64>,
}

/// What became of a trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Result {
    pub(crate) fates: Vec<Fate>,
    pub(crate) tally: Tally,
    pub(crate) broken: Vec<(Broken, String)>,
    /// For whoever looks for the cause, if something is broken: the ledger's end, notes, segments.
    pub(crate) tail: Vec<String>,
    pub(crate) notes: String,
    pub(crate) images: Vec<(String, Vec<u8>)>,
}

impl Result {
    /// The kinds of promise that were broken, each once.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&'static str> = self.broken.iter().map(|(broken, _)| broken.name()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

fn setup(trial: &Trial) -> Setup {
    let of = |choose: fn(&Setup) -> bool| trial.faults.iter().any(|fault| choose(&fault.class.setup));
    Setup {
        beats: of(|s| s.beats) || trial.seed.is_multiple_of(4),
        supersede: of(|s| s.supersede),
        watchdog: trial.watchdog,
        small: of(|s| s.small),
        apart: of(|s| s.apart),
    }
}

/// Performs a trial in `root`, which must not be there yet. `plant`: the judge is to be lied to about trials in which a fault
/// of that class lands: one line of the ledger is left out.
pub(crate) fn perform(template: &Template, trial: &Trial, root: PathBuf, plant: Option<&'static Class>) -> Result {
    let mut result = Result::default();
    let mut stage = match Stage::start(template, trial, setup(trial), root) {
        Ok(stage) => stage,
        Err(error) => {
            result.broken.push((Broken::Failed, format!("the trial can't be set up: {error}")));
            return result;
        }
    };
    let mut marks = Vec::new();
    if let Err(what) = act(&mut stage, trial, &mut result, &mut marks) {
        let what = format!("{what}{}", stage.standing());
        result.broken.push((Broken::Hang, what));
        result.images = stage.images();
        stage.abort();
    } else {
        if let Err(what) = stage.named_and_locked() {
            result.broken.push((Broken::Owners, format!("{what}{}", stage.standing())));
        }
        result.images = stage.images();
        stage.close();
    }
    result.broken.append(&mut stage.broken);
    let mut entries = std::mem::take(&mut stage.entries);
    if let Some(plant) = plant {
        lie(&mut entries, &result, &marks, plant);
    }
    let (tally, mut broken) = judge(&entries, &facts(trial, &result));
    result.tally = tally;
    result.broken.append(&mut broken);
    describe(&entries, &mut result, &marks);
    if result.broken.is_empty() {
        result.images.clear();
    } else {
        result.notes = stage.notes_tail();
        result.tail = tail(&entries);
    }
    result
}

/// Everybody comes in, the faults come one after the other, and after each all goes on.
fn act(
    stage: &mut Stage<'_>,
    trial: &Trial,
    result: &mut Result,
    marks: &mut Vec<u64>,
) -> std::result::Result<(), String> {
    let readers = trial.readers as usize;
    let ready = stage.until(LIMIT, |stage| {
        let count = |kind| stage.entries.iter().filter(|entry| entry.kind == kind).count();
        count(Kind::Elected) > 0 && count(Kind::Joined) >= readers
    });
    if !ready {
        return Err(format!("the trial did not begin within {LIMIT:?}"));
    }
    for fault in &trial.faults {
        if !stage.until_acked(fault.after) {
            return Err("no push was acknowledged before the fault".into());
        }
        let mut dice = Dice::new(fault.word, 1);
        marks.push(now());
        let applied = (fault.class.apply)(stage, &mut dice);
        stage.all_go_on();
        result.fates.push(Fate {
            class: fault.class,
            applied,
            outcome: "none",
            detected: None,
            recovered: None,
            remapped: None,
        });
        stage.converge(now()).map_err(|what| format!("after {}: {what}", fault.class.name))?;
    }
    Ok(())
}

fn facts(trial: &Trial, result: &Result) -> Facts {
    let mut facts = Facts::default();
    let mut hit = HashSet::new();
    for fate in &result.fates {
        match &fate.applied {
            Ok(landing) => hit.extend(landing.hit.iter().copied()),
            Err(Hitch::Skipped(_)) => continue,
            // It may have been done by half.
            Err(Hitch::Missed(_)) => {}
        }
        facts.cost = facts.cost.max(Some(fate.class.cost));
    }
    facts.hit = hit;
    facts.control = !trial.faults.is_empty() && trial.faults.iter().all(|fault| fault.class.family == Family::Controls);
    // Records that were hit are told lost; with dearer faults beside, more may be.
    if facts.cost == Some(Cost::Nothing) && !facts.hit.is_empty() {
        facts.cost = Some(Cost::Hit);
    }
    facts
}

/// Leaves out the first acknowledged record that a reader got after the fault.
fn lie(entries: &mut Vec<Entry>, result: &Result, marks: &[u64], plant: &'static Class) {
    let landed = result.fates.iter().zip(marks).find(|(fate, _)| fate.class == plant && fate.applied.is_ok());
    let Some((_, mark)) = landed else { return };
    let acked: HashSet<u64> = entries.iter().filter(|e| e.kind == Kind::Acked).map(|e| e.nonce).collect();
    let candidates = entries.iter().enumerate().filter(|(_, e)| e.kind == Kind::Record && e.ns > *mark && !e.flag);
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    entries.iter().filter(|e| e.kind == Kind::Record).for_each(|e| {
        last.insert(e.worker, e.sequence);
    });
    let victim = candidates
        .filter(|(_, e)| acked.contains(&e.nonce) && last.get(&e.worker).is_some_and(|last| *last > e.sequence))
        // Not the first of a life: that one shows nothing.
        .find(|(at, e)| {
            entries[..*at].iter().rev().find(|o| o.worker == e.worker).is_some_and(|o| o.kind == Kind::Record)
        })
        .map(|(at, _)| at);
    if let Some(at) = victim {
        entries.remove(at);
    }
}

/// What each fault came to, from what followed it.
fn describe(entries: &[Entry], result: &mut Result, marks: &[u64]) {
    let broken = !result.broken.is_empty();
    for (at, fate) in result.fates.iter_mut().enumerate() {
        let from = marks.get(at).copied().unwrap_or(0);
        let to = marks.get(at + 1).copied().unwrap_or(u64::MAX);
        let before: u64 = entries.iter().filter(|e| e.ns <= from).map(|e| e.generation).max().unwrap_or(0);
        let after: Vec<&Entry> = entries.iter().filter(|e| e.ns > from && e.ns <= to).collect();
        let first = |test: &dyn Fn(&Entry) -> bool| after.iter().filter(|e| test(e)).map(|e| e.ns - from).min();
        let newer = |e: &Entry| e.generation > before;
        fate.detected = first(&|e| {
            matches!(e.kind, Kind::Gap | Kind::Erred | Kind::Elected)
                || (e.kind == Kind::Told && [TOLD_GONE, TOLD_STALLED, TOLD_STUCK].contains(&e.code))
        });
        fate.recovered = first(&|e| e.kind == Kind::Acked && newer(e));
        fate.remapped = first(&|e| e.kind == Kind::Record && newer(e));
        let any = |test: &dyn Fn(&Entry) -> bool| after.iter().any(|e| test(e));
        fate.outcome = match &fate.applied {
            Err(Hitch::Skipped(_)) => "skipped",
            Err(Hitch::Missed(_)) => "missed",
            Ok(_) if broken => "violation",
            Ok(_) if any(&|e| e.kind == Kind::Gap && e.nonce == u64::MAX) => "unknown loss told",
            Ok(_) if any(&|e| e.kind == Kind::Gap) => "exact loss told",
            Ok(_) if any(&|e| e.kind == Kind::Erred) => "typed error",
            Ok(_) if any(&|e| e.kind == Kind::Elected) => "followed",
            Ok(_) if any(&|e| e.kind == Kind::Acked && newer(e)) => "healed",
            Ok(_) => "no effect",
        };
    }
}

fn tail(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| {
        let mut text = format!(
            "{} {:?} actor={} generation={} sequence={} nonce={:x} len={} code={} flag={}",
            entry.ns,
            entry.kind,
            entry.worker,
            entry.generation,
            entry.sequence,
            entry.nonce,
            entry.len,
            entry.code,
            entry.flag
        );
        if entry.kind == Kind::Erred {
            text.push_str(&format!(" id={}", super::unpack_id(entry.nonce, &entry.head)));
        }
        text
    };
    entries[entries.len().saturating_sub(TAIL)..].iter().map(text).collect()
}
