//! Why an operation on a channel failed.

use std::io;

use ringward_ring::build::BuildError;
use ringward_ring::identity::Owner;
use ringward_ring::segment::{AttachError, JoinError};
use ringward_ring::succession::FenceError;
use ringward_ring::writer::{CommitError, FillError, PushError};

use crate::config::ConfigError;
use crate::namespace::BadName;
use crate::reader::Lost;

/// Why a channel could not be opened, joined or taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The name can't be.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A living writer has the channel.
    #[error("channel is owned by process {} (generation {generation}, {}); wait as a standby, or end it first [RW-OPEN-OWNED]", .owner.pid, if *.leaked { "which is gone, but its lock is held: a leaked descriptor" } else { "alive" })]
    Owned {
        /// Who wrote itself down as the owner.
        owner: Owner,
        /// Number of the generation.
        generation: u64,
        /// The lock is held, but the recorded owner is provably gone: a leaked descriptor.
        leaked: bool,
    },
    /// There is no such channel.
    #[error(
        "there is no channel {channel:?} in {namespace}; start its writer first, or look at the root and namespace [RW-OPEN-MISSING]"
    )]
    Missing {
        /// Name of the channel.
        channel: String,
        /// Path of the namespace.
        namespace: String,
    },
    /// Something that is no directory has the channel's name.
    #[error("channel {channel:?} can't be opened: {source}; look what has its name in the namespace [RW-OPEN-SQUAT]")]
    Squatted {
        /// Name of the channel.
        channel: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The channel was closed and nothing of it is left for this reader.
    #[error("channel was closed by its writer at generation {generation}; start a writer to go on [RW-OPEN-CLOSED]")]
    Closed {
        /// Number of the generation.
        generation: u64,
    },
    /// The newest generation has ended and nobody has followed it yet.
    #[error(
        "channel has no current generation (generation {generation} ended, nobody followed); start a writer or wait [RW-OPEN-NOWRITER]"
    )]
    NoWriter {
        /// Number of the generation.
        generation: u64,
    },
    /// The durable name is in use.
    #[error("reader name {name:?} is held by a living process; a durable name has one holder at a time [RW-OPEN-HELD]")]
    NameHeld {
        /// The name.
        name: String,
    },
    /// Not by that name.
    #[error("reader name {found:?} can't be: {why} [RW-OPEN-READERNAME]")]
    ReaderName {
        /// What was given.
        found: String,
        /// Why not.
        why: String,
    },
    /// Undrained generations have piled up.
    #[error(
        "{found} undrained generations, at most {limit} may be; let their readers drain them, or forget readers that never come back [RW-OPEN-CHAIN]"
    )]
    ChainFull {
        /// Generations that have a name.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The newest generation can't be read. A living writer heals itself; a dead one's is followed by the next writer.
    #[error(
        "generation {generation} can't be read: {source}; its writer heals it if it lives, else the next writer follows it [RW-OPEN-DAMAGED]"
    )]
    Damaged {
        /// Number of the generation.
        generation: u64,
        /// What is wrong with it.
        #[source]
        source: AttachError,
    },
    /// A segment could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A segment could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A reader slot could not be taken.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A living writer could not be fenced.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// A word that decides the succession is damaged and could not be decided again.
    #[error("the succession line of generation {generation} is damaged: a word holds {found:#x} [RW-OPEN-WORD]")]
    DamagedWord {
        /// Number of the generation.
        generation: u64,
        /// What was found.
        found: u64,
    },
    /// Others kept getting ahead.
    #[error("gave up after {tries} tries: others keep changing the channel; try again [RW-OPEN-BUSY]")]
    Busy {
        /// How many tries.
        tries: usize,
    },
    /// Anything else that the system said.
    #[error("{doing}: {source} [RW-OPEN-SYSTEM]")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        move |source| OpenError::System { doing, source }
    }
}

/// Why a record was not acknowledged by a channel's writer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// As the segment's writer says.
    #[error(transparent)]
    Push(#[from] PushError),
    /// Not filled exactly.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// The writer's generation has ended, and it could not succeed itself.
    #[error("this writer's generation ended and it could not go on: {0} [RW-SEND-HEAL]")]
    Heal(#[source] Box<OpenError>),
}

impl From<CommitError> for SendError {
    fn from(error: CommitError) -> SendError {
        match error {
            CommitError::Fill(fill) => SendError::Fill(fill),
            CommitError::Push(push) => SendError::Push(push),
            _ => SendError::Push(PushError::Fenced),
        }
    }
}

/// Why a reader can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The next record is longer than the buffer; it was not taken.
    #[error("the next record has {needed} bytes, the buffer {given}; call again with a larger one [RW-RECV-BUFFER]")]
    BufferTooSmall {
        /// Bytes of the record.
        needed: usize,
        /// Bytes of the buffer.
        given: usize,
    },
    /// Somebody took this reader's place away because it did not read.
    #[error(
        "this reader was expelled; records from sequence {next} on may be lost to it; open it again [RW-RECV-EXPELLED]"
    )]
    Expelled {
        /// The sequence number that would have come next.
        next: u64,
    },
    /// The way to the next generation failed.
    #[error("cannot follow the channel to its next generation: {0} [RW-RECV-FOLLOW]")]
    Follow(#[from] Box<OpenError>),
    /// The channel was retired or removed, with its directory.
    #[error("the channel is gone: its directory was removed; {} [RW-RECV-GONE]", .lost)]
    Gone {
        /// What may have been lost with it.
        lost: Lost,
    },
}
