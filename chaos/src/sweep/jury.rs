//! Judges crash states: recovers from each as anybody would, and holds what comes of it against what the subject had said.
//!
//! - The bytes, before anything touches them and after each recovery, read by the sweep's own decoder: identity, words and
//!   cursor whole; every record that is readable is one that was meant.
//! - A starter becomes the writer at the first call; its next sequence number is the acknowledged one, or that with the push
//!   in flight, all of it.
//! - Each durable reader gets what was acknowledged, in order, byte for byte, from its place on, then what the new writer
//!   says; redelivery is marked where there is one, and nowhere else.
//! - Recovering twice is as good as once: the same numbers, the same deliveries, nothing older touched again.
//! - After an orderly close and one look of a watchdog nothing is left.
//!
//! Where memory was cut the third is weaker: delivered, or reported lost.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringward_recovery::{Action, Channel, Durability, Event, From, Reader, Watchdog, Writer};

use super::image::{Image, Node, is_segment};
use super::subject::{self, CHANNEL, NAMESPACE};
use super::world::{Content, Place, World};
use crate::decode::{Castagnoli, corpse};
use crate::payload;
use crate::verdict::{Broken, Violation};

/// What the new writer says.
const MARKER: Content = Content { nonce: 1 << 40, len: 48 };
/// Images that each judge keeps because something is wrong with them.
const KEPT: usize = 4;
/// Looks of a reader for its next event; nobody else is at work, so one is mostly enough.
const LOOKS: usize = 400;
/// A judgement that takes so long will never end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What each reader was handed: sequence number, and whether it was marked redelivered.
pub(crate) type Deliveries = BTreeMap<String, Vec<(u64, bool)>>;

/// What recovery made of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Sequence number that the new writer began with.
    pub(crate) next: u64,
    /// The push in flight was found, whole.
    pub(crate) present: bool,
    /// The channel had been retired, and began anew.
    pub(crate) reborn: bool,
    pub(crate) delivered: Deliveries,
    pub(crate) violations: Vec<Violation>,
}

impl Finding {
    fn flag(&mut self, broken: Broken, what: impl Into<String>) {
        self.violations.push(Violation { broken, what: what.into() });
    }

    /// The same without what is wrong: to be compared.
    pub(crate) fn outcome(&self) -> (u64, bool, bool, &Deliveries) {
        (self.next, self.present, self.reborn, &self.delivered)
    }
}

/// Judges `image`: recovered from once and twice, in directories below `scratch` that are made and removed.
fn judge(image: &Image, world: &World, scratch: &Path, crc: &Castagnoli) -> Finding {
    let recover = |times: usize| {
        let root = scratch.join(times.to_string());
        let done = std::fs::create_dir(&root).and_then(|()| image.lay(&root));
        let finding = match done {
            Ok(()) => recovered(&root, world, times, crc),
            Err(error) => {
                let mut finding = Finding::default();
                finding.flag(Broken::Failed, format!("the image can't be laid out: {error}"));
                finding
            }
        };
        let _ = std::fs::remove_dir_all(&root);
        finding
    };
    let mut once = recover(1);
    if !world.cut {
        let twice = recover(2);
        if once.violations.is_empty() && !twice.violations.is_empty() {
            once.violations.extend(twice.violations.iter().map(|violation| Violation {
                broken: violation.broken,
                what: format!("recovered twice: {}", violation.what),
            }));
        } else if once.violations.is_empty() && once.outcome() != twice.outcome() {
            let what =
                format!("recovered twice it is another: {:?}, recovered once {:?}", twice.outcome(), once.outcome());
            once.flag(Broken::Reordered, what);
        }
    }
    once
}

/// Recovers what is below `root`, `times` over, and looks at all of it. A panic is a finding.
fn recovered(root: &Path, world: &World, times: usize, crc: &Castagnoli) -> Finding {
    let look = || {
        let mut finding = Finding::default();
        if let Err(why) = examine(root, world, times, crc, &mut finding) {
            finding.flag(Broken::Failed, why);
        }
        finding
    };
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into()));
        let mut finding = Finding::default();
        finding.flag(Broken::Failed, format!("recovery panicked: {}", why.unwrap_or_default()));
        finding
    })
}

fn examine(root: &Path, world: &World, times: usize, crc: &Castagnoli, finding: &mut Finding) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let before = Image::take(root).map_err(text)?;
    if !world.cut {
        decode(&before, world, crc, finding, false);
    }
    let newest = newest(&before);
    let channel = subject::channel(root).map_err(|why| format!("the namespace does not open: {why}"))?;
    let claim = |channel: &Channel| channel.writer().map_err(|why| format!("the channel does not open at once: {why}"));
    let mut writer = claim(&channel)?;
    finding.next = writer.next_sequence();
    for _ in 1..times {
        let (next, generation) = (writer.next_sequence(), writer.generation());
        let first = Image::take(root).map_err(text)?;
        writer.abandon();
        writer = claim(&channel)?;
        if (writer.next_sequence(), writer.generation()) != (next, generation + 1) {
            let now = (writer.next_sequence(), writer.generation());
            finding.flag(Broken::Reordered, format!("recovered again: {now:?}, after {:?}", (next, generation)));
        }
        untouched(&first, &Image::take(root).map_err(text)?, generation, finding);
    }
    // Taken away by the subject, the channel may have been born anew already, by a recovery that was killed.
    let anew = world.may_retire && world.next() > 0 && is_born_anew(&before, crc);
    let first = times as u64 + if anew { newest } else { 0 };
    finding.reborn = world.may_retire && writer.generation() == first && finding.next == 0;
    numbers(world, &writer, newest, finding);
    if !world.cut {
        decode(&Image::take(root).map_err(text)?, world, crc, finding, true);
    }
    push_marker(&mut writer, finding)?;
    for (name, place) in &world.places {
        let mut reader = channel
            .reader(name, Durability::Durable, From::Oldest)
            .map_err(|why| format!("reader {name:?} does not come back at once: {why}"))?;
        receive(&mut reader, name, place, world, finding);
        reader.forget();
    }
    writer.close().map_err(|why| format!("the new writer can't close: {why}"))?;
    let mut watchdog = Watchdog::builder(channel.namespace()).action(Action::Reclaim).grace(Duration::ZERO).build();
    let report = watchdog.tick();
    let left: Vec<String> = std::fs::read_dir(root.join(NAMESPACE))
        .map_err(text)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !(world.may_retire && name.starts_with(".quarantine-")))
        .collect();
    if !left.is_empty() {
        finding.flag(Broken::Leak, format!("left after close and a look of the watchdog: {left:?}, {report:?}"));
    }
    Ok(())
}

fn push_marker(writer: &mut Writer, finding: &mut Finding) -> Result<(), String> {
    let mut bytes = vec![0; MARKER.len];
    payload::fill(MARKER.nonce, &mut bytes);
    let sequence = writer
        .push(payload::record_type(MARKER.nonce), &bytes)
        .map_err(|why| format!("the new writer can't push: {why}"))?;
    if sequence != finding.next {
        finding.flag(Broken::Reordered, format!("{} was the next record, {sequence} was pushed", finding.next));
    }
    Ok(())
}

/// Number of the newest generation that has a name; 0: there is none.
fn newest(image: &Image) -> u64 {
    let number = |path: &str| path.rsplit('/').next()?.strip_suffix(".ring")?.parse().ok();
    image.segments().filter_map(|(path, _)| number(path)).max().unwrap_or(0)
}

/// Whether nothing is there but a first generation that nothing was ever written to.
fn is_born_anew(image: &Image, crc: &Castagnoli) -> bool {
    let mut segments = image.segments();
    let (Some((_, bytes)), None) = (segments.next(), segments.next()) else { return false };
    corpse(bytes, crc).is_ok_and(|dead| (dead.generation, dead.first_sequence, dead.next_sequence) == (1, 0, 0))
}

/// Whether the successor word says that nobody ever follows.
fn is_retired(bytes: &[u8]) -> bool {
    bytes.get(272..280) == Some(&0x6e6f_626f_6479_2121_u64.to_le_bytes())
}

/// Looks at all segments with the sweep's own decoder. `recovered`: all but the newest must be ended and followed.
fn decode(image: &Image, world: &World, crc: &Castagnoli, finding: &mut Finding, recovered: bool) {
    let newest = image.segments().map(|(path, _)| path.to_owned()).max();
    for (path, bytes) in image.segments() {
        // Retired: nobody needs it. Ended under a living writer: it may hold more than it says.
        if (world.may_retire && is_retired(bytes)) || (world.zombie && newest.as_deref() != Some(path)) {
            continue;
        }
        let dead = match corpse(bytes, crc) {
            Ok(dead) => dead,
            Err(why) => {
                finding.flag(Broken::Torn, format!("{path}, {}: {why}", if recovered { "after" } else { "before" }));
                continue;
            }
        };
        for (sequence, record_type, len, head) in &dead.records {
            let meant = world.content(*sequence).is_some_and(|content| content.begins(*record_type, *len, head));
            if !meant {
                finding.flag(Broken::Torn, format!("{path}: record {sequence} is not what was written as that"));
            }
        }
        if recovered && newest.as_deref() != Some(path) && (dead.end.is_none() || !dead.followed) {
            finding.flag(Broken::Owners, format!("{path} is not ended and followed: {dead:?}"));
        }
    }
}

/// A second recovery must leave what lies behind the first one's generation alone.
fn untouched(first: &Image, second: &Image, generation: u64, finding: &mut Finding) {
    for (path, node) in first.nodes.iter().filter(|(path, _)| is_segment(path)) {
        let number = path.rsplit('/').next().and_then(|name| name.strip_suffix(".ring")?.parse::<u64>().ok());
        if number.is_some_and(|number| number < generation)
            && let (Node::File { bytes: one, .. }, Some(Node::File { bytes: other, .. })) =
                (node, second.nodes.get(path))
            && let Some(at) = one.iter().zip(other).position(|(one, other)| one != other)
        {
            finding.flag(Broken::Torn, format!("{path}: changed by a second recovery, at byte {at}"));
        }
    }
}

/// The sequence number and the generation that the new writer began with.
fn numbers(world: &World, writer: &Writer, newest: u64, finding: &mut Finding) {
    let (due, flying) = (world.next(), world.in_flight.len() as u64);
    let next = finding.next;
    finding.present = flying > 0 && next == due + flying;
    if world.cut {
        if next < due && !world.may_retire {
            finding.flag(Broken::Reordered, format!("begins with {next}, all up to {due} was acknowledged"));
        }
    } else if !finding.reborn && next != due && !finding.present {
        let broken = if next < due { Broken::Lost } else { Broken::Reordered };
        finding.flag(broken, format!("begins with {next}; {due} was due, with {flying} records in flight"));
    }
    if !finding.reborn && writer.generation() <= newest {
        finding.flag(Broken::Owners, format!("generation {} after {newest}", writer.generation()));
    }
}

/// Receives all that is there, up to the marker, and judges it.
fn receive(reader: &mut Reader, name: &str, place: &Place, world: &World, finding: &mut Finding) {
    let mut buf = vec![0; reader.record_limit().max(subject::CAPACITY as usize)];
    let mut delivered: Vec<(u64, bool)> = Vec::new();
    // Records below this number were delivered, or reported lost; with `unknown`, any number was.
    let (mut accounted, mut unknown) = (place.high, false);
    let mut wrong: Vec<(Broken, String)> = Vec::new();
    let (mut marked, mut idle) = (false, 0);
    while idle < LOOKS && (!marked || idle == 0) {
        match reader.recv(&mut buf, Duration::ZERO) {
            Ok(Some(Event::Record { sequence, record_type, len, redelivered })) => {
                let payload = &buf[..len];
                let before = delivered.last().map(|(sequence, _)| sequence + 1);
                idle = 0;
                delivered.push((sequence, redelivered));
                match before {
                    _ if marked => wrong.push((Broken::Duplicated, format!("record {sequence} came after the end"))),
                    Some(due) if sequence < due => {
                        wrong.push((Broken::Duplicated, format!("record {sequence} came, {due} was due")));
                    }
                    _ if sequence > accounted && !unknown && !(place.fresh && before.is_none()) => {
                        wrong.push((Broken::Lost, format!("record {sequence} came, {accounted} was due")));
                    }
                    None if sequence < place.low => {
                        let what = format!("record {sequence} came again, though {} was in order", place.low);
                        wrong.push((Broken::Duplicated, what));
                    }
                    _ => {}
                }
                (accounted, unknown) = (accounted.max(sequence + 1), false);
                if before.is_none() && !world.cut {
                    accounted = sequence + 1;
                }
                let must = sequence < place.taken_low && !place.fresh;
                if (must && !redelivered) || (redelivered && sequence >= place.taken_high) {
                    let what = format!("record {sequence}: marked redelivered is {redelivered}");
                    wrong.push((Broken::Misreported, what));
                }
                marked = sequence == finding.next;
                let content = if marked { Some(MARKER) } else { world.content(sequence).filter(|_| !finding.reborn) };
                if !content.is_some_and(|content| content.is(record_type, payload)) {
                    wrong.push((Broken::Torn, format!("record {sequence} is not what was written as that")));
                }
            }
            Ok(Some(Event::Gap { from, count, reason })) => {
                if !world.cut {
                    wrong.push((Broken::Misreported, format!("{count:?} lost from {from} on: {reason:?}")));
                }
                unknown |= count.is_none();
                if from <= accounted {
                    accounted = accounted.max(from + count.unwrap_or(0));
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                idle += 1;
                if idle > 20 && !marked {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            Err(why) => {
                wrong.push((Broken::Failed, why.to_string()));
                break;
            }
        }
    }
    if !marked {
        wrong.push((Broken::Lost, format!("did not come to the new writer's record, got {delivered:?}")));
    }
    if place.fresh && delivered.first().is_some_and(|(first, _)| *first > place.high && *first != finding.next) {
        wrong.push((Broken::Lost, format!("a new place that begins with {:?}", delivered.first())));
    }
    for (broken, what) in wrong {
        finding.flag(broken, format!("reader {name:?}: {what}"));
    }
    finding.delivered.insert(name.to_owned(), delivered);
}

/// What is to be judged.
#[derive(Debug)]
pub(crate) enum Case {
    /// A copy of what was there.
    Copy(Arc<Image>),
    /// What is there, in this directory, which is removed afterwards.
    There(PathBuf),
}

struct Task {
    number: usize,
    case: Case,
    world: Arc<World>,
}

#[derive(Debug, Default)]
struct Bench {
    findings: Vec<(usize, Finding)>,
    /// What each judge is at, and since when.
    busy: Vec<Option<(usize, Instant)>>,
}

/// Judges at work, beside the thread that makes their cases.
pub(crate) struct Jury {
    queue: Option<SyncSender<Task>>,
    bench: Arc<Mutex<Bench>>,
    threads: Vec<JoinHandle<()>>,
    sent: usize,
}

impl Jury {
    /// `judges` threads, each with a directory of its own below `root`.
    pub(crate) fn new(judges: usize, root: &Path) -> std::io::Result<Jury> {
        let (queue, tasks) = sync_channel(512);
        let tasks = Arc::new(Mutex::new(tasks));
        let bench = Arc::new(Mutex::new(Bench { findings: Vec::new(), busy: vec![None; judges] }));
        let mut threads = Vec::new();
        for judge in 0..judges {
            let scratch = root.join(format!("judge{judge}"));
            std::fs::create_dir(&scratch)?;
            let (tasks, bench) = (Arc::clone(&tasks), Arc::clone(&bench));
            threads.push(std::thread::Builder::new().name(format!("judge-{judge}")).spawn(move || {
                sit(judge, &tasks, &bench, &scratch);
            })?);
        }
        Ok(Jury { queue: Some(queue), bench, threads, sent: 0 })
    }

    /// Hands a case in; answers its number.
    pub(crate) fn hand(&mut self, case: Case, world: &Arc<World>) -> Result<usize, String> {
        let number = self.sent;
        let mut task = Task { number, case, world: Arc::clone(world) };
        let queue = self.queue.as_ref().ok_or("the jury has gone")?;
        loop {
            match queue.try_send(task) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) => {
                    task = back;
                    self.look_for_hangs()?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err("the jury has gone".into()),
            }
        }
        self.sent += 1;
        Ok(number)
    }

    fn bench(&self) -> std::sync::MutexGuard<'_, Bench> {
        self.bench.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for_hangs(&self) -> Result<(), String> {
        let long = self.bench().busy.iter().flatten().find(|(_, since)| since.elapsed() > PATIENCE).copied();
        long.map_or(Ok(()), |(number, _)| Err(format!("recovery hangs: case {number} was not judged in {PATIENCE:?}")))
    }

    /// Waits for all cases that were handed in, and takes their findings, by number.
    pub(crate) fn findings(&mut self) -> Result<BTreeMap<usize, Finding>, String> {
        self.settle()?;
        self.sent = 0;
        Ok(std::mem::take(&mut self.bench().findings).into_iter().collect())
    }

    /// Waits for all cases that were handed in.
    pub(crate) fn settle(&self) -> Result<(), String> {
        loop {
            self.look_for_hangs()?;
            if self.bench().findings.len() == self.sent {
                return Ok(());
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                return Err("a judge is gone".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Jury {
    fn drop(&mut self) {
        self.queue = None;
        let hangs = self.look_for_hangs().is_err();
        for thread in self.threads.drain(..).filter(|_| !hangs) {
            let _ = thread.join();
        }
    }
}

fn sit(judge: usize, tasks: &Mutex<Receiver<Task>>, bench: &Mutex<Bench>, scratch: &Path) {
    let crc = Castagnoli::new();
    let mut kept = 0;
    let note = |busy: Option<(usize, Instant)>, finding: Option<(usize, Finding)>| {
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        bench.busy[judge] = busy;
        bench.findings.extend(finding);
    };
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { number, case, world }) = task else { return };
        note(Some((number, Instant::now())), None);
        let finding = match case {
            Case::Copy(image) => {
                let mut finding = self::judge(&image, &world, scratch, &crc);
                if kept < KEPT
                    && let Some(violation) = finding.violations.first_mut()
                {
                    let root = scratch.with_file_name(format!("violation-{judge}-{kept}"));
                    if std::fs::create_dir(&root).and_then(|()| image.lay(&root)).is_ok() {
                        violation.what.push_str(&format!("; its image is kept in {}", root.display()));
                        kept += 1;
                    }
                }
                finding
            }
            Case::There(root) => {
                let finding = recovered(&root, &world, 1, &crc);
                let _ = std::fs::remove_dir_all(&root);
                finding
            }
        };
        note(None, Some((number, finding)));
    }
}

/// Name of the channel's directory below a root, for whoever cuts a file there.
pub(crate) fn channel_dir(root: &Path) -> PathBuf {
    root.join(NAMESPACE).join(CHANNEL)
}
