//! The peers that need no other crates.

pub mod ringward;
pub mod stream;
pub mod textbook;

use crate::works::{Entry, entry};

/// All of them, for the worker's table.
pub fn own() -> Vec<Entry> {
    vec![
        entry::<ringward::Full>("ringward"),
        entry::<ringward::Header>("ringward-header"),
        entry::<ringward::Batched>("ringward-batch"),
        entry::<textbook::Textbook>("textbook"),
        entry::<stream::Socket>("socket"),
        entry::<stream::Pipe>("pipe"),
    ]
}
