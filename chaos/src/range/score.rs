//! What the range counts: by class, by outcome, in time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::faults::{Family, Hitch, class, classes};
use crate::quantiles::Quantiles;
use crate::range::trial::{OUTCOMES, Result};

/// One class.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) landed: u64,
    pub(crate) skipped: u64,
    /// The reason, the last one.
    pub(crate) reason: Option<String>,
    pub(crate) missed: u64,
    pub(crate) missed_reason: Option<String>,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Score {
    pub(crate) trials: u64,
    pub(crate) broken: u64,
    pub(crate) lines: BTreeMap<&'static str, Line>,
    acknowledged: u64,
    delivered: u64,
    redelivered: u64,
    told_lost: u64,
    told_unknown: u64,
    errors: u64,
    terms: u64,
    pub(crate) false_deaths: u64,
    controls: u64,
    detected: Quantiles,
    recovered: Quantiles,
    remapped: Quantiles,
}

impl Score {
    pub(crate) fn add(&mut self, result: &Result) {
        self.trials += 1;
        self.broken += result.broken.len() as u64;
        for fate in &result.fates {
            let line = self.lines.entry(fate.class.name).or_default();
            match &fate.applied {
                Ok(_) => {
                    line.landed += 1;
                    *line.outcomes.entry(fate.outcome).or_default() += 1;
                }
                Err(Hitch::Skipped(why)) => (line.skipped, line.reason) = (line.skipped + 1, Some(why.clone())),
                Err(Hitch::Missed(why)) => (line.missed, line.missed_reason) = (line.missed + 1, Some(why.clone())),
            }
            if fate.applied.is_ok() && fate.class.family != Family::Controls {
                fate.detected.into_iter().for_each(|ns| self.detected.add(ns));
                fate.recovered.into_iter().for_each(|ns| self.recovered.add(ns));
                fate.remapped.into_iter().for_each(|ns| self.remapped.add(ns));
            }
            self.controls += u64::from(fate.applied.is_ok() && fate.class.family == Family::Controls);
        }
        let tally = &result.tally;
        self.acknowledged += tally.acknowledged;
        self.delivered += tally.delivered;
        self.redelivered += tally.redelivered;
        self.told_lost += tally.told_lost;
        self.told_unknown += tally.told_unknown;
        self.errors += tally.errors;
        self.terms += tally.terms;
        self.false_deaths += tally.false_deaths;
    }

    /// The counts of a report's `faults`; times are not in it one by one, and begin anew.
    pub(crate) fn resumed(faults: &Value) -> Score {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let records = &faults["records"];
        let mut score = Score {
            trials: number(&faults["trials"]),
            broken: number(&faults["violations"]),
            controls: number(&faults["controls"]),
            false_deaths: number(&faults["false_deaths"]),
            acknowledged: number(&records["acknowledged"]),
            delivered: number(&records["delivered"]),
            redelivered: number(&records["redelivered"]),
            told_lost: number(&records["told_lost"]),
            told_unknown: number(&records["told_unknown"]),
            errors: number(&faults["typed_errors"]),
            terms: number(&faults["terms"]),
            ..Score::default()
        };
        for line in faults["classes"].as_array().into_iter().flatten() {
            let Some(class) = line["class"].as_str().and_then(class) else { continue };
            let outcomes = OUTCOMES.iter().map(|outcome| (*outcome, number(&line["outcomes"][*outcome])));
            score.lines.insert(
                class.name,
                Line {
                    landed: number(&line["landed"]),
                    skipped: number(&line["skipped"]),
                    reason: text(&line["skipped_reason"]),
                    missed: number(&line["missed"]),
                    missed_reason: text(&line["missed_reason"]),
                    outcomes: outcomes.filter(|(_, count)| *count > 0).collect(),
                },
            );
        }
        score
    }

    /// Faults that landed.
    pub(crate) fn landed(&self) -> u64 {
        self.lines.values().map(|line| line.landed).sum()
    }

    /// What was skipped, and why.
    pub(crate) fn skipped(&self) -> Vec<String> {
        let all = self.lines.iter().filter(|(_, line)| line.skipped > 0);
        all.map(|(name, line)| format!("{name} skipped: {}", line.reason.as_deref().unwrap_or("?"))).collect()
    }

    /// In one line, for people.
    pub(crate) fn line(&self) -> String {
        let (missed, skipped) = self.lines.values().fold((0, 0), |(m, s), line| (m + line.missed, s + line.skipped));
        let least = self.lines.iter().filter(|(_, line)| line.skipped == 0).min_by_key(|(_, line)| line.landed);
        let least = least.map_or(String::new(), |(name, line)| format!(", least often {name}: {}", line.landed));
        format!(
            "faults: {} landed in {} trials ({} classes{least}), {missed} missed, {skipped} skipped; false deaths {} of {} controls",
            self.landed(),
            self.trials,
            self.lines.len(),
            self.false_deaths,
            self.controls
        )
    }

    pub(crate) fn to_json(&self) -> Value {
        let lines: Vec<Value> = classes()
            .filter_map(|class| Some((class, self.lines.get(class.name)?)))
            .map(|(class, line)| {
                json!({
                    "class": class.name,
                    "family": class.family.name(),
                    "what": class.what,
                    "landed": line.landed,
                    "missed": line.missed,
                    "missed_reason": line.missed_reason,
                    "skipped": line.skipped,
                    "skipped_reason": line.reason,
                    "outcomes": line.outcomes,
                })
            })
            .collect();
        json!({
            "trials": self.trials,
            "landed": self.landed(),
            "controls": self.controls,
            "false_deaths": self.false_deaths,
            "violations": self.broken,
            "classes": lines,
            "records": {
                "acknowledged": self.acknowledged,
                "delivered": self.delivered,
                "redelivered": self.redelivered,
                "told_lost": self.told_lost,
                "told_unknown": self.told_unknown,
            },
            "typed_errors": self.errors,
            "terms": self.terms,
            "detection_us": self.detected.to_json(),
            "recovery_us": self.recovered.to_json(),
            "remap_us": self.remapped.to_json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::trial::Fate;

    #[test]
    fn counts_go_through_a_report() {
        let mut score = Score::default();
        for (name, applied) in [
            ("kill-writer", Ok(crate::faults::Landing::default())),
            ("healthy", Ok(crate::faults::Landing::default())),
            ("squat-foreign", Err(Hitch::Skipped("why".into()))),
            ("flip-limit", Err(Hitch::Missed("when".into()))),
        ] {
            let class = class(name).unwrap();
            let fate = Fate { class, applied, outcome: "followed", detected: None, recovered: None, remapped: None };
            score.add(&Result { fates: vec![fate], ..Result::default() });
        }
        let report = score.to_json();
        assert_eq!(Score::resumed(&report).to_json(), report);
        assert_eq!(score.skipped(), ["squat-foreign skipped: why"]);
        assert_eq!(Score::resumed(&Value::Null).trials, 0);
    }
}
