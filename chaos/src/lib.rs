//! Chaos: kills real writers, readers and standbys of a Ringward channel at any instruction, and judges from a ledger kept
//! outside the ring what the survivors received.
//!
//! ```text
//! cli ──▶ run ──▶ hunt (who dies where) ──▶ engine (ptrace)
//!          │  └──▶ floor, failover           what a takeover costs, and the least that it could
//!          ▼
//!        worker processes ──entries──▶ ledger (a pipe) ──▶ oracle ──▶ report, progress
//! cli ──▶ sweep ──▶ subjects, one at a time, stopped at each instruction ──images──▶ jury ──▶ tally
//! ```
//!
//! `unsafe` is in `engine/sys.rs`, `engine/tests.rs` and `worker.rs` only.

pub mod cli;
mod decode;
pub mod engine;
mod examine;
mod failover;
mod faults;
mod finding;
mod floor;
#[doc(hidden)]
pub mod fuzzing;
mod hunt;
mod judge;
mod ledger;
mod member;
mod namespace;
mod nursery;
mod oracle;
mod payload;
mod plan;
mod progress;
mod prove;
mod quantiles;
mod range;
mod render;
mod replay;
mod report;
mod resume;
mod run;
mod series;
mod shrink;
mod space;
mod stop;
mod sweep;
mod verdict;
mod watch;
mod worker;

/// The program: returns its exit code.
pub fn main() -> i32 {
    if engine::template::is_template() {
        worker::serve();
    }
    cli::main()
}
