//! The test of a repository's connection: ordering one, and the card that shows the last.

use axum::response::Response;

use crate::{
    domain::{HostId, JobKind, RepoId, repo::Repo},
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{Ui, forms, repos::stored},
    },
    ops::jobs::{self as orders, Work},
    paths,
    store::{
        Db, StoreError, hosts,
        hosts::HostFilter,
        jobs::{self, JobFilter},
    },
    views::{components::HostRef, repos::Connection},
};

/// The card of a repository.
///
/// # Errors
/// [`StoreError`].
pub(super) fn card(db: &Db, repo: RepoId) -> Result<Connection, StoreError> {
    let tests = JobFilter { repo_id: Some(repo), kind: Some(JobKind::Test), limit: 1, ..JobFilter::default() };
    let last = jobs::list(db, &tests)?.into_iter().next();
    let result = last.as_ref().filter(|job| job.status.is_final()).and_then(|job| job.summary.clone());
    let result = result.and_then(|summary| serde_json::from_value(summary).ok());
    let hosts = hosts::own(db)?.into_iter().chain(hosts::list(db, &HostFilter::default())?);
    let hosts = hosts.filter(|host| host.revoked_at.is_none());
    let hosts = hosts.map(|host| HostRef { id: host.id, name: host.name }).collect();
    Ok(Connection { repo, last, result, hosts })
}

/// `GET /repos/{id}/test`: the card alone.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    stored(&ui, id).await?;
    let card = ui.store().read(move |db| card(db, id)).await?;
    ui.fragment(|shell| card.render(shell)).await
}

/// `POST /repos/{id}/test`: from the host that is named.
///
/// # Errors
/// 404; 409 where the host can run nothing; 422 without a host.
pub async fn run(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let host: Option<HostId> = reader.needed(&fields, "host_id", "the host to test from");
    reader.refuse()?;
    if let Some(host) = host {
        orders::order(&ui.state.desk(), ui.actor(), Work::of(host, JobKind::Test, id, None)).await?;
    }
    Ok(ui.go(&format!("{}#connection", paths::repo(id))))
}

/// Tests a repository that was just added, and lists what one that is taken over holds; says so in a sentence. That it can't be done now is no failure.
pub(super) async fn begin(ui: &Ui, repo: &Repo) -> &'static str {
    let own = ui.store().read(hosts::own).await.ok().flatten();
    let Some(own) = own.filter(|own| ui.state.hub.is_online(own.id) && own.restic_version.is_some()) else {
        return " Test its connection below, from a host.";
    };
    let listed = repo.upkeep.imported.then_some(JobKind::Snapshots);
    for kind in [Some(JobKind::Test), listed].into_iter().flatten() {
        let work = Work::of(own.id, kind, repo.id, None);
        if let Err(e) = orders::order(&ui.state.desk(), ui.actor(), work).await {
            tracing::warn!(repo.id = %repo.id, error = %e, "a new repository could not be tested at once");
            return " Test its connection below, from a host.";
        }
    }
    " Its connection is being tested."
}
