//! Opening: how long the sending end of something new takes, and how long the receiving end that joins it. Both in one
//! process, one after the other, as two services would start.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::peer::Peer;
use crate::role::Gate;
use crate::spec::Spec;

/// One side only.
///
/// # Errors
///
/// What the peer said.
pub fn run<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    gate.ready()?;
    gate.go()?;
    let (mut create, mut join) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while create.len() < 20 || begun.elapsed() < spec.time() {
        let name = format!("o{}", create.len());
        let at = Instant::now();
        let tx = P::tx(spec, &name)?;
        create.push(at.elapsed());
        let at = Instant::now();
        let rx = P::rx(spec, &name)?;
        join.push(at.elapsed());
        drop((rx, tx));
    }
    create.sort_unstable();
    join.sort_unstable();
    let mid = |all: &[std::time::Duration]| all[all.len() / 2].as_secs_f64() * 1e6;
    Ok(json!({ "create_us": mid(&create), "join_us": mid(&join), "samples": create.len() }))
}
