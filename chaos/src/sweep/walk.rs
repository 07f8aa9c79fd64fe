//! The sweep of one operation: count first, then break at every count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ringward_recovery::Writer;

use super::image::{Camera, Image, Node};
use super::jury::{Case, Finding, Jury, channel_dir};
use super::operation::Operation;
use super::stand::{Here, Ran, Stand, Subject, SystemCall};
use super::subject::{self, CAPACITY, ONCE, THEIRS};
use super::tally::Row;
use super::world::{Content, World};
use super::{Fault, Mode, Planted};
use crate::cli::SweepArgs;
use crate::engine::Blow;
use crate::payload::{self, Dice};
use crate::stop::Stop;
use crate::verdict::Broken;

/// Lengths to which segments are cut: nothing, in the identity, behind the writer page, behind the reader table, in the data.
const CUTS: [usize; 5] = [0, 100, 4096, 8192, 8192 + CAPACITY as usize / 2];
/// Later executions of one instruction cost a trap for each earlier one: this many at most.
const MOST_TRAPS: u32 = 40;

/// A point at which an operation was stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) pc: u64,
    /// Which execution of that instruction it is.
    occurrence: u32,
    image: u64,
}

/// All that one walk through an operation has shown.
pub(super) struct Map {
    pub(super) points: Vec<Point>,
    /// Different images, in the order in which they came, each with the world at its first point.
    images: Vec<(u64, Arc<Image>, Arc<World>)>,
    /// Points that are system calls.
    pub(super) calls: Vec<(usize, SystemCall)>,
    /// The image and the world once the operation has returned.
    end: (Arc<Image>, Arc<World>),
}

/// Sweeps operations, one after another.
pub(crate) struct Walker<'a> {
    pub(super) args: &'a SweepArgs,
    seed: u64,
    root: PathBuf,
    pub(super) stand: Stand,
    pub(super) jury: Jury,
    /// Addresses at which somebody was really killed.
    killed_at: HashSet<u64>,
    /// System calls, each with where it was seen to be made.
    pub(super) made_at: BTreeMap<u64, BTreeSet<u64>>,
    roots: u64,
}

/// What a finding belongs to.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    Copy(u64),
    End,
    Kill(usize),
    Stop(usize),
    Cut(usize),
    DeadCut(usize, usize),
    Pair(usize, usize),
    /// And how.
    Errno(usize, String),
}

impl<'a> Walker<'a> {
    pub(crate) fn new(args: &'a SweepArgs, seed: u64, root: &Path, core: usize, judges: usize) -> Result<Self, Fault> {
        let stand = Stand::new(seed, core)?;
        let jury = Jury::new(judges, root)?;
        Ok(Walker {
            args,
            seed,
            root: root.to_owned(),
            stand,
            jury,
            killed_at: HashSet::new(),
            made_at: BTreeMap::new(),
            roots: 0,
        })
    }

    /// A new directory for a subject: names of one length.
    fn fresh(&mut self) -> Result<PathBuf, Fault> {
        self.roots += 1;
        let root = self.root.join(format!("s{:09}", self.roots));
        std::fs::create_dir(&root)?;
        Ok(root)
    }

    /// Sweeps `op`, and writes into `row` what came of it.
    pub(crate) fn sweep(&mut self, op: Operation, modes: &[Mode], row: &mut Row, stop: &Stop) -> Result<(), Fault> {
        let started = Instant::now();
        let map = self.count(op, row)?;
        let mut whose = Vec::new();
        if modes.contains(&Mode::Kill) {
            self.copies(&map, row, &mut whose)?;
            self.jury.settle()?;
            let began = Instant::now();
            self.kills(op, &map, row, &mut whose, stop)?;
            self.jury.settle()?;
            row.killing = began.elapsed();
        }
        if modes.contains(&Mode::Stop) {
            self.stops(op, &map, row, &mut whose, stop)?;
        }
        if modes.contains(&Mode::Cut) {
            self.dead_cuts(&map, row, &mut whose)?;
            self.cuts(op, &map, row, &mut whose, stop)?;
        }
        if modes.contains(&Mode::Errno) {
            self.errnos(op, &map, row, &mut whose, stop)?;
        }
        if modes.contains(&Mode::Pairs) {
            self.pairs(op, &map, row, &mut whose, stop)?;
        }
        row.idle = modes == [Mode::Errno] && row.errnos.of == 0;
        let findings = self.jury.findings()?;
        self.conclude(&map, &whose, findings, row);
        row.elapsed = started.elapsed();
        Ok(())
    }

    /// Walks through the operation once, and takes what is there at each instruction.
    fn count(&mut self, op: Operation, row: &mut Row) -> Result<Map, Fault> {
        let root = self.fresh()?;
        let mut subject = self.stand.bring(op, &root, &[], op as u64)?;
        let map = self.walk(&mut subject, &root)?;
        self.stand.end(&subject)?;
        std::fs::remove_dir_all(&root)?;
        row.points = map.points.len() as u64;
        row.addresses = map.points.iter().map(|point| point.pc).collect::<BTreeSet<_>>().len() as u64;
        row.images = map.images.len() as u64;
        for point in &map.points {
            row.mix(point.pc);
            row.mix(point.image);
        }
        row.mix(map.end.0.hash());
        Ok(map)
    }

    fn walk(&mut self, subject: &mut Subject, root: &Path) -> Result<Map, Fault> {
        let mut camera = Camera::new(root);
        let mut points = Vec::new();
        let mut images: Vec<(u64, Arc<Image>, Arc<World>)> = Vec::new();
        let mut known = HashSet::new();
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut world = Arc::new(subject.world.clone());
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| crate::engine::EngineError::Io { what, source }
        };
        let mut calls = Vec::new();
        self.stand.walk(subject, |subject, Here { pc, changed, call }| {
            calls.extend(call.map(|call| (points.len(), call)));
            if changed && subject.spoke() {
                subject.hear();
                world = Arc::new(subject.world.clone());
            }
            let image = camera.look(changed).map_err(io("look at the image"))?;
            if known.insert(image) {
                let taken = Image::take(root).map_err(io("take the image"))?;
                images.push((image, Arc::new(taken), Arc::clone(&world)));
            }
            let occurrence = counts.entry(pc).or_default();
            *occurrence += 1;
            points.push(Point { pc, occurrence: *occurrence, image });
            Ok(())
        })?;
        match self.stand.run(subject)? {
            Ran::Done => {}
            other => return Err(format!("after its operation: {other:?}").into()),
        }
        if !subject.world.nonsense.is_empty() {
            return Err(format!("the subject said {:?}", subject.world.nonsense).into());
        }
        let end = (Arc::new(Image::take(root)?), Arc::new(subject.world.clone()));
        Ok(Map { points, images, calls, end })
    }

    /// Judges each image of the walk, and the one behind it.
    fn copies(&mut self, map: &Map, row: &mut Row, whose: &mut Vec<Whose>) -> Result<(), Fault> {
        for (hash, image, world) in &map.images {
            if image.hash() != *hash {
                return Err("an image was seen as one and taken as another".into());
            }
            let (image, world) = self.plant(image, world);
            whose.push(Whose::Copy(*hash));
            self.jury.hand(Case::Copy(image), &world)?;
        }
        let (image, world) = self.plant(&map.end.0, &map.end.1);
        if let Some(why) = world.failure.as_ref().filter(|why| !why.contains("RW-PUSH-FULL")) {
            row.broke(Broken::Failed, why, row.points, "end");
        }
        whose.push(Whose::End);
        self.jury.hand(Case::Copy(image), &world)?;
        row.states = map.points.len() as u64 + 1;
        Ok(())
    }

    /// A fault of the sweep itself, if one is asked for.
    fn plant(&self, image: &Arc<Image>, world: &Arc<World>) -> (Arc<Image>, Arc<World>) {
        let mut planted = (**image).clone();
        let segment = planted.segments().map(|(path, _)| path.to_owned()).max();
        let bytes = segment.and_then(|path| match planted.nodes.get_mut(&path) {
            Some(Node::File { bytes, .. }) => Some(bytes),
            _ => None,
        });
        match (self.args.planted, bytes) {
            (Some(Planted::Flip), Some(bytes)) => bytes[8192 + 30] ^= 4,
            (Some(Planted::Stale), Some(bytes)) => bytes[384..392].copy_from_slice(&64_u64.to_le_bytes()),
            (Some(Planted::Litter), _) => {
                let dir = planted.nodes.keys().find(|path| !path.contains('/')).cloned().unwrap_or_default();
                let node = Node::File { mode: 0o600, marked: false, bytes: Vec::new() };
                planted.nodes.insert(format!("{dir}/litter"), node);
            }
            (Some(Planted::Ledger), _) => {
                let mut world = (**world).clone();
                world.acked.insert(world.next(), Content { nonce: 99, len: 9 });
                return (Arc::clone(image), Arc::new(world));
            }
            _ => return (Arc::clone(image), Arc::clone(world)),
        }
        (Arc::new(planted), Arc::clone(world))
    }

    pub(super) fn dice(&self, op: Operation, mode: Mode) -> Dice {
        Dice::new(self.seed, (op as u64) << 8 | mode as u64)
    }

    /// `most` of `among`, chosen by `dice`, in order.
    pub(super) fn draw(dice: &mut Dice, mut among: Vec<usize>, most: usize) -> Vec<usize> {
        while among.len() > most {
            among.swap_remove(dice.below(among.len() as u64) as usize);
        }
        among.sort_unstable();
        among
    }

    /// Points that a breakpoint comes to soon.
    fn near(&self, map: &Map) -> Vec<usize> {
        let most = |pc: u64| if self.stand.is_answered(pc) { 1 } else { MOST_TRAPS };
        (0..map.points.len()).filter(|at| map.points[*at].occurrence <= most(map.points[*at].pc)).collect()
    }

    /// Kills subjects, really.
    fn kills(
        &mut self,
        op: Operation,
        map: &Map,
        row: &mut Row,
        whose: &mut Vec<Whose>,
        stop: &Stop,
    ) -> Result<(), Fault> {
        let firsts = (0..map.points.len()).filter(|at| map.points[*at].occurrence == 1);
        let mut chosen: Vec<usize> =
            firsts.filter(|at| self.killed_at.insert(map.points[*at].pc)).take(self.args.sites).collect();
        chosen.extend(Walker::draw(&mut self.dice(op, Mode::Kill), self.near(map), self.args.kills));
        chosen.sort_unstable();
        chosen.dedup();
        row.kills.of = map.points.len() as u64;
        for at in chosen {
            if stop.asked() {
                break;
            }
            let point = map.points[at];
            let root = self.fresh()?;
            let mut subject = self.stand.bring(op, &root, &[], op as u64)?;
            let later = u32::from(self.args.planted == Some(Planted::Slip));
            if !self.stand.strike(&mut subject, point.pc, point.occurrence + later, Blow::Kill)? {
                self.stand.end(&subject)?;
                let what = "a subject did not come by where the first one did";
                row.broke(Broken::Failed, what, at as u64, &self.stand.place(point.pc));
                continue;
            }
            let left = Image::take(&root)?.hash();
            if left != point.image {
                let what = format!("a real kill left image {left:016x}, the copy was {:016x}", point.image);
                row.broke(Broken::Failed, &what, at as u64, &self.stand.place(point.pc));
            }
            row.kills.done += 1;
            whose.push(Whose::Kill(at));
            self.jury.hand(Case::There(root), &Arc::new(subject.world.clone()))?;
        }
        Ok(())
    }

    /// Stops subjects, supersedes them, and lets them go on.
    fn stops(
        &mut self,
        op: Operation,
        map: &Map,
        row: &mut Row,
        whose: &mut Vec<Whose>,
        stop: &Stop,
    ) -> Result<(), Fault> {
        row.stops.of = map.points.len() as u64;
        let chosen = Walker::draw(&mut self.dice(op, Mode::Stop), self.near(map), self.args.stops);
        for at in chosen {
            if stop.asked() {
                break;
            }
            let Some((mut subject, root)) = self.hold(op, map, at, row)? else { continue };
            let site = self.stand.place(map.points[at].pc);
            let theirs = match supersede(&root) {
                Ok((writer, sequence, len)) => {
                    if subject.world.may_retire && writer.generation() == 1 {
                        // It had been retired, and begins anew.
                        subject.world.acked.clear();
                    }
                    subject.world.zombie = true;
                    subject.world.take(&format!("acked {sequence} {THEIRS} {len}"));
                    Some(writer)
                }
                Err(why) => {
                    row.broke(Broken::Hang, &format!("stopped there, it is in the way: {why}"), at as u64, &site);
                    None
                }
            };
            let ran = self.stand.run(&mut subject)?;
            if ran != Ran::Done {
                row.broke(Broken::Failed, &format!("superseded and continued: {ran:?}"), at as u64, &site);
            }
            self.stand.end(&subject)?;
            drop(theirs);
            row.stops.done += 1;
            whose.push(Whose::Stop(at));
            self.jury.hand(Case::There(root), &Arc::new(subject.world.clone()))?;
        }
        Ok(())
    }

    /// Brings a subject to point `at`, and holds it there.
    fn hold(
        &mut self,
        op: Operation,
        map: &Map,
        at: usize,
        row: &mut Row,
    ) -> Result<Option<(Subject, PathBuf)>, Fault> {
        self.hold_to(op, map, at, row, ONCE)
    }

    /// [`Walker::hold`]; `times`: how often it is to be tried.
    pub(super) fn hold_to(
        &mut self,
        op: Operation,
        map: &Map,
        at: usize,
        row: &mut Row,
        times: &str,
    ) -> Result<Option<(Subject, PathBuf)>, Fault> {
        let point = map.points[at];
        let root = self.fresh()?;
        let mut subject = self.stand.bring_to(op, &root, &[], op as u64, times)?;
        if self.stand.strike(&mut subject, point.pc, point.occurrence, Blow::Hold)? {
            return Ok(Some((subject, root)));
        }
        self.stand.end(&subject)?;
        let what = "a subject did not come by where the first one did";
        row.broke(Broken::Failed, what, at as u64, &self.stand.place(point.pc));
        Ok(None)
    }

    /// Cuts the newest segment under living subjects, and lets them go on.
    fn cuts(
        &mut self,
        op: Operation,
        map: &Map,
        row: &mut Row,
        whose: &mut Vec<Whose>,
        stop: &Stop,
    ) -> Result<(), Fault> {
        row.cuts.of = map.points.len() as u64;
        let mut dice = self.dice(op, Mode::Cut);
        let chosen = Walker::draw(&mut dice, self.near(map), self.args.cuts);
        for at in chosen {
            let len = CUTS[dice.below(CUTS.len() as u64) as usize];
            if stop.asked() {
                break;
            }
            let Some((mut subject, root)) = self.hold(op, map, at, row)? else { continue };
            subject.world.cut = cut(&root, len)?;
            let ran = self.stand.run(&mut subject)?;
            if ran != Ran::Done {
                let site = self.stand.place(map.points[at].pc);
                row.broke(Broken::Failed, &format!("cut to {len} and continued: {ran:?}"), at as u64, &site);
            }
            self.stand.end(&subject)?;
            row.cuts.done += 1;
            whose.push(Whose::Cut(at));
            self.jury.hand(Case::There(root), &Arc::new(subject.world.clone()))?;
        }
        Ok(())
    }

    /// Cuts each image after everybody's death.
    fn dead_cuts(&mut self, map: &Map, row: &mut Row, whose: &mut Vec<Whose>) -> Result<(), Fault> {
        for (at, (_, image, world)) in map.images.iter().enumerate() {
            let world = Arc::new(World { cut: true, ..(**world).clone() });
            for (which, len) in CUTS.into_iter().enumerate() {
                if let Some(image) = image.cut(len) {
                    row.dead_cuts += 1;
                    whose.push(Whose::DeadCut(at, which));
                    self.jury.hand(Case::Copy(Arc::new(image)), &world)?;
                }
            }
        }
        Ok(())
    }

    /// Sweeps the recovery from some images.
    fn pairs(
        &mut self,
        op: Operation,
        map: &Map,
        row: &mut Row,
        whose: &mut Vec<Whose>,
        stop: &Stop,
    ) -> Result<(), Fault> {
        let chosen = Walker::draw(&mut self.dice(op, Mode::Pairs), (0..map.images.len()).collect(), self.args.pairs);
        row.recoveries.of = map.images.len() as u64;
        for at in chosen {
            if stop.asked() {
                break;
            }
            let (hash, image, world) = &map.images[at];
            let root = self.fresh()?;
            image.lay(&root)?;
            let names: Vec<String> = world.places.keys().cloned().collect();
            let mut subject = self.stand.bring(Operation::Recover, &root, &names, *hash)?;
            subject.world = (**world).clone();
            for place in subject.world.places.values_mut() {
                // The first one may be in hand before that is said.
                place.taken_high = place.taken_high.max(place.high + 1);
            }
            let again = self.walk(&mut subject, &root)?;
            if let Some(why) = &again.end.1.failure {
                row.broke(Broken::Failed, &format!("recovery: {why}"), at as u64, "");
            }
            self.stand.end(&subject)?;
            std::fs::remove_dir_all(&root)?;
            for point in &again.points {
                row.mix(point.pc);
                row.mix(point.image);
            }
            for (second, (_, image, world)) in again.images.iter().enumerate() {
                whose.push(Whose::Pair(at, second));
                self.jury.hand(Case::Copy(Arc::clone(image)), world)?;
            }
            row.recoveries.done += 1;
            row.pairs.done += again.points.len() as u64;
        }
        if let Some(mean) = row.pairs.done.checked_div(row.recoveries.done) {
            row.pairs.of = mean * map.points.len() as u64;
        }
        Ok(())
    }

    /// Books what the jury found.
    fn conclude(
        &mut self,
        map: &Map,
        whose: &[Whose],
        mut findings: std::collections::BTreeMap<usize, Finding>,
        row: &mut Row,
    ) {
        let first = |image: u64| map.points.iter().position(|point| point.image == image).unwrap_or(0);
        let mut copies: HashMap<u64, Finding> = HashMap::new();
        for (number, whose) in whose.iter().enumerate() {
            let Some(finding) = findings.remove(&number) else { continue };
            let (point, how) = match *whose {
                Whose::Copy(image) => (first(image), String::new()),
                Whose::End => (map.points.len(), "once it has returned: ".to_owned()),
                Whose::Kill(at) => (at, "really killed: ".to_owned()),
                Whose::Stop(at) => (at, "stopped, superseded and continued: ".to_owned()),
                Whose::Cut(at) => (at, "cut and continued: ".to_owned()),
                Whose::DeadCut(image, which) => {
                    (first(map.images[image].0), format!("killed, then cut to {}: ", CUTS[which]))
                }
                Whose::Errno(at, ref how) => (at, format!("{how}: ")),
                Whose::Pair(image, second) => {
                    (first(map.images[image].0), format!("recovery killed at its image {second}: "))
                }
            };
            let site = map.points.get(point).map_or("end".to_owned(), |point| self.stand.place(point.pc));
            for violation in &finding.violations {
                row.broke(violation.broken, &format!("{how}{}", violation.what), point as u64, &site);
            }
            if let Whose::Kill(at) = *whose
                && let Some(copy) = copies.get(&map.points[at].image)
                && copy.violations.is_empty()
                && copy.outcome() != finding.outcome()
            {
                let what = format!("judged {:?} where the copy was {:?}", finding.outcome(), copy.outcome());
                row.broke(Broken::Failed, &what, point as u64, &site);
            }
            if let Whose::Copy(image) = *whose {
                copies.insert(image, finding);
            }
        }
        // What was found once must be found from there on: nothing that was published is taken back.
        for (at, point) in map.points.iter().enumerate() {
            let Some(finding) = copies.get(&point.image) else { continue };
            match row.present_from {
                None if finding.present => row.present_from = Some(at as u64),
                Some(from) if !finding.present => {
                    let what = format!("the push in flight was found at instruction {from}, and is not here");
                    row.broke(Broken::Lost, &what, at as u64, &self.stand.place(point.pc));
                    break;
                }
                _ => {}
            }
        }
    }
}

/// Ends what a stopped subject has, and writes a record: the writer, the record's number and length.
fn supersede(root: &Path) -> Result<(Writer, u64, usize), String> {
    let channel = subject::channel(root)?;
    let mut writer = match channel.supersede() {
        Err(ringward_recovery::OpenError::Missing { .. }) => channel.writer(),
        claimed => claimed,
    }
    .map_err(|error| error.to_string())?;
    let mut bytes = vec![0; 33];
    payload::fill(THEIRS, &mut bytes);
    let sequence = writer.push(payload::record_type(THEIRS), &bytes).map_err(|error| error.to_string())?;
    Ok((writer, sequence, bytes.len()))
}

/// Cuts the newest generation; `false`: there is none.
fn cut(root: &Path, len: usize) -> Result<bool, Fault> {
    let Ok(entries) = std::fs::read_dir(channel_dir(root)) else { return Ok(false) };
    let names =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "ring"));
    let Some(newest) = names.max() else { return Ok(false) };
    std::fs::File::options().write(true).open(newest)?.set_len(len as u64)?;
    Ok(true)
}
