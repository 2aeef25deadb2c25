//! `/api/runbooks`: what can be run besides restic, and what is wrong with files that can't.

use axum::{Json as Answer, extract::State};
use serde::Serialize;

use crate::{
    http::{AppState, HttpError, Problem, api::List, extract::Id},
    ops::OpError,
    runbook::{Entry, InputType, InputValue, Lock, Origin, Role, Scope},
};

/// A runbook as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RunbookView {
    /// Its name: the kind of its jobs.
    pub name: String,
    /// `shipped`, or `own`: a file of `DATA_DIR/runbooks`.
    pub origin: &'static str,
    /// Why it can't be run, with the line; null where it can.
    pub error: Option<String>,
    /// For people; empty where it can't be run, as all that follows.
    pub title: String,
    /// For people.
    pub description: String,
    /// What its author calls this state of it.
    pub version: Option<String>,
    /// SHA-256 of its text.
    pub hash: String,
    /// `host` or `site`.
    pub scope: &'static str,
    /// Ways to a host that it may take: `agent`, `api`, `ssh`.
    pub transports: Vec<&'static str>,
    /// It can remove or replace something.
    pub destructive: bool,
    /// `host`: no other runbook runs on the host meanwhile. `none`.
    pub lock: &'static str,
    /// Who may run it: `operator` or `admin`.
    pub role: &'static str,
    /// Only on hosts that are opened for it.
    pub opt_in: bool,
    /// What it asks for, under `params` of an order.
    pub inputs: Vec<InputView>,
    /// Its steps' labels, without teardown.
    pub steps: Vec<String>,
}

/// A question of a runbook.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct InputView {
    /// Its name.
    pub name: String,
    /// For people.
    pub label: String,
    /// For people.
    pub help: String,
    /// `string`, `int`, `bool`, `choice`, `secret`, `path`, `host`, `site`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What may be chosen.
    pub choices: Vec<String>,
    /// What counts where nothing is answered.
    #[schema(value_type = Option<Object>)]
    pub default: Option<InputValue>,
    /// What the whole of a text must match.
    pub pattern: Option<String>,
    /// May stay open.
    pub optional: bool,
}

impl From<Entry> for RunbookView {
    fn from(entry: Entry) -> Self {
        let origin = if entry.origin == Origin::Shipped { "shipped" } else { "own" };
        let (book, error) = match entry.state {
            Ok(book) => (Some(book), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Some(book) = book else {
            let (title, description, hash) = (String::new(), String::new(), String::new());
            let (inputs, steps, transports) = (Vec::new(), Vec::new(), Vec::new());
            return Self {
                name: entry.name,
                origin,
                error,
                title,
                description,
                version: None,
                hash,
                scope: "host",
                transports,
                destructive: false,
                lock: "host",
                role: "admin",
                opt_in: false,
                inputs,
                steps,
            };
        };
        Self {
            name: entry.name,
            origin,
            error,
            title: book.title,
            description: book.description,
            version: book.version,
            hash: book.hash,
            scope: if book.scope == Scope::Site { "site" } else { "host" },
            transports: book.transports.iter().map(|way| way.as_str()).collect(),
            destructive: book.destructive,
            lock: if book.lock == Lock::None { "none" } else { "host" },
            role: if book.role == Role::Admin { "admin" } else { "operator" },
            opt_in: book.opt_in,
            inputs: book.inputs.into_iter().map(InputView::from).collect(),
            steps: book.steps.into_iter().map(|step| step.label).collect(),
        }
    }
}

impl From<crate::runbook::Input> for InputView {
    fn from(input: crate::runbook::Input) -> Self {
        let kind = input.kind.word();
        let choices = match input.kind {
            InputType::Choice(choices) => choices,
            _ => Vec::new(),
        };
        Self {
            name: input.name,
            label: input.label,
            help: input.help,
            kind,
            choices,
            default: input.default,
            pattern: input.pattern.map(|pattern| pattern.source),
            optional: input.optional,
        }
    }
}

/// All runbooks, by name, as the folder is now.
///
/// # Errors
/// 409 where the folder can't be read.
pub async fn all(state: &AppState) -> Result<Vec<Entry>, HttpError> {
    let library = state.runbooks.clone();
    let found = tokio::task::spawn_blocking(move || library.all()).await;
    let failed = |why: String| OpError::Conflict(format!("the folder of runbooks can't be read: {why}"));
    Ok(found.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?)
}

/// All runbooks, by name; those of the data folder as they are now.
///
/// # Errors
/// 409 where the folder can't be read.
#[utoipa::path(get, path = "/api/runbooks", tag = "runbooks", responses((status = 200, body = List<RunbookView>), (status = 409, body = Problem)))]
pub async fn list(State(state): State<AppState>) -> Result<Answer<List<RunbookView>>, HttpError> {
    Ok(Answer(List::whole(all(&state).await?.into_iter().map(RunbookView::from).collect())))
}

/// One runbook.
///
/// # Errors
/// 404; 409 where the folder can't be read.
#[utoipa::path(get, path = "/api/runbooks/{name}", tag = "runbooks", params(("name" = String, Path)),
    responses((status = 200, body = RunbookView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(name): Id<String>) -> Result<Answer<RunbookView>, HttpError> {
    let found = all(&state).await?.into_iter().find(|entry| entry.name == name);
    Ok(Answer(found.ok_or(OpError::NotFound("runbook"))?.into()))
}
