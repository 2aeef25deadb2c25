//! What is usually backed up on common systems, and what is left out there: where a new plan can begin. Suggestions, to be looked over by whoever knows the hosts.

/// Where a new plan can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Its word in addresses.
    pub key: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// Paths.
    pub paths: &'static [&'static str],
    /// restic's patterns.
    pub excludes: &'static [&'static str],
    /// What else to see to.
    pub advice: &'static str,
}

/// All of them.
pub const STARTS: [Start; 7] = [
    Start {
        key: "debian",
        name: "Debian or Ubuntu server",
        paths: &["/etc", "/home", "/root", "/srv", "/usr/local", "/opt", "/var/lib", "/var/spool/cron", "/var/backups"],
        excludes: &[
            "/var/lib/apt/lists",
            "/var/lib/docker",
            "/var/lib/containerd",
            "/home/*/.cache",
            "/root/.cache",
            "*.tmp",
        ],
        advice: "The files of a running database under /var/lib are no backup of it: add a plan of its dump.",
    },
    Start {
        key: "web",
        name: "Web server",
        paths: &["/etc", "/var/www", "/srv", "/usr/local"],
        excludes: &["/var/www/*/cache", "/var/www/*/tmp", "node_modules", "*.log"],
        advice: "If the sites have a database, add a plan of its dump.",
    },
    Start {
        key: "postgresql",
        name: "PostgreSQL host",
        paths: &["/etc/postgresql", "/var/backups/postgresql"],
        excludes: &[],
        advice: "Let a hook before the backup write the dump to /var/backups/postgresql (pg_dumpall), or back up the output of that command instead of paths. The files under /var/lib/postgresql change while they are read.",
    },
    Start {
        key: "mariadb",
        name: "MariaDB or MySQL host",
        paths: &["/etc/mysql", "/var/backups/mysql"],
        excludes: &[],
        advice: "Let a hook before the backup write the dump to /var/backups/mysql (mariadb-dump --all-databases --single-transaction), or back up the output of that command instead of paths.",
    },
    Start {
        key: "docker",
        name: "Docker host",
        paths: &["/etc", "/opt", "/srv", "/root", "/var/lib/docker/volumes"],
        excludes: &["/var/lib/docker/volumes/*/_data/**/cache", "*.sock"],
        advice: "Databases in containers are to be dumped by a hook, or their containers stopped by one before the backup and started by one after it.",
    },
    Start {
        key: "workstation",
        name: "Workstation",
        paths: &["/etc", "/home"],
        excludes: &[
            "/home/*/.cache",
            "/home/*/.local/share/Trash",
            "/home/*/Downloads",
            "/home/*/.thumbnails",
            "node_modules",
            ".venv",
            "*.iso",
        ],
        advice: "A workstation sleeps at night: let the schedule make up for missed times.",
    },
    Start {
        key: "windows",
        name: "Windows",
        paths: &[r"C:\Users"],
        excludes: &[
            r"C:\Users\*\AppData\Local\Temp",
            r"C:\Users\*\AppData\Local\Microsoft\Windows\INetCache",
            r"C:\Users\*\Downloads",
            "pagefile.sys",
            "hiberfil.sys",
            "swapfile.sys",
            "ntuser.dat*",
        ],
        advice: "With “read from a shadow copy” files that programs hold open are saved too; the agent must run as an administrator for that.",
    },
];

/// The one of this word.
#[must_use]
pub fn start(key: &str) -> Option<&'static Start> {
    STARTS.iter().find(|start| start.key == key)
}
