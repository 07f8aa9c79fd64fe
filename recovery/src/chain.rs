//! The chain of a channel's generations: listing, attaching, finishing what somebody else began, unlinking what is drained.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use ringward_ring::canary;
use ringward_ring::identity::Predecessor;
use ringward_ring::layout::WRITER_BYTE;
use ringward_ring::segment::{Access, AttachError, Segment};
use ringward_ring::succession::{self, Drained};
use ringward_ring::sys::file::{self, FileKey, OpenError as FileOpenError, TEMPORARY_PREFIX, Trust};
use ringward_ring::sys::lock::{self, Held};
use ringward_ring::table;
use ringward_ring::word::{End, SegmentId, State, Successor};
use rustix::fs::AtFlags;
use tracing::{debug, info};

use crate::error::OpenError;
use crate::namespace::{ChannelDir, entries, generation_name, open_files};
use crate::succession::before_reboot;
use crate::verdict::Verdict;

/// A generation found in a channel's directory.
#[derive(Debug)]
pub(crate) enum Found {
    /// It has no name (any more).
    Missing,
    /// Attached.
    Segment(Arc<Segment>),
    /// It has the name, but can't be read; the file, if it could be opened at all.
    Broken(AttachError, Option<File>),
}

/// Opens generation `number`.
///
/// # Errors
///
/// What the system said, if that tells nothing about the generation: no descriptor or memory left, no permission, an interrupted
/// call. Nothing may be concluded from it: a generation that is taken for broken is followed, passed over or taken away.
pub(crate) fn find(dir: &ChannelDir, number: u64, access: Access, trust: &Trust) -> Result<Found, OpenError> {
    let name = generation_name(number);
    match Segment::attach(dir.fd(), &name, access, trust) {
        Ok(segment) => Ok(Found::Segment(Arc::new(segment))),
        Err(AttachError::Open(FileOpenError::NotFound)) => Ok(Found::Missing),
        Err(error) if says_nothing(&error) => Err(OpenError::Attach(error)),
        Err(error) => {
            let file = file::open_checked(dir.fd(), &name, access != Access::Inspect, trust).ok();
            Ok(Found::Broken(error, file))
        }
    }
}

/// Whether an error is the system's or ours, and not the file's.
fn says_nothing(error: &AttachError) -> bool {
    matches!(Verdict::of_error(error), Verdict::Unknowable | Verdict::NotPermitted) && !canary!("unknowable-is-broken")
}

/// Whether a living process holds the writer byte of a file that can't be attached.
pub(crate) fn file_owned(file: &File) -> io::Result<bool> {
    Ok(lock::probe(file.as_fd(), WRITER_BYTE)? != Held::Nobody)
}

/// What the state of a generation asks of whoever meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the current one, or was ended: go by its state.
    Current(State),
    /// It was not the one, or is not there any more: look at the directory again.
    LookAgain,
    /// It was retired: nobody follows.
    Retired,
}

/// Brings generation `number` to a state that can be gone by: completes its confirmation if its linker died on the way, takes a
/// withdrawn rival away.
pub(crate) fn settle(
    dir: &ChannelDir,
    number: u64,
    segment: &Arc<Segment>,
    trust: &Trust,
) -> Result<Standing, OpenError> {
    let state = succession::state(segment);
    if state == State::RETIRED {
        debug!(generation = number, "unlink a withdrawn rival");
        dir.unlink(number, segment.key()).map_err(OpenError::system("unlink a withdrawn segment"))?;
        return Ok(Standing::LookAgain);
    }
    if state == State::CANDIDATE {
        return help(dir, number, segment, trust);
    }
    match succession::successor(segment) {
        Ok(Successor::Nobody) => Ok(Standing::Retired),
        _ => Ok(Standing::Current(state)),
    }
}

/// A candidate's linker may have died: decides its predecessor's successor word, and opens it if it is the one.
fn help(dir: &ChannelDir, number: u64, candidate: &Arc<Segment>, trust: &Trust) -> Result<Standing, OpenError> {
    let before = match number.checked_sub(1).filter(|n| *n > 0) {
        Some(before) => find(dir, before, Access::Successor, trust)?,
        None => Found::Missing,
    };
    match before {
        Found::Segment(before) => {
            if !confirm(&before, candidate, number)? && succession::state(candidate) == State::CANDIDATE {
                // Another was named. Its linker withdraws it, if it still can.
                withdraw(dir, number, candidate)?;
            }
            Ok(Standing::LookAgain)
        }
        // Its predecessor can't be read, but its writer lives: it is healing itself, and this candidate is the step it has taken.
        Found::Broken(source, file) if file.as_ref().is_none_or(|file| file_owned(file).unwrap_or(true)) => {
            Err(OpenError::Damaged { generation: number - 1, source })
        }
        Found::Missing | Found::Broken(..) => {
            // Its predecessor lost its name only after the one that follows was confirmed: if this one still is a candidate, it
            // is a withdrawn rival's. Look at the state again *after* having seen that the name is gone.
            if succession::state(candidate) == State::CANDIDATE {
                // Unless that it was opened had not reached the disk when the machine went down, and that the other was unlinked had.
                let newest = dir.generations().map_err(OpenError::system("list the channel"))?.last().copied();
                if before_reboot(candidate) && newest == Some(number) {
                    succession::shift_state(candidate, State::CANDIDATE, State::OPEN);
                    return Ok(Standing::LookAgain);
                }
                withdraw(dir, number, candidate)?;
            }
            Ok(Standing::LookAgain)
        }
    }
}

/// Takes a candidate away that can't be confirmed any more.
fn withdraw(dir: &ChannelDir, number: u64, candidate: &Arc<Segment>) -> Result<(), OpenError> {
    info!(generation = number, "unlink a candidate that was never confirmed");
    dir.unlink(number, candidate.key()).map_err(OpenError::system("unlink a withdrawn candidate"))?;
    Ok(())
}

/// The segment that was named to follow generation `number`, if it has lost its name: somebody removed it, or the name did not reach the
/// disk before the machine went down.
///
/// It had its name before it was named, and names go from the oldest on: one that is missing while `number` is there was taken by none of us.
pub(crate) fn lost_successor(dir: &ChannelDir, number: u64, segment: &Arc<Segment>) -> io::Result<Option<SegmentId>> {
    let Ok(Successor::Segment(named)) = succession::successor(segment) else { return Ok(None) };
    let newest = dir.generations()?.last() == Some(&number);
    Ok((newest && segment.bears(dir.fd(), &generation_name(number))?).then_some(named))
}

/// Decides that `candidate` (generation `number`) follows `before`, unless another was named; opens the candidate if it is
/// the one. Says whether it is.
pub(crate) fn confirm(before: &Arc<Segment>, candidate: &Arc<Segment>, number: u64) -> Result<bool, OpenError> {
    let id = candidate.identity().segment;
    let decided = succession::decide_successor(before, id)
        .map_err(|bad| OpenError::DamagedWord { generation: number - 1, found: bad.0 })?;
    let named = decided == Successor::Segment(id);
    if named {
        if succession::state(candidate) == State::CANDIDATE {
            table::drop_given_up(before, candidate);
        }
        succession::shift_state(candidate, State::CANDIDATE, State::OPEN);
    }
    Ok(named)
}

/// A closed generation whose writer died before it decided the end: decides it. Needs the writer page writable.
pub(crate) fn finish_close(segment: &Arc<Segment>, number: u64) -> Result<(), OpenError> {
    let published = succession::published_end(segment).map(|mark| mark.position);
    succession::decide_end(segment, published)
        .map_err(|bad| OpenError::DamagedWord { generation: number, found: bad.0 })?;
    succession::ring_all(segment);
    Ok(())
}

/// Files of the generations before `number` that have a name, oldest first.
pub(crate) fn elders(dir: &ChannelDir, number: u64, trust: &Trust) -> io::Result<Vec<Arc<File>>> {
    let numbers = dir.generations()?;
    open_files(dir, numbers.into_iter().filter(|n| *n < number), trust)
}

/// What tidying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Generations that were drained, and unlinked.
    pub unlinked: usize,
    /// Generations that have a name now.
    pub left: usize,
}

/// Unlinks drained generations with a decided, confirmed successor: strictly ascending, the newest never.
pub(crate) fn tidy(dir: &ChannelDir, trust: &Trust, wipe: bool) -> Result<Tidied, OpenError> {
    let mut tidied = Tidied::default();
    sweep(dir, trust).map_err(OpenError::system("sweep temporary names"))?;
    let mut numbers = dir.generations().map_err(OpenError::system("list the channel"))?;
    while let [oldest, rest @ ..] = &numbers[..] {
        let oldest = *oldest;
        if rest.is_empty() {
            break;
        }
        match find(dir, oldest, Access::Successor, trust)? {
            Found::Missing => {}
            // Not damaged, but a newer build's: its readers and writers can read it, and it is theirs to take away.
            Found::Broken(error, _)
                if Verdict::of_error(&error) == Verdict::Incompatible && !canary!("newer-major-tidied-away") =>
            {
                break;
            }
            Found::Broken(_, file) => {
                // Nothing in it can be read any more. Its readers hold it mapped (and poisoned) and need no name; whoever
                // comes later needs the next one. Only its own living writer, who heals itself, still counts on the name.
                let owned = file.as_ref().is_some_and(|file| file_owned(file).unwrap_or(true));
                let Some(file) = file.filter(|_| !owned && rest.first() == Some(&(oldest + 1))) else { break };
                let key = file::file_key(file.as_fd()).map_err(OpenError::system("fstat"))?;
                let unlinked = dir.unlink(oldest, key).map_err(OpenError::system("unlink a broken generation"))?;
                tidied.unlinked += usize::from(unlinked);
            }
            Found::Segment(segment) => {
                if settle(dir, oldest, &segment, trust)? == Standing::LookAgain {
                    numbers = dir.generations().map_err(OpenError::system("list the channel"))?;
                    continue;
                }
                if !unlinkable(dir, oldest, &segment, trust)? {
                    break;
                }
                if wipe && let Err(error) = segment.wipe() {
                    debug!(generation = oldest, %error, "cannot wipe");
                }
                if dir.unlink(oldest, segment.key()).map_err(OpenError::system("unlink a drained generation"))? {
                    debug!(generation = oldest, "unlinked: drained");
                    tidied.unlinked += 1;
                }
            }
        }
        numbers.remove(0);
    }
    tidied.left = numbers.len();
    Ok(tidied)
}

/// Unlinks the temporary names of builders that died where there is no `O_TMPFILE`. Whoever builds holds the writer byte of what it
/// builds; one that is met before it has locked it finds its name gone, and builds again.
pub(crate) fn sweep(dir: &ChannelDir, trust: &Trust) -> io::Result<()> {
    for name in entries(dir.fd())?.into_iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
        let Ok(file) = file::open_checked(dir.fd(), &name, true, trust) else { continue };
        if (!file_owned(&file)? || canary!("living-builder-swept"))
            && file::path_key(dir.fd(), &name)? == Some(file::file_key(file.as_fd())?)
        {
            debug!(name, "unlink what a builder that died has left");
            match rustix::fs::unlinkat(dir.fd(), name.as_str(), AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Where generation `number` ended, as its successor says, if its own word doesn't: it is damaged, or what stood there is lost. None was ever
/// built but on a decided end. `None`: nothing says so, or the writer is still at work.
fn end_by_successor(segment: &Arc<Segment>, next: &Arc<Segment>) -> Option<Predecessor> {
    let before = next.identity().predecessor.filter(|before| before.segment == segment.identity().segment)?;
    let writes =
        succession::state(segment) == State::OPEN && segment.writer_held().map_or(true, |held| held == Held::Exclusive);
    (succession::state(next) != State::CANDIDATE && !writes && !canary!("end-not-mended")).then_some(before)
}

fn end_decided(segment: &Arc<Segment>) -> bool {
    matches!(succession::end(segment), Ok(End::At(_) | End::Unknown))
}

/// Decides the end of generation `number`, which was followed, by what its successor says, if its own word does not say it.
pub(crate) fn mend_end(dir: &ChannelDir, number: u64, key: FileKey, trust: &Trust) -> Result<(), OpenError> {
    let Found::Segment(segment) = find(dir, number, Access::Successor, trust)? else { return Ok(()) };
    if segment.key() == key
        && !end_decided(&segment)
        && let Found::Segment(next) = find(dir, number + 1, Access::Inspect, trust)?
        && let Some(before) = end_by_successor(&segment, &next)
    {
        decide_as(&segment, number, before)?;
    }
    Ok(())
}

fn decide_as(segment: &Arc<Segment>, number: u64, before: Predecessor) -> Result<(), OpenError> {
    info!(generation = number, end = before.end, "its end word says nothing: decided as its successor says");
    succession::decide_end(segment, before.end)
        .map_err(|bad| OpenError::DamagedWord { generation: number, found: bad.0 })?;
    succession::ring_all(segment);
    Ok(())
}

/// Whether generation `number` has ended, is followed by a confirmed one, and nobody needs it any more.
fn unlinkable(dir: &ChannelDir, number: u64, segment: &Arc<Segment>, trust: &Trust) -> Result<bool, OpenError> {
    let decided = end_decided(segment);
    match find(dir, number + 1, Access::Successor, trust)? {
        Found::Segment(next) => {
            let said = if decided { None } else { end_by_successor(segment, &next) };
            if !decided && said.is_none() {
                return Ok(false);
            }
            if !confirm(segment, &next, number + 1)? || succession::state(&next) == State::CANDIDATE {
                return Ok(false);
            }
            if let Some(before) = said {
                decide_as(segment, number, before)?;
            }
        }
        // The next one was damaged after it had been confirmed; or it is not the next one that has a name.
        // Or it has lost its name, and was followed by name.
        Found::Broken(..) | Found::Missing
            if decided && matches!(succession::successor(segment), Ok(Successor::Segment(_))) => {}
        Found::Broken(..) | Found::Missing => return Ok(false),
    }
    segment.set_elders(elders(dir, number, trust).map_err(OpenError::system("open older generations"))?);
    Ok(succession::drained(segment) == Drained::Yes || canary!("drained-not-asked"))
}
