//! Processes killed while they start: whatever they leave, the channel opens at once afterwards, and one look of a watchdog leaves
//! nothing over.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ringward_recovery::{Action, Channel, Config, Done, Durability, Event, From, Namespace, Outcome, Warmth, Watchdog};

/// Kills its process when it goes out of scope, whatever the test does.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn victim(role: &str, root: &std::path::Path) -> Victim {
    let child = Command::new(env!("CARGO_BIN_EXE_ringward-test-worker"))
        .args([role, root.to_str().expect("a path in UTF-8"), "c"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a worker");
    Victim(child)
}

/// How many processes are killed: a few on every run, `RINGWARD_STARTUP_KILLS=1000` for the full count.
fn kills() -> usize {
    std::env::var("RINGWARD_STARTUP_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn a_channel_opens_at_once_after_processes_were_killed_while_they_started() {
    let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
    let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
    let config = Config::default().capacity(1 << 16);
    let channel = Channel::new(&namespace, "c", config).unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut killed = 0;
    let total = kills();
    let mut round = 0;
    while killed < total {
        round += 1;
        // A handful of processes of all roles start on the same channel at once, each with its own hour of death.
        let mut victims: Vec<(Instant, Victim)> = (0..random.random_range(1..=6))
            .map(|_| {
                let roles = ["writer", "writer", "standby", "standby", "reader", "durable", "watchdog"];
                let role = roles[random.random_range(0..roles.len())];
                let after = Duration::from_micros(random.random_range(0..12_000));
                let victim = victim(role, root.path());
                (Instant::now() + after, victim)
            })
            .collect();
        victims.sort_by_key(|(at, _)| *at);
        for (at, victim) in victims {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            drop(victim);
            killed += 1;
        }
        // Opens at once, every time: no waiting, no second try.
        let mut writer = channel.writer().unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mut reader = channel
            .reader("check", Durability::Ephemeral, From::Latest)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        let sequence = writer.push(7, b"alive").unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mut buf = [0; 128];
        match reader.recv(&mut buf, Duration::from_secs(60)).unwrap() {
            Some(Event::Record { sequence: got, record_type: 7, len: 5, .. }) => assert_eq!(got, sequence),
            other => panic!("round {round}: {other:?}"),
        }
        drop((writer, reader));
        if random.random_range(0..2) == 0 {
            // Nothing is left over after one look, and the next round's processes are killed giving birth.
            sweep(&namespace, &format!("round {round}, {killed} killed"));
            continue;
        }
        if random.random_range(0..4) == 0 {
            // And through a standby, as often.
            let mut standby = channel.standby(Warmth::Hot).unwrap();
            match standby.wait(Duration::from_secs(60)).unwrap_or_else(|error| panic!("round {round}: {error}")) {
                Outcome::Elected(mut writer) => drop(writer.push(0, b"elected").unwrap()),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
    sweep(&namespace, &format!("{killed} killed"));
}

/// One look of a watchdog that waits for nothing: everything is taken away.
fn sweep(namespace: &Namespace, when: &str) {
    let report = Watchdog::builder(namespace)
        .action(Action::Reclaim)
        .grace(Duration::ZERO)
        .expire_durable(Duration::ZERO)
        .build()
        .tick();
    let left: Vec<_> = std::fs::read_dir(namespace.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{when}; left {left:?}; {report:?}");
    assert!(report.notices.iter().all(|n| matches!(n.done, Done::Reclaimed { .. })), "{when}: {report:?}");
}
