//! Integration tests of the ring crate: one binary, a module a noun.

mod calls;
mod common;
mod damage;
mod edges;
mod ends;
mod findings;
mod fixtures;
mod format;
mod golden;
mod hostile;
mod join;
mod lend;
mod roundtrip;
mod succession;
