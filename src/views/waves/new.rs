//! A new wave: which hosts were chosen and which of them can run it, the runbook's questions, and how fast it is to go. Nothing runs before the last button.

use maud::{Markup, html};

use super::way_words;
use crate::{
    domain::{
        HostId, Way,
        user::Role,
        wave::{MOST_AT_ONCE, Pace},
    },
    paths::{self, route},
    runbook::Input,
    views::{
        FormState, Nav, Page, Shell, components,
        form::{Field, Form},
        format,
        runbooks::inputs::{self, Choices},
    },
};

/// Hosts that the form names one by one, of those that can run it and of those that can't.
const NAMED: usize = 100;

/// A chosen host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLine {
    /// Identity.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// Its agent is here.
    pub online: bool,
    /// The way to it; or why it is left out. `Ok` where no runbook was chosen yet.
    pub way: Result<Option<Way>, String>,
}

/// The runbook that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveBook {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it does.
    pub description: String,
    /// What it asks.
    pub inputs: Vec<Input>,
    /// It removes or replaces something.
    pub destroys: bool,
    /// Who may run it.
    pub role: Role,
}

/// `/waves/new`. POST `/waves` with `kind`, the hidden fields of the selection, `params.*`, `canary`, `batch`, `stop_at`, `order`, `confirm`; `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWavePage {
    /// The selection as fields: `host`, `tag`, `all`.
    pub selection: Vec<(&'static str, String)>,
    /// The same in words, such as "all hosts with the tag web".
    pub words: String,
    /// The hosts, in the order in which they would go.
    pub hosts: Vec<HostLine>,
    /// Runbooks to choose from: name and title.
    pub books: Vec<(String, String)>,
    /// The one that was chosen.
    pub book: Option<WaveBook>,
    /// Its usual pace.
    pub pace: Pace,
    /// What questions about hosts and sites can be answered with.
    pub choices: Choices,
    /// What was typed.
    pub form: FormState,
}

impl NewWavePage {
    fn able(&self) -> impl Iterator<Item = &HostLine> {
        self.hosts.iter().filter(|host| host.way.is_ok())
    }

    fn unable(&self) -> impl Iterator<Item = (&HostLine, &str)> {
        self.hosts.iter().filter_map(|host| Some((host, host.way.as_ref().err()?.as_str())))
    }

    fn hidden(&self) -> Markup {
        html! { @for (name, value) in &self.selection { input type="hidden" name=(name) value=(value); } }
    }

    fn chooser(&self) -> Markup {
        let chosen = self.book.as_ref().map_or("", |book| book.name.as_str());
        html! {
            section.card aria-label="Runbook" {
                form.tools method="get" action=(route::WAVE_NEW) {
                    (self.hidden())
                    label for="wave-runbook" { "Runbook" }
                    select #wave-runbook name="runbook" required {
                        @if chosen.is_empty() { option value="" { "Choose one" } }
                        @for (name, title) in &self.books { option value=(name) selected[name == chosen] { (title) } }
                    }
                    button.btn.primary[chosen.is_empty()] type="submit" { @if chosen.is_empty() { "Choose" } @else { "Choose another" } }
                }
                @if let Some(book) = self.book.as_ref().filter(|book| !book.description.is_empty()) { p.pad { (book.description) } }
            }
        }
    }

    fn questions(&self, shell: &Shell, book: &WaveBook, able: usize) -> Markup {
        let form = Form::new("wave", &self.form);
        let mut drawn = inputs::field_names(&book.inputs);
        drawn.extend(["canary", "batch", "stop_at", "confirm", "order"].map(str::to_owned));
        let drawn: Vec<&str> = drawn.iter().map(String::as_str).collect();
        let typed = format::plural(able as u64, "host", "hosts");
        html! {
            form.stack method="post" action=(route::WAVES) {
                (shell.csrf_field())
                (self.hidden())
                input type="hidden" name="kind" value=(book.name);
                (form.errors(&drawn))
                @if !book.inputs.is_empty() {
                    section.card aria-labelledby="asks" {
                        header { h2 #asks { "What it asks" } small { "The same answers for all hosts" } }
                        .pad.fields { (inputs::render(&form, &book.inputs, &self.choices)) }
                    }
                }
                (self.pace_card(&form))
                @if let Some(reason) = shell.refusal(book.role.max(Role::Operator)) {
                    p { button.btn type="button" disabled title=(reason) { "Run on " (typed) } }
                } @else if able > 0 {
                    @if book.destroys {
                        .notice.warn.stack {
                            p { "This removes or replaces something on each of these hosts." }
                            .field {
                                label for="wave-confirm" { "Type " b { (typed) } " to confirm" }
                                input #wave-confirm name="confirm" type="text" required autocomplete="off" spellcheck="false" data-must-be=(typed)
                                    aria-invalid=[self.form.error("confirm").map(|_| "true")];
                                @if let Some(error) = self.form.error("confirm") { p.error { (format::sentence(error)) } }
                            }
                        }
                    }
                    .row { button.btn.primary.danger[book.destroys].solid[book.destroys] type="submit" { "Run on " (typed) } }
                }
            }
        }
    }

    fn pace_card(&self, form: &Form<'_>) -> Markup {
        let Pace { canary, batch, stop_at } = self.pace;
        let (canary, batch, stop_at) = (canary.to_string(), batch.to_string(), stop_at.to_string());
        let at_once = format!("1 to {MOST_AT_ONCE}");
        let orders = [("given".to_owned(), "As in the list".to_owned()), ("name".to_owned(), "By name".to_owned())];
        html! {
            section.card aria-labelledby="pace" {
                header { h2 #pace { "How fast" } }
                .pad.fields {
                    (form.field(&Field::number("canary", "Hosts that go first").hint("All of them must end well before another begins. 0: none goes first.").default(&canary).unmarked()))
                    (form.field(&Field::number("batch", "At the same time").hint(&at_once).default(&batch).unmarked()))
                    (form.field(&Field::number("stop_at", "Stop at, percent").hint("Of the hosts begun, so many that did not end well stop it. 0: the first one does.").default(&stop_at).unmarked()))
                    (form.select(&Field::text("order", "Order").default("given"), &orders))
                }
            }
        }
    }

    fn host_list(&self) -> Markup {
        let (able, unable) = (self.able().count(), self.unable().count());
        html! {
            section.card aria-labelledby="chosen" {
                header { h2 #chosen { "Hosts" } small { (self.words) } }
                @if unable > 0 {
                    .pad {
                        p { (format::sentence_case(&format::plural(unable as u64, "host", "hosts"))) " can't run it, and " @if unable == 1 { "is" } @else { "are" } " left out:" }
                        ul.paths { @for (host, why) in self.unable().take(NAMED) { li { a href=(paths::host(host.id)) { b { (host.name) } } " " small { (format::sentence(why)) } } } }
                        @if unable > NAMED { p { small { "and " (format::count((unable - NAMED) as u64)) " more" } } }
                    }
                }
                @if able > 0 {
                    ul.paths.pad {
                        @for host in self.able().take(NAMED) { li {
                            a href=(paths::host(host.id)) { b { (host.name) } }
                            @if let Ok(Some(way)) = host.way {
                                " " small { (way_words(way)) @if way == Way::Agent && !host.online { ", which is not connected: it has 10 minutes to come" } }
                            }
                        } }
                        @if able > NAMED { li { small { "and " (format::count((able - NAMED) as u64)) " more" } } }
                    }
                }
            }
        }
    }
}

impl Page for NewWavePage {
    fn title(&self) -> String {
        "Run on many hosts".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let able = self.able().count();
        let hosts = format::plural(able as u64, "host", "hosts");
        let title = match &self.book {
            Some(book) => format!("{} on {hosts}", book.title),
            None => format!("Run on {hosts}"),
        };
        html! {
            (components::headline(&title, &html! { a.btn href=(route::HOSTS) { "Choose other hosts" } }))
            @if self.hosts.is_empty() {
                (components::empty("No host chosen", "Tick hosts in their list, or choose a tag there.", Some((route::HOSTS, "Choose hosts"))))
            } @else {
                (self.chooser())
                .cols {
                    @match &self.book {
                        Some(book) if able > 0 => (self.questions(shell, book, able)),
                        Some(_) => p.notice.warn { "None of the chosen hosts can run it: the list says why." },
                        None => p.muted { "Choose what is to run; then you see what it asks, and which of the hosts can run it." },
                    }
                    (self.host_list())
                }
            }
        }
    }
}
