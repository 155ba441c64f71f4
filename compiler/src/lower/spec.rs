//! The text form of what is known of an argument, as `--input` takes it: `f32[N,3,224,224]`, `int`, `16000`, `"en"`,
//! `(f32[2], int)`, `[i64[4], i64[4]]`, `{"mask": bool[1,8]}`.

use super::signature::{ArgSpec, DimSpec};
use crate::diag::{Diagnostic, Result};
use crate::types::DType;
use std::fmt;

/// Deepest nesting of a text.
const MAX_DEPTH: usize = 32;

impl ArgSpec {
    /// Reads the text form. A bare number, `True`, `False`, a quoted text and `None` stand for exactly this value; `int`,
    /// `float` and `bool` for any of the type.
    ///
    /// ```
    /// use aot::lower::ArgSpec;
    /// let spec = ArgSpec::parse("f32[N, 3]").unwrap();
    /// assert_eq!(spec.to_string(), "float32[N, 3]");
    /// assert!(ArgSpec::parse("f33[1]").is_err());
    /// ```
    ///
    /// # Errors
    /// User errors that say what is expected.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { rest: text.trim(), whole: text };
        let spec = parser.spec(0)?;
        match parser.rest.trim_start() {
            "" => Ok(spec),
            rest => Err(parser.wrong(&format!("'{rest}' is left over"))),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl<'a> Parser<'a> {
    fn wrong(&self, what: &str) -> Box<Diagnostic> {
        Diagnostic::user(format!("'{}' does not describe an argument: {what}", self.whole)).help(
            "write f32[N,3,224,224] for a tensor (a name stands for any extent), int, float, bool, 16000, True, \"text\", None, \
             (A, B) for a tuple, [A, B] for a list, {\"key\": A} for a dict",
        )
    }

    fn take(&mut self, token: char) -> bool {
        let rest = self.rest.trim_start();
        let Some(after) = rest.strip_prefix(token) else { return false };
        self.rest = after;
        true
    }

    /// Letters, digits, `_`, `.`, `+` and `-` from here on.
    fn word(&mut self) -> &'a str {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.+-".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        self.rest = after;
        word
    }

    fn items<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(',') && !self.rest.trim_start().starts_with(close) {
                return Err(self.wrong(&format!("'{close}' or ',' is missing")));
            }
        }
        Ok(items)
    }

    fn spec(&mut self, depth: usize) -> Result<ArgSpec> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("it nests too deeply"));
        }
        if self.take('(') {
            return Ok(ArgSpec::Tuple(self.items(')', |p| p.spec(depth + 1))?));
        }
        if self.take('[') {
            return Ok(ArgSpec::List(self.items(']', |p| p.spec(depth + 1))?));
        }
        if self.take('{') {
            let entries = self.items('}', |p| {
                let key = p.spec(depth + 1)?;
                if !p.take(':') {
                    return Err(p.wrong("':' is missing after a key"));
                }
                Ok((key, p.spec(depth + 1)?))
            });
            return Ok(ArgSpec::Dict(entries?));
        }
        for quote in ['"', '\''] {
            if self.take(quote) {
                let Some((text, after)) = self.rest.split_once(quote) else {
                    return Err(self.wrong("the quote is not closed"));
                };
                self.rest = after;
                return Ok(ArgSpec::Str(text.into()));
            }
        }
        let word = self.word();
        if self.take('[') {
            let Some(dtype) = dtype_named(word) else {
                return Err(self.wrong(&format!("'{word}' is no element type")));
            };
            return Ok(ArgSpec::Tensor(dtype, self.items(']', Self::dim)?));
        }
        Ok(match word {
            "None" => ArgSpec::None,
            "True" | "true" => ArgSpec::Bool(Some(true)),
            "False" | "false" => ArgSpec::Bool(Some(false)),
            "int" => ArgSpec::Int(None),
            "float" => ArgSpec::Float(None),
            "bool" => ArgSpec::Bool(None),
            "complex" => ArgSpec::Complex,
            "" => return Err(self.wrong("it ends early")),
            _ if dtype_named(word).is_some() => {
                return Err(self.wrong(&format!("the shape is missing; a tensor without dimensions is {word}[]")));
            }
            _ => match (word.parse::<i64>(), word.parse::<f64>()) {
                (Ok(n), _) => ArgSpec::Int(Some(n)),
                (Err(_), Ok(x)) => ArgSpec::Float(Some(x)),
                (Err(_), Err(_)) => return Err(self.wrong(&format!("'{word}' is not known"))),
            },
        })
    }

    fn dim(&mut self) -> Result<DimSpec> {
        let word = self.word();
        if let Ok(n) = word.parse::<i64>() {
            return if n >= 0 { Ok(DimSpec::Known(n)) } else { Err(self.wrong("an extent is negative")) };
        }
        let is_name = word.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        if is_name {
            return Ok(DimSpec::Symbol(word.into()));
        }
        Err(self.wrong(&format!("'{word}' is neither an extent nor a name")))
    }
}

/// `f32`, `float32`, `float`; `i64`, `int64`, `long`; ...
fn dtype_named(name: &str) -> Option<DType> {
    let short = [
        ("f16", DType::F16),
        ("bf16", DType::BF16),
        ("f32", DType::F32),
        ("f64", DType::F64),
        ("u8", DType::U8),
        ("i8", DType::I8),
        ("i16", DType::I16),
        ("i32", DType::I32),
        ("i64", DType::I64),
        ("c64", DType::C64),
        ("c128", DType::C128),
    ];
    let short = short.iter().find(|(short, _)| *short == name).map(|(_, dtype)| *dtype);
    short.or_else(|| DType::from_python_name(name))
}

impl fmt::Display for ArgSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Self]| {
            items.iter().enumerate().try_for_each(|(i, item)| write!(f, "{}{item}", if i == 0 { "" } else { ", " }))
        };
        match self {
            Self::None => f.write_str("None"),
            Self::Tensor(dtype, dims) => {
                write!(f, "{}[", dtype.python_name())?;
                for (i, dim) in dims.iter().enumerate() {
                    write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Int(None) => f.write_str("int"),
            Self::Int(Some(n)) => write!(f, "{n}"),
            Self::Float(None) => f.write_str("float"),
            Self::Float(Some(x)) => write!(f, "{x:?}"),
            Self::Bool(None) => f.write_str("bool"),
            Self::Bool(Some(b)) => f.write_str(if *b { "True" } else { "False" }),
            Self::Complex => f.write_str("complex"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Tuple(items) => {
                f.write_str("(")?;
                list(f, items)?;
                f.write_str(")")
            }
            Self::List(items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Self::Dict(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Display for DimSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = ArgSpec::parse(text).map_or_else(|e| e.message, |spec| spec.to_string());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn texts_are_read() {
        check("f32[N,3,224,224]", "float32[N, 3, 224, 224]");
        check("int64[]", "int64[]");
        check("16000", "16000");
        check("-2.5", "-2.5");
        check("(f32[2], [int, bool], 'en')", "(float32[2], [int, bool], \"en\")");
        check("{\"a\": f64[1], 'b': None}", "{\"a\": float64[1], \"b\": None}");
    }

    #[test]
    fn mistakes_are_named() {
        check("f32", "'f32' does not describe an argument: the shape is missing; a tensor without dimensions is f32[]");
        check("f32[2", "'f32[2' does not describe an argument: ']' or ',' is missing");
        check("f32[-1]", "'f32[-1]' does not describe an argument: an extent is negative");
        check("x32[1]", "'x32[1]' does not describe an argument: 'x32' is no element type");
        check("int]", "'int]' does not describe an argument: ']' is left over");
        check("", "'' does not describe an argument: it ends early");
    }
}
