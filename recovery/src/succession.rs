//! How a generation is ended and followed: one path for election, supersession and self-healing.
//!
//! Killed or stopped between any two steps, the next one to come repeats them and meets decisions already taken.

use std::os::fd::AsFd;
use std::sync::Arc;

use ringward_ring::build::{LinkError, Place, Prepared, Spec};
use ringward_ring::canary;
use ringward_ring::cursor::Mark;
use ringward_ring::identity::{Features, Predecessor};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::sys::file::{self, Trust};
use ringward_ring::table::{self, Carried};
use ringward_ring::word::{Checksum, End, SegmentId, State};
use rustix::fs::{AtFlags, Mode, RenameFlags};
use tracing::{debug, info, warn};

use crate::chain::{self, Found};
use crate::channel::Channel;
use crate::config::WhenChainFull;
use crate::error::OpenError;
use crate::namespace::{BIRTH_PREFIX, ChannelDir, generation_name, open_files, try_flock};
use crate::owner;

/// How far sequence numbers jump where nobody can know which were used: no generation has more records than half of this.
///
/// Whoever jumps has its segment and its name on the disk before it writes: were they lost with the power, the next one would jump to the
/// same numbers. The only things that are ever synced; in memory it costs nothing.
pub(crate) const UNKNOWN_JUMP: u64 = 1 << 48;

/// How many records were lost between two sequence numbers, unless that is a jump over what nobody can know.
pub(crate) fn known_loss(from: u64, to: u64) -> Option<u64> {
    Some(to - from).filter(|lost| *lost < UNKNOWN_JUMP / 2)
}

/// What the one who ends a generation knows that its memory may not show any more.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// The writer is dead: nobody held its lock.
    pub(crate) proved_dead: bool,
    /// The writer is this process: where it ends.
    pub(crate) own_end: Option<Mark>,
    /// Readers that the writer knew, if the table is gone.
    pub(crate) known_readers: Vec<Carried>,
}

/// How an attempt to follow a generation went.
#[expect(clippy::large_enum_variant, reason = "made once in a generation's life")]
pub(crate) enum Followed {
    /// We did: the new segment, open, its writer byte held.
    ByUs(Arc<Segment>),
    /// Somebody else was first, or the ground moved: look again. The unused segment comes back.
    LookAgain(Option<Prepared>),
}

/// Whether the machine was started anew since this generation was written.
pub(crate) fn before_reboot(segment: &Segment) -> bool {
    let owner = &segment.identity().owner;
    // In doubt on a disk: then any other boot id counts.
    owner::rebooted(owner, file::in_memory(segment.file().as_fd()).unwrap_or(false))
}

/// Rings both bells of a generation when it goes out of scope, on whatever way.
struct RingAtLast<'a>(&'a Arc<Segment>);

impl Drop for RingAtLast<'_> {
    fn drop(&mut self) {
        succession::ring_all(self.0);
    }
}

/// Ends `old` (generation `number`) and follows it.
pub(crate) fn follow(
    channel: &Channel,
    dir: &ChannelDir,
    number: u64,
    old: &Arc<Segment>,
    knowledge: &Knowledge,
    prepared: Option<Prepared>,
) -> Result<Followed, OpenError> {
    if number == u64::MAX {
        return Err(OpenError::DamagedWord { generation: number, found: number });
    }
    let trust = channel.namespace().trust();
    // Before anything is decided: a chain that is full must not cost a living writer its generation.
    let numbers = make_room(channel, dir)?;
    // Nor must a lack of room: the next generation is built before this one is touched.
    // It has no fewer slots, whatever is configured now: each reader keeps the number of its own.
    let slots = old.identity().geometry.slots;
    let mut next = match prepared {
        Some(prepared) if prepared.slots() >= slots => prepared,
        _ => prepare(channel, dir, slots)?,
    };
    // 2. Open → Fencing, and the barrier: what a living writer publishes from now on it will find fenced.
    succession::fence_writer(old, knowledge.proved_dead)?;
    // 3. Where does it end? Whatever stands in the end word now is it.
    let own_end = knowledge.own_end.filter(|_| !canary!("own-end-forgotten"));
    // After a reboot what a writer left is no prefix of its stores. Up to where its cursor stood when it last reached the disk its
    // readers get what checks; what came behind, nobody knows. Payloads that no checksum covers are not given out at all.
    let rebooted = own_end.is_none() && before_reboot(old);
    let unchecked = rebooted && old.identity().checksum == Checksum::HEADER;
    let published = own_end.or_else(|| match knowledge.proved_dead {
        _ if unchecked => None,
        true => succession::written_end(old),
        false => succession::published_end(old),
    });
    let word = |bad: ringward_ring::word::BadWord| OpenError::DamagedWord { generation: number, found: bad.0 };
    let end = succession::decide_end(old, published.map(|mark| mark.position)).map_err(word)?;
    // Whatever comes of it, everybody who sleeps here is told once, when there is something to go to: woken now they would find
    // nothing yet, and be in the way. If this process is killed first, they look by themselves within 100 ms.
    let told = RingAtLast(old);
    let (end, first_sequence) = match end {
        End::At(position) => {
            let known = knowledge.own_end.filter(|mark| mark.position == position).map(|mark| mark.sequence);
            let wrong = if canary!("first-sequence-from-position") { succession::published_end(old) } else { None };
            let position = wrong.map_or(position, |mark| mark.position);
            match known.or_else(|| succession::sequence_at(old, position)) {
                Some(sequence) => (Some(position), sequence),
                None => (None, old.identity().first_sequence + UNKNOWN_JUMP),
            }
        }
        End::Unknown | End::Undecided => (None, old.identity().first_sequence + UNKNOWN_JUMP),
    };
    // Nor does a decided end tell where numbers stood: the name of a generation that followed it may not have reached the disk.
    let (end, first_sequence) = match rebooted {
        true => (None, old.identity().first_sequence + UNKNOWN_JUMP),
        false => (end, first_sequence),
    };
    // 4. Fill in the next generation: every durable or locked slot, whoever has not come over yet.
    let mut elders = open_files(dir, numbers.into_iter().filter(|n| *n < number), trust)
        .map_err(OpenError::system("open older generations"))?;
    old.set_elders(elders.clone());
    let (mut carried, damaged) = table::to_carry(old);
    let lost_table = ringward_ring::memory::Memory::poisoned(old);
    if lost_table {
        carried.clear();
    }
    for reader in knowledge.known_readers.iter().filter(|_| !canary!("known-readers-forgotten")) {
        if !carried.iter().any(|c| c.slot == reader.slot) {
            carried.push(*reader);
        }
    }
    if damaged > 0 {
        warn!(generation = number, damaged, "reader slots that do not say whose they are; those readers join anew");
    }
    let place = Place {
        channel: old.identity().channel,
        generation: number + 1,
        first_sequence,
        predecessor: Some(Predecessor {
            segment: old.identity().segment,
            end: end.filter(|_| !canary!("predecessor-end-forgotten")),
        }),
        created: owner::wall_clock(),
        lost_places: canary!("lost-places-forgotten")
            .then_some(false)
            .unwrap_or(damaged > 0 || lost_table || rebooted || old.identity().features.has(Features::LOST_PLACES)),
    };
    if canary!("readers-not-carried") {
        carried.clear();
    }
    next.finish(&place, &carried, if canary!("born-open") { State::OPEN } else { State::CANDIDATE });
    if end.is_none() {
        next.sync().map_err(OpenError::system("sync a segment whose numbers jump"))?;
    }
    let next = match next.link(dir.fd(), &generation_name(number + 1)) {
        Ok(next) => Arc::new(next),
        Err((LinkError::Taken, prepared)) => {
            // Somebody else was first: help it through step 5, then go by it.
            if let Found::Segment(other) = chain::find(dir, number + 1, Access::Successor, trust)? {
                chain::confirm(old, &other, number + 1)?;
            }
            return Ok(Followed::LookAgain(Some(prepared)));
        }
        Err((LinkError::Gone, prepared)) => return Ok(Followed::LookAgain(Some(prepared))),
        Err((LinkError::System(source), _)) => return Err(OpenError::System { doing: "link the segment", source }),
        Err((_, prepared)) => return Ok(Followed::LookAgain(Some(prepared))),
    };
    if end.is_none() {
        dir.sync().map_err(OpenError::system("sync the channel's directory"))?;
    }
    // 5. The successor word decides; named or withdrawn.
    if !chain::confirm(old, &next, number + 1)? && !canary!("withdrawal-forgotten") {
        debug!(generation = number + 1, "withdraw: another segment follows");
        succession::shift_state(&next, State::CANDIDATE, State::RETIRED);
        dir.unlink(number + 1, next.key()).map_err(OpenError::system("unlink a withdrawn segment"))?;
        return Ok(Followed::LookAgain(None));
    }
    // 6. Tell everybody.
    if succession::shift_state(old, State::FENCING, State::SUCCEEDED) == State::CLOSED {
        succession::shift_state(old, State::CLOSED, State::SUCCEEDED);
    }
    drop(told);
    elders.push(Arc::clone(old.file()));
    next.set_elders(elders);
    if rebooted {
        warn!(
            generation = number,
            first_sequence,
            "the machine was started anew since this generation was written: an unknown number of records may be lost [RW-EV-REBOOTED]"
        );
    }
    info!(generation = number + 1, first_sequence, carried = carried.len(), "followed");
    Ok(Followed::ByUs(next))
}

/// Follows a generation that can't be read and whose writer is dead: nobody can know where it ended.
///
/// There is no successor word to decide, so the name alone does; afterwards a look whether the ground moved meanwhile.
pub(crate) fn follow_broken(channel: &Channel, dir: &ChannelDir, number: u64) -> Result<Followed, OpenError> {
    make_room(channel, dir)?;
    let trust = channel.namespace().trust();
    let mut first_sequence = UNKNOWN_JUMP.saturating_mul(number);
    let mut carried = Vec::new();
    let mut channel_id = rand::random();
    for before in dir.generations().map_err(OpenError::system("list the channel"))? {
        if before < number
            && let Found::Segment(elder) = chain::find(dir, before, Access::Inspect, trust)?
        {
            let identity = elder.identity();
            channel_id = identity.channel;
            first_sequence = identity.first_sequence.saturating_add(UNKNOWN_JUMP.saturating_mul(number - before + 1));
            carried = table::to_carry(&elder).0;
        }
    }
    let elders = chain::elders(dir, number + 1, trust).map_err(OpenError::system("open older generations"))?;
    let next = prepare(channel, dir, slots_for(&carried))?;
    let followed = link_by_name(dir, next, number + 1, channel_id, first_sequence, &carried)?;
    if let Followed::ByUs(next) = &followed {
        warn!(
            generation = number + 1,
            "followed a generation that can't be read: an unknown number of records is lost"
        );
        name_in_elder(dir, number, next, trust);
        next.set_elders(elders);
        if let Err(error) = chain::tidy(dir, trust, false) {
            debug!(%error, "tidying after a broken generation");
        }
    }
    Ok(followed)
}

/// Follows generation `number`, whose named successor bears no name ([`chain::lost_successor`]): nobody can know where that one ended.
///
/// Its number stays free: whoever still has it open goes on to a later one only. As after one that can't be read, the name decides.
pub(crate) fn follow_lost(
    channel: &Channel,
    dir: &ChannelDir,
    number: u64,
    old: &Arc<Segment>,
    lost: SegmentId,
    proved_dead: bool,
) -> Result<Followed, OpenError> {
    let word = |found| OpenError::DamagedWord { generation: number, found };
    let after = number.checked_add(2).ok_or_else(|| word(lost.0))?;
    make_room(channel, dir)?;
    let trust = channel.namespace().trust();
    let next = prepare(channel, dir, old.identity().geometry.slots)?;
    // Both were done before anybody was named. If the state is damaged since, its readers would not go on; if the end is, nothing says
    // any more where that was.
    succession::fence_writer(old, proved_dead)?;
    if let Ok(End::Undecided) = succession::end(old) {
        succession::decide_end(old, None).map_err(|bad| word(bad.0))?;
    }
    let elders = chain::elders(dir, after, trust).map_err(OpenError::system("open older generations"))?;
    let carried = table::to_carry(old).0;
    // The lost one may have begun with a jump itself.
    let first_sequence = old.identity().first_sequence.saturating_add(2 * UNKNOWN_JUMP);
    let told = RingAtLast(old);
    let followed = link_by_name(dir, next, after, old.identity().channel, first_sequence, &carried)?;
    if let Followed::ByUs(next) = &followed {
        warn!(generation = number, %lost, "its successor has lost its name: an unknown number of records is lost [RW-EV-LOST]");
        succession::shift_state(old, State::FENCING, State::SUCCEEDED);
        drop(told);
        next.set_elders(elders);
        if let Err(error) = chain::tidy(dir, trust, false) {
            debug!(%error, "tidying after a lost generation");
        }
    }
    Ok(followed)
}

/// Gives a segment the name of generation `number`, of a channel whose newest one has no word that could name it: open at once, and nobody's
/// successor. Afterwards a look whether the ground moved meanwhile.
fn link_by_name(
    dir: &ChannelDir,
    mut next: Prepared,
    number: u64,
    channel: u64,
    first_sequence: u64,
    carried: &[Carried],
) -> Result<Followed, OpenError> {
    let created = owner::wall_clock();
    let place = Place { channel, generation: number, first_sequence, predecessor: None, created, lost_places: true };
    next.finish(&place, carried, State::OPEN);
    next.sync().map_err(OpenError::system("sync a segment whose numbers jump"))?;
    match next.link(dir.fd(), &generation_name(number)) {
        Ok(next) => {
            dir.sync().map_err(OpenError::system("sync the channel's directory"))?;
            let newest = dir.generations().map_err(OpenError::system("list the channel"))?.last().copied();
            if newest != Some(number) {
                succession::shift_state(&&next, State::OPEN, State::RETIRED);
                dir.unlink(number, next.key()).map_err(OpenError::system("unlink a withdrawn segment"))?;
                return Ok(Followed::LookAgain(None));
            }
            Ok(Followed::ByUs(Arc::new(next)))
        }
        Err((LinkError::System(source), _)) => Err(OpenError::System { doing: "link the segment", source }),
        Err((_, prepared)) => Ok(Followed::LookAgain(Some(prepared))),
    }
}

/// Generation `number` can't be read. If it was cut before it was confirmed, the one before it has ended and names nobody: it names
/// `next` then, or nothing could ever take it away.
fn name_in_elder(dir: &ChannelDir, number: u64, next: &Segment, trust: &Trust) {
    if let Some(before) = number.checked_sub(1).filter(|n| *n > 0)
        && let Ok(Found::Segment(elder)) = chain::find(dir, before, Access::Successor, trust)
        && matches!(succession::end(&elder), Ok(End::At(_) | End::Unknown))
    {
        match succession::decide_successor(&elder, next.identity().segment) {
            Ok(named) => debug!(generation = before, ?named, "followed over one that can't be read"),
            Err(bad) => debug!(generation = before, word = bad.0, "the successor word is damaged"),
        }
    }
}

/// Keeps the chain bounded before one more generation is added; the numbers of those that have a name.
fn make_room(channel: &Channel, dir: &ChannelDir) -> Result<Vec<u64>, OpenError> {
    let config = channel.config();
    let trust = channel.namespace().trust();
    let list = || dir.generations().map_err(OpenError::system("list the channel"));
    let numbers = list()?;
    if numbers.len() < config.chain_limit || canary!("chain-not-bounded") {
        return Ok(numbers);
    }
    chain::tidy(dir, trust, config.wipe)?;
    let numbers = list()?;
    if numbers.len() < config.chain_limit {
        return Ok(numbers);
    }
    if config.when_chain_full == WhenChainFull::Error {
        return Err(OpenError::ChainFull { found: numbers.len(), limit: config.chain_limit });
    }
    let excess = numbers.len() + 1 - config.chain_limit;
    for number in &numbers[..excess] {
        if let Found::Segment(oldest) = chain::find(dir, *number, Access::Successor, trust)? {
            warn!(generation = number, "dropped: the chain of undrained generations is full");
            dir.unlink(*number, oldest.key()).map_err(OpenError::system("drop the oldest generation"))?;
        }
    }
    list()
}

/// Slots that a generation needs for those that it takes over, whatever the configuration says now.
fn slots_for(carried: &[Carried]) -> u32 {
    carried.iter().map(|reader| reader.slot as u32 + 1).max().unwrap_or(0)
}

/// What to build for a channel.
pub(crate) fn spec(channel: &Channel) -> Spec {
    let config = channel.config();
    Spec {
        capacity: config.capacity,
        record_limit: config.limit(),
        slots: config.slots,
        checksum: config.checksum,
        schema: config.schema,
        beat_interval: config.beat_ms(),
        owner: owner::this_process(),
        mode: channel.namespace().file_mode(),
        group: channel.namespace().group(),
        touch: config.touch,
        no_dump: config.no_dump,
    }
}

/// Builds a segment for a channel, without a name.
pub(crate) fn prepare(channel: &Channel, dir: &ChannelDir, least_slots: u32) -> Result<Prepared, OpenError> {
    let spec = spec(channel);
    let spec = Spec { slots: spec.slots.max(least_slots), ..spec };
    Ok(Prepared::build(dir.fd(), &spec, rand::random())?)
}

/// Gives birth to a channel: built in a private directory, which then takes the channel's name. `None`: somebody else was
/// first.
pub(crate) fn birth(channel: &Channel, first: Option<&Place>) -> Result<Option<(ChannelDir, Arc<Segment>)>, OpenError> {
    let namespace = channel.namespace();
    for _ in 0..16 {
        let cradle = format!("{BIRTH_PREFIX}{:016x}", rand::random::<u64>());
        let system = |doing| move |error: rustix::io::Errno| OpenError::system(doing)(error.into());
        match rustix::fs::mkdirat(namespace.dir(), cradle.as_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => continue,
            Err(error) => return Err(system("make a directory")(error)),
        }
        let Some(dir) = ChannelDir::open(namespace.dir(), &cradle).map_err(OpenError::system("open a directory"))?
        else {
            continue; // a tidier took it between the two calls
        };
        // The flock says that this birth is going on; a tidier that holds it has found the directory before us.
        if !try_flock(&dir.fd()).map_err(OpenError::system("flock"))?
            || !dir.named().map_err(OpenError::system("fstat"))?
        {
            continue;
        }
        let born = deliver(channel, &dir, &cradle, first);
        if !matches!(born, Ok(Some(_))) {
            clear(namespace.dir(), &dir, &cradle);
        }
        return born.map(|born| born.map(|segment| (dir, segment)));
    }
    Err(OpenError::Busy { tries: 16 })
}

fn deliver(
    channel: &Channel,
    dir: &ChannelDir,
    cradle: &str,
    first: Option<&Place>,
) -> Result<Option<Arc<Segment>>, OpenError> {
    let namespace = channel.namespace();
    let system = |doing| move |error: rustix::io::Errno| OpenError::system(doing)(error.into());
    let mut prepared = prepare(channel, dir, 0)?;
    let fresh = Place {
        channel: rand::random(),
        generation: 1,
        first_sequence: 0,
        predecessor: None,
        created: owner::wall_clock(),
        lost_places: false,
    };
    let place = first.unwrap_or(&fresh);
    prepared.finish(place, &[], State::OPEN);
    let segment = match prepared.link(dir.fd(), &generation_name(place.generation)) {
        Ok(segment) => Arc::new(segment),
        Err((LinkError::System(source), _)) => return Err(OpenError::System { doing: "link the segment", source }),
        Err(_) => return Ok(None),
    };
    if let Some(group) = namespace.group() {
        rustix::fs::fchown(dir.fd(), None, Some(rustix::fs::Gid::from_raw(group))).map_err(system("set the group"))?;
    }
    rustix::fs::fchmod(dir.fd(), Mode::from_raw_mode(namespace.dir_mode())).map_err(system("set the mode"))?;
    match rustix::fs::renameat_with(namespace.dir(), cradle, namespace.dir(), channel.name(), RenameFlags::NOREPLACE) {
        Ok(()) => {
            info!(channel = channel.name(), generation = place.generation, "born");
            // The birth is over; a later flock on this directory is somebody else's business.
            let _ = rustix::fs::flock(dir.fd(), rustix::fs::FlockOperation::Unlock);
            Ok(Some(segment))
        }
        Err(rustix::io::Errno::EXIST) => Ok(None),
        Err(error) => Err(system("give the channel its name")(error)),
    }
}

/// Empties and removes a birth directory whose maker is us, or dead.
fn clear(namespace: std::os::fd::BorrowedFd<'_>, dir: &ChannelDir, cradle: &str) {
    for name in crate::namespace::entries(dir.fd()).unwrap_or_default() {
        let _ = rustix::fs::unlinkat(dir.fd(), name.as_str(), AtFlags::empty());
    }
    let _ = rustix::fs::unlinkat(namespace, cradle, AtFlags::REMOVEDIR);
}

/// Removes what births that died on the way have left in a namespace; returns how many.
pub(crate) fn tidy_births(namespace: &crate::namespace::Namespace) -> std::io::Result<usize> {
    let mut removed = 0;
    for name in crate::namespace::entries(namespace.dir())? {
        if !name.starts_with(BIRTH_PREFIX) {
            continue;
        }
        let Some(dir) = ChannelDir::open(namespace.dir(), &name)? else { continue };
        // Whoever gives birth holds the flock from before it puts anything in; between making the directory and that, it
        // notices that the directory is gone and makes another.
        if try_flock(&dir.fd())? || canary!("living-birth-removed") {
            let still = ringward_ring::sys::file::path_key(namespace.dir(), &name)? == Some(dir.key());
            if still {
                debug!(directory = name, "remove what a birth that died has left");
                clear(namespace.dir(), &dir, &name);
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Finishes a retirement that was decided: unlinks what is left and removes the directory. Needs no locks.
pub(crate) fn finish_retirement(
    channel: &Channel,
    dir: &ChannelDir,
    number: u64,
    segment: &Segment,
) -> Result<(), OpenError> {
    dir.unlink(number, segment.key()).map_err(OpenError::system("unlink a retired generation"))?;
    remove_empty(channel, dir)
}

/// Removes the channel's directory if it is empty and still is this one. What a dead builder left in it goes too; what is not
/// ringward's stays, and is an error where there is no generation beside it.
pub(crate) fn remove_empty(channel: &Channel, dir: &ChannelDir) -> Result<(), OpenError> {
    let namespace = channel.namespace();
    let key =
        ringward_ring::sys::file::path_key(namespace.dir(), channel.name()).map_err(OpenError::system("fstatat"))?;
    if key != Some(dir.key()) {
        return Ok(());
    }
    chain::sweep(dir, namespace.trust()).map_err(OpenError::system("sweep temporary names"))?;
    match rustix::fs::unlinkat(namespace.dir(), channel.name(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {
            let names = crate::namespace::entries(dir.fd()).map_err(OpenError::system("list the channel"))?;
            let ours = |name: &String| {
                crate::namespace::generation_number(name).is_some()
                    || name.starts_with(ringward_ring::sys::file::TEMPORARY_PREFIX)
            };
            match names.first().filter(|_| !names.iter().any(ours)) {
                None => Ok(()), // somebody linked a generation, or is building one
                Some(name) => Err(OpenError::Squatted {
                    channel: channel.name().to_owned(),
                    source: std::io::Error::new(
                        std::io::ErrorKind::DirectoryNotEmpty,
                        format!("its directory has no generation but {name:?}, which is not ringward's"),
                    ),
                }),
            }
        }
        Err(error) => Err(OpenError::System { doing: "remove the channel's directory", source: error.into() }),
    }
}
