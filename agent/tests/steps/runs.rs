//! Steps that do what they should: lines, results, conditions, artefacts, copies, guards, rules of the endpoint.

use std::os::unix::fs::PermissionsExt as _;

use flotilla_proto::{ApiWay, Container, JobStatus, StepState, Stream, Way};
use serde_json::json;

use super::*;

#[tokio::test]
async fn steps_run_in_order_and_their_lines_come_with_their_streams() {
    let place = Place::new();
    let steps = [
        step("One", "echo first; echo apart >&2; echo VERSION=1.2; echo USED=3G"),
        step(
            "Two",
            "cat; echo {{ results.version }} {{ job.actor }} {{ job.kind }} {{ host.name }}; [ -t 0 ] || echo no terminal",
        ) + "stdin = \"typed {{ job.id }}\\n\"\n",
        "[[results]]\nname = \"version\"\nmarker = \"VERSION\"\n".to_owned(),
        "[[results]]\nname = \"used\"\ntype = \"bytes\"\nregex = '^USED=(?P<used>.+)$'\n".to_owned(),
    ];
    let (end, memory) = place.agent.run(&place.order(1, &steps.concat())).await;
    let ran = Ran::new(end, &memory);
    assert_eq!((ran.end.status, ran.end.exit_code, ran.error()), (JobStatus::Succeeded, Some(0), ""), "{}", ran.text);
    let of = |stream| -> Vec<String> {
        memory.look(|seen| seen.lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect())
    };
    let typed = format!("typed {}", place.job(1));
    assert_eq!(of(Stream::Stdout), ["first", "VERSION=1.2", "USED=3G", &typed, "1.2 ada t web-1", "no terminal"]);
    assert_eq!(of(Stream::Stderr), ["apart"]);
    let said = of(Stream::System);
    assert!(said[0].starts_with("runbook t (SHA-256 ") && said[0].ends_with("for web-1, by agent"), "{said:?}");
    assert_eq!(said[1..], ["=== [Step 1/2] One ===", "=== [Step 2/2] Two ==="]);
    assert_eq!(json!(ran.result.results), json!({ "version": "1.2", "used": 3_221_225_472_u64 }));
    assert_eq!((ran.result.runbook.as_str(), ran.result.hash.len(), ran.result.way), ("t", 64, Some(Way::Agent)));
    assert!(ran.result.steps.iter().all(|step| step.exit_code == Some(0) && step.duration_ms.is_some()));
    let progress: Vec<_> = memory.look(|seen| seen.progress.iter().filter_map(|at| at.step.clone()).collect());
    assert_eq!(
        progress.iter().map(|at| (at.at, at.of, at.label.as_str())).collect::<Vec<_>>(),
        [(1, 2, "One"), (2, 2, "Two")]
    );
}

#[tokio::test]
async fn lines_come_while_the_step_runs() {
    let place = Place::new();
    let order = place.order(1, &step("Long", "echo begun; until [ -e DIR/go ]; do sleep 0.02; done; echo over"));
    let memory = place.agent.submit(&order);
    memory.until("a line", |seen| seen.lines.iter().any(|(_, line)| line == "begun").then_some(())).await;
    fs::write(place.at("go"), "").unwrap();
    assert_eq!(memory.end().await.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn the_first_step_that_fails_ends_the_steps_and_the_teardown_runs_and_changes_nothing() {
    let place = Place::new();
    let steps = [
        step("Ignored", "exit 4") + "continue_on_error = true\n",
        step("Left out", "echo never") + "when = \"host.name == 'other'\"\n",
        step("Pipe", "echo a >>DIR/log; false | cat; true") + "when = \"host.name == 'web-1'\"\n",
        step("Fails", "false | cat"),
        step("Behind", "echo b >>DIR/log"),
        last("Clean", "echo clean >>DIR/log; exit 9"),
        last("Sweep", "echo sweep >>DIR/log"),
    ];
    let ran = place.run(1, &steps.concat()).await;
    assert_eq!((ran.end.status, ran.end.exit_code), (JobStatus::Failed, Some(1)), "{}", ran.text);
    assert_eq!(ran.error(), "Step 4 (Fails) failed: its command ended with exit code 1");
    use StepState::{Done, Failed, Ignored, Pending, Skipped};
    assert_eq!(ran.states(), [Ignored, Skipped, Done, Failed, Pending]);
    assert_eq!(ran.result.steps[0].exit_code, Some(4));
    assert_eq!(place.read("log"), "a\nclean\nsweep\n");
    assert_eq!(ran.result.teardown.iter().map(|step| step.state).collect::<Vec<_>>(), [Failed, Done]);
    assert_eq!(ran.result.notes, ["in the teardown, \"Clean\" failed: its command ended with exit code 9"]);
    for line in [
        "[ERROR (continuing): its command ended with exit code 4]",
        "[FAILED: its command ended with exit code 1]",
        "=== Teardown ===",
        "--- Clean ---",
        "[teardown error (ignored): its command ended with exit code 9]",
        "[Step 2/5] Left out === left out: host.name == 'other' does not hold",
    ] {
        assert!(ran.text.contains(line), "{line}: {}", ran.text);
    }
}

#[tokio::test]
async fn where_a_guard_does_not_hold_nothing_is_done() {
    let place = Place::new();
    let steps = step("Work", "echo done >>DIR/log") + &last("Clean", "echo clean >>DIR/log");
    let guard = |cmd: &str| {
        format!("[[guards]]\ncmd = \"{cmd}\"\nmessage = \"{{{{ host.name }}}} has no room\"\ntimeout = 1\n{steps}")
    };
    let ran = place.run(1, &guard("echo looked; exit 3")).await;
    assert_eq!((ran.end.status, ran.error()), (JobStatus::Failed, "nothing was done: web-1 has no room"));
    assert_eq!((place.read("log").as_str(), ran.states()), ("", vec![StepState::Pending]));
    assert!(ran.text.contains("Stdout looked"));
    for (number, cmd, words) in [(2, "sleep 50", "did not end within 1 s"), (3, "no_such_thing", "exit code 127")] {
        let ran = place.run(number, &guard(cmd)).await;
        assert!(
            ran.error().starts_with("nothing was done, for it could not be found out") && ran.error().contains(words),
            "{}",
            ran.error()
        );
    }
    assert_eq!(place.read("log"), "");
    assert_eq!(place.run(4, &guard("true")).await.end.status, JobStatus::Succeeded);
    assert_eq!(place.read("log"), "done\nclean\n");
}

const DUMP: &str = "artefact = { name = \"dump\", path = \"DIR/dump\", min_bytes = 5 }\n";

#[tokio::test]
async fn an_artefact_is_looked_at_and_known_to_later_steps() {
    let place = Place::new();
    let steps = step("Dump", "echo content >DIR/dump")
        + DUMP
        + &step("Tell", "echo {{ artefacts.dump.path }} {{ artefacts.dump.size }} {{ artefacts.dump.sha256 }}");
    let ran = place.run(1, &steps).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{}", ran.text);
    let artefact = &ran.result.artefacts["dump"];
    assert_eq!(
        (artefact.size, artefact.sha256.as_str()),
        (8, "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53")
    );
    assert!(ran.text.contains(&format!("Stdout {} 8 {}", artefact.path, artefact.sha256)), "{}", ran.text);
    for (number, cmd, words) in [
        (2, "true", "it made no "),
        (3, ": >DIR/dump", "has 0 bytes, fewer than 5"),
        (4, "echo a >DIR/dump", "has 2 bytes, fewer than 5"),
        (5, "mkdir DIR/dump", "is no regular file"),
    ] {
        let _ = fs::remove_file(place.at("dump"));
        let ran = place.run(number, &(step("Dump", cmd) + DUMP)).await;
        assert!(ran.end.status == JobStatus::Failed && ran.error().contains(words), "{}", ran.error());
        assert!(ran.result.artefacts.is_empty());
    }
}

#[tokio::test]
async fn a_destructive_step_is_not_begun_where_what_makes_it_safe_was_changed_or_is_gone() {
    let place = Place::new();
    let steps = |meanwhile: &str| {
        "safety = \"dump\"\n".to_owned()
            + &step("Dump", "echo content >DIR/dump")
            + DUMP
            + &step("Meanwhile", meanwhile)
            + &step("Drop", "echo dropped >>DIR/log")
            + "destructive = true\n"
            + &last("Clean", "echo clean >>DIR/log")
    };
    for (number, meanwhile, words) in [
        (1, "rm DIR/dump", "is gone"),
        (2, "echo CONTENT >DIR/dump", "is not what it was"),
        (3, "echo more >>DIR/dump", "is not what it was"),
    ] {
        let ran = place.run(number, &steps(meanwhile)).await;
        assert!(
            ran.error().starts_with("Step 3 (Drop) failed: it was not begun: ") && ran.error().contains(words),
            "{}",
            ran.error()
        );
    }
    assert_eq!(place.read("log"), "clean\n".repeat(3));
    let ran = place.run(4, &steps("true")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{}", ran.text);
    assert!(ran.text.contains("dump is there and unchanged (8 B, SHA-256 434728"), "{}", ran.text);
    assert_eq!(place.read("log"), "clean\n".repeat(3) + "dropped\nclean\n");
}

#[tokio::test]
async fn a_file_is_copied_within_the_machine_whole_or_not_at_all() {
    let place = Place::new();
    fs::write(place.at("a"), vec![9; 3_000_000]).unwrap();
    let copy = |from: &str, to: &str| {
        format!(
            "[[steps]]\ntype = \"scp\"\nlabel = \"Copy\"\ndirection = \"upload\"\nlocal_path = \"DIR/{from}\"\nremote_path = \"DIR/{to}\"\n"
        ) + "artefact = { name = \"copy\", path = \"DIR/b\" }\n"
    };
    let ran = place.run(1, &copy("a", "b")).await;
    assert_eq!((ran.end.status, ran.result.artefacts["copy"].size), (JobStatus::Succeeded, 3_000_000), "{}", ran.text);
    assert!(ran.text.contains("compared by SHA-256"));
    assert_eq!(fs::read(place.at("a")).unwrap(), fs::read(place.at("b")).unwrap());
    for (number, from, to, words) in [(2, "none", "b", "does not exist"), (3, "a", "no/b", "folder does not exist")] {
        let ran = place.run(number, &copy(from, to)).await;
        assert!(ran.error().contains(words), "{}", ran.error());
    }
}

#[tokio::test]
async fn a_result_that_must_be_there_and_is_not_fails_its_step() {
    let place = Place::new();
    let steps = step("Ask", "echo nothing")
        + "[[results]]\nname = \"version\"\nstep = \"Ask\"\nmarker = \"VERSION\"\nrequired = true\n";
    let ran = place.run(1, &steps).await;
    assert_eq!(ran.error(), "Step 1 (Ask) failed: what it printed has no \"version\", which must be there");
}

#[tokio::test]
async fn what_a_step_starts_as_a_service_stays_and_that_it_holds_the_output_is_said() {
    let place = Place::new();
    let ran = place
        .run(1, &(step("Start", "sleep 900 & echo $! >DIR/pids; echo started") + &step("Next", "echo next")))
        .await;
    let pids = place.pids(1);
    let alive = !is_gone(pids[0]);
    harness::signal(pids[0], "-KILL");
    assert_eq!(ran.end.status, JobStatus::Succeeded);
    assert!(alive && ran.text.contains("goes on and holds its output"), "{}", ran.text);
    assert!(ran.text.contains("Stdout started") && ran.text.contains("Stdout next"));
}

#[tokio::test]
async fn what_the_endpoint_does_not_allow_is_not_begun() {
    let place = Place::with(|config| config.runbooks = AllowRunbooks::ByPolicy);
    let steps = step("Work", "echo ran >>DIR/log") + &last("Clean", "echo clean >>DIR/log");
    let rules = place.agent.state.path().join("agent.toml");
    let ran = place.run(1, &steps).await;
    assert!(
        ran.error().starts_with("nothing was done: ")
            && ran.error().contains("did not come with it")
            && ran.error().contains("allow_remote_commands = true"),
        "{}",
        ran.error()
    );
    let opt_in = format!("opt_in = true\n{steps}");
    let opened = |number| {
        let mut order = place.order(number, &opt_in);
        book(&mut order).opened = true;
        order
    };
    assert!(place.run(2, &opt_in).await.error().contains("until an administrator opens"));
    assert!(place.run_order(&opened(3)).await.error().contains("runs what is typed"));
    fs::write(&rules, "allow_remote_commands = 1\n").unwrap();
    assert!(place.run(4, &steps).await.error().contains("are not understood"));
    assert_eq!(place.read("log"), "");
    fs::write(&rules, "allow_remote_commands = true\n").unwrap();
    assert_eq!(place.run(5, &steps).await.end.status, JobStatus::Succeeded);
    assert!(place.run(6, &opt_in).await.error().contains("until an administrator opens"));
    assert_eq!(place.run_order(&opened(7)).await.end.status, JobStatus::Succeeded);
    assert_eq!(place.read("log"), "ran\nclean\n".repeat(2));
}

#[tokio::test]
async fn a_shipped_runbook_does_not_carry_the_control_planes_choice_of_programs_keys_and_addresses_along() {
    let place = Place::with(|config| config.runbooks = AllowRunbooks::ByPolicy);
    let planted = place.at("planted");
    fs::write(&planted, format!("#!/bin/sh\necho planted >>{}\n", place.at("log").display())).unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    let shipped = |number| {
        let mut order = place.order(number, "");
        order.kind = "check_status".parse().unwrap();
        book(&mut order).text = include_str!("../../../runbooks/check_status.toml").to_owned();
        order
    };
    let mut orders = [
        (shipped(1), "run a program of the control plane's choice"),
        (shipped(2), "log in to another machine"),
        (shipped(3), "log in to another machine"),
        (shipped(4), "send requests"),
    ];
    let cli = planted.to_str().unwrap().to_owned();
    book(&mut orders[0].0).host.container = Some(Container { cli, name: "web".to_owned(), user: None });
    book(&mut orders[1].0).host.here = false;
    let other = StepHost { name: "db-1".to_owned(), ..StepHost::default() };
    book(&mut orders[2].0).others.insert("to".to_owned(), other);
    let api =
        ApiWay { base_url: "http://127.0.0.1:9".to_owned(), public_key: None, secret_key: None, tls_insecure: false };
    book(&mut orders[3].0).host.api = Some(api);
    for (order, words) in &orders {
        let ran = place.run_order(order).await;
        assert!(
            ran.error().starts_with("nothing was done: ") && ran.error().contains(words),
            "{words}: {}",
            ran.error()
        );
    }
    assert_eq!(place.read("log"), "");
}

#[tokio::test]
async fn an_order_that_makes_no_sense_ends_with_words() {
    let place = Place::new();
    let good = step("Work", "echo ran >>DIR/log");
    let mut orders = vec![
        (place.order(1, "steps = 1\n"), "does not understand the runbook t: line 3"),
        (place.order(2, &(good.clone() + "colour = \"red\"\n")), "unknown field"),
        (
            place.order(3, &format!("{good}[[inputs]]\nname = \"who\"\ntype = \"string\"\n")),
            "who: this must be answered",
        ),
        (place.order(4, &good), "the job is called other, and its runbook t"),
        (place.order(5, &good), "holds none"),
        (place.order(6, &good), "no way to db-1"),
        (
            place.order(8, "[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"stats\"\n"),
            "has no management interface",
        ),
    ];
    orders[3].0.kind = "other".parse().unwrap();
    orders[4].0.runbook = None;
    let host = &mut book(&mut orders[5].0).host;
    (host.here, host.name) = (false, "db-1".to_owned());
    for (order, words) in &orders {
        let ran = place.run_order(order).await;
        assert!(ran.end.status == JobStatus::Failed && ran.error().contains(words), "{words}: {}", ran.error());
    }
    assert_eq!(place.read("log"), "");
}

#[tokio::test]
async fn what_came_with_the_agent_runs_to_the_letter_and_a_changed_copy_does_not() {
    let place = Place::with(|config| config.runbooks = AllowRunbooks::ByPolicy);
    let shipped = |number, change: &str| {
        let mut order = place.order(number, "");
        order.kind = "check_status".parse().unwrap();
        book(&mut order).text = include_str!("../../../runbooks/check_status.toml").to_owned() + change;
        order
    };
    let ran = place.run_order(&shipped(1, "")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    let results = json!(ran.result.results);
    assert!(results["memory_total"].as_u64() > Some(1 << 20) && results["load_1m"].is_number(), "{results}");
    // Of these only one with tabs between its fields can be read.
    assert!(
        results["disks"].as_array().is_some_and(|disks| disks.iter().all(|disk| disk["mount"].is_string())),
        "{results}"
    );
    let ran = place.run_order(&shipped(2, "# changed\n")).await;
    assert!(ran.error().contains("check_status is not the one that came with it"), "{}", ran.error());
}
