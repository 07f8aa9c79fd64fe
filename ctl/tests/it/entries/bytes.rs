//! What a look at a segment's bytes finds: golden segments and damage made for the purpose, as the newest generation of a channel, and
//! stores into the memory of a living writer.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use ringward_recovery::{Channel, Config, Durability, Event, From, Reader, Writer};
use ringward_ring::checksum::crc32c;
use ringward_ring::cursor::{Mark, check};
use ringward_ring::word::EndWord;

use super::common::{behind, prints, retried, skip};
use super::{Entry, entry, live, rest, says, shows, stop, writer};
use crate::bed::{Bed, frames, lines};

const LONG: Duration = Duration::from_secs(60);
/// Offsets of docs/FORMAT.md, for segments with pages of 4096 bytes.
const STATE: u64 = 256;
const END: u64 = 264;
const SUCCESSOR: u64 = 272;
const EXPELLED: u64 = 280;
const CURSOR: u64 = 384;
const LIMIT: u64 = 440;
const BELL: u64 = 640;
const SLOT: u64 = 4352;
const SLOT_CURSOR: u64 = SLOT + 8;
const SLOT_NAME: u64 = SLOT + 64;
const SLOT_TAKEN: u64 = SLOT + 112;

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures");
    std::fs::read(folder.join(format!("{name}.ring"))).unwrap()
}

/// A golden segment with other bytes in it; its identity is signed again.
fn patched(name: &str, patches: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = golden(name);
    for (at, patch) in patches {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + patch.len()].copy_from_slice(patch);
    }
    let crc = crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A channel of which the newest generation has these bytes, and whose writer is dead.
fn place(bed: &Bed, bytes: &[u8]) {
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    std::fs::write(bed.segment(1), bytes).unwrap();
}

/// The entry, and the one that has what it does not say itself.
fn both(id: &'static str) -> (Entry, Entry) {
    let entry = entry(id);
    let whole = if entry.text.contains("**The rest:**") { rest(&entry) } else { super::entry(id) };
    (entry, whole)
}

/// Runs `check` of the channel; what it prints.
fn checked(bed: &Bed, code: i32) -> String {
    String::from_utf8(bed.run(&["check", "c"], b"").code(code).stdout).unwrap()
}

/// The findings of one generation's file, without regard to the other ones.
fn sound(bed: &Bed, generation: u64) {
    let ended = bed.run(&["check", bed.segment(generation).to_str().unwrap()], b"").code(0);
    shows(&String::from_utf8(ended.stdout).unwrap(), &["nothing remarkable"]);
}

/// Numbers of what the durable reader of the golden segments gets, up to the record with the payload `on`.
fn received(bed: &Bed, name: &str) -> (Vec<u64>, Vec<serde_json::Value>) {
    let recv =
        bed.start(&["recv", "c", "--durable", "--name", name, "--framed", "--events", "json", "--timeout", "60s"]);
    bed.run(&["send", "c", "--readers", "1"], b"end\n").code(0);
    let ended = recv.end();
    let (got, torn) = frames(&ended.stdout);
    assert_eq!(torn, 0);
    (got.iter().map(|frame| frame.sequence).collect(), ended.notes("gap"))
}

#[test]
fn what_a_crash_in_good_order_leaves_is_a_note_and_the_next_writer_deals_with_it() {
    // What its reader gets of the dead one's generation: 3, 4 and 5 were published; a torn push is delivered whole.
    for (id, file, state, delivered) in [
        ("RW-IMG-TORN", "torn-publish", "open", 3..7),
        ("RW-IMG-STAGED", "torn-record", "open", 3..6),
        ("RW-IMG-CHECKPOINT", "torn-checkpoint", "open", 3..6),
        ("RW-IMG-UNDECIDED", "fencing", "fencing", 3..6),
        ("RW-IMG-MINOR", "minor", "open", 3..6),
    ] {
        let (bed, (_, whole)) = (Bed::new(), both(id));
        place(&bed, &golden(file));
        shows(&checked(&bed, 6), &["note: ", &format!("[{id}]")]);
        let found = whole.run(&bed, "ringward inspect CHANNEL");
        shows(&found, &[&format!("generation 1: {state}"), "process 1234"]);
        let next = writer(&bed, &["--no-close"]);
        live(&bed, &whole.run(&bed, "ringward ls"), &next);
        next.end().code(0);
        let (numbers, gaps) = received(&bed, "audit");
        let expected: Vec<u64> = delivered.clone().chain([delivered.end]).collect();
        assert_eq!((numbers, gaps), (expected, vec![]), "{id}");
    }
}

#[test]
fn a_record_behind_the_end_was_refused_to_its_writer_and_nobody_sees_it() {
    let (bed, (entry, whole)) = (Bed::new(), both("RW-IMG-FENCED"));
    let mut old = writer(&bed, &[]);
    old.feed(b"early\n");
    bed.until_next(1);
    bed.absent("d", From::Oldest);
    stop(&bed, &old);
    bed.run(&["supersede", "c", "--yes"], b"").code(0);
    old.signal(Signal::SIGCONT);
    old.feed(b"late\n");
    old.wait().code(1).says("[RW-PUSH-FENCED]");
    shows(&checked(&bed, 6), &["note: ", "[RW-IMG-FENCED]", "generation 1, succeeded"]);
    says(&entry, &["no reader sees them"]);
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["generation 1: succeeded", "generation 2: open"]);
    let next = writer(&bed, &["--no-close"]);
    live(&bed, &whole.run(&bed, "ringward ls"), &next);
    next.end().code(0);
    assert_eq!(received(&bed, "d"), (vec![0, 1], vec![]));
}

/// A ring in which every border has the header of a record that is not sound, each with the longest payload: forged to be slow.
fn forged_to_be_slow() -> Vec<u8> {
    let (capacity, slots) = (1u64 << 22, 4u32);
    let most = u32::try_from(capacity / 2 - 24).unwrap();
    let mut bytes = patched("empty", &[(24, &capacity.to_le_bytes()), (32, &most.to_le_bytes())]);
    assert_eq!(bytes[20..24], slots.to_le_bytes());
    bytes.resize(8192 + usize::try_from(capacity).unwrap(), 0);
    let first = u64::from_le_bytes(bytes[80..88].try_into().unwrap());
    let end = Mark { position: capacity, sequence: first + capacity / 32 };
    cursor(&mut bytes, CURSOR, end);
    bytes[440..448].copy_from_slice(&capacity.to_le_bytes());
    for position in (0..capacity).step_by(32) {
        let len = u64::from(most).min((capacity - position).saturating_sub(24));
        let words = [len | 0x4441_5441 << 32, 0, first + position / 32];
        for (at, word) in words.into_iter().enumerate() {
            let at = 8192 + usize::try_from(position).unwrap() + at * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// A mark that checks, as position and first checkpoint.
fn words(mark: Mark, segment: ringward_ring::word::SegmentId) -> Vec<u8> {
    [mark.position, mark.position, mark.sequence, check(mark, segment)]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

fn cursor(bytes: &mut [u8], at: u64, mark: Mark) {
    let segment = ringward_ring::image::decode(bytes).identity.unwrap().segment;
    let at = usize::try_from(at).unwrap();
    bytes[at..at + 32].copy_from_slice(&words(mark, segment));
}

/// More damaged records than findings are kept.
fn damaged_all_over() -> Vec<u8> {
    let bed = Bed::new();
    let records: Vec<u8> = (0..2000).flat_map(|_| *b"8 bytes!\n").collect();
    bed.run(&["send", "c", "--no-close", "--slots", "4", "--capacity", "64KiB"], &records).code(0);
    let mut bytes = std::fs::read(bed.segment(1)).unwrap();
    for at in (8192..8192 + 2000 * 32).step_by(64) {
        bytes[at + 24] ^= 1;
    }
    bytes
}

/// Closed behind everything that was written.
fn closed_ahead() -> Vec<u8> {
    let mut bytes = golden("closed");
    let segment = ringward_ring::image::decode(&bytes).identity.unwrap().segment;
    bytes[264..272].copy_from_slice(&EndWord::at(1024, segment).0.to_le_bytes());
    bytes
}

/// How many records its reader is told are lost: none, so many, an unknown number.
type Lost = Option<Option<u64>>;

#[test]
fn damage_is_named_with_its_place_and_the_next_writer_and_its_readers_go_on() {
    let word = |value: u64| value.to_le_bytes();
    let (nothing, unknown): (Lost, Lost) = (None, Some(None));
    let jump = 1u64 << 48;
    let succeeded = 0x5355_4343_u32.to_le_bytes();
    // What the reader of the golden segment, or a new one, gets up to the last record, which is sent at the end.
    let table: [(&'static str, Vec<u8>, Vec<u64>, Lost); 16] = [
        ("RW-IMG-CRC", golden("corrupt-payload"), vec![3, 5, 6], Some(Some(1))),
        ("RW-IMG-CRC", golden("corrupt-wrap"), (19..30).collect(), nothing),
        ("RW-IMG-GAP", golden("gap"), vec![8], nothing),
        ("RW-IMG-ZERO", golden("zero-data"), vec![33], Some(Some(32))),
        ("RW-IMG-SIZE", golden("truncated-page"), vec![jump], unknown),
        ("RW-IMG-STATE", golden("flipped-words"), (3..7).collect(), nothing),
        ("RW-IMG-ORDER", patched("clean", &[(STATE, &succeeded)]), (3..7).collect(), nothing),
        ("RW-IMG-END", patched("clean", &[(END, &word(77))]), (3..7).collect(), nothing),
        ("RW-IMG-END-AHEAD", closed_ahead(), vec![3, 4, 5, jump + 1], unknown),
        ("RW-IMG-SUCCESSOR", patched("clean", &[(SUCCESSOR, &word(77))]), (3..7).collect(), nothing),
        ("RW-IMG-EXPELLED", patched("clean", &[(EXPELLED, &word(1 << 40))]), (3..7).collect(), nothing),
        ("RW-IMG-POSITION", golden("flipped-position"), (3..7).collect(), nothing),
        ("RW-IMG-CURSOR", golden("flipped-cursor"), vec![jump + 1], unknown),
        ("RW-IMG-SLOT-AHEAD", golden("slot-ahead"), (1..7).collect(), nothing),
        ("RW-IMG-BUDGET", forged_to_be_slow(), vec![(1 << 17) + 1], nothing),
        ("RW-IMG-MORE", damaged_all_over(), vec![2000], nothing),
    ];
    for (id, bytes, numbers, lost) in table {
        let (bed, (_, whole)) = (Bed::new(), both(id));
        place(&bed, &bytes);
        // First a copy, which is as good as the channel.
        let copy = bed.root().join("kept.ring");
        std::fs::copy(bed.segment(1), &copy).unwrap();
        let of_copy = bed.run(&["check", copy.to_str().unwrap()], b"").code(5);
        shows(&String::from_utf8(of_copy.stdout).unwrap(), &[&format!("[{id}]")]);
        let found = String::from_utf8(whole.ended(&bed, "ringward check CHANNEL", &[], b"").code(5).stdout).unwrap();
        shows(&found, &["damage: ", &format!("[{id}]")]);
        let document = bed.run(&["check", "c", "--json"], b"").code(5).stdout;
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let findings = document["segments"][0]["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["id"] == id).unwrap();
        assert!(finding["offset"].is_u64(), "each names the place: {finding}");
        if lost == Some(Some(1)) {
            // The bytes are shown where the finding says that they are: the fourth record, one lost.
            shows(&found, &["128 bytes at position 96 hold no sound record", "exactly 1 lost"]);
            let dump = whole.run_with(&bed, "ringward dump CHANNEL --at POSITION", &[("POSITION", "96")]);
            shows(&dump, &["lost", "00002060"]);
        }
        whole.run(&bed, "ringward inspect CHANNEL");
        let next = writer(&bed, &["--no-close"]);
        live(&bed, &whole.run(&bed, "ringward inspect CHANNEL"), &next);
        assert_eq!(bed.view()["generation"], 2, "{id}");
        sound(&bed, 2);
        next.end().code(0);
        let (got, gaps) = received(&bed, "audit");
        let told: Lost = gaps.first().map(|gap| gap["count"].as_u64());
        assert_eq!((got, told, gaps.len()), (numbers, lost, usize::from(lost.is_some())), "{id}");
    }
}

#[test]
fn a_segment_of_the_other_byte_order_is_not_followed_and_not_touched() {
    let (bed, (_, whole)) = (Bed::new(), both("RW-IMG-ENDIAN"));
    place(&bed, &golden("big-endian"));
    shows(&checked(&bed, 5), &["damage: ", "[RW-SEG-MAJOR]", "[RW-IMG-ENDIAN]"]);
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["incompatible", "[RW-SEG-MAJOR]"]);
    bed.run(&["send", "c"], b"x\n").code(1).says("[RW-SEG-MAJOR]");
    bed.run(&["clean", "--yes"], b"").code(0);
    assert_eq!(std::fs::read(bed.segment(1)).unwrap(), golden("big-endian"));
    bed.run(&["send", "c-2", "--no-close"], b"x\n").code(0);
    shows(&whole.run(&bed, "ringward ls"), &["c-2 "]);
}

#[test]
fn two_places_of_one_name_are_told_and_one_is_forgotten() {
    let (bed, (entry, whole)) = (Bed::new(), both("RW-IMG-NAME"));
    place(&bed, &golden("slot-twice"));
    let found = String::from_utf8(whole.ended(&bed, "ringward check CHANNEL", &[], b"").code(5).stdout).unwrap();
    shows(&found, &["slot 2: same reader name as slot 0", "[RW-IMG-NAME]"]);
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["audit (durable): nobody holds its byte; slot 2"]);
    // Its reader gets what is there, and then the name is given up, in both.
    bed.run(&["send", "c", "--no-close"], b"on\n").code(0);
    let reads = ["recv", "c", "--durable", "--name", "audit", "--count", "1", "--timeout", "60s"];
    assert_eq!(bed.run(&reads, b"").code(0).stdout, b"on");
    entry.run_with(&bed, "ringward forget CHANNEL NAME --yes", &[("NAME", "audit")]);
    assert_eq!(bed.view()["readers"].as_array().map(Vec::len), Some(0));
    sound(&bed, 2);
}

#[test]
fn a_reader_behind_what_may_be_overwritten_reports_a_gap() {
    let (bed, (_, whole)) = (Bed::new(), both("RW-IMG-OVERRUN"));
    place(&bed, &golden("overrun"));
    let found = String::from_utf8(whole.ended(&bed, "ringward check CHANNEL", &[], b"").code(5).stdout).unwrap();
    shows(&found, &["[RW-IMG-OVERRUN]"]);
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["audit (durable)"]);
    bed.run(&["send", "c", "--no-close"], b"on\n").code(0);
    let (numbers, gaps) = received(&bed, "audit");
    assert_eq!(gaps.len(), 1, "{gaps:?} {numbers:?}");
    let (from, count) = (gaps[0]["from"].as_u64().unwrap(), gaps[0]["count"].as_u64().unwrap());
    assert_eq!(numbers, (from + count..31).collect::<Vec<_>>());
}

/// What says of the identity that nobody can join: the file is followed, its readers are told. A second look at what is there instead
/// is in the entries.
#[test]
fn an_identity_that_does_not_check_is_named_and_followed() {
    for (id, bytes, verdict) in [
        ("RW-SEG-SHORT", golden("truncated-12"), "truncated"),
        ("RW-SEG-SHORT", Vec::new(), "truncated"),
        ("RW-SEG-SIZE", golden("truncated-page"), "truncated"),
        ("RW-SEG-SIZE", [golden("clean"), vec![7; 100]].concat(), "truncated"),
        ("RW-SEG-MAGIC", golden("foreign"), "corrupt"),
        ("RW-SEG-MAGIC", golden("zero-page"), "corrupt"),
        ("RW-SEG-CRC", golden("flipped-identity"), "corrupt"),
        ("RW-SEG-FIELD", patched("clean", &[(20, &65u32.to_le_bytes())]), "corrupt"),
    ] {
        let (bed, (_, whole)) = (Bed::new(), both(id));
        place(&bed, &bytes);
        let found = whole.run(&bed, "ringward inspect CHANNEL");
        shows(&found, &[&format!("verdict: {verdict}"), &format!("[{id}]")]);
        if whole.id == "RW-WD-CORRUPT" {
            let check = whole.ended(&bed, "ringward check CHANNEL", &[], b"").code(5);
            shows(&String::from_utf8(check.stdout).unwrap(), &[&format!("[{id}]")]);
        } else {
            let command = "ls -l /dev/shm/ringward-$(id -u)/CHANNEL";
            let listed = prints(&whole, &bed, command, &[]);
            assert!(listed.contains(&format!(" {} ", bytes.len())), "the length tells: {listed}");
        }
        let next = writer(&bed, &["--no-close"]);
        let verify = whole.run(&bed, "ringward inspect CHANNEL");
        shows(&verify, &["verdict: live", "generation 2: open"]);
        live(&bed, &verify, &next);
        next.end().code(0);
    }
}

#[test]
fn another_layout_is_neither_read_nor_touched_and_a_channel_beside_it_is() {
    for (id, file) in [("RW-SEG-MAJOR", "major"), ("RW-SEG-FEATURES", "feature")] {
        let (bed, (_, whole)) = (Bed::new(), both(id));
        place(&bed, &golden(file));
        bed.run(&["send", "c"], b"x\n").code(1).says(&format!("[{id}]"));
        shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["verdict: incompatible", &format!("[{id}]")]);
        shows(whole.text, &["`ringward --version`"]);
        let version = std::process::Command::new(env!("CARGO_BIN_EXE_ringward")).arg("--version").output().unwrap();
        shows(&String::from_utf8(version.stdout).unwrap(), &[env!("CARGO_PKG_VERSION")]);
        whole.words("ringward clean CHANNEL --yes", &[]);
        bed.run(&["clean", "c", "--yes"], b"");
        assert_eq!(std::fs::read(bed.segment(1)).unwrap(), golden(file), "this build does not clear it");
        let next = bed.start(&["send", "c-2", "--events", "json"]);
        next.note("writing");
        let listed = whole.run(&bed, "ringward ls");
        assert!(listed.lines().any(|line| line.starts_with("c-2 ") && line.contains("live")), "{listed}");
        next.end().code(0);
    }
}

/// Only where memory pages are larger than 4096 bytes can a segment with smaller ones be there.
#[test]
fn a_segment_of_smaller_pages_is_refused_where_they_are_larger() {
    let (bed, (_, whole)) = (Bed::new(), both("RW-SEG-PAGE"));
    place(&bed, &golden("clean"));
    let page = std::process::Command::new("getconf").arg("PAGESIZE").output().unwrap().stdout;
    let page = String::from_utf8(page).unwrap();
    if page.trim() == "4096" {
        whole.run(&bed, "ringward inspect CHANNEL");
        return skip("the memory pages of this machine are the smallest that can be");
    }
    bed.run(&["send", "c"], b"x\n").code(1).says("[RW-SEG-PAGE]");
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["verdict: incompatible", "[RW-SEG-PAGE]"]);
}

#[test]
fn a_file_that_is_none_to_be_trusted_is_not_opened_and_goes_once_one_knows() {
    use std::os::unix::fs::PermissionsExt;
    for what in ["link", "fifo", "mode"] {
        let (bed, (_, whole)) = (Bed::new(), both("RW-SEG-OPEN"));
        bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
        let (planted, mode) = (bed.segment(2), |bits| std::fs::Permissions::from_mode(bits));
        match what {
            "link" => std::os::unix::fs::symlink("/etc/hostname", &planted).unwrap(),
            "fifo" => nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            _ => std::fs::set_permissions(bed.segment(1), mode(0o666)).unwrap(),
        }
        bed.run(&["send", "c"], b"x\n").code(1).says("[RW-SEG-OPEN]");
        shows(&whole.run(&bed, "ringward ls"), &["foreign"]);
        let listed = std::process::Command::new("ls").arg("-la").arg(planted.parent().unwrap()).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(whole.text.contains("`ls -la` in the channel's directory"));
        shows(
            &listed,
            &[match what {
                "link" => "00000002.ring -> ",
                "fifo" => "prwx",
                _ => "-rw-rw-rw-",
            }],
        );
        match what {
            "mode" => std::fs::set_permissions(bed.segment(1), mode(0o600)).unwrap(),
            _ => std::fs::remove_file(&planted).unwrap(),
        }
        let next = writer(&bed, &["--no-close"]);
        let verify = whole.run(&bed, "ringward inspect CHANNEL");
        shows(&verify, &["verdict: live"]);
        assert!(!verify.contains("can't be read"), "{verify}");
        live(&bed, &verify, &next);
        next.end().code(0);
    }
}

#[test]
fn without_memory_nothing_is_concluded_about_the_segment() {
    let (bed, (_, whole)) = (Bed::new(), both("RW-SEG-SYSTEM"));
    bed.run(&["send", "c", "--no-close", "--capacity", "256MiB"], b"x\n").code(0);
    let args = ["recv", "c", "--from", "oldest", "--count", "1", "--name", "n"];
    let refused = behind(&bed, "ulimit -v 200000", &args).end().code(1).says("[RW-SEG-SYSTEM]");
    shows(&refused.stderr, &["cannot attach: mmap: Cannot allocate memory"]);
    says(&whole, &["`ENOMEM` memory", "Raise the limit"]);
    assert_eq!(bed.run(&args, b"").code(0).stdout, b"x");
}

#[test]
fn an_end_that_was_decided_as_unknown_is_told_without_a_count() {
    let (bed, (entry, whole)) = (Bed::new(), both("RW-IMG-UNKNOWN-END"));
    bed.run(&["send", "c", "--no-close"], &lines(0..3)).code(0);
    bed.absent("d", From::Oldest);
    bed.store(CURSOR, &[0xff; 56]);
    bed.run(&["send", "c", "--no-close"], b"on\n").code(0);
    shows(&checked(&bed, 5), &["damage: ", "[RW-IMG-UNKNOWN-END]"]);
    says(&entry, &["nothing in the writer's cursor that checks"]);
    shows(&whole.run(&bed, "ringward inspect CHANNEL"), &["ended, nobody knows where"]);
    let (numbers, gaps) = received(&bed, "d");
    assert!(gaps.len() == 1 && gaps[0]["count"].is_null(), "{gaps:?}");
    assert!(numbers.last() > Some(&(1 << 48)), "{numbers:?}");
}

fn load(bed: &Bed, at: u64) -> u64 {
    let mut word = [0; 8];
    std::fs::File::open(bed.segment(1)).unwrap().read_exact_at(&mut word, at).unwrap();
    u64::from_le_bytes(word)
}

/// A living writer that has sent five records, of which its reader has released two; nothing but pushes looks at its memory.
struct Scene {
    bed: Bed,
    writer: Writer,
    reader: Reader,
}

impl Scene {
    fn new() -> Scene {
        let bed = Bed::new();
        let config = Config::default().capacity(4096).beat_interval(Duration::ZERO);
        let channel = Channel::new(&bed.namespace(), "c", config).unwrap();
        let mut writer = channel.writer().unwrap();
        let reader = channel.reader("d", Durability::Durable, From::Oldest).unwrap();
        for n in 0..5u8 {
            writer.push(0, &[n; 8]).unwrap();
        }
        let mut scene = Scene { bed, writer, reader };
        scene.take(2);
        sound(&scene.bed, 1);
        scene
    }

    fn push(&mut self) {
        self.writer.push(0, b"more").unwrap();
    }

    /// Pushes until somebody slept, and was rung for.
    fn ring(&mut self) {
        let Scene { bed, writer, reader } = self;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    reader.recv(&mut [0; 64], Duration::from_millis(20)).unwrap();
                    reader.release();
                }
            });
            bed.until("it is rung", || {
                writer.push(0, b"more").unwrap();
                load(bed, BELL) & 0xffff_ffff != 0
            });
            over.store(true, Ordering::Relaxed);
        });
    }

    /// Takes records and releases them; what else came.
    fn take(&mut self, mut count: usize) -> Vec<Event> {
        let mut others = Vec::new();
        while count > 0 {
            match self.reader.recv(&mut [0; 64], LONG).unwrap().expect("nothing comes") {
                Event::Record { .. } => count -= 1,
                other => others.push(other),
            }
            self.reader.release();
        }
        others
    }
}

/// What a party of a living channel does about a word that was damaged.
fn mended(id: &'static str, damage: impl FnOnce(&mut Scene), mend: impl FnOnce(&mut Scene)) {
    let (mut scene, (_, whole)) = (Scene::new(), both(id));
    damage(&mut scene);
    let found = whole.ended(&scene.bed, "ringward check CHANNEL", &[], b"").code(5);
    shows(&String::from_utf8(found.stdout).unwrap(), &["damage: ", &format!("[{id}]")]);
    shows(&whole.run(&scene.bed, "ringward inspect CHANNEL"), &["verdict: live", "d (durable)"]);
    mend(&mut scene);
    let after = scene.bed.run(&["check", "c"], b"");
    assert_eq!(after.status.code(), Some(0), "{id}: {}", String::from_utf8_lossy(&after.stdout));
    scene.push();
}

/// The place of a reader that is behind comes along: that is no finding.
#[test]
fn a_succession_with_a_reader_behind_leaves_nothing_remarkable() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], &lines(0..5)).code(0);
    bed.run(&["recv", "c", "--durable", "--name", "d", "--from", "oldest", "--count", "2"], b"").code(0);
    for next in [6, 7] {
        bed.run(&["send", "c", "--no-close"], &lines(next - 1..next)).code(0);
        assert!(!checked(&bed, 0).contains("RW-"));
    }
    assert_eq!(bed.view()["generation"], 3);
}

#[test]
fn what_a_living_writer_and_its_reader_mend_is_gone_from_the_next_copy() {
    let flip = |at: u64| move |scene: &mut Scene| scene.bed.store(at, &(load(&scene.bed, at) ^ 1 << 20).to_le_bytes());
    // By the next push, the next look at the table, the next ring.
    mended("RW-IMG-POSITION", flip(CURSOR), Scene::push);
    mended(
        "RW-IMG-CURSOR",
        |scene| scene.bed.store(CURSOR, &[0xee; 56]),
        |scene| {
            scene.push();
            scene.push();
        },
    );
    mended(
        "RW-IMG-LIMIT",
        |scene| scene.bed.store(LIMIT, &[0xee; 8]),
        |scene| {
            for _ in 0..200 {
                scene.push();
                scene.take(1);
            }
        },
    );
    mended("RW-IMG-BELL", |scene| scene.bed.store(BELL, &[0; 4]), Scene::ring);
    // By its reader: the next release, or by joining again.
    mended("RW-IMG-SLOT-CURSOR", flip(SLOT_CURSOR), |scene| drop(scene.take(1)));
    mended("RW-IMG-TAKEN", |scene| scene.bed.store(SLOT_TAKEN, &99u64.to_le_bytes()), |scene| drop(scene.take(1)));
}

/// Stores into the memory of a living writer.
type Damage<'d> = &'d dyn Fn(&mut Scene);

#[test]
fn a_place_that_was_damaged_is_taken_anew_by_its_reader() {
    let ahead = |scene: &mut Scene| {
        let segment = scene.writer.segment().identity().segment;
        let mut bytes = words(Mark { position: 2048, sequence: 99 }, segment);
        bytes.extend([0; 24]);
        scene.bed.store(SLOT_CURSOR, &bytes);
        scene.bed.store(SLOT_TAKEN, &99u64.to_le_bytes());
    };
    let state = |scene: &mut Scene| scene.bed.store(SLOT, &[0xee; 4]);
    let card = |scene: &mut Scene| scene.bed.store(SLOT_NAME, b"x");
    let cases: [(&'static str, Damage<'_>); 3] =
        [("RW-IMG-SLOT-STATE", &state), ("RW-IMG-SLOT-CARD", &card), ("RW-IMG-SLOT-AHEAD", &ahead)];
    for (id, damage) in cases {
        let (mut scene, (_, whole)) = (Scene::new(), both(id));
        damage(&mut scene);
        let found = whole.ended(&scene.bed, "ringward check CHANNEL", &[], b"").code(5);
        shows(&String::from_utf8(found.stdout).unwrap(), &["damage: ", &format!("[{id}]")]);
        whole.run(&scene.bed, "ringward inspect CHANNEL");
        // It joins again, here by being opened anew.
        let Scene { bed, mut writer, reader } = scene;
        drop(reader);
        let channel = Channel::new(&bed.namespace(), "c", Config::default()).unwrap();
        let mut reader = retried(&bed, || channel.reader("d", Durability::Durable, From::Oldest));
        let number = writer.push(0, b"more").unwrap();
        let last = loop {
            match reader.recv(&mut [0; 64], LONG).unwrap().expect("nothing comes") {
                Event::Record { sequence, .. } if sequence == number => break sequence,
                _ => reader.release(),
            }
        };
        reader.release();
        assert_eq!(last, 5);
        // What is still to be seen there does not come along.
        drop(writer);
        drop(retried(&bed, || channel.writer()));
        sound(&bed, 2);
    }
}
