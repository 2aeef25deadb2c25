//! Forget: restic's dry run says what the rules would do, the guard says what of it may be done, exactly that is done, and a list proves it. Exit 0 proves
//! nothing: restic 0.17 and 0.18 end with it where a server refuses every deletion.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use flotilla_proto::{
    FateRecord, ForgetResult, ForgetSpec, GuardAnswer, GuardRequest, HeldBack, JobStatus, Operation, PruneResult,
    PruneSpec, Record, SnapshotRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{Broke, Desk, Memo, Next, Ran, ended, named, prune, tamper};
use crate::{
    errand::{self, ErrandError},
    process::Stop,
    restic::records,
    sink::JobOutcome,
};

/// How long the server may be away when it is asked.
const GUARD_PATIENCE: Duration = Duration::from_secs(120);

/// What the run proper is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Meant {
    kept: u64,
    /// All that goes, also what went before the run proper.
    remove: Vec<String>,
    held: Vec<HeldBack>,
    prune: bool,
}

pub(super) async fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    let Some(Operation::Forget(spec)) = &desk.order.operation else { return Err(Broke::no_details(desk.order)) };
    let fates = fates(desk, spec).await?;
    let kept = fates.iter().filter(|fate| !fate.kept_by.is_empty()).count() as u64;
    desk.sink.say(&format!("the rules keep {kept} of {} snapshots", fates.len()));
    let answer = ask(desk, spec, &fates).await?;
    fates.iter().for_each(|fate| desk.tell(Record::Fate(fate.clone())));
    for held in &answer.held {
        desk.sink.say(&format!("snapshot {} stays: {}", super::short(&held.snapshot), held.reason));
    }
    let GuardAnswer { remove, held, stopped } = answer;
    let result = |removed: u64| ForgetResult {
        kept,
        removed,
        held: held.clone(),
        stopped: stopped.clone(),
        dry_run: spec.dry_run,
        ..ForgetResult::default()
    };
    if let Some(why) = &stopped {
        let error = format!("the retention guard stopped this, and nothing was removed: {why}");
        return Ok(Next::Ended(ended(JobStatus::Warning, Some(error), result(0))));
    }
    if spec.dry_run {
        return Ok(Next::Ended(ended(JobStatus::Succeeded, None, result(remove.len() as u64))));
    }
    if remove.is_empty() && !spec.prune {
        let list = desk.snapshots(desk.session, &[]).await?;
        let count = desk.tell_list(&list);
        return Ok(Next::Ended(ended(JobStatus::Succeeded, None, ForgetResult { count, ..result(0) })));
    }
    let meant = Meant { kept, remove, held, prune: spec.prune };
    let launch = match meant.remove.chunks(desk.ids_at_once).last() {
        None => desk.session.prune(&PruneSpec::default())?,
        Some(last) => {
            let first = &meant.remove[..meant.remove.len() - last.len()];
            for (part, ids) in first.chunks(desk.ids_at_once).enumerate() {
                desk.sink.say(&format!("removing {} snapshots", ids.len()));
                // Whether they are gone is seen in the end.
                match desk.hear(&desk.session.forget(ids, false)).await {
                    Err(Broke::Stopped(Stop::Cancelled)) => {
                        return Ok(Next::Ended(cut_off(part * desk.ids_at_once, &meant)));
                    }
                    heard => heard?,
                };
            }
            desk.sink.say(&format!("removing {}", named(last)));
            desk.session.forget(last, spec.prune)
        }
    };
    Ok(Next::Run(launch, Memo::Forget(meant)))
}

/// The end of a forget that was cancelled before its last part: nobody lists the snapshots any more.
fn cut_off(removed: usize, meant: &Meant) -> JobOutcome {
    let error = format!(
        "cancelled while it ran: of {} snapshots that were to go at least {removed} are gone. List the snapshots to see which are left; the next run removes those",
        meant.remove.len()
    );
    JobOutcome { exit_code: None, status: JobStatus::Cancelled, error: Some(error), summary: None }
}

/// What the rules say, group by group, the newest first. The objects of tamper tests are nobody's snapshots and left alone.
async fn fates(desk: &mut Desk<'_>, spec: &ForgetSpec) -> Result<Vec<FateRecord>, Broke> {
    let text = desk.hear(&desk.session.forget_dry_run(spec)?).await?.good()?;
    let mut fates = read(&text)
        .ok_or_else(|| Broke::words("what restic's rules would do could not be read; nothing was removed"))?;
    let all = fates.len();
    fates.retain(|fate| !tamper::is_made_by_it(&fate.snapshot));
    if fates.len() < all {
        desk.sink.say(&format!("{} snapshots of tamper tests are left alone", all - fates.len()));
    }
    Ok(fates)
}

async fn ask(desk: &mut Desk<'_>, spec: &ForgetSpec, fates: &[FateRecord]) -> Result<GuardAnswer, Broke> {
    let cannot = |error: ErrandError| {
        Broke::words(format!("the retention guard could not be asked, so nothing was removed: {error}"))
    };
    let errands = desk.errands.ok_or_else(|| cannot(ErrandError::Nobody))?;
    let request = GuardRequest { dry_run: spec.dry_run, fates: fates.to_vec() };
    let patience = GUARD_PATIENCE.min(desk.deadline.saturating_duration_since(Instant::now()));
    let answer = tokio::select! {
        answer = errand::ask_guard(errands, desk.order.job_id, &request, patience) => answer.map_err(cannot)?,
        wish = desk.stop.wait_for(Option::is_some) => {
            return Err(wish.ok().and_then(|wish| *wish).map_or_else(|| Broke::words("the agent stops"), Broke::Stopped));
        }
    };
    // Whatever the server says: a snapshot that a rule keeps does not go.
    let may_go: HashSet<&str> =
        fates.iter().filter(|fate| fate.kept_by.is_empty()).map(|fate| fate.snapshot.id.as_str()).collect();
    match answer.remove.iter().find(|id| !may_go.contains(id.as_str())) {
        Some(id) => Err(Broke::words(format!(
            "the server named snapshot {id} to be removed, which the rules keep or do not know. Nothing was removed; report it"
        ))),
        None => Ok(answer),
    }
}

#[derive(Deserialize)]
struct Group<'a> {
    host: Option<String>,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(borrow)]
    keep: Option<Vec<records::Snapshot<'a>>>,
    #[serde(borrow)]
    remove: Option<Vec<records::Snapshot<'a>>>,
    reasons: Option<Vec<Reason>>,
}

#[derive(Deserialize)]
struct Reason {
    matches: Option<Vec<String>>,
}

/// `forget --json`. Until 0.16 a reason does not name its snapshot: reasons stand in the order of what is kept. `None`: it makes no sense.
fn read(text: &str) -> Option<Vec<FateRecord>> {
    let groups: Vec<Group<'_>> = match text.lines().find(|line| line.starts_with('[')) {
        Some(line) => serde_json::from_str(line).ok()?,
        // No snapshot, no group.
        None if text.trim().is_empty() => Vec::new(),
        None => return None,
    };
    let mut sorted: BTreeMap<String, Vec<FateRecord>> = BTreeMap::new();
    for group in groups {
        let name = [group.host.into_iter().collect(), group.paths.unwrap_or_default(), group.tags.unwrap_or_default()]
            .concat()
            .join(" ");
        let (keep, reasons) = (group.keep.unwrap_or_default(), group.reasons.unwrap_or_default());
        if keep.len() != reasons.len() {
            return None;
        }
        let kept = keep.into_iter().zip(reasons).map(|(snapshot, reason)| {
            let kept_by = reason.matches.unwrap_or_default();
            (snapshot, if kept_by.is_empty() { vec!["a rule".to_owned()] } else { kept_by })
        });
        let removed = group.remove.unwrap_or_default().into_iter().map(|snapshot| (snapshot, Vec::new()));
        let fates = sorted.entry(name.clone()).or_default();
        fates.extend(kept.chain(removed).map(|(snapshot, kept_by)| FateRecord {
            snapshot: SnapshotRecord::from(snapshot),
            kept_by,
            group: name.clone(),
        }));
        fates.sort_by_key(|fate| std::cmp::Reverse(fate.snapshot.time));
    }
    Some(sorted.into_values().flatten().collect())
}

pub(super) async fn prove(meant: Meant, ran: Ran, desk: Result<&mut Desk<'_>, String>) -> Result<JobOutcome, Broke> {
    let Ran { outcome, said } = ran;
    let pruned = meant.prune.then_some(PruneResult { dry_run: false, ..said.prune });
    let mut result = ForgetResult {
        kept: meant.kept,
        held: meant.held,
        prune: pruned.filter(|prune| *prune != PruneResult::default()),
        ..ForgetResult::default()
    };
    let unproven = |outcome: JobOutcome, why: String, result| {
        super::unproven(JobOutcome { summary: Some(json!(result)), ..outcome }, "what was removed", &why)
    };
    let desk = match desk {
        Ok(desk) => desk,
        Err(why) => return Ok(unproven(outcome, why, result)),
    };
    let list = match desk.snapshots(desk.session, &[]).await {
        Ok(list) => list,
        Err(Broke::Failed { error, .. }) => return Ok(unproven(outcome, error, result)),
        Err(stopped) => return Err(stopped),
    };
    result.count = desk.tell_list(&list);
    let there: HashSet<&str> = list.iter().map(|snapshot| snapshot.id.as_str()).collect();
    result.still_there = meant.remove.iter().filter(|id| there.contains(id.as_str())).cloned().collect();
    result.removed = (meant.remove.len() - result.still_there.len()) as u64;
    desk.sink.say(&format!("{} snapshots are gone, {} are there", result.removed, list.len()));
    let (status, error) = match outcome.error {
        None if result.still_there.is_empty() => (JobStatus::Succeeded, None),
        None => (JobStatus::Failed, Some(stayed(&result.still_there, &said))),
        Some(error) if result.still_there.is_empty() => (outcome.status, Some(error)),
        Some(error) => (outcome.status, Some(format!("{} are still there. {error}", named(&result.still_there)))),
    };
    Ok(JobOutcome { status, error, summary: Some(json!(result)), exit_code: outcome.exit_code })
}

fn stayed(ids: &[String], said: &prune::Said) -> String {
    let why = if said.refused {
        "the repository's server refuses to delete (403), as an append-only one does: enter maintenance credentials on the repository's page"
    } else {
        "look at the log, and whether these credentials may delete"
    };
    format!("restic ended without an error, but {} that it was to remove are still there: {why}", named(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_without_ids_belong_to_what_is_kept_in_its_order() {
        let text = r#"[{"tags":null,"host":"b","paths":["/x"],"keep":[{"time":"2026-11-21T10:00:00Z","paths":["/x"],"id":"k1"},{"time":"2026-11-20T10:00:00Z","paths":["/x"],"id":"k2"}],"remove":[{"time":"2026-11-22T10:00:00Z","paths":["/x"],"id":"r1"}],"reasons":[{"snapshot":{},"matches":["last snapshot"]},{"snapshot":{},"matches":null}]},{"tags":null,"host":"a","paths":null,"keep":null,"remove":[{"id":"r2"}],"reasons":null}]"#;
        let fates = read(&format!("{text}\n\n1 snapshots have been removed")).unwrap();
        let seen: Vec<_> =
            fates.iter().map(|fate| (fate.group.as_str(), fate.snapshot.id.as_str(), fate.kept_by.join(","))).collect();
        let wanted = [("a", "r2", ""), ("b /x", "r1", ""), ("b /x", "k1", "last snapshot"), ("b /x", "k2", "a rule")];
        assert_eq!(seen, wanted.map(|(group, id, by)| (group, id, by.to_owned())));
    }

    #[test]
    fn what_makes_no_sense_is_no_reason_to_remove_anything() {
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("Applying Policy: keep 1"), None);
        assert_eq!(read(r#"[{"keep":[{"id":"a"}],"remove":null,"reasons":null}]"#), None);
    }
}
