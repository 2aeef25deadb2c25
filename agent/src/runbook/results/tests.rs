use regex_lite::Regex;
use serde_json::json;

use super::{Readings, ResultRule, ResultSource, ResultType, bytes};

fn rule(name: &str, source: ResultSource, kind: ResultType) -> ResultRule {
    ResultRule { name: name.to_owned(), step: None, source, kind, many: false, required: false }
}

fn regex(text: &str) -> ResultSource {
    ResultSource::Regex(Regex::new(text).unwrap())
}

#[test]
fn a_pattern_gives_the_group_of_its_own_name() {
    let rules = [rule("greeting", regex("^hello (?P<greeting>.+)$"), ResultType::String)];
    let mut readings = Readings::new(&rules);
    readings.begin("Say it");
    ["noise", "hello world", "hello moon"].iter().for_each(|line| readings.line(line));
    assert_eq!(readings.end(), Ok(()));
    assert_eq!(readings.found()["greeting"], "moon");
}

#[test]
fn several_groups_give_an_object_and_many_a_list() {
    let disks =
        ResultRule { many: true, ..rule("disks", regex(r"^(?P<device>/\S+)\s+(?P<used>\d+)%$"), ResultType::String) };
    let rules = [disks];
    let mut readings = Readings::new(&rules);
    readings.begin("Disks");
    ["/dev/sda1 81%", "none", "/dev/sdb1 7%"].iter().for_each(|line| readings.line(line));
    assert_eq!(
        readings.found()["disks"],
        json!([{"device": "/dev/sda1", "used": "81"}, {"device": "/dev/sdb1", "used": "7"}])
    );
}

#[test]
fn a_marker_is_a_key_and_its_value() {
    let rules = [rule("load", ResultSource::Marker("LOAD_1M".into()), ResultType::Float)];
    let mut readings = Readings::new(&rules);
    readings.begin("Load");
    ["XLOAD_1M=9", "LOAD_1M=0.25", "LOAD_1MX=9"].iter().for_each(|line| readings.line(line));
    assert_eq!(readings.found()["load"], json!(0.25));
}

#[test]
fn a_pointer_looks_into_the_json_of_its_step() {
    let names = ResultRule {
        many: true,
        step: Some("Ask".into()),
        ..rule("names", ResultSource::Pointer("/data/names".into()), ResultType::String)
    };
    let version = ResultRule {
        step: Some("Ask".into()),
        ..rule("version", ResultSource::Pointer("/data/v".into()), ResultType::Int)
    };
    let rules = [names, version];
    let mut readings = Readings::new(&rules);
    readings.begin("Else");
    readings.line(r#"{"data": {"v": 1}}"#);
    assert_eq!(readings.end(), Ok(()));
    assert!(readings.found().is_empty());
    readings.begin("Ask");
    [r#"{"data":"#, r#"{"names": ["a", "b"], "v": 7}}"#].iter().for_each(|line| readings.line(line));
    assert_eq!(readings.end(), Ok(()));
    assert_eq!(readings.found()["names"], json!(["a", "b"]));
    assert_eq!(readings.found()["version"], json!(7));
}

#[test]
fn what_can_not_be_read_is_left_out_and_said() {
    let rules = [rule("n", ResultSource::Marker("N".into()), ResultType::Int)];
    let mut readings = Readings::new(&rules);
    readings.begin("x");
    readings.line("N=many");
    let (found, notes) = readings.into_parts();
    assert!(found.is_empty());
    assert_eq!(notes.len(), 1);
}

#[test]
fn what_must_be_there_and_is_not_fails_its_step() {
    let rules = [ResultRule {
        required: true,
        step: Some("Ask".into()),
        ..rule("n", ResultSource::Marker("N".into()), ResultType::Int)
    }];
    let mut readings = Readings::new(&rules);
    readings.begin("Other");
    assert_eq!(readings.end(), Ok(()));
    readings.begin("Ask");
    assert!(readings.end().unwrap_err().contains("\"n\""));
}

#[test]
fn lists_and_values_are_bounded() {
    let rules = [ResultRule { many: true, ..rule("x", ResultSource::Marker("X".into()), ResultType::String) }];
    let mut readings = Readings::new(&rules);
    readings.begin("x");
    let long = format!("X={}", "ä".repeat(20_000));
    readings.line(&long);
    for _ in 0..2_000 {
        readings.line("X=1");
    }
    let (found, notes) = readings.into_parts();
    assert_eq!(found["x"].as_array().unwrap().len(), super::MOST_VALUES);
    assert!(found["x"][0].as_str().unwrap().len() <= super::MOST_VALUE);
    assert_eq!(notes.len(), 1);
}

#[test]
fn sizes_have_units() {
    let read: Vec<_> = ["1024", "2K", "1.5G", "3 GiB", "1kB", "x", "-1", "5Q"].iter().map(|text| bytes(text)).collect();
    assert_eq!(read, [Some(1024), Some(2048), Some(1_610_612_736), Some(3 << 30), Some(1024), None, None, None]);
}
