//! System calls that fail: each one of an operation, once, and from there on, with each answer that is plausible for it.
//!
//! SQLite's tests let the Nth operation of the file system fail, for N = 1, 2, … until nothing fails any more, once and for
//! ever; so do these. The call is not made: the thread is moved past it with the answer in its hand. What may come of it: a
//! typed error or success, never a panic, a signal or a hang; and whoever recovers finds what was acknowledged. An operation
//! that failed because a call failed once must be possible when it is asked for again, in the same process.
//!
//! Two things are left out. Calls that can't fail for valid arguments (`getpid`), and `close`, which closes whatever it
//! answers. Looking up one's own identity in /proc is one instruction here (see [`super::stand`]): its calls fail when they
//! are of a number that fails from there on, not each on its own.

use std::sync::Arc;

use nix::libc;
use nix::sys::signal::Signal;

use super::jury::Case;
use super::operation::Operation;
use super::stand::{Denial, Ran, SystemCall};
use super::subject::{AGAIN, ONCE};
use super::tally::Row;
use super::walk::{Map, Walker, Whose};
use super::{Fault, Mode, Planted};
use crate::engine::Event;
use crate::stop::Stop;
use crate::verdict::Broken;

/// What is said to an interrupted call: only once, for who asks again at once may do so for ever.
const ONLY_ONCE: [i32; 1] = [libc::EINTR];

/// Answers that are plausible for a system call; none: it can't fail, or what it answers does not matter.
fn answers(number: u64) -> &'static [i32] {
    let Ok(number) = libc::c_long::try_from(number) else { return &[] };
    match number {
        libc::SYS_openat => &[libc::EMFILE, libc::EACCES, libc::EINTR],
        libc::SYS_mmap | libc::SYS_mprotect | libc::SYS_mremap | libc::SYS_munmap => &[libc::ENOMEM],
        libc::SYS_madvise => &[libc::EINVAL, libc::EAGAIN],
        libc::SYS_fallocate => &[libc::ENOSPC, libc::EOPNOTSUPP, libc::EINTR],
        libc::SYS_ftruncate => &[libc::EFBIG, libc::EINTR],
        libc::SYS_read | libc::SYS_pread64 => &[libc::EIO, libc::EINTR],
        libc::SYS_write | libc::SYS_pwrite64 => &[libc::ENOSPC, libc::EINTR],
        libc::SYS_fcntl => &[libc::ENOLCK, libc::EMFILE],
        libc::SYS_linkat | libc::SYS_mkdirat => &[libc::ENOSPC, libc::EACCES],
        libc::SYS_unlinkat => &[libc::EACCES, libc::EBUSY],
        libc::SYS_renameat2 | libc::SYS_renameat => &[libc::EACCES, libc::EINVAL],
        libc::SYS_getdents64 => &[libc::EIO],
        libc::SYS_statx => &[libc::EACCES, libc::ENOSYS],
        libc::SYS_fstat | libc::SYS_newfstatat => &[libc::EACCES, libc::ENOMEM],
        libc::SYS_fstatfs | libc::SYS_statfs => &[libc::EIO],
        libc::SYS_membarrier => &[libc::ENOSYS, libc::EPERM],
        libc::SYS_clone | libc::SYS_clone3 => &[libc::EAGAIN],
        libc::SYS_inotify_init1 => &[libc::EMFILE],
        libc::SYS_inotify_add_watch => &[libc::ENOSPC],
        libc::SYS_close
        | libc::SYS_brk
        | libc::SYS_getpid
        | libc::SYS_gettid
        | libc::SYS_getuid
        | libc::SYS_geteuid
        | libc::SYS_getgid
        | libc::SYS_getegid
        | libc::SYS_rt_sigaction
        | libc::SYS_rt_sigprocmask
        | libc::SYS_rt_sigreturn
        | libc::SYS_sched_yield
        | libc::SYS_exit
        | libc::SYS_exit_group => &[],
        // A sandbox that does not know a call refuses it so.
        _ => &[libc::EPERM],
    }
}

/// Whether the memory that a call asks for is the heap's: a program that is refused that ends itself, as Rust's do.
fn is_heap(call: SystemCall) -> bool {
    let anonymous = call.fourth & libc::MAP_ANONYMOUS as u64 != 0;
    libc::c_long::try_from(call.number).is_ok_and(|number| match number {
        libc::SYS_mmap => anonymous,
        libc::SYS_mremap | libc::SYS_mprotect => true,
        _ => false,
    })
}

/// One way for a system call to fail.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// The point at which it is made.
    at: usize,
    call: SystemCall,
    errno: i32,
    for_ever: bool,
}

impl Walker<'_> {
    /// Lets each system call fail, in each way.
    pub(super) fn errnos(
        &mut self,
        op: Operation,
        map: &Map,
        row: &mut Row,
        whose: &mut Vec<Whose>,
        stop: &Stop,
    ) -> Result<(), Fault> {
        for (at, call) in &map.calls {
            self.made_at.entry(call.number).or_default().insert(map.points[*at].pc);
        }
        let ways: Vec<Way> = map.calls.iter().flat_map(|(at, call)| ways(*at, *call)).collect();
        row.errnos.of = ways.len() as u64;
        let chosen = Walker::draw(&mut self.dice(op, Mode::Errno), (0..ways.len()).collect(), self.args.errnos);
        for way in chosen.into_iter().map(|chosen| ways[chosen]) {
            if stop.asked() {
                break;
            }
            self.fail(op, map, way, row, whose)?;
        }
        Ok(())
    }

    fn fail(&mut self, op: Operation, map: &Map, way: Way, row: &mut Row, whose: &mut Vec<Whose>) -> Result<(), Fault> {
        let resigns = self.args.planted == Some(Planted::Resign);
        let times = if way.for_ever || resigns { ONCE } else { AGAIN };
        let Some((mut subject, root)) = self.hold_to(op, map, way.at, row, times)? else { return Ok(()) };
        let sites = if way.for_ever { self.made_at[&way.call.number].iter().copied().collect() } else { Vec::new() };
        let denial = Denial { number: way.call.number, errno: way.errno, sites };
        let ran = self.stand.run_denied(&mut subject, &denial)?;
        let site = self.stand.place(map.points[way.at].pc);
        let how = format!(
            "system call {} answered {}{}",
            way.call.number,
            nix::errno::Errno::from_raw(way.errno),
            if way.for_ever { " from there on" } else { "" }
        );
        if let Some(line) = subject.world.nonsense.first() {
            row.broke(Broken::Failed, &format!("{how}; the subject said {line:?}"), way.at as u64, &site);
        }
        match ran {
            Ran::Done if !way.for_ever && op.is_repeated() => {
                let failure = subject.world.failure.clone().filter(|why| !why.contains("RW-PUSH-FULL"));
                if let Some(why) = failure {
                    row.broke(Broken::Failed, &format!("{how}; asked again: {why}"), way.at as u64, &site);
                }
            }
            Ran::Done => {}
            Ran::Died(Event::Signaled { sig, .. }) if sig == Signal::SIGABRT as i32 && is_heap(way.call) => {
                row.aborted += 1;
            }
            other => row.broke(Broken::Failed, &format!("{how}: {other:?}"), way.at as u64, &site),
        }
        self.stand.end(&subject)?;
        row.errnos.done += 1;
        whose.push(Whose::Errno(way.at, how));
        self.jury.hand(Case::There(root), &Arc::new(subject.world.clone()))?;
        Ok(())
    }
}

fn ways(at: usize, call: SystemCall) -> impl Iterator<Item = Way> {
    answers(call.number).iter().flat_map(move |errno| {
        let both = [false, true].into_iter().filter(|for_ever| !(*for_ever && ONLY_ONCE.contains(errno)));
        both.map(move |for_ever| Way { at, call, errno: *errno, for_ever })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_interrupted_once_and_what_cannot_fail_does_not() {
        let call = |number: libc::c_long| SystemCall { number: number as u64, fourth: 0 };
        let open: Vec<(i32, bool)> = ways(7, call(libc::SYS_openat)).map(|way| (way.errno, way.for_ever)).collect();
        let all = [(libc::EMFILE, false), (libc::EMFILE, true), (libc::EACCES, false), (libc::EACCES, true)];
        assert_eq!(open, [&all[..], &[(libc::EINTR, false)]].concat());
        assert_eq!(ways(7, call(libc::SYS_close)).count(), 0);
        assert_eq!(ways(7, call(libc::SYS_kcmp)).count(), 2, "what is not known may be refused");
    }

    #[test]
    fn only_anonymous_memory_is_the_heaps() {
        let map = |flags: i32| SystemCall { number: libc::SYS_mmap as u64, fourth: flags as u64 };
        assert!(is_heap(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)));
        assert!(!is_heap(map(libc::MAP_SHARED)));
    }
}
