//! What works with a host and what does not, step by step: for "test connection". Nothing is changed there.

use std::time::Duration;

use super::{
    Ssh, SshTarget, Timeouts,
    error::SshError,
    exec::{End, Exec},
    target::HostKey,
    transfer::TransferError,
};

/// What was found. Later stages are `None` where an earlier one failed.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What the host showed, confirmed or not.
    pub host_key: Option<HostKey>,
    /// Network, host key, login.
    pub login: Result<(), SshError>,
    /// Scripts run.
    pub bash: Option<Result<(), SshError>>,
    /// Files go over.
    pub sftp: Option<Result<(), TransferError>>,
    /// What to mend though it works.
    pub warning: Option<String>,
}

impl Probe {
    /// Whether steps and transfers will work.
    #[must_use]
    pub fn works(&self) -> bool {
        self.login.is_ok() && matches!(self.bash, Some(Ok(()))) && matches!(self.sftp, Some(Ok(())))
    }
}

impl Ssh {
    /// Tries a host. Where no host key is pinned, it ends after the key exchange with the key to confirm. `mark` as in [`Exec`].
    pub async fn probe(target: &SshTarget, timeouts: Timeouts, mark: &str) -> Probe {
        let ssh = match Self::connect(target, timeouts).await {
            Ok(ssh) => ssh,
            Err(error) => {
                let host_key = match &error {
                    SshError::HostKeyUnknown { offered, .. } | SshError::HostKeyChanged { offered, .. } => {
                        Some(offered.clone())
                    }
                    _ => None,
                };
                return Probe { host_key, login: Err(error), bash: None, sftp: None, warning: None };
            }
        };
        let bash = ssh.try_bash(mark, timeouts.start).await;
        let sftp = super::transfer::try_sftp(&ssh).await;
        Probe {
            host_key: ssh.host_key().await,
            login: Ok(()),
            bash: Some(bash),
            sftp: Some(sftp),
            warning: ssh.warning().map(str::to_owned),
        }
    }

    async fn try_bash(&self, mark: &str, within: Duration) -> Result<(), SshError> {
        let exec = Exec { script: "exit 0".to_owned(), env: Vec::new(), stdin: None, mark: mark.to_owned() };
        let mut running = self.exec(exec).await?;
        match tokio::time::timeout(within, running.wait()).await {
            Ok(End::Unknown(error)) => Err(error),
            // bash is there, whatever its start-up files make of it.
            Ok(End::Exited { .. } | End::Signalled { .. }) => Ok(()),
            Err(_) => Err(self.late(super::Stage::Start, within)),
        }
    }
}
