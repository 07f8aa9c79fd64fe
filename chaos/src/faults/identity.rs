//! Who somebody is, and when: pids that come again, owners and heartbeats that are forged, numbers at their end.

use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::files::reseal;
use super::{Applied, BEATS, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::payload::Dice;
use crate::range::actor::{Part, STALL};
use crate::range::stage::{LIMIT, Stage};

const fn class(
    name: &'static str,
    what: &'static str,
    cost: Cost,
    setup: Setup,
    apply: fn(&mut Stage<'_>, &mut Dice) -> Applied,
) -> Class {
    Class { name, family: Family::Identity, what, cost, setup, compound: false, apply }
}

const STUCK: Setup = Setup { beats: true, supersede: true, watchdog: true, ..PLAIN };

pub(super) const CLASSES: &[Class] = &[
    class("owner-forged-living", "a dead writer is recorded as a process that lives", Cost::Reported, BEATS, |s, _| {
        forge_owner(s, true)
    }),
    class(
        "owner-forged-dead",
        "a living writer is recorded as a process that is gone",
        Cost::Reported,
        BEATS,
        |s, _| forge_owner(s, false),
    ),
    class("beat-frozen", "a living writer's heartbeat is held at one value", Cost::Nothing, STUCK, beat_frozen),
    class("beat-forged", "a dead writer's heartbeat goes on", Cost::Nothing, STUCK, beat_forged),
    class("beat-future", "heartbeat and its time at their last values", Cost::Nothing, BEATS, beat_future),
    class(
        "last-generation",
        "a generation with the last number there is has a name",
        Cost::Nothing,
        BEATS,
        last_generation,
    ),
    Class {
        setup: Setup { beats: true, watchdog: true, ..PLAIN }.apart(),
        ..class(
            "pid-namespace",
            "writers that have pid 1, each in a namespace of its own, die",
            Cost::Nothing,
            BEATS,
            apart_dies,
        )
    },
    class("pid-reused", "another process gets the dead writer's pid at once", Cost::Nothing, BEATS, pid_reused),
];

/// Offsets of the owner's pid and of heartbeat and its time, from `docs/FORMAT.md`.
const OWNER_PID: usize = 104;
const BEAT: u64 = 512;

fn writer(stage: &Stage<'_>) -> Result<usize, Hitch> {
    stage.writer().ok_or_else(|| Hitch::Missed("there was no writer at that moment".into()))
}

fn end(stage: &mut Stage<'_>, at: usize) -> Result<(), Hitch> {
    stage.strike(at, Signal::SIGKILL);
    if stage.until_dead(at) { Ok(()) } else { Err(Hitch::Missed("it did not die".into())) }
}

fn forge_owner(stage: &mut Stage<'_>, living: bool) -> Applied {
    let at = writer(stage)?;
    let (file, image, anatomy) =
        stage.freeze(2).ok_or_else(|| Hitch::Missed("the channel did not stand still".into()))?;
    let mut identity = image[..256].to_vec();
    let pid = if living { std::process::id() } else { u32::MAX >> 1 };
    identity[OWNER_PID..OWNER_PID + 4].copy_from_slice(&pid.to_le_bytes());
    reseal(&mut identity);
    file.write_all_at(&identity, 0)?;
    if living {
        end(stage, at)?;
    } else {
        stage.all_go_on();
        stage.run_for(Duration::from_millis(60));
    }
    Ok(Landing::of(format!("generation {}: pid {pid}", anatomy.generation)))
}

fn beat_frozen(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    let mut beat = [0; 8];
    file.read_exact_at(&mut beat, BEAT)?;
    let begun = Instant::now();
    while begun.elapsed() < 2 * STALL {
        file.write_all_at(&beat, BEAT)?;
        stage.pump(Duration::from_millis(1));
    }
    Ok(Landing::of(format!("generation {number} for {:?}", 2 * STALL)))
}

fn beat_forged(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let at = writer(stage)?;
    let (number, file) = stage.open_newest()?;
    end(stage, at)?;
    let begun = Instant::now();
    while begun.elapsed() < STALL {
        let mut beat = [0; 8];
        file.read_exact_at(&mut beat, BEAT)?;
        let beat = u64::from_le_bytes(beat).wrapping_add(1 + dice.below(9));
        file.write_all_at(&beat.to_le_bytes(), BEAT)?;
        stage.pump(Duration::from_millis(2));
    }
    Ok(Landing::of(format!("generation {number}")))
}

fn beat_future(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    file.write_all_at(&[0xff; 16], BEAT)?;
    stage.run_for(Duration::from_millis(60));
    Ok(Landing::of(format!("generation {number}")))
}

fn last_generation(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let at = writer(stage)?;
    let (_, path) = stage.newest().ok_or_else(|| Hitch::Missed("there was nothing".into()))?;
    let mut image = std::fs::read(path)?;
    if image.len() < 256 {
        return Err(Hitch::Missed("the segment was too short".into()));
    }
    image[64..72].copy_from_slice(&u64::MAX.to_le_bytes());
    reseal(&mut image);
    let last = stage.generation_path(u64::MAX);
    std::fs::write(&last, image)?;
    end(stage, at)?;
    stage.run_for(Duration::from_millis(30 + dice.below(40)));
    // Who tidies may have been there before.
    let _ = std::fs::remove_file(&last);
    Ok(Landing::of("while the writer died"))
}

fn pid_reused(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let at = writer(stage)?;
    let pid = stage.actors[at].pid;
    if std::fs::File::options().write(true).open(LAST).is_err() {
        return Err(Hitch::Skipped(format!("{LAST} can't be written: choosing a pid takes CAP_CHECKPOINT_RESTORE")));
    }
    end(stage, at)?;
    for _ in 0..50 {
        if let Err(error) = std::fs::write(LAST, (pid - 1).to_string()) {
            return Err(Hitch::Skipped(format!("{LAST}: {error}")));
        }
        let new = stage.spawn(Part::Writer, 0).map_err(|error| Hitch::Missed(error.to_string()))?;
        if stage.actors[new].pid == pid {
            return Ok(Landing::of(format!("pid {pid}, now actor {}", stage.actors[new].id)));
        }
        stage.dismiss(new);
    }
    Err(Hitch::Missed(format!("pid {pid} went to somebody else")))
}

/// Where nobody else is seen by the number under which it has written itself down, a writer dies and another follows.
fn apart_dies(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    if let Some(errno) = stage.together() {
        let why = nix::errno::Errno::from_raw(errno);
        return Err(Hitch::Skipped(format!("a pid namespace of its own: {why}")));
    }
    stage.run_for(Duration::from_millis(20 + dice.below(60)));
    let at = writer(stage)?;
    let (number, file) = stage.open_newest()?;
    let mut pid = [0; 4];
    file.read_exact_at(&mut pid, OWNER_PID as u64)?;
    stage.strike(at, Signal::SIGKILL);
    if !stage.until_dead(at) {
        return Err(Hitch::Missed("it did not die".into()));
    }
    let followed = stage.until(LIMIT, |stage| stage.newest().is_some_and(|(now, _)| now > number));
    match u32::from_le_bytes(pid) {
        1 => Ok(Landing::of(format!("generation {number}, written down as pid 1; followed: {followed}"))),
        pid => Err(Hitch::Missed(format!("it was written down as pid {pid}"))),
    }
}
