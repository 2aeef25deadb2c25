use std::time::Duration;

use super::{FileError, parse, parse_steps};
use flotilla_proto::Way;

use crate::runbook::{Body, Lock, Place, Scope, Work};

const SAY: &str = r#"
name = "say"
title = "Say hello"
description = "…"
scope = "host"
lock = "none"
transports = ["agent", "ssh"]

[[inputs]]
name = "who"
type = "string"
default = "world"
pattern = "[a-z ]+"

[[steps]]
type = "local"
label = "Say it"
cmd = "echo hello {{ who }}"
timeout = 30
continue_on_error = false
on_host = false
env = { LANG = "C" }

[[teardown]]
type = "local"
label = "Clean up"
cmd = "true"

[[results]]
name = "greeting"
regex = '^hello (?P<greeting>.+)$'
"#;

/// The error of `SAY` with one text in place of another.
fn wrong(from: &str, to: &str) -> FileError {
    assert!(SAY.contains(from), "{from}");
    parse(&SAY.replacen(from, to, 1)).expect_err(to)
}

#[test]
fn the_contracts_own_example_is_a_runbook() {
    let runbook = parse(SAY).unwrap();
    assert_eq!((runbook.name.as_str(), runbook.scope, runbook.lock), ("say", Scope::Host, Lock::None));
    assert_eq!(runbook.transports, [Way::Agent, Way::Ssh]);
    let Work::Shell(shell) = &runbook.steps[0].work else { panic!("a shell step") };
    assert_eq!((shell.place, runbook.steps[0].timeout), (Place::Local, Duration::from_secs(30)));
    assert_eq!((runbook.steps.len(), runbook.teardown.len(), runbook.results.len()), (1, 1, 1));
    assert_eq!(runbook.hash.len(), 64);
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    let error = wrong("cmd = \"echo hello {{ who }}\"", "cmd = \"true\"\ncomand = \"x\"");
    assert_eq!(error.line, Some(19), "{error}");
    assert!(error.what.contains("comand"), "{error}");
    assert!(wrong("scope = \"host\"", "scoop = \"host\"").what.contains("scoop"));
}

#[test]
fn each_fault_is_named_with_its_line() {
    let faults = [
        ("name = \"say\"", "name = \"backup\"", 2, "own operations"),
        ("name = \"say\"", "name = \"Say it\"", 2, "[a-z]"),
        ("type = \"local\"\nlabel = \"Say it\"", "type = \"shell\"\nlabel = \"Say it\"", 16, "shell"),
        ("[[results]]\nname = \"greeting\"", "[[results]]\nname = \"Greeting\"", 29, "[a-z]"),
        ("{{ who }}", "{{ whom }}", 15, "\"whom\" is not known; there is who"),
        ("{{ who }}", "{{ who }", 15, "not understood"),
        ("pattern = \"[a-z ]+\"", "pattern = \"[a-z\"", 9, "pattern"),
        ("default = \"world\"", "default = \"World\"", 9, "must match"),
        ("(?P<greeting>.+)$", "(?P<greeting", 29, "regex"),
        ("timeout = 30", "timeout = 0", 15, "timeout"),
        ("timeout = 30", "timeout = 30\nendpoint = \"x\"", 15, "`endpoint` is no field of a step of type local"),
        ("timeout = 30", "timeout = 30\nhost = \"who\"", 15, "type host"),
        ("cmd = \"echo hello {{ who }}\"", "", 15, "`cmd` is missing"),
        ("label = \"Clean up\"", "label = \"Say it\"", 24, "two steps"),
        ("LANG = \"C\"", "\"LA NG\" = \"C\"", 15, "no name of a variable"),
        ("transports = [\"agent\", \"ssh\"]", "transports = []", 7, "transports is empty"),
        ("regex = '^hello (?P<greeting>.+)$'", "", 29, "exactly one of"),
    ];
    for (from, to, line, word) in faults {
        let error = wrong(from, to);
        assert!(error.what.contains(word), "{to}: {error}");
        assert_eq!(error.line, Some(line), "{to}: {error}");
    }
    assert!(parse("").unwrap_err().what.contains("name"));
    assert!(parse(&"#".repeat(300_000)).unwrap_err().what.contains("bytes"));
    assert!(parse("name = \"x\"\ntitle = \"x\"\nsteps = []").unwrap_err().what.contains("no [[steps]]"));
}

#[test]
fn what_destroys_stands_behind_what_makes_it_safe() {
    let head = "name = \"x\"\ntitle = \"x\"\nsafety = \"dump\"\n";
    let dump = "[[steps]]\ntype = \"ssh\"\nlabel = \"Dump\"\ncmd = \"true\"\nartefact = { name = \"dump\", path = \"/tmp/{{ job.id }}\" }\n";
    let drop = "[[steps]]\ntype = \"ssh\"\nlabel = \"Drop\"\ncmd = \"test -s {{ artefacts.dump.path }}\"\ndestructive = true\n";
    let runbook = parse(&format!("{head}{dump}{drop}")).unwrap();
    assert!(runbook.destructive);
    assert_eq!(runbook.safety.as_deref(), Some("dump"));
    let early = parse(&format!("{head}{drop}{dump}")).unwrap_err();
    assert!(early.what.contains("behind that"), "{early}");
    let never = parse(&format!("{head}{drop}")).unwrap_err();
    assert!(never.what.contains("\"dump\""), "{never}");
    let harmless = parse(&format!("{head}{dump}")).unwrap_err();
    assert!(harmless.what.contains("destructive = true"), "{harmless}");
}

#[test]
fn a_request_has_its_own_fields() {
    let text = "name = \"x\"\ntitle = \"x\"\n[[inputs]]\nname = \"n\"\ntype = \"int\"\n[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"backups/{{ n }}\"\n\
                method = \"POST\"\nbody = { a = \"{{ n }}\", b = [1, true] }\nexpect_status = [200, 201]\n";
    let runbook = parse(text).unwrap();
    let Work::Call(call) = &runbook.steps[0].work else { panic!("a request") };
    assert_eq!(call.expect_status, [200, 201]);
    assert!(matches!(call.body, Some(Body::Json(_))));
    assert_eq!(runbook.steps[0].timeout, Duration::from_secs(30));
    assert!(parse(&text.replace("[200, 201]", "7")).unwrap_err().what.contains("100 to 599"));
}

#[test]
fn pasted_steps_are_a_runbook_for_administrators() {
    let json = r#"[{"type": "ssh", "label": "Look", "cmd": "df -h /", "on_host": true, "env": null},
                   {"type": "scp", "label": "Get", "direction": "download", "remote_path": "/tmp/a", "local_path": "/tmp/b"},
                   {"type": "ssh", "cmd": "rm -f /tmp/a", "teardown": true}]"#;
    let (runbook, text) = parse_steps(json).unwrap();
    assert_eq!((runbook.steps.len(), runbook.teardown.len()), (2, 1));
    assert_eq!(runbook.teardown[0].label, "Step 3");
    assert_eq!(parse(&text).unwrap(), runbook);
    assert!(parse_steps("{}").unwrap_err().what.contains("array"));
    assert!(parse_steps("[{").unwrap_err().what.contains("no JSON"));
    assert!(parse_steps(r#"[{"type": "shell", "label": "x"}]"#).unwrap_err().what.contains("shell"));
    assert!(
        parse_steps(r#"[{"type": "local", "label": "x", "cmd": "true", "comand": "y"}]"#)
            .unwrap_err()
            .what
            .contains("comand")
    );
    assert!(parse_steps("[7]").is_err());
}

#[test]
fn a_step_that_waits_says_how_often_and_how_long_and_destroys_nothing() {
    let with = |line: &str| parse(&SAY.replace("timeout = 30", line));
    let step = with("timeout = 900\nretry = { every = 5, within = \"{{ who }}\" }").unwrap().steps.remove(0);
    let retry = step.retry.unwrap();
    assert_eq!((retry.every, retry.attempt), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!((step.timeout, retry.within.unwrap().source()), (Duration::from_secs(900), "{{ who }}"));
    for (line, words) in [
        ("retry = { every = 0 }", "must be from 1"),
        ("retry = { every = 5, within = \"{{ unknown }}\" }", "is not known"),
        ("retry = { evry = 5 }", "unknown field"),
        ("destructive = true\nretry = { every = 5 }", "must not be repeated"),
    ] {
        let error = with(line).unwrap_err();
        assert!(error.what.contains(words), "{line}: {error}");
    }
}
