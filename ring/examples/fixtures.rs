//! Makes the golden segments and their MANIFEST again, bit for bit: `cargo run -p ringward-ring --example fixtures`.
//!
//! Writes into `fixtures/` of this repository, or into the folder that is given.

use std::path::PathBuf;

#[path = "../tests/it/golden.rs"]
mod golden;

fn main() -> std::io::Result<()> {
    let ours = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let folder = std::env::args_os().nth(1).map_or_else(ours, PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let all = golden::all();
    for golden in &all {
        std::fs::write(folder.join(golden.name), &golden.bytes)?;
    }
    std::fs::write(folder.join("MANIFEST"), golden::manifest(&all))?;
    println!("{} golden segments in {}", all.len(), folder.display());
    Ok(())
}
