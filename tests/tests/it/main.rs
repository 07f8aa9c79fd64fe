//! Tests across crates: the documents against the code, and promises that only several crates together keep.

mod architecture;
mod documents;
mod losses;
mod readme;
mod runbook;
mod security;
mod startup;
