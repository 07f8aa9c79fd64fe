//! JUnit XML: a test case for the storm's promises, and one for each class of faults.

use serde_json::Value;

use super::{classes, escape, plain};

pub(super) fn render(report: &Value) -> String {
    let verdict = plain(&report["verdict"]);
    let violations: Vec<&Value> = report["violations"].as_array().into_iter().flatten().collect();
    let mut cases = Vec::new();
    let mut failures = 0;
    let mut skipped = 0;
    let seconds = report["elapsed_s"].as_f64().unwrap_or(0.0);
    let mut inner = String::new();
    if !violations.is_empty() {
        failures += 1;
        let kind = plain(&violations[0]["kind"]);
        let all: Vec<String> =
            violations.iter().map(|v| format!("{}: {}", plain(&v["kind"]), plain(&v["what"]))).collect();
        inner = format!(
            "<failure type=\"{}\" message=\"{}\">{}</failure>",
            escape(&kind),
            escape(&plain(&report["repeat"])),
            escape(&all.join("\n"))
        );
    } else if verdict == "inconclusive" {
        skipped += 1;
        inner = "<skipped message=\"nothing was tried\"/>".into();
    }
    cases.push(format!(
        "  <testcase classname=\"chaos.run\" name=\"every promise is kept\" time=\"{seconds}\">{inner}</testcase>"
    ));
    for class in classes(report) {
        let name = format!("chaos.faults.{}", plain(&class["family"]));
        let outcomes = &class["outcomes"];
        let inner = if outcomes["violation"].as_u64().unwrap_or(0) > 0 {
            failures += 1;
            "<failure type=\"violation\" message=\"see every promise is kept\"/>".to_owned()
        } else if class["landed"].as_u64().unwrap_or(0) == 0 {
            skipped += 1;
            let why = [plain(&class["skipped_reason"]), plain(&class["missed_reason"])].concat();
            format!("<skipped message=\"{}\"/>", escape(&why))
        } else {
            format!("<system-out>{}</system-out>", escape(&format!("landed {}: {outcomes}", class["landed"])))
        };
        cases.push(format!(
            "  <testcase classname=\"{}\" name=\"{}\" time=\"0\">{inner}</testcase>",
            escape(&name),
            escape(&plain(&class["class"]))
        ));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"chaos run\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds}\">\n{}\n</testsuite>\n",
        cases.len(),
        cases.join("\n")
    )
}
