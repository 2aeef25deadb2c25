//! Asks one question of a host once, within a time, from this machine: HTTP, a TCP port, the days left of a certificate. It keeps nothing, follows no redirect,
//! goes by no proxy, and has its own words for each way in which an answer can fail to come.

mod certificate;
mod exchange;
mod place;
mod reach;

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::{
    net::TcpStream,
    sync::{OnceCell, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use place::check;

use crate::domain::{
    Timestamp,
    probe::{Answer, Question},
};
use place::{Address, Url};

/// Names that are looked up at once. The resolver blocks a thread for as long as it likes, so that a hanging one must not take all of them.
const LOOKUPS: usize = 64;

/// Asks. Clones share what it knows: whom this machine trusts, read once when it is first needed, and the bound on lookups.
#[derive(Clone)]
pub struct Prober(Arc<Parts>);

struct Parts {
    lookups: Arc<Semaphore>,
    /// Trusts the authorities of this machine.
    verified: OnceCell<Arc<ClientConfig>>,
    /// Takes any certificate.
    any: Arc<ClientConfig>,
}

/// Why an answer is not a healthy one.
#[derive(Debug)]
enum Bad {
    /// None came.
    None(String),
    /// One came, and it is another than is wanted.
    Other(String),
}

/// What an answer has time for.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    ends: Instant,
    within: Duration,
}

impl Deadline {
    /// The future's end; or, where it comes too late, `stage` in words.
    async fn bound<T>(self, stage: &str, work: impl Future<Output = Result<T, Bad>>) -> Result<T, Bad> {
        timeout_at(self.ends, work).await.unwrap_or_else(|_| Err(Bad::None(self.late(stage))))
    }

    fn late(self, stage: &str) -> String {
        format!("{stage} within {} s", self.within.as_secs_f64())
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober {
    /// One that opens and reads nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        Self(Arc::new(Parts { lookups, verified: OnceCell::new(), any: certificate::any() }))
    }

    /// Asks once, and gives the answer within the time (and a little). `now` is what certificates' days are counted from. Dropped, it lets its connection go.
    pub async fn ask(&self, question: &Question, within: Duration, now: Timestamp) -> Answer {
        let begun = Instant::now();
        let deadline = Deadline { ends: begun + within, within };
        let asked = match question {
            Question::Http { url, expect, tls_insecure } => self.http(url, expect, *tls_insecure, deadline).await,
            Question::Tcp { address } => self.tcp(address, deadline).await,
            Question::Tls { address, days } => self.days_left(address, *days, deadline, now).await,
        };
        let took = Some(u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX));
        match asked {
            Ok(detail) => Answer { healthy: true, latency_ms: took, detail },
            Err(Bad::Other(detail)) => Answer { healthy: false, latency_ms: took, detail },
            Err(Bad::None(detail)) => Answer { healthy: false, latency_ms: None, detail },
        }
    }

    async fn http(
        &self,
        url: &str,
        expect: &crate::domain::probe::Expect,
        insecure: bool,
        deadline: Deadline,
    ) -> Result<String, Bad> {
        let url = Url::of(url).map_err(Bad::None)?;
        let tcp = reach::connect(&self.0.lookups, &url.address, deadline).await?;
        if !url.tls {
            return exchange::ask(tcp, &url, expect, deadline).await;
        }
        let config = if insecure { Arc::clone(&self.0.any) } else { self.verified().await? };
        let tls = self.shake_hands(config, &url.address, tcp, deadline).await?;
        exchange::ask(tls, &url, expect, deadline).await
    }

    async fn tcp(&self, address: &str, deadline: Deadline) -> Result<String, Bad> {
        let address = Address::of(address).map_err(Bad::None)?;
        reach::connect(&self.0.lookups, &address, deadline).await?;
        Ok("connected".to_owned())
    }

    async fn days_left(&self, address: &str, days: u16, deadline: Deadline, now: Timestamp) -> Result<String, Bad> {
        let address = Address::of(address).map_err(Bad::None)?;
        let tcp = reach::connect(&self.0.lookups, &address, deadline).await?;
        // Whoever signed it: an expired or foreign certificate has its days, too.
        let tls = self.shake_hands(Arc::clone(&self.0.any), &address, tcp, deadline).await?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let leaf = leaf.ok_or_else(|| Bad::Other(format!("{address} showed no certificate")))?;
        certificate::judge(leaf, days, now).map_err(Bad::Other)
    }

    async fn shake_hands(
        &self,
        config: Arc<ClientConfig>,
        address: &Address,
        tcp: TcpStream,
        deadline: Deadline,
    ) -> Result<TlsStream<TcpStream>, Bad> {
        let name = address.server_name().map_err(Bad::None)?;
        let stage = format!("{address} takes connections, and did not agree on TLS");
        let connector = TlsConnector::from(config);
        deadline
            .bound(&stage, async {
                connector
                    .connect(name, tcp)
                    .await
                    .map_err(|error| Bad::None(certificate::explain(&address.host, &error)))
            })
            .await
    }

    /// The authorities of this machine, read at the first call.
    async fn verified(&self) -> Result<Arc<ClientConfig>, Bad> {
        let load = async || {
            let loaded = tokio::task::spawn_blocking(certificate::verified).await;
            loaded.unwrap_or_else(|error| Err(format!("the authorities of this machine could not be read: {error}")))
        };
        self.0.verified.get_or_try_init(load).await.map(Arc::clone).map_err(Bad::None)
    }
}

#[cfg(test)]
mod tests;
