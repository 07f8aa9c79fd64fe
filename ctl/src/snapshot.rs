//! `ringward snapshot`: a channel's unread records, in a file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ringward_ring::image::{self, Piece, Readable};
use ringward_ring::word::{Checksum, Kind};
use serde_json::json;

use crate::archive::{Head, Kept, Writer};
use crate::args::{Place, Snapshot};
use crate::corpse::of_channel;
use crate::exit::{Done, Failure};
use crate::output::print;
use crate::place;

/// What is kept of a channel.
struct Take {
    head: Head,
    records: Vec<Kept>,
    /// Records known to be missing, and whether there may be more.
    lost: u64,
    lost_unknown: bool,
}

pub(crate) fn run(at: &Place, args: &Snapshot) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    if args.file.exists() && !args.force {
        let file = args.file.display();
        return Err(Failure::Refused(format!(
            "{file} is there already; choose another name, or say --force [RW-CTL-EXISTS]"
        )));
    }
    let taken = take(&namespace, args)?;
    let Take { head, records, lost, lost_unknown } = &taken;
    let bytes = write(&args.file, head, records)
        .map_err(|error| Failure::Refused(format!("write {}: {error} [RW-CTL-OUTPUT]", args.file.display())))?;
    let (first, last) = (records.first().map(|one| one.sequence), records.last().map(|one| one.sequence));
    if args.json {
        let document = json!({
            "channel": head.channel,
            "file": args.file.display().to_string(),
            "bytes": bytes,
            "records": records.len(),
            "first_sequence": first,
            "last_sequence": last,
            "durable": head.durable,
            "lost": lost,
            "lost_unknown": lost_unknown,
        });
        print(&format!("{document:#}\n"))?;
    } else {
        let range = first.zip(last).map_or_else(String::new, |(first, last)| format!(", sequence {first} to {last}"));
        let missing = match (lost, lost_unknown) {
            (0, false) => String::new(),
            (lost, false) => format!("; {lost} were lost before and are not in it"),
            (lost, true) => format!("; {lost} or more were lost before and are not in it"),
        };
        let (file, count) = (args.file.display(), records.len());
        print(&format!("{count} records{range}, {bytes} bytes in {file}{missing}\n"))?;
    }
    Ok(if *lost > 0 || *lost_unknown { Done::Lost } else { Done::All })
}

fn take(namespace: &ringward_recovery::Namespace, args: &Snapshot) -> Result<Take, Failure> {
    let mut records: Vec<Kept> = Vec::new();
    let mut durable: Vec<(String, u64)> = Vec::new();
    let mut slowest: Option<u64> = None;
    let (mut lost, mut lost_unknown) = (0, false);
    let mut newest = None;
    let mut broken = None;
    for corpse in of_channel(namespace, &args.channel)? {
        let bytes = corpse.copy()?;
        let image = image::decode(&bytes);
        let identity = match image.identity {
            Ok(identity) => identity,
            Err(error) => {
                lost_unknown = true;
                broken = Some(error.to_string());
                continue;
            }
        };
        for slot in image.slots.iter().filter(|slot| slot.occupied() && !slot.expelled) {
            let Some(mark) = slot.mark() else { continue };
            let Some(card) = slot.reading.card else { continue };
            let name = card.name.to_string();
            if durable.iter().any(|(known, _)| *known == name) {
                continue; // its place is in the oldest generation that it has not left
            }
            slowest = Some(slowest.map_or(mark.sequence, |slowest| slowest.min(mark.sequence)));
            if card.kind == Kind::DURABLE {
                durable.push((name, mark.sequence));
            }
        }
        for piece in image.pieces() {
            match piece {
                Piece::Record { sequence, record_type, payload, .. } => {
                    records.push(Kept { sequence, record_type, payload: payload.to_vec() });
                }
                Piece::Lost { count, .. } => {
                    lost += count.unwrap_or(0);
                    lost_unknown |= count.is_none();
                }
                _ => {}
            }
        }
        let Readable { sequence, .. } = image.readable;
        newest = Some((identity, sequence));
    }
    let Some((identity, next_sequence)) = newest else {
        return Err(Failure::Refused(
            broken.unwrap_or_else(|| "no generation can be read [RW-OPEN-DAMAGED]".to_owned()),
        ));
    };
    if let Some(slowest) = slowest.filter(|_| !args.all) {
        records.retain(|record| record.sequence >= slowest);
    }
    let head = Head {
        channel: args.channel.clone(),
        generation: identity.generation,
        capacity: identity.geometry.capacity,
        record_limit: identity.record_limit,
        slots: identity.geometry.slots,
        checksum: if identity.checksum == Checksum::HEADER { "header" } else { "full" }.to_owned(),
        schema: format!("{:016x}", identity.schema),
        beat_interval_ms: identity.beat_interval,
        taken_unix_ns: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        durable,
        next_sequence,
    };
    Ok(Take { head, records, lost, lost_unknown })
}

/// A file that is removed again unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Complete, on its disk, and then under its name: whoever sees it sees all of it.
fn write(path: &Path, head: &Head, records: &[Kept]) -> std::io::Result<u64> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft = Draft(path.with_file_name(format!(".{name}.{}", std::process::id())));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0)?;
    let mut writer = Writer::new(BufWriter::new(file), head)?;
    for record in records {
        writer.record(record)?;
    }
    let mut buffered = writer.finish()?;
    buffered.flush()?;
    let file = buffered.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    std::fs::rename(&draft.0, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}
