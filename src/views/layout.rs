//! The shell around every page: head, navigation, flash line. No inline script or style leaves this crate, so that the
//! content security policy can forbid them.

use std::sync::Arc;

use maud::{DOCTYPE, Markup, html};

use crate::{
    domain::{Timestamp, user::Role},
    paths::route,
    views::{Nav, Page, components::Tone},
};

/// Addresses of the embedded assets, with their content hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetUrls {
    /// `flotilla.css`
    pub css: String,
    /// `htmx.min.js`
    pub htmx: String,
    /// `app.js`
    pub app: String,
    /// `live.js`
    pub live: String,
    /// `icon.svg`
    pub icon: String,
}

/// Numbers beside the navigation's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NavCounts {
    /// Hosts.
    pub hosts: u64,
    /// Jobs that run now.
    pub running_jobs: u64,
    /// Repositories.
    pub repos: u64,
    /// Plans.
    pub plans: u64,
    /// Open alerts.
    pub alerts: u64,
}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Log-in name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// A sentence about what was just done, shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flash {
    /// Good or bad news.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}

/// What every page needs beside its own data.
#[derive(Debug, Clone)]
pub struct Shell {
    /// Who looks; `None` on the pages before the log-in, which then have no navigation.
    pub user: Option<Viewer>,
    /// Token that forms carry as `csrf` and htmx as `X-CSRF-Token`.
    pub csrf: String,
    /// When the page is made.
    pub now: Timestamp,
    /// The product's version.
    pub version: String,
    /// Where the assets are.
    pub assets: Arc<AssetUrls>,
    /// Numbers of the navigation.
    pub counts: NavCounts,
    /// News.
    pub flash: Option<Flash>,
}

impl Shell {
    /// Whether the viewer has at least this role.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.user.as_ref().is_some_and(|user| user.role >= role)
    }

    /// Why the viewer may not do what needs `role`; `None` where they may.
    #[must_use]
    pub fn refusal(&self, role: Role) -> Option<String> {
        let mine = self.user.as_ref().map_or("signed-out visitor", |user| user.role.as_str());
        (!self.may(role)).then(|| format!("You are a {mine}; this needs the role {role}. Ask an admin."))
    }

    /// The hidden field that every form carries.
    #[must_use]
    pub fn csrf_field(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.csrf); }
    }
}

/// htmx without what a strict content security policy forbids, and without page copies in the browser's storage.
const HTMX_CONFIG: &str =
    r#"{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"historyCacheSize":0}"#;

/// The whole document of a page.
#[must_use]
pub fn render(shell: &Shell, page: &impl Page) -> Markup {
    let headers = format!(r#"{{"X-CSRF-Token":{}}}"#, serde_json::Value::from(shell.csrf.as_str()));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="same-origin";
                meta name="htmx-config" content=(HTMX_CONFIG);
                title { (page.title()) " · Flotilla" }
                link rel="icon" type="image/svg+xml" href=(shell.assets.icon);
                link rel="stylesheet" href=(shell.assets.css);
                script defer src=(shell.assets.htmx) {}
                script defer src=(shell.assets.app) {}
                @if page.needs_live_script() { script defer src=(shell.assets.live) {} }
            }
            body hx-headers=(headers) data-now=(shell.now) {
                a.skip href="#main" { "Skip to content" }
                @match &shell.user {
                    Some(viewer) => {
                        .shell {
                            (navigation(shell, viewer, page.nav()))
                            main #main tabindex="-1" { (flash(shell)) (page.body(shell)) }
                        }
                    }
                    None => main.alone #main tabindex="-1" {
                        p.brand { img src=(shell.assets.icon) alt="" width="28" height="28"; "Flotilla" }
                        (flash(shell))
                        (page.body(shell))
                    }
                }
            }
        }
    }
}

fn navigation(shell: &Shell, viewer: &Viewer, current: Nav) -> Markup {
    let counts = shell.counts;
    let entries = [
        (Nav::Dashboard, route::DASHBOARD, "Dashboard", None),
        (Nav::Hosts, route::HOSTS, "Hosts", Some((counts.hosts, "hosts"))),
        (Nav::Jobs, route::JOBS, "Jobs", Some((counts.running_jobs, "running"))),
        (Nav::Operations, route::RUNBOOKS, "Operations", None),
        (Nav::Restore, route::RESTORE, "Restore", None),
        (Nav::Repos, route::REPOS, "Repositories", Some((counts.repos, "repositories"))),
        (Nav::Plans, route::PLANS, "Plans", Some((counts.plans, "plans"))),
        (Nav::Schedules, route::SCHEDULES, "Schedules", None),
        (Nav::Alerts, route::ALERTS, "Alerts", Some((counts.alerts, "open"))),
        (Nav::Settings, route::SETTINGS, "Settings", None),
    ];
    html! {
        header.nav {
            a.brand href=(route::DASHBOARD) { img src=(shell.assets.icon) alt="" width="22" height="22"; span { "Flotilla" } }
            nav aria-label="Main" {
                @for (nav, href, label, count) in entries {
                    a href=(href) aria-current=[(nav == current).then_some("page")] {
                        (label)
                        @if let Some((count, unit)) = count.filter(|(count, _)| *count > 0) {
                            " " span.n { (count) span.vh { " " (unit) } }
                        }
                    }
                }
            }
            .foot {
                span { (viewer.name) " · " (viewer.role) }
                form method="post" action=(route::LOGOUT) {
                    (shell.csrf_field())
                    button.link type="submit" { "Log out" }
                }
                small { "v" (shell.version) }
            }
        }
    }
}

fn flash(shell: &Shell) -> Markup {
    html! {
        @if let Some(flash) = &shell.flash {
            p.notice.(flash.tone.class()) role=(if flash.tone == Tone::Bad { "alert" } else { "status" }) { (flash.text) }
        }
    }
}
