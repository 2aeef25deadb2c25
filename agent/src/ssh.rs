//! Hosts reached over SSH: one connection per job and host, used again and again, on which scripts run and files go over.
//!
//! A connection that is gone is made anew once before a use; never in the midst of one. The private key stays in this process, agent forwarding and
//! terminals are not asked for, and what a host did not prove to be (its pinned host key) is told nothing.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use crate::leftovers::{Left, Stopped};
pub use error::{Doing, KeyError, SshError, Stage};
pub use exec::{End, Exec, OutputLine, Running};
pub use probe::Probe;
pub use target::{Endpoint, HostKey, SshKey, SshTarget, Timeouts};
pub use transfer::{Progress, Side, TransferError, TransferOptions, Transferred};

use connection::{Channel, Connection, Plan};

mod connection;
mod error;
mod exec;
mod key;
mod probe;
mod script;
mod stop;
mod target;
mod transfer;
mod watcher;
mod wire;

/// A host. Clones share the connection, which is closed when the last of them and the last [`Running`] are gone.
#[derive(Clone)]
pub struct Ssh {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    current: Mutex<Option<Arc<Connection>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ssh({})", self.inner.plan.at)
    }
}

impl Ssh {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The key is of no use, the host can't be reached, its key is unknown or another one, it refuses the login.
    pub async fn connect(target: &SshTarget, timeouts: Timeouts) -> Result<Self, SshError> {
        let ssh = Self::prepare(target, timeouts)?;
        ssh.connection().await?;
        Ok(ssh)
    }

    /// Reads the key; connects with the first use.
    ///
    /// # Errors
    /// The key is of no use, or the target is not one.
    pub fn prepare(target: &SshTarget, timeouts: Timeouts) -> Result<Self, SshError> {
        let at = Arc::new(Endpoint::of(target)?);
        let plan = Plan { at, key: key::load(&target.key)?, pinned: target.host_key.clone(), timeouts };
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let inner = Inner { plan, current: Mutex::new(None), tasks: TaskTracker::new(), stop, _stop: guard };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What a person should know though it works: a private key that others can read.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.inner.plan.key.warning.as_deref()
    }

    /// The host key that was proven, with its algorithm; worth keeping where the pin has none.
    pub async fn host_key(&self) -> Option<HostKey> {
        self.inner.current.lock().await.as_ref().map(|connection| connection.host_key().clone())
    }

    /// The connection at hand where it stands, else a new one.
    async fn connection(&self) -> Result<Arc<Connection>, SshError> {
        let mut current = self.inner.current.lock().await;
        if let Some(connection) = current.as_ref()
            && connection.is_alive().await
        {
            return Ok(Arc::clone(connection));
        }
        *current = None;
        let connection = Arc::new(Connection::establish(&self.inner.plan).await?);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Lets a connection go, so that the next use makes a new one.
    async fn give_up(&self, connection: &Arc<Connection>) {
        let mut current = self.inner.current.lock().await;
        if current.as_ref().is_some_and(|at_hand| Arc::ptr_eq(at_hand, connection)) {
            *current = None;
        }
    }

    /// A session: where the connection turns out to be of no use, one on a new connection.
    async fn session(&self) -> Result<(Arc<Connection>, Channel), SshError> {
        let within = self.inner.plan.timeouts.open;
        let connection = self.connection().await?;
        match connection.open(within).await {
            Ok(channel) => Ok((connection, channel)),
            Err(refused @ SshError::ChannelRefused { .. }) => Err(refused),
            Err(_) => {
                self.give_up(&connection).await;
                drop(connection);
                let connection = self.connection().await?;
                let channel = connection.open(within).await?;
                Ok((connection, channel))
            }
        }
    }

    /// A session that is needed even where the server allows no more of them on the connection: then on one of its own, which ends with the session.
    async fn session_for_sure(&self) -> Result<(Arc<Connection>, Channel), SshError> {
        match self.session().await {
            Err(SshError::ChannelRefused { .. }) => {
                let connection = Arc::new(Connection::establish(&self.inner.plan).await?);
                let channel = connection.open(self.inner.plan.timeouts.open).await?;
                Ok((connection, channel))
            }
            other => other,
        }
    }
}
