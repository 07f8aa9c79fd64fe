//! A segment of its own for each test, in a temporary directory on tmpfs.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ringward_ring::build::{Place, Prepared, Spec};
use ringward_ring::identity::Owner;
use ringward_ring::reader::Reader;
use ringward_ring::segment::{Access, Joining, Segment};
use ringward_ring::sys::file::Trust;
use ringward_ring::table::{From, ReaderCard, ReaderName};
use ringward_ring::word::{Checksum, Kind, State};
use ringward_ring::writer::Writer;

pub(crate) struct Bed {
    pub(crate) path: tempfile::TempDir,
    pub(crate) dir: File,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Bed {
    pub(crate) fn new() -> Bed {
        let base = std::env::var_os("RINGWARD_TEST_ROOT").map_or_else(
            || if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }.into(),
            std::path::PathBuf::from,
        );
        let path = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let dir = File::open(path.path()).unwrap();
        Bed { path, dir }
    }

    pub(crate) fn writer(&self, spec: &Spec) -> Writer<Arc<Segment>> {
        let random = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut prepared = Prepared::build(self.dir.as_fd(), spec, random).unwrap();
        let place =
            Place { channel: 7, generation: 1, first_sequence: 0, predecessor: None, created: 0, lost_places: false };
        prepared.finish(&place, &[], State::OPEN);
        let segment = prepared.link(self.dir.as_fd(), "00000001.ring").map_err(|(why, _)| why).unwrap();
        Writer::new(Arc::new(segment))
    }

    pub(crate) fn attach(&self, access: Access) -> Arc<Segment> {
        Arc::new(Segment::attach(self.dir.as_fd(), "00000001.ring", access, &trust()).unwrap())
    }

    pub(crate) fn reader(&self, name: &str, kind: Kind, from: From) -> Reader<Arc<Segment>> {
        match self.attach(Access::Reader).join(&card(name, kind), from).unwrap() {
            Joining::Reader(reader) => reader,
            Joining::NotOpen(state) => panic!("not open: {state}"),
        }
    }
}

pub(crate) fn trust() -> Trust {
    Trust { uid: rustix_uid(), mode: 0o600 }
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

pub(crate) fn card(name: &str, kind: Kind) -> ReaderCard {
    ReaderCard { kind, name: ReaderName::new(name).unwrap(), pid: std::process::id(), pid_namespace: 0, start: 0 }
}

pub(crate) fn spec(capacity: u64) -> Spec {
    Spec {
        capacity,
        record_limit: (capacity / 2 - 24) as u32,
        slots: 32,
        checksum: Checksum::FULL,
        schema: 0,
        beat_interval: 0,
        owner: Owner::default(),
        mode: 0o600,
        group: None,
        touch: false,
        no_dump: false,
    }
}

/// Numbers below what is asked for, the same for the same seed.
pub(crate) fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}

/// Ends this process if a test hangs: the alarm of every test that could. Dropping it calls it off.
pub(crate) struct Alarm(#[allow(dead_code)] Sender<()>);

impl Alarm {
    pub(crate) fn new() -> Alarm {
        let (sender, receiver) = channel::<()>();
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        std::thread::spawn(move || {
            if receiver.recv_timeout(Duration::from_secs(300)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("HANG: the test {name} did not end in five minutes");
                std::process::abort();
            }
        });
        Alarm(sender)
    }
}
