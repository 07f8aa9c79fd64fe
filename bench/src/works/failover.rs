//! Failover: from SIGKILL of a writer to its successor's first record in a reader's hands, beside the least that it can
//! take: from SIGKILL of a small process that holds a lock to a parked one that gets it. Both in turn, in one run.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::time::{ClockId, clock_gettime};
use ringward_recovery::{Checksum, Durability, Event, From, Outcome, Reader, Warmth};
use serde_json::{Value, json};

use crate::Result;
use crate::peers::ringward::channel;
use crate::role::Gate;
use crate::shared::Shared;
use crate::spec::Spec;
use crate::works::children::Started;

const WRITER: usize = 1;
const STANDBY: usize = 2;
const HOLDER: usize = 3;
const PARKED: usize = 4;
/// Bytes of a record here: the number of the writer's process.
const SIZE: usize = 8;

/// Side 0 reads and kills; the others are what it starts.
///
/// # Errors
///
/// What the library or the system said.
pub fn run(spec: &Spec, gate: &Gate) -> Result<Value> {
    match spec.side {
        0 => direct(spec, gate),
        WRITER | STANDBY => serve(spec, gate),
        HOLDER => hold(spec, gate),
        _ => park(spec, gate),
    }
}

/// Nanoseconds of the clock that all processes share.
fn now() -> Result<u64> {
    let at = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64)
}

fn direct(spec: &Spec, gate: &Gate) -> Result<Value> {
    let clock = Shared::create(&spec.place.join("clock"), 4096)?;
    File::create(spec.place.join("lock"))?;
    let mut writer = Started::new(spec, WRITER)?;
    writer.ready()?;
    let mut reader = channel(spec, "fail", Checksum::FULL)?.reader("r", Durability::Ephemeral, From::Latest)?;
    gate.ready()?;
    gate.go()?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..spec.count {
        let mut standby = Started::new(spec, STANDBY)?;
        standby.ready()?;
        // What a start leaves to be done is done before the blow.
        calm(&mut reader, writer.pid())?;
        let struck = now()?;
        writer.kill()?;
        receive_from(&mut reader, standby.pid())?;
        ours.push(now()? - struck);
        writer = standby;
        floor.push(hand_over(spec, &clock)?);
    }
    ours.sort_unstable();
    floor.sort_unstable();
    let at = |all: &[u64], q: f64| all[((all.len() - 1) as f64 * q) as usize] as f64 / 1e3;
    Ok(json!({
        "p50_us": at(&ours, 0.5), "p99_us": at(&ours, 0.99), "max_us": at(&ours, 1.0),
        "floor_p50_us": at(&floor, 0.5), "floor_p99_us": at(&floor, 0.99), "samples": ours.len(),
    }))
}

/// Reads for some milliseconds: all of it from `pid`.
fn calm(reader: &mut Reader, pid: u32) -> Result<()> {
    let until = now()? + 8_000_000;
    while now()? < until {
        receive_from(reader, pid)?;
    }
    Ok(())
}

/// Receives until a record of `pid` comes.
fn receive_from(reader: &mut Reader, pid: u32) -> Result<()> {
    let mut buf = [0; SIZE];
    for _ in 0..10_000 {
        if let Some(Event::Record { .. }) = reader.recv(&mut buf, Duration::from_secs(5))?
            && u64::from_le_bytes(buf) == u64::from(pid)
        {
            return Ok(());
        }
    }
    Err(format!("process {pid} was never heard").into())
}

/// A writer, or a standby that becomes one: pushes its number, ten thousand times a second.
fn serve(spec: &Spec, gate: &Gate) -> Result<Value> {
    let channel = channel(spec, "fail", Checksum::FULL)?;
    let own = u64::from(std::process::id()).to_le_bytes();
    let mut writer = if spec.side == WRITER {
        let writer = channel.writer()?;
        gate.ready()?;
        writer
    } else {
        let mut standby = channel.standby(Warmth::Hot)?;
        // Parked before anybody strikes.
        standby.wait(Duration::from_millis(1))?;
        gate.ready()?;
        loop {
            if let Outcome::Elected(writer) = standby.wait(Duration::from_secs(1))? {
                break *writer;
            }
        }
    };
    loop {
        writer.push(0, &own)?;
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// One hand-over of a bare lock.
fn hand_over(spec: &Spec, clock: &Shared) -> Result<u64> {
    clock.word(0).store(0, Ordering::Release);
    let mut holder = Started::new(spec, HOLDER)?;
    holder.ready()?;
    let mut parked = Started::new(spec, PARKED)?;
    parked.ready()?;
    std::thread::sleep(Duration::from_millis(8));
    let struck = now()?;
    holder.kill()?;
    parked.ready()?;
    Ok(clock.word(0).load(Ordering::Acquire) - struck)
}

/// Takes the whole file's lock, waiting for it.
fn lock(place: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(place.join("lock"))?;
    let all = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&all))?;
    Ok(file)
}

fn hold(spec: &Spec, gate: &Gate) -> Result<Value> {
    let _held = lock(&spec.place)?;
    gate.ready()?;
    loop {
        std::thread::park();
    }
}

fn park(spec: &Spec, gate: &Gate) -> Result<Value> {
    let clock = Shared::open(&spec.place.join("clock"))?;
    gate.ready()?;
    let _held = lock(&spec.place)?;
    clock.word(0).store(now()?, Ordering::Release);
    gate.ready()?;
    loop {
        std::thread::park();
    }
}
