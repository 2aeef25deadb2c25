//! The class of a failure, for whoever decides by it and reads no text: of the step, and of the job that it ended.

use flotilla_proto::{ApiWay, Container, FailureClass, JobStatus};

use super::*;

/// The class of the first step that has one, and of the job.
fn classes(ran: &Ran) -> (Option<FailureClass>, Option<FailureClass>) {
    (ran.result.steps.iter().find_map(|step| step.class), ran.result.class)
}

fn both(class: FailureClass) -> (Option<FailureClass>, Option<FailureClass>) {
    (Some(class), Some(class))
}

#[tokio::test]
async fn a_code_a_time_limit_and_a_guard_are_told_apart() {
    let place = Place::new();
    let ran = place.run(1, &step("Good", "true")).await;
    assert_eq!(classes(&ran), (None, None));
    let ran = place.run(2, &step("Code", "exit 3")).await;
    assert_eq!(classes(&ran), both(FailureClass::Exit));
    let ran = place.run(3, &(step("Slow", "sleep 30") + "timeout = 1\n")).await;
    assert_eq!(classes(&ran), both(FailureClass::TimedOut));
    let mut order = place.order(4, &step("Slow", "sleep 30"));
    order.timeout_s = 1;
    assert_eq!(classes(&place.run_order(&order).await), both(FailureClass::TimedOut));
    let guard = "[[guards]]\ncmd = \"false\"\nmessage = \"not today\"\n";
    let ran = place.run(5, &format!("{guard}{}", step("Never", "true"))).await;
    assert_eq!(classes(&ran), (None, Some(FailureClass::Guard)), "{}", ran.error());
    let required = "[[results]]\nname = \"version\"\nmarker = \"VERSION\"\nstep = \"Silent\"\nrequired = true\n";
    let ran = place.run(6, &(step("Silent", "true") + required)).await;
    assert_eq!(classes(&ran), both(FailureClass::Answer));
    // The job did not fail by what its runbook goes on past.
    let ran = place.run(7, &(step("Ignored", "exit 3") + "continue_on_error = true\n")).await;
    assert_eq!(classes(&ran), (Some(FailureClass::Exit), None));
}

#[tokio::test]
async fn a_cancelled_job_says_so() {
    let place = Place::new();
    let memory = place.agent.submit(&place.order(1, &step("Long", "echo begun; sleep 30")));
    memory.until("a line", |seen| seen.lines.iter().any(|(_, line)| line == "begun").then_some(())).await;
    assert!(place.agent.executor.cancel(place.job(1)));
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!((ran.end.status, classes(&ran)), (JobStatus::Cancelled, both(FailureClass::Cancelled)));
}

#[tokio::test]
async fn files_containers_and_interfaces_have_classes_of_their_own() {
    let place = Place::new();
    let copy = "[[steps]]\ntype = \"scp\"\nlabel = \"Copy\"\ndirection = \"upload\"\nlocal_path = \"DIR/missing\"\nremote_path = \"DIR/there\"\n";
    assert_eq!(classes(&place.run(1, copy).await), both(FailureClass::Transfer));
    let mut order = place.order(3, &step("Within", "true"));
    let cli = "/no/such/docker".to_owned();
    book(&mut order).host.container = Some(Container { cli, name: "app".to_owned(), user: None });
    assert_eq!(classes(&place.run_order(&order).await), both(FailureClass::NoContainer));
    let ask = "[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"stats\"\n";
    let ran = place.run(4, ask).await;
    assert_eq!(classes(&ran), both(FailureClass::NotConfigured), "{}", ran.error());
    let mut order = place.order(5, ask);
    let base_url = format!("http://127.0.0.1:{}", harness::free_port());
    book(&mut order).host.api = Some(ApiWay { base_url, public_key: None, secret_key: None, tls_insecure: false });
    assert_eq!(classes(&place.run_order(&order).await), both(FailureClass::Unreachable));
}

#[tokio::test]
async fn what_the_host_does_not_allow_is_a_matter_of_its_settings() {
    let place = Place::with(|config| config.runbooks = AllowRunbooks::ByPolicy);
    let ran = place.run(1, &step("Any", "true")).await;
    assert_eq!(classes(&ran), (None, Some(FailureClass::NotConfigured)), "{}", ran.error());
}

#[cfg(feature = "ssh")]
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_the_connection_the_login_or_shows_another_key_is_told_apart() {
    let (place, mut web) = (Place::new(), sshd::Sshd::start());
    let order = |number: u128, host: StepHost| {
        let mut order = place.order(number, &step("There", "true"));
        let runbook = book(&mut order);
        (runbook.way, runbook.host) = (Way::Ssh, host);
        order
    };
    let known = over_ssh::host("web-1", &web);
    let ran = place.run_order(&order(1, known.clone())).await;
    assert_eq!(classes(&ran), (None, None), "{}", ran.error());
    let mut other_user = known.clone();
    other_user.ssh.as_mut().unwrap().user = "nobody-of-that-name".to_owned();
    let ran = place.run_order(&order(2, other_user)).await;
    assert_eq!(classes(&ran), both(FailureClass::Authentication), "{}", ran.error());
    let mut no_key = known.clone();
    no_key.ssh.as_mut().unwrap().key_path = None;
    assert_eq!(classes(&place.run_order(&order(3, no_key)).await), both(FailureClass::NotConfigured));
    let mut bad_key = known.clone();
    bad_key.ssh.as_mut().unwrap().key_path = Some("/no/such/key".to_owned());
    assert_eq!(classes(&place.run_order(&order(4, bad_key)).await), both(FailureClass::Authentication));
    for (number, pin) in [(5, None), (6, Some(format!("SHA256:{}", "A".repeat(43))))] {
        let mut changed = known.clone();
        changed.ssh.as_mut().unwrap().host_key = pin;
        let ran = place.run_order(&order(number, changed)).await;
        assert_eq!(classes(&ran), both(FailureClass::HostKey), "{}", ran.error());
    }
    web.stop();
    let ran = place.run_order(&order(7, known)).await;
    assert_eq!(classes(&ran), both(FailureClass::Unreachable), "{}", ran.error());
}
