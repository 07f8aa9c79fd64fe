//! One canary: the bug, the test that has to go red for it, and how.

use std::fmt;
use std::time::Duration;

use super::Fate;
use super::bench::{Ending, Run};
use super::instrument::Instrument;

/// How its instrument must end for a canary to count as caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The test fails, and says this.
    Says(&'static str),
    /// The test does not end within so many seconds: a hang is what this bug is.
    Hangs(u64),
}

impl Ends {
    pub(crate) fn message(self) -> Option<&'static str> {
        match self {
            Ends::Says(message) => Some(message),
            Ends::Hangs(_) => None,
        }
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends::Says(message) => write!(f, "fails with {message:?}"),
            Ends::Hangs(seconds) => write!(f, "does not end within {seconds} s"),
        }
    }
}

/// A bug planted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    /// What is wrong.
    pub(crate) bug: &'static str,
    /// What has to notice.
    pub(crate) by: Instrument,
    pub(crate) ends: Ends,
    /// Changes nothing: it must survive, and shows that `chaos prove` can fail. Never tried unless it is asked for.
    pub(crate) harmless: bool,
}

impl Canary {
    /// Longest time for its instrument.
    pub(crate) fn limit(&self) -> Duration {
        match self.ends {
            Ends::Says(_) => Duration::from_secs(120),
            Ends::Hangs(seconds) => Duration::from_secs(seconds),
        }
    }

    /// What a run with it came to.
    pub(crate) fn judge(&self, run: &Run) -> Fate {
        let met = if run.met() { "" } else { ", and never met it" };
        match (self.ends, run.ending) {
            (_, Ending::NotRun) => Fate::Inconclusive("its instrument was not run".to_owned()),
            (Ends::Says(message), Ending::Red) if run.met() && run.output.contains(message) => Fate::Caught,
            (Ends::Hangs(_), Ending::Hung) if run.met() => Fate::Caught,
            (Ends::Says(message), Ending::Red) => {
                Fate::Survived(format!("its instrument failed, but not with {message:?}{met}"))
            }
            (_, ending) => Fate::Survived(format!("its instrument {ending}{met}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::instrument::{Program, test};

    const CANARY: Canary = Canary {
        name: "a",
        bug: "b",
        by: test(Program::Ring, "c"),
        ends: Ends::Says("lost a record"),
        harmless: false,
    };

    fn run(ending: Ending, output: &str) -> Run {
        Run { ending, seconds: 0.0, output: output.to_owned(), command: String::new() }
    }

    /// Only the failure that was announced counts, and only of a test that met the bug.
    #[test]
    fn red_for_another_reason_is_a_survivor() {
        let met = "*** RINGWARD CANARY: the bug";
        let whole = format!("{met}\nlost a record");
        assert_eq!(CANARY.judge(&run(Ending::Red, &whole)), Fate::Caught);
        for (ending, output) in [
            (Ending::Green, whole.as_str()),
            (Ending::Hung, &whole),
            (Ending::Signal { number: 7 }, &whole),
            (Ending::NothingRan, &whole),
            (Ending::Red, met),
            (Ending::Red, "lost a record"),
        ] {
            assert!(matches!(CANARY.judge(&run(ending, output)), Fate::Survived(_)), "{ending:?} {output}");
        }
        assert!(matches!(CANARY.judge(&run(Ending::NotRun, "")), Fate::Inconclusive(_)));
        let hangs = Canary { ends: Ends::Hangs(1), ..CANARY };
        assert_eq!(hangs.judge(&run(Ending::Hung, met)), Fate::Caught);
        assert!(matches!(hangs.judge(&run(Ending::Red, &whole)), Fate::Survived(_)));
    }
}
