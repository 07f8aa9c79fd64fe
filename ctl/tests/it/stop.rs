//! How the tool is stopped: signals, closed pipes, a full ring, a fenced channel.

use std::io::{PipeWriter, Read};

use nix::sys::signal::Signal;
use ringward_recovery::{Durability, Event, From};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bed::{Bed, lines};

/// Waits until a pipe has no reader. The child of another test has a copy of every descriptor between its fork and its exec, and as
/// long as it has one, a write succeeds.
fn nobody_reads(pipe: &PipeWriter) {
    loop {
        let mut fds = [PollFd::new(pipe, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })).unwrap();
        if fds[0].revents().contains(PollFlags::ERR) {
            return;
        }
    }
}

#[test]
fn a_stopped_sender_leaves_the_channel_to_the_next() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let bed = Bed::new();
        let recv = bed.start(&["recv", "c", "--newline", "--events", "json"]);
        let mut send = bed.start(&["send", "c", "--readers", "1", "--events", "json"]);
        send.note("writing");
        send.feed(&lines(0..5));
        let standby = bed.start(&["send", "c", "--standby", "--events", "json"]);
        standby.note("waiting");
        bed.until("5 records are there", || published(&bed) == 5);
        send.signal(signal);
        send.wait().code(code);
        standby.note("writing");
        let mut standby = standby;
        standby.feed(&lines(5..8));
        standby.end().code(0);
        let recv = recv.end().code(0);
        assert_eq!(recv.stdout, lines(0..8));
        assert_eq!(recv.notes("restarted").len(), 1);
    }
}

fn published(bed: &Bed) -> u64 {
    let Ok(chain) = bed.channel().inspect() else { return 0 };
    match chain.last().and_then(|newest| newest.seen.as_ref().ok()).map(|seen| seen.published) {
        Some(ringward_ring::cursor::Reading::Sound(mark)) => mark.sequence,
        _ => 0,
    }
}

#[test]
fn a_stopped_receiver_releases_what_it_has_written() {
    let bed = Bed::new();
    let args = ["recv", "c", "--durable", "--name", "d", "--newline", "--events", "json"];
    let recv = bed.start(&args);
    bed.run(&["send", "c", "--readers", "1", "--no-close"], &lines(0..5)).code(0);
    recv.note("gone");
    recv.signal(Signal::SIGTERM);
    assert_eq!(recv.wait().code(143).stdout, lines(0..5));
    bed.run(&["send", "c"], &lines(5..6)).code(0);
    let again = bed.run(&args, b"").code(0);
    assert_eq!(again.stdout, lines(5..6));
    assert!(again.notes("redelivered").is_empty());
}

#[test]
fn a_closed_pipe_is_success_and_the_record_in_hand_stays() {
    let bed = Bed::new();
    let args = ["recv", "c", "--durable", "--name", "d"];
    let (mut reading, writing) = std::io::pipe().unwrap();
    let probe = writing.try_clone().unwrap();
    let mut command = bed.command(&args);
    command.stdout(writing);
    let recv = bed.spawn(command);
    let mut send = bed.start(&["send", "c", "--readers", "1"]);
    send.feed(b"first\n");
    let mut got = [0; 5];
    reading.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"first");
    drop(reading);
    nobody_reads(&probe);
    send.feed(b"second\n");
    recv.wait().code(0);
    send.end().code(0);
    assert_eq!(bed.run(&args, b"").code(0).stdout, b"second");
}

#[test]
fn without_room_a_sender_waits_or_says_who_is_behind() {
    let bed = Bed::new();
    let reader = {
        bed.run(&["send", "c", "--no-close"], b"").code(0);
        bed.channel().reader("slow", Durability::Ephemeral, From::Latest).unwrap()
    };
    let args = ["send", "c", "--capacity", "4KiB", "--no-close", "--frame", "chunk:1000"];
    let much = vec![7; 20_000];
    bed.run(&[&args[..], &["--when-full", "error"]].concat(), &much).code(1).says("RW-PUSH-FULL");
    bed.run(&[&args[..], &["--when-full", "block:20ms"]].concat(), &much).code(1).says("RW-PUSH-FULL");
    let mut blocked = bed.start(&args);
    blocked.feed(&much);
    bed.until("it is blocked", || published(&bed) >= 9);
    blocked.signal(Signal::SIGINT);
    blocked.wait().code(130);
    drop(reader);
}

#[test]
fn a_standby_goes_home_when_the_channel_is_closed() {
    for warmth in [&[][..], &["--cold"]] {
        let bed = Bed::new();
        let send = bed.start(&["send", "c", "--events", "json"]);
        send.note("writing");
        let standby = bed.start(&[&["send", "c", "--standby", "--events", "json"][..], warmth].concat());
        standby.note("waiting");
        send.end().code(0);
        let standby = standby.end().code(0);
        assert_eq!(standby.notes("closed").len(), 1, "{standby:?}");
    }
}

#[test]
fn a_stopped_and_superseded_sender_says_fenced_and_nobody_sees_its_late_record() {
    let bed = Bed::new();
    let recv = bed.start(&["recv", "c", "--newline", "--events", "json"]);
    let mut send = bed.start(&["send", "c", "--readers", "1", "--events", "json"]);
    send.feed(b"early\n");
    bed.until("the first record is there", || published(&bed) == 1);
    send.signal(Signal::SIGSTOP);
    send.feed(b"late\n");
    let mut next = bed.channel().supersede().unwrap();
    next.push(0, b"instead").unwrap();
    send.signal(Signal::SIGCONT);
    send.wait().code(1).says("RW-PUSH-FENCED");
    next.push(0, b"more").unwrap();
    next.close().unwrap();
    let recv = recv.end().code(0);
    assert_eq!(recv.stdout, b"early\ninstead\nmore\n");
    assert_eq!(recv.notes("restarted").len(), 1);
    assert!(recv.notes("gap").is_empty());
}

#[test]
fn a_stuck_sender_is_superseded_or_killed_by_policy() {
    for (policy, says) in [("supersede", Some("RW-PUSH-FENCED")), ("kill", None)] {
        let bed = Bed::new();
        let mut reader = {
            bed.run(&["send", "c", "--no-close"], b"").code(0);
            bed.channel().reader("r", Durability::Durable, From::Latest).unwrap()
        };
        let stuck = bed.start(&["send", "c", "--heartbeat", "10ms", "--stall-timeout", "100ms", "--events", "json"]);
        stuck.note("writing");
        let standby =
            ["send", "c", "--standby", "--when-stuck", policy, "--stall-timeout", "200ms", "--events", "json"];
        let mut standby = bed.start(&standby);
        standby.note("waiting");
        stuck.signal(Signal::SIGSTOP);
        standby.note("writing");
        standby.feed(b"on\n");
        standby.end().code(0);
        let mut stuck = stuck;
        match says {
            Some(says) => {
                stuck.signal(Signal::SIGCONT);
                stuck.feed(b"late\n");
                stuck.end().code(1).says(says);
            }
            None => assert_eq!(stuck.wait().status.code(), None, "killed"),
        }
        let mut buf = [0; 64];
        let mut got = Vec::new();
        loop {
            match reader.recv(&mut buf, std::time::Duration::from_secs(60)).unwrap() {
                Some(Event::Record { len, .. }) => got.push(buf[..len].to_vec()),
                Some(Event::Closed { .. }) | None => break,
                Some(_) => {}
            }
        }
        assert_eq!(got, [b"on"]);
    }
}
