//! One HTML file: figures, plots, tables. No script, nothing from elsewhere, readable on a phone and in the dark.

use serde_json::Value;

use super::{classes, escape, figures, plain, svg};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #667; --line: #d5d9de; --good: #1a7f4b; --bad: #c1272d; --main: #2463c5;
  --c0: #2463c5; --c1: #1a7f4b; --c2: #b7791f; --c3: #7a4fc0; --c4: #0f8b9e; --c5: #8a8f98; --c6: #c1272d; --c7: #b0507a }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #14171a; --soft: #9aa3ad; --line: #343a41; --good: #53c58a; --bad: #ff6b6b; --main: #7aa8f5;
  --c0: #7aa8f5; --c1: #53c58a; --c2: #e0b050; --c3: #b595f0; --c4: #56c4d6; --c5: #8a929c; --c6: #ff6b6b; --c7: #e08fb4 } }
* { box-sizing: border-box } body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem; margin: .2rem 0 } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem } p { margin: .3rem 0; color: var(--soft) }
.held { color: var(--good) } .violation { color: var(--bad) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .5rem 1.2rem; margin: .8rem 0 } dt { color: var(--soft); font-size: .8rem } dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .85rem } th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top } td.n { text-align: right }
svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) } .axis { stroke: var(--line) } .bar { fill: var(--main) } .line { fill: none; stroke: var(--main); stroke-width: 1.6 }
.hot { fill: var(--main) } .cold { fill: var(--bad); fill-opacity: .35 }
.c0 { fill: var(--c0) } .c1 { fill: var(--c1) } .c2 { fill: var(--c2) } .c3 { fill: var(--c3) } .c4 { fill: var(--c4) } .c5 { fill: var(--c5) } .c6 { fill: var(--c6) } .c7 { fill: var(--c7) }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .85rem; padding: 0; list-style: none } .key svg { width: .8rem; height: .8rem; display: inline-block }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; border-left: 3px solid var(--bad); padding-left: .6rem }
";

/// Outcomes, each with its colour.
const OUTCOMES: [&str; 8] =
    ["followed", "healed", "exact loss told", "typed error", "unknown loss told", "no effect", "violation", "other"];

pub(super) fn render(report: &Value) -> String {
    let verdict = escape(&plain(&report["verdict"]));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>chaos run: {verdict}</title><style>{STYLE}</style></head><body>\n<h1>chaos run: <span class=\"{verdict}\">{verdict}</span></h1>\n<dl>"
    );
    for (name, value) in figures(report) {
        page.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value)));
    }
    page.push_str("</dl>\n");
    violations(report, &mut page);
    recovery(report, &mut page);
    throughput(report, &mut page);
    strip(report, &mut page);
    faults(report, &mut page);
    for warning in report["warnings"].as_array().into_iter().flatten() {
        page.push_str(&format!("<p>Warning: {}</p>\n", escape(&plain(warning))));
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, title: &str, note: &str, plot: &str) {
    page.push_str(&format!("<h2>{}</h2><p>{}</p>{plot}\n", escape(title), escape(note)));
}

fn violations(report: &Value, page: &mut String) {
    let all: Vec<&Value> = report["violations"].as_array().into_iter().flatten().collect();
    if all.is_empty() {
        return;
    }
    page.push_str(&format!("<h2>{} violations</h2>", all.len()));
    for violation in all {
        page.push_str(&format!(
            "<pre>{}: {}</pre>",
            escape(&plain(&violation["kind"])),
            escape(&plain(&violation["what"]))
        ));
    }
}

/// Points of the series: time, and what `y` makes of a sample and the one before.
fn series(report: &Value, y: impl Fn(&Value, Option<&Value>) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let samples: Vec<&Value> = report["series"].as_array().into_iter().flatten().collect();
    let at = |index: usize| samples[index]["t_s"].as_f64();
    (0..samples.len())
        .filter_map(|index| Some((at(index)?, y(samples[index], index.checked_sub(1).map(|before| samples[before])))))
        .collect()
}

fn recovery(report: &Value, page: &mut String) {
    let histogram: Vec<(String, f64)> = report["recovery_in_storm_us"]["histogram"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|bucket| Some((format!("up to {} µs", svg::short(bucket[0].as_f64()?)), bucket[1].as_f64()?)))
        .collect();
    section(
        page,
        "Recovery in the storm",
        "From a writer's death to its successor's first record in a reader's hands, while processes are traced: each bar is twice as far.",
        &svg::bars("recovery times", &histogram),
    );
    section(
        page,
        "Recovery over time",
        "Median of each second, µs.",
        &svg::line("recovery over time", &series(report, |sample, _| sample["recovery_us"].as_f64())),
    );
}

fn throughput(report: &Value, page: &mut String) {
    let rate = |key: &'static str| {
        series(report, move |sample, before| {
            let before = before?;
            let time = sample["t_s"].as_f64()? - before["t_s"].as_f64()?;
            (time > 0.0).then_some((sample[key].as_f64()? - before[key].as_f64()?) / time)
        })
    };
    section(
        page,
        "Throughput under fire",
        "Records in readers' hands, each second.",
        &svg::line("records", &rate("delivered")),
    );
    section(page, "Kills", "Each second.", &svg::line("kills", &rate("kills")));
}

fn strip(report: &Value, page: &mut String) {
    let rows: Vec<(String, Vec<u64>)> = report["heat"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let hits = row["hits"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            (super::names::short(&plain(&row["function"])), hits)
        })
        .collect();
    section(
        page,
        "Kills by instruction",
        "Each cell is an instruction that a push executes, in the order of their addresses; the stronger, the more writers died there. Red: none.",
        &svg::heat("kills by instruction", &rows),
    );
}

fn faults(report: &Value, page: &mut String) {
    let lines = classes(report);
    if lines.is_empty() {
        return;
    }
    let colour = |outcome: &str| OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len() - 1);
    let rows: Vec<(String, Vec<svg::Part>)> = lines
        .iter()
        .map(|class| {
            let mut parts: Vec<svg::Part> = class["outcomes"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(outcome, count)| (colour(outcome), count.as_f64().unwrap_or(0.0), outcome.clone()))
                .collect();
            parts.sort_by_key(|part| part.0);
            (plain(&class["class"]), parts)
        })
        .collect();
    let key: String = OUTCOMES
        .iter()
        .enumerate()
        .map(|(at, outcome)| {
            format!(
                "<li><svg viewBox=\"0 0 8 8\"><rect class=\"c{at}\" width=\"8\" height=\"8\"/></svg> {outcome}</li>"
            )
        })
        .collect();
    section(
        page,
        "Faults and what they came to",
        "",
        &format!("<ul class=\"key\">{key}</ul>{}", svg::stacks("faults", &rows)),
    );
    page.push_str("<div class=\"scroll\"><table><tr><th>class</th><th>what</th><th>landed</th><th>missed</th><th>skipped</th></tr>");
    for class in lines {
        let number = |key: &str| escape(&plain(&class[key]));
        page.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{} {}</td></tr>",
            number("class"),
            number("what"),
            number("landed"),
            number("missed"),
            number("skipped"),
            number("skipped_reason")
        ));
    }
    page.push_str("</table></div>\n");
}
