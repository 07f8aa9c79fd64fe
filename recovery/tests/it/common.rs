//! A namespace of its own for each test, in a temporary directory on tmpfs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use ringward_recovery::{Channel, Config, Durability, Event, From, Namespace, Reader, WhenFull};

/// Who is at work in this process. A child holds copies of our descriptors, and with them our locks, from its fork to its
/// exec: a test that starts processes would make "nobody holds it" untrue for an instant in every other test. So such a test
/// has the process for itself from its first child on.
struct Floor {
    quiet: Vec<ThreadId>,
    alone: Option<ThreadId>,
}

static FLOOR: Mutex<Floor> = Mutex::new(Floor { quiet: Vec::new(), alone: None });
static CHANGED: Condvar = Condvar::new();

fn floor() -> MutexGuard<'static, Floor> {
    FLOOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test's place in the process, for as long as it has its bed.
struct Place(ThreadId);

impl Place {
    fn take() -> Place {
        let me = std::thread::current().id();
        let mut floor = floor();
        while floor.alone.is_some_and(|other| other != me) {
            floor = CHANGED.wait(floor).unwrap_or_else(PoisonError::into_inner);
        }
        floor.quiet.push(me);
        Place(me)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut floor = floor();
        if let Some(at) = floor.quiet.iter().position(|id| *id == self.0) {
            floor.quiet.swap_remove(at);
        }
        if floor.alone == Some(self.0) && !floor.quiet.contains(&self.0) {
            floor.alone = None;
        }
        CHANGED.notify_all();
    }
}

pub(crate) struct Bed {
    pub(crate) namespace: Namespace,
    _root: tempfile::TempDir,
    place: Place,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let base = std::env::var_os("RINGWARD_TEST_ROOT").map_or_else(
            || if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }.into(),
            std::path::PathBuf::from,
        );
        let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
        Bed { namespace, _root: root, place: Place::take() }
    }

    /// Waits until this test has the process for itself: called before it starts a child.
    pub(crate) fn clear_the_floor(&self) {
        let me = self.place.0;
        let mut floor = floor();
        if floor.alone == Some(me) {
            return;
        }
        floor.quiet.retain(|id| *id != me); // not in anybody's way while it waits
        CHANGED.notify_all();
        while floor.alone.is_some() || !floor.quiet.is_empty() {
            floor = CHANGED.wait(floor).unwrap_or_else(PoisonError::into_inner);
        }
        floor.alone = Some(me);
        floor.quiet.push(me);
    }

    pub(crate) fn channel(&self, config: Config) -> Channel {
        Channel::new(&self.namespace, "c", config).unwrap()
    }

    /// File names in the channel's directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.namespace.path().join("c"))
            .map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }
}

pub(crate) fn config() -> Config {
    Config::default().capacity(4096).beat_interval(Duration::ZERO).when_full(WhenFull::Error)
}

pub(crate) fn durable(channel: &Channel, name: &str) -> Reader {
    channel.reader(name, Durability::Durable, From::Latest).unwrap()
}

/// Everything that is there, records as their sequence numbers and payloads.
pub(crate) fn all(reader: &mut Reader) -> (Vec<(u64, Vec<u8>)>, Vec<Event>) {
    let mut buf = vec![0; 1 << 16];
    let (mut records, mut events) = (Vec::new(), Vec::new());
    // A short wait, so that what takes a look around (a succession nobody woke it for) is seen too.
    while let Some(event) = reader.recv(&mut buf, Duration::from_millis(120)).unwrap() {
        match event {
            Event::Record { sequence, len, .. } => records.push((sequence, buf[..len].to_vec())),
            Event::Closed { .. } => {
                events.push(event);
                break;
            }
            other => events.push(other),
        }
    }
    (records, events)
}

/// Sequence numbers of records.
pub(crate) fn numbers(records: &[(u64, Vec<u8>)]) -> Vec<u64> {
    records.iter().map(|(n, _)| *n).collect()
}
