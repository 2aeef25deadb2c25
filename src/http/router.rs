//! The route table: the only list of routes, each with its access rule. Reading it is the tour of the product. A row can't be written without
//! a rule, and the rule is enforced before the handler runs.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    routing::{MethodFilter, MethodRouter, on},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate as _},
    },
};

use crate::{
    domain::user::Role,
    http::{
        AppState, BODY_LIMIT, HttpError,
        api::{
            accounts, alerts, database, enrol, hosts, job_orders, jobs, lookups, meta, plans, probes, repo_health,
            repos, retention, runbooks, schedules, sites, snapshots, tokens, upkeep, waves,
        },
        assets, auth, edge, live, pages,
    },
    paths::{self, route},
};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anyone.
    Public,
    /// Anyone who bears the setup token, while there is no account.
    Setup,
    /// Any account, by session or token.
    Viewer,
    /// Operators and administrators.
    Operator,
    /// Administrators.
    Admin,
    /// A machine with an enrolment token, which the handler checks.
    EnrolToken,
    /// An agent with its token, which the handler checks.
    Agent,
    /// Any account, or anyone where the configuration says so.
    Metrics,
}

impl Access {
    /// The least role, where it is a matter of roles.
    #[must_use]
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Viewer | Self::Metrics => Some(Role::Viewer),
            Self::Operator => Some(Role::Operator),
            Self::Admin => Some(Role::Admin),
            Self::Public | Self::Setup | Self::EnrolToken | Self::Agent => None,
        }
    }
}

/// A row of the table.
pub struct Route {
    method: Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<AppState>,
}

/// What a row says, without its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// The method; `GET` serves `HEAD` too.
    pub method: Method,
    /// The path; `{id}` stands for an id.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

impl Route {
    fn new<H: Handler<T, AppState>, T: 'static>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self { method, path, access, handler: on(filter, handler) }
    }

    /// A row for `GET`.
    pub fn get<H: Handler<T, AppState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Self {
        Self::new((Method::GET, MethodFilter::GET), path, access, handler)
    }

    /// A row for `POST`.
    pub fn post<H: Handler<T, AppState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Self {
        Self::new((Method::POST, MethodFilter::POST), path, access, handler)
    }

    /// A row for `PUT`.
    pub fn put<H: Handler<T, AppState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Self {
        Self::new((Method::PUT, MethodFilter::PUT), path, access, handler)
    }

    /// A row for `PATCH`.
    pub fn patch<H: Handler<T, AppState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Self {
        Self::new((Method::PATCH, MethodFilter::PATCH), path, access, handler)
    }

    /// A row for `DELETE`.
    pub fn delete<H: Handler<T, AppState>, T: 'static>(path: &'static str, access: Access, handler: H) -> Self {
        Self::new((Method::DELETE, MethodFilter::DELETE), path, access, handler)
    }

    /// What the row says.
    #[must_use]
    pub fn info(&self) -> RouteInfo {
        RouteInfo { method: self.method.clone(), path: self.path, access: self.access }
    }
}

/// All routes of the web, in the order of a tour. The agents' socket is the fleet's and comes as an extra row of [`service`].
fn routes() -> Vec<Route> {
    let mut rows = Vec::new();
    rows.extend(page_routes());
    rows.extend(operation_routes());
    rows.extend(site_routes());
    rows.extend(repository_routes());
    rows.extend(api_routes());
    rows.extend(operations_api_routes());
    rows.extend(probe_routes());
    rows
}

/// Probes and restarts: pages and API.
fn probe_routes() -> Vec<Route> {
    vec![
        Route::get(route::HOST_PROBES, Access::Operator, pages::probes::add),
        Route::post(route::HOST_PROBES, Access::Operator, pages::probes::create),
        Route::get(route::PROBE, Access::Viewer, pages::probes::show),
        Route::post(route::PROBE, Access::Operator, pages::probes::change),
        Route::post(route::PROBE_CHECK, Access::Operator, pages::probes::check),
        Route::post(route::PROBE_REMOVE, Access::Operator, pages::probes::remove),
        Route::post(route::HOST_RESTART, Access::Operator, pages::probes::restart),
        Route::get("/api/probes", Access::Viewer, probes::list),
        Route::post("/api/probes", Access::Operator, probes::create),
        Route::get("/api/probes/{id}", Access::Viewer, probes::show),
        Route::patch("/api/probes/{id}", Access::Operator, probes::update),
        Route::delete("/api/probes/{id}", Access::Operator, probes::remove),
        Route::post("/api/probes/{id}/check", Access::Operator, probes::check),
        Route::get("/api/probes/{id}/answers", Access::Viewer, probes::answers),
    ]
}

/// Pages for people.
fn page_routes() -> Vec<Route> {
    vec![
        Route::get("/assets/{hash}/{name}", Access::Public, assets::serve),
        Route::get(route::SETUP, Access::Setup, pages::auth::setup),
        Route::post(route::SETUP, Access::Setup, pages::auth::set_up),
        Route::get(route::LOGIN, Access::Public, pages::auth::login),
        Route::post(route::LOGIN, Access::Public, pages::auth::enter),
        Route::post(route::LOGOUT, Access::Viewer, pages::auth::leave),
        Route::get(route::DASHBOARD, Access::Viewer, pages::dashboard::show),
        Route::get(route::HOSTS, Access::Viewer, pages::hosts::list),
        Route::get(route::HOST_NEW, Access::Operator, pages::hosts::add),
        Route::post(route::HOST_NEW, Access::Operator, pages::hosts::issue),
        Route::get(route::HOST_NEW_DIRECT, Access::Operator, pages::reach::add),
        Route::post(route::HOST_NEW_DIRECT, Access::Operator, pages::reach::create),
        Route::post(route::HOST_REACH, Access::Admin, pages::reach::change),
        Route::post(route::HOST_TEST, Access::Operator, pages::reach::test),
        Route::post(route::HOST_TRUST, Access::Admin, pages::reach::trust),
        Route::get(route::HOST, Access::Viewer, pages::host::show),
        Route::post(route::HOST_RUN_BACKUP, Access::Operator, pages::host::run_backup),
        Route::post(route::HOST_CHECK_STATUS, Access::Operator, pages::host::check_status),
        Route::post(route::HOST_RESTORE, Access::Operator, pages::host::restore),
        Route::post(route::HOST_SETTINGS, Access::Operator, pages::host::change),
        Route::post(route::HOST_REVOKE, Access::Admin, pages::host::revoke),
        Route::post(route::HOST_REMOVE, Access::Admin, pages::host::remove),
        Route::get(route::JOBS, Access::Viewer, pages::jobs::list),
        Route::get(route::JOB, Access::Viewer, pages::jobs::show),
        Route::post(route::JOB_CANCEL, Access::Operator, pages::jobs::cancel),
        Route::post(route::JOB_RERUN, Access::Operator, pages::jobs::rerun),
        Route::get(route::WAVES, Access::Viewer, pages::waves::list),
        Route::post(route::WAVES, Access::Operator, pages::waves::create),
        Route::get(route::WAVE_NEW, Access::Operator, pages::waves::add),
        Route::get(route::WAVE, Access::Viewer, pages::waves::show),
        Route::post(route::WAVE_CANCEL, Access::Operator, pages::waves::cancel),
        Route::post(route::WAVE_RERUN, Access::Operator, pages::waves::rerun),
        Route::get(route::PLANS, Access::Viewer, pages::plans::list),
        Route::get(route::PLAN_NEW, Access::Operator, pages::plans::add),
        Route::post(route::PLAN_NEW, Access::Operator, pages::plans::create),
        Route::post(route::PLAN_PREVIEW, Access::Operator, pages::plans::preview),
        Route::get(route::PLAN, Access::Viewer, pages::plans::show),
        Route::post(route::PLAN, Access::Operator, pages::plans::change),
        Route::post(route::PLAN_REMOVE, Access::Operator, pages::plans::remove),
        Route::post(route::PLAN_ENABLED, Access::Operator, pages::plans::set_enabled),
        Route::get(route::SCHEDULES, Access::Viewer, pages::schedules::list),
        Route::get(route::SCHEDULE_NEW, Access::Operator, pages::schedules::add),
        Route::post(route::SCHEDULE_NEW, Access::Operator, pages::schedules::create),
        Route::post(route::SCHEDULE_ENABLED, Access::Operator, pages::schedules::set_enabled),
        Route::post(route::SCHEDULE_RUN, Access::Operator, pages::schedules::run),
        Route::post(route::SCHEDULE_REMOVE, Access::Operator, pages::schedules::remove),
        Route::get(route::ALERTS, Access::Viewer, pages::alerts::list),
        Route::post(route::ALERT_CLEAR, Access::Operator, pages::alerts::clear),
        Route::get(route::SETTINGS, Access::Viewer, pages::settings::show),
        Route::post(route::SETTINGS_PASSWORD, Access::Viewer, pages::settings::change_password),
        Route::post(route::SETTINGS_TOKENS, Access::Viewer, pages::settings::create_token),
        Route::post(route::SETTINGS_TOKEN_REVOKE, Access::Viewer, pages::settings::revoke_token),
        Route::post(route::SETTINGS_USERS, Access::Admin, pages::settings::create_user),
        Route::post(route::SETTINGS_USER_DISABLE, Access::Admin, pages::settings::disable_user),
        Route::post(route::SETTINGS_BACKUP, Access::Admin, pages::settings::back_up_database),
    ]
}

/// Pages of runbooks.
fn operation_routes() -> Vec<Route> {
    vec![
        Route::get(route::RUNBOOKS, Access::Viewer, pages::runbooks::list),
        Route::get(route::STEPS, Access::Admin, pages::runbooks::steps::show),
        Route::post(route::STEPS, Access::Admin, pages::runbooks::steps::run),
        Route::post(route::STEPS_PREVIEW, Access::Admin, pages::runbooks::steps::foresee),
        Route::get(route::RUNBOOK, Access::Viewer, pages::runbooks::show),
        Route::post(route::RUNBOOK, Access::Operator, pages::runbooks::run),
        Route::post(route::RUNBOOK_PREVIEW, Access::Operator, pages::runbooks::foresee),
    ]
}

/// Sites: pages, and the API for them.
fn site_routes() -> Vec<Route> {
    vec![
        Route::get(paths::sites::LIST, Access::Viewer, pages::sites::list),
        Route::post(paths::sites::FROM_DISCOVERY, Access::Operator, pages::sites::add),
        Route::get(paths::sites::SITE, Access::Viewer, pages::sites::show),
        Route::post(paths::sites::SITE, Access::Operator, pages::sites::change),
        Route::post(paths::sites::RUN, Access::Operator, pages::sites::run),
        Route::post(paths::sites::REMOVE, Access::Operator, pages::sites::remove),
        Route::post(paths::sites::DISCOVER, Access::Operator, pages::sites::discover),
        Route::get("/api/sites", Access::Viewer, sites::list),
        Route::post("/api/sites", Access::Operator, sites::create),
        Route::post("/api/sites/from-discovery", Access::Operator, sites::from_discovery),
        Route::get("/api/sites/{id}", Access::Viewer, sites::show),
        Route::patch("/api/sites/{id}", Access::Operator, sites::update),
        Route::delete("/api/sites/{id}", Access::Operator, sites::remove),
    ]
}

/// Pages about repositories and what they hold.
fn repository_routes() -> Vec<Route> {
    vec![
        Route::get(route::RESTORE, Access::Viewer, pages::restore::sources),
        Route::get(route::RESTORE_FILES, Access::Viewer, pages::restore::files),
        Route::post(route::RESTORE_FILES, Access::Viewer, pages::restore::pick),
        Route::get(route::RESTORE_TARGET, Access::Viewer, pages::restore::back_to_files),
        Route::post(route::RESTORE_TARGET, Access::Viewer, pages::restore::target),
        Route::post(route::RESTORE_DRY_RUN, Access::Operator, pages::restore::dry_run),
        Route::post(route::RESTORE_DOWNLOAD, Access::Operator, pages::downloads::order),
        Route::get(route::RESTORE_REVIEW, Access::Viewer, pages::restore::review),
        Route::post(route::RESTORE_SAFETY, Access::Operator, pages::restore::save_first),
        Route::post(route::RESTORE_START, Access::Operator, pages::restore::start),
        Route::get(route::DOWNLOAD, Access::Operator, pages::downloads::fetch),
        Route::get(route::REPOS, Access::Viewer, pages::repos::list),
        Route::get(route::REPO_NEW, Access::Admin, pages::repos::add),
        Route::post(route::REPO_NEW, Access::Admin, pages::repos::create),
        Route::get(route::REPO, Access::Viewer, pages::repos::show),
        Route::get(route::REPO_EDIT, Access::Admin, pages::repos::edit),
        Route::post(route::REPO_EDIT, Access::Admin, pages::repos::change),
        Route::get(route::REPO_TEST, Access::Viewer, pages::connection::show),
        Route::post(route::REPO_TEST, Access::Operator, pages::connection::run),
        Route::get(route::REPO_OPERATIONS, Access::Viewer, pages::operations::show),
        Route::post(route::REPO_OPERATIONS, Access::Operator, pages::operations::run),
        Route::post(route::REPO_REMOVE, Access::Admin, pages::repos::remove),
        Route::post(route::REPO_LOOK, Access::Operator, pages::repo_health::look),
        Route::post(route::REPO_UNLOCK, Access::Operator, pages::repo_health::unlock),
        Route::post(route::REPO_MEASURE, Access::Operator, pages::repo_health::measure),
        Route::post(route::REPO_CHECK, Access::Operator, pages::repo_health::check),
        Route::post(route::REPO_TAMPER, Access::Operator, pages::repo_health::tamper),
        Route::get(route::REPO_REPAIR, Access::Viewer, pages::repo_health::guide),
        Route::post(route::REPO_REPAIR_STEP, Access::Operator, pages::repo_health::repair_step),
        Route::get(route::REPO_RETENTION, Access::Viewer, pages::retention::list),
        Route::post(route::REPO_RETENTION_PREVIEW, Access::Operator, pages::retention::preview),
        Route::post(route::REPO_PIN, Access::Operator, pages::retention::pin),
        Route::post(route::REPO_UNPIN, Access::Admin, pages::retention::unpin),
        Route::post(route::REPO_UPKEEP, Access::Admin, pages::retention::set_up),
        Route::get(route::VERDICT, Access::Viewer, pages::retention::show),
        Route::post(route::VERDICT_APPROVE, Access::Admin, pages::retention::approve),
        Route::post(route::VERDICT_DISMISS, Access::Operator, pages::retention::dismiss),
        Route::get(route::REPO_SNAPSHOTS, Access::Viewer, pages::snapshots::list),
        Route::post(route::REPO_SNAPSHOTS_REFRESH, Access::Operator, pages::snapshots::refresh),
        Route::post(route::REPO_SNAPSHOTS_MATCH, Access::Admin, pages::snapshots::match_host),
        Route::get(route::SNAPSHOT, Access::Viewer, pages::snapshots::show),
        Route::post(route::SNAPSHOT_TREE, Access::Operator, pages::snapshots::list_folder),
        Route::get(route::REPO_SEARCH, Access::Viewer, pages::lookups::search),
        Route::post(route::REPO_SEARCH, Access::Operator, pages::lookups::order_search),
        Route::get(route::REPO_COMPARE, Access::Viewer, pages::lookups::compare),
        Route::post(route::REPO_COMPARE, Access::Operator, pages::lookups::order_compare),
        Route::get(route::REPO_VERSIONS, Access::Viewer, pages::lookups::file_versions),
        Route::post(route::REPO_VERSIONS, Access::Operator, pages::lookups::order_versions),
    ]
}

/// The JSON API and what machines ask.
fn api_routes() -> Vec<Route> {
    vec![
        Route::get("/healthz", Access::Public, meta::healthz),
        Route::get("/readyz", Access::Public, meta::readyz),
        Route::get("/metrics", Access::Metrics, meta::metrics),
        Route::get("/api/openapi.json", Access::Public, meta::openapi_json),
        Route::get("/api/me", Access::Viewer, meta::me),
        Route::post("/api/me/password", Access::Viewer, accounts::change_password),
        Route::get("/api/database/backups", Access::Admin, database::list),
        Route::post("/api/database/backups", Access::Admin, database::create),
        Route::get("/api/users", Access::Admin, accounts::list),
        Route::post("/api/users", Access::Admin, accounts::create),
        Route::patch("/api/users/{id}", Access::Admin, accounts::change),
        Route::get("/api/tokens", Access::Viewer, tokens::list),
        Route::post("/api/tokens", Access::Viewer, tokens::create),
        Route::delete("/api/tokens/{id}", Access::Viewer, tokens::remove),
        Route::post("/api/enrollment-tokens", Access::Operator, enrol::create),
        Route::get("/api/enrollment-tokens/{id}", Access::Operator, enrol::arrival),
        Route::post("/api/enroll", Access::EnrolToken, enrol::enroll),
        Route::get("/api/hosts", Access::Viewer, hosts::list),
        Route::get("/api/hosts/{id}", Access::Viewer, hosts::show),
        Route::get("/api/hosts/{id}/status", Access::Viewer, hosts::status::show),
        Route::patch("/api/hosts/{id}", Access::Operator, hosts::change),
        Route::delete("/api/hosts/{id}", Access::Admin, hosts::remove),
        Route::post("/api/hosts/{id}/revoke", Access::Admin, hosts::revoke),
        Route::get("/api/jobs", Access::Viewer, jobs::list),
        Route::get("/api/jobs/{id}", Access::Viewer, jobs::show),
        Route::get("/api/jobs/{id}/log", Access::Viewer, jobs::log),
        Route::get("/api/jobs/{id}/log.txt", Access::Viewer, jobs::log_text),
        Route::get("/api/jobs/{id}/stream", Access::Viewer, live::stream),
        Route::get("/api/repos", Access::Viewer, repos::list),
        Route::post("/api/repos", Access::Admin, repos::create),
        Route::get("/api/repos/{id}", Access::Viewer, repos::show),
        Route::patch("/api/repos/{id}", Access::Admin, repos::update),
        Route::delete("/api/repos/{id}", Access::Admin, repos::remove),
        Route::get("/api/repos/{id}/snapshots", Access::Viewer, snapshots::list),
        Route::post("/api/repos/{id}/snapshots/refresh", Access::Operator, snapshots::refresh),
        Route::post("/api/repos/{id}/snapshots/match", Access::Admin, snapshots::match_host),
        Route::get("/api/repos/{id}/snapshots/{snapshot}", Access::Viewer, snapshots::show),
        Route::get("/api/repos/{id}/snapshots/{snapshot}/tree", Access::Viewer, snapshots::tree),
        Route::post("/api/repos/{id}/snapshots/{snapshot}/tree", Access::Operator, snapshots::list_folder),
        Route::post("/api/repos/{id}/find", Access::Operator, lookups::find),
        Route::get("/api/repos/{id}/find/{job}", Access::Viewer, lookups::found),
        Route::get("/api/repos/{id}/versions/{job}", Access::Viewer, lookups::file_versions),
        Route::post("/api/repos/{id}/diff", Access::Operator, lookups::diff),
        Route::get("/api/repos/{id}/diff/{job}", Access::Viewer, lookups::differences),
        Route::get("/api/repos/{id}/stats", Access::Viewer, repo_health::stats),
        Route::get("/api/repos/{id}/locks", Access::Viewer, repo_health::locks),
        Route::post("/api/repos/{id}/locks", Access::Operator, repo_health::look),
        Route::post("/api/repos/{id}/unlock", Access::Operator, repo_health::unlock),
        Route::post("/api/repos/{id}/repair", Access::Operator, repo_health::repair),
        Route::get("/api/repos/{id}/health", Access::Viewer, repo_health::health),
        Route::get("/api/repos/{id}/upkeep", Access::Viewer, upkeep::show),
        Route::put("/api/repos/{id}/upkeep", Access::Admin, upkeep::set_up),
        Route::get("/api/repos/{id}/pins", Access::Viewer, retention::pins),
        Route::post("/api/repos/{id}/pins", Access::Operator, retention::pin),
        Route::delete("/api/repos/{id}/pins/{snapshot}", Access::Admin, retention::unpin),
        Route::get("/api/verdicts", Access::Viewer, retention::list),
        Route::get("/api/verdicts/{id}", Access::Viewer, retention::show),
        Route::get("/api/verdicts/{id}/snapshots", Access::Viewer, retention::fates),
        Route::post("/api/verdicts/{id}/approve", Access::Admin, retention::approve),
        Route::post("/api/verdicts/{id}/dismiss", Access::Operator, retention::dismiss),
        Route::get("/api/alerts", Access::Viewer, alerts::list),
        Route::post("/api/alerts/{id}/clear", Access::Operator, alerts::clear),
        Route::get("/api/plans", Access::Viewer, plans::list),
        Route::post("/api/plans", Access::Operator, plans::create),
        Route::post("/api/plans/preview", Access::Operator, plans::preview),
        Route::get("/api/plans/{id}", Access::Viewer, plans::show),
        Route::patch("/api/plans/{id}", Access::Operator, plans::update),
        Route::delete("/api/plans/{id}", Access::Operator, plans::remove),
        Route::get("/api/schedules", Access::Viewer, schedules::list),
        Route::post("/api/schedules", Access::Operator, schedules::create),
        Route::get("/api/schedules/{id}", Access::Viewer, schedules::show),
        Route::patch("/api/schedules/{id}", Access::Operator, schedules::update),
        Route::delete("/api/schedules/{id}", Access::Operator, schedules::remove),
        Route::post("/api/schedules/{id}/run", Access::Operator, schedules::run),
        Route::post("/api/hosts/{id}/jobs", Access::Operator, job_orders::create),
        Route::post("/api/hosts/{id}/preview", Access::Operator, job_orders::preview),
        Route::post("/api/jobs/{id}/cancel", Access::Operator, job_orders::cancel),
        Route::post("/api/jobs/{id}/rerun", Access::Operator, job_orders::rerun),
    ]
}

/// The JSON API of server operations.
fn operations_api_routes() -> Vec<Route> {
    vec![
        Route::post("/api/hosts", Access::Operator, hosts::reach::create),
        Route::post("/api/hosts/{id}/test", Access::Operator, hosts::reach::test),
        Route::post("/api/hosts/{id}/ssh/trust", Access::Admin, hosts::reach::trust),
        Route::get("/api/runbooks", Access::Viewer, runbooks::list),
        Route::get("/api/runbooks/{name}", Access::Viewer, runbooks::show),
        Route::get("/api/waves", Access::Viewer, waves::list),
        Route::post("/api/waves", Access::Operator, waves::create),
        Route::get("/api/waves/{id}", Access::Viewer, waves::show),
        Route::post("/api/waves/{id}/cancel", Access::Operator, waves::cancel),
        Route::post("/api/waves/{id}/rerun", Access::Operator, waves::rerun),
    ]
}

/// What the table says, for the test that walks it.
#[must_use]
pub fn table() -> Vec<RouteInfo> {
    routes().iter().map(Route::info).collect()
}

/// The whole web as a service: the table, and rows of other parts of the house. Give it the peer's address as
/// `ConnectInfo<SocketAddr>` in each request's extensions.
pub fn service(state: AppState, extra: Vec<Route>) -> Router {
    let mut router = Router::new();
    for Route { path, access, handler, .. } in routes().into_iter().chain(extra) {
        let guard = from_fn_with_state((state.clone(), access), auth::guard);
        router = router.route(path, handler.route_layer(guard));
    }
    // Downloads are what they are: an archive gains nothing, and bytes must not wait for a block to fill.
    let compressed = DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream"));
    router
        .fallback(async || HttpError::not_found("such page"))
        .method_not_allowed_fallback(async |method: Method| {
            let detail = format!("This address does not take {method}; the Allow header says what it takes.");
            HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Wrong method", detail)
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(state.clone(), edge::edge))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(compressed))
        .with_state(state)
}
