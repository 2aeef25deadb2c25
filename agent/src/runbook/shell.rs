//! Puts values into a line for bash. A value is quoted, and is put only where a quoted word means what it says: not into quotes, here-documents, comments,
//! arithmetic, `${…}`, backticks or `[[ … ]]`, where quotes are no protection. Invariant: whatever a value holds, the command has the words its author wrote.

use std::fmt;

/// Marks where a value goes; followed by the value's number in private characters. Neither may stand in a runbook's own text or in a value.
const MARK: char = '\u{F0000}';
const DIGITS: std::ops::RangeInclusive<char> = '\u{F0010}'..='\u{F0019}';

/// A value that goes into a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// To be quoted.
    Word(String),
    /// The value of this environment variable.
    Variable(String),
}

/// A place where a value would not be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `'…'`, `$'…'`
    Single,
    /// `"…"`
    Double,
    /// `` `…` ``
    Backticks,
    /// `${…}`
    Parameter,
    /// `$((…))`, `((…))`
    Arithmetic,
    /// `[[ … ]]`
    Test,
    /// `<<EOF`
    Here,
    /// `# …`
    Comment,
    /// Behind a backslash.
    Escaped,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "within single quotes: write it without them, a value is quoted as it is put in",
            Self::Double => "within double quotes: write it without them, a value is quoted as it is put in",
            Self::Backticks => "within backticks: use $( ) instead",
            Self::Parameter => "within ${ }: put it into a variable first, as in `name={{ value }}`",
            Self::Arithmetic => "within arithmetic, which would evaluate it: give the input the type int",
            Self::Test => "within [[ ]], which may evaluate it: use [ ] instead",
            Self::Here => "within a here-document: use the step's `stdin` instead",
            Self::Comment => "within a comment: take it out",
            Self::Escaped => "behind a backslash: take that out",
        })
    }
}

/// Whether a text holds characters that only this module may write.
#[must_use]
pub fn is_marked(text: &str) -> bool {
    text.contains(|c| c == MARK || DIGITS.contains(&c))
}

/// The mark of value number `at`.
#[must_use]
pub fn mark(at: usize) -> String {
    let number = at.to_string();
    let digits = number.chars().map(|digit| {
        let offset = digit.to_digit(10).unwrap_or(0);
        char::from_u32(u32::from(*DIGITS.start()) + offset).unwrap_or(*DIGITS.start())
    });
    [MARK].into_iter().chain(digits).chain([MARK]).collect()
}

/// A word in single quotes; plain where it needs none.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn digit(c: char) -> usize {
    DIGITS.clone().position(|own| own == c).unwrap_or(0)
}

/// What the lexer is within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// `$( … )`, or a subshell.
    Group,
    Double,
    Backticks,
    Parameter,
    Arithmetic {
        depth: usize,
    },
    Test,
}

/// Reads a line as bash does, so far as quoting goes. Where it errs it errs on the side of refusing a value.
struct Lexer<'a> {
    rest: &'a str,
    out: String,
    within: Vec<Within>,
    /// Delimiters of here-documents that begin with the next line; with whether leading tabs go.
    here: Vec<(String, bool)>,
    /// A word may begin here.
    start: bool,
}

/// The line, with each mark replaced by its value.
///
/// # Errors
/// The place of the first value that would not be safe there.
pub fn fill(marked: &str, pieces: &[Piece]) -> Result<String, Place> {
    let mut lexer = Lexer { rest: marked, out: String::new(), within: Vec::new(), here: Vec::new(), start: true };
    while let Some(c) = lexer.rest.chars().next() {
        lexer.step(c, pieces)?;
    }
    Ok(lexer.out)
}

impl Lexer<'_> {
    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn at(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    /// Takes up to and with the end of `text`, in which no value may stand.
    fn take_through(&mut self, end: usize, place: Place) -> Result<(), Place> {
        if is_marked(&self.rest[..end]) {
            return Err(place);
        }
        self.take(end);
        Ok(())
    }

    fn step(&mut self, c: char, pieces: &[Piece]) -> Result<(), Place> {
        let start = std::mem::replace(&mut self.start, false);
        if c == MARK {
            return self.value(pieces);
        }
        if c == '\\' {
            let next = self.rest[1..].chars().next();
            if next == Some(MARK) {
                return Err(Place::Escaped);
            }
            self.take(1 + next.map_or(0, char::len_utf8));
            return Ok(());
        }
        match self.within.last().copied() {
            Some(Within::Double) => self.in_double(c),
            Some(Within::Backticks) => self.in_backticks(c)?,
            Some(Within::Parameter) => self.in_parameter(c)?,
            Some(Within::Arithmetic { depth }) => self.in_arithmetic(c, depth),
            within => self.in_command(c, start, within == Some(Within::Test))?,
        }
        Ok(())
    }

    fn in_double(&mut self, c: char) {
        match c {
            '"' => {
                self.within.pop();
                self.take(1);
            }
            '$' => self.dollar(),
            '`' => self.push(Within::Backticks, 1),
            _ => self.take(c.len_utf8()),
        }
    }

    fn in_backticks(&mut self, c: char) -> Result<(), Place> {
        match c {
            '`' => {
                self.within.pop();
                self.take(1);
                Ok(())
            }
            '\'' => self.single(1),
            _ => {
                self.take(c.len_utf8());
                Ok(())
            }
        }
    }

    fn in_parameter(&mut self, c: char) -> Result<(), Place> {
        match c {
            '}' => {
                self.within.pop();
                self.take(1);
            }
            '"' => self.push(Within::Double, 1),
            // Within double quotes an apostrophe is a character of `${x:-it's}`; elsewhere it quotes. Refusing is right in both.
            '\'' if !self.within.contains(&Within::Double) => return self.single(1),
            '$' => self.dollar(),
            '`' => self.push(Within::Backticks, 1),
            _ => self.take(c.len_utf8()),
        }
        Ok(())
    }

    fn in_arithmetic(&mut self, c: char, depth: usize) {
        match c {
            '(' => {
                self.replace(Within::Arithmetic { depth: depth + 1 });
                self.take(1);
            }
            ')' if depth > 0 => {
                self.replace(Within::Arithmetic { depth: depth - 1 });
                self.take(1);
            }
            ')' => {
                self.within.pop();
                self.take(if self.at("))") { 2 } else { 1 });
            }
            '$' => self.dollar(),
            '`' => self.push(Within::Backticks, 1),
            _ => self.take(c.len_utf8()),
        }
    }

    fn in_command(&mut self, c: char, start: bool, test: bool) -> Result<(), Place> {
        match c {
            '\'' => return self.single(1),
            '"' => self.push(Within::Double, 1),
            '`' => self.push(Within::Backticks, 1),
            '$' if self.at("$'") => return self.dollar_single(),
            '$' if self.at("$\"") => self.push(Within::Double, 2),
            '$' => self.dollar(),
            '#' if start => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                return self.take_through(end, Place::Comment);
            }
            '[' if start && self.at("[[") => self.push(Within::Test, 2),
            ']' if test && start && self.at("]]") => {
                self.within.pop();
                self.take(2);
            }
            '(' if start && self.at("((") => self.push(Within::Arithmetic { depth: 0 }, 2),
            '(' => {
                self.push(Within::Group, 1);
                self.start = true;
            }
            ')' => {
                if self.within.last() == Some(&Within::Group) {
                    self.within.pop();
                }
                self.take(1);
                self.start = true;
            }
            '<' if self.at("<<<") => self.take(3),
            '<' if self.at("<<") => return self.here_begins(),
            '\n' => {
                self.take(1);
                self.start = true;
                return self.here_bodies();
            }
            ' ' | '\t' | ';' | '&' | '|' | '<' | '>' => {
                self.take(1);
                self.start = true;
            }
            _ => self.take(c.len_utf8()),
        }
        Ok(())
    }

    fn push(&mut self, within: Within, bytes: usize) {
        self.within.push(within);
        self.take(bytes);
    }

    fn replace(&mut self, within: Within) {
        if let Some(last) = self.within.last_mut() {
            *last = within;
        }
    }

    fn dollar(&mut self) {
        if self.at("$((") {
            self.push(Within::Arithmetic { depth: 0 }, 3);
        } else if self.at("$(") {
            self.push(Within::Group, 2);
            self.start = true;
        } else if self.at("${") {
            self.push(Within::Parameter, 2);
        } else if self.at("$[") {
            // The old form of arithmetic ends with a bracket: nothing behind it is looked at, so that no value can follow.
            self.push(Within::Arithmetic { depth: usize::MAX / 2 }, 2);
        } else {
            self.take(1);
        }
    }

    fn single(&mut self, from: usize) -> Result<(), Place> {
        let end = self.rest[from..].find('\'').map_or(self.rest.len(), |at| from + at + 1);
        self.take_through(end, Place::Single)
    }

    fn dollar_single(&mut self) -> Result<(), Place> {
        let mut end = self.rest.len();
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(2) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\'' => {
                    end = at + 1;
                    break;
                }
                _ => {}
            }
        }
        self.take_through(end, Place::Single)
    }

    /// `<<EOF`, `<<-EOF`, `<<'EOF'`: the words of the delimiter, quotes taken off.
    fn here_begins(&mut self) -> Result<(), Place> {
        let tabs = self.at("<<-");
        self.take(if tabs { 3 } else { 2 });
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.take(blanks);
        let end = self.rest.find([' ', '\t', '\n', ';', '&', '|', '<', '>', ')']).unwrap_or(self.rest.len());
        let delimiter = self.rest[..end].replace(['\'', '"', '\\'], "");
        self.take_through(end, Place::Here)?;
        self.here.push((delimiter, tabs));
        Ok(())
    }

    fn here_bodies(&mut self) -> Result<(), Place> {
        for (delimiter, tabs) in std::mem::take(&mut self.here) {
            loop {
                let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
                let line = self.rest[..end].trim_end_matches('\n');
                let line = if tabs { line.trim_start_matches('\t') } else { line };
                let last = line == delimiter || end == self.rest.len();
                self.take_through(end, Place::Here)?;
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, pieces: &[Piece]) -> Result<(), Place> {
        let unsafe_here = self.within.last().and_then(|within| match within {
            Within::Group => None,
            Within::Double => Some(Place::Double),
            Within::Backticks => Some(Place::Backticks),
            Within::Parameter => Some(Place::Parameter),
            Within::Arithmetic { .. } => Some(Place::Arithmetic),
            Within::Test => Some(Place::Test),
        });
        // A subshell within backticks is still within backticks.
        let outer = self.within.contains(&Within::Backticks).then_some(Place::Backticks);
        if let Some(place) = unsafe_here.or(outer) {
            return Err(place);
        }
        let behind = &self.rest[MARK.len_utf8()..];
        let end = behind.find(MARK).unwrap_or(behind.len());
        let number = behind[..end].chars().fold(0usize, |sum, c| sum.saturating_mul(10).saturating_add(digit(c)));
        self.rest = behind.get(end + MARK.len_utf8()..).unwrap_or_default();
        match pieces.get(number) {
            Some(Piece::Word(word)) => self.out.push_str(&quoted(word)),
            Some(Piece::Variable(name)) => self.out.extend(["\"$", name, "\""]),
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
