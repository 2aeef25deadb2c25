//! Discovery on real parts: an agent whose owner allows no remote commands looks through a tree of files and a real container, and what it finds becomes sites. No
//! secret of those files is anywhere afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::Method;
use serde_json::{Value, json};

use house::{House, program::tool};

/// Stands where secrets are.
const SENTINEL: &str = "planted-S3NTINEL-of-a-site";

const WP: &str = "<?php\ndefine('DB_NAME', getenv_docker('WORDPRESS_DB_NAME', 'wordpress'));\ndefine('DB_USER', 'blog');\n\
                  define('DB_PASSWORD', getenv_docker('WORDPRESS_DB_PASSWORD', '@@'));\ndefine('AUTH_KEY', '@@');\ndefine('WP_HOME', 'https://blog.example');\n";

fn plant(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@@", SENTINEL)).unwrap();
    }
}

/// A podman with a storage of its own, and in it the container `blog`, of busybox and a few files.
struct Podman {
    folder: PathBuf,
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run scripts/setup-tools test"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Podman {
    fn start(folder: PathBuf) -> Self {
        Self::start_with(folder, false)
    }

    /// `bash`: one in which steps can run.
    fn start_with(folder: PathBuf, bash: bool) -> Self {
        let podman = Self { folder };
        let at = |name: &str| podman.folder.join(name);
        let root = at("fs");
        for folder in ["bin", "etc", "proc", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox is missing: run scripts/setup-tools test"), root.join("bin/busybox")).unwrap();
        for applet in ["awk", "cat", "find", "sh", "sleep", "test", "wc"] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let libraries = Command::new("ldd").arg("/bin/bash").arg(root.join("bin/busybox")).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/') && word.contains(".so"));
        for file in libraries.chain(bash.then_some("/bin/bash")) {
            let target = root.join(&file[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(file, target).unwrap();
        }
        for applet in ["env", "grep", "id", "kill", "setsid", "tr"].into_iter().filter(|_| bash) {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        plant(
            &root,
            &[
                ("planted/html/wp-config.php", WP),
                ("planted/html/wp-includes/version.php", "<?php $wp_version = '6.4.2';"),
                ("planted/tool/app.ini", "[app]\nname = A tool\npassword = @@\n"),
            ],
        );
        fs::create_dir_all(at("bin")).unwrap();
        fs::write(at("containers.conf"), "").unwrap();
        let storage = podman.folder.display();
        let script = format!(
            "#!/bin/sh\nCONTAINERS_CONF={storage}/containers.conf exec /usr/bin/podman --root {storage}/root --runroot {storage}/run --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime runc \"$@\"\n"
        );
        fs::write(podman.cli(), script).unwrap();
        fs::set_permissions(podman.cli(), fs::Permissions::from_mode(0o755)).unwrap();
        let tar = at("fs.tar");
        must(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        must(Command::new(podman.cli()).args(["import", "-q"]).arg(&tar).arg("blog"));
        let limits = ["--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
        let secret = format!("WORDPRESS_DB_PASSWORD={SENTINEL}");
        let env = ["-e", "WORDPRESS_DB_NAME=blogdb", "-e", secret.as_str()];
        must(
            Command::new(podman.cli())
                .args(["run", "-d", "--name", "blog"])
                .args(limits)
                .args(env)
                .args(["blog", "sleep", "100000"]),
        );
        podman
    }

    fn cli(&self) -> PathBuf {
        self.folder.join("bin/podman")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = Command::new(self.cli()).args(["rm", "-f", "-t", "0", "blog"]).output();
    }
}

/// Whether the secret stands in any file of a folder.
fn holds_secret(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return holds_secret(&path);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(SENTINEL.len()).any(|window| window == SENTINEL.as_bytes()).then_some(path)
    })
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|site| site["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_lives_in_containers_and_beside_them_is_found_and_added_and_its_secrets_are_nowhere() {
    let house = House::start().await;
    let podman = Podman::start(house.folder("podman"));
    let path = format!("{}:{}:/usr/bin:/bin", podman.folder.join("bin").display(), tool("bin").display());
    let agent = house.enrol("web", Path::new(&path)).await;
    house.api.host_in_state(&agent.host_id, "online").await;
    let tree = house.folder("tree");
    plant(
        &tree,
        &[
            ("crm/.env", "APP_NAME=\"The CRM\"\nAPP_KEY=@@\nDB_CONNECTION=mysql\nDB_DATABASE=crm\nDB_PASSWORD='@@'\n"),
            ("crm/artisan", ""),
            (
                "stack/compose.yaml",
                "name: stack\nservices:\n  db:\n    image: x\n    environment:\n      MYSQL_ROOT_PASSWORD: @@\n",
            ),
        ],
    );
    let params = json!({"roots": format!("{}\n/planted", tree.display()), "detectors": "tool app.ini ini name=app.name secret=app.password"});
    let job = house.api.order(&agent.host_id, json!({"kind": "discover", "params": params})).await;
    let end = house.api.end_of(&job).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let results = &end["summary"]["results"];
    let found = results["sites"].as_array().unwrap();
    assert_eq!(found.len(), 4, "{results}");
    let blog = found.iter().find(|site| site["kind"] == "wordpress").unwrap();
    assert_eq!(blog["container"], json!({"cli": "podman", "name": "blog"}));
    assert_eq!(
        blog["facts"],
        json!({"db_engine": "mysql", "db_name": "blogdb", "db_user": "blog", "url": "https://blog.example", "version": "6.4.2"})
    );
    assert!(results["containers"].as_array().unwrap().iter().any(|container| container["name"] == "blog"), "{results}");
    assert!(results["host"]["os"].is_string(), "{results}");

    // One of them, by its key; then all: what is there is skipped.
    let add = |body: Value| house.api.post("/api/sites/from-discovery", body);
    let one = add(json!({"job_id": job, "keys": ["blog:/planted/html", ":/no/such"]})).await.must(200);
    assert_eq!((names(&one["created"]), &one["skipped"]), (vec!["blog.example"], &json!([])), "{one}");
    assert_eq!(one["errors"][0]["key"], ":/no/such");
    let all = add(json!({"job_id": job})).await.must(200);
    assert_eq!(all["created"].as_array().unwrap().len(), 3, "{all}");
    assert_eq!(all["skipped"], json!([{"key": "blog:/planted/html", "site_id": one["created"][0]["id"]}]));
    let listed = house.api.get(&format!("/api/sites?host_id={}", agent.host_id)).await;
    assert_eq!(names(&listed["items"]), ["A tool", "blog.example", "stack", "The CRM"]);
    assert_eq!(add(json!({"job_id": job})).await.must(200)["created"], json!([]));

    // Another look finds the same; a job that is no discovery finds nothing.
    let again = house.api.order(&agent.host_id, json!({"kind": "discover", "params": params})).await;
    house.api.end_of(&again).await;
    assert_eq!(add(json!({"job_id": again})).await.must(200)["skipped"].as_array().unwrap().len(), 4);
    let status = house.api.order(&agent.host_id, json!({"kind": "check_status"})).await;
    house.api.end_of(&status).await;
    add(json!({"job_id": status})).await.must(409);
    add(json!({"job_id": agent.host_id})).await.must(404);

    // Its page has a card for each, and the site a page of its own.
    let page = async |path: String| house.api.client(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let html = page(format!("/jobs/{again}")).await;
    assert!(html.contains("4 sites found") && html.contains("All are added."), "{html}");
    let html = page(format!("/sites/{}", one["created"][0]["id"].as_str().unwrap())).await;
    assert!(html.contains("blogdb") && html.contains("/planted/html"), "{html}");
    assert!(page(format!("/hosts/{}?tab=sites", agent.host_id)).await.contains("The CRM"));

    assert!(!house.api.log_text(&job).await.contains(SENTINEL) && !house.server_log().contains(SENTINEL));
    assert!(!agent.log().contains(SENTINEL));
    assert_eq!(holds_secret(&house.data_dir()).or_else(|| holds_secret(&agent.state_dir())), None);
}

#[tokio::test]
async fn sites_are_added_from_the_page_one_by_one_and_all_at_once() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    let tree = house.folder("tree");
    plant(&tree, &[("a/.env", "APP_NAME=Same\n"), ("b/.env", "APP_NAME=Same\n"), ("c/.env", "APP_NAME=Other\n")]);
    let params = json!({"roots": tree.display().to_string(), "containers": false});
    let job = house.api.order(&agent.host_id, json!({"kind": "discover", "params": params})).await;
    house.api.end_of(&job).await;
    let post = async |fields: &[(&str, &str)], status: u16| {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = house.api.client(Method::POST, "/sites/from-discovery");
        let answer =
            request.header("content-type", "application/x-www-form-urlencoded").body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
    };
    let key = format!(":{}", tree.join("b").display());
    post(&[("job_id", &job), ("key", &key)], 303).await;
    let slugs = async || {
        let listed = house.api.get("/api/sites").await;
        let slugs = listed["items"].as_array().unwrap().iter().map(|site| site["slug"].as_str().unwrap().to_owned());
        slugs.collect::<Vec<_>>()
    };
    assert_eq!(slugs().await, ["same"]);
    post(&[("job_id", &job)], 303).await;
    assert_eq!(slugs().await, ["other", "same", "same-2"]);
    post(&[("job_id", "x")], 422).await;
    // From the host's page one leads to the other.
    let path = format!("/hosts/{}/discover", agent.host_id);
    let answer = house.api.client(Method::POST, &path).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(house.api.end_of(to.strip_prefix("/jobs/").unwrap()).await["status"], "succeeded");
}

#[tokio::test]
async fn a_site_is_made_changed_and_removed_by_operators_and_its_slug_is_its_own() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    for (name, role) in [("otto", "operator"), ("vera", "viewer")] {
        let user = json!({"name": name, "role": role, "password": "a long enough password"});
        house.api.post("/api/users", user).await.must(201);
    }
    let shop = json!({"host_id": agent.host_id, "name": "Shop", "root": "/srv/shop", "facts": {"db_name": "shop"},
                      "container": {"cli": "docker", "name": "shop-web"}});
    let house = house.with_token("otto");
    let made = house.api.post("/api/sites", shop.clone()).await.must(201);
    assert_eq!(
        (&made["slug"], &made["kind"], &made["container"]["name"]),
        (&json!("shop"), &json!("other"), &json!("shop-web"))
    );
    let twice = house.api.post("/api/sites", shop.clone()).await.must(409);
    assert!(twice["detail"].as_str().unwrap().contains("slug shop"), "{twice}");
    let bad = json!({"host_id": made["id"], "name": "", "slug": "A b", "root": "srv", "url": "https://u:p@h/", "facts": {"db_password": "x"},
                     "container": {"cli": "sh", "name": "-x"}});
    let refused = house.api.post("/api/sites", bad).await.must(422);
    let fields: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["host_id", "name", "slug", "root", "url", "container", "facts"]);
    let path = format!("/api/sites/{}", made["id"].as_str().unwrap());
    let patch = json!({"name": "The shop", "container": null, "url": "https://shop.example"});
    let changed = house.api.ask(Method::PATCH, &path, Some(patch)).await.must(200);
    assert_eq!(
        (&changed["name"], &changed["container"], &changed["root"]),
        (&json!("The shop"), &Value::Null, &json!("/srv/shop"))
    );
    let house = house.with_token("vera");
    assert_eq!(house.api.get(&path).await["slug"], "shop");
    for (method, body) in [(Method::PATCH, Some(json!({"name": "x"}))), (Method::DELETE, None)] {
        house.api.ask(method, &path, body).await.must(403);
    }
    house.api.post("/api/sites", shop.clone()).await.must(403);
    let house = house.with_token("ada");
    house.api.ask(Method::DELETE, &path, None).await.must(204);
    house.api.ask(Method::GET, &path, None).await.must(404);
    // Its slug is free again; and those of a host that is removed.
    house.api.post("/api/sites", shop.clone()).await.must(201);
    let other = house.agent("other").await;
    house.api.ask(Method::DELETE, &format!("/api/hosts/{}", agent.host_id), None).await;
    assert_eq!(house.api.get("/api/sites").await["items"], json!([]));
    let moved = json!({"host_id": other.host_id, "name": "Shop"});
    assert_eq!(house.api.post("/api/sites", moved).await.must(201)["slug"], "shop");
}

const CLEAR: &str = r#"
name = "clear"
title = "Clear the cache"
scope = "site"

[[inputs]]
name = "also"
type = "site"
optional = true

[[steps]]
type = "ssh"
label = "Within"
cmd = """
echo at {{ site.root }} of {{ site.slug }}, {{ site.db_name }}, {{ also }}
pwd
[ -f /planted/html/wp-config.php ] && echo inside
"""

[[steps]]
type = "ssh"
label = "Beside"
on_host = true
cmd = "[ -f /planted/html/wp-config.php ] || echo outside"
"#;

#[tokio::test]
async fn a_runbook_about_a_site_runs_in_the_sites_container_with_its_facts() {
    let house = House::start().await;
    let podman = Podman::start_with(house.folder("podman"), true);
    let path = format!("{}:{}:/usr/bin:/bin", podman.folder.join("bin").display(), tool("bin").display());
    let agent = house.enrol("web", Path::new(&path)).await;
    house.api.host_in_state(&agent.host_id, "online").await;
    fs::write(agent.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    fs::create_dir_all(house.data_dir().join("runbooks")).unwrap();
    fs::write(house.data_dir().join("runbooks/clear.toml"), CLEAR).unwrap();
    let site = json!({"host_id": agent.host_id, "name": "It's $(id)", "slug": "blog", "root": "/planted/html",
                      "container": {"cli": "podman", "name": "blog"}, "facts": {"db_name": "a'; id; \"$b"}});
    let site = house.api.post("/api/sites", site).await.must(201);
    let id = site["id"].as_str().unwrap();
    let other = house.agent("other").await;
    let order = async |host: &str, order: Value| house.api.post(&format!("/api/hosts/{host}/jobs"), order).await;
    for (host, body, words) in [
        (&agent.host_id, json!({"kind": "clear"}), "about a site"),
        (&agent.host_id, json!({"kind": "clear", "params": {"site_id": "nobody"}}), "names no site"),
        (&other.host_id, json!({"kind": "clear", "site_id": id}), "is on web, not on other"),
        (&agent.host_id, json!({"kind": "check_status", "site_id": id}), "which is about a host"),
        (&agent.host_id, json!({"kind": "clear", "site_id": id, "params": {"also": "x"}}), "names no site"),
    ] {
        let refused = order(host, body.clone()).await.must(422);
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains(words), "{body}: {refused}");
    }
    let job =
        house.api.order(&agent.host_id, json!({"kind": "clear", "params": {"site_id": "blog", "also": id}})).await;
    let end = house.api.end_of(&job).await;
    assert_eq!((&end["status"], &end["site_id"]), (&json!("succeeded"), &json!(id)), "{end}");
    let log = house.api.log_text(&job).await;
    for line in ["at /planted/html of blog, a'; id; \"$b, blog", "inside", "outside"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    // Its page runs it as well, and lists both; a re-run is about the same site.
    let run = house.api.client(Method::POST, &format!("/sites/{id}/run"));
    let body = run.header("content-type", "application/x-www-form-urlencoded").body("kind=clear").send().await.unwrap();
    let to = body.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(house.api.end_of(to.strip_prefix("/jobs/").unwrap()).await["site_id"], json!(id));
    let page = house.api.client(Method::GET, &format!("/sites/{id}")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains(&to) && page.contains(&job), "{page}");
    let again = house.api.post(&format!("/api/jobs/{job}/rerun"), json!({})).await.must(202);
    let again = house.api.end_of(again["job_id"].as_str().unwrap()).await;
    assert_eq!((&again["status"], &again["site_id"]), (&json!("succeeded"), &json!(id)), "{again}");
    // What was removed is not run on.
    house.api.ask(Method::DELETE, &format!("/api/sites/{id}"), None).await.must(204);
    house.api.post(&format!("/api/jobs/{job}/rerun"), json!({})).await.must(422);
}
