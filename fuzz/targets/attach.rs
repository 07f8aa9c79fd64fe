//! Any bytes as a file on tmpfs: attach to it, join, claim, receive everything, end and follow it.
//!
//! Invariant: typed errors or records, in bounded time; never a panic, a signal or a hang, whatever the file says.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringward_ring::checksum::crc32c;
use ringward_ring::layout::IDENTITY_LEN;
use ringward_ring::reader::{Reader, Taken};
use ringward_ring::segment::{Access, Joining, Segment};
use ringward_ring::succession;
use ringward_ring::table::{self, From, ReaderCard, ReaderName};
use ringward_ring::word::Kind;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= IDENTITY_LEN {
        let crc = crc32c(&bytes[..IDENTITY_LEN - 4]);
        bytes[IDENTITY_LEN - 4..IDENTITY_LEN].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(fd) = memfd_create("segment", MemfdFlags::CLOEXEC) else { return };
    let mut file = File::from(fd);
    if file.write_all(&bytes).is_err() {
        return;
    }
    let open = |access| file.try_clone().ok().and_then(|file| Segment::from_file(file, access).ok());
    let card = ReaderCard {
        kind: Kind::DURABLE,
        name: ReaderName::new("fuzz").expect("a good name"),
        pid: 1,
        pid_namespace: 1,
        start: 1,
    };
    for from in [From::Oldest, From::Latest] {
        if let Some(segment) = open(Access::Reader) {
            if let Ok(Joining::Reader(reader)) = Arc::new(segment).join(&card, from) {
                receive(reader);
            }
        }
    }
    for slot in 0..4 {
        if let Some(segment) = open(Access::Reader) {
            if let Ok(reader) = Arc::new(segment).claim(slot, &card) {
                receive(reader);
            }
        }
    }
    if let Some(segment) = open(Access::Successor) {
        let segment = Arc::new(segment);
        let _ = succession::fence_writer(&segment, true);
        let published = succession::published_end(&segment);
        if let Ok(succession_end) = succession::decide_end(&segment, published.map(|mark| mark.position)) {
            if let ringward_ring::word::End::At(position) = succession_end {
                let _ = succession::sequence_at(&segment, position);
            }
        }
        let _ = table::to_carry(&segment);
        let _ = succession::drained(&segment);
        let alone = segment.alone();
        if let Ok(Some(alone)) = alone {
            let _ = alone.durable_reader();
            let _ = alone.retire();
        }
    }
});

fn receive(mut reader: Reader<Arc<Segment>>) {
    let mut buf = vec![0; 1 << 16];
    let capacity = reader.memory().identity().geometry.capacity;
    let mut last = None;
    // Each step must take it forward: there are at most so many records and gaps in a ring.
    for _ in 0..capacity / 16 + 64 {
        match reader.try_recv(&mut buf) {
            Ok(Taken::Record { sequence, .. }) => {
                assert!(last.is_none_or(|last| sequence > last), "{sequence} after {last:?}");
                last = Some(sequence);
            }
            Ok(Taken::Gap { from, count, .. }) => {
                assert!(count > 0);
                assert!(last.is_none_or(|last| from > last), "gap at {from} after {last:?}");
                last = Some(from + (count - 1));
            }
            Ok(Taken::Empty | Taken::End { .. }) | Err(_) => return,
        }
        reader.release();
    }
    panic!("a reader that never comes to an end");
}
