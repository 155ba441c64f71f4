//! Text of values (`str`, `repr`, formats) and the methods of strings.

use super::{Cell, Frame, Interpreter, Value, value};
use crate::diag::Result;
use crate::syntax::ast::{FormatPiece, TextRange};
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// `str(value)`.
    pub(crate) fn str(&self, value: &Value) -> String {
        match value {
            Value::Str(text) => text.to_string(),
            Value::Device(text) => text.to_string(),
            Value::Enum(class, name, _) => format!("{}.{name}", class.rsplit('.').next().unwrap_or(class)),
            other => self.repr(other, 0),
        }
    }

    /// `repr(value)`.
    pub(crate) fn repr(&self, value: &Value, depth: usize) -> String {
        if depth > 50 {
            return "...".into();
        }
        let list = |items: &[Value]| items.iter().map(|item| self.repr(item, depth + 1)).collect::<Vec<_>>().join(", ");
        match value {
            Value::None => "None".into(),
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            Value::Int(n) => n.to_string(),
            Value::Float(x) => float_text(*x),
            Value::Complex(re, im) => format!("({re}+{im}j)"),
            Value::Str(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
            Value::Str(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")),
            Value::Ellipsis => "Ellipsis".into(),
            Value::Device(text) => format!("device(type='{text}')"),
            Value::Tuple(items) if items.len() == 1 => format!("({},)", list(items)),
            Value::Tuple(items) => format!("({})", list(items)),
            Value::NamedTuple(name, items) => format!("{}({})", name.rsplit('.').next().unwrap_or(name), list(items)),
            Value::Enum(class, name, inner) => {
                format!("<{}.{name}: {}>", class.rsplit('.').next().unwrap_or(class), self.repr(inner, depth + 1))
            }
            Value::Range(start, stop, 1) => format!("range({start}, {stop})"),
            Value::Range(start, stop, step) => format!("range({start}, {stop}, {step})"),
            Value::Path(path) if value::type_name(value, &self.heap) == "type" => {
                format!("<class '{}'>", path.strip_prefix("builtins.").unwrap_or(path))
            }
            Value::Path(path) => path.to_string(),
            Value::Class(name) => format!("<class '{}'>", name.replace("__torch__", "__main__")),
            Value::Function(name) => format!("<function {}>", name.rsplit('.').next().unwrap_or(name)),
            Value::Compiled(name) => format!("<torch.jit.ScriptFunction {}>", name.rsplit('.').next().unwrap_or(name)),
            Value::Module(_) => "<RecursiveScriptModule>".into(),
            Value::Closure(_) | Value::Lambda => "<function>".into(),
            Value::Method(..) => "<bound method>".into(),
            Value::Super(..) => "<super>".into(),
            Value::Unknown(_) => "<unknown>".into(),
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) => format!("[{}]", list(items)),
                Cell::Set(items) if items.is_empty() => "set()".into(),
                Cell::Set(items) => format!("{{{}}}", list(items)),
                Cell::Dict(entries) => {
                    let entry =
                        |(k, v): &(Value, Value)| format!("{}: {}", self.repr(k, depth + 1), self.repr(v, depth + 1));
                    format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
                }
                Cell::Tensor(_) | Cell::Traced(_) | Cell::Elements(_) => "tensor(...)".into(),
                Cell::Instance(instance) => {
                    format!("<{} object>", instance.class.replace("__torch__", "__main__"))
                }
                Cell::Attribute(inner, _) => self.repr(inner, depth + 1),
            },
        }
    }

    /// An f-string.
    pub(crate) fn format(&mut self, frame: &mut Frame, pieces: &[FormatPiece]) -> Result<Value> {
        let mut out = String::new();
        for piece in pieces {
            match piece {
                FormatPiece::Text(text) => out.push_str(&String::from_utf8_lossy(text)),
                FormatPiece::Value(expr) => {
                    let value = self.eval(frame, expr)?;
                    out.push_str(&self.str(&value));
                }
            }
        }
        Ok(Value::str(out))
    }

    /// `text % values`, of `%s`, `%d`, `%r` and `%%`.
    pub(crate) fn percent(&mut self, frame: &Frame, text: &str, values: &Value, range: TextRange) -> Result<Value> {
        let values: Vec<Value> = match values {
            Value::Tuple(items) => items.to_vec(),
            other => vec![other.clone()],
        };
        let (mut out, mut values) = (String::new(), values.into_iter());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let next = chars.next();
            if next == Some('%') {
                out.push('%');
                continue;
            }
            let missing = || frame.error(range, "TypeError: not enough arguments for format string");
            let value = values.next().ok_or_else(missing)?;
            match next {
                Some('s' | 'd' | 'i') => out.push_str(&self.str(&value)),
                Some('r') => out.push_str(&self.repr(&value, 0)),
                _ => return Err(frame.unsupported(range, "this format outside of compiled code")),
            }
        }
        Ok(Value::str(out))
    }

    /// `text.name(args)`.
    pub(crate) fn str_method(
        &mut self,
        frame: &mut Frame,
        text: &Arc<str>,
        name: &str,
        args: &[Value],
        range: TextRange,
    ) -> Result<Value> {
        let texts = |this: &mut Self, parts: Vec<String>| {
            Value::Ref(this.heap.push(Cell::List(parts.into_iter().map(Value::str).collect())))
        };
        Ok(match (name, args) {
            ("lower", []) => Value::str(text.to_lowercase()),
            ("upper", []) => Value::str(text.to_uppercase()),
            ("strip", []) => Value::str(text.trim()),
            ("startswith", [Value::Str(start)]) => Value::Bool(text.starts_with(&**start)),
            ("endswith", [Value::Str(end)]) => Value::Bool(text.ends_with(&**end)),
            ("replace", [Value::Str(from), Value::Str(to)]) => Value::str(text.replace(&**from, to)),
            ("isdigit", []) => Value::Bool(!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())),
            ("split", []) => texts(self, text.split_whitespace().map(str::to_owned).collect()),
            ("split", [Value::Str(by)]) if !by.is_empty() => {
                texts(self, text.split(&**by).map(str::to_owned).collect())
            }
            ("join", [parts]) => {
                let parts = self.items(frame, parts, range)?;
                Value::str(parts.iter().map(|part| self.str(part)).collect::<Vec<_>>().join(text))
            }
            ("format", _) => {
                let (mut out, mut at, mut rest) = (String::new(), 0, &**text);
                while let Some(start) = rest.find('{') {
                    let (before, after) = rest.split_at(start);
                    out.push_str(before);
                    let Some(end) = after.find('}') else { break };
                    let place = &after[1..end];
                    let index = if place.is_empty() { Some(at) } else { place.parse().ok() };
                    let Some(value) = index.and_then(|index: usize| args.get(index)) else {
                        return Err(frame.unsupported(range, "this format outside of compiled code"));
                    };
                    at += 1;
                    out.push_str(&self.str(value));
                    rest = &after[end + 1..];
                }
                out.push_str(rest);
                Value::str(out)
            }
            _ => return Err(frame.unsupported(range, format!("str.{name} outside of compiled code"))),
        })
    }
}

/// A float as Python prints it.
pub(crate) fn float_text(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = x.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}
