//! `/api/plans`.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Hook, HostId, KeepRules, PlanId, PlanOptions, RepoId, Timestamp, plan::Plan, schedule::Schedule},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{List, limit},
        extract::{Id, Json, Query},
    },
    ops::plans::{self as ops, PlanInput, PlanPatch},
    store::plans,
};

/// A plan as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PlanView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: PlanId,
    /// What people call it.
    pub name: String,
    /// Where to.
    #[schema(value_type = String)]
    pub repo_id: RepoId,
    /// Where each snapshot is copied to.
    #[schema(value_type = Option<String>)]
    pub second_repo_id: Option<RepoId>,
    /// Hosts named one by one.
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostId>,
    /// Hosts with one of these tags are covered too.
    pub tags: Vec<String>,
    /// What.
    pub paths: Vec<String>,
    /// What not.
    pub excludes: Vec<String>,
    /// How.
    #[schema(value_type = Object)]
    pub options: PlanOptions,
    /// Commands around it.
    #[schema(value_type = Vec<Object>)]
    pub hooks: Vec<Hook>,
    /// What is kept.
    #[schema(value_type = Object)]
    pub retention: KeepRules,
    /// When; null where it runs by hand only.
    pub schedule: Option<Schedule>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        let Plan {
            id,
            name,
            repo_id,
            repo_name: _,
            second_repo,
            hosts,
            tags,
            paths,
            excludes,
            options,
            hooks,
            retention,
            schedule,
            created_at,
        } = plan;
        let schedule = schedule.map(|standing| standing.schedule);
        let second_repo_id = second_repo.map(|(id, _)| id);
        Self {
            id,
            name,
            repo_id,
            second_repo_id,
            hosts,
            tags,
            paths,
            excludes,
            options,
            hooks,
            retention,
            schedule,
            created_at,
        }
    }
}

/// Which page of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlanQuery {
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<PlanId>,
}

/// Plans, by name.
///
/// # Errors
/// [`HttpError`].
#[utoipa::path(get, path = "/api/plans", tag = "plans", params(PlanQuery), responses((status = 200, body = List<PlanView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<PlanQuery>,
) -> Result<Answer<List<PlanView>>, HttpError> {
    let limit = limit(query.limit)?;
    let found = state.store.read(move |db| plans::list(db, query.after, limit + 1)).await?;
    Ok(Answer(List::page(found, limit, |plan| plan.id.to_string(), PlanView::from)))
}

/// Makes a plan.
///
/// # Errors
/// 409 where the name is taken, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/plans", tag = "plans", request_body = PlanInput,
    responses((status = 201, body = PlanView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<PlanInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<PlanView>), HttpError> {
    let plan = ops::create(&state.store, user.actor(), input).await?;
    let location = [(header::LOCATION, format!("/api/plans/{}", plan.id))];
    Ok((StatusCode::CREATED, location, Answer(plan.into())))
}

/// What a plan would do. Nothing is saved.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PreviewView {
    /// Hosts that it would cover.
    hosts: Vec<CoveredView>,
    /// What it would back up; empty where that is the output of a command.
    paths: Vec<String>,
    /// What it would leave out.
    excludes: Vec<String>,
    /// The next times of its schedule.
    #[schema(value_type = Vec<String>)]
    next: Vec<Timestamp>,
    /// What it would keep, in words.
    keeps: String,
    /// Snapshots of each host that stay at most, where counts alone say so.
    at_most: Option<u64>,
    /// Names of the repositories that it would write to, the second copy's last.
    repos: Vec<String>,
    /// Names of other plans that cover some of these hosts.
    beside: Vec<String>,
}

/// A host that a plan would cover.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CoveredView {
    /// Which.
    #[schema(value_type = String)]
    id: HostId,
    /// Its name.
    name: String,
    /// It is named itself.
    named: bool,
    /// Tags that it shares with the plan.
    tags: Vec<String>,
}

/// Says what a plan would do: which hosts, what, when, what is kept.
///
/// # Errors
/// 422 for what would be refused.
#[utoipa::path(post, path = "/api/plans/preview", tag = "plans", request_body = PlanInput,
    responses((status = 200, body = PreviewView), (status = 422, body = Problem)))]
pub async fn preview(
    State(state): State<AppState>,
    Json(input): Json<PlanInput>,
) -> Result<Answer<PreviewView>, HttpError> {
    let seen = ops::preview(&state.store, input, None, state.clock.now()).await?;
    let ops::Preview { hosts, paths, excludes, schedule: _, next, keeps, at_most, repos, beside } = seen;
    let covered = |ops::Covered { id, name, named, tags }| CoveredView { id, name, named, tags };
    let hosts = hosts.into_iter().map(covered).collect();
    Ok(Answer(PreviewView { hosts, paths, excludes, next, keeps, at_most, repos, beside }))
}

/// A plan.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/plans/{id}", tag = "plans", params(("id" = String, Path)),
    responses((status = 200, body = PlanView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<PlanId>) -> Result<Answer<PlanView>, HttpError> {
    let plan = state.store.read(move |db| plans::lookup(db, id)).await?;
    plan.map(|plan| Answer(plan.into())).ok_or_else(|| HttpError::not_found("such plan"))
}

/// Changes a plan: what is absent stays.
///
/// # Errors
/// 404, 409, 422.
#[utoipa::path(patch, path = "/api/plans/{id}", tag = "plans", params(("id" = String, Path)), request_body = PlanPatch,
    responses((status = 200, body = PlanView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn update(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<PlanId>,
    Json(patch): Json<PlanPatch>,
) -> Result<Answer<PlanView>, HttpError> {
    Ok(Answer(ops::update(&state.store, user.actor(), id, patch).await?.into()))
}

/// Removes a plan; its jobs that were not sent yet are cancelled.
///
/// # Errors
/// 404.
#[utoipa::path(delete, path = "/api/plans/{id}", tag = "plans", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<PlanId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
