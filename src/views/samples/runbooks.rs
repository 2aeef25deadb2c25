//! Runbooks: the list, forms of every type of question, previews, dialogs, a host's tab.

use super::{Gallery, host_id, hostile, job};
use crate::{
    domain::{FieldError, JobKind, JobStatus, Way, job::RunbookInput, user::Role},
    runbook::{Entry, Origin, SHIPPED, parse},
    views::{
        FormState,
        components::JobList,
        runbooks::{
            Chooser, Earlier, HostOffer, Offered, OffersTab, PreviewStep, RunPreview, RunbookPage, RunbooksPage,
            STEPS_FIELD, StepsPage, inputs::Choices,
        },
    },
};

/// One that asks for everything, and has hostile words wherever a file can have words.
const ASKING: &str = r#"name = "move_site"
title = "Move a <script>alert('x')</script> site"
description = "Takes a dump, brings it over, and puts it in the place of what is there. <b>Nothing</b> is removed on this host."
version = "3"
role = "admin"
safety = "dump"
transports = ["agent", "api", "ssh"]
inputs = [
  { name = "folder", label = "Folder <i>", help = "Where it lives & \"breathes\".", type = "path" },
  { name = "name", label = "Name of the database", type = "string", default = "shop", pattern = "[a-z_]+" },
  { name = "tries", label = "Tries", type = "int", default = 3, min = 1, max = 9 },
  { name = "mode", label = "How", type = "choice", choices = ["copy", "mirror"] },
  { name = "quiet", label = "Say less", help = "Only errors.", type = "bool", default = true },
  { name = "password", label = "Password of the database", type = "secret" },
  { name = "to", label = "To which host", type = "host" },
  { name = "notes", label = "Notes", type = "string", multiline = true, optional = true },
]

[[guards]]
cmd = "test -d {{ folder }}"
message = "{{ folder }} is no folder <here>"

[[steps]]
type = "ssh"
label = "Dump"
cmd = "mysqldump --password={{ password }} {{ name }} >{{ scratch }}"
artefact = { name = "dump", path = "{{ scratch }}" }

[[steps]]
type = "ssh"
label = "Replace <b>it</b>"
destructive = true
cmd = "mysql {{ name }} <{{ scratch }}"

[[steps]]
type = "ssh"
label = "Look again"
when = "not quiet"
continue_on_error = true
cmd = "true"

[[teardown]]
type = "ssh"
label = "Remove the dump"
cmd = "rm -f {{ scratch }}"
"#;

fn entry(text: &str, origin: Origin) -> Entry {
    let state = parse(text);
    let name = state.as_ref().map_or_else(|_| "bad".to_owned(), |book| book.name.clone());
    Entry { name, origin, text: text.to_owned(), state }
}

fn shipped() -> Vec<Entry> {
    SHIPPED.iter().map(|(_, text)| entry(text, Origin::Shipped)).collect()
}

fn on_host(way: Result<Way, String>) -> HostOffer {
    HostOffer { id: host_id(1), name: "web-1".to_owned(), way, waits: false, site: None }
}

fn page(text: &str) -> RunbookPage {
    RunbookPage {
        entry: entry(text, Origin::Own("/var/lib/flotilla/runbooks/move.toml".into())),
        host: Some(on_host(Ok(Way::Agent))),
        chooser: Chooser::default(),
        choices: Choices { hosts: vec!["db-primary".to_owned(), hostile()], sites: Vec::new() },
        form: FormState::default(),
        preview: None,
        earlier: None,
    }
}

fn preview() -> RunPreview {
    let step = |label: &str, command: &str| PreviewStep {
        label: label.to_owned(),
        kind: "ssh".to_owned(),
        place: "on web-1, in its container shop_php".to_owned(),
        command: command.to_owned(),
        timeout_s: 1800,
        ..PreviewStep::default()
    };
    let unconfirmed = "its host key was not confirmed yet: test the connection and compare the fingerprint";
    RunPreview {
        way: Some(Way::Agent),
        others: vec![(Way::Ssh, unconfirmed.to_owned())],
        guards: vec![step("/srv/shop is no folder <here>", "test -d '/srv/shop'")],
        steps: vec![
            PreviewStep {
                env: vec![("MYSQL_PWD".to_owned(), "••••••".to_owned())],
                stdin: Some(hostile()),
                ..step("Dump", "mysqldump --password=\"$FLOTILLA_SECRET_PASSWORD\" 'shop' >'/tmp/flotilla-⟨job.id⟩'")
            },
            PreviewStep {
                destructive: true,
                problem: Some("no host is chosen for <to>".to_owned()),
                ..step("Replace <b>it</b>", &format!("mysql 'shop' <'/tmp/flotilla-⟨job.id⟩' # {}", hostile()))
            },
            PreviewStep {
                left_out: true,
                when: Some("not quiet".to_owned()),
                continue_on_error: true,
                ..step("Look again", "true")
            },
        ],
        teardown: vec![step("Remove the dump", "rm -f '/tmp/flotilla-⟨job.id⟩'")],
        problems: vec!["it is off on <web-1> until an administrator opens the host for it".to_owned()],
        ..RunPreview::default()
    }
}

/// A runbook as a job keeps it.
pub(in crate::views) fn input(text: &str) -> RunbookInput {
    let book = parse(text).ok();
    RunbookInput {
        title: book.as_ref().map(|book| book.title.clone()).unwrap_or_default(),
        hash: book.map(|book| book.hash).unwrap_or_default(),
        text: text.to_owned(),
        answers: serde_json::Map::new(),
        secrets: Vec::new(),
        others: std::collections::BTreeMap::new(),
        way: Way::Ssh,
        alone: true,
    }
}

/// The runbook of [`ASKING`], as a job keeps it.
pub(super) fn asking() -> RunbookInput {
    input(ASKING)
}

/// What a host offers.
pub(super) fn offers(host: &str) -> OffersTab {
    let offered = |title: &str, way: Result<Way, String>, destructive: bool| Offered {
        name: if title == "Restart" { "restart" } else { "check_status" }.to_owned(),
        title: title.to_owned(),
        description: "Disk, memory, load, uptime, failed services, database, certificate. Reads only.".to_owned(),
        way,
        waits: title == "Restart",
        needs: if title == "Run a command" { Role::Admin } else { Role::Operator },
        at_once: !destructive,
        destructive,
    };
    let off = "it is off by default: an administrator opens the host for it in its settings";
    let mut run = job(3, host, JobStatus::Succeeded);
    (run.kind, run.plan_name, run.summary) = (JobKind::Runbook("check_status".to_owned()), None, None);
    OffersTab {
        offered: vec![
            offered("Check status", Ok(Way::Agent), false),
            offered(&hostile(), Ok(Way::Ssh), true),
            offered("Restart", Ok(Way::Agent), false),
            offered("Run a command", Err(off.to_owned()), false),
            offered(
                "Rotate keys",
                Err("by agent: the host has no agent; by SSH: the host has no SSH access in its settings".to_owned()),
                false,
            ),
        ],
        jobs: JobList::from(vec![run]),
    }
}

fn chooser() -> Chooser {
    let host = |n, name: &str, way| HostOffer { id: host_id(n), name: name.to_owned(), way, waits: n == 2, site: None };
    Chooser {
        query: "we\"b".to_owned(),
        hosts: vec![
            host(1, "web-1", Ok(Way::Agent)),
            host(2, "web-2", Ok(Way::Agent)),
            host(3, &hostile(), Ok(Way::Ssh)),
            host(4, "db-primary", Err("by agent: the host has no agent; by SSH: its host key was not confirmed yet: test the connection and compare the fingerprint".to_owned())),
        ],
        more: true,
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let own = Origin::Own("/var/lib/flotilla/runbooks/move.toml".into());
    let mut entries = shipped();
    let folder = "/var/lib/flotilla/runbooks".to_owned();
    pages.add("runbooks-first", &RunbooksPage { entries: entries.clone(), folder: folder.clone() });
    entries.push(entry(ASKING, own.clone()));
    entries.push(entry(&ASKING.replace("label = \"Dump\"", "lable = \"Dump\""), own));
    pages.add("runbooks", &RunbooksPage { entries, folder });
    pages.add("runbook", &page(ASKING));
    pages.add("runbook-preview", &RunbookPage { preview: Some(preview()), ..page(ASKING) });
    pages.add("runbook-hosts", &RunbookPage { host: None, chooser: chooser(), ..page(ASKING) });
    pages.add("runbook-no-hosts", &RunbookPage { host: None, ..page(ASKING) });
    pages.add(
        "runbook-no-way",
        &RunbookPage { host: Some(on_host(Err("by agent: the host has no agent".to_owned()))), ..page(ASKING) },
    );
    pages.add("runbook-broken", &page(&ASKING.replace("label = \"Dump\"", "lable = \"Dump\"")));
    let typed = [
        ("params.folder", "srv"),
        ("params.name", "Shop"),
        ("params.tries", "12"),
        ("params.mode", "mirror"),
        ("params.password", "planted-secret"),
        ("params.to", &hostile()),
        ("params.notes", "</textarea>"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let refused = FormState::of(typed.clone()).refused(vec![
        FieldError::new("params.folder", "it must be an absolute path: one that begins with a slash"),
        FieldError::new("params.quiet", "it must be true or false"),
        FieldError::new("params.password", "this must be answered"),
        FieldError::new("params.whom", "the runbook does not ask for this"),
    ]);
    pages.add("runbook-refused", &RunbookPage { form: refused, ..page(ASKING) });
    let plain = typed.into_iter().filter(|(name, _)| name != "params.password");
    let asked = FormState::of(plain).refused(vec![FieldError::new(
        "confirm",
        "must be the host's name, web-1: this removes or replaces something there",
    )]);
    let open = ASKING.replace("type = \"secret\"", "type = \"string\"");
    pages.add("runbook-confirm", &RunbookPage { form: asked, ..page(&open) });
    let earlier = Earlier { job: job(3, "web-1", JobStatus::Failed).id, changed: true };
    pages.add("runbook-again", &RunbookPage { earlier: Some(earlier), ..page(ASKING) });
    let steps = StepsPage {
        host: Some(on_host(Ok(Way::Ssh))),
        chooser: Chooser::default(),
        form: FormState::default(),
        preview: None,
        earlier: None,
    };
    pages.add("steps", &steps);
    let wrong = FormState::of([(STEPS_FIELD, "[{\"type\": \"shell\"}] </textarea>")]).refused(vec![FieldError::new(
        STEPS_FIELD,
        "step 1: unknown variant `shell`, expected one of `local`, `ssh`, `scp`, `api`",
    )]);
    pages.add("steps-refused", &StepsPage { form: wrong, preview: Some(preview()), ..steps.clone() });
    pages.add("steps-hosts", &StepsPage { host: None, chooser: chooser(), ..steps });
}

pub(super) fn add_for_viewer(pages: &mut Gallery<'_>) {
    pages.add("viewer-runbook", &page(ASKING));
    pages.add("viewer-operations", &super::host_page(super::HostTab::Operations, "web-1"));
}
