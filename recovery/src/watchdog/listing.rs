//! Names of a namespace's channels: listed anew when inotify tells that something in it came, went or changed, and now and then anyway.

use std::io;
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Watched};
use crate::namespace::{self, BIRTH_PREFIX, Namespace};

/// Longest time between two listings.
const FULL: Duration = Duration::from_secs(30);

/// What was listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<String>,
    births: bool,
    /// The namespace's folder under watch, and until when what it tells is enough.
    watched: Option<(Watched, Instant)>,
}

impl Listing {
    /// Brings it up to date. Where nothing is told (no inotify, or too much), by listing.
    pub(super) fn renew(&mut self, namespace: &Namespace, only: Option<&[String]>, inbox: &Inbox) -> io::Result<()> {
        let quiet = |(watched, until): &(Watched, Instant)| !inbox.stirred(watched) && Instant::now() < *until;
        if self.watched.as_ref().is_some_and(quiet) {
            return Ok(());
        }
        // The same folder has the same watch: the old one is given back before it is taken anew.
        self.watched = None;
        // Watched first, then listed: what comes in between is told.
        self.watched = inbox.watch(namespace.dir()).map(|watched| (watched, Instant::now() + FULL));
        let entries = namespace::entries(namespace.dir()).inspect_err(|_| self.watched = None)?;
        self.births = entries.iter().any(|name| name.starts_with(BIRTH_PREFIX));
        self.names = namespace::channels_of(entries);
        self.names.retain(|name| only.is_none_or(|only| only.contains(name)));
        Ok(())
    }

    /// Names of the channels, sorted.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether channels were being born in it, or births had died.
    pub(super) fn births(&self) -> bool {
        self.births
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is watched once more has the same watch: the old one goes first, or it takes the new one with it.
    #[test]
    fn once_listed_anew_it_is_quiet_until_something_comes() {
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let root = tempfile::Builder::new().prefix("ringward-test-").tempdir_in(base).unwrap();
        let namespace = Namespace::builder("test").root(root.path()).open().unwrap();
        let (mut inbox, mut listing) = (Inbox::new(), Listing::default());
        for name in ["a", "b", "c"] {
            std::fs::create_dir(namespace.path().join(name)).unwrap();
            inbox.take_in();
            listing.renew(&namespace, None, &inbox).unwrap();
            assert_eq!(listing.names().last().map(String::as_str), Some(name));
            inbox.take_in();
            let Some((watched, _)) = &listing.watched else {
                println!("SKIPPED: this system has no inotify watch left");
                return;
            };
            assert!(!inbox.stirred(watched), "after {name}");
        }
    }
}
