//! Downloads: the buttons that order one, and the page that waits for it to begin.

use maud::{Markup, html};

use crate::{
    domain::{
        DumpSpec, NodeKind, RepoId,
        job::Job,
        picking::{sendable, to_field},
        queue::WaitsFor,
        user::Role,
    },
    paths,
    views::{
        Nav, Page, Shell,
        components::{self, job_pill},
        snapshots::filename::{plain, visible},
    },
};

/// What sends a file, or a folder as an archive, through to the browser; nothing for other entries. Greyed out, with why, where that can't be. `action` where the
/// buttons stand in a form for something else.
#[must_use]
pub fn buttons(shell: &Shell, (path, kind): (&str, NodeKind), action: Option<&str>) -> Markup {
    let refusal = shell.refusal(Role::Operator).or_else(|| sendable(path).err().map(|why| format!("The name {why}")));
    let name = plain(path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("all of it"));
    let button = |form: &str, label: &str| {
        html! {
            button.link type="submit" name="get" value=(format!("{form}:{}", to_field(path))) formaction=[action] disabled[refusal.is_some()]
                title=[refusal.as_deref()] aria-label=(format!("Download {name} as {form}")) { (label) }
        }
    };
    html! {
        @match kind {
            NodeKind::File => (button("file", "Download")),
            NodeKind::Dir => { (button("tar", "tar")) " " (button("zip", "zip")) },
            NodeKind::Symlink | NodeKind::Other => {},
        }
    }
}

/// The same with a form of its own, for a page that is none.
#[must_use]
pub fn form(shell: &Shell, (repo, snapshot): (RepoId, &str), entry: (&str, NodeKind)) -> Markup {
    html! {
        @if matches!(entry.1, NodeKind::File | NodeKind::Dir) {
            form.inline method="post" action=(paths::restore_download(repo, snapshot)) { (shell.csrf_field()) (buttons(shell, entry, None)) }
        }
    }
}

/// `/downloads/{id}` while nothing comes yet. The answer asks the browser to look again by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DownloadPage {
    /// The job that brings it.
    pub job: Job,
    /// What it brings.
    pub spec: DumpSpec,
    /// What it waits for, where it is queued behind something.
    pub waits_for: Option<WaitsFor>,
}

impl Page for DownloadPage {
    fn title(&self) -> String {
        "Download".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, _shell: &Shell) -> Markup {
        html! {
            h1 { "Download" }
            section.card.pad.stack aria-label="Download" {
                p.row {
                    @for path in self.spec.picks().iter().take(3) { code { (visible(path)) } }
                    @if let Some(more @ 1..) = self.spec.paths.len().checked_sub(3) { "and " (more) " more" }
                    (job_pill(self.job.status))
                }
                p role="status" {
                    @match &self.waits_for {
                        Some(waits_for) => { (self.job.host_name) " is to send it. It waits for " (components::waits_for_words(waits_for)) "." },
                        None => { (self.job.host_name) " is asked to send it." },
                    }
                    " This page looks again every few seconds; the download then begins by itself, and this page stays as it is."
                }
                p { a href=(paths::job(self.job.id)) { "How it goes stands on the job's page" } }
            }
        }
    }
}
