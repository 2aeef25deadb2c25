//! Plans: making, changing, removing them. A plan names what is there: its repository and hosts exist when it is written.

use serde::Deserialize;

use crate::{
    credential,
    domain::{
        Hook, HostId, JobStatus, KeepRules, PlanId, PlanOptions, RepoId, Timestamp, check_name, check_tag,
        job::Actor,
        plan::Plan,
        schedule::{Schedule, Standing},
    },
    ops::{
        error::{OpError, Problems},
        repos::is_absolute,
    },
    store::{
        Db, Store, StoreError, audit, hosts,
        jobs::{self, JobFilter},
        plans::{self, PlanFields},
        repos,
    },
};

mod options;
mod preview;

pub use preview::{Covered, Preview, preview};

/// Paths or patterns in one plan at most.
const MAX_LINES: usize = 1000;

/// A plan that is to be made, or what an existing one is to be.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanInput {
    /// What people call it; unique.
    pub name: String,
    /// Where to.
    #[schema(value_type = String)]
    pub repo_id: RepoId,
    /// Where each snapshot is copied to, once its backup is done.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub second_repo_id: Option<RepoId>,
    /// Hosts named one by one.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostId>,
    /// Hosts with one of these tags are covered too.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What to back up: absolute paths, at least one; none where `options.stdin_command` is set.
    #[serde(default)]
    pub paths: Vec<String>,
    /// What to leave out: restic's patterns.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// How.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub options: PlanOptions,
    /// What is kept: restic's keep rules (`keep_last` to `keep_yearly`, `keep_within`, `keep_within_hourly` to `keep_within_yearly`, `keep_tags`). Absent or
    /// empty: everything.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub retention: KeepRules,
    /// When; without it the plan runs by hand only.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// Commands around each backup, in their order: `at` (`before`, `after`, `failure`, `success`), `run` (a name that the hosts' own configuration allows),
    /// `timeout_s` (300 where absent), `on_failure` (`ignore`, `abort`, `fail`; `abort` where absent).
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub hooks: Vec<Hook>,
}

/// A change of a plan: what is absent stays as it was.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPatch {
    /// What people call it.
    pub name: Option<String>,
    /// Where to.
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// Where each snapshot is copied to. Null takes that away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub second_repo_id: Option<Option<RepoId>>,
    /// Hosts named one by one: all of them.
    #[schema(value_type = Option<Vec<String>>)]
    pub hosts: Option<Vec<HostId>>,
    /// Tags: all of them.
    pub tags: Option<Vec<String>>,
    /// Paths: all of them.
    pub paths: Option<Vec<String>>,
    /// Patterns: all of them.
    pub excludes: Option<Vec<String>>,
    /// Options: all of them.
    #[schema(value_type = Option<Object>)]
    pub options: Option<PlanOptions>,
    /// Rules: all of them.
    #[schema(value_type = Option<Object>)]
    pub retention: Option<KeepRules>,
    /// When: all of it. Null takes the schedule away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Schedule>)]
    pub schedule: Option<Option<Schedule>>,
    /// Commands around each backup: all of them.
    #[schema(value_type = Option<Vec<Object>>)]
    pub hooks: Option<Vec<Hook>>,
}

/// Makes a plan.
///
/// # Errors
/// [`OpError::Invalid`], [`OpError::Conflict`] where the name is taken, or a failure.
pub async fn create(store: &Store, actor: Actor, input: PlanInput) -> Result<Plan, OpError> {
    let random = credential::random_bits()?;
    store
        .write(move |tx| {
            let fields = checked(tx.db(), tx.now(), input, None)?;
            let id = PlanId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            let plan = plans::insert(tx, id, &fields).map_err(|e| taken(e, &fields.name))?;
            audit::record(tx, &actor, "plan.create", &id.to_string(), &format!("{} to {}", plan.name, plan.repo_name))?;
            Ok(plan)
        })
        .await
}

/// Changes a plan and returns it as it is then.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`], [`OpError::Conflict`], or a failure.
pub async fn update(store: &Store, actor: Actor, id: PlanId, patch: PlanPatch) -> Result<Plan, OpError> {
    store
        .write(move |tx| {
            let before = plans::lookup(tx.db(), id)?.ok_or(OpError::NotFound("plan"))?;
            let standing = before.schedule.clone();
            let fields = checked(tx.db(), tx.now(), patched(before, patch), standing.as_ref())?;
            plans::update(tx, id, &fields).map_err(|e| taken(e, &fields.name))?;
            audit::record(tx, &actor, "plan.update", &id.to_string(), &fields.name)?;
            plans::lookup(tx.db(), id)?.ok_or(OpError::NotFound("plan"))
        })
        .await
}

/// Pauses a plan's schedule, or lets it go on.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where the plan has none, or a failure.
pub async fn set_enabled(store: &Store, actor: Actor, id: PlanId, enabled: bool) -> Result<Plan, OpError> {
    let plan = store.read(move |db| plans::lookup(db, id)).await?.ok_or(OpError::NotFound("plan"))?;
    let Some(standing) = plan.schedule else {
        return Err(OpError::Conflict(format!("{} has no schedule: give it one under “Change”", plan.name)));
    };
    let schedule = Schedule { enabled, ..standing.schedule };
    update(store, actor, id, PlanPatch { schedule: Some(Some(schedule)), ..PlanPatch::default() }).await
}

/// Tells "left out" from "null" in a change.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Removes a plan: it covers nobody any more, and its jobs that were not sent to their host yet are cancelled.
///
/// # Errors
/// [`OpError::NotFound`], or a failure.
pub async fn remove(store: &Store, actor: Actor, id: PlanId) -> Result<(), OpError> {
    store
        .write(move |tx| {
            let plan = plans::lookup(tx.db(), id)?.ok_or(OpError::NotFound("plan"))?;
            let queued =
                JobFilter { plan_id: Some(id), status: Some(JobStatus::Queued), limit: 1000, ..JobFilter::default() };
            for job in jobs::list(tx.db(), &queued)? {
                jobs::request_cancel(tx, job.id)?;
            }
            plans::remove(tx, id)?;
            audit::record(tx, &actor, "plan.remove", &id.to_string(), &plan.name)?;
            Ok(())
        })
        .await
}

fn taken(error: StoreError, name: &str) -> OpError {
    if error.is_conflict() {
        OpError::Conflict(format!("a plan called {name:?} is there already: choose another name"))
    } else {
        error.into()
    }
}

fn patched(before: Plan, patch: PlanPatch) -> PlanInput {
    PlanInput {
        name: patch.name.unwrap_or(before.name),
        repo_id: patch.repo_id.unwrap_or(before.repo_id),
        second_repo_id: patch.second_repo_id.unwrap_or_else(|| before.second_repo.map(|(id, _)| id)),
        hosts: patch.hosts.unwrap_or(before.hosts),
        tags: patch.tags.unwrap_or(before.tags),
        paths: patch.paths.unwrap_or(before.paths),
        excludes: patch.excludes.unwrap_or(before.excludes),
        options: patch.options.unwrap_or(before.options),
        retention: patch.retention.unwrap_or(before.retention),
        schedule: patch.schedule.unwrap_or_else(|| before.schedule.map(|standing| standing.schedule)),
        hooks: patch.hooks.unwrap_or(before.hooks),
    }
}

/// `input` as it will be stored, or all that is wrong with it. `before` is the schedule that stands.
fn checked(db: &Db, now: Timestamp, input: PlanInput, before: Option<&Standing>) -> Result<PlanFields, OpError> {
    let mut problems = Problems::default();
    let name = problems.take("name", check_name(&input.name));
    if repos::lookup(db, input.repo_id)?.is_none() {
        problems.add("repo_id", "names no repository: GET /api/repos lists them");
    }
    if let Some(second) = input.second_repo_id {
        if second == input.repo_id {
            problems.add("second_repo_id", "is the repository that is backed up to: a second copy needs another one");
        } else if repos::lookup(db, second)?.is_none() {
            problems.add("second_repo_id", "names no repository: GET /api/repos lists them");
        }
    }
    let mut named = input.hosts;
    named.sort_unstable();
    named.dedup();
    for id in &named {
        match hosts::lookup(db, *id)? {
            None => problems.add("hosts", format!("{id} is no host: GET /api/hosts lists them")),
            Some(host) if host.own => {
                problems.add("hosts", "holds the control plane's own agent, which looks after repositories and is not backed up by plans: enrol an agent of the machine");
            }
            Some(_) => {}
        }
    }
    let tags = each(&mut problems, "tags", &input.tags, |tag| check_tag(tag).map_err(str::to_owned));
    let paths = each(&mut problems, "paths", &input.paths, check_path);
    match (&input.options.stdin_command, input.paths.is_empty()) {
        (None, true) => problems.add("paths", "must hold at least one path"),
        (Some(_), false) => problems.add("paths", "must be empty where the output of a command is backed up"),
        _ => {}
    }
    let excludes = each(&mut problems, "excludes", &input.excludes, check_line);
    let options = options::check_options(&mut problems, input.options);
    let hooks = options::check_hooks(&mut problems, input.hooks);
    check_retention(&mut problems, "retention", &input.retention);
    let schedule = input.schedule.and_then(|schedule| check_schedule(&mut problems, "schedule.", schedule));
    problems.refuse()?;
    let name = name.unwrap_or_default();
    let retention = input.retention;
    let schedule = schedule.map(|schedule| Standing::after(before, schedule, now));
    let (repo_id, second_repo_id, hosts) = (input.repo_id, input.second_repo_id, named);
    Ok(PlanFields { name, repo_id, second_repo_id, hosts, tags, paths, excludes, options, hooks, retention, schedule })
}

/// A schedule as it will be stored; what is wrong is noted under `prefix`.
pub(super) fn check_schedule(problems: &mut Problems, prefix: &str, schedule: Schedule) -> Option<Schedule> {
    match schedule.checked() {
        Ok(schedule) => Some(schedule),
        Err(errors) => {
            for error in errors {
                problems.add(&format!("{prefix}{}", error.field), error.message);
            }
            None
        }
    }
}

/// Each of `given` as `check` makes it, without repeats; what is wrong is noted as `field[i]`.
fn each(
    problems: &mut Problems,
    field: &str,
    given: &[String],
    check: impl Fn(&str) -> Result<String, String>,
) -> Vec<String> {
    let mut good = Vec::with_capacity(given.len());
    if given.len() > MAX_LINES {
        problems.add(field, format!("must hold at most {MAX_LINES}"));
        return good;
    }
    for (i, text) in given.iter().enumerate() {
        if let Some(value) = problems.take(&format!("{field}[{i}]"), check(text))
            && !good.contains(&value)
        {
            good.push(value);
        }
    }
    good
}

/// A path to back up.
pub(super) fn check_path(text: &str) -> Result<String, String> {
    let path = check_line(text)?;
    if !is_absolute(&path) {
        return Err(format!(r"{path:?} is not absolute: begin with / (or C:\ on Windows)"));
    }
    Ok(path)
}

fn check_line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return Err("must be one line of at most 4096 bytes".to_owned());
    }
    // A name may begin or end with a blank on purpose, but far more often it was pasted so.
    Ok(text.trim().to_owned())
}

/// Notes what is wrong with keep rules, under `prefix`.
pub(super) fn check_retention(problems: &mut Problems, prefix: &str, rules: &KeepRules) {
    let counts = [
        ("keep_last", rules.keep_last),
        ("keep_hourly", rules.keep_hourly),
        ("keep_daily", rules.keep_daily),
        ("keep_weekly", rules.keep_weekly),
        ("keep_monthly", rules.keep_monthly),
        ("keep_yearly", rules.keep_yearly),
    ];
    for (name, count) in counts {
        if count.is_some_and(|n| n == 0 || n > 100_000) {
            problems.add(&format!("{prefix}.{name}"), "must be between 1 and 100000; leave it out to not keep by it");
        }
    }
    let spans = [
        ("keep_within", &rules.keep_within),
        ("keep_within_hourly", &rules.keep_within_hourly),
        ("keep_within_daily", &rules.keep_within_daily),
        ("keep_within_weekly", &rules.keep_within_weekly),
        ("keep_within_monthly", &rules.keep_within_monthly),
        ("keep_within_yearly", &rules.keep_within_yearly),
    ];
    for (name, span) in spans {
        if span.as_deref().is_some_and(|span| !is_span(span)) {
            let why = "must be a duration such as 14d or 1y6m2d12h (years, months, days, hours)";
            problems.add(&format!("{prefix}.{name}"), why);
        }
    }
    for (i, tag) in rules.keep_tags.iter().enumerate() {
        // They may be others' tags, of a repository that was taken over: what restic takes does.
        problems.take(&format!("{prefix}.keep_tags[{i}]"), check_word(tag));
    }
}

/// A tag or a host's name as restic takes it: a comma would make two of it.
pub(super) fn check_word(text: &str) -> Result<String, String> {
    let word = text.trim();
    if word.is_empty() || word.len() > 255 || word.chars().any(|c| c == ',' || c.is_control()) {
        return Err("must have 1 to 255 characters, without commas".to_owned());
    }
    Ok(word.to_owned())
}

/// restic's duration: numbers, each followed by y, m, d or h.
fn is_span(text: &str) -> bool {
    let mut parts = text.split_inclusive(['y', 'm', 'd', 'h']).peekable();
    parts.peek().is_some()
        && parts.all(|part| {
            let number = part.strip_suffix(['y', 'm', 'd', 'h']).unwrap_or("");
            (1..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests;
