//! A repository's address: checked before restic sees it (restic prints an address that it can't parse, password and
//! all), with the credentials kept apart until the moment they go into a pipe.

use flotilla_proto::{RepoSpec, Secret};

/// A valid address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// What restic reads, credentials included.
    pub(crate) full: Secret,
    /// The same without credentials, for people.
    pub(crate) shown: String,
    /// Whom to reach by TCP, where that is known.
    pub(crate) server: Option<(String, u16)>,
    /// The credentials, for the redactor: as given, and as written into the address.
    pub(crate) secrets: Vec<Secret>,
}

/// Why an address can't be used. Never repeats credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the repository's address is not usable: {0}; correct it on the repository's page")]
pub(crate) struct AddressError(String);

fn refuse<T>(why: &str) -> Result<T, AddressError> {
    Err(AddressError(why.to_owned()))
}

impl Address {
    /// Checks the parts and joins them.
    pub(crate) fn of(repo: &RepoSpec) -> Result<Self, AddressError> {
        let url = repo.url.as_str();
        if url.is_empty() || url.chars().any(char::is_control) || url.trim() != url {
            return refuse("it is empty, or has spaces around it or control characters in it");
        }
        if let Some(rest) = url.strip_prefix("rest:") {
            return Self::rest(rest, repo);
        }
        if repo.username.is_some() || repo.auth_password.is_some() {
            return refuse(
                "a user and a password belong to addresses that begin with `rest:`; others take theirs from the environment",
            );
        }
        if let Some(rest) = url.strip_prefix("s3:") {
            let with_scheme = if rest.contains("://") { rest.to_owned() } else { format!("https://{rest}") };
            let web = WebAddress::parse(&with_scheme)?;
            if web.user.is_some() {
                return refuse("an S3 address takes no user: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
            }
            return Ok(Self::plain(url, Some((web.host.to_owned(), web.port))));
        }
        if let Some(rest) = url.strip_prefix("rclone:")
            && (rest.starts_with([':', '-']) || rest.split(':').next().is_some_and(|remote| remote.contains(',')))
        {
            // A remote that an address makes up could name a program to run.
            return refuse("after `rclone:` the name of a remote must follow, without options");
        }
        const SCHEMES: [&str; 6] = ["azure:", "b2:", "gs:", "rclone:", "sftp:", "swift:"];
        if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(Self::plain(url, None));
        }
        let path = url.strip_prefix("local:").unwrap_or(url);
        if std::path::Path::new(path).is_absolute() {
            return Ok(Self::plain(url, None));
        }
        refuse("it is neither an absolute path nor begins with rest:, s3:, sftp:, b2:, azure:, gs:, swift: or rclone:")
    }

    fn plain(url: &str, server: Option<(String, u16)>) -> Self {
        Self { full: Secret::from(url), shown: url.to_owned(), server, secrets: Vec::new() }
    }

    fn rest(url: &str, repo: &RepoSpec) -> Result<Self, AddressError> {
        let web = WebAddress::parse(url)?;
        let (user, password) = match (&repo.username, &web.user) {
            (Some(user), _) => {
                (Some(user.clone()), repo.auth_password.as_ref().map_or_else(String::new, |p| p.expose().to_owned()))
            }
            (None, Some((user, password))) => (Some(user.clone()), password.clone()),
            (None, None) if repo.auth_password.is_some() => return refuse("it has a password for a user but no user"),
            (None, None) => (None, String::new()),
        };
        let shown = format!("rest:{}://{}", web.scheme, web.after_user);
        let Some(user) = user else {
            return Ok(Self {
                full: Secret::from(shown.as_str()),
                shown,
                server: Some((web.host.to_owned(), web.port)),
                secrets: Vec::new(),
            });
        };
        let written = percent_encode(&password);
        let full = Secret::new(format!("rest:{}://{}:{written}@{}", web.scheme, percent_encode(&user), web.after_user));
        let secrets = [password, written].into_iter().map(Secret::new).collect();
        Ok(Self { full, shown, server: Some((web.host.to_owned(), web.port)), secrets })
    }
}

struct WebAddress<'a> {
    scheme: &'a str,
    user: Option<(String, String)>,
    host: &'a str,
    port: u16,
    after_user: &'a str,
}

impl<'a> WebAddress<'a> {
    fn parse(url: &'a str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse("`http://` or `https://` is missing");
        };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return refuse("only http:// and https:// are known"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password with a raw `/` or `@` would shift the host: the last `@` before the path counts, as in restic.
        let (user, after_user) = match rest[..end].rfind('@') {
            None => (None, rest),
            Some(at) => {
                let (name, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
                (Some((percent_decode(name)?, percent_decode(password)?)), &rest[at + 1..])
            }
        };
        if after_user.contains('@') {
            return refuse(
                "it holds an `@` after the host: write that, and a password's special characters, as %XX (`@` is %40)",
            );
        }
        percent_decode(after_user)?;
        // The path is checked as a web address; host and port by hand, for that check lets a port of any size pass.
        let _: http::Uri = format!("{scheme}://{after_user}")
            .parse()
            .or_else(|_| refuse("host, port or path are not those of a web address"))?;
        let authority = &after_user[..after_user.find(['/', '?', '#']).unwrap_or(after_user.len())];
        let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
            None => (authority, default_port),
            Some(at) => match authority[at + 1..].parse::<u16>() {
                Ok(port) if port > 0 => (&authority[..at], port),
                _ => return refuse("the port is not a number from 1 to 65535"),
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return refuse("the host is missing");
        }
        Ok(Self { scheme, user, host, port, after_user })
    }
}

/// Writes all but the unreserved characters as `%XX`.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const HEX: [u8; 16] = *b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
        out
    })
}

pub(crate) fn percent_decode(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let value = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(value) if after[0] != b'+' => bytes.push(value),
            _ => return refuse("a `%` is not followed by two hexadecimal digits"),
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).or_else(|_| refuse("a %XX sequence is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_proto::RepoId;

    fn repo(url: &str, user: Option<&str>, password: Option<&str>) -> RepoSpec {
        RepoSpec {
            id: RepoId::from_parts(1, 1),
            url: url.to_owned(),
            password: "repo-pass".into(),
            username: user.map(str::to_owned),
            auth_password: password.map(Secret::from),
            env: std::collections::BTreeMap::default(),
            tls_ca_pem: None,
            init: false,
            memory_only: false,
        }
    }

    #[test]
    fn credentials_are_encoded_into_the_address_and_kept_out_of_what_is_shown() {
        let address = Address::of(&repo("rest:https://vault:8000/web-1/", Some("web-1"), Some("p@:/ %"))).unwrap();
        assert_eq!(address.full.expose(), "rest:https://web-1:p%40%3A%2F%20%25@vault:8000/web-1/");
        assert_eq!(address.shown, "rest:https://vault:8000/web-1/");
        assert_eq!(address.server, Some(("vault".to_owned(), 8000)));
    }

    #[test]
    fn credentials_inside_the_address_are_moved_out() {
        let address = Address::of(&repo("rest:http://u:p%40ss@[::1]/r/", None, None)).unwrap();
        assert_eq!(address.shown, "rest:http://[::1]/r/");
        assert_eq!(address.full.expose(), "rest:http://u:p%40ss@[::1]/r/");
        assert_eq!(address.server, Some(("::1".to_owned(), 80)));
        assert_eq!(address.secrets[0].expose(), "p@ss");
    }

    #[test]
    fn addresses_that_restic_would_print_in_full_are_refused_without_repeating_them() {
        for bad in [
            "rest:http://u:hunter%2@host/",
            "rest:http://u:hunter2%zz@host/",
            "rest:http://u:hun/ter2@host/",
            "rest:http://u:hunter2@ho st/",
            "rest:http://u:hunter2@host:99999/",
            "rest:hunter2",
            "rest:ftp://u:hunter2@host/",
            "rest:http://u:hunter2@",
            "s3:https://u:hunter2@host/bucket",
            "rclone::sftp,ssh=hunter2:/x",
            "rclone:remote,ssh=hunter2:/x",
            "relative/hunter2",
            " rest:http://host/",
            "rest:http://host/\nhunter2",
            "",
        ] {
            let error = Address::of(&repo(bad, None, None)).unwrap_err().to_string();
            assert!(!error.contains("hunter"), "{bad} -> {error}");
        }
    }

    #[test]
    fn other_stores_pass_as_they_are() {
        for (url, server) in [
            ("/srv/repo", None),
            ("sftp:backup@host:/srv/repo", None),
            ("s3:s3.amazonaws.com/bucket", Some(("s3.amazonaws.com".to_owned(), 443))),
            ("s3:http://127.0.0.1:9000/bucket", Some(("127.0.0.1".to_owned(), 9000))),
        ] {
            let address = Address::of(&repo(url, None, None)).unwrap();
            assert_eq!((address.full.expose(), address.server), (url, server));
        }
    }
}
