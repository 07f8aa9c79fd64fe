//! What can't be, and what is refused: a code, an explanation, no panic.

use crate::bed::Bed;

#[test]
fn bad_usage_is_code_2() {
    for args in [
        &[][..],
        &["fly"],
        &["send"],
        &["send", "c", "--frame", "words"],
        &["send", "c", "--frame", "chunk:0"],
        &["send", "c", "--frame", "chunk:4kb"],
        &["send", "c", "--frame", "chunk:5GiB"],
        &["send", "c", "--frame", "chunk:1MiB"],
        &["send", "c", "--frame", "chunk:64", "--capacity", "0"],
        &["send", "c", "--capacity", "5000"],
        &["send", "c", "--capacity", "1"],
        &["send", "c", "--capacity", "18446744073709551615"],
        &["send", "c", "--record-limit", "1MiB"],
        &["send", "c", "--slots", "0"],
        &["send", "c", "--slots", "65"],
        &["send", "c", "--heartbeat", "2s", "--stall-timeout", "1s"],
        &["send", "c", "--heartbeat", "2h"],
        &["send", "c", "--chain", "1"],
        &["send", "c", "--when-full", "block:"],
        &["send", "c", "--cold"],
        &["send", "c", "--type", "-1"],
        &["send", "../c"],
        &["send", ""],
        &["recv", "c", "--durable"],
        &["recv", "c", "--framed", "--newline"],
        &["recv", "c", "--output", "f"],
        &["recv", ".c"],
        &["recv", "c", "--timeout", "soon"],
        &["inspect"],
        &["inspect", "a/b"],
        &["watch", "--mode", "kill"],
        &["check"],
        &["dump", "c", "--at", "here"],
        &["tail", "../c"],
        &["explain", "RW-NO-SUCH"],
        &["supersede"],
        &["kill-owner", ".c"],
        &["forget", "c"],
        &["top", "a/b"],
        &["snapshot", "c"],
        &["completions", "dos"],
        &["man", "fly"],
        &["ls", "--color", "sometimes"],
    ] {
        let bed = Bed::new();
        bed.namespace();
        let ended = bed.run(args, b"x\n");
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_reader_name_that_cannot_be_is_code_2() {
    let bed = Bed::new();
    bed.run(&["send", "c", "--no-close"], b"x\n").code(0);
    for name in ["", "a/b", "12345678901234567890123456789012"] {
        bed.run(&["recv", "c", "--name", name], b"").code(2);
    }
}

#[test]
fn refusals_are_code_1_and_carry_an_id() {
    let bed = Bed::new();
    let send = bed.start(&["send", "c", "--events", "json"]);
    send.note("writing");
    bed.run(&["send", "c"], b"x\n").code(1).says("RW-OPEN-OWNED").says(&send.pid().to_string());
    let recv = bed.start(&["recv", "c", "--durable", "--name", "d", "--events", "json"]);
    recv.note("joined");
    bed.run(&["recv", "c", "--durable", "--name", "d"], b"").code(1).says("RW-OPEN-HELD");
    bed.run(&["send", "long", "--capacity", "4KiB"], &[b'x'; 5000]).code(1).says("RW-PUSH-SIZE");
    bed.run(&["send", "c", "--root", "/proc"], b"").code(1).says("RW-NS-FS");
    bed.run(&["send", "c", "--root", "/nowhere/at/all"], b"").code(1).says("RW-NS-SYSTEM");
    let file = bed.root().join("f");
    std::fs::write(&file, [1; 100]).unwrap();
    let out = ["recv", "c", "--framed", "--output", bed.root().to_str().unwrap()];
    bed.run(&out, b"").code(1).says("RW-CTL-OUTPUT");
    send.end().code(0);
    recv.end().code(0);
}

#[test]
fn help_documents_the_exit_codes() {
    let bed = Bed::new();
    for command in [
        "send",
        "recv",
        "tail",
        "ls",
        "inspect",
        "check",
        "dump",
        "top",
        "doctor",
        "explain",
        "snapshot",
        "restore",
        "watch",
        "clean",
        "supersede",
        "kill-owner",
        "forget",
    ] {
        let help = String::from_utf8(bed.run(&[command, "--help"], b"").code(0).stdout).unwrap();
        assert!(help.contains("Exit codes:") && help.contains("143"), "{help}");
    }
}

#[test]
fn shells_and_man_get_every_command() {
    let bed = Bed::new();
    let text = |args: &[&str]| String::from_utf8(bed.run(args, b"").code(0).stdout).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let completions = text(&["completions", shell]);
        assert!(completions.contains("kill-owner") && completions.contains("stall-timeout"), "{shell}");
    }
    assert!(text(&["man"]).contains(".TH ringward 1"));
    assert!(text(&["man", "kill-owner"]).contains(".TH ringward-kill-owner 1"));
    let dir = bed.root().join("man");
    bed.run(&["man", "--dir", dir.to_str().unwrap()], b"").code(0);
    let pages = std::fs::read_dir(dir).unwrap().count();
    let help = text(&["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count();
    assert_eq!(pages, commands + 1);
}
