//! A full look at a channel: evidence, and the verdict that follows from it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ringward_ring::canary;
use ringward_ring::layout::{MAX_SLOTS, PRESENCE_BYTE, READER_BYTE};
use ringward_ring::memory::Memory;
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::sys::file::FileKey;
use ringward_ring::sys::lock::{self, Held};
use ringward_ring::table;
use ringward_ring::word::{Kind, SlotState, State};
use tracing::debug;

use super::mark::{mark, mark_age, unmark};
use super::{Action, Watchdog};
use crate::chain::{self, Found as Generation, Standing};
use crate::namespace::{ChannelDir, open_files};
use crate::observer::Observer;
use crate::owner::Whereabouts;
use crate::verdict::{Evidence, Verdict};

/// What a full look at a channel came to.
pub(super) struct Found {
    pub(super) verdict: Verdict,
    /// Its newest generation, if it can be read.
    pub(super) segment: Option<Arc<Segment>>,
    /// The file of one that can't, and that nobody holds.
    pub(super) broken: Option<File>,
    /// It has been nobody's for long enough: to be taken away, if every lock of it can be had.
    pub(super) due: bool,
}

impl Found {
    /// Nothing to be done about it.
    fn only(verdict: Verdict) -> Found {
        Found { verdict, segment: None, broken: None, due: false }
    }
}

impl Watchdog {
    /// Classifies a channel.
    pub(super) fn classify(
        &self,
        dir: &ChannelDir,
        evidence: &mut Evidence,
        observer: &mut Option<(FileKey, Observer)>,
    ) -> Found {
        let trust = *self.setup.namespace.trust();
        let mut numbers = Vec::new();
        // A few looks: between two of them others may have followed, withdrawn, drained.
        for _ in 0..8 {
            numbers = match dir.generations() {
                Ok(numbers) => numbers,
                Err(error) => {
                    evidence.error = Some(error.to_string());
                    return Found::only(Verdict::Unknowable);
                }
            };
            evidence.generations = numbers.len();
            let Some(&number) = numbers.last() else {
                let foreign = !canary!("foreign-files-removed");
                if foreign && crate::namespace::entries(dir.fd()).is_ok_and(|names| !names.is_empty()) {
                    evidence.error = Some("its directory holds files that are not ringward's".to_owned());
                    return Found::only(Verdict::Foreign);
                }
                // A retirement that was not finished: the directory alone.
                let verdict = self.orphaned(dir.fd(), evidence);
                return Found { due: verdict == Verdict::Orphaned, ..Found::only(verdict) };
            };
            evidence.generation = Some(number);
            let access = if self.setup.action == Action::Report { Access::Inspect } else { Access::Successor };
            let segment = match chain::find(dir, number, access, &trust) {
                Ok(Generation::Missing) => continue,
                Ok(Generation::Segment(segment)) => segment,
                Err(error) => {
                    evidence.error = Some(error.to_string());
                    return Found::only(Verdict::of_failure(&error));
                }
                Ok(Generation::Broken(error, file)) => {
                    evidence.error = Some(error.to_string());
                    let verdict = Verdict::of_error(&error);
                    let Some(file) = file else { return Found::only(verdict) };
                    evidence.writer_held = chain::file_owned(&file).unwrap_or(true);
                    evidence.presence_held = held(&file, PRESENCE_BYTE);
                    evidence.readers_held = readers_held(&file);
                    let nobodys = !evidence.writer_held && !evidence.presence_held && evidence.readers_held == 0;
                    let ours = matches!(verdict, Verdict::Corrupt | Verdict::Truncated);
                    let old = nobodys && ours && self.orphaned(file.as_fd(), evidence) == Verdict::Orphaned;
                    return Found { broken: Some(file), due: old, ..Found::only(verdict) };
                }
            };
            if access == Access::Successor {
                match chain::settle(dir, number, &segment, &trust) {
                    Ok(Standing::LookAgain) => continue,
                    Ok(Standing::Current(_)) => {}
                    Ok(Standing::Retired) => {
                        return Found { segment: Some(segment), due: true, ..Found::only(Verdict::Orphaned) };
                    }
                    Err(error) => {
                        evidence.error = Some(error.to_string());
                        return Found::only(Verdict::of_failure(&error));
                    }
                }
            }
            let weighed = self.weigh(dir, &numbers, &segment, evidence, observer);
            let due = weighed == Verdict::Orphaned;
            // A word that nobody knows: that is what is wrong with it. Whether it is anybody's, the locks and the table say as of any other.
            let damaged = evidence.state.filter(|state| state.known().is_none() && weighed != Verdict::Truncated);
            if let Some(state) = damaged {
                evidence.error = Some(format!("its state is none of the known: {:#x}", state.0));
            }
            let verdict = if damaged.is_some() { Verdict::Corrupt } else { weighed };
            let due = due && !(damaged.is_some() && canary!("unknown-state-kept"));
            return Found { segment: Some(segment), due, ..Found::only(verdict) };
        }
        evidence.error = Some(format!("it kept changing; {} generations at the last look", numbers.len()));
        Found::only(Verdict::Unknowable)
    }

    /// Weighs the evidence of a segment that can be read.
    fn weigh(
        &self,
        dir: &ChannelDir,
        numbers: &[u64],
        segment: &Arc<Segment>,
        evidence: &mut Evidence,
        observer: &mut Option<(FileKey, Observer)>,
    ) -> Verdict {
        let state = succession::state(segment);
        let recorded = segment.identity().owner;
        evidence.state = Some(state);
        evidence.owner_pid = recorded.pid;
        let whereabouts = self.viewer.whereabouts(&recorded);
        evidence.owner = Some(whereabouts);
        evidence.writer_held = segment.writer_held().map_or(true, |held| held == Held::Exclusive);
        evidence.presence_held = held(segment.file(), PRESENCE_BYTE);
        evidence.readers_held = readers_held(segment.file());
        // Listed a moment ago: nothing older comes to be meanwhile.
        let older = numbers.iter().copied().take(numbers.len().saturating_sub(1));
        match open_files(dir, older, self.setup.namespace.trust()) {
            Ok(elders) => evidence.readers_held += elders.iter().map(|elder| readers_held(elder)).sum::<usize>(),
            Err(error) => {
                evidence.error = Some(format!("cannot open older generations: {error}"));
                return Verdict::Unknowable;
            }
        }
        evidence.durable = durable_readers(segment);
        if segment.poisoned() {
            return Verdict::Truncated;
        }
        if evidence.writer_held {
            let fresh = observer.as_ref().is_none_or(|(key, _)| *key != segment.key());
            if fresh {
                *observer = Some((segment.key(), Observer::new(segment)));
            }
            let Some((_, observer)) = observer else { return Verdict::Unknowable };
            evidence.silent = Some(observer.silent_for(segment));
            if self.viewer.is_dying(&recorded) {
                return Verdict::Dying;
            }
            if whereabouts == Whereabouts::Gone {
                return Verdict::Leaked;
            }
            let stalled = state == State::OPEN && observer.is_silent(segment, self.setup.stall_timeout);
            return if stalled { Verdict::Stalled } else { Verdict::Live };
        }
        let present = evidence.presence_held && !canary!("presence-ignored");
        let inhabited = present || evidence.readers_held > 0;
        let verdict = if inhabited { Verdict::Draining } else { self.orphaned(segment.file().as_fd(), evidence) };
        if inhabited {
            if self.setup.action != Action::Report {
                unmark(segment.file());
            }
            return verdict;
        }
        let age = evidence.orphaned_for.unwrap_or_default();
        let kept = (evidence.durable > 0 && !canary!("durable-place-ignored")) || numbers.len() > 1;
        let expired = self.setup.expire_durable.is_some_and(|after| age >= after);
        if kept && !expired { Verdict::Draining } else { verdict }
    }

    /// Nobody's: for how long, by the mark on the file; sets the mark if there is none.
    fn orphaned(&self, fd: BorrowedFd<'_>, evidence: &mut Evidence) -> Verdict {
        let age = match mark_age(fd) {
            Ok(Some(age)) => age,
            Ok(None) => {
                // Report-only looks leave no marks; grace then counts as just begun.
                if self.setup.action != Action::Report
                    && let Err(error) = mark(fd)
                {
                    debug!(%error, "cannot mark an orphan");
                }
                Duration::ZERO
            }
            Err(error) => {
                debug!(%error, "cannot read an orphan's mark");
                Duration::ZERO
            }
        };
        evidence.orphaned_for = Some(age);
        if age >= self.setup.grace || canary!("grace-ignored") { Verdict::Orphaned } else { Verdict::OrphanedInGrace }
    }
}

pub(super) fn held(file: &File, byte: u64) -> bool {
    lock::probe(file.as_fd(), byte).map_or(true, |held| held != Held::Nobody)
}

/// Reader bytes of a file that are held. One question for all of them first: mostly none is.
pub(super) fn readers_held(file: &File) -> usize {
    if lock::probe_range(file.as_fd(), READER_BYTE, MAX_SLOTS.into()).is_ok_and(|held| held == Held::Nobody) {
        return 0;
    }
    (0..u64::from(MAX_SLOTS)).filter(|slot| held(file, READER_BYTE + slot)).count()
}

pub(super) fn durable_readers(segment: &Arc<Segment>) -> usize {
    let expelled = segment.page().succession.expelled.load(std::sync::atomic::Ordering::Acquire);
    segment
        .slots()
        .iter()
        .enumerate()
        .filter(|(slot, _)| expelled >> (slot & 63) & 1 == 0)
        .map(|(_, slot)| table::read_slot(slot, segment.identity().segment))
        .filter(|slot| match slot.state {
            SlotState::FREE | SlotState::DONE | SlotState::PROVISIONAL => false,
            _ => slot.card.is_none_or(|card| card.kind == Kind::DURABLE),
        })
        .count()
}
