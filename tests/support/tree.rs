//! Files as they are on real machines, and a comparison that sees every difference.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
};

/// Bytes that neither compress nor repeat; the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a tree with everything that names and files can be.
pub(crate) fn write_odd_tree(root: &Path) {
    let names: [&[u8]; 9] = [
        b"plain.txt",
        b"with space.txt",
        b"line\nbreak",
        b"quotes \" and ' and \\",
        b"not utf-8 \xff\xfe\x80",
        "umlaut \u{fc} \u{2028} \u{1f6a2}".as_bytes(),
        b"-rf",
        b"$HOME `id` ;&|*?[x]",
        b"\x1b[31mred\x07",
    ];
    for (name, seed) in names.iter().zip(1..) {
        let folder = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(name)), noise(seed, 1000 * usize::try_from(seed).unwrap())).unwrap();
    }
    fs::write(root.join("empty file"), b"").unwrap();
    fs::create_dir_all(root.join("empty folder/in another")).unwrap();
    fs::write(root.join("holes"), vec![0; 3_000_000]).unwrap();
    fs::write(root.join("large"), noise(99, 2_500_000)).unwrap();
    symlink("plain.txt", root.join("link")).unwrap();
    symlink("nowhere at all", root.join("dangling link")).unwrap();
    symlink("..", root.join("link to a folder")).unwrap();
    fs::hard_link(root.join("large"), root.join("second name of large")).unwrap();
}

/// Writes `count` files of `size` bytes of noise.
pub(crate) fn write_files(root: &Path, count: u64, size: usize) {
    fs::create_dir_all(root).unwrap();
    for n in 1..=count {
        fs::write(root.join(format!("file-{n:05}.bin")), noise(n, size)).unwrap();
    }
}

/// What there is of a file, beside its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    owner: (u32, u32),
    changed: (i64, i64),
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Link(PathBuf),
    Folder,
}

/// Everything below `root`, by its name there as bytes.
pub(crate) fn entries(root: &Path) -> BTreeMap<OsString, Entry> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                folders.push(path.clone());
                Content::Folder
            } else if meta.is_symlink() {
                Content::Link(fs::read_link(&path).unwrap())
            } else {
                Content::File(fs::read(&path).unwrap())
            };
            let name = OsString::from_vec(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec());
            let changed = (meta.mtime(), meta.mtime_nsec());
            found.insert(name, Entry { mode: meta.mode(), owner: (meta.uid(), meta.gid()), changed, content });
        }
    }
    found
}

/// Asserts that two trees are the same, byte by byte.
pub(crate) fn assert_same(source: &Path, restored: &Path) {
    let (source, restored) = (entries(source), entries(restored));
    let names = |tree: &BTreeMap<OsString, Entry>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&source), names(&restored));
    assert!(source.len() > 20);
    for (name, entry) in &source {
        // Without the bytes, which would fill the screen.
        assert!(*entry == restored[name], "{name:?} differs");
    }
}
