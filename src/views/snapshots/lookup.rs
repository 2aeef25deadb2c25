//! What is looked for in snapshots: a name in all of them, what differs between two, a file over time. Each is a job; its page tells how the job is until it has
//! ended, and then what came of it, page by page.

use maud::{Markup, html};

use super::{HostName, filename::visible, head, label, size};
use crate::{
    domain::{
        ChangeRecord, DiffResult, FoundRecord, JobStatus, NodeKind, Timestamp, job::Job, repo::Repo,
        snapshot::FileVersion, user::Role,
    },
    paths,
    views::{FormState, Nav, Page, Shell, components, downloads, format},
};

/// A job that looks something up: how it is, and what of its records is on this page.
#[derive(Debug, Clone, PartialEq)]
pub struct Sought<T> {
    /// The job.
    pub job: Job,
    /// What it waits for, in words.
    pub waits: String,
    /// The page's records.
    pub items: Vec<T>,
    /// The `after` of the next page.
    pub next: Option<u32>,
    /// Whether this is a later page.
    pub is_later: bool,
}

impl<T> Sought<T> {
    /// How the job is, where it has not ended well; `own` is the page's address for when it has.
    fn state(&self, own: &str) -> Markup {
        let job = &self.job;
        let polls = (!job.status.is_final()).then(|| paths::with_query(own, &[("job", &job.id.to_string())]));
        html! {
            // The whole of the page's content is fetched anew until the job has ended.
            div hx-get=[polls.as_deref()] hx-trigger=[polls.as_ref().map(|_| "every 2s")] hx-select=[polls.as_ref().map(|_| "#sought")] hx-target=[polls.as_ref().map(|_| "#sought")] hx-swap=[polls.as_ref().map(|_| "outerHTML")] {
                @match job.status {
                    JobStatus::Queued | JobStatus::Running => p.pad role="status" {
                        (components::job_pill(job.status)) " on " (job.host_name)
                        @if !self.waits.is_empty() { ". It waits for " (self.waits) }
                        ". " a href=(paths::job(job.id)) { "Its job" }
                    },
                    JobStatus::Succeeded | JobStatus::Warning => {},
                    _ => .pad { p.notice.bad role="alert" {
                        (format::sentence(job.error.as_deref().unwrap_or("it ended without a result"))) " " a href=(paths::job(job.id)) { "The job's log" }
                    } },
                }
            }
            @if job.log_truncated { p.pad { b { "Not everything is here: " } "the log was cut." } }
            @if job.log_removed_at.is_some() { p.pad { "What was found then was removed with the job's log. Ask again." } }
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.job.status, JobStatus::Succeeded | JobStatus::Warning)
    }

    fn pages(&self, own: &str) -> Markup {
        let job = self.job.id.to_string();
        html! {
            @if self.is_later || self.next.is_some() { .row.pad {
                @if self.is_later { a.btn href=(paths::with_query(own, &[("job", &job)])) { "First page" } }
                @if let Some(next) = self.next { a.btn href=(paths::with_query(own, &[("job", &job), ("after", &next.to_string())])) { "Next page" } }
            } }
        }
    }
}

/// `/repos/{id}/search`. POST `pattern`, `hostname`, `ignore_case`.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPage {
    /// The repository.
    pub repo: Repo,
    /// Host names to search in.
    pub names: Vec<HostName>,
    /// What was typed.
    pub form: FormState,
    /// What was found, with the time of the snapshot.
    pub sought: Option<Sought<(FoundRecord, Option<Timestamp>)>>,
    /// Matches in all, once the search has ended well.
    pub count: Option<u64>,
}

impl SearchPage {
    fn form(&self, shell: &Shell) -> Markup {
        let refusal = shell.refusal(Role::Operator);
        let error = self.form.error("pattern").or(self.form.error("hostname"));
        html! {
            form.tools method="post" action=(paths::repo_search(self.repo.id)) role="search" aria-label="Search files" {
                (shell.csrf_field())
                input type="search" name="pattern" required value=(self.form.value("pattern")) placeholder="Name or pattern, such as *.conf"
                    aria-label="Name or pattern" aria-invalid=[error.map(|_| "true")];
                select name="hostname" aria-label="All hosts" {
                    option value="" { "All hosts" }
                    @for name in &self.names { option value=(name.hostname) selected[self.form.has("hostname", &name.hostname)] { (visible(&name.hostname)) } }
                }
                label.row for="search-ignore-case" {
                    input #search-ignore-case type="checkbox" name="ignore_case" value="true"
                        checked[self.form.is_untouched() || self.form.has("ignore_case", "true")];
                    "Ignore case"
                }
                button.btn.primary type="submit" disabled[refusal.is_some()] title=[refusal.as_deref()] { "Search" }
            }
            @if let Some(error) = error { p.pad.error { (error) } }
        }
    }

    fn found(&self, shell: &Shell, sought: &Sought<(FoundRecord, Option<Timestamp>)>) -> Markup {
        let own = paths::repo_search(self.repo.id);
        html! {
            @if sought.is_done() {
                p.pad { b { (format::plural(self.count.unwrap_or_default(), "match", "matches")) } " in the snapshots that were searched." }
                @if !sought.items.is_empty() { .scroll { table.cards {
                    caption.vh { "Matches" }
                    thead { tr { th scope="col" { "Path" } th scope="col" { "Snapshot" } th.num.hide-s scope="col" { "Size" } th.hide-s scope="col" { "Changed" } th scope="col" { span.vh { "Actions" } } } }
                    tbody { @for (found, time) in &sought.items {
                        @let folder = if found.node.kind == NodeKind::Dir { found.path.as_str() } else { parent(&found.path) };
                        tr {
                            td.title { a href=(paths::snapshot_folder(self.repo.id, &found.snapshot, folder)) { code { (visible(&found.path)) } } }
                            td { a href=(paths::snapshot(self.repo.id, &found.snapshot)) { @match time { Some(at) => (format::ago(shell.now, *at)), None => (label(&found.snapshot, None)) } } }
                            td.num.hide-s { (size(found.node.size)) }
                            td.hide-s { @match found.node.mtime { Some(at) => (format::moment(at)), None => "—" } }
                            td.num.act {
                                @if found.node.kind == NodeKind::File { a href=(paths::repo_versions(self.repo.id, &found.path)) { "Versions" } " " }
                                (downloads::form(shell, (self.repo.id, &found.snapshot), (&found.path, found.node.kind)))
                            }
                        }
                    } }
                } } }
                (sought.pages(&own))
            }
        }
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

impl Page for SearchPage {
    fn title(&self) -> String {
        format!("Search in {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let all = html! { a.btn href=(paths::repo_snapshots(self.repo.id)) { "All snapshots" } };
        html! {
            (head(&self.repo, &html! { "Search files" }, &all))
            section.card aria-label="Search" {
                (self.form(shell))
                #sought {
                    @match &self.sought {
                        Some(sought) => { (sought.state(&paths::repo_search(self.repo.id))) (self.found(shell, sought)) },
                        None => p.pad { "Finds files and folders by name in every snapshot, or in those of one host. * stands for any characters; what begins with / is a whole path." },
                    }
                }
            }
        }
    }
}

/// `/repos/{id}/compare`. POST `a`, `b`.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparePage {
    /// The repository.
    pub repo: Repo,
    /// What was typed.
    pub form: FormState,
    /// How they differ.
    pub sought: Option<Sought<ChangeRecord>>,
    /// The two snapshots' ids and times.
    pub pair: Option<[(String, Option<Timestamp>); 2]>,
    /// Counts and bytes, once the job has ended well.
    pub total: Option<DiffResult>,
}

impl ComparePage {
    fn form(&self, shell: &Shell) -> Markup {
        let refusal = shell.refusal(Role::Operator);
        html! {
            form.tools method="post" action=(paths::repo_compare(self.repo.id)) aria-label="Compare two snapshots" {
                (shell.csrf_field())
                @for (name, word, words) in [("a", "From", "Id of the older snapshot"), ("b", "to", "Id of the newer snapshot")] {
                    label.from-to.grow { (word) input.mono.grow type="search" name=(name) required value=(self.form.value(name)) placeholder=(words) aria-label=(words)
                        aria-invalid=[self.form.error(name).map(|_| "true")]; }
                }
                button.btn.primary type="submit" disabled[refusal.is_some()] title=[refusal.as_deref()] { "Compare" }
            }
            @for name in ["a", "b"] { @if let Some(error) = self.form.error(name) { p.pad.error { (name) " " (error) } } }
        }
    }

    fn totals(&self, total: &DiffResult) -> Markup {
        html! {
            dl.stats aria-label="Totals" {
                div { dt { "Added" } dd.big { (format::count(total.added)) } dd { (format::bytes(total.added_bytes)) } }
                div { dt { "Removed" } dd.big { (format::count(total.removed)) } dd { (format::bytes(total.removed_bytes)) } }
                div { dt { "Changed" } dd.big { (format::count(total.changed)) } dd { "files of other content" } }
            }
        }
    }

    fn changes(&self, sought: &Sought<ChangeRecord>) -> Markup {
        html! {
            @if sought.is_done() {
                @if sought.items.is_empty() { p.pad { @if sought.is_later { "No more differences." } @else { "No differences in files." } } }
                @else { .scroll { table.cards {
                    caption.vh { "Differences" }
                    thead { tr { th scope="col" { "What" } th scope="col" { "Path" } } }
                    tbody { @for change in &sought.items { tr { td.title { (sign_words(&change.sign)) } td { code { (visible(&change.path)) } } } } }
                } } }
                (sought.pages(&paths::repo_compare(self.repo.id)))
            }
        }
    }
}

/// restic's sign in words; it may hold several.
fn sign_words(sign: &str) -> String {
    let words = sign.chars().map(|c| match c {
        '+' => "added",
        '-' => "removed",
        'M' => "changed",
        'T' => "other type",
        'U' => "metadata",
        '?' => "same time and size, other content",
        _ => "differs",
    });
    words.collect::<Vec<_>>().join(", ")
}

impl Page for ComparePage {
    fn title(&self) -> String {
        format!("Compare snapshots in {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let all = html! { a.btn href=(paths::repo_snapshots(self.repo.id)) { "All snapshots" } };
        html! {
            (head(&self.repo, &html! { "Compare" }, &all))
            @if let Some(pair) = &self.pair {
                p { "From " @for (i, (id, time)) in pair.iter().enumerate() { @if i > 0 { " to " } a href=(paths::snapshot(self.repo.id, id)) { (label(id, *time)) } } "." }
            }
            section.card aria-label="Differences" {
                (self.form(shell))
                #sought {
                    @if let Some(sought) = &self.sought {
                        (sought.state(&paths::repo_compare(self.repo.id)))
                        @if let Some(total) = self.total.as_ref().filter(|_| sought.is_done()) { (self.totals(total)) }
                        (self.changes(sought))
                    } @else { p.pad { "Tells what was added, removed and changed between two snapshots, with the bytes that make the difference." } }
                }
            }
        }
    }
}

/// `/repos/{id}/versions?path=`. POST with `?path=`.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionsPage {
    /// The repository.
    pub repo: Repo,
    /// The file.
    pub path: String,
    /// The search; its records are in `versions`.
    pub sought: Option<Sought<()>>,
    /// The versions, newest first.
    pub versions: Vec<FileVersion>,
    /// Not every match was read.
    pub capped: bool,
    /// Why it could not be asked for.
    pub refused: Option<String>,
}

impl VersionsPage {
    fn version(&self, shell: &Shell, version: &FileVersion) -> Markup {
        let last = version.snapshots.last();
        html! { tr {
            td.title { @match version.node.mtime { Some(at) => { b { (format::moment(at)) } small.line { (format::ago(shell.now, at)) } }, None => "—" } }
            td.num { (size(version.node.size)) }
            td {
                (format::plural(version.snapshots.len() as u64, "snapshot", "snapshots"))
                @if let Some((id, time)) = last { small.line { "last " a href=(paths::snapshot_folder(self.repo.id, id, parent(&self.path))) { (label(id, *time)) } } }
            }
            td.num.act { @if let Some((id, _)) = last {
                a href=(paths::restore(self.repo.id, id, &self.path)) { "Restore" } " "
                (downloads::form(shell, (self.repo.id, id), (&self.path, version.node.kind)))
            } }
        } }
    }
}

impl Page for VersionsPage {
    fn title(&self) -> String {
        format!("Versions of {}", super::filename::plain(&self.path))
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let action = paths::repo_versions(self.repo.id, &self.path);
        let look = components::PostButton {
            action: action.clone(),
            label: if self.sought.is_some() { "Look again" } else { "Look in all snapshots" },
            class: if self.sought.is_some() { "" } else { "primary" },
            fields: Vec::new(),
            needs: Role::Operator,
            aria: String::new(),
        };
        html! {
            (head(&self.repo, &html! { "Versions of " (visible(&self.path)) }, &look.render(shell)))
            @if let Some(why) = &self.refused { p.notice.bad role="alert" { (format::sentence(why)) } }
            section.card aria-label="Versions" { #sought {
                @if let Some(sought) = &self.sought {
                    (sought.state(&action))
                    @if sought.is_done() {
                        @if self.versions.is_empty() { p.pad { "No snapshot holds this file." } }
                        @else { .scroll { table.cards {
                            caption.vh { "Versions, newest first" }
                            thead { tr { th scope="col" { "Changed" } th.num scope="col" { "Size" } th scope="col" { "In" } th scope="col" { span.vh { "Actions" } } } }
                            tbody { @for version in &self.versions { (self.version(shell, version)) } }
                        } } }
                        @if self.capped { p.pad { "There are more snapshots with this file than are shown." } }
                    }
                } @else {
                    p.pad { "Which snapshots hold this file, and how it changed from one to the next. Looking is a job on a host." }
                }
            } }
        }
    }
}
