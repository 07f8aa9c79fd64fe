//! Records handed over in place: one side writes a record's ends where the other one looks at them, nobody copies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::peer::{InPlace, LAST, Look, Place, check, stamp};
use crate::role::Gate;
use crate::spec::Spec;

/// Side 0 places, side 1 looks.
///
/// # Errors
///
/// What the peer said.
pub fn run<P: InPlace>(spec: &Spec, gate: &Gate) -> Result<Value> {
    if spec.side == 0 {
        let mut placer = P::placer(spec)?;
        gate.ready()?;
        gate.go()?;
        let begun = Instant::now();
        let mut number = 0;
        let mut place = |number| {
            while !placer.try_place(spec.size, |bytes| stamp(bytes, number)) {
                std::hint::spin_loop();
            }
        };
        while number % 256 != 0 || begun.elapsed() < spec.time() {
            place(number);
            number += 1;
        }
        place(LAST);
        // Who leaves at once might take the memory with it.
        std::thread::sleep(Duration::from_millis(30));
        Ok(json!({ "sent": number }))
    } else {
        let mut looker = P::looker(spec)?;
        gate.ready()?;
        gate.go()?;
        let (mut next, mut done, mut begun) = (0, false, None);
        while !done {
            looker.look(&mut |bytes| match check(bytes, spec.size) {
                LAST => done = true,
                number => {
                    assert_eq!(number, next, "order of records");
                    next += 1;
                }
            });
            if begun.is_none() && next > 0 {
                begun = Some((Instant::now(), next));
            }
        }
        let (begun, first) = begun.ok_or("nothing came")?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({ "records": next, "seconds": seconds, "rate": (next - first) as f64 / seconds }))
    }
}
