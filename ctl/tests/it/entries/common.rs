//! What rehearsals have in common: other people's programs, and incidents that take some doing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringward_recovery::generation_name;
use ringward_ring::segment::{Access, Segment};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, geteuid, pidfd_getfd, pidfd_open};

use super::Entry;
use crate::bed::{Bed, Ended, Tool};

/// A test that takes longer hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Says why nothing was rehearsed.
pub(super) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Whether this machine has a program that no fresh one must have; says so where it has not.
pub(super) fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        skip(&format!("no {program} here, which this entry's commands take"));
    }
    there
}

pub(super) fn text(ended: Ended) -> String {
    String::from_utf8(ended.stdout).unwrap()
}

/// A program that is not ours, to its end.
pub(super) fn program(bed: &Bed, words: &[&str]) -> Ended {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bed.spawn(command).wait()
}

/// One of the entry's commands that is not `ringward`'s, in a shell; the namespace is this bed's, and names stand for what is given.
pub(super) fn shell(entry: &Entry, bed: &Bed, command: &str, more: &[(&str, &str)]) -> Ended {
    assert!(entry.text.contains(&format!("`{command}`")), "{} does not say `{command}`:\n{}", entry.id, entry.text);
    let namespace = bed.root().join("test").display().to_string();
    let mut script = command.replace("/dev/shm/ringward-$(id -u)", &namespace);
    script = script.replace("/dev/shm/ringward-*", &namespace).replace("CHANNEL", "c");
    for (name, value) in more {
        script = script.replace(name, value);
    }
    program(bed, &["sh", "-c", &script])
}

/// The same; what it prints.
pub(super) fn prints(entry: &Entry, bed: &Bed, command: &str, more: &[(&str, &str)]) -> String {
    text(shell(entry, bed, command, more).code(0))
}

/// Kills a writer of which a process that it did not start still has the descriptor, and with it the lock: that one. `None` where a
/// descriptor can't be had from another process.
pub(super) fn leak(bed: &Bed, owner: Tool) -> Option<Tool> {
    let Some(descriptor) = locked(&owner) else {
        skip("taking a descriptor from another process is not permitted here");
        return None;
    };
    let mut holder = Command::new("sleep");
    holder.arg("3600").stdin(descriptor).stdout(Stdio::null()).stderr(Stdio::null());
    let holder = bed.spawn(holder);
    owner.kill();
    Some(holder)
}

/// The descriptor by which a process holds a lock for writing.
fn locked(owner: &Tool) -> Option<OwnedFd> {
    let pid = owner.pid();
    let infos = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let has = |info: &std::fs::DirEntry| std::fs::read_to_string(info.path()).is_ok_and(|text| text.contains("WRITE"));
    let number = infos.into_iter().find(has).unwrap().file_name().into_string().unwrap().parse().unwrap();
    let process = pidfd_open(rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
}

/// A small tmpfs that only its holder sees, and whoever goes by its holder's root.
pub(super) struct Small {
    pub(super) path: PathBuf,
    dir: PathBuf,
    holder: Tool,
}

impl Small {
    /// `None` where nothing can be mounted.
    pub(super) fn new(outer: &Bed, size: &str) -> Option<Small> {
        let (dir, ready) = (outer.root().join("small"), outer.root().join("ready"));
        std::fs::create_dir(&dir).unwrap();
        let mut holder = Command::new("unshare");
        if !geteuid().is_root() {
            holder.arg("--map-root-user");
        }
        let script = "mount -t tmpfs -o size=$1,mode=0777 none \"$2\" && : > \"$3\" && exec cat";
        holder.args(["--mount", "--", "sh", "-c", script, "sh", size]).args([&dir, &ready]);
        holder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let holder = outer.spawn(holder);
        outer.until("it is mounted", || ready.exists() || !holder.running());
        if !ready.exists() {
            skip(&format!("no tmpfs can be mounted here: {}", holder.wait().stderr));
            return None;
        }
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.pid(), dir.display()));
        Some(Small { path, dir, holder })
    }

    /// What a program says of it that sees it under its own name.
    pub(super) fn within(&self, outer: &Bed, words: &[&str]) -> String {
        let (pid, dir) = (self.holder.pid().to_string(), self.dir.display().to_string());
        let user: &[&str] = if geteuid().is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        text(program(outer, &[&["nsenter", "--target", &pid, "--mount"], user, words, &[&dir]].concat()).code(0))
    }
}

/// Generation of the channel, opened as the library does.
pub(super) fn attach(bed: &Bed, generation: u64, access: Access) -> Arc<Segment> {
    let dir = std::fs::File::open(bed.root().join("test/c")).unwrap();
    let segment = Segment::attach(dir.as_fd(), &generation_name(generation), access, bed.namespace().trust());
    Arc::new(segment.unwrap())
}

/// Tries again while the child of another test, between its fork and its exec, has a copy of what was just let go of.
pub(super) fn retried<T, E: std::fmt::Debug>(bed: &Bed, mut open: impl FnMut() -> Result<T, E>) -> T {
    loop {
        match open() {
            Ok(done) => return done,
            Err(error) => assert!(!bed.hung(), "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether this may become another user; says so where it may not.
pub(super) fn root() -> bool {
    let is = nix::unistd::Uid::effective().is_root();
    if !is {
        skip("only root can become another user");
    }
    is
}

/// Starts `ringward` behind some words of the shell, such as a limit.
pub(super) fn behind(bed: &Bed, words: &str, args: &[&str]) -> Tool {
    let tool = bed.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{words}; exec \"$0\" \"$@\"")]).arg(tool.get_program()).args(tool.get_args());
    command.env("RINGWARD_ROOT", bed.root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bed.spawn(command)
}
