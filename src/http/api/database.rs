//! The control plane's own database over the API, for administrators: its size, its copies, and making one now. Copies are not served: they hold
//! sealed secrets and hashes, and belong where a shell on the server brings them.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderValue, StatusCode, header},
};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::{
    domain::{Timestamp, job::Actor},
    http::{AppState, CurrentUser, HttpError, Problem},
    ops::database::{BackupError, Copy, Status},
};

/// A copy of the database.
#[derive(Debug, Serialize, ToSchema)]
pub struct CopyView {
    /// The file on the server.
    pub path: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
    /// Its size.
    pub bytes: u64,
}

impl From<Copy> for CopyView {
    fn from(copy: Copy) -> Self {
        Self { path: copy.path.display().to_string(), made_at: copy.made_at, bytes: copy.bytes }
    }
}

/// The last attempt to make a copy.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How long it took, the check of the copy included.
    pub took_ms: u64,
    /// Why it failed; null where it did not.
    pub error: Option<String>,
}

/// The database and its copies.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseView {
    /// The copies, newest first. Each was looked through before it got its name; the master key is in none of them.
    pub items: Vec<CopyView>,
    /// Always null: all of them are in `items`.
    #[schema(value_type = Option<String>)]
    pub next: Option<String>,
    /// The folder of the copies.
    pub dir: String,
    /// Bytes that are free there; null where the system does not tell.
    pub dir_free: Option<u64>,
    /// The last attempt.
    pub last: Option<AttemptView>,
    /// When the next is made by itself; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// One is being made now.
    pub busy: bool,
    /// The database file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes in it that are free and are used again before it grows.
    pub reusable_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// Bytes of text of all logs in it; compressed they take about a tenth.
    pub log_bytes: u64,
    /// What is wrong, why, and what to do; null where all is well.
    pub trouble: Option<String>,
}

impl From<Status> for DatabaseView {
    fn from(status: Status) -> Self {
        let Status { path, vitals, log_bytes, dir, dir_free, copies, last, next_at, busy, trouble } = status;
        Self {
            items: copies.into_iter().map(CopyView::from).collect(),
            next: None,
            dir: dir.display().to_string(),
            dir_free,
            last: last.map(|last| AttemptView { at: last.at, took_ms: last.took_ms, error: last.error }),
            next_at,
            busy,
            path: path.display().to_string(),
            bytes: vitals.database_bytes,
            reusable_bytes: vitals.reusable_bytes,
            wal_bytes: vitals.wal_bytes,
            log_bytes,
            trouble,
        }
    }
}

impl From<BackupError> for HttpError {
    fn from(e: BackupError) -> Self {
        let failed = |status, code, title| HttpError::new(status, code, title, format!("{e}."));
        match e {
            BackupError::Busy => HttpError::conflict("backup_busy", format!("{e}.")),
            BackupError::NoRoom { .. } => failed(StatusCode::INSUFFICIENT_STORAGE, "no_room", "Too little room"),
            BackupError::Damaged(_) | BackupError::Io { .. } => {
                failed(StatusCode::INTERNAL_SERVER_ERROR, "backup_failed", "No copy was made")
            }
            BackupError::Store(e) => HttpError::unavailable(e),
        }
    }
}

/// Makes a copy in a task of its own: one whose caller hangs up is made all the same.
pub(in crate::http) async fn back_up(state: &AppState, actor: Actor) -> Result<Copy, HttpError> {
    let (done, made) = oneshot::channel();
    let (database, stop) = (state.database.clone(), state.tasks.soft_token());
    state.tasks.spawn(async move {
        // The caller may have gone.
        done.send(database.back_up(actor, stop).await).ok();
    });
    Ok(made.await.map_err(HttpError::unavailable)??)
}

/// `GET /api/database/backups`.
///
/// # Errors
/// [`HttpError`] for a failure.
#[utoipa::path(get, path = "/api/database/backups", tag = "server",
    responses((status = 200, body = DatabaseView), (status = 403, body = Problem)))]
pub async fn list(State(state): State<AppState>) -> Result<Answer<DatabaseView>, HttpError> {
    Ok(Answer(state.database.status().await?.into()))
}

/// `POST /api/database/backups`: makes a copy, and answers once it is whole.
///
/// # Errors
/// 409 while one is being made, 507 where the disk is too full.
#[utoipa::path(post, path = "/api/database/backups", tag = "server",
    responses((status = 201, body = CopyView), (status = 403, body = Problem), (status = 409, body = Problem), (status = 507, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1], Answer<CopyView>), HttpError> {
    let copy = back_up(&state, user.actor()).await?;
    let location = HeaderValue::from_static("/api/database/backups");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(copy.into())))
}
