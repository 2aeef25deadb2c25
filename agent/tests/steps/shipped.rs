//! The runbooks that come with the program, run for real on this machine.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use flotilla_proto::{ApiWay, FailureClass, JobStatus, Secret};
use serde_json::{Value, json};

use super::*;

/// An order for a shipped runbook, with these facts of the host.
fn shipped(place: &Place, number: u128, name: &str, facts: &[(&str, &str)]) -> CommandRun {
    let mut order = place.order(number, "");
    order.kind = name.parse().unwrap();
    let book = book(&mut order);
    book.text = flotilla_agent::runbook::SHIPPED.iter().find(|(of, _)| *of == name).unwrap().1.to_owned();
    book.host.facts.extend(facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    order
}

/// A service of its own: an HTTP server that says which process it is, and a program that restarts it.
struct Web {
    folder: TempDir,
    port: u16,
}

impl Web {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let web = Self { folder: tempfile::tempdir().unwrap(), port: harness::free_port() };
        let (folder, port) = (web.folder.path().display(), web.port);
        let script = format!(
            "#!/bin/sh\n[ ! -e {folder}/pid ] || kill \"$(cat {folder}/pid)\" 2>/dev/null\ncd {folder} || exit\nsetsid python3 -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1 </dev/null &\necho $! >{folder}/pid\necho restarted\n"
        );
        let path = web.folder.path().join("restart-web");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        web
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default().trim().to_owned()
    }

    fn answers(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid()).status();
    }
}

#[tokio::test]
async fn restart_runs_the_hosts_own_command_with_its_path_and_the_service_is_another_process() {
    let (place, web) = (Place::new(), Web::new());
    let path = web.folder.path().to_str().unwrap();
    let order =
        |number| shipped(&place, number, "restart", &[("restart_command", "restart-web"), ("restart_path", path)]);
    let ran = place.run_order(&order(1)).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    poll("the service answers", || web.answers());
    let before = web.pid();
    let ran = place.run_order(&order(2)).await;
    assert_eq!((ran.end.status, ran.result.class), (JobStatus::Succeeded, None), "{}", ran.text);
    assert_ne!(before, web.pid());
    poll("the service answers again", || is_gone(before.parse().unwrap()) && web.answers());
    // Without its folder there is no such command.
    let ran = place.run_order(&shipped(&place, 3, "restart", &[("restart_command", "restart-web")])).await;
    assert_eq!((ran.end.exit_code, ran.result.class), (Some(127), Some(FailureClass::Exit)), "{}", ran.text);
}

#[tokio::test]
async fn a_restart_that_forks_and_hangs_is_ended_with_its_tree_at_the_hosts_limit() {
    let place = Place::new();
    let pids = place.at("pids");
    let command = format!(
        "for n in 1 2; do setsid sleep 300 & echo $! >>{0}; done; (sleep 300 & echo $! >>{0}; wait) & wait",
        pids.display()
    );
    let mut order = shipped(&place, 1, "restart", &[("restart_command", &command)]);
    order.timeout_s = 2;
    let ran = place.run_order(&order).await;
    assert_eq!((ran.end.status, ran.result.class), (JobStatus::Failed, Some(FailureClass::TimedOut)), "{}", ran.text);
    assert_eq!(ran.result.steps[0].class, Some(FailureClass::TimedOut));
    assert!(ran.error().contains("was stopped with all that it had started"), "{}", ran.error());
    assert!(all_gone(&place.pids(3)));
}

#[tokio::test]
async fn a_host_that_takes_no_commands_from_the_control_plane_refuses_its_restart_command() {
    let place = Place::with(|config| config.runbooks = AllowRunbooks::ByPolicy);
    let touch = format!("touch {}", place.at("log").display());
    let order = |number| shipped(&place, number, "restart", &[("restart_command", &touch)]);
    let ran = place.run_order(&order(1)).await;
    assert!(
        ran.error().contains("runs no commands from there") && ran.error().contains("allow_remote_commands = true"),
        "{}",
        ran.error()
    );
    assert_eq!((ran.result.class, place.at("log").exists()), (Some(FailureClass::NotConfigured), false));
    fs::write(place.agent.state.path().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    assert_eq!(place.run_order(&order(2)).await.end.status, JobStatus::Succeeded);
    assert!(place.at("log").exists());
}

/// The example of a management interface, which answers with the figures of this machine.
struct Interface {
    child: Child,
    base_url: String,
}

impl Interface {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/status-interface.py"))
            .arg("0")
            .envs([("FLOTILLA_PUBLIC_KEY", "public-1"), ("FLOTILLA_SECRET_KEY", "planted-api-key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut base_url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut base_url).unwrap();
        Self { child, base_url: base_url.trim().to_owned() }
    }

    fn way(&self, secret: &str) -> ApiWay {
        ApiWay {
            base_url: self.base_url.clone(),
            public_key: Some("public-1".to_owned()),
            secret_key: Some(Secret::from(secret)),
            tls_insecure: false,
        }
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names that both ways must know, with figures that are the same a moment later.
const STEADY: [&str; 6] = ["disk_total", "disk_usage_percent", "kernel", "cpus", "memory_total", "disk_used"];

fn close(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= a.max(b) / 20.0 + 1.0,
        _ => a == b,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_has_one_shape_whether_by_agent_or_by_the_management_interface() {
    let (place, interface) = (Place::new(), Interface::start());
    let log = place.at("app.log");
    fs::write(&log, "all well\nFATAL: no more\n").unwrap();
    let mut order = shipped(&place, 1, "check_status", &[]);
    book(&mut order).inputs.insert("log_path".to_owned(), json!(log));
    let by_agent = place.run_order(&order).await;
    assert_eq!(by_agent.end.status, JobStatus::Succeeded, "{} {}", by_agent.error(), by_agent.text);
    assert_eq!(by_agent.states()[0], StepState::Skipped);
    assert_eq!(by_agent.result.results["recent_errors"], json!(["FATAL: no more"]));
    assert!(by_agent.result.notes.is_empty(), "{:?}", by_agent.result.notes);
    let by_interface = |number, secret: &str| {
        let mut order = shipped(&place, number, "check_status", &[]);
        (book(&mut order).way, book(&mut order).host.api) = (Way::Api, Some(interface.way(secret)));
        order
    };
    let by_api = place.run_order(&by_interface(2, "planted-api-key")).await;
    assert_eq!(by_api.end.status, JobStatus::Succeeded, "{} {}", by_api.error(), by_api.text);
    assert!(by_api.states()[1..].iter().all(|state| *state == StepState::Skipped));
    for name in STEADY {
        let (one, other) = (&by_agent.result.results[name], &by_api.result.results[name]);
        assert!(close(one, other), "{name}: {one} {other}");
    }
    for name in ["load_1m", "load_5m", "load_15m", "uptime_s", "memory_used", "memory_available", "disk_available"] {
        assert!(by_agent.result.results[name].is_number() && by_api.result.results[name].is_number(), "{name}");
    }
    let disk =
        |ran: &Ran| -> Vec<String> { ran.result.results["disks"][0].as_object().unwrap().keys().cloned().collect() };
    assert_eq!(disk(&by_agent), disk(&by_api));
    assert!(by_agent.result.results["disks"][0]["percent"].is_u64(), "{}", by_agent.result.results["disks"]);
    let refused = place.run_order(&by_interface(3, "wrong-api-key")).await;
    assert_eq!(refused.result.class, Some(FailureClass::Authentication), "{}", refused.error());
    assert!(!by_api.text.contains("planted-api-key"));
}

#[tokio::test]
async fn updates_are_listed_and_counted_and_nothing_is_installed() {
    let place = Place::new();
    let ran = place.run_order(&shipped(&place, 1, "os_updates", &[])).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    let listed = ran.result.results.get("updates").and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(ran.result.results["count"], json!(listed), "{}", ran.text);
    assert!(ran.result.results["security"].as_u64().unwrap() <= listed as u64);
    assert!(ran.result.results["reboot_needed"].is_boolean());
    assert_eq!(ran.states()[1], StepState::Skipped);
}

#[tokio::test]
async fn an_update_tells_its_versions_and_a_check_that_does_not_hold_fails_it() {
    let place = Place::new();
    let order = |number, check: &str| {
        let mut order = shipped(&place, number, "apply_update", &[]);
        let dir = place.work.path().display();
        let book = book(&mut order);
        book.opened = true;
        book.inputs = serde_json::from_value(json!({
            "command": format!("cd {dir}\necho 2 >version"),
            "version": format!("cat {dir}/version"),
            "check": check,
        }))
        .unwrap();
        order
    };
    fs::write(place.at("version"), "1\n").unwrap();
    let ran = place.run_order(&order(1, "true")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    let found = json!(ran.result.results);
    assert_eq!(found, json!({ "version_before": "1", "version_after": "2", "healthy": true }));
    let ran = place.run_order(&order(2, "exit 7")).await;
    assert_eq!(
        (ran.end.status, ran.end.exit_code, ran.result.class),
        (JobStatus::Failed, Some(7), Some(FailureClass::Exit))
    );
    assert!(ran.error().contains("(Check)"), "{}", ran.error());
}

#[tokio::test]
async fn a_command_of_an_administrators_is_taken_with_its_limit() {
    let place = Place::new();
    let order = |number, params: Value| {
        let mut order = shipped(&place, number, "run_command", &[]);
        book(&mut order).opened = true;
        book(&mut order).inputs = serde_json::from_value(params).unwrap();
        order
    };
    let ran = place.run_order(&order(1, json!({ "command": "uname -a", "timeout_s": 30 }))).await;
    assert!(ran.end.status == JobStatus::Succeeded && ran.text.contains("Linux"), "{} {}", ran.error(), ran.text);
    let ran = place.run_order(&order(2, json!({ "command": "sleep 60; echo survived", "timeout_s": 1 }))).await;
    assert!(ran.end.status == JobStatus::Failed && !ran.text.contains("survived"), "{} {}", ran.error(), ran.text);
}

#[cfg(feature = "ssh")]
#[tokio::test(flavor = "multi_thread")]
async fn the_machine_of_the_control_plane_is_not_rebooted() {
    let (place, web) = (Place::new(), sshd::Sshd::start());
    let mut order = shipped(&place, 1, "reboot", &[]);
    (book(&mut order).way, book(&mut order).host) = (Way::Ssh, over_ssh::host("web-1", &web));
    let ran = place.run_order(&order).await;
    assert_eq!(ran.end.status, JobStatus::Failed, "{}", ran.text);
    // Either it says that this is a container, or that it is this very machine.
    assert!(
        ran.error().contains("is a container") || ran.text.contains("the machine that the control plane runs on"),
        "{}",
        ran.text
    );
    assert!(ran.states()[2..].iter().all(|state| *state == StepState::Pending), "it was not asked to reboot");
}

#[tokio::test]
async fn the_example_that_puts_a_key_into_a_json_file_changes_that_and_nothing_else_and_shows_no_value() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let text = include_str!("../../../examples/runbooks/push_key.toml");
    let order = |number, key: &str| {
        let mut order = place.order(number, "");
        order.kind = "push_key".parse().unwrap();
        let book = book(&mut order);
        book.text = text.to_owned();
        book.inputs = serde_json::from_value(json!({ "path": place.at("config.json"), "key": key })).unwrap();
        book.secrets.insert("value".to_owned(), "planted'\"$(id)\\n".into());
        order
    };
    fs::write(place.at("config.json"), r#"{"name": "app", "server": {"port": 80}}"#).unwrap();
    fs::set_permissions(place.at("config.json"), fs::Permissions::from_mode(0o640)).unwrap();
    let ran = place.run_order(&order(1, "server.token")).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    let now: Value = serde_json::from_str(&place.read("config.json")).unwrap();
    assert_eq!(now, json!({ "name": "app", "server": { "port": 80, "token": "planted'\"$(id)\\n" } }));
    assert_eq!(fs::metadata(place.at("config.json")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!ran.text.contains("planted"), "{}", ran.text);
    assert_eq!(ran.result.results["changed"], true);
    assert!(place.read("config.json.before").contains(r#"{"port": 80}"#));
    assert_eq!(place.run_order(&order(2, "server.token")).await.result.results["changed"], false);
    fs::write(place.at("config.json"), "no json").unwrap();
    let ran = place.run_order(&order(3, "a")).await;
    assert_eq!((ran.end.status, place.read("config.json").as_str()), (JobStatus::Failed, "no json"));
}
