//! Where things are in a sound, frozen segment: from the tables of `docs/FORMAT.md`, not from the library.

/// The page, the table and the data of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anatomy {
    pub(crate) page: usize,
    pub(crate) slots: usize,
    pub(crate) table_at: usize,
    pub(crate) data_at: usize,
    pub(crate) capacity: u64,
    pub(crate) segment: u64,
    pub(crate) generation: u64,
    /// Published position.
    pub(crate) position: u64,
    /// Slots of readers that are there: number, and the position up to which it has released.
    pub(crate) readers: Vec<(usize, u64)>,
    /// Records that no reader has released yet.
    pub(crate) records: Vec<Place>,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    /// Offset in the file.
    pub(crate) at: usize,
    /// Bytes with header and padding.
    pub(crate) span: usize,
    /// Bytes of payload.
    pub(crate) len: usize,
}

const ACTIVE: u32 = 0x6163_7476;
const CARRIED: u32 = 0x6361_7272;
const DATA: u32 = 0x4441_5441;
const WRAP: u32 = 0x5752_4150;
/// Offset of a slot's cursor, and bytes of a slot and of the table's head.
pub(crate) const SLOT: usize = 128;
pub(crate) const TABLE_HEAD: usize = 256;
pub(crate) const RECORD_HEADER: usize = 24;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Anatomy {
    /// Of a copy of a whole file; `None` if it is not a sound one.
    pub(crate) fn of(file: &[u8]) -> Option<Anatomy> {
        if !file.starts_with(b"RINGWARD") {
            return None;
        }
        let page = u32_at(file, 16)? as usize;
        let slots = u32_at(file, 20)? as usize;
        let capacity = u64_at(file, 24)?;
        if !(4096..=65536).contains(&page) || slots > 64 || !capacity.is_power_of_two() {
            return None;
        }
        let table = (TABLE_HEAD + SLOT * slots).next_multiple_of(page);
        let data_at = page + table;
        if file.len() as u64 != data_at as u64 + capacity {
            return None;
        }
        let position = u64_at(file, 384)?;
        let mut readers = Vec::new();
        for slot in 0..slots {
            let at = page + TABLE_HEAD + SLOT * slot;
            if [ACTIVE, CARRIED].contains(&u32_at(file, at)?) {
                readers.push((slot, u64_at(file, at + 8)?));
            }
        }
        let mut anatomy = Anatomy {
            page,
            slots,
            table_at: page,
            data_at,
            capacity,
            segment: u64_at(file, 72)?,
            generation: u64_at(file, 64)?,
            position,
            readers,
            records: Vec::new(),
        };
        anatomy.walk(file)?;
        Some(anatomy)
    }

    fn walk(&mut self, file: &[u8]) -> Option<()> {
        let Some(mut at) = self.readers.iter().map(|(_, released)| *released).min() else { return Some(()) };
        if at > self.position || self.position - at > self.capacity || !at.is_multiple_of(32) {
            return None;
        }
        while at < self.position {
            let offset = self.data_at + (at & (self.capacity - 1)) as usize;
            let len = u32_at(file, offset)? as usize;
            let kind = u32_at(file, offset + 4)?;
            let span = (RECORD_HEADER + len).next_multiple_of(32);
            if ![DATA, WRAP].contains(&kind) || offset + span > file.len() {
                return None;
            }
            if kind == DATA {
                self.records.push(Place { sequence: u64_at(file, offset + 16)?, at: offset, span, len });
            }
            at += span as u64;
        }
        Some(())
    }

    /// Offset of a slot.
    pub(crate) fn slot_at(&self, slot: usize) -> usize {
        self.table_at + TABLE_HEAD + SLOT * slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_give_an_answer() {
        let mut dice = crate::payload::Dice(5);
        assert_eq!(Anatomy::of(b""), None);
        for _ in 0..200 {
            let mut file = vec![0_u8; 4096 * 4 + 4096];
            file[..8].copy_from_slice(b"RINGWARD");
            file[16..20].copy_from_slice(&4096_u32.to_le_bytes());
            file[20..24].copy_from_slice(&32_u32.to_le_bytes());
            file[24..32].copy_from_slice(&4096_u64.to_le_bytes());
            for _ in 0..dice.below(400) {
                let at = dice.below(file.len() as u64) as usize;
                file[at] = dice.next() as u8;
            }
            let _ = Anatomy::of(&file);
        }
    }
}
