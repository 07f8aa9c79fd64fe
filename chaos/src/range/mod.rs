//! The range: beside the storm, or instead of it, one trial after the other on a small channel of its own, with its own
//! processes, ledger and judge, so that the judge knows what each fault may cost.
//!
//! ```text
//! plan ──trial──▶ trial ──▶ stage (processes: actor) ──faults──▶ segment, files, processes
//!                   │         └─entries─▶ oracle ──▶ what is broken
//!                   └──fates─▶ score
//! ```

pub(crate) mod actor;
pub(crate) mod anatomy;
mod oracle;
pub(crate) mod score;
pub(crate) mod stage;
pub(crate) mod trial;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::engine::{EngineError, Template, TemplateConfig, affinity};
use crate::faults::Class;
use crate::payload::HEAD;
use crate::plan::Trial;
use score::Score;

/// A trial takes less, whatever happens in it: each of its steps has [`stage::LIMIT`].
const STUCK: Duration = Duration::from_secs(400);

/// A trial that broke a promise.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) trial: Trial,
    pub(crate) result: trial::Result,
}

#[derive(Debug, Default)]
struct Shared {
    score: Score,
    findings: Vec<Finding>,
    error: Option<String>,
    done: bool,
    /// The trial that is on, and since when.
    on: Option<(u64, Instant)>,
}

/// The range, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Range {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

thread_local! {
    /// Why this thread's mounts are not its own.
    static MOUNTS: RefCell<Result<(), String>> = const { RefCell::new(Err(String::new())) };
}

/// Whether what this thread mounts is seen by it and its processes only, and gone with them; else why not.
pub(crate) fn mounts_are_ours() -> Result<(), String> {
    MOUNTS.with(|mounts| mounts.borrow().clone())
}

fn separate_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// A template of actors, for the calling thread, which gets mounts of its own where that is permitted.
pub(crate) fn template() -> Result<Template, EngineError> {
    MOUNTS.with(|mounts| {
        *mounts.borrow_mut() = separate_mounts().map_err(|errno| format!("mounts of one's own: {errno}"));
    });
    let mut config = TemplateConfig::this_program(["template"])?;
    config.cores = affinity::cores(0)?;
    // An actor that runs out of memory says so; nobody wants to read it.
    config.quiet = true;
    Template::start(config)
}

impl Range {
    /// Begins to perform trials in `root`; `score` is what earlier ones had come to.
    pub(crate) fn start(
        trials: impl Iterator<Item = Trial> + Send + 'static,
        root: PathBuf,
        plant: Option<&'static Class>,
        cores: Vec<usize>,
        score: Score,
    ) -> Range {
        let shared = Arc::new(Mutex::new(Shared { score, ..Shared::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, told_to) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let _ = affinity::pin(0, &cores);
            let failed = perform_all(trials, &root, plant, &told, &told_to).err();
            let mut shared = told.lock().unwrap_or_else(PoisonError::into_inner);
            shared.error = failed.map(|error| error.to_string());
            shared.done = true;
        });
        Range { shared, stop, thread: Some(thread) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all trials are over.
    pub(crate) fn is_done(&self) -> bool {
        self.shared().done || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// A trial that has not come to its end for so long that it never will.
    pub(crate) fn stuck(&self) -> Option<String> {
        let (number, since) = self.shared().on.filter(|(_, since)| since.elapsed() > STUCK)?;
        Some(format!("trial {number} of the range has not ended for {:?}", since.elapsed()))
    }

    pub(crate) fn score(&self) -> Score {
        self.shared().score.clone()
    }

    /// What has been found since the last call.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.shared().findings)
    }

    /// No further trial begins.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets the trial that is on come to its end, if it does; says what went wrong with the range itself.
    pub(crate) fn finish(&mut self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        if self.stuck().is_some() {
            // It goes with this process.
            self.thread = None;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Some("the range's thread panicked".into());
        }
        self.shared().error.take()
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn perform_all(
    trials: impl Iterator<Item = Trial>,
    root: &Path,
    plant: Option<&'static Class>,
    shared: &Mutex<Shared>,
    stop: &AtomicBool,
) -> Result<(), EngineError> {
    let template = template()?;
    for trial in trials {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        shared.lock().unwrap_or_else(PoisonError::into_inner).on = Some((trial.number, Instant::now()));
        let result = trial::perform(&template, &trial, root.join(format!("trial-{}", trial.number)), plant);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.on = None;
        shared.score.add(&result);
        if !result.broken.is_empty() {
            shared.findings.push(Finding { trial, result });
        }
    }
    Ok(())
}

/// An id such as `RW-RECV-GONE`, in the 20 bytes that an entry has to spare: without its first three letters.
pub(crate) fn pack_id(id: &str) -> (u64, [u8; HEAD]) {
    let mut bytes = [0; 8 + HEAD];
    let short = id.strip_prefix("RW-").unwrap_or(id).as_bytes();
    let len = short.len().min(bytes.len());
    bytes[..len].copy_from_slice(&short[..len]);
    let (nonce, head) = bytes.split_at(8);
    let mut first = [0; 8];
    first.copy_from_slice(nonce);
    let mut rest = [0; HEAD];
    rest.copy_from_slice(head);
    (u64::from_le_bytes(first), rest)
}

/// The id again.
pub(crate) fn unpack_id(nonce: u64, head: &[u8; HEAD]) -> String {
    let bytes: Vec<u8> = nonce.to_le_bytes().into_iter().chain(*head).take_while(|byte| *byte != 0).collect();
    format!("RW-{}", String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_both_ways() {
        for id in ["RW-RECV-GONE", "RW-OPEN-NOWRITER", "RW-?"] {
            let (nonce, head) = pack_id(id);
            assert_eq!(unpack_id(nonce, &head), id);
        }
    }
}
