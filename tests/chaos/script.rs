//! What is done to the parts in one run: follows from the seed alone. When each fault came stands in the report, for the parts' own pace is not the seed's.

use std::{fmt, time::Duration};

use crate::house::{
    fault_proxy::{Fault, Way},
    random::Random,
};

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// SIGKILL, and a new start so much later.
    KillServer(Duration),
    /// SIGTERM, and a new start so much after its end.
    StopServer(Duration),
    KillAgent(Duration),
    StopAgent(Duration),
    /// SIGKILL to one restic that backs up.
    KillRestic,
    Link(Fault),
    /// No byte of room on the agent's disk, for so long.
    FillAgent(Duration),
    /// No byte of room on the server's disk, for so long.
    FillServer(Duration),
    /// The agent's wall clock is so many seconds off from now on.
    StepClock(i64),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillServer(away) => write!(f, "kill -9 of the server, back after {away:?}"),
            Self::StopServer(away) => write!(f, "SIGTERM to the server, back after {away:?}"),
            Self::KillAgent(away) => write!(f, "kill -9 of the agent, back after {away:?}"),
            Self::StopAgent(away) => write!(f, "SIGTERM to the agent, back after {away:?}"),
            Self::KillRestic => write!(f, "kill -9 of a restic"),
            Self::Link(fault) => write!(f, "connection: {fault:?}"),
            Self::FillAgent(span) => write!(f, "the agent's disk is full for {span:?}"),
            Self::FillServer(span) => write!(f, "the server's disk is full for {span:?}"),
            Self::StepClock(seconds) => write!(f, "the agent's clock is {seconds} s off"),
        }
    }
}

/// One fault, and how long it waits behind the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) what: Break,
}

/// The script of a seed: 34 faults, each kind among them, in any order. `disks`: whether disks can be filled here.
pub(crate) fn script(seed: u64, disks: bool) -> Vec<Step> {
    let random = &mut Random::new(seed);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(Break::KillServer(random.ms(0..700)));
        all.push(Break::KillAgent(random.ms(0..700)));
    }
    for _ in 0..3 {
        all.push(Break::Link(Fault::Cut));
        all.push(Break::Link(Fault::Reset));
        all.push(Break::Link(Fault::Stall(random.ms(200..2000))));
        all.push(Break::Link(Fault::Double(random.ms(200..1500))));
    }
    for way in [Way::Up, Way::Down] {
        all.push(Break::StopServer(random.ms(0..700)));
        all.push(Break::StopAgent(random.ms(0..700)));
        all.push(Break::KillRestic);
        all.push(Break::Link(Fault::HalfOpen(way, random.ms(200..1500))));
        all.push(Break::Link(Fault::Delay(random.ms(5..200), random.ms(300..1500))));
        // Far back, or a little ahead. Not far ahead: restic's clock is not stepped along, and its locks would seem older than it is.
        all.push(Break::StepClock(*random.pick(&[30, -30, -3600, -86_400])));
    }
    if disks {
        all.push(Break::FillServer(random.ms(200..1200)));
        all.push(Break::FillAgent(random.ms(200..1200)));
    }
    random.shuffle(&mut all);
    all.into_iter().map(|what| Step { pause: random.ms(20..400), what }).collect()
}
