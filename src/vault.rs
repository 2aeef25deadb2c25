//! Sealing of secrets: XChaCha20-Poly1305 under one master key, with the row's identity as associated data, so that a ciphertext moved
//! to another row does not open. The key never leaves this module.
//!
//! A sealed text is `version (1 byte, 1) ‖ nonce (24 bytes, random) ‖ ciphertext and tag`. Random 192-bit nonces need no counter.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

/// Why a secret could not be sealed or opened, or the key not be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key is there but no key.
    #[error("the master key in {from} is not 32 bytes in base64: restore it from your copy")]
    BadKey {
        /// Variable or file.
        from: String,
    },
    /// The key file can't be read or written.
    #[error("cannot use the master key file {path}: {source}", path = path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key file.
    #[error("the master key file {path} can be read by others than its owner: run `chmod 600` on it", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The text was sealed under another key, for another row, or is damaged.
    #[error(
        "a stored secret does not open: it was sealed under another master key, or the database was altered. \
         Put the right master key back (FLOTILLA_KEY, --key-file or master.key in the data folder)"
    )]
    Sealed,
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// Where the master key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Given by `FLOTILLA_KEY`.
    Environment,
    /// Read from a file.
    File(PathBuf),
    /// Made just now and written to a file: the operator should keep a copy elsewhere.
    Generated(PathBuf),
}

impl Vault {
    /// The key from `key` (base64, `FLOTILLA_KEY`), else from `file`, which is made (0600) if it does not exist.
    ///
    /// # Errors
    /// [`VaultError`] for a key that is none, or a file that can't be used.
    pub fn open(key: Option<&str>, file: &Path) -> Result<(Self, KeyOrigin), VaultError> {
        if let Some(text) = key {
            return Ok((Self::from_base64(text, "FLOTILLA_KEY")?, KeyOrigin::Environment));
        }
        match fs::read_to_string(file) {
            Ok(text) => {
                check_private(file)?;
                let text = Zeroizing::new(text);
                let vault = Self::from_base64(&text, &file.display().to_string())?;
                Ok((vault, KeyOrigin::File(file.to_owned())))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(key.as_mut_slice()).map_err(|_| VaultError::NoRandomness)?;
                let text = Zeroizing::new(STANDARD.encode(key.as_slice()) + "\n");
                write_private(file, text.as_bytes())
                    .map_err(|source| VaultError::KeyFile { path: file.to_owned(), source })?;
                Ok((Self::from_base64(&text, "the new key file")?, KeyOrigin::Generated(file.to_owned())))
            }
            Err(source) => Err(VaultError::KeyFile { path: file.to_owned(), source }),
        }
    }

    /// One under a key that every test knows.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        Self { cipher: XChaCha20Poly1305::new(&[7; 32].into()) }
    }

    fn from_base64(text: &str, from: &str) -> Result<Self, VaultError> {
        let refused = || VaultError::BadKey { from: from.to_owned() };
        let key = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| refused())?);
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| refused())?;
        Ok(Self { cipher })
    }

    /// Seals `plain` for the row that `identity` names, such as `repos/01J…/secrets`.
    ///
    /// # Errors
    /// [`VaultError::NoRandomness`]; sealing itself does not fail.
    pub fn seal(&self, identity: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
        let payload = Payload { msg: plain, aad: identity.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Sealed)?;
        let mut out = Vec::with_capacity(1 + NONCE + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Vault::seal`] made for the same `identity`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] for another key, another row, or altered bytes.
    pub fn open_sealed(&self, identity: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (version, rest) = sealed.split_first().ok_or(VaultError::Sealed)?;
        if *version != VERSION {
            return Err(VaultError::Sealed);
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(VaultError::Sealed)?;
        let payload = Payload { msg: text, aad: identity.as_bytes() };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| VaultError::Sealed)
    }
}

#[cfg(unix)]
fn check_private(file: &Path) -> Result<(), VaultError> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs::metadata(file).map_err(|source| VaultError::KeyFile { path: file.to_owned(), source })?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(VaultError::Exposed { path: file.to_owned() });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_file: &Path) -> Result<(), VaultError> {
    Ok(())
}

/// Writes a new file that only its owner may read, and has it on disk before returning: a key that seals something and is lost with a power
/// cut would take that something along.
fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut out = options.open(file)?;
    out.write_all(content)?;
    out.sync_all()?;
    if let Some(parent) = file.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        Vault::open(None, &dir.join("master.key")).unwrap().0
    }

    #[test]
    fn a_secret_opens_for_its_own_row_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let sealed = vault.seal("repos/1/secrets", b"hunter2").unwrap();
        assert_eq!(vault.open_sealed("repos/1/secrets", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(matches!(vault.open_sealed("repos/2/secrets", &sealed), Err(VaultError::Sealed)));
    }

    #[test]
    fn an_altered_or_cut_ciphertext_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let sealed = vault.seal("x", b"hunter2").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(vault.open_sealed("x", &altered).is_err(), "byte {at}");
            assert!(vault.open_sealed("x", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_generated_key_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = vault(dir.path()).seal("x", b"hunter2").unwrap();
        let (again, origin) = Vault::open(None, &dir.path().join("master.key")).unwrap();
        assert_eq!(again.open_sealed("x", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(matches!(origin, KeyOrigin::File(_)));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        vault(dir.path());
        let file = dir.path().join("master.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Vault::open(None, &file), Err(VaultError::Exposed { .. })));
    }

    #[test]
    fn a_key_that_is_none_names_where_it_came_from() {
        let refused = Vault::open(Some("c2hvcnQ="), Path::new("/nowhere")).err().unwrap();
        assert!(refused.to_string().contains("FLOTILLA_KEY"));
    }
}
