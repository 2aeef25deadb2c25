//! Sample data for the demo: a small site with names that break careless tools; and the comparison of two trees, byte by byte.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// Writes the sample files into `folder`.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let texts = [
        ("index.html", "<!doctype html><title>A small site</title><h1>It works</h1>\n"),
        ("notes/día de muertos – 日本語.txt", "names beyond ASCII\n"),
        ("notes/with \"quotes\" and 'apostrophes'.txt", "quotes\n"),
        ("notes/ leading space", "spaces\n"),
        ("notes/-rf", "a name that looks like a flag\n"),
        ("empty", ""),
    ];
    for (name, text) in texts {
        put(&folder.join(name), text.as_bytes())?;
    }
    fs::create_dir_all(folder.join("an empty folder"))?;
    // Bytes that do not compress, so that the upload is worth watching. Their own seed each, so that nothing is deduplicated away.
    for n in 0..48u32 {
        put(&folder.join(format!("media/photo-{n:03}.bin")), &noise(n, 512 * 1024))?;
    }
    put(&folder.join("database/dump.sql"), &dump())?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("index.html", folder.join("home"))?;
    Ok(())
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

/// Xorshift: incompressible, the same every time, nothing that needs to be secure.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn dump() -> Vec<u8> {
    let mut sql = String::from("BEGIN;\n");
    for n in 0..20_000 {
        sql.push_str(&format!(
            "INSERT INTO orders (id, customer, total) VALUES ({n}, 'customer {}', {});\n",
            n % 311,
            n * 7
        ));
    }
    sql.push_str("COMMIT;\n");
    sql.into_bytes()
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
}

fn tree(root: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            let entry = if kind.is_dir() {
                pending.push(path.clone());
                Entry::Folder
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(&path)?)
            } else {
                Entry::File(fs::read(&path)?)
            };
            found.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), entry);
        }
    }
    Ok(found)
}

/// Compares two trees. Returns how many files are the same.
///
/// # Errors
/// The first difference, by its path.
pub(super) fn compare(source: &Path, restored: &Path) -> anyhow::Result<usize> {
    let want = tree(source).with_context(|| format!("cannot read {}", source.display()))?;
    let have = tree(restored).with_context(|| format!("cannot read {}", restored.display()))?;
    for (path, entry) in &want {
        match have.get(path) {
            Some(same) if same == entry => {}
            Some(_) => bail!("{} differs after the restore", path.display()),
            None => bail!("{} is missing after the restore", path.display()),
        }
    }
    if let Some(extra) = have.keys().find(|path| !want.contains_key(*path)) {
        bail!("{} was not there before the backup", extra.display());
    }
    Ok(want.values().filter(|entry| matches!(entry, Entry::File(_))).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_content_absence_and_excess_are_found() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&a, &b] {
            put(&dir.path().join("sub/file"), b"same").unwrap();
        }
        assert_eq!(compare(a.path(), b.path()).unwrap(), 1);
        put(&b.path().join("extra"), b"").unwrap();
        assert!(compare(a.path(), b.path()).unwrap_err().to_string().contains("extra"));
        put(&a.path().join("extra"), b"x").unwrap();
        assert!(compare(a.path(), b.path()).unwrap_err().to_string().contains("differs"));
        fs::remove_file(b.path().join("extra")).unwrap();
        assert!(compare(a.path(), b.path()).unwrap_err().to_string().contains("missing"));
    }
}
