//! What is lost is told: bytes that are damaged from outside, seen through a channel's reader.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use ringward_recovery::{Channel, Config, Durability, Event, From, GapReason, Namespace, Reader};

fn bed(config: Config) -> (tempfile::TempDir, Channel) {
    let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in("/dev/shm").unwrap();
    let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
    let channel = Channel::new(&namespace, "c", config).unwrap();
    (root, channel)
}

fn all(reader: &mut Reader) -> Vec<Event> {
    let mut buf = [0; 4096];
    std::iter::from_fn(|| reader.recv(&mut buf, Duration::from_millis(20)).unwrap()).collect()
}

/// Flips one bit of the payload `needle` in the channel's only segment.
fn flip(channel: &Channel, needle: &[u8]) {
    let path = channel.namespace().path().join("c/00000001.ring");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the payload is there");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn a_flipped_bit_costs_one_record_and_the_reader_is_told() {
    let (_root, channel) = bed(Config::default().capacity(4096).beat_interval(Duration::ZERO));
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("r", Durability::Durable, From::Latest).unwrap();
    for word in ["first-record", "second-record", "third-record"] {
        writer.push(0, word.as_bytes()).unwrap();
    }
    flip(&channel, b"second-record");
    let told = all(&mut reader);
    let gap = Event::Gap { from: 1, count: Some(1), reason: GapReason::Corrupt };
    let record = |sequence, len| Event::Record { sequence, record_type: 0, len, redelivered: false };
    assert_eq!(told, [record(0, 12), gap, record(2, 12)]);
}

#[test]
fn a_receive_without_an_end_waits() {
    let (_root, channel) = bed(Config::default().capacity(4096).beat_interval(Duration::ZERO));
    let mut writer = channel.writer().unwrap();
    let mut reader = channel.reader("r", Durability::Ephemeral, From::Latest).unwrap();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        writer.push(0, b"late").unwrap();
        writer
    });
    let got = reader.recv(&mut [0; 64], Duration::MAX).unwrap();
    assert!(matches!(got, Some(Event::Record { sequence: 0, .. })), "{got:?}");
    drop(late.join().unwrap());
}
