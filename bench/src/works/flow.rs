//! One-way throughput: one side sends as fast as it can, the other receives, both copy, the receiver checks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::peer::{LAST, Peer, Rx, Tx, check, stamp};
use crate::role::{Gate, both};
use crate::spec::Spec;

/// Side 0 sends, side 1 receives.
///
/// # Errors
///
/// What the peer said.
pub fn run<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    if P::IN_PROCESS {
        return both(
            spec,
            gate,
            || P::tx(spec, "flow"),
            || P::rx(spec, "flow"),
            |tx| send(spec, tx),
            |rx| receive(spec, rx),
        );
    }
    if spec.side == 0 {
        let mut tx = P::tx(spec, "flow")?;
        gate.ready()?;
        tx.settle()?;
        gate.go()?;
        Ok(send(spec, tx))
    } else {
        let rx = P::rx(spec, "flow")?;
        gate.ready()?;
        gate.go()?;
        Ok(receive(spec, rx))
    }
}

pub(crate) fn send(spec: &Spec, mut tx: impl Tx) -> Value {
    let mut payload = vec![0x5a; spec.size];
    let every = (1 << 16) / (spec.size as u64 + 64) + 1;
    let begun = Instant::now();
    let mut number = 0;
    loop {
        stamp(&mut payload, number);
        tx.send(&payload);
        number += 1;
        if number % every == 0 && begun.elapsed() >= spec.time() {
            break;
        }
    }
    stamp(&mut payload, LAST);
    tx.send(&payload);
    tx.flush();
    // Who leaves at once might take the memory with it.
    let spent = begun.elapsed();
    std::thread::sleep(Duration::from_millis(30));
    json!({ "sent": number, "send_s": spent.as_secs_f64() })
}

pub(crate) fn receive(spec: &Spec, mut rx: impl Rx) -> Value {
    let mut buf = vec![0; spec.size];
    let mut next = 0;
    let mut done = false;
    let mut begun = None;
    while !done {
        rx.drain(&mut buf, &mut |payload: &[u8]| {
            let number = check(payload, spec.size);
            if number == LAST {
                done = true;
            } else {
                assert_eq!(number, next, "order of records");
                next += 1;
            }
        });
        if begun.is_none() && next > 0 {
            begun = Some((Instant::now(), next));
        }
    }
    let (begun, first) = begun.expect("something came");
    let seconds = begun.elapsed().as_secs_f64();
    json!({ "records": next, "seconds": seconds, "rate": (next - first) as f64 / seconds })
}
