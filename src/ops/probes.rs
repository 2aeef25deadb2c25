//! Probes as people handle them: made, changed, removed, asked at once. What they may ask is checked here, and nowhere later: only operators say where the control
//! plane connects to, for it may reach what they can't.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    clock::SharedClock,
    credential,
    domain::{
        HostId, ProbeId, SiteId,
        alert::AlertKind,
        check_name,
        job::Actor,
        probe::{Answer, Probe, ProbeSpec, Question},
    },
    ops::{
        error::{OpError, Problems},
        watch,
    },
    probe::{self, Prober},
    store::{
        Db, Store, StoreError, WriteTx, alerts, audit, hosts,
        probes::{self, Asked},
    },
};

/// Probes of one host at most.
const MOST: usize = 50;

/// A probe that is to be made.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeInput {
    /// The host that it is about.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// The site on it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub site_id: Option<SiteId>,
    /// What people call it.
    pub name: String,
    /// What is asked: `{"type": "http", "url", "expect": {"mode": "any"} | {"mode": "status", "codes": [..]} | {"mode": "body", "pattern"}, "tls_insecure"?}`,
    /// `{"type": "tcp", "address": "host:port"}` or `{"type": "tls", "address", "days"}`.
    #[schema(value_type = Object)]
    pub question: Question,
    /// Seconds from one question to the next, 5 to 86,400; 60 where absent.
    pub interval_s: Option<u32>,
    /// Seconds after which no answer is a bad one, 1 to 60 and less than the interval; 5 where absent.
    pub timeout_s: Option<u32>,
    /// So many of the last `of` answers change the state; 2 where absent.
    pub need: Option<u8>,
    /// Answers that are looked at, 1 to 10; 3 where absent.
    pub of: Option<u8>,
    /// It is asked at all; true where absent.
    pub enabled: Option<bool>,
}

/// A change of a probe: what is absent stays as it was.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbePatch {
    /// What people call it.
    pub name: Option<String>,
    /// What is asked: all of it. What was known before is not held against a new question.
    #[schema(value_type = Option<Object>)]
    pub question: Option<Question>,
    /// Seconds from one question to the next.
    pub interval_s: Option<u32>,
    /// Seconds after which no answer is a bad one.
    pub timeout_s: Option<u32>,
    /// So many of the last `of` answers change the state.
    pub need: Option<u8>,
    /// Answers that are looked at.
    pub of: Option<u8>,
    /// It is asked at all.
    pub enabled: Option<bool>,
}

/// A name and what is asked how often, all of it sound; or all that is not.
///
/// # Errors
/// [`OpError::Invalid`].
pub fn checked(name: &str, spec: &ProbeSpec) -> Result<String, OpError> {
    let mut problems = Problems::default();
    let name = problems.take("name", check_name(name));
    if let Err(error) = probe::check(&spec.question) {
        problems.add(&format!("question.{}", error.field), error.message);
    }
    if !(5..=86_400).contains(&spec.interval_s) {
        problems.add("interval_s", "must be 5 to 86400");
    }
    if !(1..=60).contains(&spec.timeout_s) {
        problems.add("timeout_s", "must be 1 to 60");
    } else if spec.timeout_s >= spec.interval_s {
        problems.add("timeout_s", "must be less than interval_s: one question ends before the next begins");
    }
    if !(1..=10).contains(&spec.of) {
        problems.add("of", "must be 1 to 10");
    }
    if spec.need == 0 || spec.need > spec.of {
        problems.add("need", "must be 1 to as many as `of`");
    }
    problems.refuse()?;
    name.ok_or_else(|| OpError::field("name", "is missing"))
}

/// Makes a probe. It is asked at once.
///
/// # Errors
/// [`OpError::Invalid`], [`OpError::Conflict`] where the host has too many, or a failure.
pub async fn create(store: &Store, actor: Actor, input: ProbeInput) -> Result<Probe, OpError> {
    let ProbeInput { host_id, site_id, name, question, interval_s, timeout_s, need, of, enabled } = input;
    let spec = patched(ProbeSpec::of(question), (interval_s, timeout_s), (need, of), enabled);
    let name = checked(&name, &spec)?;
    let random = credential::random_bits()?;
    store
        .write(move |tx| {
            let host = hosts::lookup(tx.db(), host_id)?;
            let host = host.ok_or_else(|| OpError::field("host_id", "names no host: GET /api/hosts lists them"))?;
            if let Some(site) = site_id
                && !probes::is_site_of(tx.db(), site, host_id)?
            {
                return Err(OpError::field("site_id", format!("names no site of {}", host.name)));
            }
            if probes::list(tx.db(), Some(host_id))?.len() >= MOST {
                return Err(OpError::Conflict(format!(
                    "{} has {MOST} probes, which is the most: remove one first",
                    host.name
                )));
            }
            let id = ProbeId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            probes::insert(tx, id, (host_id, site_id), &name, &spec)?;
            let what = format!("{name} of {}: {}", host.name, spec.question.target());
            audit::record(tx, &actor, "probe.create", &id.to_string(), &what)?;
            found(tx.db(), id)
        })
        .await
}

fn patched(
    mut spec: ProbeSpec,
    (interval_s, timeout_s): (Option<u32>, Option<u32>),
    (need, of): (Option<u8>, Option<u8>),
    enabled: Option<bool>,
) -> ProbeSpec {
    spec.interval_s = interval_s.unwrap_or(spec.interval_s);
    spec.timeout_s = timeout_s.unwrap_or(spec.timeout_s);
    spec.need = need.unwrap_or(spec.need);
    spec.of = of.unwrap_or(spec.of);
    spec.enabled = enabled.unwrap_or(spec.enabled);
    spec
}

fn found(db: &Db, id: ProbeId) -> Result<Probe, OpError> {
    probes::lookup(db, id)?.ok_or(OpError::NotFound("probe"))
}

/// Changes a probe. With another question, or while it is not asked, what was known is no longer held to be so: its state is unknown, and its alert is cleared.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`], or a failure.
pub async fn update(store: &Store, actor: Actor, id: ProbeId, patch: ProbePatch) -> Result<Probe, OpError> {
    store
        .write(move |tx| {
            let probe = found(tx.db(), id)?;
            let ProbePatch { name, question, interval_s, timeout_s, need, of, enabled } = patch;
            let mut spec = probe.spec.clone();
            spec.question = question.unwrap_or(spec.question);
            let spec = patched(spec, (interval_s, timeout_s), (need, of), enabled);
            let name = checked(&name.unwrap_or_else(|| probe.name.clone()), &spec)?;
            probes::update(tx, &probe, &name, &spec)?;
            let after = found(tx.db(), id)?;
            if after.state != probe.state {
                alerts::clear(tx, AlertKind::Unhealthy, &id.to_string())?;
            }
            let what = format!("{name}: {}", spec.question.target());
            audit::record(tx, &actor, "probe.update", &id.to_string(), &what)?;
            Ok(after)
        })
        .await
}

/// Removes a probe; its alert is cleared.
///
/// # Errors
/// [`OpError::NotFound`], or a failure.
pub async fn remove(store: &Store, actor: Actor, id: ProbeId) -> Result<Probe, OpError> {
    store
        .write(move |tx| {
            let probe = found(tx.db(), id)?;
            probes::remove(tx, id)?;
            alerts::clear(tx, AlertKind::Unhealthy, &id.to_string())?;
            audit::record(tx, &actor, "probe.remove", &id.to_string(), &probe.name)?;
            Ok(probe)
        })
        .await
}

/// Clears what the probes of a host that is removed had to say.
///
/// # Errors
/// [`StoreError`].
pub(super) fn let_go(tx: &mut WriteTx<'_>, host: HostId) -> Result<(), StoreError> {
    for probe in probes::list(tx.db(), Some(host))? {
        alerts::clear(tx, AlertKind::Unhealthy, &probe.id.to_string())?;
    }
    Ok(())
}

/// Asks at once, whenever the next time would be, and keeps the answer as any other. Gives it with the probe as it is then.
///
/// # Errors
/// [`OpError::NotFound`], also where it was removed or changed meanwhile, or a failure.
pub async fn check_now(
    (store, clock, prober): (&Store, &SharedClock, &Prober),
    actor: Actor,
    id: ProbeId,
) -> Result<(Probe, Answer), OpError> {
    let probe = store.read(move |db| found(db, id)).await?;
    let within = Duration::from_secs(probe.spec.timeout_s.into());
    let answer = prober.ask(&probe.spec.question, within, clock.now()).await;
    let asked = Asked { no: probe.no, question: probe.spec.question, at: clock.now(), answer: answer.clone() };
    let probe = store
        .write(move |tx| {
            let noted = watch::record(tx, &[asked])?.pop().ok_or(OpError::NotFound("probe"))?;
            audit::record(tx, &actor, "probe.check", &id.to_string(), &noted.name)?;
            Ok::<_, OpError>(noted)
        })
        .await?;
    Ok((probe, answer))
}
