//! Strings: folded where they are known, else objects that routines make.

use crate::diag::Result;
use crate::loops::{Arg, Const, Operand, UnaryOp, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, Value, known, known_int};
use crate::types::DType;
use aot_runtime::routines::text::{print_complex, print_float};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::str", lower: str_of },
    OpDef { name: "aten::format", lower: format },
    OpDef { name: "aten::warn", lower: warn },
    OpDef { name: "aten::percentFormat", lower: percent_format },
    OpDef { name: "aten::add.str", lower: concat },
    OpDef { name: "aten::eq.str", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::ne.str", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::lt.str", lower: |b, a| Ok(Value::bool(a.text(b, 0)? < a.text(b, 1)?)) },
    OpDef { name: "aten::le.str", lower: |b, a| Ok(Value::bool(a.text(b, 0)? <= a.text(b, 1)?)) },
    OpDef { name: "aten::gt.str", lower: |b, a| Ok(Value::bool(a.text(b, 0)? > a.text(b, 1)?)) },
    OpDef { name: "aten::ge.str", lower: |b, a| Ok(Value::bool(a.text(b, 0)? >= a.text(b, 1)?)) },
    OpDef { name: "aten::len.str", lower: |b, a| Ok(Value::int(count(a.text(b, 0)?.len()))) },
    OpDef { name: "aten::__getitem__.str", lower: letter },
    OpDef { name: "prim::StringIndex", lower: letter },
    OpDef { name: "aten::slice.str", lower: slice },
    OpDef { name: "aten::__contains__.str_in", lower: contains },
    OpDef { name: "aten::split.str", lower: split },
    OpDef { name: "aten::join", lower: join },
    OpDef { name: "aten::replace", lower: replace },
    OpDef { name: "aten::find", lower: find },
    OpDef { name: "aten::startswith", lower: |b, a| Ok(Value::bool(a.text(b, 0)?.starts_with(&*a.text(b, 1)?))) },
    OpDef { name: "aten::endswith", lower: |b, a| Ok(Value::bool(a.text(b, 0)?.ends_with(&*a.text(b, 1)?))) },
    OpDef { name: "aten::lower", lower: |b, a| Ok(Value::text(&a.text(b, 0)?.to_ascii_lowercase())) },
    OpDef { name: "aten::upper", lower: |b, a| Ok(Value::text(&a.text(b, 0)?.to_ascii_uppercase())) },
    OpDef { name: "aten::strip", lower: |b, a| strip(b, a, true, true) },
    OpDef { name: "aten::lstrip", lower: |b, a| strip(b, a, true, false) },
    OpDef { name: "aten::rstrip", lower: |b, a| strip(b, a, false, true) },
    OpDef { name: "aten::isdigit", lower: |b, a| all(b, a, |c| c.is_ascii_digit()) },
    OpDef { name: "aten::isalpha", lower: |b, a| all(b, a, |c| c.is_ascii_alphabetic()) },
    OpDef { name: "aten::isalnum", lower: |b, a| all(b, a, |c| c.is_ascii_alphanumeric()) },
    OpDef { name: "aten::isspace", lower: |b, a| all(b, a, |c| c.is_ascii_whitespace()) },
    OpDef { name: "aten::ord", lower: ord },
    OpDef { name: "aten::chr", lower: chr },
    OpDef { name: "aten::hex", lower: |b, a| digits(b, a, 'x') },
    OpDef { name: "aten::oct", lower: |b, a| digits(b, a, 'o') },
    OpDef { name: "aten::bin", lower: |b, a| digits(b, a, 'b') },
];

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The text of a value that is known when compiling, as `str` gives it.
pub fn constant_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::None => "None".to_owned(),
        Value::Int(o) => known(o)?.as_i64().to_string(),
        Value::Float(o) => print_float(known(o)?.as_f64()),
        Value::Bool(o) => if known(o)?.bits != 0 { "True" } else { "False" }.to_owned(),
        Value::Complex(re, im) => print_complex(known(re)?.as_f64(), known(im)?.as_f64()),
        Value::Str(Operand::Str(text)) => text.to_string(),
        Value::Device(name) => name.to_string(),
        _ => return None,
    })
}

/// Parts of a text: constant, or what a routine prints.
enum Part {
    Text(String),
    Value(Arg),
}

/// Appends the parts of a value's text.
fn render(b: &mut Builder<'_>, value: &Value, parts: &mut Vec<Part>) -> Result<()> {
    if let Some(text) = constant_text(value) {
        parts.push(Part::Text(text));
        return Ok(());
    }
    let text = |parts: &mut Vec<Part>, t: &str| parts.push(Part::Text(t.to_owned()));
    match value {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o) => {
            parts.push(Part::Value(Arg::Scalar(o.clone())));
        }
        Value::Complex(re, im) => {
            let args = vec![Arg::Scalar(re.clone()), Arg::Scalar(im.clone())];
            let var = b.call("complex_text", args, &[VarType::Object])[0];
            parts.push(Part::Value(Arg::Scalar(Operand::Var(var))));
        }
        Value::Tensor(t) => {
            let buffer = b.row_major(t);
            parts.push(Part::Value(Arg::Buffer(buffer)));
        }
        Value::Tuple(items, _) => {
            text(parts, "(");
            render_all(b, items, parts)?;
            text(parts, if items.len() == 1 { ",)" } else { ")" });
        }
        Value::Cell(id) => match b.heap.cells[*id].clone() {
            Cell::List(items) => {
                text(parts, "[");
                render_all(b, &items, parts)?;
                text(parts, "]");
            }
            Cell::Dict(entries) => {
                text(parts, "{");
                for (i, (key, item)) in entries.iter().enumerate() {
                    text(parts, if i > 0 { ", " } else { "" });
                    render(b, key, parts)?;
                    text(parts, ": ");
                    render(b, item, parts)?;
                }
                text(parts, "}");
            }
            Cell::RunTimeList(list) => parts.push(Part::Value(Arg::Scalar(Operand::Var(list.var)))),
            Cell::Object(_) | Cell::Future(_) => return Err(b.unsupported("the text of an object")),
        },
        other => return Err(b.unsupported(format!("the text of a {}", other.kind()))),
    }
    Ok(())
}

fn render_all(b: &mut Builder<'_>, items: &[Value], parts: &mut Vec<Part>) -> Result<()> {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            parts.push(Part::Text(", ".to_owned()));
        }
        render(b, item, parts)?;
    }
    Ok(())
}

/// The parts as one string: constant if all are.
fn assemble(b: &mut Builder<'_>, parts: Vec<Part>) -> Value {
    let mut merged: Vec<Part> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Text(so_far)), Part::Text(more)) => so_far.push_str(&more),
            (_, part) => merged.push(part),
        }
    }
    if let [] | [Part::Text(_)] = merged[..] {
        let text = merged.pop().map_or_else(String::new, |p| if let Part::Text(t) = p { t } else { String::new() });
        return Value::text(&text);
    }
    // Every part is an item of the format, so that braces in constant text stay as they are.
    let template = "{}".repeat(merged.len());
    let mut args = vec![Arg::Scalar(Operand::Str(template.into()))];
    args.extend(merged.into_iter().map(|part| match part {
        Part::Text(text) => Arg::Scalar(Operand::Str(text.into())),
        Part::Value(arg) => arg,
    }));
    let var = b.call("str_format", args, &[VarType::Object]);
    Value::Str(Operand::Var(var[0]))
}

fn str_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut parts = Vec::new();
    render(b, args.value(0)?, &mut parts)?;
    Ok(assemble(b, parts))
}

/// `warnings.warn(text)`, as Python shows it: with the file and line.
fn warn(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let place = b.place();
    let line = place.rsplit_once(':').map_or("", |(line, _column)| line);
    let mut parts =
        vec![Part::Text(if line.is_empty() { "UserWarning: ".into() } else { format!("{line}: UserWarning: ") })];
    render(b, args.value(0)?, &mut parts)?;
    if let Value::Str(text) = assemble(b, parts) {
        b.call("warn", vec![Arg::Scalar(text)], &[]);
    }
    Ok(Value::None)
}

/// `"{}".format(..)`: only plain braces, as in TorchScript.
fn format(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let template = args.text(b, 0)?;
    let mut parts = Vec::new();
    let mut pieces = template.split("{}");
    parts.push(Part::Text(pieces.next().unwrap_or_default().to_owned()));
    let mut items = args.values.get(1..).unwrap_or_default().iter();
    for piece in pieces {
        match items.next() {
            Some(item) => render(b, item, &mut parts)?,
            None => return Err(b.user(format!("Too few arguments for format string: {template}"))),
        }
        parts.push(Part::Text(piece.to_owned()));
    }
    Ok(assemble(b, parts))
}

/// `"%d %s" % ..`.
fn percent_format(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let template = args.text(b, 0)?;
    let mut items: Vec<Value> = args.values.get(1..).unwrap_or_default().to_vec();
    if let [Value::Tuple(inner, _)] = &items[..] {
        items = inner.clone();
    }
    let mut items = items.iter();
    let mut parts = Vec::new();
    let mut letters = template.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let kind = letters.next();
        if kind == Some('%') {
            text.push('%');
            continue;
        }
        parts.push(Part::Text(std::mem::take(&mut text)));
        let Some(item) = items.next() else {
            return Err(b.user("Too few arguments for format string"));
        };
        match (kind, item) {
            (Some('s'), item) => render(b, item, &mut parts)?,
            (Some('d' | 'i'), Value::Int(_) | Value::Bool(_)) => render(b, item, &mut parts)?,
            (Some('d' | 'i'), Value::Float(o)) => {
                let whole = b.cast(DType::I64, o.clone());
                render(b, &Value::Int(whole), &mut parts)?;
            }
            (Some('f' | 'F'), Value::Float(o) | Value::Int(o)) if known(o).is_some() => {
                let value = known(o).map_or(0.0, Const::as_f64);
                parts.push(Part::Text(format!("{value:.6}")));
            }
            (Some(form @ ('f' | 'F' | 'e' | 'E' | 'g' | 'G')), Value::Float(o) | Value::Int(o)) => {
                let number = b.cast(DType::F64, o.clone());
                let text = formatted(b, form, number);
                parts.push(Part::Value(Arg::Scalar(text)));
            }
            (Some('c'), Value::Int(o)) => {
                let letter = chr_of(b, o.clone())?;
                render(b, &letter, &mut parts)?;
            }
            (Some('c'), Value::Str(o @ Operand::Str(text))) if text.chars().count() == 1 => {
                parts.push(Part::Value(Arg::Scalar(o.clone())));
            }
            (Some('c'), Value::Str(Operand::Str(_))) => {
                return Err(b.user("%c requires an int or char for string format"));
            }
            (Some(form @ ('d' | 'i' | 'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'c')), other) => {
                let found = other.kind();
                return Err(b.user(format!("%{form} requires a number for string format, but got {found}")));
            }
            (Some(other), _) => {
                return Err(b.user(format!("The specifier %{other} is not supported in TorchScript format strings")));
            }
            (None, _) => return Err(b.user("Incomplete format specifier")),
        }
    }
    if items.next().is_some() {
        return Err(b.user(format!("Too many arguments for format string: {template}")));
    }
    parts.push(Part::Text(text));
    Ok(assemble(b, parts))
}

fn string(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Operand> {
    match args.value(at)? {
        Value::Str(o) => Ok(o.clone()),
        other => Err(b.user(format!("expected a str in {}, found {}", b.op_name, other.kind()))),
    }
}

fn concat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut parts = Vec::new();
    for at in 0..2 {
        let text = Value::Str(string(b, args, at)?);
        render(b, &text, &mut parts)?;
    }
    Ok(assemble(b, parts))
}

/// Whether two strings are equal.
pub fn same(b: &mut Builder<'_>, x: &Operand, y: &Operand) -> Operand {
    if let (Operand::Str(p), Operand::Str(q)) = (x, y) {
        return Operand::Const(Const::bool(p == q));
    }
    let equal = b.call("str_eq", vec![Arg::Scalar(x.clone()), Arg::Scalar(y.clone())], &[VarType::Bool]);
    Operand::Var(equal[0])
}

fn equal(b: &mut Builder<'_>, args: &Args<'_>, negated: bool) -> Result<Value> {
    let (x, y) = (string(b, args, 0)?, string(b, args, 1)?);
    let is = same(b, &x, &y);
    Ok(Value::Bool(if negated { b.unary(UnaryOp::Not, is) } else { is }))
}

fn letter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let text = args.text(b, 0)?;
    let index = args.known_int(b, 1)?;
    let at = if index < 0 { index + count(text.len()) } else { index };
    let found = usize::try_from(at).ok().and_then(|at| text.get(at..=at));
    Ok(if let Some(letter) = found {
        Value::text(letter)
    } else {
        b.check_class(Operand::Const(Const::bool(false)), "IndexError", "string index out of range");
        Value::text("")
    })
}

fn slice(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let text = args.text(b, 0)?;
    let bound = |b: &Builder<'_>, at: usize| -> Result<Option<i64>> {
        if matches!(args.value(at)?, Value::None) { Ok(None) } else { args.known_int(b, at).map(Some) }
    };
    let letters: Vec<char> = text.chars().collect();
    let chosen = super::list::slice_positions(letters.len(), bound(b, 1)?, bound(b, 2)?, args.known_int(b, 3)?);
    let Some(chosen) = chosen else { return Err(b.user("slice step cannot be zero")) };
    Ok(Value::text(&chosen.into_iter().map(|i| letters[i]).collect::<String>()))
}

fn contains(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(args.text(b, 0)?.contains(&*args.text(b, 1)?)))
}

fn split(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let text = args.text(b, 0)?;
    let max = args.known_int(b, 2)?;
    let limit = usize::try_from(max).map_or(usize::MAX, |n| n.saturating_add(1));
    let parts: Vec<Value> = if matches!(args.value(1)?, Value::None) {
        text.split_whitespace().map(Value::text).collect()
    } else {
        text.splitn(limit, &*args.text(b, 1)?).map(Value::text).collect()
    };
    Ok(b.new_list(parts))
}

fn join(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let separator = Value::Str(string(b, args, 0)?);
    let mut parts = Vec::new();
    for (i, item) in b.items(args.value(1)?)?.iter().enumerate() {
        if i > 0 {
            render(b, &separator, &mut parts)?;
        }
        render(b, item, &mut parts)?;
    }
    Ok(assemble(b, parts))
}

fn replace(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (text, old, new) = (args.text(b, 0)?, args.text(b, 1)?, args.text(b, 2)?);
    let max = usize::try_from(args.known_int(b, 3)?).unwrap_or(usize::MAX);
    Ok(Value::text(&text.replacen(&*old, &new, max)))
}

fn find(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (text, part) = (args.text(b, 0)?, args.text(b, 1)?);
    let start = usize::try_from(args.known_int(b, 2)?).unwrap_or(0);
    let found = text.get(start..).and_then(|rest| rest.find(&*part));
    Ok(Value::int(found.map_or(-1, |at| count(at + start))))
}

fn strip(b: &mut Builder<'_>, args: &Args<'_>, left: bool, right: bool) -> Result<Value> {
    let (text, letters) = (args.text(b, 0)?, args.text(b, 1)?);
    let mut rest: &str = &text;
    if left {
        rest = rest.trim_start_matches(|c| letters.contains(c));
    }
    if right {
        rest = rest.trim_end_matches(|c| letters.contains(c));
    }
    Ok(Value::text(rest))
}

fn all(b: &mut Builder<'_>, args: &Args<'_>, is: fn(char) -> bool) -> Result<Value> {
    let text = args.text(b, 0)?;
    Ok(Value::bool(!text.is_empty() && text.chars().all(is)))
}

fn ord(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let text = args.text(b, 0)?;
    match text.as_bytes() {
        [byte] => Ok(Value::int(i64::from(*byte))),
        bytes => Err(b.user(format!("String for ord() must be 1 character, found {}", bytes.len()))),
    }
}

/// An integer with the digits of another base: `-0x3e8`.
fn digits(b: &mut Builder<'_>, args: &Args<'_>, base: char) -> Result<Value> {
    let number = args.int(b, 0)?;
    Ok(Value::Str(formatted(b, base, number)))
}

/// A number in the form that a letter names: `x`, `o`, `b`, or `f`, `e`, `g` of printf and their capitals.
fn formatted(b: &mut Builder<'_>, form: char, number: Operand) -> Operand {
    let form = Operand::Const(Const::int(i64::from(u32::from(form))));
    let var = b.call("number_text", vec![Arg::Scalar(form), Arg::Scalar(number)], &[VarType::Object]);
    Operand::Var(var[0])
}

fn chr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let code = args.int(b, 0)?;
    chr_of(b, code)
}

fn chr_of(b: &mut Builder<'_>, code: Operand) -> Result<Value> {
    let Some(code) = known_int(&code) else {
        let var = b.call("str_chr", vec![Arg::Scalar(code)], &[VarType::Object]);
        return Ok(Value::Str(Operand::Var(var[0])));
    };
    match u8::try_from(code).ok().filter(u8::is_ascii) {
        Some(byte) => Ok(Value::text(&char::from(byte).to_string())),
        None => Err(b.unsupported(format!("chr({code})"))),
    }
}

/// The integer a text says.
pub fn to_int(b: &mut Builder<'_>, text: &Operand) -> Result<Value> {
    if let Operand::Str(text) = text {
        return match text.trim().parse() {
            Ok(value) => Ok(Value::int(value)),
            Err(_) => Err(b.user(format!("invalid literal for int() with base 10: '{text}'"))),
        };
    }
    let var = b.call("str_to_int", vec![Arg::Scalar(text.clone())], &[VarType::Int]);
    Ok(Value::Int(Operand::Var(var[0])))
}

/// The float a text says.
pub fn to_float(b: &mut Builder<'_>, text: &Operand) -> Result<Value> {
    if let Operand::Str(text) = text {
        return match text.trim().parse() {
            Ok(value) => Ok(Value::float(value)),
            Err(_) => Err(b.user(format!("could not convert string to float: '{text}'"))),
        };
    }
    let var = b.call("str_to_float", vec![Arg::Scalar(text.clone())], &[VarType::Float]);
    Ok(Value::Float(Operand::Var(var[0])))
}

#[cfg(test)]
mod tests {
    use super::super::list::slice_positions;

    #[test]
    fn slices_take_what_python_takes() {
        assert_eq!(slice_positions(4, Some(-3), None, 2), Some(vec![1, 3]));
        assert_eq!(slice_positions(3, None, None, -1), Some(vec![2, 1, 0]));
        assert_eq!(slice_positions(3, Some(5), Some(9), 1), Some(vec![]));
        assert_eq!(slice_positions(3, None, None, 0), None);
    }
}
