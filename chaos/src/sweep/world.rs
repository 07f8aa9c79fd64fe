//! What a subject says it did before and after its operation, and so what must be found when it dies in between.
//!
//! Lines on a pipe, written before the operation begins and after it has returned, never inside it (but for the records that a
//! recovery has in its hands). The library is not asked what it thinks it promised.

use std::collections::BTreeMap;

use crate::payload;

/// A record as its writer meant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) nonce: u64,
    pub(crate) len: usize,
}

impl Content {
    /// Whether these are its bytes and this its type.
    pub(crate) fn is(&self, record_type: u32, payload: &[u8]) -> bool {
        record_type == payload::record_type(self.nonce)
            && payload.len() == self.len
            && payload::first_wrong(self.nonce, payload).is_none()
    }

    /// Whether it begins so: all that a look at a dead segment tells.
    pub(crate) fn begins(&self, record_type: u32, len: u32, head: &[u8]) -> bool {
        let mut bytes = vec![0; self.len];
        payload::fill(self.nonce, &mut bytes);
        record_type == payload::record_type(self.nonce) && len as usize == self.len && payload::head(&bytes) == *head
    }
}

/// Where a durable reader's place may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The record that comes first is this one at least …
    pub(crate) low: u64,
    /// … and this one at most.
    pub(crate) high: u64,
    /// Records below this one that come again must be marked so …
    pub(crate) taken_low: u64,
    /// … and none from this one on may be.
    pub(crate) taken_high: u64,
    /// It may as well have no place (yet, or any more): then it begins with what is written after the recovery.
    pub(crate) fresh: bool,
}

/// What is known of a channel at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct World {
    /// Acknowledged records, by sequence number.
    pub(crate) acked: BTreeMap<u64, Content>,
    /// Records of the push in flight, together whole or together absent.
    pub(crate) in_flight: Vec<Content>,
    /// Records that were refused: never to be seen.
    pub(crate) refused: Vec<Content>,
    /// Durable readers.
    pub(crate) places: BTreeMap<String, Place>,
    /// The channel may be gone, with all that is in it.
    pub(crate) may_retire: bool,
    /// Memory was cut: what was acknowledged is delivered or reported lost.
    pub(crate) cut: bool,
    /// Somebody was ended while he lived, and may have published since what nobody is to see.
    pub(crate) zombie: bool,
    /// The operation has returned.
    pub(crate) returned: bool,
    /// What it came to, if that is an error.
    pub(crate) failure: Option<String>,
    /// Lines that can't be understood.
    pub(crate) nonsense: Vec<String>,
}

impl World {
    /// The sequence number behind the last acknowledged record.
    pub(crate) fn next(&self) -> u64 {
        self.acked.keys().next_back().map_or(0, |last| last + 1)
    }

    /// What record `sequence` must be, with or without the push in flight.
    pub(crate) fn content(&self, sequence: u64) -> Option<Content> {
        let ahead = || usize::try_from(sequence.checked_sub(self.next())?).ok();
        self.acked.get(&sequence).copied().or_else(|| self.in_flight.get(ahead()?).copied())
    }

    /// Takes one line of the subject into account.
    pub(crate) fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let content = |at: usize| Some(Content { nonce: number(at)?, len: number(at + 1)? as usize });
        let done = match words.first().copied() {
            Some("acked") => number(1).zip(content(2)).map(|(sequence, content)| {
                self.in_flight.retain(|other| *other != content);
                self.acked.insert(sequence, content);
            }),
            Some("intent") => content(1).map(|content| self.in_flight.push(content)),
            Some("refused") => content(1).map(|content| {
                self.in_flight.retain(|other| *other != content);
                self.refused.push(content);
            }),
            Some("place") => self.place(&words),
            Some("gone") => words.get(1).map(|name| {
                self.places.remove(*name);
            }),
            Some("got") => number(1).map(|sequence| {
                for place in self.places.values_mut() {
                    // Handed out: it may be released by now; what was not handed out may not.
                    // And the next one may be in hand before that is said.
                    place.high = place.high.max(sequence + 1);
                    place.taken_high = place.taken_high.max(sequence + 2);
                }
            }),
            Some("failed") => {
                self.failure = Some(line.to_owned());
                Some(())
            }
            Some("done") => {
                self.returned = true;
                Some(())
            }
            _ => None,
        };
        if done.is_none() {
            self.nonsense.push(line.to_owned());
        }
    }

    fn place(&mut self, words: &[&str]) -> Option<()> {
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let place = Place {
            low: number(2)?,
            high: number(3)?,
            taken_low: number(4)?,
            taken_high: number(5)?,
            fresh: words.get(6) == Some(&"fresh"),
        };
        self.places.insert((*words.get(1)?).to_owned(), place);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_make_a_world() {
        let mut world = World::default();
        for line in ["acked 0 7 40", "acked 1 8 9", "intent 9 12", "intent 10 3", "place kept 1 1 2 2"] {
            world.take(line);
        }
        assert_eq!((world.next(), world.content(1)), (2, Some(Content { nonce: 8, len: 9 })));
        assert_eq!((world.content(3), world.content(4)), (Some(Content { nonce: 10, len: 3 }), None));
        world.take("acked 2 9 12");
        world.take("refused 10 3");
        world.take("done");
        assert!(world.returned && world.in_flight.is_empty() && world.nonsense.is_empty());
        assert_eq!(world.content(3), None);
        world.take("got 1");
        assert_eq!(world.places["kept"], Place { low: 1, high: 2, taken_low: 2, taken_high: 3, fresh: false });
        world.take("acked soon");
        assert_eq!(world.nonsense, ["acked soon"]);
    }

    #[test]
    fn a_content_is_told_from_all_others() {
        let content = Content { nonce: 77, len: 20 };
        let mut bytes = vec![0; 20];
        payload::fill(77, &mut bytes);
        let kind = payload::record_type(77);
        assert!(content.is(kind, &bytes) && content.begins(kind, 20, &payload::head(&bytes)));
        assert!(!content.is(kind ^ 1, &bytes) && !content.is(kind, &bytes[..19]));
        bytes[19] ^= 1;
        assert!(!content.is(kind, &bytes));
    }
}
