//! Paths of a snapshot that a person picks, one by one and many at once: how they travel through forms unharmed, what a picked folder covers, what a download
//! is called, and what a safety snapshot is made of. Pure; a path is as `snapshot::check_folder` leaves it.

use std::collections::BTreeSet;

use crate::domain::{DumpForm, DumpSpec, snapshot::check_folder};

/// Paths that one restore may name. Whoever wants more picks a folder above them.
pub const MOST: usize = 500;

/// A path as a form's value: browsers change line breaks in values, so these, other control characters and `%` are written as `%` and two digits.
#[must_use]
pub fn to_field(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut out, c| {
        match c {
            '%' | '\u{0}'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("%{:02X}", u32::from(c))),
            _ => out.push(c),
        }
        out
    })
}

/// The path that a form's value stands for.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn of_field(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "holds a % without two digits behind it";
    let mut path = String::with_capacity(text.len());
    let mut parts = text.split('%');
    path.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        path.push(char::from(code.ok_or(BROKEN)?));
        path.push_str(&part[2..]);
    }
    check_folder(&path)
}

/// A name within a message: what would break the line stands as a picture of itself.
fn shown(path: &str) -> String {
    let picture = |c: char| match c {
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{FFFD}'),
        '\u{7f}' => '\u{2421}',
        c => c,
    };
    path.chars().map(picture).collect()
}

/// What was picked. A folder stands for all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picked(BTreeSet<String>);

impl Picked {
    /// Adds a path, unless a folder above it is picked. What it covers itself is no longer named.
    pub fn add(&mut self, path: String) {
        if self.0.contains(&path) || self.above(&path).is_some() {
            return;
        }
        let inside = if path == "/" { path.clone() } else { format!("{path}/") };
        self.0.retain(|other| !other.starts_with(&inside));
        self.0.insert(path);
    }

    /// Takes a path out.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Whether this very path was picked.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// The picked folder that a path lies in.
    #[must_use]
    pub fn above(&self, path: &str) -> Option<&str> {
        path.match_indices('/').map(|(at, _)| if at == 0 { "/" } else { &path[..at] }).find_map(|folder| {
            let own = folder == path;
            self.0.get(folder).filter(|_| !own).map(String::as_str)
        })
    }

    /// The paths in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// How many are named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was picked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A path that a download can ask for.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn sendable(path: &str) -> Result<String, &'static str> {
    let path = check_folder(path)?;
    if path.contains(char::REPLACEMENT_CHARACTER) {
        return Err(
            "holds bytes that are no UTF-8, which a download cannot ask for: download the folder that it is in, or restore it",
        );
    }
    Ok(path)
}

/// The paths of one archive, none of them twice or within another.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn several(paths: &[String]) -> Result<Vec<String>, String> {
    let mut picked = Picked::default();
    for path in paths {
        picked.add(sendable(path).map_err(|why| format!("{} {why}", shown(path)))?);
    }
    if picked.is_empty() {
        return Err("nothing is ticked: tick files or folders".to_owned());
    }
    if picked.len() > DumpSpec::MOST_PATHS {
        let most = DumpSpec::MOST_PATHS;
        return Err(format!("one archive is made of at most {most} paths: pick the folders that they lie in instead"));
    }
    Ok(picked.0.into_iter().collect())
}

/// What is to be saved before a restore of `paths` writes over it: the paths themselves; where a name holds bytes that were lost on the way here, the folder that
/// it lies in. `None` where that would be the whole machine.
#[must_use]
pub fn to_be_saved(paths: &[String]) -> Option<Vec<String>> {
    let mut saved = Picked::default();
    for path in paths {
        let path = match path.find(char::REPLACEMENT_CHARACTER) {
            Some(at) => path[..at].rfind('/').map_or("/", |slash| &path[..slash]),
            None => path,
        };
        if path.is_empty() || path == "/" {
            return None;
        }
        saved.add(path.to_owned());
    }
    (!saved.is_empty()).then(|| saved.0.into_iter().collect())
}

/// What the browser saves a download as. Never a path, never empty.
#[must_use]
pub fn file_name(path: &str, form: DumpForm, fallback: &str) -> String {
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(fallback);
    let safe = |c: char| if c.is_control() || r#"/\:*?"<>|"#.contains(c) { '_' } else { c };
    let mut name: String = last.chars().map(safe).collect();
    let bare = name.trim_matches(['.', ' ', '_']).is_empty();
    if bare {
        fallback.clone_into(&mut name);
    }
    match form {
        DumpForm::File => name,
        DumpForm::Tar => name + ".tar",
        DumpForm::Zip => name + ".zip",
    }
}

/// The header that names a download (RFC 6266): a name of ASCII for old browsers, the true one beside it.
#[must_use]
pub fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii() && !c.is_ascii_control() && !"\"\\%".contains(c) { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name))
}

/// Everything but letters, digits and `-._~` as `%` and two digits.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(paths: &[&str]) -> Picked {
        let mut picked = Picked::default();
        paths.iter().for_each(|path| picked.add((*path).to_owned()));
        picked
    }

    #[test]
    fn any_name_survives_a_form() {
        for path in ["/a\nb", "/a\r\nb", "/100% \"sure\"", "/%0A", "/a\u{FFFD}b", "/ blank ", "/tab\t\u{7f}", "/ü"] {
            let field = to_field(path);
            assert!(!field.chars().any(char::is_control), "{field:?}");
            assert_eq!(of_field(&field).as_deref(), Ok(path));
        }
        assert!(
            ["/%", "/%4", "/%zz", "/%ff", "/a%é0", "relative", "/a/../b"].iter().all(|text| of_field(text).is_err())
        );
    }

    #[test]
    fn a_picked_folder_stands_for_all_that_is_in_it() {
        let mut all = picked(&["/etc/hosts", "/etc/ssl/a", "/etcetera", "/etc"]);
        assert_eq!(all.iter().collect::<Vec<_>>(), ["/etc", "/etcetera"]);
        all.add("/etc/passwd".to_owned());
        assert_eq!(all.len(), 2);
        assert_eq!(all.above("/etc/ssl/a"), Some("/etc"));
        assert_eq!((all.above("/etc"), all.above("/etcet")), (None, None));
        all.remove("/etc");
        assert!(!all.has("/etc") && all.has("/etcetera"));
        assert_eq!(picked(&["/a", "/b/c", "/"]).iter().collect::<Vec<_>>(), ["/"]);
        assert_eq!(picked(&["/"]).above("/a"), Some("/"));
    }

    #[test]
    fn what_is_saved_first_is_what_would_be_written_over_and_never_the_whole_machine() {
        let of = |paths: &[&str]| to_be_saved(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["/srv/a", "/srv/b"]), Some(vec!["/srv/a".to_owned(), "/srv/b".to_owned()]));
        assert_eq!(of(&["/srv/x/a\u{FFFD}", "/srv/x/b"]), Some(vec!["/srv/x".to_owned()]));
        assert_eq!((of(&["/a\u{FFFD}"]), of(&["/"]), of(&[])), (None, None, None));
    }

    #[test]
    fn a_download_has_a_name_that_is_no_path_and_breaks_no_header() {
        assert_eq!(file_name("/srv/www", DumpForm::Tar, "x"), "www.tar");
        assert_eq!(file_name("/", DumpForm::Zip, "web-1-0a1b2c3d"), "web-1-0a1b2c3d.zip");
        assert_eq!(file_name("/a/..\\b\n\"c", DumpForm::File, "x"), ".._b__c");
        assert_eq!(file_name("/a/...", DumpForm::File, "x"), "x");
        let header = disposition("rést\"e; x=.txt");
        assert_eq!(header, "attachment; filename=\"r_st_e; x=.txt\"; filename*=UTF-8''r%C3%A9st%22e%3B%20x%3D.txt");
    }

    #[test]
    fn what_breaks_a_line_is_shown_as_a_picture() {
        assert_eq!(shown("/a\nb\u{7f}"), "/a␊b␡");
    }
}
