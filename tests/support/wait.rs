//! The one way to wait here: look again and again, until it holds or the deadline has passed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// No single step of a test takes longer, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `look` gives something, and gives that.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets a span of a test's own script pass: never a guess at how long something else takes.
pub(crate) async fn pass(span: Duration) {
    sleep(span).await;
}
