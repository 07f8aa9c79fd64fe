//! `doctor`: what it says of a machine can only be held against a machine whose faults were made on purpose.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bed::Bed;

fn check<'v>(document: &'v Value, name: &str) -> &'v Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
}

#[test]
fn it_looks_at_the_machine_and_at_every_namespace() {
    let bed = Bed::new();
    bed.run(&["send", "c"], b"x\n").code(0);
    std::fs::create_dir_all(bed.root().join("other/folder")).unwrap();
    let ended = bed.run(&["doctor", "--json"], b"");
    let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
    // The channel is nobody's; what else this machine has is its own.
    assert!(matches!(ended.status.code(), Some(5 | 6)), "{ended:?}");
    assert_eq!(
        document["namespaces"],
        serde_json::json!([{"namespace": "test", "verdicts": {"orphaned (within grace)": 1}, "error": null}])
    );
    assert_eq!(check(&document, "channels")["health"], "doubtful");
    for name in [
        "file-system",
        "space",
        "mount",
        "memory-limit",
        "huge-pages",
        "swap",
        "membarrier",
        "tmpfile-locks",
        "inotify",
        "clock",
        "core-dumps",
        "remove-ipc",
        "pid-namespace",
        "ipc-namespace",
        "descriptors",
        "file-size",
    ] {
        let check = check(&document, name);
        assert!(["well", "doubtful", "bad"].contains(&check["health"].as_str().unwrap()), "{check}");
        assert_eq!(check["health"] == "well", check["advice"].is_null(), "{check}");
    }
    // Tests run where locks work: everything else rests on that.
    assert_eq!(check(&document, "tmpfile-locks")["health"], "well");
    let words = String::from_utf8(bed.run(&["doctor"], b"").stdout).unwrap();
    assert!(words.contains("test: 1 orphaned (within grace)"), "{words}");
    let list = String::from_utf8(bed.run(&["doctor", "--checklist"], b"").stdout).unwrap();
    let lines = list.lines().filter(|line| line.starts_with("- [")).count();
    assert_eq!(lines, document["checks"].as_array().unwrap().len(), "{list}");
    assert!(list.contains("- [ ] a watchdog runs"), "{list}");
    assert_eq!(std::fs::read_dir(bed.root().join("test")).unwrap().count(), 1, "it leaves nothing");
}

#[test]
fn it_sees_limits_and_roots_that_are_in_the_way() {
    let bed = Bed::new();
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 100; ulimit -n 64; exec \"$0\" doctor --json", env!("CARGO_BIN_EXE_ringward")])
        .env("RINGWARD_ROOT", bed.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(5));
    let document: Value = serde_json::from_slice(&limited.stdout).unwrap();
    assert_eq!(check(&document, "file-size")["health"], "bad");
    assert_eq!(check(&document, "descriptors")["health"], "doubtful");
    let proc = bed.run(&["doctor", "--json", "--root", "/proc"], b"").code(5);
    let document: Value = serde_json::from_slice(&proc.stdout).unwrap();
    let check = check(&document, "file-system");
    assert!(check["health"] == "bad" && check["advice"].as_str().unwrap().contains("RW-NS-FS"), "{check}");
}

#[test]
fn a_segment_beyond_the_limit_of_files_is_refused_and_told() {
    let bed = Bed::new();
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 100; exec \"$0\" send c", env!("CARGO_BIN_EXE_ringward")])
        .env("RINGWARD_ROOT", bed.root())
        .env("RINGWARD_NAMESPACE", "test")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{said}");
    assert!(said.contains("[RW-BUILD-LARGE]"), "{said}");
}
