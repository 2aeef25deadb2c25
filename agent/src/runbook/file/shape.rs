//! The shape of a runbook's file, as it is written. What it means is [`super`]'s; here nothing is looked at but names and types.

use std::collections::BTreeMap;

use flotilla_proto::Way;
use serde::Deserialize;
use toml::Spanned;

use crate::runbook::{Direction, Lock, Method, ResultType, Role, Scope};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunbookFile {
    pub(super) name: Spanned<String>,
    pub(super) title: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) scope: Scope,
    pub(super) transports: Option<Spanned<Vec<Way>>>,
    #[serde(default)]
    pub(super) destructive: bool,
    pub(super) safety: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) lock: Lock,
    #[serde(default)]
    pub(super) role: Role,
    #[serde(default)]
    pub(super) opt_in: bool,
    #[serde(default)]
    pub(super) inputs: Vec<Spanned<InputFile>>,
    #[serde(default)]
    pub(super) guards: Vec<Spanned<GuardFile>>,
    pub(super) steps: Vec<Spanned<StepFile>>,
    #[serde(default)]
    pub(super) teardown: Vec<Spanned<StepFile>>,
    #[serde(default)]
    pub(super) results: Vec<Spanned<ResultFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputFile {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: InputWord,
    #[serde(default)]
    pub(super) label: String,
    #[serde(default)]
    pub(super) help: String,
    pub(super) default: Option<serde_json::Value>,
    pub(super) pattern: Option<String>,
    pub(super) choices: Option<Vec<String>>,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(default)]
    pub(super) multiline: bool,
    #[serde(default)]
    pub(super) dash: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputWord {
    String,
    Int,
    Bool,
    Choice,
    Secret,
    Path,
    Host,
    Site,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardFile {
    #[serde(rename = "type", default)]
    pub(super) place: GuardPlace,
    pub(super) cmd: String,
    pub(super) message: String,
    pub(super) timeout: Option<u64>,
    #[serde(default)]
    pub(super) on_host: bool,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum GuardPlace {
    Local,
    #[default]
    Ssh,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepWord {
    Local,
    Ssh,
    Scp,
    Api,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFile {
    #[serde(rename = "type")]
    pub(super) kind: StepWord,
    pub(super) label: String,
    pub(super) timeout: Option<u64>,
    #[serde(default)]
    pub(super) continue_on_error: bool,
    pub(super) when: Option<String>,
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) destructive: bool,
    pub(super) artefact: Option<ArtefactFile>,
    pub(super) retry: Option<RetryFile>,
    pub(super) cmd: Option<String>,
    pub(super) env: Option<BTreeMap<String, String>>,
    pub(super) stdin: Option<String>,
    pub(super) on_host: Option<bool>,
    pub(super) direction: Option<Direction>,
    pub(super) local_path: Option<String>,
    pub(super) remote_path: Option<String>,
    pub(super) method: Option<Method>,
    pub(super) endpoint: Option<String>,
    pub(super) query: Option<BTreeMap<String, String>>,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) body: Option<serde_json::Value>,
    pub(super) expect_status: Option<Statuses>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Statuses {
    One(u16),
    Several(Vec<u16>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArtefactFile {
    pub(super) name: String,
    pub(super) path: String,
    #[serde(default = "one")]
    pub(super) min_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryFile {
    pub(super) every: u64,
    pub(super) attempt: Option<u64>,
    pub(super) within: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Seconds {
    Number(u64),
    Text(String),
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultFile {
    pub(super) name: String,
    #[serde(rename = "type", default)]
    pub(super) kind: ResultType,
    pub(super) step: Option<String>,
    pub(super) regex: Option<String>,
    pub(super) marker: Option<String>,
    pub(super) pointer: Option<String>,
    #[serde(default)]
    pub(super) many: bool,
    #[serde(default)]
    pub(super) required: bool,
}
