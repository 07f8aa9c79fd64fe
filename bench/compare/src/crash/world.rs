//! Where trials happen: a directory for all, a place for each, and nothing of either afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ringward_bench::Result;

/// The directory of a run of the program.
pub(crate) struct Root(PathBuf);

/// What one trial has for itself.
pub(crate) struct Place {
    /// The system's files are here, and in `/dev/shm` under names that begin with this one's.
    pub(crate) path: PathBuf,
    /// Ledgers are here.
    pub(crate) ledgers: PathBuf,
}

impl Root {
    /// A fresh one inside of `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Root> {
        let path = parent.join(format!("ringward-crash-{}", std::process::id()));
        fs::create_dir_all(parent)?;
        fs::create_dir(&path)?;
        Ok(Root(path))
    }

    /// A fresh place.
    pub(crate) fn place(&self) -> Result<Place> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ringward-crash-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (path, ledgers) = (self.0.join(&name), self.0.join(format!("{name}.ledgers")));
        fs::create_dir(&path)?;
        fs::create_dir(&ledgers)?;
        Ok(Place { path, ledgers })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// All files of the system, with their sizes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut all = Vec::new();
        collect(&self.path, &mut all);
        all.extend(self.outside());
        all.sort();
        all
    }

    fn outside(&self) -> Vec<(PathBuf, u64)> {
        let prefix = crate::peers::iceoryx2_prefix(&self.path);
        let mut all = Vec::new();
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix)
                && let Ok(about) = entry.metadata()
            {
                all.push((entry.path(), about.len()));
            }
        }
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (path, _) in self.outside() {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_dir_all(&self.ledgers);
    }
}

fn collect(directory: &Path, all: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => collect(&entry.path(), all),
            Ok(about) => all.push((entry.path(), about.len())),
            Err(_) => {}
        }
    }
}
