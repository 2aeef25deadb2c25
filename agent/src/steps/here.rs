//! This machine as a host of steps: bash in a session of its own with an environment of its own, files copied within the machine.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use flotilla_proto::FailureClass;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use super::{
    failure::Failure,
    remote::{Remote, Running, Script, Transfer},
};
use crate::{
    leftovers::{self, Stopped},
    platform,
    runbook::Direction,
    runner::BoxFuture,
};
use session::Session;

pub(super) mod copy;
mod session;

/// Where programs are looked for besides the folders that the agent's own environment names.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here;

impl Remote for Here {
    fn exec(&self, script: Script) -> BoxFuture<'_, Result<Box<dyn Running>, Failure>> {
        Box::pin(async move { Ok(Box::new(Session::start(&script)?) as Box<dyn Running>) })
    }

    fn kill_marked<'a>(&'a self, mark: &'a str, grace: Duration) -> BoxFuture<'a, Result<Stopped, String>> {
        Box::pin(async move {
            let failed = |why: String| {
                format!(
                    "what the command started on this machine could not be looked for ({why}). Look for it there by hand"
                )
            };
            match timeout(grace + leftovers::WORK, ask(&leftovers::script(mark, grace))).await {
                Ok(Ok(said)) => {
                    leftovers::read(&said).ok_or_else(|| failed("sh ended before it had looked".to_owned()))
                }
                Ok(Err(error)) => Err(failed(error.to_string())),
                Err(_) => Err(failed("it took too long".to_owned())),
            }
        })
    }

    fn transfer<'a>(&'a self, transfer: Transfer<'a>) -> BoxFuture<'a, Result<u64, Failure>> {
        let (from, to) = match transfer.direction {
            Direction::Upload => (transfer.local, transfer.remote),
            Direction::Download => (transfer.remote, transfer.local),
        };
        Box::pin(async move {
            let copied = copy::within(Path::new(from), Path::new(to), transfer.id, transfer.progress).await;
            copied.map_err(|failure| failure.or(FailureClass::Transfer))
        })
    }
}

/// What `sh` says to a script.
async fn ask(script: &str) -> std::io::Result<String> {
    let mut command = Command::new("sh");
    command
        .arg("-s")
        .env_clear()
        .env("PATH", path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await?;
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(leftovers::MOST_OUTPUT as u64).read_to_end(&mut said).await?;
    }
    child.wait().await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The agent's own, and the usual folders behind it: what starts an agent may have named its own folder alone.
fn path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&own).filter(|folder| folder.is_absolute()).collect();
    for usual in env::split_paths(PATH) {
        if !folders.contains(&usual) {
            folders.push(usual);
        }
    }
    env::join_paths(folders).unwrap_or_else(|_| PATH.into())
}

/// All that a step sees of the agent's surroundings.
fn environment() -> Vec<(&'static str, OsString)> {
    let root = platform::user_id() == Some(0);
    let user = env::var_os("USER").or_else(|| env::var_os("LOGNAME")).or_else(|| root.then(|| "root".into()));
    let home = env::var_os("HOME").or_else(|| root.then(|| "/root".into()));
    let language = env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into());
    let mut all = vec![("PATH", path()), ("LANG", language)];
    all.extend(home.map(|home| ("HOME", home)));
    all.extend(user.map(|user| ("USER", user)));
    all
}

/// Where a step begins: in its user's home, as a login does.
fn home() -> PathBuf {
    let home = environment().into_iter().find(|(name, _)| *name == "HOME").map(|(_, home)| PathBuf::from(home));
    home.filter(|home| home.is_dir()).unwrap_or_else(|| PathBuf::from("/"))
}

/// A program of that name where programs are looked for.
fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|folder| folder.join(name)).find(|path| path.is_file())
}
