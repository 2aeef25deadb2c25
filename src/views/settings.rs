//! Settings: one's own password, API tokens, and for admins the accounts and the database.

mod database;

pub use database::DatabaseCard;

use maud::{Markup, html};

use crate::{
    domain::{
        Timestamp, UserId,
        token::ApiToken,
        user::{MIN_PASSWORD, Role, User},
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::{self, Confirm, Tone},
        form::{Field, Form},
        format,
    },
};

/// `/settings`. POST targets and their fields, `csrf` apart:
/// - `/settings/password`: `current`, `new`
/// - `/settings/tokens`: `label`, `role`, `expires_days` (empty for never)
/// - `/settings/tokens/{id}/revoke`: none
/// - `/settings/users` (admins): `name`, `password`, `role`
/// - `/settings/users/{id}/disable` (admins): `confirm` (the user's name)
/// - `/settings/database/backup` (admins): none
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsPage {
    /// The viewer's own id: one cannot close one's own account.
    pub me: UserId,
    /// The tokens to be seen: one's own, or all for an admin, with the owner's name.
    pub tokens: Vec<(ApiToken, String)>,
    /// The token that was just made: its only showing.
    pub fresh_token: Option<String>,
    /// All accounts, for admins.
    pub users: Option<Vec<User>>,
    /// The database and its copies, for admins.
    pub database: Option<DatabaseCard>,
    /// What was typed for a new password.
    pub password_form: FormState,
    /// What was typed for a token.
    pub token_form: FormState,
    /// What was typed for an account.
    pub user_form: FormState,
}

impl SettingsPage {
    fn password(&self, shell: &Shell) -> Markup {
        let form = Form::new("password", &self.password_form);
        let hint = format!("At least {MIN_PASSWORD} characters.");
        html! {
            section.card aria-labelledby="password-title" {
                header { h2 #password-title { "Password" } }
                form.pad.stack method="post" action=(route::SETTINGS_PASSWORD) {
                    (shell.csrf_field())
                    // For password managers, which file a password under a name; without a name of its own it is not sent.
                    @if let Some(viewer) = &shell.user {
                        input type="text" autocomplete="username" aria-label="Name" value=(viewer.name) readonly hidden;
                    }
                    (form.errors(&["current", "new"]))
                    .fields {
                        (form.field(&Field::secret("current", "Current password").autocomplete("current-password").required()))
                        (form.field(&Field::secret("new", "New password").hint(&hint).required()))
                    }
                    p { small { "Other sessions of yours are logged out." } }
                    div { button.btn type="submit" { "Change the password" } }
                }
            }
        }
    }

    fn tokens(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="tokens-title" {
                header { h2 #tokens-title { "API tokens" } small { "For scripts: Authorization: Bearer TOKEN" } }
                @if let Some(token) = &self.fresh_token {
                    .pad.stack {
                        p.notice.ok { b { "Your new token. " } "Copy it now: it is shown only this once." }
                        (components::copyable("fresh-token", "New API token", token))
                    }
                }
                @if self.tokens.is_empty() { p.pad.muted { "No tokens." } } @else { (self.token_table(shell)) }
                (self.token_form(shell))
            }
        }
    }

    fn token_table(&self, shell: &Shell) -> Markup {
        html! {
            .scroll { table {
                caption.vh { "API tokens" }
                thead { tr {
                    th scope="col" { "Label" } th.hide-s scope="col" { "Of" } th scope="col" { "Role" }
                    th.hide-s scope="col" { "Last used" } th.hide-s scope="col" { "Ends" } th scope="col" { span.vh { "Actions" } }
                } }
                tbody { @for (token, owner) in &self.tokens { tr {
                    td { b { (token.label) } }
                    td.hide-s { (owner) }
                    td { (token.role) }
                    td.hide-s { (maybe_ago(shell, token.last_used_at, "never")) }
                    td.hide-s { (maybe_ago(shell, token.expires_at, "never")) }
                    td.num { (Confirm {
                        id: format!("revoke-{}", token.id),
                        action: paths::token_revoke(token.id),
                        label: "Revoke",
                        question: format!("Revoke the token {}?", token.label),
                        consequence: "Scripts that use it are refused from now on.".to_owned(),
                        typed: None,
                        needs: Role::Viewer,
                    }.render(shell)) }
                } } }
            } }
        }
    }

    fn token_form(&self, shell: &Shell) -> Markup {
        let form = Form::new("token", &self.token_form);
        let roles = roles(|role| shell.may(role));
        html! {
            form.pad.stack method="post" action=(route::SETTINGS_TOKENS) {
                (shell.csrf_field())
                (form.errors(&["label", "role", "expires_days"]))
                .fields {
                    (form.field(&Field::text("label", "What it is for").placeholder("monitoring").required()))
                    (form.select(&Field::text("role", "May").default("viewer"), &roles))
                    (form.field(&Field::number("expires_days", "Ends after days").default("90").hint("Empty: never.")))
                }
                div { button.btn type="submit" { "Make a token" } }
            }
        }
    }

    fn users(&self, shell: &Shell, users: &[User]) -> Markup {
        let form = Form::new("user", &self.user_form);
        html! {
            section.card aria-labelledby="users-title" {
                header { h2 #users-title { "Users" } }
                .scroll { table {
                    caption.vh { "Users" }
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th.hide-s scope="col" { "Since" } th scope="col" { span.vh { "Actions" } } } }
                    tbody { @for user in users { (self.user_row(shell, user)) } }
                } }
                form.pad.stack method="post" action=(route::SETTINGS_USERS) {
                    (shell.csrf_field())
                    (form.errors(&["name", "password", "role"]))
                    .fields {
                        (form.field(&Field::text("name", "Name").required()))
                        (form.field(&Field::secret("password", "First password").required().hint("They should change it after the first log-in.")))
                        (form.select(&Field::text("role", "May").default("operator"), &roles(|_| true)))
                    }
                    div { button.btn type="submit" { "Add the user" } }
                }
            }
        }
    }

    fn user_row(&self, shell: &Shell, user: &User) -> Markup {
        html! {
            tr {
                td { b { (user.name) } }
                td { (user.role) }
                td.hide-s { (format::moment(user.created_at)) }
                td.num {
                    @if user.disabled { (components::pill(Tone::Idle, "Disabled")) }
                    @else if user.id == self.me { small { "you" } }
                    @else {
                        (Confirm {
                            id: format!("disable-{}", user.id),
                            action: paths::user_disable(user.id),
                            label: "Disable",
                            question: format!("Disable {}?", user.name),
                            consequence: format!("{} is logged out at once, and their API tokens stop working. Their past actions stay on record.", user.name),
                            typed: Some(&user.name),
                            needs: Role::Admin,
                        }.render(shell))
                    }
                }
            }
        }
    }
}

fn maybe_ago(shell: &Shell, at: Option<Timestamp>, none: &str) -> Markup {
    match at {
        Some(at) => format::ago(shell.now, at),
        None => html! { (none) },
    }
}

/// The roles that may be given, with what each means.
fn roles(may: impl Fn(Role) -> bool) -> Vec<(String, String)> {
    [(Role::Viewer, "look (viewer)"), (Role::Operator, "look and run (operator)"), (Role::Admin, "everything (admin)")]
        .into_iter()
        .filter(|(role, _)| may(*role))
        .map(|(role, label)| (role.as_str().to_owned(), label.to_owned()))
        .collect()
}

impl Page for SettingsPage {
    fn title(&self) -> String {
        "Settings".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Settings
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            h1 { "Settings" }
            @if let Some(viewer) = &shell.user { p.muted { "You are " b { (viewer.name) } ", with the role " b { (viewer.role) } "." } }
            (self.password(shell))
            (self.tokens(shell))
            @if let Some(users) = &self.users { (self.users(shell, users)) }
            @if let Some(database) = &self.database { (database.render(shell)) }
        }
    }
}
