//! Steps on other hosts, over SSH to Debian's real sshd.

use control::{Control, Process};
use flotilla_proto::{JobStatus, SshWay, StepState};

use super::*;
use crate::sshd::{Proxy, Sshd, nap, running, until};

pub(super) fn host(name: &str, sshd: &Sshd) -> StepHost {
    let target = sshd.target();
    let way = SshWay {
        address: target.address,
        port: target.port,
        user: target.user,
        key_path: Some(sshd.path("client").to_str().unwrap().to_owned()),
        private_key: None,
        host_key: target.host_key.map(|key| key.fingerprint),
        host_key_algorithm: None,
    };
    let facts = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    StepHost { name: name.to_owned(), facts, ssh: Some(way), ..StepHost::default() }
}

fn over(mut order: CommandRun, name: &str, sshd: &Sshd) -> CommandRun {
    let runbook = book(&mut order);
    (runbook.way, runbook.host) = (Way::Ssh, host(name, sshd));
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_and_files_go_between_two_hosts_and_this_machine() {
    let (place, web, db) = (Place::new(), Sshd::start(), Sshd::start());
    let copy = |label: &str, direction: &str, local: &str, far: &str, more: &str| {
        format!(
            "[[steps]]\ntype = \"scp\"\nlabel = \"{label}\"\ndirection = \"{direction}\"\nlocal_path = \"DIR/{local}\"\nremote_path = \"DIR/{far}\"\n{more}"
        )
    };
    let steps = step(
        "Dump",
        "printf 'dump of %s' {{ host.name }} >DIR/dump; echo \"$SSH_CONNECTION\" | wc -w; echo {{ v }}; printf %s {{ password }} | wc -c; false | cat; echo apart >&2; true",
    ) + "artefact = { name = \"dump\", path = \"DIR/dump\" }\n"
        + &copy("Fetch", "download", "fetched", "dump", "")
        + &copy(
            "Send",
            "upload",
            "fetched",
            "sent",
            "host = \"other\"\nartefact = { name = \"sent\", path = \"DIR/sent\" }\n",
        )
        + &step(
            "Load",
            "cat DIR/sent; echo; [ {{ artefacts.dump.sha256 }} = {{ artefacts.sent.sha256 }} ] && echo same",
        )
        + "host = \"other\"\n"
        + &step("Here", "echo \"here${SSH_CONNECTION}\"").replace("\"ssh\"", "\"local\"")
        + "[[inputs]]\nname = \"other\"\ntype = \"host\"\n[[inputs]]\nname = \"v\"\ntype = \"string\"\n[[inputs]]\nname = \"password\"\ntype = \"secret\"\n";
    let mut order = over(place.order(1, &steps), "web-1", &web);
    let runbook = book(&mut order);
    runbook.others.insert("other".to_owned(), host("db-1", &db));
    runbook.inputs =
        serde_json::from_value(serde_json::json!({ "other": "01", "v": "$(id); `id` 'x' \"y\"" })).unwrap();
    runbook.secrets.insert("password".to_owned(), "planted-over-ssh".into());
    let ran = place.run_order(&order).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    for line in [
        "Stdout 4",
        "Stdout $(id); `id` 'x' \"y\"",
        "Stdout 16",
        "Stderr apart",
        "Stdout dump of web-1",
        "Stdout same",
        "Stdout here\n",
    ] {
        assert!(ran.text.contains(line), "{line}: {}", ran.text);
    }
    assert_eq!(place.read("fetched"), "dump of web-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_is_gone_on_with_and_one_that_never_gets_through_leaves_nothing() {
    const MIB: usize = 1 << 20;
    let (place, web) = (Place::new(), Sshd::start());
    let proxy = Proxy::before(web.port);
    fs::write(place.at("big"), "0123456789abcdef".repeat(MIB / 2)).unwrap();
    let copy = "[[steps]]\ntype = \"scp\"\nlabel = \"Copy\"\ndirection = \"upload\"\nlocal_path = \"DIR/big\"\nremote_path = \"DIR/far/there\"\n";
    fs::create_dir(place.at("far")).unwrap();
    let through = |number| {
        let mut order = over(place.order(number, copy), "web-1", &web);
        book(&mut order).host.ssh.as_mut().unwrap().port = proxy.port;
        order
    };
    let far = || fs::read_dir(place.at("far")).unwrap().count();
    proxy.cut_after(4 * MIB as u64);
    let ran = place.run_order(&through(1)).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    assert!(place.read("far/there") == place.read("big"));
    assert_eq!(far(), 1);

    fs::remove_file(place.at("far/there")).unwrap();
    let cutting = async {
        let mut often = tokio::time::interval(std::time::Duration::from_millis(300));
        loop {
            often.tick().await;
            proxy.cut_after(MIB as u64 / 2);
        }
    };
    let order = through(2);
    let ran = tokio::select! {
        ran = place.run_order(&order) => ran,
        () = cutting => unreachable!("it cuts for ever"),
    };
    assert_eq!(ran.end.status, JobStatus::Failed, "{}", ran.text);
    assert!(ran.error().contains("gone on with 3 times"), "{}", ran.error());
    assert_eq!(far(), 0);
}

fn tree(seconds: u32) -> String {
    format!("{} & setsid {} & echo hangs; wait", nap(seconds), nap(seconds + 1))
}

fn left(seconds: u32) -> usize {
    running(&nap(seconds)).len() + running(&nap(seconds + 1)).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_there_that_times_out_or_is_cancelled_leaves_nothing_there() {
    let (place, web) = (Place::new(), Sshd::start());
    let steps = |seconds, more: &str| step("Hang", &tree(seconds)) + more + &last("Clean", "echo clean >>DIR/log");
    let ran = place.run_order(&over(place.order(1, &steps(41_000, "timeout = 3\n")), "web-1", &web)).await;
    assert!(
        ran.error().contains("did not end within 3 s and was stopped with all that it had started"),
        "{} {}",
        ran.error(),
        ran.text
    );
    assert_eq!(left(41_000), 0, "{}", ran.text);
    let memory = place.agent.submit(&over(place.order(2, &steps(41_100, "")), "web-1", &web));
    memory.until("it hangs", |seen| seen.lines.iter().any(|(_, line)| line == "hangs").then_some(())).await;
    until("all of it runs", || left(41_100) == 2).await;
    assert!(place.agent.executor.cancel(place.job(2)));
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!((ran.end.status, left(41_100)), (JobStatus::Cancelled, 0), "{}", ran.text);
    assert_eq!(place.read("log"), "clean\nclean\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_or_another_has_its_words_and_the_next_step_connects_again() {
    let (place, mut web) = (Place::new(), Sshd::start());
    // In the midst of a step.
    let steps = step("Cut", "echo hangs; sleep 30") + "continue_on_error = true\n" + &step("Again", "echo again");
    let memory = place.agent.submit(&over(place.order(1, &steps), "web-1", &web));
    memory.until("it hangs", |seen| seen.lines.iter().any(|(_, line)| line == "hangs").then_some(())).await;
    web.drop_connections();
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!(
        (ran.end.status, ran.states()),
        (JobStatus::Warning, vec![StepState::Ignored, StepState::Done]),
        "{}",
        ran.text
    );
    assert!(
        ran.result.steps[0].error.as_ref().unwrap().contains("whether it finished is"),
        "{:?}",
        ran.result.steps[0]
    );
    // Before one.
    let mut order = over(place.order(2, &step("Work", "true")), "web-1", &web);
    let other = format!("SHA256:{}", "A".repeat(43));
    book(&mut order).host.ssh.as_mut().unwrap().host_key = Some(other);
    let ran = place.run_order(&order).await;
    assert!(ran.end.status == JobStatus::Failed && ran.error().contains("host key"), "{}", ran.error());
    let mut order = over(place.order(3, &step("Work", "true")), "web-1", &web);
    book(&mut order).host.ssh.as_mut().unwrap().key_path = None;
    assert!(place.run_order(&order).await.error().contains("no private key for web-1"));
    web.stop();
    let ran = place.run_order(&over(place.order(4, &step("Work", "true")), "web-1", &web)).await;
    assert!(ran.error().contains("refused"), "{}", ran.error());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_that_was_killed_left_running_there_is_ended_by_the_next() {
    let (web, mut control, work) = (Sshd::start(), Control::start().await, tempfile::tempdir().unwrap());
    let mut process = Process::with(&mut control, PathBuf::from("/nonexistent/restic")).await;
    fs::write(process.state.path().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    let log = work.path().join("log");
    let steps = step("Hang", &tree(41_200)) + &last("Clean", &format!("echo clean >>{}", log.display()));
    let number = fresh_numbers();
    control.order(&over(order(number, &steps), "web-1", &web)).await;
    control.until(job(number), |told| told.text().contains("hangs").then_some(())).await;
    process.kill();
    until("it goes on there", || left(41_200) == 2).await;
    process.begin(&mut control).await;
    let end = control.end(job(number)).await;
    assert!(
        end.status == JobStatus::Failed && end.error.clone().unwrap().contains("while step 1 (Hang) ran"),
        "{end:?}"
    );
    assert_eq!((left(41_200), fs::read_to_string(&log).unwrap().as_str()), (0, "clean\n"));
}
