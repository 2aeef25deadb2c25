//! TLS of the control plane: the operator's certificate, or one that is made once, kept in the data folder and known by its fingerprint.
//! Agents pin that fingerprint, so a self-signed certificate is as good as one of an authority.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all: loopback, behind a proxy, or on explicit wish.
    Plain,
    /// By the operator's certificate.
    Files {
        /// PEM of the chain.
        cert: PathBuf,
        /// PEM of the key.
        key: PathBuf,
    },
    /// By a certificate that is made once and kept in the data folder.
    SelfSigned,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or written.
    #[error("cannot use the TLS file {path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("the TLS file {path} holds no {what} in PEM form", path = path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key don't belong together, or are of an unknown kind.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Rejected(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// TLS, ready to serve.
pub struct Tls {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    /// What agents pin: `sha256:` and the hash of the certificate in lower-case hex. Only for a self-signed one.
    pub pin: Option<String>,
}

/// Sets TLS up as `mode` says; `None` for plain HTTP. `names` are the host names and addresses that a self-signed certificate is made for.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn set_up(mode: &TlsMode, data_dir: &Path, names: Vec<String>) -> Result<Option<Tls>, TlsError> {
    match mode {
        TlsMode::Plain => Ok(None),
        TlsMode::Files { cert, key } => Ok(Some(Tls { config: load(cert, key)?.0, pin: None })),
        TlsMode::SelfSigned => {
            let (cert, key) = (data_dir.join("tls-cert.pem"), data_dir.join("tls-key.pem"));
            if !cert.exists() || !key.exists() {
                make(&cert, &key, names)?;
            }
            let (config, leaf) = load(&cert, &key)?;
            Ok(Some(Tls { config, pin: Some(fingerprint(&leaf)) }))
        }
    }
}

/// `sha256:` and the SHA-256 of the certificate's DER in lower-case hex.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    use std::fmt::Write as _;
    Sha256::digest(certificate).iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn load(cert: &Path, key: &Path) -> Result<(Arc<ServerConfig>, CertificateDer<'static>), TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source });
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { path: cert.to_owned(), what: "certificate" })?;
    let Some(leaf) = chain.first().cloned() else {
        return Err(TlsError::Pem { path: cert.to_owned(), what: "certificate" });
    };
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| TlsError::Pem { path: key.to_owned(), what: "private key" })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    // The default remembers 256 sessions, which resumes nothing for a fleet: tickets are kept by the agents instead.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), leaf))
}

fn make(cert: &Path, key: &Path, names: Vec<String>) -> Result<(), TlsError> {
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Flotilla control plane");
    let pair = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&pair)?;
    write(key, pair.serialize_pem().as_bytes())?;
    write(cert, certificate.pem().as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_is_made_once_and_keeps_its_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let set_up = || set_up(&TlsMode::SelfSigned, dir.path(), vec!["localhost".to_owned()]).unwrap().unwrap();
        let pin = set_up().pin.unwrap();
        assert_eq!(set_up().pin.as_ref(), Some(&pin));
        assert!(pin.starts_with("sha256:") && pin.len() == 71);
    }

    #[test]
    fn a_file_that_holds_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        fs::write(&path, "nothing").unwrap();
        let mode = TlsMode::Files { cert: path.clone(), key: path };
        let refused = set_up(&mode, dir.path(), Vec::new()).err().unwrap();
        assert!(refused.to_string().contains("cert.pem holds no certificate"));
    }
}
