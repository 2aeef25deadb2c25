//! Command lines for one repository. Secrets go by [`SecretFile`], never by argument; whatever comes from outside is
//! either checked or bound to its flag by `=`, and stands behind `--` where it is a bare word.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, DumpForm, DumpSpec, JobId, JobKind, RepoSpec, Secret, variables};

use super::{
    address::{Address, AddressError},
    output::Task,
    version::{Feature, Restic, ResticVersion},
};
use crate::{
    platform,
    process::{Launch, SecretFile},
};

pub(crate) use backup::{is_dry_backup, sources};
pub(crate) use read::{dumped, dumped_path, listed_folder, mode_word};
pub(crate) use restore::chosen;
pub(crate) use upkeep::MOST_IDS;

mod backup;
mod read;
mod restore;
mod sftp;
mod upkeep;

/// Why an order can't be turned into a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("this agent does not run {0} yet; update the agent, or run it from another host")]
    Unsupported(JobKind),
    #[error("the order names no repository; choose one and run it again")]
    NoRepository,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0}")]
    Refused(String),
    #[error("can't write to the agent's state folder: {0}; check its permissions and the free space")]
    State(#[from] io::Error),
}

fn refuse<T>(why: impl Into<String>) -> Result<T, OrderError> {
    Err(OrderError::Refused(why.into()))
}

/// Where an endpoint can't be talked into running a program: names of variables that a repository may set.
const ENV_ALLOWED: [&str; 14] = [
    "AWS_",
    "AZURE_",
    "B2_",
    "GOOGLE_",
    "OS_",
    "ST_",
    "RESTIC_COMPRESSION",
    "RESTIC_PACK_SIZE",
    "RESTIC_READ_CONCURRENCY",
    "GOMAXPROCS",
    "GOGC",
    "TMPDIR",
    "SSL_CERT_",
    "NO_PROXY",
];
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// Whether a repository may set this variable.
fn may_set(name: &str) -> bool {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return false;
    }
    let known = PROXIES.contains(&name)
        || variables::is_rclones(name)
        || variables::is_for_sftp(name)
        || ENV_ALLOWED.iter().any(|allowed| name.starts_with(allowed));
    known && !variables::runs_a_program(name)
}

/// Linux takes 2 MiB of arguments and environment in all.
const MAX_ARGS_BYTES: usize = 512 * 1024;

/// One repository, ready to be used by one restic.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) restic: Restic,
    pub(crate) address: Address,
    /// Traffic goes through a proxy: the server itself can't be probed.
    pub(crate) proxied: bool,
    password: Secret,
    env: Vec<(OsString, OsString)>,
    ca_file: Option<PathBuf>,
    /// For an SFTP repository.
    ssh: Option<sftp::Ssh>,
    state_dir: PathBuf,
}

impl Session {
    /// Checks the repository's data and writes what restic wants as a file (the TLS authority).
    pub(crate) fn open(restic: Restic, repo: &RepoSpec, state_dir: &Path) -> Result<Self, OrderError> {
        let address = Address::of(repo)?;
        if repo.password.is_empty() || repo.password.expose().contains(['\n', '\r', '\0']) {
            return refuse("the repository's password is empty or holds a line break; set it again");
        }
        for (name, value) in &repo.env {
            if !may_set(name) {
                return refuse(format!(
                    "the repository's environment sets {name:?}, which is not allowed; remove it there"
                ));
            }
            if value.expose().contains('\0') {
                return refuse(format!("the value of {name} in the repository's environment holds a zero byte"));
            }
        }
        let ca_file = repo.tls_ca_pem.as_ref().map(|pem| write_ca(state_dir, repo, pem)).transpose()?;
        Ok(Self {
            restic,
            address,
            proxied: repo.env.keys().any(|name| PROXIES.contains(&name.as_str())),
            password: repo.password.clone(),
            env: environment(repo, state_dir)?,
            ca_file,
            ssh: sftp::Ssh::of(repo, state_dir)?,
            state_dir: state_dir.to_owned(),
        })
    }

    fn launch(&self, args: Vec<OsString>) -> Launch {
        self.launch_with(self.ssh.as_ref(), args)
    }

    fn launch_with(&self, ssh: Option<&sftp::Ssh>, args: Vec<OsString>) -> Launch {
        let mut all: Vec<OsString> = Vec::with_capacity(args.len() + 4);
        all.extend(ssh.into_iter().flat_map(sftp::Ssh::option));
        if let Some(file) = &self.ca_file {
            all.extend(["--cacert".into(), file.into()]);
        }
        all.extend(args);
        Launch {
            program: self.restic.path.clone(),
            args: all,
            env: self.env.clone(),
            secrets: vec![
                SecretFile {
                    file_variable: "RESTIC_PASSWORD_FILE",
                    plain_variable: "RESTIC_PASSWORD",
                    content: self.password.clone(),
                },
                SecretFile {
                    file_variable: "RESTIC_REPOSITORY_FILE",
                    plain_variable: "RESTIC_REPOSITORY",
                    content: self.address.full.clone(),
                },
            ],
            folder: None,
            held: None,
        }
    }

    /// Where restic puts copies of packs that it takes apart: it writes them into the folder it works in.
    pub(crate) fn salvage(&self) -> PathBuf {
        self.state_dir.join("salvaged-packs")
    }

    /// Opens the repository and does nothing with it.
    pub(crate) fn look(&self) -> Launch {
        self.launch(words(&["cat", "config", "--no-lock"]))
    }

    /// Creates the repository.
    pub(crate) fn init(&self) -> Launch {
        self.launch(words(&["init", "--json"]))
    }

    /// Removes locks whose owner is dead, and no others.
    pub(crate) fn unlock(&self) -> Launch {
        self.launch(words(&["unlock"]))
    }

    /// Names all locks, one a line.
    pub(crate) fn list_locks(&self) -> Launch {
        self.launch(words(&["list", "locks", "--no-lock", "--quiet"]))
    }

    /// Prints one lock; `id` is one of [`Session::list_locks`].
    pub(crate) fn cat_lock(&self, id: &str) -> Launch {
        self.launch(words(&["cat", "lock", id, "--no-lock", "--quiet"]))
    }

    /// Lists the snapshots that a backup job made. Without the cache: on a full disk restic tries for a quarter of an hour to write to it.
    pub(crate) fn snapshots_of(&self, job: JobId) -> Launch {
        let mut args = words(&["snapshots", "--json", "--no-lock", "--no-cache"]);
        args.push(format!("--tag={}", job_tag(job)).into());
        self.launch(args)
    }

    /// Looks whether what an order sends is there, and what it is.
    pub(crate) fn look_at_dumped(&self, spec: &DumpSpec) -> Result<Launch, OrderError> {
        let args = read::look_at_dumped(spec)?;
        fitting(&args)?;
        Ok(self.launch(args))
    }

    /// Sends one of the paths of a download.
    pub(crate) fn dump(&self, spec: &DumpSpec, path: &str, form: DumpForm) -> Result<Launch, OrderError> {
        Ok(self.launch(read::dump(spec, path, form)?))
    }

    /// The command of an order, and how its output reads.
    pub(crate) fn order(&self, order: &CommandRun) -> Result<(Launch, Task), OrderError> {
        let args = match &order.kind {
            JobKind::Backup => backup::args(self.restic.version, order, &self.state_dir)?,
            JobKind::Restore => {
                restore::args(self.restic.version, order, &self.state_dir.join("jobs").join(order.job_id.to_string()))?
            }
            JobKind::Snapshots => read::snapshots(),
            JobKind::Ls => read::ls(order)?,
            JobKind::Find => read::find(order)?,
            JobKind::Diff => read::diff(order)?,
            // The first run of it looks.
            JobKind::Dump => read::look_at_dumped(dumped(order)?)?,
            JobKind::Stats => read::stats(order)?,
            JobKind::Check => read::check(order)?,
            JobKind::Init => return Ok((self.init(), Task::Other)),
            kind => return Err(OrderError::Unsupported(kind.clone())),
        };
        fitting(&args)?;
        let launch = self.launch(args);
        Ok((
            if order.kind == JobKind::Backup { polite(launch, backup::politeness(order).0) } else { launch },
            task_of(&order.kind),
        ))
    }

    /// What the order wishes and this host can't do, and what else is worth a line of the log before restic runs.
    pub(crate) fn notes(order: &CommandRun) -> Vec<String> {
        match order.kind {
            JobKind::Backup => backup::politeness(order).1,
            JobKind::Restore => restore::notes(order),
            _ => Vec::new(),
        }
    }
}

/// Refuses arguments that no program can be started with.
fn fitting(args: &[OsString]) -> Result<(), OrderError> {
    let bytes: usize = args.iter().map(|arg| arg.len() + 1).sum();
    if bytes > MAX_ARGS_BYTES {
        return refuse(format!(
            "paths and excludes are {bytes} bytes long together, over the limit of {MAX_ARGS_BYTES}; name folders instead of single files"
        ));
    }
    if args.iter().any(|arg| arg.to_string_lossy().contains('\0')) {
        return refuse("a path, tag or exclude holds a zero byte; remove it");
    }
    Ok(())
}

/// How the output of a kind of job reads.
pub(crate) fn task_of(kind: &JobKind) -> Task {
    match kind {
        JobKind::Backup => Task::Backup,
        JobKind::Restore => Task::Restore,
        JobKind::Snapshots => Task::Snapshots,
        JobKind::Ls => Task::Ls,
        JobKind::Find => Task::Find,
        JobKind::Diff => Task::Diff,
        JobKind::Stats => Task::Stats,
        JobKind::Check => Task::Check,
        _ => Task::Other,
    }
}

/// By which a snapshot is found whatever else is known of its job.
fn job_tag(job: JobId) -> String {
    format!("job-{job}")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Refuses what this restic is too old for.
fn needs(version: ResticVersion, feature: Feature, what: &str) -> Result<(), OrderError> {
    if version.supports(feature) {
        return Ok(());
    }
    let (major, minor, _) = feature.since();
    refuse(format!(
        "{what} needs restic {major}.{minor} or newer and this host has {version}; update restic, or do without"
    ))
}

/// The command behind others that become it.
fn polite(launch: Launch, wrap: Vec<OsString>) -> Launch {
    let mut words = wrap.into_iter();
    let Some(first) = words.next() else { return launch };
    let args = words.chain([launch.program.into_os_string()]).chain(launch.args).collect();
    Launch { program: first.into(), args, ..launch }
}

fn host_flag(order: &CommandRun) -> Result<OsString, OrderError> {
    if order.host_label.is_empty() || order.host_label.chars().any(char::is_control) {
        return refuse("the order does not say under which host name the snapshots stand; give the host a name");
    }
    Ok(format!("--host={}", order.host_label).into())
}

fn snapshot_id(id: &str) -> Result<&str, OrderError> {
    let hex = (4..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        Ok(id)
    } else {
        refuse(format!(
            "{id:?} is no snapshot's id, which is 4 to 64 hexadecimal digits; list the snapshots and choose one"
        ))
    }
}

fn write_ca(state_dir: &Path, repo: &RepoSpec, pem: &str) -> Result<PathBuf, OrderError> {
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return refuse(
            "the repository's TLS authority is no PEM certificate; paste it again, with its BEGIN and END lines",
        );
    }
    let folder = state_dir.join("repos");
    platform::private_dir(&folder)?;
    let file = folder.join(format!("{}.pem", repo.id));
    // What stands there already needs no room on a disk that is full.
    if fs::read(&file).is_ok_and(|there| there == pem.as_bytes()) {
        return Ok(file);
    }
    platform::write_private(&file, pem.as_bytes())?;
    Ok(file)
}

/// All that restic gets to see of the agent's surroundings.
fn environment(repo: &RepoSpec, state_dir: &Path) -> Result<Vec<(OsString, OsString)>, OrderError> {
    #[cfg(unix)]
    const KEPT: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LANG"];
    #[cfg(windows)]
    const KEPT: [&str; 7] = ["PATH", "SystemRoot", "TEMP", "TMP", "USERPROFILE", "LOCALAPPDATA", "ProgramData"];
    let cache = state_dir.join("cache");
    platform::private_dir(&cache)?;
    let mut all: Vec<(OsString, OsString)> =
        KEPT.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?))).collect();
    all.push(("RESTIC_PROGRESS_FPS".into(), "1".into()));
    all.push(("RESTIC_CACHE_DIR".into(), cache.into()));
    // The last one of a name counts.
    let given = repo.env.iter().filter(|(name, _)| !variables::is_for_sftp(name));
    all.extend(given.map(|(name, value)| (name.into(), value.expose().into())));
    Ok(all)
}

#[cfg(test)]
mod tests;
