//! The oracle must be able to fail: sound ledgers pass, each doctored one is flagged as what it is.

use super::*;
use crate::ledger::Kind;

const WRITER: u32 = 1;
const HEIR: u32 = 2;
const DURABLE: u32 = 10;
const AGAIN: u32 = 11;
const GUEST: u32 = 20;

/// A ledger in the making.
struct Story {
    oracle: Oracle,
    count: u64,
    generation: u64,
}

impl Story {
    fn new() -> Story {
        Story { oracle: Oracle::new("test", 4096), count: 1, generation: 0 }
    }

    /// A writer, a durable reader and a guest, and two records in everybody's hands.
    fn begun() -> Story {
        let mut story = Story::new();
        story.elected(WRITER, 1, 0);
        story.joined(DURABLE, true, 0);
        story.joined(GUEST, false, 0);
        for sequence in 0..2 {
            let (nonce, len) = story.push(WRITER, sequence);
            story.record(DURABLE, sequence, nonce, len, false);
            story.record(GUEST, sequence, nonce, len, false);
        }
        story.holds();
        story
    }

    fn put(&mut self, kind: Kind, worker: u32, change: impl FnOnce(&mut Entry)) {
        let mut entry = Entry::new(kind, 0, worker);
        entry.ns = self.count;
        self.count += 1;
        change(&mut entry);
        self.oracle.take(&entry);
    }

    fn elected(&mut self, worker: u32, generation: u64, sequence: u64) {
        self.generation = generation;
        self.put(Kind::Elected, worker, |e| (e.generation, e.sequence) = (generation, sequence));
    }

    fn intent(&mut self, worker: u32) -> (u64, u32) {
        self.count += 1;
        let (nonce, len) = (u64::from(worker) << 32 | self.count, (self.count % 40) as u32);
        self.put(Kind::Intent, worker, |e| (e.nonce, e.len) = (nonce, len));
        (nonce, len)
    }

    fn acked(&mut self, worker: u32, sequence: u64, (nonce, len): (u64, u32)) {
        self.put(Kind::Acked, worker, |e| (e.sequence, e.nonce, e.len) = (sequence, nonce, len));
    }

    fn push(&mut self, worker: u32, sequence: u64) -> (u64, u32) {
        let record = self.intent(worker);
        self.acked(worker, sequence, record);
        record
    }

    fn joined(&mut self, worker: u32, durable: bool, sequence: u64) {
        self.put(Kind::Joined, worker, |e| (e.flag, e.sequence, e.nonce) = (durable, sequence, 0));
    }

    fn record(&mut self, worker: u32, sequence: u64, nonce: u64, len: u32, redelivered: bool) {
        let generation = self.generation;
        self.put(Kind::Record, worker, |e| {
            e.generation = generation;
            let mut bytes = vec![0; len as usize];
            payload::fill(nonce, &mut bytes);
            (e.sequence, e.len, e.flag) = (sequence, len, redelivered);
            e.nonce = payload::claimed(&bytes).unwrap_or(0);
            e.record_type = payload::record_type(nonce);
            e.head = payload::head(&bytes);
        });
    }

    fn died(&mut self, worker: u32) {
        self.put(Kind::Died, worker, |_| ());
    }

    fn holds(&mut self) {
        assert_eq!(self.oracle.violations, []);
    }

    fn breaks(&mut self, broken: Broken, count: u64) {
        assert_eq!(self.oracle.violations.first().map(|v| v.broken), Some(broken), "{:?}", self.oracle.violations);
        let counts = self.oracle.counts;
        let counted = match broken {
            Broken::Lost => counts.lost,
            Broken::Duplicated => counts.duplicated,
            Broken::Torn => counts.torn,
            Broken::Reordered => counts.reordered,
            _ => self.oracle.violated,
        };
        assert_eq!(counted, count, "{:?}", self.oracle.violations);
    }
}

#[test]
fn a_whole_life_holds() {
    let mut story = Story::begun();
    // Killed before it had published; the successor begins with the same number.
    story.intent(WRITER);
    story.died(WRITER);
    story.elected(HEIR, 2, 2);
    let record = story.push(HEIR, 2);
    story.record(DURABLE, 2, record.0, record.1, false);
    // The durable reader dies with it in its hands, and gets it again.
    story.died(DURABLE);
    story.joined(AGAIN, true, 2);
    story.record(AGAIN, 2, record.0, record.1, true);
    // Killed after it had published, before it returned; a reader has it before anybody is elected.
    let (nonce, len) = story.intent(HEIR);
    story.record(AGAIN, 3, nonce, len, false);
    story.died(HEIR);
    story.elected(3, 4, 4);
    story.record(GUEST, 2, record.0, record.1, false);
    story.record(GUEST, 3, nonce, len, false);
    // A refused one does not exist.
    let refused = story.intent(3);
    story.put(Kind::Refused, 3, |e| e.nonce = refused.0);
    story.intent(3);
    story.put(Kind::Closed, 3, |e| e.sequence = 4);
    for reader in [AGAIN, GUEST] {
        story.put(Kind::End, reader, |e| e.sequence = 4);
        story.died(reader);
    }
    story.oracle.finish();
    story.holds();
    let counts = story.oracle.counts;
    assert_eq!((counts.acknowledged, counts.published_unacknowledged, counts.absent), (3, 1, 1));
    assert_eq!((counts.delivered, counts.redelivered, counts.refused), (8, 1, 1));
    assert!(story.oracle.recovery.at(1.0) > 0 && story.oracle.election.at(1.0) > 0);
}

#[test]
fn a_record_that_died_between_taking_and_telling_may_come_marked() {
    let mut story = Story::begun();
    let record = story.push(WRITER, 2);
    story.died(DURABLE);
    story.joined(AGAIN, true, 2);
    story.record(AGAIN, 2, record.0, record.1, true);
    story.holds();
}

#[test]
fn lost_by_a_reader() {
    let mut story = Story::begun();
    for sequence in 2..5 {
        story.push(WRITER, sequence);
    }
    let record = story.push(WRITER, 5);
    story.record(GUEST, 5, record.0, record.1, false);
    story.breaks(Broken::Lost, 3);
}

#[test]
fn lost_by_the_successor() {
    let mut story = Story::begun();
    story.push(WRITER, 2);
    story.died(WRITER);
    story.elected(HEIR, 2, 1);
    story.breaks(Broken::Lost, 2);
}

/// A writer tells of its close when that is done; somebody, and somebody after him, may have taken the channel up by then. Not if it
/// began to close later than that, nor if it closed elsewhere.
#[test]
fn a_close_may_be_told_late_but_not_begun_late() {
    for (closed_at, sequence, broken) in
        [(0, 2, None), (1000, 2, Some(Broken::Owners)), (0, 3, Some(Broken::Lost)), (0, 1, Some(Broken::Lost))]
    {
        for successors in 1..3 {
            let mut story = Story::begun();
            story.intent(WRITER);
            story.elected(HEIR, 2, 2);
            if successors > 1 {
                story.elected(3, 3, 2);
            }
            story.put(Kind::Closed, WRITER, |e| (e.sequence, e.ns) = (sequence, closed_at));
            match broken {
                None => story.holds(),
                Some(broken) => story.breaks(broken, 1),
            }
        }
    }
}

#[test]
fn lost_at_the_end() {
    let mut story = Story::begun();
    story.push(WRITER, 2);
    story.intent(WRITER);
    story.put(Kind::Closed, WRITER, |e| e.sequence = 3);
    story.put(Kind::End, GUEST, |e| e.sequence = 2);
    story.died(GUEST);
    story.oracle.finish();
    // By the guest that was told of the end too early, and by the durable reader that never came to it.
    story.breaks(Broken::Lost, 2);
}

#[test]
fn a_jump_of_numbers() {
    let mut story = Story::begun();
    story.intent(WRITER);
    story.died(WRITER);
    story.elected(HEIR, 2, 9);
    story.breaks(Broken::Reordered, 1);
    let mut story = Story::begun();
    story.push(WRITER, 3);
    story.breaks(Broken::Reordered, 1);
}

#[test]
fn duplicated() {
    let mut story = Story::begun();
    let record = story.push(WRITER, 2);
    story.record(GUEST, 2, record.0, record.1, false);
    story.record(GUEST, 2, record.0, record.1, false);
    story.breaks(Broken::Duplicated, 1);
}

#[test]
fn handed_out_again_without_a_mark() {
    let mut story = Story::begun();
    let record = story.push(WRITER, 2);
    story.record(DURABLE, 2, record.0, record.1, false);
    story.died(DURABLE);
    story.joined(AGAIN, true, 2);
    story.record(AGAIN, 2, record.0, record.1, false);
    story.breaks(Broken::Duplicated, 1);
}

#[test]
fn handed_out_again_though_it_was_released() {
    let mut story = Story::begun();
    let one = story.push(WRITER, 2);
    let two = story.push(WRITER, 3);
    story.record(DURABLE, 2, one.0, one.1, false);
    story.record(DURABLE, 3, two.0, two.1, false);
    story.died(DURABLE);
    story.joined(AGAIN, true, 2);
    story.record(AGAIN, 2, one.0, one.1, true);
    story.breaks(Broken::Duplicated, 1);
}

#[test]
fn marked_though_nobody_had_died() {
    let mut story = Story::begun();
    let record = story.push(WRITER, 2);
    story.record(GUEST, 2, record.0, record.1, true);
    story.breaks(Broken::Misreported, 1);
}

#[test]
fn reordered() {
    let mut story = Story::begun();
    let one = story.push(WRITER, 2);
    let two = story.push(WRITER, 3);
    story.record(GUEST, 3, two.0, two.1, false);
    story.record(GUEST, 2, one.0, one.1, false);
    // The hole, and the old number behind it.
    assert_eq!((story.oracle.counts.lost, story.oracle.counts.duplicated), (1, 1));
}

#[test]
fn torn() {
    let doctor: [fn(&mut Entry); 5] =
        [|e| e.code = 17, |e| e.len += 1, |e| e.head[3] ^= 0x40, |e| e.record_type ^= 1, |e| e.nonce ^= 1 << 40];
    for change in doctor {
        let mut story = Story::begun();
        let nonce = u64::from(WRITER) << 32 | 777;
        story.put(Kind::Intent, WRITER, |e| (e.nonce, e.len) = (nonce, 30));
        story.acked(WRITER, 2, (nonce, 30));
        story.put(Kind::Record, GUEST, |e| {
            let mut bytes = [0; 30];
            payload::fill(nonce, &mut bytes);
            (e.sequence, e.len, e.nonce) = (2, 30, nonce);
            e.record_type = payload::record_type(nonce);
            e.head = payload::head(&bytes);
            change(e);
        });
        story.breaks(Broken::Torn, 1);
    }
}

#[test]
fn one_number_with_two_contents() {
    let mut story = Story::begun();
    let (nonce, len) = story.intent(WRITER);
    story.record(GUEST, 2, nonce, len, false);
    story.died(WRITER);
    // The successor uses the number for another record.
    story.elected(HEIR, 2, 2);
    story.breaks(Broken::Reordered, 1);
    let record = story.push(HEIR, 2);
    story.record(DURABLE, 2, record.0, record.1, false);
    assert!(story.oracle.counts.torn >= 1);
}

#[test]
fn what_nobody_wrote() {
    let mut story = Story::begun();
    story.record(GUEST, 2, 99, 20, false);
    story.breaks(Broken::Torn, 1);
}

#[test]
fn what_was_refused_is_delivered() {
    let mut story = Story::begun();
    let (nonce, len) = story.intent(WRITER);
    story.put(Kind::Refused, WRITER, |e| e.nonce = nonce);
    story.intent(WRITER);
    story.record(GUEST, 2, nonce, len, false);
    story.breaks(Broken::Torn, 1);
}

#[test]
fn a_gap_without_a_cause_and_one_with_a_wrong_count() {
    let mut story = Story::begun();
    story.push(WRITER, 2);
    story.put(Kind::Gap, GUEST, |e| (e.sequence, e.nonce) = (2, 1));
    story.breaks(Broken::Misreported, 1);
    assert_eq!(story.oracle.counts.lost_reported, 1);
    let mut story = Story::begun();
    story.push(WRITER, 2);
    story.put(Kind::Gap, GUEST, |e| (e.sequence, e.nonce) = (2, 5));
    assert!(story.oracle.violations[0].what.contains("up to"), "{:?}", story.oracle.violations);
    story.put(Kind::Gap, GUEST, |e| (e.sequence, e.nonce) = (3, 1));
    assert!(story.oracle.violations[1].what.contains("was due"), "{:?}", story.oracle.violations);
}

#[test]
fn two_owners() {
    let mut story = Story::begun();
    story.elected(HEIR, 2, 2);
    story.intent(WRITER);
    story.breaks(Broken::Owners, 1);
    let mut story = Story::begun();
    story.elected(HEIR, 1, 2);
    story.breaks(Broken::Owners, 1);
}

#[test]
fn two_holders_of_a_durable_name() {
    let mut story = Story::begun();
    story.joined(AGAIN, true, 2);
    story.breaks(Broken::Owners, 1);
}

#[test]
fn a_reader_that_goes_backwards() {
    let mut story = Story::begun();
    story.put(Kind::Restarted, GUEST, |e| (e.sequence, e.generation) = (3, 2));
    story.breaks(Broken::Reordered, 1);
}

#[test]
fn a_corpse_that_says_otherwise() {
    let mut story = Story::begun();
    let record = story.push(WRITER, 2);
    story.died(WRITER);
    story.elected(HEIR, 2, 3);
    let mut bytes = vec![0; record.1 as usize];
    payload::fill(record.0, &mut bytes);
    let sound = Corpse {
        generation: 1,
        first_sequence: 0,
        state: 0,
        end: Some(0),
        followed: true,
        next_sequence: 3,
        records: vec![(2, payload::record_type(record.0), record.1, payload::head(&bytes))],
    };
    story.oracle.inspect(&sound);
    story.holds();
    story.oracle.inspect(&Corpse { next_sequence: 2, ..sound.clone() });
    story.breaks(Broken::Lost, 1);
    let mut other = sound;
    other.records[0].1 ^= 1;
    story.oracle.inspect(&other);
    assert_eq!(story.oracle.counts.torn, 1);
}

#[test]
fn memory_is_bounded() {
    let mut story = Story::begun();
    for sequence in 2..20_000 {
        let (nonce, len) = story.push(WRITER, sequence);
        story.record(DURABLE, sequence, nonce, len, false);
        story.record(GUEST, sequence, nonce, len, false);
    }
    story.holds();
    assert!(story.oracle.remembered() <= 2 * story.oracle.margin);
}
