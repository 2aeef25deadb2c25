//! The second step: files and folders in the snapshot's tree, many at once. What was picked in other folders travels as hidden fields of the one form, so that
//! every button of the tree keeps it.

use maud::{Markup, html};

use crate::{
    domain::{
        JobId, NodeKind, NodeRecord,
        picking::{MOST, Picked, to_field},
        snapshot::{Snapshot, child_path},
        user::Role,
    },
    paths,
    views::{
        Nav, Page, Shell, downloads, format,
        snapshots::filename::{plain, visible},
    },
};

/// How an entry stands to what was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Not picked.
    Free,
    /// Picked itself.
    Picked,
    /// In a folder that is picked.
    Covered,
}

/// An entry of the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRow {
    /// Its whole path.
    pub path: String,
    /// What it is.
    pub node: NodeRecord,
    /// Whether it is picked.
    pub mark: Mark,
}

/// The folder, as far as it is known here.
#[derive(Debug, Clone, PartialEq)]
pub enum FolderView {
    /// A page of it.
    Whole {
        /// The entries of this page.
        entries: Vec<EntryRow>,
        /// All entries of the folder.
        total: u64,
        /// Where the next page begins.
        next: Option<String>,
    },
    /// A job lists it.
    Listing {
        /// Which.
        job: JobId,
        /// On which host.
        host: String,
        /// That host is here.
        is_online: bool,
    },
    /// The job that was to list it brought nothing, and why.
    Failed {
        /// Which.
        job: JobId,
        /// Its words.
        why: String,
    },
    /// Nobody asked yet.
    Unlisted,
}

/// The form with the tree: htmx replaces it as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Picker {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The open folder.
    pub folder: String,
    /// Only names that hold this.
    pub wanted: String,
    /// What was picked.
    pub picked: Picked,
    /// The folder's content.
    pub view: FolderView,
    /// What was wrong with the last wish.
    pub refused: Option<String>,
}

/// `/restore/{id}/{snapshot}`.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesPage {
    /// Its content.
    pub picker: Picker,
}

impl Page for FilesPage {
    fn title(&self) -> String {
        format!("Restore from {}", self.picker.snapshot.short_id())
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            h1 { "Pick what to restore" }
            (super::steps(1))
            p.lead { (super::source_words(&self.picker.snapshot)) "." }
            @if self.picker.snapshot.gone_at.is_some() {
                .notice.bad { p { b { "This snapshot is gone. " } "It is no longer in the repository, so nothing of it can be restored. Choose another." } }
            }
            (self.picker.render(shell))
        }
    }
}

impl Picker {
    fn action(&self) -> String {
        paths::restore_files(self.snapshot.repo_id, &self.snapshot.id)
    }

    fn download(&self) -> String {
        paths::restore_download(self.snapshot.repo_id, &self.snapshot.id)
    }

    /// A button that shows another part of the tree and keeps what was picked.
    fn turn(&self, name: &str, value: &str, class: &str, label: &Markup) -> Markup {
        html! {
            button.(class) type="submit" name=(name) value=(value) formnovalidate hx-post=(self.action()) hx-target="#picker" hx-swap="outerHTML" { (label) }
        }
    }

    /// The form.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let in_view: Vec<&str> = match &self.view {
            FolderView::Whole { entries, .. } => {
                entries.iter().filter(|row| row.mark == Mark::Picked).map(|row| row.path.as_str()).collect()
            }
            _ => Vec::new(),
        };
        let here = self.picked.has(&self.folder);
        html! {
            form #picker.stack.wide method="post" action=(self.action()) {
                (shell.csrf_field())
                input type="hidden" name="folder" value=(to_field(&self.folder));
                @for path in self.picked.iter().filter(|path| !(in_view.contains(path) || here && *path == self.folder)) {
                    input type="hidden" name="chosen" value=(to_field(path));
                }
                @if let Some(refused) = &self.refused { p.notice.bad role="alert" { (refused) } }
                .cols {
                    section.card aria-labelledby="tree-title" {
                        header { h2 #tree-title { (self.crumbs()) } }
                        .tools {
                            input type="search" name="q" value=(self.wanted) placeholder="Name in this folder" aria-label="Name in this folder" autocomplete="off" spellcheck="false";
                            (self.turn("look", "1", "btn", &html! { "Filter" }))
                        }
                        (self.content(shell, here))
                    }
                    (self.basket(shell))
                }
            }
        }
    }

    /// The way from the root to here, and the paths that the snapshot was made of.
    fn crumbs(&self) -> Markup {
        let mut so_far = String::new();
        let mut parts = vec![("/".to_owned(), "/".to_owned())];
        for part in self.folder.split('/').filter(|part| !part.is_empty()) {
            so_far = format!("{so_far}/{part}");
            parts.push((so_far.clone(), part.to_owned()));
        }
        let last = parts.len() - 1;
        let sources =
            self.snapshot.paths.iter().filter(|path| path.starts_with('/') && **path != self.folder && path.len() > 1);
        html! {
            span.crumbs {
                @for (i, (path, name)) in parts.into_iter().enumerate() {
                    @if i == last { b { (visible(&name)) } } @else { (self.turn("open", &to_field(&path), "link", &html! { (visible(&name)) })) @if i > 0 { " / " } }
                }
            }
            @if self.folder == "/" {
                span.crumbs { @for path in sources.take(4) { (self.turn("open", &to_field(path), "link", &html! { (visible(path)) })) } }
            }
        }
    }

    fn content(&self, shell: &Shell, here: bool) -> Markup {
        match &self.view {
            FolderView::Whole { entries, total, next } => self.entries(shell, here, (entries, *total, next.as_deref())),
            FolderView::Listing { job, host, is_online } => html! {
                .pad role="status" hx-post=(self.action()) hx-trigger="every 1s" hx-target="#picker" hx-swap="outerHTML" {
                    p {
                        @if *is_online { (host) " lists this folder. " }
                        @else { (host) " is to list this folder, and is not connected: it comes when it is back. " }
                        a href=(paths::job(*job)) { "Look at the job" }
                    }
                    p { (self.turn("look", "1", "btn", &html! { "Look again" })) }
                }
            },
            FolderView::Failed { job, why } => html! {
                .notice.bad.flat { p { b { "This folder could not be listed. " } (format::sentence(why)) " " a href=(paths::job(*job)) { "Look at the job" } } }
                .pad { (self.ask(shell, "Try again", false)) }
            },
            FolderView::Unlisted => html! {
                .pad.stack {
                    p { "This folder was not looked into yet. Its list is fetched from the repository by a host, and kept." }
                    (self.ask(shell, "List this folder", true))
                }
            },
        }
    }

    /// The button that has the folder listed; by itself, where there are scripts and `at_once`.
    fn ask(&self, shell: &Shell, label: &str, at_once: bool) -> Markup {
        html! {
            @if let Some(reason) = shell.refusal(Role::Operator) { button.btn type="button" disabled title=(reason) { (label) } small { (reason) } }
            @else {
                div hx-post=[at_once.then(|| self.action())] hx-trigger=[at_once.then_some("load")] hx-target="#picker" hx-swap="outerHTML" hx-vals=r#"{"list":"1"}"# {
                    (self.turn("list", "1", "btn", &html! { (label) }))
                }
            }
        }
    }

    fn entries(&self, shell: &Shell, here: bool, (entries, total, next): (&[EntryRow], u64, Option<&str>)) -> Markup {
        let above = self.picked.above(&self.folder);
        html! {
            @if let Some(above) = above { p.notice.flat { "All of this is picked with " code { (visible(above)) } "." } }
            @else if here { p.notice.flat { "All of this folder is picked." } }
            @if entries.is_empty() {
                p.pad { @if self.wanted.is_empty() { "This folder is empty." } @else { "No name in this folder holds that." } }
            } @else {
                .scroll { table.picking.cards {
                    caption.vh { "Entries of " (visible(&self.folder)) ": " (format::count(total)) }
                    thead { tr {
                        th scope="col" { span.vh { "Pick" } } th scope="col" { "Name" } th.num scope="col" { "Size" } th.hide-s scope="col" { "Changed" } th scope="col" { span.vh { "Download" } }
                    } }
                    tbody { @for (i, row) in entries.iter().enumerate() { (self.entry(shell, i, row)) } }
                } }
            }
            .row.between.pad {
                small { (format::plural(total, "entry", "entries")) " in this folder" }
                @if let Some(next) = next { (self.turn("after", &to_field(next), "btn", &html! { "More" })) }
            }
        }
    }

    fn entry(&self, shell: &Shell, i: usize, row: &EntryRow) -> Markup {
        let (node, name) = (&row.node, plain(&row.node.name));
        let id = format!("pick-{i}");
        let field = to_field(&row.path);
        let download = downloads::buttons(shell, (&row.path, node.kind), Some(&self.download()));
        html! {
            tr data-key=(field) {
                td { input #(id) type="checkbox" name="pick" value=(field) aria-label=(format!("Pick {name}")) checked[row.mark != Mark::Free] disabled[row.mark == Mark::Covered]; }
                td.name {
                    @if node.kind == NodeKind::Dir { (self.turn("open", &field, "link", &html! { (visible(&node.name)) "/" })) }
                    @else { label for=(id) { (visible(&node.name)) @if node.kind == NodeKind::Symlink { " " small { "link" } } } }
                }
                td.num { @match node.size.filter(|_| node.kind == NodeKind::File) { Some(n) => (format::bytes(n)), None => "—" } }
                td.hide-s { @match node.mtime { Some(at) => (format::moment(at)), None => "—" } }
                td.num.act { (download) }
            }
        }
    }

    /// What was picked so far, and the way on.
    fn basket(&self, shell: &Shell) -> Markup {
        let next = paths::restore_target(self.snapshot.repo_id, &self.snapshot.id);
        html! {
            section.card aria-labelledby="picked-title" {
                header { h2 #picked-title { "Picked" } small { (format::plural(self.picked.len() as u64, "path", "paths")) " of at most " (MOST) } }
                @if self.picked.is_empty() {
                    p.pad.muted { "Tick files and folders; a folder stands for all that is in it. What you tick is kept when you open another folder." }
                } @else {
                    ul.list.picked { @for path in self.picked.iter() {
                        li { code.grow { (visible(path)) } (self.turn("drop", &to_field(path), "link", &html! { "Remove" span.vh { " " (plain(path)) } })) }
                    } }
                }
                .pad.stack {
                    button.btn.primary type="submit" formaction=(next) { "Restore what is ticked…" }
                    button.btn type="submit" formaction=(next) name="all" value="true" { "Restore everything…" }
                    button.btn type="submit" formaction=(self.download()) name="get" value="picked" disabled[!shell.may(Role::Operator)] { "Download what is ticked as tar" }
                    small { "Several at once come as tar alone: restic packs each by itself, and only tars can be joined." }
                    @if let Some(size) = self.snapshot.bytes { small { "Everything is " (format::bytes(size)) "." } }
                    @if let Some(reason) = shell.refusal(Role::Operator) { small { (reason) } }
                }
            }
        }
    }
}

impl EntryRow {
    /// An entry of `folder`.
    #[must_use]
    pub fn of(folder: &str, node: NodeRecord, picked: &Picked) -> Self {
        let path = child_path(folder, &node.name);
        let mark = match (picked.has(&path), picked.above(&path)) {
            (true, _) => Mark::Picked,
            (false, Some(_)) => Mark::Covered,
            (false, None) => Mark::Free,
        };
        Self { path, node, mark }
    }
}
