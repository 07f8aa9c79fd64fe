//! Setting up a watchdog.

use std::collections::HashMap;
use std::time::Duration;

use super::inbox::Inbox;
use super::listing::Listing;
use super::vigil::Vigil;
use super::{Action, Notice, Watchdog};
use crate::namespace::Namespace;
use crate::owner::Viewer;

pub(super) type Callback = Box<dyn FnMut(&Notice) + Send>;

/// Sets up a watchdog.
pub struct WatchdogBuilder {
    pub(super) namespace: Namespace,
    pub(super) action: Action,
    pub(super) grace: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) interval: Duration,
    pub(super) expire_durable: Option<Duration>,
    pub(super) wipe: bool,
    pub(super) only: Option<Vec<String>>,
    pub(super) callback: Option<Callback>,
    pub(super) descriptors: Option<usize>,
}

impl std::fmt::Debug for WatchdogBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchdogBuilder").field("namespace", &self.namespace.path()).finish_non_exhaustive()
    }
}

impl WatchdogBuilder {
    /// What to do about what is nobody's; reports it unless set.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// How long something must have been nobody's before it is taken away; a minute unless set. Counted from a mark on the file, so
    /// that it survives the watchdog.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a writer that promised beats may be silent; 2 s unless set.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Time between two looks of [`Watchdog::spawn`]; a second unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Durable readers keep a channel that is otherwise nobody's for this long, then no more; for ever unless set.
    #[must_use]
    pub fn expire_durable(mut self, after: Duration) -> Self {
        self.expire_durable = Some(after);
        self
    }

    /// Overwrite data with zeros before it is unlinked.
    #[must_use]
    pub fn wipe(mut self, wipe: bool) -> Self {
        self.wipe = wipe;
        self
    }

    /// Look only at these channels, and do nothing about what interrupted births have left.
    #[must_use]
    pub fn only(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.only = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// Most descriptors that it keeps open between two looks, one for each channel and each process that owns some; a quarter of what this
    /// process may have unless set. Channels beyond it are looked at in full each time, which costs tens of times as much.
    #[must_use]
    pub fn descriptors(mut self, most: usize) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Called with each channel whose verdict changed, or about which something was done. A panic in it is caught and logged.
    #[must_use]
    pub fn on_notice(mut self, callback: impl FnMut(&Notice) + Send + 'static) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    /// Builds it; the first look is the first [`tick`](Watchdog::tick).
    pub fn build(self) -> Watchdog {
        let vigil = Vigil::new(self.descriptors);
        let (listing, inbox) = (Listing::default(), Inbox::new());
        Watchdog { setup: self, known: HashMap::new(), listing, vigil, inbox, looks: 0, viewer: Viewer::now() }
    }
}
