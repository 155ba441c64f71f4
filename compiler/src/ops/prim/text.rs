//! The text of values: what `str`, formatting, joining and printing show. Folded where all is known, else made by routines.

use super::container::raise;
use crate::diag::Result;
use crate::loops::{Arg, Const, Operand, UnaryOp, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, RunTimeDict, RunTimeList, Value, known, known_int};
use crate::types::DType;
use aot_runtime::routines::text::{print_complex, print_float};
use aot_runtime::strings;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::str", lower: str_of },
    OpDef { name: "aten::format", lower: format },
    OpDef { name: "aten::warn", lower: warn },
    OpDef { name: "aten::percentFormat", lower: percent_format },
    OpDef { name: "aten::add.str", lower: concat },
    OpDef { name: "aten::eq.str", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::ne.str", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::join", lower: join },
    OpDef { name: "aten::chr", lower: chr },
    OpDef { name: "aten::hex", lower: |b, a| digits(b, a, 'x') },
    OpDef { name: "aten::oct", lower: |b, a| digits(b, a, 'o') },
    OpDef { name: "aten::bin", lower: |b, a| digits(b, a, 'b') },
];

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
            Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }) => {
                parts.push(Part::Value(var_arg(var)));
            }
            Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
                return Err(b.unsupported("the text of an object"));
            }
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
            (Some(form @ ('f' | 'F' | 'e' | 'E')), Value::Float(o) | Value::Int(o)) => {
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
            (Some(form @ ('d' | 'i' | 'f' | 'F' | 'e' | 'E' | 'c')), other) => {
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

fn join(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let separator = string(b, args, 0)?;
    if let Some(list) = args.run_time_list(b, 1) {
        let text = b.call("str_join", vec![Arg::Scalar(separator), var_arg(list.var)], &[VarType::Object]);
        return Ok(Value::Str(Operand::Var(text[0])));
    }
    let separator = Value::Str(separator);
    let mut parts = Vec::new();
    for (i, item) in b.items(args.value(1)?)?.iter().enumerate() {
        if i > 0 {
            render(b, &separator, &mut parts)?;
        }
        render(b, item, &mut parts)?;
    }
    Ok(assemble(b, parts))
}

/// An integer with the digits of another base: `-0x3e8`.
fn digits(b: &mut Builder<'_>, args: &Args<'_>, base: char) -> Result<Value> {
    let number = args.int(b, 0)?;
    Ok(Value::Str(formatted(b, base, number)))
}

/// A number in the form that a letter names: `x`, `o`, `b`, or `f`, `e` of printf and their capitals.
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
    Ok(match strings::chr(code) {
        Ok(bytes) => match str::from_utf8(&bytes) {
            Ok(text) => Value::text(text),
            Err(_) => return Err(b.unsupported(format!("chr({code}): text that is not UTF-8"))),
        },
        Err(error) => raise(b, &error.message),
    })
}

/// The integer a text says.
pub fn to_int(b: &mut Builder<'_>, text: &Operand) -> Result<Value> {
    if let Operand::Str(text) = text {
        return Ok(match strings::to_int(text.as_bytes()) {
            Ok(value) => Value::int(value),
            Err(error) => raise(b, &error.message),
        });
    }
    let var = b.call("str_to_int", vec![Arg::Scalar(text.clone())], &[VarType::Int]);
    Ok(Value::Int(Operand::Var(var[0])))
}

/// The float a text says.
pub fn to_float(b: &mut Builder<'_>, text: &Operand) -> Result<Value> {
    if let Operand::Str(text) = text {
        return Ok(match strings::to_float(text.as_bytes()) {
            Ok(value) => Value::float(value),
            Err(error) => raise(b, &error.message),
        });
    }
    let var = b.call("str_to_float", vec![Arg::Scalar(text.clone())], &[VarType::Float]);
    Ok(Value::Float(Operand::Var(var[0])))
}
