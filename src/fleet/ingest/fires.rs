//! Moments that agents report: each becomes one job, ever, in the transaction that answers for it. The agent names the job; the pair of schedule and
//! moment decides, and the store's index holds it. An agent can only speak of schedules of its own host; a foreign one and an unknown one get one
//! answer.
//!
//! Which moments count: those of the schedule's cron. A moment of an older cron counts too while the agent may not have had the change: it came
//! before the change (or within a minute of it), or the agent's acknowledged version is behind. Refusing those would lose a night's backup for an
//! edit; taking them makes at most one more. None counts from the future beyond [`AHEAD_S`] or older than [`KEPT_S`]. What ran alone is recorded
//! whenever its plan or schedule can be named, also where that was disabled or removed meanwhile: it happened.

use flotilla_proto::{KnownJob, ScheduleFire, ScheduleFired};

use crate::{
    credential,
    domain::{
        HostId, JobId, JobKind, PlanId, RepoId, ScheduleId, Timestamp,
        host::Host,
        job::{Actor, ActorKind, JobInput, NewJob},
        schedule::{Entry, derived_id},
    },
    fleet::Fleet,
    ops::{jobs::timeout_s, schedules::list},
    store::{
        Db, StoreError, WriteTx, hosts,
        moments::{self, Placed},
        plans, schedules,
    },
};

/// How far an agent's clock may run ahead.
const AHEAD_S: i64 = 300;
/// How long an agent keeps moments that nobody took.
const KEPT_S: i64 = 31 * 86_400;
/// Within so long of a change the agent cannot have it yet.
const CHANGE_S: i64 = 60;
/// Moments in one transaction.
const BATCH: usize = 128;

/// Takes moments of `host` in their order. Each gets its answer; all of it is on disk then.
pub(in crate::fleet) async fn take(
    fleet: &Fleet,
    host: HostId,
    fires: Vec<ScheduleFire>,
    known: &[KnownJob],
) -> Result<Vec<ScheduleFired>, StoreError> {
    let mut answers = Vec::with_capacity(fires.len());
    let expiry_s = fleet.inner.options.queue_expiry.as_secs().cast_signed();
    let known: Vec<JobId> = known.iter().map(|job| job.job_id).collect();
    for batch in fires.chunks(BATCH) {
        let random = credential::random_bits().map_err(|_| StoreError::Closed)?;
        let (batch, known) = (batch.to_vec(), known.clone());
        let answered = fleet.inner.store.write(move |tx| {
            let Some(host) = hosts::lookup(tx.db(), host)? else { return Ok::<_, StoreError>(Vec::new()) };
            let one = |(n, fire): (u128, ScheduleFire)| {
                let own_id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random.wrapping_add(n));
                // Named among its jobs it runs already, whatever the flag says.
                let alone = fire.alone || fire.job_id.is_some_and(|id| known.contains(&id));
                let (schedule_id, scheduled_at) = (fire.schedule_id, fire.scheduled_at);
                let verdict = decide(tx, &host, &ScheduleFire { alone, ..fire }, own_id, expiry_s)?;
                if let Err(reason) = &verdict {
                    tracing::warn!(host.id = %host.id, schedule.id = %schedule_id, reason, "a moment makes no job");
                }
                let (job_id, reason) = match verdict {
                    Ok(job) => (Some(job), None),
                    Err(reason) => (None, Some(reason)),
                };
                Ok(ScheduleFired { schedule_id, scheduled_at, job_id, reason })
            };
            (0..).zip(batch).map(one).collect()
        });
        answers.extend(answered.await?);
    }
    Ok(answers)
}

/// The job of a moment, or why there is none.
type Verdict = Result<JobId, String>;

fn decide(
    tx: &mut WriteTx<'_>,
    host: &Host,
    fire: &ScheduleFire,
    own_id: JobId,
    expiry_s: i64,
) -> Result<Verdict, StoreError> {
    if let Some((job, of)) = moments::job_of(tx.db(), fire.schedule_id, fire.scheduled_at)? {
        if of != host.id {
            return Ok(Err(unknown()));
        }
        if fire.alone && fire.job_id == Some(job) {
            moments::runs_alone(tx, job, host.id)?;
        }
        return Ok(Ok(job));
    }
    let entry = list::find_of_agent(tx.db(), host, fire.schedule_id)?;
    let work = match (entry, fire.alone) {
        (Some(entry), true) => Work::of(entry),
        (Some(entry), false) => match judge(tx, host, &entry, fire.scheduled_at)? {
            Ok(()) => Work::of(entry),
            Err(reason) => return Ok(Err(reason)),
        },
        (None, false) => return Ok(Err(unknown())),
        (None, true) => match gone(tx.db(), host, fire.schedule_id)? {
            Some(work) => work,
            None => return Ok(Err(unknown())),
        },
    };
    let job = NewJob {
        expires_at: Some(tx.now().plus_s(expiry_s)).filter(|_| !fire.alone),
        ..new_job(host, fire, work, fire.job_id.unwrap_or(own_id))
    };
    Ok(match moments::place(tx, &job)? {
        Placed::New => Ok(job.id),
        Placed::Had(id) => Ok(id),
        Placed::Taken => Err("the job id that the agent chose is another job's; nothing was made".to_owned()),
    })
}

fn unknown() -> String {
    "this host has no such schedule: it was removed, or no longer covers the host".to_owned()
}

/// Whether a moment of an entry counts; else why not.
fn judge(tx: &WriteTx<'_>, host: &Host, entry: &Entry, at: Timestamp) -> Result<Result<(), String>, StoreError> {
    let now = tx.now();
    if host.revoked_at.is_some() {
        return Ok(Err("the host's identity was revoked: it runs nothing".to_owned()));
    }
    if !entry.standing.schedule.enabled {
        return Ok(Err("the schedule is paused".to_owned()));
    }
    if at > now.plus_s(AHEAD_S) {
        return Ok(Err(format!(
            "{at} is in the future of this server, whose clock says {now}: set the host's clock right"
        )));
    }
    if at < now.plus_s(-KEPT_S) {
        return Ok(Err(format!("{at} is more than 31 days ago: too late to be run")));
    }
    let due = entry.standing.schedule.calendar().is_ok_and(|calendar| calendar.is_due_at(at));
    let unaware = at <= entry.standing.since.plus_s(CHANGE_S)
        || hosts::schedule_state(tx.db(), host.id)?.is_some_and(|(_, _, state)| state.acked < state.version);
    Ok(if due || unaware { Ok(()) } else { Err(format!("{at} is no moment of this schedule")) })
}

/// What a moment's job works on.
struct Work {
    name: String,
    plan_id: Option<PlanId>,
    repo_id: Option<RepoId>,
    input: JobInput,
}

impl Work {
    fn of(entry: Entry) -> Self {
        Self { name: entry.name, plan_id: entry.plan_id, repo_id: entry.repo_id, input: entry.input }
    }
}

/// What a schedule ordered that is not the host's any more.
fn gone(db: &Db, host: &Host, id: ScheduleId) -> Result<Option<Work>, StoreError> {
    if let Some(own) = schedules::lookup(db, id)?.filter(|own| own.host_id == host.id && own.kind == JobKind::Backup) {
        let of_plan = match own.plan_id {
            Some(plan) => plans::of_all_times(db)?.into_iter().find(|(id, _, _)| *id == plan).map(|(_, _, repo)| repo),
            None => None,
        };
        let mut entry = Entry::of_own(&own, None);
        entry.repo_id = of_plan.or(entry.repo_id);
        return Ok(Some(Work::of(entry)));
    }
    let plan = plans::of_all_times(db)?.into_iter().find(|(plan, _, _)| derived_id(*plan, host.id) == id);
    Ok(plan.map(|(plan, name, repo)| Work {
        name,
        plan_id: Some(plan),
        repo_id: Some(repo),
        input: JobInput::default(),
    }))
}

fn new_job(host: &Host, fire: &ScheduleFire, work: Work, id: JobId) -> NewJob {
    NewJob {
        about: Default::default(),
        id,
        host_id: host.id,
        kind: JobKind::Backup,
        actor: Actor { kind: ActorKind::Schedule, id: fire.schedule_id.to_string(), name: work.name },
        moment: Some((fire.schedule_id, fire.scheduled_at)),
        ran_alone: fire.alone,
        plan_id: work.plan_id,
        repo_id: work.repo_id,
        input: work.input,
        rerun_of: None,
        timeout_s: timeout_s(&JobKind::Backup),
        expires_at: None,
    }
}
