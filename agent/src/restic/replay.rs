//! Test support: plays captured output of a real restic through the same path as a live run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla_proto::{JobKind, JobProgress, Stream};
use serde_json::json;

use super::{
    exit::{self, Run},
    output::Task,
    redact::{Redacted, Redactor},
    report::{Reporter, Transcript},
};
use crate::{
    process::{Exit, Output, STDERR, STDOUT},
    sink::{Cursor, JobOutcome, JobSink},
};

/// Which capture.
pub(crate) const VERSIONS: [&str; 3] = ["0.14", "0.18", "0.19"];

#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) lines: Mutex<Vec<(Stream, String)>>,
    pub(crate) progress: Mutex<Vec<JobProgress>>,
}

impl JobSink for Collected {
    fn started(&self, _: Option<u32>) {}
    fn line(&self, stream: Stream, text: &str) {
        self.lines.lock().unwrap().push((stream, text.to_owned()));
    }
    fn progress(&self, progress: JobProgress) {
        self.progress.lock().unwrap().push(progress);
    }
    fn finished(&self, _: JobOutcome) {}
}

pub(crate) struct Played {
    pub(crate) lines: Vec<(Stream, String)>,
    pub(crate) progress: Vec<JobProgress>,
    pub(crate) transcript: Transcript,
    pub(crate) code: i32,
}

impl Played {
    /// The verdict that a live run with this output would get.
    pub(crate) fn outcome(self, kind: &JobKind) -> JobOutcome {
        let restored = self.transcript.restore.map(|end| json!({ "files_restored": end.files_restored }));
        exit::judge(Run {
            kind,
            operation: None,
            may_lack_snapshot: false,
            exit: Exit { code: self.code, stopped: None, killed: false },
            transcript: self.transcript,
            timeout: Duration::from_secs(60),
            idle: None,
            grace: Duration::from_secs(90),
            restored,
            picked_paths: true,
        })
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// Plays `<case>.{stdout,stderr,exit}` of a version. Cases of 0.19 that do not differ from 0.18 are kept once.
pub(crate) fn play(version: &str, case: &str, task: Task) -> Played {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/restic");
    let folders: &[&str] = match version {
        "0.14" => &["."],
        "0.18" => &["v0.18"],
        _ => &["v0.19", "v0.18"],
    };
    let file = |end: &str| -> PathBuf {
        let candidates = folders.iter().map(|folder| root.join(folder).join(format!("{case}.{end}")));
        candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no fixture {version} {case}.{end}"))
    };
    let collected = Arc::new(Collected::default());
    let sink = Redacted::new(collected.clone(), Redactor::default());
    let mut reporter = Reporter::new(&sink, task);
    let folder = tempfile::tempdir().unwrap();
    for (name, end) in [(STDOUT, "stdout"), (STDERR, "stderr")] {
        fs::copy(file(end), folder.path().join(name)).unwrap();
    }
    let mut output = Output::open(folder.path(), Cursor::default(), Cursor::default(), 32 << 20).unwrap();
    if matches!(task, Task::Snapshots | Task::Find) {
        output.split_elements();
    }
    output.finish(&mut reporter);
    let transcript = reporter.transcript;
    Played {
        lines: std::mem::take(&mut collected.lines.lock().unwrap()),
        progress: std::mem::take(&mut collected.progress.lock().unwrap()),
        transcript,
        code: fs::read_to_string(file("exit")).unwrap().trim().parse().unwrap(),
    }
}
