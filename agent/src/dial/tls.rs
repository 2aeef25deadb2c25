//! Whom to trust: the system's authorities, or one pinned certificate and nothing else.
//! A pin of the server's own certificate is the identity, so names and dates don't matter; a pin of an authority is the only root,
//! and the chain below it is verified as usual. The handshake's signatures are verified in every case.

use std::{fmt, io, str::FromStr, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{DialError, crypto_provider};

/// SHA-256 of a certificate's DER form, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate fingerprint: expected sha256: and 64 hex digits, as the server prints it at its start")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of a certificate in DER form.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    fn is_of(&self, der: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(der).0).into()
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Hex digits in either case, with or without colons between the bytes.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (algorithm, digits) = text.trim().split_at_checked(7).ok_or(FingerprintError)?;
        if !algorithm.eq_ignore_ascii_case("sha256:") {
            return Err(FingerprintError);
        }
        let digits: Vec<u8> = digits.bytes().filter(|b| *b != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(FingerprintError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;
    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

pub(super) struct Connector(TlsConnector);

impl Connector {
    pub(super) fn new(pinned: Option<Fingerprint>) -> Result<Self, DialError> {
        let provider = crypto_provider();
        let trust = match pinned {
            Some(fingerprint) => Trust::Pinned(fingerprint),
            None => Trust::System(system_verifier(&provider)?),
        };
        Ok(Self::with(trust, provider))
    }

    /// Takes any certificate: what travels is encrypted, and who is at the other end is not known.
    pub(super) fn trusting_anyone() -> Self {
        Self::with(Trust::Anyone, crypto_provider())
    }

    fn with(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        let verifier = Arc::new(Verifier { trust, provider: Arc::clone(&provider) });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(super) async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, DialError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| DialError::Tls { host: host.to_owned(), reason: e.to_string() })?;
        self.0.connect(name, tcp).await.map_err(|e| explain(host, &e))
    }
}

fn system_verifier(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, DialError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(DialError::NoRoots(reason));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| DialError::NoRoots(e.to_string()))
}

/// What the verifier wants the user to know; travels inside rustls's error.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("not trusted")]
    Unknown { seen: Fingerprint, reason: String },
    #[error("not valid at this time")]
    Expired { reason: String },
    #[error("not the pinned certificate")]
    Mismatch { seen: Fingerprint, pinned: Fingerprint },
}

impl From<Rejection> for rustls::Error {
    fn from(rejection: Rejection) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejection))))
    }
}

fn explain(host: &str, error: &io::Error) -> DialError {
    let host = host.to_owned();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) = tls
        && let Some(rejection) = inner.downcast_ref::<Rejection>()
    {
        return match rejection {
            Rejection::Unknown { seen, reason } => {
                DialError::CertificateUnknown { host, reason: reason.clone(), seen: *seen }
            }
            Rejection::Expired { reason } => DialError::CertificateExpired { host, reason: reason.clone() },
            Rejection::Mismatch { seen, pinned } => {
                DialError::FingerprintMismatch { host, seen: *seen, pinned: *pinned }
            }
        };
    }
    DialError::Tls { host, reason: error.to_string() }
}

#[derive(Debug)]
enum Trust {
    System(Arc<WebPkiServerVerifier>),
    Pinned(Fingerprint),
    Anyone,
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// The pinned certificate as the only root. That a chain merely *contains* it proves nothing: authorities' certificates are public.
    fn below(&self, pinned: &CertificateDer<'_>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let webpki = match &self.trust {
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
            Trust::System(webpki) => Arc::clone(webpki),
            Trust::Pinned(pinned) if pinned.is_of(end_entity) => return Ok(ServerCertVerified::assertion()),
            Trust::Pinned(pinned) => match intermediates.iter().find(|der| pinned.is_of(der)) {
                Some(authority) => self.below(authority)?,
                None => return Err(Rejection::Mismatch { seen: Fingerprint::of(end_entity), pinned: *pinned }.into()),
            },
        };
        let verdict = webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map_err(|error| {
            let reason = match &error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    "signed by an authority that this machine does not know".to_owned()
                }
                rustls::Error::InvalidCertificate(inner) => inner.to_string(),
                other => other.to_string(),
            };
            match error {
                rustls::Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                ) => Rejection::Expired { reason }.into(),
                rustls::Error::InvalidCertificate(_) => {
                    Rejection::Unknown { seen: Fingerprint::of(end_entity), reason }.into()
                }
                other => other,
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_in_the_usual_writings_and_prints_in_one() {
        let plain = format!("sha256:{}", "0aBc".repeat(16));
        let colons = format!("SHA256:{}", vec!["0a:bc"; 16].join(":"));
        let parsed: Fingerprint = plain.parse().unwrap();
        assert_eq!(colons.parse(), Ok(parsed));
        assert_eq!(parsed.to_string(), plain.to_lowercase());
        for bad in ["", "sha256:", "sha1:00", &plain[..70], "sha256:é"] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }
}
