//! Steps within a real container, by podman: its own small root file system of busybox and bash, its storage in a folder of the test's own.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use flotilla_proto::{Container, JobStatus};

use super::*;

const APPLETS: [&str; 17] = [
    "cat",
    "date",
    "env",
    "grep",
    "head",
    "id",
    "kill",
    "mkdir",
    "ps",
    "rm",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "touch",
    "tr",
    "wc",
];

/// A container `app` that does nothing, and `bare`, which has no bash.
struct Podman {
    folder: TempDir,
}

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}: install podman, runc and busybox (scripts/setup-tools test)"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Podman {
    fn start() -> Self {
        let podman = Self { folder: tempfile::tempdir().unwrap() };
        let at = |name: &str| podman.folder.path().join(name);
        let root = at("fs");
        for folder in ["bin", "etc", "proc", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.expect("busybox is missing: run scripts/setup-tools test");
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        APPLETS.iter().for_each(|name| symlink("busybox", root.join("bin").join(name)).unwrap());
        let libraries = Command::new("ldd").arg("/bin/bash").arg(busybox).output().unwrap();
        for library in String::from_utf8(libraries.stdout)
            .unwrap()
            .split_whitespace()
            .filter(|word| word.starts_with('/') && word.contains(".so"))
        {
            let target = root.join(&library[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(library, target).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n").unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(at("containers.conf"), "").unwrap();
        let storage = podman.folder.path().display();
        let script = format!(
            "#!/bin/sh\nCONTAINERS_CONF={storage}/containers.conf exec podman --root {storage}/root --runroot {storage}/run --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime runc \"$@\"\n"
        );
        fs::write(at("podman"), script).unwrap();
        fs::set_permissions(at("podman"), fs::Permissions::from_mode(0o755)).unwrap();
        podman.make("bare");
        fs::copy("/bin/bash", root.join("bin/bash")).unwrap();
        podman.make("app");
        podman
    }

    fn cli(&self) -> PathBuf {
        self.folder.path().join("podman")
    }

    fn make(&self, name: &str) {
        let tar = self.folder.path().join("fs.tar");
        output(Command::new("tar").arg("-C").arg(self.folder.path().join("fs")).arg("-cf").arg(&tar).arg("."));
        output(Command::new(self.cli()).args(["import", "-q"]).arg(&tar).arg(name));
        let limits = ["--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
        output(
            Command::new(self.cli()).args(["run", "-d", "--name", name]).args(limits).args([name, "sleep", "100000"]),
        );
    }

    fn order(&self, place: &Place, number: u128, name: &str, user: Option<&str>, steps: &str) -> CommandRun {
        let mut order = place.order(number, steps);
        let cli = self.cli().to_str().unwrap().to_owned();
        book(&mut order).host.container = Some(Container { cli, name: name.to_owned(), user: user.map(str::to_owned) });
        order
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = Command::new(self.cli()).args(["rm", "-f", "-t", "0", "app", "bare"]).output();
    }
}

/// Whether any process of this machine, those of containers among them, runs that.
fn runs(words: &[&str]) -> bool {
    let line = words.iter().map(|word| format!("{word}\0")).collect::<String>();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|folder| fs::read(folder.path().join("cmdline")).is_ok_and(|text| text == line.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_within_the_hosts_container_and_end_there() {
    let (place, podman) = (Place::new(), Podman::start());
    // Values, user, artefacts; and the host itself where a step says so.
    let value = "it's \"$HOME\" `id` $(id) \\ \n; touch /tmp/pwned";
    let steps = step(
        "Within",
        "printf %s {{ v }} >/tmp/argument; cat >/tmp/input; echo \"$V\" | tr a-z A-Z; id -un; echo apart >&2; [ -e /tmp/pwned ] && echo pwned; true",
    ) + "env = { V = \"{{ v }}\" }\nstdin = \"{{ v }}\"\nartefact = { name = \"input\", path = \"/tmp/input\" }\n"
        + &step("Outside", "cat /proc/self/cgroup >/dev/null; [ -e /bin/busybox.none ] || echo outside; ls DIR")
        + "on_host = true\n"
        + "[[inputs]]\nname = \"v\"\ntype = \"string\"\nmultiline = true\n";
    let mut order = podman.order(&place, 1, "app", Some("app"), &steps);
    book(&mut order).inputs.insert("v".to_owned(), value.into());
    let ran = place.run_order(&order).await;
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{} {}", ran.error(), ran.text);
    for line in ["Stdout IT'S \"$HOME\" `ID` $(ID) \\", "Stdout app", "Stderr apart", "Stdout outside"] {
        assert!(ran.text.contains(line), "{line}: {}", ran.text);
    }
    assert!(!ran.text.contains("pwned\n") && !ran.text.contains("flotilla-run"), "{}", ran.text);
    assert_eq!(ran.result.artefacts["input"].size, value.len() as u64);
    assert!(!Path::new("/tmp/input").exists());
    // A script's own code is its own, whichever it is.
    let ran = place.run_order(&podman.order(&place, 2, "app", None, &step("Code", "exit 125"))).await;
    assert_eq!(ran.error(), "Step 1 (Code) failed: its command ended with exit code 125");
    // Nothing is left on either side.
    let tree = step("Hang", "sleep 31571 & setsid sleep 31572 & echo hangs; wait");
    let memory = place.agent.submit(&podman.order(&place, 3, "app", None, &tree));
    poll("all of it runs", || runs(&["sleep", "31571"]) && runs(&["sleep", "31572"]));
    assert!(place.agent.executor.cancel(place.job(3)));
    let ran = Ran::new(memory.end().await, &memory);
    assert!(ran.error().contains("was stopped with all that it had started"), "{} {}", ran.error(), ran.text);
    assert!(!runs(&["sleep", "31571"]) && !runs(&["sleep", "31572"]), "{}", ran.text);
    // The same by way of SSH.
    #[cfg(feature = "ssh")]
    {
        let web = crate::sshd::Sshd::start();
        let steps = step("Far", "printf %s {{ v }}; id -un; cat")
            + "stdin = \"typed\"\n[[inputs]]\nname = \"v\"\ntype = \"string\"\n";
        let mut order = podman.order(&place, 9, "app", Some("app"), &steps);
        let host = &mut book(&mut order).host;
        (host.here, host.ssh) = (false, over_ssh::host("web-1", &web).ssh);
        book(&mut order).inputs.insert("v".to_owned(), "it's $(id) ".into());
        let ran = place.run_order(&order).await;
        assert!(
            ran.text.contains("Stdout it's $(id) app") && ran.text.contains("Stdout typed"),
            "{} {}",
            ran.error(),
            ran.text
        );
    }
    // What can't be entered.
    for (number, name, words) in
        [(4, "nope", "\"nope\" does not exist"), (5, "bare", "\"bare\" has no bash"), (6, "-x", "begins with a dash")]
    {
        let ran = place.run_order(&podman.order(&place, number, name, None, &step("Work", "true"))).await;
        assert!(ran.error().contains(words), "{} {}", ran.error(), ran.text);
    }
    output(Command::new(podman.cli()).args(["stop", "-t", "0", "app"]));
    let ran = place.run_order(&podman.order(&place, 7, "app", None, &step("Work", "true"))).await;
    assert!(ran.error().contains("\"app\" does not run"), "{} {}", ran.error(), ran.text);
    let mut order = podman.order(&place, 8, "app", None, &step("Work", "true"));
    if let Some(container) = &mut book(&mut order).host.container {
        container.cli = "/nonexistent/podman".to_owned();
    }
    assert!(place.run_order(&order).await.error().contains("this host has no /nonexistent/podman"));
}
