//! The `chaos` program, run as a user would.

mod prove;
mod run;
mod sweep;
