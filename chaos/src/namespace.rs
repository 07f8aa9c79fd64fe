//! The channels of a run, as every process of it opens them.

use std::path::Path;
use std::time::Duration;

use ringward_recovery::{Channel, Config, Namespace, WhenFull};

/// Name of the namespace below the run's root.
pub(crate) const NAMESPACE: &str = "chaos";

/// Which channel of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one whose writers die inside pushes.
    Storm = 0,
    /// The quiet one, untraced, on which take-overs are timed.
    Failover = 1,
}

impl Which {
    /// Both.
    pub(crate) const ALL: [Which; 2] = [Which::Storm, Which::Failover];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Which::Storm => "storm",
            Which::Failover => "failover",
        }
    }

    pub(crate) fn from_number(number: u8) -> Which {
        if number == 1 { Which::Failover } else { Which::Storm }
    }
}

/// How long a push waits for room before it says that there is none.
const PATIENCE: Duration = Duration::from_millis(300);

/// Opens the run's namespace.
pub(crate) fn open(root: &Path) -> Result<Namespace, String> {
    Namespace::builder(NAMESPACE).root(root).open().map_err(|error| error.to_string())
}

/// Opens a channel; `beats`: with a beat thread.
pub(crate) fn channel(namespace: &Namespace, which: Which, capacity: u64, beats: bool) -> Result<Channel, String> {
    let config = Config::default()
        .capacity(capacity)
        .beat_interval(if beats { Duration::from_millis(20) } else { Duration::ZERO })
        .stall_timeout(Duration::from_secs(60))
        .when_full(WhenFull::Block(PATIENCE));
    Channel::new(namespace, which.name(), config).map_err(|error| error.to_string())
}
