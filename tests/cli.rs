//! The command line as a script or a person uses it: the real binary, its exit codes, and what it says when it refuses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{fs, net::TcpListener, path::Path};

use house::{
    ADMIN, House,
    api::Api,
    program::{FLOTILLA, Program, Said, command, run},
    wait::until,
};

/// Runs `flotilla` with these arguments, and with `input` on its standard input.
fn flotilla_with(args: &[&str], input: &str) -> Said {
    run(command(FLOTILLA).args(args), input)
}

fn flotilla(args: &[&str]) -> Said {
    flotilla_with(args, "")
}

/// That it was refused, with one sentence on standard error that holds these words, and nothing on standard output.
#[track_caller]
fn assert_refused(said: &Said, code: i32, words: &[&str]) {
    assert_eq!((said.code, said.stdout.as_str()), (Some(code), ""), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is not in: {}", said.stderr);
    }
    let ours: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("flotilla: ")).collect();
    assert_eq!(ours.len(), 1, "{}", said.stderr);
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_serve_cannot_use_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |args: &[&str]| flotilla(&[&["serve", "--data-dir", text(&data)], args].concat());
    assert_refused(&serve(&["--listen", &address]), 1, &[&address, "in use", "--listen"]);
    assert_refused(&serve(&["--listen", "0.0.0.0:0"]), 2, &["plain HTTP", "--tls-self-signed", "--allow-plain-http"]);
    assert_refused(&serve(&["--listen", "somewhere"]), 2, &["listen", "127.0.0.1:8080"]);
    assert_refused(&serve(&["--tls-cert", "c.pem"]), 2, &["tls_key"]);
    assert_refused(&serve(&["--config", "/nowhere/flotilla.toml"]), 2, &["/nowhere/flotilla.toml"]);
    let config = folder.path().join("flotilla.toml");
    fs::write(&config, "listen = \"127.0.0.1:0\"\n\ndata_dri = \"/srv\"\n").unwrap();
    assert_refused(&serve(&["--config", text(&config)]), 2, &["data_dri", "line 3"]);
    // Below a file there can be no folder; not even root may write there.
    let below = config.join("data");
    let said = flotilla(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&below)]);
    assert_refused(&said, 1, &[text(&below), "--data-dir"]);
}

#[test]
fn wrong_usage_ends_with_2_and_help_is_everywhere() {
    for args in
        [&[][..], &["serv"], &["user", "add", "ada"], &["user", "add", "ada", "--role", "god", "--password-stdin"]]
    {
        assert_eq!(flotilla(args).code, Some(2), "{args:?}");
    }
    let commands = [
        &["serve"][..],
        &["agent"],
        &["agent", "enroll"],
        &["agent", "run"],
        &["demo"],
        &["user", "add"],
        &["user", "list"],
        &["user", "passwd"],
        &["user", "disable"],
        &["token", "create"],
        &["db", "backup"],
        &["db", "check"],
        &["db", "restore"],
    ];
    for command in commands {
        let help = flotilla(&[command, &["--help"]].concat()).must();
        assert!(help.contains("Usage: flotilla"), "{help}");
    }
    assert_eq!(flotilla(&["version"]).must(), format!("flotilla {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn two_servers_on_one_data_folder_are_refused_and_the_first_goes_on() {
    let house = House::start().await;
    let data = house.data_dir();
    let said = flotilla(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data)]);
    assert_refused(&said, 1, &["another Flotilla runs", text(&data)]);
    assert_eq!(house.api.get("/api/me").await["name"], ADMIN);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut house = House::start().await;
    house.kill();
    let file = house.data_dir().join("flotilla.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.pragma_update(None, "user_version", 9999).unwrap();
    drop(db);
    let before = fs::read(&file).unwrap();
    let data = house.data_dir();
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["db", "check"], &["user", "list"]] {
        let said = flotilla(&[command, &["--data-dir", text(&data)]].concat());
        assert_refused(&said, 1, &["newer", "9999"]);
    }
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn accounts_and_tokens_are_made_while_the_server_runs() {
    let (house, setup_link) = House::start_bare(&[]).await;
    assert!(setup_link.starts_with(&format!("{}/setup?token=", house.url)));
    let data = house.data_dir();
    let at = ["--data-dir", text(&data)];
    let add = |name: &str, password: &str| {
        flotilla_with(&[&["user", "add", name, "--role", "operator", "--password-stdin"][..], &at].concat(), password)
    };
    assert_refused(&add("otto", "short"), 1, &["password", "10"]);
    assert_refused(&add("", "a long enough password"), 1, &["name"]);
    add("otto", "a long enough password\n").must();
    assert_refused(&add("otto", "a long enough password"), 1, &["otto"]);
    let list = flotilla(&[&["user", "list"][..], &at].concat()).must();
    assert!(list.starts_with("otto\toperator\topen\t") && list.lines().count() == 1, "{list}");

    let made =
        flotilla(&[&["token", "create", "--user", "otto", "--label", "script", "--role", "viewer"][..], &at].concat())
            .must();
    let token = made.strip_suffix('\n').unwrap();
    assert!(token.len() > 40 && !token.contains(char::is_whitespace), "alone on its line");
    let api = Api::new(&house.url, token, None);
    assert_eq!(api.get("/api/me").await["name"], "otto");
    assert_eq!(api.post("/api/enrollment-tokens", serde_json::json!({})).await.status, 403, "a viewer's token");
    let nobody = flotilla(&[&["token", "create", "--user", "nobody", "--label", "x"][..], &at].concat());
    assert_refused(&nobody, 1, &["nobody"]);

    let passwd = ["user", "passwd", "otto", "--password-stdin"];
    flotilla_with(&[&passwd[..], &at].concat(), "another long password").must();
    flotilla(&[&["user", "disable", "otto"][..], &at].concat()).must();
    let refused = |status| async move { (status == 401).then_some(()) };
    until("the token opens nothing any more", async || {
        refused(api.ask(reqwest::Method::GET, "/api/me", None).await.status).await
    })
    .await;
}

#[tokio::test]
async fn a_database_is_copied_checked_and_brought_back_while_the_server_runs() {
    let house = House::start().await;
    let repo = serde_json::json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "planted-repo"});
    house.api.repo(repo).await;
    let (data, elsewhere) = (house.data_dir(), house.folder("elsewhere"));
    let copy = elsewhere.join("copy.db");
    let said = flotilla(&["db", "backup", text(&copy), "--data-dir", text(&data)]).must();
    assert!(said.contains("master key"), "{said}");
    assert_eq!(flotilla(&["db", "check", "--data-dir", text(&data)]).must(), "ok\n");
    // What is there is never overwritten, neither a copy nor a database.
    let before = fs::read(&copy).unwrap();
    assert_refused(&flotilla(&["db", "backup", text(&copy), "--data-dir", text(&data)]), 1, &[text(&copy)]);
    assert_eq!(fs::read(&copy).unwrap(), before);
    assert_refused(&flotilla(&["db", "restore", text(&copy), "--data-dir", text(&data)]), 1, &["empty data folder"]);

    let restored = elsewhere.join("restored");
    flotilla(&["db", "restore", text(&copy), "--data-dir", text(&restored)]).must();
    fs::copy(data.join("master.key"), restored.join("master.key")).unwrap();
    let mut serve = command(FLOTILLA);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&restored);
    let mut second = Program::start(serve, &elsewhere, "second");
    let url = second.said_after("listening on ").await;
    let api = Api::new(&url, &house.api.token, None);
    assert_eq!(api.get("/api/repos").await["items"], house.api.get("/api/repos").await["items"]);

    second.signal("-TERM");
    let ended = until("the second server stops", async || second.ended()).await;
    assert_eq!(ended.code(), Some(0), "{}", second.complained());

    let garbage = elsewhere.join("garbage.db");
    fs::write(&garbage, "this is no database at all, however long it is".repeat(100)).unwrap();
    let third = elsewhere.join("third");
    assert_refused(&flotilla(&["db", "restore", text(&garbage), "--data-dir", text(&third)]), 1, &["was not restored"]);
    assert!(!third.join("flotilla.db").exists());
    assert_refused(&flotilla(&["db", "check", "--data-dir", text(&third)]), 2, &["no Flotilla database", "--data-dir"]);
}

#[tokio::test]
async fn a_self_signed_certificate_is_kept_and_its_fingerprint_printed() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let mut serve = command(FLOTILLA);
        serve
            .args(["serve", "--tls-self-signed", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"));
        let server = Program::start(serve, folder.path(), "serve");
        let fingerprint = server.said_after("certificate fingerprint ").await;
        assert!(server.said_after("listening on ").await.starts_with("https://"));
        fingerprint
    };
    let first = start().await;
    assert!(first.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64), "{first}");
    assert_eq!(start().await, first);
}

#[test]
fn a_runbook_is_checked_with_the_line_of_its_first_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.toml"), folder.path().join("bad.toml"));
    let runbook =
        "name = \"greet\"\ntitle = \"Greet\"\n[[steps]]\ntype = \"local\"\nlabel = \"Say\"\ncmd = \"echo hello\"\n";
    fs::write(&good, runbook).unwrap();
    fs::write(&bad, runbook.replace("label", "lable")).unwrap();
    let said = flotilla(&["runbook", "check", text(&good)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("ok: greet, 1 steps"), "{said:?}");
    let said = flotilla(&["runbook", "check", text(&good), text(&bad), "/nowhere.toml"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("bad.toml:5: unknown field `lable`"), "{said:?}");
    assert!(said.stderr.contains("2 of 3 files are no runbooks"), "{said:?}");
}

#[test]
fn runbooks_are_listed_with_those_of_the_data_folder_among_them() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("runbooks")).unwrap();
    fs::write(data.path().join("runbooks/broken.toml"), "name = 7\n").unwrap();
    let said = flotilla(&["runbook", "list", "--data-dir", text(data.path())]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("check_status") && said.stdout.contains("(shipped)"), "{said:?}");
    assert!(said.stdout.lines().any(|line| line.starts_with("broken") && line.contains("line 1")), "{said:?}");
}
