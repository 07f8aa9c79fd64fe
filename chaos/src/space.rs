//! What a run finds in its root, and what it takes there.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Deeper than namespace, channel and file nothing of ringward's lies.
const DEPTH: usize = 3;
/// Entries that are looked at, at most.
const MOST: usize = 100_000;

/// Bytes that all below `root` take.
pub(crate) fn used(root: &Path) -> u64 {
    let mut bytes = 0;
    walk(root, 16, &mut |_, meta| {
        bytes += meta.blocks() * 512;
        false
    });
    bytes
}

/// A segment below `root` that no run of this program has made.
pub(crate) fn stranger(root: &Path) -> Option<PathBuf> {
    let mut found = None;
    walk(root, DEPTH, &mut |path, meta| {
        if meta.is_file() && is_segment(path) {
            found = Some(path.to_owned());
        }
        found.is_some()
    });
    found
}

fn is_segment(path: &Path) -> bool {
    let mut magic = [0; 8];
    path.extension().is_some_and(|extension| extension == "ring")
        && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"RINGWARD"
}

/// Shows everything below `root` to `each`, until that says that it is enough. What earlier runs have left is passed over.
fn walk(root: &Path, depth: usize, each: &mut dyn FnMut(&Path, &std::fs::Metadata) -> bool) {
    let mut todo = vec![(root.to_owned(), depth)];
    let mut seen = 0;
    while let Some((dir, depth)) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            seen += 1;
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
            if seen > MOST || each(&path, &meta) {
                return;
            }
            let ours = entry.file_name().to_string_lossy().starts_with("ringward-chaos-");
            if meta.is_dir() && depth > 1 && !ours {
                todo.push((path, depth - 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_found_and_own_leftovers_not() {
        let root = tempfile::tempdir().unwrap();
        let make = |dir: &str| {
            let dir = root.path().join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("00000001.ring"), b"RINGWARD and more").unwrap();
        };
        assert_eq!(stranger(root.path()), None);
        std::fs::write(root.path().join("noise.ring"), b"something else").unwrap();
        make("ringward-chaos-old/ring");
        assert_eq!(stranger(root.path()), None);
        make("somebody/news");
        assert_eq!(stranger(root.path()), Some(root.path().join("somebody/news/00000001.ring")));
        assert!(used(root.path()) > 0);
    }
}
