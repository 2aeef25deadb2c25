//! Everything that can be done with a repository by hand: each operation with its options, greyed out with the reason where it can't be done.

use maud::{Markup, html};

use crate::{
    domain::{JobKind, repo::Repo, user::Role},
    paths,
    views::{
        FormState, Nav, Page, Shell,
        components::HostRef,
        form::{self, Field, Form},
        schedules::kind_in_words,
    },
};

/// An operation, and why it can't be done now.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Which.
    pub kind: JobKind,
    /// What stands in its way on the chosen host; `None`: nothing.
    pub obstacle: Option<String>,
    /// Why nobody can do more than try it; `None`: they can.
    pub only_dry: Option<String>,
}

/// `/repos/{id}/operations?host=`. POST there with `kind`, `host_id`, and the details of the kind named as in the API; lists are one value a line. `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationsPage {
    /// The repository.
    pub repo: Repo,
    /// Hosts that can work on it: the control plane's own agent first, where there is one.
    pub hosts: Vec<HostRef>,
    /// The chosen one, by its id.
    pub host: String,
    /// What its restic is.
    pub restic: Option<String>,
    /// All operations, in the order of the page.
    pub offers: Vec<Offer>,
    /// Other repositories, for a copy.
    pub others: Vec<(String, String)>,
    /// The operation that was refused, and what was typed.
    pub refused: Option<(JobKind, FormState)>,
}

/// What an operation is called.
fn title(kind: &JobKind) -> String {
    match kind {
        JobKind::Find => "Find a file".to_owned(),
        JobKind::Diff => "Compare two snapshots".to_owned(),
        JobKind::Init => "Make the repository".to_owned(),
        JobKind::Tag => "Change tags".to_owned(),
        JobKind::Repair => "Repair".to_owned(),
        other => kind_in_words(other),
    }
}

/// What an operation does, in one sentence.
fn about(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Snapshots => "Lists all snapshots, and brings Flotilla's own list up to date. Changes nothing.",
        JobKind::Check => {
            "Looks whether the repository is sound; reading data as well finds what a disk has lost. Changes nothing."
        }
        JobKind::Stats => "Measures how much is stored. Changes nothing.",
        JobKind::Find => "Looks for a file name in all snapshots. Changes nothing.",
        JobKind::Diff => "Compares two snapshots. Changes nothing.",
        JobKind::Locks => "Lists the locks, and whether their owners live. Changes nothing.",
        JobKind::Unlock => "Removes locks that are older than restic's own rule. Live ones stay.",
        JobKind::Tamper => {
            "Really tries to delete and to overwrite with the hosts' credentials, on an object made for the purpose."
        }
        JobKind::Copy => "Copies snapshots to another repository. What is there already is left out.",
        JobKind::Forget => {
            "Removes snapshots that no rule keeps. The retention guard looks at each first, and stops where something is odd."
        }
        JobKind::Prune => "Removes data that no snapshot needs, and gives the space back. Can take hours.",
        JobKind::Tag => "Adds or takes away tags of snapshots. restic writes each such snapshot anew.",
        JobKind::Repair => "Mends what a check found damaged. Read what the check says first.",
        JobKind::Init => "Makes the repository, where the address is empty.",
        _ => "",
    }
}

impl OperationsPage {
    fn choose_host(&self) -> Markup {
        html! {
            form.card.pad.row method="get" action=(paths::repo_operations(self.repo.id)) data-submit-on-change {
                label for="host" { "Run on" }
                select #host name="host" { @for host in &self.hosts { option value=(host.id) selected[host.id.to_string() == self.host] { (host.name) } } }
                button.btn type="submit" { "Choose" }
                small { @match &self.restic { Some(version) => { "Its restic is " (version) "." }, None => "It has no restic, as far as is known." } }
            }
        }
    }

    fn details(&self, kind: &JobKind, form: &Form<'_>, only_dry: Option<&str>) -> Markup {
        let dry = |hint| dry_run(form, hint, only_dry);
        let lines = |name, label, hint| form.lines(&Field::text(name, label).hint(hint), 2);
        let choices =
            |of: &[(&str, &str)]| of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        html! {
            @match kind {
                JobKind::Check => {
                    (form.field(&Field::text("read_data_subset", "Read a part of the data").placeholder("1/10").hint("A part such as 1/10, a share such as 5%, or a size such as 10G.")))
                    (form.checkbox(&Field::text("read_data", "Read all data"), form::ON, false))
                },
                JobKind::Stats => (form.select(&Field::text("mode", "What is counted"), &choices(&[
                    ("raw-data", "Bytes as stored"), ("restore-size", "Bytes that a restore would write"),
                    ("files-by-contents", "Files, each content once"), ("blobs-per-file", "Blobs of each file"),
                ]))),
                JobKind::Find => {
                    (form.field(&Field::text("pattern", "Name or pattern").placeholder("*.conf").required()))
                    (form.checkbox(&Field::text("ignore_case", "Upper and lower case are the same"), form::ON, true))
                    (lines("hosts", "Only under these host names", "One a line."))
                },
                JobKind::Diff => {
                    .fields {
                        (form.field(&Field::text("a", "Older snapshot").required()))
                        (form.field(&Field::text("b", "Newer snapshot").required()))
                    }
                    (form.checkbox(&Field::text("metadata", "Changes of metadata count too"), form::ON, false))
                },
                JobKind::Copy => {
                    (form.select(&Field::text("to", "To"), &self.others))
                    (lines("snapshots", "Only these snapshots", "Ids, one a line; empty: all that the lines below say."))
                    (lines("hosts", "Only under these host names", "One a line."))
                    (lines("tags", "Only with one of these tags", "One a line."))
                },
                JobKind::Forget => (Self::forget(form, only_dry)),
                JobKind::Prune => {
                    (form.field(&Field::text("max_unused", "Unused data that may stay").placeholder("5%").hint("A share, a size such as 10G, or unlimited. More means less work.")))
                    (dry("Only say what would go."))
                },
                JobKind::Tag => {
                    (form.lines(&Field::text("snapshots", "Snapshots").hint("Ids, one a line.").required(), 2))
                    .fields { (lines("add", "Tags to add", "One a line.")) (lines("remove", "Tags to take away", "One a line.")) }
                },
                JobKind::Repair => {
                    @let whats = choices(&[
                        ("snapshots", "Snapshots: written anew without what is lost"),
                        ("index", "The index: made anew, loses nothing"), ("packs", "Packs: what can't be read in them is lost"),
                    ]);
                    (form.select(&Field::text("what", "What"), if only_dry.is_some() { &whats[..1] } else { &whats }))
                    (lines("packs", "Damaged packs", "Ids as the check names them, one a line; for a repair of packs."))
                    (form.checkbox(&Field::text("forget", "Remove the damaged originals").hint("For a repair of snapshots."), form::ON, false))
                    (dry("Only say what would be done: of snapshots only."))
                },
                _ => {},
            }
        }
    }

    fn forget(form: &Form<'_>, only_dry: Option<&str>) -> Markup {
        let rules = [
            ("keep_last", "Last"),
            ("keep_hourly", "Hourly"),
            ("keep_daily", "Daily"),
            ("keep_weekly", "Weekly"),
            ("keep_monthly", "Monthly"),
            ("keep_yearly", "Yearly"),
        ];
        html! {
            .fields { @for (name, label) in rules { (form.field(&Field::number(&format!("retention.{name}"), label))) } }
            (form.field(&Field::text("retention.keep_within", "All within").placeholder("14d").hint("Years, months, days, hours before the latest, such as 1y6m.")))
            .row { @for (value, label) in [("host", "Each host by itself"), ("paths", "Each set of paths by itself"), ("tags", "Each set of tags by itself")] {
                (form.checkbox(&Field::text("group_by", label), value, value != "tags"))
            } }
            (form.lines(&Field::text("hosts", "Only under these host names").hint("One a line; empty: all of the repository."), 2))
            (form.lines(&Field::text("tags", "Only with one of these tags").hint("One a line."), 2))
            (form.checkbox(&Field::text("prune", "Prune afterwards"), form::ON, false))
            (dry_run(form, "Only say what would go.", only_dry))
        }
    }

    fn operation(&self, shell: &Shell, offer: &Offer) -> Markup {
        let (kind, untouched) = (&offer.kind, FormState::default());
        let refused = self.refused.as_ref().filter(|(of, _)| of == kind).map(|(_, form)| form);
        let form = Form::new(kind.as_str(), refused.unwrap_or(&untouched));
        // What deletes is an administrator's; a dry run of it is not.
        let needs = if *kind == JobKind::Tag { Role::Admin } else { Role::Operator };
        let reason = offer.obstacle.clone().or_else(|| shell.refusal(needs));
        let only_dry = offer.only_dry.clone().or_else(|| shell.refusal(Role::Admin));
        html! {
            details.card open[refused.is_some()] {
                summary.pad { b { (title(kind)) } @if let Some(obstacle) = &offer.obstacle { " " small.muted { (obstacle) } } }
                form.pad.stack method="post" action=(paths::repo_operations(self.repo.id)) {
                    (shell.csrf_field())
                    input type="hidden" name="kind" value=(kind.as_str());
                    input type="hidden" name="host_id" value=(self.host);
                    p { (about(kind)) }
                    (form.errors(&DRAWN))
                    fieldset.stack disabled[reason.is_some()] {
                        (self.details(kind, &form, only_dry.as_deref()))
                        .row { button.btn.primary type="submit" { "Run" } @if let Some(reason) = &reason { small { (reason) } } }
                    }
                }
            }
        }
    }
}

/// The box of a dry run: to be cleared only by who can do the thing in earnest.
fn dry_run(form: &Form<'_>, hint: &str, only_dry: Option<&str>) -> Markup {
    let Some(why) = only_dry else {
        return form.checkbox(&Field::text("dry_run", "Dry run").hint(hint), form::ON, true);
    };
    let id = form.id("dry_run-only");
    html! {
        input type="hidden" name="dry_run" value=(form::ON);
        .check {
            input #(id) type="checkbox" checked disabled aria-describedby=(format!("{id}-hint"));
            label for=(id) { "Dry run" }
            small #(format!("{id}-hint")) { (hint) " No more than that can be done: " (why) }
        }
    }
}

/// Fields of some operation.
const DRAWN: [&str; 22] = [
    "read_data_subset",
    "read_data",
    "mode",
    "pattern",
    "hosts",
    "tags",
    "a",
    "b",
    "to",
    "snapshots",
    "max_unused",
    "add",
    "remove",
    "what",
    "packs",
    "forget",
    "retention.keep_last",
    "retention.keep_hourly",
    "retention.keep_daily",
    "retention.keep_weekly",
    "retention.keep_monthly",
    "retention.keep_within",
];

impl Page for OperationsPage {
    fn title(&self) -> String {
        format!("Operations on {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div { small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } } h1 { "Operations" } }
            @if self.hosts.is_empty() {
                p.notice.warn { "No host can work on it: the control plane runs no agent of its own, and no host is enrolled." }
            } @else {
                (self.choose_host())
                @for offer in &self.offers { (self.operation(shell, offer)) }
            }
        }
    }
}
