//! Names and rivals: who bears g+1, when the directory itself comes and goes, and who may stand in whose way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringward_recovery::{
    Action, Done, Durability, Event, From, OpenError, Outcome, SendError, Verdict, Warmth, Watchdog, WhenStuck,
    generation_name,
};
use ringward_ring::layout::{PRESENCE_BYTE, WRITER_BYTE};
use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::sys::lock::{self, Mode};
use ringward_ring::word::{State, Successor};
use ringward_ring::writer::PushError;
use rstest::rstest;
use rustix::fd::AsFd;
use rustix::fs::AtFlags;

use crate::attacks::{
    Alarm, LONG, SHORT, carried, decided_end, elected, follower, id, push_text, reclaim, take, text, until, verdict,
};
use crate::attacks_child::Kid;
use crate::common::{Bed, config, durable};

/// A rival for generation 2 that stops before its `linkat`, and wakes when 2 has been born, drained, and unlinked.
#[rstest]
#[case::it_dies_as_a_candidate(State::CANDIDATE)]
#[case::it_dies_while_withdrawing(State::RETIRED)]
fn a_rival_that_links_a_drained_generation_anew_is_followed_by_nobody(#[case] left_as: State) {
    let _alarm = Alarm::new();
    for next in 0..4 {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..2);
        drop(writer);
        // The rival: everything up to step 4, and then it sleeps.
        let old = bed.attach(1, Access::Successor);
        succession::fence_writer(&old, true).unwrap();
        succession::decide_end(&old, succession::published_end(&old).map(|mark| mark.position)).unwrap();
        let rival = follower(&bed, &old, decided_end(&old), &carried(&old));
        // The others go on, twice.
        let mut second = channel.writer().unwrap();
        push_text(&mut second, 2..3);
        drop(second);
        let mut third = channel.writer().unwrap();
        push_text(&mut third, 3..4);
        assert_eq!(take(&mut reader, 4).0, text(0..4));
        assert_eq!(bed.names(), ["00000003.ring"], "1 and 2 are drained and gone: the name 2 is free");
        // It wakes: its linkat succeeds, and only the successor word tells it that it came too late.
        let rival = rival.link(bed.dir().as_fd(), &generation_name(2)).map_err(|(why, _)| why).unwrap();
        let rival = Arc::new(rival);
        let named = succession::decide_successor(&old, id(&rival)).unwrap();
        assert!(matches!(named, Successor::Segment(other) if other != id(&rival)));
        succession::shift_state(&rival, State::CANDIDATE, left_as);
        drop((rival, old));
        assert_eq!(bed.names(), ["00000002.ring", "00000003.ring"]);
        // Whoever comes by takes it away, and nobody joins, ends or succeeds it.
        match next {
            0 => {
                assert!(matches!(channel.writer(), Err(OpenError::Owned { generation: 3, .. })));
                push_text(&mut third, 4..5);
            }
            1 => {
                drop(third);
                third = elected(&channel, Warmth::Cold);
                assert_eq!((third.generation(), third.next_sequence()), (4, 4));
                push_text(&mut third, 4..5);
            }
            2 => {
                drop(reader);
                reader = durable(&channel, "d");
                push_text(&mut third, 4..5);
            }
            _ => {
                assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Live);
                push_text(&mut third, 4..5);
            }
        }
        assert_eq!(take(&mut reader, 1).0, text(4..5));
        channel.tidy().unwrap();
        assert_eq!(bed.names(), [generation_name(third.generation())], "after continuation {next}");
    }
}

/// A watchdog decides, and is stopped before its `unlinkat`; another finishes, and the channel starts again at 1. What the stopped
/// one holds is the old directory.
#[test]
fn a_channel_that_starts_again_at_one_is_out_of_a_stopped_watchdogs_reach() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..3);
    drop(writer);
    let dir = bed.dir();
    let stopped = bed.attach(1, Access::Successor);
    let alone = stopped.alone().unwrap().expect("nobody lives here");
    alone.retire().unwrap();
    // Stopped. All its locks are held, and it would unlink "00000001.ring" and remove "c" next.
    let mut writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (1, 0), "a new channel, under the same names");
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    // It wakes.
    let gone = rustix::fs::unlinkat(&dir, "00000001.ring", AtFlags::empty());
    assert_eq!(gone, Err(rustix::io::Errno::NOENT), "it looks below its own directory");
    assert!(!stopped.bears(dir.as_fd(), "00000001.ring").unwrap());
    let removed = rustix::fs::unlinkat(bed.namespace.dir(), "c", AtFlags::REMOVEDIR);
    assert_eq!(removed, Err(rustix::io::Errno::NOTEMPTY), "a directory with a generation in it stays");
    drop(alone);
    push_text(&mut writer, 1..2);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
    // A rival of the old incarnation has nowhere to link to.
    let late = ringward_ring::build::Prepared::build(dir.as_fd(), &crate::attacks::spec(), 1);
    if let Ok(mut late) = late {
        let identity = *stopped.identity();
        let place = ringward_ring::build::Place {
            channel: identity.channel,
            generation: 2,
            first_sequence: 3,
            predecessor: None,
            created: 0,
            lost_places: false,
        };
        late.finish(&place, &[], State::CANDIDATE);
        assert!(late.link(dir.as_fd(), &generation_name(2)).is_err(), "linkat into a removed directory");
    }
}

/// Parked on the byte of a zombie, which never lets go of it, a standby follows the channel all the same.
#[test]
fn a_standby_that_is_parked_on_a_zombie_follows_the_channel() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut zombie = channel.writer().unwrap();
    push_text(&mut zombie, 0..1);
    let mut standby = channel.standby(Warmth::Cold).unwrap();
    assert!(matches!(standby.wait(SHORT).unwrap(), Outcome::TimedOut));
    drop(channel.supersede().unwrap());
    let Outcome::Elected(third) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    assert_eq!(third.generation(), 3);
    assert!(matches!(zombie.push(0, b"late"), Err(SendError::Push(PushError::Fenced))));
}

/// The lock of a stuck writer's generation means nothing once there is a next one.
#[test]
fn a_zombie_that_holds_its_byte_for_ever_is_in_nobodys_way() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut zombie = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut zombie, 0..2);
    let mut second = channel.supersede().unwrap();
    push_text(&mut second, 2..3);
    // Parked on 2, not on 1.
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    assert!(matches!(standby.wait(SHORT).unwrap(), Outcome::TimedOut));
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    assert_eq!(bed.names(), ["00000002.ring"], "drained and unlinked, its byte 0 held or not");
    assert!(zombie.segment().links().unwrap() == 0);
    drop(second);
    let Outcome::Elected(mut third) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    assert_eq!((third.generation(), third.next_sequence()), (3, 3));
    push_text(&mut third, 3..4);
    assert!(matches!(zombie.push(0, b"late"), Err(SendError::Push(PushError::Fenced))));
    assert_eq!(take(&mut reader, 1).0, text(3..4));
    assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Live);
}

/// The owner is dead; the lock is held by one who was stopped while he looked: a standby that was granted it, or a watchdog
/// with everything locked.
#[rstest]
#[case::standby_beats(false, true)]
#[case::standby_no_beats(false, false)]
#[case::watchdog_beats(true, true)]
#[case::watchdog_no_beats(true, false)]
fn one_stopped_while_holding_byte_0_blocks_no_standby(#[case] watchdog: bool, #[case] beats: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let stall = Duration::from_millis(50);
    let channel = bed.channel(match beats {
        true => config().beat_interval(Duration::from_millis(1)).stall_timeout(stall),
        false => config().stall_timeout(stall),
    });
    let mut kid = Kid::spawn(if beats { "writes-beating" } else { "writes" }, &bed);
    kid.expect("ready");
    let reader = (!watchdog).then(|| durable(&channel, "d"));
    kid.tell("0");
    kid.expect("0");
    kid.kill();
    let stopped = bed.attach(1, Access::Successor);
    let alone = watchdog.then(|| stopped.alone().unwrap().expect("everything is free"));
    if !watchdog {
        assert!(stopped.lock_writer().unwrap());
    }
    // The starter is told, not made to wait; and may take the channel over if told to.
    match channel.writer().unwrap_err() {
        OpenError::Owned { generation: 1, leaked: true, .. } => {}
        other => panic!("{other}"),
    }
    let mut writer = elected(&channel, Warmth::Cold);
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 1));
    assert_eq!(writer.push(0, b"1").unwrap(), 1);
    if let Some(mut reader) = reader {
        assert_eq!(take(&mut reader, 2).0, text(0..2));
    }
    // The watchdog wakes, and finds that somebody follows.
    if let Some(alone) = alone {
        assert!(alone.retire().is_err());
    }
    assert_eq!(writer.push(0, b"2").unwrap(), 2);
}

#[test]
fn a_stopped_watchdogs_locks_are_answered_by_errors_and_passed_by_supersession() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..1);
    drop(writer);
    let stopped = bed.attach(1, Access::Successor);
    let alone = stopped.alone().unwrap().unwrap();
    assert!(matches!(channel.writer(), Err(OpenError::Owned { generation: 1, .. })));
    assert!(matches!(channel.reader("e", Durability::Ephemeral, From::Latest), Err(OpenError::Join(_))));
    assert!(matches!(channel.reader("d", Durability::Durable, From::Latest), Err(OpenError::Join(_))));
    // Another watchdog refuses politely, and does not wait.
    let report = reclaim(channel.namespace());
    assert_eq!(report.notices[0].done, Done::Nothing, "{report:?}");
    let mut writer = channel.supersede().unwrap();
    push_text(&mut writer, 1..2);
    assert!(alone.retire().is_err(), "it wakes too late");
    drop(alone);
    assert!(channel.reader("d", Durability::Durable, From::Latest).is_ok());
}

/// A watchdog that never pauses, against standbys that are parked, elected, parked again: what they live on is never retired.
#[test]
fn a_tight_polling_watchdog_never_retires_what_standbys_are_parked_on() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut watchdog =
                    Watchdog::builder(channel.namespace()).action(Action::Reclaim).grace(Duration::ZERO).build();
                while !stop.load(Ordering::Relaxed) {
                    watchdog.tick();
                }
            });
        }
        // So that a panic ends the watchdogs too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        let mut pushed = 0;
        for round in 0..40 {
            let mut standby = channel.standby(if round % 2 == 0 { Warmth::Hot } else { Warmth::Cold }).unwrap();
            assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
            push_text(&mut writer, pushed..pushed + 1);
            pushed += 1;
            drop(writer);
            let Outcome::Elected(next) = standby.wait(LONG).unwrap() else { panic!("not elected") };
            assert_eq!(next.next_sequence(), pushed, "round {round}: the channel was retired under a parked standby");
            writer = *next;
        }
    });
}

/// Anybody who may read the file can hold byte 0 shared. That is not a writer.
#[rstest]
#[case::before_the_death(true)]
#[case::after_the_death(false)]
fn a_hostile_read_lock_on_byte_0_is_not_a_writer(#[case] before: bool) {
    let _alarm = Alarm::new();
    for standby in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..2);
        let mut parked = channel.standby(Warmth::Hot).unwrap();
        if standby && before {
            assert!(matches!(parked.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
        }
        let path = bed.path(1);
        let hostile = std::fs::File::open(&path).unwrap();
        assert!(!lock::try_lock(hostile.as_fd(), WRITER_BYTE, Mode::Shared).unwrap(), "not beside a living writer");
        if standby && before {
            // It waits for it in the queue, as a standby does.
            let waiter = hostile.try_clone().unwrap();
            let shared = std::thread::spawn(move || {
                while !lock::try_lock(waiter.as_fd(), WRITER_BYTE, Mode::Shared).unwrap() {
                    std::thread::yield_now();
                }
            });
            drop(writer);
            // Whoever gets it first: granted and given back, or never granted. The standby goes on in both cases.
            let Outcome::Elected(next) = parked.wait(LONG).unwrap() else { panic!("not elected") };
            writer = *next;
            shared.join().unwrap();
        } else {
            drop(writer);
            assert!(lock::try_lock(hostile.as_fd(), WRITER_BYTE, Mode::Shared).unwrap());
            assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Draining, "not live: a reader will be back");
            writer = if standby { elected(&channel, Warmth::Hot) } else { channel.writer().unwrap() };
        }
        assert_eq!(writer.next_sequence(), 2);
        push_text(&mut writer, 2..3);
        assert_eq!(take(&mut reader, 3).0, text(0..3));
    }
}

/// As above, but the read lock is there for certain while the standby is parked: the kernel will never grant it byte 0.
#[test]
fn a_read_lock_that_keeps_the_kernel_from_granting_byte_0_does_not_keep_the_standby() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    let mut standby = channel.standby(Warmth::Cold).unwrap();
    assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
    // The writer's own description turns its exclusive lock into a shared one, in one step: nobody else can get in between. It
    // is as if the writer had died with a reader's lock next in the queue.
    assert!(lock::try_lock(writer.segment().file().as_fd(), WRITER_BYTE, Mode::Shared).unwrap());
    let Outcome::Elected(mut next) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    push_text(&mut next, 2..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    assert!(matches!(writer.push(0, b"late"), Err(SendError::Push(PushError::Fenced))));
}

/// A hostile lock on the presence byte gates nobody either.
#[test]
fn a_stopped_watchdogs_presence_byte_is_no_gate_for_a_starter() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    let stopped = bed.attach(1, Access::Successor);
    assert!(lock::try_lock(stopped.file().as_fd(), PRESENCE_BYTE, Mode::Exclusive).unwrap());
    let writer = channel.writer().unwrap();
    assert_eq!(writer.generation(), 2);
    drop(writer);
    assert_eq!(elected(&channel, Warmth::Hot).generation(), 3);
}

/// Watchdogs that live for one look each, as a timer starts them: the grace runs on between them.
#[test]
fn one_shot_watchdogs_share_one_grace() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    let grace = Duration::from_millis(50);
    let begun = std::time::Instant::now();
    let mut last = None;
    loop {
        let report = Watchdog::builder(&bed.namespace).action(Action::Reclaim).grace(grace).build().tick();
        let notice = &report.notices[0];
        let age = notice.evidence.orphaned_for.unwrap();
        assert!(last.is_none_or(|last| age > last), "{age:?} after {last:?}: the grace began anew");
        assert_eq!(age.is_zero(), last.is_none());
        last = Some(age);
        if matches!(notice.done, Done::Reclaimed { .. }) {
            assert!(age >= grace && begun.elapsed() >= grace, "{age:?}");
            break;
        }
        assert_eq!(notice.verdict, Verdict::OrphanedInGrace);
        assert!(begun.elapsed() < LONG);
    }
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

fn half_built(bed: &Bed) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = bed.namespace.path().join("c/.tmp-0123456789abcdef");
    std::fs::write(&path, b"half a segment").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What a crash in the fallback without `O_TMPFILE` leaves: a temporary name in the channel's directory.
#[test]
fn a_temporary_name_that_a_crash_left_is_swept_and_bricks_nothing() {
    let _alarm = Alarm::new();
    for standby in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        push_text(&mut writer, 0..1);
        half_built(&bed);
        drop(writer);
        let report = reclaim(channel.namespace());
        assert!(matches!(report.notices[0].done, Done::Reclaimed { .. }), "{report:?}");
        assert_eq!(bed.entries(), [] as [&str; 0]);
        let writer = if standby { elected(&channel, Warmth::Cold) } else { channel.writer().unwrap() };
        assert_eq!((writer.generation(), writer.next_sequence()), (1, 0));
    }
}

/// A temporary file whose maker lives is left alone.
#[test]
fn a_temporary_name_of_a_living_builder_is_left_alone() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let _writer = channel.writer().unwrap();
    let path = half_built(&bed);
    let maker = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert!(lock::try_lock(maker.as_fd(), WRITER_BYTE, Mode::Exclusive).unwrap());
    reclaim(channel.namespace());
    channel.tidy().unwrap();
    assert!(path.exists());
    drop(maker);
    reclaim(channel.namespace());
    assert!(!path.exists(), "swept once its maker is gone");
}

/// A foreign file in a channel's directory without generations: not ours to remove, and said so.
#[test]
fn a_foreign_file_where_the_channel_is_to_be_is_an_error_that_says_so() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    std::fs::create_dir(bed.namespace.path().join("c")).unwrap();
    std::fs::write(bed.namespace.path().join("c/notes"), b"somebody's").unwrap();
    match channel.writer().unwrap_err() {
        OpenError::Squatted { channel, .. } => assert_eq!(channel, "c"),
        other => panic!("{other}"),
    }
    assert!(bed.namespace.path().join("c/notes").exists());
}

/// A writer that promised no beats and says nothing is never taken for a stuck one.
#[test]
fn a_quiet_writer_that_promised_no_beats_is_left_in_peace() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().stall_timeout(Duration::ZERO).when_stuck(WhenStuck::Supersede));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let mut standby = channel.standby(Warmth::Cold).unwrap();
    for _ in 0..5 {
        assert!(matches!(standby.wait(SHORT).unwrap(), Outcome::TimedOut));
    }
    assert_eq!(take(&mut reader, 0).1, [], "no `Stalled`");
    let mut watchdog = Watchdog::builder(&bed.namespace).action(Action::Reclaim).stall_timeout(Duration::ZERO).build();
    for _ in 0..3 {
        assert_eq!(verdict(&watchdog.tick()), Verdict::Live);
    }
    push_text(&mut writer, 0..1);
    assert_eq!(take(&mut reader, 1).0, text(0..1));
}

/// A build that does not know a layout leaves a channel in that layout alone, dead or alive: both versions are named.
#[rstest]
#[case::dead(false)]
#[case::alive(true)]
fn a_channel_of_a_newer_major_is_refused_and_left_alone(#[case] alive: bool) {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    let bytes_before = {
        use std::os::unix::fs::FileExt;
        let file = bed.file(1);
        file.write_all_at(&2u16.to_le_bytes(), 8).unwrap();
        std::fs::read(bed.path(1)).unwrap()
    };
    let writer = alive.then_some(writer);
    let says = |error: OpenError| {
        let text = error.to_string();
        assert!(text.contains("version 2.0") && text.contains("reads 1.x"), "{text}");
    };
    says(channel.writer().unwrap_err());
    says(channel.supersede().unwrap_err());
    says(channel.standby(Warmth::Cold).unwrap().wait(SHORT).unwrap_err());
    says(channel.reader("d", Durability::Durable, From::Latest).unwrap_err());
    let report = reclaim(channel.namespace());
    assert_eq!(verdict(&report), Verdict::Incompatible);
    assert_eq!(report.notices[0].done, Done::Nothing);
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000001.ring"]);
    assert_eq!(std::fs::read(bed.path(1)).unwrap(), bytes_before, "not a byte of it was touched");
    drop(writer);
}

/// A generation of a newer build further down the chain is not unlinked by an older one.
#[test]
fn a_newer_generation_below_the_newest_is_not_tidied_away() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    push_text(&mut writer, 0..1);
    drop(writer);
    let _writer = channel.writer().unwrap();
    use std::os::unix::fs::FileExt;
    bed.file(1).write_all_at(&2u16.to_le_bytes(), 8).unwrap();
    channel.tidy().unwrap();
    reclaim(channel.namespace());
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"]);
}

/// A segment stays nobody's while one looks: `alone` takes all locks or none.
#[test]
fn all_locks_or_none() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let reader = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    let watchdog = bed.attach(1, Access::Successor);
    let other: Arc<Segment> = bed.attach(1, Access::Successor);
    let free = |segment: &Segment| lock::try_lock(segment.file().as_fd(), PRESENCE_BYTE, Mode::Shared).unwrap();
    assert!(watchdog.alone().unwrap().is_none());
    assert!(free(&other), "given back");
    drop(writer);
    assert!(watchdog.alone().unwrap().is_none(), "a reader lives");
    drop((reader, other));
    let alone = watchdog.alone().unwrap().unwrap();
    assert!(!free(&bed.attach(1, Access::Successor)));
    drop(alone);
    assert!(free(&bed.attach(1, Access::Successor)));
    assert!(!watchdog.poisoned());
}

/// Told once that nobody writes, and woken by whoever comes.
#[test]
fn a_reader_learns_of_a_death_and_of_the_next_one() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    drop(writer);
    let gone = until(&mut reader, |_| true);
    assert_eq!(gone, Event::WriterGone { generation: 1 });
    let _next = channel.writer().unwrap();
    assert_eq!(until(&mut reader, |_| true), Event::Restarted { old: 1, new: 2 });
}
