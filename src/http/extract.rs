//! What handlers take from a request: ids, JSON, forms, queries. Each refuses with a problem that names the field.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::http::HttpError;

/// The first id of the path, in either case; a text that is none is a 404, for nothing can be there.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| HttpError::not_found("such page"))?;
        let text = params.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default();
        text.parse()
            .map(Self)
            .map_err(|_| HttpError::not_found("such thing: its id is malformed (26 characters, a ULID)"))
    }
}

/// The first two parts of the path that stand for something, in order; one that does not parse is a 404.
#[derive(Debug, Clone)]
pub struct Pair<A, B>(pub A, pub B);

impl<A: FromStr, B: FromStr, S: Send + Sync> FromRequestParts<S> for Pair<A, B> {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let missing = || HttpError::not_found("such thing: the address is not whole");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| missing())?;
        let mut params = params.iter().map(|(_, value)| value);
        let (first, second) = params.next().zip(params.next()).ok_or_else(missing)?;
        first.parse().ok().zip(second.parse().ok()).map(|(a, b)| Self(a, b)).ok_or_else(missing)
    }
}

/// A JSON body. Request types deny unknown fields: a mistyped option must not be ignored.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        if !is_type(&request, "application/json") {
            return Err(no_json());
        }
        parse_json(&read(request, state).await?).map(Self)
    }
}

fn no_json() -> HttpError {
    HttpError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "media_type",
        "The body must be JSON",
        "Send the body as JSON with the header `Content-Type: application/json`.",
    )
}

/// A JSON body that may be left out, or be `null`.
#[derive(Debug, Clone)]
pub struct JsonIfAny<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for JsonIfAny<T> {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let json = is_type(&request, "application/json");
        let body = read(request, state).await?;
        match body.is_empty() {
            true => Ok(Self(T::default())),
            false if json => parse_json::<Option<T>>(&body).map(|given| Self(given.unwrap_or_default())),
            false => Err(no_json()),
        }
    }
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    let text = std::str::from_utf8(body)
        .map_err(|e| HttpError::bad_request(format!("The body is not valid UTF-8 at byte {}.", e.valid_up_to())))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let field = field_of(&e);
        let inner = e.into_inner();
        if inner.is_data() {
            HttpError::invalid_field(&field, inner.to_string())
        } else {
            HttpError::bad_request(format!("The body is not valid JSON: {inner}."))
        }
    })?;
    reader.end().map_err(|e| HttpError::bad_request(format!("The body holds more than one JSON value: {e}.")))?;
    Ok(value)
}

/// The field that an error is about. serde gives the path down to the object; an unknown or missing field stands in the message only.
fn field_of(e: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let path = e.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let message = e.inner().to_string();
    let named = ["unknown field `", "missing field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start).and_then(|rest| rest.split_once('`')))
        .map(|(name, _)| name.to_owned());
    match named {
        Some(name) if path.is_empty() || path == name || path.ends_with(&format!(".{name}")) => {
            if path.is_empty() {
                name
            } else {
                path
            }
        }
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => "body".to_owned(),
        None => path,
    }
}

/// The query of the address; unknown or malformed parameters are refused.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|e| {
            HttpError::bad_request(format!("The address holds a parameter that does not fit: {}.", e.body_text()))
        })
    }
}

/// Fields of a posted form, in order; a name may come more than once. The CSRF token is not among them.
#[derive(Debug, Clone, Default)]
pub struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// These fields.
    #[cfg(test)]
    pub(crate) fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The first value of a field; empty where it is absent.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether a checkbox is ticked.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.all(name).any(|value| !value.is_empty() && value != "0" && value != "false")
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<S: Send + Sync> FromRequest<S> for FormFields {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let form = is_type(&request, "application/x-www-form-urlencoded");
        let body = read(request, state).await?;
        if body.is_empty() {
            return Ok(Self::default());
        }
        if !form {
            return Err(HttpError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "The body must be a form",
                "Send the form with `Content-Type: application/x-www-form-urlencoded`.",
            ));
        }
        let fields = form_urlencoded::parse(&body).into_owned().filter(|(name, _)| name != super::auth::CSRF_FIELD);
        Ok(Self(fields.collect()))
    }
}

/// Whether a request's body is of a media type.
pub(super) fn is_type(request: &Request, wanted: &str) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, HttpError> {
    Bytes::from_request(request, state).await.map_err(|e| match e {
        BytesRejection::FailedToBufferBody(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => HttpError::too_large(),
        other => HttpError::bad_request(format!("The body could not be read: {other}.")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        n: u32,
    }

    #[test]
    fn a_refusal_names_the_field_with_its_path() {
        for (body, field) in [
            (r#"{"name":1}"#, "name"),
            (r#"{"nome":"x"}"#, "nome"),
            (r"{}", "name"),
            (r#"{"name":"x","inner":{"n":"x"}}"#, "inner.n"),
            (r#"{"name":"x","inner":{"m":1}}"#, "inner.m"),
            (r#"{"name":"x","inner":{}}"#, "inner.n"),
            (r"[]", "body"),
        ] {
            let error = parse_json::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!((error.problem().status, error.problem().errors[0].field.as_str()), (422, field), "{body}");
        }
    }

    #[test]
    fn text_that_is_no_json_is_a_400() {
        for body in [&b"{"[..], b"", b"{\"name\":\"x\"} {}", b"{\"name\":\"\xff\"}"] {
            assert_eq!(parse_json::<Outer>(body).unwrap_err().problem().status, 400, "{body:?}");
        }
    }
}
