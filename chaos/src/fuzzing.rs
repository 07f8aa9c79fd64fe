//! What the fuzzer runs of the program: the readers of the files that others hand over. Nothing is performed and nothing written.

use serde_json::Value;

use crate::finding;
use crate::plan::Plan;
use crate::{cli, render, report, resume, run, shrink};

/// Plans with more trials than this are not shrunk: each step would be tried for each trial.
const SHRUNK: usize = 4;

/// What a violation's file, or a plan, was read as.
#[derive(Debug)]
pub struct Read {
    /// Its plan, printed.
    pub plan: String,
    /// Whether what was printed is read as the same plan.
    pub same: bool,
    /// All plans that are one step smaller, printed; none of a large plan.
    pub smaller: Vec<String>,
    /// What is left of it when only the class of its first fault matters; none of a large plan.
    pub least: Option<String>,
    /// The command line that repeats a violation of the storm, or why it can't be.
    pub storm: Option<Result<String, String>>,
    /// Files that this command line names.
    pub files: bool,
}

/// Reads what `chaos replay` and `chaos shrink` read.
///
/// # Errors
///
/// What they say.
pub fn read(text: &str) -> Result<Read, String> {
    let case = finding::parse(text)?;
    let printed = case.plan.to_string();
    let storm = case.storm.as_ref().map(|storm| run::storm_args(storm, None));
    let files = storm.as_ref().is_some_and(|args| {
        args.as_ref().is_ok_and(|args| {
            let targets = &args.targets;
            let of_reports = [&args.report, &args.resume, &targets.html, &targets.junit, &targets.markdown];
            args.root.is_some() || of_reports.into_iter().any(Option::is_some)
        })
    });
    let small = case.plan.trials.len() <= SHRUNK;
    let class = case.plan.trials.iter().flat_map(|trial| &trial.faults).map(|fault| fault.class).next();
    let has = |plan: &Plan| plan.trials.iter().flat_map(|trial| &trial.faults).any(|fault| Some(fault.class) == class);
    Ok(Read {
        same: Plan::parse(&printed).as_ref() == Ok(&case.plan),
        smaller: shrink::smaller(&case.plan).iter().filter(|_| small).map(Plan::to_string).collect(),
        least: class.filter(|_| small).map(|_| shrink::descend(case.plan.clone(), has).0.to_string()),
        plan: printed,
        storm: storm.map(|args| args.map(|args| report::repeat(&args, args.seed.unwrap_or(0)))),
        files,
    })
}

/// Reads what `chaos run --resume` reads; the command line of the run that goes on.
///
/// # Errors
///
/// What it says.
pub fn resumed(bytes: &[u8]) -> Result<String, String> {
    let mut args = cli::run_args(&[])?;
    let before = resume::parse(bytes, &mut args)?;
    let _ = (before.trials(), before.to_json());
    Ok(report::repeat(&args, args.seed.unwrap_or(0)))
}

/// Whether the command line of a run is one that can be.
pub fn accepted(words: &[&str]) -> bool {
    cli::run_args(words).is_ok_and(|args| cli::fits(&args).is_ok())
}

/// Reads what `chaos report` reads; all that it can be turned into.
///
/// # Errors
///
/// What it says.
pub fn rendered(bytes: &[u8]) -> Result<[String; 3], String> {
    let report: Value = render::parse(bytes)?;
    Ok(render::all(&report))
}
