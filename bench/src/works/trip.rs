//! Round trips: one side asks and waits, the other answers. In `trip` both poll busily, unless the peer blocks; in
//! `wake` both sleep until the other one wakes them, if the peer can.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::clock::{tick_length, ticks};
use crate::peer::{LAST, Peer, Rx, Tx, check, stamp};
use crate::role::{Gate, both};
use crate::spec::Spec;

/// The work in which both sides sleep.
pub const WAKE: &str = "wake";

/// Side 0 asks, side 1 answers.
///
/// # Errors
///
/// What the peer said.
pub fn run<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    let asker = || Ok((P::tx(spec, "ask")?, P::rx(spec, "answer")?));
    let answerer = || {
        let tx = P::tx(spec, "answer")?;
        Ok((P::rx(spec, "ask")?, tx))
    };
    if P::IN_PROCESS {
        return both(spec, gate, asker, answerer, |(tx, rx)| ask(spec, tx, rx), |(rx, tx)| answer(spec, rx, tx));
    }
    if spec.side == 0 {
        let (mut tx, rx) = asker()?;
        gate.ready()?;
        tx.settle()?;
        gate.go()?;
        Ok(ask(spec, tx, rx))
    } else {
        let (rx, mut tx) = answerer()?;
        gate.ready()?;
        tx.settle()?;
        gate.go()?;
        Ok(answer(spec, rx, tx))
    }
}

fn ask(spec: &Spec, mut tx: impl Tx, mut rx: impl Rx) -> Value {
    let tick = tick_length();
    let asleep = spec.work == WAKE;
    let mut payload = vec![0x5a; spec.size];
    let mut buf = vec![0; spec.size];
    let mut samples = Vec::with_capacity(1 << 22);
    let begun = Instant::now();
    let mut number = 0;
    loop {
        stamp(&mut payload, number);
        let from = ticks();
        tx.send(&payload);
        tx.flush();
        let len = if asleep { rx.wait(&mut buf) } else { rx.recv(&mut buf) };
        let to = ticks();
        assert_eq!(check(&buf[..len], spec.size), number, "the answer to another question");
        // The first ones fault pages in.
        if number >= 200 && samples.len() < samples.capacity() {
            samples.push(to - from);
        }
        number += 1;
        if number % 64 == 0 && begun.elapsed() >= spec.time() && samples.len() >= 500 {
            break;
        }
    }
    stamp(&mut payload, LAST);
    tx.send(&payload);
    tx.flush();
    let _ = rx.recv(&mut buf);
    samples.sort_unstable();
    let at = |q: f64| samples[((samples.len() - 1) as f64 * q) as usize] as f64 * tick;
    json!({ "trips": number, "p50_ns": at(0.5), "p99_ns": at(0.99), "p999_ns": at(0.999) })
}

fn answer(spec: &Spec, mut rx: impl Rx, mut tx: impl Tx) -> Value {
    let mut buf = vec![0; spec.size];
    let asleep = spec.work == WAKE;
    loop {
        let len = if asleep { rx.wait(&mut buf) } else { rx.recv(&mut buf) };
        let number = check(&buf[..len], spec.size);
        tx.send(&buf[..len]);
        tx.flush();
        if number == LAST {
            // Who leaves at once might take the memory with it.
            std::thread::sleep(std::time::Duration::from_millis(30));
            return json!({});
        }
    }
}
