//! The works: what is measured.

use serde_json::Value;

use crate::Result;
use crate::peer::Peer;
use crate::role::Gate;
use crate::spec::Spec;

pub mod fan;
pub mod flow;
pub mod trip;

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

/// The table's entry for a peer.
pub fn entry<P: Peer>(name: &'static str) -> Entry {
    Entry { name, run: any::<P> }
}

/// Runs a side of a work that any peer can do.
///
/// # Errors
///
/// What went wrong.
pub fn any<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.work.as_str() {
        "flow" => flow::run::<P>(spec, gate),
        "trip" => trip::run::<P>(spec, gate),
        "fan" => fan::run::<P>(spec, gate),
        other => Err(format!("no peer can do {other:?}").into()),
    }
}
