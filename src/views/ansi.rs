//! Colours that programs put in their output (ANSI SGR), as classes. Everything else that a terminal would obey is
//! dropped, so that a log line can neither hide text nor move it. `live.js` has the same rules.

use maud::{Markup, html};

/// What the escape sequences so far ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    /// 1 to 16: the foreground colours 30–37 and 90–97.
    colour: u8,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

impl Style {
    fn classes(self) -> String {
        let mut classes = Vec::new();
        if self.colour > 0 {
            classes.push(format!("a{}", self.colour - 1));
        }
        let words = [(self.bold, "ab"), (self.dim, "ad"), (self.italic, "ai"), (self.underline, "au")];
        classes.extend(words.into_iter().filter(|(on, _)| *on).map(|(_, class)| class.to_owned()));
        classes.join(" ")
    }

    /// Obeys the numbers of one `ESC [ … m`.
    fn obey(&mut self, numbers: &str) {
        let mut codes = numbers.split([';', ':']).map(|n| n.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                30..=37 => self.colour = (code - 29) as u8,
                90..=97 => self.colour = (code - 81) as u8,
                39 => self.colour = 0,
                // 256 and 24-bit colours: their arguments are skipped, lest they be taken for codes.
                38 | 48 | 58 => match codes.next() {
                    Some(5) => drop(codes.next()),
                    Some(2) => drop((codes.next(), codes.next(), codes.next())),
                    _ => {}
                },
                _ => {}
            }
        }
    }
}

/// `text` cut at its escape sequences: classes and the text that bears them.
fn spans(text: &str) -> Vec<(String, String)> {
    let mut spans = Vec::new();
    let mut style = Style::default();
    let mut run = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\u{1b}' {
            if c == '\t' || !c.is_control() {
                run.push(c);
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let numbers = &after[..after.find(|c: char| !(' '..='?').contains(&c)).unwrap_or(after.len())];
            rest = &after[numbers.len()..];
            if let Some(end) = rest.chars().next().filter(|c| ('@'..='~').contains(c)) {
                rest = &rest[1..];
                if end == 'm' {
                    push(&mut spans, style, &mut run);
                    style.obey(numbers);
                }
            }
        } else if let Some(after) = rest.strip_prefix(']') {
            rest = after_command(after);
        } else if let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
        }
    }
    push(&mut spans, style, &mut run);
    spans
}

/// What follows an operating system command (a title, a link's target), which ends with BEL or ESC \. One without an end
/// is taken for text, lest it swallow the line.
fn after_command(text: &str) -> &str {
    match text.find(['\u{7}', '\u{1b}']) {
        Some(at) if text[at..].starts_with('\u{7}') => &text[at + 1..],
        Some(at) => text[at..].strip_prefix("\u{1b}\\").unwrap_or(text),
        None => text,
    }
}

fn push(spans: &mut Vec<(String, String)>, style: Style, run: &mut String) {
    if !run.is_empty() {
        spans.push((style.classes(), std::mem::take(run)));
    }
}

/// A log line's text with its colours.
#[must_use]
pub fn render(text: &str) -> Markup {
    if !text.contains(char::is_control) {
        return html! { (text) };
    }
    html! {
        @for (classes, text) in spans(text) {
            @if classes.is_empty() { (text) } @else { span class=(classes) { (text) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        render(text).into_string()
    }

    #[test]
    fn colours_become_classes_and_end_where_they_are_reset() {
        assert_eq!(shown("a \u{1b}[1;31mred\u{1b}[0m b"), r#"a <span class="a1 ab">red</span> b"#);
        assert_eq!(shown("\u{1b}[92mok\u{1b}[39m!"), r#"<span class="a10">ok</span>!"#);
        assert_eq!(shown("\u{1b}[mplain"), "plain");
    }

    #[test]
    fn extended_colours_do_not_leak_their_numbers_into_other_codes() {
        assert_eq!(shown("\u{1b}[38;5;1mx"), "x");
        assert_eq!(shown("\u{1b}[38;2;1;4;3mx\u{1b}[4my"), r#"x<span class="au">y</span>"#);
    }

    #[test]
    fn a_line_can_neither_move_the_cursor_nor_set_a_title_nor_write_markup() {
        assert_eq!(shown("\u{1b}[2K\u{1b}[1Ga\u{8}b\u{1b}]0;title\u{7}c\u{1b}]8;;http://x\u{1b}\\d"), "abcd");
        assert_eq!(shown("\u{1b}[31m<script>"), r#"<span class="a1">&lt;script&gt;</span>"#);
        assert_eq!(shown("cut off \u{1b}[31"), "cut off ");
    }

    #[test]
    fn a_sequence_that_does_not_end_hides_nothing() {
        assert_eq!(shown("\u{1b}]0;seen"), "0;seen");
        assert_eq!(shown("\u{1b}[1é seen"), "é seen");
    }
}
