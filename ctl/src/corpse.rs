//! Private copies of segments' bytes, from a channel or from files: what `check`, `dump` and `tail` read.
//!
//! Nothing is mapped and no lock is taken, so that nobody notices. Of a segment in use a copy is not of one moment.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_recovery::{Config, Namespace, generation_name, generation_number};
use ringward_ring::identity::UnverifiedIdentity;
use ringward_ring::layout::IDENTITY_LEN;
use ringward_ring::segment::AttachError;
use ringward_ring::sys::file::open_checked;
use rustix::fs::{Mode, OFlags};

use crate::args::Place;
use crate::exit::Failure;
use crate::place;

/// A segment's file.
#[derive(Debug, Clone)]
pub(crate) struct Corpse {
    /// What to call it.
    pub(crate) name: String,
    /// By its name, if it has one like a generation's.
    pub(crate) generation: Option<u64>,
    /// It bears a channel's name: others may be using it.
    pub(crate) in_use: bool,
    file: Arc<File>,
}

impl Corpse {
    /// A copy of its bytes as they are now.
    ///
    /// The reader table and the writer page before the data, so that what they point to is there already.
    pub(crate) fn copy(&self) -> Result<Vec<u8>, Failure> {
        self.read().map_err(|error| Failure::system(&format!("read {}", self.name), error))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        bytes.resize(len, 0);
        let head = &mut bytes[..len.min(IDENTITY_LEN)];
        let got = read_at(&self.file, head, 0)?;
        let data_at = UnverifiedIdentity(&head[..got]).verify().map_or(0, |identity| identity.geometry.data_at());
        let split = usize::try_from(data_at).unwrap_or(0).min(len);
        let (front, data) = bytes.split_at_mut(split);
        let in_front = read_at(&self.file, front, 0)?;
        let behind = if in_front == split { read_at(&self.file, data, split as u64)? } else { 0 };
        bytes.truncate(in_front + behind);
        Ok(bytes)
    }

    /// Some of its bytes, as far as they are there.
    pub(crate) fn part(&self, at: u64, into: &mut [u8]) -> Result<usize, Failure> {
        read_at(&self.file, into, at).map_err(|error| Failure::system(&format!("read {}", self.name), error))
    }
}

fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.read_at(&mut into[got..], at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// The segments that `target` names, oldest first: a path if it has a slash in it or there is no such channel, else a channel.
pub(crate) fn corpses(at: &Place, target: &str) -> Result<Vec<Corpse>, Failure> {
    let path = Path::new(target);
    if target.contains('/') {
        return from_path(path);
    }
    let channel = place::namespace(at, false).and_then(|namespace| of_channel(&namespace, target));
    match channel {
        Err(_) if path.exists() => from_path(path),
        found => found,
    }
}

/// All generations of a channel that have a name.
pub(crate) fn of_channel(namespace: &Namespace, channel: &str) -> Result<Vec<Corpse>, Failure> {
    let handle = place::channel(namespace, channel, Config::default())?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let missing = |error: rustix::io::Errno| match handle.inspect() {
        Err(why) => Failure::refused(why),
        Ok(_) => Failure::system("open the channel", error),
    };
    let dir = rustix::fs::openat(namespace.dir(), channel, flags, Mode::empty()).map_err(missing)?;
    let list = || -> Result<Vec<u64>, rustix::io::Errno> {
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            numbers.extend(entry?.file_name().to_str().ok().and_then(generation_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    };
    // Between a look at the folder and the opening all may have been followed and drained.
    for _ in 0..100 {
        let mut found = Vec::new();
        for number in list().map_err(|error| Failure::system("list the channel", error))? {
            let file = match open_checked(dir.as_fd(), &generation_name(number), false, namespace.trust()) {
                Ok(file) => file,
                Err(ringward_ring::sys::file::OpenError::NotFound) => continue,
                Err(error) => return Err(Failure::refused(AttachError::Open(error))),
            };
            let name = format!("{channel}, generation {number}");
            found.push(Corpse { name, generation: Some(number), in_use: true, file: Arc::new(file) });
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Failure::Nothing(format!(
        "channel {channel} has no generation; look again, or start its writer [RW-OPEN-MISSING]"
    )))
}

fn from_path(path: &Path) -> Result<Vec<Corpse>, Failure> {
    let system = |error| Failure::system(&format!("open {}", path.display()), error);
    let meta = path.metadata().map_err(system)?;
    if meta.is_file() {
        return Ok(vec![from_file(path)?]);
    }
    if !meta.is_dir() {
        return Err(Failure::system(&format!("open {}", path.display()), "neither a file nor a folder"));
    }
    let mut paths: Vec<PathBuf> = path
        .read_dir()
        .map_err(system)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "ring") && path.is_file())
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Failure::Nothing(format!("no segment (*.ring) in {} [RW-OPEN-MISSING]", path.display())));
    }
    paths.iter().map(|path| from_file(path)).collect()
}

fn from_file(path: &Path) -> Result<Corpse, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Failure::system(&format!("open {name}"), error))?;
    let generation = path.file_name().and_then(|name| name.to_str()).and_then(generation_number);
    Ok(Corpse { name, generation, in_use: false, file: Arc::new(file) })
}
