//! What a discovery found: a card for each site with a button that adds it, what the host has, and where was looked.

use maud::{Markup, html};
use serde_json::Value;

use super::{card, runbook, table};
use crate::{
    domain::{RunbookResult, job::Job, site::Card, user::Role},
    paths,
    views::{
        Shell,
        components::{self, PostButton, Tone},
        format,
        sites::kind_word,
        snapshots::filename::visible,
    },
};

/// The sites, and what to do with them.
pub(in crate::views::job) fn cards(shell: &Shell, job: &Job, cards: &[Card]) -> Markup {
    let new = cards.iter().filter(|card| card.site.is_none()).count();
    let add = |label, keys: Vec<(&'static str, String)>, class, aria| PostButton {
        action: paths::sites::FROM_DISCOVERY.to_owned(),
        label,
        class,
        fields: [("job_id", job.id.to_string())].into_iter().chain(keys).collect(),
        needs: Role::Operator,
        aria,
    };
    html! {
        @if cards.is_empty() {
            (components::empty("No sites found", "No detector knew a file below the folders that were looked through. Name other folders, more levels, or a detector of your own, and run it again.", None))
        } @else {
            section.stack aria-labelledby="found-title" {
                .row.between {
                    h2 #found-title { (format::plural(cards.len() as u64, "site", "sites")) " found" }
                    .row {
                        @if new > 0 {
                            (add(if new == cards.len() { "Add all" } else { "Add all that are new" }, Vec::new(), "primary", String::new()).render(shell))
                        } @else { small { "All are added." } }
                    }
                }
                .discovered {
                    @for found in cards {
                        article.card.pad.stack {
                            .row.between {
                                h3 { (visible(&found.found.fields.name)) }
                                @match &found.site {
                                    Some(_) => (components::pill(Tone::Ok, "Added")),
                                    None => (components::pill(Tone::Idle, "New")),
                                }
                            }
                            (facts(found))
                            .row.end {
                                @match &found.site {
                                    Some(site) => a.btn href=(paths::sites::site(site.id)) aria-label=(format!("Open {}", site.fields.name)) { "Open" },
                                    None => (add("Add", vec![("key", found.found.key.clone())], "", format!("Add {}", found.found.fields.name)).render(shell)),
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn facts(card: &Card) -> Markup {
    let (fields, file) = (&card.found.fields, &card.found.file);
    let fact = |name: &str| fields.facts.get(name).map(String::as_str);
    let database = [fact("db_engine"), fact("db_name")].into_iter().flatten().collect::<Vec<_>>();
    let mut pairs: Vec<(&str, Markup)> = vec![("Kind", html! { (kind_word(&fields.kind)) })];
    // An address out of a stranger's file is shown, not linked.
    pairs.extend(fields.url.as_ref().map(|url| ("Address", html! { (visible(url)) })));
    pairs.extend(fields.root.as_ref().map(|root| ("Folder", html! { code { (visible(root)) } })));
    pairs.extend(
        fields
            .container
            .as_ref()
            .map(|container| ("Container", html! { (container.name) small.line { (container.cli) } })),
    );
    if !database.is_empty() {
        let place = fact("db_host").map(|host| match fact("db_port") {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        pairs.push((
            "Database",
            html! {
                (visible(&database.join(" ")))
                @if let Some(user) = fact("db_user") { small.line { "as " (visible(user)) } }
                @if let Some(place) = place { small.line { "on " (visible(&place)) } }
            },
        ));
    }
    pairs.extend(fact("version").map(|version| ("Version", html! { (visible(version)) })));
    pairs.extend(fact("services").map(|services| ("Services", html! { (visible(services)) })));
    if !file.is_empty() {
        pairs.push(("Told by", html! { small { code { (visible(file)) } } }));
    }
    components::facts(&pairs)
}

/// All else of a discovery: the host's facts, where was looked, its steps.
pub(super) fn render(job: &Job, result: &RunbookResult) -> Markup {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let rows = |name: &str| result.results.get(name).and_then(Value::as_array).into_iter().flatten();
    let host = result.results.get("host").and_then(Value::as_object).into_iter().flatten();
    let host: Vec<(String, Markup)> =
        host.filter_map(|(name, value)| Some((fact_name(name), html! { (visible(value.as_str()?)) }))).collect();
    let host: Vec<(&str, Markup)> = host.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let containers = rows("containers").map(|container| {
        ["name", "cli", "image", "status"]
            .map(|name| html! { (visible(&text(container, name).unwrap_or_default())) })
            .to_vec()
    });
    let looked = rows("scanned").map(|scan| {
        let count = |name: &str| scan.get(name).and_then(Value::as_u64).unwrap_or_default();
        let place = text(scan, "place").unwrap_or_default();
        let said = match text(scan, "error") {
            Some(error) => html! { (components::pill(Tone::Warn, "Not looked at")) " " (visible(&format::sentence(&error))) },
            None => html! {
                (format::plural(count("files"), "file told", "files told"))
                @if count("unreadable") > 0 { ", " (count("unreadable")) " could not be read" }
                @if count("left_out") > 0 { ", " (count("left_out")) " left out: there are too many" }
                @if count("wrong_detectors") > 0 { ". " (format::plural(count("wrong_detectors"), "detector was", "detectors were")) " not understood" }
                @if let Some(keys) = text(scan, "refused_keys") { ". Not read, for it may be a secret: " (visible(&keys)) }
            },
        };
        vec![html! { (visible(if place == "host" { "The host itself" } else { &place })) }, said]
    });
    let bare = RunbookResult { results: serde_json::Map::new(), ..result.clone() };
    html! {
        @if !host.is_empty() { (card("The host", &host)) }
        (table("Containers", &["Name", "By", "Image", "State"], containers.collect()))
        (table("Where was looked", &["Place", "What was seen"], looked.collect()))
        (runbook::render(job, &bare))
    }
}

/// A fact of the host as people write it.
fn fact_name(name: &str) -> String {
    match name {
        "os" => "System".to_owned(),
        "arch" => "Processor".to_owned(),
        "sshd" => "SSH server".to_owned(),
        "postgresql" => "PostgreSQL".to_owned(),
        "postgresql_port" => "PostgreSQL's port".to_owned(),
        "mysql" => "MySQL".to_owned(),
        "mariadb" => "MariaDB".to_owned(),
        "mysql_port" | "mariadb_port" => "Its port".to_owned(),
        "php" => "PHP".to_owned(),
        "restic" | "nginx" => name.to_owned(),
        other => format::sentence_case(&other.replace('_', " ")),
    }
}
