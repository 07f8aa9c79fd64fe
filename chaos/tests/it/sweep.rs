//! `chaos sweep` from the outside: it counts the same twice, holds, and goes red when it is lied to.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// A sweep that hangs is killed after this; nothing is measured by it.
const LIMIT: Duration = Duration::from_secs(240);

fn chaos(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaos")).args(args).timeout(LIMIT).output().unwrap()
}

/// A sweep; its output and its report.
fn sweep(args: &[&str]) -> (Output, Value) {
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let root = tempfile::Builder::new().prefix("ringward-chaos-test-").tempdir_in(base).unwrap();
    let report = root.path().join("report.json");
    let below = root.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut all = vec!["sweep", "--root", below.to_str().unwrap(), "--report", report.to_str().unwrap()];
    all.extend_from_slice(args);
    let output = chaos(&all);
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    if output.status.code() != Some(1) {
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0, "the sweep left something in its root");
    }
    (output, report)
}

/// What must be the same each time.
fn counts(report: &Value) -> Vec<Value> {
    let keys =
        ["operation", "points", "addresses", "states", "images", "kills", "stops", "cuts", "dead_cuts", "digest"];
    let rows = report["operations"].as_array().unwrap();
    rows.iter().flat_map(|row| keys.map(|key| row[key].clone())).collect()
}

#[test]
fn two_sweeps_with_one_seed_count_and_find_the_same() {
    let args =
        ["--only", "push,release", "--seed", "3", "--sites", "12", "--kills", "6", "--stops", "6", "--cuts", "6"];
    let args: Vec<&str> = args.into_iter().chain(["--mode", "kill,stop,cut"]).collect();
    let (output, first) = sweep(&args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{first:#}");
    assert!(text.contains("verdict: held") && text.contains("0 violations"), "{text}");
    assert_eq!((&first["verdict"], &first["violated"]), (&Value::from("held"), &Value::from(0)));
    for row in first["operations"].as_array().unwrap() {
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        assert!(number("points") > 10 && number("images") > 2, "{row:#}");
        assert_eq!(number("states"), number("points") + 1, "each point is judged, and the end");
        for mode in ["kills", "stops", "cuts"] {
            assert!(row[mode]["done"].as_u64().unwrap() > 0, "{mode} in {row:#}");
        }
    }
    assert!(first["operations"][0]["present_from"].is_number(), "a push is visible from some instruction on");
    assert!(first["repeat"].as_str().unwrap().contains("--seed 3"));
    let (_, second) = sweep(&args);
    assert_eq!(counts(&first), counts(&second));
}

#[test]
fn a_recovery_is_swept_in_turn() {
    let (output, report) = sweep(&["--only", "release", "--mode", "pairs", "--pairs", "1", "--seed", "2"]);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let row = &report["operations"][0];
    assert_eq!(row["recoveries"]["done"], 1);
    assert!(row["pairs"]["done"].as_u64().unwrap() > 1000, "each instruction of the recovery: {row:#}");
    let percent = row["pairs"]["percent"].as_f64().unwrap();
    assert!(percent > 0.0 && percent < 100.0, "a sample, and it says so: {row:#}");
}

/// The alarm works: a fault of each kind is noticed, as what it is.
#[test]
fn a_sweep_that_is_lied_to_goes_red() {
    for (planted, kind) in
        [("flip", "torn"), ("stale", "torn"), ("ledger", "lost"), ("litter", "leak"), ("slip", "failed")]
    {
        let args = ["--only", "release", "--mode", "kill", "--seed", "5", "--sites", "6", "--kills", "0"];
        let args: Vec<&str> = args.into_iter().chain(["--planted", planted]).collect();
        let (output, report) = sweep(&args);
        assert_eq!(output.status.code(), Some(1), "{planted}: {report:#}");
        assert_eq!(report["verdict"], "violation");
        let violations = report["violations"].as_array().unwrap();
        assert!(violations.iter().any(|violation| violation["kind"] == kind), "{planted}: {violations:#?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("VIOLATION {kind} in release at instruction")), "{planted}: {text}");
    }
}

/// Every way of every system call to fail is tried and judged; an operation that makes none has nothing to be judged.
#[test]
fn every_system_call_fails_once_and_for_ever() {
    let (output, report) = sweep(&["--only", "attach,release", "--mode", "errno", "--seed", "4"]);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let rows = report["operations"].as_array().unwrap();
    let errnos = &rows[0]["errnos"];
    assert!(errnos["of"].as_u64().unwrap() > 10 && errnos["done"] == errnos["of"], "{report:#}");
    assert_eq!(rows[1]["errnos"]["of"], 0, "a release makes no system call: {report:#}");
    // The alarm: an operation that was refused once, and is not asked for again, has failed.
    let args = ["--only", "attach", "--mode", "errno", "--seed", "4", "--planted", "resign"];
    let (output, report) = sweep(&args);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    let violations = report["violations"].as_array().unwrap();
    let refused = |v: &Value| v["kind"] == "failed" && v["what"].as_str().is_some_and(|what| what.contains("answered"));
    assert!(!violations.is_empty() && violations.iter().all(refused), "{violations:#?}");
}

#[test]
fn a_sweep_that_judges_nothing_is_inconclusive() {
    let (output, report) = sweep(&["--only", "release", "--mode", "stop", "--stops", "0"]);
    assert_eq!(output.status.code(), Some(3), "{report:#}");
    assert_eq!(report["verdict"], "inconclusive");
    assert!(report["points"].as_u64().unwrap() > 0 && report["judged"] == 0, "counted, not judged: {report:#}");
}

#[test]
fn operations_are_listed_and_unknown_ones_refused() {
    let output = chaos(&["sweep", "--list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    for op in ["create", "push-wrapping", "supersede", "drain-and-move", "tick-quarantine"] {
        assert!(text.lines().any(|line| line == op), "{op} in {text}");
    }
    assert!(text.contains("nothing was done"));
    for args in [&["sweep", "--only", "recover"][..], &["sweep", "--only", "x"], &["sweep", "--mode", "x"]] {
        assert_eq!(chaos(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(chaos(&["sweep", "--root", "/nowhere/at/all"]).status.code(), Some(2));
}
