//! Plans: what is backed up, where to, and what is kept. A plan covers the hosts that it names and those that bear one of its tags.

pub mod preset;

use crate::domain::{Hook, HostId, KeepRules, PlanId, PlanOptions, RepoId, Timestamp, schedule::Standing};

/// A backup plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Identity.
    pub id: PlanId,
    /// What people call it.
    pub name: String,
    /// Where to.
    pub repo_id: RepoId,
    /// That repository's name.
    pub repo_name: String,
    /// Where each snapshot is copied to, and that repository's name.
    pub second_repo: Option<(RepoId, String)>,
    /// Hosts named one by one.
    pub hosts: Vec<HostId>,
    /// Hosts with one of these tags are covered too.
    pub tags: Vec<String>,
    /// What.
    pub paths: Vec<String>,
    /// What not: restic's patterns.
    pub excludes: Vec<String>,
    /// How.
    pub options: PlanOptions,
    /// Commands around it.
    pub hooks: Vec<Hook>,
    /// What is kept.
    pub retention: KeepRules,
    /// When; `None` where it runs by hand only.
    pub schedule: Option<Standing>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Plan {
    /// Whether the plan covers a host of this id and these tags.
    #[must_use]
    pub fn covers(&self, host: HostId, tags: &[String]) -> bool {
        self.hosts.contains(&host) || tags.iter().any(|tag| self.tags.contains(tag))
    }
}
