//! Getting files back on real parts: downloads through the browser's way, byte by byte, also of a host that was removed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Client, Method, Response, header, redirect::Policy};
use serde_json::{Value, json};

use house::{
    Agent, House,
    program::run,
    repository::RestServer,
    tree::{assert_same, noise, write_files},
    wait::until,
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A house with one snapshot of `source`.
struct Saved {
    house: House,
    _rest: RestServer,
    agent: Agent,
    source: PathBuf,
    repo: String,
    snapshot: String,
}

impl Saved {
    async fn start() -> Self {
        let house = House::start().await;
        let rest = RestServer::start(&house.folder("rest")).await;
        let source = house.folder("source");
        write_files(&source.join("folder"), 25, 3000);
        fs::create_dir_all(source.join("folder/deep/empty")).unwrap();
        fs::write(source.join("big.bin"), noise(7, 5_000_000)).unwrap();
        fs::write(source.join("a \"quoted\"\nname; é.txt"), "odd").unwrap();
        let agent = house.agent("web").await;
        let repo = house.api.repo(rest.ready("vault")).await;
        let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 0).await;
        let job = house.api.back_up(&agent.host_id, &plan).await;
        let ended = house.api.end_of(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        let snapshot = ended["summary"]["snapshot_id"].as_str().unwrap().to_owned();
        Self { house, _rest: rest, agent, source, repo, snapshot }
    }

    /// Sends the form as the page's buttons do.
    async fn ordered(&self, fields: &[(&str, &str)]) -> Response {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        let at = format!("{}/restore/{}/{}/download", self.house.url, self.repo, self.snapshot);
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let ordered = client
            .post(at)
            .bearer_auth(&self.house.api.token)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form);
        ordered.send().await.unwrap()
    }

    /// Orders a download, and asks for its bytes. Gives its job too.
    async fn download(&self, wish: &str, encoding: &str) -> (String, Response) {
        self.download_by(&[("get", wish)], encoding).await
    }

    async fn download_by(&self, fields: &[(&str, &str)], encoding: &str) -> (String, Response) {
        let answer = self.ordered(fields).await;
        assert_eq!(answer.status(), 303, "{fields:?}: {}", answer.text().await.unwrap());
        let to = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        (to.rsplit('/').next().unwrap().to_owned(), self.fetch(&to, encoding).await)
    }

    /// The bytes; where the page that waits comes, it is asked for again as a browser does.
    async fn fetch(&self, to: &str, encoding: &str) -> Response {
        until("the download begins", async || {
            let ask = Client::new().get(format!("{}{to}", self.house.url)).bearer_auth(&self.house.api.token);
            let ask = ask.header(header::ACCEPT, "application/json").header(header::ACCEPT_ENCODING, encoding);
            Some(ask.send().await.unwrap()).filter(|answer| !answer.headers().contains_key(header::REFRESH))
        })
        .await
    }

    /// The bytes of a download, in a file.
    async fn saved(&self, wish: &str, name: &str) -> PathBuf {
        self.saved_by(&[("get", wish)], name).await
    }

    async fn saved_by(&self, fields: &[(&str, &str)], name: &str) -> PathBuf {
        let (job, answer) = self.download_by(fields, "gzip").await;
        assert_eq!(answer.status(), 200, "{fields:?}: {}", answer.text().await.unwrap());
        assert!(answer.headers().get(header::CONTENT_ENCODING).is_none(), "it is sent as it is");
        let said = answer.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert!(said.starts_with("attachment; filename=\""), "{said}");
        let file = self.house.folder("downloads").join(name);
        fs::write(&file, answer.bytes().await.unwrap()).unwrap();
        let ended: Value = self.house.api.end_of(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        assert_eq!(ended["summary"]["bytes"], fs::metadata(&file).unwrap().len(), "{ended}");
        file
    }

    fn inside(&self, rest: &str) -> String {
        format!("{}/{rest}", text(&self.source))
    }
}

#[tokio::test]
async fn a_file_and_a_folder_are_downloaded_byte_by_byte_as_they_are_as_tar_and_as_zip() {
    let saved = Saved::start().await;
    let file = saved.saved(&format!("file:{}", saved.inside("big.bin")), "big.bin").await;
    assert!(fs::read(&file).unwrap() == fs::read(saved.source.join("big.bin")).unwrap());
    let odd = saved.saved(&format!("file:{}", saved.inside("a \"quoted\"%0Aname; é.txt")), "odd").await;
    assert_eq!(fs::read_to_string(odd).unwrap(), "odd");

    let folder = saved.source.join("folder");
    for (form, unpack) in [("tar", "tarfile.open(sys.argv[1])"), ("zip", "zipfile.ZipFile(sys.argv[1])")] {
        let archive = saved.saved(&format!("{form}:{}", saved.inside("folder")), &format!("folder.{form}")).await;
        let out = saved.house.folder(&format!("out-{form}"));
        let script = format!("import sys, tarfile, zipfile; {unpack}.extractall(sys.argv[2])");
        run(Command::new("python3").args(["-c", &script]).arg(&archive).arg(&out), "").must();
        // restic puts the folder's whole path into a zip, and its content into a tar.
        let whole = out.join(folder.strip_prefix("/").unwrap());
        let root = if whole.exists() { whole } else { out };
        for n in fs::read_dir(&folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()) {
            let name = n.unwrap().file_name();
            assert!(fs::read(folder.join(&name)).unwrap() == fs::read(root.join(&name)).unwrap(), "{form} {name:?}");
        }
        assert!(root.join("deep/empty").is_dir(), "{form}");
    }
}

#[tokio::test]
async fn what_is_ticked_comes_as_one_tar_with_every_file_in_its_place() {
    let saved = Saved::start().await;
    let odd = saved.inside("a \"quoted\"%0Aname; é.txt");
    let [folder, deep, big] = ["folder", "folder/deep", "big.bin"].map(|name| saved.inside(name));
    // What lies in a folder that is ticked too comes once.
    let fields = [("get", "picked"), ("chosen", &deep), ("chosen", &folder), ("pick", &big), ("pick", &odd)];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, *value as &str)).collect();
    let archive = saved.saved_by(&fields, "picked.tar").await;
    let out = saved.house.folder("out");
    run(Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&out), "").must();
    let root = out.join(saved.source.strip_prefix("/").unwrap());
    // Not by their times: restic's tars have whole seconds.
    run(Command::new("diff").arg("--recursive").arg(&saved.source).arg(&root), "").must();

    let api = &saved.house.api;
    let order = json!({"kind": "dump", "repo_id": saved.repo, "snapshot": saved.snapshot, "paths": [folder, big]});
    let job = api.order(&saved.agent.host_id, order.clone()).await;
    let answer = saved.fetch(&format!("/downloads/{job}"), "identity").await;
    let said = answer.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(said.contains(&format!("snapshot-{}.tar", &saved.snapshot[..8])), "{said}");
    assert_eq!(answer.bytes().await.unwrap().len() % 512, 0);
    assert_eq!(api.end_of(&job).await["status"], "succeeded");

    let mut zip = order;
    zip["form"] = json!("zip");
    let refused = api.post(&format!("/api/hosts/{}/jobs", saved.agent.host_id), zip).await.must(422);
    assert!(refused.to_string().contains("only tars can be joined"), "{refused}");
    let nothing = saved.ordered(&[("get", "picked")]).await;
    assert_eq!(nothing.status(), 422);
    assert!(nothing.text().await.unwrap().contains("Nothing is ticked"));
    let lost = saved.inside("bad\u{fffd}");
    let refused = saved.ordered(&[("get", "picked"), ("pick", &lost)]).await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().await.unwrap().contains("no UTF-8"));
}

#[tokio::test]
async fn snapshots_folders_files_versions_and_matches_have_their_download() {
    let saved = Saved::start().await;
    let api = &saved.house.api;
    let (repo, snapshot) = (&saved.repo, &saved.snapshot);
    let tree = format!("/api/repos/{repo}/snapshots/{snapshot}/tree");
    api.post(&tree, json!({"path": text(&saved.source)})).await.must(202);
    let encoded = flotilla::paths::query_value(text(&saved.source));
    let listed =
        async || (api.ask(Method::GET, &format!("{tree}?path={encoded}"), None).await.status == 200).then_some(());
    until("the folder is listed", listed).await;
    let page = async |path: &str| api.client(Method::GET, path).send().await.unwrap().text().await.unwrap();
    let action = format!("action=\"/restore/{repo}/{snapshot}/download\"");
    let offered = |page: &str, wish: &str| page.contains(&action) && page.contains(&format!("value=\"{wish}\""));

    let own = page(&format!("/repos/{repo}/snapshots/{snapshot}")).await;
    assert!(offered(&own, "tar:/") && offered(&own, "zip:/"), "all of the snapshot: {own}");
    let folder = page(&format!("/repos/{repo}/snapshots/{snapshot}?path={encoded}")).await;
    let wishes = [format!("zip:{}", text(&saved.source)), format!("tar:{}", saved.inside("folder"))];
    for wish in wishes.iter().chain([&format!("file:{}", saved.inside("big.bin"))]) {
        assert!(offered(&folder, wish), "{wish}: {folder}");
    }
    let sought = json!({"pattern": saved.inside("big.bin"), "exact": true});
    let made = api.post(&format!("/api/repos/{repo}/find"), sought).await.must(202);
    let job = made["job_id"].as_str().unwrap();
    api.end_of(job).await;
    let wish = format!("file:{}", saved.inside("big.bin"));
    assert!(offered(&page(&format!("/repos/{repo}/search?job={job}")).await, &wish));
    let path = flotilla::paths::query_value(&saved.inside("big.bin"));
    assert!(offered(&page(&format!("/repos/{repo}/versions?path={path}&job={job}")).await, &wish));
}

#[tokio::test]
async fn what_cannot_be_downloaded_says_why_and_a_download_is_there_once() {
    let saved = Saved::start().await;
    let (job, answer) = saved.download(&format!("file:{}", saved.inside("no such file")), "identity").await;
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("holds no"), "{problem}");
    assert_eq!(saved.house.api.end_of(&job).await["status"], "failed");

    let (job, answer) = saved.download(&format!("file:{}", saved.inside("big.bin")), "identity").await;
    // The first has it for as long as it reads, so a second gets nothing of it.
    let second = saved.fetch(&format!("/downloads/{job}"), "identity").await;
    assert_eq!(second.status(), 409);
    assert_eq!(answer.bytes().await.unwrap().len(), 5_000_000);
    assert_eq!(saved.house.api.end_of(&job).await["status"], "succeeded");
    let again: Value = saved.fetch(&format!("/downloads/{job}"), "identity").await.json().await.unwrap();
    assert!(again["detail"].as_str().unwrap().contains("downloaded already"), "{again}");
}

#[tokio::test]
async fn a_browser_that_goes_away_ends_the_job() {
    let saved = Saved::start().await;
    fs::write(saved.source.join("huge.bin"), noise(9, 60_000_000)).unwrap();
    let again = json!({"kind": "backup", "repo_id": saved.repo, "args": [text(&saved.source)]});
    let job = saved.house.api.order(&saved.agent.host_id, again).await;
    let ended = saved.house.api.end_of(&job).await;
    let newer = Saved { snapshot: ended["summary"]["snapshot_id"].as_str().unwrap().to_owned(), ..saved };
    let (job, mut answer) = newer.download(&format!("file:{}", newer.inside("huge.bin")), "identity").await;
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    let ended = newer.house.api.end_of(&job).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    assert!(ended["error"].as_str().unwrap().contains("browser went away"), "{ended}");
}

#[tokio::test]
async fn an_agent_that_dies_breaks_the_download_off_instead_of_ending_it() {
    let mut saved = Saved::start().await;
    fs::write(saved.source.join("huge.bin"), noise(9, 60_000_000)).unwrap();
    let again = json!({"kind": "backup", "repo_id": saved.repo, "args": [text(&saved.source)]});
    let job = saved.house.api.order(&saved.agent.host_id, again).await;
    saved.snapshot = saved.house.api.end_of(&job).await["summary"]["snapshot_id"].as_str().unwrap().to_owned();
    let wish = json!({"kind": "dump", "repo_id": saved.repo, "snapshot": saved.snapshot, "path": saved.inside("huge.bin"), "form": "file"});
    let job = saved.house.api.order(&saved.agent.host_id, wish).await;
    let mut answer = saved.fetch(&format!("/downloads/{job}"), "identity").await;
    answer.chunk().await.unwrap().unwrap();
    saved.agent.kill_hard();
    let broken = async {
        loop {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    };
    assert!(broken.await, "a part must not look like the whole");
}

#[tokio::test]
async fn the_files_of_a_removed_host_are_downloaded_and_restored_by_another() {
    let saved = Saved::start().await;
    let api = &saved.house.api;
    let other = saved.house.agent("other").await;
    // It knows the repository by a backup of its own.
    let little = saved.house.folder("little");
    write_files(&little, 1, 10);
    let own = json!({"kind": "backup", "repo_id": saved.repo, "args": [text(&little)]});
    let job = api.order(&other.host_id, own).await;
    assert_eq!(api.end_of(&job).await["status"], "succeeded");
    api.ask(Method::DELETE, &format!("/api/hosts/{}", saved.agent.host_id), None).await;
    until("the host is gone", async || {
        let left = api.get("/api/hosts").await;
        (left["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;

    let file = saved.saved(&format!("file:{}", saved.inside("big.bin")), "big.bin").await;
    assert!(fs::read(&file).unwrap() == fs::read(saved.source.join("big.bin")).unwrap());
    let target = saved.house.folder("restored");
    let restore = json!({"kind": "restore", "repo_id": saved.repo, "snapshot": saved.snapshot, "target": text(&target),
        "paths": [saved.inside("folder"), saved.inside("a \"quoted\"\nname; é.txt")]});
    let job = api.order(&other.host_id, restore).await;
    let ended = api.end_of(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let restored = target.join(saved.source.strip_prefix("/").unwrap());
    assert_same(&saved.source.join("folder"), &restored.join("folder"));
    assert_eq!(fs::read_to_string(restored.join("a \"quoted\"\nname; é.txt")).unwrap(), "odd");
    assert!(!restored.join("big.bin").exists(), "only what was picked");
}
