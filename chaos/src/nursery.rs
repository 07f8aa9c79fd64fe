//! Where a run's processes come from: three templates, each on the cores that suit its workers, and the workers that are under
//! way.
//!
//! Whoever replaces a dead member is asked for and not waited for: the thread that would wait is the one that traces, and
//! all that it traces would stand still meanwhile.

use std::collections::VecDeque;

use crate::engine::{EngineError, Gate, Template, TemplateConfig};
use crate::namespace::Which;
use crate::worker::Role;

/// A member that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) role: Role,
    pub(crate) which: Which,
    pub(crate) place: u32,
}

/// A template and what is expected of it.
#[derive(Debug)]
pub(crate) struct Cot {
    template: Template,
    wanted: VecDeque<Birth>,
    /// Asked for: what it is to be, its number, its gate.
    under_way: Option<(Birth, u32, Gate)>,
}

impl Cot {
    fn new(cores: &[usize]) -> Result<Cot, EngineError> {
        let mut config = TemplateConfig::this_program(["template"])?;
        config.cores = cores.to_vec();
        Ok(Cot { template: Template::start(config)?, wanted: VecDeque::new(), under_way: None })
    }

    /// Whom to ask for next; `None` while somebody is under way, or if nobody is wanted.
    pub(crate) fn next(&mut self) -> Option<Birth> {
        if self.under_way.is_some() { None } else { self.wanted.pop_front() }
    }

    /// `birth` has been asked for; it will be member `id`.
    pub(crate) fn asked(&mut self, birth: Birth, id: u32, gate: Gate) {
        self.under_way = Some((birth, id, gate));
    }

    /// Whoever has arrived, with its pid.
    pub(crate) fn arrived(&mut self, wait: bool) -> Result<Option<(Birth, u32, Gate, i32)>, EngineError> {
        if self.under_way.is_none() {
            return Ok(None);
        }
        let Some(pid) = self.template.answer(wait)? else { return Ok(None) };
        Ok(self.under_way.take().map(|(birth, id, gate)| (birth, id, gate, pid)))
    }
}

/// The cot of whoever is timed.
pub(crate) const TIMED: usize = 2;

/// All templates.
#[derive(Debug)]
pub(crate) struct Nursery {
    /// Writers and standbys of the storm; its readers; whoever is timed, anywhere.
    cots: [Cot; 3],
}

impl Nursery {
    /// The storm's readers live on `others`, the cores that the tracing thread does not keep to; writers, standbys and whoever is
    /// timed on `all` (a writer that is to die is moved to the tracing thread's for its last push).
    pub(crate) fn start(others: &[usize], all: &[usize]) -> Result<Nursery, EngineError> {
        Ok(Nursery { cots: [Cot::new(all)?, Cot::new(others)?, Cot::new(all)?] })
    }

    /// Number of the cot that such members come from.
    pub(crate) fn cot_of(role: Role, which: Which) -> usize {
        match (which, role) {
            (Which::Failover, _) => TIMED,
            (Which::Storm, Role::Standby | Role::Claimant) => 0,
            (Which::Storm, _) => 1,
        }
    }

    pub(crate) fn cot(&mut self, number: usize) -> &mut Cot {
        &mut self.cots[number]
    }

    pub(crate) fn template(&self, number: usize) -> &Template {
        &self.cots[number].template
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.cots.len()
    }

    /// `birth` is to be asked for when its turn comes.
    pub(crate) fn want(&mut self, birth: Birth) {
        self.cots[Nursery::cot_of(birth.role, birth.which)].wanted.push_back(birth);
    }

    /// Whether somebody is wanted or under way who may come to write into the storm.
    pub(crate) fn expects_writer(&self) -> bool {
        let cot = &self.cots[Nursery::cot_of(Role::Standby, Which::Storm)];
        cot.under_way.is_some() || !cot.wanted.is_empty()
    }

    /// Nobody is wanted any more; whoever is under way still comes.
    pub(crate) fn want_nobody(&mut self) {
        self.cots.iter_mut().for_each(|cot| cot.wanted.clear());
    }

    /// Whether somebody is wanted or under way.
    pub(crate) fn expects(&self) -> bool {
        self.cots.iter().any(|cot| cot.under_way.is_some() || !cot.wanted.is_empty())
    }

    pub(crate) fn is_template(&self, pid: i32) -> bool {
        self.cots.iter().any(|cot| cot.template.pid() == pid)
    }
}
