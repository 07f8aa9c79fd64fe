//! Integration tests of `ringward`: one binary, a module a noun.

mod act;
mod bed;
mod bytes;
mod contrib;
mod daemon;
mod doctor;
mod entries;
mod keep;
mod kill;
mod look;
mod pictures;
mod roundtrip;
mod scene;
mod soak;
mod stop;
mod top;
mod truncate;
mod usage;
mod words;
