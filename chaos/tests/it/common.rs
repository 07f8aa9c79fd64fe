//! What the tests share.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

/// A run that hangs is killed after this; nothing is measured by it.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn root() -> tempfile::TempDir {
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    tempfile::Builder::new().prefix("ringward-chaos-test-").tempdir_in(base).unwrap()
}

pub(crate) fn chaos(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaos")).args(args).timeout(LIMIT).output().unwrap()
}
