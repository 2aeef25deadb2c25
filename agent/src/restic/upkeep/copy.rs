//! Copies to a second repository. It is looked at first, and created where that is wished, with the first one's way of cutting data, so that both store what
//! they share once. A list of it proves the end.

use std::collections::HashSet;

use flotilla_proto::{CopyResult, CopySpec, JobStatus, Operation, SnapshotRecord, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{Broke, Desk, Memo, Next, Ran, named};
use crate::{
    restic::{
        command::Session,
        preflight::{self, Refusal},
    },
    sink::JobOutcome,
};

/// What a snapshot is known by in both repositories: a copy has another id, the same tree and time.
type Likeness = (String, Option<Timestamp>);

/// What the run proper is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Meant {
    /// Id and likeness of each that is to be there in the end.
    wanted: Vec<(String, Likeness)>,
    /// Likenesses of what the second repository had.
    before: HashSet<Likeness>,
}

fn likeness(snapshot: &SnapshotRecord) -> Likeness {
    (snapshot.tree.clone(), snapshot.time)
}

fn likenesses(list: &[SnapshotRecord]) -> HashSet<Likeness> {
    list.iter().map(likeness).collect()
}

pub(super) async fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    let Some(Operation::Copy(spec)) = &desk.order.operation else { return Err(Broke::no_details(desk.order)) };
    let to =
        desk.second.ok_or_else(|| Broke::words("the order names no second repository; choose one and run it again"))?;
    // First: it checks the order.
    let launch = desk.session.copy(to, spec)?;
    if desk.session.address.shown == to.address.shown {
        return Err(Broke::words("the second repository is the first one; choose another"));
    }
    reach(desk, to).await?;
    let wanted = wanted(desk, spec).await?;
    if wanted.is_empty() {
        let error = "there is no snapshot to copy: the choice of hosts, tags and paths fits none".to_owned();
        return Ok(Next::Ended(super::ended(JobStatus::Warning, Some(error), CopyResult::default())));
    }
    let before = likenesses(&desk.snapshots(to, &[]).await?);
    desk.sink.say(&format!("copying {} snapshots to {}", wanted.len(), to.address.shown));
    let wanted = wanted.iter().map(|snapshot| (snapshot.id.clone(), likeness(snapshot))).collect();
    Ok(Next::Run(launch, Memo::Copy(Meant { wanted, before })))
}

async fn wanted(desk: &mut Desk<'_>, spec: &CopySpec) -> Result<Vec<SnapshotRecord>, Broke> {
    let of = desk.session.chosen(spec)?;
    desk.snapshots(desk.session, &of).await
}

/// Whether the second repository is there; creates it where that is wished.
async fn reach(desk: &mut Desk<'_>, to: &Session) -> Result<(), Broke> {
    let refusal = match preflight::check(to, desk.patience, desk.stop, desk.sink).await {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    let may_init = desk.order.second_repo.as_ref().is_some_and(|repo| repo.init);
    let about = |error: String| format!("the second repository: {error}");
    match refusal {
        Refusal::Stopped(wish) => Err(Broke::Stopped(wish)),
        Refusal::Missing(_) if may_init => {
            desk.sink.say("there is no second repository yet: creating it");
            let launch = desk.session.init_like(to)?;
            let deadline = desk.deadline.min(Instant::now() + 4 * desk.patience.total);
            let heard = desk.hear_until(&launch, deadline).await?;
            heard.good().map(|_| desk.sink.say("the second repository was created")).map_err(|broke| match broke {
                Broke::Failed { code, error } => {
                    Broke::Failed { code, error: format!("the second repository could not be created: {error}") }
                }
                stopped => stopped,
            })
        }
        Refusal::Missing(error) => Err(Broke::words(about(error))),
        Refusal::Failed { code, error } => Err(Broke::Failed { code, error: about(error) }),
    }
}

pub(super) async fn prove(meant: Meant, ran: Ran, desk: Result<&mut Desk<'_>, String>) -> Result<JobOutcome, Broke> {
    let outcome = ran.outcome;
    let unproven = |outcome, why: String| super::unproven(outcome, "what was copied", &why);
    let desk = match desk {
        Ok(desk) => desk,
        Err(why) => return Ok(unproven(outcome, why)),
    };
    let Some(to) = desk.second else { return Ok(unproven(outcome, "its address is not known any more".to_owned())) };
    let list = match desk.snapshots(to, &[]).await {
        Ok(list) => list,
        Err(Broke::Failed { error, .. }) => return Ok(unproven(outcome, error)),
        Err(stopped) => return Err(stopped),
    };
    let count = desk.tell_list(&list);
    let after = likenesses(&list);
    let skipped = meant.wanted.iter().filter(|(_, like)| meant.before.contains(like)).count();
    let missing: Vec<String> =
        meant.wanted.iter().filter(|(_, like)| !after.contains(like)).map(|(id, _)| id.clone()).collect();
    let copied = (meant.wanted.len() - skipped - missing.len()) as u64;
    let result = CopyResult { copied, skipped: skipped as u64, count };
    let (status, error) = match outcome.error {
        None if missing.is_empty() => (JobStatus::Succeeded, None),
        None => (
            JobStatus::Failed,
            Some(format!(
                "restic ended without an error, but {} are not in the second repository; look at the log",
                named(&missing)
            )),
        ),
        error => (outcome.status, error),
    };
    Ok(JobOutcome { status, error, summary: Some(json!(result)), exit_code: outcome.exit_code })
}
