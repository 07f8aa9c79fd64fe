//! What a proof came to: the table, the report, the verdict.

use serde_json::{Value, json};

use super::canary::Canary;
use super::instrument::Instrument;
use super::{CAUGHT, Fate, INCONCLUSIVE, SURVIVED};

/// What became of one canary.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) canary: &'static Canary,
    /// Where it is planted.
    pub(super) files: Vec<String>,
    pub(super) fate: Fate,
    pub(super) seconds: f64,
    /// To run it again.
    pub(super) command: String,
    pub(super) tail: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) build_seconds: f64,
    /// Wall-clock time of controls and canaries.
    pub(super) test_seconds: f64,
    pub(super) controls: Vec<(Instrument, Fate, f64)>,
    pub(super) proofs: Vec<Proof>,
}

impl Fate {
    fn word(&self) -> &'static str {
        match self {
            Fate::Caught => "caught",
            Fate::Survived(_) => "SURVIVED",
            Fate::Skipped(_) => "skipped",
            Fate::Inconclusive(_) => "inconclusive",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Fate::Caught => None,
            Fate::Survived(why) | Fate::Skipped(why) | Fate::Inconclusive(why) => Some(why),
        }
    }
}

impl Report {
    fn count(&self, word: &str) -> usize {
        self.proofs.iter().filter(|proof| proof.fate.word() == word).count()
    }

    /// The table, and what there is to say of those that were not caught.
    pub(super) fn text(&self) -> String {
        let rows: Vec<[String; 5]> = self
            .proofs
            .iter()
            .map(|proof| {
                [
                    proof.canary.name.to_owned(),
                    proof.files.join(" "),
                    proof.fate.word().to_owned(),
                    format!("{:.2} s", proof.seconds),
                    proof.canary.by.short(),
                ]
            })
            .collect();
        let head = ["canary", "planted in", "fate", "after", "by"].map(str::to_owned);
        let width =
            |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut text = String::from("\n");
        for row in [&head].into_iter().chain(&rows) {
            for (column, cell) in row.iter().enumerate() {
                let pad = if column == 4 { 0 } else { widths[column] - cell.chars().count() + 2 };
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', pad));
            }
            text.push('\n');
        }
        text.push('\n');
        for proof in &self.proofs {
            let Some(why) = proof.fate.why() else { continue };
            text.push_str(&format!("{} {}: {}; {why}\n", proof.fate.word(), proof.canary.name, proof.canary.bug));
            if !proof.command.is_empty() {
                text.push_str(&format!("  again: {}\n{}", proof.command, indent(&proof.tail)));
            }
        }
        text
    }

    /// The last line.
    pub(super) fn verdict(&self) -> String {
        let (caught, skipped) = (self.count("caught"), self.count("skipped"));
        let verdict = match self.exit_code() {
            CAUGHT => "all caught",
            SURVIVED => "SURVIVORS",
            _ => "inconclusive",
        };
        let skipped = if skipped > 0 { format!(", {skipped} SKIPPED") } else { String::new() };
        format!(
            "verdict: {verdict}: {caught} of {} canaries caught{skipped}, {} survived, {} inconclusive; {:.0} s, and {:.0} s to build",
            self.proofs.len(),
            self.count("SURVIVED"),
            self.count("inconclusive"),
            self.test_seconds,
            self.build_seconds
        )
    }

    pub(super) fn exit_code(&self) -> i32 {
        if self.count("SURVIVED") > 0 {
            SURVIVED
        } else if self.count("inconclusive") > 0 || self.count("caught") == 0 {
            INCONCLUSIVE
        } else {
            CAUGHT
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let controls: Vec<Value> = self
            .controls
            .iter()
            .map(|(instrument, fate, seconds)| {
                let green = *fate == Fate::Caught;
                json!({ "instrument": instrument.short(), "green": green, "why": fate.why(), "seconds": seconds })
            })
            .collect();
        let canaries: Vec<Value> = self
            .proofs
            .iter()
            .map(|proof| {
                json!({
                    "name": proof.canary.name,
                    "bug": proof.canary.bug,
                    "planted_in": proof.files,
                    "instrument": proof.canary.by.short(),
                    "expected": proof.canary.ends.to_string(),
                    "fate": proof.fate.word(),
                    "why": proof.fate.why(),
                    "seconds": proof.seconds,
                    "command": proof.command,
                    "output_tail": proof.tail,
                })
            })
            .collect();
        json!({
            "verdict": self.verdict(),
            "exit_code": self.exit_code(),
            "build_seconds": self.build_seconds,
            "test_seconds": self.test_seconds,
            "controls": controls,
            "canaries": canaries,
        })
    }
}

/// Each line behind a bar.
pub(super) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::catalogue::CATALOGUE;

    fn report(fates: &[Fate]) -> Report {
        let proof = |fate: &Fate| Proof {
            canary: &CATALOGUE[0],
            files: vec!["ring/src/writer.rs".to_owned()],
            fate: fate.clone(),
            seconds: 0.1,
            command: "again".to_owned(),
            tail: "it said this\n".to_owned(),
        };
        Report {
            build_seconds: 1.0,
            test_seconds: 1.0,
            controls: Vec::new(),
            proofs: fates.iter().map(proof).collect(),
        }
    }

    #[test]
    fn one_survivor_outweighs_all_else_and_nothing_tried_proves_nothing() {
        let survived = || Fate::Survived("it passed".to_owned());
        let unknown = || Fate::Inconclusive("red without it".to_owned());
        let skipped = || Fate::Skipped("no tracing".to_owned());
        assert_eq!(report(&[]).exit_code(), INCONCLUSIVE);
        assert_eq!(report(&[skipped()]).exit_code(), INCONCLUSIVE);
        assert_eq!(report(&[Fate::Caught, skipped()]).exit_code(), CAUGHT);
        assert_eq!(report(&[Fate::Caught, unknown()]).exit_code(), INCONCLUSIVE);
        assert_eq!(report(&[Fate::Caught, unknown(), survived()]).exit_code(), SURVIVED);
        let text = report(&[Fate::Caught, survived()]);
        assert!(text.text().contains("again: again\n  | it said this\n"), "{}", text.text());
        assert!(text.verdict().starts_with("verdict: SURVIVORS: 1 of 2 "), "{}", text.verdict());
    }
}
