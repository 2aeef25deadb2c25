//! Kinds of repositories and how restic writes the address of each: from the parts that a form asks for, and back. Credentials are never part of an address.

/// A part of an address, as a form asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Name of its field.
    pub name: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// An example.
    pub example: &'static str,
    /// What to know about it; may be empty.
    pub hint: &'static str,
    /// Whether there is no address without it.
    pub required: bool,
}

/// A variable that restic reads for a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// What to know about it; may be empty.
    pub hint: &'static str,
}

/// A kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepoKind {
    /// Its word in a form's address.
    pub id: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What to know about it.
    pub about: &'static str,
    /// What its address is made of.
    pub parts: &'static [Part],
    /// What its credentials are, beside those of a REST server.
    pub variables: &'static [Variable],
}

const fn part(name: &'static str, label: &'static str, example: &'static str, hint: &'static str) -> Part {
    Part { name, label, example, hint, required: true }
}

const fn optional(name: &'static str, label: &'static str, example: &'static str, hint: &'static str) -> Part {
    Part { name, label, example, hint, required: false }
}

const fn variable(name: &'static str, label: &'static str, hint: &'static str) -> Variable {
    Variable { name, label, hint }
}

const PATH: Part = optional("part.path", "Folder in it", "restic/web", "");

/// All kinds, in the order of a form.
pub const KINDS: [RepoKind; 8] = [
    RepoKind {
        id: "rest",
        title: "REST server",
        about: "restic's own server. With --append-only its users can add backups and not remove any: the safest kind.",
        parts: &[
            part("part.server", "Server", "https://backup.example.org:8000", "With https://, and with its port."),
            optional("part.path", "Path", "web-1", "With --private-repos it begins with the user's name."),
        ],
        variables: &[],
    },
    RepoKind {
        id: "s3",
        title: "S3 and compatible",
        about: "Amazon S3, MinIO, Ceph, Wasabi and others that speak S3.",
        parts: &[
            part(
                "part.server",
                "Endpoint",
                "https://s3.example.org",
                "s3.amazonaws.com for Amazon; http:// where it has no TLS.",
            ),
            part("part.bucket", "Bucket", "backups", ""),
            PATH,
        ],
        variables: &[
            variable("AWS_ACCESS_KEY_ID", "Access key id", ""),
            variable("AWS_SECRET_ACCESS_KEY", "Secret access key", ""),
            variable("AWS_DEFAULT_REGION", "Region", "Only where the endpoint needs one."),
            variable("AWS_SESSION_TOKEN", "Session token", "Only for temporary keys."),
        ],
    },
    RepoKind {
        id: "sftp",
        title: "SFTP",
        about: "A folder on another machine, over SSH. Each host, and the control plane, signs in with a key of its own that has no passphrase; nobody is there to answer a question, so the machine's host key must be known beforehand.",
        parts: &[
            optional("part.user", "User", "backup", ""),
            part("part.server", "Machine", "nas.example.org", ""),
            optional("part.port", "Port", "22", ""),
            part("part.path", "Folder", "/srv/restic", "An absolute path."),
        ],
        variables: &[
            variable(
                "FLOTILLA_SFTP_KEY_FILE",
                "Private key file",
                "Its path on each host that uses it, such as /etc/flotilla-agent/id_ed25519. Empty: where ssh looks for the agent's user.",
            ),
            variable(
                "FLOTILLA_SFTP_HOST_KEY",
                "Host key",
                "A line of ssh-keyscan -t ed25519 MACHINE, compared with the machine's own. Empty: the known_hosts of the agent's user count.",
            ),
        ],
    },
    RepoKind {
        id: "local",
        title: "Folder",
        about: "A folder on the host itself, such as a mounted disk. Who takes over the host can delete it.",
        parts: &[part("part.path", "Folder", "/srv/restic", "An absolute path on each host that uses it.")],
        variables: &[],
    },
    RepoKind {
        id: "b2",
        title: "Backblaze B2",
        about: "By B2's own interface; Backblaze recommends its S3 endpoint instead.",
        parts: &[part("part.bucket", "Bucket", "backups", ""), PATH],
        variables: &[
            variable("B2_ACCOUNT_ID", "Key id", ""),
            variable(
                "B2_ACCOUNT_KEY",
                "Application key",
                "One without deleteFiles can only hide files, not remove them.",
            ),
        ],
    },
    RepoKind {
        id: "azure",
        title: "Azure Blob Storage",
        about: "A container of an Azure storage account.",
        parts: &[part("part.bucket", "Container", "backups", ""), PATH],
        variables: &[
            variable("AZURE_ACCOUNT_NAME", "Account", ""),
            variable("AZURE_ACCOUNT_KEY", "Account key", "Or a shared access signature below."),
            variable("AZURE_ACCOUNT_SAS", "Shared access signature", ""),
            variable("AZURE_ENDPOINT_SUFFIX", "Endpoint suffix", "Only outside of the public cloud."),
        ],
    },
    RepoKind {
        id: "gs",
        title: "Google Cloud Storage",
        about: "A bucket of Google Cloud Storage.",
        parts: &[part("part.bucket", "Bucket", "backups", ""), PATH],
        variables: &[
            variable("GOOGLE_PROJECT_ID", "Project", ""),
            variable("GOOGLE_APPLICATION_CREDENTIALS", "Credentials file", "Its path on each host that uses it."),
            variable("GOOGLE_ACCESS_TOKEN", "Access token", "Instead of a file."),
        ],
    },
    RepoKind {
        id: "rclone",
        title: "rclone",
        about: "Whatever rclone can reach. Each host needs rclone, and the remote in its own rclone configuration.",
        parts: &[part("part.server", "Remote", "drive", "Its name in rclone's configuration, without a colon."), PATH],
        variables: &[
            variable("RCLONE_CONFIG", "Configuration file", "Its path on each host, where it is not the usual one."),
            variable("RCLONE_CONFIG_PASS", "Password of that file", "Only where it is encrypted."),
        ],
    },
];

/// The kind of this word.
#[must_use]
pub fn kind(id: &str) -> Option<&'static RepoKind> {
    KINDS.iter().find(|kind| kind.id == id)
}

/// An address of a kind, as restic writes it. `value` gives what was typed for a part; what is missing leads to an address that a check refuses.
#[must_use]
pub fn compose<'a>(kind: &RepoKind, value: impl Fn(&str) -> &'a str) -> String {
    let get = |name: &str| value(name).trim();
    // A remote of rclone is often written with its colon.
    let end: &[char] = if kind.id == "rclone" { &['/', ':'] } else { &['/'] };
    let (server, bucket) = (get("part.server").trim_end_matches(end), get("part.bucket").trim_matches('/'));
    let path = get("part.path");
    let inner = path.trim_matches('/');
    match kind.id {
        "rest" if inner.is_empty() => format!("rest:{server}/"),
        "rest" => format!("rest:{server}/{inner}/"),
        "s3" if inner.is_empty() => format!("s3:{server}/{bucket}"),
        "s3" => format!("s3:{server}/{bucket}/{inner}"),
        "sftp" => {
            let (user, port) = (get("part.user"), get("part.port"));
            let at = if user.is_empty() { server.to_owned() } else { format!("{user}@{server}") };
            // The second slash makes the path an absolute one.
            if port.is_empty() { format!("sftp:{at}:{path}") } else { format!("sftp://{at}:{port}/{path}") }
        }
        "local" => path.to_owned(),
        "b2" | "rclone" => format!("{}:{}:{inner}", kind.id, if bucket.is_empty() { server } else { bucket }),
        other => format!("{other}:{bucket}:/{inner}"),
    }
}

/// An address taken apart: its kind, and what a form shows for each part. `None` for one that only its owner can read.
#[must_use]
pub fn parse(url: &str) -> Option<(&'static RepoKind, Vec<(&'static str, String)>)> {
    let known = |id, parts: Vec<(&'static str, &str)>| {
        let parts: Vec<_> = parts.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        kind(id).map(|kind| (kind, parts))
    };
    let local = |url| known("local", vec![("part.path", url)]);
    let Some((scheme, rest)) = url.split_once(':') else { return local(url) };
    let found = match scheme {
        "rest" => {
            let start = rest.find("://")? + 3;
            let (server, path) = rest[start..].split_once('/').unwrap_or((&rest[start..], ""));
            known("rest", vec![("part.server", &rest[..start + server.len()]), ("part.path", path.trim_matches('/'))])
        }
        "s3" => {
            let start = rest.find("://").map_or(0, |at| at + 3);
            let (server, path) = rest[start..].split_once('/')?;
            let (bucket, path) = path.split_once('/').unwrap_or((path, ""));
            let server = &rest[..start + server.len()];
            known("s3", vec![("part.server", server), ("part.bucket", bucket), ("part.path", path)])
        }
        "sftp" => sftp(rest).and_then(|parts| known("sftp", parts)),
        "b2" => rest
            .split_once(':')
            .and_then(|(bucket, path)| known("b2", vec![("part.bucket", bucket), ("part.path", path)])),
        "rclone" => {
            rest.split_once(':').and_then(|(at, path)| known("rclone", vec![("part.server", at), ("part.path", path)]))
        }
        "azure" | "gs" => {
            let (bucket, path) = rest.split_once(':')?;
            known(scheme, vec![("part.bucket", bucket), ("part.path", path.trim_start_matches('/'))])
        }
        _ if url.starts_with('/') || rest.starts_with(['\\', '/']) => local(url),
        _ => None,
    };
    // What does not come back as it was is not shown in parts: saving the form would change it.
    found.filter(|(kind, parts)| {
        let value = |name: &str| parts.iter().find(|(part, _)| *part == name).map_or("", |(_, value)| value.as_str());
        let again = compose(kind, value);
        again == url || again.trim_end_matches('/') == url
    })
}

fn sftp(rest: &str) -> Option<Vec<(&'static str, &str)>> {
    let (at, port, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (at, path) = rest.split_once('/')?;
            let (at, port) = at.rsplit_once(':')?;
            (at, port, path)
        }
        None => {
            let (at, path) = rest.split_once(':')?;
            (at, "", path)
        }
    };
    let (user, server) = at.rsplit_once('@').unwrap_or(("", at));
    Some(vec![("part.user", user), ("part.server", server), ("part.port", port), ("part.path", path)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_taken_apart_and_put_together_is_the_same() {
        for (url, id) in [
            ("rest:https://vault:8000/", "rest"),
            ("rest:https://vault:8000/web-1/", "rest"),
            ("s3:https://s3.example.org/bucket", "s3"),
            ("s3:s3.amazonaws.com/bucket/a/b", "s3"),
            ("sftp:backup@nas:/srv/restic", "sftp"),
            ("sftp:nas:restic", "sftp"),
            ("sftp://backup@nas:2222//srv/restic", "sftp"),
            ("b2:bucket:a/b", "b2"),
            ("azure:container:/", "azure"),
            ("gs:bucket:/a", "gs"),
            ("rclone:remote:a/b", "rclone"),
            ("/srv/restic", "local"),
            (r"C:\restic", "local"),
        ] {
            let (kind, parts) = parse(url).unwrap_or_else(|| panic!("{url}"));
            let value = |name: &str| parts.iter().find(|(part, _)| *part == name).map_or("", |(_, value)| value);
            assert_eq!((kind.id, compose(kind, value).as_str()), (id, url));
        }
    }

    #[test]
    fn what_would_come_back_changed_is_not_taken_apart() {
        for url in ["swift:container:/path", "azure:container:path", "sftp://nas//srv", "rest:vault"] {
            assert!(parse(url).is_none(), "{url}");
        }
    }

    #[test]
    fn slashes_at_the_ends_of_what_was_typed_do_not_matter() {
        let typed = |name: &str| match name {
            "part.server" => " https://s3.example.org/ ",
            "part.bucket" => "b",
            "part.path" => "/web/",
            _ => "",
        };
        assert_eq!(compose(kind("s3").unwrap(), typed), "s3:https://s3.example.org/b/web");
        assert_eq!(compose(kind("rest").unwrap(), typed), "rest:https://s3.example.org/web/");
        let remote = |name: &str| match name {
            "part.server" => "drive:",
            "part.path" => "a",
            _ => "",
        };
        assert_eq!(compose(kind("rclone").unwrap(), remote), "rclone:drive:a");
    }
}
