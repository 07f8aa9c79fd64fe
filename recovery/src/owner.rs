//! Who this process is, as it writes itself into the segments and slots that it owns.
//!
//! For people, and as evidence that a lock has leaked: whether a role's owner lives is said by its lock, never by these.
//!
//! What is never inlined reads texts in /proc that differ from process to process: `chaos sweep` walks over each in one go.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use ringward_ring::canary;
use ringward_ring::identity::Owner;

/// This process. What /proc does not tell (none mounted, hidden) is zero.
#[inline(never)]
pub fn this_process() -> Owner {
    Owner {
        pid: std::process::id(),
        pid_namespace: pid_namespace(),
        start: start_time(std::process::id()).unwrap_or(0),
        boot: boot_id(),
    }
}

fn pid_namespace() -> u32 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino() as u32)
}

/// The kernel's, which does not change while this process lives: read once.
fn boot_id() -> [u8; 16] {
    static HERE: std::sync::OnceLock<[u8; 16]> = std::sync::OnceLock::new();
    *HERE.get_or_init(read_boot_id)
}

/// Whether the machine was started anew since a written-down owner wrote: what its process had stored and no disk had is gone then, and
/// the rest is of different ages. False where either side doesn't know (no /proc).
///
/// `in_memory` says that the file can't have lived through a reboot itself. Then another boot id is only believed of the same pid namespace:
/// there are containers that are each given one of their own.
pub(crate) fn rebooted(owner: &Owner, in_memory: bool) -> bool {
    let (here, there) = (boot_id(), owner.boot);
    let known = here != [0; 16] && there != [0; 16] && !canary!("reboot-ignored");
    known && here != there && (!in_memory || owner.pid_namespace == this_namespace())
}

fn read_boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut id = [0; 16];
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let hex = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(hex, 16).unwrap_or(0);
    }
    id
}

/// Start time of a process in clock ticks since boot; `None` if there is none of that number, or it can't be seen.
pub fn start_time(pid: u32) -> Option<u64> {
    Some(stat(pid)?.start)
}

/// A process as /proc/PID/stat shows it.
struct Stat {
    start: u64,
    /// It has ended with all its threads, and only its parent has not taken note. The kernel closes a thread's files before it makes a
    /// zombie of it: nothing is held by this one any more. (One whose first thread has ended, while others run on, shows as a zombie too.)
    over: bool,
}

#[inline(never)]
fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 3, 20 and 22, counted behind the command name, which may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X") && !canary!("zombie-counts-as-here");
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    Some(Stat { start: fields.nth(1)?.parse().ok()?, over: ended && threads <= 1 })
}

/// Whether a process that is written down as an owner can be shown to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// A process of that number and start time is there, or threads of it are.
    Here,
    /// None is: it ended (reaped or not), or its number belongs to another one now.
    Gone,
    /// It lives in another pid namespace, or /proc is not there or hides it: nobody can know from here.
    Unknowable,
}

/// Looks for a written-down owner.
#[inline(never)]
pub fn whereabouts(owner: &Owner) -> Whereabouts {
    Viewer::now().whereabouts(owner)
}

/// Who looks: what this process can see of others, found out once for many owners. For one look: it remembers whom it has seen.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pid_namespace: u32,
    boot: [u8; 16],
    /// /proc shows this process at least.
    sees: bool,
    /// Number and start time of processes that were here, and whether they were on their way out. Who was not is looked for again:
    /// its number may have a new bearer.
    here: RefCell<HashMap<(u32, u64), Option<bool>>>,
}

impl Viewer {
    pub(crate) fn now() -> Viewer {
        let Owner { pid_namespace, start, boot, .. } = this_process();
        Viewer { pid_namespace, boot, sees: start != 0, here: RefCell::default() }
    }

    /// As [`whereabouts`], of the first time that this viewer saw it.
    #[inline(never)]
    pub(crate) fn whereabouts(&self, owner: &Owner) -> Whereabouts {
        let process = (owner.pid, owner.start);
        if owner.pid_namespace == self.pid_namespace
            && owner.boot == self.boot
            && self.here.borrow().contains_key(&process)
        {
            return Whereabouts::Here;
        }
        let found = self.whereabouts_now(owner);
        if found == Whereabouts::Here {
            self.here.borrow_mut().insert(process, None);
        }
        found
    }

    /// As [`whereabouts`].
    pub(crate) fn whereabouts_now(&self, owner: &Owner) -> Whereabouts {
        if owner.pid == 0 || owner.start == 0 || !self.sees || owner.pid_namespace != self.pid_namespace {
            return Whereabouts::Unknowable;
        }
        if owner.boot != self.boot {
            return Whereabouts::Gone;
        }
        match stat(owner.pid) {
            Some(stat) if stat.start == owner.start && !stat.over => Whereabouts::Here,
            _ if canary!("leaked-lock-believed") => Whereabouts::Here,
            // /proc can be mounted so that it hides other users' processes (hidepid): there is one of that number all the same.
            None if exists(owner.pid) => Whereabouts::Unknowable,
            _ => Whereabouts::Gone,
        }
    }

    /// Whether a written-down owner that is here is on its way out: its first thread has ended and others have not, or it dumps core.
    #[inline(never)]
    pub(crate) fn is_dying(&self, owner: &Owner) -> bool {
        if self.whereabouts(owner) != Whereabouts::Here {
            return false;
        }
        let process = (owner.pid, owner.start);
        if let Some(Some(known)) = self.here.borrow().get(&process) {
            return *known;
        }
        let found = Viewer::is_dying_now(owner);
        self.here.borrow_mut().insert(process, Some(found));
        found
    }

    fn is_dying_now(owner: &Owner) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", owner.pid)).unwrap_or_default();
        status.lines().any(|line| {
            let mut words = line.split_ascii_whitespace();
            matches!(
                (words.next(), words.next()),
                (Some("State:"), Some("Z" | "X")) | (Some("CoreDumping:"), Some("1"))
            )
        })
    }
}

/// Whether there is a process of that number, whoever's it is and whether or not /proc shows it.
fn exists(pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// A thread of a written-down owner, as the kernel shows it: whether it still has its memory.
///
/// Asked through /proc/PID/task/TID/exe, which has nothing to say from the moment on at which the thread lets go of its memory, a
/// microsecond after the kernel has walked its robust futexes. Not through /proc/PID/stat: whoever reads that holds on to
/// the memory meanwhile, and if he is the last, tearing it down falls to him.
#[derive(Debug)]
pub(crate) struct Pulse(String);

impl Pulse {
    /// `None` if the thread can't be seen alive from here: another pid namespace, no /proc, processes of others hidden, or
    /// there is no such thread. Only one that was seen can be missed.
    pub(crate) fn feel(owner: &Owner, thread: u32) -> Option<Pulse> {
        let here = owner.pid != 0 && owner.start != 0 && owner.pid_namespace == this_namespace();
        let pulse = here.then(|| Pulse(format!("/proc/{}/task/{thread}/exe", owner.pid)))?;
        (fs::read_link(&pulse.0).is_ok() && whereabouts(owner) == Whereabouts::Here).then_some(pulse)
    }

    /// Whether it has ended since. Never because /proc went away: that shows nothing of this process either.
    pub(crate) fn stopped(&self) -> bool {
        let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        fs::read_link(&self.0).is_err_and(gone) && fs::read_link("/proc/self/exe").is_ok()
    }
}

fn this_namespace() -> u32 {
    static HERE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *HERE.get_or_init(pid_namespace)
}

/// Wall clock in nanoseconds since 1970; for people.
pub(crate) fn wall_clock() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_is_missed_and_one_never_seen_is_not() {
        let me = this_process();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            let _ = ended.recv();
        });
        let tid = told.recv().unwrap();
        let pulse = Pulse::feel(&me, tid).expect("it lives");
        assert!(!pulse.stopped());
        assert!(Pulse::feel(&Owner { start: me.start + 1, ..me }, tid).is_none(), "another process of that number");
        assert!(Pulse::feel(&Owner { pid_namespace: 1, ..me }, tid).is_none(), "from elsewhere");
        drop(end);
        thread.join().unwrap();
        while !pulse.stopped() {
            std::thread::yield_now(); // the thread is joined a moment before the kernel has done with it
        }
        assert!(Pulse::feel(&me, tid).is_none(), "never seen alive");
    }

    #[test]
    fn this_process_is_here_and_another_start_time_is_not() {
        let me = this_process();
        assert_eq!(whereabouts(&me), Whereabouts::Here);
        assert_eq!(whereabouts(&Owner { start: me.start + 1, ..me }), Whereabouts::Gone);
        assert_eq!(whereabouts(&Owner { pid_namespace: 1, ..me }), Whereabouts::Unknowable);
        assert_eq!(whereabouts(&Owner { boot: [9; 16], ..me }), Whereabouts::Gone);
    }

    /// One look at many: whom it has seen is not taken for another that goes by the same number.
    #[test]
    fn who_was_seen_vouches_for_nobody_else_of_that_number() {
        let me = this_process();
        let viewer = Viewer::now();
        for _ in 0..2 {
            assert_eq!(viewer.whereabouts(&me), Whereabouts::Here);
            assert_eq!(viewer.whereabouts(&Owner { boot: [9; 16], ..me }), Whereabouts::Gone);
            assert_eq!(viewer.whereabouts(&Owner { pid_namespace: 1, ..me }), Whereabouts::Unknowable);
            assert_eq!(viewer.whereabouts(&Owner { start: me.start + 1, ..me }), Whereabouts::Gone);
        }
        for nobody in [Owner { pid: 0, ..me }, Owner { start: 0, ..me }] {
            assert_eq!(viewer.whereabouts(&nobody), Whereabouts::Unknowable);
        }
    }

    /// Of one thread, as most programs of a shell are; this one has several.
    #[test]
    fn a_process_of_one_thread_is_here_until_it_is_killed_reaped_or_not() {
        struct Killed(std::process::Child);
        impl Drop for Killed {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }
        let sleep = std::process::Command::new("sleep").arg("1000").stdout(std::process::Stdio::null()).spawn();
        let Killed(child) = &mut Killed(sleep.unwrap());
        let start = start_time(child.id()).unwrap();
        let owner = Owner { pid: child.id(), start, ..this_process() };
        assert_eq!(whereabouts(&owner), Whereabouts::Here);
        assert!(!Viewer::now().is_dying(&owner));
        child.kill().unwrap();
        while whereabouts(&owner) == Whereabouts::Here {
            std::thread::yield_now(); // killed a moment before it is over
        }
        assert_eq!(whereabouts(&owner), Whereabouts::Gone, "not reaped");
        child.wait().unwrap();
        assert_eq!(whereabouts(&owner), Whereabouts::Gone, "reaped");
    }

    #[test]
    fn another_boot_id_is_a_reboot_unless_it_is_unknown_or_only_a_containers() {
        let me = this_process();
        assert!(!rebooted(&me, false) && !rebooted(&me, true));
        let before = Owner { boot: [9; 16], ..me };
        assert!(rebooted(&before, false) && rebooted(&before, true));
        let container = Owner { pid_namespace: 1, ..before };
        assert!(rebooted(&container, false) && !rebooted(&container, true));
        assert!(!rebooted(&Owner { boot: [0; 16], ..me }, false));
    }
}
