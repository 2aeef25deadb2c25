//! A repository's REST server asked directly, where restic's own words say too little: for a connection test and a tamper test. One request, one connection,
//! one deadline; the credentials show up in no message.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flotilla_proto::{RepoSpec, Secret};
use futures_util::future::{Either, select};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::address::{Address, percent_decode};
use crate::dial::crypto_provider;

/// Longest answer that is read, in bytes: a snapshot's file, or a page of words.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How to reach one repository on its server.
pub(crate) struct RestServer {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    /// From `/`, with a slash at its end.
    path: String,
    authorization: Option<Secret>,
}

/// Why there is no answer. Words of the network, without advice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoAnswer(String);

fn none(reason: impl ToString) -> NoAnswer {
    NoAnswer(reason.to_string())
}

impl RestServer {
    /// `None`: the repository is of another kind.
    pub(crate) fn of(repo: &RepoSpec, address: &Address) -> Option<Result<Self, NoAnswer>> {
        let url = address.full.expose().strip_prefix("rest:")?;
        Some(Self::parse(url, repo))
    }

    fn parse(url: &str, repo: &RepoSpec) -> Result<Self, NoAnswer> {
        // The parser's words could repeat the credentials.
        let uri: Uri = url.parse().map_err(|_| none("the address can't be read"))?;
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or_else(|| none("the address names no host"))?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let plain = |text: &str| percent_decode(text).map_err(|_| none("the user can't be read"));
            Ok(Secret::new(format!("Basic {}", STANDARD.encode(format!("{}:{}", plain(name)?, plain(password)?)))))
        });
        let slash = if uri.path().ends_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            tls: if tls { Some(trusting(repo.tls_ca_pem.as_deref())?) } else { None },
            path: format!("{}{slash}", uri.path()),
            authorization: authorization.transpose()?,
        })
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Agrees on TLS, and nothing else.
    pub(crate) async fn shake_hands(&self, patience: Duration) -> Result<(), NoAnswer> {
        timeout(patience, self.connect()).await.unwrap_or_else(|_| Err(late(patience))).map(|_| ())
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, NoAnswer> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(none)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(self.host.clone()).map_err(none)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(none)?;
        Ok(Box::new(stream))
    }

    /// Asks for `name` below the repository, such as `snapshots/ID`.
    pub(crate) async fn ask(
        &self,
        method: Method,
        name: &str,
        body: &'static [u8],
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        timeout(patience, self.exchange(method, name, body)).await.unwrap_or_else(|_| Err(late(patience)))
    }

    async fn exchange(&self, method: Method, name: &str, body: &'static [u8]) -> Result<(StatusCode, Bytes), NoAnswer> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{name}", self.path))
            .header(header::HOST, format!("{host}:{}", self.port))
            .header(header::ACCEPT, "application/vnd.x.restic.rest.v2")
            .header(header::USER_AGENT, concat!("flotilla-agent/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose());
        }
        let request =
            request.body(Full::new(Bytes::from_static(body))).map_err(|_| none("the request can't be written"))?;
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(io).await.map_err(none)?;
        let answer = Box::pin(async {
            let response = sender.send_request(request).await.map_err(none)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(none)?;
            Ok((status, body.to_bytes()))
        });
        // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
        match select(answer, connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    }
}

fn late(patience: Duration) -> NoAnswer {
    none(format!("no answer within {} s", patience.as_secs()))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Trusts the given authority alone, as restic does, or else the system's.
fn trusting(pem: Option<&str>) -> Result<Arc<ClientConfig>, NoAnswer> {
    let mut roots = RootCertStore::empty();
    match pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| none("the repository's TLS authority can't be read"))?;
                roots.add(certificate).map_err(none)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(none(io::Error::other(
            "this host has no trusted certificate authorities; install ca-certificates",
        )));
    }
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(none)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use flotilla_proto::RepoId;

    use super::*;

    fn server(url: &str, user: Option<&str>) -> Option<RestServer> {
        let repo = RepoSpec {
            id: RepoId::from_parts(1, 1),
            url: url.to_owned(),
            password: "x".into(),
            username: user.map(str::to_owned),
            auth_password: user.map(|_| "p@:/ %".into()),
            env: std::collections::BTreeMap::default(),
            tls_ca_pem: None,
            init: false,
            memory_only: false,
        };
        RestServer::of(&repo, &Address::of(&repo).unwrap()).map(Result::unwrap)
    }

    #[test]
    fn an_address_becomes_host_path_and_credentials() {
        let rest = server("rest:http://vault:8000/web-1", Some("web-1")).unwrap();
        assert_eq!((rest.host.as_str(), rest.port, rest.path.as_str()), ("vault", 8000, "/web-1/"));
        let wanted = format!("Basic {}", STANDARD.encode("web-1:p@:/ %"));
        assert_eq!(rest.authorization.unwrap().expose(), wanted);
        let rest = server("rest:http://[::1]/r/", None).unwrap();
        assert_eq!((rest.host.as_str(), rest.port, rest.authorization.is_none()), ("::1", 80, true));
        assert!(server("/srv/repo", None).is_none());
    }
}
