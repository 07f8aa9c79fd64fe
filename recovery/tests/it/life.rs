//! A channel's life in one process: birth, death, election, drain, close.

use std::time::Duration;

use ringward_recovery::{
    Durability, Event, From, Heal, Lost, OpenError, Outcome, Reader, ReceiveError, SendError, Warmth, WhenFull,
};
use ringward_ring::layout::record_len;
use ringward_ring::writer::PushError;

use crate::common::{Bed, all, config, durable, numbers};

#[test]
fn a_second_writer_is_told_who_owns_the_channel() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    match channel.writer().unwrap_err() {
        OpenError::Owned { owner, generation: 1, leaked: false } => assert_eq!(owner.pid, std::process::id()),
        other => panic!("{other}"),
    }
    drop(writer);
    assert_eq!(channel.writer().unwrap().generation(), 2);
}

#[test]
fn sequences_run_on_and_readers_drain_before_they_move() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    for i in 0..5u8 {
        assert_eq!(writer.push(0, &[i]).unwrap(), u64::from(i));
    }
    drop(writer); // as a crash would: the lock falls, nothing is closed
    let mut writer = channel.writer().unwrap();
    assert_eq!(writer.next_sequence(), 5);
    let before = writer.segment().identity().predecessor.unwrap();
    assert_eq!(before.end, Some(5 * record_len(1)), "where the one before it ended");
    for i in 5..8u8 {
        writer.push(0, &[i]).unwrap();
    }
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"]);
    let (records, events) = all(&mut reader);
    assert_eq!(records, (0..8u8).map(|i| (u64::from(i), vec![i])).collect::<Vec<_>>());
    assert_eq!(events, [Event::Restarted { old: 1, new: 2 }]);
    assert_eq!(bed.names(), ["00000002.ring"], "the drained generation is gone");
    writer.close().unwrap();
    let (records, events) = all(&mut reader);
    assert!(records.is_empty());
    assert_eq!(events, [Event::Closed { generation: 2 }]);
}

#[test]
fn a_hot_standby_takes_over() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    assert!(matches!(standby.wait(Duration::from_millis(1)).unwrap(), Outcome::TimedOut));
    assert!(standby.is_hot());
    writer.push(0, b"a").unwrap();
    let parked = std::thread::spawn(move || standby.wait(Duration::from_secs(60)).unwrap());
    drop(writer);
    let Outcome::Elected(mut writer) = parked.join().unwrap() else { panic!("not elected") };
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 1));
    writer.push(0, b"b").unwrap();
    let (records, events) = all(&mut reader);
    assert_eq!(numbers(&records), [0, 1]);
    assert_eq!(events, [Event::Restarted { old: 1, new: 2 }]);
}

#[test]
fn standbys_go_home_when_the_channel_is_closed_or_they_are_cancelled() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let writer = channel.writer().unwrap();
    let mut standby = channel.standby(Warmth::Cold).unwrap();
    let canceller = standby.canceller();
    let parked = std::thread::spawn(move || {
        let first = standby.wait(Duration::from_secs(60)).unwrap();
        (first, standby.wait(Duration::from_secs(60)).unwrap())
    });
    canceller.cancel();
    while !parked.is_finished() && bed.names().len() == 1 {
        std::thread::yield_now();
        // The second wait is on; close, and it ends.
        if bed.names().len() == 1 {
            break;
        }
    }
    writer.close().unwrap();
    let (first, second) = parked.join().unwrap();
    assert!(matches!(first, Outcome::Cancelled | Outcome::Closed { generation: 1 }), "{first:?}");
    assert!(matches!(second, Outcome::Closed { generation: 1 } | Outcome::Cancelled), "{second:?}");
}

#[test]
fn a_superseded_writer_is_fenced_and_its_late_record_never_seen() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut stuck = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    stuck.push(0, b"before").unwrap();
    let mut next = channel.supersede().unwrap();
    match stuck.push(0, b"late") {
        Err(SendError::Push(PushError::Fenced)) => {}
        other => panic!("{other:?}"),
    }
    next.push(0, b"after").unwrap();
    let (records, _) = all(&mut reader);
    assert_eq!(records, [(0, b"before".to_vec()), (1, b"after".to_vec())]);
}

/// Its generation is drained and unlinked by then, which the thread beside it notices: that is not why.
#[test]
fn a_fenced_writer_whose_generation_is_gone_is_told_that_it_was_fenced() {
    let bed = Bed::new();
    let beating = config().beat_interval(Duration::from_millis(1)).stall_timeout(Duration::from_millis(50));
    for heal in [Heal::Report, Heal::LostMemory] {
        let channel = bed.channel(beating.clone().heal(heal));
        let mut stuck = channel.writer().unwrap();
        stuck.push(0, b"before").unwrap();
        let generation = stuck.generation();
        let next = channel.supersede().unwrap();
        while bed.names().len() > 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Some beats, so that it has been noticed. Sooner, it is the same in another way.
        std::thread::sleep(Duration::from_millis(50));
        let late = stuck.push(0, b"late");
        assert!(matches!(late, Err(SendError::Push(PushError::Fenced))), "{heal:?}: {late:?}");
        assert_eq!((stuck.generation(), next.generation()), (generation, generation + 1));
        assert_eq!(bed.names().len(), 1, "and made nothing");
        drop((stuck, next));
    }
}

#[test]
fn a_fenced_writer_that_may_heals_when_its_successor_is_gone() {
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::Succeed));
    let mut stuck = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let next = channel.supersede().unwrap();
    assert!(matches!(stuck.push(0, b"x"), Err(SendError::Push(PushError::Fenced))), "its successor lives");
    drop(next);
    assert_eq!(stuck.push(0, b"y").unwrap(), 0);
    assert_eq!((stuck.generation(), stuck.heals()), (3, 1));
    let (records, events) = all(&mut reader);
    assert_eq!(records, [(0, b"y".to_vec())]);
    assert_eq!(events.len(), 2, "{events:?}");
}

#[test]
fn a_durable_name_has_one_holder_and_keeps_its_place_over_generations() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let reader = durable(&channel, "d");
    match channel.reader("d", Durability::Durable, From::Latest) {
        Err(OpenError::NameHeld { name }) => assert_eq!(name, "d"),
        other => panic!("{other:?}"),
    }
    drop(reader);
    for generation in 1..=5u64 {
        assert_eq!(writer.generation(), generation);
        writer.push(0, &generation.to_le_bytes()).unwrap();
        drop(writer);
        writer = channel.writer().unwrap();
    }
    assert_eq!(bed.names().len(), 6, "nobody has drained them");
    let mut reader = channel.reader("d", Durability::Durable, From::Latest).unwrap();
    let (records, events) = all(&mut reader);
    assert_eq!(numbers(&records), [0, 1, 2, 3, 4]);
    assert_eq!(events.len(), 5);
    assert_eq!(bed.names().len(), 1);
}

#[test]
fn the_chain_is_bounded() {
    let bed = Bed::new();
    let channel = bed.channel(config().chain_limit(3));
    drop(durable(
        &{
            drop(channel.writer().unwrap());
            channel.clone()
        },
        "d",
    ));
    let mut writers = 1;
    let error = loop {
        match channel.writer() {
            Ok(_) => writers += 1,
            Err(error) => break error,
        }
        assert!(writers <= 3, "the chain has {writers} generations, its limit is 3");
    };
    assert!(matches!(error, OpenError::ChainFull { found: 3, limit: 3 }), "{error}");
    assert_eq!(writers, 3);
    assert!(channel.forget_reader("d").unwrap());
    assert_eq!(channel.writer().unwrap().generation(), 4);
    assert_eq!(bed.names(), ["00000004.ring"]);
}

#[test]
fn a_full_ring_waits_for_its_reader() {
    let bed = Bed::new();
    let channel = bed.channel(config().when_full(WhenFull::Block(Duration::from_secs(60))));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let sum = std::thread::spawn(move || {
        let mut buf = [0; 4096];
        let mut sum = 0u64;
        loop {
            match reader.recv(&mut buf, Duration::from_secs(60)).unwrap() {
                Some(Event::Record { len, .. }) => sum += u64::from_le_bytes(buf[..len].try_into().unwrap()),
                Some(Event::Closed { .. }) => return sum,
                other => panic!("{other:?}"),
            }
        }
    });
    for i in 0..20_000u64 {
        writer.push(0, &i.to_le_bytes()).unwrap();
    }
    writer.close().unwrap();
    assert_eq!(sum.join().unwrap(), (0..20_000).sum::<u64>());
}

#[test]
fn a_gap_is_told_whichever_call_finds_it() {
    use std::os::unix::fs::FileExt;
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    for i in 0..3u8 {
        writer.push(0, &[i; 8]).unwrap();
    }
    // The second of three is hit.
    let file = std::fs::OpenOptions::new().write(true).open(bed.namespace.path().join("c/00000001.ring")).unwrap();
    let data_at = writer.segment().identity().geometry.data_at();
    file.write_all_at(&[0xff; 4], data_at + 32 + 24).unwrap();
    let mut buf = [0; 64];
    let mut next = || reader.recv(&mut buf, Duration::MAX).unwrap().unwrap();
    assert!(matches!(next(), Event::Record { sequence: 0, .. }));
    let gap = next();
    assert!(matches!(gap, Event::Gap { from: 1, count: Some(1), .. }), "{gap:?}");
    assert!(matches!(next(), Event::Record { sequence: 2, .. }));
}

#[test]
fn a_gap_that_drain_or_lend_has_met_is_told_to_the_next_holder_if_this_one_dies() {
    use ringward_recovery::TrustedPeers;
    use std::os::unix::fs::FileExt;
    // SAFETY: this process is the only one there, and nothing is lent when it does the damage.
    let peers = unsafe { TrustedPeers::vouch() };
    for lends in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        for i in 0..3u8 {
            writer.push(0, &[i; 8]).unwrap();
        }
        let file = std::fs::OpenOptions::new().write(true).open(bed.namespace.path().join("c/00000001.ring")).unwrap();
        let data_at = writer.segment().identity().geometry.data_at();
        file.write_all_at(&[0xff; 4], data_at + 32 + 24).unwrap();
        let mut got = Vec::new();
        if lends {
            while reader.lend(peers, |sequence, _, _, _| got.push(sequence)).unwrap().is_some() {}
        } else {
            reader.drain(&mut [0; 64], u64::MAX, |sequence, _, _, _| got.push(sequence)).unwrap();
        }
        assert_eq!(got, [0]);
        drop(reader);
        let (records, events) = all(&mut durable(&channel, "d"));
        assert!(matches!(events[..], [Event::Gap { from: 1, count: Some(1), .. }]), "{events:?}");
        assert_eq!(numbers(&records), [2]);
    }
}

#[test]
fn a_writer_that_dies_inside_its_close_has_closed() {
    use ringward_ring::segment::{Access, Segment};
    use ringward_ring::word::State;
    use rustix::fd::AsFd;
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"last").unwrap();
    let dir = std::fs::File::open(bed.namespace.path().join("c")).unwrap();
    let segment = Segment::attach(dir.as_fd(), "00000001.ring", Access::Successor, bed.namespace.trust()).unwrap();
    ringward_ring::succession::shift_state(&&segment, State::OPEN, State::CLOSED);
    drop((writer, segment));
    let (records, events) = all(&mut reader);
    assert_eq!((numbers(&records), events), (vec![0], vec![Event::Closed { generation: 1 }]));
}

/// Cuts the live segment file of generation `number`.
fn cut(bed: &Bed, number: u64, len: u64) {
    let path = bed.namespace.path().join("c").join(ringward_recovery::generation_name(number));
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_reader_of_a_cut_generation_goes_over_though_the_next_one_was_closed_meanwhile() {
    for durability in [Durability::Durable, Durability::Ephemeral] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = channel.reader("r", durability, From::Latest).unwrap();
        writer.push(0, b"lost").unwrap();
        cut(&bed, 1, 0);
        drop(writer);
        let mut writer = channel.writer().unwrap();
        let first = writer.push(0, b"after").unwrap();
        writer.close().unwrap();
        let (records, events) = all(&mut reader);
        assert_eq!(records, [(first, b"after".to_vec())], "{events:?}");
        assert!(matches!(events[0], Event::Gap { from: 0, count: None, .. }), "{events:?}");
        assert_eq!(events.last(), Some(&Event::Closed { generation: 2 }));
    }
}

#[test]
fn a_cut_after_the_close_is_told_with_the_exact_loss() {
    for (len, exact) in [(0, false), (128, false), (4096, true), (8192, true)] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        for i in 0..3u8 {
            writer.push(0, &[i; 9]).unwrap();
        }
        writer.close().unwrap();
        cut(&bed, 1, len);
        let (records, events) = all(&mut reader);
        assert!(records.is_empty(), "{records:?}");
        if exact {
            let gap = Event::Gap { from: 0, count: Some(3), reason: ringward_recovery::GapReason::Truncated };
            assert_eq!(events, [gap, Event::Closed { generation: 1 }], "cut to {len}");
        } else {
            assert_eq!(events, [Event::WriterGone { generation: 1 }], "cut to {len}");
        }
    }
}

#[test]
fn what_was_closed_can_be_read_late_from_its_oldest_record() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"a").unwrap();
    writer.close().unwrap();
    let mut late = channel.reader("late", Durability::Ephemeral, From::Oldest).unwrap();
    let (records, events) = all(&mut late);
    assert_eq!((numbers(&records), events), (vec![0], vec![Event::Closed { generation: 1 }]));
    assert!(matches!(
        channel.reader("later", Durability::Ephemeral, From::Latest),
        Err(OpenError::Closed { generation: 1 })
    ));
}

#[test]
fn a_writer_that_heals_lost_memory_does_not_come_back_after_being_superseded() {
    let bed = Bed::new();
    let channel = bed.channel(config().heal(Heal::LostMemory));
    let mut stuck = channel.writer().unwrap();
    drop(channel.supersede().unwrap());
    assert!(matches!(stuck.push(0, b"x"), Err(SendError::Push(PushError::Fenced))));
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"lost").unwrap();
    cut(&bed, writer.generation(), 4096);
    assert!(writer.tend().unwrap());
    assert_eq!(writer.push(0, b"on").unwrap(), 1);
    let (records, events) = all(&mut reader);
    assert_eq!(records, [(1, b"on".to_vec())], "{events:?}");
    assert!(matches!(events[0], Event::Gap { from: 0, count: Some(1), .. }), "{events:?}");
}

#[test]
fn without_auto_release_everything_in_hand_comes_again() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    reader.set_auto_release(false);
    for i in 0..3u8 {
        writer.push(0, &[i]).unwrap();
    }
    let mut buf = [0; 8];
    for _ in 0..3 {
        reader.recv(&mut buf, Duration::ZERO).unwrap().unwrap();
    }
    drop(reader);
    let mut reader = durable(&channel, "d");
    let mut again = 0;
    while let Some(Event::Record { redelivered: true, .. }) = reader.recv(&mut buf, Duration::ZERO).unwrap() {
        again += 1;
    }
    assert_eq!(again, 3);
}

#[test]
fn a_loss_that_was_not_told_yet_is_told_to_the_next_holder_of_the_name() {
    use ringward_recovery::WhenChainFull;
    let bed = Bed::new();
    let channel = bed.channel(config().chain_limit(2).when_chain_full(WhenChainFull::DropOldest));
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    for i in 0..3u8 {
        writer.push(0, &[i]).unwrap();
    }
    for _ in 0..3 {
        drop(writer);
        writer = channel.writer().unwrap();
    }
    writer.push(0, b"kept").unwrap();
    drop(durable(&channel, "d")); // claims its place, and dies before it is told
    let (records, events) = all(&mut durable(&channel, "d"));
    assert_eq!(numbers(&records), [3]);
    assert!(matches!(events[0], Event::Gap { from: 0, count: Some(3), .. }), "{events:?}");
    let mut again = durable(&channel, "d");
    assert_eq!(again.recv(&mut [0; 16], Duration::ZERO).unwrap(), None, "told once");
}

#[test]
fn quarantine_keeps_older_generations_too() {
    use ringward_recovery::{Action, Done, Watchdog};
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    drop(durable(&channel, "d"));
    writer.push(0, b"older").unwrap();
    drop(writer);
    drop(channel.writer().unwrap());
    let report = Watchdog::builder(&bed.namespace)
        .action(Action::Quarantine)
        .grace(Duration::ZERO)
        .expire_durable(Duration::ZERO)
        .build()
        .tick();
    assert!(matches!(report.notices[0].done, Done::Quarantined { .. }), "{report:?}");
    let kept: Vec<_> = std::fs::read_dir(bed.namespace.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().any(|path| std::fs::read(path).unwrap().windows(5).any(|w| w == b"older")));
}

#[test]
fn a_drained_generation_is_wiped_when_that_is_asked_for() {
    use std::os::unix::fs::FileExt;
    for wipe in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config().wipe(wipe));
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        writer.push(0, b"a secret").unwrap();
        let file = std::fs::File::open(bed.namespace.path().join("c/00000001.ring")).unwrap();
        drop(writer);
        let _writer = channel.writer().unwrap();
        let (records, _) = all(&mut reader);
        assert_eq!(records.len(), 1);
        channel.tidy().unwrap();
        assert_eq!(bed.names(), ["00000002.ring"]);
        // Unlinked, but we still have it open: what would linger in memory until the last descriptor goes.
        let mut bytes = vec![0; 16384];
        let got = file.read_at(&mut bytes, 0).unwrap();
        let found = bytes[..got].windows(8).any(|w| w == b"a secret");
        assert_eq!(found, !wipe, "wipe: {wipe}");
    }
}

/// A reader that has left an older generation, which another still drains, and is then forgotten: its name is free, and is nobody's.
#[test]
fn a_name_that_was_forgotten_after_moving_on_can_be_taken_anew() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut gone = durable(&channel, "gone");
    let stays = durable(&channel, "stays");
    writer.push(0, b"0").unwrap();
    drop(writer);
    let mut writer = channel.writer().unwrap();
    assert_eq!(numbers(&all(&mut gone).0), [0]);
    assert_eq!(gone.generation(), 2);
    gone.forget();
    assert_eq!(bed.names().len(), 2, "the first generation is still needed");
    let mut gone = durable(&channel, "gone");
    assert_eq!(gone.generation(), 2);
    writer.push(0, b"1").unwrap();
    assert_eq!(numbers(&all(&mut gone).0), [1]);
    gone.forget();
    assert!(!channel.forget_reader("gone").unwrap(), "there is nobody to forget");
    drop(stays);
}

/// Removed from outside together with a generation that a reader had not come to.
#[test]
fn what_vanished_with_the_next_generation_is_not_told_as_nothing() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"0").unwrap();
    let mut buf = [0; 8];
    assert!(matches!(reader.try_recv(&mut buf), Ok(Some(Event::Record { sequence: 0, .. }))));
    drop(writer);
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"1").unwrap();
    std::fs::remove_dir_all(bed.namespace.path().join("c")).unwrap();
    drop(writer);
    let gone = loop {
        match reader.recv(&mut buf, Duration::from_secs(60)) {
            Ok(Some(Event::WriterGone { .. })) => {}
            other => break other,
        }
    };
    let Err(ReceiveError::Gone { lost }) = gone else { panic!("{gone:?}") };
    assert_eq!(lost, Lost::Unknown { from: 1 });
}

/// What comes, without a release: records as number and mark, everything else as what it is.
fn in_hand(reader: &mut Reader) -> Vec<String> {
    let mut buf = [0; 64];
    reader.set_auto_release(false);
    let mut came = Vec::new();
    while let Some(event) = reader.recv(&mut buf, Duration::from_millis(120)).unwrap() {
        came.push(match event {
            Event::Record { sequence, redelivered, .. } => {
                format!("{sequence}{}", if redelivered { " again" } else { "" })
            }
            Event::Gap { from, count, .. } => format!("gap {from} {count:?}"),
            Event::Restarted { .. } => "restarted".to_owned(),
            Event::Closed { .. } => "closed".to_owned(),
            _ => continue,
        });
        if came.last().is_some_and(|last| last == "closed") {
            break;
        }
    }
    came
}

#[test]
fn what_is_in_hand_stays_in_hand_over_a_succession_a_loss_and_a_close() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    for payload in [b"zero", b"lost", b"two.", b"3333"] {
        writer.push(0, payload).unwrap();
    }
    // A bit of record 1.
    let path = bed.path(1);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|bytes| bytes == b"lost").unwrap();
    bytes[at] ^= 1;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
    assert_eq!(in_hand(&mut reader), ["0", "gap 1 Some(1)", "2", "3"]);
    drop(reader);
    let mut reader = durable(&channel, "d");
    assert_eq!(in_hand(&mut reader), ["0 again", "gap 1 Some(1)", "2 again", "3 again"], "in front of a loss");

    writer.abandon();
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"four").unwrap();
    assert_eq!(in_hand(&mut reader), ["restarted", "4"]);
    drop(reader);
    let mut reader = durable(&channel, "d");
    let all = ["0 again", "gap 1 Some(1)", "2 again", "3 again", "restarted", "4 again"];
    assert_eq!(in_hand(&mut reader), all, "in a generation that was left");
    assert_eq!(bed.names(), ["00000001.ring", "00000002.ring"]);
    reader.release();
    drop(reader);
    let mut reader = durable(&channel, "d");
    assert_eq!(in_hand(&mut reader), [] as [&str; 0], "released");
    channel.tidy().unwrap();
    assert_eq!(bed.names(), ["00000002.ring"]);

    writer.push(0, b"five").unwrap();
    writer.close().unwrap();
    assert_eq!(in_hand(&mut reader), ["5", "closed"]);
    drop(reader);
    let mut reader = durable(&channel, "d");
    assert_eq!(in_hand(&mut reader), ["5 again", "closed"], "in front of a close");
    reader.release();
    reader.forget();
}

/// Filled piece by piece, and published by its commit; what goes wrong at either is one error for who sends.
#[test]
fn a_record_can_be_filled_piece_by_piece() {
    fn sends(writer: &mut ringward_recovery::Writer, pieces: &[&[u8]], len: usize) -> Result<u64, SendError> {
        let mut reservation = writer.reserve(7, len)?;
        for piece in pieces {
            reservation.fill(piece).unwrap();
        }
        Ok(reservation.commit()?)
    }
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let short = sends(&mut writer, &[b"ab"], 3);
    assert!(matches!(short, Err(SendError::Fill(fill)) if (fill.reserved, fill.filled) == (3, 2)), "{short:?}");
    let long = sends(&mut writer, &[], 1 << 20);
    assert!(matches!(long, Err(SendError::Push(PushError::TooLarge { .. }))), "{long:?}");
    assert_eq!(sends(&mut writer, &[b"a", b"bc"], 3).unwrap(), 0);
    let _next = channel.supersede().unwrap();
    let fenced = sends(&mut writer, &[b"late"], 4);
    assert!(matches!(fenced, Err(SendError::Push(PushError::Fenced))), "{fenced:?}");
    assert_eq!(all(&mut reader).0, [(0, b"abc".to_vec())]);
}

/// Nothing is taken, whichever call meets it; a larger buffer gets the record.
#[test]
fn too_small_a_buffer_is_told_with_both_numbers() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    writer.push(0, b"1").unwrap();
    writer.push(0, &[2; 100]).unwrap();
    let mut small = [0; 10];
    let mut got = Vec::new();
    let mut drain = |reader: &mut Reader| reader.drain(&mut small, 9, |sequence, _, _, _| got.push(sequence));
    assert_eq!(drain(&mut reader).unwrap(), 1, "as far as it goes");
    let refused = drain(&mut reader);
    assert!(matches!(refused, Err(ReceiveError::BufferTooSmall { needed: 100, given: 10 })), "{refused:?}");
    assert_eq!(got, [0]);
    let refused = reader.recv(&mut small, Duration::MAX);
    assert!(matches!(refused, Err(ReceiveError::BufferTooSmall { needed: 100, given: 10 })), "{refused:?}");
    assert_eq!(reader.durability(), Durability::Durable);
    assert_eq!(all(&mut reader).0, [(1, vec![2; 100])]);
}

/// What the kernel says of this process's mappings of a file: bytes that are there, and flags.
fn mapped(root: &std::path::Path, inode: u64) -> Option<Vec<(u64, Vec<String>)>> {
    let text = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut found: Vec<(u64, Vec<String>)> = Vec::new();
    let mut ours = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [range, _, _, _, number, name, ..] if range.contains('-') => {
                ours = number == inode.to_string() && name.starts_with(root.to_str()?);
                if ours {
                    found.push((0, Vec::new()));
                }
            }
            [range, ..] if range.contains('-') => ours = false,
            ["Rss:", kib, "kB"] if ours => found.last_mut()?.0 += kib.parse::<u64>().ok()? << 10,
            ["VmFlags:", ref flags @ ..] if ours => {
                found.last_mut()?.1.extend(flags.iter().map(|flag| (*flag).to_owned()));
            }
            _ => {}
        }
    }
    Some(found)
}

/// Asked for, a writer's segment is touched before it is used, and left out of core dumps.
#[test]
fn a_segment_is_touched_and_left_out_of_dumps_when_that_is_asked_for() {
    for asked in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config().capacity(1 << 20).touch(asked).no_dump(asked));
        let writer = channel.writer().unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&writer.segment().file().metadata().unwrap());
        let Some(mapped) =
            mapped(&bed.root(), inode).filter(|mapped| mapped.iter().all(|(_, flags)| !flags.is_empty()))
        else {
            return crate::attacks::skip("this kernel does not say what is mapped how");
        };
        assert!(!mapped.is_empty(), "the writer has it mapped");
        for (_, flags) in &mapped {
            assert_eq!(flags.iter().any(|flag| flag == "dd"), asked, "asked: {asked}, {flags:?}");
        }
        let there: u64 = mapped.iter().map(|(rss, _)| rss).sum();
        assert_eq!(there >= 1 << 20, asked, "asked: {asked}, {there} bytes");
        drop(writer);
    }
}

/// In this process, and from another one's point of view: locks belong to open files, not to processes.
#[test]
fn an_onlooker_sees_whether_a_writer_is_there() {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let there =
        || channel.inspect().unwrap().iter().map(|one| one.seen.as_ref().unwrap().writer_held).collect::<Vec<_>>();
    let writer = channel.writer().unwrap();
    assert_eq!(there(), [true]);
    let _kept = durable(&channel, "kept");
    drop(writer);
    assert_eq!(there(), [false]);
    let _next = channel.writer().unwrap();
    assert_eq!(there().last(), Some(&true));
}
