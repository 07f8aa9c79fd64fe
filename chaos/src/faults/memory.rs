//! Bits, bytes and words of a living segment that change under its processes' hands.
//!
//! Most strike while everybody stands still, so that what is hit is known exactly; then all go on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::{Applied, BEATS, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::payload::Dice;
use crate::range::anatomy::{Anatomy, Place, RECORD_HEADER, TABLE_HEAD};
use crate::range::stage::Stage;

const fn class(
    name: &'static str,
    what: &'static str,
    cost: Cost,
    setup: Setup,
    apply: fn(&mut Stage<'_>, &mut Dice) -> Applied,
) -> Class {
    Class { name, family: Family::Memory, what, cost, setup, compound: false, apply }
}

pub(super) const CLASSES: &[Class] = &[
    class("flip-identity", "one bit of the identity block", Cost::Reported, BEATS, |s, d| flip(s, d, |_| (0, 256))),
    class("set-identity", "one byte of the identity block, to any value", Cost::Reported, BEATS, |s, d| {
        set(s, d, |_| (0, 256))
    }),
    class("flip-succession", "one bit of state, end or successor word", Cost::Reported, PLAIN, |s, d| {
        flip(s, d, |_| (256, 32))
    }),
    class("flip-writer-position", "one bit of the writer's published position", Cost::Nothing, PLAIN, |s, d| {
        flip(s, d, |_| (384, 8))
    }),
    class("flip-writer-checkpoint", "one bit of the writer's checkpoints", Cost::Nothing, PLAIN, |s, d| {
        flip(s, d, |_| (392, 48))
    }),
    class("flip-limit", "one bit of the writer's published limit", Cost::Nothing, PLAIN, |s, d| {
        flip(s, d, |_| (440, 8))
    }),
    class("flip-heartbeat", "one bit of heartbeat, its time, or the life word", Cost::Nothing, BEATS, |s, d| {
        flip(s, d, |_| (512, 20))
    }),
    class("flip-data-doorbell", "one bit of the doorbell that readers sleep on", Cost::Nothing, PLAIN, |s, d| {
        flip(s, d, |_| (640, 4))
    }),
    class("flip-table-head", "one bit of sleeping flags or the space doorbell", Cost::Nothing, PLAIN, |s, d| {
        flip(s, d, |a| (a.table_at, 136))
    }),
    class("flip-slot-state", "one bit of a reader's state or kind", Cost::Nothing, PLAIN, |s, d| {
        flip_slot(s, d, (0, 8))
    }),
    class("flip-slot-cursor", "one bit of a reader's published cursor", Cost::Nothing, PLAIN, |s, d| {
        flip_slot(s, d, (8, 56))
    }),
    class("flip-slot-card", "one bit of a reader's name, owner or card", Cost::Nothing, PLAIN, |s, d| {
        flip_slot(s, d, (64, 64))
    }),
    class("set-table", "one byte of the reader table, to any value", Cost::Nothing, PLAIN, |s, d| {
        set(s, d, |a| (a.table_at, TABLE_HEAD + 128 * a.slots.min(4)))
    }),
    class("hostile-position", "the writer's position set to a value that can't be", Cost::Nothing, PLAIN, |s, d| {
        hostile(s, d, |_, _| Some(384))
    }),
    class(
        "hostile-reader-position",
        "a reader's position set to a value that can't be",
        Cost::Nothing,
        PLAIN,
        |s, d| hostile(s, d, |a, d| Some(a.slot_at(slot(a, d)?) + 8)),
    ),
    class("record-header", "one bit of a record's header", Cost::Hit, PLAIN, |s, d| hit(s, d, 1, header_bit)),
    class("record-payload", "one bit of a record's payload", Cost::Hit, PLAIN, |s, d| hit(s, d, 1, payload_bit)),
    class("records-smashed", "several records filled with noise", Cost::Hit, PLAIN, |s, d| hit(s, d, 4, noise)),
    class("record-zeroed", "a record's bytes set to zero", Cost::Hit, PLAIN, |s, d| hit(s, d, 1, zeros)),
    class("record-misplaced", "a record's bytes copied over another", Cost::Hit, PLAIN, misplaced),
    class("double-fetch", "bytes of the data that change while they are read", Cost::Reported, PLAIN, double_fetch),
    class("cursor-flicker", "the position flickers between hostile values", Cost::Nothing, PLAIN, cursor_flicker),
];

/// Writes bytes and looks whether they are there.
fn poke(file: &File, at: usize, bytes: &[u8]) -> Result<(), Hitch> {
    file.write_all_at(bytes, at as u64)?;
    let mut back = vec![0; bytes.len()];
    file.read_exact_at(&mut back, at as u64)?;
    if back == bytes { Ok(()) } else { Err(Hitch::Missed("it was overwritten at once".into())) }
}

fn frozen(stage: &mut Stage<'_>, backlog: usize) -> Result<(File, Vec<u8>, Anatomy), Hitch> {
    stage.freeze(backlog).ok_or_else(|| Hitch::Missed("the channel did not stand still in a sound state".into()))
}

type Span = fn(&Anatomy) -> (usize, usize);

fn flip_at(file: &File, image: &[u8], at: usize, dice: &mut Dice) -> Applied {
    let bit = dice.below(8);
    poke(file, at, &[image[at] ^ 1 << bit])?;
    Ok(Landing::of(format!("bit {bit} of byte {at}")))
}

fn flip(stage: &mut Stage<'_>, dice: &mut Dice, span: Span) -> Applied {
    let (file, image, anatomy) = frozen(stage, 3)?;
    let (at, len) = span(&anatomy);
    flip_at(&file, &image, at + dice.below(len as u64) as usize, dice)
}

fn slot(anatomy: &Anatomy, dice: &mut Dice) -> Option<usize> {
    let count = anatomy.readers.len() as u64;
    (count > 0).then(|| anatomy.readers[dice.below(count) as usize].0)
}

fn flip_slot(stage: &mut Stage<'_>, dice: &mut Dice, (at, len): (usize, usize)) -> Applied {
    let (file, image, anatomy) = frozen(stage, 3)?;
    let Some(slot) = slot(&anatomy, dice) else { return Err(Hitch::Missed("no reader had a place".into())) };
    flip_at(&file, &image, anatomy.slot_at(slot) + at + dice.below(len as u64) as usize, dice)
}

fn set(stage: &mut Stage<'_>, dice: &mut Dice, span: Span) -> Applied {
    let (file, image, anatomy) = frozen(stage, 3)?;
    let (at, len) = span(&anatomy);
    let at = at + dice.below(len as u64) as usize;
    let value = image[at].wrapping_add(1 + dice.below(255) as u8);
    poke(&file, at, &[value])?;
    Ok(Landing::of(format!("byte {at} from {:#x} to {value:#x}", image[at])))
}

fn hostile_value(position: u64, capacity: u64, dice: &mut Dice) -> u64 {
    let values = [
        0,
        1,
        32,
        u64::MAX,
        u64::MAX - 31,
        1 << 52,
        1 << 63,
        position.wrapping_add(32),
        position.wrapping_sub(32),
        position.wrapping_add(capacity),
        position.wrapping_sub(capacity),
        position.wrapping_add(capacity + 32),
        position | 7,
        dice.next(),
    ];
    values[dice.below(values.len() as u64) as usize]
}

fn hostile(stage: &mut Stage<'_>, dice: &mut Dice, place: fn(&Anatomy, &mut Dice) -> Option<usize>) -> Applied {
    let (file, _, anatomy) = frozen(stage, 3)?;
    let Some(at) = place(&anatomy, dice) else { return Err(Hitch::Missed("no reader had a place".into())) };
    let value = hostile_value(anatomy.position, anatomy.capacity, dice);
    poke(&file, at, &value.to_le_bytes())?;
    Ok(Landing::of(format!("byte {at}: {value:#x}")))
}

type Spoil = fn(&mut [u8], usize, &mut Dice);

fn header_bit(bytes: &mut [u8], _: usize, dice: &mut Dice) {
    bytes[dice.below(RECORD_HEADER as u64) as usize] ^= 1 << dice.below(8);
}

fn payload_bit(bytes: &mut [u8], len: usize, dice: &mut Dice) {
    bytes[RECORD_HEADER + dice.below(len as u64) as usize] ^= 1 << dice.below(8);
}

fn noise(bytes: &mut [u8], _: usize, dice: &mut Dice) {
    bytes.iter_mut().for_each(|byte| *byte = dice.next() as u8);
}

fn zeros(bytes: &mut [u8], _: usize, _: &mut Dice) {
    bytes.fill(0);
}

/// Records that no reader has seen.
fn unread(stage: &Stage<'_>, anatomy: &Anatomy) -> Result<Vec<Place>, Hitch> {
    let received = stage.received();
    // A reader may have one in hand and not have said so yet.
    let unread: Vec<Place> = anatomy.records.iter().filter(|place| place.sequence > received).copied().collect();
    if unread.is_empty() { Err(Hitch::Missed("all records had been received".into())) } else { Ok(unread) }
}

/// Spoils up to `most` records that no reader has released.
fn hit(stage: &mut Stage<'_>, dice: &mut Dice, most: u64, spoil: Spoil) -> Applied {
    let (file, image, anatomy) = frozen(stage, 8)?;
    let records = unread(stage, &anatomy)?;
    let mut landing = Landing::default();
    for _ in 0..1 + dice.below(most) {
        let place = records[dice.below(records.len() as u64) as usize];
        if landing.hit.contains(&place.sequence) {
            continue;
        }
        let before = &image[place.at..place.at + place.span];
        let mut bytes = before.to_vec();
        spoil(&mut bytes, place.len, dice);
        poke(&file, place.at, &bytes)?;
        landing.hit.push(place.sequence);
    }
    landing.what = format!("records {:?}", landing.hit);
    Ok(landing)
}

fn misplaced(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (file, image, anatomy) = frozen(stage, 12)?;
    let records = unread(stage, &anatomy)?;
    let count = records.len() as u64;
    let from = dice.below(count) as usize;
    // Over one that is as long, so that no third one is touched.
    let to = (0..count as usize).find(|to| *to != from && records[*to].span >= records[from].span);
    let Some(to) = to else { return Err(Hitch::Missed("no record was long enough".into())) };
    let (from, to) = (records[from], records[to]);
    poke(&file, to.at, &image[from.at..from.at + from.span])?;
    Ok(Landing { hit: vec![to.sequence], what: format!("record {} over {}", from.sequence, to.sequence) })
}

/// Somebody writes into the data while it is written and read; nothing is put back.
fn double_fetch(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    let data = file.metadata()?.len().checked_sub(stage.trial.capacity);
    let Some(data) = data else { return Err(Hitch::Missed("the segment was too short".into())) };
    let (begun, mut flips) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(30) {
        for _ in 0..20 {
            let at = data + dice.below(stage.trial.capacity);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ 1 << dice.below(8)], at)?;
            flips += 1;
        }
        stage.pump(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(300));
    }
    Ok(Landing::of(format!("{flips} bits of generation {number}")))
}

fn cursor_flicker(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    let (begun, mut flips) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(20) {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 384)?;
        let value = hostile_value(u64::from_le_bytes(word), stage.trial.capacity, dice);
        file.write_all_at(&value.to_le_bytes(), 384)?;
        flips += 1;
        stage.pump(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(Landing::of(format!("{flips} times, generation {number}")))
}
