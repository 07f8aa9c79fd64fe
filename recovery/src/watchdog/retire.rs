//! Taking a channel away that is provably nobody's.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use ringward_ring::alone::NotNobody;
use ringward_ring::canary;
use ringward_ring::layout::{MAX_SLOTS, PRESENCE_BYTE, READER_BYTE, WRITER_BYTE};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::sys::file;
use ringward_ring::sys::lock::{self, Mode};
use ringward_ring::word::Successor;
use rustix::fs::AtFlags;

use super::{Action, Done, Watchdog};
use crate::chain::{self, Found};
use crate::namespace::{ChannelDir, generation_name};
use crate::verdict::Evidence;

impl Watchdog {
    /// Takes a channel away, if it is provably nobody's.
    pub(super) fn retire(&self, name: &str, dir: &ChannelDir, segment: &Arc<Segment>, evidence: &Evidence) -> Done {
        if self.setup.action == Action::Report && !canary!("report-acts") {
            return Done::Nothing;
        }
        let number = evidence.generation.unwrap_or(segment.identity().generation);
        let failed = |error: io::Error| Done::Failed { why: error.to_string() };
        let refused = |why: &str| Done::Refused { why: why.to_owned() };
        // Every lock, before the table is looked at.
        let alone = match segment.alone() {
            Ok(Some(alone)) => alone,
            Ok(None) => return refused("somebody holds a lock of it"),
            Err(error) => return failed(error),
        };
        let expired =
            self.setup.expire_durable.is_some_and(|after| evidence.orphaned_for.is_some_and(|age| age >= after));
        if let Some(slot) = alone.durable_reader().filter(|_| !expired) {
            return Done::Refused { why: format!("a durable reader will come back to slot {slot}") };
        }
        let numbers = match dir.generations() {
            Ok(numbers) => numbers,
            Err(error) => return failed(error),
        };
        if numbers.last() != Some(&number) || (numbers.len() > 1 && !expired) {
            return refused("it is not the only generation");
        }
        match segment.bears(dir.fd(), &generation_name(number)) {
            Ok(true) => {}
            Ok(false) => return refused("its name belongs to another file by now"),
            Err(error) => return failed(error),
        }
        match alone.retire() {
            Ok(()) => {}
            // By one that has lost its name: nobody can come to it from here.
            Err(NotNobody::Followed(Successor::Segment(_)))
                if chain::lost_successor(dir, number, segment).is_ok_and(|lost| lost.is_some()) => {}
            Err(NotNobody::Followed(Successor::Segment(id))) => {
                return Done::Refused { why: format!("segment {id} follows it") };
            }
            Err(other) => return Done::Refused { why: other.to_string() },
        }
        // Decided: from here on anybody may finish.
        let mut bytes = 0;
        for older in &numbers[..numbers.len() - 1] {
            let Ok(Found::Segment(old)) = chain::find(dir, *older, Access::Successor, self.setup.namespace.trust())
            else {
                continue;
            };
            bytes += old.identity().geometry.total();
            let gone = if self.setup.action == Action::Quarantine {
                self.put_aside(name, dir, *older).map(|_| true)
            } else if self.setup.wipe {
                old.wipe().and_then(|()| dir.unlink(*older, old.key()))
            } else {
                dir.unlink(*older, old.key())
            };
            if let Err(error) = gone {
                return failed(error);
            }
        }
        bytes += segment.identity().geometry.total();
        if self.setup.action == Action::Quarantine {
            return self.quarantine(name, dir, number);
        }
        if self.setup.wipe
            && let Err(error) = alone.wipe()
        {
            return failed(error);
        }
        match dir.unlink(number, segment.key()).and_then(|_| self.remove_dir(name, dir)) {
            Ok(()) => Done::Reclaimed { bytes },
            Err(error) => failed(error),
        }
    }

    /// Takes a channel away whose newest generation can't be read: under every lock of its file.
    pub(super) fn retire_broken(&self, name: &str, dir: &ChannelDir, file: &File, evidence: &Evidence) -> Done {
        if self.setup.action == Action::Report {
            return Done::Nothing;
        }
        let failed = |error: io::Error| Done::Failed { why: error.to_string() };
        let (Some(number), 1) = (evidence.generation, evidence.generations) else {
            return Done::Refused { why: "it is not the only generation".to_owned() };
        };
        let fd = file.as_fd();
        let all = lock::try_lock(fd, PRESENCE_BYTE, Mode::Exclusive)
            .and_then(|got| Ok(got && lock::try_lock(fd, WRITER_BYTE, Mode::Exclusive)?))
            .and_then(|got| Ok(got && lock::try_lock_range(fd, READER_BYTE, MAX_SLOTS.into(), Mode::Exclusive)?));
        match all {
            Ok(true) => {}
            Ok(false) => return Done::Refused { why: "somebody holds a lock of it".to_owned() },
            Err(error) => return failed(error),
        }
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        if self.setup.action == Action::Quarantine {
            return self.quarantine(name, dir, number);
        }
        let unlinked = file::file_key(fd).and_then(|key| dir.unlink(number, key));
        match unlinked.and_then(|_| self.remove_dir(name, dir)) {
            Ok(()) => Done::Reclaimed { bytes },
            Err(error) => failed(error),
        }
    }

    /// A directory without generations: what a retirement that died has left.
    pub(super) fn finish_empty(&self, name: &str, dir: &ChannelDir) -> Done {
        if self.setup.action == Action::Report {
            return Done::Nothing;
        }
        match self.remove_dir(name, dir) {
            Ok(()) => Done::Reclaimed { bytes: 0 },
            Err(error) => Done::Failed { why: error.to_string() },
        }
    }

    fn remove_dir(&self, name: &str, dir: &ChannelDir) -> io::Result<()> {
        let namespace = &self.setup.namespace;
        if canary!("foreign-files-removed") {
            for foreign in crate::namespace::entries(dir.fd())? {
                rustix::fs::unlinkat(dir.fd(), foreign.as_str(), AtFlags::empty())?;
            }
        }
        if file::path_key(namespace.dir(), name)? != Some(dir.key()) {
            return Ok(());
        }
        match rustix::fs::unlinkat(namespace.dir(), name, AtFlags::REMOVEDIR) {
            // Not empty: somebody linked the next generation meanwhile, or foreign files lie in it, which are not ours.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn quarantine(&self, name: &str, dir: &ChannelDir, number: u64) -> Done {
        match self.put_aside(name, dir, number).and_then(|to| self.remove_dir(name, dir).map(|()| to)) {
            Ok(to) => Done::Quarantined { name: to },
            Err(error) => Done::Failed { why: error.to_string() },
        }
    }

    /// Renames a generation's file to a name of its own in the namespace, which is returned.
    fn put_aside(&self, name: &str, dir: &ChannelDir, number: u64) -> io::Result<String> {
        let namespace = &self.setup.namespace;
        let to = format!(".quarantine-{name}-{number}-{:08x}", rand::random::<u32>());
        rustix::fs::renameat_with(
            dir.fd(),
            generation_name(number),
            namespace.dir(),
            to.as_str(),
            rustix::fs::RenameFlags::NOREPLACE,
        )?;
        Ok(to)
    }
}
