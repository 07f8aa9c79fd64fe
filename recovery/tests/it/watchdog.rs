//! The watchdog: what it concludes, what it takes away, and above all what it leaves alone.

use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Done, Durability, Event, From, OpenError, Outcome, Report, Verdict, Warmth, Watchdog,
};
use ringward_ring::memory::Memory as _;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::word::{SegmentId, State, SuccessorWord};
use rustix::fd::AsFd;

use crate::common::{Bed, all, config, durable};

fn reclaim(bed: &Bed, grace: Duration) -> Report {
    Watchdog::builder(&bed.namespace).action(Action::Reclaim).grace(grace).build().tick()
}

fn verdict(report: &Report) -> (Verdict, &Done) {
    assert_eq!(report.notices.len(), 1, "{report:?}");
    (report.notices[0].verdict, &report.notices[0].done)
}

fn entries(bed: &Bed) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(bed.namespace.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_living_channel_is_left_alone() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    for _ in 0..3 {
        assert_eq!(verdict(&reclaim(&bed, Duration::ZERO)), (Verdict::Live, &Done::Nothing));
    }
    assert_eq!(writer.push(0, b"x").unwrap(), 0);
}

#[test]
fn an_orphan_is_taken_away_after_its_grace_and_not_before() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    let hour = Duration::from_secs(3600);
    assert_eq!(verdict(&reclaim(&bed, hour)), (Verdict::OrphanedInGrace, &Done::Nothing));
    let second = reclaim(&bed, hour);
    assert_eq!(verdict(&second), (Verdict::OrphanedInGrace, &Done::Nothing));
    assert!(second.notices[0].evidence.orphaned_for.unwrap() > Duration::ZERO, "the mark outlives the watchdog");
    let third = reclaim(&bed, Duration::ZERO);
    assert!(matches!(verdict(&third), (Verdict::Orphaned, Done::Reclaimed { bytes: 4096.. })), "{third:?}");
    assert_eq!(entries(&bed), [] as [&str; 0]);
    assert_eq!(channel.writer().unwrap().next_sequence(), 0, "a new channel begins");
}

#[test]
fn somebody_coming_back_stops_the_grace() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    reclaim(&bed, Duration::from_secs(3600));
    let reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    assert_eq!(verdict(&reclaim(&bed, Duration::ZERO)), (Verdict::Draining, &Done::Nothing));
    drop(reader);
    let report = reclaim(&bed, Duration::from_secs(3600));
    assert_eq!(verdict(&report), (Verdict::OrphanedInGrace, &Done::Nothing));
    assert_eq!(report.notices[0].evidence.orphaned_for, Some(Duration::ZERO), "the mark was taken away");
}

#[test]
fn a_durable_reader_keeps_what_it_has_not_read_until_it_expires() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    writer.push(0, b"kept").unwrap();
    drop(writer);
    for _ in 0..3 {
        assert_eq!(verdict(&reclaim(&bed, Duration::ZERO)), (Verdict::Draining, &Done::Nothing));
    }
    let (records, events) = all(&mut durable(&channel, "d"));
    assert_eq!(records, [(0, b"kept".to_vec())]);
    assert_eq!(events, [Event::WriterGone { generation: 1 }]);
    let mut expiring = Watchdog::builder(&bed.namespace)
        .action(Action::Reclaim)
        .grace(Duration::ZERO)
        .expire_durable(Duration::ZERO)
        .build();
    assert!(matches!(verdict(&expiring.tick()), (Verdict::Orphaned, Done::Reclaimed { .. })));
    assert_eq!(entries(&bed), [] as [&str; 0]);
}

#[test]
fn a_parked_standby_is_somebody() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
    drop(writer);
    assert_eq!(verdict(&reclaim(&bed, Duration::ZERO)), (Verdict::Draining, &Done::Nothing));
    assert!(matches!(standby.wait(Duration::from_secs(60)).unwrap(), Outcome::Elected(_)));
}

#[test]
fn report_only_changes_nothing() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    std::fs::create_dir(bed.namespace.path().join(".birth-0123456789abcdef")).unwrap();
    let before = entries(&bed);
    let report = Watchdog::builder(&bed.namespace).grace(Duration::ZERO).build().tick();
    assert_eq!(verdict(&report), (Verdict::Orphaned, &Done::Nothing));
    assert_eq!(entries(&bed), before);
    assert_eq!(bed.names(), ["00000001.ring"]);
}

#[test]
fn quarantine_keeps_the_bytes() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"evidence").unwrap();
    drop(writer);
    let report = Watchdog::builder(&bed.namespace).action(Action::Quarantine).grace(Duration::ZERO).build().tick();
    let (Verdict::Orphaned, Done::Quarantined { name }) = verdict(&report) else { panic!("{report:?}") };
    assert_eq!(entries(&bed), [name.as_str()]);
    let bytes = std::fs::read(bed.namespace.path().join(name)).unwrap();
    assert!(bytes.windows(8).any(|w| w == b"evidence"));
    assert_eq!(channel.writer().unwrap().generation(), 1);
}

#[test]
fn births_that_died_are_removed_and_one_that_goes_on_is_not() {
    let bed = Bed::new();
    let died = bed.namespace.path().join(".birth-0000000000000001");
    let living = bed.namespace.path().join(".birth-0000000000000002");
    std::fs::create_dir(&died).unwrap();
    std::fs::write(died.join("00000001.ring"), b"half").unwrap();
    std::fs::create_dir(&living).unwrap();
    let held = std::fs::File::open(&living).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(reclaim(&bed, Duration::ZERO).births, 1);
    assert_eq!(entries(&bed), [".birth-0000000000000002"]);
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let bed = Bed::new();
    let ns = bed.namespace.path();
    std::fs::write(ns.join("file"), b"somebody's").unwrap();
    symlink("/etc", ns.join("link")).unwrap();
    std::fs::create_dir(ns.join("dir")).unwrap();
    std::fs::write(ns.join("dir/notes.txt"), b"somebody's").unwrap();
    std::fs::create_dir(ns.join("odd")).unwrap();
    std::fs::write(ns.join("odd/00000001.ring"), b"no segment at all, but long enough for one".repeat(20)).unwrap();
    let before = entries(&bed);
    reclaim(&bed, Duration::ZERO);
    assert!(ns.join("dir/notes.txt").exists(), "somebody's file was removed");
    let report = reclaim(&bed, Duration::from_secs(3600));
    assert_eq!(entries(&bed), before);
    let of = |name: &str| report.notices.iter().find(|n| n.channel == name).unwrap().verdict;
    assert_eq!((of("file"), of("link")), (Verdict::Foreign, Verdict::Foreign));
    assert_eq!(std::fs::read(ns.join("dir/notes.txt")).unwrap(), b"somebody's");
}

#[test]
fn a_cut_orphan_is_taken_away_and_a_cut_living_one_is_not() {
    for cut in [0, 12, 128, 4096, 16383] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let writer = channel.writer().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(bed.namespace.path().join("c/00000001.ring")).unwrap();
        file.set_len(cut).unwrap();
        let report = reclaim(&bed, Duration::ZERO);
        assert_eq!(verdict(&report), (Verdict::Truncated, &Done::Nothing), "cut to {cut}");
        drop(writer);
        let report = reclaim(&bed, Duration::ZERO);
        assert!(matches!(verdict(&report), (Verdict::Truncated, Done::Reclaimed { .. })), "{report:?}");
        assert_eq!(entries(&bed), [] as [&str; 0]);
    }
}

/// Stores a state that nobody knows into generation 1.
fn spoil_state(bed: &Bed) {
    let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
    let segment = Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap();
    (&segment).page().succession.state.store(0x1234_5678, std::sync::atomic::Ordering::SeqCst);
}

#[test]
fn an_orphan_of_unknown_state_is_taken_away_after_its_grace_and_not_before() {
    for action in [Action::Reclaim, Action::Quarantine] {
        let bed = Bed::new();
        let mut writer = bed.channel(config()).writer().unwrap();
        writer.push(0, b"x").unwrap();
        drop(writer);
        spoil_state(&bed);
        let look = |action, grace| Watchdog::builder(&bed.namespace).action(action).grace(grace).build().tick();
        let hour = Duration::from_secs(3600);
        assert_eq!(verdict(&look(Action::Report, Duration::ZERO)), (Verdict::Corrupt, &Done::Nothing));
        assert_eq!(verdict(&look(action, hour)), (Verdict::Corrupt, &Done::Nothing));
        let marked = look(action, hour);
        assert_eq!(verdict(&marked), (Verdict::Corrupt, &Done::Nothing));
        assert!(marked.notices[0].evidence.orphaned_for.unwrap() > Duration::ZERO, "the mark outlives the watchdog");
        // Who only has it mapped holds no lock, and keeps his memory whatever becomes of the name.
        let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
        let onlooker = Segment::attach(dir.as_fd(), "00000001.ring", Access::Inspect, bed.namespace.trust()).unwrap();
        let report = look(action, Duration::ZERO);
        match (action, verdict(&report)) {
            (Action::Reclaim, (Verdict::Corrupt, Done::Reclaimed { bytes: 4096.. })) => {
                assert_eq!(entries(&bed), [] as [&str; 0]);
            }
            (_, (Verdict::Corrupt, Done::Quarantined { name })) => assert_eq!(entries(&bed), [name.as_str()]),
            other => panic!("{other:?}"),
        }
        assert!((&onlooker).page().cursor.cursor.position.load(std::sync::atomic::Ordering::Acquire) > 0);
        assert!(!(&onlooker).poisoned());
    }
}

#[test]
fn one_of_unknown_state_that_is_somebodys_is_left_alone() {
    type Keep = Box<dyn std::any::Any>;
    let hold: [fn(&Bed, &Channel) -> Keep; 4] = [
        |_, channel| Box::new(channel.writer().unwrap()),
        |_, channel| {
            let writer = channel.writer().unwrap();
            let reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
            drop(writer);
            Box::new(reader)
        },
        |bed, channel| {
            drop(channel.writer().unwrap());
            let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
            let starter =
                Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap();
            assert!(starter.lock_presence().unwrap());
            Box::new(starter)
        },
        |_, channel| {
            let writer = channel.writer().unwrap();
            drop(durable(channel, "d"));
            drop(writer);
            Box::new(())
        },
    ];
    for (who, hold) in hold.into_iter().enumerate() {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let kept = hold(&bed, &channel);
        spoil_state(&bed);
        for _ in 0..3 {
            assert_eq!(verdict(&reclaim(&bed, Duration::ZERO)), (Verdict::Corrupt, &Done::Nothing), "{who}");
        }
        assert_eq!(bed.names(), ["00000001.ring"], "{who}");
        drop(kept);
    }
}

#[test]
fn a_decided_retirement_is_finished_by_whoever_comes() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"old").unwrap();
    drop(writer);
    // A watchdog that died right after its decision.
    let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
    let segment = Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap();
    segment.alone().unwrap().unwrap().retire().unwrap();
    drop(segment);
    assert!(matches!(
        channel.reader("late", Durability::Durable, From::Oldest),
        Err(OpenError::Missing { .. } | OpenError::Busy { .. })
    ));
    let mut writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (1, 0), "a new channel");
    writer.push(0, b"new").unwrap();
    drop(writer);
    let segment = {
        let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
        Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap()
    };
    segment.alone().unwrap().unwrap().retire().unwrap();
    drop(segment);
    let report = reclaim(&bed, Duration::ZERO);
    assert!(matches!(verdict(&report), (Verdict::Orphaned, Done::Reclaimed { .. })), "{report:?}");
}

/// Generation 1, attached without a lock.
fn nobodys(bed: &Bed) -> Arc<Segment> {
    let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
    Arc::new(Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap())
}

/// The decision is in the successor word; whoever took it died before it could say so in the state.
#[test]
fn a_retirement_that_only_its_word_tells_is_finished_by_whoever_comes() {
    let decided = |bed: &Bed| {
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        writer.push(0, b"old").unwrap();
        drop(writer);
        let segment = nobodys(bed);
        segment.page().succession.successor.store(SuccessorWord::NOBODY.0, Ordering::SeqCst);
        assert_eq!(succession::state(&segment), State::OPEN);
        channel
    };
    // Who wants to read finds nothing there, and a starter begins anew.
    let bed = Bed::new();
    let channel = decided(&bed);
    for durability in [Durability::Durable, Durability::Ephemeral] {
        let late = channel.reader("late", durability, From::Oldest);
        assert!(matches!(late, Err(OpenError::Missing { .. })), "{late:?}");
    }
    let mut writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (1, 0), "a new channel");
    writer.push(0, b"new").unwrap();
    let mut reader = channel.reader("e", Durability::Ephemeral, From::Oldest).unwrap();
    assert_eq!(all(&mut reader).0, [(0, b"new".to_vec())]);
    // A watchdog, which waits for no grace: it was decided.
    let bed = Bed::new();
    decided(&bed);
    let report = reclaim(&bed, Duration::from_secs(3600));
    assert!(matches!(verdict(&report), (Verdict::Orphaned, Done::Reclaimed { .. })), "{report:?}");
    assert_eq!(entries(&bed), [] as [&str; 0]);
}

/// It names a segment that has no name, or nothing that can be: neither keeps what is nobody's.
#[test]
fn what_names_a_lost_successor_or_no_segment_at_all_is_retired() {
    for word in [SegmentId::from_random(1 << 40).0, 0x1234] {
        let bed = Bed::new();
        drop(bed.channel(config()).writer().unwrap());
        nobodys(&bed).page().succession.successor.store(word, Ordering::SeqCst);
        let report = reclaim(&bed, Duration::ZERO);
        let (found, done) = verdict(&report);
        assert!(matches!(done, Done::Reclaimed { .. }), "{word:x}, {found}: {done:?}");
        assert_eq!(bed.namespace.channels().unwrap(), [] as [&str; 0]);
    }
}

/// An orphan's data is zeros before its name goes, if that was asked for.
#[test]
fn an_orphan_is_wiped_when_that_is_asked_for() {
    use std::os::unix::fs::FileExt;
    for wipe in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut files = Vec::new();
        for generation in 1..=2 {
            let mut writer = channel.writer().unwrap();
            if generation == 1 {
                drop(durable(&channel, "d")); // away, it keeps the older generation until it expires
            }
            writer.push(0, b"a secret").unwrap();
            files.push(std::fs::File::open(bed.namespace.path().join(format!("c/{generation:08}.ring"))).unwrap());
        }
        let mut watchdog = Watchdog::builder(&bed.namespace)
            .action(Action::Reclaim)
            .grace(Duration::ZERO)
            .expire_durable(Duration::ZERO)
            .wipe(wipe)
            .build();
        let report = watchdog.tick();
        assert!(matches!(verdict(&report), (Verdict::Orphaned, Done::Reclaimed { .. })), "{report:?}");
        for file in files {
            let mut bytes = vec![0; 1 << 16];
            let got = file.read_at(&mut bytes, 0).unwrap();
            let found = bytes[..got].windows(8).any(|w| w == b"a secret");
            assert_eq!(found, !wipe, "wipe: {wipe}");
        }
    }
}

/// A writer that holds its lock, promised beats and does not beat: its reader is told once, and again after it has beaten.
#[test]
fn a_reader_is_told_of_a_silent_writer_once_until_it_beats_again() {
    let bed = Bed::new();
    let (beat, stall) = (Duration::from_millis(1), Duration::from_millis(5));
    let channel = bed.channel(config().beat_interval(beat).stall_timeout(stall));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"0").unwrap();
    assert_eq!(all(&mut reader).0.len(), 1);
    // Its thread ends with it; somebody else has its lock, and beats as we like.
    drop(writer);
    let holder = nobodys(&bed);
    assert!(holder.lock_writer().unwrap());
    let mut told = |what: &str| {
        let event = reader.recv(&mut [0; 8], Duration::from_secs(60)).unwrap();
        assert_eq!(event, Some(Event::Stalled { generation: 1 }), "{what}");
        assert_eq!(event.unwrap().id(), "RW-EV-STALLED");
        assert_eq!(reader.recv(&mut [0; 8], Duration::from_millis(400)).unwrap(), None, "{what}: once");
    };
    told("silent from the beginning");
    ringward_ring::writer::beat(&holder, 0);
    told("silent again");
}

#[test]
fn a_vanished_channel_is_told_once() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&notices);
    let mut watchdog = Watchdog::builder(&bed.namespace)
        .on_notice(move |notice| told.lock().unwrap().push((notice.id, notice.channel.clone())))
        .build();
    watchdog.tick();
    std::fs::remove_dir_all(bed.namespace.path().join("c")).unwrap();
    watchdog.tick();
    watchdog.tick();
    let want = [("RW-WD-LIVE", "c".to_owned()), ("RW-WD-VANISHED", "c".to_owned())];
    assert_eq!(*notices.lock().unwrap(), want);
    drop(writer);
}

#[test]
fn a_panicking_callback_does_not_stop_it() {
    let bed = Bed::new();
    drop(bed.channel(config()).writer().unwrap());
    let mut watchdog = Watchdog::builder(&bed.namespace)
        .action(Action::Reclaim)
        .grace(Duration::ZERO)
        .on_notice(|_| panic!("the host's bug"))
        .build();
    watchdog.tick();
    assert_eq!(entries(&bed), [] as [&str; 0]);
}

#[test]
fn it_runs_as_a_thread_and_stops_when_told() {
    let bed = Bed::new();
    let channel: Channel = bed.channel(config());
    drop(channel.writer().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let handle = Watchdog::builder(&bed.namespace)
        .action(Action::Reclaim)
        .grace(Duration::ZERO)
        .interval(Duration::from_millis(5))
        .on_notice(move |notice| tell.send(notice.id).unwrap_or(()))
        .build()
        .spawn()
        .unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), "RW-WD-RECLAIMED");
    handle.stop();
    assert!(told.recv().is_err(), "its callback went with it");
}
