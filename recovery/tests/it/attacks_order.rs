//! What has to come before what: a real process is stopped at every system call on its way, and those words, names and locks are
//! looked at that must not be there yet.

use std::sync::atomic::Ordering;

use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::sys::lock::Held;
use ringward_ring::word::{SlotState, State, Successor};

use crate::attacks::{Alarm, id, push_text, skip};
use crate::attacks_child::{At, DONE, Traced};
use crate::common::{Bed, config, durable};

/// Steps a child through all of its system calls, looking before each; how many there were. `None` where tracing is not
/// permitted.
fn watch(role: &str, bed: &Bed, mut look: impl FnMut(usize)) -> Option<usize> {
    let mut kid = Traced::spawn(role, bed)?;
    let mut calls = 0;
    loop {
        match kid.step() {
            At::Call => look(calls),
            At::Ended(code) => {
                assert_eq!(code, DONE, "the child failed");
                eprintln!("{role}: looked at each of {calls} system calls");
                assert!(calls >= 10, "inconclusive: {calls} calls");
                return Some(calls);
            }
        }
        calls += 1;
    }
}

/// A watchdog that retires a channel: every lock is held before the decision is taken and until the name is gone, and the name
/// goes only after the decision.
#[test]
fn a_watchdog_holds_every_lock_when_it_decides_and_decides_before_it_unlinks() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    drop(bed.channel(config()).writer().unwrap());
    let segment = bed.attach(1, Access::Inspect);
    let mut decided = 0;
    let watched = watch("watches", &bed, |call| {
        let nobody = succession::successor(&segment) == Ok(Successor::Nobody);
        let named = bed.path(1).exists();
        assert!(named || nobody, "call {call}: unlinked before it was decided");
        if nobody && named {
            decided += 1;
            let held = |held: std::io::Result<Held>| held.unwrap() == Held::Exclusive;
            let readers = (0..segment.slots().len()).all(|slot| held(segment.reader_held(slot)));
            assert!(held(segment.writer_held()) && readers, "call {call}: decided without every lock");
        }
    });
    if watched.is_none() {
        return skip("tracing is not permitted here");
    }
    assert!(decided > 0, "inconclusive: it was never seen between the decision and the unlink");
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// Who follows: its generation is open only after the one before it names it.
#[test]
fn a_generation_is_open_only_after_it_was_confirmed() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut old = channel.writer().unwrap();
    push_text(&mut old, 0..2);
    let first = old.segment().clone();
    let mut candidate = 0;
    let watched = watch("supersedes", &bed, |call| {
        if !bed.path(2).exists() {
            return;
        }
        let next = bed.attach(2, Access::Inspect);
        match succession::state(&next) {
            State::CANDIDATE => candidate += 1,
            state => {
                let named = succession::successor(&first);
                assert_eq!(named, Ok(Successor::Segment(id(&next))), "call {call}: {state} before it was confirmed");
            }
        }
    });
    if watched.is_none() {
        return skip("tracing is not permitted here");
    }
    assert!(candidate > 0, "inconclusive: it was never seen as a candidate");
}

/// A reader that moves: it leaves a generation only when it holds its byte in the next one, so that there is no instant in which
/// nobody can see that it lives.
#[test]
fn a_reader_leaves_only_when_it_has_its_place_in_the_next_generation() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let old = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    drop(old);
    let first = bed.attach(1, Access::Inspect);
    let _writer = channel.writer().unwrap();
    let second = bed.attach(2, Access::Inspect);
    let (mut before, mut after) = (0, 0);
    let done = |segment: &Segment| SlotState((&segment).slots()[0].state.load(Ordering::Acquire)) == SlotState::DONE;
    let watched = watch("moves", &bed, |call| {
        if done(&first) {
            after += 1;
            assert_eq!(second.reader_held(0).unwrap(), Held::Exclusive, "call {call}: left without a place to go to");
        } else {
            before += 1;
        }
    });
    if watched.is_none() {
        return skip("tracing is not permitted here");
    }
    assert!(before > 0 && after > 0, "inconclusive: {before} calls before it left, {after} after");
}
