//! A job's page: its live header over its live log.

mod aftermath;
mod header;
mod log;
mod results;
mod under_way;

use maud::{Markup, html};

pub use header::JobHeader;
pub use log::JobLog;
pub(in crate::views) use results::{reading, words};

use crate::views::{Nav, Page, Shell, components};

/// `/jobs/{id}`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// What is known of the job now. POST `/jobs/{id}/cancel` and `/jobs/{id}/rerun` carry `csrf` only.
    pub header: JobHeader,
    /// Its log.
    pub log: JobLog,
}

impl Page for JobPage {
    fn title(&self) -> String {
        let job = &self.header.job;
        let (_, word) = components::outcome(job.status, job.aftermath.as_ref());
        format!("{word} · {} · {}", components::job_name(job), job.shown_host())
    }

    fn nav(&self) -> Nav {
        Nav::Jobs
    }

    fn needs_live_script(&self) -> bool {
        true
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            (self.header.render(shell))
            @if self.header.job.status.is_final() && self.header.job.error.is_none() && results::is_listing(&self.header.job.kind) {
                details { summary { h2 { "Log" } " " small { "mostly records for the server: a line each" } } (self.log.render()) }
            } @else {
                (self.log.render())
            }
        }
    }
}
