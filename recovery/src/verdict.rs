//! What a watchdog concludes of a channel, and from which evidence.

use std::fmt;
use std::time::Duration;

use ringward_ring::segment::AttachError;
use ringward_ring::sys::file::OpenError as FileError;
use ringward_ring::word::State;

use crate::error::OpenError;
use crate::owner::Whereabouts;

/// What is concluded of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Its writer lives and beats, or has promised no beats.
    Live,
    /// Its writer holds its lock and has promised beats, but does not beat.
    Stalled,
    /// Its writer is on its way out: dumping core, or its threads are ending one by one; the kernel has not dropped its lock yet.
    Dying,
    /// Its lock is held, but not by the recorded owner, which is gone (reaped or not): a forked child, or a descriptor that was passed on.
    Leaked,
    /// Nobody writes, but somebody lives here: readers that drain it, a standby, a durable reader who will be back.
    Draining,
    /// Nobody's, for less than the grace period.
    OrphanedInGrace,
    /// Nobody's, for longer than the grace period.
    Orphaned,
    /// Its newest generation is damaged.
    Corrupt,
    /// Its newest generation was cut.
    Truncated,
    /// It was there at the last look and is gone, and not by our doing.
    Vanished,
    /// Not ringward's, or not ours: a symbolic link, a FIFO, another owner.
    Foreign,
    /// Made by a build that this one can't read.
    Incompatible,
    /// This process may not look at it.
    NotPermitted,
    /// It could not be looked at for another reason, or it kept changing.
    Unknowable,
}

impl Verdict {
    /// Stable id, a heading in RUNBOOK.md.
    pub fn id(self) -> &'static str {
        match self {
            Verdict::Live => "RW-WD-LIVE",
            Verdict::Stalled => "RW-WD-STALLED",
            Verdict::Dying => "RW-WD-DYING",
            Verdict::Leaked => "RW-WD-LEAKED",
            Verdict::Draining => "RW-WD-DRAINING",
            Verdict::OrphanedInGrace => "RW-WD-GRACE",
            Verdict::Orphaned => "RW-WD-ORPHANED",
            Verdict::Corrupt => "RW-WD-CORRUPT",
            Verdict::Truncated => "RW-WD-TRUNCATED",
            Verdict::Vanished => "RW-WD-VANISHED",
            Verdict::Foreign => "RW-WD-FOREIGN",
            Verdict::Incompatible => "RW-WD-INCOMPATIBLE",
            Verdict::NotPermitted => "RW-WD-PERMISSION",
            Verdict::Unknowable => "RW-WD-UNKNOWABLE",
        }
    }

    /// What a failure to look at a channel says of it.
    pub(crate) fn of_failure(error: &OpenError) -> Verdict {
        match error {
            OpenError::Attach(error) | OpenError::Damaged { source: error, .. } => Verdict::of_error(error),
            OpenError::DamagedWord { .. } => Verdict::Corrupt,
            _ => Verdict::Unknowable,
        }
    }

    /// Of a generation that could not be attached.
    pub(crate) fn of_error(error: &AttachError) -> Verdict {
        use ringward_ring::identity::IdentityError as Identity;
        match error {
            AttachError::Open(FileError::PermissionDenied(_)) => Verdict::NotPermitted,
            AttachError::Open(FileError::NotFound) => Verdict::Unknowable,
            AttachError::Open(FileError::Other(_)) | AttachError::System { .. } => Verdict::Unknowable,
            AttachError::Open(_) => Verdict::Foreign,
            AttachError::Identity(Identity::Short { .. }) | AttachError::Size { .. } => Verdict::Truncated,
            AttachError::Identity(Identity::Major { .. } | Identity::Features { .. }) | AttachError::Page { .. } => {
                Verdict::Incompatible
            }
            _ => Verdict::Corrupt,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Live => "live",
            Verdict::Stalled => "stalled",
            Verdict::Dying => "dying",
            Verdict::Leaked => "leaked lock",
            Verdict::Draining => "draining",
            Verdict::OrphanedInGrace => "orphaned (within grace)",
            Verdict::Orphaned => "orphaned",
            Verdict::Corrupt => "corrupt",
            Verdict::Truncated => "truncated",
            Verdict::Vanished => "vanished",
            Verdict::Foreign => "foreign",
            Verdict::Incompatible => "incompatible",
            Verdict::NotPermitted => "not permitted",
            Verdict::Unknowable => "unknowable",
        })
    }
}

/// What was observed: the verdict's reasons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// Number of the newest generation, if there is one.
    pub generation: Option<u64>,
    /// Generations that have a name.
    pub generations: usize,
    /// State of the newest.
    pub state: Option<State>,
    /// Somebody holds the writer byte exclusively.
    pub writer_held: bool,
    /// Process id that the owner wrote down.
    pub owner_pid: u32,
    /// Whether that owner can be seen.
    pub owner: Option<Whereabouts>,
    /// Somebody holds the presence byte: a standby, a starter, another watchdog.
    pub presence_held: bool,
    /// Reader bytes that are held, in all generations.
    pub readers_held: usize,
    /// Durable readers that will come back, in the newest generation.
    pub durable: usize,
    /// How long the writer has been silent, on our clock; only since this watchdog has been looking.
    pub silent: Option<Duration>,
    /// How long it has been nobody's, by the mark on the file.
    pub orphaned_for: Option<Duration>,
    /// What stood in the way of reading it.
    pub error: Option<String>,
}
