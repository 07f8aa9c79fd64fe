//! What the watchdog prints, at most so many lines about a channel in a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

/// Time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts lines by channel.
#[derive(Debug)]
pub(super) struct Journal {
    limit: u32,
    begun: Instant,
    said: HashMap<String, u32>,
}

impl Journal {
    pub(super) fn new(limit: u32) -> Journal {
        Journal { limit, begun: Instant::now(), said: HashMap::new() }
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether there may be another line about this channel.
    pub(super) fn may(&mut self, channel: &str) -> bool {
        let said = self.said.entry(channel.to_owned()).or_insert(0);
        *said = said.saturating_add(1);
        *said <= self.limit
    }

    /// Once a minute: a line for each channel about which lines were left out, and everything begins anew.
    pub(super) fn turn(&mut self, now: Instant, json: bool) -> Vec<String> {
        if now.saturating_duration_since(self.begun) < WINDOW {
            return Vec::new();
        }
        self.begun = now;
        self.end(json)
    }

    /// The same before the minute is over: nothing more will be said.
    pub(super) fn end(&mut self, json: bool) -> Vec<String> {
        let mut left: Vec<(String, u32)> = std::mem::take(&mut self.said)
            .into_iter()
            .filter_map(|(channel, said)| Some((channel, said.checked_sub(self.limit).filter(|left| *left > 0)?)))
            .collect();
        left.sort();
        let line = |(channel, lines): (String, u32)| {
            if json {
                format!(
                    "{}\n",
                    json!({"event": "suppressed", "id": "RW-WD-SUPPRESSED", "channel": channel, "lines": lines})
                )
            } else {
                format!("{channel}: {lines} more lines in the last minute were left out [RW-WD-SUPPRESSED]\n")
            }
        };
        left.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let mut journal = Journal::new(2);
        let said = (0..5).filter(|_| journal.may("c")).count();
        assert!(journal.may("d"));
        assert_eq!(said, 2);
        let later = Instant::now() + WINDOW;
        assert!(journal.turn(Instant::now(), false).is_empty());
        assert_eq!(
            journal.turn(later, false),
            ["c: 3 more lines in the last minute were left out [RW-WD-SUPPRESSED]\n"]
        );
        assert!(journal.may("c") && journal.turn(later, true).is_empty());
    }
}
