//! README.md: its code is code that is compiled and run, its commands exist.

use ringward_tests::{blocks, command_line, read, root};

#[test]
fn its_code_is_the_example() {
    let example = read("recovery/examples/quickstart.rs");
    let (_, code) = example.split_once("\n\n").expect("a doc comment, then the code");
    assert_eq!(blocks(&read("README.md"), "rust"), [code.trim_end()]);
}

#[test]
fn its_cargo_commands_name_packages_programs_and_options_that_exist() {
    let mut seen = 0;
    for document in ["README.md", "CONTRIBUTING.md", "RUNBOOK.md"] {
        let shell = blocks(&read(document), "sh").join("\n");
        for line in shell.lines().filter(|line| line.starts_with("cargo ")) {
            seen += 1;
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
            let Some(package) = after("-p") else { continue };
            let folder = package.strip_prefix("ringward-").unwrap_or_else(|| panic!("{line}: {package}"));
            let manifest = read(&format!("{folder}/Cargo.toml"));
            assert!(manifest.contains(&format!("name = \"{package}\"")), "{line}");
            if let Some(example) = after("--example") {
                assert!(root().join(folder).join(format!("examples/{example}.rs")).is_file(), "{line}");
            }
            if let Some(features) = after("--features") {
                assert!(manifest.contains(&format!("\n{features} = [")), "{line}");
            }
            let Some(at) = words.iter().position(|word| *word == "--") else { continue };
            let (source, common) = match folder {
                "chaos" => ("chaos/src/cli.rs", "Cli"),
                "ctl" => ("ctl/src/args.rs", "Place"),
                _ => panic!("{line}: {folder} has no program"),
            };
            if let Some(objection) = command_line(source).objects(&words[at + 1..], common) {
                panic!("{line}: {objection}");
            }
        }
    }
    assert!(seen >= 5, "only {seen} commands were found");
}

#[test]
fn the_options_of_the_chaos_run_are_read_rightly() {
    let chaos = command_line("chaos/src/cli.rs");
    assert_eq!(chaos.objects(&["run", "--duration", "60s", "--kill-rate", "0.1"], "Cli"), None);
    assert_eq!(chaos.objects(&["run", "--kill-rat", "1"], "Cli").as_deref(), Some("run has no --kill-rat"));
    assert!(chaos.objects(&["walk"], "Cli").is_some());
}
