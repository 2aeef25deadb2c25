//! Reads along what processes print to files that their owner empties or removes behind itself. Invariant: what was printed is here before the owner lets go of
//! it; where this comes too late, it says so.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Far less than the owner takes to read a file, to sync what it read, and to empty it.
const LOOK: Duration = Duration::from_millis(5);

/// One file, by what was read of it.
#[derive(Clone)]
pub(crate) struct Printed {
    /// The name of the folder that it lay in.
    pub(crate) folder: String,
    pub(crate) text: Vec<u8>,
}

struct Open {
    file: File,
    printed: Printed,
}

type Files = Arc<Mutex<HashMap<u64, Open>>>;

/// Reads the file `name` of every folder in a folder along, until it is dropped.
pub(crate) struct ReadAlong {
    files: Files,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAlong {
    pub(crate) fn begin(folders: PathBuf, name: &'static str) -> Self {
        let files = Files::default();
        let (stop, stopped) = mpsc::channel();
        let own = Arc::clone(&files);
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                look(&folders, name, &mut own.lock().unwrap());
            }
        });
        Self { files, stop: Some(stop), thread: Some(thread) }
    }

    /// All files that there ever were. Zeros stand where this came too late.
    pub(crate) fn printed(&self) -> Vec<Printed> {
        self.files.lock().unwrap().values().map(|open| open.printed.clone()).collect()
    }
}

impl Drop for ReadAlong {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

fn look(folders: &Path, name: &str, files: &mut HashMap<u64, Open>) {
    for entry in fs::read_dir(folders).into_iter().flatten().flatten() {
        let Ok(file) = File::open(entry.path().join(name)) else { continue };
        // An open file keeps its number, so none is given twice.
        let Ok(number) = file.metadata().map(|meta| meta.ino()) else { continue };
        files.entry(number).or_insert_with(|| {
            let folder = entry.file_name().to_string_lossy().into_owned();
            Open { file, printed: Printed { folder, text: Vec::new() } }
        });
    }
    for open in files.values_mut() {
        open.file.read_to_end(&mut open.printed.text).ok();
    }
}
