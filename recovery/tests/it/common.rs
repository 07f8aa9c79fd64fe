//! A namespace of its own for each test, in a temporary directory on tmpfs.

use std::time::Duration;

use ringward_recovery::{Channel, Config, Durability, Event, From, Namespace, Reader, WhenFull};

pub(crate) struct Bed {
    _root: tempfile::TempDir,
    pub(crate) namespace: Namespace,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
        Bed { _root: root, namespace }
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
