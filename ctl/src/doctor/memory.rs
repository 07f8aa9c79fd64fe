//! The file system that the segments lie on.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringward_ring::sys::file::is_local_fs;

use super::{Finding, Health};
use crate::units::show_size;

/// Free share below which it is doubtful, and below which it is bad, in percent.
const FREE: (u64, u64) = (20, 5);

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = vec![file_system(root), space(root)];
    findings.extend(mount(root));
    findings.push(cgroup(root));
    findings.push(huge_pages());
    findings.push(swap());
    findings
}

fn file_system(root: &Path) -> Finding {
    let (advice, wish) = (
        "use /dev/shm, or another tmpfs or local file system, by --root or $RINGWARD_ROOT [RW-NS-FS]",
        "the root is on a local file system, best a tmpfs",
    );
    let new = |health, found: String| Finding::new("file-system", health, found, advice, wish);
    let kind = fs::File::open(root).and_then(|dir| is_local_fs(dir.as_fd()));
    match kind {
        Ok(Ok(())) => {
            let kind = Mount::of(root).map_or_else(|| "local".to_owned(), |mount| mount.kind);
            let health = if kind == "tmpfs" || kind == "ramfs" { Health::Well } else { Health::Doubtful };
            new(health, format!("{} is {kind}", root.display()))
        }
        Ok(Err(kind)) => {
            let kind = kind.name().map_or_else(|| format!("{:#x}", kind.0), str::to_owned);
            new(Health::Bad, format!("{} is {kind}", root.display()))
        }
        Err(error) => new(Health::Bad, format!("{}: {error}", root.display())),
    }
}

fn space(root: &Path) -> Finding {
    let (advice, wish) = (
        "enlarge it (`mount -o remount,size=…`, in a container --shm-size or an emptyDir with a limit), or clear what is nobody's with \
         `ringward clean` [RW-BUILD-SPACE]",
        "there is room for a new generation of every channel",
    );
    match rustix::fs::statvfs(root) {
        Ok(stat) => {
            let (size, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
            let percent = |free: u64, all: u64| {
                if all == 0 { 100 } else { u64::try_from(u128::from(free) * 100 / u128::from(all)).unwrap_or(100) }
            };
            let (bytes, inodes) = (percent(free, size), percent(stat.f_favail, stat.f_files));
            let health = match bytes.min(inodes) {
                least if least < FREE.1 => Health::Bad,
                least if least < FREE.0 => Health::Doubtful,
                _ => Health::Well,
            };
            let found = format!(
                "{} of {} free ({bytes} %), {} of {} inodes free",
                show_size(free),
                show_size(size),
                stat.f_favail,
                stat.f_files
            );
            Finding::new("space", health, found, advice, wish)
        }
        Err(error) => Finding::new("space", Health::Bad, format!("statvfs: {error}"), advice, wish),
    }
}

/// A line of mountinfo.
struct Mount {
    at: PathBuf,
    options: String,
    kind: String,
}

impl Mount {
    /// The mount that a path lies on.
    fn of(path: &Path) -> Option<Mount> {
        let path = path.canonicalize().ok()?;
        let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mounts = text.lines().filter_map(|line| {
            let (front, behind) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(4);
            let at = PathBuf::from(front.next()?.replace("\\040", " "));
            let own = front.next()?;
            let mut behind = behind.split(' ');
            let kind = behind.next()?.to_owned();
            let of_all = behind.nth(1).unwrap_or_default();
            Some(Mount { at, options: format!("{own},{of_all}"), kind })
        });
        // The last one that is longest: later mounts cover earlier ones.
        mounts.filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.components().count())
    }
}

fn mount(root: &Path) -> Vec<Finding> {
    let (advice, wish) =
        ("remount it read-write", "it is mounted read-write, and no option of the mount is in the way of segments");
    let Some(mount) = Mount::of(root) else {
        return vec![Finding::new("mount", Health::Doubtful, "/proc/self/mountinfo can't be read", advice, wish)];
    };
    let mut options: Vec<&str> = mount.options.split(',').filter(|option| !option.is_empty()).collect();
    options.sort_unstable();
    options.dedup();
    let health = if options.contains(&"ro") { Health::Bad } else { Health::Well };
    vec![Finding::new("mount", health, format!("{}: {}", mount.at.display(), options.join(",")), advice, wish)]
}

/// Pages of a tmpfs are charged to the control group that touches them first.
fn cgroup(root: &Path) -> Finding {
    let (advice, wish) = (
        "segments count against this limit: raise it, or bound the tmpfs below it, or writers are killed for lack of memory",
        "the control group's memory limit leaves room for the whole tmpfs",
    );
    let new = |health, found: String| Finding::new("memory-limit", health, found, advice, wish);
    let own = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("0::")).map(|path| path.trim_start_matches('/').to_owned())
    });
    // The tightest limit on the way up counts.
    let mut folder = Path::new("/sys/fs/cgroup").join(own.unwrap_or_default());
    let mut limit: Option<u64> = None;
    loop {
        let here = fs::read_to_string(folder.join("memory.max")).ok().and_then(|text| text.trim().parse().ok());
        limit = limit.into_iter().chain(here).min();
        if folder == Path::new("/sys/fs/cgroup") || !folder.pop() {
            break;
        }
    }
    let free = rustix::fs::statvfs(root).map(|stat| stat.f_bavail * stat.f_frsize).unwrap_or(0);
    match limit {
        None => new(Health::Well, "no limit".to_owned()),
        Some(limit) if limit > free => {
            new(Health::Well, format!("{}; the tmpfs has {} free", show_size(limit), show_size(free)))
        }
        Some(limit) => new(
            Health::Doubtful,
            format!("{}, less than the {} that are free in the tmpfs", show_size(limit), show_size(free)),
        ),
    }
}

fn huge_pages() -> Finding {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
    let found = match chosen {
        Some(chosen) => format!("shmem_enabled is {chosen}"),
        None => "no transparent huge pages for shared memory".to_owned(),
    };
    // Neither way is wrong: it is said for who measures.
    Finding::new(
        "huge-pages",
        Health::Well,
        found,
        "",
        "it is known whether shared memory gets huge pages (none are needed)",
    )
}

fn swap() -> Finding {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let areas = text.lines().skip(1).count();
    let found =
        if areas == 0 { "none".to_owned() } else { format!("{areas} areas: pages of a tmpfs may be swapped out") };
    let health = if areas == 0 { Health::Well } else { Health::Doubtful };
    Finding::new(
        "swap",
        health,
        found,
        "a push may wait for a disk: forbid swap to the service (`MemorySwapMax=0`), or accept it",
        "segments are not swapped out",
    )
}
