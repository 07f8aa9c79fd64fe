//! What takes away, ends and kills: dry unless told, refused where it is not proved, done where it is.

use nix::sys::signal::Signal;
use ringward_recovery::{Durability, From};
use serde_json::Value;

use crate::bed::{Bed, Tool, lines};

fn json(bed: &Bed, args: &[&str]) -> Value {
    let ended = bed.run(args, b"").code(0);
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn text(bed: &Bed, args: &[&str]) -> String {
    String::from_utf8(bed.run(args, b"").code(0).stdout).unwrap()
}

/// A writer that has sent 3 records and was stopped.
fn stopped_writer(bed: &Bed) -> Tool {
    let mut send = bed.start(&["send", "c", "--capacity", "64KiB", "--slots", "5", "--events", "json"]);
    send.note("writing");
    send.feed(&lines(0..3));
    bed.until("3 records are there", || json(bed, &["inspect", "c", "--json"])["next_sequence"] == 3);
    send.signal(Signal::SIGSTOP);
    // All of its threads: one that still beats would make it look well.
    let stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", send.pid())).unwrap().flatten();
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    bed.until("it is stopped", || tasks().all(|task| stopped(stat(task))));
    send
}

#[test]
fn clean_shows_its_plan_and_takes_only_what_is_nobodys() {
    let bed = Bed::new();
    bed.run(&["send", "old"], b"x\n").code(0);
    bed.run(&["send", "kept", "--no-close"], b"x\n").code(0);
    let send = bed.start(&["send", "c", "--events", "json"]);
    send.note("writing");
    bed.run(&["recv", "kept", "--name", "d", "--durable", "--from", "oldest", "--count", "1"], b"").code(0);

    let plan = text(&bed, &["clean"]);
    let marked: Vec<&str> = plan.lines().filter(|line| line.starts_with("TAKE")).collect();
    assert!(marked.len() == 1 && marked[0].contains("old: orphaned"), "{plan}");
    assert!(plan.contains("leave  c: live") && plan.contains("leave  kept: draining"), "{plan}");
    assert!(plan.contains("Nothing was done."), "{plan}");
    let document = json(&bed, &["clean", "--json"]);
    assert_eq!((&document["dry"], &document["channels"][2]["plan"]), (&true.into(), &"TAKE".into()));
    assert!(bed.root().join("test/old").exists());
    // A grace that nobody has begun to count takes nothing.
    assert!(text(&bed, &["clean", "--grace", "1h"]).contains("Nothing to take away."));

    let done = json(&bed, &["clean", "--yes", "--json", "c", "kept"]);
    assert!(done["channels"].as_array().unwrap().iter().all(|channel| channel["done"] == "nothing"), "{done}");
    assert!(bed.root().join("test/old").exists(), "not one of those that were named");
    let done = text(&bed, &["clean", "--yes", "--quarantine", "old"]);
    assert!(done.contains("RW-WD-QUARANTINED"), "{done}");
    let done = text(&bed, &["clean", "--yes", "--expire-durable", "0"]);
    assert!(done.contains("RW-WD-RECLAIMED") && !bed.root().join("test/kept").exists(), "{done}");
    assert!(bed.root().join("test/c").exists());
    bed.run(&["clean", "none"], b"").code(1).says("RW-OPEN-MISSING");
    send.end().code(0);
}

#[test]
fn supersede_ends_a_stuck_writer_and_refuses_a_healthy_one() {
    let bed = Bed::new();
    // One that promises no beats is never stuck, however slow this machine is.
    let send = bed.start(&["send", "well", "--heartbeat", "0", "--events", "json"]);
    send.note("writing");
    bed.run(&["supersede", "well", "--stall-timeout", "1ms", "--yes"], b"").code(1).says("RW-CTL-ALIVE");
    send.end().code(0);
    bed.run(&["supersede", "well", "--stall-timeout", "1ms"], b"").code(1).says("RW-CTL-NOWRITER");
    bed.run(&["supersede", "none", "--stall-timeout", "1ms"], b"").code(1).says("RW-OPEN-MISSING");

    let mut stuck = stopped_writer(&bed);
    let plan = text(&bed, &["supersede", "c", "--stall-timeout", "500ms"]);
    assert!(plan.contains("stalled [RW-WD-STALLED]") && plan.contains("Nothing was done."), "{plan}");
    assert_eq!(json(&bed, &["inspect", "c", "--json"])["generation"], 1);
    let done = json(&bed, &["supersede", "c", "--stall-timeout", "500ms", "--yes", "--json"]);
    assert_eq!((&done["superseded_by"], &done["next_sequence"], &done["dry"]), (&2.into(), &3.into(), &false.into()));
    // The next one is made as the one before.
    let chain = json(&bed, &["inspect", "c", "--json"])["chain"].clone();
    let newest = &chain.as_array().unwrap().last().unwrap()["seen"];
    assert_eq!((newest["capacity"].as_u64(), newest["slots"].as_u64()), (Some(64 << 10), Some(5)));
    // The stuck one wakes up and is told; the next one goes on.
    stuck.signal(Signal::SIGCONT);
    stuck.feed(b"late\n");
    stuck.wait().code(1).says("RW-PUSH-FENCED");
    bed.run(&["send", "c", "--no-close"], b"on\n").code(0);
    // A writer that ends at once leaves it to others to take drained generations away: what they held may be shown, too.
    let shown = text(&bed, &["tail", "c"]);
    assert!(shown.lines().any(|line| line.starts_with("3  type 0  2 B  on")), "{shown}");
}

#[test]
fn kill_owner_kills_the_recorded_process_and_waits_for_its_lock() {
    let bed = Bed::new();
    let stuck = stopped_writer(&bed);
    let plan = text(&bed, &["kill-owner", "c", "--stall-timeout", "500ms"]);
    assert!(plan.contains(&format!("SIGKILL to process {}", stuck.pid())) && stuck.running(), "{plan}");
    let done = json(&bed, &["kill-owner", "c", "--stall-timeout", "500ms", "--yes", "--json", "--wait", "60s"]);
    assert_eq!(done["killed"], stuck.pid());
    let ended = stuck.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9));
    bed.run(&["kill-owner", "c", "--stall-timeout", "1ms", "--yes"], b"").code(1).says("RW-CTL-NOWRITER");

    let well = bed.start(&["send", "well", "--heartbeat", "0", "--events", "json"]);
    well.note("writing");
    bed.run(&["kill-owner", "well", "--stall-timeout", "1ms", "--yes"], b"").code(1).says("RW-CTL-ALIVE");
    let term = ["kill-owner", "well", "--stall-timeout", "1ms", "--although-live", "--term", "--yes", "--wait", "60s"];
    bed.run(&term, b"").code(0);
    well.wait().code(143);
}

#[test]
fn a_stopped_process_does_not_end_by_sigterm_and_that_is_said() {
    let bed = Bed::new();
    let stuck = stopped_writer(&bed);
    let args = ["kill-owner", "c", "--stall-timeout", "500ms", "--term", "--yes", "--wait", "50ms"];
    bed.run(&args, b"").code(1).says("RW-CTL-KILL");
    assert!(stuck.running());
}

#[test]
fn forget_gives_up_an_absent_readers_place_only() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], &lines(0..5)).code(0);
    bed.run(&["recv", "c", "--name", "gone", "--durable", "--from", "oldest", "--count", "2"], b"").code(0);
    let here = bed.channel().reader("here", Durability::Durable, From::Oldest).unwrap();
    let plan = text(&bed, &["forget", "c", "gone"]);
    assert!(plan.contains("gone (durable): nobody holds its byte") && plan.contains("Nothing was done."), "{plan}");
    bed.run(&["forget", "c", "here", "--yes"], b"").code(1).says("RW-OPEN-HELD");
    bed.run(&["forget", "c", "nobody", "--yes"], b"").code(3).says("gone, here");
    let done = json(&bed, &["forget", "c", "gone", "--yes", "--json"]);
    assert_eq!((&done["forgotten"], &done["reader"]["lag_records"]), (&true.into(), &3.into()));
    let readers = json(&bed, &["inspect", "c", "--json"])["readers"].clone();
    assert_eq!(readers.as_array().unwrap().len(), 1, "{readers}");
    drop(here);
}
