//! A process that can't look at what it finds: no descriptors, no memory, an I/O error. It is told so, and concludes nothing from it.
//!
//! What could not be opened is neither broken nor gone. Taken for broken it would be followed without its end, passed over by a
//! reader, or joined anew by one that has its place in it. `chaos sweep --mode errno` does the same for every operation.

use nix::errno::Errno;
use nix::libc;
use ringward_recovery::{Durability, Event, From};
use rstest::rstest;

use crate::attacks::{Alarm, push_text, skip, take, text};
use crate::attacks_child::{At, Traced};
use crate::common::{Bed, all, config, durable, numbers};

/// What these calls may say about a file that is as it should be.
fn of_the_system(call: i64) -> Option<Errno> {
    match call {
        libc::SYS_openat => Some(Errno::EMFILE),
        libc::SYS_pread64 => Some(Errno::EIO),
        libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_statx => Some(Errno::ENOMEM),
        _ => None,
    }
}

/// A durable reader is away after the first of three records of generation 1, whose writer is dead. Somebody becomes the writer, or
/// comes back as the reader, and one system call fails, each in turn. Then others come to whom none does: they find all of it.
#[rstest]
#[case::of_a_successor("becomes-writer")]
#[case::of_a_reader_that_comes_back("joins")]
fn a_call_that_fails_once_costs_nothing(#[case] role: &str) {
    let _alarm = Alarm::new();
    let mut failed = 0;
    for call in 0.. {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..1);
        assert_eq!(take(&mut reader, 1).0, text(0..1));
        reader.release();
        drop(reader);
        push_text(&mut writer, 1..3);
        writer.abandon();
        let Some(mut kid) = Traced::spawn(role, &bed) else { return skip("tracing is not permitted here") };
        // Entries and exits take turns.
        if !kid.step_to(2 * call) {
            break;
        }
        if !kid.fail(of_the_system) {
            continue;
        }
        failed += 1;
        while kid.step() == At::Call {}
        drop(kid);
        let mut writer = channel.writer().unwrap();
        let next = writer.next_sequence();
        assert!((3..=4).contains(&next), "call {call}: goes on at {next}");
        writer.push(0, b"last").unwrap();
        let mut reader = channel.reader("d", Durability::Durable, From::Latest).unwrap();
        let (records, events) = all(&mut reader);
        assert_eq!(numbers(&records), (1..=next).collect::<Vec<u64>>(), "call {call}: {events:?}");
        let lost = events.iter().any(|event| matches!(event, Event::Gap { .. }));
        assert!(!lost, "call {call}: {events:?}");
    }
    if cfg!(target_arch = "x86_64") {
        assert!(failed > 5, "inconclusive: {failed} calls failed");
    } else {
        skip("calls can be made to fail on x86-64 only");
    }
}
