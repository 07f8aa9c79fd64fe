//! The decoder behind [`decode`](super::decode): reads the words, decides what is readable, judges each part.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::cursor::{self, Mark, Reading, check};
use crate::identity::Identity;
use crate::layout::{
    ALIGN, CURSOR_AT, Checkpoint, Cursor, DOORBELL_AT, HEARTBEAT_AT, MAX_POSITION, MINOR, SLOT_LEN, SUCCESSION_AT,
    Slot, TABLE_HEAD_LEN,
};
use crate::table::{self, SlotReading};
use crate::word::{BadWord, End, EndWord, Kind, SlotState, State, Successor, SuccessorWord};

use super::finding::{Finding, FindingKind, Severity};
use super::walk::{Piece, Pieces, Ring};
use super::{Basis, Image, MAX_FINDINGS, Readable, SlotImage, Totals};

/// Bytes that may end anywhere: behind the end there are zeros, as in a punched page.
#[derive(Clone, Copy)]
pub(super) struct View<'b>(pub(super) &'b [u8]);

impl View<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at.saturating_add(4)).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap_or_default()))
    }

    fn u64(&self, at: usize) -> u64 {
        self.0.get(at..at.saturating_add(8)).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
    }

    pub(super) fn zero(&self, at: usize, len: usize) -> bool {
        self.0.get(at..at.saturating_add(len)).is_some_and(|b| b.iter().all(|b| *b == 0))
    }

    fn cursor(&self, at: usize) -> Cursor {
        let word = |i: usize| AtomicU64::new(self.u64(at + i * 8));
        let checkpoint = |i: usize| Checkpoint { position: word(i), sequence: word(i + 1), check: word(i + 2) };
        Cursor { position: word(0), checkpoints: [checkpoint(1), checkpoint(4)] }
    }

    fn slot(&self, at: usize) -> Slot {
        Slot {
            state: AtomicU32::new(self.u32(at)),
            kind: AtomicU32::new(self.u32(at + 4)),
            cursor: self.cursor(at + 8),
            name: [64, 72, 80, 88].map(|i| AtomicU64::new(self.u64(at + i))),
            pid: AtomicU32::new(self.u32(at + 96)),
            pid_namespace: AtomicU32::new(self.u32(at + 100)),
            start: AtomicU64::new(self.u64(at + 104)),
            taken: AtomicU64::new(self.u64(at + 112)),
            check: AtomicU64::new(self.u64(at + 120)),
        }
    }
}

#[derive(Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    more: u64,
}

impl Findings {
    fn add(&mut self, severity: Severity, what: FindingKind, offset: u64, found: u64, expected: u64) {
        if self.kept.len() < MAX_FINDINGS {
            self.kept.push(Finding { what, offset, found, expected, severity });
        } else {
            self.more += 1;
        }
    }

    fn note(&mut self, what: FindingKind, offset: u64, found: u64, expected: u64) {
        self.add(Severity::Note, what, offset, found, expected);
    }

    pub(super) fn damage(&mut self, what: FindingKind, offset: u64, found: u64, expected: u64) {
        self.add(Severity::Damage, what, offset, found, expected);
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.more != 0 {
            let (found, expected) = (self.more, MAX_FINDINGS as u64);
            let more = Finding { what: FindingKind::More, offset: 0, found, expected, severity: Severity::Damage };
            self.kept.push(more);
        }
        self.kept
    }
}

pub(super) struct Decoder<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) view: View<'b>,
    pub(super) identity: Identity,
    pub(super) findings: Findings,
}

/// The writer's cursor line, with both checkpoints.
struct Line {
    position: u64,
    marks: [Option<Mark>; 2],
    reading: Reading,
    limit: u64,
}

impl Line {
    /// The sequence number that a checkpoint gives for `position`.
    fn sequence_at(&self, position: u64) -> Option<u64> {
        self.marks.into_iter().flatten().find(|m| m.position == position).map(|m| m.sequence)
    }

    /// Everything in front of this was completely written.
    fn written(&self) -> Option<Mark> {
        self.marks.into_iter().flatten().max_by_key(|m| m.position)
    }
}

impl<'b> Decoder<'b> {
    pub(super) fn decode(mut self) -> Image<'b> {
        let geometry = self.identity.geometry;
        if self.identity.minor > MINOR {
            self.findings.note(FindingKind::Minor, 10, self.identity.minor.into(), MINOR.into());
        }
        let len = self.bytes.len() as u64;
        if len != geometry.total() {
            self.findings.damage(FindingKind::Size, len.min(geometry.total()), len, geometry.total());
        }
        // Words of a page that was cut off are not there to be wrong.
        let page_there = len >= geometry.table_at();

        let line = self.line();
        let end = EndWord(self.view.u64(SUCCESSION_AT + 8)).read(self.identity.segment);
        let successor = SuccessorWord(self.view.u64(SUCCESSION_AT + 16)).read();
        let state = State(self.view.u32(SUCCESSION_AT));
        let expelled = self.view.u64(SUCCESSION_AT + 24);
        let slots = self.read_slots(expelled);

        let ring = Ring { data: self.data(), shape: self.identity.shape() };
        let mut readable = Self::readable(&ring, &line, end, &slots);
        if page_there {
            self.judge_succession(state, end, successor, expelled, &line);
            self.judge_line(&line, &readable);
        }
        let kept = self.kept(&line, &readable, &slots);
        self.judge_table(&slots, &readable, kept.0, page_there);

        let pieces = Pieces::new(ring, (readable.end, readable.sequence), kept);
        let totals = self.judge_pieces(&ring, pieces.clone(), &mut readable);
        self.judge_beyond(&ring, &line, &readable);
        Image {
            identity: Ok(self.identity),
            state,
            end,
            successor,
            cursor: line.reading,
            limit: line.limit,
            beat: self.view.u64(HEARTBEAT_AT),
            beat_time: self.view.u64(HEARTBEAT_AT + 8),
            slots,
            readable,
            totals,
            findings: self.findings.finish(),
            pieces,
        }
    }

    fn data(&self) -> &'b [u8] {
        let geometry = self.identity.geometry;
        let from = self.bytes.len().min(usize::try_from(geometry.data_at()).unwrap_or(usize::MAX));
        let to = self.bytes.len().min(usize::try_from(geometry.total()).unwrap_or(usize::MAX));
        self.bytes.get(from..to).unwrap_or_default()
    }

    fn offset(&self, position: u64) -> u64 {
        self.identity.geometry.data_at() + self.identity.shape().offset(position)
    }

    fn line(&self) -> Line {
        let segment = self.identity.segment;
        let mark = |at: usize| {
            let mark = Mark { position: self.view.u64(at), sequence: self.view.u64(at + 8) };
            let sound = self.view.u64(at + 16) == check(mark, segment) && possible(mark.position);
            sound.then_some(mark)
        };
        Line {
            position: self.view.u64(CURSOR_AT),
            marks: [mark(CURSOR_AT + 8), mark(CURSOR_AT + 32)],
            reading: cursor::read(&self.view.cursor(CURSOR_AT), segment),
            limit: self.view.u64(CURSOR_AT + 56),
        }
    }

    fn read_slots(&self, expelled: u64) -> Vec<SlotImage> {
        let geometry = self.identity.geometry;
        let first = geometry.table_at() as usize + TABLE_HEAD_LEN;
        (0..geometry.slots as usize)
            .map(|i| (i, first + i * SLOT_LEN))
            .take_while(|(_, at)| at + SLOT_LEN <= self.bytes.len())
            .map(|(i, at)| SlotImage {
                reading: table::read_slot(&self.view.slot(at), self.identity.segment),
                expelled: expelled >> (i & 63) & 1 == 1,
            })
            .collect()
    }

    fn slot_at(&self, slot: usize) -> usize {
        self.identity.geometry.table_at() as usize + TABLE_HEAD_LEN + slot * SLOT_LEN
    }

    fn readable(ring: &Ring<'b>, line: &Line, end: Result<End, BadWord>, slots: &[SlotImage]) -> Readable {
        match (end, line.reading) {
            (Ok(End::At(end)), _) => Readable { end, sequence: line.sequence_at(end), basis: Basis::EndWord },
            (_, Reading::Sound(mark)) => {
                Readable { end: mark.position, sequence: Some(mark.sequence), basis: Basis::Cursor }
            }
            (_, Reading::Checkpoints { higher, .. }) => {
                Readable { end: higher.position, sequence: Some(higher.sequence), basis: Basis::Checkpoints }
            }
            (_, Reading::Damaged) => {
                let start = Mark { position: 0, sequence: ring.shape.first_sequence };
                let foremost = slots.iter().filter_map(SlotImage::mark).max_by_key(|m| m.position).unwrap_or(start);
                let (at, _) = ring.follow(foremost, foremost.position.saturating_add(ring.shape.capacity));
                Readable { end: at.position, sequence: Some(at.sequence), basis: Basis::Records }
            }
        }
    }

    /// From where on everything must be sound, and the number of the record there, if it can be known.
    ///
    /// The limit is the place of the slowest reader (or, without readers, a published position) plus the capacity: what
    /// lies a capacity behind it had been released, and the writer may have begun to use it again.
    fn kept(&self, line: &Line, readable: &Readable, slots: &[SlotImage]) -> (u64, Option<u64>) {
        let Identity { geometry, first_sequence, .. } = self.identity;
        let start = readable.end.saturating_sub(geometry.capacity);
        let marks = || slots.iter().filter(|s| s.occupied() && !s.expelled).filter_map(SlotImage::mark);
        let kept = if self.limit_possible(line) {
            line.limit.saturating_sub(geometry.capacity)
        } else {
            let slowest = marks().map(|m| m.position).filter(|p| (start..=readable.end).contains(p)).min();
            slowest.unwrap_or(if start == 0 { 0 } else { readable.end })
        };
        let kept = kept.clamp(start, readable.end);
        let sequence = match kept {
            0 => Some(first_sequence),
            _ => line.sequence_at(kept).or_else(|| marks().find(|m| m.position == kept).map(|m| m.sequence)),
        };
        (kept, sequence)
    }

    fn limit_possible(&self, line: &Line) -> bool {
        // The writer's other words say how far it was; without them the limit is all there is.
        let written = line.written();
        let least = match line.reading {
            Reading::Sound(mark) => mark.position,
            _ => 0,
        };
        let most = written.map_or(MAX_POSITION * 2, |m| m.position.saturating_add(self.identity.geometry.capacity));
        line.limit.is_multiple_of(ALIGN) && (least..=most).contains(&line.limit)
    }

    fn judge_succession(
        &mut self,
        state: State,
        end: Result<End, BadWord>,
        successor: Result<Successor, BadWord>,
        expelled: u64,
        line: &Line,
    ) {
        let findings = &mut self.findings;
        let at = SUCCESSION_AT as u64;
        let raw = u64::from(state.0);
        let (end_word, successor_word) = (self.view.u64(SUCCESSION_AT + 8), self.view.u64(SUCCESSION_AT + 16));
        if state.known().is_none() {
            findings.damage(FindingKind::State, at, raw, State::OPEN.0.into());
        }
        let running = matches!(state, State::CANDIDATE | State::OPEN);
        match end {
            Err(BadWord(found)) => findings.damage(FindingKind::EndWord, at + 8, found, EndWord::UNDECIDED.0),
            Ok(End::Undecided) if state == State::SUCCEEDED => {
                findings.damage(FindingKind::Order, at, raw, end_word);
            }
            Ok(End::Undecided) if matches!(state, State::FENCING | State::CLOSED) => {
                findings.note(FindingKind::Undecided, at + 8, raw, line.position);
            }
            Ok(End::At(_) | End::Unknown) if running => findings.damage(FindingKind::Order, at, raw, end_word),
            Ok(End::Unknown) => {
                findings.damage(FindingKind::UnknownEnd, at + 8, end_word, line.written().map_or(0, |m| m.position));
            }
            Ok(End::At(end)) => match line.written() {
                Some(mark) if end > mark.position => {
                    findings.damage(FindingKind::EndAhead, at + 8, end, mark.position);
                }
                _ => {}
            },
            Ok(End::Undecided) => {}
        }
        match successor {
            Err(BadWord(found)) => {
                findings.damage(FindingKind::SuccessorWord, at + 16, found, SuccessorWord::UNDECIDED.0);
            }
            Ok(Successor::Undecided) if state == State::SUCCEEDED => {
                findings.damage(FindingKind::Order, at, raw, successor_word);
            }
            Ok(Successor::Segment(_)) if running => findings.damage(FindingKind::Order, at, raw, successor_word),
            Ok(_) => {}
        }
        let slots = self.identity.geometry.slots;
        let known = if slots >= 64 { u64::MAX } else { (1 << slots) - 1 };
        if expelled & !known != 0 {
            findings.damage(FindingKind::ExpelledBits, at + 24, expelled, known);
        }
        if self.view.u32(DOORBELL_AT) == 0 {
            findings.damage(FindingKind::Bell, DOORBELL_AT as u64, 0, 1);
        }
    }

    fn judge_line(&mut self, line: &Line, readable: &Readable) {
        let at = CURSOR_AT as u64;
        let segment = self.identity.segment;
        match line.reading {
            Reading::Sound(_) => {}
            Reading::Checkpoints { higher, .. } => {
                self.findings.damage(FindingKind::Position, at, line.position, higher.position);
            }
            Reading::Damaged => self.findings.damage(FindingKind::Cursor, at, line.position, readable.end),
        }
        if line.marks.iter().any(Option::is_some) {
            for (i, mark) in line.marks.iter().enumerate() {
                let from = CURSOR_AT + 8 + i * 24;
                let found = Mark { position: self.view.u64(from), sequence: self.view.u64(from + 8) };
                // Before the first publication the other one is all zero.
                if mark.is_none() && !self.view.zero(from, 24) {
                    let stored = self.view.u64(from + 16);
                    self.findings.note(FindingKind::Checkpoint, from as u64, stored, check(found, segment));
                }
            }
        }
        if !self.limit_possible(line) {
            self.findings.damage(FindingKind::Limit, at + 56, line.limit, line.written().map_or(0, |m| m.position));
        }
    }

    fn judge_table(&mut self, slots: &[SlotImage], readable: &Readable, kept: u64, page_there: bool) {
        let geometry = self.identity.geometry;
        let table = geometry.table_at() as usize;
        let page = geometry.page as usize;
        let pages = (0..geometry.table_len() as usize / page).map(|i| table + i * page);
        let zero: Vec<usize> =
            pages.filter(|at| self.view.zero(*at, page)).filter(|at| *at < self.slot_at(slots.len())).collect();
        for at in &zero {
            self.findings.damage(FindingKind::Zeroed, *at as u64, page as u64, 0);
        }
        if !zero.contains(&table) && self.bytes.len() >= table + TABLE_HEAD_LEN && self.view.u32(table + 128) == 0 {
            self.findings.damage(FindingKind::Bell, (table + 128) as u64, 0, 1);
        }
        for (slot, image) in slots.iter().enumerate() {
            let at = self.slot_at(slot);
            if !zero.contains(&(at / page * page)) {
                self.judge_slot(slot, at as u64, image, readable, kept, page_there);
            }
        }
        for (slot, image) in slots.iter().enumerate() {
            let Some(card) = image.reading.card.filter(|_| image.occupied()) else { continue };
            let earlier = slots[..slot]
                .iter()
                .position(|other| other.occupied() && other.reading.card.is_some_and(|o| o.name == card.name));
            if let Some(other) = earlier {
                let both = [card.kind, slots[other].reading.card.map_or(card.kind, |c| c.kind)];
                let severity = if both == [Kind::DURABLE; 2] { Severity::Damage } else { Severity::Note };
                let what = FindingKind::Name { slot, other };
                let at = self.slot_at(slot) as u64 + 64;
                self.findings.add(severity, what, at, slot as u64, other as u64);
            }
        }
    }

    fn judge_slot(
        &mut self,
        slot: usize,
        at: u64,
        image: &SlotImage,
        readable: &Readable,
        kept: u64,
        page_there: bool,
    ) {
        let SlotReading { state, card, cursor, taken } = image.reading;
        let raw = self.view.u64(at as usize + 8);
        let findings = &mut self.findings;
        if state.known().is_none() {
            findings.damage(FindingKind::SlotState { slot }, at, state.0.into(), SlotState::FREE.0.into());
        }
        // A place that is nobody's, or is being taken, may hold anything.
        if !matches!(state, SlotState::ACTIVE | SlotState::CARRIED) {
            return;
        }
        if card.is_none() {
            findings.damage(FindingKind::SlotCard { slot }, at + 120, self.view.u64(at as usize + 120), 0);
        }
        match cursor {
            Reading::Sound(_) => {}
            Reading::Checkpoints { lower, .. } => {
                findings.damage(FindingKind::SlotCursor { slot }, at + 8, raw, lower.position);
            }
            Reading::Damaged => findings.damage(FindingKind::SlotCursor { slot }, at + 8, raw, kept),
        }
        let Some(mark) = image.mark() else { return };
        // A carried one says where its reader stood in an older generation (docs/decisions/0008).
        if taken < mark.sequence && state != SlotState::CARRIED {
            findings.damage(FindingKind::Taken { slot }, at + 112, taken, mark.sequence);
        }
        if image.expelled || !page_there {
            return;
        }
        if mark.position > readable.end {
            findings.damage(FindingKind::SlotAhead { slot }, at + 8, mark.position, readable.end);
        } else if mark.position < kept {
            findings.damage(FindingKind::Overrun { slot }, at + 8, mark.position, kept);
        }
        if let Some(last) = readable.sequence.filter(|last| taken > *last && taken > mark.sequence) {
            findings.damage(FindingKind::Taken { slot }, at + 112, taken, last);
        }
    }

    fn judge_pieces(&mut self, ring: &Ring<'b>, mut pieces: Pieces<'b>, readable: &mut Readable) -> Totals {
        let mut totals = Totals::default();
        let page = u64::from(self.identity.geometry.page);
        for piece in &mut pieces {
            match piece {
                Piece::Record { payload, .. } => {
                    totals.records += 1;
                    totals.payload += payload.len() as u64;
                }
                Piece::Wrap { .. } => totals.wraps += 1,
                Piece::Stale { .. } => {}
                Piece::Lost { position, len, from, count } => {
                    totals.holes += 1;
                    totals.lost = totals.lost.saturating_add(count.unwrap_or(0));
                    totals.lost_unknown |= count.is_none();
                    let at = self.offset(position);
                    let expected = from.unwrap_or(self.identity.first_sequence);
                    if len == 0 {
                        let lost = count.unwrap_or(0);
                        self.findings.damage(FindingKind::Gap { lost }, at, expected.saturating_add(lost), expected);
                        continue;
                    }
                    self.findings.damage(FindingKind::Records { len, lost: count }, at, position, expected);
                    if let Some((first, zeros)) = ring.zero_pages(position, len, page) {
                        let at = self.identity.geometry.data_at() + first;
                        self.findings.damage(FindingKind::Zeroed, at, zeros, 0);
                    }
                }
            }
        }
        if pieces.gave_up() {
            let most = ring.shape.capacity.saturating_mul(16).max(1 << 20);
            self.findings.damage(FindingKind::Budget, self.identity.geometry.data_at(), most, most);
        }
        readable.sequence = readable.sequence.or(pieces.reached());
        totals
    }

    /// What lies behind the end of what is readable: pushes that were never visible, or refused.
    fn judge_beyond(&mut self, ring: &Ring<'b>, line: &Line, readable: &Readable) {
        let end = readable.end;
        let Some(sequence) = readable.sequence.filter(|_| readable.basis != Basis::Records) else { return };
        let ahead = line.written().filter(|m| m.position > end);
        let limit = end.saturating_add(ring.shape.capacity);
        let (reached, all) = ring.follow(Mark { position: end, sequence }, limit);
        let at = self.offset(end);
        let published = match line.reading {
            Reading::Sound(mark) => Some(mark.position),
            _ => None,
        };
        match (ahead, published) {
            (Some(_), Some(published)) if published > end => {
                let (_, records) = ring.follow(Mark { position: end, sequence }, published.min(limit));
                self.findings.note(FindingKind::Fenced { records }, at, published, end);
                return;
            }
            (Some(mark), _) => {
                let (_, records) = ring.follow(Mark { position: end, sequence }, mark.position.min(limit));
                self.findings.note(FindingKind::Torn { records }, at, mark.position, end);
                return;
            }
            (None, _) => {}
        }
        if all > 0 {
            self.findings.note(FindingKind::Staged { records: all }, at, reached.position, end);
        }
    }
}

fn possible(position: u64) -> bool {
    position.is_multiple_of(ALIGN) && position < MAX_POSITION * 2
}
