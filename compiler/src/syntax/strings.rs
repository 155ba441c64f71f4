//! String literals: joined, unescaped, and f-strings cut at their braces.

use super::ast::{Expr, ExprKind, FormatPiece, TextRange};
use super::expr::Built;
use super::layout::{MAX_BRACKET_DEPTH, range as text_range};
use super::literal::{string_parts, unescape};
use super::parse::{Dialect, Parser, Rule};
use crate::diag::Result;
use pest::iterators::Pair;

impl<'i> Parser<'i> {
    /// Adjacent string literals.
    pub(super) fn strings(&mut self, pairs: &[Pair<'i, Rule>]) -> Result<Built> {
        let (mut pieces, mut bytes, mut is_format) = (Vec::new(), Vec::new(), false);
        let (mut range, mut depth) = (None::<TextRange>, 0);
        for pair in pairs {
            let here = self.range(pair);
            range = Some(range.map_or(here, |range| range.to(here)));
            let parts = string_parts(pair.as_str());
            let has = |letter: char| parts.prefix.chars().any(|prefix| prefix.eq_ignore_ascii_case(&letter));
            let is_known = parts.prefix.chars().all(|letter| "rbfuRBFU".contains(letter));
            if !parts.prefix.is_empty() && (self.dialect == Dialect::Own || !is_known) {
                return self.fail(format!("string prefix '{}' is not supported", parts.prefix), here);
            }
            if has('b') {
                return self.node(
                    ExprKind::Unsupported("Unknown Constant expression type: bytes literals aren't supported"),
                    here,
                    0,
                );
            }
            let body_start = here.start as usize + parts.body_start;
            if has('f') {
                is_format = true;
                let first = pieces.len();
                self.format_pieces(parts.body, body_start, has('r'), &mut bytes, &mut pieces, &mut depth)?;
                // What cannot be compiled is blamed on the whole text, where it begins.
                let start = range.map_or(here.start, |range| range.start);
                for piece in &mut pieces[first..] {
                    if let FormatPiece::Value(Expr { kind: ExprKind::Unsupported(_), range }) = piece {
                        *range = TextRange { start, end: start + 1 };
                    }
                }
            } else if has('r') {
                bytes.extend_from_slice(parts.body.as_bytes());
            } else {
                bytes.extend(self.unescaped(parts.body, body_start)?);
            }
        }
        let kind = if is_format {
            if !bytes.is_empty() {
                pieces.push(FormatPiece::Text(bytes.into()));
            }
            ExprKind::Format(pieces)
        } else {
            ExprKind::Str(bytes.into())
        };
        self.node(kind, range.unwrap_or_default(), depth)
    }

    fn unescaped(&self, body: &str, start: usize) -> Result<Vec<u8>> {
        unescape(body, self.dialect).or_else(|error| {
            let range = text_range(start + error.start, start + error.end);
            self.fail(error.message, range)
        })
    }

    /// Cuts the body of an f-string at its braces.
    fn format_pieces(
        &mut self,
        body: &'i str,
        body_start: usize,
        is_raw: bool,
        text: &mut Vec<u8>,
        pieces: &mut Vec<FormatPiece>,
        depth: &mut usize,
    ) -> Result<()> {
        let mut rest = body;
        while !rest.is_empty() {
            let at = body_start + body.len() - rest.len();
            let plain = rest.find(['{', '}']).unwrap_or(rest.len());
            let (before, after) = rest.split_at(plain);
            if is_raw {
                text.extend_from_slice(before.as_bytes());
            } else {
                text.extend(self.unescaped(before, at)?);
            }
            rest = after;
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                text.extend(rest.bytes().next());
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let start = at + plain + 1;
                let Some(end) = format_expr_end(after) else {
                    return self.fail("f-string: expecting '}'", text_range(start - 1, start));
                };
                let (inner, tail) = after.split_at(end);
                let range = text_range(start, start + end);
                let value = if let Some(tail) = tail.strip_prefix('}') {
                    rest = tail;
                    self.sub_expr(inner, start)?
                } else {
                    rest = tail.find('}').and_then(|close| tail.get(close + 1..)).unwrap_or("");
                    let what = if tail.starts_with('!') {
                        "Don't support conversion in JoinedStr"
                    } else {
                        "Don't support formatting in JoinedStr"
                    };
                    self.node(ExprKind::Unsupported(what), range, 0)?
                };
                if !text.is_empty() {
                    pieces.push(FormatPiece::Text(std::mem::take(text).into()));
                }
                *depth = (*depth).max(value.depth);
                pieces.push(FormatPiece::Value(value.expr));
            } else if !rest.is_empty() {
                let start = at + plain;
                return self.fail("f-string: single '}' is not allowed", text_range(start, start + 1));
            }
        }
        Ok(())
    }

    /// An expression inside an f-string. The layout pass has not seen its brackets.
    pub(super) fn sub_expr(&mut self, text: &'i str, start: usize) -> Result<Built> {
        if text.matches(['(', '[', '{']).count() > MAX_BRACKET_DEPTH {
            return self.too_deep(text_range(start, start + text.len()));
        }
        let base = std::mem::replace(&mut self.base, start);
        let parsed = self.pest(Rule::exprs_only, text);
        let built = parsed.and_then(|mut pairs| match pairs.next() {
            Some(pair) => {
                let range = self.range(&pair);
                self.sequence(pair, range)
            }
            None => self.fail("f-string: empty expression not allowed", text_range(start, start)),
        });
        self.base = base;
        built
    }
}

/// Where the expression of an f-string's field ends: at its `}`, `:`, `!` or a trailing `=`.
fn format_expr_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut quote) = (0_usize, None);
    for (at, &byte) in bytes.iter().enumerate() {
        let next = bytes.get(at + 1);
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b'}' | b':') if depth == 0 => return Some(at),
            (None, b'!') if depth == 0 && next != Some(&b'=') => return Some(at),
            (None, b'=') if depth == 0 && next == Some(&b'}') => return Some(at),
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}
