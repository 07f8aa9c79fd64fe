//! Tests across crates: the documents against the code, and promises that only several crates together keep.

mod startup;
mod architecture;
mod documents;
mod losses;
mod readme;
mod runbook;
