//! Hosts that the configuration file or the environment declares, checked before anything is opened. A host's key is its name in the file or its number in the environment,
//! never its address: two services on one machine are two hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde::Deserialize;

use super::ConfigError;
use crate::domain::{
    FieldError, Secret,
    facet::input::{
        ApiInput, ContainerInput, DeclaredHost, HealthInput, HealthMode, HostInput, RestartInput, SshInput,
    },
};

/// Where PoracleWeb expects its SSH key, where nothing is said.
const PORACLE_KEY: &str = "/app/ssh_key";
/// How PoracleWeb restarts a server, where nothing is said.
const PORACLE_RESTART: &str = "pm2 restart all";
/// What PoracleWeb asks a server for.
const PORACLE_HEALTH: &str = "/api/config/poracleWeb";
/// Numbers that variables may have.
const NUMBERS: std::ops::RangeInclusive<u8> = 1..=99;

/// `[[hosts]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHost {
    name: String,
    tags: Option<Vec<String>>,
    ssh: Option<SshInput>,
    api: Option<RawApi>,
    health: Option<HealthInput>,
    restart: Option<RestartInput>,
    container: Option<ContainerInput>,
    opened: Option<bool>,
}

/// `[hosts.api]`: its secret stands in a file or a variable of its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApi {
    base_url: String,
    public_key: Option<String>,
    secret_key_path: Option<String>,
    secret_key_env: Option<String>,
    #[serde(default)]
    tls_insecure: bool,
}

/// The variables of the process; what they hold is not for logs.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process that are text.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            name.into_string().ok().zip(value.into_string().ok())
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Environment {
    /// What is set to nothing is not set: compose files do that.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// All that is declared: the file's hosts, then the environment's by their numbers.
pub(super) fn declared(file: Vec<RawHost>, environment: &Environment) -> Result<Vec<DeclaredHost>, ConfigError> {
    let variables = &environment.0;
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for (n, raw) in file.into_iter().enumerate() {
        let host = of_file(n, raw, variables)?;
        if !names.insert(host.input.name.clone()) {
            let reason = format!("another host of the file is called {:?} too: names tell them apart", host.input.name);
            return Err(ConfigError::Host { key: format!("hosts[{n}].name"), reason });
        }
        found.push(host);
    }
    for n in NUMBERS {
        found.extend(Numbered { n, variables }.host()?);
    }
    Ok(found)
}

fn wrong(key: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Host { key: key.into(), reason: reason.into() }
}

fn of_file(n: usize, raw: RawHost, variables: &BTreeMap<String, String>) -> Result<DeclaredHost, ConfigError> {
    let RawHost { name, tags, ssh, api, health, restart, container, opened } = raw;
    let at = |field: &str| format!("hosts[{n}].{field}");
    if let Some(ssh) = &ssh {
        if ssh.private_key.is_some() {
            return Err(wrong(
                at("ssh.private_key"),
                "a key does not stand in this file: give key_path, the path of its own",
            ));
        }
        if ssh.key_path.is_none() {
            return Err(wrong(at("ssh.key_path"), "it is missing: the path of the private key's file"));
        }
    }
    let api = api.map(|api| {
        let RawApi { base_url, public_key, secret_key_path, secret_key_env, tls_insecure } = api;
        let secret_key = match (secret_key_path, secret_key_env) {
            (Some(_), Some(_)) => {
                return Err(wrong(at("api.secret_key_env"), "it cannot be used together with secret_key_path"));
            }
            (Some(path), None) => Some(read_secret(&at("api.secret_key_path"), &path)?),
            (None, Some(name)) => {
                let missing = || wrong(at("api.secret_key_env"), format!("the environment has no variable {name}"));
                Some(Secret::from(variables.get(&name).ok_or_else(missing)?.trim()))
            }
            (None, None) => None,
        };
        Ok(ApiInput { base_url, public_key, secret_key, tls_insecure })
    });
    let input = HostInput { name, tags, ssh, api: api.transpose()?, health, restart, container, opened };
    checked(format!("file:{}", input.name.trim()), input, |field| at(field))
}

fn read_secret(key: &str, path: &str) -> Result<Secret, ConfigError> {
    let text = fs::read_to_string(path).map_err(|e| wrong(key, format!("the file {path} can't be read: {e}")))?;
    let secret = Secret::new(text);
    Ok(Secret::from(secret.expose().trim()))
}

fn checked(key: String, input: HostInput, name: impl Fn(&str) -> String) -> Result<DeclaredHost, ConfigError> {
    match input.faults().into_iter().next() {
        Some(FieldError { field, message }) => Err(wrong(name(&field), message)),
        None => Ok(DeclaredHost { key, input }),
    }
}

/// The variables of one number.
struct Numbered<'a> {
    n: u8,
    variables: &'a BTreeMap<String, String>,
}

/// What may stand behind `FLOTILLA_SERVER_n_`, and the field that it is about.
const SUFFIXES: [(&str, &str); 21] = [
    ("NAME", "name"),
    ("TAGS", "tags"),
    ("HOST", "ssh.host"),
    ("SSH_USER", "ssh.user"),
    ("SSH_PORT", "ssh.port"),
    ("SSH_KEY_PATH", "ssh.key_path"),
    ("HOST_KEY", "ssh.host_key"),
    ("API", "api.base_url"),
    ("API_PUBLIC_KEY", "api.public_key"),
    ("API_SECRET_KEY", "api.secret_key"),
    ("API_SECRET_KEY_PATH", "api.secret_key"),
    ("API_TLS_INSECURE", "api.tls_insecure"),
    ("HEALTH_URL", "health.url"),
    ("HEALTH_MODE", "health.mode"),
    ("RESTART_CMD", "restart.command"),
    ("RESTART_PATH", "restart.path"),
    ("RESTART_TIMEOUT", "restart.timeout_s"),
    ("CONTAINER", "container.name"),
    ("CONTAINER_USER", "container.user"),
    ("CONTAINER_CLI", "container.cli"),
    ("OPENED", "opened"),
];
/// Those of them that PoracleWeb knows too; its `GROUP_MAP` is a file of its own, of which Flotilla needs to know nothing.
const PORACLE_SUFFIXES: [&str; 4] = ["NAME", "HOST", "SSH_USER", "RESTART_CMD"];

impl Numbered<'_> {
    fn own(&self, suffix: &str) -> String {
        format!("FLOTILLA_SERVER_{}_{suffix}", self.n)
    }

    fn poracle(&self, suffix: &str) -> String {
        format!("PORACLE_SERVER_{}_{suffix}", self.n)
    }

    /// The variable that is set, and its value.
    fn get(&self, suffix: &str) -> Option<(String, &str)> {
        let alias = PORACLE_SUFFIXES.contains(&suffix).then(|| self.poracle(suffix));
        [Some(self.own(suffix)), alias].into_iter().flatten().find_map(|name| {
            let value = self.variables.get(&name)?.trim();
            Some((name, value))
        })
    }

    fn text(&self, suffix: &str) -> Option<String> {
        self.get(suffix).map(|(_, value)| value.to_owned())
    }

    fn number<T: std::str::FromStr>(&self, suffix: &str) -> Result<Option<T>, ConfigError> {
        let Some((name, value)) = self.get(suffix) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| wrong(name, format!("{value:?} is not a number that fits")))
    }

    fn flag(&self, suffix: &str) -> Result<bool, ConfigError> {
        match self.get(suffix) {
            None => Ok(false),
            Some((name, value)) => match value {
                "true" | "1" | "yes" => Ok(true),
                "false" | "0" | "no" => Ok(false),
                _ => Err(wrong(name, format!("{value:?} is neither true nor false"))),
            },
        }
    }

    /// The host, where the number has an address.
    fn host(&self) -> Result<Option<DeclaredHost>, ConfigError> {
        let (own, theirs) = (self.variables.get(&self.own("HOST")), self.variables.get(&self.poracle("HOST")));
        let of_poracle = match (own, theirs) {
            (None, None) => return Ok(None),
            (Some(own), Some(theirs)) if own != theirs => {
                let reason =
                    format!("{} says something else of the same server: keep one of them", self.poracle("HOST"));
                return Err(wrong(self.own("HOST"), reason));
            }
            (own, _) => own.is_none(),
        };
        self.known()?;
        let usual = if self.n == 1 { "Main".to_owned() } else { format!("Server {}", self.n) };
        let words = |text: String| text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let input = HostInput {
            name: self.text("NAME").unwrap_or(usual),
            tags: self.text("TAGS").map(words),
            ssh: Some(self.ssh(of_poracle)?),
            api: self.api()?,
            health: self.health(of_poracle)?,
            restart: self.restart(of_poracle)?,
            container: self.text("CONTAINER").map(|name| ContainerInput {
                cli: self.text("CONTAINER_CLI"),
                name,
                user: self.text("CONTAINER_USER"),
            }),
            opened: Some(self.flag("OPENED")?),
        };
        checked(format!("env:{}", self.n), input, |field| self.variable_of(field)).map(Some)
    }

    /// Refuses a variable of this number that is not known: a mistyped one must not be ignored.
    fn known(&self) -> Result<(), ConfigError> {
        let prefix = self.own("");
        let unknown = self.variables.keys().find(|name| {
            name.strip_prefix(&prefix).is_some_and(|rest| SUFFIXES.iter().all(|(suffix, _)| *suffix != rest))
        });
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
                Err(wrong(name, format!("it is not known; behind {prefix} may stand {}", known.join(", "))))
            }
        }
    }

    fn ssh(&self, of_poracle: bool) -> Result<SshInput, ConfigError> {
        let shared = |name: &str| self.variables.get(name).map(|path| path.trim().to_owned());
        let key_path = self
            .text("SSH_KEY_PATH")
            .or_else(|| shared("FLOTILLA_SSH_KEY_PATH"))
            .or_else(|| shared("PORACLE_SSH_KEY_PATH"))
            .or_else(|| of_poracle.then(|| PORACLE_KEY.to_owned()));
        let Some(key_path) = key_path else {
            let reason = "it is missing: the path of the private key's file, here or for all in FLOTILLA_SSH_KEY_PATH";
            return Err(wrong(self.own("SSH_KEY_PATH"), reason));
        };
        Ok(SshInput {
            host: self.text("HOST").unwrap_or_default(),
            port: self.number("SSH_PORT")?,
            user: self.text("SSH_USER"),
            key_path: Some(key_path),
            private_key: None,
            container_cli: self.text("CONTAINER_CLI"),
            host_key: self.text("HOST_KEY"),
        })
    }

    fn api(&self) -> Result<Option<ApiInput>, ConfigError> {
        let Some(base_url) = self.text("API") else { return Ok(None) };
        let secret_key = match self.get("API_SECRET_KEY_PATH") {
            Some((name, path)) => Some(read_secret(&name, path)?),
            None => self.get("API_SECRET_KEY").map(|(_, value)| Secret::from(value)),
        };
        let tls_insecure = self.flag("API_TLS_INSECURE")?;
        Ok(Some(ApiInput { base_url, public_key: self.text("API_PUBLIC_KEY"), secret_key, tls_insecure }))
    }

    fn health(&self, of_poracle: bool) -> Result<Option<HealthInput>, ConfigError> {
        let mode = match self.get("HEALTH_MODE") {
            None => None,
            Some((_, "any")) => Some(HealthMode::Any),
            Some((_, "status")) => Some(HealthMode::Status),
            Some((name, value)) => return Err(wrong(name, format!("{value:?} is neither any nor status"))),
        };
        if let Some(url) = self.text("HEALTH_URL") {
            return Ok(Some(HealthInput { url, mode: mode.unwrap_or_default(), ..HealthInput::default() }));
        }
        let theirs = self.variables.get(&self.poracle("API")).filter(|_| of_poracle);
        Ok(theirs.map(|api| HealthInput {
            url: format!("{}{PORACLE_HEALTH}", api.trim().trim_end_matches('/')),
            mode: mode.unwrap_or(HealthMode::Any),
            ..HealthInput::default()
        }))
    }

    fn restart(&self, of_poracle: bool) -> Result<Option<RestartInput>, ConfigError> {
        let usual = of_poracle.then(|| PORACLE_RESTART.to_owned());
        let Some(command) = self.text("RESTART_CMD").or(usual) else { return Ok(None) };
        Ok(Some(RestartInput { command, timeout_s: self.number("RESTART_TIMEOUT")?, path: self.text("RESTART_PATH") }))
    }

    /// The variable that a field came from, for words.
    fn variable_of(&self, field: &str) -> String {
        let part = |name: &&(&str, &str)| field == name.1 || field.starts_with(&format!("{}[", name.1));
        let Some((suffix, _)) = SUFFIXES.iter().find(part) else { return self.own("HOST") };
        if *suffix == "HEALTH_URL" && self.get("HEALTH_URL").is_none() {
            return self.poracle("API");
        }
        self.get(suffix).map_or_else(|| self.own(suffix), |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Vec<DeclaredHost>, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        declared(Vec::new(), &variables).map_err(|e| e.to_string())
    }

    fn of_text(text: &str) -> Result<Vec<DeclaredHost>, String> {
        #[derive(Deserialize)]
        struct File {
            hosts: Vec<RawHost>,
        }
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let variables = [("SECRET_OF_WEB".to_owned(), "hush".to_owned())].into_iter().collect();
        declared(file.hosts, &variables).map_err(|e| e.to_string())
    }

    #[test]
    fn poracles_variables_declare_its_servers_with_its_own_defaults() {
        let found = of(&[
            ("PORACLE_SERVER_1_HOST", "10.0.0.1"),
            ("PORACLE_SERVER_1_API", "http://10.0.0.1:4200/"),
            ("PORACLE_SERVER_1_GROUP_MAP", "/x.json"),
            ("PORACLE_SERVER_3_HOST", "10.0.0.1"),
            ("PORACLE_SERVER_3_NAME", "Alerts"),
            ("PORACLE_SERVER_3_SSH_USER", "pokemon"),
            ("PORACLE_SERVER_3_RESTART_CMD", "systemctl restart alerts"),
            ("PORACLE_SERVER_2_NAME", "not there: it has no address"),
        ])
        .unwrap();
        let [main, alerts] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((main.key.as_str(), main.input.name.as_str()), ("env:1", "Main"));
        let ssh = main.input.ssh.as_ref().unwrap();
        assert_eq!((ssh.host.as_str(), ssh.key_path.as_deref(), &ssh.user), ("10.0.0.1", Some(PORACLE_KEY), &None));
        assert_eq!(main.input.restart.as_ref().unwrap().command, PORACLE_RESTART);
        let health = main.input.health.as_ref().unwrap();
        assert_eq!((health.url.as_str(), health.mode), ("http://10.0.0.1:4200/api/config/poracleWeb", HealthMode::Any));
        assert!(main.input.api.is_none());
        assert_eq!((alerts.key.as_str(), alerts.input.name.as_str()), ("env:3", "Alerts"));
        assert_eq!(alerts.input.ssh.as_ref().unwrap().user.as_deref(), Some("pokemon"));
        assert!(alerts.input.health.is_none());
    }

    #[test]
    fn flotillas_own_variables_go_first_and_presume_nothing() {
        let found = of(&[
            ("FLOTILLA_SERVER_2_HOST", "web-2"),
            ("FLOTILLA_SSH_KEY_PATH", "/keys/all"),
            ("PORACLE_SERVER_2_RESTART_CMD", "theirs"),
            ("FLOTILLA_SERVER_2_RESTART_CMD", "ours"),
            ("FLOTILLA_SERVER_2_API", "https://web-2/api"),
            ("FLOTILLA_SERVER_2_API_SECRET_KEY", "hush"),
            ("FLOTILLA_SERVER_2_TAGS", "web, eu"),
            ("FLOTILLA_SERVER_2_NAME", ""),
        ])
        .unwrap();
        let input = &found[0].input;
        assert_eq!(
            (input.name.as_str(), input.tags.as_deref().unwrap()),
            ("Server 2", &["web".into(), "eu".into()][..])
        );
        assert_eq!(input.ssh.as_ref().unwrap().key_path.as_deref(), Some("/keys/all"));
        assert_eq!(input.restart.as_ref().unwrap().command, "ours");
        assert!(input.api.is_some() && input.health.is_none());
        assert!(!format!("{found:?}").contains("hush"));
    }

    #[test]
    fn a_variable_that_does_not_do_stops_the_start_by_its_name() {
        let host = ("FLOTILLA_SERVER_1_HOST", "web");
        let key = ("FLOTILLA_SERVER_1_SSH_KEY_PATH", "/k");
        for (variables, name) in [
            (vec![("FLOTILLA_SERVER_1_HOST", "host; rm"), key], "FLOTILLA_SERVER_1_HOST"),
            (vec![host], "FLOTILLA_SERVER_1_SSH_KEY_PATH"),
            (vec![host, key, ("FLOTILLA_SERVER_1_SSH_PORT", "70000")], "FLOTILLA_SERVER_1_SSH_PORT"),
            (vec![host, key, ("FLOTILLA_SERVER_1_SSHUSER", "x")], "FLOTILLA_SERVER_1_SSHUSER"),
            (vec![host, key, ("FLOTILLA_SERVER_1_HOST_KEY", "MD5:1")], "FLOTILLA_SERVER_1_HOST_KEY"),
            (vec![host, key, ("FLOTILLA_SERVER_1_TAGS", "a$b")], "FLOTILLA_SERVER_1_TAGS"),
            (vec![host, key, ("PORACLE_SERVER_1_HOST", "other")], "FLOTILLA_SERVER_1_HOST"),
            (vec![("PORACLE_SERVER_9_HOST", "w"), ("PORACLE_SERVER_9_API", "x")], "PORACLE_SERVER_9_API"),
            (vec![("PORACLE_SERVER_9_HOST", "w"), ("PORACLE_SERVER_9_SSH_USER", "-l")], "PORACLE_SERVER_9_SSH_USER"),
        ] {
            let error = of(&variables).unwrap_err();
            assert!(error.starts_with(&format!("`{name}` is not valid: ")), "{error}");
        }
    }

    #[test]
    fn the_file_declares_hosts_by_name_with_secrets_elsewhere() {
        let found = of_text(
            "[[hosts]]\nname = \"web\"\ntags = [\"eu\"]\n[hosts.ssh]\nhost = \"10.0.0.1\"\nkey_path = \"/k\"\n\
             [hosts.api]\nbase_url = \"https://web/api\"\nsecret_key_env = \"SECRET_OF_WEB\"\n[hosts.restart]\ncommand = \"x\"",
        )
        .unwrap();
        assert_eq!(found[0].key, "file:web");
        assert_eq!(found[0].input.api.as_ref().unwrap().secret_key.as_ref().unwrap().expose(), "hush");
        for (text, word) in [
            ("[[hosts]]\nname = \"a\"\nsshh = 1", "sshh"),
            ("[[hosts]]\nname = \"a\"\n[hosts.ssh]\nhost = \"h\"\nprivate_key = \"x\"", "hosts[0].ssh.private_key"),
            ("[[hosts]]\nname = \"a\"\n[hosts.ssh]\nhost = \"h\"", "hosts[0].ssh.key_path"),
            ("[[hosts]]\nname = \"a\"\n[[hosts]]\nname = \"a\"", "hosts[1].name"),
            ("[[hosts]]\nname = \"a\"\n[hosts.restart]\ncommand = \"\"", "hosts[0].restart.command"),
            (
                "[[hosts]]\nname = \"a\"\n[hosts.api]\nbase_url = \"https://h\"\nsecret_key_env = \"NONE\"",
                "hosts[0].api.secret_key_env",
            ),
        ] {
            let error = of_text(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
