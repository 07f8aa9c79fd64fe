//! Tests across crates: the documents against the code, and promises that only several crates together keep.

mod losses;
