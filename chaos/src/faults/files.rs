//! Segments that are cut, punched, unlinked or renamed, and names that somebody squats on.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Applied, BEATS, Class, Cost, Family, Hitch, Landing, PLAIN, Setup};
use crate::decode::Castagnoli;
use crate::payload::Dice;
use crate::range::stage::Stage;

const fn class(
    name: &'static str,
    what: &'static str,
    cost: Cost,
    setup: Setup,
    apply: fn(&mut Stage<'_>, &mut Dice) -> Applied,
) -> Class {
    Class { name, family: Family::Files, what, cost, setup, compound: false, apply }
}

pub(super) const CLASSES: &[Class] = &[
    class("truncate-0", "the segment cut to nothing", Cost::Reported, BEATS, |s, _| truncate(s, |_, _| 0)),
    class("truncate-12", "the segment cut to 12 bytes", Cost::Reported, BEATS, |s, _| truncate(s, |_, _| 12)),
    class("truncate-header", "the segment cut within its header", Cost::Reported, BEATS, |s, d| {
        let at = 13 + d.below(640);
        truncate(s, move |_, _| at)
    }),
    class("truncate-page", "the segment cut to its first page", Cost::Reported, BEATS, |s, _| {
        truncate(s, |page, _| page)
    }),
    class("truncate-last", "the segment one byte short", Cost::Reported, BEATS, |s, _| truncate(s, |_, len| len - 1)),
    class("truncate-grow", "the segment a page longer", Cost::Reported, BEATS, |s, _| {
        truncate(s, |page, len| len + page)
    }),
    class("cut-and-kill", "the segment cut to a page and its writer killed", Cost::Unknown, BEATS, cut_and_kill),
    class("punch-data", "a hole punched into the data", Cost::Reported, PLAIN, punch_data),
    class("punch-table", "a hole punched into the reader table", Cost::Nothing, PLAIN, punch_table),
    class("punch-writer-page", "a hole punched where identity and cursors are", Cost::Reported, BEATS, punch_writer),
    class("unlink", "the segment unlinked", Cost::Reborn, BEATS, unlink),
    class("rename-over", "something else renamed over the segment", Cost::Reported, BEATS, rename_over),
    class("remove-channel", "the channel's directory removed with all in it", Cost::Reborn, BEATS, |s, _| {
        let path = s.channel_dir();
        remove(s, &path)
    }),
    class("remove-namespace", "the whole namespace removed, as RemoveIPC does", Cost::Reborn, BEATS, |s, _| {
        let path = s.channel_dir().parent().map(Path::to_owned).unwrap_or_default();
        remove(s, &path)
    }),
    class("squat-symlink", "a symbolic link has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, _| std::os::unix::fs::symlink("/dev/null", path))
    }),
    class("squat-fifo", "a FIFO has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, _| {
            Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0)?)
        })
    }),
    class("squat-directory", "a directory has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, _| std::fs::create_dir(path))
    }),
    class("squat-empty", "an empty file has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, _| File::create(path).map(drop))
    }),
    class("squat-noise", "a file of noise has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, image| {
            let mut dice = Dice(image.len() as u64);
            std::fs::write(path, image.iter().map(|_| dice.next() as u8).collect::<Vec<u8>>())
        })
    }),
    class("squat-foreign", "another user's file has the next generation's name", Cost::Nothing, PLAIN, squat_foreign),
    class(
        "squat-newer-major",
        "a segment of a newer major has the next generation's name",
        Cost::Nothing,
        PLAIN,
        |s, d| squat(s, d, |path, image| version(path, image, 2, 0)),
    ),
    class(
        "squat-newer-minor",
        "a dead segment of a newer minor has the next generation's name",
        Cost::Nothing,
        PLAIN,
        |s, d| squat(s, d, |path, image| version(path, image, 1, 7)),
    ),
    class("squat-older-major", "a segment of major 0 has the next generation's name", Cost::Nothing, PLAIN, |s, d| {
        squat(s, d, |path, image| version(path, image, 0, 9))
    }),
];

/// Cuts or grows the newest generation under everybody's hands.
fn truncate(stage: &mut Stage<'_>, len: impl Fn(u64, u64) -> u64) -> Applied {
    let (number, file) = stage.open_newest()?;
    let before = file.metadata()?.len();
    let after = len(4096, before);
    file.set_len(after)?;
    if file.metadata()?.len() != after {
        return Err(Hitch::Missed("its length did not change".into()));
    }
    // Whoever writes moves on by itself, or is followed.
    let moved = stage.until(Duration::from_secs(5), |stage| stage.newest().is_some_and(|(now, _)| now > number));
    Ok(Landing::of(format!("generation {number}: {before} to {after} bytes; moved on: {moved}")))
}

fn cut_and_kill(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let Some(at) = stage.writer() else { return Err(Hitch::Missed("there was no writer".into())) };
    if !stage.stop(at) {
        return Err(Hitch::Missed("it died before it could be stopped".into()));
    }
    let (number, file) = stage.open_newest()?;
    file.set_len(4096)?;
    stage.strike(at, Signal::SIGKILL);
    if !stage.until_dead(at) {
        return Err(Hitch::Missed("it did not die".into()));
    }
    Ok(Landing::of(format!("generation {number}")))
}

fn punch(file: &File, at: u64, len: u64) -> Result<(), Hitch> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => Err(Hitch::Skipped("this file system punches no holes".into())),
        Err(errno) => Err(errno.into()),
    }
}

fn punch_data(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    let len = file.metadata()?.len();
    let Some(data) = len.checked_sub(stage.trial.capacity) else {
        return Err(Hitch::Missed("the segment was too short".into()));
    };
    let page = dice.below(stage.trial.capacity / 4096);
    punch(&file, data + page * 4096, 4096)?;
    Ok(Landing::of(format!("page {page} of the data of generation {number}")))
}

fn punch_table(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    punch(&file, 4096, 4096)?;
    Ok(Landing::of(format!("generation {number}")))
}

fn punch_writer(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let (number, file) = stage.open_newest()?;
    punch(&file, 0, 4096)?;
    let moved = stage.until(Duration::from_secs(5), |stage| stage.newest().is_some_and(|(now, _)| now > number));
    Ok(Landing::of(format!("generation {number}; moved on: {moved}")))
}

/// Waits until the channel has a sound newest generation again, whichever number it has.
fn settled(stage: &mut Stage<'_>, inode: u64) -> bool {
    stage.until(Duration::from_secs(10), |stage| {
        stage
            .newest()
            .and_then(|(_, path)| std::fs::metadata(path).ok())
            .is_some_and(|meta| meta.ino() != inode && meta.len() > 4096)
    })
}

fn unlink(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let Some((number, path)) = stage.newest() else { return Err(Hitch::Missed("there was nothing".into())) };
    let file = File::open(&path)?;
    let inode = file.metadata()?.ino();
    std::fs::remove_file(&path)?;
    if file.metadata()?.nlink() != 0 {
        return Err(Hitch::Missed("it has another name".into()));
    }
    let again = settled(stage, inode);
    Ok(Landing::of(format!("generation {number}; a new one came: {again}")))
}

fn rename_over(stage: &mut Stage<'_>, _: &mut Dice) -> Applied {
    let Some((number, path)) = stage.newest() else { return Err(Hitch::Missed("there was nothing".into())) };
    let junk = stage.root.join("junk");
    std::fs::write(&junk, vec![0x5a; 20_000])?;
    let inode = std::fs::metadata(&junk)?.ino();
    std::fs::rename(&junk, &path)?;
    let moved = stage.until(Duration::from_secs(5), |stage| stage.newest().is_some_and(|(now, _)| now > number));
    // Somebody clears it away, at last.
    if std::fs::metadata(&path).is_ok_and(|meta| meta.ino() == inode) {
        std::fs::remove_file(&path)?;
    }
    Ok(Landing::of(format!("generation {number}; moved on: {moved}")))
}

fn remove(stage: &mut Stage<'_>, path: &Path) -> Applied {
    if !crate::range::stage::is_below(&stage.root, path) {
        return Err(Hitch::Missed("that is not ours".into()));
    }
    let inode = std::fs::metadata(path)?.ino();
    // Somebody may be making a file in it: then it takes another turn.
    for _ in 0..100 {
        match std::fs::remove_dir_all(path) {
            Ok(()) => break,
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    if std::fs::metadata(path).is_ok_and(|meta| meta.ino() == inode) {
        return Err(Hitch::Missed("it could not be removed".into()));
    }
    Ok(Landing::of(path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Puts something where the next generation is to be, kills the writer, and takes it away again after a while.
fn squat(stage: &mut Stage<'_>, dice: &mut Dice, make: impl Fn(&Path, &[u8]) -> std::io::Result<()>) -> Applied {
    let Some((number, path)) = stage.newest() else { return Err(Hitch::Missed("there was nothing".into())) };
    let Some(at) = stage.writer() else { return Err(Hitch::Missed("there was no writer".into())) };
    let image = std::fs::read(path)?;
    let next = stage.generation_path(number + 1);
    match make(&next, &image) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Hitch::Missed("the next generation was there already".into()));
        }
        Err(error) => return Err(error.into()),
    }
    let squatter = std::fs::symlink_metadata(&next)?.ino();
    stage.strike(at, Signal::SIGKILL);
    let died = stage.until_dead(at);
    stage.run_for(Duration::from_millis(20 + dice.below(60)));
    clear(&next, squatter)?;
    if died {
        Ok(Landing::of(format!("generation {}", number + 1)))
    } else {
        Err(Hitch::Missed("it did not die".into()))
    }
}

fn clear(path: &PathBuf, inode: u64) -> Result<(), Hitch> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.ino() == inode && meta.is_dir() => Ok(std::fs::remove_dir(path)?),
        Ok(meta) if meta.ino() == inode => Ok(std::fs::remove_file(path)?),
        _ => Ok(()),
    }
}

fn squat_foreign(stage: &mut Stage<'_>, dice: &mut Dice) -> Applied {
    if !rustix::process::geteuid().is_root() {
        return Err(Hitch::Skipped("making another user's file takes root".into()));
    }
    squat(stage, dice, |path, image| {
        std::fs::write(path, image)?;
        std::os::unix::fs::chown(path, Some(65534), Some(65534))
    })
}

/// The present generation's bytes as those of another version's next one, with a sound checksum.
fn version(path: &Path, image: &[u8], major: u16, minor: u16) -> std::io::Result<()> {
    let mut bytes = image.to_vec();
    if bytes.len() < 256 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    bytes[8..10].copy_from_slice(&major.to_le_bytes());
    bytes[10..12].copy_from_slice(&minor.to_le_bytes());
    let generation = u64::from_le_bytes(bytes[64..72].try_into().unwrap_or_default()) + 1;
    bytes[64..72].copy_from_slice(&generation.to_le_bytes());
    reseal(&mut bytes);
    let file = File::options().write(true).create_new(true).open(path)?;
    file.write_all_at(&bytes, 0)
}

/// Makes the identity's checksum fit again.
pub(super) fn reseal(bytes: &mut [u8]) {
    let crc = Castagnoli::new().of(&[&bytes[..252]]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
}
