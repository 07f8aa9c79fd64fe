//! The frame of `recv --framed`, and files of frames.
//!
//! ```text
//! 0          8      12      16
//! | sequence | type | length | payload … |      little-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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

/// Opens or makes a file of frames; cuts off the torn frame that a receiver killed inside its last write has left. If no whole frame stands in
/// front of it, nothing proves that it is one: then its bytes are put aside first, as `FILE.torn`.
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
    let mut reader = BufReader::with_capacity(64 << 10, &file);
    while len - at >= HEADER as u64 {
        let mut header = [0; HEADER];
        reader.read_exact(&mut header).map_err(|error| failed("read", error))?;
        let sequence = u64::from_le_bytes(header[..8].try_into().unwrap_or_default());
        let payload = u64::from(u32::from_le_bytes(header[12..].try_into().unwrap_or_default()));
        if sequence < next || sequence >= IMPLAUSIBLE {
            return Err(Failure::Refused(format!(
                "{} is no file of frames in order: at byte {at} sequence {sequence} where {next} or more should be; \
                 choose another file [RW-CTL-OUTPUT]",
                path.display()
            )));
        }
        if len - at - (HEADER as u64) < payload {
            break; // torn
        }
        let skip = i64::try_from(payload).unwrap_or(i64::MAX);
        reader.seek_relative(skip).map_err(|error| failed("seek", error))?;
        at += HEADER as u64 + payload;
        next = sequence + 1;
    }
    drop(reader);
    if at == 0 && len > 0 {
        put_aside(path, &mut file).map_err(|error| {
            failed("its first frame is torn, if it is one, and its bytes could not be put aside as FILE.torn", error)
        })?;
    }
    if at < len {
        file.set_len(at).map_err(|error| failed("cut a torn frame off", error))?;
    }
    file.seek(SeekFrom::Start(at)).map_err(|error| failed("seek", error))?;
    Ok(FrameFile { file, next, torn: len - at })
}

/// Copies a file to a new one beside it, called `.torn`.
fn put_aside(path: &Path, file: &mut File) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    // Whoever may not read the one may not read the other.
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut aside = OpenOptions::new().write(true).create_new(true).mode(mode).open(&name)?;
    file.seek(SeekFrom::Start(0))?;
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
