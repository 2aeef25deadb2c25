//! The way to get files back, in steps that each have an address: a snapshot, files in its tree, where to, what a dry run says. Every step says in words what
//! would be restored. Each works without a script; with one, the tree and the dry run change in place.

mod files;
mod report;
mod review;
mod source;
mod target;

pub use files::{EntryRow, FilesPage, FolderView, Mark, Picker};
pub use report::{restore_report, too_little_room};
pub use review::{Review, ReviewPage};
pub use source::{SourceFilter, SourcePage};
pub use target::{TargetHost, TargetPage};

use maud::{Markup, html};

use crate::{
    domain::{Overwrite, picking::to_field, snapshot::Snapshot},
    paths::{self, route},
    views::{format, snapshots::filename::visible},
};

/// The steps, and where one stands.
fn steps(current: usize) -> Markup {
    let names = ["Snapshot", "Files", "Where to", "Dry run"];
    html! {
        nav aria-label="Steps" {
            ol.wizard {
                @for (i, name) in names.into_iter().enumerate() {
                    li aria-current=[(i == current).then_some("step")] data-done[i < current] {
                        @if i == 0 && current > 0 { a href=(route::RESTORE) { (name) } } @else { (name) }
                    }
                }
            }
        }
    }
}

/// Whose files, from when, from where.
fn source_words(snapshot: &Snapshot) -> Markup {
    html! {
        "Snapshot " a href=(paths::restore_files(snapshot.repo_id, &snapshot.id)) { code title=(snapshot.id) { (snapshot.short_id()) } }
        " of "
        @match &snapshot.host {
            Some(host) => { b { (host.name) } @if host.removed { " (removed)" } },
            None => { b { (visible(&snapshot.hostname)) } " (no host of this fleet)" },
        }
        ", made " b { (format::moment(snapshot.time)) }
        ", in " a href=(paths::repo(snapshot.repo_id)) { (snapshot.repo_name) }
    }
}

/// Paths in a line, as people can read them.
fn paths_words(paths: &[String]) -> Markup {
    html! { @for (i, path) in paths.iter().enumerate() { @if i > 0 { ", " } (visible(path)) } }
}

/// What was picked, in words: all, or the paths, the first few in sight.
fn picked_words(picked: Option<&[String]>) -> Markup {
    const FIRST: usize = 8;
    html! {
        @match picked {
            None | Some([]) => p { b { "Everything in the snapshot" } },
            Some(paths) => {
                ul.paths { @for path in &paths[..paths.len().min(FIRST)] { li { code { (visible(path)) } } } }
                @if paths.len() > FIRST {
                    details {
                        summary { (format::plural((paths.len() - FIRST) as u64, "more path", "more paths")) }
                        ul.paths { @for path in &paths[FIRST..] { li { code { (visible(path)) } } } }
                    }
                }
                @if paths.iter().any(|path| path.contains(char::REPLACEMENT_CHARACTER)) {
                    p { small { "A name holds bytes that are no text, shown as �. Each of them stands for any one byte, so other names of the same shape are restored too." } }
                }
            }
        }
    }
}

/// What was picked, for the next form.
fn picked_fields(picked: Option<&[String]>) -> Markup {
    html! {
        @match picked {
            None => input type="hidden" name="all" value="true";,
            Some(paths) => { @for path in paths { input type="hidden" name="chosen" value=(to_field(path)); } }
        }
    }
}

/// What happens to a file that is there already.
fn overwrite_words(rule: Overwrite) -> &'static str {
    match rule {
        Overwrite::Always => "is replaced",
        Overwrite::IfChanged => "is replaced if it differs",
        Overwrite::IfNewer => "is replaced if the snapshot's is newer",
        Overwrite::Never => "is left as it is",
    }
}
