#![allow(unsafe_code)]
//! The system calls that nix and rustix have no safe form of: `waitpid` for *this thread's* tracees and children, the
//! resuming half of `ptrace` with any signal number, `clone(CLONE_PARENT)`, and a wait that ends.
//!
//! # Safety
//!
//! No call here hands the kernel a pointer that outlives the call, except the two addresses that glibc itself
//! registered for the calling thread (thread-id word and robust list), which are passed back unchanged to the child's
//! copy of the same thread. `clone` without `CLONE_VM` is sound only while the process has one thread; that is checked.

use std::os::linux::fs::MetadataExt as _;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigEvent, SigSet, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

/// Linux uapi `ptrace.h`; libc lacks it.
const PTRACE_LISTEN: libc::c_uint = 0x4208;
/// Linux uapi `prctl.h`; libc lacks it for this target.
const PR_GET_TID_ADDRESS: libc::c_int = 40;

/// How to let a stopped thread go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Run.
    Cont,
    /// Run one instruction.
    Step,
    /// Stay in a group stop, but report what ends it.
    Listen,
    /// Run, and be nobody's tracee.
    Detach,
}

/// `ptrace(CONT | SINGLESTEP | LISTEN | DETACH)` with signal number `sig`, 0 for none.
pub(crate) fn resume(how: Resume, tid: i32, sig: i32) -> Result<(), Errno> {
    let request = match how {
        Resume::Cont => libc::PTRACE_CONT,
        Resume::Step => libc::PTRACE_SINGLESTEP,
        Resume::Listen => PTRACE_LISTEN,
        Resume::Detach => libc::PTRACE_DETACH,
    };
    // SAFETY: none of these requests reads or writes memory of the caller: `addr` is ignored, `data` is a number.
    let done = unsafe { libc::ptrace(request, tid, 0_usize, sig as usize) };
    Errno::result(done).map(drop)
}

/// One `waitpid` for tracees and children of the calling *thread* only (`__WALL | __WNOTHREAD`), so that two
/// controllers (or two tests) in one process don't take each other's events. `pid` −1 is any. `None`: `WNOHANG`,
/// nothing there.
pub(crate) fn wait_once(pid: i32, block: bool) -> Result<Option<(i32, i32)>, Errno> {
    let mut status = 0;
    let flags = libc::__WALL | libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a live `c_int` for the duration of the call.
    let got = unsafe { libc::waitpid(pid, &raw mut status, flags) };
    Ok(match Errno::result(got)? {
        0 => None,
        got => Some((got, status)),
    })
}

/// Ends a blocking `waitpid` of the thread that made it: a POSIX timer that sends `SIGURG` (ignored by default, so
/// harmless to anyone else) to that thread, again and again, until disarmed: a first one that comes too early, before
/// the thread sleeps, loses nothing. Unlike `signalfd` on `SIGCHLD` it needs nothing of the other threads' masks.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Timer,
    /// It goes off every 2 ms, whatever is waited for.
    ticking: bool,
}

extern "C" fn interrupt(_: libc::c_int) {}

impl Alarm {
    /// An alarm for the calling thread.
    pub(crate) fn new() -> Result<Alarm, Errno> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // SAFETY: an all-zero `sigaction` is a valid one (no flags, so no SA_RESTART; empty mask).
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = interrupt as extern "C" fn(libc::c_int) as usize;
            // SAFETY: the handler does nothing, which is async-signal-safe; `action` lives through the call.
            unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
        });
        let mut urgent = SigSet::empty();
        urgent.add(Signal::SIGURG);
        urgent.thread_unblock()?;
        let me = nix::unistd::gettid().as_raw();
        let notify = SigevNotify::SigevThreadId { signal: Signal::SIGURG, thread_id: me, si_value: 0 };
        Ok(Alarm { timer: Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?, ticking: false })
    }

    fn arm(&mut self, after: Duration) -> Result<(), Errno> {
        let first = TimeSpec::from_duration(after.max(Duration::from_micros(1)));
        let again = TimeSpec::from_duration(Duration::from_millis(2));
        self.timer.set(Expiration::IntervalDelayed(first, again), TimerSetTimeFlags::empty())
    }

    fn disarm(&mut self) -> Result<(), Errno> {
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(Duration::ZERO)), TimerSetTimeFlags::empty())
    }

    /// Goes off every 2 ms until it is told otherwise, instead of being set for each wait: for many short ones, whose limits it
    /// then keeps to the next tick.
    pub(crate) fn tick(&mut self, on: bool) -> Result<(), Errno> {
        self.ticking = on;
        if on { self.arm(Duration::from_millis(2)) } else { self.disarm() }
    }

    /// Waits for `pid` (−1: any) until `deadline` (`None`: for ever). `Ok(None)`: time is up, or there is nobody to
    /// wait for.
    pub(crate) fn wait(&mut self, pid: i32, deadline: Option<Instant>) -> Result<Option<(i32, i32)>, Errno> {
        if !self.ticking {
            match wait_once(pid, false) {
                Ok(None) => {}
                Err(Errno::ECHILD) => return Ok(None),
                other => return other,
            }
        }
        if let Some(deadline) = deadline.filter(|_| !self.ticking) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.arm(left)?;
        }
        let got = loop {
            match wait_once(pid, true) {
                Err(Errno::EINTR) if deadline.is_some_and(|at| Instant::now() >= at) => break Ok(None),
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break Ok(None),
                other => break other,
            }
        };
        if deadline.is_some() && !self.ticking {
            self.disarm()?;
        }
        got
    }
}

/// Forks this single-threaded process so that the child is the *caller's parent's* child: its sibling. `None` in the
/// child.
///
/// glibc's idea of the thread survives: the kernel writes the new thread id where glibc keeps it, and the robust list
/// is registered again. Fork handlers (`pthread_atfork`) don't run.
///
/// # Errors
///
/// `EBUSY` when the process has more than one thread; else what `clone` says.
pub(crate) fn clone_sibling() -> Result<Option<i32>, Errno> {
    // The link count of a task directory is 2 + the number of threads.
    let threads = std::fs::metadata("/proc/self/task").map_err(|_| Errno::ENOSYS)?.st_nlink();
    if threads != 3 {
        return Err(Errno::EBUSY);
    }
    let mut tid_word: *mut libc::c_int = std::ptr::null_mut();
    // SAFETY: PR_GET_TID_ADDRESS stores one pointer through the given address; without kernel support it stores
    // nothing.
    unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_word) };
    let (mut list, mut list_len) = (0_usize, 0_usize);
    // SAFETY: both out pointers are live; 0 means the calling thread.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut list, &raw mut list_len) };

    let mut flags = libc::CLONE_PARENT | libc::SIGCHLD;
    if !tid_word.is_null() {
        flags |= libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
    }
    #[cfg(target_arch = "x86_64")]
    let (fourth, fifth) = (tid_word as usize, 0_usize);
    #[cfg(not(target_arch = "x86_64"))]
    let (fourth, fifth) = (0_usize, tid_word as usize);
    // SAFETY: without CLONE_VM the child has a copy of the whole (single-threaded, checked above) process and goes on
    // on its copy of this stack; the thread-id word is glibc's own, registered by glibc for this very thread.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags as usize, 0_usize, 0_usize, fourth, fifth) };
    let child = Errno::result(child)? as i32;
    if child != 0 {
        return Ok(Some(child));
    }
    if list != 0 {
        // SAFETY: the same head and length that glibc had registered for this thread, in this copy of its memory.
        unsafe { libc::syscall(libc::SYS_set_robust_list, list, list_len) };
    }
    Ok(None)
}

/// Whether two processes share one address space (`kcmp`); `false` where the kernel can't say.
pub(crate) fn same_memory(a: i32, b: i32) -> bool {
    const KCMP_VM: usize = 1;
    // SAFETY: `kcmp` takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_VM, 0_usize, 0_usize) == 0 }
}

/// Whether `tid` is a thread of process `pid` (`tgkill` with no signal): what /proc/TID/status says, for a hundredth of the
/// price.
pub(crate) fn is_thread_of(pid: i32, tid: i32) -> bool {
    // SAFETY: `tgkill` takes numbers only; signal 0 is none.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) == 0 }
}

/// A child of this process that does nothing but hold on to what it has inherited: descriptors, and the locks on them. An
/// alarm of its own ends it after ten minutes, if nobody has. `None`: it could not be made.
pub(crate) fn fork_sleeper() -> Option<i32> {
    // SAFETY: the child calls only `alarm`, `signal` and `pause`, which are async-signal-safe, until it ends.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { child }) => Some(child.as_raw()),
        Ok(nix::unistd::ForkResult::Child) => {
            nix::unistd::alarm::set(600);
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        Err(_) => None,
    }
}

/// Goes on as a child of this process, in a pid namespace of its own, in which it has pid 1: `None`. This process waits for it
/// and answers its exit code; the child dies with it.
///
/// # Errors
///
/// What `unshare` says, without privilege `EPERM`; nothing has changed then.
pub(crate) fn fork_apart() -> Result<Option<i32>, Errno> {
    use nix::sys::wait::{WaitStatus, waitpid};
    // Of what this process's children are born into: it stays where it is.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)?;
    let (alive, mine) = std::io::pipe().map_err(|_| Errno::EMFILE)?;
    // SAFETY: called before this process has started a thread; the child goes on on its copy.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => {
            let status = loop {
                match waitpid(child, None) {
                    Err(Errno::EINTR) => {}
                    other => break other,
                }
            };
            drop(mine);
            Ok(Some(match status {
                Ok(WaitStatus::Exited(_, code)) => code,
                Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                _ => 127,
            }))
        }
        nix::unistd::ForkResult::Child => {
            drop(mine);
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // It may have died before that was wished for; who the parent is can't be asked across namespaces.
            let mut orphaned = [rustix::event::PollFd::new(&alive, rustix::event::PollFlags::HUP)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            if rustix::event::poll(&mut orphaned, Some(&now)) != Ok(0) {
                std::process::exit(super::template::EXIT_UNWANTED);
            }
            Ok(None)
        }
    }
}

/// A limit on file sizes then answers `EFBIG`, instead of killing by SIGXFSZ.
pub(crate) fn ignore_file_size_signal() -> Result<(), Errno> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }.map(drop)
}

/// Sets a limit of another process.
pub(crate) fn limit(pid: i32, resource: libc::__rlimit_resource_t, soft: u64) -> Result<u64, Errno> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `before` is live for the call, and no new limit is given.
    Errno::result(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut before) })?;
    let new = libc::rlimit { rlim_cur: soft.min(before.rlim_max), rlim_max: before.rlim_max };
    // SAFETY: `new` is live for the call, and the old limit is not asked for.
    Errno::result(unsafe { libc::prlimit(pid, resource, &raw const new, std::ptr::null_mut()) })?;
    Ok(before.rlim_cur)
}

/// From now on a system call fails with `errno` in this thread and those that it starts. It can't be undone.
pub(crate) fn deny(call: u32, errno: u32) -> Result<(), Errno> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // seccomp_data begins with the number of the call.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | (errno & 0xffff)),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: `filter` and the program that it points to live through the call; the kernel copies them.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }).map(drop)
}
