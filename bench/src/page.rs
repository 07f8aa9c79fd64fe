//! Tables, made from the lines and from nothing else.

use std::fmt::Write;

use crate::harness::Line;
use crate::line::Class;
use crate::summary::{Median, median, peers, sizes};

/// A number with three digits that count.
pub fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

fn cell(found: Option<Median>, unit: f64) -> String {
    found.map_or_else(
        || "–".into(),
        |m| {
            let mark = if m.noisy { " †" } else { "" };
            format!("{} ({}..{}){mark}", short(m.mid / unit), short(m.min / unit), short(m.max / unit))
        },
    )
}

/// A size, as people say it.
pub fn bytes(size: usize) -> String {
    match size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}

/// Tables of all that was measured, in Markdown: a table for each work and class.
pub fn tables(lines: &[Line]) -> String {
    let mut out = String::new();
    for class in [Class::Near, Class::Far] {
        if !lines.iter().any(|line| line.class == class) {
            continue;
        }
        if lines.iter().any(|line| line.class == class && line.work == "trip") {
            let _ = writeln!(
                out,
                "**Round trip of 64 B, ns, processors {}**: median (least..most of the rounds)\n",
                class.name()
            );
            let _ = writeln!(out, "| peer | p50 | p99 | p99.9 |\n| --- | --- | --- | --- |");
            for peer in peers(lines, "trip") {
                let at = |key| cell(median(lines, "trip", 64, 0, &peer, class, key), 1.0);
                let _ = writeln!(out, "| {peer} | {} | {} | {} |", at("p50_ns"), at("p99_ns"), at("p999_ns"));
            }
            out.push('\n');
        }
        if lines.iter().any(|line| line.class == class && line.work == "flow") {
            let all = sizes(lines, "flow");
            let _ = writeln!(
                out,
                "**One way, thousand records a second, processors {}**: median (least..most)\n",
                class.name()
            );
            let head: Vec<_> = all.iter().map(|size| bytes(*size)).collect();
            let _ = writeln!(out, "| peer | {} |\n| --- |{}", head.join(" | "), " --- |".repeat(all.len()));
            for peer in peers(lines, "flow") {
                let row = all.iter().map(|size| cell(median(lines, "flow", *size, 0, &peer, class, "rate"), 1e3));
                let _ = writeln!(out, "| {peer} | {} |", row.collect::<Vec<_>>().join(" | "));
            }
            out.push('\n');
        }
        if lines.iter().any(|line| line.class == class && line.work == "fan") {
            let _ = writeln!(
                out,
                "**One writer, several readers, 1 KiB, thousand records a second and reader, processors {}**\n",
                class.name()
            );
            let _ = writeln!(out, "| peer | 1 reader | 8 readers |\n| --- | --- | --- |");
            for peer in peers(lines, "fan") {
                let at = |count| cell(median(lines, "fan", 1 << 10, count, &peer, class, "rate_1"), 1e3);
                let _ = writeln!(out, "| {peer} | {} | {} |", at(1), at(8));
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::line;

    #[test]
    fn a_table_has_what_was_measured_and_marks_what_was_disturbed() {
        let text = tables(&[line("a", Class::Near, 0.0, 1234e3), line("b", Class::Near, 0.9, 5e3)]);
        assert!(text.contains("| a | 1234 (1234..1234) |"), "{text}");
        assert!(text.contains("| b | 5.00 (5.00..5.00) † |"), "{text}");
        assert!(!text.contains("far"), "{text}");
    }
}
