//! Plots in SVG, made from the lines and from nothing else.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;
use crate::harness::Line;
use crate::line::Class;
use crate::page::short;
use crate::summary::Pick;

/// A named line through points.
type Series = (String, Vec<(f64, f64)>);

/// How an axis says a value.
type Say<'a> = &'a dyn Fn(&f64) -> String;

const SIZE: (u32, u32) = (760, 430);
/// Share of the width that is left free for the names.
const FOR_NAMES: f64 = 0.32;

/// Bytes in powers of ten, where the axis has its marks.
fn decimal(bytes: f64) -> String {
    match bytes.round() {
        b if b >= 1e9 => format!("{} GB", b / 1e9),
        b if b >= 1e6 => format!("{} MB", b / 1e6),
        b if b >= 1e3 => format!("{} kB", b / 1e3),
        b => format!("{b} B"),
    }
}

/// Both axes are logarithmic. Nothing is written if there is nothing to show.
fn draw(path: &Path, title: &str, (x_name, say_x): (&str, Say<'_>), y_name: &str, all: &[Series]) -> Result<()> {
    let points = || all.iter().flat_map(|(_, points)| points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let range = |of: fn(&(f64, f64)) -> f64, room: f64| {
        let least = points().map(of).fold(f64::INFINITY, f64::min);
        let most = points().map(of).fold(0.0, f64::max);
        least / 1.15..most * 1.15 * (most / least).powf(room)
    };
    if points().count() < 2 {
        return Ok(());
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(range(|p| p.0, FOR_NAMES).log_scale(), range(|p| p.1, 0.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|x| say_x(x))
        .y_label_formatter(&|y| short(*y))
        .light_line_style(BLACK.mix(0.06))
        .draw()?;
    for (at, (name, points)) in all.iter().filter(|(_, points)| !points.is_empty()).enumerate() {
        let colour = Palette99::pick(at).to_rgba();
        // Ours are the ones that are looked for.
        let width = if name.starts_with("ringward") { 3 } else { 1 };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(width)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(width)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 2 + width as i32, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

/// Of each peer, the medians of a figure over what `of` says.
fn medians(
    lines: &[Line],
    pick: Pick<'static>,
    of: impl Fn(&Line) -> u64,
    narrow: impl Fn(Pick<'static>, u64) -> Pick<'static>,
    unit: f64,
) -> Vec<Series> {
    let values = pick.all(lines, of);
    let one = |peer: String| {
        let at = |value: &u64| {
            let median = narrow(pick, *value).median(lines, &peer)?;
            Some((*value as f64, median.mid / unit))
        };
        let points = values.iter().filter_map(at).collect();
        (peer, points)
    };
    pick.peers(lines).into_iter().map(one).collect()
}

/// All plots, into a directory.
///
/// # Errors
///
/// What drawing or the file system said.
pub fn plots(lines: &[Line], into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let size: Say<'_> = &|x| decimal(*x);
    let number: Say<'_> = &|x| format!("{}", x.round());
    let by_size = |pick: Pick<'static>, size| pick.size(size as usize);
    for class in Class::APART {
        let name = class.name();
        let rates = Pick::of("flow", "rate").class(class);
        let all = medians(lines, rates, |line| line.size as u64, by_size, 1e3);
        let title = format!("One way, two processes, processors {name}");
        draw(&into.join(format!("flow-{name}.svg")), &title, ("payload", size), "thousand records a second", &all)?;
        let keys = [(50.0, "p50_ns"), (99.0, "p99_ns"), (99.9, "p999_ns")];
        let peers = Pick::of("trip", "p50_ns").class(class).peers(lines);
        let trips: Vec<Series> = peers
            .into_iter()
            .map(|peer| {
                let at = |&(percent, key): &(f64, &'static str)| {
                    let median = Pick::of("trip", key).class(class).median(lines, &peer)?;
                    Some((1.0 / (100.0 - percent), median.mid))
                };
                let points = keys.iter().filter_map(at).collect();
                (peer, points)
            })
            .collect();
        let percent: Say<'_> = &|x| format!("{}", 100.0 - 1.0 / x);
        draw(
            &into.join(format!("trip-{name}.svg")),
            &format!("Round trip of 64 B, processors {name}"),
            ("percentile", percent),
            "ns",
            &trips,
        )?;
        let growth = |count| Pick::of("growth", "rate").class(class).count(count);
        let all = medians(lines, growth(1), |line| line.size as u64, by_size, 1e3);
        draw(
            &into.join(format!("record-{name}.svg")),
            &format!("Growth of the record, processors {name}"),
            ("payload", size),
            "thousand records a second",
            &all,
        )?;
        let all = medians(lines, growth(0), |line| line.capacity, Pick::capacity, 1e3);
        draw(
            &into.join(format!("capacity-{name}.svg")),
            &format!("Growth of the ring, records of 1 KiB, processors {name}"),
            ("capacity", size),
            "thousand records a second",
            &all,
        )?;
        let audience = Pick::of("fan", "rate_1").class(class).size(64);
        let all = medians(lines, audience, |line| line.count, Pick::count, 1e3);
        draw(
            &into.join(format!("readers-{name}.svg")),
            &format!("Growth of the audience, records of 64 B, processors {name}"),
            ("readers", number),
            "thousand records a second and reader",
            &all,
        )?;
    }
    let figure = |work, key, name: &str, by_capacity: bool, unit| {
        let pick = Pick::of(work, key);
        let all = if by_capacity {
            medians(lines, pick, |line| line.capacity, Pick::capacity, unit)
        } else {
            medians(lines, pick, |line| line.count, Pick::count, unit)
        };
        all.into_iter().map(|(_, points)| (name.to_owned(), points)).collect::<Vec<_>>()
    };
    let failover = [
        figure("failover", "p50_us", "ringward p50", true, 1.0),
        figure("failover", "p99_us", "ringward p99", true, 1.0),
        figure("failover", "floor_p50_us", "bare lock p50", true, 1.0),
        figure("failover", "floor_p99_us", "bare lock p99", true, 1.0),
    ]
    .concat();
    draw(
        &into.join("failover.svg"),
        "SIGKILL to the successor's first record in a reader's hands",
        ("capacity", size),
        "µs",
        &failover,
    )?;
    let watch = [
        figure("watch", "first_us", "ringward, first look", false, 1e3),
        figure("watch", "tick_us", "ringward, later looks", false, 1e3),
    ]
    .concat();
    draw(&into.join("watchdog.svg"), "A watchdog's look at all channels", ("channels", number), "ms", &watch)
}
