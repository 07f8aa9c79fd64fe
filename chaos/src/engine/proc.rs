//! What /proc tells about a process. Everything is a snapshot of a moment that has passed; a process that is gone gives
//! an [`EngineError::Io`] with `NotFound` (or `ESRCH` from the middle of a read).

use std::fs;

use super::error::{EngineError, Result};

/// What a process or thread is doing, the letter that `ps` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(pub char);

impl State {
    /// Stopped by a tracer (`t`).
    #[must_use]
    pub fn is_traced_stop(self) -> bool {
        self.0 == 't'
    }

    /// Stopped by job control (`T`).
    #[must_use]
    pub fn is_stopped(self) -> bool {
        self.0 == 'T'
    }

    /// Dead, not reaped (`Z`), or being taken apart (`X`).
    #[must_use]
    pub fn is_dead(self) -> bool {
        matches!(self.0, 'Z' | 'X')
    }

    /// Asleep (`S` or `D`).
    #[must_use]
    pub fn is_asleep(self) -> bool {
        matches!(self.0, 'S' | 'D')
    }
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(EngineError::io(path))
}

fn malformed(pid: i32, file: &str) -> EngineError {
    EngineError::io(format!("/proc/{pid}/{file}"))(std::io::Error::from(std::io::ErrorKind::InvalidData))
}

/// Field `n` of /proc/PID/stat, counted as proc(5) does: 3 is the state.
fn stat_field(pid: i32, n: usize) -> Result<String> {
    let stat = read(pid, "stat")?;
    // The command's name may hold anything, blanks and parentheses too: fields count from the last one.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).ok_or_else(|| malformed(pid, "stat"))?;
    rest.split_ascii_whitespace().nth(n - 3).map(str::to_owned).ok_or_else(|| malformed(pid, "stat"))
}

/// R, S, D, T, t, Z …
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn state(pid: i32) -> Result<State> {
    stat_field(pid, 3).map(|field| State(field.chars().next().unwrap_or('?')))
}

/// When the process started, in clock ticks since boot: with the pid, its identity.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn start_time(pid: i32) -> Result<u64> {
    stat_field(pid, 22)?.parse().map_err(|_| malformed(pid, "stat"))
}

/// Bytes of memory that are resident, shared ones included.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn rss(pid: i32) -> Result<u64> {
    let statm = read(pid, "statm")?;
    let pages: u64 =
        statm.split_ascii_whitespace().nth(1).and_then(|w| w.parse().ok()).ok_or_else(|| malformed(pid, "statm"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Bytes of address space.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn virtual_bytes(pid: i32) -> Result<u64> {
    let statm = read(pid, "statm")?;
    let pages: u64 =
        statm.split_ascii_whitespace().next().and_then(|w| w.parse().ok()).ok_or_else(|| malformed(pid, "statm"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// How many descriptors are open. For the calling process this counts the one that reads the directory, once.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn fd_count(pid: i32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).map_err(EngineError::io(path))?.count())
}

/// How many mappings there are.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn maps_count(pid: i32) -> Result<usize> {
    Ok(read(pid, "maps")?.lines().count())
}

/// How many mappings are of files whose path contains `part` (a deleted file's does, too).
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn maps_of(pid: i32, part: &str) -> Result<usize> {
    Ok(read(pid, "maps")?.lines().filter(|line| line.contains(part)).count())
}

/// Thread ids.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(EngineError::io(path))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The process that thread `tid` belongs to.
///
/// # Errors
///
/// [`EngineError::Io`].
pub fn process_of(tid: i32) -> Result<i32> {
    let status = read(tid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|n| n.trim().parse().ok()).ok_or_else(|| malformed(tid, "status"))
}

/// Direct children of all threads of `pid`, zombies included.
///
/// # Errors
///
/// [`EngineError::Io`]; also where the kernel was built without CONFIG_PROC_CHILDREN.
pub fn children(pid: i32) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for tid in threads(pid)? {
        match read(pid, &format!("task/{tid}/children")) {
            Ok(line) => all.extend(line.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok())),
            Err(_) if read(pid, &format!("task/{tid}/stat")).is_err() => {}
            Err(error) => return Err(error),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_itself() {
        let me = std::process::id() as i32;
        assert!(start_time(me).unwrap() > 0);
        assert!(rss(me).unwrap() > 0);
        assert!(maps_count(me).unwrap() > 3);
        assert!(fd_count(me).unwrap() >= 3);
        assert!(threads(me).unwrap().contains(&me));
        assert_eq!(process_of(nix::unistd::gettid().as_raw()).unwrap(), me);
        assert!(!state(me).unwrap().is_dead());
    }

    #[test]
    fn nobody_is_an_error() {
        assert!(state(i32::MAX).is_err());
        assert!(children(i32::MAX).is_err());
    }
}
