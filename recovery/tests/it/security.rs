//! What docs/SECURITY.md claims of other users: a child that has become `nobody` tries what it can against a namespace of ours.
//!
//! Only root can become somebody else; without it these tests say so and check nothing.

use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use ringward_recovery::{
    Channel, Durability, Event, From, Namespace, NamespaceError, OpenError, Reader, SendError, Verdict, Watchdog,
    Writer,
};
use ringward_ring::layout::{MAX_SLOTS, PRESENCE_BYTE, READER_BYTE, WRITER_BYTE};
use ringward_ring::sys::lock::{self, Mode};
use ringward_ring::writer::PushError;
use rustix::fs::{CWD, RenameFlags, inotify};
use rustix::process::{Gid, Signal, Uid as ThreadUid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::attacks::{Alarm, push_text, reclaim, skip, take, text, verdict};
use crate::attacks_child::{DONE, Kid, listen, say};
use crate::common::{Bed, config, durable};

/// The user and group that everybody is who is nobody.
const NOBODY: u32 = 65534;
/// The group that is let in where one is.
const TEAM: u32 = 54321;

/// A root like /dev/shm, in which everybody may make things and nobody may take away another's; `None` without the right to become
/// somebody else.
fn bed() -> Option<Bed> {
    if !Uid::effective().is_root() {
        skip("only root can become another user");
        return None;
    }
    let bed = Bed::new();
    std::fs::set_permissions(bed.root(), Permissions::from_mode(0o1777)).unwrap();
    // In a user namespace that has not all users, root can't play them.
    let probe = bed.root().join("probe");
    std::fs::write(&probe, b"").unwrap();
    if std::os::unix::fs::chown(&probe, Some(NOBODY), Some(TEAM)).is_err() {
        skip("this root can't become another user");
        return None;
    }
    std::fs::remove_file(&probe).unwrap();
    Some(bed)
}

fn nobody(bed: &Bed, does: &str, group: u32) -> Kid {
    let mut kid = Kid::spawn_with("stranger", bed, &format!("{does} {group}"), &[]);
    match kid.hear().as_deref() {
        Some("ready") => {}
        other => panic!("{does}: {other:?}"),
    }
    kid
}

/// Lets it do what it is there for; what it says.
fn all_said(mut kid: Kid) -> Vec<String> {
    kid.tell("go");
    let mut said = Vec::new();
    while let Some(line) = kid.hear() {
        said.push(line);
    }
    assert_eq!(kid.end().code(), Some(DONE), "{said:?}");
    said
}

fn ends_well(bed: &Bed, mut writer: Writer, mut reader: Reader) {
    push_text(&mut writer, 2..3);
    assert_eq!(take(&mut reader, 3).0, text(0..3));
    reader.forget();
    drop(writer);
    reclaim(&bed.namespace);
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// Namespace, channel, segment: not looked into, not read, written, replaced, renamed, removed, watched, nor locked.
#[test]
fn another_user_gets_at_nothing_of_a_private_namespace() {
    let _alarm = Alarm::new();
    let Some(bed) = bed() else { return };
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    let before = std::fs::metadata(bed.path(1)).unwrap();
    // Three walls, and each would do.
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    let channels = bed.namespace.path().join("c");
    assert_eq!([mode(bed.namespace.path()), mode(&channels), mode(&bed.path(1))], [0o700, 0o700, 0o600]);
    let said = all_said(nobody(&bed, "tries-everything", NOBODY));
    assert_eq!(said.last().map(String::as_str), Some("tried 26 ways"), "{said:?}");
    assert_eq!(said.len(), 1, "it got in: {said:?}");
    let after = std::fs::metadata(bed.path(1)).unwrap();
    assert_eq!((before.ino(), before.len(), before.mode()), (after.ino(), after.len(), after.mode()));
    assert_eq!(bed.names(), ["00000001.ring"]);
    ends_well(&bed, writer, reader);
}

/// What is opened by this user is checked by descriptor: who made it, and for whom it is open.
#[test]
fn a_namespace_that_another_user_made_first_is_refused() {
    let _alarm = Alarm::new();
    let Some(bed) = bed() else { return };
    let root = bed.root();
    let kid = nobody(&bed, "squats", NOBODY);
    assert_eq!(all_said(kid), ["done"]);
    for (name, refused) in
        [("narrow", "RW-NS-OWNER"), ("wide", "RW-NS-OWNER"), ("file", "RW-NS-SQUAT"), ("link", "RW-NS-SQUAT")]
    {
        let error = Namespace::builder(name).root(&root).open().unwrap_err();
        assert!(error.to_string().contains(refused), "{name}: {error}");
    }
    // One that is shared by its mode takes the owner as it comes, unless one is named.
    let shared = Namespace::builder("wide").root(&root).mode(0o666);
    assert!(shared.clone().open().is_ok());
    assert!(matches!(shared.clone().owner(0).open(), Err(NamespaceError::Owner { found: NOBODY, expected: 0, .. })));
    assert!(shared.owner(NOBODY).open().is_ok());
}

/// A name that changes what it stands for between two looks is opened once, and what was opened is checked.
#[test]
fn swapping_a_namespace_for_a_link_gets_nobody_in() {
    let _alarm = Alarm::new();
    let Some(bed) = bed() else { return };
    let root = bed.root();
    let mut kid = nobody(&bed, "swaps", NOBODY);
    kid.tell("go");
    kid.expect("swapping");
    let mut met = (0, 0);
    for _ in 0..2000 {
        match Namespace::builder("swapped").root(&root).open() {
            Err(NamespaceError::Owner { found: NOBODY, .. }) => met.0 += 1,
            Err(NamespaceError::NotDirectory { .. }) => met.1 += 1,
            other => panic!("{other:?}"),
        }
    }
    eprintln!("met its directory {} times, its link {} times", met.0, met.1);
    drop(kid);
    assert_eq!(std::fs::read_dir(bed.namespace.path()).unwrap().count(), 0, "nothing was made behind the link");
}

/// Files of a group's members, other than the owner's: planted as segments they are refused, and cost the channel its next name
/// until they are removed, no more.
#[test]
fn a_segment_that_a_member_of_the_group_planted_is_not_believed() {
    let _alarm = Alarm::new();
    let Some(bed) = bed() else { return };
    let team = Namespace::builder("team").root(bed.root()).mode(0o660).group(TEAM).open().unwrap();
    let channel = Channel::new(&team, "c", config()).unwrap();
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..2);
    drop(writer);
    let planted = team.path().join("c/00000002.ring");
    assert_eq!(all_said(nobody(&bed, "plants", TEAM)), ["planted"]);
    assert_eq!(std::fs::metadata(&planted).unwrap().uid(), NOBODY);
    let error = channel.writer().unwrap_err();
    assert!(error.to_string().contains("owned by uid 65534"), "{error}");
    assert_eq!(take(&mut reader, 2).0, text(0..2), "what was acknowledged is delivered all the same");
    let report = Watchdog::builder(&team).build().tick();
    assert_eq!(verdict(&report), Verdict::Foreign, "{report:?}");
    std::fs::remove_file(&planted).unwrap();
    let mut writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 2));
    push_text(&mut writer, 2..3);
    assert_eq!(take(&mut reader, 1).0, text(2..3));
}

/// 0640 lets the group look, 0660 lets it read; neither lets anybody else.
#[test]
fn a_group_is_let_in_as_far_as_the_mode_says() {
    let _alarm = Alarm::new();
    let Some(bed) = bed() else { return };
    for (mode, looks, receives) in [(0o640, true, false), (0o660, true, true), (0o600, false, false)] {
        let name = format!("mode-{mode:o}");
        let team = Namespace::builder(&name).root(bed.root()).mode(mode).group(TEAM).open().unwrap();
        let channel = Channel::new(&team, "c", config()).unwrap();
        let mut writer = channel.writer().unwrap();
        for (group, member) in [(TEAM, true), (NOBODY, false)] {
            let mut kid = nobody(&bed, &format!("joins:{mode:o}:{name}"), group);
            kid.tell("go");
            let looked = kid.hear().unwrap();
            assert_eq!(looked.starts_with("looked"), member && looks, "{mode:o}, group {group}: {looked}");
            let joined = kid.hear().unwrap();
            assert_eq!(joined.starts_with("joined"), member && receives, "{mode:o}, group {group}: {joined}");
            if joined.starts_with("joined") {
                push_text(&mut writer, 0..1);
                kid.tell("receive");
                kid.expect("0");
            }
            let status = kid.end();
            assert_eq!(status.code(), Some(DONE), "{mode:o}, group {group}: {status:?}, {looked}, {joined}");
        }
        let file = std::fs::metadata(team.path().join("c/00000001.ring")).unwrap();
        assert_eq!((file.mode() & 0o777, file.gid()), (mode, TEAM));
        for dir in [team.path().join("c"), team.path().to_owned()] {
            let dir = std::fs::metadata(dir).unwrap();
            assert_eq!((dir.mode() & 0o777, dir.gid()), (mode | 0o700 | (mode & 0o444) >> 2, TEAM));
        }
    }
}

/// Whoever may read a segment may hold every byte of it shared. That costs newcomers their places, and the space of an ephemeral reader
/// that died, for as long as it holds them; nobody who is there, and no succession.
#[test]
fn read_locks_on_every_byte_cost_newcomers_their_places_while_they_are_held() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut writer, 0..1);
    let hostile = holds_all(&bed, 1, MAX_SLOTS as usize); // all but the writer's byte and the living reader's, and the presence byte
    let error = channel.reader("new", Durability::Ephemeral, From::Latest).unwrap_err();
    assert!(matches!(error, OpenError::Join(_)), "{error}");
    for n in 1..200 {
        push_text(&mut writer, n..n + 1);
        assert_eq!(take_one(&mut reader), n - 1);
    }
    assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Live);
    drop(writer);
    assert!(lock::try_lock(hostile.as_fd(), WRITER_BYTE, Mode::Shared).unwrap(), "and byte 0, as soon as it is free");
    assert_eq!(verdict(&reclaim(channel.namespace())), Verdict::Draining, "not taken away while somebody holds it");
    let mut writer = channel.writer().unwrap();
    assert_eq!(writer.generation(), 2, "nor is the succession held up");
    let mut new = channel.reader("new", Durability::Ephemeral, From::Latest).unwrap();
    writer.push(0, b"200").unwrap();
    assert_eq!((take_one(&mut reader), take_one(&mut reader), take_one(&mut new)), (199, 200, 200));
    drop(hostile);
    // Nobody is left but who holds the locks: while it does, the channel stays.
    let hostile = holds_all(&bed, 2, MAX_SLOTS as usize - 1); // all but the writer's and the two readers'
    reader.forget();
    drop((writer, new));
    for _ in 0..3 {
        let verdict = verdict(&reclaim(channel.namespace()));
        assert_eq!((verdict, bed.names()), (Verdict::Draining, vec!["00000002.ring".to_owned()]));
    }
    drop(hostile);
    reclaim(channel.namespace());
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

#[test]
fn read_locks_keep_a_dead_ephemeral_reader_in_the_way_while_they_are_held() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut writer = channel.writer().unwrap();
    let dead = channel.reader("e", Durability::Ephemeral, From::Latest).unwrap();
    drop(dead);
    let hostile = holds_all(&bed, 1, MAX_SLOTS as usize + 1);
    let mut pushed = 0;
    let full = loop {
        match writer.push(0, b"round the ring") {
            Ok(_) => pushed += 1,
            Err(why) => break why,
        }
        assert!(pushed < 1000, "somebody is in the way, and was run over");
    };
    assert!(matches!(full, SendError::Push(PushError::Full { slot: Some(0), .. })), "{full}");
    drop(hostile);
    for _ in 0..1000 {
        writer.push(0, b"round the ring").unwrap();
    }
}

/// Locks every byte of a generation that can be had by a descriptor that only reads.
fn holds_all(bed: &Bed, generation: u64, expected: usize) -> File {
    let hostile = File::open(bed.path(generation)).unwrap();
    let bytes = (READER_BYTE..READER_BYTE + u64::from(MAX_SLOTS)).chain([PRESENCE_BYTE, WRITER_BYTE]);
    let held = bytes.filter(|byte| lock::try_lock(hostile.as_fd(), *byte, Mode::Shared).unwrap()).count();
    assert_eq!(held, expected);
    hostile
}

fn take_one(reader: &mut Reader) -> u64 {
    let event = crate::attacks::until(reader, |event| matches!(event, Event::Record { .. } | Event::Gap { .. }));
    let Event::Record { sequence, .. } = event else { panic!("{event:?}") };
    reader.release();
    sequence
}

/// Names are random where an attacker could wait for them, and where they are not, taken names are refused or passed over.
#[test]
fn a_name_that_can_be_guessed_gives_an_attacker_nothing() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let trap = bed.root().join("trap");
    std::fs::write(&trap, b"").unwrap();
    // The channel's directory, before it is born: a link is not followed, a foreign directory not adopted.
    symlink(bed.root(), bed.namespace.path().join("c")).unwrap();
    assert!(matches!(channel.writer(), Err(OpenError::Squatted { .. })));
    std::fs::remove_file(bed.namespace.path().join("c")).unwrap();
    let mut writer = channel.writer().unwrap();
    push_text(&mut writer, 0..2);
    let reader = durable(&channel, "d");
    drop(writer);
    // The next generation's name: the only one that can be known before. A link there is never followed, nor written through.
    symlink(&trap, bed.path(2)).unwrap();
    let error = channel.writer().unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(std::fs::read_link(bed.path(2)).unwrap(), trap, "nor replaced");
    assert_eq!(std::fs::metadata(&trap).unwrap().len(), 0);
    std::fs::remove_file(bed.path(2)).unwrap();
    let writer = channel.writer().unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 2));
    assert!(std::fs::symlink_metadata(bed.path(2)).unwrap().is_file());
    drop((writer, reader));
}

/// What a child does as nobody: drops everything that root has, says so, and waits for the word.
///
/// Only its own thread, and those that come from it, become nobody: the C library's `setuid` interrupts the harness' main thread in a
/// handler on its alternate stack, which that thread may not have left yet when this one ends the process and frees that stack, and
/// then the child dies of a SIGSEGV.
pub(crate) fn stranger(extra: &str) -> i32 {
    let (does, group) = extra.split_once(' ').unwrap();
    let group = Gid::from_raw(group.parse().unwrap());
    set_thread_groups(&[group]).unwrap();
    set_thread_gid(group).unwrap();
    set_thread_uid(ThreadUid::from_raw(NOBODY)).unwrap();
    // The kernel forgets this when a process becomes somebody else.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    assert!(set_thread_uid(ThreadUid::ROOT).is_err(), "it could go back");
    let root = PathBuf::from(std::env::var("RINGWARD_ATTACK_ROOT").unwrap());
    say("ready");
    listen();
    match does.split(':').collect::<Vec<_>>()[..] {
        ["tries-everything"] => tries_everything(&root),
        ["squats"] => squats(&root),
        ["swaps"] => swaps(&root),
        ["plants"] => plants(&root.join("team/c")),
        ["joins", mode, name] => joins(&root, name, u32::from_str_radix(mode, 8).unwrap()),
        _ => panic!("{does}"),
    }
    DONE
}

/// Each way in, as a system call; says those that were not refused.
fn tries_everything(root: &Path) {
    let namespace = root.join("test");
    let (channel, segment) = (namespace.join("c"), namespace.join("c/00000001.ring"));
    let mine = root.join("mine");
    std::fs::create_dir(&mine).unwrap();
    let mut tried = 0;
    let mut attempt = |what: &str, done: bool| {
        tried += 1;
        if done {
            say(&format!("done: {what}"));
        }
    };
    let open = |path: &Path, write: bool| OpenOptions::new().read(true).write(write).open(path);
    let rename = |from: &Path, to: &Path| std::fs::rename(from, to).is_ok();
    attempt("list the namespace", std::fs::read_dir(&namespace).is_ok());
    attempt("list the channel", std::fs::read_dir(&channel).is_ok());
    attempt("look at the channel", std::fs::metadata(&channel).is_ok());
    attempt("look at the segment", std::fs::metadata(&segment).is_ok());
    attempt("read the segment", open(&segment, false).is_ok());
    attempt("write the segment", open(&segment, true).is_ok());
    attempt(
        "cut the segment",
        rustix::fs::open(&segment, rustix::fs::OFlags::TRUNC | rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())
            .is_ok(),
    );
    attempt("name the segment elsewhere", std::fs::hard_link(&segment, mine.join("s")).is_ok());
    attempt("unlink the segment", std::fs::remove_file(&segment).is_ok());
    attempt("plant a generation", std::fs::write(channel.join("00000002.ring"), b"").is_ok());
    attempt("plant a link", symlink(&mine, channel.join("00000002.ring")).is_ok());
    attempt("plant a channel", std::fs::create_dir(namespace.join("d")).is_ok());
    attempt("plant a birth", std::fs::create_dir(namespace.join(".birth-0000000000000000")).is_ok());
    attempt("rename the channel", rename(&channel, &mine.join("c")));
    attempt("rename the namespace", rename(&namespace, &root.join("gone")));
    attempt("put something over the namespace", rename(&mine, &namespace));
    let swap = rustix::fs::renameat_with(CWD, &mine, CWD, &namespace, RenameFlags::EXCHANGE);
    attempt("swap the namespace", swap.is_ok());
    attempt("remove the namespace", std::fs::remove_dir_all(&namespace).is_ok());
    attempt("make the namespace", std::fs::create_dir(&namespace).is_ok());
    attempt("link over the namespace", symlink(&mine, &namespace).is_ok());
    attempt("open the namespace up", std::fs::set_permissions(&namespace, Permissions::from_mode(0o777)).is_ok());
    attempt("own the namespace", std::os::unix::fs::chown(&namespace, Some(NOBODY), None).is_ok());
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    attempt("watch the namespace", inotify::add_watch(&watch, &namespace, inotify::WatchFlags::CREATE).is_ok());
    // A descriptor that only names the directory opens nothing in it.
    let path = rustix::fs::open(&namespace, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    let through =
        path.and_then(|fd| rustix::fs::openat(fd, "c", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()));
    attempt("open through a path", through.is_ok());
    let by_library = |mode| Namespace::builder("test").root(root).mode(mode).open();
    attempt("open the namespace by the library", by_library(0o600).is_ok());
    attempt("the same with a wide mode", by_library(0o666).is_ok());
    std::fs::remove_dir(&mine).unwrap();
    say(&format!("tried {tried} ways"));
}

fn squats(root: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(root.join("narrow")).unwrap();
    std::fs::create_dir(root.join("wide")).unwrap();
    std::fs::set_permissions(root.join("wide"), Permissions::from_mode(0o777)).unwrap();
    std::fs::write(root.join("file"), b"").unwrap();
    symlink(root.join("test"), root.join("link")).unwrap();
    say("done");
}

/// A directory of its own and a link to the victim's change places, until the test is done with it.
fn swaps(root: &Path) {
    let (name, link) = (root.join("swapped"), root.join("swap"));
    std::fs::DirBuilder::new().mode(0o700).create(&name).unwrap();
    symlink(root.join("test"), &link).unwrap();
    say("swapping");
    loop {
        rustix::fs::renameat_with(CWD, &name, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    }
}

/// A copy of the newest segment under the next name.
fn plants(channel: &Path) {
    let bytes = std::fs::read(channel.join("00000001.ring")).unwrap();
    let next = channel.join("00000002.ring");
    std::fs::write(&next, b"").unwrap();
    std::fs::set_permissions(&next, Permissions::from_mode(0o660)).unwrap();
    OpenOptions::new().write(true).open(&next).unwrap().write_all_at(&bytes, 0).unwrap();
    say("planted");
}

fn joins(root: &Path, name: &str, mode: u32) {
    let channel = match Namespace::builder(name).root(root).mode(mode).create(false).open() {
        Ok(namespace) => Channel::new(&namespace, "c", config()).unwrap(),
        Err(error) => {
            say(&format!("refused: {error}"));
            say("refused");
            return;
        }
    };
    match channel.inspect().as_deref() {
        Ok([one]) if one.seen.is_ok() => say("looked"),
        other => say(&format!("refused: {other:?}")),
    }
    match channel.reader("member", Durability::Ephemeral, From::Latest) {
        Ok(mut reader) => {
            say("joined");
            listen();
            say(&take_one(&mut reader).to_string());
        }
        Err(error) => say(&format!("refused: {error}")),
    }
}
