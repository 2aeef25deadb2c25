//! Facets in the store. A host without a row has none; secrets stand beside them, sealed, and are read by those only who send them.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{HostId, facet::Facets},
    store::{
        StoreError, WriteTx,
        rows::{json_opt, parsed, to_json},
    },
};

const SELECT: &str = "SELECT host_id, ssh, ssh_key IS NOT NULL AS ssh_key_set, api, api_key IS NOT NULL AS api_key_set, container, restart, opened, declared FROM facets";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Facets> {
    Ok(Facets {
        ssh: json_opt(row, "ssh")?,
        ssh_key_set: row.get("ssh_key_set")?,
        api: json_opt(row, "api")?,
        api_key_set: row.get("api_key_set")?,
        container: json_opt(row, "container")?,
        restart: json_opt(row, "restart")?,
        opened: row.get("opened")?,
        declared: row.get("declared")?,
    })
}

/// A host's facets.
///
/// # Errors
/// [`StoreError`].
pub fn of(db: &Connection, host: HostId) -> Result<Facets, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE host_id = ?1"))?;
    Ok(statement.query_row([host.to_string()], from_row).optional()?.unwrap_or_default())
}

/// Those of all hosts that have any, removed ones among them.
///
/// # Errors
/// [`StoreError`].
pub fn all(db: &Connection) -> Result<HashMap<HostId, Facets>, StoreError> {
    let mut statement = db.prepare_cached(SELECT)?;
    let rows = statement.query_map([], |row| Ok((parsed(row, "host_id")?, from_row(row)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The hosts, not removed, that the configuration declares, by their keys there.
///
/// # Errors
/// [`StoreError`].
pub fn declared(db: &Connection) -> Result<HashMap<String, HostId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT f.declared, f.host_id FROM facets f JOIN hosts h ON h.id = f.host_id WHERE f.declared IS NOT NULL AND h.removed_at IS NULL",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("declared")?, parsed(row, "host_id")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Sets a host's facets; whether keys are set is not changed by this ([`set_ssh_key`], [`set_api_key`]).
///
/// # Errors
/// [`StoreError`]; a declared key that another host has is a conflict.
pub fn set(tx: &mut WriteTx<'_>, host: HostId, facets: &Facets) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO facets (host_id, ssh, api, container, restart, opened, declared) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (host_id) DO UPDATE SET ssh = ?2, api = ?3, container = ?4, restart = ?5, opened = ?6, declared = ?7",
        )?
        .execute(params![
            host.to_string(),
            facets.ssh.as_ref().map(to_json).transpose()?,
            facets.api.as_ref().map(to_json).transpose()?,
            facets.container.as_ref().map(to_json).transpose()?,
            facets.restart.as_ref().map(to_json).transpose()?,
            facets.opened,
            facets.declared,
        ])?;
    Ok(())
}

/// Keeps a host's sealed SSH key, or forgets it.
///
/// # Errors
/// [`StoreError`].
pub fn set_ssh_key(tx: &mut WriteTx<'_>, host: HostId, sealed: Option<&[u8]>) -> Result<(), StoreError> {
    set_sealed(tx, host, "ssh_key", sealed)
}

/// Keeps a host's sealed secret key for its management interface, or forgets it.
///
/// # Errors
/// [`StoreError`].
pub fn set_api_key(tx: &mut WriteTx<'_>, host: HostId, sealed: Option<&[u8]>) -> Result<(), StoreError> {
    set_sealed(tx, host, "api_key", sealed)
}

fn set_sealed(tx: &mut WriteTx<'_>, host: HostId, column: &str, sealed: Option<&[u8]>) -> Result<(), StoreError> {
    let set = format!(
        "INSERT INTO facets (host_id, {column}) VALUES (?1, ?2) ON CONFLICT (host_id) DO UPDATE SET {column} = ?2"
    );
    tx.db().prepare_cached(&set)?.execute(params![host.to_string(), sealed])?;
    Ok(())
}

/// A host's secrets, sealed.
#[derive(Debug, Clone, Default)]
pub struct SealedKeys {
    /// The private key's text, under [`crate::domain::facet::ssh_key_identity`].
    pub ssh: Option<Vec<u8>>,
    /// The management interface's secret key, under [`crate::domain::facet::api_key_identity`].
    pub api: Option<Vec<u8>>,
}

/// A host's secrets, sealed: the SSH key's text, and the secret key of its management interface.
///
/// # Errors
/// [`StoreError`].
pub fn sealed(db: &Connection, host: HostId) -> Result<SealedKeys, StoreError> {
    let mut statement = db.prepare_cached("SELECT ssh_key, api_key FROM facets WHERE host_id = ?1")?;
    let read = |row: &Row<'_>| Ok(SealedKeys { ssh: row.get("ssh_key")?, api: row.get("api_key")? });
    let found = statement.query_row([host.to_string()], read).optional()?;
    Ok(found.unwrap_or_default())
}
