//! File-system work in the midst of async code: short as a rule, and endless on a dead network mount. The other tasks of the thread move elsewhere
//! for as long as it takes.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` here, with the thread's other tasks handed to other threads first. A runtime of one thread (tests) has none: there it simply runs.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
