#![allow(unsafe_code)]
//! The engine at work on real processes: this test program, started again as a template.
//!
//! # Safety
//!
//! The workers map a memory file that was made for them; system calls are handed live buffers.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;

use super::*;

/// Only against hanging for ever; nothing is measured by it.
const LIMIT: Option<Duration> = Some(Duration::from_secs(60));
const PATIENCE: Duration = Duration::from_secs(20);

/// The operation under test: two visible stores with other work before, between and after.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringward_engine_test_op(counters: &[AtomicU64; 4], bytes: &mut [u8; 64]) -> u64 {
    let mut sum = 0;
    for (at, byte) in bytes.iter_mut().enumerate().take(5) {
        *byte = byte.wrapping_add(at as u8);
        sum += u64::from(std::hint::black_box(*byte));
    }
    counters[0].fetch_add(1, Ordering::Relaxed);
    std::hint::black_box(&mut *bytes).fill(std::hint::black_box(3));
    counters[1].fetch_add(1, Ordering::Relaxed);
    sum
}

/// An operation with a system call that sleeps until the other end writes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringward_engine_test_sleep(fd: i32, counters: &[AtomicU64; 4]) {
    let mut byte = 0_u8;
    // SAFETY: one live byte.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
    counters[2].fetch_add(1, Ordering::Relaxed);
}

/// An operation with a repeated string instruction.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ringward_engine_test_rep(to: *mut u8, from: &[u8; 32]) {
    // SAFETY: the caller vouches for 32 bytes at `to`; the direction flag is clear by convention.
    unsafe { std::arch::asm!("rep movsb", inout("rcx") 32_usize => _, inout("rdi") to => _, inout("rsi") from => _) };
}

/// What the templates of these tests run: before `main`, since the test harness's own would start threads.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if template::is_template() {
        template::serve(worker);
    }
}

fn counters(fd: &OwnedFd) -> &'static [AtomicU64; 4] {
    // SAFETY: maps a page of a file of that size, anew, at an address of the kernel's choice.
    let page = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: page-aligned, mapped for the rest of the process's life, and only ever used as atomics.
    unsafe { &*page.cast() }
}

extern "C" fn handler(_: i32) {}

fn worker(job: Job) -> i32 {
    let counters = counters(&job.fds[0]);
    let mut bytes = [0; 64];
    match job.args[0].to_str().unwrap() {
        "loop" => loop {
            ringward_engine_test_op(counters, &mut bytes);
        },
        "times" => {
            let times: u64 = job.args[1].to_str().unwrap().parse().unwrap();
            (0..times).for_each(|_| _ = ringward_engine_test_op(counters, &mut bytes));
            7
        }
        "threads" => {
            let run = || (0..200).for_each(|_| _ = ringward_engine_test_op(counters, &mut [0; 64]));
            let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(run)).collect();
            run();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            9
        }
        "signals" => {
            // SAFETY: the handler does nothing.
            unsafe { libc::signal(libc::SIGUSR1, handler as extern "C" fn(i32) as usize) };
            for _ in 0..20 {
                // SAFETY: a signal to this thread, with a handler.
                unsafe { libc::raise(libc::SIGUSR1) };
                ringward_engine_test_op(counters, &mut bytes);
            }
            5
        }
        "fork" => {
            ringward_engine_test_op(counters, &mut bytes);
            // SAFETY: single-threaded; the child only calls the operation and exits.
            let child = unsafe { libc::fork() };
            ringward_engine_test_op(counters, &mut bytes);
            if child == 0 {
                return 0;
            }
            let mut status = 0;
            // SAFETY: `status` is live.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            status
        }
        "sleep" => {
            let fd = job.fds[1].as_raw_fd();
            // SAFETY: the descriptor stays open as long as the process lives.
            let other = std::thread::spawn(move || ringward_engine_test_op(counters, &mut [0; 64]));
            ringward_engine_test_sleep(fd, counters);
            drop(other);
            3
        }
        #[cfg(target_arch = "x86_64")]
        "rep" => {
            let page: *const [AtomicU64; 4] = counters;
            // SAFETY: the second kilobyte of the page, which nothing else in this process looks at.
            ringward_engine_test_rep(unsafe { page.cast_mut().cast::<u8>().add(1024) }, &[7; 32]);
            6
        }
        "panic" => panic!("as told"),
        _ => 99,
    }
}

/// A template, a tracer and a page of counters.
struct Bench {
    // Dropped first: kills and reaps what is left.
    tracer: Tracer,
    template: Template,
    shared: File,
}

impl Bench {
    fn new() -> Bench {
        let mut config = TemplateConfig::this_program(["template"]).unwrap();
        config.quiet = true;
        let template = Template::start(config).unwrap();
        let shared =
            File::from(nix::sys::memfd::memfd_create("engine-test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap());
        shared.set_len(4096).unwrap();
        Bench { tracer: Tracer::new().unwrap(), template, shared }
    }

    fn request<'a>(&'a self, args: &'a [&'a str]) -> Request<'a> {
        Request { args: args.iter().map(OsStr::new).collect(), fds: vec![self.shared.as_fd()] }
    }

    fn counter(&self, n: u64) -> u64 {
        let mut word = [0; 8];
        self.shared.read_exact_at(&mut word, n * 8).unwrap();
        u64::from_ne_bytes(word)
    }

    fn clear(&self) {
        self.shared.write_all_at(&[0; 32], 0).unwrap();
    }

    fn address(&self, pid: i32, name: &str) -> u64 {
        let exe = std::env::current_exe().unwrap();
        Modules::of(pid).unwrap().find_function(exe.to_str().unwrap(), name).unwrap()
    }

    fn event(&mut self) -> Event {
        self.tracer.wait_event(LIMIT).unwrap().expect("an event before the test's own limit")
    }

    /// A worker, seized, with a breakpoint at the operation's entry, let go.
    fn launch(&mut self, args: &[&str], entry: Option<u64>) -> (i32, u64) {
        let Spawned { pid, gate } = self.template.spawn(&self.request(args)).unwrap();
        self.tracer.seize(pid).unwrap();
        let entry = entry.unwrap_or_else(|| self.address(pid, "ringward_engine_test_op"));
        self.tracer.insert(pid, entry).unwrap();
        gate.open();
        (pid, entry)
    }

    /// The same, at the entry for the first time.
    fn at_entry(&mut self, args: &[&str], entry: Option<u64>) -> (i32, Call) {
        let (pid, entry) = self.launch(args, entry);
        assert_eq!(self.event(), Event::Breakpoint { pid, tid: pid, addr: entry });
        (pid, Call::at(&self.tracer, pid, pid).unwrap())
    }

    fn finish(&mut self, pid: i32) {
        let _ = self.tracer.kill(pid);
        assert_eq!(self.tracer.reap(pid, PATIENCE).unwrap(), Event::Signaled { pid, sig: 9 });
    }
}

#[test]
fn workers_are_this_threads_children_and_alike() {
    let mut bench = Bench::new();
    let one = bench.template.spawn(&bench.request(&["times", "3"])).unwrap();
    let two = bench.template.spawn(&bench.request(&["panic"])).unwrap();
    let three = bench.template.spawn(&bench.request(&["loop"])).unwrap();
    let kids = proc::children(std::process::id() as i32).unwrap();
    assert!([one.pid, two.pid, three.pid, bench.template.pid()].iter().all(|pid| kids.contains(pid)));
    let name = "ringward_engine_test_op";
    assert_eq!(bench.address(one.pid, name), bench.address(two.pid, name));
    assert_eq!(proc::threads(one.pid).unwrap(), [one.pid]);
    assert_eq!(bench.counter(0), 0);
    one.gate.open();
    assert_eq!(bench.event(), Event::Exited { pid: one.pid, code: 7 });
    assert_eq!(bench.counter(0), 3);
    two.gate.open();
    assert_eq!(bench.event(), Event::Exited { pid: two.pid, code: template::EXIT_PANIC });
    // A gate dropped unopened.
    drop(three.gate);
    assert_eq!(bench.event(), Event::Exited { pid: three.pid, code: template::EXIT_UNWANTED });
    assert_eq!(bench.counter(0), 3);
}

#[test]
fn the_long_way_runs_the_same_main() {
    let mut bench = Bench::new();
    let worker = bench.template.spawn_exec(&bench.request(&["times", "2"])).unwrap();
    worker.gate.open();
    assert_eq!(bench.event(), Event::Exited { pid: worker.pid, code: 7 });
    assert_eq!(bench.counter(1), 2);
}

#[test]
fn a_dead_template_is_an_error() {
    let mut bench = Bench::new();
    let pid = bench.template.pid();
    bench.tracer.kill(pid).unwrap();
    assert_eq!(bench.event(), Event::Signaled { pid, sig: 9 });
    assert!(bench.template.spawn(&bench.request(&["loop"])).is_err());
}

#[test]
fn breakpoints_count_every_call_and_leave_no_trace() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["times", "50"], None);
    let mut seen = 1;
    bench.tracer.cont(pid, 0).unwrap();
    while seen < 30 {
        assert_eq!(bench.event(), Event::Breakpoint { pid, tid: pid, addr: call.entry });
        seen += 1;
        assert_eq!(bench.counter(1), seen - 1);
        bench.tracer.cont(pid, 0).unwrap();
    }
    assert!(matches!(bench.event(), Event::Breakpoint { .. }));
    // Twice inserted, once removed, still there; removed again, gone.
    bench.tracer.insert(pid, call.entry).unwrap();
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    assert!(matches!(bench.event(), Event::Breakpoint { .. }));
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    assert_eq!(bench.event(), Event::Exited { pid, code: 7 });
    assert_eq!(bench.counter(0), 50);
}

#[test]
fn detached_workers_run_on_unharmed() {
    let mut bench = Bench::new();
    let (pid, _) = bench.at_entry(&["times", "5"], None);
    bench.tracer.detach(pid, 0).unwrap();
    assert_eq!(bench.event(), Event::Exited { pid, code: 7 });
    assert_eq!(bench.counter(0), 5);
}

#[test]
fn running_workers_can_be_interrupted() {
    let mut bench = Bench::new();
    let Spawned { pid, gate } = bench.template.spawn(&bench.request(&["loop"])).unwrap();
    bench.tracer.seize(pid).unwrap();
    assert_eq!(bench.tracer.wait_event(Some(Duration::from_millis(1))).unwrap(), None);
    gate.open();
    bench.tracer.interrupt(pid).unwrap();
    assert_eq!(bench.event(), Event::Interrupted { pid, tid: pid });
    let before = bench.counter(0);
    assert!(proc::state(pid).unwrap().is_traced_stop());
    assert_eq!(bench.counter(0), before);
    bench.finish(pid);
}

#[test]
fn a_kill_at_each_instruction_executes_exactly_its_prefix() {
    let mut bench = Bench::new();
    // What the counters say before each instruction of the call.
    let (pid, call) = bench.at_entry(&["loop"], None);
    let pcs = trace(&mut bench.tracer, &call, 100_000, PATIENCE).unwrap();
    assert_eq!(pcs.end, TraceEnd::Returned);
    assert_eq!(pcs.pcs[0], call.entry);
    bench.finish(pid);
    let pcs = pcs.pcs;
    assert!(pcs.len() > 10 && pcs.len() < 2_000, "{}", pcs.len());
    bench.clear();
    let (pid, call) = bench.at_entry(&["loop"], Some(call.entry));
    let mut states = Vec::new();
    for (k, &pc) in pcs.iter().enumerate() {
        assert_eq!(bench.tracer.regs(pid).unwrap().pc(), pc, "instruction {k}");
        states.push((bench.counter(0), bench.counter(1)));
        bench.tracer.step(pid, 0).unwrap();
        assert!(matches!(bench.event(), Event::Stepped { .. }));
    }
    bench.finish(pid);
    assert_eq!(*states.last().unwrap(), (1, 1));

    let mut sites = Sites::new();
    for (k, &pc) in pcs.iter().enumerate() {
        let occurrence = pcs[..=k].iter().filter(|&&other| other == pc).count() as u32;
        for plan in [Plan::Step(k as u64), Plan::Site { addr: pc, occurrence }] {
            // Stepping to all of them is quadratic.
            if matches!(plan, Plan::Step(_)) && k % 7 != 0 {
                continue;
            }
            bench.clear();
            let (pid, call) = bench.at_entry(&["loop"], Some(call.entry));
            let (mut strike, mut progress) = Strike::arm(&mut bench.tracer, call, plan, Blow::Kill).unwrap();
            while progress == Progress::Pending {
                let event = bench.event();
                progress = strike.on_event(&mut bench.tracer, &event).unwrap();
            }
            assert!(matches!(progress, Progress::Landed { pc: at, .. } if at == pc), "{plan:?}: {progress:?}");
            assert_eq!(bench.tracer.reap(pid, PATIENCE).unwrap(), Event::Signaled { pid, sig: 9 });
            assert_eq!((bench.counter(0), bench.counter(1)), states[k], "{plan:?}, instruction {k}");
        }
    }
    let modules = Modules::of(std::process::id() as i32).unwrap();
    assert!(sites.add(&modules, &pcs) > 5);
}

#[test]
fn a_strike_that_finds_nothing_reports_the_return() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["times", "2"], None);
    let sleep = bench.address(pid, "ringward_engine_test_sleep");
    let plan = Plan::Site { addr: sleep, occurrence: 1 };
    let (mut strike, progress) = Strike::arm(&mut bench.tracer, call, plan, Blow::Kill).unwrap();
    assert_eq!(progress, Progress::Pending);
    let event = bench.event();
    assert_eq!(strike.on_event(&mut bench.tracer, &event).unwrap(), Progress::Returned);
    assert_eq!(bench.counter(1), 1);
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    assert_eq!(bench.event(), Event::Exited { pid, code: 7 });
}

#[test]
fn every_thread_hits_and_none_slips_through() {
    let mut bench = Bench::new();
    let (pid, entry) = bench.launch(&["threads"], None);
    let (mut hits, mut born, mut ended, mut tids) = (0, 0, 0, vec![]);
    loop {
        match bench.event() {
            Event::Breakpoint { tid, addr, .. } => {
                assert_eq!(addr, entry);
                hits += 1;
                tids.push(tid);
                bench.tracer.cont(tid, 0).unwrap();
            }
            Event::NewThread { .. } => born += 1,
            Event::ThreadExited { .. } => ended += 1,
            end => {
                assert_eq!(end, Event::Exited { pid, code: 9 });
                break;
            }
        }
    }
    tids.sort_unstable();
    tids.dedup();
    assert_eq!((hits, born, ended, tids.len()), (800, 3, 3, 4));
    assert_eq!(bench.counter(1), 800);
}

/// Its first thread can't be waited for before its others have been: whoever waits for that one alone waits for ever.
#[test]
fn letting_go_of_a_thread_whose_process_was_killed_does_not_wait_for_it() {
    let mut bench = Bench::new();
    bench.tracer.let_others_pass();
    let (pid, entry) = bench.launch(&["threads"], None);
    loop {
        match bench.event() {
            Event::Breakpoint { tid, addr, .. } if tid == pid => {
                assert_eq!(addr, entry);
                break;
            }
            // They stay where they are: alive, and dead with their process, until they are waited for.
            Event::Breakpoint { .. } | Event::NewThread { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    bench.tracer.kill(pid).unwrap();
    while !proc::state(pid).unwrap().is_dead() {
        std::thread::yield_now();
    }
    let (done, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("HANG: it waits for a dead thread");
            std::process::abort();
        }
    });
    bench.tracer.cont(pid, 0).unwrap();
    drop(done);
    assert_eq!(bench.tracer.reap(pid, PATIENCE).unwrap(), Event::Signaled { pid, sig: 9 });
}

/// A function that is not to be executed is not, and says what it was told to say.
#[test]
fn a_call_is_skipped() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["times", "5"], None);
    bench.tracer.skip_call(pid, pid, 0).unwrap();
    assert_eq!(bench.tracer.regs(pid).unwrap().pc(), call.ret);
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    assert_eq!(bench.event(), Event::Exited { pid, code: 7 });
    assert_eq!(bench.counter(1), 4, "all but the first");
}

/// Whatever the call comes to first is where it ends; what no breakpoint can be put on is left out; and a call that comes to none
/// returns and goes on as if nothing had been.
#[test]
fn a_strike_at_any_of_some_lands_at_the_first() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["times", "5"], None);
    let traced = trace(&mut bench.tracer, &call, 9_999, PATIENCE).unwrap();
    assert_eq!(traced.end, TraceEnd::Returned);
    bench.finish(pid);
    let mut own: Vec<u64> = Vec::new();
    for &pc in traced.pcs.iter().filter(|pc| **pc != call.entry) {
        if !own.contains(&pc) {
            own.push(pc);
        }
    }
    let (early, late) = (own[own.len() / 3], own[own.len() / 2]);
    let (pid, call) = bench.at_entry(&["times", "5"], Some(call.entry));
    let nowhere = 0x1000;
    let (mut strike, mut progress) =
        Strike::arm_any(&mut bench.tracer, call, &[late, nowhere, early], Blow::Kill).unwrap();
    while progress == Progress::Pending {
        let event = bench.event();
        progress = strike.on_event(&mut bench.tracer, &event).unwrap();
    }
    assert_eq!(progress, Progress::Landed { pc: early, count: 1 });
    assert_eq!(bench.tracer.reap(pid, PATIENCE).unwrap(), Event::Signaled { pid, sig: 9 });
    let (pid, call) = bench.at_entry(&["times", "5"], Some(call.entry));
    let (mut strike, mut progress) = Strike::arm_any(&mut bench.tracer, call, &[nowhere], Blow::Kill).unwrap();
    while progress == Progress::Pending {
        let event = bench.event();
        progress = strike.on_event(&mut bench.tracer, &event).unwrap();
    }
    assert_eq!(progress, Progress::Returned);
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    assert_eq!(bench.event(), Event::Exited { pid, code: 7 });
    assert_eq!(bench.counter(1), 1 + 5, "one that was traced, and five");
}

#[test]
fn signals_are_reported_and_passed_on() {
    let mut bench = Bench::new();
    let (pid, _) = bench.launch(&["signals"], None);
    let (mut hits, mut signals) = (0, 0);
    loop {
        match bench.event() {
            Event::Breakpoint { .. } => {
                hits += 1;
                let call = Call::at(&bench.tracer, pid, pid).unwrap();
                let traced = trace(&mut bench.tracer, &call, 9_999, PATIENCE);
                assert_eq!(traced.unwrap().end, TraceEnd::Returned);
                bench.tracer.cont(pid, 0).unwrap();
            }
            Event::Signal { sig, .. } => {
                assert_eq!(sig, libc::SIGUSR1);
                signals += 1;
                bench.tracer.cont(pid, sig).unwrap();
            }
            end => {
                assert_eq!(end, Event::Exited { pid, code: 5 });
                break;
            }
        }
    }
    assert_eq!((hits, signals, bench.counter(1)), (20, 20, 20));
}

#[test]
fn forked_children_are_freed_of_breakpoints() {
    let mut bench = Bench::new();
    let (pid, _) = bench.at_entry(&["fork"], None);
    let mut forked = 0;
    bench.tracer.cont(pid, 0).unwrap();
    loop {
        match bench.event() {
            Event::Breakpoint { .. } => bench.tracer.cont(pid, 0).unwrap(),
            Event::Signal { sig, .. } => bench.tracer.cont(pid, sig).unwrap(),
            Event::Forked { .. } => forked += 1,
            end => {
                assert_eq!(end, Event::Exited { pid, code: 0 });
                break;
            }
        }
    }
    assert_eq!((forked, bench.counter(1)), (1, 3));
}

#[test]
fn a_breakpoint_on_a_sleeping_system_call_holds_nobody_up() {
    let mut bench = Bench::new();
    let (theirs, mut ours) = std::io::pipe().unwrap();
    let Spawned { pid, gate } = {
        let mut request = bench.request(&["sleep"]);
        request.fds.push(theirs.as_fd());
        bench.template.spawn(&request).unwrap()
    };
    bench.tracer.seize(pid).unwrap();
    let entry = bench.address(pid, "ringward_engine_test_sleep");
    let op = bench.address(pid, "ringward_engine_test_op");
    bench.tracer.insert(pid, entry).unwrap();
    bench.tracer.insert(pid, op).unwrap();
    gate.open();
    // Step the sleeper up to its system call, and put a breakpoint right there.
    let mut others = Vec::new();
    let mut pc = loop {
        match bench.event() {
            Event::Breakpoint { tid, addr, .. } if tid == pid => break addr,
            Event::Breakpoint { tid, .. } => others.push(tid),
            _ => {}
        }
    };
    let mut text = [0; 4];
    loop {
        bench.tracer.memory(pid).unwrap().read(pc, &mut text).unwrap();
        if text[..2] == [0x0f, 0x05] || text == [0x01, 0, 0, 0xd4] {
            break;
        }
        bench.tracer.step(pid, 0).unwrap();
        pc = loop {
            match bench.event() {
                Event::Stepped { pc, .. } => break pc,
                Event::Breakpoint { tid, .. } => others.push(tid),
                _ => {}
            }
        };
    }
    bench.tracer.insert(pid, pc).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    // It sleeps with the step under way; the other thread is not held up by that.
    while others.is_empty() {
        if let Event::Breakpoint { tid, .. } = bench.event() {
            assert_ne!(tid, pid);
            others.push(tid);
        }
    }
    bench.tracer.cont(others[0], 0).unwrap();
    loop {
        match bench.event() {
            Event::ThreadExited { .. } => break,
            event => assert!(matches!(event, Event::NewThread { .. }), "{event:?}"),
        }
    }
    assert_eq!((bench.counter(0), bench.counter(2)), (1, 0));
    std::io::Write::write_all(&mut ours, &[1]).unwrap();
    // The system call was interrupted and made again, but the breakpoint on it has been passed once only.
    let end = bench.event();
    assert_eq!(end, Event::Exited { pid, code: 3 });
    assert_eq!(bench.counter(2), 1);
}

#[test]
fn group_stops_are_kept_until_sigcont() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["loop"], None);
    bench.tracer.remove(pid, call.entry).unwrap();
    bench.tracer.cont(pid, 0).unwrap();
    let send = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    send(nix::sys::signal::SIGSTOP);
    assert_eq!(bench.event(), Event::Signal { pid, tid: pid, sig: libc::SIGSTOP });
    bench.tracer.cont(pid, libc::SIGSTOP).unwrap();
    assert_eq!(bench.event(), Event::GroupStop { pid, tid: pid, sig: libc::SIGSTOP });
    bench.tracer.listen(pid).unwrap();
    let before = bench.counter(0);
    send(nix::sys::signal::SIGCONT);
    assert_eq!(bench.event(), Event::Interrupted { pid, tid: pid });
    assert!(bench.counter(0) - before <= 1);
    bench.finish(pid);
}

#[test]
fn a_dropped_tracer_leaves_nobody() {
    let mut bench = Bench::new();
    let (pid, _) = bench.at_entry(&["loop"], None);
    drop(bench);
    assert!(proc::state(pid).is_err());
}

#[test]
fn death_under_the_tracers_hands_is_an_event_not_an_error() {
    let mut bench = Bench::new();
    let (pid, call) = bench.at_entry(&["loop"], None);
    bench.tracer.kill(pid).unwrap();
    // Whatever is tried now may find it dead already.
    let _ = bench.tracer.regs(pid);
    bench.tracer.cont(pid, 0).unwrap();
    bench.tracer.remove(pid, call.entry).unwrap();
    assert_eq!(bench.tracer.reap(pid, PATIENCE).unwrap(), Event::Signaled { pid, sig: 9 });
    assert!(bench.tracer.insert(pid, call.entry).is_err());
}

#[test]
fn finds_an_exported_function_and_back() {
    let modules = Modules::of(std::process::id() as i32).unwrap();
    let function: extern "C" fn(&[AtomicU64; 4], &mut [u8; 64]) -> u64 = ringward_engine_test_op;
    let location = modules.locate(function as usize as u64);
    let found = modules.find_function(&location.module, "ringward_engine_test_op").unwrap();
    assert_eq!(found, function as usize as u64);
    let symbols = Symbols::load(std::path::Path::new(&location.module)).unwrap();
    assert_eq!(symbols.at(location.offset).unwrap(), ("ringward_engine_test_op", 0));
    assert!(modules.find_function(&location.module, "no such thing").is_err());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_iteration_of_a_repeated_instruction_is_an_instruction() {
    let mut bench = Bench::new();
    let copied = |bench: &Bench| {
        let mut bytes = [0; 32];
        bench.shared.read_exact_at(&mut bytes, 1024).unwrap();
        bytes.iter().filter(|&&byte| byte == 7).count() as u32
    };
    let idle = bench.template.spawn(&bench.request(&["rep"])).unwrap();
    let entry = bench.address(idle.pid, "ringward_engine_test_rep");
    drop(idle.gate);
    bench.tracer.reap(idle.pid, PATIENCE).unwrap();
    let mut site = 0;
    for occurrence in 0..=33_u32 {
        let (pid, _) = bench.launch(&["rep"], Some(entry));
        assert_eq!(bench.event(), Event::Breakpoint { pid, tid: pid, addr: entry });
        let call = Call::at(&bench.tracer, pid, pid).unwrap();
        if occurrence == 0 {
            // Discover: the site that comes 32 times.
            let pcs = trace(&mut bench.tracer, &call, 1_000, PATIENCE).unwrap().pcs;
            let often = pcs.iter().find(|&&pc| pcs.iter().filter(|&&other| other == pc).count() == 32);
            site = *often.expect("32 iterations of one instruction");
            bench.finish(pid);
            continue;
        }
        bench.shared.write_all_at(&[0; 32], 1024).unwrap();
        let plan = Plan::Site { addr: site, occurrence };
        let (mut strike, mut progress) = Strike::arm(&mut bench.tracer, call, plan, Blow::Kill).unwrap();
        while progress == Progress::Pending {
            let event = bench.event();
            progress = strike.on_event(&mut bench.tracer, &event).unwrap();
        }
        assert_eq!(copied(&bench), occurrence - 1);
        if occurrence <= 32 {
            assert_eq!(progress, Progress::Landed { pc: site, count: u64::from(occurrence) });
        } else {
            assert_eq!(progress, Progress::Returned);
        }
        bench.finish(pid);
    }
    assert!(site >= entry);
}

#[test]
fn nothing_outlives_the_controlling_thread() {
    let controller = std::thread::spawn(|| {
        let mut bench = Bench::new();
        let (stopped, call) = bench.at_entry(&["loop"], None);
        let gated = bench.template.spawn(&bench.request(&["loop"])).unwrap();
        let free = bench.template.spawn(&bench.request(&["loop"])).unwrap();
        free.gate.open();
        let (running, _) = bench.at_entry(&["loop"], Some(call.entry));
        bench.tracer.remove(running, call.entry).unwrap();
        bench.tracer.cont(running, 0).unwrap();
        let pids = [bench.template.pid(), stopped, gated.pid, free.pid, running];
        std::mem::forget((bench, gated.gate));
        pids
    });
    for pid in controller.join().unwrap() {
        let mut patience = 60_000;
        while proc::state(pid).is_ok_and(|state| !state.is_dead()) {
            std::thread::sleep(Duration::from_millis(1));
            patience -= 1;
            assert!(patience > 0, "{pid} lives on");
        }
    }
}

#[test]
fn two_tracers_in_one_process_keep_apart() {
    let run = || {
        let mut bench = Bench::new();
        for _ in 0..30 {
            let (pid, _) = bench.at_entry(&["loop"], None);
            bench.finish(pid);
            assert_eq!(bench.tracer.wait_event(Some(Duration::ZERO)).unwrap(), None);
        }
    };
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(run)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
