//! Processes that die, are stopped, or leave something behind.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Applied, BEATS, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::ledger::Kind;
use crate::payload::Dice;
use crate::range::actor::{ORDER_ALLOCATE, ORDER_AT, ORDER_FORK, Part, STALL};
use crate::range::stage::{LIMIT, Stage};

const fn class(
    name: &'static str,
    what: &'static str,
    setup: Setup,
    compound: bool,
    apply: fn(&mut Stage<'_>, &mut Dice) -> Applied,
) -> Class {
    Class { name, family: Family::Processes, what, cost: Cost::Nothing, setup, compound, apply }
}

const STUCK: Setup = Setup { beats: true, supersede: true, watchdog: false, ..PLAIN };
const WATCHED: Setup = Setup { beats: false, supersede: false, watchdog: true, ..PLAIN };

pub(super) const CLASSES: &[Class] = &[
    class("kill-writer", "SIGKILL to the writer, at any moment", PLAIN, true, |s, _| end_writer(s, Signal::SIGKILL)),
    class("segv-writer", "SIGSEGV to the writer", PLAIN, true, |s, _| end_writer(s, Signal::SIGSEGV)),
    class("abort-writer", "SIGABRT to the writer", BEATS, true, |s, _| end_writer(s, Signal::SIGABRT)),
    class("term-writer", "SIGTERM to the writer", PLAIN, true, |s, _| end_writer(s, Signal::SIGTERM)),
    class("sigbus-writer", "a SIGBUS that is not of a segment, to the writer", PLAIN, true, |s, _| {
        end_writer(s, Signal::SIGBUS)
    }),
    class("kill-durable", "SIGKILL to a durable reader", PLAIN, true, |s, d| end_one(s, d, Part::Durable)),
    class("kill-ephemeral", "SIGKILL to an ephemeral reader", PLAIN, true, |s, d| end_one(s, d, Part::Ephemeral)),
    class("kill-standby", "SIGKILL to a standby", PLAIN, true, |s, d| end_one(s, d, Part::Writer)),
    class("kill-watchdog", "SIGKILL to the watchdog", WATCHED, true, |s, d| end_one(s, d, Part::Watchdog)),
    class("kill-writer-and-standby", "the writer dies, and a standby while it follows", PLAIN, true, kill_heir),
    class("kill-at-start", "a process dies within 5 ms of its start", PLAIN, true, kill_at_start),
    class("kill-everybody", "all processes die at once", PLAIN, true, kill_everybody),
    class("crash-loop", "five writers in a row die as soon as they are elected", PLAIN, false, crash_loop),
    class("stop-writer", "SIGSTOP to the writer until it is superseded, then SIGCONT", STUCK, false, stop_writer),
    class("stop-standby", "SIGSTOP to a standby while the writer dies, then SIGCONT", PLAIN, false, stop_standby),
    class("stop-reader", "SIGSTOP to a reader until the ring is full, then SIGCONT", PLAIN, true, stop_reader),
    class("fork-writer", "the writer forks a child that outlives it, with its locks", STUCK, false, fork_writer),
    class("oom-writer", "the writer runs out of memory", PLAIN, false, oom_writer),
];

fn writer(stage: &Stage<'_>) -> Result<usize, Hitch> {
    stage.writer().ok_or_else(|| Hitch::Missed("there was no writer at that moment".into()))
}

fn gone(stage: &mut Stage<'_>, at: usize) -> Result<(), Hitch> {
    if stage.until_dead(at) { Ok(()) } else { Err(Hitch::Missed("it did not die".into())) }
}

fn end_writer(stage: &mut Stage<'_>, signal: Signal) -> Applied {
    let at = writer(stage)?;
    // A handler that is to be found behind a signal puts the default back and waits for the fault to come again.
    for _ in 0..1000 {
        stage.strike(at, signal);
        if stage.until(Duration::from_millis(20), |stage| !stage.actors[at].alive) {
            return Ok(Landing::of(format!("actor {}", stage.actors[at].id)));
        }
    }
    Err(Hitch::Missed("it did not die".into()))
}

fn one_of(stage: &Stage<'_>, dice: &mut Dice, part: Part) -> Result<usize, Hitch> {
    let all = stage.others(part);
    if all.is_empty() {
        return Err(Hitch::Missed(format!("there was no {part:?} at that moment")));
    }
    Ok(all[dice.below(all.len() as u64) as usize])
}

fn end_one(stage: &mut Stage<'_>, dice: &mut Dice, part: Part) -> Applied {
    let at = one_of(stage, dice, part)?;
    stage.strike(at, Signal::SIGKILL);
    gone(stage, at)?;
    Ok(Landing::of(format!("actor {}", stage.actors[at].id)))
}

fn kill_heir(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (at, heir) = (writer(stage)?, one_of(stage, dice, Part::Writer)?);
    stage.strike(at, Signal::SIGKILL);
    std::thread::sleep(Duration::from_micros(dice.below(1500)));
    stage.strike(heir, Signal::SIGKILL);
    gone(stage, at)?;
    gone(stage, heir)?;
    Ok(Landing::of(format!("actors {} and {}", stage.actors[at].id, stage.actors[heir].id)))
}

fn kill_at_start(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let part = [Part::Writer, Part::Ephemeral, Part::Watchdog][dice.below(3) as usize];
    let at = stage.spawn(part, 100).map_err(|error| Hitch::Missed(error.to_string()))?;
    stage.actors[at].wanted = false;
    std::thread::sleep(Duration::from_micros(dice.below(5000)));
    stage.strike(at, Signal::SIGKILL);
    gone(stage, at)?;
    Ok(Landing::of(format!("a {part:?}")))
}

fn kill_everybody(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let all: Vec<usize> = (0..stage.actors.len()).filter(|at| stage.actors[*at].alive).collect();
    all.iter().for_each(|at| stage.strike(*at, Signal::SIGKILL));
    for at in &all {
        gone(stage, *at)?;
    }
    Ok(Landing::of(format!("{} processes", all.len())))
}

fn crash_loop(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let mut deaths = 0;
    for _ in 0..5 {
        let Some(at) = stage.writer() else { break };
        let id = stage.actors[at].id;
        stage.strike(at, Signal::SIGKILL);
        gone(stage, at)?;
        deaths += 1;
        let followed = stage.until(LIMIT, |stage| {
            stage.entries.iter().rev().find(|e| e.kind == Kind::Elected).is_some_and(|e| e.worker != id)
        });
        if !followed {
            return Err(Hitch::Missed("nobody followed".into()));
        }
        std::thread::sleep(Duration::from_micros(dice.below(300)));
    }
    Ok(Landing::of(format!("{deaths} in a row")))
}

fn stop_writer(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let at = writer(stage)?;
    let id = stage.actors[at].id;
    if !stage.stop(at) {
        return Err(Hitch::Missed("it died before it could be stopped".into()));
    }
    let followed = stage.until(LIMIT, |stage| stage.writer() != Some(at));
    stage.go_on(at);
    if !followed {
        return Err(Hitch::Missed("nobody superseded it".into()));
    }
    Ok(Landing::of(format!("actor {id} for more than {STALL:?}")))
}

fn stop_standby(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (at, standby) = (writer(stage)?, one_of(stage, dice, Part::Writer)?);
    if !stage.stop(standby) {
        return Err(Hitch::Missed("it died before it could be stopped".into()));
    }
    stage.strike(at, Signal::SIGKILL);
    gone(stage, at)?;
    stage.run_for(Duration::from_millis(5 + dice.below(40)));
    stage.go_on(standby);
    Ok(Landing::of(format!("actor {}", stage.actors[standby].id)))
}

fn stop_reader(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let part = if dice.below(2) == 0 { Part::Durable } else { Part::Ephemeral };
    let at = one_of(stage, dice, part).or_else(|_| one_of(stage, dice, Part::Durable))?;
    if !stage.stop(at) {
        return Err(Hitch::Missed("it died before it could be stopped".into()));
    }
    let refused = |stage: &Stage<'_>| stage.entries.iter().filter(|e| e.kind == Kind::Refused).count();
    let before = refused(stage);
    let full = stage.until(LIMIT, |stage| refused(stage) > before);
    stage.go_on(at);
    if full {
        Ok(Landing::of("until a push found no room"))
    } else {
        Err(Hitch::Missed("the ring did not fill up".into()))
    }
}

fn fork_writer(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let at = writer(stage)?;
    let before = stage.strays();
    stage.tell(ORDER_AT, ORDER_FORK);
    let mut forked = false;
    stage.until(LIMIT, |stage| {
        forked =
            stage.entries.iter().filter(|e| e.kind == Kind::Told && e.code == crate::range::actor::TOLD_CHILD).count()
                > before;
        forked || !stage.actors[at].alive
    });
    if !forked {
        return Err(Hitch::Missed("it did not fork".into()));
    }
    stage.strays();
    stage.strike(at, Signal::SIGKILL);
    gone(stage, at)?;
    Ok(Landing::of(format!("actor {}", stage.actors[at].id)))
}

fn oom_writer(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let at = writer(stage)?;
    stage.expect(at, Signal::SIGABRT);
    stage.tell(ORDER_AT, ORDER_ALLOCATE);
    gone(stage, at)?;
    Ok(Landing::of(format!("actor {}", stage.actors[at].id)))
}
