//! From the fields of a repository's form to what is asked of the operation: an address from its parts, variables from their own fields.

use std::{collections::BTreeMap, num::NonZeroU16};

use crate::{
    domain::{HostId, Secret, address},
    http::{HttpError, extract::FormFields, pages::forms},
    ops::repos::{AuthInput, MaintenanceInput, RepoInput, RepoPatch},
    views::repos::GIB,
};

/// What a form says of a repository's upkeep.
struct Upkeep {
    host: Option<HostId>,
    size_limit: Option<u64>,
    check_days: Option<u32>,
}

/// A repository that is to be added.
///
/// # Errors
/// 422 for parts of an address that are missing, and for numbers and ids that do not parse.
pub(super) fn input(fields: &FormFields) -> Result<RepoInput, HttpError> {
    let username = fields.text("auth.username").trim().to_owned();
    let password = secret(fields, "auth.password");
    let begin = fields.text("begin");
    let upkeep = upkeep(fields)?;
    Ok(RepoInput {
        name: fields.text("name").to_owned(),
        url: url(fields)?,
        password: fields.text("password").into(),
        auth: (!username.is_empty() || password.is_some()).then_some(AuthInput { username, password }),
        maintenance: maintenance(fields),
        env: Some(env(fields, "env.")),
        tls_ca_pem: forms::text(fields, "tls_ca_pem"),
        append_only: fields.is_set("append_only"),
        init: begin == "create" || fields.is_set("init"),
        imported: begin == "take_over",
        maintenance_host_id: upkeep.host,
        size_limit: upkeep.size_limit,
        check_days: upkeep.check_days,
    })
}

/// A change. An empty secret leaves what is set; an empty user takes it away, and so does a tick for it.
///
/// # Errors
/// 422 for parts of an address that are missing, and for numbers and ids that do not parse.
pub(super) fn patch(fields: &FormFields) -> Result<RepoPatch, HttpError> {
    let upkeep = upkeep(fields)?;
    let given = maintenance(fields);
    let drop = fields.is_set("maintenance.remove");
    if drop && given.is_some() {
        return Err(HttpError::invalid_field(
            "maintenance.remove",
            "can't go with new credentials: leave their fields empty, or untick this",
        ));
    }
    let mut env: BTreeMap<String, Option<Secret>> =
        fields.all("env_remove").map(|name| (name.to_owned(), None)).collect();
    env.extend(self::env(fields, "env.").into_iter().map(|(name, value)| (name, Some(value))));
    Ok(RepoPatch {
        name: Some(fields.text("name").to_owned()),
        url: Some(url(fields)?),
        password: secret(fields, "password"),
        auth: Some(
            forms::text(fields, "auth.username")
                .map(|username| AuthInput { username, password: secret(fields, "auth.password") }),
        ),
        maintenance: if drop { Some(None) } else { given.map(Some) },
        env: Some(env),
        tls_ca_pem: Some(forms::text(fields, "tls_ca_pem")),
        append_only: Some(fields.is_set("append_only")),
        init: Some(fields.is_set("init")),
        maintenance_host_id: Some(upkeep.host),
        size_limit: Some(upkeep.size_limit),
        check_days: Some(upkeep.check_days),
    })
}

/// The address, from its parts where there are such. What it would be without one of them is another place, or none.
fn url(fields: &FormFields) -> Result<String, HttpError> {
    let Some(kind) = address::kind(fields.text("kind")) else { return Ok(fields.text("url").to_owned()) };
    let mut reader = forms::Reader::default();
    for part in kind.parts.iter().filter(|part| part.required) {
        let wanted = format!("something like {}", part.example);
        let _: Option<String> = reader.needed(fields, part.name, &wanted);
    }
    if kind.parts.iter().any(|part| part.name == "part.port") {
        let _: Option<NonZeroU16> = reader.value(fields, "part.port", "a port from 1 to 65535");
    }
    reader.refuse()?;
    Ok(address::compose(kind, |part| fields.text(part)))
}

fn secret(fields: &FormFields, name: &str) -> Option<Secret> {
    Some(Secret::from(fields.text(name))).filter(|secret| !secret.is_empty())
}

/// Credentials with the right to delete, where any of it was typed.
fn maintenance(fields: &FormFields) -> Option<MaintenanceInput> {
    let (url, username) = (forms::text(fields, "maintenance.url"), forms::text(fields, "maintenance.username"));
    let env = env(fields, "maintenance.env.");
    let password = secret(fields, "maintenance.password");
    let any = url.is_some() || username.is_some() || password.is_some() || !env.is_empty();
    let env = Some(env).filter(|env| !env.is_empty());
    any.then(|| MaintenanceInput { url, username: username.unwrap_or_default(), password, env })
}

/// Variables that have a field of their own, and those that were named.
fn env(fields: &FormFields, prefix: &str) -> BTreeMap<String, Secret> {
    let own = fields.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.trim())));
    let names = fields.all("env_name").map(str::trim).zip(fields.all("env_value"));
    let named = names.filter(|(name, _)| prefix == "env." && !name.is_empty());
    own.filter(|(_, value)| !value.is_empty())
        .chain(named)
        .map(|(name, value)| (name.to_owned(), Secret::from(value)))
        .collect()
}

fn upkeep(fields: &FormFields) -> Result<Upkeep, HttpError> {
    let mut reader = forms::Reader::default();
    let gib: Option<u64> = reader.value(fields, "size_limit_gib", "a whole number of GiB");
    let upkeep = Upkeep {
        host: reader.value(fields, "maintenance_host_id", "a host's id"),
        size_limit: gib.map(|gib| gib.saturating_mul(GIB)),
        check_days: reader.value(fields, "check_days", "a whole number of days"),
    };
    reader.refuse()?;
    Ok(upkeep)
}
