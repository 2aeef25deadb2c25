//! Settings, for admins: the control plane's own database and its copies. Copies are named and not served: they hold sealed secrets and hashes.

use maud::{Markup, html};

use crate::{
    domain::{Timestamp, user::Role},
    paths::route,
    views::{
        Shell,
        components::{self, PostButton, Tone},
        format,
    },
};

/// The database and its copies.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseCard {
    /// The database file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes in it that are used again before it grows.
    pub reusable_bytes: u64,
    /// Bytes of text of all logs in it.
    pub log_bytes: u64,
    /// The folder of the copies.
    pub dir: String,
    /// Bytes that are free there.
    pub dir_free: Option<u64>,
    /// The copies, newest first: file name, when, bytes.
    pub copies: Vec<(String, Timestamp, u64)>,
    /// The last attempt: when, how long, why it failed.
    pub last: Option<(Timestamp, u64, Option<String>)>,
    /// When the next is made by itself.
    pub next_at: Option<Timestamp>,
    /// One is being made.
    pub busy: bool,
    /// What is wrong, why, and what to do.
    pub trouble: Option<String>,
}

impl DatabaseCard {
    pub(super) fn render(&self, shell: &Shell) -> Markup {
        html! {
            section.card #database aria-labelledby="database-title" {
                header { h2 #database-title { "Database" } small { "Hosts, plans, jobs, logs and sealed secrets, in one file" } }
                .pad.stack {
                    @if let Some(trouble) = &self.trouble { p.notice.bad role="alert" { (trouble) } }
                    (components::facts(&[
                        ("File", html! { code { (self.path) } }),
                        ("Size", self.size()),
                        ("Last copy", self.last_copy(shell)),
                        ("Next copy", self.next_copy()),
                        ("Copies in", html! { code { (self.dir) } }),
                        ("Free there", html! { @match self.dir_free { Some(free) => (format::bytes(free)), None => "not known" } }),
                    ]))
                    p.notice.warn { "The master key is in none of the copies: keep it elsewhere as well, or no stored secret opens again." }
                    div { (PostButton {
                        action: route::SETTINGS_BACKUP.to_owned(),
                        label: "Copy it now",
                        class: "",
                        fields: Vec::new(),
                        needs: Role::Admin,
                        aria: "Copy the database now".to_owned(),
                    }.render(shell)) }
                }
                (self.table(shell))
            }
        }
    }

    fn size(&self) -> Markup {
        html! {
            (format::bytes(self.bytes))
            @if self.reusable_bytes > self.bytes / 10 { ", " (format::bytes(self.reusable_bytes)) " of it free for new data" }
            "; text of all logs: " (format::bytes(self.log_bytes))
        }
    }

    fn last_copy(&self, shell: &Shell) -> Markup {
        html! {
            @match &self.last {
                Some((at, _, Some(_))) => { (components::pill(Tone::Bad, "Failed")) " " (format::ago(shell.now, *at)) }
                Some((at, took_ms, None)) => {
                    (components::pill(Tone::Ok, "Whole")) " " (format::ago(shell.now, *at))
                    ", made and looked through in " (format::duration_ms(i64::try_from(*took_ms).unwrap_or(i64::MAX)))
                }
                None => "none yet",
            }
        }
    }

    fn next_copy(&self) -> Markup {
        html! {
            @if self.busy { "is being made right now" }
            @else if let Some(at) = self.next_at { (format::moment(at)) }
            @else { "only by hand: " code { "[database] backup" } " is off" }
        }
    }

    fn table(&self, shell: &Shell) -> Markup {
        html! {
            @if self.copies.is_empty() {
                p.pad.muted { "No copies there yet." }
            } @else {
                .scroll { table {
                    caption.vh { "Copies of the database" }
                    thead { tr { th scope="col" { "Made" } th.num scope="col" { "Size" } th scope="col" { "File" } } }
                    tbody { @for (name, made_at, bytes) in &self.copies { tr {
                        td { (format::ago(shell.now, *made_at)) }
                        td.num { (format::bytes(*bytes)) }
                        td { code { (name) } }
                    } } }
                } }
                p.pad.muted { small { "To bring one back: stop the server, then " code { "flotilla db restore FILE --replace" } "." } }
            }
        }
    }
}
