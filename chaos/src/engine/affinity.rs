//! Which cores a process runs on. The killer and whoever it stops and steps on one core trade the hand-over between cores for a
//! plain context switch, which is several times as quick.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::error::{EngineError, Result};

/// The cores that thread `tid` (0: the calling one) may run on.
///
/// # Errors
///
/// [`EngineError::System`], [`EngineError::Gone`].
pub fn cores(tid: i32) -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(tid)).map_err(EngineError::system("sched_getaffinity", tid))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Restricts thread `tid` (0: the calling one) to `cores`. Children and threads started later inherit it.
///
/// # Errors
///
/// [`EngineError::System`] (for example no such core), [`EngineError::Gone`].
pub fn pin(tid: i32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core).map_err(EngineError::system("sched_setaffinity", tid))?;
    }
    sched_setaffinity(Pid::from_raw(tid), &set).map_err(EngineError::system("sched_setaffinity", tid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_is_seen_and_undone() {
        let before = cores(0).unwrap();
        assert!(!before.is_empty());
        pin(0, &before[..1]).unwrap();
        assert_eq!(cores(0).unwrap(), &before[..1]);
        pin(0, &before).unwrap();
        assert_eq!(cores(0).unwrap(), before);
    }

    #[test]
    fn no_core_at_all_is_an_error() {
        assert!(pin(0, &[]).is_err());
    }
}
