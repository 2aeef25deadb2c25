//! Asks each probe when its time has come, and keeps what comes back. The store says what is due, so that a restart forgets nothing: what was due meanwhile is asked
//! then. A second's clock starts at most [`AT_ONCE`] questions, so that many that are overdue do not go out in one burst.

use std::{collections::HashSet, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    clock::SharedClock,
    domain::{
        Timestamp,
        alert::{AlertKind, Notice},
        probe::{Probe, ProbeState},
    },
    lifecycle::Tasks,
    ops::OpError,
    paths,
    probe::Prober,
    store::{
        Store, WriteTx, alerts, hosts,
        probes::{self, Asked},
    },
};

/// Questions under way at most: 256 a second, so 15,360 probes a minute while they answer quickly; beyond that they are asked less often than they should.
const AT_ONCE: usize = 256;
/// Between two looks for what is due.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks whether the clock was set back.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// Keeps answers with what follows from them: states, and alerts where they change. Gives the probes as they are then, without those that are gone.
///
/// # Errors
/// [`OpError`].
pub fn record(tx: &mut WriteTx<'_>, answers: &[Asked]) -> Result<Vec<Probe>, OpError> {
    let mut noted = Vec::with_capacity(answers.len());
    for asked in answers {
        let Some((probe, before)) = probes::note(tx, asked)? else { continue };
        if probe.state != before {
            tell(tx, &probe)?;
        }
        noted.push(probe);
    }
    Ok(noted)
}

fn tell(tx: &mut WriteTx<'_>, probe: &Probe) -> Result<(), OpError> {
    let subject = probe.id.to_string();
    if probe.state != ProbeState::Unhealthy {
        alerts::clear(tx, AlertKind::Unhealthy, &subject)?;
        return Ok(());
    }
    let host = hosts::lookup(tx.db(), probe.host_id)?.map_or_else(|| "a host".to_owned(), |host| host.name);
    let mut said = probe.detail.chars();
    let said: String = said.next().into_iter().flat_map(char::to_uppercase).chain(said).collect();
    let notice = Notice {
        kind: AlertKind::Unhealthy,
        subject,
        title: format!("{} on {host} is not healthy", probe.name),
        detail: format!("{said}. Asked: {}.", probe.spec.question.target()),
        link: paths::host_tab(probe.host_id, "health"),
    };
    alerts::raise(tx, &notice)?;
    Ok(())
}

/// Asks what is due, until the house stops.
pub struct Watcher {
    store: Store,
    clock: SharedClock,
    prober: Prober,
    tasks: Tasks,
    /// Numbers of the probes that are asked, or whose answer is not kept yet.
    asking: HashSet<i64>,
    /// What came and is not kept yet; never more than are asked.
    answers: Vec<Asked>,
}

impl Watcher {
    /// One that has asked nothing yet.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, prober: Prober, tasks: Tasks) -> Self {
        Self { store, clock, prober, tasks, asking: HashSet::new(), answers: Vec::new() }
    }

    /// Asks until the house stops; what came by then is kept.
    pub async fn run(mut self) {
        let (tell, mut told) = mpsc::channel(AT_ONCE);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_back = None;
        loop {
            tokio::select! {
                () = self.tasks.stopping() => break,
                Some(asked) = told.recv() => {
                    self.answers.push(asked);
                    continue;
                }
                _ = tick.tick() => {}
            }
            self.keep().await;
            if looked_back.is_none_or(|at: Instant| at.elapsed() >= LOOK_BACK) {
                looked_back = Some(Instant::now());
                if let Err(error) = self.store.write(probes::bring_forward).await {
                    tracing::warn!(%error, "probes of a clock that was set back could not be brought forward");
                }
            }
            self.ask(&tell).await;
        }
        while let Ok(asked) = told.try_recv() {
            self.answers.push(asked);
        }
        self.keep().await;
    }

    /// Keeps what came, in one write. Where that fails it stays for the next time, and its probes are not asked again until then.
    async fn keep(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let answers = self.answers.clone();
        match self.store.write(move |tx| record(tx, &answers)).await {
            Ok(_) => {
                for asked in self.answers.drain(..) {
                    self.asking.remove(&asked.no);
                }
            }
            Err(error) => {
                tracing::warn!(%error, answers = self.answers.len(), "answers of probes could not be kept; trying again");
            }
        }
    }

    /// Asks what is due, as far as there is room.
    async fn ask(&mut self, tell: &mpsc::Sender<Asked>) {
        let room = AT_ONCE.saturating_sub(self.asking.len());
        if room == 0 {
            return;
        }
        let (now, most) = (self.clock.now(), AT_ONCE);
        let due = match self.store.read(move |db| probes::due(db, now, 2 * most)).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "what is due for probes could not be read; trying again");
                return;
            }
        };
        for probe in due.into_iter().filter(|probe| !self.asking.contains(&probe.no)).take(room).collect::<Vec<_>>() {
            self.asking.insert(probe.no);
            self.tasks.spawn(one(self.prober.clone(), self.clock.clone(), self.tasks.clone(), probe, tell.clone()));
        }
    }
}

/// Asks one; the house's stop lets it go unanswered.
async fn one(prober: Prober, clock: SharedClock, tasks: Tasks, probe: Probe, tell: mpsc::Sender<Asked>) {
    let within = Duration::from_secs(probe.spec.timeout_s.into());
    let asking = prober.ask(&probe.spec.question, within, clock.now());
    let answer = tokio::select! {
        () = tasks.stopping() => return,
        answer = asking => answer,
    };
    let at: Timestamp = clock.now();
    // There is room for one of each that is asked; the receiver goes only with the house.
    tell.send(Asked { no: probe.no, question: probe.spec.question, at, answer }).await.ok();
}
