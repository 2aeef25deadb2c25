//! The pages before the log-in: first administrator, log in.

use maud::{Markup, html};

use crate::{
    domain::user::MIN_PASSWORD,
    paths::route,
    views::{
        FormState, Nav, Page, Shell,
        form::{Field, Form},
    },
};

/// First start. POST `/setup` with `token`, `name`, `password`, `csrf`.
#[derive(Debug, Clone, Default)]
pub struct SetupPage {
    /// The one-time token of the setup link, sent back with the form.
    pub token: String,
    /// What was typed.
    pub form: FormState,
}

impl Page for SetupPage {
    fn title(&self) -> String {
        "Set up".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::None
    }

    fn body(&self, shell: &Shell) -> Markup {
        let form = Form::new("setup", &self.form);
        let hint = format!("At least {MIN_PASSWORD} characters. Length is what counts; a few random words are good.");
        html! {
            section.card.pad.stack {
                h1 { "Welcome. Who runs this Flotilla?" }
                p.muted { "The first account is an admin. More people can be added later." }
                form.stack method="post" action=(route::SETUP) {
                    (shell.csrf_field())
                    input type="hidden" name="token" value=(self.token);
                    (form.errors(&["name", "password"]))
                    (form.field(&Field::text("name", "Name").autocomplete("username").required()))
                    (form.field(&Field::secret("password", "Password").hint(&hint).required()))
                    button.btn.primary type="submit" { "Create the admin account" }
                }
            }
        }
    }
}

/// Log in. POST `/login` with `name`, `password`, `next`, `csrf`.
#[derive(Debug, Clone, Default)]
pub struct LoginPage {
    /// Where to go afterwards: a path of this site, or empty.
    pub next: String,
    /// Seconds to wait after too many attempts.
    pub throttled_s: Option<u64>,
    /// What was typed; a wrong name or password is its general error.
    pub form: FormState,
}

impl Page for LoginPage {
    fn title(&self) -> String {
        "Log in".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::None
    }

    fn body(&self, shell: &Shell) -> Markup {
        let form = Form::new("login", &self.form);
        html! {
            section.card.pad.stack {
                h1 { "Log in" }
                @if let Some(wait) = self.throttled_s {
                    p.notice.warn role="alert" { "Too many attempts. Wait " (wait) " s, then try again. Nothing else is affected." }
                }
                form.stack method="post" action=(route::LOGIN) {
                    (shell.csrf_field())
                    input type="hidden" name="next" value=(self.next);
                    (form.errors(&["name", "password"]))
                    (form.field(&Field::text("name", "Name").autocomplete("username").required()))
                    (form.field(&Field::secret("password", "Password").autocomplete("current-password").required()))
                    button.btn.primary type="submit" { "Log in" }
                }
            }
        }
    }
}
