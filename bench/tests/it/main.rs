//! The harness, on runs so short that their figures mean nothing.

use std::path::{Path, PathBuf};

use ringward_bench::harness::run;
use ringward_bench::spec::{Spec, capacity_for};

fn spec(work: &str, peer: &str, size: usize, count: u64) -> Spec {
    // Not pinned: on a busy machine two that poll busily must not share a processor for long.
    let (capacity, place, cpus) = (capacity_for(size), PathBuf::new(), Vec::new());
    Spec { work: work.into(), peer: peer.into(), size, count, millis: 1, capacity, place, side: 0, cpus }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bench"))
}

#[test]
fn each_of_our_own_peers_carries_and_checks_records() {
    for peer in ["ringward", "ringward-header", "ringward-batch", "textbook", "socket", "pipe"] {
        for size in [8, 1000] {
            let values = run(program(), &spec("flow", peer, size, 0), 2).unwrap();
            assert_eq!(values["records"], values["sent"], "{peer}");
            assert!(values["rate"].as_f64().unwrap() > 0.0, "{peer}");
        }
    }
}

#[test]
fn every_reader_of_a_fan_gets_everything() {
    for peer in ["ringward", "textbook"] {
        let values = run(program(), &spec("fan", peer, 64, 2), 3).unwrap();
        assert_eq!(values["records_1"], values["sent"], "{peer}");
        assert_eq!(values["records_2"], values["sent"], "{peer}");
    }
}

#[test]
fn records_are_handed_over_in_place() {
    let values = run(program(), &spec("lend", "ringward-header", 4096, 0), 2).unwrap();
    assert_eq!(values["records"], values["sent"]);
}

#[test]
fn who_sleeps_is_woken() {
    for peer in ["ringward", "futex"] {
        let values = run(program(), &spec("wake", peer, 64, 0), 2).unwrap();
        assert!(values["p50_ns"].as_f64().unwrap() > 0.0, "{peer}");
    }
}

#[test]
fn a_successor_is_heard_and_a_bare_lock_changes_hands() {
    let values = run(program(), &spec("failover", "ringward-own", 64, 2), 1).unwrap();
    assert_eq!(values["samples"], 2);
    assert!(values["p50_us"].as_f64().unwrap() > 0.0 && values["floor_p50_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_is_opened_looked_at_or_waits_is_measured() {
    let opened = run(program(), &spec("open", "ringward", 64, 0), 1).unwrap();
    assert!(opened["create_us"].as_f64().unwrap() > 0.0 && opened["samples"].as_u64().unwrap() >= 20);
    let watched = run(program(), &spec("watch", "ringward-own", 64, 3), 1).unwrap();
    assert!(watched["first_us"].as_f64().unwrap() > 0.0);
    let idle = run(program(), &spec("idle", "ringward-own", 64, 0), 1).unwrap();
    assert!(["reader", "standby", "watchdog"].iter().all(|role| idle.contains_key(&format!("{role}_us_per_s"))));
}

#[test]
fn what_goes_wrong_is_said() {
    let said = run(program(), &spec("flow", "nobody", 8, 0), 1).unwrap_err().to_string();
    assert!(said.contains("instead of ready"), "{said}");
}
