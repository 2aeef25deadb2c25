//! Hosts without an agent on pages: adding one, testing the ways to it, confirming its key, changing its facets.

use std::collections::BTreeSet;

use axum::response::Response;

use crate::{
    domain::{
        HostId, Secret,
        facet::input::{ApiInput, ContainerInput, HealthInput, HealthMode, HostInput, RestartInput, SshInput},
    },
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{Ui, forms, host, redraw},
    },
    ops::facets::{self as ops, HostPatch, KnownHost, Tested},
    paths,
    views::{
        FormState,
        components::Tone,
        host::HostTab,
        reach::{DirectHostPage, SECRETS, TestPanel, Ways},
    },
};

/// What a page shows of a host's facets.
pub(super) fn ways(ui: &Ui, known: KnownHost) -> Ways {
    let reach = known.reach(&ui.state.hub);
    let health = known.own_probe().map(|probe| probe.spec.clone());
    Ways { facets: known.facets, reach, health }
}

/// What was typed, without what is secret.
fn typed(fields: &FormFields) -> FormState {
    FormState::of(fields.iter().filter(|(name, _)| !SECRETS.contains(name)))
}

fn secret(fields: &FormFields, name: &str) -> Option<Secret> {
    forms::text(fields, name).map(Secret::new)
}

/// The facets of a form: a part whose first field is blank is none.
fn input(fields: &FormFields) -> Result<HostInput, HttpError> {
    let text = |name: &str| forms::text(fields, name);
    let mut reader = forms::Reader::default();
    let ssh = text("ssh.host").map(|host| SshInput {
        host,
        port: reader.value(fields, "ssh.port", "1 to 65535"),
        user: text("ssh.user"),
        key_path: text("ssh.key_path"),
        private_key: secret(fields, "ssh.private_key"),
        container_cli: text("ssh.container_cli"),
        host_key: text("ssh.host_key"),
    });
    let api = text("api.base_url").map(|base_url| ApiInput {
        base_url,
        public_key: text("api.public_key"),
        secret_key: secret(fields, "api.secret_key"),
        tls_insecure: fields.is_set("api.tls_insecure"),
    });
    let health = text("health.url").map(|url| health(fields, url, &mut reader));
    let restart = text("restart.command").map(|command| RestartInput {
        command: command.replace("\r\n", "\n"),
        timeout_s: reader.value(fields, "restart.timeout_s", "a number of seconds"),
        path: text("restart.path"),
    });
    let container = text("container.name").map(|name| ContainerInput {
        cli: text("container.cli"),
        name,
        user: text("container.user"),
    });
    reader.refuse()?;
    Ok(HostInput {
        name: fields.text("name").to_owned(),
        tags: Some(forms::words(fields, "tags")),
        ssh,
        api,
        health,
        restart,
        container,
        opened: Some(fields.is_set("opened")),
    })
}

fn health(fields: &FormFields, url: String, reader: &mut forms::Reader) -> HealthInput {
    let mode = match fields.text("health.mode") {
        "any" => HealthMode::Any,
        "body" => HealthMode::Body,
        _ => HealthMode::Status,
    };
    let words = forms::words(fields, "health.codes");
    let codes: Option<BTreeSet<u16>> = words.iter().map(|word| word.parse().ok()).collect();
    if codes.is_none() {
        reader.refuse_field("health.codes", "must be statuses such as 200, 204");
    }
    HealthInput {
        url,
        mode,
        codes: codes.filter(|_| mode == HealthMode::Status && !words.is_empty()),
        pattern: forms::text(fields, "health.pattern").filter(|_| mode == HealthMode::Body),
        interval_s: reader.value(fields, "health.interval_s", "a number of seconds"),
        timeout_s: reader.value(fields, "health.timeout_s", "a number of seconds"),
        tls_insecure: fields.is_set("health.tls_insecure"),
    }
}

/// `GET /hosts/new/direct`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn add(ui: Ui) -> Result<Response, HttpError> {
    ui.show(&DirectHostPage::default()).await
}

/// `POST /hosts/new/direct`.
///
/// # Errors
/// 403 where less than an administrator sets what lets commands run; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let who = (ui.actor(), ui.user.role);
    let made = match input(&fields) {
        // A box that is not ticked asks for nothing.
        Ok(input) => {
            let input = HostInput { opened: input.opened.filter(|opened| *opened), ..input };
            ops::create(ui.store(), &ui.state.vault, who, input).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match made {
        Ok(known) => {
            let news = format!("{} is added. Test the connection next.", known.host.name);
            Ok(ui.go_saying(&paths::host(known.host.id), Tone::Ok, &news))
        }
        Err(e) => {
            let (status, form) = redraw(e, typed(&fields), &[])?;
            ui.show_as(status, &DirectHostPage { form }).await
        }
    }
}

/// `POST /hosts/{id}/reach`: all facets, as the form has them.
///
/// # Errors
/// 404; 409 for a declared host; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let changed = match input(&fields) {
        Ok(HostInput { ssh, api, health, restart, container, opened, .. }) => {
            let patch = HostPatch {
                ssh: Some(ssh),
                api: Some(api),
                health: Some(health),
                restart: Some(restart),
                container: Some(container),
                opened,
                ..HostPatch::default()
            };
            let who = (ui.actor(), ui.user.role);
            ops::change(ui.store(), &ui.state.vault, who, id, patch).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match changed {
        Ok(_) => Ok(ui.go_saying(&paths::host_tab(id, "settings"), Tone::Ok, "Saved.")),
        Err(e) => {
            let (status, form) = redraw(e, typed(&fields), &[])?;
            let forms = host::Forms { reach: form, ..host::Forms::default() };
            let page = host::load(&ui, id, HostTab::Settings, forms).await?;
            ui.show_as(status, &page).await
        }
    }
}

fn panel(tested: Tested) -> TestPanel {
    let host_key = tested.host_key.map(|key| (key.fingerprint, key.algorithm));
    let Tested { agent, ssh, api, health, .. } = tested;
    TestPanel { agent, ssh, api, health, host_key }
}

/// `POST /hosts/{id}/test`: the panel alone for htmx, the whole page for others.
///
/// # Errors
/// 404.
pub async fn test(ui: Ui, Id(id): Id<HostId>) -> Result<Response, HttpError> {
    let state = &ui.state;
    let (known, tested) = ops::test((&state.store, &state.vault, &state.hub), (&state.prober, ui.now()), id).await?;
    let panel = panel(tested);
    if ui.by_htmx {
        return ui.fragment(|shell| panel.render(shell, (id, &known.host.name), &known.facets)).await;
    }
    let mut page = host::load(&ui, id, HostTab::Overview, host::Forms::default()).await?;
    page.tested = Some(panel);
    ui.show(&page).await
}

/// `POST /hosts/{id}/ssh/trust`: another key than the confirmed one needs the host's name as confirmation.
///
/// # Errors
/// 404; 409 where the configuration names the key; 422 for what is no fingerprint, or without the confirmation.
pub async fn trust(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let known = ops::known(ui.store(), id).await?.ok_or_else(|| HttpError::not_found("such host"))?;
    let key = fields.text("host_key").trim();
    let before = known.facets.ssh.and_then(|ssh| ssh.host_key);
    if before.is_some_and(|before| before != key) {
        forms::confirmed(&fields, &known.host.name)?;
    }
    ops::trust(ui.store(), &ui.state.vault, ui.actor(), id, key).await?;
    Ok(ui.go_saying(&paths::host(id), Tone::Ok, "The key is confirmed. Test the connection again."))
}
