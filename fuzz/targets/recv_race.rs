//! A thread that rewrites the data and the reader table while a reader decodes them.
//!
//! Invariant: what is handed out under a number is what was pushed under it (nothing is read twice between check and use), numbers
//! grow, and the reader comes to an end, whatever happens to the bytes meanwhile.
//!
//! The input is the script of the other thread: an offset and a value each; it plays it over and over and puts the true bytes back in
//! between, so that the reader meets both.
#![no_main]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use ringward_ring::build::{Place, Prepared, Spec};
use ringward_ring::identity::Owner;
use ringward_ring::reader::Taken;
use ringward_ring::segment::{Access, Joining, Segment};
use ringward_ring::sys::file::Trust;
use ringward_ring::table::{From, ReaderCard, ReaderName};
use ringward_ring::word::{Checksum, Kind, State};
use ringward_ring::writer::Writer;
use rustix::fs::{AtFlags, unlinkat};

const NAME: &str = "race.ring";
const RECORDS: u64 = 40;

fn dir() -> &'static File {
    static DIR: OnceLock<File> = OnceLock::new();
    DIR.get_or_init(|| File::open(std::env::temp_dir()).expect("a folder for temporary files"))
}

fn payload(sequence: u64) -> Vec<u8> {
    vec![sequence as u8 ^ 0x5a; 16 + (sequence as usize * 7) % 60]
}

fuzz_target!(|script: &[u8]| {
    let spec = Spec {
        capacity: 4096,
        record_limit: 512,
        slots: 2,
        checksum: Checksum::FULL,
        schema: 0,
        beat_interval: 0,
        owner: Owner::default(),
        mode: 0o600,
        group: None,
        touch: false,
        no_dump: false,
    };
    let mut prepared = Prepared::build(dir().as_fd(), &spec, 0x1234_5678_9abc_def0).expect("room");
    let place =
        Place { channel: 7, generation: 1, first_sequence: 0, predecessor: None, created: 0, lost_places: false };
    prepared.finish(&place, &[], State::OPEN);
    let segment = Arc::new(prepared.link(dir().as_fd(), NAME).map_err(|(why, _)| why).expect("the name is free"));
    let trust = Trust { uid: rustix::process::geteuid().as_raw(), mode: 0o600 };
    let mine = Segment::attach(dir().as_fd(), NAME, Access::Reader, &trust).expect("it is ours");
    let file = File::options().read(true).write(true).open(std::env::temp_dir().join(NAME)).expect("it is there");
    unlinkat(dir(), NAME, AtFlags::empty()).expect("it is there");
    let (table_at, data_at) = (4096, segment.identity().geometry.data_at());
    let card = ReaderCard {
        kind: Kind::DURABLE,
        name: ReaderName::new("r").expect("a name"),
        pid: 1,
        pid_namespace: 1,
        start: 1,
    };
    let Ok(Joining::Reader(mut reader)) = Arc::new(mine).join(&card, From::Latest) else { panic!("it is open") };
    let mut writer = Writer::new(segment);
    for sequence in 0..RECORDS {
        writer.try_push(9, &payload(sequence)).expect("room");
    }
    let mut truth = vec![0; (data_at + 4096 - table_at) as usize];
    file.read_exact_at(&mut truth, table_at).expect("as long as that");
    let edits: Vec<(usize, u8)> = script
        .chunks_exact(3)
        .map(|edit| (u16::from_le_bytes([edit[0], edit[1]]) as usize % truth.len(), edit[2]))
        .take(64)
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (at, value) in &edits {
                    let _ = file.write_all_at(&[*value], table_at + *at as u64);
                    let _ = file.write_all_at(&truth[*at..=*at], table_at + *at as u64);
                }
                std::thread::yield_now();
            }
        });
        let mut buf = [0; 512];
        let mut next = 0;
        // Each step takes it forward, so there are at most so many.
        for _ in 0..4 * RECORDS {
            match reader.try_recv(&mut buf) {
                Ok(Taken::Record { sequence, record_type, len, .. }) => {
                    assert!(sequence >= next && sequence < RECORDS, "{sequence} after {next}");
                    assert_eq!((record_type, &buf[..len]), (9, &payload(sequence)[..]));
                    next = sequence + 1;
                }
                Ok(Taken::Gap { from, count, .. }) => {
                    assert!(count > 0 && from >= next && from + count <= RECORDS, "{count} from {from}, {next} was next");
                    next = from + count;
                }
                Ok(Taken::Empty | Taken::End { .. }) | Err(_) => break,
            }
            reader.release();
        }
        over.store(true, Ordering::Relaxed);
    });
});
