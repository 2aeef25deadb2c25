//! Envelopes: `{"type", "id", "payload"}` to and from text. The type is read first and the payload after it, so that
//! no intermediate tree is built and line texts borrow from the frame.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits;

/// Why a frame was refused. The text is fit to be sent back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not an envelope.
    #[error("not an envelope ({{\"type\", \"id\", \"payload\"}}): {0}")]
    Envelope(String),
    /// The payload has another shape.
    #[error("the payload of `{kind}` does not fit: {reason}")]
    Payload {
        /// The envelope's type.
        kind: String,
        /// Field and reason.
        reason: String,
    },
    /// A bound was crossed.
    #[error("refused: {0}")]
    Limit(String),
    /// Over [`limits::MAX_FRAME_BYTES`].
    #[error("a frame of {bytes} bytes is over the limit of {limit}", limit = limits::MAX_FRAME_BYTES)]
    TooBig {
        /// Size in bytes.
        bytes: usize,
    },
}

/// An envelope whose payload is still text.
#[derive(Debug, Deserialize)]
pub struct RawEnvelope<'a> {
    /// Which message.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The sender's name for this envelope; an `error` repeats it in `regarding`.
    #[serde(default, borrow)]
    pub id: Cow<'a, str>,
    /// The message.
    #[serde(borrow, default = "empty_payload")]
    pub payload: &'a RawValue,
}

fn empty_payload<'a>() -> &'a RawValue {
    const EMPTY: &str = "{}";
    // A constant that is valid JSON; the fallback satisfies the compiler without a panic.
    serde_json::from_str(EMPTY).unwrap_or(RawValue::NULL)
}

impl<'a> RawEnvelope<'a> {
    /// Reads the envelope, not its payload.
    ///
    /// # Errors
    /// [`DecodeError`] for text that is no envelope, or that breaks a limit.
    pub fn decode(text: &'a str) -> Result<Self, DecodeError> {
        if text.len() > limits::MAX_FRAME_BYTES {
            return Err(DecodeError::TooBig { bytes: text.len() });
        }
        let envelope: Self = serde_json::from_str(text).map_err(|e| DecodeError::Envelope(e.to_string()))?;
        if envelope.kind.is_empty() || envelope.kind.len() > limits::MAX_NAME_BYTES {
            return Err(DecodeError::Limit("a `type` that is empty or too long".to_owned()));
        }
        if envelope.id.len() > limits::MAX_NAME_BYTES {
            return Err(DecodeError::Limit("an `id` that is too long".to_owned()));
        }
        Ok(envelope)
    }
}

/// The payload as `T`.
pub(crate) fn payload<'a, T: Deserialize<'a>>(envelope: &RawEnvelope<'a>) -> Result<T, DecodeError> {
    serde_json::from_str(envelope.payload.get())
        .map_err(|e| DecodeError::Payload { kind: envelope.kind.clone().into_owned(), reason: e.to_string() })
}

#[derive(Serialize)]
struct OutEnvelope<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    payload: &'a T,
}

/// One envelope as text. Also used for the frames to browsers.
///
/// # Errors
/// [`DecodeError::TooBig`] past the frame limit; the sender must split. [`DecodeError::Payload`] where a value has no JSON form.
pub fn encode<T: Serialize>(kind: &str, id: &str, payload: &T) -> Result<String, DecodeError> {
    let text = serde_json::to_string(&OutEnvelope { kind, id, payload })
        .map_err(|e| DecodeError::Payload { kind: kind.to_owned(), reason: e.to_string() })?;
    if text.len() > limits::MAX_FRAME_BYTES {
        return Err(DecodeError::TooBig { bytes: text.len() });
    }
    Ok(text)
}
