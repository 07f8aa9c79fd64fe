//! How a channel is to be: sizes and policies, checked against each other before anything is made.

use std::time::Duration;

use ringward_ring::layout::{DEFAULT_SLOTS, max_record};
use ringward_ring::word::Checksum;

use crate::channel::TRIES;
use crate::namespace::{BadName, check_name};

/// What a push does when the slowest reader leaves no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Answer `Full` at once.
    Error,
    /// Wait for room this long, then answer `Full`.
    Block(Duration),
}

/// What a writer does that finds its generation ended, cut or unlinked under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// Report it; the owner of the writer decides.
    Report,
    /// Succeed itself where its memory was lost (cut, unlinked, damaged): the channel is still its own. Having been superseded
    /// is still reported: somebody wanted it so, and others may have written since.
    LostMemory,
    /// Succeed itself also after having been superseded, if nobody owns the channel any more. Its next record then follows
    /// whatever others have written meanwhile.
    Succeed,
}

/// What a standby does about a writer that holds its lock but no longer beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStuck {
    /// Report it.
    Report,
    /// End its generation and follow it; the stuck one learns of it at its next push.
    Supersede,
    /// Kill it (by pidfd, identity checked again), and follow it once the kernel says that it is dead.
    Kill,
}

/// What a succession does when the chain of undrained generations is as long as it may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenChainFull {
    /// Refuse to go on: nothing is lost, the channel has no writer until somebody reads.
    Error,
    /// Drop the oldest generation; its readers are told how many records that cost.
    DropOldest,
}

/// Sizes and policies of a channel.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) capacity: u64,
    pub(crate) record_limit: Option<u32>,
    pub(crate) checksum: Checksum,
    pub(crate) slots: u32,
    pub(crate) schema: u64,
    pub(crate) beat_interval: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) chain_limit: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) when_stuck: WhenStuck,
    pub(crate) when_chain_full: WhenChainFull,
    pub(crate) heal: Heal,
    pub(crate) touch: bool,
    pub(crate) no_dump: bool,
    pub(crate) wipe: bool,
    pub(crate) tries: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            capacity: 1 << 20,
            record_limit: None,
            checksum: Checksum::FULL,
            slots: DEFAULT_SLOTS,
            schema: 0,
            beat_interval: Duration::from_millis(100),
            stall_timeout: Duration::from_secs(2),
            chain_limit: 64,
            when_full: WhenFull::Block(Duration::from_secs(5)),
            when_stuck: WhenStuck::Report,
            when_chain_full: WhenChainFull::Error,
            heal: Heal::Report,
            touch: false,
            no_dump: false,
            wipe: false,
            tries: TRIES,
        }
    }
}

/// A configuration that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The channel's name can't be.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Beats so slow that a healthy writer would pass for a stuck one.
    #[error(
        "stall time-out {stall:?} is less than twice the heartbeat interval {beat:?}; \
         a healthy writer would pass for a stuck one [RW-CFG-STALL]"
    )]
    StallTooShort {
        /// Stall time-out.
        stall: Duration,
        /// Heartbeat interval.
        beat: Duration,
    },
    /// A heartbeat interval that the header can't hold.
    #[error("heartbeat interval {beat:?} is not 0 (none promised) or 1 ms to 1 hour [RW-CFG-BEAT]")]
    Beat {
        /// Heartbeat interval.
        beat: Duration,
    },
    /// A chain too short for a succession.
    #[error(
        "a chain of {found} generations; it takes at least 2, so that a succession has somewhere to go [RW-CFG-CHAIN]"
    )]
    Chain {
        /// What was asked for.
        found: usize,
    },
}

impl Config {
    /// Bytes of the data ring: a power of two, at least a page. 1 MiB unless set. Choose it for the peak burst while the slowest reader is away,
    /// not for the average.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Largest payload in bytes; half the capacity less a record header unless set.
    #[must_use]
    pub fn record_limit(mut self, bytes: u32) -> Self {
        self.record_limit = Some(bytes);
        self
    }

    /// What checksums cover; the whole payload unless set.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// Reader slots, 1 to 64; 32 unless set.
    #[must_use]
    pub fn reader_slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Fingerprint of what the records are, for readers to compare; 0 says nothing.
    #[must_use]
    pub fn schema(mut self, fingerprint: u64) -> Self {
        self.schema = fingerprint;
        self
    }

    /// How often the writer's beat thread beats; zero promises no beats, and then the writer never counts as stuck. 100 ms unless
    /// set.
    #[must_use]
    pub fn beat_interval(mut self, interval: Duration) -> Self {
        self.beat_interval = interval;
        self
    }

    /// How long a writer that promised beats may be silent before it counts as stuck; 2 s unless set.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How many undrained generations there may be, the current one included; 64 unless set.
    #[must_use]
    pub fn chain_limit(mut self, generations: usize) -> Self {
        self.chain_limit = generations;
        self
    }

    /// What a push does without room; waits 5 s unless set.
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// What a standby does about a stuck writer; reports it unless set.
    #[must_use]
    pub fn when_stuck(mut self, policy: WhenStuck) -> Self {
        self.when_stuck = policy;
        self
    }

    /// What a succession does when the chain is full; refuses unless set.
    #[must_use]
    pub fn when_chain_full(mut self, policy: WhenChainFull) -> Self {
        self.when_chain_full = policy;
        self
    }

    /// What the writer does when its generation was ended, cut or unlinked under it; reports it unless set.
    #[must_use]
    pub fn heal(mut self, policy: Heal) -> Self {
        self.heal = policy;
        self
    }

    /// Touch every page of a new segment before it is used.
    #[must_use]
    pub fn touch(mut self, touch: bool) -> Self {
        self.touch = touch;
        self
    }

    /// Leave segments out of core dumps.
    #[must_use]
    pub fn no_dump(mut self, no_dump: bool) -> Self {
        self.no_dump = no_dump;
        self
    }

    /// Overwrite a segment's data with zeros before it is unlinked.
    #[must_use]
    pub fn wipe(mut self, wipe: bool) -> Self {
        self.wipe = wipe;
        self
    }

    /// How often to look anew where others get ahead each time, for tests: nobody can have them do so a thousand times.
    #[doc(hidden)]
    pub fn tries(mut self, tries: usize) -> Self {
        self.tries = tries;
        self
    }

    pub(crate) fn limit(&self) -> u32 {
        self.record_limit.unwrap_or_else(|| u32::try_from(max_record(self.capacity.max(4096))).unwrap_or(u32::MAX))
    }

    pub(crate) fn beat_ms(&self) -> u32 {
        u32::try_from(self.beat_interval.as_millis()).unwrap_or(u32::MAX)
    }

    /// Checks the configuration for the channel `name`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with both numbers where two contradict each other. Sizes are checked when a segment is built.
    pub(crate) fn check(&self, name: &str) -> Result<(), ConfigError> {
        check_name("channel", name)?;
        let beat = self.beat_interval;
        let possible = Duration::from_millis(1)..=Duration::from_secs(3600);
        if !beat.is_zero() && !possible.contains(&beat) {
            return Err(ConfigError::Beat { beat });
        }
        if !beat.is_zero() && self.stall_timeout < 2 * beat {
            return Err(ConfigError::StallTooShort { stall: self.stall_timeout, beat });
        }
        if self.chain_limit < 2 {
            return Err(ConfigError::Chain { found: self.chain_limit });
        }
        Ok(())
    }
}
