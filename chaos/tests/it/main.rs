//! The `chaos` program, run as a user would.

mod run;
mod sweep;
