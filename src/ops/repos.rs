//! Repositories: adding, changing, removing them. Secrets are sealed here, as one blob per repository, before anything is written, and
//! opened only by [`secrets`]; a read of a repository never holds one.

mod check;
mod uses;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

pub(super) use check::is_absolute;
pub use uses::{Uses, uses};

use crate::{
    credential,
    domain::{
        HostId, RepoId, Secret, check_name,
        job::Actor,
        repo::{Maintenance, Repo, RepoSecrets, Upkeep, seal_identity},
    },
    ops::error::{OpError, Problems},
    store::{
        Db, Store, StoreError, WriteTx, audit, hosts,
        repos::{self, RepoFields, SealedSecrets},
    },
    vault::{Vault, VaultError},
};

/// A repository that is to be added.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepoInput {
    /// What people call it; unique.
    pub name: String,
    /// restic's address, without credentials, such as `rest:https://vault:8000/`.
    pub url: String,
    /// The repository's password.
    #[serde(default)]
    #[schema(value_type = String)]
    pub password: Secret,
    /// User at a REST server, with append-only rights.
    #[serde(default)]
    pub auth: Option<AuthInput>,
    /// Another way to the same repository with the right to delete; never sent to an endpoint.
    #[serde(default)]
    pub maintenance: Option<MaintenanceInput>,
    /// More environment for restic's back end, such as `AWS_ACCESS_KEY_ID`.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub env: Option<BTreeMap<String, Secret>>,
    /// PEM of the authority that signed the server's certificate.
    #[serde(default)]
    pub tls_ca_pem: Option<String>,
    /// Whether these credentials can only add.
    #[serde(default)]
    pub append_only: bool,
    /// Whether the first backup may create the repository.
    #[serde(default)]
    pub init: bool,
    /// It is there already and is taken over as it is: goes without `init`.
    #[serde(default)]
    pub imported: bool,
    /// The host on which forget, prune, tag and repair run; where absent: the control plane's own agent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub maintenance_host_id: Option<HostId>,
    /// Bytes that it may grow to.
    #[serde(default)]
    pub size_limit: Option<u64>,
    /// All data is to be read within so many days, 1 to 3650.
    #[serde(default)]
    pub check_days: Option<u32>,
}

/// Credentials at a REST server.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthInput {
    /// User.
    pub username: String,
    /// That user's password; in a change, absent means as it was.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub password: Option<Secret>,
}

/// Credentials with the right to delete.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceInput {
    /// Address, where it differs.
    #[serde(default)]
    pub url: Option<String>,
    /// User at a REST server.
    #[serde(default)]
    pub username: String,
    /// That user's password; in a change, absent means as it was.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub password: Option<Secret>,
    /// For other kinds: variables that take the place of the repository's own, such as `AWS_ACCESS_KEY_ID`.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub env: Option<BTreeMap<String, Secret>>,
}

/// A change of a repository: what is absent stays as it was; `null` takes away what may be absent.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepoPatch {
    /// What people call it.
    pub name: Option<String>,
    /// restic's address.
    pub url: Option<String>,
    /// A new password (of the repository as it is; this does not change the repository).
    #[schema(value_type = Option<String>)]
    pub password: Option<Secret>,
    /// User at a REST server.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<AuthInput>)]
    pub auth: Option<Option<AuthInput>>,
    /// Another way with the right to delete.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<MaintenanceInput>)]
    pub maintenance: Option<Option<MaintenanceInput>>,
    /// Variables to set, or to take away with `null`.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub env: Option<BTreeMap<String, Option<Secret>>>,
    /// PEM of the server's authority.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub tls_ca_pem: Option<Option<String>>,
    /// Whether these credentials can only add.
    pub append_only: Option<bool>,
    /// Whether the first backup may create the repository.
    pub init: Option<bool>,
    /// The host on which forget, prune, tag and repair run; `null`: the control plane's own agent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub maintenance_host_id: Option<Option<HostId>>,
    /// Bytes that it may grow to.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub size_limit: Option<Option<u64>>,
    /// All data is to be read within so many days.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    pub check_days: Option<Option<u32>>,
}

/// Tells `null` from absent.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What is stored of a repository, in clear, for a moment.
struct Draft {
    fields: RepoFields,
    secrets: RepoSecrets,
    upkeep: Upkeep,
}

/// Adds a repository.
///
/// # Errors
/// [`OpError::Invalid`], [`OpError::Conflict`] where the name is taken, or a failure.
pub async fn create(store: &Store, vault: &Vault, actor: Actor, input: RepoInput) -> Result<Repo, OpError> {
    let draft = draft(input)?;
    let (random, vault) = (credential::random_bits()?, vault.clone());
    store
        .write(move |tx| {
            let id = RepoId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            let sealed = seal(&vault, id, &draft.secrets)?;
            check_host(tx.db(), &draft.upkeep)?;
            repos::insert(tx, id, &draft.fields, &sealed).map_err(|e| taken(e, &draft.fields.name))?;
            repos::set_upkeep(tx, id, &draft.upkeep)?;
            let repo = repos::lookup(tx.db(), id)?.ok_or(OpError::NotFound("repository"))?;
            audit::record(tx, &actor, "repo.create", &id.to_string(), &format!("{} at {}", repo.name, repo.url))?;
            Ok(repo)
        })
        .await
}

/// Changes a repository and returns it as it is then.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`], [`OpError::Conflict`], or a failure.
pub async fn update(store: &Store, vault: &Vault, actor: Actor, id: RepoId, patch: RepoPatch) -> Result<Repo, OpError> {
    let vault = vault.clone();
    store
        .write(move |tx| {
            let before = repos::lookup(tx.db(), id)?.ok_or(OpError::NotFound("repository"))?;
            let secrets = open(&vault, id, repos::sealed_secrets(tx.db(), id)?)?;
            let draft = draft(patched(before, secrets, patch))?;
            let sealed = seal(&vault, id, &draft.secrets)?;
            check_host(tx.db(), &draft.upkeep)?;
            repos::update(tx, id, &draft.fields, &sealed).map_err(|e| taken(e, &draft.fields.name))?;
            repos::set_upkeep(tx, id, &draft.upkeep)?;
            audit::record(tx, &actor, "repo.update", &id.to_string(), &draft.fields.name)?;
            repos::lookup(tx.db(), id)?.ok_or(OpError::NotFound("repository"))
        })
        .await
}

fn check_host(db: &Db, upkeep: &Upkeep) -> Result<(), OpError> {
    match upkeep.maintenance_host_id {
        Some(id) if hosts::lookup(db, id)?.is_none() => {
            Err(OpError::field("maintenance_host_id", "names no host: GET /api/hosts lists them"))
        }
        _ => Ok(()),
    }
}

/// Removes a repository from Flotilla, and its secrets for good; what it holds is not touched. Refused while a plan, a schedule or a job under way uses it, as its
/// own or to copy to.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] that names plans and schedules, or a failure.
pub async fn remove(store: &Store, actor: Actor, id: RepoId) -> Result<(), OpError> {
    store.write(move |tx| remove_in(tx, &actor, id)).await
}

fn remove_in(tx: &mut WriteTx<'_>, actor: &Actor, id: RepoId) -> Result<(), OpError> {
    let repo = repos::lookup(tx.db(), id)?.ok_or(OpError::NotFound("repository"))?;
    let uses = uses(tx.db(), id)?;
    let plans: Vec<String> = uses.plans.into_iter().map(|plan| plan.name).collect();
    let schedules: Vec<String> =
        uses.schedules.iter().map(|own| format!("{} of {}", own.kind, own.host_name)).collect();
    if let Some(text) = in_use(&repo.name, &plans, &schedules) {
        return Err(OpError::Conflict(text));
    }
    if let Some(job) = uses::under_way(tx.db(), id)? {
        let (kind, host, status) = (&job.kind, &job.host_name, job.status);
        let what = if job.repo_id == Some(id) { format!("a {kind}") } else { format!("a {kind} to it") };
        return Err(OpError::Conflict(format!("{what} on {host} is {status}: wait for it or cancel it first")));
    }
    repos::remove(tx, id)?;
    audit::record(tx, actor, "repo.remove", &id.to_string(), &repo.name)?;
    Ok(())
}

/// What keeps a repository from being removed, and what to do about it.
fn in_use(repo: &str, plans: &[String], schedules: &[String]) -> Option<String> {
    let remedy = match (plans, schedules) {
        ([], []) => return None,
        (_, []) => "point them to another repository or remove them first",
        ([], _) => "remove what is scheduled first",
        _ => "point the plans to another repository or remove them, and remove the schedules, first",
    };
    let schedules = schedules.iter().map(|schedule| format!("the schedule of the {schedule}"));
    let names: Vec<String> = plans.iter().cloned().chain(schedules).collect();
    Some(format!("{repo} is used by {}: {remedy}", names.join(", ")))
}

/// The secrets of a repository in clear: for the one who sends them to an agent.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Vault`] where the master key is another one, or a failure.
pub async fn secrets(store: &Store, vault: &Vault, id: RepoId) -> Result<RepoSecrets, OpError> {
    let sealed = store.read(move |db| repos::sealed_secrets(db, id)).await?;
    open(vault, id, sealed)
}

fn seal(vault: &Vault, id: RepoId, secrets: &RepoSecrets) -> Result<SealedSecrets, OpError> {
    let plain = serde_json::to_vec(secrets).map(Zeroizing::new).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    Ok(SealedSecrets { sealed: vault.seal(&seal_identity(id), &plain)?, names: secrets.names() })
}

fn open(vault: &Vault, id: RepoId, sealed: Option<Vec<u8>>) -> Result<RepoSecrets, OpError> {
    let plain = vault.open_sealed(&seal_identity(id), &sealed.ok_or(OpError::NotFound("repository"))?)?;
    // What serde would say of a misfit could quote the secret.
    serde_json::from_slice(&plain).map_err(|_| OpError::Vault(VaultError::Sealed))
}

fn taken(error: StoreError, name: &str) -> OpError {
    if error.is_conflict() {
        OpError::Conflict(format!("a repository called {name:?} is there already: choose another name"))
    } else {
        error.into()
    }
}

/// `input` as it will be stored, or all that is wrong with it.
fn draft(input: RepoInput) -> Result<Draft, OpError> {
    let mut problems = Problems::default();
    let name = problems.take("name", check_name(&input.name));
    let url = problems.take("url", check::url(&input.url));
    if input.password.is_empty() {
        problems.add("password", "is missing: restic encrypts every repository with one");
    } else {
        problems.take("password", check::secret(input.password.expose()));
    }
    let auth = input.auth.filter(|auth| !auth.username.is_empty() || auth.password.is_some());
    check_auth(&mut problems, &input.url, auth.as_ref());
    let (username, auth_password) = auth.map_or((None, None), |auth| (Some(auth.username), auth.password));
    let maintenance = input.maintenance.map(|given| maintenance(&mut problems, &input.url, given));
    let env = input.env.unwrap_or_default();
    for (key, value) in &env {
        let field = format!("env.{key}");
        problems.take(&field, check::env_name(key).and_then(|()| check::secret(value.expose())));
    }
    let pem = input.tls_ca_pem.filter(|text| !text.trim().is_empty());
    let tls_ca_pem = pem.and_then(|text| problems.take("tls_ca_pem", check::pem(&text)));
    if input.check_days.is_some_and(|days| !(1..=3650).contains(&days)) {
        problems.add("check_days", "must be 1 to 3650 days");
    }
    if input.size_limit.is_some_and(|bytes| !(1..=1 << 60).contains(&bytes)) {
        problems.add("size_limit", "must be 1 byte to 1 EiB; leave it out where there is no limit");
    }
    if input.imported && input.init {
        problems.add("init", "can't go with a repository that is taken over: that is there already");
    }
    problems.refuse()?;
    let upkeep = Upkeep {
        maintenance_host_id: input.maintenance_host_id,
        size_limit: input.size_limit,
        check_days: input.check_days,
        imported: input.imported,
    };
    let fields = RepoFields {
        name: name.unwrap_or_default(),
        url: url.unwrap_or_default(),
        username,
        append_only: input.append_only,
        init: input.init,
        tls_ca_pem,
    };
    Ok(Draft { fields, upkeep, secrets: RepoSecrets { password: input.password, auth_password, maintenance, env } })
}

fn check_auth(problems: &mut Problems, url: &str, auth: Option<&AuthInput>) {
    let Some(auth) = auth else { return };
    if !url.trim().starts_with("rest:") {
        problems.add("auth", "is only for REST servers (rest:…): give credentials of other kinds in env");
    }
    if auth.username.is_empty()
        || auth.username.len() > 200
        || auth.username.chars().any(|c| c.is_control() || c == ':')
    {
        problems.add("auth.username", "must have 1 to 200 characters, no colon among them");
    }
    match &auth.password {
        Some(password) => {
            problems.take("auth.password", check::secret(password.expose()));
        }
        None => problems.add("auth.password", "is missing"),
    }
}

fn maintenance(problems: &mut Problems, own_url: &str, given: MaintenanceInput) -> Maintenance {
    let url = given.url.filter(|url| !url.trim().is_empty());
    let url = url.and_then(|url| problems.take("maintenance.url", check::url(&url)));
    let (env, password) = (given.env.unwrap_or_default(), given.password.unwrap_or_default());
    let rest = url.as_deref().unwrap_or(own_url).trim().starts_with("rest:");
    match (given.username.is_empty(), password.is_empty()) {
        (true, true) if env.is_empty() && url.is_none() => {
            let text = if rest { "must not be empty" } else { "is missing, and so are variables in maintenance.env" };
            problems.add("maintenance.username", text);
        }
        (true, false) => problems.add("maintenance.username", "must not be empty"),
        (false, true) => problems.add("maintenance.password", "is missing"),
        (false, false) if !rest => {
            problems
                .add("maintenance.username", "is only for REST servers (rest:…): give maintenance.env for other kinds");
        }
        _ => {}
    }
    if !password.is_empty() {
        problems.take("maintenance.password", check::secret(password.expose()));
    }
    for (key, value) in &env {
        problems
            .take(&format!("maintenance.env.{key}"), check::env_name(key).and_then(|()| check::secret(value.expose())));
    }
    Maintenance { url, username: given.username, password, env }
}

/// What a stored repository is after a change, as if it were given anew.
fn patched(before: Repo, secrets: RepoSecrets, patch: RepoPatch) -> RepoInput {
    let kept_auth = before.username.map(|username| AuthInput { username, password: secrets.auth_password.clone() });
    let auth = match patch.auth {
        // A change of the name alone keeps the password.
        Some(Some(given)) => {
            let password = given.password.or(secrets.auth_password);
            Some(AuthInput { username: given.username, password })
        }
        Some(None) => None,
        None => kept_auth,
    };
    let as_input = |m: Maintenance| MaintenanceInput {
        url: m.url,
        username: m.username,
        password: Some(m.password),
        env: Some(m.env),
    };
    let maintenance = match (patch.maintenance, secrets.maintenance) {
        // Secrets that are not given again stay.
        (Some(Some(given)), Some(kept)) => Some(MaintenanceInput {
            password: given.password.or_else(|| (given.username == kept.username).then_some(kept.password)),
            env: given.env.or(Some(kept.env)),
            ..given
        }),
        (Some(given), _) => given,
        (None, kept) => kept.map(as_input),
    };
    let mut env = secrets.env;
    for (name, value) in patch.env.unwrap_or_default() {
        match value {
            Some(value) => env.insert(name, value),
            None => env.remove(&name),
        };
    }
    RepoInput {
        name: patch.name.unwrap_or(before.name),
        url: patch.url.unwrap_or(before.url),
        password: patch.password.unwrap_or(secrets.password),
        auth,
        maintenance,
        env: Some(env),
        tls_ca_pem: patch.tls_ca_pem.unwrap_or(before.tls_ca_pem),
        append_only: patch.append_only.unwrap_or(before.append_only),
        init: patch.init.unwrap_or(before.init),
        imported: before.upkeep.imported,
        maintenance_host_id: patch.maintenance_host_id.unwrap_or(before.upkeep.maintenance_host_id),
        size_limit: patch.size_limit.unwrap_or(before.upkeep.size_limit),
        check_days: patch.check_days.unwrap_or(before.upkeep.check_days),
    }
}

#[cfg(test)]
mod tests;
