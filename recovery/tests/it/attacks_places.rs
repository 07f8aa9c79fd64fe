//! Strange places: without /proc, without `O_TMPFILE`, without room, on a file system that can't be relied on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringward_recovery::{Channel, Namespace, NamespaceError, OpenError, Outcome, Warmth};
use ringward_ring::build::BuildError;
use rstest::rstest;

use crate::attacks::{Alarm, LONG, push_text, skip, take, text};
use crate::attacks_child::{DONE, Kid, NOT_HERE};
use crate::common::{Bed, config, durable};

fn lives(mut kid: Kid, place: &str) {
    match kid.hear() {
        Some(said) => {
            assert_eq!(said, "lived");
            assert_eq!(kid.end().code(), Some(DONE));
        }
        None => {
            let status = kid.end();
            // `unshare` says 1 where it may not.
            assert!(matches!(status.code(), Some(NOT_HERE | 1)), "{status:?}");
            skip(&format!("{place} can't be had here"));
        }
    }
}

#[test]
fn a_whole_life_without_proc() {
    let _alarm = Alarm::new();
    if !Path::new("/usr/bin/unshare").exists() {
        return skip("no unshare(1) here");
    }
    let bed = Bed::new();
    lives(Kid::spawn_with("without-proc", &bed, "", &["/usr/bin/unshare", "--mount", "--"]), "a mount namespace");
}

/// Not to be seen is not to be gone: its channel would be taken from a living writer.
#[test]
fn a_process_that_proc_hides_is_not_taken_for_gone() {
    let _alarm = Alarm::new();
    if !Path::new("/usr/bin/unshare").exists() {
        return skip("no unshare(1) here");
    }
    let bed = Bed::new();
    let mut kid = Kid::spawn_with("hidden-from", &bed, "", &["/usr/bin/unshare", "--mount", "--"]);
    match kid.hear() {
        Some(said) => assert_eq!(said, "Here, then Unknowable"),
        None => skip("/proc can't be made to hide processes here"),
    }
}

#[test]
fn a_whole_life_without_unnamed_files() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    lives(Kid::spawn_with("seccomp", &bed, "no-tmpfile", &[]), "seccomp");
}

/// Only file systems on a list are believed; /proc stands in for a network file system, which is as little on it (`ring`'s unit
/// tests have the magic numbers of NFS, FUSE and 9p).
#[rstest]
#[case("/proc")]
#[case("/sys")]
fn a_file_system_that_is_not_on_the_list_is_refused(#[case] root: &str) {
    match Namespace::builder("test").root(root).open().unwrap_err() {
        NamespaceError::FileSystem { root: found, kind } => {
            assert_eq!(found, Path::new(root));
            assert!(!kind.is_empty());
        }
        other => panic!("{other}"),
    }
}

/// A small tmpfs of its own, unmounted when dropped.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount(size: &str) -> Option<Small> {
        let dir = tempfile::Builder::new().prefix("ringward-test-").tempdir_in("/tmp").unwrap();
        let data = std::ffi::CString::new(format!("size={size},mode=0700")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("none", dir.path(), "tmpfs", flags, data.as_c_str()) {
            Ok(()) => Some(Small { dir }),
            Err(_) => {
                skip("tmpfs can't be mounted here");
                None
            }
        }
    }

    fn namespace(&self) -> Namespace {
        Namespace::builder("test").root(self.dir.path()).open().unwrap()
    }

    /// Takes all the room that is left, but `spare` bytes; the file gives it back.
    fn fill(&self, spare: u64) -> PathBuf {
        let path = self.dir.path().join("ballast");
        let file = std::fs::File::create(&path).unwrap();
        let free = ringward_ring::sys::file::free_bytes(rustix::fd::AsFd::as_fd(&file)).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - spare).unwrap();
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn no_space(error: OpenError) -> (u64, u64) {
    let said = error.to_string();
    match error {
        OpenError::Build(BuildError::NoSpace { wanted, free }) => {
            assert!(said.contains(&wanted.to_string()) && said.contains(&free.to_string()), "{said}");
            (wanted, free)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn without_space_nothing_is_made_and_nothing_left() {
    let _alarm = Alarm::new();
    let Some(small) = Small::mount("256k") else { return };
    let namespace = small.namespace();
    let channel = Channel::new(&namespace, "big", config().capacity(1 << 20)).unwrap();
    for _ in 0..3 {
        let (wanted, free) = no_space(channel.writer().unwrap_err());
        assert!(wanted > 1 << 20 && (1..=256 << 10).contains(&free), "{wanted} of {free}");
        assert_eq!(std::fs::read_dir(namespace.path()).unwrap().count(), 0, "nothing left behind");
    }
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    no_space(standby.wait(LONG).unwrap_err());
    assert_eq!(std::fs::read_dir(namespace.path()).unwrap().count(), 0);
}

#[test]
fn a_full_file_system_does_not_disturb_a_running_channel() {
    let _alarm = Alarm::new();
    let Some(small) = Small::mount("256k") else { return };
    let namespace = small.namespace();
    let channel = Channel::new(&namespace, "c", config()).unwrap();
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    let ballast = small.fill(0);
    let other = Channel::new(&namespace, "other", config()).unwrap();
    no_space(other.writer().unwrap_err());
    for n in 0..50 {
        push_text(&mut writer, n * 20..(n + 1) * 20); // ten laps in all: no page of it is missing
        assert_eq!(take(&mut reader, 20).0, text(n * 20..(n + 1) * 20));
    }
    // No room for a segment in reserve: a cold standby, which says why, and stands all the same.
    let mut standby = channel.standby(Warmth::Hot).unwrap();
    assert!(matches!(standby.wait(Duration::ZERO).unwrap(), Outcome::TimedOut));
    assert!(!standby.is_hot());
    let why = standby.no_room().unwrap();
    assert!(why.contains("RW-BUILD-SPACE"), "{why}");
    // The writer dies while there is no room for anybody: an error, and nothing is lost by it.
    drop(writer);
    no_space(standby.wait(LONG).unwrap_err());
    no_space(channel.writer().unwrap_err());
    std::fs::remove_file(ballast).unwrap();
    let Outcome::Elected(mut writer) = standby.wait(LONG).unwrap() else { panic!("not elected") };
    push_text(&mut writer, 1000..1001);
    assert_eq!(take(&mut reader, 1).0, text(1000..1001));
}

/// A living writer is not ended by one who then has no room to follow it.
#[test]
fn a_superseder_without_room_leaves_the_living_writer_alone() {
    let _alarm = Alarm::new();
    let Some(small) = Small::mount("256k") else { return };
    let namespace = small.namespace();
    let channel = Channel::new(&namespace, "c", config()).unwrap();
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    let ballast = small.fill(0);
    no_space(channel.supersede().unwrap_err());
    push_text(&mut writer, 1..2);
    assert_eq!(take(&mut reader, 2).0, text(0..2));
    std::fs::remove_file(ballast).unwrap();
}

/// A limit on the size of files, as a quota would be: typed, with the number, and nothing left.
#[test]
fn over_the_limit_on_file_sizes_is_an_error_with_the_number() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let mut kid = Kid::spawn("small-files", &bed);
    let said = kid.hear().unwrap();
    assert!(said.contains("RW-BUILD-LARGE") && said.contains("RLIMIT_FSIZE"), "{said}");
    assert_eq!(kid.end().code(), Some(DONE));
    assert_eq!(bed.entries(), [] as [&str; 0]);
}
