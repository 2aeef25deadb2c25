//! Looks at a file where it lies: is it there, how big, which SHA-256. By a script, so that it is the same here, in a container and on another host.

use std::time::Duration;

use flotilla_proto::{ArtefactReport, Secret};

use super::{
    patience::Patience,
    remote::{Remote, Script},
    shell::{self, Came, Limit},
    voice::Collected,
};

/// How long the reading of a file may take.
const TIME: Duration = Duration::from_secs(1800);

const LOOK: &str = r#"if ! [ -e "$FLOTILLA_PATH" ]; then echo missing; exit 0; fi
if ! [ -f "$FLOTILLA_PATH" ]; then echo other; exit 0; fi
if command -v sha256sum >/dev/null; then sum() { sha256sum; }; else sum() { shasum -a 256; }; fi
size=$(wc -c <"$FLOTILLA_PATH") && sum=$(sum <"$FLOTILLA_PATH") && echo "file $((size)) ${sum%% *}""#;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    /// A folder, a device …
    Other,
    File(ArtefactReport),
}

/// Looks. The error is what came of it instead.
pub(super) async fn look(
    remote: &dyn Remote,
    path: &str,
    mark: String,
    grace: Duration,
    patience: &mut Patience<'_>,
) -> Result<Found, Came> {
    if !path.starts_with('/') {
        return Err(Came::failed(format!(
            "the path of the artefact, {path:?}, is not absolute: write it from the root on"
        )));
    }
    let env = vec![("FLOTILLA_PATH".to_owned(), Secret::from(path))];
    let script = Script { text: LOOK.to_owned(), env, stdin: None, mark };
    let mut said = Collected::default();
    let came = shell::run(remote, script, Limit { time: TIME, grace }, patience, &mut said).await;
    if came.halt.is_some() {
        return Err(came);
    }
    let mut words = said.lines.last().map(String::as_str).unwrap_or_default().split(' ');
    let found = match (words.next(), words.next().and_then(|size| size.parse().ok()), words.next()) {
        (Some("missing"), ..) => Some(Found::Missing),
        (Some("other"), ..) => Some(Found::Other),
        (Some("file"), Some(size), Some(sum)) if sum.len() == 64 => {
            Some(Found::File(ArtefactReport { path: path.to_owned(), size, sha256: sum.to_owned() }))
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let why = said.errors.join(" / ");
        let why = if why.is_empty() { came.error.unwrap_or_default() } else { why };
        Came { code: came.code, ..Came::failed(format!("its artefact {path} could not be looked at: {why}")) }
    })
}
