//! A warm process that forks workers on request, so that a new worker costs a `clone`, not an `exec`.
//!
//! The template is the program itself, started again with arguments that lead to [`serve`]. It keeps one thread,
//! reads requests from a socket that it finds as its standard input, and clones itself with `CLONE_PARENT`: each
//! worker is the controlling *thread's* own child, which that thread can wait for and trace. All workers of one
//! template have one address layout: an address that was found in one holds in all.
//!
//! A worker waits behind its [`Gate`] until the controller has attached and put its breakpoints in place; a gate that
//! is dropped unopened ends the worker. Template and workers die (`PR_SET_PDEATHSIG`) with the thread that started
//! the template.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use nix::sys::personality::{self, Persona};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer};
use rustix::net::{SendAncillaryMessage, SendFlags, SocketFlags, SocketType};

use super::affinity;
use super::error::{EngineError, Result};
use super::sys;

/// Set in the environment of a template: the controller's pid, and whether to serve for ever or once.
const ROLE: &str = "RINGWARD_CHAOS_TEMPLATE";
/// A worker whose gate was dropped, or whose controller is gone, exits with this code.
pub const EXIT_UNWANTED: i32 = 125;
/// A worker that panicked exits with this code, as Rust programs do.
pub const EXIT_PANIC: i32 = 101;

/// After this long without an answer a template counts as broken.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const MAX_FDS: usize = 64;
const MAX_REQUEST: usize = 64 << 10;

/// How to start a template.
#[derive(Debug, Clone)]
pub struct TemplateConfig {
    /// The program; [`serve`] must be reached with `args`.
    pub exe: PathBuf,
    /// Its arguments: the hidden subcommand.
    pub args: Vec<OsString>,
    /// More environment.
    pub env: Vec<(OsString, OsString)>,
    /// Cores for the template and, unless they choose others, its workers; empty: those of the caller.
    pub cores: Vec<usize>,
    /// Keep address space randomisation. Without it (the default, where the kernel permits), two templates of one
    /// build have the same layout, too, which replays need.
    pub randomize: bool,
    /// Start with no environment but `env`: how much there is moves the stack, and with it which way a copy takes.
    pub bare: bool,
    /// Send what template and workers print to /dev/null.
    pub quiet: bool,
}

impl TemplateConfig {
    /// The running program, with `args`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if /proc/self/exe can't be read.
    pub fn this_program<I: Into<OsString>>(args: impl IntoIterator<Item = I>) -> Result<TemplateConfig> {
        let exe = std::env::current_exe().map_err(EngineError::io("current_exe"))?;
        let args = args.into_iter().map(Into::into).collect();
        Ok(TemplateConfig {
            exe,
            args,
            env: Vec::new(),
            cores: Vec::new(),
            randomize: false,
            bare: false,
            quiet: false,
        })
    }

    /// Starts a process with a socket as its standard input.
    fn launch(&self, mode: &str) -> Result<(i32, OwnedFd)> {
        let (ours, theirs) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| EngineError::io("socketpair")(errno.into()))?;
        net::sockopt::set_socket_timeout(&ours, net::sockopt::Timeout::Recv, Some(ANSWER_LIMIT))
            .map_err(|errno| EngineError::io("SO_RCVTIMEO")(errno.into()))?;
        let mut command = Command::new(&self.exe);
        if self.bare {
            command.env_clear();
        }
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        // Of one length, whatever the pid: what lies above the stack has a say in where the stack begins.
        command.env(ROLE, format!("{:010}:{mode}", std::process::id())).stdin(theirs);
        if self.quiet {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // Both are the calling thread's, and inherited: set for the start, then put back.
        let cores = affinity::cores(0)?;
        let persona = personality::get().map_err(EngineError::system("personality", 0))?;
        if !self.cores.is_empty() {
            affinity::pin(0, &self.cores)?;
        }
        if !self.randomize {
            let _ = personality::set(persona | Persona::ADDR_NO_RANDOMIZE);
        }
        let child = command.spawn();
        let _ = personality::set(persona);
        if !self.cores.is_empty() {
            affinity::pin(0, &cores)?;
        }
        // Dropping the `Child` leaves the process alone; it is waited for by pid.
        Ok((child.map_err(EngineError::io(self.exe.display().to_string()))?.id() as i32, ours))
    }
}

/// What a worker gets: words and open files.
#[derive(Debug, Default, Clone)]
pub struct Request<'a> {
    /// The words.
    pub args: Vec<&'a OsStr>,
    /// Descriptors, duplicated into the worker (close-on-exec there), at most 60.
    pub fds: Vec<BorrowedFd<'a>>,
}

/// What [`serve`] hands to the worker's main function.
#[derive(Debug)]
pub struct Job {
    /// The request's words.
    pub args: Vec<OsString>,
    /// The request's descriptors, in order.
    pub fds: Vec<OwnedFd>,
}

/// A worker, waiting behind its gate.
#[derive(Debug)]
pub struct Spawned {
    /// The worker.
    pub pid: i32,
    /// Open it to let the worker begin.
    pub gate: Gate,
}

/// Holds a worker back before its main function. Dropped unopened, it ends the worker.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Gate {
    /// Lets the worker begin. If it is dead already, nothing happens.
    pub fn open(self) {
        let _ = File::from(self.0).write_all(&[1]);
    }
}

/// A running template. Dropping it ends the template, not its workers.
#[derive(Debug)]
pub struct Template {
    config: TemplateConfig,
    pid: i32,
    socket: OwnedFd,
    /// Somebody has been asked for who has not come yet.
    asked: Cell<bool>,
}

impl Template {
    /// Starts a template. Call it from the thread that will trace the workers: they will be that thread's children, and
    /// die with it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if the program can't be started.
    pub fn start(config: TemplateConfig) -> Result<Template> {
        let (pid, socket) = config.launch("serve")?;
        Ok(Template { config, pid, socket, asked: Cell::new(false) })
    }

    /// The template's own pid. Don't trace it: its children would be stopped in mid-air.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Forks a worker from the template.
    ///
    /// # Errors
    ///
    /// [`EngineError::Template`] if the template is gone or could not fork.
    pub fn spawn(&self, request: &Request<'_>) -> Result<Spawned> {
        let gate = self.ask(request)?;
        let pid = self.answer(true)?.ok_or_else(|| EngineError::Template("no answer".into()))?;
        Ok(Spawned { pid, gate })
    }

    /// Asks for a worker, without waiting for it: [`Template::answer`] says who it is. One at a time: workers announce
    /// themselves, and of two the later may be quicker.
    ///
    /// # Errors
    ///
    /// [`EngineError::Template`] if the template is gone, or somebody is under way.
    pub fn ask(&self, request: &Request<'_>) -> Result<Gate> {
        if self.asked.replace(true) {
            return Err(EngineError::Template("asked for two workers at once".into()));
        }
        post(&self.socket, request)
    }

    /// The worker that was asked for; `None` if it is not there yet and `wait` is false.
    ///
    /// # Errors
    ///
    /// [`EngineError::Template`] if the template is gone or could not fork.
    pub fn answer(&self, wait: bool) -> Result<Option<i32>> {
        let mut reply = [0; 4];
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let got = match rustix::io::retry_on_intr(|| net::recv(&self.socket, &mut reply, flags)) {
            Ok((got, _)) => got,
            Err(rustix::io::Errno::AGAIN) if !wait => return Ok(None),
            Err(errno) => return Err(EngineError::Template(format!("no answer: {errno}"))),
        };
        self.asked.set(false);
        match i32::from_ne_bytes(reply) {
            pid if got == 4 && pid > 0 => Ok(Some(pid)),
            errno if got == 4 => Err(EngineError::Template(format!("clone: {}", io::Error::from_raw_os_error(-errno)))),
            _ => Err(EngineError::Template("gone".into())),
        }
    }

    /// Starts a worker the long way: fork, exec, the same main function. It has an address layout of its own if the
    /// template's is randomised.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`], [`EngineError::Template`].
    pub fn spawn_exec(&self, request: &Request<'_>) -> Result<Spawned> {
        spawn_exec(&self.config, request)
    }
}

/// [`Template::spawn_exec`] without a template.
///
/// # Errors
///
/// [`EngineError::Io`], [`EngineError::Template`].
pub fn spawn_exec(config: &TemplateConfig, request: &Request<'_>) -> Result<Spawned> {
    let (pid, socket) = config.launch("once")?;
    Ok(Spawned { pid, gate: post(&socket, request)? })
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        // Reaped by the tracer in between: ECHILD.
        while sys::wait_once(self.pid, true) == Err(nix::errno::Errno::EINTR) {}
    }
}

/// Sends a request, with the reading end of a new gate as its first descriptor.
fn post(socket: &OwnedFd, request: &Request<'_>) -> Result<Gate> {
    let (theirs, ours) = io::pipe().map_err(EngineError::io("pipe"))?;
    let mut bytes = Vec::with_capacity(64);
    for arg in &request.args {
        bytes.extend_from_slice(&(arg.len() as u32).to_le_bytes());
        bytes.extend_from_slice(arg.as_bytes());
    }
    bytes.push(0);
    if bytes.len() > MAX_REQUEST || request.fds.len() + 4 > MAX_FDS {
        return Err(EngineError::Template("request too large".into()));
    }
    let mut fds = vec![theirs.as_fd()];
    fds.extend_from_slice(&request.fds);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(EngineError::Template("too many descriptors".into()));
    }
    let iov = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| net::sendmsg(socket, &iov, &mut ancillary, SendFlags::NOSIGNAL))
        .map_err(|errno| EngineError::Template(format!("request not sent: {errno}")))?;
    Ok(Gate(ours.into()))
}

/// Takes the next request: its gate and its job. `None`: the controller is gone.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(OwnedFd, Job)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut iov = [IoSliceMut::new(buffer)];
        match net::recvmsg(socket, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got == 0 || fds.is_empty() {
        return None;
    }
    let gate = fds.remove(0);
    let mut args = Vec::new();
    let mut rest = &buffer[..got];
    while let Some((len, more)) = rest.split_first_chunk::<4>() {
        let Some((arg, more)) = more.split_at_checked(u32::from_le_bytes(*len) as usize) else { break };
        args.push(OsString::from_vec(arg.to_vec()));
        rest = more;
    }
    Some((gate, Job { args, fds }))
}

/// Whether this process was started as a template (or as a single worker): then call [`serve`], first thing. Programs
/// that workers start inherit the environment, but have another parent.
#[must_use]
pub fn is_template() -> bool {
    let role = std::env::var(ROLE).unwrap_or_default();
    role.split_once(':').and_then(|(pid, _)| pid.parse().ok()) == Some(getppid().as_raw())
}

/// The template's side: forks a worker for each request, which runs `main` and exits with what that returns. Call it
/// before the process has started a thread or drawn a random number that workers shouldn't share. What it holds open,
/// maps and has touched, workers inherit: warm up before.
pub fn serve(main: impl Fn(Job) -> i32) -> ! {
    let role = std::env::var(ROLE).unwrap_or_default();
    let Some((controller, mode)) = role.split_once(':') else { fail("not started by a controller") };
    let Ok(controller) = controller.parse::<i32>() else { fail("malformed role") };
    stay_with(controller);
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { fail("no socket") };
    let Ok(null) = File::open("/dev/null") else { fail("no /dev/null") };
    if rustix::stdio::dup2_stdin(&null).is_err() {
        fail("can't replace the standard input");
    }
    drop(null);
    let mut buffer = vec![0; MAX_REQUEST];
    loop {
        let Some((gate, job)) = receive(&socket, &mut buffer) else { exit(0) };
        if mode == "once" {
            drop(socket);
            work(gate, job, &main);
        }
        let reply = match sys::clone_sibling() {
            Ok(None) => {
                stay_with(controller);
                // The worker answers itself, so that none is known whose life isn't tied to the controller's yet.
                let sent = net::send(&socket, &getpid().as_raw().to_ne_bytes(), SendFlags::NOSIGNAL);
                drop(socket);
                if sent.is_err() {
                    exit(EXIT_UNWANTED);
                }
                work(gate, job, &main);
            }
            Ok(Some(_)) => None,
            Err(errno) => Some(-(errno as i32)),
        };
        drop((gate, job));
        let Some(reply) = reply else { continue };
        if net::send(&socket, &reply.to_ne_bytes(), SendFlags::NOSIGNAL).is_err() {
            exit(0);
        }
    }
}

fn work(gate: OwnedFd, job: Job, main: &impl Fn(Job) -> i32) -> ! {
    let opened = File::from(gate).read_exact(&mut [0]).is_ok();
    if !opened {
        exit(EXIT_UNWANTED);
    }
    exit(catch_unwind(AssertUnwindSafe(|| main(job))).unwrap_or(EXIT_PANIC))
}

/// Dies with the controller's thread; the parent is compared after the wish is registered, so no death falls between.
fn stay_with(controller: i32) {
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid().as_raw() != controller {
        exit(EXIT_UNWANTED);
    }
}

fn fail(why: &str) -> ! {
    eprintln!("chaos: template: {why}");
    exit(2)
}
