//! A Rust file as the rules see it: without comments, texts and tests, as tokens with their lines. A lexer and no parser:
//! it knows as much of the language as paths and items take.

use std::path::{Path, PathBuf};

/// A path that leaves its module: `use crate::store::Store` imports `store` from the crate, `use axum::Router` imports `axum`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) line: usize,
    pub(crate) from_crate: bool,
    pub(crate) first: String,
}

/// A word, or one character of punctuation; `::` is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

pub(crate) struct Source {
    pub(crate) path: String,
    text: String,
    /// All tokens, tests included.
    all: Vec<Token>,
    /// For each of `all`, whether it belongs to an item under `#[cfg(test)]`.
    is_test: Vec<bool>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let all = tokens(&without_comments_and_texts(text));
        let mut is_test = vec![false; all.len()];
        for start in find(&all, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let end = end_of_item(&all, start + 7);
            is_test[start..end].fill(true);
        }
        Self { path: path.to_owned(), text: text.to_owned(), all, is_test }
    }

    /// The top-level module that the file belongs to.
    pub(crate) fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inner.split('/').next().unwrap_or(inner);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    pub(crate) fn opens_with_doc(&self) -> bool {
        self.text.trim_start().starts_with("//!")
    }

    pub(crate) fn lines_without_tests(&self) -> usize {
        let mut lines = self.text.lines().count();
        let mut index = 0;
        while index < self.all.len() {
            let length = self.is_test[index..].iter().take_while(|test| **test).count();
            if length > 0 {
                lines -= self.all[index + length - 1].line - self.all[index].line + 1;
            }
            index += length.max(1);
        }
        lines
    }

    /// Modules that the file declares, tests too, with their lines.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| (pair[1].line, pair[1].text.as_str()))
    }

    /// Paths without extension of the modules that `#[cfg(test)] mod x;` declares.
    pub(crate) fn test_modules(&self) -> Vec<PathBuf> {
        let path = Path::new(&self.path).with_extension("");
        let is_root = path.file_name().is_some_and(|name| name == "lib" || name == "main");
        let folder = if is_root { path.parent().map(Path::to_owned).unwrap_or_default() } else { path };
        let declared = self.all.windows(3).zip(&self.is_test);
        declared
            .filter(|(three, test)| **test && three[0].text == "mod" && three[2].text == ";")
            .map(|(three, _)| folder.join(&three[1].text))
            .collect()
    }

    pub(crate) fn ignored_tests(&self) -> impl Iterator<Item = usize> {
        find(&self.all, &["#", "[", "ignore"]).map(|index| self.all[index].line)
    }

    pub(crate) fn sleeps(&self) -> impl Iterator<Item = usize> {
        let calls = self.all.windows(2).filter(|pair| pair[0].text == "::" && pair[1].text == "sleep");
        calls.map(|pair| pair[1].line)
    }

    /// Every path outside of tests that starts at the crate or at a library.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let kept: Vec<&Token> =
            self.all.iter().zip(&self.is_test).filter(|(_, test)| !**test).map(|(t, _)| t).collect();
        let mut paths = Vec::new();
        let mut index = 0;
        while index < kept.len() {
            let at = |offset: usize| kept.get(index + offset).map_or("", |token| token.text.as_str());
            if at(0) == "use" && at(1) != "<" {
                index = use_tree(&kept, index + 1, &[], &mut paths);
            } else if is_word(at(0)) && at(1) == "::" {
                index = path(&kept, index, &mut paths);
            } else {
                index += 1;
            }
        }
        paths.into_iter().filter_map(|(line, segments)| self.import(line, &segments)).collect()
    }

    fn import(&self, line: usize, segments: &[String]) -> Option<Import> {
        let mut depth = self.depth();
        let mut rest = segments;
        let mut from_crate = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => depth = 0,
                "super" => depth = depth.checked_sub(1)?,
                "self" => {}
                _ => break,
            }
            from_crate = true;
            rest = after;
        }
        // A path that stays below its own top-level module imports nothing.
        (!from_crate || depth == 0).then_some(())?;
        Some(Import { line, from_crate, first: rest.first()?.clone() })
    }

    /// How many modules deep the file is: 0 for the crate's root, 1 for `src/store.rs`.
    fn depth(&self) -> usize {
        match self.module() {
            "lib" | "main" => 0,
            _ => Path::new(&self.path).iter().count() - 1,
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Places where the tokens `wanted` stand in a row.
fn find<'a>(tokens: &'a [Token], wanted: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
    let rows = tokens.windows(wanted.len()).enumerate();
    rows.filter(|(_, row)| row.iter().map(|token| token.text.as_str()).eq(wanted.iter().copied()))
        .map(|(index, _)| index)
}

/// The end of the item that starts at `index`: its `;` or the brace that closes its body.
fn end_of_item(tokens: &[Token], index: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, token) in tokens[index..].iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                let ends_import = tokens.get(index + offset + 1).is_some_and(|next| next.text == ";");
                if depth == 0 && !ends_import {
                    return index + offset + 1;
                }
            }
            ";" if depth == 0 => return index + offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

type Paths = Vec<(usize, Vec<String>)>;

/// Reads one branch of a `use` tree that starts at `index` below `prefix`; returns where it ends.
fn use_tree(tokens: &[&Token], mut index: usize, prefix: &[String], paths: &mut Paths) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(index).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "{" => {
                index += 1;
                while tokens.get(index).is_some_and(|token| token.text != "}") {
                    index = use_tree(tokens, index, &segments, paths);
                    if tokens.get(index).is_some_and(|token| token.text == ",") {
                        index += 1;
                    }
                }
                return index + 1;
            }
            "," | "}" | ";" => break,
            "::" => {}
            "as" => index += 1,
            text => {
                line = token.line;
                segments.push(text.to_owned());
            }
        }
        index += 1;
    }
    paths.push((line, segments));
    // Always forward, whatever the file holds.
    index
}

/// Reads a path in code that starts at `index`; returns where it ends.
fn path(tokens: &[&Token], mut index: usize, paths: &mut Paths) -> usize {
    let line = tokens[index].line;
    let mut segments = vec![tokens[index].text.clone()];
    while let [sign, next, ..] = &tokens[index + 1..]
        && sign.text == "::"
        && is_word(&next.text)
    {
        segments.push(next.text.clone());
        index += 2;
    }
    paths.push((line, segments));
    index + 1
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(rest) {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            found.push(Token { text: text.to_owned(), line: number + 1 });
            rest = after.trim_start();
        }
    }
    found
}

/// The code with comments and the content of literals blanked; lines stay where they are.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, '"'),
            'r' | 'b' | 'c' if !after_word => raw_text(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            // A blank for a token's sake, and the lines.
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut index) = (0, 0);
    while index < text.len() {
        let here = &text.as_bytes()[index..];
        match here {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
        if depth == 0 {
            return index;
        }
    }
    text.len()
}

/// Length of a literal that starts and ends with `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of `r"…"`, `r#"…"#`, `br"…"`; 0 for anything else (a plain `b"…"` is its letter and then a text).
fn raw_text(text: &str) -> usize {
    let after = text.trim_start_matches(['b', 'c']);
    let Some(after) = after.strip_prefix('r').filter(|_| text.len() - after.len() <= 1) else { return 0 };
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let start = text.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |found| start + found + end.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => quoted(text, '\''),
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}
