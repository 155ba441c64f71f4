//! Lines of text and a cursor in one of them.

use crate::diag::{Diagnostic, Result};
use crate::index::Id;
use crate::source::{Source, Span};
use crate::types::DType;
use std::sync::Arc;

/// The deepest nesting of blocks, expressions and results.
pub(super) const MAX_DEPTH: usize = 100;

/// A line that is not empty.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) indent: usize,
    start: usize,
    end: usize,
}

/// The lines of a text that hold more than a comment.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut at = 0;
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let body = line.trim_start_matches(' ');
        let indent = line.len() - body.len();
        if !body.trim().is_empty() && !body.starts_with('#') {
            lines.push(Line { indent, start: at + indent, end: at + line.trim_end().len() });
        }
        at += line.len() + 1;
    }
    lines
}

/// A number without its type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Literal {
    Int(i64),
    Float(f64),
}

/// A place in a line. Comments count as the line's end.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    source: &'a Arc<Source>,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a Arc<Source>, line: Line) -> Self {
        Self { source, at: line.start, end: line.end }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.source.text.get(self.at..self.end).unwrap_or("")
    }

    /// An error at the next word.
    pub(super) fn error(&self, message: impl Into<String>) -> Box<Diagnostic> {
        let skipped = self.rest().len() - self.rest().trim_start().len();
        let start = self.at + skipped;
        let rest = self.source.text.get(start..self.end).unwrap_or("");
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let len = if len == 0 { rest.chars().next().map_or(1, char::len_utf8) } else { len };
        Diagnostic::user(message).at(Some(&Span { source: Arc::clone(self.source), start, end: start + len }))
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(self.error(message))
    }

    fn skip(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip();
        self.rest().is_empty() || self.rest().starts_with('#')
    }

    pub(super) fn expect_end(&mut self) -> Result<()> {
        if self.is_at_end() { Ok(()) } else { self.fail("expected the end of the line") }
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    /// Takes this text if it comes next; a word only where it is not the start of a longer one.
    pub(super) fn take(&mut self, token: &str) -> bool {
        self.skip();
        let Some(after) = self.rest().strip_prefix(token) else { return false };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if token.ends_with(is_word) && after.starts_with(is_word) {
            return false;
        }
        self.at += token.len();
        true
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { self.fail(format!("expected '{token}'")) }
    }

    fn run(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        self.skip();
        let rest = self.rest();
        let run = rest.get(..rest.find(|c| !test(c)).unwrap_or(rest.len())).unwrap_or("");
        self.at += run.len();
        run
    }

    /// The word that comes next, perhaps empty, without taking it.
    pub(super) fn peek_word(&self) -> &'a str {
        self.clone().run(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    pub(super) fn word(&mut self) -> Result<&'a str> {
        match self.run(|c| c.is_ascii_alphanumeric() || c == '_') {
            "" => self.fail("expected a word"),
            word => Ok(word),
        }
    }

    /// A plain or quoted name.
    pub(super) fn name(&mut self) -> Result<String> {
        if self.peek() == Some('"') {
            return self.string();
        }
        match self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')) {
            "" => self.fail("expected a name"),
            name => Ok(name.to_owned()),
        }
    }

    /// An id if one of this kind comes next: its prefix and digits.
    pub(super) fn id<I: Id>(&mut self, prefix: &str) -> Option<I> {
        let digits = self.peek_word().strip_prefix(prefix)?;
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten()?;
        self.word().ok()?;
        Some(I::new(number as usize))
    }

    /// A number if a word of this prefix and digits comes next.
    pub(super) fn numbered(&mut self, prefix: &str) -> Option<usize> {
        self.id::<crate::loops::FunctionId>(prefix).map(Id::index)
    }

    pub(super) fn expect_id<I: Id>(&mut self, prefix: &str, what: &str) -> Result<I> {
        self.id(prefix).ok_or_else(|| self.error(format!("expected {what}, like {prefix}0")))
    }

    pub(super) fn usize(&mut self) -> Result<usize> {
        let start = *self;
        self.run(|c| c.is_ascii_digit()).parse().map_err(|_| start.error("expected a number"))
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        let start = *self;
        match self.number()? {
            Literal::Int(n) => Ok(n),
            Literal::Float(_) => start.fail("expected an integer"),
        }
    }

    /// Whether a number comes next.
    pub(super) fn is_at_number(&mut self) -> bool {
        self.skip();
        let rest = self.rest();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        let word = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or("");
        rest.starts_with(|c: char| c.is_ascii_digit()) || word == "inf" || word == "nan"
    }

    pub(super) fn number(&mut self) -> Result<Literal> {
        self.skip();
        let start = *self;
        let is_negative = self.take("-");
        if self.take("inf") {
            return Ok(Literal::Float(if is_negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        if self.take("nan") {
            if !self.take("(0x") {
                return Ok(Literal::Float(f64::NAN));
            }
            let bits = u64::from_str_radix(self.word()?, 16).map_err(|_| start.error("expected the bits of a NaN"))?;
            self.expect(")")?;
            return Ok(Literal::Float(f64::from_bits(bits)));
        }
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = self.rest();
        let after = |at: usize| rest.get(at..).unwrap_or("");
        let mut len = digits(rest);
        if len == 0 {
            return start.fail("expected a number");
        }
        let mut is_float = false;
        // `0..8` is a range.
        if after(len).strip_prefix('.').is_some_and(|fraction| digits(fraction) > 0) {
            len += 1 + digits(after(len + 1));
            is_float = true;
        }
        if let Some(exponent) = after(len).strip_prefix('e') {
            let sign = usize::from(exponent.starts_with(['-', '+']));
            let n = digits(exponent.get(sign..).unwrap_or(""));
            if n > 0 {
                len += 1 + sign + n;
                is_float = true;
            }
        }
        self.at += len;
        let text = start.source.text.get(start.at..self.at).unwrap_or("");
        let literal =
            if is_float { text.parse().map(Literal::Float).ok() } else { text.parse().map(Literal::Int).ok() };
        literal.ok_or_else(|| start.error("the number is too large"))
    }

    pub(super) fn dtype(&mut self) -> Result<DType> {
        let start = *self;
        let word = self.word()?;
        DType::from_graph_name(word).ok_or_else(|| start.error(format!("'{word}' is not an element type")))
    }

    /// Quoted text with its escapes resolved.
    pub(super) fn string(&mut self) -> Result<String> {
        let start = *self;
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, '0')) => out.push('\0'),
                    Some((_, 'u')) => {
                        let hex: String = chars.by_ref().map(|(_, c)| c).take_while(|&c| c != '}').collect();
                        let code = u32::from_str_radix(hex.trim_start_matches('{'), 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or_else(|| start.error("text with a wrong escape"))?);
                    }
                    Some((_, other)) => out.push(other),
                    None => break,
                },
                c => out.push(c),
            }
        }
        start.fail("text without its closing quote")
    }

    /// Items separated by commas, up to and with the closing token.
    pub(super) fn items<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// The place in the user's code that ends a line, if there is one.
    pub(super) fn place(&mut self) -> Result<Arc<str>> {
        if self.take("@") {
            let text = self.rest().trim();
            self.at = self.end;
            return Ok(text.replace("\\n", "\n").replace("\\\\", "\\").into());
        }
        self.expect_end()?;
        Ok("".into())
    }

    /// The text up to a comma or bracket that closes what is around it.
    pub(super) fn balanced(&mut self) -> &'a str {
        let mut depth = 0i32;
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c| {
            let is_end = depth == 0 && matches!(c, ',' | ')' | ']');
            depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
            is_end
        });
        let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or("");
        self.at += text.len();
        text
    }
}
