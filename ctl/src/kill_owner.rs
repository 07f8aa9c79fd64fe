//! `ringward kill-owner`: kills the process that holds a channel and is stuck, and no other.

use std::time::{Duration, Instant};

use ringward_recovery::owner::{Whereabouts, whereabouts};
use ringward_recovery::{Config, Seen};
use ringward_ring::identity::Owner;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;

use crate::args::{KillOwner, Place};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::stuck::Stuck;

/// Time between two looks whether it is gone.
const AGAIN: Duration = Duration::from_millis(10);

pub(crate) fn run(at: &Place, args: &KillOwner, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let stuck = Stuck::look(&namespace, &args.channel, args.stall_timeout, args.although_live, stop)?;
    let channel = place::channel(&namespace, &args.channel, Config::default())?;
    let newest = || -> Result<Option<Seen>, Failure> {
        let chain = channel.inspect().map_err(Failure::refused)?;
        Ok(chain.into_iter().next_back().and_then(|newest| newest.seen.ok()))
    };
    let mut document = stuck.json(!args.yes);
    if !args.json {
        print(&stuck.evidence())?;
    }
    let Some(seen) = newest()?.filter(|seen| seen.writer_held) else {
        return Err(gone(&args.channel, "it has let go of its lock meanwhile"));
    };
    let owner = seen.identity.owner;
    let killer = Killer::of(&owner, &args.channel)?;
    let (signal, named) = if args.term { (Signal::TERM, "SIGTERM") } else { (Signal::KILL, "SIGKILL") };
    if args.yes {
        killer.kill(signal)?;
        let start = Instant::now();
        while newest()?.is_some_and(|now| now.identity.segment == seen.identity.segment && now.writer_held) {
            if start.elapsed() >= args.wait {
                return Err(Failure::Refused(format!(
                    "{named} was sent to process {}, but the writer lock is still held after {:?}: a core dump, a process that can't end, \
                     or a leaked descriptor; `ringward inspect {}` tells which, `ringward supersede` goes on without it [RW-CTL-KILL]",
                    owner.pid, args.wait, args.channel
                )));
            }
            stop.sleep(AGAIN)?;
        }
        document["killed"] = json!(owner.pid);
        if !args.json {
            print(&format!(
                "{named} sent to process {}; its lock is free. A standby follows at once, else start the writer again.\n",
                owner.pid
            ))?;
        }
    } else if !args.json {
        print(&format!(
            "Nothing was done. With --yes: {named} to process {}, which is the one that wrote itself down.\n",
            owner.pid
        ))?;
    }
    if args.json {
        print(&format!("{document:#}\n"))?;
    }
    Ok(Done::All)
}

fn gone(channel: &str, why: &str) -> Failure {
    Failure::Refused(format!(
        "the writer of {channel} can't be killed from here: {why}. Look with `ringward inspect {channel}`; \
         `ringward supersede` needs no process [RW-CTL-KILL]"
    ))
}

/// A process that was seen to be the recorded one after its descriptor was had: what the descriptor means can't change any more.
struct Killer {
    process: std::os::fd::OwnedFd,
    channel: String,
}

impl Killer {
    fn of(owner: &Owner, channel: &str) -> Result<Killer, Failure> {
        let refused = |why: &str| Err(gone(channel, why));
        if owner.pid == std::process::id() {
            return refused("that is this very process");
        }
        let Some(pid) = i32::try_from(owner.pid).ok().and_then(Pid::from_raw) else {
            return refused("it wrote down no process number");
        };
        if whereabouts(owner) == Whereabouts::Unknowable {
            return refused("it lives in another pid namespace (a container?), or /proc is not there");
        }
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => return refused(&format!("process {}: {error}", owner.pid)),
        };
        match whereabouts(owner) {
            Whereabouts::Here => Ok(Killer { process, channel: channel.to_owned() }),
            _ => refused(&format!("process {} is gone, and its number may be another one's by now", owner.pid)),
        }
    }

    fn kill(&self, signal: Signal) -> Result<(), Failure> {
        pidfd_send_signal(&self.process, signal).map_err(|error| gone(&self.channel, &error.to_string()))
    }
}
