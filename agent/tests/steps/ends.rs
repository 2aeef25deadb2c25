//! Steps that do not end by themselves, or print without end.

use std::time::{Duration, Instant};

use flotilla_agent::runner::Submitted;
use flotilla_proto::{JobStatus, StepState, Timestamp};

use super::*;

/// Starts processes of its own session, of another, and without its environment; and waits for them.
const TREE: &str = "sleep 3000 & echo $! >>DIR/pids; setsid sleep 3001 & echo $! >>DIR/pids; env -i sleep 3002 & echo $! >>DIR/pids; echo $$ >>DIR/pids; echo hangs; wait";
const STUBBORN: &str = "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo $! >>DIR/pids; echo $$ >>DIR/pids; echo hangs; wait; while :; do sleep 0.1; done";

async fn says(memory: &Memory, words: &str) {
    memory.until(words, |seen| seen.lines.iter().any(|(_, line)| line.contains(words)).then_some(())).await;
}

#[tokio::test]
async fn a_step_whose_time_is_up_ends_with_all_that_it_started() {
    for (number, tree, count) in [(1, TREE, 4), (2, STUBBORN, 2)] {
        let place = Place::new();
        let steps = step("Hang", tree) + "timeout = 1\n" + &last("Clean", "echo clean >>DIR/log");
        let ran = place.run(number, &steps).await;
        assert_eq!(ran.end.status, JobStatus::Failed);
        assert_eq!(
            ran.error(),
            "Step 1 (Hang) failed: it did not end within 1 s and was stopped with all that it had started",
            "{}",
            ran.text
        );
        assert_eq!((ran.states(), place.read("log").as_str()), (vec![StepState::Failed], "clean\n"));
        let pids = place.pids(count);
        assert!(all_gone(&pids), "{pids:?}: {}", ran.text);
        assert!(
            ran.text.contains("its 1 s are over: ending the command") && ran.text.contains("have ended"),
            "{}",
            ran.text
        );
    }
}

#[tokio::test]
async fn a_command_that_sheds_its_mark_and_hears_no_signal_ends_with_its_group() {
    let place = Place::new();
    let ran = place
        .run(1, &(step("Hang", "trap '' TERM; echo $$ >>DIR/pids; exec env -i sleep 3004") + "timeout = 1\n"))
        .await;
    assert!(ran.error().contains("did not end within 1 s"), "{}", ran.error());
    let pids = place.pids(1);
    poll("it is gone", || all_gone(&pids));
}

#[tokio::test]
async fn an_agent_whose_jobs_end_with_it_ends_the_step_and_tears_down() {
    let place = Place::with(|config| config.at_stop = flotilla_agent::executor::AtStop::End);
    let steps = step("Hang", "echo hangs; sleep 3000") + &last("Clean", "echo clean >>DIR/log");
    let memory = place.agent.submit(&place.order(1, &steps));
    says(&memory, "hangs").await;
    place.agent.executor.drain(Duration::from_secs(60)).await;
    let ran = Ran::new(memory.end().await, &memory);
    assert!(
        ran.end.status == JobStatus::Failed && ran.error().contains("for the agent was being stopped"),
        "{}",
        ran.error()
    );
    assert_eq!(place.read("log"), "clean\n");
}

#[tokio::test]
async fn a_step_that_can_not_be_noted_is_not_begun_and_the_teardown_runs_all_the_same() {
    let place = Place::new();
    let jobs = place.agent.state.path().join("jobs");
    let steps = step("Break", &format!("rm -r {}", jobs.display()))
        + &step("Work", "echo work >>DIR/log")
        + &last("Clean", "echo clean >>DIR/log");
    let ran = place.run(1, &steps).await;
    assert!(
        ran.error().starts_with("Step 2 (Work) failed: it was not begun, for that can't be noted"),
        "{}",
        ran.error()
    );
    assert_eq!(place.read("log"), "clean\n");
}

#[tokio::test]
async fn a_step_that_may_fail_may_also_run_out_of_time() {
    let place = Place::new();
    let ran = place
        .run(1, &(step("Hang", "sleep 1000") + "timeout = 1\ncontinue_on_error = true\n" + &step("Next", "echo next")))
        .await;
    assert_eq!(
        (ran.end.status, ran.states()),
        (JobStatus::Warning, vec![StepState::Ignored, StepState::Done]),
        "{}",
        ran.text
    );
}

#[tokio::test]
async fn a_cancelled_job_ends_what_runs_and_tears_down() {
    let place = Place::new();
    let steps = step("First", "echo first")
        + &step("Hang", TREE)
        + &step("Behind", "echo behind >>DIR/log")
        + &last("Clean", "sleep 0.3; echo clean >>DIR/log");
    let memory = place.agent.submit(&place.order(1, &steps));
    says(&memory, "hangs").await;
    let pids = place.pids(4);
    assert!(place.agent.executor.cancel(place.job(1)));
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!(ran.end.status, JobStatus::Cancelled);
    assert_eq!(
        ran.error(),
        "cancelled while step 2 (Hang) ran: it was stopped with all that it had started, for the job was cancelled"
    );
    assert_eq!(ran.states(), [StepState::Done, StepState::Broken, StepState::Pending]);
    assert_eq!((place.read("log").as_str(), all_gone(&pids)), ("clean\n", true), "{}", ran.text);
}

#[tokio::test]
async fn a_job_whose_own_time_is_up_tears_down_within_a_time_of_its_own() {
    let place = Place::with(|config| config.teardown = Duration::from_secs(2));
    let steps = step("Hang", "sleep 1000")
        + &last("Clean", "echo clean >>DIR/log")
        + &last("Long", "sleep 1000")
        + &last("Never", "echo never >>DIR/log");
    let mut order = place.order(1, &steps);
    order.timeout_s = 1;
    let ran = place.run_order(&order).await;
    assert!(
        ran.end.status == JobStatus::Failed && ran.error().contains("within the job's own time limit"),
        "{}",
        ran.error()
    );
    assert_eq!(place.read("log"), "clean\n");
    let notes = ran.result.notes.join("\n");
    assert!(notes.contains("\"Long\" failed") && notes.contains("was not run from \"Never\" on"), "{notes}");
}

#[tokio::test]
async fn an_agent_that_is_stopped_waits_for_the_step_at_hand_and_the_next_one_tells_the_truth() {
    for (cmd, words, state, leave) in [
        (
            "echo hangs; sleep 1; echo over",
            "the agent was restarted behind step 1 (Work); what follows was not run",
            StepState::Done,
            20,
        ),
        (TREE, "the agent was restarted while step 1 (Work) ran; how far it came is not known", StepState::Broken, 1),
    ] {
        let place = Place::with(|config| config.leave = Duration::from_secs(leave));
        let steps =
            step("Work", cmd) + &step("Behind", "echo behind >>DIR/log") + &last("Clean", "echo clean >>DIR/log");
        let memory = place.agent.submit(&place.order(1, &steps));
        says(&memory, "hangs").await;
        place.agent.executor.drain(Duration::from_secs(60)).await;
        assert!(memory.look(|seen| seen.end.is_none()), "{}", memory.text());
        if state == StepState::Broken {
            assert!(all_gone(&place.pids(4)), "nothing runs without its engine: {}", memory.text());
        }
        let config = ExecutorConfig {
            runbooks: AllowRunbooks::All,
            ..ExecutorConfig::new(place.agent.state.path().to_owned(), None, Default::default())
        };
        let clock = Arc::new(|| Timestamp::from_unix_ms(1_700_000_000_000));
        let next = flotilla_agent::executor::Executor::new(
            config,
            harness::seal(),
            tokio_util::task::TaskTracker::new(),
            clock,
        )
        .unwrap();
        assert_eq!(next.submit(place.order(1, &steps), memory.clone()), Submitted::Known, "it is not run twice");
        next.resume(place.job(1), memory.clone(), Default::default());
        let ran = Ran::new(memory.end().await, &memory);
        assert!(ran.end.status == JobStatus::Failed && ran.error().starts_with(words), "{}", ran.error());
        assert_eq!(
            (ran.states(), place.read("log").as_str()),
            (vec![state, StepState::Pending], "clean\n"),
            "{}",
            ran.text
        );
    }
}

#[tokio::test]
async fn output_without_end_fills_neither_the_log_nor_the_memory_and_holds_nobody_up() {
    let place = Place::new();
    let begun = Instant::now();
    let ran = place.run(1, &step("Talk", "yes 'a line of output that is printed over and over again, as some programs do' | head -c 1000000000; echo; head -c 50000000 /dev/zero | tr '\\0' x")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{}", ran.error());
    let took = begun.elapsed();
    // Some five seconds on a machine with nothing else to do.
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!((4 << 20..10 << 20).contains(&ran.text.len()), "{}", ran.text.len());
    assert!(ran.text.contains("more of its output are left out: the log takes 8.0 MiB of each step"));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(peak < 400 << 10, "{peak} KiB");
}

#[tokio::test]
async fn a_long_line_of_json_is_read_whole_and_shown_cut() {
    let place = Place::new();
    let steps = step("Print", r#"printf '{"a":["'; head -c 500000 /dev/zero | tr '\0' x; printf '"],"b":{"c":7}}'"#)
        + "[[results]]\nname = \"c\"\ntype = \"int\"\nstep = \"Print\"\npointer = \"/b/c\"\n";
    let ran = place.run(1, &steps).await;
    assert_eq!(ran.result.results["c"], 7, "{:?}", ran.result.notes);
    assert!(ran.text.contains("[line cut by Flotilla: 4"), "{}", ran.text.len());
}
