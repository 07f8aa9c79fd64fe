//! The session, container and limits that this process runs in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Finding, Health, names};
use crate::units::show_size;

pub(super) fn findings() -> Vec<Finding> {
    vec![remove_ipc(), pid_namespace(), ipc_namespace(), descriptors(), file_size()]
}

/// Whether logind takes this user's files in /dev/shm away at the last logout.
fn remove_ipc() -> Finding {
    let new = |health, found: String| {
        Finding::new(
            "remove-ipc",
            health,
            found,
            "RemoveIPC=no in /etc/systemd/logind.conf, or `loginctl enable-linger USER`, or a system user for the service [RW-WD-VANISHED]",
            "nobody removes segments at a logout (RemoveIPC)",
        )
    };
    if !Path::new("/run/systemd/seats").exists() && !Path::new("/run/systemd/sessions").exists() {
        return new(Health::Well, "logind does not run here".to_owned());
    }
    let uid = rustix::process::geteuid().as_raw();
    if uid < 1000 {
        return new(Health::Well, format!("uid {uid} is a system user, which logind spares"));
    }
    let user = fs::read_to_string("/etc/passwd").unwrap_or_default().lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    if user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user).exists()) {
        return new(Health::Well, "this user lingers".to_owned());
    }
    // The main file, then fragments by their names: the last word counts.
    let mut files = vec!["/usr/lib/systemd/logind.conf".to_owned(), "/etc/systemd/logind.conf".to_owned()];
    let folders = ["/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"];
    let mut fragments: Vec<(String, String)> = folders
        .iter()
        .flat_map(|folder| {
            names(Path::new(folder)).into_iter().map(move |name| (name.clone(), format!("{folder}/{name}")))
        })
        .collect();
    fragments.sort();
    files.extend(fragments.into_iter().map(|(_, path)| path));
    let word =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).filter_map(|text| last_word(&text)).next_back();
    match word.as_deref() {
        Some("no" | "false" | "0" | "off") => new(Health::Well, "RemoveIPC=no".to_owned()),
        Some(word) => new(Health::Bad, format!("RemoveIPC={word}")),
        None => new(Health::Bad, "RemoveIPC is yes unless told otherwise, and nothing does".to_owned()),
    }
}

fn last_word(text: &str) -> Option<String> {
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("RemoveIPC"));
    words.filter_map(|rest| rest.trim_start().strip_prefix('=')).map(|word| word.trim().to_lowercase()).next_back()
}

fn pid_namespace() -> Finding {
    let new = |health, found: String| {
        Finding::new(
            "pid-namespace",
            health,
            found,
            "mount /proc, and run those who watch in the pid namespace of those who write (`shareProcessNamespace`): elsewhere owners can't \
             be told gone, and only their locks speak",
            "processes of the channels can be seen from here",
        )
    };
    let Ok(meta) = fs::metadata("/proc/self/ns/pid") else {
        return new(Health::Bad, "no /proc here".to_owned());
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let depth =
        status.lines().find_map(|line| line.strip_prefix("NSpid:")).map_or(1, |rest| rest.split_whitespace().count());
    if fs::read_to_string("/proc/1/stat").is_err() {
        return new(Health::Doubtful, format!("number {}; others' processes are hidden (hidepid)", meta.ino()));
    }
    new(Health::Well, format!("number {}, {} deep; other processes can be seen", meta.ino(), depth))
}

fn ipc_namespace() -> Finding {
    let number = fs::metadata("/proc/self/ns/ipc").map_or_else(|_| "unknown".to_owned(), |meta| meta.ino().to_string());
    let device =
        fs::metadata("/dev/shm").map_or_else(|error| error.to_string(), |meta| format!("device {}", meta.dev()));
    Finding::new(
        "ipc-namespace",
        Health::Well,
        format!("number {number}; /dev/shm is {device}: containers share channels only if they mount the same one"),
        "",
        "all containers of a channel mount the same root",
    )
}

fn descriptors() -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    let health = if limit.is_some_and(|limit| limit < 1024) { Health::Doubtful } else { Health::Well };
    let found = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("{limit} open files"));
    Finding::new(
        "descriptors",
        health,
        found,
        "raise it (`ulimit -n`, `LimitNOFILE=`): a reader or writer has a few open, a watchdog a few at a time",
        "there are descriptors for every channel that a process opens",
    )
}

fn file_size() -> Finding {
    let limit = getrlimit(Resource::Fsize).current;
    let found = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("files of at most {}", show_size(limit)));
    Finding::new(
        "file-size",
        if limit.is_some() { Health::Bad } else { Health::Well },
        found,
        "no limit on file sizes (`ulimit -f unlimited`, `LimitFSIZE=infinity`): beyond it a new segment is refused or its maker is killed",
        "no limit on the size of files is in the way of a segment",
    )
}

#[cfg(test)]
mod tests {
    use super::last_word;

    #[test]
    fn the_last_setting_that_is_no_comment_counts() {
        assert_eq!(last_word("#RemoveIPC=yes\n"), None);
        assert_eq!(last_word("[Login]\nRemoveIPC=yes\n RemoveIPC = No\n"), Some("no".into()));
    }
}
