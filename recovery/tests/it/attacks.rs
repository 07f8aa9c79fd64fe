//! The attacks of DESIGN.md §6, each brought about on purpose; `docs/TESTING.md` has the list. This module holds what they
//! share.
//!
//! Nothing here sleeps and hopes: a party is stopped *at the step*. Three ways to do that, from the quickest to the most real:
//! the mechanisms of `ringward_ring` used by hand, which leave exactly the words that a death at that step leaves; a child process that
//! is stopped or killed at a system call of its own choosing ([`crate::attacks_child`]); signals to real children.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ringward_recovery::{
    Action, Channel, Event, Namespace, Reader, Report, Verdict, Warmth, Watchdog, generation_name, owner,
};
use ringward_ring::build::{Place, Prepared, Spec};
use ringward_ring::cursor::{self, Mark};
use ringward_ring::identity::Predecessor;
use ringward_ring::layout::Cursor;
use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::table::{self, Carried};
use ringward_ring::word::{Checksum, End, SegmentId, State};

use crate::common::Bed;

/// Long enough for any machine; nothing waits this long unless something is wrong.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A wait that is expected to end with nothing.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// Ends this process if a test hangs: the alarm that every test here has. Dropping it calls it off.
pub(crate) struct Alarm(#[allow(dead_code)] Sender<()>);

impl Alarm {
    pub(crate) fn new() -> Alarm {
        let (sender, receiver) = channel::<()>();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?").to_owned();
        std::thread::spawn(move || {
            if receiver.recv_timeout(Duration::from_secs(300)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("HANG: the test {name} did not end in five minutes");
                std::process::abort();
            }
        });
        Alarm(sender)
    }
}

impl Bed {
    pub(crate) fn path(&self, generation: u64) -> PathBuf {
        self.namespace.path().join("c").join(generation_name(generation))
    }

    /// The channel's directory as it is now.
    pub(crate) fn dir(&self) -> File {
        File::open(self.namespace.path().join("c")).unwrap()
    }

    pub(crate) fn attach(&self, generation: u64, access: Access) -> Arc<Segment> {
        let dir = self.dir();
        let name = generation_name(generation);
        Arc::new(Segment::attach(dir.as_fd(), &name, access, self.namespace.trust()).unwrap())
    }

    /// The file of a generation, for damaging it from outside.
    pub(crate) fn file(&self, generation: u64) -> File {
        OpenOptions::new().read(true).write(true).open(self.path(generation)).unwrap()
    }

    /// Names in the namespace, hidden ones too.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.namespace.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The root of the namespace, for children.
    pub(crate) fn root(&self) -> PathBuf {
        self.namespace.path().parent().unwrap().to_owned()
    }
}

/// One look of a watchdog that takes away at once whatever is nobody's.
pub(crate) fn reclaim(namespace: &Namespace) -> Report {
    Watchdog::builder(namespace).action(Action::Reclaim).grace(Duration::ZERO).build().tick()
}

/// The verdict on the one channel of a report.
pub(crate) fn verdict(report: &Report) -> Verdict {
    assert_eq!(report.notices.len(), 1, "{report:?}");
    report.notices[0].verdict
}

/// What tests build by hand.
pub(crate) fn spec() -> Spec {
    Spec {
        capacity: 4096,
        record_limit: 2024,
        slots: 32,
        checksum: Checksum::FULL,
        schema: 0,
        beat_interval: 0,
        owner: owner::this_process(),
        mode: 0o600,
        group: None,
        touch: false,
        no_dump: false,
    }
}

/// A segment built as the follower of `old`, ended at `end`: a `CANDIDATE` without a name. Step 4 of Succeed, by hand.
pub(crate) fn follower(bed: &Bed, old: &Arc<Segment>, end: Mark, carried: &[Carried]) -> Prepared {
    let mut prepared = Prepared::build(bed.dir().as_fd(), &spec(), random()).unwrap();
    let identity = old.identity();
    let place = Place {
        channel: identity.channel,
        generation: identity.generation + 1,
        first_sequence: end.sequence,
        predecessor: Some(Predecessor { segment: identity.segment, end: Some(end.position) }),
        created: 0,
        lost_places: false,
    };
    prepared.finish(&place, carried, State::CANDIDATE);
    prepared
}

pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Where a segment's records end, as decided.
pub(crate) fn decided_end(segment: &Arc<Segment>) -> Mark {
    match ringward_ring::succession::end(segment) {
        Ok(End::At(position)) => {
            Mark { position, sequence: ringward_ring::succession::sequence_at(segment, position).unwrap() }
        }
        other => panic!("not decided: {other:?}"),
    }
}

/// Everything that a successor of `old` has to carry.
pub(crate) fn carried(old: &Arc<Segment>) -> Vec<Carried> {
    table::to_carry(old).0
}

/// A cursor's words, so that a store can be undone and done again: a writer stopped in the middle of a push.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words([u64; 7]);

impl Words {
    pub(crate) fn of(cursor: &Cursor) -> Words {
        let [a, b] = &cursor.checkpoints;
        Words(
            [&cursor.position, &a.position, &a.sequence, &a.check, &b.position, &b.sequence, &b.check]
                .map(|word| word.load(Ordering::Acquire)),
        )
    }

    pub(crate) fn put(self, cursor: &Cursor) {
        let [a, b] = &cursor.checkpoints;
        let words = [&cursor.position, &a.position, &a.sequence, &a.check, &b.position, &b.sequence, &b.check];
        for (word, value) in words.into_iter().zip(self.0) {
            word.store(value, Ordering::Release);
        }
    }

    pub(crate) fn position(self) -> u64 {
        self.0[0]
    }
}

/// The writer's cursor in a segment.
pub(crate) fn writer_cursor(segment: &Arc<Segment>) -> &Cursor {
    &segment.page().cursor.cursor
}

/// Where a living writer stands.
pub(crate) fn published(segment: &Arc<Segment>) -> Mark {
    match cursor::read(writer_cursor(segment), id(segment)) {
        cursor::Reading::Sound(mark) => mark,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn id(segment: &Arc<Segment>) -> SegmentId {
    segment.identity().segment
}

/// Records as `(sequence, payload)`, and the other events.
pub(crate) type Got = (Vec<(u64, Vec<u8>)>, Vec<Event>);

/// Receives until `count` records have come, and then makes sure that no other does.
pub(crate) fn take(reader: &mut Reader, count: usize) -> Got {
    let mut buf = vec![0; 1 << 16];
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    loop {
        let wait = if records.len() < count { LONG } else { SHORT };
        match reader.recv(&mut buf, wait).unwrap() {
            Some(Event::Record { sequence, len, redelivered, .. }) => {
                assert!(!redelivered, "{sequence} again, after {records:?}");
                records.push((sequence, buf[..len].to_vec()));
            }
            Some(event) => events.push(event),
            None if records.len() >= count => break,
            None => panic!("{count} records expected, {records:?} came, {events:?}"),
        }
        assert!(begun.elapsed() < LONG, "{count} records expected, {records:?} came, {events:?}");
    }
    reader.release();
    assert_eq!(records.len(), count, "{records:?}, {events:?}");
    (records, events)
}

/// Receives until an event that `wanted` knows, skipping others; panics on time-out.
pub(crate) fn until(reader: &mut Reader, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let mut buf = vec![0; 1 << 16];
    let begun = Instant::now();
    loop {
        match reader.recv(&mut buf, LONG).unwrap() {
            Some(event) if wanted(&event) => return event,
            Some(_) if begun.elapsed() < LONG => {}
            other => panic!("waited in vain, last: {other:?}"),
        }
    }
}

/// Payloads as the tests push them: the text of the number.
pub(crate) fn text(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|n| (n, n.to_string().into_bytes())).collect()
}

pub(crate) fn push_text(writer: &mut ringward_recovery::Writer, range: std::ops::Range<u64>) {
    for n in range {
        assert_eq!(writer.push(0, n.to_string().as_bytes()).unwrap(), n);
    }
}

/// Becomes the writer by way of a standby, waiting as long as it takes.
pub(crate) fn elected(channel: &Channel, warmth: Warmth) -> ringward_recovery::Writer {
    match channel.standby(warmth).unwrap().wait(LONG).unwrap() {
        ringward_recovery::Outcome::Elected(writer) => *writer,
        other => panic!("not elected: {other:?}"),
    }
}

/// Waits until a word that another party sets holds what it must, at most [`LONG`].
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::yield_now();
    }
}

/// Says on standard error that a test could not bring its attack about here.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    eprintln!("SKIPPED {}: {why}", thread.name().unwrap_or("?"));
}
