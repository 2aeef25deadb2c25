//! The page that waits for a download to begin.

use maud::{Markup, html};

use crate::{
    domain::{DumpSpec, job::Job, queue::WaitsFor},
    paths,
    views::{
        Nav, Page, Shell,
        components::{self, job_pill},
        snapshots::filename::visible,
    },
};

/// `/downloads/{id}` while nothing comes yet. The answer asks the browser to look again by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DownloadPage {
    /// The job that brings it.
    pub job: Job,
    /// What it brings.
    pub spec: DumpSpec,
    /// What it waits for, where it is queued behind something.
    pub waits_for: Option<WaitsFor>,
}

impl Page for DownloadPage {
    fn title(&self) -> String {
        "Download".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, _shell: &Shell) -> Markup {
        html! {
            h1 { "Download" }
            section.card.pad.stack aria-label="Download" {
                p.row { code { (visible(&self.spec.path)) } (job_pill(self.job.status)) }
                p role="status" {
                    @match &self.waits_for {
                        Some(waits_for) => { (self.job.host_name) " is to send it. It waits for " (components::waits_for_words(waits_for)) "." },
                        None => { (self.job.host_name) " is asked to send it." },
                    }
                    " This page looks again every few seconds; the download then begins by itself, and this page stays as it is."
                }
                p { a href=(paths::job(self.job.id)) { "How it goes stands on the job's page" } }
            }
        }
    }
}
