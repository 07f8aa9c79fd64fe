//! The golden segments: made again, compared with what is committed, decoded, and made by the real writer too.

use std::path::PathBuf;

use ringward_ring::image::{self, Basis, Piece};

use crate::golden::{self, Golden};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

fn named(name: &str) -> Golden {
    golden::all().into_iter().find(|golden| golden.name == name).expect("a golden segment of that name")
}

#[test]
fn sha256_is_the_real_one() {
    assert_eq!(golden::sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(golden::sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn committed_files_are_what_the_program_makes() {
    let all = golden::all();
    let advice = "run: cargo run -p ringward-ring --example fixtures";
    let manifest = std::fs::read_to_string(folder().join("MANIFEST")).expect("fixtures/MANIFEST");
    assert_eq!(manifest, golden::manifest(&all), "MANIFEST differs; {advice}");
    for golden in &all {
        let committed = std::fs::read(folder().join(golden.name)).expect(golden.name);
        assert!(committed == golden.bytes, "{} differs; {advice}", golden.name);
    }
    let mut there: Vec<_> = std::fs::read_dir(folder())
        .expect("fixtures")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".ring"))
        .collect();
    there.sort();
    let mut made: Vec<_> = all.iter().map(|golden| golden.name.to_owned()).collect();
    made.sort();
    assert_eq!(there, made);
}

#[test]
fn findings_are_those_of_the_manifest() {
    let mut others = Vec::new();
    for golden in golden::all() {
        let image = image::decode(&golden.bytes);
        let ids: Vec<_> = image.findings.iter().map(|finding| finding.id()).collect();
        if ids != golden.findings {
            let text: Vec<_> = image.findings.iter().map(ToString::to_string).collect();
            others.push(format!("{}: expected {:?}, found {text:#?}", golden.name, golden.findings));
        }
        for finding in &image.findings {
            assert!(finding.to_string().ends_with(&format!("[{}]", finding.id())), "{finding}");
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Torn anywhere in a push, a segment has what was published, whole, and nothing of that push but what is complete.
#[test]
fn torn_at_any_store_everything_in_front_of_it_is_there() {
    let mut torn = 0;
    for golden in golden::all().into_iter().filter(|golden| golden.name.starts_with("torn-")) {
        let image = image::decode(&golden.bytes);
        assert_eq!((image.totals.records, image.totals.lost), (5, 0), "{}", golden.name);
        torn += 1;
    }
    assert!(torn >= 15, "only {torn}");
}

/// What each golden segment must give up: records, exactly how many are lost, and how its end is known.
#[test]
fn losses_are_counted_exactly() {
    for (name, records, lost, basis) in [
        ("clean.ring", 5, 0, Basis::Cursor),
        ("empty.ring", 0, 0, Basis::Cursor),
        ("full.ring", 32, 0, Basis::Cursor),
        // The second lap overwrote 10 of the first 18 records.
        ("wrapped.ring", 18, 0, Basis::Cursor),
        ("torn-record.ring", 5, 0, Basis::Cursor),
        ("torn-publish.ring", 5, 0, Basis::Cursor),
        ("corrupt-payload.ring", 4, 1, Basis::Cursor),
        ("corrupt-header.ring", 4, 1, Basis::Cursor),
        ("corrupt-last.ring", 4, 1, Basis::Cursor),
        ("corrupt-wrap.ring", 18, 0, Basis::Cursor),
        ("flipped-position.ring", 5, 0, Basis::Checkpoints),
        ("flipped-cursor.ring", 5, 0, Basis::Records),
        ("truncated-page.ring", 0, 5, Basis::Cursor),
        ("truncated-record.ring", 3, 2, Basis::Cursor),
        ("corrupt-released.ring", 16, 1, Basis::Cursor),
        ("gap.ring", 5, 2, Basis::Cursor),
        ("closed.ring", 5, 0, Basis::EndWord),
        ("fenced.ring", 4, 0, Basis::EndWord),
        ("unknown-end.ring", 5, 0, Basis::Cursor),
        ("minor.ring", 5, 0, Basis::Cursor),
        ("major.ring", 0, 0, Basis::Nothing),
        ("zero-data.ring", 0, 32, Basis::Cursor),
        ("second.ring", 1, 0, Basis::Cursor),
    ] {
        let golden = named(name);
        let image = image::decode(&golden.bytes);
        let found = (image.totals.records, image.totals.lost, image.totals.lost_unknown, image.readable.basis);
        assert_eq!(found, (records, lost, false, basis), "{name}");
    }
}

#[test]
fn payloads_come_out_whole() {
    for name in ["clean.ring", "full.ring", "wrapped.ring", "corrupt-payload.ring", "closed.ring"] {
        let golden = named(name);
        for piece in image::decode(&golden.bytes).pieces() {
            if let Piece::Record { sequence, payload, .. } = piece {
                assert_eq!(payload, golden::payload(sequence, payload.len()), "{name}: {sequence}");
            }
        }
    }
}

#[test]
fn unread_counts_from_the_reader_to_the_end() {
    let golden = named("clean.ring");
    let image = image::decode(&golden.bytes);
    assert_eq!([0, 1, 2, 99].map(|slot| image.unread(slot)), [Some(3), Some(0), None, None]);
    let golden = named("fenced.ring");
    assert_eq!(image::decode(&golden.bytes).unread(0), Some(2));
}

/// Where no checkpoint says which number comes at the end, the records in front of it do, if they lead up to it.
#[test]
fn the_number_at_an_end_without_a_checkpoint_is_counted() {
    let mut segment = golden::clean();
    let end = golden::end_word(96, segment.id); // behind the third record; the checkpoints are at 224 and 768
    segment.ended(0x4645_4e43, end, 0x6f70_656e_776f_7264);
    let image = image::decode(&segment.bytes);
    assert_eq!((image.readable.end, image.readable.sequence, image.readable.basis), (96, Some(4), Basis::EndWord));
    assert_eq!(image.unread(0), Some(1));
    segment.flip(8192 + 64 + 16, 0); // the last of them
    let image = image::decode(&segment.bytes);
    assert_eq!((image.readable.sequence, image.unread(0)), (None, None));
    assert_eq!((image.totals.records, image.totals.lost_unknown), (2, true));
}

mod real {
    //! The same segments, made by the real writer and reader.

    use std::os::fd::AsFd;
    use std::sync::Arc;

    use ringward_ring::build::{Place, Prepared, Spec};
    use ringward_ring::identity::{Features, Identity, Owner};
    use ringward_ring::image::{self, Piece};
    use ringward_ring::layout::IDENTITY_LEN;
    use ringward_ring::reader::{Reader, Taken};
    use ringward_ring::segment::{Joining, Segment};
    use ringward_ring::table::{From, ReaderCard, ReaderName};
    use ringward_ring::word::{Checksum, Kind, State};
    use ringward_ring::writer::Writer;

    use crate::golden;

    fn build() -> Option<(Arc<Segment>, tempfile::TempDir)> {
        let (pid, pid_namespace, start) = golden::WHO;
        let spec = Spec {
            capacity: 4096,
            record_limit: golden::RECORD_LIMIT,
            slots: 4,
            checksum: Checksum::FULL,
            schema: 0x5343_4845_4d41,
            beat_interval: 50,
            owner: Owner { pid, pid_namespace, start, boot: golden::BOOT },
            mode: 0o600,
            group: None,
            touch: false,
            no_dump: false,
        };
        if spec.geometry().map_or(0, |geometry| geometry.page) != 4096 {
            return None; // the golden segments have pages of 4096 bytes, this machine has larger ones
        }
        let folder = tempfile::tempdir().expect("a folder");
        let dir = std::fs::File::open(folder.path()).expect("open it");
        let mut prepared = Prepared::build(dir.as_fd(), &spec, golden::RANDOM[0]).expect("build");
        let place = Place {
            channel: golden::CHANNEL,
            generation: 1,
            first_sequence: golden::FIRST,
            predecessor: None,
            created: golden::CREATED,
            lost_places: false,
        };
        prepared.finish(&place, &[], State::OPEN);
        let segment = prepared.link(dir.as_fd(), "00000001.ring").map_err(|(error, _)| error).expect("link");
        Some((Arc::new(segment), folder))
    }

    /// The segment's bytes; whether this machine can do `membarrier` is no part of the format.
    fn bytes(segment: &Segment) -> Vec<u8> {
        let mut bytes = segment.copy().expect("copy");
        let identity = Identity { features: Features(Features::MEMBARRIER), ..*segment.identity() };
        bytes[..IDENTITY_LEN].copy_from_slice(&identity.encode());
        bytes
    }

    fn join(segment: &Arc<Segment>, kind: Kind, name: &str) -> Reader<Arc<Segment>> {
        // One role for each attachment: each reader opens the file again.
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&**segment.file())));
        let again = Segment::from_file(file.expect("open again"), ringward_ring::segment::Access::Reader);
        let (pid, pid_namespace, start) = golden::WHO;
        let card = ReaderCard { kind, name: ReaderName::new(name).expect("a name"), pid, pid_namespace, start };
        match Arc::new(again.expect("attach")).join(&card, From::Latest).expect("join") {
            Joining::Reader(reader) => reader,
            other => panic!("{other:?}"),
        }
    }

    fn take(reader: &mut Reader<Arc<Segment>>, count: usize) {
        let mut buf = [0; 1024];
        for _ in 0..count {
            assert!(matches!(reader.try_recv(&mut buf), Ok(Taken::Record { .. })));
        }
        reader.release();
    }

    fn push(writer: &mut Writer<Arc<Segment>>, record_type: u32, len: usize) {
        let payload = golden::payload(writer.published().sequence, len);
        writer.try_push(record_type, &payload).expect("push");
    }

    #[track_caller]
    fn same(segment: &Segment, golden: &golden::Segment) {
        let mut made = bytes(segment);
        // How often a bell rang is no part of the format, only that it is never 0.
        for at in [640, 4096 + 128] {
            assert_ne!(made[at..at + 4], [0; 4], "the bell at {at}");
            made[at..at + 4].copy_from_slice(&golden.bytes[at..at + 4]);
        }
        let differs = made.iter().zip(&golden.bytes).position(|(a, b)| a != b);
        assert_eq!((made.len(), differs), (golden.bytes.len(), None), "first differing byte");
    }

    #[test]
    fn clean_and_closed() {
        let Some((segment, _folder)) = build() else { return };
        let mut writer = Writer::new(Arc::clone(&segment));
        let mut audit = join(&segment, Kind::DURABLE, "audit");
        let mut tail = join(&segment, Kind::EPHEMERAL, "tail");
        for (record_type, len) in golden::CLEAN {
            push(&mut writer, record_type, len);
        }
        take(&mut audit, 2);
        take(&mut tail, 5);
        same(&segment, &golden::clean());
        writer.close().expect("close");
        same(&segment, &golden::closed());
    }

    #[test]
    fn full() {
        let Some((segment, _folder)) = build() else { return };
        let mut writer = Writer::new(Arc::clone(&segment));
        let _audit = join(&segment, Kind::DURABLE, "audit");
        for i in 0..32 {
            push(&mut writer, i, 104);
        }
        assert!(writer.try_push(0, &[]).is_err());
        same(&segment, &golden::full());
    }

    #[test]
    fn wrapped() {
        let Some((segment, _folder)) = build() else { return };
        let mut writer = Writer::new(Arc::clone(&segment));
        let mut audit = join(&segment, Kind::DURABLE, "audit");
        for i in 0..18 {
            push(&mut writer, i, 200);
        }
        take(&mut audit, 18);
        for i in 18..28 {
            push(&mut writer, i, 200);
        }
        same(&segment, &golden::wrapped());
    }

    /// Thousands of random steps of a real writer and three real readers: whatever they do, in good order there is never
    /// damage, and every count is exact. Aborted reservations and dropped batches scribble over what was released.
    #[test]
    fn good_order_is_never_damage() {
        let Some((segment, _folder)) = build() else { return };
        let mut writer = Writer::new(Arc::clone(&segment));
        let mut readers = [
            join(&segment, Kind::DURABLE, "audit"),
            join(&segment, Kind::DURABLE, "bill"),
            join(&segment, Kind::EPHEMERAL, "tail"),
        ];
        let mut released = [golden::FIRST; 3];
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) % n
        };
        let mut laps = 0;
        for _ in 0..6000 {
            match below(8) {
                0..=3 => {
                    let len = below(300) as usize;
                    let payload = golden::payload(writer.published().sequence, len);
                    let _ = writer.try_push(len as u32, &payload);
                }
                4 => {
                    // Abandoned half-way.
                    if let Ok(mut reservation) = writer.reserve(9, 200) {
                        reservation.fill(&[0xee; 100]).expect("fill");
                    }
                }
                5 => {
                    // Dropped unpublished.
                    let mut batch = writer.batch();
                    let _ = batch.push(9, &[0xdd; 90]).and_then(|_| batch.push(9, &[0xcc; 900]));
                }
                _ => {
                    let which = below(3) as usize;
                    for _ in 0..below(12) {
                        let mut buf = [0; 1024];
                        match readers[which].try_recv(&mut buf).expect("receive") {
                            Taken::Record { sequence, .. } => released[which] = sequence + 1,
                            other => assert_eq!(other, Taken::Empty),
                        }
                    }
                    readers[which].release();
                }
            }
            let bytes = segment.copy().expect("copy");
            let image = image::decode(&bytes);
            let text: Vec<_> = image.findings.iter().map(ToString::to_string).collect();
            assert!(!image.damaged(), "{text:#?}");
            let next = writer.published().sequence;
            assert_eq!((image.readable.end, image.readable.sequence), (writer.published().position, Some(next)));
            for (slot, released) in released.iter().enumerate() {
                assert_eq!(image.unread(slot), Some(next - released));
            }
            // Everything that somebody still needs is there.
            let needed = next - released.iter().min().expect("three readers");
            let there: Vec<u64> = image
                .pieces()
                .filter_map(|piece| match piece {
                    Piece::Record { sequence, payload, .. } => {
                        assert_eq!(payload, golden::payload(sequence, payload.len()));
                        Some(sequence)
                    }
                    _ => None,
                })
                .collect();
            assert!(there.len() as u64 >= needed);
            assert!(there.iter().rev().take(needed as usize).copied().eq((next - needed..next).rev()));
            laps = writer.published().position / 4096;
        }
        assert!(laps > 50, "only {laps} laps: nothing was tried");
    }
}
