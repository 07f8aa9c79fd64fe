//! A namespace that was removed (logind does so at a logout), and made again by others, under those who have the old one open.

use std::time::{Duration, Instant};

use ringward_recovery::{
    Action, Channel, Durability, Event, From, Lost, Namespace, OpenError, ReceiveError, Verdict, Watchdog,
};

use crate::attacks::{Alarm, LONG, push_text, take, text};
use crate::common::{Bed, config, durable};

/// Removes the namespace; makes it again if it is to be.
fn remove(bed: &Bed, again: bool) -> Option<Namespace> {
    std::fs::remove_dir_all(bed.namespace.path()).unwrap();
    again.then(|| Namespace::builder("test").root(bed.root()).open().unwrap())
}

/// Its writer lives, has promised no beats and has nothing to push: it never notices. Nor can it heal.
#[test]
fn a_reader_in_a_namespace_that_was_removed_is_told_though_its_writer_lives() {
    let _alarm = Alarm::new();
    for again in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..3);
        let new = remove(&bed, again);
        let other = new.map(|new| Channel::new(&new, "c", config()).unwrap().writer().unwrap());
        assert_eq!(take(&mut reader, 3).0, text(0..3), "what it has it gets");
        let begun = Instant::now();
        let gone = loop {
            match reader.recv(&mut [0; 64], Duration::from_millis(200)) {
                Ok(None) if begun.elapsed() < Duration::from_secs(5) => {}
                other => break other,
            }
        };
        assert!(matches!(gone, Err(ReceiveError::Gone { lost: Lost::Unknown { from: 3 } })), "{gone:?}");
        drop(other);
    }
}

/// Moved away, and another has its name: who is together there goes on; who is left there alone is told.
#[test]
fn a_reader_that_is_left_behind_in_a_namespace_that_was_moved_away_is_told() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    std::fs::rename(bed.namespace.path(), bed.root().join("away")).unwrap();
    push_text(&mut writer, 0..1);
    assert_eq!(take(&mut reader, 1).0, text(0..1));
    drop(writer);
    assert!(matches!(reader.recv(&mut [0; 64], LONG).unwrap(), Some(Event::WriterGone { generation: 1 })));
    assert_eq!(reader.recv(&mut [0; 64], Duration::from_millis(200)).unwrap(), None, "nobody has its name yet");
    let mut writer = channel.writer().unwrap();
    let new = Namespace::builder("test").root(bed.root()).open().unwrap();
    push_text(&mut writer, 1..2);
    let (got, _) = take(&mut reader, 1);
    assert_eq!(got, text(1..2), "they are together there");
    drop(writer);
    let other = Channel::new(&new, "c", config()).unwrap().writer().unwrap();
    let gone = loop {
        match reader.recv(&mut [0; 64], LONG) {
            Ok(Some(Event::WriterGone { .. })) => {}
            other => break other,
        }
    };
    assert!(matches!(gone, Err(ReceiveError::Gone { lost: Lost::Nothing })), "{gone:?}");
    drop(other);
}

/// Who waits for a channel to come waits in vain where nothing can come any more.
#[test]
fn who_waits_in_a_namespace_that_was_removed_is_told() {
    let _alarm = Alarm::new();
    for again in [false, true] {
        for before in [false, true] {
            let bed = Bed::new();
            let channel = bed.channel(config());
            let waits = channel.clone();
            let early = before.then(|| remove(&bed, again));
            let (tell, told) = std::sync::mpsc::channel();
            let waiter = std::thread::spawn(move || {
                tell.send(()).unwrap();
                waits.wait_for(Duration::from_secs(5))
            });
            told.recv().unwrap();
            let late = (!before).then(|| remove(&bed, again));
            let new = early.or(late).flatten();
            let writer = new.as_ref().map(|new| Channel::new(new, "c", config()).unwrap().writer().unwrap());
            let waited = waiter.join().unwrap();
            assert!(matches!(waited, Err(OpenError::Missing { .. })), "{again} {before}: {waited:?}");
            drop(writer);
        }
    }
}

/// One that is there is waited in as before.
#[test]
fn a_channel_that_comes_is_still_waited_for() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    assert!(!channel.wait_for(Duration::from_millis(20)).unwrap());
    let waits = channel.clone();
    let waiter = std::thread::spawn(move || waits.wait_for(LONG));
    let writer = channel.writer().unwrap();
    assert!(waiter.join().unwrap().unwrap());
    drop(writer);
}

/// A watchdog opens the namespace anew, and says what went.
#[test]
fn a_watchdog_goes_over_to_the_namespace_that_was_made_again() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let writer = bed.channel(config()).writer().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
    let of = |report: &ringward_recovery::Report| {
        report.notices.iter().map(|n| (n.channel.clone(), n.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(of(&watchdog.tick()), [("c".to_owned(), Verdict::Live)]);
    remove(&bed, false);
    let report = watchdog.tick();
    assert_eq!(of(&report), [("c".to_owned(), Verdict::Vanished)]);
    let report = watchdog.tick();
    assert!(report.error.as_ref().is_some_and(|why| why.contains("RW-NS-MISSING")), "{report:?}");
    assert!(!bed.namespace.path().exists(), "it makes none itself");
    let new = Namespace::builder("test").root(bed.root()).open().unwrap();
    let channel = Channel::new(&new, "d", config()).unwrap();
    let other = channel.writer().unwrap();
    let mut reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    let report = watchdog.tick();
    assert_eq!(of(&report), [("d".to_owned(), Verdict::Live)], "{report:?}");
    assert_eq!(report.error, None);
    // And works there.
    drop(other);
    assert!(matches!(reader.recv(&mut [0; 64], LONG).unwrap(), Some(Event::WriterGone { .. })));
    drop(reader);
    watchdog.tick();
    assert!(std::fs::read_dir(new.path()).unwrap().next().is_none(), "reclaimed");
    drop(writer);
}
