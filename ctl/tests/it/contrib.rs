//! What lies in `contrib/` is what it says: it parses, and names metrics and entries that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use crate::bed::Bed;

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("contrib").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(contrib(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Yaml {
    YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}")).remove(0)
}

/// Words of a PromQL expression that name a metric of ours.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ringward_")).map(str::to_owned).collect()
}

/// Metrics that the source announces.
fn announced() -> BTreeSet<String> {
    metrics(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/watch/metrics.rs")).unwrap())
}

#[test]
fn alerts_name_metrics_and_entries_that_exist() {
    let announced = announced();
    let document = yaml("prometheus/ringward.rules.yml");
    let rules = document["groups"][0]["rules"].as_vec().unwrap();
    assert!(rules.len() >= 8);
    let bed = Bed::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        let used = metrics(rule["expr"].as_str().unwrap());
        assert!(!used.is_empty() && used.is_subset(&announced), "{name}: {used:?}");
        let summary = rule["annotations"]["summary"].as_str().unwrap_or_default();
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(!summary.is_empty() && ["warning", "critical"].contains(&severity), "{name}");
        bed.run(&["explain", rule["annotations"]["runbook"].as_str().unwrap()], b"").code(0);
    }
    match Command::new("promtool").args(["check", "rules"]).arg(contrib("prometheus/ringward.rules.yml")).output() {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
        Err(_) => eprintln!("SKIPPED: promtool is not here; the rules were parsed as YAML only"),
    }
}

#[test]
fn the_dashboard_names_metrics_that_exist() {
    let announced = announced();
    let document: serde_json::Value = serde_json::from_str(&read("grafana/ringward.json")).unwrap();
    let mut used = BTreeSet::new();
    for panel in document["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            used.extend(metrics(target["expr"].as_str().unwrap()));
        }
    }
    assert!(used.len() >= 8 && used.is_subset(&announced), "{used:?}");
}

#[test]
fn the_pod_shares_what_it_must() {
    let document = yaml("kubernetes/sidecar.yaml");
    let pod = &document["spec"]["template"]["spec"];
    assert_eq!(pod["shareProcessNamespace"].as_bool(), Some(true));
    assert_eq!(pod["volumes"][0]["emptyDir"]["medium"].as_str(), Some("Memory"));
    let volume = pod["volumes"][0]["name"].as_str();
    let containers = pod["containers"].as_vec().unwrap();
    for container in containers {
        let mount = &container["volumeMounts"][0];
        let (name, path) = (mount["name"].as_str(), mount["mountPath"].as_str());
        assert_eq!((name, path, path), (volume, Some("/channels"), container["env"][0]["value"].as_str()));
        assert_eq!(container["env"][0]["name"].as_str(), Some("RINGWARD_ROOT"));
    }
    // The arguments are a command line that can be: with a port of nobody's and one look.
    let watchdog = containers.iter().find(|container| container["name"].as_str() == Some("watchdog")).unwrap();
    let args: Vec<&str> = watchdog["args"].as_vec().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let bed = Bed::new();
    bed.namespace();
    bed.run(&[&args[..], &["--once"]].concat(), b"").code(0);
}

#[test]
fn the_service_runs_a_command_line_that_can_be_with_settings_that_can_be() {
    let text = read("systemd/ringward-watch.service");
    let mut section = "";
    let mut start = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap();
            assert!(["Unit", "Service", "Install"].contains(&section), "{line}");
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        assert!(key.chars().all(char::is_alphanumeric), "{line}");
        if (section, key) == ("Service", "ExecStart") {
            start = Some(value.to_owned());
        }
    }
    let start = start.unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(&words[..3], ["/usr/local/bin/ringward", "watch", "--config"], "{start}");
    let bed = Bed::new();
    bed.namespace();
    let settings = contrib("systemd/watch.toml");
    bed.run(&["watch", "--once", "--config", settings.to_str().unwrap()], b"").code(0);
    // systemd's own opinion, but for the program, which is not installed here.
    match Command::new("systemd-analyze").arg("verify").arg(contrib("systemd/ringward-watch.service")).output() {
        Ok(out) => {
            // Told and not gone by: which settings are known depends on its version.
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            said.lines().filter(|line| line.contains("ringward-watch.service")).for_each(|line| eprintln!("{line}"));
        }
        Err(_) => eprintln!("SKIPPED: systemd-analyze is not here; the unit was parsed as text only"),
    }
}
