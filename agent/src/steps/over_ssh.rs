//! A host reached over SSH as a host of steps: the connection is `crate::ssh`'s, the words and the trait are this module's.

use std::{io, path::Path, time::Duration};

use flotilla_proto::{FailureClass, Secret, SshWay};

use super::{
    failure::Failure,
    remote::{End, OutputLine, Remote, Running, Script, Transfer},
};
use crate::{
    leftovers::Stopped,
    runbook::Direction,
    runner::BoxFuture,
    ssh::{self, Exec, HostKey, Ssh, SshError, SshKey, SshTarget, Timeouts, TransferError, TransferOptions},
};

/// How often a transfer that was cut is gone on with.
const CUTS: u32 = 3;
/// Before the first of these; the others wait twice and three times as long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it may take to remove what a transfer left.
const TIDY: Duration = Duration::from_secs(20);

/// See the module. One connection, made with the first use.
pub(super) struct Host {
    ssh: Ssh,
}

impl Host {
    /// Reads the key. With what a person should know though it works. The error is for people.
    pub(super) fn new(name: &str, way: &SshWay) -> Result<(Self, Option<String>), Failure> {
        let key = match (&way.private_key, &way.key_path) {
            (Some(text), _) => SshKey::Text(text.clone()),
            (None, Some(path)) => SshKey::Path(path.into()),
            (None, None) => {
                let why = format!("there is no private key for {name}: name one in the host's settings");
                return Err(Failure::new(FailureClass::NotConfigured, why));
            }
        };
        let host_key = match &way.host_key {
            None => None,
            Some(pin) => {
                let pin = HostKey::parse(pin).map_err(|why| {
                    let why = format!("the host key that is known of {name} is none: {why}");
                    Failure::new(FailureClass::HostKey, why)
                })?;
                Some(HostKey { algorithm: way.host_key_algorithm.clone(), ..pin })
            }
        };
        let (address, user) = (way.address.clone(), way.user.clone());
        let target = SshTarget { name: name.to_owned(), address, port: way.port, user, key, host_key };
        let ssh = Ssh::prepare(&target, Timeouts::default())?;
        let warning = ssh.warning().map(str::to_owned);
        Ok((Self { ssh }, warning))
    }
}

impl Remote for Host {
    fn exec(&self, script: Script) -> BoxFuture<'_, Result<Box<dyn Running>, Failure>> {
        Box::pin(async move {
            let Script { text, env, stdin, mark } = script;
            let read = |stdin: Secret| Box::new(io::Cursor::new(stdin.expose().as_bytes().to_vec()));
            let stdin = stdin.map(|stdin| read(stdin) as Box<dyn tokio::io::AsyncRead + Send + Unpin>);
            let running = self.ssh.exec(Exec { script: text, env, stdin, mark }).await;
            running.map(|running| Box::new(Over(running)) as Box<dyn Running>).map_err(Failure::from)
        })
    }

    fn kill_marked<'a>(&'a self, mark: &'a str, grace: Duration) -> BoxFuture<'a, Result<Stopped, String>> {
        Box::pin(async move {
            self.ssh
                .kill_marked(mark, grace)
                .await
                .map_err(|error| format!("whether anything of the command still runs there is not known: {error}"))
        })
    }

    fn transfer<'a>(&'a self, transfer: Transfer<'a>) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(async move {
            let Transfer { direction, local, remote, id, progress } = transfer;
            let mut tell = |at: ssh::Progress| progress(at.done, at.total);
            let mut cuts = 0;
            let error = loop {
                let options =
                    TransferOptions { id: id.to_owned(), resume: true, mode: None, progress: Some(&mut tell) };
                let done = match direction {
                    Direction::Upload => self.ssh.upload(Path::new(local), remote, options).await,
                    Direction::Download => self.ssh.download(remote, Path::new(local), options).await,
                };
                let error = match done {
                    Ok(file) => return Ok(file.bytes),
                    Err(error) => error,
                };
                // What is there is gone on with; a host that is away for a moment, as its sshd is in an update, is waited for. One that was never there is not.
                let again = match error {
                    TransferError::Cut { .. } | TransferError::Ssh(SshError::Dropped { .. }) => true,
                    TransferError::Ssh(_) => cuts > 0,
                    _ => false,
                };
                if !again || cuts == CUTS {
                    break error;
                }
                cuts += 1;
                tracing::warn!(%error, cuts, "a transfer was cut and is gone on with");
                tokio::time::sleep(PAUSE * cuts).await;
            };
            self.tidy(direction, local, remote, id).await;
            let error = match error {
                TransferError::Cut { source, done, total, .. } => {
                    TransferError::Cut { source, done, total, rest: "What had arrived was removed".to_owned() }
                }
                other => other,
            };
            let mut failure = Failure::from(error).or(FailureClass::Transfer);
            if cuts > 0 {
                failure.why += &format!(". The transfer was gone on with {cuts} times");
            }
            Err(failure)
        })
    }

    fn tidy<'a>(&'a self, direction: Direction, local: &'a str, remote: &'a str, id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let name = |name: &str| name.starts_with(&format!(".flotilla-{id}-")) && name.ends_with(".part");
            match direction {
                Direction::Download => {
                    let folder = Path::new(local).parent().unwrap_or(Path::new("/"));
                    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return };
                    while let Ok(Some(entry)) = entries.next_entry().await {
                        if entry.file_name().to_str().is_some_and(name) {
                            let _ = tokio::fs::remove_file(entry.path()).await;
                        }
                    }
                }
                Direction::Upload => {
                    let script = Script {
                        text: r#"rm -f -- "${FLOTILLA_PATH%/*}"/.flotilla-"$FLOTILLA_ID"-*.part"#.to_owned(),
                        env: vec![
                            ("FLOTILLA_PATH".to_owned(), Secret::from(remote)),
                            ("FLOTILLA_ID".to_owned(), Secret::from(id)),
                        ],
                        stdin: None,
                        mark: format!("{id}-tidy"),
                    };
                    let remove = async {
                        if let Ok(mut running) = self.exec(script).await {
                            running.wait().await;
                        }
                    };
                    // What stays is a file that nobody takes for another.
                    let _ = tokio::time::timeout(TIDY, remove).await;
                }
            }
        })
    }
}

struct Over(ssh::Running);

impl Running for Over {
    fn line(&mut self) -> BoxFuture<'_, Option<OutputLine>> {
        Box::pin(async {
            let ssh::OutputLine { stream, text, lost } = self.0.line().await?;
            Some(OutputLine { stream, text, lost })
        })
    }

    fn wait(&mut self) -> BoxFuture<'_, End> {
        Box::pin(async {
            match self.0.wait().await {
                ssh::End::Exited { code, left_running } => {
                    End::Exited { code: i32::try_from(code).unwrap_or(i32::MAX), left_running }
                }
                ssh::End::Signalled { name } => match number(&name) {
                    Some(number) => End::Exited { code: -number, left_running: false },
                    None => End::Unclear(Failure::new(
                        FailureClass::Exit,
                        format!("its command was ended by the signal {name}"),
                    )),
                },
                ssh::End::Unknown(error) => End::Unclear(error.into()),
            }
        })
    }
}

/// The number of a signal, as Linux has it.
fn number(signal: &str) -> Option<i32> {
    Some(match signal {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "SEGV" => 11,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => return None,
    })
}
