//! Pages for people. A handler makes four moves: extract, one operation, a view's struct, answer. What each page needs around it (who looks,
//! CSRF token, numbers of the navigation, news) is gathered here, in [`Ui`].

pub mod alerts;
pub mod auth;
pub mod connection;
pub mod dashboard;
pub mod downloads;
mod flash;
mod forms;
pub mod host;
pub mod hosts;
pub mod jobs;
pub mod lookups;
pub mod operations;
pub mod plans;
pub mod probes;
pub mod problem;
pub mod reach;
pub mod repo_health;
pub mod repos;
pub mod restore;
pub mod retention;
pub mod runbooks;
pub mod schedules;
pub mod settings;
pub mod sites;
pub mod snapshots;
pub mod waves;

use std::sync::Arc;

use crate::{
    domain::{JobStatus, Timestamp, job::Actor},
    http::{AppState, CurrentUser, HttpError},
    store::{self, Store, StoreError},
    views::{AssetUrls, Flash, FormState, Markup, NavCounts, Page, Shell, Viewer, components::Tone, render},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{Html, IntoResponse as _, Response},
};

/// What every handler of a page needs: the state, who looks, and how they ask.
pub struct Ui {
    state: AppState,
    user: CurrentUser,
    flash: Option<Flash>,
    by_htmx: bool,
}

impl FromRequestParts<AppState> for Ui {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, HttpError> {
        let user = <CurrentUser as FromRequestParts<AppState>>::from_request_parts(parts, state).await?;
        let by_htmx = parts.headers.contains_key("hx-request");
        Ok(Self { state: state.clone(), user, flash: flash::read(&parts.headers), by_htmx })
    }
}

impl Ui {
    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.user.actor()
    }

    fn store(&self) -> &Store {
        &self.state.store
    }

    fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    async fn shell(&self) -> Result<Shell, HttpError> {
        let counts = counts(self.store(), self.now()).await?;
        let viewer = Viewer { name: self.user.name.to_string(), role: self.user.role };
        Ok(Shell {
            user: Some(viewer),
            csrf: self.user.csrf().to_owned(),
            counts,
            flash: self.flash.clone(),
            ..bare_shell(&self.state)
        })
    }

    /// A page.
    ///
    /// # Errors
    /// [`HttpError`] for a failure.
    pub async fn show(&self, page: &impl Page) -> Result<Response, HttpError> {
        self.show_as(StatusCode::OK, page).await
    }

    /// A page under a status of its own, such as a refused form.
    ///
    /// # Errors
    /// [`HttpError`] for a failure.
    pub async fn show_as(&self, status: StatusCode, page: &impl Page) -> Result<Response, HttpError> {
        let shell = self.shell().await?;
        let mut response = html(status, &render(&shell, page));
        if self.flash.is_some() {
            response.headers_mut().append(header::SET_COOKIE, flash::clear());
        }
        Ok(response)
    }

    /// A part of a page, as htmx fetches it. News stay for the next whole page.
    ///
    /// # Errors
    /// [`HttpError`] for a failure.
    pub async fn fragment(&self, draw: impl FnOnce(&Shell) -> Markup) -> Result<Response, HttpError> {
        let shell = self.shell().await?;
        Ok(html(StatusCode::OK, &draw(&shell)))
    }

    /// Leads to another page after something was done: by `HX-Redirect` where htmx asks, else 303.
    #[must_use]
    pub fn go(&self, to: &str) -> Response {
        let Ok(to) = HeaderValue::try_from(to) else {
            return HttpError::internal("a redirect to no address").into_response();
        };
        if self.by_htmx {
            (StatusCode::OK, [(HeaderName::from_static("hx-redirect"), to)]).into_response()
        } else {
            (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
        }
    }

    /// The same, with a sentence that the next page shows once.
    #[must_use]
    pub fn go_saying(&self, to: &str, tone: Tone, news: &str) -> Response {
        let mut response = self.go(to);
        response.headers_mut().append(header::SET_COOKIE, flash::set(tone, news));
        response
    }
}

/// The shell of pages for those who are not logged in.
fn bare_shell(state: &AppState) -> Shell {
    let url = |name| state.assets.url(name);
    let assets = AssetUrls {
        css: url("flotilla.css"),
        htmx: url("htmx.min.js"),
        app: url("app.js"),
        live: url("live.js"),
        icon: url("icon.svg"),
    };
    Shell {
        user: None,
        csrf: String::new(),
        now: state.clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        assets: Arc::new(assets),
        counts: NavCounts::default(),
        flash: None,
    }
}

async fn counts(store: &Store, now: Timestamp) -> Result<NavCounts, StoreError> {
    store
        .read(move |db| {
            let live = store::jobs::counts(db, now)?;
            let running = live.into_iter().filter(|(status, _)| *status == JobStatus::Running).map(|(_, n)| n);
            Ok(NavCounts {
                hosts: store::hosts::count(db)?,
                running_jobs: running.sum(),
                repos: store::repos::count(db)?,
                plans: store::plans::count(db)?,
                alerts: store::alerts::count_open(db)?,
            })
        })
        .await
}

fn html(status: StatusCode, markup: &Markup) -> Response {
    (status, Html(markup.0.clone())).into_response()
}

/// A page for those who are not logged in.
fn show_bare(state: &AppState, headers: &HeaderMap, status: StatusCode, page: &impl Page) -> Response {
    let flash = flash::read(headers);
    let had_news = flash.is_some();
    let shell = Shell { flash, ..bare_shell(state) };
    let mut response = html(status, &render(&shell, page));
    if had_news {
        response.headers_mut().append(header::SET_COOKIE, flash::clear());
    }
    response
}

/// A refused form as it was typed, with what was wrong and the status to answer with. What is not the form's fault stays an error.
///
/// `names` are pairs of a field's name in the operation and in the form, where they differ.
fn redraw(error: HttpError, typed: FormState, names: &[(&str, &str)]) -> Result<(StatusCode, FormState), HttpError> {
    let problem = error.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match problem.status {
        422 => {
            let mut errors = problem.errors.clone();
            for error in &mut errors {
                for (theirs, ours) in names {
                    if let Some(rest) = error.field.strip_prefix(theirs) {
                        error.field = format!("{ours}{rest}");
                        break;
                    }
                }
            }
            Ok((status, typed.refused(errors)))
        }
        409 => Ok((status, typed.failed(problem.detail.clone()))),
        _ => Err(error),
    }
}
