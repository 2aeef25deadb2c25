//! Accounts: making them, changing passwords and roles, closing them; API tokens and the first administrator in the children.
//! The last open administrator can be neither closed nor demoted. A new password ends the account's other sessions.

mod setup;
mod tokens;

pub use setup::{first_admin, setup_link, setup_token_fits};
pub use tokens::{NewToken, create_token, list_tokens, revoke_token};

use crate::{
    credential::{self, CredentialError, Passwords, TokenHash},
    domain::{
        Secret, UserId, check_name,
        job::Actor,
        user::{Role, User, check_password},
    },
    store::{Store, StoreError, WriteTx, audit, sessions, tokens as token_rows, users},
};

/// Why something could not be done with an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name belongs to another account.
    #[error("the name {0:?} is taken: choose another")]
    NameTaken(String),
    /// The name does not do.
    #[error("the name {0}")]
    BadName(&'static str),
    /// The password does not do.
    #[error("the password {0}")]
    BadPassword(&'static str),
    /// The token's label does not do.
    #[error("the label {0}")]
    BadLabel(&'static str),
    /// More than the account may do itself.
    #[error("a token cannot do more than its account, which is {0}")]
    RoleTooHigh(Role),
    /// The end of a token lies in the past or too far away.
    #[error("the end must lie in the future and within ten years")]
    BadExpiry,
    /// Without this account nobody could administrate.
    #[error("this is the last administrator: make another one first")]
    LastAdmin,
    /// The current password was wrong.
    #[error("the current password is not right")]
    WrongPassword,
    /// No such account.
    #[error("there is no such account")]
    NoSuchUser,
    /// The account is closed.
    #[error("the account is disabled")]
    Disabled,
    /// There are accounts already, or the setup token is not the latest one.
    #[error(
        "this setup link is not valid any more: restart Flotilla for a new one, or log in if there is an account already"
    )]
    SetupClosed,
    /// Passwords or tokens could not be made.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An account that is to be made.
#[derive(Debug)]
pub struct NewAccount {
    /// Log-in name.
    pub name: String,
    /// Password in clear, for a moment.
    pub password: Secret,
    /// What they may do.
    pub role: Role,
}

/// Makes an account.
///
/// # Errors
/// [`AccountError::NameTaken`], [`AccountError::BadName`], [`AccountError::BadPassword`], or a failure.
pub async fn create_user(
    store: &Store,
    passwords: &Passwords,
    actor: Actor,
    new: NewAccount,
) -> Result<User, AccountError> {
    let prepared = prepare(passwords, new).await?;
    store.write(move |tx| insert(tx, &actor, prepared)).await
}

/// An account whose fields are good and whose password is hashed.
struct Prepared {
    name: String,
    role: Role,
    password_hash: String,
    random: u128,
}

async fn prepare(passwords: &Passwords, new: NewAccount) -> Result<Prepared, AccountError> {
    let name = check_name(&new.name).map_err(AccountError::BadName)?;
    check_password(new.password.expose()).map_err(AccountError::BadPassword)?;
    let password_hash = passwords.hash(new.password).await?;
    Ok(Prepared { name, role: new.role, password_hash, random: credential::random_bits()? })
}

fn insert(tx: &mut WriteTx<'_>, actor: &Actor, new: Prepared) -> Result<User, AccountError> {
    let now = tx.now();
    let id = UserId::from_parts(now.unix_ms().unsigned_abs(), new.random);
    let user = User { id, name: new.name, role: new.role, disabled: false, created_at: now };
    users::insert(tx, &user, &new.password_hash).map_err(|e| match e {
        e if e.is_conflict() => AccountError::NameTaken(user.name.clone()),
        e => e.into(),
    })?;
    audit::record(tx, actor, "user.create", &id.to_string(), &format!("{} as {}", user.name, user.role))?;
    Ok(user)
}

/// All accounts, by name.
///
/// # Errors
/// [`StoreError`].
pub async fn list_users(store: &Store) -> Result<Vec<User>, StoreError> {
    store.read(users::list).await
}

/// The account of this name, without regard to case.
///
/// # Errors
/// [`AccountError::NoSuchUser`], or a failure.
pub async fn find_user(store: &Store, name: &str) -> Result<User, AccountError> {
    let name = name.trim().to_owned();
    store.read(move |db| users::find_by_name(db, &name)?.ok_or(AccountError::NoSuchUser)).await
}

/// Sets a password for someone, as an administrator or on the command line. Ends all of the account's sessions.
///
/// # Errors
/// [`AccountError::BadPassword`], [`AccountError::NoSuchUser`], or a failure.
pub async fn set_password(
    store: &Store,
    passwords: &Passwords,
    actor: Actor,
    user: UserId,
    password: Secret,
) -> Result<(), AccountError> {
    replace_password(store, passwords, actor, user, (password, None)).await
}

/// Changes one's own password, who must know the current one. Ends the account's other sessions; `keep` is the one that asks.
///
/// # Errors
/// [`AccountError::WrongPassword`], [`AccountError::BadPassword`], or a failure.
pub async fn change_password(
    store: &Store,
    passwords: &Passwords,
    (actor, user): (Actor, UserId),
    (current, new): (Secret, Secret),
    keep: Option<TokenHash>,
) -> Result<(), AccountError> {
    check_password(new.expose()).map_err(AccountError::BadPassword)?;
    let kept = store.read(move |db| users::password_hash(db, user)).await?;
    if !passwords.verify(current, kept).await? {
        return Err(AccountError::WrongPassword);
    }
    replace_password(store, passwords, actor, user, (new, keep)).await
}

async fn replace_password(
    store: &Store,
    passwords: &Passwords,
    actor: Actor,
    user: UserId,
    (password, keep): (Secret, Option<TokenHash>),
) -> Result<(), AccountError> {
    check_password(password.expose()).map_err(AccountError::BadPassword)?;
    let hash = passwords.hash(password).await?;
    store
        .write(move |tx| {
            users::lookup(tx.db(), user)?.ok_or(AccountError::NoSuchUser)?;
            users::set_password(tx, user, &hash)?;
            sessions::remove_of_user(tx, user, keep)?;
            audit::record(tx, &actor, "user.password", &user.to_string(), "")?;
            Ok(())
        })
        .await
}

/// Changes what someone may do, and whether the account is open; `None` leaves it. Closing ends its sessions and takes its tokens away.
/// Returns the account as it is then.
///
/// # Errors
/// [`AccountError::LastAdmin`], [`AccountError::NoSuchUser`], or a failure.
pub async fn set_standing(
    store: &Store,
    actor: Actor,
    user: UserId,
    role: Option<Role>,
    disabled: Option<bool>,
) -> Result<User, AccountError> {
    store
        .write(move |tx| {
            let before = users::lookup(tx.db(), user)?.ok_or(AccountError::NoSuchUser)?;
            let after = User {
                role: role.unwrap_or(before.role),
                disabled: disabled.unwrap_or(before.disabled),
                ..before.clone()
            };
            let (was, is) = (is_open_admin(&before), is_open_admin(&after));
            if was && !is && !users::another_admin(tx.db(), user)? {
                return Err(AccountError::LastAdmin);
            }
            users::set_standing(tx, user, after.role, after.disabled)?;
            if after.disabled {
                sessions::remove_of_user(tx, user, None)?;
                token_rows::remove_of_user(tx, user)?;
            }
            if before.disabled != after.disabled {
                let action = if after.disabled { "user.disable" } else { "user.enable" };
                audit::record(tx, &actor, action, &user.to_string(), &after.name)?;
            }
            if before.role != after.role {
                let detail = format!("{}: {} to {}", after.name, before.role, after.role);
                audit::record(tx, &actor, "user.role", &user.to_string(), &detail)?;
            }
            Ok(after)
        })
        .await
}

fn is_open_admin(user: &User) -> bool {
    user.role == Role::Admin && !user.disabled
}
