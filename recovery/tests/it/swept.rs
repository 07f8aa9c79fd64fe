//! States that `chaos sweep` came to, brought about by hand.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringward_recovery::{Action, Event, Watchdog, generation_name};
use ringward_ring::memory::Memory as _;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::word::State;
use rustix::fd::AsFd;

use crate::attacks::{Alarm, carried, decided_end, follower, push_text, take, text};
use crate::common::{Bed, config, durable};

/// Generation 1 ended, and its successor built: what whoever did it has copied, he has copied.
fn built(bed: &Bed) -> (Arc<Segment>, ringward_ring::build::Prepared) {
    let old = bed.attach(1, Access::Successor);
    assert_eq!(succession::fence_writer(&old, true), Ok(State::OPEN));
    let end = succession::published_end(&old).unwrap();
    succession::decide_end(&old, Some(end.position)).unwrap();
    let prepared = follower(bed, &old, decided_end(&old), &carried(&old));
    (old, prepared)
}

/// The writer died between the checkpoint of its last push and the publication; the reader drained all of it, released it, and
/// died before it was in the next generation. It goes on there, and gets nothing again.
#[test]
fn a_reader_that_had_drained_to_a_dead_writers_checkpoint_goes_on_behind_it() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    let published = writer.segment().page().cursor.cursor.position.load(Ordering::SeqCst);
    push_text(&mut writer, 2..3);
    writer.segment().page().cursor.cursor.position.store(published, Ordering::SeqCst);
    writer.abandon();
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 3..4);
    let mut buf = [0; 64];
    for n in 0..3 {
        let got = reader.recv(&mut buf, Duration::from_secs(5)).unwrap();
        assert!(matches!(got, Some(Event::Record { sequence, .. }) if sequence == n), "{got:?}");
    }
    reader.release();
    assert_eq!(reader.generation(), 1);
    drop(reader);
    assert_eq!(take(&mut durable(&channel, "d"), 1).0, text(3..4));
}

/// The next generation keeps the place already, and the reader has not come over: giving up is giving up there too.
#[test]
fn a_place_that_is_given_up_is_given_up_in_the_next_generation_too() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    drop(writer);
    let writer = channel.writer().unwrap();
    assert_eq!(carried(writer.segment()).len(), 1);
    reader.forget();
    assert_eq!(carried(writer.segment()), []);
}

/// Forgotten after the successor had copied the table, and before it had a name: nobody could clear it there, so whoever confirms it does.
#[test]
fn a_place_forgotten_while_the_next_generation_was_being_built_is_not_in_it() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop((durable(&channel, "d"), durable(&channel, "other")));
    push_text(&mut writer, 0..1);
    drop(writer);
    let (old, prepared) = built(&bed);
    assert!(channel.forget_reader("d").unwrap());
    let dir = bed.dir();
    drop(prepared.link(dir.as_fd(), &generation_name(2)).map_err(|(why, _)| why).unwrap());
    drop(old);
    let writer = channel.writer().unwrap();
    let names: Vec<String> = carried(writer.segment()).iter().map(|place| place.card.name.to_string()).collect();
    assert_eq!(names, ["other"]);
}

/// A candidate was cut before it was confirmed. It is followed by name; what came before it must not stay for ever because nobody
/// was ever named there.
#[test]
fn what_came_before_a_candidate_that_was_cut_is_taken_away_in_the_end() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    drop(writer);
    let (old, prepared) = built(&bed);
    let dir = bed.dir();
    drop(prepared.link(dir.as_fd(), &generation_name(2)).map_err(|(why, _)| why).unwrap());
    drop(old);
    let path = bed.namespace.path().join("c").join(generation_name(2));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    file.set_len(100).unwrap();
    drop(file);
    let writer = channel.writer().unwrap();
    assert_eq!(writer.generation(), 3);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
    reader.forget();
    writer.close().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
    let report = watchdog.tick();
    assert_eq!(bed.names(), Vec::<String>::new(), "{report:?}");
}
