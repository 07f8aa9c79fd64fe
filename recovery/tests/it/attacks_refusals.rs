//! Refusals, in tables: what is attached, named, configured and built wrongly is answered by a typed error with the numbers.

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::Duration;

use ringward_recovery::{Channel, Config, Durability, From, Namespace, NamespaceError, Verdict, Watchdog};
use ringward_ring::checksum::crc32c;
use ringward_ring::layout::IDENTITY_LEN;
use ringward_ring::segment::{Access, Segment};
use rstest::rstest;
use rustix::fd::AsFd;
use rustix::fs::Mode;

use crate::attacks::{Alarm, SHORT, push_text, skip, take, text};
use crate::common::{Bed, config, durable};

/// Changes bytes of generation 1's identity; with a checksum that is right again, or not.
fn patch(bed: &Bed, at: u64, bytes: &[u8], sign: bool) {
    let file = bed.file(1);
    file.write_all_at(bytes, at).unwrap();
    if sign {
        let mut block = [0; IDENTITY_LEN];
        file.read_exact_at(&mut block, 0).unwrap();
        let crc = crc32c(&block[..IDENTITY_LEN - 4]);
        file.write_all_at(&crc.to_le_bytes(), IDENTITY_LEN as u64 - 4).unwrap();
    }
}

fn replace(bed: &Bed, with: impl FnOnce(&std::path::Path)) {
    let path = bed.path(1);
    std::fs::rename(&path, bed.root().join("aside")).unwrap();
    with(&path);
}

fn spoil(bed: &Bed, how: &str) -> bool {
    match how {
        "magic" => patch(bed, 0, b"NOTARING", false),
        "newer major" => patch(bed, 8, &2u16.to_le_bytes(), true),
        "bad crc" => patch(bed, 48, &[1], false),
        "needs a feature" => patch(bed, 40, &(1u64 << 40).to_le_bytes(), true),
        "short" => bed.file(1).set_len(100).unwrap(),
        "empty" => bed.file(1).set_len(0).unwrap(),
        "cut" => bed.file(1).set_len(16383).unwrap(),
        "grown" => bed.file(1).set_len(16385).unwrap(),
        "sizes don't add up" => patch(bed, 24, &8192u64.to_le_bytes(), true),
        "capacity no power of two" => patch(bed, 24, &5000u64.to_le_bytes(), true),
        "record limit over capacity" => patch(bed, 32, &4000u32.to_le_bytes(), true),
        "no slots" => patch(bed, 20, &0u32.to_le_bytes(), true),
        "too many slots" => patch(bed, 20, &65u32.to_le_bytes(), true),
        "odd page" => patch(bed, 16, &4097u32.to_le_bytes(), true),
        "unknown checksum" => patch(bed, 36, &[0; 4], true),
        "generation 0" => patch(bed, 64, &[0; 8], true),
        "bad id" => patch(bed, 72, &[9; 8], true),
        "wide mode" => {
            std::fs::set_permissions(bed.path(1), std::fs::Permissions::from_mode(0o666)).unwrap();
        }
        "foreign owner" => {
            if std::os::unix::fs::chown(bed.path(1), Some(12345), None).is_err() {
                return false;
            }
        }
        "symlink" => replace(bed, |path| symlink(bed.root().join("aside"), path).unwrap()),
        "directory" => replace(bed, |path| std::fs::create_dir(path).unwrap()),
        "fifo" => replace(bed, |path| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
        other => panic!("{other}"),
    }
    true
}

#[rstest]
#[case("magic", "RW-SEG-MAGIC", Verdict::Corrupt)]
#[case("newer major", "RW-SEG-MAJOR", Verdict::Incompatible)]
#[case("bad crc", "RW-SEG-CRC", Verdict::Corrupt)]
#[case("needs a feature", "RW-SEG-FEATURES", Verdict::Incompatible)]
#[case("short", "RW-SEG-SHORT", Verdict::Truncated)]
#[case("empty", "RW-SEG-SHORT", Verdict::Truncated)]
#[case("cut", "RW-SEG-SIZE", Verdict::Truncated)]
#[case("grown", "RW-SEG-SIZE", Verdict::Truncated)]
#[case("sizes don't add up", "RW-SEG-", Verdict::Truncated)]
#[case("capacity no power of two", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("record limit over capacity", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("no slots", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("too many slots", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("odd page", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("unknown checksum", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("generation 0", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("bad id", "RW-SEG-FIELD", Verdict::Corrupt)]
#[case("wide mode", "permission bits 0o666", Verdict::Foreign)]
#[case("foreign owner", "owned by uid 12345", Verdict::Foreign)]
#[case("symlink", "symbolic link", Verdict::Foreign)]
#[case("directory", "Directory", Verdict::Foreign)]
#[case("fifo", "Fifo", Verdict::Foreign)]
fn what_is_no_segment_of_ours_is_not_attached(#[case] how: &str, #[case] says: &str, #[case] concluded: Verdict) {
    let _alarm = Alarm::new();
    for alive in [false, true] {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let writer = channel.writer().unwrap();
        if !spoil(&bed, how) {
            return skip("only root gives files away");
        }
        let writer = alive.then_some(writer);
        for access in [Access::Reader, Access::Successor, Access::Inspect] {
            let error = Segment::attach(bed.dir().as_fd(), "00000001.ring", access, bed.namespace.trust()).unwrap_err();
            assert!(error.to_string().contains(says), "{how}, {access:?}: {error}");
        }
        let error = channel.reader("r", Durability::Ephemeral, From::Latest).unwrap_err();
        assert!(error.to_string().contains(says), "{how}: {error}");
        let seen = channel.inspect().unwrap();
        assert!(seen[0].seen.as_ref().unwrap_err().contains(says), "{how}: {seen:?}");
        let report = Watchdog::builder(&bed.namespace).build().tick();
        assert_eq!(report.notices[0].verdict, concluded, "{how}: {report:?}");
        // A starter says so, or (what is damaged and nobody's) goes on behind it; it never hangs, and never opens what it should not.
        match channel.writer() {
            Ok(next) => {
                assert!(!alive, "{how}");
                assert!(matches!(concluded, Verdict::Corrupt | Verdict::Truncated), "{how}");
                assert_eq!(next.generation(), 2);
            }
            Err(error) => assert!(error.to_string().contains(says), "{how}: {error}"),
        }
        drop(writer);
    }
}

/// What a newer minor adds is ignored; the rest is read as ever.
#[test]
fn a_newer_minor_is_read() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    patch(&bed, 10, &7u16.to_le_bytes(), true);
    patch(&bed, 160, b"something new", true);
    patch(&bed, 44, &[0x80, 0, 0, 0], false); // a feature that may be ignored …
    patch(&bed, 44, &[0; 4], true); // … once its upper half is clear
    patch(&bed, 40, &0x8000_0001u64.to_le_bytes(), true);
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    drop(writer);
    assert_eq!(channel.inspect().unwrap()[0].seen.as_ref().unwrap().identity.minor, 7);
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 2..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
}

#[rstest]
fn names_that_can_not_be_are_refused(
    #[values("", ".", "..", ".hidden", "a/b", "/", "a b", "ü", "a\0b", "-dash", "a\n")] name: &str,
) {
    let bed = Bed::new();
    let error = Channel::new(&bed.namespace, name, config()).unwrap_err();
    assert!(error.to_string().contains("RW-NAME") && error.to_string().contains(&format!("{name:?}")), "{error}");
    let error = Namespace::builder(name).root(bed.root()).open().unwrap_err();
    assert!(matches!(error, NamespaceError::Name(_)), "{error}");
    let reader = bed.channel(config()).reader(name, Durability::Durable, From::Latest);
    // Readers are not files: a dot in front is no harm there; the channel is not there either.
    match name {
        "." | ".." | ".hidden" | "-dash" => assert!(reader.unwrap_err().to_string().contains("RW-OPEN-MISSING")),
        _ => assert!(reader.unwrap_err().to_string().contains("RW-OPEN-READERNAME")),
    }
}

#[test]
fn names_have_a_longest() {
    let bed = Bed::new();
    Channel::new(&bed.namespace, &"x".repeat(100), config()).unwrap();
    Channel::new(&bed.namespace, &"x".repeat(101), config()).unwrap_err();
    let channel = bed.channel(config());
    let _writer = channel.writer().unwrap();
    channel.reader(&"x".repeat(31), Durability::Durable, From::Latest).unwrap();
    channel.reader(&"x".repeat(32), Durability::Durable, From::Latest).unwrap_err();
}

#[rstest]
#[case(Config::default().beat_interval(Duration::from_millis(100)).stall_timeout(Duration::from_millis(199)), "RW-CFG-STALL", &["199ms", "100ms"])]
#[case(Config::default().beat_interval(Duration::from_secs(5)).stall_timeout(Duration::ZERO), "RW-CFG-STALL", &["0ns", "5s"])]
#[case(Config::default().beat_interval(Duration::from_micros(10)), "RW-CFG-BEAT", &["10µs"])]
#[case(Config::default().beat_interval(Duration::from_secs(7200)), "RW-CFG-BEAT", &["7200s"])]
#[case(Config::default().chain_limit(1), "RW-CFG-CHAIN", &["1", "2"])]
#[case(Config::default().chain_limit(0), "RW-CFG-CHAIN", &["0", "2"])]
fn a_configuration_that_contradicts_itself_is_refused_with_its_numbers(
    #[case] config: Config,
    #[case] id: &str,
    #[case] numbers: &[&str],
) {
    let bed = Bed::new();
    let error = Channel::new(&bed.namespace, "c", config).unwrap_err().to_string();
    assert!(error.contains(id) && numbers.iter().all(|number| error.contains(number)), "{error}");
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

#[test]
fn settings_on_the_border_are_accepted() {
    let bed = Bed::new();
    for config in [
        config().beat_interval(Duration::from_millis(100)).stall_timeout(Duration::from_millis(200)),
        config().beat_interval(Duration::ZERO).stall_timeout(Duration::ZERO),
        config().chain_limit(2),
        config().reader_slots(1),
        config().reader_slots(64),
        config().record_limit(0),
        config().record_limit(2024),
    ] {
        let channel = bed.channel(config);
        drop(channel.writer().unwrap());
    }
}

#[rstest]
#[case(config().capacity(5000), "RW-BUILD-CAPACITY", &["5000", "8192"])]
#[case(config().capacity(0), "RW-BUILD-CAPACITY", &["0", "4096"])]
#[case(config().capacity(2048), "RW-BUILD-CAPACITY", &["2048", "4096"])]
#[case(config().capacity(1 << 40), "RW-BUILD-CAPACITY", &["1099511627776", "68719476736"])]
#[case(config().capacity(u64::MAX), "RW-BUILD-CAPACITY", &["18446744073709551615", "68719476736"])]
#[case(config().record_limit(2025), "RW-BUILD-LIMIT", &["2025", "2024", "4096"])]
#[case(config().record_limit(u32::MAX), "RW-BUILD-LIMIT", &["4294967295", "2024", "4096"])]
#[case(config().reader_slots(0), "RW-BUILD-SLOTS", &["0", "64"])]
#[case(config().reader_slots(65), "RW-BUILD-SLOTS", &["65", "64"])]
fn what_can_not_be_built_is_refused_with_its_numbers(
    #[case] config: Config,
    #[case] id: &str,
    #[case] numbers: &[&str],
) {
    let bed = Bed::new();
    let channel = bed.channel(config);
    let error = channel.writer().unwrap_err().to_string();
    assert!(error.contains(id) && numbers.iter().all(|number| error.contains(number)), "{error}");
    assert_eq!(bed.entries(), [] as [&str; 0], "nothing left behind");
    let error = channel.standby(ringward_recovery::Warmth::Hot).unwrap().wait(SHORT).unwrap_err().to_string();
    assert!(error.contains(id), "{error}");
    assert_eq!(bed.entries(), [] as [&str; 0], "nothing left behind");
}

#[test]
fn a_namespace_that_is_not_ours_alone_is_refused() {
    let bed = Bed::new();
    let root = bed.root();
    let open = |name: &str| Namespace::builder(name).root(&root).open();
    std::fs::write(root.join("file"), b"").unwrap();
    assert!(matches!(open("file"), Err(NamespaceError::NotDirectory { .. })));
    symlink(bed.namespace.path(), root.join("link")).unwrap();
    assert!(matches!(open("link"), Err(NamespaceError::NotDirectory { .. })));
    std::fs::create_dir(root.join("wide")).unwrap();
    std::fs::set_permissions(root.join("wide"), std::fs::Permissions::from_mode(0o777)).unwrap();
    match open("wide").unwrap_err() {
        NamespaceError::TooWide { found: 0o777, allowed: 0o700, .. } => {}
        other => panic!("{other}"),
    }
    assert!(matches!(Namespace::builder("none").root(&root).create(false).open(), Err(NamespaceError::Missing { .. })));
    std::fs::create_dir(root.join("theirs")).unwrap();
    std::fs::set_permissions(root.join("theirs"), std::fs::Permissions::from_mode(0o700)).unwrap();
    if std::os::unix::fs::chown(root.join("theirs"), Some(12345), None).is_err() {
        return skip("only root gives directories away");
    }
    match open("theirs").unwrap_err() {
        NamespaceError::Owner { found: 12345, .. } => {}
        other => panic!("{other}"),
    }
}

/// Something else has the channel's name.
#[test]
fn a_squatted_channel_name_is_an_error_that_says_so() {
    let bed = Bed::new();
    let path = bed.namespace.path().join("c");
    let channel = bed.channel(config());
    std::fs::write(&path, b"").unwrap();
    assert!(channel.writer().unwrap_err().to_string().contains("RW-OPEN-SQUAT"));
    std::fs::remove_file(&path).unwrap();
    symlink("/etc", &path).unwrap();
    assert!(channel.writer().unwrap_err().to_string().contains("RW-OPEN-SQUAT"));
    assert!(channel.standby(ringward_recovery::Warmth::Cold).unwrap().wait(SHORT).is_err());
}
