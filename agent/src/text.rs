//! What may stand in a log line: valid UTF-8 without control characters or line breaks, at most
//! [`MAX_LINE_BYTES`] long. Whatever is lost on the way there is marked, never dropped in silence.

use std::fmt::Write as _;

use flotilla_proto::limits::MAX_LINE_BYTES;

/// Raw bytes of one line as text: bad UTF-8 becomes U+FFFD, terminal sequences vanish, and of parts separated by
/// carriage returns (a terminal would overwrite them) the last one with content stays.
pub(crate) fn clean(bytes: &[u8]) -> String {
    shown(bytes, ' ', str::trim_end)
}

/// The same, but tabs stay: for what is read by a program before it is shown.
pub(crate) fn tabbed(bytes: &[u8]) -> String {
    shown(bytes, '\t', |text| text)
}

fn shown(bytes: &[u8], tab: char, trimmed: fn(&str) -> &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(|c: char| c.is_control()) {
        return text.into_owned();
    }
    let last = text
        .split('\r')
        .map(|part| strip_terminal_sequences(part, tab))
        .rfind(|part| !part.trim().is_empty())
        .unwrap_or_default();
    trimmed(&last).to_owned()
}

/// Makes line breaks and other control characters inside a name visible, so that a file can't forge a log line.
pub(crate) fn visible(name: &str) -> String {
    if !name.contains(|c: char| c.is_control()) {
        return name.to_owned();
    }
    name.chars().fold(String::with_capacity(name.len() + 8), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// Brings `text` under the line limit. `lost` counts bytes that were cut before.
pub(crate) fn cut(mut text: String, lost: usize) -> String {
    const MARKER_ROOM: usize = 64;
    if lost == 0 && text.len() <= MAX_LINE_BYTES {
        return text;
    }
    let end = text.floor_char_boundary(MAX_LINE_BYTES - MARKER_ROOM);
    let gone = lost + text.len().saturating_sub(end);
    text.truncate(end);
    // Writing to a String cannot fail.
    let _ = write!(text, " … [line cut by Flotilla: {gone} more bytes]");
    text
}

/// A size as people read it: `179.8 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn strip_terminal_sequences(text: &str, tab: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => out.push(tab),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        // CSI: parameters, then one final byte.
        Some('[') => {
            for c in chars.by_ref() {
                if matches!(c, '@'..='~') {
                    break;
                }
            }
        }
        // OSC: up to BEL, or ESC with the backslash after it.
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' {
                    break;
                }
                if c == '\u{1b}' {
                    chars.next_if_eq(&'\\');
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_and_carriage_returns_vanish() {
        assert_eq!(clean(b"\x1b[2Ksignal interrupt received\r"), "signal interrupt received");
        assert_eq!(clean(b"10%\r20%\rdone"), "done");
        assert_eq!(clean(b"\x1b]0;title\x07a\tb\x00"), "a b");
        assert_eq!(tabbed(b"\x1b[1ma\tb\t\r"), "a\tb\t");
    }

    #[test]
    fn bytes_that_are_no_utf8_become_replacement_characters() {
        assert_eq!(clean(b"bad\xff\xfename"), "bad\u{fffd}\u{fffd}name");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character_with_a_marker_that_counts() {
        let line = cut("é".repeat(MAX_LINE_BYTES), 5);
        assert!(line.len() <= MAX_LINE_BYTES);
        let kept = line.find(" … [line cut").unwrap();
        assert!(line.ends_with(&format!("{} more bytes]", 2 * MAX_LINE_BYTES - kept + 5)));
    }

    #[test]
    fn a_line_break_in_a_name_is_shown_not_obeyed() {
        assert_eq!(visible("new\nline"), "new\\nline");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((size(1023), size(184_115), size(5 << 40)), ("1023 B".into(), "179.8 KiB".into(), "5.0 TiB".into()));
    }
}
