//! `chaos shrink`: a smaller plan that still breaks the same promise.

use std::path::PathBuf;

use crate::cli::ShrinkArgs;
use crate::finding::{self, Case};
use crate::plan::{Plan, Trial};
use crate::range;
use crate::replay::{perform, place};
use crate::stop::Stop;
use crate::verdict::Verdict;

/// All plans that are one step smaller than this one, boldest steps first.
pub(crate) fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let count = plan.trials.len();
    if count > 1 {
        // Halves, then without one.
        all.push(plan.trials[..count / 2].to_vec());
        all.push(plan.trials[count / 2..].to_vec());
        if count > 2 {
            all.extend((0..count).map(|at| without(&plan.trials, at)));
        }
    }
    for (at, trial) in plan.trials.iter().enumerate() {
        for other in simpler(trial) {
            let mut trials = plan.trials.clone();
            trials[at] = other;
            all.push(trials);
        }
    }
    all.into_iter().map(|trials| Plan { seed: plan.seed, trials }).collect()
}

fn without<T: Clone>(all: &[T], at: usize) -> Vec<T> {
    all.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, item)| item.clone()).collect()
}

/// All trials that are one step simpler.
fn simpler(trial: &Trial) -> Vec<Trial> {
    let mut all = Vec::new();
    if trial.faults.len() > 1 {
        all.extend((0..trial.faults.len()).map(|at| Trial { faults: without(&trial.faults, at), ..trial.clone() }));
    }
    if trial.readers > 1 {
        all.push(Trial { readers: 1, ..trial.clone() });
        all.push(Trial { readers: trial.readers - 1, ..trial.clone() });
    }
    if trial.standbys > 1 {
        all.push(Trial { standbys: trial.standbys - 1, ..trial.clone() });
    }
    if trial.watchdog && !trial.faults.iter().any(|fault| fault.class.setup.watchdog) {
        all.push(Trial { watchdog: false, ..trial.clone() });
    }
    for (at, fault) in trial.faults.iter().enumerate() {
        if fault.after > 1 {
            let mut other = trial.clone();
            other.faults[at].after = fault.after / 2;
            all.push(other);
        }
    }
    all
}

/// Goes down as long as `shows` says that the smaller plan shows the same; what is left, and how many were tried.
pub(crate) fn descend(mut plan: Plan, mut shows: impl FnMut(&Plan) -> bool) -> (Plan, u32) {
    let mut tried = 0;
    'again: loop {
        for other in smaller(&plan) {
            tried += 1;
            if shows(&other) {
                plan = other;
                continue 'again;
            }
        }
        return (plan, tried);
    }
}

/// Runs `chaos shrink`: exit code 1 if the violation was seen again (and a smaller case written), 0 if not.
pub(crate) fn shrink(args: &ShrinkArgs, stop: &Stop) -> Result<Verdict, Box<dyn std::error::Error>> {
    let case = finding::read(&args.file)?;
    if case.storm.is_some() {
        return Err("a violation of the storm has no plan of trials to shrink; chaos replay repeats its run".into());
    }
    let place = place(args.root.as_ref())?;
    stop.set_root(Some(place.path().to_owned()));
    let template = range::template()?;
    let mut last = None;
    let mut attempt = |plan: &Plan| {
        let case = Case { plan: plan.clone(), ..case.clone() };
        for _ in 0..args.times {
            let seen = perform(&template, &case, place.path(), stop, |_, _, _| ());
            if seen.shows(&case) {
                last = seen.findings.into_iter().next();
                return true;
            }
        }
        false
    };
    if !attempt(&case.plan) {
        println!("not seen again in {} times; try more --times", args.times);
        drop(template);
        stop.set_root(None);
        place.close()?;
        return Ok(Verdict::Held);
    }
    let (plan, tried) = descend(case.plan.clone(), |plan| !stop.asked() && attempt(plan));
    drop(template);
    stop.set_root(None);
    place.close()?;
    let out = args.out.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".shrunk.json");
        PathBuf::from(name)
    });
    if let Some(found) = &last {
        finding::write(&out, &finding::document(found, plan.seed, case.plant, &out))?;
    }
    println!(
        "{tried} smaller plans tried; what is left:\n{plan}{}: {} replay {}",
        out.display(),
        finding::program(),
        out.display()
    );
    Ok(Verdict::Violation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Rates;
    use crate::plan::Deck;

    #[test]
    fn what_does_not_matter_goes() {
        let plan = Deck::plan(9, Rates::all(), 300);
        let culprit = "kill-durable";
        let has = |plan: &Plan| plan.trials.iter().flat_map(|t| &t.faults).any(|fault| fault.class.name == culprit);
        assert!(has(&plan));
        let (small, tried) = descend(plan, has);
        assert!(tried > 0);
        let [trial] = &small.trials[..] else { panic!("{small}") };
        assert_eq!((trial.readers, trial.standbys, trial.watchdog), (1, 1, false));
        let [fault] = &trial.faults[..] else { panic!("{small}") };
        assert_eq!((fault.class.name, fault.after), (culprit, 1));
    }

    #[test]
    fn what_can_not_be_smaller_stays() {
        let plan = Deck::plan(9, Rates::parse("healthy").unwrap(), 1);
        let (small, _) = descend(plan.clone(), |_| false);
        assert_eq!(small, plan);
    }
}
