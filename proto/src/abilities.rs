//! What restic learned after 0.14, the oldest that is used, and with which version. One table for agents, which refuse an order that their restic is too old
//! for, and for the control plane, which greys it out beforehand. Pure.

use crate::{JobKind, Operation, Overwrite, PlanOptions, RepairWhat, RestoreSpec};

/// A version of restic: major, minor, patch.
pub type ResticSince = (u32, u32, u32);

/// Something that not every restic from 0.14 on can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// `restore --json` prints JSON.
    RestoreJson,
    /// `restore --overwrite`.
    RestoreOverwrite,
    /// `restore --dry-run`.
    RestoreDryRun,
    /// `restore --include-file`.
    IncludeFile,
    /// `backup --skip-if-unchanged`.
    SkipIfUnchanged,
    /// `backup --no-scan`.
    NoScan,
    /// `backup --read-concurrency`.
    ReadConcurrency,
    /// `repair index` instead of `rebuild-index`.
    RepairIndex,
    /// `repair snapshots`.
    RepairSnapshots,
    /// `repair packs`.
    RepairPacks,
    /// `backup --stdin-from-command`.
    StdinCommand,
}

impl Ability {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RestoreJson,
        Self::RestoreOverwrite,
        Self::RestoreDryRun,
        Self::IncludeFile,
        Self::SkipIfUnchanged,
        Self::NoScan,
        Self::ReadConcurrency,
        Self::RepairIndex,
        Self::RepairSnapshots,
        Self::RepairPacks,
        Self::StdinCommand,
    ];

    /// The first version that has it.
    #[must_use]
    pub fn since(self) -> ResticSince {
        match self {
            Self::NoScan | Self::ReadConcurrency => (0, 15, 0),
            Self::RestoreJson | Self::RepairIndex | Self::RepairSnapshots => (0, 16, 0),
            Self::RestoreOverwrite
            | Self::RestoreDryRun
            | Self::IncludeFile
            | Self::SkipIfUnchanged
            | Self::RepairPacks
            | Self::StdinCommand => (0, 17, 0),
        }
    }

    /// Its name in a sentence, such as `a repair of snapshots`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RestoreJson => "a restore that tells how far it is",
            Self::RestoreOverwrite => "a restore that spares existing files",
            Self::RestoreDryRun => "a dry run of a restore",
            Self::IncludeFile => "a restore of very many paths",
            Self::SkipIfUnchanged => "skipping a backup where nothing changed",
            Self::NoScan => "a backup without a count beforehand",
            Self::ReadConcurrency => "choosing how many files are read at once",
            Self::RepairIndex => "a repair of the index by its new name",
            Self::RepairSnapshots => "a repair of snapshots",
            Self::RepairPacks => "a repair of packs",
            Self::StdinCommand => "a backup of a command's output",
        }
    }

    /// Whether a restic of `version` has it.
    #[must_use]
    pub fn is_in(self, version: ResticSince) -> bool {
        version >= self.since()
    }
}

/// What an order of this kind can't do without.
#[must_use]
pub fn needed_by(kind: &JobKind, operation: Option<&Operation>) -> Vec<Ability> {
    match (kind, operation) {
        (JobKind::Repair, Some(Operation::Repair(spec))) => match spec.what {
            RepairWhat::Index => Vec::new(),
            RepairWhat::Snapshots => vec![Ability::RepairSnapshots],
            RepairWhat::Packs => vec![Ability::RepairPacks],
        },
        _ => Vec::new(),
    }
}

/// What a backup with these options can't do without.
#[must_use]
pub fn needed_by_plan(options: &PlanOptions) -> Vec<Ability> {
    [
        (options.skip_if_unchanged, Ability::SkipIfUnchanged),
        (options.no_scan, Ability::NoScan),
        (options.read_concurrency.is_some(), Ability::ReadConcurrency),
        (options.stdin_command.is_some(), Ability::StdinCommand),
    ]
    .into_iter()
    .filter_map(|(wanted, ability)| wanted.then_some(ability))
    .collect()
}

/// What a restore can't do without.
#[must_use]
pub fn needed_by_restore(spec: &RestoreSpec) -> Vec<Ability> {
    // A dry run is done by listing where restic has none.
    if spec.overwrite == Overwrite::Always { Vec::new() } else { vec![Ability::RestoreOverwrite] }
}

/// Reads `0.18.0`, also with something behind it, as agents report it. `None`: no such text.
#[must_use]
pub fn read_version(text: &str) -> Option<ResticSince> {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Why a restic of `version` can't do what needs `abilities`, in words; `None` where it can.
#[must_use]
pub fn lack(version: ResticSince, abilities: &[Ability]) -> Option<String> {
    let missing = abilities.iter().filter(|ability| !ability.is_in(version)).max_by_key(|ability| ability.since())?;
    let (since, have) = (missing.since(), version);
    Some(format!(
        "{} needs restic {}.{} or newer and this host has {}.{}.{}; update restic there",
        missing.name(),
        since.0,
        since.1,
        have.0,
        have.1,
        have.2
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepairSpec;

    #[test]
    fn versions_are_read_as_agents_report_them() {
        assert_eq!(read_version("0.18.0"), Some((0, 18, 0)));
        assert_eq!(read_version("0.19.1-dev"), Some((0, 19, 1)));
        assert!(["", "0.18", "0.x.1", "restic 0.18.0"].iter().all(|text| read_version(text).is_none()));
    }

    #[test]
    fn an_order_that_is_too_new_names_the_version_that_it_needs() {
        let repair = |what| Operation::Repair(RepairSpec { what, ..RepairSpec::default() });
        let needed = |what| needed_by(&JobKind::Repair, Some(&repair(what)));
        assert_eq!(lack((0, 14, 0), &needed(RepairWhat::Index)), None);
        let words = lack((0, 16, 4), &needed(RepairWhat::Packs)).unwrap();
        assert_eq!(words, "a repair of packs needs restic 0.17 or newer and this host has 0.16.4; update restic there");
        assert_eq!(lack((0, 17, 0), &needed(RepairWhat::Packs)), None);
        let options = PlanOptions { no_scan: true, skip_if_unchanged: true, ..PlanOptions::default() };
        assert!(lack((0, 14, 0), &needed_by_plan(&options)).unwrap().contains("0.17"), "the newest one counts");
    }

    #[test]
    fn nothing_is_older_than_the_oldest_that_is_used() {
        for ability in Ability::ALL {
            assert!(ability.since() > (0, 14, 0) && !ability.name().is_empty(), "{ability:?}");
        }
    }
}
