//! A writer and a reader of one channel, here in one process. README.md shows the same code.

use std::time::Duration;

use ringward_recovery::{Action, Channel, Config, Durability, Event, From, Namespace, Watchdog};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let namespace = Namespace::builder("quickstart").open()?; // /dev/shm/quickstart, for this user alone
    let _watchdog = Watchdog::builder(&namespace).action(Action::Reclaim).build().spawn()?;
    let channel = Channel::new(&namespace, "greetings", Config::default())?;

    let mut writer = channel.writer()?; // in one process
    let mut reader = channel.reader("printer", Durability::Durable, From::Latest)?; // in any other

    writer.push(0, b"hello")?; // Ok: "printer" gets it or is told of the loss, whoever is killed from here on
    let mut buf = vec![0; reader.record_limit()];
    if let Some(Event::Record { sequence, len, .. }) = reader.recv(&mut buf, Duration::from_secs(1))? {
        println!("{sequence}: {}", String::from_utf8_lossy(&buf[..len]));
    }
    reader.forget(); // a durable reader that is only dropped keeps its place, and holds the writer back
    writer.close()?; // in order: readers drain the channel and are told
    Ok(())
}
