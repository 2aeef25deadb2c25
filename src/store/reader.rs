//! Read-only connections: a few, opened when first needed, kept for the next. More readers than connections wait their turn.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::{StoreError, blocking, open_for_reading};

/// Reads at the same time. They are short; more would only compete for two cores.
const CONNECTIONS: usize = 4;

pub(super) struct Pool {
    path: PathBuf,
    permits: Semaphore,
    idle: std::sync::Arc<Mutex<Vec<Connection>>>,
}

impl Pool {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), permits: Semaphore::new(CONNECTIONS), idle: std::sync::Arc::default() }
    }

    /// Runs `read` in one deferred transaction, so that all it sees is of one moment.
    pub(super) async fn run<T, E>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let path = self.path.clone();
        let idle = self.idle.clone();
        blocking(move || {
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => open_for_reading(&path)?,
            };
            let snapshot = connection.unchecked_transaction().map_err(StoreError::from)?;
            let answer = read(&snapshot)?;
            snapshot.finish().map_err(StoreError::from)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(answer)
        })
        .await
    }
}
