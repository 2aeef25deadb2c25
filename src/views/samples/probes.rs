//! A host's health, its probes and what restarts came to.

use serde_json::json;

use super::{Gallery, host, host_id, host_page, hostile, job, jobs::job_page, now};
use crate::{
    domain::{
        FieldError, JobKind, JobStatus, ProbeId, Timestamp,
        aftermath::{Aftermath, RESTART},
        job::Job,
        probe::{Answer, Expect, PastAnswer, Probe, ProbeSpec, ProbeState, Question},
    },
    views::{
        FormState,
        host::{
            HostPage, HostTab,
            health::{HealthTab, RestartOffer},
        },
        probes::{ProbeNewPage, ProbePage, values_of},
    },
};

fn web() -> Question {
    let expect = Expect::Body { pattern: "status: (ok|fine)".to_owned() };
    Question::Http { url: "https://shop.example.org/health".to_owned(), expect, tls_insecure: false }
}

fn probe(no: u32, name: &str, question: Question, state: ProbeState, detail: &str) -> Probe {
    Probe {
        no: no.into(),
        id: ProbeId::from_parts(1, no.into()),
        host_id: host_id(1),
        site_id: None,
        name: name.to_owned(),
        spec: ProbeSpec::of(question),
        state,
        state_at: (state != ProbeState::Unknown).then(|| now().plus_s(-7_400)),
        asked_at: Some(now().plus_s(-21)),
        latency_ms: (state == ProbeState::Healthy).then_some(38),
        detail: detail.to_owned(),
    }
}

/// Answers of some days, each few minutes, with two outages in them.
fn course(days: i64) -> Vec<PastAnswer> {
    let step = days * 300;
    (0..288)
        .map(|n| {
            let healthy = !(100..112).contains(&n) && n != 200;
            let wave = ((n * 37) % 23) as u32;
            PastAnswer {
                at: Timestamp::from_unix_ms(now().plus_s((n - 288) * step).unix_ms()),
                answer: Answer {
                    healthy,
                    latency_ms: (n != 104).then_some(if healthy { 24 + wave } else { 900 + 20 * wave }),
                    detail: if healthy {
                        String::new()
                    } else {
                        "it answered 502 Bad Gateway, where 200 to 299 is wanted".to_owned()
                    },
                },
            }
        })
        .collect()
}

fn restarted(status: JobStatus, aftermath: Option<Aftermath>) -> Job {
    let summary = Some(
        json!({"runbook": RESTART, "way": "ssh", "class": (status == JobStatus::Failed).then_some("timed_out"), "steps": [
        {"label": "Restart", "type": "ssh", "state": if status == JobStatus::Failed { "failed" } else { "done" }, "duration_ms": 2_310,
         "error": (status == JobStatus::Failed).then_some("it did not end within 30 s")}]}),
    );
    Job {
        kind: JobKind::Runbook(RESTART.to_owned()),
        plan_id: None,
        plan_name: None,
        repo_id: None,
        repo_name: None,
        error: (status == JobStatus::Failed).then(|| {
            "Step 1 (Restart) failed: it did not end within 30 s, and was ended with all that it had started."
                .to_owned()
        }),
        summary,
        aftermath,
        ..job(6, "web-1", status)
    }
}

fn health_page(health: HealthTab) -> HostPage {
    HostPage { health, ..host_page(HostTab::Health, "web-1") }
}

fn tab() -> HealthTab {
    let tcp = Question::Tcp { address: "[fd00::7]:5432".to_owned() };
    let tls = Question::Tls { address: "shop.example.org:443".to_owned(), days: 14 };
    let refused = "nothing listens at [fd00::7]:5432 (connection refused): is the service running?";
    let paused = probe(4, &hostile(), web(), ProbeState::Unknown, "");
    HealthTab {
        probes: vec![
            (probe(1, "shop", web(), ProbeState::Healthy, "200 OK"), course(1)),
            (probe(2, "database", tcp, ProbeState::Unhealthy, refused), course(1).into_iter().take(112).collect()),
            (probe(3, "certificate", tls, ProbeState::Healthy, "63 days left"), Vec::new()),
            (Probe { spec: ProbeSpec { enabled: false, ..paused.spec.clone() }, ..paused }, Vec::new()),
        ],
        restart: RestartOffer {
            command: Some("systemctl restart shop && systemctl is-active shop".to_owned()),
            timeout_s: 30,
            way: Ok("over SSH as root at web-1.example.org".to_owned()),
        },
        last_restart: Some(restarted(JobStatus::Succeeded, Some(Aftermath::Healthy { after_ms: 4_120 }))),
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    pages.add("host-health", &health_page(tab()));
    pages.add("host-health-empty", &health_page(HealthTab::default()));
    let unreachable = RestartOffer {
        way: Err("ssh: its host key was not confirmed yet: test the connection and compare the fingerprint".to_owned()),
        ..tab().restart
    };
    pages.add("host-health-no-way", &health_page(HealthTab { restart: unreachable, ..HealthTab::default() }));
    let probe = probe(1, "shop", web(), ProbeState::Healthy, "200 OK");
    let page = ProbePage { host: host(1, "web-1"), answers: course(7), days: 7, form: FormState::default(), probe };
    pages.add("probe", &page);
    pages.add("probe-new", &ProbeNewPage { host: host(1, "web-1"), form: FormState::default() });
    let typed = FormState::of(values_of(&hostile(), &ProbeSpec { timeout_s: 90, ..ProbeSpec::of(web()) }));
    let refused = vec![
        FieldError::new("pattern", "is no pattern: unclosed group"),
        FieldError::new("timeout_s", "must be 1 to 60"),
    ];
    pages.add("probe-refused", &ProbeNewPage { host: host(1, &hostile()), form: typed.refused(refused) });
    let unhealthy = Aftermath::Unhealthy {
        detail: "shop: nothing listens at 10.0.0.7:443 (connection refused): is the service running?".to_owned(),
    };
    for (name, status, aftermath) in [
        ("job-restarting", JobStatus::Succeeded, Some(Aftermath::waiting(now()))),
        ("job-restarted", JobStatus::Succeeded, Some(Aftermath::Healthy { after_ms: 4_120 })),
        ("job-restarted-not-healthy", JobStatus::Succeeded, Some(unhealthy)),
        ("job-restarted-not-asked", JobStatus::Succeeded, Some(Aftermath::NotAsked)),
        ("job-not-restarted", JobStatus::Failed, None),
    ] {
        let mut page = job_page(status, "web-1");
        page.header.job = restarted(status, aftermath);
        page.header.restic_version = None;
        page.header.error_lines.clear();
        pages.add(name, &page);
    }
}
