//! The file of a snapshot: a head in JSON, records, a tail that says how many there were; every part with a CRC-32C.
//!
//! ```text
//! "RWSNAP01" | length u32 | head: JSON | crc u32 over the head
//! each record: length u32 | type u32 | sequence u64 | crc u32 over these and the payload | payload
//! tail: ff ff ff ff | records u64 | crc u32 over the crcs of all records | crc u32 over the 16 bytes before
//! ```
//!
//! All numbers are little-endian. Nothing in it depends on the layout of segments, so that a snapshot outlives a change of that.

use std::io::{self, Read, Write};

use ringward_ring::checksum::crc32c;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"RWSNAP01";
const TAIL: u32 = u32::MAX;
/// Longest head that is read.
const HEAD: usize = 1 << 20;
/// Longest payload that is read: the record limit of the largest ring.
const PAYLOAD: usize = 1 << 31;

/// What the channel was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) channel: String,
    pub(crate) generation: u64,
    pub(crate) capacity: u64,
    pub(crate) record_limit: u32,
    pub(crate) slots: u32,
    /// `full` or `header`.
    pub(crate) checksum: String,
    /// Sixteen hexadecimal digits.
    pub(crate) schema: String,
    pub(crate) beat_interval_ms: u32,
    /// When, for people.
    pub(crate) taken_unix_ns: u64,
    /// Where its durable readers stood: name and next sequence number.
    pub(crate) durable: Vec<(String, u64)>,
    /// Sequence number of the record that would have come next.
    pub(crate) next_sequence: Option<u64>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) record_type: u32,
    pub(crate) payload: Vec<u8>,
}

/// Why bytes are no whole snapshot.
#[derive(Debug)]
pub(crate) enum Spoilt {
    /// The system said so.
    Io(io::Error),
    /// What is wrong, and where.
    Bad(String),
}

impl From<io::Error> for Spoilt {
    fn from(error: io::Error) -> Spoilt {
        Spoilt::Io(error)
    }
}

impl std::fmt::Display for Spoilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spoilt::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => f.write_str("it ends too early"),
            Spoilt::Io(error) => error.fmt(f),
            Spoilt::Bad(what) => f.write_str(what),
        }
    }
}

/// Writes one, part by part.
pub(crate) struct Writer<W> {
    to: W,
    crcs: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut to: W, head: &Head) -> io::Result<Writer<W>> {
        let head = serde_json::to_vec(head)?;
        to.write_all(MAGIC)?;
        to.write_all(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        to.write_all(&head)?;
        to.write_all(&crc32c(&head).to_le_bytes())?;
        Ok(Writer { to, crcs: Vec::new() })
    }

    pub(crate) fn record(&mut self, record: &Kept) -> io::Result<()> {
        let front = front(record);
        let crc = crc32c(&[&front, &record.payload[..]].concat()).to_le_bytes();
        self.crcs.extend(crc);
        self.to.write_all(&front)?;
        self.to.write_all(&crc)?;
        self.to.write_all(&record.payload)
    }

    /// Writes the tail; without it a snapshot is not whole.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let mut tail = TAIL.to_le_bytes().to_vec();
        tail.extend((self.crcs.len() as u64 / 4).to_le_bytes());
        tail.extend(crc32c(&self.crcs).to_le_bytes());
        self.to.write_all(&tail)?;
        self.to.write_all(&crc32c(&tail).to_le_bytes())?;
        Ok(self.to)
    }
}

fn front(record: &Kept) -> [u8; 16] {
    let mut front = [0; 16];
    front[..4].copy_from_slice(&u32::try_from(record.payload.len()).unwrap_or(TAIL - 1).to_le_bytes());
    front[4..8].copy_from_slice(&record.record_type.to_le_bytes());
    front[8..].copy_from_slice(&record.sequence.to_le_bytes());
    front
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As many bytes as the file promises, taken as they come: a damaged length reserves nothing.
fn take_len(from: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if from.by_ref().take(len as u64).read_to_end(&mut bytes)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Reads one, all of it, and believes nothing that does not check. Any bytes give an error or a snapshot.
pub(crate) fn read(mut from: impl Read) -> Result<(Head, Vec<Kept>), Spoilt> {
    let bad = |what: String| Err(Spoilt::Bad(what));
    if take::<8>(&mut from)? != *MAGIC {
        return bad("it does not begin with RWSNAP01".to_owned());
    }
    let len = u32::from_le_bytes(take(&mut from)?) as usize;
    if len > HEAD {
        return bad(format!("its head claims {len} bytes"));
    }
    let head = take_len(&mut from, len)?;
    if u32::from_le_bytes(take(&mut from)?) != crc32c(&head) {
        return bad("the checksum of its head is wrong".to_owned());
    }
    let head: Head = serde_json::from_slice(&head).map_err(|error| Spoilt::Bad(format!("its head: {error}")))?;
    let mut records: Vec<Kept> = Vec::new();
    let mut crcs = Vec::new();
    loop {
        let len = take::<4>(&mut from)?;
        if len == TAIL.to_le_bytes() {
            let rest = take::<12>(&mut from)?;
            let tail = [&len[..], &rest[..]].concat();
            if u32::from_le_bytes(take(&mut from)?) != crc32c(&tail)
                || rest[..8] != (records.len() as u64).to_le_bytes()
                || rest[8..] != crc32c(&crcs).to_le_bytes()
            {
                return bad(format!("its tail does not fit the {} records before it", records.len()));
            }
            if from.read(&mut [0])? != 0 {
                return bad("something follows its tail".to_owned());
            }
            return Ok((head, records));
        }
        let bytes = u32::from_le_bytes(len) as usize;
        let (record_type, sequence) = (take::<4>(&mut from)?, take::<8>(&mut from)?);
        let crc = take::<4>(&mut from)?;
        if bytes > PAYLOAD {
            return bad(format!("record {} of it claims {bytes} bytes", records.len()));
        }
        let payload = take_len(&mut from, bytes)?;
        let (record_type, sequence) = (u32::from_le_bytes(record_type), u64::from_le_bytes(sequence));
        let record = Kept { sequence, record_type, payload };
        if crc != crc32c(&[&front(&record), &record.payload[..]].concat()).to_le_bytes() {
            return bad(format!("the checksum of record {} of it is wrong", records.len()));
        }
        crcs.extend(crc);
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let head = Head {
            channel: "c".into(),
            generation: 3,
            capacity: 4096,
            record_limit: 2000,
            slots: 4,
            checksum: "full".into(),
            schema: "0000000000000000".into(),
            beat_interval_ms: 100,
            taken_unix_ns: 1,
            durable: vec![("d".into(), 7)],
            next_sequence: Some(9),
        };
        let mut writer = Writer::new(Vec::new(), &head).unwrap();
        for sequence in 7..9 {
            writer.record(&Kept { sequence, record_type: 5, payload: vec![sequence as u8; 3] }).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let (again, records) = read(&bytes[..]).unwrap();
        assert_eq!((again, records.len(), records[1].sequence), (head, 2, 8));
        bytes
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes_for_a_snapshot() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut to {len}");
        }
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(read(&flipped[..]).is_err(), "bit {at}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()[..]).is_err());
    }
}
