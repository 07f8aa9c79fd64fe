//! The catalogue of faults: a table for each family, and what each fault may cost.

mod controls;
mod files;
mod identity;
mod memory;
mod processes;
mod resources;

use crate::payload::Dice;
use crate::range::stage::Stage;

/// What kind of thing a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Family {
    Processes,
    Memory,
    Files,
    Resources,
    Identity,
    /// No fault at all: somebody who lives must not be taken for dead.
    Controls,
}

impl Family {
    pub(crate) const ALL: [Family; 6] =
        [Family::Processes, Family::Memory, Family::Files, Family::Resources, Family::Identity, Family::Controls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::Processes => "processes",
            Family::Memory => "memory",
            Family::Files => "files",
            Family::Resources => "resources",
            Family::Identity => "identity",
            Family::Controls => "controls",
        }
    }
}

/// What a fault may cost a reader at most. Each is more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// Nothing.
    Nothing,
    /// The records that were hit, reported one by one.
    Hit,
    /// Records, their number reported exactly.
    Reported,
    /// Records, reported as an unknown number.
    Unknown,
    /// The channel: it is born again, and says so by typed errors.
    Reborn,
}

/// How a trial has to be set up for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// The writers promise beats.
    pub(crate) beats: bool,
    /// A stuck writer is superseded (else only reported).
    pub(crate) supersede: bool,
    /// A watchdog is needed.
    pub(crate) watchdog: bool,
    /// On a file system of its own, which is small.
    pub(crate) small: bool,
    /// Each writer in a pid namespace of its own.
    pub(crate) apart: bool,
}

impl Setup {
    pub(crate) const fn small(self) -> Setup {
        Setup { small: true, ..self }
    }

    pub(crate) const fn apart(self) -> Setup {
        Setup { apart: true, ..self }
    }
}

/// As little as possible.
pub(crate) const PLAIN: Setup = Setup { beats: false, supersede: false, watchdog: false, small: false, apart: false };
/// With beats, as channels have unless told otherwise.
pub(crate) const BEATS: Setup = Setup { beats: true, ..PLAIN };

/// What a fault did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Landing {
    /// Sequence numbers of the records it touched.
    pub(crate) hit: Vec<u64>,
    /// For people.
    pub(crate) what: String,
}

impl Landing {
    pub(crate) fn of(what: impl Into<String>) -> Landing {
        Landing { hit: Vec::new(), what: what.into() }
    }
}

/// Why a fault did not land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hitch {
    /// This machine or this user does not permit it.
    Skipped(String),
    /// It was not the moment.
    Missed(String),
}

impl From<std::io::Error> for Hitch {
    fn from(error: std::io::Error) -> Hitch {
        Hitch::Missed(error.to_string())
    }
}

impl From<rustix::io::Errno> for Hitch {
    fn from(error: rustix::io::Errno) -> Hitch {
        Hitch::Missed(error.to_string())
    }
}

/// What applying a fault comes to.
pub(crate) type Applied = Result<Landing, Hitch>;

/// One class of faults.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// What happens, for people.
    pub(crate) what: &'static str,
    pub(crate) cost: Cost,
    pub(crate) setup: Setup,
    /// May come together with others that may.
    pub(crate) compound: bool,
    pub(crate) apply: fn(&mut Stage<'_>, &mut Dice) -> Applied,
}

impl PartialEq for Class {
    fn eq(&self, other: &Class) -> bool {
        self.name == other.name
    }
}

impl Eq for Class {}

/// All classes, family by family.
pub(crate) fn classes() -> impl Iterator<Item = &'static Class> {
    let families =
        [processes::CLASSES, memory::CLASSES, files::CLASSES, resources::CLASSES, identity::CLASSES, controls::CLASSES];
    families.into_iter().flatten()
}

/// The class of that name.
pub(crate) fn class(name: &str) -> Option<&'static Class> {
    classes().find(|class| class.name == name)
}

/// How often each class comes: the share of rounds that it is in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rates(Vec<(&'static str, f64)>);

impl Rates {
    pub(crate) fn none() -> Rates {
        Rates(Vec::new())
    }

    pub(crate) fn all() -> Rates {
        Rates(classes().map(|class| (class.name, 1.0)).collect())
    }

    pub(crate) fn of(&self, class: &Class) -> f64 {
        self.0.iter().find(|(name, _)| *name == class.name).map_or(0.0, |(_, rate)| *rate)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.iter().all(|(_, rate)| *rate <= 0.0)
    }

    fn set(&mut self, name: &'static str, rate: f64) {
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, rate));
    }

    /// `all`, `none`, or a list of `CLASS[=RATE]` and `FAMILY[=RATE]`; later ones overrule.
    pub(crate) fn parse(text: &str) -> Result<Rates, String> {
        let mut rates = Rates::none();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, rate) = match part.split_once('=') {
                None => (part, 1.0),
                Some((name, rate)) => match rate.parse::<f64>() {
                    Ok(rate) if (0.0..=1.0).contains(&rate) && (rate == 0.0 || rate >= 0.001) => (name, rate),
                    _ => return Err(format!("{part:?}: a rate is 0, or from 0.001 to 1")),
                },
            };
            match name {
                "none" => rates = Rates::none(),
                "all" => classes().for_each(|class| rates.set(class.name, rate)),
                _ => {
                    let mut any = false;
                    for class in classes().filter(|class| class.name == name || class.family.name() == name) {
                        rates.set(class.name, rate);
                        any = true;
                    }
                    if !any {
                        let known: Vec<&str> = classes().map(|class| class.name).collect();
                        let families: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
                        return Err(format!(
                            "there is no fault {name:?}; all, none, the families {}, or a class: {}",
                            families.join(", "),
                            known.join(", ")
                        ));
                    }
                }
            }
        }
        Ok(rates)
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Rates::all() {
            return f.write_str("all");
        }
        if self.is_none() {
            return f.write_str("none");
        }
        let parts: Vec<String> = self.0.iter().map(|(name, rate)| format!("{name}={rate}")).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_families_in_order() {
        let names: Vec<&str> = classes().map(|class| class.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
        let families: Vec<Family> = classes().map(|class| class.family).collect();
        assert!(families.is_sorted());
        assert!(names.iter().all(|name| Family::ALL.iter().all(|family| family.name() != *name)));
        assert!(classes().all(|class| (class.family == Family::Controls) <= (class.cost == Cost::Nothing)));
    }

    #[test]
    fn the_readme_lists_every_class_with_what_it_may_cost() {
        let page = include_str!("../../README.md");
        let part = page.split("<!-- faults -->").nth(1).and_then(|rest| rest.split("<!-- /faults -->").next()).unwrap();
        let listed: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
        let cost = |cost| match cost {
            Cost::Nothing => "nothing",
            Cost::Hit => "the records that were hit, told one by one",
            Cost::Reported => "records, told exactly",
            Cost::Unknown => "records, told as an unknown number",
            Cost::Reborn => "the channel, told by typed errors",
        };
        let known: Vec<String> = classes()
            .map(|class| {
                format!("| `{}` | {} | {} | {} |", class.name, class.family.name(), class.what, cost(class.cost))
            })
            .collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn rates_are_understood() {
        let rates = Rates::parse("all,memory=0,kill-writer=0.5").unwrap();
        assert_eq!(rates.of(class("kill-writer").unwrap()), 0.5);
        assert_eq!(rates.of(class("kill-durable").unwrap()), 1.0);
        assert!(classes().filter(|c| c.family == Family::Memory).all(|c| rates.of(c) == 0.0));
        assert!(Rates::parse("none").unwrap().is_none());
        assert_eq!(Rates::parse("all").unwrap().to_string(), "all");
        assert_eq!(Rates::parse(&rates.to_string()).unwrap().of(class("kill-writer").unwrap()), 0.5);
        for wrong in ["nonsense", "kill-writer=2", "kill-writer=x", "kill-writer=0.0000001"] {
            assert!(Rates::parse(wrong).is_err(), "{wrong}");
        }
    }
}
