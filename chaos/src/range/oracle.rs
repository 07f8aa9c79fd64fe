//! Judges one trial from its whole ledger and from what its faults may have cost.
//!
//! - No fault makes a wrong payload: what a reader has in hand is what somebody pushed, under the number that it got.
//! - What was acknowledged is delivered or told as lost; a record that was hit is at most that one record.
//! - Numbers go up; a record comes again only to the heir of somebody who died, and marked.
//! - What was refused does not exist.
//! - A peer that lives is not taken for dead.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::faults::Cost;
use crate::ledger::{Entry, Kind};
use crate::payload;
use crate::range::actor::{REFUSED_FENCED, REFUSED_FULL, REFUSED_UNCERTAIN, TOLD_GONE, TOLD_LATE, TOLD_TAKEN};
use crate::verdict::Broken;

/// What the judge knows besides the ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The most that a fault of the trial may cost; `None`: there was none.
    pub(crate) cost: Option<Cost>,
    /// Records that were hit.
    pub(crate) hit: HashSet<u64>,
    /// Nothing was done to anybody: whoever is taken for dead is so wrongly.
    pub(crate) control: bool,
}

/// What was seen of a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    /// Told as lost, their number known.
    pub(crate) told_lost: u64,
    /// Times that readers were told of an unknown loss.
    pub(crate) told_unknown: u64,
    pub(crate) errors: u64,
    pub(crate) terms: u64,
    pub(crate) false_deaths: u64,
}

/// A push, as its writer meant it.
#[derive(Debug, Clone, Copy)]
struct Push {
    len: u32,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never returned, or nobody can know.
    Open,
    Acked(u64),
    Refused,
}

/// A reader's life.
#[derive(Debug)]
struct Life {
    place: Option<u64>,
    /// What comes next; `None`: an unknown number was lost.
    next: Option<u64>,
    fresh: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Judge {
    facts: Facts,
    pushes: HashMap<u64, Push>,
    /// Acknowledged records by number, of this incarnation of the channel.
    acked: BTreeMap<u64, u64>,
    lives: HashMap<u32, Life>,
    places: HashMap<u64, Option<u64>>,
    term: Option<(u32, u64)>,
    intents: HashMap<u32, u64>,
    closed: bool,
    tally: Tally,
    broken: Vec<(Broken, String)>,
}

/// Judges.
pub(crate) fn judge(entries: &[Entry], facts: &Facts) -> (Tally, Vec<(Broken, String)>) {
    let mut judge = Judge { facts: facts.clone(), ..Judge::default() };
    // What a push came to is written down after its record may have been received: first all pushes, then all readers.
    entries.iter().for_each(|entry| judge.writing(entry));
    entries.iter().for_each(|entry| judge.reading(entry));
    judge.finish();
    (judge.tally, judge.broken)
}

impl Judge {
    fn flag(&mut self, broken: Broken, what: String) {
        if self.broken.len() < 50 {
            self.broken.push((broken, what));
        }
    }

    fn cost(&self) -> Option<Cost> {
        self.facts.cost
    }

    fn allows(&self, cost: Cost) -> bool {
        self.cost().is_some_and(|most| most >= cost)
    }

    fn writing(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Elected => self.elected(entry),
            Kind::Intent => {
                self.pushes.insert(entry.nonce, Push { len: entry.len, fate: Fate::Open });
                self.intents.insert(entry.worker, entry.nonce);
            }
            Kind::Acked => {
                self.tally.acknowledged += 1;
                self.intents.remove(&entry.worker);
                if let Some(push) = self.pushes.get_mut(&entry.nonce) {
                    push.fate = Fate::Acked(entry.sequence);
                }
                if let Some(other) = self.acked.insert(entry.sequence, entry.nonce) {
                    let what =
                        format!("record {} was acknowledged to {:x} and to {:x}", entry.sequence, other, entry.nonce);
                    if !self.allows(Cost::Reborn) {
                        self.flag(Broken::Owners, what);
                    }
                }
                if let Some((worker, next)) = &mut self.term
                    && *worker == entry.worker
                {
                    let due = std::mem::replace(next, entry.sequence + 1);
                    if entry.sequence < due && !self.allows(Cost::Reborn) {
                        let what = format!("record {} was acknowledged, {due} was due", entry.sequence);
                        self.flag(Broken::Reordered, what);
                    }
                }
            }
            Kind::Refused => {
                self.intents.remove(&entry.worker);
                if entry.code != REFUSED_UNCERTAIN
                    && let Some(push) = self.pushes.get_mut(&entry.nonce)
                {
                    debug_assert!([REFUSED_FULL, REFUSED_FENCED].contains(&entry.code));
                    push.fate = Fate::Refused;
                }
            }
            Kind::Closed => self.closed = true,
            _ => {}
        }
    }

    fn elected(&mut self, entry: &Entry) {
        self.tally.terms += 1;
        let before = self.term.replace((entry.worker, entry.sequence));
        let Some((worker, next)) = before else { return };
        if self.facts.control {
            self.tally.false_deaths += 1;
        }
        let first = entry.sequence;
        let in_hand = self.intents.contains_key(&worker);
        if first < next && !self.allows(Cost::Reborn) {
            let what =
                format!("generation {} begins with record {first}, {next} was acknowledged before", entry.generation);
            self.flag(Broken::Lost, what);
        } else if first > next + u64::from(in_hand) && !self.allows(Cost::Reported) {
            let what =
                format!("generation {} begins with record {first}, the one before came to {next}", entry.generation);
            self.flag(Broken::Reordered, what);
        }
    }

    fn reading(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Joined => self.joined(entry),
            Kind::Record => self.record(entry),
            Kind::Gap => self.gap(entry),
            Kind::End => self.end(entry),
            Kind::Restarted if self.facts.control => self.tally.false_deaths += 1,
            Kind::Erred => {
                self.tally.errors += 1;
                let id = super::unpack_id(entry.nonce, &entry.head);
                if id == "RW-RECV-GONE" || id == "RW-RECV-EXPELLED" {
                    // It says that an unknown number is lost.
                    self.tally.told_unknown += 1;
                    if self.facts.control {
                        self.tally.false_deaths += 1;
                    }
                    if !self.allows(Cost::Unknown) {
                        self.flag(
                            Broken::Misreported,
                            format!("actor {}: {id}, which nothing called for", entry.worker),
                        );
                    }
                    if let Some(life) = self.lives.get_mut(&entry.worker) {
                        life.next = None;
                        let place = life.place;
                        place.map(|place| self.places.insert(place, None));
                    }
                }
            }
            Kind::Told if entry.code == TOLD_GONE && self.facts.control => self.tally.false_deaths += 1,
            Kind::Told if entry.code == TOLD_TAKEN => {
                self.tally.false_deaths += u64::from(self.facts.control);
                if !self.closed {
                    self.flag(Broken::Owners, "the watchdog took away what somebody lived in".into());
                }
            }
            Kind::Told if entry.code == TOLD_LATE => {
                // It came to a channel that was closed: if it had been there before, it has missed the rest.
                if let Some(life) = self.lives.get_mut(&entry.worker) {
                    life.ended = true;
                    let next = life.next;
                    self.nothing_from(entry.worker, next);
                }
            }
            _ => {}
        }
    }

    fn joined(&mut self, entry: &Entry) {
        let place = entry.flag.then_some(entry.nonce);
        let next = match place {
            Some(place) => *self.places.entry(place).or_insert(Some(entry.sequence)),
            None => Some(entry.sequence),
        };
        let next = if self.allows(Cost::Reborn) { None } else { next };
        self.lives.insert(entry.worker, Life { place, next, fresh: true, ended: false });
    }

    fn record(&mut self, entry: &Entry) {
        let (worker, sequence) = (entry.worker, entry.sequence);
        self.judge_bytes(entry);
        let Some(life) = self.lives.get_mut(&worker) else {
            return self.flag(Broken::Failed, format!("actor {worker} reads and never joined"));
        };
        let fresh = std::mem::take(&mut life.fresh);
        let (next, place) = (life.next, life.place);
        let again = fresh && place.is_some() && entry.flag && next == Some(sequence + 1);
        if again {
            self.tally.redelivered += 1;
            return;
        }
        life.next = Some(sequence + 1);
        if let Some(place) = place {
            self.places.insert(place, Some(sequence + 1));
        }
        self.tally.delivered += 1;
        match next {
            Some(next) if sequence < next => {
                let what = format!("actor {worker}: record {sequence} came, {next} was due");
                self.flag(Broken::Duplicated, what);
            }
            Some(next) if sequence > next => self.missing(worker, next, sequence),
            _ => {}
        }
    }

    /// Records that were passed over in silence.
    fn missing(&mut self, worker: u32, from: u64, to: u64) {
        let lost: Vec<u64> = self.acked.range(from..to).map(|(sequence, _)| *sequence).collect();
        let what =
            format!("actor {worker}: record {to} came, {from} was due, and nothing was said; acknowledged: {lost:?}");
        self.flag(if lost.is_empty() { Broken::Reordered } else { Broken::Lost }, what);
    }

    /// Is it what somebody pushed, byte for byte, under this number?
    fn judge_bytes(&mut self, entry: &Entry) {
        let (worker, sequence) = (entry.worker, entry.sequence);
        if entry.code != 0 {
            let what = format!("actor {worker}: record {sequence} is wrong from byte {} on", entry.code - 1);
            return self.flag(Broken::Torn, what);
        }
        let Some(push) = self.pushes.get(&entry.nonce).copied() else {
            return self.flag(Broken::Torn, format!("actor {worker}: record {sequence} is nobody's"));
        };
        let wrong = if push.len != entry.len {
            Some(format!("has {} bytes, {} were pushed", entry.len, push.len))
        } else if entry.record_type != payload::record_type(entry.nonce) {
            Some(format!("has type {:#x}", entry.record_type))
        } else {
            match push.fate {
                Fate::Acked(other) if other != sequence => Some(format!("was acknowledged as {other}")),
                Fate::Refused => Some("was refused to its writer".into()),
                _ => None,
            }
        };
        if let Some(wrong) = wrong {
            self.flag(Broken::Torn, format!("actor {worker}: record {sequence} {wrong}"));
        }
    }

    fn gap(&mut self, entry: &Entry) {
        let worker = entry.worker;
        let Some(life) = self.lives.get_mut(&worker) else { return };
        life.fresh = false;
        let (next, from) = (life.next, entry.sequence);
        let count = (entry.nonce != u64::MAX).then_some(entry.nonce);
        life.next = count.map(|count| from.saturating_add(count));
        let (after, place) = (life.next, life.place);
        if let Some(place) = place {
            self.places.insert(place, after);
        }
        if let Some(next) = next.filter(|next| *next != from) {
            let what = format!("actor {worker}: loss told from record {from} on, {next} was due");
            self.flag(Broken::Misreported, what);
        }
        let Some(count) = count else {
            self.tally.told_unknown += 1;
            if !self.allows(Cost::Unknown) {
                self.flag(Broken::Misreported, format!("actor {worker}: an unknown loss told from record {from} on"));
            }
            return;
        };
        self.tally.told_lost += count;
        let untouched = (from..from.saturating_add(count.min(1 << 16))).find(|n| !self.facts.hit.contains(n));
        match self.cost() {
            Some(Cost::Hit) if untouched.is_some() => {
                let what = format!(
                    "actor {worker}: {count} records told lost from {from} on; record {} had not been touched",
                    untouched.unwrap_or(0)
                );
                self.flag(Broken::Misreported, what);
            }
            Some(Cost::Nothing) | None => {
                let what =
                    format!("actor {worker}: {count} records told lost from {from} on, and nothing called for it");
                self.flag(Broken::Misreported, what);
            }
            _ => {}
        }
    }

    fn end(&mut self, entry: &Entry) {
        let Some(life) = self.lives.get_mut(&entry.worker) else { return };
        life.ended = true;
        let next = life.next;
        self.nothing_from(entry.worker, next);
    }

    /// The end has come: all must have been there.
    fn nothing_from(&mut self, worker: u32, next: Option<u64>) {
        let Some(next) = next else { return };
        let rest = self.acked.range(next..).count();
        if rest > 0 && !self.allows(Cost::Reborn) {
            self.flag(Broken::Lost, format!("actor {worker}: the end came at {next}, {rest} more were acknowledged"));
        }
    }

    fn finish(&mut self) {
        if self.tally.false_deaths > 0 {
            let what = format!("{} times somebody who lived was taken for dead", self.tally.false_deaths);
            self.flag(Broken::FalseDeath, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::pack_id;

    /// A ledger, made up.
    struct Book(Vec<Entry>);

    impl Book {
        /// Writer 1 is elected, reader 2 (durable) has joined.
        fn open() -> Book {
            let mut book = Book(Vec::new());
            book.add(Kind::Elected, 1, |e| e.generation = 1);
            book.add(Kind::Joined, 2, |e| e.flag = true);
            book
        }

        fn add(&mut self, kind: Kind, worker: u32, fill: impl FnOnce(&mut Entry)) {
            let mut entry = Entry::new(kind, 0, worker);
            fill(&mut entry);
            self.0.push(entry);
        }

        fn push(&mut self, worker: u32, sequence: u64) {
            self.intend(worker, sequence);
            self.add(Kind::Acked, worker, |e| (e.nonce, e.len, e.sequence) = (nonce(worker, sequence), 9, sequence));
        }

        fn intend(&mut self, worker: u32, sequence: u64) {
            self.add(Kind::Intent, worker, |e| (e.nonce, e.len) = (nonce(worker, sequence), 9));
        }

        fn take(&mut self, reader: u32, writer: u32, sequence: u64) {
            self.add(Kind::Record, reader, |e| {
                (e.nonce, e.len, e.sequence) = (nonce(writer, sequence), 9, sequence);
                e.record_type = payload::record_type(e.nonce);
            });
        }

        fn gap(&mut self, reader: u32, from: u64, count: u64) {
            self.add(Kind::Gap, reader, |e| (e.sequence, e.nonce) = (from, count));
        }

        fn judged(&self, cost: Cost, hit: &[u64]) -> Vec<Broken> {
            let facts = Facts { cost: Some(cost), hit: hit.iter().copied().collect(), control: false };
            judge(&self.0, &facts).1.into_iter().map(|(broken, _)| broken).collect()
        }
    }

    fn nonce(worker: u32, sequence: u64) -> u64 {
        u64::from(worker) << 32 | (sequence + 1)
    }

    #[test]
    fn what_goes_well_is_well() {
        let mut book = Book::open();
        (0..5).for_each(|n| book.push(1, n));
        (0..5).for_each(|n| book.take(2, 1, n));
        book.add(Kind::End, 2, |e| e.sequence = 5);
        assert_eq!(book.judged(Cost::Nothing, &[]), []);
    }

    #[test]
    fn a_record_that_is_passed_over_in_silence_is_lost_whatever_the_fault() {
        let mut book = Book::open();
        (0..3).for_each(|n| book.push(1, n));
        book.take(2, 1, 0);
        book.take(2, 1, 2);
        for cost in [Cost::Nothing, Cost::Hit, Cost::Reported, Cost::Unknown] {
            assert_eq!(book.judged(cost, &[1]), [Broken::Lost], "{cost:?}");
        }
    }

    #[test]
    fn a_hit_record_may_be_told_lost_and_its_neighbour_not() {
        let mut book = Book::open();
        (0..3).for_each(|n| book.push(1, n));
        book.take(2, 1, 0);
        book.gap(2, 1, 1);
        book.take(2, 1, 2);
        assert_eq!(book.judged(Cost::Hit, &[1]), []);
        assert_eq!(book.judged(Cost::Hit, &[2]), [Broken::Misreported]);
        assert_eq!(book.judged(Cost::Nothing, &[1]), [Broken::Misreported]);
        assert_eq!(book.judged(Cost::Reported, &[]), []);
    }

    #[test]
    fn an_unknown_loss_is_told_only_where_nobody_can_know() {
        let mut book = Book::open();
        (0..3).for_each(|n| book.push(1, n));
        book.gap(2, 0, u64::MAX);
        book.take(2, 1, 2);
        assert_eq!(book.judged(Cost::Reported, &[]), [Broken::Misreported]);
        assert_eq!(book.judged(Cost::Unknown, &[]), []);
    }

    #[test]
    fn no_fault_makes_a_wrong_payload() {
        for spoil in [
            |e: &mut Entry| e.code = 4,
            |e: &mut Entry| e.len = 10,
            |e: &mut Entry| e.nonce = 77,
            |e: &mut Entry| e.record_type ^= 1,
            |e: &mut Entry| (e.nonce, e.record_type) = (nonce(1, 1), payload::record_type(nonce(1, 1))),
        ] {
            let mut book = Book::open();
            (0..3).for_each(|n| book.push(1, n));
            book.take(2, 1, 0);
            spoil(book.0.last_mut().unwrap());
            assert_eq!(book.judged(Cost::Reborn, &[]), [Broken::Torn]);
        }
    }

    #[test]
    fn what_was_refused_is_never_seen_and_what_never_returned_may_be() {
        for (code, broken) in [(REFUSED_FENCED, vec![Broken::Torn]), (REFUSED_UNCERTAIN, vec![])] {
            let mut book = Book::open();
            book.intend(1, 0);
            book.add(Kind::Refused, 1, |e| (e.nonce, e.code) = (nonce(1, 0), code));
            book.take(2, 1, 0);
            assert_eq!(book.judged(Cost::Reported, &[]), broken);
        }
        let mut book = Book::open();
        book.intend(1, 0);
        book.take(2, 1, 0);
        assert_eq!(book.judged(Cost::Nothing, &[]), []);
    }

    #[test]
    fn only_the_heir_of_a_durable_reader_gets_a_record_again_and_marked() {
        for (flag, broken) in [(true, vec![]), (false, vec![Broken::Duplicated])] {
            let mut book = Book::open();
            (0..3).for_each(|n| book.push(1, n));
            book.take(2, 1, 0);
            book.take(2, 1, 1);
            book.add(Kind::Joined, 3, |e| (e.flag, e.sequence) = (true, 1));
            book.take(3, 1, 1);
            book.0.last_mut().unwrap().flag = flag;
            book.take(3, 1, 2);
            assert_eq!(book.judged(Cost::Nothing, &[]), broken);
        }
    }

    #[test]
    fn a_successor_begins_where_the_other_ended_each_time_that_one_recovers() {
        for (first, broken) in [(2, vec![]), (3, vec![]), (1, vec![Broken::Lost]), (4, vec![Broken::Reordered])] {
            let mut book = Book::open();
            (0..2).for_each(|n| book.push(1, n));
            book.intend(1, 2);
            book.add(Kind::Elected, 4, |e| (e.generation, e.sequence) = (2, first));
            assert_eq!(book.judged(Cost::Nothing, &[]), broken, "{first}");
            // It dies before its first push: the next one finds the same.
            book.add(Kind::Elected, 5, |e| (e.generation, e.sequence) = (3, first + 1));
            assert!(book.judged(Cost::Nothing, &[]).contains(&Broken::Reordered));
        }
    }

    #[test]
    fn who_lives_is_not_dead() {
        let facts = Facts { cost: Some(Cost::Nothing), hit: HashSet::new(), control: true };
        for sign in [Kind::Elected, Kind::Restarted, Kind::Told, Kind::Erred] {
            let mut book = Book::open();
            book.push(1, 0);
            book.take(2, 1, 0);
            assert_eq!(judge(&book.0, &facts).0.false_deaths, 0);
            book.add(sign, 4, |e| {
                (e.sequence, e.code) = (1, TOLD_GONE);
                (e.nonce, e.head) = pack_id("RW-RECV-EXPELLED");
            });
            let (tally, broken) = judge(&book.0, &facts);
            assert_eq!(tally.false_deaths, 1, "{sign:?}");
            assert!(broken.iter().any(|(broken, _)| *broken == Broken::FalseDeath));
        }
    }

    #[test]
    fn the_end_comes_last() {
        let mut book = Book::open();
        (0..3).for_each(|n| book.push(1, n));
        book.take(2, 1, 0);
        book.add(Kind::End, 2, |e| e.sequence = 1);
        assert_eq!(book.judged(Cost::Unknown, &[]), [Broken::Lost]);
    }
}
