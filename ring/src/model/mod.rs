//! The protocol files under loom: every interleaving, and every value that the C++ memory model lets a load return, of
//! small models.
//!
//! Each model declares its set of acceptable outcomes, with a phrase for each: an outcome outside the set fails it, and
//! so does one inside that was never seen (a model that doesn't reach what it talks about proves nothing). Each edge of
//! `docs/PROTOCOL.md` is also seen red: a `without_…` test weakens a thread ([`Weak`](crate::atomic::Weak)) and must
//! end in the violation that it names.
//!
//! What loom does not show, and other means do: loads and stores are executed in program order (a load never sees a
//! store that comes later in its own thread, so no load-buffering; [`Watched`](crate::memory::Watched) finds the
//! missing orderings instead), nobody dies (the Promela models and `chaos`), and the asymmetric barrier is a full fence
//! at both ends.
//!
//! ```sh
//! cargo test --release -p ringward-ring --features loom --lib model::
//! ```

mod batch;
mod close;
mod fence;
mod heap;
mod hostile;
mod join;
mod publish;
mod wake;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How far a model is explored.
#[derive(Clone, Copy)]
enum Depth {
    /// Every interleaving.
    All,
    /// Every interleaving with at most this many switches away from a thread that could have gone on;
    /// `RINGWARD_MODEL_SWITCHES` says another number.
    Switches(usize),
}

impl Depth {
    fn bound(self) -> Option<usize> {
        let wanted = std::env::var("RINGWARD_MODEL_SWITCHES").ok().and_then(|text| text.parse().ok());
        match self {
            Depth::All => None,
            Depth::Switches(most) => Some(wanted.unwrap_or(most)),
        }
    }
}

/// Explores `model`, whose runs end in one of `outcomes`: (name, why that is right).
fn explore(
    depth: Depth,
    outcomes: &'static [(&'static str, &'static str)],
    model: impl Fn() -> String + Sync + Send + 'static,
) {
    let seen = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = depth.bound();
    let started = std::time::Instant::now();
    let tally = Arc::clone(&seen);
    builder.check(move || {
        *tally.lock().unwrap().entry(model()).or_default() += 1;
    });
    let seen = seen.lock().unwrap();
    let total: u64 = seen.values().sum();
    println!("{total} executions in {:.1?}", started.elapsed());
    for (name, count) in seen.iter() {
        let why = outcomes.iter().find(|(declared, _)| declared == name).map_or("UNDECLARED", |(_, why)| why);
        println!("{count:>9}  {name}: {why}");
    }
    for name in seen.keys() {
        assert!(outcomes.iter().any(|(declared, _)| declared == name), "undeclared outcome: {name}");
    }
    for (name, _) in outcomes {
        assert!(seen.contains_key(*name), "declared but never seen, so not tested: {name}");
    }
}

/// Explores a weakened `model`, which must fail; any outcome will do.
fn expect_violation(depth: Depth, model: impl Fn() -> String + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = depth.bound();
    builder.check(move || {
        model();
    });
}
