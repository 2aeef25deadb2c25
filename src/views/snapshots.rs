//! What repositories hold: the list of a repository's snapshots with its filters in the address, and whose host names they stand under. The pages of one snapshot
//! and of what is looked for in them stand below.

pub mod filename;
mod lookup;
mod tree;

pub use lookup::{ComparePage, SearchPage, Sought, VersionsPage};
pub use tree::{FolderState, FolderView, SnapshotPage};

use maud::{Markup, html};

use crate::{
    domain::{
        JobId, RepoId, Timestamp,
        repo::Repo,
        snapshot::{IndexState, Snapshot},
        user::Role,
    },
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, HostRef, PostButton, Tone},
        format,
        snapshots::filename::visible,
    },
};

/// `?hostname=&path=&tag=&since=&until=`, as they stand in the address; empty means any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotFilter {
    /// A host's id.
    pub host: String,
    /// A host name.
    pub hostname: String,
    /// A path that is in them.
    pub path: String,
    /// A tag.
    pub tag: String,
    /// A day, `YYYY-MM-DD`: made on it or later.
    pub since: String,
    /// A day: made on it or earlier.
    pub until: String,
}

impl SnapshotFilter {
    fn url(&self, repo: RepoId, more: &[(&str, &str)]) -> String {
        let own = [
            ("host", self.host.as_str()),
            ("hostname", &self.hostname),
            ("path", &self.path),
            ("tag", &self.tag),
            ("since", &self.since),
            ("until", &self.until),
        ];
        paths::with_query(&paths::repo_snapshots(repo), &[&own[..], more].concat())
    }

    fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

/// A host name in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// As the snapshots have it.
    pub hostname: String,
    /// Snapshots under it.
    pub snapshots: u64,
    /// The host that it stands for, and whether that was removed.
    pub host: Option<(HostRef, bool)>,
}

/// `/repos/{id}/snapshots`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotsPage {
    /// The repository.
    pub repo: Repo,
    /// What was asked for.
    pub filter: SnapshotFilter,
    /// The snapshots, newest first.
    pub snapshots: Vec<Snapshot>,
    /// The `after` of the next page.
    pub older: Option<i64>,
    /// Whether this is a later page.
    pub is_later: bool,
    /// The host names in it.
    pub names: Vec<HostName>,
    /// Hosts that a name can be matched with.
    pub hosts: Vec<HostRef>,
    /// How fresh the list is.
    pub index: IndexState,
    /// The job that lists it now.
    pub listing: Option<JobId>,
    /// Why the last try to list it brought nothing, and its job.
    pub trouble: Option<(JobId, String)>,
}

/// The head of every page of a repository's snapshots.
fn head(repo: &Repo, title: &Markup, actions: &Markup) -> Markup {
    html! {
        div {
            small { a href=(route::REPOS) { "Repositories" } " / " a href=(paths::repo(repo.id)) { (repo.name) } }
            .row.between { h1 { (title) } .row { (actions) } }
        }
    }
}

/// Whose a snapshot is: its host, or the name under which it stands.
#[must_use]
pub fn owner(snapshot: &Snapshot) -> Markup {
    html! {
        @match &snapshot.host {
            Some(host) if host.removed => { (host.name) " " small { "removed host" } },
            Some(host) => a href=(paths::host_tab(host.id, "snapshots")) { (host.name) },
            None => { (visible(&snapshot.hostname)) " " small { "not matched" } },
        }
    }
}

/// Snapshots as a table. `several` repositories: each row says which.
#[must_use]
pub fn table(shell: &Shell, snapshots: &[Snapshot], several: bool) -> Markup {
    html! {
        .scroll { table.cards {
            caption.vh { "Snapshots, newest first" }
            thead { tr {
                th scope="col" { "Made" }
                th scope="col" { @if several { "Repository" } @else { "Host" } }
                th scope="col" { "Paths" } th.hide-m scope="col" { "Tags" }
                th.num.hide-s scope="col" { "Size" } th.num.hide-m scope="col" { "Added" } th.hide-m scope="col" { "Id" }
            } }
            tbody { @for snapshot in snapshots { tr data-key=(snapshot.id) {
                td.title {
                    a href=(paths::snapshot(snapshot.repo_id, &snapshot.id)) { b { (format::moment(snapshot.time)) } }
                    @if snapshot.pin.is_some() { " " (components::pill(Tone::Ok, "Pinned")) }
                    small.line { (format::ago(shell.now, snapshot.time)) }
                }
                td.who { @if several { a href=(paths::repo_snapshots(snapshot.repo_id)) { (snapshot.repo_name) } } @else { (owner(snapshot)) } }
                td { code { (sources(&snapshot.paths)) } }
                td.hide-m { @for tag in own_tags(&snapshot.tags) { span.tag { (visible(tag)) } " " } }
                td.num.hide-s { (size(snapshot.bytes)) }
                td.num.hide-m { (size(snapshot.added)) }
                td.hide-m { code { (snapshot.short_id()) } }
            } } }
        } }
    }
}

/// Tags that people gave: those by which Flotilla knows its own are left out.
fn own_tags(tags: &[String]) -> impl Iterator<Item = &String> {
    let names_ours = |tag: &str| ["job-", "plan-"].iter().filter_map(|kind| tag.strip_prefix(kind)).any(is_ulid);
    tags.iter().filter(move |tag| *tag != "flotilla" && !names_ours(tag))
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn sources(paths: &[String]) -> Markup {
    html! {
        @for (i, path) in paths.iter().take(3).enumerate() { @if i > 0 { ", " } (visible(path)) }
        @if paths.len() > 3 { " and " (paths.len() - 3) " more" }
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "—".to_owned(), format::bytes)
}

impl SnapshotsPage {
    fn actions(&self, shell: &Shell) -> Markup {
        let list = PostButton {
            action: paths::repo_snapshots_refresh(self.repo.id),
            label: "Refresh the list",
            class: "",
            fields: Vec::new(),
            needs: Role::Operator,
            aria: String::new(),
        };
        html! { a.btn href=(paths::repo_search(self.repo.id)) { "Search files" } @if self.listing.is_none() { (list.render(shell)) } }
    }

    fn freshness(&self, shell: &Shell) -> Markup {
        html! {
            @if let Some(job) = self.listing {
                p.notice role="status" { "The repository is being listed: " a href=(paths::job(job)) { "see how it goes" } ". Reload to see what came of it." }
            } @else if let Some((job, why)) = &self.trouble {
                p.notice.bad { "The repository could not be listed: " (format::sentence(why)) " " a href=(paths::job(*job)) { "Its log" } }
            }
            p.muted {
                @match self.index.indexed_at {
                    Some(at) => { "As listed " (format::ago(shell.now, at)) ", with backups since then." },
                    None => "Not listed yet: only backups that ran from here are shown.",
                }
                @if self.index.stale_at.is_some() { " Something changed since; it is listed again soon." }
            }
        }
    }

    fn filters(&self) -> Markup {
        let filter = &self.filter;
        html! {
            form.tools method="get" action=(paths::repo_snapshots(self.repo.id)) role="search" aria-label="Filter snapshots" data-submit-on-change {
                select name="hostname" aria-label="Any host" {
                    option value="" { "Any host" }
                    @for name in &self.names {
                        option value=(name.hostname) selected[name.hostname == filter.hostname] {
                            (visible(&name.hostname)) " (" (format::count(name.snapshots)) ")"
                        }
                    }
                }
                @if !filter.host.is_empty() { input type="hidden" name="host" value=(filter.host); }
                input type="search" name="path" value=(filter.path) placeholder="Path, such as /etc" aria-label="Path";
                input type="search" name="tag" value=(filter.tag) placeholder="Tag" aria-label="Tag";
                label.from-to { "From" input type="date" name="since" value=(filter.since) aria-label="From this day (UTC)" title="From this day (UTC)"; }
                label.from-to { "to" input type="date" name="until" value=(filter.until) aria-label="Up to this day (UTC)" title="Up to this day (UTC)"; }
                button.btn type="submit" { "Filter" }
                @if filter.is_set() { a href=(paths::repo_snapshots(self.repo.id)) { "Clear" } }
            }
        }
    }

    fn list(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-label="Snapshots" {
                (self.filters())
                @if self.snapshots.is_empty() {
                    p.pad {
                        @if self.filter.is_set() { "No snapshot matches. " a href=(paths::repo_snapshots(self.repo.id)) { "Show all" } }
                        @else { "No snapshots yet. Each backup makes one; what others made is here once the repository was listed." }
                    }
                } @else { (table(shell, &self.snapshots, false)) }
                @if self.is_later || self.older.is_some() {
                    .row.pad {
                        @if self.is_later { a.btn href=(self.filter.url(self.repo.id, &[])) { "Newest" } }
                        @if let Some(older) = self.older { a.btn href=(self.filter.url(self.repo.id, &[("after", &older.to_string())])) { "Older" } }
                    }
                }
            }
        }
    }

    /// Host names that no enrolled host bears, each with a form.
    fn matching(&self, shell: &Shell) -> Markup {
        let refusal = shell.refusal(Role::Admin);
        let known = self.names.iter().filter(|name| name.host.as_ref().is_some_and(|(_, removed)| !removed)).count();
        html! {
            section.card aria-labelledby="names-title" {
                header { h2 #names-title { "Host names in this repository" } small { (known) " of " (self.names.len()) " belong to a host" } }
                ul.list { @for (i, name) in self.names.iter().enumerate() { li {
                    .grow {
                        b { (visible(&name.hostname)) } " " small { (format::plural(name.snapshots, "snapshot", "snapshots")) }
                        p.muted {
                            @match &name.host {
                                Some((host, true)) => { "was " (host.name) ", which was removed. Its snapshots stay." },
                                Some((host, false)) => { "is " a href=(paths::host(host.id)) { (host.name) } },
                                None => "belongs to no host that is known here",
                            }
                        }
                    }
                    @if name.host.is_none() && !self.hosts.is_empty() {
                        form.row method="post" action=(paths::repo_snapshots_match(self.repo.id)) {
                            (shell.csrf_field())
                            input type="hidden" name="hostname" value=(name.hostname);
                            select name="host_id" aria-label=(format!("Host of name {}", i + 1)) disabled[refusal.is_some()] {
                                @for host in &self.hosts { option value=(host.id) { (host.name) } }
                            }
                            button.btn type="submit" disabled[refusal.is_some()] title=[refusal.as_deref()] { "This is the host" }
                        }
                    }
                } } }
            }
        }
    }
}

impl Page for SnapshotsPage {
    fn title(&self) -> String {
        format!("Snapshots in {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            (head(&self.repo, &html! { "Snapshots" }, &self.actions(shell)))
            (self.freshness(shell))
            (self.list(shell))
            @if !self.names.is_empty() { (self.matching(shell)) }
        }
    }
}

/// Snapshots of a host, in whatever repository: a tab of its page.
#[must_use]
pub fn of_host(shell: &Shell, snapshots: &[Snapshot], older: Option<&str>) -> Markup {
    html! {
        @if snapshots.is_empty() {
            (components::empty("No snapshots yet", "Each good backup of this host makes one. Those that it made before it was enrolled are here once their host name is matched, on the repository's page.", None))
        } @else {
            section.card aria-labelledby="snapshots-title" {
                header { h2 #snapshots-title { "Snapshots" } }
                (table(shell, snapshots, true))
                @if let Some(older) = older { .row.pad { a.btn href=(older) { "Older" } } }
            }
        }
    }
}

/// When a snapshot was made, for a choice: `2026-11-21 08:00 UTC · 1a2b3c4d`.
fn label(snapshot: &str, time: Option<Timestamp>) -> String {
    let short = snapshot.get(..8).unwrap_or(snapshot);
    time.map_or_else(|| short.to_owned(), |time| format!("{} · {short}", format::utc_minute(time)))
}
