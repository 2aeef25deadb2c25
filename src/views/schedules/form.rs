//! The fields of "when", which the plan's form and the page of a new schedule share. They work without script: every preset's fields are there, each
//! group says what it is for, and those of the chosen preset count. `app.js` hides the others and shows the cron line that comes of it.

use maud::{Markup, html};

use crate::{
    domain::{
        PlanId, RepoId,
        schedule::{
            CatchUp, Schedule,
            preset::{HOUR_STEPS, Preset, WEEKDAYS},
        },
        user::Role,
    },
    paths::route,
    views::{
        FormState, Nav, Page, Shell,
        components::{self, HostRef},
        form::{self, Field, Form},
    },
};

/// Zones that are suggested; any other IANA name may be typed.
const ZONES: [&str; 18] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Paris",
    "Europe/Madrid",
    "Europe/Warsaw",
    "Europe/Istanbul",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Africa/Johannesburg",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
];

/// Whether "by hand only" is one of the choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnceChoice {
    /// A plan may be without a schedule.
    Offered,
    /// A schedule has to be one.
    Absent,
}

/// The fields `schedule.preset` (`none`, `daily`, `weekly`, `monthly`, `hourly`, `hours`, `custom`), `schedule.from`, `schedule.to` (`HH:MM`),
/// `schedule.weekday` (0 is Sunday), `schedule.monthday`, `schedule.hours`, `schedule.minute`, `schedule.cron`, `schedule.jitter_min`,
/// `schedule.timezone`, `schedule.catch_up`, `schedule.enabled`.
#[derive(Debug, Clone, Copy)]
pub struct WhenFields<'a> {
    /// The form that they belong to.
    pub form: Form<'a>,
    /// Nothing was typed yet: the browser's own zone is proposed.
    pub fresh: bool,
    /// Whether there may be no schedule.
    pub by_hand: OnceChoice,
}

impl WhenFields<'_> {
    /// The values of a schedule, or of none.
    #[must_use]
    pub fn values_of(schedule: Option<&Schedule>) -> Vec<(&'static str, String)> {
        let Some(schedule) = schedule else {
            return vec![("schedule.preset", "none".to_owned()), ("schedule.enabled", form::ON.to_owned())];
        };
        let catch_up = if schedule.catch_up == CatchUp::Once { "once" } else { "skip" };
        let mut pairs = vec![
            ("schedule.timezone", schedule.timezone.clone()),
            ("schedule.catch_up", catch_up.to_owned()),
            ("schedule.cron", schedule.cron.clone()),
            ("schedule.jitter_min", (schedule.jitter_s / 60).to_string()),
        ];
        if schedule.enabled {
            pairs.push(("schedule.enabled", form::ON.to_owned()));
        }
        let (name, window) = match Preset::of(schedule) {
            Preset::Daily(window) => ("daily", Some(window)),
            Preset::Weekly(day, window) => {
                pairs.push(("schedule.weekday", day.to_string()));
                ("weekly", Some(window))
            }
            Preset::Monthly(day, window) => {
                pairs.push(("schedule.monthday", day.to_string()));
                ("monthly", Some(window))
            }
            Preset::Hourly(minute) => {
                pairs.push(("schedule.minute", minute.to_string()));
                ("hourly", None)
            }
            Preset::EveryHours(hours, minute) => {
                pairs.push(("schedule.hours", hours.to_string()));
                pairs.push(("schedule.minute", minute.to_string()));
                ("hours", None)
            }
            Preset::Custom(..) => ("custom", None),
        };
        pairs.push(("schedule.preset", name.to_owned()));
        if let Some(window) = window {
            pairs.push(("schedule.from", window.from.to_string()));
            pairs.push(("schedule.to", window.to.to_string()));
        }
        pairs
    }

    /// The group of fields.
    #[must_use]
    pub fn render(&self) -> Markup {
        let form = &self.form;
        let mut presets = vec![
            ("daily", "Every day or night"),
            ("weekly", "Every week"),
            ("monthly", "Every month"),
            ("hourly", "Every hour"),
            ("hours", "Every few hours"),
            ("custom", "By a cron line"),
        ];
        if self.by_hand == OnceChoice::Offered {
            presets.push(("none", "By hand only"));
        }
        let zones = ZONES.map(str::to_owned);
        let catch_up = [("once", "Run once, as soon as possible"), ("skip", "Wait for the next time")];
        html! {
            fieldset data-schedule data-fresh[self.fresh] {
                legend { "When" }
                .fields {
                    (form.select(&Field::text("schedule.preset", "Runs").default("daily"), &choices(&presets)))
                    (form.field(&Field::text("schedule.timezone", "Time zone").default("UTC").unmarked().suggestions(&zones).hint("An IANA name such as Europe/Berlin.")))
                }
                (self.preset_fields())
                p.cron-words data-cron-words hidden aria-live="polite" {}
                .fields {
                    (form.select(&Field::text("schedule.catch_up", "A run that was missed").default("once"), &choices(&catch_up)))
                    (form.checkbox(&Field::text("schedule.enabled", "Enabled").hint("Not ticked: paused, and kept for later."), form::ON, true))
                }
            }
        }
    }

    fn preset_fields(&self) -> Markup {
        let form = &self.form;
        let days: Vec<_> = (0..).zip(WEEKDAYS).map(|(n, day)| (n.to_string(), day.to_owned())).collect();
        let hours: Vec<_> = HOUR_STEPS.iter().map(|n| (n.to_string(), format!("{n} hours"))).collect();
        html! {
            .fields {
                (only("weekly", "Every week:", &form.select(&Field::text("schedule.weekday", "On").default("0"), &days)))
                (only("monthly", "Every month:", &form.field(&Field::number("schedule.monthday", "On day").default("1").unmarked().hint("1 to 28: every month has them."))))
                (only("daily weekly monthly", "Every day, week or month:", &form.field(&Field::time("schedule.from", "Begins between").default("01:00"))))
                (only("daily weekly monthly", "Every day, week or month:", &form.field(&Field::time("schedule.to", "and").default("05:00").hint("The same time twice: exactly then. Else hosts spread over it."))))
                (only("hours", "Every few hours:", &form.select(&Field::text("schedule.hours", "Every").default("6"), &hours)))
                (only("hourly hours", "Every hour or few hours:", &form.field(&Field::number("schedule.minute", "At minute").default("0").unmarked())))
                (only("custom", "By a cron line:", &form.field(&Field::text("schedule.cron", "Cron").default("0 1 * * *").unmarked().hint("Minute, hour, day of month, month, day of week."))))
                (only("custom", "By a cron line:", &form.field(&Field::number("schedule.jitter_min", "Spread over (minutes)").default("0").unmarked().hint("Each host begins at its own time within."))))
            }
        }
    }
}

/// A field that only some presets read.
fn only(presets: &str, words: &str, field: &Markup) -> Markup {
    html! { div data-when=(presets) { small data-when-hint { (words) } (field) } }
}

fn choices(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(value, label)| ((*value).to_owned(), (*label).to_owned())).collect()
}

/// `/schedules/new`: a schedule that stands alone. POST with `host_id`, `kind`, `repo_id`, `paths` (of a backup, one a line), `plan_id` (of a forget),
/// `to` (of a copy: the second repository), the fields of [`WhenFields`], `csrf`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScheduleNewPage {
    /// What was typed.
    pub form: FormState,
    /// Hosts.
    pub hosts: Vec<HostRef>,
    /// Repositories.
    pub repos: Vec<(RepoId, String)>,
    /// Plans with keep rules.
    pub plans: Vec<(PlanId, String)>,
}

impl Page for ScheduleNewPage {
    fn title(&self) -> String {
        "Add a schedule".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Schedules
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div { small { a href=(route::SCHEDULES) { "Schedules" } } h1 { "Add a schedule" } }
            @if self.hosts.is_empty() || self.repos.is_empty() {
                (components::empty("A host and a repository come first", "A schedule runs something on a host, with a repository.", Some((route::HOST_NEW, "Add a host"))))
            } @else {
                p.muted { "For the care of a repository, or for one host's own backup. Backups of many hosts are scheduled by their " a href=(route::PLANS) { "plan" } ", for all of them at once." }
                (self.card(shell))
            }
        }
    }
}

impl ScheduleNewPage {
    fn card(&self, shell: &Shell) -> Markup {
        let form = Form::new("schedule", &self.form);
        let hosts: Vec<_> = self.hosts.iter().map(|host| (host.id.to_string(), host.name.clone())).collect();
        let repos: Vec<_> = self.repos.iter().map(|(id, name)| (id.to_string(), name.clone())).collect();
        let kinds = [
            ("check", "Check the repository"),
            ("stats", "Measure the repository"),
            ("snapshots", "List the snapshots"),
            ("locks", "Look at the locks"),
            ("unlock", "Remove stale locks"),
            ("tamper", "Try whether hosts can delete"),
            ("forget", "Apply the keep rules of a plan"),
            ("prune", "Give back space"),
            ("copy", "Copy all snapshots to another repository"),
            ("backup", "Back up paths of the host"),
        ];
        let mut plans = vec![(String::new(), "—".to_owned())];
        plans.extend(self.plans.iter().map(|(id, name)| (id.to_string(), name.clone())));
        let targets: Vec<_> = [(String::new(), "—".to_owned())].into_iter().chain(repos.iter().cloned()).collect();
        let refusal = shell.refusal(Role::Operator);
        let when = WhenFields { form, fresh: self.form.is_untouched(), by_hand: OnceChoice::Absent };
        html! {
            form.card.pad.stack method="post" action=(route::SCHEDULE_NEW) {
                (shell.csrf_field())
                (form.errors(&["host_id", "kind", "repo_id", "paths", "plan_id", "to", "schedule"]))
                .fields {
                    (form.select(&Field::text("kind", "What").default("check"), &choices(&kinds)))
                    (form.select(&Field::text("repo_id", "Repository"), &repos))
                    (form.select(&Field::text("host_id", "Run by the agent of").hint("It needs to reach the repository; a check reads much of it."), &hosts))
                }
                .fields {
                    (form.lines(&Field::text("paths", "Paths").placeholder("/etc").hint("Of a backup: one a line."), 3))
                    (form.select(&Field::text("plan_id", "Plan").hint("Of keep rules: the plan that has them. Its repository counts."), &plans))
                    (form.select(&Field::text("to", "Copy to").hint("Of a copy: the second repository. What is there already is left out. The host needs a way to both."), &targets))
                }
                (when.render())
                .row {
                    button.btn.primary type="submit" disabled[refusal.is_some()] { "Add the schedule" }
                    @if let Some(reason) = refusal { small { (reason) } }
                }
            }
        }
    }
}
