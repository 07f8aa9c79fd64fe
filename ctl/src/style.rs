//! Colours, where somebody sees them.

use std::io::{IsTerminal, stdout};

use crate::args::{Color, Place};

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tint {
    /// Offsets, padding: there if needed.
    Dim,
    /// Names of fields.
    Name,
    /// Borders and headings.
    Head,
    Good,
    Doubtful,
    Bad,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    /// As the command line says; else on a terminal that can, unless `NO_COLOR` is set.
    pub(crate) fn of(place: &Place) -> Style {
        let on = match place.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                stdout().is_terminal() && !unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Style { on }
    }

    /// The text, coloured or not.
    pub(crate) fn paint(self, tint: Tint, text: &str) -> String {
        let code = match tint {
            Tint::Dim => "2",
            Tint::Name => "36",
            Tint::Head => "1",
            Tint::Good => "32",
            Tint::Doubtful => "33",
            Tint::Bad => "1;31",
        };
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The text, tinted as what is concluded by a verdict deserves; what is well is left as it is.
    pub(crate) fn judge(self, verdict_id: &str, text: &str) -> String {
        match verdict_id {
            "RW-WD-LIVE" => text.to_owned(),
            "RW-WD-DRAINING" | "RW-WD-GRACE" | "RW-WD-DYING" => self.paint(Tint::Doubtful, text),
            _ => self.paint(Tint::Bad, text),
        }
    }

    /// A table's line: the heading is row 0, then come those of channels with these verdicts.
    pub(crate) fn row(self, row: usize, text: &str, verdict_of: impl Fn(usize) -> &'static str) -> String {
        match row.checked_sub(1) {
            None => self.paint(Tint::Head, text),
            Some(channel) => self.judge(verdict_of(channel), text),
        }
    }
}
