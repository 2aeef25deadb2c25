//! An agent that is killed in the midst of a runbook, and the next one on its folder: real processes.

use control::{Control, Process};
use flotilla_proto::{JobStatus, StepState};

use super::*;

const RULES: &str = "allow_remote_commands = true\n";

async fn started() -> (Control, Process, TempDir) {
    let mut control = Control::start().await;
    let process = Process::with(&mut control, PathBuf::from("/nonexistent/restic")).await;
    fs::write(process.state.path().join("agent.toml"), RULES).unwrap();
    (control, process, tempfile::tempdir().unwrap())
}

fn result(end: &flotilla_proto::JobFinished) -> RunbookResult {
    serde_json::from_value(end.summary.clone().unwrap()).unwrap()
}

#[tokio::test]
async fn a_step_that_the_agents_death_cuts_off_is_ended_told_and_never_run_again() {
    let (mut control, mut process, work) = started().await;
    let at = |name: &str| work.path().join(name);
    let steps = step("Make", "echo VERSION=7; echo made >>DIR/log; echo content >DIR/dump")
        + "artefact = { name = \"dump\", path = \"DIR/dump\" }\n"
        + &step(
            "Hang",
            "echo hung >>DIR/log; trap '' TERM; sleep 3000 & echo $! >>DIR/pids; setsid sleep 3001 & echo $! >>DIR/pids; echo $$ >>DIR/pids; echo hangs; wait; wait",
        )
        + &step("Behind", "echo behind >>DIR/log")
        + &last("Clean", "echo clean {{ artefacts.dump.size }} {{ results.version }} >>DIR/log")
        + "[[results]]\nname = \"version\"\nmarker = \"VERSION\"\n";
    let number = fresh_numbers();
    control.order(&order(number, &steps.replace("DIR", work.path().to_str().unwrap()))).await;
    control.until(job(number), |told| told.text().contains("hangs").then_some(())).await;
    let pids: Vec<u32> =
        fs::read_to_string(at("pids")).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    process.kill();
    assert!(!is_gone(pids[0]), "nobody ends it yet");
    process.begin(&mut control).await;
    let end = control.end(job(number)).await;
    let error = end.error.clone().unwrap();
    assert_eq!(end.status, JobStatus::Failed);
    assert!(
        error.starts_with("the agent was restarted while step 2 (Hang) ran; how far it came is not known"),
        "{error}"
    );
    assert!(all_gone(&pids), "{}", control.jobs[&job(number)].text());
    assert_eq!(fs::read_to_string(at("log")).unwrap(), "made\nhung\nclean 8 7\n");
    let result = result(&end);
    let states: Vec<_> = result.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Done, StepState::Broken, StepState::Pending]);
    assert_eq!((result.results["version"].as_str(), result.artefacts["dump"].size), (Some("7"), 8));
    assert_eq!(result.teardown[0].state, StepState::Done);
}

#[tokio::test]
async fn a_teardown_that_is_cut_off_runs_once_more_and_what_was_decided_stays() {
    let (mut control, mut process, work) = started().await;
    let at = |name: &str| work.path().join(name);
    let steps = step("Work", "echo work >>DIR/log; exit 5")
        + &last("Clean", "echo clean >>DIR/log; [ -e DIR/go ] || { echo $$ >DIR/pids; echo hangs; sleep 3000; }")
        + &last("Sweep", "echo sweep >>DIR/log");
    let number = fresh_numbers();
    control.order(&order(number, &steps.replace("DIR", work.path().to_str().unwrap()))).await;
    control.until(job(number), |told| told.text().contains("hangs").then_some(())).await;
    let pid: u32 = fs::read_to_string(at("pids")).unwrap().trim().parse().unwrap();
    process.kill();
    fs::write(at("go"), "").unwrap();
    process.begin(&mut control).await;
    let end = control.end(job(number)).await;
    assert_eq!((end.status, end.exit_code), (JobStatus::Failed, Some(5)));
    assert_eq!(end.error.as_deref(), Some("Step 1 (Work) failed: its command ended with exit code 5"));
    assert_eq!(fs::read_to_string(at("log")).unwrap(), "work\nclean\nclean\nsweep\n");
    assert!(is_gone(pid));
    assert!(result(&end).notes.iter().any(|note| note.contains("run once more from its start")));
}
