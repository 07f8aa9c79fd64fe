//! Negative controls: somebody is slow, or stopped, or looked at, and lives. Who takes it for dead is wrong, however long it
//! lasts: the kernel holds its locks.

use std::time::Duration;

use nix::sys::ptrace;
use nix::unistd::Pid;

use super::{Applied, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::engine::proc;
use crate::payload::Dice;
use crate::range::actor::{PACE_AT, Part, READ_PACE_AT};
use crate::range::stage::{LIMIT, Stage};

/// Everybody who could be wrong is there: a watchdog, standbys that report, a writer that promises beats.
const WATCHED: Setup = Setup { beats: true, supersede: false, watchdog: true, ..PLAIN };

const fn class(name: &'static str, what: &'static str, apply: fn(&mut Stage<'_>, &mut Dice) -> Applied) -> Class {
    Class { name, family: Family::Controls, what, cost: Cost::Nothing, setup: WATCHED, compound: false, apply }
}

pub(super) const CLASSES: &[Class] = &[
    class("healthy", "nothing happens to anybody", |s, d| {
        s.run_for(Duration::from_millis(40 + d.below(60)));
        Ok(Landing::of("nothing"))
    }),
    Class {
        setup: WATCHED.apart(),
        ..class(
            "healthy-apart",
            "nothing happens to anybody; each writer is pid 1 in a namespace of its own",
            healthy_apart,
        )
    },
    class("slow-writer", "the writer pauses for milliseconds after each push", |s, d| slow(s, d, PACE_AT)),
    class("slow-reader", "readers pause for milliseconds after each record", |s, d| slow(s, d, READ_PACE_AT)),
    class("stopped-writer", "SIGSTOP to the writer for a while, nobody may supersede it", |s, d| stopped(s, d, None)),
    class("stopped-durable", "SIGSTOP to a durable reader for a while", |s, d| stopped(s, d, Some(Part::Durable))),
    class("stopped-standby", "SIGSTOP to a standby for a while", |s, d| stopped(s, d, Some(Part::Writer))),
    class("stopped-watchdog", "SIGSTOP to the watchdog for a while", |s, d| stopped(s, d, Some(Part::Watchdog))),
    class("debugged-writer", "a debugger holds the writer's main thread, its beat thread goes on", debugged),
];

fn healthy_apart(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    if let Some(errno) = stage.together() {
        let why = nix::errno::Errno::from_raw(errno);
        return Err(Hitch::Skipped(format!("a pid namespace of its own: {why}")));
    }
    stage.run_for(Duration::from_millis(40 + dice.below(200)));
    Ok(Landing::of("nothing"))
}

fn slow(stage: &mut Stage<'_>, dice: &mut Dice, at: u64) -> Applied {
    let pace = 10 + dice.below(40) as u8;
    stage.tell(at, pace);
    stage.run_for(Duration::from_millis(100 + dice.below(100)));
    stage.tell(at, 0);
    Ok(Landing::of(format!("{} µs each", 100 * u32::from(pace))))
}

fn stopped(stage: &mut Stage<'_>, dice: &mut Dice, part: Option<Part>) -> Applied {
    let at = match part {
        None => stage.writer(),
        Some(part) => stage.others(part).first().copied(),
    };
    let Some(at) = at else { return Err(Hitch::Missed("there was none at that moment".into())) };
    if !stage.stop(at) {
        return Err(Hitch::Missed("it died before it could be stopped".into()));
    }
    let time = Duration::from_millis(100 + dice.below(300));
    stage.run_for(time);
    stage.go_on(at);
    Ok(Landing::of(format!("actor {} for {time:?}", stage.actors[at].id)))
}

fn debugged(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let Some(at) = stage.writer() else { return Err(Hitch::Missed("there was no writer".into())) };
    let pid = stage.actors[at].pid;
    match ptrace::attach(Pid::from_raw(pid)) {
        Ok(()) => {}
        Err(nix::errno::Errno::EPERM) => return Err(Hitch::Skipped("ptrace is not permitted here".into())),
        Err(errno) => return Err(Hitch::Missed(errno.to_string())),
    }
    let held = stage.until(LIMIT, |_| proc::state(pid).is_ok_and(|state| state.is_traced_stop()));
    stage.run_for(Duration::from_millis(50 + dice.below(200)));
    ptrace::detach(Pid::from_raw(pid), None).map_err(|errno| Hitch::Missed(errno.to_string()))?;
    if held {
        Ok(Landing::of(format!("actor {}", stage.actors[at].id)))
    } else {
        Err(Hitch::Missed("it did not stop".into()))
    }
}
