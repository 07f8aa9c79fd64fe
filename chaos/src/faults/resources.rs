//! Resources that run out: descriptors, file sizes, and system calls that say no.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;

use super::{Applied, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::engine::{self, proc};
use crate::payload::Dice;
use crate::range::actor::Part;
use crate::range::stage::{LIMIT, Stage};

const WATCHED: Setup = Setup { beats: false, supersede: false, watchdog: true, ..PLAIN };

const fn class(name: &'static str, what: &'static str, apply: fn(&mut Stage<'_>, &mut Dice) -> Applied) -> Class {
    Class { name, family: Family::Resources, what, cost: Cost::Nothing, setup: WATCHED, compound: false, apply }
}

pub(super) const CLASSES: &[Class] = &[
    class("emfile-standby", "standbys have no descriptor left while the writer dies", |s, d| {
        starve(s, d, Part::Writer, libc::RLIMIT_NOFILE)
    }),
    class("emfile-reader", "durable readers have no descriptor left while the writer dies", |s, d| {
        starve(s, d, Part::Durable, libc::RLIMIT_NOFILE)
    }),
    class("emfile-watchdog", "the watchdog has no descriptor left while the writer dies", |s, d| {
        starve(s, d, Part::Watchdog, libc::RLIMIT_NOFILE)
    }),
    class("fsize-standby", "standbys may make no file while the writer dies", |s, d| {
        starve(s, d, Part::Writer, libc::RLIMIT_FSIZE)
    }),
    Class {
        setup: WATCHED.small(),
        ..class("tmpfs-full", "the file system has no byte left while writers die", |s, d| fill(s, d, Fill::Bytes))
    },
    Class {
        setup: WATCHED.small(),
        ..class("tmpfs-inodes", "the file system has no inode left while writers die", |s, d| fill(s, d, Fill::Inodes))
    },
    class("errno-fallocate", "fallocate says ENOSPC to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_fallocate, libc::ENOSPC)
    }),
    class("errno-ftruncate", "ftruncate says EFBIG to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_ftruncate, libc::EFBIG)
    }),
    class("errno-linkat", "linkat says ENOSPC to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_linkat, libc::ENOSPC)
    }),
    class("errno-openat", "openat says ENFILE to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_openat, libc::ENFILE)
    }),
    class("errno-fcntl", "fcntl says ENOLCK to whoever is to follow", |s, d| deny(s, d, libc::SYS_fcntl, libc::ENOLCK)),
    class("errno-membarrier", "membarrier says ENOSYS to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_membarrier, libc::ENOSYS)
    }),
    class("errno-inotify", "inotify_init1 says EMFILE to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_inotify_init1, libc::EMFILE)
    }),
    class("errno-inotify-watch", "inotify_add_watch says ENOSPC to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_inotify_add_watch, libc::ENOSPC)
    }),
    class("errno-clone", "no thread can be started by whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_clone3, libc::EAGAIN)
    }),
    class("errno-madvise", "madvise says EINVAL to whoever is to follow", |s, d| {
        deny(s, d, libc::SYS_madvise, libc::EINVAL)
    }),
];

/// Lowers a limit of all of a part, kills the writer, and after a while puts the limit back.
fn starve(stage: &mut Stage<'_>, dice: &mut Dice, part: Part, resource: libc::__rlimit_resource_t) -> Applied {
    let Some(writer) = stage.writer() else { return Err(Hitch::Missed("there was no writer".into())) };
    let victims = stage.others(part);
    if victims.is_empty() {
        return Err(Hitch::Missed(format!("there was no {part:?}")));
    }
    let mut before = Vec::new();
    for at in &victims {
        let pid = stage.actors[*at].pid;
        let soft = if resource == libc::RLIMIT_NOFILE { proc::fd_count(pid).unwrap_or(0) as u64 } else { 0 };
        match engine::limit(pid, resource, soft) {
            Ok(was) => before.push((pid, was)),
            Err(nix::errno::Errno::EPERM) => return Err(Hitch::Skipped("prlimit is not permitted here".into())),
            Err(errno) => return Err(Hitch::Missed(errno.to_string())),
        }
    }
    stage.strike(writer, Signal::SIGKILL);
    let died = stage.until_dead(writer);
    stage.run_for(Duration::from_millis(20 + dice.below(60)));
    for (pid, was) in before {
        let _ = engine::limit(pid, resource, was);
    }
    if died {
        Ok(Landing::of(format!("{} of {part:?}", victims.len())))
    } else {
        Err(Hitch::Missed("it did not die".into()))
    }
}

/// All standbys are replaced by one to whom a system call always says no; then the writer dies. After a while that one dies,
/// too, and others come.
fn deny(stage: &mut Stage<'_>, dice: &mut Dice, call: libc::c_long, errno: i32) -> Applied {
    let Some(writer) = stage.writer() else { return Err(Hitch::Missed("there was no writer".into())) };
    let handicapped =
        stage.spawn_denied(call as u32, errno as u32).map_err(|error| Hitch::Missed(error.to_string()))?;
    stage.replacing(false);
    let others: Vec<usize> = stage.others(Part::Writer).into_iter().filter(|at| *at != handicapped).collect();
    for at in others.into_iter().chain([writer]) {
        stage.strike(at, Signal::SIGKILL);
        if !stage.until_dead(at) {
            stage.replacing(true);
            return Err(Hitch::Missed("somebody did not die".into()));
        }
    }
    stage.run_for(Duration::from_millis(30 + dice.below(60)));
    // A process that can't get on may have given up; that is its right, by a typed error, not by a crash.
    let alive = stage.actors[handicapped].alive;
    stage.strike(handicapped, Signal::SIGKILL);
    let died = stage.until_dead(handicapped);
    stage.replacing(true);
    let came = stage.until(LIMIT, |stage| !stage.others(Part::Writer).is_empty() || stage.writer().is_some());
    if died && came && alive {
        Ok(Landing::of(format!("actor {}", stage.actors[handicapped].id)))
    } else {
        Err(Hitch::Missed("the one that was to follow was gone".into()))
    }
}

/// What a file system runs out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Bytes,
    Inodes,
}

/// The file system is filled to the last byte or inode; then the writer dies, and whoever has followed, and so on until nobody
/// has anything prepared any more. Then there is room again.
fn fill(stage: &mut Stage<'_>, dice: &mut Dice, what: Fill) -> Applied {
    if let Some(why) = stage.not_small() {
        return Err(Hitch::Skipped(why));
    }
    let place = stage.root.join("filler");
    std::fs::create_dir(&place)?;
    let filled = match what {
        Fill::Bytes => fill_bytes(&place.join("0")),
        Fill::Inodes => fill_inodes(&place),
    };
    let mut deaths = 0;
    let mut full = 0;
    if filled.is_ok() {
        for _ in 0..2 + dice.below(2) {
            let Some(writer) = stage.writer() else { break };
            stage.strike(writer, Signal::SIGKILL);
            deaths += u32::from(stage.until_dead(writer));
            stage.run_for(Duration::from_millis(15 + dice.below(25)));
            full += u32::from(is_full(&place, what));
        }
    }
    std::fs::remove_dir_all(&place)?;
    match filled? {
        count if deaths > 0 && full > 0 => {
            Ok(Landing::of(format!("{count} {what:?}, {deaths} deaths, {full} times full")))
        }
        _ => Err(Hitch::Missed(format!("{deaths} died, and it was full {full} times"))),
    }
}

/// Writes until there is no room; answers how much that was.
fn fill_bytes(path: &Path) -> Result<u64, Hitch> {
    let mut file = std::fs::File::create(path)?;
    let mut bytes = 0;
    // Whole pages first, as a file takes them.
    loop {
        match file.write(&[0x5a; 4096]) {
            Ok(0) => return Ok(bytes),
            Ok(wrote) => bytes += wrote as u64,
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(bytes),
            Err(error) => return Err(error.into()),
        }
    }
}

fn fill_inodes(place: &Path) -> Result<u64, Hitch> {
    for count in 0.. {
        match std::fs::File::create_new(place.join(count.to_string())) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// Whether there is still nothing left: a segment that was given back has left room, which is filled again.
fn is_full(place: &Path, what: Fill) -> bool {
    let Ok(left) = rustix::fs::statvfs(place) else { return false };
    let full = if what == Fill::Bytes { left.f_bavail == 0 } else { left.f_favail == 0 };
    match what {
        _ if full => {}
        Fill::Bytes => drop(fill_bytes(&place.join("1"))),
        Fill::Inodes => drop(std::fs::File::create(place.join("more"))),
    }
    full
}
