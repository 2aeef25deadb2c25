//! Settings: one's own password, API tokens, and for admins the accounts and the database.

use axum::{http::StatusCode, response::Response};

use crate::{
    domain::{
        TokenId, UserId,
        token::ApiToken,
        user::{Role, User},
    },
    http::{
        HttpError, api, auth,
        extract::{FormFields, Id},
        pages::{
            Ui,
            forms::{self, Reader},
            redraw,
        },
    },
    ops::accounts::{self, NewAccount, NewToken},
    paths::route,
    views::{
        FormState,
        components::Tone,
        format,
        settings::{DatabaseCard, SettingsPage},
    },
};

const ROLES: &str = "viewer, operator or admin";

/// What of the page was typed or made.
#[derive(Default)]
struct Said {
    fresh_token: Option<String>,
    password: FormState,
    token: FormState,
    user: FormState,
}

/// `GET /settings`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn show(ui: Ui) -> Result<Response, HttpError> {
    answer(&ui, StatusCode::OK, Said::default()).await
}

async fn answer(ui: &Ui, status: StatusCode, said: Said) -> Result<Response, HttpError> {
    let admin = ui.user.role == Role::Admin;
    let users = if admin { Some(accounts::list_users(ui.store()).await?) } else { None };
    let tokens = accounts::list_tokens(ui.store(), (!admin).then_some(ui.user.id)).await?;
    let page = SettingsPage {
        me: ui.user.id,
        tokens: tokens.into_iter().map(|token| owned(ui, users.as_deref(), token)).collect(),
        fresh_token: said.fresh_token,
        users,
        database: if admin { Some(database(ui).await?) } else { None },
        password_form: said.password,
        token_form: said.token,
        user_form: said.user,
    };
    ui.show_as(status, &page).await
}

async fn database(ui: &Ui) -> Result<DatabaseCard, HttpError> {
    let status = ui.state.database.status().await?;
    let name = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(DatabaseCard {
        path: status.path.display().to_string(),
        bytes: status.vitals.database_bytes,
        reusable_bytes: status.vitals.reusable_bytes,
        log_bytes: status.log_bytes,
        dir: status.dir.display().to_string(),
        dir_free: status.dir_free,
        copies: status.copies.iter().map(|copy| (name(&copy.path), copy.made_at, copy.bytes)).collect(),
        last: status.last.map(|last| (last.at, last.took_ms, last.error)),
        next_at: status.next_at,
        busy: status.busy,
        trouble: status.trouble,
    })
}

fn owned(ui: &Ui, users: Option<&[User]>, token: ApiToken) -> (ApiToken, String) {
    let named = users.into_iter().flatten().find(|user| user.id == token.user_id);
    let owner = named.map_or_else(|| ui.user.name.to_string(), |user| user.name.clone());
    (token, owner)
}

/// `POST /settings/password`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn change_password(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let (current, new) = (fields.text("current").into(), fields.text("new").into());
    match auth::change_password(&ui.state, &ui.user, current, new).await {
        Ok(()) => {
            Ok(ui.go_saying(route::SETTINGS, Tone::Ok, "Your password is changed; other sessions are logged out."))
        }
        Err(e) => {
            let names = [("current_password", "current"), ("password", "new")];
            let (status, password) = redraw(e, forms::typed(&fields), &names)?;
            answer(&ui, status, Said { password, ..Said::default() }).await
        }
    }
}

/// `POST /settings/tokens`: makes a token and shows it, this once.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create_token(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let made = match new_token(&ui, &fields) {
        Ok(new) => accounts::create_token(ui.store(), ui.actor(), new).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match made {
        Ok((_, secret)) => {
            let said = Said { fresh_token: Some(secret.expose().to_owned()), ..Said::default() };
            answer(&ui, StatusCode::OK, said).await
        }
        Err(e) => {
            let (status, token) = redraw(e, forms::typed(&fields), &[("expires_in_s", "expires_days")])?;
            answer(&ui, status, Said { token, ..Said::default() }).await
        }
    }
}

fn new_token(ui: &Ui, fields: &FormFields) -> Result<NewToken, HttpError> {
    let mut reader = Reader::default();
    let role: Option<Role> = reader.value(fields, "role", ROLES);
    let days: Option<u32> = reader.value(fields, "expires_days", "a whole number of days");
    reader.refuse()?;
    let ttl_s = days.map(|days| i64::from(days) * 86_400);
    let role = role.unwrap_or(Role::Viewer);
    // The account's role is checked by the operation; whoever asks by a token may have less than their account.
    if role > ui.user.role {
        return Err(HttpError::invalid_field("role", format!("must not be more than {}", ui.user.role)));
    }
    Ok(NewToken { user_id: ui.user.id, label: fields.text("label").to_owned(), role: Some(role), ttl_s })
}

/// `POST /settings/tokens/{id}/revoke`: one's own, or anyone's for admins.
///
/// # Errors
/// 404.
pub async fn revoke_token(ui: Ui, Id(id): Id<TokenId>) -> Result<Response, HttpError> {
    let owner = (ui.user.role < Role::Admin).then_some(ui.user.id);
    if !accounts::revoke_token(ui.store(), ui.actor(), id, owner).await? {
        return Err(HttpError::not_found("such token"));
    }
    ui.state.identities.forget_all();
    Ok(ui.go_saying(route::SETTINGS, Tone::Ok, "The token is revoked."))
}

/// `POST /settings/users`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create_user(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let made = match new_account(&fields) {
        Ok(new) => {
            accounts::create_user(ui.store(), &ui.state.passwords, ui.actor(), new).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match made {
        Ok(user) => Ok(ui.go_saying(route::SETTINGS, Tone::Ok, &format!("{} can log in now.", user.name))),
        Err(e) => {
            let (status, user) = redraw(e, forms::typed(&fields), &[])?;
            answer(&ui, status, Said { user, ..Said::default() }).await
        }
    }
}

fn new_account(fields: &FormFields) -> Result<NewAccount, HttpError> {
    let mut reader = Reader::default();
    let role: Option<Role> = reader.needed(fields, "role", ROLES);
    reader.refuse()?;
    let role = role.unwrap_or(Role::Viewer);
    Ok(NewAccount { name: fields.text("name").to_owned(), password: fields.text("password").into(), role })
}

/// `POST /settings/users/{id}/disable`.
///
/// # Errors
/// 404; 409 for the last admin; 422 without the user's name as confirmation.
pub async fn disable_user(ui: Ui, Id(id): Id<UserId>, fields: FormFields) -> Result<Response, HttpError> {
    let users = accounts::list_users(ui.store()).await?;
    let user = users.into_iter().find(|user| user.id == id).ok_or_else(|| HttpError::not_found("such account"))?;
    forms::confirmed(&fields, &user.name)?;
    accounts::set_standing(ui.store(), ui.actor(), id, None, Some(true)).await?;
    ui.state.identities.forget_all();
    Ok(ui.go_saying(route::SETTINGS, Tone::Ok, &format!("{} is logged out and can no longer log in.", user.name)))
}

/// `POST /settings/database/backup`: leads back with what came of it.
///
/// # Errors
/// [`HttpError`] for a failure of the page itself; why no copy was made is said on it.
pub async fn back_up_database(ui: Ui) -> Result<Response, HttpError> {
    Ok(match api::database::back_up(&ui.state, ui.actor()).await {
        Ok(copy) => {
            let news = format!("The database is copied to {}, {}.", copy.path.display(), format::bytes(copy.bytes));
            ui.go_saying(route::SETTINGS_DATABASE, Tone::Ok, &news)
        }
        Err(e) => ui.go_saying(route::SETTINGS_DATABASE, Tone::Bad, &e.problem().detail),
    })
}
