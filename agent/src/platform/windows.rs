//! Windows: a Job Object holds the child and all that it starts, and kills them when it is closed. Secrets go by the
//! environment, for there is no `/dev/fd`. Files are private by the state folder's access list.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    ops::Range,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    path::Path,
    process::ExitStatus,
    ptr,
};

use tokio::process::{Child, Command};
use windows_sys::Win32::System::{
    Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent},
    JobObjects::{
        AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
        TerminateJobObject,
    },
    Threading::CREATE_NEW_PROCESS_GROUP,
};

use crate::{platform::Volume, process::SecretFile};
pub(crate) use worker::{Found, RESERVE, Traces, Worker};

mod worker;

/// A child and all that it started.
#[derive(Debug)]
pub(crate) struct Group {
    job: OwnedHandle,
    leader: u32,
}

impl Group {
    /// Makes the command's process the leader of a console group of its own, which is what CTRL_BREAK addresses.
    pub(crate) fn prepare(command: &mut Command) {
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }

    /// The job that holds a child. What the child starts before this call is not in it; restic starts nothing that early.
    #[expect(unsafe_code, reason = "Job Objects have no safe interface in std")]
    pub(crate) fn of(child: &Child) -> io::Result<Self> {
        let (Some(process), Some(leader)) = (child.raw_handle(), child.id()) else {
            return Err(io::Error::other("the process ended before it could be looked after"));
        };
        // SAFETY: null attributes and name are documented as valid.
        let raw = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just created and has no other owner.
        let job = unsafe { OwnedHandle::from_raw_handle(raw.cast()) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let length = u32::try_from(size_of_val(&limits)).map_err(io::Error::other)?;
        // SAFETY: the pointer and length describe `limits`, of the type that this information class wants.
        let set = unsafe {
            SetInformationJobObject(
                job.as_raw_handle().cast(),
                JobObjectExtendedLimitInformation,
                ptr::from_ref(&limits).cast(),
                length,
            )
        };
        if set == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both handles are open: the job's is owned here, the process's by `child`.
        if unsafe { AssignProcessToJobObject(job.as_raw_handle().cast(), process.cast()) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { job, leader })
    }

    /// Asks the group to stop: CTRL_BREAK, which Go programs see as an interrupt. Needs a console shared with the agent.
    #[expect(unsafe_code, reason = "console events have no safe interface in std")]
    pub(crate) fn interrupt(&self) {
        // SAFETY: takes two plain numbers. A failure (no console) leads to the hard stop after the grace.
        let _ = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, self.leader) };
    }

    /// The same: there is one polite stop here.
    pub(crate) fn terminate(&self) {
        self.interrupt();
    }

    /// Ends all of the group.
    #[expect(unsafe_code, reason = "Job Objects have no safe interface in std")]
    pub(crate) fn kill(&self) {
        // SAFETY: the job's handle is open as long as `self` lives.
        let _ = unsafe { TerminateJobObject(self.job.as_raw_handle().cast(), 1) };
    }
}

/// How the polite and the hard stop are called here, for log lines.
pub(crate) fn interrupt_names() -> (&'static str, &'static str) {
    ("CTRL_BREAK", "termination")
}

/// The exit code.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// Nothing: a child's job object ends it with the agent, so it holds nothing for longer.
pub(crate) fn hold(_: &mut Command, _: &File) -> io::Result<()> {
    Ok(())
}

/// Gives each secret to the child by its plain variable.
pub(crate) fn hand_over(command: &mut Command, secrets: &[SecretFile]) -> io::Result<()> {
    for secret in secrets {
        command.env(secret.plain_variable, secret.content.expose());
    }
    Ok(())
}

/// Not known here.
pub(crate) fn moved_bytes(_pid: u32) -> Option<u64> {
    None
}

/// Not known here: a process counts as there, so that nothing is taken for abandoned.
pub(crate) fn process_exists(_pid: u32) -> bool {
    true
}

/// Users have no numbers here.
pub(crate) fn user_id() -> Option<u32> {
    None
}

/// Makes a folder and its parents.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// What speaks against running a script: here, that its owner can't be told.
pub(crate) fn not_ours_alone(_folder: &Path, _script: &Path) -> Option<String> {
    Some("scripts are run on Unix only; name a command under `[commands]` instead".to_owned())
}

/// A group ends with the agent here: there are no strays.
pub(crate) fn mark_of(_pid: u32) -> String {
    String::new()
}

/// See [`mark_of`].
pub(crate) fn end_stray(_mark: &str) -> bool {
    false
}

/// The file system that holds `path`: not asked for here.
pub(crate) fn volume(_path: &Path) -> Option<Volume> {
    None
}

/// Not done here: a job's output does not outlive its agent for long.
pub(crate) fn punch(_file: &File, _range: Range<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Replaces a file whole, on disk when this returns.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)
}
