//! A crash state: what a namespace's directory holds at a moment. On tmpfs, with everybody dead, that is all there is: the
//! kernel's locks and whatever has no name went with the processes.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Seconds since 1970 that a watchdog sets as the modification time of an orphan.
const MARK: i64 = 1;
/// What differs from one process to the next of one build: owner and time of birth, and the identity's checksum over them.
const IDENTITY_MASK: [(usize, usize); 2] = [(104, 144), (252, 256)];
/// Heartbeat (none is promised in a sweep; its time would differ).
const BEAT_MASK: (usize, usize) = (512, 532);
/// First slot, length of a slot, and the pid, pid namespace and start time in it.
const SLOTS: (usize, usize) = (4096 + 256, 128);
const SLOT_MASK: (usize, usize) = (96, 112);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Dir { mode: u32 },
    File { mode: u32, marked: bool, bytes: Vec<u8> },
}

/// The files and directories below a root, by relative path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) nodes: BTreeMap<String, Node>,
}

impl Image {
    /// Takes it.
    pub(crate) fn take(root: &Path) -> io::Result<Image> {
        let mut image = Image::default();
        for (path, meta) in list(root)? {
            let node = if meta.is_dir() {
                Node::Dir { mode: meta.mode() & 0o7777 }
            } else {
                let bytes = fs::read(root.join(&path))?;
                Node::File { mode: meta.mode() & 0o7777, marked: meta.mtime() == MARK, bytes }
            };
            image.nodes.insert(path, node);
        }
        Ok(image)
    }

    /// Makes it true of the empty directory `root`.
    pub(crate) fn lay(&self, root: &Path) -> io::Result<()> {
        for (path, node) in &self.nodes {
            let path = root.join(path);
            match node {
                Node::Dir { mode } => {
                    fs::create_dir(&path)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                }
                Node::File { mode, marked, bytes } => {
                    let file = File::options().write(true).create_new(true).open(&path)?;
                    file.write_all_at(bytes, 0)?;
                    file.set_permissions(fs::Permissions::from_mode(*mode))?;
                    if *marked {
                        let mark = SystemTime::UNIX_EPOCH + Duration::from_secs(MARK as u64);
                        file.set_times(FileTimes::new().set_modified(mark))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A number that two images share only if they are the same but for what differs from process to process.
    pub(crate) fn hash(&self) -> u64 {
        let mut mix = Mix::new();
        for (path, node) in &self.nodes {
            match node {
                Node::Dir { mode } => mix.name(path, *mode, false),
                Node::File { mode, marked, bytes } => {
                    mix.name(path, *mode, *marked);
                    mix.masked(path, &mut bytes.clone());
                }
            }
        }
        mix.finish()
    }

    /// Segments in it that have a generation's name: path, bytes.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File { bytes, .. } if is_segment(path) => Some((path.as_str(), &bytes[..])),
            _ => None,
        })
    }

    /// The same with the newest generation cut to `len` bytes; `None` if there is none that is longer.
    pub(crate) fn cut(&self, len: usize) -> Option<Image> {
        let newest = self.segments().map(|(path, _)| path.to_owned()).max()?;
        let mut image = self.clone();
        match image.nodes.get_mut(&newest) {
            Some(Node::File { bytes, .. }) if bytes.len() > len => bytes.truncate(len),
            _ => return None,
        }
        Some(image)
    }
}

/// Whether a path is a channel's generation (not one in a birth's directory, nor one put aside).
pub(crate) fn is_segment(path: &str) -> bool {
    path.ends_with(".ring") && !path.split('/').any(|part| part.starts_with('.'))
}

/// Everything below `root`, parents first.
fn list(root: &Path) -> io::Result<Vec<(String, fs::Metadata)>> {
    let mut all = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            let meta = entry.metadata()?;
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            all.push((path, meta));
        }
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(all)
}

/// Watches one root: says cheaply, again and again, which image is there.
#[derive(Debug)]
pub(crate) struct Camera {
    root: PathBuf,
    nodes: Vec<(String, u32, bool, Option<File>)>,
    buffer: Vec<u8>,
}

impl Camera {
    pub(crate) fn new(root: &Path) -> Camera {
        Camera { root: root.to_owned(), nodes: Vec::new(), buffer: Vec::new() }
    }

    /// The hash of what is there. `changed`: names, modes or times may have changed since the last look; contents always may.
    pub(crate) fn look(&mut self, changed: bool) -> io::Result<u64> {
        if changed || self.nodes.is_empty() {
            self.nodes.clear();
            for (path, meta) in list(&self.root)? {
                let file = if meta.is_dir() { None } else { Some(File::open(self.root.join(&path))?) };
                let marked = file.is_some() && meta.mtime() == MARK;
                self.nodes.push((path, meta.mode() & 0o7777, marked, file));
            }
        }
        let mut mix = Mix::new();
        for (path, mode, marked, file) in &self.nodes {
            mix.name(path, *mode, *marked);
            let Some(file) = file else { continue };
            let mut filled = 0;
            loop {
                if self.buffer.len() < filled + (1 << 16) {
                    self.buffer.resize(filled + (1 << 16), 0);
                }
                match file.read_at(&mut self.buffer[filled..], filled as u64)? {
                    0 => break,
                    got => filled += got,
                }
            }
            mix.masked(path, &mut self.buffer[..filled]);
        }
        Ok(mix.finish())
    }
}

/// A hash of 64 bits, made to be fast: four lanes of multiply and rotate.
struct Mix([u64; 4]);

impl Mix {
    fn new() -> Mix {
        Mix([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89])
    }

    fn word(lane: &mut u64, word: u64) {
        *lane = (*lane ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        Mix::word(&mut self.0[0], bytes.len() as u64);
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            for (lane, word) in self.0.iter_mut().zip(block.as_chunks::<8>().0) {
                Mix::word(lane, u64::from_le_bytes(*word));
            }
        }
        for (at, byte) in rest.iter().enumerate() {
            Mix::word(&mut self.0[at % 4], u64::from(*byte) + 1);
        }
    }

    fn name(&mut self, path: &str, mode: u32, marked: bool) {
        self.bytes(path.as_bytes());
        Mix::word(&mut self.0[1], u64::from(mode) << 1 | u64::from(marked));
    }

    /// A file's bytes without what differs from process to process.
    fn masked(&mut self, path: &str, bytes: &mut [u8]) {
        if path.contains(".ring") || path.contains(".tmp-") || path.contains(".quarantine-") {
            let mut mask = |from: usize, to: usize| {
                if let Some(hidden) = bytes.get_mut(from..to) {
                    hidden.fill(0);
                }
            };
            IDENTITY_MASK.into_iter().chain([BEAT_MASK]).for_each(|(from, to)| mask(from, to));
            for slot in 0..super::subject::SLOTS as usize {
                let at = SLOTS.0 + slot * SLOTS.1;
                mask(at + SLOT_MASK.0, at + SLOT_MASK.1);
            }
        }
        self.bytes(bytes);
    }

    fn finish(&self) -> u64 {
        let mut all = 0;
        self.0.iter().for_each(|lane| Mix::word(&mut all, *lane));
        all ^ (all >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::default();
        image.nodes.insert("n".into(), Node::Dir { mode: 0o700 });
        image.nodes.insert("n/c".into(), Node::Dir { mode: 0o700 });
        let bytes: Vec<u8> = (0..12_288_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        image.nodes.insert("n/c/00000001.ring".into(), Node::File { mode: 0o600, marked: true, bytes });
        image
    }

    fn bytes(image: &mut Image) -> &mut Vec<u8> {
        match image.nodes.get_mut("n/c/00000001.ring") {
            Some(Node::File { bytes, .. }) => bytes,
            _ => unreachable!(),
        }
    }

    #[test]
    fn what_is_laid_is_taken_and_seen_again() {
        let root = tempfile::tempdir().unwrap();
        let image = image();
        image.lay(root.path()).unwrap();
        assert_eq!(Image::take(root.path()).unwrap(), image);
        let mut camera = Camera::new(root.path());
        assert_eq!(camera.look(true).unwrap(), image.hash());
        let file = File::options().write(true).open(root.path().join("n/c/00000001.ring")).unwrap();
        file.write_all_at(&[!0], 5000).unwrap();
        // Its time is a part of the image, and looked at only when told that it may have changed.
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MARK as u64)).unwrap();
        let after = Image::take(root.path()).unwrap().hash();
        assert_ne!(after, image.hash());
        assert_eq!(camera.look(false).unwrap(), after, "contents are looked at each time");
    }

    #[test]
    fn every_byte_counts_but_those_that_differ_from_process_to_process() {
        let whole = image().hash();
        let mut hidden = 0;
        for at in 0..12_288 {
            let mut other = image();
            bytes(&mut other)[at] ^= 0x40;
            hidden += usize::from(other.hash() == whole);
        }
        assert_eq!(hidden, 40 + 4 + 20 + 16 * super::super::subject::SLOTS as usize);
        let mut other = image();
        bytes(&mut other).truncate(12_287);
        assert_ne!(other.hash(), whole);
        let mut other = image();
        other.nodes.insert("n/x".into(), Node::Dir { mode: 0o700 });
        assert_ne!(other.hash(), whole);
    }

    #[test]
    fn the_newest_generation_is_the_one_that_is_cut() {
        let mut image = image();
        let older = bytes(&mut image).clone();
        image.nodes.insert("n/c/00000002.ring".into(), Node::File { mode: 0o600, marked: false, bytes: older.clone() });
        let cut = image.cut(100).unwrap();
        let lengths: Vec<usize> = cut.segments().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [12_288, 100]);
        assert!(image.cut(12_288).is_none());
        assert!(is_segment("n/c/00000001.ring") && !is_segment("n/.birth-1/00000001.ring") && !is_segment("n/c/x"));
    }
}
