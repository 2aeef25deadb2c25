//! Where a host is and how it is known: address, user, private key, pinned host key. Nothing here speaks to it.

use std::{fmt, path::PathBuf, time::Duration};

use flotilla_proto::Secret;

use super::{error::SshError, script::quote};

/// A host reached by SSH.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Its name in Flotilla, for texts.
    pub name: String,
    /// Name or address on the network.
    pub address: String,
    /// Where its sshd listens.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// With which key.
    pub key: SshKey,
    /// The key that the host must prove to have. Without one a connection ends with [`SshError::HostKeyUnknown`], before anything is told to the host.
    pub host_key: Option<HostKey>,
}

/// A private key without a passphrase: Ed25519, ECDSA or RSA, in any of OpenSSH's formats.
#[derive(Debug, Clone)]
pub enum SshKey {
    /// A file on the machine that connects; `~/` is its user's home.
    Path(PathBuf),
    /// The key itself.
    Text(Secret),
}

/// A host key as a person compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// `SHA256:` and 43 characters, as `ssh-keygen -lf` prints it.
    pub fingerprint: String,
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa` …, where it is known: a host with several keys is then asked for this one.
    pub algorithm: Option<String>,
}

impl HostKey {
    /// A fingerprint that somebody typed.
    ///
    /// # Errors
    /// Where it is no SHA-256 fingerprint; with what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        const DIGEST_CHARS: usize = 43;
        let text = text.trim().trim_end_matches('=');
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
        match text.strip_prefix("SHA256:") {
            Some(digest) if digest.len() == DIGEST_CHARS && digest.chars().all(is_base64) => {
                Ok(Self { fingerprint: text.to_owned(), algorithm: None })
            }
            _ => Err("a host key's fingerprint is SHA256: and 43 characters; on the host, ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub prints it".into()),
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            Some(algorithm) => write!(f, "{} ({algorithm})", self.fingerprint),
            None => f.write_str(&self.fingerprint),
        }
    }
}

/// How long each stage may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Finding the address and being let in by the network.
    pub connect: Duration,
    /// From there to common keys: a server that accepts and then says nothing.
    pub handshake: Duration,
    /// Logging in.
    pub authenticate: Duration,
    /// A session or a file transfer on a connection that stands.
    pub open: Duration,
    /// From there until the server's shell has started bash.
    pub start: Duration,
    /// A connection on which nothing comes is asked for a sign of life this often, and given up when the third such question went unanswered.
    pub alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(15),
            handshake: seconds(15),
            authenticate: seconds(30),
            open: seconds(15),
            start: seconds(30),
            alive: seconds(14),
        }
    }
}

/// What of a target may stand in texts.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) user: String,
    key_path: Option<PathBuf>,
}

impl Endpoint {
    pub(super) fn of(target: &SshTarget) -> Result<Self, SshError> {
        let plain = |what: &'static str, text: &str| {
            let odd = text.is_empty()
                || text.starts_with('-')
                || text.contains(|c: char| c.is_whitespace() || c.is_control());
            if odd {
                let why = format!(
                    "{what} {text:?} is empty, begins with a dash or has blanks in it. Correct it in the host's settings"
                );
                return Err(SshError::Input { why });
            }
            Ok(text.to_owned())
        };
        Ok(Self {
            name: target.name.clone(),
            address: plain("the address", &target.address)?,
            port: target.port,
            user: plain("the user", &target.user)?,
            key_path: match &target.key {
                SshKey::Path(path) => Some(path.clone()),
                SshKey::Text(_) => None,
            },
        })
    }

    /// The command with which a person tries the same.
    #[must_use]
    pub fn by_hand(&self) -> String {
        let key =
            self.key_path.as_ref().map_or_else(String::new, |path| format!(" -i {}", quote(&path.to_string_lossy())));
        format!("ssh -v -p {}{key} {}", self.port, quote(&format!("{}@{}", self.user, self.address)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, port, user, .. } = self;
        write!(f, "{name} ({user}@{address}, port {port})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str) -> SshTarget {
        SshTarget {
            name: "web1".into(),
            address: address.into(),
            port: 2222,
            user: "root".into(),
            key: SshKey::Path("/keys/it's".into()),
            host_key: None,
        }
    }

    #[test]
    fn the_command_to_try_by_hand_can_be_pasted() {
        let at = Endpoint::of(&target("10.0.0.1")).unwrap();
        assert_eq!(at.by_hand(), r"ssh -v -p 2222 -i '/keys/it'\''s' root@10.0.0.1");
        assert_eq!(at.to_string(), "web1 (root@10.0.0.1, port 2222)");
    }

    #[test]
    fn an_address_that_is_an_option_or_two_words_is_refused() {
        for address in ["", "-oProxyCommand=x", "a b", "a\nb"] {
            assert!(matches!(Endpoint::of(&target(address)), Err(SshError::Input { .. })), "{address:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_taken_as_ssh_keygen_prints_it_and_nothing_else_is() {
        let text = "SHA256:uNiVztksCsDhcc0u9e8BrqunCUgo2rFTvqXE3kUFBjo";
        assert_eq!(HostKey::parse(&format!(" {text}=\n")).unwrap().fingerprint, text);
        for wrong in ["", "SHA256:", "MD5:16:27:ac:a5", &text[..49], &text.replace('u', "!")] {
            assert!(HostKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
