//! Tags. restic writes each snapshot anew and removes the old one; where it may not remove, it ends with 0 and leaves an extra snapshot. So lists from before
//! and after decide.

use std::collections::HashSet;

use flotilla_proto::{JobStatus, Operation, SnapshotRecord, TagResult};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Broke, Desk, Memo, Next, Ran, named};
use crate::{restic::exit, sink::JobOutcome};

/// What the run proper is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Meant {
    /// Full ids of what is tagged.
    ids: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
    /// Full ids of all that was there.
    before: HashSet<String>,
}

pub(super) async fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    let Some(Operation::Tag(spec)) = &desk.order.operation else { return Err(Broke::no_details(desk.order)) };
    // First: it checks the order.
    let launch = desk.session.tag(spec)?;
    let list = desk.snapshots(desk.session, &[]).await?;
    let full = |id: &String| list.iter().find(|snapshot| snapshot.id.starts_with(id.as_str()));
    let mut ids = Vec::with_capacity(spec.snapshots.len());
    for id in &spec.snapshots {
        match full(id) {
            Some(snapshot) => ids.push(snapshot.id.clone()),
            None => {
                let advice = exit::Trouble::NoSnapshot.advice();
                return Err(Broke::words(format!("snapshot {id} is not there any more: nothing was tagged; {advice}")));
            }
        }
    }
    let before = list.into_iter().map(|snapshot| snapshot.id).collect();
    let meant = Meant { ids, add: spec.add.clone(), remove: spec.remove.clone(), before };
    Ok(Next::Run(launch, Memo::Tag(meant)))
}

pub(super) async fn prove(meant: Meant, ran: Ran, desk: Result<&mut Desk<'_>, String>) -> Result<JobOutcome, Broke> {
    let outcome = ran.outcome;
    let unproven = |outcome, why: String| super::unproven(outcome, "whether the tags are set", &why);
    let desk = match desk {
        Ok(desk) => desk,
        Err(why) => return Ok(unproven(outcome, why)),
    };
    let list = match desk.snapshots(desk.session, &[]).await {
        Ok(list) => list,
        Err(Broke::Failed { error, .. }) => return Ok(unproven(outcome, error)),
        Err(stopped) => return Err(stopped),
    };
    let count = desk.tell_list(&list);
    let seen = compare(&meant, &list);
    let (status, error) = match outcome.error {
        None if seen.unchanged.is_empty() => (JobStatus::Succeeded, None),
        error => {
            let why = if ran.said.refused || seen.extra > 0 {
                format!(
                    "{} kept their tags: the repository's server refuses to delete, as an append-only one does. {} copies with the new tags were left beside them. Enter maintenance credentials on the repository's page",
                    named(&seen.unchanged),
                    seen.extra
                )
            } else {
                format!("{} kept their tags; look at the log", named(&seen.unchanged))
            };
            (JobStatus::Failed, Some(error.map_or(why.clone(), |error| format!("{why}. {error}"))))
        }
    };
    let result = TagResult { changed: seen.changed, count };
    Ok(JobOutcome { status, error, summary: Some(json!(result)), exit_code: outcome.exit_code })
}

#[derive(Debug, PartialEq)]
struct Seen {
    changed: u64,
    /// Ids of those that are as they were and should not be.
    unchanged: Vec<String>,
    /// New snapshots beside old ones.
    extra: usize,
}

fn compare(meant: &Meant, list: &[SnapshotRecord]) -> Seen {
    let there = |id: &str| list.iter().find(|snapshot| snapshot.id == id);
    let fits = |snapshot: &SnapshotRecord| {
        meant.add.iter().all(|tag| snapshot.tags.contains(tag))
            && !meant.remove.iter().any(|tag| snapshot.tags.contains(tag) && !meant.add.contains(tag))
    };
    let changed = meant.ids.iter().filter(|id| there(id).is_none()).count();
    let unchanged: Vec<String> =
        meant.ids.iter().filter(|id| there(id).is_some_and(|snapshot| !fits(snapshot))).cloned().collect();
    let new = list.iter().filter(|snapshot| !meant.before.contains(&snapshot.id) && fits(snapshot)).count();
    Seen { changed: changed as u64, unchanged, extra: new.saturating_sub(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, tags: &[&str]) -> SnapshotRecord {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        SnapshotRecord { id: id.to_owned(), tags, ..SnapshotRecord::default() }
    }

    fn meant() -> Meant {
        let own = |list: &[&str]| list.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        Meant {
            ids: own(&["a", "b"]),
            add: own(&["x"]),
            remove: own(&["y"]),
            before: own(&["a", "b", "c"]).into_iter().collect(),
        }
    }

    #[test]
    fn one_that_is_written_anew_is_changed_and_one_that_had_the_tags_needs_nothing() {
        let after = [snapshot("a2", &["x"]), snapshot("b", &["x", "z"]), snapshot("c", &[])];
        assert_eq!(compare(&meant(), &after), Seen { changed: 1, unchanged: Vec::new(), extra: 0 });
    }

    #[test]
    fn an_old_one_beside_its_new_copy_is_no_change() {
        let after = [snapshot("a", &["y"]), snapshot("a2", &["x"]), snapshot("b", &[]), snapshot("b2", &["x"])];
        let unchanged = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(compare(&meant(), &after), Seen { changed: 0, unchanged, extra: 2 });
    }
}
