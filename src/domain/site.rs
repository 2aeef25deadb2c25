//! Sites: what lives on a host, found by the runbook `discover` or named by a person. A site never holds a secret: facts whose names speak of one are refused, addresses
//! lose who logs in.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::{Container, HostId, SiteId, Timestamp, host::slug_of};

/// Most facts of a site.
pub const MOST_FACTS: usize = 40;
/// The runbook whose results name sites.
pub const DISCOVER: &str = "discover";
/// The kind of what no detector knows.
pub const OTHER: &str = "other";

/// Names that facts can't have, for templates know the site's own fields by them.
const OWN: [&str; 8] = ["id", "name", "slug", "kind", "root", "url", "container", "host"];
/// Parts of names that speak of secrets.
const SECRET: [&str; 9] = ["pass", "pwd", "secret", "token", "salt", "credential", "private", "api_key", "apikey"];
/// Folders that many sites have, and that name none of them.
const NAMELESS: [&str; 12] =
    ["html", "htdocs", "public", "public_html", "www", "web", "app", "site", "current", "src", "httpdocs", "wordpress"];

/// What is said of a site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteFields {
    /// What people call it.
    pub name: String,
    /// Unique among sites: `[a-z0-9-]`.
    pub slug: String,
    /// The detector that found it, or [`OTHER`].
    pub kind: String,
    /// Its folder, on the host or in its container.
    pub root: Option<String>,
    /// Where visitors find it.
    pub url: Option<String>,
    /// The container that it lives in; `None`: where the host's commands run.
    pub container: Option<Container>,
    /// More that templates may name, such as `db_name`.
    pub facts: BTreeMap<String, String>,
}

/// A site as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Identity.
    pub id: SiteId,
    /// Where it lives.
    pub host_id: HostId,
    /// That host's name, for people.
    pub host_name: String,
    /// What is said of it.
    pub fields: SiteFields,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Site {
    /// What templates may name of it, as `site.name`: its own fields and its facts.
    #[must_use]
    pub fn named(&self) -> BTreeMap<String, String> {
        let fields = &self.fields;
        let mut all = fields.facts.clone();
        let own = [
            ("name", Some(&fields.name)),
            ("slug", Some(&fields.slug)),
            ("kind", Some(&fields.kind)),
            ("root", fields.root.as_ref()),
            ("url", fields.url.as_ref()),
            ("container", fields.container.as_ref().map(|container| &container.name)),
        ];
        all.extend(own.map(|(name, value)| (name.to_owned(), value.cloned().unwrap_or_default())));
        all
    }
}

/// A site that a look at a host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSite {
    /// Tells it from the others of the same look: container and folder, or address.
    pub key: String,
    /// What it would be; the slug is not made sure to be free.
    pub fields: SiteFields,
    /// The file that told.
    pub file: String,
}

impl FoundSite {
    /// Whether that site is this one: the same place on the same host.
    #[must_use]
    pub fn is(&self, site: &SiteFields) -> bool {
        key(site) == self.key
    }
}

/// A site that a discovery found, and the one that it is, where it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What was found.
    pub found: FoundSite,
    /// As which it is there.
    pub site: Option<Site>,
}

/// Where a site is on its host, as a text.
fn key(site: &SiteFields) -> String {
    let place = site.container.as_ref().map_or("", |container| container.name.as_str());
    format!("{place}:{}", site.root.as_deref().or(site.url.as_deref()).unwrap_or_default())
}

/// The sites among a discovery's results. What does not do is left out: the words come from files of strangers.
#[must_use]
pub fn found(results: &Map<String, Value>) -> Vec<FoundSite> {
    let mut all: Vec<FoundSite> = Vec::new();
    for site in results.get("sites").and_then(Value::as_array).into_iter().flatten().filter_map(read) {
        if all.iter().all(|other| other.key != site.key) {
            all.push(site);
        }
    }
    all
}

fn read(value: &Value) -> Option<FoundSite> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let container = value.get("container").filter(|container| !container.is_null());
    let container = container.map(|container| Container {
        cli: container.get("cli").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name: container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        user: None,
    });
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in value.get("facts").and_then(Value::as_object).into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            _ => continue,
        };
        facts.insert(name.clone(), text);
    }
    let (title, url) = (facts.remove("name"), facts.remove("url"));
    facts.retain(|name, value| check_fact(name, value).is_ok());
    let root = Some(text("root")).filter(|root| !root.is_empty());
    let root = root.map(|root| check_root(&root)).transpose().ok()?;
    let url = url.and_then(|url| check_url(&url).ok());
    if root.is_none() && url.is_none() {
        return None;
    }
    let mut fields = SiteFields {
        name: String::new(),
        slug: String::new(),
        kind: check_kind(&text("kind")).ok()?,
        root,
        url,
        container: container.map(check_container).transpose().ok()?,
        facts: facts.into_iter().take(MOST_FACTS).collect(),
    };
    fields.name = title.and_then(|title| crate::domain::check_name(&title).ok()).unwrap_or_else(|| name_of(&fields));
    fields.slug = slug_of(&fields.name);
    Some(FoundSite { key: key(&fields), fields, file: text("file") })
}

/// A name for what says none: its address, its container, the folder that tells most.
fn name_of(fields: &SiteFields) -> String {
    let host = fields.url.as_deref().and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
    let host = host.and_then(|rest| rest.split(['/', ':']).next()).filter(|host| !host.is_empty());
    if let Some(host) = host {
        return host.chars().take(100).collect();
    }
    let folders = fields.root.as_deref().unwrap_or_default().rsplit('/');
    let telling = folders.into_iter().find(|part| !part.is_empty() && !NAMELESS.contains(part) && *part != "var");
    let name = match (&fields.container, telling) {
        (Some(container), _) => container.name.as_str(),
        (None, Some(folder)) => folder,
        (None, None) => fields.kind.as_str(),
    };
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    crate::domain::check_name(&name).unwrap_or_else(|_| fields.kind.clone())
}

/// A slug that a person gave.
///
/// # Errors
/// What is wrong with it.
pub fn check_slug(text: &str) -> Result<String, String> {
    let good = (1..=50).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-');
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to 50 of a-z, 0-9 and -, such as {}", slug_of(text)))
    }
}

/// A kind.
///
/// # Errors
/// What is wrong with it.
pub fn check_kind(text: &str) -> Result<String, String> {
    let good = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 40
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if good { Ok(text.to_owned()) } else { Err("must be a word of a-z, 0-9 and _, such as wordpress".to_owned()) }
}

/// A folder.
///
/// # Errors
/// What is wrong with it.
pub fn check_root(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err("must be an absolute path without `..`, such as /var/www/shop".to_owned());
    }
    one_line(text, 4096)
}

/// An address for visitors.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(text: &str) -> Result<String, String> {
    let text = one_line(text.trim(), 2000)?;
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if authority.is_empty() || text.contains(' ') {
        return Err("must begin with http:// or https:// and name a host".to_owned());
    }
    if text.contains('@') {
        return Err("must not hold a user or password: leave out what stands before the @".to_owned());
    }
    Ok(text)
}

/// A container.
///
/// # Errors
/// What is wrong with it.
pub fn check_container(container: Container) -> Result<Container, String> {
    // No path: who may describe a site must not choose what is run on its host.
    if !matches!(container.cli.as_str(), "docker" | "podman") {
        return Err("its cli must be docker or podman".to_owned());
    }
    let odd =
        |text: &str| text.is_empty() || text.len() > 200 || text.starts_with('-') || text.chars().any(char::is_control);
    if odd(&container.name) || container.user.as_deref().is_some_and(odd) {
        return Err(
            "its name, and its user where there is one, must be one word that does not begin with a dash".to_owned()
        );
    }
    Ok(container)
}

/// A fact.
///
/// # Errors
/// What is wrong with it.
pub fn check_fact(name: &str, value: &str) -> Result<(), String> {
    if check_kind(name).is_err() {
        return Err(format!("{name:?} can't be a fact's name: a-z, 0-9 and _, such as db_name"));
    }
    if OWN.contains(&name) {
        return Err(format!("{name} is a field of its own"));
    }
    if SECRET.iter().any(|word| name.contains(word)) {
        return Err(format!(
            "{name} sounds like a secret, and a site holds none: give it to the runbook that needs it"
        ));
    }
    if value.starts_with('-') {
        return Err(format!("{name} begins with a dash, and would be taken for an option"));
    }
    one_line(value, 2000).map(drop).map_err(|what| format!("{name} {what}"))
}

fn one_line(text: &str, most: usize) -> Result<String, String> {
    if text.len() > most || text.chars().any(char::is_control) {
        return Err(format!("must be one line of at most {most} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found_in(sites: Value) -> Vec<FoundSite> {
        found(json!({ "sites": sites }).as_object().unwrap())
    }

    #[test]
    fn a_found_site_is_named_by_its_title_its_address_its_container_or_its_folder() {
        let all = found_in(json!([
            {"kind": "laravel", "root": "/srv/a", "facts": {"name": "My Shop", "url": "https://shop.example/x"}},
            {"kind": "wordpress", "root": "/srv/b", "facts": {"url": "https://blog.example:8443/x"}},
            {"kind": "wordpress", "root": "/var/www/html", "container": {"cli": "podman", "name": "blog"}, "facts": {}},
            {"kind": "django", "root": "/srv/crm/current", "facts": {"hosts": ["a", "b"], "db_engine": "mysql"}},
        ]));
        let names: Vec<_> = all.iter().map(|site| (site.fields.name.as_str(), site.fields.slug.as_str())).collect();
        assert_eq!(names, [("My Shop", "my-shop"), ("blog.example", "blog-example"), ("blog", "blog"), ("crm", "crm")]);
        assert_eq!(all[3].fields.facts["hosts"], "a, b");
        assert_eq!((all[2].key.as_str(), all[3].key.as_str()), ("blog:/var/www/html", ":/srv/crm/current"));
    }

    #[test]
    fn what_a_file_of_strangers_says_is_taken_only_where_it_does() {
        let all = found_in(json!([
            {"kind": "x", "root": "relative"},
            {"kind": "<b>", "root": "/a"},
            {"kind": "x", "root": "/a\n/b"},
            {"kind": "x"},
            "x",
            {"kind": "x", "root": "/c", "container": {"cli": "sh", "name": "c"}},
            {"kind": "x", "root": "/d", "facts": {"db_password": "1", "kind": "y", "name": "a\u{202e}b", "url": "https://u:p@h/", "db_name": "a\nb", "n": 1}},
            {"kind": "x", "root": "/d"},
        ]));
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].fields.name.as_str(), &all[0].fields.url), ("d", &None));
        assert!(all[0].fields.facts.is_empty(), "{all:?}");
    }

    #[test]
    fn fields_that_hold_a_secret_or_nothing_that_does_are_refused_with_words() {
        assert!(check_url("https://u:p@h/").unwrap_err().contains("before the @"));
        assert!(["ftp://h", "https://", "https:// x", "x"].iter().all(|url| check_url(url).is_err()));
        assert!(check_root("/a/../b").is_err() && check_root("a").is_err() && check_root("/a").is_ok());
        assert!(
            check_slug("-a").is_err() && check_slug("A b").unwrap_err().ends_with("a-b") && check_slug("a-1").is_ok()
        );
        assert!(check_fact("db_name", "--help").unwrap_err().contains("option"));
        for name in ["db_password", "app_token", "A", "", "root"] {
            assert!(check_fact(name, "x").is_err(), "{name}");
        }
    }
}
