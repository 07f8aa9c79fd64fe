//! Names of a namespace's channels: listed anew when inotify tells that something in it came, went or changed, and now and then anyway.

use std::io;
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Watched};
use crate::namespace::{self, BIRTH_PREFIX, Namespace, check_name};

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
        // Watched first, then listed: what comes in between is told.
        self.watched = inbox.watch(namespace.dir()).map(|watched| (watched, Instant::now() + FULL));
        let entries = namespace::entries(namespace.dir()).inspect_err(|_| self.watched = None)?;
        self.births = entries.iter().any(|name| name.starts_with(BIRTH_PREFIX));
        self.names = entries;
        self.names.retain(|name| {
            check_name("channel", name).is_ok() && only.is_none_or(|only| only.iter().any(|wanted| wanted == name))
        });
        self.names.sort_unstable();
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
