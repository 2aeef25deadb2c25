//! The form of a plan, for a new one and for a change. Field names are the API's, nested ones with dots.

use maud::{Markup, html};

use super::{hooks::HookRows, preview::PlanPreview};
use crate::{
    domain::{
        Compression, PlanId, RepoId,
        plan::{
            Plan,
            preset::{STARTS, Start},
        },
        user::Role,
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell, components,
        components::HostRef,
        form::{self, Field, Form},
        schedules::{OnceChoice, WhenFields},
    },
};

/// What a plan can refer to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanChoices {
    /// Repositories.
    pub repos: Vec<(RepoId, String)>,
    /// Hosts.
    pub hosts: Vec<HostRef>,
    /// Tags in use, as suggestions.
    pub tags: Vec<String>,
}

/// POST `/plans/new` or `/plans/{id}` with `name`, `repo_id`, `hosts` (an id each), `tags` (separated by commas or spaces), `paths` and
/// `excludes` (one a line), the other `options.*` by their names in the API, the fields of [`HookRows`], `options.one_file_system`, `options.exclude_caches`, `options.log_files` (`true` when ticked), `options.limit_upload_kib`,
/// `options.limit_download_kib` (numbers, may be empty), `options.backup_tags` (separated by commas or spaces), `retention.keep_last`, `_hourly`, `_daily`, `_weekly`, `_monthly`, `_yearly` (numbers, may be empty), `retention.keep_within` and
/// `retention.keep_within_hourly` to `_yearly` (durations), `retention.keep_tags` (separated by commas or spaces), the fields of [`WhenFields`], `csrf`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanForm {
    /// What was typed, or [`PlanForm::values_of`] a plan.
    pub form: FormState,
    /// What it can refer to.
    pub choices: PlanChoices,
    /// Where an untouched form begins.
    pub start: Option<&'static Start>,
    /// What it would do, where that was asked.
    pub preview: Option<PlanPreview>,
    /// The plan that it changes.
    pub of: Option<PlanId>,
}

const KEEPS: [(&str, &str); 6] = [
    ("retention.keep_last", "Last"),
    ("retention.keep_hourly", "Hourly"),
    ("retention.keep_daily", "Daily"),
    ("retention.keep_weekly", "Weekly"),
    ("retention.keep_monthly", "Monthly"),
    ("retention.keep_yearly", "Yearly"),
];

const SPANS: [(&str, &str); 6] = [
    ("retention.keep_within", "All within"),
    ("retention.keep_within_hourly", "Hourly within"),
    ("retention.keep_within_daily", "Daily within"),
    ("retention.keep_within_weekly", "Weekly within"),
    ("retention.keep_within_monthly", "Monthly within"),
    ("retention.keep_within_yearly", "Yearly within"),
];

impl PlanForm {
    /// The form's values for a stored plan.
    #[must_use]
    pub fn values_of(plan: &Plan) -> FormState {
        let (o, r) = (&plan.options, &plan.retention);
        let keeps = [r.keep_last, r.keep_hourly, r.keep_daily, r.keep_weekly, r.keep_monthly, r.keep_yearly];
        let limit = |n: u32| if n == 0 { String::new() } else { n.to_string() };
        let mut pairs = vec![
            ("name", plan.name.clone()),
            ("repo_id", plan.repo_id.to_string()),
            ("second_repo_id", plan.second_repo.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default()),
            ("options.exclude_files", o.exclude_files.join("\n")),
            ("options.exclude_larger_than", o.exclude_larger_than.clone().unwrap_or_default()),
            ("options.compression", compression_word(o.compression).to_owned()),
            ("options.nice", o.nice.map(|n| n.to_string()).unwrap_or_default()),
            ("options.read_concurrency", o.read_concurrency.map(|n| n.to_string()).unwrap_or_default()),
            ("options.stdin_command", o.stdin_command.clone().unwrap_or_default()),
            ("options.stdin_filename", o.stdin_filename.clone().unwrap_or_default()),
            ("tags", plan.tags.join(", ")),
            ("paths", plan.paths.join("\n")),
            ("excludes", plan.excludes.join("\n")),
            ("options.limit_upload_kib", limit(o.limit_upload_kib)),
            ("options.limit_download_kib", limit(o.limit_download_kib)),
            ("options.backup_tags", o.backup_tags.join(", ")),
            ("retention.keep_tags", r.keep_tags.join(", ")),
        ];
        let spans = [
            &r.keep_within,
            &r.keep_within_hourly,
            &r.keep_within_daily,
            &r.keep_within_weekly,
            &r.keep_within_monthly,
            &r.keep_within_yearly,
        ];
        pairs.extend(SPANS.iter().zip(spans).filter_map(|((name, _), span)| Some((*name, span.clone()?))));
        pairs.extend(WhenFields::values_of(plan.schedule.as_ref().map(|standing| &standing.schedule)));
        pairs.extend(plan.hosts.iter().map(|host| ("hosts", host.to_string())));
        pairs.extend(KEEPS.iter().zip(keeps).filter_map(|((name, _), n)| Some((*name, n?.to_string()))));
        let ticks = [
            ("options.one_file_system", o.one_file_system),
            ("options.exclude_caches", o.exclude_caches),
            ("options.log_files", o.log_files),
            ("options.io_idle", o.io_idle),
            ("options.skip_if_unchanged", o.skip_if_unchanged),
            ("options.no_scan", o.no_scan),
            ("options.shadow_copy", o.shadow_copy),
        ];
        pairs.extend(ticks.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, form::ON.to_owned())));
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        FormState::of(pairs.chain(HookRows::values_of(&plan.hooks)))
    }

    /// The form; `action` is where it is posted to.
    #[must_use]
    pub fn render(&self, shell: &Shell, action: &str, label: &str) -> Markup {
        let form = Form::new("plan", &self.form);
        let repos: Vec<_> = self.choices.repos.iter().map(|(id, name)| (id.to_string(), name.clone())).collect();
        let none = [(String::new(), "Nowhere".to_owned())];
        let second: Vec<_> = none.into_iter().chain(repos.iter().cloned()).collect();
        let refusal = shell.refusal(Role::Operator);
        let (paths, excludes) =
            self.start.map_or_else(Default::default, |start| (start.paths.join("\n"), start.excludes.join("\n")));
        html! {
            @if let Some(preview) = &self.preview { (preview.render()) }
            @if self.of.is_none() { (self.starts()) }
            form.card.pad.stack #plan-form method="post" action=(action) {
                (shell.csrf_field())
                @if let Some(id) = self.of { input type="hidden" name="of" value=(id); }
                (form.errors(&["name", "repo_id", "second_repo_id", "hooks", "hosts", "tags", "paths", "excludes", "options", "retention", "schedule"]))
                .fields {
                    (form.field(&Field::text("name", "Name").default(self.start.map_or("", |start| start.key)).placeholder("nightly").required()))
                    (form.select(&Field::text("repo_id", "Back up to").required(), &repos))
                    (form.select(&Field::text("second_repo_id", "Copy each snapshot to").hint("A second copy elsewhere, made by the same host after each backup."), &second))
                }
                (self.coverage(&form))
                .fields {
                    (form.lines(&Field::text("paths", "Paths").default(&paths).placeholder("/etc\n/home").unmarked().hint("One a line. On Windows: C:\\Users"), 5))
                    (form.lines(&Field::text("excludes", "Excludes").default(&excludes).placeholder("*.tmp\n/home/*/.cache").hint("restic's patterns, one a line."), 5))
                }
                (WhenFields { form, fresh: self.form.is_untouched(), by_hand: OnceChoice::Offered }.render())
                (retention(&form))
                (options(&form))
                (output_of_a_command(&form))
                (HookRows { form, state: &self.form }.render())
                p.lead #plan-words data-plan-words hidden {}
                .row {
                    button.btn.primary type="submit" disabled[refusal.is_some()] { (label) }
                    button.btn type="submit" formaction=(route::PLAN_PREVIEW) disabled[refusal.is_some()] { "Preview" }
                    @if let Some(reason) = refusal { small { (reason) } }
                }
            }
        }
    }

    /// Where to begin, by the system.
    fn starts(&self) -> Markup {
        html! {
            nav.row aria-label="Begin with" {
                small { "Begin with" }
                @for start in &STARTS {
                    a.tag href=(paths::plan_new_from(start.key)) aria-current=[(self.start == Some(start)).then_some("true")] { (start.name) }
                }
            }
            @if let Some(start) = self.start { p.notice.idle { (start.advice) } }
        }
    }

    fn coverage(&self, form: &Form<'_>) -> Markup {
        html! {
            fieldset {
                legend { "Hosts" }
                @if self.choices.hosts.is_empty() { p.muted { "No host is enrolled yet; a tag can cover those to come." } }
                .boxes {
                    @for host in &self.choices.hosts { (form.checkbox(&Field::text("hosts", &host.name), &host.id.to_string(), false)) }
                }
                @if let Some(error) = self.form.error("hosts") { p.error { (error) } }
                (form.field(&Field::text("tags", "And every host with one of these tags").placeholder("web, db").suggestions(&self.choices.tags)))
            }
        }
    }
}

fn retention(form: &Form<'_>) -> Markup {
    html! {
        fieldset {
            legend { "Keep" }
            p { small { "How many snapshots of each sort to keep. All empty: everything is kept. The rules are applied by the upkeep of the repository, and the retention guard looks at what would go before it goes." } }
            .numbers {
                @for (name, label) in KEEPS {
                    @let default = match label { "Daily" => "7", "Weekly" => "5", "Monthly" => "12", _ => "" };
                    (form.field(&Field::number(name, label).default(default)))
                }
                @let (name, label) = SPANS[0];
                (form.field(&Field::text(name, label).placeholder("1y6m").hint("For instance 14d")))
            }
            details {
                summary { "More rules" }
                .stack {
                    p { small { "One an hour, day, week, month or year, back to so long before the newest snapshot: unlike the numbers above, many snapshots in a short time do not push older ones out." } }
                    .numbers { @for (name, label) in &SPANS[1..] { (form.field(&Field::text(name, label).placeholder("1y6m"))) } }
                    (form.field(&Field::text("retention.keep_tags", "All with one of these tags").placeholder("keep")))
                }
            }
        }
    }
}

fn options(form: &Form<'_>) -> Markup {
    html! {
        details {
            summary { "Options" }
            .stack {
                (form.checkbox(&Field::text("options.one_file_system", "Stay on one file system").hint("Leaves out what is mounted below the paths."), form::ON, false))
                (form.checkbox(&Field::text("options.exclude_caches", "Leave out caches").hint("Folders that hold a CACHEDIR.TAG."), form::ON, true))
                (form.checkbox(&Field::text("options.log_files", "Log every file").hint("Long logs; useful to see what changes."), form::ON, false))
                .fields {
                    (form.field(&Field::number("options.limit_upload_kib", "Upload limit (KiB/s)")))
                    (form.field(&Field::number("options.limit_download_kib", "Download limit (KiB/s)")))
                    (form.field(&Field::text("options.backup_tags", "Tags on snapshots").placeholder("nightly")))
                    (form.select(&Field::text("options.compression", "Compression").default(""), &compressions()))
                    (form.field(&Field::number("options.nice", "Politeness (nice, 0 to 19)").placeholder("10")))
                    (form.field(&Field::number("options.read_concurrency", "Files read at a time").hint("restic 0.15 and newer.")))
                    (form.field(&Field::text("options.exclude_larger_than", "Leave out files over").placeholder("2G")))
                }
                (form.lines(&Field::text("options.exclude_files", "Files on the host with more exclude patterns").placeholder("/etc/backup-excludes"), 2))
                (form.checkbox(&Field::text("options.io_idle", "Read only when the disk is idle"), form::ON, false))
                (form.checkbox(&Field::text("options.skip_if_unchanged", "No snapshot where nothing changed").hint("restic 0.17 and newer."), form::ON, false))
                (form.checkbox(&Field::text("options.no_scan", "Do not count files beforehand").hint("Less work, but no percentage. restic 0.15 and newer."), form::ON, false))
                (form.checkbox(&Field::text("options.shadow_copy", "Windows: read from a shadow copy"), form::ON, false))
            }
        }
    }
}

fn compression_word(compression: Option<Compression>) -> &'static str {
    match compression {
        None => "",
        Some(Compression::Auto) => "auto",
        Some(Compression::Off) => "off",
        Some(Compression::Max) => "max",
    }
}

fn compressions() -> Vec<(String, String)> {
    [("", "restic's own"), ("auto", "Auto"), ("off", "Off"), ("max", "As high as it goes")]
        .map(|(value, label)| (value.to_owned(), label.to_owned()))
        .into()
}

fn output_of_a_command(form: &Form<'_>) -> Markup {
    html! {
        details {
            summary { "The output of a command instead of paths" }
            .stack {
                p { small { "For database dumps: the command's output becomes one file in the snapshot, without a copy on disk. Leave the paths empty then. restic 0.17 and newer." } }
                .fields {
                    (form.field(&Field::text("options.stdin_command", "Command").placeholder("pg_dump_all").hint("A name that the host's own configuration allows.")))
                    (form.field(&Field::text("options.stdin_filename", "Its name in the snapshot").placeholder("/db.sql")))
                }
            }
        }
    }
}

/// `/plans/new`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanNewPage {
    /// The form.
    pub form: PlanForm,
}

impl Page for PlanNewPage {
    fn title(&self) -> String {
        "Make a plan".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Plans
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div { small { a href=(route::PLANS) { "Plans" } } h1 { "Make a plan" } }
            @if self.form.choices.repos.is_empty() {
                (components::empty("A repository comes first", "A plan needs a place to back up to.", Some((route::REPO_NEW, "Add a repository"))))
            } @else {
                (self.form.render(shell, route::PLAN_NEW, "Make the plan"))
            }
        }
    }
}
