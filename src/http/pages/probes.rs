//! A host's health: what its tab shows, the forms of its probes, asking at once, the restart.

use std::collections::BTreeSet;

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{
        HostId, JobKind, ProbeId, Timestamp, Way,
        aftermath::RESTART,
        facet::{Facets, RESTART_TIMEOUT_S},
        host::Host,
        probe::{Expect, ProbeSpec, Question},
    },
    http::{
        AppState, HttpError,
        extract::{FormFields, Id, Query},
        pages::{
            Ui,
            forms::{self, Reader},
            redraw,
        },
    },
    ops::{
        jobs::{self as orders, JobRequest},
        offers,
        probes::{self as ops, ProbeInput, ProbePatch},
    },
    paths,
    runbook::Entry,
    store::{
        Connection, StoreError, facets, hosts,
        jobs::{self, JobFilter},
        probes,
    },
    views::{
        FormState,
        components::Tone,
        host::health::{self, HealthTab, RestartOffer},
        probes::{ProbeNewPage, ProbePage, answer_words},
    },
};

const DAY_S: i64 = 86_400;
/// Answers that are read for a picture at most: of 90 days an hour each, of one day one each 5 s.
const MOST_ANSWERS: u32 = 20_000;
/// Days that a probe's page shows.
const DAYS: [u16; 3] = [1, 7, 90];

/// Errors of the operation and the form's fields that they belong to.
const NAMES: [(&str, &str); 4] = [
    ("question.expect.codes", "codes"),
    ("question.expect.pattern", "pattern"),
    ("question.expect", "mode"),
    ("question.", ""),
];

/// What the tab of a host shows.
pub(super) async fn tab(state: &AppState, host: &Host, now: Timestamp) -> Result<HealthTab, HttpError> {
    let library = state.runbooks.clone();
    let found = tokio::task::spawn_blocking(move || library.get(RESTART)).await;
    let book = found.ok().and_then(Result::ok).flatten();
    let (host, connected) = (host.clone(), state.hub.is_online(host.id));
    Ok(state.store.read(move |db| of_host(db, &host, book.as_ref(), connected, now)).await?)
}

fn of_host(
    db: &Connection,
    host: &Host,
    book: Option<&Entry>,
    connected: bool,
    now: Timestamp,
) -> Result<HealthTab, StoreError> {
    let since = now.plus_s(-DAY_S);
    let probes = probes::list(db, Some(host.id))?
        .into_iter()
        .map(|probe| {
            let answers = probes::answers(db, probe.no, since, MOST_ANSWERS)?;
            Ok((probe, answers))
        })
        .collect::<Result<_, StoreError>>()?;
    let facets = facets::of(db, host.id)?;
    let restarts = JobFilter {
        host_id: Some(host.id),
        kind: Some(JobKind::Runbook(RESTART.to_owned())),
        limit: 1,
        ..JobFilter::default()
    };
    Ok(HealthTab {
        probes,
        restart: offer(host, &facets, book, connected),
        last_restart: jobs::list(db, &restarts)?.into_iter().next(),
    })
}

/// What a restart would run, and which way it would go.
fn offer(host: &Host, facets: &Facets, book: Option<&Entry>, connected: bool) -> RestartOffer {
    let chosen = book.map(|book| offers::offer(host, facets, book, connected));
    let way = match chosen.unwrap_or_else(|| Err("there is no runbook for a restart".to_owned())) {
        Ok(Way::Agent) if connected => Ok("by its agent, as the user that it runs as".to_owned()),
        Ok(Way::Agent) => Ok("by its agent, as the user that it runs as, once it is connected again".to_owned()),
        Ok(Way::Ssh) => {
            let as_whom = facets.ssh.as_ref().map(|ssh| format!(" as {} at {}", ssh.user, ssh.address));
            Ok(format!("over SSH{}", as_whom.unwrap_or_default()))
        }
        Ok(Way::Api) => Ok("by its management interface".to_owned()),
        Err(why) => Err(why),
    };
    let restart = facets.restart.as_ref();
    RestartOffer {
        command: restart.map(|restart| restart.command.clone()),
        timeout_s: restart.map_or(RESTART_TIMEOUT_S, |restart| restart.timeout_s),
        way,
    }
}

async fn host(ui: &Ui, id: HostId) -> Result<Host, HttpError> {
    let host = ui.store().read(move |db| hosts::lookup(db, id)).await?;
    host.ok_or_else(|| HttpError::not_found("such host"))
}

/// `GET /hosts/{id}/probes`.
///
/// # Errors
/// 404.
pub async fn add(ui: Ui, Id(id): Id<HostId>) -> Result<Response, HttpError> {
    let page = ProbeNewPage { host: host(&ui, id).await?, form: FormState::default() };
    ui.show(&page).await
}

/// `POST /hosts/{id}/probes`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn create(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let host = host(&ui, id).await?;
    let made = match typed(&fields) {
        Ok((name, spec)) => {
            let input = ProbeInput {
                host_id: id,
                site_id: None,
                name,
                question: spec.question,
                interval_s: Some(spec.interval_s),
                timeout_s: Some(spec.timeout_s),
                need: Some(spec.need),
                of: Some(spec.of),
                enabled: Some(spec.enabled),
            };
            ops::create(ui.store(), ui.actor(), input).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match made {
        Ok(probe) => {
            let news = format!("{} is asked from now on. The first answer comes within seconds.", probe.name);
            Ok(ui.go_saying(&health::address(id), Tone::Ok, &news))
        }
        Err(e) => {
            let (status, form) = refused(e, &fields)?;
            ui.show_as(status, &ProbeNewPage { host, form }).await
        }
    }
}

/// Which span of time.
#[derive(Debug, Deserialize)]
pub struct ProbeQuery {
    days: Option<u16>,
}

/// `GET /probes/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<ProbeId>, Query(query): Query<ProbeQuery>) -> Result<Response, HttpError> {
    let days = query.days.filter(|days| DAYS.contains(days)).unwrap_or(DAYS[0]);
    let page = load(&ui, id, days, FormState::default()).await?;
    ui.show(&page).await
}

async fn load(ui: &Ui, id: ProbeId, days: u16, form: FormState) -> Result<ProbePage, HttpError> {
    let since = ui.now().plus_s(-DAY_S * i64::from(days));
    let found = ui
        .store()
        .read(move |db| {
            let Some(probe) = probes::lookup(db, id)? else { return Ok(None) };
            let Some(host) = hosts::lookup(db, probe.host_id)? else { return Ok(None) };
            let answers = probes::answers(db, probe.no, since, MOST_ANSWERS)?;
            Ok::<_, StoreError>(Some(ProbePage { probe, host, answers, days, form }))
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such probe"))
}

/// `POST /probes/{id}`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<ProbeId>, fields: FormFields) -> Result<Response, HttpError> {
    let changed = match typed(&fields) {
        Ok((name, spec)) => {
            let patch = ProbePatch {
                name: Some(name),
                question: Some(spec.question),
                interval_s: Some(spec.interval_s),
                timeout_s: Some(spec.timeout_s),
                need: Some(spec.need),
                of: Some(spec.of),
                enabled: Some(spec.enabled),
            };
            ops::update(ui.store(), ui.actor(), id, patch).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match changed {
        Ok(probe) => Ok(ui.go_saying(&paths::probe(probe.id), Tone::Ok, "Saved.")),
        Err(e) => {
            let (status, form) = refused(e, &fields)?;
            let page = load(&ui, id, DAYS[0], form).await?;
            ui.show_as(status, &page).await
        }
    }
}

fn refused(error: HttpError, fields: &FormFields) -> Result<(axum::http::StatusCode, FormState), HttpError> {
    // A certificate's address has a field of its own, for all kinds' fields are in the form.
    let address = if fields.text("kind") == "tls" { "tls_address" } else { "address" };
    let names: Vec<(&str, &str)> = std::iter::once(("question.address", address)).chain(NAMES).collect();
    redraw(error, forms::typed(fields), &names)
}

/// What the form says.
fn typed(fields: &FormFields) -> Result<(String, ProbeSpec), HttpError> {
    let mut reader = Reader::default();
    let text = |name| forms::text(fields, name).unwrap_or_default();
    let question = match fields.text("kind") {
        "tcp" => Question::Tcp { address: text("address") },
        "tls" => Question::Tls {
            address: text("tls_address"),
            days: reader.needed(fields, "days", "a number of days").unwrap_or_default(),
        },
        _ => {
            let expect = match fields.text("mode") {
                "status" => Expect::Status { codes: codes(&mut reader, fields) },
                "body" => Expect::Body { pattern: fields.text("pattern").to_owned() },
                _ => Expect::Any,
            };
            Question::Http { url: text("url"), expect, tls_insecure: fields.is_set("tls_insecure") }
        }
    };
    let spec = ProbeSpec {
        question,
        interval_s: reader.needed(fields, "interval_s", "a number of seconds").unwrap_or_default(),
        timeout_s: reader.needed(fields, "timeout_s", "a number of seconds").unwrap_or_default(),
        need: reader.needed(fields, "need", "a number from 1 to 10").unwrap_or_default(),
        of: reader.needed(fields, "of", "a number from 1 to 10").unwrap_or_default(),
        enabled: fields.is_set("enabled"),
    };
    reader.refuse()?;
    Ok((fields.text("name").to_owned(), spec))
}

fn codes(reader: &mut Reader, fields: &FormFields) -> BTreeSet<u16> {
    let words = forms::words(fields, "codes");
    let codes: BTreeSet<u16> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if codes.len() < words.iter().collect::<BTreeSet<_>>().len() {
        reader.refuse_field("codes", "must be numbers from 100 to 599, separated by commas");
    }
    codes
}

/// `POST /probes/{id}/check`: asks at once; the host's tab says what came.
///
/// # Errors
/// 404.
pub async fn check(ui: Ui, Id(id): Id<ProbeId>) -> Result<Response, HttpError> {
    let state = &ui.state;
    let (probe, answer) = ops::check_now((&state.store, &state.clock, &state.prober), ui.actor(), id).await?;
    let (tone, news) = answer_words(&probe, answer.healthy, answer.latency_ms, &answer.detail);
    Ok(ui.go_saying(&health::address(probe.host_id), tone, &news))
}

/// `POST /probes/{id}/remove`.
///
/// # Errors
/// 404.
pub async fn remove(ui: Ui, Id(id): Id<ProbeId>) -> Result<Response, HttpError> {
    let probe = ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(&health::address(probe.host_id), Tone::Ok, &format!("{} is not asked any more.", probe.name)))
}

/// `POST /hosts/{id}/restart`: orders the runbook and leads to its job.
///
/// # Errors
/// 404; 403 where the runbook asks for more; 422 where the host has no restart command, or no way leads there.
pub async fn restart(ui: Ui, Id(id): Id<HostId>) -> Result<Response, HttpError> {
    let request = JobRequest { kind: RESTART.to_owned(), ..JobRequest::default() };
    let desk = ui.state.desk();
    // A file of the operator's own may ask for more than an operator.
    ui.user.needs(orders::role_for(&desk, &request).await?)?;
    let job = orders::create(&desk, ui.actor(), id, request).await?;
    Ok(ui.go(&paths::job(job)))
}
