//! Whom to trust, why not, and how long a certificate is valid. Its two dates are the only thing that is read of it here; all else is rustls's.

use std::{io, sync::Arc};

use der::{
    AnyRef, DateTime, Decode as _, Reader as _, SliceReader, Tag, Tagged as _,
    asn1::{GeneralizedTime, UtcTime},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::domain::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Trusts the authorities of this machine. Blocks: it reads files.
pub(super) fn verified() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "the control plane's machine has no trusted certificate authorities: install ca-certificates there and restart Flotilla"
                .to_owned(),
        );
    }
    Ok(trusting(roots))
}

/// Trusts these authorities.
pub(super) fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    Arc::new(builder(&provider()).with_root_certificates(roots).with_no_client_auth())
}

/// Takes any certificate; that its owner holds its key is proven all the same.
pub(super) fn any() -> Arc<ClientConfig> {
    let provider = provider();
    let verifier = Arc::new(Anyone(Arc::clone(&provider)));
    Arc::new(builder(&provider).dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder(provider: &Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no TLS with `host`.
pub(super) fn explain(host: &str, error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("{host} closed the connection while agreeing on TLS: does it speak TLS at this port?")
            }
            io::ErrorKind::ConnectionReset => format!("{host} broke the connection off while agreeing on TLS (reset)"),
            _ => format!("no TLS with {host}: {error}"),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => format!(
                "the certificate of {host} is signed by an authority that the control plane does not know: install that there, or let the probe take any certificate"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {host} has expired: renew it")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {host} is not valid yet: check the clocks")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate that is shown is not for {host}")
            }
            other => format!("the certificate of {host} does not do: {other}"),
        },
        rustls::Error::InvalidMessage(_) => format!("{host} does not speak TLS at this port"),
        other => format!("no TLS with {host}: {other}"),
    }
}

/// Holds a certificate's dates against `now`: it has begun, and so many days are left.
pub(super) fn judge(leaf: &CertificateDer<'_>, days: u16, now: Timestamp) -> Result<String, String> {
    let (begins, ends) = validity(leaf).map_err(|error| format!("its certificate can't be read: {error}"))?;
    let left = ends.ms_since(now);
    let count = left.div_euclid(DAY_MS);
    let whole = format!("{count} {}", if count == 1 { "day" } else { "days" });
    if begins > now {
        return Err(format!("its certificate is not valid before {}: check the clocks", day(begins)));
    }
    if left < 0 {
        return Err(format!("its certificate ended on {}: renew it", day(ends)));
    }
    if left < i64::from(days) * DAY_MS {
        return Err(format!("its certificate ends on {}, in {whole}, and {days} are wanted: renew it", day(ends)));
    }
    Ok(format!("{whole} left"))
}

fn day(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d").to_string()
}

/// From when until when a certificate is valid: the second field behind the issuer's of what is signed (RFC 5280, 4.1).
fn validity(leaf: &[u8]) -> Result<(Timestamp, Timestamp), der::Error> {
    let certificate = AnyRef::from_der(leaf)?;
    let signed = AnyRef::decode(&mut SliceReader::new(certificate.value())?)?;
    let mut fields = SliceReader::new(signed.value())?;
    // The version is there or not, the serial number always.
    while AnyRef::decode(&mut fields)?.tag() != Tag::Integer {}
    let _algorithm = AnyRef::decode(&mut fields)?;
    let _issuer = AnyRef::decode(&mut fields)?;
    let validity = AnyRef::decode(&mut fields)?;
    let mut times = SliceReader::new(validity.value())?;
    Ok((moment(times.decode()?)?, moment(times.decode()?)?))
}

fn moment(time: AnyRef<'_>) -> Result<Timestamp, der::Error> {
    let at: DateTime = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_date_time(),
        _ => time.decode_as::<GeneralizedTime>()?.to_date_time(),
    };
    Ok(Timestamp::from_unix_ms(i64::try_from(at.unix_duration().as_millis()).unwrap_or(i64::MAX)))
}
