//! A live segment is cut under `send` and `recv`: nobody dies of a signal, and the loss is told exactly.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::time::Duration;

use crate::bed::{Bed, Ended, Frame, Tool, frames};

const CAPACITY: u64 = 16 << 10;

/// Lengths to cut to: nothing, twelve bytes, half the identity, a page, all but a byte.
fn cuts(size: u64) -> [u64; 5] {
    [0, 12, 128, 4096, size - 1]
}

fn cut(bed: &Bed, index: usize) {
    let file = OpenOptions::new().write(true).open(bed.segment(1)).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(cuts(size)[index]).unwrap();
}

fn line(n: u64) -> Vec<u8> {
    format!("record {n}\n").into_bytes()
}

struct Scene {
    bed: Bed,
    recv: Tool,
    send: Tool,
    fed: u64,
}

/// A receiver and a sender, ten records through, and the segment cut.
fn scene(index: usize, durable: bool, heal: &[&str]) -> Scene {
    let bed = Bed::new();
    let place: &[&str] = if durable { &["--durable", "--name", "d"] } else { &[] };
    let recv = bed.start(&[&["recv", "c", "--framed", "--events", "json"][..], place].concat());
    let capacity = CAPACITY.to_string();
    let args = ["send", "c", "--readers", "1", "--heartbeat", "10ms", "--events", "json", "--capacity", &capacity];
    let mut send = bed.start(&[&args[..], heal].concat());
    for n in 0..10 {
        send.feed(&line(n));
    }
    bed.until("ten records are received", || {
        let chain = bed.channel().inspect().unwrap_or_default();
        chain
            .first()
            .and_then(|g| g.seen.as_ref().ok())
            .is_some_and(|seen| seen.readers.first().is_some_and(|(_, reading, _)| reading.taken == 10))
    });
    // The sender remembers its readers from beat to beat: what the cut takes from the table it then still knows.
    let beats = || bed.channel().inspect().unwrap()[0].seen.as_ref().unwrap().beat;
    let before = beats();
    bed.until("two beats", || beats() >= before + 2);
    cut(&bed, index);
    Scene { bed, recv, send, fed: 10 }
}

impl Scene {
    /// Feeds one record after the other until something holds of the sender.
    fn feed_until(&mut self, mut holds: impl FnMut(&Scene) -> bool) {
        while !holds(self) {
            assert!(!self.bed.hung(), "hangs");
            self.send.feed(&line(self.fed));
            self.fed += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Every sequence number below `next` was received, or told lost; and what was received is what was sent.
fn check(recv: &Ended, next: u64) -> u64 {
    let (got, torn) = frames(&recv.stdout);
    assert_eq!(torn, 0);
    let mut seen = BTreeSet::new();
    for Frame { sequence, payload, .. } in &got {
        assert!(seen.insert(*sequence), "{sequence} twice");
        let mut sent = line(*sequence);
        sent.pop();
        assert_eq!(payload, &sent);
    }
    assert!(got.is_sorted_by_key(|frame| frame.sequence));
    let mut lost = 0;
    for gap in recv.notes("gap") {
        let from = gap["from"].as_u64().unwrap();
        let count = gap["count"].as_u64().expect("the writer lived: it is known how many");
        lost += count;
        for sequence in from..from + count {
            assert!(seen.insert(sequence), "{sequence} received and told lost");
        }
    }
    assert!(seen.into_iter().eq(0..next), "neither received nor told lost; {:?}", recv.notes("gap"));
    lost
}

#[test]
fn a_healing_sender_goes_on_and_the_loss_is_exact() {
    for index in 0..cuts(0x7fff_ffff).len() {
        for durable in [false, true] {
            let mut scene = scene(index, durable, &["--heal"]);
            scene.feed_until(|scene| scene.bed.segment(2).exists());
            scene.recv.note("restarted");
            scene.feed_until({
                let until = scene.fed + 5;
                move |scene| scene.fed >= until
            });
            let send = scene.send.end();
            let code = send.status.code();
            assert!(code == Some(0) || code == Some(4), "cut {index}: {send:?}");
            assert_eq!(send.notes("healed").len(), 1);
            let next = send.notes("done")[0]["next"].as_u64().unwrap();
            assert_eq!(next, scene.fed, "each line has its number");
            let recv = scene.recv.end();
            let lost = check(&recv, next);
            assert_eq!(recv.status.code(), Some(if lost == 0 { 0 } else { 4 }), "{recv:?}");
        }
    }
}

#[test]
fn a_sender_that_may_not_heal_says_truncated_and_the_next_one_goes_on() {
    for index in 0..cuts(0x7fff_ffff).len() {
        for durable in [false, true] {
            let mut scene = scene(index, durable, &[]);
            scene.feed_until(|scene| !scene.send.running());
            scene.send.end().code(1).says("RW-PUSH-TRUNCATED");
            // Its writer is dead and its memory gone: how many records that cost nobody can know, but it is told.
            let next = scene.bed.run(&["send", "c", "--readers", "1", "--events", "json"], b"afterwards\n").code(0);
            let writing = next.notes("writing")[0]["next"].as_u64().unwrap();
            let recv = scene.recv.end();
            let (got, _) = frames(&recv.stdout);
            assert_eq!(got.last().unwrap().payload, b"afterwards", "cut {index}: {recv:?}");
            let received = got.len() as u64 - 1;
            assert!(received >= 10, "{recv:?}");
            if writing != received {
                recv.code(4).says(r#""event":"gap""#);
            }
        }
    }
}

#[test]
fn a_sender_that_is_cut_at_the_end_of_stdin_closes_after_healing() {
    for index in 0..cuts(0x7fff_ffff).len() {
        let scene = scene(index, true, &["--heal"]);
        // Nothing more is pushed: it is the close that meets the cut.
        let send = scene.send.end();
        assert!(matches!(send.status.code(), Some(0 | 4)), "cut {index}: {send:?}");
        let recv = scene.recv.end();
        assert!(matches!(recv.status.code(), Some(0 | 4)), "cut {index}: {recv:?}");
        check(&recv, 10);
    }
}
