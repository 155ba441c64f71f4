//! Numbers and strings: the text of a literal to its value.

use super::ast::ExprKind;
use super::parse::Dialect;

/// A mistake in a literal: what is wrong, and the bytes of the literal's text that it is about.
#[derive(Debug)]
pub(super) struct LiteralError {
    pub(super) message: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Whether a number is one in this dialect: the own lexer knows neither `1_000` nor other bases than sixteen.
pub(super) fn is_number(text: &str, dialect: Dialect) -> bool {
    dialect == Dialect::Python
        || !text.contains('_') && !matches!(text.as_bytes(), [b'0', b'o' | b'O' | b'b' | b'B', ..])
}

/// The value of a number, or `None` for an integer that does not fit. 2^63 itself gives `i64::MIN` and must stand under a minus.
pub(super) fn number(text: &str) -> Option<ExprKind> {
    let text = &text.replace('_', "");
    let radix = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 10,
    };
    if radix != 10 {
        return integer(u64::from_str_radix(text.get(2..)?, radix).ok()?);
    }
    if let Some(text) = text.strip_suffix(['j', 'J']) {
        return text.parse().ok().map(ExprKind::Imaginary);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return integer(text.parse().ok()?);
    }
    text.parse().ok().map(ExprKind::Float)
}

fn integer(magnitude: u64) -> Option<ExprKind> {
    match i64::try_from(magnitude) {
        Ok(value) => Some(ExprKind::Int(value)),
        Err(_) => (magnitude == i64::MIN.unsigned_abs()).then_some(ExprKind::Int(i64::MIN)),
    }
}

/// A string literal taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct StringParts<'a> {
    /// Lower or upper case letters before the quote.
    pub(super) prefix: &'a str,
    /// Between the quotes, escapes unresolved.
    pub(super) body: &'a str,
    /// Offset of `body` in the literal.
    pub(super) body_start: usize,
}

/// Splits a literal that the grammar has accepted.
pub(super) fn string_parts(text: &str) -> StringParts<'_> {
    let quote_at = text.find(['"', '\'']).unwrap_or(0);
    let (prefix, quoted) = text.split_at(quote_at);
    let n_quotes = if quoted.starts_with("\"\"\"") || quoted.starts_with("'''") { 3 } else { 1 };
    let body = quoted.get(n_quotes..quoted.len().saturating_sub(n_quotes)).unwrap_or("");
    StringParts { prefix, body, body_start: quote_at + n_quotes }
}

/// Resolves the escapes of a string's body by the rules of the dialect.
///
/// The own lexer knows the simple escapes and octal ones of exactly three digits; Python also knows hexadecimal and Unicode ones,
/// shorter octal ones, and leaves unknown ones as they are.
pub(super) fn unescape(body: &str, dialect: Dialect) -> Result<Vec<u8>, LiteralError> {
    let bytes = body.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'\\' {
            // Text between escapes is copied in one piece.
            let rest = bytes.get(at..).unwrap_or(&[]);
            let plain = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
            out.extend_from_slice(rest.get(..plain).unwrap_or(&[]));
            at += plain;
            continue;
        }
        let start = at;
        let Some(&letter) = bytes.get(at + 1) else { break };
        at += 2;
        let fail = |message: &str, end: usize| Err(LiteralError { message: message.to_owned(), start, end });
        match letter {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'\\' | b'\'' | b'"' => out.push(letter),
            b'0'..=b'7' => {
                let rest = bytes.get(at - 1..).unwrap_or(&[]);
                let n_digits = rest.iter().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
                if n_digits < 3 && dialect == Dialect::Own {
                    return fail("ill formed octal specifier", at);
                }
                let value = rest.iter().take(n_digits).fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                at += n_digits - 1;
                match (dialect, u8::try_from(value)) {
                    (Dialect::Own, Ok(byte)) => out.push(byte),
                    (Dialect::Own, Err(_)) => return fail("octal specifier is above one byte", at),
                    (Dialect::Python, _) => push_char(&mut out, value),
                }
            }
            b'x' if dialect == Dialect::Own => return fail("unsupported hex specifier", at),
            _ if dialect == Dialect::Own => return fail("ill formed octal specifier", at),
            b'\n' => {}
            b'x' | b'u' | b'U' => {
                let n_digits = match letter {
                    b'x' => 2,
                    b'u' => 4,
                    _ => 8,
                };
                let value = body.get(at..at + n_digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match value {
                    Some(value) if char::from_u32(value).is_some() => push_char(&mut out, value),
                    _ => return fail("truncated or invalid escape", at),
                }
                at += n_digits;
            }
            _ => out.extend([b'\\', letter]),
        }
    }
    Ok(out)
}

/// Appends the UTF-8 form of a character that is known to be one.
fn push_char(out: &mut Vec<u8>, value: u32) {
    let mut buffer = [0; 4];
    out.extend(char::from_u32(value).unwrap_or('\u{fffd}').encode_utf8(&mut buffer).bytes());
}
