//! All runbooks: those of the operator, those that came with the program, and files that are none, each with its line and reason.

use maud::{Markup, html};

use super::badges;
use crate::{
    domain::user::Role,
    paths::{self, route},
    runbook::{Entry, Origin, Runbook},
    views::{
        Nav, Page, Shell,
        components::{self, Tone},
        format,
    },
};

/// `/runbooks`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunbooksPage {
    /// All, by name.
    pub entries: Vec<Entry>,
    /// Where the operator's own files go.
    pub folder: String,
}

/// What a first file can look like. It is held against the parser by a test.
pub(super) const EXAMPLE: &str = r#"name = "say"
title = "Say hello"
description = "Says hello on the host, and reads back what was said."
transports = ["agent", "ssh"]

[[inputs]]
name = "who"
label = "To whom"
type = "string"
default = "world"

[[steps]]
type = "ssh"
label = "Say it"
cmd = "echo hello {{ who }}"
timeout = 30

[[results]]
name = "greeting"
regex = '^hello (?P<greeting>.+)$'
"#;

impl RunbooksPage {
    fn of(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<(&Entry, &Runbook)> {
        let good = self.entries.iter().filter_map(|entry| Some((entry, entry.state.as_ref().ok()?)));
        good.filter(|(entry, _)| wanted(entry)).collect()
    }

    fn broken(&self) -> Markup {
        let broken: Vec<_> =
            self.entries.iter().filter_map(|entry| Some((entry, entry.state.as_ref().err()?))).collect();
        html! {
            @if !broken.is_empty() {
                section.card aria-labelledby="broken-title" {
                    header { h2 #broken-title { "Files that can't be run" } small { "The others are not touched by it." } }
                    ul.list {
                        @for (entry, error) in broken {
                            li {
                                .grow {
                                    b { (entry.name) }
                                    @if let Origin::Own(path) = &entry.origin { " " code { (path.display()) } }
                                    p.bad-text {
                                        @if let Some(line) = error.line { "Line " (line) ": " }
                                        (format::sentence(&error.what))
                                    }
                                }
                                (components::pill(Tone::Bad, "Broken"))
                            }
                        }
                    }
                }
            }
        }
    }

    fn group(&self, id: &str, title: &str, books: &[(&Entry, &Runbook)]) -> Markup {
        html! {
            @if !books.is_empty() {
                section.card aria-labelledby=(id) {
                    header { h2 #(id) { (title) } small { (format::plural(books.len() as u64, "runbook", "runbooks")) } }
                    ul.list {
                        @for (entry, book) in books {
                            li {
                                .grow {
                                    a href=(paths::runbook(&entry.name)) { b { (book.title) } } " " code { (entry.name) }
                                    @if !book.description.is_empty() { p.muted { (book.description) } }
                                    (badges(book))
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// How to add one.
    fn teach(&self, is_first: bool) -> Markup {
        html! {
            section.card.pad.stack aria-labelledby="own-title" {
                h2 #own-title { @if is_first { "Add your own" } @else { "Add another" } }
                p {
                    "A runbook is a file: put it into " code { (self.folder) } ", with the end " code { ".toml" }
                    ". It counts at once, here and on each host's page, without a restart. One with the name of a shipped runbook takes its place."
                }
                p { "Check a file before it goes there:" }
                (components::copyable("check-command", "Command that checks a runbook", "flotilla runbook check FILE"))
                p.muted {
                    "An agent runs files of your own only where its machine allows it: "
                    code { "allow_remote_commands = true" } " in its " code { "agent.toml" } "."
                }
                details {
                    summary { "An example" }
                    (components::copyable("example-file", "Example of a runbook", EXAMPLE))
                }
            }
        }
    }
}

impl Page for RunbooksPage {
    fn title(&self) -> String {
        "Operations".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Operations
    }

    fn body(&self, shell: &Shell) -> Markup {
        let own = self.of(|entry| entry.origin != Origin::Shipped);
        let shipped = self.of(|entry| entry.origin == Origin::Shipped);
        html! {
            (components::headline("Operations", &html! {
                @if shell.may(Role::Admin) { a.btn href=(route::STEPS) { "Paste steps" } }
            }))
            p.muted { "An operation on a server is a runbook: a file of steps with its questions. Open one to see what it would do on which host; nothing runs before you say so." }
            (self.broken())
            (self.group("own-list-title", "Your own", &own))
            (self.group("shipped-title", "Shipped with Flotilla", &shipped))
            (self.teach(own.is_empty()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runbook, views::samples};

    #[test]
    fn the_example_is_a_runbook() {
        runbook::parse(EXAMPLE).unwrap();
    }

    #[test]
    fn a_broken_file_is_listed_with_its_line_and_reason_and_without_a_link() {
        let text = EXAMPLE.replace("label = \"Say it\"", "lable = \"<b>\"");
        let entry = Entry {
            name: "bad".into(),
            origin: Origin::Own("/data/runbooks/<bad>.toml".into()),
            state: runbook::parse(&text),
            text,
        };
        let page = RunbooksPage { entries: vec![entry], folder: "/data/runbooks".into() };
        let html = page.body(&samples::shell(Some(Role::Viewer))).into_string();
        assert!(html.contains("Line 14: Unknown field `lable`") && html.contains("&lt;bad&gt;.toml"), "{html}");
        assert!(!html.contains(r#"href="/runbooks/bad""#) && !html.contains("/runbooks/steps"), "{html}");
    }
}
