//! Attacks that need real processes: stopped, continued, forked, dumping core, killed at birth.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringward_recovery::owner::Whereabouts;
use ringward_recovery::{
    Action, Durability, Event, From, Namespace, OpenError, Outcome, Report, Verdict, Warmth, Watchdog, WhenStuck,
};
use ringward_ring::segment::Access;
use ringward_ring::sys::lock::Held;

use crate::attacks::{Alarm, LONG, SHORT, elected, push_text, reclaim, skip, take, text, verdict, wait_until};
use crate::attacks_child::{DONE, Kid, NOT_HERE, Traced};
use crate::common::{Bed, config, durable};

/// Stopped somewhere in its pushing, superseded, continued: each push that it was told `Ok` is delivered, once, in order, and
/// the one that was `Fenced` never.
#[test]
fn a_stopped_writer_that_wakes_up_is_fenced_and_what_it_was_told_is_true() {
    let _alarm = Alarm::new();
    for round in 0..5 {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut kid = Kid::spawn("pushes", &bed);
        kid.expect("ready");
        let mut reader = durable(&channel, "d");
        kid.tell("go");
        let mut buf = [0; 64];
        let mut delivered = Vec::new();
        let mut acknowledged = Vec::new();
        let mut receive = |delivered: &mut Vec<u64>, wait| {
            while let Some(event) = reader.recv(&mut buf, wait).unwrap() {
                match event {
                    Event::Record { sequence, len, redelivered: false, .. } => {
                        assert_eq!(buf[..len], *sequence.to_string().as_bytes());
                        delivered.push(sequence);
                    }
                    Event::Restarted { .. } | Event::WriterGone { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let heard = |kid: &mut Kid| {
            let said = kid.hear().expect("it goes on until it is fenced");
            said.strip_prefix("ok ").map(|number| number.parse::<u64>().unwrap())
        };
        while acknowledged.len() < 300 + 37 * round {
            acknowledged.push(heard(&mut kid).unwrap());
            receive(&mut delivered, Duration::ZERO);
        }
        kid.stop();
        let mut next = channel.supersede().unwrap();
        let begins = next.next_sequence();
        kid.signal(Signal::SIGCONT);
        while let Some(sequence) = heard(&mut kid) {
            acknowledged.push(sequence);
        }
        assert_eq!(kid.end().code(), Some(DONE));
        assert_eq!(
            acknowledged,
            (0..begins).collect::<Vec<_>>(),
            "told `Ok` is all that counts, and all that counts was told"
        );
        push_text(&mut next, begins..begins + 3);
        receive(&mut delivered, SHORT);
        assert_eq!(delivered, (0..begins + 3).collect::<Vec<_>>());
    }
}

/// Stopped, a writer that promised beats is stuck: told to who waits, and otherwise left alone unless policy says more.
#[test]
fn a_stuck_writer_is_reported_and_left_alone() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut kid = Kid::spawn("writes-beating", &bed);
    kid.expect("ready");
    kid.stop();
    let config = config().beat_interval(Duration::from_millis(1)).stall_timeout(Duration::from_millis(50));
    let mut standby = bed.channel(config.when_stuck(WhenStuck::Report)).standby(Warmth::Cold).unwrap();
    match standby.wait(LONG).unwrap() {
        Outcome::Stuck { generation: 1, .. } => {}
        other => panic!("not reported but {other:?}"),
    }
    assert_eq!(bed.names(), ["00000001.ring"]);
}

/// A fork has the writer's descriptor, and with it the lock; the writer dies. That is a leak, and not a writer.
#[test]
fn a_lock_inherited_by_a_forked_child_keeps_nobody_out() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().stall_timeout(Duration::from_millis(50)));
    let mut kid = Kid::spawn("leaks", &bed);
    kid.expect("ready");
    let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
    kid.kill_keeping_input();
    let old = bed.attach(1, Access::Inspect);
    assert_eq!(old.writer_held().unwrap(), Held::Exclusive, "the fork holds it");
    assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Leaked);
    match channel.writer().unwrap_err() {
        OpenError::Owned { leaked: true, .. } => {}
        other => panic!("{other}"),
    }
    let mut writer = elected(&channel, Warmth::Hot);
    assert_eq!(old.writer_held().unwrap(), Held::Exclusive, "still");
    push_text(&mut writer, 1..2);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
    drop(kid); // and with it the fork's standard input
    wait_until("the fork ends", || old.writer_held().unwrap() == Held::Nobody);
    push_text(&mut writer, 2..3);
}

/// One look of a watchdog that takes nothing away yet.
fn reclaim_later(namespace: &Namespace) -> Report {
    Watchdog::builder(namespace).action(Action::Reclaim).grace(Duration::from_secs(3600)).build().tick()
}

/// Waits until a child that was killed, and that nobody has reaped, is a zombie with all its threads.
fn wait_for_zombie(pid: nix::unistd::Pid) {
    wait_until("it is a zombie", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // Its first thread can be one while others are still on their way out.
        field("State:").is_some_and(|state| state.starts_with('Z')) && matches!(field("Threads:"), Some("0" | "1"))
    });
}

/// Killed, and its parent does not reap it. Its locks are gone, and so is it.
#[test]
fn a_zombie_that_has_let_go_of_everything_is_gone() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut kid = Kid::spawn("writes", &bed);
    kid.expect("ready");
    kid.signal(Signal::SIGKILL);
    wait_for_zombie(kid.pid);
    let report = reclaim_later(channel.namespace());
    assert_eq!(verdict(&report), Verdict::OrphanedInGrace);
    assert_eq!(report.notices[0].evidence.owner, Some(Whereabouts::Gone));
    assert!(!report.notices[0].evidence.writer_held);
    let seen = channel.inspect().unwrap().remove(0).seen.unwrap();
    assert_eq!((seen.owner, seen.writer_held), (Whereabouts::Gone, false));
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..1);
}

/// The same while a child that it forked has its lock: a leak, reaped or not, and standbys pass it.
#[test]
fn a_zombies_lock_that_a_forked_child_has_is_a_leak() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config().stall_timeout(Duration::from_millis(50)));
    let mut kid = Kid::spawn("leaks", &bed);
    kid.expect("ready");
    kid.signal(Signal::SIGKILL);
    wait_for_zombie(kid.pid);
    let old = bed.attach(1, Access::Inspect);
    assert_eq!(old.writer_held().unwrap(), Held::Exclusive, "the fork holds it");
    assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Leaked);
    match channel.writer().unwrap_err() {
        OpenError::Owned { leaked: true, .. } => {}
        other => panic!("{other}"),
    }
    // Whatever is to be done with who is stuck: nobody is.
    let config = config().stall_timeout(Duration::from_millis(50)).when_stuck(WhenStuck::Report);
    let mut standby = bed.channel(config).standby(Warmth::Cold).unwrap();
    let Outcome::Elected(mut writer) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    push_text(&mut writer, 1..2);
}

fn dumping(pid: nix::unistd::Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.split_ascii_whitespace().eq(["CoreDumping:", "1"]))
}

/// The kernel holds a dumping process's locks until the dump is written: it is dying, not dead and not alive.
#[test]
fn a_writer_that_dumps_core_is_dying_and_superseded_only_on_demand() {
    let _alarm = Alarm::new();
    for supersede in [false, true] {
        // More memory takes longer to dump; what is looked at meanwhile counts only if the dump was going on all the while.
        for mib in [64, 256, 1024, 0] {
            if mib == 0 {
                return skip("the dump was over before it could be looked at");
            }
            let bed = Bed::new();
            let channel = bed.channel(config());
            let mut kid = Kid::spawn_with("dumps", &bed, &mib.to_string(), &[]);
            if kid.hear().as_deref() != Some("ready") {
                assert_eq!(kid.end().code(), Some(NOT_HERE));
                return skip("no core dumps into files of our own here");
            }
            let mut reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
            let mut standby = channel.standby(Warmth::Cold).unwrap();
            assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
            let pid = kid.pid;
            kid.tell("die");
            let mut over = false;
            wait_until("it dumps", || {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                over = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
                over || dumping(pid)
            });
            let seen = verdict(&reclaim(channel.namespace()));
            let owned = channel.writer().map(drop);
            let waited = if supersede { None } else { Some(standby.wait(Duration::ZERO).unwrap()) };
            let next = if supersede { Some(channel.supersede()) } else { None };
            if over || !dumping(pid) {
                continue; // too fast for us
            }
            assert_eq!(seen, Verdict::Dying);
            assert!(matches!(owned, Err(OpenError::Owned { generation: 1, leaked: false, .. })), "{owned:?}");
            assert!(matches!(waited, None | Some(Outcome::TimedOut)), "{waited:?}");
            let mut writer = match next {
                Some(next) => next.unwrap(),
                None => {
                    let Outcome::Elected(writer) = standby.wait(LONG).unwrap() else { panic!("not elected") };
                    *writer
                }
            };
            push_text(&mut writer, 1..2);
            assert_eq!(take(&mut reader, 2).0, text(0..2));
            let status = kid.end();
            assert_eq!(status.signal(), Some(6), "{status:?}");
            break;
        }
    }
}

/// SIGKILL, with standbys hot and cold, a durable and an ephemeral reader.
#[test]
fn a_killed_writer_is_followed_and_nothing_acknowledged_is_lost() {
    let _alarm = Alarm::new();
    for warmth in [Warmth::Hot, Warmth::Cold] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut kid = Kid::spawn("writes", &bed);
        kid.expect("ready");
        let mut readers = [durable(&channel, "d"), channel.reader("e", Durability::Ephemeral, From::Latest).unwrap()];
        for n in 0..3 {
            kid.tell(&n.to_string());
            kid.expect(&n.to_string());
        }
        let mut standby = channel.standby(warmth).unwrap();
        assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
        kid.kill();
        let Outcome::Elected(mut writer) = standby.wait(LONG).unwrap() else { panic!("not elected") };
        push_text(&mut writer, 3..4);
        for reader in &mut readers {
            assert_eq!(take(reader, 4).0, text(0..4));
        }
    }
}

/// A birth killed or stopped at any system call leaves nothing that is in anybody's way, and nothing at all after one look of a
/// watchdog.
#[test]
fn a_birth_killed_or_stopped_at_any_system_call_is_in_nobodys_way() {
    let _alarm = Alarm::new();
    let mut calls = 0;
    loop {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let Some(mut kid) = Traced::spawn("becomes-writer", &bed) else { return skip("tracing is not permitted here") };
        if !kid.step_to(calls) {
            break;
        }
        let mut kid = Some(kid);
        if calls % 2 == 0 {
            kid.take().unwrap().kill();
        }
        let mut writer = match channel.writer() {
            Ok(writer) => writer,
            Err(OpenError::Owned { generation: 1, .. }) if kid.is_some() => channel.supersede().unwrap(),
            Err(other) => panic!("call {calls}: {other}"),
        };
        let mut reader = durable(&channel, "d");
        let at = writer.push(0, b"mine").unwrap();
        assert_eq!(take(&mut reader, 1).0, [(at, b"mine".to_vec())], "call {calls}");
        if let Some(kid) = kid {
            let code = kid.release();
            assert!(code != DONE || at == 1, "call {calls}: two writers of one channel");
        }
        assert_eq!(writer.push(0, b"mine").unwrap(), at + 1, "call {calls}");
        reader.forget();
        drop(writer);
        reclaim(channel.namespace());
        assert_eq!(bed.entries(), [] as [&str; 0], "call {calls}");
        calls += 1;
    }
    eprintln!("stopped at each of {calls} system calls");
    assert!(calls >= 20, "inconclusive: {calls} calls");
}
