//! A snapshot: its facts, and one folder of its tree. A folder that nobody looked into yet is asked for as soon as the page is there; until it is listed the fragment
//! fetches itself.

use maud::{Markup, html};

use super::{filename, head, label, own_tags, owner, size};
use crate::{
    domain::{
        JobId, NodeKind, Timestamp,
        repo::Repo,
        snapshot::{Snapshot, child_path},
        user::Role,
    },
    paths,
    views::{
        Nav, Page, Shell,
        components::{self, PostButton, Tone},
        downloads, format,
        snapshots::filename::visible,
    },
};

/// How far a folder is known.
#[derive(Debug, Clone, PartialEq)]
pub enum FolderState {
    /// All of it: a page of its entries (owner and group joined in `user`), how many there are in all, and the `after` of the next page.
    Whole {
        /// The entries of this page.
        nodes: Vec<crate::domain::NodeRecord>,
        /// Entries in all.
        entries: u64,
        /// The next page.
        next: Option<String>,
    },
    /// A job lists it: which, where, and what it waits for.
    Listing {
        /// The job.
        job: JobId,
        /// Its host's name.
        host: String,
        /// What it waits for, in words.
        waits: String,
    },
    /// It could not be listed.
    Failed {
        /// The job, where there is one.
        job: Option<JobId>,
        /// Why.
        why: String,
    },
    /// Nobody asked yet.
    Unlisted,
}

/// Live fragment: a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderView {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The folder, from `/`.
    pub path: String,
    /// What the names must hold.
    pub wanted: String,
    /// Whether this is a later page.
    pub is_later: bool,
    /// What is known.
    pub state: FolderState,
}

impl FolderView {
    fn url(&self, more: &[(&str, &str)]) -> String {
        paths::with_query(&paths::snapshot_folder(self.snapshot.repo_id, &self.snapshot.id, &self.path), more)
    }

    fn tree(&self) -> String {
        paths::snapshot_tree(self.snapshot.repo_id, &self.snapshot.id, &self.path)
    }

    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let polls = matches!(self.state, FolderState::Listing { .. }).then(|| self.url(&[("fragment", "1")]));
        html! {
            div #folder hx-get=[polls.as_deref()] hx-trigger=[polls.as_ref().map(|_| "every 1s")] hx-swap="outerHTML" {
                @match &self.state {
                    FolderState::Whole { nodes, entries, next } => (self.entries(shell, nodes, *entries, next.as_deref())),
                    FolderState::Listing { job, host, waits } => {
                        p.pad role="status" {
                            (components::pill(Tone::Run, "Listing…")) " " b { (visible(&self.path)) } " on " (host)
                            @if !waits.is_empty() { ". It waits for " (waits) }
                            ". " a href=(paths::job(*job)) { "Its job" }
                        }
                    },
                    FolderState::Failed { job, why } => (self.failed(shell, *job, why)),
                    FolderState::Unlisted => (self.unlisted(shell)),
                }
            }
        }
    }

    fn failed(&self, shell: &Shell, job: Option<JobId>, why: &str) -> Markup {
        let again = PostButton {
            action: self.tree(),
            label: "Try again",
            class: "",
            fields: Vec::new(),
            needs: Role::Operator,
            aria: String::new(),
        };
        html! {
            .pad { .notice.bad role="alert" {
                p { (format::sentence(why)) }
                .row { (again.render(shell)) @if let Some(job) = job { a href=(paths::job(job)) { "The job's log" } } }
            } }
        }
    }

    fn unlisted(&self, shell: &Shell) -> Markup {
        html! {
            @if self.snapshot.gone_at.is_some() {
                p.pad { "This snapshot is no longer in its repository, and nobody looked into this folder while it was: it can't be listed." }
            } @else if let Some(reason) = shell.refusal(Role::Operator) {
                p.pad { "Nobody looked into this folder yet. Listing it is a job on a host. " (reason) }
            } @else {
                form.pad.row method="post" action=(self.tree()) hx-post=(self.tree()) hx-trigger="load, submit" hx-target="#folder" hx-swap="outerHTML" {
                    (shell.csrf_field())
                    span { "Nobody looked into this folder yet." }
                    button.btn.primary type="submit" { "List it" }
                }
            }
        }
    }

    fn entries(&self, shell: &Shell, nodes: &[crate::domain::NodeRecord], entries: u64, next: Option<&str>) -> Markup {
        let searching = !self.wanted.is_empty();
        html! {
            form.tools method="get" action=(paths::snapshot(self.snapshot.repo_id, &self.snapshot.id)) role="search" aria-label="Search in this folder" {
                // Encoded twice: a form would turn the line breaks of a name into others.
                input type="hidden" name="in" value=(paths::query_value(&self.path));
                input type="search" name="q" value=(self.wanted) placeholder="Name in this folder" aria-label="Name in this folder";
                button.btn type="submit" { "Search" }
                @if searching { a href=(self.url(&[])) { "Show all" } }
                small { (format::plural(entries, "entry", "entries")) }
            }
            @if nodes.is_empty() {
                p.pad { @if searching { "No name in this folder holds that." } @else { "This folder is empty." } }
            } @else {
                .scroll { table.tree.cards {
                    caption.vh { "Entries of the folder" }
                    thead { tr {
                        th scope="col" { "Name" } th.num scope="col" { "Size" } th.hide-s scope="col" { "Changed" }
                        th.hide-m scope="col" { "Permissions" } th.hide-m scope="col" { "Owner" } th scope="col" { span.vh { "Actions" } }
                    } }
                    tbody { @for node in nodes { (self.row(shell, node)) } }
                } }
            }
            @if self.is_later || next.is_some() {
                .row.pad {
                    @if self.is_later { a.btn href=(self.url(&[("q", &self.wanted)])) { "First page" } }
                    @if let Some(next) = next { a.btn href=(self.url(&[("q", &self.wanted), ("after", next)])) { "Next page" } }
                }
            }
        }
    }

    fn row(&self, shell: &Shell, node: &crate::domain::NodeRecord) -> Markup {
        let (repo, id) = (self.snapshot.repo_id, self.snapshot.id.as_str());
        let path = child_path(&self.path, &node.name);
        let title = filename::plain(&node.name);
        html! {
            tr {
                td.title title=(title) {
                    @match node.kind {
                        NodeKind::Dir => a href=(paths::snapshot_folder(repo, id, &path)) { b { (visible(&node.name)) "/" } },
                        NodeKind::Symlink => { (visible(&node.name)) " " small { "link" } },
                        NodeKind::Other => { (visible(&node.name)) " " small { "special" } },
                        NodeKind::File => (visible(&node.name)),
                    }
                    @if node.name.contains(char::REPLACEMENT_CHARACTER) { " " small { "name is not UTF-8" } }
                }
                td.num { (size(node.size)) }
                td.hide-s { @match node.mtime { Some(at) => (format::ago(shell.now, at)), None => "—" } }
                td.hide-m { code { (node.mode) } }
                td.hide-m { (node.user) }
                td.num.act {
                    @if node.kind == NodeKind::File {
                        a href=(paths::repo_versions(repo, &path)) aria-label=(format!("Versions of {title}")) { "Versions" } " "
                    }
                    @if self.snapshot.gone_at.is_none() {
                        a href=(paths::restore(repo, id, &path)) aria-label=(format!("Restore {title}")) { "Restore" } " "
                        (downloads::form(shell, (repo, id), (&path, node.kind)))
                    }
                }
            }
        }
    }
}

/// `/repos/{id}/snapshots/{snapshot}`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotPage {
    /// The repository.
    pub repo: Repo,
    /// The folder that is open.
    pub folder: FolderView,
    /// Others of the same host to compare with: id and time, newest first.
    pub others: Vec<(String, Timestamp)>,
}

impl SnapshotPage {
    fn facts(&self) -> Markup {
        let snapshot = &self.folder.snapshot;
        html! {
            section.card.pad aria-label="Facts" {
                (components::facts(&[
                    ("Host", owner(snapshot)),
                    ("Made", html! { (format::moment(snapshot.time)) " " small { "by the clock of who made it" } }),
                    ("First seen", format::moment(snapshot.first_seen_at)),
                    ("Paths", html! { @for path in &snapshot.paths { code.line {
                        @if path.starts_with('/') { a href=(paths::snapshot_folder(self.repo.id, &snapshot.id, path)) { (visible(path)) } } @else { (visible(path)) }
                    } } }),
                    ("Size", html! { (size(snapshot.bytes)) @if let Some(files) = snapshot.files { " in " (format::plural(files, "file", "files")) } }),
                    ("Added", html! { (size(snapshot.added)) }),
                    ("Tags", html! { @if own_tags(&snapshot.tags).next().is_none() { "—" } @for tag in own_tags(&snapshot.tags) { span.tag { (visible(tag)) } " " } }),
                    ("Id", html! { code { (snapshot.id) } }),
                    ("Made by", html! {
                        @match snapshot.job_id { Some(job) => a href=(paths::job(job)) { "a backup from here" }, None => "not by this server" }
                        @if !snapshot.program.is_empty() { " with " (snapshot.program) }
                    }),
                ]))
                @if let Some(pin) = &snapshot.pin { p.notice.ok { "Pinned by " (pin.by) ": " (pin.reason) } }
            }
        }
    }

    /// The folder that is open, as an archive; on the snapshot's own page that is all of it.
    fn download(&self, shell: &Shell) -> Markup {
        let (snapshot, path) = (&self.folder.snapshot, self.folder.path.as_str());
        html! {
            @if snapshot.gone_at.is_none() {
                span { @if path == "/" { "Download all as " } @else { "Download this folder as " } (downloads::form(shell, (self.repo.id, &snapshot.id), (path, NodeKind::Dir))) }
            }
        }
    }

    fn comparing(&self, shell: &Shell) -> Markup {
        html! {
            @if !self.others.is_empty() && shell.may(Role::Operator) {
                form.card.pad.row method="post" action=(paths::repo_compare(self.repo.id)) {
                    (shell.csrf_field())
                    input type="hidden" name="b" value=(self.folder.snapshot.id);
                    label for="compare-with" { "Compare with" }
                    select #compare-with name="a" {
                        @for (id, time) in &self.others { option value=(id) { (label(id, Some(*time))) } }
                    }
                    button.btn type="submit" { "Compare" }
                }
            }
        }
    }

    fn breadcrumb(&self) -> Markup {
        let (repo, id) = (self.repo.id, self.folder.snapshot.id.as_str());
        let parts: Vec<&str> = self.folder.path.split('/').filter(|part| !part.is_empty()).collect();
        let last = parts.len();
        let mut path = String::new();
        html! {
            nav.crumbs aria-label="Folder" {
                @if last == 0 { b aria-current="page" { "/" } } @else { a href=(paths::snapshot_folder(repo, id, "/")) { "/" } }
                @for (i, part) in parts.iter().enumerate() {
                    @let here = { path.push('/'); path.push_str(part); path.clone() };
                    @if i > 0 { " / " } @else { " " }
                    @if i + 1 == last { b aria-current="page" { (visible(part)) } }
                    @else { a href=(paths::snapshot_folder(repo, id, &here)) { (visible(part)) } }
                }
            }
        }
    }
}

impl Page for SnapshotPage {
    fn title(&self) -> String {
        format!("Snapshot {} in {}", self.folder.snapshot.short_id(), self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let snapshot = &self.folder.snapshot;
        let actions = html! {
            @if snapshot.gone_at.is_none() { a.btn.primary href=(paths::restore(self.repo.id, &snapshot.id, "")) { "Restore" } }
            a.btn href=(paths::repo_snapshots(self.repo.id)) { "All snapshots" }
        };
        html! {
            (head(&self.repo, &html! { "Snapshot of " (format::moment(snapshot.time)) }, &actions))
            @if let Some(at) = snapshot.gone_at {
                p.notice.warn role="status" {
                    b { "It is gone. " } "It was not in the repository any more when that was listed " (format::ago(shell.now, at))
                    @match snapshot.gone_by { Some(job) => { ", after " a href=(paths::job(job)) { "this job" } "." }, None => "; no job from here removed it." }
                    " Folders that were looked into before are still shown."
                }
            }
            (self.facts())
            (self.comparing(shell))
            section.card aria-label="Content" {
                header { (self.breadcrumb()) (self.download(shell)) @if self.folder.path != "/" && snapshot.gone_at.is_none() { a href=(paths::restore(self.repo.id, &snapshot.id, &self.folder.path)) { "Restore this folder" } } }
                (self.folder.render(shell))
            }
        }
    }
}
