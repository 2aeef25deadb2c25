//! The same order for many hosts: the runbook is looked up once, and each host's job is made of that text, whatever becomes of the file in between.

use serde_json::{Map, Value};

use super::{Desk, JobRequest, runbooks};
use crate::{
    credential,
    domain::{HostId, JobId, JobKind, Way, host::Host, job::Actor, user::Role},
    hub::Hub,
    ops::error::OpError,
    runbook::{self, InputType, Mode, Runbook, Values},
    store::{Db, WriteTx, hosts},
};

/// Answers to inputs, by name.
type Answers = Map<String, Value>;

/// An order of a runbook that is to go to several hosts.
#[derive(Debug, Clone)]
pub(in crate::ops) struct ForMany {
    request: JobRequest,
    runbook: Runbook,
    text: String,
}

impl ForMany {
    /// The order that a request means, with the runbook as it is now.
    ///
    /// # Errors
    /// [`OpError::Invalid`] for a kind that is none of a runbook's, [`OpError::Conflict`] where its file is broken.
    pub(in crate::ops) async fn of(desk: &Desk, request: JobRequest) -> Result<Self, OpError> {
        match runbooks::of_request(desk, &request).await? {
            Some((runbook, text)) => Ok(Self { request, runbook, text }),
            None => Err(OpError::field(
                "kind",
                format!(
                    "{} is restic's, and only runbooks go over many hosts: GET /api/runbooks lists them",
                    request.kind
                ),
            )),
        }
    }

    /// The order with a text that was looked at before.
    ///
    /// # Errors
    /// [`OpError::Conflict`] where this version does not take it any more.
    pub(in crate::ops) fn with_text(request: JobRequest, text: &str) -> Result<Self, OpError> {
        let runbook = runbook::parse(text).map_err(|error| OpError::Conflict(error.to_string()))?;
        Ok(Self { request, runbook, text: text.to_owned() })
    }

    /// The order as it was, with the runbook as it is now. Of pasted steps there is no file: theirs are as they were.
    ///
    /// # Errors
    /// As [`ForMany::of`] and [`ForMany::with_text`].
    pub(in crate::ops) async fn again(desk: &Desk, request: JobRequest, text: &str) -> Result<Self, OpError> {
        if request.kind == runbooks::PASTED { Self::with_text(request, text) } else { Self::of(desk, request).await }
    }

    /// The runbook.
    pub(in crate::ops) fn runbook(&self) -> &Runbook {
        &self.runbook
    }

    /// Its text.
    pub(in crate::ops) fn text(&self) -> &str {
        &self.text
    }

    /// What someone must be to order it.
    pub(in crate::ops) fn role(&self) -> Role {
        runbooks::role(&self.runbook)
    }

    /// The answers, without what only the order itself needs; those to secret inputs apart from the others.
    pub(in crate::ops) fn answers(&self) -> (Answers, Answers) {
        let mut answers = self.request.params.clone().unwrap_or_default();
        if self.request.kind == runbooks::PASTED {
            answers.remove("steps");
        }
        answers.retain(|_, value| !value.is_null());
        let is_secret = |name: &String| {
            self.runbook.inputs.iter().any(|input| input.name == *name && input.kind == InputType::Secret)
        };
        let (secrets, open) = answers.into_iter().partition(|(name, _)| is_secret(name));
        (open, secrets)
    }

    /// The inputs among these that are secret still, and have no answer.
    pub(in crate::ops) fn unanswered<'a>(&'a self, secrets: &'a [String]) -> impl Iterator<Item = &'a str> {
        let given = |name: &str| self.request.params.as_ref().is_some_and(|params| params.contains_key(name));
        let asks =
            |name: &str| self.runbook.inputs.iter().any(|input| input.name == name && input.kind == InputType::Secret);
        secrets.iter().map(String::as_str).filter(move |name| asks(name) && !given(name))
    }

    /// Whether it would remove or replace something. What can't be told beforehand counts.
    pub(in crate::ops) fn destroys(&self) -> bool {
        let (mut answers, secrets) = self.answers();
        answers.extend(secrets);
        match runbook::resolve(&self.runbook.inputs, &answers) {
            Ok(inputs) => runbooks::destroys(&self.runbook, &Values::new(Mode::Preview, inputs)),
            Err(_) => true,
        }
    }

    fn for_host(&self, host: &Host) -> (JobRequest, (Runbook, String)) {
        // Whoever ordered it for many has confirmed it for all of them.
        let request = JobRequest { confirm: Some(host.name.clone()), ..self.request.clone() };
        (request, (self.runbook.clone(), self.text.clone()))
    }

    /// The way that it would take to a host.
    ///
    /// # Errors
    /// Why it would be refused there: all that [`super::create`] would say.
    pub(in crate::ops) fn look(&self, db: &Db, hub: &Hub, host: &Host) -> Result<Way, OpError> {
        let (request, book) = self.for_host(host);
        let ordered = runbooks::work(db, hub, host, request, book)?;
        Ok(ordered.work.input.runbook.map_or(Way::Agent, |input| input.way))
    }

    /// Makes the job of one host, within a transaction.
    ///
    /// # Errors
    /// As [`super::create`].
    pub(in crate::ops) fn place(
        &self,
        tx: &mut WriteTx<'_>,
        desk: &Desk,
        actor: &Actor,
        host: HostId,
    ) -> Result<JobId, OpError> {
        let random = credential::random_bits()?;
        let host = hosts::lookup(tx.db(), host)?.ok_or(OpError::NotFound("host"))?;
        let (request, book) = self.for_host(&host);
        let ordered = runbooks::work(tx.db(), &desk.hub, &host, request, book)?;
        runbooks::place(tx, desk, actor, ordered, random)
    }

    /// The kind of its jobs.
    pub(in crate::ops) fn kind(&self) -> JobKind {
        JobKind::Runbook(self.runbook.name.clone())
    }
}
