//! What can be wrong with a repository or a run, recognised by code or text, with what to do about it.
//! Texts are those of 0.14 to 0.19; codes exist from 0.17 on and are only added to.

/// A recognised cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    RepositoryMissing,
    RepositoryExists,
    WrongPassword,
    Locked { owner: String },
    Unauthorized,
    Forbidden,
    QuotaExceeded,
    DiskFull,
    Damaged,
    ForeignKey,
    NoSources,
    NoSnapshot,
    Certificate,
    TlsMismatch,
    Unreachable,
    NotPermitted,
    ReadOnly,
    OldRestic,
    WrongStoreSecret,
    UnknownStoreKey,
    NoStoreKeys,
    NoBucket,
    ServerFails,
    SshSignIn,
    SshHostKey,
    SshFails,
    NoSsh,
    NoRclone,
    NoRemote,
    ResticGone,
}

/// How what becomes restic begins its last word where it can't (see the platform's worker).
const GATE: &str = "flotilla-gate: ";

/// Exit codes of restic 0.17 and later.
const CODE_MISSING: i32 = 10;
const CODE_LOCKED: i32 = 11;
const CODE_PASSWORD: i32 = 12;

impl Trouble {
    /// By what restic said, else by its code. `None` where nobody knows.
    pub(crate) fn of(code: i32, said: &str) -> Option<Self> {
        let has = |needle: &str| said.contains(needle);
        Some(if has(GATE) {
            Self::ResticGone
        } else if let Some(owner) = lock_owner(said) {
            Self::Locked { owner }
        } else if has("wrong password or no key found") {
            Self::WrongPassword
        } else if has("(401)") || has("401 Unauthorized") {
            Self::Unauthorized
        } else if let Some(trouble) = of_store(said).or_else(|| of_helper(said)) {
            trouble
        } else if has("(403)") || has("403 Forbidden") || has("Access Denied") {
            Self::Forbidden
        } else if has("507 Insufficient Storage") {
            Self::QuotaExceeded
        } else if has("no space left on device") {
            Self::DiskFull
        } else if has("config file already exists") {
            Self::RepositoryExists
        } else if says_missing(said) {
            Self::RepositoryMissing
        } else if has("all target directories/files do not exist") || has("all source directories/files do not exist") {
            Self::NoSources
        } else if has("no snapshot found") || has("no matching ID found") {
            Self::NoSnapshot
        } else if has("x509:") || has("certificate signed by unknown authority") || has("failed to verify certificate")
        {
            Self::Certificate
        } else if has("server gave HTTP response to HTTPS client")
            || has("Client sent an HTTP request to an HTTPS server")
            || (has("unable to open config file") && has("400 Bad Request"))
        {
            Self::TlsMismatch
        } else if has("connection refused")
            || has("no such host")
            || has("no route to host")
            || has("i/o timeout")
            || has("connection reset")
            || UNREACHED_BY_SSH.iter().any(|words| has(words))
        {
            Self::Unreachable
        } else if has("unable to start the sftp session") {
            Self::SshFails
        } else if has("config or key") && has("ciphertext verification failed") {
            Self::ForeignKey
        } else if has("repository contains errors")
            || has("ciphertext verification failed")
            || has("repository could be damaged")
        {
            Self::Damaged
        } else if has("unexpected HTTP response (50") {
            Self::ServerFails
        } else if has("read-only file system") {
            Self::ReadOnly
        } else if has("permission denied") || has("operation not permitted") {
            Self::NotPermitted
        } else if has("unknown flag:") || has("unknown command") {
            Self::OldRestic
        } else {
            match code {
                CODE_MISSING => Self::RepositoryMissing,
                CODE_LOCKED => Self::Locked { owner: "another process".to_owned() },
                CODE_PASSWORD => Self::WrongPassword,
                _ => return None,
            }
        })
    }

    /// There is nothing at the address, so a repository may be made there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::RepositoryMissing | Self::NoBucket)
    }

    /// Another try would bring the same. restic 0.17 and later tries such for a quarter of an hour all the same.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::WrongStoreSecret | Self::UnknownStoreKey | Self::NoStoreKeys | Self::NoBucket)
    }

    /// What happened, why, and what to do.
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::RepositoryMissing => {
                "there is no repository at this address. Check the address; if it is to be a new one, allow the repository to be created (init) and run the job again"
            }
            Self::RepositoryExists => "there is a repository at this address already, and it was left as it is. Nothing to do",
            Self::WrongPassword => {
                "the repository's password is wrong: the repository exists but no key opens with it. Set the right password on the repository's page"
            }
            Self::Locked { owner } => {
                return format!(
                    "the repository is locked by {owner}. Wait until that is done; if it is known to be dead, run an unlock (it removes only locks whose owner is gone)"
                );
            }
            Self::Unauthorized => {
                "the repository's server refuses the user or its password (401), or this user may not use this address. Check user, password and path: with private repositories the path must begin with the user's name"
            }
            Self::Forbidden => {
                "the repository's server does not allow this (403). An append-only server refuses every deletion, and a store may refuse these keys: use the maintenance credentials for deletions, or check the access rights"
            }
            Self::QuotaExceeded => {
                "the repository's server has no room left for this user (507). Raise the quota, or remove old snapshots and prune"
            }
            Self::DiskFull => {
                "a disk is full: the repository's, the one with temporary files, or the restore target. Make room there (the text below names the file) and run the job again"
            }
            Self::Damaged => {
                "the repository has errors. Don't delete anything: look at the log, run a check with its data, and see https://restic.readthedocs.io/en/stable/077_troubleshooting.html"
            }
            Self::ForeignKey => {
                "the repository cannot be opened: among its keys is one that does not belong to it. That comes of two restics that created it at the same moment, or of one that was cut off at it. If nothing was backed up to it yet, empty it and run the job again; else \
                 take the other key files out of its `keys` folder one by one until it opens"
            }
            Self::NoSources => "none of the paths to back up exists on this host. Correct the plan's paths",
            Self::NoSnapshot => "there is no such snapshot in the repository (for `latest`: none of this host). List the snapshots and choose one",
            Self::Certificate => {
                "the certificate of the repository's server is not trusted. If it is your own authority's, add its PEM to the repository; else check the address and the host's clock"
            }
            Self::TlsMismatch => "http and https are mixed up: the server speaks the other one. Correct the repository's address",
            Self::Unreachable => {
                "the repository's server could not be reached. Check that it runs, its name and port, and the network between"
            }
            Self::NotPermitted => {
                "a file or folder may not be used by the agent (permission denied). Run the agent as a user that may, or correct the rights"
            }
            Self::ReadOnly => {
                "nothing can be written: the file system is read-only (the text below names the file). Mount it for writing and run the job again"
            }
            Self::ResticGone => {
                "restic could not be started: its program was removed, replaced or broken after the job had begun with it, and this step did nothing. Look whether it is installed (`restic version`), and run the job again"
            }
            Self::OldRestic => "this restic does not know an option that the agent uses. Update restic on this host",
            Self::WrongStoreSecret => {
                "the store knows the access key id, but the secret access key is not its own (the signature does not match). Enter the secret again on the repository's page; if it is right, check the region"
            }
            Self::UnknownStoreKey => {
                "the store does not know this access key id. Enter the id and its secret again on the repository's page, and check that the address is that of the right store"
            }
            Self::NoStoreKeys => "the store asks for keys, and the repository has none. Enter the access key id and the secret access key on the repository's page",
            Self::NoBucket => {
                "there is no such bucket in the store. Check the bucket's name and the address; if it is to be a new one, allow the repository to be created (init), or create the bucket there"
            }
            Self::ServerFails => {
                "the repository's server, or the rclone that stands for it, answers with an error of its own (5xx). Look at its log; with rclone, run `rclone lsd REMOTE:` on this host: wrong keys of the remote show there"
            }
            Self::SshSignIn => {
                "the SSH server refuses this host's key. Add the host's public key to ~/.ssh/authorized_keys of the address's user there; the private key must be without a passphrase, readable for the agent's user, and named by the repository or lie where ssh looks for it"
            }
            Self::SshHostKey => {
                "the SSH server's host key is not the one that is trusted, or none is known yet. Compare what `ssh-keyscan MACHINE` prints with the server's own, and enter it as the repository's host key, or add it to known_hosts of the agent's user; if it has changed and nobody knows why, somebody may stand between"
            }
            Self::SshFails => {
                "ssh could not open the repository's machine for SFTP. On this host, as the agent's user, try `sftp -oBatchMode=yes USER@MACHINE`: it says why"
            }
            Self::NoSsh => "there is no ssh on this host, and restic needs it for SFTP. Install it (openssh-client) and run the job again",
            Self::NoRclone => "there is no rclone on this host, and restic needs it for this repository. Install it where the agent's PATH finds it, and run the job again",
            Self::NoRemote => "rclone on this host knows no such remote. Add it to the configuration of the agent's user (`rclone config`), or name its file on the repository's page",
        }
        .to_owned()
    }
}

/// As ssh writes it.
const UNREACHED_BY_SSH: [&str; 6] = [
    "Connection refused",
    "Connection timed out",
    "Could not resolve hostname",
    "No route to host",
    "Network is unreachable",
    "Connection closed by remote host",
];

/// What S3 says of keys and buckets, by code or in the words of Amazon and those who follow it.
fn of_store(said: &str) -> Option<Trouble> {
    let has = |words: [&str; 2]| words.iter().any(|words| said.contains(words));
    Some(if has(["SignatureDoesNotMatch", "request signature we calculated does not match"]) {
        Trouble::WrongStoreSecret
    } else if has(["InvalidAccessKeyId", "Access Key Id you provided does not exist"]) {
        Trouble::UnknownStoreKey
    } else if said.contains("s3.getCredentials: no credentials found") {
        Trouble::NoStoreKeys
    } else if has(["NoSuchBucket", "The specified bucket does not exist"]) {
        Trouble::NoBucket
    } else {
        return None;
    })
}

/// What the programs say that restic reaches some repositories by.
fn of_helper(said: &str) -> Option<Trouble> {
    let has = |words: &str| said.contains(words);
    Some(if has("Host key verification failed") {
        Trouble::SshHostKey
    } else if has("Permission denied (") || has("Too many authentication failures") {
        Trouble::SshSignIn
    } else if has("exec: \"ssh\"") {
        Trouble::NoSsh
    } else if has("exec: \"rclone\"") {
        Trouble::NoRclone
    } else if has("didn't find section in config file") {
        Trouble::NoRemote
    } else {
        return None;
    })
}

fn says_missing(said: &str) -> bool {
    if said.contains("repository does not exist") {
        return true;
    }
    let gone = ["no such file", "<config/> does not exist", "The specified key does not exist"];
    said.lines().any(|line| line.contains("unable to open config file") && gone.iter().any(|text| line.contains(text)))
}

/// `PID 4564 on agent01 by root`, from `repository is already locked exclusively by PID 4564 on agent01 by root (UID 0, GID 0)`.
fn lock_owner(said: &str) -> Option<String> {
    let at = said.find("repository is already locked")?;
    let line = said[at..].lines().next().unwrap_or_default();
    let owner = line.split_once(" by ").map_or("another process", |(_, owner)| owner);
    Some(owner.split(" (").next().unwrap_or(owner).to_owned())
}
