//! Fencing: zombies that publish late, readers that look at the wrong moment, barriers that can't be had.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringward_recovery::{Durability, Event, From, OpenError, SendError};
use ringward_ring::memory::Memory;
use ringward_ring::segment::Access;
use ringward_ring::succession;
use ringward_ring::word::{End, State};
use ringward_ring::writer::PushError;
use rstest::rstest;

use crate::attacks::{
    Alarm, SHORT, Words, carried, decided_end, follower, id, published, push_text, skip, take, text, wait_until,
    writer_cursor,
};
use crate::attacks_child::{DONE, Kid, NOT_HERE};
use crate::common::{Bed, config, durable};

fn is_fenced(result: Result<u64, SendError>) -> bool {
    matches!(result, Err(SendError::Push(PushError::Fenced)))
}

/// The first superseder dies right after `FENCING`, before its barrier; the zombie publishes; a second superseder comes.
#[rstest]
#[case::the_zombie_decides(false)]
#[case::the_first_had_decided(true)]
fn a_second_superseder_meets_what_the_zombie_and_the_first_left(#[case] decided: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut zombie = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut zombie, 0..2);
    let first = bed.attach(1, Access::Successor);
    assert_eq!(succession::shift_state(&first, State::OPEN, State::FENCING), State::OPEN);
    if decided {
        succession::decide_end(&first, succession::published_end(&first).map(|mark| mark.position)).unwrap();
    }
    drop(first);
    let pushed = zombie.push(0, b"2");
    if decided {
        assert!(is_fenced(pushed), "behind the end");
    } else {
        assert_eq!(pushed.unwrap(), 2, "nobody had decided: it did itself, and its record counts");
    }
    assert!(is_fenced(zombie.push(0, b"x")), "its last one in any case");
    let mut next = channel.supersede().unwrap();
    let from = next.next_sequence();
    assert_eq!(from, if decided { 2 } else { 3 });
    push_text(&mut next, from..from + 1);
    let (records, events) = take(&mut reader, from as usize + 1);
    assert_eq!(records, text(0..from + 1));
    assert_eq!(events, [Event::Restarted { old: 1, new: 2 }]);
}

/// The zombie is stopped between its publishing store and its look at the state. A reader that polls all the while sees the late
/// position; it must take nothing while the end is open, and nothing behind it afterwards.
#[test]
fn a_polling_reader_does_not_take_a_zombies_late_record() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut zombie = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut zombie, 0..2);
    let segment = zombie.segment().clone();
    let cursor = writer_cursor(&segment);
    let before = Words::of(cursor);
    push_text(&mut zombie, 2..3);
    let after = Words::of(cursor);
    before.put(cursor); // the record lies there, its publishing store has not happened
    assert_eq!(take(&mut reader, 2).0, text(0..2));
    let successor = bed.attach(1, Access::Successor);
    succession::fence_writer(&successor, false).unwrap();
    after.put(cursor); // now it has
    let mut buf = [0; 64];
    for _ in 0..300 {
        assert_eq!(reader.try_recv(&mut buf).unwrap(), None, "fenced and undecided: take nothing new");
    }
    assert_eq!(succession::decide_end(&successor, Some(before.position())), Ok(End::At(before.position())));
    for _ in 0..300 {
        assert_eq!(reader.try_recv(&mut buf).unwrap(), None, "behind the end");
    }
    assert!(is_fenced(zombie.push(0, b"x")));
    let mut next = channel.supersede().unwrap();
    assert_eq!(next.push(0, b"another 2").unwrap(), 2, "the number is free: nobody was told of the late one");
    assert_eq!(take(&mut reader, 1).0, [(2, b"another 2".to_vec())]);
}

/// The superseder reads the position before the zombie's store, and decides; the zombie then compares, and says `Fenced`.
#[test]
fn the_end_is_decided_once_whoever_asks() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut zombie = channel.writer().unwrap();
    push_text(&mut zombie, 0..3);
    let end = published(zombie.segment());
    let a = bed.attach(1, Access::Successor);
    let b = bed.attach(1, Access::Successor);
    succession::fence_writer(&a, false).unwrap();
    succession::fence_writer(&b, false).unwrap();
    assert_eq!(succession::decide_end(&a, Some(end.position)), Ok(End::At(end.position)));
    assert_eq!(succession::decide_end(&b, Some(end.position - 32)), Ok(End::At(end.position)), "too late");
    assert_eq!(succession::decide_end(&b, None), Ok(End::At(end.position)));
    assert!(is_fenced(zombie.push(0, b"x")));
    assert_eq!(succession::end(&a), Ok(End::At(end.position)));
    assert_eq!(decided_end(&a), end);
}

/// A reader joins after the successor has copied the table: it finds the state and gives its slot back.
#[test]
fn a_reader_that_joins_after_the_table_was_copied_joins_the_next_generation() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..1);
    drop(writer);
    let old = bed.attach(1, Access::Successor);
    succession::fence_writer(&old, true).unwrap();
    succession::decide_end(&old, succession::published_end(&old).map(|mark| mark.position)).unwrap();
    let copied = carried(&old);
    let next = follower(&bed, &old, decided_end(&old), &copied);
    use ringward_recovery::{Durability, From};
    for (name, durability) in [("late", Durability::Durable), ("later", Durability::Ephemeral)] {
        let error = channel.reader(name, durability, From::Oldest).unwrap_err();
        assert!(matches!(error, OpenError::NoWriter { generation: 1 }), "{error}");
    }
    assert_eq!(carried(&old), copied, "no trace of them");
    let next = next.link(rustix::fd::AsFd::as_fd(&bed.dir()), "00000002.ring").map_err(|(why, _)| why).unwrap();
    let next = std::sync::Arc::new(next);
    // A candidate is not joined either, before it is confirmed: the reader confirms it itself.
    let late = channel.reader("late", Durability::Durable, From::Oldest).unwrap();
    assert_eq!(late.generation(), 2);
    assert_eq!(succession::state(&next), State::OPEN);
    assert_eq!(succession::successor(&old), Ok(ringward_ring::word::Successor::Segment(id(&next))));
}

/// A reader that is just joining (provisional, its byte held) has a place in the next generation.
#[test]
fn a_provisional_reader_that_lives_is_carried_and_a_dead_one_is_not() {
    let _alarm = Alarm::new();
    use ringward_recovery::{Durability, From};
    use ringward_ring::word::SlotState;
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    writer.segment().slots()[0].state.store(SlotState::PROVISIONAL.0, Ordering::SeqCst);
    assert_eq!(carried(writer.segment()).len(), 1);
    drop(reader);
    assert_eq!(carried(writer.segment()).len(), 0);
}

/// A superseder that may not issue the barrier refuses, and the living writer does not even notice.
#[test]
fn without_a_barrier_a_living_writer_is_not_ended() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    let mut kid = Kid::spawn_with("seccomp", &bed, "no-membarrier-supersede", &[]);
    match kid.hear() {
        Some(said) => assert_eq!(said, "refused"),
        None => {
            assert_eq!(kid.end().code(), Some(NOT_HERE));
            return skip("no seccomp here");
        }
    }
    assert_eq!(kid.end().code(), Some(DONE));
    assert_eq!(succession::state(writer.segment()), State::OPEN);
    push_text(&mut writer, 1..2);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
}

/// A writer whose process could not register pays for the fence itself: its identity does not promise it, and it is superseded
/// like any other.
#[test]
fn a_writer_that_is_not_registered_for_membarrier_is_fenced_all_the_same() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut kid = Kid::spawn_with("seccomp", &bed, "no-membarrier-write", &[]);
    if kid.hear().as_deref() != Some("ready") {
        assert_eq!(kid.end().code(), Some(NOT_HERE));
        return skip("no seccomp here");
    }
    let old = bed.attach(1, Access::Successor);
    assert!(!old.shape().membarrier);
    let mut reader = durable(&channel, "d");
    for n in ["0", "1"] {
        kid.tell(n);
        kid.expect(n);
    }
    let mut next = channel.supersede().unwrap();
    kid.tell("late");
    kid.expect("fenced");
    push_text(&mut next, 2..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
}

/// The whole succession happens without anybody ringing: a reader that sleeps for a minute notices all the same.
#[test]
fn a_blocking_reader_does_not_miss_a_succession_that_nobody_rang_for() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let zombie = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let old = bed.attach(1, Access::Successor);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut buf = [0; 64];
            loop {
                match reader.recv(&mut buf, Duration::from_secs(3600)).unwrap() {
                    Some(Event::Restarted { old: 1, new: 2 }) => return,
                    Some(Event::WriterGone { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        let waiters = &old.head().data_waiters;
        wait_until("it sleeps", || waiters.load(Ordering::SeqCst) != 0);
        // All steps, and no bell: this superseder dies before each `ring_all`.
        succession::fence_writer(&old, false).unwrap();
        succession::decide_end(&old, Some(0)).unwrap();
        let next = follower(&bed, &old, decided_end(&old), &carried(&old));
        let next = next.link(rustix::fd::AsFd::as_fd(&bed.dir()), "00000002.ring").map_err(|(why, _)| why).unwrap();
        let next = std::sync::Arc::new(next);
        succession::decide_successor(&old, id(&next)).unwrap();
        succession::shift_state(&next, State::CANDIDATE, State::OPEN);
        succession::shift_state(&old, State::FENCING, State::SUCCEEDED);
        sleeper.join().unwrap();
    });
    drop(zombie);
}

/// Two in one process who supersede each other for ever: sequences neither repeat nor skip.
#[test]
fn supersession_back_and_forth_keeps_the_stream_whole() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let mut zombies = Vec::new();
    for n in 0..20 {
        push_text(&mut writer, n..n + 1);
        let next = channel.supersede().unwrap();
        zombies.push(std::mem::replace(&mut writer, next));
        for zombie in &mut zombies {
            assert!(is_fenced(zombie.push(0, b"late")));
        }
    }
    assert_eq!(take(&mut reader, 20).0, text(0..20));
    assert_eq!(reader.recv(&mut [0; 64], SHORT).unwrap(), None);
}

/// Its ring is full when it is fenced, and nobody drains it: it is told that it was fenced, not for ever that there is no room.
#[test]
fn a_fenced_writer_whose_ring_is_full_is_told_so() {
    let _alarm = Alarm::new();
    for durable_too in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut old = channel.writer().unwrap();
        let reader = durable_too.then(|| durable(&channel, "d"));
        let ephemeral = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
        let full = loop {
            if let Err(error) = old.try_push(0, &[0; 100]) {
                break error;
            }
        };
        assert!(matches!(full, SendError::Push(PushError::Full { .. })), "{full}");
        let _next = channel.supersede().unwrap();
        let told = old.try_push(0, b"late").unwrap_err();
        assert!(matches!(told, SendError::Push(PushError::Fenced)), "{told}");
        let told = old.batch().push(0, b"late").unwrap_err();
        assert!(matches!(told, PushError::Fenced), "{told}");
        drop((reader, ephemeral));
    }
}
