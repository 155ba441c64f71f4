//! Comparison of a result with a recorded one.

use super::cases;
use crate::types::{DType, IValue, TensorData};
use aot_runtime::{Tensor, Value};

/// `abs(a - b) <= atol + rtol * abs(b)` for floats; everything else is exact.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
    /// Only shapes and types count.
    pub is_meta: bool,
}

/// The first difference in words, or `None` if the values agree. `name` says where in the result this is.
pub fn difference(found: &Value, expected: &IValue, tolerance: Tolerance, name: &str) -> Option<String> {
    let kind = || Some(format!("{name}: expected {}, found {}", expected.kind(), found.type_name()));
    let all = |found: &[Value], expected: &[IValue]| {
        if found.len() != expected.len() {
            return Some(format!("{name}: expected {} items, found {}", expected.len(), found.len()));
        }
        let mut pairs = found.iter().zip(expected).enumerate();
        pairs.find_map(|(i, (f, e))| difference(f, e, tolerance, &format!("{name}[{i}]")))
    };
    match (found, expected) {
        (Value::None, IValue::None) => None,
        (Value::Bool(x), IValue::Bool(y)) if x == y => None,
        (Value::Int(x), IValue::Int(y)) if x == y => None,
        (Value::Str(x), IValue::Str(y) | IValue::Device(y)) if **x == **y => None,
        (Value::Float(x), IValue::Float(y)) if tolerance.is_meta || is_close(*x, *y, tolerance) => None,
        (Value::Complex(a, b), IValue::Complex(c, d)) if is_close(*a, *c, tolerance) && is_close(*b, *d, tolerance) => {
            None
        }
        (Value::Bool(x), IValue::Bool(y)) => Some(format!("{name}: expected {y}, found {x}")),
        (Value::Int(x), IValue::Int(y)) => Some(format!("{name}: expected {y}, found {x}")),
        (Value::Float(x), IValue::Float(y)) => Some(format!("{name}: expected {y}, found {x}")),
        (Value::Str(x), IValue::Str(y) | IValue::Device(y)) => Some(format!("{name}: expected {y:?}, found {x:?}")),
        (Value::Tensor(x), IValue::Tensor(y)) => tensor_difference(x, y, tolerance, name),
        (Value::List(x), IValue::List(_, y)) => all(x, y),
        (Value::Tuple(x), IValue::Tuple(y)) => all(x, y),
        (_, IValue::Dict(..)) if cases::plain(expected).is_some() => special(found, expected, tolerance, name),
        (Value::Dict(x), IValue::Dict(_, y)) => {
            if x.len() != y.len() {
                return Some(format!("{name}: expected {} entries, found {}", y.len(), x.len()));
            }
            x.iter().zip(y.iter()).find_map(|((k, v), (l, w))| {
                difference(k, l, tolerance, &format!("{name} key"))
                    .or_else(|| difference(v, w, tolerance, &format!("{name} value")))
            })
        }
        _ => kind(),
    }
}

/// A recorded value outside the vocabulary of plain data.
fn special(found: &Value, expected: &IValue, tolerance: Tolerance, name: &str) -> Option<String> {
    let IValue::Dict(_, entries) = expected else { return None };
    let field = |key: &str| entries.iter().find(|(k, _)| matches!(k, IValue::Str(t) if **t == *key)).map(|(_, v)| v);
    match (found, field("values"), cases::plain(expected)) {
        (Value::NamedTuple { fields, .. }, Some(IValue::List(_, values) | IValue::Tuple(values)), _) => {
            let found: Vec<Value> = fields.iter().map(|(_, v)| v.clone()).collect();
            difference(&Value::Tuple(found), &IValue::Tuple(values.clone()), tolerance, name)
        }
        (Value::Tuple(_), Some(IValue::List(_, values) | IValue::Tuple(values)), _) => {
            difference(found, &IValue::Tuple(values.clone()), tolerance, name)
        }
        (Value::Complex(a, b), _, Some(Value::Complex(c, d)))
            if is_close(*a, c, tolerance) && is_close(*b, d, tolerance) =>
        {
            None
        }
        (Value::Int(x), _, Some(Value::Int(y))) if *x == y => None,
        (Value::Str(x), _, Some(Value::Str(y))) if *x == y => None,
        (_, _, Some(plain)) => Some(format!("{name}: expected {plain:?}, found {}", found.type_name())),
        (_, _, None) => Some(format!("{name}: the recorded value cannot be read")),
    }
}

fn is_close(found: f64, expected: f64, tolerance: Tolerance) -> bool {
    #[allow(clippy::float_cmp, reason = "infinities are equal only to themselves")]
    let is_equal = found == expected;
    is_equal
        || found.is_nan() && expected.is_nan()
        || (found - expected).abs() <= tolerance.atol + tolerance.rtol * expected.abs()
}

fn tensor_difference(found: &Tensor, expected: &TensorData, tolerance: Tolerance, name: &str) -> Option<String> {
    let dtype = DType::from_code(i64::from(found.dtype.0));
    if dtype != Some(expected.dtype()) || found.sizes != expected.sizes() {
        let text =
            |dtype: Option<DType>, sizes: &[i64]| format!("{}{sizes:?}", dtype.map_or("unknown", DType::python_name));
        return Some(format!(
            "{name}: expected {}, found {}",
            text(Some(expected.dtype()), expected.sizes()),
            text(dtype, &found.sizes)
        ));
    }
    if tolerance.is_meta {
        return None;
    }
    let (x, y) = (found.to_bytes(), expected.contiguous_bytes());
    let dtype = expected.dtype();
    if dtype.category() < crate::types::Category::Float {
        let size = dtype.size_bytes();
        let wrong = x.chunks(size).zip(y.chunks(size)).position(|(a, b)| a != b)?;
        return Some(format!("{name}: element {wrong} of {:?} differs", expected.sizes()));
    }
    let (x, y) = (floats(dtype, &x), floats(dtype, &y));
    let bad = x.iter().zip(&y).filter(|(a, b)| !is_close(**a, **b, tolerance)).count();
    if bad == 0 {
        return None;
    }
    let first = x.iter().zip(&y).position(|(a, b)| !is_close(*a, *b, tolerance)).expect("one is bad");
    let worst = x.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Some(format!(
        "{name}: {bad} of {} elements differ; the first is element {first}: expected {}, found {}; the largest difference \
         is {worst:e}",
        x.len(),
        y[first],
        x[first]
    ))
}

/// The elements of a floating or complex tensor as doubles.
fn floats(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let f32s = |bytes: &[u8]| {
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_ne_bytes(b.try_into().expect("four bytes")))).collect()
    };
    match dtype {
        DType::F64 | DType::C128 => {
            bytes.chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().expect("eight bytes"))).collect()
        }
        DType::F16 => bytes.chunks_exact(2).map(|b| half(u16::from_ne_bytes([b[0], b[1]]))).collect(),
        DType::BF16 => bytes
            .chunks_exact(2)
            .map(|b| f64::from(f32::from_bits(u32::from(u16::from_ne_bytes([b[0], b[1]])) << 16)))
            .collect(),
        _ => f32s(bytes),
    }
}

/// The value of an IEEE half.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => sign * f64::INFINITY,
        _ => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}
