//! Alerts and the health of repositories.

use super::{Gallery, hostile, now, repo};
use crate::{
    domain::alert::{Alert, AlertKind, Notice},
    paths,
    views::alerts::{AlertsPage, by_gravity},
};

fn alert(no: i64, kind: AlertKind, title: &str, detail: &str) -> Alert {
    let repo = repo("vault").id;
    Alert {
        no,
        notice: Notice {
            kind,
            subject: repo.to_string(),
            title: title.to_owned(),
            detail: detail.to_owned(),
            link: paths::repo(repo),
        },
        raised_at: now().plus_s(-3600 * no),
        cleared_at: None,
        cleared_by: None,
    }
}

/// Two open alerts.
pub(super) fn alerts() -> Vec<Alert> {
    by_gravity(vec![
        alert(
            1,
            AlertKind::StaleLock,
            "vault is locked by a restic that no longer runs",
            "A lock of db-primary (process 4711) is 3 days old. Backups wait behind it or fail. Look at the locks and remove it there.",
        ),
        alert(
            2,
            AlertKind::Damaged,
            "vault is damaged",
            "A check found 2 errors. New backups still work, but some of what is stored can't be restored. Open the guided repair.",
        ),
    ])
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let mut past = alert(3, AlertKind::NearlyFull, &hostile(), "");
    past.cleared_at = Some(now().plus_s(-60));
    let by = Alert { cleared_by: Some("ada".to_owned()), no: 4, ..past.clone() };
    pages.add("alerts", &AlertsPage { open: alerts(), history: vec![by, past], more: true });
    pages.add("alerts-empty", &AlertsPage { open: Vec::new(), history: Vec::new(), more: false });
}
