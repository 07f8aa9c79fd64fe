//! Plots as inline SVG: no scripts, no fonts, colours from the page's variables.

use super::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 22.0;

fn frame(title: &str, height: f64, inner: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>{inner}</svg>",
        escape(title)
    )
}

/// A number with as few digits as it takes.
pub(super) fn short(value: f64) -> String {
    match value {
        v if !v.is_finite() => "?".into(),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 1e3 => format!("{:.1}k", v / 1e3),
        v if v >= 10.0 || v == v.trunc() => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn axes(most: f64, left: &str, right: &str) -> String {
    let base = HEIGHT - BOTTOM;
    format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{base}\" x2=\"{WIDTH}\" y2=\"{base}\"/>\
         <text x=\"{}\" y=\"14\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{foot}\">{left}</text><text x=\"{WIDTH}\" y=\"{foot}\" text-anchor=\"end\">{right}</text>",
        LEFT - 6.0,
        short(most),
        LEFT - 6.0,
        left = escape(left),
        right = escape(right),
        foot = HEIGHT - 6.0,
    )
}

/// Bars, one beside the other, with a label each in their titles.
pub(super) fn bars(title: &str, bars: &[(String, f64)]) -> String {
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let step = (WIDTH - LEFT) / bars.len().max(1) as f64;
    let mut inner = axes(most, bars.first().map_or("", |(label, _)| label), bars.last().map_or("", |(label, _)| label));
    for (at, (label, value)) in bars.iter().enumerate() {
        let height = if most > 0.0 { value / most * (HEIGHT - BOTTOM - 10.0) } else { 0.0 };
        inner.push_str(&format!(
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {}</title></rect>",
            LEFT + at as f64 * step + 0.5,
            HEIGHT - BOTTOM - height,
            (step - 1.0).max(0.5),
            escape(label),
            short(*value)
        ));
    }
    frame(title, HEIGHT, &inner)
}

/// A line through points; where there is none, it is broken.
pub(super) fn line(title: &str, points: &[(f64, Option<f64>)]) -> String {
    let most = points.iter().filter_map(|(_, y)| *y).fold(0.0, f64::max);
    let (from, to) = (points.first().map_or(0.0, |p| p.0), points.last().map_or(1.0, |p| p.0));
    let mut path = String::new();
    let mut down = false;
    for (x, y) in points {
        let Some(y) = y.filter(|y| y.is_finite()) else {
            down = false;
            continue;
        };
        let left = LEFT + (x - from) / (to - from).max(1e-9) * (WIDTH - LEFT - 4.0);
        let top = HEIGHT - BOTTOM - if most > 0.0 { y / most * (HEIGHT - BOTTOM - 10.0) } else { 0.0 };
        path.push_str(&format!("{}{left:.1} {top:.1} ", if down { "L" } else { "M" }));
        down = true;
    }
    let inner = axes(most, &format!("{} s", short(from)), &format!("{} s", short(to)));
    frame(title, HEIGHT, &format!("{inner}<path class=\"line\" d=\"{path}\"/>"))
}

/// A strip for each row: a cell for each count, the darker the more.
pub(super) fn heat(title: &str, rows: &[(String, Vec<u64>)]) -> String {
    const CELL: f64 = 5.0;
    const PER_LINE: usize = 126;
    let most = rows.iter().flat_map(|(_, counts)| counts).copied().max().unwrap_or(0).max(1) as f64;
    let mut inner = String::new();
    let mut top = 0.0;
    for (label, counts) in rows {
        let hit = counts.iter().filter(|count| **count > 0).count();
        inner.push_str(&format!(
            "<text x=\"0\" y=\"{:.0}\">{} ({hit} of {})</text>",
            top + 11.0,
            escape(label),
            counts.len()
        ));
        top += 16.0;
        for (at, count) in counts.iter().enumerate() {
            let (x, y) = ((at % PER_LINE) as f64 * CELL, top + (at / PER_LINE) as f64 * 13.0);
            let class = if *count == 0 { "cold" } else { "hot" };
            let share = ((1.0 + *count as f64).ln() / (1.0 + most).ln()).max(0.15);
            inner.push_str(&format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"4.4\" height=\"11\" fill-opacity=\"{share:.2}\"><title>{count}</title></rect>"
            ));
        }
        top += counts.len().div_ceil(PER_LINE) as f64 * 13.0 + 6.0;
    }
    frame(title, top.max(20.0), &inner)
}

/// A part of a bar: its colour, how long, what it is.
pub(super) type Part = (usize, f64, String);

/// One bar for each row, made of parts of different colours.
pub(super) fn stacks(title: &str, rows: &[(String, Vec<Part>)]) -> String {
    const ROW: f64 = 17.0;
    const NAMES: f64 = 190.0;
    let total = |parts: &[Part]| parts.iter().map(|part| part.1).sum::<f64>();
    let most = rows.iter().map(|(_, parts)| total(parts)).fold(0.0, f64::max).max(1.0);
    let mut inner = String::new();
    for (at, (label, parts)) in rows.iter().enumerate() {
        let y = at as f64 * ROW;
        inner.push_str(&format!(
            "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
            NAMES - 6.0,
            y + 12.0,
            escape(label)
        ));
        let mut x = NAMES;
        for (colour, value, what) in parts {
            let width = value / most * (WIDTH - NAMES);
            inner.push_str(&format!(
                "<rect class=\"c{colour}\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{:.0}\"><title>{}: {what} {}</title></rect>",
                ROW - 4.0,
                escape(label),
                short(*value),
                what = escape(what)
            ));
            x += width;
        }
    }
    frame(title, (rows.len() as f64 * ROW).max(20.0), &inner)
}
