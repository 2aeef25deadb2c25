//! From a form's fields to values: lines, words, numbers, ids. What does not parse is noted under the field's name.

use std::str::FromStr;

use crate::{
    domain::FieldError,
    http::{HttpError, extract::FormFields},
    views::FormState,
};

/// What was typed, to be shown again.
pub(super) fn typed(fields: &FormFields) -> FormState {
    FormState::of(fields.iter())
}

/// The lines of a field, without blank ones.
pub(super) fn lines(fields: &FormFields, name: &str) -> Vec<String> {
    fields.text(name).lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The words of a field, separated by commas or blanks.
pub(super) fn words(fields: &FormFields, name: &str) -> Vec<String> {
    let words = fields.text(name).split(|c: char| c == ',' || c.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text of a field; nothing where it is blank.
pub(super) fn text(fields: &FormFields, name: &str) -> Option<String> {
    Some(fields.text(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Refuses a decision that was not confirmed by typing the name.
///
/// # Errors
/// 422 that says what to type.
pub(super) fn confirmed(fields: &FormFields, name: &str) -> Result<(), HttpError> {
    if fields.text("confirm").trim() == name {
        return Ok(());
    }
    Err(HttpError::invalid_field("confirm", format!("must be {name}, typed as it is: nothing was changed")))
}

/// Values that have to parse.
#[derive(Debug, Default)]
pub(super) struct Reader(Vec<FieldError>);

impl Reader {
    /// A value; nothing where the field is blank or, noted, does not parse.
    pub(super) fn value<T: FromStr>(&mut self, fields: &FormFields, name: &str, wanted: &str) -> Option<T> {
        let text = text(fields, name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.0.push(FieldError::new(name, format!("must be {wanted}")));
        }
        value
    }

    /// A value that has to be there.
    pub(super) fn needed<T: FromStr>(&mut self, fields: &FormFields, name: &str, wanted: &str) -> Option<T> {
        if text(fields, name).is_none() {
            self.0.push(FieldError::new(name, format!("is missing: it must be {wanted}")));
        }
        self.value(fields, name, wanted)
    }

    /// Notes a field that parses and does not do.
    pub(super) fn refuse_field(&mut self, name: &str, message: &str) {
        self.0.push(FieldError::new(name, message));
    }

    /// Refuses where something did not parse.
    ///
    /// # Errors
    /// 422 with all of it.
    pub(super) fn refuse(self) -> Result<(), HttpError> {
        if self.0.is_empty() { Ok(()) } else { Err(HttpError::invalid(self.0)) }
    }
}
