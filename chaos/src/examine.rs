//! Looks at what dead writers left: their segments' bytes, read by the run's own decoder and held against the ledger.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::decode::{Castagnoli, Corpse, corpse};
use crate::judge::Judge;
use crate::namespace::Which;
use crate::verdict::Broken;

/// How long a dead writer's generation may stay without a successor while somebody stands by.
const PATIENCE: Duration = Duration::from_secs(10);
/// Segments that wait to be looked at; more are not looked at.
const WAITING: usize = 32;

/// The examining thread.
#[derive(Debug)]
pub(crate) struct Examiner {
    dir: PathBuf,
    queue: Option<SyncSender<(u64, File)>>,
    thread: Option<JoinHandle<()>>,
    examined: Arc<AtomicU64>,
    records: Arc<AtomicU64>,
}

impl Examiner {
    /// Begins; `dir` is the storm's directory.
    pub(crate) fn start(dir: PathBuf, judge: Judge) -> Examiner {
        let (queue, work) = sync_channel(WAITING);
        let (examined, records) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (examined, records) = (Arc::clone(&examined), Arc::clone(&records));
            std::thread::spawn(move || examine(&work, &judge, &examined, &records))
        };
        Examiner { dir, queue: Some(queue), thread: Some(thread), examined, records }
    }

    /// The writer of `generation` has been killed: keeps a hold of its segment, to look at it once it is followed.
    pub(crate) fn take(&self, generation: u64) {
        let Some(queue) = &self.queue else { return };
        if let Ok(file) = File::open(self.dir.join(format!("{generation:08}.ring"))) {
            let _ = queue.try_send((generation, file));
        }
    }

    /// Looks at what is still waiting, and ends.
    pub(crate) fn finish(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "examined": self.examined.load(Ordering::Relaxed), "records": self.records.load(Ordering::Relaxed) })
    }
}

fn examine(work: &Receiver<(u64, File)>, judge: &Judge, examined: &AtomicU64, records: &AtomicU64) {
    let crc = Castagnoli::new();
    while let Ok((generation, file)) = work.recv() {
        match followed(&file, &crc) {
            Ok(found) if found.generation != generation => {
                let what = format!("the file of generation {generation} is generation {}", found.generation);
                judge.flag(Broken::Owners, &what);
            }
            Ok(found) => {
                examined.fetch_add(1, Ordering::Relaxed);
                records.fetch_add(found.records.len() as u64, Ordering::Relaxed);
                judge.inspect(Which::Storm, &found);
            }
            Err(why) => {
                let kept =
                    keep(generation, &file).map_or(String::new(), |path| format!("; kept as {}", path.display()));
                judge.flag(Broken::Torn, &format!("image of generation {generation}: {why}{kept}"));
            }
        }
    }
}

/// The bytes once the generation is ended and followed.
fn followed(file: &File, crc: &Castagnoli) -> Result<Corpse, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let len = file.metadata().map_err(|error| error.to_string())?.len();
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
        let found = corpse(&bytes, crc);
        // Its writer was hit a moment ago: until it is dead and followed, it may be found in any state.
        match found {
            Ok(found) if found.followed && found.end.is_some() => return Ok(found),
            found if Instant::now() >= deadline => {
                return found.and_then(|corpse| Err(format!("not followed for {PATIENCE:?}: {corpse:?}")));
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn keep(generation: u64, file: &File) -> Option<PathBuf> {
    let len = file.metadata().ok()?.len();
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let path = Path::new("/tmp").join(format!("ringward-chaos-{}-{generation:08}.ring", std::process::id()));
    std::fs::write(&path, bytes).ok()?;
    Some(path)
}
