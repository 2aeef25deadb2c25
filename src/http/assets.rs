//! Embedded static files: served under `/assets/{hash}/{name}`, which never changes, so browsers keep them for good.

use std::{borrow::Cow, collections::BTreeMap};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::RustEmbed;

use crate::{
    credential,
    http::{AppState, HttpError},
};

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/assets"]
#[allow_missing = true]
struct Files;

/// The files, by name.
pub struct Assets(BTreeMap<String, Asset>);

struct Asset {
    hash: String,
    data: Cow<'static, [u8]>,
}

impl Default for Assets {
    fn default() -> Self {
        Self::load()
    }
}

impl Assets {
    /// All embedded files, hashed.
    #[must_use]
    pub fn load() -> Self {
        let files = Files::iter().filter_map(|name| {
            let data = Files::get(&name)?.data;
            let hash = credential::derived("asset", &String::from_utf8_lossy(&data)).chars().take(16).collect();
            Some((name.into_owned(), Asset { hash, data }))
        });
        Self(files.collect())
    }

    /// The address of a file; one that is not there gets an address that answers 404.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("/assets/{}/{name}", self.0.get(name).map_or("missing", |asset| asset.hash.as_str()))
    }
}

/// `GET /assets/{hash}/{name}`.
///
/// # Errors
/// 404 for a name or a hash that is not of this build.
pub async fn serve(
    State(state): State<AppState>,
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let asset = state.assets.0.get(&name).filter(|asset| asset.hash == hash);
    let asset = asset.ok_or_else(|| HttpError::not_found("such file"))?;
    let etag = format!("\"{hash}\"");
    let keep = [(header::CACHE_CONTROL, "public, max-age=31536000, immutable"), (header::VARY, "accept-encoding")];
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    if known {
        return Ok((StatusCode::NOT_MODIFIED, keep, [(header::ETAG, etag)]).into_response());
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type(&name)))];
    Ok((keep, [(header::ETAG, etag)], kind, asset.data.clone()).into_response())
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/manifest+json",
        _ => "text/plain; charset=utf-8",
    }
}
