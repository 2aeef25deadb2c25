//! The runbooks that come with the program: the files of `runbooks/`, as they stand there. An agent whose owner allows no remote commands runs these and no others,
//! and compares what it is sent with its own copy.

use std::sync::LazyLock;

use super::{Runbook, parse};

/// Names and texts, in the order of their names.
pub const SHIPPED: &[(&str, &str)] = &[];

static PARSED: LazyLock<Vec<Runbook>> =
    LazyLock::new(|| SHIPPED.iter().filter_map(|(_, text)| parse(text).ok()).collect());

/// The shipped runbook of that name.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static Runbook> {
    PARSED.iter().find(|runbook| runbook.name == name)
}
