//! Judges a channel from the ledger alone: what was acknowledged, what was delivered, and whether that fits.
//!
//! - Acknowledged ⇒ in every registered reader's hands once, in order, byte for byte.
//! - Not acknowledged ⇒ whole or absent, and the same for every reader; what was refused is absent.
//! - One sequence number, one content; numbers run on without a hole, over all generations.
//! - Handed out again only to the heir of a dead durable reader, the one record it had in hand, and marked.
//! - One owner: nobody writes once a successor has begun.
//!
//! It holds what some reader may still get, no more: memory is bounded by the ring, not by the length of the run.

use std::collections::{HashMap, VecDeque};

use crate::decode::Corpse;
use crate::ledger::{Entry, Kind};
use crate::payload;
use crate::quantiles::Quantiles;
use crate::verdict::{Broken, Counts, Violation};

/// Violations that are written out; more are only counted.
const MOST: usize = 100;

/// A record as its writer meant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    nonce: u64,
    len: u32,
}

/// A writer's time.
#[derive(Debug)]
struct Term {
    worker: u32,
    generation: u64,
    /// Sequence number of the next acknowledgement.
    next: u64,
    intent: Option<Content>,
}

/// A reader's life.
#[derive(Debug)]
struct Life {
    place: Option<u64>,
    /// What comes next.
    next: u64,
    /// Nothing has come in this life.
    fresh: bool,
    /// There was a life before this one.
    heir: bool,
    generation: u64,
    ended: bool,
}

/// A durable reader's place, over its lives.
#[derive(Debug, Default)]
struct Place {
    next: u64,
    holder: Option<u32>,
}

/// The last change of writers.
#[derive(Debug)]
struct Takeover {
    generation: u64,
    predecessor: u32,
    elected: u64,
    /// When the first record was in a reader's hands.
    received: Option<u64>,
    /// When the predecessor was killed.
    killed: Option<u64>,
}

/// Judges one channel.
#[derive(Debug)]
pub(crate) struct Oracle {
    name: &'static str,
    /// Settled records that are remembered, since a newcomer may begin with them.
    margin: usize,
    term: Option<Term>,
    /// Contents of the records from `base` on.
    contents: VecDeque<Option<Content>>,
    base: u64,
    lives: HashMap<u32, Life>,
    places: HashMap<u64, Place>,
    closed: Option<u64>,
    /// First sequence numbers of the last generations.
    firsts: VecDeque<(u64, u64)>,
    /// Readers that were told of the end: who, and what they had come to.
    ends: Vec<(u32, u64)>,
    /// Who was killed when, the last few.
    deaths: VecDeque<(u32, u64)>,
    takeover: Option<Takeover>,
    /// The last few, latest first: predecessor, when its successor was elected, what that begins with.
    successions: VecDeque<(u32, u64, u64)>,
    /// From a writer's death to the first record of its successor in a reader's hands.
    pub(crate) recovery: Quantiles,
    /// From a writer's death to its successor's first step.
    pub(crate) election: Quantiles,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
    pub(crate) violated: u64,
    /// Grows with each reader's and writer's step.
    pub(crate) progress: Progress,
}

/// For the watch that looks for hangs: what has moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Sequence number behind the last record that is known to be published.
    pub(crate) tail: u64,
    /// Number of the last generation, and its writer.
    pub(crate) generation: u64,
    pub(crate) writer: u32,
    /// Reader's worker, and what it gets next.
    pub(crate) readers: Vec<(u32, u64)>,
    /// Readers that have come to the end.
    pub(crate) ended: usize,
}

impl Oracle {
    /// Judges channel `name`, whose rings hold `capacity` bytes.
    pub(crate) fn new(name: &'static str, capacity: u64) -> Oracle {
        Oracle {
            name,
            margin: (capacity / 32) as usize * 2 + 1024,
            term: None,
            contents: VecDeque::new(),
            base: 0,
            lives: HashMap::new(),
            places: HashMap::new(),
            closed: None,
            firsts: VecDeque::new(),
            ends: Vec::new(),
            deaths: VecDeque::new(),
            takeover: None,
            successions: VecDeque::new(),
            recovery: Quantiles::default(),
            election: Quantiles::default(),
            counts: Counts::default(),
            violations: Vec::new(),
            violated: 0,
            progress: Progress::default(),
        }
    }

    fn flag(&mut self, broken: Broken, count: u64, what: String) {
        match broken {
            Broken::Lost => self.counts.lost += count,
            Broken::Duplicated => self.counts.duplicated += count,
            Broken::Torn => self.counts.torn += count,
            Broken::Reordered => self.counts.reordered += count,
            _ => {}
        }
        self.violated += 1;
        if self.violations.len() < MOST {
            self.violations.push(Violation { broken, what: format!("channel {}: {what}", self.name) });
        }
    }

    /// Takes the next entry into account.
    pub(crate) fn take(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Elected => self.elected(entry),
            Kind::Intent => self.intent(entry),
            Kind::Acked => self.acked(entry),
            Kind::Refused => self.refused(entry),
            Kind::Closed => self.closed(entry),
            Kind::Joined => self.joined(entry),
            Kind::Record => self.record(entry),
            Kind::Gap => self.gap(entry),
            Kind::Restarted => self.restarted(entry),
            Kind::End => self.end(entry),
            Kind::Died => self.died(entry),
            Kind::Failed => {
                self.flag(Broken::Failed, 1, format!("worker {} gave up, see the notes", entry.worker));
            }
            Kind::Started | Kind::Told | Kind::Woke | Kind::Erred => {}
        }
    }

    fn content(&self, sequence: u64) -> Option<Content> {
        let at = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        self.contents.get(at).copied().flatten()
    }

    /// Decides what record `sequence` is; `false` if it was decided otherwise before.
    fn decide(&mut self, sequence: u64, content: Content) -> bool {
        let Some(at) = sequence.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return true };
        // A hole of more than this is not filled entry by entry: whatever made it was flagged.
        if at > self.contents.len() + (1 << 20) {
            return true;
        }
        while self.contents.len() <= at {
            self.contents.push_back(None);
        }
        *self.contents[at].get_or_insert(content) == content
    }

    fn elected(&mut self, entry: &Entry) {
        let (generation, first) = (entry.generation, entry.sequence);
        self.counts.terms += 1;
        let before = self.term.take();
        match &before {
            None if first != 0 => {
                self.flag(Broken::Reordered, 1, format!("the first writer begins with record {first}"));
            }
            None => {}
            Some(last) => {
                let (next, intent) = (last.next, last.intent);
                if generation <= last.generation {
                    let what = format!(
                        "worker {} owns generation {generation}, worker {} owned {} before",
                        entry.worker, last.worker, last.generation
                    );
                    self.flag(Broken::Owners, 1, what);
                }
                self.follow(first, next, intent, generation);
                let killed = self.deaths.iter().find(|(worker, _)| *worker == last.worker).map(|(_, ns)| *ns);
                if let Some(killed) = killed {
                    self.election.add(entry.ns.saturating_sub(killed));
                }
                let (predecessor, elected) = (last.worker, entry.ns);
                self.successions.push_front((predecessor, elected, first));
                self.successions.truncate(8);
                self.takeover = Some(Takeover { generation, predecessor, elected, received: None, killed });
            }
        }
        self.term = Some(Term { worker: entry.worker, generation, next: first, intent: None });
        self.firsts.push_back((generation, first));
        if self.firsts.len() > 256 {
            self.firsts.pop_front();
        }
        self.progress.generation = generation;
        self.progress.writer = entry.worker;
        self.progress.tail = self.progress.tail.max(first);
    }

    /// A successor begins with `first`; its predecessor was to acknowledge `next`, and had `intent` in hand.
    fn follow(&mut self, first: u64, next: u64, intent: Option<Content>, generation: u64) {
        if first == next {
            self.counts.absent += u64::from(intent.is_some());
            if self.content(first).is_some() {
                let what = format!("record {first} was delivered, but generation {generation} begins with its number");
                self.flag(Broken::Reordered, 1, what);
            }
        } else if let Some(intent) = intent.filter(|_| first == next + 1) {
            self.counts.published_unacknowledged += 1;
            if !self.decide(next, intent) {
                self.flag(Broken::Torn, 1, format!("record {next} is not what its writer, who died, was pushing"));
            }
        } else if first < next {
            let what = format!("generation {generation} begins with {first}, but all up to {next} was acknowledged");
            self.flag(Broken::Lost, next - first, what);
        } else {
            let what = format!("generation {generation} begins with {first}, the one before it ended at {next}");
            self.flag(Broken::Reordered, 1, what);
        }
    }

    /// The term of the worker that wrote `entry`, if it is the current one.
    fn own_term(&mut self, entry: &Entry) -> Option<&mut Term> {
        if self.term.as_ref().is_some_and(|term| term.worker == entry.worker) {
            return self.term.as_mut();
        }
        let owner = self.term.as_ref().map(|term| (term.worker, term.generation));
        let what = format!("worker {} goes on writing; owner and generation: {owner:?}", entry.worker);
        self.flag(Broken::Owners, 1, what);
        None
    }

    fn intent(&mut self, entry: &Entry) {
        let content = Content { nonce: entry.nonce, len: entry.len };
        if let Some(term) = self.own_term(entry) {
            term.intent = Some(content);
        }
    }

    fn acked(&mut self, entry: &Entry) {
        let content = Content { nonce: entry.nonce, len: entry.len };
        let Some(term) = self.own_term(entry) else { return };
        let (want, intent) = (term.next, term.intent.take());
        term.next = entry.sequence + 1;
        self.counts.acknowledged += 1;
        self.progress.tail = entry.sequence + 1;
        if intent != Some(content) {
            self.flag(Broken::Failed, 1, format!("worker {} acknowledges what it did not announce", entry.worker));
        }
        if entry.sequence != want {
            self.flag(Broken::Reordered, 1, format!("record {} was acknowledged, {want} was due", entry.sequence));
        }
        if !self.decide(entry.sequence, content) {
            let what = format!("record {} was delivered as another one than was acknowledged", entry.sequence);
            self.flag(Broken::Torn, 1, what);
        }
        self.trim();
    }

    fn refused(&mut self, entry: &Entry) {
        let Some(term) = self.own_term(entry) else { return };
        term.intent = None;
        let next = term.next;
        self.counts.refused += 1;
        if self.content(next).is_some() {
            self.flag(Broken::Torn, 1, format!("record {next} was refused to its writer and delivered"));
        }
    }

    fn closed(&mut self, entry: &Entry) {
        // What it closed was taken up anew before it could say so: it had begun to close before, and at what the next one began with.
        let taken_up = self.successions.iter().find(|(predecessor, ..)| *predecessor == entry.worker).copied();
        if let Some((_, elected, first)) = taken_up.filter(|(_, elected, _)| entry.ns <= *elected) {
            if entry.sequence != first {
                let what =
                    format!("closed at {} before {elected}, and its successor begins with {first}", entry.sequence);
                self.flag(Broken::Lost, 1, what);
            }
            return;
        }
        let Some(term) = self.own_term(entry) else { return };
        term.intent = None;
        let next = term.next;
        self.closed = Some(entry.sequence);
        if entry.sequence != next {
            self.flag(Broken::Lost, 1, format!("closed at {}, {next} was due", entry.sequence));
        }
    }

    fn joined(&mut self, entry: &Entry) {
        let mut life = Life {
            place: entry.flag.then_some(entry.nonce),
            next: entry.sequence,
            fresh: true,
            heir: false,
            generation: entry.generation,
            ended: false,
        };
        if let Some(number) = life.place {
            if let Some(place) = self.places.get(&number) {
                life.heir = true;
                life.next = place.next;
                if let Some(holder) = place.holder {
                    let what = format!("worker {} holds durable place {number}, so does {holder}", entry.worker);
                    self.flag(Broken::Owners, 1, what);
                }
            }
            let place = self.places.entry(number).or_insert(Place { next: entry.sequence, holder: None });
            place.holder = Some(entry.worker);
        }
        self.lives.insert(entry.worker, life);
    }

    /// A reader has a record in its hands.
    fn record(&mut self, entry: &Entry) {
        let sequence = entry.sequence;
        let Some(life) = self.lives.get_mut(&entry.worker) else {
            let what = format!("worker {} reads and never joined", entry.worker);
            return self.flag(Broken::Failed, 1, what);
        };
        let (next, fresh, heir) = (life.next, std::mem::take(&mut life.fresh), life.heir);
        life.generation = entry.generation;
        let again = fresh && heir && entry.flag && sequence.checked_add(1) == Some(next);
        if !again {
            life.next = sequence + 1;
        }
        let place = life.place;
        if let Some(place) = place.and_then(|number| self.places.get_mut(&number)).filter(|_| !again) {
            place.next = sequence + 1;
        }
        let who = format!("worker {}{}", entry.worker, place.map_or(String::new(), |n| format!(" (durable {n})")));
        if again {
            self.counts.redelivered += 1;
        } else {
            self.counts.delivered += 1;
            if entry.flag && !(fresh && heir) {
                let what = format!("{who}: record {sequence} is marked redelivered, and nobody had died with it");
                self.flag(Broken::Misreported, 1, what);
            }
            if sequence > next {
                self.flag(Broken::Lost, sequence - next, format!("{who}: record {sequence} came, {next} was due"));
            } else if sequence < next && self.content(sequence).is_some() && fresh {
                self.flag(Broken::Duplicated, 1, format!("{who}: record {sequence} came again, not marked so"));
            } else if sequence < next {
                // In the midst of a life, an old number: a second time, or the wrong place.
                self.flag(Broken::Duplicated, 1, format!("{who}: record {sequence} came after {}", next - 1));
            }
        }
        self.judge_bytes(entry, &who);
        self.time(entry);
        self.trim();
    }

    /// Are these the bytes that somebody wrote under this number?
    fn judge_bytes(&mut self, entry: &Entry, who: &str) {
        let sequence = entry.sequence;
        if sequence < self.base {
            return;
        }
        let meant = self.content(sequence).or_else(|| {
            let term = self.term.as_ref()?;
            term.intent.filter(|_| sequence == term.next)
        });
        let Some(meant) = meant else {
            return self.flag(Broken::Torn, 1, format!("{who}: nobody wrote a record {sequence}"));
        };
        if entry.code != 0 {
            let what = format!("{who}: record {sequence}: byte {} of {} is wrong", entry.code - 1, entry.len);
            return self.flag(Broken::Torn, 1, what);
        }
        let mut head = [0; payload::HEAD];
        let len = (meant.len as usize).min(payload::HEAD);
        payload::fill(meant.nonce, &mut head[..len]);
        let right = entry.len == meant.len
            && entry.record_type == payload::record_type(meant.nonce)
            && entry.head == head
            && (meant.len < 8 || entry.nonce == meant.nonce);
        if !right {
            let what = format!(
                "{who}: record {sequence} is {} bytes of {:#x}, written were {} of {:#x}",
                entry.len, entry.nonce, meant.len, meant.nonce
            );
            return self.flag(Broken::Torn, 1, what);
        }
        self.decide(sequence, meant);
        self.progress.tail = self.progress.tail.max(sequence + 1);
    }

    fn time(&mut self, entry: &Entry) {
        let Some(takeover) = &mut self.takeover else { return };
        if entry.generation != takeover.generation || takeover.received.is_some() {
            return;
        }
        takeover.received = Some(entry.ns);
        if let Some(killed) = takeover.killed {
            self.recovery.add(entry.ns.saturating_sub(killed));
        }
    }

    fn gap(&mut self, entry: &Entry) {
        let (from, count) = (entry.sequence, entry.nonce);
        let Some(life) = self.lives.get_mut(&entry.worker) else { return };
        let (next, place) = (life.next, life.place);
        life.next = from.saturating_add(if count == u64::MAX { 0 } else { count });
        life.fresh = false;
        let now = life.next;
        if let Some(place) = place.and_then(|number| self.places.get_mut(&number)) {
            place.next = now;
        }
        if count != u64::MAX {
            self.counts.lost_reported += count;
        }
        let tail = self.term.as_ref().map_or(self.progress.tail, |term| term.next + 1);
        let what = if from != next {
            format!("worker {}: a gap from {from} on, {next} was due", entry.worker)
        } else if count != u64::MAX && now > tail {
            format!("worker {}: a gap of {count} from {from} on; there are records up to {tail} only", entry.worker)
        } else {
            format!(
                "worker {}: {count} records from {from} on reported lost, though nothing happened to them",
                entry.worker
            )
        };
        self.flag(Broken::Misreported, 1, what);
    }

    fn restarted(&mut self, entry: &Entry) {
        let (old, new) = (entry.sequence, entry.generation);
        let Some(life) = self.lives.get_mut(&entry.worker) else { return };
        let before = std::mem::replace(&mut life.generation, new);
        if new <= old || (before != old && !life.fresh) {
            let what = format!("worker {} went from generation {old} to {new}, it was in {before}", entry.worker);
            self.flag(Broken::Reordered, 1, what);
        }
    }

    fn end(&mut self, entry: &Entry) {
        let Some(life) = self.lives.get_mut(&entry.worker) else { return };
        life.ended = true;
        let next = life.next;
        self.progress.ended += 1;
        if entry.sequence != next {
            let what = format!("worker {} ends at {}, {next} was due", entry.worker, entry.sequence);
            self.flag(Broken::Lost, entry.sequence.saturating_sub(next), what);
        }
    }

    fn died(&mut self, entry: &Entry) {
        if entry.ns != 0 {
            let takeover = self.takeover.as_mut().filter(|t| t.predecessor == entry.worker && t.killed.is_none());
            if let Some(takeover) = takeover {
                takeover.killed = Some(entry.ns);
                self.election.add(takeover.elected.saturating_sub(entry.ns));
                if let Some(received) = takeover.received {
                    self.recovery.add(received.saturating_sub(entry.ns));
                }
            }
            self.deaths.push_back((entry.worker, entry.ns));
            if self.deaths.len() > 64 {
                self.deaths.pop_front();
            }
        }
        if let Some(life) = self.lives.remove(&entry.worker) {
            if let Some(place) = life.place.and_then(|number| self.places.get_mut(&number)) {
                place.holder = None;
            }
            // What the writer says of the end may come after this.
            if life.ended {
                self.ends.push((entry.worker, life.next));
            }
        }
    }

    /// Forgets what is settled.
    fn trim(&mut self) {
        if self.contents.len() < 2 * self.margin {
            return;
        }
        let lives = self.lives.values().map(|life| life.next);
        let places = self.places.values().map(|place| place.next.saturating_sub(1));
        let term = self.term.iter().map(|term| term.next);
        let needed = lives.chain(places).chain(term).min().unwrap_or(0);
        while self.base < needed && self.contents.len() > self.margin {
            self.contents.pop_front();
            self.base += 1;
        }
    }

    /// What the watch for hangs looks at.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        progress.readers = self.lives.iter().map(|(worker, life)| (*worker, life.next)).collect();
        progress.readers.sort_unstable();
        progress
    }

    /// What a dead generation's own bytes say, against what the ledger says of it.
    pub(crate) fn inspect(&mut self, corpse: &Corpse) {
        let generation = corpse.generation;
        let firsts: Vec<u64> = [generation, generation + 1]
            .into_iter()
            .filter_map(|wanted| self.firsts.iter().find(|(known, _)| *known == wanted).map(|(_, first)| *first))
            .collect();
        if let [first, next] = firsts[..]
            && (first, next) != (corpse.first_sequence, corpse.next_sequence)
        {
            let what = format!(
                "generation {generation} holds {}..{} by its own bytes, {first}..{next} by the ledger",
                corpse.first_sequence, corpse.next_sequence
            );
            self.flag(Broken::Lost, first.abs_diff(corpse.first_sequence) + next.abs_diff(corpse.next_sequence), what);
        }
        for &(sequence, record_type, len, head) in &corpse.records {
            let Some(meant) = self.content(sequence) else { continue };
            let mut want = [0; payload::HEAD];
            let most = (meant.len as usize).min(payload::HEAD);
            payload::fill(meant.nonce, &mut want[..most]);
            if (record_type, len, head) != (payload::record_type(meant.nonce), meant.len, want) {
                self.flag(
                    Broken::Torn,
                    1,
                    format!("generation {generation} holds another record {sequence} than was written"),
                );
            }
        }
    }

    /// Everything has ended: has every place come to the end?
    pub(crate) fn finish(&mut self) {
        let Some(term) = &self.term else { return };
        let end = match (self.closed, term.next) {
            (Some(end), _) => end,
            (None, next) => {
                self.flag(Broken::Hang, 1, "was never closed".into());
                next
            }
        };
        for (worker, next) in std::mem::take(&mut self.ends) {
            if next != end {
                self.flag(
                    Broken::Lost,
                    end.abs_diff(next),
                    format!("worker {worker} ended at {next}, the channel at {end}"),
                );
            }
        }
        let mut short: Vec<(u64, u64)> =
            self.places.iter().filter(|(_, p)| p.next != end).map(|(number, place)| (*number, place.next)).collect();
        short.sort_unstable();
        for (number, next) in short {
            let what = format!("durable place {number} stands at {next}, the channel ended at {end}");
            self.flag(Broken::Lost, end.abs_diff(next), what);
        }
    }

    /// Where a first record of the present generation would be, for tests.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.contents.len()
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
