//! What those who wait cost: a parked reader, a hot standby and a watchdog beside a channel on which nothing happens.

use std::time::{Duration, Instant};

use ringward_recovery::{Checksum, Durability, From, Namespace, Warmth, Watchdog};
use serde_json::{Map, Value};

use crate::Result;
use crate::peers::ringward::channel;
use crate::role::Gate;
use crate::spec::Spec;
use crate::works::children::Started;

const ROLES: [&str; 3] = ["reader", "standby", "watchdog"];

/// Side 0 owns the channel and looks on; the others wait.
///
/// # Errors
///
/// What the library or the system said.
pub fn run(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.side {
        0 => look_on(spec, gate),
        side => wait(spec, gate, side - 1),
    }
}

fn look_on(spec: &Spec, gate: &Gate) -> Result<Value> {
    let writer = channel(spec, "idle", Checksum::FULL)?.writer()?;
    let mut all = (1..=ROLES.len()).map(|side| Started::new(spec, side)).collect::<Result<Vec<_>>>()?;
    all.iter_mut().try_for_each(Started::ready)?;
    gate.ready()?;
    gate.go()?;
    // They have just started; what that cost is not what waiting costs.
    std::thread::sleep(Duration::from_millis(300));
    let before = all.iter().map(|one| used(one.pid())).collect::<Result<Vec<_>>>()?;
    let own = used(std::process::id())?;
    let begun = Instant::now();
    std::thread::sleep(spec.time() * 10);
    let seconds = begun.elapsed().as_secs_f64();
    let mut values = Map::new();
    for ((role, one), before) in ROLES.iter().zip(&all).zip(before) {
        values.insert(format!("{role}_us_per_s"), ((used(one.pid())? - before) / seconds).into());
    }
    values.insert("writer_us_per_s".into(), ((used(std::process::id())? - own) / seconds).into());
    drop(writer);
    Ok(Value::Object(values))
}

/// Microseconds that the threads of a process have run.
fn used(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().ok_or("an empty schedstat")?.parse::<f64>()? / 1e3;
    }
    Ok(sum)
}

fn wait(spec: &Spec, gate: &Gate, role: usize) -> Result<Value> {
    let namespace = Namespace::builder("bench").root(&spec.place).open()?;
    let channel = channel(spec, "idle", Checksum::FULL)?;
    let mut buf = vec![0; spec.size];
    let long = Duration::from_secs(600);
    match ROLES[role] {
        "reader" => {
            let mut reader = channel.reader("idle", Durability::Ephemeral, From::Latest)?;
            gate.ready()?;
            loop {
                reader.recv(&mut buf, long)?;
            }
        }
        "standby" => {
            let mut standby = channel.standby(Warmth::Hot)?;
            gate.ready()?;
            loop {
                standby.wait(long)?;
            }
        }
        _ => {
            let _handle = Watchdog::builder(&namespace).build().spawn()?;
            gate.ready()?;
            loop {
                std::thread::sleep(long);
            }
        }
    }
}
