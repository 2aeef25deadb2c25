//! How columns become domain values: times, ids, JSON. A value that does not fit names its column.

use std::str::FromStr;

use rusqlite::{
    Row,
    types::{FromSql, Type},
};
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

/// The columns of a row, read in the order in which the statement names them. For long lists: to find a column by its name takes longer than to read it.
pub(super) struct InOrder<'a, 'b> {
    row: &'a Row<'b>,
    at: usize,
}

impl<'a, 'b> InOrder<'a, 'b> {
    pub(super) fn of(row: &'a Row<'b>) -> Self {
        Self { row, at: 0 }
    }

    pub(super) fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.at += 1;
        self.row.get(self.at - 1)
    }

    pub(super) fn time(&mut self) -> rusqlite::Result<Timestamp> {
        self.next().map(Timestamp::from_unix_ms)
    }

    pub(super) fn time_opt(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.next::<Option<i64>>()?.map(Timestamp::from_unix_ms))
    }

    pub(super) fn count_opt(&mut self) -> rusqlite::Result<Option<u64>> {
        Ok(self.next::<Option<i64>>()?.map(i64::unsigned_abs))
    }

    /// Reads the next column's text where it stands.
    fn text<T, E: std::fmt::Display>(
        &mut self,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> rusqlite::Result<Option<T>> {
        let at = self.at;
        self.at += 1;
        let Some(text) = self.row.get_ref(at)?.as_str_or_null()? else { return Ok(None) };
        read(text).map(Some).map_err(|e| misfit(self.row.as_ref().column_name(at).unwrap_or_default(), at, e))
    }

    pub(super) fn parsed_opt<T: FromStr>(&mut self) -> rusqlite::Result<Option<T>> {
        self.text(|text| text.parse().map_err(|_| format!("{text:?} is not known")))
    }

    pub(super) fn parsed<T: FromStr>(&mut self) -> rusqlite::Result<T> {
        self.parsed_opt()?.ok_or(rusqlite::Error::InvalidQuery)
    }

    /// A JSON column; empty where it is.
    pub(super) fn json<T: DeserializeOwned + Default>(&mut self) -> rusqlite::Result<T> {
        Ok(self.text(|text| serde_json::from_str(text))?.unwrap_or_default())
    }
}

/// A value as JSON text for a column.
pub(super) fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}
