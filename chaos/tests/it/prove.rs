//! `chaos prove` from the outside, without building anything: `.ci/run` does the rest.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

fn prove(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaos")).arg("prove").args(args).current_dir(dir).output().unwrap()
}

#[test]
fn the_list_says_where_each_bug_is_planted() {
    let output = prove(&["--list"], Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with("| `double-fetch` |")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("| `ring/src/reader.rs` | loom: `a_payload_changes_while_it_is_read` |"), "{row}");
    assert!(text.lines().all(|line| line.split(" | ").count() == 4), "{text}");
}

#[test]
fn what_there_is_not_is_usage() {
    let output = prove(&["--only", "nightingale"], Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no canary is called \"nightingale\""), "{output:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let output = prove(&[], elsewhere.path());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not inside a clone"), "{output:?}");
    assert_eq!(prove(&["--times", "0"], elsewhere.path()).status.code(), Some(2));
}
