//! What must hold when all is whole again. Each job is compared with what really happened: what its restic printed, which snapshots there are, what was done to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use flotilla::domain::Timestamp;
use serde_json::Value;

use crate::{
    FILES,
    house::api::{assert_whole, id, is_over},
    stage::Stage,
};

/// What one job's end may be, by what was done to it.
struct Witness<'a> {
    killed: bool,
    starved: bool,
    snapshots: Vec<&'a str>,
    printed: Option<&'a Vec<Option<String>>>,
}

/// All that is wrong, each with its job; empty where nothing was lost and nothing is untrue.
pub(crate) async fn offences(stage: &mut Stage) -> Vec<String> {
    let mut found = Vec::new();
    let jobs = stage.jobs().await.expect("the server is back");
    let listed: BTreeSet<String> = jobs.iter().map(id).collect();
    found.extend(stage.ordered.difference(&listed).map(|job| format!("{job}: was confirmed, and is not there")));
    let snapshots = stage.rest.snapshots("vault");
    let printed = stage.printed();
    for job in &jobs {
        let id = id(job);
        // The server looks into its repositories by itself: such a job may fail of anything, but it must end.
        if job["kind"] != "backup" {
            found.extend((!is_over(job)).then(|| format!("{id}: it is stuck; {}", brief(job))));
            continue;
        }
        let witness = Witness {
            killed: stage.killed.contains(&id),
            starved: stage.starved.as_ref().is_some_and(|(over, until)| !over.contains(&id) && created(job) <= *until),
            snapshots: snapshots
                .iter()
                .filter(|snapshot| is_of(snapshot, &id))
                .map(|one| one["id"].as_str().unwrap())
                .collect(),
            printed: printed.get(&id),
        };
        let text = stage.api.log_text(&id).await;
        let lines: Vec<&str> = text.lines().collect();
        let mut wrong = Vec::new();
        end(job, &witness, &mut wrong);
        log(job, &lines, &witness, &mut wrong);
        found.extend(wrong.into_iter().map(|what| format!("{id}: {what}; {}", brief(job))));
    }
    // One of them line by line, as the API gives them: numbered from 1, none missing, none twice, and the same as the text.
    if let Some(job) = jobs.first() {
        let (lines, text) = (stage.api.log(&id(job), 5000).await, stage.api.log_text(&id(job)).await);
        assert_whole(&lines);
        if !lines.iter().map(|line| line["text"].as_str().unwrap()).eq(text.lines()) {
            found.push(format!("{}: the log as lines and the log as text differ", id(job)));
        }
    }
    parts(stage, &mut found).await;
    found
}

/// The jobs that are not over, in words.
pub(crate) async fn open(stage: &mut Stage) -> Vec<String> {
    let jobs = stage.jobs().await.unwrap_or_default();
    jobs.iter().filter(|job| !is_over(job)).map(|job| format!("{}: {}", id(job), brief(job))).collect()
}

/// Whether the end that is told is the end that was.
fn end(job: &Value, witness: &Witness<'_>, wrong: &mut Vec<String>) {
    if !is_over(job) {
        return wrong.push("it is stuck".to_owned());
    }
    let done = ["succeeded", "warning"].contains(&job["status"].as_str().unwrap());
    let named = job["summary"]["snapshot_id"].as_str();
    match (done, witness.snapshots.as_slice()) {
        (true, [one]) if Some(*one) == named => {}
        (true, snapshots) => wrong.push(format!("it is told as done, and its snapshots are {snapshots:?}")),
        // Killed, or out of room, between the snapshot and its own end: then both are true.
        (false, _) if witness.killed || witness.starved => {}
        (false, []) => {}
        (false, snapshots) => wrong.push(format!("it is told as not done, and there is {snapshots:?}")),
    }
    if !(done || witness.killed || witness.starved) {
        wrong.push("nothing was done to it that a job must fail of".to_owned());
    }
    if job["status"] == "failed" && job["error"].as_str().is_none_or(str::is_empty) {
        wrong.push("it failed and does not say why".to_owned());
    }
    if job["status"] == "lost" || job["status"] == "cancelled" {
        wrong.push("its agent came back, and nobody cancelled it".to_owned());
    }
}

/// Whether each line that restic printed is stored once, in order, and nothing else is.
fn log(job: &Value, lines: &[&str], witness: &Witness<'_>, wrong: &mut Vec<String>) {
    if job["log_lines"] != lines.len() {
        wrong.push(format!("{} lines are stored", lines.len()));
    }
    let stored: Vec<&str> = lines.iter().filter_map(|line| numbered(line)).collect();
    let different: BTreeSet<&str> = stored.iter().copied().collect();
    if different.len() != stored.len() {
        let mut times = BTreeMap::<&str, usize>::new();
        stored.iter().for_each(|name| *times.entry(name).or_default() += 1);
        let twice: Vec<_> = times.into_iter().filter(|(_, times)| *times > 1).take(5).collect();
        wrong.push(format!("{} lines are stored twice: {twice:?} …", stored.len() - different.len()));
    }
    let truncated = job["log_truncated"] == true;
    if truncated && !witness.starved {
        wrong.push("its log is cut, and nothing was the matter".to_owned());
    }
    let excused = witness.starved || truncated;
    if job["status"] == "succeeded" && !excused && stored.len() != FILES {
        wrong.push(format!("{} of {FILES} numbered lines are stored", stored.len()));
    }
    let Some(printed) = witness.printed else { return };
    if printed.len() != 1 {
        return wrong.push(format!("restic was run {} times for it", printed.len()));
    }
    let Some(printed) = &printed[0] else { return };
    let said: Vec<&str> = printed.lines().filter_map(named_by_restic).collect();
    if excused {
        // What is there is what was printed, in that order; a line says that some are not.
        let mut rest = said.iter();
        if let Some(foreign) = stored.iter().find(|name| !rest.any(|said| said == *name)) {
            wrong.push(format!("{foreign} is stored where restic did not print it"));
        }
        if stored.len() < said.len() && !truncated {
            wrong.push(format!(
                "restic printed {} numbered lines, {} are stored, and the log does not say so",
                said.len(),
                stored.len()
            ));
        }
    } else if said != stored {
        let at = said.iter().zip(&stored).take_while(|(a, b)| a == b).count();
        wrong.push(format!(
            "restic printed {} numbered lines and {} are stored; they part at {at}: {:?} and {:?}",
            said.len(),
            stored.len(),
            said.get(at),
            stored.get(at)
        ));
    }
}

/// Whether nothing stayed behind in the parts.
async fn parts(stage: &mut Stage, found: &mut Vec<String>) {
    let locks = stage.rest.restic("vault", &["list", "locks", "--no-lock"]);
    if locks.code != Some(0) || !locks.stdout.trim().is_empty() {
        found.push(format!("the repository is locked: {locks:?}"));
    }
    let ready = stage.api.get("/readyz").await;
    if ready != "ok" && ready != "ok\n" {
        found.push(format!("the server is not ready: {ready}"));
    }
    let left: Vec<String> = fs::read_dir(stage.state_dir().join("jobs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if !left.is_empty() {
        found.push(format!("the agent keeps {left:?}, though all is delivered"));
    }
    stage.stop_server().await;
    let check = stage.on_the_data_folder(&["db", "check"]);
    if check.code != Some(0) {
        found.push(format!("the database: {check:?}"));
    }
}

fn created(job: &Value) -> Timestamp {
    job["created_at"].as_str().unwrap().parse().unwrap()
}

fn is_of(snapshot: &Value, job: &str) -> bool {
    snapshot["tags"]
        .as_array()
        .is_some_and(|tags| tags.iter().any(|tag| tag.as_str().and_then(|tag| tag.strip_prefix("job-")) == Some(job)))
}

/// The number of a numbered line, as it is stored: `unchanged /…/d012/n01234`, or with more behind it.
fn numbered(line: &str) -> Option<&str> {
    let (_, rest) = line.rsplit_once("/n")?;
    rest.get(..5).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The same of what restic prints. A line that it could write in part only counts: it is stored as it came.
fn named_by_restic(line: &str) -> Option<&str> {
    Some(line).filter(|line| !line.contains("\"message_type\":\"status\"")).and_then(numbered)
}

fn brief(job: &Value) -> String {
    format!("{}, exit {}, {} lines, {}", job["status"], job["exit_code"], job["log_lines"], job["error"])
}
