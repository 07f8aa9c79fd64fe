//! The peers that need no other crates.

pub mod futex;
pub mod ringward;
pub mod stream;
pub mod textbook;

use crate::works::{Entry, entry, entry_in_place, own as own_works};

/// All of them, for the worker's table.
pub fn own() -> Vec<Entry> {
    vec![
        entry::<ringward::Full>("ringward"),
        entry_in_place::<ringward::Header>("ringward-header"),
        entry::<ringward::Batched>("ringward-batch"),
        Entry { name: "ringward-own", run: own_works },
        entry::<futex::Futex>("futex"),
        entry::<textbook::Textbook>("textbook"),
        entry::<stream::Socket>("socket"),
        entry::<stream::Pipe>("pipe"),
    ]
}
