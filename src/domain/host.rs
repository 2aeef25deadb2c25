//! Hosts: machines that Flotilla looks after. A host's slug is given once and never changes: restic finds a host's snapshots by it.

use crate::domain::{HostId, Timestamp};

/// Whether a host's agent holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostStatus {
    /// Connected now.
    Online,
    /// Was connected before.
    Offline,
    /// Never was.
    Never,
}

impl HostStatus {
    /// The word for it in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Never => "never",
        }
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Identity.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// Unique among hosts, `[a-z0-9-]`, for life; restic's `--host`.
    pub slug: String,
    /// Labels.
    pub tags: Vec<String>,
    /// `linux`, `windows`, … once the agent said so.
    pub os: Option<String>,
    /// `x86_64`, …
    pub arch: Option<String>,
    /// The machine's name for itself.
    pub hostname: Option<String>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Version of its restic; `None` where the agent found none, or never came.
    pub restic_version: Option<String>,
    /// Last sign of life that was written down (every half minute at most).
    pub last_seen_at: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
    /// The agent's identity was revoked: it cannot connect until enrolled again.
    pub revoked_at: Option<Timestamp>,
    /// It has an agent that may connect; one without is reached by its other facets only.
    pub enrolled: bool,
    /// It is the control plane's own agent: no part of the fleet.
    pub own: bool,
}

impl Host {
    /// Whether it has an agent, or had one: else it is reached by its other facets only.
    #[must_use]
    pub fn has_agent(&self) -> bool {
        self.own || self.enrolled || self.revoked_at.is_some() || self.last_seen_at.is_some()
    }
}

#[cfg(test)]
impl Host {
    /// One called `web`, of which nothing else is known.
    pub(crate) fn bare(enrolled: bool) -> Self {
        Self {
            id: HostId::from_parts(1, 1),
            name: "web".to_owned(),
            slug: "web".to_owned(),
            tags: Vec::new(),
            os: None,
            arch: None,
            hostname: None,
            agent_version: None,
            restic_version: None,
            last_seen_at: None,
            created_at: Timestamp::from_unix_ms(0),
            revoked_at: None,
            enrolled,
            own: false,
        }
    }
}

/// `name` as a slug: lower case, everything else than letters and digits becomes one `-`.
#[must_use]
pub fn slug_of(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_matches('-');
    let cut = slug.get(..slug.len().min(50)).unwrap_or(slug).trim_end_matches('-');
    if cut.is_empty() { "host".to_owned() } else { cut.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::slug_of;

    #[test]
    fn a_slug_keeps_letters_and_digits_and_joins_the_rest_by_one_dash() {
        for (name, slug) in
            [("Web 1", "web-1"), ("  DB__primary.eu ", "db-primary-eu"), ("Büro", "b-ro"), ("…", "host"), ("", "host")]
        {
            assert_eq!(slug_of(name), slug, "{name:?}");
        }
        assert!(slug_of(&"x".repeat(200)).len() <= 50);
    }
}
