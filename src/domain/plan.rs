//! Plans: what is backed up, where to, and what is kept. A plan covers the hosts that it names and those that bear one of its tags.

use crate::domain::{HostId, KeepRules, PlanId, PlanOptions, RepoId, Timestamp, schedule::Standing};

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
    /// What is kept.
    pub retention: Retention,
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

/// restic's keep rules. All absent: everything is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The last N snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// One for each of the last N hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// One for each of the last N days that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// One for each of the last N weeks that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// One for each of the last N months that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// One for each of the last N years that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
    /// All within a duration such as `1y5m7d2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<String>,
}

impl From<&Retention> for KeepRules {
    fn from(rules: &Retention) -> Self {
        Self {
            keep_last: rules.keep_last,
            keep_hourly: rules.keep_hourly,
            keep_daily: rules.keep_daily,
            keep_weekly: rules.keep_weekly,
            keep_monthly: rules.keep_monthly,
            keep_yearly: rules.keep_yearly,
            keep_within: rules.keep_within.clone(),
            ..Self::default()
        }
    }
}

impl Retention {
    /// Whether nothing is ever removed.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }

    /// The rules in words, such as `7 daily, 4 weekly`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let counts = [
            (self.keep_last, "last"),
            (self.keep_hourly, "hourly"),
            (self.keep_daily, "daily"),
            (self.keep_weekly, "weekly"),
            (self.keep_monthly, "monthly"),
            (self.keep_yearly, "yearly"),
        ];
        let mut words: Vec<String> =
            counts.into_iter().filter_map(|(count, word)| count.map(|n| format!("{n} {word}"))).collect();
        words.extend(self.keep_within.as_ref().map(|span| format!("all within {span}")));
        if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
    }
}
