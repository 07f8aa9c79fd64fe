//! The pictures of a terminal in docs/pictures show what the tool prints today.
//!
//! `RINGWARD_PICTURES=1 cargo test -p ringward-ctl --test it pictures` draws them anew.

use std::fmt::Write;
use std::path::Path;

use crate::scene::{Scene, masked};

const WIDTH: f64 = 7.83;
const HEIGHT: f64 = 18.0;

/// What the tool's colours look like here, and which text is bold.
fn look(code: &str) -> (&'static str, bool) {
    match code {
        "2" => ("#7f848e", false),
        "36" => ("#56b6c2", false),
        "1" => ("#ffffff", true),
        "32" => ("#98c379", false),
        "33" => ("#e5c07b", false),
        "1;31" => ("#ff6b70", true),
        "0" => ("#c8ccd4", false),
        other => panic!("a colour without a look: {other}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A terminal with a command and what it printed.
fn drawn(command: &str, output: &str) -> String {
    let shown = format!("\x1b[2m$ \x1b[0m{command}\n{output}");
    let (rows, mut columns, mut texts) = (shown.lines().count(), 0, String::new());
    let mut style = look("0");
    for (row, line) in shown.lines().enumerate() {
        let mut column = 0;
        let mut put = |text: &str, (fill, bold): (&str, bool)| {
            if !text.trim().is_empty() {
                let (x, y) = (12.0 + column as f64 * WIDTH, 24.0 + row as f64 * HEIGHT);
                let weight = if bold { " font-weight=\"bold\"" } else { "" };
                let length = text.chars().count() as f64 * WIDTH;
                let _ = writeln!(
                    texts,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\"{weight} textLength=\"{length:.1}\">{}</text>",
                    escaped(text)
                );
            }
            column += text.chars().count();
        };
        let mut rest = line;
        while let Some((text, code)) = rest.split_once("\x1b[") {
            put(text, style);
            let (code, after) = code.split_once('m').unwrap();
            (style, rest) = (look(code), after);
        }
        put(rest, style);
        columns = columns.max(column);
        let _ = writeln!(texts, "<!-- line -->");
    }
    let (width, height) = (24.0 + columns as f64 * WIDTH, 18.0 + rows as f64 * HEIGHT);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',monospace\" font-size=\"13\" xml:space=\"preserve\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#21252b\"/>\n{texts}</svg>\n"
    )
}

/// The words of a picture, line by line, colours included, and nothing that differs from run to run.
fn words(svg: &str) -> String {
    let mut lines = String::new();
    for line in svg.lines() {
        if line == "<!-- line -->" {
            lines.push('\n');
        }
        let Some((head, text)) = line.strip_prefix("<text ").and_then(|line| line.split_once('>')) else { continue };
        let fill = head.split_once("fill=\"").and_then(|(_, fill)| fill.split('"').next()).unwrap();
        let fill = fill.replace(|c: char| c.is_ascii_digit(), "x");
        let _ = write!(lines, " {fill} {} ", text.trim_end_matches("</text>"));
    }
    masked(&lines)
}

#[test]
fn the_pictures_show_what_is_printed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/pictures");
    let draw = std::env::var_os("RINGWARD_PICTURES").is_some();
    let scene = Scene::new();
    let here = scene.bed.root().to_str().unwrap();
    for (name, command) in [
        ("top", "ringward top --once"),
        ("inspect", "ringward inspect c"),
        ("dump", "ringward dump c --at 0 --pieces 2"),
    ] {
        let mut args: Vec<&str> = command.split(' ').skip(1).collect();
        args.extend(["--color", "always"]);
        let output = scene.text(&args).replace(here, "/dev/shm").replace("/dev/shm/test", "/dev/shm/ringward-1000");
        let picture = drawn(command, output.trim_end());
        let file = folder.join(format!("{name}.svg"));
        if draw {
            std::fs::write(&file, &picture).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(words(&there), words(&picture), "{name}.svg is old: draw it anew, and look at it");
    }
}
