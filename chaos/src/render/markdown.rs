//! Markdown: figures, faults, violations.

use serde_json::Value;

use super::{classes, figures, plain};

/// In a table's cell.
fn cell(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect::<String>().replace('|', "\\|")
}

pub(super) fn render(report: &Value) -> String {
    let mut text = format!("# chaos run: {}\n\n| | |\n| --- | --- |\n", plain(&report["verdict"]));
    for (name, value) in figures(report) {
        text.push_str(&format!("| {name} | {} |\n", cell(&value)));
    }
    let lines = classes(report);
    if !lines.is_empty() {
        text.push_str(
            "\n## Faults\n\n| class | family | landed | outcomes | not landed |\n| --- | --- | --- | --- | --- |\n",
        );
    }
    for class in lines {
        let outcomes: Vec<String> = class["outcomes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        let reasons: Vec<String> = [("skipped", "skipped_reason"), ("missed", "missed_reason")]
            .iter()
            .filter(|(key, _)| class[*key].as_u64().unwrap_or(0) > 0)
            .map(|(key, why)| format!("{key} {}: {}", class[*key], plain(&class[*why])))
            .collect();
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            cell(&plain(&class["class"])),
            cell(&plain(&class["family"])),
            class["landed"],
            cell(&outcomes.join(", ")),
            cell(&reasons.join("; "))
        ));
    }
    for warning in report["warnings"].as_array().into_iter().flatten() {
        text.push_str(&format!("\nWarning: {}\n", cell(&plain(warning))));
    }
    let violations: Vec<&Value> = report["violations"].as_array().into_iter().flatten().collect();
    if !violations.is_empty() {
        text.push_str("\n## Violations\n\n");
    }
    for violation in violations {
        text.push_str(&format!("- **{}**: {}\n", cell(&plain(&violation["kind"])), cell(&plain(&violation["what"]))));
    }
    text
}
