//! Repositories: where backups go. What an endpoint may know of one is its address and append-only credentials; nothing here prints a secret.

use std::collections::BTreeMap;

use crate::domain::{HostId, RepoId, Secret, Timestamp};

/// A repository, without its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Repo {
    /// Identity.
    pub id: RepoId,
    /// What people call it.
    pub name: String,
    /// restic's address, without credentials.
    pub url: String,
    /// User at a REST server.
    pub username: Option<String>,
    /// Whether the endpoints' credentials can only add.
    pub append_only: bool,
    /// Whether a missing repository may be created by the first backup.
    pub init: bool,
    /// PEM of the authority that signed the server's certificate.
    pub tls_ca_pem: Option<String>,
    /// Names of the secrets that are set: `password`, `auth.password`, `maintenance`, `env.NAME`.
    pub secrets_set: Vec<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Who looks after it, and how.
    pub upkeep: Upkeep,
}

/// What a repository's owner says of its upkeep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// The host on which forget, prune, tag and repair run; `None`: the control plane's own agent.
    pub maintenance_host_id: Option<HostId>,
    /// Bytes that it may grow to.
    pub size_limit: Option<u64>,
    /// All data is to be read within so many days; `None`: checks look at the structure only.
    pub check_days: Option<u32>,
    /// It was there before Flotilla: nothing in it is to be created.
    pub imported: bool,
}

impl Repo {
    /// Whether credentials are set that may delete where the endpoints' own may not.
    #[must_use]
    pub fn has_maintenance(&self) -> bool {
        self.secrets_set.iter().any(|name| name == "maintenance")
    }
}

/// What a repository's secrets are sealed for: they open in its own row only.
#[must_use]
pub fn seal_identity(id: RepoId) -> String {
    format!("repos/{id}/secrets")
}

/// A repository's secrets, sealed as one in the store.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RepoSecrets {
    /// The repository's password.
    pub password: Secret,
    /// Password of the REST user.
    pub auth_password: Option<Secret>,
    /// Admin credentials; never sent to an endpoint.
    pub maintenance: Option<Maintenance>,
    /// More environment for restic.
    pub env: BTreeMap<String, Secret>,
}

/// Another way to the same repository, with the right to delete. Never sent to an endpoint.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Maintenance {
    /// Address, where it differs.
    pub url: Option<String>,
    /// User at a REST server; empty for other kinds.
    pub username: String,
    /// That user's password; empty for other kinds.
    pub password: Secret,
    /// Environment that takes the place of the repository's own, name by name: the keys of a bucket's owner.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
}

impl RepoSecrets {
    /// Names of the secrets that are set.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if !self.password.is_empty() {
            names.push("password".to_owned());
        }
        if self.auth_password.is_some() {
            names.push("auth.password".to_owned());
        }
        if self.maintenance.is_some() {
            names.push("maintenance".to_owned());
        }
        names.extend(self.env.keys().map(|key| format!("env.{key}")));
        names
    }
}
