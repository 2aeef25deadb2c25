//! The runbooks that come with the program, run for real on this machine.

use std::process::Command;

use flotilla_proto::{FailureClass, JobStatus};

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
