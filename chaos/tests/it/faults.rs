//! `chaos run --faults`, `replay`, `shrink`, `report`: as a user would go about it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::common::{chaos, root};
use crate::schema;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn faults_of_each_family_cost_what_they_may_and_are_reported() {
    let root = root();
    let below = root.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let file = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let faults = "kill-writer,kill-durable,record-payload,flip-writer-position,punch-data,squat-fifo,errno-linkat,beat-future,healthy";
    let output = chaos(&[
        "run",
        "--root",
        below.to_str().unwrap(),
        "--kill-rate",
        "0",
        "--faults",
        faults,
        "--max-faults",
        "9",
        "--seed",
        "1",
        "--report",
        &file("report.json"),
        "--html",
        &file("report.html"),
        "--junit",
        &file("report.xml"),
        "--markdown",
        &file("report.md"),
    ]);
    let report = json(&root.path().join("report.json"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    schema::check(&report);
    assert_eq!(report["verdict"], "held");
    assert_eq!(report["faults"]["false_deaths"], 0);
    let classes = report["faults"]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 9);
    for class in classes {
        let count = |key: &str| class[key].as_u64().unwrap();
        assert!(count("landed") + count("missed") + count("skipped") > 0, "{class}");
    }
    assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0, "something was left");
    for name in ["report.html", "report.xml", "report.md"] {
        let rendered = std::fs::read_to_string(root.path().join(name)).unwrap();
        assert!(rendered.contains("squat-fifo"), "{name}");
        let again = file(&format!("again-{name}"));
        let option = match name {
            "report.html" => "--html",
            "report.xml" => "--junit",
            _ => "--markdown",
        };
        assert_eq!(chaos(&["report", &file("report.json"), option, &again]).status.code(), Some(0));
        assert_eq!(std::fs::read_to_string(again).unwrap(), rendered, "chaos report makes the same of the same");
    }
}

#[test]
fn a_violation_made_on_purpose_goes_through_report_replay_and_shrink() {
    let root = root();
    let dir = root.path().to_str().unwrap();
    let report = root.path().join("report.json");
    let output = chaos(&[
        "run",
        "--root",
        dir,
        "--kill-rate",
        "0",
        "--faults",
        "kill-durable,kill-standby",
        "--plant",
        "kill-durable",
        "--max-faults",
        "4",
        "--seed",
        "3",
        "--report",
        report.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report = json(&report);
    schema::check(&report);
    assert_eq!(
        (&report["verdict"], &report["violations"][0]["kind"]),
        (&Value::from("violation"), &Value::from("lost"))
    );
    // What it says at the end is what a user copies.
    let line = said.lines().find(|line| line.starts_with("violation: ")).unwrap_or_else(|| panic!("{said}"));
    let file = PathBuf::from(line["violation: ".len()..].split("; again: ").next().unwrap());
    let case = json(&file);
    assert_eq!(case["schema"], "ringward-chaos-violation/1");
    assert!(!case["ledger_tail"].as_array().unwrap().is_empty() && !case["segments"].as_array().unwrap().is_empty());
    assert!(case["repeat"].as_str().unwrap().contains(" replay "), "{case:#}");

    let path = file.to_str().unwrap();
    let replayed = chaos(&["replay", path, "--times", "2", "--root", dir]);
    assert_eq!(replayed.status.code(), Some(1), "{}", text(&replayed));
    assert!(text(&replayed).contains("violated 2 of 2 times"), "{}", text(&replayed));

    let small = root.path().join("small.json");
    let shrunk = chaos(&["shrink", path, "--times", "1", "--root", dir, "--out", small.to_str().unwrap()]);
    assert_eq!(shrunk.status.code(), Some(1), "{}", text(&shrunk));
    let plan = json(&small)["plan"].as_str().unwrap().to_owned();
    let faults: Vec<&str> = plan.lines().filter(|line| line.starts_with("fault ")).collect();
    assert_eq!(faults.len(), 1, "{plan}");
    assert!(faults[0].contains("class=kill-durable") && faults[0].contains("after=1 "), "{plan}");
    assert!(plan.contains("readers=1 standbys=1 watchdog=0"), "{plan}");
    assert_eq!(chaos(&["replay", small.to_str().unwrap(), "--root", dir]).status.code(), Some(1));
}

#[test]
fn a_dry_run_prints_a_plan_that_replay_understands() {
    let plan = |seed: &str| {
        let output = chaos(&["run", "--dry-run", "--seed", seed, "--faults", "all"]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(plan("5"), plan("5"));
    assert_ne!(plan("5"), plan("6"));
    assert!(plan("5").lines().filter(|line| line.starts_with("fault ")).count() >= 57);
    let root = root();
    let file = root.path().join("plan");
    let one = chaos(&["run", "--dry-run", "--seed", "5", "--faults", "healthy", "--max-faults", "1"]);
    std::fs::write(&file, one.stdout).unwrap();
    let replayed = chaos(&["replay", file.to_str().unwrap(), "--root", root.path().to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed));
    std::fs::write(&file, "ringward-chaos plan 1\nfault nonsense").unwrap();
    let refused = chaos(&["replay", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("line 2"), "{}", text(&refused));
}

#[test]
fn a_root_with_somebodys_segments_and_too_little_space_are_refused() {
    let root = root();
    let dir = root.path().to_str().unwrap();
    let somebodys = root.path().join("namespace/channel");
    std::fs::create_dir_all(&somebodys).unwrap();
    std::fs::write(somebodys.join("00000001.ring"), b"RINGWARD, and more").unwrap();
    let refused = chaos(&["run", "--root", dir, "--duration", "1s", "--kill-rate", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("--shared-root"), "{}", text(&refused));
    let full = chaos(&[
        "run",
        "--root",
        dir,
        "--shared-root",
        "--kill-rate",
        "0",
        "--space-limit",
        "4KiB",
        "--duration",
        "60s",
    ]);
    assert_eq!(full.status.code(), Some(3), "{}", text(&full));
    assert!(text(&full).contains("--space-limit"), "{}", text(&full));
}

#[test]
fn a_run_goes_on_from_its_report() {
    let root = root();
    let dir = root.path().to_str().unwrap();
    let report = root.path().join("report.json");
    let path = report.to_str().unwrap();
    let options = ["--kill-rate", "0", "--faults", "healthy,kill-standby", "--max-faults", "2", "--report", path];
    let first = chaos(&[&["run", "--root", dir, "--seed", "8"][..], &options].concat());
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let before = json(&report);
    let second = chaos(&["run", "--root", dir, "--resume", path, "--max-faults", "2"]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    let after = json(&report);
    schema::check(&after);
    assert_eq!((&after["seed"], &after["options"]), (&before["seed"], &before["options"]));
    assert_eq!((&before["faults"]["trials"], &after["faults"]["trials"]), (&Value::from(2), &Value::from(4)));
    assert_eq!((&before["resumed"], &after["resumed"]["runs"]), (&Value::Null, &Value::from(1)));
    let refused = chaos(&["run", "--resume", "/nowhere/at/all.json"]);
    assert_eq!(refused.status.code(), Some(2));
}
