//! Integration tests of `ringward`: one binary, a module a noun.

mod bed;
mod kill;
mod look;
mod roundtrip;
mod soak;
mod stop;
mod truncate;
mod usage;
