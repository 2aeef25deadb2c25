//! The dashboard and its live part.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{JobStatus, host::HostStatus, protection::Protection, user::Role},
    http::{
        HttpError,
        extract::Query,
        pages::{Ui, hosts::row_of, jobs::listed},
    },
    ops::survey::{self, Survey, Surveyed},
    store::{
        StoreError,
        alerts::{self, AlertFilter},
        hosts::HostFilter,
        jobs::{self, JobFilter},
    },
    views::{
        alerts::by_gravity,
        components::HostRef,
        dashboard::{DashboardLive, DashboardPage, Needy, Remedy, Stats},
        hosts::HostRow,
    },
};

/// Jobs in the list of the latest.
const RECENT: u32 = 10;

/// Whether only the live part is asked for.
#[derive(Debug, Deserialize)]
pub struct DashboardQuery {
    fragment: Option<String>,
}

/// `GET /`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn show(ui: Ui, Query(query): Query<DashboardQuery>) -> Result<Response, HttpError> {
    let live = live(&ui).await?;
    if query.fragment.is_some() {
        return ui.fragment(|shell| live.render(shell)).await;
    }
    ui.show(&DashboardPage { live }).await
}

async fn live(ui: &Ui) -> Result<DashboardLive, HttpError> {
    let now = ui.now();
    let survey = survey::take(ui.store(), &ui.state.hub, now, HostFilter::default()).await?;
    let desk = ui.state.desk();
    let (counts, recent, alerts) = ui
        .store()
        .read(move |db| {
            let counts = jobs::counts(db, now.plus_s(-86_400))?;
            let latest = JobFilter { limit: RECENT, ..JobFilter::default() };
            let open = AlertFilter { open: Some(true), ..AlertFilter::default() };
            Ok::<_, StoreError>((counts, listed(db, (&desk, now), &latest)?, by_gravity(alerts::list(db, &open)?)))
        })
        .await?;
    let mut needy: Vec<Needy> = survey.hosts.iter().filter_map(needy).collect();
    needy.sort_by(|a, b| a.protection.cmp(&b.protection).then_with(|| a.host.name.cmp(&b.host.name)));
    let mut rows: Vec<HostRow> = survey.hosts.iter().map(row_of).collect();
    HostRow::sort_by_risk(&mut rows);
    let hosts_total = survey.hosts.len() as u64;
    let without_agent =
        survey.hosts.iter().filter(|host| host.assessment.protection == Protection::NoAgent).count() as u64;
    let trouble = if ui.user.role == Role::Admin { ui.state.database.trouble().await? } else { None };
    Ok(DashboardLive {
        trouble,
        hosts_total,
        protected: hosts_total - without_agent - needy.len() as u64,
        without_agent,
        alerts,
        needy,
        stats: stats(&survey, &counts),
        rows,
        recent,
    })
}

fn stats(survey: &Survey, counts: &[(JobStatus, u64)]) -> Stats {
    let of = |wanted: &[JobStatus]| counts.iter().filter(|(status, _)| wanted.contains(status)).map(|(_, n)| n).sum();
    let covered = survey.hosts.iter().filter_map(|host| host.assessment.last_size);
    Stats {
        fine: of(&[JobStatus::Succeeded]),
        warnings: of(&[JobStatus::Warning]),
        failed: of(&[JobStatus::Failed, JobStatus::Lost]),
        running: of(&[JobStatus::Running]),
        queued: of(&[JobStatus::Queued]),
        covered: covered.fold(0, u64::saturating_add),
        added: survey.added_last_day,
        with_restic: survey.hosts.iter().filter(|host| host.host.restic_version.is_some()).count() as u64,
    }
}

fn needy(surveyed: &Surveyed) -> Option<Needy> {
    let assessment = &surveyed.assessment;
    let remedy = match (assessment.protection, assessment.last_bad, assessment.worst_plan) {
        (protection, ..) if !protection.needs_someone() => return None,
        (Protection::Failed, Some(job), _) => Remedy::OpenJob(job),
        (Protection::NoPlan, ..) => Remedy::MakePlan,
        (Protection::Late | Protection::NeverBackedUp, _, Some(plan)) if surveyed.status == HostStatus::Online => {
            Remedy::BackUp(plan)
        }
        _ => Remedy::OpenHost,
    };
    Some(Needy {
        host: HostRef { id: surveyed.host.id, name: surveyed.host.name.clone() },
        protection: assessment.protection,
        reason: assessment.reason.clone(),
        remedy,
    })
}
