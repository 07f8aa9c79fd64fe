//! A writer whose names were taken away from outside, with nothing cut: everybody still has the memory, and nothing may be lost.

use std::time::Duration;

use ringward_recovery::{Config, Event, Heal, SendError};
use ringward_ring::writer::PushError;

use crate::attacks::{Alarm, push_text, reclaim, take, text, wait_until};
use crate::common::{Bed, config, durable};

fn healing() -> Config {
    config().heal(Heal::LostMemory)
}

/// The next generation is in the old directory, and readers come over when they have drained the old one.
#[test]
fn a_writer_whose_segment_was_unlinked_goes_on_in_the_next_generation() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut writer = bed.channel(healing()).writer().unwrap();
    let mut reader = durable(&bed.channel(healing()), "d");
    push_text(&mut writer, 0..3);
    assert!(!writer.tend().unwrap(), "nothing is wrong yet");
    std::fs::remove_file(bed.path(1)).unwrap();
    assert!(writer.tend().unwrap());
    assert_eq!((writer.generation(), writer.next_sequence(), writer.heals()), (2, 3, 1));
    assert_eq!(bed.names(), ["00000002.ring"]);
    push_text(&mut writer, 3..5);
    assert_eq!(take(&mut reader, 5), (text(0..5), vec![Event::Restarted { old: 1, new: 2 }]));
    reader.forget();
    drop(writer);
    reclaim(&bed.namespace);
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// The whole directory is gone: the channel goes on in a new one, and who reads finds it there.
#[test]
fn a_writer_whose_directory_was_removed_makes_it_anew() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut writer = bed.channel(healing()).writer().unwrap();
    let mut reader = durable(&bed.channel(healing()), "d");
    push_text(&mut writer, 0..3);
    std::fs::remove_dir_all(bed.namespace.path().join("c")).unwrap();
    assert!(writer.tend().unwrap());
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 3));
    assert_eq!(bed.namespace.channels().unwrap(), ["c"]);
    assert_eq!(bed.names(), ["00000002.ring"]);
    push_text(&mut writer, 3..5);
    assert_eq!(take(&mut reader, 5), (text(0..5), vec![Event::Restarted { old: 1, new: 2 }]));
    reader.forget();
    drop(writer);
    reclaim(&bed.namespace);
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// Somebody else has the name by then: that is another channel, which is left alone, and the old writer is told.
#[test]
fn a_writer_whose_name_has_gone_to_another_channel_does_not_come_back() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut old = bed.channel(healing()).writer().unwrap();
    push_text(&mut old, 0..3);
    std::fs::remove_dir_all(bed.namespace.path().join("c")).unwrap();
    let mut new = bed.channel(healing()).writer().unwrap();
    let mut reader = durable(&bed.channel(healing()), "d");
    assert_eq!((new.generation(), new.next_sequence()), (1, 0), "another channel");
    let told = old.tend().unwrap_err();
    assert!(matches!(told, SendError::Push(PushError::Truncated)), "{told}");
    assert_eq!(bed.names(), ["00000001.ring"]);
    push_text(&mut new, 0..2);
    assert_eq!(take(&mut reader, 2), (text(0..2), vec![]));
}

/// Nobody asks it to tend: its thread notices, and the next push of either kind goes to the next generation.
#[test]
fn a_writer_that_beats_notices_by_itself_that_it_was_unlinked() {
    let _alarm = Alarm::new();
    for waits in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(healing().beat_interval(Duration::from_millis(1)));
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..3);
        std::fs::remove_file(bed.path(1)).unwrap();
        assert_eq!(take(&mut reader, 3).0, text(0..3));
        let (mut next, mut restarted) = (3, Vec::new());
        wait_until("it notices", || {
            let text = next.to_string();
            let pushed = if waits { writer.push(0, text.as_bytes()) } else { writer.try_push(0, text.as_bytes()) };
            assert_eq!(pushed.unwrap(), next);
            let (records, events) = take(&mut reader, 1);
            assert_eq!(records, [(next, text.into_bytes())], "nothing is lost");
            restarted.extend(events);
            next += 1;
            writer.generation() == 2
        });
        assert_eq!(restarted, [Event::Restarted { old: 1, new: 2 }]);
    }
}

/// It only reports: nothing is done, the writer says so each time it is asked, and what it pushes still reaches who reads.
#[test]
fn a_writer_that_only_reports_stays_where_it_is() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    std::fs::remove_file(bed.path(1)).unwrap();
    for _ in 0..2 {
        assert!(writer.tend().is_err());
    }
    assert_eq!((writer.generation(), writer.heals()), (1, 0));
    assert_eq!(bed.names(), [] as [&str; 0]);
    push_text(&mut writer, 0..2);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
}
