//! Rules that the compiler does not know: which layer may import which, where a library may be used, how big a file may get,
//! how tests may wait. All offences are reported at once, each with its place and rule. Functions are clippy's to watch.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[path = "tidy/source.rs"]
mod source;

use source::{Import, Source};

/// The layers of the server, high to low: a module imports only from lines below its own. Modules that share a line do not
/// know each other. A new top-level module needs a place here.
const LAYERS: [&[&str]; 10] = [
    &["main", "lib"],
    &["cli"],
    &["app"],
    &["http", "fleet"],
    &["views", "ops"],
    &["store"],
    &["hub"],
    // Leaves: each stands alone, and anything above them may use them. The configuration speaks of some of the others.
    &["config"],
    &["clock", "credential", "lifecycle", "paths", "probe", "reach", "runbook", "tls", "vault"],
    &["domain"],
];

/// Libraries that belong to some modules, so that a change of library or of the wire stays there.
const ROOMS: [(&str, &[&str]); 5] = [
    ("rusqlite", &["store"]),
    ("maud", &["views"]),
    ("axum", &["http", "fleet", "app"]),
    ("flotilla_proto", &["fleet", "domain", "cli", "app"]),
    ("flotilla_agent", &["cli", "app", "reach", "runbook"]),
];

/// Names that say nothing: whatever would go there has a better home.
const EMPTY_NAMES: [&str; 8] = ["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// Most lines of a file, its tests not counted.
const MAX_LINES: usize = 600;

/// Where code of the product stands, and where its black-box tests do.
const CODE: [&str; 4] = ["src/", "agent/src/", "proto/src/", "bench/src/"];
const TESTS: [&str; 4] = ["tests/", "agent/tests/", "proto/tests/", "bench/tests/"];

/// What waits for a condition may sleep between two looks at it, and only that.
const MAY_SLEEP: [&str; 2] = ["tests/support", "agent/tests/support"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|line| line.contains(&module))
}

/// All offences of `files`, pairs of path (from the repository's root) and text.
fn offences(files: &[(String, String)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let test_modules: BTreeSet<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    let mut found = Vec::new();
    for source in &sources {
        names(source, &mut found);
        if TESTS.iter().any(|root| source.path.starts_with(root)) {
            waiting(source, &mut found);
        }
        let is_test = test_modules.contains(&Path::new(&source.path).with_extension(""));
        if CODE.iter().any(|root| source.path.starts_with(root)) && !is_test {
            budgets(source, &mut found);
            if source.path.starts_with("src/") {
                directions(source, &mut found);
            }
        }
    }
    found.sort();
    found
}

fn names(source: &Source, found: &mut Vec<String>) {
    let path = Path::new(&source.path).with_extension("");
    for part in path.iter().filter_map(|part| part.to_str()).filter(|part| EMPTY_NAMES.contains(part)) {
        found.push(format!("{}:1: name: `{part}` says nothing; name the module after what it does", source.path));
    }
    for (line, module) in source.modules().filter(|(_, module)| EMPTY_NAMES.contains(module)) {
        found
            .push(format!("{}:{line}: name: `{module}` says nothing; name the module after what it does", source.path));
    }
}

fn budgets(source: &Source, found: &mut Vec<String>) {
    if !source.opens_with_doc() {
        found.push(format!("{}:1: doc: the file does not open with `//!` and what it is for", source.path));
    }
    let lines = source.lines_without_tests();
    if lines > MAX_LINES {
        found.push(format!(
            "{}:{MAX_LINES}: size: {lines} lines, its tests not counted; {MAX_LINES} is the limit",
            source.path
        ));
    }
}

fn waiting(source: &Source, found: &mut Vec<String>) {
    for line in source.ignored_tests() {
        found.push(format!(
            "{}:{line}: ignore: a test that does not run proves nothing; mend or delete it",
            source.path
        ));
    }
    let path = Path::new(&source.path).with_extension("");
    let may_sleep = MAY_SLEEP.iter().any(|room| path.starts_with(room));
    for line in source.sleeps().filter(|_| !may_sleep) {
        found.push(format!(
            "{}:{line}: sleep: wait for the condition with a deadline, by a helper of tests/support",
            source.path
        ));
    }
}

fn directions(source: &Source, found: &mut Vec<String>) {
    let own = source.module();
    let own_layer = layer(own);
    if own_layer.is_none() {
        found.push(format!("{}:1: layer: `{own}` has no place in the layers of tests/tidy.rs", source.path));
    }
    let mut once = BTreeSet::new();
    for Import { line, from_crate, first } in source.imports() {
        let (rule, why) = match layer(&first) {
            Some(target) if from_crate && first != own && own_layer.is_some_and(|own| target <= own) => (
                "layer",
                format!("`{own}` must not import `{first}`: imports go down the layers, never up or sideways"),
            ),
            _ => match ROOMS.iter().find(|(library, _)| !from_crate && *library == first) {
                Some((_, rooms)) if !rooms.contains(&own) => {
                    ("room", format!("`{own}` must not use `{first}`: it belongs to {}", rooms.join(", ")))
                }
                _ => continue,
            },
        };
        if once.insert((line, first)) {
            found.push(format!("{}:{line}: {rule}: {why}", source.path));
        }
    }
}

fn rust_files(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    // A part of the workspace need not have tests.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            rust_files(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(&path).expect("a readable file")));
        }
    }
}

#[test]
fn the_tree_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in CODE.iter().chain(&TESTS) {
        rust_files(root, &root.join(folder), &mut files);
    }
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "the tree was not found");
    let found = offences(&files);
    assert!(found.is_empty(), "{} offences:\n{}", found.len(), found.join("\n"));
}

/// The offences of one file, each as `line: rule`.
fn of(path: &str, text: &str) -> Vec<String> {
    let found = offences(&[(path.to_owned(), text.to_owned())]);
    found
        .iter()
        .map(|offence| {
            let mut parts = offence.strip_prefix(path).expect("the path first").splitn(4, ':');
            format!("{}:{}", parts.nth(1).expect("a line"), parts.next().expect("a rule"))
        })
        .collect()
}

#[test]
fn an_import_from_a_lower_layer_or_of_its_own_children_passes() {
    assert_eq!(
        of(
            "src/http/jobs.rs",
            "//! x\nuse crate::{ops, store::Store, domain};\nuse super::error;\nuse crate::http::auth;"
        ),
        [""; 0]
    );
    assert_eq!(of("src/store.rs", "//! x\nuse crate::{clock::Clock, hub::Hub};\nuse rusqlite::Connection;"), [""; 0]);
    assert_eq!(of("src/domain/job.rs", "//! x\npub use flotilla_proto::{JobId, JobKind};"), [""; 0]);
    assert_eq!(of("src/main.rs", "//! x\nfn main() { flotilla::cli::run() }"), [""; 0]);
}

#[test]
fn an_import_from_a_higher_layer_is_reported() {
    assert_eq!(of("src/store.rs", "//! x\nuse crate::http::Error;"), ["2: layer"]);
    assert_eq!(
        of("src/domain/host.rs", "//! x\n\nuse crate::{\n    domain::id,\n    store::{self, Store},\n};"),
        ["5: layer"]
    );
    assert_eq!(of("src/ops.rs", "//! x\nfn f() { crate::app::run() }"), ["2: layer"]);
    assert_eq!(of("src/store/jobs.rs", "//! x\nuse super::super::views::Page;"), ["2: layer"]);
    assert_eq!(of("src/store/jobs.rs", "//! x\npub(crate) use crate::ops as o;"), ["2: layer"]);
}

#[test]
fn an_import_from_the_same_layer_is_reported() {
    assert_eq!(of("src/http/live.rs", "//! x\nuse crate::fleet::Registry;"), ["2: layer"]);
    assert_eq!(of("src/fleet/link.rs", "//! x\ntype T = crate::http::State;"), ["2: layer"]);
    assert_eq!(of("src/vault.rs", "//! x\nuse crate::config::Config;"), ["2: layer"]);
}

#[test]
fn leaves_are_above_the_domain() {
    assert_eq!(of("src/hub.rs", "//! x\nuse crate::clock::Clock;"), [""; 0]);
    assert_eq!(of("src/domain.rs", "//! x\nuse crate::clock::Clock;"), ["2: layer"]);
}

#[test]
fn a_module_without_a_place_in_the_layers_is_reported() {
    assert_eq!(of("src/novelty.rs", "//! x\n"), ["1: layer"]);
}

#[test]
fn a_library_outside_its_rooms_is_reported() {
    assert_eq!(of("src/http/jobs.rs", "//! x\nuse rusqlite::params;"), ["2: room"]);
    assert_eq!(of("src/vault.rs", "//! x\nuse rusqlite;"), ["2: room"]);
    assert_eq!(of("src/http/jobs.rs", "//! x\nuse {maud::html, axum::Router};"), ["2: room"]);
    assert_eq!(of("src/views/jobs.rs", "//! x\nfn f() -> axum::Response { maud::html! {} }"), ["2: room"]);
    assert_eq!(of("src/store.rs", "//! x\nuse flotilla_proto::JobId;"), ["2: room"]);
    assert_eq!(of("src/ops.rs", "//! x\nuse ::flotilla_agent as agent;"), ["2: room"]);
}

#[test]
fn comments_texts_and_tests_are_not_imports() {
    let text = "//! x\n// use crate::http::A;\n/* use crate::http::A; /* nested */ */\nconst A: &str = \"use crate::http::A;\";\n\
                const B: &str = r#\"crate::http::\"A\"\"#; const C: char = '\"'; const D: &str = \"crate::http\";\n\
                #[cfg(test)]\nmod tests {\n    use crate::http::A;\n}\n#[cfg(test)]\nuse crate::app::B;\n";
    assert_eq!(of("src/store.rs", text), [""; 0]);
    assert_eq!(of("src/store.rs", &format!("{text}use crate::http::A;\n")), ["12: layer"]);
}

#[test]
fn a_module_of_tests_in_a_file_of_its_own_is_no_code_of_the_product() {
    let files = [
        ("src/store.rs".to_owned(), "//! x\n#[cfg(test)]\nmod tests;\nmod jobs;".to_owned()),
        ("src/store/tests.rs".to_owned(), "use crate::http::A;".to_owned()),
        ("src/store/jobs.rs".to_owned(), "use crate::http::A;".to_owned()),
    ];
    let found = offences(&files);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|offence| offence.starts_with("src/store/jobs.rs:1: ")), "{found:?}");
}

#[test]
fn a_file_without_an_opening_doc_is_reported() {
    for path in ["src/store.rs", "agent/src/link.rs", "proto/src/up.rs"] {
        assert_eq!(of(path, "use std::fmt;\n//! late"), ["1: doc"]);
    }
}

#[test]
fn a_file_over_the_budget_is_reported_and_its_tests_do_not_count() {
    let at_the_limit = format!("//! x\n{}", "const A: u8 = 1;\n".repeat(MAX_LINES - 1));
    assert_eq!(of("agent/src/link.rs", &at_the_limit), [""; 0]);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(500));
    assert_eq!(of("agent/src/link.rs", &format!("{at_the_limit}{tests}")), [""; 0]);
    assert_eq!(of("agent/src/link.rs", &format!("{at_the_limit}{tests}const B: u8 = 1;\n")), ["600: size"]);
}

#[test]
fn a_name_that_says_nothing_is_reported() {
    assert_eq!(of("agent/src/utils.rs", "//! x"), ["1: name"]);
    assert_eq!(of("src/http/helpers/forms.rs", "//! x"), ["1: name"]);
    assert_eq!(of("src/http.rs", "//! x\npub(crate) mod common;\nmod uncommon;"), ["2: name"]);
}

#[test]
fn a_test_that_is_ignored_or_sleeps_is_reported() {
    assert_eq!(of("tests/live.rs", "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["3: ignore"]);
    assert_eq!(of("tests/live.rs", "//! x\nfn f() { std::thread::sleep(d); }"), ["2: sleep"]);
    assert_eq!(of("agent/tests/run.rs", "//! x\nasync fn f() {\n    tokio::time::sleep(d).await\n}"), ["3: sleep"]);
    assert_eq!(of("tests/live.rs", "//! x\nuse tokio::time::sleep;\n"), ["2: sleep"]);
    assert_eq!(of("tests/support/wait.rs", "//! x\nfn f() { std::thread::sleep(d); }"), [""; 0]);
    assert_eq!(of("tests/support.rs", "//! x\nfn f() { std::thread::sleep(d); }"), [""; 0]);
    assert_eq!(
        of("tests/live.rs", "//! x\n// never sleep(1) or #[ignore]\nfn a_sleep() { asleep(\"#[ignore]\") }"),
        [""; 0]
    );
}
