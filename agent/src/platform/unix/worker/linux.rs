//! Linux: `/proc` tells who a process is, a pidfd when it ends.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

/// Waits for the end of a process that need not be a child.
#[derive(Debug)]
pub(super) enum Watch {
    Handle(AsyncFd<OwnedFd>),
    /// Where the kernel gives no handle (before 5.3, or forbidden): looked at again and again.
    Look(Pid, Option<u64>),
    Over,
}

impl Watch {
    pub(super) fn of(pid: Pid, started: Option<u64>) -> Self {
        let handle = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Self::Over,
            Err(_) => return Self::Look(pid, started),
        };
        // Only now is it certain whom the handle means.
        if !runs(pid, started) {
            return Self::Over;
        }
        #[expect(deprecated, reason = "meant for types that may change their descriptor under it: an OwnedFd doesn't")]
        let watched = AsyncFd::with_interest(handle, Interest::READABLE);
        watched.map_or(Self::Look(pid, started), Self::Handle)
    }

    pub(super) async fn ended(&self) {
        match self {
            // An error would be the runtime's, which is going down.
            Self::Handle(handle) => drop(handle.readable().await),
            Self::Look(pid, started) => {
                while runs(*pid, *started) {
                    sleep(Duration::from_millis(250)).await;
                }
            }
            Self::Over => {}
        }
    }
}

/// Whether the process runs that had this number at this time; with `None`, any of this number.
pub(super) fn runs(pid: Pid, started: Option<u64>) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { return false };
    let Some((_, tail)) = text.rsplit_once(')') else { return false };
    let mut fields = tail.split_whitespace();
    let dead = matches!(fields.next(), None | Some("Z" | "X"));
    // The 22nd field of all, the 20th from the state on.
    let same = fields.nth(18).and_then(|field| field.parse().ok()) == started;
    !dead && (started.is_none() || same)
}

/// How long ago that was, in ticks since boot.
pub(super) fn age(started: u64) -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = text.split_whitespace().next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    let began = Duration::from_secs(started / ticks) + Duration::from_millis(started % ticks * 1000 / ticks);
    Some(Duration::try_from_secs_f64(up).ok()?.saturating_sub(began))
}

/// Kills each process whose output goes to one of these files.
pub(super) fn kill_writers(files: &[PathBuf]) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| writes_to(*pid, files)).filter(|pid| kill(*pid, files).is_ok()).count()
}

fn writes_to(pid: Pid, files: &[PathBuf]) -> bool {
    let goes_to = |number: u32| fs::read_link(Path::new("/proc").join(pid.to_string()).join(format!("fd/{number}")));
    [1, 2].into_iter().any(|number| goes_to(number).is_ok_and(|target| files.contains(&target)))
}

fn kill(pid: Pid, files: &[PathBuf]) -> io::Result<()> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    // The number may have become another's between the two looks; the handle can't.
    if writes_to(pid, files) { Ok(pidfd_send_signal(handle, Signal::KILL)?) } else { Ok(()) }
}
