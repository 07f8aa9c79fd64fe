//! `--resume`: a run that goes on where another one's report ends.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::RunArgs;

/// What an earlier run, or several, had come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Before {
    pub(crate) report: Value,
    runs: u64,
    elapsed: f64,
    kills: u64,
    acknowledged: u64,
    delivered: u64,
}

impl Before {
    /// Trials of the plan that are over.
    pub(crate) fn trials(&self) -> usize {
        usize::try_from(self.report["faults"]["trials"].as_u64().unwrap_or(0)).unwrap_or(0)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "runs": self.runs,
            "elapsed_s": (self.elapsed * 1000.0).round() / 1000.0,
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "delivered": self.delivered,
        })
    }
}

/// Reads a report, and makes `args` those of its run: seed and options are its, time and ends are those given now.
pub(crate) fn read(path: &Path, args: &mut RunArgs) -> Result<Before, String> {
    let told = |what: &str| format!("{}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|error| told(&error.to_string()))?;
    let before = parse(&bytes, args).map_err(|what| told(&what))?;
    args.report.get_or_insert_with(|| path.to_owned());
    Ok(before)
}

/// As [`read`], of what is in the file.
pub(crate) fn parse(bytes: &[u8], args: &mut RunArgs) -> Result<Before, String> {
    of(serde_json::from_slice(bytes).map_err(|error| error.to_string())?, args)
}

fn of(report: Value, args: &mut RunArgs) -> Result<Before, String> {
    if report["schema"] != "ringward-chaos-run/1" {
        return Err(format!("schema {}; a report of chaos run was expected", report["schema"]));
    }
    let options = &report["options"];
    let number = |value: &Value, name: &str| value.as_u64().ok_or_else(|| format!("{name} is missing"));
    let small = |value: &Value, name: &str| {
        number(value, name).and_then(|n| u32::try_from(n).map_err(|_| format!("{name} is too large")))
    };
    args.seed = Some(number(&report["seed"], "seed")?);
    args.kill_rate = options["kill_rate"].as_f64().ok_or("kill_rate is missing")?;
    args.readers = small(&options["readers"], "readers")?;
    args.standbys = small(&options["standbys"], "standbys")?;
    args.payload = (small(&options["payload"][0], "payload")?, small(&options["payload"][1], "payload")?);
    args.capacity = number(&options["capacity"], "capacity")?;
    args.faults = crate::faults::Rates::parse(options["faults"].as_str().unwrap_or("none"))?;
    let (past, records) = (&report["resumed"], &report["records"]);
    // By the bounds of the command line, which the file was not held to.
    let seed = args.seed.unwrap_or(0);
    let line = crate::report::repeat(args, seed);
    let words: Vec<&str> = line.split(' ').skip(2).collect();
    crate::cli::run_args(&words).and_then(|args| crate::cli::fits(&args))?;
    let sum = |a: &Value, b: &Value| a.as_u64().unwrap_or(0).saturating_add(b.as_u64().unwrap_or(0));
    Ok(Before {
        runs: past["runs"].as_u64().unwrap_or(0).saturating_add(1),
        elapsed: past["elapsed_s"].as_f64().unwrap_or(0.0) + report["elapsed_s"].as_f64().unwrap_or(0.0),
        kills: sum(&past["kills"], &report["kills"]["total"]),
        acknowledged: sum(&past["acknowledged"], &records["acknowledged"]),
        delivered: sum(&past["delivered"], &records["delivered"]),
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_to_go_on() {
        let mut args = crate::cli::run_args(&["--seed", "9", "--duration", "5s"]).unwrap();
        let report = json!({
            "schema": "ringward-chaos-run/1", "seed": 4, "elapsed_s": 2.5, "kills": { "total": 7 },
            "options": { "kill_rate": 0.5, "readers": 4, "standbys": 1, "payload": [1, 9], "capacity": 4096, "faults": "kill-writer" },
            "records": { "acknowledged": 10, "delivered": 20 }, "faults": { "trials": 3 },
            "resumed": { "runs": 1, "elapsed_s": 1.0, "kills": 1, "acknowledged": 1, "delivered": 1 },
        });
        let before = of(report.clone(), &mut args).unwrap();
        assert_eq!((args.seed, args.kill_rate, args.readers, args.payload), (Some(4), 0.5, 4, (1, 9)));
        assert_eq!(args.duration, Some(std::time::Duration::from_secs(5)), "that is this run's own");
        assert_eq!(before.trials(), 3);
        assert_eq!(
            before.to_json(),
            json!({ "runs": 2, "elapsed_s": 3.5, "kills": 8, "acknowledged": 11, "delivered": 21 })
        );
        for missing in ["schema", "seed", "options"] {
            let mut report = report.clone();
            report.as_object_mut().unwrap().remove(missing);
            assert!(of(report, &mut args).is_err(), "{missing}");
        }
    }

    #[test]
    fn what_the_command_line_would_refuse_is_refused() {
        let report = json!({
            "schema": "ringward-chaos-run/1", "seed": 4,
            "options": { "kill_rate": 0.5, "readers": 4, "standbys": 1, "payload": [1, 9], "capacity": 4096 },
            "kills": { "total": u64::MAX }, "resumed": { "runs": u64::MAX, "kills": 1 },
        });
        let mut args = crate::cli::run_args(&[]).unwrap();
        assert!(of(report.clone(), &mut args).is_ok(), "sums that are too large are no panic");
        for (option, value) in [
            ("kill_rate", json!(1.5)),
            ("readers", json!(4_000_000_000_u32)),
            ("standbys", json!(0)),
            ("payload", json!([9, 1])),
            ("payload", json!([0, 4096])),
            ("capacity", json!(0)),
            ("capacity", json!(5000)),
        ] {
            let mut report = report.clone();
            report["options"][option] = value.clone();
            assert!(of(report, &mut args).is_err(), "{option}: {value}");
        }
    }
}
