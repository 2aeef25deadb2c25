//! What would run, from the operation to its page.

use crate::{
    domain::{HostId, Way, facet::NoWay},
    http::{HttpError, pages::Ui},
    ops::jobs::{self as orders, JobRequest, Preview, PreviewStep as Step},
    views::runbooks::{PreviewStep, RunPreview},
};

/// What an order would do.
///
/// # Errors
/// 403 for what is for administrators; as [`orders::preview`].
pub(super) async fn of(ui: &Ui, host: HostId, request: JobRequest) -> Result<RunPreview, HttpError> {
    let desk = ui.state.desk();
    ui.user.needs(orders::role_for(&desk, &request).await?)?;
    Ok(shown(orders::preview(&desk, &ui.actor().name, host, request).await?))
}

fn shown(preview: Preview) -> RunPreview {
    let Preview { way, runner, ways, host, guards, steps, teardown, problems, .. } = preview;
    // Why not another way is asked of those only that would have been preferred.
    let preferred = ways.into_iter().take_while(|other| Some(other.way) != way);
    let others = preferred.filter_map(|other| Some((other.way, other.why_not?)));
    let listed = |(way, why): &(Way, String)| why != NoWay::NotListed.why(*way);
    let parts = |steps: Vec<Step>| steps.into_iter().map(part).collect();
    RunPreview {
        way,
        runner: runner.filter(|runner| *runner != host),
        others: others.filter(listed).collect(),
        problems: problems.into_iter().map(|problem| problem.message).collect(),
        guards: parts(guards),
        steps: parts(steps),
        teardown: parts(teardown),
    }
}

fn part(step: Step) -> PreviewStep {
    PreviewStep {
        label: step.label,
        kind: step.kind.to_owned(),
        place: step.place,
        command: step.command,
        env: step.env,
        stdin: step.stdin,
        when: step.when,
        left_out: step.left_out,
        timeout_s: step.timeout_s,
        continue_on_error: step.continue_on_error,
        destructive: step.destructive,
        problem: step.problem,
    }
}
