//! The cheap look of a watchdog: it is taken where nothing changes, and sees everything that changes a verdict.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ringward_recovery::{Action, Channel, Config, Durability, From, Report, Verdict, Watchdog, generation_name};

use crate::common::{Bed, config};

/// One that promises no beats is never silent, however slow this machine is.
fn quiet() -> Config {
    config().beat_interval(Duration::ZERO)
}

/// Looks until a glance was enough.
fn until_glanced(watchdog: &mut Watchdog) -> Report {
    let begun = Instant::now();
    loop {
        let report = watchdog.tick();
        if report.glances > 0 {
            return report;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {report:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a look says after `change` was made to a channel that was glanced at.
fn after(
    change: impl FnOnce(&Bed, &Channel, ringward_recovery::Writer) -> Option<ringward_recovery::Writer>,
) -> Verdict {
    let bed = Bed::new();
    let channel = bed.channel(quiet());
    let writer = channel.writer().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).build();
    let report = until_glanced(&mut watchdog);
    assert_eq!((report.notices.len(), report.notices[0].verdict), (1, Verdict::Live));
    let _kept = change(&bed, &channel, writer);
    let report = watchdog.tick();
    assert_eq!(report.notices.len(), 1, "{report:?}");
    report.notices[0].verdict
}

fn file(bed: &Bed, channel: &Channel) -> std::fs::File {
    let path = bed.namespace.path().join(channel.name()).join(generation_name(1));
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_glance_says_what_a_full_look_says_while_nothing_changes() {
    let bed = Bed::new();
    let channel = bed.channel(quiet());
    let mut writer = channel.writer().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).build();
    let full = watchdog.tick();
    let glanced = until_glanced(&mut watchdog);
    let (full, glanced) = (&full.notices[0], &glanced.notices[0]);
    assert_eq!((glanced.verdict, glanced.id, &glanced.done), (full.verdict, full.id, &full.done));
    assert_eq!(
        (glanced.evidence.generation, glanced.evidence.writer_held, glanced.evidence.owner_pid),
        (full.evidence.generation, full.evidence.writer_held, full.evidence.owner_pid)
    );
    writer.push(0, b"x").unwrap();
    assert_eq!(watchdog.tick().notices[0].verdict, Verdict::Live);
}

#[test]
fn a_glance_sees_what_changes_a_verdict() {
    assert_eq!(after(|_, _, writer| Some(writer)), Verdict::Live);
    // The lock.
    assert_eq!(after(|_, _, _| None), Verdict::OrphanedInGrace);
    assert_eq!(after(|_, _, writer| writer.close().map(|()| None).unwrap()), Verdict::OrphanedInGrace);
    // The bytes.
    let cut = |bed: &Bed, channel: &Channel, writer| {
        file(bed, channel).set_len(5000).unwrap();
        Some(writer)
    };
    assert_eq!(after(cut), Verdict::Truncated);
    let flip = |at: u64| {
        move |bed: &Bed, channel: &Channel, writer| {
            file(bed, channel).write_all_at(&[0xaa; 4], at).unwrap();
            Some(writer)
        }
    };
    assert_eq!(after(flip(64)), Verdict::Corrupt, "the identity");
    assert_eq!(after(flip(256)), Verdict::Corrupt, "the state");
    // The names.
    let unlink = |bed: &Bed, channel: &Channel, writer| {
        std::fs::remove_file(bed.namespace.path().join(channel.name()).join(generation_name(1))).unwrap();
        Some(writer)
    };
    assert_eq!(after(unlink), Verdict::OrphanedInGrace, "an empty folder");
    let remove = |bed: &Bed, channel: &Channel, writer| {
        std::fs::remove_dir_all(bed.namespace.path().join(channel.name())).unwrap();
        Some(writer)
    };
    assert_eq!(after(remove), Verdict::Vanished);
    let replace = |bed: &Bed, channel: &Channel, writer| {
        let path = bed.namespace.path().join(channel.name());
        std::fs::rename(&path, bed.namespace.path().join(".away")).unwrap();
        std::fs::write(&path, b"no channel").unwrap();
        Some(writer)
    };
    assert_eq!(after(replace), Verdict::Foreign);
    // The succession.
    let supersede = |_: &Bed, channel: &Channel, writer: ringward_recovery::Writer| {
        let next = channel.supersede().unwrap();
        assert_eq!(next.generation(), 2);
        drop(next);
        Some(writer)
    };
    assert_ne!(after(supersede), Verdict::Live);
}

#[test]
fn silence_is_weighed_in_full() {
    let bed = Bed::new();
    // It promises beats and gives none: their thread sleeps for an hour.
    let channel =
        bed.channel(config().beat_interval(Duration::from_secs(1800)).stall_timeout(Duration::from_secs(3600)));
    let _writer = channel.writer().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).stall_timeout(Duration::from_secs(3600)).build();
    until_glanced(&mut watchdog);
    watchdog.set_up(Watchdog::builder(&bed.namespace).stall_timeout(Duration::from_millis(1)));
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(watchdog.tick().notices[0].verdict, Verdict::Stalled);
}

/// Names are not listed at each look.
#[test]
fn what_comes_and_goes_beside_channels_at_rest_shows_at_the_next_look() {
    let bed = Bed::new();
    let channel = bed.channel(quiet());
    let _writer = channel.writer().unwrap();
    let mut watchdog = Watchdog::builder(&bed.namespace).action(Action::Reclaim).build();
    until_glanced(&mut watchdog);
    let names = |report: &Report| report.notices.iter().map(|notice| notice.channel.clone()).collect::<Vec<_>>();
    for round in 0..3 {
        let other = Channel::new(&bed.namespace, "another", quiet()).unwrap();
        let writer = other.writer().unwrap();
        assert_eq!(names(&watchdog.tick()), ["another", channel.name()], "round {round}");
        drop(writer);
        std::fs::remove_dir_all(bed.namespace.path().join("another")).unwrap();
        let report = watchdog.tick();
        assert_eq!(names(&report), ["another", channel.name()]);
        assert_eq!(report.notices[0].verdict, Verdict::Vanished);
        let report = watchdog.tick();
        assert_eq!((names(&report), report.glances), (vec![channel.name().to_owned()], 1));
    }
    // A birth that died: nobody holds its folder.
    let cradle = bed.namespace.path().join(".birth-0123456789abcdef");
    std::fs::create_dir(&cradle).unwrap();
    assert_eq!(watchdog.tick().births, 1);
    assert!(!cradle.exists());
    // Another choice of channels is made anew.
    watchdog.set_up(Watchdog::builder(&bed.namespace).only(["nothing"]));
    assert_eq!(names(&watchdog.tick())[..], [channel.name().to_owned()], "vanished from its view");
    assert!(watchdog.tick().notices.is_empty());
}

/// What one closes because it looks at a channel anew must not make the other one look anew, and so on for ever.
#[test]
fn two_watchdogs_that_may_write_come_to_rest_beside_each_other() {
    let bed = Bed::new();
    let channel = bed.channel(quiet());
    let _writer = channel.writer().unwrap();
    let mut pair = [(); 2].map(|()| Watchdog::builder(&bed.namespace).action(Action::Reclaim).build());
    pair.iter_mut().for_each(|watchdog| drop(until_glanced(watchdog)));
    let reader = channel.reader("r", Durability::Durable, From::Latest).unwrap();
    let readers =
        |pair: &mut [Watchdog; 2]| pair.each_mut().map(|watchdog| watchdog.tick().notices[0].evidence.readers_held);
    let begun = Instant::now();
    while readers(&mut pair) != [1, 1] {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody saw the reader");
        std::thread::sleep(Duration::from_millis(20));
    }
    let glances = |pair: &mut [Watchdog; 2]| pair.each_mut().map(|watchdog| watchdog.tick().glances);
    glances(&mut pair);
    for round in 0..10 {
        assert_eq!(glances(&mut pair), [1, 1], "round {round}");
    }
    drop(reader);
    assert_eq!(readers(&mut pair), [0, 0], "who leaves is told of");
    assert_eq!(glances(&mut pair), [1, 1]);
}
