//! Command lines for one repository. Secrets go by [`SecretFile`], never by argument; whatever comes from outside is
//! either checked or bound to its flag by `=`, and stands behind `--` where it is a bare word.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, JobId, JobKind, Overwrite, PlanOptions, RepoSpec, RestoreSpec, Secret};

use super::{
    address::{Address, AddressError},
    output::Task,
    version::{Feature, Restic},
};
use crate::{
    platform,
    process::{Launch, SecretFile},
};

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
const ENV_ALLOWED: [&str; 15] = [
    "AWS_",
    "AZURE_",
    "B2_",
    "GOOGLE_",
    "OS_",
    "ST_",
    "RCLONE_",
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
}

impl Session {
    /// Checks the repository's data and writes what restic wants as a file (the TLS authority).
    pub(crate) fn open(restic: Restic, repo: &RepoSpec, state_dir: &Path) -> Result<Self, OrderError> {
        let address = Address::of(repo)?;
        if repo.password.is_empty() || repo.password.expose().contains(['\n', '\r', '\0']) {
            return refuse("the repository's password is empty or holds a line break; set it again");
        }
        for (name, value) in &repo.env {
            let known = PROXIES.contains(&name.as_str()) || ENV_ALLOWED.iter().any(|allowed| name.starts_with(allowed));
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !known || !plain {
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
        })
    }

    fn launch(&self, args: Vec<OsString>) -> Launch {
        let mut all: Vec<OsString> = Vec::with_capacity(args.len() + 2);
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
            held: None,
        }
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

    /// The command of an order, and how its output reads.
    pub(crate) fn order(&self, order: &CommandRun) -> Result<(Launch, Task), OrderError> {
        let args = match &order.kind {
            JobKind::Backup => backup(order)?,
            JobKind::Restore => self.restore(order)?,
            JobKind::Snapshots => words(&["snapshots", "--json", "--no-lock"]),
            JobKind::Stats => words(&["stats", "--json", "--no-lock", "--mode=raw-data"]),
            JobKind::Check => words(&["check", "--json"]),
            JobKind::Unlock => return Ok((self.unlock(), Task::Other)),
            JobKind::Init => return Ok((self.init(), Task::Other)),
            kind => return Err(OrderError::Unsupported(kind.clone())),
        };
        let bytes: usize = args.iter().map(|arg| arg.len() + 1).sum();
        if bytes > MAX_ARGS_BYTES {
            return refuse(format!(
                "paths and excludes are {bytes} bytes long together, over the limit of {MAX_ARGS_BYTES}; name folders instead of single files"
            ));
        }
        if args.iter().any(|arg| arg.to_string_lossy().contains('\0')) {
            return refuse("a path, tag or exclude holds a zero byte; remove it");
        }
        Ok((self.launch(args), task_of(&order.kind)))
    }

    fn restore(&self, order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
        let Some(spec) = &order.restore else {
            return refuse("the order does not say what to restore; choose a snapshot and run it again");
        };
        let snapshot = snapshot_id(spec)?;
        if !Path::new(&spec.target).is_absolute() {
            return refuse(format!("the restore target {:?} is not an absolute path", spec.target));
        }
        let mut args = words(&["restore", "--json"]);
        args.push(format!("--target={}", spec.target).into());
        match spec.overwrite {
            Overwrite::Always => {}
            other if self.restic.version.supports(Feature::RestoreOverwrite) => {
                args.push(format!("--overwrite={}", overwrite_word(other)).into());
            }
            other => {
                return refuse(format!(
                    "overwrite = {} needs restic 0.17 or newer and this host has {}; update restic, or restore into an empty folder",
                    overwrite_word(other),
                    self.restic.version
                ));
            }
        }
        for path in &spec.paths {
            if !path.starts_with('/') {
                return refuse(format!("{path:?} is not a path inside a snapshot; those begin with /"));
            }
            args.push(format!("--include={}", literal_pattern(path)).into());
        }
        if snapshot == "latest" {
            args.push(host_flag(order)?);
        }
        args.extend(["--".into(), snapshot.into()]);
        Ok(args)
    }
}

/// How the output of a kind of job reads.
pub(crate) fn task_of(kind: &JobKind) -> Task {
    match kind {
        JobKind::Backup => Task::Backup,
        JobKind::Restore => Task::Restore,
        JobKind::Snapshots => Task::Snapshots,
        JobKind::Stats => Task::Stats,
        JobKind::Check => Task::Check,
        _ => Task::Other,
    }
}

/// What an order backs up, whether it comes from a plan or stands alone.
pub(crate) fn sources(order: &CommandRun) -> &[String] {
    order.plan.as_ref().map_or(&order.args, |plan| &plan.paths)
}

fn backup(order: &CommandRun) -> Result<Vec<OsString>, OrderError> {
    let none = PlanOptions::default();
    let options = order.plan.as_ref().map_or(&none, |plan| &plan.options);
    let paths = sources(order);
    if paths.is_empty() {
        return refuse("there is nothing to back up: the plan names no paths; add one");
    }
    if let Some(path) = paths.iter().find(|path| !Path::new(path).is_absolute()) {
        return refuse(format!("{path:?} is not an absolute path; write it in full, such as /etc"));
    }
    let mut args = words(&["backup", "--json"]);
    args.push(host_flag(order)?);
    args.push(format!("--tag=flotilla,{}", job_tag(order.job_id)).into());
    for tag in &options.backup_tags {
        if tag.trim().is_empty() || tag.contains(',') {
            return refuse(format!("the tag {tag:?} is empty or holds a comma; change it in the plan"));
        }
        args.push(format!("--tag={tag}").into());
    }
    let excludes = order.plan.as_ref().map_or(&[][..], |plan| &plan.excludes);
    args.extend(excludes.iter().filter(|pattern| !pattern.trim().is_empty()).map(|p| format!("--exclude={p}").into()));
    let flags = [
        (options.one_file_system, "--one-file-system".to_owned()),
        (options.exclude_caches, "--exclude-caches".to_owned()),
        (options.limit_upload_kib > 0, format!("--limit-upload={}", options.limit_upload_kib)),
        (options.limit_download_kib > 0, format!("--limit-download={}", options.limit_download_kib)),
        (options.log_files, "--verbose=2".to_owned()),
    ];
    args.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.into()));
    args.push("--".into());
    args.extend(paths.iter().map(OsString::from));
    Ok(args)
}

/// By which a snapshot is found whatever else is known of its job.
fn job_tag(job: JobId) -> String {
    format!("job-{job}")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn host_flag(order: &CommandRun) -> Result<OsString, OrderError> {
    if order.host_label.is_empty() || order.host_label.chars().any(char::is_control) {
        return refuse("the order does not say under which host name the snapshots stand; give the host a name");
    }
    Ok(format!("--host={}", order.host_label).into())
}

fn snapshot_id(spec: &RestoreSpec) -> Result<&str, OrderError> {
    let id = spec.snapshot.as_str();
    let hex = (4..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    if hex || id == "latest" { Ok(id) } else { refuse(format!("{id:?} is neither a snapshot's id nor `latest`")) }
}

fn overwrite_word(overwrite: Overwrite) -> &'static str {
    match overwrite {
        Overwrite::Always => "always",
        Overwrite::IfChanged => "if-changed",
        Overwrite::IfNewer => "if-newer",
        Overwrite::Never => "never",
    }
}

/// A path as a pattern that matches itself only.
fn literal_pattern(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut out, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
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
    all.extend(repo.env.iter().map(|(name, value)| (name.into(), value.expose().into())));
    Ok(all)
}

#[cfg(test)]
mod tests;
