//! Pages of runbooks: all of them, one with its form and what it would do, steps that are pasted, and what a host offers.

mod book;
mod choosing;
pub mod inputs;
mod list;
mod offers;
mod preview;
mod run;
mod steps;

use maud::{Markup, html};

pub use book::{Earlier, RunbookPage};
pub use choosing::{Chooser, HostOffer};
pub use list::RunbooksPage;
pub use offers::{Offered, OffersTab};
pub use preview::{PreviewStep, RunPreview};
pub use steps::{FIELD as STEPS_FIELD, StepsPage};

use crate::{
    domain::Way,
    runbook::{Role, Runbook, Scope},
};

/// How an order goes, in words.
#[must_use]
pub fn by(way: Way) -> &'static str {
    match way {
        Way::Agent => "by agent",
        Way::Api => "by its management interface",
        Way::Ssh => "by SSH",
    }
}

/// What is to be known of a runbook before one opens it.
fn badges(book: &Runbook) -> Markup {
    let ways: Vec<&str> = book.transports.iter().map(|way| by(*way)).collect();
    html! {
        span.chips {
            span.tag { (ways.join(", ")) }
            @if book.destructive { span.tag.bad-text { "removes or replaces" } }
            @if book.role == Role::Admin { span.tag { "admins only" } }
            @if book.opt_in { span.tag { "off by default" } }
            @if book.scope == Scope::Site { span.tag { "about a site" } }
            @if let Some(version) = &book.version { span.tag { "version " (version) } }
        }
    }
}
