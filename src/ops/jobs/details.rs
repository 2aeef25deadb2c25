//! From a request's details to the operation that its agent is sent, kind by kind. What is wrong is noted by field, all of it at once.

use crate::{
    domain::{
        BackupSpec, CheckSpec, CopySpec, DiffSpec, DumpForm, DumpSpec, FindSpec, ForgetSpec, JobKind, LsSpec,
        Operation, PlanId, PruneSpec, RepairSpec, RepairWhat, RepoId, Selection, StatsSpec, TagSpec, UnlockSpec,
        picking, plan::Plan,
    },
    ops::{
        error::{OpError, Problems},
        jobs::{JobRequest, restore::check_id, rights},
        plans::{check_path, check_retention, check_word},
    },
    store::{Db, plans},
};

/// Ids, tags or names that one order may hold.
const MOST: usize = 1000;
/// Parts that restic can divide a repository into.
const MOST_PARTS: u32 = 256;

/// The tag that each backup by a plan bears.
#[must_use]
pub fn plan_tag(plan: PlanId) -> String {
    format!("plan-{}", plan.to_string().to_lowercase())
}

/// The plan that a forget goes by. It need not cover the host: a forget runs where the credentials are.
pub(super) fn plan_to_forget_by(
    db: &Db,
    problems: &mut Problems,
    request: &JobRequest,
) -> Result<Option<Plan>, OpError> {
    let Some(id) = request.plan_id else { return Ok(None) };
    let plan = plans::lookup(db, id)?;
    match &plan {
        None => problems.add("plan_id", "names no plan: GET /api/plans lists them"),
        Some(plan) if request.repo_id.is_some_and(|repo| repo != plan.repo_id) => {
            let text = format!("is another one than the plan's: {} backs up to {}", plan.name, plan.repo_name);
            problems.add("repo_id", text);
        }
        Some(_) => {}
    }
    Ok(plan)
}

/// What the agent is to do, beyond the kind. `repo` is the one that it works on, where that is known.
pub(super) fn operation(
    db: &Db,
    problems: &mut Problems,
    kind: &JobKind,
    plan: Option<&Plan>,
    repo: Option<RepoId>,
    request: JobRequest,
) -> Result<Option<Operation>, OpError> {
    let dry_run = request.dry_run.unwrap_or(false);
    Ok(match kind {
        JobKind::Backup if dry_run => Some(Operation::Backup(BackupSpec { dry_run })),
        JobKind::Forget => forget(problems, plan, request).map(Operation::Forget),
        JobKind::Prune => {
            let max_unused = request.max_unused.and_then(|text| problems.take("max_unused", check_max_unused(&text)));
            Some(Operation::Prune(PruneSpec { max_unused, dry_run }))
        }
        JobKind::Check => Some(Operation::Check(check(problems, request))),
        JobKind::Stats => Some(Operation::Stats(StatsSpec {
            mode: request.mode.unwrap_or_default(),
            snapshot: request.snapshot.as_deref().and_then(|id| problems.take("snapshot", check_id(id))),
            of: selection(problems, request),
        })),
        JobKind::Diff => {
            let (a, b) = (snapshot(problems, "a", request.a), snapshot(problems, "b", request.b));
            a.zip(b).map(|(a, b)| Operation::Diff(DiffSpec { a, b, metadata: request.metadata.unwrap_or(false) }))
        }
        JobKind::Ls => {
            let (snapshot, path) =
                (snapshot(problems, "snapshot", request.snapshot), inner_path(problems, request.path));
            snapshot.zip(path).map(|(snapshot, path)| Operation::Ls(LsSpec { snapshot, path }))
        }
        JobKind::Dump => {
            let snapshot = snapshot(problems, "snapshot", request.snapshot);
            let (path, paths, form) = match request.paths {
                None => (inner_path(problems, request.path), Vec::new(), request.form.unwrap_or_default()),
                Some(paths) => several(problems, &paths, request.path.as_deref(), request.form),
            };
            snapshot.zip(path).map(|(snapshot, path)| Operation::Dump(DumpSpec { snapshot, path, paths, form }))
        }
        JobKind::Find => find(problems, request).map(Operation::Find),
        JobKind::Tag => Some(Operation::Tag(tag(problems, request))),
        JobKind::Copy => copy(db, problems, repo, request)?.map(Operation::Copy),
        JobKind::Repair => Some(Operation::Repair(repair(problems, request))),
        // The proofs of an unlock are the server's own, never the caller's.
        JobKind::Unlock => Some(Operation::Unlock(UnlockSpec::default())),
        _ => None,
    })
}

fn forget(problems: &mut Problems, plan: Option<&Plan>, mut request: JobRequest) -> Option<ForgetSpec> {
    let keep = match (request.retention.take(), plan) {
        (Some(rules), _) => {
            check_retention(problems, "retention", &rules);
            if rules.keeps_all() {
                problems.add("retention", "names no rule, so nothing would ever go: say what is to be kept");
            }
            rules
        }
        (None, Some(plan)) if plan.retention.keeps_all() => {
            problems.add("plan_id", format!("keeps everything: {} has no rules of what to keep", plan.name));
            return None;
        }
        (None, Some(plan)) => plan.retention.clone(),
        // What is wrong with the plan is noted.
        (None, None) if request.plan_id.is_some() => return None,
        (None, None) => {
            problems.add("retention", "is missing: say what is to be kept, or name the plan_id whose rules count");
            return None;
        }
    };
    let group_by = match request.group_by.take() {
        Some(given) => grouping(problems, given),
        None if plan.is_some() => vec!["host".to_owned()],
        None => vec!["host".to_owned(), "paths".to_owned()],
    };
    let (prune, dry_run) = (request.prune.unwrap_or(false), request.dry_run.unwrap_or(false));
    if plan.is_some() && request.tags.is_some() {
        problems.add("tags", "can't go with plan_id: the snapshots are those that bear the plan's tag");
    }
    let mut of = selection(problems, request);
    of.tags.extend(plan.map(|plan| plan_tag(plan.id)));
    Some(ForgetSpec { keep, of, group_by, prune, dry_run })
}

fn grouping(problems: &mut Problems, given: Vec<String>) -> Vec<String> {
    let mut good: Vec<String> = Vec::new();
    for (i, word) in given.into_iter().enumerate() {
        if !["host", "paths", "tags"].contains(&word.as_str()) {
            problems.add(&format!("group_by[{i}]"), "must be host, paths or tags");
        } else if !good.contains(&word) {
            good.push(word);
        }
    }
    good
}

fn check(problems: &mut Problems, request: JobRequest) -> CheckSpec {
    let read_data = request.read_data.unwrap_or(false);
    if read_data && request.read_data_subset.is_some() {
        problems.add("read_data_subset", "can't go with read_data, which reads all");
    }
    let subset = request.read_data_subset.and_then(|text| problems.take("read_data_subset", check_subset(&text)));
    CheckSpec { read_data_subset: subset, read_data }
}

fn find(problems: &mut Problems, mut request: JobRequest) -> Option<FindSpec> {
    let pattern = match request.pattern.take() {
        Some(text) => problems.take("pattern", check_pattern(&text)),
        None => {
            problems.add("pattern", "is missing: give a name or a pattern such as *.conf");
            None
        }
    };
    let ignore_case = request.ignore_case.unwrap_or(false);
    let snapshots = ids(problems, "snapshots", request.snapshots.take());
    let of = selection(problems, request);
    Some(FindSpec { pattern: pattern?, ignore_case, of, snapshots })
}

fn tag(problems: &mut Problems, request: JobRequest) -> TagSpec {
    let snapshots = ids(problems, "snapshots", request.snapshots);
    if snapshots.is_empty() {
        problems.add("snapshots", "is missing: name the snapshots by their ids");
    }
    let add = words(problems, "add", request.add);
    let remove = words(problems, "remove", request.remove);
    if add.is_empty() && remove.is_empty() {
        problems.add("add", "is missing: name tags to add, or to remove");
    }
    if let Some(both) = add.iter().find(|tag| remove.contains(tag)) {
        problems.add("remove", format!("holds {both:?}, which is to be added too"));
    }
    TagSpec { snapshots, add, remove }
}

fn copy(
    db: &Db,
    problems: &mut Problems,
    from: Option<RepoId>,
    mut request: JobRequest,
) -> Result<Option<CopySpec>, OpError> {
    let to = match request.to {
        Some(to) => problems.take("to", rights::check_second(db, from, to)?),
        None => {
            problems.add("to", "is missing: name the repository that gets the snapshots");
            None
        }
    };
    let snapshots = ids(problems, "snapshots", request.snapshots.take());
    let of = selection(problems, request);
    if !snapshots.is_empty() && of != Selection::default() {
        problems.add("snapshots", "can't go with hosts, tags or paths: name the snapshots, or say which they are");
    }
    Ok(to.map(|to| CopySpec { to, snapshots, of }))
}

fn repair(problems: &mut Problems, request: JobRequest) -> RepairSpec {
    let what = request.what.unwrap_or_default();
    if request.what.is_none() {
        problems.add("what", "is missing: index, packs or snapshots");
    }
    let mut packs = Vec::new();
    for (i, id) in request.packs.unwrap_or_default().into_iter().enumerate() {
        if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            packs.push(id.to_ascii_lowercase());
        } else {
            problems.add(&format!("packs[{i}]"), "must be a pack's whole id: 64 hexadecimal digits");
        }
    }
    match (what, packs.is_empty()) {
        (RepairWhat::Packs, true) => problems.add("packs", "is missing: name the damaged packs, as a check lists them"),
        (RepairWhat::Index | RepairWhat::Snapshots, false) => {
            problems.add("packs", "belongs to a repair of packs only");
        }
        _ => {}
    }
    let forget = request.forget.unwrap_or(false);
    if forget && what != RepairWhat::Snapshots {
        problems.add("forget", "belongs to a repair of snapshots only");
    }
    let dry_run = request.dry_run.unwrap_or(false);
    if dry_run && request.what.is_some_and(|what| what != RepairWhat::Snapshots) {
        problems.add("dry_run", "is for a repair of snapshots only: restic can't try the others");
    }
    RepairSpec { what, packs, forget, dry_run }
}

fn selection(problems: &mut Problems, request: JobRequest) -> Selection {
    let mut paths = Vec::new();
    for (i, path) in request.paths.unwrap_or_default().iter().enumerate() {
        paths.extend(problems.take(&format!("paths[{i}]"), check_path(path)));
    }
    Selection { hosts: words(problems, "hosts", request.hosts), tags: words(problems, "tags", request.tags), paths }
}

fn words(problems: &mut Problems, field: &str, given: Option<Vec<String>>) -> Vec<String> {
    each(problems, field, given, check_word)
}

fn ids(problems: &mut Problems, field: &str, given: Option<Vec<String>>) -> Vec<String> {
    each(problems, field, given, check_id)
}

fn each(
    problems: &mut Problems,
    field: &str,
    given: Option<Vec<String>>,
    check: impl Fn(&str) -> Result<String, String>,
) -> Vec<String> {
    let given = given.unwrap_or_default();
    if given.len() > MOST {
        problems.add(field, format!("must hold at most {MOST}"));
        return Vec::new();
    }
    let checked = given.iter().enumerate();
    checked.filter_map(|(i, text)| problems.take(&format!("{field}[{i}]"), check(text))).collect()
}

fn snapshot(problems: &mut Problems, field: &str, given: Option<String>) -> Option<String> {
    match given {
        Some(text) => problems.take(field, check_id(&text)),
        None => {
            problems.add(field, "is missing: give a snapshot's id");
            None
        }
    }
}

/// A path within a snapshot. Blanks and odd characters may belong to a name, so that nothing is trimmed.
fn inner_path(problems: &mut Problems, given: Option<String>) -> Option<String> {
    match given {
        Some(path) if path.starts_with('/') && path.len() <= 16_384 && !path.contains('\0') => return Some(path),
        Some(_) => problems.add("path", "must begin with / and have at most 16384 bytes"),
        None => problems.add("path", "is missing: give a path of the snapshot, from /"),
    }
    None
}

/// What one archive is made of. The path that goes with it is empty.
fn several(
    problems: &mut Problems,
    paths: &[String],
    path: Option<&str>,
    form: Option<DumpForm>,
) -> (Option<String>, Vec<String>, DumpForm) {
    if path.is_some() {
        problems.add("path", "can't go with paths: name all of them there");
    }
    if form.is_some_and(|form| form != DumpForm::Tar) {
        problems
            .add("form", "must be tar with paths: restic packs each of them by itself, and only tars can be joined");
    }
    let paths = problems.take("paths", picking::several(paths)).unwrap_or_default();
    (Some(String::new()), paths, DumpForm::Tar)
}

fn check_pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 4096 || text.contains('\0') {
        return Err("must have 1 to 4096 bytes".to_owned());
    }
    Ok(text.to_owned())
}

/// restic's `--read-data-subset`.
fn check_subset(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = match text.split_once('/') {
        Some((part, parts)) => match (part.parse::<u32>(), parts.parse::<u32>()) {
            (Ok(part), Ok(parts)) => (1..=MOST_PARTS).contains(&parts) && (1..=parts).contains(&part),
            _ => false,
        },
        None => percentage(text).is_some_and(|share| share > 0.0) || is_size(text),
    };
    if good {
        return Ok(text.to_owned());
    }
    Err(format!("must be a part such as 1/10 (at most {MOST_PARTS} parts), a share such as 5%, or a size such as 10G"))
}

/// restic's `--max-unused`.
fn check_max_unused(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "unlimited" || percentage(text).is_some() || is_size(text) {
        return Ok(text.to_owned());
    }
    Err("must be a share such as 5%, a size such as 10G, or unlimited".to_owned())
}

fn percentage(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%').filter(|number| number.bytes().all(|b| b.is_ascii_digit() || b == b'.'))?;
    number.parse().ok().filter(|share| (0.0..=100.0).contains(share))
}

fn is_size(text: &str) -> bool {
    let number = text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']).unwrap_or(text);
    (1..=15).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}
