//! A small service that embeds channels and the watchdog: three roles in one process, each as it would be in its own.
//!
//! Run it: `cargo run -p ringward-recovery --example service`. It makes a namespace of its own, and takes it away again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Config, Durability, Event, From, Heal, Namespace, Notice, Outcome, SendError, Warmth, Watchdog,
    WhenStuck,
};
use ringward_ring::writer::PushError;

type Any = Box<dyn std::error::Error + Send + Sync>;

/// What every role is configured with: the same in every binary.
fn config() -> Config {
    Config::default()
        .capacity(1 << 20) // the peak burst while the slowest reader restarts
        .heal(Heal::LostMemory) // a cut or unlinked segment costs what was unread, nothing else
        .when_stuck(WhenStuck::Supersede) // a stopped writer must not stop the channel
}

/// Counts what the watchdog tells, for your own metrics.
#[derive(Debug, Default, Clone)]
struct Notices(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Notices {
    fn count(&self, notice: &Notice) {
        if let Ok(mut counts) = self.0.lock() {
            *counts.entry(notice.id).or_insert(0) += 1;
        }
    }
}

/// Stands by, and writes once it is elected. Each orders' number is pushed once, whoever is killed.
fn write(namespace: &Namespace, orders: u64) -> Result<(), Any> {
    let channel = Channel::new(namespace, "orders", config())?;
    let mut standby = channel.standby(Warmth::Hot)?;
    let mut writer = loop {
        match standby.wait(Duration::from_secs(1))? {
            Outcome::Elected(writer) => break *writer,
            Outcome::Closed { .. } => return Ok(()), // somebody else finished
            _ => {}                                  // still parked; a good moment to look at your own shutdown flag
        }
    };
    // Nobody waits for readers that were never there: the first one first.
    while writer.readers() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The channel says where to go on: sequence number n is order n.
    while writer.next_sequence() < orders {
        let order = writer.next_sequence();
        match writer.push(0, format!("order {order}").as_bytes()) {
            Ok(_) => {}
            Err(SendError::Push(PushError::Fenced)) => return Ok(()), // another one took over: it goes on
            Err(other) => return Err(other.into()),
        }
    }
    writer.close()?;
    Ok(())
}

/// Applies each order once: its number is kept beside what it changed.
fn read(namespace: &Namespace) -> Result<u64, Any> {
    let channel = Channel::new(namespace, "orders", config())?;
    while !channel.wait_for(Duration::from_secs(1))? {}
    let mut reader = channel.reader("billing", Durability::Durable, From::Oldest)?;
    let mut buf = vec![0; reader.record_limit()];
    let mut applied = 0; // in your database, in the same transaction as the change
    loop {
        match reader.recv(&mut buf, Duration::from_secs(1))? {
            // Handed out again after a crash, and applied already.
            Some(Event::Record { sequence, .. }) if sequence < applied => {}
            Some(Event::Record { sequence, .. }) => applied = sequence + 1,
            Some(Event::Gap { from, count, .. }) => {
                eprintln!("orders lost from {from} on: {count:?}; fetch them again")
            }
            Some(Event::Closed { .. }) => break,
            Some(other) => eprintln!("{} {other:?}", other.id()), // restarted, stalled, gone: for your log
            None => {}                                            // nothing came: look at your own shutdown flag
        }
    }
    reader.forget(); // the channel is closed; a reader that comes back would be dropped instead
    Ok(applied)
}

fn main() -> Result<(), Any> {
    let namespace = Namespace::builder(format!("service-example-{}", std::process::id())).open()?;
    let notices = Notices::default();
    let counter = notices.clone();
    let watchdog = Watchdog::builder(&namespace)
        .action(Action::Reclaim)
        .grace(Duration::ZERO) // a real service: longer than its slowest restart
        .interval(Duration::from_millis(20))
        .on_notice(move |notice| counter.count(notice))
        .build()
        .spawn()?;

    let applied = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&namespace, 1000));
        let reader = scope.spawn(|| read(&namespace));
        let wrote = writer.join().unwrap_or_else(|_| Err("the writer panicked".into()));
        let applied = reader.join().unwrap_or_else(|_| Err("the reader panicked".into()));
        wrote.and(applied)
    })?;
    println!("applied {applied} orders");

    // The closed channel is nobody's now: the watchdog takes it away.
    while namespace.channels()?.iter().any(|name| name == "orders") {
        std::thread::sleep(Duration::from_millis(5));
    }
    watchdog.stop();
    if let Ok(counts) = notices.0.lock() {
        println!("the watchdog took away {} channel", counts.get("RW-WD-RECLAIMED").copied().unwrap_or(0));
    }
    std::fs::remove_dir(namespace.path())?;
    Ok(())
}
