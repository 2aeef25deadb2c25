//! The runbooks that there are: those that came with the program, and the operator's own in `DATA_DIR/runbooks`, which take the place of shipped ones of the same
//! name. The folder is read at each look, so a new file counts at once; a broken one is there with its line and its reason, and keeps no other from being used.

pub mod preview;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

pub use flotilla_agent::runbook::{
    Facts, FileError, Input, InputError, InputType, InputValue, Inputs, Lock, MOST_BYTES, Mode, ResultType, Role,
    Runbook, SHIPPED, Scope, Step, Values, input::resolve, parse, parse_steps,
};

/// Name of the folder within the data folder.
pub const FOLDER: &str = "runbooks";
/// Most files of the folder that are read.
const MOST_FILES: usize = 1_000;

/// Where runbooks are looked for.
#[derive(Debug, Clone, Default)]
pub struct Library {
    folder: PathBuf,
}

/// One runbook, or what was meant to be one.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name; of a broken file that of the file.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The file's text; empty where it can't be read.
    pub text: String,
    /// What it says, or why it says nothing.
    pub state: Result<Runbook, FileError>,
}

/// Where a runbook comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From the program.
    Shipped,
    /// From this file of the operator's.
    Own(PathBuf),
}

impl Library {
    /// The shipped ones, and those of a data folder.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// Where the operator's own files go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All of them, by name. Reads the folder: not for the async runtime's own threads.
    ///
    /// # Errors
    /// Where the folder is there and can't be read.
    pub fn all(&self) -> io::Result<Vec<Entry>> {
        let shipped = SHIPPED.iter().map(|(name, text)| Entry {
            name: (*name).to_owned(),
            origin: Origin::Shipped,
            text: (*text).to_owned(),
            state: parse(text),
        });
        let mut all: BTreeMap<String, Entry> = shipped.map(|entry| (entry.name.clone(), entry)).collect();
        for own in self.own()? {
            match all.get(&own.name) {
                Some(Entry { origin: Origin::Own(first), .. }) => {
                    let what = format!(
                        "the runbook {:?} is in {} already; give this one another name",
                        own.name,
                        first.display()
                    );
                    let name = own.stem();
                    // Under its file's name, so that it is seen and takes nobody's place.
                    let free = if all.contains_key(&name) { format!("{name} (again)") } else { name };
                    all.insert(free.clone(), Entry { name: free, state: Err(FileError { line: None, what }), ..own });
                }
                _ => {
                    all.insert(own.name.clone(), own);
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// The one of that name.
    ///
    /// # Errors
    /// As [`Library::all`].
    pub fn get(&self, name: &str) -> io::Result<Option<Entry>> {
        Ok(self.all()?.into_iter().find(|entry| entry.name == name))
    }

    /// The operator's own, in the order of their files' names.
    fn own(&self) -> io::Result<Vec<Entry>> {
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut paths = files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
        let visible = |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        paths.retain(|path| path.extension().is_some_and(|end| end == "toml") && visible(path));
        paths.sort();
        paths.truncate(MOST_FILES);
        Ok(paths.into_iter().map(read).collect())
    }
}

impl Entry {
    /// The name of its file, without its end.
    fn stem(&self) -> String {
        match &self.origin {
            Origin::Own(path) => stem(path),
            Origin::Shipped => self.name.clone(),
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// A file of the operator's.
fn read(path: PathBuf) -> Entry {
    let broken = |what: String| Err(FileError { line: None, what });
    let (text, state) = match read_text(&path) {
        Ok(text) => {
            let state = parse(&text);
            (text, state)
        }
        Err(e) => (String::new(), broken(format!("the file can't be read: {e}"))),
    };
    let name = state.as_ref().map_or_else(|_| stem(&path), |runbook| runbook.name.clone());
    Entry { name, origin: Origin::Own(path), text, state }
}

/// Pasted steps as the JSON array that they came from, those of the teardown last, of the text that [`parse_steps`] made of them; nothing of another text.
#[must_use]
pub fn steps_as_json(text: &str) -> Option<String> {
    let mut whole: toml::Table = text.parse().ok()?;
    let mut steps = Vec::new();
    for (list, last) in [("steps", false), ("teardown", true)] {
        let Some(toml::Value::Array(found)) = whole.remove(list) else { continue };
        for step in found {
            let mut step = serde_json::to_value(step).ok()?;
            if last {
                step.as_object_mut()?.insert("teardown".to_owned(), true.into());
            }
            steps.push(step);
        }
    }
    serde_json::to_string_pretty(&steps).ok()
}

/// A runbook's text, of which no more is read than one may have.
///
/// # Errors
/// Where it can't be read, is no text, or is too long.
pub fn read_text(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > MOST_BYTES as u64 {
        let what = format!("it has {length} bytes; at most {MOST_BYTES} can be");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        "name = \"greet\"\ntitle = \"Greet\"\n[[steps]]\ntype = \"local\"\nlabel = \"Say\"\ncmd = \"echo hello\"\n";

    fn library(files: &[(&str, &str)]) -> (tempfile::TempDir, Library) {
        let data = tempfile::tempdir().unwrap();
        let library = Library::of(data.path());
        fs::create_dir(data.path().join(FOLDER)).unwrap();
        for (name, text) in files {
            fs::write(data.path().join(FOLDER).join(name), text).unwrap();
        }
        (data, library)
    }

    #[test]
    fn shipped_ones_are_there_without_a_folder() {
        let all = Library::of(Path::new("/nowhere")).all().unwrap();
        assert_eq!(all.len(), SHIPPED.len());
        assert!(all.iter().all(|entry| entry.state.is_ok() && entry.origin == Origin::Shipped));
    }

    #[test]
    fn a_file_that_is_dropped_into_the_folder_counts_at_the_next_look() {
        let (data, library) = library(&[]);
        assert!(library.get("greet").unwrap().is_none());
        fs::write(data.path().join(FOLDER).join("any.toml"), OWN).unwrap();
        let entry = library.get("greet").unwrap().unwrap();
        assert_eq!((entry.text.as_str(), entry.state.unwrap().title.as_str()), (OWN, "Greet"));
    }

    #[test]
    fn an_own_one_takes_the_place_of_a_shipped_one_of_its_name() {
        let (_data, library) = library(&[("x.toml", &OWN.replace("greet", "check_status"))]);
        let entry = library.get("check_status").unwrap().unwrap();
        assert!(matches!(entry.origin, Origin::Own(_)));
        assert_eq!(library.all().unwrap().len(), SHIPPED.len());
    }

    #[test]
    fn a_broken_file_is_there_with_its_line_and_the_others_work() {
        let (_data, library) = library(&[
            ("bad.toml", &OWN.replace("cmd", "comand")),
            ("good.toml", OWN),
            (".x.toml", "?"),
            ("notes.txt", "?"),
        ]);
        let bad = library.get("bad").unwrap().unwrap().state.unwrap_err();
        assert_eq!(bad.line, Some(6), "{bad}");
        assert!(library.get("greet").unwrap().unwrap().state.is_ok());
        assert_eq!(library.all().unwrap().len(), SHIPPED.len() + 2);
    }

    #[test]
    fn two_files_of_one_name_are_not_taken_for_each_other() {
        let (_data, library) = library(&[("a.toml", OWN), ("b.toml", OWN)]);
        assert!(library.get("greet").unwrap().unwrap().state.is_ok());
        let second = library.get("b").unwrap().unwrap().state.unwrap_err();
        assert!(second.what.contains("a.toml"), "{second}");
    }

    #[test]
    fn pasted_steps_come_back_as_they_were_pasted() {
        let pasted = serde_json::json!([
            {"type": "ssh", "label": "One", "cmd": "echo '{{ 1 }}'", "env": {"A": "b"}},
            {"type": "local", "label": "Last", "cmd": "true", "teardown": true},
        ]);
        let (_, text) = parse_steps(&pasted.to_string()).unwrap();
        let again: serde_json::Value = serde_json::from_str(&steps_as_json(&text).unwrap()).unwrap();
        assert_eq!(again, pasted);
    }

    #[test]
    fn a_file_that_is_no_text_or_too_long_is_broken() {
        let (data, library) = library(&[("long.toml", &"#".repeat(MOST_BYTES + 1))]);
        fs::write(data.path().join(FOLDER).join("bytes.toml"), b"\xff\xfe").unwrap();
        for name in ["long", "bytes"] {
            assert!(library.get(name).unwrap().unwrap().state.unwrap_err().what.contains("can't be read"), "{name}");
        }
    }
}
