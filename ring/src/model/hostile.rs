//! A peer that breaks the protocol: bytes that change while they are read.

use loom::thread;

use super::heap::{Heap, Wish, payload, push_next};
use super::{Depth, explore};
use crate::reader::{GapReason, Taken};

/// A stray store hits the payload of a published record while its reader takes it. What is handed out was pushed, or
/// nothing is: each byte is read once, and what was verified is what is given away.
#[test]
fn a_payload_changes_while_it_is_read() {
    const OUTCOMES: &[(&str, &str)] = &[
        ("whole", "it was copied before the store"),
        ("lost", "the copy has what the stray store left, and its checksum says so"),
    ];
    explore(Depth::All, OUTCOMES, || {
        let heap = Heap::new(Wish { records: 2, slots: 1, ..Wish::default() });
        let mut reader = heap.reader(0);
        assert_eq!(push_next(&mut heap.writer()), Ok(0));
        let hostile = heap.clone();
        let storing = thread::spawn(move || hostile.scribble());
        let mut buf = [0; 8];
        let taken = reader.try_recv(&mut buf).unwrap();
        storing.join().unwrap();
        match taken {
            Taken::Record { sequence: 0, .. } => {
                assert_eq!(buf, payload(0), "a payload that was never pushed");
                "whole"
            }
            Taken::Gap { from: 0, count: 1, reason: GapReason::Corrupt } => "lost",
            other => panic!("{other:?}"),
        }
        .to_owned()
    });
}
