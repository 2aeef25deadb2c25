//! Sites: adding them by hand or out of a discovery, changing, removing. A slug belongs to one site; a place on a host is added once.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    credential::random_bits,
    domain::{
        Container, HostId, JobId, JobKind, RunbookResult, SiteId, Timestamp, check_name,
        host::slug_of,
        job::{Actor, Job},
        site::{self, Card, DISCOVER, FoundSite, MOST_FACTS, OTHER, Site, SiteFields},
    },
    ops::error::{OpError, Problems},
    store::{Db, Store, StoreError, WriteTx, audit, hosts, jobs, sites},
};

/// A site as a person describes it.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteInput {
    /// Where it lives.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// What people call it.
    pub name: String,
    /// Unique among sites; made of the name where absent.
    pub slug: Option<String>,
    /// A word for what it is, such as `wordpress`; `other` where absent.
    pub kind: Option<String>,
    /// Its folder, on the host or in its container.
    pub root: Option<String>,
    /// Where visitors find it.
    pub url: Option<String>,
    /// The container that it lives in: `cli`, `name`, `user`.
    #[schema(value_type = Option<Object>)]
    pub container: Option<Container>,
    /// More that templates may name, such as `db_name`. Never a secret.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// Changes of a site: what is absent stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SitePatch {
    /// What people call it.
    pub name: Option<String>,
    /// Unique among sites.
    pub slug: Option<String>,
    /// A word for what it is.
    pub kind: Option<String>,
    /// Its folder. Null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub root: Option<Option<String>>,
    /// Where visitors find it. Null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub url: Option<Option<String>>,
    /// The container that it lives in. Null: on the host itself.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub container: Option<Option<Container>>,
    /// Facts: all of them.
    pub facts: Option<BTreeMap<String, String>>,
}

/// Tells "left out" from "null" in a change.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What came of adding what a discovery found.
#[derive(Debug, Clone, Default)]
pub struct Added {
    /// New ones.
    pub created: Vec<Site>,
    /// Those that were there already, by the key that they were found under.
    pub skipped: Vec<(String, SiteId)>,
    /// Those that could not be added, by key, and why.
    pub errors: Vec<(String, String)>,
}

fn new_id(now: Timestamp) -> Result<SiteId, OpError> {
    Ok(SiteId::from_parts(now.unix_ms().unsigned_abs(), random_bits()?))
}

/// Adds a site.
///
/// # Errors
/// [`OpError::Invalid`] with all that is wrong with it, [`OpError::Conflict`] where the slug is taken, or a failure.
pub async fn create(store: &Store, actor: Actor, input: SiteInput) -> Result<Site, OpError> {
    let SiteInput { host_id, name, slug, kind, root, url, container, facts } = input;
    let slug = slug.unwrap_or_else(|| slug_of(&name));
    let kind = kind.unwrap_or_else(|| OTHER.to_owned());
    let fields = SiteFields { name, slug, kind, root, url, container, facts };
    store
        .write(move |tx| {
            let mut problems = Problems::default();
            match hosts::lookup(tx.db(), host_id)? {
                None => problems.add("host_id", "names no host: GET /api/hosts lists them, POST /api/hosts makes one"),
                Some(host) if host.own => {
                    problems.add("host_id", "is the control plane's own agent, which has no sites");
                }
                Some(_) => {}
            }
            let fields = checked(problems, fields)?;
            let id = new_id(tx.now())?;
            let made = sites::insert(tx, id, host_id, &fields).map_err(|e| taken(e, &fields.slug))?;
            audit::record(tx, &actor, "site.create", &id.to_string(), &fields.name)?;
            Ok(made)
        })
        .await
}

/// Changes a site.
///
/// # Errors
/// As [`create`]; [`OpError::NotFound`].
pub async fn update(store: &Store, actor: Actor, id: SiteId, patch: SitePatch) -> Result<Site, OpError> {
    store
        .write(move |tx| {
            let before = sites::lookup(tx.db(), id)?.ok_or(OpError::NotFound("site"))?.fields;
            let fields = SiteFields {
                name: patch.name.unwrap_or(before.name),
                slug: patch.slug.unwrap_or(before.slug),
                kind: patch.kind.unwrap_or(before.kind),
                root: patch.root.unwrap_or(before.root),
                url: patch.url.unwrap_or(before.url),
                container: patch.container.unwrap_or(before.container),
                facts: patch.facts.unwrap_or(before.facts),
            };
            let fields = checked(Problems::default(), fields)?;
            sites::update(tx, id, &fields).map_err(|e| taken(e, &fields.slug))?;
            audit::record(tx, &actor, "site.update", &id.to_string(), &fields.name)?;
            sites::lookup(tx.db(), id)?.ok_or(OpError::NotFound("site"))
        })
        .await
}

/// Removes a site from Flotilla; what it is on its host stays as it is.
///
/// # Errors
/// [`OpError::NotFound`], or a failure.
pub async fn remove(store: &Store, actor: Actor, id: SiteId) -> Result<Site, OpError> {
    store
        .write(move |tx| {
            let site = sites::lookup(tx.db(), id)?.ok_or(OpError::NotFound("site"))?;
            sites::remove(tx, id)?;
            audit::record(tx, &actor, "site.remove", &id.to_string(), &site.fields.name)?;
            Ok(site)
        })
        .await
}

/// Adds what a discovery found: those of `keys`, or all. Those that are there already are skipped, and one that can't be added keeps no other from it.
///
/// # Errors
/// [`OpError::NotFound`] for the job, [`OpError::Conflict`] where it is no discovery, is not over, or found nothing that could be told; or a failure.
pub async fn from_discovery(
    store: &Store,
    actor: Actor,
    job: JobId,
    keys: Option<Vec<String>>,
) -> Result<Added, OpError> {
    store
        .write(move |tx| {
            let job = jobs::lookup(tx.db(), job)?.ok_or(OpError::NotFound("job"))?;
            let host = job.seat();
            if hosts::lookup(tx.db(), host)?.is_none() {
                return Err(OpError::Conflict(format!(
                    "{} was removed: there is nothing to add sites to",
                    job.shown_host()
                )));
            }
            let found = found_by(&job)?;
            let mut added = Added::default();
            for key in keys.iter().flatten().filter(|key| found.iter().all(|site| site.key != **key)) {
                added.errors.push((key.clone(), "this discovery found no such site: run it again".to_owned()));
            }
            let wanted = |site: &FoundSite| keys.as_ref().is_none_or(|keys| keys.contains(&site.key));
            for site in found.into_iter().filter(wanted) {
                add(tx, &actor, host, site, &mut added)?;
            }
            Ok(added)
        })
        .await
}

fn add(tx: &mut WriteTx<'_>, actor: &Actor, host: HostId, found: FoundSite, added: &mut Added) -> Result<(), OpError> {
    if let Some(there) = sites::list(tx.db(), Some(host), None, 0)?.into_iter().find(|site| found.is(&site.fields)) {
        added.skipped.push((found.key, there.id));
        return Ok(());
    }
    let slug = free_slug(tx.db(), &found.fields.slug)?;
    match checked(Problems::default(), SiteFields { slug, ..found.fields }) {
        Ok(fields) => {
            let id = new_id(tx.now())?;
            let made = sites::insert(tx, id, host, &fields).map_err(|e| taken(e, &fields.slug))?;
            audit::record(tx, actor, "site.create", &id.to_string(), &format!("{}, by discovery", fields.name))?;
            added.created.push(made);
        }
        Err(error) => added.errors.push((found.key, error.to_string())),
    }
    Ok(())
}

/// What a discovery found, each with the site that it is by now.
///
/// # Errors
/// [`StoreError`].
pub fn cards(db: &Db, job: &Job) -> Result<Vec<Card>, StoreError> {
    let Ok(found) = found_by(job) else { return Ok(Vec::new()) };
    let there = sites::list(db, Some(job.seat()), None, 0)?;
    let card = |found: FoundSite| Card { site: there.iter().find(|site| found.is(&site.fields)).cloned(), found };
    Ok(found.into_iter().map(card).collect())
}

fn found_by(job: &Job) -> Result<Vec<FoundSite>, OpError> {
    if !matches!(&job.kind, JobKind::Runbook(name) if name == DISCOVER) {
        return Err(OpError::Conflict(format!("the job is a {}, not a {DISCOVER}: sites are found by that", job.kind)));
    }
    if !job.status.is_final() {
        return Err(OpError::Conflict("the discovery is not over yet: wait for its end".to_owned()));
    }
    let result = job.summary.clone().and_then(|summary| serde_json::from_value::<RunbookResult>(summary).ok());
    Ok(result.map(|result| site::found(&result.results)).unwrap_or_default())
}

/// `wanted`, or with the first number behind it that nobody has.
fn free_slug(db: &Db, wanted: &str) -> Result<String, StoreError> {
    let mut slug = wanted.to_owned();
    let mut number = 1_u32;
    while sites::of_slug(db, &slug)?.is_some() {
        number += 1;
        let stem: String = wanted.chars().take(44).collect();
        slug = format!("{}-{number}", stem.trim_end_matches('-'));
    }
    Ok(slug)
}

fn taken(error: StoreError, slug: &str) -> OpError {
    if error.is_conflict() {
        OpError::Conflict(format!("another site has the slug {slug} already: choose another one, as `slug`"))
    } else {
        error.into()
    }
}

/// The fields as they are stored, or all that is wrong with them.
fn checked(mut problems: Problems, fields: SiteFields) -> Result<SiteFields, OpError> {
    let empty = |text: &String| !text.trim().is_empty();
    let name = problems.take("name", check_name(&fields.name));
    let slug = problems.take("slug", site::check_slug(&fields.slug));
    let kind = problems.take("kind", site::check_kind(&fields.kind));
    let root = fields.root.filter(empty).map(|root| problems.take("root", site::check_root(&root)));
    let url = fields.url.filter(empty).map(|url| problems.take("url", site::check_url(&url)));
    let container = fields.container.map(|container| problems.take("container", site::check_container(container)));
    if fields.facts.len() > MOST_FACTS {
        problems.add("facts", format!("must hold at most {MOST_FACTS}"));
    }
    for (name, value) in &fields.facts {
        problems.take("facts", site::check_fact(name, value));
    }
    problems.refuse()?;
    Ok(SiteFields {
        name: name.unwrap_or_default(),
        slug: slug.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        root: root.flatten(),
        url: url.flatten(),
        container: container.flatten(),
        facts: fields.facts,
    })
}
