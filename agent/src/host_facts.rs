//! What the agent tells about its machine. All `cfg` of that stands here; what a system doesn't offer is absent, never made up.

use std::path::Path;

use flotilla_proto::{AgentHeartbeat, Usage};

/// The machine's name for itself; empty where it has none.
#[must_use]
pub fn hostname() -> String {
    system::hostname()
}

/// `linux`, `windows`, …
#[must_use]
pub fn os() -> &'static str {
    std::env::consts::OS
}

/// `x86_64`, `aarch64`, …
#[must_use]
pub fn arch() -> &'static str {
    std::env::consts::ARCH
}

/// Changes with each boot; empty where the system has no such thing.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Load, memory and disks at this moment. Reads a few small files; does not wait.
#[must_use]
pub fn heartbeat(state_dir: &Path) -> AgentHeartbeat {
    let read = |path| std::fs::read_to_string(path).ok();
    let mut vital = AgentHeartbeat {
        load: read("/proc/loadavg").as_deref().and_then(parse_load),
        mem: read("/proc/meminfo").as_deref().and_then(parse_memory),
        ..AgentHeartbeat::default()
    };
    for path in [Path::new("/"), state_dir] {
        if let Some(usage) = system::disk(path) {
            vital.disk.insert(path.display().to_string(), usage);
        }
    }
    vital
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some([words.next()??, words.next()??, words.next()??])
}

fn parse_memory(text: &str) -> Option<Usage> {
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Usage { free: field("MemAvailable")?, total: field("MemTotal")? })
}

#[cfg(unix)]
mod system {
    use super::{Path, Usage};

    pub(super) fn hostname() -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    pub(super) fn disk(path: &Path) -> Option<Usage> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(Usage {
            free: stat.f_bavail.checked_mul(stat.f_frsize)?,
            total: stat.f_blocks.checked_mul(stat.f_frsize)?,
        })
    }
}

#[cfg(not(unix))]
mod system {
    use super::{Path, Usage};

    pub(super) fn hostname() -> String {
        std::env::var("COMPUTERNAME").unwrap_or_default()
    }

    pub(super) fn disk(_: &Path) -> Option<Usage> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_memory_read_as_the_kernel_prints_them() {
        assert_eq!(parse_load("0.02 0.35 1.25 1/345 6789\n"), Some([0.02, 0.35, 1.25]));
        assert_eq!(parse_load("nonsense"), None);
        let text = "MemTotal:       2048 kB\nMemFree:         10 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(parse_memory(text), Some(Usage { free: 1 << 20, total: 2 << 20 }));
        assert_eq!(parse_memory("MemTotal: 2048 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_name_a_boot_and_disks() {
        let dir = tempfile::tempdir().unwrap();
        let vital = heartbeat(dir.path());
        assert!(!hostname().is_empty() && !boot_id().is_empty());
        assert!(vital.load.is_some() && vital.mem.is_some_and(|mem| mem.free <= mem.total));
        assert_eq!(vital.disk.len(), 2);
        assert!(vital.disk["/"].total > 0);
    }
}
