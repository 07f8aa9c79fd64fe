//! The frame of `recv --framed`, and files of frames.
//!
//! ```text
//! 0          8      12      16
//! | sequence | type | length | payload … |      little-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::exit::Failure;

/// Bytes in front of each payload.
pub(crate) const HEADER: usize = 16;

/// No channel gets there, though its numbers jump by 2⁴⁸ at each reboot with a root on a disk. Text does at once: its bytes are 9 or more.
const IMPLAUSIBLE: u64 = 1 << 59;

/// The header of a frame.
pub(crate) fn header(sequence: u64, record_type: u32, len: usize) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&sequence.to_le_bytes());
    out[8..12].copy_from_slice(&record_type.to_le_bytes());
    // A record's length comes out of a 32-bit field.
    out[12..].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// A file of frames, ready to be appended to.
#[derive(Debug)]
pub(crate) struct FrameFile {
    pub(crate) file: File,
    /// The sequence number behind the last frame; 0 without one.
    pub(crate) next: u64,
    /// Bytes of a torn frame that were cut off.
    pub(crate) torn: u64,
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
struct Head {
    sequence: u64,
    payload: u64,
}

impl Head {
    fn of(header: &[u8; HEADER]) -> Head {
        let sequence = u64::from_le_bytes(header[..8].try_into().unwrap_or_default());
        let payload = u64::from(u32::from_le_bytes(header[12..].try_into().unwrap_or_default()));
        Head { sequence, payload }
    }
}

/// Opens or makes a file of frames; cuts off the torn frame that a receiver killed inside its last write has left. If no whole frame stands in
/// front of it, or its bytes could hold a whole one, nothing proves that it is one: then they are put aside first, as `FILE.torn`. If frames
/// stand behind it that are neighbours by their numbers, it is none: its length, or that of one before it, is damaged, and nothing is cut off.
pub(crate) fn open(path: &Path) -> Result<FrameFile, Failure> {
    let failed = |doing: &str, error: std::io::Error| {
        Failure::Refused(format!("{}: {doing}: {error} [RW-CTL-OUTPUT]", path.display()))
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| failed("open", error))?;
    let meta = file.metadata().map_err(|error| failed("fstat", error))?;
    if !meta.is_file() {
        let message = format!("{} is no regular file; write frames to stdout instead [RW-CTL-OUTPUT]", path.display());
        return Err(Failure::Refused(message));
    }
    let len = meta.len();
    let (mut at, mut next) = (0u64, 0u64);
    // Where the last whole frame begins: its own length may be the wrong one. And what a frame that it hides has at least, for its number:
    // what was expected before numbers last left their order, as they do where frames are read out of step.
    let (mut last, mut least) = (0, None);
    let mut reader = BufReader::with_capacity(64 << 10, &file);
    while len - at >= HEADER as u64 {
        let mut header = [0; HEADER];
        reader.read_exact(&mut header).map_err(|error| failed("read", error))?;
        let Head { sequence, payload } = Head::of(&header);
        if sequence < next || sequence >= IMPLAUSIBLE {
            return Err(Failure::Refused(format!(
                "{} is no file of frames in order: at byte {at} sequence {sequence} where {next} or more should be; \
                 choose another file [RW-CTL-OUTPUT]",
                path.display()
            )));
        }
        if sequence != next && at > 0 {
            least = Some(next);
        }
        if len - at - (HEADER as u64) < payload {
            break; // torn
        }
        let skip = i64::try_from(payload).unwrap_or(i64::MAX);
        reader.seek_relative(skip).map_err(|error| failed("seek", error))?;
        last = at;
        at += HEADER as u64 + payload;
        next = sequence + 1;
    }
    drop(reader);
    let behind = match at {
        _ if at == len => Behind::Nothing,
        0 => Behind::Perhaps,
        _ => look_behind(&file, last + HEADER as u64, at, len, least.unwrap_or(next))
            .map_err(|error| failed("read", error))?,
    };
    match behind {
        Behind::Frames { from } => {
            return Err(Failure::Refused(format!(
                "{}: at byte {at} a frame that reaches beyond the end, but whole ones behind it, from byte {from} on: the length of one \
                 before these is damaged; choose another file, and mend this one or keep it as it is [RW-CTL-OUTPUT]",
                path.display()
            )));
        }
        Behind::Perhaps => put_aside(path, &mut file, at).map_err(|error| {
            let what = "its last frame is torn, if it is one, and its bytes could not be put aside as FILE.torn";
            failed(what, error)
        })?,
        Behind::Nothing => {}
    }
    if at < len {
        file.set_len(at).map_err(|error| failed("cut a torn frame off", error))?;
    }
    file.seek(SeekFrom::Start(at)).map_err(|error| failed("seek", error))?;
    Ok(FrameFile { file, next, torn: len - at })
}

/// What stands behind the header of a frame that is not whole.
enum Behind {
    /// Its own bytes, or nothing.
    Nothing,
    /// Bytes that may be a whole frame.
    Perhaps,
    /// Whole frames, from here on.
    Frames { from: u64 },
}

/// Looks for whole frames that follow each other up to the end of the file, or to a last one that is torn; from `from` on, and not those that
/// lead to `torn`, which is no whole frame.
fn look_behind(file: &File, mut from: u64, torn: u64, len: u64, least: u64) -> std::io::Result<Behind> {
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(from))?;
    let mut window = [0; HEADER];
    if len.saturating_sub(from) < HEADER as u64 {
        return Ok(Behind::Nothing);
    }
    let mut found = Behind::Nothing;
    reader.read_exact(&mut window)?;
    loop {
        let head = Head::of(&window);
        let whole = head.sequence >= least && head.sequence < IMPLAUSIBLE && head.payload <= len - from - HEADER as u64;
        match whole.then(|| chain(file, from, torn, len)).transpose()? {
            Some(Behind::Frames { from }) => return Ok(Behind::Frames { from }),
            Some(Behind::Perhaps) => found = Behind::Perhaps,
            Some(Behind::Nothing) | None => {}
        }
        from += 1;
        if len - from < HEADER as u64 {
            return Ok(found);
        }
        window.copy_within(1.., 0);
        reader.read_exact(&mut window[HEADER - 1..])?;
    }
}

/// Whether frames with growing numbers follow each other from `from` on up to the end.
///
/// Payloads are any bytes, and half of one can look like a frame: an array of counters does. Two frames that are neighbours by their
/// numbers, as nearly all are, are frames; others may be.
fn chain(file: &File, from: u64, torn: u64, len: u64) -> std::io::Result<Behind> {
    let (mut at, mut next, mut neighbours) = (from, 0, false);
    while len - at >= HEADER as u64 {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, at)?;
        let Head { sequence, payload } = Head::of(&header);
        if sequence < next || sequence >= IMPLAUSIBLE || at == torn {
            return Ok(Behind::Nothing);
        }
        if payload > len - at - HEADER as u64 {
            break;
        }
        neighbours |= at > from && sequence == next;
        at += HEADER as u64 + payload;
        next = sequence + 1;
    }
    Ok(match at == len {
        _ if neighbours => Behind::Frames { from },
        true => Behind::Perhaps,
        false => Behind::Nothing,
    })
}

/// Copies the rest of a file, from `at` on, to a new one beside it, called `.torn`.
fn put_aside(path: &Path, file: &mut File, at: u64) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    // Whoever may not read the one may not read the other.
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut aside = OpenOptions::new().write(true).create_new(true).mode(mode).open(&name)?;
    file.seek(SeekFrom::Start(at))?;
    let copied = std::io::copy(file, &mut aside).and_then(|_| aside.sync_all());
    if copied.is_err() {
        // Half a copy would stand in the way of the next start.
        let _ = std::fs::remove_file(&name);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
        [&header(sequence, 7, payload.len())[..], payload].concat()
    }

    #[test]
    fn a_torn_frame_is_cut_off_wherever_it_tore() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let whole = [frame(3, b"abc"), frame(5, b"")].concat();
        let last = frame(6, b"0123456789");
        for torn in 0..last.len() {
            std::fs::write(&path, [&whole[..], &last[..torn]].concat()).unwrap();
            let opened = open(&path).unwrap();
            assert_eq!((opened.next, opened.torn), (6, torn as u64));
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        std::fs::write(&path, [&whole[..], &last[..]].concat()).unwrap();
        assert_eq!(open(&path).unwrap().next, 7);
    }

    /// Half a payload of whatever bytes is half a frame's, and no frames behind a damaged one.
    #[test]
    fn a_torn_payload_that_looks_like_frames_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let whole = [frame(3, b"abc"), frame(5, b"")].concat();
        let counters: Vec<u8> = (0..12u64).flat_map(u64::to_le_bytes).collect();
        let times: Vec<u8> = (0..12u64).flat_map(|n| (1_700_000_000_000_000 + n * 1000).to_le_bytes()).collect();
        for payload in [&[0; 100][..], &[1; 100], &counters, &times] {
            let last = frame(6, payload);
            for torn in 0..last.len() {
                std::fs::write(&path, [&whole[..], &last[..torn]].concat()).unwrap();
                let opened = open(&path).unwrap();
                assert_eq!((opened.next, opened.torn), (6, torn as u64));
                // In doubt they are kept.
                if let Ok(aside) = std::fs::read(dir.path().join("f.torn")) {
                    assert_eq!(aside, last[..torn]);
                    std::fs::remove_file(dir.path().join("f.torn")).unwrap();
                }
            }
        }
    }

    /// One frame alone behind a damaged one can't be told from half a payload: it is kept beside the file.
    #[test]
    fn what_may_be_a_frame_is_put_aside_before_it_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut bytes = [frame(0, b"abc"), frame(1, b"defg"), frame(2, b"the last")].concat();
        let at = HEADER + 3;
        bytes[at + 15] = 7;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(open(&path).unwrap().next, 1);
        assert_eq!(std::fs::read(&path).unwrap(), bytes[..at]);
        assert_eq!(std::fs::read(dir.path().join("f.torn")).unwrap(), bytes[at..]);
        // Twice is once too often.
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(&path), Err(Failure::Refused(why)) if why.contains(".torn")));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    /// Neither are frames behind it cut off where the last one is torn, or where numbers have jumped.
    #[test]
    fn frames_behind_a_damaged_length_are_not_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let jumped = 1 << 48;
        for (behind, torn) in [(vec![2, 3], 0), (vec![2, 3], 9), (vec![jumped, jumped + 1], 3)] {
            let mut bytes = [frame(0, b"abc"), frame(1, b"defg")].concat();
            let at = bytes.len() - 4 - HEADER;
            bytes[at + 15] = 7;
            bytes.extend(behind.iter().flat_map(|n| frame(*n, b"some text of a payload")));
            bytes.extend(&frame(behind[behind.len() - 1] + 1, b"the last")[..torn]);
            std::fs::write(&path, &bytes).unwrap();
            assert!(matches!(open(&path), Err(Failure::Refused(why)) if why.contains("RW-CTL-OUTPUT")), "{behind:?}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn nothing_is_cut_off_that_no_frame_stands_in_front_of() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("f"), dir.path().join("f.torn"));
        // A text is none of frames, and is left as it is.
        let text = b"a text of some length, longer than a frame's header is";
        std::fs::write(&path, text).unwrap();
        assert!(matches!(open(&path), Err(Failure::Refused(why)) if why.contains("RW-CTL-OUTPUT")));
        assert_eq!(std::fs::read(&path).unwrap(), text);
        // A first frame that tore, or a short text: nobody can know.
        for bytes in [&b"short"[..], &frame(0, b"0123456789")[..20]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(open(&path).unwrap().torn, bytes.len() as u64);
            assert_eq!((std::fs::read(&path).unwrap().len(), &std::fs::read(&aside).unwrap()[..]), (0, bytes));
            // A second time there is no room beside it for more: nothing is lost for that.
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(open(&path), Err(Failure::Refused(why)) if why.contains(".torn")));
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            std::fs::remove_file(&aside).unwrap();
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let other = [frame(3, b"abc"), frame(2, b"abc")].concat();
        std::fs::write(&path, &other).unwrap();
        assert!(matches!(open(&path), Err(Failure::Refused(why)) if why.contains("RW-CTL-OUTPUT")));
        assert_eq!(std::fs::read(&path).unwrap(), other);
        assert!(matches!(open(Path::new("/dev/null")), Err(Failure::Refused(_))));
    }
}
