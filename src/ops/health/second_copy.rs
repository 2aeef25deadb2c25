//! Second copies: a backup that made its snapshot is followed by a copy of it, where its plan names a second repository. What is due stands in the store from the
//! transaction that takes the backup's end in; each copy takes along all that is missing, one that fails is tried again by itself, ever later and not for ever,
//! and an alert stands as long as one that failed is not made up for.

use crate::{
    credential,
    domain::{
        BackupSummary, CopyResult, CopySpec, HostId, JobKind, JobStatus, Operation, PlanId, Selection, Timestamp,
        alert::{AlertKind, Notice},
        job::{Actor, Job},
        queue::QueueRules,
        second_copy::Course,
    },
    hub::Hub,
    ops::{
        OpError,
        health::orders::pick_host,
        jobs::{Desk, Work, place},
    },
    paths,
    store::{Db, WriteTx, alerts, hosts, plans, second_copies},
};

/// Snapshots in one copy at most: the rest follows in the next. Bounds the order's frame.
const AT_ONCE: u32 = 500;
/// Courses that one look orders copies on at most: the rest has its turn in the next.
const COURSES: u32 = 50;
/// Rows that one look drops at most.
const DROPPED: u32 = 1000;

/// Whoever orders copies.
pub(super) struct Copier<'a, 'tx> {
    pub(super) tx: &'a mut WriteTx<'tx>,
    pub(super) rules: QueueRules,
    pub(super) hub: &'a Hub,
}

impl Copier<'_, '_> {
    /// What an ended job means for second copies.
    ///
    /// # Errors
    /// [`OpError`] for a failure of the store or the system.
    pub(super) fn take(&mut self, job: &Job) -> Result<(), OpError> {
        match job.kind {
            JobKind::Backup => self.backed_up(job),
            JobKind::Copy => self.copied(job),
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, job: &Job) -> Result<(), OpError> {
        let Some((snapshot, plan)) = made(job).zip(job.plan_id) else { return Ok(()) };
        let Some(plan) = plans::lookup(self.tx.db(), plan)? else { return Ok(()) };
        // A plan that was pointed elsewhere since: what is copied is where it was made.
        let (Some((to, _)), Some(from)) = (plan.second_repo, job.repo_id) else { return Ok(()) };
        if to == from {
            return Ok(());
        }
        let course = Course { plan: plan.id, host: job.host_id, from, to };
        second_copies::owe(self.tx, &course, &snapshot)?;
        self.order(&course)
    }

    fn copied(&mut self, job: &Job) -> Result<(), OpError> {
        let (Some(Operation::Copy(spec)), Some(from)) = (&job.input.operation, job.repo_id) else { return Ok(()) };
        let courses = second_copies::courses_of(self.tx.db(), job.id)?;
        let whole = spec.of == Selection::default();
        let good = is_there(job);
        let plans = if good && (whole || !spec.snapshots.is_empty()) {
            let until = job.started_at.unwrap_or(job.created_at);
            second_copies::settle(self.tx, (from, spec.to), &spec.snapshots, until)?
        } else if good {
            // Of some hosts, tags or paths: which snapshots those were is not known here.
            Vec::new()
        } else {
            let said = job.error.clone().unwrap_or_else(|| format!("the copy is {}", job.status));
            // Who cancelled it does not want it now; but a host that goes takes its orders along, and there may be others.
            let again = job.status != JobStatus::Cancelled || self.living(job.host_id)?.is_none();
            second_copies::failed(self.tx, job.id, &said, again)?
        };
        // What came meanwhile goes at once, and where it goes well, what did not fit in. What failed waits for its own time.
        for course in courses {
            if good || second_copies::is_due(self.tx.db(), &course, self.tx.now())? {
                self.order(&course)?;
            }
        }
        plans.into_iter().try_for_each(|plan| self.judge(plan))
    }

    /// Orders a copy of all that is missing on a course, unless one is under way.
    fn order(&mut self, course: &Course) -> Result<(), OpError> {
        let snapshots = second_copies::missing(self.tx.db(), course, AT_ONCE)?;
        if snapshots.is_empty() {
            return Ok(());
        }
        let host = match self.living(course.host)? {
            Some(host) => Some(host),
            None => pick_host(self.tx.db(), self.hub, course.from)?,
        };
        let Some(host) = host else {
            return self.refused(course, "its host is gone, and no other one that can reach the repository is online");
        };
        let spec = CopySpec { to: course.to, snapshots: snapshots.clone(), of: Selection::default() };
        let work =
            Work { plan: Some(course.plan), ..Work::of(host, JobKind::Copy, course.from, Some(Operation::Copy(spec))) };
        match place(self.tx, self.rules, &Actor::system(), work, credential::random_bits()?) {
            Ok(job) => Ok(second_copies::begin(self.tx, course, &snapshots, job)?),
            Err(error @ (OpError::NotFound(_) | OpError::Conflict(_))) => self.refused(course, &error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// The host, if its agent can still do anything.
    fn living(&self, host: HostId) -> Result<Option<HostId>, OpError> {
        Ok(hosts::lookup(self.tx.db(), host)?.filter(|host| host.revoked_at.is_none()).map(|host| host.id))
    }

    fn refused(&mut self, course: &Course, why: &str) -> Result<(), OpError> {
        second_copies::refused(self.tx, course, why)?;
        self.judge(course.plan)
    }

    /// Raises the alert of a plan that is behind, or clears it where nothing is.
    fn judge(&mut self, plan: PlanId) -> Result<(), OpError> {
        let subject = plan.to_string();
        match second_copies::behind(self.tx.db(), plan)? {
            Some(behind) => {
                let (title, detail) = (behind.happened(), behind.why());
                let notice = Notice { kind: AlertKind::CopyBehind, subject, title, detail, link: paths::plan(plan) };
                alerts::raise(self.tx, &notice)?;
            }
            None => {
                alerts::clear(self.tx, AlertKind::CopyBehind, &subject)?;
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, now: Timestamp, pointless: &[i64]) -> Result<(), OpError> {
        let mut touched = Vec::new();
        for no in pointless {
            touched.extend(second_copies::drop_one(self.tx, *no)?);
        }
        for job in second_copies::stranded(self.tx.db())? {
            touched.extend(second_copies::failed(
                self.tx,
                job,
                "its host went away and never said how it ended",
                true,
            )?);
        }
        for course in second_copies::due(self.tx.db(), now, COURSES)? {
            touched.push(course.plan);
            self.order(&course)?;
        }
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().try_for_each(|plan| self.judge(plan))
    }
}

/// Orders the copies whose time has come, and drops what is not to be copied any more. Called every minute or so; may be late or repeated without harm.
///
/// # Errors
/// [`OpError`]; nothing was done then.
pub(super) async fn catch_up(desk: &Desk, now: Timestamp) -> Result<(), OpError> {
    // Looked through beside the writer: there may be many.
    let look = |db: &Db| second_copies::any(db)?.then(|| second_copies::pointless(db, DROPPED)).transpose();
    let Some(pointless) = desk.store.read(look).await? else { return Ok(()) };
    let (hub, rules) = (desk.hub.clone(), desk.rules);
    desk.store.write(move |tx| Copier { tx, rules, hub: &hub }.catch_up(now, &pointless)).await
}

/// Whether what a copy was to copy is in the second repository. A warning with figures says that there was nothing to copy any more; one without, that it was
/// not looked at: copying once more costs a look.
fn is_there(job: &Job) -> bool {
    let counted = || job.summary.clone().is_some_and(|summary| serde_json::from_value::<CopyResult>(summary).is_ok());
    match job.status {
        JobStatus::Succeeded => true,
        JobStatus::Warning => counted(),
        _ => false,
    }
}

/// The snapshot that a backup made.
fn made(job: &Job) -> Option<String> {
    let whole = job.kind == JobKind::Backup && matches!(job.status, JobStatus::Succeeded | JobStatus::Warning);
    let dry = matches!(&job.input.operation, Some(Operation::Backup(spec)) if spec.dry_run);
    if !whole || dry {
        return None;
    }
    let summary: BackupSummary = serde_json::from_value(job.summary.clone()?).ok()?;
    summary.snapshot_id
}
