//! Orders of runbooks. An order is resolved when it is made: the file as it is then, the answers, the way. What is run is what was looked at, whatever becomes of the file.

use super::{Desk, JobRequest, Work, request};
use crate::{
    domain::{
        JobKind, Way,
        host::Host,
        job::{JobInput, RunbookInput},
        user::Role,
    },
    ops::error::{OpError, Problems},
    runbook::{self, Entry, Mode, Runbook, Values},
};

/// The kind of pasted steps.
pub(super) const PASTED: &str = "steps";

/// What a request for a kind that is none of restic's means; `None` for restic's own.
///
/// # Errors
/// [`OpError::Invalid`] for a kind that nothing is called, steps that are none, or a file that is broken.
pub(super) async fn of_request(desk: &Desk, request: &JobRequest) -> Result<Option<(Runbook, String)>, OpError> {
    match request.kind.parse() {
        Ok(JobKind::Runbook(name)) if name == PASTED => pasted(request).map(Some),
        Ok(JobKind::Runbook(name)) => named(desk, name).await.map(Some),
        _ => Ok(None),
    }
}

fn pasted(request: &JobRequest) -> Result<(Runbook, String), OpError> {
    let steps = request.params.as_ref().and_then(|params| params.get("steps"));
    let steps = steps.ok_or_else(|| OpError::field("params.steps", "is missing: a JSON array of steps"))?;
    runbook::parse_steps(&steps.to_string()).map_err(|error| OpError::field("params.steps", error.to_string()))
}

async fn named(desk: &Desk, name: String) -> Result<(Runbook, String), OpError> {
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

/// The work of a request for a runbook on a host.
///
/// # Errors
/// [`OpError::Invalid`] with all that is wrong with it.
pub(super) fn work(host: &Host, request: JobRequest, (runbook, text): (Runbook, String)) -> Result<Work, OpError> {
    let kind = JobKind::Runbook(runbook.name.clone());
    let mut problems = Problems::default();
    request.refuse_strangers(&mut problems, &kind);
    if request.repo_id.is_some() {
        problems.add("repo_id", "does not belong to a runbook");
    }
    refuse_what_is_to_come(&mut problems, &runbook);
    if host.own {
        // Its agent runs whatever it is sent: who may order jobs has no shell on the control plane for that.
        problems.add("kind", "runbooks do not run on the control plane itself in this version: order it on a host");
    }
    let mut answers = request.params.unwrap_or_default();
    if runbook.name == PASTED {
        answers.remove("steps");
    }
    match runbook::resolve(&runbook.inputs, &answers) {
        Ok(inputs) => {
            let values = Values::new(Mode::Preview, inputs);
            if destroys(&runbook, &values) && request.confirm.as_deref() != Some(host.name.as_str()) {
                let name = &host.name;
                problems.add(
                    "confirm",
                    format!("must be the host's name, {name}: this removes or replaces something there"),
                );
            }
        }
        Err(errors) => {
            errors.into_iter().for_each(|error| problems.add(&format!("params.{}", error.input), error.what));
        }
    }
    problems.refuse()?;
    answers.retain(|_, value| !value.is_null());
    let longest = runbook.longest().as_secs().clamp(*request::TIMEOUTS_S.start(), *request::TIMEOUTS_S.end());
    let input = RunbookInput {
        title: runbook.title,
        hash: runbook.hash,
        text,
        answers,
        way: Way::Agent,
        alone: runbook.lock == runbook::Lock::Host,
    };
    Ok(Work {
        host: host.id,
        kind,
        repo: None,
        plan: None,
        input: JobInput { runbook: Some(Box::new(input)), ..JobInput::default() },
        rerun_of: None,
        timeout_s: request.timeout_s.or(Some(longest)),
        expires_in_s: request.expires_in_s,
    })
}

/// What a repeated job was asked for, and the runbook as it is now. Of pasted steps there is no file: theirs are as they were.
///
/// # Errors
/// As [`of_request`].
pub(super) async fn again(
    desk: &Desk,
    kind: &JobKind,
    input: &RunbookInput,
) -> Result<(JobRequest, (Runbook, String)), OpError> {
    let book = match kind.as_str() {
        PASTED => {
            let runbook = runbook::parse(&input.text).map_err(|error| OpError::Conflict(error.to_string()))?;
            (runbook, input.text.clone())
        }
        name => named(desk, name.to_owned()).await?,
    };
    let params = Some(input.answers.clone()).filter(|answers| !answers.is_empty());
    Ok((JobRequest { params, ..JobRequest::of(kind) }, book))
}

fn refuse_what_is_to_come(problems: &mut Problems, runbook: &Runbook) {
    let name = &runbook.name;
    if !runbook.transports.contains(&Way::Agent) {
        problems.add("kind", format!("{name} does not run on agents, and other ways are not there in this version"));
    }
    if runbook.opt_in {
        problems
            .add("kind", format!("{name} is off on every host: opening a host for it is not there in this version"));
    }
    if runbook.scope == runbook::Scope::Site {
        problems.add("kind", format!("{name} is about a site, and sites are not there in this version"));
    }
    for input in &runbook.inputs {
        if matches!(input.kind, runbook::InputType::Secret | runbook::InputType::Host | runbook::InputType::Site) {
            let word = input.kind.word();
            problems
                .add(&format!("params.{}", input.name), format!("asks for a {word}, which this version can't pass on"));
        }
    }
}

/// Whether it would remove or replace something with these answers. What can't be told beforehand counts.
pub(super) fn destroys(runbook: &Runbook, values: &Values) -> bool {
    let mut steps = runbook.steps.iter().filter(|step| step.destructive).peekable();
    if steps.peek().is_none() {
        return runbook.destructive;
    }
    steps.any(|step| step.when.as_ref().is_none_or(|when| when.holds(values).unwrap_or(true)))
}
