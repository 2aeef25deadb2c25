//! From where on a host's figures are worth a colour (`[status]`).

use serde::Deserialize;

use super::ConfigError;
use crate::domain::standing::Thresholds;

/// `[status]` as written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStatus {
    /// Percent of a disk.
    pub disk_warn: Option<u8>,
    /// Percent of a disk.
    pub disk_bad: Option<u8>,
    /// Percent of the memory.
    pub memory_warn: Option<u8>,
    /// Percent of the memory.
    pub memory_bad: Option<u8>,
    /// Load of one minute.
    pub load_warn: Option<f64>,
    /// Days that a certificate must have left.
    pub certificate_days: Option<u16>,
    /// Minutes since cron last ran.
    pub cron_minutes: Option<u32>,
    /// Hours that a check counts.
    pub check_age_hours: Option<u32>,
}

impl RawStatus {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that can't be used.
    pub fn validate(self) -> Result<Thresholds, ConfigError> {
        let usual = Thresholds::default();
        let (disk_warn, disk_bad) = pair(
            "status.disk_bad",
            self.disk_warn.unwrap_or(usual.disk_warn),
            self.disk_bad.unwrap_or(usual.disk_bad),
        )?;
        let memory = (self.memory_warn.unwrap_or(usual.memory_warn), self.memory_bad.unwrap_or(usual.memory_bad));
        let (memory_warn, memory_bad) = pair("status.memory_bad", memory.0, memory.1)?;
        let load_warn = self.load_warn.unwrap_or(usual.load_warn);
        if !load_warn.is_finite() || load_warn <= 0.0 {
            return Err(ConfigError::Value {
                key: "status.load_warn",
                reason: format!("{load_warn} is no load above 0"),
            });
        }
        let check_age_hours = self.check_age_hours.unwrap_or(usual.check_age_hours);
        if check_age_hours == 0 {
            let reason = "0 hours: every check would be too old; it must be 1 or more".to_owned();
            return Err(ConfigError::Value { key: "status.check_age_hours", reason });
        }
        Ok(Thresholds {
            disk_warn,
            disk_bad,
            memory_warn,
            memory_bad,
            load_warn,
            certificate_days: self.certificate_days.unwrap_or(usual.certificate_days),
            cron_minutes: self.cron_minutes.unwrap_or(usual.cron_minutes),
            check_age_hours,
        })
    }
}

fn pair(key: &'static str, warn: u8, bad: u8) -> Result<(u8, u8), ConfigError> {
    if warn > bad || bad > 100 {
        let reason = format!("{warn} and {bad} percent; the first must not be above the second, nor that above 100");
        return Err(ConfigError::Value { key, reason });
    }
    Ok((warn, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_that_makes_no_sense_names_its_key() {
        let parsed = |text: &str| toml::from_str::<RawStatus>(text).unwrap().validate();
        assert_eq!(parsed("").unwrap(), Thresholds::default());
        assert_eq!(parsed("disk_warn = 85\nload_warn = 16.0").unwrap().disk_warn, 85);
        for (text, wrong) in [
            ("disk_warn = 95", "status.disk_bad"),
            ("memory_bad = 101", "status.memory_bad"),
            ("load_warn = 0.0", "status.load_warn"),
            ("check_age_hours = 0", "status.check_age_hours"),
        ] {
            assert!(matches!(parsed(text), Err(ConfigError::Value { key, .. }) if key == wrong), "{text}");
        }
    }
}
