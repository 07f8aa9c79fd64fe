//! `ringward restore`: a channel from a snapshot.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use ringward_recovery::{Channel, Checksum, Config, Durability, Event, From, Namespace, OpenError, WhenFull};
use ringward_ring::layout::record_len;
use serde_json::json;

use crate::archive::{self, Head, Kept};
use crate::args::{Place, Restore};
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;

pub(crate) fn run(at: &Place, args: &Restore) -> Result<Done, Failure> {
    let path = args.file.display();
    let file = File::open(&args.file).map_err(|error| Failure::system(&format!("open {path}"), error))?;
    let (head, records) = archive::read(BufReader::new(file)).map_err(|why| {
        Failure::Refused(format!("{path} is no whole snapshot: {why}; take another one [RW-CTL-SNAPSHOT]"))
    })?;
    let name = args.channel.as_ref().unwrap_or(&head.channel);
    let mut document = json!({
        "file": args.file.display().to_string(),
        "snapshot": head,
        "records": records.len(),
        "channel": name,
        "restored": !args.verify,
    });
    let mut said =
        format!("{path} is whole: {} records of {}, generation {}", records.len(), head.channel, head.generation);
    if !args.verify {
        let namespace = place::namespace(at, true)?;
        let (config, capacity) = like_it_was(&head, &records)?;
        let channel = place::channel(&namespace, name, config)?;
        let places = restore(&namespace, &channel, &head, &records)?;
        document["capacity"] = json!(capacity);
        document["readers"] = json!(places);
        said = format!("{said}\nrestored as channel {name}, sequence 0 to {}, without a writer yet", records.len());
        for (reader, next) in places {
            said += &format!("\n  durable reader {reader}: next {next}");
        }
    }
    print(&if args.json { format!("{document:#}\n") } else { said + "\n" })?;
    Ok(Done::All)
}

/// The channel's own settings, and a ring that holds all the records at once.
fn like_it_was(head: &Head, records: &[Kept]) -> Result<(Config, u64), Failure> {
    let needed: u64 = records.iter().map(|record| record_len(record.payload.len() as u64)).sum();
    // A wrap marker never comes: the ring is not gone round.
    let capacity = head.capacity.max(needed.checked_next_power_of_two().unwrap_or(u64::MAX));
    let schema = u64::from_str_radix(&head.schema, 16)
        .map_err(|error| Failure::Refused(format!("schema: {error} [RW-CTL-SNAPSHOT]")))?;
    let beat = Duration::from_millis(head.beat_interval_ms.into());
    let config = Config::default()
        .capacity(capacity)
        .record_limit(head.record_limit)
        .reader_slots(head.slots)
        .checksum(if head.checksum == "header" { Checksum::HEADER } else { Checksum::FULL })
        .schema(schema)
        .beat_interval(beat)
        .stall_timeout(Duration::from_secs(2).max(beat * 2))
        .when_full(WhenFull::Error);
    Ok((config, capacity))
}

/// Makes it; answers where its durable readers stand now.
fn restore(
    namespace: &Namespace,
    channel: &Channel,
    head: &Head,
    records: &[Kept],
) -> Result<Vec<(String, u64)>, Failure> {
    match channel.inspect() {
        Err(OpenError::Missing { .. }) => {}
        Err(error) => return Err(Failure::refused(error)),
        Ok(_) => {
            return Err(Failure::Refused(format!(
                "channel {} is there already in {}; restore under another name, or take it away first [RW-CTL-EXISTS]",
                channel.name(),
                namespace.path().display()
            )));
        }
    }
    let mut writer = channel.writer().map_err(Failure::refused)?;
    if writer.generation() != 1 || writer.next_sequence() != 0 {
        return Err(Failure::Refused(format!(
            "somebody made channel {} just now; look again [RW-CTL-EXISTS]",
            channel.name()
        )));
    }
    let mut readers = Vec::new();
    for (name, next) in &head.durable {
        let reader = channel.reader(name, Durability::Durable, From::Oldest).map_err(Failure::refused)?;
        // Sequence numbers begin anew: so many of the records were in front of its place.
        let behind = records.iter().filter(|record| record.sequence < *next).count() as u64;
        readers.push((reader, behind));
    }
    for record in records {
        writer.push(record.record_type, &record.payload).map_err(Failure::refused)?;
    }
    let mut buf = vec![0; usize::try_from(head.record_limit).unwrap_or(0)];
    let mut places = Vec::new();
    for (reader, behind) in &mut readers {
        while reader.next_sequence() < *behind {
            match reader.try_recv(&mut buf).map_err(Failure::refused)? {
                Some(Event::Record { .. }) => reader.release(),
                Some(_) => {}
                None => break,
            }
        }
        places.push((reader.name().to_owned(), reader.next_sequence()));
    }
    // Dropped and not closed: the places are kept, and the next writer goes on.
    Ok(places)
}
