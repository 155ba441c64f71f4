//! Cuts a text into logical lines: the first step of parsing.
//!
//! A logical line goes on while a bracket or a triple-quoted string is open or a backslash ends the physical line.
//! Blank lines and comments vanish; `# type:` comments are kept aside. Afterwards every bracket is known to be matched and
//! nested no deeper than [`MAX_BRACKET_DEPTH`], every string to be closed, so the grammar may recurse through brackets.

use super::ast::{TextRange, TypeComment};
use super::parse::Dialect;
use crate::diag::{Diagnostic, Result};
use crate::source::{Source, Span};
use std::sync::Arc;

/// The deepest nesting of brackets. Printed code nests a few; the bound keeps the parser's stack small on hostile input.
pub const MAX_BRACKET_DEPTH: usize = 100;

/// A logical line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// Blanks before the first word; a tab counts as one, like any other.
    pub(super) indent: usize,
    /// The text without indentation and trailing newline.
    pub(super) range: TextRange,
}

/// The logical lines of a text and its `# type:` comments.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Lines in order, blank ones left out.
    pub(super) lines: Vec<Line>,
    /// As in [`super::ast::File::type_comments`].
    pub(super) type_comments: Vec<TypeComment>,
}

/// Cuts the text. The caller has checked that its length fits `u32`.
pub(super) fn layout(source: &Arc<Source>, dialect: Dialect) -> Result<Layout> {
    let mut scanner = Scanner { source, dialect, bytes: source.text.as_bytes(), at: 0, out: Layout::default() };
    while scanner.at < scanner.bytes.len() {
        scanner.line()?;
    }
    Ok(scanner.out)
}

/// A range from offsets into a text whose length fits `u32`.
pub(super) fn range(start: usize, end: usize) -> TextRange {
    let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    TextRange { start: clip(start), end: clip(end) }
}

/// What comments that give types begin with.
const TYPE_COMMENT: &str = "# type:";

/// Where the types begin in a comment that differs from `# type:` in its blanks.
fn nearly_type_comment(comment: &str) -> Option<usize> {
    let word = comment.trim_start_matches('#').trim_start_matches([' ', '\t']);
    let rest = word.strip_prefix("type")?.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    Some(comment.len() - rest.len())
}

/// What the language's own lexer says of the text at `start`, and where: it looks for the token at the end of the one before.
pub(super) fn invalid_token(text: &str, start: usize) -> (String, usize) {
    let before = text.get(..start).unwrap_or("");
    let at = before.trim_end_matches([' ', '\t']).len();
    let found = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or(' ');
    (format!("expected a valid token but found '{found}' here"), at)
}

struct Scanner<'a> {
    source: &'a Arc<Source>,
    dialect: Dialect,
    bytes: &'a [u8],
    at: usize,
    out: Layout,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn starts(&self, text: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text))
    }

    fn fail<T>(&self, message: impl Into<String>, start: usize, end: usize) -> Result<T> {
        let span = Span { source: Arc::clone(self.source), start, end };
        Err(Diagnostic::user(message).at(Some(&span)))
    }

    /// From the start of a physical line to past the newline of the logical one.
    fn line(&mut self) -> Result<()> {
        let line_start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\x0c')) {
            self.at += 1;
        }
        let (start, indent) = (self.at, self.at - line_start);
        let mut end = start;
        let mut open: Vec<(u8, usize)> = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' if open.is_empty() => break,
                b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' => self.at += 1,
                b'#' => self.comment(),
                b'\\' if self.starts(b"\\\n") || self.starts(b"\\\r\n") => {
                    self.at += if self.starts(b"\\\n") { 2 } else { 3 };
                }
                b'"' | b'\'' => {
                    self.string(byte)?;
                    end = self.at;
                }
                _ => {
                    match byte {
                        b'(' | b'[' | b'{' if open.len() == MAX_BRACKET_DEPTH => {
                            let message =
                                format!("expression is nested too deeply: more than {MAX_BRACKET_DEPTH} brackets");
                            return self.fail(message, self.at, self.at + 1);
                        }
                        b'(' | b'[' | b'{' => open.push((byte, self.at)),
                        b')' | b']' | b'}' => match open.pop().map(|(byte, _)| byte) {
                            Some(b'(') if byte == b')' => {}
                            Some(b'[') if byte == b']' => {}
                            Some(b'{') if byte == b'}' => {}
                            Some(other) => {
                                let closer = if other == b'(' {
                                    ')'
                                } else if other == b'[' {
                                    ']'
                                } else {
                                    '}'
                                };
                                let message = format!("expected {closer} but found '{}' here", char::from(byte));
                                return self.fail(message, self.at, self.at + 1);
                            }
                            None => {
                                let message = format!("unmatched '{}'", char::from(byte));
                                return self.fail(message, self.at, self.at + 1);
                            }
                        },
                        _ => {}
                    }
                    self.at += 1;
                    end = self.at;
                }
            }
        }
        if let Some((byte, at)) = open.pop() {
            return self.fail(format!("'{}' was never closed", char::from(byte)), at, at + 1);
        }
        self.at += 1;
        if end > start {
            self.out.lines.push(Line { indent, range: range(start, end) });
        }
        Ok(())
    }

    /// Skips a comment up to its newline.
    fn comment(&mut self) {
        let rest = self.source.text.get(self.at..).unwrap_or("");
        let text = rest.lines().next().unwrap_or("");
        let exact = text.find(TYPE_COMMENT).map(|at| at + TYPE_COMMENT.len());
        if let Some(body_at) = exact.or_else(|| nearly_type_comment(text)) {
            let rest = text.get(body_at..).unwrap_or("");
            let body = rest.trim();
            let start = self.at + body_at + (rest.len() - rest.trim_start().len());
            let range = range(start, start + body.len());
            self.out.type_comments.push(TypeComment { text: body.into(), range, is_exact: exact.is_some() });
        }
        self.at += text.len();
    }

    fn unterminated(&self, start: usize, end: usize) -> Result<()> {
        match self.dialect {
            Dialect::Python => self.fail("unterminated string literal", start, end),
            Dialect::Own => {
                let (message, at) = invalid_token(&self.source.text, start);
                self.fail(message, at, at + 1)
            }
        }
    }

    /// Skips a string literal.
    fn string(&mut self, quote: u8) -> Result<()> {
        let start = self.at;
        let triple = [quote; 3];
        let is_triple = self.starts(&triple);
        self.at += if is_triple { 3 } else { 1 };
        loop {
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(b'\n') | None if !is_triple => return self.unterminated(start, self.at),
                None => return self.unterminated(start, start + 3),
                Some(byte) if byte == quote && !is_triple => break self.at += 1,
                Some(_) if is_triple && self.starts(&triple) => break self.at += 3,
                Some(_) => self.at += 1,
            }
        }
        Ok(())
    }
}
