//! How busy the machine was with other things while a run ran.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// Shares of foreign work beyond this mark a run as noisy.
pub const NOISY: f64 = 0.04;

/// The machine at the start of a run.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    busy: f64,
    own: f64,
}

/// Processors that this process may use.
pub fn processors() -> Vec<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok();
    (0..nix::sched::CpuSet::count())
        .filter(|cpu| allowed.is_some_and(|set| set.is_set(*cpu).unwrap_or(false)))
        .collect()
}

/// The kernel's release.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "?".into(), |text| text.trim().to_owned())
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Watch {
        Watch { begun: Instant::now(), busy: busy(), own: own() }
    }

    /// Which share of all processors' time went to processes that are not ours, or to other machines on this host. All
    /// of ours have to have ended.
    pub fn foreign(&self) -> f64 {
        let processors = processors().len().max(1) as f64;
        let whole = self.begun.elapsed().as_secs_f64() * processors;
        let (busy, own) = (busy() - self.busy, own() - self.own);
        ((busy - own) / whole).max(0.0)
    }
}

/// Seconds that the processors have been busy or stolen since the start of the machine.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_of(&text) / 100.0
}

/// Hundredths of seconds in user, nice, system, irq, softirq and steal.
fn busy_of(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at)).sum()
}

/// Seconds that this process and its ended children have used.
fn own() -> f64 {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|usage| {
            let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            seconds(usage.user_time()) + seconds(usage.system_time())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::busy_of;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_of("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9\n"), 63.0);
        assert_eq!(busy_of(""), 0.0);
    }
}
