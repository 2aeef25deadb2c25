//! Alerts as people handle them. Raising and clearing by cause is [`crate::store::alerts`], within the write that saw the cause.

use crate::{
    domain::job::Actor,
    ops::OpError,
    store::{Store, alerts, audit},
};

/// Clears an alert by a person's word. Its cause may raise it again, where it is seen again.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where it is cleared already, or a failure.
pub async fn dismiss(store: &Store, actor: Actor, no: i64) -> Result<(), OpError> {
    store
        .write(move |tx| {
            let alert = alerts::lookup(tx.db(), no)?.ok_or(OpError::NotFound("alert"))?;
            if !alerts::dismiss(tx, no, &actor.name)? {
                return Err(OpError::Conflict("the alert is cleared already: there is nothing to do".to_owned()));
            }
            audit::record(tx, &actor, "alert.clear", &alert.notice.subject, &alert.notice.title)?;
            Ok(())
        })
        .await
}
