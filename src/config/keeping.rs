//! What the server keeps of itself and for how long: copies of its database (`[database]`), and the logs of jobs (`[logs]`).

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::ConfigError;
use crate::domain::JobKind;

/// `[database]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDatabase {
    /// Whether a copy is made every night.
    pub backup: Option<bool>,
    /// When, UTC.
    pub backup_at: Option<String>,
    /// Days of which a copy is kept.
    pub backup_keep_daily: Option<u32>,
    /// Weeks of which a copy is kept.
    pub backup_keep_weekly: Option<u32>,
    /// Where copies are put.
    pub backup_dir: Option<PathBuf>,
}

/// `[logs]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLogs {
    /// Days that the log of a finished job is kept; 0 for ever.
    pub keep_days: Option<u32>,
    /// The same by kind of job.
    pub keep_days_by_kind: Option<BTreeMap<String, u32>>,
    /// Bytes of text of all logs together; 0 for no bound.
    pub keep_bytes: Option<u64>,
}

/// How copies of the database are made and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Whether a copy is made every night. One can be asked for either way.
    pub nightly: bool,
    /// Hour and minute, UTC.
    pub at: (u32, u32),
    /// The newest copy of so many days is kept.
    pub keep_daily: usize,
    /// The newest copy of so many weeks is kept.
    pub keep_weekly: usize,
    /// Where; `None` for `backups` in the data folder.
    pub dir: Option<PathBuf>,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { nightly: true, at: (2, 40), keep_daily: 7, keep_weekly: 4, dir: None }
    }
}

/// How long the logs of finished jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsConfig {
    /// Days, unless their kind says otherwise; `None` for ever.
    pub days: Option<u32>,
    /// Days by kind of job; `None` for ever.
    pub days_by_kind: Vec<(String, Option<u32>)>,
    /// Bytes of text in all; `None` without bound.
    pub bytes: Option<u64>,
}

impl Default for LogsConfig {
    /// Three months is how far back anyone looks for why a check failed. What was backed up and brought back when is asked after a year, for a review
    /// or after a loss; these logs are short. The bound is of text: on disk it is about a tenth.
    fn default() -> Self {
        Self {
            days: Some(90),
            days_by_kind: vec![("backup".to_owned(), Some(365)), ("restore".to_owned(), Some(365))],
            bytes: Some(20 << 30),
        }
    }
}

impl RawDatabase {
    /// What can be used of it.
    ///
    /// # Errors
    /// [`ConfigError`] with the key.
    pub(super) fn validate(self) -> Result<DatabaseConfig, ConfigError> {
        let usual = DatabaseConfig::default();
        let at = match self.backup_at {
            Some(text) => time_of_day(&text).ok_or_else(|| ConfigError::Value {
                key: "database.backup_at",
                reason: format!("{text:?} is not a time of day in UTC, such as 02:40"),
            })?,
            None => usual.at,
        };
        let kept = |n: Option<u32>, usual: usize| n.map_or(usual, |n| n as usize);
        let keep_daily = kept(self.backup_keep_daily, usual.keep_daily);
        if keep_daily == 0 {
            return Err(ConfigError::Value {
                key: "database.backup_keep_daily",
                reason: "it must be at least 1; `backup = false` makes no copies".to_owned(),
            });
        }
        if self.backup_dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(ConfigError::Value {
                key: "database.backup_dir",
                reason: "it must be an absolute path, such as /srv/flotilla-backups".to_owned(),
            });
        }
        Ok(DatabaseConfig {
            nightly: self.backup.unwrap_or(usual.nightly),
            at,
            keep_daily,
            keep_weekly: kept(self.backup_keep_weekly, usual.keep_weekly),
            dir: self.backup_dir,
        })
    }
}

fn time_of_day(text: &str) -> Option<(u32, u32)> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

impl RawLogs {
    /// What can be used of it. A kind that is named replaces its usual days; one that is not keeps them, unless `keep_days` was given alone.
    ///
    /// # Errors
    /// [`ConfigError`] with the key.
    pub(super) fn validate(self) -> Result<LogsConfig, ConfigError> {
        let usual = LogsConfig::default();
        let forever = |days: u32| (days > 0).then_some(days);
        let named = self.keep_days_by_kind.unwrap_or_default();
        for kind in named.keys() {
            if kind.parse::<JobKind>().is_err() {
                return Err(ConfigError::Value {
                    key: "logs.keep_days_by_kind",
                    reason: format!("{kind:?} is no kind of job, such as backup, restore, check"),
                });
            }
        }
        // Whoever says how long logs are kept means backups too, unless they name them.
        let mut days_by_kind = if self.keep_days.is_some() { Vec::new() } else { usual.days_by_kind };
        days_by_kind.retain(|(kind, _)| !named.contains_key(kind));
        days_by_kind.extend(named.into_iter().map(|(kind, days)| (kind, forever(days))));
        Ok(LogsConfig {
            days: self.keep_days.map_or(usual.days, forever),
            days_by_kind,
            bytes: self.keep_bytes.map_or(usual.bytes, |bytes| (bytes > 0).then_some(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    fn parsed(text: &str) -> Result<crate::config::Config, ConfigError> {
        toml::from_str::<RawConfig>(text).unwrap().validate()
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let config = parsed("[database]\nbackup_at = \"23:05\"\n[logs]\nkeep_days_by_kind = { restore = 0 }").unwrap();
        assert_eq!(config.database, DatabaseConfig { at: (23, 5), ..DatabaseConfig::default() });
        assert_eq!(config.logs.days, Some(90));
        assert_eq!(config.logs.days_by_kind, [("backup".to_owned(), Some(365)), ("restore".to_owned(), None)]);
    }

    #[test]
    fn days_for_all_kinds_count_for_backups_too_unless_they_are_named() {
        let logs = parsed("[logs]\nkeep_days = 30\nkeep_days_by_kind = { check = 7 }\nkeep_bytes = 0").unwrap().logs;
        assert_eq!(logs, LogsConfig { days: Some(30), days_by_kind: vec![("check".to_owned(), Some(7))], bytes: None });
        assert_eq!(parsed("[logs]\nkeep_days = 0").unwrap().logs.days, None);
    }

    #[test]
    fn a_value_that_cannot_be_used_names_its_key() {
        for (text, key) in [
            ("[database]\nbackup_at = \"24:00\"", "database.backup_at"),
            ("[database]\nbackup_keep_daily = 0", "database.backup_keep_daily"),
            ("[database]\nbackup_dir = \"here\"", "database.backup_dir"),
            ("[logs]\nkeep_days_by_kind = { \"No Kind\" = 1 }", "logs.keep_days_by_kind"),
        ] {
            assert!(matches!(parsed(text), Err(ConfigError::Value { key: named, .. }) if named == key), "{text}");
        }
    }
}
