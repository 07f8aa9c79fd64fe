//! `top`.

use ringward_recovery::{Durability, From};
use serde_json::Value;

use crate::bed::{Bed, lines};

#[test]
fn top_shows_rates_and_who_is_behind() {
    let bed = Bed::new();
    bed.run(&["top", "--once"], b"").code(1).says("RW-NS-MISSING");
    let mut send = bed.start(&["send", "c", "--capacity", "64KiB", "--events", "json"]);
    send.note("writing");
    let slow = bed.channel().reader("slow", Durability::Durable, From::Oldest).unwrap();
    bed.run(&["send", "old"], b"x\n").code(0);
    send.feed(&lines(0..10));
    let once = |more: &[&str]| bed.run(&[&["top", "--once", "--interval", "20ms"], more].concat(), b"").code(0).stdout;
    let view = || serde_json::from_slice::<Value>(&once(&["--json"])).unwrap();
    bed.until("10 records are there", || view()["channels"][0]["next_sequence"] == 10);
    let view = view();
    let c = &view["channels"][0];
    // Nothing is sent meanwhile.
    assert_eq!((c["records_per_second"].as_f64(), c["bytes_per_second"].as_f64()), (Some(0.0), Some(0.0)));
    assert_eq!((&c["verdict"], c["readers"][0]["lag_records"].as_u64()), (&"live".into(), Some(10)));
    assert!(view["size"].as_u64() >= view["free"].as_u64(), "{view}");
    let words = String::from_utf8(once(&[])).unwrap();
    for part in ["2 channels", "RECORDS/S", "slow+10", "orphaned (within grace)"] {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }
    assert!(!words.contains('\x1b'), "{words}");
    let one = String::from_utf8(once(&["c"])).unwrap();
    assert!(one.contains("1 channels") && !one.contains("old"), "{one}");
    // Whoever reads it may have had enough.
    let mut command = bed.command(&["top", "--interval", "10ms"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    drop(slow);
}
