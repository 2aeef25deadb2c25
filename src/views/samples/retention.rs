//! Made-up verdicts and upkeep for the samples.

use super::{Gallery, host_id, hostile, job, long, now, repo, schedules};
use crate::{
    domain::{
        HeldBack, JobId, JobKind, JobStatus, PlanId,
        guard::{About, Cause, Finding, Pin},
        job::Job,
        retention::{Fate, FateKind, Verdict, VerdictState},
        upkeep::{Duty, Line, Overview, Part},
    },
    views::{
        components::HostRef,
        repos::UpkeepCard,
        retention::{FateList, PinRow, RetentionPage, VerdictPage},
    },
};

const DAY: i64 = 86_400;

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

pub(super) fn upkeep() -> UpkeepCard {
    let line = |duty, scheduled: bool, last| Line {
        obstacle: None,
        duty,
        plan: (duty == Duty::Forget).then(|| (PlanId::from_parts(1, 1), "nightly".to_owned())),
        schedule: scheduled.then(schedules::weekly_check),
        next: scheduled.then(|| now().plus_s(DAY)),
        last,
    };
    let lines = vec![
        line(Duty::Forget, true, Some(job(5, "web-1", JobStatus::Succeeded))),
        line(Duty::Prune, true, Some(job(6, "web-1", JobStatus::Running))),
        line(Duty::Check, true, None),
        line(Duty::Tamper, false, None),
    ];
    let overview = Overview {
        lines,
        check_days: Some(28),
        next_part: Some(Part { n: 2, t: 4 }),
        maintenance: Some((host_id(1), "web-1".to_owned())),
    };
    UpkeepCard { overview, hosts: vec![HostRef { id: host_id(1), name: "web-1".to_owned() }] }
}

fn stopped() -> Verdict {
    let about = About {
        id: id(0xf0),
        time: now().plus_s(-40 * DAY),
        first_seen_at: Some(now().plus_s(-3600)),
        bytes: Some(4096),
    };
    let finding = |cause, hostname: String| Finding {
        cause,
        hostname,
        paths: vec!["/srv".to_owned()],
        about: vec![about.clone()],
        count: 1,
        usual_bytes: (cause == Cause::Shrunk).then_some(34 << 30),
    };
    Verdict {
        job_id: JobId::from_parts(1, 40),
        repo_id: repo("vault").id,
        plan_id: Some(PlanId::from_parts(1, 1)),
        plan_name: Some("nightly".to_owned()),
        at: now().plus_s(-1800),
        state: VerdictState::Stopped,
        dry: false,
        rules: "7 daily, 5 weekly, 12 monthly".to_owned(),
        findings: vec![finding(Cause::BackDated, "web-1".to_owned()), finding(Cause::Shrunk, hostile())],
        remove: Vec::new(),
        waiting: vec![id(1), id(2)],
        held: vec![HeldBack { snapshot: id(3), reason: "pinned by ada: before the migration".to_owned() }],
        decided_at: None,
        decided_by: String::new(),
        reason: String::new(),
    }
}

fn fate(n: u8, kind: FateKind, reason: &str) -> Fate {
    Fate {
        snapshot_id: id(n),
        time: now().plus_s(-DAY * i64::from(n)),
        hostname: "web-1".to_owned(),
        paths: vec!["/etc".to_owned(), "/srv/a-rather-long-name/of-a-folder".to_owned()],
        kind,
        reason: reason.to_owned(),
    }
}

pub(super) fn pages(pages: &mut Gallery<'_>) {
    let stopped = stopped();
    let settled = |state, n| Verdict {
        job_id: JobId::from_parts(1, n),
        state,
        findings: Vec::new(),
        waiting: Vec::new(),
        remove: vec![id(9)],
        held: Vec::new(),
        ..stopped.clone()
    };
    let pin = Pin { by: "ada".to_owned(), reason: "before the migration".to_owned() };
    pages.add(
        "retention",
        &RetentionPage {
            repo: repo("vault"),
            verdicts: vec![
                stopped.clone(),
                settled(VerdictState::Allowed, 41),
                Verdict { dry: true, ..settled(VerdictState::Allowed, 42) },
                settled(VerdictState::Approved, 43),
            ],
            more_verdicts: true,
            plans: vec![(PlanId::from_parts(1, 1), "nightly".to_owned(), stopped.rules.clone())],
            pins: vec![PinRow { snapshot: id(3), time: now().plus_s(-30 * DAY), hostname: "web-1".to_owned(), pin }],
            more_pins: false,
        },
    );
    let lack = "no rule keeps it (7 daily, 5 weekly, 12 monthly); the next one that stays is 0a0a0a0a";
    let list = |kind, fates: Vec<Fate>| FateList { kind, count: fates.len() as u64, fates, more: None };
    let lists = vec![
        list(FateKind::Waiting, vec![fate(1, FateKind::Waiting, lack), fate(2, FateKind::Waiting, lack)]),
        list(FateKind::Held, vec![fate(3, FateKind::Held, "pinned by ada: before the migration")]),
        FateList {
            more: Some("1.x".to_owned()),
            ..list(FateKind::Kept, vec![fate(4, FateKind::Kept, "daily snapshot, weekly snapshot")])
        },
    ];
    let forget = Job { kind: JobKind::Forget, ..job(40, "web-1", JobStatus::Succeeded) };
    pages.add("verdict", &VerdictPage { repo: repo("vault"), job: forget.clone(), verdict: Some(stopped), lists });
    pages.add("verdict-waiting", &VerdictPage { repo: repo("vault"), job: forget, verdict: None, lists: Vec::new() });
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let many = |kind| {
        let mut fates: Vec<Fate> =
            (1..60).map(|n| fate(n, kind, "no rule keeps it (7 daily, 5 weekly, 12 monthly)")).collect();
        long::HOST.clone_into(&mut fates[0].hostname);
        fates[1].hostname = long::odd();
        fates[1].paths = vec![long::path()];
        FateList { kind, count: 1200, fates, more: Some("1.x".to_owned()) }
    };
    let mut verdict = stopped();
    long::HOST.clone_into(&mut verdict.findings[0].hostname);
    verdict.findings[1].hostname = long::odd();
    let forget = Job { kind: JobKind::Forget, ..job(40, long::HOST, JobStatus::Succeeded) };
    let lists = vec![many(FateKind::Waiting), many(FateKind::Kept)];
    pages.add("long-verdict", &VerdictPage { repo: repo(long::HOST), job: forget, verdict: Some(verdict), lists });
}
