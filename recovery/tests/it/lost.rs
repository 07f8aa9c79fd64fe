//! Generations whose named successor has lost its name: somebody removed it, or the name did not reach a disk.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Durability, Event, From, GapReason, Heal, OpenError, SendError, Watchdog, generation_name,
};
use ringward_ring::layout::SUCCESSION_AT;
use ringward_ring::segment::Access;
use ringward_ring::succession;
use ringward_ring::word::State;
use ringward_ring::writer::PushError;
use rstest::rstest;

use crate::attacks::{Alarm, carried, decided_end, elected, follower, push_text, take, text, until, wait_until};
use crate::common::{Bed, config, durable};

/// How far numbers jump where nobody can know which were used.
const JUMP: u64 = 1 << 48;

/// Two generations: a durable reader has its place in the first, with three records; the second has two more, and its name is removed.
fn removed(bed: &Bed) -> Channel {
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    push_text(&mut writer, 0..3);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 3..5);
    drop(writer);
    assert_eq!(bed.names(), [generation_name(1), generation_name(2)]);
    std::fs::remove_file(bed.path(2)).unwrap();
    channel
}

#[rstest]
fn a_channel_whose_newest_generation_was_removed_goes_on(#[values(false, true)] standby: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = removed(&bed);
    let mut writer = match standby {
        true => elected(&channel, ringward_recovery::Warmth::Hot),
        false => channel.writer().unwrap(),
    };
    // The lost one's number stays free.
    assert_eq!((writer.generation(), writer.next_sequence()), (3, 2 * JUMP));
    writer.push(0, b"on").unwrap();
    let mut reader = durable(&channel, "away");
    let (records, events) = take(&mut reader, 4);
    assert_eq!(records[..3], text(0..3));
    assert_eq!(records[3], (2 * JUMP, b"on".to_vec()));
    assert!(events.contains(&Event::Gap { from: 3, count: None, reason: GapReason::Dropped }), "{events:?}");
    // Nothing of it stays behind.
    wait_until("the first is drained and unlinked", || {
        let _ = channel.tidy().unwrap();
        bed.names() == [generation_name(3)]
    });
    writer.close().unwrap();
    until(&mut reader, |event| matches!(event, Event::Closed { .. }));
}

/// Who was in the lost one goes over as well, and has what it held.
#[test]
fn a_reader_of_the_lost_generation_goes_over() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    push_text(&mut writer, 0..3);
    drop(writer);
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("here", Durability::Ephemeral, From::Latest).unwrap();
    push_text(&mut writer, 3..5);
    drop(writer);
    std::fs::remove_file(bed.path(2)).unwrap();
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"on").unwrap();
    let (records, events) = take(&mut reader, 3);
    assert_eq!(records[..2], text(3..5));
    assert_eq!(records[2].0, 2 * JUMP);
    assert!(events.iter().any(|event| matches!(event, Event::Gap { from: 5, count: None, .. })), "{events:?}");
}

/// The lost one's writer lives: whoever of both names generation 3 first has the channel, and the other is told.
#[rstest]
fn the_writer_of_the_lost_generation_and_who_follows_it_do_not_both_write(#[values(false, true)] heals_first: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory));
    let writer = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    drop(writer);
    let mut old = channel.writer().unwrap();
    old.push(0, b"early").unwrap();
    std::fs::remove_file(bed.path(2)).unwrap();
    if heals_first {
        wait_until("it has healed", || {
            let _ = old.tend();
            old.generation() == 3
        });
        assert!(matches!(channel.writer(), Err(OpenError::Owned { generation: 3, .. })));
        assert_eq!(old.push(0, b"on").unwrap(), 1);
        return;
    }
    let mut new = channel.writer().unwrap();
    assert_eq!(new.generation(), 3);
    let end = std::iter::repeat_with(|| old.tend()).find(Result::is_err).unwrap();
    assert!(matches!(end, Err(SendError::Push(PushError::Truncated))), "{end:?}");
    assert_eq!(bed.names(), [generation_name(1), generation_name(3)]);
    new.push(0, b"on").unwrap();
}

/// It was superseded; that the one who did it was lost since does not give the channel back to it.
#[test]
fn a_superseded_writer_does_not_heal_over_a_lost_successor() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory).beat_interval(Duration::ZERO));
    let mut old = channel.writer().unwrap();
    drop(durable(&channel, "away"));
    drop(channel.supersede().unwrap());
    std::fs::remove_file(bed.path(2)).unwrap();
    // So that it finds its memory damaged, and not that it was ended.
    bed.file(1).write_all_at(&[0xff; 4], SUCCESSION_AT as u64).unwrap();
    let end = old.push(0, b"late");
    assert!(matches!(end, Err(SendError::Push(PushError::Damaged { .. }))), "{end:?}");
    assert_eq!(bed.names(), [generation_name(1)]);
    assert_eq!(channel.writer().unwrap().generation(), 3);
}

/// A rival of the lost one, stopped before its `linkat`, finds the name free; it dies before it can withdraw.
#[test]
fn a_rival_that_takes_the_lost_name_is_followed_by_nobody() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = removed(&bed);
    let old = bed.attach(1, Access::Successor);
    let rival = follower(&bed, &old, decided_end(&old), &carried(&old));
    let rival = rival.link(bed.dir().as_fd(), &generation_name(2)).map_err(|(why, _)| why).unwrap();
    assert_eq!(succession::state(&Arc::new(rival)), State::CANDIDATE);
    let writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (3, 2 * JUMP));
    assert_eq!(bed.names(), [generation_name(1), generation_name(3)]);
}

/// Nobody follows it, and its readers never come back: it goes as any other.
#[test]
fn a_channel_whose_newest_generation_was_removed_is_taken_away_when_nobody_wants_it() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    removed(&bed);
    let look = |builder: ringward_recovery::WatchdogBuilder| {
        builder.action(Action::Reclaim).grace(Duration::ZERO).build().tick()
    };
    look(Watchdog::builder(&bed.namespace));
    assert_eq!(bed.names(), [generation_name(1)], "a durable reader will come back");
    look(Watchdog::builder(&bed.namespace).expire_durable(Duration::ZERO));
    assert!(bed.entries().is_empty(), "{:?}", bed.entries());
}
