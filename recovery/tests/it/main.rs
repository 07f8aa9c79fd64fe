//! Integration tests of the recovery crate: one binary, a module a noun.

mod common;
mod life;
mod watchdog;
