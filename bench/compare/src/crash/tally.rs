//! What a reader got: records of each writer, counted, each of them checked.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A record's payload: who wrote it, its number, words made from both.
pub(crate) fn write(payload: &mut [u8], writer: u64, number: u64) {
    for (at, word) in payload.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&expected(writer, number, at).to_le_bytes());
    }
}

fn expected(writer: u64, number: u64, at: usize) -> u64 {
    match at {
        0 => writer,
        1 => number,
        _ => (number ^ writer.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at as u64),
    }
}

/// The writer and number of a payload; nothing if it is not as it was written.
fn read(payload: &[u8], size: usize) -> Option<(u64, u64)> {
    let word = |at: usize| payload.get(8 * at..8 * at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (writer, number) = (word(0)?, word(1)?);
    let sound = payload.len() == size && (0..size / 8).all(|at| word(at) == Some(expected(writer, number, at)));
    sound.then_some((writer, number))
}

/// Records of one writer.
#[derive(Debug, Default)]
struct Of {
    received: u64,
    next: u64,
    missing: u64,
    repeated: u64,
    first_ns: u64,
    marked: u64,
}

/// All that a reader got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    writers: BTreeMap<u64, Of>,
    torn: u64,
    told: Vec<(String, u64)>,
    /// Records since the last mark count separately.
    pub(crate) marking: bool,
}

impl Tally {
    /// Counts a record; says whether it is the first one of its writer.
    pub(crate) fn record(&mut self, payload: &[u8], size: usize, now: impl FnOnce() -> u64) -> bool {
        let Some((writer, number)) = read(payload, size) else {
            self.torn += 1;
            return false;
        };
        let of = self.writers.entry(writer).or_default();
        let first = of.received == 0;
        if first {
            of.first_ns = now();
        }
        of.received += 1;
        of.marked += u64::from(self.marking);
        if number < of.next {
            of.repeated += 1;
        } else {
            of.missing += number - of.next;
            of.next = number + 1;
        }
        first
    }

    /// Keeps what the system said; repetitions only once.
    pub(crate) fn told(&mut self, what: String, now: u64) -> bool {
        let new = self.told.last().is_none_or(|(last, _)| *last != what) && self.told.len() < 50;
        if new {
            self.told.push((what, now));
        }
        new
    }

    /// All of it.
    pub(crate) fn report(&self) -> Value {
        let writers = self.writers.iter().map(|(writer, of)| {
            let of = json!({
                "received": of.received, "next": of.next, "missing": of.missing, "repeated": of.repeated,
                "first_ns": of.first_ns, "since_mark": of.marked,
            });
            (writer.to_string(), of)
        });
        let told: Vec<_> = self.told.iter().map(|(what, at)| json!({ "what": what, "ns": at })).collect();
        json!({ "writers": writers.collect::<serde_json::Map<_, _>>(), "torn": self.torn, "told": told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_repetitions_and_torn_records_are_counted() {
        let mut tally = Tally::default();
        let mut payload = [0; 64];
        for number in [0, 1, 4, 4] {
            write(&mut payload, 7, number);
            tally.record(&payload, 64, || 5);
        }
        payload[40] ^= 1;
        tally.record(&payload, 64, || 5);
        tally.record(&payload[..32], 64, || 5);
        let report = tally.report();
        assert_eq!(report["torn"], 2);
        let of = &report["writers"]["7"];
        assert_eq!((&of["received"], &of["missing"], &of["repeated"]), (&json!(4), &json!(2), &json!(1)));
    }
}
