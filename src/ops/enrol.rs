//! Enrolment: an operator makes a token, a machine redeems it for an identity. A token that is unknown, used up or expired is one and the same refusal.

use crate::{
    credential::{self, CredentialError},
    domain::{
        FieldError, HostId, PROTOCOL, Secret, TokenId, VersionRange, check_name, check_tag, host::Host, job::Actor,
        job::ActorKind, token::EnrolToken,
    },
    store::{
        Store, StoreError, audit, enrolment,
        hosts::{self, Facts, NewHost},
    },
};

/// Seconds that a token lives where nobody says otherwise.
pub const DEFAULT_TTL_S: u64 = 3600;
/// Seconds that a token may live at most.
pub const MAX_TTL_S: u64 = 30 * 86_400;
/// Hosts that one token may enrol at most.
pub const MAX_USES: u32 = 10_000;
/// Tags of one host at most.
pub const MAX_TAGS: usize = 50;

/// Why an enrolment did not happen.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Fields that do not do.
    #[error("some fields are not right")]
    Invalid(Vec<FieldError>),
    /// The token is unknown, used up or expired.
    #[error("the enrolment token is unknown, used up or expired: make a new one under Hosts → Add host")]
    Refused,
    /// Agent and server have no protocol version in common; the text says which to update.
    #[error("{0}")]
    Version(String),
    /// No randomness.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewEnrolToken {
    /// Seconds that it lives; an hour where absent.
    pub ttl_s: Option<u64>,
    /// Hosts that may use it; one where absent.
    pub uses: Option<u32>,
    /// Name for the host; its own where absent.
    pub host_name: Option<String>,
    /// Tags for the host.
    pub tags: Vec<String>,
}

/// Checks tags one by one; the same tag twice is one.
///
/// # Errors
/// A field error for each that does not do.
pub fn check_tags(field: &str, tags: &[String]) -> Result<Vec<String>, Vec<FieldError>> {
    let mut good = Vec::new();
    let mut errors = Vec::new();
    for (n, tag) in tags.iter().enumerate() {
        match check_tag(tag) {
            Ok(tag) if !good.contains(&tag) => good.push(tag),
            Ok(_) => {}
            Err(message) => errors.push(FieldError::new(&format!("{field}[{n}]"), message)),
        }
    }
    if good.len() > MAX_TAGS {
        errors.push(FieldError::new(field, format!("must have at most {MAX_TAGS} tags")));
    }
    if errors.is_empty() { Ok(good) } else { Err(errors) }
}

/// Makes an enrolment token; the secret is never seen again.
///
/// # Errors
/// [`EnrolError::Invalid`], or a failure.
pub async fn create_token(store: &Store, actor: Actor, new: NewEnrolToken) -> Result<(EnrolToken, Secret), EnrolError> {
    let mut errors = Vec::new();
    let ttl = new.ttl_s.unwrap_or(DEFAULT_TTL_S);
    if !(60..=MAX_TTL_S).contains(&ttl) {
        errors.push(FieldError::new("ttl_seconds", format!("must be 60 to {MAX_TTL_S} (30 days)")));
    }
    let uses = new.uses.unwrap_or(1);
    if !(1..=MAX_USES).contains(&uses) {
        errors.push(FieldError::new("uses", format!("must be 1 to {MAX_USES}")));
    }
    let given = new.host_name.filter(|name| !name.trim().is_empty());
    let host_name = given.map(|name| check_name(&name)).transpose().unwrap_or_else(|message| {
        errors.push(FieldError::new("host_name", message));
        None
    });
    let tags = check_tags("tags", &new.tags).unwrap_or_else(|found| {
        errors.extend(found);
        Vec::new()
    });
    if !errors.is_empty() {
        return Err(EnrolError::Invalid(errors));
    }
    let secret = credential::new_token(credential::ENROL_PREFIX)?;
    let (hash, random) = (credential::hash(secret.expose()), credential::random_bits()?);
    let token = store
        .write(move |tx| {
            let now = tx.now();
            let id = TokenId::from_parts(now.unix_ms().unsigned_abs(), random);
            let expires_at = now.plus_s(ttl.cast_signed());
            let token = EnrolToken { id, host_name, tags, uses_left: uses, created_at: now, expires_at };
            enrolment::insert(tx, &token, hash, &actor.name)?;
            audit::record(tx, &actor, "enrolment.create", &id.to_string(), &format!("for {uses} host(s)"))?;
            Ok::<_, StoreError>(token)
        })
        .await?;
    Ok((token, secret))
}

/// What a machine says of itself when it enrols.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// Its name for itself.
    pub hostname: String,
    /// `linux`, `windows`, …
    pub os: String,
    /// `x86_64`, …
    pub arch: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Protocol versions that it speaks, where it says so.
    pub protocol: Option<VersionRange>,
}

/// Redeems a token: makes the host and the agent's own token, which is never seen again.
///
/// # Errors
/// [`EnrolError::Refused`], [`EnrolError::Invalid`], [`EnrolError::Version`], or a failure. The token is not used up then.
pub async fn redeem(store: &Store, token: &str, applicant: Applicant) -> Result<(Host, Secret), EnrolError> {
    let hash = credential::hash(token);
    let secret = credential::new_token(credential::AGENT_PREFIX)?;
    let (token_hash, random) = (credential::hash(secret.expose()), credential::random_bits()?);
    let host = store
        .write(move |tx| {
            // The token first: a stranger learns nothing, not even which fields are checked.
            let token = enrolment::redeem(tx, hash)?.ok_or(EnrolError::Refused)?;
            let facts = check(&applicant)?;
            let id = HostId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            let host = NewHost {
                id,
                name: token.host_name.unwrap_or_else(|| facts.hostname.clone()),
                tags: token.tags,
                token_hash: Some(token_hash),
                enrol_token: Some(token.id),
                facts,
            };
            let host = hosts::insert(tx, &host)?;
            let actor = Actor { kind: ActorKind::Token, id: token.id.to_string(), name: "enrolment token".to_owned() };
            audit::record(tx, &actor, "host.enrol", &id.to_string(), &host.name)?;
            Ok::<_, EnrolError>(host)
        })
        .await?;
    Ok((host, secret))
}

fn check(applicant: &Applicant) -> Result<Facts, EnrolError> {
    if let Some(theirs) = applicant.protocol {
        PROTOCOL.agree(theirs).map_err(|e| EnrolError::Version(e.to_string()))?;
    }
    let mut errors = Vec::new();
    let mut take = |field: &str, text: &str| {
        check_name(text).unwrap_or_else(|message| {
            errors.push(FieldError::new(field, message));
            String::new()
        })
    };
    let facts = Facts {
        os: take("os", &applicant.os),
        arch: take("arch", &applicant.arch),
        hostname: take("hostname", &applicant.hostname),
        agent_version: take("agent_version", &applicant.agent_version),
        restic_version: None,
        boot_id: String::new(),
    };
    if errors.is_empty() { Ok(facts) } else { Err(EnrolError::Invalid(errors)) }
}

/// How far an enrolment token is: its record, and the host that came with it last.
///
/// # Errors
/// [`StoreError`].
pub async fn arrival(store: &Store, id: TokenId) -> Result<Option<(EnrolToken, Option<Host>)>, StoreError> {
    store
        .read(move |db| {
            let Some(token) = enrolment::lookup(db, id)? else { return Ok(None) };
            Ok(Some((token, hosts::newest_by_enrol_token(db, id)?)))
        })
        .await
}

/// The command that enrols a machine.
#[must_use]
pub fn command(public_url: &str, token: &Secret, ca_fingerprint: Option<&str>) -> String {
    let pin = ca_fingerprint.map(|pin| format!(" --ca-fingerprint {pin}")).unwrap_or_default();
    format!("flotilla-agent enroll --server {public_url} --token {}{pin}", token.expose())
}
