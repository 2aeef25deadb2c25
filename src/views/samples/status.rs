//! Checks of status: a host with everything that can be found, and standings of each colour.

use serde_json::json;

use super::{host_id, hostile, now};
use crate::{
    domain::{
        JobId,
        standing::{Colour, Figures, LastCheck, Standing, Thresholds},
    },
    views::status::StatusCard,
};

/// What a check can find.
pub(super) fn results() -> serde_json::Map<String, serde_json::Value> {
    let found = json!({
        "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-28-amd64",
        "disk_usage_percent": 41, "disk_total": 80_000_000_000_u64, "disk_available": 45_000_000_000_u64,
        "disks": [
            { "mount": "/", "percent": 41, "total": 80_000_000_000_u64, "available": 45_000_000_000_u64 },
            { "mount": "/srv", "percent": 93, "total": 500_000_000_000_u64, "available": 35_000_000_000_u64 },
        ],
        "memory_total": 16_000_000_000_u64, "memory_used": 13_400_000_000_u64, "memory_available": 2_600_000_000_u64,
        "load_1m": 2.31, "load_5m": 1.98, "load_15m": 1.4, "cpus": 4, "uptime_s": 3_600_000,
        "postgres": "accepting", "postgres_version": "15.14", "mysql": "no answer",
        "databases": [{ "engine": "postgresql", "name": hostile(), "size": 7_000_000_000_u64 }],
        "services": [{ "unit": "nginx.service", "state": "active" }, { "unit": "app.service", "state": "failed" }],
        "failed_units": ["app.service"],
        "certificates": [{ "domain": "shop.example.org", "expires_at": "2026-12-01T00:00:00Z", "days": 9 }],
        "cron_last_run": "2026-11-21T07:00:00Z", "cron_age_s": 3000,
        "containers": [{ "name": "web", "image": "nginx:1.29", "status": "Up 3 days" }],
        "listening": [{ "address": "0.0.0.0", "port": 443, "program": "nginx" }],
        "log_readable": true, "recent_errors": [hostile(), "FATAL: out of memory"],
    });
    found.as_object().cloned().unwrap_or_default()
}

/// The card of a host in trouble.
pub(super) fn card() -> StatusCard {
    let (results, job, thresholds) = (results(), JobId::from_parts(1, 77), Thresholds::default());
    let at = now().plus_s(-3600);
    let last = LastCheck { job_id: job, at, error: None, found: Some((Figures::of(&results), job, at)) };
    let standing = Standing::of(Some(&last), &thresholds, now());
    StatusCard { host: host_id(1), standing, last: Some(last), results, thresholds }
}

/// One of each colour, and none.
pub(super) fn standing(n: u64) -> Option<Standing> {
    let of = |colour, reason: &str| Standing { colour, reasons: vec![reason.to_owned()] };
    match n % 5 {
        0 => Some(of(Colour::Red, "the disk of /srv is 93 % full")),
        1 => Some(of(Colour::Yellow, &hostile())),
        2 => Some(of(Colour::Grey, "the last good check is 3 days old")),
        3 => Some(Standing { colour: Colour::Green, reasons: Vec::new() }),
        _ => None,
    }
}
