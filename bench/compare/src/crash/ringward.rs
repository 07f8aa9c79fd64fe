//! Ringward in a trial: a channel whose writer beats every 50 ms, and follows itself if its memory is cut
//! (`Heal::LostMemory`); writers wait for room for a minute; the reader is ephemeral.

use std::path::Path;
use std::time::Duration;

use ringward_recovery::{
    Action, Channel, Config, Durability, Event, From, Heal, Namespace, Outcome, Reader, Warmth, Watchdog, WhenFull,
    Writer,
};
use serde_json::{Value, json};

use super::system::{How, Push, Take, Taken};

fn namespace(place: &Path) -> Result<Namespace, String> {
    Namespace::builder("crash").root(place).open().map_err(|error| error.to_string())
}

fn channel(place: &Path) -> Result<Channel, String> {
    let config = Config::default()
        .beat_interval(Duration::from_millis(50))
        .stall_timeout(Duration::from_millis(500))
        .when_full(WhenFull::Block(Duration::from_secs(60)))
        .heal(Heal::LostMemory)
        .touch(true);
    Channel::new(&namespace(place)?, "trial", config).map_err(|error| error.to_string())
}

/// Opens a writer.
pub(crate) fn writer(place: &Path, how: How, ready: impl FnOnce()) -> Result<Box<dyn Push>, String> {
    let channel = channel(place)?;
    let writer = match how {
        How::Start => channel.writer().map_err(|error| error.to_string())?,
        How::Supersede => channel.supersede().map_err(|error| error.to_string())?,
        How::StandBy => {
            let mut standby = channel.standby(Warmth::Hot).map_err(|error| error.to_string())?;
            ready();
            loop {
                match standby.wait(Duration::from_secs(1)) {
                    Ok(Outcome::Elected(writer)) => break *writer,
                    Ok(Outcome::TimedOut) => {}
                    Ok(other) => return Err(format!("{other:?}")),
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    };
    Ok(Box::new(writer))
}

impl Push for Writer {
    fn push(&mut self, payload: &[u8]) -> Result<(), String> {
        Writer::push(self, 0, payload).map(|_| ()).map_err(|error| error.to_string())
    }

    fn is_read(&mut self) -> bool {
        self.readers() > 0
    }
}

/// Opens a reader.
pub(crate) fn reader(place: &Path) -> Result<Box<dyn Take>, String> {
    let channel = channel(place)?;
    let name = format!("reader-{}", std::process::id());
    let reader = channel.reader(&name, Durability::Ephemeral, From::Oldest).map_err(|error| error.to_string())?;
    Ok(Box::new(reader))
}

impl Take for Reader {
    fn take(&mut self, buf: &mut [u8]) -> Result<Taken, String> {
        match self.recv(buf, Duration::from_millis(1)) {
            Ok(Some(Event::Record { len, .. })) => Ok(Taken::Record(len)),
            Ok(Some(Event::Gap { count, reason, .. })) => {
                let count = count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
                Ok(Taken::Told(format!("RW-EV-GAP ({count} records, {reason:?})")))
            }
            Ok(Some(other)) => Ok(Taken::Told(other.id().to_owned())),
            Ok(None) => Ok(Taken::Nothing),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Lets the watchdog look until it finds nothing more to do.
pub(crate) fn clean(place: &Path) -> Result<Value, String> {
    let mut watchdog = Watchdog::builder(&namespace(place)?).action(Action::Reclaim).grace(Duration::ZERO).build();
    let mut said: Vec<String> = Vec::new();
    let mut births = 0;
    for _ in 0..10 {
        let report = watchdog.tick();
        births += report.births;
        said.extend(report.notices.iter().map(|notice| notice.id.to_owned()));
        said.extend(report.error);
        std::thread::sleep(Duration::from_millis(20));
    }
    said.dedup();
    Ok(json!({ "said": said, "births": births }))
}
