//! The hosts of a job and how each is reached: one way to a host for as long as the job lasts.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_proto::{ApiWay, FailureClass, RunbookOrder, StepHost};

use super::{
    container::Inside,
    failure::Failure,
    here::Here,
    remote::{Remote, Unreachable},
};
use crate::runbook::Place;

/// One of them.
struct Host {
    name: String,
    itself: Arc<dyn Remote>,
    within: Option<Arc<dyn Remote>>,
    api: Option<ApiWay>,
}

/// All of them: the job's own, and those that inputs chose.
pub(crate) struct Hosts {
    here: Arc<dyn Remote>,
    own: Host,
    others: BTreeMap<String, Host>,
    /// What a person should know though it works, such as a private key that others can read.
    pub(crate) notes: Vec<String>,
}

impl Hosts {
    /// Those of an order. Connects to none.
    pub(crate) fn of(order: &RunbookOrder) -> Self {
        let here: Arc<dyn Remote> = Arc::new(Here);
        let mut notes = Vec::new();
        let mut host = |host: &StepHost| {
            let itself = if host.here {
                Arc::clone(&here)
            } else {
                let (way, note) = way_to(host);
                notes.extend(note);
                way
            };
            let container = host.container.clone();
            let within =
                container.map(|container| Arc::new(Inside::new(Arc::clone(&itself), container)) as Arc<dyn Remote>);
            Host { name: host.name.clone(), itself, within, api: host.api.clone() }
        };
        let own = host(&order.host);
        let others = order.others.iter().map(|(input, other)| (input.clone(), host(other))).collect();
        Self { own, others, here, notes }
    }

    /// The machine of whoever runs the steps.
    pub(super) fn here(&self) -> &Arc<dyn Remote> {
        &self.here
    }

    fn host(&self, input: Option<&str>) -> Result<&Host, Failure> {
        match input {
            None => Ok(&self.own),
            Some(input) => self.others.get(input).ok_or_else(|| {
                format!("the order does not say how the host of the input {input:?} is reached. Run the job again; if this stays, report it").into()
            }),
        }
    }

    /// Where a command runs.
    pub(super) fn shell(&self, place: Place, on_host: bool, input: Option<&str>) -> Result<Arc<dyn Remote>, Failure> {
        if place == Place::Local {
            return Ok(Arc::clone(&self.here));
        }
        let host = self.host(input)?;
        let within = host.within.as_ref().filter(|_| !on_host);
        Ok(Arc::clone(within.unwrap_or(&host.itself)))
    }

    /// A host's own file system.
    pub(super) fn files(&self, input: Option<&str>) -> Result<Arc<dyn Remote>, Failure> {
        self.host(input).map(|host| Arc::clone(&host.itself))
    }

    /// A host's management interface.
    pub(super) fn api(&self, input: Option<&str>) -> Result<(&str, &ApiWay), Failure> {
        let host = self.host(input)?;
        let api = host.api.as_ref().ok_or_else(|| {
            let why = format!(
                "{} has no management interface: give it a base URL and keys in the host's settings",
                host.name
            );
            Failure::new(FailureClass::NotConfigured, why)
        })?;
        Ok((&host.name, api))
    }
}

/// How a host elsewhere is reached, and what a person should know of that.
fn way_to(host: &StepHost) -> (Arc<dyn Remote>, Option<String>) {
    let Some(way) = &host.ssh else {
        let why = format!(
            "there is no way to {} for commands: its agent does not run this job, and it has no SSH access in the host's settings",
            host.name
        );
        return (Arc::new(Unreachable(Failure::new(FailureClass::NotConfigured, why))), None);
    };
    #[cfg(feature = "ssh")]
    match crate::blocking::blocking(|| super::over_ssh::Host::new(&host.name, way)) {
        Ok((host, warning)) => (Arc::new(host), warning),
        Err(why) => (Arc::new(Unreachable(why)), None),
    }
    #[cfg(not(feature = "ssh"))]
    {
        let _ = way;
        let why = format!("this agent can't reach {} by SSH: it is built without that", host.name);
        (Arc::new(Unreachable(Failure::new(FailureClass::NotConfigured, why))), None)
    }
}
