//! A look at a channel, as `ls` and `inspect` show it. Everything in it may be changing while it is looked at.
//!
//! The field names are the keys of the `--json` documents and stay as they are; new ones may come. Sizes are bytes, times say their
//! unit, words are lower case.

use std::collections::BTreeMap;
use std::time::Duration;

use ringward_recovery::owner::Whereabouts;
use ringward_recovery::{Channel, Config, Generation, Namespace, Notice, Seen, Watchdog};
use ringward_ring::cursor::{Mark, Reading};
use ringward_ring::identity::Features;
use ringward_ring::word::{Checksum, End, Kind, SlotState, State, Successor};
use serde::Serialize;

use crate::exit::Failure;
use crate::place;
use crate::stop::Stop;

/// A channel.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelView {
    pub(crate) channel: String,
    /// What the watchdog concludes, in a word or two, and its id.
    pub(crate) verdict: String,
    pub(crate) verdict_id: &'static str,
    /// Number of the newest generation.
    pub(crate) generation: Option<u64>,
    /// How many generations have a name.
    pub(crate) generations: usize,
    pub(crate) state: Option<String>,
    pub(crate) owner: Option<OwnerView>,
    /// Sequence number of the next record.
    pub(crate) next_sequence: Option<u64>,
    /// Of all its generations, in bytes.
    pub(crate) memory: u64,
    pub(crate) readers: Vec<ReaderView>,
    pub(crate) presence_held: bool,
    pub(crate) orphaned_ms: Option<u64>,
    pub(crate) silent_ms: Option<u64>,
    /// What stood in the way of looking.
    pub(crate) error: Option<String>,
    /// Oldest first; only in `inspect`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) chain: Vec<GenerationView>,
}

/// Who wrote itself down as a writer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OwnerView {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) pid_namespace: u32,
    /// `here`, `gone` or `unknowable`.
    pub(crate) whereabouts: &'static str,
    /// The writer byte is locked: whatever else is said, a process holds it.
    pub(crate) lock_held: bool,
}

/// A reader's place.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReaderView {
    /// The generation that it reads.
    pub(crate) generation: u64,
    pub(crate) slot: usize,
    /// Absent if the slot is damaged.
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<&'static str>,
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    /// Its byte is locked: it lives.
    pub(crate) lock_held: bool,
    /// Sequence number of the next record that it has not released.
    pub(crate) next_sequence: Option<u64>,
    /// How far behind the newest record it is; absent where that can't be known.
    pub(crate) lag_records: Option<u64>,
    pub(crate) lag_bytes: Option<u64>,
}

/// A generation.
#[derive(Debug, Serialize)]
pub(crate) struct GenerationView {
    pub(crate) generation: u64,
    /// What stood in the way of reading it; everything else is then absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<SeenView>,
}

/// What a readable generation says.
#[derive(Debug, Serialize)]
pub(crate) struct SeenView {
    pub(crate) state: String,
    pub(crate) segment: String,
    pub(crate) layout: String,
    pub(crate) capacity: u64,
    pub(crate) memory: u64,
    pub(crate) record_limit: u32,
    pub(crate) slots: u32,
    pub(crate) checksum: &'static str,
    pub(crate) schema: String,
    pub(crate) membarrier: bool,
    pub(crate) created_unix_ns: u64,
    pub(crate) owner: OwnerView,
    /// 0: none are promised.
    pub(crate) beat_interval_ms: u32,
    pub(crate) beats: u64,
    pub(crate) last_beat_unix_ns: u64,
    pub(crate) first_sequence: u64,
    /// Where the writer stands; absent if its cursor does not check.
    pub(crate) position: Option<u64>,
    pub(crate) next_sequence: Option<u64>,
    /// `undecided`, `at`, `unknown` or `damaged`.
    pub(crate) end: &'static str,
    pub(crate) end_position: Option<u64>,
    /// `undecided`, `nobody`, `damaged` or a segment id.
    pub(crate) successor: String,
    pub(crate) predecessor: Option<String>,
    pub(crate) predecessor_end: Option<u64>,
    pub(crate) readers: Vec<ReaderView>,
}

/// Looks at the channels of a namespace again and again: what a watchdog needs to see that a writer does not beat.
pub(crate) struct Survey<'n> {
    namespace: &'n Namespace,
    watchdog: Watchdog,
}

impl<'n> Survey<'n> {
    /// Over all channels, or `only` one.
    pub(crate) fn new(namespace: &'n Namespace, only: Option<&str>) -> Survey<'n> {
        let mut builder = Watchdog::builder(namespace);
        if let Some(only) = only {
            builder = builder.only([only]);
        }
        Survey { namespace, watchdog: builder.build() }
    }

    /// One look.
    pub(crate) fn look(&mut self) -> Result<Vec<ChannelView>, Failure> {
        let report = self.watchdog.tick();
        if let Some(error) = report.error {
            return Err(Failure::system("list the namespace", error));
        }
        report.notices.into_iter().map(|notice| view(self.namespace, notice)).collect()
    }
}

/// Looks at the channels of a namespace: all of them, or `only` one. With a `sample` it looks twice, so far apart, which is what it
/// takes to see that a writer does not beat.
pub(crate) fn survey(
    namespace: &Namespace,
    only: Option<&str>,
    sample: Option<Duration>,
    stop: &Stop,
) -> Result<Vec<ChannelView>, Failure> {
    let mut survey = Survey::new(namespace, only);
    if let Some(sample) = sample {
        survey.watchdog.tick();
        stop.sleep(sample)?;
    }
    survey.look()
}

/// One channel, or why there is nothing to see.
pub(crate) fn one(
    namespace: &Namespace,
    channel: &str,
    sample: Option<Duration>,
    stop: &Stop,
) -> Result<ChannelView, Failure> {
    let found = survey(namespace, Some(channel), sample, stop)?.pop();
    found.map_or_else(|| Err(missing(namespace, channel)), Ok)
}

/// One channel, looked at for so long that a writer that is silent for `stall` shows as stalled.
pub(crate) fn one_for(
    namespace: &Namespace,
    channel: &str,
    stall: Duration,
    stop: &Stop,
) -> Result<ChannelView, Failure> {
    let mut watchdog = Watchdog::builder(namespace).only([channel]).stall_timeout(stall).build();
    let first = watchdog.tick();
    if first.notices.is_empty() {
        return Err(missing(namespace, channel));
    }
    stop.sleep(stall)?;
    let notice = watchdog.tick().notices.pop();
    notice.map_or_else(|| Err(missing(namespace, channel)), |notice| view(namespace, notice))
}

/// Why there is nothing to see of a channel: says what was looked for, and where.
fn missing(namespace: &Namespace, channel: &str) -> Failure {
    let error = match place::channel(namespace, channel, Config::default()) {
        Ok(handle) => handle.inspect().err().map(|error| error.to_string()),
        Err(failure) => return failure,
    };
    Failure::Refused(error.unwrap_or_else(|| "the channel came just now; look again [RW-OPEN-MISSING]".to_owned()))
}

/// What there is to see of a channel of which the watchdog said this.
pub(crate) fn view(namespace: &Namespace, notice: Notice) -> Result<ChannelView, Failure> {
    let channel: Channel = place::channel(namespace, &notice.channel, Config::default())?;
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let evidence = notice.evidence;
    let (chain, error) = match channel.inspect() {
        Ok(chain) => (chain, evidence.error),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let newest = chain.last().and_then(|newest| newest.seen.as_ref().ok());
    let next = newest.and_then(published).map(|mark| mark.sequence);
    Ok(ChannelView {
        channel: notice.channel,
        verdict: notice.verdict.to_string(),
        verdict_id: notice.verdict.id(),
        generation: chain.last().map(|newest| newest.number).or(evidence.generation),
        generations: chain.len(),
        state: newest.map(|seen| state(seen.state)),
        owner: newest.map(owner),
        next_sequence: next,
        memory: chain.iter().filter_map(|g| g.seen.as_ref().ok()).map(|seen| seen.identity.geometry.total()).sum(),
        readers: places(&chain),
        presence_held: evidence.presence_held,
        orphaned_ms: ms(evidence.orphaned_for),
        silent_ms: ms(evidence.silent),
        error,
        chain: chain.iter().map(generation).collect(),
    })
}

/// Each reader's place in the chain, in the oldest generation that it has not left, with its lag up to the newest record.
fn places(chain: &[Generation]) -> Vec<ReaderView> {
    let mut places: BTreeMap<(usize, Option<String>), ReaderView> = BTreeMap::new();
    for (index, generation) in chain.iter().enumerate() {
        let Ok(seen) = &generation.seen else { continue };
        for mut reader in readers(generation.number, seen) {
            // A dead ephemeral reader holds nobody back: its place is free for the asking.
            if reader.state == "done" || (reader.kind == Some("ephemeral") && !reader.lock_held) {
                continue;
            }
            // Elder generations also hold what it has still to read in the younger ones.
            for younger in &chain[index + 1..] {
                let more = younger.seen.as_ref().ok().and_then(published);
                reader.lag_bytes = reader.lag_bytes.zip(more).map(|(lag, mark)| lag.saturating_add(mark.position));
                let behind = more.zip(reader.next_sequence).map(|(mark, next)| mark.sequence.saturating_sub(next));
                // A jump over numbers of which nobody knows whether they were used is no lag.
                reader.lag_records = behind.filter(|behind| *behind < 1 << 48);
            }
            places.entry((reader.slot, reader.name.clone())).or_insert(reader);
        }
    }
    places.into_values().collect()
}

/// Where a generation ends, or its writer stands.
fn published(seen: &Seen) -> Option<Mark> {
    match seen.published {
        Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => Some(mark),
        Reading::Damaged => None,
    }
}

fn owner(seen: &Seen) -> OwnerView {
    let owner = seen.identity.owner;
    OwnerView {
        pid: owner.pid,
        start_ticks: owner.start,
        pid_namespace: owner.pid_namespace,
        whereabouts: match seen.owner {
            Whereabouts::Here => "here",
            Whereabouts::Gone => "gone",
            Whereabouts::Unknowable => "unknowable",
        },
        lock_held: seen.writer_held,
    }
}

fn state(state: State) -> String {
    state.known().map_or_else(|| format!("unknown ({:#010x})", state.0), str::to_ascii_lowercase)
}

fn readers(generation: u64, seen: &Seen) -> Vec<ReaderView> {
    let end = published(seen);
    let view = |(slot, reading, lock_held): &(usize, ringward_ring::table::SlotReading, bool)| {
        let mark = match reading.cursor {
            Reading::Sound(mark) | Reading::Checkpoints { lower: mark, .. } => Some(mark),
            Reading::Damaged => None,
        };
        let behind = end.zip(mark);
        ReaderView {
            generation,
            slot: *slot,
            name: reading.card.map(|card| card.name.to_string()),
            kind: reading.card.and_then(|card| match card.kind {
                Kind::DURABLE => Some("durable"),
                Kind::EPHEMERAL => Some("ephemeral"),
                _ => None,
            }),
            state: slot_state(reading.state),
            pid: reading.card.map(|card| card.pid),
            lock_held: *lock_held,
            next_sequence: mark.map(|mark| mark.sequence),
            lag_records: behind.map(|(end, mark)| end.sequence.saturating_sub(mark.sequence)),
            lag_bytes: behind.map(|(end, mark)| end.position.saturating_sub(mark.position)),
        }
    };
    seen.readers.iter().map(view).collect()
}

fn slot_state(state: SlotState) -> String {
    state.known().map_or_else(|| format!("unknown ({:#010x})", state.0), str::to_ascii_lowercase)
}

fn generation(generation: &Generation) -> GenerationView {
    let number = generation.number;
    let seen = match &generation.seen {
        Ok(seen) => seen,
        Err(error) => return GenerationView { generation: number, error: Some(error.clone()), seen: None },
    };
    let identity = &seen.identity;
    let mark = published(seen);
    let (end, end_position) = match seen.end {
        Ok(End::Undecided) => ("undecided", None),
        Ok(End::At(position)) => ("at", Some(position)),
        Ok(End::Unknown) => ("unknown", None),
        Err(_) => ("damaged", None),
    };
    let seen = SeenView {
        state: state(seen.state),
        segment: identity.segment.to_string(),
        layout: format!("{}.{}", ringward_ring::layout::MAJOR, identity.minor),
        capacity: identity.geometry.capacity,
        memory: identity.geometry.total(),
        record_limit: identity.record_limit,
        slots: identity.geometry.slots,
        checksum: if identity.checksum == Checksum::HEADER { "header" } else { "full" },
        schema: format!("{:016x}", identity.schema),
        membarrier: identity.features.has(Features::MEMBARRIER),
        created_unix_ns: identity.created,
        owner: owner(seen),
        beat_interval_ms: identity.beat_interval,
        beats: seen.beat,
        last_beat_unix_ns: seen.beat_time,
        first_sequence: identity.first_sequence,
        position: mark.map(|mark| mark.position),
        next_sequence: mark.map(|mark| mark.sequence),
        end,
        end_position,
        successor: match seen.successor {
            Ok(Successor::Undecided) => "undecided".to_owned(),
            Ok(Successor::Segment(id)) => id.to_string(),
            Ok(Successor::Nobody) => "nobody".to_owned(),
            Err(_) => "damaged".to_owned(),
        },
        predecessor: identity.predecessor.map(|before| before.segment.to_string()),
        predecessor_end: identity.predecessor.and_then(|before| before.end),
        readers: readers(number, seen),
    };
    GenerationView { generation: number, error: None, seen: Some(seen) }
}
