//! One script from its start to its end: its lines handed on as they come, its time limit kept, and all of it ended where it is to end.

use std::time::Duration;

use flotilla_proto::FailureClass;
use tokio::time::{Instant, timeout};

use super::{
    failure::Failure,
    patience::{Halt, Patience},
    remote::{End, Remote, Running, Script},
    voice::Ear,
};

/// How long the last words of what was stopped are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines that are taken at a time without a look at the clock.
const BURST: usize = 512;

/// What came of a script, or of another kind of step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Came {
    /// Its exit code, where it has one.
    pub(super) code: Option<i32>,
    /// What went wrong; in words.
    pub(super) error: Option<String>,
    /// Of which class that is.
    pub(super) class: Option<FailureClass>,
    /// It did not end by itself.
    pub(super) halt: Option<Halt>,
    /// Something that can't be ended, in words.
    pub(super) left: Option<String>,
}

impl Came {
    pub(super) fn failed(why: impl Into<Failure>) -> Self {
        let Failure { class, why } = why.into();
        Self { error: Some(why), class: Some(class), ..Self::default() }
    }

    /// Ended for this reason.
    pub(super) fn halted(halt: Halt, why: String) -> Self {
        Self { halt: Some(halt), ..Self::failed(Failure::new(halt.class(), why)) }
    }
}

/// How long something may take, and how it is ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) time: Duration,
    /// From the polite stop to the hard one.
    pub(super) grace: Duration,
}

/// Runs a script.
pub(super) async fn run(
    remote: &dyn Remote,
    script: Script,
    limit: Limit,
    patience: &mut Patience<'_>,
    ear: &mut dyn Ear,
) -> Came {
    let until = Instant::now() + limit.time;
    let mark = script.mark.clone();
    let started = tokio::select! {
        started = remote.exec(script) => started,
        halt = patience.over(until) => return stop(remote, &mark, None, halt, limit, ear).await,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(why) => return Came::failed(why),
    };
    loop {
        tokio::select! {
            line = running.line() => {
                let Some(line) = line else { break };
                let mut wanted = ear.take(line);
                for line in std::iter::from_fn(|| running.ready()).take(BURST) {
                    wanted = ear.take(line);
                }
                if !wanted {
                    running.skim();
                }
            }
            halt = patience.over(until) => return stop(remote, &mark, Some(running), halt, limit, ear).await,
        }
    }
    let end = tokio::select! {
        end = running.wait() => end,
        halt = patience.over(until) => return stop(remote, &mark, Some(running), halt, limit, ear).await,
    };
    ear.close(running.skimmed());
    judge(end, ear)
}

fn judge(end: End, ear: &mut dyn Ear) -> Came {
    match end {
        End::Unclear(why) => Came::failed(why),
        End::Exited { code, left_running } => {
            if left_running {
                ear.say("the command ended; something that it started goes on and holds its output, which is not read any more");
            }
            let error = match code {
                0 => None,
                code if code < 0 => Some(format!("its command was ended by signal {}", -code)),
                126 => Some("its command ended with exit code 126: a program may not be run".to_owned()),
                127 => Some("its command ended with exit code 127: a program was not found".to_owned()),
                code => Some(format!("its command ended with exit code {code}")),
            };
            let class = error.is_some().then_some(FailureClass::Exit);
            Came { code: Some(code), error, class, ..Came::default() }
        }
    }
}

/// Ends all of it, and looks that nothing is left.
async fn stop(
    remote: &dyn Remote,
    mark: &str,
    running: Option<Box<dyn Running>>,
    halt: Halt,
    limit: Limit,
    ear: &mut dyn Ear,
) -> Came {
    let grace = match halt {
        Halt::Leave => limit.grace.min(Duration::from_secs(2)),
        _ => limit.grace,
    };
    ear.say(&format!(
        "{}: ending the command and all that it started (SIGTERM, and SIGKILL after {} s)",
        reason(halt, limit.time),
        grace.as_secs()
    ));
    let stopped = match running {
        None => remote.kill_marked(mark, grace).await,
        Some(mut running) => {
            running.interrupt();
            let mut killing = remote.kill_marked(mark, grace);
            let mut open = true;
            let stopped = loop {
                tokio::select! {
                    stopped = &mut killing => break stopped,
                    line = running.line(), if open => match line {
                        Some(line) => { ear.take(line); }
                        None => open = false,
                    },
                }
            };
            let rest = async {
                while let Some(line) = running.line().await {
                    ear.take(line);
                }
            };
            // What was not found by its mark holds the output: dropping it ends its group.
            let _ = timeout(LAST_WORDS, rest).await;
            ear.close(running.skimmed());
            stopped
        }
    };
    let left = match stopped {
        Ok(stopped) if stopped.is_clean() => {
            ear.say(&stopped.to_string());
            None
        }
        Ok(stopped) => Some(stopped.to_string()),
        Err(why) => Some(why),
    };
    left.iter().for_each(|left| ear.say(left));
    let clean = left.is_none();
    Came { left, ..Came::halted(halt, halted(halt, limit.time, clean)) }
}

fn reason(halt: Halt, limit: Duration) -> String {
    match halt {
        Halt::Time => format!("its {} s are over", limit.as_secs()),
        Halt::JobTime => "the job's own time is over".to_owned(),
        Halt::Cancelled => "the job was cancelled".to_owned(),
        Halt::Shutdown | Halt::Leave => "the agent is being stopped".to_owned(),
    }
}

/// Why it ended, for its report.
pub(super) fn halted(halt: Halt, limit: Duration, clean: bool) -> String {
    let tail =
        if clean { "was stopped with all that it had started" } else { "was stopped, but something may be left" };
    match halt {
        Halt::Time => format!("it did not end within {} s and {tail}", limit.as_secs()),
        Halt::JobTime => format!("it did not end within the job's own time limit and {tail}"),
        Halt::Cancelled => format!("it {tail}, for the job was cancelled"),
        Halt::Shutdown | Halt::Leave => format!("it {tail}, for the agent was being stopped"),
    }
}
