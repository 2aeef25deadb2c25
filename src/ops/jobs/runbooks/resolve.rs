//! What a request for a runbook means on a host: its answers, the hosts that they name, and the way that it takes. An order and a preview resolve alike, so that what
//! is shown is what would run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Book, PASTED, destroys};
use crate::{
    domain::{
        HostId, JobKind, Secret, SiteId, Way,
        facet::{self, Facets},
        host::Host,
        site::Site,
    },
    hub::Hub,
    ops::{
        error::{OpError, Problems},
        jobs::{JobRequest, request},
    },
    runbook::{self, Facts, InputType, InputValue, Inputs, Mode, Runbook, Values},
    store::{Db, StoreError, facets, hosts, sites},
};

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Its answers but for secrets, those that name hosts as their ids.
    pub(super) answers: Map<String, Value>,
    pub(super) secrets: BTreeMap<String, Secret>,
    /// All of them, for templates.
    pub(super) inputs: Inputs,
    /// Hosts that answers name.
    pub(super) others: BTreeMap<String, (Host, Facets)>,
    /// What the host has.
    pub(super) facets: Facets,
    /// Each way, and why it can't be taken.
    pub(super) ways: Vec<(Way, Option<&'static str>)>,
    /// The way that is taken, and the host whose agent runs it; none where the problems say why.
    pub(super) course: Option<(Way, HostId)>,
    pub(super) facts: BTreeMap<String, String>,
    /// The site that it is about.
    pub(super) site: Option<Site>,
}

impl Resolved {
    /// What a request means, with all that is wrong with it; nothing where its answers can't be read.
    pub(super) fn of(
        db: &Db,
        hub: &Hub,
        host: &Host,
        request: JobRequest,
        (runbook, text): &Book,
    ) -> Result<(Option<Self>, Problems), OpError> {
        let mut problems = Problems::default();
        request.refuse_strangers(&mut problems, &JobKind::Runbook(runbook.name.clone()));
        if request.repo_id.is_some() {
            problems.add("repo_id", "does not belong to a runbook");
        }
        if host.own {
            // Its agent runs whatever it is sent: who may order jobs has no shell on the control plane for that.
            problems.add("kind", "runbooks do not run on the control plane itself: order it on a host");
        }
        let mut answers = request.params.unwrap_or_default();
        if runbook.name == PASTED {
            answers.remove("steps");
        }
        let site = site_of(db, &mut problems, host, runbook, request.site_id, &mut answers)?;
        let facets = facets::of(db, host.id)?;
        if facet::asks_for_restart(text) && facets.restart.is_none() {
            let name = &host.name;
            problems.add("kind", format!("not configured: {name} has no restart command in its settings"));
        }
        let mut inputs = match runbook::resolve(&runbook.inputs, &answers) {
            Ok(inputs) => inputs,
            Err(errors) => {
                errors.into_iter().for_each(|error| problems.add(&format!("params.{}", error.input), error.what));
                return Ok((None, problems));
            }
        };
        let others = others(db, &mut problems, runbook, &mut inputs)?;
        name_sites(db, &mut problems, host, runbook, &mut inputs)?;
        answers.retain(|_, value| !value.is_null());
        for (input, (other, _)) in &others {
            answers.insert(input.clone(), Value::from(other.id.to_string()));
        }
        for input in runbook.inputs.iter().filter(|input| input.kind == InputType::Site) {
            if let (Some(InputValue::Text(slug)), true) = (inputs.get(&input.name), answers.contains_key(&input.name)) {
                answers.insert(input.name.clone(), Value::from(slug.clone()));
            }
        }
        let secrets = take_secrets(runbook, &inputs, &mut answers);
        let spans = others.values().any(|(other, _)| other.id != host.id);
        let (ways, course) = course(db, hub, (host, &facets), (runbook, spans), &mut problems)?;
        refuse_unopened(&mut problems, runbook, (host, &facets), &others);
        let facts = facet::facts(host, &facets, text);
        let facets = match site.as_ref().and_then(|site| site.fields.container.clone()) {
            // The site's own container goes before the host's.
            Some(container) => Facets { container: Some(container), ..facets },
            None => facets,
        };
        Ok((Some(Self { answers, secrets, inputs, others, facets, ways, course, facts, site }), problems))
    }

    /// What templates may name, as far as it is known before the job is.
    pub(super) fn values(&self) -> Values {
        let values = Values::new(Mode::Preview, self.inputs.clone()).with("host", Facts(self.facts.clone()));
        match &self.site {
            Some(site) => values.with("site", Facts(site.named())),
            None => values,
        }
    }

    /// Whether it would remove or replace something with these answers.
    pub(super) fn destroys(&self, runbook: &Runbook) -> bool {
        destroys(runbook, &self.values())
    }

    /// Seconds after which it is stopped where nothing else is said.
    pub(super) fn longest_s(&self, runbook: &Runbook, text: &str) -> u64 {
        match &self.facets.restart {
            Some(restart) if facet::asks_for_restart(text) => u64::from(restart.timeout_s),
            _ => runbook.longest().as_secs().clamp(*request::TIMEOUTS_S.start(), *request::TIMEOUTS_S.end()),
        }
    }
}

/// The site that a runbook is about: one of the host's, by its id beside `kind`, or its id or slug under `params`.
fn site_of(
    db: &Db,
    problems: &mut Problems,
    host: &Host,
    runbook: &Runbook,
    given: Option<SiteId>,
    answers: &mut Map<String, Value>,
) -> Result<Option<Site>, StoreError> {
    let name = &runbook.name;
    if runbook.scope != runbook::Scope::Site {
        if given.is_some() {
            problems.add("site_id", format!("does not belong to {name}, which is about a host"));
        }
        return Ok(None);
    }
    let asks = runbook.inputs.iter().any(|input| input.name == "site_id");
    let under_params = if asks { None } else { answers.remove("site_id") };
    let text = given.map(|id| id.to_string()).or_else(|| under_params?.as_str().map(str::to_owned));
    let Some(text) = text else {
        problems.add("site_id", format!("is missing: {name} is about a site (GET /api/sites?host_id=)"));
        return Ok(None);
    };
    let found = one_site(db, host, &text)?;
    Ok(problems.take("site_id", found))
}

/// What answers name sites become these sites' slugs.
fn name_sites(
    db: &Db,
    problems: &mut Problems,
    host: &Host,
    runbook: &Runbook,
    inputs: &mut Inputs,
) -> Result<(), StoreError> {
    for input in runbook.inputs.iter().filter(|input| input.kind == InputType::Site) {
        let Some(InputValue::Text(text)) =
            inputs.get(&input.name).filter(|value| **value != InputValue::Text(String::new()))
        else {
            continue;
        };
        let found = one_site(db, host, text)?;
        if let Some(site) = problems.take(&format!("params.{}", input.name), found) {
            inputs.insert(input.name.clone(), InputValue::Text(site.fields.slug));
        }
    }
    Ok(())
}

/// The host's site of that id or slug.
fn one_site(db: &Db, host: &Host, text: &str) -> Result<Result<Site, String>, StoreError> {
    let found = match text.parse() {
        Ok(id) => sites::lookup(db, id)?,
        Err(_) => sites::of_slug(db, text)?,
    };
    Ok(match found {
        Some(site) if site.host_id == host.id => Ok(site),
        Some(site) => Err(format!("is on {}, not on {}: order it there", site.host_name, host.name)),
        None => Err(format!("names no site: {text:?} is no site's id or slug (GET /api/sites?host_id={})", host.id)),
    })
}

/// Takes the secret answers out of those that are kept as they are.
fn take_secrets(runbook: &Runbook, inputs: &Inputs, answers: &mut Map<String, Value>) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    for input in runbook.inputs.iter().filter(|input| input.kind == InputType::Secret) {
        if answers.remove(&input.name).is_some()
            && let Some(InputValue::Secret(secret)) = inputs.get(&input.name)
            && !secret.is_empty()
        {
            secrets.insert(input.name.clone(), secret.clone());
        }
    }
    secrets
}

/// The hosts that answers name, by id, slug or name. Steps run on them as well, so each must be reachable by SSH, or be the control plane.
fn others(
    db: &Db,
    problems: &mut Problems,
    runbook: &Runbook,
    inputs: &mut Inputs,
) -> Result<BTreeMap<String, (Host, Facets)>, StoreError> {
    let mut others = BTreeMap::new();
    for input in runbook.inputs.iter().filter(|input| input.kind == InputType::Host) {
        let field = format!("params.{}", input.name);
        let Some(InputValue::Text(text)) =
            inputs.get(&input.name).filter(|value| **value != InputValue::Text(String::new()))
        else {
            continue;
        };
        match one_host(db, text)? {
            Err(why) => problems.add(&field, why),
            Ok(other) => {
                let has = facets::of(db, other.id)?;
                let there = facet::ways(&other, &has, &[Way::Ssh]);
                let no = there.into_iter().find(|(way, _)| *way == Way::Ssh).and_then(|(_, there)| there.err());
                if let Some(no) = no.filter(|_| !other.own) {
                    problems.add(&field, format!("{} can't be reached by SSH: {}", other.name, no.why(Way::Ssh)));
                }
                inputs.insert(input.name.clone(), InputValue::Text(other.id.to_string()));
                others.insert(input.name.clone(), (other, has));
            }
        }
    }
    Ok(others)
}

/// The host of that id, slug or name.
fn one_host(db: &Db, text: &str) -> Result<Result<Host, String>, StoreError> {
    let mut found = hosts::called(db, text)?;
    Ok(match (found.pop(), found.is_empty()) {
        (Some(host), true) => Ok(host),
        (Some(_), false) => Err(format!("several hosts are called {text:?}: name one by its id or short name")),
        (None, _) => Err(format!("names no host: {text:?} is no host's id, short name or name")),
    })
}

type Course = (Vec<(Way, Option<&'static str>)>, Option<(Way, HostId)>);

/// The way that it takes and who runs it. What spans two hosts runs from the control plane, whatever agent the first has: its agent is told of no other machine.
fn course(
    db: &Db,
    hub: &Hub,
    (host, facets): (&Host, &Facets),
    (runbook, spans): (&Runbook, bool),
    problems: &mut Problems,
) -> Result<Course, OpError> {
    const SPANS: &str = "its steps are for several hosts, and an agent is told of no other than its own";
    let ways: Vec<(Way, Option<&'static str>)> = facet::ways(host, facets, &runbook.transports)
        .into_iter()
        .map(|(way, there)| match there {
            Ok(()) if spans && way == Way::Agent => (way, Some(SPANS)),
            Ok(()) => (way, None),
            Err(why) => (way, Some(why.why(way))),
        })
        .collect();
    let chosen = if spans {
        [Way::Ssh, Way::Api].into_iter().find(|way| ways.contains(&(*way, None)))
    } else {
        facet::choose(host, facets, &runbook.transports, hub.is_online(host.id)).ok()
    };
    let Some(way) = chosen else {
        let listed = ways.iter().filter(|(way, _)| runbook.transports.contains(way));
        let why: Vec<String> =
            listed.filter_map(|(way, why)| Some(format!("by {}: {}", facet::in_words(*way), (*why)?))).collect();
        let (name, at) = (&runbook.name, &host.name);
        problems.add("kind", format!("{name} has no way to {at}. {}", why.join("; ")));
        return Ok((ways, None));
    };
    if way == Way::Agent {
        return Ok((ways, Some((way, host.id))));
    }
    match hosts::own(db)?.filter(|_| hub.runs_own_agent()) {
        Some(own) => Ok((ways, Some((way, own.id)))),
        None => {
            let (at, by) = (&host.name, facet::in_words(way));
            problems.add("kind", format!(
                "goes to {at} by {by}, from the control plane's own agent, which does not run: turn it on in the configuration (`own_agent`), or look in the server's log why it ended"
            ));
            Ok((ways, None))
        }
    }
}

/// What is off by default runs where an administrator opened the host for it, and all others that it touches.
fn refuse_unopened(
    problems: &mut Problems,
    runbook: &Runbook,
    (host, facets): (&Host, &Facets),
    others: &BTreeMap<String, (Host, Facets)>,
) {
    if !runbook.opt_in {
        return;
    }
    let all = others.values().map(|(other, facets)| (other, facets)).filter(|(other, _)| !other.own);
    let all = std::iter::once((host, facets)).chain(all.filter(|(other, _)| other.id != host.id));
    let closed: Vec<&str> = all.filter(|(_, has)| !has.opened).map(|(host, _)| host.name.as_str()).collect();
    if !closed.is_empty() {
        let (name, hosts) = (&runbook.name, closed.join(", "));
        problems.add(
            "kind",
            format!("{name} is off on {hosts} until an administrator opens the host for it, in its settings"),
        );
    }
}
