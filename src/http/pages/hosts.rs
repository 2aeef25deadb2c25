//! The list of hosts, and adding one.

use axum::{http::HeaderMap, response::Response};
use serde::Deserialize;

use crate::{
    domain::{HostId, TokenId, standing::Standing},
    http::{
        HttpError,
        extract::{FormFields, Query},
        pages::{Ui, forms, redraw},
    },
    ops::{
        enrol::{self, NewEnrolToken},
        survey::{self, Surveyed},
    },
    store::{
        Connection, StoreError, facets,
        hosts::{self, HostFilter},
        statuses,
    },
    views::{
        components::HostRef,
        hosts::{AddHostPage, Arrival, HOSTS_A_PAGE, HostRow, HostsPage, Issued, OwnAgentView},
    },
};

/// A surveyed host as a row.
pub(super) fn row_of(surveyed: &Surveyed) -> HostRow {
    let Surveyed { host, status, assessment, reach, .. } = surveyed;
    HostRow {
        id: host.id,
        name: host.name.clone(),
        tags: host.tags.clone(),
        status: *status,
        reach: reach.clone(),
        protection: assessment.protection,
        standing: None,
        last_good: assessment.last_good,
        strip: assessment.strip,
        last_size: assessment.last_size,
        agent_version: host.agent_version.clone(),
        restic_version: host.restic_version.clone(),
    }
}

/// The control plane's own agent, as pages show it.
pub(super) async fn own_agent(ui: &Ui) -> Result<Option<OwnAgentView>, HttpError> {
    let own = ui.store().read(hosts::own).await?;
    Ok(own.map(|host| OwnAgentView {
        here: ui.state.hub.is_online(host.id),
        id: host.id,
        name: host.name,
        restic_version: host.restic_version,
    }))
}

/// Adds how each host of a page is by its last check.
async fn with_standings(ui: &Ui, mut rows: Vec<HostRow>) -> Result<Vec<HostRow>, HttpError> {
    let (thresholds, now) = (ui.state.settings.status, ui.now());
    let read = move |db: &Connection| {
        for row in &mut rows {
            let last = statuses::of_host(db, row.id)?;
            row.standing = last.map(|last| Standing::of(Some(&last), &thresholds, now));
        }
        Ok::<_, StoreError>(rows)
    };
    Ok(ui.store().read(read).await?)
}

/// What to look for.
#[derive(Debug, Deserialize)]
pub struct HostsQuery {
    #[serde(default)]
    q: String,
    #[serde(default)]
    tag: String,
    after: Option<HostId>,
}

/// `GET /hosts`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui, Query(query): Query<HostsQuery>) -> Result<Response, HttpError> {
    let survey = survey::take(ui.store(), &ui.state.hub, ui.now(), HostFilter::default()).await?;
    let needle = query.q.trim().to_lowercase();
    let matches = |surveyed: &&Surveyed| {
        let host = &surveyed.host;
        let named = [Some(&host.name), Some(&host.slug), host.hostname.as_ref()].into_iter().flatten();
        let found = named.chain(&host.tags).any(|text| text.to_lowercase().contains(&needle));
        found && (query.tag.is_empty() || host.tags.contains(&query.tag))
    };
    let mut rows: Vec<HostRow> = survey.hosts.iter().filter(matches).map(row_of).collect();
    if let Some(last) = query.after.and_then(|after| rows.iter().position(|row| row.id == after)) {
        rows.drain(..=last);
    }
    let more = rows.len() > HOSTS_A_PAGE;
    rows.truncate(HOSTS_A_PAGE);
    let rows = with_standings(&ui, rows).await?;
    let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
    let mut tags: Vec<String> = survey.hosts.iter().flat_map(|surveyed| surveyed.host.tags.clone()).collect();
    tags.sort();
    tags.dedup();
    let total = survey.hosts.len() as u64;
    let own = own_agent(&ui).await?;
    let facets = ui.store().read(facets::all).await?;
    let restartable = survey.hosts.iter().filter(|one| facets.get(&one.host.id).is_some_and(|f| f.restart.is_some()));
    let restartable = restartable.count() as u64;
    ui.show(&HostsPage { rows, next, total, query: query.q, tag: query.tag, tags, restartable, own }).await
}

/// Whether only the part that waits for the agent is asked for.
#[derive(Debug, Deserialize)]
pub struct AddQuery {
    fragment: Option<String>,
    token: Option<TokenId>,
}

/// `GET /hosts/new`.
///
/// # Errors
/// 404 for the fragment of an unknown token.
pub async fn add(ui: Ui, Query(query): Query<AddQuery>) -> Result<Response, HttpError> {
    let Some(token) = query.token.filter(|_| query.fragment.is_some()) else {
        return ui.show(&AddHostPage::default()).await;
    };
    let arrived = enrol::arrival(ui.store(), token).await?;
    let (record, host) = arrived.ok_or_else(|| HttpError::not_found("such enrolment token"))?;
    let arrived = host.map(|host| HostRef { id: host.id, name: host.name }).into_iter().collect();
    let arrival = Arrival { token, expires_at: record.expires_at, arrived };
    ui.fragment(|shell| arrival.render(shell)).await
}

/// `POST /hosts/new`: makes a token and shows its command, this once.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn issue(ui: Ui, headers: HeaderMap, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let ttl_s = reader.value(&fields, "ttl_seconds", "a number of seconds");
    let new = NewEnrolToken {
        ttl_s,
        uses: Some(1),
        host_name: forms::text(&fields, "name"),
        tags: forms::words(&fields, "tags"),
    };
    let made = match reader.refuse() {
        Ok(()) => enrol::create_token(ui.store(), ui.actor(), new).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match made {
        Ok((token, secret)) => {
            let settings = &ui.state.settings;
            let server = settings.address_for_agents(&headers);
            let command = enrol::command(&server, &secret, settings.ca_fingerprint.as_deref());
            let arrival = Arrival { token: token.id, expires_at: token.expires_at, arrived: Vec::new() };
            let issued = Some(Issued { command, arrival });
            ui.show(&AddHostPage { issued, ..AddHostPage::default() }).await
        }
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[("host_name", "name")])?;
            ui.show_as(status, &AddHostPage { form, issued: None }).await
        }
    }
}
