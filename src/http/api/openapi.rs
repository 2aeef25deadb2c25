//! The OpenAPI document, made of the handlers' own types. A test holds it against the route table.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        SecurityRequirement,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{
    accounts, alerts, database, enrol, hosts, job_orders, jobs, lookups, meta, plans, probes, repo_health, repos,
    retention, runbooks, schedules, sites, snapshots, tokens, upkeep, waves,
};
use crate::http::live;

#[derive(OpenApi)]
#[openapi(
    info(title = "Flotilla", description = "Look after more than one server: restic backups, server operations and health probes from one place. Errors are RFC 9457 problems.", license(name = "MIT OR Apache-2.0")),
    paths(
        meta::openapi_json, meta::me, database::list, database::create,
        accounts::list, accounts::create, accounts::change, accounts::change_password,
        tokens::list, tokens::create, tokens::remove,
        enrol::create, enrol::arrival, enrol::enroll,
        hosts::list, hosts::show, hosts::change, hosts::remove, hosts::revoke,
        hosts::reach::create, hosts::reach::test, hosts::reach::trust,
        hosts::status::show,
        repos::list, repos::create, repos::show, repos::update, repos::remove,
        snapshots::list, snapshots::show, snapshots::refresh, snapshots::match_host, snapshots::tree, snapshots::list_folder,
        lookups::find, lookups::found, lookups::diff, lookups::differences, lookups::file_versions,
        repo_health::stats, repo_health::locks, repo_health::health,
        repo_health::look, repo_health::unlock, repo_health::repair,
        retention::list, retention::show, retention::fates, retention::approve, retention::dismiss,
        retention::pins, retention::pin, retention::unpin, upkeep::show, upkeep::set_up,
        alerts::list, alerts::clear, runbooks::list, runbooks::show,
        probes::list, probes::create, probes::show, probes::update, probes::remove, probes::check, probes::answers,
        sites::list, sites::create, sites::from_discovery, sites::show, sites::update, sites::remove,
        plans::list, plans::create, plans::preview, plans::show, plans::update, plans::remove,
        schedules::list, schedules::create, schedules::show, schedules::update, schedules::remove, schedules::run,
        waves::list, waves::create, waves::show, waves::cancel, waves::rerun,
        job_orders::create, job_orders::preview, job_orders::rerun, job_orders::cancel,
        jobs::list, jobs::show, jobs::log, jobs::log_text, live::stream,
    ),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("An API token.")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let cookie = ApiKeyValue::with_description(
            crate::http::auth::SESSION_COOKIE,
            "A browser's session; requests that change something carry the CSRF token in `X-CSRF-Token`.",
        );
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let either = ["bearer", "session"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        document.security = Some(either.into());
    }
}

/// The whole document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
