//! `chaos replay`: the trials of a violation's file, or of a plan, again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::ReplayArgs;
use crate::faults::Hitch;
use crate::finding::{self, Case};
use crate::plan::Trial;
use crate::range::{self, Finding, score::Score, trial};
use crate::stop::Stop;
use crate::verdict::Verdict;

/// A directory of one's own, removed when it goes.
pub(crate) fn place(root: Option<&PathBuf>) -> Result<tempfile::TempDir, String> {
    let base = crate::run::base(root);
    tempfile::Builder::new()
        .prefix("ringward-chaos-")
        .tempdir_in(&base)
        .map_err(|error| format!("cannot make a directory in {}: {error}", base.display()))
}

/// What one performance of a plan came to.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) score: Score,
    /// Kinds of promise that were broken.
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) findings: Vec<Finding>,
}

impl Seen {
    /// Whether it shows what the case is about: one of its kinds; any, if it names none.
    pub(crate) fn shows(&self, case: &Case) -> bool {
        !self.kinds.is_empty()
            && (case.kinds.is_empty() || case.kinds.iter().any(|kind| self.kinds.contains(&kind.as_str())))
    }
}

/// Performs all trials of a case once.
pub(crate) fn perform(
    template: &crate::engine::Template,
    case: &Case,
    root: &Path,
    stop: &Stop,
    mut each: impl FnMut(&Trial, &trial::Result, Duration),
) -> Seen {
    let mut seen = Seen::default();
    for (at, trial) in case.plan.trials.iter().enumerate() {
        if stop.asked() {
            break;
        }
        let begun = Instant::now();
        let result = trial::perform(template, trial, root.join(format!("trial-{at}")), case.plant);
        each(trial, &result, begun.elapsed());
        seen.score.add(&result);
        seen.kinds.extend(result.kinds());
        if !result.broken.is_empty() {
            seen.findings.push(Finding { trial: trial.clone(), result });
        }
    }
    seen.kinds.sort_unstable();
    seen.kinds.dedup();
    seen
}

/// Runs `chaos replay`.
pub(crate) fn replay(args: &ReplayArgs, stop: &Stop) -> Result<Verdict, Box<dyn std::error::Error>> {
    let case = finding::read(&args.file)?;
    if let Some(build) = case.build.as_ref().filter(|build| **build != finding::build_id()) {
        println!("note: found with another build: {build}; this is {}", finding::build_id());
    }
    if let Some(storm) = &case.storm {
        return crate::run::again(storm, args.times, args.root.as_ref(), stop);
    }
    let place = place(args.root.as_ref())?;
    stop.set_root(Some(place.path().to_owned()));
    let template = range::template()?;
    println!("chaos replay: {} trials, {} times", case.plan.trials.len(), args.times);
    let (mut shown, mut times, mut landed) = (0, 0, 0);
    for time in 0..args.times {
        if stop.asked() {
            break;
        }
        let seen = perform(&template, &case, place.path(), stop, |trial, result, time| {
            tell(trial, result, time, args.verbose)
        });
        times += 1;
        landed += seen.score.landed();
        shown += u32::from(seen.shows(&case));
        for (finding, dir) in seen.findings.iter().zip(args.keep.iter().cycle()) {
            let path = dir.join(format!("violation-{}-{time}.json", finding.trial.number));
            finding::write(&path, &finding::document(finding, case.plan.seed, case.plant, &path))?;
        }
        if args.verbose && time == 0 {
            print_score(&seen.score);
        }
        for why in seen.score.skipped() {
            println!("{why}");
        }
    }
    drop(template);
    stop.set_root(None);
    place.close()?;
    println!("violated {shown} of {times} times; {landed} faults landed");
    let verdict = match (shown, landed) {
        (1.., _) => Verdict::Violation,
        (0, 0) => Verdict::Inconclusive,
        _ => Verdict::Held,
    };
    println!("verdict: {}", verdict.name());
    Ok(verdict)
}

/// A trial's outcome, as it comes.
fn tell(trial: &Trial, result: &trial::Result, time: Duration, verbose: bool) {
    if verbose {
        for fate in &result.fates {
            let what = match &fate.applied {
                Ok(landing) => landing.what.clone(),
                Err(Hitch::Skipped(why) | Hitch::Missed(why)) => why.clone(),
            };
            println!("trial {}: {}: {} ({what}); {time:.2?}", trial.number, fate.class.name, fate.outcome);
        }
    }
    if !result.broken.is_empty() {
        println!("{trial}");
        for (broken, what) in result.broken.iter().take(5) {
            println!("  {}: {what}", broken.name());
        }
    }
}

fn print_score(score: &Score) {
    for (class, line) in &score.lines {
        let outcomes: Vec<String> = line.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let missed =
            line.missed_reason.as_ref().map_or(String::new(), |why| format!("; missed {}: {why}", line.missed));
        println!("  {class}: landed {}: {}{missed}", line.landed, outcomes.join(", "));
    }
}
