//! Waves: one that goes on, one that was stopped, the list, and a new one.

use serde_json::json;

use super::{Gallery, host_id, hostile, now};
use crate::{
    domain::{
        FieldError, JobId, JobKind, JobStatus, WaveId, Way,
        aftermath::{Aftermath, RESTART},
        job::{Actor, ActorKind},
        user::Role,
        wave::{Pace, Stop, Tally, Wave, WaveHost, WaveJob, WaveSpec, WaveStatus},
    },
    runbook::{self, ResultType},
    views::{
        FormState,
        runbooks::inputs::Choices,
        waves::{HostLine, NewWavePage, WaveBook, WaveLive, WavePage, WavesPage},
    },
};

const BOOK: &str = r#"
name = "roll_out"
title = "Roll out a version"
description = "Fetches a release, swaps it in, and looks whether the service answers."
[[inputs]]
name = "version"
type = "string"
help = "As the release is called."
[[inputs]]
name = "channel"
type = "choice"
choices = ["stable", "beta"]
default = "stable"
[[steps]]
type = "ssh"
label = "Swap"
cmd = "swap {{ version }} {{ channel }}"
"#;

fn wave(n: u64, title: &str, status: WaveStatus, stop: Option<Stop>) -> Wave {
    let why = match stop {
        Some(Stop::Failures) => "3 of 11 begun did not end well, and the wave stops at 20 %",
        Some(Stop::Cancel) => "cancelled by ada",
        Some(Stop::Canary) => "the host that went first did not end well",
        None => "",
    };
    Wave {
        id: WaveId::from_parts(1_795_226_400_000 + n, n.into()),
        kind: JobKind::Runbook("roll_out".to_owned()),
        spec: WaveSpec {
            title: title.to_owned(),
            hash: "5f".to_owned(),
            text: BOOK.to_owned(),
            answers: serde_json::Map::new(),
            secrets: Vec::new(),
            pace: Pace::of("roll_out"),
            expires_in_s: 600,
        },
        actor: Actor { kind: ActorKind::User, id: String::new(), name: "ada".to_owned() },
        status,
        stop,
        why: why.to_owned(),
        rerun_of: None,
        rerun_as: None,
        created_at: now().plus_s(-340),
        finished_at: status.is_final().then(|| now().plus_s(-20)),
    }
}

fn host(position: u32, name: &str, status: Option<JobStatus>) -> WaveHost {
    let job = status.map(|status| WaveJob {
        id: JobId::from_parts(1, position.into()),
        status,
        aftermath: None,
        way: Some(if position % 3 == 2 { Way::Ssh } else { Way::Agent }),
        started_at: (status != JobStatus::Queued).then(|| now().plus_s(-60)),
        finished_at: status.is_final().then(|| now().plus_s(-12)),
        error: (status == JobStatus::Failed)
            .then(|| "step 2 of 3 (Swap) failed: exit code 7. The last lines of its output say why.".to_owned()),
        results: match status.is_final() {
            true => json!({"version": "2.14.0", "answers": true}).as_object().cloned().unwrap_or_default(),
            false => serde_json::Map::new(),
        },
    });
    WaveHost {
        position,
        host_id: host_id(position.into()),
        host_name: name.to_owned(),
        removed: false,
        job,
        refused: None,
    }
}

fn live(wave: Wave, rows: Vec<WaveHost>) -> WaveLive {
    let standings: Vec<_> = rows.iter().map(WaveHost::standing).collect();
    let columns = vec![("version".to_owned(), ResultType::String), ("answers".to_owned(), ResultType::Bool)];
    WaveLive { wave, tally: Tally::of(&standings), rows, columns, from: 0, destroys: false }
}

fn going_on() -> WaveLive {
    use JobStatus::{Failed, Queued, Running, Succeeded, Warning};
    let states = [Succeeded, Succeeded, Failed, Warning, Running, Running, Queued].map(Some);
    let names = ["web-1", "web-2", "db-primary", "mail", "build-7", "win-files", "old-box", "new-box", "cache-1"];
    let states = states.into_iter().chain(std::iter::repeat(None));
    let rows = (0..).zip(names).zip(states).map(|((n, name), state)| host(n, name, state));
    live(wave(3, "Roll out a version", WaveStatus::Running, None), rows.collect())
}

fn stopped() -> WaveLive {
    let mut rows = going_on().rows;
    for row in &mut rows[4..] {
        row.job = None;
    }
    rows[1].host_name = hostile();
    rows[1].refused =
        Some("the identity of its agent was revoked, so it runs nothing: enrol it again first".to_owned());
    rows[1].job = None;
    rows[3].removed = true;
    if let Some(job) = &mut rows[3].job {
        job.aftermath = Some(Aftermath::Unhealthy { detail: "front page: 502 Bad Gateway".to_owned() });
    }
    WaveLive { destroys: true, ..live(wave(2, "Restart the service", WaveStatus::Failed, Some(Stop::Failures)), rows) }
}

fn new_wave() -> NewWavePage {
    let line = |n: u64, name: &str, way: Result<Option<Way>, String>| HostLine {
        id: host_id(n),
        name: name.to_owned(),
        online: n != 2,
        way,
    };
    let book = runbook::parse(BOOK).ok();
    NewWavePage {
        selection: vec![("tag", "web".to_owned())],
        words: "all with the tag web".to_owned(),
        hosts: vec![
            line(1, "web-1", Ok(Some(Way::Agent))),
            line(2, "web-2", Ok(Some(Way::Agent))),
            line(3, &hostile(), Ok(Some(Way::Ssh))),
            line(4, "old-box", Err("by agent: the host has no agent; by SSH: its host key was not confirmed yet: test the connection and compare the fingerprint".to_owned())),
        ],
        books: vec![
            ("check_status".to_owned(), "Look at the host".to_owned()),
            ("roll_out".to_owned(), "Roll out a version".to_owned()),
        ],
        book: book.map(|book| WaveBook {
            name: book.name,
            title: book.title,
            description: book.description,
            inputs: book.inputs,
            destroys: true,
            role: Role::Operator,
        }),
        pace: Pace::of("roll_out"),
        choices: Choices::default(),
        form: FormState::default(),
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let (going, stopped) = (going_on(), stopped());
    let over = |n, status, stop| wave(n, "Look at the host", status, stop);
    let well = Tally { hosts: 1_240, succeeded: 1_240, ..Tally::default() };
    let cut = Tally { hosts: 12, succeeded: 4, failed: 2, not_started: 6, ..Tally::default() };
    pages.add(
        "waves",
        &WavesPage {
            rows: vec![
                (going.wave.clone(), going.tally),
                (stopped.wave.clone(), stopped.tally),
                (over(1, WaveStatus::Succeeded, None), well),
                (over(0, WaveStatus::Cancelled, Some(Stop::Cancel)), cut),
            ],
            more: true,
        },
    );
    pages.add("waves-empty", &WavesPage { rows: Vec::new(), more: false });
    pages.add("wave", &WavePage { live: going });
    pages.add("wave-stopped", &WavePage { live: stopped });
    pages.add("wave-new", &new_wave());
    pages.add("wave-new-choose", &NewWavePage { book: None, ..new_wave() });
    let typed = FormState::of([("batch", "0"), ("params.version", "2.14.0"), ("confirm", "3")]).refused(vec![
        FieldError::new("batch", "must be 1 to 200"),
        FieldError::new(
            "confirm",
            "must be the number of hosts, 3 hosts: this removes or replaces something on each of them",
        ),
    ]);
    pages.add("wave-new-refused", &NewWavePage { form: typed, ..new_wave() });
    let restart = WaveBook {
        name: RESTART.to_owned(),
        title: "Restart the service".to_owned(),
        description: "Runs the restart command of the host's settings.".to_owned(),
        inputs: Vec::new(),
        destroys: false,
        role: Role::Operator,
    };
    pages.add("wave-new-restart", &NewWavePage { book: Some(restart), pace: Pace::of(RESTART), ..new_wave() });
}
