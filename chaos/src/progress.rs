//! Live figures: one line that is rewritten on a terminal, now and then a plain line elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Where the figures go. Whoever closed the pipe does not want them: then they go nowhere.
#[derive(Debug)]
pub(crate) struct Display {
    terminal: bool,
    every: Duration,
    last: Instant,
    dirty: bool,
}

impl Display {
    pub(crate) fn new() -> Display {
        let terminal = std::io::stdout().is_terminal();
        let every = Duration::from_millis(if terminal { 250 } else { 10_000 });
        Display { terminal, every, last: Instant::now(), dirty: false }
    }

    /// Shows `line` if it is time for one.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.last.elapsed() < self.every {
            return;
        }
        self.last = Instant::now();
        let mut out = std::io::stdout().lock();
        let _ = if self.terminal { write!(out, "\r\x1b[2K{}", line()) } else { writeln!(out, "{}", line()) };
        let _ = out.flush();
        self.dirty = self.terminal;
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ =
            if std::mem::take(&mut self.dirty) { writeln!(out, "\r\x1b[2K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
}
