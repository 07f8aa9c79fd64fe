//! The `chaos` program, run as a user would.

mod common;
mod faults;
mod prove;
mod run;
mod schema;
mod sweep;
