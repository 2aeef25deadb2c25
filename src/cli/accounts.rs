//! `flotilla user` and `flotilla token`: accounts and API tokens, also while the server runs. Passwords come by standard input only.

use std::io::Read as _;

use anyhow::anyhow;
use clap::Subcommand;

use super::{CliError, DataArgs, database, print};
use crate::{
    credential::Passwords,
    domain::{
        Secret,
        job::Actor,
        user::{Role, User},
    },
    ops::accounts::{self, AccountError, NewAccount, NewToken},
    store::Store,
};

/// Longest password read from standard input, in bytes.
const MAX_PASSWORD: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Make an account
    Add {
        /// Log-in name
        name: String,
        /// What they may do: admin, operator or viewer
        #[arg(long)]
        role: Role,
        /// Read the password from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List accounts
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Set an account's password; ends its sessions
    Passwd {
        /// Log-in name
        name: String,
        /// Read the password from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Close an account; ends its sessions and tokens
    Disable {
        /// Log-in name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make an API token; it is printed once, alone on its line
    Create {
        /// Whose token
        #[arg(long)]
        user: String,
        /// What it is for
        #[arg(long)]
        label: String,
        /// What it may do [default: what its account may do]
        #[arg(long)]
        role: Option<Role>,
        /// How long it lives, such as 90d, 12h [default: for ever]
        #[arg(long, value_parser = parse_span)]
        expires: Option<i64>,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// A span as people write it: a number and one of s, m, h, d, w. In seconds.
fn parse_span(text: &str) -> Result<i64, String> {
    let refused = || format!("{text:?} is not a span of time such as 90d, 12h or 30m");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    let number: i64 = number.parse().map_err(|_| refused())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(refused()),
    };
    number.checked_mul(seconds).filter(|span| *span > 0).ok_or_else(refused)
}

pub(super) async fn user(command: UserCommand) -> Result<(), CliError> {
    match command {
        UserCommand::Add { name, role, password_stdin: _, data } => {
            let store = database::open(&data)?;
            let new = NewAccount { name, password: password()?, role };
            let user = accounts::create_user(&store, &Passwords::new(), Actor::system(), new).await.map_err(refused)?;
            print(&format!("made {} as {}", user.name, user.role))
        }
        UserCommand::List { data } => {
            let store = database::open(&data)?;
            for User { name, role, disabled, created_at, .. } in
                accounts::list_users(&store).await.map_err(CliError::failed)?
            {
                print(&format!("{name}\t{role}\t{}\t{created_at}", if disabled { "disabled" } else { "open" }))?;
            }
            Ok(())
        }
        UserCommand::Passwd { name, password_stdin: _, data } => {
            let store = database::open(&data)?;
            let user = find(&store, &name).await?;
            accounts::set_password(&store, &Passwords::new(), Actor::system(), user.id, password()?)
                .await
                .map_err(refused)?;
            print(&format!("set the password of {}; its sessions have ended", user.name))
        }
        UserCommand::Disable { name, data } => {
            let store = database::open(&data)?;
            let user = find(&store, &name).await?;
            accounts::set_standing(&store, Actor::system(), user.id, None, Some(true)).await.map_err(refused)?;
            print(&format!("closed {}; its sessions and tokens have ended", user.name))
        }
    }
}

pub(super) async fn token(command: TokenCommand) -> Result<(), CliError> {
    let TokenCommand::Create { user, label, role, expires, data } = command;
    let store = database::open(&data)?;
    let user = find(&store, &user).await?;
    let new = NewToken { user_id: user.id, label, role, ttl_s: expires };
    let (_, secret) = accounts::create_token(&store, Actor::system(), new).await.map_err(refused)?;
    print(secret.expose())
}

async fn find(store: &Store, name: &str) -> Result<User, CliError> {
    accounts::find_user(store, name).await.map_err(|e| match e {
        AccountError::NoSuchUser => {
            CliError::Failed(anyhow!("there is no account called {name:?}: `flotilla user list` shows all"))
        }
        e => refused(e),
    })
}

/// What was asked for makes no sense (2), or it failed (1).
fn refused(e: AccountError) -> CliError {
    match e {
        AccountError::Store(_) | AccountError::Credential(_) => CliError::failed(e),
        e => CliError::Failed(anyhow!("{e}")),
    }
}

fn password() -> Result<Secret, CliError> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text).map_err(CliError::failed)?;
    Ok(Secret::from(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line))))
}

#[cfg(test)]
mod tests {
    use super::parse_span;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(parse_span("90d"), Ok(90 * 86_400));
        assert_eq!(parse_span("12h"), Ok(12 * 3600));
        for bad in ["", "d", "0d", "-1d", "1y", "90", "9999999999999999d", "½d"] {
            assert!(parse_span(bad).is_err(), "{bad:?} passed");
        }
    }
}
