//! The runbooks that come with the program: the files of `runbooks/`, as they stand there. An agent whose owner allows no remote commands runs these and no others,
//! and compares what it is sent with its own copy.

use std::sync::LazyLock;

use super::{Runbook, parse};

/// Names and texts, in the order of their names.
pub const SHIPPED: &[(&str, &str)] = &[
    ("apply_update", include_str!("../../../runbooks/apply_update.toml")),
    ("check_status", include_str!("../../../runbooks/check_status.toml")),
    ("discover", include_str!("../../../runbooks/discover.toml")),
    ("os_updates", include_str!("../../../runbooks/os_updates.toml")),
    ("reboot", include_str!("../../../runbooks/reboot.toml")),
    ("restart", include_str!("../../../runbooks/restart.toml")),
    ("run_command", include_str!("../../../runbooks/run_command.toml")),
];

static PARSED: LazyLock<Vec<Runbook>> =
    LazyLock::new(|| SHIPPED.iter().filter_map(|(_, text)| parse(text).ok()).collect());

/// The shipped runbook of that name.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static Runbook> {
    PARSED.iter().find(|runbook| runbook.name == name)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use super::SHIPPED;
    use crate::runbook::{Facts, Mode, Runbook, Values, Work, input, parse};

    fn all() -> Vec<Runbook> {
        SHIPPED.iter().map(|(name, text)| parse(text).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
    }

    #[test]
    fn every_file_is_shipped_under_its_own_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runbooks");
        let files: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
            .collect();
        let shipped: BTreeSet<_> = all().into_iter().map(|runbook| runbook.name).collect();
        assert_eq!(shipped, files);
        assert!(SHIPPED.iter().map(|(name, _)| *name).eq(shipped.iter().map(String::as_str)));
    }

    #[test]
    fn every_command_can_be_made_of_hostile_answers() {
        for runbook in all() {
            let given = runbook.inputs.iter().filter(|input| input.default.is_none() && !input.optional);
            let given = given.map(|input| (input.name.clone(), serde_json::json!("x; $(id) 'y'"))).collect();
            let values = Values::new(Mode::Preview, input::resolve(&runbook.inputs, &given).unwrap())
                .with("host", Facts(BTreeMap::from([("restart_command".to_owned(), "true".to_owned())])))
                .with("job", Facts(BTreeMap::from([("way".to_owned(), "agent".to_owned())])));
            for step in runbook.steps.iter().chain(&runbook.teardown) {
                if let Some(when) = &step.when {
                    when.holds(&values).unwrap_or_else(|error| panic!("{}, {}: {error}", runbook.name, step.label));
                }
                let Work::Shell(shell) = &step.work else { continue };
                shell.cmd.command(&values).unwrap_or_else(|error| panic!("{}, {}: {error}", runbook.name, step.label));
            }
        }
    }
}
