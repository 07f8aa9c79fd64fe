//! The operations that are swept.

/// An operation of the library, in a world that is made ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    /// A namespace and a channel are born.
    Create,
    /// A segment is opened, verified and mapped.
    Attach,
    /// A durable reader joins a slot.
    JoinDurable,
    /// An ephemeral reader joins a slot.
    JoinEphemeral,
    /// A durable reader that was away comes back to its place.
    ComeBack,
    /// A durable reader is forgotten by name.
    Forget,
    /// A durable reader gives its place up.
    GiveUp,
    /// A push with room in front of it.
    Push,
    /// A push that does not fit before the end of the ring.
    PushWrapping,
    /// A push that takes the last free byte.
    PushFilling,
    /// A push that finds the ring full.
    PushFull,
    /// Three records that are published together.
    Batch,
    /// A record that is filled in place.
    ReserveCommit,
    /// A record is received, the one before it released.
    Receive,
    /// A record in hand is released.
    Release,
    /// A writer closes its channel.
    Close,
    /// A close whose writer died inside it is finished.
    Seal,
    /// A hot standby follows a dead writer.
    Succeed,
    /// A starter without anything prepared follows a dead writer.
    SucceedCold,
    /// A living writer is ended and followed.
    Supersede,
    /// A reader drains its generation and goes over to the next.
    DrainAndMove,
    /// A watchdog takes away a channel that is nobody's.
    TickReclaim,
    /// A watchdog puts such a channel aside.
    TickQuarantine,
    /// A watchdog unlinks a drained generation.
    TickDrained,
    /// A watchdog removes what a birth that died has left.
    TickBirth,
    /// Recovery itself: a new writer, and every durable reader drained. Swept for pairs of crashes only.
    Recover,
}

use Operation as Op;

/// The name of each, as on the command line.
const NAMES: [(Op, &str); 26] = [
    (Op::Create, "create"),
    (Op::Attach, "attach"),
    (Op::JoinDurable, "join-durable"),
    (Op::JoinEphemeral, "join-ephemeral"),
    (Op::ComeBack, "come-back"),
    (Op::Forget, "forget"),
    (Op::GiveUp, "give-up"),
    (Op::Push, "push"),
    (Op::PushWrapping, "push-wrapping"),
    (Op::PushFilling, "push-filling"),
    (Op::PushFull, "push-full"),
    (Op::Batch, "batch"),
    (Op::ReserveCommit, "reserve-commit"),
    (Op::Receive, "receive"),
    (Op::Release, "release"),
    (Op::Close, "close"),
    (Op::Seal, "seal"),
    (Op::Succeed, "succeed"),
    (Op::SucceedCold, "succeed-cold"),
    (Op::Supersede, "supersede"),
    (Op::DrainAndMove, "drain-and-move"),
    (Op::TickReclaim, "tick-reclaim"),
    (Op::TickQuarantine, "tick-quarantine"),
    (Op::TickDrained, "tick-drained"),
    (Op::TickBirth, "tick-birth"),
    (Op::Recover, "recover"),
];

impl Operation {
    /// Those that are swept by default: all but recovery, which is swept in pairs.
    pub(crate) fn all() -> impl Iterator<Item = Operation> {
        NAMES.iter().map(|(op, _)| *op).filter(|op| *op != Op::Recover)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(op, _)| *op == self).map_or("?", |(_, name)| name)
    }

    pub(crate) fn from_name(name: &str) -> Option<Operation> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(op, _)| *op)
    }

    /// Whether a caller to whom it has failed may ask for it again, as it is. Not where a record may be in it, or a writer
    /// that is used up by it.
    pub(crate) fn is_repeated(self) -> bool {
        use Operation::{Batch, Close, GiveUp, Push, PushFilling, PushFull, PushWrapping, Release, ReserveCommit};
        !matches!(self, Push | PushWrapping | PushFilling | PushFull | Batch | ReserveCommit | Close | GiveUp | Release)
    }

    /// Whether the channel may be gone afterwards, with all that is in it.
    pub(crate) fn may_retire(self) -> bool {
        matches!(self, Op::TickReclaim | Op::TickQuarantine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        assert!(NAMES.iter().all(|(op, name)| Operation::from_name(name) == Some(*op) && op.name() == *name));
        assert_eq!(Operation::all().count(), NAMES.len() - 1);
    }
}
