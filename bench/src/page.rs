//! Tables, made from the lines and from nothing else.

use std::fmt::Write;

use crate::harness::Line;
use crate::line::Class;
use crate::summary::{Median, Pick};

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

/// A median with its range, divided by `unit`.
pub fn cell(found: Option<Median>, unit: f64) -> String {
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
        size if size >= 1 << 30 => format!("{} GiB", size >> 30),
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}

/// A table in Markdown, or nothing if it has no rows.
pub fn table(title: &str, head: &[String], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = format!("**{title}**\n\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out + "\n"
}

/// A row for each peer, a column for each pick; each with its heading and the unit that it is divided by.
fn by_peer(lines: &[Line], title: &str, columns: &[(String, Pick<'_>, f64)]) -> String {
    let Some((_, first, _)) = columns.first() else { return String::new() };
    let all = Pick { size: None, count: None, capacity: None, ..*first };
    let rows = all.peers(lines).into_iter().map(|peer| {
        let figures = columns.iter().map(|(_, pick, unit)| cell(pick.median(lines, &peer), *unit));
        std::iter::once(peer.clone()).chain(figures).collect::<Vec<_>>()
    });
    // Peers that have nothing in this class.
    let rows = rows.filter(|row| row[1..].iter().any(|cell| cell != "–")).collect();
    let head: Vec<_> = std::iter::once("peer".into()).chain(columns.iter().map(|column| column.0.clone())).collect();
    table(title, &head, rows)
}

/// A row for each value of what `of` says, a column for each figure.
fn by_value<T: Ord + Copy>(
    lines: &[Line],
    title: &str,
    (name, say): (&str, impl Fn(T) -> String),
    (of, narrow): (impl Fn(&Line) -> T, impl Fn(Pick<'static>, T) -> Pick<'static>),
    columns: &[(&str, Pick<'static>, &str, f64)],
) -> String {
    let Some((_, first, ..)) = columns.first() else { return String::new() };
    let rows = first.all(lines, of).into_iter().map(|value| {
        let figures = columns.iter().map(|(_, pick, peer, unit)| cell(narrow(*pick, value).median(lines, peer), *unit));
        std::iter::once(say(value)).chain(figures).collect()
    });
    let head = std::iter::once(name.to_owned()).chain(columns.iter().map(|column| column.0.to_owned()));
    table(title, &head.collect::<Vec<_>>(), rows.collect())
}

/// Tables of all that was measured, in Markdown.
pub fn tables(lines: &[Line]) -> String {
    let mut out = String::new();
    for class in Class::APART {
        let name = class.name();
        let trip = |head: &str, key| (head.to_owned(), Pick::of("trip", key).class(class), 1.0);
        let title = format!("Round trip of 64 B, ns, processors {name}: median (least..most of the rounds)");
        out += &by_peer(lines, &title, &[trip("p50", "p50_ns"), trip("p99", "p99_ns"), trip("p99.9", "p999_ns")]);
        let flow = Pick::of("flow", "rate").class(class);
        let columns = flow.all(lines, |line| line.size).into_iter().map(|size| (bytes(size), flow.size(size), 1e3));
        let title = format!("One way, thousand records a second, processors {name}");
        out += &by_peer(lines, &title, &columns.collect::<Vec<_>>());
        let lend = Pick::of("lend", "rate").class(class);
        let title =
            format!("In place, 1 MiB, thousand records a second, processors {name}: both sides touch the ends only");
        out += &by_peer(lines, &title, &[("rate".into(), lend, 1e3)]);
        let fan = Pick::of("fan", "rate_1").class(class).size(1 << 10);
        let title =
            format!("One writer, several readers, 1 KiB, thousand records a second and reader, processors {name}");
        out +=
            &by_peer(lines, &title, &[("1 reader".into(), fan.count(1), 1e3), ("8 readers".into(), fan.count(8), 1e3)]);
        let wake = |head: &str, key| (head.to_owned(), Pick::of("wake", key).class(class), 1e3);
        let title = format!("Round trip of 64 B with both sides asleep, µs, processors {name}");
        out += &by_peer(lines, &title, &[wake("p50", "p50_ns"), wake("p99", "p99_ns")]);
    }
    out += &own(lines);
    out += &by_peer(
        lines,
        "Opening, µs, medians: making the sending end, joining with the receiving end",
        &[("make".into(), Pick::of("open", "create_us"), 1.0), ("join".into(), Pick::of("open", "join_us"), 1.0)],
    );
    out
}

/// What only Ringward does.
fn own(lines: &[Line]) -> String {
    let mut out = String::new();
    let own = "ringward-own";
    let failover = |head, key| (head, Pick::of("failover", key), own, 1.0);
    out += &by_value(
        lines,
        "Failover to a hot standby, µs: SIGKILL to the successor's first record in a reader's hands; floor: SIGKILL to a bare lock's next holder",
        ("capacity", |capacity: u64| bytes(capacity as usize)),
        (|line| line.capacity, Pick::capacity),
        &[
            failover("p50", "p50_us"),
            failover("p99", "p99_us"),
            failover("floor p50", "floor_p50_us"),
            failover("floor p99", "floor_p99_us"),
        ],
    );
    let watch = |head, key, unit| (head, Pick::of("watch", key), own, unit);
    out += &by_value(
        lines,
        "A watchdog's look at all channels, each with a living owner",
        ("channels", |count: u64| count.to_string()),
        (|line| line.count, Pick::count),
        &[
            watch("first look, ms", "first_us", 1e3),
            watch("later looks, ms", "tick_us", 1e3),
            watch("bytes a channel", "bytes_per_channel", 1.0),
        ],
    );
    let idle = |head, key| (head, Pick::of("idle", key), own, 1e4);
    out += &by_value(
        lines,
        "At rest, percent of a processor",
        ("capacity", |capacity: u64| bytes(capacity as usize)),
        (|line| line.capacity, Pick::capacity),
        &[
            idle("parked reader", "reader_us_per_s"),
            idle("hot standby", "standby_us_per_s"),
            idle("watchdog", "watchdog_us_per_s"),
            idle("writer's beat", "writer_us_per_s"),
        ],
    );
    for class in Class::APART {
        let name = class.name();
        let rate = |count| Pick::of("growth", "rate").class(class).count(count);
        out += &by_value(
            lines,
            &format!("Growth of the record, thousand records a second, processors {name}"),
            ("payload", bytes),
            (|line| line.size, Pick::size),
            &[("ringward", rate(1), "ringward", 1e3), ("textbook", rate(1), "textbook", 1e3)],
        );
        out += &by_value(
            lines,
            &format!("Growth of the ring, records of 1 KiB, thousand a second, processors {name}"),
            ("capacity", |capacity: u64| bytes(capacity as usize)),
            (|line| line.capacity, Pick::capacity),
            &[("ringward", rate(0), "ringward", 1e3), ("textbook", rate(0), "textbook", 1e3)],
        );
        let fan = |key| Pick::of("fan", key).class(class).size(64);
        out += &by_value(
            lines,
            &format!("Growth of the audience, records of 64 B, thousand a second and reader, processors {name}"),
            ("readers", |count: u64| count.to_string()),
            (|line| line.count, Pick::count),
            &[("ringward", fan("rate_1"), "ringward", 1e3)],
        );
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
