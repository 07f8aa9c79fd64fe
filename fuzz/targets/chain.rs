//! A channel's directory full of hostile generations: looked at, read, claimed, written, superseded, watched over, taken away.
//!
//! Invariant: typed errors or events, in bounded time; never a panic, a signal or a hang, and a reader's sequence numbers only grow.
//!
//! The input is a list of generations: a number, which golden segment it starts from, edits (offset and value), whether its identity is
//! signed again, and how much of it is there. Then a list of what is done, one byte each.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringward_recovery::{
    Action, Channel, Config, Durability, Event, From, Heal, Namespace, Outcome, Reader, Warmth, Watchdog, WhenChainFull,
    WhenFull, Writer, generation_name,
};
use ringward_ring::checksum::crc32c;
use ringward_ring::layout::IDENTITY_LEN;

macro_rules! golden {
    ($($name:literal)*) => { [$(include_bytes!(concat!("../../fixtures/", $name, ".ring"))),*] };
}

const GOLDEN: [&[u8]; 16] = {
    let all: [&[u8]; 16] = golden!(
        "clean" "empty" "full" "wrapped" "closed" "closing" "fencing" "succeeded" "second" "fenced" "unknown-end"
        "retired" "flipped-words" "torn-publish" "slot-damaged" "minor"
    );
    all
};

fn namespace() -> &'static Namespace {
    static NAMESPACE: OnceLock<Namespace> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        let root: PathBuf = std::env::temp_dir();
        Namespace::builder(format!("chain-{}", std::process::id())).root(root).open().expect("a namespace")
    })
}

fuzz_target!(|input: &[u8]| {
    let namespace = namespace();
    let config = Config::default()
        .capacity(4096)
        .beat_interval(Duration::ZERO)
        .when_full(WhenFull::Error)
        .chain_limit(4)
        .heal(Heal::Report);
    let mut bytes = input.iter().copied();
    let mut byte = || bytes.next().unwrap_or(0);
    let place = namespace.path().join("c");
    let _ = std::fs::remove_dir_all(&place);
    let count = byte() % 4;
    if count > 0 {
        std::fs::create_dir(&place).expect("a directory");
    }
    for _ in 0..count {
        let number = u64::from(byte() % 8);
        let how = byte();
        let mut segment = GOLDEN[usize::from(how) % GOLDEN.len()].to_vec();
        for _ in 0..byte() % 16 {
            let at = usize::from(u16::from_le_bytes([byte(), byte()])) % segment.len();
            segment[at] = byte();
        }
        if how & 0x40 != 0 {
            segment[64..72].copy_from_slice(&number.to_le_bytes());
        }
        if how & 0x20 != 0 {
            let crc = crc32c(&segment[..IDENTITY_LEN - 4]);
            segment[IDENTITY_LEN - 4..IDENTITY_LEN].copy_from_slice(&crc.to_le_bytes());
        }
        if how & 0x80 != 0 {
            segment.truncate(usize::from(byte()) * 64);
        }
        let path = place.join(generation_name(number));
        std::fs::write(&path, &segment).expect("a file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    }
    let full = if byte() & 1 == 0 { WhenChainFull::Error } else { WhenChainFull::DropOldest };
    let channel = Channel::new(namespace, "c", config.when_chain_full(full)).expect("a channel");
    let (mut writer, mut readers): (Option<Writer>, Vec<Reader>) = (None, Vec::new());
    for op in bytes.take(24) {
        match op % 12 {
            0 => drop(channel.inspect()),
            1 => writer = channel.writer().ok().or(writer),
            2 => writer = channel.supersede().ok().or(writer),
            3 => {
                if let Some(writer) = &mut writer {
                    let _ = writer.push(u32::from(op), &[op; 40]);
                }
            }
            4 => readers.extend(channel.reader("audit", Durability::Durable, From::Oldest)),
            5 => readers.extend(channel.reader("tail", Durability::Ephemeral, From::Oldest)),
            6 => readers.iter_mut().for_each(receive),
            7 => drop(channel.tidy()),
            8 => drop(channel.forget_reader("audit")),
            9 => {
                let action = [Action::Report, Action::Reclaim, Action::Quarantine][usize::from(op / 12) % 3];
                Watchdog::builder(namespace).action(action).grace(Duration::ZERO).build().tick();
            }
            10 => {
                if let Ok(mut standby) = channel.standby(Warmth::Cold)
                    && let Ok(Outcome::Elected(elected)) = standby.wait(Duration::ZERO)
                {
                    writer = Some(*elected);
                }
            }
            _ if op & 16 == 0 => {
                readers.pop();
            }
            _ => {
                if let Some(writer) = writer.take() {
                    let _ = writer.close();
                }
            }
        }
    }
    drop((writer, readers));
    for entry in std::fs::read_dir(namespace.path()).expect("ours").flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
});

fn receive(reader: &mut Reader) {
    let mut buf = vec![0; 1 << 16];
    // No ring here has more records, and no chain more generations.
    for _ in 0..4096 {
        let before = reader.next_sequence();
        match reader.try_recv(&mut buf) {
            Ok(Some(Event::Record { sequence, .. })) => assert!(sequence >= before, "{sequence} after {before}"),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
    panic!("a reader that never comes to an end");
}
