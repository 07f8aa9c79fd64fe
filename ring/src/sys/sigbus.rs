//! The process-wide guard against losing a mapped file's memory.
//!
//! A file that somebody truncates, or a store into a hole of a full tmpfs, raises SIGBUS in whoever touches the page. The
//! guard's handler looks the address up in a registry; if it lies in one of ours, it marks the mapping *poisoned*,
//! replaces the **whole** of it by private anonymous memory in one `mmap`, and returns: the instruction runs again and
//! reads a zero or stores into nowhere. Whoever works on the mapping finds `Registration::poisoned` set when it asks
//! at the end of its operation. (After libwayland's `wl_shm`, systemd's `sigbus.c` and PulseAudio's `memtrap`.)
//!
//! ```text
//!  thread                    handler, on any thread              Registration::drop, on another
//!  ------                    ----------------------              ------------------------------
//!  touches a lost page  ──►  in_flight += 1        (SeqCst)      state = DYING             (SeqCst)
//!                            state == LIVE?        (SeqCst)      wait until in_flight == 0 (SeqCst)
//!                            poisoned = true                     state = FREE
//!                            mmap(MAP_FIXED)                     … and only then is the range unmapped
//!  runs again           ◄──  in_flight −= 1
//! ```
//!
//! Either the handler sees DYING and keeps its hands off, or the one who drops sees the handler and waits: a range that
//! may already be somebody else's is never replaced. (Nobody touches a mapping that is being dropped, so a handler that
//! keeps off can only have come for a stray pointer.) An entry that was freed and used again is harmless for the same
//! reason: what the handler reads after `LIVE` can't change until it leaves.
//!
//! Decisions, and what each is against:
//!
//! * `poisoned` is set *before* the memory is replaced: who has read a byte of the replacement finds it set.
//! * Two threads that fault at once both replace; the second replaces anonymous memory by anonymous memory. To tell whether
//!   the first is done would need a state more, and win nothing.
//! * If the whole can't be replaced (strict overcommit), the faulting page alone is; the others follow as they are touched.
//! * `BUS_ADRALN`, a misaligned access, isn't cured: other memory wouldn't help, and the thread would fault for ever. What
//!   `kill` or `sigqueue` send carries no address, and isn't ours either.
//! * `SA_ONSTACK`: the fault may come on a small or unusual stack. Where a thread has no alternate stack it changes
//!   nothing. *Not* `SA_NODEFER`: the handler touches only its own statics and stack, and can't fault on a mapping.
//!   `SA_RESTART`: a SIGBUS sent by hand must not break the host's system calls.
//! * All signals are blocked meanwhile: a host's handler that never returns (`siglongjmp`) can't strand a count.
//! * Not ours: what was installed before us gets it as if we weren't there, with its own mask and flags obeyed. std's handler
//!   (and `SA_RESETHAND`) resets the signal to its default instead of acting; we then put ourselves back, and remember
//!   that what is behind us is now the default, so that the next foreign fault kills and the next of ours still doesn't.
//!
//! In a forked child the parent's entries are void ([`Stamp`]): the ranges aren't mapped there.
//!
//! The host may install its own handler later and not pass ours on; no one is told of that. [`is_installed`] asks.
//!
//! # Safety
//!
//! The invariants that the unsafe operations here rest on:
//!
//! 1. A `LIVE` entry names a mapping whose owner keeps it mapped until `Registration::drop` has returned.
//! 2. The handler replaces memory only between `in_flight += 1` and `−= 1` of an entry that it saw `LIVE` in between.
//! 3. The handler calls nothing that isn't async-signal-safe: `mmap`, `sigaction`, `pthread_sigmask`, `raise`, atomics.
#![allow(unsafe_code)]

use super::fork::Stamp;
use crate::canary;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use nix::errno::Errno;
use nix::libc::{self, siginfo_t};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Entries in one block of the registry. A process that maps more segments grows a chain of blocks.
const BLOCK: usize = 512;
/// `BUS_MCEERR_AR`: the hardware lost the page, and somebody needs it now.
const BUS_MCEERR_AR: c_int = 4;
/// `BUS_MCEERR_AO`: the hardware lost a page that nobody needs yet. Not tied to an instruction.
const BUS_MCEERR_AO: c_int = 5;

/// States of an [`Entry`].
const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const DYING: u32 = 3;

/// One guarded range. On a cache line of its own: readers of `poisoned` aren't disturbed by a neighbour's coming and going.
#[repr(align(64))]
struct Entry {
    state: AtomicU32,
    /// Handlers that are looking at this entry.
    in_flight: AtomicU32,
    /// First address; valid while `LIVE`.
    start: AtomicUsize,
    /// Bytes; valid while `LIVE`.
    len: AtomicUsize,
    /// [`Stamp`] of the memory that the range is mapped in.
    stamp: AtomicU32,
    /// The range was replaced, or is about to be.
    poisoned: AtomicBool,
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            state: AtomicU32::new(FREE),
            in_flight: AtomicU32::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            stamp: AtomicU32::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    fn covers(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.start.load(Ordering::Relaxed));
        offset < self.len.load(Ordering::Relaxed)
    }

    /// In the handler: replaces the range if it is ours, alive and holds `address`. Whether the instruction may run again.
    fn cure(&self, address: usize) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let ours = self.state.load(Ordering::SeqCst) == LIVE
            && self.covers(address)
            && Stamp::from_raw(self.stamp.load(Ordering::Relaxed)).is_here();
        let cured = ours && {
            self.poisoned.store(true, Ordering::SeqCst);
            let page = super::map::page_size();
            (!canary!("one-page-replaced")
                && replace(self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed)))
                || replace(address & !(page - 1), page)
        };
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        cured
    }
}

/// Puts private, zeroed, writable memory in the place of `len` bytes from `start`; whether it could.
fn replace(start: usize, len: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: only called by `cure` within a live entry's range (invariant 2), which its owner keeps mapped and which no
    // safe reference to plain memory points into: all access to a mapping is by atomics and raw copies that bear a change.
    // (What was lent is vouched for: nobody cuts the file then.)
    let new = unsafe { libc::mmap(ptr::with_exposed_provenance_mut(start), len, protection, flags, -1, 0) };
    new != libc::MAP_FAILED
}

/// Entries, and more of them if need be. Blocks are never freed: a handler may be walking them.
struct Block {
    entries: [Entry; BLOCK],
    /// Entries that are taken: a full block is not searched for a free one.
    taken: AtomicUsize,
    next: OnceLock<Box<Block>>,
}

impl Block {
    const fn new() -> Block {
        Block { entries: [const { Entry::new() }; BLOCK], taken: AtomicUsize::new(0), next: OnceLock::new() }
    }
}

static REGISTRY: Block = Block::new();

/// All entries that exist now. Async-signal-safe.
fn entries() -> impl Iterator<Item = &'static Entry> {
    std::iter::successors(Some(&REGISTRY), |block| block.next.get().map(|next| &**next))
        .flat_map(|block| &block.entries)
}

/// Takes a free entry and says of which block, making a block of new ones if there is none.
fn claim() -> (&'static Entry, &'static Block) {
    let mut block = &REGISTRY;
    loop {
        let full = block.taken.load(Ordering::Relaxed) >= BLOCK;
        for entry in block.entries.iter().filter(|_| !full) {
            let claimed = entry.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed);
            if claimed.is_ok() {
                block.taken.fetch_add(1, Ordering::Relaxed);
                return (entry, block);
            }
        }
        block = block.next.get_or_init(|| Box::new(Block::new()));
    }
}

/// A range under guard. Dropped before the range is unmapped.
pub(super) struct Registration {
    entry: &'static Entry,
    block: &'static Block,
    stamp: Stamp,
}

impl core::fmt::Debug for Registration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let start = self.entry.start.load(Ordering::Relaxed);
        write!(f, "Registration({start:#x}+{:#x})", self.entry.len.load(Ordering::Relaxed))
    }
}

impl Registration {
    /// Guards `len` bytes from `start`, installing the handler if this is the first.
    ///
    /// # Safety
    ///
    /// The range is a whole mapping, page-aligned, owned by the caller, who keeps it mapped until this value has been
    /// dropped, and bears (by atomics, raw copies, and never a reference to plain memory) that its contents change.
    ///
    /// # Errors
    ///
    /// As [`install`].
    pub(super) unsafe fn new(start: *mut u8, len: usize) -> io::Result<Registration> {
        install()?;
        let stamp = Stamp::here()?;
        let (entry, block) = claim();
        entry.start.store(start.expose_provenance(), Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        entry.stamp.store(stamp.raw(), Ordering::Relaxed);
        entry.poisoned.store(false, Ordering::Relaxed);
        entry.state.store(LIVE, Ordering::SeqCst);
        Ok(Registration { entry, block, stamp })
    }

    /// Whether any of the range was replaced. Asked *after* reading: `false` means that what was read came from the file.
    ///
    /// The fence keeps the loads of the range that come before it from sinking below the load of the flag; on x86-64
    /// it costs nothing. The other half is that the handler sets the flag before `mmap`, whose change of the page table
    /// no other processor can miss and still see the new page.
    #[inline]
    pub(super) fn poisoned(&self) -> bool {
        fence(Ordering::Acquire);
        self.entry.poisoned.load(Ordering::Relaxed)
    }

    /// Whether this is a forked child, in which the range isn't mapped.
    #[inline]
    pub(super) fn is_inherited(&self) -> bool {
        !self.stamp.is_here()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The entry is void here, and its count may for ever hold a handler of the parent's: leave it.
            return;
        }
        self.entry.state.store(DYING, Ordering::SeqCst);
        while self.entry.in_flight.load(Ordering::SeqCst) != 0 && !canary!("handlers-not-waited-for") {
            std::thread::yield_now();
        }
        self.entry.state.store(FREE, Ordering::Release);
        self.block.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What handled SIGBUS before us: a leaked box, or null before [`install`].
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
/// What was before us has reset itself: from now on the default is behind us.
static SPENT: AtomicBool = AtomicBool::new(false);
/// Whether [`install`] has done its work; held while it does.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs the guard's handler, once for the life of the process; done already, it does nothing.
///
/// Mapping a segment does this by itself. Call it early if the host is going to install a handler that passes on what it
/// doesn't know: it then wraps ours. Whatever is installed at this moment goes on getting every SIGBUS that isn't about a
/// segment. A host that replaced our handler later isn't fought: see [`is_installed`].
///
/// # Errors
///
/// What the kernel says to `sigaction`, or to the page that [`Stamp`] needs.
pub fn install() -> io::Result<()> {
    let mut done = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    // What the handler needs is there before it is: the stamp's page, the page size, and what was before.
    Stamp::here()?;
    super::map::page_size();
    let before = current()?;
    PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
    if canary!("guard-off") {
        return Ok(());
    }
    take_over()?;
    *done = true;
    Ok(())
}

/// Whether SIGBUS comes to the guard first, now.
///
/// `false` after [`install`] means that the host has put its own handler in front. If that one passes on what it doesn't
/// know, all is well; if not, a segment that is cut kills this process.
pub fn is_installed() -> bool {
    current().is_ok_and(|action| action.sa_sigaction == address())
}

/// The handler as `sigaction` holds it.
fn address() -> usize {
    handle as *const () as usize
}

/// What handles SIGBUS now.
fn current() -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: asks only; the pointer is to memory for one `sigaction`.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) };
    Errno::result(answer)?;
    // SAFETY: the call succeeded, so it filled in the whole.
    Ok(unsafe { action.assume_init() })
}

/// A `sigaction` with `handler` and `flags`, every signal blocked while it runs. Async-signal-safe.
fn action(handler: usize, flags: c_int) -> libc::sigaction {
    // SAFETY: `sigaction` is plain data, for which zeros are a value (default action, no flags, empty mask).
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the pointer is to a whole signal set.
    unsafe { libc::sigfillset(&mut action.sa_mask) };
    action
}

/// Makes our handler the one that SIGBUS comes to. Async-signal-safe.
fn take_over() -> io::Result<()> {
    let ours = action(address(), libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART);
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for and is async-signal-safe (invariant 3).
    let answer = unsafe { libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) };
    Errno::result(answer)?;
    Ok(())
}

/// The handler.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, ours until we return.
    let facts = unsafe { &*info };
    let cured = matches!(facts.si_code, libc::BUS_ADRERR | libc::BUS_OBJERR | BUS_MCEERR_AR) && {
        // SAFETY: for these codes the kernel fills in the fault's address.
        let address = unsafe { facts.si_addr() }.addr();
        entries().any(|entry| entry.covers(address) && entry.cure(address))
    };
    if !cured {
        chain(signal, facts.si_code, info, context);
    }
    Errno::set_raw(errno);
}

/// In the handler, for what isn't ours: does what would have been done without us.
fn chain(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // An instruction that faults does so again when we return; what was sent, or is only advice, doesn't.
    let repeats = code > 0 && code != BUS_MCEERR_AO;
    // SAFETY: null, or a box that `install` leaked and nobody writes to.
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    let Some(previous) = previous.filter(|_| !SPENT.load(Ordering::SeqCst)) else {
        return default(signal, repeats);
    };
    match previous.sa_sigaction {
        libc::SIG_IGN if !repeats => return,
        // The kernel doesn't let a fault be ignored either.
        libc::SIG_DFL | libc::SIG_IGN => return default(signal, repeats),
        _ => {}
    }
    if previous.sa_flags & libc::SA_RESETHAND != 0 {
        SPENT.store(true, Ordering::SeqCst);
    }
    unblock_for(previous, signal, context);
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: installed with SA_SIGINFO, so whoever did says that it has this signature.
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { core::mem::transmute(previous.sa_sigaction) };
        handler(signal, info, context);
    } else {
        // SAFETY: installed without SA_SIGINFO, so whoever did says that it has this signature.
        let handler: extern "C" fn(c_int) = unsafe { core::mem::transmute(previous.sa_sigaction) };
        handler(signal);
    }
    // std's handler resets the signal to its default and returns, to die of the same fault. It might not come again.
    if current().is_ok_and(|action| action.sa_sigaction == libc::SIG_DFL) {
        SPENT.store(true, Ordering::SeqCst);
        let _ = take_over();
    }
}

/// In the handler: the default action, which is to die of this very signal.
fn default(signal: c_int, repeats: bool) {
    let default = action(libc::SIG_DFL, 0);
    // SAFETY: no handler is installed, so none can be wrong.
    unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
    if !repeats {
        // SAFETY: async-signal-safe; the signal is blocked until our handler returns, and then kills.
        unsafe { libc::raise(signal) };
    }
}

/// In the handler: blocks just what the kernel would have blocked for `previous`. Undone by returning from the signal.
fn unblock_for(previous: &libc::sigaction, signal: c_int, context: *mut c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: with SA_SIGINFO the kernel passes a valid context; the mask in it is what was blocked before.
    let mut mask = unsafe { (*context).uc_sigmask };
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the pointer is to a whole signal set.
        let blocked = unsafe { libc::sigismember(&previous.sa_mask, number) } == 1;
        if blocked || (number == signal && previous.sa_flags & libc::SA_NODEFER == 0) {
            // SAFETY: the pointer is to a whole signal set.
            unsafe { libc::sigaddset(&mut mask, number) };
        }
    }
    // SAFETY: async-signal-safe; both pointers are to a whole set or null.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &mask, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::reserve;
    use crate::sys::map::{Dump, Mapping, page_size};
    use crate::sys::{child, here};
    use core::hint::black_box;
    use nix::sys::signal::Signal;
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn file(pages: usize) -> File {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        reserve(&file, (pages * page_size()) as u64).unwrap();
        file
    }

    fn guarded(file: &File, pages: usize) -> Mapping {
        let whole = 0..pages * page_size();
        Mapping::new(file, whole.end, std::slice::from_ref(&whole), Dump::Include).unwrap()
    }

    /// A mapping that isn't ours, its page lost: reading it is a foreign SIGBUS.
    fn foreign() -> *mut u32 {
        let file = file(1);
        let raw = memmap2::MmapOptions::new().len(page_size()).map_raw(&file).unwrap();
        file.set_len(0).unwrap();
        let start = raw.as_mut_ptr().cast();
        std::mem::forget(raw);
        start
    }

    fn read(word: *mut u32) -> u32 {
        // SAFETY: mapped and aligned; that the page is lost is the point.
        unsafe { word.read_volatile() }
    }

    /// Cuts a guarded file and touches it; whether that was survived and noticed.
    fn loses_its_own() -> bool {
        let file = file(2);
        let mapping = guarded(&file, 2);
        file.set_len(0).unwrap();
        let zero = mapping.word(page_size()).load(Ordering::Relaxed) == 0;
        zero && mapping.poisoned()
    }

    fn died_of(status: ExitStatus) -> Option<Signal> {
        status.signal().and_then(|signal| Signal::try_from(signal).ok())
    }

    static CALLS: AtomicU32 = AtomicU32::new(0);
    static FOREIGN: AtomicUsize = AtomicUsize::new(0);
    static MASKED: AtomicBool = AtomicBool::new(false);

    /// A host that mends its own page when it faults, as a database might.
    extern "C" fn mends(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the kernel's, by way of the guard.
        let info = unsafe { &*info };
        // SAFETY: a fault, or something sent; of the latter the number that is no address is compared with nothing mapped.
        let address = unsafe { info.si_addr() }.addr();
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: asks only.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
        // SAFETY: filled in just above.
        let blocked = |number| unsafe { libc::sigismember(mask.as_ptr(), number) } == 1;
        MASKED.store(blocked(signal) && blocked(libc::SIGUSR2) && !blocked(libc::SIGUSR1), Ordering::Relaxed);
        Errno::set_raw(5);
        if address == FOREIGN.load(Ordering::Relaxed) {
            assert!(replace(address, page_size()));
        }
    }

    extern "C" fn counts(_: c_int) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        if FOREIGN.load(Ordering::Relaxed) != 0 {
            assert!(replace(FOREIGN.load(Ordering::Relaxed), page_size()));
        }
    }

    fn host_handles(handler: usize, flags: c_int) {
        // SAFETY: plain data, for which zeros are a value.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        // SAFETY: the pointer is to a whole signal set.
        unsafe { libc::sigaddset(&mut action.sa_mask, libc::SIGUSR2) };
        // SAFETY: the tests pass a handler with the signature of its flags.
        assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) }, 0);
    }

    #[test]
    fn ours_is_survived_and_noticed() {
        install().unwrap();
        assert!(is_installed());
        assert!(loses_its_own() && loses_its_own());
    }

    #[test]
    fn the_whole_is_replaced_not_only_the_page_that_was_lost() {
        let (file, page) = (file(3), page_size());
        let mapping = guarded(&file, 3);
        mapping.word(0).store(7, Ordering::Relaxed);
        file.set_len(page as u64).unwrap();
        assert_eq!(mapping.word(0).load(Ordering::Relaxed), 7);
        assert!(!mapping.poisoned());
        mapping.word(2 * page).store(7, Ordering::Relaxed);
        assert!(mapping.poisoned());
        assert_eq!(mapping.word(0).load(Ordering::Relaxed), 0, "nothing of the file is left");
        assert_eq!(mapping.word(2 * page).load(Ordering::Relaxed), 7, "the store was run again");
    }

    #[test]
    fn a_handler_from_before_us_gets_what_is_not_ours_as_if_we_were_not_there() {
        let name = here!("a_handler_from_before_us_gets_what_is_not_ours_as_if_we_were_not_there");
        let (status, said) = child::run(name, || {
            host_handles(mends as *const () as usize, libc::SA_SIGINFO);
            assert!(loses_its_own());
            assert_eq!(CALLS.load(Ordering::Relaxed), 0, "ours isn't its business");
            for round in 1..4 {
                let word = foreign();
                FOREIGN.store(word.addr(), Ordering::Relaxed);
                Errno::set_raw(77);
                assert_eq!(read(word), 0);
                assert_eq!(Errno::last_raw(), 77);
                assert_eq!(CALLS.load(Ordering::Relaxed), round);
                assert!(MASKED.load(Ordering::Relaxed), "its own mask, and no more");
                assert!(loses_its_own() && is_installed());
            }
            nix::sys::signal::raise(Signal::SIGBUS).unwrap();
            assert_eq!(CALLS.load(Ordering::Relaxed), 4, "a SIGBUS that was sent is its business too");
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }

    #[test]
    fn a_plain_handler_and_a_one_shot_handler_are_called_rightly() {
        let name = here!("a_plain_handler_and_a_one_shot_handler_are_called_rightly");
        let (status, said) = child::run(name, || {
            host_handles(counts as *const () as usize, libc::SA_RESETHAND);
            assert!(loses_its_own());
            let word = foreign();
            FOREIGN.store(word.addr(), Ordering::Relaxed);
            read(word);
            println!("\ncalled {}", CALLS.load(Ordering::Relaxed));
            assert!(loses_its_own() && is_installed());
            read(foreign());
        });
        assert_eq!(died_of(status), Some(Signal::SIGBUS), "the second time the default acts: {said}");
        assert!(said.contains("called 1"), "{said}");
    }

    #[test]
    fn foreign_faults_die_of_sigbus_behind_std_and_behind_the_default_and_when_ignored() {
        let name = here!("foreign_faults_die_of_sigbus_behind_std_and_behind_the_default_and_when_ignored");
        if child::is(name) {
            let mut case = String::new();
            std::io::stdin().read_line(&mut case).unwrap();
            match case.trim_end() {
                "std" => {}
                "default" => host_handles(libc::SIG_DFL, 0),
                "ignored" => host_handles(libc::SIG_IGN, 0),
                case => panic!("{case}"),
            }
            assert!(loses_its_own());
            if case.trim_end() == "ignored" {
                nix::sys::signal::raise(Signal::SIGBUS).unwrap();
                assert!(loses_its_own());
            }
            println!("\nso far so good");
            read(foreign());
            println!("survived");
            std::process::exit(child::DONE);
        }
        for case in ["std", "default", "ignored"] {
            let mut child = child::spawn(name);
            use std::io::Write;
            writeln!(child.stdin.as_mut().unwrap(), "{case}").unwrap();
            let (status, said) = child::wait(child);
            assert_eq!(died_of(status), Some(Signal::SIGBUS), "{case}: {said}");
            assert!(said.contains("so far so good") && !said.contains("survived"), "{case}: {said}");
        }
    }

    #[test]
    fn a_sent_sigbus_acts_as_without_us_and_does_not_take_the_guard_away() {
        let name = here!("a_sent_sigbus_acts_as_without_us_and_does_not_take_the_guard_away");
        let (status, said) = child::run(name, || {
            assert!(loses_its_own());
            // std's handler, behind us, swallows the first that has no guard page's address, and resets itself.
            nix::sys::signal::raise(Signal::SIGBUS).unwrap();
            assert!(is_installed() && loses_its_own());
            println!("\nso far so good");
            nix::sys::signal::raise(Signal::SIGBUS).unwrap();
            println!("survived");
        });
        assert_eq!(died_of(status), Some(Signal::SIGBUS), "{said}");
        assert!(said.contains("so far so good") && !said.contains("survived"), "{said}");
    }

    #[test]
    fn a_host_that_comes_later_is_seen() {
        let (status, said) = child::run(here!("a_host_that_comes_later_is_seen"), || {
            assert!(!is_installed());
            install().unwrap();
            assert!(is_installed());
            host_handles(counts as *const () as usize, 0);
            assert!(!is_installed());
            install().unwrap();
            assert!(!is_installed(), "it isn't fought");
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }

    #[test]
    fn the_registry_grows_and_its_entries_are_used_again() {
        let name = here!("the_registry_grows_and_its_entries_are_used_again");
        let (status, said) = child::run(name, || {
            let file = file(1);
            for _ in 0..2 {
                let mut all: Vec<_> = (0..2 * BLOCK + 7).map(|_| guarded(&file, 1)).collect();
                assert_eq!(entries().count(), 3 * BLOCK);
                file.set_len(0).unwrap();
                for mapping in &all[BLOCK - 1..] {
                    assert!(!mapping.poisoned());
                    mapping.word(0).store(1, Ordering::Relaxed);
                    assert!(mapping.poisoned());
                }
                assert!(!all[0].poisoned(), "only what was touched");
                all.truncate(3);
                reserve(&file, page_size() as u64).unwrap();
            }
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }

    /// Threads map, use, lose and unmap, all the time and all at once, while others map plain memory that may land where
    /// a segment just was: it must never be replaced by a handler that comes late.
    #[test]
    fn a_storm_of_truncations_and_unmappings_kills_nobody_and_hits_nobody_else() {
        let name = here!("a_storm_of_truncations_and_unmappings_kills_nobody_and_hits_nobody_else");
        let (status, said) = child::run(name, || {
            let pages = 8;
            let stop = AtomicBool::new(false);
            let poisonings = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let file = file(pages);
                            let mapping = guarded(&file, pages);
                            // Several threads fault at once on one mapping.
                            std::thread::scope(|inner| {
                                for thread in 0..3 {
                                    let mapping = &mapping;
                                    inner.spawn(move || {
                                        for round in 0..64 {
                                            let page = (round * 3 + thread) % pages;
                                            let word = mapping.word(page * page_size());
                                            word.store(round as u32, Ordering::Relaxed);
                                            black_box(word.load(Ordering::Relaxed));
                                        }
                                    });
                                }
                                inner.spawn(|| file.set_len(0).unwrap());
                            });
                            poisonings.fetch_add(mapping.poisoned().into(), Ordering::Relaxed);
                        }
                    });
                }
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let mut plain = memmap2::MmapMut::map_anon(pages * page_size()).unwrap();
                            plain.fill(0xa5);
                            std::thread::yield_now();
                            assert!(plain.iter().all(|byte| *byte == 0xa5), "somebody replaced plain memory");
                        }
                    });
                }
                std::thread::sleep(std::time::Duration::from_secs(2));
                stop.store(true, Ordering::Relaxed);
            });
            println!("\n{} poisonings", poisonings.load(Ordering::Relaxed));
            assert!(poisonings.load(Ordering::Relaxed) > 10, "inconclusive");
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
    }

    /// Forces the race that the counts are for: a handler is in flight when the mapping is dropped.
    #[test]
    fn dropping_waits_for_a_handler_in_flight() {
        let file = file(1);
        let mapping = guarded(&file, 1);
        let start = mapping.base().addr();
        let entry = entries().find(|entry| entry.covers(start) && entry.state.load(Ordering::Relaxed) == LIVE).unwrap();
        entry.in_flight.fetch_add(1, Ordering::SeqCst);
        let dropper = std::thread::spawn(move || drop(mapping));
        let begun = std::time::Instant::now();
        while entry.state.load(Ordering::SeqCst) == LIVE && begun.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        let waits = !dropper.is_finished();
        let cured = waits && entry.cure(start);
        entry.in_flight.fetch_sub(1, Ordering::SeqCst);
        dropper.join().unwrap();
        assert!(waits, "unmapped under a handler");
        assert!(!cured, "a handler that comes now keeps its hands off");
    }

    /// A store into a hole of a full tmpfs. Needs the right to mount one; without it, nothing is shown.
    #[test]
    fn a_full_tmpfs_poisons() {
        let (status, said) = child::run(here!("a_full_tmpfs_poisons"), || {
            use rustix::thread::UnshareFlags;
            let dir = tempfile::tempdir().unwrap();
            let target = std::ffi::CString::new(dir.path().to_str().unwrap()).unwrap();
            // SAFETY: no descriptor table is unshared, so no descriptor changes its meaning.
            if let Err(errno) = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) } {
                println!("\nskipped: {errno}");
                return;
            }
            let mount = |source: &core::ffi::CStr, target: &core::ffi::CStr, flags, data: *const c_void| {
                // SAFETY: all strings end in a zero byte.
                let answer = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), flags, data) };
                Errno::result(answer).unwrap();
            };
            mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, ptr::null());
            mount(c"tmpfs", &target, 0, c"size=64k".as_ptr().cast());
            let page = page_size();
            let make = |name| {
                let path = dir.path().join(name);
                File::options().read(true).write(true).create_new(true).open(path).unwrap()
            };
            let holes = make("holes");
            holes.set_len(page as u64).unwrap();
            let mapping = guarded(&holes, 1);
            let filler = make("filler");
            // All that there is.
            reserve(&filler, 64 << 10).unwrap();
            let late = reserve(&make("late"), page as u64).unwrap_err();
            println!("\n{late}");
            mapping.word(0).store(1, Ordering::Relaxed);
            assert!(mapping.poisoned());
        });
        assert_eq!(status.code(), Some(child::DONE), "{said}");
        assert!(said.contains("skipped") || said.contains("no room for 4096 bytes"), "{said}");
    }
}
