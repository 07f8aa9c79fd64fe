//! `chaos run` from the outside: exit codes, report, nothing left over.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::common::{chaos, root};

/// A short run; its output and its report, and that its root is empty again unless a promise was broken.
fn run(args: &[&str]) -> (Output, Value) {
    let root = root();
    let report = root.path().join("report.json");
    let below = root.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut all = vec!["run", "--root", below.to_str().unwrap(), "--report", report.to_str().unwrap()];
    all.extend_from_slice(args);
    let output = chaos(&all);
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    if output.status.code() != Some(1) {
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0, "the run left something in its root");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "only report and root");
    (output, report)
}

#[test]
fn a_short_run_holds_and_reports_all_of_it() {
    let (output, report) = run(&["--max-kills", "150", "--duration", "120s", "--seed", "7", "--kill-rate", "0.2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{report:#}");
    assert!(text.starts_with("chaos run: seed 7,"), "{text}");
    assert!(text.contains("verdict: held"), "{text}");
    crate::schema::check(&report);
    assert_eq!(report["verdict"], "held");
    assert_eq!(report["seed"], 7);
    assert!(report["elapsed_s"].as_f64().unwrap() > 0.0);
    for (key, parts) in [
        ("kills", &["total", "mid_push", "mid_recv", "standby", "startup"][..]),
        ("kill_sites", &["hit", "of"]),
        (
            "records",
            &["acknowledged", "delivered", "lost_reported", "redelivered", "lost", "duplicated", "torn", "reordered"],
        ),
        ("recovery_us", &["p50", "p99", "max"]),
        ("floor_us", &["p50", "p99"]),
    ] {
        for part in parts {
            assert!(report[key][part].is_number(), "{key}.{part} in {report:#}");
        }
    }
    assert!(report["kills"]["mid_push"].as_u64().unwrap() > 0);
    assert!(report["kill_sites"]["hit"].as_u64().unwrap() > 0);
    for never in ["lost", "duplicated", "torn", "reordered", "lost_reported"] {
        assert_eq!(report["records"][never], 0, "{never}");
    }
    assert_eq!((&report["hangs"], &report["leaks"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(report["violations"], Value::Array(vec![]));
    assert!(report["repeat"].as_str().unwrap().contains("--seed 7"));
}

#[test]
fn a_run_that_kills_nobody_is_inconclusive() {
    let (output, report) = run(&["--kill-rate", "0", "--duration", "1s"]);
    assert_eq!(output.status.code(), Some(3), "{report:#}");
    assert_eq!(report["verdict"], "inconclusive");
    assert_eq!(report["kills"]["total"], 0);
    assert!(report["records"]["delivered"].as_u64().unwrap() > 0);
}

#[test]
fn what_makes_no_sense_is_usage() {
    for args in [
        &["run", "--kill-rate", "2"][..],
        &["run", "--capacity", "5000"],
        &["run", "--payload", "9..3"],
        &["run", "--payload", "0..4096", "--capacity", "4KiB"],
        &["run", "--readers", "1"],
        &["run", "--duration", "soon"],
        &["run", "--nonsense"],
        &["ruin"],
        &[],
    ] {
        let output = chaos(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let missing = chaos(&["run", "--root", "/nowhere/at/all", "--duration", "1s"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at/all"));
}

#[test]
fn an_interrupt_ends_a_run_in_order() {
    use std::io::{BufRead as _, BufReader};
    let root = root();
    let report = root.path().join("report.json");
    let below = root.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--root", below.to_str().unwrap(), "--report", report.to_str().unwrap(), "--kill-rate", "0.3"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let mut first = String::new();
    // The seed is known before the first fault. Then nobody listens any more, which is no reason to fail.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("seed"), "{first}");
    let running = |report: &Path| -> u64 {
        let text = std::fs::read(report).unwrap_or_default();
        let report: Value = serde_json::from_slice(&text).unwrap_or_default();
        report["kills"]["mid_push"].as_u64().unwrap_or(0)
    };
    while running(&report) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["verdict"], "held", "{report:#}");
    assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0);
}
