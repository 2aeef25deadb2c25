use std::collections::BTreeMap;

use flotilla_proto::Secret;

use super::{Facts, MASK, Mode, Template, Values};
use crate::runbook::InputValue;

fn values(mode: Mode) -> Values {
    let inputs = BTreeMap::from([
        ("who".to_owned(), InputValue::Text("o'neil; id".to_owned())),
        ("count".to_owned(), InputValue::Int(3)),
        ("force".to_owned(), InputValue::Bool(true)),
        ("password".to_owned(), InputValue::Secret(Secret::new("hunter2 $(id)".to_owned()))),
    ]);
    let host = BTreeMap::from([("name".to_owned(), "web 1".to_owned()), ("slug".to_owned(), "web-1".to_owned())]);
    Values::new(mode, inputs).with("host", Facts(host))
}

fn command(text: &str) -> Result<String, String> {
    Template::new(text)
        .and_then(|template| template.command(&values(Mode::Run)))
        .map(|command| command.text)
        .map_err(|e| e.to_string())
}

#[test]
fn values_are_quoted_in_commands() {
    assert_eq!(command("echo {{ who }} {{ host.name }}").unwrap(), r"echo 'o'\''neil; id' 'web 1'");
    assert_eq!(command("head -n {{ count }} {{ who | upper }}").unwrap(), r"head -n 3 'O'\''NEIL; ID'");
    assert_eq!(command("{% if force %}yes{% endif %} ${#name}").unwrap(), "yes ${#name}");
    assert_eq!(
        command("tar {% for x in ['a b', 'c'] %} {{ x }}{% endfor %} {{ ['a b', 'c'] }}").unwrap(),
        "tar  'a b' c 'a b' c"
    );
}

#[test]
fn raw_is_taken_as_it_stands_and_looked_at_all_the_same() {
    assert_eq!(command("{{ 'a | b' | raw }} {{ who }}").unwrap(), r"a | b 'o'\''neil; id'");
    assert!(command("{{ '\"' | raw }}{{ who }}").unwrap_err().contains("double quotes"));
}

#[test]
fn a_value_within_quotes_is_refused_with_what_to_do() {
    let error = command("echo \"{{ who }}\"").unwrap_err();
    assert!(error.contains("double quotes") && error.contains("echo"), "{error}");
}

#[test]
fn a_secret_is_never_part_of_a_command() {
    let template = Template::new("mysql -p{{ password }}").unwrap();
    let command = template.command(&values(Mode::Run)).unwrap();
    assert_eq!(command.text, "mysql -p\"$FLOTILLA_SECRET_PASSWORD\"");
    assert_eq!(command.secrets.into_iter().collect::<Vec<_>>(), ["password"]);
    for text in ["{{ password | raw }}", "{{ password | upper }}", "{{ password ~ 'x' }}", "{{ password | string }}"] {
        let error = Template::new(text).and_then(|template| template.command(&values(Mode::Run))).expect_err(text);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_secret_stands_in_sealed_texts_only_and_is_masked_in_previews() {
    let template = Template::new("pw={{ password }}").unwrap();
    assert_eq!(template.sealed(&values(Mode::Run)).unwrap().expose(), "pw=hunter2 $(id)");
    assert_eq!(template.sealed(&values(Mode::Preview)).unwrap().expose(), format!("pw={MASK}"));
    for refused in [template.text(&values(Mode::Run)), template.url(&values(Mode::Run))] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn an_unknown_name_is_an_error() {
    assert!(command("echo {{ whom }}").unwrap_err().contains("not known"));
    assert!(command("echo {{ host.nmae }}").unwrap_err().contains("not known"));
    assert!(command("echo {{ results.x }}").unwrap_err().contains("not known"));
    assert!(command("{% if whom %}x{% endif %}").unwrap_err().contains("not known"));
}

#[test]
fn a_preview_names_what_only_a_run_can_know() {
    let template = Template::new("gzip -t {{ artefacts.dump.path }} {{ results.version }}").unwrap();
    assert_eq!(
        template.command(&values(Mode::Preview)).unwrap().text,
        "gzip -t '⟨artefacts.dump.path⟩' '⟨results.version⟩'"
    );
    let mut run = values(Mode::Run);
    run.artefact("dump", "/tmp/a b", 7, "ab12");
    run.result("version", serde_json::json!("1.2"));
    assert_eq!(template.command(&run).unwrap().text, "gzip -t '/tmp/a b' 1.2");
}

#[test]
fn loops_and_lengths_are_bounded() {
    assert!(
        command("{% for x in range(100000) %}{% for y in range(100000) %}{{ y }}{% endfor %}{% endfor %}").is_err()
    );
    let error = command(&format!("{{% for x in range(9000) %}}{}{{% endfor %}}", "y".repeat(100))).unwrap_err();
    assert!(error.contains("longer than"), "{error}");
    assert!(Template::new(&"x".repeat(70_000)).is_err());
    assert!(Template::new("a\0b").is_err());
}

#[test]
fn files_can_not_be_included() {
    for text in [
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% import 'x' as y %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ] {
        assert!(command(text).is_err(), "{text}");
    }
}

#[test]
fn values_in_addresses_are_percent_encoded() {
    let template = Template::new("backups/{{ who }}").unwrap();
    assert_eq!(template.url(&values(Mode::Run)).unwrap(), "backups/o%27neil%3B%20id");
}

#[test]
fn conditions_are_expressions() {
    let holds = |text: &str| Template::expression(text).unwrap().holds(&values(Mode::Run));
    assert_eq!(holds("count > 2 and force"), Ok(true));
    assert_eq!(holds("who == 'x'"), Ok(false));
    assert_eq!(holds("password"), Ok(true));
    assert!(holds("nobody").is_err());
    assert!(Template::expression("1 +").is_err());
}

#[test]
fn line_breaks_at_the_end_stay() {
    assert_eq!(command("a\n\n").unwrap(), "a\n\n");
}
