//! What the kernel must be able to do.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use ringward_ring::sys::barrier;
use ringward_ring::sys::lock::{self, Held, Mode};
use rustix::fs::{Mode as FileMode, OFlags};

use super::{Finding, Health};

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    vec![membarrier(), unnamed(root), inotify(), clock(), core_dumps()]
}

fn membarrier() -> Finding {
    let new = |health, found: &str| {
        Finding::new(
            "membarrier",
            health,
            found,
            "a kernel of 4.16 or later, and a seccomp filter that permits membarrier; without it each push pays for a fence",
            "the kernel has membarrier, and this process may call it",
        )
    };
    if barrier::register() {
        new(Health::Well, "global expedited")
    } else {
        new(Health::Doubtful, "not available, or forbidden by a filter")
    }
}

/// Makes a file without a name, and looks whether its locks are seen through another description: what everything rests on.
fn unnamed(root: &Path) -> Finding {
    let new = |health, found: String| {
        Finding::new(
            "tmpfile-locks",
            health,
            found,
            "another root: this one has no files without names or no locks that can be relied on; without O_TMPFILE temporary names are used",
            "files without names (O_TMPFILE) can be made in the root, and their locks are seen by others",
        )
    };
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    // In the root, where namespaces are made; or in a namespace, where only that may be written.
    let places = std::iter::once(root.to_owned()).chain(super::names(root).into_iter().map(|name| root.join(name)));
    let mut refused = None;
    let file = places.take(100).find_map(|place| {
        rustix::fs::open(&place, flags, FileMode::from_raw_mode(0o600))
            .map_err(|error| refused.get_or_insert(error).raw_os_error())
            .ok()
    });
    let Some(file) = file else {
        return new(
            Health::Doubtful,
            format!("O_TMPFILE: {}", refused.map_or_else(String::new, |error| error.to_string())),
        );
    };
    let other = fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    let other = match other {
        Ok(other) => other,
        Err(error) => return new(Health::Doubtful, format!("O_TMPFILE works; its locks can't be looked at: {error}")),
    };
    let taken = lock::try_lock(file.as_fd(), 0, Mode::Exclusive);
    match (taken, lock::probe(other.as_fd(), 0)) {
        (Ok(true), Ok(Held::Exclusive)) => new(Health::Well, "both work".to_owned()),
        (taken, seen) => new(Health::Bad, format!("O_TMPFILE works; taking a lock: {taken:?}, seeing it: {seen:?}")),
    }
}

fn inotify() -> Finding {
    let limit = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let (instances, watches) = (limit("max_user_instances"), limit("max_user_watches"));
    let (Some(instances), Some(watches)) = (instances, watches) else {
        return Finding::new("inotify", Health::Doubtful, "its limits can't be read", ADVICE, WISH);
    };
    const ADVICE: &str = "raise fs.inotify.max_user_instances and max_user_watches; standbys and watchdogs that get none look by the clock";
    const WISH: &str = "there are inotify instances for every standby and watchdog of this user";
    let health = if instances < 128 || watches < 8192 { Health::Doubtful } else { Health::Well };
    Finding::new("inotify", health, format!("{instances} instances, {watches} watches for a user"), ADVICE, WISH)
}

fn clock() -> Finding {
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.map(|text| text.trim().to_owned()).unwrap_or_default();
    // Those that are read without a call into the kernel.
    let quick = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&source.as_str());
    let found = if source.is_empty() { "it can't be told".to_owned() } else { source };
    Finding::new(
        "clock",
        if quick { Health::Well } else { Health::Doubtful },
        found,
        "reading the time is slow with this clock source, which time-outs feel; see why the kernel left its first choice (`dmesg | grep -i clocksource`)",
        "the clock source is a quick one",
    )
}

fn core_dumps() -> Finding {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current;
    let piped = pattern.starts_with('|');
    // A handler behind a pipe gets the dump whatever the limit says, unless that is 1.
    let dumps = limit != Some(0) || piped;
    let found = match (dumps, piped) {
        (false, _) => "none are written".to_owned(),
        (true, true) => "handed to a program; a writer that dumps keeps its locks until that is done".to_owned(),
        (true, false) => "written to files; a writer that dumps keeps its locks until that is done".to_owned(),
    };
    Finding::new(
        "core-dumps",
        if dumps { Health::Doubtful } else { Health::Well },
        found,
        "leave segments out of dumps (`Config::no_dump`), or forbid them to the service (`LimitCORE=0`) [RW-WD-DYING]",
        "a core dump does not hold the writer's lock for long",
    )
}
