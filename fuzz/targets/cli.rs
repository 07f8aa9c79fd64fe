//! Arguments of `ringward`, and a file that stands for each file that they name: the command line is parsed, and the command is run on a
//! folder of the target's own, unless it acts on processes, waits, reads stdin or looks at the machine.
//!
//! Invariant: a command ends with a code of the documented table, its message says why, and a refusal carries an id that the runbook has;
//! the same twice in a row; the file is left as it is but for a torn frame that is cut off its end (whose bytes are kept if nothing proves
//! that it is one); what a snapshot took is a whole snapshot. Never a panic or a hang.
//!
//! The input is words, a line each, up to a line that is empty; a line `$NAME=VALUE` is a variable for `watch`. What follows is the file:
//! as it is, or behind `@` a golden segment with edits, or behind `%` a snapshot that is signed here.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ringward_ctl::fuzzing;
use ringward_ring::checksum::crc32c;
use ringward_ring::layout::IDENTITY_LEN;

macro_rules! golden {
    ($($name:literal)*) => { [$(include_bytes!(concat!("../../fixtures/", $name, ".ring"))),*] };
}

const GOLDEN: [&[u8]; 8] = {
    let all: [&[u8]; 8] = golden!("clean" "full" "wrapped" "closed" "second" "flipped-words" "slot-damaged" "minor");
    all
};

/// The codes of `ringward --help`.
const CODES: [u8; 7] = [0, 1, 2, 3, 4, 5, 6];
/// What looks at the channel; the others get a file.
const OF_CHANNELS: [&[u8]; 9] =
    [b"check", b"dump", b"tail", b"ls", b"inspect", b"snapshot", b"clean", b"forget", b"restore"];

struct Bed {
    root: PathBuf,
    /// The file that all file arguments stand for.
    file: PathBuf,
    torn: PathBuf,
    ids: Vec<&'static str>,
}

fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("cli-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a folder");
        let (file, torn) = (root.join("file"), root.join("file.torn"));
        Bed { root, file, torn, ids: fuzzing::ids() }
    })
}

/// The words, the variables and the file.
fn split(input: &[u8]) -> (Vec<OsString>, Vec<(String, String)>, &[u8]) {
    let (mut words, mut variables, mut rest) = (Vec::new(), Vec::new(), input);
    loop {
        let (line, behind) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &[][..]),
        };
        rest = behind;
        match line {
            [] => return (words, variables, rest),
            [b'$', variable @ ..] => {
                let text = String::from_utf8_lossy(variable);
                variables.extend(text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            word => words.push(OsString::from_vec(word.to_vec())),
        }
    }
}

/// The bytes of the file.
fn made(input: &[u8]) -> Vec<u8> {
    match input {
        [b'@', which, edits @ ..] => {
            let mut segment = GOLDEN[usize::from(*which) % GOLDEN.len()].to_vec();
            for edit in edits.chunks_exact(3).take(64) {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % segment.len();
                segment[at] = edit[2];
            }
            if which & 0x40 != 0 {
                let crc = crc32c(&segment[..IDENTITY_LEN - 4]);
                segment[IDENTITY_LEN - 4..IDENTITY_LEN].copy_from_slice(&crc.to_le_bytes());
            }
            if which & 0x80 != 0 {
                segment.truncate(edits.len() * 64);
            }
            segment
        }
        // A head up to a newline; then a length, a type and a sequence number for each record.
        [b'%', snapshot @ ..] => {
            let mut parts = snapshot.splitn(2, |byte| *byte == b'\n');
            let (head, records) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let mut bytes = b"RWSNAP01".to_vec();
            bytes.extend((head.len() as u32).to_le_bytes());
            bytes.extend(head);
            bytes.extend(crc32c(head).to_le_bytes());
            let mut crcs = Vec::new();
            for record in records.chunks_exact(3).take(256) {
                let payload = vec![record[1]; usize::from(record[0])];
                let mut front = (payload.len() as u32).to_le_bytes().to_vec();
                front.extend(u32::from(record[1]).to_le_bytes());
                front.extend(u64::from(record[2]).to_le_bytes());
                let crc = crc32c(&[&front[..], &payload[..]].concat()).to_le_bytes();
                crcs.extend(crc);
                bytes.extend(front);
                bytes.extend(crc);
                bytes.extend(payload);
            }
            let mut tail = u32::MAX.to_le_bytes().to_vec();
            tail.extend((crcs.len() as u64 / 4).to_le_bytes());
            tail.extend(crc32c(&crcs).to_le_bytes());
            bytes.extend(&tail);
            bytes.extend(crc32c(&tail).to_le_bytes());
            bytes
        }
        other => other.to_vec(),
    }
}

fuzz_target!(|input: &[u8]| {
    let bed = bed();
    let (words, variables, rest) = split(input);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let bytes = made(rest);
    std::fs::write(&bed.file, &bytes).expect("room");
    let channel = bed.root.join(fuzzing::NAMESPACE).join(fuzzing::CHANNEL);
    let of_channel = words.iter().any(|word| OF_CHANNELS.contains(&word.as_encoded_bytes()));
    if of_channel && !words.iter().any(|word| word == "restore") {
        std::fs::create_dir_all(&channel).expect("a folder");
        let _ = std::fs::set_permissions(bed.root.join(fuzzing::NAMESPACE), PermissionsExt::from_mode(0o700));
        let path = channel.join(ringward_recovery::generation_name(1 + u64::from(bytes.len() as u8 & 1)));
        std::fs::write(&path, &bytes).expect("room");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("ours");
    }
    let ended = fuzzing::run(&words, &variables, &bed.root, &bed.file);
    if let Some(ended) = &ended {
        judge(ended, &bed.ids);
        let left = std::fs::read(&bed.file).expect("it is still there");
        assert!(bytes.starts_with(&left), "the file was changed");
        if left.len() < bytes.len() {
            assert!(words.iter().any(|word| word == "recv"), "the file was cut");
            assert!(
                !left.is_empty() || std::fs::read(&bed.torn).is_ok_and(|kept| kept == bytes),
                "bytes were thrown away"
            );
        }
        if !of_channel {
            let again = fuzzing::run(&words, &variables, &bed.root, &bed.file).expect("as before");
            assert_eq!(again.code, ended.code, "the second time: {again:?}");
            assert!(std::fs::read(&bed.file).is_ok_and(|bytes| bytes == left), "the file was changed the second time");
        }
    }
    let _ = std::fs::remove_file(&bed.torn);
    let _ = std::fs::remove_file(bed.root.join("snapshot"));
    let _ = std::fs::remove_dir_all(bed.root.join(fuzzing::NAMESPACE));
});

fn judge(ended: &fuzzing::Ended, ids: &[&str]) {
    assert!(CODES.contains(&ended.code), "{ended:?}");
    match (&ended.message, ended.code) {
        (Some(message), 1) => {
            let id = message.rsplit_once('[').and_then(|(_, id)| id.strip_suffix(']'));
            assert!(id.is_some_and(|id| ids.contains(&id)), "no id that is known: {message}");
        }
        (message, 2 | 3) => assert!(message.is_some(), "nothing says why"),
        _ => {}
    }
}
