//! Pages for what cannot be shown: what happened, why, what to do, in that order.

use maud::{Markup, html};

use crate::{
    paths::route,
    views::{Nav, Page, Shell},
};

/// An error as a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemPage {
    /// HTTP status.
    pub status: u16,
    /// What happened: a short sentence.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub what_to_do: String,
}

impl ProblemPage {
    /// 404: `thing` is a word such as `host`, `page`.
    #[must_use]
    pub fn not_found(thing: &str) -> Self {
        Self {
            status: 404,
            what: format!("There is no such {thing}"),
            why: "It was removed, or the link is not whole.".to_owned(),
            what_to_do: "Check the address, or look for it from the dashboard.".to_owned(),
        }
    }

    /// 403: `why` names what was asked and what would be needed.
    #[must_use]
    pub fn forbidden(why: impl Into<String>) -> Self {
        Self {
            status: 403,
            what: "This is not yours to do".to_owned(),
            why: why.into(),
            what_to_do: "Ask an admin to do it, or to give your account another role.".to_owned(),
        }
    }

    /// 403 of a form whose CSRF token is not the session's.
    #[must_use]
    pub fn stale_form() -> Self {
        Self {
            status: 403,
            what: "This form is out of date".to_owned(),
            why: "You logged in again since the page was opened, or the request came from another site. Nothing was changed."
                .to_owned(),
            what_to_do: "Go back, reload the page and send the form again.".to_owned(),
        }
    }

    /// 500: says nothing of the inside; `request` is what to look for in the server's log.
    #[must_use]
    pub fn internal(request: &str) -> Self {
        Self {
            status: 500,
            what: "Flotilla could not do this".to_owned(),
            why: format!("Something failed inside the server. Its log has the cause under request {request}."),
            what_to_do: "Try again. If it stays, look into the server's log. Running backups are not affected."
                .to_owned(),
        }
    }
}

impl Page for ProblemPage {
    fn title(&self) -> String {
        self.what.clone()
    }

    fn nav(&self) -> Nav {
        Nav::None
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            section.card.problem {
                small { "Error " (self.status) }
                h1 { (self.what) }
                p { (self.why) }
                p { (self.what_to_do) }
                p {
                    @if shell.user.is_some() { a.btn.primary href=(route::DASHBOARD) { "To the dashboard" } }
                    @else { a.btn.primary href=(route::LOGIN) { "To the log-in" } }
                }
            }
        }
    }
}
