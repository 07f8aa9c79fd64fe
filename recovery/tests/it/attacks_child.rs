//! Real processes for the attacks that need them: this test binary again, told to play one role.
//!
//! A [`Kid`] talks to its test by lines on its standard input and output, is killed when it is dropped, and dies with its test. A
//! [`Traced`] one can be stopped at every system call that it makes, and killed or left standing there: real, unmodified code, stopped
//! at the step.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use ringward_recovery::{
    Action, Channel, Config, Durability, Event, From, Namespace, Outcome, SendError, Warmth, Watchdog,
};
use ringward_ring::writer::PushError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::attacks::LONG;
use crate::common::Bed;

const ROLE: &str = "RINGWARD_ATTACK_ROLE";
const ROOT: &str = "RINGWARD_ATTACK_ROOT";
const EXTRA: &str = "RINGWARD_ATTACK_EXTRA";
/// Exit code of a role that ran to its end.
pub(crate) const DONE: i32 = 42;
/// Exit code of a role that this machine does not permit.
pub(crate) const NOT_HERE: i32 = 43;

/// A child process in a role.
pub(crate) struct Kid {
    child: Child,
    pub(crate) pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Kid {
    pub(crate) fn spawn(role: &str, bed: &Bed) -> Kid {
        Kid::spawn_with(role, bed, "", &[])
    }

    /// `extra` is for the role; `wrap` is a program to run it under, with its arguments.
    pub(crate) fn spawn_with(role: &str, bed: &Bed, extra: &str, wrap: &[&str]) -> Kid {
        bed.clear_the_floor();
        let exe = std::env::current_exe().unwrap();
        let mut command = match wrap {
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(exe);
                command
            }
            [] => Command::new(exe),
        };
        let mut child = command
            .args(["--exact", "attacks_child::plays_a_role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ROOT, bed.root())
            .env(EXTRA, extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Kid { child, pid, stdin, stdout }
    }

    /// The next line that the role says (those of the test harness are skipped); `None` when it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            if self.stdout.buffer().is_empty() {
                let time = Timespec { tv_sec: LONG.as_secs() as _, tv_nsec: 0 };
                let mut fds = [PollFd::from_borrowed_fd(self.stdout.get_ref().as_fd(), PollFlags::IN)];
                assert_eq!(poll(&mut fds, Some(&time)).unwrap(), 1, "the child is silent");
            }
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The harness writes the test's name without ending the line.
            if let Some((_, said)) = line.split_once("@ ") {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, want: &str) {
        assert_eq!(self.hear().as_deref(), Some(want));
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Stops it, and returns when it is stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(self.pid, Signal::SIGSTOP));
    }

    /// Kills it, and returns when it is gone. Its standard input is closed.
    pub(crate) fn kill(mut self) {
        self.kill_keeping_input();
    }

    /// Kills it; whoever inherited its standard input still has it open.
    pub(crate) fn kill_keeping_input(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status:?}");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        self.stdin = None;
        while self.hear().is_some() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child whose one working thread stops at every system call, from the moment that it is ready on.
pub(crate) struct Traced {
    kid: Kid,
    /// The thread; `None` when it is not traced any more.
    thread: Option<Pid>,
}

/// Where a traced child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// At the entry of a system call, which is not executed yet, or at its exit, before the next instruction.
    Call,
    /// It has ended.
    Ended(i32),
}

impl Traced {
    /// `None` where tracing is not permitted.
    pub(crate) fn spawn(role: &str, bed: &Bed) -> Option<Traced> {
        let mut kid = Kid::spawn(role, bed);
        let thread = kid.hear().expect("it says its thread");
        if thread == "not here" {
            return None;
        }
        let thread = Pid::from_raw(thread.parse().unwrap());
        let traced = Traced { kid, thread: Some(thread) };
        assert_eq!(waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap(), WaitStatus::Stopped(thread, Signal::SIGSTOP));
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(thread, options).unwrap();
        Some(traced)
    }

    /// Runs it up to the next entry or exit of a system call.
    pub(crate) fn step(&mut self) -> At {
        let thread = self.thread.expect("it has not ended");
        let mut signal = None;
        loop {
            ptrace::syscall(thread, signal.take()).unwrap();
            match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => return At::Call,
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(_, code) => {
                    self.thread = None;
                    return At::Ended(code);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Runs it up to stop number `n` (from 0); false if it ends before.
    pub(crate) fn step_to(&mut self, n: usize) -> bool {
        (0..=n).all(|_| self.step() == At::Call)
    }

    /// It stands at the entry of a system call: lets that fail if `wanted` says how, by its number. Says whether it did.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fail(&mut self, wanted: impl FnOnce(i64) -> Option<Errno>) -> bool {
        let thread = self.thread.expect("it has not ended");
        let mut regs = ptrace::getregs(thread).unwrap();
        let Some(errno) = wanted(regs.orig_rax as i64) else { return false };
        // No such call: nothing is done.
        regs.orig_rax = u64::MAX;
        ptrace::setregs(thread, regs).unwrap();
        assert_eq!(self.step(), At::Call, "its exit");
        let mut regs = ptrace::getregs(thread).unwrap();
        regs.rax = -i64::from(errno as i32) as u64;
        ptrace::setregs(thread, regs).unwrap();
        true
    }

    /// Only where the number of a call can be set with the other registers.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn fail(&mut self, _: impl FnOnce(i64) -> Option<Errno>) -> bool {
        false
    }

    /// Lets it run to its end, untraced; its exit code.
    pub(crate) fn release(mut self) -> i32 {
        if let Some(thread) = self.thread.take() {
            ptrace::detach(thread, None).unwrap();
        }
        self.kid.wait().code().unwrap_or(-1)
    }

    /// Kills it where it stands, and returns when it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.kid.child.kill();
        if let Some(thread) = self.thread.take() {
            // The process is not gone before its tracer has taken note of its thread's end.
            while let Ok(status) = waitpid(thread, Some(WaitPidFlag::__WALL)) {
                if matches!(status, WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {
                    break;
                }
            }
        }
    }
}

pub(crate) fn say(word: &str) {
    println!("@ {word}");
}

pub(crate) fn listen() -> String {
    let mut line = String::new();
    // Our test is gone: so are we.
    if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(DONE);
    }
    line.trim_end().to_owned()
}

fn channel() -> Channel {
    channel_with(crate::common::config())
}

fn channel_with(config: Config) -> Channel {
    let namespace = Namespace::builder("test").root(std::env::var(ROOT).unwrap()).open().unwrap();
    Channel::new(&namespace, "c", config).unwrap()
}

/// From here on every system call of this thread stops us.
fn trace_me() {
    if ptrace::traceme().is_err() {
        say("not here");
        std::process::exit(NOT_HERE);
    }
    say(&nix::unistd::gettid().to_string());
    raise(Signal::SIGSTOP).unwrap();
}

/// Not a test of its own: what the child processes of the others do.
#[test]
fn plays_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // No orphans: we go when the thread that started us does.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let extra = std::env::var(EXTRA).unwrap_or_default();
    let code = match role.as_str() {
        "writes" => writes(channel()),
        "writes-beating" => writes(channel_with(
            crate::common::config().beat_interval(Duration::from_millis(1)).stall_timeout(Duration::from_millis(50)),
        )),
        "pushes" => pushes(),
        "leaks" => leaks(),
        "dumps" => dumps(extra.parse().unwrap()),
        "receives" => receives(),
        "becomes-writer" => becomes_writer(),
        "supersedes" => supersedes(),
        "is-elected" => is_elected(),
        "watches" => watches(),
        "joins" => joins(),
        "moves" => moves(),
        "seccomp" => seccomp(&extra),
        "without-proc" => without_proc(),
        "hidden-from" => hidden_from(),
        "small-files" => small_files(),
        "stranger" => crate::security::stranger(&extra),
        other => panic!("no such role: {other}"),
    };
    std::process::exit(code);
}

/// Takes the channel and pushes the numbers that it is told to, until told otherwise.
fn writes(channel: Channel) -> i32 {
    let mut writer = channel.writer().unwrap();
    say("ready");
    loop {
        match listen().as_str() {
            "go" => return DONE,
            number => match writer.push(0, number.as_bytes()) {
                Ok(sequence) => say(&format!("{sequence}")),
                Err(SendError::Push(PushError::Fenced)) => say("fenced"),
                Err(other) => say(&other.to_string()),
            },
        }
    }
}

/// Pushes numbers as fast as it can, and says of each what became of it; ends at the first that is fenced.
fn pushes() -> i32 {
    let mut writer = channel().writer().unwrap();
    say("ready");
    listen();
    loop {
        let n = writer.next_sequence();
        match writer.push(0, n.to_string().as_bytes()) {
            Ok(sequence) => say(&format!("ok {sequence}")),
            Err(SendError::Push(PushError::Full { .. })) => std::thread::yield_now(),
            Err(SendError::Push(PushError::Fenced)) => {
                say("fenced");
                return DONE;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Takes the channel, and forks: the fork has the descriptor, and with it the lock.
fn leaks() -> i32 {
    let mut writer = channel().writer().unwrap();
    writer.push(0, b"0").unwrap();
    // SAFETY: this process has one thread (no beats are promised); the fork only reads and exits.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            // Until the test closes our common standard input.
            let mut byte = [0u8; 1];
            while nix::unistd::read(std::io::stdin(), &mut byte).is_ok_and(|read| read > 0) {}
            // SAFETY: _exit has no preconditions; nothing of the parent's is run twice.
            unsafe { nix::libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { .. } => {
            say("ready");
            loop {
                std::thread::park();
            }
        }
    }
}

/// Takes the channel, fills `mib` MiB of memory, and dies with a core dump when told to.
fn dumps(mib: usize) -> i32 {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if setrlimit(Resource::Core, Rlimit { current: None, maximum: None }).is_err() {
        return NOT_HERE;
    }
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.starts_with('@') || pattern.contains('/') {
        return NOT_HERE; // not a file in our own directory: a host's crash handler, and none of our business
    }
    let mut writer = channel().writer().unwrap();
    writer.push(0, b"0").unwrap();
    std::env::set_current_dir(std::env::var(ROOT).unwrap()).unwrap();
    let mut memory = vec![0u8; mib << 20];
    for (i, byte) in memory.iter_mut().enumerate().step_by(64) {
        *byte = (i >> 6) as u8 | 1;
    }
    say("ready");
    listen();
    std::hint::black_box(&memory);
    // SAFETY: abort has no preconditions; a core dump is what this is for.
    unsafe { nix::libc::abort() }
}

/// Reads, and says what comes.
fn receives() -> i32 {
    let mut reader = channel().reader("kid", Durability::Ephemeral, From::Latest).unwrap();
    say("ready");
    let mut buf = [0; 4096];
    while let Some(event) = reader.recv(&mut buf, LONG).unwrap() {
        match event {
            Event::Record { sequence, .. } => say(&format!("{sequence}")),
            Event::Closed { .. } => return DONE,
            _ => {}
        }
    }
    DONE
}

/// `Channel::writer`, traced, and then one push.
fn becomes_writer() -> i32 {
    let channel = channel();
    trace_me();
    let writer = channel.writer();
    match writer {
        Ok(mut writer) => {
            let pushed = writer.push(0, b"kid").is_ok();
            std::mem::forget(writer); // dies as the writer that it is
            if pushed { DONE } else { 1 }
        }
        Err(_) => 2,
    }
}

/// `Channel::supersede`, traced, and then one push.
fn supersedes() -> i32 {
    let channel = channel();
    trace_me();
    match channel.supersede() {
        Ok(mut writer) => {
            let pushed = writer.push(0, b"kid").is_ok();
            std::mem::forget(writer);
            if pushed { DONE } else { 1 }
        }
        Err(_) => 2,
    }
}

/// A standby, traced from its creation to its first push.
fn is_elected() -> i32 {
    let channel = channel();
    trace_me();
    let Ok(mut standby) = channel.standby(Warmth::Hot) else { return 2 };
    match standby.wait(LONG) {
        Ok(Outcome::Elected(mut writer)) => {
            let pushed = writer.push(0, b"kid").is_ok();
            std::mem::forget(writer);
            if pushed { DONE } else { 1 }
        }
        _ => 2,
    }
}

/// One look of a watchdog, traced.
fn watches() -> i32 {
    let namespace = channel().namespace().clone();
    let mut watchdog = Watchdog::builder(&namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
    trace_me();
    watchdog.tick();
    DONE
}

/// Opens a durable reader, traced; 1 if the name is held.
fn joins() -> i32 {
    let channel = channel();
    trace_me();
    match channel.reader("d", Durability::Durable, From::Latest) {
        Ok(reader) => {
            std::mem::forget(reader);
            DONE
        }
        Err(ringward_recovery::OpenError::NameHeld { .. }) => 1,
        Err(_) => 2,
    }
}

/// A durable reader that is at the end of generation 1, traced on its way to the next one.
fn moves() -> i32 {
    let mut reader = channel().reader("d", Durability::Durable, From::Latest).unwrap();
    trace_me();
    let mut buf = [0; 64];
    loop {
        match reader.recv(&mut buf, LONG) {
            Ok(Some(Event::Restarted { .. })) => break,
            Ok(Some(_)) => {}
            _ => return 2,
        }
    }
    std::mem::forget(reader);
    DONE
}

/// Lets the kernel refuse some calls from here on, and does what `extra` says then.
fn seccomp(extra: &str) -> i32 {
    let filter = match extra {
        "no-membarrier-supersede" | "no-membarrier-write" => Filter::Membarrier,
        "no-tmpfile" => Filter::Tmpfile,
        other => panic!("{other}"),
    };
    if !forbid(filter) {
        return NOT_HERE;
    }
    match extra {
        "no-membarrier-supersede" => {
            match channel().supersede() {
                Ok(_) => say("superseded"),
                Err(ringward_recovery::OpenError::Fence(_)) => say("refused"),
                Err(other) => say(&other.to_string()),
            }
            DONE
        }
        "no-membarrier-write" => writes(channel()),
        _ => a_whole_life(),
    }
}

/// Birth, push, death, succession, standby, receive, watchdog: all of it, somewhere strange.
fn a_whole_life() -> i32 {
    let channel = channel();
    let mut writer = channel.writer().unwrap();
    let mut reader = crate::common::durable(&channel, "d");
    writer.push(0, b"0").unwrap();
    drop(writer);
    let mut writer = channel.writer().unwrap();
    writer.push(0, b"1").unwrap();
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    assert!(matches!(standby.wait(Duration::from_millis(1)).unwrap(), Outcome::TimedOut));
    drop(writer);
    let Outcome::Elected(mut writer) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    writer.push(0, b"2").unwrap();
    assert_eq!(crate::attacks::take(&mut reader, 3).0, crate::attacks::text(0..3));
    let names: Vec<_> = std::fs::read_dir(channel.namespace().path().join("c")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    reader.forget();
    drop((writer, standby));
    crate::attacks::reclaim(channel.namespace());
    assert_eq!(std::fs::read_dir(channel.namespace().path()).unwrap().count(), 0);
    say("lived");
    DONE
}

/// In a mount namespace of its own, without /proc.
fn without_proc() -> i32 {
    if rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).is_err()
        || std::fs::exists("/proc/self").unwrap_or(true)
    {
        return NOT_HERE;
    }
    a_whole_life()
}

/// In a mount namespace of its own, where /proc hides other users' processes, and as another user: what it thinks of its parent.
fn hidden_from() -> i32 {
    use ringward_recovery::owner::{start_time, this_process, whereabouts};
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned();
    let owner = ringward_ring::identity::Owner { pid: parent, start: start_time(parent).unwrap(), ..this_process() };
    let here = whereabouts(&owner);
    let options = c"hidepid=2";
    if rustix::mount::mount("proc", "/proc", "proc", rustix::mount::MountFlags::empty(), options).is_err()
        || rustix::thread::set_thread_groups(&[]).is_err()
        || rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(65534)).is_err()
        || rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).is_err()
        || std::fs::exists(format!("/proc/{parent}")).unwrap_or(true)
    {
        return NOT_HERE;
    }
    say(&format!("{here:?}, then {:?}", whereabouts(&owner)));
    DONE
}

/// Under a limit on the size of files.
fn small_files() -> i32 {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // SAFETY: ignoring a signal installs no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: Some(16384), maximum: Some(16384) }).unwrap();
    match channel_with(crate::common::config().capacity(1 << 16)).writer() {
        Err(error) => say(&error.to_string()),
        Ok(_) => say("made"),
    }
    DONE
}

#[derive(Debug, Clone, Copy)]
enum Filter {
    Membarrier,
    Tmpfile,
}

/// Installs a seccomp filter; whether it could.
fn forbid(what: Filter) -> bool {
    use nix::libc::{self, sock_filter, sock_fprog};
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_IF_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let op = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let allow = op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let refuse = |errno: i32| op(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0);
    let mut program = match what {
        Filter::Membarrier => {
            vec![op(LOAD, 0, 0, 0), op(JUMP_IF_EQUAL, libc::SYS_membarrier as u32, 0, 1), refuse(libc::EPERM), allow]
        }
        // The third argument of openat, its own bit of O_TMPFILE.
        Filter::Tmpfile => vec![
            op(LOAD, 0, 0, 0),
            op(JUMP_IF_EQUAL, libc::SYS_openat as u32, 0, 3),
            op(LOAD, 32, 0, 0),
            op(JUMP_IF_BIT, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32, 0, 1),
            refuse(libc::EOPNOTSUPP),
            allow,
        ],
    };
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the pointer is to a program whose length it says, alive during the call.
    bound && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } == 0
}
