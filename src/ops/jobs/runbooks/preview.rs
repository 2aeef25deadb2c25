//! What a runbook would do on a host, before it does: the way that it would take and why not another, and the exact commands, each with its place.

use serde::Serialize;

use super::{Book, resolve::Resolved};
use crate::{
    domain::{
        FieldError, HostId, Way,
        facet::{self, Facets, SshFacet},
        host::Host,
    },
    ops::{
        error::OpError,
        jobs::{Desk, JobRequest},
    },
    runbook::{
        Facts,
        preview::{self, Shown},
    },
    store::hosts,
};

/// What a runbook would do on a host.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Preview {
    /// The runbook's name.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// SHA-256 of its text.
    pub hash: String,
    /// The host's name.
    pub host: String,
    /// The way that it would take now; null where there is none.
    #[schema(value_type = Option<String>)]
    pub way: Option<Way>,
    /// The host whose agent would run it.
    pub runner: Option<String>,
    /// Each way, in the order in which they are preferred.
    pub ways: Vec<PreviewWay>,
    /// What must hold before the first step.
    pub guards: Vec<PreviewStep>,
    /// What it does, in order.
    pub steps: Vec<PreviewStep>,
    /// What runs on every way out.
    pub teardown: Vec<PreviewStep>,
    /// It removes or replaces something with these answers.
    pub destructive: bool,
    /// What an order must have as `confirm`; null where it needs none.
    pub confirm: Option<String>,
    /// Seconds after which it is stopped, where an order says nothing else.
    pub timeout_s: u64,
    /// What an order would be refused for as things are, but for a missing `confirm`.
    pub problems: Vec<FieldError>,
}

/// A way, and whether it can be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PreviewWay {
    /// `agent`, `api` or `ssh`.
    #[schema(value_type = String)]
    pub way: Way,
    /// Why it can't be taken; null where it can.
    pub why_not: Option<String>,
}

/// A step, or a guard, as it would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PreviewStep {
    /// For people; of a guard what is said where it does not hold.
    pub label: String,
    /// `local`, `ssh`, `scp` or `api`.
    pub kind: &'static str,
    /// Where, in words.
    #[serde(rename = "where")]
    pub place: String,
    /// The command, the transfer or the request, secrets masked; what only the run can know stands in ⟨ ⟩.
    pub command: String,
    /// More environment: pairs of name and value, secrets masked.
    #[schema(value_type = Vec<Vec<String>>)]
    pub env: Vec<(String, String)>,
    /// What it reads, or sends, secrets masked.
    pub stdin: Option<String>,
    /// Its condition.
    pub when: Option<String>,
    /// The condition does not hold with these answers.
    pub left_out: bool,
    /// Seconds after which it is stopped.
    pub timeout_s: u64,
    /// What follows runs also where it fails.
    pub continue_on_error: bool,
    /// It removes or replaces something.
    pub destructive: bool,
    /// Why it would fail as things are.
    pub problem: Option<String>,
}

/// What a request for a runbook would do on a host. Changes nothing.
///
/// # Errors
/// [`OpError::NotFound`] for the host; [`OpError::Invalid`] for a kind that is no runbook, and answers that do not do; [`OpError::Conflict`] for a file that is broken.
pub async fn preview(desk: &Desk, actor: &str, host: HostId, request: JobRequest) -> Result<Preview, OpError> {
    let Some(book) = super::of_request(desk, &request).await? else {
        return Err(OpError::field("kind", "has no preview: only runbooks have one (GET /api/runbooks)"));
    };
    let (hub, actor) = (desk.hub.clone(), actor.to_owned());
    desk.store
        .read(move |db| {
            let host = hosts::lookup(db, host)?.ok_or(OpError::NotFound("host"))?;
            let asked_s = request.timeout_s;
            let (resolved, problems) = Resolved::of(db, &hub, &host, request, &book)?;
            let problems = problems.into_list();
            let Some(resolved) = resolved else { return Err(OpError::Invalid(problems)) };
            let runner = resolved.course.map(|(_, runner)| hosts::lookup(db, runner)).transpose()?.flatten();
            let stage = Stage { host: &host, resolved: &resolved, runner: runner.as_ref() };
            Ok(stage.preview(&book, &actor, asked_s, problems))
        })
        .await
}

struct Stage<'a> {
    host: &'a Host,
    resolved: &'a Resolved,
    runner: Option<&'a Host>,
}

impl Stage<'_> {
    fn preview(&self, (runbook, text): &Book, actor: &str, asked_s: Option<u64>, problems: Vec<FieldError>) -> Preview {
        let way = self.resolved.course.map_or("⟨job.way⟩", |(way, _)| way.as_str());
        let job = [("id", "⟨job.id⟩"), ("kind", &runbook.name), ("actor", actor), ("way", way)];
        let job = job.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let values = self.resolved.values().with("job", Facts(job)).with_scratch("/tmp/flotilla-⟨job.id⟩".to_owned());
        let steps = |steps: &[crate::runbook::Step]| {
            steps.iter().map(|step| self.placed(preview::step(step, &values))).collect::<Vec<_>>()
        };
        let destructive = self.resolved.destroys(runbook);
        let ways = self.resolved.ways.iter();
        Preview {
            kind: runbook.name.clone(),
            title: runbook.title.clone(),
            hash: runbook.hash.clone(),
            host: self.host.name.clone(),
            way: self.resolved.course.map(|(way, _)| way),
            runner: self.runner.map(|runner| runner.name.clone()),
            ways: ways.map(|(way, why)| PreviewWay { way: *way, why_not: why.map(str::to_owned) }).collect(),
            guards: runbook.guards.iter().map(|guard| self.placed(preview::guard(guard, &values))).collect(),
            steps: steps(&runbook.steps),
            teardown: steps(&runbook.teardown),
            destructive,
            confirm: destructive.then(|| self.host.name.clone()),
            timeout_s: asked_s.unwrap_or_else(|| self.resolved.longest_s(runbook, text)),
            problems,
        }
    }

    fn placed(&self, shown: Shown) -> PreviewStep {
        let (place, missing) = self.place(&shown);
        let Shown {
            label, kind, command, env, stdin, when, left_out, timeout_s, continue_on_error, destructive, ..
        } = shown;
        let problem = shown.problem.or(missing);
        PreviewStep {
            label,
            kind,
            place,
            command,
            env,
            stdin,
            when,
            left_out,
            timeout_s,
            continue_on_error,
            destructive,
            problem,
        }
    }

    /// Where a step would run, and why it could not.
    fn place(&self, shown: &Shown) -> (String, Option<String>) {
        let here = self.runner.unwrap_or(self.host);
        if shown.kind == "local" {
            return (format!("on {}", here.name), None);
        }
        let own = (self.host, &self.resolved.facets);
        let (host, facets) = match &shown.host {
            None => own,
            Some(input) => match self.resolved.others.get(input) {
                Some((other, facets)) => (other, facets),
                None => return (format!("on the host of {input}"), Some(format!("no host is chosen for {input}"))),
            },
        };
        if shown.kind == "api" {
            return match &facets.api {
                Some(api) => (format!("at {}", api.base_url), None),
                None => {
                    let why = format!("{} has no management interface in its settings", host.name);
                    (format!("at {}", host.name), Some(why))
                }
            };
        }
        let (mut place, missing) = at(host, facets, host.id == here.id);
        if let Some(container) = facets.container.as_ref().filter(|_| !shown.on_host) {
            place.push_str(&format!(", in its container {}", container.name));
        }
        (place, missing)
    }
}

fn at(host: &Host, facets: &Facets, here: bool) -> (String, Option<String>) {
    match (&facets.ssh, here) {
        (_, true) => (format!("on {}", host.name), None),
        (Some(SshFacet { address, port, user, .. }), false) => {
            (format!("on {}, by SSH as {user}@{address}:{port}", host.name), None)
        }
        (None, false) => {
            let why = format!("there is no way to {} for commands: {}", host.name, facet::NoWay::Missing.why(Way::Ssh));
            (format!("on {}", host.name), Some(why))
        }
    }
}
