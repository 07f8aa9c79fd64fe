//! Puts what was measured into `docs/PERFORMANCE.md`, between the marks that stand there for it, and the plots beside it.

use std::path::Path;

use crate::Result;
use crate::harness::Line;
use crate::{line, machine, page, plot, target};

/// Writes the tables and the plots of `lines`, and a table of crashes if there is one, into a folder of documents.
///
/// # Errors
///
/// What the file system or drawing said, and that the marks are missing.
pub fn write(lines: &[Line], docs: &Path, crash: Option<&str>) -> Result<()> {
    let path = docs.join("PERFORMANCE.md");
    let mut text = std::fs::read_to_string(&path)?;
    let noisy = lines.iter().filter(|line| line.noisy()).count();
    let failed = lines.iter().filter(|line| line.error.is_some()).count();
    let about = format!(
        "{}, {} processors, Linux {}; {} runs, {noisy} of them beside other work (left out, or marked †), {failed} failed.\n\n",
        line::processor(),
        machine::processors().len(),
        machine::kernel(),
        lines.len(),
    );
    text = between(&text, "measured", &format!("{about}{}{}", target::page(lines), page::tables(lines)))?;
    if let Some(table) = crash {
        text = between(&text, "crash", table)?;
    }
    std::fs::write(path, text)?;
    plot::plots(lines, &docs.join("performance"))
}

/// `text` with `inside` between the marks of `name`.
fn between(text: &str, name: &str, inside: &str) -> Result<String> {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let missing = || format!("PERFORMANCE.md has no {open} followed by {close}");
    let (before, rest) = text.split_once(&open).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&close).ok_or_else(missing)?;
    Ok(format!("{before}{open}\n\n{}\n\n{close}{after}", inside.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "a <!-- measured --> old <!-- /measured --> b";
        let new = between(text, "measured", "new").expect("marks");
        assert_eq!(new, "a <!-- measured -->\n\nnew\n\n<!-- /measured --> b");
        assert_eq!(between(&new, "measured", "new").expect("marks"), new);
        assert!(between("a", "measured", "new").is_err());
    }
}
