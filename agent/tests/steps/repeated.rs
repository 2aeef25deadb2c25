//! Steps that are repeated until they succeed: what ends the waiting, and what is told meanwhile.

use flotilla_proto::{FailureClass, JobStatus};

use super::*;

fn repeated(cmd: &str, retry: &str) -> String {
    step("Wait", cmd) + &format!("retry = {{ {retry} }}\n")
}

#[tokio::test]
async fn a_step_is_repeated_until_it_succeeds_and_the_same_reason_is_told_once() {
    let place = Place::new();
    let steps = repeated("echo n >>DIR/tries; [ \"$(wc -l <DIR/tries)\" -ge 3 ] && echo STATE=up", "every = 1")
        + "[[results]]\nname = \"state\"\nmarker = \"STATE\"\nstep = \"Wait\"\nrequired = true\n";
    let ran = place.run(1, &steps).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    assert_eq!(place.read("tries"), "n\nn\nn\n");
    assert_eq!(ran.result.results["state"], "up");
    assert_eq!(
        ran.text.matches("[not yet, again every 1 s: its command ended with exit code 1]").count(),
        1,
        "{}",
        ran.text
    );
    assert_eq!((ran.result.steps[0].class, ran.result.class), (None, None));
}

#[tokio::test]
async fn waiting_ends_with_its_time_which_an_input_may_say() {
    let place = Place::new();
    let steps = repeated("false", "every = 1, within = \"{{ wait_s }}\"")
        + "[[inputs]]\nname = \"wait_s\"\ntype = \"int\"\ndefault = 2\n";
    let ran = place.run(1, &steps).await;
    assert_eq!((ran.end.status, ran.result.class), (JobStatus::Failed, Some(FailureClass::TimedOut)), "{}", ran.text);
    assert!(
        ran.error().contains("tried again and again for 2 s; at last: its command ended with exit code 1"),
        "{}",
        ran.error()
    );
}

#[tokio::test]
async fn an_attempt_that_hangs_is_ended_and_the_next_one_follows() {
    let place = Place::new();
    let steps = repeated("echo $$ >>DIR/pids; [ -e DIR/up ] || { touch DIR/up; sleep 300; }", "every = 1, attempt = 1");
    let ran = place.run(1, &steps).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    assert!(all_gone(&place.pids(2)));
}

#[tokio::test]
async fn a_cancel_ends_the_waiting() {
    let place = Place::new();
    let memory =
        place.agent.submit(&place.order(1, &(repeated("false", "every = 600, within = 3600") + "timeout = 3600\n")));
    memory
        .until("it waits", |seen| seen.lines.iter().any(|(_, line)| line.starts_with("[not yet")).then_some(()))
        .await;
    assert!(place.agent.executor.cancel(place.job(1)));
    assert_eq!(memory.end().await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn what_a_repetition_can_not_mend_ends_it_at_once() {
    let place = Place::new();
    let ask =
        "[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"stats\"\nretry = { every = 60 }\ntimeout = 600\n";
    let ran = place.run(1, ask).await;
    assert_eq!(ran.result.class, Some(FailureClass::NotConfigured), "{}", ran.text);
}

/// What the runbook `reboot` does, with a file in place of the machine's boot id and a server that is stopped and started in place of the machine.
#[cfg(feature = "ssh")]
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_down_is_waited_for_until_it_is_back_with_another_boot() {
    let (place, mut web) = (Place::new(), sshd::Sshd::start());
    fs::write(place.at("boot_id"), "first\n").unwrap();
    let steps = step("Before", "echo BOOT=$(cat DIR/boot_id)")
        + &step("Ask", "echo asked >DIR/asked")
        + &repeated(
            "now=$(cat DIR/boot_id); echo looks; [ \"$now\" != {{ results.boot }} ] && echo BOOT_AFTER=$now",
            "every = 1, attempt = 10, within = 60",
        )
        + "[[results]]\nname = \"boot\"\nmarker = \"BOOT\"\n[[results]]\nname = \"after\"\nmarker = \"BOOT_AFTER\"\n";
    let mut order = place.order(1, &steps);
    (book(&mut order).way, book(&mut order).host) = (Way::Ssh, over_ssh::host("web-1", &web));
    let memory = place.agent.submit(&order);
    memory.until("it has not gone down", |seen| seen.lines.iter().any(|(_, line)| line == "looks").then_some(())).await;
    web.go_down();
    memory
        .until("it is gone", |seen| {
            seen.lines.iter().any(|(_, line)| line.contains("refused the connection")).then_some(())
        })
        .await;
    fs::write(place.at("boot_id"), "second\n").unwrap();
    web.restart();
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    assert_eq!(
        (ran.result.results["boot"].as_str(), ran.result.results["after"].as_str()),
        (Some("first"), Some("second"))
    );
}
