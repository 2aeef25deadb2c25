//! What runs on a host by itself, whether its agent knows of it, and what the agent says is wrong.

use maud::{Markup, html};

use crate::{
    domain::{host::HostStatus, schedule::Side},
    paths::route,
    views::{
        Shell,
        components::{self, Tone},
        format,
        host::{HostPage, HostSchedule},
        schedules::cron_of,
    },
};

impl HostPage {
    /// What the agent says is wrong right now.
    pub(super) fn troubles(&self) -> Markup {
        let troubles = self.vitals.as_ref().map_or(&[][..], |vitals| vitals.troubles.as_slice());
        html! {
            @for trouble in troubles {
                .notice.warn { p { b { "The agent says: " } (format::sentence(&trouble.message)) } }
            }
        }
    }

    pub(super) fn schedules_card(&self, shell: &Shell) -> Markup {
        html! {
            @if !self.schedules.is_empty() || self.drift().is_some() {
                section.card aria-labelledby="schedules-title" {
                    header { h2 #schedules-title { "Schedules" } a href=(route::SCHEDULES) { "All schedules" } }
                    @if let Some(drift) = self.drift() { p.notice.flat.warn { (drift) } }
                    ul.list { @for schedule in &self.schedules { (item(shell, schedule)) } }
                }
            }
        }
    }

    /// Whether the agent follows other schedules than it is to, in words.
    fn drift(&self) -> Option<String> {
        let (wanted, acked) = self.schedule_versions;
        if wanted == acked {
            return None;
        }
        let has = if acked == 0 || acked > wanted {
            "This host does not have its schedules yet".to_owned()
        } else {
            format!("This host still follows version {acked} of {wanted} of its schedules")
        };
        Some(match self.status {
            HostStatus::Online => {
                format!("{has}; the new ones are on their way, and its agent has not confirmed them.")
            }
            _ => format!("{has}; it gets the new ones when it connects."),
        })
    }
}

fn item(shell: &Shell, schedule: &HostSchedule) -> Markup {
    html! {
        li {
            .grow {
                b { (schedule.name) }
                p { (format::sentence_case(&schedule.schedule.in_words())) }
                small { (cron_of(&schedule.schedule)) @if schedule.side == Side::Server { " · started by this server" } }
                @if let Some(reason) = &schedule.rejected { p.bad-text { "The agent cannot follow it: " (reason) } }
                @if let Some(reason) = &schedule.unarmed { p.bad-text { "It does not run while this server is away: " (reason) } }
            }
            @match schedule.fires_at {
                Some(at) => span { (format::ago(shell.now, at)) small.line { (format::in_zone(at, &schedule.schedule.timezone)) } },
                None => (components::pill(Tone::Idle, "Paused")),
            }
        }
    }
}
