//! A thread's registers and the breakpoint instruction: all that differs between the architectures.

use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::error::{EngineError, Result};
use super::memory::Memory;

/// General registers of a stopped thread.
#[derive(Debug, Clone, Copy)]
pub struct Regs(libc::user_regs_struct);

impl Regs {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`] if the thread isn't stopped under this tracer any more.
    pub fn read(tid: i32) -> Result<Regs> {
        ptrace::getregs(Pid::from_raw(tid)).map(Regs).map_err(EngineError::system("PTRACE_GETREGS", tid))
    }

    /// Writes them back. Go through [`super::Tracer::set_regs`] unless the thread is yours alone.
    ///
    /// # Errors
    ///
    /// As [`Regs::read`].
    pub fn write(&self, tid: i32) -> Result<()> {
        ptrace::setregs(Pid::from_raw(tid), self.0).map_err(EngineError::system("PTRACE_SETREGS", tid))
    }

    /// Whether the thread stands after a system call that the kernel is about to make again (`ERESTARTSYS` and its kin,
    /// which programs never see).
    pub(crate) fn restarts(&self) -> bool {
        self.in_system_call() && (-516..=-512).contains(&(self.result() as i64))
    }

    /// All registers as the kernel gives them.
    #[must_use]
    pub fn raw(&self) -> &libc::user_regs_struct {
        &self.0
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{Memory, Regs, Result};

    /// `syscall`.
    pub(crate) const SYSTEM_CALL: &[u8] = &[0x0f, 0x05];
    /// `int3`.
    pub(crate) const BREAK: &[u8] = &[0xcc];
    /// How far past the breakpoint the program counter stands when it has hit.
    pub(crate) const REWIND: u64 = 1;
    /// `si_code` of a breakpoint: SI_KERNEL on x86.
    pub(crate) const BREAK_CODE: i32 = 0x80;

    impl Regs {
        /// Program counter.
        #[must_use]
        pub fn pc(&self) -> u64 {
            self.0.rip
        }

        /// Moves the program counter.
        pub fn set_pc(&mut self, pc: u64) {
            self.0.rip = pc;
        }

        /// Stack pointer.
        #[must_use]
        pub fn sp(&self) -> u64 {
            self.0.rsp
        }

        /// Integer argument `n` (0..=5) of the function that was just entered.
        #[must_use]
        pub fn argument(&self, n: usize) -> u64 {
            [self.0.rdi, self.0.rsi, self.0.rdx, self.0.rcx, self.0.r8, self.0.r9][n]
        }

        /// What the function that just returned answered.
        #[must_use]
        pub fn result(&self) -> u64 {
            self.0.rax
        }

        /// Moves the thread out of the function that was just entered, as if it had answered `result`. `ret`: where that
        /// returns to.
        pub(crate) fn answer(&mut self, ret: u64, result: u64) {
            self.0.rip = ret;
            self.0.rsp += 8;
            self.0.rax = result;
        }

        pub(super) fn in_system_call(&self) -> bool {
            self.0.orig_rax as i64 >= 0
        }

        /// Number of the system call that the thread is about to make.
        pub(crate) fn call_number(&self) -> u64 {
            self.0.rax
        }

        /// Argument `n` (0..=5) of the system call that the thread is about to make.
        pub(crate) fn call_argument(&self, n: usize) -> u64 {
            [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9][n]
        }

        /// Moves the thread past the system call that it is about to make, as if the kernel had answered `errno`.
        pub(crate) fn deny(&mut self, errno: i32) {
            self.0.rip += SYSTEM_CALL.len() as u64;
            self.0.rax = i64::from(-errno) as u64;
        }

        /// Where the function that was just entered will return to.
        pub(crate) fn return_address(&self, memory: &Memory) -> Result<u64> {
            memory.read_u64(self.0.rsp)
        }
    }

    /// Whether `sp` at the return address is the return of the call that was entered with `entry_sp`.
    pub(crate) fn unwound(entry_sp: u64, sp: u64) -> bool {
        sp > entry_sp
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::{Memory, Regs, Result};

    /// `svc #0`.
    pub(crate) const SYSTEM_CALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];
    /// `brk #0`.
    pub(crate) const BREAK: &[u8] = &[0x00, 0x00, 0x20, 0xd4];
    /// The program counter stands on the breakpoint when it has hit.
    pub(crate) const REWIND: u64 = 0;
    /// `si_code` of a breakpoint: TRAP_BRKPT.
    pub(crate) const BREAK_CODE: i32 = 1;

    impl Regs {
        /// Program counter.
        #[must_use]
        pub fn pc(&self) -> u64 {
            self.0.pc
        }

        /// Moves the program counter.
        pub fn set_pc(&mut self, pc: u64) {
            self.0.pc = pc;
        }

        /// Stack pointer.
        #[must_use]
        pub fn sp(&self) -> u64 {
            self.0.sp
        }

        /// Integer argument `n` (0..=7) of the function that was just entered.
        #[must_use]
        pub fn argument(&self, n: usize) -> u64 {
            self.0.regs[n]
        }

        /// What the function that just returned answered.
        #[must_use]
        pub fn result(&self) -> u64 {
            self.0.regs[0]
        }

        /// Moves the thread out of the function that was just entered, as if it had answered `result`. `ret`: where that
        /// returns to.
        pub(crate) fn answer(&mut self, ret: u64, result: u64) {
            self.0.pc = ret;
            self.0.regs[0] = result;
        }

        /// The call's number isn't among these registers: the result alone must do.
        #[allow(clippy::unused_self)]
        pub(super) fn in_system_call(&self) -> bool {
            true
        }

        /// Number of the system call that the thread is about to make.
        pub(crate) fn call_number(&self) -> u64 {
            self.0.regs[8]
        }

        /// Argument `n` (0..=5) of the system call that the thread is about to make.
        pub(crate) fn call_argument(&self, n: usize) -> u64 {
            self.0.regs[n]
        }

        /// Moves the thread past the system call that it is about to make, as if the kernel had answered `errno`.
        pub(crate) fn deny(&mut self, errno: i32) {
            self.0.pc += SYSTEM_CALL.len() as u64;
            self.0.regs[0] = i64::from(-errno) as u64;
        }

        /// Where the function that was just entered will return to: the link register.
        pub(crate) fn return_address(&self, _: &Memory) -> Result<u64> {
            Ok(self.0.regs[30])
        }
    }

    /// Whether `sp` at the return address is the return of the call that was entered with `entry_sp`.
    pub(crate) fn unwound(entry_sp: u64, sp: u64) -> bool {
        sp >= entry_sp
    }
}

pub(crate) use arch::{BREAK, BREAK_CODE, REWIND, SYSTEM_CALL, unwound};
