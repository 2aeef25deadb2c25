//! File names as people can read them: what would not be seen, or would reorder the line, is drawn as a sign. Links never carry this form.

use maud::{Markup, html};

/// Characters that change the order or the look of what stands beside them.
fn misleads(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{061C}')
}

/// The sign of a character that has no look of its own.
fn sign(c: char) -> Option<String> {
    match c {
        '\n' => Some("\\n".to_owned()),
        '\r' => Some("\\r".to_owned()),
        '\t' => Some("\\t".to_owned()),
        c if c.is_control() => Some(format!("\\x{:02x}", u32::from(c))),
        c if misleads(c) => Some(format!("\\u{{{:x}}}", u32::from(c))),
        _ => None,
    }
}

/// A name or a path with such signs in the place of what can't be seen.
#[must_use]
pub fn visible(text: &str) -> Markup {
    // Runs of plain text, each with the sign that follows it.
    let mut runs: Vec<(String, Option<String>)> = vec![(String::new(), None)];
    for c in text.chars() {
        match (sign(c), runs.last_mut()) {
            (None, Some((run, _))) => run.push(c),
            (drawn, Some((_, last))) => {
                *last = drawn;
                runs.push((String::new(), None));
            }
            (_, None) => {}
        }
    }
    html! { @for (run, sign) in &runs { (run) @if let Some(sign) = sign { i.unseen { (sign) } } } }
}

/// The same as plain text, for titles and labels.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match sign(c) {
            Some(drawn) => out.push_str(&drawn),
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_drawn_and_what_is_markup_is_text() {
        assert_eq!(
            visible("a\nb<i>\u{202E}\u{1b}").into_string(),
            "a<i class=\"unseen\">\\n</i>b&lt;i&gt;<i class=\"unseen\">\\u{202e}</i><i class=\"unseen\">\\x1b</i>"
        );
        assert_eq!(visible("plain ü\u{FFFD}").into_string(), "plain ü\u{FFFD}");
        assert_eq!(plain("a\tb"), "a\\tb");
    }
}
