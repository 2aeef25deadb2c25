//! `/api/verdicts` and `/api/repos/{id}/pins`: what the retention guard said to each forget, a person's word on what it stopped, and snapshots that stay whatever the
//! rules say.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        JobId, PlanId, RepoId, Timestamp,
        guard::{Cause, Finding},
        retention::{Fate, FateKind, Verdict, VerdictState},
        snapshot::Snapshot,
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{
            List,
            job_orders::{Accepted, Ordered, accepted},
            limit,
        },
        extract::{Id, Json, Pair, Query},
    },
    ops::{OpError, retention as ops},
    store::{
        StoreError, repos, snapshots,
        verdicts::{self, Pinned, VerdictFilter},
    },
};

/// What the guard said to one forget.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct VerdictView {
    /// The forget, and the verdict's own id.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// The repository.
    #[schema(value_type = String)]
    pub repo_id: RepoId,
    /// The plan whose rules it went by; null where it brought rules of its own.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `stopped` waits for a person.
    pub state: VerdictState,
    /// Of a dry run: nothing goes, and nobody needs to decide.
    pub dry_run: bool,
    /// The keep rules at that time, in words.
    pub rules: String,
    /// What is odd: why it was stopped.
    pub findings: Vec<FindingView>,
    /// Snapshots that may go.
    pub removed: u64,
    /// Snapshots that go with a person's word only.
    pub waiting: u64,
    /// Snapshots that no rule keeps and that stay all the same.
    pub held: u64,
    /// When it was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<Timestamp>,
    /// Who did; null where a later forget looked again.
    pub decided_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Something that the guard found odd.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FindingView {
    /// What.
    pub cause: Cause,
    /// The host name in the snapshots; empty where it is about all.
    pub hostname: String,
    /// Their paths; empty where it is not about one series.
    pub paths: Vec<String>,
    /// The first of the snapshots.
    pub snapshots: Vec<AboutView>,
    /// How many there are.
    pub count: u64,
    /// Of `shrunk`: bytes that the others usually hold.
    pub usual_bytes: Option<u64>,
    /// What was seen, in words.
    pub happened: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub advice: &'static str,
}

/// A snapshot that a finding is about.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AboutView {
    /// Full id.
    pub id: String,
    /// The time that it claims.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// When it was first seen; null where it was not before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_seen_at: Option<Timestamp>,
    /// Bytes that a restore would write.
    pub bytes: Option<u64>,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        Self {
            happened: finding.happened(),
            why: finding.why(),
            advice: finding.advice(),
            count: finding.how_many(),
            cause: finding.cause,
            hostname: finding.hostname,
            paths: finding.paths,
            usual_bytes: finding.usual_bytes,
            snapshots: finding
                .about
                .into_iter()
                .map(|about| AboutView {
                    id: about.id,
                    time: about.time,
                    first_seen_at: about.first_seen_at,
                    bytes: about.bytes,
                })
                .collect(),
        }
    }
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            job_id: verdict.job_id,
            repo_id: verdict.repo_id,
            plan_id: verdict.plan_id,
            plan_name: verdict.plan_name,
            at: verdict.at,
            state: verdict.state,
            dry_run: verdict.dry,
            rules: verdict.rules,
            findings: verdict.findings.into_iter().map(FindingView::from).collect(),
            removed: verdict.remove.len() as u64,
            waiting: verdict.waiting.len() as u64,
            held: verdict.held.len() as u64,
            decided_at: verdict.decided_at,
            decided_by: text(verdict.decided_by),
            reason: text(verdict.reason),
        }
    }
}

/// Which verdicts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VerdictQuery {
    /// Of this repository only.
    #[param(value_type = Option<String>)]
    repo_id: Option<RepoId>,
    /// `allowed`, `stopped`, `approved` or `dismissed` ones only.
    state: Option<String>,
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<JobId>,
}

/// Verdicts of the retention guard, the newest first.
///
/// # Errors
/// 422 for a query that does not do.
#[utoipa::path(get, path = "/api/verdicts", tag = "retention", params(VerdictQuery),
    responses((status = 200, body = List<VerdictView>), (status = 422, body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<VerdictQuery>,
) -> Result<Answer<List<VerdictView>>, HttpError> {
    let limit = limit(query.limit)?;
    let known = query.state.as_deref().map(str::parse::<VerdictState>).transpose();
    let known =
        known.map_err(|_| HttpError::invalid_field("state", "must be allowed, stopped, approved or dismissed"))?;
    let filter = VerdictFilter { repo: query.repo_id, state: known, before: query.after, limit: limit + 1 };
    let found = state.store.read(move |db| verdicts::list(db, filter)).await?;
    Ok(Answer(List::page(found, limit, |verdict| verdict.job_id.to_string(), VerdictView::from)))
}

/// What the guard said to a forget; `id` is the job's.
///
/// # Errors
/// 404, also while the forget has not asked yet.
#[utoipa::path(get, path = "/api/verdicts/{id}", tag = "retention", params(("id" = String, Path)),
    responses((status = 200, body = VerdictView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<JobId>) -> Result<Answer<VerdictView>, HttpError> {
    Ok(Answer(stored(&state, id).await?.into()))
}

async fn stored(state: &AppState, id: JobId) -> Result<Verdict, HttpError> {
    let found = state.store.read(move |db| verdicts::lookup(db, id)).await?;
    found.ok_or_else(|| HttpError::not_found("such verdict"))
}

/// How a snapshot fared.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FateView {
    /// Full id.
    pub id: String,
    /// The time that it claims.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Under which host name it stands.
    pub hostname: String,
    /// Its paths, at most ten.
    pub paths: Vec<String>,
    /// How it fared.
    pub fate: FateKind,
    /// The rule that keeps it, the lack of one, or why it stays all the same.
    pub reason: String,
}

impl From<Fate> for FateView {
    fn from(fate: Fate) -> Self {
        let Fate { snapshot_id, time, hostname, paths, kind, reason } = fate;
        Self { id: snapshot_id, time, hostname, paths, fate: kind, reason }
    }
}

/// Which snapshots of a verdict.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FateQuery {
    /// `waiting`, `removed`, `held` or `kept`.
    fate: String,
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// The snapshots of a verdict that fared so, the newest first, each with its reason.
///
/// # Errors
/// 404; 422 for a query that does not do.
#[utoipa::path(get, path = "/api/verdicts/{id}/snapshots", tag = "retention", params(("id" = String, Path), FateQuery),
    responses((status = 200, body = List<FateView>), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn fates(
    State(state): State<AppState>,
    Id(id): Id<JobId>,
    Query(query): Query<FateQuery>,
) -> Result<Answer<List<FateView>>, HttpError> {
    let limit = limit(query.limit)?;
    let unknown = || HttpError::invalid_field("fate", "must be waiting, removed, held or kept");
    let kind: FateKind = query.fate.parse().map_err(|_| unknown())?;
    let place = |text: &str| {
        let (time, id) = text.split_once('.')?;
        Some((Timestamp::from_unix_ms(time.parse().ok()?), id.to_owned()))
    };
    let after = match query.after.as_deref() {
        None => None,
        Some(text) => {
            Some(place(text).ok_or_else(|| HttpError::invalid_field("after", "must be the next of the page before"))?)
        }
    };
    stored(&state, id).await?;
    let found = state.store.read(move |db| verdicts::fates(db, (id, kind), after, limit + 1)).await?;
    let cursor = |fate: &Fate| format!("{}.{}", fate.time.unix_ms(), fate.snapshot_id);
    Ok(Answer(List::page(found, limit, cursor, FateView::from)))
}

/// A person's word that what was stopped may go.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The repository's name: the snapshots are removed for good.
    pub confirm: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Lets what was stopped go, exactly those snapshots and no others: the forget is ordered again.
///
/// # Errors
/// 404; 409 where nothing waits any more, or the forget is not over yet; 422 without the confirmation.
#[utoipa::path(post, path = "/api/verdicts/{id}/approve", tag = "retention", params(("id" = String, Path)), request_body = Approval,
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn approve(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<JobId>,
    Json(approval): Json<Approval>,
) -> Result<Accepted, HttpError> {
    let repo = stored(&state, id).await?.repo_id;
    let repo = state.store.read(move |db| repos::lookup(db, repo)).await?.ok_or(OpError::NotFound("repository"))?;
    if approval.confirm.as_ref() != Some(&repo.name) {
        let text = format!("must be the repository's name, {}: the snapshots are removed for good", repo.name);
        return Err(HttpError::invalid_field("confirm", &text));
    }
    let reason = ops::checked_word(&approval.reason)?;
    Ok(accepted(ops::approve(&state.desk(), user.actor(), id, reason).await?))
}

/// A person's word that what was stopped stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dismissal {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Leaves what was stopped where it is; the next forget looks again.
///
/// # Errors
/// 404; 409 where nothing waits any more; 422 for the reason.
#[utoipa::path(post, path = "/api/verdicts/{id}/dismiss", tag = "retention", params(("id" = String, Path)), request_body = Dismissal,
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn dismiss(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<JobId>,
    Json(dismissal): Json<Dismissal>,
) -> Result<StatusCode, HttpError> {
    let reason = ops::checked_word(&dismissal.reason)?;
    ops::dismiss(&state.store, user.actor(), id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A pinned snapshot: no forget of ours removes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PinnedView {
    /// The snapshot's full id.
    pub snapshot: String,
    /// The time that it claims.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Under which host name it stands.
    pub hostname: String,
    /// Since when it is pinned.
    #[schema(value_type = String, format = DateTime)]
    pub pinned_at: Timestamp,
    /// Who wants it.
    pub pinned_by: String,
    /// Why.
    pub reason: String,
}

impl From<Pinned> for PinnedView {
    fn from(pinned: Pinned) -> Self {
        let Pinned { snapshot, time, hostname, since, pin } = pinned;
        Self { snapshot, time, hostname, pinned_at: since, pinned_by: pin.by, reason: pin.reason }
    }
}

/// Where the list goes on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PinQuery {
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// The pinned snapshots of a repository, the newest first.
///
/// # Errors
/// 404; 422 for a query that does not do.
#[utoipa::path(get, path = "/api/repos/{id}/pins", tag = "retention", params(("id" = String, Path), PinQuery),
    responses((status = 200, body = List<PinnedView>), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn pins(
    State(state): State<AppState>,
    Id(id): Id<RepoId>,
    Query(query): Query<PinQuery>,
) -> Result<Answer<List<PinnedView>>, HttpError> {
    let limit = limit(query.limit)?;
    let found = state
        .store
        .read(move |db| {
            let there = repos::lookup(db, id)?.is_some();
            there.then(|| verdicts::pins(db, id, query.after.as_deref(), limit + 1)).transpose()
        })
        .await?;
    let found = found.ok_or_else(|| HttpError::not_found("such repository"))?;
    Ok(Answer(List::page(found, limit, |pinned| pinned.snapshot.clone(), PinnedView::from)))
}

/// What is to stay.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The snapshot's id, or the first 8 digits or more of it.
    pub snapshot: String,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
}

/// Pins a snapshot, or gives its pin another reason.
///
/// # Errors
/// 404; 422 without a reason.
#[utoipa::path(post, path = "/api/repos/{id}/pins", tag = "retention", params(("id" = String, Path)), request_body = PinRequest,
    responses((status = 201, body = PinnedView), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn pin(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(repo): Id<RepoId>,
    Json(request): Json<PinRequest>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<PinnedView>), HttpError> {
    let id = snapshot(&state, repo, request.snapshot).await?.id;
    ops::pin(&state.store, user.actor(), repo, id.clone(), &request.reason).await?;
    let Snapshot { id, time, hostname, pin, .. } = snapshot(&state, repo, id).await?;
    // Let go by somebody else in this very moment.
    let pin = pin.ok_or(OpError::NotFound("pin"))?;
    let view = PinnedView { snapshot: id, time, hostname, pinned_at: pin.at, pinned_by: pin.by, reason: pin.reason };
    let place = [(header::LOCATION, format!("/api/repos/{repo}/pins/{}", view.snapshot))];
    Ok((StatusCode::CREATED, place, Answer(view)))
}

/// Lets a pinned snapshot go: the rules decide on it again. One that is not pinned stays so.
///
/// # Errors
/// 404 for the repository or the snapshot.
#[utoipa::path(delete, path = "/api/repos/{id}/pins/{snapshot}", tag = "retention",
    params(("id" = String, Path), ("snapshot" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn unpin(
    State(state): State<AppState>,
    user: CurrentUser,
    Pair(repo, id): Pair<RepoId, String>,
) -> Result<StatusCode, HttpError> {
    let id = snapshot(&state, repo, id).await?.id;
    ops::unpin(&state.store, user.actor(), repo, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn snapshot(state: &AppState, repo: RepoId, id: String) -> Result<Snapshot, HttpError> {
    let found = state
        .store
        .read(move |db| match repos::lookup(db, repo)? {
            Some(_) => snapshots::lookup(db, repo, &id),
            None => Ok::<_, StoreError>(None),
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such snapshot in this repository"))
}
