//! Builds the test programs with the bugs in them, in a target directory of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::bench::{Bench, Ending};
use super::instrument::{Instrument, Program};

/// Test programs by what they are.
#[derive(Debug)]
pub(super) struct Binaries {
    paths: BTreeMap<Program, PathBuf>,
    /// Where the sources are.
    pub(super) root: PathBuf,
}

impl Binaries {
    pub(super) fn path(&self, program: Program) -> Option<&Path> {
        self.paths.get(&program).map(PathBuf::as_path)
    }
}

/// Longest time for one build.
const LIMIT: Duration = Duration::from_secs(1200);

/// Builds the programs that these instruments need.
pub(super) fn build(root: &Path, bench: &Bench<'_>, instruments: &[Instrument]) -> Result<Binaries, String> {
    let needed: BTreeSet<Program> = instruments.iter().map(|instrument| instrument.program).collect();
    let mut binaries = Binaries { paths: BTreeMap::new(), root: root.to_owned() };
    // The models are another build of the same crate: its memory is on the heap there.
    let (models, plain): (Vec<Program>, Vec<Program>) =
        needed.into_iter().partition(|program| *program == Program::Models);
    for programs in [plain, models] {
        if !programs.is_empty() {
            build_some(root, bench, &programs, &mut binaries)?;
        }
    }
    Ok(binaries)
}

fn build_some(root: &Path, bench: &Bench<'_>, programs: &[Program], binaries: &mut Binaries) -> Result<(), String> {
    let models = programs == [Program::Models];
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root).args(["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--target-dir").arg(target(root));
    // Always the same packages, so that what they have in common is built once, whatever was asked for.
    let packages: &[&str] = if models { &["ringward-ring"] } else { &["ringward-ring", "ringward-recovery"] };
    for package in packages {
        cargo.args(["-p", package]);
    }
    cargo.args(["--lib", "--features", "ringward-ring/canaries"]);
    if models {
        cargo.args(["--features", "ringward-ring/loom"]);
    } else {
        cargo.args(["--test", "it"]);
    }
    // Nobody debugs these, and what they depend on need not be fast, but for the model checker itself.
    for setting in [
        "profile.test.debug = 0",
        "profile.test.incremental = false",
        "profile.test.package.\"*\".opt-level = 0",
        "profile.test.package.loom.opt-level = 3",
        "profile.test.package.generator.opt-level = 3",
    ] {
        if models || !setting.contains("loom") && !setting.contains("generator") {
            cargo.args(["--config", setting]);
        }
    }
    cargo.env("RINGWARD_BUILD_CANARIES", "1").env("CARGO_TERM_COLOR", "never");
    let run = bench.command(cargo, LIMIT);
    if run.ending != (Ending::Exited { code: 0 }) {
        return Err(format!("the build {}\n{}", run.ending, run.tail()));
    }
    for line in run.output.lines().filter(|line| line.starts_with('{')) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let Some(path) = message["executable"].as_str() else { continue };
        let library = message["target"]["kind"][0] == "lib";
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let folder = Path::new(manifest).parent().and_then(Path::file_name).and_then(|name| name.to_str());
        if let Some(program) =
            programs.iter().find(|program| Some(program.folder()) == folder && program.is_library() == library)
        {
            binaries.paths.insert(*program, PathBuf::from(path));
        }
    }
    match programs.iter().find(|program| binaries.path(**program).is_none()) {
        Some(missing) => Err(format!("cargo built no {}", missing.name())),
        None => Ok(()),
    }
}

/// Nothing that was built here lies where anything else looks.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("canaries")
}
