//! Names, namespaces, configurations and births that can't be.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::common::{LIMIT, Small, behind, prints, root, skip};
use super::{Entry, entry, live, rest, says, shows, writer};
use crate::bed::{Bed, Ended};

/// The user that everybody is who is nobody.
const NOBODY: u32 = 65534;

fn mode(bed: &Bed, name: &str, mode: u32) {
    std::fs::set_permissions(bed.root().join(name), Permissions::from_mode(mode)).unwrap();
}

/// Runs `ringward` as nobody.
fn as_nobody(bed: &Bed, args: &[&str], stdin: &[u8]) -> Ended {
    let mut command = bed.command(args);
    command.uid(NOBODY).gid(NOBODY);
    let mut tool = bed.spawn(command);
    tool.feed(stdin);
    tool.end()
}

fn limited(bed: &Bed, words: &str, args: &[&str]) -> Ended {
    behind(bed, words, args).end()
}

fn ls(entry: &Entry, bed: &Bed) -> String {
    entry.run(bed, "ringward ls")
}

#[test]
fn a_name_that_cannot_be_is_in_the_message_and_another_one_opens() {
    let (bed, entry) = (Bed::new(), entry("RW-NAME"));
    says(&entry, &["1 to 100 of `A-Z a-z 0-9 . _ -`", "the message has the name", "a variable that is empty"]);
    let long = "x".repeat(101);
    for name in ["../c", "a/b", "", ".c", "c c", &long] {
        bed.run(&["send", name], b"x\n").code(2).says("[RW-NAME]").says(&format!("channel name {name:?}"));
    }
    assert!(!bed.root().join("test").exists() || std::fs::read_dir(bed.root().join("test")).unwrap().next().is_none());
    bed.run(&["send", &"x".repeat(100)], b"x\n").code(0);
    bed.run(&["send", "_C.0-c"], b"x\n").code(0);
}

#[test]
fn a_namespace_that_is_not_there_comes_with_its_first_writer() {
    let (bed, entry) = (Bed::new(), entry("RW-NS-MISSING"));
    bed.run(&["ls"], b"").code(1).says("[RW-NS-MISSING]");
    bed.run(&["inspect", "c"], b"").code(1).says("[RW-NS-MISSING]");
    assert!(!bed.root().join("test").exists(), "this command does not make one");
    // By hand it would have the umask's mode, which is refused if it is wide.
    says(&entry, &["make it with `mkdir`", "[RW-NS-MODE]"]);
    std::fs::create_dir(bed.root().join("test")).unwrap();
    mode(&bed, "test", 0o755);
    bed.run(&["ls"], b"").code(1).says("[RW-NS-MODE]");
    std::fs::remove_dir(bed.root().join("test")).unwrap();
    let rest = rest(&entry);
    let waits = rest.start(&bed, "ringward recv CHANNEL", &[]);
    waits.note("waiting");
    let first = writer(&bed, &[]);
    waits.note("joined");
    live(&bed, &ls(&rest, &bed), &first);
    first.end().code(0);
    waits.end().code(0);
}

/// /proc stands in for a network file system: neither is on the list of those that are believed.
#[test]
fn a_root_on_a_file_system_that_is_not_relied_on_is_refused() {
    let (bed, entry) = (Bed::new(), entry("RW-NS-FS"));
    bed.run(&["send", "c", "--root", "/proc"], b"x\n")
        .code(1)
        .says("[RW-NS-FS]")
        .says("/proc is on a file system of kind");
    assert_eq!(prints(&entry, &bed, "stat -f -c %T ROOT", &[("ROOT", "/proc")]), "proc\n");
    // The variable wins wherever --root is not said, and `doctor` says what it is there.
    let mut command = bed.command(&["ls"]);
    command.env("RINGWARD_ROOT", "/proc");
    bed.spawn(command).end().code(1).says("[RW-NS-FS]");
    entry.words("ringward doctor", &[]);
    let doctor = bed.run(&["doctor", "--root", "/proc"], b"").code(5);
    shows(&String::from_utf8(doctor.stdout).unwrap(), &["file-system", "RW-NS-FS"]);
    bed.run(&["send", "c"], b"x\n").code(0);
    shows(&ls(&entry, &bed), &["\nc "]);
}

#[test]
fn a_namespace_whose_name_is_taken_is_not_followed_and_works_once_it_is_removed() {
    for link in [false, true] {
        let (bed, entry) = (Bed::new(), entry("RW-NS-SQUAT"));
        let (path, trap) = (bed.root().join("test"), bed.root().join("trap"));
        std::fs::create_dir(&trap).unwrap();
        if link {
            symlink(&trap, &path).unwrap()
        } else {
            std::fs::write(&path, b"somebody's").unwrap()
        }
        bed.run(&["send", "c"], b"x\n").code(1).says("[RW-NS-SQUAT]");
        let path = path.to_str().unwrap();
        let found = prints(&entry, &bed, "ls -ld /dev/shm/ringward-$(id -u)", &[]);
        assert!(found.starts_with(if link { 'l' } else { '-' }), "{found}");
        assert_eq!(std::fs::read_dir(&trap).unwrap().count(), 0, "links are never followed");
        std::fs::remove_file(path).unwrap();
        bed.run(&["send", "c"], b"x\n").code(0);
        shows(&ls(&entry, &bed), &["\nc "]);
    }
}

#[test]
fn a_namespace_of_another_user_is_refused_and_opens_for_its_owner() {
    if !root() {
        return;
    }
    let (bed, entry) = (Bed::new(), entry("RW-NS-OWNER"));
    std::fs::set_permissions(bed.root(), Permissions::from_mode(0o755)).unwrap();
    bed.namespace();
    let path = bed.root().join("test");
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    bed.run(&["send", "c"], b"x\n").code(1).says("[RW-NS-OWNER]").says("uid 65534, not to 0");
    let found = prints(&entry, &bed, "ls -ld /dev/shm/NAMESPACE", &[("/dev/shm/NAMESPACE", path.to_str().unwrap())]);
    assert!(found.contains("nobody") || found.contains("65534"), "{found}");
    shows(&prints(&entry, &bed, "id", &[]), &["uid=0"]);
    // As that user it opens; so does another namespace.
    as_nobody(&bed, &["send", "c"], b"x\n").code(0);
    entry.words("ringward ls", &[]);
    shows(&String::from_utf8(as_nobody(&bed, &["ls"], b"").code(0).stdout).unwrap(), &["\nc "]);
}

#[test]
fn a_namespace_that_was_widened_is_refused_until_its_mode_is_mended() {
    let (bed, entry) = (Bed::new(), entry("RW-NS-MODE"));
    bed.run(&["send", "c"], b"x\n").code(0);
    mode(&bed, "test", 0o755);
    bed.run(&["ls"], b"").code(1).says("[RW-NS-MODE]").says("0755").says("0700");
    let path = bed.root().join("test");
    let found = prints(&entry, &bed, "ls -ld /dev/shm/NAMESPACE", &[("/dev/shm/NAMESPACE", path.to_str().unwrap())]);
    assert!(found.starts_with("drwxr-xr-x"), "{found}");
    // Whoever asks for that mode gets in.
    drop(ringward_recovery::Namespace::builder("test").root(bed.root()).mode(0o644).open().unwrap());
    let status = Command::new("sh").args(["-c", "chmod 700 \"$0\""]).arg(&path).status().unwrap();
    assert!(status.success() && entry.text.contains("`chmod 700`"));
    shows(&ls(&entry, &bed), &["\nc "]);
}

#[test]
fn what_the_system_says_of_a_namespace_is_told_in_its_words() {
    let (bed, entry) = (Bed::new(), entry("RW-NS-SYSTEM"));
    let said = |ended: Ended, words: &str| {
        assert!(entry.text.contains(words), "{}", entry.text);
        let (doing, why) = words.split_once(": ").unwrap();
        ended.code(1).says("[RW-NS-SYSTEM]").says(&format!("{}: {why}", doing.trim_start_matches('`')));
    };
    said(bed.run(&["ls", "--root", "/nowhere/at/all"], b""), "`open the root: No such file or directory");
    if !root() {
        return;
    }
    std::fs::set_permissions(bed.root(), Permissions::from_mode(0o755)).unwrap();
    said(as_nobody(&bed, &["send", "c"], b""), "`mkdir: Permission denied");
    bed.run(&["send", "c"], b"x\n").code(0);
    said(as_nobody(&bed, &["ls"], b""), "`open: Permission denied");
    let at = bed.root().to_str().unwrap();
    let found = prints(&entry, &bed, "ls -ld ROOT ROOT/NAMESPACE", &[("ROOT", at), ("NAMESPACE", "test")]);
    assert!(found.lines().all(|line| line.contains("root")) && found.lines().count() == 2, "{found}");
    // As its owner it works; and so it did all the time.
    says(&rest(&entry), &["the call works"]);
    bed.run(&["ls"], b"").code(0);
}

#[test]
fn configurations_that_cannot_be_are_refused_with_their_numbers() {
    // What is said, what of it is in the message, and what is said instead of the last of it.
    for (id, bad, message, good) in [
        ("RW-CFG-STALL", ["--heartbeat", "2s", "--stall-timeout", "3s"], ["2s", "3s"], "4s"),
        ("RW-CFG-BEAT", ["--stall-timeout", "5h", "--heartbeat", "2h"], ["7200s", "1 hour"], "1h"),
        ("RW-CFG-CHAIN", ["--stall-timeout", "5h", "--chain", "1"], ["1 generations", "at least 2"], "2"),
        ("RW-CFG-CHAIN", ["--stall-timeout", "5h", "--chain", "0"], ["0 generations", "at least 2"], "3"),
    ] {
        let (bed, entry) = (Bed::new(), entry(id));
        let refused = bed.run(&[&["send", "c"], &bad[..]].concat(), b"x\n").code(2).says(&format!("[{id}]"));
        shows(&refused.stderr, &message);
        assert!(!bed.root().join("test/c").exists(), "nothing was opened");
        let whole = if entry.text.contains("**The rest:**") { rest(&entry) } else { entry };
        says(
            &whole,
            &[if id == "RW-CFG-CHAIN" { "the message has the number" } else { "the message has both numbers" }],
        );
        assert!(whole.text.contains(&format!("`{}`", bad[2])), "{}", whole.text);
        bed.run(&["send", "c", bad[0], bad[1], bad[2], good], b"x\n").code(0);
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_with_the_number_that_can() {
    for (id, bad, good) in [
        ("RW-BUILD-CAPACITY", ["--capacity", "5000"], "8192"),
        ("RW-BUILD-CAPACITY", ["--capacity", "1000"], "4096"),
        ("RW-BUILD-LIMIT", ["--record-limit", "524265"], "524264"),
        ("RW-BUILD-SLOTS", ["--slots", "65"], "64"),
        ("RW-BUILD-SLOTS", ["--slots", "0"], "1"),
    ] {
        let (bed, entry) = (Bed::new(), entry(id));
        let refused = bed.run(&["send", "c", bad[0], bad[1]], b"x\n").code(2).says(&format!("[{id}]"));
        shows(&refused.stderr, &[bad[1], good]);
        assert!(!bed.root().join("test/c").exists(), "nothing was built");
        let whole = if entry.text.contains("**The rest:**") { rest(&entry) } else { entry };
        says(&whole, &["**Diagnose:** the message.", "Take the number it names", "half the capacity less 24 bytes"]);
        let sender = writer(&bed, &["--no-close"]);
        sender.end().code(0);
        bed.run(&["send", "c", bad[0], good], b"x\n").code(0);
    }
}

#[test]
fn without_room_the_page_says_where_it_went_and_what_frees_it() {
    let (outer, entry) = (Bed::new(), entry("RW-BUILD-SPACE"));
    let Some(small) = Small::new(&outer, "1m") else { return };
    let bed = Bed::within(&small.path, LIMIT);
    bed.run(&["send", "old", "--capacity", "512KiB"], b"x\n").code(0);
    let wants = ["send", "c", "--capacity", "512KiB"];
    let refused = bed.run(&wants, b"x\n").code(1).says("[RW-BUILD-SPACE]");
    shows(&refused.stderr, &["bytes wanted", "free on this file system"]);
    assert!(!bed.root().join("test/c").exists(), "nothing was left behind");
    // `df` goes by the names of the mounts that it sees itself.
    let free = || {
        shows(entry.text, &["`df -h /dev/shm`"]);
        let df = small.within(&outer, &["df", "-h"]);
        shows(&df, &["1.0M"]);
        df
    };
    let before = free();
    let found = ls(&entry, &bed);
    assert!(found.lines().any(|line| line.starts_with("old ") && line.contains("KiB")), "{found}");
    // A quarantined file has its room still.
    bed.run(&["clean", "old", "--quarantine", "--yes"], b"").code(0);
    bed.run(&wants, b"x\n").code(1).says("[RW-BUILD-SPACE]");
    let root = bed.root().join("test");
    let listed = prints(&entry, &bed, "ls -la /dev/shm/ringward-$(id -u)", &[]);
    let name =
        listed.split_whitespace().find(|word| word.starts_with(".quarantine-")).unwrap_or_else(|| panic!("{listed}"));
    std::fs::remove_dir_all(root.join(name)).or_else(|_| std::fs::remove_file(root.join(name))).unwrap();
    bed.run(&["send", "old", "--capacity", "512KiB"], b"x\n").code(0);
    bed.run(&wants, b"x\n").code(1).says("[RW-BUILD-SPACE]");
    // A smaller one fits, and what is nobody's frees the rest.
    bed.run(&["send", "small", "--capacity", "64KiB"], b"x\n").code(0);
    shows(&entry.run(&bed, "ringward clean"), &["TAKE", "old", "Nothing was done."]);
    bed.run(&["clean", "--yes"], b"").code(0);
    assert_ne!(free(), before);
    let next = bed.start(&[&wants[..], &["--events", "json"]].concat());
    next.note("writing");
    next.end().code(0);
}

#[test]
fn a_limit_on_file_sizes_is_told_and_raised() {
    let (bed, entry) = (Bed::new(), entry("RW-BUILD-LARGE"));
    // In blocks of 512 bytes: 100 KiB at most.
    limited(&bed, "ulimit -f 200", &["send", "c"]).code(1).says("[RW-BUILD-LARGE]");
    assert!(!bed.root().join("test/c").exists());
    says(&entry, &["`ulimit -f`", "line `file-size`"]);
    let limit = limited(&bed, "ulimit -f 200; ulimit -f >&2", &["ls"]);
    assert!(limit.stderr.starts_with("200"), "{}", limit.stderr);
    entry.words("ringward doctor", &[]);
    let doctor = limited(&bed, "ulimit -f 200", &["doctor"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.lines().any(|line| line.contains("file-size") && line.contains("100 KiB")), "{doctor}");
    limited(&bed, "ulimit -f 200", &["send", "c", "--capacity", "32KiB"]).code(0);
    bed.run(&["send", "c"], b"x\n").code(0);
    let sender = writer(&bed, &[]);
    let found = prints(&entry, &bed, "grep \"file size\" /proc/PID/limits", &[("PID", &sender.pid().to_string())]);
    shows(&found, &["Max file size"]);
    sender.end().code(0);
}

#[test]
fn a_channel_in_which_its_writer_may_make_nothing_is_mended_by_its_mode() {
    if !root() {
        return;
    }
    let (bed, entry) = (Bed::new(), entry("RW-BUILD-PERMISSION"));
    std::fs::set_permissions(bed.root(), Permissions::from_mode(0o1777)).unwrap();
    as_nobody(&bed, &["send", "c", "--no-close"], b"x\n").code(0);
    mode(&bed, "test/c", 0o500);
    as_nobody(&bed, &["send", "c"], b"x\n").code(1).says("[RW-BUILD-PERMISSION]");
    says(&entry, &["`ls -ld` of the channel's directory; `id`"]);
    let found = Command::new("ls").arg("-ld").arg(bed.root().join("test/c")).output().unwrap();
    assert!(found.stdout.starts_with(b"dr-x------"), "{found:?}");
    mode(&bed, "test/c", 0o700);
    as_nobody(&bed, &["send", "c"], b"x\n").code(0);
}

/// The directory goes between the look at it and the birth, which no test can time from outside: the step itself is asked of the library,
/// in a directory that is gone. What a sender sees, who begins after it, is the verify command's.
#[test]
fn a_birth_in_a_directory_that_is_gone_says_so_and_the_next_opening_makes_it_anew() {
    use ringward_ring::build::{BuildError, Prepared, Spec};
    use std::os::fd::AsFd;
    let (bed, entry) = (Bed::new(), entry("RW-BUILD-GONE"));
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    std::fs::remove_dir_all(bed.root().join("test/c")).unwrap();
    let spec = Spec {
        capacity: 4096,
        record_limit: 100,
        slots: 1,
        checksum: ringward_recovery::Checksum::FULL,
        schema: 0,
        beat_interval: 0,
        owner: ringward_ring::identity::Owner::default(),
        mode: 0o600,
        group: None,
        touch: false,
        no_dump: false,
    };
    // A tmpfs notices only at the link that the directory is gone, and then it is looked for anew; others at once.
    let mut said = 0;
    for base in ["/dev/shm", "/tmp", env!("CARGO_TARGET_TMPDIR")] {
        let Ok(gone) = tempfile::Builder::new().prefix("ringward-ctl-test-").tempdir_in(base) else { continue };
        let dir = std::fs::File::open(gone.path()).unwrap();
        gone.close().unwrap();
        match Prepared::build(dir.as_fd(), &spec, 1) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, BuildError::Gone) && error.to_string().ends_with("[RW-BUILD-GONE]"), "{error}");
                said += 1;
            }
        }
    }
    if said == 0 {
        skip("every file system here makes files in a directory that is gone");
    }
    assert!(!ls(&entry, &bed).contains("\nc "));
    let next = writer(&bed, &[]);
    shows(&ls(&entry, &bed), &["\nc "]);
    assert_eq!(bed.view()["owner"]["pid"], next.pid());
    next.end().code(0);
}

#[test]
fn without_descriptors_a_birth_fails_in_the_words_of_the_system() {
    let (bed, entry) = (Bed::new(), entry("RW-BUILD-SYSTEM"));
    let rest = rest(&entry);
    says(&rest, &["`EMFILE` descriptors", "`ulimit -n`"]);
    // How many it takes to come that far is the build's; some number is too few for the birth only.
    let mut said = Vec::new();
    for most in 4..12 {
        let ended = limited(&bed, &format!("ulimit -n {most}"), &["send", "c", "--no-close"]);
        said.push(ended.stderr);
    }
    let found = said.iter().find(|said| said.contains("[RW-BUILD-SYSTEM]")).unwrap_or_else(|| panic!("{said:?}"));
    shows(found, &["cannot build a segment: ", "Too many open files"]);
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    bed.until_next(1);
}
