//! Integration tests of the ring crate: one binary, a module a noun.

mod common;
mod edges;
mod roundtrip;
