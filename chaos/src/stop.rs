//! Ctrl-C: the first ends the run in order, the second at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{SigSet, Signal};

/// Whether somebody asked to stop, and what to remove when it has to be at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    root: Arc<Mutex<Option<PathBuf>>>,
}

impl Stop {
    /// Listens for SIGINT and SIGTERM in a thread. Call it before any other thread is started: the signals are blocked here
    /// and in whatever is started from here, so that a Ctrl-C at the terminal does not kill the workers.
    pub(crate) fn listen() -> Stop {
        let stop = Stop::default();
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        if signals.thread_block().is_err() {
            return stop;
        }
        let told = stop.clone();
        std::thread::spawn(move || {
            loop {
                match signals.wait() {
                    Ok(_) if told.asked.swap(true, Ordering::Relaxed) => {
                        if let Some(root) = told.root.lock().ok().and_then(|mut root| root.take()) {
                            let _ = std::fs::remove_dir_all(root);
                        }
                        // The workers go with this process (PR_SET_PDEATHSIG).
                        std::process::exit(130);
                    }
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
        });
        stop
    }

    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// What a second Ctrl-C removes; `None`: nothing.
    pub(crate) fn set_root(&self, root: Option<PathBuf>) {
        if let Ok(mut guard) = self.root.lock() {
            *guard = root;
        }
    }
}
