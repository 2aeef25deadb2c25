//! The tamper test: with the endpoint's own credentials a small snapshot is made for the purpose (that of an earlier test is taken again), and then really
//! deleted and overwritten, as far as the server lets that happen. Nothing else in the repository is touched. Protected is only what refused everything and
//! still has the snapshot as it was.

use std::time::Duration;

use flotilla_proto::{JobStatus, SnapshotRecord, TamperResult, TamperVerdict, Tried};
use http::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Broke, Desk, short};
use crate::{
    blocking::blocking,
    platform,
    restic::rest::{NoAnswer, RestServer},
    sink::JobOutcome,
};

/// Host, tag and file name of the object.
const NAME: &str = "flotilla-tamper";
/// What an overwrite would put in its place.
const OTHER: &[u8] = b"flotilla tamper test: this object was overwritten with the endpoint's credentials\n";
/// For one request to a server that has just answered restic.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a snapshot was made by a tamper test.
pub(super) fn is_made_by_it(snapshot: &SnapshotRecord) -> bool {
    snapshot.hostname == NAME && snapshot.tags.iter().any(|tag| tag == NAME)
}

pub(super) async fn test(desk: &mut Desk<'_>) -> Result<JobOutcome, Broke> {
    attempt(desk).await.map(|tried| judge(desk, tried))
}

/// The end of a test that was not made, or not to its end: nothing is known of the repository then.
pub(super) fn unknown(end: JobOutcome) -> JobOutcome {
    let result = TamperResult { verdict: TamperVerdict::Unknown, tried: Vec::new() };
    let why = end.error.unwrap_or_else(|| "the test came to no result".to_owned());
    let error = match end.status {
        JobStatus::Cancelled => {
            "the test was cancelled: whether this repository is append-only is not known. What it made serves the next test; run that when it suits".to_owned()
        }
        _ => format!("whether this repository is append-only could not be tried: {why}"),
    };
    JobOutcome { error: Some(error), summary: Some(json!(result)), ..end }
}

async fn attempt(desk: &mut Desk<'_>) -> Result<Vec<Tried>, Broke> {
    let object = object(desk).await?;
    let mut tried = vec![forget(desk, &object).await?];
    let repo = desk.order.repo.as_ref();
    let rest = repo.and_then(|repo| RestServer::of(repo, &desk.session.address));
    if let Some(server) = rest.filter(|_| tried.iter().all(|tried| tried.refused)) {
        let server = server.map_err(Broke::words)?;
        let file = format!("snapshots/{object}");
        for (what, method, body) in [
            ("Delete its file by the server's own protocol", Method::DELETE, &[][..]),
            ("Write something else over it", Method::POST, OTHER),
        ] {
            let answer = server.ask(method, &file, body, PATIENCE).await;
            let (status, _) = answer.map_err(|e| Broke::words(format!("the server did not answer: {e}")))?;
            let whole = is_whole(&server, &file, &object).await;
            let whole = whole.map_err(|e| Broke::words(format!("the server did not answer: {e}")))?;
            let refused = !status.is_success() && whole;
            let fate = if whole { "the snapshot is as it was" } else { "the snapshot is gone or changed" };
            tried.push(Tried { what: what.to_owned(), refused, said: format!("{status}; {fate}") });
            if !whole {
                break;
            }
        }
    }
    for tried in &tried {
        let fate = if tried.refused { "refused" } else { "IT WORKED" };
        desk.sink.say(&format!("{}: {fate} ({})", tried.what, tried.said));
    }
    Ok(tried)
}

/// Id of the object, made where there is none.
async fn object(desk: &mut Desk<'_>) -> Result<String, Broke> {
    if let Some(id) = find(desk).await? {
        desk.sink.say(&format!("snapshot {} of an earlier tamper test is tried again", short(&id)));
        return Ok(id);
    }
    let folder = desk.state_dir.join("tamper");
    let file = folder.join(NAME);
    let text = b"This snapshot belongs to Flotilla's tamper test. It holds nothing else and may be left or removed.\n";
    blocking(|| platform::private_dir(&folder).and_then(|()| platform::write_private(&file, text)))
        .map_err(|e| Broke::words(format!("{} can't be written: {e}", file.display())))?;
    desk.hear(&desk.session.mark(&file, NAME)).await?.good()?;
    let id = find(desk).await?.ok_or_else(|| Broke::words("the snapshot for the test was made, and is not there"))?;
    desk.sink.say(&format!("snapshot {} was made for the test, under the name and tag {NAME}", short(&id)));
    Ok(id)
}

async fn find(desk: &mut Desk<'_>) -> Result<Option<String>, Broke> {
    let of = [format!("--host={NAME}").into(), format!("--tag={NAME}").into()];
    let list = desk.snapshots(desk.session, &of).await?;
    Ok(list.into_iter().find(is_made_by_it).map(|snapshot| snapshot.id))
}

/// restic 0.14 takes most of a minute for this, and 0.17 and 0.18 end with 0 whatever came of it: the list decides.
async fn forget(desk: &mut Desk<'_>, id: &str) -> Result<Tried, Broke> {
    let heard = desk.hear(&desk.session.forget(&[id.to_owned()], false)).await?;
    let refused = desk.snapshots(desk.session, &[]).await?.iter().any(|snapshot| snapshot.id == id);
    let said = if refused {
        let words = heard.said.errors.iter().find(|line| line.contains("403") || line.contains("unable to remove"));
        words.or(heard.said.errors.back()).cloned().unwrap_or_else(|| "it is still there".to_owned())
    } else {
        "it is gone".to_owned()
    };
    // A trouble of another kind proves nothing: the network, a lock, a full disk.
    let is_refusal = heard.said.errors.iter().any(|line| {
        ["403", "405", "Forbidden", "denied", "not permitted", "read-only", "unable to remove"]
            .iter()
            .any(|word| line.contains(word))
    });
    if refused && !is_refusal {
        return Err(Broke::words(format!("restic could not try to delete the test's snapshot: {said}")));
    }
    Ok(Tried { what: "Delete the test's snapshot by restic".to_owned(), refused, said })
}

/// Whether the file is there and its content that which its name stands for: the SHA-256 of it.
async fn is_whole(server: &RestServer, file: &str, id: &str) -> Result<bool, NoAnswer> {
    let (status, content) = server.ask(Method::GET, file, &[], PATIENCE).await?;
    let hash: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(status == StatusCode::OK && hash == id)
}

fn judge(desk: &Desk<'_>, tried: Vec<Tried>) -> JobOutcome {
    let broken: Vec<&str> = tried.iter().filter(|tried| !tried.refused).map(|tried| tried.what.as_str()).collect();
    let (verdict, status, error) = if broken.is_empty() {
        desk.sink.say("append-only is proven: everything was refused, and the snapshot is as it was. It stays for the next test; retention leaves it alone");
        (TamperVerdict::Protected, JobStatus::Succeeded, None)
    } else {
        let error = format!(
            "this repository is NOT append-only: with this endpoint's credentials it was possible to do this: {}. Whoever takes the endpoint over can remove its backups. \
             Serve the repository append-only (rest-server --append-only, a bucket with object lock), and give deletions credentials of their own. \
             What the test left there is tagged {NAME}, and retention leaves it alone",
            broken.join(", ").to_lowercase()
        );
        (TamperVerdict::Vulnerable, JobStatus::Failed, Some(error))
    };
    JobOutcome { status, exit_code: None, error, summary: Some(json!(TamperResult { verdict, tried })) }
}
