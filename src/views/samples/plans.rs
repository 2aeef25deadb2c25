//! Made-up plans for the samples.

use super::{Gallery, host_id, hostile, job, long, now, schedules};
use crate::{
    domain::{
        Hook, HookFailure, HookMoment, JobKind, JobStatus, PlanId, PlanOptions, RepoId,
        plan::{Plan, preset},
        schedule::Standing,
        second_copy::Behind,
    },
    views::components::HostRef,
    views::plans::{PlanChoices, PlanForm, PlanNewPage, PlanPage, PlanPreview, PlanRow, PlansPage},
};

pub(super) fn plan(name: &str) -> Plan {
    Plan {
        id: PlanId::from_parts(1, 1),
        name: name.to_owned(),
        repo_id: RepoId::from_parts(1, 1),
        repo_name: "vault".to_owned(),
        hosts: vec![host_id(1)],
        tags: vec!["web".to_owned()],
        paths: vec!["/etc".to_owned(), "/srv/www".to_owned()],
        excludes: vec!["*.tmp".to_owned()],
        second_repo: None,
        hooks: Vec::new(),
        options: PlanOptions { exclude_caches: true, limit_upload_kib: 20_000, ..Default::default() },
        retention: crate::domain::KeepRules {
            keep_daily: Some(7),
            keep_weekly: Some(5),
            keep_monthly: Some(12),
            ..Default::default()
        },
        schedule: Some(Standing {
            schedule: schedules::schedule("0 1 * * *", 14_400),
            since: now().plus_s(-86_400 * 40),
        }),
        created_at: now().plus_s(-86_400 * 40),
    }
}

pub(super) fn choices() -> PlanChoices {
    PlanChoices {
        repos: vec![(RepoId::from_parts(1, 1), "vault".to_owned())],
        hosts: (0..)
            .zip(["db-primary", "web-1", "web-2"])
            .map(|(n, name)| HostRef { id: host_id(n), name: name.to_owned() })
            .collect(),
        tags: vec!["web".to_owned(), "eu".to_owned()],
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    pages.add("plans-empty", &PlansPage { rows: Vec::new() });
    pages.add(
        "plans",
        &PlansPage {
            rows: vec![
                PlanRow { plan: plan("nightly"), covered: 6, last: Some(job(3, "web-1", JobStatus::Succeeded)) },
                PlanRow { plan: plan(&hostile()), covered: 0, last: None },
            ],
        },
    );
    pages.add("plan-new", &PlanNewPage { form: PlanForm { choices: choices(), ..PlanForm::default() } });
    let start = preset::start("postgresql");
    pages.add("plan-new-started", &PlanNewPage { form: PlanForm { choices: choices(), start, ..PlanForm::default() } });
    let page = PlanPage {
        plan: plan("nightly"),
        covered: choices().hosts,
        jobs: vec![job(3, "web-1", JobStatus::Succeeded)].into(),
        upcoming: schedules::schedule("0 1 * * *", 0).calendar().map(|c| c.upcoming(now(), 10)).unwrap_or_default(),
        behind: 1,
        last_copy: None,
        copies_behind: None,
        edit: None,
    };
    pages.add("plan", &page);
    let edit = PlanForm { form: PlanForm::values_of(&page.plan), choices: choices(), ..PlanForm::default() };
    pages.add("plan-edit", &PlanPage { edit: Some(edit), ..page.clone() });
    pages.add("plan-hooks", &with_hooks(page.clone()));
    let page = with_hooks(page);
    let edit = PlanForm {
        form: PlanForm::values_of(&page.plan),
        choices: choices(),
        preview: Some(preview()),
        of: Some(page.plan.id),
        start: None,
    };
    pages.add("plan-preview", &PlanPage { edit: Some(edit), ..page });
}

fn with_hooks(mut page: PlanPage) -> PlanPage {
    let hook = |at, run: &str| Hook { at, run: run.to_owned(), timeout_s: 600, on_failure: HookFailure::Abort };
    page.plan.hooks = vec![hook(HookMoment::Before, "pg_dump_all"), hook(HookMoment::After, &hostile())];
    page.plan.second_repo = Some((RepoId::from_parts(1, 2), "elsewhere".to_owned()));
    page.plan.options = PlanOptions { nice: Some(10), io_idle: true, ..page.plan.options };
    let mut copy = job(9, "web-1", JobStatus::Failed);
    copy.kind = JobKind::Copy;
    page.last_copy = Some(copy);
    page.copies_behind = Some(Behind {
        plan: page.plan.name.clone(),
        to: "elsewhere".to_owned(),
        missing: 3,
        hosts: vec!["web-1".to_owned(), hostile()],
        since: now().plus_s(-90_000),
        next_at: Some(now().plus_s(600)),
        under_way: false,
        error: "the second repository: it can't be reached".to_owned(),
    });
    page
}

fn preview() -> PlanPreview {
    let schedule = schedules::schedule("0 1 * * *", 0);
    PlanPreview {
        hosts: vec![
            (host_id(1), "web-1".to_owned(), "by name, and by tag web".to_owned()),
            (host_id(2), hostile(), "by tag web".to_owned()),
        ],
        paths: vec!["/etc".to_owned(), "/srv".to_owned()],
        excludes: vec!["*.tmp".to_owned()],
        next: schedule.calendar().map(|c| c.upcoming(now(), 5)).unwrap_or_default(),
        schedule: Some(schedule),
        keeps: "7 daily, 5 weekly, 12 monthly".to_owned(),
        at_most: Some(24),
        repos: vec!["vault".to_owned(), "elsewhere".to_owned()],
        beside: vec!["hourly".to_owned()],
    }
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let mut plan = plan(long::HOST);
    plan.paths = vec![long::path(), long::odd()];
    plan.excludes = vec![long::path()];
    plan.tags = vec!["a-tag-of-which-nobody-thought-that-it-would-be-so-long".to_owned()];
    let mut choices = choices();
    choices.hosts[1].name = long::HOST.to_owned();
    choices.hosts[2].name = long::named();
    pages.add("long-plans", &PlansPage { rows: vec![PlanRow { plan: plan.clone(), covered: 6, last: None }] });
    let page = PlanPage {
        covered: choices.hosts.clone(),
        jobs: vec![job(3, long::HOST, JobStatus::Succeeded)].into(),
        upcoming: Vec::new(),
        behind: 0,
        last_copy: None,
        copies_behind: None,
        edit: None,
        plan,
    };
    let edit = PlanForm { form: PlanForm::values_of(&page.plan), choices, ..PlanForm::default() };
    pages.add("long-plan", &page);
    pages.add("long-plan-edit", &PlanPage { edit: Some(edit), ..page });
}
