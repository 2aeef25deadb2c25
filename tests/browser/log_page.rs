//! The job's page as its reader uses it.

use serde_json::Value;

use crate::house::{browser::Browser, wait::until};

/// The page that the browser shows must be a job's.
pub(crate) struct LogPage<'a>(pub(crate) &'a Browser);

/// Scrolls through the whole log and collects every line that is drawn: its number and its text. Rows whose text is still being fetched have
/// no title yet.
const COLLECT: &str = r#"
    const log = document.getElementById("log");
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const lines = new Map();
    (async () => {
        while (!log.classList.contains("live")) await frame();
        for (let top = 0; ; top += log.clientHeight - 20) {
            log.scrollTop = top;
            const view = log.getBoundingClientRect();
            const inView = () => Array.from(log.querySelectorAll("div[id^=L]")).filter((row) => {
                const box = row.getBoundingClientRect();
                return box.bottom > view.top && box.top < view.bottom;
            });
            await frame();
            await frame();
            while (!inView().length || inView().some((row) => !row.firstChild.title)) await frame();
            for (const row of inView()) lines.set(Number(row.id.slice(1)), row.lastChild.textContent);
            if (top + log.clientHeight >= log.scrollHeight) break;
        }
        done(Array.from(lines).sort((a, b) => a[0] - b[0]));
    })();
"#;

impl LogPage<'_> {
    /// `data-status` of the header.
    pub(crate) async fn state(&self) -> String {
        let state = self.0.script("return document.getElementById('job-header')?.dataset.status ?? ''").await;
        state.as_str().unwrap().to_owned()
    }

    /// Waits for a state; no other final one may come in between.
    pub(crate) async fn in_state(&self, wanted: &str) {
        until(&format!("the header turns to {wanted}"), async || {
            let state = self.state().await;
            assert!(state == wanted || ["", "queued", "running"].contains(&state.as_str()), "it is {state}");
            (state == wanted).then_some(())
        })
        .await;
    }

    /// Lines that the page knows of.
    pub(crate) async fn total(&self) -> u64 {
        let text = self.0.script("return document.getElementById('log-total').textContent").await;
        let digits: String = text.as_str().unwrap().chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    /// Waits for more lines, and says how many there are.
    pub(crate) async fn grows_beyond(&self, lines: u64) -> u64 {
        until(&format!("the log grows beyond {lines} lines"), async || {
            Some(self.total().await).filter(|total| *total > lines)
        })
        .await
    }

    /// All lines, as they are drawn; the page is left at its end.
    pub(crate) async fn all_lines(&self) -> Vec<(u64, String)> {
        let lines: Value = self.0.script_until_done(COLLECT).await;
        serde_json::from_value(lines).unwrap()
    }

    pub(crate) async fn scroll_to_end(&self) {
        self.0.script("const log = document.getElementById('log'); log.scrollTop = log.scrollHeight").await;
    }

    pub(crate) async fn scroll_up(&self) {
        self.0.script("document.getElementById('log').scrollTop -= 600").await;
    }

    /// Whether the pill is to be seen.
    pub(crate) async fn offers_to_follow(&self) -> bool {
        self.0.script("return !document.getElementById('log-follow').hidden").await == true
    }

    pub(crate) async fn is_at_end(&self) -> bool {
        let script = "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 20";
        self.0.script(script).await == true
    }
}
