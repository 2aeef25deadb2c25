//! News for the next page: one sentence in a cookie that lives for a minute and is taken back when shown. It is text, never markup.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{
    paths,
    views::{Flash, components::Tone},
};

const COOKIE: &str = "flotilla_news";

/// The news that the request brings.
pub(super) fn read(headers: &HeaderMap) -> Option<Flash> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let (_, value) = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)?;
    let (tone, text) = value.split_once('.')?;
    let tone = match tone {
        "ok" => Tone::Ok,
        "warn" => Tone::Warn,
        _ => Tone::Bad,
    };
    let (text, _) = form_urlencoded::parse(text.as_bytes()).next()?;
    Some(Flash { tone, text: text.into_owned() })
}

/// The `Set-Cookie` header that brings news to the next page.
pub(super) fn set(tone: Tone, text: &str) -> HeaderValue {
    let text = paths::query_value(text);
    let cookie = format!("{COOKIE}={}.{text}; HttpOnly; SameSite=Lax; Path=/; Max-Age=60", tone.class());
    HeaderValue::try_from(cookie).unwrap_or_else(|_| clear())
}

/// The `Set-Cookie` header that takes the news back.
pub(super) fn clear() -> HeaderValue {
    HeaderValue::from_static("flotilla_news=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrive_as_they_were_sent_whatever_they_hold() {
        for text in ["Saved.", "a; b=c, “ü” & <b>", "100 %+1"] {
            let set = set(Tone::Ok, text);
            let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::try_from(format!("x=1; {pair}")).unwrap());
            assert_eq!(read(&headers), Some(Flash { tone: Tone::Ok, text: text.to_owned() }));
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
