//! A report for people and for machines that don't read JSON: from the JSON document, and from nothing else.

mod html;
mod junit;
mod markdown;
mod names;
mod svg;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a report can be turned into, and where that goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Targets {
    /// Also writes the report as JUnit XML
    #[arg(long, value_name = "FILE.xml")]
    pub(crate) junit: Option<PathBuf>,
    /// Also writes the report as Markdown
    #[arg(long, value_name = "FILE.md")]
    pub(crate) markdown: Option<PathBuf>,
    /// Also writes the report as one HTML file with plots
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
}

impl Targets {
    /// Writes all that are asked for, each whole or not at all.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn write(&self, report: &Value) -> std::io::Result<()> {
        let write = |path: &Option<PathBuf>, make: fn(&Value) -> String| {
            path.as_ref().map_or(Ok(()), |path: &PathBuf| crate::report::write_whole(path, make(report).as_bytes()))
        };
        write(&self.junit, junit::render)?;
        write(&self.markdown, markdown::render)?;
        write(&self.html, html::render)
    }

    fn is_none(&self) -> bool {
        self.junit.is_none() && self.markdown.is_none() && self.html.is_none()
    }
}

/// `chaos report`: turns a JSON report into something else; with nothing asked for, prints Markdown.
pub(crate) fn convert(file: &Path, targets: &Targets) -> Result<(), String> {
    let told = |error: String| format!("{}: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| told(error.to_string()))?;
    let report = parse(&bytes).map_err(told)?;
    if targets.is_none() {
        use std::io::Write as _;
        let _ = std::io::stdout().write_all(markdown::render(&report).as_bytes());
    }
    targets.write(&report).map_err(|error| error.to_string())
}

/// Reads a report of `chaos run`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let report: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if !report["schema"].as_str().is_some_and(|schema| schema.starts_with("ringward-chaos-run/")) {
        return Err(format!("schema {}, a report of chaos run was expected", report["schema"]));
    }
    Ok(report)
}

/// All that a report can be turned into.
pub(crate) fn all(report: &Value) -> [String; 3] {
    [markdown::render(report), junit::render(report), html::render(report)]
}

/// A value as text, strings without quotes, nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// For HTML and XML; control characters that XML can't hold are left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {}
            letter => out.push(letter),
        }
    }
    out
}

/// The classes of faults in a report.
fn classes(report: &Value) -> Vec<&Value> {
    report["faults"]["classes"].as_array().into_iter().flatten().collect()
}

/// Figures that head every rendering: what, and how much.
fn figures(report: &Value) -> Vec<(&'static str, String)> {
    let number = |path: &str| plain(report.pointer(path).unwrap_or(&Value::Null));
    let quantiles = |key: &str| {
        let of = &report[key];
        format!("{} / {} / {} ({})", plain(&of["p50"]), plain(&of["p99"]), plain(&of["max"]), plain(&of["samples"]))
    };
    let records = ["lost", "duplicated", "torn", "reordered"];
    let bad: Vec<String> = records.iter().map(|key| format!("{key} {}", number(&format!("/records/{key}")))).collect();
    let mut figures = vec![
        ("seed", number("/seed")),
        ("time", format!("{} s", number("/elapsed_s"))),
        ("kernel", number("/kernel")),
        ("kills", number("/kills/total")),
        ("kills inside pushes", number("/kills/mid_push")),
        ("kill sites", format!("{} of {}", number("/kill_sites/hit"), number("/kill_sites/of"))),
        ("recover cycles per second", number("/cycles_per_s")),
        ("acknowledged", number("/records/acknowledged")),
        ("delivered", number("/records/delivered")),
        ("broken", bad.join(", ")),
        ("hangs, leaks", format!("{}, {}", number("/hangs"), number("/leaks"))),
        ("recovery µs: p50 / p99 / max (samples)", quantiles("recovery_us")),
        ("floor µs", quantiles("floor_us")),
    ];
    if report["faults"].is_object() {
        figures.push(("faults landed", number("/faults/landed")));
        figures.push(("trials", number("/faults/trials")));
        figures.push((
            "false deaths in controls",
            format!("{} of {}", number("/faults/false_deaths"), number("/faults/controls")),
        ));
    }
    figures.push(("again", number("/repeat")));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({
            "schema": "ringward-chaos-run/1", "seed": 5, "verdict": "violation", "elapsed_s": 1.5,
            "kills": { "total": 3, "mid_push": 2 },
            "violations": [{ "kind": "lost", "what": "record <3> & \"more\"\u{1}" }],
            "faults": { "landed": 2, "classes": [
                { "class": "kill-writer", "family": "processes", "what": "dies", "landed": 2, "missed": 0, "skipped": 0, "outcomes": { "followed": 2 } },
                { "class": "squat-foreign", "family": "files", "what": "x", "landed": 0, "missed": 0, "skipped": 1, "skipped_reason": "takes <root>", "outcomes": {} },
            ] },
            "series": [{ "t_s": 1.0, "kills": 1, "delivered": 10, "recovery_us": 5.0 }, { "t_s": 2.0, "kills": 3, "delivered": 30, "recovery_us": null }],
            "recovery_in_storm_us": { "samples": 3, "histogram": [[64, 1], [128, 2]] },
            "heat": [{ "function": "push", "hits": [0, 1, 9] }],
        })
    }

    #[test]
    fn what_is_in_the_report_is_in_each_rendering() {
        for text in [html::render(&sample()), junit::render(&sample()), markdown::render(&sample())] {
            assert!(text.contains("kill-writer") && text.contains("squat-foreign"), "{text}");
            assert!(!text.contains('\u{1}'), "{text}");
        }
        let page = html::render(&sample());
        assert!(page.contains("record &lt;3&gt; &amp; &quot;more&quot;"));
        assert!(page.contains("prefers-color-scheme") && page.contains("width=device-width"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "self-contained");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.matches("<svg").count() >= 4, "{page}");
    }

    #[test]
    fn junit_counts_what_failed_and_what_was_skipped() {
        let text = junit::render(&sample());
        assert!(text.contains("failures=\"1\"") && text.contains("skipped=\"1\""), "{text}");
        assert_eq!(text.matches("<testcase").count(), 3);
    }

    #[test]
    fn an_empty_report_is_rendered() {
        for render in [html::render, junit::render, markdown::render] {
            assert!(!render(&Value::Null).is_empty());
            assert!(!render(&json!({ "faults": { "classes": [1, null] }, "series": [1], "heat": 3 })).is_empty());
        }
    }
}
