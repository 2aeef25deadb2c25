//! Repairs. restic's own last words are the result: what was found and mended differs by what is repaired and by version.

use std::fs;

use flotilla_proto::{JobStatus, Operation, RepairResult, RepairWhat};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Broke, Desk, Memo, Next, Ran};
use crate::{blocking::blocking, restic::command::OrderError, sink::JobOutcome};

/// What the run proper is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Meant {
    dry_run: bool,
}

pub(super) fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    let Some(Operation::Repair(spec)) = &desk.order.operation else { return Err(Broke::no_details(desk.order)) };
    if spec.what == RepairWhat::Packs {
        let folder = desk.session.salvage();
        blocking(|| fs::create_dir_all(&folder)).map_err(OrderError::from)?;
        desk.sink.say(&format!(
            "before restic takes a pack apart it leaves a copy of it on this host, in {}: remove it once nothing is missed",
            folder.display()
        ));
    }
    Ok(Next::Run(desk.session.repair(spec)?, Memo::Repair(Meant { dry_run: spec.dry_run })))
}

pub(super) fn judge(meant: &Meant, ran: Ran) -> JobOutcome {
    let result = RepairResult { said: ran.said.last.into(), dry_run: meant.dry_run };
    let (status, error) = match ran.outcome.error {
        None if ran.said.refused => (
            JobStatus::Warning,
            Some("the repair was made, but the repository's server refused to delete what it replaces (403), as an append-only one does: enter maintenance credentials on the repository's page and repair again".to_owned()),
        ),
        error => (ran.outcome.status, error),
    };
    JobOutcome { status, error, summary: Some(json!(result)), exit_code: ran.outcome.exit_code }
}
