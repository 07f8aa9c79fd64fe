//! Tests across the crates: one binary, a module a noun.

mod startup;
