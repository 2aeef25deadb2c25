//! The runbook `discover`, by bash as it stands in its file: what its detectors read, that no secret is read with it, and that whatever stands in names and files, what
//! it prints is JSON. Once with this machine's own tools, once with nothing but busybox.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use flotilla_agent::runbook::{Mode, Values, Work, input, shipped};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use tempfile::TempDir;

/// In each place of a file that is a secret.
const SENTINEL: &str = "S3NTINEL";

/// The command of a step with these answers.
fn command(step: usize, answers: Value) -> String {
    let book = shipped("discover").unwrap();
    let inputs = input::resolve(&book.inputs, answers.as_object().unwrap()).unwrap();
    let Work::Shell(shell) = &book.steps[step].work else { panic!("no command") };
    shell.cmd.command(&Values::new(Mode::Run, inputs)).unwrap().text
}

/// What bash prints for it, with the programs of this machine or those of a folder.
fn printed(step: usize, answers: Value, path: Option<&Path>) -> String {
    let mut bash = Command::new("/bin/bash");
    bash.args(["--noprofile", "--norc", "-o", "pipefail", "-c"]).arg(command(step, answers));
    bash.env_clear().env("HOME", "/").env("DB_FROM_ENVIRONMENT", SENTINEL);
    bash.env("PATH", path.map_or(OsStr::new("/usr/bin:/bin"), Path::as_os_str));
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is found below a folder: the objects behind a marker.
fn marked(text: &str, marker: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(marker)?.strip_prefix('='));
    lines.map(|json| serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))).collect()
}

fn answers(root: &Path, detectors: &str) -> Value {
    json!({"roots": root.to_str().unwrap(), "containers": false, "detectors": detectors})
}

fn sites(root: &Path, detectors: &str) -> Vec<Value> {
    let text = printed(1, answers(root, detectors), None);
    assert!(!text.contains(SENTINEL), "{text}");
    let bare = busybox();
    let small = printed(1, answers(root, detectors), Some(bare.path()));
    assert_eq!(text, small, "busybox sees another thing");
    let mut sites = marked(&text, "SITE");
    sites.sort_by_key(|site| site["root"].as_str().unwrap().to_owned());
    sites
}

/// A folder with nothing but busybox.
fn busybox() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let program = program.expect("busybox is missing: run scripts/setup-tools test");
    for name in ["awk", "find", "sh", "test", "wc", "timeout", "cat", "tr", "sed", "head"] {
        symlink(program, folder.path().join(name)).unwrap();
    }
    folder
}

/// A tree of files.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@@", SENTINEL)).unwrap();
    }
    folder
}

const WP: &str = r#"<html> it's "not" php <?php
/** The base configuration: don't. */
# define('DB_NAME', 'in a comment');
define( 'DB_NAME', 'shop' );
define("DB_USER", "shop\"user");
define( 'DB_PASSWORD', '@@
define("DB_NAME", "out of a password");' );
define('DB_HOST', 'localhost:3307');
define('AUTH_KEY', '@@'); define('NONCE_SALT', "@@ $table_prefix = 'x';");
$secret = <<<TEXT
define('DB_USER', '@@');
TEXT;
$table_prefix = 'wpx_';
if ( ! defined( 'WP_HOME' ) ) { define('WP_HOME', 'https://user:@@@shop.example/x?key=@@#@@'); }
defined('WP_DEBUG') or define('WP_DEBUG', false);
if ( ! defined( 'ABSPATH' ) ) define( 'ABSPATH', __DIR__ . '/' );
"#;

const LARAVEL: &str = "APP_NAME=\"My \\\"Shop\\\"\" # a remark\nAPP_KEY=base64:@@\nexport APP_URL=https://crm.example\nDB_CONNECTION=pgsql\nDB_DATABASE=crm # of all\nDB_USERNAME='crm user'\nDB_PASSWORD=\"@@\nDB_HOST=out of a password\"\nMAIL_PASSWORD=@@\nDB_PORT=5433\n";

const DJANGO: &str = r#"
"""Settings: it's @@."""
import os
SECRET_KEY = '@@'
ALLOWED_HOSTS = ['dj.example', "www.dj.example"]
DATABASES = {
    'default': {
        'ENGINE': 'django.db.backends.postgresql',
        'NAME': 'djdb',  # it's a name
        'USER': os.environ.get('DB_FROM_ENVIRONMENT', '@@'),
        'PASSWORD': '@@',
        'HOST': '127.0.0.1', 'PORT': 5432,
        'OPTIONS': {'NAME': ('a', 'b')},
    },
    'other': {'NAME': 'otherdb'},
}
"#;

const COMPOSE: &str = "name: proj # it\nx-common: &common\n  restart: always\nservices:\n  web:\n    image: x\n    environment:\n    - SECRET=@@\n    command: |\n      name: @@\n  db:\n    image: \"mysql: 8\"\n    environment:\n      MYSQL_ROOT_PASSWORD: @@\n      MYSQL_DATABASE: app\n      NOTE: \"@@\n        name: @@\"\nvolumes: {name: @@}\n";

#[test]
fn each_detector_reads_what_its_files_say_and_no_secret() {
    let folder = tree(&[
        ("wp/wp-config.php", WP),
        ("wp/wp-includes/version.php", "<?php\n/** x */\n$wp_version = '6.4.2';\n$wp_db_version = 1;\n"),
        ("crm/.env", LARAVEL),
        ("crm/artisan", ""),
        ("dj/app/settings.py", DJANGO),
        ("dj/manage.py", ""),
        ("comp/docker-compose.yml", COMPOSE),
        ("plain/.env", "DATABASE_URL=postgres://bob:@@/x@y@db.host:5433/appdb?password=@@\nTOKEN=@@\n"),
        ("none/.env", "TOKEN=@@\nPASSWORD=@@\n"),
        ("none/settings.py", DJANGO),
        ("vendor/wp-config.php", WP),
    ]);
    let found = sites(folder.path(), "");
    let at = |name: &str| {
        let root = folder.path().join(name);
        found.iter().find(|site| site["root"] == root.to_str().unwrap()).unwrap_or_else(|| panic!("{name}: {found:?}"))
    };
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(
        (&at("wp")["kind"], &at("wp")["facts"]),
        (
            &json!("wordpress"),
            &json!({"db_engine": "mysql", "db_name": "shop", "db_user": "shop\"user", "db_host": "localhost:3307",
                    "table_prefix": "wpx_", "url": "https://shop.example/x", "version": "6.4.2"})
        )
    );
    assert_eq!(
        at("crm")["facts"],
        json!({"name": "My \"Shop\"", "url": "https://crm.example", "db_engine": "postgresql", "db_name": "crm", "db_user": "crm user", "db_port": "5433"})
    );
    assert_eq!(
        at("dj")["facts"],
        json!({"db_engine": "postgresql", "db_name": "djdb", "db_host": "127.0.0.1", "db_port": "5432", "hosts": ["dj.example", "www.dj.example"]})
    );
    assert_eq!(at("comp")["facts"], json!({"name": "proj", "services": ["web", "db"], "db_name": "app"}));
    assert_eq!(
        (&at("plain")["kind"], &at("plain")["facts"]),
        (
            &json!("dotenv"),
            &json!({"db_engine": "postgresql", "db_user": "bob", "db_host": "db.host", "db_port": "5433", "db_name": "appdb"})
        )
    );
}

#[test]
fn one_folder_is_one_site_and_its_virtual_host_gives_it_an_address() {
    let folder = tree(&[]);
    let at = |path: &str| folder.path().join(path).display().to_string();
    let nginx = format!(
        "server {{ listen 80; server_name shop.example www.shop.example; return 301 https://$host; }}\n\
         server {{\n listen 443 ssl; server_name shop.example \"www.shop.example\"; root {}; # it's\n location / {{ root /other; proxy_set_header Authorization \"it's {SENTINEL} {{\"; }} }}\n\
         server {{ server_name _; root /var/www/html; }}\nserver {{ server_name api.example; location / {{ proxy_pass http://127.0.0.1; }} }}\n",
        at("shop/public")
    );
    let apache = format!(
        "<VirtualHost *:80>\n ServerName app.example:80\n ServerAlias www.app.example\n DocumentRoot \"{}\"\n</VirtualHost>\n",
        at("app")
    );
    for (path, text) in [
        ("etc/all.nginx", nginx.as_str()),
        ("etc/app.apache", &apache),
        ("shop/.env", "APP_NAME=Shop\nDB_DATABASE=shop\n"),
        ("shop/artisan", ""),
        ("shop/compose.yaml", "services:\n  web:\n    image: x\n"),
    ] {
        fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
        fs::write(folder.path().join(path), text).unwrap();
    }
    let found = sites(folder.path(), "web *.nginx nginx\nweb *.apache apache");
    let told: Vec<_> = found.iter().map(|site| (site["kind"].as_str().unwrap(), &site["facts"]["url"])).collect();
    assert_eq!(
        told,
        [
            ("web", &json!("http://api.example")),
            ("web", &json!("http://app.example")),
            ("laravel", &json!("https://shop.example"))
        ]
    );
    assert_eq!(found[2]["facts"]["services"], json!(["web"]));
}

#[test]
fn an_operators_own_detector_reads_what_it_names_but_nothing_that_sounds_like_a_secret() {
    let folder = tree(&[
        (
            "ghost/config.production.json",
            r#"{"url": "https://ghost.example", "database": {"client": "mysql2", "connection": {"user": "g", "password": "@@", "database": "ghost\u0041\u00e9"}}, "mail": {"auth": {"user": "@@"}}}"#,
        ),
        ("ini/app/conf.ini", "; it\n[main]\ntitle = \"An app\" ; x\nadmin_password = @@\n[db]\nname: appdb\n"),
    ]);
    let detectors = "ghost config.production.json json url=url db_engine=database.client db_name=database.connection.database pw=database.connection.password who=mail.auth.user\n\
                     # a remark\nApp conf.ini ini x=y\nini_app app/*.ini ini name=main.title pw=main.admin_password db_name=db.name\n";
    let text = printed(1, answers(folder.path(), detectors), None);
    let found = sites(folder.path(), detectors);
    assert_eq!(
        found[0]["facts"],
        json!({"url": "https://ghost.example", "db_engine": "mysql", "db_name": "ghostA\u{e9}"})
    );
    assert_eq!(found[1]["facts"], json!({"name": "An app", "db_name": "appdb"}));
    assert_eq!(found[1]["root"], folder.path().join("ini").to_str().unwrap());
    let scan = &marked(&text, "SCAN")[0];
    assert_eq!(scan["wrong_detectors"], 1, "{scan}");
    let refused = scan["refused_keys"].as_str().unwrap();
    assert!(refused.contains("database.connection.password") && refused.contains("main.admin_password"), "{refused}");
}

#[test]
fn an_empty_host_has_no_sites_and_folders_that_are_not_there_are_no_failure() {
    let folder = tree(&[]);
    assert_eq!(sites(folder.path(), ""), [Value::Null; 0]);
    let text = printed(1, answers(&folder.path().join("none"), ""), None);
    assert_eq!(
        marked(&text, "SCAN"),
        [json!({"place": "host", "files": 0, "unreadable": 0, "left_out": 0, "wrong_detectors": 0})]
    );
}

#[test]
fn what_is_no_small_file_is_not_read_and_a_link_to_one_is() {
    let folder = tree(&[("shared/env", "APP_NAME=linked\n"), ("big/.env", ""), ("linked/x", ""), ("pipe/x", "")]);
    let at = |path: &str| folder.path().join(path);
    fs::write(at("big/.env"), format!("APP_NAME=big\n{}", "#\n".repeat(200_000))).unwrap();
    symlink(at("shared/env"), at("linked/.env")).unwrap();
    symlink("/dev/zero", at("shared/.env")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe/.env")).status().unwrap().success());
    symlink(at("pipe/.env"), at("pipe/wp-config.php")).unwrap();
    let begun = Instant::now();
    let found = sites(folder.path(), "");
    assert_eq!(found.iter().map(|site| &site["facts"]["name"]).collect::<Vec<_>>(), [&json!("linked")]);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_host_tells_what_it_has() {
    let host = &marked(&printed(0, json!({}), None), "HOST")[0];
    assert!(host["os"].is_string() && host["kernel"].as_str().unwrap().starts_with("Linux"), "{host}");
}

/// Bytes that break things, and any others.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let odd: &[u8] = b"\"'\\\n\r\t $`{}[]();:#/*,=<>?|-\x1b\x7f\x01\xc3\xa9\xff\xe2\x80\xf0";
    vec(prop_oneof![select(odd), 1_u8..=255], 0..most)
}

/// Files that are nearly of a format.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let parts: &[&[u8]] = &[
        b"<?php ",
        b"?>",
        b"define('DB_NAME', ",
        b"'",
        b"\"",
        b"/*",
        b"*/",
        b"<<<EOT\n",
        b"EOT;\n",
        b"$table_prefix",
        b"[",
        b"]",
        b"(",
        b")",
        b"{",
        b"}",
        b"=>",
        b"=",
        b"DB_NAME=",
        b"APP_NAME=",
        b"DATABASE_URL=postgres://",
        b"@",
        b"name: ",
        b"services:\n  ",
        b"- ",
        b"\n",
        b"\n  ",
        b"DATABASES = {'default': {'NAME': ",
        b"'''",
        b"server { server_name ",
        b"root /",
        b";",
        b"|",
        b"\\",
        b"getenv(",
        b",",
    ];
    vec(prop_oneof![3 => select(parts).prop_map(<[u8]>::to_vec), 1 => bytes(12)], 0..50)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stands_in_names_and_values_each_line_is_json(all in vec((bytes(40), bytes(300), nearly(), nearly()), 1..12)) {
        let folder = tree(&[]);
        let mut expected = 0;
        for (number, (name, value, first, second)) in all.iter().enumerate() {
            let mut own = format!("{number}-").into_bytes();
            own.extend(name.iter().filter(|byte| !b"/\0".contains(byte)));
            let site = folder.path().join(OsStr::from_bytes(&own));
            fs::create_dir_all(&site).unwrap();
            let value: Vec<u8> = value.iter().copied().filter(|byte| !b"'\\".contains(byte)).collect();
            fs::write(site.join("wp-config.php"), [b"<?php define('DB_NAME', '", value.as_slice(), b"');"].concat()).unwrap();
            fs::write(site.join("artisan"), "").unwrap();
            for (file, text) in [(".env", first), ("compose.yml", second), ("x.nginx", first), ("x.json", second), ("x.ini", first), ("x.py", second)] {
                fs::write(site.join(file), text).unwrap();
            }
            expected += 1;
        }
        let detectors = "web *.nginx nginx\nj *.json json name=name all=*\ni *.ini ini name=name\np *.py python db_name=DATABASES.default.NAME";
        let text = printed(1, answers(folder.path(), detectors), None);
        let folders = marked(&text, "SITE").iter().filter(|site| site["file"].as_str().unwrap().ends_with("wp-config.php")).count();
        prop_assert_eq!(folders, expected);
        prop_assert!(text.lines().all(|line| line.starts_with("SITE={") || line.starts_with("SCAN={")), "{}", text);
        prop_assert!(marked(&text, "SCAN").len() == 1);
        let bare = busybox();
        prop_assert_eq!(&text, &printed(1, answers(folder.path(), detectors), Some(bare.path())));
    }
}
