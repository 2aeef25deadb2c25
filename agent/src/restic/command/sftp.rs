//! How ssh is called for an SFTP repository: it never asks, neither for a password nor about a host key, and a dead connection ends. With which key it signs in
//! and whose host key it trusts may be said by the repository; no part of that is a secret, for the key itself stays in a file of the host.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use flotilla_proto::{
    RepoSpec,
    variables::{SFTP_HOST_KEY, SFTP_KEY_FILE},
};
use sha2::{Digest as _, Sha256};

use super::{OrderError, refuse};
use crate::platform;

/// ssh towards one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ssh {
    words: Vec<String>,
    /// It has a key or a host key of its own.
    particular: bool,
}

impl Ssh {
    /// `None` for other kinds of repositories.
    pub(super) fn of(repo: &RepoSpec, state_dir: &Path) -> Result<Option<Self>, OrderError> {
        let Some(rest) = repo.url.strip_prefix("sftp:") else { return Ok(None) };
        let Some(place) = Place::parse(rest) else {
            return refuse(
                "the SFTP address names no machine that ssh can take; write it as sftp:USER@MACHINE:/PATH or sftp://USER@MACHINE:PORT//PATH",
            );
        };
        let mut words: Vec<String> =
            ["ssh", "-oBatchMode=yes", "-oConnectTimeout=30", "-oServerAliveInterval=30", "-oServerAliveCountMax=4"]
                .map(str::to_owned)
                .into();
        let value = |name| repo.env.get(name).map(|value| value.expose().trim()).filter(|value| !value.is_empty());
        let (key_file, host_key) = (value(SFTP_KEY_FILE), value(SFTP_HOST_KEY));
        if let Some(path) = key_file {
            words.extend([
                format!("-oIdentityFile={}", as_setting(readable(path)?)?),
                "-oIdentitiesOnly=yes".to_owned(),
            ]);
        }
        if let Some(key) = host_key {
            let file = write_known_host(state_dir, key)?;
            words.extend([
                "-oStrictHostKeyChecking=yes".to_owned(),
                format!("-oHostKeyAlias={ALIAS}"),
                "-oGlobalKnownHostsFile=none".to_owned(),
                format!("-oUserKnownHostsFile={}", as_setting(&file)?),
            ]);
        }
        words.extend(place.port.map(|port| format!("-oPort={port}")));
        words.extend(place.user.map(|user| format!("-oUser={user}")));
        words.extend([place.host, "-s", "sftp"].map(str::to_owned));
        Ok(Some(Self { words, particular: key_file.is_some() || host_key.is_some() }))
    }

    /// For restic's command line, before its command.
    pub(super) fn option(&self) -> [OsString; 2] {
        // restic splits by its own rules: words within quotes stay whole, and there is no way to write a quote within.
        let quoted =
            self.words.iter().map(|word| if word.contains('"') { format!("'{word}'") } else { format!("\"{word}\"") });
        let command = quoted.collect::<Vec<_>>().join(" ");
        // The option itself is read as a line of comma-separated values, in which a quote is written twice.
        ["-o".into(), format!("\"sftp.command={}\"", command.replace('"', "\"\"")).into()]
    }

    /// What a copy between two repositories can go by: restic takes one command for both sides, so two servers leave only ssh's own configuration.
    pub(super) fn of_both<'a>(one: Option<&'a Self>, other: Option<&'a Self>) -> Result<Option<&'a Self>, OrderError> {
        match (one, other) {
            (Some(one), Some(other)) if one == other => Ok(Some(one)),
            (Some(one), Some(other)) if one.particular || other.particular => refuse(
                "both repositories lie on SFTP servers, and restic takes only one key file and host key for a copy: take them out of both repositories, and set them up in this host's own ssh configuration",
            ),
            (Some(_), Some(_)) => Ok(None),
            (one, other) => Ok(one.or(other)),
        }
    }
}

struct Place<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Place<'a> {
    /// What restic makes of `USER@MACHINE:PATH` and `//USER@MACHINE:PORT/PATH`.
    fn parse(rest: &'a str) -> Option<Self> {
        let (at, port) = match rest.strip_prefix("//") {
            Some(rest) => {
                let at = rest.split_once('/')?.0;
                match at.rfind(':').filter(|colon| !at[*colon..].contains(']')) {
                    Some(colon) => (&at[..colon], Some(at[colon + 1..].parse().ok().filter(|port| *port > 0)?)),
                    None => (at, None),
                }
            }
            None => (rest.split_once(':')?.0, None),
        };
        let (user, host) = at.rsplit_once('@').map_or((None, at), |(user, host)| (Some(user), host));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || more.contains(c)) && !text.starts_with('-')
        };
        let fine = plain(host, "._-:%") && user.is_none_or(|user| plain(user, "._-@+\\$"));
        fine.then_some(Self { user, host, port })
    }
}

/// The path, if it is one that a key can be read from.
fn readable(path: &str) -> Result<&Path, OrderError> {
    let file = Path::new(path);
    if !file.is_absolute() {
        return refuse(format!("the repository's SSH key file {path:?} is no absolute path; correct it there"));
    }
    match fs::File::open(file) {
        Ok(_) => Ok(file),
        Err(error) => refuse(format!(
            "the SSH key file {path} that the repository names can't be read on this host ({error}); put the private key there, readable for the agent alone"
        )),
    }
}

/// A path as the value of one of ssh's settings.
fn as_setting(path: &Path) -> Result<String, OrderError> {
    match path.to_str() {
        Some(text) if !text.contains(['"', '\'', '\n', '\r']) => {
            let text = text.replace('%', "%%");
            Ok(if text.contains(' ') { format!("\"{text}\"") } else { text })
        }
        _ => refuse(format!(
            "the path {} has quotes, line breaks or odd letters in it, which ssh can't be given; choose another",
            path.display()
        )),
    }
}

/// By which the server's host key is looked up: no name of a machine, so neither its port nor a second name matters.
const ALIAS: &str = "flotilla";

/// The file with the one host key that is trusted.
fn write_known_host(state_dir: &Path, key: &str) -> Result<PathBuf, OrderError> {
    let words: Vec<&str> = key.split_whitespace().collect();
    let is_type = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|known| word.starts_with(known));
    let is_key =
        |word: &str| word.len() >= 40 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    let Some(pair) = words.windows(2).find(|pair| is_type(pair[0]) && is_key(pair[1])) else {
        return refuse(
            "the repository's SSH host key is none; it looks like `ssh-ed25519 AAAA…`, as `ssh-keyscan -t ed25519 MACHINE` prints it",
        );
    };
    let text = format!("{ALIAS} {} {}\n", pair[0], pair[1]);
    let folder = state_dir.join("repos");
    platform::private_dir(&folder)?;
    let name: String = Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let file = folder.join(format!("{name}.known_hosts"));
    if !fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
        platform::write_private(&file, text.as_bytes())?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_proto::RepoId;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF3OT5bPVUp1UzaZXSbDJpvMaHHYj5jUGvJyCYm3nVVW";

    fn repo(url: &str, variables: &[(&str, &str)]) -> RepoSpec {
        RepoSpec {
            id: RepoId::from_parts(1, 1),
            url: url.to_owned(),
            password: "planted-repo-password".into(),
            username: None,
            auth_password: None,
            env: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
            tls_ca_pem: None,
            init: false,
            memory_only: false,
        }
    }

    fn ssh(url: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let state = tempfile::tempdir().unwrap();
        let ssh = Ssh::of(&repo(url, variables), state.path()).map_err(|e| e.to_string())?;
        let [_, command] = ssh.unwrap().option();
        let command = command.into_string().unwrap();
        Ok(command.strip_prefix('"').unwrap().strip_suffix('"').unwrap().replace("\"\"", "\""))
    }

    #[test]
    fn ssh_goes_where_the_address_says_and_never_asks() {
        for (url, end) in [
            ("sftp:backup@nas:/srv/restic", r#""-oUser=backup" "nas" "-s" "sftp""#),
            ("sftp:nas:restic", r#""-oServerAliveCountMax=4" "nas" "-s" "sftp""#),
            ("sftp://backup@nas:2222//srv", r#""-oPort=2222" "-oUser=backup" "nas" "-s" "sftp""#),
            ("sftp://[fd00::1]:2222//srv", r#""-oPort=2222" "fd00::1" "-s" "sftp""#),
            ("sftp://nas//srv", r#""nas" "-s" "sftp""#),
        ] {
            let command = ssh(url, &[]).unwrap();
            assert!(command.starts_with(r#"sftp.command="ssh" "-oBatchMode=yes""#), "{command}");
            assert!(command.ends_with(end), "{command}");
            assert!(!command.contains("KnownHosts") && !command.contains("Identity"), "{command}");
        }
    }

    #[test]
    fn an_address_that_would_be_an_option_or_more_than_one_word_is_refused() {
        for url in [
            "sftp:-oProxyCommand=x:/",
            "sftp:-l@nas:/",
            "sftp:a b:/",
            "sftp:a\"b:/",
            "sftp://nas:0//x",
            "sftp://nas:x//y",
            "sftp:nas",
        ] {
            assert!(ssh(url, &[]).unwrap_err().contains("names no machine"), "{url}");
        }
    }

    #[test]
    fn the_repositorys_own_key_file_and_host_key_are_the_only_ones_that_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id ed25519");
        let path = file.to_str().unwrap();
        let missing = ssh("sftp:nas:/srv", &[(SFTP_KEY_FILE, path)]).unwrap_err();
        assert!(missing.contains("can't be read on this host"), "{missing}");
        fs::write(&file, "key").unwrap();
        let command =
            ssh("sftp:nas:/srv", &[(SFTP_KEY_FILE, path), (SFTP_HOST_KEY, &format!("nas.lan {KEY} nas"))]).unwrap();
        assert!(command.contains(&format!(r#"'-oIdentityFile="{path}"' "-oIdentitiesOnly=yes""#)), "{command}");
        assert!(command.contains(r#""-oStrictHostKeyChecking=yes" "-oHostKeyAlias=flotilla""#), "{command}");
        assert!(ssh("sftp:nas:/srv", &[(SFTP_KEY_FILE, "id")]).unwrap_err().contains("no absolute path"));
        for none in ["ssh-ed25519", "SHA256:abc", "-----BEGIN OPENSSH PRIVATE KEY-----"] {
            assert!(ssh("sftp:nas:/srv", &[(SFTP_HOST_KEY, none)]).unwrap_err().contains("host key is none"), "{none}");
        }
    }

    #[test]
    fn the_host_key_is_written_under_a_name_of_its_own_and_no_more_than_it() {
        let state = tempfile::tempdir().unwrap();
        let file = write_known_host(state.path(), &format!("[nas]:2222 {KEY} comment")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("flotilla {KEY}\n"));
        assert_eq!(write_known_host(state.path(), KEY).unwrap(), file, "the same key, the same file");
    }

    #[test]
    fn a_copy_between_two_servers_goes_by_the_hosts_own_ssh_configuration_or_not_at_all() {
        let state = tempfile::tempdir().unwrap();
        let of = |url: &str, variables: &[(&str, &str)]| Ssh::of(&repo(url, variables), state.path()).unwrap().unwrap();
        let (a, b) = (of("sftp:a:/x", &[]), of("sftp:b:/x", &[]));
        let same_place = of("sftp:a:/other", &[]);
        let particular = of("sftp:b:/x", &[(SFTP_HOST_KEY, KEY)]);
        let both = |one: Option<&Ssh>, other: Option<&Ssh>| Ssh::of_both(one, other).map(Option::<&Ssh>::cloned);
        assert_eq!(both(Some(&a), None).unwrap(), Some(a.clone()));
        assert_eq!(both(None, Some(&b)).unwrap(), Some(b.clone()));
        assert_eq!(both(Some(&a), Some(&same_place)).unwrap(), Some(a.clone()));
        assert_eq!(both(Some(&a), Some(&b)).unwrap(), None);
        assert!(both(Some(&a), Some(&particular)).unwrap_err().to_string().contains("only one key file"));
    }
}
