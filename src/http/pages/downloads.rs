//! Downloads: ordering one, and the browser's end of it. The bytes come from an agent while they go out; an answer that broke off is cut, so that the browser
//! says that the download failed.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream::try_unfold;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        DumpForm, DumpSpec, JobId, JobStatus, Operation, RepoId,
        job::Job,
        picking::{disposition, file_name, of_field, several},
        queue::WaitsFor,
    },
    http::{
        HttpError,
        extract::{FormFields, Id, Pair},
        pages::{Ui, restore},
    },
    hub::downloads::{Broken, Claim, Incoming, NoPlace},
    ops::restores::{self, Wish},
    paths,
    store::{StoreError, jobs},
    views::{downloads::DownloadPage, format},
};

/// How long a browser waits for the first byte, before it is shown what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits where the job is queued behind something: most of that passes within a moment.
const PATIENCE_QUEUED: Duration = Duration::from_secs(5);
/// How often the job is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds after which the page that waits looks again.
const AGAIN_S: &str = "4";

/// `POST /restore/{id}/{snapshot}/download`: `get` is `file:`, `tar:` or `zip:` and a path as a form has it, or `picked` for all that is ticked (`chosen`,
/// `pick`), as one tar. Leads to the bytes.
///
/// # Errors
/// 404; 409 where nobody can send it; 422 for the path; 503 where too many are open. What is wrong about what is ticked is shown beside it.
pub async fn order(ui: Ui, Pair(repo, id): Pair<RepoId, String>, fields: FormFields) -> Result<Response, HttpError> {
    let wish = if fields.text("get") == "picked" {
        let paths: Vec<String> = restore::picked(&fields)?.iter().map(str::to_owned).collect();
        if let Err(why) = several(&paths) {
            let snapshot = restore::stored(&ui, repo, id).await?;
            return restore::refused(&ui, snapshot, &fields, format::sentence(&why)).await;
        }
        Wish::Several(paths)
    } else {
        one(fields.text("get"))?
    };
    if ui.state.hub.downloads().is_full() {
        return Err(full());
    }
    let job = restores::download(&ui.state.desk(), ui.actor(), (repo, id), wish).await?;
    Ok(ui.go(&paths::download(job)))
}

fn one(get: &str) -> Result<Wish, HttpError> {
    let wish = get.split_once(':').and_then(|(form, path)| {
        let form = match form {
            "file" => DumpForm::File,
            "tar" => DumpForm::Tar,
            "zip" => DumpForm::Zip,
            _ => return None,
        };
        Some((form, path))
    });
    let why = "must be file:, tar: or zip: and the path, or picked";
    let (form, path) = wish.ok_or_else(|| HttpError::invalid_field("get", why))?;
    let path = of_field(path).map_err(|why| HttpError::invalid_field("get", why))?;
    Ok(Wish::One(path, form))
}

fn full() -> HttpError {
    let detail = format!("{}. Try again when one of them is over.", NoPlace::Full);
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_downloads", "Too many downloads", detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("30"))
}

/// `GET /downloads/{id}`: the bytes, or the page that waits for them.
///
/// # Errors
/// 404; 403 where somebody else asked for it; 409 where it is over or another browser has it; 502 where it broke before its first byte.
pub async fn fetch(ui: Ui, method: Method, Id(id): Id<JobId>) -> Result<Response, HttpError> {
    let (job, spec, _) = look(&ui, id).await?;
    if job.actor.id != ui.actor().id {
        return Err(HttpError::forbidden(
            "Somebody else asked for this download. Order it yourself from the snapshot's files.",
        ));
    }
    if method == Method::HEAD {
        return Ok(StatusCode::OK.into_response());
    }
    still_to_come(&job)?;
    let claim = ui.state.hub.downloads().claim(id).map_err(|no| match no {
        NoPlace::Taken => HttpError::conflict(
            "download_taken",
            "This download is being fetched already, in another window or by another program. Order it once more for a second copy.",
        ),
        NoPlace::Full => full(),
    })?;
    let began = Instant::now();
    let until = began + PATIENCE;
    loop {
        let look_again = (Instant::now() + LOOK).min(until);
        if let Ok(incoming) = timeout_at(look_again, claim.ready()).await {
            return stream(&ui, claim, incoming, &spec).await;
        }
        let (job, spec, waits_for) = look(&ui, id).await?;
        still_to_come(&job)?;
        let queued = waits_for.is_some() && began.elapsed() >= PATIENCE_QUEUED;
        if queued || Instant::now() >= until {
            drop(claim);
            return waiting(&ui, job, spec, waits_for).await;
        }
    }
}

async fn look(ui: &Ui, id: JobId) -> Result<(Job, DumpSpec, Option<WaitsFor>), HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let found = ui
        .store()
        .read(move |db| {
            let Some(job) = jobs::lookup(db, id)? else { return Ok(None) };
            let Some(Operation::Dump(spec)) = job.input.operation.clone() else { return Ok(None) };
            let online = |host| desk.hub.is_online(host);
            let waits = jobs::waits_for(db, std::slice::from_ref(&job), (desk.rules, now), online)?.remove(&id);
            Ok::<_, StoreError>(Some((job, spec, waits)))
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such download"))
}

/// Refuses where nothing will come any more.
fn still_to_come(job: &Job) -> Result<(), HttpError> {
    let detail = match (job.status, &job.error) {
        (status, _) if !status.is_final() => return Ok(()),
        (JobStatus::Succeeded, _) => {
            "It was downloaded already: what goes through to a browser is kept nowhere. Order it once more.".to_owned()
        }
        (JobStatus::Cancelled, None) => "It was cancelled before all was sent. Order it once more.".to_owned(),
        (_, Some(error)) => format!("{} could not send it: {error}", job.host_name),
        (_, None) => format!("{} could not send it; the job's log tells more.", job.host_name),
    };
    Err(HttpError::conflict("download_over", detail))
}

async fn waiting(ui: &Ui, job: Job, spec: DumpSpec, waits_for: Option<WaitsFor>) -> Result<Response, HttpError> {
    let mut response = ui.show(&DownloadPage { job, spec, waits_for }).await?;
    response.headers_mut().insert(header::REFRESH, HeaderValue::from_static(AGAIN_S));
    Ok(response)
}

/// What an answer in the middle of a download holds.
struct Flow {
    first: Option<Bytes>,
    incoming: Incoming,
    stopping: CancellationToken,
    /// Nobody else may have it meanwhile.
    _claim: Claim,
}

async fn stream(ui: &Ui, claim: Claim, mut incoming: Incoming, spec: &DumpSpec) -> Result<Response, HttpError> {
    // The status can only be chosen before the first byte.
    let first = match incoming.next().await {
        Some(Ok(piece)) => Some(piece),
        None => None,
        Some(Err(Broken)) => {
            let detail = "The agent broke the download off before its first byte. The job's page says why.";
            return Err(HttpError::new(StatusCode::BAD_GATEWAY, "download_broken", "The download broke off", detail));
        }
    };
    let short = spec.snapshot.get(..8).unwrap_or(&spec.snapshot);
    let name = file_name(&spec.path, spec.form, &format!("snapshot-{short}"));
    let flow = Flow { first, incoming, stopping: ui.state.tasks.soft_token(), _claim: claim };
    let body = Body::from_stream(try_unfold(flow, |mut flow| async {
        if let Some(first) = flow.first.take() {
            return Ok(Some((first, flow)));
        }
        let next = tokio::select! {
            () = flow.stopping.cancelled() => return Err(Broken),
            next = flow.incoming.next() => next,
        };
        Ok(next.transpose()?.map(|piece| (piece, flow)))
    }));
    let disposition =
        HeaderValue::try_from(disposition(&name)).unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    let headers: [(HeaderName, HeaderValue); 2] = [
        // Also the sign for the compression to leave it alone.
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, body).into_response())
}
