//! Which test of which program has to notice a bug.

/// A test program that is built with the bugs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// Unit tests of `ring`.
    Ring,
    /// Its integration tests.
    RingIt,
    /// Unit tests of `recovery`.
    Recovery,
    /// Its integration tests.
    RecoveryIt,
    /// The loom models of `ring`.
    Models,
}

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Ring | Program::RingIt => "ring",
            Program::Recovery | Program::RecoveryIt => "recovery",
            Program::Models => "loom",
        }
    }

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Program::Ring | Program::RingIt | Program::Models => "ring",
            Program::Recovery | Program::RecoveryIt => "recovery",
        }
    }

    pub(crate) fn is_library(self) -> bool {
        !matches!(self, Program::RingIt | Program::RecoveryIt)
    }
}

/// One test of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instrument {
    pub(crate) program: Program,
    /// Its whole path.
    pub(crate) test: &'static str,
    /// Switches up to which a model is explored, where its own bound is too narrow for a bug, or too wide for our patience.
    pub(crate) switches: Option<usize>,
}

impl Instrument {
    /// For people: the program, and the test's name without its module.
    pub(crate) fn short(self) -> String {
        let mut parts = self.test.rsplit("::");
        let last = parts.next().unwrap_or_default();
        match parts.next().filter(|_| last.starts_with("case_") || last.starts_with("cut_")) {
            Some(name) => format!("{} {name} ({last})", self.program.name()),
            None => format!("{} {last}", self.program.name()),
        }
    }
}

/// A test, with the bound that it has.
pub(super) const fn test(program: Program, test: &'static str) -> Instrument {
    Instrument { program, test, switches: None }
}

/// A model, explored up to another bound.
pub(super) const fn model(test: &'static str, switches: usize) -> Instrument {
    Instrument { program: Program::Models, test, switches: Some(switches) }
}
