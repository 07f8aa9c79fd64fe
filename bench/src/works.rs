//! The works: what is measured.

use serde_json::Value;

use crate::Result;
use crate::peer::{InPlace, Peer};
use crate::role::Gate;
use crate::spec::Spec;

pub mod children;
pub mod failover;
pub mod fan;
pub mod flow;
pub mod idle;
pub mod lend;
pub mod open;
pub mod trip;
pub mod watch;

/// One side of one work.
pub type Side = fn(&Spec, &Gate) -> Result<Value>;

/// A peer in the worker's table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Runs a side of a work that any peer can do.
    pub run: Side,
}

/// The table's entry for a peer that copies.
pub fn entry<P: Peer>(name: &'static str) -> Entry {
    Entry { name, run: any::<P> }
}

/// The table's entry for a peer that also hands over in place.
pub fn entry_in_place<P: Peer + InPlace>(name: &'static str) -> Entry {
    Entry {
        name,
        run: |spec, gate| if spec.work == "lend" { lend::run::<P>(spec, gate) } else { any::<P>(spec, gate) },
    }
}

/// Runs a side of a work that any peer can do.
///
/// # Errors
///
/// What went wrong.
pub fn any<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.work.as_str() {
        "flow" | "growth" => flow::run::<P>(spec, gate),
        "trip" | trip::WAKE => trip::run::<P>(spec, gate),
        "fan" => fan::run::<P>(spec, gate),
        "open" => open::run::<P>(spec, gate),
        other => Err(format!("not every peer can do {other:?}").into()),
    }
}

/// Runs a side of a work that is Ringward's alone.
///
/// # Errors
///
/// What went wrong.
pub fn own(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.work.as_str() {
        "failover" => failover::run(spec, gate),
        "idle" => idle::run(spec, gate),
        "watch" => watch::run(spec, gate),
        other => Err(format!("no work {other:?}").into()),
    }
}
