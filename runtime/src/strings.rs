//! The methods of strings as `TorchScript` defines them: on bytes, letters being those of ASCII.
//!
//! Each is a function of plain values, so that the compiler folds with what compiled code calls. Where `PyTorch` differs from
//! Python (an `end` of -1 is the end of the text, a title's letters follow anything that is no letter) it is followed; where it
//! would not end, an empty part is counted as Python does.

use crate::abi::Status;
use crate::error::{Error, Result};

/// An argument of a method.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Arg<'a> {
    Text(&'a [u8]),
    Int(i64),
    None,
}

/// What a method gives.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Answer {
    Text(Vec<u8>),
    Int(i64),
    Bool(bool),
    List(Vec<Vec<u8>>),
    Triple([Vec<u8>; 3]),
}

/// The kind of a method's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Gives {
    Text,
    Int,
    Bool,
    List,
    Triple,
}

/// A method: the text it is called on is its first argument.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name in Python, or that of the operator.
    pub name: &'static str,
    /// What it gives.
    pub gives: Gives,
    /// Computes it.
    pub run: fn(Args<'_>) -> Result<Answer>,
}

/// The arguments of a method.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(pub &'a [Arg<'a>]);

impl<'a> Args<'a> {
    fn text(self, at: usize) -> Result<&'a [u8]> {
        match self.0.get(at) {
            Some(Arg::Text(text)) => Ok(text),
            _ => Err(Error::new(Status::Internal, "a method of strings expected a string")),
        }
    }

    fn int(self, at: usize) -> Result<i64> {
        self.int_or(at, None)?.ok_or_else(|| Error::new(Status::Internal, "a method of strings expected an int"))
    }

    fn int_or(self, at: usize, default: Option<i64>) -> Result<Option<i64>> {
        match self.0.get(at) {
            Some(Arg::Int(value)) => Ok(Some(*value)),
            Some(Arg::None) | None => Ok(default),
            Some(Arg::Text(_)) => Err(Error::new(Status::Internal, "a method of strings expected an int")),
        }
    }

    /// `start` and `end`, arguments 2 and 3, as positions that may lie beyond the text.
    fn bounds(self) -> Result<(usize, usize)> {
        let size = self.text(0)?.len() as i64;
        let (start, end) = (self.int_or(2, Some(0))?.unwrap_or(0), self.int_or(3, Some(-1))?.unwrap_or(-1));
        let start = if start < 0 { start.saturating_add(size).max(0) } else { start };
        let end = if end < 0 { end.saturating_add(size + 1).max(0) } else { end };
        Ok((start as usize, end as usize))
    }

    /// The text from `start` to `end`; all that follows where `end` comes first.
    fn part(self, start: usize, end: usize) -> Result<&'a [u8]> {
        let text = self.text(0)?;
        let rest = text.get(start..).ok_or_else(|| {
            let size = text.len();
            let message = format!("basic_string::substr: __pos (which is {start}) > this->size() (which is {size})");
            Error::raised("RuntimeError", message, "")
        })?;
        Ok(end.checked_sub(start).and_then(|n| rest.get(..n)).unwrap_or(rest))
    }
}

const fn method(name: &'static str, gives: Gives, run: fn(Args<'_>) -> Result<Answer>) -> Method {
    Method { name, gives, run }
}

/// Every method. Compiled code names them by their positions here.
pub static METHODS: &[Method] = &[
    method("upper", Gives::Text, |a| map(a, |c, _| c.to_ascii_uppercase())),
    method("lower", Gives::Text, |a| map(a, |c, _| c.to_ascii_lowercase())),
    method("swapcase", Gives::Text, |a| {
        map(a, |c, _| if c.is_ascii_lowercase() { c - 32 } else { c.to_ascii_lowercase() })
    }),
    method("title", Gives::Text, |a| map(a, |c, before| cased(c, !before.is_some_and(|b| b.is_ascii_alphabetic())))),
    method("capitalize", Gives::Text, |a| map(a, |c, before| cased(c, before.is_none()))),
    method("isdigit", Gives::Bool, |a| all(a, |c| c.is_ascii_digit())),
    method("isdecimal", Gives::Bool, |a| all(a, |c| c.is_ascii_digit())),
    method("isnumeric", Gives::Bool, |a| all(a, |c| c.is_ascii_digit())),
    method("isalpha", Gives::Bool, |a| all(a, |c| c.is_ascii_alphabetic())),
    method("isalnum", Gives::Bool, |a| all(a, |c| c.is_ascii_alphanumeric())),
    method("isspace", Gives::Bool, |a| all(a, is_space)),
    method("isprintable", Gives::Bool, |a| {
        Ok(Answer::Bool(a.text(0)?.iter().all(|c| c.is_ascii_graphic() || *c == b' ')))
    }),
    method("isupper", Gives::Bool, |a| Ok(Answer::Bool(is_all_cased(a.text(0)?, |c| c.is_ascii_lowercase())))),
    method("islower", Gives::Bool, |a| Ok(Answer::Bool(is_all_cased(a.text(0)?, |c| c.is_ascii_uppercase())))),
    method("istitle", Gives::Bool, |a| Ok(Answer::Bool(is_title(a.text(0)?)))),
    method("isidentifier", Gives::Bool, |a| Ok(Answer::Bool(is_identifier(a.text(0)?)))),
    method("strip", Gives::Text, |a| strip(a, true, true)),
    method("lstrip", Gives::Text, |a| strip(a, true, false)),
    method("rstrip", Gives::Text, |a| strip(a, false, true)),
    method("center", Gives::Text, |a| pad(a, |n, width| n / 2 + (n & width & 1))),
    method("ljust", Gives::Text, |a| pad(a, |_, _| 0)),
    method("rjust", Gives::Text, |a| pad(a, |n, _| n)),
    method("zfill", Gives::Text, zero_fill),
    method("expandtabs", Gives::Text, expand_tabs),
    method("replace", Gives::Text, replace),
    method("find", Gives::Int, |a| Ok(Answer::Int(position(a, find)?.unwrap_or(-1)))),
    method("rfind", Gives::Int, |a| Ok(Answer::Int(position(a, find_last)?.unwrap_or(-1)))),
    method("index", Gives::Int, |a| position(a, find)?.map(Answer::Int).ok_or_else(not_found)),
    method("rindex", Gives::Int, |a| position(a, find_last)?.map(Answer::Int).ok_or_else(not_found)),
    method("count", Gives::Int, count),
    method("startswith", Gives::Bool, |a| has_at_end(a, <[u8]>::starts_with)),
    method("endswith", Gives::Bool, |a| has_at_end(a, <[u8]>::ends_with)),
    method("split", Gives::List, split),
    method("rsplit", Gives::List, split_from_right),
    method("splitlines", Gives::List, split_lines),
    method("letters", Gives::List, |a| Ok(Answer::List(a.text(0)?.iter().map(|c| vec![*c]).collect()))),
    method("partition", Gives::Triple, |a| partition(a, find, false)),
    method("rpartition", Gives::Triple, |a| partition(a, find_last, true)),
    method("lt", Gives::Bool, |a| Ok(Answer::Bool(a.text(0)? < a.text(1)?))),
    method("le", Gives::Bool, |a| Ok(Answer::Bool(a.text(0)? <= a.text(1)?))),
    method("gt", Gives::Bool, |a| Ok(Answer::Bool(a.text(0)? > a.text(1)?))),
    method("ge", Gives::Bool, |a| Ok(Answer::Bool(a.text(0)? >= a.text(1)?))),
    method("len", Gives::Int, |a| Ok(Answer::Int(a.text(0)?.len() as i64))),
    method("item", Gives::Text, item),
    method("slice", Gives::Text, slice),
    method("ord", Gives::Int, ord),
];

/// The position in [`METHODS`] of the method with this name.
pub fn method_number(name: &str) -> Option<usize> {
    METHODS.iter().position(|m| m.name == name)
}

/// The letters changed one by one; each change sees the letter before.
fn map(args: Args<'_>, change: fn(u8, Option<u8>) -> u8) -> Result<Answer> {
    let text = args.text(0)?;
    let before = std::iter::once(None).chain(text.iter().copied().map(Some));
    Ok(Answer::Text(text.iter().zip(before).map(|(c, before)| change(*c, before)).collect()))
}

fn cased(letter: u8, is_upper: bool) -> u8 {
    if is_upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
}

/// Whether there are letters, and all are of a kind.
fn all(args: Args<'_>, is: fn(u8) -> bool) -> Result<Answer> {
    let text = args.text(0)?;
    Ok(Answer::Bool(!text.is_empty() && text.iter().all(|c| is(*c))))
}

/// White space as C's `isspace` sees it.
fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t'..=b'\r')
}

fn is_all_cased(text: &[u8], is_wrong: fn(u8) -> bool) -> bool {
    text.iter().any(u8::is_ascii_alphabetic) && !text.iter().any(|c| is_wrong(*c))
}

fn is_title(text: &[u8]) -> bool {
    let (mut found, mut follows_letter) = (false, false);
    for c in text {
        let is_wrong = if follows_letter { c.is_ascii_uppercase() } else { c.is_ascii_lowercase() };
        if is_wrong {
            return false;
        }
        follows_letter = c.is_ascii_alphabetic();
        found |= follows_letter;
    }
    found
}

fn is_identifier(text: &[u8]) -> bool {
    text.first().is_some_and(|c| !c.is_ascii_digit()) && text.iter().all(u8::is_ascii_alphanumeric)
}

fn strip(args: Args<'_>, left: bool, right: bool) -> Result<Answer> {
    let (mut rest, letters) = (args.text(0)?, args.text(1)?);
    while let [first, inner @ ..] = rest
        && left
        && letters.contains(first)
    {
        rest = inner;
    }
    while let [inner @ .., last] = rest
        && right
        && letters.contains(last)
    {
        rest = inner;
    }
    Ok(Answer::Text(rest.to_vec()))
}

/// The text in a field of at least `width`: `left_of` says how much of the filling goes before it.
fn pad(args: Args<'_>, left_of: fn(usize, usize) -> usize) -> Result<Answer> {
    let (text, width, fill) = (args.text(0)?, args.int(1)?, args.text(2)?);
    let &[fill] = fill else {
        return Err(Error::raised(
            "RuntimeError",
            "TypeError: The fill character must be exactly one character long",
            "",
        ));
    };
    let width = usize::try_from(width).unwrap_or(0);
    let n = width.saturating_sub(text.len());
    let left = left_of(n, width);
    let mut padded = vec![fill; left];
    padded.extend_from_slice(text);
    padded.resize(text.len() + n, fill);
    Ok(Answer::Text(padded))
}

/// Zeros before the text, a sign or not.
fn zero_fill(args: Args<'_>) -> Result<Answer> {
    pad(Args(&[args.0[0], Arg::Int(args.int(1)?), Arg::Text(b"0")]), |n, _| n)
}

fn expand_tabs(args: Args<'_>) -> Result<Answer> {
    let (text, size) = (args.text(0)?, args.int(1)?);
    let size = usize::try_from(size).unwrap_or(0);
    let (mut out, mut column) = (Vec::new(), 0);
    for c in text {
        match c {
            b'\t' if size == 0 => {}
            b'\t' => loop {
                out.push(b' ');
                column += 1;
                if column % size == 0 {
                    break;
                }
            },
            c => {
                out.push(*c);
                column = if matches!(c, b'\n' | b'\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(Answer::Text(out))
}

fn replace(args: Args<'_>) -> Result<Answer> {
    let (text, old, new) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let mut left = args.int(3)?;
    let (mut out, mut rest) = (Vec::new(), text);
    while left != 0
        && let Some(at) = find(rest, old)
    {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
        left -= 1;
        if old.is_empty() {
            let Some((first, others)) = rest.split_first() else { return Ok(Answer::Text(out)) };
            out.push(*first);
            rest = others;
        }
    }
    out.extend_from_slice(rest);
    Ok(Answer::Text(out))
}

/// Position of the first occurrence.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|window| window == part) }
}

/// Position of the last occurrence.
fn find_last(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() { Some(text.len()) } else { text.windows(part.len()).rposition(|window| window == part) }
}

/// How a part is looked for.
type Find = fn(&[u8], &[u8]) -> Option<usize>;

/// Where `find` finds the part between the bounds, counted from the start of the text.
fn position(args: Args<'_>, find: Find) -> Result<Option<i64>> {
    let (start, end) = args.bounds()?;
    if end < start {
        return Ok(None);
    }
    Ok(find(args.part(start, end)?, args.text(1)?).map(|at| (start + at) as i64))
}

fn has_at_end(args: Args<'_>, has: fn(&[u8], &[u8]) -> bool) -> Result<Answer> {
    let (start, end) = args.bounds()?;
    Ok(Answer::Bool(has(args.part(start, end)?, args.text(1)?)))
}

fn not_found() -> Error {
    Error::raised("RuntimeError", "ValueError: substring not found", "")
}

/// Occurrences that start between the bounds.
fn count(args: Args<'_>) -> Result<Answer> {
    let (text, part, (mut at, end)) = (args.text(0)?, args.text(1)?, args.bounds()?);
    let mut n = 0;
    while let Some(found) = text.get(at..).and_then(|rest| find(rest, part)).map(|found| at + found)
        && found < end
    {
        n += 1;
        at = found + part.len().max(1);
    }
    Ok(Answer::Int(n))
}

fn separator(args: Args<'_>) -> Result<Option<&[u8]>> {
    match args.0.get(1) {
        Some(Arg::None) | None => Ok(None),
        _ if args.text(1)?.is_empty() => Err(Error::raised("RuntimeError", "ValueError: empty separator", "")),
        _ => args.text(1).map(Some),
    }
}

/// At most `max` cuts, from the left; without separator at all runs of white space.
fn split(args: Args<'_>) -> Result<Answer> {
    let (mut rest, mut left) = (args.text(0)?, args.int(2)?);
    let mut parts = Vec::new();
    let Some(separator) = separator(args)? else {
        rest = skip_space(rest);
        while !rest.is_empty() {
            let end = rest.iter().position(|c| is_space(*c));
            let (part, more) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(part.to_vec());
            rest = skip_space(more);
        }
        return Ok(Answer::List(parts));
    };
    while left != 0
        && let Some(at) = find(rest, separator)
    {
        parts.push(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
        left -= 1;
    }
    parts.push(rest.to_vec());
    Ok(Answer::List(parts))
}

fn skip_space(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|c| is_space(**c)).count();
    &text[n..]
}

fn split_from_right(args: Args<'_>) -> Result<Answer> {
    let (mut rest, mut left) = (args.text(0)?, args.int(2)?);
    let separator = separator(args)?.unwrap_or(b" ");
    let mut parts = Vec::new();
    while left != 0
        && let Some(at) = find_last(rest, separator)
    {
        parts.push(rest[at + separator.len()..].to_vec());
        rest = &rest[..at];
        left -= 1;
    }
    parts.push(rest.to_vec());
    parts.reverse();
    Ok(Answer::List(parts))
}

/// Each of the letters that end lines ends one, also the second of two; those that are kept are items of their own.
fn split_lines(args: Args<'_>) -> Result<Answer> {
    let (text, keeps) = (args.text(0)?, args.int(1)? != 0);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    for c in text {
        if matches!(c, b'\n'..=b'\r' | 0x1c..=0x1e) {
            lines.push(std::mem::take(&mut line));
            lines.extend(keeps.then(|| vec![*c]));
        } else {
            line.push(*c);
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    Ok(Answer::List(lines))
}

fn partition(args: Args<'_>, find: Find, whole_is_last: bool) -> Result<Answer> {
    let (text, separator) = (args.text(0)?, args.text(1)?);
    Ok(Answer::Triple(match find(text, separator) {
        Some(at) => [text[..at].to_vec(), separator.to_vec(), text[at + separator.len()..].to_vec()],
        None if whole_is_last => [Vec::new(), Vec::new(), text.to_vec()],
        None => [text.to_vec(), Vec::new(), Vec::new()],
    }))
}

fn item(args: Args<'_>) -> Result<Answer> {
    let (text, index) = (args.text(0)?, args.int(1)?);
    let at = if index < 0 { index.saturating_add(text.len() as i64) } else { index };
    let letter = usize::try_from(at).ok().and_then(|at| text.get(at));
    let letter = letter.ok_or_else(|| {
        let size = text.len();
        let message = format!("basic_string::at: __n (which is {}) >= this->size() (which is {size})", at as u64);
        Error::raised("RuntimeError", message, "")
    })?;
    Ok(Answer::Text(vec![*letter]))
}

fn slice(args: Args<'_>) -> Result<Answer> {
    let text = args.text(0)?;
    let (start, end, step) = (args.int_or(1, None)?, args.int_or(2, None)?, args.int(3)?);
    let chosen = slice_positions(text.len(), start, end, step);
    let chosen = chosen.ok_or_else(|| Error::raised("RuntimeError", "List slice should have non-zero step", ""))?;
    Ok(Answer::Text(chosen.into_iter().map(|at| text[at]).collect()))
}

/// The positions Python's slice takes of a sequence; `None` for a step of 0.
pub fn slice_positions(len: usize, start: Option<i64>, end: Option<i64>, step: i64) -> Option<Vec<usize>> {
    let n = i64::try_from(len).ok()?;
    // Going backwards the position before the first is a bound too.
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let clamp = |bound: i64| {
        let moved = if bound < 0 { bound.saturating_add(n) } else { bound };
        moved.clamp(low, high)
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, end) = (start.map_or(first, clamp), end.map_or(last, clamp));
    if step == 0 {
        return None;
    }
    let mut positions = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        positions.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(positions)
}

fn ord(args: Args<'_>) -> Result<Answer> {
    match args.text(0)? {
        [byte] => Ok(Answer::Int(i64::from(*byte))),
        text => {
            let message = format!("String for ord() must be 1 character, found {}", text.len());
            Err(Error::raised("RuntimeError", &message, ""))
        }
    }
}

/// The integer that a text says, as C's `stoll` reads it: white space may come before it, nothing after.
pub fn to_int(text: &[u8]) -> Result<i64> {
    let n_space = text.iter().take_while(|c| is_space(**c)).count();
    let n_sign = usize::from(matches!(text.get(n_space), Some(b'+' | b'-')));
    let n_digits = text[n_space + n_sign..].iter().take_while(|c| c.is_ascii_digit()).count();
    let end = n_space + n_sign + n_digits;
    let number = std::str::from_utf8(&text[n_space..end]).ok().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Error::raised("RuntimeError", "stoll", ""))?;
    if end < text.len() {
        let message = format!("invalid literal for int() with base 10: '{}'", String::from_utf8_lossy(text));
        return Err(Error::raised("RuntimeError", message, ""));
    }
    Ok(number)
}

/// The float that a text says: white space may come before it, nothing after.
pub fn to_float(text: &[u8]) -> Result<f64> {
    let rest = skip_space(text);
    if let Some(number) = std::str::from_utf8(rest).ok().and_then(|number| number.parse().ok()) {
        return Ok(number);
    }
    let n_sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
    if rest.get(n_sign).is_some_and(|c| c.is_ascii_digit() || *c == b'.') {
        let message = format!("could not convert string to float: '{}'", String::from_utf8_lossy(text));
        return Err(Error::raised("RuntimeError", message, ""));
    }
    Err(Error::raised("RuntimeError", "stod", ""))
}

/// The byte with a number, as a text; of larger numbers the lowest eight bits.
pub fn chr(code: i64) -> Result<Vec<u8>> {
    if !(0..0x10_ffff).contains(&code) {
        return Err(Error::raised("RuntimeError", format!("chr() arg not in range(0x110000), found {code}"), ""));
    }
    Ok(vec![code as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &[Arg<'_>]) -> Answer {
        (METHODS[method_number(name).unwrap()].run)(Args(args)).unwrap()
    }

    fn text(text: &str) -> Arg<'_> {
        Arg::Text(text.as_bytes())
    }

    fn gives(name: &str, of: &[Arg<'_>], expected: &str) {
        assert_eq!(call(name, of), Answer::Text(expected.into()), "{name}");
    }

    #[test]
    fn an_end_of_minus_one_is_the_end_of_the_text() {
        let find = |start, end| call("find", &[text("abcabc"), text("c"), Arg::Int(start), Arg::Int(end)]);
        assert_eq!((find(3, -1), find(3, -2), find(-4, 6)), (Answer::Int(5), Answer::Int(-1), Answer::Int(2)));
    }

    #[test]
    fn splitting_at_white_space_skips_runs_of_it() {
        let split = |separator, max| call("split", &[text("  a  b c "), separator, Arg::Int(max)]);
        let list = |parts: &[&str]| Answer::List(parts.iter().map(|p| p.as_bytes().to_vec()).collect());
        assert_eq!(split(Arg::None, 1), list(&["a", "b", "c"]));
        assert_eq!(split(text(" "), 1), list(&["", " a  b c "]));
    }

    #[test]
    fn fields_are_filled_on_the_side_that_the_method_names() {
        gives("center", &[text("ab"), Arg::Int(5), text("*")], "**ab*");
        gives("rjust", &[text("ab"), Arg::Int(4), text("-")], "--ab");
        gives("zfill", &[text("-7"), Arg::Int(4)], "00-7");
    }

    #[test]
    fn slices_take_what_python_takes() {
        assert_eq!(slice_positions(4, Some(-3), None, 2), Some(vec![1, 3]));
        assert_eq!(slice_positions(3, None, None, -1), Some(vec![2, 1, 0]));
        assert_eq!(slice_positions(3, Some(5), Some(9), 1), Some(vec![]));
        assert_eq!(slice_positions(3, None, None, 0), None);
    }
}
