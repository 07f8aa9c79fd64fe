//! One look of a watchdog at many channels, all of them with living owners.

use std::time::{Duration, Instant};

use ringward_recovery::{Channel, Config, Namespace, Watchdog};
use serde_json::{Value, json};

use crate::Result;
use crate::role::Gate;
use crate::spec::Spec;
use crate::works::children::Started;

/// Channels of one owner: descriptors are limited.
const EACH: u64 = 2_500;
/// Looks after the first.
const LOOKS: usize = 9;

/// Side 0 watches; the others own `spec.count` channels together.
///
/// # Errors
///
/// What the library or the system said.
pub fn run(spec: &Spec, gate: &Gate) -> Result<Value> {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let namespace = Namespace::builder("bench").root(&spec.place).open()?;
    if spec.side > 0 {
        let config = Config::default().capacity(4096).reader_slots(1).beat_interval(Duration::ZERO);
        let from = (spec.side as u64 - 1) * EACH;
        let names = (from..spec.count.min(from + EACH)).map(|number| format!("c{number}"));
        let _writers = names
            .map(|name| Ok(Channel::new(&namespace, &name, config.clone())?.writer()?))
            .collect::<Result<Vec<_>>>()?;
        gate.ready()?;
        loop {
            std::thread::park();
        }
    }
    let owners = spec.count.div_ceil(EACH) as usize;
    let mut all = (1..=owners).map(|side| Started::new(spec, side)).collect::<Result<Vec<_>>>()?;
    all.iter_mut().try_for_each(Started::ready)?;
    gate.ready()?;
    gate.go()?;
    // As they are after their start.
    std::thread::sleep(Duration::from_millis(200));
    let before = resident()?;
    let most = usize::try_from(hard / 4 * 3)?;
    let mut watchdog = Watchdog::builder(&namespace).descriptors(most).build();
    let mut look = || {
        let begun = Instant::now();
        let report = watchdog.tick();
        let took = begun.elapsed().as_secs_f64() * 1e6;
        match report.error {
            None if report.notices.len() as u64 == spec.count => Ok(took),
            None => Err(format!("{} channels seen of {}", report.notices.len(), spec.count)),
            Some(error) => Err(error),
        }
    };
    let first = look()?;
    let mut later = (0..LOOKS).map(|_| look()).collect::<std::result::Result<Vec<_>, _>>()?;
    later.sort_by(f64::total_cmp);
    let bytes = (resident()? - before).max(0.0) / spec.count as f64;
    Ok(json!({ "first_us": first, "tick_us": later[LOOKS / 2], "bytes_per_channel": bytes }))
}

/// Bytes of private memory that this process has.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
