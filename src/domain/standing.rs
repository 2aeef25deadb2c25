//! How a host stands by its last check of status: one colour, with the reasons in words. The figures are what the runbook `check_status` found; what they mean is decided
//! here, by thresholds that the operator may set, at the moment someone looks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{JobId, Timestamp};

/// The runbook whose results these are.
pub const CHECK: &str = "check_status";

/// Names that a list of figures keeps.
const MOST_NAMES: usize = 20;

/// One word for a host, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Something is broken, or the last check failed.
    Red,
    /// Something will break.
    Yellow,
    /// Nothing is known, or nothing recent.
    Grey,
    /// All is well.
    Green,
}

/// From where on a figure is worth a colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Percent of a disk beyond which it is yellow …
    pub disk_warn: u8,
    /// … and red.
    pub disk_bad: u8,
    /// Percent of memory in use beyond which its bar is yellow …
    pub memory_warn: u8,
    /// … and beyond which the host is.
    pub memory_bad: u8,
    /// Load of one minute beyond which a host is yellow.
    pub load_warn: f64,
    /// Days that a certificate must have left.
    pub certificate_days: u16,
    /// Minutes since cron last ran beyond which it does not count as active. Says no colour: many a cron has nothing to do for an hour.
    pub cron_minutes: u32,
    /// Hours after which a check is too old to say anything.
    pub check_age_hours: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            disk_warn: 80,
            disk_bad: 90,
            memory_warn: 80,
            memory_bad: 90,
            load_warn: 5.0,
            certificate_days: 14,
            cron_minutes: 20,
            check_age_hours: 48,
        }
    }
}

/// What of a check's results is judged: small, so that a list of hosts can be coloured at a glance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The fullest disk and its percent.
    pub disk: Option<(String, u8)>,
    /// Percent of memory in use.
    pub memory: Option<u8>,
    /// Load of one minute.
    pub load: Option<f64>,
    /// Databases that do not accept connections, each with what is said instead.
    pub databases: Vec<(String, String)>,
    /// Services that have to be active and are not.
    pub inactive: Vec<String>,
    /// Units of systemd that have failed.
    pub failed_units: Vec<String>,
    /// The certificate that ends first, and the days that it has left.
    pub certificate: Option<(String, i64)>,
    /// Names that show no certificate.
    pub without_certificate: Vec<String>,
}

impl Figures {
    /// Of the results of `check_status`, whichever way they came. Numbers may be texts; what is absent or odd is left out.
    #[must_use]
    pub fn of(results: &Map<String, Value>) -> Self {
        let disks = rows(results, "disks").map(|disk| (text(disk, "mount"), percent(disk.get("percent"))));
        let root = percent(results.get("disk_usage_percent")).map(|percent| ("/".to_owned(), percent));
        let disks = disks.filter_map(|(mount, percent)| Some((mount?, percent?)));
        let memory = number(results.get("memory_used")).zip(number(results.get("memory_total")));
        let databases = [("PostgreSQL", "postgres"), ("MySQL", "mysql")];
        let databases = databases.into_iter().filter_map(|(name, key)| {
            let said = results.get(key)?.as_str()?;
            (said != "accepting").then(|| (name.to_owned(), said.to_owned()))
        });
        let inactive =
            rows(results, "services").filter(|service| text(service, "state").is_some_and(|at| at != "active"));
        let certificates = rows(results, "certificates")
            .filter_map(|certificate| Some((text(certificate, "domain")?, whole(number(certificate.get("days"))?))));
        Self {
            disk: root.into_iter().chain(disks).max_by_key(|(_, percent)| *percent),
            memory: memory.filter(|(_, total)| *total > 0.0).map(|(used, total)| clamped(used * 100.0 / total)),
            load: number(results.get("load_1m")),
            databases: databases.collect(),
            inactive: inactive.filter_map(|service| text(service, "unit")).take(MOST_NAMES).collect(),
            failed_units: names(results, "failed_units"),
            certificate: certificates.min_by_key(|(_, days)| *days),
            without_certificate: names(results, "certificates_missing"),
        }
    }
}

fn rows<'a>(results: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    results.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn names(results: &Map<String, Value>, name: &str) -> Vec<String> {
    rows(results, name).filter_map(Value::as_str).take(MOST_NAMES).map(str::to_owned).collect()
}

fn text(row: &Value, name: &str) -> Option<String> {
    row.get(name)?.as_str().map(str::to_owned)
}

/// A number, or a text of one.
#[must_use]
pub fn number(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    number.is_finite().then_some(number)
}

fn percent(value: Option<&Value>) -> Option<u8> {
    number(value).map(clamped)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped first")]
fn clamped(percent: f64) -> u8 {
    percent.round().clamp(0.0, 100.0) as u8
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a number that is too big saturates, which is as good as any end"
)]
fn whole(number: f64) -> i64 {
    number as i64
}

/// What is known of a host's checks.
#[derive(Debug, Clone, PartialEq)]
pub struct LastCheck {
    /// The last one that ended.
    pub job_id: JobId,
    /// When it ended.
    pub at: Timestamp,
    /// Why it failed, where it did.
    pub error: Option<String>,
    /// What the last one that did not fail found, which job that was, and when it ended.
    pub found: Option<(Figures, JobId, Timestamp)>,
}

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The worst of the reasons' colours.
    pub colour: Colour,
    /// What speaks against green, worst first.
    pub reasons: Vec<String>,
}

impl Standing {
    /// By what is known.
    #[must_use]
    pub fn of(last: Option<&LastCheck>, thresholds: &Thresholds, now: Timestamp) -> Self {
        let mut found: Vec<(Colour, String)> = Vec::new();
        let Some(last) = last else {
            return Self { colour: Colour::Grey, reasons: vec!["its status was never checked".to_owned()] };
        };
        if let Some(error) = &last.error {
            found.push((Colour::Red, format!("the last check failed: {error}")));
        }
        let age_h = last.found.as_ref().map(|(_, _, at)| (now.unix_ms() - at.unix_ms()) / 3_600_000);
        match (&last.found, age_h) {
            (Some((figures, ..)), Some(age)) if age < i64::from(thresholds.check_age_hours) => {
                figures.judge(thresholds, &mut found);
            }
            (Some(_), Some(age)) => {
                found.push((Colour::Grey, format!("the last good check is {} days old", age / 24)));
            }
            _ => {}
        }
        found.sort_by_key(|(colour, _)| *colour);
        let colour = found.first().map_or(Colour::Green, |(colour, _)| *colour);
        Self { colour, reasons: found.into_iter().map(|(_, reason)| reason).collect() }
    }
}

impl Figures {
    fn judge(&self, thresholds: &Thresholds, found: &mut Vec<(Colour, String)>) {
        if let Some((mount, percent)) = &self.disk {
            let colour = if *percent > thresholds.disk_bad { Some(Colour::Red) } else { None };
            let colour = colour.or((*percent > thresholds.disk_warn).then_some(Colour::Yellow));
            found.extend(colour.map(|colour| (colour, format!("the disk of {mount} is {percent} % full"))));
        }
        for (name, said) in &self.databases {
            let said = match said.as_str() {
                "rejecting" => "rejects connections",
                _ => "does not answer",
            };
            found.push((Colour::Red, format!("{name} {said}")));
        }
        if !self.inactive.is_empty() {
            found.push((Colour::Red, format!("not active: {}", self.inactive.join(", "))));
        }
        match &self.certificate {
            Some((domain, days)) if *days < 0 => {
                found.push((Colour::Red, format!("the certificate of {domain} is no longer valid")));
            }
            Some((domain, days)) if *days < i64::from(thresholds.certificate_days) => {
                found.push((Colour::Yellow, format!("the certificate of {domain} ends in {days} days")));
            }
            _ => {}
        }
        for domain in &self.without_certificate {
            found.push((Colour::Yellow, format!("{domain} shows no certificate")));
        }
        if let Some(load) = self.load.filter(|load| *load > thresholds.load_warn) {
            found.push((Colour::Yellow, format!("the load is {load:.1}")));
        }
        if let Some(memory) = self.memory.filter(|memory| *memory > thresholds.memory_bad) {
            found.push((Colour::Yellow, format!("{memory} % of the memory is in use")));
        }
        if !self.failed_units.is_empty() {
            found.push((Colour::Yellow, format!("failed: {}", self.failed_units.join(", "))));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(results: Value) -> Figures {
        Figures::of(results.as_object().unwrap())
    }

    fn check(results: Value) -> LastCheck {
        let (job_id, at) = (JobId::from_parts(1, 1), Timestamp::from_unix_ms(0));
        LastCheck { job_id, at, error: None, found: Some((figures(results), job_id, at)) }
    }

    fn standing(results: Value) -> (Colour, String) {
        let found = Standing::of(Some(&check(results)), &Thresholds::default(), Timestamp::from_unix_ms(3_600_000));
        (found.colour, found.reasons.join("; "))
    }

    #[test]
    fn a_host_is_green_until_a_figure_passes_its_threshold() {
        let cases = [
            (json!({ "disk_usage_percent": 80, "load_1m": 5.0, "postgres": "accepting" }), Colour::Green, ""),
            (json!({ "disk_usage_percent": 81 }), Colour::Yellow, "the disk of / is 81 % full"),
            (
                json!({ "disk_usage_percent": 12, "disks": [{ "mount": "/srv", "percent": "91" }] }),
                Colour::Red,
                "the disk of /srv is 91 % full",
            ),
            (json!({ "load_1m": "5.1" }), Colour::Yellow, "the load is 5.1"),
            (json!({ "memory_used": 95, "memory_total": 100 }), Colour::Yellow, "95 % of the memory is in use"),
            (json!({ "postgres": "no answer" }), Colour::Red, "PostgreSQL does not answer"),
            (json!({ "mysql": "rejecting" }), Colour::Red, "MySQL rejects connections"),
            (
                json!({ "services": [{ "unit": "a", "state": "active" }, { "unit": "b", "state": "failed" }] }),
                Colour::Red,
                "not active: b",
            ),
            (json!({ "failed_units": ["x.service"] }), Colour::Yellow, "failed: x.service"),
            (
                json!({ "certificates": [{ "domain": "a.example", "days": 80 }, { "domain": "b.example", "days": 13 }] }),
                Colour::Yellow,
                "the certificate of b.example ends in 13 days",
            ),
            (
                json!({ "certificates": [{ "domain": "a.example", "days": -1 }] }),
                Colour::Red,
                "the certificate of a.example is no longer valid",
            ),
            (json!({ "certificates_missing": ["a.example"] }), Colour::Yellow, "a.example shows no certificate"),
        ];
        for (results, colour, reasons) in cases {
            assert_eq!(standing(results.clone()), (colour, reasons.to_owned()), "{results}");
        }
    }

    #[test]
    fn without_a_recent_check_nothing_is_said_and_a_failed_one_is_red_whatever_was_before() {
        let (usual, hour) = (Thresholds::default(), 3_600_000);
        let at = |hours: i64| Timestamp::from_unix_ms(hours * hour);
        assert_eq!(Standing::of(None, &usual, at(0)).colour, Colour::Grey);
        let mut last = check(json!({ "disk_usage_percent": 95 }));
        assert_eq!(Standing::of(Some(&last), &usual, at(47)).colour, Colour::Red);
        let old = Standing::of(Some(&last), &usual, at(72));
        assert_eq!((old.colour, old.reasons), (Colour::Grey, vec!["the last good check is 3 days old".to_owned()]));
        (last.error, last.found) = (Some("it refused the connection".to_owned()), None);
        let failed = Standing::of(Some(&last), &usual, at(1));
        assert_eq!((failed.colour, failed.reasons.len()), (Colour::Red, 1));
    }

    #[test]
    fn the_worst_comes_first_and_odd_values_are_left_out() {
        let (colour, reasons) = standing(json!({ "load_1m": 9, "disk_usage_percent": 99 }));
        assert_eq!((colour, reasons.as_str()), (Colour::Red, "the disk of / is 99 % full; the load is 9.0"));
        let odd = figures(
            json!({ "load_1m": "high", "disks": "none", "services": [1], "memory_total": 0, "memory_used": 3 }),
        );
        assert_eq!(odd, Figures::default());
    }
}
