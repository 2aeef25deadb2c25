use serde_json::{Map, Value, json};

use super::{Input, InputType, InputValue, Pattern, resolve};

fn input(name: &str, kind: InputType) -> Input {
    Input {
        name: name.to_owned(),
        label: name.to_owned(),
        help: String::new(),
        kind,
        default: None,
        pattern: None,
        optional: false,
        multiline: false,
        dash: false,
    }
}

fn answered(input: &Input, value: Value) -> Result<InputValue, String> {
    let given = Map::from_iter([(input.name.clone(), value)]);
    let mut all = resolve(std::slice::from_ref(input), &given).map_err(|errors| errors[0].to_string())?;
    Ok(all.remove(&input.name).expect("each question has an answer"))
}

#[test]
fn texts_are_one_line_and_no_option() {
    let plain = input("who", InputType::String);
    assert_eq!(answered(&plain, json!("a; b")), Ok(InputValue::Text("a; b".into())));
    for (value, word) in [
        (json!("-rf"), "option"),
        (json!("a\nb"), "one line"),
        (json!("a\0b"), "U+0000"),
        (json!("\u{1b}[2J"), "U+001B"),
        (json!("x".repeat(64 * 1024 + 1)), "bytes"),
        (json!("\u{F0000}"), "private"),
        (json!(5), "must be a text"),
        (json!(["a"]), "must be a text"),
    ] {
        let error = answered(&plain, value.clone()).expect_err("refused");
        assert!(error.contains(word), "{error}");
    }
    let open = Input { multiline: true, dash: true, ..plain };
    assert_eq!(answered(&open, json!("-a\nb")), Ok(InputValue::Text("-a\nb".into())));
}

#[test]
fn a_pattern_holds_for_the_whole_text() {
    let pattern = Some(Pattern::new("[a-z]+|x y").unwrap());
    let named = Input { pattern, ..input("db", InputType::String) };
    assert!(answered(&named, json!("shop")).is_ok());
    assert!(answered(&named, json!("x y")).is_ok());
    for wrong in ["shop1", "shop;id", "shop\n", " shop", "x y;"] {
        assert!(answered(&named, json!(wrong)).is_err(), "{wrong:?}");
    }
    assert!(Pattern::new("(").is_err());
}

#[test]
fn numbers_and_truth_values_may_come_as_texts_of_a_form() {
    let number = input("n", InputType::Int { min: Some(1), max: Some(9) });
    assert_eq!(answered(&number, json!("7")), Ok(InputValue::Int(7)));
    assert_eq!(answered(&number, json!(7)), Ok(InputValue::Int(7)));
    for wrong in [json!(0), json!(10), json!("7; id"), json!(1.5), json!(true)] {
        assert!(answered(&number, wrong).is_err());
    }
    let truth = input("t", InputType::Bool);
    assert_eq!(answered(&truth, json!("on")), Ok(InputValue::Bool(true)));
    assert!(answered(&truth, json!("maybe")).is_err());
}

#[test]
fn choices_and_paths_keep_to_what_is_asked() {
    let choice = input("engine", InputType::Choice(vec!["pg".into(), "mysql".into()]));
    assert!(answered(&choice, json!("pg")).is_ok());
    assert!(answered(&choice, json!("oracle")).unwrap_err().contains("pg, mysql"));
    let path = input("dir", InputType::Path);
    assert!(answered(&path, json!("/srv/a b")).is_ok());
    for wrong in ["srv", "/srv/../etc", "/srv\n"] {
        assert!(answered(&path, json!(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_secret_is_not_repeated_in_an_error() {
    let pattern = Some(Pattern::new("[a-z]+").unwrap());
    let secret = Input { pattern, ..input("password", InputType::Secret) };
    let error = answered(&secret, json!("Hunter2")).unwrap_err();
    assert!(!error.contains("Hunter2"), "{error}");
    let value = answered(&secret, json!("hunter")).unwrap();
    assert!(!format!("{value:?}").contains("hunter"), "{value:?}");
}

#[test]
fn what_is_not_answered_has_its_default_or_is_asked_for() {
    let asked = input("who", InputType::String);
    let own = Input { default: Some(InputValue::Text("world".into())), ..asked.clone() };
    assert_eq!(answered(&own, Value::Null), Ok(InputValue::Text("world".into())));
    assert_eq!(answered(&own, json!("")), Ok(InputValue::Text("world".into())));
    assert!(answered(&asked, Value::Null).unwrap_err().contains("must be answered"));
    let open = Input { optional: true, ..asked };
    assert_eq!(answered(&open, Value::Null), Ok(InputValue::Text(String::new())));
}

#[test]
fn an_answer_to_no_question_is_refused_with_the_questions() {
    let given = Map::from_iter([("whom".to_owned(), json!("x"))]);
    let errors = resolve(&[input("who", InputType::String)], &given).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].to_string().contains("asks for who"), "{}", errors[0]);
}

#[test]
fn answers_survive_the_wire() {
    for value in [
        InputValue::Bool(true),
        InputValue::Int(-3),
        InputValue::Text("true".into()),
        InputValue::Secret(flotilla_proto::Secret::new("s".into())),
    ] {
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<InputValue>(&text).unwrap(), value, "{text}");
    }
}
