//! Facets as people write them, in a request, a form or the configuration, and what of that can be used. Addresses, users and names hold nothing that a shell or a
//! program's options would read as more than a word.

use std::{collections::BTreeSet, path::Path};

use http::Uri;
use serde::Deserialize;

use super::{ApiFacet, RESTART_TIMEOUT_S, Restart, SshFacet};
use crate::domain::{
    Container, FieldError, Secret, check_name, check_tag,
    probe::{Expect, ProbeSpec, Question},
};

/// Longest command that restarts a service, in bytes.
pub const MOST_COMMAND: usize = 4096;
/// Longest path, PATH or address.
const MOST_TEXT: usize = 4096;
/// The program that enters containers, where nothing is said.
pub const CONTAINER_CLI: &str = "docker";

/// SSH access.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshInput {
    /// A name or an address.
    pub host: String,
    /// 22 where absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// As whom; `root` where absent.
    #[serde(default)]
    pub user: Option<String>,
    /// The private key's file on the control plane.
    #[serde(default)]
    pub key_path: Option<String>,
    /// The private key itself, without a passphrase; it is kept sealed. In a change, absent means as it was.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub private_key: Option<Secret>,
    /// By which program its containers are entered: `docker`, `podman` or a path.
    #[serde(default)]
    pub container_cli: Option<String>,
    /// The fingerprint that its host key must have, `SHA256:…`. Where absent, it is confirmed after a first look.
    #[serde(default)]
    pub host_key: Option<String>,
}

/// A management interface.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiInput {
    /// Endpoints are appended to it; `http://` or `https://`.
    pub base_url: String,
    /// Sent as `public_key`.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Sent as `secret_key`; it is kept sealed. In a change, absent means as it was.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub secret_key: Option<Secret>,
    /// Any certificate is taken.
    #[serde(default)]
    pub tls_insecure: bool,
}

/// Which HTTP answer is a healthy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthMode {
    /// Any at all.
    Any,
    /// One with a status of `codes`.
    #[default]
    Status,
    /// One with a status from 200 to 299 and `pattern` in its body.
    Body,
}

/// A host's own health probe.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthInput {
    /// What is asked, by GET.
    pub url: String,
    /// Which answer is a healthy one; `status` where absent.
    #[serde(default)]
    pub mode: HealthMode,
    /// Of the mode `status`; 200 and 204 where absent.
    #[serde(default)]
    pub codes: Option<BTreeSet<u16>>,
    /// Of the mode `body`: a regular expression.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Seconds from one question to the next, 5 to 86400; 60 where absent.
    #[serde(default)]
    pub interval_s: Option<u32>,
    /// Seconds to wait for an answer, 1 to 60 and less than `interval_s`; 5 where absent.
    #[serde(default)]
    pub timeout_s: Option<u32>,
    /// Any certificate is taken.
    #[serde(default)]
    pub tls_insecure: bool,
}

/// How a service is restarted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartInput {
    /// What bash runs there.
    pub command: String,
    /// Seconds, 1 to 3600, until all of it is ended; 30 where absent.
    #[serde(default)]
    pub timeout_s: Option<u32>,
    /// Folders that go before the usual ones on its `PATH`, joined by `:`.
    #[serde(default)]
    pub path: Option<String>,
}

/// The container that commands run in.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerInput {
    /// `docker`, `podman` or the path of such a program; what `ssh.container_cli` says, else `docker`, where absent.
    #[serde(default)]
    pub cli: Option<String>,
    /// Its name or id.
    pub name: String,
    /// As whom; the container's own user where absent.
    #[serde(default)]
    pub user: Option<String>,
}

/// A host that is to be made, reached by other ways than an agent.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostInput {
    /// What people call it.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// SSH access.
    #[serde(default)]
    pub ssh: Option<SshInput>,
    /// Its management interface.
    #[serde(default)]
    pub api: Option<ApiInput>,
    /// Its own health probe.
    #[serde(default)]
    pub health: Option<HealthInput>,
    /// How its service is restarted.
    #[serde(default)]
    pub restart: Option<RestartInput>,
    /// The container that commands run in, unless their step says otherwise.
    #[serde(default)]
    pub container: Option<ContainerInput>,
    /// Whether runbooks that are off by default may run on it.
    #[serde(default)]
    pub opened: Option<bool>,
}

/// A host that the configuration declares.
#[derive(Debug, Clone)]
pub struct DeclaredHost {
    /// Its key there: `env:N` or `file:NAME`. It is what stays where all else changes.
    pub key: String,
    /// What is declared, checked ([`HostInput::faults`]).
    pub input: HostInput,
}

/// What is wrong with an input, all of it at once.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<FieldError>);

impl Faults {
    /// Notes a fault of a field.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// The value; or, noted as the field's fault, nothing.
    pub fn take<T>(&mut self, field: &str, checked: Result<T, impl Into<String>>) -> Option<T> {
        checked.map_err(|message| self.add(field, message)).ok()
    }
}

/// SSH access that can be used, and the private key's text where one was given.
#[derive(Debug, Clone)]
pub struct SshDraft {
    /// Without a key where neither a path nor a text was given.
    pub facet: SshFacet,
    /// Not parsed yet.
    pub private_key: Option<Secret>,
}

/// A management interface that can be used.
#[derive(Debug, Clone)]
pub struct ApiDraft {
    /// Without its secret.
    pub facet: ApiFacet,
    /// Its secret, where one was given.
    pub secret_key: Option<Secret>,
}

impl HostInput {
    /// What is wrong with it; a private key's text is not looked into. Nothing: it can be used.
    #[must_use]
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Faults::default();
        faults.take("name", check_name(&self.name));
        for (n, tag) in self.tags.iter().flatten().enumerate() {
            faults.take(&format!("tags[{n}]"), check_tag(tag));
        }
        let Self { ssh, api, health, restart, container, .. } = self.clone();
        let cli = ssh.as_ref().and_then(|ssh| ssh.container_cli.clone());
        ssh.map(|ssh| ssh.check(&mut faults));
        api.map(|api| api.check(&mut faults));
        health.map(|health| health.check(&mut faults));
        restart.map(|restart| restart.check(&mut faults));
        container.map(|container| container.check(&mut faults, cli.as_deref()));
        faults.0
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl SshInput {
    /// What of it can be used; nothing where `faults` has more after than before.
    pub fn check(self, faults: &mut Faults) -> Option<SshDraft> {
        let before = faults.0.len();
        let address = faults.take("ssh.host", word(&self.host, 253));
        let user = faults.take("ssh.user", word(given(self.user).as_deref().unwrap_or("root"), 64));
        if self.port == Some(0) {
            faults.add("ssh.port", "must be 1 to 65535");
        }
        let key_path = given(self.key_path).and_then(|path| faults.take("ssh.key_path", absolute(&path)));
        let private_key = self.private_key.filter(|key| !key.expose().trim().is_empty());
        if key_path.is_some() && private_key.is_some() {
            faults.add("ssh.private_key", "can't go with key_path: give the key itself, or the path of its file");
        }
        let host_key = given(self.host_key).and_then(|text| faults.take("ssh.host_key", fingerprint(&text)));
        let container_cli = given(self.container_cli).and_then(|cli| faults.take("ssh.container_cli", program(&cli)));
        if faults.0.len() > before {
            return None;
        }
        let facet = SshFacet {
            address: address?,
            port: self.port.unwrap_or(22),
            user: user?,
            key_path,
            host_key,
            host_key_algorithm: None,
            host_key_declared: false,
            container_cli,
        };
        Some(SshDraft { facet, private_key })
    }
}

impl ApiInput {
    /// What of it can be used; nothing where `faults` has more after than before.
    pub fn check(self, faults: &mut Faults) -> Option<ApiDraft> {
        let before = faults.0.len();
        let base_url = faults.take("api.base_url", base_url(&self.base_url));
        let public_key = given(self.public_key).and_then(|key| faults.take("api.public_key", header(&key)));
        let secret_key = self.secret_key.filter(|key| !key.expose().trim().is_empty());
        if let Some(key) = &secret_key {
            faults.take("api.secret_key", header(key.expose()));
        }
        if faults.0.len() > before {
            return None;
        }
        let facet = ApiFacet { base_url: base_url?, public_key, tls_insecure: self.tls_insecure };
        Some(ApiDraft { facet, secret_key })
    }
}

impl HealthInput {
    /// The probe; nothing where `faults` has more after than before.
    pub fn check(self, faults: &mut Faults) -> Option<ProbeSpec> {
        let before = faults.0.len();
        let url = faults.take("health.url", web_address(&self.url));
        let expect = self.expect(faults);
        let interval_s = self.interval_s.unwrap_or(60);
        if !(5..=86_400).contains(&interval_s) {
            faults.add("health.interval_s", "must be 5 to 86400 seconds");
        }
        let timeout_s = self.timeout_s.unwrap_or(5);
        if !(1..=60).contains(&timeout_s) || timeout_s >= interval_s {
            faults.add("health.timeout_s", "must be 1 to 60 seconds, and less than interval_s");
        }
        if faults.0.len() > before {
            return None;
        }
        let question = Question::Http { url: url?, expect: expect?, tls_insecure: self.tls_insecure };
        Some(ProbeSpec { interval_s, timeout_s, ..ProbeSpec::of(question) })
    }

    fn expect(&self, faults: &mut Faults) -> Option<Expect> {
        if self.codes.is_some() && self.mode != HealthMode::Status {
            faults.add("health.codes", "goes with the mode status only");
        }
        if self.pattern.is_some() && self.mode != HealthMode::Body {
            faults.add("health.pattern", "goes with the mode body only");
        }
        match self.mode {
            HealthMode::Any => Some(Expect::Any),
            HealthMode::Status => {
                let codes = self.codes.clone().unwrap_or_else(|| BTreeSet::from([200, 204]));
                if codes.is_empty() || codes.iter().any(|code| !(100..=599).contains(code)) {
                    faults.add("health.codes", "must name at least one status from 100 to 599");
                }
                Some(Expect::Status { codes })
            }
            HealthMode::Body => {
                let pattern = self.pattern.clone().filter(|pattern| !pattern.is_empty());
                let Some(pattern) = pattern else {
                    faults
                        .add("health.pattern", "is missing: the text, or regular expression, that the body must hold");
                    return None;
                };
                match regex_lite::Regex::new(&pattern) {
                    Ok(_) if pattern.len() <= 1024 => Some(Expect::Body { pattern }),
                    Ok(_) => faults.take("health.pattern", Err("must have at most 1024 bytes")),
                    Err(e) => faults.take("health.pattern", Err(format!("is no regular expression: {e}"))),
                }
            }
        }
    }
}

impl RestartInput {
    /// What of it can be used; nothing where `faults` has more after than before.
    pub fn check(self, faults: &mut Faults) -> Option<Restart> {
        let before = faults.0.len();
        let command = self.command.trim().to_owned();
        if command.is_empty() || command.len() > MOST_COMMAND {
            faults.add("restart.command", format!("must have 1 to {MOST_COMMAND} bytes"));
        } else if command.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            faults.add("restart.command", "must not contain control characters");
        }
        let timeout_s = self.timeout_s.unwrap_or(RESTART_TIMEOUT_S);
        if !(1..=3600).contains(&timeout_s) {
            faults.add("restart.timeout_s", "must be 1 to 3600 seconds");
        }
        let path = given(self.path).and_then(|path| faults.take("restart.path", search_path(&path)));
        (faults.0.len() == before).then_some(Restart { command, timeout_s, path })
    }
}

impl ContainerInput {
    /// What of it can be used; nothing where `faults` has more after than before. `cli` is the host's own word for the program, where it has one.
    pub fn check(self, faults: &mut Faults, cli: Option<&str>) -> Option<Container> {
        let before = faults.0.len();
        let cli = given(self.cli).unwrap_or_else(|| cli.unwrap_or(CONTAINER_CLI).to_owned());
        let cli = faults.take("container.cli", program(&cli));
        let name = faults.take("container.name", word(&self.name, 128));
        let user = given(self.user).and_then(|user| faults.take("container.user", word(&user, 64)));
        if faults.0.len() > before {
            return None;
        }
        Some(Container { cli: cli?, name: name?, user })
    }
}

/// A name, address or user: `[A-Za-z0-9._:-]`, not beginning with a dash, for it would be taken for an option.
///
/// # Errors
/// What would be right.
pub fn word(text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    if text.is_empty() || text.len() > most || text.starts_with('-') || !text.chars().all(fits) {
        return Err(format!(
            "must have 1 to {most} letters, digits or the characters . _ : - and must not begin with a dash"
        ));
    }
    Ok(text.to_owned())
}

/// A file or folder on the control plane.
///
/// # Errors
/// What would be right.
pub fn absolute(text: &str) -> Result<String, &'static str> {
    if !Path::new(text).is_absolute() || text.len() > MOST_TEXT || text.chars().any(char::is_control) {
        return Err("must be an absolute path, such as /etc/flotilla/ssh_key");
    }
    Ok(text.to_owned())
}

/// `SHA256:` and 43 characters.
///
/// # Errors
/// What would be right, and where it is to be had.
pub fn fingerprint(text: &str) -> Result<String, &'static str> {
    let text = text.trim().trim_end_matches('=');
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    match text.strip_prefix("SHA256:") {
        Some(digest) if digest.len() == 43 && digest.chars().all(is_base64) => Ok(text.to_owned()),
        _ => Err(
            "must be SHA256: and 43 characters; on the host, ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub prints it",
        ),
    }
}

fn program(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let plain = text.len() <= 255 && !text.starts_with('-') && text.chars().all(fits);
    if plain && (matches!(text, "docker" | "podman") || text.starts_with('/')) {
        return Ok(text.to_owned());
    }
    Err("must be docker, podman or the absolute path of such a program")
}

fn search_path(text: &str) -> Result<String, &'static str> {
    let plain = text.len() <= MOST_TEXT && !text.chars().any(char::is_control);
    if plain && text.split(':').all(|folder| folder.starts_with('/')) {
        return Ok(text.to_owned());
    }
    Err("must be absolute folders joined by colons, such as /opt/node/bin:/usr/local/bin")
}

fn header(text: &str) -> Result<String, &'static str> {
    if text.len() > MOST_TEXT || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("must have only the characters that can stand in a request's head: ASCII, no line breaks");
    }
    Ok(text.to_owned())
}

/// An HTTP address, perhaps with a query.
fn web_address(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must be of the form https://HOST/PATH or http://HOST:PORT/PATH, without a user or a fragment";
    let text = text.trim();
    let uri: Uri = text.parse().map_err(|_| WRONG)?;
    let authority = uri.authority().ok_or(WRONG)?.as_str();
    let spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().unwrap_or_default();
    if !spoken || host.is_empty() || authority.contains('@') || text.contains('#') || text.len() > MOST_TEXT {
        return Err(WRONG);
    }
    Ok(text.to_owned())
}

fn base_url(text: &str) -> Result<String, &'static str> {
    let url = web_address(text)?;
    if url.contains('?') {
        return Err("must have no query: endpoints are appended to it");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(check: impl FnOnce(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_is_no_plain_word_is_no_address_and_no_user() {
        for wrong in ["", " ", "host; rm", "-oProxyCommand=x", "a b", "a$b", "a/b", "a@b", "a\nb", "ü"] {
            assert!(word(wrong, 253).is_err(), "{wrong:?}");
        }
        for right in ["web-1", "10.0.0.1", "fd00::1", "web_1.example.org"] {
            assert_eq!(word(right, 253).as_deref(), Ok(right));
        }
        let wrong = SshInput {
            host: "host; rm".into(),
            user: Some("-l".into()),
            port: Some(0),
            key_path: Some("id".into()),
            host_key: Some("MD5:x".into()),
            container_cli: Some("sh -c".into()),
            private_key: None,
        };
        assert_eq!(
            fields(|faults| assert!(wrong.check(faults).is_none())),
            ["ssh.host", "ssh.user", "ssh.port", "ssh.key_path", "ssh.host_key", "ssh.container_cli"]
        );
    }

    #[test]
    fn an_address_of_the_web_is_whole_and_names_no_user() {
        for wrong in ["h", "ftp://h", "https://", "https://u:p@h/", "https://h/#x", "https://h/a b", "//h"] {
            assert!(web_address(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(web_address("http://10.0.0.1:4200/api?x=1").as_deref(), Ok("http://10.0.0.1:4200/api?x=1"));
        assert_eq!(base_url("https://h/api/").as_deref(), Ok("https://h/api"));
        assert!(base_url("https://h/api?x=1").is_err());
    }

    #[test]
    fn a_restart_has_a_bounded_command_time_and_path() {
        let restart = |command: &str, timeout_s, path: Option<&str>| {
            let input = RestartInput { command: command.into(), timeout_s, path: path.map(Into::into) };
            fields(|faults| drop(input.check(faults)))
        };
        assert!(restart("pm2 restart all", None, Some("/opt/node/bin:/usr/local/bin")).is_empty());
        assert_eq!(restart("", Some(0), Some("bin")), ["restart.command", "restart.timeout_s", "restart.path"]);
        assert_eq!(restart("a\0b", Some(3601), None), ["restart.command", "restart.timeout_s"]);
        assert_eq!(restart(&"x".repeat(MOST_COMMAND + 1), None, None), ["restart.command"]);
    }

    #[test]
    fn a_probe_says_which_answer_is_a_healthy_one() {
        let health = |mode, codes: Option<&[u16]>, pattern: Option<&str>| HealthInput {
            url: "https://h/".into(),
            mode,
            codes: codes.map(|codes| codes.iter().copied().collect()),
            pattern: pattern.map(Into::into),
            ..HealthInput::default()
        };
        assert!(fields(|faults| drop(health(HealthMode::Any, None, None).check(faults))).is_empty());
        for (wrong, field) in [
            (health(HealthMode::Status, Some(&[]), None), "health.codes"),
            (health(HealthMode::Status, Some(&[600]), None), "health.codes"),
            (health(HealthMode::Any, Some(&[200]), None), "health.codes"),
            (health(HealthMode::Body, None, None), "health.pattern"),
            (health(HealthMode::Body, None, Some("(")), "health.pattern"),
            (
                HealthInput { interval_s: Some(4), timeout_s: Some(1), ..health(HealthMode::Any, None, None) },
                "health.interval_s",
            ),
            (HealthInput { timeout_s: Some(61), ..health(HealthMode::Any, None, None) }, "health.timeout_s"),
        ] {
            assert_eq!(fields(|faults| assert!(wrong.check(faults).is_none())), [field]);
        }
    }
}
