//! Errors as pages, with the navigation around them where someone is logged in.

use axum::http::StatusCode;

use crate::{
    http::{AppState, CurrentUser, Problem, pages},
    views::{Shell, Viewer, problem::ProblemPage, render},
};

/// A problem as a whole document. `request` is the number under which the log has it.
pub async fn page(state: &AppState, user: Option<CurrentUser>, problem: &Problem, request: &str) -> String {
    let view = view(problem, request);
    let shell = match user {
        Some(user) => Shell {
            user: Some(Viewer { name: user.name.to_string(), role: user.role }),
            csrf: user.csrf().to_owned(),
            // An error of the store must not hide behind another one.
            counts: pages::counts(&state.store, state.clock.now()).await.unwrap_or_default(),
            ..pages::bare_shell(state)
        },
        None => pages::bare_shell(state),
    };
    render(&shell, &view).0
}

fn view(problem: &Problem, request: &str) -> ProblemPage {
    if problem.kind == "urn:flotilla:csrf" {
        return ProblemPage::stale_form();
    }
    if problem.status == StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
        return ProblemPage::internal(request);
    }
    let fields: Vec<String> = problem.errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
    let why = if fields.is_empty() { problem.detail.clone() } else { format!("{}.", fields.join("; ")) };
    let what_to_do = match problem.status {
        401 => "Log in, then repeat what you did.",
        403 => "Ask an admin to do it, or to give your account another role.",
        404 => "Check the address, or look for it from the dashboard.",
        429 | 503 => "Wait a moment, then try again. Running backups are not affected.",
        _ => "Nothing was changed. Go back and try again.",
    };
    ProblemPage { status: problem.status, what: problem.title.clone(), why, what_to_do: what_to_do.to_owned() }
}
