//! How columns become domain values: times, ids, JSON. A value that does not fit names its column.

use std::str::FromStr;

use rusqlite::{Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};

use crate::domain::Timestamp;

fn misfit(column: &str, index: usize, why: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, format!("column {column}: {why}").into())
}

fn index(row: &Row<'_>, column: &str) -> usize {
    row.as_ref().column_index(column).unwrap_or(0)
}

/// A time.
pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_unix_ms)
}

/// A time that may be absent.
pub(super) fn time_opt(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_unix_ms))
}

/// Anything that is read from its text: ids, states, kinds.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| misfit(column, index(row, column), format!("{text:?} is not known")))
}

/// The same, where it may be absent.
pub(super) fn parsed_opt<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| misfit(column, index(row, column), format!("{text:?} is not known"))))
        .transpose()
}

/// A JSON column.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| misfit(column, index(row, column), e))
}

/// The same, where it may be absent.
pub(super) fn json_opt<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|e| misfit(column, index(row, column), e))).transpose()
}

/// A value as JSON text for a column.
pub(super) fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}
