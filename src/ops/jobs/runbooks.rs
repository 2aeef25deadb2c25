//! Orders of runbooks. An order is resolved when it is made: the file as it is then, the answers, the way. What is run is what was looked at, whatever becomes of the file.

mod preview;
mod resolve;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Again, Desk, JobRequest, Work, request};
use crate::{
    domain::{
        JobId, JobKind, Secret,
        host::Host,
        job::{About, Actor, JobInput, RunbookInput, secrets_identity},
        user::Role,
    },
    hub::Hub,
    ops::error::{OpError, Problems},
    runbook::{self, Entry, InputType, Runbook, Values},
    store::{Db, WriteTx, jobs},
};
pub use preview::{Preview, PreviewStep, PreviewWay, preview};
use resolve::Resolved;

/// The kind of pasted steps.
pub(super) const PASTED: &str = "steps";

/// A runbook and its text.
pub(super) type Book = (Runbook, String);

/// What a request for a kind that is none of restic's means; `None` for restic's own.
///
/// # Errors
/// [`OpError::Invalid`] for a kind that nothing is called, steps that are none, or a file that is broken.
pub(super) async fn of_request(desk: &Desk, request: &JobRequest) -> Result<Option<Book>, OpError> {
    match request.kind.parse() {
        Ok(JobKind::Runbook(name)) if name == PASTED => pasted(request).map(Some),
        Ok(JobKind::Runbook(name)) => named(desk, name).await.map(Some),
        _ => Ok(None),
    }
}

fn pasted(request: &JobRequest) -> Result<Book, OpError> {
    let steps = request.params.as_ref().and_then(|params| params.get("steps"));
    let steps = steps.ok_or_else(|| OpError::field("params.steps", "is missing: a JSON array of steps"))?;
    runbook::parse_steps(&steps.to_string()).map_err(|error| OpError::field("params.steps", error.to_string()))
}

async fn named(desk: &Desk, name: String) -> Result<Book, OpError> {
    let (library, wanted) = (desk.runbooks.clone(), name.clone());
    let found = tokio::task::spawn_blocking(move || library.get(&wanted)).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => return Err(OpError::Conflict(format!("the folder of runbooks can't be read: {e}"))),
        Err(e) => return Err(OpError::Conflict(format!("the folder of runbooks could not be looked through: {e}"))),
    };
    match found {
        None => Err(request::unknown_kind(&name)),
        Some(Entry { state: Err(error), .. }) => {
            Err(OpError::Conflict(format!("the runbook {name} is broken and can't be run: {error}. Correct its file")))
        }
        Some(Entry { state: Ok(runbook), text, .. }) => Ok((runbook, text)),
    }
}

/// What someone must be to run it.
pub(super) fn role(runbook: &Runbook) -> Role {
    match runbook.role {
        runbook::Role::Admin => Role::Admin,
        runbook::Role::Operator => Role::Operator,
    }
}

/// An order that is resolved: its work, and the answers that are kept sealed beside it.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) work: Work,
    secrets: BTreeMap<String, Secret>,
}

/// What someone must be to run the runbook that a job ran, as it is now. Pasted steps are for administrators.
///
/// # Errors
/// As [`of_request`].
pub(super) async fn role_now(desk: &Desk, kind: &JobKind) -> Result<Role, OpError> {
    match kind.as_str() {
        PASTED => Ok(Role::Admin),
        name => named(desk, name.to_owned()).await.map(|(runbook, _)| role(&runbook)),
    }
}

/// The work of a request for a runbook on a host.
///
/// # Errors
/// [`OpError::Invalid`] with all that is wrong with it, [`OpError::Conflict`] where nobody could run it.
pub(super) fn work(db: &Db, hub: &Hub, host: &Host, request: JobRequest, book: Book) -> Result<Ordered, OpError> {
    let (queue_s, timeout_s, confirm) = (request.expires_in_s, request.timeout_s, request.confirm.clone());
    let (resolved, mut problems) = Resolved::of(db, hub, host, request, &book)?;
    if let Some(resolved) = &resolved
        && resolved.destroys(&book.0)
        && confirm.as_deref() != Some(host.name.as_str())
    {
        let name = &host.name;
        problems.add("confirm", format!("must be the host's name, {name}: this removes or replaces something there"));
    }
    problems.refuse()?;
    let (Some(resolved), (runbook, text)) = (resolved, book) else {
        return Err(OpError::field("params", "do not do"));
    };
    let Some((way, runner)) = resolved.course else { return Err(OpError::field("kind", "goes no way")) };
    let timeout_s = timeout_s.or(Some(resolved.longest_s(&runbook, &text)));
    let input = RunbookInput {
        title: runbook.title,
        hash: runbook.hash,
        text,
        answers: resolved.answers,
        secrets: resolved.secrets.keys().cloned().collect(),
        others: resolved.others.into_iter().map(|(input, (other, _))| (input, other.id)).collect(),
        way,
        alone: runbook.lock == runbook::Lock::Host,
    };
    let work = Work {
        host: runner,
        about: About { host: Some(host.id).filter(|about| *about != runner), site: resolved.site.map(|site| site.id) },
        kind: JobKind::Runbook(runbook.name),
        repo: None,
        plan: None,
        input: JobInput { runbook: Some(Box::new(input)), ..JobInput::default() },
        rerun_of: None,
        timeout_s,
        expires_in_s: queue_s,
    };
    Ok(Ordered { work, secrets: resolved.secrets })
}

/// Places it in the queue, its secret answers sealed beside it.
///
/// # Errors
/// As [`super::place`].
pub(super) fn place(
    tx: &mut WriteTx<'_>,
    desk: &Desk,
    actor: &Actor,
    ordered: Ordered,
    random: u128,
) -> Result<JobId, OpError> {
    let Ordered { work, secrets } = ordered;
    let job = super::place(tx, desk.rules, actor, work, random)?;
    if !secrets.is_empty() {
        let plain = Zeroizing::new(serde_json::to_vec(&secrets).map_err(|e| OpError::Conflict(e.to_string()))?);
        jobs::keep_secrets(tx, job, &desk.vault.seal(&secrets_identity(job), &plain)?)?;
    }
    Ok(job)
}

/// What a repeated job was asked for, and the runbook as it is now. Of pasted steps there is no file: theirs are as they were.
///
/// # Errors
/// As [`of_request`].
pub(super) async fn again(
    desk: &Desk,
    kind: &JobKind,
    input: &RunbookInput,
    more: Again,
) -> Result<(JobRequest, Book), OpError> {
    let book = match kind.as_str() {
        PASTED => {
            let runbook = runbook::parse(&input.text).map_err(|error| OpError::Conflict(error.to_string()))?;
            (runbook, input.text.clone())
        }
        name => named(desk, name.to_owned()).await?,
    };
    let mut params = input.answers.clone();
    params.extend(more.params.unwrap_or_default());
    let mut problems = Problems::default();
    let asked = |name: &str| book.0.inputs.iter().any(|ask| ask.name == name && ask.kind == InputType::Secret);
    for name in input.secrets.iter().filter(|name| asked(name) && !params.contains_key(*name)) {
        problems.add(&format!("params.{name}"), "is a secret, and secrets are not kept: give it again");
    }
    problems.refuse()?;
    Ok((JobRequest { params: Some(params), confirm: more.confirm, ..JobRequest::of(kind) }, book))
}

/// Whether it would remove or replace something with these answers. What can't be told beforehand counts.
pub(super) fn destroys(runbook: &Runbook, values: &Values) -> bool {
    let mut steps = runbook.steps.iter().filter(|step| step.destructive).peekable();
    if steps.peek().is_none() {
        return runbook.destructive;
    }
    // What can't be told beforehand counts.
    steps.any(|step| step.when.as_ref().is_none_or(|when| when.holds(values).unwrap_or(true)))
}
