//! SIGKILL of real processes.

use std::fs::File;

use nix::sys::signal::Signal;

use crate::bed::{Bed, frames};

#[test]
fn a_standby_takes_over_from_a_killed_sender() {
    let bed = Bed::new();
    let bytes: Vec<u8> = (0..4 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let path = bed.root().join("input");
    std::fs::write(&path, &bytes).unwrap();
    let recv = bed.start(&["recv", "c", "--framed", "--events", "json"]);
    let sender = |more: &[&str]| {
        let args = ["send", "c", "--resume", "--frame", "chunk:4KiB", "--capacity", "64KiB", "--events", "json"];
        let mut command = bed.command(&[&args[..], more].concat());
        command.stdin(File::open(&path).unwrap());
        bed.spawn(command)
    };
    // The receiver is stopped, so that the ring is full, the sender in the middle of it, whenever it is killed.
    let first = sender(&["--readers", "1"]);
    recv.note("joined");
    recv.signal(Signal::SIGSTOP);
    let standby = sender(&["--standby"]);
    standby.note("waiting");
    bed.until("something is sent", || {
        bed.channel().inspect().is_ok_and(|chain| {
            chain.last().and_then(|g| g.seen.as_ref().ok()).is_some_and(
                |seen| matches!(seen.published, ringward_ring::cursor::Reading::Sound(mark) if mark.sequence > 3),
            )
        })
    });
    first.kill();
    recv.signal(Signal::SIGCONT);
    assert!(standby.note("writing")["skipped"].as_u64().unwrap() > 3);
    standby.wait().code(0);
    let recv = recv.end().code(0);
    assert_eq!(recv.notes("restarted").len(), 1);
    let (got, torn) = frames(&recv.stdout);
    assert_eq!(torn, 0);
    assert!(got.iter().zip(0..).all(|(frame, n)| frame.sequence == n));
    assert!(got.iter().flat_map(|frame| &frame.payload).eq(bytes.iter()));
}

#[test]
fn a_record_that_a_killed_receiver_had_in_hand_comes_again() {
    redelivered_after(Signal::SIGKILL);
}

#[test]
fn a_record_that_a_stopped_receiver_could_not_write_comes_again() {
    redelivered_after(Signal::SIGTERM);
}

fn redelivered_after(signal: Signal) {
    let bed = Bed::new();
    let args = ["recv", "c", "--durable", "--name", "d", "--framed", "--events", "json"];
    // Nobody reads its pipe: in the end it is stuck in a write, with a record in hand.
    let (mut reading, writing) = std::io::pipe().unwrap();
    let mut command = bed.command(&args);
    command.stdout(writing);
    let recv = bed.spawn(command);
    let bytes = vec![9; 200 * 4096];
    let send = {
        let path = bed.root().join("input");
        std::fs::write(&path, &bytes).unwrap();
        let mut command = bed.command(&["send", "c", "--frame", "chunk:4096", "--readers", "1", "--capacity", "4MiB"]);
        command.stdin(File::open(&path).unwrap());
        bed.spawn(command)
    };
    send.wait().code(0);
    let place = |bed: &Bed| {
        let chain = bed.channel().inspect().unwrap();
        let (_, reading, _) = chain[0].seen.as_ref().unwrap().readers[0];
        reading.taken
    };
    let mut last = 0;
    bed.until("it is stuck", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = place(&bed);
        std::mem::replace(&mut last, now) == now && now > 8
    });
    recv.signal(signal);
    if signal == Signal::SIGTERM {
        // The first one waits for the write that it is in; a pipe that is read lets it end.
        let ended = std::thread::spawn(move || recv.wait());
        let mut before = Vec::new();
        std::io::Read::read_to_end(&mut reading, &mut before).unwrap();
        ended.join().unwrap().code(143);
        // Either it got its record written and released it, or neither.
        return comes_again(&bed, &args, &before, true);
    }
    recv.wait();
    let mut before = Vec::new();
    std::io::Read::read_to_end(&mut reading, &mut before).unwrap();
    comes_again(&bed, &args, &before, false);
}

/// The next receiver begins with the record that the last one could not release.
fn comes_again(bed: &Bed, args: &[&str], before: &[u8], orderly: bool) {
    let (before, _) = frames(before);
    let again = bed.run(args, b"").code(0);
    let (after, torn) = frames(&again.stdout);
    assert_eq!(torn, 0);
    let next = after[0].sequence;
    let written = before.len() as u64;
    let expected = if orderly { next..=next } else { next..=next + 1 };
    assert!(expected.contains(&written), "nothing lost, at most one record twice: {next}, {written}");
    assert_eq!(after.last().unwrap().sequence, 199);
    let redelivered: Vec<_> =
        again.notes("redelivered").iter().map(|note| note["sequence"].as_u64().unwrap()).collect();
    assert!(redelivered == [next] || (orderly && redelivered.is_empty()), "{redelivered:?}");
}
