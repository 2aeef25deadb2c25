//! Private keys: read on the machine that connects, checked before anything is sent, wiped when they are let go.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_proto::Secret;
use russh::keys::{Error as ParseError, PrivateKey, decode_secret_key};

use super::{error::KeyError, target::SshKey};
use crate::blocking::blocking;

/// No private key is longer.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// A key ready for use.
#[derive(Debug, Clone)]
pub(super) struct LoadedKey {
    pub(super) key: Arc<PrivateKey>,
    /// What a person should know of it.
    pub(super) warning: Option<String>,
}

/// Reads and parses a key.
pub(super) fn load(key: &SshKey) -> Result<LoadedKey, KeyError> {
    match key {
        SshKey::Text(text) => Ok(LoadedKey { key: parse("the stored SSH key", text)?, warning: None }),
        SshKey::Path(path) => {
            let path = at_home(path);
            let (text, warning) = blocking(|| read(&path))?;
            Ok(LoadedKey { key: parse(&format!("the SSH key {}", path.display()), &text)?, warning })
        }
    }
}

fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn read(path: &Path) -> Result<(Secret, Option<String>), KeyError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        io::ErrorKind::PermissionDenied => {
            KeyError::Unreadable { path: path.to_owned(), why: "permission denied".into() }
        }
        _ => KeyError::Unreadable { path: path.to_owned(), why: error.to_string() },
    };
    let not_a_key = |why: &str| KeyError::NotAKey { what: format!("the SSH key {}", path.display()), why: why.into() };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        // A pipe would be waited for.
        return Err(not_a_key("it is no regular file"));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(MAX_KEY_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_KEY_BYTES {
        return Err(not_a_key("it is far too long"));
    }
    let text = str::from_utf8(&bytes).map_err(|_| not_a_key("it is not text"))?;
    Ok((Secret::from(text), readable_by_others(path, &metadata)))
}

#[cfg(unix)]
fn readable_by_others(path: &Path, metadata: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    let name = path.display();
    (mode & 0o077 != 0)
        .then(|| format!("the SSH key {name} is open to others on its machine (mode {mode:o}): chmod 600 {name}"))
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path, _: &std::fs::Metadata) -> Option<String> {
    None
}

fn parse(what: &str, text: &Secret) -> Result<Arc<PrivateKey>, KeyError> {
    let not_a_key = |why: &str| KeyError::NotAKey { what: what.to_owned(), why: why.to_owned() };
    // As pasted into a form: other line ends, blanks before and behind.
    let text = text.expose().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let text = zeroize::Zeroizing::new(text);
    let passphrase = || KeyError::Passphrase { what: what.to_owned() };
    if ["-----BEGIN ENCRYPTED", "Proc-Type: 4,ENCRYPTED"].iter().any(|sign| text.contains(sign)) {
        return Err(passphrase());
    }
    if text.starts_with("PuTTY-User-Key-File") && !text.contains("Encryption: none") {
        return Err(passphrase());
    }
    if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| text.starts_with(start)) || text.contains("PUBLIC KEY") {
        return Err(not_a_key("it is the public half; the private one is the file without .pub"));
    }
    match decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => Err(passphrase()),
        Ok(key) if matches!(key.algorithm().as_str(), "ssh-dss") => {
            Err(not_a_key("it is a DSA key, which servers no longer take"))
        }
        Ok(key) if key.algorithm().as_str().starts_with("sk-") => {
            Err(not_a_key("it needs a security key to be touched"))
        }
        Ok(key) => Ok(Arc::new(key)),
        Err(ParseError::KeyIsEncrypted) => Err(passphrase()),
        Err(ParseError::CouldNotReadKey) => Err(not_a_key("it has no BEGIN … PRIVATE KEY line")),
        Err(error) => Err(not_a_key(&error.to_string())),
    }
}
