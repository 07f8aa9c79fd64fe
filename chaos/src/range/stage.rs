//! One trial's channel and its processes: started, watched, stopped, struck, sent home.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine::{self, EngineError, Request, Template, proc};
use crate::faults::Setup;
use crate::ledger::{self, Entry, Kind, Scroll, now};
use crate::plan::Trial;
use crate::range::actor::{self, Orders, Part};
use crate::range::anatomy::Anatomy;
use crate::verdict::Broken;

/// Nothing in a trial takes longer, however busy the machine is: beyond it, somebody hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// Bytes and inodes of a small file system.
const SMALL: u64 = 4 << 20;
const FEW: u64 = 64;
/// Processes that are started anew in one trial, at most.
const MOST_REPLACED: u32 = 60;

/// A process of the trial.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) pid: i32,
    pub(crate) id: u32,
    pub(crate) part: Part,
    pub(crate) place: u32,
    pub(crate) alive: bool,
    /// Stopped by us.
    pub(crate) stopped: bool,
    /// Is replaced when it dies.
    pub(crate) wanted: bool,
    /// Signals that may end it.
    expected: Vec<i32>,
}

/// The stage of one trial.
pub(crate) struct Stage<'a> {
    template: &'a Template,
    pub(crate) trial: &'a Trial,
    setup: Setup,
    /// The trial's own directory.
    pub(crate) root: PathBuf,
    ledger: Option<OwnedFd>,
    scroll: Scroll,
    control: File,
    notes: File,
    pub(crate) actors: Vec<Actor>,
    pub(crate) entries: Vec<Entry>,
    /// What is broken, seen from outside of the ledger.
    pub(crate) broken: Vec<(Broken, String)>,
    /// Pids that are to be killed at the end: children of writers.
    strays: Vec<i32>,
    next_id: u32,
    replaced: u32,
    /// Who dies is replaced.
    replacing: bool,
    /// Who died meanwhile.
    vacant: Vec<(Part, u32)>,
    /// Whether the root is a file system of its own, if that was asked for; else why not.
    small: Option<Result<(), String>>,
}

impl<'a> Stage<'a> {
    /// Sets the stage and starts everybody.
    pub(crate) fn start(
        template: &'a Template,
        trial: &'a Trial,
        setup: Setup,
        root: PathBuf,
    ) -> Result<Stage<'a>, Box<dyn std::error::Error>> {
        std::fs::create_dir(&root)?;
        let small = if setup.small { Some(mount_small(&root)) } else { None };
        let (read, write) = ledger::open()?;
        let memory = rustix::fs::memfd_create("chaos-control", rustix::fs::MemfdFlags::CLOEXEC)?;
        let control = File::from(memory);
        control.write_all_at(&[0; actor::CONTROL_LEN], 0)?;
        let notes = File::options().read(true).append(true).create_new(true).open(root.join("notes"))?;
        let mut stage = Stage {
            template,
            trial,
            setup,
            root,
            ledger: Some(write),
            scroll: Scroll::new(read),
            control,
            notes,
            actors: Vec::new(),
            entries: Vec::new(),
            broken: Vec::new(),
            strays: Vec::new(),
            next_id: 1,
            replaced: 0,
            replacing: true,
            vacant: Vec::new(),
            small,
        };
        for _ in 0..=trial.standbys {
            stage.spawn(Part::Writer, 0)?;
        }
        for place in 0..trial.readers {
            stage.spawn(if place % 2 == 0 { Part::Durable } else { Part::Ephemeral }, place)?;
        }
        if trial.watchdog {
            stage.spawn(Part::Watchdog, 0)?;
        }
        Ok(stage)
    }

    /// Starts a process; returns its index.
    pub(crate) fn spawn(&mut self, part: Part, place: u32) -> Result<usize, EngineError> {
        self.spawn_with(part, place, (0, 0))
    }

    /// Starts a writer or standby to whom system call `call` always says `errno`.
    pub(crate) fn spawn_denied(&mut self, call: u32, errno: u32) -> Result<usize, EngineError> {
        self.spawn_with(Part::Writer, 0, (call, errno))
    }

    fn spawn_with(&mut self, part: Part, place: u32, deny: (u32, u32)) -> Result<usize, EngineError> {
        let Some(ledger) = &self.ledger else { return Err(EngineError::Template("the ledger is closed".into())) };
        let id = self.next_id;
        self.next_id += 1;
        let orders = Orders {
            part,
            id,
            place,
            seed: self.trial.seed,
            capacity: self.trial.capacity,
            beats: self.setup.beats,
            supersede: self.setup.supersede,
            apart: self.setup.apart && part == Part::Writer,
            deny,
            root: self.root.clone(),
        };
        let words = orders.to_words();
        let fds = vec![ledger.as_fd(), self.control.as_fd(), self.notes.as_fd()];
        let request = Request { args: words.iter().map(|word| word.as_os_str()).collect(), fds };
        let spawned = self.template.spawn(&request)?;
        let pid = spawned.pid;
        spawned.gate.open();
        let actor = Actor { pid, id, part, place, alive: true, stopped: false, wanted: true, expected: Vec::new() };
        self.actors.push(actor);
        Ok(self.actors.len() - 1)
    }

    pub(crate) fn tell(&self, at: u64, what: u8) {
        let _ = self.control.write_all_at(&[what], at);
    }

    /// Reads what there is in the ledger, waiting a little; looks who has died; replaces them.
    pub(crate) fn pump(&mut self, wait: Duration) {
        let entries = &mut self.entries;
        let _ = self.scroll.read(wait.as_millis() as i64, |entry| entries.push(entry));
        self.reap();
    }

    /// Puts a death behind all that the dead one had said. Not through the ledger's pipe: it may be full, and only this thread empties it.
    fn book_death(&mut self, id: u32) {
        let mut said = self.scroll.waiting();
        while said > 0 {
            let before = self.entries.len();
            let entries = &mut self.entries;
            if !self.scroll.read(0, |entry| entries.push(entry)).unwrap_or(false) || self.entries.len() == before {
                break;
            }
            said = said.saturating_sub(self.entries.len() - before);
        }
        let mut died = Entry::new(Kind::Died, 0, id);
        died.ns = now();
        self.entries.push(died);
    }

    fn reap(&mut self) {
        for at in 0..self.actors.len() {
            if !self.actors[at].alive {
                continue;
            }
            let Ok(Some(end)) = engine::ended(self.actors[at].pid) else { continue };
            let actor = &mut self.actors[at];
            actor.alive = false;
            let (id, part, place) = (actor.id, actor.part, actor.place);
            let fine = match end {
                engine::End::Exited(code) => code == 0,
                engine::End::Killed(signal) => actor.expected.contains(&signal),
            };
            if !fine {
                let notes = self.notes_tail();
                let what = format!("actor {id} ({part:?}) ended with {end:?}, which nobody brought about\n{notes}");
                self.broken.push((Broken::Failed, what));
            }
            self.book_death(id);
            let home = end == engine::End::Exited(0) || !self.actors[at].wanted;
            if !home && !self.replacing {
                self.vacant.push((part, place));
            } else if !home && self.replaced < MOST_REPLACED {
                self.replaced += 1;
                if self.spawn(part, place).is_err() {
                    self.broken.push((Broken::Failed, "a process could not be started".into()));
                }
            } else if !home && self.replaced == MOST_REPLACED {
                self.replaced += 1;
                self.broken.push((Broken::Hang, format!("{MOST_REPLACED} processes died one after the other")));
            }
        }
    }

    /// Goes on until `done`, at most for `limit`; whether it came to that.
    pub(crate) fn until(&mut self, limit: Duration, mut done: impl FnMut(&Stage<'a>) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if done(self) {
                return true;
            }
            if begun.elapsed() > limit {
                return false;
            }
            self.pump(Duration::from_millis(2));
        }
    }

    /// Lets everybody go on for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// Why a fault on a small file system can't be brought about; `None`: the stage is on one.
    pub(crate) fn not_small(&self) -> Option<String> {
        match &self.small {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
            None => Some("the trial is not on a small file system".into()),
        }
    }

    /// Errno with which a process was refused a pid namespace of its own.
    pub(crate) fn together(&self) -> Option<i32> {
        let told = |entry: &&Entry| entry.kind == Kind::Told && entry.code == actor::TOLD_TOGETHER;
        self.entries.iter().find(told).map(|entry| entry.nonce as i32)
    }

    pub(crate) fn acked(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind == Kind::Acked).count()
    }

    /// Goes on until `more` pushes were acknowledged.
    pub(crate) fn until_acked(&mut self, more: u32) -> bool {
        let target = self.acked() + more as usize;
        self.until(LIMIT, |stage| stage.acked() >= target)
    }

    fn actor_of(&self, id: u32) -> Option<usize> {
        self.actors.iter().position(|actor| actor.id == id)
    }

    /// The living process that was elected last.
    pub(crate) fn writer(&self) -> Option<usize> {
        let last = self.entries.iter().rev().find(|entry| entry.kind == Kind::Elected)?;
        self.actor_of(last.worker).filter(|at| self.actors[*at].alive)
    }

    /// Living processes of a part, the writer not counted.
    pub(crate) fn others(&self, part: Part) -> Vec<usize> {
        let writer = self.writer();
        let of_part = |at: &usize| self.actors[*at].part == part && self.actors[*at].alive && Some(*at) != writer;
        (0..self.actors.len()).filter(of_part).collect()
    }

    /// Sends a signal that may be the end of it.
    pub(crate) fn strike(&mut self, at: usize, signal: Signal) {
        self.actors[at].expected.push(signal as i32);
        if self.actors[at].alive {
            let _ = kill(Pid::from_raw(self.actors[at].pid), signal);
        }
    }

    /// Ends a process that nobody needs, and does not replace it.
    pub(crate) fn dismiss(&mut self, at: usize) {
        self.actors[at].wanted = false;
        self.strike(at, Signal::SIGKILL);
        self.until_dead(at);
    }

    /// Whether those who die are replaced; those who died meanwhile are when it is so again.
    pub(crate) fn replacing(&mut self, replacing: bool) {
        self.replacing = replacing;
        for (part, place) in if replacing { std::mem::take(&mut self.vacant) } else { Vec::new() } {
            self.replaced += 1;
            if self.spawn(part, place).is_err() {
                self.broken.push((Broken::Failed, "a process could not be started".into()));
            }
        }
    }

    /// That signal may end it.
    pub(crate) fn expect(&mut self, at: usize, signal: Signal) {
        self.actors[at].expected.push(signal as i32);
    }

    /// Waits until that process is gone.
    pub(crate) fn until_dead(&mut self, at: usize) -> bool {
        self.until(LIMIT, |stage| !stage.actors[at].alive)
    }

    /// Stops a process, and waits until all its threads stand still. `false`: it is dying.
    pub(crate) fn stop(&mut self, at: usize) -> bool {
        let pid = self.actors[at].pid;
        self.actors[at].stopped = true;
        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
        self.until(LIMIT, |stage| !stage.actors[at].alive || stands_still(pid)) && self.actors[at].alive
    }

    pub(crate) fn go_on(&mut self, at: usize) {
        self.actors[at].stopped = false;
        if self.actors[at].alive {
            let _ = kill(Pid::from_raw(self.actors[at].pid), Signal::SIGCONT);
        }
    }

    pub(crate) fn all_go_on(&mut self) {
        for at in 0..self.actors.len() {
            if self.actors[at].stopped {
                self.go_on(at);
            }
        }
    }

    pub(crate) fn channel_dir(&self) -> PathBuf {
        self.root.join(actor::NAMESPACE).join(actor::CHANNEL)
    }

    pub(crate) fn generation_path(&self, number: u64) -> PathBuf {
        self.channel_dir().join(format!("{number:08}.ring"))
    }

    /// The newest generation that has a name.
    pub(crate) fn newest(&self) -> Option<(u64, PathBuf)> {
        let entries = std::fs::read_dir(self.channel_dir()).ok()?;
        let numbers = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".ring")?.parse::<u64>().ok());
        let number = numbers.max()?;
        Some((number, self.generation_path(number)))
    }

    /// Opens the newest generation for mischief.
    pub(crate) fn open_newest(&self) -> std::io::Result<(u64, File)> {
        let (number, path) = self.newest().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        Ok((number, File::options().read(true).write(true).open(path)?))
    }

    /// Stops readers and watchdogs, lets the writer get `backlog` records ahead, stops it and the standbys, too: then
    /// everything stands still, and what is in the segment is known. `None`: it came to nothing, everybody goes on.
    pub(crate) fn freeze(&mut self, backlog: usize) -> Option<(File, Vec<u8>, Anatomy)> {
        let readers: Vec<usize> =
            [Part::Durable, Part::Ephemeral, Part::Watchdog].into_iter().flat_map(|part| self.others(part)).collect();
        let still = readers.into_iter().all(|at| self.stop(at));
        self.catch_up();
        // The ring may fill up before: then that is all there is.
        let target = self.acked() + backlog;
        let refused = self.refused();
        let ahead = self.until(LIMIT, |stage| stage.acked() >= target || stage.refused() > refused);
        let writers: Vec<usize> = self.others(Part::Writer).into_iter().chain(self.writer()).collect();
        let still = still && ahead && writers.into_iter().all(|at| self.stop(at));
        self.catch_up();
        let frozen = still.then(|| self.look()).flatten();
        if frozen.is_none() {
            self.all_go_on();
        }
        frozen
    }

    /// Reads all that is in the ledger now.
    fn catch_up(&mut self) {
        let mut before = usize::MAX;
        while self.entries.len() != before {
            before = self.entries.len();
            self.pump(Duration::ZERO);
        }
    }

    /// Sequence number behind the last record that any reader has in hand.
    pub(crate) fn received(&self) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.kind == Kind::Record)
            .map(|entry| entry.sequence + 1)
            .max()
            .unwrap_or(0)
    }

    fn refused(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind == Kind::Refused).count()
    }

    fn look(&self) -> Option<(File, Vec<u8>, Anatomy)> {
        let (_, file) = self.open_newest().ok()?;
        let mut bytes = vec![0; file.metadata().ok()?.len() as usize];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let anatomy = Anatomy::of(&bytes)?;
        Some((file, bytes, anatomy))
    }

    /// A child that a writer left behind: killed at the end.
    pub(crate) fn strays(&mut self) -> usize {
        for entry in &self.entries {
            let pid = entry.nonce as i32;
            if entry.kind == Kind::Told && entry.code == actor::TOLD_CHILD && !self.strays.contains(&pid) {
                self.strays.push(pid);
            }
        }
        self.strays.len()
    }

    pub(crate) fn kill_strays(&mut self) {
        self.strays();
        for pid in self.strays.drain(..) {
            if pid > 1 {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// After a fault: somebody writes again, and what it wrote since is in every reader's hands. Says who does not come along.
    pub(crate) fn converge(&mut self, since: u64) -> Result<(), String> {
        let fresh = |entry: &&Entry| entry.kind == Kind::Acked && entry.ns > since;
        if !self.until(LIMIT, |stage| stage.entries.iter().filter(fresh).count() >= 3) {
            return Err(format!("no push was acknowledged for {LIMIT:?}{}", self.standing()));
        }
        let places: Vec<(Part, u32)> = (0..self.trial.readers)
            .map(|place| (if place % 2 == 0 { Part::Durable } else { Part::Ephemeral }, place))
            .collect();
        let at = now();
        let came = self.until(LIMIT, |stage| {
            places.iter().all(|&(part, place)| {
                let ids: Vec<u32> =
                    stage.actors.iter().filter(|a| a.part == part && a.place == place).map(|a| a.id).collect();
                stage.entries.iter().any(|e| e.kind == Kind::Record && e.ns > at && ids.contains(&e.worker))
            })
        });
        if came { Ok(()) } else { Err(format!("a reader got nothing for {LIMIT:?}{}", self.standing())) }
    }

    /// Whoever writes has a segment that has a name, and holds its lock.
    pub(crate) fn named_and_locked(&mut self) -> Result<(), String> {
        let check = |stage: &Stage<'a>| -> Result<(), String> {
            let (number, path) = stage.newest().ok_or("the channel has no generation")?;
            let file = File::open(path).map_err(|error| error.to_string())?;
            match engine::locked(&file, 0) {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("nobody holds the writer's lock of the newest generation {number}")),
                Err(error) => Err(format!("the lock can't be asked for: {error}")),
            }
        };
        let mut last = Ok(());
        self.until(LIMIT, |stage| {
            last = check(stage);
            last.is_ok()
        });
        last
    }

    /// Everybody's state, for people.
    pub(crate) fn standing(&self) -> String {
        let mut text = String::new();
        for actor in self.actors.iter().filter(|actor| actor.alive) {
            text.push_str(&format!("\nactor {} ({:?}){}", actor.id, actor.part, crate::watch::stack(actor.pid)));
        }
        let names: Vec<String> = std::fs::read_dir(self.channel_dir())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        format!("{text}\nin the channel: {names:?}\n{}", self.notes_tail())
    }

    pub(crate) fn notes_tail(&self) -> String {
        let text = std::fs::read_to_string(self.root.join("notes")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Copies of all segments.
    pub(crate) fn images(&self) -> Vec<(String, Vec<u8>)> {
        let mut images: Vec<(String, Vec<u8>)> = std::fs::read_dir(self.channel_dir())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).ok()?)))
            .collect();
        images.sort();
        images.truncate(8);
        images
    }

    /// The writer closes, readers drain, all go home.
    pub(crate) fn close(&mut self) {
        self.all_go_on();
        self.tell(actor::TOLD_AT, actor::CLOSE);
        let reader = |actor: &Actor| matches!(actor.part, Part::Durable | Part::Ephemeral);
        let ended = self.until(LIMIT, |stage| stage.actors.iter().all(|actor| !reader(actor) || !actor.alive));
        if !ended {
            let what = format!("readers did not come to the end{}", self.standing());
            self.broken.push((Broken::Hang, what));
        }
        self.tell(actor::TOLD_AT, actor::HOME);
        if !self.until(LIMIT, |stage| stage.actors.iter().all(|actor| !actor.alive)) {
            let what = format!("somebody did not go home{}", self.standing());
            self.broken.push((Broken::Hang, what));
        }
        self.clear();
    }

    /// Ends whoever is left, and reads the ledger to its end.
    fn clear(&mut self) {
        self.kill_strays();
        for at in 0..self.actors.len() {
            if self.actors[at].alive {
                self.strike(at, Signal::SIGKILL);
            }
        }
        self.replaced = u32::MAX;
        self.until(LIMIT, |stage| stage.actors.iter().all(|actor| !actor.alive));
        self.ledger = None;
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let entries = &mut self.entries;
            if !self.scroll.read(100, |entry| entries.push(entry)).unwrap_or(false) {
                break;
            }
        }
    }

    /// Ends at once.
    pub(crate) fn abort(&mut self) {
        self.clear();
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if self.ledger.is_some() {
            self.clear();
        }
        if matches!(self.small, Some(Ok(()))) {
            let _ = umount2(&self.root, MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Mounts a tmpfs of [`SMALL`] bytes and [`FEW`] inodes.
fn mount_small(root: &Path) -> Result<(), String> {
    crate::range::mounts_are_ours()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("size={SMALL},nr_inodes={FEW},mode=0700");
    mount(Some("ringward-chaos"), root, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|errno| format!("mounting a tmpfs: {errno}"))
}

/// Whether all threads of a process are stopped.
fn stands_still(pid: i32) -> bool {
    let Ok(threads) = proc::threads(pid) else { return false };
    !threads.is_empty() && threads.iter().all(|tid| proc::state(*tid).is_ok_and(|state| state.is_stopped()))
}

/// Whether that path is below the root of a trial.
pub(crate) fn is_below(root: &Path, path: &Path) -> bool {
    path.starts_with(root)
}
