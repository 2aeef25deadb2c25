//! The commands that remove, rewrite or copy what is in a repository, and those that look before and after them.

use std::{ffi::OsString, path::Path};

use flotilla_proto::{
    CommandRun, CopySpec, ForgetSpec, KeepRules, PruneSpec, RepairSpec, RepairWhat, TagSpec, abilities,
};

use super::{MAX_ARGS_BYTES, OrderError, Session, read::selection, refuse, sftp::Ssh, snapshot_id, words};
use crate::{
    process::{Launch, SecretFile},
    restic::version::Feature,
};

/// Ids in one command: with a word around each they fit well below [`MAX_ARGS_BYTES`].
pub(crate) const MOST_IDS: usize = MAX_ARGS_BYTES / 80;

impl Session {
    /// All snapshots, or those of `of`, as one JSON array; takes no lock.
    pub(crate) fn list(&self, of: &[OsString]) -> Launch {
        let mut args = super::read::snapshots();
        args.extend_from_slice(of);
        self.launch(args)
    }

    /// What keep rules would do, as JSON; takes no lock.
    pub(crate) fn forget_dry_run(&self, spec: &ForgetSpec) -> Result<Launch, OrderError> {
        let mut args = words(&["forget", "--dry-run", "--json", "--no-lock"]);
        args.extend(keep(&spec.keep)?);
        args.extend(selection(&spec.of)?);
        if let Some(word) = spec.group_by.iter().find(|word| !["host", "paths", "tags"].contains(&word.as_str())) {
            return refuse(format!("snapshots can be grouped by host, paths and tags, not by {word:?}"));
        }
        args.push(format!("--group-by={}", spec.group_by.join(",")).into());
        Ok(self.launch(args))
    }

    /// Removes these snapshots, at most [`MOST_IDS`], and with `prune` the data that only they needed.
    pub(crate) fn forget(&self, ids: &[String], prune: bool) -> Launch {
        let mut args = words(&["forget"]);
        args.extend(prune.then(|| "--prune".into()));
        args.push("--".into());
        args.extend(ids.iter().map(OsString::from));
        self.launch(args)
    }

    pub(crate) fn prune(&self, spec: &PruneSpec) -> Result<Launch, OrderError> {
        let mut args = words(&["prune"]);
        if let Some(most) = &spec.max_unused {
            args.push(format!("--max-unused={}", unused(most)?).into());
        }
        args.extend(spec.dry_run.then(|| "--dry-run".into()));
        Ok(self.launch(args))
    }

    pub(crate) fn tag(&self, spec: &TagSpec) -> Result<Launch, OrderError> {
        let mut args = words(&["tag"]);
        if spec.snapshots.is_empty() {
            return refuse("the order names no snapshots to tag; choose some and run it again");
        }
        for (flag, tags) in [("--add", &spec.add), ("--remove", &spec.remove)] {
            for tag in tags {
                if tag.trim().is_empty() || tag.contains(',') {
                    return refuse(format!("the tag {tag:?} is empty or holds a comma; choose another"));
                }
                args.push(format!("{flag}={tag}").into());
            }
        }
        if args.len() == 1 {
            return refuse("the order names no tag to add or to take away; enter one and run it again");
        }
        args.push("--".into());
        args.extend(ids(&spec.snapshots)?);
        Ok(self.launch(args))
    }

    pub(crate) fn repair(&self, spec: &RepairSpec) -> Result<Launch, OrderError> {
        let mut args = match spec.what {
            RepairWhat::Index if self.restic.version.supports(Feature::RepairIndex) => words(&["repair", "index"]),
            RepairWhat::Index => words(&["rebuild-index"]),
            RepairWhat::Packs => words(&["repair", "packs"]),
            RepairWhat::Snapshots => words(&["repair", "snapshots"]),
        };
        match spec.what {
            _ if spec.dry_run && spec.what != RepairWhat::Snapshots => {
                return refuse("restic has no dry run of this repair; run a check to see what is damaged");
            }
            RepairWhat::Index => {}
            RepairWhat::Packs if spec.packs.is_empty() => {
                return refuse(
                    "the order names no packs to repair; a check with its data names those that are damaged",
                );
            }
            RepairWhat::Packs => {
                args.push("--".into());
                args.extend(ids(&spec.packs)?);
            }
            RepairWhat::Snapshots => {
                args.extend(spec.forget.then(|| "--forget".into()));
                args.extend(spec.dry_run.then(|| "--dry-run".into()));
            }
        }
        let folder = (spec.what == RepairWhat::Packs).then(|| self.salvage());
        Ok(Launch { folder, ..self.launch(args) })
    }

    /// Copies to `to`. Both run with the environment of both, so no variable may have two values.
    pub(crate) fn copy(&self, to: &Self, spec: &CopySpec) -> Result<Launch, OrderError> {
        let mut args = words(&["copy"]);
        args.extend(self.chosen(spec)?);
        self.towards(to, args)
    }

    /// Creates `to` so that data which both hold is cut in the same places, and stored once.
    pub(crate) fn init_like(&self, to: &Self) -> Result<Launch, OrderError> {
        self.towards(to, words(&["init", "--copy-chunker-params"]))
    }

    /// The snapshots of a copy, as arguments.
    pub(crate) fn chosen(&self, spec: &CopySpec) -> Result<Vec<OsString>, OrderError> {
        if spec.snapshots.is_empty() {
            return selection(&spec.of);
        }
        let mut args = words(&["--"]);
        args.extend(ids(&spec.snapshots)?);
        Ok(args)
    }

    fn towards(&self, to: &Self, args: Vec<OsString>) -> Result<Launch, OrderError> {
        let ssh = Ssh::of_both(self.ssh.as_ref(), to.ssh.as_ref())?;
        let mut launch = to.launch_with(ssh, args);
        for (name, value) in &self.env {
            match launch.env.iter().rev().find(|(known, _)| known == name) {
                Some((_, known)) if known != value => {
                    return refuse(format!(
                        "both repositories set {}, each to a value of its own, and restic takes only one: copy through an address that needs no such variable",
                        name.to_string_lossy()
                    ));
                }
                Some(_) => {}
                None => launch.env.push((name.clone(), value.clone())),
            }
        }
        if let Some(file) = &self.ca_file {
            launch.args.splice(0..0, ["--cacert".into(), file.into()]);
        }
        launch.secrets.extend([
            SecretFile {
                file_variable: "RESTIC_FROM_PASSWORD_FILE",
                plain_variable: "RESTIC_FROM_PASSWORD",
                content: self.password.clone(),
            },
            SecretFile {
                file_variable: "RESTIC_FROM_REPOSITORY_FILE",
                plain_variable: "RESTIC_FROM_REPOSITORY",
                content: self.address.full.clone(),
            },
        ]);
        Ok(launch)
    }

    /// Removes every lock, whoever holds it.
    pub(crate) fn unlock_all(&self) -> Launch {
        self.launch(words(&["unlock", "--remove-all"]))
    }

    /// Takes a lock and gives it back, and reads the names of a few small files in between.
    pub(crate) fn lock_and_leave(&self) -> Launch {
        self.launch(words(&["list", "keys", "--quiet"]))
    }

    /// Makes a small snapshot of `file` under a name and a tag of its own.
    pub(crate) fn mark(&self, file: &Path, name: &str) -> Launch {
        let mut args = words(&["backup", "--quiet", "--force"]);
        args.extend([format!("--host={name}").into(), format!("--tag={name}").into(), "--".into(), file.into()]);
        self.launch(args)
    }

    /// Whether this restic is too old for an order, in words.
    pub(crate) fn fits(&self, order: &CommandRun) -> Result<(), OrderError> {
        let version = self.restic.version;
        let needed = abilities::needed_by(&order.kind, order.operation.as_ref());
        abilities::lack((version.major, version.minor, version.patch), &needed).map_or(Ok(()), refuse)
    }
}

fn ids(list: &[String]) -> Result<Vec<OsString>, OrderError> {
    if list.len() > MOST_IDS {
        return refuse(format!("{} ids are more than fit into one command ({MOST_IDS}); choose fewer", list.len()));
    }
    list.iter().map(|id| snapshot_id(id).map(OsString::from)).collect()
}

/// Rules as flags. A rule of 0 is none: with nothing else restic 0.14 would keep all and others refuse.
fn keep(rules: &KeepRules) -> Result<Vec<OsString>, OrderError> {
    let counts = [
        ("last", rules.keep_last),
        ("hourly", rules.keep_hourly),
        ("daily", rules.keep_daily),
        ("weekly", rules.keep_weekly),
        ("monthly", rules.keep_monthly),
        ("yearly", rules.keep_yearly),
    ];
    let spans = [
        ("within", &rules.keep_within),
        ("within-hourly", &rules.keep_within_hourly),
        ("within-daily", &rules.keep_within_daily),
        ("within-weekly", &rules.keep_within_weekly),
        ("within-monthly", &rules.keep_within_monthly),
        ("within-yearly", &rules.keep_within_yearly),
    ];
    let mut flags: Vec<OsString> = Vec::new();
    for (name, count) in counts {
        flags.extend(count.filter(|count| *count > 0).map(|count| format!("--keep-{name}={count}").into()));
    }
    for (name, span) in spans {
        let Some(span) = span else { continue };
        if !is_span(span) {
            return refuse(format!("{span:?} is not a duration such as 1y5m7d2h; correct the keep rules"));
        }
        flags.push(format!("--keep-{name}={span}").into());
    }
    for tag in &rules.keep_tags {
        if tag.trim().is_empty() {
            return refuse("a keep rule names an empty tag; correct the keep rules");
        }
        flags.push(format!("--keep-tag={tag}").into());
    }
    if flags.is_empty() {
        return refuse("there is no keep rule, so nothing may go: set at least one");
    }
    Ok(flags)
}

/// `1y5m7d2h`: numbers, each with its unit.
fn is_span(text: &str) -> bool {
    let mut digits = 0;
    for c in text.chars() {
        match c {
            '0'..='9' => digits += 1,
            'y' | 'm' | 'd' | 'h' if digits > 0 => digits = 0,
            _ => return false,
        }
    }
    !text.is_empty() && digits == 0
}

/// `5%`, `10G` or `unlimited`.
fn unused(text: &str) -> Result<&str, OrderError> {
    let number = text.trim_end_matches(['%', 'k', 'K', 'm', 'M', 'g', 'G', 't', 'T', 'b', 'B']);
    let is_size = text.len() - number.len() <= 1 && number.parse::<f64>().is_ok_and(|n| n >= 0.0 && n.is_finite());
    if text == "unlimited" || is_size {
        Ok(text)
    } else {
        refuse(format!("{text:?} is neither a share such as 5%, nor a size such as 10G, nor `unlimited`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares_are_checked_before_restic_sees_them() {
        assert!(["1y5m7d2h", "30d"].iter().all(|text| is_span(text)));
        assert!(["", "d", "1", "1w", "1d2", "-1d", "1 d"].iter().all(|text| !is_span(text)));
        assert!(["5%", "10G", "0", "unlimited", "1.5%"].iter().all(|text| unused(text).is_ok()));
        assert!(["", "%", "5%%", "-1", "inf", "x"].iter().all(|text| unused(text).is_err()));
    }

    #[test]
    fn rules_that_keep_nothing_or_everything_are_no_rules() {
        assert!(keep(&KeepRules::default()).is_err());
        assert!(keep(&KeepRules { keep_last: Some(0), ..KeepRules::default() }).is_err());
        let rules = KeepRules { keep_daily: Some(7), keep_tags: vec!["-x".to_owned()], ..KeepRules::default() };
        assert_eq!(keep(&rules).unwrap(), words(&["--keep-daily=7", "--keep-tag=-x"]));
    }
}
