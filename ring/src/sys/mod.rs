//! The operating system, wrapped: only `segment` and this folder meet it.
//!
//! | file | owns |
//! | --- | --- |
//! | [`lock`] | role locks: open-file-description locks on single bytes, and asking who holds one |
//! | [`park`] | a role lock waited for on a thread of its own, with a way out |
//! | [`file`](mod@file) | a segment's file: made unnamed, reserved in full, linked, opened with suspicion, told apart |
//! | [`map`] | its mapping: writable only where its process is the writer, never inherited by a fork |
//! | [`sigbus`] | the process-wide guard that turns a lost mapping into a flag |
//! | [`futex`] | sleeping on a word of the segment |
//! | [`barrier`] | the heavy half of the asymmetric barrier |
//! | [`robust`] | a word that the kernel marks when its thread dies |
//! | [`fork`] | whether this memory is a forked copy |
//!
//! Everything here speaks of descriptors, bytes and addresses. It knows no record, no generation and no channel, and what
//! the operating system answers is returned, never asserted.
//!
//! `lock`, `futex`, `barrier` and `file` are safe code over `rustix` and `nix`. The audit map of the rest: `fork` (an
//! atomic on a page of our own), `map` (`mprotect`, touching pages), `park` (installing a handler that does nothing) and
//! `sigbus` (the handler), `robust` (the list that the kernel walks).

pub mod barrier;
pub mod file;
pub mod fork;
pub mod futex;
pub mod lock;
pub mod map;
pub mod park;
pub mod robust;
pub mod sigbus;

/// This test's path, crate included: the name that [`child`] knows it by.
#[cfg(test)]
macro_rules! here {
    ($name:literal) => {
        concat!(module_path!(), "::", $name)
    };
}
#[cfg(test)]
pub(crate) use here;

/// Runs a test's dangerous half in a process of its own: this test binary again, told to run that one test.
#[cfg(test)]
pub(crate) mod child {
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    const ROLE: &str = "RINGWARD_SYS_TEST_CHILD";

    /// Whether this process is the child of the test `name` (its path with the crate in front).
    pub(crate) fn is(name: &str) -> bool {
        std::env::var(ROLE).is_ok_and(|role| role == name)
    }

    /// Starts the child of test `name`, its standard input and output piped.
    pub(crate) fn spawn(name: &str) -> Child {
        let filter = name.split_once("::").map_or(name, |(_, rest)| rest);
        Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", filter, "--nocapture", "--test-threads=1"])
            .env(ROLE, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("re-exec of the test binary")
    }

    /// Waits for a child, killing it (and failing) if it hangs; what it printed, and how it ended.
    pub(crate) fn wait(mut child: Child) -> (ExitStatus, String) {
        let begun = Instant::now();
        while child.try_wait().expect("wait").is_none() {
            if begun.elapsed() > Duration::from_secs(120) {
                let _ = child.kill();
                let out = child.wait_with_output().expect("output");
                panic!("the child hung; it said: {out:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let out = child.wait_with_output().expect("output");
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status, said)
    }

    /// Exit code by which a child says that its body ran to its end: libtest never uses it.
    pub(crate) const DONE: i32 = 42;

    /// In the child: runs `body` and leaves with [`DONE`]. In the parent: runs the child; how it ended, what it said.
    pub(crate) fn run(name: &str, body: impl FnOnce()) -> (ExitStatus, String) {
        if is(name) {
            body();
            std::process::exit(DONE);
        }
        wait(spawn(name))
    }
}
