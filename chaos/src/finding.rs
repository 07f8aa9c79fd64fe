//! The file that a violation leaves: all that somebody else needs to look at it and to try it again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::RunArgs;
use crate::decode::Castagnoli;
use crate::faults::{self, Class};
use crate::plan::Plan;
use crate::range::Finding;

/// Name and version of the format.
pub(crate) const SCHEMA: &str = "ringward-chaos-violation/1";
/// Bytes of a file of ours at most.
const MOST_BYTES: u64 = 256 << 20;

/// What is read back from such a file, or from a plan.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) plan: Plan,
    /// The lie that the judge is told, if the violation was made on purpose.
    pub(crate) plant: Option<&'static Class>,
    /// Kinds of promise that were broken; none in a plan that nobody has performed.
    pub(crate) kinds: Vec<String>,
    /// A violation of the storm: its options.
    pub(crate) storm: Option<Value>,
    /// Build that it was found with.
    pub(crate) build: Option<String>,
}

/// This build: version, profile, and a checksum of the program.
pub(crate) fn build_id() -> String {
    let bytes = std::env::current_exe().and_then(std::fs::read).unwrap_or_default();
    format!(
        "{} {} crc32c:{:08x} {} bytes",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "debug" } else { "release" },
        Castagnoli::new().of(&[&bytes]),
        bytes.len()
    )
}

/// `chaos`, as it was called.
pub(crate) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "chaos".into())
}

/// The document for a trial of `plan_seed`'s plan that broke something.
pub(crate) fn document(finding: &Finding, seed: u64, plant: Option<&'static Class>, path: &Path) -> Value {
    let plan = Plan { seed, trials: vec![finding.trial.clone()] };
    let result = &finding.result;
    let violations: Vec<Value> =
        result.broken.iter().map(|(broken, what)| json!({ "kind": broken.name(), "what": what })).collect();
    let fates: Vec<Value> = result
        .fates
        .iter()
        .map(|fate| json!({ "class": fate.class.name, "applied": format!("{:?}", fate.applied), "outcome": fate.outcome }))
        .collect();
    let images: Vec<Value> = result.images.iter().map(|(name, bytes)| image(name, bytes)).collect();
    json!({
        "schema": SCHEMA,
        "repeat": format!("{} replay {}", program(), path.display()),
        "exactness": "statistical: the same trial with the same choices; the interleaving is the machine's",
        "build": build_id(),
        "kernel": crate::report::kernel(),
        "seed": seed,
        "plan": plan.to_string(),
        "plant": plant.map(|class| class.name),
        "storm": Value::Null,
        "kinds": result.kinds(),
        "violations": violations,
        "faults": fates,
        "ledger_tail": result.tail,
        "notes_and_stacks": result.notes,
        "segments": images,
    })
}

/// The file that a violation of the storm leaves.
pub(crate) fn storm_document(
    args: &RunArgs,
    seed: u64,
    report: &Value,
    notes: &str,
    tail: &[String],
    path: &Path,
) -> Value {
    let repeat = crate::report::repeat(args, seed);
    let options: Vec<&str> = repeat.split(' ').skip(2).collect();
    let violations = report["violations"].as_array().cloned().unwrap_or_default();
    let mut kinds: Vec<Value> = violations.iter().map(|violation| violation["kind"].clone()).collect();
    kinds.dedup();
    json!({
        "schema": SCHEMA,
        "repeat": format!("{} replay {}", program(), path.display()),
        "exactness": "statistical: the same choices; the interleaving is the machine's",
        "build": build_id(),
        "kernel": crate::report::kernel(),
        "seed": seed,
        "plan": Plan { seed, trials: Vec::new() }.to_string(),
        "plant": Value::Null,
        "storm": { "options": options },
        "kinds": kinds,
        "violations": violations,
        "faults": [],
        "ledger_tail": tail,
        "notes_and_stacks": notes,
        "segments": [],
        "report": report,
    })
}

/// A segment's bytes: those 64-byte lines that are not all zeros, as base64.
fn image(name: &str, bytes: &[u8]) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    let mut at = 0;
    let zero = |line: &[u8]| line.iter().all(|byte| *byte == 0);
    let lines: Vec<&[u8]> = bytes.chunks(64).collect();
    while at < lines.len() {
        let from = at;
        while at < lines.len() && !zero(lines[at]) {
            at += 1;
        }
        if at > from {
            parts.push(json!({ "at": from * 64, "base64": base64(&bytes[from * 64..(at * 64).min(bytes.len())]) }));
        }
        at += 1;
    }
    json!({ "name": name, "bytes": bytes.len(), "parts": parts })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Writes a document beside its place and renames it there.
pub(crate) fn write(path: &Path, document: &Value) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    crate::report::write_whole(path, text.as_bytes())
}

/// Reads a violation's file, or a plan.
///
/// # Errors
///
/// For people: what is wrong with the file.
pub(crate) fn read(path: &PathBuf) -> Result<Case, String> {
    let told = |what: String| format!("{}: {what}", path.display());
    let len = std::fs::metadata(path).map_err(|error| told(error.to_string()))?.len();
    if len > MOST_BYTES {
        return Err(told(format!("{len} bytes; a plan or a violation has at most {MOST_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|error| told(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| told(error.to_string()))?;
    parse(&text).map_err(told)
}

/// As [`read`], of what is in the file.
pub(crate) fn parse(text: &str) -> Result<Case, String> {
    if !text.trim_start().starts_with('{') {
        let plan = Plan::parse(text).map_err(|error| error.to_string())?;
        return Ok(Case { plan, plant: None, kinds: Vec::new(), storm: None, build: None });
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value["schema"] != SCHEMA {
        return Err(format!("schema {}, {SCHEMA:?} was expected", value["schema"]));
    }
    let plan = Plan::parse(value["plan"].as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
    let plant = match value["plant"].as_str() {
        None => None,
        Some(name) => Some(faults::class(name).ok_or_else(|| format!("there is no class {name:?}"))?),
    };
    let kinds = value["kinds"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let storm = Some(value["storm"].clone()).filter(|storm| !storm.is_null());
    Ok(Case { plan, plant, kinds, storm, build: value["build"].as_str().map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_base64() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn images_leave_zeros_out() {
        let mut bytes = vec![0; 1000];
        bytes[130] = 1;
        bytes[999] = 2;
        let image = image("x", &bytes);
        let parts = image["parts"].as_array().unwrap();
        assert_eq!(parts.iter().map(|part| part["at"].as_u64().unwrap()).collect::<Vec<_>>(), [128, 960]);
    }

    #[test]
    fn a_storm_from_somebody_else_names_no_file_of_this_machine() {
        let words = "--seed 4 --payload 0..9 --root /a --report /b --html /c --junit /d --markdown /e --resume /f --shared-root";
        let storm = |words: &str| json!({ "options": words.split(' ').collect::<Vec<_>>() });
        let args = crate::run::storm_args(&storm(words), None).unwrap();
        assert_eq!(args.seed, Some(4));
        let targets = [&args.targets.html, &args.targets.junit, &args.targets.markdown];
        assert!([&args.root, &args.report, &args.resume].into_iter().chain(targets).all(Option::is_none), "{args:?}");
        assert!(!args.shared_root);
        assert!(crate::run::storm_args(&storm("--payload 0..4096 --capacity 4096"), None).is_err(), "they don't fit");
    }

    #[test]
    fn any_text_is_a_case_or_an_error() {
        for text in ["", "{", "{}", "{\"schema\":\"ringward-chaos-violation/1\"}", "plan", "[1]"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let plan = "ringward-chaos plan 1\nseed 3\n";
        assert_eq!(parse(plan).unwrap().plan.seed, 3);
        let text = json!({ "schema": SCHEMA, "plan": plan, "plant": "kill-writer", "kinds": ["lost"] }).to_string();
        let case = parse(&text).unwrap();
        assert_eq!((case.kinds, case.plant.map(|class| class.name)), (vec!["lost".to_owned()], Some("kill-writer")));
        assert!(parse(&text.replace("kill-writer", "nobody")).is_err());
    }
}
