//! One runbook over many hosts: making a wave, stopping it, making another of what is left. What goes on by itself is [`drive`]. A host's job is an order like any
//! other, held against the same rules; what is refused there counts as failed, with its reason.

mod choice;
mod drive;

pub use choice::{Chosen, Selection, chosen};
use choice::{Outlook, outlook};
pub use drive::drive;

use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    credential,
    domain::{
        HostId, WaveId,
        job::Actor,
        user::Role,
        wave::{MOST_HOSTS, PATIENCE_S, Pace, Standing, Stop, Wave, WaveOrder, WaveSpec, secrets_identity},
    },
    ops::{
        error::{OpError, Problems},
        jobs::{Desk, ForMany, JobRequest},
    },
    store::{
        audit, jobs,
        waves::{self, NewWave},
    },
    vault::Vault,
};

/// Seconds that a job of a wave may wait for its host.
const EXPIRIES_S: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 3600;

/// What is to run, where, and how fast.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaveRequest {
    /// A runbook's name; or `steps`, with a JSON array of steps under `params.steps`.
    pub kind: String,
    /// Answers to its inputs, the same for all hosts.
    #[schema(value_type = Option<Object>)]
    pub params: Option<Map<String, Value>>,
    /// On these hosts, in this order. One that can't run it refuses the wave.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostId>,
    /// On hosts that bear one of these tags, by name. One that can't run it is left out.
    #[serde(default)]
    pub tags: Vec<String>,
    /// On all hosts, by name. One that can't run it is left out.
    #[serde(default)]
    pub all: bool,
    /// Leave out those of `hosts` that can't run it, too.
    #[serde(default)]
    pub leave_out: bool,
    /// So many go first and must all end well. 1 where absent; 0 for `restart`.
    pub canary: Option<u32>,
    /// So many at the same time, 1 to 200. 10 where absent; 1 for `restart`.
    pub batch: Option<u32>,
    /// Percent of those begun that fail and so stop the wave, 0 (the first failure) to 100. 20 where absent; 0 for `restart`.
    pub stop_at: Option<u32>,
    /// `given`, as named, or `name`. `given` where absent.
    pub order: Option<WaveOrder>,
    /// Seconds after which a host's job is given up if its agent has not taken it, 60 to 2592000. 600 where absent.
    pub expires_in_s: Option<u64>,
    /// For a runbook that removes or replaces something: the number of hosts in words, such as `12 hosts`.
    pub confirm: Option<String>,
}

impl WaveRequest {
    /// How fast.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let usual = Pace::of(&self.kind);
        Pace {
            canary: self.canary.unwrap_or(usual.canary),
            batch: self.batch.unwrap_or(usual.batch),
            stop_at: self.stop_at.unwrap_or(usual.stop_at),
        }
    }

    fn order(&self) -> JobRequest {
        let expires_in_s = Some(self.expires_in_s.unwrap_or(PATIENCE_S));
        JobRequest { kind: self.kind.clone(), params: self.params.clone(), expires_in_s, ..JobRequest::default() }
    }

    fn selection(&self) -> Selection {
        Selection {
            hosts: self.hosts.clone(),
            tags: self.tags.clone(),
            all: self.all,
            lenient: self.leave_out,
            order: self.order.unwrap_or_default(),
        }
    }
}

/// A wave that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Its id.
    pub id: WaveId,
    /// Over so many hosts.
    pub hosts: usize,
    /// Hosts that were left out, each with why.
    pub left_out: Vec<Chosen>,
}

/// What has to be typed before something is removed or replaced on so many hosts.
#[must_use]
pub fn confirmation(hosts: usize) -> String {
    if hosts == 1 { "1 host".to_owned() } else { format!("{hosts} hosts") }
}

/// What someone must be to order such a wave.
///
/// # Errors
/// [`OpError::Invalid`] for a kind that is none of a runbook's, [`OpError::Conflict`] where its file is broken.
pub async fn role_for(desk: &Desk, request: &WaveRequest) -> Result<Role, OpError> {
    Ok(ForMany::of(desk, request.order()).await?.role())
}

/// Makes a wave. Its first jobs are made a moment later.
///
/// # Errors
/// [`OpError::Invalid`] with all that is wrong: the runbook, the answers, the pace, each host by name; [`OpError::Conflict`] where the runbook's file is broken;
/// or a failure.
pub async fn create(desk: &Desk, actor: Actor, request: WaveRequest) -> Result<Made, OpError> {
    let order = ForMany::of(desk, request.order()).await?;
    let (pace, expires_in_s) = (request.pace(), request.expires_in_s.unwrap_or(PATIENCE_S));
    let mut problems = Problems::default();
    pace.faults().into_iter().for_each(|fault| problems.add(&fault.field, fault.message));
    if !EXPIRIES_S.contains(&expires_in_s) {
        problems.add("expires_in_s", format!("must be {} to {}", EXPIRIES_S.start(), EXPIRIES_S.end()));
    }
    problems.refuse()?;
    let outlook = outlook(desk, &order, request.selection()).await?;
    let plan = Plan { order, pace, expires_in_s, rerun_of: None };
    make(desk, actor, plan, outlook, request.confirm.as_deref()).await
}

/// A wave that only lacks its hosts.
struct Plan {
    order: ForMany,
    pace: Pace,
    expires_in_s: u64,
    rerun_of: Option<WaveId>,
}

async fn make(desk: &Desk, actor: Actor, plan: Plan, outlook: Outlook, confirm: Option<&str>) -> Result<Made, OpError> {
    let Outlook { able, unable, .. } = outlook;
    if able.len() > MOST_HOSTS {
        return Err(OpError::field("hosts", format!("are {}; a wave goes over at most {MOST_HOSTS}", able.len())));
    }
    let words = confirmation(able.len());
    let Plan { order, pace, expires_in_s, rerun_of } = plan;
    if order.destroys() && confirm.map(str::trim) != Some(words.as_str()) {
        let text = format!("must be the number of hosts, {words}: this removes or replaces something on each of them");
        return Err(OpError::field("confirm", text));
    }
    let random = credential::random_bits()?;
    let (title, hash) = (order.runbook().title.clone(), order.runbook().hash.clone());
    let (answers, secrets) = order.answers();
    let names = secrets.keys().cloned().collect();
    let text = order.text().to_owned();
    let spec = WaveSpec { title, hash, text, answers, secrets: names, pace, expires_in_s };
    let (kind, vault) = (order.kind(), desk.vault.clone());
    let hosts: Vec<HostId> = able.iter().map(|chosen| chosen.host.id).collect();
    let count = hosts.len();
    let id = desk
        .store
        .write(move |tx| {
            let id = WaveId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            let detail = format!("{kind} on {}", confirmation(count));
            let secrets = sealed(&vault, id, &secrets)?;
            waves::insert(tx, &NewWave { id, kind, spec, actor: actor.clone(), rerun_of, secrets }, &hosts)?;
            let verb = if rerun_of.is_some() { "wave.rerun" } else { "wave.create" };
            audit::record(tx, &actor, verb, &id.to_string(), &detail)?;
            Ok::<_, OpError>(id)
        })
        .await?;
    Ok(Made { id, hosts: count, left_out: unable })
}

fn sealed(vault: &Vault, id: WaveId, secrets: &Map<String, Value>) -> Result<Option<Vec<u8>>, OpError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let plain = Zeroizing::new(serde_json::to_vec(secrets).map_err(|e| OpError::Conflict(e.to_string()))?);
    Ok(Some(vault.seal(&secrets_identity(id), &plain)?))
}

/// Stops a wave: what it has in work is asked to stop, the rest is not begun. Asking again changes nothing.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where it is over, or a failure.
pub async fn cancel(desk: &Desk, actor: Actor, id: WaveId) -> Result<(), OpError> {
    desk.store
        .write(move |tx| {
            let wave = waves::lookup(tx.db(), id)?.ok_or(OpError::NotFound("wave"))?;
            if wave.status.is_final() {
                return Err(OpError::Conflict("the wave is over already: there is nothing to cancel".to_owned()));
            }
            let who = if actor.name.is_empty() { "Flotilla" } else { &actor.name };
            waves::stop(tx, id, Stop::Cancel, &format!("cancelled by {who}"))?;
            // Also where it was stopped by failures before: what it began then is to end as well.
            for job in waves::open_jobs(tx.db(), id)? {
                jobs::request_cancel(tx, job)?;
            }
            audit::record(tx, &actor, "wave.cancel", &id.to_string(), wave.kind.as_str())?;
            Ok(())
        })
        .await
}

/// What someone must be to order a wave's failed and not started hosts again: what its runbook asks for now, and asked for then.
///
/// # Errors
/// [`OpError::NotFound`], and as [`role_for`].
pub async fn role_again(desk: &Desk, id: WaveId) -> Result<Role, OpError> {
    let (wave, order) = order_again(desk, id, None).await?;
    let then = ForMany::with_text(JobRequest::default(), &wave.spec.text).map(|order| order.role());
    Ok(order.role().max(then.unwrap_or(Role::Admin)))
}

async fn order_again(desk: &Desk, id: WaveId, params: Option<Map<String, Value>>) -> Result<(Wave, ForMany), OpError> {
    let wave = desk.store.read(move |db| waves::lookup(db, id)).await?.ok_or(OpError::NotFound("wave"))?;
    let mut request = drive::order(&wave);
    if let Some(params) = params {
        request.params.get_or_insert_default().extend(params);
    }
    let order = ForMany::again(desk, request, &wave.spec.text).await?;
    Ok((wave, order))
}

/// What is said anew where what is left of a wave is run again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaveAgain {
    /// Answers that take the place of the earlier ones. Those to secret inputs are not kept, and needed again.
    #[schema(value_type = Option<Object>)]
    pub params: Option<Map<String, Value>>,
    /// For a runbook that removes or replaces something: the number of hosts in words, such as `3 hosts`.
    pub confirm: Option<String>,
}

/// A new wave of the hosts that failed, could not begin or were not started; with the runbook as it is now. Hosts that can't run it now are left out.
///
/// # Errors
/// [`OpError::NotFound`]; [`OpError::Conflict`] where the wave goes on, or nothing is left of it; [`OpError::Invalid`] without the confirmation that it needs; or
/// a failure.
pub async fn rerun_unfinished(desk: &Desk, actor: Actor, id: WaveId, again: WaveAgain) -> Result<Made, OpError> {
    let (wave, order) = order_again(desk, id, again.params).await?;
    if !wave.status.is_final() {
        return Err(OpError::Conflict("the wave goes on: wait for its end, or cancel it first".to_owned()));
    }
    let mut problems = Problems::default();
    for name in order.unanswered(&wave.spec.secrets) {
        problems.add(&format!("params.{name}"), "is a secret, and secrets are not kept: give it again");
    }
    problems.refuse()?;
    let left = desk.store.read(move |db| waves::hosts(db, id, 0, u32::MAX)).await?;
    let left: Vec<HostId> = left
        .into_iter()
        .filter(|host| !host.removed && matches!(host.standing(), Standing::Failed | Standing::NotStarted))
        .map(|host| host.host_id)
        .collect();
    if left.is_empty() {
        let text = "nothing is left of the wave: its hosts ended well, or were removed since";
        return Err(OpError::Conflict(text.to_owned()));
    }
    let outlook = outlook(desk, &order, Selection { hosts: left, lenient: true, ..Selection::default() }).await?;
    let plan = Plan { order, pace: wave.spec.pace, expires_in_s: wave.spec.expires_in_s, rerun_of: Some(id) };
    make(desk, actor, plan, outlook, again.confirm.as_deref()).await
}
