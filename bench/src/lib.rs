//! Ringward's benchmarks: works, peers, and the harness that runs them.
//!
//! A *work* is what is measured (a round trip, a flow), a *peer* something that can carry records. A *run* is one
//! work with one peer, in processes of its own that are pinned to processors. The harness interleaves the peers in rounds,
//! looks at the machine before and after each run, and writes a line of JSON for each; tables, plots and
//! `docs/PERFORMANCE.md` are made from those lines and from nothing else. `bench/compare` adds the peers that need other
//! crates.
#![deny(unsafe_code)]

pub mod clock;
pub mod peer;
pub mod peers;
pub mod role;
pub mod shared;
pub mod spec;
pub mod works;

pub mod count;
pub mod document;
pub mod harness;
pub mod line;
pub mod machine;
pub mod page;
pub mod plan;
pub mod plot;
pub mod summary;
pub mod target;

/// Whatever went wrong: the harness stops and says so.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
