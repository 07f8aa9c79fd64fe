//! A plan: the explicit list of faults, each with its place in its trial. Drawn from a seed, or read from a file.
//!
//! ```text
//! ringward-chaos plan 1
//! seed 42
//! trial 0 seed=7 readers=2 standbys=1 watchdog=0 capacity=16384
//! fault after=40 class=kill-writer word=0x1f
//! ```
//!
//! `after` counts acknowledged pushes since the trial began or the fault before it was over; `word` is what the fault
//! draws its own choices from (which byte, which bit, which victim).

use std::fmt;

use crate::faults::{self, Class, Rates};
use crate::payload::Dice;

/// First line of a plan.
const TITLE: &str = "ringward-chaos plan 1";
/// Faults in one trial at most.
const MOST_FAULTS: usize = 64;
/// Trials in one plan at most.
const MOST_TRIALS: usize = 1 << 20;
/// Pushes before a fault at most.
const MOST_AFTER: u32 = 100_000;

/// One fault, and when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) after: u32,
    pub(crate) class: &'static Class,
    pub(crate) word: u64,
}

/// One channel of its own, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) readers: u32,
    pub(crate) standbys: u32,
    pub(crate) watchdog: bool,
    pub(crate) capacity: u64,
    pub(crate) faults: Vec<Timed>,
}

/// What a run does, explicitly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) trials: Vec<Trial>,
}

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the plan: {what}")]
pub(crate) struct PlanError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault after={} class={} word={:#x}", self.after, self.class.name, self.word)
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watchdog = u8::from(self.watchdog);
        let Trial { number, seed, readers, standbys, capacity, .. } = self;
        write!(
            f,
            "trial {number} seed={seed} readers={readers} standbys={standbys} watchdog={watchdog} capacity={capacity}"
        )?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TITLE}\nseed {}", self.seed)?;
        self.trials.iter().try_for_each(|trial| write!(f, "\n{trial}"))?;
        writeln!(f)
    }
}

/// `key=NUMBER` of a line's words, decimal or hexadecimal, between two bounds.
fn number(words: &[&str], at: usize, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let text = words.get(at).and_then(|word| word.strip_prefix(key)?.strip_prefix('='));
    let text = text.ok_or_else(|| format!("{key}= is missing"))?;
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.map_err(|error| format!("{key}={text}: {error}"))?;
    if bounds.contains(&value) {
        Ok(value)
    } else {
        Err(format!("{key}={value} is not in {}..={}", bounds.start(), bounds.end()))
    }
}

impl Plan {
    /// Reads a plan. Total: any text gives a plan or an error.
    ///
    /// # Errors
    ///
    /// [`PlanError`], with the number of the line.
    pub(crate) fn parse(text: &str) -> Result<Plan, PlanError> {
        let mut plan = Plan { seed: 0, trials: Vec::new() };
        let mut titled = false;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| PlanError { line: at + 1, what };
            if !titled {
                if line != TITLE {
                    return Err(wrong(format!("{TITLE:?} was expected")));
                }
                titled = true;
                continue;
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[0] {
                "seed" if words.len() == 2 => {
                    plan.seed = words[1].parse().map_err(|error| wrong(format!("seed: {error}")))?;
                }
                "trial" if words.len() == 7 => plan.add_trial(&words).map_err(wrong)?,
                "fault" if words.len() == 4 => plan.add_fault(&words).map_err(wrong)?,
                other => return Err(wrong(format!("{other:?} with {} words is nothing", words.len()))),
            }
        }
        if titled { Ok(plan) } else { Err(PlanError { line: 1, what: format!("{TITLE:?} was expected") }) }
    }

    fn add_trial(&mut self, words: &[&str]) -> Result<(), String> {
        if self.trials.len() >= MOST_TRIALS {
            return Err(format!("more than {MOST_TRIALS} trials"));
        }
        let capacity = number(words, 6, "capacity", 4096..=1 << 20)?;
        if !capacity.is_power_of_two() {
            return Err(format!("capacity={capacity} is no power of two"));
        }
        self.trials.push(Trial {
            number: words[1].parse().map_err(|error| format!("trial {}: {error}", words[1]))?,
            seed: number(words, 2, "seed", 0..=u64::MAX)?,
            readers: number(words, 3, "readers", 1..=8)? as u32,
            standbys: number(words, 4, "standbys", 1..=8)? as u32,
            watchdog: number(words, 5, "watchdog", 0..=1)? == 1,
            capacity,
            faults: Vec::new(),
        });
        Ok(())
    }

    fn add_fault(&mut self, words: &[&str]) -> Result<(), String> {
        let trial = self.trials.last_mut().ok_or("a fault in front of the first trial")?;
        if trial.faults.len() >= MOST_FAULTS {
            return Err(format!("more than {MOST_FAULTS} faults in one trial"));
        }
        let name = words[2].strip_prefix("class=").ok_or("class= is missing")?;
        let class = faults::class(name).ok_or_else(|| format!("there is no class {name:?}"))?;
        let after = number(words, 1, "after", 0..=u64::from(MOST_AFTER))? as u32;
        trial.faults.push(Timed { after, class, word: number(words, 3, "word", 0..=u64::MAX)? });
        Ok(())
    }
}

/// Draws trials: round after round, each with every class that is on, shuffled; a class with a rate below 1 is in that share
/// of the rounds.
#[derive(Debug)]
pub(crate) struct Deck {
    seed: u64,
    rates: Rates,
    dice: Dice,
    round: Vec<&'static Class>,
    drawn: u64,
}

impl Deck {
    pub(crate) fn new(seed: u64, rates: Rates) -> Deck {
        Deck { seed, rates, dice: Dice::new(seed, 0x6661_756c_7473), round: Vec::new(), drawn: 0 }
    }

    /// The first `count` trials, as a plan.
    #[cfg(test)]
    pub(crate) fn plan(seed: u64, rates: Rates, count: usize) -> Plan {
        Plan { seed, trials: Deck::new(seed, rates).take(count).collect() }
    }

    fn shuffle(&mut self) {
        // A rate of next to nothing is still something: as many rounds as it takes.
        while self.round.is_empty() {
            for class in faults::classes() {
                if self.dice.chance(self.rates.of(class)) {
                    self.round.push(class);
                }
            }
        }
        for at in (1..self.round.len()).rev() {
            self.round.swap(at, self.dice.below(at as u64 + 1) as usize);
        }
    }

    fn timed(&mut self, class: &'static Class) -> Timed {
        Timed { after: 8 + self.dice.below(60) as u32, class, word: self.dice.next() }
    }
}

impl Iterator for Deck {
    type Item = Trial;

    fn next(&mut self) -> Option<Trial> {
        if self.rates.is_none() {
            return None;
        }
        if self.round.is_empty() {
            self.shuffle();
        }
        let class = self.round.pop()?;
        let mut faults = vec![self.timed(class)];
        // Deaths are also tried in company: what one leaves, the next meets.
        while class.compound && faults.len() < 3 && self.dice.chance(0.2) {
            let company: Vec<&'static Class> =
                faults::classes().filter(|other| other.compound && self.rates.of(other) > 0.0).collect();
            let other = company[self.dice.below(company.len() as u64) as usize];
            faults.push(self.timed(other));
        }
        let number = self.drawn;
        self.drawn += 1;
        let capacity = 8192 << self.dice.below(3);
        let readers = 1 + self.dice.below(3) as u32;
        // The first reader is durable, the second is not.
        let readers =
            if faults.iter().any(|fault| fault.class.name == "kill-ephemeral") { readers.max(2) } else { readers };
        let standbys = 1 + self.dice.below(2) as u32;
        let watchdog = self.dice.chance(0.5) || faults.iter().any(|fault| fault.class.setup.watchdog);
        let seed = (self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 1;
        Some(Trial { number, seed, readers, standbys, watchdog, capacity, faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_goes_through_text_unchanged() {
        let plan = Deck::plan(42, Rates::all(), 200);
        assert_eq!(plan.trials.len(), 200);
        assert_eq!(Plan::parse(&plan.to_string()), Ok(plan.clone()));
        assert_eq!(Deck::plan(42, Rates::all(), 200), plan, "one seed, one plan");
        assert_ne!(Deck::plan(43, Rates::all(), 200), plan);
    }

    #[test]
    fn a_round_has_every_class_once() {
        let count = faults::classes().count();
        let plan = Deck::plan(5, Rates::all(), count);
        let mut names: Vec<&str> = plan.trials.iter().map(|trial| trial.faults[0].class.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn rates_choose() {
        let plan = Deck::plan(1, Rates::parse("kill-writer").unwrap(), 9);
        assert!(plan.trials.iter().flat_map(|t| &t.faults).all(|fault| fault.class.name == "kill-writer"));
        assert!(Deck::plan(1, Rates::none(), 9).trials.is_empty());
    }

    #[test]
    fn what_is_no_plan_says_where() {
        let head = "ringward-chaos plan 1\n";
        let trial = "trial 0 seed=1 readers=1 standbys=1 watchdog=0 capacity=4096\n";
        for (text, line) in [
            (String::new(), 1),
            ("plan".into(), 1),
            (format!("{head}seed x"), 2),
            (format!("{head}fault after=1 class=kill-writer word=1"), 2),
            (format!("{head}{trial}fault after=1 class=nonsense word=1"), 3),
            (format!("{head}{trial}fault after=9999999 class=kill-writer word=1"), 3),
            (format!("{head}{trial}fault after=1 class=kill-writer word=99999999999999999999999"), 3),
            (format!("{head}{}", trial.replace("4096", "5000")), 2),
            (format!("{head}{}", trial.replace("readers=1", "readers=99")), 2),
            (format!("{head}\n\nwhat is this"), 4),
        ] {
            assert_eq!(Plan::parse(&text).map_err(|error| error.line), Err(line), "{text:?}");
        }
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        let sound = Deck::plan(3, Rates::all(), 20).to_string();
        let mut dice = Dice(11);
        for _ in 0..2000 {
            let mut bytes = sound.clone().into_bytes();
            for _ in 0..=dice.below(6) {
                let at = dice.below(bytes.len() as u64) as usize;
                match dice.below(3) {
                    0 => bytes[at] = dice.next() as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, dice.next() as u8),
                }
            }
            let _ = Plan::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
