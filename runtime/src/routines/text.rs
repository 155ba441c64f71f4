//! Strings, printing and the text of values.
#![allow(unsafe_code, reason = "appends to strings that nothing else refers to")]

use super::containers::wrong;
use super::print_tensor::write_tensor;
use super::{Call, raise};
use crate::error::Result;
use crate::log::Level;
use crate::object::{Body, Item};
use crate::strings::{self, Answer, METHODS};
use crate::tensor::{Dtype, Tensor};
use crate::trace::Event;
use std::borrow::Borrow;
use std::fmt::Write as _;
use std::io::Write as _;

/// The text of a float as `print` shows it: 17 significant digits, whole numbers that are 64-bit integers as `1.`.
pub fn print_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x < 0.0 { "-inf".into() } else { "inf".into() };
    }
    #[allow(clippy::float_cmp, reason = "whether it is exactly that integer")]
    if x.abs() < 9_223_372_036_854_775_808.0 && x as i64 as f64 == x {
        return format!("{}.", x as i64);
    }
    let scientific = format!("{x:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        let fixed = format!("{x:.*}", (16 - exponent).max(0) as usize);
        return if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').into() } else { fixed };
    }
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The text of a complex number as `print` shows it: `1.-2.5j`.
pub fn print_complex(re: f64, im: f64) -> String {
    let im = print_float(im);
    format!("{}{}{im}j", print_float(re), if im.starts_with('-') { "" } else { "+" })
}

/// The text of a value as `print`, `str` and `format` show it.
pub(crate) fn print_item(item: &Item) -> String {
    let mut out = String::new();
    write_item(&mut out, item);
    out
}

fn write_item(out: &mut String, item: &Item) {
    match item {
        Item::None => out.push_str("None"),
        Item::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
        Item::Int(i) => {
            let _ = write!(out, "{i}");
        }
        Item::Float(x) => out.push_str(&print_float(*x)),
        Item::Complex(re, im) => out.push_str(&print_complex(*re, *im)),
        Item::Object(object) => match object.body() {
            Body::Str(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
            Body::List(items) => write_items(out, items.iter(), "[", "]"),
            Body::Tuple(items) if items.len() == 1 => write_items(out, items.iter(), "(", ",)"),
            Body::Tuple(items) => write_items(out, items.iter(), "(", ")"),
            Body::NamedTuple(names, items) => {
                out.push_str(names.0.rsplit('.').next().unwrap_or_default());
                out.push('(');
                for (i, (name, item)) in names.1.iter().zip(items).enumerate() {
                    let _ = write!(out, "{}{name}=", if i == 0 { "" } else { ", " });
                    write_item(out, item);
                }
                out.push(')');
            }
            Body::Dict(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    write_item(out, key);
                    out.push_str(": ");
                    write_item(out, value);
                }
                out.push('}');
            }
            Body::Tensor(tensor) => write_tensor(out, tensor),
            Body::Future(_) => out.push_str("Future"),
            Body::Boxed(item) => write_item(out, item),
            Body::Instance(_) => out.push_str("<object>"),
        },
    }
}

fn write_items<T: Borrow<Item>>(out: &mut String, items: impl Iterator<Item = T>, open: &str, close: &str) {
    out.push_str(open);
    for (i, item) in items.enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        write_item(out, item.borrow());
    }
    out.push_str(close);
}

/// Element `i` of a row-major tensor as a number; complex ones give their real part.
pub(super) fn element(tensor: &Tensor, bytes: &[u8], i: usize) -> f64 {
    let size = tensor.item_bytes();
    let at = &bytes[i * size..(i + 1) * size];
    macro_rules! read {
        ($ty:ty) => {
            at[..size_of::<$ty>()].try_into().map_or(0.0, |b| <$ty>::from_ne_bytes(b) as f64)
        };
    }
    match tensor.dtype {
        Dtype::I8 => read!(i8),
        Dtype::I16 => read!(i16),
        Dtype::I32 => read!(i32),
        Dtype::I64 => read!(i64),
        Dtype::F32 | Dtype::C64 => read!(f32),
        Dtype::F64 | Dtype::C128 => read!(f64),
        Dtype::U16 => read!(u16),
        Dtype::U32 => read!(u32),
        Dtype::U64 => read!(u64),
        Dtype::BF16 => f64::from(f32::from_bits((read!(u16) as u32) << 16)),
        Dtype::F16 => f64::from(half(read!(u16) as u16)),
        _ => f64::from(at[0]),
    }
}

/// A 16-bit IEEE number.
fn half(bits: u16) -> f32 {
    let magnitude = match (bits >> 10 & 31, f32::from(bits & 1023)) {
        (0, fraction) => fraction * 2.0_f32.powi(-24),
        (31, 0.0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (exponent, fraction) => (1.0 + fraction / 1024.0) * 2.0_f32.powi(i32::from(exponent) - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// `print(items...)`: to the model's log.
pub(super) fn print(call: &mut Call<'_>) -> Result<()> {
    let texts = (0..call.n_args()).map(|i| Ok(print_item(&call.item(i)?))).collect::<Result<Vec<_>>>()?;
    call.runtime.log.line(Level::Print, &texts.join(" "));
    Ok(())
}

/// `trace_enter(function)`
pub(super) fn trace_enter(call: &mut Call<'_>) -> Result<()> {
    let function = print_item(&call.item(0)?);
    call.runtime.trace.event(Event::Enter(function));
    Ok(())
}

/// `trace_leave()`
pub(super) fn trace_leave(call: &mut Call<'_>) -> Result<()> {
    call.runtime.trace.event(Event::Leave);
    Ok(())
}

/// `trace_statement(statement)`: it begins.
pub(super) fn trace_statement(call: &mut Call<'_>) -> Result<()> {
    let statement = print_item(&call.item(0)?);
    let runtime = &mut *call.runtime;
    runtime.trace.statement(&mut runtime.statement, statement, &runtime.log);
    Ok(())
}

/// `trace_argument(name[, value])`
pub(super) fn trace_argument(call: &mut Call<'_>) -> Result<()> {
    let (name, value) = (print_item(&call.item(0)?), traced(call, 1)?);
    call.runtime.trace.value(name, value.as_ref(), true, &call.runtime.log);
    Ok(())
}

/// `trace_update(depth, name, value)`: a name's value has changed with another one.
pub(super) fn trace_update(call: &mut Call<'_>) -> Result<()> {
    let (depth, name) = (call.int(0)?, print_item(&call.item(1)?));
    let value = traced(call, 2)?.unwrap_or(Item::None);
    call.runtime.trace.update(depth as usize, name, &value);
    Ok(())
}

/// The value that a traced program tells: two operands are a `None`.
fn traced(call: &Call<'_>, at: usize) -> Result<Option<Item>> {
    match call.n_args() - at.min(call.n_args()) {
        0 => Ok(None),
        1 => call.item(at).map(Some),
        _ => Ok(Some(Item::None)),
    }
}

/// `trace_value(statement, name[, value])`: a statement has given a value.
pub(super) fn trace_value(call: &mut Call<'_>) -> Result<()> {
    let value = traced(call, 2)?;
    let (statement, name) = (print_item(&call.item(0)?), print_item(&call.item(1)?));
    let runtime = &mut *call.runtime;
    // Functions that the statement calls have told of theirs meanwhile.
    if runtime.statement != statement {
        runtime.trace.resumed(&mut runtime.statement, statement, &runtime.log);
    }
    runtime.trace.value(name, value.as_ref(), false, &runtime.log);
    Ok(())
}

/// Element type, sizes, and what range the elements have: `float32[2, 3] min 0 max 1 mean 0.5 nan 0`.
pub(crate) fn summary(tensor: &Tensor) -> String {
    let bytes = tensor.to_bytes();
    let (mut least, mut greatest, mut sum, mut n_nan) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0);
    for x in (0..tensor.n_elements()).map(|i| element(tensor, &bytes, i)) {
        if x.is_nan() {
            n_nan += 1;
            continue;
        }
        (least, greatest, sum) = (least.min(x), greatest.max(x), sum + x);
    }
    let n = tensor.n_elements() - n_nan;
    let range = if n == 0 { String::new() } else { format!(" min {least} max {greatest} mean {}", sum / n as f64) };
    format!("{}{range} nan {n_nan}", tensor.describe())
}

/// `warn(text)`
pub(super) fn warn(call: &mut Call<'_>) -> Result<()> {
    let text = print_item(&call.item(0)?);
    call.runtime.log.line(Level::Warning, &text);
    Ok(())
}

/// `complex_text(re, im)`
pub(super) fn complex_text(call: &mut Call<'_>) -> Result<()> {
    let text = print_complex(call.float(0)?, call.float(1)?);
    call.ret_text(text)
}

/// `str(item)`
pub(super) fn str_of(call: &mut Call<'_>) -> Result<()> {
    let mut text = Vec::new();
    append(call, 0, &mut text)?;
    call.ret_text(text)
}

pub(super) fn str_concat(call: &mut Call<'_>) -> Result<()> {
    let text = [call.text(0)?, call.text(1)?].concat();
    call.ret_text(text)
}

/// `str_format(template, items...)`: replaces `{}` one after another.
pub(super) fn str_format(call: &mut Call<'_>) -> Result<()> {
    let mut out = Vec::new();
    format(call, call.text(0)?, 1, &mut out)?;
    call.ret_text(out)
}

/// `raise_format(class, template, items...)`: raises an exception with the text of [`str_format`].
pub(super) fn raise_format(call: &mut Call<'_>) -> Result<()> {
    let mut out = Vec::new();
    format(call, call.text(1)?, 2, &mut out)?;
    raise(&String::from_utf8_lossy(call.text(0)?), String::from_utf8_lossy(&out))
}

/// `str_extend(template, text, items...)`: [`str_format`] that takes over the reference to its first item. If that is a text to
/// which nothing else refers, and the template begins with it, what follows is appended where it lies.
pub(super) fn str_extend(call: &mut Call<'_>) -> Result<()> {
    let Some(text) = call.taken(1)? else { return str_format(call) };
    if text.is_unique()
        && let Some(rest) = call.text(0)?.strip_prefix(b"{}")
        // SAFETY: nobody else refers to it, as no other operand does.
        && let Body::Str(out) = unsafe { text.body_mut() }
    {
        let mut more = Vec::new();
        format(call, rest, 2, &mut more)?;
        out.extend_from_slice(&more);
        return call.ret_item(0, Item::Object(text));
    }
    let result = str_format(call);
    drop(text);
    result
}

/// Appends a template, each `{}` of it being replaced by the next operand from `next` on.
fn format(call: &Call<'_>, template: &[u8], mut next: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut rest = template;
    while let Some(at) = rest.windows(2).position(|two| two == b"{}") {
        out.extend_from_slice(&rest[..at]);
        if next >= call.n_args() {
            let template = String::from_utf8_lossy(call.text(0)?);
            return raise("RuntimeError", format!("Too few arguments for format string: {template}"));
        }
        append(call, next, out)?;
        next += 1;
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Appends the text of an operand.
fn append(call: &Call<'_>, i: usize, out: &mut Vec<u8>) -> Result<()> {
    if let Ok(text) = call.text(i) {
        out.extend_from_slice(text);
        return Ok(());
    }
    match call.item(i)? {
        // Writing to a vector does not fail.
        Item::Int(value) => drop(write!(out, "{value}")),
        item => out.extend_from_slice(print_item(&item).as_bytes()),
    }
    Ok(())
}

/// `str_method(number, nones, text, arguments...)`: the method of strings with this number; `nones` has a bit for each argument,
/// the text being the first, that is `None`.
pub(super) fn str_method(call: &mut Call<'_>) -> Result<()> {
    let (number, nones) = (call.int(0)?, call.int(1)?);
    let method = usize::try_from(number).ok().and_then(|number| METHODS.get(number)).ok_or_else(wrong)?;
    let items: Vec<Item> = (2..call.n_args()).map(|at| call.item(at)).collect::<Result<_>>()?;
    let argument = |(at, item)| match item {
        _ if nones >> at & 1_i64 == 1 => Ok(strings::Arg::None),
        &Item::Int(value) => Ok(strings::Arg::Int(value)),
        &Item::Bool(value) => Ok(strings::Arg::Int(i64::from(value))),
        Item::Object(object) => match object.body() {
            Body::Str(bytes) => Ok(strings::Arg::Text(bytes)),
            _ => Err(wrong()),
        },
        Item::None | Item::Float(_) | Item::Complex(..) => Err(wrong()),
    };
    let args: Vec<strings::Arg<'_>> = (0_i64..).zip(&items).map(argument).collect::<Result<_>>()?;
    let texts =
        |parts: Vec<Vec<u8>>| parts.into_iter().map(|part| Item::from(Body::Str(part.into()))).collect::<Vec<_>>();
    match (method.run)(strings::Args(&args))? {
        Answer::Text(text) => call.ret_text(text),
        Answer::Int(value) => call.ret_int(value),
        Answer::Bool(value) => call.ret_bool(value),
        Answer::List(parts) => call.ret_body(Body::List(texts(parts).into())),
        Answer::Triple(parts) => call.ret_body(Body::Tuple(texts(parts.into()))),
    }
}

/// `str_join(separator, list)`
pub(super) fn str_join(call: &mut Call<'_>) -> Result<()> {
    let separator = call.text(0)?;
    let mut out = Vec::new();
    if let Body::List(items) = call.borrowed(1)?.body() {
        for (i, item) in items.items().iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(separator);
            }
            if let Item::Object(object) = item
                && let Body::Str(text) = object.body()
            {
                out.extend_from_slice(text);
            } else {
                out.extend_from_slice(print_item(item).as_bytes());
            }
        }
    }
    call.ret_text(out)
}

pub(super) fn str_chr(call: &mut Call<'_>) -> Result<()> {
    let text = strings::chr(call.int(0)?)?;
    call.ret_text(text)
}

pub(super) fn str_to_int(call: &mut Call<'_>) -> Result<()> {
    let number = strings::to_int(&call.bytes(0)?)?;
    call.ret_int(number)
}

pub(super) fn str_to_float(call: &mut Call<'_>) -> Result<()> {
    let number = strings::to_float(&call.bytes(0)?)?;
    call.ret_float(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_with_seventeen_digits() {
        let cases = [
            (1.0, "1."),
            (0.1, "0.10000000000000001"),
            (1e-5, "1.0000000000000001e-05"),
            (2.5, "2.5"),
            (-3.0, "-3."),
            (-0.0, "0."),
            (1e18, "1000000000000000000."),
            (1e20, "1e+20"),
            (f64::INFINITY, "inf"),
        ];
        for (x, text) in cases {
            assert_eq!(print_float(x), text);
        }
    }
}
