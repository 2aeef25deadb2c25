//! Writes every sample page with its assets into a folder, to be looked at: `cargo run --example gallery -- DIR`, then serve DIR.

use std::{fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/gallery".to_owned()));
    fs::create_dir_all(dir.join("assets"))?;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets"))? {
        let entry = entry?;
        fs::copy(entry.path(), dir.join("assets").join(entry.file_name()))?;
    }
    for (name, markup) in flotilla::views::samples::all() {
        fs::write(dir.join(format!("{name}.html")), markup.into_string())?;
    }
    Ok(())
}
